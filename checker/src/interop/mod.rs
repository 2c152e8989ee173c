//! Histories in the formats of others, told apart by their content and turned into ours. Time is the order of the lines.
//! Our own format is the reader's business.

mod edn;
mod etcd;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::history::{self, Clock, Event, EventType, Header, History, HistoryError, Lines, Process};
use crate::model::ModelKind;

/// Reads a history in any format that this crate knows.
///
/// # Errors
/// The file cannot be read, is in no known format, or is not well-formed.
pub fn read(path: &Path) -> Result<History, HistoryError> {
    let bytes = history::bytes(path)?;
    let text = || {
        std::str::from_utf8(&bytes).map_err(|e| HistoryError::Line {
            path: path.to_owned(),
            line: bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64 + 1,
            reason: "not UTF-8 text".into(),
        })
    };
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    match &bytes[start..] {
        [b'I', b'N', b'F', b'O', ..] => etcd::read(path, text()?),
        [b'[' | b'(' | b';', ..] | [b'{', b':', ..] => edn::read(path, text()?),
        _ => history::pair(&history::parse(path, &bytes)?),
    }
}

/// Events of a foreign history before they are paired.
struct Foreign {
    lines: Lines,
}

impl Foreign {
    fn new(path: &Path, model: ModelKind) -> Foreign {
        let header = Header {
            format: history::FORMAT.into(),
            version: history::VERSION.into(),
            workload: "foreign".into(),
            models: BTreeMap::from([(String::new(), model.name().into())]),
            clock: "monotonic-ns".into(),
            nodes: Vec::new(),
        };
        let lines = Lines {
            path: path.to_owned(),
            header,
            events: Vec::new(),
            numbers: Vec::new(),
            torn: false,
            warnings: Vec::new(),
        };
        Foreign { lines }
    }

    fn push(&mut self, line: u64, process: u64, kind: EventType, f: &str, key: &str, value: Json) {
        let index = self.lines.events.len() as u64;
        self.lines.numbers.push(line);
        self.lines.events.push(Event {
            index,
            time: line,
            process: Process::Client(process),
            kind,
            f: f.into(),
            key: Some(key.into()),
            value,
            error: None,
            actual: None,
            node: None,
            client: None,
            position: None,
        });
    }

    fn pair(self, model: ModelKind) -> Result<History, HistoryError> {
        let mut history = history::pair(&self.lines)?;
        history.clock = Clock::Lines;
        for of_key in history.keys.values_mut() {
            of_key.model = model;
            of_key.clock = Clock::Lines;
        }
        Ok(history)
    }
}

fn kind(name: &str) -> Option<EventType> {
    Some(match name {
        "invoke" => EventType::Invoke,
        "ok" => EventType::Ok,
        "fail" => EventType::Fail,
        "info" => EventType::Info,
        _ => return None,
    })
}
