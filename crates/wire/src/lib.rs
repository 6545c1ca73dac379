//! Tidegate's messages to bytes and back: one module per dialect over the one model in [`tidegate_core::message`].
//!
//! The server reads with [`json::decode`] and writes with [`json::encode_server`] and [`json::encode_publication_into`]; a client
//! writes with [`json::encode_client`] and reads with [`json::decode_server`]. No I/O: a frame's payload goes in or comes out.

pub mod json;
