//! Objects that are larger than a datagram: how they are named, and the bytes of the two messages that move them.
//! Which chunks to ask for, and when, is [`super::pull`]'s business; whether an object came whole is said by its hash.

use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::types::{Index, LogId, NUMBER_MAX, Term};

use super::frame::PAYLOAD_BYTES_MAX;
use super::pull::ChunkRange;

/// Bytes of a chunk, the last one of an object aside.
pub const CHUNK_BYTES: usize = 1_256;
/// Ranges in one request.
pub const RANGES_MAX: usize = 64;
/// Chunks that one request may ask for: no small datagram makes a node send without bound.
pub const CHUNKS_PER_PULL_MAX: u64 = 256;

/// Longest encoding of an object's name: that of a snapshot.
const OBJECT_BYTES_MAX: usize = 1 + 8 + 8 + 32;
const _: () = assert!(OBJECT_BYTES_MAX + 8 + 8 + 2 + CHUNK_BYTES <= PAYLOAD_BYTES_MAX);
const _: () = assert!(OBJECT_BYTES_MAX + 8 + 2 + RANGES_MAX * 12 <= PAYLOAD_BYTES_MAX);

/// The name of an object. Whoever holds an object of this name holds the same bytes, so any holder may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// The payload of an entry. No two different entries of one history share index and term.
    Entry(LogId),
    /// A snapshot.
    Snapshot {
        /// The last entry in it.
        last: LogId,
        /// The hash over its blocks.
        root: [u8; 32],
    },
    /// A client's request.
    Request {
        /// As in the request.
        nonce: u64,
        /// As in the request.
        sequence: u64,
    },
    /// The response to a client's request. A node that was asked twice may have two of them.
    Response {
        /// As in the request.
        nonce: u64,
        /// As in the request.
        sequence: u64,
        /// The first bytes of its hash.
        hash: u64,
    },
}

/// Asks for parts of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Of which.
    pub object: ObjectId,
    /// The receiver's clock, which comes back in the chunks.
    pub asked_at: u64,
    /// The parts, none of them empty, ascending. No parts: the object is here, it may be forgotten there.
    pub ranges: Vec<ChunkRange>,
}

