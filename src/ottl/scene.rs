//! What a statement stands before: one record with everything around it.

use crate::telemetry::{Client, Now};

use super::value::Arena;

pub struct Scene<'s, 'a> {
    pub arena: &'a Arena,
    pub now: Now,
    pub client: Option<&'s Client>,
}
