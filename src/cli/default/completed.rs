//! `--ca` and `--token-file` beside a config: each exporter that sends over a network gets them, unless it has its own.

use crate::config::{Entry, Node, Place, Value};

use super::{Edge, Failure, files, option_file, usage};

/// Exporters that know `tls` and `headers`.
const SENDERS: [&str; 4] = ["otlp", "otlp_grpc", "otlphttp", "otlp_http"];
const AUTHORIZATION: &str = "Authorization";

/// `root` is a config as it was read; an option that no exporter takes is refused.
pub fn complete(root: &mut Node, edge: &Edge, place: files::Place) -> Result<(), Failure> {
    let senders = |root: &'_ mut Node, give: &dyn Fn(&mut Node) -> Option<()>| {
        let Some(Node { value: Value::Map(exporters), .. }) = found(root, "exporters") else { return 0 };
        let is_sender = |entry: &&mut Entry| SENDERS.contains(&entry.key.split('/').next().unwrap_or_default().trim());
        exporters.iter_mut().filter(is_sender).filter_map(|entry| give(&mut entry.node)).count()
    };
    if let Some(file) = &edge.ca {
        option_file("--ca", file, place)?;
        if senders(root, &|exporter| trust(exporter, file)) == 0 {
            return Err(usage(format!("--ca {file}: no exporter takes it: each has its own, or sends in clear")));
        }
    }
    if let Some(file) = &edge.token_file {
        let token = option_file("--token-file", file, place)?;
        let token = format!("Bearer {}", token.trim());
        if senders(root, &|exporter| authorize(exporter, &token)) == 0 {
            return Err(usage(format!("--token-file {file}: no exporter takes it: each has credentials of its own")));
        }
    }
    Ok(())
}

fn trust(exporter: &mut Node, file: &str) -> Option<()> {
    let tls = child(exporter, "tls")?;
    let says = |key: &str| tls.get(key).and_then(Node::as_text).is_some_and(|text| !text.is_empty());
    let is_clear = tls.get("insecure").is_some_and(|insecure| insecure.value == Value::Bool(true));
    if is_clear || says("ca_file") || says("ca_pem") {
        return None;
    }
    *child(tls, "ca_file")? = text(file);
    Some(())
}

fn authorize(exporter: &mut Node, token: &str) -> Option<()> {
    let is_set = |node: Option<&Node>| node.is_some_and(|node| !node.is_empty());
    let names_user = exporter.get("endpoint").and_then(Node::as_text).is_some_and(|endpoint| endpoint.contains('@'));
    if is_set(exporter.get("auth")) || names_user {
        return None;
    }
    let headers = child(exporter, "headers")?;
    if let Value::List(pairs) = &mut headers.value {
        let names = |pair: &Node| pair.get("name").and_then(Node::as_text).is_some_and(is_authorization);
        let entry =
            |key: &str, value: &str| Entry { key: key.to_owned(), key_place: Place::NOWHERE, node: text(value) };
        let pair = Value::Map(vec![entry("name", AUTHORIZATION), entry("value", token)]);
        return (!pairs.iter().any(names)).then(|| pairs.push(Node::new(pair, Place::NOWHERE)));
    }
    if headers.entries().iter().any(|entry| is_authorization(&entry.key)) {
        return None;
    }
    *child(headers, AUTHORIZATION)? = text(token);
    Some(())
}

fn is_authorization(name: &str) -> bool {
    name.eq_ignore_ascii_case(AUTHORIZATION)
}

fn text(text: &str) -> Node {
    Node::new(Value::Text(text.to_owned()), Place::NOWHERE)
}

fn found<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
}

/// What stands under `key`, made if it is not there; none where no map can stand.
fn child<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    if node.is_null() {
        *node = Node::new(Value::Map(Vec::new()), node.place);
    }
    let Value::Map(entries) = &mut node.value else { return None };
    if !entries.iter().any(|entry| entry.key == key) {
        let node = Node::new(Value::Null, Place::NOWHERE);
        entries.push(Entry { key: key.to_owned(), key_place: Place::NOWHERE, node });
    }
    found(node, key)
}
