//! Every link of a Markdown file that points into the tree points at something.

use super::SourceFile;

/// Complaints about dead links; `exists` tells whether a path of the tree is there.
pub(crate) fn check(files: &[SourceFile], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.text) {
            if let Some(path) = resolve(&file.path, target)
                && !exists(&path)
            {
                complaints.push(format!("{}:{line}: {target} is not there", file.path));
            }
        }
    }
    complaints
}

/// `(line, target)` of each `[text](target)` outside code fences.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            if let Some(length) = line[at + 2..].find(')') {
                found.push((number + 1, &line[at + 2..at + 2 + length]));
            }
        }
    }
    found
}

/// The path in the tree that a link names; none for what is outside it.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_links_are_found() {
        let text = "[a](b.md) [c](../test#x) [w](https://example.com/)\n```\n[x](gone.md)\n```\n[g](gone.md)\n";
        let files = [SourceFile { path: "docs/a.md".to_owned(), text: text.to_owned() }];
        let complaints = check(&files, &|path| ["docs/b.md", "test"].contains(&path));
        assert_eq!(complaints, ["docs/a.md:5: gone.md is not there"]);
    }
}
