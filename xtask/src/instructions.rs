//! `cargo xtask instructions`: each hot path's instructions as callgrind counts them, against the committed table. A clock would
//! say how busy the machine is; this says how much work the code makes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const TABLE: &str = "bench/instructions.txt";
const BINARY: &str = "target/release/bench-instructions";

/// The table's machine: another instruction set has other counts.
const ARCHITECTURE: &str = "x86_64";

/// More than this many hundredths above the table's line fail. Below it is what another compiler flag or inlining makes.
const WORSE: u64 = 10;
/// More than this many hundredths below it, the line is to be lowered, so that the gain can't be lost unseen.
const BETTER: u64 = 20;

/// How often a path is run, and run again for twice as often: the difference has no start in it.
const TIMES: u64 = 256;
/// The same where a crowd has to be made first, which takes not exactly the same each time: its hashes are seeded.
const TIMES_OF_CROWDED: u64 = 2048;
/// The same where once is a thousand messages.
const TIMES_OF_LARGE: u64 = 16;

const HEADING: &str = "# Instructions of each hot path, once through it, as `cargo xtask instructions` counts them (x86-64, release build).
# More than 10 % above a line fails. `cargo xtask instructions --accept` writes the table anew: commit it with the reason.
";

type Counts = BTreeMap<String, u64>;

/// Counts, and compares or accepts.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let accept = match arguments {
        [] => false,
        [flag] if flag == "--accept" => true,
        _ => return Err("usage: cargo xtask instructions [--accept]".to_owned()),
    };
    if std::env::consts::ARCH != ARCHITECTURE {
        return Err(format!("the table is for {ARCHITECTURE}"));
    }
    let root = super::tidy::root()?;
    build(&root)?;
    let counted = count_all(&root)?;
    let table = root.join(TABLE);
    if accept {
        fs::write(&table, format!("{HEADING}{}", lines(&counted))).map_err(|e| format!("{TABLE}: {e}"))?;
        print!("{}", lines(&counted));
        return Ok(());
    }
    let expected = parse(&fs::read_to_string(&table).map_err(|e| format!("{TABLE}: {e}"))?)?;
    let (report, complaints) = compare(&expected, &counted);
    print!("{report}");
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(format!("{}\nif that is wanted: cargo xtask instructions --accept", complaints.join("\n")))
    }
}

fn build(root: &Path) -> Result<(), String> {
    let arguments = ["build", "--quiet", "--release", "--locked", "--package", "bench-instructions"];
    let status = Command::new("cargo").current_dir(root).args(arguments).status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {}: {status}", arguments.join(" "))) }
}

fn count_all(root: &Path) -> Result<Counts, String> {
    let listing = Command::new(root.join(BINARY)).arg("--list").output().map_err(|e| format!("{BINARY}: {e}"))?;
    let listing = String::from_utf8(listing.stdout).map_err(|e| format!("{BINARY}: {e}"))?;
    listing.lines().map(|name| Ok((name.to_owned(), count(root, name)?))).collect()
}

/// Instructions of one time through a path.
fn count(root: &Path, name: &str) -> Result<u64, String> {
    let times = match name {
        large if large.ends_with("_1000") => TIMES_OF_LARGE,
        crowded if crowded.starts_with("subscribe_") => TIMES_OF_CROWDED,
        _ => TIMES,
    };
    let (once, twice) = (total(root, name, times)?, total(root, name, 2 * times)?);
    Ok(twice.saturating_sub(once) / times)
}

/// Instructions of a whole run.
fn total(root: &Path, name: &str, times: u64) -> Result<u64, String> {
    let mut callgrind = Command::new("valgrind");
    callgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(root.join(BINARY)).args([name, &times.to_string()]);
    let output = callgrind.stdout(Stdio::null()).output().map_err(|e| format!("valgrind: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name}: {}\n{said}", output.status));
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).and_then(|(_, number)| number.trim().parse().ok());
    collected.ok_or_else(|| format!("{name}: callgrind names no count\n{said}"))
}

fn lines(counts: &Counts) -> String {
    counts.iter().fold(String::new(), |mut text, (name, count)| {
        let _ = writeln!(text, "{name:<20} {count:>9}");
        text
    })
}

fn parse(table: &str) -> Result<Counts, String> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    lines.map(|line| read(line).ok_or_else(|| format!("{TABLE}: not `NAME COUNT`: {line}"))).collect()
}

/// A line for each path, and what is wrong.
fn compare(expected: &Counts, counted: &Counts) -> (String, Vec<String>) {
    let (mut report, mut complaints) = (String::new(), Vec::new());
    for (name, &count) in counted {
        let Some(&line) = expected.get(name) else {
            complaints.push(format!("{name}: {count} instructions, and no line in {TABLE}"));
            continue;
        };
        let percent = count as f64 * 100.0 / line.max(1) as f64 - 100.0;
        let _ = writeln!(report, "{name:<20} {count:>9} {percent:>+7.1} %");
        if count * 100 > line * (100 + WORSE) {
            complaints.push(format!("{name}: {count} instructions, {line} before: {percent:+.1} %"));
        } else if count * 100 < line * (100 - BETTER) {
            let _ = writeln!(report, "{name}: much better than its line of {line}; lower it with --accept");
        }
    }
    let gone = expected.keys().filter(|name| !counted.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: has a line in {TABLE} and is not counted")));
    (report, complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_table_reads_as_written() {
        let table = counts(&[("frame_parse", 250), ("fanout_1000", 123_456)]);
        assert_eq!(parse(&format!("{HEADING}{}", lines(&table))), Ok(table));
        assert!(parse("frame_parse many\n").is_err());
    }

    #[test]
    fn a_tenth_more_is_too_much() {
        let table = counts(&[("a", 1000)]);
        assert_eq!(compare(&table, &counts(&[("a", 1100)])).1, [""; 0]);
        assert_eq!(compare(&table, &counts(&[("a", 1101)])).1.len(), 1);
    }

    #[test]
    fn much_less_asks_for_a_lower_line_and_does_not_fail() {
        let (report, complaints) = compare(&counts(&[("a", 1000)]), &counts(&[("a", 799)]));
        assert!(report.contains("lower it"), "{report}");
        assert_eq!(complaints, [""; 0]);
    }

    #[test]
    fn paths_and_lines_belong_together() {
        assert_eq!(compare(&counts(&[("a", 1)]), &counts(&[("b", 1)])).1.len(), 2);
    }
}
