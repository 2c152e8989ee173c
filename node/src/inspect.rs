//! Prints a data directory, or one file of it, and judges it: `node inspect` and `node verify`. Takes no lock and writes
//! nothing, so it works on a directory in use as on a damaged one. What bytes mean is left to
//! [`crate::storage::recovery`]; what state they add up to, to [`crate::dump`].

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::kv::command::Command;
use crate::raft::membership::Membership;
use crate::raft::types::{HardState, Index, Lsn, NodeId, Payload, Record, Recovering, SnapshotMark, Term};
use crate::storage::checkpoint::Checkpoint;
use crate::storage::disk::Disk;
use crate::storage::open;
use crate::storage::record::Content;
use crate::storage::recovery::{self, Files, Replay, SegmentFile};
use crate::storage::segment::{Header, Piece};
use crate::storage::superblock::Superblock;
use crate::storage::{RealDisk, SnapshotDir, StorageError};

mod single;

/// The name of the trace.
const TRACE: &str = "trace.jsonl";

/// How often a damaged directory is read before its damage counts. A node that appends while we read can make a batch
/// look missing, but not the same one twice.
const READS_MAX: usize = 5;
/// Bytes shown of a payload that is no command.
const PAYLOAD_SHOWN: usize = 64;

/// The way out when what is lost is not needed to begin with.
const RECOVERABLE: &str = "start the node beside its peers: it fetches from them what it lost, and until then elects nobody \
                           to whom that could be unknown";

/// What a data directory is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every record that was ever durable is there.
    Intact,
    /// The last batch was not written as a whole. The node cuts it off when it starts; nothing acknowledged is in it.
    TornTail,
    /// Something that was durable is not there, or not as it was written. The hint says whether the node starts.
    Corrupt,
    /// Nothing can be said: no data directory, another format version, or it cannot be read.
    Unknown,
}

impl Verdict {
    /// The exit code of `node verify` and `node inspect`.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Intact | Verdict::TornTail => 0,
            Verdict::Corrupt => 1,
            Verdict::Unknown => 2,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Verdict::Intact => "intact",
            Verdict::TornTail => "torn tail",
            Verdict::Corrupt => "corrupt",
            Verdict::Unknown => "unknown",
        }
    }
}

/// What a data directory holds. Up to the damage, if there is any, where it says what the records add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `whitewater-inspect`.
    pub format: &'static str,
    /// Version of this JSON.
    pub version: &'static str,
    /// What the directory is worth.
    pub verdict: Verdict,
    /// Why, if it is not intact.
    pub reasons: Vec<String>,
    /// The way out, if the node would not start.
    pub hint: Option<&'static str>,
    /// Whose it is; `None` if no segment says so.
    pub owner: Option<Owner>,
    /// How often it was opened.
    pub incarnation: u64,
    /// Current term.
    pub term: Term,
    /// Vote in `term`.
    pub voted_for: Option<NodeId>,
    /// Last entry of the log, 0 if it is empty.
    pub last_index: Index,
    /// Last record, 0 if there is none.
    pub last_lsn: Lsn,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// What the superblock says; `None` if there is none that is whole.
    pub superblock: Option<String>,
    /// The snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The trace, if there is one.
    pub trace: Option<Trace>,
}

/// One snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// The last entry that is in it, as its name says.
    pub last_index: Index,
    /// The term of that entry.
    pub last_term: Term,
    /// Chain over the log up to there, 16 hex digits; `None` if the file is damaged.
    pub chain: Option<String>,
    /// Its root hash, 64 hex digits; `None` if the file is damaged.
    pub root: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The trace file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Whole lines.
    pub lines: u64,
    /// The file ends inside a line: the node was killed as it wrote it.
    pub torn: bool,
    /// The first line that is none, if there is one.
    pub problem: Option<String>,
}

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The node.
    pub node_id: NodeId,
    /// The cluster, 16 hex digits.
    pub cluster_id: String,
    /// Drawn when the directory was made, 16 hex digits.
    pub directory_id: String,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Lsn that its first record must have; `None` without a valid header.
    pub first_lsn: Option<Lsn>,
    /// What is in it, in order.
    pub lines: Vec<Line>,
}

/// A stretch of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// `None`: there is no record here.
    pub lsn: Option<Lsn>,
    /// `checkpoint`, `boot`, `hard_state`, `truncate`, `entry`, `snapshot`, `recovering`, `unknown` or `gap`.
    pub kind: &'static str,
    /// Index of an entry; last one kept by a truncation.
    pub index: Option<Index>,
    /// Term of an entry or a hard state.
    pub term: Option<Term>,
    /// The content in words; for a gap, why it is none.
    pub text: String,
}

