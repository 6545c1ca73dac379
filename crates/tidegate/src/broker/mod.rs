//! Backends of [`tidegate_core::broker::Broker`].

pub mod embedded;

pub use embedded::{Embedded, EmbeddedSettings};
