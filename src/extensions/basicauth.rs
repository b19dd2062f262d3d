//! `basicauth`: user and password. `htpasswd` lists the accepted users, `client_auth` has the user we send.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use ring::digest;
use smallvec::{SmallVec, smallvec};

use crate::config::section::{Secret, Section};
use crate::network::auth::{Authenticator, Credentials, Fingerprint, MOST, Scheme, fingerprint};
use crate::otlp::base64;

/// Unsupported password hashes. Deliberately slow ones would cost milliseconds per request, for any client.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("$2", "bcrypt"),
    ("$apr1$", "MD5 (apr1)"),
    ("$1$", "MD5"),
    ("$5$", "SHA-256 (crypt)"),
    ("$6$", "SHA-512 (crypt)"),
    ("{SSHA}", "{SSHA}"),
];

/// Accepted users: from a file and from the config.
#[derive(Debug)]
struct Users {
    inline: Option<Secret>,
}

/// The user we send. `None` fields are in a file: the user's name first.
#[derive(Debug)]
struct Login {
    user: Option<String>,
    password: Option<Secret>,
}

pub(crate) fn decode(section: Section) -> Authenticator {
    let (users, login) = (section.section("htpasswd"), section.section("client_auth"));
    if users.is_some() && login.is_some() {
        section.problem("client_auth", "only one of `htpasswd` or `client_auth` can be specified");
    }
    let is_server = users.is_some();
    let (scheme, files): (Arc<dyn Scheme>, _) = match (users, login) {
        (Some(users), login) => {
            login.map(Login::decode);
            Users::decode(users)
        }
        (None, Some(login)) => Login::decode(login),
        (None, None) => {
            let help = "write `htpasswd` for a receiver, `client_auth` for an exporter";
            section.problem_with_help("htpasswd", "no credential source provided", help);
            (Arc::new(Users { inline: None }), Vec::new())
        }
    };
    section.finish();
    Authenticator::new(scheme, AUTHORIZATION, files, is_server, !is_server)
}

fn file(section: &Section, key: &str) -> Option<(String, PathBuf)> {
    let file = section.text(key).filter(|file| !file.is_empty())?;
    Some((format!("{}.{key}", section.path()), file.into()))
}

impl Users {
    fn decode(section: Section) -> (Arc<dyn Scheme>, Vec<(String, PathBuf)>) {
        let inline = section.secret("inline").filter(|inline| !inline.expose().is_empty());
        let (users, file) = (Users { inline }, file(&section, "file"));
        match (&users.inline, &file, users.credentials(&[])) {
            (Some(_), _, Err(why)) => section.secret_problem("inline", why),
            (Some(_), None, Ok(none)) if none.accepted.is_empty() => {
                section.secret_problem("inline", "there is no user in htpasswd".to_owned())
            }
            (None, None, _) => section.problem("file", "no credential source provided"),
            _ => {}
        }
        section.finish();
        (Arc::new(users), file.into_iter().collect())
    }
}

impl Scheme for Users {
    /// For the same user, a later line wins.
    fn credentials(&self, files: &[String]) -> Result<Credentials, String> {
        let mut users = BTreeMap::new();
        let inline = self.inline.iter().map(|inline| ("htpasswd.inline", inline.expose()));
        for (source, text) in files.iter().map(|file| ("the htpasswd file", file.as_str())).chain(inline) {
            for (number, line) in text.lines().map(str::trim).enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let place = format!("line {} of {source}", number + 1);
                let (user, password) = line.split_once(':').ok_or(format!("{place} has no colon"))?;
                let accepted = accepted(user, password).map_err(|why| format!("{place} holds {why}"))?;
                users.insert(user.to_owned(), accepted);
            }
        }
        if users.len() > MOST {
            return Err(format!("there are more than {MOST} users in htpasswd"));
        }
        Ok(Credentials { sent: None, accepted: users.into_values().collect() })
    }

    fn presented(&self, header: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str> {
        let (_, given, colon) = read(header)?;
        let (user, password) = given.split_at_checked(colon).unwrap_or_default();
        let password = password.get(1..).unwrap_or_default();
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
        Ok(smallvec![of_plain(user, password), of_hash(user, hash.as_ref())])
    }

    fn refusals(&self) -> (&str, &'static str) {
        ("no basic auth provided", "invalid credentials")
    }

    fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"otlp\", charset=\"UTF-8\"")
    }

    fn attributes(&self, header: &[u8]) -> Vec<(&'static str, String)> {
        let Ok((raw, given, colon)) = read(header) else { return Vec::new() };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        vec![("username", text(given.get(..colon).unwrap_or_default())), ("raw", text(raw))]
    }
}

