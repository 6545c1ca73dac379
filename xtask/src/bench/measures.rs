//! What a measure is: a call of the `bench` binary, and the figures of it that are compared.

use super::peers::Peer;

/// One call of the `bench` binary.
pub(super) struct Measure {
    /// Its name, as in `fanout-1000-one`.
    pub(super) id: &'static str,
    /// What it is, in the words of the report.
    pub(super) title: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// What a reader of its table has to know; empty: nothing.
    pub(super) remark: &'static str,
    /// The figures that are compared, with their heads in the table. The first is the one that counts.
    pub(super) figures: &'static [Figure],
    /// Needs ten thousand connections.
    pub(super) slow: bool,
    /// Runs several times; the median counts.
    pub(super) repeats: bool,
    /// Clients come over TLS.
    pub(super) over_tls: bool,
    /// What a run takes, about, the start of the server included.
    pub(super) seconds: u64,
}

/// A figure of a measure.
pub(super) struct Figure {
    /// Its name in JSON.
    pub(super) name: &'static str,
    /// What it is and in which unit.
    pub(super) title: &'static str,
    /// The measure of the floor that it is held against.
    pub(super) floor: Option<&'static str>,
    pub(super) better: Better,
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    More,
    Less,
    /// Neither: it says what happens.
    Neither,
}

impl Measure {
    /// Whether `name` means it: its id, or the first word of it.
    pub(super) fn is(&self, name: &str) -> bool {
        self.id == name || self.id.split('-').next() == Some(name)
    }

    /// The measure of the floor that it is held against.
    pub(super) fn floor(&self) -> Option<&'static str> {
        self.figures.iter().find_map(|figure| figure.floor)
    }

    /// Whether it is run with a peer. The floor has measures of its own.
    pub(super) fn fits(&self, peer: &Peer) -> bool {
        (peer.name == "floor") == self.is("floor") && self.reason_against(peer).is_none()
    }

    /// Why a server is left out, if it is.
    pub(super) fn reason_against(&self, peer: &Peer) -> Option<&'static str> {
        const REASONS: [(&str, &str); 4] = [
            ("replay", "nobody else keeps a history here that is long enough"),
            ("leave", "it takes two channels, and everybody else has one here"),
            ("beside", "it takes two channels, and everybody else has one here"),
            ("channels", "everybody else has one channel here"),
        ];
        if self.is("inbound") && peer.name == "nchan" {
            return Some("it answers clients only where they may publish, which they may not here");
        }
        let reason = REASONS.iter().find(|(name, _)| self.is(name)).map(|(_, reason)| *reason);
        reason.filter(|_| peer.name != "tidegate" && peer.name != "floor")
    }
}
