//! A file system in memory that knows what of it would survive a power loss. Nothing here talks to the kernel, and no fault is
//! decided here.
//!
//! A flush of a file makes its data and its size durable. Names are kept twice more: as a journal has them, which every flush of
//! something with changed metadata writes whole, like ext4's does; and as POSIX promises them, by a flush of their directory alone.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use rand_chacha::ChaCha8Rng;

use super::content::{Content, PAGE};

/// The number of an inode.
pub(super) type Ino = u64;
/// The root directory.
pub(super) const ROOT: Ino = 1;
/// Pages that a volume holds: 8 GiB.
const PAGES: u64 = (8 << 30) / PAGE as u64;

type Names = BTreeMap<OsString, Ino>;

/// A directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) now: Names,
    committed: Names,
    synced: Names,
    /// Directories from or to which names moved since the last flush: a rename is whole or not at all.
    tied: Vec<Ino>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    File(Content),
    Directory(Directory),
    Symlink(PathBuf),
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) modified: SystemTime,
    /// Open files and names that the kernel holds.
    held: u64,
    /// Whether its creation, or its size, is in no journal yet.
    fresh: bool,
}

/// Which names survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entries {
    /// Those in the journal: every name that was there when anything with changed metadata was flushed, as on ext4.
    Journal,
    /// Those whose directory was flushed since: all that POSIX promises.
    Directory,
}

/// The whole file system.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    inodes: BTreeMap<Ino, Inode>,
    next: Ino,
    /// Pages that there are.
    used: u64,
    /// Whether others took all free pages, and take what becomes free.
    full: bool,
    /// Writes that were refused because there was no page left.
    pub(super) refused_full: u64,
    /// Whether they were counted alone.
    pub(super) dud: bool,
}

impl Volume {
    pub(super) fn new() -> Volume {
        let root = Inode::new(Kind::Directory(Directory::default()), 0o755);
        let inodes = BTreeMap::from([(ROOT, Inode { held: 1, ..root })]);
        Volume { inodes, next: ROOT + 1, used: 0, full: false, refused_full: 0, dud: false }
    }

