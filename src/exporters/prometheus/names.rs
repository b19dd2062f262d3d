//! Names and units as Prometheus writes them: suffixes for units and types, and `_` for characters it does not have.

use crate::otlp::views::metrics::DataType;

/// What becomes of names: `translation_strategy` and `namespace`.
#[derive(Clone, Debug)]
pub(super) struct Namer {
    pub(super) namespace: String,
    pub(super) has_suffixes: bool,
    /// Whether names keep all characters.
    pub(super) is_utf8: bool,
}

/// How a scraper wants names with characters beyond the classic ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Escaping {
    #[default]
    Underscores,
    Dots,
    Values,
    None,
}

const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER_UNITS: &[(&str, &str)] =
    &[("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

impl Namer {
    /// The name of a metric; `None` if nothing valid is left of it.
    pub(super) fn metric(&self, name: &str, unit: &str, data_type: DataType, is_monotonic: bool) -> Option<String> {
        let is_counter = data_type == DataType::Sum && is_monotonic;
        let is_ratio = data_type == DataType::Gauge && unit == "1";
        let made = match (self.is_utf8, self.has_suffixes) {
            (true, _) => return self.whole(name, unit, is_counter, is_ratio),
            (false, true) => self.tokens(name, unit, is_counter, is_ratio),
            (false, false) => self.replaced(name),
        };
        let is_valid = !made.is_empty() && (made == name || made.bytes().any(|byte| byte != b'_'));
        is_valid.then_some(made)
    }

    /// The words of the name, joined by underscores, and the suffixes it does not have yet.
    fn tokens(&self, name: &str, unit: &str, is_counter: bool, is_ratio: bool) -> String {
        let mut tokens: Vec<&str> = name.split(|c| !is_word(c)).filter(|token| !token.is_empty()).collect();
        let (main, per) = unit_suffixes(unit);
        let (main, per) = (cleaned(&main), cleaned(&per));
        let main = if tokens.contains(&main.as_str()) { "" } else { &main };
        let per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
        let per = if tokens.contains(&per) { "" } else { per };
        let main = if per.is_empty() { main } else { main.strip_suffix('_').unwrap_or(main) };
        tokens.extend([main, per].into_iter().filter(|suffix| !suffix.is_empty()));
        for suffix in [is_counter.then_some("total"), is_ratio.then_some("ratio")].into_iter().flatten() {
            tokens.retain(|token| *token != suffix);
            tokens.push(suffix);
        }
        if !self.namespace.is_empty() {
            tokens.insert(0, &self.namespace);
        }
        after_digit(tokens.join("_"))
    }

    /// The name with one underscore for each run of invalid characters.
    fn replaced(&self, name: &str) -> String {
        let replace = |text: &str| {
            let words = text.split(|c| !is_word(c) && c != '_').filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join("_")
        };
        match self.namespace.is_empty() {
            true => after_digit(replace(name)),
            false => format!("{}_{}", replace(&self.namespace), replace(name)),
        }
    }

    /// The name with all its characters.
    fn whole(&self, name: &str, unit: &str, is_counter: bool, is_ratio: bool) -> Option<String> {
        let mut whole = match self.namespace.is_empty() {
            true => name.to_owned(),
            false => format!("{}_{name}", self.namespace),
        };
        if self.has_suffixes {
            let (main, per) = unit_suffixes(unit);
            let ratio = if is_ratio { "ratio" } else { "" };
            let total = if is_counter { "total" } else { "" };
            // Each suffix is moved to the end.
            for suffix in [ratio, total, &per] {
                if !suffix.is_empty() && whole.ends_with(suffix) && whole.len() > suffix.len() + 1 {
                    // With the character before it, which should be a delimiter.
                    whole = whole.get(..whole.len() - suffix.len() - 1)?.to_owned();
                }
            }
            let main = if whole.ends_with(&main) { "" } else { &main };
            for suffix in [main, &per, total, ratio].into_iter().filter(|suffix| !suffix.is_empty()) {
                whole.push('_');
                whole.push_str(suffix);
            }
        }
        (!whole.is_empty()).then_some(whole)
    }

    /// The name of a label; `None` if nothing valid is left of it.
    pub(super) fn label(&self, name: &str) -> Option<String> {
        let reserved = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
        let mut made = match (self.is_utf8, reserved) {
            (true, _) => name.to_owned(),
            (false, Some(inner)) => format!("__{}__", collapsed(inner, false)),
            (false, None) => collapsed(name, false),
        };
        if !self.is_utf8 {
            if made.starts_with(|c: char| c.is_ascii_digit()) {
                made.insert_str(0, "key_");
            } else if made.starts_with('_') && !made.starts_with("__") {
                made.insert_str(0, "key");
            }
        }
        made.bytes().any(|byte| byte != b'_').then_some(made)
    }

    /// The name of the metric that shows the attributes of resources.
    pub(super) fn target_info(&self) -> String {
        match self.label(&self.namespace) {
            Some(namespace) => format!("{namespace}_target_info"),
            None => "target_info".to_owned(),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn after_digit(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The names of a unit and of what it is per, as in `By/s`.
fn unit_suffixes(unit: &str) -> (String, String) {
    let named = |unit: &str, names: &[(&str, &'static str)]| {
        let unit = unit.trim();
        // Annotations in braces are no units.
        let unit = if unit.contains(['{', '}']) { "" } else { unit };
        names.iter().find(|(known, _)| *known == unit).map_or(unit, |(_, name)| name).to_owned()
    };
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let per = named(per, PER_UNITS);
    (named(main, UNITS), if per.is_empty() { per } else { format!("per_{per}") })
}

/// A unit in valid characters, without an underscore at its start.
fn cleaned(unit: &str) -> String {
    let clean = collapsed(unit, true);
    clean.strip_prefix('_').map(str::to_owned).unwrap_or(clean)
}

/// One underscore for each run of other characters than letters and digits.
fn collapsed(text: &str, keeps_colons: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut is_after = false;
    for c in text.chars() {
        let is_kept = c.is_ascii_alphanumeric() || keeps_colons && c == ':';
        if is_kept || !is_after {
            out.push(if is_kept { c } else { '_' });
        }
        is_after = !is_kept;
    }
    out
}

/// Whether a name has only the classic characters, so it needs no quotes.
pub(super) fn is_classic(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().enumerate().all(|(index, byte)| is_classic_at(char::from(*byte), index))
}

fn is_classic_at(c: char, index: usize) -> bool {
    is_word(c) && (index > 0 || !c.is_ascii_digit()) || c == '_'
}

/// Appends a name as the scraper wants it, without quotes.
pub(super) fn put_escaped(out: &mut Vec<u8>, name: &str, escaping: Escaping) {
    if escaping == Escaping::None || is_classic(name.as_bytes()) {
        return out.extend_from_slice(name.as_bytes());
    }
    if escaping == Escaping::Values {
        out.extend_from_slice(b"U__");
    }
    for (index, c) in name.char_indices() {
        match (escaping, c) {
            (Escaping::Dots | Escaping::Values, '_') => out.extend_from_slice(b"__"),
            (Escaping::Dots, '.') => out.extend_from_slice(b"_dot_"),
            (_, c) if is_classic_at(c, index) => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            (Escaping::Dots, _) => out.extend_from_slice(b"__"),
            (Escaping::Values, c) => out.extend_from_slice(format!("_{:x}_", u32::from(c)).as_bytes()),
            _ => out.push(b'_'),
        }
    }
}
