//! Masking (RFC 6455, 5.3): eight bytes at a time, in a form that the compiler turns into wider ones.

/// Copies `from` behind what `into` holds, masked or unmasked with `mask`, of which the first `offset` bytes have been used.
pub(crate) fn append(into: &mut Vec<u8>, from: &[u8], mask: [u8; 4], offset: usize) {
    let start = into.len();
    into.extend_from_slice(from);
    apply(&mut into[start..], mask, offset);
}

/// Masks or unmasks in place.
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let turned: [u8; 4] = std::array::from_fn(|index| mask[(index + offset) & 3]);
    let word = u64::from(u32::from_ne_bytes(turned));
    let wide = word | word << 32;
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (index, byte) in chunks.into_remainder().iter_mut().enumerate() {
        *byte ^= turned[index & 3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_offset_equals_the_definition() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        for length in 0..40 {
            for offset in 0..9 {
                let plain: Vec<u8> = (0..length).collect();
                let mut fast = plain.clone();
                apply(&mut fast, mask, offset);
                let slow: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[(at + offset) % 4]).collect();
                assert_eq!(fast, slow, "{length} {offset}");
            }
        }
    }
}
