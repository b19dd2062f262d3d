//! Span names according to the semantic conventions, made from a span's attributes.

use super::{function, optional, required};
use crate::otlp::message::Message;
use crate::otlp::schema::span;
use crate::otlp::views::AnyValue;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value};

pub(super) const TABLE: &[Function] = &[function(
    "set_semconv_span_name",
    &[required("semconv_version", Kind::FixedText), optional("original_span_name_attribute", Kind::FixedText)],
    set_name,
)
.only_in(&["span"])
.evaluated_when_run()
.checked(check)];

/// The range of conventions' versions that agree on the rules below, both ends included.
const VERSIONS: [[u32; 3]; 2] = [[1, 37, 0], [1, 43, 0]];

fn check(arguments: &Arguments) -> Result<(), String> {
    let written = String::from_utf8_lossy(arguments.fixed_text(0).unwrap_or_default());
    let mut version = [0; 3];
    let mut parts = written.trim_start_matches('v').split('.');
    for (index, (number, part)) in version.iter_mut().zip(&mut parts).enumerate() {
        let invalid = |_| format!("failed to parse semconv version {written:?}: part {} is no number", index + 1);
        *number = part.parse().map_err(invalid)?;
    }
    if parts.next().is_some() {
        return Err(format!("failed to parse semconv version {written:?}: it has more than 3 parts"));
    }
    if !(VERSIONS[0]..=VERSIONS[1]).contains(&version) {
        return Err(format!("unsupported semconv version {written:?}: must be between 1.37.0 and 1.43.0"));
    }
    match arguments.fixed_text(1) {
        Some(b"") => Err("original_span_name_attribute cannot be an empty string".into()),
        _ => Ok(()),
    }
}

fn set_name<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let record = &mut scene.sight.record;
    let Some(name) = name(record) else { return Ok(Value::Nil) };
    let original = record.bytes(span::NAME);
    if name == original {
        return Ok(Value::Nil);
    }
    if let Some(key) = arguments.fixed_text(1) {
        let attribute = scene.arena.keep_attribute(span::ATTRIBUTES, key, &Value::String(original))?;
        record.set_attribute(span::ATTRIBUTES, key, attribute);
    }
    record.replace(span::NAME, scene.arena.keep_field(span::NAME, &name)?);
    Ok(Value::Nil)
}

type Text = Option<Vec<u8>>;

/// The name by the first convention that applies to the span.
fn name(record: &Message) -> Text {
    type Convention = fn(&Message) -> Text;
    let conventions: &[Convention] = match record.bits(span::KIND) {
        2 => &[|record| http(record, "http.route"), rpc, messaging],
        3 => &[|record| http(record, "url.template"), rpc, database, messaging],
        4 | 5 => &[messaging],
        _ => &[],
    };
    conventions.iter().find_map(|convention| convention(record).filter(|name| !name.is_empty()))
}

/// The first of these attributes that exists, as text.
fn attribute(record: &Message, names: &[&str]) -> Text {
    let value = names.iter().find_map(|name| record.attribute(span::ATTRIBUTES, name.as_bytes()))?;
    let mut text = Vec::new();
    Value::from_any(value).put_as_string(&mut text);
    Some(text)
}

fn joined(first: Text, sign: &str, second: Text) -> Text {
    match (first, second) {
        (Some(first), Some(second)) => Some([&first, sign.as_bytes(), &second].concat()),
        (first, second) => first.or(second),
    }
}

fn filled(text: Text) -> Text {
    text.filter(|text| !text.is_empty())
}

fn http(record: &Message, target: &str) -> Text {
    let method = attribute(record, &["http.request.method", "http.method"])?;
    joined(Some(method), " ", attribute(record, &[target]))
}

fn rpc(record: &Message) -> Text {
    let system = attribute(record, &["rpc.system.name", "rpc.system"])?;
    let method = attribute(record, &["rpc.method", "rpc.grpc.method"]);
    match attribute(record, &["rpc.service", "rpc.grpc.service"]) {
        Some(service) => joined(Some(service), "/", method.or(Some(b"*".to_vec()))),
        None => method.or(Some(system)),
    }
}

fn database(record: &Message) -> Text {
    let system = attribute(record, &["db.system.name", "db.system"])?;
    attribute(record, &["db.query.summary"]).or_else(|| {
        let operation = filled(attribute(record, &["db.operation.name", "db.operation"]));
        joined(operation, " ", filled(database_target(record))).or(Some(system))
    })
}

fn database_target(record: &Message) -> Text {
    let namespace = filled(attribute(record, &["db.namespace", "db.name"]));
    match attribute(record, &["db.collection.name", "db.stored_procedure.name"]) {
        Some(inner) => joined(namespace, ".", Some(inner)),
        None => namespace.or_else(|| server(record)),
    }
}

fn messaging(record: &Message) -> Text {
    let system = attribute(record, &["messaging.system"])?;
    let operation = attribute(record, &["messaging.operation.name", "messaging.operation"]);
    joined(operation, " ", filled(destination(record))).or(Some(system))
}

fn destination(record: &Message) -> Text {
    let is = |what: &str| {
        let key = format!("messaging.destination.{what}");
        record.attribute(span::ATTRIBUTES, key.as_bytes()) == Some(AnyValue::Bool(true))
    };
    if let Some(what) = ["temporary", "anonymous"].into_iter().find(|what| is(what)) {
        return Some(format!("({what})").into_bytes());
    }
    const NAMES: &[&str] = &["messaging.destination.template", "messaging.destination.name", "messaging.destination"];
    attribute(record, NAMES).or_else(|| server(record))
}

fn server(record: &Message) -> Text {
    let address = attribute(record, &["server.address"])?;
    joined(Some(address), ":", attribute(record, &["server.port"]))
}
