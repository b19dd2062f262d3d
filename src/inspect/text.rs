//! Finds words in the text of items: names, bodies, attributes with their values (`user=17`), severities, statuses,
//! messages and ids, of the item and of its scope and resource.

use bytes::Bytes;

use crate::otlp::hex;
use crate::otlp::message::Message;
use crate::otlp::rewrite::{Depth, Sight, Verdict, Visitor, kept};
use crate::otlp::schema::{self, Kind, METRIC, Names, RESOURCE, SCOPE, is_data, key_value};
use crate::otlp::wire::{Fields, Value};
use crate::ottl::value::{Arena, Fault};
use crate::telemetry::Signal;

/// Maximum words; more are not looked for.
const WORDS: usize = 32;
/// The text of a message that is searched, in bytes.
const SEARCHED: usize = 1 << 20;
/// A checked message is not nested deeper.
const DEPTH: usize = 208;
/// The enums whose names are shown in lines.
const SHOWN: [&str; 3] = ["SEVERITY_NUMBER_", "STATUS_CODE_", "SPAN_KIND_"];

/// Words in small letters, all of which must occur.
pub(crate) struct Words(Vec<String>);

impl Words {
    /// `None` if there is no word.
    pub(super) fn read(text: &str) -> Option<Words> {
        let words: Vec<_> = text.split_whitespace().take(WORDS).map(str::to_lowercase).collect();
        (!words.is_empty()).then_some(Words(words))
    }

    /// The items of a request in which all words occur.
    pub(super) fn keep(&self, signal: Signal, bytes: &Bytes, items: u32) -> Option<(Bytes, u32)> {
        let arena = Arena::with_limit((64 << 10) + 4 * bytes.len());
        let depth = if signal == Signal::Metrics { Depth::Children } else { Depth::Records };
        let mut search = Search { words: &self.0, signal, depth, found: [0; 4], text: String::new() };
        kept(signal, bytes, items, arena.room(), &mut search)
    }
}

struct Search<'w> {
    words: &'w [String],
    signal: Signal,
    depth: Depth,
    /// A bit for each word that was found: in the resource, down to the scope, the record, the data point.
    found: [u32; 4],
    text: String,
}

impl<'a> Visitor<'a> for Search<'_> {
    type Fault = Fault;

    fn depth(&self) -> Depth {
        self.depth
    }

    fn prunes(&self) -> bool {
        true
    }

    fn visit(&mut self, depth: Depth, sight: &mut Sight<'a>) -> Result<Verdict, Fault> {
        let around = (depth as usize).checked_sub(1).and_then(|around| self.found.get(around)).copied().unwrap_or(0);
        let found = around | self.found_in(depth, sight, around);
        if let Some(place) = self.found.get_mut(depth as usize) {
            *place = found;
        }
        let has_all = found.count_ones() as usize == self.words.len();
        Ok(if depth < self.depth || has_all { Verdict::Keep } else { Verdict::Drop })
    }
}

impl Search<'_> {
    /// The words in the message at a depth, without those that were found around it.
    fn found_in(&mut self, depth: Depth, sight: &Sight, around: u32) -> u32 {
        if around.count_ones() as usize == self.words.len() {
            return 0;
        }
        let point = match METRIC.kind(sight.data_number) {
            Some(Kind::One(data)) => data.kind(schema::metric_data::POINTS),
            _ => None,
        };
        let (kind, message): (Option<Kind>, &Message) = match depth {
            Depth::Resources => (Some(Kind::One(&RESOURCE)), &sight.resource),
            Depth::Scopes => (Some(Kind::One(&SCOPE)), &sight.scope),
            Depth::Records => (Some(Kind::One(record(self.signal))), &sight.record),
            Depth::Children | Depth::Exemplars => (point, &sight.child),
        };
        let Some(Kind::One(shape) | Kind::Many(shape)) = kind else { return 0 };
        self.text.clear();
        message.everything().iter().for_each(|piece| put_text(shape, piece, DEPTH, &mut self.text));
        let text = self.text.to_lowercase();
        let found = self.words.iter().enumerate().filter(|(_, word)| text.contains(word.as_str()));
        found.fold(0, |bits, (index, _)| bits | 1 << index)
    }
}

fn record(signal: Signal) -> &'static schema::Message {
    match signal {
        Signal::Logs => &schema::LOG_RECORD,
        Signal::Traces => &schema::SPAN,
        Signal::Metrics => &METRIC,
    }
}

/// Appends the text of a message, a line for each value.
fn put_text(message: &schema::Message, wire: &[u8], depth: usize, out: &mut String) {
    for field in Fields::new(wire) {
        if out.len() > SEARCHED || depth == 0 {
            return;
        }
        let length = out.len();
        match (message.kind(field.number), field.value) {
            // The type of a metric; each data point has its own text.
            (Some(Kind::One(_)), _) if message.place == METRIC.place && is_data(field.number) => {
                let data = message.fields.iter().find(|known| known.number == field.number);
                out.push_str(data.map_or("", |data| data.name));
            }
            (Some(Kind::One(inner) | Kind::Many(inner)), Value::Bytes(bytes)) => {
                put_text(inner, bytes, depth - 1, out);
                continue;
            }
            (Some(Kind::Text | Kind::Texts), Value::Bytes(text)) => out.push_str(&String::from_utf8_lossy(text)),
            (Some(Kind::Id(_)), Value::Bytes(id)) => {
                let mut digits = Vec::new();
                hex::put(id, &mut digits);
                out.push_str(&String::from_utf8_lossy(&digits));
            }
            (Some(Kind::Enum(names)), Value::Varint(number)) => out.push_str(shown(names, number)),
            (Some(Kind::Bool), Value::Varint(value)) => out.push_str(if value == 0 { "false" } else { "true" }),
            (Some(Kind::Int64), Value::Varint(value)) => out.push_str(&(value as i64).to_string()),
            (Some(Kind::Sfixed64), Value::Fixed64(value)) => out.push_str(&(value as i64).to_string()),
            (Some(Kind::Double), Value::Fixed64(bits)) => out.push_str(&f64::from_bits(bits).to_string()),
            _ => {}
        }
        let is_key = message.place == schema::KEY_VALUE.place && field.number == key_value::KEY;
        if out.len() > length {
            out.push(if is_key { '=' } else { '\n' });
        }
    }
}

fn shown(names: &Names, number: u64) -> &'static str {
    let (family, names) = names;
    let name = usize::try_from(number).ok().and_then(|number| names.get(number)).copied();
    name.filter(|_| SHOWN.contains(family)).unwrap_or_default()
}
