//! Runs the measures one by one. What fails is noted and left behind: the others' figures are not lost.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::peers::Peer;
use super::plan::{self, Step};
use super::server::Server;
use super::{Wanted, installed, is_installed, origin, results, succeed};

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// A call of the load client that takes longer hangs: `replay` may need 110 s twice, all others less than two minutes.
const LONGEST_S: &str = "300";
/// What `timeout` ends with when it had to end the other.
const TIMED_OUT: i32 = 124;

/// Runs what is wanted.
///
/// # Errors
/// Which of it failed, when all was tried.
pub(super) fn all(root: &Path, wanted: &Wanted) -> Result<(), String> {
    succeed(Command::new("cargo").current_dir(root).args(["build", "--release", "--locked", "--bin", "tidegate", "--bin", "bench"]))?;
    let (peers, absent): (Vec<&Peer>, Vec<&Peer>) = wanted.peers.iter().partition(|peer| is_installed(root, peer));
    let mut failed: Vec<String> =
        absent.iter().map(|peer| format!("{} is not installed: cargo xtask bench install {}", peer.title, peer.name)).collect();
    failed.iter().for_each(|error| println!("{error}"));
    if wanted.fresh {
        plan::steps(&peers, &wanted.measures, None, |_, _| 0)
            .iter()
            .for_each(|step| results::forget(root, step.peer.name, step.measure.id));
    }
    let done = |peer: &Peer, measure: &super::Measure| if wanted.missing { results::kept(root, peer.name, measure.id) } else { 0 };
    let steps = plan::steps(&peers, &wanted.measures, wanted.runs, done);

    println!("{} measures, about {}", steps.len(), plan::minutes(plan::time(&steps)));
    let (origin, started) = (origin::now(root), Instant::now());
    for (at, step) in steps.iter().enumerate() {
        let left = plan::minutes(plan::left(&steps, at, started.elapsed()));
        println!("==== {} of {}, about {left} left: {}, {}", at + 1, steps.len(), step.peer.title, step.measure.id);
        if let Err(error) = once(root, step, &origin) {
            results::note_failure(root, step.peer.name, step.measure.id, &error)?;
            println!("     failed: {error}");
            failed.push(format!("{}, {}: {error}", step.peer.title, step.measure.id));
        }
    }
    println!("==== done in {} s; cargo xtask bench report makes the pages", started.elapsed().as_secs());
    if failed.is_empty() { Ok(()) } else { Err(format!("did not work:\n  {}", failed.join("\n  "))) }
}

/// One run, with a server of its own.
fn once(root: &Path, step: &Step, origin: &[(&str, String)]) -> Result<(), String> {
    let Step { peer, measure, .. } = *step;
    let file = results::file(root, peer.name, measure.id);
    fs::create_dir_all(file.parent().unwrap_or(root)).map_err(|e| format!("{}: {e}", file.display()))?;
    let load = |core: &str| {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=5", LONGEST_S, "taskset", "-c", core]);
        command.arg(root.join("target/release/bench")).arg("--json").arg(&file);
        command.args(origin.iter().flat_map(|(name, text)| ["--note".to_owned(), format!("{name}={text}")]));
        command
    };
    if peer.name == "floor" {
        return attend(load(SERVER_CORE).args(measure.arguments).args(["--reader-core", LOAD_CORE]));
    }
    let server = Server::start(root, peer, &installed(root, peer), SERVER_CORE, measure.over_tls)?;
    let mut load = load(LOAD_CORE);
    load.args(["--pid", &server.measured_pid()?.to_string()]).args(server.load_arguments());
    load.args(measure.arguments);
    if let Some(pid) = server.signalled_pid().filter(|_| measure.is("drain")) {
        load.args(["--signalled", &pid.to_string()]);
    }
    attend(&mut load)
}

/// Runs the load client; the error is the last that it said.
fn attend(load: &mut Command) -> Result<(), String> {
    let child = load.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| format!("{load:?}: {e}"))?;
    let output = child.wait_with_output().map_err(|e| format!("{load:?}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    eprint!("{said}");
    match said.lines().last() {
        _ if output.status.success() => Ok(()),
        _ if output.status.code() == Some(TIMED_OUT) => Err(format!("did not end within {LONGEST_S} s")),
        Some(line) => Err(line.trim_start_matches("bench: ").to_owned()),
        None => Err(output.status.to_string()),
    }
}
