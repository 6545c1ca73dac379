//! The embeddable server.

pub mod broker;
