//! The project's own tasks: `cargo xtask tidy` checks the house rules, `wasm` that the pure crates need no system, `bench` measures the
//! release binary, `instructions` counts what its hot paths cost.

use std::process::ExitCode;

mod bench;
mod instructions;
mod tidy;
mod wasm;

const USAGE: &str =
    "usage: cargo xtask tidy\n       cargo xtask wasm\n       cargo xtask bench [--help]\n       cargo xtask instructions [--accept]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("tidy", [])) => tidy::run(),
        Some(("wasm", [])) => wasm::run(),
        Some(("bench", rest)) => bench::run(rest),
        Some(("instructions", rest)) => instructions::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
