//! Histories in the formats of others, told apart by their content and turned into ours. Time is the order of the lines where a
//! format has none of its own. Our own format is the reader's business.

mod budget;
mod edn;
mod export;
mod jepsen;
mod operations;

pub use export::{ExportError, Target, export};
pub(crate) use operations::{clients, read_all};

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::path::Path;

use crate::history::{
    self, ClientEvent, Clock, EventType, Header, History, HistoryError, Limit, Pairing, Value,
};
use crate::model::ModelKind;
use budget::{Budget, Ended, Scale};

/// A format of histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Ours.
    Whitewater,
    /// Jepsen's and Maelstrom's `history.edn`, Knossos' data, Porcupine's key-value texts; the same as JSON.
    Edn,
    /// Jepsen's logs, as of etcd in 2015, and its `history.txt`.
    #[value(alias = "etcd-log")]
    Log,
    /// The `operations.json` of etcd's robustness tests.
    Operations,
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

/// Bytes at the beginning of a file that tell its format.
const BEGINNING: usize = 1 << 14;

fn told_by_content(beginning: &[u8]) -> Format {
    let beginning = &beginning[..beginning.len().min(BEGINNING)];
    let text = String::from_utf8_lossy(beginning);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let of_log = words.next().is_some_and(|process| process == ":nemesis" || process.parse::<u64>().is_ok())
        && words.next().and_then(|word| word.strip_prefix(':')).and_then(kind).is_some();
    if of_log || (line.contains("jepsen") && !line.starts_with(['[', '(', '{', '#', ';'])) {
        return Format::Log;
    }
    // An object of JSON has a colon after a text.
    let object = text.trim_start_matches('[').trim_start().strip_prefix('{').map(str::trim_start);
    let name = object.and_then(|rest| rest.strip_prefix('"')).and_then(|rest| rest.split_once('"'));
    let json = name.is_some_and(|(_, rest)| {
        let spaced = rest.trim_start().strip_prefix(':');
        rest.starts_with(':') || spaced.is_some_and(|value| !value.starts_with(char::is_alphabetic))
    });
    let has = |name: &str| text.contains(&format!("\"{name}\""));
    match text.bytes().next() {
        Some(b'[' | b'{') if json && has("ClientId") && has("Input") => Format::Operations,
        Some(b'{') if json && (line.contains("\"format\"") || !(has("process") && has("type"))) => {
            Format::Whitewater
        }
        Some(b'[' | b'(' | b'{' | b';' | b'#' | b',') => Format::Edn,
        _ => Format::Whitewater,
    }
}

/// Reads a history in any format that this crate knows.
///
/// # Errors
/// The file cannot be read, is in no known format, or is not well-formed.
pub fn read(path: &Path, reading: &Reading) -> Result<History, HistoryError> {
    read_within(path, reading, &Limit::NONE)
}

/// What the maps of a file become: of each map its entries, what is told of it and, of every second, the operation.
const MAPS: Scale = Scale { byte: 2, word: 64, line: 0, map: 320 };
/// The same of the lines of a log.
const LINES: Scale = Scale { byte: 2, word: 64, line: 512, map: 64 };

/// The same, as much as the limit allows: of ours the beginning, of others nothing unless it is enough for all.
pub(crate) fn read_within(path: &Path, reading: &Reading, limit: &Limit) -> Result<History, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let mut source = history::open(path)?;
    let format = match reading.format {
        Some(format) => format,
        None => told_by_content(source.fill_buf().map_err(io)?),
    };
    let (foreign, scale): (Reader, Scale) = match format {
        Format::Whitewater => return history::parse_within(path, &mut source, limit),
        Format::Operations => return operations::read(path, limit),
        Format::Log => (jepsen::read_log, LINES),
        Format::Edn => (jepsen::read_maps, MAPS),
    };
    let mut budget = Budget::new(limit);
    let bytes = match budget.read(&mut source, scale).map_err(io)? {
        Ok(bytes) => bytes,
        Err(ended) => return Ok(unread(path, ended)),
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| HistoryError::Line {
        path: path.to_owned(),
        line: bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() as u64 + 1,
        reason: "not UTF-8 text".into(),
    })?;
    match foreign(path, text.trim_start_matches('\u{feff}'), reading, &budget)? {
        Ok(history) => Ok(history),
        Err(ended) => Ok(unread(path, ended)),
    }
}

/// Understands the text of a file, unless the time for it runs out.
type Reader = fn(&Path, &str, &Reading, &Budget) -> Result<Result<History, Ended>, HistoryError>;

/// A history of which nothing is judged, because the budget ended its reading.
fn unread(path: &Path, Ended { bound, line }: Ended) -> History {
    let mut history = Foreign::new(path, ModelKind::CasRegister).finish();
    history.unread = Some(format!(
        "the {bound} of the budget ended the reading of {} in line {line}: a file of this format is understood as a whole or not at all, \
         so nothing was judged; it may be with a larger --{bound}, or as what `checker export --to whitewater` makes of it",
        path.file_name().unwrap_or_default().to_string_lossy(),
    ));
    history
}

/// The header that a foreign history would have if it were ours.
fn header(model: ModelKind) -> Header {
    Header {
        format: history::FORMAT.into(),
        version: history::VERSION.into(),
        workload: "foreign".into(),
        models: BTreeMap::from([(String::new(), model.name().into())]),
        clock: "monotonic-ns".into(),
        nodes: Vec::new(),
    }
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
        let header = header(model);
        let models = vec![(String::new(), model)];
        let pairing = Pairing::with_models(path, header, models, Clock::Lines, Vec::new());
        Foreign { pairing, index: 0, time: 0, renamed: HashMap::new(), renames: 0 }
    }

    /// The next event is of the same moment as the one before.
    fn along(&mut self) {
        self.time = self.time.saturating_sub(1);
    }

    fn push(
        &mut self,
        line: u64,
        process: u64,
        kind: EventType,
        f: &str,
        key: &str,
        value: Value,
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
                value: Ok(value),
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
