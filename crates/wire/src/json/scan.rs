//! What skipping over a JSON value does not check: how deep it is, and that its escapes are characters.

/// How deep arrays and objects may be nested in a frame, the envelope counted: what common readers take (serde_json 128,
/// most others more), so that nobody can publish what subscribers fail to read.
pub const DEPTH: usize = 128;

/// Whether arrays and objects are nested deeper than [`DEPTH`]. On what is not JSON the answer means nothing.
pub(super) fn is_too_deep(json: &[u8]) -> bool {
    // Nearly every frame has too few brackets to be deep, and counting them is many times faster than following them.
    opening_brackets(json) > DEPTH && deepest(json) > DEPTH
}

fn opening_brackets(json: &[u8]) -> usize {
    // `[` and `{` differ in one bit.
    json.iter().filter(|&&byte| byte | 0x20 == b'{').count()
}

fn deepest(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether a `\u` escape of valid JSON is half of a surrogate pair: grammatical (RFC 8259 section 8.2), but no character.
pub(super) fn has_lone_surrogate(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = &rest[at..];
        rest = match code_unit(escape) {
            Some(0xd800..=0xdbff) => match code_unit(&escape[6..]) {
                Some(0xdc00..=0xdfff) => &escape[12..],
                _ => return true,
            },
            Some(0xdc00..=0xdfff) => return true,
            Some(_) => &escape[6..],
            // A backslash of valid JSON has an ASCII character after it.
            None => escape.get(2..).unwrap_or_default(),
        };
    }
    false
}

/// The number of an escape `\uXXXX` at the start.
fn code_unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_are_not_depth() {
        let text = format!(r#"{{"a":"\"{}\\","b":[]}}"#, "[".repeat(1000));
        assert_eq!(deepest(text.as_bytes()), 2);
        assert!(!is_too_deep(text.as_bytes()));
    }

    #[test]
    fn depth_is_counted_exactly() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!is_too_deep(nested(DEPTH).as_bytes()));
        assert!(is_too_deep(nested(DEPTH + 1).as_bytes()));
        assert!(!is_too_deep("[]".repeat(1000).as_bytes()));
    }

    #[test]
    fn only_halves_of_pairs_are_lone() {
        for whole in [r#""""#, r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u0041\n\"""#, r#"{"ü\/":"\uFFFF"}"#] {
            assert!(!has_lone_surrogate(whole), "{whole}");
            assert!(serde_json::from_str::<serde_json::Value>(whole).is_ok(), "{whole}");
        }
        for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800x""#, r#""\ud83d\ud83d\ude00""#, r#"{"\uDFFF":1}"#] {
            assert!(has_lone_surrogate(lone), "{lone}");
            assert!(serde_json::from_str::<serde_json::Value>(lone).is_err(), "{lone}");
        }
    }
}
