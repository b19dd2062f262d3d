//! The answer to a request that is not accepted. HTTP and gRPC each encode it in their own way. A status is chosen here
//! and nowhere else.

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT_ENCODING, ALLOW, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use tonic::Code;

use super::Status;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub http: StatusCode,
    /// The gRPC code and message.
    pub status: Status,
    /// When the client may retry.
    pub after: Option<Duration>,
    /// Whether an HTTP/1 connection closes after it, because the rest of the request is not read.
    pub(crate) closes: bool,
    /// An additional HTTP header.
    pub(crate) header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Answer {
    fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Answer {
        let status = Status { code, message: message.into() };
        Answer { http, status, after: None, closes: false, header: None }
    }

    fn closing(self) -> Answer {
        Answer { closes: true, ..self }
    }

    fn with(self, name: HeaderName, value: HeaderValue) -> Answer {
        Answer { header: Some(Box::new((name, value))), ..self }
    }

    pub(crate) fn unavailable(message: impl Into<String>, after: Duration) -> Answer {
        Answer { after: Some(after), ..Answer::new(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, message) }
    }

    pub(super) fn too_large(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message).closing()
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    /// For a head that two parsers may understand differently: the bytes after it on the connection may not be a
    /// request.
    pub(crate) fn ambiguous(why: &str) -> Answer {
        Answer::malformed(why).closing()
    }

    /// A given gRPC status, with the HTTP status the Go collector maps its code to.
    pub(super) fn of(status: Status) -> Answer {
        let http = match status.code {
            Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => StatusCode::SERVICE_UNAVAILABLE,
            Code::OutOfRange | Code::Unavailable | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // The upstream may recover in a moment.
        let after = (http == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1));
        Answer { http, status, after, closes: false, header: None }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, message)
    }

    pub(crate) fn unauthenticated(why: &str, challenge: HeaderValue) -> Answer {
        Answer::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, why).with(WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// A service, encoding or protocol that a gRPC client asks for and the receiver does not support.
    pub(crate) fn unimplemented(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::NOT_FOUND, Code::Unimplemented, message)
    }

    pub(crate) fn without_protocol(name: &str) -> Answer {
        Answer::unimplemented(format!("the receiver has no {name} protocol: add `{name}:` to its protocols"))
    }

    pub(crate) fn wrong_method() -> Answer {
        let answer = Answer::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "only POST is supported");
        answer.with(ALLOW, HeaderValue::from_static("POST"))
    }

    pub(crate) fn wrong_framing() -> Answer {
        let message = "the only Transfer-Encoding is chunked";
        Answer::new(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, message).closing()
    }

    pub(crate) fn wrong_type(message: impl Into<String>) -> Answer {
        Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    pub(crate) fn wrong_coding(message: impl Into<String>, supported: &'static str) -> Answer {
        Answer::wrong_type(message).with(ACCEPT_ENCODING, HeaderValue::from_static(supported))
    }

    pub(crate) fn too_slow() -> Answer {
        let message = "the request body came too slowly";
        Answer::new(StatusCode::REQUEST_TIMEOUT, Code::Cancelled, message).closing()
    }

    pub(crate) fn broken_off() -> Answer {
        Answer::new(StatusCode::BAD_REQUEST, Code::Cancelled, "the request body broke off")
    }

    pub(crate) fn past_deadline() -> Answer {
        Answer::new(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, "the client's deadline has passed")
    }
}
