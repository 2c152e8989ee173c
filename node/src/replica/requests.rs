//! Requests of clients inside a replica: who waits for which write, read or forwarded request, and what they are told.
//! What a write does is the store's; when a read may be served is Raft's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Destination, Replica};
use crate::kv::Applied;
use crate::kv::command::{Command, KEY_BYTES_MAX, Reply};
use crate::kv::session::Verdict;
use crate::planted::planted;
use crate::protocol::content::Content;
use crate::protocol::error::ErrorCode;
use crate::protocol::{Purpose, REQUEST_BYTES_MAX, Request, RequestBody, Response, ResponseBody};
use crate::raft::event::{Event, Level};
use crate::raft::reconfigure::{Change, ChangeError};
use crate::raft::types::{NodeId, Payload};
use crate::raft::{Input, ReadState, Role};
use crate::transport::frame::{DropReason, Kind, PAYLOAD_BYTES_MAX};

/// How often, at most, a leader with commands to propose writes its clock into the log.
const CLOCK_STEP_MS: u64 = 1_000;

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client itself.
    Client(SocketAddr),
    /// The node that passed its request on.
    Node(NodeId),
}

impl Origin {
    pub(super) fn destination(self) -> Destination {
        match self {
            Origin::Client(address) => Destination::Client(address),
            Origin::Node(id) => Destination::Node(id),
        }
    }
}

/// One who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) origin: Origin,
    pub(super) nonce: u64,
    pub(super) sequence: u64,
    pub(super) since: u64,
}

/// A request that was passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forwarded {
    pub(super) client: SocketAddr,
    /// To whom.
    pub(super) server: NodeId,
    /// When it was, or when parts of it or of its response last passed through here.
    pub(super) since: u64,
}

/// What a write is recognised by when it is applied. Never its index: another leader's entry may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WriteId {
    /// Nobody waits for the clock.
    Clock,
    Open(u64),
    Execute(u64, u64),
}

impl WriteId {
    fn of(command: &Command) -> WriteId {
        match command {
            Command::Clock { .. } => WriteId::Clock,
            Command::OpenSession { nonce } => WriteId::Open(*nonce),
            Command::Execute { client_id, sequence, .. } => WriteId::Execute(*client_id, *sequence),
        }
    }
}

/// Everything that waits in one replica. Bounded by `requests_max`, forgotten after `request_timeout`.
#[derive(Debug, Default)]
pub(super) struct Requests {
    proposals: Vec<Payload>,
    proposed_bytes: usize,
    writes: BTreeMap<WriteId, Vec<Waiter>>,
    /// With the key, or for one that asks for the index alone.
    reads: BTreeMap<u64, (Waiter, Option<Vec<u8>>)>,
    next_read: u64,
    ready: Vec<ReadState>,
    pub(super) forwarded: BTreeMap<(u64, u64), Forwarded>,
    cleaned_at: u64,
    /// The term in which this node told the log the time, when on its own clock, and what it said (ms).
    clock: Option<(u64, u64, u64)>,
    #[cfg(feature = "planted")]
    pub(super) planted_traced: Option<crate::trace::TraceEvent>,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.writes.len() + self.reads.len() + self.forwarded.len()
    }
}

