//! Who may use the API: whoever has a key, or, where none is configured, programs of this machine.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tidegate::{ErrorCode, Origin};

use super::Api;
use super::answer::Refusal;
use crate::config::Secret;

/// Lets a request pass or refuses it.
pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    match judge(&api.settings.load().keys, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn judge(keys: &[Secret], headers: &HeaderMap) -> Result<(), Refusal> {
    if keys.is_empty() {
        return judge_local(headers);
    }
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    let Some(presented) = presented else {
        return Err(Refusal::new(ErrorCode::Unauthenticated, "a bearer key is needed").with_status(StatusCode::UNAUTHORIZED));
    };
    // All of them are compared whole, so that the time tells nothing about any.
    let fits = keys.iter().fold(subtle::Choice::from(0), |fits, key| fits | key.expose().ct_eq(presented));
    if bool::from(fits) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::Unauthenticated, "the key is not known here").with_status(StatusCode::UNAUTHORIZED))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

/// Without keys the listener is on loopback, where browsers of this machine reach it too: a page whose name was made to resolve to
/// 127.0.0.1 shows in `Host` (DNS rebinding), any other page in `Origin`.
fn judge_local(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_loopback_host(host) {
        return Err(Refusal::new(ErrorCode::Forbidden, "without a key only requests to a loopback address are answered"));
    }
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_loopback_origin(origin.as_bytes()) => {
            Err(Refusal::new(ErrorCode::Forbidden, "without a key web pages of other machines are refused"))
        }
        _ => Ok(()),
    }
}

fn is_loopback_host(host: &str) -> bool {
    !host.contains('/') && Origin::parse(&format!("http://{host}")).is_ok_and(|origin| origin.is_loopback())
}

fn is_loopback_origin(origin: &[u8]) -> bool {
    std::str::from_utf8(origin).ok().and_then(|text| Origin::parse(text).ok()).is_some_and(|origin| origin.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        judge(&[], &headers).is_ok()
    }

    #[test]
    fn without_keys_only_this_machine_is_answered() {
        for host in ["127.0.0.1:8001", "localhost", "localhost:8001", "[::1]:8001", "127.0.0.2"] {
            assert!(local(host, None), "{host}");
            assert!(local(host, Some("http://localhost:5173")), "{host}");
        }
        for host in ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "10.0.0.1:8001", "", "localhost@evil.example", "127.1"]
        {
            assert!(!local(host, None), "{host}");
        }
        for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example", "file://"] {
            assert!(!local("127.0.0.1:8001", Some(origin)), "{origin}");
        }
    }

    #[test]
    fn a_bearer_is_what_follows_the_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
