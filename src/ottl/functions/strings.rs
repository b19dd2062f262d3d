//! Text functions: joining, cutting, case, encoding.

use super::checks::count_of_slice;
use super::{TARGET, TEXT, fixed_or, format, function, list, made, one_of, optional, put, required};
use crate::otlp::base64::{self, Engine};
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value, entries, items};

pub(super) const TABLE: &[Function] = &[
    function("Base64Encode", &[TEXT, optional("variant", Kind::Text)], base64_encode),
    function("Concat", &[required("vals", Kind::Spread), required("delimiter", Kind::Text)], concat),
    function("ConvertCase", &[TEXT, required("to_case", Kind::FixedText)], |arguments, scene| {
        let convert = match arguments.fixed_text(1) {
            Some(b"lower") => lower,
            Some(b"upper") => upper,
            Some(b"snake") => snake,
            _ => camel,
        };
        made(scene.arena, &convert(arguments.text(0, scene)?))
    })
    .checked(|arguments| {
        one_of(arguments, 1, &["lower", "upper", "snake", "camel"], |case| {
            format!("invalid case: {case}, allowed cases are: lower, upper, snake, camel")
        })
    }),
    function("Format", &[required("format", Kind::FixedText), required("vals", Kind::Values)], |arguments, scene| {
        let values: Result<Vec<_>, _> = arguments.values(1).iter().map(|value| value.evaluate(scene)).collect();
        made(scene.arena, &format::sprintf(arguments.fixed_text(0).unwrap_or_default(), &values?)?)
    }),
    function("Len", &[TARGET], len),
    function("Split", &[TEXT, required("delimiter", Kind::Text)], split),
    function(
        "Substring",
        &[TEXT, required("start", Kind::Int), required("length", Kind::Int), optional("utf8_safe", Kind::FixedBool)],
        substring,
    ),
    function("ToCamelCase", &[TEXT], |arguments, scene| made(scene.arena, &camel(arguments.text(0, scene)?))),
    function("ToLowerCase", &[TEXT], |arguments, scene| made(scene.arena, &lower(arguments.text(0, scene)?))),
    function("ToSnakeCase", &[TEXT], |arguments, scene| made(scene.arena, &snake(arguments.text(0, scene)?))),
    function("ToUpperCase", &[TEXT], |arguments, scene| made(scene.arena, &upper(arguments.text(0, scene)?))),
    function("Trim", &[TEXT, optional("replacement", Kind::FixedText)], |arguments, scene| {
        Ok(Value::String(trim(arguments.text(0, scene)?, fixed_or(arguments, 1, " "))))
    }),
    function("TrimPrefix", &[TEXT, required("prefix", Kind::Text)], |arguments, scene| {
        let (text, prefix) = (arguments.text(0, scene)?, arguments.text(1, scene)?);
        Ok(Value::String(text.strip_prefix(prefix).unwrap_or(text)))
    }),
    function("TrimSuffix", &[TEXT, required("suffix", Kind::Text)], |arguments, scene| {
        let (text, suffix) = (arguments.text(0, scene)?, arguments.text(1, scene)?);
        Ok(Value::String(text.strip_suffix(suffix).unwrap_or(text)))
    }),
];

fn concat<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let delimiter = arguments.text(1, scene)?;
    let mut out = Vec::new();
    let mut put_next = |text: &dyn Fn(&mut Vec<u8>) -> Result<(), Fault>, index: usize| {
        put(&mut out, if index > 0 { delimiter } else { b"" })?;
        text(&mut out)?;
        put(&mut out, b"")
    };
    match arguments.value(0, scene)? {
        Value::List(list) => {
            for (index, item) in items(list).enumerate() {
                put_next(
                    &|out| {
                        item.put_as_string(out);
                        Ok(())
                    },
                    index,
                )?;
            }
        }
        Value::Bytes(bytes) => {
            for (index, byte) in bytes.iter().enumerate() {
                put_next(&|out| put(out, byte.to_string().as_bytes()), index)?;
            }
        }
        Value::Nil => {}
        other => return Err(other.not("a list")),
    }
    for (index, value) in arguments.values(0).iter().enumerate() {
        match value.evaluate(scene)? {
            Value::Nil => put_next(&|out| put(out, b"<nil>"), index)?,
            value => put_next(&|out| value.put_text_like(out), index)?,
        }
    }
    made(scene.arena, &out)
}

fn len<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let value = arguments.value(0, scene)?;
    let length = match value {
        Value::String(bytes) | Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => items(list).count(),
        Value::Map(map) => entries(map).count(),
        other => count_of_slice(&other)
            .ok_or_else(|| Fault::new(format!("Len: unsupported target type {}", other.type_name())))?,
    };
    Ok(Value::Int(length as i64))
}

