//! Words that mean unfinished work, and file names that say nothing.

use super::SourceFile;
use super::scan::code_only;

/// Spelled in halves, so that this file does not find itself.
const UNFINISHED: [(&str, &str); 6] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK"), ("todo", "!("), ("unimplemented", "!(")];
const EMPTY_NAMES: [&str; 8] = ["manager", "helper", "helpers", "util", "utils", "common", "misc", "stuff"];
const TEXT: [&str; 10] = ["rs", "toml", "md", "ts", "tsx", "mjs", "js", "sh", "yaml", "yml"];
/// What `core`, `ws` and `wire` must get as an argument instead.
const IMPURE: [&str; 7] = ["std::net", "std::fs", "std::thread", "std::process", "std::env", "Instant::now", "SystemTime"];
const PURE: [&str; 3] = ["crates/core/src/", "crates/ws/src/", "crates/wire/src/"];

/// Complaints about unfinished work, empty names, and clocks and sockets where there must be none.
pub(crate) fn check(files: &[SourceFile]) -> Vec<String> {
    files.iter().filter(|file| !is_built(&file.path)).flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<String> {
    let mut complaints = Vec::new();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    if stem.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word.to_ascii_lowercase().as_str())) {
        complaints.push(format!("{}: a name that says nothing", file.path));
    }
    if name.rsplit('.').next().is_some_and(|extension| TEXT.contains(&extension)) {
        for (first, second) in UNFINISHED {
            complaints.extend(
                places(&file.text, &format!("{first}{second}")).map(|line| format!("{}:{line}: unfinished: {first}{second}", file.path)),
            );
        }
    }
    if PURE.iter().any(|folder| file.path.starts_with(folder)) && !super::sources::is_test(&file.path) {
        let code = code_only(&file.text);
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for word in IMPURE {
            complaints.extend(places(code, word).map(|line| format!("{}:{line}: {word} in code that has to be pure", file.path)));
        }
    }
    complaints
}

/// Lines, counted from 1, where `word` stands as a word of its own.
fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part_of_word);
        let after = word.ends_with(part_of_word) && text[at + word.len()..].chars().next().is_some_and(part_of_word);
        (!before && !after).then(|| text[..at].matches('\n').count() + 1)
    })
}

/// What a build wrote, committed so that the binary can embed it.
fn is_built(path: &str) -> bool {
    path.contains("/dist/") || path.ends_with("package-lock.json") || path == "Cargo.lock"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(&[SourceFile { path: path.to_owned(), text: text.to_owned() }])
    }

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        let text = format!("a\nb // {}{}: later\n", "TO", "DO");
        assert_eq!(complaints("src/a.rs", &text).len(), 1);
        assert!(complaints("src/a.rs", &text)[0].starts_with("src/a.rs:2: "));
        assert_eq!(complaints("src/a.rs", "METHODOLOGY, HACKNEY"), [""; 0]);
    }

    #[test]
    fn names_say_something() {
        assert_eq!(complaints("src/session_manager.rs", "").len(), 1);
        assert_eq!(complaints("sdk/js/src/utils.ts", "").len(), 1);
        assert_eq!(complaints("src/commonmark.rs", ""), [""; 0]);
    }

    #[test]
    fn the_rules_read_no_clock() {
        assert_eq!(complaints("crates/core/src/a.rs", "let now = Instant::now();").len(), 1);
        assert_eq!(complaints("crates/core/src/a.rs", "// Instant::now()\n#[cfg(test)]\nmod t { use std::thread; }"), [""; 0]);
        assert_eq!(complaints("crates/gateway/src/a.rs", "let now = Instant::now();"), [""; 0]);
    }
}
