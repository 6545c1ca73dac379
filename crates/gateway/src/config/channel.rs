//! `[[channel]]`: what channels are, by patterns over their names.

use std::time::Duration;

use tidegate::Pattern;

use super::schema::section;
use super::values::{Size, words};

section! {
    /// What channels of a pattern are. The first rule that matches a name decides.
    Channel {
        /// Which names: `*` is one segment between colons, `**` the rest.
        r#match: Pattern = "",
        /// `event` (loss is allowed and told), `log` (nothing is lost) or `state` (the latest of each key).
        kind: Kind = "",
        /// What happens to a subscriber that falls behind. `event`: `drop_oldest` (default), `drop_newest`, `sample`, `disconnect` or
        /// `pause`; `log`: `catch_up` (default) or `disconnect`; `state` conflates and has none.
        overflow: Option<Behind> = "",
        /// How much is kept.
        retention: Kept = "",
        /// Sessions that may ask for older messages: all `subscribers`, or those with a `history` grant (`granted`).
        history: Access = "subscribers",
        /// How long a message may wait for others that then share its write, at most 1s. It saves most of the cost of many small
        /// messages to many subscribers, for that much latency. `0s`: each goes out at once.
        flush_window: Duration = "0s",
    }
}

section! {
    /// How much of a channel is kept. Whichever limit is reached first drops the oldest.
    Kept {
        /// Messages; on `state` channels, keys.
        messages: u64 = "10000",
        /// Age.
        age: Duration = "24h",
        /// Bytes of ids, keys and data.
        bytes: Size = "64MiB",
    }
}

words! {
    /// A kind of channel.
    Kind = "\"event\", \"log\" or \"state\"" {
        /// Loss is allowed, counted and told.
        Event = "event",
        /// Nothing may be lost.
        Log = "log",
        /// Only the latest per key matters.
        State = "state",
    }
}

words! {
    /// What happens to a subscriber that falls behind.
    Behind = "\"drop_oldest\", \"drop_newest\", \"sample\", \"disconnect\", \"pause\" or \"catch_up\"" {
        /// The oldest waiting message goes.
        DropOldest = "drop_oldest",
        /// The new message goes.
        DropNewest = "drop_newest",
        /// Every second waiting message goes.
        Sample = "sample",
        /// The subscriber is closed.
        Disconnect = "disconnect",
        /// The publisher waits.
        Pause = "pause",
        /// The subscriber reads on from history.
        CatchUp = "catch_up",
    }
}

words! {
    /// Who may ask for history.
    Access = "\"subscribers\" or \"granted\"" {
        /// Whoever may subscribe.
        Subscribers = "subscribers",
        /// Only with a grant.
        Granted = "granted",
    }
}
