//! Who may know whom: between crates by `cargo metadata`, inside the library by its `use` lines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::SourceFile;
use super::scan::code_only;

/// Each crate of the product with the crates of the product that it may depend on.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("tidegate-core", &[]),
    ("tidegate-ws", &[]),
    ("tidegate-wire", &["tidegate-core"]),
    ("tidegate", &["tidegate-core", "tidegate-wire", "tidegate-ws"]),
    ("tidegate-client", &["tidegate-core", "tidegate-wire"]),
    ("tidegate-gateway", &["tidegate", "tidegate-client"]),
];
/// What may be nowhere below the crates without I/O: runtimes, sockets, randomness.
const IMPURE: [&str; 7] = ["tokio", "mio", "socket2", "rand", "getrandom", "hyper", "async-std"];
const PURE: [&str; 3] = ["tidegate-core", "tidegate-ws", "tidegate-wire"];
/// Folders of the library, with the modules that they must not import.
const ROOMS: [(&str, &[&str]); 2] = [
    ("crates/tidegate/src/connection/", &["crate::hub"]),
    (
        "crates/tidegate/src/broker/",
        &["crate::hub", "crate::connection", "crate::auth", "crate::upgrade", "crate::drain", "tidegate_ws", "tidegate_wire"],
    ),
];

/// Complaints about dependencies that go the wrong way.
pub(crate) fn check(metadata: &Value, files: &[SourceFile]) -> Vec<String> {
    let graph = Graph::read(metadata);
    let mut complaints = Vec::new();
    for (name, allowed) in ALLOWED {
        let Some(direct) = graph.edges.get(name) else {
            complaints.push(format!("{name} is not in the workspace"));
            continue;
        };
        let ours = direct.iter().filter(|to| ALLOWED.iter().any(|(other, _)| other == *to));
        complaints.extend(ours.filter(|to| !allowed.contains(&to.as_str())).map(|to| format!("{name} must not depend on {to}")));
    }
    for name in PURE {
        let below = graph.below(name);
        complaints.extend(
            IMPURE
                .iter()
                .filter(|crate_name| below.contains(**crate_name))
                .map(|impure| format!("{name} must not depend on {impure}, not even through others")),
        );
    }
    complaints.extend(files.iter().flat_map(check_rooms));
    complaints
}

fn check_rooms(file: &SourceFile) -> Vec<String> {
    let mut complaints = Vec::new();
    for (folder, forbidden) in ROOMS {
        if !file.path.starts_with(folder) || super::sources::is_test(&file.path) {
            continue;
        }
        let code = code_only(&file.text);
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for name in forbidden.iter().filter(|name| code.match_indices(**name).any(|(at, found)| !continues(&code[at + found.len()..]))) {
            complaints.push(format!("{}: {folder} must not import {name}", file.path));
        }
    }
    complaints
}

fn continues(rest: &str) -> bool {
    rest.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Normal dependencies by crate name; two versions of one crate count as one.
struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let to = list(&node["deps"]).into_iter().filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()));
            let to = to.filter_map(|dep| names.get(&text(&dep["pkg"])).cloned());
            edges.entry(names.get(&text(&node["id"])).cloned().unwrap_or_default()).or_default().extend(to);
        }
        Self { edges }
    }

    fn below(&self, name: &str) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(next) = open.pop() {
            for to in self.edges.get(&next).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace where `edges` are the normal dependencies.
    fn metadata(edges: &[(&str, &str)]) -> Value {
        let mut names: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        names.extend(edges.iter().flat_map(|(from, to)| [*from, *to]));
        let packages: Vec<Value> = names.iter().map(|name| json!({"id": name, "name": name})).collect();
        let deps = |name: &str| -> Vec<Value> {
            edges.iter().filter(|(from, _)| *from == name).map(|(_, to)| json!({"pkg": to, "dep_kinds": [{"kind": null}]})).collect()
        };
        let nodes: Vec<Value> = names.iter().map(|name| json!({"id": name, "deps": deps(name)})).collect();
        json!({"packages": packages, "resolve": {"nodes": nodes}})
    }

    #[test]
    fn the_design_passes() {
        let edges = [
            ("tidegate-wire", "tidegate-core"),
            ("tidegate", "tokio"),
            ("tidegate-gateway", "tidegate-client"),
            ("tidegate-client", "rand"),
        ];
        assert_eq!(check(&metadata(&edges), &[]), [""; 0]);
    }

    #[test]
    fn a_wrong_direction_is_found_directly_and_far_below() {
        assert_eq!(check(&metadata(&[("tidegate-ws", "tidegate-core")]), &[]), ["tidegate-ws must not depend on tidegate-core"]);
        let far = check(&metadata(&[("tidegate-core", "a"), ("a", "tokio")]), &[]);
        assert_eq!(far, ["tidegate-core must not depend on tokio, not even through others"]);
    }

    #[test]
    fn a_connection_does_not_know_the_hub() {
        let file = |text: &str| [SourceFile { path: "crates/tidegate/src/connection/driver.rs".to_owned(), text: text.to_owned() }];
        assert_eq!(check(&metadata(&[]), &file("use crate::hub::Registry;")).len(), 1);
        assert_eq!(check(&metadata(&[]), &file("use crate::hubbub; // crate::hub")), [""; 0]);
    }
}
