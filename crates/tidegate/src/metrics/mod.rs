//! What is counted: one struct, a line of meaning per field. Labels come from closed sets, never from users, channels or addresses.

mod embedded;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tidegate_core::message::GapReason;
use tidegate_core::session::Shed;
use tidegate_core::{ChannelKind, CloseCode, ErrorCode, Overflow};

use crate::broker::embedded::EmbeddedStats;

/// Bounds in seconds around the ages at which middleboxes cut: nginx and most load balancers at 60, Heroku at 55, Cloudflare
/// at 100, Azure at 240, AWS NLB at 350, AWS ALB and browsers' caches at 3600. A spike between two bounds names the one.
const AGES_AT_LOSS_S: [f64; 20] =
    [1.0, 5.0, 28.0, 32.0, 57.0, 63.0, 95.0, 105.0, 115.0, 125.0, 230.0, 250.0, 290.0, 310.0, 340.0, 360.0, 590.0, 610.0, 3550.0, 3650.0];

/// Everything the gate counts.
#[derive(Debug)]
pub struct Metrics {
    /// `tidegate_connection_open_total`: upgrades answered with 101.
    pub connection_open: Counter,
    /// `tidegate_connections_open`: connections between their 101 and the end of their socket.
    pub connections_open: Gauge,
    /// `tidegate_connection_close_total{code}`: closes that the server began, by the name of their code.
    pub connection_close: Family<CodeLabel, Counter>,
    /// `tidegate_connection_closed_by_peer_total`: closes that the client began.
    pub connection_closed_by_peer: Counter,
    /// `tidegate_heartbeat_timeout_close_total`: peers cut because they were not heard of.
    pub heartbeat_timeout_close: Counter,
    /// `tidegate_connection_lost_age_seconds`: age of connections that ended without a close frame (1006).
    pub connection_lost_age: Histogram,
    /// `tidegate_connection_close_unanswered_total`: peers cut at the close deadline because they never answered our close frame.
    pub connection_close_unanswered: Counter,
    /// `tidegate_buffered_amount_high_water_bytes`: the most that any one connection's outbox has held since the start.
    pub buffered_amount_high_water_bytes: Gauge,
    /// `tidegate_outbound_bytes`: memory that holds what waits for sockets, shared messages counted once.
    pub outbound_bytes: Gauge,
    /// `tidegate_lanes_behind`: subscriptions that read from history because they fell behind.
    pub lanes_behind: Gauge,
    /// `tidegate_shed_total{step}`: what was given up because the node was over its outbound budget, by connection asked.
    pub shed: Family<StepLabel, Counter>,
    /// `tidegate_upgrade_refused_total{reason}`: upgrades answered with something else than 101.
    pub upgrade_refused: Family<ReasonLabel, Counter>,
    /// `tidegate_handshakes_open`: accepted sockets that are not upgraded yet.
    pub handshakes_open: Gauge,
    /// `tidegate_handshake_timeout_total`: sockets closed because they were not upgraded in time.
    pub handshake_timeout: Counter,
    /// `tidegate_accept_error_total`: accepts that failed, for one because no file descriptor was left.
    pub accept_error: Counter,
    /// `tidegate_publish_total{kind}`: messages that the broker took.
    pub publish: Family<KindLabel, Counter>,
    /// `tidegate_publish_duplicate_total`: publishes answered with an earlier one's position.
    pub publish_duplicate: Counter,
    /// `tidegate_delivery_total{kind}`: messages put into outboxes or, on `log` and `state`, left to a cursor.
    pub delivery: Family<KindLabel, Counter>,
    /// `tidegate_message_dropped_total{kind,policy}`: messages that a subscriber will not get, each told by a gap.
    pub message_dropped: Family<DropLabel, Counter>,
    /// `tidegate_gap_total{reason}`: gap messages sent.
    pub gap: Family<ReasonLabel, Counter>,
    /// `tidegate_bus_lost_total`: times the broker said that messages of a channel may have been lost on the way.
    pub bus_lost: Counter,
    /// `tidegate_command_error_total{code}`: commands answered with an error.
    pub command_error: Family<CodeLabel, Counter>,
    /// `tidegate_app_ping_unanswered_total`: application pings that were not answered before the next was due.
    pub app_ping_unanswered: Counter,
    /// `tidegate_control_frames_eaten_total`: connections whose path answers one kind of ping and not the other.
    pub control_frames_eaten: Counter,
    /// `tidegate_panic_total`: tasks that panicked; each took only its own connection with it.
    pub panic: Counter,
    registry: Registry,
}

