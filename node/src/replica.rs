//! Raft, the store and the client protocol as one sans-IO whole: datagrams in, datagrams out, writes as data.
//! It has no socket, no file and no clock; the server gives it those, and a simulator may give it others.

mod blobs;
mod entry_pulls;
mod follower_reads;
mod objects;
mod requests;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use rand_chacha::ChaCha8Rng;

use crate::client::{MemberStatus, PeerStatus, Status};
use crate::kv::Store;
use crate::kv::command::Command;
use crate::planted::planted;
use crate::protocol::wire::Malformed;
use crate::raft::event::{Event, Level};
use crate::raft::log::chain_after;
use crate::raft::membership::{MEMBERS_MAX, Member};
use crate::raft::message::{AppendResult, Envelope, Message};
use crate::raft::types::{Index, Lsn, NodeId, Payload, ProcessId, Record};
use crate::raft::{Effects, Input, Outgoing, Raft, RaftConfig, Recovered, Role};
use crate::storage::Progress;
use crate::storage::snapshot_job::SnapshotJob;
use crate::trace::TraceEvent;
use crate::transport::frame::{DropReason, Frame, Kind};
use crate::transport::key::Key;
use crate::transport::message_codec;
use blobs::Blobs;
use entry_pulls::{EntryPulls, Origin};
use follower_reads::FollowerReads;
use requests::Requests;
use snapshots::Snapshots;

/// Every so many entries the hash of the applied state goes into the trace, at the same indexes on every node.
const STATE_HASH_INTERVAL: Index = 64;

/// What a replica knows when it starts, and its bounds.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// For Raft.
    pub raft: RaftConfig,
    /// Hash of the cluster's name.
    pub cluster_id: u64,
    /// The cluster's key, if it has one.
    pub key: Option<Key>,
    /// This data directory, and this start of it.
    pub process: ProcessId,
    /// Entries that a leader appends beyond its commit index before it answers `busy`.
    pub uncommitted_max: u64,
    /// Bytes in their payloads beyond which it does so, too.
    pub uncommitted_bytes_max: usize,
    /// Requests that a node holds, of all kinds together, before it answers `busy`.
    pub requests_max: usize,
    /// How long a request is remembered without an answer, ns.
    pub request_timeout: u64,
    /// Bytes of records that may wait for the disk; the entries of further messages are dropped, and sent again by the
    /// leader.
    pub unsynced_bytes_max: usize,
    /// Messages that may wait for the disk; more are dropped.
    pub gated_messages_max: usize,
    /// Entries after which the state is written to a snapshot.
    pub snapshot_entries: u64,
    /// Bytes of entries after which it is, if that comes first.
    pub snapshot_bytes: u64,
    /// Entries that one flush applies.
    pub apply_per_turn_max: u64,
    /// Those who may wait for one write; others are answered `busy`.
    pub waiters_per_write_max: usize,
    /// Appends that wait for payloads.
    pub held_appends_max: usize,
    /// Bytes of payloads that are fetched or wait for their append; one is always fetched.
    pub entry_pull_bytes_max: usize,
    /// Requests that are fetched from clients; others are answered `busy`.
    pub request_pulls_max: usize,
    /// Bytes of them.
    pub request_pull_bytes_max: usize,
    /// Bytes of responses that wait to be fetched; others are answered `busy`.
    pub response_bytes_max: usize,
    /// Chunks that are asked for and not here.
    pub pull_window: usize,
    /// Chunks that one flush sends; what is left out is asked for again.
    pub chunks_per_turn_max: usize,
    /// How long an object of which nothing is heard is remembered, ns.
    pub transfer_idle: u64,
    /// Whether trace events are wanted.
    pub tracing: bool,
    /// The least urgent event for people that is wanted.
    pub level: Option<Level>,
}

/// What recovery found on the disk.
#[derive(Clone, Debug, Default)]
pub struct RecoveredState {
    /// Term, vote, log.
    pub raft: Recovered,
    /// The state in the snapshot that the log begins after, if there is one.
    pub state: Option<Vec<u8>>,
}

