//! Makes operations from events: checks that the history is well-formed, joins each invoke with its completion, and sorts
//! the operations by key. What the faults in it mean is left to `coverage` and `liveness`, the operations to the engines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::{
    Action, Clock, Event, EventType, Header, HistoryError, Micro, Operation, Outcome, Phase, Process, Value,
};
use crate::hash::FastMap;
use crate::model::ModelKind;

/// A well-formed history.
#[derive(Clone, Debug)]
pub struct History {
    /// Its first line.
    pub header: Header,
    /// What its times count.
    pub clock: Clock,
    /// The operations of each key in the order of their invokes, failed ones too.
    pub keys: BTreeMap<String, KeyHistory>,
    /// What the nemesis wrote.
    pub nemesis: Vec<Nemesis>,
    /// Whether the end is missing.
    pub torn: bool,
    /// Why the rest was not read, if it was left: the budget had run out.
    pub unread: Option<String>,
    /// About how many bytes it takes, and what the engines that need no search make of it.
    pub bytes: u64,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// What happened to one key.
#[derive(Clone, Debug)]
pub struct KeyHistory {
    /// What the key is.
    pub model: ModelKind,
    /// What its times count.
    pub clock: Clock,
    /// Its operations, by invoke.
    pub operations: Vec<Operation>,
}

/// A line of the nemesis.
#[derive(Clone, Debug, PartialEq)]
pub struct Nemesis {
    /// Its index.
    pub index: u64,
    /// When.
    pub time: u64,
    /// A fault, `phase`, `plan`, `settle` or `self_exit`.
    pub f: String,
    /// Its particulars.
    pub value: Json,
}

impl Nemesis {
    /// A text field of the value.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.value.get(field)?.as_str()
    }
}

/// A line of a client, borrowed from where it was read.
pub(crate) struct ClientEvent<'a> {
    pub(crate) index: u64,
    pub(crate) time: u64,
    pub(crate) process: u64,
    pub(crate) kind: EventType,
    pub(crate) f: &'a str,
    pub(crate) key: Option<&'a str>,
    /// What is no value of a key stays JSON, for the message about it.
    pub(crate) value: Result<Value, &'a Json>,
    pub(crate) error: Option<&'a str>,
    pub(crate) actual: Option<Result<Value, &'a Json>>,
    pub(crate) node: Option<&'a str>,
    pub(crate) position: Option<u64>,
}

/// An operation whose completion was not seen yet.
struct Open {
    line: u64,
    /// Place of its key, and its own among the operations of that key.
    key: usize,
    slot: usize,
}

/// Pairs the lines of a history, one after the other.
pub(crate) struct Pairing {
    path: PathBuf,
    models: Vec<(String, ModelKind)>,
    history: History,
    keys: Vec<(String, KeyHistory)>,
    key_of: FastMap<String, usize>,
    names: FastMap<String, Arc<str>>,
    open: FastMap<u64, Open>,
    /// Processes that ended with an `info`, and the line of it.
    retired: FastMap<u64, u64>,
    phase: Phase,
    bytes: u64,
}

/// Bytes of an operation with what the engines that need no search, and the explanation of what they find, make of it.
const OPERATION_BYTES: usize = 2 * size_of::<Operation>();
/// Bytes of a key, of an indeterminate operation in the tables, and of a line of the nemesis for each of its text.
const KEY_BYTES: usize = 512;
const RETIRED_BYTES: usize = 64;
const JSON_BYTES: usize = 8;

impl Pairing {
    /// Of a history with this first line.
    ///
    /// # Errors
    /// The header names a model that there is not.
    pub(crate) fn new(path: &Path, header: Header, warnings: Vec<String>) -> Result<Pairing, HistoryError> {
        let mut models = Vec::new();
        for (prefix, name) in &header.models {
            let model = ModelKind::from_name(name).ok_or_else(|| HistoryError::Line {
                path: path.to_owned(),
                line: 1,
                reason: format!(
                    "model {name:?} of keys {prefix:?} is unknown, there are {}",
                    ModelKind::NAMES.join(", ")
                ),
            })?;
            models.push((prefix.clone(), model));
        }
        Ok(Pairing::with_models(path, header, models, Clock::Nanoseconds, warnings))
    }

