//! The bytes of one file, twice: as processes see them, and as they would be after a power loss.
//! Which files there are, and under which names, is the volume's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Bytes of a page: what is copied on write.
pub(super) const PAGE: usize = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
const SECTOR: usize = 512;

pub(super) type Page = Arc<[u8; PAGE]>;

/// Bytes at one moment. Pages that are not there are zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    pub(super) size: u64,
    pub(super) pages: BTreeMap<u64, Page>,
}

impl Bytes {
    /// The bytes from `offset`, at most `length` and none behind the end.
    pub(super) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(length as u64));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or_default()];
        for (page, within, range) in pieces(offset, bytes.len()) {
            if let Some(stored) = self.pages.get(&page) {
                let length = range.len();
                bytes[range].copy_from_slice(&stored[within..within + length]);
            }
        }
        bytes
    }

    fn truncate(&mut self, size: u64) {
        if size >= self.size {
            return;
        }
        self.size = size;
        let kept = size.div_ceil(PAGE as u64);
        self.pages.split_off(&kept);
        let within = (size % PAGE as u64) as usize;
        if within > 0
            && let Some(page) = self.pages.get_mut(&(size / PAGE as u64))
        {
            Arc::make_mut(page)[within..].fill(0);
        }
    }
}

/// Where a range of bytes lies: pages, offsets within them, and the part of the range there.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let at = offset + done as u64;
        let (page, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
        let piece = (PAGE - within).min(length - done);
        let range = done..done + piece;
        done += piece;
        Some((page, within, range))
    })
}

/// A file's bytes, and what of them is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) now: Bytes,
    durable: Bytes,
    /// Pages that differ from the durable ones, or may.
    dirty: BTreeSet<u64>,
    /// The smallest size since the last flush, if it shrank: what was behind it must not come back with the size.
    floor: Option<u64>,
    /// The size that a call set, rather than a write behind the end: a journal carries it without the data.
    declared: Option<u64>,
}

impl Content {
    /// How many pages a write would add.
    pub(super) fn pages_added(&self, offset: u64, length: usize) -> u64 {
        pieces(offset, length).filter(|(page, ..)| !self.now.pages.contains_key(page)).count() as u64
    }

    pub(super) fn pages(&self) -> u64 {
        self.now.pages.len() as u64
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, within, range) in pieces(offset, data.len()) {
            let stored = self.now.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            let length = range.len();
            Arc::make_mut(stored)[within..within + length].copy_from_slice(&data[range]);
            self.dirty.insert(page);
        }
        self.now.size = self.now.size.max(offset + data.len() as u64);
    }

    /// Sets the size, as truncate(2) does.
    pub(super) fn resize(&mut self, size: u64) {
        if size < self.now.size {
            self.floor = Some(self.floor.unwrap_or(u64::MAX).min(size));
            self.dirty.split_off(&size.div_ceil(PAGE as u64));
            self.now.truncate(size);
            // The end of its last page became zeros.
            if !size.is_multiple_of(PAGE as u64) && self.now.pages.contains_key(&(size / PAGE as u64)) {
                self.dirty.insert(size / PAGE as u64);
            }
        }
        self.now.size = size;
        self.declared = Some(size);
    }

    /// Reserves pages, and sets the size unless `keep_size`, as fallocate(2) does.
    pub(super) fn reserve(&mut self, offset: u64, length: u64, keep_size: bool) {
        let zeros: Page = Arc::new([0; PAGE]);
        for page in offset / PAGE as u64..(offset + length).div_ceil(PAGE as u64) {
            self.now.pages.entry(page).or_insert_with(|| zeros.clone());
        }
        if !keep_size && offset + length > self.now.size {
            self.now.size = offset + length;
            self.declared = Some(self.now.size);
        }
    }

    /// Zeros in place of what was there, as FALLOC_FL_PUNCH_HOLE and FALLOC_FL_ZERO_RANGE do.
    pub(super) fn zero(&mut self, offset: u64, length: u64) {
        let length = length.min(self.now.size.saturating_sub(offset));
        for (page, within, range) in pieces(offset, usize::try_from(length).unwrap_or_default()) {
            if let Some(stored) = self.now.pages.get_mut(&page) {
                Arc::make_mut(stored)[within..within + range.len()].fill(0);
                self.dirty.insert(page);
            }
        }
    }

    /// Makes all of it durable: fsync(2).
    pub(super) fn flush(&mut self) {
        if let Some(floor) = self.floor.take() {
            self.durable.truncate(floor);
        }
        for page in std::mem::take(&mut self.dirty) {
            match self.now.pages.get(&page) {
                Some(stored) => self.durable.pages.insert(page, stored.clone()),
                None => self.durable.pages.remove(&page),
            };
        }
        self.durable.size = self.now.size;
        self.declared = None;
    }

    /// Makes durable what a journal carries although nobody flushed the file: sizes that calls set, but no data.
    pub(super) fn commit(&mut self) {
        if let Some(floor) = self.floor.take() {
            self.durable.truncate(floor);
            // What is left of the last page is zeros here as there; the rest of it may still be unflushed.
        }
        if let Some(declared) = self.declared.take() {
            self.durable.size = self.durable.size.max(declared.min(self.now.size));
        }
    }

    /// A flush that failed: the kernel calls the pages clean, and nobody will write them again. They stay as they are for who reads,
    /// and are gone after a power loss.
    pub(super) fn fail_flush(&mut self) {
        self.dirty.clear();
    }

    /// Whether a flush would change anything.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.now.size != self.durable.size || self.floor.is_some()
    }

    /// Whether the last call that set its size, or the growth of it, is not durable: what makes a flush of data one of the journal, too.
    pub(super) fn is_resized(&self) -> bool {
        self.now.size != self.durable.size || self.floor.is_some() || self.declared.is_some()
    }

    /// What a power loss does. With `torn` some of what was not flushed survives: any of its sectors, and any part of its growth.
    pub(super) fn lose(&mut self, torn: Option<&mut ChaCha8Rng>) {
        let Content { now, durable, dirty, .. } = std::mem::take(self);
        let mut left = durable.clone();
        if let Some(rng) = torn {
            if now.size > left.size && rng.random_bool(0.5) {
                left.size = rng.random_range(left.size..=now.size);
            }
            for page in dirty {
                let Some(stored) = now.pages.get(&page) else { continue };
                for sector in 0..PAGE / SECTOR {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    if rng.random_bool(0.5) {
                        let kept = left.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
                        Arc::make_mut(kept)[range.clone()].copy_from_slice(&stored[range]);
                    }
                }
            }
            // What lies behind the end is not there.
            let size = left.size;
            left.size = u64::MAX;
            left.truncate(size);
        }
        *self = Content { now: left.clone(), durable: left, ..Content::default() };
    }

    /// Changes what is there and what is durable alike: a disk that rots, or forgets.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Bytes)) {
        change(&mut self.now);
        self.durable = self.now.clone();
        self.dirty.clear();
        (self.floor, self.declared) = (None, None);
    }
}

