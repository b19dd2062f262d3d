//! The two text formats of a page: Prometheus 0.0.4, and OpenMetrics 1.0, which allows one space where the other allows
//! any. They are read as the Go collector's parsers read them, byte by byte and without copies: names and values are
//! slices of the page, with their escapes.

use smallvec::SmallVec;

/// What TYPE says of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    #[default]
    Unknown,
}

const KINDS: [(&str, Kind); 7] = [
    ("counter", Kind::Counter),
    ("gauge", Kind::Gauge),
    ("histogram", Kind::Histogram),
    ("summary", Kind::Summary),
    ("gaugehistogram", Kind::GaugeHistogram),
    ("info", Kind::Info),
    ("stateset", Kind::StateSet),
];
/// The kinds that the Prometheus format has too stand first in `KINDS`.
const PLAIN_KINDS: usize = 4;

impl Kind {
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("unknown", |(name, _)| name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Plain,
    OpenMetrics,
}

pub(super) type Pairs<'t> = SmallVec<[(&'t [u8], &'t [u8]); 12]>;

/// A line with a value.
#[derive(Debug)]
pub(super) struct Sample<'t> {
    /// The name and labels as written, which identify a series of this page.
    pub(super) raw: &'t [u8],
    pub(super) name: &'t [u8],
    /// With their escapes, in the order of the page.
    pub(super) labels: Pairs<'t>,
    pub(super) value: f64,
    /// In milliseconds.
    pub(super) time: Option<i64>,
    pub(super) exemplar: Option<Box<Exemplar<'t>>>,
}

#[derive(Debug)]
pub(super) struct Exemplar<'t> {
    pub(super) labels: Pairs<'t>,
    pub(super) value: f64,
    /// In milliseconds.
    pub(super) time: Option<i64>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are samples, and none is kept")]
