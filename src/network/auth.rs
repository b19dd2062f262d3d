//! What the authenticators among the extensions do (facts 7.5, 7.6): say by its head alone whether a request may come in,
//! and who we are when we send. What files hold is read again when they change. Secrets stay out of every message.

use std::fmt::Debug;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::otlp::status::code;
use crate::telemetry::Status;

use super::files::{Stamp, stamps};

/// Files are looked at no more often, and only while requests ask for what they hold.
const LOOK: Duration = Duration::from_secs(1);
/// The longest file of credentials.
const LONGEST: u64 = 1 << 20;

/// Stands for a credential: as long as any other, and nothing that can be sent.
pub type Fingerprint = [u8; 32];

/// The fingerprint of a text that is given in parts.
pub fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What an authenticator knows at the moment.
#[derive(Debug, Default, PartialEq)]
pub struct Credentials {
    /// What we send; none when it is for receivers alone.
    pub sent: Option<HeaderValue>,
    /// What we accept.
    pub accepted: Vec<Fingerprint>,
}

/// How one kind of authenticator writes and reads credentials.
pub trait Scheme: Debug + Send + Sync {
    /// The credentials, from the contents of its files in their order. An error names no secret.
    fn credentials(&self, files: &[String]) -> Result<Credentials, String>;
    /// What the header of a request may be known by.
    fn presented(&self, header: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str>;
    /// What a request without the header is told, and one whose credentials are unknown.
    fn refusals(&self) -> (&str, &'static str);
    /// `WWW-Authenticate`.
    fn challenge(&self) -> HeaderValue;
}

#[derive(Debug)]
pub struct Authenticator {
    scheme: Box<dyn Scheme>,
    header: HeaderName,
    files: Vec<PathBuf>,
    pub serves: bool,
    pub sends: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    credentials: Option<Arc<Credentials>>,
    looked: Option<Instant>,
    /// What the files were when they were read; none when they shall be read again.
    stamps: Option<Vec<Stamp>>,
    failure: Option<String>,
}

impl Authenticator {
    pub fn new(
        scheme: Box<dyn Scheme>,
        header: HeaderName,
        files: Vec<PathBuf>,
        serves: bool,
        sends: bool,
    ) -> Authenticator {
        Authenticator { scheme, header, files, serves, sends, state: Mutex::default() }
    }

    /// Whether a request with these headers may come in.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        let refused = |why: &str| Status { code: code::UNAUTHENTICATED, message: why.to_owned() };
        let (missing, unknown) = self.scheme.refusals();
        let given = headers.get(&self.header).filter(|value| !value.is_empty()).ok_or_else(|| refused(missing))?;
        let presented = self.scheme.presented(given.as_bytes()).map_err(refused)?;
        // The fault is ours: the client shall keep what it has and come again.
        let unavailable =
            |_| Status { code: code::UNAVAILABLE, message: "the receiver cannot read its credentials".to_owned() };
        let known = self.current(false).map_err(unavailable)?;
        let pairs = known.accepted.iter().flat_map(|accepted| presented.iter().map(move |given| (accepted, given)));
        // Every pair is compared, so that the time tells nothing.
        let found = pairs.fold(false, |found, (accepted, given)| found | is_equal(accepted, given));
        if found { Ok(()) } else { Err(refused(unknown)) }
    }

    pub fn challenge(&self) -> HeaderValue {
        self.scheme.challenge()
    }

    /// The header that we send; `anew` looks at the files at once.
    pub fn header(&self, anew: bool) -> Result<(HeaderName, HeaderValue), String> {
        let value = self.current(anew)?.sent.clone();
        Ok((self.header.clone(), value.ok_or("it is no client authenticator")?))
    }

    /// Reads what it needs, and says in the log when that fails.
    pub fn warm_up(&self) -> Result<(), String> {
        self.current(true).map(drop)
    }

    fn current(&self, anew: bool) -> Result<Arc<Credentials>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |looked: Instant| self.files.is_empty() || (!anew && looked.elapsed() < LOOK);
        if !state.looked.is_some_and(is_fresh) {
            state.looked = Some(Instant::now());
            self.look(&mut state);
        }
        let State { credentials, failure, .. } = &*state;
        credentials.clone().ok_or_else(|| failure.clone().unwrap_or_default())
    }

    /// Reads the files again if they have changed. Where that fails, what was known stays known.
    fn look(&self, state: &mut State) {
        let stamps = stamps(self.files.iter().map(PathBuf::as_path));
        if state.credentials.is_some() && stamps.is_some() && stamps == state.stamps {
            return;
        }
        let texts = self.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>();
        match texts.and_then(|texts| self.scheme.credentials(&texts)) {
            Ok(credentials) => {
                let credentials = Some(Arc::new(credentials));
                if state.credentials.is_some() && state.credentials != credentials {
                    tracing::info!(files = ?self.files, "credentials were renewed");
                }
                (state.credentials, state.stamps, state.failure) = (credentials, stamps, None);
            }
            Err(error) => {
                if state.failure.as_ref() != Some(&error) {
                    tracing::warn!(%error, old_ones_stay = state.credentials.is_some(), "cannot read credentials");
                }
                (state.stamps, state.failure) = (None, Some(error));
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(format!("cannot read {}: it is larger than {LONGEST} bytes", path.display()));
    }
    Ok(text)
}

/// In a time that does not depend on where they differ.
fn is_equal(left: &Fingerprint, right: &Fingerprint) -> bool {
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0
}
