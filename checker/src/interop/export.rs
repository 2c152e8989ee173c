//! Histories written down in our format, in EDN and in Porcupine's key-value texts, so that a recorded history can go to other tools
//! and come back with the same verdict. What a format cannot say is refused, never left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use serde_json::json;

use crate::history::{self, Action, EventType, History, KeyHistory, Micro, Operation, Outcome, Value};
use crate::model::ModelKind;

/// A format that histories are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Ours.
    Whitewater,
    /// Jepsen's and Knossos'; registers under independent keys.
    Edn,
    /// Porcupine's key-value texts.
    Porcupine,
}

/// Why a history was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The format has no words for it.
    #[error("{0}")]
    Unsaid(String),
    /// The output.
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
}

/// An invoke or a completion.
struct Line<'a> {
    time: u64,
    kind: EventType,
    process: u64,
    key: &'a str,
    model: ModelKind,
    operation: &'a Operation,
}

/// Writes `history`, or one key of it.
///
/// # Errors
/// The format cannot say it, or the output cannot be written.
pub fn export(
    history: &History,
    target: Target,
    key: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let keys: Vec<(&String, &KeyHistory)> =
        history.keys.iter().filter(|(name, _)| key.is_none_or(|key| *name == key)).collect();
    if let (Some(key), true) = (key, keys.is_empty()) {
        return Err(ExportError::Unsaid(format!("there is no key {key:?}")));
    }
    let lines = lines(&keys);
    match target {
        Target::Whitewater => ours(history, &keys, &lines, out)?,
        Target::Edn => edn(&one_model(&keys)?, &lines, out)?,
        Target::Porcupine => texts(&lines, out)?,
    }
    Ok(out.flush()?)
}

/// All lines in the order of their times. Equal times are concurrent, so that invokes come first; a process that would have two
/// operations open by that goes on under another number.
fn lines<'a>(keys: &[(&'a String, &'a KeyHistory)]) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for (key, of_key) in keys {
        for operation in &of_key.operations {
            let line = |time, kind| Line {
                time,
                kind,
                process: operation.process,
                key,
                model: of_key.model,
                operation,
            };
            lines.push(line(operation.invoke, EventType::Invoke));
            let kind = match operation.outcome {
                Outcome::Ok => EventType::Ok,
                Outcome::Fail => EventType::Fail,
                Outcome::Info => EventType::Info,
            };
            lines.extend(operation.complete.map(|time| line(time, kind)));
        }
    }
    lines.sort_by_key(|line| (line.time, line.kind != EventType::Invoke, line.operation.index));
    let mut fresh = keys.iter().flat_map(|(_, k)| &k.operations).map(|o| o.process).max().unwrap_or(0);
    if fresh >= u64::MAX / 2 {
        // Foreign processes that went on after an info count down from the top.
        let below = keys.iter().flat_map(|(_, k)| &k.operations).map(|o| o.process);
        fresh = below.filter(|process| *process < u64::MAX / 2).max().unwrap_or(0);
    }
    let (mut busy, mut retired): (HashSet<u64>, HashSet<u64>) = Default::default();
    let mut number: HashMap<u64, u64> = HashMap::new();
    for line in &mut lines {
        if line.kind == EventType::Invoke {
            let name = line.process;
            if name >= u64::MAX / 2 || busy.contains(&name) || retired.contains(&name) {
                fresh += 1;
                line.process = fresh;
            }
            busy.insert(line.process);
            number.insert(line.operation.index, line.process);
        } else {
            line.process = number[&line.operation.index];
            busy.remove(&line.process);
            if line.kind == EventType::Info {
                retired.insert(line.process);
            }
        }
    }
    lines
}

