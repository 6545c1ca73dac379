//! What works, and will surprise somebody some day.

use std::net::IpAddr;
use std::time::Duration;

use tidegate::{OutboundMemory, Pattern};

use super::Config;
use super::channel::{Channel, Kind};
use super::node::Durability;
use super::problem::Problems;
use super::schema::Sources;
use super::values::Size;

/// Judges values that can be used.
pub(crate) fn judge(config: &Config, sources: &Sources, problems: &mut Problems) {
    let mut judge = Judge { sources, problems };
    judge.listeners(config);
    judge.sessions(config);
    judge.limits(config);
    judge.authority(config);
    judge.node(config);
    judge.channels(config);
}

struct Judge<'a> {
    sources: &'a Sources,
    problems: &'a mut Problems,
}

impl Judge<'_> {
    fn warn_if(&mut self, risky: bool, key: &str, text: impl Into<String>) {
        if risky {
            self.problems.warn(key, self.sources.of(key), text);
        }
    }

    fn listeners(&mut self, config: &Config) {
        let public = &config.public;
        let beyond = !public.listen.ip().is_loopback();
        self.warn_if(
            beyond && public.tls.is_none(),
            "public.listen",
            "is beyond loopback without TLS: fine behind a proxy that speaks it, else everything can be read on the way",
        );
        self.warn_if(public.origins.is_empty(), "public.origins", "is empty: every browser is refused");
        for (at, origin) in public.origins.iter().enumerate() {
            let text = origin.to_string();
            let plain = text.starts_with("http://") && !is_local(&text);
            let why = format!("{text} is not https: whoever is on the way can be that page");
            self.warn_if(plain, &format!("public.origins.{at}"), why);
        }
        for (at, network) in public.trusted_proxies.iter().enumerate() {
            let why = format!("{network} is (nearly) everybody: anyone can then claim any address, and limits.per_address means nothing");
            self.warn_if(network.prefix_len() < 8, &format!("public.trusted_proxies.{at}"), why);
        }
        let keyed = config.internal.keys.is_empty() && config.internal.listen.ip().is_loopback();
        self.warn_if(keyed, "internal.keys", "is empty: every process on this machine can publish");
    }

    fn sessions(&mut self, config: &Config) {
        let heartbeat = &config.heartbeat;
        let ping = heartbeat.ping;
        let slow = "is longer than the idle limit of many proxies (60 s at nginx, HAProxy and AWS): they will cut idle connections";
        self.warn_if(ping > Duration::from_secs(55), "heartbeat.ping", slow);
        self.warn_if(
            ping < Duration::from_secs(5),
            "heartbeat.ping",
            "is shorter than 5 s: phones can't sleep, and idle connections cost CPU",
        );
        let dead = (ping * heartbeat.missed + ping / 2).max(ping);
        let text = format!("a dead peer is found after {} only", humantime::format_duration(dead));
        self.warn_if(dead > Duration::from_secs(300), "heartbeat.missed", text);
        let idle = heartbeat.idle.0.is_some_and(|idle| idle < Duration::from_secs(60));
        self.warn_if(idle, "heartbeat.idle", "is shorter than a minute: sessions that merely listen are closed again and again");
        let young = heartbeat.max_age.0.is_some_and(|age| age < Duration::from_secs(600));
        self.warn_if(young, "heartbeat.max_age", "is shorter than 10 min: most of the work will be reconnecting");
        let stall = config.outbox.stall;
        self.warn_if(
            stall > Duration::from_secs(300),
            "outbox.stall",
            "is longer than 5 min: a peer that stopped reading keeps its memory so long",
        );
        self.warn_if(stall < Duration::from_secs(5), "outbox.stall", "is shorter than 5 s: phones that change networks are cut");
        let large = config.outbox.bytes > Size(8 << 20);
        self.warn_if(large, "outbox.bytes", "is more than 8 MiB a connection: it adds age to what arrives, not throughput");
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        self.warn_if(limits.message > Size(4 << 20), "limits.message", "is more than 4 MiB: one message then delays everything behind it");
        self.warn_if(
            limits.rate.burst < limits.rate.per_second,
            "limits.rate.burst",
            "is less than per_second, so that rate is never reached",
        );
        self.warn_if(limits.upgrade > Duration::from_secs(60), "limits.upgrade", "gives strangers more than a minute for a handshake");
        self.warn_if(
            limits.authenticate > Duration::from_secs(60),
            "limits.authenticate",
            "gives strangers more than a minute to say who they are",
        );
        self.warn_if(
            limits.close > Duration::from_secs(60),
            "limits.close",
            "keeps a peer that doesn't answer a close for more than a minute",
        );
        let never = limits.per_address > limits.connections;
        self.warn_if(never, "limits.per_address", "is more than limits.connections: one address can take every place");
        let greedy = matches!(limits.outbound_memory, OutboundMemory::Percent(percent) if percent > 60);
        self.warn_if(greedy, "limits.outbound_memory", "leaves little for connections, history and the kernel");
        if let Some(files) = open_files_limit() {
            let few = (limits.connections as u64).saturating_add(100) > files;
            let text = format!("{} connections need as many file descriptors, and this process may have {files}", limits.connections);
            self.warn_if(few && self.sources.is_set("limits.connections"), "limits.connections", text);
        }
    }

    fn authority(&mut self, config: &Config) {
        let Some(anonymous) = &config.auth.anonymous else {
            self.warn_if(true, "auth.anonymous", "is not there, and this version has no other way in: every client is refused with 401");
            return;
        };
        let beyond = !config.public.listen.ip().is_loopback();
        let publish = beyond && !anonymous.publish.is_empty();
        self.warn_if(publish, "auth.anonymous.publish", "lets anybody who reaches public.listen publish without a name");
        let all = beyond && anonymous.subscribe.iter().any(|pattern| pattern.as_str() == "**");
        self.warn_if(all, "auth.anonymous.subscribe", "lets anybody who reaches public.listen read every channel");
        for (key, patterns) in [("subscribe", &anonymous.subscribe), ("publish", &anonymous.publish), ("history", &anonymous.history)] {
            for (at, pattern) in patterns.iter().enumerate() {
                let meets = config.channel.iter().any(|channel| overlap(&channel.r#match, pattern));
                let text = format!("\"{pattern}\" meets no [[channel]]");
                self.warn_if(!meets && !config.channel.is_empty(), &format!("auth.anonymous.{key}.{at}"), text);
            }
        }
    }

    fn node(&mut self, config: &Config) {
        let drain = &config.drain;
        let needed = drain.announce + drain.window + drain.grace;
        let text = format!(
            "comes before announce + window + grace ({}): the last to be asked are cut instead",
            humantime::format_duration(needed)
        );
        self.warn_if(needed > drain.deadline, "drain.deadline", text);
        let sudden = drain.announce.is_zero();
        self.warn_if(sudden, "drain.announce", "is 0: load balancers still send clients when they are refused already");
        let kept = config.channel.iter().any(|channel| channel.kind != Kind::Event);
        let forgets = config.broker.durability == Durability::Memory && kept;
        self.warn_if(forgets, "broker.durability", "\"memory\" loses every log and state at a restart, acknowledged or not");
    }

    fn channels(&mut self, config: &Config) {
        self.warn_if(config.channel.is_empty(), "channel", "there is no [[channel]], so no channel exists");
        for (at, channel) in config.channel.iter().enumerate() {
            let key = format!("channel.{at}");
            if let Some(earlier) = config.channel[..at].iter().find(|earlier| covers(&earlier.r#match, &channel.r#match)) {
                let text = format!("\"{}\" is never reached: \"{}\" before it matches the same names", channel.r#match, earlier.r#match);
                self.warn_if(true, &format!("{key}.match"), text);
            }
            self.kept(&key, channel);
        }
    }

    fn kept(&mut self, key: &str, channel: &Channel) {
        let event = channel.kind == Kind::Event;
        let retention = format!("{key}.retention");
        self.warn_if(event && self.sources.is_set(&retention), &retention, "means nothing on event channels: nothing is kept");
        let history = format!("{key}.history");
        self.warn_if(event && self.sources.is_set(&history), &history, "means nothing on event channels: nothing is kept");
        let short = !event && channel.retention.age < Duration::from_secs(60);
        let text = "is shorter than a minute: who changes networks comes back to a gap";
        self.warn_if(short, &format!("{key}.retention.age"), text);
    }
}

fn is_local(origin: &str) -> bool {
    let host = origin.trim_start_matches("http://");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether every name that the second fits is taken by the first.
fn covers(first: &Pattern, second: &Pattern) -> bool {
    let mut wanted = second.as_str().split(':');
    for segment in first.as_str().split(':') {
        match (segment, wanted.next()) {
            ("**", Some(_)) => return true,
            ("*", Some(found)) if found != "**" => {}
            (one, Some(other)) if one == other => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

/// Whether there is a name that both fit.
fn overlap(left: &Pattern, right: &Pattern) -> bool {
    let (mut left, mut right) = (left.as_str().split(':'), right.as_str().split(':'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
            (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
            _ => return false,
        }
    }
}

/// The soft limit of file descriptors, where the system tells.
fn open_files_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_compared_as_sets_of_names() {
        let pattern = |text| Pattern::new(text).unwrap();
        for (first, second, covered) in [
            ("**", "a:*", true),
            ("a:**", "a:b:*", true),
            ("a:*", "a:b", true),
            ("a:*", "a:**", false),
            ("a:b", "a:*", false),
            ("a:**", "a", false),
        ] {
            assert_eq!(covers(&pattern(first), &pattern(second)), covered, "{first} over {second}");
        }
        for (left, right, meet) in [("a:*", "a:b", true), ("a:**", "*:b:c", true), ("a:*", "b:*", false), ("a", "a:**", false)] {
            assert_eq!(overlap(&pattern(left), &pattern(right)), meet, "{left} and {right}");
            assert_eq!(overlap(&pattern(right), &pattern(left)), meet, "{right} and {left}");
        }
    }
}