/// Reads the data directory `dir`.
pub fn inspect(disk: &Arc<dyn Disk>, dir: &Path) -> Inspection {
    let mut inspection = read(disk, dir);
    for _ in 1..READS_MAX {
        if inspection.verdict != Verdict::Corrupt {
            break;
        }
        let again = read(disk, dir);
        let same = again.reasons == inspection.reasons;
        inspection = again;
        if same {
            break;
        }
    }
    inspection
}

fn inspect_path(path: &Path) -> Inspection {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if path.is_file() { single::inspect(disk.as_ref(), path) } else { inspect(&disk, path) }
}

/// `node inspect PATH [--json]`: everything that is in the directory or the file, then the verdict. Returns the exit code.
///
/// # Errors
/// When `out` cannot be written.
pub fn run_inspect(path: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let inspection = inspect_path(path);
    if json {
        serde_json::to_writer(&mut *out, &inspection)?;
        writeln!(out)?;
    } else {
        inspection.render(out)?;
    }
    Ok(inspection.verdict.exit_code())
}

/// `node verify PATH`: the verdict alone. Returns the exit code.
///
/// # Errors
/// When `out` cannot be written.
pub fn run_verify(path: &Path, out: &mut dyn Write) -> io::Result<u8> {
    let inspection = inspect_path(path);
    inspection.render_verdict(out)?;
    Ok(inspection.verdict.exit_code())
}

fn read(disk: &Arc<dyn Disk>, dir: &Path) -> Inspection {
    match recovery::read(disk.as_ref(), dir) {
        Ok(files) if files.segments.is_empty() && files.superblock.is_none() => {
            let reason =
                format!("{} is not a data directory: there is no segment of a log in it", dir.display());
            Inspection {
                reasons: vec![reason],
                ..summarize(&files.segments, Replay::empty(), Verdict::Unknown)
            }
        }
        Ok(files) => {
            let mut replay = recovery::replay(&files, None);
            let damage = replay.damage.take();
            let verdict = match &damage {
                Some(StorageError::Version { .. }) => Verdict::Unknown,
                Some(_) => Verdict::Corrupt,
                None if replay.lost_anything() => Verdict::Corrupt,
                None if replay.tail.is_some_and(|tail| tail.torn) => Verdict::TornTail,
                None => Verdict::Intact,
            };
            let recoverable = (verdict == Verdict::Corrupt && damage.is_none()).then_some(RECOVERABLE);
            let mut beside = beside(disk.as_ref(), dir, &files);
            if damage.is_none()
                && let Some(owner) = owner(&files)
            {
                // As the node does when it starts: what it would go on from.
                let snapshots = SnapshotDir::new(Arc::clone(disk), dir, &owner.identity);
                match open::find_snapshot(&snapshots, &mut replay) {
                    Ok(found) => beside.lost = found.notes.into_iter().last().filter(|_| found.lost),
                    Err(error) => beside.lost = Some(error.to_string()),
                }
            }
            let mut inspection = summarize(&files.segments, replay, verdict);
            inspection.hint = damage.as_ref().map(StorageError::hint).or(recoverable);
            inspection.reasons.extend(damage.map(|damage| damage.to_string()));
            beside.add_to(inspection)
        }
        Err(error) => {
            let reasons = vec![error.to_string()];
            Inspection { reasons, ..summarize(&[], Replay::empty(), Verdict::Unknown) }
        }
    }
}

/// What stands beside the log.
struct Beside {
    superblock: Option<String>,
    snapshots: Vec<Snapshot>,
    trace: Option<Trace>,
    /// Why no snapshot is of use, if one should be.
    lost: Option<String>,
}

fn beside(disk: &dyn Disk, dir: &Path, files: &Files) -> Beside {
    let names = disk.list(dir).unwrap_or_default();
    let snapshots = names.iter().filter_map(|name| single::snapshot(disk, &dir.join(name)));
    let trace = names.iter().any(|name| name == TRACE).then(|| single::trace(disk, &dir.join(TRACE)));
    Beside {
        superblock: files
            .superblock
            .as_deref()
            .and_then(Superblock::latest)
            .map(|found| single::superblock(&found)),
        snapshots: snapshots.collect(),
        trace,
        lost: None,
    }
}

