//! `URL`: splits a URL into parts named by the semantic conventions, parsed and written as Go's `net/url` does.

use std::net::Ipv6Addr;

use super::{Entries, function, push, required};
use crate::order::Ordered;
use crate::otlp::hex;
use crate::ottl::function::{Arguments, Function, Kind};
use crate::ottl::scene::Scene;
use crate::ottl::value::{Arena, Fault, Value, put_item};

pub(super) const TABLE: &[Function] = &[function("URL", &[required("uri", Kind::Text)], url)];

/// Maximum query parameters, as in Go.
const PARAMETERS: usize = 10_000;
const ESCAPE: &str = "invalid URL escape";

struct Url<'t> {
    scheme: Vec<u8>,
    /// The part after a scheme without a slash, as in `mailto:a@b`.
    opaque: &'t [u8],
    /// The part after `//`.
    authority: Option<Authority<'t>>,
    path: &'t [u8],
    query: Option<&'t [u8]>,
    fragment: &'t [u8],
}

struct Authority<'t> {
    user: Option<(&'t [u8], Option<&'t [u8]>)>,
    host: Vec<u8>,
}

/// A part of a URL, each with its own set of characters that need no escape.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    User,
    Host,
    /// The zone after `%25` in an IPv6 address.
    Zone,
    Path,
    Query,
    Fragment,
}

impl Part {
    fn takes(self, byte: u8) -> bool {
        let signs: &[u8] = match self {
            Part::User => b"-_.~$&+,;=",
            Part::Host | Part::Zone => b"-_.~!$&'()*+,;=:[]<>\"",
            Part::Path => b"-_.~$&+,/:;=@",
            Part::Query => b"-_.~",
            Part::Fragment => b"-_.~$&+,/:;=?@!()*",
        };
        byte.is_ascii_alphanumeric() || signs.contains(&byte)
    }

    /// Decodes `%41` to `A`.
    fn decoded(self, text: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let [byte, after @ ..] = rest {
            rest = after;
            if *byte == b'%' {
                let (digits, after) = after.split_first_chunk::<2>().ok_or(ESCAPE)?;
                hex::read(digits, 1, &mut out).ok_or(ESCAPE)?;
                let meant = out.last().copied().unwrap_or_default();
                let may_be_escaped = match self {
                    Part::Host => meant >= 0x80 || meant == b'%',
                    Part::Zone => matches!(meant, b'%' | b' ') || self.takes(meant),
                    _ => true,
                };
                if !may_be_escaped {
                    return Err(ESCAPE);
                }
                rest = after;
            } else if matches!(self, Part::Host | Part::Zone) && byte.is_ascii() && !self.takes(*byte) {
                return Err("invalid character in host name");
            } else {
                out.push(if self == Part::Query && *byte == b'+' { b' ' } else { *byte });
            }
        }
        Ok(out)
    }

