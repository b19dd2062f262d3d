//! The work of authenticator extensions: accept or reject a request by its headers, and add credentials to our own
//! requests. Files are read again when they change. Secrets never appear in messages.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest;
use smallvec::SmallVec;

use crate::telemetry::Answer;

use super::files::{self, Watched};

/// Minimum interval between checks of the files, which happen only when a request needs them.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum tokens or users of one authenticator: each request is compared with all of them.
pub(crate) const MOST: usize = 1024;

/// Represents a credential: fixed length, and useless to send.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of a text given in parts.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The current credentials of an authenticator.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Credentials {
    /// The header value we send; `None` for authenticators that only serve receivers.
    pub(crate) sent: Option<HeaderValue>,
    /// The credentials we accept.
    pub(crate) accepted: Vec<Fingerprint>,
}

/// How one kind of authenticator encodes and parses credentials.
pub(crate) trait Scheme: Debug + Send + Sync {
    /// The credentials from the contents of its files, in their order; default ones if none is valid. Errors contain no
    /// secrets.
    fn credentials(&self, files: &[String]) -> Result<Credentials, String>;
    /// The fingerprints that identify a request's header.
    fn presented(&self, header: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str>;
    /// The messages for a missing header and for unknown credentials.
    fn refusals(&self) -> (&str, &'static str);
    /// The value of `WWW-Authenticate`.
    fn challenge(&self) -> HeaderValue;
    /// Attributes of an accepted sender, named as in `from_context: auth.NAME`.
    fn attributes(&self, _: &[u8]) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

#[derive(Debug)]
pub struct Authenticator {
    scheme: Arc<dyn Scheme>,
    header: HeaderName,
    pub(crate) serves: bool,
    pub(crate) sends: bool,
    credentials: Watched<Credentials>,
}

impl Authenticator {
    /// The paths of the files, each with its key.
    pub(crate) fn new(
        scheme: Arc<dyn Scheme>,
        header: HeaderName,
        files: Vec<(String, PathBuf)>,
        serves: bool,
        sends: bool,
    ) -> Authenticator {
        let reader = scheme.clone();
        let (keys, files): (Vec<_>, _) = files.into_iter().unzip();
        let credentials = Watched::new(keys.join(", "), files, LOOK, move |files| {
            let texts = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
            let credentials = reader.credentials(&texts)?;
            Ok((credentials != Credentials::default()).then_some(credentials))
        });
        Authenticator { scheme, header, serves, sends, credentials }
    }

    /// Whether it has credentials for neither side: an empty `filename` means no token.
    pub(crate) fn is_absent(&self) -> bool {
        !self.serves && !self.sends
    }

    /// Accepts or rejects a request with these headers.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let refused = |why: &str| Answer::unauthenticated(why, self.scheme.challenge());
        let (missing, unknown) = self.scheme.refusals();
        let given = headers.get(&self.header).filter(|value| !value.is_empty()).ok_or_else(|| refused(missing))?;
        let presented = self.scheme.presented(given.as_bytes()).map_err(refused)?;
        // The fault is ours: the client keeps its data and retries.
        let unavailable = |_| Answer::unavailable("the receiver cannot read its credentials", Duration::from_secs(1));
        let known = self.credentials.current(false).await.map_err(unavailable)?;
        let pairs = known.accepted.iter().flat_map(|accepted| presented.iter().map(move |given| (accepted, given)));
        // All pairs are compared, so timing reveals nothing.
        let found = pairs.fold(false, |found, (accepted, given)| found | is_equal(accepted, given));
        if found { Ok(()) } else { Err(refused(unknown)) }
    }

    /// Attributes of the sender of these headers, which were accepted.
    pub(crate) fn attributes(&self, headers: &HeaderMap) -> Vec<(&'static str, String)> {
        headers.get(&self.header).map_or_else(Vec::new, |value| self.scheme.attributes(value.as_bytes()))
    }

    /// The header we send; `anew` checks the files at once.
    pub(crate) async fn header(&self, anew: bool) -> Result<(HeaderName, HeaderValue), String> {
        let value = self.credentials.current(anew).await?.sent.clone();
        Ok((self.header.clone(), value.ok_or("it is no client authenticator")?))
    }

    /// Waits until the header we send changes. It compares with the known credentials, without reading the files first: that
    /// could already find the new ones.
    pub(crate) async fn renewed(&self) {
        let known = |known: Result<Arc<Credentials>, String>| known.ok()?.sent.clone();
        let sent = known(self.credentials.known());
        while known(self.credentials.current(false).await) == sent {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the files on this thread, and logs failures.
    pub(crate) fn warm_up(&self) -> Result<(), String> {
        if self.is_absent() { Ok(()) } else { self.credentials.look().map(drop) }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = files::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into()));
    text.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Compares in constant time.
pub(crate) fn is_equal(left: &Fingerprint, right: &Fingerprint) -> bool {
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0
}
