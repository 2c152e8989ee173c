//! The judge: reads a recorded history and the traces of the nodes, and says valid, invalid or unknown, and why.
//! Knows nothing of live processes, clocks or seeds; recording is the harness's business.
//!
//! In reading order: [`history`] and [`interop`] make operations from files, [`model`] says what a key may do,
//! [`linearizability`], [`durability`], [`invariant`], [`convergence`], [`liveness`] and [`coverage`] judge, [`beyond`] says what was to be expected, [`judge`] runs them all, [`follow`] judges what is
//! still being written,
//! [`report`] and [`explain`] tell it, [`verify`] checks what they say against the history. [`bench`] times it.

use std::time::Duration;

pub mod bench;
pub mod beyond;
pub mod cli;
pub mod convergence;
pub mod coverage;
pub mod deadline;
pub mod durability;
pub mod explain;
pub mod follow;
mod hash;
pub mod history;
pub mod interop;
pub mod invariant;
pub mod judge;
pub mod linearizability;
pub mod liveness;
pub mod model;
pub mod report;
pub mod roles;
pub mod trace;
pub mod verdict;
pub mod verify;

pub use judge::{CheckError, certify, check};
pub use report::Report;
pub use verdict::Verdict;

/// Bounds of a judgement, and how foreign files are to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps of search for one key. Deterministic: the same files and options give the same verdict.
    pub steps: u64,
    /// Bytes of what is read and of what is searched, at most half of it for searches of all keys that are judged at once.
    /// Deterministic, too.
    pub memory: u64,
    /// Outer net: no reading and no search goes on after this long. If it fires, the report says so.
    pub time: Duration,
    /// What the files of others leave open.
    pub reading: interop::Reading,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            steps: 20_000_000,
            memory: 4 << 30,
            time: Duration::from_secs(60),
            reading: interop::Reading::default(),
        }
    }
}
