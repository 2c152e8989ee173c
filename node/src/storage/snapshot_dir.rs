//! The snapshot files of a data directory: written under a name that nobody reads, made durable, and only then named.
//! What is in them is left to [`super::snapshot_file`]; when one is taken or may go, to the replica.
//!
//! `snapshot-<index as 16 hex digits>-<term as 16 hex digits>.snap` holds the image at that entry; the same with `.tmp` is
//! one that is being written, or was when the process ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raft::types::LogId;
use crate::storage::disk::{Disk, DiskDir, DiskFile};
use crate::storage::snapshot_file::{self, BadImage, SnapshotMeta};
use crate::storage::{Identity, StorageError, open};

/// A snapshot is synced each time that so many bytes were written.
const SYNC_STEP_BYTES: u64 = 4 << 20;

/// The name of the snapshot at `last`. Sorted by name is sorted by index.
pub fn file_name(last: LogId) -> String {
    format!("snapshot-{:016x}-{:016x}.snap", last.index, last.term)
}

/// The entry in a name that [`file_name`] made; `None` for any other name.
pub fn parse_file_name(name: &str) -> Option<LogId> {
    let (index, term) = name.strip_prefix("snapshot-")?.strip_suffix(".snap")?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let last = LogId { index: number(index)?, term: number(term)? };
    (file_name(last) == name).then_some(last)
}

/// The name under which the snapshot at `last` is written.
fn unfinished_name(last: LogId) -> String {
    format!("snapshot-{:016x}-{:016x}.tmp", last.index, last.term)
}

/// Whether a name is that of a snapshot which is being written.
fn parse_unfinished_name(name: &str) -> Option<LogId> {
    parse_file_name(&format!("{}.snap", name.strip_suffix(".tmp")?))
}

/// The snapshots of one data directory. One thread writes and removes; any may read.
#[derive(Clone)]
pub struct SnapshotDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cluster_id: u64,
}

