//! A reference decoder for a server without extensions: all the bytes at once, byte by byte as RFC 6455 says it, no care for speed.

use tidegate_ws::{CloseFrame, Event, Violation, is_valid_close_code};

/// What all of `bytes` mean, up to the first violation.
pub(crate) fn read(bytes: &[u8], limit: usize) -> (Vec<Event>, Option<Violation>) {
    let mut model = Model { bytes, at: 0, limit, events: Vec::new(), message: None };
    let violation = loop {
        match model.frame() {
            Ok(true) => {}
            Ok(false) => break None,
            Err(violation) => break Some(violation),
        }
    };
    (model.events, violation)
}

struct Model<'a> {
    bytes: &'a [u8],
    at: usize,
    limit: usize,
    events: Vec<Event>,
    message: Option<(bool, Vec<u8>)>,
}

impl Model<'_> {
    /// One frame. `false`: its bytes are not all there.
    fn frame(&mut self) -> Result<bool, Violation> {
        let Some([first, second]) = self.next::<2>() else { return Ok(false) };
        let (fin, opcode, short) = (first >= 0x80, first & 15, second & 0x7f);
        if matches!(opcode, 3..=7 | 11..=15) {
            return Err(Violation::ReservedOpCode);
        }
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBit);
        }
        if second < 0x80 {
            return Err(Violation::Unmasked);
        }
        if opcode >= 8 && (!fin || short > 125) {
            return Err(Violation::Control);
        }
        if opcode == 0 && self.message.is_none() || matches!(opcode, 1 | 2) && self.message.is_some() {
            return Err(Violation::Fragmentation);
        }
        let length = match short {
            126 => self.next::<2>().map(|two| (u64::from(u16::from_be_bytes(two)), 126)),
            127 => self.next::<8>().map(|eight| (u64::from_be_bytes(eight), 65536)),
            _ => Some((u64::from(short), 0)),
        };
        let (Some((length, least)), Some(key)) = (length, self.next::<4>()) else { return Ok(false) };
        if length < least || length > i64::MAX as u64 {
            return Err(Violation::Length);
        }
        if opcode >= 8 {
            return self.control(opcode, length, key);
        }
        if length + self.message.as_ref().map_or(0, |(_, data)| data.len() as u64) > self.limit as u64 {
            return Err(Violation::TooBig);
        }
        let (payload, whole) = self.payload(length, key);
        let (text, mut data) = self.message.take().unwrap_or((opcode == 1, Vec::new()));
        data.extend(payload);
        if text {
            let problem = std::str::from_utf8(&data).err();
            if problem.is_some_and(|problem| problem.error_len().is_some() || whole && fin) {
                return Err(Violation::Utf8);
            }
        }
        match (whole && fin, text) {
            (false, _) => self.message = Some((text, data)),
            (true, true) => self.events.push(Event::Text(data.into())),
            (true, false) => self.events.push(Event::Binary(data.into())),
        }
        Ok(whole)
    }

    fn control(&mut self, opcode: u8, length: u64, key: [u8; 4]) -> Result<bool, Violation> {
        let (payload, whole) = self.payload(length, key);
        if !whole {
            return Ok(false);
        }
        self.events.push(match (opcode, &payload[..]) {
            (9, _) => Event::Ping(payload.into()),
            (10, _) => Event::Pong(payload.into()),
            (_, []) => Event::Close(None),
            (_, [_]) => return Err(Violation::Close),
            (_, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                if !is_valid_close_code(code) {
                    return Err(Violation::Close);
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
                Event::Close(Some(CloseFrame { code, reason: reason.into() }))
            }
        });
        Ok(true)
    }

    fn payload(&mut self, length: u64, key: [u8; 4]) -> (Vec<u8>, bool) {
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(self.bytes.len() - self.at);
        let masked = &self.bytes[self.at..self.at + there];
        self.at += there;
        (masked.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect(), there as u64 == length)
    }

    fn next<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..self.at + N)?;
        self.at += N;
        taken.try_into().ok()
    }
}
