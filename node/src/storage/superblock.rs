//! What a node says of its write-ahead log outside of it: how far the log was durable, that it was, and whose it is. Without
//! it, a log whose last batches are gone would look like one that ended there.
//! What follows from the difference is left to [`super::recovery`].
//!
//! The file `superblock` has four slots of 512 bytes, written in turn: a write that a power loss tears takes one of them, and
//! the one before it still stands. The slot with the highest sequence counts.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | `WWATRSUP` | |
//! | 8 | format version u32 | that of the segments |
//! | 12 | node id u32 | |
//! | 16 | cluster id u64 | |
//! | 24 | directory id u64 | |
//! | 32 | sequence u64 | counted from 1, over all slots |
//! | 40 | incarnation u64 | at least that of the log |
//! | 48 | durable lsn u64 | every record up to here was durable when this was written |
//! | 56 | last index u64, last term u64 | the last entry of the log then |
//! | 72 | term u64, voted_for u64 | then; 0 is no vote |
//! | 88 | flags u64 | 1: a sync failed after that; 2: the next field counts |
//! | 96 | mark lsn u64 | no snapshot mark had a higher lsn then |
//! | 104 | zero, 20 bytes | |
//! | 124 | CRC32C u32 | of bytes 0..124 |
//!
//! It is written after each sync of the log and not synced itself, except at a start: a kill leaves it exact, a power loss a
//! little old, and nothing leaves it ahead of the log.

use std::path::{Path, PathBuf};

use crate::raft::types::{HardState, Incarnation, LogId, Lsn, NUMBER_MAX, NodeId};
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::{Identity, StorageError, segment};

/// The file's name.
pub const FILE_NAME: &str = "superblock";
/// Slots in the file.
pub const SLOTS: u64 = 4;
/// Bytes between slots: a disk writes so many whole or not at all.
pub const SLOT_BYTES: u64 = 512;
const MAGIC: &[u8; 8] = b"WWATRSUP";
const USED_BYTES: usize = 128;
const DIRTY: u64 = 1;
const TELLS_MARK: u64 = 2;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Format version.
    pub version: u32,
    /// Whose data this is.
    pub identity: Identity,
    /// Drawn when the directory was made.
    pub directory_id: u64,
    /// Counts writes.
    pub sequence: u64,
    /// The latest opening of the directory.
    pub incarnation: Incarnation,
    /// Every record up to here was durable.
    pub durable_lsn: Lsn,
    /// The last entry of the log at `durable_lsn`.
    pub last: LogId,
    /// Term and vote at `durable_lsn`.
    pub hard_state: HardState,
    /// No record up to `durable_lsn` with a higher lsn is a snapshot mark; [`NUMBER_MAX`] if that is not told, as by earlier
    /// releases.
    pub mark_lsn: Lsn,
    /// A sync failed after that: what can be read of the log beyond may be in memory alone.
    pub dirty: bool,
}

