//! Plots: one SVG of horizontal bars for each measure, readable on light and on dark pages.

use std::fmt::Write as _;

use super::measures::{Better, Measure};
use super::peers::PEERS;
use super::results::Results;
use super::set::MEASURES;
use super::table::shown;

/// A finished plot.
pub(super) struct Plot {
    pub(super) name: String,
    pub(super) svg: String,
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 170.0;
/// Room for a number behind the longest bar.
const RIGHT: f64 = 90.0;
const ROW: f64 = 30.0;
const TOP: f64 = 54.0;

pub(super) const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}.unit,.floor-name{fill:#57606a;font-size:12px}\
    .bar{fill:#9aa6b2}.own{fill:#0a7f8c}.floor{stroke:#bc4c00;stroke-width:1.5;stroke-dasharray:4 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.unit,.floor-name{fill:#9198a1}.bar{fill:#6e7681}.own{fill:#2bb5c4}.floor{stroke:#f0883e}}\
    </style>";

/// A plot for each measure that somebody was measured with.
pub(super) fn all(results: &Results) -> Vec<Plot> {
    let plotted = MEASURES.iter().filter(|measure| !measure.is("floor") && !measure.is("channels"));
    plotted.filter_map(|measure| Some(Plot { name: format!("{}.svg", measure.id), svg: plot(results, measure)? })).collect()
}

fn plot(results: &Results, measure: &Measure) -> Option<String> {
    let figure = &measure.figures[0];
    let value = |peer: &str| results.figure(peer, measure.id, figure.name);
    let bars: Vec<(&str, bool, f64)> =
        PEERS.iter().filter_map(|peer| Some((peer.title, peer.name == "tidegate", value(peer.name)?))).collect();
    let floor = figure.floor.and_then(|floor| results.figure("floor", floor, "messages_per_cpu_second"));
    let most = bars.iter().map(|bar| bar.2).chain(floor).fold(0.0, f64::max);
    if bars.is_empty() || most <= 0.0 {
        return None;
    }
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let height = TOP + ROW * bars.len() as f64 + 24.0;
    let better = match figure.better {
        Better::More => "; more is better",
        Better::Less => "; less is better",
        Better::Neither => "",
    };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">{STYLE}\n<text class=\"title\" x=\"0\" y=\"18\">{}</text>\n<text class=\"unit\" x=\"0\" y=\"38\">{}{better}</text>\n",
        measure.title, measure.title, figure.title
    );
    for (row, (title, own, value)) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (width, middle) = ((value * scale).max(1.0), y + 15.0);
        let class = if *own { "own" } else { "bar" };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{title}</text><rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"2\"/><text x=\"{:.1}\" y=\"{middle}\">{}</text>",
            LEFT - 10.0,
            LEFT + width + 8.0,
            shown(*value)
        );
    }
    if let Some(floor) = floor {
        let (x, bottom) = (LEFT + floor * scale, TOP + ROW * bars.len() as f64);
        let _ = writeln!(
            out,
            "<line class=\"floor\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\"/><text class=\"floor-name\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"end\">floor: {}</text>",
            TOP - 6.0,
            bottom + 14.0,
            shown(floor)
        );
    }
    out += "</svg>\n";
    Some(out)
}
