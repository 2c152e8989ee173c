//! What a data directory means after a failure: the state that its records add up to, or the reason to refuse it.
//! It only reads. What it finds torn, [`super::wal`] repairs; what it finds, [`crate::inspect`] prints.
//!
//! | what recovery sees | what it says |
//! |---|---|
//! | records, then zeros or the end of the file, in the newest segment | intact |
//! | a gap in the newest segment, in the last batch that was written | torn tail: the batch was never acknowledged as a whole; cut it off |
//! | a gap before a record that was written when the gap's records were already durable | corrupt |
//! | a gap in any segment but the newest | corrupt: each was synced before the next was made |
//! | no whole header in the newest segment, and no byte after it | torn at its creation: remove it |
//! | no whole header in any other segment | corrupt |
//! | a segment missing from the sequence, an lsn or an index missing | corrupt |
//! | another cluster, node or directory; another format version | foreign; other version |

use std::path::{Path, PathBuf};

use crate::raft::types::{Entry, HardState, Incarnation, Index, LogId, Lsn, Record, SnapshotMark};
use crate::storage::disk::Disk;
use crate::storage::segment::{self, Header, Piece};
use crate::storage::{Identity, StorageError};

/// What a node knows again after it opened its directory. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot to go on from, and where the log begins; `None` if no record says it: then at index 1.
    pub mark: Option<SnapshotMark>,
    /// The log, from the entry after the mark's `base`.
    pub entries: Vec<Entry>,
    /// Which opening of the directory this is, counted from 1.
    pub incarnation: Incarnation,
    /// Drawn when the directory was made.
    pub directory_id: u64,
    /// The last record. The caller's next one has the lsn after it.
    pub last_lsn: Lsn,
    /// What was repaired, one sentence each, for the node's stderr.
    pub notes: Vec<String>,
}

/// A segment file as it was read.
#[derive(Debug)]
pub struct SegmentFile {
    /// Its path.
    pub path: PathBuf,
    /// The sequence in its name.
    pub sequence: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its header, if that is whole.
    pub header: Option<Header>,
    /// Its records and gaps, if it has a header of our version.
    pub pieces: Vec<Piece>,
}

/// Where the log ends, in the newest segment that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment.
    pub header: Header,
    /// Length of its file in bytes.
    pub file_bytes: u64,
    /// Where the next record goes.
    pub end: u64,
    /// There is something after `end` which must go before anything may be appended.
    pub torn: bool,
    /// From here on no later record proves that the bytes were ever synced.
    pub unproven: u64,
}

/// What the records of a directory add up to.
#[derive(Debug, Default)]
pub struct Replay {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot mark.
    pub mark: Option<SnapshotMark>,
    /// The log, from the entry after the mark's `base`.
    pub entries: Vec<Entry>,
    /// The latest `Boot`, 0 if there is none.
    pub incarnation: Incarnation,
    /// The last record, 0 if there is none.
    pub last_lsn: Lsn,
    /// Where the log ends; `None` if there is no segment that counts.
    pub tail: Option<Tail>,
    /// A segment that was being created when the node stopped, to be removed.
    pub unfinished: Option<PathBuf>,
    /// What is torn, one sentence each.
    pub notes: Vec<String>,
    /// Why the directory must be refused. The rest is then the state up to that point.
    pub damage: Option<StorageError>,
}

/// Reads every segment of `dir`, oldest first.
///
/// # Errors
/// Those of the operating system, with the path.
pub fn read_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentFile>, StorageError> {
    let names = disk.list(dir).map_err(StorageError::io("list", dir))?;
    let mut files = Vec::new();
    for name in names {
        let Some(sequence) = segment::parse_file_name(&name) else { continue };
        let path = dir.join(&name);
        let bytes = disk.read(&path).map_err(StorageError::io("read", &path))?;
        let header = Header::decode(&bytes);
        let pieces = match &header {
            Some(header) if header.version == segment::VERSION => segment::scan(header, &bytes),
            _ => Vec::new(),
        };
        files.push(SegmentFile { path, sequence, bytes, header, pieces });
    }
    Ok(files)
}

/// Adds up the records of `files`, up to the first damage. Whose they should be is checked if `identity` says it.
pub fn replay(files: &[SegmentFile], identity: Option<&Identity>) -> Replay {
    let mut replay = Replay::default();
    if let Err(damage) = replay.segments(files, identity) {
        replay.damage = Some(damage);
    }
    replay
}

impl Replay {
    fn segments(&mut self, files: &[SegmentFile], identity: Option<&Identity>) -> Result<(), StorageError> {
        for (position, file) in files.iter().enumerate() {
            let newest = position + 1 == files.len();
            let expected = position as u64 + 1;
            if file.sequence != expected {
                let missing = file.path.with_file_name(segment::file_name(expected));
                return Err(corrupt(
                    &missing,
                    0,
                    format!("the segment is missing, though {} is there", name(file)),
                ));
            }
            let Some(header) = file.header else {
                let empty = file.bytes.iter().skip(segment::HEADER_BYTES).all(|&byte| byte == 0);
                if newest && empty {
                    self.notes.push(format!(
                        "{} was being created when the node stopped: there is nothing in it",
                        name(file)
                    ));
                    self.unfinished = Some(file.path.clone());
                    return Ok(());
                }
                return Err(corrupt(&file.path, 0, "no valid header at the start of a segment".to_owned()));
            };
            self.check_header(file, &header, identity)?;
            self.records(file, header, newest)?;
        }
        Ok(())
    }

