//! `tidegate.v1.json`, the normative dialect: text frames that hold an object, or an array of objects handled in order.
//!
//! `data` is never parsed: it passes through byte for byte, once it is known to be JSON.

mod decode;
mod encode;
mod publication;

pub use decode::{Malformed, decode};
pub use encode::encode_server;
pub use publication::encode_publication;

/// Appends text as a JSON string.
fn push_string(text: &str, out: &mut Vec<u8>) {
    // Writing a `str` to a `Vec` can't fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a whole number.
fn push_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let (mut rest, mut at) = (number, digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
