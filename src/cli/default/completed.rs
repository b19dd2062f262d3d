//! `--ca` and `--token-file` beside a config: they apply to each network exporter without its own.

use crate::config::{ComponentId, Entry, Loaded, Node, Place, Problems, Value};
use crate::exporters::Target;
use crate::service::plan::Plan;
use crate::telemetry::Signal;

use super::{Credentials, Failure, files, option_file, usage};

const AUTHORIZATION: &str = "Authorization";

/// Writes the options into the loaded config. Fails if no exporter uses an option.
pub(super) fn complete(loaded: &mut Loaded, options: &Credentials, place: files::Place) -> Result<(), Failure> {
    let Credentials { ca, token_file } = options;
    if ca.is_none() && token_file.is_none() || loaded.problems.has_errors() {
        return Ok(());
    }
    ca.as_ref().map(|file| option_file("--ca", file, place)).transpose()?;
    let token = token_file.as_ref().map(|file| option_file("--token-file", file, place)).transpose()?;
    // The settings without the options. The config is read again later, which reports its errors.
    let before = Loaded { root: loaded.root.clone(), sources: Default::default(), problems: Problems::default() };
    let plan = Plan::read(&before);
    if before.problems.has_errors() {
        return Ok(());
    }
    let mut give = |lacks: fn(&Target) -> bool, path: [&str; 2], value: &str| {
        let is_lacking = |entry: &&mut Entry| {
            let id = ComponentId::parse(&entry.key).ok();
            let exporter = id.and_then(|id| plan.exporter(&id).cloned());
            exporter.is_some_and(|exporter| {
                Signal::ALL.iter().any(|signal| exporter.target(*signal).is_some_and(|target| lacks(&target)))
            })
        };
        let Some(Node { value: Value::Map(exporters), .. }) = found(&mut loaded.root, "exporters") else { return 0 };
        exporters.iter_mut().filter(is_lacking).filter_map(|entry| write(&mut entry.node, path, value)).count()
    };
    if let Some(file) = ca
        && give(|target| target.tls.is_some_and(|tls| tls.ca.is_none()), ["tls", "ca_file"], file) == 0
    {
        return Err(usage(format!("--ca {file}: no exporter takes it: each has its own, or sends in clear")));
    }
    if let (Some(file), Some(token)) = (token_file, token)
        && give(|target| !target.is_authorized, ["headers", AUTHORIZATION], &format!("Bearer {}", token.trim())) == 0
    {
        return Err(usage(format!("--token-file {file}: no exporter takes it: each has credentials of its own")));
    }
    Ok(())
}

/// Writes a text below two keys. Headers may be a list of pairs.
fn write(exporter: &mut Node, [section, key]: [&str; 2], value: &str) -> Option<()> {
    let section = child(exporter, section)?;
    if let Value::List(pairs) = &mut section.value {
        let entry =
            |key: &str, value: &str| Entry { key: key.to_owned(), key_place: Place::NOWHERE, node: text(value) };
        pairs.push(Node::new(Value::Map(vec![entry("name", key), entry("value", value)]), Place::NOWHERE));
    } else {
        *child(section, key)? = text(value);
    }
    Some(())
}

fn text(text: &str) -> Node {
    Node::new(Value::Text(text.to_owned()), Place::NOWHERE)
}

fn found<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
}

/// The value of `key`, which is added if it is missing. `None` if `node` is not a map.
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
