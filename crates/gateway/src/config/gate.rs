//! From what was configured to what a gate and its broker are made from.

use std::sync::Arc;

use tidegate::broker::EmbeddedSettings;
use tidegate::{
    AdmissionSettings, ChannelKind, ChannelRule, DrainSettings, Grants, HeartbeatSettings, HistoryAccess, LimitSettings, Origins,
    OutboxSettings, Overflow, RateSettings, Retention, SessionSettings, TrustedProxies, UpgradeSettings,
};

use super::Config;
use super::channel::{Access, Behind, Channel, Kind};
use super::node::Durability;

impl Config {
    /// How the gate behaves.
    pub(crate) fn gate(&self) -> tidegate::Config {
        tidegate::Config {
            session: Arc::new(self.session()),
            origins: Origins::new(self.public.origins.clone()),
            trusted_proxies: TrustedProxies::new(self.public.trusted_proxies.clone()),
            admission: AdmissionSettings {
                connections: self.limits.connections,
                per_address: self.limits.per_address,
                per_user: self.limits.per_user,
                ..AdmissionSettings::default()
            },
            upgrade: self.upgrade(),
            outbound_memory: self.limits.outbound_memory,
            drain: DrainSettings {
                announce: self.drain.announce,
                window: self.drain.window,
                grace: self.drain.grace,
                deadline: self.drain.deadline,
            },
            ..tidegate::Config::default()
        }
    }

    /// Bounds before the 101.
    pub(crate) fn upgrade(&self) -> UpgradeSettings {
        UpgradeSettings { deadline: self.limits.upgrade, ..UpgradeSettings::default() }
    }

    /// The embedded log.
    pub(crate) fn broker(&self) -> EmbeddedSettings {
        let memory_bytes = self.broker.memory.as_usize();
        match self.broker.durability {
            // The embedded broker has no bus, and the configuration was refused then.
            Durability::Memory | Durability::Bus => EmbeddedSettings { memory_bytes, ..EmbeddedSettings::default() },
            Durability::Fsync => EmbeddedSettings { memory_bytes, ..EmbeddedSettings::fsync(&self.broker.path) },
        }
    }

    /// What sessions without a name may do; nothing where the configuration gives them nothing.
    pub(crate) fn anonymous(&self) -> Grants {
        self.auth.anonymous.as_ref().map_or_else(Grants::default, |anonymous| Grants {
            subscribe: anonymous.subscribe.clone(),
            publish: anonymous.publish.clone(),
            history: anonymous.history.clone(),
        })
    }

    fn session(&self) -> SessionSettings {
        let limits = &self.limits;
        let rate = RateSettings { per_second: limits.rate.per_second, burst: limits.rate.burst };
        SessionSettings {
            heartbeat: HeartbeatSettings {
                ping: self.heartbeat.ping,
                missed: self.heartbeat.missed,
                app_ping: self.heartbeat.app_ping.0,
                idle: self.heartbeat.idle.0,
                max_age: self.heartbeat.max_age.0,
            },
            outbox: OutboxSettings { bytes: self.outbox.bytes.as_usize(), messages: self.outbox.messages, stall: self.outbox.stall },
            limits: LimitSettings {
                message_bytes: limits.message.as_usize(),
                subscriptions: limits.subscriptions,
                in_flight: limits.in_flight,
                rate,
                authenticate: limits.authenticate,
                close: limits.close,
                ..LimitSettings::default()
            },
            session_lifetime: self.auth.session,
            channels: self.channel.iter().map(|channel| Arc::new(channel.rule())).collect(),
            ..SessionSettings::default()
        }
    }
}

impl Channel {
    /// The rule that it declares.
    pub(crate) fn rule(&self) -> ChannelRule {
        let kind = self.kind.as_core();
        ChannelRule {
            pattern: self.r#match.clone(),
            kind,
            overflow: self.overflow.map_or(Overflow::default_for(kind), Behind::as_core),
            retention: Retention { messages: self.retention.messages, age: self.retention.age, bytes: self.retention.bytes.0 },
            history: match self.history {
                Access::Subscribers => HistoryAccess::Subscribers,
                Access::Granted => HistoryAccess::Granted,
            },
            flush_window: self.flush_window,
        }
    }
}

impl Kind {
    pub(crate) const fn as_core(self) -> ChannelKind {
        match self {
            Self::Event => ChannelKind::Event,
            Self::Log => ChannelKind::Log,
            Self::State => ChannelKind::State,
        }
    }
}

impl Behind {
    pub(crate) const fn as_core(self) -> Overflow {
        match self {
            Self::DropOldest => Overflow::DropOldest,
            Self::DropNewest => Overflow::DropNewest,
            Self::Sample => Overflow::Sample,
            Self::Disconnect => Overflow::Disconnect,
            Self::Pause => Overflow::Pause,
            Self::CatchUp => Overflow::CatchUp,
        }
    }
}
