//! What survives a kill and a power loss: one write-ahead log for everything that Figure 2 calls persistent state, and
//! snapshots of what it did. When a record must be durable, and what may leave the node before it is, the server decides.
//!
//! Reading order: [`disk`] (the seam to the operating system), [`record`], [`checkpoint`], [`segment`] and [`superblock`] (the
//! bytes), [`slots`] and [`recovery`] (what bytes mean after a failure), [`open`] (what is repaired), [`wal`] (append, sync,
//! remove), [`snapshot_file`], [`snapshot_dir`] and [`snapshot_job`] (bytes and files of snapshots, and the work on them).
//! [`scrub`] looks for rot meanwhile; [`memory_disk`] is a disk that loses power on command.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

pub mod checkpoint;
pub mod disk;
mod forgetful_disk;
pub mod memory_disk;
pub mod open;
pub mod record;
pub mod recovery;
pub mod scrub;
pub mod segment;
pub mod slots;
pub mod snapshot_dir;
pub mod snapshot_file;
pub mod snapshot_job;
pub mod superblock;
pub mod wal;

pub use disk::{Disk, RealDisk};
pub use forgetful_disk::ForgetfulDisk;
pub use memory_disk::MemoryDisk;
pub use open::{Condition, Recovered};
pub use snapshot_dir::{SnapshotDir, SnapshotWriter};
pub use snapshot_file::SnapshotMeta;
pub use wal::{Layout, Progress, Wal};

/// Whose data a directory holds. Written into every segment: a directory that was copied or mounted to the wrong place
/// is refused instead of replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as a hash of its name.
    pub cluster_id: u64,
    /// The node in it, counted from 1.
    pub node_id: u32,
}

/// Why storage cannot serve. [`StorageError::exit_code`] tells refused data from a failed disk.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The operating system refused. What was being synced may or may not be durable.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb: `write`, `sync`, …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// An earlier call failed. After a failed fsync the kernel marks the lost pages clean, so that a second fsync
    /// would report what is not so (Rebello et al., ATC'20): there is no way on but recovery.
    #[error("the write-ahead log takes no more records, because earlier it {first}")]
    Poisoned {
        /// The first failure, as a sentence that follows "it".
        first: String,
    },
    /// Another process has the directory open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// Bytes that were durable are not what was written.
    #[error("{} is corrupt at byte {offset}: {detail}", file.display())]
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found and what was expected.
        detail: String,
    },
    /// The directory is somebody else's.
    #[error("{} belongs to {found}, not to {expected}", file.display())]
    Foreign {
        /// The segment that says so.
        file: PathBuf,
        /// Its owner.
        found: String,
        /// The owner it should have.
        expected: String,
    },
    /// Written by a release with another format.
    #[error("{} has format version {found}; this node reads version {supported}", file.display())]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
}

impl StorageError {
    /// The exit code of `node serve`: 65 if data was refused as it is, 74 if the storage failed (sysexits.h).
    pub fn exit_code(&self) -> u8 {
        match self {
            StorageError::Io { .. } | StorageError::Poisoned { .. } => 74,
            StorageError::Locked { .. }
            | StorageError::Corrupt { .. }
            | StorageError::Foreign { .. }
            | StorageError::Version { .. } => 65,
        }
    }

    /// The way out, for people.
    pub fn hint(&self) -> &'static str {
        match self {
            StorageError::Io { .. } | StorageError::Poisoned { .. } => {
                "check free space, permissions and the kernel log, then start the node again: it recovers all that it acknowledged"
            }
            StorageError::Locked { .. } => {
                "stop the other process, or give this node a data directory of its own"
            }
            StorageError::Corrupt { .. } => {
                "`node inspect DIR` shows what is still readable; restore the directory from a backup of this node. \
                 Do not start it empty under the same id: it would forget its votes"
            }
            StorageError::Foreign { .. } => {
                "check the data directory, the node id and the cluster name on the command line"
            }
            StorageError::Version { .. } => "run the release that wrote the directory",
        }
    }

    /// Whether the process, or the machine, may open no more files. It says nothing about the file.
    pub(crate) fn out_of_files(error: &io::Error) -> bool {
        [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32)).contains(&error.raw_os_error())
    }

    /// Wraps an error of the operating system, for `map_err`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.into();
        move |source| StorageError::Io { action, path, source }
    }
}
