//! Log formats of firewalls and web servers: CEF, LEEF, the Common Log Format, and the W3C's Extended Log Format.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{Entries, TEXT, fixed_or, function, gathered, one_of, optional, push, within_bounds};
use crate::otlp::hex;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault, Value, put_item};

pub(super) const TABLE: &[Function] = &[
    function("ParseCEF", &[TEXT], parse_cef).only_in(&["log"]),
    function("ParseCLF", &[TEXT, optional("format", Kind::FixedText)], parse_clf).only_in(&["log"]).checked(
        |arguments| {
            one_of(arguments, 1, &["clf", "combined"], |format| {
                format!("invalid format {format:?}: must be \"clf\" or \"combined\"")
            })
        },
    ),
    function("ParseELF", &[TEXT], parse_elf).only_in(&["log"]),
    function("ParseLEEF", &[TEXT], parse_leef).only_in(&["log"]),
];

fn wrong<T>(why: impl Into<Cow<'static, str>>) -> Result<T, Fault> {
    Err(Fault::new(why))
}

fn text_of<'a>(name: &str, arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<&'a [u8], Fault> {
    match arguments.text(0, scene)? {
        b"" => wrong(format!("cannot parse empty {name} message")),
        text => Ok(text),
    }
}

/// The text after the first `mark`: a syslog header may precede it.
fn after<'t>(mark: &str, text: &'t [u8]) -> Result<&'t [u8], Fault> {
    let found = memchr::memmem::find(text, mark.as_bytes()).and_then(|at| text.get(at + mark.len()..));
    found.ok_or_else(|| Fault::new(format!("invalid {} message: '{mark}' not found", mark.trim_end_matches(':'))))
}

/// Splits at the first `sign`.
fn cut(text: &[u8], sign: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(memchr::memchr(sign, text)?)?;
    Some((before, rest.get(1..)?))
}

/// Decodes escapes, given as pairs of the character after a backslash and its meaning; `x` may precede two hex digits.
/// Other backslashes are kept.
fn unescaped<'a>(text: &'a [u8], escapes: &[(u8, u8)], arena: &'a Arena) -> Result<&'a [u8], Fault> {
    if !text.contains(&b'\\') {
        return Ok(text);
    }
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [byte, after @ ..] = rest {
        let meant = |sign: &u8| escapes.iter().find(|(known, _)| known == sign).map(|(_, meant)| *meant);
        let mut code = Vec::new();
        let (byte, after) = match after {
            [b'x', high, low, after @ ..]
                if *byte == b'\\' && meant(&b'x').is_some() && hex::read(&[*high, *low], 1, &mut code).is_some() =>
            {
                (code.first().copied().unwrap_or_default(), after)
            }
            [sign, rest @ ..] if *byte == b'\\' && *sign != b'x' => {
                meant(sign).map_or((*byte, after), |meant| (meant, rest))
            }
            _ => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    arena.keep(&out)
}

fn parse_cef<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    const NAMES: [&str; 7] = [
        "cef.version",
        "cef.device_vendor",
        "cef.device_product",
        "cef.device_version",
        "cef.device_event_class_id",
        "cef.name",
        "cef.severity",
    ];
    let (mut rest, arena) = (after("CEF:", text_of("CEF", arguments, scene)?)?, scene.arena);
    let (mut out, mut is_open) = (Entries::default(), true);
    for (found, name) in NAMES.into_iter().enumerate() {
        if !is_open {
            const FIELDS: &str =
                "CEF:Version, Device Vendor, Device Product, Device Version, Device Event Class ID, Name, Severity";
            return wrong(format!(
                "invalid CEF header: expected at least 7 pipe-delimited fields ({FIELDS}), got {found}"
            ));
        }
        let end = end_of_header_field(rest);
        let (field, after) = rest.split_at_checked(end).unwrap_or_default();
        (rest, is_open) = (after.get(1..).unwrap_or_default(), !after.is_empty());
        let value = if found == 0 { field } else { unescaped(field, &[(b'|', b'|'), (b'\\', b'\\')], arena)? };
        out.put(name.as_bytes(), Value::String(value))?;
    }
    if out.list.first().is_some_and(|(_, version)| *version == Value::String(b"")) {
        return wrong("invalid CEF message: missing version");
    }
    let extensions = cef_extensions(rest, arena)?;
    out.put(b"cef.extensions", extensions)?;
    out.value(arena)
}

/// The position of the first unescaped pipe, or the end.
fn end_of_header_field(text: &[u8]) -> usize {
    let mut is_escaped = false;
    let is_end = |byte: &u8| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = *byte == b'\\' && !was_escaped;
        *byte == b'|' && !was_escaped
    };
    text.iter().position(is_end).unwrap_or(text.len())
}

