//! Opens the directory of a write-ahead log: makes durable what recovery believes, cuts off what is torn, begins a new segment
//! where something is lost, and chooses the snapshot to go on from.
//! What the bytes mean is left to [`super::recovery`]; what is appended from here on, to [`super::wal`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raft::membership::Membership;
use crate::raft::types::{Entry, HardState, Incarnation, LogId, Lsn, Recovering, SnapshotMark};
use crate::storage::checkpoint::{Checkpoint, Sum};
use crate::storage::disk::{Disk, DiskDir, DiskFile};
use crate::storage::recovery::{self, Extent, Files, Replay, SegmentFile, Tail};
use crate::storage::segment::{self, Header};
use crate::storage::slots::Slots;
use crate::storage::snapshot_dir::SnapshotDir;
use crate::storage::snapshot_file::SnapshotMeta;
use crate::storage::superblock::{Superblock, SuperblockFile};
use crate::storage::{Identity, Layout, StorageError, record};

/// What a node knows again after it opened its directory. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot to go on from, and where the log begins; `None` if no record says it: then at index 1.
    pub mark: Option<SnapshotMark>,
    /// The snapshot at the mark's `last`, every byte of its image checked; `None` if that is 0.
    pub snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    /// The log, from the entry after the mark's `base`.
    pub entries: Vec<Entry>,
    /// What the node may do.
    pub condition: Condition,
    /// Which opening of the directory this is. Grows with each.
    pub incarnation: Incarnation,
    /// Drawn when the directory was made.
    pub directory_id: u64,
    /// The last record. The caller's next one has the lsn after it.
    pub last_lsn: Lsn,
    /// What was repaired or found damaged, one sentence each, for the node's stderr.
    pub notes: Vec<String>,
}

/// What a node may do with what it recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Everything: all that this directory ever promised is here.
    Sound,
    /// Something that was durable is not here any more. `entries` ends before the first entry that is lost; whatever
    /// follows comes from a leader, as entries or as a snapshot. The restriction is durable, and is found again at each
    /// start, until the node appends `Record::Recovering(None)`.
    Recovering(Recovering),
}

/// A log that takes records.
pub(super) struct Opened {
    pub(super) header: Header,
    pub(super) open: Open,
    pub(super) sum: Sum,
    pub(super) extents: Vec<Extent>,
    pub(super) superblock: Superblock,
    pub(super) superblock_file: SuperblockFile,
    pub(super) last_lsn: Lsn,
    /// `incarnation` is the one before, and `last_lsn` that of before its `Boot`.
    pub(super) recovered: Recovered,
}

/// A segment that takes records.
pub(super) struct Open {
    pub(super) file: Box<dyn DiskFile>,
    /// Where its first record goes, or would have gone.
    pub(super) first: u64,
    /// Where the next record goes.
    pub(super) position: u64,
    /// Length of the file; zeros from `position` on.
    pub(super) zeroed: u64,
}

/// A data directory: what is in it, and its names, which are made durable without anything being opened.
#[derive(Clone, Copy)]
pub(super) struct Dir<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) path: &'a Path,
    pub(super) names: &'a dyn DiskDir,
}

/// The name of a segment, or of the superblock, while it is made.
const NEW: &str = "wal-new.tmp";

