//! The `operations.json` of etcd's robustness tests: one `porcupine.Operation` a line, of one client a file, `client-1/operations.json`
//! and so on. Only all clients together make a history, so that each stands for all of its directory.
//!
//! Every operation becomes a transaction over keys that begin absent, and a value carries the revision that wrote it where that
//! is known: `5@7`. What etcd promises beyond that is not judged: leases may delete their keys at any time; reads of past revisions
//! and conditions that cannot be told by values constrain nothing. So no valid history is called invalid.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::budget::{Budget, Ended, Scale};
use crate::history::{
    self, Action, Clock, EventType, History, HistoryError, KeyHistory, Limit, Micro, Operation, Outcome,
    Phase, Value,
};
use crate::model::ModelKind;

/// The one object of such a history: all keys of etcd.
const STORE: &str = "etcd";
/// Name of the file of a client.
const FILE: &str = "operations.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    client_id: u64,
    input: Request,
    call: u64,
    #[serde(default)]
    output: Response,
    /// 0, or the largest number, if it never returned.
    #[serde(default)]
    r#return: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    r#type: String,
    #[serde(default)]
    range: Option<Range>,
    #[serde(default)]
    txn: Option<Txn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Range {
    start: String,
    #[serde(default)]
    end: String,
    /// A revision of the past, 0 if it is the current one.
    #[serde(default)]
    revision: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Txn {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
    operations_on_success: Option<Vec<Step>>,
    operations_on_failure: Option<Vec<Step>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    key: String,
    #[serde(default)]
    expected_revision: i64,
    #[serde(default)]
    expected_version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    r#type: String,
    #[serde(default)]
    range: Option<Range>,
    #[serde(default)]
    put: Option<Put>,
    #[serde(default)]
    delete: Option<Delete>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    key: String,
    value: Held,
    #[serde(default, rename = "LeaseID")]
    lease_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    key: String,
}

/// A value, or the hash of a long one.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Held {
    value: String,
    hash: u32,
}