/// Pairs separated by spaces. Values may contain spaces too: a value ends where the next key begins.
fn cef_extensions<'a>(text: &'a [u8], arena: &'a Arena) -> Result<Value<'a>, Fault> {
    const ESCAPES: &[(u8, u8)] = &[(b'\\', b'\\'), (b'=', b'='), (b'n', b'\n'), (b'r', b'\r')];
    let mut out = Entries::default();
    let mut put = |pair: Option<(&'a [u8], usize)>, end: usize| {
        let Some((key, start)) = pair else { return Ok(()) };
        let mut value = text.get(start..end).unwrap_or_default();
        while let [before @ .., b' '] = value {
            value = before;
        }
        out.put(key, Value::String(unescaped(value, ESCAPES, arena)?))
    };
    let (mut open, mut at) = (None, 0);
    for word in text.split(|byte| *byte == b' ') {
        let key = cut(word, b'=').map(|(key, _)| key).filter(|key| !key.is_empty());
        if let Some(key) = key.filter(|key| key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')) {
            put(open.replace((key, at + key.len() + 1)), at)?;
        }
        at += word.len() + 1;
    }
    put(open, text.len())?;
    out.value(arena)
}

#[expect(clippy::disallowed_methods, reason = "a constant, and its characters are bytes")]
fn parse_clf<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    static LINE: LazyLock<Regex> = LazyLock::new(|| {
        const QUOTED: &str = r#""((?:[^"\\]|\\.)*)""#;
        let line = format!(r"^(\S+) (\S+) (\S+) \[([^\]]+)\] {QUOTED} (\S+) (\S+)(?: {QUOTED} {QUOTED})?$");
        regex::bytes::RegexBuilder::new(&line).unicode(false).build().expect("a constant")
    });
    const ESCAPES: &[(u8, u8)] = &[
        (b'\\', b'\\'),
        (b'"', b'"'),
        (b'n', b'\n'),
        (b't', b'\t'),
        (b'r', b'\r'),
        (b'b', 8),
        (b'f', 12),
        (b'v', 11),
        (b'x', 0),
    ];
    let (text, arena) = (text_of("CLF", arguments, scene)?, scene.arena);
    let format = fixed_or(arguments, 1, "clf");
    let captures = LINE.captures(text.trim_ascii());
    let captures = captures.filter(|captures| captures.get(8).is_some() == (format == b"combined"));
    let Some(captures) = captures else {
        let format = String::from_utf8_lossy(format);
        return wrong(format!("invalid CLF message: does not match expected {format:?} format"));
    };
    let group = |index| captures.get(index).map_or(&b""[..], |group| group.as_bytes());
    let number = |index, what: &str| match str::from_utf8(group(index)).ok().and_then(|digits| digits.parse().ok()) {
        Some(number) => Ok(Value::Int(number)),
        None => wrong(format!("invalid {what} {:?}", String::from_utf8_lossy(group(index)))),
    };
    let mut out = Entries::default();
    for (index, name) in ["clf.remote_host", "clf.rfc931", "clf.auth_user", "clf.timestamp"].into_iter().enumerate() {
        out.put(name.as_bytes(), Value::String(group(index + 1)))?;
    }
    let request = unescaped(group(5), ESCAPES, arena)?;
    out.put(b"clf.request", Value::String(request))?;
    if let Some((method, (uri, protocol))) = cut(request, b' ').and_then(|(it, rest)| Some((it, cut(rest, b' ')?))) {
        out.put(b"clf.method", Value::String(method))?;
        out.put(b"clf.request_uri", Value::String(uri))?;
        out.put(b"clf.protocol", Value::String(protocol))?;
    }
    out.put(b"clf.status", number(6, "status code")?)?;
    if group(7) != b"-" {
        out.put(b"clf.bytes", number(7, "bytes value")?)?;
    }
    if format == b"combined" {
        out.put(b"clf.referer", Value::String(unescaped(group(8), ESCAPES, arena)?))?;
        out.put(b"clf.user_agent", Value::String(unescaped(group(9), ESCAPES, arena)?))?;
    }
    out.value(arena)
}

