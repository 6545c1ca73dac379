//! The head of an HTTP message, read plainly: enough for tests and examples that have no HTTP library.

use tidegate_ws::Fields;

/// A first line and fields with lower-case names.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Reads what stands before the empty line. `None` if a line is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = String::from_utf8(lines.next()?.to_vec()).ok()?;
        let fields = lines.take_while(|line| !line.is_empty()).map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
            Some((name, line[colon + 1..].trim_ascii().to_vec()))
        });
        Some(Self { first, fields: fields.collect::<Option<_>>()? })
    }

    /// A word of the first line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.first.split(' ').nth(index).unwrap_or_default()
    }
}

impl Fields for Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_slice())
    }
}
