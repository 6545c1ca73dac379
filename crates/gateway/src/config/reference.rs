//! The reference of all keys, written from the sections themselves: it can't say anything that is not read.

use std::fmt::Write;

use super::Config;
use super::schema::{Key, Setting};

const HEAD: &str = "# Configuration

<!-- Written by `tidegate config-reference`. Change the doc comments in crates/gateway/src/config instead. -->

One TOML file. Every key can also be set by an environment variable, for `tidegate dev` too: the path in capitals, parts joined by two
underscores, after `TIDEGATE__`: `limits.rate.per_second` is `TIDEGATE__LIMITS__RATE__PER_SECOND`, the kind of the first channel rule
`TIDEGATE__CHANNEL__0__KIND`. A list is written as in TOML or with commas. The environment wins over the file, the file over the defaults.

Durations are written as `500ms`, `25s`, `1h 30m`; sizes as `512KiB`, `64MiB`; secrets as `env:NAME` or `file:PATH`, and are never shown.
Paths are relative to the directory that the gateway is started in. A key that does not exist is an error.

At SIGHUP or when the file changes, it is read again. Origins, trusted proxies, keys, limits, heartbeat, outbox, drain, channel rules,
anonymous grants, certificates and the log level take effect (for connections opened from then on); the others stay as they were,
and the log names them. A file with an error changes nothing.
";

/// The reference as Markdown.
pub(crate) fn reference() -> String {
    let mut out = HEAD.to_owned();
    for section in Config::KEYS {
        let heading = if section.shape == "list" { format!("[[{}]]", section.name) } else { format!("[{}]", section.name) };
        // Writing to a text can't fail.
        let _ = write!(out, "\n## `{heading}`\n\n{}\n", about(section));
        if section.keys.is_empty() {
            let _ = write!(out, "\nNot in this version yet.\n");
            continue;
        }
        out.push_str("\n| key | value | default | |\n|---|---|---|---|\n");
        rows("", section.keys, &mut out);
    }
    out
}

fn rows(prefix: &str, keys: &[Key], out: &mut String) {
    for key in keys {
        let name = format!("{prefix}{}", key.name.trim_start_matches("r#"));
        let about = about(key).replace('|', "\\|");
        let _ = writeln!(out, "| `{name}` | {} | {} | {about} |", key.shape, default(key));
        rows(&format!("{name}."), key.keys, out);
    }
}

fn default(key: &Key) -> String {
    match (key.default, key.shape) {
        ("", _) => String::new(),
        (number, "number") => format!("`{number}`"),
        (text, _) => format!("`\"{text}\"`"),
    }
}

fn about(key: &Key) -> String {
    key.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}
