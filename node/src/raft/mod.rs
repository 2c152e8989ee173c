//! The algorithm alone: `step(now, input)` and `flush(now)` turn inputs into [`Effects`]. No clock, no files, no sockets, no
//! threads, no global randomness: time and the random stream are arguments, so that a test, a simulator and the real
//! server drive the very same code.
//!
//! # Reading order
//! [`types`], [`message`] and [`membership`] are the nouns; [`log`], [`quorum`], [`progress`] the bookkeeping; `admission`,
//! `election`, `replication`, `read_index`, `lease`, `snapshot`, `reconfigure` and `transfer` the jobs; `fingerprint` is for model
//! checkers. This file holds the state, the contract with the driver, and the few functions through which every change of term, vote, role, log and commit index goes.
//!
//! # The driver's contract
//! 1. Write [`Effects::records`] to the disk in order, and report each completed sync with [`Input::Durable`].
//! 2. Send each of [`Effects::messages`] no earlier than its `after` is durable. This is what makes a promise survive a
//!    crash: a vote or an acknowledgement leaves only when what it promises is on disk (§5.2, Figure 2). One whose term has
//!    passed by then need not leave at all.
//! 3. Apply entries up to [`Raft::commit_index`] in order.
//! 4. Call [`Raft::flush`] after a batch of inputs: sending is batched there.

mod admission;
mod election;
pub mod event;
pub mod fingerprint;
mod lease;
pub mod log;
pub mod membership;
pub mod message;
pub mod progress;
pub mod quorum;
mod read_index;
pub mod reconfigure;
mod recovering;
mod replication;
mod snapshot;
mod transfer;
pub mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::trace::{TraceEvent, TraceRole};
use admission::Admission;
use event::{Event, Level};
use lease::Lease;
use log::{AppendBounds, RaftLog};
use membership::Membership;
use message::{Envelope, Message, SnapshotOffer};
use progress::Progress;
use read_index::ReadQueue;
use recovering::Restriction;
use transfer::Transfer;
use types::{
    Entry, HardState, Index, LogId, Lsn, NodeId, Payload, ProcessId, Record, Recovering, SnapshotMark, Term,
};

/// What a node knows before its first message, and how patient it is. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RaftConfig {
    /// This node.
    pub id: NodeId,
    /// Its data directory, and which start of it this is.
    pub process: ProcessId,
    /// Shortest wait for a leader before an election (§5.2). Also how long a heard leader counts as alive.
    pub election_timeout_min: u64,
    /// Longest such wait; waits are drawn uniformly between the two.
    pub election_timeout_max: u64,
    /// How often a leader speaks when it has nothing to say.
    pub heartbeat_interval: u64,
    /// How long after the beginning of a round that a majority echoed reads need no other; 0 for never. Less than
    /// `election_timeout_min` by what the clocks of two nodes may differ in that time.
    pub lease: u64,
    /// How much is sent at once.
    pub append: AppendBounds,
    /// Entries that a snapshot stands for and that are kept all the same, for followers that are a little behind.
    pub trailing_entries: u64,
}

/// What survived of a node, all of it durable.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the log begins, and the membership there. At index 0: the one that the node was started with.
    pub mark: SnapshotMark,
    /// The snapshot of the mark, unless that is at index 0.
    pub snapshot: Option<SnapshotOffer>,
    /// The log, from the entry after the mark's `base`.
    pub entries: Vec<Entry>,
    /// What it may not do, because something durable was lost.
    pub recovering: Option<Recovering>,
    /// The last record.
    pub last_lsn: Lsn,
}

/// The role of a node, and what it needs only in that role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether an election could succeed (thesis §9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// Its name in traces and in `node status`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre_candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A message arrived, from this process.
    Message(Envelope, ProcessId),
    /// Commands to append. Only a leader may be asked; the driver forwards otherwise.
    Propose(Vec<Payload>),
    /// A linearizable read was asked for. Only a leader may be asked.
    ReadIndex(u64),
    /// Every record up to this one is durable.
    Durable(Lsn),
    /// Hand leadership over to this node, or to the one that is furthest. Only a leader may be asked.
    TransferLeader(Option<NodeId>),
    /// Change who belongs to the cluster, as [`Raft::change`] allowed. Only a leader may be asked.
    Reconfigure(Membership),
    /// The state after the entry `offer.last`, which is applied, is durable in a snapshot file.
    SnapshotSaved(SnapshotOffer),
    /// A snapshot that [`Effects::fetch`] asked for is whole, verified and durable. The mark's base is its last entry.
    SnapshotFetched(SnapshotOffer, SnapshotMark),
    /// The clock went by another time than has passed.
    ClockJumped,
}

