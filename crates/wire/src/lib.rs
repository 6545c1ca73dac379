//! Tidegate messages to bytes and back, one folder per dialect. The model is `tidegate_core::message`; nothing is decided here.
//!
//! No I/O, no clock, no runtime: the crate builds for WebAssembly and imports nothing there.

pub mod json;
