//! Publishing at a pace or as fast as answers come, and counting what arrives with its latency.

use std::io;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::micros;
use crate::http::Answer;
use crate::latency::Histogram;
use crate::swarm::{Sink, Swarm};
use crate::target::{Publishing, TIME_BASE, Target};

/// When the next message is published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many a second, whatever the answers.
    PerSecond(f64),
    /// As fast as `publishers` connections with `pipeline` unanswered requests each go, and at most `on_the_way` messages
    /// that have not reached everybody.
    Closed {
        /// HTTP connections.
        publishers: usize,
        /// Unanswered requests on each.
        pipeline: usize,
        /// Messages that have not reached everybody.
        on_the_way: u64,
    },
}

impl Pace {
    /// The same with a connection for each request, if the server ends each with its answer.
    #[must_use]
    pub fn fit(self, target: &Target) -> Self {
        match (self, &target.publishing) {
            (Self::Closed { publishers, pipeline, on_the_way }, Publishing::Pusher(_)) => {
                Self::Closed { publishers: publishers * pipeline, pipeline: 1, on_the_way }
            }
            _ => self,
        }
    }

    /// HTTP connections that it needs.
    pub const fn publishers(self) -> usize {
        match self {
            Self::PerSecond(_) => 1,
            Self::Closed { publishers, .. } => publishers,
        }
    }
}

/// What arrived. A frame may hold several messages: each time in it counts as one.
pub struct Deliveries {
    /// Finds what precedes a time.
    finder: Finder<'static>,
    started: Instant,
    /// Latency is measured for one of so many.
    sample: u64,
    /// Peers from this number on count as healthy: their latency is measured.
    healthy_from: usize,
    /// Messages received by all.
    pub count: u64,
    /// From just before the publish request to being read, of sampled messages.
    pub latency: Histogram,
    /// Publishes that were answered 2xx.
    pub acknowledged: u64,
    /// Publishes that were refused.
    pub refused: u64,
    /// One of the refusals.
    pub refusal: Option<Answer>,
}

impl Deliveries {
    /// Nothing yet; `mark` precedes the time in each message ([`Target::mark`]), and latency is measured for one message of `sample`, on
    /// peers from `healthy_from` on.
    pub fn new(mark: &str, sample: u64, healthy_from: usize) -> Self {
        Self {
            finder: Finder::new(mark).into_owned(),
            started: Instant::now(),
            sample,
            healthy_from,
            count: 0,
            latency: Histogram::default(),
            acknowledged: 0,
            refused: 0,
            refusal: None,
        }
    }

    /// When its clock began: what messages carry as their time is counted from there.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Forgets what was counted so far.
    pub fn reset(&mut self) {
        (self.count, self.acknowledged, self.refused) = (0, 0, 0);
        self.latency = Histogram::default();
    }
}

impl Sink for Deliveries {
    fn message(&mut self, peer: usize, payload: &[u8]) {
        for at in self.finder.find_iter(payload) {
            self.count += 1;
            if self.count.is_multiple_of(self.sample) && peer >= self.healthy_from {
                let digits = payload[at + self.finder.needle().len()..].iter().take_while(|byte| byte.is_ascii_digit());
                let sent = digits.fold(0_u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
                self.latency.record((micros(self.started) + TIME_BASE).saturating_sub(sent));
            }
        }
    }

    fn answer(&mut self, _publisher: usize, answer: Answer) {
        if (200..300).contains(&answer.status) {
            self.acknowledged += 1;
        } else {
            self.refused += 1;
            self.refusal.get_or_insert(answer);
        }
    }
}

/// Publishes for `time` to `swarm`, of which `receivers` connections read; says how many messages were published.
///
/// # Errors
/// When a publisher's connection breaks.
pub fn publish(swarm: &mut Swarm, sink: &mut Deliveries, pace: Pace, pad: usize, receivers: u64, time: Duration) -> io::Result<u64> {
    let (started, first_count) = (Instant::now(), sink.count);
    let mut published = 0_u64;
    while started.elapsed() < time {
        let mut timeout = Duration::from_millis(5);
        match pace {
            Pace::PerSecond(rate) => {
                let due = |number: u64| Duration::from_secs_f64(number as f64 / rate);
                while due(published) <= started.elapsed() {
                    // The time at which it was due, not at which this thread came to it: its own delay counts too.
                    let t = (started + due(published)).duration_since(sink.started).as_micros() as u64;
                    let request = swarm.target().publication(t, pad);
                    swarm.request(0, &request);
                    published += 1;
                }
                timeout = timeout.min(due(published).saturating_sub(started.elapsed()));
            }
            Pace::Closed { publishers, pipeline, on_the_way } => {
                for which in 0..publishers {
                    // Those on their way, the next one among them: all that not every receiver has.
                    let delivered = |sink: &Deliveries| (sink.count - first_count) / receivers.max(1);
                    while swarm.unanswered(which) < pipeline && published < delivered(sink) + on_the_way {
                        let request = swarm.target().publication(micros(sink.started), pad);
                        swarm.request(which, &request);
                        published += 1;
                    }
                }
            }
        }
        swarm.turn(timeout, sink)?;
    }
    Ok(published)
}

/// Turns until `expected` messages have arrived or nothing came for a second.
///
/// # Errors
/// When a publisher's connection breaks.
pub fn settle(swarm: &mut Swarm, sink: &mut Deliveries, expected: u64) -> io::Result<()> {
    let (mut last, mut last_at) = (sink.count, Instant::now());
    while sink.count < expected && last_at.elapsed() < Duration::from_secs(1) {
        swarm.turn(Duration::from_millis(20), sink)?;
        if sink.count != last {
            (last, last_at) = (sink.count, Instant::now());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_frame_counts() {
        let mut sink = Deliveries::new(r#""t":"#, 1, 1);
        sink.message(0, br#"[{"type":"message","data":{"t":5,"p":"x"}},{"type":"message","data":{"t":6}}]"#);
        sink.message(1, br#"{"type":"message","data":{"t":0}}"#);
        sink.message(1, br#"{"type":"live"}"#);
        assert_eq!((sink.count, sink.latency.len()), (3, 1));
    }

    #[test]
    fn a_time_is_found_in_json_within_a_string() {
        let mut sink = Deliveries::new(r#"\"t\":"#, 1, 0);
        sink.message(0, br#"{"event":"message","channel":"topic","data":"{\"t\":5,\"p\":\"x\"}"}"#);
        sink.message(0, br#"{"event":"pusher:ping","data":"{}"}"#);
        assert_eq!((sink.count, sink.latency.len()), (1, 1));
    }
}
