//! What a cluster does when nobody hurts it, and how soon it is back when somebody does: [`throughput`] measures throughput and latency,
//! [`failover`] and [`pause`] what an outage costs, [`soak`] what a long life costs, [`link`] what the harness itself costs. Always beside the machine's own figures,
//! measured in the same minutes: without those, the numbers say nothing. Printing is the command line's business.

mod etcd;
pub mod failover;
mod grpc;
pub mod link;
mod load;
mod machine;
pub mod pause;
pub mod soak;
pub mod throughput;
mod whitewater;

use std::path::PathBuf;

use crate::cluster::ClusterError;
use crate::run_dir::RunDir;

pub use load::{Step, Turn, Work, percentile};
pub use machine::Share;

/// What is measured, and where its files are.
#[derive(Clone, Debug)]
pub struct Place {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Where its data goes; the disk that is measured.
    pub dir: RunDir,
    /// Nodes of the cluster.
    pub nodes: u32,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The cluster did not start, or a process of it did not do what it was told.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A socket or a file.
    #[error("cannot measure: {0}")]
    Io(#[from] std::io::Error),
    /// The system to compare with.
    #[error("cannot measure etcd: {0}")]
    Etcd(String),
    /// Something that is waited for did not come.
    #[error("{what} did not happen within {waited_s} s")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited_s: u64,
    },
}

/// A system under measurement.
trait Subject {
    /// Its name in tables.
    fn name(&self) -> &'static str;
    /// Writes every key that `step` reads.
    fn fill(&mut self, step: &Step) -> Result<(), BenchError>;
    /// Lets clients work as fast as they are answered.
    fn turn(&mut self, step: &Step) -> Result<Turn, BenchError>;
    /// Its processes.
    fn pids(&self) -> Vec<u32>;
}
