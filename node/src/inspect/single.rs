//! One file of a data directory by itself, wherever it lies: a segment, a snapshot, a superblock, a trace.
//! How files belong together is left to [`super`].

use std::io;
use std::path::Path;

use super::{Inspection, Snapshot, TRACE, Trace, Verdict, summarize, vote};
use crate::storage::disk::Disk;
use crate::storage::recovery::{Replay, SegmentFile};
use crate::storage::segment::{self, Header, Piece};
use crate::storage::superblock::{self, SLOT_BYTES, Superblock};
use crate::storage::{snapshot_dir, snapshot_file};
use crate::trace::TraceLine;

/// Reads one file, whose name says what it is.
pub(super) fn inspect(disk: &dyn Disk, path: &Path) -> Inspection {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let nothing = |verdict, reasons| Inspection { reasons, ..summarize(&[], Replay::empty(), verdict) };
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return nothing(Verdict::Unknown, vec![format!("cannot read {}: {error}", path.display())]);
        }
    };
    if let Some(sequence) = segment::parse_file_name(&name) {
        return inspect_segment(path, sequence, bytes);
    }
    if let Some(snapshot) = snapshot(disk, path) {
        let reasons: Vec<String> = snapshot.problem.iter().cloned().collect();
        let verdict = if reasons.is_empty() { Verdict::Intact } else { Verdict::Corrupt };
        return Inspection { snapshots: vec![snapshot], ..nothing(verdict, reasons) };
    }
    if name == superblock::FILE_NAME {
        let slots = bytes.chunks(SLOT_BYTES as usize).map(Superblock::decode);
        let bad = slots.enumerate().filter(|(_, slot)| slot.is_none());
        let reasons: Vec<String> =
            bad.map(|(at, _)| format!("slot {at} of the superblock is not whole")).collect();
        let latest = Superblock::latest(&bytes).map(|latest| self::superblock(&latest));
        let verdict = if latest.is_some() { Verdict::Intact } else { Verdict::Corrupt };
        return Inspection { superblock: latest, ..nothing(verdict, reasons) };
    }
    if name == TRACE {
        let trace = trace(disk, path);
        let reasons: Vec<String> = trace.problem.iter().cloned().collect();
        let verdict = match (reasons.is_empty(), trace.torn) {
            (false, _) => Verdict::Corrupt,
            (true, true) => Verdict::TornTail,
            (true, false) => Verdict::Intact,
        };
        return Inspection { trace: Some(trace), ..nothing(verdict, reasons) };
    }
    let reason = format!("{} has no name that a node gives to a file", path.display());
    nothing(Verdict::Unknown, vec![reason])
}

fn inspect_segment(path: &Path, sequence: u64, bytes: Vec<u8>) -> Inspection {
    let header = Header::decode(&bytes);
    let (verdict, reason) = match header {
        None => (Verdict::Corrupt, Some("no valid header at the start of a segment".to_owned())),
        Some(Header { version, .. }) if version != segment::VERSION => {
            let supported = segment::VERSION;
            (Verdict::Unknown, Some(format!("format version {version}; this node reads version {supported}")))
        }
        Some(_) => (Verdict::Intact, None),
    };
    let pieces = header.filter(|_| verdict == Verdict::Intact).map(|header| segment::scan(&header, &bytes));
    let pieces = pieces.unwrap_or_default();
    let gap = pieces.iter().position(|piece| matches!(piece, Piece::Gap { .. }));
    let (verdict, gap) = match gap {
        None => (verdict, None),
        // Whether more is missing, the segment after it and the superblock would say.
        Some(at) if at + 1 == pieces.len() && at > 0 => (Verdict::TornTail, Some(at)),
        Some(at) => (Verdict::Corrupt, Some(at)),
    };
    let gap = gap.and_then(|at| match &pieces[at] {
        Piece::Gap { offset, reason, .. } => Some(format!("byte {offset}: {reason}")),
        Piece::Record { .. } => None,
    });
    let file = SegmentFile { path: path.to_owned(), sequence, bytes, header, pieces };
    let last_lsn = file.pieces.iter().filter_map(Piece::frame).map(|frame| frame.lsn).max();
    let mut inspection = summarize(std::slice::from_ref(&file), Replay::empty(), verdict);
    inspection.last_lsn = last_lsn.unwrap_or(0);
    inspection.reasons.extend(reason.or(gap));
    inspection
}

/// The snapshot in a file with such a name; `None` for any other.
pub(super) fn snapshot(disk: &dyn Disk, path: &Path) -> Option<Snapshot> {
    let file = path.file_name()?.to_str()?.to_owned();
    let last = snapshot_dir::parse_file_name(&file)?;
    let mut snapshot = Snapshot {
        file,
        bytes: 0,
        last_index: last.index,
        last_term: last.term,
        chain: None,
        root: None,
        problem: None,
    };
    match disk.read(path) {
        Ok(bytes) => {
            snapshot.bytes = bytes.len() as u64;
            match snapshot_file::verify(&bytes, None) {
                Ok(image) if image.meta.last == last => {
                    snapshot.chain = Some(format!("{:016x}", image.meta.chain));
                    snapshot.root = Some(image.meta.root.iter().map(|byte| format!("{byte:02x}")).collect());
                }
                Ok(image) => {
                    snapshot.problem =
                        Some(format!("{} holds the snapshot at {}", snapshot.file, image.meta.last));
                }
                Err(bad) => snapshot.problem = Some(format!("{}: {bad}", snapshot.file)),
            }
        }
        // Removed since it was listed, by a node that is at work.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => snapshot.problem = Some(format!("cannot read {}: {error}", path.display())),
    }
    Some(snapshot)
}

/// What a superblock says, in words.
pub(super) fn superblock(found: &Superblock) -> String {
    let Superblock { incarnation, durable_lsn, last, hard_state, dirty, .. } = found;
    let (term, vote) = (hard_state.term, vote(hard_state.voted_for));
    let dirty = if *dirty { ", then a sync failed" } else { "" };
    format!(
        "lsn {durable_lsn} durable, last entry {last}, term {term}, {vote}, incarnation {incarnation}{dirty}"
    )
}

/// The trace in a file.
pub(super) fn trace(disk: &dyn Disk, path: &Path) -> Trace {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let problem = Some(format!("cannot read {}: {error}", path.display()));
            return Trace { lines: 0, torn: false, problem };
        }
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut trace = Trace { lines: 0, torn: whole < bytes.len(), problem: None };
    for line in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
        trace.lines += 1;
        if let (None, Err(error)) = (&trace.problem, serde_json::from_slice::<TraceLine>(line)) {
            trace.problem = Some(format!("{TRACE} line {}: {error}", trace.lines));
        }
    }
    trace
}
