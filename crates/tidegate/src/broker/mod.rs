//! Backends of [`tidegate_core::broker::Broker`].

pub mod embedded;

pub use embedded::{Embedded, EmbeddedSettings, OpenError};
pub use tidegate_core::broker::{
    Broker, BrokerError, Durability, Guarantees, HistoryError, Page, PageLimit, Published, Sequence, Sink, Snapshot,
};
