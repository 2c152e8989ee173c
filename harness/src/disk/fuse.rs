//! The kernel's requests to a volume, and the answers, counted. What is stored is in `volume`, what is refused in `gate`.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;

use super::content::PAGE;
use super::gate::{Access, Answers, Fate, Gate, LATE, Moment, Power};
use super::volume::{Ino, Kind, Volume};

/// Nothing changes behind the kernel's back: it is mounted anew when something did.
const TTL: Duration = Duration::from_secs(3_600);
/// Bytes of a name.
const NAME_MAX: u32 = 255;

/// A disk: what is stored, what is wrong with it, what it answered.
#[derive(Debug)]
pub(super) struct State {
    pub(super) volume: Volume,
    pub(super) gate: Gate,
    pub(super) answers: Answers,
    /// Answers that wait for the end of a failing power.
    held: Vec<Held>,
    /// Counts mounts: what an earlier one lets go of is nobody's any more.
    pub(super) epoch: u64,
}

struct Held(Box<dyn FnOnce(&mut Answers) + Send>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new() -> Shared {
        let (gate, answers) = (Gate::new(), Answers::default());
        let state = State { volume: Volume::new(), gate, answers, held: Vec::new(), epoch: 0 };
        Shared { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the power fails, at most so long; whether it does.
    pub(super) fn wait_failing(&self, within: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, within, |state| state.gate.power == Power::On);
        waited.unwrap_or_else(PoisonError::into_inner).0.gate.power != Power::On
    }

    /// Sets the power. When it is no longer failing, who waits for an answer gets an error.
    pub(super) fn set_power(&self, power: Power) {
        let mut state = self.lock();
        state.gate.power = power;
        state.gate.armed = None;
        if power != Power::Failing {
            for Held(answer) in std::mem::take(&mut state.held) {
                answer(&mut state.answers);
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// An answer that can be an error.
trait Answer: Send + 'static {
    fn refuse(self, errno: fuser::Errno);
}

macro_rules! answers {
    ($($reply:ty),+) => {
        $(impl Answer for $reply {
            fn refuse(self, errno: fuser::Errno) {
                self.error(errno);
            }
        })+
    };
}
answers!(ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite);

/// One mount of a disk.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) shared: Arc<Shared>,
    pub(super) epoch: u64,
}

fn refuse<R: Answer>(answers: &mut Answers, access: Access, reply: R, errno: Errno) {
    // Errors that a healthy disk gives, such as that there is no such name, are no errors of the disk.
    if matches!(errno, Errno::EIO | Errno::ENOSPC) {
        *answers.errors.entry(format!("{} {errno:?}", access.name())).or_default() += 1;
    }
    reply.refuse(fuser::Errno::from_i32(errno as i32));
}

impl Mounted {
    /// Carries out a request if the disk lets it, and answers it.
    fn serve<R: Answer, T>(
        &self,
        access: Access,
        reply: R,
        work: impl FnOnce(&mut Volume) -> Result<T, Errno>,
        answer: impl FnOnce(R, &Volume, T),
    ) {
        let mut state = self.shared.lock();
        match state.gate.decide(access, None) {
            Fate::Hold => state.held.push(Held(Box::new(move |answers| {
                refuse(answers, access, reply, Errno::EIO);
            }))),
            Fate::Refuse => refuse(&mut state.answers, access, reply, Errno::EIO),
            Fate::Pass | Fate::Delay(_) => match work(&mut state.volume) {
                Ok(done) => answer(reply, &state.volume, done),
                Err(errno) => refuse(&mut state.answers, access, reply, errno),
            },
        }
    }

    fn flush(&self, ino: Ino, data_alone: bool, moment: Moment, reply: ReplyEmpty) {
        let came = Instant::now();
        let mut state = self.shared.lock();
        let counts = match moment {
            Moment::Fsync => state.volume.is_dirty(ino),
            Moment::FsyncDirectory => state.volume.has_unsynced_names(),
        };
        match state.gate.decide(Access::Fsync, counts.then_some(moment)) {
            Fate::Delay(delay) => {
                drop(state);
                let shared = self.shared.clone();
                // The thread that reads requests must not wait: every other request would wait with it.
                std::thread::spawn(move || {
                    let state = shared.lock();
                    let on = |state: &mut State| state.gate.power == Power::On;
                    let waited = shared.changed.wait_timeout_while(state, delay, on);
                    let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    let fate = match state.gate.power {
                        Power::On => Fate::Pass,
                        Power::Failing => Fate::Hold,
                        Power::Off => Fate::Refuse,
                    };
                    finish(&mut state, fate, ino, data_alone, came, reply);
                });
            }
            fate => {
                finish(&mut state, fate, ino, data_alone, came, reply);
                drop(state);
                self.shared.changed.notify_all();
            }
        }
    }
}

/// Carries out a flush, or not, and answers it.
fn finish(state: &mut State, fate: Fate, ino: Ino, data_alone: bool, came: Instant, reply: ReplyEmpty) {
    let done = match fate {
        Fate::Hold => {
            state.held.push(Held(Box::new(move |answers| {
                refuse(answers, Access::Fsync, reply, Errno::EIO);
            })));
            return;
        }
        Fate::Refuse => {
            // Without power nobody goes on as if the pages were clean.
            if state.gate.power == Power::On {
                state.volume.fail_flush(ino);
            }
            Err(Errno::EIO)
        }
        Fate::Pass | Fate::Delay(_) => state.volume.flush(ino, data_alone),
    };
    state.answers.flushes += 1;
    state.answers.late_flushes += u64::from(came.elapsed() >= LATE);
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => refuse(&mut state.answers, Access::Fsync, reply, errno),
    }
}

fn attributes(volume: &Volume, ino: Ino) -> Option<FileAttr> {
    let inode = volume.inode(ino).ok()?;
    let (kind, blocks) = match &inode.kind {
        Kind::File(content) => (FileType::RegularFile, content.pages() * (PAGE as u64 / 512)),
        Kind::Directory(_) => (FileType::Directory, 8),
        Kind::Symlink(_) => (FileType::Symlink, 0),
    };
    Some(FileAttr {
        ino: INodeNo(ino),
        size: inode.size(),
        blocks,
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.modified,
        crtime: inode.modified,
        kind,
        perm: (inode.mode & 0o7777) as u16,
        nlink: inode.links,
        uid: inode.uid,
        gid: inode.gid,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    })
}

/// Answers with an inode, which the kernel holds from now on.
fn entry(reply: ReplyEntry, volume: &Volume, ino: Ino) {
    match attributes(volume, ino) {
        Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        None => reply.error(fuser::Errno::ENOENT),
    }
}

fn attr(reply: ReplyAttr, volume: &Volume, ino: Ino) {
    match attributes(volume, ino) {
        Some(attributes) => reply.attr(&TTL, &attributes),
        None => reply.error(fuser::Errno::ENOENT),
    }
}

impl Filesystem for Mounted {
    fn init(&mut self, _req: &Request, _config: &mut KernelConfig) -> io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.shared.lock();
        match state.volume.lookup(parent.0, name) {
            Ok(ino) => {
                state.volume.hold(ino);
                entry(reply, &state.volume, ino);
            }
            Err(errno) => reply.error(fuser::Errno::from_i32(errno as i32)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let mut state = self.shared.lock();
        if state.epoch == self.epoch {
            state.volume.forget(ino.0, nlookup);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, &self.shared.lock().volume, ino.0);
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let work = |volume: &mut Volume| {
            volume.set_owner(ino.0, mode, uid, gid)?;
            size.map_or(Ok(()), |size| volume.resize(ino.0, size))
        };
        self.serve(Access::Write, reply, work, |reply, volume, ()| attr(reply, volume, ino.0));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.shared.lock().volume.inode(ino.0).map(|inode| &inode.kind) {
            Ok(Kind::Symlink(path)) => reply.data(path.as_os_str().as_encoded_bytes()),
            _ => reply.error(fuser::Errno::EINVAL),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc_type::MASK != libc_type::REGULAR {
            return reply.error(fuser::Errno::EPERM);
        }
        self.make(req, parent, name, Kind::File(Default::default()), mode & !umask, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make(req, parent, name, Kind::Directory(Default::default()), mode & !umask, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(req, parent, name, Kind::Symlink(target.to_owned()), 0o777, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(
            Access::Name,
            reply,
            |volume| volume.remove(parent.0, name, false),
            |reply, _, ()| reply.ok(),
        );
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(
            Access::Name,
            reply,
            |volume| volume.remove(parent.0, name, true),
            |reply, _, ()| reply.ok(),
        );
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        let work =
            |volume: &mut Volume| volume.rename((parent.0, name), (newparent.0, newname), keep, exchange);
        self.serve(Access::Name, reply, work, |reply, _, ()| reply.ok());
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let work = |volume: &mut Volume| {
            volume.link(ino.0, newparent.0, newname)?;
            volume.hold(ino.0);
            Ok(())
        };
        self.serve(Access::Name, reply, work, |reply, volume, ()| entry(reply, volume, ino.0));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // What is mapped and what is written are one, and stay so over an open.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let owner = (mode & !umask, req.uid(), req.gid());
        let work = |volume: &mut Volume| {
            let ino = volume.create(parent.0, name, Kind::File(Default::default()), owner)?;
            volume.hold(ino);
            Ok(ino)
        };
        self.serve(Access::Name, reply, work, |reply, volume, ino| match attributes(volume, ino) {
            Some(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE)
            }
            None => reply.error(fuser::Errno::ENOENT),
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = |volume: &mut Volume| Ok(volume.content(ino.0)?.now.read(offset, size as usize));
        self.serve(Access::Read, reply, work, |reply, _, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u32;
        self.serve(
            Access::Write,
            reply,
            |volume| volume.write(ino.0, offset, data),
            |reply, _, ()| {
                reply.written(length);
            },
        );
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let keep = mode & fallocate_mode::KEEP_SIZE != 0;
        let work = |volume: &mut Volume| match mode & !fallocate_mode::KEEP_SIZE {
            0 => volume.reserve(ino.0, offset, length, keep),
            fallocate_mode::PUNCH_HOLE => volume.zero(ino.0, offset, length),
            fallocate_mode::ZERO_RANGE => {
                volume.reserve(ino.0, offset, length, keep)?;
                volume.zero(ino.0, offset, length)
            }
            _ => Err(Errno::EOPNOTSUPP),
        };
        self.serve(Access::Write, reply, work, |reply, _, ()| reply.ok());
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.flush(ino.0, datasync, Moment::Fsync, reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.flush(ino.0, datasync, Moment::FsyncDirectory, reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let state = self.shared.lock();
        let Ok(directory) = state.volume.directory(ino.0) else {
            return reply.error(fuser::Errno::ENOTDIR);
        };
        let itself = [(OsStr::new("."), ino.0), (OsStr::new(".."), ino.0)];
        let named = directory.now.iter().map(|(name, ino)| (name.as_os_str(), *ino));
        for (rank, (name, named)) in (1..).zip(itself.into_iter().chain(named)).skip(offset as usize) {
            let kind = match state.volume.inode(named).map(|inode| &inode.kind) {
                Ok(Kind::Directory(_)) => FileType::Directory,
                Ok(Kind::Symlink(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(named), rank, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (all, free) = self.shared.lock().volume.space();
        reply.statfs(all, free, free, 1 << 20, 1 << 20, PAGE as u32, NAME_MAX, PAGE as u32);
    }
}

impl Mounted {
    fn make(&self, req: &Request, parent: INodeNo, name: &OsStr, kind: Kind, mode: u32, reply: ReplyEntry) {
        let owner = (mode, req.uid(), req.gid());
        let work = |volume: &mut Volume| {
            let ino = volume.create(parent.0, name, kind, owner)?;
            volume.hold(ino);
            Ok(ino)
        };
        self.serve(Access::Name, reply, work, entry);
    }
}

/// Types of files in a mode, as stat(2) has them.
mod libc_type {
    pub(super) const MASK: u32 = 0o170_000;
    pub(super) const REGULAR: u32 = 0o100_000;
}

/// Modes of fallocate(2).
mod fallocate_mode {
    pub(super) const KEEP_SIZE: i32 = 1;
    pub(super) const PUNCH_HOLE: i32 = 2;
    pub(super) const ZERO_RANGE: i32 = 0x10;
}
