//! The list of what is longer than the rules allow, each with a reason. Entries only ever shrink: one that is no longer needed is a complaint.

use super::SourceFile;

/// `xtask/ratchet.txt`: a line is `PATH LINES REASON…` for a file, or `PATH::FUNCTION LINES REASON…` for a function.
pub(crate) struct Ratchet {
    entries: Vec<Entry>,
}

struct Entry {
    subject: String,
    lines: usize,
}

impl Ratchet {
    /// Reads the list; an entry without a number or a reason is an error that names its line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (subject, lines) = (words.next(), words.next().and_then(|lines| lines.parse().ok()));
            match (subject, lines, words.next()) {
                (Some(subject), Some(lines), Some(_)) => entries.push(Entry { subject: subject.to_owned(), lines }),
                _ => return Err(format!("xtask/ratchet.txt:{}: expected `SUBJECT LINES REASON`", number + 1)),
            }
        }
        Ok(Self { entries })
    }

    /// How many lines `subject` may have: its own entry, else `limit`.
    pub(crate) fn allowed(&self, subject: &str, limit: usize) -> usize {
        self.entries.iter().find(|entry| entry.subject == subject).map_or(limit, |entry| entry.lines.max(limit))
    }

    /// Entries for files that are gone.
    pub(crate) fn stale(&self, files: &[SourceFile]) -> Vec<String> {
        let gone = |entry: &&Entry| {
            let path = entry.subject.split("::").next().unwrap_or_default();
            !files.iter().any(|file| file.path == path)
        };
        self.entries.iter().filter(gone).map(|entry| format!("xtask/ratchet.txt: {} is not there any more", entry.subject)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Ratchet;

    #[test]
    fn an_entry_raises_its_own_limit_only() {
        let ratchet = Ratchet::parse("# a comment\nsrc/a.rs 400 one table, read top to bottom\n").unwrap();
        assert_eq!(ratchet.allowed("src/a.rs", 350), 400);
        assert_eq!(ratchet.allowed("src/b.rs", 350), 350);
        assert_eq!(ratchet.stale(&[]), ["xtask/ratchet.txt: src/a.rs is not there any more"]);
    }

    #[test]
    fn an_entry_needs_a_reason() {
        let refused = Ratchet::parse("src/a.rs 400").err();
        assert_eq!(refused.as_deref(), Some("xtask/ratchet.txt:1: expected `SUBJECT LINES REASON`"));
    }
}
