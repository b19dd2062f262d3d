//! Why a request is not accepted.

use std::fmt;
use std::time::Duration;

use tonic::Code;

use super::{Answer, Reason, Status};
use crate::otlp::slice::Exhausted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Temporary: nothing was taken, and the client may retry after the hint. `fill` names the full limit.
    Busy {
        after: Duration,
        reason: Reason,
        fill: Option<Fill>,
    },
    /// Final: larger than `limit` bytes, as sent or inflated, or than the queue's capacity.
    TooLarge {
        limit: u64,
        unit: &'static str,
    },
    /// Final: not valid OTLP.
    Malformed(String),
    /// The upstream's answer, passed on to a client that waited for it.
    Rejected(Status),
    Internal,
}

/// The usage of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// A config key, or the resource that the limit bounds.
    pub(crate) limit: &'static str,
    pub(crate) used: u64,
    pub(crate) most: u64,
    pub(crate) unit: &'static str,
}

impl Fill {
    pub(crate) fn share(&self) -> f64 {
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

    pub(crate) fn full(reason: Reason, fill: Fill) -> Refusal {
        Refusal::Busy { after: Duration::from_secs(1), reason, fill: Some(fill) }
    }

    /// It may be accepted later.
    pub(crate) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal::Rejected(Status { code: Code::Unavailable, message: message.into() })
    }

    /// Too much work, also on a retry.
    pub(crate) fn too_much_work(message: impl Into<String>) -> Refusal {
        Refusal::Rejected(Status { code: Code::InvalidArgument, message: message.into() })
    }

    /// Whether it names a full limit.
    pub(crate) fn has_fill(&self) -> bool {
        matches!(self, Refusal::Busy { fill: Some(_), .. })
    }

    /// Whether the size is to blame, so a part of it may be accepted.
    pub(crate) fn is_of_size(&self) -> bool {
        matches!(self, Refusal::TooLarge { .. })
    }

    /// Whether the amount of work is to blame, for which one of many requests may be responsible.
    pub(crate) fn is_of_work(&self) -> bool {
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

    pub(crate) fn reason(&self) -> Reason {
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
