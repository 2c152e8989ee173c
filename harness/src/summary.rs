//! What one run comes down to: the line of `harness run --json`, and a row of a campaign.
//! The whole story is in the run directory.

use std::collections::BTreeMap;

use checker::Verdict;
use serde::{Deserialize, Serialize};

use crate::run::Finished;
use crate::run_dir::RunDir;
use crate::tally::FaultTally;

/// One run in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its seed, as `--seed` takes it.
    pub seed: String,
    /// Its run directory, as it was given.
    pub dir: String,
    /// What the checker says.
    pub verdict: Verdict,
    /// Class of the first violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Why the verdict is not valid: the first check that says so, and its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Operations that happened.
    pub ok: u64,
    /// Operations that did not happen.
    pub fail: u64,
    /// Operations of unknown outcome.
    pub info: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, FaultTally>,
    /// How often rare facts were so, by name; empty where nodes write no traces.
    #[serde(default)]
    pub sometimes: BTreeMap<String, u64>,
    /// Leaders elected during the load.
    pub elections: u64,
    /// Those elected while a fault was active, or right after.
    pub elections_by_fault: u64,
}

impl Summary {
    /// Of a finished run.
    pub fn new(seed: u64, dir: &RunDir, finished: &Finished) -> Summary {
        let report = &finished.report;
        let reason = report
            .checks
            .iter()
            .find(|(_, check)| check.verdict == report.verdict && report.verdict != Verdict::Valid)
            .map(|(name, check)| match &check.reason {
                Some(reason) => format!("{name}: {reason}"),
                None => name.clone(),
            });
        Summary {
            seed: format!("{seed:#x}"),
            dir: dir.path().display().to_string(),
            verdict: report.verdict,
            class: report.class.clone(),
            reason,
            ok: finished.tally.ok,
            fail: finished.tally.fail,
            info: finished.tally.info,
            faults: finished.tally.faults.clone(),
            sometimes: finished.sometimes.clone(),
            elections: finished.elections,
            elections_by_fault: finished.elections_by_fault,
        }
    }
}
