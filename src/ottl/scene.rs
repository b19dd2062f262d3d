//! What a statement stands before: one record with everything around it.

use crate::telemetry::{Client, Now};

use super::value::{Arena, Value};

pub struct Scene<'s, 'a> {
    pub arena: &'a Arena,
    pub now: Now,
    pub client: Option<&'s Client>,
    /// What `Expression::Input` evaluates to: the text that a function given by its name is called with.
    pub input: Value<'a>,
}

impl Scene<'_, '_> {
    /// Whether the span at hand has no parent.
    pub fn is_root_span(&self) -> bool {
        false
    }
}
