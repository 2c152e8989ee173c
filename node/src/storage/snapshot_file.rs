//! The bytes of a snapshot: what the log did up to one entry, in a form that every node writes alike, so that nodes may
//! compare and exchange it. Which files hold snapshots is left to [`super::snapshot_dir`]; what the state means, to the
//! state machine.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | `WWATRSNP` | |
//! | 8 | format version u32 | |
//! | 12 | length of the membership u32 | at most [`MEMBERSHIP_BYTES_MAX`] |
//! | 16 | cluster id u64 | |
//! | 24 | index u64, term u64 | of the last entry that is in it |
//! | 40 | chain u64 | over the log up to that entry |
//! | 48 | zero, 8 bytes | |
//! | 56 | CRC32C u32 | of the membership |
//! | 60 | CRC32C u32 | of bytes 0..60 |
//! | 64 | membership | in force at that entry |
//! | … | blocks | 64 KiB of state each, the last one may be shorter; after each a CRC32C u32, seeded with that of the header and the number of the block |
//! | end - 40 | state size u64 | bytes of state in the blocks |
//! | end - 32 | root | BLAKE3 of all before the blocks, the BLAKE3 of each block's state, and the state size |
//!
//! Integers are little-endian. Nothing in it names a node, a time or a directory: the same state at the same entry is the
//! same bytes. Length, magic, version and checksum of the header stay where they are in every version.

use std::sync::Arc;

use thiserror::Error;

use crate::raft::types::LogId;

/// The format that this release writes and reads.
pub const VERSION: u32 = 1;
/// Bytes of state that one checksum covers.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Longest membership in bytes. Far above that of 64 members; it stops a rotten length.
pub const MEMBERSHIP_BYTES_MAX: usize = 64 << 10;
const HEADER_BYTES: usize = 64;
const CRC_BYTES: usize = 4;
const TRAILER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"WWATRSNP";

/// What one needs to know of a snapshot to fetch it, to check it and to go on from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last entry that is in it.
    pub last: LogId,
    /// Chain over the log up to `last`.
    pub chain: u64,
    /// The encoded membership that was in force at `last`.
    pub membership: Arc<[u8]>,
    /// Bytes of the whole image.
    pub size: u64,
    /// Root hash. Two images with the same root are the same bytes.
    pub root: [u8; 32],
}

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadImage {
    /// Too short for what it says of itself, or longer than that.
    #[error("a snapshot of {found} bytes, expected {expected}")]
    Length {
        /// Its length.
        found: u64,
        /// What it should be; for less than a header and a trailer, the length of those.
        expected: u64,
    },
    /// It does not begin as a snapshot does.
    #[error("the header of the snapshot fails its checksum")]
    Header,
    /// Written by a release with another format.
    #[error("a snapshot of format version {found}; this node reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Another cluster's.
    #[error("a snapshot of cluster {found:016x}")]
    Foreign {
        /// The other cluster.
        found: u64,
    },
    /// The membership is not what was written.
    #[error("the membership in the snapshot fails its checksum")]
    Membership,
    /// A block is not what was written.
    #[error("block {number} of the snapshot, at byte {offset}, fails its checksum")]
    Block {
        /// Counted from 0.
        number: u64,
        /// Where it starts in the image.
        offset: u64,
    },
    /// Every part is whole, but they do not belong together.
    #[error("the snapshot fails its root hash")]
    Root,
}

impl BadImage {
    /// Where in the image the damage is, in bytes.
    pub fn offset(&self) -> u64 {
        match self {
            BadImage::Block { offset, .. } => *offset,
            BadImage::Membership => HEADER_BYTES as u64,
            BadImage::Length { found, expected } => *found.min(expected),
            BadImage::Header | BadImage::Version { .. } | BadImage::Foreign { .. } | BadImage::Root => 0,
        }
    }
}

/// Makes an image of state that comes in pieces of any length. It holds one block at most.
#[derive(Clone, Debug)]
pub struct Encoder {
    last: LogId,
    chain: u64,
    membership: Arc<[u8]>,
    header_crc: u32,
    root: blake3::Hasher,
    block: Vec<u8>,
    blocks: u64,
    state_bytes: u64,
    size: u64,
}

