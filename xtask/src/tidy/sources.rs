//! Every Rust file says its one job in its first line, and is short enough to be read at once. Licences are there.

use super::SourceFile;
use super::ratchet::Ratchet;

/// Lines of a source file: about seven screens, one sitting.
const FILE_LINES: usize = 350;
/// Lines of a test file: scenarios are long, and are read one at a time.
const TEST_FILE_LINES: usize = 600;
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

/// Complaints about first lines, lengths and licences.
pub(crate) fn check(files: &[SourceFile], ratchet: &Ratchet) -> Vec<String> {
    let missing = LICENCES.iter().filter(|name| !files.iter().any(|file| file.path == **name)).map(|name| format!("{name} is missing"));
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    missing.chain(rust.flat_map(|file| check_file(file, ratchet))).collect()
}

fn check_file(file: &SourceFile, ratchet: &Ratchet) -> Vec<String> {
    let mut complaints = Vec::new();
    let first = file.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") && !first.starts_with("#!") {
        complaints.push(format!("{}:1: the first line does not say `//!` what this file is for", file.path));
    }
    let limit = if is_test(&file.path) { TEST_FILE_LINES } else { FILE_LINES };
    let (lines, allowed) = (file.text.lines().count(), ratchet.allowed(&file.path, limit));
    if lines > allowed {
        complaints.push(format!("{}: {lines} lines, allowed {allowed}", file.path));
    }
    complaints
}

/// Whether a path is that of test code.
pub(crate) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "checks") || path.ends_with("_tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: String) -> Vec<String> {
        let licences = LICENCES.map(|name| SourceFile { path: name.to_owned(), text: String::new() });
        let files: Vec<_> = licences.into_iter().chain([SourceFile { path: path.to_owned(), text }]).collect();
        check(&files, &Ratchet::parse("src/long.rs 400 a table\n").unwrap())
    }

    #[test]
    fn first_lines_and_lengths() {
        let lines = |count: usize| format!("//! Job.\n{}", "\n".repeat(count - 1));
        assert_eq!(complaints("src/a.rs", lines(350)), [""; 0]);
        assert_eq!(complaints("src/a.rs", lines(351)), ["src/a.rs: 351 lines, allowed 350"]);
        assert_eq!(complaints("tests/a.rs", lines(351)), [""; 0]);
        assert_eq!(complaints("src/long.rs", lines(400)), [""; 0]);
        assert_eq!(complaints("src/long.rs", lines(401)), ["src/long.rs: 401 lines, allowed 400"]);
        assert_eq!(complaints("src/a.rs", "use x;\n".to_owned()).len(), 1);
    }

    #[test]
    fn licences_are_there() {
        assert_eq!(check(&[], &Ratchet::parse("").unwrap()), ["LICENSE-MIT is missing", "LICENSE-APACHE is missing"]);
    }
}
