//! What was measured: one file of JSON lines for each peer and measure, and the median of their figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::measures::MEASURES;
use super::peers::PEERS;

/// Where the figures of a measure are kept.
pub(super) fn file(root: &Path, peer: &str, measure: &str) -> PathBuf {
    root.join("target/bench").join(peer).join(format!("{measure}.jsonl"))
}

/// Why the last try failed, if it did.
fn failure(root: &Path, peer: &str, measure: &str) -> PathBuf {
    file(root, peer, measure).with_extension("failed")
}

/// How many runs of a measure are kept.
pub(super) fn kept(root: &Path, peer: &str, measure: &str) -> usize {
    fs::read_to_string(file(root, peer, measure)).map_or(0, |text| text.lines().count())
}

/// Throws away what is kept of a measure.
pub(super) fn forget(root: &Path, peer: &str, measure: &str) {
    drop(fs::remove_file(file(root, peer, measure)));
    drop(fs::remove_file(failure(root, peer, measure)));
}

/// Keeps why the last try failed, or that it did not.
pub(super) fn note(root: &Path, peer: &str, measure: &str, error: Option<&str>) -> Result<(), String> {
    let path = failure(root, peer, measure);
    match error {
        Some(error) => fs::write(&path, error).map_err(|e| format!("{}: {e}", path.display())),
        None => {
            drop(fs::remove_file(path));
            Ok(())
        }
    }
}

/// The medians of everything that was measured.
pub(super) struct Results {
    /// By peer and measure.
    figures: BTreeMap<(&'static str, &'static str), Map<String, Value>>,
    /// Why the last try failed, by peer and measure.
    failures: BTreeMap<(&'static str, &'static str), String>,
    /// What each peer calls itself.
    versions: BTreeMap<&'static str, String>,
    machine: String,
}

/// Reads them.
///
/// # Errors
/// Nothing was measured yet, or a file is not what `bench` writes.
pub(super) fn read(root: &Path) -> Result<Results, String> {
    let (mut figures, mut failures) = (BTreeMap::new(), BTreeMap::new());
    for peer in &PEERS {
        for measure in &MEASURES {
            if let Ok(reason) = fs::read_to_string(failure(root, peer.name, measure.id)) {
                failures.insert((peer.name, measure.id), reason);
            }
            let Ok(text) = fs::read_to_string(file(root, peer.name, measure.id)) else { continue };
            let runs: Result<Vec<Map<String, Value>>, _> = text.lines().map(serde_json::from_str).collect();
            let runs = runs.map_err(|e| format!("{}, {}: {e}", peer.name, measure.id))?;
            figures.insert((peer.name, measure.id), median(&runs));
        }
    }
    if figures.is_empty() {
        return Err("nothing was measured yet: cargo xtask bench".to_owned());
    }
    let version =
        |name: &str| fs::read_to_string(root.join("target/peers").join(name).join("version")).ok().map(|text| text.trim().to_owned());
    let versions = PEERS.iter().filter_map(|peer| Some((peer.name, version(peer.name)?))).collect();
    Ok(Results { figures, failures, versions, machine: machine() })
}

impl Results {
    /// The median of a figure.
    pub(super) fn figure(&self, peer: &str, measure: &str, figure: &str) -> Option<f64> {
        self.figures.iter().find(|((of, id), _)| *of == peer && *id == measure)?.1.get(figure)?.as_f64()
    }

    /// How often it was measured.
    pub(super) fn runs(&self, peer: &str, measure: &str) -> u64 {
        self.figure(peer, measure, "runs").map_or(0, |runs| runs as u64)
    }

    /// Why the last try failed, if it did.
    pub(super) fn failure(&self, peer: &'static str, measure: &'static str) -> Option<&str> {
        self.failures.get(&(peer, measure)).map(String::as_str)
    }

    /// What a peer calls itself.
    pub(super) fn version(&self, peer: &str) -> Option<&str> {
        self.versions.get(peer).map(String::as_str)
    }

    /// The machine in a line.
    pub(super) fn machine(&self) -> &str {
        &self.machine
    }

    /// All as JSON.
    pub(super) fn json(&self) -> String {
        let figures: Vec<Value> =
            self.figures.iter().map(|((peer, measure), figures)| json!({"peer": peer, "measure": measure, "figures": figures})).collect();
        let all = json!({"machine": self.machine, "versions": self.versions, "medians": figures});
        format!("{all:#}\n")
    }
}

/// The median of each number; texts are those of the last run.
fn median(runs: &[Map<String, Value>]) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, last) in runs.last().into_iter().flatten() {
        let mut numbers: Vec<f64> = runs.iter().filter_map(|run| run.get(name)?.as_f64()).collect();
        numbers.sort_by(f64::total_cmp);
        let value = numbers.get(numbers.len() / 2).map_or_else(|| last.clone(), |number| json!(number));
        all.insert(name.clone(), value);
    }
    all.insert("runs".to_owned(), json!(runs.len()));
    all
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("unknown CPU", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, Linux {}", kernel.trim().split('-').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_each_number_counts() {
        let runs: Vec<Map<String, Value>> =
            [3.0, 1.0, 2.0].iter().map(|n| json!({"a": n, "ends": format!("{n}")}).as_object().cloned().unwrap_or_default()).collect();
        let median = median(&runs);
        assert_eq!((median["a"].as_f64(), median["runs"].as_u64(), median["ends"].as_str()), (Some(2.0), Some(3), Some("2")));
    }
}
