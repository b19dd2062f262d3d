//! Parses OTTL tokens: `or` binds loosest, then `and`, `not`, comparisons, `+ -`, `* /`, signs.
//!
//! One grammar serves conditions and values, so parentheses need no lookahead; a condition in place of a value, or the
//! reverse, is refused after it is parsed.

use super::advice;
use super::functions;
use super::lexer::{Token, tokens, unquoted};
use super::syntax::{Argument, Call, Comparison, Field, Mistake, Node, Operator, Span, Statement, Syntax, is_editor};

/// Maximum nesting of parentheses, arguments, lists, maps and keys: it bounds the recursion here and in later walks
/// over the tree.
const MAX_DEPTH: usize = 64;

/// Parses an editor's call, and the condition after `where`.
pub fn statement(text: &str) -> Result<Statement, Mistake> {
    let mut parser = Parser::new(text)?;
    let start = parser.span();
    let (Token::Name(name), true) = (parser.token(), parser.following() == Token::Symbol("(")) else {
        return Err(parser.expected("a statement, like set(log.body, \"…\")"));
    };
    if !is_editor(name) {
        let message = format!("editor names must start with a lowercase letter but got '{name}'");
        return Err(Mistake::new(&start, message).help(format!("a converter stands inside of one: set(…, {name}(…))")));
    }
    parser.advance();
    let editor = parser.call(name, start.clone())?;
    if !editor.keys.is_empty() {
        let message = format!("only paths and converters may be indexed, not editors, but got {name}");
        return Err(Mistake::new(&parser.since(&start), message));
    }
    let condition = if parser.eat_word("where") { Some(parser.condition()?) } else { None };
    parser.end(if condition.is_some() { "and, or, or the end" } else { "where, or the end" })?;
    Ok(Statement { editor, condition })
}

/// Parses a single condition.
pub fn condition(text: &str) -> Result<Node, Mistake> {
    let mut parser = Parser::new(text)?;
    let condition = parser.condition()?;
    parser.end("a comparison, and, or, or the end")?;
    Ok(condition)
}

/// Parses a single value.
pub fn value(text: &str) -> Result<Node, Mistake> {
    let mut parser = Parser::new(text)?;
    let value = parser.value()?;
    parser.end("an operator, or the end")?;
    Ok(value)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token<'t>, Span)>,
    at: usize,
    depth: usize,
}

