//! `tidegate`: the gateway and its command-line tools.

mod api;
mod cli;
mod config;
mod dev;
mod doors;
mod drain;
mod exit;
mod http;
mod logging;
mod page;
mod publish;
mod reload;
mod runtimes;
mod serve;
mod signals;
mod subscribe;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use config::Environment;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell();
            Exit::Failed.into()
        }
    }
}

fn run(command: Command) -> Result<Exit, Failure> {
    let environment = Environment::capture();
    match command {
        Command::Dev => {
            let loaded = dev::configuration(&environment)?;
            serve::run(loaded, serve::Purpose::Dev, &environment)
        }
        Command::Serve(file) => {
            let loaded = config::load(&file.config, &environment)?;
            serve::run(loaded, serve::Purpose::Serve(file.config), &environment)
        }
        Command::Check(file) => {
            let loaded = config::load(&file.config, &environment)?;
            exit::say(&config::explain(&loaded.config))?;
            exit::say(&config::tell_risks(&loaded.risks))?;
            Ok(Exit::Done)
        }
        Command::Publish(wish) => publish::run(wish),
        Command::Subscribe(wish) => subscribe::run(wish, &environment),
        Command::Drain(api) => drain::run(&api),
        Command::ConfigReference => exit::say(&config::reference()).map(|()| Exit::Done),
    }
}
