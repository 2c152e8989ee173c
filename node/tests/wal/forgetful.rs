//! A disk that says it synced and did not: shows that the tests would notice storage which leaves a sync out.
//! What a disk does that keeps its promises is the business of the memory disk.

use std::io;
use std::path::Path;

use node::storage::disk::{DiskDir, DiskFile};
use node::storage::{Disk, MemoryDisk};

/// A disk that forgets one kind of sync.
#[derive(Clone)]
pub(crate) struct Forgetful {
    pub(crate) disk: MemoryDisk,
    pub(crate) forgets: Forgets,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgets {
    Nothing,
    FsyncDir,
    Fdatasync,
}

impl Disk for Forgetful {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read_at(path, offset, len)
    }
    fn forget(&self, path: &Path) {
        self.disk.forget(path);
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile { file: self.disk.open(path)?, forgets: self.forgets }))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile { file: self.disk.create(path)?, forgets: self.forgets }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(ForgetfulDir { dir: self.disk.open_dir(dir)?, forgets: self.forgets }))
    }
    fn entropy(&self) -> io::Result<u64> {
        self.disk.entropy()
    }
}

struct ForgetfulDir {
    dir: Box<dyn DiskDir>,
    forgets: Forgets,
}

impl DiskDir for ForgetfulDir {
    fn fsync(&self) -> io::Result<()> {
        if self.forgets == Forgets::FsyncDir { Ok(()) } else { self.dir.fsync() }
    }
    fn lock(&self) -> io::Result<()> {
        self.dir.lock()
    }
}

struct ForgetfulFile {
    file: Box<dyn DiskFile>,
    forgets: Forgets,
}

impl DiskFile for ForgetfulFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn fdatasync(&self) -> io::Result<()> {
        if self.forgets == Forgets::Fdatasync { Ok(()) } else { self.file.fdatasync() }
    }
}
