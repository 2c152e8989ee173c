//! The node with planted bugs: built on first use, as a program of its own, so that it never mixes with the honest one.
//! Which bugs there are is known to that build alone.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::system::whitewater::{BinaryError, check_build};

/// The program that has them.
pub const PROGRAM: &str = "node-planted";
/// The feature of the node that compiles them in.
pub const FEATURE: &str = "planted";

/// Why there is no planted node.
#[derive(Debug, thiserror::Error)]
pub enum PlantedError {
    /// Nothing to build it from.
    #[error("no node with planted bugs at {}, and no workspace here to build one from", .0.display())]
    NoWorkspace(PathBuf),
    /// Cargo could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// What was tried.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Cargo failed; it said why on stderr.
    #[error("`{0}` failed")]
    Build(String),
    /// What was built is not what this harness needs.
    #[error(transparent)]
    Binary(#[from] BinaryError),
}

/// The path of the planted node that belongs to the harness at `harness`, built now if it is missing or of other sources.
///
/// # Errors
/// There is none, and it cannot be built here.
pub fn ensure(harness: &Path) -> Result<PathBuf, PlantedError> {
    let target = target_directory(harness);
    let binary = target.join(profile_directory(harness)).join(PROGRAM);
    if check_build(&binary, FEATURE).is_ok() {
        return Ok(binary);
    }
    let workspace = [harness.parent().map(Path::to_owned), std::env::current_dir().ok()]
        .into_iter()
        .flatten()
        .find_map(|start| find_workspace(&start))
        .ok_or_else(|| PlantedError::NoWorkspace(binary.clone()))?;
    let arguments = build_arguments(harness);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(&arguments).current_dir(workspace).stdout(Stdio::null());
    let shown = shown(&arguments);
    let status = command.status().map_err(|source| PlantedError::Start { command: shown.clone(), source })?;
    if !status.success() {
        return Err(PlantedError::Build(shown));
    }
    check_build(&binary, FEATURE)?;
    Ok(binary)
}

/// The command that builds it for the harness at `harness`, for people.
pub fn shown_command(harness: &Path) -> String {
    shown(&build_arguments(harness))
}

fn shown(arguments: &[OsString]) -> String {
    format!("cargo {}", arguments.join(OsStr::new(" ")).display())
}

/// The target directory of the harness at `harness`: `target` for `target/release/harness`.
fn target_directory(harness: &Path) -> PathBuf {
    harness.parent().and_then(Path::parent).unwrap_or(Path::new("target")).to_owned()
}

/// Where in it the planted node is: beside a harness that was built for debugging, else with what was built for release.
fn profile_directory(harness: &Path) -> &'static str {
    let debug = harness.parent().and_then(Path::file_name).is_some_and(|name| name == "debug");
    if debug { "debug" } else { "release" }
}

/// Over the workspace, and for debugging if the harness was built so, so that what it depends on is the very same as for the
/// programs beside it, and built once.
fn build_arguments(harness: &Path) -> Vec<OsString> {
    let release = (profile_directory(harness) == "release").then_some("--release");
    let what = ["--workspace", "--features", "node/planted", "--bin", PROGRAM, "--target-dir"];
    let words = ["build"].into_iter().chain(release).chain(what).map(OsString::from);
    words.chain([target_directory(harness).into_os_string()]).collect()
}

/// The nearest directory upwards whose `Cargo.toml` is a workspace with a member `node`.
fn find_workspace(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(Path::to_owned).find(|directory| {
        let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("[workspace]")
            && manifest.contains("\"node\"")
            && directory.join("node/Cargo.toml").exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planted_build_lives_beside_the_honest_one_and_is_built_from_its_workspace() {
        let built = "--workspace --features node/planted --bin node-planted --target-dir target";
        for (harness, profile) in
            [("target/release/harness", "build --release"), ("target/debug/harness", "build")]
        {
            assert_eq!(shown_command(Path::new(harness)), format!("cargo {profile} {built}"));
        }
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path();
        std::fs::create_dir_all(root.join("node")).unwrap();
        std::fs::create_dir_all(root.join("target/release")).unwrap();
        assert_eq!(find_workspace(&root.join("target/release")).filter(|w| w.starts_with(root)), None);
        std::fs::write(root.join("node/Cargo.toml"), "[package]").unwrap();
        std::fs::write(root.join("Cargo.toml"), "[workspace]\nmembers = [\"node\"]").unwrap();
        assert_eq!(find_workspace(&root.join("target/release")).as_deref(), Some(root));
    }
}
