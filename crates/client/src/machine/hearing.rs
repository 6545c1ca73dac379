//! What the server says, and which part of the machine it concerns.

use std::sync::Arc;

use tidegate_core::message::{ClientMessage, CommandId, Gap, ServerMessage};
use tidegate_core::{ChannelName, ErrorCode, Position, Publication};
use tidegate_wire::json::{self, FromServer};

use super::Machine;
use super::io::{Action, Reply};
use super::link::{Link, Serving};
use super::subscriptions::{Answer, Heard};
use crate::error::Error;
use crate::reading;

/// What a server says about a channel.
enum About {
    Subscribed(CommandId, Answer),
    Publication(Publication),
    Snapshot { position: Position, entries: Vec<Arc<Publication>>, more: bool },
    Gap(Box<Gap>),
    Live(Option<u64>),
    Unsubscribed(ErrorCode, Option<u64>),
}

impl<R: FnMut() -> f64> Machine<R> {
    pub(super) fn received(&mut self, attempt: u64, text: &str) {
        let now = self.now;
        let Some(link) = self.link(attempt) else { return };
        link.heard_at = now;
        link.probed_at = None;
        let Ok(said) = json::decode_server(text.as_bytes()) else { return self.bad_frame(attempt, "not a message") };
        for said in said {
            match said {
                Ok(said) => self.said(attempt, said),
                // A frame that is understood in part could be a gap that nobody hears of.
                Err(wrong) => return self.bad_frame(attempt, &wrong.to_string()),
            }
        }
    }

    fn bad_frame(&mut self, attempt: u64, problem: &str) {
        self.made.push(Action::Close { attempt, code: 4400, reason: "bad_frame" });
        self.lost(attempt, 1006, &format!("bad frame from the server: {problem}"));
    }

    fn said(&mut self, attempt: u64, said: FromServer) {
        match said {
            FromServer::Challenge(_) => self.challenged(attempt),
            FromServer::Publication(publication) => self.about(attempt, &publication.channel.clone(), About::Publication(publication)),
            FromServer::Ping { n } => self.made.push(Action::Send { attempt, text: json::pong(&n) }),
            FromServer::Message(message) => self.message(attempt, message),
            FromServer::Unknown { .. } => {}
        }
    }

    fn message(&mut self, attempt: u64, message: ServerMessage) {
        match message {
            ServerMessage::Welcome(welcome) => self.welcome(attempt, &welcome),
            ServerMessage::Ping => self.send(attempt, &ClientMessage::Pong),
            ServerMessage::Pong { .. } => {}
            ServerMessage::Reauth { reason, .. } => self.reauthenticate(attempt, reason.name()),
            ServerMessage::GoingAway { reconnect_after_ms, handover, .. } => self.going_away(attempt, reconnect_after_ms, handover),
            ServerMessage::Ok { id } => self.done(id, Reply::Ok),
            ServerMessage::Published { id, position, duplicate } => {
                self.done(id, Reply::Published(reading::published(position, duplicate)));
            }
            ServerMessage::Response { id, data } => self.done(id, Reply::Response(reading::json(&data))),
            ServerMessage::Error { id, code, message, retry_after_ms } => self.refused(attempt, id, code, message, retry_after_ms),
            ServerMessage::Subscribed { id, channel, kind, position, recovery } => {
                self.about(attempt, &channel, About::Subscribed(id, Answer { kind, position, recovery }));
            }
            ServerMessage::Live { channel, offset } => self.about(attempt, &channel, About::Live(offset)),
            ServerMessage::Gap(gap) => self.about(attempt, &gap.channel.clone(), About::Gap(gap)),
            ServerMessage::Snapshot { channel, position, entries, more } => {
                self.about(attempt, &channel, About::Snapshot { position, entries, more });
            }
            ServerMessage::Unsubscribed { channel, code, retry_after_ms } => {
                self.about(attempt, &channel, About::Unsubscribed(code, retry_after_ms));
            }
        }
    }

    fn done(&mut self, id: CommandId, reply: Reply) {
        self.dirty = true;
        self.outgoing.done(id, reply, &mut self.made);
    }

    fn refused(&mut self, attempt: u64, id: Option<CommandId>, code: ErrorCode, message: Box<str>, retry_after_ms: Option<u64>) {
        self.dirty = true;
        let Some(id) = id else { return };
        let hold = match self.link(attempt).and_then(|link| take_asked(link, id)) {
            Some(channel) => {
                let text = format!("{}: {message}", code.name());
                self.subscriptions.refused(self.now, &channel, text, retry_after_ms, &mut self.made);
                retry_after_ms.filter(|_| code == ErrorCode::RateLimited).unwrap_or(0)
            }
            None => {
                let error = Error::Refused { code: code.name().into(), message, retry_after_ms };
                self.outgoing.refused(self.now, id, error, retry_after_ms, &mut self.made)
            }
        };
        if hold > 0 {
            self.careful = true;
            self.hold_until = self.hold_until.max(self.now.saturating_add(hold));
        }
    }

    fn about(&mut self, attempt: u64, channel: &ChannelName, about: About) {
        let newest = self.primary.as_ref().is_some_and(|link| link.attempt == attempt);
        let on_newest = self.primary.as_ref().and_then(|link| link.served.get(channel)).map(|served| served.state);
        let heard = Heard { newest, elsewhere: on_newest.filter(|_| !newest) };
        let links = [&mut self.primary, &mut self.leaving];
        let Some(link) = links.into_iter().flatten().find(|link| link.attempt == attempt) else { return };
        let Some(served) = link.served.get_mut(channel) else { return };
        // What comes before `subscribed` belongs to an earlier subscription that has been given up.
        let answers = matches!(&about, About::Subscribed(id, _) if *id == served.id);
        if served.state == Serving::Asked && !answers {
            return;
        }
        self.dirty |= !matches!(about, About::Publication(_));
        let (subscriptions, made) = (&mut self.subscriptions, &mut self.made);
        match about {
            About::Publication(publication) => subscriptions.message(served, heard, publication, made),
            About::Live(offset) => subscriptions.live(served, heard, channel, offset, made),
            About::Snapshot { position, entries, more } => {
                served.entries.extend(entries);
                if !more {
                    subscriptions.snapshot(served, heard, channel, position, made);
                }
            }
            About::Subscribed(_, answer) => subscriptions.subscribed(served, heard, channel, answer, made),
            About::Gap(gap) => {
                if !subscriptions.gap(served, heard, &gap, made) {
                    link.served.remove(channel);
                }
            }
            About::Unsubscribed(code, retry_after_ms) => {
                link.served.remove(channel);
                if newest {
                    subscriptions.refused(self.now, channel, code.name().to_owned(), retry_after_ms, made);
                }
            }
        }
        if !self.subscriptions.has(channel) {
            self.unserve(attempt, channel);
        }
    }
}

/// The channel whose `subscribe` had this id, which is no longer served.
fn take_asked(link: &mut Link, id: CommandId) -> Option<ChannelName> {
    let channel = link.served.iter().find(|(_, served)| served.id == id).map(|(channel, _)| channel.clone())?;
    link.served.remove(&channel);
    Some(channel)
}
