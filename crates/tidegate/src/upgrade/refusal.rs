//! Why an upgrade is not answered with 101, and what is answered instead (protocol.md, "Upgrade").

use std::time::Duration;

use axum::body::Body;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Response, StatusCode};

use crate::admission::Full;
use crate::auth::Denied;

/// When a client that met a full or leaving node is to try again: long enough for others to leave, short enough to be tried.
const RETRY_SOON: Duration = Duration::from_secs(2);

/// When an address or a user with too many connections is to try again: its own connections have to end first.
const RETRY_LATER: Duration = Duration::from_secs(10);

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 503: the node is going.
    Draining,
    /// 503 or 429: a limit is reached.
    Full(Full),
    /// 405.
    Method,
    /// 400: HTTP/1.0.
    Http10,
    /// 426: not a WebSocket handshake, or of another version than 13.
    UpgradeRequired(&'static str),
    /// 400: a field is missing, there twice, or not what it has to be.
    Malformed(&'static str),
    /// 403.
    Origin,
    /// 400: none of the subprotocols offered is spoken here.
    Subprotocol,
    /// 401, 403 or 503: authentication said so.
    Denied(Denied),
}

/// What a refusal looks like.
struct Face {
    status: StatusCode,
    /// `code` of the body, and the label in metrics.
    code: &'static str,
    message: &'static str,
    retry_after: Option<Duration>,
}

impl Refusal {
    const fn face(&self) -> Face {
        let (status, code, message, retry_after) = match self {
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "this node is going", Some(RETRY_SOON)),
            Self::Full(Full::Connections) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many connections", Some(RETRY_SOON)),
            Self::Full(Full::Unauthenticated) => {
                (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too many connections that have not authenticated", Some(RETRY_SOON))
            }
            Self::Full(Full::Address) => {
                (StatusCode::TOO_MANY_REQUESTS, "address_limit", "too many connections of this address", Some(RETRY_LATER))
            }
            Self::Full(Full::User) => (StatusCode::TOO_MANY_REQUESTS, "user_limit", "too many connections of this user", Some(RETRY_LATER)),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "the method is GET", None),
            Self::Http10 => (StatusCode::BAD_REQUEST, "http_version", "a WebSocket handshake is HTTP/1.1", None),
            Self::UpgradeRequired(message) => (StatusCode::UPGRADE_REQUIRED, "upgrade_required", *message, None),
            Self::Malformed(message) => (StatusCode::BAD_REQUEST, "bad_request", *message, None),
            Self::Origin => (StatusCode::FORBIDDEN, "origin", "this origin may not connect", None),
            Self::Subprotocol => (StatusCode::BAD_REQUEST, "subprotocol", "none of the subprotocols offered is spoken here", None),
            Self::Denied(Denied::Unauthorized(message)) => (StatusCode::UNAUTHORIZED, "unauthenticated", *message, None),
            Self::Denied(Denied::Forbidden(message)) => (StatusCode::FORBIDDEN, "forbidden", *message, None),
            Self::Denied(Denied::Unavailable(message)) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", *message, Some(RETRY_SOON)),
        };
        Face { status, code, message, retry_after }
    }

    /// Its name in metrics and in the body.
    pub(crate) const fn code(&self) -> &'static str {
        self.face().code
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let Face { status, code, message, retry_after } = self.face();
        let retry_after_ms = retry_after.map(|after| after.as_millis() as u64);
        let body = serde_json::json!({ "code": code, "message": message, "retry_after_ms": retry_after_ms });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        match self {
            Self::UpgradeRequired(_) => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// One of each; the match makes sure that a new one is thought of here.
    fn all() -> Vec<Refusal> {
        let known = |refusal: &Refusal| match refusal {
            Refusal::Draining | Refusal::Full(_) | Refusal::Method | Refusal::Http10 | Refusal::UpgradeRequired(_) => {}
            Refusal::Malformed(_) | Refusal::Origin | Refusal::Subprotocol | Refusal::Denied(_) => {}
        };
        let full = [Full::Connections, Full::Address, Full::User, Full::Unauthenticated].map(Refusal::Full);
        let denied = [Denied::Unauthorized(""), Denied::Forbidden(""), Denied::Unavailable("")].map(Refusal::Denied);
        let others = [
            Refusal::Draining,
            Refusal::Method,
            Refusal::Http10,
            Refusal::UpgradeRequired(""),
            Refusal::Malformed(""),
            Refusal::Origin,
            Refusal::Subprotocol,
        ];
        let all: Vec<_> = full.into_iter().chain(denied).chain(others).collect();
        all.iter().for_each(known);
        all
    }

    #[test]
    fn the_page_has_every_refusal_and_no_other() {
        let page = include_str!("../../../../docs/reference/protocol.md");
        let (_, page) = page.split_once("| status | code | when |").unwrap();
        let rows = page.lines().skip(2).take_while(|line| line.starts_with('|'));
        let row =
            |row: &'static str| row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1).take(2).collect::<Vec<_>>();
        let page: BTreeSet<Vec<String>> = rows.map(row).collect();
        let ours = all().into_iter().map(|refusal| vec![refusal.face().status.as_u16().to_string(), refusal.code().to_owned()]);
        assert_eq!(page, ours.collect());
    }
}
