//! The bytes of one record in the write-ahead log: a 48-byte header, the payload, zeros up to a multiple of 8.
//! Where records stand, and what a bad one means, is left to [`super::segment`] and [`super::recovery`].
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | `len` u32 | bytes of payload |
//! | 4 | `kind` u8 | see [`Kind`] |
//! | 5 | `flags` u8 | what the kind says |
//! | 6 | zero, 2 bytes | |
//! | 8 | `index` u64 | what the kind says |
//! | 16 | `term` u64 | what the kind says |
//! | 24 | `lsn` u64 | exactly one more than the record before, across segments; a checkpoint has that of the record before it |
//! | 32 | `durable_lsn` u64 | every record up to here had been synced before this one was written |
//! | 40 | `header_crc` u32 | CRC32C of bytes 0..40, seeded with directory and segment |
//! | 44 | `payload_crc` u32 | CRC32C of the payload, seeded with `header_crc` |
//!
//! Integers are little-endian. The header has a checksum of its own, so that a record with a rotten payload still says
//! which entry it was (Alagappan et al., FAST'18). The seed makes blocks of another directory or segment fail.
//! `durable_lsn` tells a torn batch from rot: a hole in front of a record that was written when the hole's records were
//! already durable cannot be the work of a power loss.

use std::fmt;
use std::sync::Arc;

use crate::raft::types::{
    Entry, HardState, Index, LogId, Lsn, NUMBER_MAX, NodeId, Payload, Record, Recovering, SnapshotMark, Term,
};
use crate::storage::checkpoint::Checkpoint;

/// Length of a record's header in bytes.
pub const HEADER_BYTES: usize = 48;
/// Largest payload in bytes. Above any command; it stops a rotten length from reading a whole segment.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 22;
/// Bytes of a snapshot mark's payload before the membership: chain, base index, base term, base chain.
const MARK_FIXED_BYTES: usize = 4 * 8;
/// A snapshot mark's flag: no entry of before stays, for the log had no `base`. Explicit as truncation is, and for the same
/// reason.
pub const CLEARS: u8 = 1;
/// A `recovering` record's flags: there is a restriction; its last entry is known; its vote is known.
const RESTRICTS: u8 = 1;
const LAST_KNOWN: u8 = 2;
const VOTE_KNOWN: u8 = 4;

/// What a record is. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `index` = incarnation.
    Boot = 1,
    /// `term`, and `index` = voted_for or 0.
    HardState = 2,
    /// `index` = the last entry that stays.
    Truncate = 3,
    /// `index` and `term` of an entry without payload.
    Noop = 4,
    /// `index` and `term` of an entry; the payload is its command.
    Command = 5,
    /// `index` and `term` of an entry; the payload is its membership.
    Membership = 6,
    /// `index` and `term` of the last entry in a snapshot; the payload is the rest of the mark. Flag 1: the log is empty
    /// after it.
    Snapshot = 7,
    /// First in each segment, and nowhere else: what the segments before it add up to. `index` and `term` of the last entry
    /// of the log.
    Checkpoint = 8,
    /// `index` and `term` of the last entry that is known of. Flags: 1 a restriction, without it the end of one; 2 that entry
    /// was the last; 4 the vote is known.
    Recovering = 9,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A step.
    Record {
        /// The step.
        record: Record,
        /// It is a snapshot mark after which the log is empty.
        clears: bool,
    },
    /// All steps before it.
    Checkpoint(Checkpoint),
}

/// A record whose two checksums hold. That it makes sense is not yet said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Kind as a number, perhaps one that only a later release knows.
    pub kind: u8,
    /// What the kind says.
    pub flags: u8,
    /// What the kind says.
    pub index: Index,
    /// What the kind says.
    pub term: Term,
    /// Its place in the write-ahead log.
    pub lsn: Lsn,
    /// What was durable before it was written.
    pub durable_lsn: Lsn,
    /// Payload.
    pub payload: Arc<[u8]>,
}

/// Why no record stands at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// Only zeros where a header should be.
    Zeros,
    /// The file ends before the record does.
    Short,
    /// The header fails its checksum.
    Header,
    /// The header holds, the payload fails its checksum.
    Payload {
        /// What it was, as a number.
        kind: u8,
        /// The record that this was.
        lsn: Lsn,
        /// The entry that this was, if it was one.
        index: Index,
        /// Its term.
        term: Term,
    },
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFrame::Zeros => write!(f, "only zeros where a record should start"),
            BadFrame::Short => write!(f, "the file ends inside a record"),
            BadFrame::Header => write!(f, "the header of a record fails its checksum"),
            BadFrame::Payload { lsn, index, term, .. } => {
                write!(f, "the payload of record lsn {lsn} (index {index}, term {term}) fails its checksum")
            }
        }
    }
}

