//! The write-ahead log: opens a directory, repairs its torn tail, appends records and makes them durable in batches.
//! What the bytes of a directory mean is left to [`super::recovery`]; which record may be answered when, to the server.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raft::types::{Lsn, Record};
use crate::storage::disk::{Disk, DiskFile, Lock};
use crate::storage::recovery::{self, Recovered, SegmentFile, Tail};
use crate::storage::segment::{self, Header};
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
}

impl Default for Layout {
    /// 16 MiB and 1 MiB.
    fn default() -> Self {
        Layout { segment_bytes: 16 << 20, zero_step_bytes: 1 << 20 }
    }
}

/// The write-ahead log of one directory, held by one process. One thread calls it.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    layout: Layout,
    header: Header,
    file: Box<dyn DiskFile>,
    /// Where the next record goes.
    position: u64,
    /// Length of the file; zeros from `position` on.
    zeroed: u64,
    staged: Vec<(Lsn, Record)>,
    durable_lsn: Lsn,
    failure: Option<String>,
    _lock: Lock,
}

impl Wal {
    /// Opens the directory `dir` for the node `identity`, creates it if it is not there, and gives back what it holds.
    /// On return all of that, and the `Boot` record of this incarnation, is durable.
    ///
    /// # Errors
    /// [`StorageError::exit_code`] tells data that is refused as it is (locked, corrupt, foreign, other version) from a
    /// storage that failed. Refused data is not touched.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
    ) -> Result<(Wal, Recovered), StorageError> {
        Wal::open_with(disk, dir, identity, Layout::default())
    }

    /// As [`Wal::open`], with segments of other sizes. Existing segments keep theirs.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: &Identity,
        layout: Layout,
    ) -> Result<(Wal, Recovered), StorageError> {
        ensure_dir(disk.as_ref(), dir)?;
        let lock = disk.lock(dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StorageError::Locked { dir: dir.to_owned() },
            _ => StorageError::io("lock", dir)(source),
        })?;
        let files = recovery::read_segments(disk.as_ref(), dir)?;
        let replay = recovery::replay(&files, Some(identity));
        if let Some(damage) = replay.damage {
            return Err(damage);
        }
        if let Some(path) = &replay.unfinished {
            disk.unlink(path).map_err(StorageError::io("remove", path))?;
        }
        let (header, (file, position, zeroed)) = match replay.tail {
            Some(tail) => {
                let recovered = settle(disk.as_ref(), dir, &files, &tail)?;
                (tail.header, recovered)
            }
            None => {
                let directory_id = disk.entropy().map_err(StorageError::io("draw an id for", dir))?;
                let (version, first_lsn) = (segment::VERSION, 1);
                let header = Header { version, identity: *identity, directory_id, sequence: 1, first_lsn };
                (header, create_segment(disk.as_ref(), dir, &header, &layout)?)
            }
        };
        let mut wal = Wal {
            disk,
            dir: dir.to_owned(),
            layout,
            header,
            file,
            position,
            zeroed,
            staged: Vec::new(),
            durable_lsn: replay.last_lsn,
            failure: None,
            _lock: lock,
        };
        // Before any datagram leaves: after a power loss nobody else may be this incarnation.
        let incarnation = replay.incarnation + 1;
        wal.append(&[(replay.last_lsn + 1, Record::Boot { incarnation })])?;
        let last_lsn = wal.sync()?;
        let recovered = Recovered {
            hard_state: replay.hard_state,
            mark: replay.mark,
            entries: replay.entries,
            incarnation,
            directory_id: header.directory_id,
            last_lsn,
            notes: replay.notes,
        };
        Ok((wal, recovered))
    }

    /// Takes records for the next [`Wal::sync`]. The caller numbers them, without a gap, from the one after the last.
    ///
    /// # Errors
    /// [`StorageError::Poisoned`] after any earlier error.
    pub fn append(&mut self, records: &[(Lsn, Record)]) -> Result<(), StorageError> {
        self.check_usable()?;
        for (lsn, record) in records {
            let expected = self.last_lsn() + 1;
            assert!(*lsn == expected, "record lsn {lsn} appended where lsn {expected} is next");
            self.staged.push((*lsn, record.clone()));
        }
        Ok(())
    }

    /// Makes everything appended durable, with one write and one fdatasync unless a segment fills up, and returns the
    /// lsn up to which all is durable. Without anything appended it touches nothing.
    ///
    /// # Errors
    /// The failure of the storage. What was appended since the last success may or may not survive, and nothing can be
    /// appended or synced any more: only [`Wal::open`] finds out.
    pub fn sync(&mut self) -> Result<Lsn, StorageError> {
        self.check_usable()?;
        if let Err(error) = self.flush() {
            self.failure = Some(error.to_string());
            return Err(error);
        }
        Ok(self.durable_lsn)
    }

    /// The last record appended, durable or not.
    pub fn last_lsn(&self) -> Lsn {
        self.staged.last().map_or(self.durable_lsn, |(lsn, _)| *lsn)
    }

    fn check_usable(&self) -> Result<(), StorageError> {
        match &self.failure {
            Some(first) => Err(StorageError::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut batch = Vec::new();
        let mut last_lsn = self.durable_lsn;
        for (lsn, record) in mem::take(&mut self.staged) {
            let used = self.position + batch.len() as u64;
            let full = used + record::encoded_bytes(&record) as u64 > self.layout.segment_bytes;
            if full && used > segment::HEADER_BYTES as u64 {
                self.write(&mut batch, last_lsn)?;
                self.roll()?;
            }
            record::encode(&mut batch, self.header.checksum_seed(), lsn, self.durable_lsn, &record);
            last_lsn = lsn;
        }
        self.write(&mut batch, last_lsn)
    }

    fn write(&mut self, batch: &mut Vec<u8>, last_lsn: Lsn) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let end = self.position + batch.len() as u64;
        if end > self.zeroed {
            self.zeroed = zeroed_ahead(end, &self.layout);
            batch.resize((self.zeroed - self.position) as usize, 0);
        }
        let path = self.dir.join(segment::file_name(self.header.sequence));
        self.file.write_at(self.position, batch).map_err(StorageError::io("write", &path))?;
        // Defends against power loss: whoever hears of a vote or an acknowledged entry may rely on it for ever.
        self.file.fdatasync().map_err(StorageError::io("sync", &path))?;
        (self.position, self.durable_lsn) = (end, last_lsn);
        batch.clear();
        Ok(())
    }

    /// Goes on in a new segment. The old one is synced: recovery relies on that.
    fn roll(&mut self) -> Result<(), StorageError> {
        self.header.sequence += 1;
        self.header.first_lsn = self.durable_lsn + 1;
        (self.file, self.position, self.zeroed) =
            create_segment(self.disk.as_ref(), &self.dir, &self.header, &self.layout)?;
        Ok(())
    }
}