type Parsed<T = Node> = Result<T, Mistake>;

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parsed<Parser<'t>> {
        Ok(Parser { text, tokens: tokens(text)?, at: 0, depth: 0 })
    }

    fn condition(&mut self) -> Parsed {
        let node = self.any()?;
        self.wants_condition(node)
    }

    fn any(&mut self) -> Parsed {
        self.logic("or", Self::all, Syntax::Any)
    }

    fn all(&mut self) -> Parsed {
        self.logic("and", Self::negation, Syntax::All)
    }

    fn logic(&mut self, word: &str, inner: fn(&mut Self) -> Parsed, join: fn(Vec<Node>) -> Syntax) -> Parsed {
        let (start, first) = (self.span(), inner(self)?);
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut terms = vec![self.wants_condition(first)?];
        while self.eat_word(word) {
            let term = inner(self)?;
            terms.push(self.wants_condition(term)?);
        }
        Ok(Node { syntax: join(terms), span: self.since(&start) })
    }

    fn negation(&mut self) -> Parsed {
        let start = self.span();
        if !self.eat_word("not") {
            return self.comparison();
        }
        let inner = self.comparison()?;
        let inner = self.wants_condition(inner)?;
        Ok(Node { syntax: Syntax::Not(Box::new(inner)), span: self.since(&start) })
    }

    fn comparison(&mut self) -> Parsed {
        let (start, left) = (self.span(), self.sum()?);
        let comparison = match self.token() {
            Token::Symbol("==") => Comparison::Equal,
            Token::Symbol("!=") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterOrEqual,
            Token::Symbol("=") => {
                let written = self.text.get(left.span).unwrap_or_default();
                let meant = advice::of_path(written).unwrap_or_else(|| format!("write {written} == …"));
                return Err(self.expected("a comparison").help(format!("two values are compared with ==: {meant}")));
            }
            _ => return Ok(left),
        };
        self.advance();
        let sides = (wants_value(left)?, comparison, self.value()?);
        Ok(Node { syntax: Syntax::Compare(Box::new(sides)), span: self.since(&start) })
    }

    fn value(&mut self) -> Parsed {
        wants_value(self.sum()?)
    }

    fn sum(&mut self) -> Parsed {
        self.math(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Parsed {
        self.math(&[("*", Operator::Multiply), ("/", Operator::Divide)], Self::signed)
    }

    fn math(&mut self, operators: &[(&'static str, Operator)], inner: fn(&mut Self) -> Parsed) -> Parsed {
        let (start, first) = (self.span(), inner(self)?);
        let mut rest = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.token() == Token::Symbol(symbol)) {
            self.advance();
            rest.push((*operator, wants_operand(inner(self)?)?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Ok(Node { syntax: Syntax::Math(Box::new(wants_operand(first)?), rest), span: self.since(&start) })
    }

    fn signed(&mut self) -> Parsed {
        let start = self.span();
        let negative = match self.token() {
            Token::Symbol("-") => true,
            Token::Symbol("+") => false,
            _ => return self.primary(),
        };
        self.advance();
        if let (true, Token::Int(digits)) = (negative, self.token()) {
            return self.int(&format!("-{digits}"), start);
        }
        let inner = wants_operand(self.primary()?)?;
        let syntax = match inner.syntax {
            syntax if !negative => syntax,
            Syntax::Float(value) => Syntax::Float(-value),
            _ => Syntax::Negative(Box::new(inner)),
        };
        Ok(Node { syntax, span: self.since(&start) })
    }

    fn int(&mut self, digits: &str, start: Span) -> Parsed {
        self.advance();
        let span = self.since(&start);
        let value = digits.parse().map_err(|_| Mistake::new(&span, format!("{digits} does not fit in 64 bits")))?;
        Ok(Node { syntax: Syntax::Int(value), span })
    }

    fn primary(&mut self) -> Parsed {
        let start = self.span();
        let syntax = match self.token() {
            Token::Int(digits) => return self.int(digits, start),
            Token::Float(digits) => {
                let value = digits.parse().map_err(|_| self.expected("a number"))?;
                self.take(Syntax::Float(value))
            }
            Token::Bytes(digits) => {
                let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
                let bytes: Option<Vec<u8>> =
                    pairs.map(|pair| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2)).collect();
                let odd = || Mistake::new(&start, "bytes are written with two digits each, and here is one too few");
                self.take(Syntax::Bytes(bytes.ok_or_else(odd)?))
            }
            Token::String(_) => Syntax::String(self.string()?),
            Token::Symbol("(") => {
                self.advance();
                let inner = self.nested(Self::any)?;
                self.expect(")")?;
                return Ok(Node { syntax: inner.syntax, span: self.since(&start) });
            }
            Token::Symbol("[") => {
                self.advance();
                Syntax::List(self.nested(|parser| parser.separated("]", Self::value))?)
            }
            Token::Symbol("{") => {
                self.advance();
                Syntax::Map(self.nested(|parser| parser.separated("}", Self::entry))?)
            }
            Token::Name("nil") => self.take(Syntax::Nil),
            Token::Name("true") => self.take(Syntax::Bool(true)),
            Token::Name("false") => self.take(Syntax::Bool(false)),
            Token::Name(name) if !["and", "or", "not", "where"].contains(&name) => {
                self.advance();
                self.named(name, start.clone())?
            }
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { syntax, span: self.since(&start) })
    }

    /// Parses the rest after a name.
    fn named(&mut self, name: &str, span: Span) -> Parsed<Syntax> {
        let is_call = self.token() == Token::Symbol("(");
        match (is_editor(name), is_call) {
            (true, true) => {
                let message = format!("converter names must start with an uppercase letter but got '{name}'");
                let meant = functions::TRANSFORM.iter().copied().flatten().map(|function| function.name);
                let meant = meant.filter(|known| !is_editor(known)).find(|known| known.eq_ignore_ascii_case(name));
                let help = match meant {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => "an editor starts a statement, and stands nowhere else".to_owned(),
                };
                Err(Mistake::new(&span, message).help(help))
            }
            (false, true) => Ok(Syntax::Call(self.call(name, span)?)),
            (true, false) => self.path(name, span),
            (false, false) if name.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(Syntax::Function(name.into())),
            (false, false) => Ok(Syntax::Enum(name.into())),
        }
    }

    fn path(&mut self, first: &str, span: Span) -> Parsed<Syntax> {
        let mut fields = Vec::new();
        let (mut name, mut span) = (first, span);
        loop {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let message = format!("a path is written in small letters, and here is {name}");
                return Err(Mistake::new(&span, message));
            }
            let keys = self.keys()?;
            fields.push(Field { name: name.to_owned(), keys, span });
            if self.token() != Token::Symbol(".") {
                return Ok(Syntax::Path(fields));
            }
            self.advance();
            let Token::Name(next) = self.token() else { return Err(self.expected("the name of a field")) };
            (name, span) = (next, self.span());
            self.advance();
        }
    }

    /// `["a"][0]…`
    fn keys(&mut self) -> Parsed<Vec<Node>> {
        let mut keys = Vec::new();
        while self.token() == Token::Symbol("[") {
            self.advance();
            keys.push(self.nested(Self::value)?);
            self.expect("]")?;
        }
        Ok(keys)
    }

    /// Parses the rest of a call after its name.
    fn call(&mut self, name: &str, name_span: Span) -> Parsed<Call> {
        self.expect("(")?;
        let arguments = self.nested(|parser| parser.separated(")", Self::argument))?;
        let named = arguments.iter().position(|argument| argument.name.is_some()).unwrap_or(arguments.len());
        if let Some(unnamed) = arguments.iter().skip(named).find(|argument| argument.name.is_none()) {
            return Err(Mistake::new(&unnamed.value.span, "unnamed argument used after named argument"));
        }
        Ok(Call { name: name.to_owned(), name_span, arguments, keys: self.keys()? })
    }

    fn argument(&mut self) -> Parsed<Argument> {
        let name = match (self.token(), self.following()) {
            (Token::Name(name), Token::Symbol("=")) => Some((name.to_owned(), self.span())),
            _ => None,
        };
        if name.is_some() {
            self.advance();
            self.advance();
        }
        Ok(Argument { name, value: self.value()? })
    }

    fn entry(&mut self) -> Parsed<(Vec<u8>, Node)> {
        let Token::String(_) = self.token() else { return Err(self.expected("a key in quotes")) };
        let key = self.string()?;
        self.expect(":")?;
        Ok((key, self.value()?))
    }

    fn separated<T>(&mut self, close: &'static str, item: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while self.token() != Token::Symbol(close) {
            items.push(item(self)?);
            if self.token() == Token::Symbol(",") {
                self.advance();
            } else if self.token() != Token::Symbol(close) {
                return Err(self.expected(&format!(", or {close}")));
            }
        }
        self.advance();
        Ok(items)
    }

    fn string(&mut self) -> Parsed<Vec<u8>> {
        let Token::String(raw) = self.token() else { return Err(self.expected("text in quotes")) };
        let start = self.span().start + 1;
        let bytes = unquoted(raw).map_err(|at| {
            let escape = raw.get(at.clone()).unwrap_or_default();
            let mistake = Mistake::new(&(start + at.start..start + at.end), format!("{escape} is not an escape"));
            mistake.help(format!("a backslash of a pattern is written twice: \\{escape}"))
        })?;
        self.advance();
        Ok(bytes)
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(Mistake::new(&self.span(), format!("this nests more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Refuses expressions that are not conditions; a converter may be one, if it returns a boolean.
    fn wants_condition(&self, node: Node) -> Parsed {
        match node.syntax {
            Syntax::Bool(_) | Syntax::Call(_) => Ok(node),
            Syntax::Compare(_) | Syntax::Not(_) | Syntax::All(_) | Syntax::Any(_) => Ok(node),
            _ => {
                let written = self.text.get(node.span.clone()).unwrap_or_default();
                let mistake = match self.token() {
                    Token::End | Token::Symbol(")") => Mistake::new(&node.span, format!("{written} is no condition")),
                    _ => self.expected("a comparison, such as =="),
                };
                Err(mistake.help(advice::of_condition(written)))
            }
        }
    }

    fn token(&self) -> Token<'t> {
        self.tokens.get(self.at).map_or(Token::End, |(token, _)| *token)
    }

    fn following(&self) -> Token<'t> {
        self.tokens.get(self.at + 1).map_or(Token::End, |(token, _)| *token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(self.text.len()..self.text.len(), |(_, span)| span.clone())
    }

    /// The span from `start` to the end of the previous token.
    fn since(&self, start: &Span) -> Span {
        let last = self.at.checked_sub(1).and_then(|last| self.tokens.get(last));
        start.start..last.map_or(start.end, |(_, span)| span.end)
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn take(&mut self, syntax: Syntax) -> Syntax {
        self.advance();
        syntax
    }

    fn is_word(&self, word: &str) -> bool {
        self.token() == Token::Name(word)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, symbol: &'static str) -> Parsed<()> {
        if self.token() != Token::Symbol(symbol) {
            return Err(self.expected(symbol));
        }
        self.advance();
        Ok(())
    }

    fn end(&self, wanted: &str) -> Parsed<()> {
        if self.token() == Token::End { Ok(()) } else { Err(self.expected(wanted).help(self.unit())) }
    }

    /// Advice for a number with a unit.
    fn unit(&self) -> Option<String> {
        let (_, number) = self.tokens.get(self.at.checked_sub(1)?)?;
        let unit = self.span();
        let written = self.text.get(number.start..unit.end)?;
        let is_one = number.end == unit.start && written.starts_with(|first: char| first.is_ascii_digit());
        is_one.then(|| format!("a duration is written Duration(\"{written}\")"))
    }

    fn expected(&self, wanted: &str) -> Mistake {
        let span = self.span();
        let found = self.token().words(self.text, &span);
        Mistake::new(&span, format!("expected {wanted}, found {found}"))
    }
}

fn wants_value(node: Node) -> Parsed {
    match node.syntax {
        Syntax::Compare(_) | Syntax::Not(_) | Syntax::All(_) | Syntax::Any(_) => {
            Err(Mistake::new(&node.span, "a condition stands here, where a value should"))
        }
        _ => Ok(node),
    }
}

fn wants_operand(node: Node) -> Parsed {
    match node.syntax {
        Syntax::Int(_) | Syntax::Float(_) | Syntax::Path(_) | Syntax::Call(_) => Ok(node),
        Syntax::Negative(_) | Syntax::Math(..) => Ok(node),
        _ => Err(Mistake::new(&node.span, "only numbers, paths and converters can be calculated with")),
    }
}