/// What a replica holds for others at this moment: every number of it has its bound in [`ReplicaConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Requests of all kinds, against `requests_max`.
    pub requests: usize,
    /// Bytes in the payloads of entries that are not committed, against `uncommitted_bytes_max`.
    pub uncommitted_bytes: usize,
    /// Bytes of records that wait for the disk, against `unsynced_bytes_max`.
    pub unsynced_bytes: usize,
    /// Messages that wait for it, against `gated_messages_max`.
    pub gated_messages: usize,
    /// Appends that wait for payloads, against `held_appends_max`.
    pub held_appends: usize,
    /// Bytes of payloads on their way here, against `entry_pull_bytes_max`.
    pub entry_pull_bytes: usize,
    /// Bytes of requests on their way here, against `request_pull_bytes_max`.
    pub request_pull_bytes: usize,
    /// Bytes of responses that wait to be fetched, against `response_bytes_max`.
    pub response_bytes: usize,
}

/// What leaves first of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Priority {
    /// Votes, heartbeats, and whatever else keeps a leader.
    Heartbeat,
    /// Acknowledgements, and requests for parts of objects.
    Acknowledgement,
    /// Entries, and what clients ask and are told.
    Append,
    /// Parts of objects.
    Chunk,
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a peer, at whatever address this node knows it.
    Node(NodeId),
    /// To a client.
    Client(SocketAddr),
}

/// What a replica wants done, in this order: trace lines to the kernel, records to the disk, datagrams to the network.
#[derive(Debug, Default)]
pub struct Output {
    /// Trace lines.
    pub trace: Vec<TraceEvent>,
    /// Lines for people.
    pub events: Vec<Event>,
    /// Records for the disk.
    pub records: Vec<(Lsn, Record)>,
    /// What is to be done with snapshots.
    pub snapshot_jobs: Vec<SnapshotJob>,
    /// Datagrams.
    pub datagrams: Vec<(Destination, Vec<u8>)>,
}

/// One member of the cluster.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    raft: Raft,
    store: Store,
    /// Chain over the entries that were applied, computed from them and not taken from the log.
    applied_chain: u64,
    effects: Effects,
    /// Records wait for space on the disk: reads and votes go on, entries are taken from nobody.
    out_of_space: bool,
    /// What votes wait for is durable up to here.
    vote_lsn: Lsn,
    /// Messages that wait for the disk.
    gated: VecDeque<Outgoing>,
    /// Sizes of what waits for the disk.
    unsynced: VecDeque<(Lsn, usize)>,
    unsynced_bytes: usize,
    requests: Requests,
    snapshots: Snapshots,
    follower_reads: FollowerReads,
    entry_pulls: EntryPulls,
    blobs: Blobs,
    /// Since the last flush.
    chunks_sent: usize,
    /// The time of the latest input.
    now: u64,
    /// By [`Priority`].
    datagrams: [Vec<(Destination, Vec<u8>)>; 4],
    /// Where nodes were heard from whose address nothing else tells.
    heard: BTreeMap<NodeId, SocketAddr>,
    message_id: u64,
    dropped: BTreeMap<DropReason, u64>,
}

