//! Who may know whom: the accused and the judge never meet, the algorithm never touches the world.

use std::collections::BTreeSet;
use std::path::Path;

use tests::workspace::{files, read};

use crate::layout::MEMBERS;

/// The files of the harness that name the node's library. It only ever gets shorter.
const HARNESS_NAMES_NODE: [&str; 5] = [
    "harness/src/bench/whitewater.rs",
    "harness/src/run_file.rs",
    "harness/src/system/whitewater/client.rs",
    "harness/src/system/whitewater/mod.rs",
    "harness/src/translate.rs",
];
/// What the algorithm must not know: the world outside, and whatever makes two runs of one input differ.
const WORLDLY: [&str; 12] = [
    "std::fs",
    "std::net",
    "std::time",
    "std::thread",
    "std::env",
    "std::process",
    "HashMap",
    "HashSet",
    "SystemTime",
    "Instant",
    "tokio",
    "SysRng",
];

/// Members of the workspace that a manifest depends on, in any section.
fn knows(manifest: &str) -> BTreeSet<&str> {
    let mut section = "";
    let mut known = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if section.contains("dependencies") && MEMBERS.contains(&name) {
            known.insert(name);
        }
    }
    known
}

/// Words of `WORLDLY` in the code of a source file; comments may speak of them. `std::{fs, …}` counts as `std::fs`.
fn worldly(text: &str) -> Vec<&'static str> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let grouped = |word: &str| {
        word.strip_prefix("std::").is_some_and(|module| {
            let groups = code.split("std::{").skip(1).filter_map(|rest| rest.split(';').next());
            groups.into_iter().any(|group| group.split(|c: char| !c.is_alphanumeric()).any(|w| w == module))
        })
    };
    WORLDLY.into_iter().filter(|word| code.contains(word) || grouped(word)).collect()
}

#[test]
fn the_crates_know_each_other_as_the_architecture_draws_it() {
    let bad = "[dependencies]\nserde.workspace = true\nchecker = { path = \"../checker\" }\n[dev-dependencies]\nnode.workspace = true\n";
    assert_eq!(knows(bad), BTreeSet::from(["checker", "node"]));
    for (member, known) in
        [("node", &[][..]), ("checker", &[]), ("harness", &["node", "checker"]), ("tests", &MEMBERS[..3])]
    {
        let manifest = read(Path::new(member).join("Cargo.toml"));
        assert_eq!(knows(&manifest), known.iter().copied().collect(), "{member}/Cargo.toml");
    }
}

#[test]
fn the_harness_names_the_node_where_it_has_to() {
    let mut naming: Vec<_> = files(".rs").iter().map(|path| path.display().to_string()).collect();
    naming.retain(|path| path.starts_with("harness/src/") && names_node(&read(path)));
    assert_eq!(naming, HARNESS_NAMES_NODE);
}

/// Whether code uses the library of the node, rather than a field or module that happens to have its name.
fn names_node(text: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.match_indices("node::").map(move |(at, _)| &line[..at]))
        .any(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

#[test]
fn a_use_of_the_node_is_told_from_a_name_like_it() {
    assert!(names_node("use node::client::Client;") && names_node("    (node::BUILD_ID)"));
    assert!(
        !names_node("// see node::client") && !names_node("crate::node::x()") && !names_node("my_node::x()")
    );
}

#[test]
fn the_algorithm_touches_no_world() {
    assert_eq!(worldly("use std::collections::HashMap; // std::fs"), ["HashMap"]);
    assert_eq!(worldly("use std::{fmt, net::SocketAddr};"), ["std::net"]);
    let below = |folder: &str| {
        let sources = files(".rs").into_iter().filter(|path| path.starts_with(folder)).collect::<Vec<_>>();
        assert!(sources.len() > 2, "{folder} is not where it was");
        sources
    };
    for path in below("node/src/raft").into_iter().chain(below("node/src/kv")) {
        assert_eq!(worldly(&read(&path)), [""; 0], "{}", path.display());
    }
}

#[test]
fn one_file_of_the_node_touches_file_systems_for_storage() {
    let naming = |text: &str| {
        text.lines().any(|line| line.contains("std::fs") && !line.trim_start().starts_with("//"))
    };
    assert!(naming("use std::fs::File;"));
    let mut storage = files(".rs");
    storage.retain(|path| path.starts_with("node/src/storage") && naming(&read(path)));
    assert_eq!(storage, [Path::new("node/src/storage/disk.rs")]);
}
