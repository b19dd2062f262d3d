//! `db_sanitizer`: finds the statements whose literals are masked. SQL is supported; other databases are refused.

use crate::config::section::Section;
use crate::otlp::Signal;
use crate::otlp::message::Message;
use crate::otlp::schema::span;
use crate::otlp::views::AnyValue;

use super::sql::Dialect;

const SYSTEMS: [&[u8]; 5] = [b"other_sql", b"mysql", b"postgresql", b"mariadb", b"sqlite"];
const OTHERS: [&str; 6] = ["redis", "valkey", "memcached", "mongo", "opensearch", "es"];

/// Internal, server, client.
const KINDS: std::ops::RangeInclusive<u64> = 1..=3;

#[derive(Clone, Debug)]
pub(super) struct Statements {
    /// The attributes with statements. Any text in a body may be one.
    keys: Vec<Box<[u8]>>,
    are_names: bool,
    /// Whether attributes that do not name a database may belong to an SQL one.
    are_anywhere: bool,
}

impl Statements {
    pub(super) fn decode(section: &Section) -> Option<Statements> {
        for name in OTHERS {
            let other = section.subsection(name);
            other.ignored(&["attributes"]);
            if other.boolean("enabled", false) {
                let help = "sql is supported; transform can delete what a statement says";
                section.problem_with_help(name, format!("{name} statements are not supported"), help);
            }
        }
        let are_names = section.boolean("sanitize_span_name", true);
        let sql = section.subsection("sql");
        let keys = sql.texts("attributes").unwrap_or_default().into_iter();
        let keys = keys.map(|key| key.into_bytes().into_boxed_slice()).collect();
        sql.boolean("enabled", false).then_some(Statements { keys, are_names, are_anywhere: false })
    }

    pub(super) fn of(self, signal: Signal) -> Statements {
        Statements { are_anywhere: signal == Signal::Logs, ..self }
    }

    /// Whether these attributes belong to an SQL database.
    pub(super) fn are_in(&self, message: &Message, list: u32) -> bool {
        !self.keys.is_empty() && system(message, list).map_or(self.are_anywhere, |system| is_sql(&system))
    }

    pub(super) fn are_under(&self, key: &[u8]) -> bool {
        self.keys.iter().any(|known| **known == *key)
    }

    /// The dialect of a span's name, if it may be a statement.
    pub(super) fn in_name_of(&self, span: &Message) -> Option<Dialect> {
        if !self.are_names || !KINDS.contains(&span.bits(span::KIND)) {
            return None;
        }
        let system = system(span, span::ATTRIBUTES).filter(|system| is_sql(system))?;
        Some(if system == b"mysql" { Dialect::MySql } else { Dialect::Standard })
    }
}

/// The database of these attributes, in lower case.
fn system(message: &Message, list: u32) -> Option<Vec<u8>> {
    ["db.system.name", "db.system"].iter().find_map(|key| match message.attribute(list, key.as_bytes()) {
        Some(AnyValue::String(name @ [_, ..])) => Some(name.to_ascii_lowercase()),
        _ => None,
    })
}

fn is_sql(system: &[u8]) -> bool {
    SYSTEMS.contains(&system)
}
