//! Patterns known only when a statement runs: they may come from the telemetry, and differ for each record.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use super::{Pattern, build, translated, translated_glob};
use crate::otlp::slice::{Allowance, WORKED_ON};
use crate::ottl::value::Fault;

/// They have a smaller size limit than configured patterns, and are charged to the request's allowance.
const SIZE: usize = 256 << 10;
/// Maximum cached patterns per request.
const KNOWN: usize = 8;

/// The recent patterns of a request.
#[derive(Default)]
pub(crate) struct Computed(RefCell<Vec<(bool, Box<str>, Rc<Pattern>)>>);

impl Computed {
    /// Compiles a regular expression or a glob.
    pub(crate) fn get(&self, pattern: &[u8], is_glob: bool, again: &Allowance) -> Result<Rc<Pattern>, Fault> {
        let text = std::str::from_utf8(pattern).map_err(|_| Fault::new("the pattern is not UTF-8"))?;
        let mut known = self.0.borrow_mut();
        if let Some((.., pattern)) = known.iter().find(|(glob, known, _)| *glob == is_glob && **known == *text) {
            return Ok(pattern.clone());
        }
        again.spend(SIZE * WORKED_ON)?;
        let translated = if is_glob { translated_glob(text) } else { translated(text) };
        let compiled = translated.and_then(|translated| build(&translated, SIZE));
        let compiled = compiled.map_err(|error| Fault::new(format!("{text:?} is not a valid pattern: {error}")))?;
        let compiled = Rc::new(compiled);
        if known.len() == KNOWN {
            known.clear();
        }
        known.push((is_glob, text.into(), compiled.clone()));
        Ok(compiled)
    }
}

/// A pattern from the config, or a computed one.
pub(crate) enum Found<'a> {
    Compiled(&'a Pattern),
    Computed(Rc<Pattern>),
}

impl Deref for Found<'_> {
    type Target = Pattern;

    fn deref(&self) -> &Pattern {
        match self {
            Found::Compiled(pattern) => pattern,
            Found::Computed(pattern) => pattern,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::slice;

    #[test]
    fn those_that_are_known_cost_nothing_and_the_others_have_an_end() {
        let (computed, again) = (Computed::default(), slice::within_slice(|| Allowance::of(0)).unwrap());
        for _ in 0..1000 {
            assert!(computed.get(b"a+", false, &again).unwrap().is_match(b"caat"));
        }
        assert!(!again.is_exhausted());
        let fault = computed.get(b"a+", true, &again).err();
        assert!(again.is_exhausted() && fault.is_some(), "a glob is another pattern");
    }
}