impl Replica {
    pub(super) fn client_request(
        &mut self,
        now: u64,
        source: SocketAddr,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let request = Request::decode(payload)?;
        let Request { nonce, sequence, .. } = request;
        let waiter = Waiter { origin: Origin::Client(source), nonce, sequence, since: now };
        match &request.body {
            RequestBody::Status => {
                let json = self.status_json(now);
                self.answer(waiter, ResponseBody::Status { json });
            }
            RequestBody::LocalGet { key } => {
                self.local_get(waiter, key);
            }
            RequestBody::Offer { purpose: purpose @ Purpose::LocalRead, content } => {
                match unacceptable(&request.body) {
                    Some(error) => self.refuse(waiter, error),
                    None => self.fetch_request(now, waiter, *purpose, *content),
                }
            }
            // The question of a node, never of a client: it would be taken for the node's own.
            RequestBody::ReadIndex => self.refuse(waiter, ErrorCode::BadRequest),
            _ if self.raft.role() == Role::Leader => self.lead(now, waiter, request),
            _ => match self.raft.leader() {
                _ if self.requests.len() + self.follower_reads.len() >= self.config.requests_max => {
                    self.refuse(waiter, ErrorCode::Busy);
                }
                // Only what was checked travels further: a definite refusal must not depend on who is asked.
                Some(leader) => match unacceptable(&request.body) {
                    Some(error) => self.refuse(waiter, error),
                    None if matches!(request.body, RequestBody::Get { .. }) => {
                        if let RequestBody::Get { key } = request.body {
                            self.read_as_follower(waiter, key);
                        }
                    }
                    None => {
                        let forwarded = Forwarded { client: source, server: leader, since: now };
                        self.requests.forwarded.insert((nonce, sequence), forwarded);
                        let term = self.raft.term();
                        self.send_frame(Kind::Forward, Destination::Node(leader), term, payload);
                    }
                },
                None => self.refuse(waiter, ErrorCode::NoLeader),
            },
        }
        Ok(())
    }

    pub(super) fn forwarded_request(
        &mut self,
        now: u64,
        from: NodeId,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let request = Request::decode(payload)?;
        let Request { nonce, sequence, .. } = request;
        let waiter = Waiter { origin: Origin::Node(from), nonce, sequence, since: now };
        match self.raft.role() {
            Role::Leader => self.lead(now, waiter, request),
            // Passed on once and no further: two nodes that take each other for the leader must not play ball.
            _ => self.refuse(waiter, ErrorCode::NoLeader),
        }
        Ok(())
    }

    pub(super) fn forwarded_reply(
        &mut self,
        now: u64,
        from: NodeId,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let response = Response::decode(payload)?;
        if self.index_answer(&response) {
            return Ok(());
        }
        let key = (response.nonce, response.sequence);
        let Some(forwarded) = self.requests.forwarded.get_mut(&key) else { return Ok(()) };
        let client = forwarded.client;
        match response.body {
            // What it offers passes through here, too.
            ResponseBody::Offer { .. } => (forwarded.server, forwarded.since) = (from, now),
            _ => {
                self.requests.forwarded.remove(&key);
            }
        }
        self.send_frame(Kind::Response, Destination::Client(client), self.raft.term(), payload);
        Ok(())
    }

    pub(super) fn local_get(&mut self, waiter: Waiter, key: &[u8]) {
        let value = self.store.get(key).cloned();
        self.answer(waiter, ResponseBody::Local { last_applied: self.store.last_applied(), value });
    }

