//! Negotiating permessage-deflate (RFC 7692, 5 and 7.1): strict parsing, each side.

use super::Deflate;

/// Why a server's answer can't be taken (client side; the connection is to be failed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// An extension that was not offered.
    Unknown,
    /// A parameter that is unknown, repeated, or has a value it can't have.
    Parameter,
}

impl std::fmt::Display for OfferError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Unknown => "an extension that was not offered",
            Self::Parameter => "an unknown, repeated or invalid parameter of permessage-deflate",
        })
    }
}

impl std::error::Error for OfferError {}

/// What one offer, or one answer, says.
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)`: the client can do it, whatever the size.
    client_max_window_bits: Option<Option<u8>>,
}

/// Takes the first acceptable offer of the values of `Sec-WebSocket-Extensions`, in order. Gives what was agreed and the value of
/// the answering header; `None` when no offer can be taken: the connection goes on without compression.
///
/// Both sides are asked to forget their window after each message: that is what makes a compressed frame shareable, and an idle
/// connection small.
pub fn accept_offer<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<(Deflate, String)> {
    values.into_iter().flat_map(|value| split(value, b',')).find_map(|offer| {
        let parameters = parse(offer).ok()?;
        let mut answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if let Some(bits) = parameters.server_max_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        let agreed = Deflate {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: parameters.server_max_window_bits.unwrap_or(15),
            client_max_window_bits: 15,
        };
        Some((agreed, answer))
    })
}

/// Reads a server's answer to the offer `permessage-deflate; client_max_window_bits`.
///
/// # Errors
/// The answer is none that RFC 7692 allows.
pub fn check_answer(value: &str) -> Result<Deflate, OfferError> {
    let mut answers = split(value, b',');
    let answer = answers.next().ok_or(OfferError::Unknown)?;
    if answers.next().is_some() {
        return Err(OfferError::Unknown);
    }
    let parameters = parse(answer)?;
    let client_max_window_bits = match parameters.client_max_window_bits {
        Some(None) => return Err(OfferError::Parameter),
        Some(Some(bits)) => bits,
        None => 15,
    };
    Ok(Deflate {
        server_no_context_takeover: parameters.server_no_context_takeover,
        client_no_context_takeover: parameters.client_no_context_takeover,
        server_max_window_bits: parameters.server_max_window_bits.unwrap_or(15),
        client_max_window_bits,
    })
}

fn parse(extension: &str) -> Result<Parameters, OfferError> {
    let mut parts = split(extension, b';');
    if !parts.next().is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate")) {
        return Err(OfferError::Unknown);
    }
    let mut parameters = Parameters::default();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
            None => (part, None),
        };
        let fresh = match (name, value) {
            ("server_no_context_takeover", None) => !std::mem::replace(&mut parameters.server_no_context_takeover, true),
            ("client_no_context_takeover", None) => !std::mem::replace(&mut parameters.client_no_context_takeover, true),
            ("server_max_window_bits", Some(value)) => parameters.server_max_window_bits.replace(bits(value)?).is_none(),
            ("client_max_window_bits", value) => parameters.client_max_window_bits.replace(value.map(bits).transpose()?).is_none(),
            _ => false,
        };
        if !fresh {
            return Err(OfferError::Parameter);
        }
    }
    Ok(parameters)
}

/// 8 to 15 in decimal, without leading zeros (7.1.2).
fn bits(value: &str) -> Result<u8, OfferError> {
    match value.parse() {
        Ok(bits @ 8..=15) if !value.starts_with(['0', '+']) => Ok(bits),
        _ => Err(OfferError::Parameter),
    }
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Splits at a separator outside of quotes, trimmed.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let mut quoted = false;
        let end = current.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte == separator && !quoted
        });
        let (part, next) = match end {
            Some(end) => (&current[..end], Some(&current[end + 1..])),
            None => (current, None),
        };
        rest = next;
        Some(part.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_parsed_strictly() {
        for bad in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; unknown",
            "permessage-deflate;",
        ] {
            assert_eq!(accept_offer([bad]), None, "{bad}");
        }
    }

    #[test]
    fn the_first_good_offer_is_taken() {
        let (agreed, answer) = accept_offer([
            "permessage-deflate; server_max_window_bits=3, permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits",
        ])
        .unwrap();
        assert_eq!(agreed.server_max_window_bits, 10);
        assert_eq!(answer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10");
        assert_eq!(check_answer(&answer), Ok(Deflate { client_max_window_bits: 15, ..agreed }));
    }

    #[test]
    fn answers_are_checked() {
        assert_eq!(check_answer("permessage-deflate; client_max_window_bits"), Err(OfferError::Parameter));
        assert_eq!(check_answer("permessage-deflate, permessage-deflate"), Err(OfferError::Unknown));
        assert_eq!(check_answer("foo"), Err(OfferError::Unknown));
    }
}
