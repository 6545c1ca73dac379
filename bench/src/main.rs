//! `bench`: measures a WebSocket server from outside, per CPU-second of its own clock. One measure a call.

mod cli;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::crowd;
use bench::measure::traffic::Pace;
use bench::measure::{beside, channels, drain, fanout, floor, handshake, idle, inbound, kernel, leave, replay, stall};
use bench::report::Report;
use bench::{Process, Target};
use clap::Parser;

use cli::{Arguments, Measure, Server};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let polls = !arguments.server.sleeps && arguments.measure.has_a_core();
    let target = arguments.server.target().map(|target| Target { polls, ..target });
    let result = target.and_then(|target| measure(&target, &arguments.server, arguments.measure));
    let shown = result.and_then(|report| report.map_or(Ok(()), |report| show(&noted(report, &arguments.note), arguments.json)));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure(target: &Target, server: &Server, measure: Measure) -> io::Result<Option<Report>> {
    let (process, sleeps, seconds) = (Process::new(server.pid), server.sleeps, Duration::from_secs_f64);
    let report = match measure {
        Measure::Floor { sockets, per_write, frame_bytes, in_rounds, seconds: time, reader_core } => {
            floor::run(floor::Floor { sockets, per_write, frame_bytes, in_rounds, sleeps, time: seconds(time) }, reader_core)?
        }
        Measure::FloorReader { address, sockets, round_bytes } => {
            return floor::read_all(floor::Reading { address, sockets, round_bytes, sleeps }).map(|()| None);
        }
        Measure::Idle { connections, watch } => idle::run(target, process, connections, seconds(watch))?,
        Measure::Fanout { subscribers, rate, publishers, pipeline, on_the_way, pad, seconds: time } => {
            let pace = rate.map_or(Pace::Closed { publishers, pipeline, on_the_way }, Pace::PerSecond);
            fanout::run(target, process, fanout::Fanout { subscribers, pad, pace, time: seconds(time) })?
        }
        Measure::Stall { subscribers, stalled, pad, rate, seconds: time } => {
            let what = stall::Stall { subscribers, stalled, pad, per_second: rate, time: seconds(time) };
            stall::report(what, &stall::run(target, process, what)?)
        }
        Measure::Handshake { concurrent, seconds: time } => handshake::run(target, process, concurrent, seconds(time))?,
        Measure::Inbound { connections, in_flight, seconds: time } => inbound::run(target, process, connections, in_flight, seconds(time))?,
        Measure::Kernel { pad, rate, seconds: time } => kernel::run(target, pad, rate, seconds(time))?,
        Measure::Replay { subscribers, rate, resumers, messages, history, pad, seconds: time } => {
            let what = replay::Replay { subscribers, per_second: rate, resumers, messages, history, pad, time: seconds(time) };
            replay::run(target, process, &what)?
        }
        Measure::Resumers { resumers, messages } => return replay::resume(target, resumers, messages).map(|()| None),
        Measure::Leave { leaving, staying, rounds, seconds: time, elsewhere } => {
            let mut elsewhere = elsewhere.map_or(Ok(target.clone()), |url| target.at(&url))?;
            elsewhere.channel += ":leaving";
            leave::run(target, process, &leave::Leave { leaving, elsewhere, staying, rounds, time: seconds(time) })?
        }
        Measure::Channels { subscribers, channels, pad, seconds: time } => {
            channels::run(target, process, channels::Channels { subscribers, channels, pad, time: seconds(time) })?
        }
        Measure::Beside { crowd, crowd_rate, subscribers, rate, seconds: time } => {
            let what = beside::Beside { crowd, crowd_per_second: crowd_rate, subscribers, per_second: rate, time: seconds(time) };
            beside::run(target, process, what)?
        }
        Measure::Crowd { connections } => return crowd::serve(target, connections).map(|()| None),
        Measure::Drain { connections, unresponsive, seconds: time, signalled } => {
            let process = signalled.map_or(process, Process::new);
            drain::report(connections, &drain::run(target, process, connections, unresponsive, seconds(time))?)
        }
    };
    Ok(Some(report))
}

fn noted(report: Report, notes: &[(String, String)]) -> Report {
    notes.iter().fold(report, |report, (name, value)| report.aside(name, value))
}

fn show(report: &Report, json: Option<PathBuf>) -> io::Result<()> {
    println!("{}", report.line());
    if let Some(path) = json {
        writeln!(OpenOptions::new().create(true).append(true).open(path)?, "{}", report.json())?;
    }
    Ok(())
}
