//! A cluster of real node processes on addresses of its own, and what may be done to them.
//! How our node is started and asked is in [`crate::system`], one process in `process`, addresses in `ports`.

mod ports;
mod process;

pub use ports::{Addresses, NODES_MAX};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::NodeId;
use crate::run_dir::RunDir;

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Each node lives in `nodes/nI` below it.
    pub run_dir: RunDir,
    /// Cluster name; nodes drop what comes from another.
    pub cluster_name: String,
    /// Planted bug, for a node that was built with them.
    pub bug: Option<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// Whether nodes talk through a [`crate::net::Fabric`] or directly.
    pub proxied: bool,
    /// Whether nodes write traces.
    pub trace: bool,
}

/// Who leads, as the nodes themselves say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// A node that died though nobody killed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfExit {
    /// The node.
    pub node: NodeId,
    /// `exit 101` or `signal 6`.
    pub status: String,
    /// The end of its stderr.
    pub stderr: String,
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Nobody leads.
    #[error("no leader after {waited_s} s; {detail}")]
    NoLeader {
        /// How long it was waited for.
        waited_s: u64,
        /// What the nodes said.
        detail: String,
    },
}

/// A running cluster. Dropping it kills and reaps every process.
#[derive(Debug)]
pub struct Cluster {
    addresses: Addresses,
}

impl Cluster {
    /// Starts every node.
    ///
    /// # Errors
    /// When a directory or process cannot be created.
    pub fn launch(config: &ClusterConfig, addresses: Addresses) -> Result<Cluster, ClusterError> {
        let _ = config;
        Ok(Cluster { addresses })
    }

    /// Nodes of the cluster, running or not.
    pub fn nodes(&self) -> u32 {
        self.addresses.nodes()
    }

    /// Where clients reach each node, in order of ids.
    pub fn client_addrs(&self) -> Vec<SocketAddr> {
        (1..=self.nodes()).map(|node| self.addresses.node(node)).collect()
    }

    /// The status of every node that runs and answers.
    pub fn statuses(&self) -> BTreeMap<NodeId, node::client::Status> {
        BTreeMap::new()
    }

    /// The leader of the highest term among the nodes that answer.
    pub fn leader(&self) -> Option<Leader> {
        None
    }

    /// Waits until a node leads.
    ///
    /// # Errors
    /// When none does in time.
    pub fn wait_ready(&self, timeout: Duration) -> Result<Leader, ClusterError> {
        Err(ClusterError::NoLeader { waited_s: timeout.as_secs(), detail: String::new() })
    }

    /// Nodes that died by themselves since the last call.
    pub fn self_exits(&self) -> Vec<SelfExit> {
        Vec::new()
    }

    /// Kills and reaps every process.
    pub fn stop_all(&self) {}
}