impl Superblock {
    /// Before anything was written.
    pub fn new(identity: Identity, directory_id: u64) -> Superblock {
        Superblock {
            version: segment::VERSION,
            identity,
            directory_id,
            sequence: 0,
            incarnation: 0,
            durable_lsn: 0,
            last: LogId::default(),
            hard_state: HardState::default(),
            mark_lsn: 0,
            dirty: false,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; USED_BYTES] {
        let mut out = [0; USED_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&self.identity.node_id.to_le_bytes());
        let words = [
            self.identity.cluster_id,
            self.directory_id,
            self.sequence,
            self.incarnation,
            self.durable_lsn,
            self.last.index,
            self.last.term,
            self.hard_state.term,
            self.hard_state.voted_for.map_or(0, u64::from),
            TELLS_MARK | if self.dirty { DIRTY } else { 0 },
            self.mark_lsn,
        ];
        for (at, word) in (16..).step_by(8).zip(words) {
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..USED_BYTES - 4]);
        out[USED_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The one at the start of `bytes`, of any version; `None` if there is none that is whole.
    pub fn decode(bytes: &[u8]) -> Option<Superblock> {
        let bytes = bytes.first_chunk::<USED_BYTES>()?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if !bytes.starts_with(MAGIC) || crc32c::crc32c(&bytes[..USED_BYTES - 4]) != u32_at(USED_BYTES - 4)? {
            return None;
        }
        let voted_for = NodeId::try_from(u64_at(80)?).ok()?;
        let flags = u64_at(88)?;
        let mark_lsn = if flags & TELLS_MARK != 0 { u64_at(96)? } else { NUMBER_MAX };
        let counters = (32..80).step_by(8).map(u64_at).chain([Some(mark_lsn)]);
        if counters.flatten().any(|counter| counter > NUMBER_MAX) {
            return None;
        }
        Some(Superblock {
            version: u32_at(8)?,
            identity: Identity { cluster_id: u64_at(16)?, node_id: u32_at(12)? },
            directory_id: u64_at(24)?,
            sequence: u64_at(32)?,
            incarnation: u64_at(40)?,
            durable_lsn: u64_at(48)?,
            last: LogId { index: u64_at(56)?, term: u64_at(64)? },
            hard_state: HardState { term: u64_at(72)?, voted_for: Some(voted_for).filter(|node| *node != 0) },
            mark_lsn,
            dirty: flags & DIRTY != 0,
        })
    }

    /// The bytes of a file with it in every slot.
    pub fn encode_file(&self) -> Vec<u8> {
        let mut slot = self.encode().to_vec();
        slot.resize(SLOT_BYTES as usize, 0);
        slot.repeat(SLOTS as usize)
    }

    /// The latest of the slots in `bytes`; `None` if none is whole.
    pub fn latest(bytes: &[u8]) -> Option<Superblock> {
        bytes.chunks(SLOT_BYTES as usize).filter_map(Superblock::decode).max_by_key(|slot| slot.sequence)
    }
}

/// The file, open for writing.
pub struct SuperblockFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

impl SuperblockFile {
    /// Where it is.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(FILE_NAME)
    }

    /// Opens the file.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<SuperblockFile, StorageError> {
        let path = SuperblockFile::path(dir);
        let file = disk.open(&path).map_err(StorageError::io("open", &path))?;
        Ok(SuperblockFile { file, path })
    }

    /// Writes `superblock` over the oldest slot, as the next in sequence. It allocates nothing.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn write(&self, superblock: &mut Superblock) -> Result<(), StorageError> {
        superblock.sequence += 1;
        let offset = superblock.sequence % SLOTS * SLOT_BYTES;
        self.file.write_at(offset, &superblock.encode()).map_err(StorageError::io("write", &self.path))
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.file.fdatasync().map_err(StorageError::io("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERBLOCK: Superblock = Superblock {
        version: segment::VERSION,
        identity: Identity { cluster_id: 7, node_id: 2 },
        directory_id: 99,
        sequence: 26,
        incarnation: 3,
        durable_lsn: 1000,
        last: LogId { index: 40, term: 5 },
        hard_state: HardState { term: 6, voted_for: Some(1) },
        mark_lsn: 17,
        dirty: true,
    };

    #[test]
    fn a_superblock_comes_back_and_no_bit_of_it_is_unprotected() {
        let mut bytes = SUPERBLOCK.encode();
        assert_eq!(Superblock::decode(&bytes), Some(SUPERBLOCK));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Superblock::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Superblock::decode(&bytes[..USED_BYTES - 1]), None);
    }

    #[test]
    fn a_superblock_of_an_earlier_release_does_not_say_where_the_last_mark_is() {
        let mut bytes = Superblock { mark_lsn: 0, ..SUPERBLOCK }.encode();
        bytes[88] &= !(TELLS_MARK as u8);
        let crc = crc32c::crc32c(&bytes[..USED_BYTES - 4]);
        bytes[USED_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Superblock::decode(&bytes), Some(Superblock { mark_lsn: NUMBER_MAX, ..SUPERBLOCK }));
    }

    #[test]
    fn the_latest_whole_slot_counts() {
        let mut file = vec![0; (SLOTS * SLOT_BYTES) as usize];
        for sequence in 9..13 {
            let at = (sequence % SLOTS * SLOT_BYTES) as usize;
            file[at..at + USED_BYTES].copy_from_slice(&Superblock { sequence, ..SUPERBLOCK }.encode());
        }
        let latest = |file: &[u8]| Superblock::latest(file).map(|slot| slot.sequence);
        assert_eq!(latest(&file), Some(12));
        file[0] ^= 1;
        assert_eq!(latest(&file), Some(11));
        for slot in 1..SLOTS {
            file[(slot * SLOT_BYTES) as usize] ^= 1;
        }
        assert_eq!(latest(&file), None);
        assert_eq!(latest(&[]), None);
    }
}
