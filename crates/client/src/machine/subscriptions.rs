//! What is subscribed to, how far each has got, and what each frame means for it. Two links may serve a channel at once while
//! the client moves: the first to bring an offset wins, and cursors only go forward.

use std::collections::{HashMap, HashSet};

use tidegate_core::message::{self, ClientMessage, CommandId, GapReason, Recovery, Since};
use tidegate_core::{ChannelKind, ChannelName, Epoch, Position, Publication};

use super::io::{Action, Actions, text};
use super::link::{Link, Served, Serving};
use crate::error::Stop;
use crate::event::{Event, Status};
use crate::reading;

/// Ids of `event` messages remembered while two links overlap: an overlap lasts a second or so, twice a full server outbox at most.
const REMEMBERED_IDS: usize = 2048;

#[derive(Debug)]
pub(super) struct Wanted {
    reference: u64,
    /// What it is said to be; `None` takes it as it comes.
    kind: Option<ChannelKind>,
    /// What was asked for at first; asked for again as long as there is no cursor.
    since: Option<Since>,
    cursor: Option<Position>,
    /// Not before this moment, after a refusal that named a time.
    not_before: u64,
    /// A gap was told since the last snapshot: an older snapshot counts too.
    gapped: bool,
    seen_ids: HashSet<Box<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    all: HashMap<ChannelName, Wanted>,
}

