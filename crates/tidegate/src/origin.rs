//! Which web pages may connect: an allowlist of (scheme, host, port), compared parsed and exact.

use std::fmt;

use url::{Host, Url};

/// A web origin: scheme and host without case, an explicit default port equal to none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: Box<str>,
    host: Host<String>,
    port: u16,
}

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// Not `scheme://host[:port]` with a scheme of `http` or `https`.
    #[error("an origin is http:// or https://, a host, and perhaps a port")]
    Shape,
    /// A path, a query, user info, a trailing slash or dot, a space, an escape: a browser never sends these.
    #[error("an origin has no path, user info, trailing dot, escape or space")]
    Excess,
}

impl Origin {
    /// Parses an origin as browsers send it (RFC 6454, 7.1). Anything a browser would not send is refused, not repaired.
    ///
    /// # Errors
    /// Says whether something is missing or too much.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin::Shape)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") || authority.is_empty() {
            return Err(InvalidOrigin::Shape);
        }
        if !authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')) {
            return Err(InvalidOrigin::Excess);
        }
        let url = Url::parse(text).map_err(|_| InvalidOrigin::Shape)?;
        let host = url.host().ok_or(InvalidOrigin::Shape)?.to_owned();
        let port = url.port_or_known_default().ok_or(InvalidOrigin::Shape)?;
        if !is_spelt_as_parsed(authority, &host) {
            return Err(InvalidOrigin::Excess);
        }
        Ok(Self { scheme: url.scheme().into(), host, port })
    }
}

impl Origin {
    /// Whether the page comes from this machine. Names other than `localhost` may mean anybody, whatever they resolve to today.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }
}

/// Whether the host stands in the text as the parser understood it: `2130706433`, `0x7f.1` and `example.com.` do not.
fn is_spelt_as_parsed(authority: &str, host: &Host<String>) -> bool {
    let spelt = match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.len() > 1 && port.starts_with('0') {
                return false;
            }
            name
        }
        _ => authority,
    };
    !spelt.ends_with('.') && spelt.eq_ignore_ascii_case(&host.to_string())
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// The allowlist. Empty, it refuses every browser; it never means everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Vec<Origin>,
    loopback: bool,
}

impl Origins {
    /// An allowlist of these.
    pub const fn new(allowed: Vec<Origin>) -> Self {
        Self { allowed, loopback: false }
    }

    /// Also pages that this machine itself serves, on whatever port: for development. What is on loopback can't be reached by
    /// others, so a page of it is a program of this machine.
    #[must_use]
    pub fn or_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// Whether a page of this origin, given as the header's bytes, may connect.
    pub fn allows(&self, header: &[u8]) -> bool {
        let parsed = std::str::from_utf8(header).ok().and_then(|text| Origin::parse(text).ok());
        parsed.is_some_and(|origin| self.allowed.contains(&origin) || self.loopback && origin.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Origins {
        let texts =
            ["https://app.example.com", "http://localhost:3000", "https://münchen.example", "https://[2001:db8::1]", "http://127.0.0.1"];
        Origins::new(texts.iter().filter_map(|text| Origin::parse(text).ok()).collect())
    }

    #[test]
    fn the_allowlist_takes_exactly_its_tuples() {
        let origins = allowed();
        for good in [
            "https://app.example.com",
            "https://APP.example.COM",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "http://localhost:3000",
            "https://[2001:db8::1]",
            "https://[2001:DB8::1]:443",
            "http://127.0.0.1:80",
        ] {
            assert!(origins.allows(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn pages_of_this_machine_can_be_let_in_on_every_port() {
        let origins = Origins::default().or_loopback();
        for good in ["http://localhost:5173", "http://127.0.0.1:8000", "https://[::1]:9", "http://demo.localhost"] {
            assert!(origins.allows(good.as_bytes()), "{good}");
        }
        for bad in ["http://localhost.example.com", "http://example.com", "http://10.0.0.1", "http://localhost@example.com", "null", ""] {
            assert!(!origins.allows(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let origins = allowed();
        let hostile: &[&[u8]] = &[
            b"",
            b" ",
            b"null",
            b"*",
            b"file://",
            b"file:///etc/passwd",
            b"about:blank",
            b"data:text/html,x",
            b"chrome-extension://abcdef",
            b"ws://app.example.com",
            b"wss://app.example.com",
            b"app.example.com",
            b"//app.example.com",
            b"https:app.example.com",
            b"https:/app.example.com",
            b"https:\\\\app.example.com",
            b"https://",
            b"https://.",
            b"http://app.example.com",
            b"https://app.example.com:444",
            b"https://app.example.com:80",
            b"https://app.example.com:",
            b"https://app.example.com:0443",
            b"https://app.example.com:443:443",
            b"https://app.example.com:99999",
            b"https://app.example.com:-1",
            b"https://app.example.com.evil.io",
            b"https://evilapp.example.com",
            b"https://xapp.example.com",
            b"https://a.app.example.com",
            b"https://example.com",
            b"https://*.example.com",
            b"https://app.example.com@evil.io",
            b"https://evil.io@app.example.com",
            b"https://user:pass@app.example.com",
            b"https://app.example.com.",
            b"https://app.example.com/",
            b"https://app.example.com/x",
            b"https://app.example.com?x",
            b"https://app.example.com#x",
            b"https://app.example.com%2e",
            b"https://app%2eexample.com",
            b"https://app.example.com%00.evil.io",
            b"https://app.example.com\0.evil.io",
            b"https://app.example.com\t",
            b"https://app.exa\tmple.com",
            b" https://app.example.com",
            b"https://app.example.com ",
            b"https://app.example.com\r\nX: y",
            b"https://app.example.com, https://evil.io",
            b"https://app.example.com https://evil.io",
            b"https://xn--pp-7ia.example.com",
            "https://аpp.example.com".as_bytes(),
            "https://app。example。com".as_bytes(),
            b"https://ap\xff.example.com",
            b"http://2130706433",
            b"http://0x7f.1",
            b"http://127.1",
            b"http://0177.0.0.1",
            b"http://[::ffff:127.0.0.1]",
            b"http://[::1]",
            b"http://localhost",
            b"http://localhost:3001",
            b"https://[2001:db8::1",
        ];
        assert!(hostile.len() >= 40);
        for bad in hostile {
            assert!(!origins.allows(bad), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn an_empty_list_refuses_every_page() {
        assert!(!Origins::default().allows(b"https://app.example.com"));
    }

    #[test]
    fn international_hosts_are_configured_as_browsers_send_them() {
        assert_eq!(Origin::parse("https://münchen.example"), Err(InvalidOrigin::Excess));
        assert!(Origin::parse("https://xn--mnchen-3ya.example").is_ok());
    }
}
