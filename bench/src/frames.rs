//! RFC 6455 frames as a client sees them: masked out, bare in.

/// Opcodes (RFC 6455, section 5.2).
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const BINARY: u8 = 2;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// One whole frame from the server.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    /// The low four bits of the first byte.
    pub opcode: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The first frame of `bytes` and its length on the wire; none while it is incomplete.
pub fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (length, start): (usize, usize) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let end = start.checked_add(length)?;
    Some((Frame { opcode: first & 0x0f, payload: bytes.get(start..end)? }, end))
}

/// Appends a whole message in one frame, masked with a key of zeros: allowed, and it costs nothing.
pub fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A close frame with `code`.
pub fn append_close(out: &mut Vec<u8>, code: u16) {
    append(out, CLOSE, &code.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would have sent: without the mask bit and key.
    fn from_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        append(&mut masked, opcode, payload);
        masked[1] &= 0x7f;
        let key = masked.len() - payload.len() - 4;
        masked.drain(key..key + 4);
        masked
    }

    #[test]
    fn every_length_form_is_read_back_and_never_too_early() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let mut bytes = from_server(TEXT, &payload);
            let whole = bytes.len();
            assert_eq!(parse(&bytes[..whole - 1]), None, "{length}");
            bytes.extend_from_slice(b"more");
            assert_eq!(parse(&bytes), Some((Frame { opcode: TEXT, payload: &payload }, whole)), "{length}");
        }
    }

    #[test]
    fn a_length_beyond_memory_is_no_frame() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(parse(&bytes), None);
    }
}
