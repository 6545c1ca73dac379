//! What can't work, or would work and be wrong: with any of it nothing is started.

use std::time::Duration;

use tidegate::OutboundMemory;

use super::node::{BrokerKind, Durability};
use super::problem::Problems;
use super::schema::Sources;
use super::values::Size;
use super::{Config, channel};

/// Judges values that can be read.
pub(crate) fn judge(config: &Config, sources: &Sources, problems: &mut Problems) {
    let mut judge = Judge { sources, problems };
    judge.listeners(config);
    judge.heartbeat(config);
    judge.outbox_and_limits(config);
    judge.authority(config);
    judge.node(config);
    for (at, channel) in config.channel.iter().enumerate() {
        judge.channel(&format!("channel.{at}"), channel, config);
    }
}

struct Judge<'a> {
    sources: &'a Sources,
    problems: &'a mut Problems,
}

impl Judge<'_> {
    fn refuse_if(&mut self, wrong: bool, key: &str, text: impl Into<String>) {
        if wrong {
            self.problems.refuse(key, self.sources.of(key), text);
        }
    }

    fn at_least(&mut self, key: &str, value: Duration, least: Duration) {
        let text = format!("has to be at least {}", humantime::format_duration(least));
        self.refuse_if(value < least, key, text);
    }

    fn listeners(&mut self, config: &Config) {
        let (public, internal) = (&config.public, &config.internal);
        let path = &public.path;
        let is_path = path.starts_with('/') && !path.contains(['?', '#', '{', '}', '*', ' ']);
        self.refuse_if(!is_path, "public.path", "has to be a plain path that begins with /");
        let twice = public.listen == internal.listen && public.listen.port() != 0;
        self.refuse_if(twice, "internal.listen", "is the same address as public.listen");
        let open = !internal.listen.ip().is_loopback() && internal.keys.is_empty();
        self.refuse_if(open, "internal.listen", "is beyond loopback, and internal.keys is empty: anybody could publish");
    }

    fn heartbeat(&mut self, config: &Config) {
        let heartbeat = &config.heartbeat;
        self.at_least("heartbeat.ping", heartbeat.ping, Duration::from_secs(1));
        self.refuse_if(heartbeat.missed == 0, "heartbeat.missed", "has to be at least 1: with 0 every peer is dead");
        self.refuse_if(heartbeat.missed > 100, "heartbeat.missed", "has to be at most 100");
        for (key, span) in
            [("heartbeat.app_ping", heartbeat.app_ping), ("heartbeat.idle", heartbeat.idle), ("heartbeat.max_age", heartbeat.max_age)]
        {
            if let Some(span) = span.0 {
                self.at_least(key, span, Duration::from_secs(1));
            }
        }
    }

    fn outbox_and_limits(&mut self, config: &Config) {
        let (outbox, limits) = (&config.outbox, &config.limits);
        let small = format!("is smaller than limits.message ({}): such a message could never be sent", limits.message);
        self.refuse_if(outbox.bytes < limits.message, "outbox.bytes", small);
        self.refuse_if(outbox.messages < 8, "outbox.messages", "has to be at least 8");
        self.at_least("outbox.stall", outbox.stall, Duration::from_secs(1));
        self.refuse_if(limits.message < Size(1024), "limits.message", "has to be at least 1 KiB: the protocol's own messages need it");
        self.refuse_if(limits.message > Size(64 << 20), "limits.message", "has to be at most 64 MiB");
        self.refuse_if(limits.api_body < limits.message, "limits.api_body", "is smaller than limits.message");
        for (key, value) in [
            ("limits.subscriptions", limits.subscriptions),
            ("limits.in_flight", limits.in_flight),
            ("limits.rate.per_second", limits.rate.per_second as usize),
            ("limits.rate.burst", limits.rate.burst as usize),
            ("limits.connections", limits.connections),
            ("limits.per_address", limits.per_address),
            ("limits.per_user", limits.per_user),
        ] {
            self.refuse_if(value == 0, key, "has to be at least 1");
        }
        for (key, span) in
            [("limits.upgrade", limits.upgrade), ("limits.authenticate", limits.authenticate), ("limits.close", limits.close)]
        {
            self.at_least(key, span, Duration::from_millis(100));
        }
        let tiny = matches!(limits.outbound_memory, OutboundMemory::Bytes(bytes) if bytes < config.outbox.bytes.0);
        self.refuse_if(tiny, "limits.outbound_memory", "is smaller than the outbox of one connection");
    }

    fn authority(&mut self, config: &Config) {
        self.at_least("auth.session", config.auth.session, Duration::from_secs(60));
        self.at_least("auth.lease", config.auth.lease, Duration::from_secs(5));
        let nothing = config.auth.anonymous.is_some() && config.anonymous().is_empty();
        self.refuse_if(nothing, "auth.anonymous", "grants nothing; leave it out, or say what may be subscribed to");
    }

    fn node(&mut self, config: &Config) {
        if let Err(error) = crate::logging::parse_filter(&config.log.level) {
            self.refuse_if(true, "log.level", format!("is not a filter: {error}"));
        }
        self.at_least("drain.deadline", config.drain.deadline, Duration::from_secs(1));
        let late = config.drain.announce >= config.drain.deadline;
        self.refuse_if(late, "drain.announce", "ends after drain.deadline: everybody would be cut");
        let broker = &config.broker;
        let elsewhere = matches!(broker.kind, BrokerKind::Redis | BrokerKind::Nats);
        self.refuse_if(elsewhere, "broker.kind", "redis and nats are not in this version yet; \"embedded\" is");
        let bus = broker.durability == Durability::Bus;
        self.refuse_if(bus, "broker.durability", "\"bus\" needs a bus, and the embedded broker has none: \"memory\" or \"fsync\"");
        self.refuse_if(broker.path.is_empty(), "broker.path", "is empty");
        self.refuse_if(broker.memory < Size(1 << 20), "broker.memory", "has to be at least 1 MiB");
    }

    fn channel(&mut self, key: &str, channel: &channel::Channel, config: &Config) {
        let kind = channel.kind.as_core();
        if let Some(overflow) = channel.overflow.map(channel::Behind::as_core) {
            let text = format!("\"{}\" does not fit a channel of kind \"{}\"", overflow.name(), kind.name());
            self.refuse_if(!overflow.fits(kind), &format!("{key}.overflow"), text);
        }
        let long = channel.flush_window > Duration::from_secs(1);
        self.refuse_if(long, &format!("{key}.flush_window"), "is 1s at most: a subscriber would wait for nothing");
        let kept = &channel.retention;
        let of = |name: &str| format!("{key}.retention.{name}");
        self.refuse_if(kept.messages == 0, &of("messages"), "has to be at least 1");
        self.refuse_if(kept.age < Duration::from_secs(1), &of("age"), "has to be at least 1s");
        let small = format!("is smaller than limits.message ({}): such a message could not be kept", config.limits.message);
        self.refuse_if(kept.bytes < config.limits.message, &of("bytes"), small);
    }
}
