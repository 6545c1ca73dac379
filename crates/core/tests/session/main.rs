//! The session machine in virtual time: each concern, the outbox against a model, and whole lives against a checker.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod authority;
mod bench;
mod broker;
mod checker;
mod close;
mod codes;
mod commands;
mod depart;
mod events_model;
mod farewell;
mod heartbeat;
mod reading;
mod resuming;
mod simulation;
mod stall;
mod states;
mod streams_model;
mod subscribing;
mod world;
