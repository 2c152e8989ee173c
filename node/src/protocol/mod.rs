//! Requests of clients and the replies to them, as bytes. The frame around them is the transport's, what they do the store's.

pub mod content;
pub mod error;
pub mod wire;

use std::sync::Arc;

use crate::kv::command::{COMMAND_BYTES_MAX, Operation, Reply, VALUE_BYTES_MAX};
use crate::raft::reconfigure::Change;
use crate::raft::types::{Index, NodeId};
use content::Content;
use error::ErrorCode;
use wire::{Malformed, Reader, Writer};

/// Longest request, in bytes: one that writes the longest command.
pub const REQUEST_BYTES_MAX: usize = COMMAND_BYTES_MAX + 8;
/// Longest response, in bytes: one with the longest value.
pub const RESPONSE_BYTES_MAX: usize = 8 + 8 + 4 + 1 + 8 + 1 + 1 + 6 + VALUE_BYTES_MAX;

/// A request. (`nonce`, `sequence`) names the operation, and stays the same when it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Drawn at random by each client, so that a late reply to another one answers nothing.
    pub nonce: u64,
    /// Grows with each operation of the client.
    pub sequence: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// Open a session.
    OpenSession,
    /// Execute a write once, in the session `client_id`.
    Write {
        /// The session.
        client_id: u64,
        /// Anything but a get.
        operation: Operation,
    },
    /// Read a key, linearizably.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// What the asked node has applied for a key. Not linearizable; for checks of what a replica holds.
    LocalGet {
        /// The key.
        key: Vec<u8>,
    },
    /// The asked node's status.
    Status,
    /// Change who belongs to the cluster.
    Reconfigure {
        /// How.
        change: Change,
    },
    /// Hand leadership over to this node; 0: to the one that is furthest.
    TransferLeader {
        /// The node.
        to: NodeId,
    },
    /// A node asks the leader up to where it must have applied for the reads that wait at it. Never sent by a client.
    ReadIndex,
    /// The request itself does not fit into a datagram: the node is to fetch it from the client.
    Offer {
        /// What it is about.
        purpose: Purpose,
        /// What the request's bytes are.
        content: Content,
    },
}

/// What a request that has to be fetched is about: enough to know who must fetch it, and whether it was answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A [`RequestBody::Write`] in this session.
    Write {
        /// The session.
        client_id: u64,
    },
    /// A [`RequestBody::Get`].
    Read,
    /// A [`RequestBody::LocalGet`]: for the asked node itself.
    LocalRead,
}

/// The reply to the request with the same `nonce` and `sequence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// As in the request.
    pub nonce: u64,
    /// As in the request.
    pub sequence: u64,
    /// The node that answers.
    pub node: NodeId,
    /// The answer.
    pub body: ResponseBody,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// The session was opened.
    SessionOpened {
        /// Its id.
        client_id: u64,
    },
    /// The operation was executed.
    Applied {
        /// Its log index; for a read, the index it was served at.
        position: Index,
        /// Its result.
        reply: Reply,
    },
    /// What the node has applied for a key.
    Local {
        /// Last applied entry.
        last_applied: Index,
        /// The value.
        value: Option<Arc<[u8]>>,
    },
    /// The status, as JSON.
    Status {
        /// The JSON text.
        json: Vec<u8>,
    },
    /// The leader began to hand over.
    Transferring {
        /// To this node. It may already lead.
        to: NodeId,
    },
    /// The leader began to change the membership, or it is so already.
    Reconfiguring {
        /// Everything up to this entry has to be committed before the change is.
        index: Index,
    },
    /// The leader says up to where.
    ReadIndex {
        /// Everything up to this entry has to be applied before a read that waited is served.
        index: Index,
    },
    /// The response itself does not fit into a datagram: the client is to fetch it.
    Offer {
        /// What the response's bytes are.
        content: Content,
    },
    /// A refusal.
    Error {
        /// Which.
        error: ErrorCode,
    },
}