impl SnapshotDir {
    /// Those in `dir`, which exists.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, identity: &Identity) -> SnapshotDir {
        SnapshotDir { disk, dir: dir.to_owned(), cluster_id: identity.cluster_id }
    }

    /// The cluster whose snapshots these are, for [`snapshot_file::Encoder::new`].
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Begins to write the snapshot at `last`. What an earlier attempt left is gone.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn writer(&self, last: LogId) -> Result<SnapshotWriter, StorageError> {
        let path = self.dir.join(unfinished_name(last));
        let names = self.open_dir()?;
        open::remove(self.disk.as_ref(), &path)?;
        let file = self.disk.create(&path).map_err(StorageError::io("create", &path))?;
        let (written, synced, finished) = (0, 0, false);
        Ok(SnapshotWriter { dir: self.clone(), names, last, path, file, written, synced, finished })
    }

    /// Writes a whole image at once. On return it is durable.
    ///
    /// # Errors
    /// As [`SnapshotDir::load`] for an image that is not what `meta` promises; otherwise those of the operating system, and
    /// then there is no such snapshot.
    pub fn save(&self, meta: &SnapshotMeta, image: &[u8]) -> Result<(), StorageError> {
        if self.check(meta.last, image)? != *meta {
            let detail = "it is not the image that was promised".to_owned();
            return Err(StorageError::Corrupt { file: self.path(meta.last), offset: 0, detail });
        }
        let mut writer = self.writer(meta.last)?;
        for piece in image.chunks(SYNC_STEP_BYTES as usize) {
            writer.write(piece)?;
        }
        writer.finish()
    }

    /// Up to `len` bytes of the image at `last` from `offset` on; fewer where it ends. They are not checked: only a whole
    /// image can be.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn read_at(&self, last: LogId, offset: u64, len: usize) -> Result<Vec<u8>, StorageError> {
        let path = self.path(last);
        self.disk.read_at(&path, offset, len).map_err(StorageError::io("read", &path))
    }

    /// The image at `last`, every byte of it checked.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`], [`StorageError::Foreign`] or [`StorageError::Version`] if it is not what was written
    /// there; otherwise those of the operating system.
    pub fn load(&self, last: LogId) -> Result<(SnapshotMeta, Vec<u8>), StorageError> {
        let path = self.path(last);
        let image = self.disk.read(&path).map_err(StorageError::io("read", &path))?;
        let meta = self.check(last, &image)?;
        Ok((meta, image))
    }

    /// The snapshots that are there, oldest first. Whether they are whole, [`SnapshotDir::load`] finds out.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn list(&self) -> Result<Vec<LogId>, StorageError> {
        let names = self.disk.list(&self.dir).map_err(StorageError::io("list", &self.dir))?;
        Ok(names.iter().filter_map(|name| parse_file_name(name)).collect())
    }

    /// Removes every snapshot but those in `keep`, and what unfinished ones left. The caller knows that those in `keep`
    /// are durable.
    ///
    /// # Errors
    /// Those of the operating system. Some may be gone then, and none of `keep`.
    pub fn remove_except(&self, keep: &[LogId]) -> Result<(), StorageError> {
        let open_dir = self.open_dir()?;
        let names = self.disk.list(&self.dir).map_err(StorageError::io("list", &self.dir))?;
        let mut removed = false;
        for name in names {
            let last = parse_file_name(&name).or_else(|| parse_unfinished_name(&name));
            if last.is_some_and(|last| !keep.contains(&last)) {
                let path = self.dir.join(name);
                self.disk.unlink(&path).map_err(StorageError::io("remove", &path))?;
                removed = true;
            }
        }
        if removed {
            // Nothing relies on their absence; but space that a power loss gives back to them is space that is missing.
            open_dir.fsync().map_err(StorageError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    fn open_dir(&self) -> Result<Box<dyn DiskDir>, StorageError> {
        self.disk.open_dir(&self.dir).map_err(StorageError::io("open", &self.dir))
    }

    fn path(&self, last: LogId) -> PathBuf {
        self.dir.join(file_name(last))
    }

    fn check(&self, last: LogId, image: &[u8]) -> Result<SnapshotMeta, StorageError> {
        let file = self.path(last);
        match snapshot_file::verify(image, Some(self.cluster_id)) {
            Ok(image) if image.meta.last == last => Ok(image.meta),
            Ok(image) => {
                let detail = format!("it holds the snapshot at {}, its name says {last}", image.meta.last);
                Err(StorageError::Corrupt { file, offset: 0, detail })
            }
            Err(BadImage::Foreign { found }) => Err(StorageError::Foreign {
                file,
                found: format!("cluster {found:016x}"),
                expected: format!("cluster {:016x}", self.cluster_id),
            }),
            Err(BadImage::Version { found }) => {
                Err(StorageError::Version { file, found, supported: snapshot_file::VERSION })
            }
            Err(bad) => Err(StorageError::Corrupt { file, offset: bad.offset(), detail: bad.to_string() }),
        }
    }
}

/// A snapshot that is being written. Dropped before it is finished, it leaves nothing.
pub struct SnapshotWriter {
    dir: SnapshotDir,
    /// Open from the beginning, so that what gets a name can be made durable under it.
    names: Box<dyn DiskDir>,
    last: LogId,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    written: u64,
    synced: u64,
    finished: bool,
}

impl SnapshotWriter {
    /// Adds the next bytes of the image.
    ///
    /// # Errors
    /// Those of the operating system. The snapshot cannot be finished then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_at(self.written, bytes).map_err(StorageError::io("write", &self.path))?;
        self.written += bytes.len() as u64;
        if self.written - self.synced >= SYNC_STEP_BYTES {
            // Not for the snapshot's sake: one large sync at its end would hold up those of the log on the same disk.
            self.file.fdatasync().map_err(StorageError::io("sync", &self.path))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the snapshot durable and gives it its name, in this order: a name that a power loss spares must not lead to
    /// bytes that it took.
    ///
    /// # Errors
    /// Those of the operating system. There is no such snapshot then, or one whose name may not survive power loss.
    pub fn finish(mut self) -> Result<(), StorageError> {
        let SnapshotDir { disk, dir, .. } = &self.dir;
        self.file.fdatasync().map_err(StorageError::io("sync", &self.path))?;
        let named = dir.join(file_name(self.last));
        disk.rename(&self.path, &named).map_err(StorageError::io("rename", &self.path))?;
        self.finished = true;
        self.names.fsync().map_err(StorageError::io("sync", dir))
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // If it stays, it is removed with the next one.
            let _ = self.dir.disk.unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_or_nobody_s() {
        let last = LogId { index: 26, term: 3 };
        assert_eq!(file_name(last), "snapshot-000000000000001a-0000000000000003.snap");
        assert_eq!(parse_file_name(&file_name(last)), Some(last));
        assert_eq!(parse_unfinished_name(&unfinished_name(last)), Some(last));
        for name in [
            "snapshot-1a-3.snap",
            "snapshot-000000000000001A-0000000000000003.snap",
            "snapshot-000000000000001a-0000000000000003.tmp",
            "snapshot-000000000000001a.snap",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
