//! The `expressions` of `match_type: expr`, written out as OTTL conditions of data points: comparisons of `MetricName`,
//! `MetricType` and `Label("key")` with literals, `HasLabel("key")`, parentheses, and what joins them. The rest of that language is
//! refused.

use regex::escape;

use crate::ottl::pattern::{self, Pattern};
use crate::ottl::syntax::{Mistake, Span};
use crate::processors::matching::literal;

/// How many parentheses and negations may stand in one another; it also bounds the stack.
const DEPTH: u32 = 16;

/// The types of metrics as an expression and as a condition name them.
const TYPES: [(&str, &str); 5] = [
    ("Gauge", "METRIC_DATA_TYPE_GAUGE"),
    ("Sum", "METRIC_DATA_TYPE_SUM"),
    ("Histogram", "METRIC_DATA_TYPE_HISTOGRAM"),
    ("ExponentialHistogram", "METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM"),
    ("Summary", "METRIC_DATA_TYPE_SUMMARY"),
];

const KNOWN: &str = "MetricName, MetricType and Label(\"key\") are compared with texts (== != < <= > >= in matches contains \
                     startsWith endsWith), HasLabel(\"key\") stands alone, && || ! join them; for anything else write a \
                     condition under metrics.metric or metrics.datapoint";

/// An expression as a condition.
pub(super) fn condition(expression: &str) -> Result<String, Mistake> {
    let mut reader = Reader { text: expression, tokens: tokens(expression)?, at: 0, depth: 0 };
    let condition = reader.any()?;
    match reader.peek() {
        Token::End => Ok(condition),
        _ => Err(reader.refused("this is not supported here")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    /// An operator, a parenthesis, a bracket or a comma.
    Sign(&'static str),
    End,
}

const SIGNS: [&str; 14] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ","];

fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Mistake> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        if let Some(comment) = [("//", "\n"), ("/*", "*/")].iter().find(|(opens, _)| rest.starts_with(opens)) {
            let (opens, closes) = *comment;
            let behind = rest.get(opens.len()..).and_then(|rest| rest.split_once(closes)).map(|(_, behind)| behind);
            match behind {
                Some(behind) => rest = behind.trim_start(),
                None if closes == "\n" => rest = "",
                None => return Err(refused(start..text.len(), "this comment does not end")),
            }
            continue;
        }
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        let (token, length) = if let Some(sign) = sign {
            (Token::Sign(sign), sign.len())
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Word(rest.chars().take(length).collect()), length)
        } else if matches!(first, '"' | '\'' | '`') {
            quoted(rest, first).map_err(|message| refused(start..text.len(), message))?
        } else {
            return Err(refused(start..start + first.len_utf8(), "this is not supported here"));
        };
        tokens.push((token, start..start + length));
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens.push((Token::End, text.len()..text.len()));
    Ok(tokens)
}

/// A text in quotes, and how long it is with them.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), &'static str> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Token::Text(text), index + 1)),
            '\\' if quote != '`' => text.push(match chars.next().map(|(_, escaped)| escaped) {
                Some(escaped @ ('\\' | '"' | '\'')) => escaped,
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                _ => return Err("this text has an escape that is not supported"),
            }),
            c => text.push(c),
        }
    }
    Err("this text does not end")
}

fn refused(span: Span, message: impl Into<String>) -> Mistake {
    Mistake { help: Some(KNOWN.to_owned()), ..Mistake::new(&span, message) }
}

/// What is compared.
enum Subject {
    Name,
    Type,
    Label(String),
}

/// A comparison with a text: its sign or word, a sign with the sides exchanged, the condition on what is at a path, and
/// whether it is true for a text.
type Comparison = (&'static str, &'static str, fn(&str, &str) -> String, fn(&str, &str) -> bool);

const COMPARISONS: &[Comparison] = &[
    ("==", "==", |path, text| format!("{path} == {}", literal(text)), |it, text| it == text),
    ("!=", "!=", |path, text| format!("{path} != {}", literal(text)), |it, text| it != text),
    ("<=", ">=", |path, text| format!("{path} <= {}", literal(text)), |it, text| it <= text),
    (">=", "<=", |path, text| format!("{path} >= {}", literal(text)), |it, text| it >= text),
    ("<", ">", |path, text| format!("{path} < {}", literal(text)), |it, text| it < text),
    (">", "<", |path, text| format!("{path} > {}", literal(text)), |it, text| it > text),
    ("contains", "", |path, text| format!("IsMatch({path}, {})", literal(&escape(text))), |it, text| it.contains(text)),
    ("startsWith", "", |path, text| format!("HasPrefix({path}, {})", literal(text)), |it, text| it.starts_with(text)),
    ("endsWith", "", |path, text| format!("HasSuffix({path}, {})", literal(text)), |it, text| it.ends_with(text)),
];

