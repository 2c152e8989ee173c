//! Reads a history file line by line, plain or gzip, and says of every refused line where it is and why.
//! Whether the lines make sense together is `pair`'s business.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{Event, FORMAT, Header, VERSION};

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file itself.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line, alone or against an earlier one.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The lines of a history, each with what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// Where they came from, for messages.
    pub path: PathBuf,
    /// The first line.
    pub header: Header,
    /// The rest.
    pub events: Vec<Event>,
    /// The line in the file of each event, counted from 1.
    pub numbers: Vec<u64>,
    /// Whether the last line was cut off in the middle, and left out.
    pub torn: bool,
    /// What did not stop the reading.
    pub warnings: Vec<String>,
}

impl Lines {
    /// The line in the file of the event at `position` in `events`.
    pub fn number(&self, position: usize) -> u64 {
        self.numbers.get(position).copied().unwrap_or(0)
    }

    /// The error about the event at `position` in `events`.
    pub fn error(&self, position: usize, reason: impl Into<String>) -> HistoryError {
        HistoryError::Line { path: self.path.clone(), line: self.number(position), reason: reason.into() }
    }
}

/// Reads the bytes of a file, through gzip if they begin like it. A truncated gzip yields what it holds.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let mut out = Vec::new();
    if reader.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]) {
        match MultiGzDecoder::new(reader).read_to_end(&mut out) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {}
            other => {
                other.map_err(io)?;
            }
        }
    } else {
        reader.read_to_end(&mut out).map_err(io)?;
    }
    Ok(out)
}

/// Reads a history file.
///
/// # Errors
/// The file cannot be read, its header is missing or of another major version, or a line but the last is malformed.
pub fn read(path: &Path) -> Result<Lines, HistoryError> {
    parse(path, &bytes(path)?)
}

/// Reads the bytes of a history; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Lines, HistoryError> {
    let bad =
        |line: usize, reason: String| HistoryError::Line { path: path.to_owned(), line: line as u64, reason };
    let mut lines = bytes.split_inclusive(|b| *b == b'\n').enumerate();
    let (_, first) =
        lines.next().ok_or_else(|| bad(1, "empty file, a history begins with its header".into()))?;
    let header: Header =
        serde_json::from_slice(first).map_err(|e| bad(1, format!("not the header of a history ({e})")))?;
    let mut warnings = Vec::new();
    check_version(&header, &mut warnings).map_err(|reason| bad(1, reason))?;
    if header.clock != "monotonic-ns" {
        return Err(bad(1, format!("clock {:?}, this checker reads \"monotonic-ns\"", header.clock)));
    }
    let mut events: Vec<Event> = Vec::new();
    let mut numbers = Vec::new();
    let mut torn = false;
    for (number, line) in lines {
        match serde_json::from_slice::<Event>(line) {
            Ok(event) if event.index != events.len() as u64 => {
                let reason = format!("index {} in the place of {}", event.index, events.len());
                return Err(bad(number + 1, reason));
            }
            Ok(event) => {
                events.push(event);
                numbers.push(number as u64 + 1);
            }
            Err(_) if line.last() != Some(&b'\n') => torn = true,
            Err(e) => return Err(bad(number + 1, e.to_string())),
        }
    }
    Ok(Lines { path: path.to_owned(), header, events, numbers, torn, warnings })
}

fn check_version(header: &Header, warnings: &mut Vec<String>) -> Result<(), String> {
    let split = |version: &str| -> Option<(u32, u32)> {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let (ours, theirs) = (split(VERSION), split(&header.version));
    match (ours, theirs) {
        _ if header.format != FORMAT => {
            Err(format!("format {:?}, this checker reads {FORMAT:?}", header.format))
        }
        (Some(ours), Some(theirs)) if theirs.0 == ours.0 => {
            if theirs.1 > ours.1 {
                warnings.push(format!("history of version {}, read as {VERSION}", header.version));
            }
            Ok(())
        }
        _ => Err(format!("version {:?}, this checker reads {VERSION}", header.version)),
    }
}
