//! A histogram of microseconds in fixed memory: 64 steps for each doubling, so within 1.6 % of the truth.

/// Steps for each doubling.
const STEPS: usize = 64;
/// Up to 2^36 µs, 19 hours.
const DOUBLINGS: usize = 31;

/// Counts of durations in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    highest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * DOUBLINGS], total: 0, highest: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, micros: u64) {
        let slot = slot(micros).min(self.counts.len() - 1);
        self.counts[slot] += 1;
        self.total += 1;
        self.highest = self.highest.max(micros);
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.highest as f64 / 1000.0
    }

    /// The duration in milliseconds that `share` (0 to 1) of the counted ones do not exceed; 0 when none was counted.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (slot, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(slot).min(self.highest) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn slot(micros: u64) -> usize {
    let steps = STEPS as u64;
    if micros < steps {
        return micros as usize;
    }
    let doubling = (micros / steps).ilog2();
    (doubling as usize + 1) * STEPS + ((micros >> doubling) - steps) as usize
}

fn upper(slot: usize) -> u64 {
    let (doubling, step) = (slot / STEPS, (slot % STEPS) as u64);
    if doubling == 0 { step } else { ((STEPS as u64 + step + 1) << (doubling - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000_u64).for_each(|micros| histogram.record(micros));
        for share in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let truth = share * 100.0;
            let told = histogram.quantile_ms(share);
            assert!((told - truth).abs() / truth < 0.02, "{share}: {told} for {truth}");
        }
        assert_eq!(histogram.len(), 100_000);
        assert_eq!(histogram.max_ms(), 100.0);
    }

    #[test]
    fn slots_join_without_holes_and_the_longest_still_counts() {
        for slot_number in 0..STEPS * 20 {
            assert_eq!(slot(upper(slot_number)), slot_number);
            assert_eq!(slot(upper(slot_number) + 1), slot_number + 1);
        }
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.len(), 1);
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!(Histogram::default().quantile_ms(0.99), 0.0);
    }
}