    /// Takes a request as the leader.
    pub(super) fn lead(&mut self, now: u64, waiter: Waiter, request: Request) {
        if let Some(error) = unacceptable(&request.body) {
            return self.refuse(waiter, error);
        }
        if self.requests.len() >= self.config.requests_max {
            return self.refuse(waiter, ErrorCode::Busy);
        }
        let command = match request.body {
            RequestBody::OpenSession => Command::OpenSession { nonce: request.nonce },
            RequestBody::Write { client_id, operation } => {
                Command::Execute { client_id, sequence: request.sequence, operation }
            }
            RequestBody::Get { key } => return self.read(now, waiter, Some(key)),
            RequestBody::ReadIndex => return self.read(now, waiter, None),
            RequestBody::TransferLeader { to } => return self.hand_over(now, waiter, to),
            RequestBody::Reconfigure { change } => return self.reconfigure(now, waiter, &change),
            RequestBody::Offer { purpose, content } => return self.take_offer(now, waiter, purpose, content),
            RequestBody::LocalGet { .. } | RequestBody::Status => {
                return self.refuse(waiter, ErrorCode::BadRequest); // never forwarded by an honest node
            }
        };
        // A retry of what is applied already needs no second entry; the table of sessions would ignore it anyway.
        if let Command::Execute { client_id, sequence, .. } = &command
            && !planted!(A05)
        {
            match self.store.sessions().look_up(*client_id, *sequence) {
                Verdict::Done(applied) => return self.answer(waiter, response_to(applied)),
                Verdict::Superseded => return self.refuse(waiter, ErrorCode::Superseded),
                // A new leader may not have applied the entry that opened the session: the log decides.
                Verdict::New | Verdict::Unknown => {}
            }
        }
        // During a transfer the next leader takes it in a moment; on a full disk, nobody until there is space.
        if self.raft.transferring_to().is_some() || self.out_of_space {
            return self.refuse(waiter, ErrorCode::Busy);
        }
        let write = WriteId::of(&command);
        let proposed = self.requests.writes.contains_key(&write);
        let uncommitted = self.raft.log().last().index - self.raft.commit_index();
        let bytes = self.raft.uncommitted_bytes() + self.requests.proposed_bytes;
        if !proposed
            && (uncommitted + self.requests.proposals.len() as u64 >= self.config.uncommitted_max
                || bytes >= self.config.uncommitted_bytes_max)
        {
            return self.refuse(waiter, ErrorCode::Busy);
        }
        if planted!(A03) {
            #[cfg(feature = "planted")]
            crate::planted::infected();
            let position = self.raft.log().last().index + self.requests.proposals.len() as u64 + 1;
            let body = match &command {
                Command::OpenSession { .. } | Command::Clock { .. } => None,
                Command::Execute { .. } => Some(ResponseBody::Applied { position, reply: Reply::Done }),
            };
            if let Some(body) = body {
                self.answer(waiter, body);
            }
        }
        self.wait_for(write, waiter);
        if !proposed || planted!(A05) {
            let payload: Arc<[u8]> = command.encode().into();
            self.requests.proposed_bytes += payload.len();
            self.requests.proposals.push(Payload::Command(payload));
        }
    }

    /// Fetches a request that does not fit into a datagram, unless it is known what came of it.
    fn take_offer(&mut self, now: u64, waiter: Waiter, purpose: Purpose, content: Content) {
        if let Purpose::Write { client_id } = purpose
            && !planted!(A05)
        {
            match self.store.sessions().look_up(client_id, waiter.sequence) {
                Verdict::Done(applied) => return self.answer(waiter, response_to(applied)),
                Verdict::Superseded => return self.refuse(waiter, ErrorCode::Superseded),
                Verdict::New | Verdict::Unknown => {}
            }
            if self.requests.writes.contains_key(&WriteId::Execute(client_id, waiter.sequence)) {
                return self.wait_for(WriteId::Execute(client_id, waiter.sequence), waiter);
            }
        }
        self.fetch_request(now, waiter, purpose, content);
    }

    /// Lets one more wait for a write.
    fn wait_for(&mut self, write: WriteId, waiter: Waiter) {
        let waiters = self.requests.writes.entry(write).or_default();
        match waiters.iter().position(|known| known.origin == waiter.origin) {
            Some(at) => waiters[at] = waiter,
            None if waiters.len() < self.config.waiters_per_write_max => waiters.push(waiter),
            None => self.refuse(waiter, ErrorCode::Busy),
        }
    }

    fn hand_over(&mut self, now: u64, waiter: Waiter, to: NodeId) {
        let id = self.config.raft.id;
        if to == id {
            return self.answer(waiter, ResponseBody::Transferring { to });
        }
        match self.raft.transfer_target(now, (to != 0).then_some(to)) {
            Some(to) => {
                let term = self.raft.hard_state().term;
                self.effects.event(Level::Info, || Event::TransferRequested { to, term });
                self.step(now, Input::TransferLeader(Some(to)));
                self.answer(waiter, ResponseBody::Transferring { to });
            }
            None => self.refuse(waiter, ErrorCode::BadRequest),
        }
    }