    fn put_encoded(self, plain: &[u8], out: &mut Vec<u8>) {
        for byte in plain {
            match byte {
                byte if self.takes(*byte) => out.push(*byte),
                byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
    }

    /// Copies it, or escapes it again if it has characters that a URL may not contain.
    fn put_again(self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match raw.iter().all(|byte| self.takes(*byte) || b"!$&'()*+,;=:@[]%".contains(byte)) {
            true => out.extend_from_slice(raw),
            false => self.put_encoded(&self.decoded(raw)?, out),
        }
        Ok(())
    }
}

fn url<'a>(arguments: &'a Arguments, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (original, arena) = (arguments.text(0, scene)?, scene.arena);
    if original.is_empty() {
        return Err(Fault::new("url cannot be empty"));
    }
    let wrong = |why: &str| Fault::new(format!("parse {:?}: {why}", String::from_utf8_lossy(original)));
    if let Some(query) = original.strip_prefix(b"?") {
        return parameters(query, arena);
    }
    let url = Url::read(original).map_err(wrong)?;
    let plain = |part: Part, text| arena.keep(&part.decoded(text).map_err(wrong)?);
    let mut out = Entries::default();
    let mut put = |name: &'static str, value: &'a [u8]| out.put(name.as_bytes(), Value::String(value));
    let path = plain(Part::Path, url.path)?;
    put("url.original", arena.keep(&url.whole().map_err(wrong)?)?)?;
    let authority = url.authority.as_ref();
    let (domain, port) = host_and_port(authority.map_or(b"", |authority| &authority.host));
    put("url.domain", arena.keep(domain)?)?;
    put("url.scheme", arena.keep(&url.scheme)?)?;
    put("url.path", path)?;
    if !url.fragment.is_empty() {
        put("url.fragment", plain(Part::Fragment, url.fragment)?)?;
    }
    if let Some((name, password)) = authority.and_then(|authority| authority.user) {
        let mut whole = Vec::new();
        put_user(name, password, &mut whole).map_err(wrong)?;
        put("url.user_info", arena.keep(&whole)?)?;
        if !name.is_empty() {
            put("url.username", plain(Part::User, name)?)?;
        }
        if let Some(password) = password {
            put("url.password", plain(Part::User, password)?)?;
        }
    }
    if let Some(query) = url.query.filter(|query| !query.is_empty()) {
        put("url.query", query)?;
    }
    let extension = memchr::memrchr(b'.', path).and_then(|dot| path.get(dot + 1..)).unwrap_or_default();
    if !extension.is_empty() {
        put("url.extension", extension)?;
    }
    if !port.is_empty() {
        let port = str::from_utf8(port).ok().and_then(|digits| digits.parse().ok());
        out.put(b"url.port", Value::Int(port.ok_or_else(|| wrong("the port is out of range"))?))?;
    }
    out.value(arena)
}

/// The parameters of a query, each with the list of its values.
fn parameters<'a>(query: &'a [u8], arena: &'a Arena) -> Result<Value<'a>, Fault> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let decoded = |text| Part::Query.decoded(text).map_err(Fault::new);
    for pair in query.split(|byte| *byte == b'&') {
        if pair.contains(&b';') {
            return Err(Fault::new("invalid semicolon separator in query"));
        }
        let (key, value) = cut(pair, b'=');
        if !pair.is_empty() {
            push(&mut all, (decoded(key)?, decoded(value.unwrap_or_default())?))?;
        }
    }
    if all.len() > PARAMETERS {
        return Err(Fault::new("number of URL query parameters exceeded limit"));
    }
    all.order_by(|one, other| one.0.cmp(&other.0));
    let (mut query, mut out) = (Entries::default(), Entries::default());
    for same in all.chunk_by(|one, other| one.0 == other.0) {
        let mut values = Vec::new();
        same.iter().for_each(|(_, value)| put_item(&mut values, &Value::String(value)));
        let key = same.first().map_or(&b""[..], |(key, _)| key);
        query.put(arena.keep(key)?, Value::List(arena.keep(&values)?))?;
    }
    if !query.list.is_empty() {
        out.put(b"query", query.value(arena)?)?;
    }
    out.value(arena)
}

impl<'t> Url<'t> {
    fn read(original: &'t [u8]) -> Result<Url<'t>, &'static str> {
        if original.iter().any(u8::is_ascii_control) {
            return Err("net/url: invalid control character in URL");
        }
        let (rest, fragment) = cut(original, b'#');
        let scheme_end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte));
        let scheme = scheme_end.filter(|end| rest.get(*end) == Some(&b':')).and_then(|end| rest.get(..end));
        if scheme.is_some_and(<[u8]>::is_empty) {
            return Err("missing protocol scheme");
        }
        let scheme = scheme.filter(|scheme| scheme.first().is_some_and(u8::is_ascii_alphabetic));
        let rest = scheme.and_then(|scheme| rest.get(scheme.len() + 1..)).unwrap_or(rest);
        let (rest, query) = cut(rest, b'?');
        let mut url = Url {
            scheme: scheme.unwrap_or_default().to_ascii_lowercase(),
            opaque: b"",
            authority: None,
            path: rest,
            query,
            fragment: fragment.unwrap_or_default(),
        };
        if !rest.starts_with(b"/") {
            if scheme.is_some() {
                (url.opaque, url.path) = (rest, b"");
            } else if rest.split(|byte| *byte == b'/').next().is_some_and(|first| first.contains(&b':')) {
                return Err("first path segment in URL cannot contain colon");
            }
        } else if let Some(after) = rest.strip_prefix(b"//")
            && (scheme.is_some() || !after.starts_with(b"/"))
        {
            let end = memchr::memchr(b'/', after).unwrap_or(after.len());
            let (authority, path) = after.split_at_checked(end).unwrap_or_default();
            url.authority = Some(Authority::read(authority, &url.scheme)?);
            url.path = path;
        }
        Part::Path.decoded(url.path)?;
        Part::Fragment.decoded(url.fragment)?;
        Ok(url)
    }

    /// The URL as Go writes it.
    fn whole(&self) -> Result<Vec<u8>, &'static str> {
        let mut out = self.scheme.clone();
        out.extend_from_slice(if self.scheme.is_empty() { b"" } else { b":" });
        out.extend_from_slice(self.opaque);
        if let Some(Authority { user, host }) = &self.authority {
            if !host.is_empty() || !self.path.is_empty() || user.is_some() {
                // Without a scheme, `//` is written only before a host or user.
                let is_written = !self.scheme.is_empty() || !host.is_empty() || user.is_some();
                out.extend_from_slice(if is_written { b"//" } else { b"" });
            }
            if let Some((name, password)) = user {
                put_user(name, *password, &mut out)?;
                out.push(b'@');
            }
            Part::Host.put_encoded(host, &mut out);
        }
        Part::Path.put_again(self.path, &mut out)?;
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
        if !self.fragment.is_empty() {
            out.push(b'#');
            Part::Fragment.put_again(self.fragment, &mut out)?;
        }
        Ok(out)
    }
}

