//! The paths that a server serves, matched as in the Go collector: a request's path is cleaned and split at its
//! slashes, and only then are escapes decoded, so that `%2F` is a character of a segment.

use crate::otlp::percent;

/// A path from the config. With a trailing slash it also covers everything below it.
#[derive(Clone, Debug)]
pub(crate) struct ServedPath {
    written: String,
    segments: Vec<Vec<u8>>,
    has_all_below: bool,
}

impl ServedPath {
    pub(crate) fn new(written: &str) -> ServedPath {
        let (segments, has_all_below) = clean(written);
        let segments = segments.into_iter().map(decoded).collect();
        ServedPath { written: written.to_owned(), segments, has_all_below }
    }

    /// The served path for `path`: an identical one, else the longest match.
    pub(crate) fn find(served: &[ServedPath], path: &str) -> Option<usize> {
        let written = served.iter().position(|known| known.written == path);
        let length = |index: &usize| served.get(*index).map(|known| (known.segments.len(), !known.has_all_below));
        let matching = || served.iter().enumerate().filter(|(_, known)| known.matches(path)).map(|(index, _)| index);
        written.or_else(|| matching().max_by_key(length))
    }

    /// The Go collector redirects an unclean path to the clean one, and clients that post do not follow; here it
    /// matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let (segments, ends_in_slash) = clean(path);
        let is_known = self.segments.iter().zip(&segments).all(|(known, segment)| *known == decoded(segment));
        let (known, given) = (self.segments.len(), segments.len());
        is_known && if self.has_all_below { given >= known } else { given == known && !ends_in_slash }
    }
}

fn decoded(segment: &str) -> Vec<u8> {
    percent::decoded(segment.as_bytes())
}

/// The segments without empty ones, `.` and `..`, and whether a slash follows.
fn clean(path: &str) -> (Vec<&str>, bool) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    (segments, path.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::ServedPath;

    #[test]
    fn paths_match_as_in_go() {
        let rows = [
            ("/v1/logs", "/v1/logs", true),
            ("/v1/logs", "/v1/%6cogs", true),
            ("/v1/logs", "/%76%31/lo%67s", true),
            ("/v1/%6cogs", "/v1/logs", true),
            ("/v1/logs", "//v1/./a/../%6Cogs", true),
            ("/v1/logs", "/v1%2Flogs", false),
            ("/v1%2flogs", "/v1%2Flogs", true),
            ("/v1%2flogs", "/v1/logs", false),
            // Cleaned before decoding.
            ("/v1/logs", "/v1/%2e%2e/v1/logs", false),
            ("/v1/logs", "/v1/logs/%2e", false),
            ("/v1/logs", "/v1/logs/", false),
            ("/v1/logs", "/v1/logs%2F", false),
            ("/v1/logs", "/v1/logsx", false),
            ("/v1/logs", "/v1", false),
            ("/in/", "/in", true),
            ("/in/", "/in/a/b", true),
            ("/in/", "/inside", false),
            ("/", "/", true),
            ("/", "/anything/else", true),
        ];
        for (served, path, expected) in rows {
            assert_eq!(ServedPath::new(served).matches(path), expected, "{path} at {served}");
        }
        let served = ["/", "/v1/", "/v1/logs", "/v1/logs/"].map(ServedPath::new);
        for (path, expected) in [("/x", 0), ("/v1/x", 1), ("/v1/lo%67s", 2), ("/v1/logs/x", 3), ("/v1/logs/", 3)] {
            assert_eq!(ServedPath::find(&served, path), Some(expected), "{path}");
        }
    }
}
