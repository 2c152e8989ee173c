//! What a disk holds at one moment, to be compared with another: evidence of what was lost or damaged, from code that knows neither.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::content::{Bytes, PAGE};
use super::volume::{Kind, Volume};

#[derive(Clone, Debug)]
enum Item {
    File(Bytes),
    Directory,
    Symlink(PathBuf),
}

/// Every path and what is there.
#[derive(Clone, Debug, Default)]
pub struct Image {
    items: BTreeMap<PathBuf, Item>,
}

/// How two images differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Paths that are gone.
    pub gone: u64,
    /// Paths that are new.
    pub new: u64,
    /// Bytes of files under one path that are others, missing or more.
    pub bytes: u64,
    /// Bits that are others where both have a byte.
    pub bits: u64,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Difference::default()
    }

    /// For evidence.
    pub(crate) fn note(&self, evidence: &mut Map<String, Value>) {
        for (name, count) in
            [("bytes", self.bytes), ("bits", self.bits), ("files_gone", self.gone), ("files_back", self.new)]
        {
            let sum = evidence.get(name).and_then(Value::as_u64).unwrap_or_default() + count;
            evidence.insert(name.to_owned(), sum.into());
        }
    }
}

impl Image {
    pub(super) fn of(volume: &Volume) -> Image {
        let item = |ino| match &volume.inode(ino).ok()?.kind {
            Kind::File(content) => Some(Item::File(content.now.clone())),
            Kind::Directory(_) => Some(Item::Directory),
            Kind::Symlink(path) => Some(Item::Symlink(path.clone())),
        };
        let items = volume.walk().into_iter().filter_map(|(path, ino)| Some((path, item(ino)?)));
        Image { items: items.collect() }
    }

    /// What changed from here to `after`.
    pub fn difference(&self, after: &Image) -> Difference {
        let mut difference = Difference::default();
        for (path, item) in &self.items {
            match (item, after.items.get(path)) {
                (_, None) => difference.gone += 1,
                (Item::File(before), Some(Item::File(after))) => compare(before, after, &mut difference),
                _ => {}
            }
        }
        difference.new = after.items.keys().filter(|path| !self.items.contains_key(*path)).count() as u64;
        difference
    }

    /// Paths of files that hold something, with their sizes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let file = |(path, item): (&PathBuf, &Item)| match item {
            Item::File(bytes) => Some((path.clone(), bytes.size)),
            Item::Directory | Item::Symlink(_) => None,
        };
        self.items.iter().filter_map(file).collect()
    }

    /// The bytes of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self.items.get(path)? {
            Item::File(bytes) => Some(bytes.read(0, usize::try_from(bytes.size).ok()?)),
            Item::Directory | Item::Symlink(_) => None,
        }
    }

    /// Writes everything below `directory`. What stands there already stays: it was kept beside.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        for (path, item) in &self.items {
            let path = directory.join(path);
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match item {
                Item::Directory => fs::create_dir(&path)?,
                Item::Symlink(target) => symlink(target, &path)?,
                Item::File(bytes) => {
                    let file = fs::File::create(&path)?;
                    file.set_len(bytes.size)?;
                    for (page, stored) in &bytes.pages {
                        let offset = page * PAGE as u64;
                        let length = (bytes.size.saturating_sub(offset)).min(PAGE as u64) as usize;
                        std::os::unix::fs::FileExt::write_all_at(&file, &stored[..length], offset)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn compare(before: &Bytes, after: &Bytes, difference: &mut Difference) {
    difference.bytes += before.size.abs_diff(after.size);
    let both = before.size.min(after.size);
    let zeros = Arc::new([0; PAGE]);
    let pages = before.pages.keys().chain(after.pages.keys().filter(|page| !before.pages.contains_key(page)));
    for page in pages {
        let of = |bytes: &Bytes| bytes.pages.get(page).unwrap_or(&zeros).clone();
        let (a, b) = (of(before), of(after));
        if Arc::ptr_eq(&a, &b) {
            continue;
        }
        let length = both.saturating_sub(page * PAGE as u64).min(PAGE as u64) as usize;
        for (a, b) in a[..length].iter().zip(&b[..length]) {
            difference.bytes += u64::from(a != b);
            difference.bits += u64::from((a ^ b).count_ones());
        }
    }
}
