//! What is subscribed to, how far each has got, and what each frame means for it. Two links may serve a channel at once while
//! the client moves: the first to bring an offset wins, and cursors only go forward.

use std::collections::{HashMap, HashSet};

use tidegate_core::ChannelKind;

use super::link::{Link, Served, Serving};
use super::{Action, Actions};
use crate::error::Stop;
use crate::event::{Cursor, Event, Gap, Message, Since, Snapshot, Status};
use crate::frame::{Say, Start};

/// Ids of `event` messages remembered while two links overlap: an overlap lasts a second or so, twice a full server outbox at most.
const REMEMBERED_IDS: usize = 2048;

#[derive(Debug)]
pub(super) struct Wanted {
    reference: u64,
    /// What it is said to be; `None` takes it as it comes.
    kind: Option<ChannelKind>,
    /// What was asked for at first; asked for again as long as there is no cursor.
    since: Option<Since>,
    cursor: Option<Cursor>,
    /// Not before this moment, after a refusal that named a time.
    not_before: u64,
    /// A gap was told since the last snapshot: an older snapshot counts too.
    gapped: bool,
    seen_ids: HashSet<Box<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    all: HashMap<Box<str>, Wanted>,
}

/// On which of two links a frame was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// It came on the newest welcomed link.
    pub(super) newest: bool,
    /// What the newest link is for the channel, where the frame came on the older one.
    pub(super) elsewhere: Option<Serving>,
}

impl Subscriptions {
    pub(super) fn has(&self, channel: &str) -> bool {
        self.all.contains_key(channel)
    }

    pub(super) fn add(
        &mut self,
        channel: Box<str>,
        reference: u64,
        kind: Option<ChannelKind>,
        since: Option<Since>,
        actions: &mut Actions,
    ) {
        if self.all.contains_key(&channel) {
            let reason = "already_subscribed: this client has a subscription of the channel".into();
            actions.push(Action::tell(reference, Event::Stopped(Stop { code: None, reason })));
            return;
        }
        let cursor = match &since {
            Some(Since::Position(cursor)) => Some(cursor.clone()),
            _ => None,
        };
        let wanted = Wanted { reference, kind, since, cursor, not_before: 0, gapped: false, seen_ids: HashSet::new() };
        self.all.insert(channel, wanted);
    }

    /// Ends the one with this reference, without a word: nobody listens any more. Says which channel it was.
    pub(super) fn remove(&mut self, reference: u64) -> Option<Box<str>> {
        let channel = self.all.iter().find(|(_, wanted)| wanted.reference == reference).map(|(channel, _)| channel.clone())?;
        self.all.remove(&channel);
        Some(channel)
    }

    fn end(&mut self, channel: &str, stop: Stop, actions: &mut Actions) {
        if let Some(wanted) = self.all.remove(channel) {
            actions.push(Action::tell(wanted.reference, Event::Stopped(stop)));
        }
    }

    /// Ends all of them.
    pub(super) fn stop(&mut self, stop: &Stop, actions: &mut Actions) {
        for (_, wanted) in self.all.drain() {
            actions.push(Action::tell(wanted.reference, Event::Stopped(stop.clone())));
        }
    }

    /// Offsets have become void: start as at first, and say what that means.
    pub(super) fn drop_cursors(&mut self, actions: &mut Actions) {
        for (channel, wanted) in &mut self.all {
            if wanted.cursor.take().is_some() {
                if matches!(wanted.since, Some(Since::Position(_))) {
                    wanted.since = None;
                }
                actions.push(Action::tell(wanted.reference, epoch_gap(channel)));
            }
        }
    }

    /// The next moment at which a refused subscription may be repeated.
    pub(super) fn deadline(&self, now: u64) -> u64 {
        self.all.values().map(|wanted| wanted.not_before).filter(|&at| at > now).min().unwrap_or(u64::MAX)
    }

