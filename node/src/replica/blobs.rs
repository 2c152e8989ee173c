//! Requests that are fetched from clients and responses that clients fetch, because they do not fit into a datagram.
//! Both are bounded in number and bytes, and forgotten when nothing was heard of them for a while: whoever still wants one
//! asks again. A node that does not lead keeps neither: it passes parts on between the leader and the client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::objects::Pieces;
use super::requests::{Origin, Waiter};
use super::{Destination, Replica};
use crate::protocol::content::Content;
use crate::protocol::error::ErrorCode;
use crate::protocol::{Purpose, Request, RequestBody, Response, ResponseBody};
use crate::raft::Role;
use crate::raft::types::NodeId;
use crate::transport::assembly::{Assembly, Window};
use crate::transport::frame::{DropReason, Kind, PAYLOAD_BYTES_MAX};
use crate::transport::object::{Chunk, ObjectId, PullRequest};

#[derive(Debug)]
struct RequestPull {
    waiter: Waiter,
    purpose: Purpose,
    assembly: Assembly,
}

#[derive(Debug)]
struct HeldResponse {
    head: Arc<[u8]>,
    tail: Arc<[u8]>,
    content: Content,
    used_at: u64,
}

impl HeldResponse {
    fn bytes(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// What is being fetched from clients and by them.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    /// By nonce and sequence.
    requests: BTreeMap<(u64, u64), RequestPull>,
    request_bytes: usize,
    /// By nonce, sequence and the beginning of their hash.
    responses: BTreeMap<(u64, u64, u64), HeldResponse>,
    response_bytes: usize,
}

impl Blobs {
    /// Bytes of requests on their way in.
    pub(super) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Bytes of responses that wait to be fetched.
    pub(super) fn response_bytes(&self) -> usize {
        self.response_bytes
    }

    fn remove_request(&mut self, key: (u64, u64)) -> Option<RequestPull> {
        let pull = self.requests.remove(&key)?;
        self.request_bytes -= pull.assembly.content().size as usize;
        Some(pull)
    }
}

impl Replica {
    // ---- Requests ----

    /// Begins to fetch a request, or goes on with it. Who offers it twice is the one who is answered.
    pub(super) fn fetch_request(&mut self, now: u64, waiter: Waiter, purpose: Purpose, content: Content) {
        let key = (waiter.nonce, waiter.sequence);
        if let Some(pull) = self.blobs.requests.get_mut(&key) {
            if pull.assembly.content() == content {
                if pull.waiter.origin != waiter.origin {
                    pull.assembly.resume(now);
                }
                pull.waiter = waiter;
                return;
            }
            self.blobs.remove_request(key); // another client, or one that lies: only what it says last counts
        }
        let bytes = self.blobs.request_bytes + content.size as usize;
        if self.blobs.requests.len() >= self.config.request_pulls_max
            || bytes > self.config.request_pull_bytes_max
        {
            return self.refuse(waiter, ErrorCode::Busy);
        }
        let object = ObjectId::Request { nonce: waiter.nonce, sequence: waiter.sequence };
        let assembly = Assembly::new(object, content, now);
        self.blobs.request_bytes = bytes;
        self.blobs.requests.insert(key, RequestPull { waiter, purpose, assembly });
    }

    /// Takes a part of a request. Returns whether it is one that this node fetches.
    pub(super) fn request_chunk(&mut self, now: u64, chunk: &Chunk<'_>) -> bool {
        let ObjectId::Request { nonce, sequence } = chunk.object else { return false };
        let Some(pull) = self.blobs.requests.get_mut(&(nonce, sequence)) else { return false };
        if let Some(bytes) = pull.assembly.chunk(now, chunk)
            && let Some(RequestPull { waiter, purpose, .. }) = self.blobs.remove_request((nonce, sequence))
        {
            self.fetched_request(now, waiter, purpose, &bytes);
        }
        true
    }

    fn fetched_request(&mut self, now: u64, waiter: Waiter, purpose: Purpose, bytes: &[u8]) {
        let request = Request::decode(bytes).ok();
        let request = request.filter(|request| {
            let as_offered = match &request.body {
                RequestBody::Write { client_id, .. } => purpose == Purpose::Write { client_id: *client_id },
                RequestBody::Get { .. } => purpose == Purpose::Read,
                RequestBody::LocalGet { .. } => purpose == Purpose::LocalRead,
                _ => false,
            };
            as_offered && (request.nonce, request.sequence) == (waiter.nonce, waiter.sequence)
        });
        match request {
            None => self.drop_datagram(DropReason::Malformed),
            Some(Request { body: RequestBody::LocalGet { key }, .. }) => self.local_get(waiter, &key),
            Some(request) if self.raft.role() == Role::Leader => self.lead(now, waiter, request),
            Some(_) => self.refuse(waiter, ErrorCode::NoLeader),
        }
    }

    /// Who does not lead any more fetches nothing for the leader that it was.
    pub(super) fn refuse_request_pulls(&mut self) {
        let local = |pull: &RequestPull| pull.purpose == Purpose::LocalRead;
        let keys: Vec<_> =
            self.blobs.requests.iter().filter(|(_, pull)| !local(pull)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(pull) = self.blobs.remove_request(key) {
                self.refuse(pull.waiter, ErrorCode::NoLeader);
            }
        }
    }

