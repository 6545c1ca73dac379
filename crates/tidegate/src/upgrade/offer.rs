//! What a request offers, read strictly: method, version, key, origin, subprotocol (RFC 6455, 4.2.1).

use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
    VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version, header::GetAll, request::Parts};
use tidegate_ws::{Fields, RequestError, accept_key, check_request};

use super::Refusal;
use crate::connection::Hints;
use crate::origin::Origins;

/// The subprotocol spoken here.
pub(crate) const JSON: &str = "tidegate.v1.json";

/// `Mozilla/5.0`, `okhttp/4.12.0`: enough for the product and its version.
const AGENT_CHARS: usize = 16;

/// A request that may be answered with 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The answer to its key, for `Sec-WebSocket-Accept`.
    pub(crate) accept: String,
    /// The subprotocol to be named in the answer.
    pub(crate) subprotocol: Option<&'static str>,
    /// Whether a page of an allowed origin sent it.
    pub(crate) from_page: bool,
}

/// Whether the client has to be spoken to in the Tidegate protocol, or in whatever the team speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Tidegate,
    Raw,
}

impl Offer {
    pub(crate) fn read(parts: &Parts, origins: &Origins, speech: Speech) -> Result<Self, Refusal> {
        let headers = &parts.headers;
        let fields = Headers(headers);
        let key = check_request(parts.method.as_str(), parts.version == Version::HTTP_11, &fields)?;
        let from_page = check_origin(headers, origins)?;
        let subprotocol = match speech {
            Speech::Tidegate => choose_subprotocol(headers)?,
            Speech::Raw => None,
        };
        Ok(Self { accept: accept_key(key), subprotocol, from_page })
    }
}

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is offered for extensions, line by line.
pub(crate) fn extensions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|line| line.to_str().ok())
}

/// What the headers give away about the path.
pub(crate) fn hints(headers: &HeaderMap) -> Hints {
    let via = headers.contains_key(VIA);
    let forwarded = headers.contains_key(&FORWARDED_FOR);
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    let agent = agent.split(' ').next().unwrap_or_default().bytes().filter(is_plain).take(AGENT_CHARS).collect();
    Hints { via, forwarded, agent }
}

/// The headers as the rules of the handshake look at them.
struct Headers<'a>(&'a HeaderMap);

impl Fields for Headers<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).iter().map(|value| value.as_bytes())
    }
}

impl<'a> Headers<'a> {
    /// Names that each handshake asks for need not be read as names each time.
    fn all(&self, name: &str) -> GetAll<'a, HeaderValue> {
        match name {
            "upgrade" => self.0.get_all(UPGRADE),
            "connection" => self.0.get_all(CONNECTION),
            "sec-websocket-version" => self.0.get_all(SEC_WEBSOCKET_VERSION),
            "sec-websocket-key" => self.0.get_all(SEC_WEBSOCKET_KEY),
            other => self.0.get_all(other),
        }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Method => Self::Method,
            RequestError::HttpVersion => Self::Http10,
            RequestError::Upgrade | RequestError::Version => Self::UpgradeRequired(error.message()),
            RequestError::Key => Self::Malformed(error.message()),
        }
    }
}

/// No `Origin` is no browser and may connect; one has to be on the list; two are none.
fn check_origin(headers: &HeaderMap, origins: &Origins) -> Result<bool, Refusal> {
    let mut values = headers.get_all(ORIGIN).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(origin), None) if origins.allows(origin.as_bytes()) => Ok(true),
        _ => Err(Refusal::Origin),
    }
}

/// The client's first that is spoken here. Nothing offered: JSON, unnamed, so that generic tools work. Only unknown ones: refused.
fn choose_subprotocol(headers: &HeaderMap) -> Result<Option<&'static str>, Refusal> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    if lists_exactly(headers, JSON) { Ok(Some(JSON)) } else { Err(Refusal::Subprotocol) }
}

