//! The frame of a datagram: 64 bytes that say whose it is and that it arrived whole.
//! Anything that does not fit its frame is dropped and counted under the reason named here; a bad datagram is never an error.

use std::fmt;

use crate::hash::hash_pieces;
use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::types::{NUMBER_MAX, NodeId, ProcessId, Term};

use super::key::Key;

/// Most bytes of a datagram: Aeron's default MTU, below every Ethernet path with its tunnels. An IP fragment lost is the
/// whole datagram lost, so none is ever needed.
pub const DATAGRAM_BYTES_MAX: usize = 1408;
/// Bytes of the frame before the payload.
pub const HEADER_BYTES: usize = 64;
/// Bytes behind the payload that are left for a tag, with a cluster key or without: what fits never depends on it.
pub const TAG_BYTES: usize = 16;
/// Most bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - TAG_BYTES;

/// Where in a datagram the id of the sending node is; it is 0 for a client.
pub const FROM_AT: usize = 16;

const MAGIC: u32 = u32::from_le_bytes(*b"WWtr");
const VERSION: u8 = 2;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// A tag follows the payload.
const FLAG_TAGGED: u16 = 1;

/// What the payload is, and so who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Raft message of a peer.
    Peer,
    /// A client's request that a peer passes on.
    Forward,
    /// The answer to a forwarded request.
    ForwardReply,
    /// Whoever lacks parts of an object asks for them.
    Pull,
    /// One part of an object.
    Chunk,
    /// A client's request.
    Request,
    /// A reply to a client.
    Response,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Peer,
        Kind::Forward,
        Kind::ForwardReply,
        Kind::Pull,
        Kind::Chunk,
        Kind::Request,
        Kind::Response,
    ];

    fn code(self) -> u8 {
        match self {
            Kind::Peer => 1,
            Kind::Forward => 2,
            Kind::ForwardReply => 3,
            Kind::Pull => 4,
            Kind::Chunk => 5,
            Kind::Request => 16,
            Kind::Response => 17,
        }
    }
}

/// A datagram, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// Hash of the cluster's name.
    pub cluster_id: u64,
    /// Sending node; 0 for a client.
    pub from: NodeId,
    /// Receiving node; 0 for "whoever listens here".
    pub to: NodeId,
    /// The sender's data directory and which opening of it; zeros for a client.
    pub process: ProcessId,
    /// The sender's term; 0 for a client.
    pub term: Term,
    /// Counts the sender's datagrams in this incarnation. For matching by people, never for safety.
    pub message_id: u64,
    /// The rest.
    pub payload: &'a [u8],
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Shorter than a frame, or not as long as its frame says.
    Length,
    /// Longer than [`DATAGRAM_BYTES_MAX`].
    Oversized,
    /// Does not begin like a datagram of ours.
    Magic,
    /// Of another version of the format.
    Version,
    /// Damaged on its way.
    Checksum,
    /// Of a kind that this version does not have.
    Kind,
    /// Of another cluster.
    Cluster,
    /// For another node.
    Receiver,
    /// Claims to be from a node that is no member.
    Sender,
    /// The payload is not what its kind promises, or a number is one that no honest node reaches.
    Malformed,
    /// Without a tag where there has to be one, with one where there is no key to check it, or with a wrong one.
    Authentication,
    /// The kernel had no room for it: more arrived than the node could take.
    ReceiveBuffer,
    /// Entries came faster than the disk takes them. The rest of the message counts.
    DiskBacklog,
}

impl DropReason {
    /// Its name in `node status`.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Length => "length",
            DropReason::Oversized => "oversized",
            DropReason::Magic => "magic",
            DropReason::Version => "version",
            DropReason::Checksum => "checksum",
            DropReason::Kind => "kind",
            DropReason::Cluster => "cluster",
            DropReason::Receiver => "receiver",
            DropReason::Sender => "sender",
            DropReason::Malformed => "malformed",
            DropReason::Authentication => "authentication",
            DropReason::ReceiveBuffer => "receive_buffer",
            DropReason::DiskBacklog => "disk_backlog",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> DropReason {
        DropReason::Malformed
    }
}

/// The id of a cluster: a hash of its name, the same for every member whatever addresses it knows.
pub fn cluster_id(name: &str) -> u64 {
    hash_pieces([name.as_bytes()])
}

impl<'a> Frame<'a> {
    /// The datagram, without a tag.
    pub fn encode(&self) -> Vec<u8> {
        self.seal(None)
    }

    /// The datagram, with a tag if there is a key.
    pub fn seal(&self, key: Option<&Key>) -> Vec<u8> {
        let length = u16::try_from(self.payload.len()).unwrap_or(u16::MAX);
        assert!(
            usize::from(length) <= PAYLOAD_BYTES_MAX,
            "a payload of {} bytes does not fit into a datagram",
            self.payload.len()
        );
        let mut writer = Writer::onto(Vec::with_capacity(HEADER_BYTES + self.payload.len() + TAG_BYTES));
        writer.u32(MAGIC);
        writer.u8(VERSION);
        writer.u8(self.kind.code());
        writer.u16(if key.is_some() { FLAG_TAGGED } else { 0 });
        writer.u64(self.cluster_id);
        writer.u32(self.from);
        writer.u32(self.to);
        writer.u64(self.process.directory);
        writer.u64(self.process.incarnation);
        writer.u64(self.term);
        writer.u64(self.message_id);
        writer.u16(length);
        writer.u16(0); // spare
        let mut bytes = writer.into_bytes();
        let checksum = checksum(&bytes, self.payload);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(self.payload);
        if let Some(key) = key {
            let tag = key.tag(&bytes);
            bytes.extend_from_slice(&tag);
        }
        bytes
    }

