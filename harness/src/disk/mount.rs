//! A mount namespace that one thread of ours and the nodes share, and nobody else: whatever this process dies of, the kernel unmounts
//! what is mounted there with the last process in it. Nothing is left to clean.
//!
//! The harness itself never looks at these files through the kernel: a process that waits for an answer of its own dead threads cannot
//! even be killed.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use fuser::{BackgroundSession, Config, Session, SessionACL};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::fuse::Mounted;

/// What a mount is called in /proc/mounts.
pub(crate) const SOURCE: &str = "whitewater";

type Job = Box<dyn FnOnce() + Send>;

/// The namespace, as long as this lives.
#[derive(Debug)]
pub(super) struct Namespace {
    jobs: SyncSender<Job>,
    file: Arc<OwnedFd>,
}

impl Namespace {
    pub(super) fn new() -> io::Result<Namespace> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (ready, answer) = sync_channel(1);
        std::thread::Builder::new().name("mounts".to_owned()).spawn(move || {
            let made = enter_new();
            let failed = made.is_err();
            if ready.send(made).is_err() || failed {
                return;
            }
            for job in queue {
                job();
            }
        })?;
        let file = answer.recv().map_err(|_| io::Error::other("the mounting thread is gone"))??;
        Ok(Namespace { jobs, file: Arc::new(file) })
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let gone = || io::Error::other("the mounting thread is gone");
        let (reply, answer) = sync_channel(1);
        let job: Job = Box::new(move || drop(reply.send(job())));
        self.jobs.send(job).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Mounts a disk at `path`, which exists.
    pub(super) fn mount(&self, path: &Path, disk: Mounted) -> io::Result<BackgroundSession> {
        let device =
            OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_CLOEXEC).open(DEVICE)?;
        let path = path.to_owned();
        let number = device.as_raw_fd();
        self.run(move || {
            // `allow_other`: a system may run its processes as somebody else. The kernel checks permissions.
            let options =
                format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions");
            mount(
                Some(SOURCE),
                &path,
                Some("fuse.whitewater"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
                Some(options.as_str()),
            )?;
            Ok(())
        })?;
        let session = Session::from_fd(disk, device.into(), SessionACL::All, Config::default())?;
        session.spawn()
    }

    /// Unmounts what is at `path`, and ends every request to it.
    pub(super) fn unmount(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.run(move || Ok(umount2(&path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH)?))
    }

    /// Lets a process live in the namespace, in the working directory of this one.
    pub(super) fn enter(&self, command: &mut Command) -> io::Result<()> {
        let file = self.file.clone();
        let directory = match command.get_current_dir() {
            Some(directory) => std::path::absolute(directory)?,
            None => std::env::current_dir()?,
        };
        let directory = CString::new(PathBuf::into_os_string(directory).into_vec())?;
        // SAFETY: between fork and exec only two system calls are made, which are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNS)?;
                // Entering leaves the process at the root.
                nix::unistd::chdir(directory.as_c_str())?;
                Ok(())
            });
        }
        Ok(())
    }
}

/// Where the kernel hands requests to file systems of users.
pub(super) const DEVICE: &str = "/dev/fuse";

/// A namespace of this thread's own, whose mounts nobody else sees.
fn enter_new() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(File::open("/proc/thread-self/ns/mnt")?.into())
}

/// Why this machine has no disks of ours; `None` if it has.
pub(crate) fn refused() -> Option<String> {
    let mounted = || -> io::Result<()> {
        let namespace = Namespace::new()?;
        let directory = std::env::temp_dir();
        let shared = Arc::new(super::fuse::Shared::new());
        let session = namespace.mount(&directory, Mounted { shared, epoch: 0 })?;
        namespace.unmount(&directory)?;
        session.join()
    };
    mounted().err().map(|error| error.to_string())
}

/// Mounts one disk whose server has ended and one that lives, in a namespace of this thread's own, and does something there; what that
/// gave, and the mounts that are left then.
#[cfg(test)]
pub(crate) fn leave_mounts<T>(dead: &Path, alive: &Path, work: impl FnOnce() -> T) -> (T, String) {
    enter_new().unwrap();
    let mut devices = Vec::new();
    for path in [dead, alive] {
        std::fs::create_dir(path).unwrap();
        let device = OpenOptions::new().read(true).write(true).open(DEVICE).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some(SOURCE), path, Some("fuse.whitewater"), MsFlags::empty(), Some(options.as_str())).unwrap();
        devices.push(device);
    }
    drop(devices.remove(0));
    let shared = Arc::new(super::fuse::Shared::new());
    let server = Mounted { shared, epoch: 0 };
    let session = Session::from_fd(server, devices.remove(0).into(), SessionACL::All, Config::default());
    let session = session.unwrap().spawn().unwrap();
    let done = work();
    let left = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let left = left.lines().filter(|line| line.starts_with(SOURCE)).map(|line| format!("{line}\n")).collect();
    umount2(alive, MntFlags::MNT_DETACH).unwrap();
    session.join().unwrap();
    (done, left)
}
