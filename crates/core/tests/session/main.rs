//! The session machine in virtual time: each concern, the outbox against a model, and whole lives against a checker.

mod authority;
mod bench;
mod broker;
mod checker;
mod close;
mod codes;
mod commands;
mod depart;
mod heartbeat;
mod outbox_model;
mod simulation;
mod stall;
mod subscribing;
