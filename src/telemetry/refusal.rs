//! Why the chain does not take a request.

use std::fmt;
use std::time::Duration;

use tonic::Code;

use super::{Answer, Reason, Status};
use crate::otlp::slice::Exhausted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not now: nothing was taken, and the client may send it again after the hint. Where a limit is full, which.
    Busy {
        after: Duration,
        reason: Reason,
        fill: Option<Fill>,
    },
    /// Larger than `limit` bytes, whole or after inflating, or than a queue's many items: final.
    TooLarge {
        limit: u64,
        unit: &'static str,
    },
    /// Not valid OTLP: final.
    Malformed(String),
    /// The upstream's own answer, passed on to a client that waited for it.
    Rejected(Status),
    Internal,
}

/// How much of a limit is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// A key of the config, or what the limit bounds.
    pub limit: &'static str,
    pub used: u64,
    pub most: u64,
    pub unit: &'static str,
}

impl Fill {
    pub fn share(&self) -> f64 {
        self.used as f64 / self.most.max(1) as f64
    }
}

impl fmt::Display for Fill {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Fill { limit, used, most, unit } = self;
        match *unit {
            "bytes" if *most >= 1 << 20 => {
                let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                write!(out, "{limit}: {:.1} of {:.1} MiB", mebibytes(*used), mebibytes(*most))
            }
            unit => write!(out, "{limit}: {used} of {most} {unit}"),
        }
    }
}

impl Refusal {
    pub fn busy(reason: Reason) -> Refusal {
        Refusal::Busy { after: Duration::from_secs(1), reason, fill: None }
    }

    pub fn full(reason: Reason, fill: Fill) -> Refusal {
        Refusal::Busy { after: Duration::from_secs(1), reason, fill: Some(fill) }
    }

    /// It may be taken later.
    pub fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::Rejected(Status { code: Code::Unavailable, message: message.into() })
    }

    /// It would be too much work the next time, too.
    pub fn too_much_work(message: impl Into<String>) -> Refusal {
        Refusal::Rejected(Status { code: Code::InvalidArgument, message: message.into() })
    }

    /// Whether it names a limit that is full.
    pub fn has_fill(&self) -> bool {
        matches!(self, Refusal::Busy { fill: Some(_), .. })
    }

    /// Whether it is about how much there is or is made of it, so that a part of it may be taken.
    pub fn is_of_size(&self) -> bool {
        matches!(self, Refusal::TooLarge { .. })
    }

    /// Whether it is about how much work it is, which one of many requests may be to blame for.
    pub fn is_of_work(&self) -> bool {
        matches!(self, Refusal::Rejected(status) if status.code == Code::InvalidArgument)
    }

    pub fn answer(&self) -> Answer {
        match self {
            Refusal::Busy { after, reason, fill } => {
                let fill = fill.map_or_else(String::new, |fill| format!(" ({fill})"));
                Answer::unavailable(format!("{}{fill}", reason.words()), *after)
            }
            Refusal::TooLarge { limit, unit } => Answer::too_large(format!("request is larger than {limit} {unit}")),
            Refusal::Malformed(why) => Answer::malformed(why),
            Refusal::Rejected(status) => Answer::of(status.clone()),
            Refusal::Internal => Answer::internal("internal error"),
        }
    }

    pub fn reason(&self) -> Reason {
        match self {
            Refusal::Busy { reason, .. } => *reason,
            Refusal::TooLarge { .. } => Reason::TooLarge,
            Refusal::Malformed(_) | Refusal::Rejected(_) => Reason::RejectedUpstream,
            Refusal::Internal => Reason::Internal,
        }
    }
}

impl From<Exhausted> for Refusal {
    fn from(_: Exhausted) -> Refusal {
        Refusal::too_much_work(Exhausted::MESSAGE)
    }
}
