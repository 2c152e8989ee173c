//! What a judgement found: verdict, counts, one result a check, and the violations with the operations that show them.
//! How it looks to a person is in [`render`]; how the operations were chosen is the business of each check.

pub(crate) mod certificate;
mod render;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::history::Clock;
use crate::verdict::Verdict;

/// Name of the report in a run directory.
pub const FILE: &str = "verdict.json";

/// A judgement. Its JSON depends on the judged files alone: no durations, no dates, no paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of all checks.
    pub verdict: Verdict,
    /// Class of the first violation: `lost write`, `stale read`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Client operations by outcome.
    pub operations: Operations,
    /// Objects by verdict of linearizability.
    pub keys: Keys,
    /// What became of each acknowledged write.
    pub durability: Durability,
    /// One result for each check that ran, by its name.
    pub checks: BTreeMap<String, CheckResult>,
    /// What is broken, most telling first.
    pub violations: Vec<Violation>,
    /// What a reader should know although it does not move the verdict.
    pub warnings: Vec<String>,
    /// What its times count.
    #[serde(default)]
    pub clock: Clock,
    /// Whether there were traces to judge.
    pub traced: bool,
    /// Where the judged files are, for the commands that the summary suggests. Not part of the JSON.
    #[serde(skip)]
    pub path: PathBuf,
}

/// Client operations by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    /// Happened.
    pub ok: u64,
    /// Did not happen.
    pub fail: u64,
    /// May have happened. Counts operations that were never completed, too.
    pub info: u64,
}

/// Objects by verdict of linearizability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Linearizable.
    pub valid: u64,
    /// Not linearizable.
    pub invalid: u64,
    /// The budget ended first.
    pub unknown: u64,
}

impl Keys {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.valid + self.invalid + self.unknown
    }
}

/// What became of each acknowledged write, element or successful compare-and-set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durability {
    /// Seen by a final read or by a node's final state.
    pub stable: u64,
    /// Replaced by a write that may follow it.
    pub overwritten: u64,
    /// Missing, although nothing replaced it.
    pub lost: u64,
    /// Nothing final was recorded that could tell.
    pub indeterminate: u64,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its verdict.
    pub verdict: Verdict,
    /// Why it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One thing that is broken, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Name of the check that found it.
    pub check: String,
    /// Field-standard class.
    pub class: String,
    /// Object, for checks of the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What happened, in a sentence.
    pub reason: String,
    /// A closed set of operations that is wrong by itself: for every value read or compared in it, every possible writer
    /// is in it.
    pub operations: Vec<Evidence>,
    /// Events of nodes that show it, and faults in between.
    pub events: Vec<String>,
}

/// One operation of a violation, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Index of its invoke in the history.
    pub index: u64,
    /// Its process.
    pub process: u64,
    /// Function, argument and result: `write r7=311`.
    pub what: String,
    /// `ok` or `info`.
    pub outcome: String,
    /// When it began, by the report's clock.
    pub invoke: u64,
    /// When its completion was recorded; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<u64>,
    /// Node that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Log index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// Its part in the story.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Report {
    /// Of nothing yet.
    pub(crate) fn new(path: &Path) -> Report {
        Report {
            verdict: Verdict::Valid,
            class: None,
            operations: Operations::default(),
            keys: Keys::default(),
            durability: Durability::default(),
            checks: BTreeMap::new(),
            violations: Vec::new(),
            warnings: Vec::new(),
            clock: Clock::Nanoseconds,
            traced: false,
            path: path.to_owned(),
        }
    }

    /// Adds the result of a check; the worst decides.
    pub(crate) fn add(&mut self, name: &str, verdict: Verdict, reason: Option<String>) {
        self.verdict = self.verdict.worst(verdict);
        self.checks.insert(name.to_owned(), CheckResult { verdict, reason });
    }

    /// The bytes of `verdict.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has string keys only and no float") + "\n"
    }

    /// Writes `verdict.json` into a run directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_verdict(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join(FILE), self.to_json())
    }
}
