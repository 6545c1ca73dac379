//! `[auth]`: who may come in, and for how long.

use std::time::Duration;

use tidegate::Pattern;

use super::schema::section;
use super::values::NotYet;

section! {
    /// Who may come in, and for how long.
    Auth {
        /// Longest authority of a session without its own expiry.
        session: Duration = "24h",
        /// A node that can't confirm revocations for so long closes its sessions. An embedded broker always can.
        lease: Duration = "30s",
        /// Grants of sessions without a name. Without it, every client needs a credential.
        anonymous: Option<Anonymous> = "",
        /// Single-use tickets.
        ticket: NotYet = "",
        /// Tokens.
        jwt: NotYet = "",
        /// Signed challenges.
        challenge: NotYet = "",
    }
}

section! {
    /// What sessions without a name may do.
    Anonymous {
        /// Channels to subscribe to, as patterns.
        subscribe: Vec<Pattern> = "",
        /// Channels to publish to.
        publish: Vec<Pattern> = "",
        /// Channels whose history may be read where the rule asks for a grant.
        history: Vec<Pattern> = "",
    }
}
