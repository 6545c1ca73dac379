//! The inbound rate: a token bucket that can run into debt.

use crate::{Moment, RateSettings};

/// Every inbound frame takes a token. Below zero commands are refused; at a whole burst of debt the session ends, because a
/// client that goes on after being told is not going to stop.
#[derive(Debug)]
pub(super) struct Rate {
    /// Thousandths of a token: `per_second` of them come back each millisecond.
    level: i64,
    filled: Moment,
    /// When an application ping was last free of charge.
    free_ping: Moment,
    /// Messages of the last frames that their frames have paid for.
    prepaid: u32,
}

const TOKEN: i64 = 1000;

impl Rate {
    pub(super) fn new(now: Moment, settings: RateSettings) -> Self {
        Self { level: i64::from(settings.burst) * TOKEN, filled: now, free_ping: Moment::ZERO, prepaid: 0 }
    }

    /// Takes a token for each frame. The messages in them cost nothing more, except those of a batch after its first.
    pub(super) fn frames(&mut self, now: Moment, settings: RateSettings, count: u32) {
        self.refill(now, settings);
        self.level = self.level.saturating_sub(i64::from(count) * TOKEN);
        self.prepaid = count;
    }

    /// A message: one of the frames has paid for it, or it is a further one of a batch and pays itself.
    pub(super) fn message(&mut self) {
        match self.prepaid.checked_sub(1) {
            Some(left) => self.prepaid = left,
            None => self.level = self.level.saturating_sub(TOKEN),
        }
    }

    /// Gives back the token of an application ping, once a second.
    pub(super) fn ping(&mut self, now: Moment) {
        if self.free_ping.as_ms() == 0 || now.since(self.free_ping).as_millis() >= 1000 {
            self.free_ping = now;
            self.level += TOKEN;
        }
    }

    /// Whether commands are to be refused.
    pub(super) fn is_over(&self) -> bool {
        self.level < 0
    }

    /// Whether the debt is so large that the session ends.
    pub(super) fn is_spent(&self, settings: RateSettings) -> bool {
        self.level <= -i64::from(settings.burst.max(1)) * TOKEN
    }

    /// Milliseconds until a command is taken again.
    pub(super) fn retry_after_ms(&self, settings: RateSettings) -> u64 {
        let missing = u64::try_from(TOKEN - self.level).unwrap_or(0);
        missing.div_ceil(u64::from(settings.per_second.max(1)))
    }

    fn refill(&mut self, now: Moment, settings: RateSettings) {
        let elapsed = i64::try_from(now.since(self.filled).as_millis()).unwrap_or(i64::MAX);
        let full = i64::from(settings.burst) * TOKEN;
        self.level = self.level.saturating_add(elapsed.saturating_mul(i64::from(settings.per_second))).min(full);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: RateSettings = RateSettings { per_second: 20, burst: 40 };

    #[test]
    fn a_burst_then_the_rate_then_debt_then_the_end() {
        let now = Moment::from_ms(1000);
        let mut rate = Rate::new(now, SETTINGS);
        rate.frames(now, SETTINGS, 40);
        assert!(!rate.is_over());
        rate.frames(now, SETTINGS, 1);
        assert!(rate.is_over() && !rate.is_spent(SETTINGS));
        // One token of debt and one for the command, at 50 ms each.
        assert_eq!(rate.retry_after_ms(SETTINGS), 100);
        let later = Moment::from_ms(1000 + 100);
        rate.frames(later, SETTINGS, 1);
        assert!(!rate.is_over(), "what was promised is kept");
        rate.frames(later, SETTINGS, 39);
        assert!(!rate.is_spent(SETTINGS));
        rate.frames(later, SETTINGS, 1);
        assert!(rate.is_spent(SETTINGS));
    }

    #[test]
    fn a_batch_pays_for_each_of_its_messages() {
        let now = Moment::from_ms(1000);
        let mut rate = Rate::new(now, SETTINGS);
        rate.frames(now, SETTINGS, 1);
        for _ in 0..40 {
            rate.message();
        }
        assert!(!rate.is_over());
        rate.message();
        assert!(rate.is_over());
    }

    #[test]
    fn one_ping_a_second_is_free() {
        let mut rate = Rate::new(Moment::from_ms(1), SETTINGS);
        for second in 1..=1000u64 {
            let now = Moment::from_ms(second * 1000);
            rate.frames(now, RateSettings { per_second: 0, ..SETTINGS }, 1);
            rate.message();
            rate.ping(now);
        }
        assert!(!rate.is_over());
        let now = Moment::from_ms(1_000_500);
        rate.frames(now, RateSettings { per_second: 0, ..SETTINGS }, 41);
        rate.ping(now);
        assert!(rate.is_over(), "not two in a second");
    }
}
