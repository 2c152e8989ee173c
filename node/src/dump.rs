//! Prints the state that a snapshot, or a whole data directory, adds up to: `node dump`. Takes no lock and writes nothing.
//! Whether the files are whole is left to [`crate::inspect`]; here the first thing that is not ends it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;

use crate::hash::hash;
use crate::kv::Store;
use crate::kv::command::Command;
use crate::raft::types::{Index, Payload};
use crate::storage::disk::Disk;
use crate::storage::{RealDisk, SnapshotDir, StorageError, open, recovery, snapshot_file};

/// Of a state that is written, at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Why there is no state to print.
#[derive(Debug, Error)]
pub enum DumpError {
    /// The files are not to be read, or refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// They do not hold a state.
    #[error("{0}")]
    NoState(String),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// What was printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// `whitewater-dump`.
    pub format: &'static str,
    /// Version of this JSON.
    pub version: &'static str,
    /// The last entry that is in the state.
    pub index: Index,
    /// Up to here it comes from a snapshot, and is committed; what comes after it, out of the log, may not be.
    pub snapshot_index: Index,
    /// How many keys there are.
    pub keys: usize,
    /// XXH3-64 of the whole state as a snapshot has it, sessions and all, 16 hex digits: nodes that applied the same have the same.
    pub hash: String,
}

/// Bytes in JSON: text if they are, hex digits if they are not.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Hex { hex: String },
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Bytes<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text),
            Err(_) => Bytes::Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }
}

#[derive(Serialize)]
struct Pair<'a> {
    key: Bytes<'a>,
    value: Bytes<'a>,
}

/// Writes every key and its value in the order of keys, one pair a line: both escaped and with a tab between, or as JSON
/// after a line with the [`Dump`]. The state of a directory is that after the entry `until`, or after its last one.
///
/// # Errors
/// When there is no such state, or `out` cannot be written.
pub fn run_dump(
    path: &Path,
    json: bool,
    until: Option<Index>,
    out: &mut dyn Write,
) -> Result<Dump, DumpError> {
    let (mut store, snapshot_index) =
        if path.is_file() { of_snapshot(path)? } else { of_directory(path, until)? };
    let dump = Dump {
        format: "whitewater-dump",
        version: "1.0",
        index: store.last_applied(),
        snapshot_index,
        keys: store.len(),
        hash: format!("{:016x}", hash_of(&mut store)),
    };
    if json {
        serde_json::to_writer(&mut *out, &dump).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    for (key, value) in store.pairs() {
        if json {
            serde_json::to_writer(&mut *out, &Pair { key: key.into(), value: value.into() })
                .map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}\t{}", key.escape_ascii(), value.escape_ascii())?;
        }
    }
    Ok(dump)
}

/// Of the bytes that a snapshot of the state would hold.
fn hash_of(store: &mut Store) -> u64 {
    store.freeze();
    let mut bytes = Vec::new();
    while let Some(piece) = store.thaw(PIECE_BYTES) {
        bytes.extend(piece);
    }
    hash(0, &bytes)
}

fn of_snapshot(path: &Path) -> Result<(Store, Index), DumpError> {
    let bytes = RealDisk.read(path).map_err(StorageError::io("read", path))?;
    let image = snapshot_file::verify(&bytes, None)
        .map_err(|bad| DumpError::NoState(format!("{} holds no state: {bad}", path.display())))?;
    let store = decode(&image.state(), path)?;
    let index = store.last_applied();
    Ok((store, index))
}

fn of_directory(dir: &Path, until: Option<Index>) -> Result<(Store, Index), DumpError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let files = recovery::read(disk.as_ref(), dir)?;
    let Some(header) = files.segments.iter().find_map(|file| file.header) else {
        return Err(DumpError::NoState(format!(
            "{} is not a data directory: there is no log in it",
            dir.display()
        )));
    };
    let mut replay = recovery::replay(&files, None);
    if let Some(damage) = replay.damage.take() {
        return Err(damage.into());
    }
    let snapshots = SnapshotDir::new(disk, dir, &header.identity);
    let found = open::find_snapshot(&snapshots, &mut replay)?;
    if found.lost {
        return Err(DumpError::NoState(found.notes.join("; ")));
    }
    let mut store = match &found.snapshot {
        Some((_, image)) => match snapshot_file::verify(image, None) {
            Ok(image) => decode(&image.state(), dir)?,
            Err(bad) => return Err(DumpError::NoState(bad.to_string())),
        },
        None => Store::default(),
    };
    let snapshot_index = store.last_applied();
    let until = until.unwrap_or(Index::MAX);
    if until < snapshot_index {
        return Err(DumpError::NoState(format!(
            "the state at index {until} is gone: the oldest there is, is that of the snapshot at index {snapshot_index}"
        )));
    }
    for entry in std::mem::take(&mut replay.slots).into_entries() {
        if entry.id.index > until {
            break;
        }
        if entry.id.index == store.last_applied() + 1 {
            let command = match &entry.payload {
                Payload::Noop | Payload::Membership(_) => None,
                Payload::Command(bytes) => Command::decode(bytes).ok(),
            };
            store.apply(entry.id.index, command.as_ref());
        }
    }
    Ok((store, snapshot_index))
}

fn decode(state: &[u8], path: &Path) -> Result<Store, DumpError> {
    let broken = |_| DumpError::NoState(format!("the state in {} does not decode", path.display()));
    Store::decode(state).map_err(broken)
}
