//! From telemetry to the body that is sent: the parts as they are, or one compressed copy of them.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;

use crate::otlp::deflate::deflate;
use crate::otlp::inflate::Coding;
use crate::telemetry::{Budget, Telemetry};

use super::Payload;

pub struct Compression {
    coding: Coding,
    level: Option<i32>,
    budget: Arc<Budget>,
}

impl Compression {
    pub fn new(coding: Coding, level: Option<i32>, budget: Arc<Budget>) -> Compression {
        Compression { coding, level, budget }
    }

    pub fn is_on(&self) -> bool {
        self.coding != Coding::Identity
    }

    /// The body of a batch in its wire form.
    pub async fn payload(&self, telemetry: &Telemetry) -> Payload {
        let plain = Payload::of(telemetry);
        if self.is_on() { self.compressed(plain).await } else { plain }
    }

    /// The same payload, its body compressed. Should that fail, it goes as it is: the caller looks at the charge.
    pub async fn compressed(&self, plain: Payload) -> Payload {
        let length = plain.length();
        let guess = length / 4 + 1024;
        let charge = self.budget.charge_export(guess as u64).await;
        let parts: Vec<&[u8]> = plain.body.iter().map(|piece| piece.as_ref()).collect();
        // The other connections of this worker get a turn before a long piece of work.
        tokio::task::yield_now().await;
        match deflate(self.coding, self.level, &parts) {
            Ok(body) => {
                charge.shrink_to(body.len() as u64);
                Payload { body: smallvec![Bytes::from(body)], charge: Some(charge), ..plain }
            }
            Err(error) => {
                tracing::error!(%error, "cannot compress a batch, sending it as it is");
                plain
            }
        }
    }
}