impl Replica {
    /// A replica that continues from `recovered`.
    pub fn new(config: ReplicaConfig, rng: ChaCha8Rng, now: u64, recovered: RecoveredState) -> Replica {
        let RecoveredState { raft: mut recovered, state } = recovered;
        let hard_state = &mut recovered.hard_state;
        if planted!(E05) && hard_state.voted_for.take().is_some() {
            #[cfg(feature = "planted")]
            crate::planted::infected();
        }
        let (hard_state, last_lsn) = (recovered.hard_state, recovered.last_lsn);
        let (applied, applied_chain) = (recovered.mark.last.index, recovered.mark.chain);
        let snapshots = Snapshots::recovered(recovered.snapshot);
        let raft = Raft::new(config.raft.clone(), rng, now, recovered);
        let mut effects = Effects { tracing: config.tracing, level: config.level, ..Effects::default() };
        effects.trace(|| TraceEvent::Boot {
            node: config.raft.id,
            incarnation: config.process.incarnation,
            term: hard_state.term,
            voted_for: hard_state.voted_for,
            last_index: raft.log().last().index,
            chain: raft.log().chain_at(raft.log().last().index),
            terms: raft.log().term_runs(),
            lsn: last_lsn,
            directory: config.process.directory,
            snapshot_index: applied,
        });
        // A snapshot file is verified before its state gets here: bytes that are no state are a defect, not an accident.
        let store = state.map_or(Ok(Store::default()), |state| Store::decode(&state));
        let store =
            store.unwrap_or_else(|Malformed| panic!("the snapshot at index {applied} holds no state"));
        assert!(
            store.last_applied() == applied,
            "the snapshot at index {applied} holds the state at {}",
            store.last_applied()
        );
        Replica {
            config,
            raft,
            store,
            applied_chain,
            effects,
            out_of_space: false,
            vote_lsn: last_lsn,
            gated: VecDeque::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            requests: Requests::default(),
            snapshots,
            follower_reads: FollowerReads::default(),
            entry_pulls: EntryPulls::default(),
            blobs: Blobs::default(),
            chunks_sent: 0,
            now,
            datagrams: Default::default(),
            heard: BTreeMap::new(),
            message_id: 0,
            dropped: BTreeMap::new(),
        }
    }

    /// Where a node is found by what the log says, or by where it was heard from last.
    pub fn address_of(&self, id: NodeId) -> Option<SocketAddr> {
        let member = self.raft.membership().member(id).and_then(|member| member.address.parse().ok());
        member.or_else(|| self.heard.get(&id).copied())
    }

    /// When [`Replica::tick`] is due; 0 if there is more to apply.
    pub fn next_deadline(&self) -> u64 {
        let behind = self.store.last_applied() < self.raft.commit_index();
        let snapshots = self.snapshots.next_deadline().unwrap_or(u64::MAX);
        let transfers = snapshots.min(self.entry_pulls_deadline()).min(self.request_pulls_deadline());
        let transfers = transfers.min(self.follower_reads_deadline());
        if behind { 0 } else { self.raft.next_deadline().min(transfers) }
    }

    /// Raft's state, for tests and invariant checks.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The applied state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes a datagram that came from `source`.
    pub fn datagram(&mut self, now: u64, source: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if let Err(reason) = self.take(now, source, bytes) {
            self.drop_datagram(reason);
        }
    }