impl Request {
    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u64(self.nonce);
        writer.u64(self.sequence);
        match &self.body {
            RequestBody::OpenSession => writer.u8(1),
            RequestBody::Write { client_id, operation } => {
                writer.u8(2);
                writer.u64(*client_id);
                operation.encode(&mut writer);
            }
            RequestBody::Get { key } => {
                writer.u8(3);
                writer.bytes(key);
            }
            RequestBody::LocalGet { key } => {
                writer.u8(4);
                writer.bytes(key);
            }
            RequestBody::Status => writer.u8(5),
            RequestBody::TransferLeader { to } => {
                writer.u8(6);
                writer.u32(*to);
            }
            RequestBody::Reconfigure { change } => {
                writer.u8(7);
                let (kind, id, address) = match change {
                    Change::Add(id, address) => (1, id, address.as_str()),
                    Change::Promote(id) => (2, id, ""),
                    Change::Remove(id) => (3, id, ""),
                };
                writer.u8(kind);
                writer.u32(*id);
                writer.bytes(address.as_bytes());
            }
            RequestBody::ReadIndex => writer.u8(33),
            RequestBody::Offer { purpose, content } => {
                writer.u8(32);
                match purpose {
                    Purpose::Write { client_id } => {
                        writer.u8(1);
                        writer.u64(*client_id);
                    }
                    Purpose::Read => writer.u8(2),
                    Purpose::LocalRead => writer.u8(3),
                }
                content.encode(&mut writer);
            }
        }
        writer.into_bytes()
    }

    /// The request in `bytes`.
    ///
    /// # Errors
    /// When they are not one request, exactly.
    pub fn decode(bytes: &[u8]) -> Result<Request, Malformed> {
        let mut reader = Reader::new(bytes);
        let (nonce, sequence) = (reader.u64()?, reader.u64()?);
        let body = match reader.u8()? {
            1 => RequestBody::OpenSession,
            2 => {
                let client_id = reader.u64()?;
                let operation = Operation::decode(&mut reader)?;
                if matches!(operation, Operation::Get { .. }) {
                    return Err(Malformed);
                }
                RequestBody::Write { client_id, operation }
            }
            3 => RequestBody::Get { key: reader.bytes()? },
            4 => RequestBody::LocalGet { key: reader.bytes()? },
            5 => RequestBody::Status,
            6 => RequestBody::TransferLeader { to: reader.u32()? },
            7 => {
                let (kind, id) = (reader.u8()?, reader.u32()?);
                let address = String::from_utf8(reader.bytes()?).map_err(|_| Malformed)?;
                let change = match kind {
                    1 => Change::Add(id, address),
                    2 if address.is_empty() => Change::Promote(id),
                    3 if address.is_empty() => Change::Remove(id),
                    _ => return Err(Malformed),
                };
                RequestBody::Reconfigure { change }
            }
            32 => {
                let purpose = match reader.u8()? {
                    1 => Purpose::Write { client_id: reader.u64()? },
                    2 => Purpose::Read,
                    3 => Purpose::LocalRead,
                    _ => return Err(Malformed),
                };
                RequestBody::Offer { purpose, content: Content::decode(&mut reader)? }
            }
            33 => RequestBody::ReadIndex,
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(Request { nonce, sequence, body })
    }
}

impl Response {
    /// The response as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (mut head, tail) = self.encode_in_pieces();
        head.extend_from_slice(tail.as_deref().unwrap_or_default());
        head
    }

    /// The response as bytes in two pieces, of which the second one is the value, shared with the store.
    pub fn encode_in_pieces(&self) -> (Vec<u8>, Option<Arc<[u8]>>) {
        let mut writer = Writer::default();
        let mut tail = None;
        writer.u64(self.nonce);
        writer.u64(self.sequence);
        writer.u32(self.node);
        match &self.body {
            ResponseBody::SessionOpened { client_id } => {
                writer.u8(1);
                writer.u64(*client_id);
            }
            ResponseBody::Applied { position, reply } => {
                writer.u8(2);
                writer.u64(*position);
                match reply {
                    Reply::Done => writer.u8(1),
                    Reply::Value(value) => {
                        writer.u8(2);
                        tail = announce(&mut writer, value);
                    }
                    Reply::Mismatch(actual) => {
                        writer.u8(3);
                        tail = announce(&mut writer, actual);
                    }
                }
            }
            ResponseBody::Local { last_applied, value } => {
                writer.u8(3);
                writer.u64(*last_applied);
                tail = announce(&mut writer, value);
            }
            ResponseBody::Status { json } => {
                writer.u8(4);
                writer.bytes(json);
            }
            ResponseBody::Transferring { to } => {
                writer.u8(6);
                writer.u32(*to);
            }
            ResponseBody::Reconfiguring { index } => {
                writer.u8(7);
                writer.u64(*index);
            }
            ResponseBody::ReadIndex { index } => {
                writer.u8(33);
                writer.u64(*index);
            }
            ResponseBody::Offer { content } => {
                writer.u8(32);
                content.encode(&mut writer);
            }
            ResponseBody::Error { error } => {
                writer.u8(5);
                writer.u8(error.row().code);
            }
        }
        (writer.into_bytes(), tail)
    }

    /// The response in `bytes`.
    ///
    /// # Errors
    /// When they are not one response, exactly.
    pub fn decode(bytes: &[u8]) -> Result<Response, Malformed> {
        let mut reader = Reader::new(bytes);
        let (nonce, sequence, node) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let body = match reader.u8()? {
            1 => ResponseBody::SessionOpened { client_id: reader.u64()? },
            2 => {
                let position = reader.u64()?;
                let reply = match reader.u8()? {
                    1 => Reply::Done,
                    2 => Reply::Value(reader.optional_bytes()?.map(Arc::from)),
                    3 => Reply::Mismatch(reader.optional_bytes()?.map(Arc::from)),
                    _ => return Err(Malformed),
                };
                ResponseBody::Applied { position, reply }
            }
            3 => {
                let last_applied = reader.u64()?;
                ResponseBody::Local { last_applied, value: reader.optional_bytes()?.map(Arc::from) }
            }
            4 => ResponseBody::Status { json: reader.bytes()? },
            6 => ResponseBody::Transferring { to: reader.u32()? },
            7 => ResponseBody::Reconfiguring { index: reader.u64()? },
            32 => ResponseBody::Offer { content: Content::decode(&mut reader)? },
            33 => ResponseBody::ReadIndex { index: reader.u64()? },
            5 => ResponseBody::Error { error: ErrorCode::from_code(reader.u8()?).ok_or(Malformed)? },
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(Response { nonce, sequence, node, body })
    }
}