/// Opens `dir`, which `names` has locked.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    names: &dyn DiskDir,
    identity: &Identity,
    bootstrap: Option<SnapshotMark>,
    layout: &Layout,
) -> Result<Opened, StorageError> {
    let files = recovery::read(disk.as_ref(), dir)?;
    let mut replay = recovery::replay(&files, Some(identity));
    if let Some(damage) = replay.damage.take() {
        return Err(damage);
    }
    let snapshots = SnapshotDir::new(Arc::clone(disk), dir, identity);
    let mut found = find_snapshot(&snapshots, &mut replay)?;
    let stands_in = found.stand_in(&mut replay);
    let dir = Dir { disk: disk.as_ref(), path: dir, names };
    remove(dir.disk, &dir.path.join(NEW))?;
    let (superblock, superblock_file) = open_superblock(dir, identity, replay.superblock)?;
    let mut tail = settle(dir, &files, replay.tail)?;
    if superblock.dirty
        && let Some(tail) = &mut tail
    {
        let newest = &files.segments[files.segments.len() - 1];
        tail.open = rewrite(dir, newest, &tail.tail)?;
    }
    let fresh = files.segments.is_empty();
    let lost = replay.lost_anything() || found.lost;
    let anew = lost || stands_in;
    let condition = match replay.restriction() {
        None if found.lost => Condition::Recovering(Recovering {
            last: replay.last,
            last_known: replay.last_known,
            vote_known: replay.vote_known,
        }),
        None => Condition::Sound,
        Some(recovering) => Condition::Recovering(recovering),
    };
    if fresh || (lost && found.durable_mark.is_none()) {
        (found.durable_mark, found.mark) = (bootstrap.clone(), bootstrap);
    }
    let entries = std::mem::take(&mut replay.slots).into_entries();
    let base = found.mark.as_ref().map_or(LogId::default(), |mark| mark.base);
    let checkpoint = Checkpoint {
        incarnation: replay.incarnation,
        hard_state: replay.hard_state,
        // A snapshot that an older one stands in for may be whole again next time: that is decided at each start.
        mark: if anew { found.mark.clone() } else { found.durable_mark },
        recovering: match condition {
            Condition::Sound => None,
            Condition::Recovering(recovering) => Some(recovering),
        },
        last: entries.last().map_or(base, |entry| entry.id),
        repaired: anew,
    };
    let sum = Sum::new(checkpoint, entries.iter().map(|entry| entry.id));
    let mut extents = replay.extents;
    let (header, open) = match tail {
        Some(tail) if !anew && !replay.marked => (tail.tail.header, tail.open),
        _ => {
            let sequence = extents.last().map_or(1, |extent| extent.sequence + 1);
            let header = Header {
                version: segment::VERSION,
                identity: *identity,
                directory_id: superblock.directory_id,
                sequence,
                first_lsn: replay.last_lsn + 1,
            };
            extents.push(Extent { sequence, max_index: 0 });
            let new = new_segment(&header, sum.checkpoint());
            (header, create_segment(dir, &header, &new, layout)?)
        }
    };
    let mut notes = replay.notes;
    notes.extend(replay.faults.iter().map(ToString::to_string));
    notes.extend(found.notes);
    if superblock.dirty {
        notes.push(
            "a sync failed before the node stopped: what could be read of the newest segment was written anew"
                .to_owned(),
        );
    }
    let recovered = Recovered {
        hard_state: replay.hard_state,
        mark: found.mark,
        snapshot: found.snapshot,
        entries,
        condition,
        incarnation: replay.incarnation,
        directory_id: superblock.directory_id,
        last_lsn: replay.last_lsn,
        notes,
    };
    let last_lsn = replay.last_lsn;
    let superblock = Superblock { mark_lsn: replay.mark_lsn, ..superblock };
    Ok(Opened { header, open, sum, extents, superblock, superblock_file, last_lsn, recovered })
}

