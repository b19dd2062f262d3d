//! From telemetry to the body that is sent: the unchanged parts, or one copy of them, in JSON, compressed, or both.
//!
//! A copy is charged before it is made, with an estimate. If the estimate is too low and no more memory is free, the
//! copy is discarded and made again with a larger charge: no export waits for memory while it holds some.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use tonic::Code;

use crate::otlp::deflate::{Deflater, WHOLE, deflate};
use crate::otlp::inflate::Coding;
use crate::otlp::json;
use crate::otlp::pieces::Pieces;
use crate::telemetry::{Budget, Charge, Share, Status, Telemetry};

use super::{Payload, SendError};

/// The size of the text's pieces.
const PIECE: usize = 64 << 10;
/// The minimum first charge, and its growth factor after a copy that did not fit.
const LEAST: usize = 1024;
const MORE: usize = 4;
/// The maximum that encoders add to incompressible data.
const ADDED: usize = 64 << 10;

/// Longer bodies are compressed aside.
const LONG: usize = 64 << 10;

pub struct Compression {
    form: Form,
    budget: Arc<Budget>,
}

/// The encoding of a copy.
#[derive(Clone, Copy)]
pub struct Form {
    pub json: bool,
    pub coding: Coding,
    /// `None` means the coding's default.
    pub level: Option<i32>,
}

impl Compression {
    pub fn new(form: Form, budget: Arc<Budget>) -> Compression {
        Compression { form, budget }
    }

    pub(super) fn is_on(&self) -> bool {
        self.form.coding != Coding::Identity
    }

    /// The body of a batch. Without a charge it is the unchanged parts: compressing them would need more memory than
    /// the export share has.
    pub async fn payload(&self, telemetry: &Telemetry) -> Payload {
        let (plain, form) = (Payload::of(telemetry), self.form);
        if !self.is_on() && !form.json {
            return plain;
        }
        let length = plain.length();
        let mut wanted = LEAST
            + match (form.json, self.is_on()) {
                (true, false) => 2 * length,
                (true, true) => length / 2,
                (false, _) => length / 4,
            };
        loop {
            let limit = self.limit().saturating_add(ADDED);
            let most = wanted.min(limit);
            let charge = self.budget.charge_export(most as u64).await;
            let copied = if length > LONG {
                let (telemetry, charge) = (telemetry.share(), charge.clone());
                let done = self.budget.aside_of_exports.run(None, move || form.copy(&telemetry, most, &charge)).await;
                done.unwrap_or_else(|| Err(io::Error::other("the compressor panicked")))
            } else {
                form.copy(telemetry, most, &charge)
            };
            let error = match copied {
                Ok(body) => {
                    let plain = Payload { body: body.into(), ..plain };
                    charge.shrink_to(plain.length() as u64);
                    return Payload { charge: Some(charge), ..plain };
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::FileTooLarge if most < limit => wanted = MORE * most,
                ErrorKind::FileTooLarge if form.json => return self.too_large(plain),
                ErrorKind::FileTooLarge => return plain,
                _ if form.json => {
                    let status = Status { code: Code::Internal, message: format!("cannot compress a batch: {error}") };
                    return Payload { unsendable: Some(SendError::Rejected(status)), ..plain };
                }
                _ => {
                    tracing::error!(%error, "cannot compress a batch, sending it as it is");
                    return plain;
                }
            }
        }
    }

    /// Asks for smaller batches when a copy exceeds the export share.
    pub(super) fn too_large(&self, payload: Payload) -> Payload {
        let (length, limit) = (payload.length(), self.limit());
        let message = format!(
            "a batch of {length} bytes takes more than the {limit} bytes of memory for exports in the form it is sent in: \
             raise limit_mib of the memory_limiter"
        );
        let status = Status { code: Code::ResourceExhausted, message };
        Payload { unsendable: Some(SendError::TooLarge(status)), ..payload }
    }

    fn limit(&self) -> usize {
        usize::try_from(self.budget.limit(Share::Export)).unwrap_or(usize::MAX)
    }
}

impl Form {
    /// A copy of at most `most` bytes, or of more if they are free.
    fn copy(self, telemetry: &Telemetry, most: usize, charge: &Charge) -> io::Result<Vec<Bytes>> {
        let parts: Vec<&[u8]> = telemetry.parts.iter().map(|part| part.bytes.as_ref()).collect();
        if !self.json && telemetry.bytes() <= WHOLE {
            // The compressor's own buffer is this large.
            let body = deflate(self.coding, self.level, &parts, usize::MAX)?;
            let more = body.len().saturating_sub(most) as u64;
            let fits = more == 0 || charge.grow(more);
            return if fits { Ok(vec![Bytes::from(body)]) } else { Err(ErrorKind::FileTooLarge.into()) };
        }
        let mut deflater = Deflater::new(self.coding, self.level, most);
        if !self.json {
            parts.into_iter().try_for_each(|part| deflater.put(part))?;
            return deflater.finish();
        }
        let (mut rest, mut failed) = (Vec::new(), Ok(()));
        let mut take = |text: &mut Vec<u8>, _| {
            failed = deflater.put(text);
            text.clear();
            failed.is_ok()
        };
        json::put_requests(telemetry.signal, &parts, &mut Pieces::new(&mut rest, PIECE, &mut take));
        failed?;
        deflater.put(&rest)?;
        deflater.finish()
    }
}
