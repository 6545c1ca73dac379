//! What was measured: one file of JSON lines for each peer and measure, and the median of their figures.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::origin::Origin;
use super::peers::PEERS;
use super::set::MEASURES;

/// Where the figures of a measure are kept.
pub(super) fn file(root: &Path, peer: &str, measure: &str) -> PathBuf {
    root.join("target/bench").join(peer).join(format!("{measure}.jsonl"))
}

/// Why tries failed, a line for each.
fn failures_path(root: &Path, peer: &str, measure: &str) -> PathBuf {
    file(root, peer, measure).with_extension("failed")
}

/// How many runs of a measure are kept.
pub(super) fn kept(root: &Path, peer: &str, measure: &str) -> usize {
    fs::read_to_string(file(root, peer, measure)).map_or(0, |text| text.lines().count())
}

/// Throws away what is kept of a measure.
pub(super) fn forget(root: &Path, peer: &str, measure: &str) {
    drop(fs::remove_file(file(root, peer, measure)));
    drop(fs::remove_file(failures_path(root, peer, measure)));
}

/// Keeps why a try failed. It is kept as long as the figures of those are that did not.
pub(super) fn note_failure(root: &Path, peer: &str, measure: &str, reason: &str) -> Result<(), String> {
    let path = failures_path(root, peer, measure);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    writeln!(file, "{}", reason.replace('\n', " ")).map_err(|e| format!("{}: {e}", path.display()))
}

/// Figures of which the worst run counts: a median would hide what went wrong in one.
const WORST: [&str; 5] = ["missing", "refused", "ended", "otherwise_ended", "others_lost"];
/// Figures that are quotients of two others, and are those of the medians.
const QUOTIENTS: [(&str, &str, &str); 3] = [
    ("p99_ratio", "p99_beside_ms", "p99_alone_ms"),
    ("ratio", "p99_after_ms", "p99_before_ms"),
    ("ratio", "p99_stalled_ms", "p99_before_ms"),
];

/// The runs of a measure with a peer.
struct Runs {
    /// The median of each figure, and their number.
    medians: Map<String, Value>,
    /// The lowest and the highest of each number.
    spread: BTreeMap<String, (f64, f64)>,
}

/// The medians of everything that was measured.
pub(super) struct Results {
    /// By peer and measure.
    figures: BTreeMap<(&'static str, &'static str), Runs>,
    /// Why tries failed, by peer and measure.
    failures: BTreeMap<(&'static str, &'static str), Vec<String>>,
    /// What each peer calls itself.
    versions: BTreeMap<&'static str, String>,
    origin: Origin,
}

/// Reads them.
///
/// # Errors
/// Nothing was measured yet, or a file is not what `bench` writes.
pub(super) fn read(root: &Path) -> Result<Results, String> {
    let (mut figures, mut failures, mut origin) = (BTreeMap::new(), BTreeMap::new(), Origin::default());
    for peer in &PEERS {
        for measure in &MEASURES {
            if let Ok(reasons) = fs::read_to_string(failures_path(root, peer.name, measure.id)) {
                failures.insert((peer.name, measure.id), reasons.lines().map(str::to_owned).collect());
            }
            let Ok(text) = fs::read_to_string(file(root, peer.name, measure.id)) else { continue };
            let runs: Result<Vec<Map<String, Value>>, _> = text.lines().map(serde_json::from_str).collect();
            let mut runs = runs.map_err(|e| format!("{}, {}: {e}", peer.name, measure.id))?;
            runs.iter_mut().for_each(|run| origin.take(run));
            figures.insert((peer.name, measure.id), summary(&runs));
        }
    }
    if figures.is_empty() {
        return Err("nothing was measured yet: cargo xtask bench".to_owned());
    }
    let version =
        |name: &str| fs::read_to_string(root.join("target/peers").join(name).join("version")).ok().map(|text| text.trim().to_owned());
    let versions = PEERS.iter().filter_map(|peer| Some((peer.name, version(peer.name)?))).collect();
    Ok(Results { figures, failures, versions, origin })
}

impl Results {
    /// The median of a figure.
    pub(super) fn figure(&self, peer: &str, measure: &str, figure: &str) -> Option<f64> {
        self.of(peer, measure)?.medians.get(figure)?.as_f64()
    }

    /// The lowest and the highest of a figure, if it was measured more than once.
    pub(super) fn spread(&self, peer: &str, measure: &str, figure: &str) -> Option<(f64, f64)> {
        self.of(peer, measure)?.spread.get(figure).copied().filter(|_| self.runs(peer, measure) > 1)
    }

