//! How a message's buffer grows: by doubling, so that bytes are copied a few times at most, but never past its limit.

/// Makes room for `more` bytes, which are within the limit.
pub(crate) fn reserve(buffer: &mut Vec<u8>, more: usize, limit: usize) {
    let needed = buffer.len().saturating_add(more);
    if needed > buffer.capacity() {
        let wanted = buffer.capacity().saturating_mul(2).min(limit).max(needed);
        buffer.reserve_exact(wanted - buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_limit() {
        let mut buffer = Vec::new();
        let mut capacities = Vec::new();
        for _ in 0..100 {
            reserve(&mut buffer, 10, 1000);
            buffer.extend_from_slice(&[0; 10]);
            capacities.push(buffer.capacity());
        }
        capacities.dedup();
        assert_eq!(capacities, [10, 20, 40, 80, 160, 320, 640, 1000]);
    }
}
