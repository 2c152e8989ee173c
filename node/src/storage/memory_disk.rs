//! A disk in memory that keeps apart what is durable and what is not, and that can be killed, cut off from power or made
//! to refuse an operation. When it does so is the caller's decision; every chance it takes comes from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::storage::disk::{Disk, DiskDir, DiskFile};

/// What a power loss keeps or loses as one: a sector is on the disk or it is not.
pub const SECTOR_BYTES: u64 = 512;

/// What happens at a power loss to everything that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it is lost: the disk that promised nothing kept nothing.
    Lost,
    /// Of each write any subset of sectors is kept, of the changes of names any prefix.
    Torn {
        /// Chooses them.
        seed: u64,
    },
}

/// Which operations the disk refuses. Operations are counted from 0, see [`MemoryDisk::operations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first operation refused.
    pub at: u64,
    /// Refuse every later one too, as if the process were dead.
    pub onward: bool,
    /// The error. A refused write may have done half of its work; what a refused fdatasync should have made durable
    /// never will be, unless it is written again. `EMFILE` and `ENFILE` are refused to who opens something and to nobody
    /// else.
    pub errno: Errno,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    files: BTreeMap<FileId, FileState>,
    next_file: FileId,
    names: Names,
    durable_names: Names,
    /// Changes of names that no `fsync` has made durable, oldest first.
    unsynced_names: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Counts kills and power losses: handles and locks of before are void.
    life: u64,
    operations: u64,
    refusal: Option<Refusal>,
    /// Bytes that all files may have together.
    capacity: u64,
    entropy: ChaCha8Rng,
}

type FileId = u64;
type Names = BTreeMap<PathBuf, Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(FileId),
}

#[derive(Clone, Debug)]
struct NameChange {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

#[derive(Debug, Default)]
struct FileState {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl MemoryDisk {
    /// An empty disk. `seed` feeds [`Disk::entropy`] alone.
    pub fn new(seed: u64) -> MemoryDisk {
        let inner = Inner {
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            locks: BTreeSet::new(),
            life: 0,
            operations: 0,
            refusal: None,
            capacity: u64::MAX,
            entropy: ChaCha8Rng::seed_from_u64(seed),
        };
        MemoryDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    /// How many operations were asked for: the number that the next one will have.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Refuses operations from now on, or none any more.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.inner().refusal = refusal;
    }

    /// The process that used the disk is killed: its handles and locks are void, everything it wrote stays readable, and
    /// what was not synced is still at the mercy of a power loss.
    pub fn kill(&self) {
        self.inner().end_life();
    }

    /// Power is lost and comes back: what was not synced is treated as `unsynced` says, handles and locks are void.
    pub fn power_loss(&self, unsynced: Unsynced) {
        self.inner().power_loss(unsynced);
    }

    /// Changes a file behind everybody's back, durably, as a rotting medium or an operator would.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut inner = self.inner();
        let id = inner.file_id(path)?;
        let file = inner.files.get_mut(&id).ok_or(Errno::ENOENT)?;
        change(&mut file.current);
        file.durable = file.current.clone();
        file.unsynced.clear();
        Ok(())
    }

    /// Bytes that all files have together.
    pub fn used(&self) -> u64 {
        self.inner().used()
    }

    /// Has room for so many bytes from now on. A write that would make a file longer than that allows is refused with
    /// `ENOSPC`, after what fits was written.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner().capacity = bytes;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the maps whole: no method panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation, and refuses it if it should.
    fn operate(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        inner.count(false)?;
        Ok(inner)
    }

