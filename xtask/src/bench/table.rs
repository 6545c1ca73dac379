//! The tables of the benchmarks page, written between its marks.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::measures::{Figure, MEASURES, Measure};
use super::peers::{PEERS, Peer};
use super::results::Results;
use super::scale;

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
    let mut out = format!("\nMeasured on: {}.\n", results.machine());
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
    let heads: Vec<String> = measure.figures.iter().map(|figure| figure.title.to_owned()).collect();
    let floor = measure.figures.iter().find_map(|figure| figure.floor);
    let _ = writeln!(out, "| | {} |{}", heads.join(" | "), if floor.is_some() { " of the floor |" } else { "" });
    let _ = writeln!(out, "|---|{}{}", "--:|".repeat(heads.len()), if floor.is_some() { "--:|" } else { "" });
    if let Some(floor) = floor {
        let value = results.figure("floor", floor, "messages_per_cpu_second");
        let _ = writeln!(out, "| floor | {} | 1 |", value.map_or("-".to_owned(), shown));
    }
    let was_tried = |peer: &&Peer| results.runs(peer.name, measure.id) > 0 || results.failure(peer.name, measure.id).is_some();
    for peer in PEERS.iter().filter(was_tried) {
        let name = if peer.name == "tidegate" { "**Tidegate**" } else { peer.title };
        let cells: Vec<String> = measure.figures.iter().map(|figure| cell(results, peer.name, measure, figure)).collect();
        let ratio = floor.map(|floor| {
            let of = results.figure("floor", floor, "messages_per_cpu_second");
            let own = results.figure(peer.name, measure.id, measure.figures[0].name);
            of.zip(own).map_or(" - |".to_owned(), |(of, own)| format!(" {:.2} |", own / of))
        });
        let _ = writeln!(out, "| {name} | {} |{}", cells.join(" | "), ratio.unwrap_or_default());
    }
    for peer in PEERS.iter().filter(was_tried) {
        out += &reservation(results, peer, measure).map_or_else(String::new, |text| format!("\n{}: {text}.\n", peer.title));
    }
    out
}

/// What has to be known about a peer's figures: that there are none, or not from every run, or that messages were lost.
fn reservation(results: &Results, peer: &Peer, measure: &Measure) -> Option<String> {
    if let Some(reason) = results.failure(peer.name, measure.id) {
        return Some(format!("the last try failed ({reason})"));
    }
    let lost = |figure| results.figure(peer.name, measure.id, figure).filter(|count| *count > 0.0);
    let refused = lost("refused").map(|count| format!("{count} publishes were refused"));
    refused.or_else(|| lost("missing").map(|count| format!("{count} messages did not arrive")))
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
        keep("nats", r#"{"deliveries_per_cpu_second":5e4,"missing":3,"refused":0}"#);
        fs::create_dir_all(root.join("target/bench/sockudo")).unwrap();
        results::note(&root, "sockudo", "fanout-1000-one", Some("it was gone")).unwrap();
        let measure = MEASURES.iter().find(|measure| measure.id == "fanout-1000-one").unwrap();
        let page = table(&results::read(&root).unwrap(), measure);
        assert!(page.contains("| NATS over WebSocket | 50 k | - |\n| Sockudo (Rust) | - | - |\n"), "{page}");
        assert!(
            page.ends_with("\nNATS over WebSocket: 3 messages did not arrive.\n\nSockudo (Rust): the last try failed (it was gone).\n"),
            "{page}"
        );

        assert_eq!(results::kept(&root, "nats", "fanout-1000-one"), 1);
        ["nats", "sockudo"].iter().for_each(|peer| results::forget(&root, peer, "fanout-1000-one"));
        assert_eq!(results::kept(&root, "nats", "fanout-1000-one"), 0);
        assert!(results::read(&root).is_err(), "nothing is kept");
        fs::remove_dir_all(&root).unwrap();
    }
}