    /// Asks for what is missing.
    pub(super) fn pull_requests(&mut self, now: u64) {
        let mut window = Window::new(self.config.pull_window);
        let mut requests: Vec<(Destination, PullRequest)> = Vec::new();
        for pull in self.blobs.requests.values_mut() {
            let from = pull.waiter.origin.destination();
            requests.extend(window.requests(now, &mut pull.assembly).into_iter().map(|ask| (from, ask)));
        }
        for (destination, request) in requests {
            self.send_frame(Kind::Pull, destination, self.raft.term(), &request.encode());
        }
    }

    /// When [`Replica::pull_requests`] has something to do.
    pub(super) fn request_pulls_deadline(&self) -> u64 {
        let mut window = Window::new(self.config.pull_window);
        let deadlines = self.blobs.requests.values().map(|pull| window.next_deadline(&pull.assembly));
        deadlines.min().unwrap_or(u64::MAX)
    }

    // ---- Responses ----

    /// Sends a response, or an offer of it if it does not fit into a datagram. One that was offered before is offered again:
    /// it answers the same operation, which is still open, and parts of it may be on their way.
    pub(super) fn answer(&mut self, waiter: Waiter, body: ResponseBody) {
        let Waiter { origin, nonce, sequence, since } = waiter;
        let response = |body| Response { nonce, sequence, node: self.config.raft.id, body };
        let offered = self.blobs.responses.range((nonce, sequence, 0)..=(nonce, sequence, u64::MAX)).next();
        let offered = offered.map(|(_, held)| held.content);
        let (head, tail) = response(body).encode_in_pieces();
        let tail = tail.unwrap_or_default();
        if head.len() + tail.len() <= PAYLOAD_BYTES_MAX {
            return self.send_response(origin, &[&head[..], &tail].concat());
        }
        let content = match offered {
            Some(content) => content,
            None => {
                let content = Content::of_pieces(&[&head, &tail]);
                if self.blobs.response_bytes + content.size as usize > self.config.response_bytes_max {
                    let busy = response(ResponseBody::Error { error: ErrorCode::Busy });
                    return self.send_response(origin, &busy.encode());
                }
                let held = HeldResponse { head: head.into(), tail, content, used_at: since.max(self.now) };
                self.blobs.response_bytes += held.bytes();
                self.blobs.responses.insert((nonce, sequence, content.short_hash()), held);
                content
            }
        };
        self.send_response(origin, &response(ResponseBody::Offer { content }).encode());
    }

    fn send_response(&mut self, origin: Origin, payload: &[u8]) {
        let kind = match origin {
            Origin::Client(_) => Kind::Response,
            Origin::Node(_) => Kind::ForwardReply,
        };
        self.send_frame(kind, origin.destination(), self.raft.term(), payload);
    }

    /// The response that is asked for, if it is here. Who has all of it says so, and then it goes.
    pub(super) fn response_pieces(&mut self, now: u64, request: &PullRequest) -> Option<Pieces> {
        let ObjectId::Response { nonce, sequence, hash } = request.object else { return None };
        let key = (nonce, sequence, hash);
        let held = self.blobs.responses.get_mut(&key)?;
        held.used_at = now;
        let pieces = Pieces { head: Arc::clone(&held.head), tail: Arc::clone(&held.tail) };
        if request.ranges.is_empty() {
            self.blobs.response_bytes -= held.bytes();
            self.blobs.responses.remove(&key);
        }
        Some(pieces)
    }

    // ---- Between a client and the leader ----

    /// To whom the request was passed on; the whole matter is forgotten if it is `done`.
    pub(super) fn forwarded_to(&mut self, now: u64, nonce: u64, sequence: u64, done: bool) -> Option<NodeId> {
        let forwarded = self.requests.forwarded.get_mut(&(nonce, sequence))?;
        forwarded.since = now;
        let server = forwarded.server;
        if done {
            self.requests.forwarded.remove(&(nonce, sequence));
        }
        Some(server)
    }

    /// Whose request it was that was passed on.
    pub(super) fn forwarded_for(&mut self, now: u64, nonce: u64, sequence: u64) -> Option<SocketAddr> {
        let forwarded = self.requests.forwarded.get_mut(&(nonce, sequence))?;
        forwarded.since = now;
        Some(forwarded.client)
    }

    /// Forgets what nothing was heard of for a while.
    pub(super) fn forget_old_blobs(&mut self, now: u64) {
        let patience = self.config.transfer_idle;
        let fresh = |heard_at: u64| now.saturating_sub(heard_at) < patience;
        let Blobs { requests, request_bytes, responses, response_bytes } = &mut self.blobs;
        requests.retain(|_, pull| fresh(pull.assembly.heard_at()));
        *request_bytes = requests.values().map(|pull| pull.assembly.content().size as usize).sum();
        responses.retain(|_, held| fresh(held.used_at));
        *response_bytes = responses.values().map(HeldResponse::bytes).sum();
    }
}
