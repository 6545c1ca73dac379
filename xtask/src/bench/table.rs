//! The tables of the benchmarks page, written between its marks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::measures::{Figure, Measure};
use super::peers::{PEERS, Peer};
use super::results::Results;
use super::scale;
use super::set::MEASURES;

const BEGIN: &str = "<!-- begin of the figures: cargo xtask bench report -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// Writes the figures into a page.
pub(super) fn fill(page: &Path, results: &Results) -> Result<(), String> {
    let text = fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else { return Err(format!("{} has lost its marks", page.display())) };
    fs::write(page, format!("{before}{BEGIN}{}{END}{after}", tables(results))).map_err(|e| format!("{}: {e}", page.display()))
}

fn tables(results: &Results) -> String {
    let mut out = format!("\n{}\n", results.origin().sentence());
    for peer in &PEERS {
        if let Some(version) = results.version(peer.name) {
            let _ = writeln!(out, "- {}: {version}", peer.title);
        }
    }
    let was_measured = |measure: &&Measure| PEERS.iter().any(|peer| peer.name != "floor" && results.runs(peer.name, measure.id) > 0);
    for measure in MEASURES.iter().filter(was_measured).filter(|measure| !measure.is("channels")) {
        out += &table(results, measure);
    }
    out += &scale::section(results);
    out += "\n";
    out
}

fn table(results: &Results, measure: &Measure) -> String {
    let mut out = format!("\n### {}\n\n", capitalised(measure.title));
    let _ = writeln!(out, "![{}](../benchmarks/{}.svg)\n", measure.title, measure.id);
    let (first, floor) = (&measure.figures[0], measure.floor());
    let mut heads: Vec<String> = measure.figures.iter().map(|figure| figure.title.to_owned()).collect();
    heads.extend(floor.map(|_| "of the floor".to_owned()));
    let is_spread = PEERS.iter().any(|peer| results.spread(peer.name, measure.id, first.name).is_some());
    if is_spread {
        let of = if measure.figures.len() > 1 { format!(" {}", first.title) } else { String::new() };
        heads.push(format!("lowest to highest{of}"));
    }
    let _ = writeln!(out, "| | {} |\n|---|{}", heads.join(" | "), "--:|".repeat(heads.len()));
    let spread = |peer, measure, figure| {
        let words = || match results.spread(peer, measure, figure) {
            Some((lowest, highest)) => format!("{} to {}", shown(lowest), shown(highest)),
            None if results.runs(peer, measure) == 1 => "one run".to_owned(),
            None => "-".to_owned(),
        };
        is_spread.then(words)
    };
    let row = |name: &str, cells: Vec<String>, spread: Option<String>| {
        let cells: Vec<String> = cells.into_iter().chain(spread).collect();
        format!("| {name} | {} |\n", cells.join(" | "))
    };
    if let Some(floor) = floor {
        const FIGURE: &str = "messages_per_cpu_second";
        let value = results.figure("floor", floor, FIGURE).map_or("-".to_owned(), shown);
        out += &row("floor", vec![value, "1".to_owned()], spread("floor", floor, FIGURE));
    }
    let was_tried = |peer: &&Peer| results.runs(peer.name, measure.id) > 0 || !results.failures(peer.name, measure.id).is_empty();
    for peer in PEERS.iter().filter(was_tried) {
        let name = if peer.name == "tidegate" { "**Tidegate**" } else { peer.title };
        let mut cells: Vec<String> = measure.figures.iter().map(|figure| cell(results, peer.name, measure, figure)).collect();
        cells.extend(floor.map(|floor| {
            let of = results.figure("floor", floor, "messages_per_cpu_second");
            let own = results.figure(peer.name, measure.id, first.name);
            of.zip(own).map_or("-".to_owned(), |(of, own)| format!("{:.2}", own / of))
        }));
        out += &row(name, cells, spread(peer.name, measure.id, first.name));
    }
    if !measure.remark.is_empty() {
        let _ = writeln!(out, "\n{}", measure.remark);
    }
    out += &left_out(measure);
    for peer in PEERS.iter().filter(was_tried) {
        out += &reservation(results, peer, measure).map_or_else(String::new, |text| format!("\n{}: {text}.\n", peer.title));
    }
    out
}