impl Beside {
    fn add_to(self, mut inspection: Inspection) -> Inspection {
        let problems = self.snapshots.iter().filter_map(|snapshot| snapshot.problem.clone());
        let problems =
            problems.chain(self.trace.iter().filter_map(|trace| trace.problem.clone())).chain(self.lost);
        let before = inspection.reasons.len();
        inspection.reasons.extend(problems);
        if inspection.reasons.len() > before && inspection.verdict != Verdict::Unknown {
            inspection.verdict = Verdict::Corrupt;
            inspection.hint = inspection.hint.or(Some(RECOVERABLE));
        }
        Inspection { superblock: self.superblock, snapshots: self.snapshots, trace: self.trace, ..inspection }
    }
}

fn owner(files: &Files) -> Option<Header> {
    files.segments.iter().find_map(|file| file.header)
}

fn summarize(files: &[SegmentFile], replay: Replay, verdict: Verdict) -> Inspection {
    let owner = files.iter().find_map(|file| file.header).map(|header| Owner {
        node_id: header.identity.node_id,
        cluster_id: format!("{:016x}", header.identity.cluster_id),
        directory_id: format!("{:016x}", header.directory_id),
    });
    Inspection {
        format: "whitewater-inspect",
        version: "1.1",
        verdict,
        reasons: replay.notes.into_iter().chain(replay.faults.iter().map(ToString::to_string)).collect(),
        hint: None,
        owner,
        incarnation: replay.incarnation,
        term: replay.hard_state.term,
        voted_for: replay.hard_state.voted_for,
        last_index: replay.slots.last_index(),
        last_lsn: replay.last_lsn,
        segments: files.iter().map(segment).collect(),
        superblock: None,
        snapshots: Vec::new(),
        trace: None,
    }
}

fn segment(file: &SegmentFile) -> Segment {
    Segment {
        file: file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes: file.bytes.len() as u64,
        first_lsn: file.header.map(|header| header.first_lsn),
        lines: file.pieces.iter().map(line).collect(),
    }
}

fn line(piece: &Piece) -> Line {
    let (offset, frame) = match piece {
        Piece::Gap { offset, bytes, reason } => {
            let (offset, bytes, text) = (*offset, *bytes, reason.to_string());
            return Line { offset, bytes, lsn: None, kind: "gap", index: None, term: None, text };
        }
        Piece::Record { offset, frame } => (offset, frame),
    };
    let content = match frame.content() {
        Ok(Content::Checkpoint(checkpoint)) => {
            let (offset, bytes, lsn) = (*offset, frame.encoded_bytes(), Some(frame.lsn));
            let (index, term) = (Some(checkpoint.last.index), Some(checkpoint.hard_state.term));
            let text = describe(&checkpoint);
            return Line { offset, bytes, lsn, kind: "checkpoint", index, term, text };
        }
        Ok(Content::Record { record, .. }) => Ok(record),
        Err(problem) => Err(problem),
    };
    let (kind, index, term, text) = match content {
        Ok(Record::Boot { incarnation }) => ("boot", None, None, format!("incarnation {incarnation}")),
        Ok(Record::HardState(HardState { term, voted_for })) => {
            ("hard_state", None, Some(term), format!("term {term}, {}", vote(voted_for)))
        }
        Ok(Record::Truncate { last_index }) => {
            ("truncate", Some(last_index), None, format!("every entry after index {last_index}"))
        }
        Ok(Record::Entry(entry)) => {
            let text =
                format!("index {}, term {}: {}", entry.id.index, entry.id.term, payload(&entry.payload));
            ("entry", Some(entry.id.index), Some(entry.id.term), text)
        }
        Ok(Record::Snapshot(mark)) => {
            let text = describe_mark(&mark);
            ("snapshot", Some(mark.last.index), Some(mark.last.term), text)
        }
        Ok(Record::Recovering(None)) => ("recovering", None, None, "caught up: no restriction".to_owned()),
        Ok(Record::Recovering(Some(recovering))) => {
            ("recovering", Some(recovering.last.index), Some(recovering.last.term), restriction(&recovering))
        }
        Err(problem) => ("unknown", None, None, problem),
    };
    Line { offset: *offset, bytes: frame.encoded_bytes(), lsn: Some(frame.lsn), kind, index, term, text }
}

fn describe(checkpoint: &Checkpoint) -> String {
    let Checkpoint { incarnation, hard_state, mark, recovering, last, repaired } = checkpoint;
    let mut text =
        format!("incarnation {incarnation}, term {}, {}", hard_state.term, vote(hard_state.voted_for));
    if let Some(mark) = mark {
        text += &format!(", {}", describe_mark(mark));
    }
    text += &format!(" and ends at {last}");
    if *repaired {
        text += ", made by recovery";
    }
    if let Some(recovering) = recovering {
        text += &format!(", {}", restriction(recovering));
    }
    text
}