    fn reconfigure(&mut self, now: u64, waiter: Waiter, change: &Change) {
        // The commands that came before keep their place before the change.
        self.propose_requests(now);
        match self.raft.change(change) {
            Ok(membership) => {
                self.step(now, Input::Reconfigure(membership));
                self.answer(waiter, ResponseBody::Reconfiguring { index: self.raft.membership_index() });
            }
            Err(ChangeError::Done) => {
                self.answer(waiter, ResponseBody::Reconfiguring { index: self.raft.membership_index() });
            }
            Err(ChangeError::UnderWay | ChangeError::Behind) => self.refuse(waiter, ErrorCode::NotReady),
            Err(ChangeError::Impossible) => self.refuse(waiter, ErrorCode::BadRequest),
        }
    }

    fn read(&mut self, now: u64, waiter: Waiter, key: Option<Vec<u8>>) {
        if planted!(Q01) {
            #[cfg(feature = "planted")]
            crate::planted::infected();
            return match key {
                Some(key) => self.answer_read(waiter, &key),
                None => self.answer(waiter, ResponseBody::ReadIndex { index: self.raft.commit_index() }),
            };
        }
        let id = self.requests.next_read;
        self.requests.next_read += 1;
        self.requests.reads.insert(id, (waiter, key));
        self.step(now, Input::ReadIndex(id));
    }

    pub(super) fn propose_requests(&mut self, now: u64) {
        let mut proposals = std::mem::take(&mut self.requests.proposals);
        self.requests.proposed_bytes = 0;
        if !proposals.is_empty() && self.raft.role() == Role::Leader {
            proposals.splice(0..0, self.clock_entry(now));
            self.step(now, Input::Propose(proposals));
        }
    }

    /// The leader's clock, for the log, if it moved on since an entry said it last: with the commands, so that a cluster in
    /// which nothing happens writes nothing.
    fn clock_entry(&mut self, now: u64) -> Option<Payload> {
        let term = self.raft.term();
        let (led_term, since, time) = *self.requests.clock.get_or_insert((term, now, self.store.log_time()));
        if led_term != term {
            // Another leader's entries told the time meanwhile: this one goes on from there.
            self.requests.clock = Some((term, now, self.store.log_time()));
            return None;
        }
        let elapsed = now.saturating_sub(since) / 1_000_000;
        if elapsed < CLOCK_STEP_MS {
            return None;
        }
        let time = time.max(self.store.log_time()) + elapsed;
        self.requests.clock = Some((term, now, time));
        Some(Payload::Command(Arc::from(Command::Clock { time }.encode())))
    }

    pub(super) fn answer_applied(&mut self, command: &Command, applied: Applied) {
        for waiter in self.requests.writes.remove(&WriteId::of(command)).unwrap_or_default() {
            self.answer(waiter, response_to(applied.clone()));
        }
    }

    pub(super) fn answer_reads(&mut self) {
        for id in std::mem::take(&mut self.effects.failed_reads) {
            if let Some((waiter, _)) = self.requests.reads.remove(&id) {
                self.refuse(waiter, ErrorCode::NoLeader);
            }
        }
        for read in std::mem::take(&mut self.effects.reads) {
            // Whoever asked for the index alone waits for its own state.
            let index_alone = |(_, key): &(Waiter, Option<Vec<u8>>)| key.is_none();
            if self.requests.reads.get(&read.id).is_some_and(index_alone)
                && let Some((waiter, _)) = self.requests.reads.remove(&read.id)
            {
                self.answer(waiter, ResponseBody::ReadIndex { index: read.index });
            } else {
                self.requests.ready.push(read);
            }
        }
        let last_applied = self.store.last_applied();
        let (served, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.requests.ready).into_iter().partition(|read| read.index <= last_applied);
        self.requests.ready = waiting;
        for read in served {
            if let Some((waiter, Some(key))) = self.requests.reads.remove(&read.id) {
                self.answer_read(waiter, &key);
            }
        }
    }

    pub(super) fn answer_read(&mut self, waiter: Waiter, key: &[u8]) {
        let reply = Reply::Value(self.store.get(key).cloned());
        self.answer(waiter, ResponseBody::Applied { position: self.store.last_applied(), reply });
    }

