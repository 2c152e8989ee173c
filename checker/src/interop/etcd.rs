//! The logs of Jepsen's etcd test of 2015, as `linearizability-checker` and Porcupine ship them: one register, absent at first.
//! `INFO  jepsen.util - 4   :invoke :cas   [2 4]`, columns separated by any white space.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Foreign, NilRead, Reading, kind};
use crate::history::{EventType, History, HistoryError};
use crate::model::ModelKind;

pub(super) fn read(path: &Path, text: &str, reading: &Reading) -> Result<History, HistoryError> {
    let model = match reading.initial {
        Some(Some(n)) => ModelKind::RegisterFrom(n),
        Some(None) | None => ModelKind::CasRegister,
    };
    let mut foreign = Foreign::new(path, model);
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        let bad =
            |reason: &str| HistoryError::Line { path: path.to_owned(), line: number, reason: reason.into() };
        let mut words = line.split_whitespace().skip_while(|word| *word != "-").skip(1);
        let process =
            words.next().and_then(|w| w.parse().ok()).ok_or_else(|| bad("no process after \"-\""))?;
        let mut name = || words.next().and_then(|word| word.strip_prefix(':'));
        let mut event = name().and_then(kind).ok_or_else(|| bad("none of :invoke, :ok, :fail, :info"))?;
        let f = name().ok_or_else(|| bad("no function"))?;
        let value: String = words.collect::<Vec<_>>().join(" ");
        if (f, event, value.as_str()) == ("read", EventType::Ok, "nil")
            && reading.nil_read == Some(NilRead::Anything)
        {
            event = EventType::Fail;
        }
        let value = match value.as_str() {
            "nil" | "" => Json::Null,
            // Only a completion can time out; that its value is the one of its invoke is known.
            ":timed-out" if event != EventType::Invoke => Json::Null,
            pair if pair.starts_with('[') && pair.ends_with(']') => {
                let numbers = pair[1..pair.len() - 1].split(' ').map(str::parse::<i64>);
                json!(numbers.collect::<Result<Vec<_>, _>>().map_err(|_| bad("a pair of what is no number"))?)
            }
            number => json!(number.parse::<i64>().map_err(|_| bad("a value that is no number"))?),
        };
        foreign.push(number, process, event, f, "register", value)?;
    }
    Ok(foreign.finish())
}
