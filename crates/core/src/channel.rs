//! Channel names, patterns over them, and the rule that says what a channel is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A valid channel name: 1 to 255 bytes of segments joined by `:`, a segment being ASCII letters, digits and `_ - . @ = ~`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChannel {
    /// Empty, or longer than 255 bytes.
    #[error("a channel name is 1 to 255 bytes")]
    Length,
    /// Two colons in a row, or one at an end.
    #[error("a channel name has no empty segment")]
    EmptySegment,
    /// A byte outside the grammar.
    #[error("a channel name has only letters, digits and _ - . @ = ~ between its colons")]
    Character,
}

impl ChannelName {
    /// Checks the grammar.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidChannel> {
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ChannelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'=' | b'~')
}

fn check_name(text: &str) -> Result<(), InvalidChannel> {
    if text.is_empty() || text.len() > 255 {
        return Err(InvalidChannel::Length);
    }
    for segment in text.split(':') {
        if segment.is_empty() {
            return Err(InvalidChannel::EmptySegment);
        }
        if !segment.bytes().all(is_name_byte) {
            return Err(InvalidChannel::Character);
        }
    }
    Ok(())
}

/// A pattern over channel names: `*` stands for one segment, `**` (last only) for one or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Not a name even with its stars taken for letters.
    #[error(transparent)]
    Name(#[from] InvalidChannel),
    /// `**` before the end.
    #[error("** stands for the rest and can only be the last segment")]
    RestNotLast,
    /// A star next to other characters, as in `a*`.
    #[error("a star stands alone in its segment")]
    PartialStar,
}

impl Pattern {
    /// Checks the grammar.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        check_name(&text.replace('*', "x"))?;
        let mut segments = text.split(':').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "*" => {}
                "**" if segments.peek().is_none() => {}
                "**" => return Err(InvalidPattern::RestNotLast),
                _ if segment.contains('*') => return Err(InvalidPattern::PartialStar),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether the name fits.
    pub fn matches(&self, name: &ChannelName) -> bool {
        let mut names = name.as_str().split(':');
        for segment in self.0.split(':') {
            match (segment, names.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a channel is for, and so what happens to a subscriber that falls behind or returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// History is worthless: loss is allowed, counted and told.
    Event,
    /// Nothing may be lost: a subscriber's queue is a cursor into the log.
    Log,
    /// Only the latest message per key matters: a subscriber's queue is a set of keys.
    State,
}

impl ChannelKind {
    /// Its name on the wire, in configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Log => "log",
            Self::State => "state",
        }
    }
}

/// What happens to a message for which a subscriber's outbox has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// `event`: the oldest waiting message of the channel goes (default).
    DropOldest,
    /// `event`: the new message goes.
    DropNewest,
    /// `event`: every second waiting message goes, so that what is left is spread over time.
    Sample,
    /// `event` and `log`: the subscriber is closed with 4103.
    Disconnect,
    /// `event`: the publisher waits until the subscriber has room or is cut as stalled.
    Pause,
    /// `log`: live messages stop and are read from history at the subscriber's own pace (default).
    CatchUp,
}

impl Overflow {
    /// Its name in configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DropOldest => "drop_oldest",
            Self::DropNewest => "drop_newest",
            Self::Sample => "sample",
            Self::Disconnect => "disconnect",
            Self::Pause => "pause",
            Self::CatchUp => "catch_up",
        }
    }

    /// Whether it makes sense on channels of this kind (`state` conflates and has none).
    pub const fn fits(self, kind: ChannelKind) -> bool {
        match kind {
            ChannelKind::Event => !matches!(self, Self::CatchUp),
            ChannelKind::Log => matches!(self, Self::CatchUp | Self::Disconnect),
            ChannelKind::State => false,
        }
    }

    /// What a rule that says nothing means.
    pub const fn default_for(kind: ChannelKind) -> Self {
        match kind {
            ChannelKind::Event => Self::DropOldest,
            ChannelKind::Log | ChannelKind::State => Self::CatchUp,
        }
    }
}

/// How much of a channel is kept. Whatever limit is reached first drops the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At most this many messages; on `state` channels, keys.
    pub messages: u64,
    /// Not longer than this.
    pub age: Duration,
    /// At most this many bytes of ids, keys and data.
    pub bytes: u64,
}

impl Default for Retention {
    /// What the documentation's example keeps: a day of a busy build log, and no more than a phone's app cache in size.
    fn default() -> Self {
        Self { messages: 10_000, age: Duration::from_secs(24 * 60 * 60), bytes: 64 * 1024 * 1024 }
    }
}

/// Who may ask for what was published before they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistoryAccess {
    /// Whoever may subscribe.
    #[default]
    Subscribers,
    /// Only who has a `history` grant: a cursor is no credential.
    Granted,
}

/// What channels of a pattern are. The first rule that matches a name decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule {
    /// Which names it is for.
    pub pattern: Pattern,
    /// What they are.
    pub kind: ChannelKind,
    /// What happens to a subscriber that falls behind.
    pub overflow: Overflow,
    /// How much is kept (`log` and `state`).
    pub retention: Retention,
    /// Who may ask for it.
    pub history: HistoryAccess,
    /// How long a message may wait for others that then share its write. Zero: it goes out at once.
    pub flush_window: Duration,
}

impl ChannelRule {
    /// A rule with the defaults of its kind.
    pub fn new(pattern: Pattern, kind: ChannelKind) -> Self {
        Self {
            pattern,
            kind,
            overflow: Overflow::default_for(kind),
            retention: Retention::default(),
            history: HistoryAccess::default(),
            flush_window: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "orders:42", "a.b-c_d@e=f~g", &"x".repeat(255)] {
            assert!(ChannelName::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", InvalidChannel::Length),
            (&*"x".repeat(256), InvalidChannel::Length),
            ("a::b", InvalidChannel::EmptySegment),
            (":a", InvalidChannel::EmptySegment),
            ("a:", InvalidChannel::EmptySegment),
            ("a b", InvalidChannel::Character),
            ("a*", InvalidChannel::Character),
            ("ä", InvalidChannel::Character),
            ("a\0", InvalidChannel::Character),
            ("a\r\n", InvalidChannel::Character),
            ("a>b", InvalidChannel::Character),
            ("{a}", InvalidChannel::Character),
        ] {
            assert_eq!(ChannelName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_segment_by_segment() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).unwrap().matches(&ChannelName::new(name).unwrap());
        assert!(fits("build:*", "build:1"));
        assert!(!fits("build:*", "build"));
        assert!(!fits("build:*", "build:1:2"));
        assert!(fits("build:**", "build:1:2"));
        assert!(!fits("build:**", "build"));
        assert!(fits("**", "a:b:c"));
        assert!(fits("*:x", "a:x"));
        assert!(!fits("*:x", "a:y"));
        assert!(fits("a", "a"));
        assert!(!fits("a", "a:b"));
    }

    #[test]
    fn patterns_that_could_surprise_are_refused() {
        assert_eq!(Pattern::new("**:a"), Err(InvalidPattern::RestNotLast));
        assert_eq!(Pattern::new("a*"), Err(InvalidPattern::PartialStar));
        assert_eq!(Pattern::new("***"), Err(InvalidPattern::PartialStar));
        assert!(matches!(Pattern::new("a::b"), Err(InvalidPattern::Name(_))));
        assert!(matches!(Pattern::new(""), Err(InvalidPattern::Name(_))));
    }
}