/// `{code}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabel {
    code: &'static str,
}

/// `{kind}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// `{reason}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    reason: &'static str,
}

/// `{step}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabel {
    step: &'static str,
}

/// `{kind,policy}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabel {
    kind: &'static str,
    policy: &'static str,
}

impl Metrics {
    /// All at zero, and registered.
    pub fn new() -> Self {
        let mut metrics = Self {
            connection_open: Counter::default(),
            connections_open: Gauge::default(),
            connection_close: Family::default(),
            connection_closed_by_peer: Counter::default(),
            heartbeat_timeout_close: Counter::default(),
            connection_lost_age: Histogram::new(AGES_AT_LOSS_S),
            connection_close_unanswered: Counter::default(),
            buffered_amount_high_water_bytes: Gauge::default(),
            outbound_bytes: Gauge::default(),
            lanes_behind: Gauge::default(),
            shed: Family::default(),
            upgrade_refused: Family::default(),
            handshakes_open: Gauge::default(),
            handshake_timeout: Counter::default(),
            accept_error: Counter::default(),
            publish: Family::default(),
            publish_duplicate: Counter::default(),
            delivery: Family::default(),
            message_dropped: Family::default(),
            gap: Family::default(),
            bus_lost: Counter::default(),
            command_error: Family::default(),
            app_ping_unanswered: Counter::default(),
            control_frames_eaten: Counter::default(),
            panic: Counter::default(),
            registry: Registry::with_prefix("tidegate"),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register("connection_open", "Upgrades answered with 101", self.connection_open.clone());
        registry.register("connections_open", "Connections now open", self.connections_open.clone());
        registry.register("connection_close", "Closes that the server began", self.connection_close.clone());
        registry.register("connection_closed_by_peer", "Closes that the client began", self.connection_closed_by_peer.clone());
        registry.register("heartbeat_timeout_close", "Peers cut because they were silent", self.heartbeat_timeout_close.clone());
        registry.register("connection_lost_age_seconds", "Age at an end without close frame", self.connection_lost_age.clone());
        registry.register("connection_close_unanswered", "Peers that never answered a close", self.connection_close_unanswered.clone());
        let high_water = self.buffered_amount_high_water_bytes.clone();
        registry.register("buffered_amount_high_water_bytes", "The most that one outbox has held", high_water);
        registry.register("outbound_bytes", "Memory of what waits for sockets", self.outbound_bytes.clone());
        registry.register("lanes_behind", "Subscriptions that read from history", self.lanes_behind.clone());
        registry.register("shed", "Given up over the outbound budget", self.shed.clone());
        registry.register("upgrade_refused", "Upgrades not answered with 101", self.upgrade_refused.clone());
        registry.register("handshakes_open", "Sockets that are not upgraded yet", self.handshakes_open.clone());
        registry.register("handshake_timeout", "Sockets not upgraded in time", self.handshake_timeout.clone());
        registry.register("accept_error", "Accepts that failed", self.accept_error.clone());
        registry.register("publish", "Messages the broker took", self.publish.clone());
        registry.register("publish_duplicate", "Publishes that repeated another", self.publish_duplicate.clone());
        registry.register("delivery", "Messages put into outboxes", self.delivery.clone());
        registry.register("message_dropped", "Messages dropped and told", self.message_dropped.clone());
        registry.register("gap", "Gap messages sent", self.gap.clone());
        registry.register("bus_lost", "Holes that the broker reported", self.bus_lost.clone());
        registry.register("command_error", "Commands answered with an error", self.command_error.clone());
        registry.register("app_ping_unanswered", "Application pings unanswered", self.app_ping_unanswered.clone());
        registry.register("control_frames_eaten", "Paths that eat control frames", self.control_frames_eaten.clone());
        registry.register("panic", "Tasks that panicked", self.panic.clone());
    }

    /// Adds what the embedded broker counts (`tidegate_log_…`).
    pub(crate) fn include(&mut self, stats: Arc<EmbeddedStats>) {
        self.registry.register_collector(Box::new(embedded::LogMetrics(stats)));
    }

    /// All of them in the text format of OpenMetrics, for `/metrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a `String` can't fail; an encoder's error would show as a text that ends early, without its `# EOF`.
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        text
    }