fn parse_elf<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    const DIRECTIVES: [(&str, &str); 6] = [
        ("version", "elf.version"),
        ("software", "elf.software"),
        ("date", "elf.date"),
        ("start-date", "elf.start_date"),
        ("end-date", "elf.end_date"),
        ("remark", "elf.remark"),
    ];
    let (text, arena) = (text_of("ELF", arguments, scene)?, scene.arena);
    let (mut out, mut lines) = (Entries::default(), Vec::new());
    let mut fields: Vec<&[u8]> = Vec::new();
    out.put(b"elf.entries", Value::List(b""))?;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii) {
        if let Some(directive) = line.strip_prefix(b"#") {
            let Some((name, value)) = cut(directive, b':').map(|(name, value)| (name.trim_ascii(), value.trim_ascii()))
            else {
                if directive.trim_ascii().get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"fields")) {
                    return wrong("invalid ELF: malformed #Fields directive: it has no colon separator");
                }
                continue;
            };
            if name.eq_ignore_ascii_case(b"fields") {
                fields = gathered(value.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()))?;
            } else if let Some((_, key)) = DIRECTIVES.iter().find(|(it, _)| name.eq_ignore_ascii_case(it.as_bytes())) {
                out.put(key.as_bytes(), Value::String(value))?;
            }
        } else if !line.is_empty() {
            if fields.is_empty() {
                return wrong("invalid ELF: data entry found before #Fields directive");
            }
            let values = elf_values(line)?;
            let mut entry = Entries::default();
            for (index, field) in fields.iter().enumerate() {
                entry.put(field, Value::String(values.get(index).map_or(b"-", |value| &**value)))?;
            }
            put_item(&mut lines, &Value::Map(&entry.encoded()));
            within_bounds(&lines)?;
        }
    }
    if !out.list.iter().any(|(key, _)| *key == b"elf.version") {
        return wrong("invalid ELF: missing #Version directive");
    }
    let fields = super::list(arena, fields.into_iter().map(Value::String))?;
    out.put(b"elf.entries", Value::List(arena.keep(&lines)?))?;
    out.put(b"elf.fields", fields)?;
    out.value(arena)
}

/// The values of a line, some quoted; a doubled quote inside stands for one.
fn elf_values(line: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Fault> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (mut values, mut rest) = (Vec::new(), line);
    while let [first, after @ ..] = rest {
        if is_space(first) {
            rest = after;
        } else if *first == b'"' {
            let mut value = Vec::new();
            rest = after;
            loop {
                let Some((part, after)) = cut(rest, b'"') else {
                    let line = String::from_utf8_lossy(line);
                    return wrong(format!("invalid ELF: unterminated quoted value in data line: {line:?}"));
                };
                value.extend_from_slice(part);
                rest = after;
                let Some(after) = rest.strip_prefix(b"\"") else { break };
                value.push(b'"');
                rest = after;
            }
            push(&mut values, Cow::Owned(value))?;
        } else {
            let end = rest.iter().position(is_space).unwrap_or(rest.len());
            let (value, after) = rest.split_at_checked(end).unwrap_or_default();
            push(&mut values, Cow::Borrowed(value))?;
            rest = after;
        }
    }
    Ok(values)
}

fn parse_leef<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let message = after("LEEF:", text_of("LEEF", arguments, scene)?)?;
    let Some((version, rest)) = cut(message, b'|') else {
        return wrong("invalid LEEF message: missing pipe delimiter in header");
    };
    if !matches!(version, b"1.0" | b"2.0") {
        let version = String::from_utf8_lossy(version);
        return wrong(format!("unsupported LEEF version: {version} (supported: 1.0, 2.0)"));
    }
    let mut out = Entries::default();
    out.put(b"leef.version", Value::String(version))?;
    let mut parts = rest.splitn(5, |byte| *byte == b'|');
    const NAMES: [&str; 4] = ["leef.vendor", "leef.product.name", "leef.product.version", "leef.event.id"];
    for (found, name) in NAMES.into_iter().enumerate() {
        let Some(part) = parts.next() else {
            let version = String::from_utf8_lossy(version);
            let fields = "vendor, product, version, eventID";
            return wrong(format!("invalid LEEF {version} header: expected at least 4 fields ({fields}), got {found}"));
        };
        out.put(name.as_bytes(), Value::String(part))?;
    }
    let (mut attributes, mut delimiter) = (parts.next().unwrap_or_default(), b'\t');
    if version == b"2.0" {
        let (written, rest) = cut(attributes, b'|').unwrap_or((attributes, b""));
        // If the delimiter is omitted, an attribute is in its place.
        if !written.contains(&b'=') {
            (attributes, delimiter) = (rest, leef_delimiter(written)?);
        }
    }
    let mut pairs = Entries::default();
    for (key, value) in attributes.split(|byte| *byte == delimiter).filter_map(|pair| cut(pair, b'=')) {
        if !key.is_empty() {
            pairs.put(key, Value::String(value))?;
        }
    }
    out.put(b"leef.attributes", pairs.value(scene.arena)?)?;
    out.value(scene.arena)
}

fn leef_delimiter(written: &[u8]) -> Result<u8, Fault> {
    let mut bytes = Vec::new();
    match written {
        [] => return Ok(b'\t'),
        [b'0', b'x' | b'X', digits @ ..] if hex::read(digits, 1, &mut bytes).is_none() => bytes.clear(),
        [b'0', b'x' | b'X', ..] => {}
        other => bytes.extend_from_slice(other),
    }
    match *bytes {
        [delimiter] => Ok(delimiter),
        _ => {
            let written = String::from_utf8_lossy(written);
            let needed = "delimiter must be a single character or 0x-prefixed hex value";
            wrong(format!("invalid LEEF 2.0 delimiter: {needed}, got {written:?}"))
        }
    }
}
