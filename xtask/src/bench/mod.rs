//! `cargo xtask bench`: servers side by side, each on one core with the load on the other, and the machine's floor in the same run.

mod measures;
mod origin;
mod peers;
mod plan;
mod plot;
mod results;
mod run;
mod scale;
mod server;
mod set;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measures::Measure;
use peers::{PEERS, Peer};
use set::MEASURES;

const HELP: &str = "\
usage: cargo xtask bench [PEER…] [--only MEASURE…] [--runs N] [--quick] [--fresh | --missing]
       cargo xtask bench install [PEER…]     installs what is compared with, under target/peers
       cargo xtask bench report              makes docs/benchmarks/* and the tables of docs/explanation/benchmarks.md
       cargo xtask bench list                peers and measures

Without a peer: the floor and Tidegate, USUAL, or QUICK with `--quick`, which leaves out what needs ten thousand connections. `all` is
everybody, ALL. The floor, Tidegate and uWebSockets run most measures three times, the others once; `--runs` says otherwise. It goes
measure by measure, and in rounds over the peers. Figures are kept in target/bench, one file for each peer and measure; runs add to
them. `--fresh` throws away first what it will measure; `--missing` runs only what isn't there yet, so that a run that was cut goes on
where it was. What fails is noted, and the rest goes on. Every figure is per CPU-second of the server, on core 0; the load runs on
core 1: leave the machine alone meanwhile.
  cargo xtask bench --quick
  cargo xtask bench install && cargo xtask bench all --fresh && cargo xtask bench report
  cargo xtask bench all --missing
  cargo xtask bench tidegate uwebsockets --only handshake --runs 5";

/// What was asked for.
struct Wanted {
    peers: Vec<&'static Peer>,
    measures: Vec<&'static Measure>,
    runs: Option<usize>,
    fresh: bool,
    missing: bool,
}

impl Wanted {
    /// What it comes to if nothing of it is there yet.
    fn steps(&self) -> Vec<plan::Step> {
        plan::steps(&self.peers, &self.measures, self.runs, |_, _| 0)
    }
}

/// Runs a task of `bench`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let root = super::tidy::root()?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--help" | "-h" | "help"] => println!("{}", help()),
        ["list"] => list(),
        ["install", names @ ..] => return install(&root, &peers_of(names)?),
        ["report"] => return report(&root),
        words => return run::all(&root, &read(words)?),
    }
    Ok(())
}

/// The usage, with how long a run takes.
fn help() -> String {
    let time = |words: &[&str]| read(words).map_or_else(|error| error, |wanted| plan::minutes(plan::time(&wanted.steps())));
    HELP.replace("USUAL", &time(&[])).replace("QUICK", &time(&["--quick"])).replace("ALL", &time(&["all"]))
}

fn list() {
    println!("peers:");
    PEERS.iter().for_each(|peer| println!("  {:14} {}", peer.name, peer.title));
    println!("measures:");
    MEASURES.iter().for_each(|measure| println!("  {:22} {:3} s  {}", measure.id, measure.seconds, measure.title));
}

fn read(words: &[&str]) -> Result<Wanted, String> {
    let (mut names, mut only) = (Vec::new(), Vec::new());
    let (mut runs, mut quick, mut fresh, mut missing) = (None, false, false, false);
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        match word {
            "--quick" => quick = true,
            "--fresh" => fresh = true,
            "--missing" => missing = true,
            "--runs" => {
                let number = words.next().and_then(|number| number.parse().ok()).filter(|runs| (1..=20).contains(runs));
                runs = Some(number.ok_or("--runs needs 1 to 20")?);
            }
            "--only" => {
                while let Some(id) = words.next_if(|word| !word.starts_with("--")) {
                    only.push(id);
                }
            }
            option if option.starts_with("--") => return Err(format!("no option {option}\n\n{HELP}", HELP = help())),
            name => names.push(name),
        }
    }
    if fresh && missing {
        return Err("--fresh throws away what --missing would keep".to_owned());
    }
    let peers = peers_of(if names.is_empty() { &["floor", "tidegate"] } else { &names })?;
    if let Some(unknown) = only.iter().find(|id| MEASURES.iter().all(|measure| !measure.is(id))) {
        return Err(format!("no measure \"{unknown}\"; see cargo xtask bench list"));
    }
    let is_wanted = |measure: &&Measure| (only.is_empty() || only.iter().any(|id| measure.is(id))) && !(quick && measure.slow);
    Ok(Wanted { peers, measures: MEASURES.iter().filter(is_wanted).collect(), runs, fresh, missing })
}

fn peers_of(names: &[&str]) -> Result<Vec<&'static Peer>, String> {
    if names.is_empty() || names == ["all"] {
        return Ok(PEERS.iter().collect());
    }
    let find = |name: &&str| PEERS.iter().find(|peer| peer.name == *name).ok_or(format!("no peer \"{name}\"; see cargo xtask bench list"));
    names.iter().map(find).collect()
}

fn install(root: &Path, peers: &[&Peer]) -> Result<(), String> {
    for peer in peers {
        let script = root.join("bench/peers").join(peer.name).join("install.sh");
        if script.exists() {
            println!("==== {}", peer.title);
            succeed(Command::new(&script).arg(installed(root, peer)))?;
        }
    }
    Ok(())
}

fn installed(root: &Path, peer: &Peer) -> PathBuf {
    root.join("target/peers").join(peer.name)
}

fn is_installed(root: &Path, peer: &Peer) -> bool {
    peer.name == "floor" || peer.name == "tidegate" || installed(root, peer).join("version").exists()
}

fn report(root: &Path) -> Result<(), String> {
    let results = results::read(root)?;
    let folder = root.join("docs/benchmarks");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let write = |name: &str, text: String| fs::write(folder.join(name), text).map_err(|e| format!("{name}: {e}"));
    write("results.json", results.json())?;
    for plot in plot::all(&results).into_iter().chain(scale::plots(&results)) {
        write(&plot.name, plot.svg)?;
    }
    table::fill(&root.join("docs/explanation/benchmarks.md"), &results)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_say_how_long_a_run_takes() {
        let root = super::super::tidy::root().unwrap();
        let has = |page: &str, command: &str, words: &[&str]| {
            let text = fs::read_to_string(root.join("docs").join(page)).unwrap();
            let line = text.lines().find(|line| line.trim_start().starts_with(&format!("{command} "))).unwrap_or_default();
            let minutes = plan::minutes(plan::time(&read(words).unwrap().steps()));
            assert!(line.contains(&format!("about {minutes}")), "{page}: {command} takes about {minutes}: {line}");
        };
        has("how-to/measure-performance.md", "cargo xtask bench", &[]);
        has("how-to/measure-performance.md", "cargo xtask bench --quick", &["--quick"]);
        has("explanation/benchmarks.md", "cargo xtask bench all --fresh", &["all"]);
        assert!(help().contains(&plan::minutes(plan::time(&read(&["all"]).unwrap().steps()))) && !help().contains("USUAL"));
    }

    #[test]
    fn what_contradicts_itself_or_names_nobody_is_refused() {
        let wanted = read(&["sockudo", "--only", "fanout", "handshake", "--runs", "5", "--missing"]).unwrap();
        assert_eq!((wanted.peers.len(), wanted.runs, wanted.missing, wanted.fresh), (1, Some(5), true, false));
        assert!(wanted.measures.iter().all(|measure| measure.is("fanout") || measure.is("handshake")));
        for wrong in [&["--fresh", "--missing"][..], &["nobody"], &["--only", "nothing"], &["--runs", "0"], &["--what"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
