//! A reference inflater (RFC 1951), bit by bit, which judges a message's end as RFC 7692 does and tells how far its matches reach.

/// What a sender of compressed messages cuts off (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What the payload of a compressed message means behind the messages `before` it, and the longest distance of a match.
///
/// `None` unless payload and tail are whole blocks up to the last byte, of which the tail adds nothing. After a block marked as the
/// last, another begins with the next byte; it may be the end instead. No more of those than 16 and one for each KiB.
pub(crate) fn message(payload: &[u8], before: &[u8]) -> Option<(Vec<u8>, usize)> {
    if payload.is_empty() {
        return Some((Vec::new(), 0));
    }
    let input = [payload, &TAIL].concat();
    let mut puff = Puff { input: &input, payload_bits: payload.len() * 8, bit: 0, output: before.to_vec(), farthest: 0 };
    let mut last_blocks = 0;
    loop {
        let last = puff.bits(1)? == 1;
        match puff.bits(2)? {
            0 => puff.stored()?,
            1 => puff.block(&Code::fixed_literals(), &Code::of(&[5; 30]))?,
            2 => puff.dynamic()?,
            _ => return None,
        }
        if last {
            puff.bit = puff.bit.next_multiple_of(8);
        }
        if puff.bit == input.len() * 8 || last && puff.bit == puff.payload_bits {
            return Some((puff.output.split_off(before.len()), puff.farthest));
        }
        last_blocks += usize::from(last);
        if last_blocks > 16 + (puff.output.len() - before.len()) / 1024 {
            return None;
        }
    }
}

struct Puff<'a> {
    input: &'a [u8],
    payload_bits: usize,
    bit: usize,
    output: Vec<u8>,
    farthest: usize,
}

impl Puff<'_> {
    fn bits(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for index in 0..count {
            let byte = self.input.get(self.bit / 8)?;
            value |= usize::from(byte >> (self.bit % 8) & 1) << index;
            self.bit += 1;
        }
        Some(value)
    }

    /// A byte more, unless it is made of the tail.
    fn put(&mut self, byte: u8) -> Option<()> {
        self.output.push(byte);
        (self.bit <= self.payload_bits).then_some(())
    }

    fn stored(&mut self) -> Option<()> {
        self.bit = self.bit.next_multiple_of(8);
        let (length, inverse) = (self.bits(16)?, self.bits(16)?);
        if length != inverse ^ 0xffff {
            return None;
        }
        for _ in 0..length {
            let byte = u8::try_from(self.bits(8)?).ok()?;
            self.put(byte)?;
        }
        Some(())
    }

    fn dynamic(&mut self) -> Option<()> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances, codes) = (self.bits(5)? + 257, self.bits(5)? + 1, self.bits(4)? + 4);
        if literals > 286 || distances > 30 {
            return None;
        }
        let mut lengths = [0; 19];
        for &symbol in &ORDER[..codes] {
            lengths[symbol] = self.bits(3)?;
        }
        let code = Code::whole(&lengths, false)?;
        let mut lengths: Vec<usize> = Vec::new();
        while lengths.len() < literals + distances {
            match self.symbol(&code)? {
                16 => lengths.extend(vec![*lengths.last()?; self.bits(2)? + 3]),
                17 => lengths.extend(vec![0; self.bits(3)? + 3]),
                18 => lengths.extend(vec![0; self.bits(7)? + 11]),
                length => lengths.push(length),
            }
        }
        if lengths.len() > literals + distances || lengths[256] == 0 {
            return None;
        }
        let (literals, distances) = lengths.split_at(literals);
        self.block(&Code::whole(literals, true)?, &Code::whole(distances, true)?)
    }

    fn block(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            let length = match self.symbol(literals)? {
                literal @ 0..=255 => {
                    self.put(u8::try_from(literal).ok()?)?;
                    continue;
                }
                256 => return Some(()),
                symbol @ 257..=264 => symbol - 254,
                symbol @ 265..=284 => {
                    let extra = (symbol - 261) / 4;
                    ((4 + (symbol - 261) % 4) << extra) + 3 + self.bits(extra)?
                }
                285 => 258,
                _ => return None,
            };
            let distance = match self.symbol(distances)? {
                symbol @ 0..=3 => symbol + 1,
                symbol @ 4..=29 => {
                    let extra = symbol / 2 - 1;
                    ((2 + symbol % 2) << extra) + 1 + self.bits(extra)?
                }
                _ => return None,
            };
            self.farthest = self.farthest.max(distance);
            for _ in 0..length {
                let at = self.output.len().checked_sub(distance)?;
                self.put(self.output[at])?;
            }
        }
    }

    fn symbol(&mut self, code: &Code) -> Option<usize> {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for count in &code.counts[1..] {
            value |= self.bits(1)?;
            if value < first + count {
                return code.symbols.get(index + value - first).copied();
            }
            (index, first, value) = (index + count, (first + count) << 1, value << 1);
        }
        None
    }
}

/// A canonical Huffman code: how many codes of each length, and their symbols in order.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn of(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        for &symbol in &symbols {
            counts[lengths[symbol]] += 1;
        }
        Self { counts, symbols }
    }

    /// No two symbols share a code, and no code has no symbol. Only one symbol alone may have one of the two codes of a bit, where
    /// that is allowed; and no symbols at all are no code (RFC 1951, 3.2.7).
    fn whole(lengths: &[usize], may_be_one: bool) -> Option<Self> {
        let code = Self::of(lengths);
        let used: usize = (1..16).map(|length| code.counts[length] << (15 - length)).sum();
        let one = may_be_one && code.symbols.len() == 1 && code.counts[1] == 1;
        (used == 1 << 15 || one || code.symbols.is_empty()).then_some(code)
    }

    fn fixed_literals() -> Self {
        let length = |symbol| match symbol {
            0..=143 => 8,
            144..=255 => 9,
            256..=279 => 7,
            _ => 8,
        };
        Self::of(&(0..288).map(length).collect::<Vec<_>>())
    }
}