/// The seed of all checksums of one segment.
pub fn checksum_seed(directory_id: u64, sequence: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&directory_id.to_le_bytes()), &sequence.to_le_bytes())
}

/// Bytes on disk of a record with a payload of this many bytes.
fn padded(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(8)
}

/// Bytes on disk of `record`.
pub fn encoded_bytes(record: &Record) -> usize {
    match record {
        Record::Entry(entry) => padded(entry.payload.bytes().len()),
        Record::Snapshot(mark) => padded(MARK_FIXED_BYTES + mark.membership.len()),
        Record::Boot { .. } | Record::HardState(_) | Record::Truncate { .. } | Record::Recovering(_) => {
            padded(0)
        }
    }
}

/// What stands in a header beside lengths and checksums.
struct Head {
    kind: Kind,
    flags: u8,
    index: u64,
    term: u64,
    lsn: Lsn,
    durable_lsn: Lsn,
}

/// Appends the bytes of `record` to `out`. `clears` says of a snapshot mark that the log is empty after it.
pub fn encode(out: &mut Vec<u8>, seed: u32, lsn: Lsn, durable_lsn: Lsn, record: &Record, clears: bool) {
    let mark_payload;
    let (kind, flags, index, term, payload) = match record {
        Record::Boot { incarnation } => (Kind::Boot, 0, *incarnation, 0, [].as_slice()),
        Record::HardState(state) => {
            (Kind::HardState, 0, state.voted_for.map_or(0, u64::from), state.term, [].as_slice())
        }
        Record::Truncate { last_index } => (Kind::Truncate, 0, *last_index, 0, [].as_slice()),
        Record::Entry(Entry { id, payload }) => {
            let kind = match payload {
                Payload::Noop => Kind::Noop,
                Payload::Command(_) => Kind::Command,
                Payload::Membership(_) => Kind::Membership,
            };
            (kind, 0, id.index, id.term, payload.bytes())
        }
        Record::Snapshot(mark) => {
            let fixed = [mark.chain, mark.base.index, mark.base.term, mark.base_chain];
            let fixed: Vec<u8> = fixed.iter().flat_map(|word| word.to_le_bytes()).collect();
            mark_payload = [&fixed[..], &mark.membership].concat();
            let flags = if clears { CLEARS } else { 0 };
            (Kind::Snapshot, flags, mark.last.index, mark.last.term, &mark_payload[..])
        }
        Record::Recovering(None) => (Kind::Recovering, 0, 0, 0, [].as_slice()),
        Record::Recovering(Some(Recovering { last, last_known, vote_known })) => {
            let last_known = if *last_known { LAST_KNOWN } else { 0 };
            let vote_known = if *vote_known { VOTE_KNOWN } else { 0 };
            let flags = RESTRICTS | last_known | vote_known;
            (Kind::Recovering, flags, last.index, last.term, [].as_slice())
        }
    };
    frame(out, seed, &Head { kind, flags, index, term, lsn, durable_lsn }, payload);
}

/// Appends the bytes of `checkpoint` to `out`: all records up to `lsn` add up to it, and are durable.
pub fn encode_checkpoint(out: &mut Vec<u8>, seed: u32, lsn: Lsn, checkpoint: &Checkpoint) {
    let LogId { index, term } = checkpoint.last;
    let head = Head { kind: Kind::Checkpoint, flags: 0, index, term, lsn, durable_lsn: lsn };
    frame(out, seed, &head, &checkpoint.encode());
}

fn frame(out: &mut Vec<u8>, seed: u32, head: &Head, payload: &[u8]) {
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "a payload of {} bytes, at most {PAYLOAD_BYTES_MAX}",
        payload.len()
    );
    let start = out.len();
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[head.kind as u8, head.flags, 0, 0]);
    for field in [head.index, head.term, head.lsn, head.durable_lsn] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let header_crc = crc32c::crc32c_append(seed, &out[start..]);
    out.extend_from_slice(&header_crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c_append(header_crc, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(start + padded(payload.len()), 0);
}

/// The record at the start of `bytes`, and how many bytes it takes.
///
/// # Errors
/// Why there is none.
pub fn decode(bytes: &[u8], seed: u32) -> Result<(Frame, usize), BadFrame> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Err(BadFrame::Short) };
    if header.iter().all(|&byte| byte == 0) {
        return Err(BadFrame::Zeros);
    }
    let header_crc = u32_at(header, 40);
    let len = u32_at(header, 0) as usize;
    if crc32c::crc32c_append(seed, &header[..40]) != header_crc || len > PAYLOAD_BYTES_MAX {
        return Err(BadFrame::Header);
    }
    let (index, term, lsn) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 24));
    if bytes.len() < padded(len) {
        return Err(BadFrame::Short);
    }
    let (payload, padding) = rest[..padded(len) - HEADER_BYTES].split_at(len);
    // Padding is checked too: a byte that nothing covers would be a byte whose rot nothing reports.
    if crc32c::crc32c_append(header_crc, payload) != u32_at(header, 44)
        || padding.iter().any(|&byte| byte != 0)
    {
        return Err(BadFrame::Payload { kind: header[4], lsn, index, term });
    }
    let frame = Frame {
        kind: header[4],
        flags: header[5],
        index,
        term,
        lsn,
        durable_lsn: u64_at(header, 32),
        payload: Arc::from(payload),
    };
    Ok((frame, padded(len)))
}