    /// Counts a datagram that was dropped.
    pub fn drop_datagram(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// Notes how many datagrams were lost before they got here, since the start.
    pub fn lost_by_kernel(&mut self, total: u64) {
        if total > 0 {
            self.dropped.insert(DropReason::ReceiveBuffer, total);
        }
    }

    fn take(&mut self, now: u64, source: SocketAddr, bytes: &[u8]) -> Result<(), DropReason> {
        let frame = Frame::open(bytes, self.config.key.as_ref())?;
        if frame.cluster_id != self.config.cluster_id {
            return Err(DropReason::Cluster);
        }
        let id = self.config.raft.id;
        let of_a_client = frame.from == 0 && matches!(frame.kind, Kind::Pull | Kind::Chunk);
        if of_a_client || frame.kind == Kind::Request {
            if frame.to != 0 && frame.to != id {
                return Err(DropReason::Receiver);
            }
            return match frame.kind {
                Kind::Pull => self.pull_request(now, 0, source, frame.payload),
                Kind::Chunk => self.chunk(now, 0, frame.payload),
                _ => self.client_request(now, source, frame.payload),
            };
        }
        if frame.to != id {
            return Err(DropReason::Receiver);
        }
        if frame.from == id || frame.from == 0 || frame.process.directory == 0 {
            return Err(DropReason::Sender);
        }
        if self.heard.len() < MEMBERS_MAX || self.heard.contains_key(&frame.from) {
            self.heard.insert(frame.from, source);
        }
        match frame.kind {
            Kind::Peer => {
                let incoming = message_codec::decode_incoming(frame.payload, frame.term)?;
                let origin = Origin { from: frame.from, term: frame.term, process: frame.process };
                self.peer_message(now, origin, incoming);
                Ok(())
            }
            Kind::Forward => self.forwarded_request(now, frame.from, frame.payload),
            Kind::ForwardReply => self.forwarded_reply(now, frame.from, frame.payload),
            Kind::Pull => self.pull_request(now, frame.from, source, frame.payload),
            Kind::Chunk => self.chunk(now, frame.from, frame.payload),
            Kind::Request | Kind::Response => Err(DropReason::Kind),
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        self.step(now, Input::Tick);
        self.forget_old_requests(now);
        self.forget_old_blobs(now);
    }

    /// Before a stop: a leader hands over to the follower that is furthest.
    pub fn leave(&mut self, now: u64) {
        if self.raft.role() == Role::Leader {
            self.step(now, Input::TransferLeader(None));
        }
    }

    /// The clock by which this replica is told the time went by more or less than has passed.
    pub fn clock_jumped(&mut self, now: u64) {
        self.step(now, Input::ClockJumped);
    }

    /// Whether a stop now would leave nobody without a leader: this node does not lead and is not needed to elect another.
    pub fn may_leave(&self) -> bool {
        let alone = self.raft.membership().decides(|id| id == self.config.raft.id);
        let idle = !self.raft.membership().is_voter(self.config.raft.id);
        alone || idle || (self.raft.role() != Role::Leader && self.raft.leader().is_some())
    }

    /// How far the log on disk is.
    pub fn stored(&mut self, now: u64, progress: Progress) {
        if self.out_of_space != progress.out_of_space {
            self.effects.event(Level::Error, || Event::Space { out: progress.out_of_space });
        }
        self.out_of_space = progress.out_of_space;
        self.vote_lsn = self.vote_lsn.max(progress.hard_state);
        self.durable(now, progress.durable);
    }

    /// Every record up to `lsn` is durable: what waited for it may leave.
    pub fn durable(&mut self, now: u64, lsn: Lsn) {
        while let Some((_, bytes)) = self.unsynced.front().filter(|(record, _)| *record <= lsn).copied() {
            self.unsynced_bytes -= bytes;
            self.unsynced.pop_front();
        }
        self.step(now, Input::Durable(lsn));
    }

    /// Proposes, sends and applies what the inputs since the last flush gave reason to. Returns what is to be done.
    pub fn flush(&mut self, now: u64) -> Output {
        self.now = now;
        self.propose_requests(now);
        self.raft.flush(now, &mut self.effects);
        self.release_messages();
        self.apply();
        self.continue_snapshots(now);
        self.prune_snapshots();
        self.answer_reads();
        self.answer_follower_reads();
        self.ask_for_index(now);
        self.pull_entries(now);
        self.pull_requests(now);
        self.chunks_sent = 0;
        #[cfg(feature = "planted")]
        self.trace_planted();
        for (lsn, record) in &self.effects.records {
            let bytes = match record {
                Record::Entry(entry) => entry.payload.bytes().len() + 64,
                _ => 64,
            };
            self.unsynced.push_back((*lsn, bytes));
            self.unsynced_bytes += bytes;
        }
        Output {
            trace: std::mem::take(&mut self.effects.trace),
            events: std::mem::take(&mut self.effects.events),
            records: std::mem::take(&mut self.effects.records),
            snapshot_jobs: self.snapshots.take_jobs(),
            datagrams: self.datagrams.iter_mut().flat_map(std::mem::take).collect(),
        }
    }

    fn step(&mut self, now: u64, input: Input) {
        let (led, leader) = (self.raft.role() == Role::Leader, self.raft.leader());
        self.raft.step(now, input, &mut self.effects);
        if led && self.raft.role() != Role::Leader {
            self.leadership_lost();
        }
        if leader.is_some() && self.raft.leader() != leader {
            self.leader_lost();
        }
    }

    /// Sends every message whose record is durable. Of several acknowledgements to one leader the last says it all.
    fn release_messages(&mut self) {
        self.gated.extend(self.effects.messages.drain(..));
        let (durable, term) = (self.raft.durable_lsn(), self.raft.term());
        let mut waiting = VecDeque::new();
        let mut acknowledged: BTreeMap<NodeId, (u64, Index)> = BTreeMap::new();
        for outgoing in std::mem::take(&mut self.gated) {
            let Outgoing { envelope, after } = &outgoing;
            let accepted = match envelope.message {
                Message::AppendReply { round, result: AppendResult::Accepted { match_index } } => {
                    Some((round, match_index))
                }
                _ => None,
            };
            // Votes have room of their own on a full disk: nothing but term and vote stands behind them.
            let vote = matches!(
                envelope.message,
                Message::VoteRequest { .. }
                    | Message::VoteReply { .. }
                    | Message::PreVoteReply { .. }
                    | Message::HelloReply { .. }
                    | Message::AppendReply {
                        result: AppendResult::Rejected { .. } | AppendResult::Fetching,
                        ..
                    }
            );
            let durable = if vote { durable.max(self.vote_lsn) } else { durable };
            let early = *after > durable && accepted.is_some() && planted!(R21);
            if *after > durable && !early {
                if waiting.len() < self.config.gated_messages_max {
                    waiting.push_back(outgoing);
                }
                continue;
            }
            #[cfg(feature = "planted")]
            if early {
                crate::planted::infected();
            }
            let to = envelope.to;
            match (&envelope.message, accepted) {
                // A promise of a term that has passed is of no use to anybody.
                (Message::VoteReply { .. } | Message::AppendReply { .. }, _) if envelope.term != term => {}
                (_, Some((round, match_index))) => {
                    let latest = acknowledged.entry(to).or_default();
                    *latest = (latest.0.max(round), latest.1.max(match_index));
                }
                (Message::VoteReply { granted: true }, _) => {
                    self.effects.trace(|| TraceEvent::VoteSent { to, term });
                    self.send_message(outgoing.envelope);
                }
                _ => self.send_message(outgoing.envelope),
            }
        }
        self.gated = waiting;
        for (to, (round, match_index)) in acknowledged {
            self.effects.trace(|| TraceEvent::AppendAckSent { to, term, match_index });
            let result = AppendResult::Accepted { match_index };
            let message = Message::AppendReply { round, result };
            self.send_message(Envelope { from: self.config.raft.id, to, term, message });
        }
    }

    fn send_message(&mut self, envelope: Envelope) {
        let payload = message_codec::encode(&envelope.message);
        let priority = match &envelope.message {
            Message::Append { entries, .. } if !entries.is_empty() => Priority::Append,
            Message::AppendReply { .. } => Priority::Acknowledgement,
            _ => Priority::Heartbeat,
        };
        self.send_first(priority, Kind::Peer, Destination::Node(envelope.to), envelope.term, &payload);
    }

    fn send_frame(&mut self, kind: Kind, destination: Destination, term: u64, payload: &[u8]) {
        let priority = match kind {
            Kind::Chunk => Priority::Chunk,
            Kind::Pull => Priority::Acknowledgement,
            _ => Priority::Append,
        };
        self.send_first(priority, kind, destination, term, payload);
    }

    fn send_first(
        &mut self,
        priority: Priority,
        kind: Kind,
        destination: Destination,
        term: u64,
        payload: &[u8],
    ) {
        self.message_id += 1;
        let frame = Frame {
            kind,
            cluster_id: self.config.cluster_id,
            from: self.config.raft.id,
            to: match destination {
                Destination::Node(id) => id,
                Destination::Client(_) => 0,
            },
            process: self.config.process,
            term,
            message_id: self.message_id,
            payload,
        };
        self.datagrams[priority as usize].push((destination, frame.seal(self.config.key.as_ref())));
    }

    /// Applies what is committed, in order, and answers who waits for it (§5.3).
    fn apply(&mut self) {
        let first_index = self.store.last_applied() + 1;
        let last_index =
            self.raft.commit_index().min(self.store.last_applied() + self.config.apply_per_turn_max);
        if first_index > last_index {
            return;
        }
        for index in first_index..=last_index {
            let Some(entry) = self.raft.log().entry(index).cloned() else {
                unreachable!(
                    "entry {index} is committed, so it is in the log up to {}",
                    self.raft.log().last()
                );
            };
            self.applied_chain = chain_after(self.applied_chain, &entry);
            let command = match &entry.payload {
                Payload::Noop | Payload::Membership(_) => None,
                // Proposers decode before they propose. Bytes that no command has are a no-op, on every node alike.
                Payload::Command(bytes) => Command::decode(bytes).ok(),
            };
            let applied = self.store.apply(index, command.as_ref());
            self.effects.event(Level::Info, || Event::Applied {
                index,
                command: command.as_ref().map_or("no-op".to_owned(), Command::to_string),
            });
            self.count_for_snapshot(&entry);
            if index % STATE_HASH_INTERVAL == 0 {
                let hash = self.store.state_hash();
                self.effects.trace(|| TraceEvent::State { index, hash });
            }
            if let (Some(command), Some(applied)) = (command, applied) {
                self.answer_applied(&command, applied);
            }
        }
        let chain = self.applied_chain;
        self.effects.trace(|| TraceEvent::Apply { first_index, last_index, chain });
    }

    /// What it holds for others.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            requests: self.requests.len() + self.follower_reads.len(),
            uncommitted_bytes: self.raft.uncommitted_bytes(),
            unsynced_bytes: self.unsynced_bytes,
            gated_messages: self.gated.len(),
            held_appends: self.entry_pulls.held(),
            entry_pull_bytes: self.entry_pulls.bytes(),
            request_pull_bytes: self.blobs.request_bytes(),
            response_bytes: self.blobs.response_bytes(),
        }
    }

