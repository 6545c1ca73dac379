//! Who it is, for how long, and what becomes of its subscriptions when that changes.

use std::sync::Arc;

use super::timers::Timer;
use super::{Mode, Session, State};
use crate::message::{CommandId, ReauthReason, ServerMessage, Welcome};
use crate::{CloseCode, ErrorCode, Identity, Moment};

/// A session's identity and the next step of its end.
#[derive(Debug, Default)]
pub(super) struct Authority {
    pub(super) identity: Option<Arc<Identity>>,
    /// When it ends.
    expires: Moment,
    /// What was asked for and is not answered yet; its deadline is when the timer is due.
    asked: Option<ReauthReason>,
    /// An `auth` is being checked.
    pub(super) checking: bool,
}

impl Session {
    /// Authentication succeeded: at the upgrade, after it, or again.
    pub(super) fn authenticated(&mut self, now: Moment, id: Option<CommandId>, identity: Arc<Identity>) {
        self.answered_auth(id);
        match self.state {
            State::Opening => {
                self.state = State::Open;
                self.timers.stop(Timer::Authenticate);
                self.start_app_pings(now);
            }
            State::Open => self.drop_what_is_not_granted(&identity),
            State::Flushing(_) | State::Closing(_) | State::Ended => return,
        }
        self.hold(now, identity);
        if self.mode == Mode::Tidegate {
            let welcome = self.welcome(now, id);
            self.outbox.control.tell(welcome);
        }
    }

    /// Takes over an identity, and sets the clock of its end.
    pub(super) fn hold(&mut self, now: Moment, identity: Arc<Identity>) {
        let lifetime = match self.mode {
            Mode::Tidegate => Some(identity.expires_in.unwrap_or(self.settings.session_lifetime)),
            // A raw session can't be asked to authenticate again; without an expiry of its own it lives as long as it likes.
            Mode::Raw => identity.expires_in,
        };
        self.authority.asked = None;
        self.authority.identity = Some(identity);
        self.timers.stop(Timer::Authority);
        if let Some(lifetime) = lifetime {
            let ask = match self.mode {
                Mode::Tidegate => lifetime.saturating_sub(self.settings.reauth_within),
                Mode::Raw => lifetime,
            };
            self.authority.expires = now + lifetime;
            self.timers.set(Timer::Authority, now + ask);
        }
    }

    /// Authentication failed.
    pub(super) fn refused(&mut self, now: Moment, id: Option<CommandId>, code: CloseCode) {
        self.answered_auth(id);
        self.close(now, code, None, None);
    }

    /// What it may do has changed: it is to authenticate again.
    pub(super) fn privilege_changed(&mut self, now: Moment) {
        if self.state.is_open() && self.mode == Mode::Tidegate && self.authority.asked != Some(ReauthReason::PrivilegeChanged) {
            let within = self.settings.reauth_within.min(self.authority.expires.since(now));
            self.ask(now, ReauthReason::PrivilegeChanged, now + within);
        }
    }

    /// Time to ask for another credential, or the end of the time to give one.
    pub(super) fn authority_due(&mut self, now: Moment) {
        match (self.mode, self.authority.asked) {
            (Mode::Raw, _) => self.close(now, CloseCode::PolicyViolation, None, Some("expired")),
            (Mode::Tidegate, None) => self.ask(now, ReauthReason::Expiring, self.authority.expires),
            (Mode::Tidegate, Some(ReauthReason::Expiring)) => self.close(now, CloseCode::Expired, None, None),
            (Mode::Tidegate, Some(ReauthReason::PrivilegeChanged)) => self.close(now, CloseCode::PrivilegeChanged, None, None),
        }
    }

    pub(super) fn authenticate_due(&mut self, now: Moment) {
        self.close(now, CloseCode::AuthTimeout, None, None);
    }

    fn ask(&mut self, now: Moment, reason: ReauthReason, until: Moment) {
        self.authority.asked = Some(reason);
        let within_ms = until.since(now).as_millis() as u64;
        self.outbox.control.tell(ServerMessage::Reauth { within_ms, reason, nonce: None });
        self.timers.set(Timer::Authority, until);
    }

    fn answered_auth(&mut self, id: Option<CommandId>) {
        if id.is_some() && std::mem::take(&mut self.authority.checking) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// Ends what the new authority does not cover. What a driver has taken out for one write before that goes out before the client is
    /// told: messages of all channels, less than 64 KiB and one message more, since they are frames by then and a channel no longer
    /// shows. Only a close keeps it back ([`Session::withholds`]).
    fn drop_what_is_not_granted(&mut self, identity: &Identity) {
        for (subscription, channel) in self.outbox.channels_where(|channel| !identity.grants.may_subscribe(channel)) {
            self.end_subscription(subscription, ErrorCode::Forbidden, "no longer granted", None);
            self.outbox.control.tell(ServerMessage::Unsubscribed { channel, code: ErrorCode::Revoked, retry_after_ms: None });
        }
    }

    fn welcome(&self, now: Moment, id: Option<CommandId>) -> ServerMessage {
        let settings = &self.settings;
        let identity = self.authority.identity.as_deref();
        ServerMessage::Welcome(Box::new(Welcome {
            id,
            connection: self.connection.to_string().into(),
            node: settings.node.clone(),
            user: identity.and_then(|identity| identity.user.clone()),
            session: identity.and_then(|identity| identity.session.clone()),
            expires_in: self.authority.expires.since(now),
            ping: settings.heartbeat.ping,
            app_ping: settings.heartbeat.app_ping,
            dead: settings.heartbeat.dead_after(),
            message_bytes: settings.limits.message_bytes,
            subscriptions: settings.limits.subscriptions,
            in_flight: settings.limits.in_flight,
            reconnect: settings.reconnect,
        }))
    }
}
