//! Runs one hot path so many times: `bench-instructions NAME TIMES`. `cargo xtask instructions` counts what that takes.
//!
//! Whatever comes before the first time has to be the same for every number of times: it is subtracted.

mod frames;
mod lanes;
mod messages;
mod room;

use std::process::ExitCode;

/// The most that a path is run: what a path uses up is made beforehand, for so many times.
const TIMES_MAX: u64 = 4096;

/// A path: its name in the table, and what runs it so many times.
type Path = (&'static str, fn(u64));

const PATHS: &[Path] = &[
    ("frame_parse", frames::parse),
    ("frame_write", frames::write),
    ("handshake_check", frames::handshake),
    ("message_encode", messages::encode_publication),
    ("reply_encode", messages::encode_reply),
    ("publish_decode", messages::decode_publish),
    ("outbox_event", lanes::event),
    ("outbox_log", lanes::log),
    ("outbox_state", lanes::state),
    ("fanout_1000", room::fan_out),
    ("subscribe_alone", room::subscribe_alone),
    ("subscribe_among_100", room::subscribe_among_100),
    ("subscribe_among_10k", room::subscribe_among_10k),
    ("subscribe_beside_10k", room::subscribe_beside_10k),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = match arguments.as_slice() {
        [name] if name == "--list" => {
            PATHS.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [name, times] => PATHS.iter().find(|(known, _)| known == name).zip(times.parse().ok().filter(|times| *times <= TIMES_MAX)),
        _ => None,
    };
    let Some(((_, run), times)) = found else {
        eprintln!("usage: bench-instructions NAME TIMES, at most {TIMES_MAX} times; bench-instructions --list");
        return ExitCode::FAILURE;
    };
    run(times);
    ExitCode::SUCCESS
}