/// A message and the record that must be durable before it leaves; 0 if it may leave at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What to send.
    pub envelope: Envelope,
    /// What must be durable before.
    pub after: Lsn,
}

/// A read that may be served once everything up to `index` is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadState {
    /// The id given with [`Input::ReadIndex`].
    pub id: u64,
    /// What must be applied before.
    pub index: Index,
}

/// What a node wants done. The driver empties it.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// To the disk, in this order.
    pub records: Vec<(Lsn, Record)>,
    /// To other nodes.
    pub messages: Vec<Outgoing>,
    /// Reads whose leadership was confirmed.
    pub reads: Vec<ReadState>,
    /// Reads that this node can no longer serve: it stopped leading.
    pub failed_reads: Vec<u64>,
    /// A snapshot that is to be fetched from this node. Replaces an earlier wish.
    pub fetch: Option<(NodeId, SnapshotOffer)>,
    /// The applied state is to be replaced by that of this snapshot, which is durable.
    pub restore: Option<LogId>,
    /// For the trace file, if [`Effects::tracing`].
    pub trace: Vec<TraceEvent>,
    /// For people, those at [`Effects::level`] or more urgent.
    pub events: Vec<Event>,
    /// Whether trace events are wanted.
    pub tracing: bool,
    /// The least urgent event that is wanted; `None` for no events.
    pub level: Option<Level>,
}

impl Effects {
    /// Records a trace event, if wanted.
    pub fn trace(&mut self, event: impl FnOnce() -> TraceEvent) {
        if self.tracing {
            self.trace.push(event());
        }
    }

    /// Records an event for people, if its level is wanted.
    pub fn event(&mut self, level: Level, event: impl FnOnce() -> Event) {
        if self.level.is_some_and(|wanted| level <= wanted) {
            self.events.push(event());
        }
    }

    fn info(&mut self, event: impl FnOnce() -> Event) {
        self.event(Level::Info, event);
    }
}

/// One node's Raft state (Figure 2).
#[derive(Clone, Debug)]
pub struct Raft {
    config: RaftConfig,
    rng: ChaCha8Rng,
    hard_state: HardState,
    /// The record that carries `hard_state`.
    hard_state_lsn: Lsn,
    role: Role,
    leader: Option<NodeId>,
    /// When the leader of the current term was last heard.
    leader_heard_at: Option<u64>,
    log: RaftLog,
    commit_index: Index,
    last_lsn: Lsn,
    durable_lsn: Lsn,
    election_deadline: u64,
    heartbeat_deadline: u64,
    /// Who granted a vote or pre-vote in the current attempt: a set, because datagrams repeat.
    votes: BTreeSet<NodeId>,
    progress: BTreeMap<NodeId, Progress>,
    /// The memberships of the log that may still be fallen back to, by the index of their entry, the last one in force. Never
    /// empty. Truncation takes entries away, and their memberships with them.
    memberships: Vec<(Index, Arc<Membership>)>,
    /// The newest snapshot file of this node.
    snapshot: Option<SnapshotOffer>,
    admission: Admission,
    restriction: Option<Restriction>,
    /// Index of the no-op that this leader appended when it was elected.
    term_start_index: Index,
    reads: ReadQueue,
    lease: Lease,
    /// No vote for anybody before this, unless the leader itself asks for it.
    promised_until: u64,
    /// To whom this leader hands over, and until when it tries.
    transfer: Option<Transfer>,
}