/// The lsn that a header at the start of `bytes` would have: a cheap look before a costly checksum.
pub(crate) fn peek_lsn(bytes: &[u8]) -> Option<Lsn> {
    bytes.first_chunk::<HEADER_BYTES>().map(|header| u64_at(header, 24))
}

impl Frame {
    /// Bytes that it takes on disk.
    pub fn encoded_bytes(&self) -> u64 {
        padded(self.payload.len()) as u64
    }

    /// What it says.
    ///
    /// # Errors
    /// A sentence, if this release cannot know what it says: an unknown kind or an impossible field.
    pub fn content(&self) -> Result<Content, String> {
        let numbers = [self.index, self.term, self.lsn, self.durable_lsn];
        if let Some(number) = numbers.into_iter().find(|number| *number > NUMBER_MAX) {
            return Err(format!("a record with the number {number}, at most {NUMBER_MAX}"));
        }
        if self.kind == Kind::Checkpoint as u8 {
            let last = LogId { term: self.term, index: self.index };
            return Checkpoint::decode(last, &self.payload).map(Content::Checkpoint);
        }
        let clears = self.kind == Kind::Snapshot as u8 && self.flags == CLEARS;
        Ok(Content::Record { record: self.record()?, clears })
    }

    fn record(&self) -> Result<Record, String> {
        let id = LogId { term: self.term, index: self.index };
        let record = match self.kind {
            kind if kind == Kind::Boot as u8 => Record::Boot { incarnation: self.index },
            kind if kind == Kind::HardState as u8 => {
                let voted_for = NodeId::try_from(self.index)
                    .map_err(|_| format!("a vote for node {}, which no cluster has", self.index))?;
                Record::HardState(HardState {
                    term: self.term,
                    voted_for: (voted_for != 0).then_some(voted_for),
                })
            }
            kind if kind == Kind::Truncate as u8 => Record::Truncate { last_index: self.index },
            kind if kind == Kind::Noop as u8 => Record::Entry(Entry { id, payload: Payload::Noop }),
            kind if kind == Kind::Command as u8 => {
                Record::Entry(Entry { id, payload: Payload::Command(self.payload.clone()) })
            }
            kind if kind == Kind::Membership as u8 => {
                Record::Entry(Entry { id, payload: Payload::Membership(self.payload.clone()) })
            }
            kind if kind == Kind::Snapshot as u8 => Record::Snapshot(self.mark(id)?),
            kind if kind == Kind::Recovering as u8 => Record::Recovering(self.recovering(id)?),
            kind => {
                return Err(format!("a record of unknown kind {kind}; a later release may have written it"));
            }
        };
        Ok(record)
    }

    fn recovering(&self, last: LogId) -> Result<Option<Recovering>, String> {
        let (last_known, vote_known) = (self.flags & LAST_KNOWN != 0, self.flags & VOTE_KNOWN != 0);
        match self.flags {
            0 => Ok(None),
            flags if flags & RESTRICTS != 0 && flags <= RESTRICTS | LAST_KNOWN | VOTE_KNOWN => {
                Ok(Some(Recovering { last, last_known, vote_known }))
            }
            flags => Err(format!("a restriction with flags {flags}")),
        }
    }

