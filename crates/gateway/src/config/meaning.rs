//! What a configuration means, in plain words: what `tidegate check` prints.

use std::fmt::Write;
use std::time::Duration;

use tidegate::OutboundMemory;

use super::Config;
use super::channel::{Access, Channel, Kind};
use super::node::Durability;
use super::problem::Problem;
use super::values::{OrOff, Size};

/// Idle limits of proxies as they come out of the box, shortest first.
const PROXY_LIMITS: &[(&str, u64)] = &[("HAProxy's `timeout client` of most examples", 50), ("nginx, AWS ALB", 60), ("Cloudflare", 100)];

/// Says what it means.
pub(crate) fn explain(config: &Config) -> String {
    let mut text = String::new();
    for part in [listeners, heartbeat, limits, memory, authority, broker, channels, drain] {
        // Writing to a text can't fail.
        let _ = part(config, &mut text);
    }
    text
}

/// Says what is risky.
pub(crate) fn tell_risks(risks: &[Problem]) -> String {
    let mut text = if risks.is_empty() { "Nothing in it is risky.\n".to_owned() } else { "Risky:\n".to_owned() };
    for risk in risks {
        let _ = writeln!(text, "  {risk}");
    }
    text
}

fn listeners(config: &Config, out: &mut String) -> std::fmt::Result {
    let (public, internal) = (&config.public, &config.internal);
    let scheme = if public.tls.is_some() { "wss" } else { "ws" };
    writeln!(out, "Clients connect to {scheme}://{}{}.", public.listen, public.path)?;
    if public.origins.is_empty() {
        writeln!(out, "  Browsers are refused (no origins); programs that send no Origin may come.")?;
    } else {
        let origins: Vec<String> = public.origins.iter().map(ToString::to_string).collect();
        writeln!(out, "  Web pages that may connect: {}.", origins.join(", "))?;
    }
    if public.trusted_proxies.is_empty() {
        writeln!(out, "  A client's address is its socket's; X-Forwarded-For counts for nothing.")?;
    } else {
        let networks: Vec<String> = public.trusted_proxies.iter().map(ToString::to_string).collect();
        writeln!(out, "  X-Forwarded-For counts from {}.", networks.join(", "))?;
    }
    let keys = match internal.keys.len() {
        0 => "without a key, from this machine only".to_owned(),
        1 => "with a key".to_owned(),
        count => format!("with one of {count} keys"),
    };
    writeln!(out, "Backends publish and operators look at http://{}, {keys}.", internal.listen)
}

fn heartbeat(config: &Config, out: &mut String) -> std::fmt::Result {
    let heartbeat = &config.heartbeat;
    let dead = heartbeat.ping * heartbeat.missed + heartbeat.ping / 2;
    writeln!(out, "A ping goes out every {} ± 10 %; a peer that is silent for {} is closed.", time(heartbeat.ping), time(dead))?;
    let cut: Vec<&str> = PROXY_LIMITS
        .iter()
        .filter(|(_, limit)| heartbeat.ping.mul_f64(1.1) >= Duration::from_secs(*limit))
        .map(|(name, _)| *name)
        .collect();
    if cut.is_empty() {
        writeln!(
            out,
            "  That keeps connections open behind nginx, HAProxy, AWS and Cloudflare with their usual idle limits (50 to 100 s)."
        )?;
    } else {
        writeln!(out, "  That is too slow for {}: idle connections are cut there.", cut.join(", "))?;
    }
    writeln!(
        out,
        "  Pings as messages: {}; idle stop: {}; maximum age: {}.",
        or_off(heartbeat.app_ping),
        or_off(heartbeat.idle),
        or_off(heartbeat.max_age)
    )
}

fn limits(config: &Config, out: &mut String) -> std::fmt::Result {
    let limits = &config.limits;
    writeln!(
        out,
        "Up to {} connections, {} of one address, {} of one user; each with {} channels and {} commands under way.",
        limits.connections, limits.per_address, limits.per_user, limits.subscriptions, limits.in_flight
    )?;
    writeln!(
        out,
        "  A message has at most {}; a client may send {} frames a second, {} at once.",
        limits.message, limits.rate.per_second, limits.rate.burst
    )?;
    writeln!(
        out,
        "  A stranger has {} for the upgrade and {} to authenticate; a closed peer {} to go.",
        time(limits.upgrade),
        time(limits.authenticate),
        time(limits.close)
    )
}

