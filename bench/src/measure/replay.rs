//! Subscribers of a channel at a pace while others catch up with a long history: what the one costs the other.

use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::traffic::{Deliveries, Pace, publish, settle};
use super::{make_ready, subscribed};
use crate::peer::Options;
use crate::process::Process;
use crate::report::Report;
use crate::swarm::{Sink, Swarm};
use crate::target::Target;

/// How long the history may take to be published, and to be caught up with.
const WITHIN: Duration = Duration::from_secs(110);
/// Publishing goes on in pieces of this length until everybody has caught up.
const PIECE: Duration = Duration::from_millis(250);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Subscribers that are up to date.
    pub subscribers: usize,
    /// Messages a second that they get.
    pub per_second: f64,
    /// Subscribers that catch up.
    pub resumers: usize,
    /// Messages that each of them has missed.
    pub messages: usize,
    /// The channel of those.
    pub history: String,
    /// Padding bytes of every message.
    pub pad: usize,
    /// How long is measured without anybody catching up.
    pub time: Duration,
}

/// Publishes the history, then measures latency without and with subscribers that catch up with it. Those are another process, at the
/// lowest priority: the load's own queue must not be taken for the server's.
///
/// # Errors
/// When connections fail or the server is gone.
pub fn run(target: &Target, process: Process, replay: &Replay) -> io::Result<Report> {
    fill(target, replay)?;
    let mut sink = Deliveries::new(&target.mark, 1, 0);
    let mut swarm = subscribed(target, replay.subscribers, &mut sink)?;
    swarm.add_publisher()?;
    let receivers = replay.subscribers as u64;
    let mut live = |sink: &mut Deliveries, time| -> io::Result<()> {
        let published = publish(&mut swarm, sink, Pace::PerSecond(replay.per_second), replay.pad, receivers, time)?;
        settle(&mut swarm, sink, sink.count.max(published * receivers))
    };
    live(&mut sink, Duration::from_secs(1))?;
    sink.reset();
    live(&mut sink, replay.time)?;
    let (p50, p99) = (sink.latency.quantile_ms(0.5), sink.latency.quantile_ms(0.99));

    sink.reset();
    let (before, started) = (process.cpu_seconds()?, Instant::now());
    let mut others = Others::start(target, replay)?;
    while !others.are_done()? {
        if started.elapsed() > WITHIN {
            return Err(io::Error::other("they did not catch up in time"));
        }
        live(&mut sink, PIECE)?;
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), process.cpu_seconds()? - before);
    let beside = sink.latency.quantile_ms(0.99);
    let replayed = (replay.resumers * replay.messages) as f64;
    Ok(Report::new(format!("replay {} to {} beside {} at {}/s", replay.messages, replay.resumers, replay.subscribers, replay.per_second))
        .number("p50_alone_ms", p50)
        .number("p99_alone_ms", p99)
        .number("p50_beside_ms", sink.latency.quantile_ms(0.5))
        .number("p99_beside_ms", beside)
        .number("p99_ratio", beside / p99)
        .number("replayed_per_second", replayed / seconds)
        .number("replayed_per_cpu_second", replayed / cpu)
        .number("replay_s", seconds)
        .number("live_deliveries", sink.count as f64)
        .number("refused", sink.refused as f64))
}

/// Publishes the history as fast as answers come.
fn fill(target: &Target, replay: &Replay) -> io::Result<()> {
    const PUBLISHERS: usize = 4;
    const PIPELINE: usize = 64;
    let mut swarm = Swarm::new(Target { channel: replay.history.clone(), ..target.clone() })?;
    (0..PUBLISHERS).try_for_each(|_| swarm.add_publisher())?;
    let (mut sink, mut published, started) = (Deliveries::new(&target.mark, 1, 0), 0, Instant::now());
    while sink.acknowledged < replay.messages as u64 {
        for which in 0..PUBLISHERS {
            while published < replay.messages && swarm.unanswered(which) < PIPELINE {
                let request = swarm.target().publication(published as u64, replay.pad);
                swarm.request(which, &request);
                published += 1;
            }
        }
        swarm.turn(Duration::from_millis(5), &mut sink)?;
        if sink.refused > 0 || started.elapsed() > WITHIN {
            let refusal = sink.refusal.map_or_else(String::new, |answer| answer.body);
            return Err(io::Error::other(format!("{} of the history published, {refusal}", sink.acknowledged)));
        }
    }
    Ok(())
}

/// The process of those who catch up; ended with this value.
struct Others(Child);

impl Others {
    fn start(target: &Target, replay: &Replay) -> io::Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?).args([
            "resumers",
            "--url",
            &format!("ws://{}{}", target.address, target.path),
        ]);
        command.args(["--channel", &replay.history]);
        command.args(["--resumers", &replay.resumers.to_string(), "--messages", &replay.messages.to_string()]);
        command.spawn().map(Self)
    }

    fn are_done(&mut self) -> io::Result<bool> {
        match self.0.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(io::Error::other(format!("those who catch up failed: {status}"))),
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The messages that each has got.
struct Counts(Vec<usize>);

impl Sink for Counts {
    fn message(&mut self, peer: usize, payload: &[u8]) {
        if memchr::memmem::find(payload, br#""type":"message""#).is_some() {
            self.0[peer] += 1;
        }
    }
}

/// The other process: subscribes from the earliest message on, and ends when everybody has all.
///
/// # Errors
/// When connections fail or not everything came in time.
pub fn resume(target: &Target, resumers: usize, messages: usize) -> io::Result<()> {
    let subscribe = r#"{"type":"subscribe","id":1,"channel":"{channel}","since":"earliest"}"#.to_owned();
    let ready = r#""type":"subscribed""#.to_owned();
    let mut swarm = Swarm::new(Target { subscribe, ready, ..target.clone() })?;
    let mut counts = Counts(vec![0; resumers]);
    swarm.add(resumers, Options::default());
    make_ready(&mut swarm, resumers, &mut counts)?;
    let started = Instant::now();
    while counts.0.iter().any(|count| *count < messages) {
        if started.elapsed() > WITHIN || swarm.ended() > 0 {
            let least = counts.0.iter().min().copied().unwrap_or_default();
            return Err(io::Error::other(format!("the last has {least} of {messages} messages, ended: {:?}", swarm.ends())));
        }
        swarm.turn(Duration::from_millis(20), &mut counts)?;
    }
    Ok(())
}