    /// Who waited for this leader's entries asks again: they may be overwritten, or committed by the next one.
    pub(super) fn leadership_lost(&mut self) {
        self.requests.proposals.clear();
        self.requests.proposed_bytes = 0;
        self.refuse_request_pulls();
        for waiter in std::mem::take(&mut self.requests.writes).into_values().flatten() {
            self.refuse(waiter, ErrorCode::NoLeader);
        }
    }

    /// Who waits for what another leader was asked asks again: that leader may be gone, and nobody would tell.
    pub(super) fn leader_lost(&mut self) {
        self.refuse_follower_reads(ErrorCode::NoLeader);
        for ((nonce, sequence), forwarded) in std::mem::take(&mut self.requests.forwarded) {
            let Forwarded { client, since, .. } = forwarded;
            let waiter = Waiter { origin: Origin::Client(client), nonce, sequence, since };
            self.refuse(waiter, ErrorCode::NoLeader);
        }
    }

    pub(super) fn forget_old_requests(&mut self, now: u64) {
        let timeout = self.config.request_timeout;
        if now.saturating_sub(self.requests.cleaned_at) < timeout / 4 {
            return;
        }
        self.requests.cleaned_at = now;
        let fresh = |since: u64| now.saturating_sub(since) < timeout;
        self.requests.forwarded.retain(|_, forwarded| fresh(forwarded.since));
        self.follower_reads.forget_old(fresh);
        // Reads stay in Raft's queue until they are confirmed or fail; only who asked is forgotten.
        self.requests.reads.retain(|_, (waiter, _)| fresh(waiter.since));
        self.requests.writes.retain(|_, waiters| {
            waiters.retain(|waiter| fresh(waiter.since));
            !waiters.is_empty()
        });
    }

    pub(super) fn refuse(&mut self, waiter: Waiter, error: ErrorCode) {
        self.answer(waiter, ResponseBody::Error { error });
    }

    /// The status as JSON that fits into a datagram; what does not fit is left out, least important first.
    fn status_json(&self, now: u64) -> Vec<u8> {
        let empty = ResponseBody::Status { json: Vec::new() };
        let around = Response { nonce: 0, sequence: 0, node: 0, body: empty }.encode().len();
        let mut status = self.status(now);
        let json = |status: &crate::client::Status| serde_json::to_vec(status).unwrap_or_default();
        let fits = |bytes: &[u8]| bytes.len() + around <= PAYLOAD_BYTES_MAX;
        let mut bytes = json(&status);
        while !fits(&bytes) {
            if !status.dropped.is_empty() {
                status.dropped.clear();
            } else if status.peers.pop().is_none() {
                if status.members.is_empty() {
                    return b"{}".to_vec();
                }
                status.members.clear();
            }
            bytes = json(&status);
        }
        bytes
    }
}

/// What every node refuses for the request's own sake: the only definite errors.
fn unacceptable(body: &RequestBody) -> Option<ErrorCode> {
    let (key, too_large) = match body {
        RequestBody::Write { operation, .. } => (operation.key(), operation.is_too_large()),
        RequestBody::Get { key } => (key.as_slice(), key.len() > KEY_BYTES_MAX),
        RequestBody::Offer { content, .. } => {
            return (content.size as usize > REQUEST_BYTES_MAX).then_some(ErrorCode::TooLarge);
        }
        RequestBody::OpenSession
        | RequestBody::LocalGet { .. }
        | RequestBody::Status
        | RequestBody::ReadIndex
        | RequestBody::Reconfigure { .. }
        | RequestBody::TransferLeader { .. } => return None,
    };
    if key.is_empty() {
        return Some(ErrorCode::BadRequest);
    }
    too_large.then_some(ErrorCode::TooLarge)
}

fn response_to(applied: Applied) -> ResponseBody {
    match applied {
        Applied::SessionOpened { client_id } => ResponseBody::SessionOpened { client_id },
        Applied::Executed { reply, position } => ResponseBody::Applied { position, reply },
        Applied::TooLarge => ResponseBody::Error { error: ErrorCode::TooLarge },
        Applied::SessionUnknown => ResponseBody::Error { error: ErrorCode::SessionExpired },
        Applied::Superseded => ResponseBody::Error { error: ErrorCode::Superseded },
    }
}