/// Subprotocols are compared with their case (RFC 6455, 1.9).
fn lists_exactly(headers: &HeaderMap, token: &str) -> bool {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim() == token)
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;
    use crate::origin::Origin;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

    fn read(change: impl FnOnce(&mut Parts)) -> Result<(Option<&'static str>, bool), Refusal> {
        let request = Request::builder()
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", KEY);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        change(&mut parts);
        let origins = Origins::new(vec![Origin::parse("https://app.example.com").unwrap()]);
        Offer::read(&parts, &origins, Speech::Tidegate).map(|offer| (offer.subprotocol, offer.from_page))
    }

    fn with(name: &'static str, value: &'static str) -> Result<(Option<&'static str>, bool), Refusal> {
        read(|parts| {
            parts.headers.insert(name, value.parse().unwrap());
        })
    }

    #[test]
    fn what_rfc_6455_asks_for_is_asked_for() {
        assert_eq!(read(|_| {}), Ok((None, false)));
        assert_eq!(with("connection", "keep-alive, Upgrade"), Ok((None, false)));
        assert_eq!(with("upgrade", "WebSocket"), Ok((None, false)));
        assert_eq!(read(|parts| parts.method = Method::POST), Err(Refusal::Method));
        assert_eq!(read(|parts| parts.version = Version::HTTP_10), Err(Refusal::Http10));
        for (name, value) in [("upgrade", "h2c"), ("connection", "close"), ("sec-websocket-version", "8"), ("sec-websocket-version", "")] {
            assert!(matches!(with(name, value), Err(Refusal::UpgradeRequired(_))), "{name}: {value}");
        }
        for key in
            ["", "YWJj", "MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZh==", "MDEyMzQ1Njc4OWFiY2Rl*g==", "MDEyMzQ1Njc4OWFiY2RlZmc="]
        {
            assert!(matches!(with("sec-websocket-key", key), Err(Refusal::Malformed(_))), "{key}");
        }
        let twice =
            |name: &'static str, value: &'static str| read(move |parts| assert!(parts.headers.append(name, value.parse().unwrap())));
        assert!(matches!(twice("sec-websocket-key", KEY), Err(Refusal::Malformed(_))));
        assert!(matches!(twice("sec-websocket-version", "13"), Err(Refusal::UpgradeRequired(_))));
    }

    #[test]
    fn one_allowed_origin_or_none() {
        assert_eq!(with("origin", "https://app.example.com"), Ok((None, true)));
        assert_eq!(with("origin", "https://evil.example.com"), Err(Refusal::Origin));
        assert_eq!(with("origin", "null"), Err(Refusal::Origin));
        let two = read(|parts| {
            parts.headers.append("origin", "https://app.example.com".parse().unwrap());
            parts.headers.append("origin", "https://app.example.com".parse().unwrap());
        });
        assert_eq!(two, Err(Refusal::Origin));
    }

    #[test]
    fn a_known_subprotocol_is_named_and_a_ticket_never() {
        for (offered, chosen) in [
            ("tidegate.v1.json", Ok((Some(JSON), false))),
            ("tidegate.ticket.abc, tidegate.v1.json", Ok((Some(JSON), false))),
            ("graphql-ws,tidegate.v1.json", Ok((Some(JSON), false))),
            ("graphql-ws", Err(Refusal::Subprotocol)),
            ("tidegate.ticket.abc", Err(Refusal::Subprotocol)),
            ("TIDEGATE.V1.JSON", Err(Refusal::Subprotocol)),
            ("", Err(Refusal::Subprotocol)),
        ] {
            assert_eq!(with("sec-websocket-protocol", offered), chosen, "{offered}");
        }
    }

    #[test]
    fn hints_are_short_and_clean() {
        let mut headers = HeaderMap::new();
        assert_eq!(hints(&headers), Hints::default());
        headers.insert("user-agent", "Mozilla/5.0 (X11; secret)".parse().unwrap());
        headers.insert("via", "1.1 secret".parse().unwrap());
        let expected = Hints { via: true, forwarded: false, agent: b"Mozilla/5.0"[..].into() };
        assert_eq!(hints(&headers), expected);
        headers.insert("user-agent", http::HeaderValue::from_bytes(&[b'a'; 4096]).unwrap());
        assert_eq!(hints(&headers).agent.len(), AGENT_CHARS);
    }
}