impl Bytes {
    /// Inverts one bit.
    pub(super) fn flip(&mut self, bit: u64) {
        let byte = bit / 8;
        let page = self.pages.entry(byte / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
        Arc::make_mut(page)[(byte % PAGE as u64) as usize] ^= 1 << (bit % 8);
    }

    /// Cuts the end off.
    pub(super) fn cut(&mut self, size: u64) {
        self.truncate(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn text(content: &Content) -> String {
        String::from_utf8_lossy(&content.now.read(0, 100_000)).into_owned()
    }

    /// What is left after a power loss.
    fn left(content: &Content) -> String {
        let mut content = content.clone();
        content.lose(None);
        text(&content)
    }

    #[test]
    fn what_was_flushed_is_left_and_nothing_else() {
        let mut content = Content::default();
        content.write(0, b"one");
        assert_eq!((text(&content).as_str(), left(&content).as_str()), ("one", ""));
        content.flush();
        content.write(3, b" two");
        content.write(0, b"O");
        assert_eq!((text(&content).as_str(), left(&content).as_str()), ("One two", "one"));
        content.flush();
        assert_eq!(left(&content), "One two");
    }

    #[test]
    fn a_truncation_is_undone_until_it_is_flushed_and_never_brings_old_bytes_back() {
        let mut content = Content::default();
        content.write(0, &[b'x'; 5_000]);
        content.flush();
        content.resize(3);
        assert_eq!(left(&content).len(), 5_000);
        content.resize(5_000);
        assert_eq!(text(&content), "xxx".to_owned() + &"\0".repeat(4_997));
        content.flush();
        assert_eq!(left(&content), "xxx".to_owned() + &"\0".repeat(4_997));
    }

    #[test]
    fn a_journal_carries_sizes_that_calls_set_and_no_data() {
        let mut content = Content::default();
        content.write(0, b"abcdef");
        content.flush();
        content.write(0, b"XXXXXXYY");
        content.commit();
        assert_eq!(left(&content), "abcdef");
        content.resize(3);
        content.commit();
        assert_eq!(left(&content), "abc");
        content.resize(4);
        content.commit();
        assert_eq!(left(&content), "abc\0");
    }

    #[test]
    fn a_failed_flush_is_never_made_up_for() {
        let mut content = Content::default();
        content.write(0, b"old");
        content.flush();
        content.write(0, b"new");
        content.fail_flush();
        content.flush();
        assert_eq!((text(&content).as_str(), left(&content).as_str()), ("new", "old"));
    }

    #[test]
    fn torn_writes_leave_sectors_of_both_and_the_same_seed_the_same() {
        let mut content = Content::default();
        content.write(0, &[b'a'; 8 * SECTOR]);
        content.flush();
        content.write(0, &[b'b'; 8 * SECTOR]);
        let torn = |seed| {
            let mut content = content.clone();
            content.lose(Some(&mut ChaCha8Rng::seed_from_u64(seed)));
            text(&content)
        };
        assert_eq!(torn(1), torn(1));
        let bytes = torn(1).into_bytes();
        let sectors = bytes.chunks(SECTOR).map(|sector| {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
            sector[0]
        });
        let sectors: BTreeSet<u8> = sectors.collect();
        assert_eq!(sectors, BTreeSet::from([b'a', b'b']));
        let mut grown = Content::default();
        grown.write(0, &[b'c'; 10_000]);
        let sizes: BTreeSet<u64> = (0..20)
            .map(|seed| {
                let mut grown = grown.clone();
                grown.lose(Some(&mut ChaCha8Rng::seed_from_u64(seed)));
                grown.now.size
            })
            .collect();
        assert!(sizes.contains(&0) && sizes.len() > 3, "{sizes:?}");
    }
}