    fn check_header(
        &self,
        file: &SegmentFile,
        header: &Header,
        identity: Option<&Identity>,
    ) -> Result<(), StorageError> {
        if header.version != segment::VERSION {
            let (found, supported) = (header.version, segment::VERSION);
            return Err(StorageError::Version { file: file.path.clone(), found, supported });
        }
        let first = self.tail.map(|tail| tail.header);
        if let Some(expected) = identity.copied().or(first.map(|header| header.identity))
            && expected != header.identity
        {
            let (found, expected) = (owner(&header.identity), owner(&expected));
            return Err(StorageError::Foreign { file: file.path.clone(), found, expected });
        }
        if let Some(first) = first
            && first.directory_id != header.directory_id
        {
            let found = format!("directory {:016x}", header.directory_id);
            let expected = format!("directory {:016x} as the segments before it", first.directory_id);
            return Err(StorageError::Foreign { file: file.path.clone(), found, expected });
        }
        if header.sequence != file.sequence {
            let detail = format!("the header says segment {}, the name {}", header.sequence, file.sequence);
            return Err(corrupt(&file.path, 0, detail));
        }
        if header.first_lsn != self.last_lsn + 1 {
            let detail = format!(
                "the segment starts at lsn {}, but the records before it end at lsn {}",
                header.first_lsn, self.last_lsn
            );
            return Err(corrupt(&file.path, 0, detail));
        }
        Ok(())
    }

    fn records(&mut self, file: &SegmentFile, header: Header, newest: bool) -> Result<(), StorageError> {
        let start = segment::HEADER_BYTES as u64;
        let mut tail =
            Tail { header, file_bytes: file.bytes.len() as u64, end: start, torn: false, unproven: 0 };
        // Where the header and each record end: a record proves that those up to its `durable_lsn` were synced.
        let mut ends = vec![start];
        for (position, piece) in file.pieces.iter().enumerate() {
            match piece {
                Piece::Record { offset, frame } => {
                    let expected = self.last_lsn + 1;
                    if frame.lsn != expected {
                        let detail = format!("a record with lsn {}, expected lsn {expected}", frame.lsn);
                        return Err(corrupt(&file.path, *offset, detail));
                    }
                    let record = frame.record().map_err(|detail| corrupt(&file.path, *offset, detail))?;
                    self.apply(record).map_err(|detail| corrupt(&file.path, *offset, detail))?;
                    self.last_lsn = frame.lsn;
                    tail.end = offset + frame.encoded_bytes();
                    ends.push(tail.end);
                    let proven = frame.durable_lsn.checked_sub(header.first_lsn - 1);
                    if let Some(end) = proven.and_then(|records| ends.get(records as usize)) {
                        tail.unproven = tail.unproven.max(*end);
                    }
                }
                Piece::Gap { offset, bytes, reason } => {
                    let expected = self.last_lsn + 1;
                    let later = file.pieces[position..].iter().filter_map(Piece::frame);
                    if let Some(proof) = later.clone().find(|frame| frame.durable_lsn >= expected) {
                        let detail = format!(
                            "{reason}; expected the record with lsn {expected}, which was durable before lsn {} was written after it",
                            proof.lsn
                        );
                        return Err(corrupt(&file.path, *offset, detail));
                    }
                    if !newest {
                        let detail =
                            format!("{reason}, and a later segment exists; expected lsn {expected} or zeros");
                        return Err(corrupt(&file.path, *offset, detail));
                    }
                    self.notes.push(format!(
                        "{} has a torn tail at byte {offset}: {reason} ({bytes} bytes, {} later records of the same batch); the log ends at lsn {}",
                        name(file),
                        later.count(),
                        self.last_lsn
                    ));
                    tail.end = *offset;
                    tail.torn = true;
                    break;
                }
            }
        }
        self.tail = Some(tail);
        Ok(())
    }

    fn apply(&mut self, record: Record) -> Result<(), String> {
        let base = self.mark.as_ref().map_or(LogId::default(), |mark| mark.base);
        let last_index = base.index + self.entries.len() as Index;
        match record {
            Record::Boot { incarnation } => self.incarnation = incarnation,
            Record::HardState(hard_state) => self.hard_state = hard_state,
            Record::Truncate { last_index: kept } if kept > last_index => {
                return Err(format!(
                    "a truncation after index {kept}, but the log ends at index {last_index}"
                ));
            }
            Record::Truncate { last_index: kept } if kept < base.index => {
                return Err(format!("a truncation after index {kept}, but the log begins after {base}"));
            }
            Record::Truncate { last_index: kept } => self.entries.truncate((kept - base.index) as usize),
            Record::Entry(entry) if entry.id.index != last_index + 1 => {
                return Err(format!(
                    "an entry with index {}, expected index {}",
                    entry.id.index,
                    last_index + 1
                ));
            }
            Record::Entry(entry) => self.entries.push(entry),
            Record::Snapshot(mark) if mark.base.index < base.index => {
                return Err(format!(
                    "a log that begins after {}, but it began after {base} before",
                    mark.base
                ));
            }
            Record::Snapshot(mark) => {
                let dropped = (mark.base.index - base.index) as usize;
                let has_base = match dropped.checked_sub(1) {
                    None => mark.base == base,
                    Some(at) => self.entries.get(at).is_some_and(|entry| entry.id == mark.base),
                };
                if has_base {
                    self.entries.drain(..dropped);
                } else {
                    self.entries.clear();
                }
                self.mark = Some(mark);
            }
        }
        Ok(())
    }
}

fn corrupt(file: &Path, offset: u64, detail: String) -> StorageError {
    StorageError::Corrupt { file: file.to_owned(), offset, detail }
}

fn owner(identity: &Identity) -> String {
    format!("node {} of cluster {:016x}", identity.node_id, identity.cluster_id)
}

fn name(file: &SegmentFile) -> String {
    segment::file_name(file.sequence)
}