/// What it is compared with. Texts of a list are any of them.
enum Test {
    Text(&'static Comparison, String),
    OneOf(Vec<String>),
    Matches(String, Pattern),
}

struct Reader<'t> {
    text: &'t str,
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: u32,
}

impl Reader<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// Takes the next token if it is this sign or word.
    fn takes(&mut self, wanted: &str) -> bool {
        let is_it = match self.peek() {
            Token::Sign(sign) => *sign == wanted,
            Token::Word(word) => word == wanted,
            _ => false,
        };
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, wanted: &str) -> Result<(), Mistake> {
        if self.takes(wanted) { Ok(()) } else { Err(self.refused(format!("expected {wanted} here"))) }
    }

    /// A mistake at the next token.
    fn refused(&self, message: impl Into<String>) -> Mistake {
        let end = self.text.len();
        refused(self.tokens.get(self.at).map_or(end..end, |(_, span)| span.clone()), message)
    }

    fn any(&mut self) -> Result<String, Mistake> {
        let mut terms = vec![self.all()?];
        while self.takes("||") || self.takes("or") {
            terms.push(self.all()?);
        }
        Ok(joined(terms, " or "))
    }

    fn all(&mut self) -> Result<String, Mistake> {
        let mut terms = vec![self.term()?];
        while self.takes("&&") || self.takes("and") {
            terms.push(self.term()?);
        }
        Ok(joined(terms, " and "))
    }

    fn term(&mut self) -> Result<String, Mistake> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.refused("this is nested too deep"));
        }
        let term = if self.takes("!") || self.takes("not") {
            // It binds before a comparison, so it cannot be before one.
            let negated = ["!", "not", "(", "true", "false", "HasLabel"];
            let is_truth = match self.peek() {
                Token::Sign(next) => negated.contains(next) && !self.wraps_operand(),
                Token::Word(next) => negated.contains(&next.as_str()),
                _ => false,
            };
            if !is_truth {
                return Err(self.refused("a comparison behind ! or not stands in parentheses"));
            }
            format!("not ({})", self.term()?)
        } else if !self.wraps_operand() && self.takes("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else if self.takes("true") {
            "true".to_owned()
        } else if self.takes("false") {
            "false".to_owned()
        } else if self.takes("HasLabel") {
            format!("ContainsValue(Keys(datapoint.attributes), {})", literal(&self.key()?))
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    /// Whether parentheses stand next around nothing but what is compared.
    fn wraps_operand(&self) -> bool {
        let token = |at: usize| self.tokens.get(at).map_or(&Token::End, |(token, _)| token);
        let run = |from: usize, sign| (from..).take_while(|at| *token(*at) == Token::Sign(sign)).count();
        let opened = run(self.at, "(");
        let operand = self.at + opened;
        let behind = operand
            + match token(operand) {
                Token::Text(_) => 1,
                Token::Word(word) if word == "MetricName" || word == "MetricType" => 1,
                // With its key, and the parentheses around that.
                Token::Word(word) if word == "Label" => 2 + 2 * run(operand + 1, "("),
                _ => return false,
            };
        opened > 0 && run(behind, ")") >= opened
    }

    /// What `read` reads, in as many parentheses as there are.
    fn within<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Mistake>) -> Result<T, Mistake> {
        let mut open = 0;
        while self.takes("(") {
            open += 1;
        }
        let inner = read(self)?;
        (0..open).try_for_each(|_| self.expect(")"))?;
        Ok(inner)
    }

    /// `("key")`
    fn key(&mut self) -> Result<String, Mistake> {
        self.expect("(")?;
        let key = self.literal()?;
        self.expect(")")?;
        Ok(key)
    }

    fn literal(&mut self) -> Result<String, Mistake> {
        self.within(|reader| match reader.next() {
            Token::Text(text) => Ok(text),
            _ => {
                reader.at -= 1;
                Err(reader.refused("expected a text in quotes here"))
            }
        })
    }

    fn comparison(&mut self) -> Result<String, Mistake> {
        let first = self.tokens.iter().skip(self.at).map(|(token, _)| token).find(|token| **token != Token::Sign("("));
        if matches!(first, Some(Token::Text(_))) {
            let text = self.literal()?;
            let comparison = self.comparison_by(|(_, turned, ..)| *turned);
            let comparison =
                comparison.ok_or_else(|| self.refused("a text may stand on the left of == != < <= > >= only"))?;
            return Ok(self.subject()?.tested(&Test::Text(comparison, text)));
        }
        let subject = self.subject()?;
        if let Some(comparison) = self.comparison_by(|(name, ..)| *name) {
            return Ok(subject.tested(&Test::Text(comparison, self.literal()?)));
        }
        let is_negated = self.takes("not");
        let test = if self.takes("in") {
            Test::OneOf(self.list()?)
        } else if self.takes("matches") {
            let pattern = self.literal()?;
            match pattern::compile(&pattern) {
                Ok(compiled) => Test::Matches(pattern, compiled),
                Err(why) => {
                    self.at -= 1;
                    return Err(Mistake { help: Some(why), ..self.refused("this is not a regular expression") });
                }
            }
        } else if let Some(word) = self.comparison_by(|(name, turned, ..)| if turned.is_empty() { *name } else { "" }) {
            Test::Text(word, self.literal()?)
        } else {
            return Err(self.refused("expected a comparison here"));
        };
        let tested = subject.tested(&test);
        Ok(if is_negated { format!("not ({tested})") } else { tested })
    }

    /// Takes the sign or word that `name` gives to a comparison.
    fn comparison_by(&mut self, name: fn(&Comparison) -> &'static str) -> Option<&'static Comparison> {
        COMPARISONS.iter().find(|comparison| self.takes(name(comparison)))
    }

    fn subject(&mut self) -> Result<Subject, Mistake> {
        self.within(|reader| {
            if reader.takes("MetricName") {
                Ok(Subject::Name)
            } else if reader.takes("MetricType") {
                Ok(Subject::Type)
            } else if reader.takes("Label") {
                reader.key().map(Subject::Label)
            } else {
                Err(reader.refused(match reader.peek() {
                    Token::Word(word) => format!("{word} is not supported"),
                    _ => "this is not supported here".to_owned(),
                }))
            }
        })
    }

    fn list(&mut self) -> Result<Vec<String>, Mistake> {
        self.within(|reader| {
            reader.expect("[")?;
            let mut texts = Vec::new();
            while !reader.takes("]") {
                if !texts.is_empty() {
                    reader.expect(",")?;
                }
                texts.push(reader.literal()?);
            }
            Ok(texts)
        })
    }
}