    /// The same, of one that opens something.
    fn opening(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        inner.count(true)?;
        Ok(inner)
    }
}

impl Inner {
    fn count(&mut self, opens: bool) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.refusal {
            Some(refusal) if matches!(refusal.errno, Errno::EMFILE | Errno::ENFILE) && !opens => Ok(()),
            Some(refusal) if number == refusal.at || (refusal.onward && number > refusal.at) => {
                Err(refusal.errno.into())
            }
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|node| node.file());
        named.filter_map(|id| self.files.get(&id)).map(|file| file.current.len() as u64).sum()
    }

    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
    }

    fn power_loss(&mut self, unsynced: Unsynced) {
        self.end_life();
        let mut rng = match unsynced {
            Unsynced::Lost => None,
            Unsynced::Torn { seed } => Some(ChaCha8Rng::seed_from_u64(seed)),
        };
        let mut changes = mem::take(&mut self.unsynced_names);
        let kept = rng.as_mut().map_or(0, |rng| rng.random_range(0..=changes.len()));
        for change in changes.drain(..kept) {
            change.apply(&mut self.durable_names);
        }
        // A name whose directory is lost leads nowhere. Directories come before what is in them.
        let mut reachable = Names::new();
        for (path, node) in mem::take(&mut self.durable_names) {
            if parent(&path).is_none_or(|dir| reachable.contains_key(dir)) {
                reachable.insert(path, node);
            }
        }
        self.durable_names = reachable;
        self.names = self.durable_names.clone();
        let named: BTreeSet<FileId> = self.names.values().filter_map(|node| node.file()).collect();
        self.files.retain(|id, _| named.contains(id));
        for file in self.files.values_mut() {
            file.power_loss(rng.as_mut());
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn file_id(&self, path: &Path) -> io::Result<FileId> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            Some(Node::Directory) => Err(Errno::EISDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn check_dir(&self, dir: Option<&Path>) -> io::Result<()> {
        match dir.map(|dir| self.names.get(dir)) {
            None | Some(Some(Node::Directory)) => Ok(()),
            Some(Some(Node::File(_))) => Err(Errno::ENOTDIR.into()),
            Some(None) => Err(Errno::ENOENT.into()),
        }
    }

    fn check_free(&self, path: &Path) -> io::Result<()> {
        self.check_dir(parent(path))?;
        if self.names.contains_key(path) { Err(Errno::EEXIST.into()) } else { Ok(()) }
    }
}

impl Node {
    fn file(&self) -> Option<FileId> {
        match self {
            Node::File(id) => Some(*id),
            Node::Directory => None,
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(removed) = &self.removed {
            names.remove(removed);
        }
        if let Some((path, node)) = &self.added {
            names.insert(path.clone(), *node);
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let path = self.removed.as_ref().or(self.added.as_ref().map(|(path, _)| path));
        path.is_some_and(|path| parent(path) == named(dir))
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write(image, *offset, bytes),
            Change::SetLen(len) => image.resize(*len as usize, 0),
        }
    }
}

impl FileState {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn power_loss(&mut self, rng: Option<&mut ChaCha8Rng>) {
        let changes = mem::take(&mut self.unsynced);
        if let Some(rng) = rng {
            // From nothing at all to everything: with one fixed share, long runs of either would never be seen.
            let share = f64::from(rng.random_range(0..=4u32)) / 4.0;
            for change in changes {
                match change {
                    Change::Write { offset, bytes } => {
                        let mut from = 0;
                        while from < bytes.len() {
                            let in_sector = SECTOR_BYTES - (offset + from as u64) % SECTOR_BYTES;
                            let to = bytes.len().min(from + in_sector as usize);
                            if rng.random_bool(share) {
                                write(&mut self.durable, offset + from as u64, &bytes[from..to]);
                            }
                            from = to;
                        }
                    }
                    Change::SetLen(_) if rng.random_bool(share) => change.apply(&mut self.durable),
                    Change::SetLen(_) => {}
                }
            }
        }
        self.current = self.durable.clone();
    }
}

fn write(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if image.len() < to {
        image.resize(to, 0);
    }
    image[from..to].copy_from_slice(bytes);
}

/// A directory that has a name; the root and the working directory are always there.
fn named(dir: &Path) -> Option<&Path> {
    let root = dir.as_os_str().is_empty() || dir == Path::new(".") || dir == Path::new("/");
    (!root).then_some(dir)
}

fn parent(path: &Path) -> Option<&Path> {
    path.parent().and_then(named)
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let inner = self.opening()?;
        let id = inner.file_id(path)?;
        inner.files.get(&id).map(|file| file.current.clone()).ok_or_else(|| Errno::ENOENT.into())
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let inner = self.opening()?;
        let id = inner.file_id(path)?;
        let bytes = inner.files.get(&id).map(|file| file.current.as_slice()).ok_or(Errno::ENOENT)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[from..bytes.len().min(from.saturating_add(len))].to_vec())
    }

    fn forget(&self, _path: &Path) {}

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.opening()?;
        let file = inner.file_id(path)?;
        Ok(Box::new(Handle { disk: self.clone(), file, life: inner.life }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.opening()?;
        inner.check_free(path)?;
        let file = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(file, FileState::default());
        inner.change_names(NameChange { removed: None, added: Some((path.to_owned(), Node::File(file))) });
        Ok(Box::new(Handle { disk: self.clone(), file, life: inner.life }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.operate()?;
        let file = inner.file_id(from)?;
        if parent(from) != parent(to) {
            return Err(Errno::EXDEV.into());
        }
        let added = Some((to.to_owned(), Node::File(file)));
        inner.change_names(NameChange { removed: Some(from.to_owned()), added });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.operate()?;
        inner.file_id(path)?;
        inner.change_names(NameChange { removed: Some(path.to_owned()), added: None });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.opening()?;
        inner.check_dir(named(dir))?;
        let inside = inner.names.keys().filter(|path| parent(path) == named(dir));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.operate()?;
        inner.check_free(dir)?;
        inner.change_names(NameChange { removed: None, added: Some((dir.to_owned(), Node::Directory)) });
        Ok(())
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn DiskDir>> {
        let inner = self.opening()?;
        inner.check_dir(named(dir))?;
        let (dir, life) = (dir.to_owned(), inner.life);
        Ok(Box::new(DirHandle { disk: self.clone(), dir, life, locked: AtomicBool::new(false) }))
    }

    fn entropy(&self) -> io::Result<u64> {
        Ok(self.opening()?.entropy.next_u64())
    }
}

struct DirHandle {
    disk: MemoryDisk,
    dir: PathBuf,
    life: u64,
    locked: AtomicBool,
}

impl DirHandle {
    /// Runs one counted operation, if the process that opened the directory is still there.
    fn operate(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.operate()?;
        if inner.life == self.life { Ok(inner) } else { Err(Errno::EBADF.into()) }
    }
}

impl DiskDir for DirHandle {
    fn fsync(&self) -> io::Result<()> {
        let mut inner = self.operate()?;
        let changes = mem::take(&mut inner.unsynced_names);
        let (synced, kept): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.is_in(&self.dir));
        for change in synced {
            change.apply(&mut inner.durable_names);
        }
        inner.unsynced_names = kept;
        Ok(())
    }

    fn lock(&self) -> io::Result<()> {
        let mut inner = self.operate()?;
        if !inner.locks.insert(self.dir.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.locked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for DirHandle {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life == self.life && self.locked.load(Ordering::Relaxed) {
            inner.locks.remove(&self.dir);
        }
    }
}

struct Handle {
    disk: MemoryDisk,
    file: FileId,
    life: u64,
}

impl Handle {
    /// How much of a write there is room for, if not for all of it.
    fn fits(&self, offset: u64, len: u64) -> Option<u64> {
        let inner = self.disk.inner();
        let end = inner.files.get(&self.file)?.current.len() as u64;
        let room = inner.capacity.saturating_sub(inner.used());
        let grows = (offset + len).saturating_sub(end);
        (grows > room).then(|| len - (grows - room).min(len))
    }

    /// Runs one counted operation on the file; `refused` is what it still does when it is refused.
    fn operate(
        &self,
        work: impl FnOnce(&mut FileState),
        refused: impl FnOnce(&mut FileState),
    ) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let admitted = inner.count(false);
        if inner.life != self.life {
            return Err(Errno::EBADF.into());
        }
        let file = inner.files.get_mut(&self.file).ok_or(Errno::EBADF)?;
        match &admitted {
            Ok(()) => work(file),
            Err(_) => refused(file),
        }
        admitted
    }
}

impl DiskFile for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = |bytes: &[u8]| Change::Write { offset, bytes: bytes.to_vec() };
        if let Some(fits) = self.fits(offset, bytes.len() as u64) {
            self.operate(|file| file.change(change(&bytes[..fits as usize])), |_| {})?;
            return Err(Errno::ENOSPC.into());
        }
        self.operate(|file| file.change(change(bytes)), |file| file.change(change(&bytes[..bytes.len() / 2])))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|file| file.change(Change::SetLen(len)), |_| {})
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.operate(
            |file| {
                for change in mem::take(&mut file.unsynced) {
                    change.apply(&mut file.durable);
                }
            },
            // The kernel reports the failure once and marks the pages clean: readable until the power is lost, durable never.
            |file| file.unsynced.clear(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "d/f";

    /// A disk with an empty durable file.
    fn disk() -> (MemoryDisk, Box<dyn DiskFile>) {
        let disk = MemoryDisk::new(1);
        disk.create_dir(Path::new("d")).unwrap();
        disk.fsync_dir(Path::new(".")).unwrap();
        let file = disk.create(Path::new(FILE)).unwrap();
        disk.fsync_dir(Path::new("d")).unwrap();
        (disk, file)
    }

    fn contents(disk: &MemoryDisk) -> Vec<u8> {
        disk.read(Path::new(FILE)).unwrap()
    }

    #[test]
    fn only_what_was_synced_survives_the_worst_power_loss() {
        let (disk, file) = disk();
        file.write_at(0, b"synced").unwrap();
        file.fdatasync().unwrap();
        file.write_at(3, b"not this").unwrap();
        assert_eq!(contents(&disk), b"synnot this");
        disk.kill();
        assert_eq!(contents(&disk), b"synnot this", "a kill loses nothing");
        assert!(file.write_at(0, b"x").is_err(), "but the handle is gone");
        disk.power_loss(Unsynced::Lost);
        assert_eq!(contents(&disk), b"synced");
    }

    #[test]
    fn names_survive_only_with_their_directory() {
        let (disk, _file) = disk();
        disk.create_dir(Path::new("d/e")).unwrap();
        disk.create(Path::new("d/e/g")).unwrap();
        disk.fsync_dir(Path::new("d/e")).unwrap();
        disk.rename(Path::new(FILE), Path::new("d/h")).unwrap();
        assert_eq!(disk.list(Path::new("d")).unwrap(), ["e", "h"]);
        disk.power_loss(Unsynced::Lost);
        assert_eq!(disk.list(Path::new("d")).unwrap(), ["f"]);
        assert!(disk.list(Path::new("d/e")).is_err());

        disk.rename(Path::new(FILE), Path::new("d/h")).unwrap();
        disk.fsync_dir(Path::new("d")).unwrap();
        disk.unlink(Path::new("d/h")).unwrap();
        disk.power_loss(Unsynced::Lost);
        assert_eq!(disk.list(Path::new("d")).unwrap(), ["h"]);
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors_and_its_seed_decides_which() {
        let torn = |seed| {
            let (disk, file) = disk();
            file.write_at(0, &[1; 4096]).unwrap();
            file.fdatasync().unwrap();
            file.write_at(100, &[2; 3996]).unwrap();
            disk.power_loss(Unsynced::Torn { seed });
            contents(&disk)
        };
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let bytes = torn(seed);
            assert_eq!(bytes, torn(seed));
            assert!(bytes[..100].iter().all(|&byte| byte == 1), "bytes that nobody wrote");
            for sector in [&bytes[100..512]].into_iter().chain(bytes[512..].chunks(512)) {
                assert!(sector.iter().all(|byte| byte == &sector[0]), "a torn sector");
            }
            outcomes.insert(bytes);
        }
        assert!(outcomes.len() > 20, "{} different outcomes of 50", outcomes.len());
    }

    #[test]
    fn what_a_refused_fdatasync_left_behind_no_later_one_makes_durable() {
        let (disk, file) = disk();
        file.write_at(0, b"lost").unwrap();
        disk.refuse(Some(Refusal { at: disk.operations(), onward: false, errno: Errno::EIO }));
        assert_eq!(file.fdatasync().unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
        file.fdatasync().unwrap();
        assert_eq!(contents(&disk), b"lost");
        disk.power_loss(Unsynced::Lost);
        assert_eq!(contents(&disk), b"");
    }

    #[test]
    fn a_full_disk_takes_what_it_has_room_for_and_what_overwrites() {
        let (disk, file) = disk();
        file.write_at(0, b"1234").unwrap();
        disk.set_capacity(6);
        assert_eq!(file.write_at(2, b"abcdef").unwrap_err().raw_os_error(), Some(Errno::ENOSPC as i32));
        assert_eq!((contents(&disk), disk.used()), (b"12abcd".to_vec(), 6));
        file.write_at(0, b"xy").unwrap();
        disk.unlink(Path::new(FILE)).unwrap();
        assert_eq!(disk.used(), 0);
    }

    #[test]
    fn who_may_open_no_more_files_goes_on_with_what_is_open() {
        let (disk, file) = disk();
        let dir = disk.open_dir(Path::new("d")).unwrap();
        disk.refuse(Some(Refusal { at: 0, onward: true, errno: Errno::EMFILE }));
        assert_eq!(disk.open(Path::new(FILE)).err().unwrap().raw_os_error(), Some(Errno::EMFILE as i32));
        assert!(disk.create(Path::new("d/g")).is_err() && disk.fsync_dir(Path::new("d")).is_err());
        file.write_at(0, b"open").unwrap();
        file.fdatasync().unwrap();
        disk.rename(Path::new(FILE), Path::new("d/h")).unwrap();
        dir.fsync().unwrap();
        disk.refuse(None);
        disk.power_loss(Unsynced::Lost);
        assert_eq!(disk.read(Path::new("d/h")).unwrap(), b"open");
        assert!(dir.fsync().is_err(), "the process that had it open is gone");
    }

    #[test]
    fn a_directory_is_locked_until_who_locked_it_lets_go() {
        let (disk, _file) = disk();
        let open = || disk.open_dir(Path::new("d")).unwrap();
        let first = open();
        first.lock().unwrap();
        let second = open();
        assert_eq!(second.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(second);
        assert!(open().lock().is_err(), "who does not hold it gives nothing back");
        drop(first);
        open().lock().unwrap();
    }

    #[test]
    fn a_refused_write_may_do_half_and_onward_means_all() {
        let (disk, file) = disk();
        disk.refuse(Some(Refusal { at: disk.operations(), onward: true, errno: Errno::ENOSPC }));
        assert!(file.write_at(0, b"half").is_err());
        assert!(disk.read(Path::new(FILE)).is_err());
        disk.refuse(None);
        assert_eq!(contents(&disk), b"ha");
    }
}