    /// Of a history whose keys have these models, by the longest prefix.
    pub(crate) fn with_models(
        path: &Path,
        header: Header,
        mut models: Vec<(String, ModelKind)>,
        clock: Clock,
        warnings: Vec<String>,
    ) -> Pairing {
        models.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let history = History {
            header,
            clock,
            keys: BTreeMap::new(),
            nemesis: Vec::new(),
            torn: false,
            unread: None,
            bytes: 0,
            warnings,
        };
        Pairing {
            path: path.to_owned(),
            models,
            history,
            keys: Vec::new(),
            key_of: FastMap::default(),
            names: FastMap::default(),
            open: FastMap::default(),
            retired: FastMap::default(),
            phase: Phase::Load,
            bytes: 0,
        }
    }

    /// About how many bytes all that was read takes, and its first judgement.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Operations whose completion was not read.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    fn error(&self, line: u64, reason: impl Into<String>) -> HistoryError {
        HistoryError::Line { path: self.path.clone(), line, reason: reason.into() }
    }

    /// Takes the event in `line`.
    ///
    /// # Errors
    /// The history is not well-formed; the error names the line and the earlier one that it contradicts.
    pub(crate) fn event(&mut self, line: u64, event: Event) -> Result<(), HistoryError> {
        let Process::Client(process) = event.process else {
            return self.nemesis(
                line,
                Nemesis { index: event.index, time: event.time, f: event.f, value: event.value },
            );
        };
        let value = |json| Value::from_json(json).ok_or(json);
        self.client(
            line,
            ClientEvent {
                index: event.index,
                time: event.time,
                process,
                kind: event.kind,
                f: &event.f,
                key: event.key.as_deref(),
                value: value(&event.value),
                error: event.error.as_deref(),
                actual: event.actual.as_ref().map(value),
                node: event.node.as_deref(),
                position: event.position,
            },
        )
    }

    fn nemesis(&mut self, line: u64, nemesis: Nemesis) -> Result<(), HistoryError> {
        if nemesis.f == "phase" {
            self.phase = match nemesis.text("phase") {
                Some("load") => Phase::Load,
                Some("settle") => Phase::Settle,
                Some("final") => Phase::Final,
                other => {
                    return Err(self.error(line, format!("phase {other:?} is none of load, settle, final")));
                }
            };
        }
        self.bytes += (JSON_BYTES * nemesis.value.to_string().len() + size_of::<Nemesis>()) as u64;
        self.history.nemesis.push(nemesis);
        Ok(())
    }

    /// Takes the event of a client in `line`.
    ///
    /// # Errors
    /// As [`Pairing::event`].
    pub(crate) fn client(&mut self, line: u64, event: ClientEvent<'_>) -> Result<(), HistoryError> {
        if event.kind == EventType::Invoke {
            return self.invoke(line, &event);
        }
        let Some(open) = self.open.remove(&event.process) else {
            let reason = format!("process {} completes an operation that it did not invoke", event.process);
            return Err(self.error(line, reason));
        };
        let asked = self.keys[open.key].1.operations[open.slot].node.as_deref();
        let node = event.node.filter(|answered| Some(*answered) != asked).map(|name| self.name(name));
        let (key, of_key) = &mut self.keys[open.key];
        let operation = &mut of_key.operations[open.slot];
        if let Err(reason) = complete(operation, of_key.model, key, &event) {
            return Err(self.error(line, format!("{reason} (invoked in line {})", open.line)));
        }
        if node.is_some() {
            operation.node = node;
        }
        self.bytes += event.value.as_ref().map_or(0, Value::bytes) as u64;
        if event.kind == EventType::Info {
            self.bytes += RETIRED_BYTES as u64;
            self.retired.insert(event.process, line);
        }
        Ok(())
    }

    fn invoke(&mut self, line: u64, event: &ClientEvent<'_>) -> Result<(), HistoryError> {
        let process = event.process;
        if let Some(Open { line: earlier, .. }) = self.open.get(&process) {
            let reason = format!("process {process} invokes while its operation of line {earlier} is open");
            return Err(self.error(line, reason));
        }
        if let Some(earlier) = self.retired.get(&process) {
            let reason = format!("process {process} invokes again after its info in line {earlier}");
            return Err(self.error(line, reason));
        }
        let key = event.key.ok_or_else(|| self.error(line, format!("{} without a key", event.f)))?;
        let key = match self.key_of.get(key) {
            Some(place) => *place,
            None => {
                let model = self
                    .models
                    .iter()
                    .find(|(prefix, _)| key.starts_with(prefix))
                    .map(|(_, model)| *model)
                    .ok_or_else(|| self.error(line, format!("key {key:?} has no model in the header")))?;
                let of_key = KeyHistory { model, clock: self.history.clock, operations: Vec::new() };
                self.bytes += (KEY_BYTES + 3 * key.len()) as u64;
                self.keys.push((key.to_owned(), of_key));
                self.key_of.insert(key.to_owned(), self.keys.len() - 1);
                self.keys.len() - 1
            }
        };
        let action = action(self.keys[key].1.model, event.f, &event.value, None)
            .map_err(|reason| self.error(line, reason))?;
        let node = event.node.map(|name| self.name(name));
        self.bytes += (OPERATION_BYTES + event.value.as_ref().map_or(0, Value::bytes)) as u64;
        let operations = &mut self.keys[key].1.operations;
        self.open.insert(process, Open { line, key, slot: operations.len() });
        operations.push(Operation {
            index: event.index,
            process,
            action,
            outcome: Outcome::Info,
            ended: None,
            invoke: event.time,
            complete: None,
            node,
            position: None,
            phase: self.phase,
        });
        Ok(())
    }

    /// The one copy of a name.
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        self.names.entry(name.to_owned()).or_insert(name.into()).clone()
    }

    /// What was paired; `torn` if the end of it is missing.
    pub(crate) fn finish(mut self, torn: bool) -> History {
        self.history.torn = torn;
        self.history.bytes = self.bytes;
        for (key, mut of_key) in self.keys {
            let rank = |o: &Operation| (o.invoke, o.index);
            if !of_key.operations.is_sorted_by_key(rank) {
                of_key.operations.sort_by_key(rank);
            }
            self.history.keys.insert(key, of_key);
        }
        self.history
    }
}

