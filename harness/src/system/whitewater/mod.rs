//! Our own node: how it is found, started and asked for its status.
//! What its answers mean in a history is in `client`; processes are the cluster's business.

mod client;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use node::client::{Client, ClientConfig};

use super::{Place, Session, Status, System, Transport};
use crate::NodeId;
use crate::cluster::Addresses;
use crate::planted;
use crate::run_dir::RunDir;
use crate::run_file::Binary;
use crate::spec::Spec;
use crate::translate::{Election, TranslateError, translate_all};
use client::NodeSession;

/// How long a client waits for one node: a few round trips of a delayed link, less than an election.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(200);

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

/// How our node is started.
#[derive(Clone, Debug)]
pub struct Whitewater {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Cluster name; nodes drop what comes from another.
    pub cluster_name: String,
    /// Planted bug, for a node that was built with them.
    pub bug: Option<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// Whether nodes write traces.
    pub trace: bool,
}

impl Whitewater {
    /// Our node as a run of this spec starts it.
    pub fn of(spec: &Spec, binary: PathBuf) -> Whitewater {
        Whitewater {
            binary,
            cluster_name: format!("whitewater-{:x}", spec.seed),
            bug: spec.bug.clone(),
            log_level: "info".to_owned(),
            trace: true,
        }
    }

    fn config(&self, attempt_timeout: Duration, operation_timeout: Duration) -> ClientConfig {
        ClientConfig {
            cluster: self.cluster_name.clone(),
            attempt_timeout,
            operation_timeout,
            ..ClientConfig::default()
        }
    }
}

impl System for Whitewater {
    fn name(&self) -> &str {
        "whitewater"
    }

    fn functions(&self) -> Vec<String> {
        ["read", "write", "cas", "append", "add"].map(str::to_owned).to_vec()
    }

    fn transport(&self) -> Transport {
        Transport::Udp
    }

    fn survives_wipe(&self) -> bool {
        // A node that forgot its vote may vote twice in a term: Raft needs its disk (§5.2).
        false
    }

    /// The command line of `node serve`.
    fn command(&self, place: &Place<'_>) -> io::Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg(place.node.to_string());
        command.args(place.addresses.peers(place.node, place.proxied).iter().map(SocketAddr::to_string));
        command.arg("--data-dir").arg(place.run_dir.data(place.node));
        command.arg("--cluster").arg(&self.cluster_name);
        command.arg("--log-level").arg(&self.log_level);
        if self.trace {
            command.arg("--trace");
        }
        if let Some(bug) = &self.bug {
            command.arg("--planted").arg(bug);
        }
        Ok(command)
    }

    fn client_addr(&self, addresses: &Addresses, node: NodeId) -> SocketAddr {
        addresses.node(node)
    }

    fn tells_leader(&self) -> bool {
        true
    }

    fn tells_applied(&self) -> bool {
        true
    }

    fn tells_state(&self) -> bool {
        true
    }

    fn status(&self, place: &Place<'_>, timeout: Duration) -> Option<Status> {
        let addr = place.addresses.node(place.node);
        let status = Client::new(self.config(timeout, timeout), vec![addr]).ok()?.status(addr)?;
        // Addresses are the run's own, but a wrong answer here would blame the wrong node later.
        (status.id == place.node).then(|| Status {
            id: status.id.to_string(),
            leads: status.role == "leader",
            leader: status.leader.map(|leader| leader.to_string()),
            term: status.term,
            commit_index: status.commit_index,
            last_applied: status.last_applied,
        })
    }

    fn session(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>> {
        Ok(Box::new(NodeSession::new(self.config(ATTEMPT_TIMEOUT, patience), nodes)?))
    }

    fn binary(&self) -> io::Result<Binary> {
        Binary::describe(&self.binary, if self.bug.is_some() { planted::FEATURE } else { "" })
    }

    fn translate(&self, dir: &RunDir, nodes: u32) -> Result<Option<Vec<Election>>, TranslateError> {
        translate_all(dir, nodes).map(Some)
    }
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
        let addresses = Addresses::claim(2).unwrap();
        let run_dir = RunDir::open(Path::new("run"));
        let place = Place { node: 2, addresses: &addresses, proxied: true, run_dir: &run_dir };
        let system = Whitewater {
            binary: PathBuf::from("node"),
            cluster_name: "c".to_owned(),
            bug: Some("A03".to_owned()),
            log_level: "info".to_owned(),
            trace: true,
        };
        let command = system.command(&place).unwrap();
        let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
        let (first, own) = (addresses.proxy(2, 1), addresses.node(2));
        let expected = format!(
            "serve 2 {first} {own} --data-dir run/nodes/n2/data --cluster c --log-level info --trace --planted A03"
        );
        assert_eq!(args.join(" "), expected);
    }
}