impl Encoder {
    /// Begins an image of the cluster `cluster_id` at the entry `last`, and adds its first bytes to `image`.
    pub fn new(
        cluster_id: u64,
        last: LogId,
        chain: u64,
        membership: Arc<[u8]>,
        image: &mut Vec<u8>,
    ) -> Encoder {
        assert!(
            membership.len() <= MEMBERSHIP_BYTES_MAX,
            "a membership of {} bytes, at most {MEMBERSHIP_BYTES_MAX}",
            membership.len()
        );
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(membership.len() as u32).to_le_bytes());
        for field in [cluster_id, last.index, last.term, chain, 0] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&crc32c::crc32c(&membership).to_le_bytes());
        let header_crc = crc32c::crc32c(&header);
        header.extend_from_slice(&header_crc.to_le_bytes());
        image.extend_from_slice(&header);
        image.extend_from_slice(&membership);
        let mut root = blake3::Hasher::new();
        root.update(&header);
        root.update(&membership);
        let size = (header.len() + membership.len()) as u64;
        let block = Vec::new();
        Encoder { last, chain, membership, header_crc, root, block, blocks: 0, state_bytes: 0, size }
    }

    /// Takes the next piece of state, and adds to `image` what that completes.
    pub fn push(&mut self, mut state: &[u8], image: &mut Vec<u8>) {
        self.state_bytes += state.len() as u64;
        while self.block.len() + state.len() >= BLOCK_BYTES {
            let (head, rest) = state.split_at(BLOCK_BYTES - self.block.len());
            self.block.extend_from_slice(head);
            self.end_block(image);
            state = rest;
        }
        self.block.extend_from_slice(state);
    }

    /// Adds the end of the image.
    pub fn finish(mut self, image: &mut Vec<u8>) -> SnapshotMeta {
        if !self.block.is_empty() {
            self.end_block(image);
        }
        self.root.update(&self.state_bytes.to_le_bytes());
        let root = *self.root.finalize().as_bytes();
        image.extend_from_slice(&self.state_bytes.to_le_bytes());
        image.extend_from_slice(&root);
        let Encoder { last, chain, membership, .. } = self;
        SnapshotMeta { last, chain, membership, size: self.size + TRAILER_BYTES as u64, root }
    }

    fn end_block(&mut self, image: &mut Vec<u8>) {
        self.root.update(blake3::hash(&self.block).as_bytes());
        image.extend_from_slice(&self.block);
        image.extend_from_slice(&block_crc(self.header_crc, self.blocks, &self.block).to_le_bytes());
        self.size += (self.block.len() + CRC_BYTES) as u64;
        self.blocks += 1;
        self.block.clear();
    }
}

/// A block that stands in another place, or in another snapshot, fails.
fn block_crc(header_crc: u32, number: u64, block: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(header_crc, &number.to_le_bytes()), block)
}

/// A whole image of which every checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// What it is.
    pub meta: SnapshotMeta,
    /// Whose it is.
    pub cluster_id: u64,
    /// Blocks with their checksums.
    body: &'a [u8],
}

impl<'a> Image<'a> {
    /// The state, in the pieces in which it lies in the image: 64 KiB each, the last one perhaps shorter.
    pub fn blocks(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.body.chunks(BLOCK_BYTES + CRC_BYTES).map(|chunk| &chunk[..chunk.len().saturating_sub(CRC_BYTES)])
    }

    /// The state in one piece.
    pub fn state(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(self.body.len());
        self.blocks().for_each(|block| state.extend_from_slice(block));
        state
    }
}

