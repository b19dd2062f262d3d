//! `bearertokenauth`: one or several tokens in a header. The first one is sent, each of them is accepted.

use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use smallvec::{SmallVec, smallvec};

use crate::config::section::{Secret, Section};
use crate::network::auth::{Authenticator, Credentials, Fingerprint, MOST, Scheme, fingerprint};

#[derive(Debug)]
struct Bearer {
    /// The text before the token, with the separating space.
    prefix: String,
    /// The tokens of the config; empty if they are in a file.
    tokens: Vec<Secret>,
    missing: String,
    challenge: HeaderValue,
}

pub(crate) fn decode(section: Section) -> Authenticator {
    let scheme = section.text_or("scheme", "Bearer");
    let name = section.text_or("header", "Authorization");
    let named = section.text("filename");
    let file = named.clone().filter(|file| !file.is_empty());
    let token = section.secret("token").filter(|token| !token.expose().is_empty());
    let tokens = section.secrets("tokens");
    if token.is_some() && !tokens.is_empty() {
        section.secret_problem("tokens", "either tokens or token should be provided, not both");
    }
    let is_given = token.is_some() || !tokens.is_empty();
    // The token comes from a variable that may be empty: then exporters send none.
    let is_absent = named.is_some() && file.is_none() && !is_given;
    if named.is_none() && !is_given {
        let help = "write `token`, `tokens`, or `filename`: the file of a token";
        section.problem_with_help("token", "no bearer token provided", help);
    }
    let header = HeaderName::try_from(&name).unwrap_or_else(|_| {
        section.problem("header", format!("\"{name}\" is not a valid header"));
        http::header::AUTHORIZATION
    });
    let bearer = Bearer {
        challenge: HeaderValue::try_from(&scheme).unwrap_or(HeaderValue::from_static("Bearer")),
        prefix: if scheme.is_empty() { scheme } else { format!("{scheme} ") },
        // A file overrides the inline values.
        tokens: token.into_iter().chain(tokens).filter(|_| file.is_none()).collect(),
        missing: format!("missing or empty authorization header: {name}"),
    };
    if let (None, true, Err(why)) = (&file, is_given, bearer.credentials(&[])) {
        section.secret_problem(if section.has("token") { "token" } else { "tokens" }, why);
    }
    section.ignored(&["retry_on_failure", "wait_for_token_file"]);
    let file = file.map(|file| (format!("{}.filename", section.path()), PathBuf::from(file)));
    section.finish();
    Authenticator::new(Arc::new(bearer), header, file.into_iter().collect(), !is_absent, !is_absent)
}

impl Scheme for Bearer {
    fn credentials(&self, files: &[String]) -> Result<Credentials, String> {
        // The first word of a line is the token, and the rest is a remark. For the Go collector, a lone `#` is a token;
        // here it starts a remark, or anyone could guess it.
        let words = files.iter().flat_map(|file| file.lines()).filter_map(|line| line.split_whitespace().next());
        let words = words.filter(|word| *word != "#");
        let tokens = self.tokens.iter().map(Secret::expose).chain(words).filter(|token| !token.is_empty());
        let mut credentials = Credentials::default();
        for token in tokens {
            let value = HeaderValue::try_from(format!("{}{token}", self.prefix));
            let mut value = value.map_err(|_| "a token holds characters that no header can")?;
            value.set_sensitive(true);
            credentials.accepted.push(fingerprint(&[value.as_bytes()]));
            credentials.sent.get_or_insert(value);
        }
        match credentials.accepted.len() {
            0..=MOST => Ok(credentials),
            _ => Err(format!("there are more than {MOST} tokens")),
        }
    }

    fn presented(&self, header: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str> {
        Ok(smallvec![fingerprint(&[header])])
    }

    fn refusals(&self) -> (&str, &'static str) {
        (&self.missing, "provided authorization does not match expected scheme or token")
    }

    fn challenge(&self) -> HeaderValue {
        self.challenge.clone()
    }
}
