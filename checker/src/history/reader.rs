//! Reads a history file line by line, plain or gzip, and says of every refused line where it is and why.
//! What a line says is told by `scan` where it can, whether the lines make sense together by `pair`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::ahead::Ahead;
use super::pair::Pairing;
use super::{Event, FORMAT, Header, History, VERSION, scan};
use crate::deadline::Deadline;

/// Bytes of a file that is read as it is wanted.
const SHORT: u64 = 1 << 18;

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

/// What a file holds, through gzip if it begins like it. A truncated gzip yields what it holds.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // What fits into one block is not read ahead: a thread would cost more than it saves. A pipe has no length.
    let short = file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= SHORT);
    let mut plain = BufReader::with_capacity(1 << 16, file);
    if plain.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(Ahead::of(Untorn(MultiGzDecoder::new(plain))).map_err(io)?));
    }
    if short {
        return Ok(Box::new(plain));
    }
    Ok(Box::new(Ahead::of(plain).map_err(io)?))
}

/// A stream that ends where it is torn.
struct Untorn<R>(R);

impl<R: Read> Read for Untorn<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

/// Reads a history file.
///
/// # Errors
/// The file cannot be read, its header is missing or of another major version, a line but the last is malformed, or a line
/// contradicts an earlier one.
pub fn read(path: &Path) -> Result<History, HistoryError> {
    parse(path, &mut open(path)?)
}

/// How much of a history is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Bytes of what was understood; deterministic.
    pub(crate) memory: u64,
    /// Outer net.
    pub(crate) deadline: Deadline,
}

impl Limit {
    /// All of it.
    pub(crate) const NONE: Limit = Limit { memory: u64::MAX, deadline: Deadline::NEVER };

    /// What has run out after so many lines.
    fn over(&self, lines: u64, bytes: u64) -> Option<&'static str> {
        if bytes.saturating_add(BUFFERS) > self.memory {
            return Some("memory");
        }
        let look = lines.is_multiple_of(CLOCK_LINES);
        (look && self.deadline.passed()).then_some("time")
    }
}

/// Bytes that were read ahead and not understood yet, at most.
const BUFFERS: u64 = 2 << 20;
/// Lines between two looks at the clock.
const CLOCK_LINES: u64 = 1024;

/// Reads a history line by line; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(path: &Path, source: &mut dyn BufRead) -> Result<History, HistoryError> {
    parse_within(path, source, &Limit::NONE)
}

/// Reads as much of a history as the limit allows, line by line.
///
/// # Errors
/// As [`read`].
pub(crate) fn parse_within(
    path: &Path,
    source: &mut dyn BufRead,
    limit: &Limit,
) -> Result<History, HistoryError> {
    let bad = |line: u64, reason: String| HistoryError::Line { path: path.to_owned(), line, reason };
    let mut line = Vec::new();
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    if source.read_until(b'\n', &mut line).map_err(io)? == 0 {
        return Err(bad(1, "empty file, a history begins with its header".into()));
    }
    let header: Header =
        serde_json::from_slice(&line).map_err(|e| bad(1, format!("not the header of a history ({e})")))?;
    let mut warnings = Vec::new();
    check_version(&header, &mut warnings).map_err(|reason| bad(1, reason))?;
    if header.clock != "monotonic-ns" {
        return Err(bad(1, format!("clock {:?}, this checker reads \"monotonic-ns\"", header.clock)));
    }
    let mut pairing = Pairing::new(path, header, warnings)?;
    let mut torn = false;
    for (number, index) in (2..).zip(0..) {
        let in_place = |found: u64| match found == index {
            true => Ok(()),
            false => Err(bad(number, format!("index {found} in the place of {index}"))),
        };
        if let Some(what) = limit.over(index, pairing.bytes()) {
            let unread = format!(
                "the {what} of the budget ended the reading in line {number}, with {} operations open: what follows was not judged, \
                 it may be with a larger --{what}",
                pairing.open(),
            );
            return Ok(History { unread: Some(unread), ..pairing.finish(false) });
        }
        // Most lines are common and whole in the buffer: no copy, no allocation.
        let buffer = source.fill_buf().map_err(io)?;
        if let Some((event, length)) = scan::event(buffer)
            && buffer[length - 1] == b'\n'
        {
            in_place(event.index)?;
            pairing.client(number, event)?;
            source.consume(length);
            continue;
        }
        line.clear();
        if source.read_until(b'\n', &mut line).map_err(io)? == 0 {
            break;
        }
        if let Some((event, _)) = scan::event(&line) {
            in_place(event.index)?;
            pairing.client(number, event)?;
            continue;
        }
        match serde_json::from_slice::<Event>(&line) {
            Ok(event) => {
                in_place(event.index)?;
                pairing.event(number, event)?;
            }
            Err(_) if line.last() != Some(&b'\n') => torn = true,
            Err(e) => return Err(bad(number, e.to_string())),
        }
    }
    Ok(pairing.finish(torn))
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