/// What `subscribed` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) kind: ChannelKind,
    pub(super) position: Option<Position>,
    pub(super) recovery: Recovery,
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
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.all.contains_key(channel)
    }

    pub(super) fn add(
        &mut self,
        channel: ChannelName,
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
        let cursor = match since {
            Some(Since::Position(position)) => Some(position),
            Some(Since::Earliest | Since::Last(_)) | None => None,
        };
        let wanted = Wanted { reference, kind, since, cursor, not_before: 0, gapped: false, seen_ids: HashSet::new() };
        self.all.insert(channel, wanted);
    }

    /// Ends the one with this reference, without a word: nobody listens any more. Says which channel it was.
    pub(super) fn remove(&mut self, reference: u64) -> Option<ChannelName> {
        let channel = self.all.iter().find(|(_, wanted)| wanted.reference == reference).map(|(channel, _)| channel.clone())?;
        self.all.remove(&channel);
        Some(channel)
    }

    fn end(&mut self, channel: &ChannelName, stop: Stop, actions: &mut Actions) {
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
            if wanted.cursor.is_some() {
                wanted.void();
                actions.push(Action::tell(wanted.reference, epoch_gap(channel)));
            }
        }
    }

    /// The next moment at which a refused subscription may be repeated.
    pub(super) fn deadline(&self, now: u64) -> u64 {
        self.all.values().map(|wanted| wanted.not_before).filter(|&at| at > now).min().unwrap_or(u64::MAX)
    }

    /// Subscribes on this link to what it doesn't serve yet, while there is room. True if nothing is left.
    pub(super) fn flush(&mut self, now: u64, link: &mut Link, mut room: usize, last_id: &mut CommandId, actions: &mut Actions) -> bool {
        for (channel, wanted) in &self.all {
            if link.served.contains_key(channel) || wanted.not_before > now {
                continue;
            }
            if room == 0 {
                return false;
            }
            room -= 1;
            *last_id += 1;
            link.served.insert(channel.clone(), Served { id: *last_id, state: Serving::Asked, epoch: Epoch::UNKNOWN, entries: Vec::new() });
            // Where to go on, or to begin as long as there is nothing to go on from.
            let since = wanted.cursor.map(Since::Position).or(wanted.since);
            let subscribe = ClientMessage::Subscribe { id: *last_id, channel: channel.clone(), since };
            actions.push(Action::Send { attempt: link.attempt, text: text(&subscribe) });
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
    pub(super) fn refused(&mut self, now: u64, channel: &ChannelName, reason: String, retry_after_ms: Option<u64>, actions: &mut Actions) {
        match (retry_after_ms, self.all.get_mut(channel)) {
            (Some(retry), Some(wanted)) => {
                wanted.not_before = now.saturating_add(retry.max(1));
                actions.push(Action::tell(wanted.reference, Event::Status(Status::Subscribing)));
            }
            _ => self.end(channel, Stop { code: None, reason: reason.into() }, actions),
        }
    }

    pub(super) fn subscribed(&mut self, served: &mut Served, heard: Heard, channel: &ChannelName, answer: Answer, actions: &mut Actions) {
        let Answer { kind, position, recovery } = answer;
        let Some(wanted) = self.all.get_mut(channel) else { return };
        if let Some(said) = wanted.kind.filter(|&said| said != kind) {
            let reason = format!("wrong_kind: {channel} is a channel of kind {}, not {}", kind.name(), said.name());
            self.end(channel, Stop { code: None, reason: reason.into() }, actions);
            return;
        }
        wanted.kind = Some(kind);
        served.state = Serving::Replaying;
        served.epoch = position.map_or(Epoch::UNKNOWN, |position| position.epoch);
        // What is known of a `state` channel begins with its snapshot, wherever the channel's end is by then.
        if kind == ChannelKind::Log && recovery == Recovery::None && wanted.since.is_none() && wanted.cursor.is_none() {
            wanted.cursor = position;
        }
        if heard.newest {
            actions.push(Action::tell(wanted.reference, Event::Status(Status::CatchingUp(kind))));
        }
    }

    pub(super) fn live(&mut self, served: &mut Served, heard: Heard, channel: &ChannelName, offset: Option<u64>, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(channel) else { return };
        served.state = Serving::Live;
        if heard.newest {
            if let Some(offset) = offset {
                wanted.advance(served.epoch, offset);
            }
            actions.push(Action::at(wanted, Event::Status(Status::Live)));
        }
    }

    pub(super) fn message(&mut self, served: &Served, heard: Heard, publication: Publication, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(&publication.channel) else { return };
        match (publication.position.map(|position| position.offset), wanted.cursor) {
            (None, _) => {
                let brought = !heard.newest && heard.elsewhere == Some(Serving::Live);
                if brought || wanted.seen_before(heard.newest && served.state == Serving::Live, publication.id.as_deref()) {
                    return;
                }
            }
            (Some(offset), Some(cursor)) if cursor.epoch == served.epoch && offset <= cursor.offset => return,
            (Some(_), Some(cursor)) if cursor.epoch != served.epoch => {
                // Another epoch: over on the link that is left; never told on the newest, so it is told here.
                if !heard.newest {
                    return;
                }
                actions.push(Action::at(wanted, epoch_gap(&publication.channel)));
            }
            (Some(_), _) => {}
        }
        if let Some(position) = publication.position {
            wanted.advance(served.epoch, position.offset);
        }
        actions.push(Action::at(wanted, Event::Message(reading::publication(publication))));
    }

    /// The last part of a snapshot has come.
    pub(super) fn snapshot(&mut self, served: &mut Served, heard: Heard, channel: &ChannelName, position: Position, actions: &mut Actions) {
        let Some(wanted) = self.all.get_mut(channel) else { return };
        let entries = std::mem::take(&mut served.entries);
        served.epoch = position.epoch;
        if let Some(cursor) = wanted.cursor {
            let older = cursor.epoch == position.epoch && cursor.offset > position.offset && !wanted.gapped;
            if older || cursor.epoch != position.epoch && !heard.newest {
                return;
            }
        }
        wanted.cursor = Some(position);
        wanted.gapped = false;
        actions.push(Action::at(wanted, Event::Snapshot(reading::snapshot(channel, position, &entries))));
    }

    /// A gap. False if the older link has no more say on the channel: the newest brings what is missing there, or tells its own gap.
    pub(super) fn gap(&mut self, served: &mut Served, heard: Heard, gap: &message::Gap, actions: &mut Actions) -> bool {
        let Some(wanted) = self.all.get_mut(&gap.channel) else { return true };
        let event = wanted.kind == Some(ChannelKind::Event);
        if !heard.newest && heard.elsewhere.is_some_and(|state| !event || state == Serving::Live) {
            return false;
        }
        let to = gap.position.or_else(|| gap.range.map(|(_, to)| Position { epoch: served.epoch, offset: to }));
        if let Some(position) = gap.position {
            served.epoch = position.epoch;
        }
        match to {
            Some(to) if wanted.cursor.is_some_and(|cursor| cursor.epoch == to.epoch && cursor.offset >= to.offset) => return true,
            Some(to) => wanted.advance(to.epoch, to.offset),
            None if event => {}
            None if wanted.cursor.is_some_and(|cursor| cursor.epoch != served.epoch) => wanted.advance(served.epoch, 0),
            None => {}
        }
        wanted.gapped = true;
        actions.push(Action::at(wanted, Event::Gap(reading::gap(gap))));
        true
    }
}

impl Wanted {
    /// Moves the cursor to an offset of this epoch, never back within one. What a `state` channel held in another epoch is void,
    /// and only the snapshot that follows says what it holds now: until that is complete there is no place to go on from.
    fn advance(&mut self, epoch: Epoch, offset: u64) {
        match &mut self.cursor {
            Some(cursor) if cursor.epoch == epoch => cursor.offset = cursor.offset.max(offset),
            _ if self.kind == Some(ChannelKind::State) => self.void(),
            cursor => *cursor = Some(Position { epoch, offset }),
        }
    }

    /// Forgets where it is: it is asked for as at first, or from the start.
    fn void(&mut self) {
        self.cursor = None;
        if matches!(self.since, Some(Since::Position(_))) {
            self.since = None;
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
        Self::Tell { reference: wanted.reference, event, cursor: wanted.cursor }
    }
}

fn epoch_gap(channel: &ChannelName) -> Event {
    let gap = message::Gap { channel: channel.clone(), missed: None, range: None, reason: GapReason::Epoch, position: None };
    Event::Gap(reading::gap(&gap))
}
