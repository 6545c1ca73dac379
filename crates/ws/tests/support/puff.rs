//! A reference inflater (RFC 1951), bit by bit, which also tells how far back its matches reach.

/// What raw deflate blocks mean, and the longest distance of a match. `None` if they are not whole blocks.
///
/// Ends at the end of the input between two blocks, or after a last block.
pub(crate) fn inflate(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut puff = Puff { input, bit: 0, output: Vec::new(), farthest: 0 };
    while puff.bit.div_ceil(8) < input.len() {
        let last = puff.bits(1)? == 1;
        match puff.bits(2)? {
            0 => puff.stored()?,
            1 => puff.block(&fixed_literals(), &Code::new(&[5; 30]))?,
            2 => puff.dynamic()?,
            _ => return None,
        }
        if last {
            break;
        }
    }
    Some((puff.output, puff.farthest))
}

struct Puff<'a> {
    input: &'a [u8],
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

    fn stored(&mut self) -> Option<()> {
        self.bit = self.bit.next_multiple_of(8);
        let (length, inverse) = (self.bits(16)?, self.bits(16)?);
        if length != inverse ^ 0xffff {
            return None;
        }
        let at = self.bit / 8;
        self.output.extend_from_slice(self.input.get(at..at + length)?);
        self.bit += length * 8;
        Some(())
    }

    fn dynamic(&mut self) -> Option<()> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances, codes) = (self.bits(5)? + 257, self.bits(5)? + 1, self.bits(4)? + 4);
        let mut lengths = [0; 19];
        for &symbol in &ORDER[..codes] {
            lengths[symbol] = self.bits(3)?;
        }
        let code = Code::new(&lengths);
        let mut lengths: Vec<usize> = Vec::new();
        while lengths.len() < literals + distances {
            match self.symbol(&code)? {
                16 => lengths.extend(vec![*lengths.last()?; self.bits(2)? + 3]),
                17 => lengths.extend(vec![0; self.bits(3)? + 3]),
                18 => lengths.extend(vec![0; self.bits(7)? + 11]),
                length => lengths.push(length),
            }
        }
        self.block(&Code::new(lengths.get(..literals)?), &Code::new(lengths.get(literals..literals + distances)?))
    }

    fn block(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            let length = match self.symbol(literals)? {
                literal @ 0..=255 => {
                    self.output.push(u8::try_from(literal).ok()?);
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
                self.output.push(self.output[at]);
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
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        for &symbol in &symbols {
            counts[lengths[symbol]] += 1;
        }
        Self { counts, symbols }
    }
}

fn fixed_literals() -> Code {
    let lengths: Vec<usize> = (0..288)
        .map(|symbol| match symbol {
            0..=143 => 8,
            144..=255 => 9,
            256..=279 => 7,
            _ => 8,
        })
        .collect();
    Code::new(&lengths)
}