fn complete(
    operation: &mut Operation,
    model: ModelKind,
    key: &str,
    event: &ClientEvent<'_>,
) -> Result<(), String> {
    let f = operation.action.function();
    if event.f != f || event.key.is_some_and(|k| k != key) {
        return Err(format!("{} completes a {f} of key {key:?}", event.f));
    }
    if event.time < operation.invoke {
        return Err(format!("completes at {} ns, before its invoke at {} ns", event.time, operation.invoke));
    }
    operation.action = shaped(model, event, Some(&operation.action))?;
    operation.complete = Some(event.time);
    operation.ended = Some(event.kind);
    operation.outcome = match event.kind {
        EventType::Ok => Outcome::Ok,
        EventType::Fail if matches!(operation.action, Action::CasMismatch(..)) => Outcome::Ok,
        EventType::Fail => Outcome::Fail,
        EventType::Info | EventType::Invoke => Outcome::Info,
    };
    operation.position = event.position;
    Ok(())
}

/// What an event says its operation does, given what it was invoked with if it is a completion.
pub(crate) fn shaped(
    model: ModelKind,
    event: &ClientEvent<'_>,
    invoked: Option<&Action>,
) -> Result<Action, String> {
    let Some(invoked) = invoked else { return action(model, event.f, &event.value, None) };
    let f = invoked.function();
    if event.f != f {
        return Err(format!("{} completes a {f}", event.f));
    }
    let returns = matches!(f, "read" | "dequeue");
    if !returns && !matches!(&event.value, Ok(value) if repeats(invoked, value)) {
        let argument = invoked.argument().to_json();
        return Err(format!("completes with {}, was invoked with {argument}", json(&event.value)));
    }
    match (event.kind, f, &event.value) {
        (EventType::Ok, "dequeue", Ok(Value::Nil)) => Ok(Action::Dequeue(Some(Value::Nil))),
        (EventType::Ok, "read" | "dequeue", value) => action(model, f, value, None),
        (EventType::Ok, "txn", Ok(Value::List(steps))) => transaction(steps, true),
        (EventType::Ok, "txn", _) if reads(invoked) => {
            Err("a transaction that is ok tells what it read".into())
        }
        (EventType::Fail, "cas", _) if event.error == Some("cas_mismatch") && event.actual.is_some() => {
            action(model, f, &Ok(invoked.argument()), event.actual.as_ref())
        }
        _ => Ok(invoked.clone()),
    }
}

