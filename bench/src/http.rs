//! Answers of an HTTP/1.1 server, split where they end.

use memchr::memmem;

/// An answer's status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// The first whole answer of `bytes` and its length; bodies by `Content-Length` or in one chunk.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_end = memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[head_end + 4..];
    let header = |name: &str| {
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    };
    let (body, length) = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        let length = memmem::find(body, b"0\r\n\r\n")? + 5;
        (&body[..length], length)
    } else {
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        (body.get(..length)?, length)
    };
    Some((Answer { status, body: String::from_utf8_lossy(body).into_owned() }, head_end + 4 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split_where_they_end() {
        let two = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{1}HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        let (first, length) = parse(two).unwrap();
        assert_eq!(first, Answer { status: 200, body: "{1}".to_owned() });
        assert_eq!(parse(&two[length..]).unwrap().0.status, 503);
        assert_eq!(parse(&two[..length - 1]), None);
    }

    #[test]
    fn a_chunked_answer_ends_at_its_last_chunk() {
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP";
        assert_eq!(parse(bytes).unwrap().1, bytes.len() - 4);
    }
}
