//! When to try again: the rules of "Reconnecting" in the protocol, as a function of what happened.

use std::time::Duration;

use tidegate_core::{CloseClass, ReconnectSettings, close_class};

/// What ended the last connection or try.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
    /// Whether that connection had been welcomed; a failed try had not.
    pub(crate) welcomed: bool,
}

/// Milliseconds to wait before the next try, after `tries` earlier ones that did not last. `random` is in [0, 1).
pub(crate) fn retry_delay_ms(loss: &Loss, tries: u32, settings: &ReconnectSettings, random: f64) -> u64 {
    let class = close_class(loss.code);
    let ceiling = ms(settings.base).saturating_mul(1 << tries.min(32)).min(ms(settings.cap));
    let jittered = (random * ceiling as f64) as u64;
    match retry_ms(&loss.reason) {
        Some(hint) if class == CloseClass::Resume => hint,
        Some(hint) => hint.max(jittered),
        None if class == CloseClass::Resume || tries == 0 && loss.is_unexpected() => (random * ms(settings.window) as f64) as u64,
        None => jittered,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Loss {
    /// A loss that hits everybody at once: the node or the path is gone, or the cursors are. Coded closes come one by one.
    fn is_unexpected(&self) -> bool {
        self.welcomed && (self.code < 4000 || close_class(self.code) == CloseClass::StartAfresh)
    }
}

/// `retry_ms` of a close reason such as `draining;retry_ms=3500`.
fn retry_ms(reason: &str) -> Option<u64> {
    let digits = reason.split(';').skip(1).find_map(|part| part.strip_prefix("retry_ms="))?;
    (digits.len() <= 9).then(|| digits.parse().ok())?
}

/// The name that a close reason begins with.
pub(crate) fn close_name(reason: &str) -> &str {
    reason.split(';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ReconnectSettings =
        ReconnectSettings { window: Duration::from_secs(8), base: Duration::from_secs(1), cap: Duration::from_secs(60) };

    fn delay(code: u16, reason: &str, welcomed: bool, tries: u32) -> u64 {
        retry_delay_ms(&Loss { code, reason: reason.into(), welcomed }, tries, &SETTINGS, 0.5)
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        assert_eq!(delay(4000, "draining;retry_ms=3500", true, 0), 3500, "a resume comes when it is told to");
        assert_eq!(delay(4101, "overloaded;retry_ms=200", true, 0), 500, "a back-off is not before the hint, and still spread");
        assert_eq!(delay(4101, "overloaded;retry_ms=9000", true, 0), 9000);
        assert_eq!(delay(4000, "draining", true, 3), 4000, "without a hint a resume is spread over the window");
        assert_eq!(delay(1006, "", true, 0), 4000, "so is the first try after an unexpected loss");
        assert_eq!(delay(1006, "", true, 2), 2000, "later ones back off");
        assert_eq!(delay(1006, "", false, 0), 500, "a failed try backs off from the start");
        assert_eq!(delay(4103, "slow_consumer", true, 40), 30_000, "to the cap, however often");
        assert_eq!(delay(4101, "overloaded;retry_ms=99999999999", true, 0), 500, "an absurd hint is no hint");
    }
}
