//! Every dependency is stated once, with its reason.

use tests::workspace::read;

use crate::layout::MEMBERS;

/// Lines of the workspace's table of dependencies that give no reason. Members need none.
fn without_reason(manifest: &str) -> Vec<&str> {
    let table = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let table = table.split("\n[").next().unwrap_or_default();
    let lines = table.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
    let foreign = lines.filter(|line| !line.contains("path ="));
    foreign.filter(|line| line.split_once(" # ").is_none_or(|(_, reason)| reason.len() < 10)).collect()
}

/// Dependencies of a member that are not taken from the workspace's table.
fn of_its_own(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && line.contains('=') && !line.contains("workspace = true") {
            found.push(line);
        }
    }
    found
}

#[test]
fn every_dependency_states_its_reason() {
    let bad = "[workspace.dependencies]\nnode = { path = \"node\" }\nserde = \"1\"\nnix = \"0.31\" # short\n[profile.dev]\nx = 1";
    assert_eq!(without_reason(bad), ["serde = \"1\"", "nix = \"0.31\" # short"]);
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("[workspace.dependencies]"));
    assert_eq!(without_reason(&manifest), [""; 0]);
}

#[test]
fn members_take_their_dependencies_from_the_table() {
    assert_eq!(
        of_its_own("[dev-dependencies]\na.workspace = true\nb = \"1\"\n[lints]\nc = 1"),
        ["b = \"1\""]
    );
    for member in MEMBERS {
        assert_eq!(of_its_own(&read(format!("{member}/Cargo.toml"))), [""; 0], "{member}");
    }
}