    /// What this node says of itself.
    pub fn status(&self, now: u64) -> Status {
        let raft = &self.raft;
        let peer = |(id, progress): (&NodeId, &crate::raft::progress::Progress)| PeerStatus {
            id: *id,
            match_index: progress.match_index,
            next_index: progress.next_index,
            state: progress.state.name().to_owned(),
            heard_ms_ago: (progress.process.incarnation > 0)
                .then(|| now.saturating_sub(progress.heard_at) / 1_000_000),
        };
        let membership = raft.membership();
        let member = |(id, member): (&NodeId, &Member)| MemberStatus {
            id: *id,
            role: match () {
                () if membership.voters.contains(id) => "voter",
                () if membership.is_voter(*id) => "outgoing",
                () if membership.returning.contains(id) => "returning",
                () => "learner",
            }
            .to_owned(),
            address: member.address.clone(),
            directory: format!("{:016x}", member.directory),
        };
        Status {
            id: raft.id(),
            role: raft.role().name().to_owned(),
            term: raft.term(),
            leader: raft.leader(),
            commit_index: raft.commit_index(),
            last_applied: self.store.last_applied(),
            first_index: raft.log().first_index(),
            last_index: raft.log().last().index,
            durable_index: raft.log().durable_index(),
            incarnation: self.config.process.incarnation,
            keys: self.store.len() as u64,
            snapshot_index: raft.snapshot().map_or(0, |offer| offer.last.index),
            log_bytes: raft.log().bytes() as u64,
            members: membership.members.iter().map(member).collect(),
            membership_index: raft.membership_index(),
            joint: membership.is_joint(),
            may_vote: raft.may_vote(),
            lease_reads: raft.lease_reads(),
            build_id: crate::BUILD_ID.to_owned(),
            dropped: self.dropped.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            peers: raft.progress().iter().map(peer).collect(),
        }
    }

    #[cfg(feature = "planted")]
    fn trace_planted(&mut self) {
        if let Some(event) = crate::planted::counters()
            && self.requests.planted_traced.as_ref() != Some(&event)
        {
            self.requests.planted_traced = Some(event.clone());
            self.effects.trace(|| event);
        }
    }
}
