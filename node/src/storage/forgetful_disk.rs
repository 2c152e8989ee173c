//! The disk of this machine, of which SIGKILL takes what was not synced, as a loss of power would: that stays in the memory of the
//! process until then. For tests of recovery without privilege; names of files are the operating system's at once, and a real loss of
//! power takes more.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskDir, DiskFile, FileId, RealDisk};

/// How long a flush takes before anything of it is durable, as on a disk of moderate speed: so long SIGKILL still takes it.
const FLUSH: Duration = Duration::from_millis(2);

/// A change of a file that is not synced.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// The changes of one file, in order, whoever made them.
type Pending = Arc<Mutex<Vec<Change>>>;

/// See the module.
#[derive(Debug, Default)]
pub struct ForgetfulDisk {
    pending: Mutex<HashMap<FileId, Pending>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ForgetfulDisk {
    fn pending(&self, path: &Path) -> io::Result<Pending> {
        Ok(lock(&self.pending).entry(RealDisk.identify(path)?.0).or_default().clone())
    }

    fn wrapped(&self, path: &Path, real: Box<dyn DiskFile>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile { real, pending: self.pending(path)? }))
    }

    /// The file that is about to lose its name has nothing to be synced any more: another may get its number.
    fn drop_pending(&self, path: &Path) {
        if let Ok((id, _)) = RealDisk.identify(path) {
            lock(&self.pending).remove(&id);
        }
    }
}

impl Disk for ForgetfulDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_at(path, 0, usize::MAX)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let pending = self.pending(path)?;
        // Held while the file is read, or what is synced meanwhile would be seen twice or not at all.
        let pending = lock(&pending);
        let (_, mut file_len) = RealDisk.identify(path)?;
        let longest = pending.iter().fold(file_len, |len, change| len.max(change.len_after(len)));
        file_len = pending.iter().fold(file_len, |len, change| change.len_after(len));
        let wanted = len.min(usize::try_from(longest.saturating_sub(offset)).unwrap_or(len));
        let mut bytes = RealDisk.read_at(path, offset, wanted)?;
        bytes.resize(wanted, 0);
        for change in pending.iter() {
            change.show(offset, &mut bytes);
        }
        bytes.truncate(usize::try_from(file_len.saturating_sub(offset)).unwrap_or(wanted));
        Ok(bytes)
    }

    fn forget(&self, path: &Path) {
        RealDisk.forget(path);
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.wrapped(path, RealDisk.open(path)?)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.wrapped(path, RealDisk.create(path)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.drop_pending(to);
        RealDisk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.drop_pending(path);
        RealDisk.unlink(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn DiskDir>> {
        RealDisk.open_dir(dir)
    }

    fn entropy(&self) -> io::Result<u64> {
        RealDisk.entropy()
    }
}

impl Change {
    /// How long a file of this length is after it.
    fn len_after(&self, len: u64) -> u64 {
        match self {
            // As pwrite(2) has it.
            Change::Write(_, bytes) if bytes.is_empty() => len,
            Change::Write(at, bytes) => len.max(at + bytes.len() as u64),
            Change::SetLen(len) => *len,
        }
    }

    /// Does it to the bytes that stand from `offset` on.
    fn show(&self, offset: u64, bytes: &mut [u8]) {
        let place =
            |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        match self {
            Change::SetLen(len) => {
                let from = place(*len);
                bytes[from..].fill(0);
            }
            Change::Write(at, written) => {
                let (from, to) = (place(*at), place(at + written.len() as u64));
                let skipped =
                    usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX).min(written.len());
                let shown = &written[skipped..];
                bytes[from..to].copy_from_slice(&shown[..to - from]);
            }
        }
    }
}

/// An open file.
struct ForgetfulFile {
    real: Box<dyn DiskFile>,
    pending: Pending,
}

impl DiskFile for ForgetfulFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        lock(&self.pending).push(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.pending).push(Change::SetLen(len));
        Ok(())
    }

    fn fdatasync(&self) -> io::Result<()> {
        std::thread::sleep(FLUSH);
        let mut pending = lock(&self.pending);
        // After an error nothing is known of what was written, so that nothing is kept for another try either.
        for change in std::mem::take(&mut *pending) {
            match change {
                Change::Write(offset, bytes) => self.real.write_at(offset, &bytes)?,
                Change::SetLen(len) => self.real.set_len(len)?,
            }
        }
        // What the operating system has is there after a SIGKILL, and nothing worse is meant to come.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn what_is_not_synced_is_read_and_is_not_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, path, other) = (ForgetfulDisk::default(), dir.path().join("a"), dir.path().join("b"));
        let file = disk.create(&path).unwrap();
        file.write_at(2, b"cde").unwrap();
        assert_eq!(
            (disk.read(&path).unwrap(), RealDisk.read(&path).unwrap()),
            (b"\0\0cde".to_vec(), Vec::new())
        );
        // Another handle, and the same file under another name, show the same.
        disk.open(&path).unwrap().write_at(0, b"ab").unwrap();
        disk.rename(&path, &other).unwrap();
        assert_eq!(
            (disk.read(&other).unwrap(), RealDisk.read(&other).unwrap()),
            (b"abcde".to_vec(), Vec::new())
        );
        file.fdatasync().unwrap();
        assert_eq!(RealDisk.read(&other).unwrap(), b"abcde");
        // What takes the place of a file has nothing of it.
        file.write_at(0, b"XY").unwrap();
        disk.create(&path).unwrap().write_at(0, b"new").unwrap();
        disk.rename(&path, &other).unwrap();
        assert_eq!(disk.read(&other).unwrap(), b"new");
        disk.unlink(&other).unwrap();
        assert!(disk.read(&other).is_err());
    }

    #[test]
    fn it_is_read_as_the_disk_of_this_machine_is_and_keeps_what_was_synced() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let dir = tempfile::tempdir().unwrap();
            let (disk, path, twin) = (ForgetfulDisk::default(), dir.path().join("a"), dir.path().join("b"));
            let (file, real) = (disk.create(&path).unwrap(), RealDisk.create(&twin).unwrap());
            let mut synced = Vec::new();
            for _ in 0..40 {
                let at = rng.random_range(0..40);
                match rng.random_range(0..6) {
                    0 => {
                        file.set_len(at).unwrap();
                        real.set_len(at).unwrap();
                    }
                    1 => {
                        file.fdatasync().unwrap();
                        synced = RealDisk.read(&twin).unwrap();
                    }
                    _ => {
                        let bytes = vec![rng.random_range(1..=255); rng.random_range(0..12)];
                        file.write_at(at, &bytes).unwrap();
                        real.write_at(at, &bytes).unwrap();
                    }
                }
                let (from, len) = (rng.random_range(0..50), rng.random_range(0..50));
                assert_eq!(disk.read(&path).unwrap(), RealDisk.read(&twin).unwrap(), "seed {seed}");
                let part = RealDisk.read_at(&twin, from, len).unwrap();
                assert_eq!(disk.read_at(&path, from, len).unwrap(), part, "seed {seed}");
                assert_eq!(RealDisk.read(&path).unwrap(), synced, "seed {seed}");
            }
        }
    }
}