fn joined(mut terms: Vec<String>, with: &str) -> String {
    match terms.len() {
        1 => terms.pop().unwrap_or_default(),
        _ => format!("({})", terms.join(with)),
    }
}

impl Subject {
    fn tested(&self, test: &Test) -> String {
        match self {
            Subject::Name => test.of("metric.name"),
            Subject::Type => {
                let types = TYPES.iter().filter(|(name, _)| test.holds(name));
                let types: Vec<_> = types.map(|(_, name)| format!("metric.type == {name}")).collect();
                if types.is_empty() { "false".to_owned() } else { joined(types, " or ") }
            }
            // What is no text, or not there, is an empty text.
            Subject::Label(key) => {
                let path = format!("datapoint.attributes[{}]", literal(key));
                match (test.of(&path), test.holds("")) {
                    (test, true) => format!("(not IsString({path}) or {test})"),
                    (test, false) => format!("(IsString({path}) and {test})"),
                }
            }
        }
    }
}

impl Test {
    /// The test of what is at a path.
    fn of(&self, path: &str) -> String {
        match self {
            Test::Text((_, _, condition, _), text) => condition(path, text),
            Test::OneOf(texts) if texts.is_empty() => "false".to_owned(),
            Test::OneOf(texts) => {
                joined(texts.iter().map(|text| format!("{path} == {}", literal(text))).collect(), " or ")
            }
            Test::Matches(pattern, _) => format!("IsMatch({path}, {})", literal(pattern)),
        }
    }

    /// Whether it is true of this text.
    fn holds(&self, text: &str) -> bool {
        match self {
            Test::Text((.., holds), other) => holds(text, other),
            Test::OneOf(texts) => texts.iter().any(|other| text == other),
            Test::Matches(_, pattern) => pattern.is_match(text.as_bytes()),
        }
    }
}
