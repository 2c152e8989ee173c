//! The history format, version 1.0: the serde types that its writer and its readers share. `checker/HISTORY.md` is normative.
//! Reading files is the reader's business, judging them in everybody else's.

mod ahead;
mod operation;
mod pair;
mod reader;
pub(crate) mod scan;

pub use operation::{Action, Micro, Operation, Outcome, Phase, Value};
pub(crate) use pair::{ClientEvent, Pairing, shaped};
pub use pair::{History, KeyHistory, Nemesis};
pub use reader::{HistoryError, parse, read};
pub(crate) use reader::{Limit, open, parse_within};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The `format` of the header line.
pub const FORMAT: &str = "whitewater-history";
/// The `version` that this crate writes. Another major version is refused, a newer minor one is read with a warning.
pub const VERSION: &str = "1.0";

/// The first line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// `major.minor`.
    pub version: String,
    /// Name of the workload that made it.
    pub workload: String,
    /// The model of each key, by the longest prefix of the key that stands here; `""` matches every key.
    /// Names: [`crate::model::ModelKind::NAMES`].
    pub models: BTreeMap<String, String>,
    /// Unit and source of every `time`: always `monotonic-ns`, counted from the start of the run.
    pub clock: String,
    /// Names of the nodes.
    pub nodes: Vec<String>,
}

/// `"actual":null` is the answer "the key is absent", not the absence of an answer.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// What the times of a history count, for people: engines only compare them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Nanoseconds since the start of the run.
    #[default]
    Nanoseconds,
    /// Lines of a file without times.
    Lines,
}

impl Clock {
    /// A time in words: `12.204 s`, or `line 12`.
    pub fn show(self, time: u64) -> String {
        match self {
            Clock::Nanoseconds => {
                let milliseconds = time / 1_000_000;
                format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
            }
            Clock::Lines => format!("line {time}"),
        }
    }
}

/// Who an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// A logical client. It has one open operation at most, and none after an `info`.
    Client(u64),
    /// The one that injects faults; written `"nemesis"`.
    Nemesis,
}

impl Serialize for Process {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Process::Client(id) => serializer.serialize_u64(*id),
            Process::Nemesis => serializer.serialize_str("nemesis"),
        }
    }
}

impl<'de> Deserialize<'de> for Process {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Id(u64),
            Name(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Id(id) => Ok(Process::Client(id)),
            Raw::Name(name) if name == "nemesis" => Ok(Process::Nemesis),
            Raw::Name(name) => Err(serde::de::Error::custom(format!(
                "process must be a number or \"nemesis\", not {name:?}"
            ))),
        }
    }
}

/// What a line says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// It begins.
    Invoke,
    /// It happened, between its invoke and now.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// It may have happened at any time after its invoke, or may yet, or never.
    Info,
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rank in the file, from 0.
    pub index: u64,
    /// Nanoseconds since the start of the run; see `checker/HISTORY.md` for when it is stamped.
    pub time: u64,
    /// Whose.
    pub process: Process,
    /// What it says.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Function: `read`, `write`, `delete`, `cas`, `append`, `add`, `acquire`, `release`, `enqueue`, `dequeue`, `txn` of clients; a fault or a phase of the nemesis.
    pub f: String,
    /// Object of the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Argument or result: `read` a value or list (null before it is known, and for an absent key), `write` a value,
    /// `cas` a pair `[from, to]`, `append`, `add`, `enqueue` and `dequeue` an element, `txn` a list of steps.
    #[serde(default)]
    pub value: serde_json::Value,
    /// Why it failed or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// A `cas` that failed with `cas_mismatch`: the value that it saw instead. It is judged as a read of that value.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub actual: Option<serde_json::Value>,
    /// On an invoke, the node that is asked first; on a completion, the node that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The worker behind the process: the same through all its process ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Log index of the operation, where the system tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}