    /// Takes a datagram apart whose sender has no key.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn decode(datagram: &'a [u8]) -> Result<Frame<'a>, DropReason> {
        Frame::open(datagram, None)
    }

    /// Takes a datagram apart and checks everything that needs no knowledge of the receiver but its key. With a key only
    /// what carries the right tag is taken, without one only what carries none.
    ///
    /// # Errors
    /// The reason to drop it.
    pub fn open(datagram: &'a [u8], key: Option<&Key>) -> Result<Frame<'a>, DropReason> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(DropReason::Oversized);
        }
        let (header, rest) = datagram.split_at_checked(HEADER_BYTES).ok_or(DropReason::Length)?;
        let mut reader = Reader::new(header);
        if reader.u32()? != MAGIC {
            return Err(DropReason::Magic);
        }
        if reader.u8()? != VERSION {
            return Err(DropReason::Version);
        }
        let kind = reader.u8()?;
        let flags = reader.u16()?;
        let (cluster_id, from, to) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let process = ProcessId { directory: reader.u64()?, incarnation: reader.u64()? };
        let (term, message_id) = (reader.u64()?, reader.u64()?);
        let length = usize::from(reader.u16()?);
        let spare = reader.u16()?;
        let (payload, tag) = rest.split_at_checked(length).ok_or(DropReason::Length)?;
        let tagged = flags & FLAG_TAGGED != 0;
        if tag.len() != if tagged { TAG_BYTES } else { 0 } {
            return Err(DropReason::Length);
        }
        if reader.u32()? != checksum(&header[..CHECKSUM_AT], payload) {
            return Err(DropReason::Checksum);
        }
        match key {
            Some(key) if !tagged || !key.verifies(&datagram[..HEADER_BYTES + length], tag) => {
                return Err(DropReason::Authentication);
            }
            None if tagged => return Err(DropReason::Authentication),
            _ => {}
        }
        let kind = Kind::ALL.into_iter().find(|k| k.code() == kind).ok_or(DropReason::Kind)?;
        if term > NUMBER_MAX || flags & !FLAG_TAGGED != 0 || spare != 0 {
            return Err(DropReason::Malformed);
        }
        Ok(Frame { kind, cluster_id, from, to, process, term, message_id, payload })
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame {
            kind: Kind::Forward,
            cluster_id: cluster_id("c"),
            from: 1,
            to: 2,
            process: ProcessId { directory: 8, incarnation: 3 },
            term: 4,
            message_id: 5,
            payload,
        }
    }

    #[test]
    fn a_frame_survives_its_bytes() {
        let payload = vec![7; PAYLOAD_BYTES_MAX];
        let bytes = frame(&payload).encode();
        assert_eq!(bytes.len() + TAG_BYTES, DATAGRAM_BYTES_MAX);
        assert_eq!(Frame::decode(&bytes), Ok(frame(&payload)));
        assert_eq!(bytes[FROM_AT..FROM_AT + 4], 1_u32.to_le_bytes());
        let bytes = frame(&payload).seal(Some(&key(1)));
        assert_eq!(bytes.len(), DATAGRAM_BYTES_MAX);
        assert_eq!(Frame::open(&bytes, Some(&key(1))), Ok(frame(&payload)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for key in [None, Some(&key(1))] {
            let bytes = frame(b"payload").seal(key);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    assert!(Frame::open(&damaged, key).is_err(), "bit {bit} of byte {at}");
                }
                assert_eq!(Frame::open(&bytes[..at], key), Err(DropReason::Length), "cut at {at}");
            }
        }
        let bytes = frame(b"payload").encode();
        assert_eq!(Frame::decode(&[&bytes[..], &[0]].concat()), Err(DropReason::Length));
        assert_eq!(Frame::decode(&[0; DATAGRAM_BYTES_MAX + 1]), Err(DropReason::Oversized));
    }

    fn key(byte: u8) -> Key {
        Key::of_secret(&[byte; 32]).unwrap()
    }

    #[test]
    fn with_a_key_only_its_tag_is_taken_and_without_one_no_tag() {
        let (plain, sealed) = (frame(b"x").encode(), frame(b"x").seal(Some(&key(1))));
        assert_eq!(Frame::open(&sealed, Some(&key(1))), Ok(frame(b"x")));
        for (bytes, key) in [(&plain, Some(&key(1))), (&sealed, Some(&key(2))), (&sealed, None)] {
            assert_eq!(Frame::open(bytes, key), Err(DropReason::Authentication));
        }
        // The tag covers what stands before the payload, too.
        let other = Frame { term: 9, ..frame(b"x") }.seal(Some(&key(1)));
        let grafted = [&other[..HEADER_BYTES + 1], &sealed[HEADER_BYTES + 1..]].concat();
        assert_eq!(Frame::open(&grafted, Some(&key(1))), Err(DropReason::Authentication));
    }

    #[test]
    fn foreign_datagrams_are_told_apart() {
        let bytes = frame(b"").encode();
        let mut other = bytes.clone();
        other[4] = 9;
        assert_eq!(Frame::decode(&other), Err(DropReason::Version));
        other[0] = 0;
        assert_eq!(Frame::decode(&other), Err(DropReason::Magic));
        assert_ne!(cluster_id("a"), cluster_id("b"));
    }
}
