//! Makes operations from events: checks that the history is well-formed, joins each invoke with its completion, and sorts
//! the operations by key. What the faults in it mean is left to `coverage` and `liveness`, the operations to the engines.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::{
    Action, Clock, Event, EventType, Header, HistoryError, Lines, Operation, Outcome, Phase, Process, Value,
};
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

/// An operation whose completion was not seen yet.
struct Open {
    position: usize,
    slot: (String, usize),
}

/// Pairs the events of a history.
///
/// # Errors
/// The history is not well-formed; the error names the line and the earlier one that it contradicts.
pub fn pair(lines: &Lines) -> Result<History, HistoryError> {
    let mut history = History {
        header: lines.header.clone(),
        clock: Clock::Nanoseconds,
        keys: BTreeMap::new(),
        nemesis: Vec::new(),
        torn: lines.torn,
        warnings: lines.warnings.clone(),
    };
    let mut models = BTreeMap::new();
    for (prefix, name) in &lines.header.models {
        let model = ModelKind::from_name(name).ok_or_else(|| HistoryError::Line {
            path: lines.path.clone(),
            line: 1,
            reason: format!(
                "model {name:?} of keys {prefix:?} is unknown, there are {}",
                ModelKind::NAMES.join(", ")
            ),
        })?;
        models.insert(prefix.as_str(), model);
    }
    let mut open: HashMap<u64, Open> = HashMap::new();
    let mut retired: HashMap<u64, usize> = HashMap::new();
    let mut phase = Phase::Load;
    for (position, event) in lines.events.iter().enumerate() {
        let error = |reason: String| lines.error(position, reason);
        let Process::Client(process) = event.process else {
            let nemesis = Nemesis {
                index: event.index,
                time: event.time,
                f: event.f.clone(),
                value: event.value.clone(),
            };
            if event.f == "phase" {
                phase = match nemesis.text("phase") {
                    Some("load") => Phase::Load,
                    Some("settle") => Phase::Settle,
                    Some("final") => Phase::Final,
                    other => return Err(error(format!("phase {other:?} is none of load, settle, final"))),
                };
            }
            history.nemesis.push(nemesis);
            continue;
        };
        if event.kind == EventType::Invoke {
            if let Some(earlier) = open.get(&process) {
                let line = lines.number(earlier.position);
                return Err(error(format!(
                    "process {process} invokes while its operation of line {line} is open"
                )));
            }
            if let Some(earlier) = retired.get(&process) {
                let line = lines.number(*earlier);
                return Err(error(format!("process {process} invokes again after its info in line {line}")));
            }
            let key = event.key.as_deref().ok_or_else(|| error(format!("{} without a key", event.f)))?;
            let model = *models
                .iter()
                .filter(|(prefix, _)| key.starts_with(**prefix))
                .max_by_key(|(prefix, _)| prefix.len())
                .map(|(_, model)| model)
                .ok_or_else(|| error(format!("key {key:?} has no model in the header")))?;
            let action = action(model, event, None).map_err(error)?;
            let of_key = history.keys.entry(key.to_owned()).or_insert_with(|| KeyHistory {
                model,
                clock: Clock::Nanoseconds,
                operations: Vec::new(),
            });
            open.insert(process, Open { position, slot: (key.to_owned(), of_key.operations.len()) });
            of_key.operations.push(Operation {
                index: event.index,
                process,
                action,
                outcome: Outcome::Info,
                ended: None,
                invoke: event.time,
                complete: None,
                node: event.node.clone(),
                position: None,
                phase,
            });
            continue;
        }
        let Some(Open { position: invoked, slot: (key, slot) }) = open.remove(&process) else {
            return Err(error(format!("process {process} completes an operation that it did not invoke")));
        };
        let invoke = &lines.events[invoked];
        complete(&mut history, &key, slot, invoke, event)
            .map_err(|reason| error(format!("{reason} (invoked in line {})", lines.number(invoked))))?;
        if event.kind == EventType::Info {
            retired.insert(process, position);
        }
    }
    for of_key in history.keys.values_mut() {
        of_key.operations.sort_by_key(|o| (o.invoke, o.index));
    }
    Ok(history)
}

