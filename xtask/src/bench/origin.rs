//! When, where and with what figures were measured: each line of them carries it, so that a report made later still knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

/// What each line carries.
const NAMES: [&str; 5] = ["date", "tidegate", "rustc", "cpu", "kernel"];

/// All that the lines carry, name by name.
#[derive(Default)]
pub(super) struct Origin(BTreeMap<&'static str, BTreeSet<String>>);

impl Origin {
    /// Takes it out of a line.
    pub(super) fn take(&mut self, run: &mut Map<String, Value>) {
        for name in NAMES {
            if let Some(Value::String(text)) = run.remove(name) {
                self.0.entry(name).or_default().insert(text);
            }
        }
    }

    /// A sentence for the page.
    pub(super) fn sentence(&self) -> String {
        let all =
            |name| self.0.get(name).map_or_else(|| "unknown".to_owned(), |texts| texts.iter().cloned().collect::<Vec<_>>().join(" and "));
        let days: BTreeSet<&str> = self.0.get("date").into_iter().flatten().filter_map(|date| date.get(..10)).collect();
        let days = days.first().zip(days.last()).map_or_else(String::new, |(first, last)| {
            let range = if first == last { (*first).to_owned() } else { format!("{first} to {last}") };
            format!(" on {range}")
        });
        let (cpu, kernel, tidegate, rustc) = (all("cpu"), all("kernel"), all("tidegate"), all("rustc"));
        format!("Measured{days}: {cpu}, Linux {kernel}; Tidegate at commit {tidegate}, {rustc}.")
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        json!(self.0)
    }
}

/// What a line that is measured now is to carry.
pub(super) fn now(root: &Path) -> Vec<(&'static str, String)> {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).current_dir(root).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let is_changed = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|files| !files.is_empty());
    let commit = said("git", &["rev-parse", "--short", "HEAD"]).map(|commit| if is_changed { commit + "+" } else { commit });
    // Its commit and date in brackets say nothing that the version doesn't.
    let rustc = said("rustc", &["--version"]).map(|version| version.split(" (").next().unwrap_or_default().to_owned());
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let texts = [
        known(said("date", &["-u", "+%Y-%m-%dT%H:%MZ"])),
        known(commit),
        known(rustc),
        format!("{model}, {cores} cores"),
        kernel.trim().split('-').next().unwrap_or_default().to_owned(),
    ];
    NAMES.into_iter().zip(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_two_days_are_one_sentence() {
        let mut origin = Origin::default();
        for day in ["2026-01-02T03:04Z", "2026-01-03T00:01Z"] {
            let line = json!({"a": 1, "date": day, "tidegate": "abc", "rustc": "rustc 1", "cpu": "a CPU, 2 cores", "kernel": "6.1"});
            let mut run = line.as_object().cloned().unwrap_or_default();
            origin.take(&mut run);
            assert_eq!(run.keys().collect::<Vec<_>>(), ["a"]);
        }
        let wanted = "Measured on 2026-01-02 to 2026-01-03: a CPU, 2 cores, Linux 6.1; Tidegate at commit abc, rustc 1.";
        assert_eq!(origin.sentence(), wanted);
        assert_eq!(origin.json()["kernel"], json!(["6.1"]));
    }

    #[test]
    fn everything_is_known_here() {
        assert_eq!(now(Path::new(".")).iter().map(|(name, _)| *name).collect::<Vec<_>>(), NAMES);
    }
}
