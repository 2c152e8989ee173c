//! Histories in the formats of others, told apart by their content and turned into ours. Time is the order of the lines.
//! Our own format is the reader's business.

mod edn;
mod etcd;
mod export;

pub use export::{ExportError, Target, export};

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Value as Json;

use crate::history::{self, ClientEvent, Clock, EventType, Header, History, HistoryError, Pairing, Value};
use crate::model::ModelKind;

/// A format of histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Ours.
    Whitewater,
    /// Jepsen's and Maelstrom's `history.edn`, Knossos' data, Porcupine's key-value texts.
    Edn,
    /// Jepsen's etcd logs of 2015.
    EtcdLog,
}

/// What a read of nil says of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum NilRead {
    /// It was absent.
    Absent,
    /// Nothing: any value may have been there.
    Anything,
}

/// What the files of others leave open. Ours say it themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Told by content if it is not given.
    pub format: Option<Format>,
    /// Told by the functions of the operations if it is not given. Of EDN alone.
    pub model: Option<ModelKind>,
    /// What a register holds at first; the inner `None` is absent. If it is not given, each format has its own.
    pub initial: Option<Option<i64>>,
    /// Each format has its own if it is not given.
    pub nil_read: Option<NilRead>,
}

fn told_by_content(beginning: &[u8]) -> Format {
    let start = beginning.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    match &beginning[start..] {
        [b'I', b'N', b'F', b'O', ..] => Format::EtcdLog,
        [b'[' | b'(' | b';' | b'#', ..] | [b'{', b':', ..] => Format::Edn,
        // JSON has a colon after a text.
        [b'{', b'"', rest @ ..] => match rest.iter().position(|b| *b == b'"').map(|end| &rest[end + 1..]) {
            Some([b' ', next, ..]) if *next != b':' => Format::Edn,
            _ => Format::Whitewater,
        },
        _ => Format::Whitewater,
    }
}

/// Reads a history in any format that this crate knows.
///
/// # Errors
/// The file cannot be read, is in no known format, or is not well-formed.
pub fn read(path: &Path, reading: &Reading) -> Result<History, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let mut source = history::open(path)?;
    let format = match reading.format {
        Some(format) => format,
        None => told_by_content(source.fill_buf().map_err(io)?),
    };
    let foreign = match format {
        Format::Whitewater => return history::parse(path, &mut source),
        Format::EtcdLog => etcd::read,
        Format::Edn => edn::read,
    };
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).map_err(io)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| HistoryError::Line {
        path: path.to_owned(),
        line: bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64 + 1,
        reason: "not UTF-8 text".into(),
    })?;
    foreign(path, text, reading)
}

/// Events of a foreign history as they are paired; their order is their time.
struct Foreign {
    pairing: Pairing,
    index: u64,
    time: u64,
    /// The logical process behind each that goes on after an `info`, and how many there were.
    renamed: HashMap<u64, u64>,
    renames: u64,
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
        let models = vec![(String::new(), model)];
        let pairing = Pairing::with_models(path, header, models, Clock::Lines, Vec::new());
        Foreign { pairing, index: 0, time: 0, renamed: HashMap::new(), renames: 0 }
    }

    fn push(
        &mut self,
        line: u64,
        process: u64,
        kind: EventType,
        f: &str,
        key: &str,
        value: Json,
    ) -> Result<(), HistoryError> {
        self.index += 1;
        // Lines are the clock; what shares one still has an order.
        self.time = line.max(self.time + 1);
        let name = self.renamed.get(&process).copied().unwrap_or(process);
        if kind == EventType::Info {
            self.renames += 1;
            self.renamed.insert(process, u64::MAX - self.renames);
        }
        self.pairing.client(
            line,
            ClientEvent {
                index: self.index - 1,
                time: self.time,
                process: name,
                kind,
                f,
                key: Some(key),
                value: Value::from_json(&value).ok_or(&value),
                error: None,
                actual: None,
                node: None,
                position: None,
            },
        )
    }

    fn finish(self) -> History {
        self.pairing.finish(false)
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
