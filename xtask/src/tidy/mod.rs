//! House rules that a compiler doesn't check. Each rule is a function from the tree to complaints; no complaint, no output.

use std::path::{Path, PathBuf};
use std::process::Command;

mod directions;
mod functions;
mod links;
mod ratchet;
mod scan;
mod sources;
mod words;

/// One file of the tree: where it is and what it says.
pub(crate) struct SourceFile {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Checks every rule and prints every complaint; an error if there is one.
pub(crate) fn run() -> Result<(), String> {
    let root = root()?;
    let files = read_tree(&root)?;
    let ratchet =
        ratchet::Ratchet::parse(&std::fs::read_to_string(root.join("xtask/ratchet.txt")).map_err(|e| format!("xtask/ratchet.txt: {e}"))?)?;
    let mut complaints = Vec::new();
    complaints.extend(sources::check(&files, &ratchet));
    complaints.extend(functions::check(&files, &ratchet));
    complaints.extend(words::check(&files));
    complaints.extend(links::check(&files, &|path| root.join(path).exists()));
    complaints.extend(directions::check(&cargo_metadata(&root)?, &files));
    complaints.extend(ratchet.stale(&files));
    if complaints.is_empty() {
        println!("tidy: {} files, no complaint", files.len());
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    Err(format!("tidy: {} complaints", complaints.len()))
}

/// What git tracks or would track, as text; what isn't UTF-8 has no house rules.
fn read_tree(root: &Path) -> Result<Vec<SourceFile>, String> {
    let listing = output(Command::new("git").current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut files = Vec::new();
    for path in listing.lines() {
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(SourceFile { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

fn cargo_metadata(root: &Path) -> Result<serde_json::Value, String> {
    let text = output(Command::new("cargo").current_dir(root).args(["metadata", "--format-version", "1", "--all-features", "--locked"]))?;
    serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))
}

/// The repository's root: the parent of this package.
pub(crate) fn root() -> Result<PathBuf, String> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).ok_or_else(|| "xtask has no parent folder".to_owned())
}

fn output(command: &mut Command) -> Result<String, String> {
    let result = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if !result.status.success() {
        return Err(format!("{command:?}: {}\n{}", result.status, String::from_utf8_lossy(&result.stderr)));
    }
    String::from_utf8(result.stdout).map_err(|e| format!("{command:?}: {e}"))
}
