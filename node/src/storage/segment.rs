//! One file of the write-ahead log: its name, its 64-byte header, and the records and gaps that its bytes hold.
//! Whether a gap is a torn tail or corruption is left to [`super::recovery`].
//!
//! | at | field |
//! |---|---|
//! | 0 | `WWATRWAL` |
//! | 8 | format version u32 |
//! | 12 | node id u32 |
//! | 16 | cluster id u64 |
//! | 24 | directory id u64 |
//! | 32 | sequence u64, counted from 1 |
//! | 40 | first lsn u64 |
//! | 48 | zero, 12 bytes |
//! | 60 | CRC32C u32 of bytes 0..60 |
//!
//! The first record is a checkpoint of all segments before, with the lsn before the first; see [`super::checkpoint`].
//!
//! Length, magic, version and checksum of the header stay where they are in every version, so that a release can name
//! a format that it does not know.

use crate::raft::types::Lsn;
use crate::storage::Identity;
use crate::storage::record::{self, BadFrame, Frame};

/// Length of a segment's header in bytes; the first record follows.
pub const HEADER_BYTES: usize = 64;
/// The format that this release writes and reads.
pub const VERSION: u32 = 2;
const MAGIC: &[u8; 8] = b"WWATRWAL";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u32,
    /// Whose data this is.
    pub identity: Identity,
    /// Drawn when the directory was made: two directories of one node differ in it.
    pub directory_id: u64,
    /// Position among the segments, counted from 1.
    pub sequence: u64,
    /// Lsn of the first record after its checkpoint.
    pub first_lsn: Lsn,
}

impl Header {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.identity.node_id.to_le_bytes());
        for field in [self.identity.cluster_id, self.directory_id, self.sequence, self.first_lsn] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.resize(HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, of any version; `None` if there is none that is whole.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if !bytes.starts_with(MAGIC)
            || crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != u32_at(HEADER_BYTES - 4)?
        {
            return None;
        }
        Some(Header {
            version: u32_at(8)?,
            identity: Identity { cluster_id: u64_at(16)?, node_id: u32_at(12)? },
            directory_id: u64_at(24)?,
            sequence: u64_at(32)?,
            first_lsn: u64_at(40)?,
        })
    }

    /// The seed of the checksums of its records.
    pub fn checksum_seed(&self) -> u32 {
        record::checksum_seed(self.directory_id, self.sequence)
    }
}

/// `wal-<sequence as 16 hex digits>.seg`: sorted by name is sorted by sequence.
pub fn file_name(sequence: u64) -> String {
    format!("wal-{sequence:016x}.seg")
}

/// The sequence in a name that [`file_name`] made; `None` for any other name.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".seg")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (file_name(sequence) == name).then_some(sequence)
}

/// A stretch of a segment. Zeros after the last of them are room that was prepared and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A record whose checksums hold.
    Record {
        /// Where it starts in the file.
        offset: u64,
        /// The record.
        frame: Frame,
    },
    /// No record, though there are bytes that are not zero in it or after it.
    Gap {
        /// Where it starts in the file.
        offset: u64,
        /// How many bytes until the next record, or until only zeros follow.
        bytes: u64,
        /// Why no record stands at `offset`.
        reason: BadFrame,
    },
}

impl Piece {
    /// The record, if it is one.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Piece::Record { frame, .. } => Some(frame),
            Piece::Gap { .. } => None,
        }
    }
}

/// Splits the bytes of a segment into records and gaps. After a gap it looks for the next record at every multiple of 8.
pub fn scan(header: &Header, bytes: &[u8]) -> Vec<Piece> {
    let seed = header.checksum_seed();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut pieces = Vec::new();
    let (mut at, mut next_lsn) = (HEADER_BYTES, header.first_lsn);
    while at < used {
        match record::decode(&bytes[at..], seed) {
            Ok((frame, len)) => {
                next_lsn = frame.lsn.saturating_add(1);
                pieces.push(Piece::Record { offset: at as u64, frame });
                at += len;
            }
            Err(reason) => {
                let end = (at + 8..used)
                    .step_by(8)
                    .find(|&end| is_later_record(&bytes[end..], seed, next_lsn))
                    .unwrap_or(used);
                pieces.push(Piece::Gap { offset: at as u64, bytes: (end - at) as u64, reason });
                at = end;
            }
        }
    }
    pieces
}

/// A record that may follow lsn `next_lsn` within one segment: one of before would be a stray copy and prove nothing.
fn is_later_record(bytes: &[u8], seed: u32, next_lsn: Lsn) -> bool {
    let window = next_lsn..=next_lsn.saturating_add(u64::from(u32::MAX));
    record::peek_lsn(bytes).is_some_and(|lsn| window.contains(&lsn)) && record::decode(bytes, seed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        version: VERSION,
        identity: Identity { cluster_id: 7, node_id: 2 },
        directory_id: 99,
        sequence: 26,
        first_lsn: 1000,
    };

    #[test]
    fn a_header_comes_back_and_no_bit_of_it_is_unprotected() {
        let mut bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Some(HEADER));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Header::decode(&bytes[..HEADER_BYTES - 1]), None);
    }

    #[test]
    fn names_are_ours_or_nobody_s() {
        assert_eq!(file_name(26), "wal-000000000000001a.seg");
        assert_eq!(parse_file_name("wal-000000000000001a.seg"), Some(26));
        for name in ["wal-1a.seg", "wal-000000000000001A.seg", "wal-000000000000001a.seg.bak", "trace.jsonl"]
        {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