fn ours(
    history: &History,
    keys: &[(&String, &KeyHistory)],
    lines: &[Line<'_>],
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let mut header = history.header.clone();
    header.models = keys.iter().map(|(key, of_key)| ((*key).clone(), of_key.model.full_name())).collect();
    writeln!(out, "{}", json!(header))?;
    let mut nemesis = history.nemesis.iter().peekable();
    let mut index = 0u64;
    let mut faults = |until: Option<u64>, index: &mut u64, out: &mut dyn Write| -> io::Result<()> {
        while let Some(line) = nemesis.next_if(|line| until.is_none_or(|time| line.time <= time)) {
            let event = json!({"index": *index, "time": line.time, "process": "nemesis", "type": "info", "f": line.f, "value": line.value});
            writeln!(out, "{event}")?;
            *index += 1;
        }
        Ok(())
    };
    for line in lines {
        faults(Some(line.time), &mut index, out)?;
        let operation = line.operation;
        let refused = matches!(operation.action, Action::CasMismatch(..));
        let result = line.kind == EventType::Ok && !refused;
        let value = if result { operation.action.result() } else { operation.action.argument() };
        let event = history::Event {
            index,
            time: line.time,
            process: history::Process::Client(line.process),
            kind: if refused && line.kind == EventType::Ok { EventType::Fail } else { line.kind },
            f: operation.action.function().to_owned(),
            key: Some(line.key.to_owned()),
            value: value.to_json(),
            error: match line.kind {
                EventType::Ok if refused => Some("cas_mismatch".to_owned()),
                EventType::Info => Some("unknown".to_owned()),
                _ => None,
            },
            actual: match &operation.action {
                Action::CasMismatch(_, _, actual) if line.kind == EventType::Ok => Some(actual.to_json()),
                _ => None,
            },
            node: operation.node.as_deref().map(str::to_owned),
            client: None,
            position: operation.position.filter(|_| line.kind != EventType::Invoke),
        };
        writeln!(out, "{}", json!(event))?;
        index += 1;
    }
    faults(None, &mut index, out)?;
    Ok(())
}

/// The model of all keys.
fn one_model(keys: &[(&String, &KeyHistory)]) -> Result<ModelKind, ExportError> {
    let models: BTreeMap<String, ModelKind> =
        keys.iter().map(|(_, of_key)| (of_key.model.full_name(), of_key.model)).collect();
    match models.into_values().collect::<Vec<_>>()[..] {
        [model @ (ModelKind::RegisterFrom(n) | ModelKind::TxnFrom(n))] if n == 0 && keys.len() == 1 => {
            Ok(model)
        }
        [ModelKind::RegisterFrom(_) | ModelKind::TxnFrom(_)] => {
            Err(ExportError::Unsaid("such a file holds one register, and it begins with 0".into()))
        }
        [model] => Ok(model),
        [] => Ok(ModelKind::CasRegister),
        _ => Err(ExportError::Unsaid("such a file has keys of one model; choose a key with --key".into())),
    }
}

fn edn(model: &ModelKind, lines: &[Line<'_>], out: &mut dyn Write) -> Result<(), ExportError> {
    let independent = *model == ModelKind::CasRegister;
    writeln!(out, "[")?;
    for (index, line) in lines.iter().enumerate() {
        let action = &line.operation.action;
        // Only ours says what a refused compare-and-set saw; it was judged as a read of that.
        let (f, value) = match (action, line.kind) {
            (Action::CasMismatch(_, _, actual), EventType::Ok) => ("read", actual.clone()),
            (Action::CasMismatch(..), _) => ("read", Value::Nil),
            (Action::Write(Value::Nil), _) => {
                return Err(ExportError::Unsaid("such a file has no word for delete".into()));
            }
            (action, EventType::Ok) => (action.function(), action.result()),
            (action, _) => (action.function(), action.argument()),
        };
        let f = match (line.model, f) {
            (ModelKind::Kv, "read") => "get",
            (ModelKind::Kv, "write") => "put",
            (_, f) => f,
        };
        let text = match (action, line.kind) {
            (Action::Txn(steps), kind) => transaction(steps, kind == EventType::Ok, *model),
            _ => edn_value(&value),
        };
        let text = if independent { format!("[{} {text}]", edn_text(line.key)) } else { text };
        let key = if independent { String::new() } else { format!(", :key {}", edn_text(line.key)) };
        writeln!(
            out,
            " {{:index {index}, :time {}, :process {}, :type :{}, :f :{f}{key}, :value {text}}}",
            line.time,
            line.process,
            kind(line.kind),
        )?;
    }
    writeln!(out, "]")?;
    Ok(())
}

fn kind(kind: EventType) -> &'static str {
    match kind {
        EventType::Invoke => "invoke",
        EventType::Ok => "ok",
        EventType::Fail => "fail",
        EventType::Info => "info",
    }
}

fn transaction(steps: &[Micro], told: bool, model: ModelKind) -> String {
    let word = |f: &str| match (model, f) {
        (ModelKind::TxnFrom(_), "r") => ":read",
        (ModelKind::TxnFrom(_), "w") => ":write",
        (_, "r") => ":r",
        (_, "w") => ":w",
        _ => ":append",
    };
    let step = |step: &Micro| {
        let (f, value) = match step {
            Micro::Read(_, Some(value)) if told => ("r", edn_value(value)),
            Micro::Read(..) => ("r", "nil".to_owned()),
            Micro::Write(_, value) => ("w", edn_value(value)),
            Micro::Append(_, value) => ("append", edn_value(value)),
        };
        format!("[{} {} {value}]", word(f), edn_text(step.key()))
    };
    format!("[{}]", steps.iter().map(step).collect::<Vec<_>>().join(" "))
}

fn edn_value(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => edn_text(text),
        Value::List(items) => format!("[{}]", items.iter().map(edn_value).collect::<Vec<_>>().join(" ")),
    }
}

/// A text in quotes, as JSON writes it but for what EDN has no escape for.
fn edn_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn texts(lines: &[Line<'_>], out: &mut dyn Write) -> Result<(), ExportError> {
    let text = |value: &Value| match value {
        Value::Text(text) => Ok(edn_text(text)),
        Value::Int(n) => Ok(edn_text(&n.to_string())),
        Value::Nil => Ok("\"\"".to_owned()),
        Value::List(_) => Err(ExportError::Unsaid("such a file holds texts, no lists".into())),
    };
    for line in lines {
        if !matches!(line.model, ModelKind::Kv | ModelKind::CasRegister) {
            let reason = format!("such a file holds texts, no {}", line.model.name());
            return Err(ExportError::Unsaid(reason));
        }
        let action = &line.operation.action;
        let (f, value) = match action {
            Action::Read(_) if line.kind != EventType::Ok => ("get", "nil".to_owned()),
            Action::Read(value) => ("get", text(value)?),
            Action::CasMismatch(_, _, value) if line.kind == EventType::Ok => ("get", text(value)?),
            Action::CasMismatch(..) => ("get", "nil".to_owned()),
            Action::Write(value) => ("put", text(value)?),
            Action::Append(value) => ("append", text(value)?),
            other => {
                return Err(ExportError::Unsaid(format!("such a file has no word for {}", other.function())));
            }
        };
        writeln!(
            out,
            "{{:process {}, :type :{}, :f :{f}, :key {}, :value {value}}}",
            line.process,
            kind(line.kind),
            edn_text(line.key),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were() {
        assert_eq!(edn_text("a \"b\" \\ c\n"), "\"a \\\"b\\\" \\\\ c\\n\"");
        let value = Value::List([1.into(), Value::Text("x".into()), Value::Nil].into());
        assert_eq!(edn_value(&value), "[1 \"x\" nil]");
    }
}