fn complete(
    history: &mut History,
    key: &str,
    slot: usize,
    invoke: &Event,
    event: &Event,
) -> Result<(), String> {
    if event.f != invoke.f || event.key.as_deref().is_some_and(|k| k != key) {
        return Err(format!("{} completes a {} of key {key:?}", event.f, invoke.f));
    }
    if event.time < invoke.time {
        return Err(format!("completes at {} ns, before its invoke at {} ns", event.time, invoke.time));
    }
    if event.f != "read" && !event.value.is_null() && event.value != invoke.value {
        return Err(format!("completes with {}, was invoked with {}", event.value, invoke.value));
    }
    let of_key = history.keys.get_mut(key).ok_or("its key is gone")?;
    let operation = &mut of_key.operations[slot];
    operation.complete = Some(event.time);
    operation.ended = Some(event.kind);
    operation.outcome = match event.kind {
        EventType::Ok => Outcome::Ok,
        EventType::Fail => Outcome::Fail,
        EventType::Info | EventType::Invoke => Outcome::Info,
    };
    if event.kind == EventType::Ok && event.f == "read" {
        operation.action = action(of_key.model, event, None)?;
    }
    if event.kind == EventType::Fail
        && event.error.as_deref() == Some("cas_mismatch")
        && let Some(actual) = &event.actual
    {
        operation.action = action(of_key.model, invoke, Some(actual))?;
        operation.outcome = Outcome::Ok;
    }
    if event.node.is_some() {
        operation.node = event.node.clone();
    }
    operation.position = event.position;
    Ok(())
}

/// The action of an event, if its model has it and its value has the right shape.
fn action(model: ModelKind, event: &Event, actual: Option<&Json>) -> Result<Action, String> {
    let value =
        Value::from_json(&event.value).ok_or_else(|| format!("value {} is not one of a key", event.value))?;
    let single = |value: &Value| matches!(value, Value::Int(_) | Value::Text(_));
    let action = match (event.f.as_str(), &value) {
        ("read", _) => Action::Read(value),
        ("write", v) if single(v) => Action::Write(value),
        ("cas", Value::List(pair))
            if pair.len() == 2 && single(&pair[1]) && !matches!(pair[0], Value::List(_)) =>
        {
            let (from, to) = (pair[0].clone(), pair[1].clone());
            match actual
                .map(|json| Value::from_json(json).ok_or_else(|| format!("actual {json} is not a value")))
            {
                Some(actual) => Action::CasMismatch(from, to, actual?),
                None => Action::Cas(from, to),
            }
        }
        ("append", v) if single(v) => Action::Append(value),
        ("add", v) if single(v) => Action::Add(value),
        ("write" | "cas" | "append" | "add", _) => return Err(format!("{} of {}", event.f, event.value)),
        (other, _) => return Err(format!("there is no operation {other:?}")),
    };
    model
        .admits(&action)
        .then_some(action)
        .ok_or_else(|| format!("{} {} is not an operation of a {} key", event.f, event.value, model.name()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"mix","models":{"r":"cas-register","a":"list-append","ra":"set"},"clock":"monotonic-ns","nodes":["n1"]}"#;

    fn history(lines: &[&str]) -> Result<History, String> {
        let mut text = HEADER.to_owned() + "\n";
        for (i, line) in lines.iter().enumerate() {
            text += &format!("{{\"index\":{i},{line}}}\n");
        }
        parse(Path::new("h"), text.as_bytes()).and_then(|l| pair(&l)).map_err(|e| e.to_string())
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
        let read = |text: &str| parse(Path::new("h"), text.as_bytes()).map_err(|e| e.to_string());
        let line = r#"{"index":0,"time":1,"process":1,"type":"invoke","f":"read","key":"r1"}"#;
        let whole = format!("{HEADER}\n{line}\n");
        assert!(!read(&whole).unwrap().torn);
        let torn = read(&whole[..whole.len() - 9]).unwrap();
        assert!(torn.torn && torn.events.is_empty());
        let unended = read(&whole[..whole.len() - 1]).unwrap();
        assert!(!unended.torn && unended.events.len() == 1, "only its newline is missing");
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
