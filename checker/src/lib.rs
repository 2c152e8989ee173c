//! The judge: reads a recorded history and the traces of the nodes, and says valid, invalid or unknown, and why.
//! Knows nothing of live processes, clocks or seeds; recording is the harness's business.

use std::path::Path;
use std::time::Duration;

pub mod coverage;
pub mod durability;
pub mod history;
pub mod interop;
pub mod invariant;
pub mod linearizability;
pub mod liveness;
pub mod model;
pub mod report;
pub mod trace;
pub mod verdict;

pub use report::Report;
pub use verdict::Verdict;

/// Bounds of a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps of search for one key. Deterministic: the same files and options give the same verdict.
    pub steps: u64,
    /// Bytes of search state for one key.
    pub memory: u64,
    /// Outer net: no search begins or goes on after this long. If it fires, the report says so.
    pub time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { steps: 50_000_000, memory: 1 << 30, time: Duration::from_secs(60) }
    }
}

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A trace.
    #[error(transparent)]
    Trace(#[from] trace::TraceError),
    /// Nothing to read.
    #[error("{0} does not exist")]
    Missing(std::path::PathBuf),
}

/// Judges a run directory or a bare history.
///
/// # Errors
/// The files cannot be read or are not what their formats say.
pub fn check(path: &Path, _options: &Options) -> Result<Report, CheckError> {
    Err(CheckError::Missing(path.to_owned()))
}