/// Whether a completion says again what the operation was invoked with; null stands for it.
fn repeats(action: &Action, value: &Value) -> bool {
    match (action, value) {
        (_, Value::Nil) => true,
        (Action::Cas(from, to), Value::List(pair)) => matches!(&pair[..], [a, b] if a == from && b == to),
        (
            Action::Write(argument)
            | Action::Append(argument)
            | Action::Add(argument)
            | Action::Enqueue(argument),
            value,
        ) => argument == value,
        (Action::Txn(_), Value::List(steps)) => {
            transaction(steps, false).is_ok_and(|told| told.argument() == action.argument())
        }
        _ => false,
    }
}

/// Whether a transaction holds a read.
fn reads(action: &Action) -> bool {
    matches!(action, Action::Txn(steps) if steps.iter().any(|step| matches!(step, Micro::Read(..))))
}

/// The transaction of these steps; `known` if it is one that happened.
fn transaction(steps: &[Value], known: bool) -> Result<Action, String> {
    let step = |step: &Value| {
        Micro::from_value(step, known).ok_or_else(|| {
            format!(
                "{} is none of [\"r\", key, value], [\"w\", key, value], [\"append\", key, value]",
                step.to_json()
            )
        })
    };
    Ok(Action::Txn(steps.iter().map(step).collect::<Result<_, _>>()?))
}

fn json(value: &Result<Value, &Json>) -> Json {
    match value {
        Ok(value) => value.to_json(),
        Err(json) => (*json).clone(),
    }
}

