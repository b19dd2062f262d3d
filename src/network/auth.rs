//! What the authenticators among the extensions do (facts 7.5, 7.6): say by its head alone whether a request may come in,
//! and who we are when we send. What files hold is read again when they change. Secrets stay out of every message.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest;
use smallvec::SmallVec;

use crate::telemetry::Answer;

use super::files::{self, Watched};

/// Files are looked at no more often, and only while requests ask for what they hold.
const LOOK: Duration = Duration::from_secs(1);
/// The most tokens or users of one authenticator: each request is compared with all of them.
pub const MOST: usize = 1024;

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
    /// The credentials, from the contents of its files in their order; default ones where none is valid. An error names no
    /// secret.
    fn credentials(&self, files: &[String]) -> Result<Credentials, String>;
    /// What the header of a request may be known by.
    fn presented(&self, header: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str>;
    /// What a request without the header is told, and one whose credentials are unknown.
    fn refusals(&self) -> (&str, &'static str);
    /// `WWW-Authenticate`.
    fn challenge(&self) -> HeaderValue;
    /// What a header that was accepted tells of its sender, by the names that `from_context: auth.NAME` has for it.
    fn attributes(&self, _: &[u8]) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

#[derive(Debug)]
pub struct Authenticator {
    scheme: Arc<dyn Scheme>,
    header: HeaderName,
    pub serves: bool,
    pub sends: bool,
    credentials: Watched<Credentials>,
}

impl Authenticator {
    /// The files stand beside the paths of the keys that name them.
    pub fn new(
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

    /// Whether it has credentials for neither side: an empty `filename` names no token.
    pub fn is_absent(&self) -> bool {
        !self.serves && !self.sends
    }

    /// Whether a request with these headers may come in.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let refused = |why: &str| Answer::unauthenticated(why, self.scheme.challenge());
        let (missing, unknown) = self.scheme.refusals();
        let given = headers.get(&self.header).filter(|value| !value.is_empty()).ok_or_else(|| refused(missing))?;
        let presented = self.scheme.presented(given.as_bytes()).map_err(refused)?;
        // The fault is ours: the client keeps what it has and comes again.
        let unavailable = |_| Answer::unavailable("the receiver cannot read its credentials", Duration::from_secs(1));
        let known = self.credentials.current(false).await.map_err(unavailable)?;
        let pairs = known.accepted.iter().flat_map(|accepted| presented.iter().map(move |given| (accepted, given)));
        // Every pair is compared, so that the time tells nothing.
        let found = pairs.fold(false, |found, (accepted, given)| found | is_equal(accepted, given));
        if found { Ok(()) } else { Err(refused(unknown)) }
    }

    /// What is known of the sender of these headers, which were admitted.
    pub fn attributes(&self, headers: &HeaderMap) -> Vec<(&'static str, String)> {
        headers.get(&self.header).map_or_else(Vec::new, |value| self.scheme.attributes(value.as_bytes()))
    }

    /// The header that we send; `anew` looks at the files at once.
    pub async fn header(&self, anew: bool) -> Result<(HeaderName, HeaderValue), String> {
        let value = self.credentials.current(anew).await?.sent.clone();
        Ok((self.header.clone(), value.ok_or("it is no client authenticator")?))
    }

    /// Waits until we would send other credentials than those that are known now. A look here, before it waits, could find the
    /// ones to wait for.
    pub async fn renewed(&self) {
        let known = |known: Result<Arc<Credentials>, String>| known.ok()?.sent.clone();
        let sent = known(self.credentials.known());
        while known(self.credentials.current(false).await) == sent {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads what it needs, on this thread, and says in the log when that fails.
    pub fn warm_up(&self) -> Result<(), String> {
        if self.is_absent() { Ok(()) } else { self.credentials.look().map(drop) }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = files::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into()));
    text.map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// In a time that does not depend on where they differ.
fn is_equal(left: &Fingerprint, right: &Fingerprint) -> bool {
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right));
    std::hint::black_box(difference) == 0
}