/// Writes what stands before a value, or that there is none; the value itself is the last piece.
fn announce(writer: &mut Writer, value: &Option<Arc<[u8]>>) -> Option<Arc<[u8]>> {
    writer.u8(u8::from(value.is_some()));
    if let Some(value) = value {
        writer.length(value.len());
    }
    value.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_survive_their_bytes() {
        let operation = Operation::Set { key: b"k".to_vec(), value: b"v".to_vec() };
        for body in [
            RequestBody::OpenSession,
            RequestBody::Write { client_id: 5, operation },
            RequestBody::Get { key: b"k".to_vec() },
            RequestBody::LocalGet { key: vec![] },
            RequestBody::Status,
            RequestBody::TransferLeader { to: 3 },
            RequestBody::Reconfigure { change: Change::Add(4, "127.0.0.1:8004".to_owned()) },
            RequestBody::Reconfigure { change: Change::Promote(4) },
            RequestBody::Reconfigure { change: Change::Remove(4) },
            RequestBody::Offer { purpose: Purpose::Write { client_id: 7 }, content: Content::of(b"a") },
            RequestBody::Offer { purpose: Purpose::Read, content: Content::of(b"b") },
            RequestBody::ReadIndex,
            RequestBody::Offer { purpose: Purpose::LocalRead, content: Content::of(b"c") },
        ] {
            let request = Request { nonce: 1, sequence: 2, body };
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            for cut in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..cut]), Err(Malformed));
            }
        }
        for body in [
            ResponseBody::SessionOpened { client_id: 9 },
            ResponseBody::Applied { position: 3, reply: Reply::Done },
            ResponseBody::Applied { position: 3, reply: Reply::Value(None) },
            ResponseBody::Applied { position: 3, reply: Reply::Mismatch(Some(b"x"[..].into())) },
            ResponseBody::Local { last_applied: 3, value: Some([].into()) },
            ResponseBody::Status { json: b"{}".to_vec() },
            ResponseBody::Error { error: ErrorCode::Busy },
            ResponseBody::Transferring { to: 3 },
            ResponseBody::Reconfiguring { index: 8 },
            ResponseBody::Offer { content: Content::of(b"d") },
            ResponseBody::ReadIndex { index: 9 },
        ] {
            let response = Response { nonce: 1, sequence: 2, node: 3, body };
            let bytes = response.encode();
            assert_eq!(Response::decode(&bytes), Ok(response));
            for cut in 0..bytes.len() {
                assert_eq!(Response::decode(&bytes[..cut]), Err(Malformed));
            }
        }
    }

    #[test]
    fn a_get_is_no_write() {
        let operation = Operation::Get { key: b"k".to_vec() };
        let request = Request { nonce: 1, sequence: 2, body: RequestBody::Write { client_id: 1, operation } };
        assert_eq!(Request::decode(&request.encode()), Err(Malformed));
    }
}
