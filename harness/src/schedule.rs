//! Which faults, when, at whom: drawn from a spec, and kept as a file that a replay reads.
//! Resolving targets and doing it is the nemesis' work.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::spec::Spec;
use crate::target::Target;

/// One fault of a schedule: a line of `schedule.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// Its number in the schedule, from 1.
    pub id: u32,
    /// When it is injected, milliseconds after the load began.
    pub at_ms: u64,
    /// How long until it is healed, milliseconds.
    pub duration_ms: u64,
    /// Whom it hits.
    pub target: Target,
    /// What it does.
    pub fault: Fault,
}

/// The faults of a run, by time of injection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The faults.
    pub faults: Vec<PlannedFault>,
}

/// Why a schedule could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no planned fault.
    #[error("{} line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl Schedule {
    /// The schedule of a spec: the same for equal specs.
    pub fn plan(spec: &Spec) -> Schedule {
        let _ = spec;
        Schedule::default()
    }

    /// The file's text: one JSON object a line.
    pub fn to_jsonl(&self) -> String {
        String::new()
    }

    /// Writes `schedule.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ScheduleError> {
        let _ = path;
        Ok(())
    }

    /// Reads `schedule.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is wrong: the line is named.
    pub fn read(path: &Path) -> Result<Schedule, ScheduleError> {
        let _ = path;
        Ok(Schedule::default())
    }
}
