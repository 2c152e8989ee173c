//! The write-ahead log: appends records, makes them durable in batches, goes on in new segments and removes those that a
//! snapshot stands for. How a directory is opened is left to [`super::open`]; which record may be answered when, to the
//! server.
//!
//! **Space.** A segment is filled with zeros ahead, and what is written into it afterwards overwrites them: it needs no space
//! that is not there. Space can only lack where zeros are added or a segment is made, and both happen before a byte of the
//! record that needs it is written. Then records wait, in their order, and nothing is lost. Votes do not wait: term and vote
//! overtake what waits, out of a reserve at the end of each segment and a spare segment behind it. That is safe, because
//! term and vote on the one side and the log on the other are read back independently of each other. What waits up to a
//! snapshot mark may use the reserve too: that mark is what makes space. A process that may open no more files is out of space
//! in the same sense: a segment cannot be made, and what fits into the open one goes on. Whatever else is needed is open
//! beforehand: the spare segment, the superblock, and the directory, so that a name that was changed is made durable as well.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use crate::raft::types::{Lsn, Record, SnapshotMark};
use crate::storage::checkpoint::Sum;
use crate::storage::disk::{Disk, DiskDir, DiskFile};
use crate::storage::open::{self, Open, Opened, Recovered};
use crate::storage::recovery::Extent;
use crate::storage::segment::{self, Header};
use crate::storage::superblock::{Superblock, SuperblockFile};
use crate::storage::{Identity, StorageError, record};

/// Sizes of segment files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// A segment takes no further record that would make it longer than this many bytes. A record that is longer by
    /// itself gets a segment of its own.
    pub segment_bytes: u64,
    /// A segment is filled with zeros this many bytes ahead. Most syncs then change no file length, and so need no
    /// commit of the file system's journal.
    pub zero_step_bytes: u64,
    /// Zeros beyond those, which only votes and what makes space may use when the disk is full.
    pub reserve_bytes: u64,
}

impl Default for Layout {
    /// 16 MiB, 1 MiB and 64 KiB: a reserve of 1,365 votes.
    fn default() -> Self {
        Layout { segment_bytes: 16 << 20, zero_step_bytes: 1 << 20, reserve_bytes: 64 << 10 }
    }
}

/// How far a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every record up to here is durable.
    pub durable: Lsn,
    /// Every record up to here that a vote waits for is durable: `HardState`, and a mark at index 0. Further than `durable`
    /// only while space lacks.
    pub hard_state: Lsn,
    /// Records wait for space, or for a file to be opened. The next [`Wal::sync`] tries again.
    pub out_of_space: bool,
}

/// The write-ahead log of one directory, held by one process. One thread calls it.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The same, open and locked.
    names: Box<dyn DiskDir>,
    layout: Layout,
    header: Header,
    open: Open,
    /// What all records in segments come to.
    sum: Sum,
    /// Each segment, oldest first; the last one is open.
    extents: Vec<Extent>,
    superblock: Superblock,
    superblock_file: SuperblockFile,
    /// A segment that is ready for when no other can be made.
    spare: Option<Box<dyn DiskFile>>,
    /// The last record is a snapshot mark, and the segment that should follow it waits for space.
    marked: bool,
    /// In the caller's order, with the caller's numbers.
    staged: VecDeque<(Lsn, Record)>,
    /// The last record that the caller appended.
    last_lsn: Lsn,
    /// The last record in the segments. They are numbered as they are written: apart from the caller's numbers only
    /// while votes have overtaken what waits for space.
    written_lsn: Lsn,
    durable_lsn: Lsn,
    failure: Option<String>,
}

/// What a vote waits for, and nothing else does: term and vote, and the mark of no snapshot that says whether this
/// directory may vote at all.
fn is_vote(record: &Record) -> bool {
    match record {
        Record::HardState(_) => true,
        Record::Snapshot(mark) => mark.last.index == 0,
        _ => false,
    }
}