/// One part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Of which.
    pub object: ObjectId,
    /// From the request that it answers.
    pub asked_at: u64,
    /// Where in the object it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl ObjectId {
    fn encode(self, writer: &mut Writer) {
        match self {
            ObjectId::Entry(id) => {
                writer.u8(1);
                writer.u64(id.term);
                writer.u64(id.index);
            }
            ObjectId::Snapshot { last, root } => {
                writer.u8(2);
                writer.u64(last.term);
                writer.u64(last.index);
                writer.array(&root);
            }
            ObjectId::Request { nonce, sequence } => {
                writer.u8(3);
                writer.u64(nonce);
                writer.u64(sequence);
            }
            ObjectId::Response { nonce, sequence, hash } => {
                writer.u8(4);
                writer.u64(nonce);
                writer.u64(sequence);
                writer.u64(hash);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<ObjectId, Malformed> {
        let kind = reader.u8()?;
        let (first, second) = (reader.u64()?, reader.u64()?);
        let id = |term: Term, index: Index| {
            if term.max(index) <= NUMBER_MAX { Ok(LogId { term, index }) } else { Err(Malformed) }
        };
        Ok(match kind {
            1 => ObjectId::Entry(id(first, second)?),
            2 => ObjectId::Snapshot { last: id(first, second)?, root: reader.array()? },
            3 => ObjectId::Request { nonce: first, sequence: second },
            4 => ObjectId::Response { nonce: first, sequence: second, hash: reader.u64()? },
            _ => return Err(Malformed),
        })
    }
}

impl PullRequest {
    /// The requests for `ranges`: as few as hold them.
    pub fn all(object: ObjectId, asked_at: u64, ranges: &[ChunkRange]) -> Vec<PullRequest> {
        let request = |ranges: &[ChunkRange]| PullRequest { object, asked_at, ranges: ranges.to_vec() };
        ranges.chunks(RANGES_MAX).map(request).collect()
    }

    /// The request as the payload of a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.object.encode(&mut writer);
        writer.u64(self.asked_at);
        writer.u16(u16::try_from(self.ranges.len()).unwrap_or(u16::MAX));
        for range in &self.ranges {
            writer.u64(range.offset);
            writer.u32(u32::try_from(range.bytes).unwrap_or(u32::MAX));
        }
        writer.into_bytes()
    }

    /// The request in `payload`.
    ///
    /// # Errors
    /// When it is not one request, asks for more than [`RANGES_MAX`] ranges or [`CHUNKS_PER_PULL_MAX`] chunks, or its
    /// ranges are empty, do not begin at a chunk, or do not ascend.
    pub fn decode(payload: &[u8]) -> Result<PullRequest, Malformed> {
        let mut reader = Reader::new(payload);
        let (object, asked_at) = (ObjectId::decode(&mut reader)?, reader.u64()?);
        let count = usize::from(reader.u16()?);
        if count > RANGES_MAX {
            return Err(Malformed);
        }
        let mut ranges = Vec::with_capacity(count);
        let (mut end, mut chunks) = (0, 0);
        for _ in 0..count {
            let range = ChunkRange { offset: reader.u64()?, bytes: u64::from(reader.u32()?) };
            chunks += range.bytes.div_ceil(CHUNK_BYTES as u64);
            let misplaced = range.offset < end || !range.offset.is_multiple_of(CHUNK_BYTES as u64);
            if misplaced || range.bytes == 0 || range.offset > NUMBER_MAX || chunks > CHUNKS_PER_PULL_MAX {
                return Err(Malformed);
            }
            end = range.offset + range.bytes;
            ranges.push(range);
        }
        reader.finish()?;
        Ok(PullRequest { object, asked_at, ranges })
    }

    /// The places of all chunks that are asked for, in an object of `size` bytes: where each begins, and how long it is.
    pub fn chunks(&self, size: u64) -> impl Iterator<Item = (u64, usize)> {
        let places = self
            .ranges
            .iter()
            .flat_map(|range| (range.offset..range.offset + range.bytes).step_by(CHUNK_BYTES));
        places
            .take_while(move |offset| *offset < size)
            .map(move |offset| (offset, (size - offset).min(CHUNK_BYTES as u64) as usize))
    }
}

impl<'a> Chunk<'a> {
    /// The chunk as the payload of a datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::onto(Vec::with_capacity(OBJECT_BYTES_MAX + 18 + self.bytes.len()));
        self.object.encode(&mut writer);
        writer.u64(self.asked_at);
        writer.u64(self.offset);
        writer.bytes(self.bytes);
        writer.into_bytes()
    }

    /// The chunk in `payload`.
    ///
    /// # Errors
    /// When it is not one chunk.
    pub fn decode(payload: &'a [u8]) -> Result<Chunk<'a>, Malformed> {
        let mut reader = Reader::new(payload);
        let object = ObjectId::decode(&mut reader)?;
        let (asked_at, offset, bytes) = (reader.u64()?, reader.u64()?, reader.slice()?);
        reader.finish()?;
        Ok(Chunk { object, asked_at, offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: [ObjectId; 4] = [
        ObjectId::Entry(LogId { term: 3, index: 9 }),
        ObjectId::Snapshot { last: LogId { term: 3, index: 9 }, root: [7; 32] },
        ObjectId::Request { nonce: u64::MAX, sequence: 2 },
        ObjectId::Response { nonce: 1, sequence: u64::MAX, hash: 5 },
    ];

    fn range(chunk: u64, chunks: u64) -> ChunkRange {
        ChunkRange { offset: chunk * CHUNK_BYTES as u64, bytes: chunks * CHUNK_BYTES as u64 }
    }

    #[test]
    fn requests_and_chunks_survive_their_bytes_and_fit_into_a_datagram() {
        for object in OBJECTS {
            let ranges: Vec<_> = (0..RANGES_MAX as u64).map(|at| range(at * 9, 4)).collect();
            let requests = PullRequest::all(object, 77, &[&ranges[..], &[range(9_000, 1)]].concat());
            assert_eq!(requests.len(), 2);
            for request in requests {
                let bytes = request.encode();
                assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
                assert_eq!(PullRequest::decode(&bytes), Ok(request));
                for cut in 0..bytes.len() {
                    assert_eq!(PullRequest::decode(&bytes[..cut]), Err(Malformed), "cut at {cut}");
                }
            }
            let chunk = Chunk { object, asked_at: 77, offset: 1 << 40, bytes: &[1; CHUNK_BYTES] };
            let bytes = chunk.encode();
            assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
            assert_eq!(Chunk::decode(&bytes), Ok(chunk));
            for cut in 0..bytes.len() {
                assert_eq!(Chunk::decode(&bytes[..cut]), Err(Malformed), "cut at {cut}");
            }
        }
    }

    #[test]
    fn requests_that_no_receiver_makes_are_malformed() {
        let decoded = |ranges: &[ChunkRange]| {
            let ranges = ranges.to_vec();
            PullRequest::decode(&PullRequest { object: OBJECTS[0], asked_at: 0, ranges }.encode())
        };
        assert!(decoded(&[range(0, 1), range(1, CHUNKS_PER_PULL_MAX - 1)]).is_ok());
        assert!(decoded(&[]).is_ok(), "thanks, I have it");
        assert_eq!(decoded(&[range(0, CHUNKS_PER_PULL_MAX + 1)]), Err(Malformed), "too much");
        assert_eq!(decoded(&[range(0, 200), range(300, 200)]), Err(Malformed), "too much altogether");
        assert_eq!(decoded(&[range(4, 1), range(3, 1)]), Err(Malformed), "backwards");
        assert_eq!(decoded(&[range(4, 2), range(5, 1)]), Err(Malformed), "twice");
        assert_eq!(decoded(&[ChunkRange { offset: 0, bytes: 0 }]), Err(Malformed), "nothing");
        assert_eq!(decoded(&[ChunkRange { offset: 7, bytes: 10 }]), Err(Malformed), "between chunks");
        let far = ChunkRange { offset: u64::MAX - u64::MAX % CHUNK_BYTES as u64, bytes: 1 };
        assert_eq!(decoded(&[far]), Err(Malformed), "beyond every object");
        let entry = ObjectId::Entry(LogId { term: NUMBER_MAX + 1, index: 1 });
        let bytes = PullRequest { object: entry, asked_at: 0, ranges: vec![] }.encode();
        assert_eq!(PullRequest::decode(&bytes), Err(Malformed));
    }

    #[test]
    fn what_is_asked_for_is_cut_into_chunks_and_at_the_objects_end() {
        let size = 3 * CHUNK_BYTES as u64 + 10;
        let request = PullRequest { object: OBJECTS[0], asked_at: 0, ranges: vec![range(1, 1), range(3, 5)] };
        let places: Vec<_> = request.chunks(size).collect();
        assert_eq!(places, [(CHUNK_BYTES as u64, CHUNK_BYTES), (3 * CHUNK_BYTES as u64, 10)]);
        assert_eq!(request.chunks(5).count(), 0);
    }
}
