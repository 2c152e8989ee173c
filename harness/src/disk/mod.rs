//! Disks below unmodified processes: a file system of our own per node, in memory, that can lose what was not flushed, refuse, delay
//! and rot. What a fault does with them is in [`crate::fault`], when in [`crate::nemesis`].
//!
//! Each is mounted by FUSE over the node's data directory, in a mount namespace that only the nodes live in. What must not be hurt,
//! such as a trace, is a link to a file beside it.

mod content;
mod fuse;
mod gate;
mod image;
mod mount;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
mod volume;

pub use gate::{Access, Answers, Moment};
pub use image::{Difference, Image};
#[cfg(test)]
pub(crate) use mount::leave_mounts;
pub(crate) use mount::{SOURCE, refused};
pub use volume::Entries;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuser::BackgroundSession;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::dud::{self, Reach};
use crate::run_dir::RunDir;
use fuse::{Mounted, Shared};
use gate::Power;
use mount::Namespace;
use volume::{Kind, ROOT, Volume};

/// Where nodes keep their data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In the run directory, on this machine's disk.
    #[default]
    Real,
    /// On disks of ours, in memory.
    Fuse,
    /// In the run directory; what our own nodes have not flushed is in their memory, and gone with them.
    Memory,
}

impl Store {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Store::Real => "real",
            Store::Fuse => "fuse",
            Store::Memory => "memory",
        }
    }
}

/// The disks of a cluster.
#[derive(Debug)]
pub struct Disks {
    namespace: Namespace,
    disks: Vec<Disk>,
}

/// A copy of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Backup(Volume);

/// The disk of one node.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted.
    path: PathBuf,
    /// Files of it that are no part of it, by name, and where they are.
    kept: Vec<(String, PathBuf)>,
    shared: Arc<Shared>,
    session: Mutex<Option<BackgroundSession>>,
    /// What the fault that is active had caused, and what was answered, when it began.
    mark: Mutex<(u64, Answers)>,
}

impl Disks {
    /// Empty disks for `nodes` nodes of a run. Files called `kept` in a data directory are beside its disk, and no fault reaches them.
    ///
    /// # Errors
    /// This machine does not let us: /dev/fuse or the right to mount is missing.
    pub fn create(run_dir: &RunDir, nodes: u32, kept: &[&str]) -> io::Result<Disks> {
        let namespace = Namespace::new()?;
        let mut disks = Vec::new();
        for node in 1..=nodes {
            let path = std::path::absolute(run_dir.data(node))?;
            fs::create_dir_all(&path)?;
            let mut beside = Vec::new();
            for name in kept {
                let file = std::path::absolute(run_dir.node(node))?.join(format!("kept-{name}"));
                fs::File::create(&file)?;
                // Here it has the name by which it is read, there the link leads around the mount.
                fs::hard_link(&file, path.join(name))?;
                beside.push(((*name).to_owned(), file));
            }
            let shared = Arc::new(Shared::new());
            let disk = Disk { path, kept: beside, shared, session: Mutex::default(), mark: Mutex::default() };
            disk.lay_out();
            disks.push(disk);
        }
        Ok(Disks { namespace, disks })
    }

    /// The disk of a node.
    pub fn of(&self, node: NodeId) -> Option<&Disk> {
        self.disks.get(node.checked_sub(1)? as usize)
    }

    /// Lets a process see the disk of a node, which is mounted if it is not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn enter(&self, node: NodeId, command: &mut Command) -> io::Result<()> {
        let Some(disk) = self.of(node) else { return Ok(()) };
        let mut session = disk.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.is_none() {
            let epoch = {
                let mut state = disk.shared.lock();
                state.epoch += 1;
                state.volume.unheld();
                state.epoch
            };
            disk.on();
            let mounted = Mounted { shared: disk.shared.clone(), epoch };
            *session = Some(self.namespace.mount(&disk.path, mounted)?);
        }
        self.namespace.enter(command)
    }

    /// Puts a file on the disk of a node whose processes are dead, durably and in place of another; the kernel forgets the disk if that
    /// changes anything.
    ///
    /// # Errors
    /// The path leads through a file, or the kernel refuses.
    pub(crate) fn put(&self, node: NodeId, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let Some(disk) = self.of(node) else { return Ok(()) };
        if disk.image().read(path).is_some_and(|there| there == bytes) {
            return Ok(());
        }
        self.unmount(node)?;
        let put = disk.shared.lock().volume.put(path, bytes);
        put.map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("{}: {errno}", path.display()))
        })
    }

    /// Takes the disk of a node whose processes are dead out of the kernel, which forgets what it had read of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn unmount(&self, node: NodeId) -> io::Result<()> {
        let Some(disk) = self.of(node) else { return Ok(()) };
        let session = disk.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        if session.is_some() {
            self.namespace.unmount(&disk.path)?;
        }
        Ok(())
    }

    /// Unmounts everything and writes what the disks hold to where they were mounted, for who reads the run directory later.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn put_away(&self) -> io::Result<()> {
        for (node, disk) in (1..).zip(&self.disks) {
            self.unmount(node)?;
            disk.image().write(&disk.path)?;
            for (name, file) in &disk.kept {
                let _ = fs::remove_file(file);
                // A run that never got so far has an empty one.
                if fs::metadata(disk.path.join(name)).is_ok_and(|kept| kept.len() == 0) {
                    let _ = fs::remove_file(disk.path.join(name));
                }
            }
        }
        Ok(())
    }
}

