//! A Tidegate client that reconnects and resumes by itself: what was published while it was away arrives once and in order,
//! or the exact gap is told.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use tidegate_client::{Client, Event, Since};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://127.0.0.1:8000/ws").build();
//! let mut build = client.log("build:42").since(Since::Earliest).subscribe();
//! client.publish("chat:1", &"hello").await?;
//! while let Some(event) = build.next().await {
//!     match event {
//!         Event::Message(message) => println!("{}", message.data),
//!         Event::Gap(gap) => eprintln!("{:?} messages are gone: {}", gap.missed, gap.reason),
//!         Event::Stopped(stop) => eprintln!("it ended: {stop}"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! What decides is a machine without a socket, a clock or a random source; one task per client lends it all three.

mod address;
mod backoff;
mod client;
mod driver;
mod error;
mod event;
mod machine;
mod reading;
mod socket;
mod subscription;

pub use client::{Attempt, Builder, Client, Credential};
pub use error::{Error, Stop};
pub use event::{Cursor, Entry, Event, Gap, Message, Published, Since, Snapshot, Status};
pub use subscription::{SubscribeBuilder, Subscription};
pub use tidegate_core::ChannelKind;
