//! No match of a compressed frame reaches farther back than the window that was agreed on, down to 256 bytes.

use proptest::prelude::*;
use tidegate_ws::Compressor;

#[path = "support/puff.rs"]
mod puff;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn matches_stay_in_the_window(
        words in prop::collection::vec(prop::collection::vec(0u8..4, 1..40), 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..800),
        bits in 8u8..=15,
    ) {
        let payload: Vec<u8> = order.iter().flat_map(|at| at.get(&words).clone()).collect();
        if let Some(small) = Compressor::new(bits).compress(&payload) {
            prop_assert!(small.len() < payload.len());
            let (plain, farthest) = puff::message(&small, &[]).unwrap();
            prop_assert_eq!(plain, payload);
            prop_assert!(farthest <= 1 << bits, "{} back with {} bits", farthest, bits);
        }
    }
}

#[test]
fn the_reference_sees_what_a_larger_window_reaches() {
    let far = [
        &b"a phrase to come back to"[..],
        &(0..2000u32).flat_map(|at| (at.wrapping_mul(2_654_435_761)).to_le_bytes()).collect::<Vec<_>>(),
        b"a phrase to come back to",
    ]
    .concat();
    let padded = [far, vec![0; 8000]].concat();
    let reach = |bits| puff::message(&Compressor::new(bits).compress(&padded).unwrap(), &[]).unwrap().1;
    assert!(reach(15) > 8000);
    assert!(reach(8) <= 256);
}