fn split<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, delimiter) = (arguments.text(0, scene)?, arguments.text(1, scene)?);
    if delimiter.is_empty() {
        let chunks = text.utf8_chunks().flat_map(|chunk| {
            let valid = chunk.valid();
            let chars = valid.char_indices().filter_map(|(at, c)| valid.as_bytes().get(at..at + c.len_utf8()));
            chars.chain(chunk.invalid().chunks(1))
        });
        return list(scene.arena, chunks.map(Value::String));
    }
    list(scene.arena, super::split(text, delimiter).map(Value::String))
}

fn substring<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let start = arguments.int(1, scene)?;
    if start < 0 {
        return Err(Fault::new(format!("invalid start for substring function, {start} cannot be negative")));
    }
    let length = arguments.int(2, scene)?;
    if length <= 0 {
        return Err(Fault::new(format!("invalid length for substring function, {length} cannot be negative or zero")));
    }
    let text = arguments.text(0, scene)?;
    let end = start.checked_add(length).and_then(|end| usize::try_from(end).ok()).filter(|end| *end <= text.len());
    let Some(mut end) = end else {
        return Err(Fault::new(format!(
            "invalid range for substring function, start({start})+length({length}) cannot be greater than the length of target string({})",
            text.len()
        )));
    };
    let mut start = start as usize;
    if arguments.fixed_bool(3) == Some(true) {
        while start < text.len() && is_within_char(text, start) {
            start += 1;
        }
        while start < end && is_within_char(text, end) {
            end -= 1;
        }
    }
    Ok(Value::String(text.get(start..end.max(start)).unwrap_or_default()))
}

/// Whether cutting before this byte would split a character.
pub(super) fn is_within_char(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80)
}

fn trim<'a>(text: &'a [u8], set: &[u8]) -> &'a [u8] {
    match (std::str::from_utf8(text), std::str::from_utf8(set)) {
        (Ok(text), Ok(set)) => text.trim_matches(|c| set.contains(c)).as_bytes(),
        _ => {
            let outside = |byte: &u8| !set.contains(byte);
            let start = text.iter().position(outside).unwrap_or(text.len());
            text.get(start..text.iter().rposition(outside).map_or(start, |last| last + 1)).unwrap_or_default()
        }
    }
}

/// Maps every character to exactly one, as Go does: a ligature does not become two letters.
fn map_chars<I: ExactSizeIterator<Item = char>>(text: &[u8], map: fn(char) -> I) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let mapped = text.chars().map(|c| {
        let mut mapped = map(c);
        mapped.next().filter(|_| mapped.len() == 0).unwrap_or(c)
    });
    mapped.collect::<String>().into_bytes()
}

fn lower(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() { text.to_ascii_lowercase() } else { map_chars(text, char::to_lowercase) }
}

fn upper(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() { text.to_ascii_uppercase() } else { map_chars(text, char::to_uppercase) }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'_' | b'-' | b'.')
}

/// `HTTPServer2 name` becomes `http_server_2_name`: words end where case changes and where digits begin or end.
fn snake(text: &[u8]) -> Vec<u8> {
    let text = trim_space(text);
    let mut out = Vec::with_capacity(text.len() + 8);
    for (index, byte) in text.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| text.get(before));
        let after = text.get(index + 1).copied().unwrap_or_default();
        let ends_acronym =
            byte.is_ascii_uppercase() && after.is_ascii_lowercase() && before.is_some_and(u8::is_ascii_uppercase);
        if ends_acronym {
            out.push(b'_');
        }
        out.push(if is_separator(*byte) { b'_' } else { byte.to_ascii_lowercase() });
        let ends_word = byte.is_ascii_lowercase() && (after.is_ascii_uppercase() || after.is_ascii_digit())
            || byte.is_ascii_digit() && after.is_ascii_alphabetic()
            || byte.is_ascii_uppercase() && after.is_ascii_digit();
        if ends_word {
            out.push(b'_');
        }
    }
    out
}

/// `http_server` becomes `HttpServer`: a letter after a separator or a digit is a capital, one after a capital is not.
fn camel(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut begins_word, mut after_capital) = (true, false);
    for byte in trim_space(text) {
        let is_capital = byte.is_ascii_uppercase();
        match byte {
            _ if byte.is_ascii_alphabetic() => {
                out.push(match byte {
                    _ if begins_word => byte.to_ascii_uppercase(),
                    _ if after_capital => byte.to_ascii_lowercase(),
                    _ => *byte,
                });
                begins_word = false;
            }
            b'0'..=b'9' => {
                out.push(*byte);
                begins_word = true;
            }
            _ => begins_word = is_separator(*byte),
        }
        after_capital = is_capital;
    }
    out
}

fn trim_space(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or(text.trim_ascii(), |text| text.trim().as_bytes())
}

fn base64_encode<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = arguments.text(0, scene)?;
    let name = if arguments.is_given(1) { arguments.text(1, scene)? } else { b"base64" };
    let unsupported = || Fault::new(format!("unsupported base64 variant: {}", String::from_utf8_lossy(name)));
    scene.arena.text(&base64::variant(name).ok_or_else(unsupported)?.encode(text))
}
