//! `cors`: which web pages may read a server's answers. It refuses nothing: browsers do.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::config::section::Section;

#[derive(Clone, Debug, Default)]
pub(crate) struct Cors {
    allowed_origins: Vec<String>,
    allowed_headers: Vec<String>,
    exposed_headers: Option<HeaderValue>,
    /// 0 says nothing of it; less is sent as 0.
    max_age: i64,
}

impl Cors {
    pub(crate) fn decode(section: Section) -> Cors {
        let exposed = section.texts("exposed_headers").filter(|names| !names.is_empty());
        let cors = Cors {
            allowed_origins: section.texts("allowed_origins").unwrap_or_default(),
            allowed_headers: section.texts("allowed_headers").unwrap_or_default(),
            exposed_headers: exposed.and_then(|names| HeaderValue::from_str(&names.join(", ")).ok()),
            max_age: section.limited("max_age", 0, i64::MIN..=i64::from(u32::MAX)),
        };
        section.finish();
        cors
    }

    /// The answer to a CORS preflight; `None` if the request is not a preflight. If the origin, the method or a header is not
    /// allowed, the answer names none of them.
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Response<()>> {
        let asks = *method == Method::OPTIONS && self.is_on();
        let wanted = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| asks)?;
        let headers = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let is_allowed = [&b"GET"[..], b"HEAD", b"POST"].contains(&wanted.as_bytes())
            && headers.is_none_or(|names| names.to_str().is_ok_and(|names| self.allows_headers(names)));
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let out = answer.headers_mut();
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        out.insert(header::VARY, HeaderValue::from_static(vary));
        if let Some(origin) = self.allowed(request).filter(|_| is_allowed) {
            self.allow(origin, out);
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, wanted.clone());
            headers.map(|names| out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
            if self.max_age != 0 {
                out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age.max(0)));
            }
        }
        Some(answer)
    }

    /// Adds the headers that allow the page to read the answer.
    pub(crate) fn mark(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        if let Some(origin) = self.allowed(request) {
            self.allow(origin, answer);
            if let Some(exposed) = &self.exposed_headers {
                answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
            }
        }
        if self.is_on() {
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }

    /// A page from anywhere, where all may, gets no credentials along with it.
    fn allow(&self, origin: &HeaderValue, answer: &mut HeaderMap) {
        let is_any = self.allowed_origins.iter().any(|allowed| allowed == "*");
        let allowed = if is_any { HeaderValue::from_static("*") } else { origin.clone() };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !is_any {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn allowed<'a>(&self, request: &'a HeaderMap) -> Option<&'a HeaderValue> {
        request.get(header::ORIGIN).filter(|origin| self.allows(origin.as_bytes()))
    }

    fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// Whether pages from `origin` may read the answers: an allowed origin has at most one `*`.
    fn allows(&self, origin: &[u8]) -> bool {
        let origin = origin.to_ascii_lowercase();
        self.allowed_origins.iter().map(|allowed| allowed.to_ascii_lowercase()).any(|allowed| {
            match allowed.split_once('*') {
                None => allowed.as_bytes() == origin,
                Some((start, end)) => {
                    origin.len() >= start.len() + end.len()
                        && origin.starts_with(start.as_bytes())
                        && origin.ends_with(end.as_bytes())
                }
            }
        })
    }

    fn allows_headers(&self, wanted: &str) -> bool {
        const ALWAYS: [&str; 4] = ["accept", "accept-language", "content-type", "content-language"];
        wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).all(|name| {
            let is = |allowed: &str| allowed == "*" || allowed.eq_ignore_ascii_case(name);
            ALWAYS.iter().any(|allowed| is(allowed))
                || self.allowed_headers.iter().any(|allowed| is(allowed))
                || (self.allowed_headers.is_empty() && is("x-requested-with"))
        })
    }
}