impl Raft {
    /// A follower that goes on from what was recovered.
    pub fn new(config: RaftConfig, rng: ChaCha8Rng, now: u64, recovered: Recovered) -> Raft {
        let Recovered { hard_state, mark, snapshot, entries, recovering, last_lsn } = recovered;
        let mut memberships = vec![(mark.last.index, Arc::new(decoded(&mark.membership)))];
        memberships
            .extend(entries.iter().filter(|entry| entry.id.index > mark.last.index).filter_map(in_entry));
        let log = RaftLog::recovered(mark.base, mark.base_chain, entries, last_lsn);
        let mut raft = Raft {
            config,
            rng,
            hard_state,
            hard_state_lsn: last_lsn,
            role: Role::Follower,
            leader: None,
            leader_heard_at: None,
            log,
            commit_index: mark.last.index,
            last_lsn,
            durable_lsn: last_lsn,
            election_deadline: 0,
            heartbeat_deadline: 0,
            votes: BTreeSet::new(),
            progress: BTreeMap::new(),
            memberships,
            snapshot,
            admission: Admission::Pending(BTreeMap::new()),
            restriction: recovering.map(Restriction::new),
            term_start_index: 0,
            reads: ReadQueue::default(),
            lease: Lease::default(),
            promised_until: 0,
            transfer: None,
        };
        if raft.hard_state.term > 0 {
            raft.promise(now);
        }
        raft.reset_election_deadline(now);
        raft.admit_if_recognised();
        if raft.admission.is_pending() || raft.is_recovering() {
            raft.election_deadline = now + raft.config.heartbeat_interval;
        }
        raft
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.config.id
    }
    /// Current term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }
    /// Term and vote.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }
    /// Current role.
    pub fn role(&self) -> Role {
        self.role
    }
    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }
    /// The log.
    pub fn log(&self) -> &RaftLog {
        &self.log
    }
    /// Who belongs to the cluster, by the latest entry in the log that says it, committed or not (§6).
    pub fn membership(&self) -> &Membership {
        &self.memberships[self.memberships.len() - 1].1
    }
    /// The index of the entry that [`Raft::membership`] is from.
    pub fn membership_index(&self) -> Index {
        self.memberships[self.memberships.len() - 1].0
    }
    /// Who belonged to the cluster at a committed index: part of a snapshot there.
    pub fn membership_at(&self, index: Index) -> &Arc<Membership> {
        let later = self.memberships.partition_point(|(at, _)| *at <= index);
        &self.memberships[later.saturating_sub(1)].1
    }
    /// The newest snapshot file of this node.
    pub fn snapshot(&self) -> Option<SnapshotOffer> {
        self.snapshot
    }
    /// Everything up to here is committed.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }
    /// Bytes in the payloads of the entries that are not committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.log.bytes_after(self.commit_index)
    }
    /// The last record handed out.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }
    /// The last record known to be durable.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }
    /// Followers, as this leader sees them; empty otherwise.
    pub fn progress(&self) -> &BTreeMap<NodeId, Progress> {
        &self.progress
    }
    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> u64 {
        if self.role == Role::Leader { self.heartbeat_deadline } else { self.election_deadline }
    }

    /// Takes one input at time `now` (ns, never falling).
    pub fn step(&mut self, now: u64, input: Input, effects: &mut Effects) {
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Message(envelope, process) => self.receive(now, envelope, process, effects),
            Input::Propose(payloads) => self.propose(payloads, effects),
            Input::ReadIndex(id) => self.read_index(now, id, effects),
            Input::Durable(lsn) => self.durable(now, lsn, effects),
            Input::TransferLeader(to) => self.transfer_leader(now, to, effects),
            Input::Reconfigure(membership) => self.reconfigure(now, &membership, effects),
            Input::SnapshotSaved(offer) => self.snapshot_saved(offer, effects),
            Input::SnapshotFetched(offer, mark) => self.snapshot_fetched(offer, mark, effects),
            Input::ClockJumped => self.clock_jumped(now, effects),
        }
    }

    /// Sends what the inputs since the last flush gave reason to send.
    pub fn flush(&mut self, now: u64, effects: &mut Effects) {
        if self.role == Role::Leader {
            self.replicate(now, effects);
        }
    }

    fn tick(&mut self, now: u64, effects: &mut Effects) {
        if now < self.next_deadline() {
            return;
        }
        if self.role == Role::Leader {
            self.heartbeat(now, effects);
        } else if !self.may_be_needed() {
            // Nobody would be asked to vote for it: it waits for a leader that knows it.
            self.leader = None;
            self.reset_election_deadline(now);
        } else if self.admission.is_pending() {
            self.ask_for_admission(now, effects);
        } else if self.is_recovering() {
            self.leader = None;
            self.election_deadline = now + self.config.heartbeat_interval;
            self.ask_for_recovery(now, effects);
        } else {
            effects.info(|| Event::ElectionTimeout { term: self.hard_state.term });
            self.start_pre_vote(now, effects);
        }
    }

    fn receive(&mut self, now: u64, envelope: Envelope, process: ProcessId, effects: &mut Effects) {
        let Envelope { from, to, term, message } = envelope;
        // From whom a message is does not matter yet: the sender may belong to the cluster by an entry that is not here (§6).
        if to != self.config.id || from == to || from == 0 {
            return;
        }
        if term > self.term() {
            match message {
                // A term that is only talked about is nobody's term yet (thesis §9.6).
                Message::PreVoteRequest { .. } | Message::Hello | Message::HelloReply { .. } => {}
                // A live leader is not deposed by somebody who cannot hear it (thesis §4.2.3).
                Message::VoteRequest { transfer: false, .. } if self.keeps_a_leader(now) => {
                    effects.event(Level::Debug, || Event::VoteDenied { to: from, term });
                    return;
                }
                Message::Append { .. } | Message::Snapshot { .. } => {
                    self.become_follower(now, term, Some(from), effects);
                }
                _ => self.become_follower(now, term, None, effects),
            }
        }
        let current = term == self.term();
        match message {
            Message::PreVoteRequest { candidate_term, last } => {
                self.answer_pre_vote(now, from, candidate_term, last, effects);
            }
            Message::PreVoteReply { candidate_term, granted } => {
                self.count_pre_vote(now, from, process, candidate_term, granted, effects);
            }
            Message::VoteRequest { last, transfer } => {
                self.answer_vote(now, from, term, last, transfer, effects);
            }
            Message::VoteReply { granted } if current => {
                self.count_vote(now, from, process, granted, effects)
            }
            Message::Append { prev, commit_index, round, entries } if current => {
                self.answer_append(now, from, prev, commit_index, round, entries, effects);
            }
            // A deposed leader learns the term that replaced it (§5.1).
            Message::Append { prev, round, .. } => self.reject(from, prev, round, effects),
            Message::Snapshot { offer, round } if current => {
                self.answer_snapshot(now, from, offer, round, effects);
            }
            Message::Snapshot { offer, round } => self.reject(from, offer.last, round, effects),
            Message::Hello => self.answer_hello(now, from, process, effects),
            Message::HelloReply { asked_by, .. } if asked_by != self.config.process => {}
            Message::HelloReply { blank, known, leads, .. } => {
                self.count_hello(now, from, process, blank, known, effects);
                self.learn_for_recovery(from, term, leads, effects);
            }
            Message::AppendReply { round, result } if current && self.role == Role::Leader => {
                self.count_append(now, from, process, round, result, effects);
            }
            Message::TimeoutNow if current => self.stand_now(now, from, effects),
            Message::VoteReply { .. } | Message::AppendReply { .. } | Message::TimeoutNow => {} // of another term: says nothing about this one
        }
    }

    fn durable(&mut self, now: u64, lsn: Lsn, effects: &mut Effects) {
        if lsn <= self.durable_lsn {
            return;
        }
        self.durable_lsn = lsn;
        self.log.durable(lsn);
        effects.trace(|| TraceEvent::Durable { lsn });
        self.end_recovery(effects);
        match self.role {
            Role::Leader => self.advance_commit(now, effects),
            Role::Candidate => self.count_own_vote(now, effects),
            Role::Follower | Role::PreCandidate => {}
        }
    }

    // ---- The only places that change term, vote, role, log and commit index ----

    /// Changes term or vote: in memory now, on disk with the record that carries it.
    fn set_hard_state(&mut self, hard_state: HardState, effects: &mut Effects) {
        assert!(
            hard_state.term > self.hard_state.term
                || (hard_state.term == self.hard_state.term && self.hard_state.voted_for.is_none()),
            "term and vote may not go from {:?} to {hard_state:?}",
            self.hard_state
        );
        self.hard_state = hard_state;
        self.hard_state_lsn = self.record(Record::HardState(hard_state), effects);
        let HardState { term, voted_for } = hard_state;
        let lsn = self.hard_state_lsn;
        effects.trace(|| TraceEvent::HardState { lsn, term, voted_for });
    }

    fn set_role(&mut self, role: Role, effects: &mut Effects) {
        self.role = role;
        let term = self.term();
        effects.trace(|| TraceEvent::Role {
            role: match role {
                Role::Follower => TraceRole::Follower,
                Role::PreCandidate => TraceRole::PreCandidate,
                Role::Candidate => TraceRole::Candidate,
                Role::Leader => TraceRole::Leader,
            },
            term,
        });
    }

    fn append(&mut self, entries: Vec<Entry>, effects: &mut Effects) {
        let Some(first) = entries.first().map(|entry| entry.id.index) else { return };
        for entry in entries {
            let lsn = self.record(Record::Entry(entry.clone()), effects);
            let id = entry.id;
            self.memberships.extend(in_entry(&entry));
            self.log.append(entry, lsn);
            let chain = self.log.chain_at(id.index);
            if effects.tracing {
                match effects.trace.last_mut() {
                    Some(TraceEvent::Append { prev_index, term, chains, .. })
                        if *term == id.term && *prev_index + chains.len() as u64 + 1 == id.index =>
                    {
                        chains.push(chain);
                    }
                    _ => effects.trace.push(TraceEvent::Append {
                        lsn,
                        prev_index: id.index - 1,
                        term: id.term,
                        chains: vec![chain],
                    }),
                }
            }
        }
        effects.info(|| Event::Appended { first, last: self.log.last() });
        if self.membership_index() >= first {
            self.membership_changed(effects);
        }
    }

    fn truncate(&mut self, last_index: Index, effects: &mut Effects) {
        assert!(
            last_index >= self.commit_index,
            "entries after {last_index} may not be discarded: everything up to {} is committed",
            self.commit_index
        );
        let lsn = self.record(Record::Truncate { last_index }, effects);
        self.log.truncate(last_index);
        // The first one is committed, or was given from outside: nothing takes it back.
        let kept = self.memberships.partition_point(|(index, _)| *index <= last_index).max(1);
        if kept < self.memberships.len() {
            self.memberships.truncate(kept);
            self.membership_changed(effects);
        }
        effects.trace(|| TraceEvent::Truncate { lsn, last_index });
        effects.info(|| Event::Truncated { last_index });
    }

    fn set_commit_index(&mut self, commit_index: Index, effects: &mut Effects) {
        assert!(
            commit_index >= self.commit_index && commit_index <= self.log.last().index,
            "commit index may not go from {} to {commit_index}, last entry {}",
            self.commit_index,
            self.log.last()
        );
        self.commit_index = commit_index;
        let (term, chain) = (self.term(), self.log.chain_at(commit_index));
        effects.trace(|| TraceEvent::Commit { term, commit_index, chain });
        effects.info(|| match self.role {
            Role::Leader => Event::Committed { commit_index, term },
            _ => Event::FollowerCommitted { commit_index },
        });
    }

    fn record(&mut self, record: Record, effects: &mut Effects) -> Lsn {
        self.last_lsn += 1;
        effects.records.push((self.last_lsn, record));
        self.last_lsn
    }

    // ---- Small things that all three jobs need ----

    fn send(&self, to: NodeId, message: Message, after: Lsn, effects: &mut Effects) {
        let envelope = Envelope { from: self.config.id, to, term: self.term(), message };
        effects.messages.push(Outgoing { envelope, after });
    }

    /// Those whose votes decide.
    fn other_voters(&self) -> Vec<NodeId> {
        let membership = self.membership();
        membership
            .members
            .keys()
            .copied()
            .filter(|id| *id != self.config.id && membership.is_voter(*id))
            .collect()
    }

    /// Whether those for whom `agrees` holds decide, this node among them or not as it says.
    fn decides(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.membership().decides(agrees)
    }

    fn reset_election_deadline(&mut self, now: u64) {
        let (min, max) = (self.config.election_timeout_min, self.config.election_timeout_max);
        self.election_deadline = now + self.rng.random_range(min..=max);
    }

    /// Whether this node leads, or heard a leader of its term within the shortest election timeout.
    fn leader_is_alive(&self, now: u64) -> bool {
        self.role == Role::Leader
            || self
                .leader_heard_at
                .is_some_and(|heard| now.saturating_sub(heard) < self.config.election_timeout_min)
    }

    /// Whether a vote for another would take leadership from somebody who may count on it.
    fn keeps_a_leader(&self, now: u64) -> bool {
        self.leader_is_alive(now) || now < self.promised_until
    }

    /// §5.4.1: the later term wins, then the longer log. `LogId` orders exactly so.
    fn is_up_to_date(&self, last: LogId) -> bool {
        last >= self.last_promised()
    }
}

/// A membership whose bytes were checked when they came in.
fn decoded(bytes: &[u8]) -> Membership {
    Membership::decode(bytes).unwrap_or_default()
}

/// The membership that an entry brings, with its index.
fn in_entry(entry: &Entry) -> Option<(Index, Arc<Membership>)> {
    match &entry.payload {
        Payload::Membership(bytes) => Some((entry.id.index, Arc::new(decoded(bytes)))),
        Payload::Noop | Payload::Command(_) => None,
    }
}