fn memory(config: &Config, out: &mut String) -> std::fmt::Result {
    let (outbox, limits) = (&config.outbox, &config.limits);
    let each = Size(outbox.bytes.0.saturating_add(limits.message.0).saturating_add(4096));
    let all = Size(each.0.saturating_mul(limits.connections as u64));
    writeln!(
        out,
        "Memory: at worst {each} a connection (outbox {}, a message coming in {}, 4 KiB of its own), {all} for {} of them.",
        outbox.bytes, limits.message, limits.connections
    )?;
    let machine = machine_memory();
    let budget = match limits.outbound_memory {
        OutboundMemory::Bytes(bytes) => Some(Size(bytes)),
        OutboundMemory::Percent(percent) => machine.map(|machine| Size(machine.0 / 100 * u64::from(percent))),
    };
    if let Some(budget) = budget {
        writeln!(out, "  All outboxes together are held to {budget}: past that, the slowest lose their place first.")?;
    }
    if let Some(machine) = machine {
        writeln!(out, "  This machine (or its container) has {machine}.")?;
    }
    writeln!(out, "  Who takes nothing for {} with data waiting is cut (4103) and resumes from its cursor.", time(outbox.stall))
}

fn authority(config: &Config, out: &mut String) -> std::fmt::Result {
    match &config.auth.anonymous {
        None => writeln!(out, "Nobody comes in without a credential.")?,
        Some(anonymous) => writeln!(
            out,
            "Anonymous sessions may subscribe to {} and publish to {}.",
            patterns(&anonymous.subscribe),
            patterns(&anonymous.publish)
        )?,
    }
    writeln!(out, "  A session lasts at most {}.", time(config.auth.session))
}

fn broker(config: &Config, out: &mut String) -> std::fmt::Result {
    let broker = &config.broker;
    match broker.durability {
        Durability::Fsync => writeln!(
            out,
            "Messages are kept in {}. A publish is acknowledged when it is synced to disk: it survives a crash and power loss.",
            broker.path
        )?,
        Durability::Memory | Durability::Bus => {
            writeln!(out, "Messages are kept in memory. A publish that was acknowledged is lost when the process ends.")?;
        }
    }
    writeln!(out, "  The log's own buffers and caches take up to {}.", broker.memory)
}

fn channels(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Channels, the first that matches a name:")?;
    for channel in &config.channel {
        writeln!(out, "  {:24} {}", channel.r#match.as_str(), rule(channel))?;
    }
    if config.channel.is_empty() {
        writeln!(out, "  none: no channel exists")?;
    }
    Ok(())
}

fn rule(channel: &Channel) -> String {
    let kept = &channel.retention;
    let overflow = channel.rule().overflow.name();
    let history = match channel.history {
        Access::Subscribers => "history for whoever may subscribe",
        Access::Granted => "history only with a grant",
    };
    let limits = format!("{}, {}", time(kept.age), kept.bytes);
    let kept = match channel.kind {
        Kind::Event => format!("event: nothing is kept; who falls behind: {overflow}"),
        Kind::Log => format!("log: keeps {} messages, {limits}; who falls behind: {overflow}; {history}", kept.messages),
        Kind::State => format!("state: keeps the latest of {} keys, {limits}; {history}", kept.messages),
    };
    let waits = format!("; messages wait up to {} for each other", time(channel.flush_window));
    if channel.flush_window.is_zero() { kept } else { kept + &waits }
}

fn drain(config: &Config, out: &mut String) -> std::fmt::Result {
    let drain = &config.drain;
    writeln!(
        out,
        "At SIGTERM: accepts for {} more, sends everybody away over {}, lets each stay {} after that, and cuts who is left {} after the signal.",
        time(drain.announce),
        time(drain.window),
        time(drain.grace),
        time(drain.deadline)
    )
}

fn patterns(patterns: &[tidegate::Pattern]) -> String {
    if patterns.is_empty() { "nothing".to_owned() } else { patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ") }
}

fn time(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

fn or_off(span: OrOff) -> String {
    span.0.map_or_else(|| "off".to_owned(), time)
}

/// The container's limit if there is one, else the machine's memory.
fn machine_memory() -> Option<Size> {
    let number = |text: String| text.trim().parse::<u64>().ok();
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(number);
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    container.into_iter().chain(total.map(|kib| kib * 1024)).min().map(Size)
}
