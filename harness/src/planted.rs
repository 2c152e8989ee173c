//! The node with planted bugs: built on first use, as a program of its own, so that it never mixes with the honest one.
//! Which bugs there are is known to that build alone.

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
    let binary = target.join("release").join(PROGRAM);
    if check_build(&binary, FEATURE).is_ok() {
        return Ok(binary);
    }
    let workspace = [harness.parent().map(Path::to_owned), std::env::current_dir().ok()]
        .into_iter()
        .flatten()
        .find_map(|start| find_workspace(&start))
        .ok_or_else(|| PlantedError::NoWorkspace(binary.clone()))?;
    let mut command = build_command(&target);
    command.current_dir(workspace).stdout(Stdio::null());
    let shown = shown_command(&target);
    let status = command.status().map_err(|source| PlantedError::Start { command: shown.clone(), source })?;
    if !status.success() {
        return Err(PlantedError::Build(shown));
    }
    check_build(&binary, FEATURE)?;
    Ok(binary)
}

/// The command that builds it, for people.
pub fn shown_command(target: &Path) -> String {
    format!("cargo {} --target-dir {}", BUILD.join(" "), target.display())
}

/// The target directory of the harness at `harness`: `target` for `target/release/harness`.
pub fn target_directory(harness: &Path) -> PathBuf {
    harness.parent().and_then(Path::parent).unwrap_or(Path::new("target")).to_owned()
}

/// Over the workspace, so that what it depends on is the very same as for the programs beside it, and built once.
const BUILD: [&str; 7] =
    ["build", "--release", "--workspace", "--features", "node/planted", "--bin", PROGRAM];

fn build_command(target: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(BUILD).arg("--target-dir").arg(target);
    command
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
        assert_eq!(target_directory(Path::new("target/release/harness")), Path::new("target"));
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
