//! Memory for what waits for sockets, on the whole node: charged when bytes are made, given back when the last holder drops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::settings::OutboundMemory;

/// Where memory limits of containers are told: cgroup v2, then v1.
const CGROUP_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// What is assumed where neither a container nor `/proc` tells: a small machine.
const ASSUMED_MEMORY: u64 = 1 << 30;

/// The node's outbound budget. Bytes that many outboxes share are one allocation, and are charged once.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Gauge,
    limit: i64,
    pressed: Notify,
}

impl Budget {
    /// A budget of this size that keeps its use in this gauge.
    pub(crate) fn new(memory: OutboundMemory, used: Gauge) -> Self {
        let limit = match memory {
            OutboundMemory::Bytes(bytes) => bytes,
            OutboundMemory::Percent(percent) => memory_limit() / 100 * u64::from(percent),
        };
        Self { used, limit: i64::try_from(limit).unwrap_or(i64::MAX), pressed: Notify::new() }
    }

    /// The same bytes, charged until the last clone of them is dropped; `held` is what they keep alive besides.
    pub(crate) fn charge(self: &Arc<Self>, bytes: impl AsRef<[u8]> + Send + 'static, held: usize) -> Bytes {
        let amount = i64::try_from(bytes.as_ref().len() + held).unwrap_or(i64::MAX);
        let used = self.used.inc_by(amount) + amount;
        if used > self.limit {
            self.pressed.notify_one();
        }
        Bytes::from_owner(Charged { bytes, amount, budget: Arc::clone(self) })
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> i64 {
        self.used.get()
    }

    /// Whether more is in use than may be.
    pub(crate) fn is_over(&self) -> bool {
        self.used.get() > self.limit
    }

    /// Waits until it is.
    pub(crate) async fn over(&self) {
        while !self.is_over() {
            self.pressed.notified().await;
        }
    }
}

struct Charged<B> {
    bytes: B,
    amount: i64,
    budget: Arc<Budget>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Charged<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<B> Drop for Charged<B> {
    fn drop(&mut self) {
        let used: &AtomicI64 = self.budget.used.inner();
        used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// The container's limit, or the machine's memory where that is less.
fn memory_limit() -> u64 {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text)).unwrap_or(ASSUMED_MEMORY);
    let of_container = CGROUP_LIMITS.iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    of_container.unwrap_or(u64::MAX).min(of_machine)
}

fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_are_charged_once_and_until_the_last_lets_go() {
        let budget = Arc::new(Budget::new(OutboundMemory::Bytes(100), Gauge::default()));
        let first = budget.charge(vec![0; 60], 30);
        let second = first.clone();
        assert!(!budget.is_over());
        let other = budget.charge(vec![0; 11], 0);
        assert!(budget.is_over());
        drop(first);
        assert!(budget.is_over(), "the second still holds it");
        drop(second);
        assert!(!budget.is_over());
        drop(other);
        assert_eq!(budget.used.get(), 0);
    }

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(total_of("MemTotal:       24000000 kB\nMemFree: 1 kB"), Some(24_000_000 * 1024));
        assert!(memory_limit() > 1 << 20);
    }

    #[tokio::test]
    async fn who_waits_for_pressure_hears_of_it() {
        let budget = Arc::new(Budget::new(OutboundMemory::Bytes(10), Gauge::default()));
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.over().await }
        });
        let held = budget.charge(vec![0; 11], 0);
        waiting.await.unwrap();
        drop(held);
    }
}
