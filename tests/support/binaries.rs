//! The programs under test: built once for each test process, found where cargo says they are.
//! `cargo test --workspace` alone does not build the plain binaries of other members.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::workspace;

/// The three programs, built from the sources as they are, in the profile of the tests.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The honest node.
    pub node: PathBuf,
    /// The harness.
    pub harness: PathBuf,
    /// The checker.
    pub checker: PathBuf,
}

/// The programs. The first call builds what is not built yet.
///
/// # Panics
/// When they cannot be built: cargo has said why.
pub fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// The target directory that this test process was built into.
///
/// # Panics
/// When the test executable is not where cargo puts it.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().expect("a profile directory stands in a target directory").to_owned()
}

/// `target/debug` for `target/debug/deps/e2e-0123`.
fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its executable");
    let profile = own.parent().and_then(Path::parent);
    profile.expect("cargo puts test executables two levels below the target directory").to_owned()
}

fn build() -> Binaries {
    let directory = profile_directory();
    // The directory has the name of the profile, but for `dev`.
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root()).stderr(Stdio::inherit());
    command.args(["build", "--workspace", "--bins", "--message-format=json-render-diagnostics"]);
    command.args(["--profile", profile, "--target-dir"]).arg(target_directory());
    let output = command.output().expect("cargo can be started");
    assert!(output.status.success(), "`cargo build --workspace --bins` failed: {}", output.status);
    let messages: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let path = |name: &str| {
        let built = messages
            .iter()
            .find(|message| message["target"]["name"] == name && message["target"]["kind"][0] == "bin");
        let path = built.and_then(|message| message["executable"].as_str());
        PathBuf::from(path.unwrap_or_else(|| panic!("cargo built no program called {name}")))
    };
    Binaries { node: path("node"), harness: path("harness"), checker: path("checker") }
}
