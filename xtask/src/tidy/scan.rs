//! A rough reading of Rust: blanks out comments, strings and character literals, so that braces and words can be counted.

/// `text` with the same lines and columns, where only code is left.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped(bytes, at);
        if end > at {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn skipped(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(bytes, at);
    }
    if let Some(end) = raw_string(bytes, at) {
        return end;
    }
    match rest[0] {
        b'"' => quoted(bytes, at, b'"'),
        b'\'' if is_character_literal(rest) => quoted(bytes, at, b'\''),
        _ => at,
    }
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let begins_word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if !begins_word && bytes[at - 1] != b'b' {
        return None;
    }
    let rest = bytes[at..].strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|&&b| b == b'#').count();
    rest[hashes..].strip_prefix(b"\"")?;
    let mut ending = vec![b'"'];
    ending.resize(hashes + 1, b'#');
    let body = at + hashes + 2;
    let length = bytes[body..].windows(ending.len()).position(|window| window == ending)?;
    Some(body + length + ending.len())
}

fn quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Tells `'a'` and `'\n'` from a lifetime.
fn is_character_literal(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(&first) => rest[1..]
            .iter()
            .take(5)
            .skip(if first < 0x80 { 1 } else { 2 })
            .position(|&b| b == b'\'')
            .is_some_and(|gap| first >= 0x80 || gap == 0),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn only_code_is_left_where_it_was() {
        for (text, code) in [
            ("a // }\nb", "a\nb"),
            ("a /* { /* } */ */ b", "a b"),
            ("f(\"}\\\"{\")", "f( )"),
            ("f(r#\"}\"#, '}')", "f( , )"),
            ("f('\\'', b'{')", "f( , b )"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("let s = '→'; {", "let s = ; {"),
            ("for_r\"}\"", "for_r "),
        ] {
            let left = code_only(text);
            assert_eq!(left.len(), text.len(), "{text}");
            let lines: Vec<String> =
                left.lines().map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(lines.join("\n").replace(' ', ""), code.replace(' ', ""), "{text}");
        }
    }
}
