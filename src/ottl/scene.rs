//! The input of a statement: one message with everything around it.

use crate::otlp::rewrite::Sight;
use crate::otlp::schema::span;
use crate::telemetry::{Client, Now};

use super::value::{Arena, Fault, Value};

pub struct Scene<'s, 'a> {
    pub(crate) arena: &'a Arena,
    now: Option<Now>,
    pub(super) client: Option<&'s Client>,
    /// The value of `Expression::Input`: the text passed to a function given by name.
    pub(super) input: Value<'a>,
    /// The messages that paths read and write.
    pub(crate) sight: &'s mut Sight<'a>,
    /// The scratch map, an encoded `KeyValueList`; the builder of the scene decides its lifetime.
    pub(crate) cache: &'a [u8],
}

impl<'s, 'a> Scene<'s, 'a> {
    pub fn new(arena: &'a Arena, now: Now, client: Option<&'s Client>, sight: &'s mut Sight<'a>) -> Self {
        arena.share();
        Self::whole(arena, Some(now), client, sight)
    }

    /// A scene that may use all of its arena.
    fn whole(arena: &'a Arena, now: Option<Now>, client: Option<&'s Client>, sight: &'s mut Sight<'a>) -> Self {
        Scene { arena, now, client, input: Value::Nil, sight, cache: &[] }
    }

    /// A scene without telemetry and clock, with an empty `&mut Sight::default()`.
    pub fn nowhere(arena: &'a Arena, sight: &'s mut Sight<'a>) -> Self {
        Self::whole(arena, None, None, sight)
    }

    pub(super) fn now(&self) -> Result<Now, Fault> {
        self.now.ok_or_else(Fault::no_clock)
    }

    /// Whether the span in sight has no parent.
    pub(super) fn is_root_span(&self) -> bool {
        self.sight.record.bytes(span::PARENT_SPAN_ID).iter().all(|byte| *byte == 0)
    }
}
