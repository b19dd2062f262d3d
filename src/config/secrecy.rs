//! Keeps secrets out of output: the whole of a secret setting, and the user, password and query of a URL.

use std::fmt;

use super::tree::Value;

/// Shown instead of a secret.
pub(super) const REDACTED: &str = "[REDACTED]";
/// Shorter parts of a secret may also be ordinary words of a message, and are not masked.
const SHORTEST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    Open,
    Secret,
    /// A URL may contain secrets.
    Url,
}

impl Secrecy {
    /// The texts within `value` that are secret.
    pub(super) fn secrets(self, value: &Value) -> Vec<&str> {
        let Value::Text(text) = value else { return Vec::new() };
        let mut secrets = match self {
            Secrecy::Open => Vec::new(),
            Secrecy::Secret => vec![text.as_str()],
            Secrecy::Url => Vec::from(parts(text).1),
        };
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// The value for display.
    pub(super) fn redacted(self, value: &Value) -> Value {
        match (self, value) {
            (Secrecy::Secret, _) => Value::Text(REDACTED.to_owned()),
            (Secrecy::Url, Value::Text(text)) => Value::Text(redacted_url(text)),
            (_, value) => value.clone(),
        }
    }
}

/// A URL without its user, password and query.
pub(crate) fn redacted_url(url: &str) -> String {
    let ([scheme, rest], secrets) = parts(url);
    let [userinfo, query] = secrets.map(|secret| if secret.is_empty() { "" } else { REDACTED });
    let at = if userinfo.is_empty() { "" } else { "@" };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}{userinfo}{at}{rest}{mark}{query}")
}

/// Splits a URL into its public parts (before and after the user) and its secret ones (user with password, query). A
/// password that is not encoded may contain any character: it ends at the last `@`.
fn parts(url: &str) -> ([&str; 2], [&str; 2]) {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
    let (userinfo, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (rest, query) = rest.split_once(['?', '#']).unwrap_or((rest, ""));
    ([scheme, rest], [userinfo, query])
}

/// The labels in the first and last line of a PEM text.
const LABELS: [&str; 5] = ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];

/// A PEM text without its first and last line, whose words also occur in messages.
fn without_labels(secret: &str) -> String {
    let lines = LABELS.iter().flat_map(|label| ["BEGIN", "END"].map(|edge| format!("-----{edge} {label}-----")));
    lines.fold(secret.to_owned(), |secret, line| secret.replace(&line, ""))
}

/// Masks the parts of a message that repeat parts of a secret, also if the secret was cut, quoted or split before.
pub(super) fn masked(message: &str, secret: &str) -> String {
    let secret = without_labels(secret).to_lowercase();
    let characters: Vec<char> = message.chars().collect();
    let mut is_hidden = vec![false; characters.len()];
    for (start, window) in characters.windows(SHORTEST).enumerate() {
        if secret.contains(&window.iter().flat_map(|character| character.to_lowercase()).collect::<String>()) {
            is_hidden.iter_mut().skip(start).take(SHORTEST).for_each(|hidden| *hidden = true);
        }
    }
    let mut shown = String::with_capacity(message.len());
    for (character, hidden) in characters.into_iter().zip(is_hidden) {
        match hidden {
            false => shown.push(character),
            true if shown.ends_with(MASK) => {}
            true => shown.push_str(MASK),
        }
    }
    shown
}

const MASK: &str = "***";

/// Text that formatting never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