impl Held {
    fn text(&self) -> String {
        if self.hash == 0 { self.value.clone() } else { format!("#{}", self.hash) }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Response {
    txn: Option<TxnResponse>,
    range: Option<RangeResponse>,
    revision: i64,
    /// It happened, but its result was not seen.
    partial_response: bool,
    persisted: bool,
    /// Nobody knows whether it happened.
    error: String,
    /// It was refused.
    client_error: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct TxnResponse {
    failure: bool,
    results: Option<Vec<StepResult>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct StepResult {
    #[serde(rename = "KVs")]
    kvs: Option<Vec<KeyValue>>,
    count: i64,
    deleted: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RangeResponse {
    #[serde(rename = "KVs")]
    kvs: Option<Vec<KeyValue>>,
    count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: Held,
    #[serde(default)]
    mod_revision: i64,
}

/// The files of all clients beneath a directory, client 2 before client 10; none if it is no report of such tests.
pub(crate) fn clients(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let number = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("client-")?.parse::<u64>().ok();
    let mut files: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| Some((number(&entry.file_name())?, entry.path())))
        .flat_map(|(n, folder)| [FILE.to_owned(), format!("{FILE}.gz")].map(|file| (n, folder.join(file))))
        .filter(|(_, file)| file.is_file())
        .collect();
    files.sort();
    files.into_iter().map(|(_, file)| file).collect()
}

/// What the records of a file become, with the transactions that are made of them.
const RECORDS: Scale = Scale { byte: 4, word: 0, line: 0, map: 640 };

/// Reads the file of one client, with those beside it.
pub(super) fn read(path: &Path, limit: &Limit) -> Result<History, HistoryError> {
    let of_client = path.parent().filter(|folder| {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("client-"))
    });
    let all = of_client.and_then(Path::parent).map(clients).unwrap_or_default();
    if all.len() < 2 || !all.iter().any(|file| file == path) {
        return read_all(&[path.to_owned()], limit);
    }
    let mut history = read_all(&all, limit)?;
    history.warnings.push(format!(
        "read together with the {} other clients beside it: what one saw, others wrote",
        all.len() - 1
    ));
    Ok(history)
}

/// Reads the files of all clients as one history, as far as the limit allows all of them.
///
/// # Errors
/// A file cannot be read, or a record is not one of etcd's robustness tests.
pub(crate) fn read_all(files: &[PathBuf], limit: &Limit) -> Result<History, HistoryError> {
    let mut records = Vec::new();
    let mut budget = Budget::new(limit);
    for file in files {
        let io = |source| HistoryError::Io { path: file.clone(), source };
        let bytes = match budget.read(&mut history::open(file)?, RECORDS).map_err(io)? {
            Ok(bytes) => bytes,
            Err(ended) => return Ok(super::unread(file, ended)),
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        if let Err(ended) = parse(file, bytes, &mut records, &budget)? {
            return Ok(super::unread(file, ended));
        }
    }
    // Equal times are concurrent; the order of such operations is the one of the files.
    records.sort_by_key(|record| record.call);
    let history = Translation::of(&records).history(&records);
    Ok(History { bytes: budget.taken(), ..history })
}

/// Records between two looks at the clock.
const CLOCK_RECORDS: usize = 256;

/// Takes the records of a file, a stream of objects or an array of them, unless the time for it runs out.
fn parse(
    path: &Path,
    bytes: &[u8],
    records: &mut Vec<Record>,
    budget: &Budget,
) -> Result<Result<(), Ended>, HistoryError> {
    let bad = |line: usize, reason: String| HistoryError::Line {
        path: path.to_owned(),
        line: line.max(1) as u64,
        reason,
    };
    let first = records.len();
    let mut lines = Vec::new();
    let line_at =
        |offset: usize| bytes[..offset.min(bytes.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(bytes.len());
    if bytes.get(start) == Some(&b'[') {
        let all: Vec<Record> = serde_json::from_slice(bytes).map_err(|e| bad(e.line(), e.to_string()))?;
        lines.resize(all.len(), line_at(start));
        records.extend(all);
    } else {
        let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Record>();
        let (mut counted, mut line) = (0, 1);
        while let Some(record) = stream.next() {
            records.push(record.map_err(|e| bad(e.line(), e.to_string()))?);
            // The record ends here; most end in the line that they begin in.
            let end = stream.byte_offset();
            line += bytes[counted..end].iter().filter(|b| **b == b'\n').count();
            counted = end;
            lines.push(line);
            if let (true, Err(ended)) = (lines.len() % CLOCK_RECORDS == 1, budget.late(line as u64)) {
                return Ok(Err(ended));
            }
        }
    }
    for (record, line) in records[first..].iter().zip(lines) {
        check(record).map_err(|reason| bad(line, reason))?;
    }
    Ok(Ok(()))
}

/// What the types leave open of a record.
fn check(record: &Record) -> Result<(), String> {
    let Request { r#type, range, txn } = &record.input;
    match r#type.as_str() {
        "range" if range.is_none() => return Err("Input is a range without Range".into()),
        "txn" if txn.is_none() => return Err("Input is a txn without Txn".into()),
        "range" | "txn" | "leaseGrant" | "leaseRevoke" | "defragment" | "compact" => {}
        other => {
            return Err(format!(
                "Input of type {other:?}, which is none of range, txn, leaseGrant, leaseRevoke, defragment, compact"
            ));
        }
    }
    let steps = txn.iter().flat_map(|txn| [&txn.operations_on_success, &txn.operations_on_failure]);
    for step in steps.flatten().flatten() {
        let there = match step.r#type.as_str() {
            "range-operation" => step.range.is_some(),
            "put-operation" => step.put.is_some(),
            "delete-operation" => step.delete.is_some(),
            other => {
                return Err(format!(
                    "an operation of type {other:?}, which is none of range-operation, put-operation, delete-operation"
                ));
            }
        };
        if !there {
            return Err(format!("a {} without what it works on", step.r#type));
        }
    }
    let silent = record.unknown() || record.refused();
    let told = match r#type.as_str() {
        "range" => record.output.range.is_some(),
        "txn" => record.output.txn.is_some(),
        _ => true,
    };
    if !silent && !told {
        return Err(format!("Output of a {type} without its result, and without an Error", type = r#type));
    }
    if !record.unknown() && record.r#return.cast_unsigned() < record.call {
        return Err(format!("Return {} is before Call {}", record.r#return, record.call));
    }
    Ok(())
}

impl Record {
    fn refused(&self) -> bool {
        !self.output.client_error.is_empty()
    }

    /// Whether nobody knows whether, or when, it happened.
    fn unknown(&self) -> bool {
        let Response { error, partial_response, persisted, .. } = &self.output;
        !error.is_empty()
            || *partial_response
            || *persisted
            || self.r#return <= 0
            || self.r#return == i64::MAX
    }

    /// The revision that it made or saw, if it is known.
    fn revision(&self) -> Option<i64> {
        (self.output.revision > 0).then_some(self.output.revision)
    }

    /// The branches that were taken, or may have been.
    fn branches(&self) -> Vec<&[Step]> {
        let Some(txn) = &self.input.txn else { return Vec::new() };
        let success = txn.operations_on_success.as_deref().unwrap_or_default();
        let failure = txn.operations_on_failure.as_deref().unwrap_or_default();
        match &self.output.txn {
            _ if self.unknown() => vec![success, failure],
            Some(TxnResponse { failure: true, .. }) => vec![failure],
            _ => vec![success],
        }
    }

    fn puts(&self) -> impl Iterator<Item = &Put> {
        let steps = self.branches().into_iter().flatten().filter(|step| step.r#type == "put-operation");
        steps.filter_map(|step| step.put.as_ref())
    }

    /// What was shown of keys.
    fn shown(&self) -> impl Iterator<Item = &KeyValue> {
        let range = self.output.range.iter().filter_map(|range| range.kvs.as_ref());
        let steps = self.output.txn.iter().filter_map(|txn| txn.results.as_ref()).flatten();
        range.chain(steps.filter_map(|result| result.kvs.as_ref())).flatten()
    }
}

/// What a key is known to have held.
#[derive(Default)]
struct Written {
    /// Revisions of the puts that are known.
    known: BTreeSet<i64>,
    /// Puts whose revision is not.
    open: u32,
    /// Revisions under which it was shown.
    shown: BTreeSet<i64>,
}

impl Written {
    /// The revision of the one put of which nobody was told: the first that is shown and no other's.
    fn untold(&self) -> Option<i64> {
        self.shown.difference(&self.known).next().copied()
    }

    /// Whether a value alone has to tell, because revisions are missing.
    fn bare(&self) -> bool {
        self.open > 1 || self.known.contains(&0) || self.shown.contains(&0)
    }
}

/// What values and keys mean all through a history.
#[derive(Default)]
struct Translation {
    written: HashMap<(String, String), Written>,
    /// By key and revision.
    at: HashMap<(String, i64), String>,
    /// Keys that were ever put, sorted; others are absent all the time.
    keys: BTreeSet<String>,
    /// Keys that a lease may delete.
    leased: BTreeSet<String>,
    /// Reads that are not of the current revision.
    past: u64,
}

impl Translation {
    fn of(records: &[Record]) -> Translation {
        let mut all = Translation::default();
        for record in records.iter().filter(|record| !record.refused()) {
            for put in record.puts() {
                let (key, value) = (put.key.clone(), put.value.text());
                all.keys.insert(key.clone());
                if put.lease_id != 0 {
                    all.leased.insert(key.clone());
                }
                let written = all.written.entry((key.clone(), value.clone())).or_default();
                if record.unknown() {
                    written.open += 1;
                } else {
                    written.known.insert(record.revision().unwrap_or(0));
                    all.at.extend(record.revision().map(|revision| ((key, revision), value)));
                }
            }
            for KeyValue { key, value, mod_revision } in record.shown() {
                let of = (key.clone(), value.text());
                all.at.insert((key.clone(), *mod_revision), of.1.clone());
                all.written.entry(of).or_default().shown.insert(*mod_revision);
            }
        }
        all
    }

    fn value(&self, key: &str, value: String, revision: Option<i64>) -> Value {
        let of = (key.to_owned(), value);
        let written = self.written.get(&of).filter(|written| !written.bare());
        let revision = written.and_then(|written| revision.or_else(|| written.untold()));
        let text = match revision {
            Some(revision) => format!("{}@{revision}", of.1),
            None => of.1,
        };
        Value::Text(text.into())
    }

    /// What a range showed of each key, absent ones included.
    fn range(&self, range: &Range, kvs: Option<&Vec<KeyValue>>, count: i64, steps: &mut Vec<Micro>) {
        let none = Vec::new();
        let kvs = kvs.unwrap_or(&none);
        for KeyValue { key, value, mod_revision } in kvs {
            let value = self.value(key, value.text(), Some(*mod_revision));
            steps.push(Micro::Read(key.as_str().into(), Some(value)));
        }
        // A limit cuts the range off behind the last key that it shows.
        let cut = count > kvs.len() as i64;
        let last = kvs.iter().map(|kv| &kv.key).max();
        let inside = |key: &&String| match range.end.as_str() {
            "" => **key == range.start,
            "\0" => **key >= range.start,
            end => **key >= range.start && key.as_str() < end,
        };
        let shown: BTreeSet<&String> = kvs.iter().map(|kv| &kv.key).collect();
        let absent = self.keys.range(range.start.clone()..).take_while(inside).filter(|key| {
            let told = shown.contains(key) || self.leased.contains(*key);
            !told && (!cut || last.is_some_and(|last| *key <= last))
        });
        steps.extend(absent.map(|key| Micro::Read(key.as_str().into(), Some(Value::Nil))));
    }

    /// What a range of its own saw; `None` if that constrains nothing.
    fn read(&mut self, record: &Record, range: &Range) -> Option<Vec<Micro>> {
        let answer = record.output.range.as_ref().filter(|_| !record.unknown())?;
        if range.revision > 0 || record.output.revision < 0 {
            self.past += 1;
            return None;
        }
        let mut steps = Vec::new();
        self.range(range, answer.kvs.as_ref(), answer.count, &mut steps);
        Some(steps)
    }

    /// What a branch of a transaction did and saw; `None` if that constrains nothing.
    fn branch(&self, record: &Record, branch: &[Step]) -> Option<Vec<Micro>> {
        let response = record.output.txn.as_ref().filter(|_| !record.unknown());
        let mut steps = Vec::new();
        if response.is_some_and(|response| !response.failure) {
            let conditions = record.input.txn.iter().flat_map(|txn| &txn.conditions).flatten();
            steps.extend(conditions.filter_map(|condition| self.condition(condition)));
        }
        let results = response.and_then(|response| response.results.as_deref()).unwrap_or_default();
        for (i, step) in branch.iter().enumerate() {
            let result = results.get(i);
            match (step.r#type.as_str(), &step.put, &step.delete, &step.range) {
                ("put-operation", Some(Put { key, value, .. }), ..) => {
                    let revision = record.revision().filter(|_| response.is_some());
                    steps.push(Micro::Write(key.as_str().into(), self.value(key, value.text(), revision)));
                }
                ("delete-operation", _, Some(Delete { key }), _) => {
                    let key: Arc<str> = key.as_str().into();
                    // Where nothing was deleted there was nothing.
                    if result.is_none_or(|result| result.deleted != 0) {
                        steps.push(Micro::Write(key, Value::Nil));
                    } else if !self.leased.contains(&*key) {
                        steps.push(Micro::Read(key, Some(Value::Nil)));
                    }
                }
                ("range-operation", _, _, Some(range)) => {
                    if let Some(result) = result {
                        self.range(range, result.kvs.as_ref(), result.count, &mut steps);
                    }
                }
                _ => {}
            }
        }
        let writes = steps.iter().any(|step| matches!(step, Micro::Write(..)));
        (writes || response.is_some()).then_some(steps)
    }

    /// The revision that an operation of unknown outcome made, if one of its values was shown with it.
    fn untold(&self, record: &Record) -> Option<i64> {
        record.puts().find_map(|put| {
            let written = self.written.get(&(put.key.clone(), put.value.text()))?;
            written.untold().filter(|_| !written.bare())
        })
    }

    /// What a key held because a condition on it was met, if values can tell.
    fn condition(&self, Condition { key, expected_revision, expected_version }: &Condition) -> Option<Micro> {
        let held = match (expected_version, expected_revision) {
            (0, 0) if self.leased.contains(key) => return None,
            (0, 0) => Value::Nil,
            (0, revision) => {
                let value = self.at.get(&(key.clone(), *revision))?;
                self.value(key, value.clone(), Some(*revision))
            }
            _ => return None,
        };
        Some(Micro::Read(key.as_str().into(), Some(held)))
    }

    fn history(mut self, records: &[Record]) -> History {
        let mut operations = Vec::new();
        for record in records.iter().filter(|record| !record.refused()) {
            let done: Vec<Vec<Micro>> = match (record.input.r#type.as_str(), &record.input.range) {
                ("range", Some(range)) => self.read(record, range).into_iter().collect(),
                ("txn", _) => {
                    let branches = record.branches().into_iter();
                    branches.filter_map(|branch| self.branch(record, branch)).collect()
                }
                _ => Vec::new(),
            };
            let unknown = record.unknown();
            operations.extend(done.into_iter().map(|steps| Operation {
                index: 0,
                process: record.client_id,
                action: Action::Txn(steps.into()),
                outcome: if unknown { Outcome::Info } else { Outcome::Ok },
                ended: Some(if unknown { EventType::Info } else { EventType::Ok }),
                invoke: record.call,
                complete: (!unknown).then_some(record.r#return.cast_unsigned()),
                node: None,
                position:
                    if unknown { self.untold(record) } else { record.revision() }.map(i64::cast_unsigned),
                phase: Phase::Load,
            }));
        }
        for (operation, index) in operations.iter_mut().zip(0..) {
            operation.index = index;
        }
        let mut warnings = Vec::new();
        if self.past > 0 {
            warnings.push(format!("{} reads of past revisions are not judged", self.past));
        }
        if !self.leased.is_empty() {
            warnings.push(format!(
                "{} keys belong to leases, which may delete them at any time: that they are absent is not judged",
                self.leased.len()
            ));
        }
        let model = ModelKind::Txn;
        let keys = if operations.is_empty() {
            BTreeMap::new()
        } else {
            let of_key = KeyHistory { model, clock: Clock::Nanoseconds, operations };
            BTreeMap::from([(STORE.to_owned(), of_key)])
        };
        let header = super::header(model);
        History {
            header,
            clock: Clock::Nanoseconds,
            keys,
            nemesis: Vec::new(),
            torn: false,
            unread: None,
            bytes: 0,
            warnings,
        }
    }
}