    /// Subscribes on this link to what it doesn't serve yet, while there is room. True if nothing is left.
    pub(super) fn flush(&mut self, now: u64, link: &mut Link, mut room: usize, last_id: &mut u64, actions: &mut Actions) -> bool {
        for (channel, wanted) in &self.all {
            if link.served.contains_key(channel) || wanted.not_before > now {
                continue;
            }
            if room == 0 {
                return false;
            }
            room -= 1;
            *last_id += 1;
            link.served.insert(channel.clone(), Served { id: *last_id, state: Serving::Asked, epoch: "".into(), entries: Vec::new() });
            let text = Say::Subscribe { id: *last_id, channel, since: start(wanted) }.encode();
            actions.push(Action::Send { attempt: link.attempt, text });
        }
        true
    }

    /// Whether everything is live on this link.
    pub(super) fn settled_on(&self, link: &Link) -> bool {
        self.all.keys().all(|channel| link.served.get(channel).is_some_and(|served| served.state == Serving::Live))
    }

    /// The link that served them is gone.
    pub(super) fn lost(&self, actions: &mut Actions) {
        for wanted in self.all.values() {
            actions.push(Action::tell(wanted.reference, Event::Status(Status::Subscribing)));
        }
    }

    /// Only one link is left: nothing can come twice on `event` channels.
    pub(super) fn forget_ids(&mut self) {
        self.all.values_mut().for_each(|wanted| wanted.seen_ids = HashSet::new());
    }

    /// A subscription was refused or ended by the server: again later if a time is named, else it is over.
    pub(super) fn refused(&mut self, now: u64, channel: &str, reason: String, retry_after_ms: Option<u64>, actions: &mut Actions) {
        match (retry_after_ms, self.all.get_mut(channel)) {
            (Some(retry), Some(wanted)) => {
                wanted.not_before = now.saturating_add(retry.max(1));
                actions.push(Action::tell(wanted.reference, Event::Status(Status::Subscribing)));
            }
            _ => self.end(channel, Stop { code: None, reason: reason.into() }, actions),
        }
    }

    pub(super) fn subscribed(
        &mut self,
        served: &mut Served,
        heard: Heard,
        channel: &str,
        kind: ChannelKind,
        (position, recovery_none): (Option<Cursor>, bool),
        actions: &mut Actions,
    ) {
        let Some(wanted) = self.all.get_mut(channel) else { return };
        if let Some(said) = wanted.kind.filter(|&said| said != kind) {
            let reason = format!("wrong_kind: {channel} is a channel of kind {}, not {}", kind.name(), said.name());
            self.end(channel, Stop { code: None, reason: reason.into() }, actions);
            return;
        }
        wanted.kind = Some(kind);
        served.state = Serving::Replaying;
        served.epoch = position.as_ref().map_or_else(|| "".into(), |position| position.epoch.clone());
        if recovery_none && wanted.since.is_none() && wanted.cursor.is_none() {
            wanted.cursor = position;
        }
        if heard.newest {
            actions.push(Action::tell(wanted.reference, Event::Status(Status::CatchingUp(kind))));
        }
    }

    pub(super) fn live(&mut self, served: &mut Served, heard: Heard, channel: &str, offset: Option<u64>, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(channel) else { return };
        served.state = Serving::Live;
        if heard.newest {
            if let Some(offset) = offset {
                wanted.advance(served, offset);
            }
            actions.push(Action::at(wanted, Event::Status(Status::Live)));
        }
    }

    pub(super) fn message(&mut self, served: &Served, heard: Heard, message: Message, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(&message.channel) else { return };
        match (message.offset, &wanted.cursor) {
            (None, _) => {
                let brought = !heard.newest && heard.elsewhere == Some(Serving::Live);
                if brought || wanted.seen_before(heard.newest && served.state == Serving::Live, message.id.as_deref()) {
                    return;
                }
            }
            (Some(offset), Some(cursor)) if cursor.epoch == served.epoch && offset <= cursor.offset => return,
            (Some(_), Some(cursor)) if cursor.epoch != served.epoch => {
                // Another epoch: over on the link that is left; never told on the newest, so it is told here.
                if !heard.newest {
                    return;
                }
                actions.push(Action::at(wanted, epoch_gap(&message.channel)));
            }
            (Some(_), _) => {}
        }
        if let Some(offset) = message.offset {
            wanted.advance(served, offset);
        }
        actions.push(Action::at(wanted, Event::Message(message)));
    }