    /// Counts a close that the server began.
    pub(crate) fn closed(&self, code: CloseCode) {
        self.connection_close.get_or_create(&CodeLabel { code: code.name() }).inc();
        if code == CloseCode::HeartbeatTimeout {
            self.heartbeat_timeout_close.inc();
        }
    }

    /// Counts an end without a close frame.
    pub(crate) fn lost(&self, age: Duration) {
        self.connection_lost_age.observe(age.as_secs_f64());
    }

    /// Counts a refused command.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.command_error.get_or_create(&CodeLabel { code: code.name() }).inc();
    }

    /// Counts a refused upgrade.
    pub(crate) fn upgrade_refused(&self, reason: &'static str) {
        self.upgrade_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a gap message.
    pub(crate) fn gap(&self, reason: GapReason) {
        self.gap.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }

    /// Counts published messages, and repeats of such.
    pub(crate) fn published(&self, kind: ChannelKind, new: u64, repeated: u64) {
        if repeated > 0 {
            self.publish_duplicate.inc_by(repeated);
        }
        if new > 0 {
            self.publish.get_or_create(&KindLabel { kind: kind.name() }).inc_by(new);
        }
    }

    /// Counts what one message's fan-out reached.
    pub(crate) fn delivered(&self, kind: ChannelKind, subscribers: u64) {
        self.delivery.get_or_create(&KindLabel { kind: kind.name() }).inc_by(subscribers);
    }

    /// Counts messages that a subscriber will not get.
    pub(crate) fn dropped(&self, kind: ChannelKind, policy: Overflow, messages: u64) {
        self.message_dropped.get_or_create(&DropLabel { kind: kind.name(), policy: policy.name() }).inc_by(messages);
    }

    /// Counts a connection that was asked to give something up.
    pub(crate) fn shed(&self, step: Shed) {
        let step = match step {
            Shed::Events => "events",
            Shed::Cursors => "cursors",
            Shed::Connection => "connection",
        };
        self.shed.get_or_create(&StepLabel { step }).inc();
    }

    /// Remembers how full an outbox was.
    pub(crate) fn buffered(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let high_water: &AtomicI64 = self.buffered_amount_high_water_bytes.inner();
        if high_water.load(Ordering::Relaxed) < bytes {
            high_water.fetch_max(bytes, Ordering::Relaxed);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_of_the_documentation() {
        let metrics = Metrics::new();
        metrics.closed(CloseCode::HeartbeatTimeout);
        metrics.lost(Duration::from_secs(60));
        metrics.buffered(10);
        metrics.buffered(7);
        metrics.dropped(ChannelKind::Event, Overflow::DropOldest, 3);
        let text = metrics.encode();
        for line in [
            "tidegate_connection_open_total 0",
            "tidegate_connections_open 0",
            "tidegate_heartbeat_timeout_close_total 1",
            "tidegate_connection_close_total{code=\"heartbeat_timeout\"} 1",
            "tidegate_buffered_amount_high_water_bytes 10",
            "tidegate_connection_lost_age_seconds_bucket{le=\"57.0\"} 0",
            "tidegate_connection_lost_age_seconds_bucket{le=\"63.0\"} 1",
            "tidegate_message_dropped_total{kind=\"event\",policy=\"drop_oldest\"} 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    /// What is registered, read from the source: a family that has counted nothing yet is not encoded.
    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let quoted = |text: &'static str| text.split_once('"').map(|(name, _)| name);
        let page = include_str!("../../../../docs/reference/metrics.md");
        let page: BTreeSet<&str> = page.split("| `tidegate_").skip(1).filter_map(|row| row.split_once('`')).map(|(name, _)| name).collect();
        let page: BTreeSet<&str> = page.iter().map(|name| name.strip_suffix("_total").unwrap_or(name)).collect();
        let ours = include_str!("mod.rs").split("registry.register(\"").skip(1).filter_map(quoted);
        let logs = include_str!("embedded.rs").split("(\"").skip(1).filter_map(quoted);
        assert_eq!(page, ours.chain(logs).collect());
    }
}