/// The mark of a snapshot stands for entries, which can then go.
fn makes_space(record: &Record) -> bool {
    matches!(record, Record::Snapshot(mark) if mark.last.index > 0)
}

/// The name of the spare segment.
const SPARE: &str = "wal-spare.tmp";

impl Wal {
    /// Opens the directory `dir` for the node `identity`, creates it if it is not there, and gives back what it holds.
    /// On return all of that, and the `Boot` record of this incarnation, is durable. A new directory begins with
    /// `bootstrap`: the membership that the node is started with, if it is to know any.
    ///
    /// # Errors
    /// [`StorageError::exit_code`] tells data that is refused as it is (locked, corrupt, foreign, other version) from a
    /// storage that failed. Refused data is not touched.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        bootstrap: Option<SnapshotMark>,
    ) -> Result<(Wal, Recovered), StorageError> {
        Wal::open_with(disk, dir, identity, bootstrap, Layout::default())
    }

    /// Refuses a directory that lost something, and touches nothing: for a node without peers, that has nobody to get it
    /// back from. A directory that is not there is none that lost anything.
    ///
    /// # Errors
    /// As [`Wal::open`], and [`StorageError::Corrupt`] for what [`Wal::open`] would go on without.
    pub fn check(disk: &Arc<dyn Disk>, dir: &Path, identity: &Identity) -> Result<(), StorageError> {
        match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(StorageError::io("list", dir))?,
        };
        let _lock = Wal::lock(disk.as_ref(), dir)?;
        open::check(disk, dir, identity)
    }

    fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskDir>, StorageError> {
        let names = disk.open_dir(dir).map_err(StorageError::io("open", dir))?;
        match names.lock() {
            Ok(()) => Ok(names),
            Err(source) if source.kind() == io::ErrorKind::WouldBlock => {
                Err(StorageError::Locked { dir: dir.to_owned() })
            }
            Err(source) => Err(StorageError::io("lock", dir)(source)),
        }
    }

    /// As [`Wal::open`], with segments of other sizes. Existing segments keep theirs.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        bootstrap: Option<SnapshotMark>,
        layout: Layout,
    ) -> Result<(Wal, Recovered), StorageError> {
        open::ensure_dir(disk.as_ref(), dir)?;
        let names = Wal::lock(disk.as_ref(), dir)?;
        let opened = open::open(&disk, dir, names.as_ref(), identity, bootstrap, &layout)?;
        let Opened { header, open, sum, extents, superblock, superblock_file, last_lsn, mut recovered } =
            opened;
        let mut wal = Wal {
            disk,
            dir: dir.to_owned(),
            names,
            layout,
            header,
            open,
            sum,
            extents,
            superblock: Superblock { dirty: false, ..superblock },
            superblock_file,
            spare: None,
            marked: false,
            staged: VecDeque::new(),
            last_lsn,
            written_lsn: last_lsn,
            durable_lsn: last_lsn,
            failure: None,
        };
        // Before any datagram leaves: after a power loss nobody else may be this incarnation.
        recovered.incarnation += 1;
        recovered.last_lsn += 1;
        wal.append(&[(recovered.last_lsn, Record::Boot { incarnation: recovered.incarnation })])?;
        wal.boot()?;
        Ok((wal, recovered))
    }

    /// Writes the boot record, out of the reserve if need be.
    fn boot(&mut self) -> Result<(), StorageError> {
        let Some((_, record)) = self.staged.pop_front() else { return Ok(()) };
        let mut batch = Vec::new();
        if !self.reserve(record::encoded_bytes(&record) as u64, &mut batch)? {
            let path = self.dir.join(segment::file_name(self.header.sequence));
            return Err(StorageError::io("write", path)(Errno::ENOSPC.into()));
        }
        self.put(&record, &mut batch);
        self.write(&mut batch)?;
        // Not only in the log: a log that lost its tail must not give an incarnation twice.
        self.superblock_file.sync()?;
        // It may hold the beginning of a segment that it did not become.
        open::remove(self.disk.as_ref(), &self.dir.join(SPARE))
    }

    /// Takes records for the next [`Wal::sync`]. The caller numbers them, without a gap, from the one after the last.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] after any earlier error.
    pub fn append(&mut self, records: &[(Lsn, Record)]) -> Result<(), StorageError> {
        self.check_usable()?;
        for (lsn, record) in records {
            let expected = self.last_lsn + 1;
            assert!(*lsn == expected, "record lsn {lsn} appended where lsn {expected} is next");
            self.staged.push_back((*lsn, record.clone()));
            self.last_lsn = *lsn;
        }
        Ok(())
    }

    /// Makes everything appended durable, with one write and one fdatasync unless a segment fills up, and says how far the
    /// log is. Without anything appended it touches nothing. After a snapshot mark it removes the segments of which
    /// nothing is needed any more.
    ///
    /// # Errors
    /// The failure of the storage. What was appended since the last success may or may not survive, and nothing can be
    /// appended or synced any more: only [`Wal::open`] finds out. That space lacks is no failure.
    pub fn sync(&mut self) -> Result<Progress, StorageError> {
        self.check_usable()?;
        match self.flush() {
            Ok(out_of_space) => Ok(self.progress(out_of_space)),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Makes the spare segment, if there is none. For when nothing else is to do; it lacks only for want of space.
    ///
    /// # Errors
    /// As [`Wal::sync`].
    pub fn prepare(&mut self) -> Result<(), StorageError> {
        self.check_usable()?;
        if self.spare.is_some() {
            return Ok(());
        }
        match self.make_spare() {
            Ok(spare) => {
                self.spare = Some(spare);
                Ok(())
            }
            Err(error) if lacks_room(&error) => open::remove(self.disk.as_ref(), &self.dir.join(SPARE)),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The last record appended, durable or not.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    fn progress(&self, out_of_space: bool) -> Progress {
        let before = |staged: Option<&(Lsn, Record)>| staged.map_or(self.last_lsn, |(lsn, _)| lsn - 1);
        let votes = self.staged.iter().find(|(_, record)| is_vote(record));
        Progress { durable: before(self.staged.front()), hard_state: before(votes), out_of_space }
    }

    fn check_usable(&self) -> Result<(), StorageError> {
        match &self.failure {
            Some(first) => Err(StorageError::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: StorageError) -> StorageError {
        self.failure = Some(error.to_string());
        if matches!(&error, StorageError::Io { action: "sync", .. }) {
            // Best effort, on another file: the next start then distrusts what it can read of this one.
            self.superblock.dirty = true;
            let marked = self.superblock_file.write(&mut self.superblock);
            let _ = marked.and_then(|()| self.superblock_file.sync());
        }
        error
    }

    /// Writes what is staged. Returns whether some of it has to wait for space.
    fn flush(&mut self) -> Result<bool, StorageError> {
        let mut batch = Vec::new();
        loop {
            // Each mark is in the checkpoint that follows it, before anything else of the log: what a segment loses is never
            // what the log means.
            if self.marked && !self.roll()? && !self.roll_to_spare()? {
                // The mark itself is durable: what it does without goes first, if that is what it takes.
                self.compact()?;
                if !self.roll()? {
                    self.overtake()?;
                    return Ok(true);
                }
            }
            if std::mem::take(&mut self.marked) {
                self.compact()?;
            }
            let Some((_, record)) = self.staged.front() else { break };
            let bytes = record::encoded_bytes(record) as u64;
            let mut room = self.room(bytes, &mut batch)?;
            if !room && self.staged.iter().any(|(_, record)| makes_space(record)) {
                room = self.reserve(bytes, &mut batch)?;
            }
            if !room {
                self.write(&mut batch)?;
                self.overtake()?;
                return Ok(true);
            }
            let Some((_, record)) = self.staged.pop_front() else { break };
            self.put(&record, &mut batch);
            if makes_space(&record) {
                self.write(&mut batch)?;
                self.marked = true;
            }
        }
        self.write(&mut batch)?;
        Ok(false)
    }

    /// Writes the votes among what waits, out of the reserve.
    fn overtake(&mut self) -> Result<(), StorageError> {
        let mut batch = Vec::new();
        while let Some(at) = self.staged.iter().position(|(_, record)| is_vote(record)) {
            let bytes = record::encoded_bytes(&self.staged[at].1) as u64;
            if !self.reserve(bytes, &mut batch)? {
                break;
            }
            if let Some((_, record)) = self.staged.remove(at) {
                self.put(&record, &mut batch);
            }
        }
        self.write(&mut batch)
    }

    /// Encodes a record for which there is room.
    fn put(&mut self, record: &Record, batch: &mut Vec<u8>) {
        let clears = self.sum.add(record);
        self.written_lsn += 1;
        if let Record::Snapshot(_) = record {
            self.superblock.mark_lsn = self.written_lsn;
        }
        record::encode(
            batch,
            self.header.checksum_seed(),
            self.written_lsn,
            self.durable_lsn,
            record,
            clears,
        );
        if let (Record::Entry(entry), Some(extent)) = (record, self.extents.last_mut()) {
            extent.max_index = extent.max_index.max(entry.id.index);
        }
    }

    /// Makes room for a record of so many bytes after `batch`, which may be written to that end. Returns whether there is.
    fn room(&mut self, bytes: u64, batch: &mut Vec<u8>) -> Result<bool, StorageError> {
        let end = self.open.position + batch.len() as u64 + bytes;
        if end <= self.layout.segment_bytes || (batch.is_empty() && self.open.position == self.open.first) {
            return self.extend(end);
        }
        self.write(batch)?;
        Ok(self.roll()? && self.extend(self.open.position + bytes)?)
    }

    /// As [`Wal::room`], for a record that may use the reserve.
    fn reserve(&mut self, bytes: u64, batch: &mut Vec<u8>) -> Result<bool, StorageError> {
        if self.open.position + batch.len() as u64 + bytes <= self.open.zeroed {
            return Ok(true);
        }
        if self.extend(self.open.position + batch.len() as u64 + bytes)? {
            return Ok(true);
        }
        self.write(batch)?;
        Ok(self.roll_to_spare()? && self.open.position + bytes <= self.open.zeroed)
    }

    /// Has zeros up to `end`, and the reserve behind it. Returns whether there is space for them.
    fn extend(&mut self, end: u64) -> Result<bool, StorageError> {
        if end + self.layout.reserve_bytes <= self.open.zeroed {
            return Ok(true);
        }
        let zeroed = open::zeroed_ahead(end, &self.layout);
        let zeros = vec![0; (zeroed - self.open.zeroed) as usize];
        let path = self.path();
        match self.open.file.write_at(self.open.zeroed, &zeros).map_err(StorageError::io("write", path)) {
            Ok(()) => {
                self.open.zeroed = zeroed;
                Ok(true)
            }
            Err(error) if lacks_room(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let path = self.path();
        let file = &self.open.file;
        file.write_at(self.open.position, batch).map_err(StorageError::io("write", &path))?;
        // Defends against power loss: whoever hears of a vote or an acknowledged entry may rely on it for ever.
        file.fdatasync().map_err(StorageError::io("sync", &path))?;
        self.open.position += batch.len() as u64;
        self.durable_lsn = self.written_lsn;
        batch.clear();
        let sum = self.sum.checkpoint();
        self.superblock.incarnation = sum.incarnation;
        self.superblock.durable_lsn = self.durable_lsn;
        self.superblock.last = sum.last;
        self.superblock.hard_state = sum.hard_state;
        // Before anybody hears of the records: after a kill nobody relies on one that is not counted here.
        self.superblock_file.write(&mut self.superblock)
    }

    /// Goes on in a new segment, if there is space for one. The old one is synced: recovery relies on that.
    fn roll(&mut self) -> Result<bool, StorageError> {
        let header = self.next_header();
        let bytes = open::new_segment(&header, self.sum.checkpoint());
        match open::create_segment(self.open_dir(), &header, &bytes, &self.layout) {
            Ok(open) => {
                self.rolled(header, open);
                Ok(true)
            }
            Err(error) if lacks_room(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on in the spare segment, if there is one.
    fn roll_to_spare(&mut self) -> Result<bool, StorageError> {
        let Some(file) = self.spare.take() else { return Ok(false) };
        let header = self.next_header();
        let bytes = open::new_segment(&header, self.sum.checkpoint());
        let path = self.dir.join(SPARE);
        file.write_at(0, &bytes).map_err(StorageError::io("write", &path))?;
        file.fdatasync().map_err(StorageError::io("sync", &path))?;
        let named = self.dir.join(segment::file_name(header.sequence));
        match open::name_segment(self.open_dir(), &path, &named) {
            // It begins like a segment now, and another one is to be made in its place.
            Err(error) if lacks_room(&error) => {
                open::remove(self.disk.as_ref(), &path)?;
                return Ok(false);
            }
            named => named?,
        }
        let position = bytes.len() as u64;
        let zeroed = self.spare_bytes().max(position);
        self.rolled(header, Open { file, first: position, position, zeroed });
        Ok(true)
    }

    fn next_header(&self) -> Header {
        Header { sequence: self.header.sequence + 1, first_lsn: self.written_lsn + 1, ..self.header }
    }

    fn rolled(&mut self, header: Header, open: Open) {
        (self.header, self.open) = (header, open);
        self.extents.push(Extent { sequence: header.sequence, max_index: 0 });
    }

    fn make_spare(&self) -> Result<Box<dyn DiskFile>, StorageError> {
        let path = self.dir.join(SPARE);
        let file = self.disk.create(&path).map_err(StorageError::io("create", &path))?;
        let zeros = vec![0; self.spare_bytes() as usize];
        file.write_at(0, &zeros).map_err(StorageError::io("write", &path))?;
        // Not for what is in it: space that the file system has only promised may lack after all.
        file.fdatasync().map_err(StorageError::io("sync", &path))?;
        Ok(file)
    }

    fn spare_bytes(&self) -> u64 {
        self.layout.zero_step_bytes.max(self.layout.reserve_bytes)
    }

    /// Removes the oldest segments, as long as no entry in them comes after the log's base: the newest segment begins with
    /// all else that they say.
    fn compact(&mut self) -> Result<(), StorageError> {
        let base = self.sum.checkpoint().base();
        let sealed = &self.extents[..self.extents.len() - 1];
        let removed = sealed.iter().take_while(|extent| extent.max_index <= base.index).count();
        for extent in self.extents.drain(..removed) {
            let path = self.dir.join(segment::file_name(extent.sequence));
            self.disk.unlink(&path).map_err(StorageError::io("remove", &path))?;
        }
        if removed > 0 {
            // Nothing relies on their absence; but space that a power loss gives back to them is space that is missing.
            self.names.fsync().map_err(StorageError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    fn open_dir(&self) -> open::Dir<'_> {
        open::Dir { disk: self.disk.as_ref(), path: &self.dir, names: self.names.as_ref() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(segment::file_name(self.header.sequence))
    }
}

/// Whether the disk, or a quota on it, is full, or the process, or the machine, may open no more files: what was refused then can be
/// tried again. A sync that says so has lost what it was to make durable, or may have: that is a failure.
fn lacks_room(error: &StorageError) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT].map(|errno| Some(errno as i32));
    matches!(error, StorageError::Io { action, source, .. }
        if *action != "sync"
            && (full.contains(&source.raw_os_error()) || StorageError::out_of_files(source)))
}