/// The action of an event, if its model has it and its value has the right shape.
fn action(
    model: ModelKind,
    f: &str,
    value: &Result<Value, &Json>,
    actual: Option<&Result<Value, &Json>>,
) -> Result<Action, String> {
    let shown = || json(value);
    let value = value.as_ref().map_err(|json| format!("value {json} is not one of a key"))?;
    let single = |value: &Value| matches!(value, Value::Int(_) | Value::Text(_));
    let action = match (f, value) {
        ("read", v) => Action::Read(v.clone()),
        ("write", v) if single(v) => Action::Write(v.clone()),
        ("cas", Value::List(pair))
            if pair.len() == 2 && single(&pair[1]) && !matches!(pair[0], Value::List(_)) =>
        {
            let (from, to) = (pair[0].clone(), pair[1].clone());
            match actual {
                Some(Ok(actual)) => Action::CasMismatch(from, to, actual.clone()),
                Some(Err(json)) => return Err(format!("actual {json} is not a value")),
                None => Action::Cas(from, to),
            }
        }
        ("delete", Value::Nil) => Action::Write(Value::Nil),
        ("acquire", Value::Nil) => Action::Acquire,
        ("release", Value::Nil) => Action::Release,
        ("enqueue", v) if single(v) => Action::Enqueue(v.clone()),
        ("dequeue", Value::Nil) => Action::Dequeue(None),
        ("dequeue", v) if single(v) => Action::Dequeue(Some(v.clone())),
        ("txn", Value::List(steps)) => transaction(steps, false)?,
        ("append", v) if single(v) => Action::Append(v.clone()),
        ("add", v) if single(v) => Action::Add(v.clone()),
        (
            "write" | "delete" | "cas" | "append" | "add" | "acquire" | "release" | "enqueue" | "dequeue"
            | "txn",
            _,
        ) => return Err(format!("{f} of {}", shown())),
        (other, _) => return Err(format!("there is no operation {other:?}")),
    };
    model
        .admits(&action)
        .then_some(action)
        .ok_or_else(|| format!("{f} {} is not an operation of a {} key", shown(), model.name()))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"mix","models":{"r":"cas-register","a":"list-append","ra":"set"},"clock":"monotonic-ns","nodes":["n1"]}"#;

    fn history(lines: &[&str]) -> Result<History, String> {
        let mut text = HEADER.to_owned() + "\n";
        for (i, line) in lines.iter().enumerate() {
            text += &format!("{{\"index\":{i},{line}}}\n");
        }
        parse(Path::new("h"), &mut text.as_bytes()).map_err(|e| e.to_string())
    }

    fn refused(lines: &[&str], reason: &str) {
        assert_eq!(history(lines).unwrap_err(), reason);
    }

    #[test]
    fn operations_are_intervals() {
        let h = history(&[
            r#""time":5,"process":"nemesis","type":"info","f":"phase","value":{"phase":"load"}"#,
            r#""time":10,"process":1,"type":"invoke","f":"write","key":"r1","value":7,"node":"n1""#,
            r#""time":11,"process":2,"type":"invoke","f":"cas","key":"r1","value":[null,8]"#,
            r#""time":12,"process":1,"type":"ok","f":"write","key":"r1","value":7,"node":"n2","position":4"#,
            r#""time":13,"process":2,"type":"fail","f":"cas","key":"r1","value":[null,8],"error":"cas_mismatch","actual":7"#,
            r#""time":14,"process":"nemesis","type":"info","f":"phase","value":{"phase":"final"}"#,
            r#""time":15,"process":2,"type":"invoke","f":"read","key":"r1""#,
            r#""time":16,"process":2,"type":"ok","f":"read","key":"r1","value":7"#,
            r#""time":17,"process":3,"type":"invoke","f":"read","key":"ra1""#,
            r#""time":17,"process":4,"type":"invoke","f":"append","key":"a1","value":1"#,
            r#""time":18,"process":4,"type":"info","f":"append","key":"a1","value":1,"error":"timeout""#,
        ])
        .unwrap();
        let r1 = &h.keys["r1"].operations;
        assert_eq!(h.keys["ra1"].model, ModelKind::Set, "the longest prefix decides");
        assert_eq!((r1[0].outcome, r1[0].end(), r1[0].position), (Outcome::Ok, 12, Some(4)));
        assert_eq!(r1[0].node.as_deref(), Some("n2"));
        assert_eq!(r1[1].action, Action::CasMismatch(Value::Nil, 8.into(), 7.into()));
        assert_eq!((r1[1].outcome, r1[1].phase), (Outcome::Ok, Phase::Load));
        assert_eq!((&r1[2].action, r1[2].phase), (&Action::Read(7.into()), Phase::Final));
        assert!(r1[0].precedes(&r1[2]) && !r1[2].precedes(&r1[0]) && !r1[0].precedes(&r1[1]));
        let a1 = &h.keys["a1"].operations[0];
        assert_eq!((a1.outcome, a1.end(), a1.complete), (Outcome::Info, u64::MAX, Some(18)));
        assert_eq!(h.keys["ra1"].operations[0].end(), u64::MAX, "never completed");
        assert_eq!(h.nemesis.len(), 2);
    }

    #[test]
    fn an_absent_actual_is_not_a_null_one() {
        let lines = |actual: &str| {
            history(&[
                r#""time":1,"process":2,"type":"invoke","f":"cas","key":"r1","value":[3,8]"#,
                &format!(r#""time":2,"process":2,"type":"fail","f":"cas","error":"cas_mismatch"{actual}"#),
            ])
            .unwrap()
        };
        let of = |h: History| h.keys["r1"].operations[0].clone();
        assert_eq!(of(lines("")).outcome, Outcome::Fail);
        assert_eq!(
            of(lines(r#","actual":null"#)).action,
            Action::CasMismatch(3.into(), 8.into(), Value::Nil)
        );
    }

    #[test]
    fn what_is_not_well_formed_is_refused_with_its_line() {
        let invoke = r#""time":1,"process":1,"type":"invoke","f":"write","key":"r1","value":1"#;
        let info = r#""time":2,"process":1,"type":"info","f":"write","key":"r1","value":1"#;
        refused(&[invoke, invoke], "h:3: process 1 invokes while its operation of line 2 is open");
        refused(&[invoke, info, invoke], "h:4: process 1 invokes again after its info in line 3");
        refused(&[info], "h:2: process 1 completes an operation that it did not invoke");
        refused(
            &[invoke, r#""time":2,"process":1,"type":"ok","f":"read","key":"r1","value":1"#],
            "h:3: read completes a write of key \"r1\" (invoked in line 2)",
        );
        refused(
            &[invoke, r#""time":2,"process":1,"type":"ok","f":"write","key":"r2","value":1"#],
            "h:3: write completes a write of key \"r1\" (invoked in line 2)",
        );
        refused(
            &[invoke, r#""time":2,"process":1,"type":"ok","f":"write","key":"r1","value":2"#],
            "h:3: completes with 2, was invoked with 1 (invoked in line 2)",
        );
        refused(
            &[invoke, r#""time":0,"process":1,"type":"ok","f":"write","key":"r1","value":1"#],
            "h:3: completes at 0 ns, before its invoke at 1 ns (invoked in line 2)",
        );
        refused(
            &[r#""time":1,"process":1,"type":"invoke","f":"append","key":"r1","value":1"#],
            "h:2: append 1 is not an operation of a cas-register key",
        );
        refused(
            &[r#""time":1,"process":1,"type":"invoke","f":"cas","key":"r1","value":[1]"#],
            "h:2: cas of [1]",
        );
        refused(
            &[r#""time":1,"process":1,"type":"invoke","f":"incr","key":"r1","value":1"#],
            "h:2: there is no operation \"incr\"",
        );
        refused(
            &[r#""time":1,"process":1,"type":"invoke","f":"read","key":"x1""#],
            "h:2: key \"x1\" has no model in the header",
        );
        refused(
            &[r#""time":1,"process":"nemesis","type":"info","f":"phase","value":{"phase":"warmup"}"#],
            "h:2: phase Some(\"warmup\") is none of load, settle, final",
        );
    }

    #[test]
    fn lines_are_counted_and_only_the_last_may_be_torn() {
        let read = |text: &str| parse(Path::new("h"), &mut text.as_bytes()).map_err(|e| e.to_string());
        let line = r#"{"index":0,"time":1,"process":1,"type":"invoke","f":"read","key":"r1"}"#;
        let whole = format!("{HEADER}\n{line}\n");
        assert!(!read(&whole).unwrap().torn);
        let torn = read(&whole[..whole.len() - 9]).unwrap();
        assert!(torn.torn && torn.keys.is_empty());
        let unended = read(&whole[..whole.len() - 1]).unwrap();
        assert!(!unended.torn && unended.keys["r1"].operations.len() == 1, "only its newline is missing");
        assert!(read(&format!("{HEADER}\n{{\"ind\n{line}\n")).unwrap_err().starts_with("h:2: "));
        assert_eq!(
            read(&format!("{HEADER}\n{line}\n{line}\n")).unwrap_err(),
            "h:3: index 0 in the place of 1"
        );
        assert!(read("").unwrap_err().starts_with("h:1: empty file"));
        assert!(read(&HEADER.replace("1.0", "2.0")).unwrap_err().contains("version \"2.0\""));
        assert!(read(&HEADER.replace("-history", "-x")).unwrap_err().contains("format \"whitewater-x\""));
        assert!(read(&HEADER.replace("tonic-ns", "tonic-us")).unwrap_err().contains("clock"));
        assert_eq!(
            read(&HEADER.replace("1.0", "1.3")).unwrap().warnings,
            ["history of version 1.3, read as 1.0"]
        );
    }

    #[test]
    fn gzip_is_told_by_content() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(format!("{HEADER}\n").as_bytes()).unwrap();
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        assert_eq!(super::super::read(&path).unwrap().header.workload, "mix");
    }
}