    fn of(&self, peer: &str, measure: &str) -> Option<&Runs> {
        self.figures.iter().find(|((of, id), _)| *of == peer && *id == measure).map(|(_, runs)| runs)
    }

    /// How often it was measured.
    pub(super) fn runs(&self, peer: &str, measure: &str) -> u64 {
        self.figure(peer, measure, "runs").map_or(0, |runs| runs as u64)
    }

    /// Why tries failed, those that did.
    pub(super) fn failures(&self, peer: &'static str, measure: &'static str) -> &[String] {
        self.failures.get(&(peer, measure)).map_or(&[], Vec::as_slice)
    }

    /// What a peer calls itself.
    pub(super) fn version(&self, peer: &str) -> Option<&str> {
        self.versions.get(peer).map(String::as_str)
    }

    /// When, where and with what it was measured.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// All as JSON.
    pub(super) fn json(&self) -> String {
        let one = |((peer, measure), runs): (&(&'static str, &'static str), &Runs)| {
            let spread: BTreeMap<&String, [f64; 2]> = runs.spread.iter().map(|(name, (low, high))| (name, [*low, *high])).collect();
            json!({"peer": peer, "measure": measure, "figures": runs.medians, "lowest_and_highest": spread,
                "failures": self.failures(peer, measure)})
        };
        let figures: Vec<Value> = self.figures.iter().map(one).collect();
        let all = json!({"measured": self.origin.json(), "versions": self.versions, "medians": figures});
        format!("{all:#}\n")
    }
}

/// The median of each number, or the worst, and its spread; texts are those of the last run.
fn summary(runs: &[Map<String, Value>]) -> Runs {
    let (mut medians, mut spread) = (Map::new(), BTreeMap::new());
    for (name, last) in runs.last().into_iter().flatten() {
        let mut numbers: Vec<f64> = runs.iter().filter_map(|run| run.get(name)?.as_f64()).collect();
        numbers.sort_by(f64::total_cmp);
        let (Some(lowest), Some(highest)) = (numbers.first(), numbers.last()) else {
            medians.insert(name.clone(), last.clone());
            continue;
        };
        spread.insert(name.clone(), (*lowest, *highest));
        medians.insert(name.clone(), json!(if WORST.contains(&name.as_str()) { *highest } else { median(&numbers) }));
    }
    for (name, upper, lower) in QUOTIENTS {
        let number = |name: &str| medians.get(name).and_then(Value::as_f64);
        if let (Some(_), Some(upper), Some(lower)) = (number(name), number(upper), number(lower)) {
            medians.insert(name.to_owned(), json!((upper / lower * 1000.0).round() / 1000.0));
        }
    }
    medians.insert("runs".to_owned(), json!(runs.len()));
    Runs { medians, spread }
}

/// The middle of sorted numbers, of which there is at least one: of an even number, the mean of the two.
fn median(sorted: &[f64]) -> f64 {
    let (upper, lower) = (sorted.len() / 2, (sorted.len() - 1) / 2);
    f64::midpoint(sorted[lower], sorted[upper])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(figures: &[Value]) -> Runs {
        summary(&figures.iter().map(|run| run.as_object().cloned().unwrap_or_default()).collect::<Vec<_>>())
    }

    #[test]
    fn the_median_of_each_number_counts_and_its_spread_is_kept() {
        let three = runs(&[3.0, 1.0, 2.5].map(|n| json!({"a": n, "ends": format!("{n}"), "none": null})));
        assert_eq!((three.medians["a"].as_f64(), three.medians["runs"].as_u64()), (Some(2.5), Some(3)));
        assert_eq!((three.medians["ends"].as_str(), three.spread["a"]), (Some("2.5"), (1.0, 3.0)));
        assert!(three.medians["none"].is_null() && !three.spread.contains_key("none"));
        let four = runs(&[3.0, 1.0, 2.0, 9.0].map(|n| json!({"a": n})));
        assert_eq!(four.medians["a"].as_f64(), Some(2.5), "the mean of the middle two");
    }

    #[test]
    fn what_went_wrong_once_is_not_hidden_by_a_median() {
        assert_eq!(runs(&[0, 7, 0].map(|n| json!({"missing": n}))).medians["missing"].as_f64(), Some(7.0));
    }

    #[test]
    fn a_quotient_is_that_of_the_medians_beside_it() {
        let odd = [(3.0, 1.0), (2.0, 4.0), (4.0, 2.0)];
        let found = runs(&odd.map(|(before, after)| json!({"p99_before_ms": before, "p99_after_ms": after, "ratio": after / before})));
        assert_eq!(found.medians["ratio"].as_f64(), Some(0.667));
    }
}
