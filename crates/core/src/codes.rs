//! The two tables of the protocol: close codes with what a client does about them, and error codes of replies.

/// What a client does after a close; the hundreds of a 4xxx code tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseClass {
    /// 40xx: reconnect after the reason's `retry_ms`, else within the reconnect window; no error shown.
    Resume,
    /// 41xx, and unexpected losses: full-jitter exponential backoff, not before `retry_ms`.
    BackOff,
    /// 42xx: get a new credential, then reconnect; at most three tries.
    Reauthenticate,
    /// 43xx: drop cursors, reconnect, take snapshots.
    StartAfresh,
    /// 44xx: do not reconnect; tell the application.
    Stop,
    /// 1000: the end was wanted.
    Done,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal $name:literal;)*) => {
        /// Why a session is closed by the server: the code on the wire and its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CloseCode { $($(#[$doc])* $variant = $code,)* }

        impl CloseCode {
            /// Every code, in the order of the protocol's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that the close reason begins with, also the label in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

close_codes! {
    /// The session is over and nobody minds: `idle hard stop`, or an answer to the peer's own close.
    Normal = 1000 "normal";
    /// A session without this protocol is drained.
    GoingAway = 1001 "server draining";
    /// A frame against RFC 6455.
    ProtocolError = 1002 "protocol_error";
    /// A kind of frame that the dialect does not use.
    UnsupportedData = 1003 "unsupported_data";
    /// Text that is not UTF-8.
    InvalidPayload = 1007 "invalid_payload";
    /// A session without this protocol does not read.
    PolicyViolation = 1008 "client too slow";
    /// A message over `limits.message`.
    TooBig = 1009 "message_too_big";
    /// This node is going; others are there.
    Draining = 4000 "draining";
    /// The fleet spreads its load anew.
    Rebalance = 4001 "rebalance";
    /// The connection reached its maximum age.
    MaxAge = 4002 "max_age";
    /// A fault of ours.
    Internal = 4100 "internal";
    /// The node has no room.
    Overloaded = 4101 "overloaded";
    /// Far over the inbound rate, and did not stop when told.
    RateLimited = 4102 "rate_limited";
    /// Does not read what it subscribed to.
    SlowConsumer = 4103 "slow_consumer";
    /// Was not heard of for too long.
    HeartbeatTimeout = 4104 "heartbeat_timeout";
    /// The node can't reach the bus.
    BusLost = 4105 "bus_lost";
    /// Did not authenticate in time.
    AuthTimeout = 4200 "auth_timeout";
    /// The credential's time is over.
    Expired = 4201 "expired";
    /// What it may do has changed, and it did not authenticate again in time.
    PrivilegeChanged = 4202 "privilege_changed";
    /// Its authority was taken away.
    Revoked = 4203 "revoked";
    /// The session it wants to go on with is not known.
    SessionUnknown = 4300 "session_unknown";
    /// Its cursors are void, and it can't be told within the session.
    EpochReset = 4301 "epoch_reset";
    /// A frame that is not this protocol.
    BadFrame = 4400 "bad_frame";
    /// A credential that will never be good.
    BadCredentials = 4401 "bad_credentials";
    /// Not allowed here at all.
    Forbidden = 4403 "forbidden";
    /// Speaks a version that is not spoken here.
    UnsupportedVersion = 4409 "unsupported_version";
    /// Over a limit that waiting does not lift.
    Quota = 4429 "quota";
}

impl CloseCode {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code with this number, if it is one of ours.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// What a client does about it.
    pub const fn class(self) -> CloseClass {
        close_class(self.number())
    }
}

/// What a client does about any close code it may see, ours or not (protocol.md, "Close codes").
pub const fn close_class(number: u16) -> CloseClass {
    match number {
        1000 => CloseClass::Done,
        4000..=4099 => CloseClass::Resume,
        4200..=4299 => CloseClass::Reauthenticate,
        4300..=4399 => CloseClass::StartAfresh,
        1002 | 1003 | 1007 | 1008 | 1009 | 4400..=4499 => CloseClass::Stop,
        _ => CloseClass::BackOff,
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a command was refused or a subscription ended, as `code` of `error` and `unsubscribed` and of the HTTP API's error body.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, in the order of the protocol's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name on the wire, also the label in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

error_codes! {
    /// A field is missing or wrong; the message names it.
    BadRequest = "bad_request";
    /// No such command.
    UnknownType = "unknown_type";
    /// Only `auth` is taken before `welcome`.
    Unauthenticated = "unauthenticated";
    /// No grant covers it.
    Forbidden = "forbidden";
    /// No channel rule covers the name.
    UnknownChannel = "unknown_channel";
    /// The channel is subscribed to already.
    AlreadySubscribed = "already_subscribed";
    /// The channel is not subscribed to.
    NotSubscribed = "not_subscribed";
    /// The grant that a subscription stood on was taken away.
    Revoked = "revoked";
    /// Over a limit; waiting does not help.
    LimitExceeded = "limit_exceeded";
    /// Over a rate; `retry_after_ms` says when it will be taken.
    RateLimited = "rate_limited";
    /// The message is larger than the limit.
    TooLarge = "too_large";
    /// What is behind it does not answer: broker or backend.
    Unavailable = "unavailable";
    /// A fault of ours.
    Internal = "internal";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundreds_tell_the_client_what_to_do() {
        for &code in CloseCode::ALL.iter().filter(|code| code.number() >= 4000) {
            let class = match code.number() / 100 {
                40 => CloseClass::Resume,
                41 => CloseClass::BackOff,
                42 => CloseClass::Reauthenticate,
                43 => CloseClass::StartAfresh,
                _ => CloseClass::Stop,
            };
            assert_eq!(code.class(), class, "{code:?}");
            assert_eq!(CloseCode::from_number(code.number()), Some(code));
        }
        for number in [1001, 1005, 1006, 1011, 1012, 1013, 1014] {
            assert_eq!(close_class(number), CloseClass::BackOff, "{number}");
        }
    }

    #[test]
    fn a_close_reason_has_room_for_its_retry_time() {
        for code in CloseCode::ALL {
            assert!(format!("{};retry_ms={}", code.name(), u32::MAX).len() <= 123);
        }
    }

    const PAGE: &str = include_str!("../../../docs/reference/protocol.md");

    /// The first cells of a table's rows, under the heading that is given.
    fn table(heading: &str) -> Vec<Vec<&'static str>> {
        let text = PAGE.split_once(heading).map_or("", |(_, rest)| rest);
        let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
    }

    #[test]
    fn the_page_has_every_close_code_and_no_other() {
        let class = |code: CloseCode| match code.class() {
            CloseClass::Resume => "resume",
            CloseClass::BackOff => "back off",
            CloseClass::Reauthenticate => "re-authenticate",
            CloseClass::StartAfresh => "start afresh",
            CloseClass::Stop => "stop",
            CloseClass::Done => "done",
        };
        let ours: Vec<_> = CloseCode::ALL.iter().map(|&code| (code.number().to_string(), code.name(), class(code))).collect();
        let page: Vec<_> = table("\n## Close codes\n").iter().map(|row| (row[0].to_owned(), row[1], row[2])).collect();
        assert_eq!(page, ours);
    }

    #[test]
    fn the_page_has_every_error_code_and_no_other() {
        let ours: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        let page: Vec<_> = table("\n### Error codes\n").iter().map(|row| row[0]).collect();
        assert_eq!(page, ours);
    }
}