/// A file that takes records, where the next one goes, and its length.
type Open = (Box<dyn DiskFile>, u64, u64);

/// Length of a segment whose records end at `end`.
fn zeroed_ahead(end: u64, layout: &Layout) -> u64 {
    end.next_multiple_of(layout.zero_step_bytes).min(layout.segment_bytes).max(end)
}

/// Creates `dir` and what is missing above it.
fn ensure_dir(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
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

/// Makes durable what recovery believes, and removes what it does not.
fn settle(disk: &dyn Disk, dir: &Path, files: &[SegmentFile], tail: &Tail) -> Result<Open, StorageError> {
    let newest = (tail.header.sequence - 1) as usize;
    // The node itself synced these before it made the newest, but whoever restored a copy of the directory may not have.
    for sealed in &files[..newest] {
        let synced = disk.open(&sealed.path).and_then(|file| file.fdatasync());
        synced.map_err(StorageError::io("sync", &sealed.path))?;
    }
    let SegmentFile { path, bytes, .. } = &files[newest];
    let file = disk.open(path).map_err(StorageError::io("open", path))?;
    // The last batch may be readable and yet not on disk: the process was killed before its fsync, or the fsync failed
    // and the kernel marked the pages clean. Only written anew does the fsync below speak of it.
    let unproven = &bytes[tail.unproven as usize..tail.end as usize];
    file.write_at(tail.unproven, unproven).map_err(StorageError::io("write", path))?;
    if tail.torn {
        // Records appended over a torn tail could be followed by its remains and read as corrupt.
        file.set_len(tail.end).map_err(StorageError::io("truncate", path))?;
    }
    file.fdatasync().map_err(StorageError::io("sync", path))?;
    disk.fsync_dir(dir).map_err(StorageError::io("sync", dir))?;
    Ok((file, tail.end, if tail.torn { tail.end } else { tail.file_bytes.max(tail.end) }))
}

/// Creates the segment `header` describes; on return it and its name are durable.
fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    header: &Header,
    layout: &Layout,
) -> Result<Open, StorageError> {
    let path = dir.join(segment::file_name(header.sequence));
    let file = disk.create(&path).map_err(StorageError::io("create", &path))?;
    let mut bytes = header.encode();
    let position = bytes.len() as u64;
    let zeroed = zeroed_ahead(position, layout);
    bytes.resize(zeroed as usize, 0);
    file.write_at(0, &bytes).map_err(StorageError::io("write", &path))?;
    // Before any record is in it: a record in a segment whose header or name a power loss takes away is lost with it,
    // however well it was synced.
    file.fdatasync().map_err(StorageError::io("sync", &path))?;
    disk.fsync_dir(dir).map_err(StorageError::io("sync", dir))?;
    Ok((file, position, zeroed))
}