    pub(super) fn snapshot(&mut self, served: &mut Served, heard: Heard, mut snapshot: Snapshot, more: bool, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(&snapshot.channel) else { return };
        served.entries.append(&mut snapshot.entries);
        if more {
            return;
        }
        snapshot.entries = std::mem::take(&mut served.entries);
        served.epoch = snapshot.epoch.clone();
        if let Some(cursor) = &wanted.cursor {
            let older = cursor.epoch == snapshot.epoch && cursor.offset > snapshot.offset && !wanted.gapped;
            if older || cursor.epoch != snapshot.epoch && !heard.newest {
                return;
            }
        }
        wanted.cursor = Some(Cursor { epoch: snapshot.epoch.clone(), offset: snapshot.offset });
        wanted.gapped = false;
        actions.push(Action::at(wanted, Event::Snapshot(snapshot)));
    }

    /// A gap. False if the older link has no more say on the channel: the newest brings what is missing there, or tells its own gap.
    pub(super) fn gap(&mut self, served: &mut Served, heard: Heard, gap: Gap, position: Option<Cursor>, actions: &mut Actions) -> bool {
        let Some(wanted) = self.all.get_mut(&gap.channel) else { return true };
        let event = wanted.kind == Some(ChannelKind::Event);
        if !heard.newest && heard.elsewhere.is_some_and(|state| !event || state == Serving::Live) {
            return false;
        }
        let reached =
            |epoch: &str, offset: u64| wanted.cursor.as_ref().is_some_and(|cursor| *cursor.epoch == *epoch && cursor.offset >= offset);
        match (position, gap.to) {
            (Some(position), _) => {
                served.epoch = position.epoch.clone();
                if reached(&position.epoch, position.offset) {
                    return true;
                }
                wanted.cursor = Some(position);
            }
            (None, Some(to)) => {
                if reached(&served.epoch, to) {
                    return true;
                }
                wanted.advance(served, to);
            }
            (None, None) => {
                if !event && wanted.cursor.as_ref().is_some_and(|cursor| cursor.epoch != served.epoch) {
                    wanted.cursor = Some(Cursor { epoch: served.epoch.clone(), offset: 0 });
                }
            }
        }
        wanted.gapped = true;
        actions.push(Action::at(wanted, Event::Gap(gap)));
        true
    }
}

impl Wanted {
    /// Moves the cursor to an offset of the served epoch, never back within one.
    fn advance(&mut self, served: &Served, offset: u64) {
        match &mut self.cursor {
            Some(cursor) if cursor.epoch == served.epoch => cursor.offset = cursor.offset.max(offset),
            cursor => *cursor = Some(Cursor { epoch: served.epoch.clone(), offset }),
        }
    }

    /// Whether the other link has brought this `event` message. Remembers it for the other one, unless this link is settled.
    fn seen_before(&mut self, settled: bool, id: Option<&str>) -> bool {
        let Some(id) = id else { return false };
        if self.seen_ids.contains(id) {
            return true;
        }
        if !settled && self.seen_ids.len() < REMEMBERED_IDS {
            self.seen_ids.insert(id.into());
        }
        false
    }
}

impl Action {
    fn tell(reference: u64, event: Event) -> Self {
        Self::Tell { reference, event, cursor: None }
    }

    /// With the cursor after the event.
    fn at(wanted: &Wanted, event: Event) -> Self {
        Self::Tell { reference: wanted.reference, event, cursor: wanted.cursor.clone() }
    }
}

/// Where to go on, or to begin as long as there is nothing to go on from.
fn start(wanted: &Wanted) -> Option<Start<'_>> {
    match (&wanted.cursor, &wanted.since) {
        (Some(cursor), _) | (None, Some(Since::Position(cursor))) => Some(Start::Position(cursor)),
        (None, Some(Since::Earliest)) => Some(Start::Earliest("earliest")),
        (None, Some(Since::Last(count))) => Some(Start::Last { last: *count }),
        (None, None) => None,
    }
}

fn epoch_gap(channel: &str) -> Event {
    Event::Gap(Gap { channel: channel.into(), missed: None, from: None, to: None, reason: "epoch".into() })
}