pub(super) enum Entry<'t> {
    Kind(&'t [u8], Kind),
    /// With its escapes.
    Help(&'t [u8], &'t [u8]),
    Unit(&'t [u8], &'t [u8]),
    Sample(Sample<'t>),
}

/// Why a page cannot be read.
type Fault = &'static str;

pub(super) struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    format: Format,
    /// The last kind that was read, whatever its family.
    pub(super) kind: Kind,
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t [u8], format: Format) -> Parser<'t> {
        Parser { text, at: 0, format, kind: Kind::Unknown }
    }

    /// The number of the line that is being read.
    pub(super) fn line(&self) -> usize {
        memchr::memchr_iter(b'\n', self.text.get(..self.at).unwrap_or_default()).count() + 1
    }

    /// The next entry; `None` at the end of the page.
    pub(super) fn next(&mut self) -> Result<Option<Entry<'t>>, Fault> {
        match self.format {
            Format::Plain => self.next_plain(),
            Format::OpenMetrics => self.next_open(),
        }
    }

    fn next_plain(&mut self) -> Result<Option<Entry<'t>>, Fault> {
        loop {
            self.spaces();
            match self.peek() {
                // A NUL where a line begins ends a page, as in the Go collector.
                None | Some(0) => return Ok(None),
                Some(b'\n') => self.at += 1,
                Some(b'#') => {
                    if let Some(entry) = self.comment()? {
                        return Ok(Some(entry));
                    }
                }
                Some(_) => return self.sample().map(|sample| Some(Entry::Sample(sample))),
            }
        }
    }

    /// A line of `#`; `None` if it is a comment for people.
    fn comment(&mut self) -> Result<Option<Entry<'t>>, Fault> {
        self.at += 1;
        let has_space = self.spaces();
        let rest = self.rest();
        let follows =
            |word: &[u8]| rest.strip_prefix(word).is_some_and(|rest| rest.starts_with(b" ") || rest.starts_with(b"\t"));
        let is_help = follows(b"HELP");
        if !has_space || !is_help && !follows(b"TYPE") {
            self.line_end();
            return Ok(None);
        }
        self.at += 4;
        self.spaces();
        let name = self.family_name()?;
        // One byte stands between the name and the text.
        let text = self.line_end().get(1..).unwrap_or_default();
        self.described(if is_help { b"HELP" } else { b"TYPE" }, name, text).map(Some)
    }

    fn next_open(&mut self) -> Result<Option<Entry<'t>>, Fault> {
        if self.peek() != Some(b'#') {
            return match self.peek() {
                None => Err("the page does not end with # EOF"),
                Some(_) => self.sample().map(|sample| Some(Entry::Sample(sample))),
            };
        }
        for word in [b"HELP", b"TYPE", b"UNIT"] {
            if self.pass(&[b"# ", word.as_slice(), b" "].concat()) {
                let name = self.family_name()?;
                if !self.pass(b" ") {
                    return Err("a text is expected after the name of a family");
                }
                let text = self.line_end();
                if self.at >= self.text.len() && !self.text.ends_with(b"\n") {
                    return Err("a text is expected after the name of a family");
                }
                return self.described(word, name, text).map(Some);
            }
        }
        if !self.pass(b"# EOF") {
            return Err("a comment that is not HELP, TYPE, UNIT or EOF");
        }
        self.pass(b"\n");
        if self.at < self.text.len() { Err("data after # EOF") } else { Ok(None) }
    }

    fn described(&mut self, word: &[u8], name: &'t [u8], text: &'t [u8]) -> Result<Entry<'t>, Fault> {
        match word {
            b"HELP" if std::str::from_utf8(text).is_err() => Err("a help text is not valid UTF-8"),
            b"HELP" => Ok(Entry::Help(name, text)),
            b"UNIT" => {
                let is_suffix = name.strip_suffix(text).is_some_and(|rest| rest.ends_with(b"_"));
                if text.is_empty() || is_suffix {
                    Ok(Entry::Unit(name, text))
                } else {
                    Err("a unit is no suffix of its family")
                }
            }
            _ => {
                let (known, none) = match self.format {
                    Format::Plain => (KINDS.get(..PLAIN_KINDS).unwrap_or_default(), "untyped"),
                    Format::OpenMetrics => (KINDS.as_slice(), "unknown"),
                };
                let known = known.iter().find(|(name, _)| name.as_bytes() == text).map(|(_, kind)| *kind);
                let known = known.or_else(|| (text == none.as_bytes()).then_some(Kind::Unknown));
                self.kind = known.ok_or("an invalid metric type")?;
                Ok(Entry::Kind(name, self.kind))
            }
        }
    }

    fn sample(&mut self) -> Result<Sample<'t>, Fault> {
        let (start, first) = (self.at, self.peek());
        let mut sample = Sample { raw: &[], name: &[], labels: Pairs::new(), value: 0.0, time: None, exemplar: None };
        let mut name = (first != Some(b'{')).then(|| self.metric_name()).flatten();
        if name.is_none() && first != Some(b'{') {
            return Err("a line that starts with no name");
        }
        let end = self.at;
        if self.format == Format::Plain {
            self.spaces();
        }
        if self.peek() == Some(b'{') {
            self.at += 1;
            self.labels(&mut sample.labels, Some(&mut name))?;
            sample.raw = self.text.get(start..self.at).unwrap_or_default();
        } else {
            sample.raw = self.text.get(start..end).unwrap_or_default();
        }
        sample.name = name.ok_or("a sample without a name")?;
        match self.format {
            Format::Plain => self.plain_value(&mut sample)?,
            Format::OpenMetrics => self.open_value(&mut sample)?,
        }
        Ok(sample)
    }

    fn plain_value(&mut self, sample: &mut Sample<'t>) -> Result<(), Fault> {
        self.spaces();
        sample.value = number(self.until(|byte| matches!(byte, b'{' | b' ' | b'\t' | b'\n')))?;
        self.spaces();
        let digits = self.until(|byte| !byte.is_ascii_digit());
        if !digits.is_empty() {
            let time = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            sample.time = Some(time.ok_or("a timestamp that is too large")?);
            self.spaces();
        }
        if self.at < self.text.len() && !self.pass(b"\n") {
            Err("the end of a line is expected after a value")
        } else {
            Ok(())
        }
    }

    fn open_value(&mut self, sample: &mut Sample<'t>) -> Result<(), Fault> {
        sample.value = self.spaced_number()?.ok_or("a value is expected after a metric")?;
        if !self.is_exemplar() {
            sample.time = self.seconds()?;
        }
        if self.is_exemplar() {
            self.at += 4;
            let mut labels = Pairs::new();
            self.labels(&mut labels, None)?;
            let value = self.spaced_number()?.ok_or("a value is expected after the labels of an exemplar")?;
            sample.exemplar = Some(Box::new(Exemplar { labels, value, time: self.seconds()? }));
        }
        if self.pass(b"\n") { Ok(()) } else { Err("the end of a line is expected after a value") }
    }

    fn is_exemplar(&self) -> bool {
        self.rest().starts_with(b" # {")
    }

    fn spaced_number(&mut self) -> Result<Option<f64>, Fault> {
        if !self.pass(b" ") {
            return Ok(None);
        }
        number(self.until(|byte| matches!(byte, b' ' | b'\n'))).map(Some)
    }

    /// A time in seconds, as milliseconds.
    fn seconds(&mut self) -> Result<Option<i64>, Fault> {
        let Some(seconds) = self.spaced_number()? else { return Ok(None) };
        if seconds.is_finite() { Ok(Some((seconds * 1000.0) as i64)) } else { Err("an invalid timestamp") }
    }

    /// Labels up to the closing brace. With `name`, a quoted text alone is the name of the metric.
    fn labels(&mut self, labels: &mut Pairs<'t>, mut name: Option<&mut Option<&'t [u8]>>) -> Result<(), Fault> {
        let is_plain = self.format == Format::Plain;
        loop {
            self.label_space();
            let key = match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'"') => {
                    // Raw line breaks are refused in an exemplar only.
                    let key = self.quoted(is_plain || name.is_some())?;
                    self.label_space();
                    if matches!(self.peek(), Some(b',' | b'}')) {
                        match name.as_deref_mut() {
                            Some(name) if name.is_none() => *name = Some(key),
                            _ => return Err("a label without a value"),
                        }
                        if self.pass(b"}") {
                            return Ok(());
                        }
                        self.at += 1;
                        continue;
                    }
                    key
                }
                Some(byte) if is_name_start(byte) => self.until(|byte| !is_name_start(byte) && !byte.is_ascii_digit()),
                _ => return Err("the name of a label is expected"),
            };
            self.label_space();
            if !self.pass(b"=") {
                return Err("= is expected after the name of a label");
            }
            self.label_space();
            let value = self.quoted(is_plain)?;
            if std::str::from_utf8(value).is_err() {
                return Err("the value of a label is not valid UTF-8");
            }
            labels.push((key, value));
            self.label_space();
            if !self.pass(b",") && !is_plain && self.peek() != Some(b'}') {
                return Err(", or } is expected after a label");
            }
        }
    }

    fn label_space(&mut self) {
        if self.format == Format::Plain {
            self.spaces();
        }
    }

    /// What stands between two quotes, with its escapes.
    fn quoted(&mut self, may_break: bool) -> Result<&'t [u8], Fault> {
        if !self.pass(b"\"") {
            return Err("a quoted text is expected");
        }
        let start = self.at;
        loop {
            let found = memchr::memchr2(b'"', b'\\', self.rest()).ok_or("a quoted text without an end")?;
            self.at += found;
            if self.peek() == Some(b'"') {
                break;
            }
            if matches!(self.text.get(self.at + 1), None | Some(b'\n')) {
                return Err("a quoted text without an end");
            }
            self.at += 2;
        }
        let inside = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        if !may_break && memchr::memchr(b'\n', inside).is_some() {
            return Err("a quoted text without an end");
        }
        Ok(inside)
    }

    fn metric_name(&mut self) -> Option<&'t [u8]> {
        if !self.peek().is_some_and(|byte| is_name_start(byte) || byte == b':') {
            return None;
        }
        Some(self.until(|byte| !is_name_start(byte) && !byte.is_ascii_digit() && byte != b':'))
    }

    /// The name behind HELP, TYPE and UNIT.
    fn family_name(&mut self) -> Result<&'t [u8], Fault> {
        if self.peek() == Some(b'"') {
            return self.quoted(true);
        }
        self.metric_name().ok_or("the name of a family is expected")
    }

    /// The rest of the line; goes on behind it.
    fn line_end(&mut self) -> &'t [u8] {
        let line = self.until(|byte| byte == b'\n');
        self.at += 1;
        line
    }

    fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'t [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn spaces(&mut self) -> bool {
        !self.until(|byte| byte != b' ' && byte != b'\t').is_empty()
    }

    fn pass(&mut self, word: &[u8]) -> bool {
        let is_next = self.rest().starts_with(word);
        self.at += if is_next { word.len() } else { 0 };
        is_next
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// A number in the forms of Go's `ParseFloat`, without those that Prometheus does not have.
pub(super) fn number(text: &[u8]) -> Result<f64, Fault> {
    const NO_NUMBER: Fault = "a value that is no number";
    // Counts are whole numbers, most of all.
    if text.len() <= 15 && !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        return Ok(text.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0')) as f64);
    }
    let text = std::str::from_utf8(text).map_err(|_| NO_NUMBER)?;
    let value: f64 = text.parse().map_err(|_| NO_NUMBER)?;
    let is_word = text.bytes().any(|byte| matches!(byte, b'n' | b'N'));
    if value.is_nan() && text.len() > 3 || value.is_infinite() && !is_word { Err(NO_NUMBER) } else { Ok(value) }
}

/// A label's value or a help text without its escapes: `\\`, `\n`, and `\"` where quotes are escaped.
pub(super) fn unescaped(text: &[u8], has_quotes: bool, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, after) = rest.split_at_checked(at).unwrap_or_default();
        out.extend_from_slice(before);
        let meant = match after.get(1) {
            Some(b'\\') => Some(b'\\'),
            Some(b'n') => Some(b'\n'),
            Some(b'"') if has_quotes => Some(b'"'),
            _ => None,
        };
        out.push(meant.unwrap_or(b'\\'));
        rest = after.get(if meant.is_some() { 2 } else { 1 }..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
