//! All matches of a pattern in a text, in a bounded number of steps.
//!
//! A single search reads a text once. Repeated searches may read the rest of it each time: for every `b`, `(a.*;|b)`
//! reads on to the end of the line in search of a `;`. Therefore reads beyond the matches are charged to an
//! [`Allowance`]. While that covers the whole rest of the text for each match, nothing is measured; then an automaton
//! of the same pattern tells how far a search has read, which the regex crate does not.

use std::ops::Deref;
use std::sync::OnceLock;

use regex::bytes::{Captures, Match, Regex};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::{NEST, SIZE};
use crate::otlp::slice::{Allowance, Exhausted, WORKED_ON};

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// Built on first use; `None` if it would be too large.
    automaton: OnceLock<Option<Box<DFA>>>,
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Pattern {
        Pattern { regex, automaton: OnceLock::new() }
    }
}

/// For single searches; the methods for all matches are below.
impl Deref for Pattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.regex
    }
}

impl Pattern {
    /// The matches that Go would replace, with their groups: no empty match within a character.
    pub(crate) fn all_captures<'p, 't>(
        &'p self,
        text: &'t [u8],
        again: &'p Allowance,
    ) -> impl Iterator<Item = Result<Captures<'t>, Exhausted>> {
        let mut meter = Meter::new(self, text, again);
        self.regex.captures_iter(text).filter_map(move |captures| {
            let whole = captures.get(0)?;
            let is_seen = meter.passes(&whole);
            is_seen.map(|is_seen| is_seen.then_some(captures)).transpose()
        })
    }

    /// The same without groups.
    pub(crate) fn all_matches<'p, 't>(
        &'p self,
        text: &'t [u8],
        again: &'p Allowance,
    ) -> impl Iterator<Item = Result<Match<'t>, Exhausted>> {
        let mut meter = Meter::new(self, text, again);
        self.regex.find_iter(text).filter_map(move |found| {
            let is_seen = meter.passes(&found);
            is_seen.map(|is_seen| is_seen.then_some(found)).transpose()
        })
    }

    fn automaton(&self) -> Option<&DFA> {
        let build = || {
            let mut builder = DFA::builder();
            builder
                .syntax(syntax::Config::new().utf8(false).nest_limit(NEST))
                .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(SIZE)))
                .configure(DFA::config().cache_capacity(SIZE).minimum_cache_clear_count(Some(3)));
            builder.build(self.regex.as_str()).ok().map(Box::new)
        };
        self.automaton.get_or_init(build).as_deref()
    }
}

/// Measures the repeated reads of the searches in one text.
struct Meter<'p, 't> {
    pattern: &'p Pattern,
    text: &'t [u8],
    again: &'p Allowance,
    /// The start of the next search.
    at: usize,
    cache: Option<Cache>,
}

impl<'p, 't> Meter<'p, 't> {
    fn new(pattern: &'p Pattern, text: &'t [u8], again: &'p Allowance) -> Self {
        Meter { pattern, text, again, at: 0, cache: None }
    }

    /// Charges the search for this match; returns whether Go would report it.
    fn passes(&mut self, found: &Match) -> Result<bool, Exhausted> {
        let start = std::mem::replace(&mut self.at, found.end());
        if !self.again.covers(self.text.len() - found.end()) {
            let read = self.read_from(start).unwrap_or(self.text.len());
            // Detecting the end of a match takes one more byte, which is not a repeated read.
            self.again.spend(read.saturating_sub(found.end() + 1).saturating_mul(WORKED_ON))?;
        }
        Ok(!found.is_empty() || self.text.get(found.start()).is_none_or(|byte| byte & 0xc0 != 0x80))
    }

    /// The position up to which a search from `start` reads.
    fn read_from(&mut self, start: usize) -> Option<usize> {
        let automaton = self.pattern.automaton()?;
        let cache = self.cache.get_or_insert_with(|| automaton.create_cache());
        let input = Input::new(self.text).range(start..).anchored(Anchored::No);
        let mut state = automaton.start_state_forward(cache, &input).ok()?;
        let mut at = start;
        for byte in self.text.get(start..)? {
            state = automaton.next_state(cache, state, *byte).ok()?;
            // The automaton reports its state one byte late.
            if state.is_tagged() && (state.is_dead() || state.is_quit()) {
                break;
            }
            at += 1;
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile;
    use super::*;
    use crate::otlp::slice;

    /// Checks how far a search reads from the start of a text.
    #[test]
    fn read() {
        let check = |pattern: &str, text: &str, expected: usize| {
            let (pattern, again) = (compile(pattern).unwrap(), Allowance::of(0));
            assert_eq!(Meter::new(&pattern, text.as_bytes(), &again).read_from(0), Some(expected), "{text}");
        };
        check("b", "aabaaaaa", 4);
        check("ab*", "abbbc___", 5);
        check("(a.*;|b)", "a b b b b", 9);
        check("(a.*;|b)", "a b b\nb b", 5);
        check("(a.*;|b)", "c b b b b", 4);
        check("never", "aaaaaaaa", 8);
    }

    /// With the allowance of a slice: linear searches find all matches, however many, and quadratic ones stop.
    #[test]
    fn every_match_in_a_bounded_number_of_steps() {
        let found = |pattern: &str, text: &str| {
            let pattern = compile(pattern).unwrap();
            let again = slice::within_slice(|| Allowance::of(text.len())).unwrap();
            let matches: Result<Vec<_>, _> = pattern.all_matches(text.as_bytes(), &again).collect();
            assert_eq!(again.is_exhausted(), matches.is_err());
            let again = slice::within_slice(|| Allowance::of(text.len())).unwrap();
            let captures: Result<Vec<_>, _> = pattern.all_captures(text.as_bytes(), &again).collect();
            assert_eq!(again.is_exhausted(), captures.is_err());
            let count = matches.map(|matches| matches.len());
            assert_eq!(count, captures.map(|captures| captures.len()));
            count
        };
        assert_eq!(found("[a-z]", &"ab ".repeat(10_000)), Ok(20_000));
        assert_eq!(found(r"[0-9]+|'[^']*'", &"12 'a' ".repeat(4_000)), Ok(8_000));
        // A search reads at most to the end of its line.
        assert_eq!(found("(a.*;|b)", &"a b b b\n".repeat(4_000)), Ok(12_000));
        assert_eq!(found(r"(password=.*;|token=\w+)", &"password=token=x ".repeat(100)), Ok(100));
        for (pattern, text) in [
            (r"(password=.*;|token=\w+)", "password=token=x ".repeat(2_000)),
            (r"/\*.*?\*/|'[^']*'|[0-9]+", "/* 1 ".repeat(6_000)),
            ("x*y|x", "x".repeat(20_000)),
        ] {
            assert_eq!(found(pattern, &text), Err(Exhausted), "{pattern}");
        }
    }
}