impl Disk {
    /// The links to what is kept beside, durably.
    fn lay_out(&self) {
        let mut state = self.shared.lock();
        for (name, file) in &self.kept {
            // The name is free: the disk is empty.
            let _ = state.volume.create(ROOT, name.as_ref(), Kind::Symlink(file.clone()), (0o777, 0, 0));
        }
        state.volume.flush_all();
    }

    /// What it holds, as processes see it.
    pub fn image(&self) -> Image {
        Image::of(&self.shared.lock().volume)
    }

    /// What would be left of it after a power loss.
    pub fn durable_image(&self, entries: Entries) -> Image {
        let mut volume = self.shared.lock().volume.clone();
        volume.lose(entries, None);
        Image::of(&volume)
    }

    /// What was answered since the beginning.
    pub fn answers(&self) -> Answers {
        self.shared.lock().answers.clone()
    }

    /// A fault begins, which had caused so much on this disk before.
    pub(crate) fn mark(&self, caused: u64) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = (caused, self.answers());
    }

    /// What it caused since, if that is the sum now, and what was answered.
    pub(crate) fn since_mark(&self, caused: u64) -> (u64, Answers) {
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        (caused.saturating_sub(mark.0), self.answers().since(&mark.1))
    }

    /// The power is to fail at this moment.
    pub(crate) fn arm(&self, moment: Moment) {
        self.shared.lock().gate.armed = Some(moment);
    }

    /// Waits for that, at most so long; whether it came.
    pub(crate) fn wait_failing(&self, within: Duration) -> bool {
        self.shared.wait_failing(within)
    }

    /// Whether the power is on.
    pub(crate) fn is_on(&self) -> bool {
        self.shared.lock().gate.power == Power::On
    }

    /// The power fails: from now on nothing is carried out, and nobody is answered.
    pub(crate) fn fail(&self) {
        self.shared.set_power(Power::Failing);
    }

    /// The power is off: everything is refused, what waits for an answer, too. Who waits must be stopped by now.
    pub(crate) fn off(&self) {
        self.shared.set_power(Power::Off);
    }

    /// The power is on again.
    pub(crate) fn on(&self) {
        self.shared.set_power(Power::On);
    }

    /// Loses what was not flushed. `torn`: some of its sectors survive. No process may use it, and it must be unmounted.
    pub(crate) fn lose(&self, entries: Entries, torn: Option<&mut ChaCha8Rng>) {
        if dud::is_at(Reach::Disk) {
            return;
        }
        self.shared.lock().volume.lose(entries, torn);
    }

    /// Loses everything.
    pub(crate) fn clear(&self) {
        if dud::is_at(Reach::Disk) {
            return;
        }
        self.shared.lock().volume.clear();
        self.lay_out();
    }

    /// From now on such requests get EIO; none if absent. How many did so far.
    pub(crate) fn set_broken(&self, access: Option<Access>) -> u64 {
        let mut state = self.shared.lock();
        (state.gate.broken, state.gate.dud) = (access, dud::is_at(Reach::Disk));
        state.gate.refused
    }

    /// From now on a flush takes so much longer; how many did so far.
    pub(crate) fn set_slow(&self, delay: Option<Duration>) -> u64 {
        let mut state = self.shared.lock();
        (state.gate.slow, state.gate.dud) = (delay, dud::is_at(Reach::Disk));
        state.gate.delayed
    }

    /// From now on there is no free page; how many writes were refused for that so far.
    pub(crate) fn set_full(&self, full: bool) -> u64 {
        let mut state = self.shared.lock();
        state.volume.set_full(full);
        state.volume.dud = dud::is_at(Reach::Disk);
        state.volume.refused_full
    }

    /// All of it, as it is.
    pub(crate) fn backup(&self) -> Backup {
        Backup(self.shared.lock().volume.clone())
    }

    /// What would be left of it if nothing tore.
    pub(crate) fn flushed(&self, entries: Entries) -> Backup {
        let mut volume = self.shared.lock().volume.clone();
        volume.lose(entries, None);
        Backup(volume)
    }

    /// Puts back what there was. No process may use it, and it must be unmounted.
    pub(crate) fn restore(&self, backup: Backup) {
        self.shared.lock().volume = backup.0;
    }

    /// Inverts one bit of a file, here and in what is durable.
    pub(crate) fn flip(&self, path: &Path, bit: u64) {
        self.damage(path, |bytes| bytes.flip(bit));
    }

    /// Cuts a file to this size, here and in what is durable.
    pub(crate) fn cut(&self, path: &Path, size: u64) {
        self.damage(path, |bytes| bytes.cut(size));
    }

    fn damage(&self, path: &Path, change: impl FnOnce(&mut content::Bytes)) {
        if dud::is_at(Reach::Disk) {
            return;
        }
        let mut state = self.shared.lock();
        let found = state.volume.walk().into_iter().find(|(found, _)| found == path);
        if let Some((_, ino)) = found {
            state.volume.damage(ino, change);
        }
    }

    /// Loses a file, here and in what is durable.
    pub(crate) fn lose_file(&self, path: &Path) {
        if dud::is_at(Reach::Disk) {
            return;
        }
        self.shared.lock().volume.lose_file(path);
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for node in 1..=self.disks.len() as u32 {
            // The kernel does it with the last process that sees it, if we cannot.
            let _ = self.unmount(node);
        }
    }
}