impl<'t> Authority<'t> {
    fn read(text: &'t [u8], scheme: &[u8]) -> Result<Authority<'t>, &'static str> {
        let at = memchr::memrchr(b'@', text);
        let user = at.and_then(|at| text.get(..at));
        let host = at.and_then(|at| text.get(at + 1..)).unwrap_or(text);
        if user.is_some_and(|user| !user.iter().all(|byte| Part::User.takes(*byte) || b":!'()*%@".contains(byte))) {
            return Err("net/url: invalid userinfo");
        }
        let user = user.map(|user| cut(user, b':'));
        if let Some((name, password)) = user {
            Part::User.decoded(name)?;
            Part::User.decoded(password.unwrap_or_default())?;
        }
        Ok(Authority { user, host: read_host(host, scheme)? })
    }
}

fn read_host(host: &[u8], scheme: &[u8]) -> Result<Vec<u8>, &'static str> {
    let check_port = |port: &[u8]| if is_port(port) { Ok(()) } else { Err("invalid port after host") };
    match memchr::memrchr(b'[', host) {
        None => {
            let is_strict = matches!(scheme, b"http" | b"https");
            let colon = if is_strict { memchr::memchr(b':', host) } else { memchr::memrchr(b':', host) };
            check_port(colon.and_then(|colon| host.get(colon..)).unwrap_or_default())?;
            Part::Host.decoded(host)
        }
        Some(0) => {
            let inside = memchr::memrchr(b']', host).and_then(|end| Some((host.get(1..end)?, host.get(end + 1..)?)));
            let (inside, port) = inside.ok_or("missing ']' in host")?;
            check_port(port)?;
            let zone = memchr::memmem::find(inside, b"%25").unwrap_or(inside.len());
            let (address, zone) = inside.split_at_checked(zone).unwrap_or_default();
            let (address, zone) = (Part::Host.decoded(address)?, Part::Zone.decoded(zone)?);
            let is_address = str::from_utf8(&address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
            if !is_address || zone.len() == 1 {
                return Err("invalid IP-literal");
            }
            Ok([b"[", &*address, &*zone, b"]", port].concat())
        }
        Some(_) => Err("invalid IP-literal"),
    }
}

/// Empty, or a colon with or without digits.
fn is_port(text: &[u8]) -> bool {
    text.is_empty() || text.strip_prefix(b":").is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn host_and_port(host: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memrchr(b':', host).filter(|colon| host.get(*colon..).is_some_and(is_port));
    let (host, port) = host.split_at_checked(colon.unwrap_or(host.len())).unwrap_or_default();
    let inside = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    (inside.unwrap_or(host), port.get(1..).unwrap_or_default())
}

fn put_user(name: &[u8], password: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    Part::User.put_encoded(&Part::User.decoded(name)?, out);
    if let Some(password) = password {
        out.push(b':');
        Part::User.put_encoded(&Part::User.decoded(password)?, out);
    }
    Ok(())
}

fn cut(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    let found = memchr::memchr(at, text);
    let (before, after) = text.split_at_checked(found.unwrap_or(text.len())).unwrap_or_default();
    (before, found.and(after.get(1..)))
}