/// Refuses `dir`, which is locked, if anything is lost.
pub(super) fn check(disk: &Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<(), StorageError> {
    let files = recovery::read(disk.as_ref(), dir)?;
    let mut replay = recovery::replay(&files, Some(identity));
    if let Some(damage) = replay.damage.take() {
        return Err(damage);
    }
    let mut found = find_snapshot(&SnapshotDir::new(Arc::clone(disk), dir, identity), &mut replay)?;
    found.stand_in(&mut replay);
    let lost = replay.lost_anything();
    if !lost && !found.lost {
        return Ok(());
    }
    let detail = found.notes.into_iter().last().unwrap_or_else(|| "it lost records".to_owned());
    let fault = StorageError::Corrupt { file: dir.to_owned(), offset: 0, detail };
    Err(replay.faults.into_iter().next().filter(|_| lost).unwrap_or(fault))
}

/// The snapshot to go on from.
pub(crate) struct Found {
    /// The mark that the records come to.
    durable_mark: Option<SnapshotMark>,
    /// The mark of the snapshot that is used.
    pub(crate) mark: Option<SnapshotMark>,
    pub(crate) snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    /// There is none, though there should be, and so the log after it is worth nothing either.
    pub(crate) lost: bool,
    pub(crate) notes: Vec<String>,
}

/// Loads the snapshot of the newest mark, or another one of which the log holds what follows. Whoever has the log begin no
/// later than the snapshot before the newest one ends keeps that possible.
pub(crate) fn find_snapshot(snapshots: &SnapshotDir, replay: &mut Replay) -> Result<Found, StorageError> {
    let durable_mark = replay.mark.clone();
    let mark = durable_mark.clone();
    let mut found =
        Found { durable_mark, mark: mark.clone(), snapshot: None, lost: false, notes: Vec::new() };
    let Some(mark) = mark.filter(|mark| mark.last.index > 0) else { return Ok(found) };
    let mut others = snapshots.list()?;
    others.retain(|last| *last != mark.last && replay.slots.id(last.index) == Some(*last));
    for last in [mark.last].into_iter().chain(others.into_iter().rev()) {
        match snapshots.load(last) {
            Ok((meta, _))
                if last == mark.last
                    && (meta.chain != mark.chain
                        || !Membership::agree(&meta.membership, &mark.membership)) =>
            {
                found.notes.push(format!("the snapshot at {last} is not the one that the log names"));
            }
            Ok((meta, image)) => {
                if last != mark.last {
                    found.notes.push(format!("going on from the snapshot at {last} and the log after it"));
                }
                let membership = match last == mark.last {
                    true => mark.membership.clone(),
                    false => bound_by(&meta.membership, &mark.membership),
                };
                found.mark = Some(SnapshotMark { last, chain: meta.chain, membership, ..mark });
                found.snapshot = Some((meta, image));
                return Ok(found);
            }
            // What cannot be looked at now is not lost.
            Err(StorageError::Io { action, path, source }) if StorageError::out_of_files(&source) => {
                return Err(StorageError::Io { action, path, source });
            }
            Err(error @ (StorageError::Corrupt { .. } | StorageError::Io { .. })) => {
                found.notes.push(error.to_string());
            }
            Err(refused) => return Err(refused),
        }
    }
    found.notes.push(format!("no snapshot is left from which the log after {} goes on", mark.base));
    found.mark = Some(SnapshotMark { membership: mark.membership, ..SnapshotMark::default() });
    found.lost = true;
    replay.slots = Slots::default();
    Ok(found)
}

/// An older membership that still says which directories a later one named: they are no less bound for what was lost since.
fn bound_by(older: &Arc<[u8]>, later: &[u8]) -> Arc<[u8]> {
    match (Membership::decode(older), Membership::decode(later)) {
        (Ok(older), Ok(later)) => {
            let known = |id| later.member(id).map_or(0, |member| member.directory);
            Arc::from(older.bound_by(known).encode())
        }
        _ => Arc::clone(older),
    }
}

impl Found {
    /// What the snapshot stands for need not be in the log. If something of it is not, the log begins after the snapshot: what
    /// a node has applied already it must not be given again. Returns whether that is so.
    fn stand_in(&mut self, replay: &mut Replay) -> bool {
        let Some(mark) = self.mark.as_mut().filter(|_| self.snapshot.is_some()) else { return false };
        let faulty = replay.slots.first_fault().is_some_and(|(index, _)| index <= mark.last.index);
        let stands_in = faulty || replay.slots.last_index() < mark.last.index;
        if stands_in {
            (mark.base, mark.base_chain) = (mark.last, mark.chain);
            replay.slots.rebase(mark.last, false);
        }
        stands_in
    }
}

fn open_superblock(
    dir: Dir<'_>,
    identity: &Identity,
    found: Option<Superblock>,
) -> Result<(Superblock, SuperblockFile), StorageError> {
    match found {
        Some(superblock) => {
            let file = SuperblockFile::open(dir.disk, dir.path)?;
            // Nothing is believed before it is durable, whoever restored the directory.
            file.sync()?;
            Ok((superblock, file))
        }
        None => {
            let directory_id = dir.disk.entropy().map_err(StorageError::io("draw an id for", dir.path))?;
            let superblock = Superblock::new(*identity, directory_id);
            // Before any segment is named: a log without a superblock is refused.
            write_new(dir, &superblock.encode_file(), &SuperblockFile::path(dir.path))?;
            Ok((superblock, SuperblockFile::open(dir.disk, dir.path)?))
        }
    }
}

struct Settled {
    tail: Tail,
    open: Open,
}

/// Makes durable what recovery believes, and removes what it does not.
fn settle(dir: Dir<'_>, files: &Files, tail: Option<Tail>) -> Result<Option<Settled>, StorageError> {
    let newest = files.segments.len() - usize::from(tail.is_some());
    // The node itself synced these before it made the next, but whoever restored a copy of the directory may not have.
    for sealed in &files.segments[..newest] {
        let synced = dir.disk.open(&sealed.path).and_then(|file| file.fdatasync());
        synced.map_err(StorageError::io("sync", &sealed.path))?;
    }
    let Some(tail) = tail else { return Ok(None) };
    let SegmentFile { path, bytes, .. } = &files.segments[newest];
    let file = dir.disk.open(path).map_err(StorageError::io("open", path))?;
    // The last batch may be readable and yet not on disk: the process was killed before its fsync, or the fsync failed
    // and the kernel marked the pages clean. Only written anew does the fsync below speak of it.
    let unproven = bytes.get(tail.unproven as usize..tail.end as usize).unwrap_or_default();
    file.write_at(tail.unproven, unproven).map_err(StorageError::io("write", path))?;
    if tail.torn {
        // Records appended over a torn tail could be followed by its remains and read as damaged. Zeros, and not an end of
        // the file: the space stays ours.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let zeros = vec![0; used.saturating_sub(tail.end as usize)];
        file.write_at(tail.end, &zeros).map_err(StorageError::io("write", path))?;
    }
    file.fdatasync().map_err(StorageError::io("sync", path))?;
    dir.names.fsync().map_err(StorageError::io("sync", dir.path))?;
    let zeroed = tail.file_bytes.max(tail.end);
    Ok(Some(Settled {
        tail,
        open: Open { file, first: segment::HEADER_BYTES as u64, position: tail.end, zeroed },
    }))
}

/// Copies the records of a segment into a new file under its name: of the old one, a sync has failed.
fn rewrite(dir: Dir<'_>, newest: &SegmentFile, tail: &Tail) -> Result<Open, StorageError> {
    let mut bytes = newest.bytes[..tail.end as usize].to_vec();
    bytes.resize(newest.bytes.len(), 0);
    let file = write_new(dir, &bytes, &newest.path)?;
    Ok(Open { file, first: segment::HEADER_BYTES as u64, position: tail.end, zeroed: bytes.len() as u64 })
}

/// Length of a segment whose records end at `end`: a step of zeros ahead, and the reserve.
pub(super) fn zeroed_ahead(end: u64, layout: &Layout) -> u64 {
    let wanted = end + layout.reserve_bytes;
    wanted
        .next_multiple_of(layout.zero_step_bytes)
        .min(layout.segment_bytes + layout.reserve_bytes)
        .max(wanted)
}

/// The first bytes of the segment `header` describes.
pub(super) fn new_segment(header: &Header, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = header.encode();
    record::encode_checkpoint(&mut bytes, header.checksum_seed(), header.first_lsn - 1, checkpoint);
    bytes
}

/// Creates the segment `header` describes, which begins with `bytes`; on return it and its name are durable.
pub(super) fn create_segment(
    dir: Dir<'_>,
    header: &Header,
    bytes: &[u8],
    layout: &Layout,
) -> Result<Open, StorageError> {
    let position = bytes.len() as u64;
    let zeroed = zeroed_ahead(position, layout);
    let mut bytes = bytes.to_vec();
    bytes.resize(zeroed as usize, 0);
    let file = write_new(dir, &bytes, &dir.path.join(segment::file_name(header.sequence)))?;
    Ok(Open { file, first: position, position, zeroed })
}

/// Writes a file and gives it its name `path` when it is durable: no crash leaves half a file under a name that counts.
fn write_new(dir: Dir<'_>, bytes: &[u8], path: &Path) -> Result<Box<dyn DiskFile>, StorageError> {
    let new = dir.path.join(NEW);
    remove(dir.disk, &new)?;
    let file = dir.disk.create(&new).map_err(StorageError::io("create", &new))?;
    file.write_at(0, bytes).map_err(StorageError::io("write", &new))?;
    // Before any record is in it: a record in a segment whose header or name a power loss takes away is lost with it,
    // however well it was synced.
    file.fdatasync().map_err(StorageError::io("sync", &new))?;
    name_segment(dir, &new, path)?;
    Ok(file)
}

/// Gives a durable file the name of a segment.
pub(super) fn name_segment(dir: Dir<'_>, from: &Path, to: &Path) -> Result<(), StorageError> {
    dir.disk.rename(from, to).map_err(StorageError::io("rename", from))?;
    dir.names.fsync().map_err(StorageError::io("sync", dir.path))
}

/// Removes a file that may be there.
pub(super) fn remove(disk: &dyn Disk, path: &PathBuf) -> Result<(), StorageError> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Creates `dir` and what is missing above it.
pub(super) fn ensure_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match disk.list(dir) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ensure_dir(disk, parent)?;
            match disk.create_dir(dir) {
                // Several nodes that start side by side make the directory above theirs at the same moment.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(StorageError::io("create", dir))?,
            }
        }
        Err(error) => return Err(StorageError::io("list", dir)(error)),
    }
    // Defends against power loss, which would take the directory away with all that is synced in it. Also when it was
    // there already: the process that made it may have been killed at this very point.
    disk.fsync_dir(parent).map_err(StorageError::io("sync", parent))
}
