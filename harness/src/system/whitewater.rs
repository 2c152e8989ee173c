//! Our own node: the only file that knows how it is found, started and asked for its status.
//! Processes are the cluster's business; client operations go through `node::client`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use node::client::{Client, ClientConfig, Status};

use crate::NodeId;

/// Why there is no usable `node`. The way out of each is [`BinaryError::hint`].
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// No such file.
    #[error("no node executable at {}", .0.display())]
    Missing(PathBuf),
    /// It did not tell its build id.
    #[error("{} does not tell its build id: {reason}", path.display())]
    Silent {
        /// The executable.
        path: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// It was built from other sources than this harness.
    #[error("{} has build id {found:?}, this harness was built with {expected:?}", path.display())]
    Stale {
        /// The executable.
        path: PathBuf,
        /// Its build id and features.
        found: String,
        /// `node::BUILD_ID` and the features that are needed.
        expected: String,
    },
}

impl BinaryError {
    /// What to type.
    pub fn hint(&self) -> &'static str {
        "cargo build --release"
    }
}

/// The `node` beside this executable, checked to be an honest one of the same build.
///
/// # Errors
/// When there is none, or it was built from other sources or with planted bugs.
pub fn find_binary() -> Result<PathBuf, BinaryError> {
    let name = format!("node{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().map(|exe| exe.with_file_name(&name));
    let path = beside.unwrap_or_else(|_| PathBuf::from(name));
    check_build(&path, "")?;
    Ok(path)
}

/// Checks that an executable has `node::BUILD_ID` and was built with exactly `features` (`planted`, or none).
///
/// # Errors
/// When it does not exist, does not say, or has another build id or other features.
pub fn check_build(path: &Path, features: &str) -> Result<(), BinaryError> {
    let silent = |reason: String| BinaryError::Silent { path: path.to_owned(), reason };
    let output = Command::new(path).arg("--build-id").output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BinaryError::Missing(path.to_owned()),
        _ => silent(error.to_string()),
    })?;
    if !output.status.success() {
        return Err(silent(format!("{} from `--build-id`", output.status)));
    }
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let expected = format!("{} {features}", node::BUILD_ID).trim().to_owned();
    if found == expected {
        Ok(())
    } else {
        Err(BinaryError::Stale { path: path.to_owned(), found, expected })
    }
}

/// What a node is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) node: NodeId,
    /// What it takes for each node's address; its own is where it listens.
    pub(crate) addrs: &'a [SocketAddr],
    pub(crate) data_dir: &'a Path,
    pub(crate) cluster_name: &'a str,
    pub(crate) log_level: &'a str,
    pub(crate) trace: bool,
    pub(crate) bug: Option<&'a str>,
}

/// The command line of `node serve`.
pub(crate) fn command(start: &Start<'_>) -> Command {
    let mut command = Command::new(start.binary);
    command.arg("serve").arg(start.node.to_string());
    command.args(start.addrs.iter().map(SocketAddr::to_string));
    command.arg("--data-dir").arg(start.data_dir);
    command.arg("--cluster").arg(start.cluster_name);
    command.arg("--log-level").arg(start.log_level);
    if start.trace {
        command.arg("--trace");
    }
    if let Some(bug) = start.bug {
        command.arg("--planted").arg(bug);
    }
    command
}

/// What a node says of itself, `None` if it does not answer in time.
pub(crate) fn status(addr: SocketAddr, cluster_name: &str, timeout: Duration) -> Option<Status> {
    let config = ClientConfig {
        cluster: cluster_name.to_owned(),
        attempt_timeout: timeout,
        operation_timeout: timeout,
    };
    Client::new(config, vec![addr]).ok()?.status(addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::write_script;

    /// Checks a script in place of `node` that prints `printed` and exits with `exit`.
    fn check(printed: &str, exit: i32, features: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        write_script(&path, &format!("echo '{printed}'\nexit {exit}"));
        check_build(&path, features).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_same_build_with_the_same_features_is_taken() {
        let id = node::BUILD_ID;
        assert_eq!(check(id, 0, ""), Ok(()));
        assert_eq!(check(&format!("{id} planted"), 0, "planted"), Ok(()));
        assert!(check(&format!("{id} planted"), 0, "").unwrap_err().contains("planted"));
        assert!(check(id, 0, "planted").unwrap_err().contains("planted"));
        assert!(check("0123", 0, "").unwrap_err().contains("\"0123\""));
        assert!(check(id, 1, "").unwrap_err().contains("does not tell its build id"));
        let missing = check_build(Path::new("/nonexistent/node"), "").unwrap_err();
        assert_eq!(missing.to_string(), "no node executable at /nonexistent/node");
        assert_eq!(missing.hint(), "cargo build --release");
    }

    #[test]
    fn a_nodes_command_line_is_complete() {
        let addrs = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        let start = Start {
            binary: Path::new("node"),
            node: 2,
            addrs: &addrs,
            data_dir: Path::new("data"),
            cluster_name: "c",
            log_level: "info",
            trace: true,
            bug: Some("A03"),
        };
        let args =
            command(&start).get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let expected = "serve 2 127.0.0.1:1 127.0.0.1:2 --data-dir data --cluster c --log-level info --trace --planted A03";
        assert_eq!(args.join(" "), expected);
    }
}