/// Who is not in a table, and why.
pub(super) fn left_out(measure: &Measure) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for peer in &PEERS {
        if let Some(reason) = measure.reason_against(peer) {
            by_reason.entry(reason).or_default().push(peer.title);
        }
    }
    by_reason.iter().map(|(reason, peers)| format!("\nNot measured: {}: {reason}.\n", peers.join(", "))).collect()
}

/// What has to be known about a peer's figures: that there are none, or not from every run, or that messages were lost in one.
fn reservation(results: &Results, peer: &Peer, measure: &Measure) -> Option<String> {
    const LOST: [(&str, &str); 5] = [
        ("refused", "publishes were refused"),
        ("missing", "messages did not arrive"),
        ("ended", "connections ended"),
        ("otherwise_ended", "connections ended before the client was let in"),
        ("others_lost", "of those who stay were lost"),
    ];
    let (failures, runs) = (results.failures(peer.name, measure.id), results.runs(peer.name, measure.id));
    let failed = failures.last().map(|reason| {
        let (failed, tries) = (failures.len() as u64, failures.len() as u64 + runs);
        format!("{failed} of {tries} runs failed ({reason})")
    });
    let lost = LOST.iter().filter_map(|(figure, words)| {
        let count = results.figure(peer.name, measure.id, figure).filter(|count| *count > 0.0)?;
        Some(format!("in one run {count} {words}"))
    });
    let all: Vec<String> = failed.into_iter().chain(lost).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn cell(results: &Results, peer: &str, measure: &Measure, figure: &Figure) -> String {
    results.figure(peer, measure.id, figure.name).map_or("-".to_owned(), shown)
}

/// Three digits are all that a shared machine can tell.
pub(super) fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{:.2} M", value / 1e6),
        large if large >= 1e4 => format!("{:.0} k", value / 1e3),
        large if large >= 1e3 => format!("{:.1} k", value / 1e3),
        large if large >= 100.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::results;
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let values = [1_654_321.0, 174_321.0, 1_234.0, 512.3, 16.04, 2.071];
        assert_eq!(values.map(shown), ["1.65 M", "174 k", "1.2 k", "512", "16.0", "2.07"]);
    }

    #[test]
    fn who_failed_has_a_dash_and_the_reason_and_who_lost_messages_is_told_of() {
        let root = std::env::temp_dir().join(format!("xtask-table-{}", std::process::id()));
        let keep = |peer, line: &str| {
            let file = results::file(&root, peer, "fanout-1000-one");
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, line).unwrap();
        };
        let one = r#"{"deliveries_per_cpu_second":5e4,"missing":3,"refused":0}"#;
        keep("nats", one);
        keep("uwebsockets", &[one, &one.replace("5e4", "7e4")].join("\n"));
        fs::create_dir_all(root.join("target/bench/sockudo")).unwrap();
        for peer in ["sockudo", "uwebsockets"] {
            results::note_failure(&root, peer, "fanout-1000-one", "it was gone").unwrap();
        }
        let measure = MEASURES.iter().find(|measure| measure.id == "fanout-1000-one").unwrap();
        let page = table(&results::read(&root).unwrap(), measure);
        for row in [
            "| uWebSockets (C++) | 60 k | - | 50 k to 70 k |\n",
            "| NATS over WebSocket | 50 k | - | one run |\n| Sockudo (Rust) | - | - | - |\n",
            "\nuWebSockets (C++): 1 of 3 runs failed (it was gone); in one run 3 messages did not arrive.\n",
            "\nNATS over WebSocket: in one run 3 messages did not arrive.\n\nSockudo (Rust): 1 of 1 runs failed (it was gone).\n",
        ] {
            assert!(page.contains(row), "{page}");
        }

        assert_eq!(results::kept(&root, "nats", "fanout-1000-one"), 1);
        ["nats", "sockudo", "uwebsockets"].iter().for_each(|peer| results::forget(&root, peer, "fanout-1000-one"));
        assert_eq!(results::kept(&root, "nats", "fanout-1000-one"), 0);
        assert!(results::read(&root).is_err(), "nothing is kept");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_table_of_tidegate_alone_says_why() {
        let find = |id| MEASURES.iter().find(|measure| measure.id == id).unwrap();
        let why = left_out(find("replay"));
        assert!(why.starts_with("\nNot measured: uWebSockets (C++), ws (Node), ") && why.lines().count() == 2, "{why}");
        assert_eq!(left_out(find("idle")), "");
    }
}