fn describe_mark(mark: &SnapshotMark) -> String {
    let members = membership(&mark.membership);
    match mark.last.index {
        0 => format!("no snapshot, {members}"),
        _ => format!("snapshot at {}, the log begins after {}, {members}", mark.last, mark.base),
    }
}

fn membership(bytes: &[u8]) -> String {
    match Membership::decode(bytes) {
        Ok(membership) => format!("membership {membership}"),
        Err(_) => "membership that does not decode".to_owned(),
    }
}

fn restriction(recovering: &Recovering) -> String {
    let Recovering { last, last_known, vote_known } = recovering;
    let known = |known: bool| if known { "known" } else { "lost" };
    format!("recovering: had {last}, its last entry {}, its vote {}", known(*last_known), known(*vote_known))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn vote(voted_for: Option<NodeId>) -> String {
    voted_for.map_or("no vote".to_owned(), |node| format!("vote for node {node}"))
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Noop => "no-op".to_owned(),
        Payload::Membership(bytes) => membership(bytes),
        Payload::Command(bytes) => match Command::decode(bytes) {
            Ok(command) => command.to_string(),
            Err(_) => {
                let shown = &bytes[..bytes.len().min(PAYLOAD_SHOWN)];
                let more = if shown.len() < bytes.len() { "…" } else { "" };
                format!("{} bytes that are no command: {}{more}", bytes.len(), shown.escape_ascii())
            }
        },
    }
}

impl Inspection {
    /// Writes everything for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(owner) = &self.owner {
            let Owner { node_id, cluster_id, directory_id } = owner;
            writeln!(out, "node {node_id}   cluster {cluster_id}   directory {directory_id}")?;
            let (incarnation, term, vote) = (self.incarnation, self.term, vote(self.voted_for));
            let (index, lsn) = (self.last_index, self.last_lsn);
            writeln!(
                out,
                "incarnation {incarnation}   term {term}   {vote}   last index {index}   last lsn {lsn}"
            )?;
        }
        for segment in &self.segments {
            let first =
                segment.first_lsn.map_or("no valid header".to_owned(), |lsn| format!("first lsn {lsn}"));
            writeln!(out, "{}   {} bytes   {first}", segment.file, segment.bytes)?;
            for Line { offset, bytes, lsn, kind, text, .. } in &segment.lines {
                let lsn = lsn.map_or(format!("{bytes} bytes"), |lsn| format!("lsn {lsn}"));
                writeln!(out, "  {offset:>9}  {lsn:<12}  {kind:<10}  {text}")?;
            }
        }
        if let Some(superblock) = &self.superblock {
            writeln!(out, "superblock   {superblock}")?;
        }
        for Snapshot { file, bytes, last_index, last_term, root, problem, .. } in &self.snapshots {
            let state = match (root, problem) {
                (Some(root), _) => format!("root {}…", &root[..16]),
                (None, problem) => problem.clone().unwrap_or_default(),
            };
            writeln!(out, "{file}   {bytes} bytes   up to {last_index}@{last_term}   {state}")?;
        }
        if let Some(Trace { lines, torn, .. }) = &self.trace {
            writeln!(out, "{TRACE}   {lines} lines{}", if *torn { ", and half of one" } else { "" })?;
        }
        self.render_verdict(out)
    }

    /// Writes the verdict for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn render_verdict(&self, out: &mut dyn Write) -> io::Result<()> {
        let records =
            self.segments.iter().flat_map(|segment| &segment.lines).filter(|line| line.lsn.is_some());
        let (records, segments) = (records.count(), self.segments.len());
        match self.verdict {
            Verdict::Unknown => writeln!(out, "unknown")?,
            verdict => {
                write!(out, "{}", verdict.words())?;
                let mut parts = Vec::new();
                if segments > 0 {
                    let (more, also) = (plural(records), plural(segments));
                    parts.push(format!("{records} record{more} in {segments} segment{also}"));
                }
                if !self.snapshots.is_empty() {
                    parts.push(format!("{} snapshot{}", self.snapshots.len(), plural(self.snapshots.len())));
                }
                if let Some(Trace { lines, .. }) = self.trace {
                    parts.push(format!("{lines} lines of trace"));
                }
                let space = if parts.is_empty() { "" } else { "   " };
                writeln!(out, "{space}{}", parts.join(", "))?;
            }
        }
        for reason in &self.reasons {
            writeln!(out, "  {reason}")?;
        }
        match (self.hint, self.verdict) {
            (Some(hint), _) => writeln!(out, "\nhint: {hint}"),
            (None, Verdict::TornTail) => {
                writeln!(out, "  the node repairs this when it starts; nothing acknowledged is lost")
            }
            (None, _) => Ok(()),
        }
    }
}