    fn mark(&self, last: LogId) -> Result<SnapshotMark, String> {
        let Some((fixed, membership)) = self.payload.split_first_chunk::<MARK_FIXED_BYTES>() else {
            return Err(format!("a snapshot mark of {} bytes", self.payload.len()));
        };
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&fixed[at * 8..at * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        let base = LogId { index: word(1), term: word(2) };
        if base.index > last.index || base.term > NUMBER_MAX {
            return Err(format!("a snapshot at {last} after which the log begins at {base}"));
        }
        Ok(SnapshotMark { last, chain: word(0), base, base_chain: word(3), membership: membership.into() })
    }
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(out: &mut Vec<u8>, seed: u32, lsn: Lsn, durable_lsn: Lsn, record: &Record) {
        super::encode(out, seed, lsn, durable_lsn, record, false);
    }

    fn records() -> Vec<Record> {
        let id = LogId { term: 3, index: 9 };
        vec![
            Record::Boot { incarnation: 4 },
            Record::HardState(HardState { term: 7, voted_for: None }),
            Record::HardState(HardState { term: 7, voted_for: Some(2) }),
            Record::Truncate { last_index: 8 },
            Record::Entry(Entry { id, payload: Payload::Noop }),
            Record::Entry(Entry { id, payload: Payload::Command(Arc::from(b"hello".as_slice())) }),
            Record::Entry(Entry { id, payload: Payload::Command(Arc::from([].as_slice())) }),
            Record::Entry(Entry { id, payload: Payload::Membership(Arc::from([1, 2].as_slice())) }),
            Record::Snapshot(SnapshotMark {
                last: id,
                chain: 11,
                base: LogId { term: 2, index: 4 },
                base_chain: 12,
                membership: Arc::from([1, 2, 3].as_slice()),
            }),
            Record::Recovering(None),
            Record::Recovering(Some(Recovering { last: id, last_known: false, vote_known: true })),
            Record::Recovering(Some(Recovering { last: id, last_known: true, vote_known: false })),
        ]
    }

    #[test]
    fn every_kind_comes_back() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(&mut bytes, 1, 5, 4, &record);
            assert_eq!(bytes.len(), encoded_bytes(&record));
            let (frame, len) = decode(&bytes, 1).unwrap();
            assert_eq!(
                (frame.record().unwrap(), frame.lsn, frame.durable_lsn, len),
                (record, 5, 4, bytes.len())
            );
        }
    }

    #[test]
    fn a_mark_that_clears_the_log_and_a_checkpoint_come_back() {
        let Record::Snapshot(mark) = records()[8].clone() else { panic!("{:?}", records()[8]) };
        let mut bytes = Vec::new();
        super::encode(&mut bytes, 1, 5, 4, &records()[8], true);
        let record = records()[8].clone();
        assert_eq!(decode(&bytes, 1).unwrap().0.content(), Ok(Content::Record { record, clears: true }));
        let checkpoint = Checkpoint { last: mark.last, mark: Some(mark), ..Checkpoint::default() };
        let mut bytes = Vec::new();
        encode_checkpoint(&mut bytes, 1, 5, &checkpoint);
        let (frame, _) = decode(&bytes, 1).unwrap();
        assert_eq!(frame.content(), Ok(Content::Checkpoint(checkpoint)));
        assert_eq!((frame.lsn, frame.durable_lsn), (5, 5));
    }

    #[test]
    fn no_bit_of_a_record_is_unprotected() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(&mut bytes, 1, 5, 4, &record);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&bytes, 1).is_err(), "{record:?} reads well with bit {bit} flipped");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_record_of_another_segment_or_directory_is_none() {
        let mut bytes = Vec::new();
        encode(&mut bytes, checksum_seed(10, 1), 5, 4, &records()[0]);
        assert!(decode(&bytes, checksum_seed(10, 1)).is_ok());
        assert_eq!(decode(&bytes, checksum_seed(10, 2)), Err(BadFrame::Header));
        assert_eq!(decode(&bytes, checksum_seed(11, 1)), Err(BadFrame::Header));
    }

    #[test]
    fn a_rotten_payload_still_says_which_entry_it_was() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, 5, 4, &records()[5]);
        bytes[HEADER_BYTES] ^= 1;
        assert_eq!(
            decode(&bytes, 1),
            Err(BadFrame::Payload { kind: Kind::Command as u8, lsn: 5, index: 9, term: 3 })
        );
    }

    #[test]
    fn an_impossible_field_is_refused() {
        let reads = |kind: Kind, flags, index, payload: &[u8]| {
            let payload = Arc::from(payload);
            let frame = Frame { kind: kind as u8, flags, index, term: 3, lsn: 5, durable_lsn: 4, payload };
            frame.content().is_ok()
        };
        let truncates = |index| reads(Kind::Truncate, 0, index, &[]);
        assert_eq!((truncates(NUMBER_MAX), truncates(NUMBER_MAX + 1)), (true, false));
        let flags: Vec<u8> = (0..=u8::MAX).filter(|flags| reads(Kind::Recovering, *flags, 9, &[])).collect();
        assert_eq!(flags, [0, 1, 3, 5, 7]);
        let marks = |base_index: u64, base_term: u64| {
            let words = [1, base_index, base_term, 2].map(u64::to_le_bytes).concat();
            reads(Kind::Snapshot, 0, 9, &words)
        };
        assert_eq!((marks(9, 3), marks(10, 3)), (true, false));
        assert_eq!((marks(9, NUMBER_MAX), marks(9, NUMBER_MAX + 1)), (true, false));
        assert_eq!(decode(&[0; HEADER_BYTES], 1), Err(BadFrame::Zeros));
        assert_eq!(decode(&[1; HEADER_BYTES], 1), Err(BadFrame::Header));
    }
}
