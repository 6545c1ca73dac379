//! How the cost of a delivery grows: with the subscribers of a channel, held against the floor, and with the number of channels.

use std::fmt::Write as _;

use super::plot::{Plot, STYLE};
use super::results::Results;
use super::set::MEASURES;
use super::table::{left_out, shown};

/// Subscribers, with the measure of the fan-out and that of the floor.
const SUBSCRIBERS: [(&str, &str, &str); 4] = [
    ("1,000", "fanout-1000-one", "floor-1000-round"),
    ("5,000", "fanout-5000-one", "floor-5000-round"),
    ("10,000", "fanout-10000-one", "floor-10000-round"),
    ("19,000", "fanout-19000-one", "floor-19000-round"),
];

/// Channels, with the measure.
const CHANNELS: [(&str, &str); 4] = [("1", "channels-1"), ("10", "channels-10"), ("1,000", "channels-1000"), ("10,000", "channels-10000")];

/// Who is drawn: the name, and the colour's class.
const DRAWN: [(&str, &str, &str); 2] = [("tidegate", "Tidegate", "own"), ("uwebsockets", "uWebSockets (C++)", "bar")];

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 220.0;

/// A curve: what it is of, and its values from left to right.
type Curve = (&'static str, &'static str, Vec<f64>);

/// Cost of a delivery in writes of the floor to as many sockets.
fn of_the_floor(results: &Results, peer: &str) -> Option<Vec<f64>> {
    let point = |(_, fanout, floor): &(&str, &str, &str)| {
        let own = results.figure(peer, fanout, "deliveries_per_cpu_second")?;
        Some(results.figure("floor", floor, "messages_per_cpu_second")? / own)
    };
    SUBSCRIBERS.iter().map(point).collect()
}

fn by_channels(results: &Results) -> Option<Vec<f64>> {
    CHANNELS.iter().map(|(_, measure)| results.figure("tidegate", measure, "us_per_delivery")).collect()
}

/// The section of the page; empty as long as nothing of it was measured.
pub(super) fn section(results: &Results) -> String {
    let mut out = String::new();
    let curves = curves(results);
    if !curves.is_empty() {
        out += "\n### Cost of a delivery by the number of subscribers\n\n![in writes of the floor](../benchmarks/scale.svg)\n\n";
        let heads: Vec<&str> = SUBSCRIBERS.iter().map(|(number, ..)| *number).collect();
        rows(&mut out, "writes of the floor to as many sockets", &heads, &curves);
    }
    if let Some(values) = by_channels(results) {
        out += "\n### Cost of a delivery by the number of channels, 10,000 subscribers in all\n\n![in microseconds](../benchmarks/channels.svg)\n\n";
        let heads: Vec<&str> = CHANNELS.iter().map(|(number, _)| *number).collect();
        rows(&mut out, "us of CPU, without what publishing costs", &heads, &[("Tidegate", "own", values)]);
        out += &MEASURES.iter().find(|measure| measure.is("channels")).map_or_else(String::new, left_out);
    }
    out
}

fn rows(out: &mut String, what: &str, heads: &[&str], curves: &[Curve]) {
    let _ = writeln!(out, "| {what} | {} | most / least |\n|---|{}--:|", heads.join(" | "), "--:|".repeat(heads.len()));
    for (title, _, values) in curves {
        let (least, most) = values.iter().fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(*value), most.max(*value)));
        let cells: Vec<String> = values.iter().map(|value| shown(*value)).collect();
        let _ = writeln!(out, "| {title} | {} | {:.2} |", cells.join(" | "), most / least);
    }
}

fn curves(results: &Results) -> Vec<Curve> {
    DRAWN.iter().filter_map(|(peer, title, class)| Some((*title, *class, of_the_floor(results, peer)?))).collect()
}

/// The plots of what was measured.
pub(super) fn plots(results: &Results) -> Vec<Plot> {
    let mut plots = Vec::new();
    let curves = curves(results);
    if !curves.is_empty() {
        let heads = SUBSCRIBERS.map(|(number, ..)| number);
        let title = "Cost of a delivery by subscribers of the channel";
        plots.push(Plot {
            name: "scale.svg".to_owned(),
            svg: plot(title, "writes of the floor to as many sockets; less is better", &heads, &curves),
        });
    }
    if let Some(values) = by_channels(results) {
        let heads = CHANNELS.map(|(number, _)| number);
        let title = "Cost of a delivery by channels, 10,000 subscribers in all";
        plots.push(Plot {
            name: "channels.svg".to_owned(),
            svg: plot(title, "microseconds of CPU; less is better", &heads, &[("Tidegate", "own", values)]),
        });
    }
    plots
}

fn plot(title: &str, unit: &str, heads: &[&str], curves: &[Curve]) -> String {
    let most = curves.iter().flat_map(|(_, _, values)| values).fold(0.0_f64, |most, value| most.max(*value));
    let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / (heads.len() - 1).max(1) as f64;
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / most.max(f64::MIN_POSITIVE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">{STYLE}\n<text class=\"title\" x=\"0\" y=\"18\">{title}</text>\n<text class=\"unit\" x=\"0\" y=\"38\">{unit}</text>\n<rect class=\"bar\" x=\"{LEFT}\" y=\"{BOTTOM}\" width=\"{}\" height=\"1\"/>\n",
        WIDTH - LEFT - RIGHT
    );
    for (at, head) in heads.iter().enumerate() {
        let _ = writeln!(out, "<text class=\"unit\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{head}</text>", x(at), BOTTOM + 20.0);
    }
    for (title, class, values) in curves {
        // Curves lie close together: the highest has its words above, the others below.
        let is_highest = |at: usize| curves.iter().all(|(.., others)| others[at] <= values[at]);
        for (at, value) in values.iter().enumerate() {
            let (x, y) = (x(at), y(*value));
            let words = if is_highest(at) { y - 10.0 } else { y + 20.0 };
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/><text x=\"{x:.1}\" y=\"{words:.1}\" text-anchor=\"middle\">{}</text>",
                shown(*value)
            );
        }
        if let Some(last) = values.len().checked_sub(1) {
            let words = y(values[last]) + if is_highest(last) { -4.0 } else { 13.0 };
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{words:.1}\">{title}</text>", x(last) + 24.0);
        }
    }
    out += "</svg>\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_how_far_from_flat_they_are() {
        let mut out = String::new();
        rows(&mut out, "cost", &["1", "10"], &[("a", "own", vec![0.5, 0.6])]);
        assert_eq!(out, "| cost | 1 | 10 | most / least |\n|---|--:|--:|--:|\n| a | 0.50 | 0.60 | 1.20 |\n");
    }

    #[test]
    fn the_highest_point_is_at_the_top_and_every_point_is_named() {
        let svg = plot("t", "u", &["1", "10"], &[("a", "own", vec![1.0, 2.0])]);
        assert!(svg.contains(&format!("cy=\"{TOP:.1}\"")) && svg.contains(">1.00<") && svg.contains(">2.00<"), "{svg}");
    }

    #[test]
    fn words_of_curves_that_meet_stand_above_and_below() {
        let svg = plot("t", "u", &["1"], &[("a", "own", vec![2.0]), ("b", "bar", vec![1.99])]);
        let place = |word: &str| {
            let before = svg.split(word).next().unwrap();
            before.rsplit("y=\"").next().unwrap().split('"').next().unwrap().parse::<f64>().unwrap()
        };
        assert!(place(">b<") - place(">a<") > 14.0 && place(">1.99<") - place(">2.00<") > 14.0, "{svg}");
    }
}
