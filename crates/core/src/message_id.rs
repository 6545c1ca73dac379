//! The id of a message: given by its publisher, or drawn here.

use std::fmt;
use std::ops::Deref;

/// How long a drawn id is: a ULID's text.
pub const DRAWN_BYTES: usize = 26;

/// By what repeats of a message are recognised, and what subscribers know it by. Two are equal if their texts are.
#[derive(Clone)]
pub struct MessageId(Source);

#[derive(Clone)]
enum Source {
    /// In place: there is one in every message whose publisher gave none.
    Drawn([u8; DRAWN_BYTES]),
    Given(Box<str>),
}

impl MessageId {
    /// An id that was drawn at random for this message and for no other: a repeat that has it is a message of its own. One that is not ASCII
    /// counts as given.
    pub fn drawn(text: &[u8; DRAWN_BYTES]) -> Self {
        if text.is_ascii() { Self(Source::Drawn(*text)) } else { Self::from(&*String::from_utf8_lossy(text)) }
    }

    /// The same, as a publisher's that is to be recognised when it comes again.
    #[must_use]
    pub fn given(self) -> Self {
        match self.0 {
            Source::Drawn(_) => Self::from(self.as_str()),
            Source::Given(_) => self,
        }
    }

    /// Whether it was drawn for a message whose publisher gave none.
    pub const fn is_drawn(&self) -> bool {
        matches!(self.0, Source::Drawn(_))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // ASCII, as was seen when it was made.
            Source::Drawn(text) => std::str::from_utf8(text).unwrap_or_default(),
            Source::Given(text) => text,
        }
    }

    /// Bytes of its text.
    pub const fn len(&self) -> usize {
        match &self.0 {
            Source::Drawn(text) => text.len(),
            Source::Given(text) => text.len(),
        }
    }

    /// Whether its text is empty.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Deref for MessageId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for MessageId {
    fn as_ref(&self) -> &str {
        self
    }
}

/// As its publisher gave it.
impl From<Box<str>> for MessageId {
    fn from(text: Box<str>) -> Self {
        Self(Source::Given(text))
    }
}

/// As its publisher gave it.
impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self(Source::Given(text.into()))
    }
}

/// As its publisher gave it.
impl From<String> for MessageId {
    fn from(text: String) -> Self {
        Self(Source::Given(text.into()))
    }
}

impl From<MessageId> for Box<str> {
    fn from(id: MessageId) -> Self {
        match id.0 {
            Source::Drawn(_) => id.as_str().into(),
            Source::Given(text) => text,
        }
    }
}

impl PartialEq for MessageId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MessageId {}

impl std::hash::Hash for MessageId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), out)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_from_does_not_make_it_another() {
        let text = "01JD0000000000000000000000";
        let (drawn, given) = (MessageId::drawn(text.as_bytes().try_into().unwrap()), MessageId::from(text));
        assert_eq!((drawn.is_drawn(), given.is_drawn(), drawn.clone().given().is_drawn()), (true, false, false));
        assert_eq!((&drawn, drawn.as_str(), drawn.len()), (&given, text, text.len()));
        assert_eq!(size_of::<Option<MessageId>>(), 32, "no more than a text and its two words");
    }

    #[test]
    fn what_is_not_ascii_is_not_lost() {
        let id = MessageId::drawn(&[0xff; DRAWN_BYTES]);
        assert!(!id.is_drawn() && !id.is_empty());
    }
}
