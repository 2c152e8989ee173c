//! The seam between storage and the operating system: every file operation of the node, one method each, and the real disk.
//! What is written where is the business of [`super::wal`]; a disk that fails on command is [`super::memory_disk`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// Files and directories. Nothing that a method did is durable until the sync that its documentation names.
///
/// # Errors
/// Every method returns the error of the operating system as it is.
pub trait Disk: Send + Sync {
    /// The whole contents of a file, durable or not.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Up to `len` bytes of a file from `offset` on, durable or not; fewer, or none, where the file ends.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Has the next read of a file come from the device, not from memory. As far as the operating system can: what was not
    /// synced stays where it is.
    fn forget(&self, path: &Path);
    /// Opens an existing file for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a file that must not exist. Its name is durable after [`DiskDir::fsync`] of its directory.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames within one directory, over an existing file if there is one. Durable after [`DiskDir::fsync`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`DiskDir::fsync`].
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates one directory. Durable after [`DiskDir::fsync`] of its parent.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a directory.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn DiskDir>>;
    /// Makes the names in a directory durable that nobody has open.
    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.fsync()
    }
    /// A number that no other directory will draw. Here, because it comes from the environment as files do.
    fn entropy(&self) -> io::Result<u64>;
}

/// An open directory. Whoever changes names in it opens it before: there may be no descriptor to spare afterwards, and a name
/// that was changed and cannot be made durable is neither there nor gone.
pub trait DiskDir: Send + Sync {
    /// Makes the names in it durable.
    fn fsync(&self) -> io::Result<()>;
    /// Takes the directory for this process alone, until this is dropped or the process ends.
    /// `WouldBlock` if another holds it.
    fn lock(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at `offset`, in place. Durable after `fdatasync`; until then each sector of it may or may not be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or (with zeros) extends. Durable after `fdatasync`.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable. After an error nothing is known of what was written since the last success.
    fn fdatasync(&self) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of this machine: device and inode, so that it stays the same under another name.
pub(super) type FileId = (u64, u64);

impl RealDisk {
    /// Which file has this name, and how long it is, bytes.
    pub(super) fn identify(&self, path: &Path) -> io::Result<(FileId, u64)> {
        let meta = fs::metadata(path)?;
        Ok(((meta.dev(), meta.ino()), meta.len()))
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // A wish that is longer than the file reserves no memory for what is not there.
        let left = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; len.min(usize::try_from(left).unwrap_or(len))];
        let mut filled = 0;
        while filled < bytes.len() {
            match FileExt::read_at(&file, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn forget(&self, path: &Path) {
        if let Ok(file) = File::open(path) {
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(File::open(dir)?))
    }

    fn entropy(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl DiskDir for File {
    fn fsync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn lock(&self) -> io::Result<()> {
        // flock(2) on the directory itself: no lock file to leave behind, and the kernel releases it with the process.
        match self.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
