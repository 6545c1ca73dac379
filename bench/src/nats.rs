//! Publishing to NATS: a message and a ping behind it, whose pong says that the message was taken.

use memchr::memmem;

use crate::http::Answer;

/// What a client says first.
pub(crate) const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

/// What publishes `body` on `subject` and asks whether it arrived.
pub(crate) fn publication(subject: &str, body: &str) -> String {
    format!("PUB {subject} {}\r\n{body}\r\nPING\r\n", body.len())
}

/// The first answer in `bytes` and where it ends: `PONG` and errors answer, other lines are passed over.
pub(crate) fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let mut begin = 0;
    loop {
        let end = begin + memmem::find(&bytes[begin..], b"\r\n")?;
        let line = &bytes[begin..end];
        begin = end + 2;
        if line == b"PONG" {
            return Some((Answer { status: 200, body: String::new() }, begin));
        }
        if line.starts_with(b"-ERR") {
            return Some((Answer { status: 500, body: String::from_utf8_lossy(line).into_owned() }, begin));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pongs_and_errors_answer() {
        let bytes = b"INFO {}\r\nPING\r\nPONG\r\n-ERR 'no'\r\nPO";
        let (first, length) = parse(bytes).unwrap();
        assert_eq!(first.status, 200);
        let (second, more) = parse(&bytes[length..]).unwrap();
        assert_eq!((second.status, second.body.as_str()), (500, "-ERR 'no'"));
        assert_eq!(parse(&bytes[length + more..]), None);
        assert_eq!(publication("a", "bc"), "PUB a 2\r\nbc\r\nPING\r\n");
    }
}