/// A header's credentials as encoded, decoded, and the position of the colon in the decoded form.
fn read(header: &[u8]) -> Result<(&[u8], Vec<u8>, usize), &'static str> {
    let (scheme, raw) = header.split_at_checked(b"Basic ".len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return Err("invalid authorization scheme prefix");
    }
    let raw = raw.trim_ascii();
    let given = base64::decode(raw).ok_or("invalid authorization format")?;
    let colon = given.iter().position(|byte| *byte == b':').ok_or("invalid authorization format")?;
    Ok((raw, given, colon))
}

/// The fingerprint of a line; an error names an unsupported hash.
fn accepted(user: &str, password: &str) -> Result<Fingerprint, String> {
    if let Some((_, name)) = UNSUPPORTED.iter().find(|(prefix, _)| password.starts_with(prefix)) {
        return Err(format!("a hash of {name}, which is not supported: use {{SHA}} (htpasswd -s) or plain text (-p)"));
    }
    match password.strip_prefix("{SHA}") {
        None => Ok(of_plain(user.as_bytes(), password.as_bytes())),
        Some(hash) => match base64::decode(hash.as_bytes()).filter(|hash| hash.len() == digest::SHA1_OUTPUT_LEN) {
            Some(hash) => Ok(of_hash(user.as_bytes(), &hash)),
            None => Err("a {SHA} hash that is none".to_owned()),
        },
    }
}

fn of_plain(user: &[u8], password: &[u8]) -> Fingerprint {
    fingerprint(&[b"plain ", user, b":", password])
}

fn of_hash(user: &[u8], hash: &[u8]) -> Fingerprint {
    fingerprint(&[b"sha1 ", user, b":", hash])
}

impl Login {
    fn decode(section: Section) -> (Arc<dyn Scheme>, Vec<(String, PathBuf)>) {
        let (user_file, password_file) = (file(&section, "username_file"), file(&section, "password_file"));
        let (user, password) = (section.text("username"), section.secret("password"));
        if user.is_none() && user_file.is_none() {
            section.problem("username", "no username: write `username` or `username_file`");
        }
        // A file overrides the inline value.
        let login = Login {
            user: user.filter(|_| user_file.is_none()),
            password: password.or(Some(Secret::new(""))).filter(|_| password_file.is_none()),
        };
        if login.user.as_ref().is_some_and(|user| user.contains(':')) {
            section.problem("username", "a username has no colon");
        }
        section.finish();
        (Arc::new(login), user_file.into_iter().chain(password_file).collect())
    }
}

impl Scheme for Login {
    fn credentials(&self, files: &[String]) -> Result<Credentials, String> {
        let mut files = files.iter().map(|file| file.trim());
        let user = self.user.as_deref().or_else(|| files.next()).unwrap_or_default();
        let password = self.password.as_ref().map(Secret::expose).or_else(|| files.next()).unwrap_or_default();
        if user.is_empty() || user.contains(':') {
            return Err("the username is empty or has a colon".to_owned());
        }
        let mut value = b"Basic ".to_vec();
        base64::put_padded(format!("{user}:{password}").as_bytes(), &mut value);
        let mut value = HeaderValue::try_from(value).map_err(|_| "the credentials fit no header")?;
        value.set_sensitive(true);
        Ok(Credentials { sent: Some(value), accepted: Vec::new() })
    }

    fn presented(&self, _: &[u8]) -> Result<SmallVec<[Fingerprint; 2]>, &'static str> {
        Err("it is no server authenticator")
    }

    fn refusals(&self) -> (&str, &'static str) {
        ("", "")
    }

    fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Basic")
    }
}