    pub(super) fn inode(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    pub(super) fn directory(&self, ino: Ino) -> Result<&Directory, Errno> {
        match &self.inode(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, Errno> {
        match &mut self.inode_mut(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn content(&self, ino: Ino) -> Result<&Content, Errno> {
        match &self.inode(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Symlink(_) => Err(Errno::EINVAL),
        }
    }

    fn content_mut(&mut self, ino: Ino) -> Result<&mut Content, Errno> {
        let inode = self.inode_mut(ino)?;
        inode.modified = SystemTime::now();
        match &mut inode.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Symlink(_) => Err(Errno::EINVAL),
        }
    }

    pub(super) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.directory(parent)?.now.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// A new file, directory or link under a new name.
    pub(super) fn create(
        &mut self,
        parent: Ino,
        name: &OsStr,
        kind: Kind,
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<Ino, Errno> {
        let directory = self.directory_mut(parent)?;
        if directory.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.directory_mut(parent)?.now.insert(name.to_owned(), ino);
        self.next += 1;
        self.inodes.insert(ino, Inode { uid, gid, ..Inode::new(kind, mode) });
        self.inode_mut(parent)?.modified = SystemTime::now();
        Ok(ino)
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, parent: Ino, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        match (&self.inode(ino)?.kind, directory) {
            (Kind::Directory(_), false) => return Err(Errno::EISDIR),
            (Kind::Directory(found), true) if !found.now.is_empty() => return Err(Errno::ENOTEMPTY),
            (Kind::File(_) | Kind::Symlink(_), true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.directory_mut(parent)?.now.remove(name);
        self.unlinked(ino);
        Ok(())
    }

    pub(super) fn link(&mut self, ino: Ino, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        if matches!(self.inode(ino)?.kind, Kind::Directory(_)) {
            return Err(Errno::EPERM);
        }
        let directory = self.directory_mut(parent)?;
        if directory.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        directory.now.insert(name.to_owned(), ino);
        let inode = self.inode_mut(ino)?;
        inode.links += 1;
        inode.fresh = true;
        Ok(())
    }

    /// Moves a name; what had the new one loses it. With `exchange` it gets the old one.
    pub(super) fn rename(
        &mut self,
        from: (Ino, &OsStr),
        to: (Ino, &OsStr),
        keep: bool,
        exchange: bool,
    ) -> Result<(), Errno> {
        let ino = self.lookup(from.0, from.1)?;
        let replaced = self.directory(to.0)?.now.get(to.1).copied();
        match replaced {
            Some(_) if keep => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(replaced) if replaced == ino => return Ok(()),
            Some(replaced) if !exchange => match (&self.inode(replaced)?.kind, &self.inode(ino)?.kind) {
                (Kind::Directory(_), Kind::File(_) | Kind::Symlink(_)) => return Err(Errno::EISDIR),
                (Kind::File(_) | Kind::Symlink(_), Kind::Directory(_)) => return Err(Errno::ENOTDIR),
                (Kind::Directory(found), _) if !found.now.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            },
            _ => {}
        }
        self.directory_mut(to.0)?.now.insert(to.1.to_owned(), ino);
        match replaced.filter(|_| exchange) {
            Some(other) => self.directory_mut(from.0)?.now.insert(from.1.to_owned(), other),
            None => self.directory_mut(from.0)?.now.remove(from.1),
        };
        if from.0 != to.0 {
            self.directory_mut(from.0)?.tied.push(to.0);
            self.directory_mut(to.0)?.tied.push(from.0);
        }
        self.inode_mut(ino)?.fresh = true;
        if let Some(replaced) = replaced.filter(|_| !exchange) {
            self.unlinked(replaced);
        }
        Ok(())
    }

    fn unlinked(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            let directory = matches!(inode.kind, Kind::Directory(_));
            inode.links = if directory { 0 } else { inode.links.saturating_sub(1) };
            inode.fresh = true;
        }
        self.forget(ino, 0);
    }

    /// The kernel, or an open file, holds on to an inode.
    pub(super) fn hold(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.get_mut(&ino) {
            inode.held += 1;
        }
    }

    /// And lets go. What has no name and is not held takes no more space; what a power loss would bring back is kept beside.
    pub(super) fn forget(&mut self, ino: Ino, times: u64) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        inode.held = inode.held.saturating_sub(times);
        if inode.held == 0 && inode.links == 0 && !self.is_durable(ino) {
            self.discard(ino);
        }
    }

    fn discard(&mut self, ino: Ino) {
        if let Some(Inode { kind: Kind::File(content), .. }) = self.inodes.remove(&ino) {
            self.used -= content.pages().min(self.used);
        }
    }

    /// Whether a name that would survive leads to an inode.
    fn is_durable(&self, ino: Ino) -> bool {
        self.inodes.values().any(|inode| match &inode.kind {
            Kind::Directory(Directory { committed, synced, .. }) => {
                committed.values().chain(synced.values()).any(|named| *named == ino)
            }
            _ => false,
        })
    }

    pub(super) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let added = self.content(ino)?.pages_added(offset, data.len());
        self.take_pages(added)?;
        self.content_mut(ino)?.write(offset, data);
        Ok(())
    }

    pub(super) fn reserve(&mut self, ino: Ino, offset: u64, length: u64, keep: bool) -> Result<(), Errno> {
        let length_here = usize::try_from(length).map_err(|_| Errno::EFBIG)?;
        let added = self.content(ino)?.pages_added(offset, length_here);
        self.take_pages(added)?;
        self.content_mut(ino)?.reserve(offset, length, keep);
        Ok(())
    }

    fn take_pages(&mut self, added: u64) -> Result<(), Errno> {
        if added > 0 && (self.full || self.used + added > PAGES) {
            self.refused_full += 1;
            if !self.dud {
                return Err(Errno::ENOSPC);
            }
        }
        self.used += added;
        Ok(())
    }

    pub(super) fn zero(&mut self, ino: Ino, offset: u64, length: u64) -> Result<(), Errno> {
        self.content_mut(ino)?.zero(offset, length);
        Ok(())
    }

    pub(super) fn resize(&mut self, ino: Ino, size: u64) -> Result<(), Errno> {
        let before = self.content(ino)?.pages();
        self.content_mut(ino)?.resize(size);
        self.used -= (before - self.content(ino)?.pages()).min(self.used);
        Ok(())
    }

    pub(super) fn set_owner(
        &mut self,
        ino: Ino,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let inode = self.inode_mut(ino)?;
        inode.mode = mode.map_or(inode.mode, |mode| mode & 0o7777);
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        Ok(())
    }

    /// Makes a file durable, and the journal with it if there is something of the file in it; fdatasync leaves the journal alone unless
    /// the size changed.
    pub(super) fn flush(&mut self, ino: Ino, data_alone: bool) -> Result<(), Errno> {
        let fresh = self.inode(ino)?.fresh;
        let journal = match &self.inode(ino)?.kind {
            Kind::File(content) => fresh || content.is_resized() || (!data_alone && content.is_dirty()),
            Kind::Directory(_) | Kind::Symlink(_) => true,
        };
        match &mut self.inode_mut(ino)?.kind {
            Kind::File(content) => content.flush(),
            Kind::Directory(_) => {
                self.sync_names(ino);
            }
            Kind::Symlink(_) => {}
        }
        if journal {
            self.commit();
        }
        Ok(())
    }

    /// A flush that failed.
    pub(super) fn fail_flush(&mut self, ino: Ino) {
        if let Some(Inode { kind: Kind::File(content), .. }) = self.inodes.get_mut(&ino) {
            content.fail_flush();
        }
    }

    /// Makes the names of a directory durable, and of those that its renames concern.
    fn sync_names(&mut self, ino: Ino) {
        let mut left = vec![ino];
        let mut done = Vec::new();
        while let Some(ino) = left.pop() {
            if done.contains(&ino) {
                continue;
            }
            done.push(ino);
            if let Ok(directory) = self.directory_mut(ino) {
                directory.synced = directory.now.clone();
                left.append(&mut directory.tied);
            }
        }
    }

    /// Writes the journal: every name, and every size that a call set.
    fn commit(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.fresh = false;
            match &mut inode.kind {
                Kind::Directory(directory) => directory.committed = directory.now.clone(),
                Kind::File(content) => content.commit(),
                Kind::Symlink(_) => {}
            }
        }
        let gone = |ino: &&Ino, inode: &Inode| inode.held == 0 && inode.links == 0 && **ino != ROOT;
        let gone: Vec<Ino> =
            self.inodes.iter().filter(|(ino, inode)| gone(ino, inode)).map(|(ino, _)| *ino).collect();
        for ino in gone {
            if !self.is_durable(ino) {
                self.discard(ino);
            }
        }
    }

    /// Makes everything durable: sync(2), or a clean unmount.
    pub(super) fn flush_all(&mut self) {
        let inos: Vec<Ino> = self.inodes.keys().copied().collect();
        for ino in inos {
            // Every one of them is there.
            let _ = self.flush(ino, false);
        }
        self.commit();
    }

    /// Whether something was written to a file and not flushed.
    pub(super) fn is_dirty(&self, ino: Ino) -> bool {
        self.content(ino).is_ok_and(Content::is_dirty)
    }

    /// Whether names changed since the last flush of their directory.
    pub(super) fn has_unsynced_names(&self) -> bool {
        self.inodes.values().any(|inode| match &inode.kind {
            Kind::Directory(directory) => directory.now != directory.synced,
            _ => false,
        })
    }

    /// What a power loss does; see [`Content::lose`]. The processes are dead, and the kernel has forgotten what it knew.
    pub(super) fn lose(&mut self, entries: Entries, mut torn: Option<&mut ChaCha8Rng>) {
        for inode in self.inodes.values_mut() {
            inode.held = 0;
            inode.links = 0;
            inode.fresh = false;
            match &mut inode.kind {
                Kind::File(content) => content.lose(torn.as_deref_mut()),
                Kind::Directory(directory) => {
                    let names = match entries {
                        Entries::Journal => std::mem::take(&mut directory.committed),
                        Entries::Directory => std::mem::take(&mut directory.synced),
                    };
                    directory.now = names.clone();
                    (directory.committed, directory.synced) = (names.clone(), names);
                    directory.tied.clear();
                }
                Kind::Symlink(_) => {}
            }
        }
        self.collect();
    }

    /// The kernel forgot what it knew: the file system was unmounted while no process used it.
    pub(super) fn unheld(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.held = 0;
        }
        let gone: Vec<Ino> = self.inodes.iter().filter(|(_, i)| i.links == 0).map(|(ino, _)| *ino).collect();
        for ino in gone {
            self.forget(ino, 0);
        }
        self.hold(ROOT);
    }

    /// Drops what no name leads to, and counts links and pages anew.
    fn collect(&mut self) {
        let mut links: BTreeMap<Ino, u32> = BTreeMap::from([(ROOT, 2)]);
        let mut left = vec![ROOT];
        while let Some(ino) = left.pop() {
            let names = self.directory(ino).map(|directory| directory.now.values().copied().collect());
            for named in names.unwrap_or_else(|_| Vec::<Ino>::new()) {
                let count = links.entry(named).or_default();
                *count += 1;
                if *count == 1 && self.directory(named).is_ok() {
                    *count += 1;
                    left.push(named);
                }
            }
        }
        self.inodes.retain(|ino, _| links.contains_key(ino));
        self.used = 0;
        for (ino, inode) in &mut self.inodes {
            inode.links = links.get(ino).copied().unwrap_or_default();
            if let Kind::File(content) = &inode.kind {
                self.used += content.pages();
            }
        }
        self.hold(ROOT);
    }

    /// Every file and link below the root, by its path.
    pub(super) fn walk(&self) -> Vec<(PathBuf, Ino)> {
        let mut found = Vec::new();
        let mut left = vec![(PathBuf::new(), ROOT)];
        while let Some((path, ino)) = left.pop() {
            let Ok(directory) = self.directory(ino) else { continue };
            for (name, &named) in &directory.now {
                let path = path.join(name);
                if self.directory(named).is_ok() {
                    left.push((path.clone(), named));
                }
                found.push((path, named));
            }
        }
        found.sort();
        found
    }

    /// Puts a file there, with the directories on the way to it, durably and in place of another.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Errno> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Err(Errno::EISDIR) };
        let mut way = vec![ROOT];
        let mut directory = ROOT;
        for name in parent {
            let kind = || Kind::Directory(Directory::default());
            directory = self.lookup_or_create(directory, name, kind, 0o755)?;
            way.push(directory);
        }
        let file = self.lookup_or_create(directory, name, || Kind::File(Content::default()), 0o644)?;
        self.resize(file, 0)?;
        self.write(file, 0, bytes)?;
        way.push(file);
        way.into_iter().try_for_each(|ino| self.flush(ino, false))
    }

    fn lookup_or_create(
        &mut self,
        parent: Ino,
        name: &OsStr,
        kind: impl FnOnce() -> Kind,
        mode: u32,
    ) -> Result<Ino, Errno> {
        match self.lookup(parent, name) {
            Err(Errno::ENOENT) => self.create(parent, name, kind(), (mode, 0, 0)),
            found => found,
        }
    }

    /// Removes everything, durably.
    pub(super) fn clear(&mut self) {
        *self = Volume { full: self.full, next: self.next, ..Volume::new() };
    }

    /// Changes a file and its durable image alike.
    pub(super) fn damage(&mut self, ino: Ino, change: impl FnOnce(&mut super::content::Bytes)) {
        if let Ok(content) = self.content_mut(ino) {
            content.damage(change);
        }
    }

    /// Loses a file, durably.
    pub(super) fn lose_file(&mut self, path: &Path) {
        let mut ino = ROOT;
        let (Some(name), parent) = (path.file_name(), path.parent()) else { return };
        for name in parent.into_iter().flat_map(|parent| parent.iter()) {
            match self.lookup(ino, name) {
                Ok(next) => ino = next,
                Err(_) => return,
            }
        }
        if self.remove(ino, name, false).is_ok()
            && let Ok(directory) = self.directory_mut(ino)
        {
            directory.committed.remove(name);
            directory.synced.remove(name);
        }
    }

    /// Pages that there may be, and that are free.
    pub(super) fn space(&self) -> (u64, u64) {
        (PAGES, if self.full { 0 } else { PAGES.saturating_sub(self.used) })
    }

    /// Takes all free pages away, and those that become free, or gives them back.
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
    }
}

impl Inode {
    fn new(kind: Kind, mode: u32) -> Inode {
        let links = if matches!(kind, Kind::Directory(_)) { 2 } else { 1 };
        let modified = SystemTime::now();
        Inode { kind, mode: mode & 0o7777, uid: 0, gid: 0, links, modified, held: 0, fresh: true }
    }

    /// Bytes that it has, or of the path that it leads to.
    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.now.size,
            Kind::Directory(_) => PAGE as u64,
            Kind::Symlink(path) => path.as_os_str().len() as u64,
        }
    }
}
