//! Who sends what to whom of the objects that are larger than a datagram. Nobody who sends remembers anything: each request for
//! parts is answered from what is here at that moment, or not at all.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Destination, Replica};
use crate::raft::types::NodeId;
use crate::transport::frame::{DropReason, Kind};
use crate::transport::object::{Chunk, ObjectId, PullRequest};

/// The bytes of an object, in one piece or two.
pub(super) struct Pieces {
    pub(super) head: Arc<[u8]>,
    pub(super) tail: Arc<[u8]>,
}

impl Pieces {
    pub(super) fn size(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64
    }

    /// Bytes from `offset` on; the caller has checked that they are there.
    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let (from, to) = (offset as usize, offset as usize + length);
        let cut = self.head.len();
        let head = &self.head[from.min(cut)..to.min(cut)];
        let tail = &self.tail[from.saturating_sub(cut)..to.saturating_sub(cut)];
        [head, tail].concat()
    }
}

impl Replica {
    /// Takes a request for parts of an object. `from` is 0 for a client.
    pub(super) fn pull_request(
        &mut self,
        now: u64,
        from: NodeId,
        source: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let request = PullRequest::decode(payload)?;
        let client = from == 0;
        let destination = if client { Destination::Client(source) } else { Destination::Node(from) };
        match request.object {
            ObjectId::Entry(id) if !client => {
                let entry = self.raft.log().entry(id.index).filter(|entry| entry.id == id).cloned();
                if let Some(entry) = entry {
                    let tail = entry.payload.shared_bytes();
                    self.send_chunks(destination, &request, &Pieces { head: Arc::default(), tail });
                }
            }
            ObjectId::Snapshot { .. } if !client => self.serve_snapshot(from, &request)?,
            ObjectId::Response { nonce, sequence, .. } => match self.response_pieces(now, &request) {
                Some(pieces) => self.send_chunks(destination, &request, &pieces),
                None if client => {
                    let done = request.ranges.is_empty();
                    if let Some(server) = self.forwarded_to(now, nonce, sequence, done) {
                        self.relay(Kind::Pull, Destination::Node(server), payload);
                    }
                }
                None => {}
            },
            ObjectId::Request { nonce, sequence } if !client => {
                if let Some(client) = self.forwarded_for(now, nonce, sequence) {
                    self.relay(Kind::Pull, Destination::Client(client), payload);
                }
            }
            ObjectId::Entry(_) | ObjectId::Request { .. } | ObjectId::Snapshot { .. } => {
                return Err(DropReason::Malformed);
            }
        }
        Ok(())
    }

    /// Takes a part of an object. `from` is 0 for a client.
    pub(super) fn chunk(&mut self, now: u64, from: NodeId, payload: &[u8]) -> Result<(), DropReason> {
        let chunk = Chunk::decode(payload)?;
        let client = from == 0;
        match chunk.object {
            ObjectId::Entry(id) if !client => self.entry_chunk(now, id, &chunk),
            ObjectId::Snapshot { .. } if !client => self.snapshot_chunk(now, &chunk),
            ObjectId::Request { nonce, sequence } => {
                if !self.request_chunk(now, &chunk)
                    && client
                    && let Some(server) = self.forwarded_to(now, nonce, sequence, false)
                {
                    self.relay(Kind::Chunk, Destination::Node(server), payload);
                }
            }
            ObjectId::Response { nonce, sequence, .. } if !client => {
                if let Some(client) = self.forwarded_for(now, nonce, sequence) {
                    self.relay(Kind::Chunk, Destination::Client(client), payload);
                }
            }
            ObjectId::Entry(_) | ObjectId::Response { .. } | ObjectId::Snapshot { .. } => {
                return Err(DropReason::Malformed);
            }
        }
        Ok(())
    }

    fn relay(&mut self, kind: Kind, destination: Destination, payload: &[u8]) {
        self.send_frame(kind, destination, self.raft.term(), payload);
    }

    fn send_chunks(&mut self, destination: Destination, request: &PullRequest, pieces: &Pieces) {
        for (offset, length) in request.chunks(pieces.size()) {
            // What is left out is asked for again.
            if self.chunks_sent >= self.config.chunks_per_turn_max {
                return;
            }
            self.chunks_sent += 1;
            let bytes = pieces.read(offset, length);
            let PullRequest { object, asked_at, .. } = *request;
            let payload = Chunk { object, asked_at, offset, bytes: &bytes }.encode();
            self.send_frame(Kind::Chunk, destination, self.raft.term(), &payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pieces_read_like_one() {
        let pieces = Pieces { head: b"abc"[..].into(), tail: b"defgh"[..].into() };
        let whole = b"abcdefgh";
        assert_eq!(pieces.size(), 8);
        for from in 0..=8 {
            for to in from..=8 {
                assert_eq!(pieces.read(from as u64, to - from), whole[from..to]);
            }
        }
    }
}