/// Checks every byte of an image. Whose it must be is checked if `cluster_id` says it.
///
/// # Errors
/// The first thing that is wrong with it. No bytes, whoever made them, do worse.
pub fn verify(image: &[u8], cluster_id: Option<u64>) -> Result<Image<'_>, BadImage> {
    let found = image.len() as u64;
    let short = |expected: usize| BadImage::Length { found, expected: expected as u64 };
    let header = image.first_chunk::<HEADER_BYTES>().ok_or_else(|| short(HEADER_BYTES + TRAILER_BYTES))?;
    let header_crc = u32_at(header, 60);
    if !header.starts_with(MAGIC) || crc32c::crc32c(&header[..60]) != header_crc {
        return Err(BadImage::Header);
    }
    let version = u32_at(header, 8);
    if version != VERSION {
        return Err(BadImage::Version { found: version });
    }
    let owner = u64_at(header, 16);
    if cluster_id.is_some_and(|own| own != owner) {
        return Err(BadImage::Foreign { found: owner });
    }
    let membership_bytes = u32_at(header, 12) as usize;
    if membership_bytes > MEMBERSHIP_BYTES_MAX || u64_at(header, 48) != 0 {
        return Err(BadImage::Header);
    }
    let body_at = HEADER_BYTES + membership_bytes;
    let Some((body, trailer)) =
        image.get(body_at..).and_then(|rest| rest.split_last_chunk::<TRAILER_BYTES>())
    else {
        return Err(short(body_at + TRAILER_BYTES));
    };
    let membership = &image[HEADER_BYTES..body_at];
    if crc32c::crc32c(membership) != u32_at(header, 56) {
        return Err(BadImage::Membership);
    }
    let state_bytes = u64_at(trailer, 0);
    let blocks = state_bytes.div_ceil(BLOCK_BYTES as u64);
    // The size may claim anything: no sum of it may overflow.
    let expected = state_bytes.saturating_add(blocks * CRC_BYTES as u64);
    if body.len() as u64 != expected {
        let expected = expected.saturating_add((body_at + TRAILER_BYTES) as u64);
        return Err(BadImage::Length { found, expected });
    }
    let mut root = blake3::Hasher::new();
    root.update(&image[..body_at]);
    for (number, chunk) in (0..).zip(body.chunks(BLOCK_BYTES + CRC_BYTES)) {
        let offset = (body_at + number as usize * (BLOCK_BYTES + CRC_BYTES)) as u64;
        let bad = BadImage::Block { number, offset };
        let Some((block, crc)) = chunk.split_last_chunk::<CRC_BYTES>() else { return Err(bad) };
        if block_crc(header_crc, number, block) != u32::from_le_bytes(*crc) {
            return Err(bad);
        }
        root.update(blake3::hash(block).as_bytes());
    }
    root.update(&state_bytes.to_le_bytes());
    let root = *root.finalize().as_bytes();
    if root != trailer[8..] {
        return Err(BadImage::Root);
    }
    let last = LogId { index: u64_at(header, 24), term: u64_at(header, 32) };
    let meta =
        SnapshotMeta { last, chain: u64_at(header, 40), membership: membership.into(), size: found, root };
    Ok(Image { meta, cluster_id: owner, body })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: LogId = LogId { index: 9, term: 3 };

    /// An image of `state`, given to the encoder in pieces of `piece` bytes.
    fn image(state: &[u8], piece: usize) -> (Vec<u8>, SnapshotMeta) {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(7, LAST, 11, Arc::from([1, 2, 3].as_slice()), &mut bytes);
        for piece in state.chunks(piece) {
            encoder.push(piece, &mut bytes);
        }
        let meta = encoder.finish(&mut bytes);
        (bytes, meta)
    }

    fn state(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
    }

    #[test]
    fn state_of_any_length_comes_back_and_the_pieces_do_not_show() {
        for bytes in
            [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 3 * BLOCK_BYTES + 9]
        {
            let state = state(bytes);
            let (whole, meta) = image(&state, BLOCK_BYTES * 4);
            let read = verify(&whole, Some(7)).unwrap();
            assert_eq!((&read.meta, read.cluster_id, read.state()), (&meta, 7, state.clone()));
            assert_eq!((meta.last, meta.chain, meta.size), (LAST, 11, whole.len() as u64));
            assert_eq!(&meta.membership[..], [1, 2, 3]);
            assert!(read.blocks().all(|block| !block.is_empty()));
            for piece in [1000, BLOCK_BYTES - 1, BLOCK_BYTES + 1] {
                assert_eq!(image(&state, piece), (whole.clone(), meta.clone()), "pieces of {piece} bytes");
            }
        }
    }

    #[test]
    fn the_bytes_of_an_image_are_these_in_every_release() {
        let (bytes, meta) = image(b"state", 5);
        assert_eq!(bytes.len(), HEADER_BYTES + 3 + 5 + CRC_BYTES + TRAILER_BYTES);
        let hex: String = meta.root[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "6939ab8c9197d98b", "the root of a version {VERSION} image");
        assert_eq!(meta.root, bytes[bytes.len() - 32..]);
    }

    #[test]
    fn no_bit_of_an_image_is_unprotected() {
        let (mut bytes, _) = image(&state(300), 300);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bytes, None).is_err(), "reads well with bit {bit} flipped");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert!(verify(&bytes[..len], None).is_err(), "reads well when cut at {len}");
        }
        bytes.push(0);
        assert!(matches!(verify(&bytes, None), Err(BadImage::Length { .. })));
    }

    #[test]
    fn damage_is_named() {
        let (mut bytes, _) = image(&state(2 * BLOCK_BYTES), BLOCK_BYTES);
        assert_eq!(verify(&bytes, Some(8)), Err(BadImage::Foreign { found: 7 }));
        let at = HEADER_BYTES + 3;
        // Two blocks that changed places: each is whole, and neither is where it belongs.
        let mut swapped = bytes.clone();
        let (first, second) = swapped[at..].split_at_mut(BLOCK_BYTES + CRC_BYTES);
        first.swap_with_slice(&mut second[..BLOCK_BYTES + CRC_BYTES]);
        assert_eq!(verify(&swapped, None), Err(BadImage::Block { number: 0, offset: at as u64 }));
        bytes[at + BLOCK_BYTES + CRC_BYTES] ^= 1;
        let offset = (at + BLOCK_BYTES + CRC_BYTES) as u64;
        assert_eq!(verify(&bytes, None), Err(BadImage::Block { number: 1, offset }));
        bytes[at + BLOCK_BYTES + CRC_BYTES] ^= 1;
        bytes[HEADER_BYTES] ^= 1;
        assert_eq!(verify(&bytes, None), Err(BadImage::Membership));
        bytes[HEADER_BYTES] ^= 1;
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&crc);
        assert_eq!(verify(&bytes, None), Err(BadImage::Version { found: 9 }));
    }

    #[test]
    fn a_size_that_claims_the_world_is_refused() {
        let (bytes, _) = image(b"state", 5);
        let size_at = bytes.len() - TRAILER_BYTES;
        for size in [u64::MAX, u64::MAX - 3, 1 << 63, 6, 4, 0] {
            let mut bytes = bytes.clone();
            bytes[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
            assert!(matches!(verify(&bytes, None), Err(BadImage::Length { .. })), "{size}");
        }
    }
}
