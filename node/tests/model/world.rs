//! One state of the cluster and every state that may follow it: three production cores, their disks, and the datagrams between
//! them. What must hold in each of them is in `invariants`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use node::raft::fingerprint::Names;
use node::raft::log::AppendBounds;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Envelope, Message, SnapshotOffer};
use node::raft::reconfigure;
use node::raft::types::{
    Entry, HardState, Index, LogId, Lsn, NodeId, Payload, ProcessId, Record, SnapshotMark, Term,
};
use node::raft::{Effects, Input, Outgoing, Raft, RaftConfig, Recovered, Role};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::defect::Defect;
use crate::{invariants, snapshots};

pub(crate) const NODES: usize = 3;
/// Every way in which the nodes may be called: states that differ in this alone are one.
const NAMES: [[NodeId; NODES]; 6] = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
const HEARTBEAT: u64 = 1;

/// How far the search goes. Within it, every behaviour is met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Nobody stands for a later term.
    pub(crate) terms: Term,
    /// A leader whose log is that long takes no more commands; those of later leaders add a no-op each.
    pub(crate) commands_up_to: Index,
    /// Datagrams that are on their way at once. More may be sent: then some are lost.
    pub(crate) in_flight: usize,
    /// How often a process is killed and started again.
    pub(crate) restarts: u8,
    /// Whether a datagram that arrived may arrive again, any number of times.
    pub(crate) duplicates: bool,
    /// Whether a leader that was answered speaks up again. One that does not steps down at its first deadline, and what it sent
    /// and was lost is not sent again.
    pub(crate) heartbeats: bool,
    /// How disks work.
    pub(crate) disks: Disks,
    /// Linearizable reads.
    pub(crate) reads: u8,
    /// How often a leader is asked to hand over, to whomever.
    pub(crate) transfers: u8,
    /// How often a node makes a snapshot of what it has applied, and compacts its log.
    pub(crate) snapshots: u8,
    /// Who votes at first, and then, if a leader changes that, once. Whoever does not vote at first is a learner.
    pub(crate) change: Option<Change>,
}

/// A change of the voters of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) from: &'static [NodeId],
    pub(crate) to: &'static [NodeId],
}

impl Bounds {
    /// Whether nodes may be called like this: a change tells those apart that it is about.
    fn may_be_called(&self, names: &[NodeId; NODES]) -> bool {
        let same = |ids: &[NodeId]| ids.iter().all(|id| ids.contains(&names[*id as usize - 1]));
        self.change.is_none_or(|change| same(change.from) && same(change.to))
    }

    /// Who belongs to the cluster at first. Directories are the same everywhere, because they have no part in this, and different
    /// from 0, so that everybody may vote.
    fn founders(&self) -> Membership {
        let mut membership = Membership::of_voters((1..=NODES as NodeId).map(|id| (id, String::new())));
        membership.members.values_mut().for_each(|member| member.directory = 1);
        if let Some(change) = self.change {
            membership.voters = change.from.iter().copied().collect();
        }
        membership
    }
}

/// How the disks of a search complete what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disks {
    /// At once: for searches that are about other things.
    AtOnce,
    /// At any later time, any number of records; a power loss leaves any prefix of them.
    Late,
}

/// A process and its disk.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) raft: Raft,
    /// Moves from one of its own deadlines to the next. Nodes do not share it: what one thinks of the time says nothing about
    /// another.
    now: u64,
    /// How long it leads without an answer.
    patience: u64,
    /// What survives whatever happens.
    pub(crate) disk: Recovered,
    /// What may survive, from the first on.
    pub(crate) pending: Vec<(Lsn, Record)>,
    gated: Vec<Outgoing>,
    incarnation: u64,
    /// The snapshot that it fetches.
    pub(crate) fetches: Option<SnapshotOffer>,
    /// How much was committed anywhere when the read that is under way arrived.
    pub(crate) read_at: Option<Index>,
    /// Commit index as the state machine sees it. It is the core's, unless a defect is planted.
    pub(crate) commit_index: Index,
    fingerprints: [u64; NAMES.len()],
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Datagram {
    envelope: Envelope,
    process: ProcessId,
    fingerprints: [u64; NAMES.len()],
}

/// An entry that was committed, and the term of the leader that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Committed {
    pub(crate) chain: u64,
    pub(crate) term: Term,
    pub(crate) by: Term,
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) nodes: [Arc<Node>; NODES],
    /// A set: a datagram that is on its way twice is one that may arrive again.
    network: Vec<Arc<Datagram>>,
    restarts: u8,
    reads: u8,
    transfers: u8,
    snapshots: u8,
    changed: bool,
    /// The snapshots that were made, in whatever order: what is in one depends on nothing but its last entry.
    pub(crate) files: Vec<SnapshotMark>,
    /// The last membership that was committed.
    pub(crate) membership: Arc<Membership>,
    /// Who led which term, from 1 on; 0 for nobody yet. Here, and in the next one, the past is kept that the properties are about.
    pub(crate) leaders: Vec<NodeId>,
    pub(crate) committed: Vec<Committed>,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A node's deadline passes: a heartbeat, or a step towards an election.
    Timeout(usize),
    /// A datagram arrives, and may arrive again or not.
    Deliver { at: usize, again: bool },
    /// A disk completes its oldest records.
    Sync { node: usize, records: usize },
    /// SIGKILL and power loss in one: of the unsynced records, so many survive. Then the process starts again.
    Restart { node: usize, survive: usize },
    /// A command arrives at a leader.
    Propose(usize),
    /// A linearizable read arrives at a leader.
    Read(usize),
    /// A leader begins to change the voters.
    Change(usize),
    /// A leader is asked to hand over to another node.
    Transfer { node: usize, to: NodeId },
    /// A snapshot of what a node had applied up to an entry is durable: now, or since long, if it has applied more meanwhile.
    Snapshot { node: usize, last: LogId },
    /// The snapshot that a node fetches is there, and durable.
    Fetched(usize),
}

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

fn config(id: NodeId, patience: u64) -> RaftConfig {
    RaftConfig {
        id,
        process: ProcessId { directory: 1, incarnation: 1 },
        // A leader that was heard does not keep anybody from voting: that is for availability, and fewer behaviours.
        election_timeout_min: 0,
        lease: 0,
        // A leader that no majority answered for so long steps down.
        election_timeout_max: patience,
        heartbeat_interval: HEARTBEAT,
        append: AppendBounds {
            // One entry a datagram, so that logs come to match entry by entry.
            message_bytes: 1,
            entry_overhead: 10,
            inline_bytes: 1_000,
            inflight_messages: 2,
            inflight_bytes: 1_000,
        },
        trailing_entries: 0,
    }
}

fn start(id: NodeId, now: u64, patience: u64, disk: Recovered) -> Raft {
    Raft::new(config(id, patience), ChaCha8Rng::seed_from_u64(0), now, disk)
}

impl Node {
    fn new(id: NodeId, patience: u64, founders: &Membership) -> Node {
        let mark = SnapshotMark { membership: founders.encode().into(), ..SnapshotMark::default() };
        let disk = Recovered { mark, ..Recovered::default() };
        let mut node = Node {
            raft: start(id, 0, patience, disk.clone()),
            now: 0,
            patience,
            disk,
            pending: Vec::new(),
            gated: Vec::new(),
            incarnation: 1,
            fetches: None,
            read_at: None,
            commit_index: 0,
            fingerprints: [0; NAMES.len()],
        };
        node.fingerprint();
        node
    }

    fn process(&self) -> ProcessId {
        ProcessId { directory: 1, incarnation: self.incarnation }
    }

    fn fingerprint(&mut self) {
        let durable = self.raft.durable_lsn();
        self.fingerprints = NAMES.map(|names| {
            let names = Names(&names);
            let mut hasher = DefaultHasher::new();
            let hard_state = |state: &HardState| (state.term, state.voted_for.map(|id| names.of(id)));
            self.raft.fingerprint(self.now, names, &mut hasher);
            hard_state(&self.disk.hard_state).hash(&mut hasher);
            (&self.disk.entries, self.incarnation, self.read_at, self.commit_index).hash(&mut hasher);
            (self.disk.mark.last, self.disk.mark.base, self.disk.mark.base_chain, self.fetches)
                .hash(&mut hasher);
            for (_, record) in &self.pending {
                match record {
                    Record::HardState(state) => hard_state(state).hash(&mut hasher),
                    // The membership in it follows from its last entry, and has the names of nodes in it.
                    Record::Snapshot(mark) => (mark.last, mark.base, mark.base_chain).hash(&mut hasher),
                    other => other.hash(&mut hasher),
                }
            }
            let gated = self.gated.iter().map(|Outgoing { envelope, after }| {
                let mut hasher = DefaultHasher::new();
                (names.of(envelope.to), envelope.term, &envelope.message, after - durable).hash(&mut hasher);
                hasher.finish()
            });
            gated.fold(0, u64::wrapping_add).hash(&mut hasher);
            hasher.finish()
        });
    }

    /// The disk completes its `records` oldest records.
    fn complete(&mut self, records: usize) -> Result<Lsn, Violation> {
        let mut last = self.raft.durable_lsn();
        for (lsn, record) in self.pending.drain(..records) {
            match record {
                Record::HardState(state) => {
                    invariants::vote_is_fixed(self.disk.hard_state, state)?;
                    self.disk.hard_state = state;
                }
                Record::Truncate { last_index } => {
                    self.disk.entries.truncate((last_index - self.disk.mark.base.index) as usize);
                }
                Record::Entry(entry) => self.disk.entries.push(entry),
                Record::Snapshot(mark) => snapshots::replay(&mut self.disk, mark),
                Record::Boot { .. } | Record::Recovering(_) => {}
            }
            (self.disk.last_lsn, last) = (lsn, lsn);
        }
        Ok(last)
    }

    /// A core that continues from here, but with another vote or log: what a defect of the core would leave behind.
    pub(crate) fn replace_core(&mut self, hard_state: HardState, entries: Vec<Entry>) {
        let disk = Recovered { hard_state, entries, last_lsn: self.raft.last_lsn(), ..self.disk.clone() };
        self.raft = start(self.raft.id(), self.now, self.patience, disk);
    }

    /// The same with nothing but what a snapshot stands for.
    pub(crate) fn go_on_from(&mut self, mark: &SnapshotMark) {
        self.disk = Recovered {
            hard_state: self.raft.hard_state(),
            mark: mark.clone(),
            snapshot: Some(snapshots::offer(mark.last, mark.chain)),
            last_lsn: self.raft.last_lsn(),
            ..Recovered::default()
        };
        self.pending.clear();
        self.raft = start(self.raft.id(), self.now, self.patience, self.disk.clone());
        self.commit_index = mark.last.index;
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        let log = self.raft.log();
        (log.first_index()..=log.last().index).filter_map(|index| log.entry(index).cloned()).collect()
    }
}

fn is_promise(message: &Message) -> bool {
    matches!(message, Message::VoteReply { .. } | Message::AppendReply { .. })
}

impl World {
    pub(crate) fn new(bounds: &Bounds) -> World {
        let founders = bounds.founders();
        let patience = if bounds.heartbeats { 2 * HEARTBEAT } else { HEARTBEAT };
        World {
            nodes: [1, 2, 3].map(|id| Arc::new(Node::new(id, patience, &founders))),
            network: Vec::new(),
            restarts: bounds.restarts,
            reads: bounds.reads,
            transfers: bounds.transfers,
            snapshots: bounds.snapshots,
            changed: false,
            files: Vec::new(),
            membership: Arc::new(founders),
            leaders: vec![0; bounds.terms as usize],
            committed: Vec::new(),
        }
    }

    /// The same number for states that differ in nothing but who is called what.
    pub(crate) fn fingerprint(&self, bounds: &Bounds) -> u64 {
        let of = |(at, names): (usize, [NodeId; NODES])| {
            let mut hasher = DefaultHasher::new();
            for id in names {
                self.nodes[id as usize - 1].fingerprints[at].hash(&mut hasher);
            }
            let network = self.network.iter().map(|datagram| datagram.fingerprints[at]);
            network.fold(0, u64::wrapping_add).hash(&mut hasher);
            self.leaders.iter().for_each(|id| Names(&names).of(*id).hash(&mut hasher));
            (self.restarts, self.reads, self.transfers, self.snapshots, self.changed).hash(&mut hasher);
            self.committed.hash(&mut hasher);
            hasher.finish()
        };
        let names = NAMES.into_iter().enumerate().filter(|(_, names)| bounds.may_be_called(names));
        names.map(of).min().unwrap_or_default()
    }

    pub(crate) fn actions(&self, bounds: &Bounds) -> Vec<Action> {
        let mut actions = Vec::new();
        // An order to stand makes a candidate as a timeout does.
        let in_time = |datagram: &Datagram| {
            let to = &self.nodes[datagram.envelope.to as usize - 1].raft;
            datagram.envelope.message != Message::TimeoutNow || to.term() < bounds.terms
        };
        for at in (0..self.network.len()).filter(|at| in_time(&self.network[*at])) {
            actions.extend(bounds.duplicates.then_some(Action::Deliver { at, again: true }));
            actions.push(Action::Deliver { at, again: false });
        }
        for (node, state) in self.nodes.iter().enumerate() {
            let (raft, pending) = (&state.raft, state.pending.len());
            let leads = raft.role() == Role::Leader;
            if leads || raft.term() < bounds.terms {
                actions.push(Action::Timeout(node));
            }
            actions.extend((1..=pending).map(|records| Action::Sync { node, records }));
            if leads && raft.log().last().index < bounds.commands_up_to {
                actions.push(Action::Propose(node));
            }
            if leads && self.reads > 0 && state.read_at.is_none() {
                actions.push(Action::Read(node));
            }
            if self.change_of(node, bounds).is_some() {
                actions.push(Action::Change(node));
            }
            if leads && self.transfers > 0 {
                let others = (1..=NODES as NodeId).filter(|id| *id != raft.id());
                actions.extend(others.map(|to| Action::Transfer { node, to }));
            }
            if self.snapshots > 0 {
                actions.extend(snapshots::of(state).map(|last| Action::Snapshot { node, last }));
            }
            actions.extend(state.fetches.map(|_| Action::Fetched(node)));
            if self.restarts > 0 {
                actions.extend((0..=pending).map(|survive| Action::Restart { node, survive }));
            }
        }
        actions
    }

    /// What follows from `action`, one state for every set of the datagrams that it sends and that are not lost. Loss where
    /// they are sent is loss anywhere: one that is on its way for ever has no effect either.
    pub(crate) fn after(
        &self,
        action: &Action,
        bounds: &Bounds,
        defect: Option<Defect>,
    ) -> Result<Vec<World>, Violation> {
        let mut next = self.clone();
        let (id, mut sent) = match action {
            Action::Timeout(node) => {
                let now = next.nodes[*node].now.max(next.nodes[*node].raft.next_deadline());
                Arc::make_mut(&mut next.nodes[*node]).now = now;
                let mut sent = next.input(*node, Input::Tick, defect)?;
                for peer in (1..NODES).map(|distance| (node + distance) % NODES) {
                    if next.nodes[*node].raft.role() == Role::PreCandidate {
                        sent = next.input(*node, next.pre_vote_for(*node, peer), defect)?;
                    }
                }
                (*node, sent)
            }
            Action::Deliver { at, again } => {
                let datagram = Arc::clone(&next.network[*at]);
                if !again {
                    next.network.remove(*at);
                }
                let mut envelope = datagram.envelope.clone();
                let node = envelope.to as usize - 1;
                if let Some(defect) = defect {
                    defect.before_delivery(Arc::make_mut(&mut next.nodes[node]), &mut envelope);
                }
                let message = envelope.message.clone();
                let sent = next.input(node, Input::Message(envelope, datagram.process), defect)?;
                if let Some(defect) = defect {
                    defect.after_delivery(Arc::make_mut(&mut next.nodes[node]), &message);
                }
                (node, sent)
            }
            Action::Sync { node, records } => {
                let lsn = Arc::make_mut(&mut next.nodes[*node]).complete(*records)?;
                (*node, next.input(*node, Input::Durable(lsn), defect)?)
            }
            Action::Propose(node) => {
                let command = Payload::Command([].into());
                (*node, next.input(*node, Input::Propose(vec![command]), defect)?)
            }
            Action::Read(node) => {
                next.reads -= 1;
                let committed = Some(next.committed.len() as Index);
                if defect == Some(Defect::UnconfirmedRead) {
                    invariants::read_is_current(committed, next.nodes[*node].commit_index)?;
                }
                Arc::make_mut(&mut next.nodes[*node]).read_at = committed;
                (*node, next.input(*node, Input::ReadIndex(0), defect)?)
            }
            Action::Change(node) => {
                next.changed = true;
                let mut membership = self.change_of(*node, bounds).unwrap_or_default();
                if defect == Some(Defect::OneStep) {
                    membership.outgoing.clear();
                }
                (*node, next.input(*node, Input::Reconfigure(membership), defect)?)
            }
            Action::Transfer { node, to } => {
                next.transfers -= 1;
                (*node, next.input(*node, Input::TransferLeader(Some(*to)), defect)?)
            }
            Action::Snapshot { node, last } => {
                next.snapshots -= 1;
                let offer = snapshots::offer(*last, self.nodes[*node].raft.log().chain_at(last.index));
                let sent = next.input(*node, Input::SnapshotSaved(offer), defect)?;
                next.files.extend(snapshots::made(&next.nodes[*node], *last));
                (*node, sent)
            }
            Action::Fetched(node) => {
                let state = Arc::make_mut(&mut next.nodes[*node]);
                let (offer, mark) = snapshots::fetched(state.fetches.take(), &self.files)?;
                if let Some(defect) = defect {
                    defect.before_install(state, &mark);
                }
                (*node, next.input(*node, Input::SnapshotFetched(offer, mark), defect)?)
            }
            Action::Restart { node, survive } => {
                next.restarts -= 1;
                let state = Arc::make_mut(&mut next.nodes[*node]);
                state.complete(*survive)?;
                state.pending.clear();
                state.gated.clear();
                (state.fetches, state.read_at) = (None, None);
                if let Some(defect) = defect {
                    defect.at_recovery(&mut state.disk);
                }
                state.raft = start(state.raft.id(), state.now, state.patience, state.disk.clone());
                state.commit_index = state.raft.commit_index();
                state.incarnation += 1;
                (*node, Vec::new())
            }
        };
        while bounds.disks == Disks::AtOnce && !next.nodes[id].pending.is_empty() {
            let node = Arc::make_mut(&mut next.nodes[id]);
            let lsn = node.complete(node.pending.len())?;
            sent.extend(next.input(id, Input::Durable(lsn), defect)?);
        }
        Arc::make_mut(&mut next.nodes[id]).fingerprint();
        invariants::check(self, &mut next, id, matches!(action, Action::Restart { .. }))?;
        Ok(next.with_each_loss_of(id, sent, bounds))
    }

    /// Pre-votes keep elections from happening, and promise nothing: here every one is granted, at once, so that nobody is kept
    /// from standing whenever it likes.
    fn pre_vote_for(&self, at: usize, peer: usize) -> Input {
        let (raft, peer) = (&self.nodes[at].raft, &self.nodes[peer]);
        let message = Message::PreVoteReply { candidate_term: raft.term() + 1, granted: true };
        let envelope = Envelope { from: peer.raft.id(), to: raft.id(), term: raft.term(), message };
        Input::Message(envelope, peer.process())
    }

    /// The joint membership that node `at` may append now, if it may: what the core allows of one node holds for all of them, for what
    /// is safe about a joint change does not depend on how many it moves (§6).
    fn change_of(&self, at: usize, bounds: &Bounds) -> Option<Membership> {
        let Change { from, to } = bounds.change.filter(|_| !self.changed)?;
        let raft = &self.nodes[at].raft;
        let joins = to.iter().filter(|id| !from.contains(id)).map(|id| reconfigure::Change::Promote(*id));
        let leaves = from.iter().filter(|id| !to.contains(id)).map(|id| reconfigure::Change::Remove(*id));
        let allowed = joins.chain(leaves).map(|change| raft.change(&change)).collect::<Result<Vec<_>, _>>();
        let mut membership = allowed.ok()?.pop()?;
        membership.voters = to.iter().copied().collect();
        membership.outgoing = from.iter().copied().collect();
        Some(membership)
    }

    fn with_each_loss_of(self, from: usize, sent: Vec<Envelope>, bounds: &Bounds) -> Vec<World> {
        let known = |e: &Envelope, p| self.network.iter().any(|d| d.envelope == *e && d.process == p);
        let process = self.nodes[from].process();
        let mut new: Vec<Arc<Datagram>> = Vec::new();
        for envelope in sent {
            if !known(&envelope, process) && !new.iter().any(|d| d.envelope == envelope) {
                new.push(Arc::new(Datagram::new(envelope, process)));
            }
        }
        let room = bounds.in_flight.saturating_sub(self.network.len()) as u32;
        let survivors = (0..1_u32 << new.len()).filter(|set| set.count_ones() <= room);
        let world = |set: u32| {
            let mut world = self.clone();
            world
                .network
                .extend((0..new.len()).filter(|at| set >> at & 1 == 1).map(|at| Arc::clone(&new[at])));
            world
        };
        survivors.map(world).collect()
    }

    /// The core takes one input, as the replica would give it; returns what leaves.
    fn input(&mut self, at: usize, input: Input, defect: Option<Defect>) -> Result<Vec<Envelope>, Violation> {
        let node = Arc::make_mut(&mut self.nodes[at]);
        let (now, mut effects) = (node.now, Effects::default());
        let step = || {
            node.raft.step(now, input, &mut effects);
            node.raft.flush(now, &mut effects);
        };
        catch_unwind(AssertUnwindSafe(step)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
            Violation(format!("n{} aborts: {text}", at + 1))
        })?;
        node.pending.extend(effects.records);
        node.fetches = effects.fetch.map(|(_, offer)| offer).or(node.fetches);
        for outgoing in effects.messages {
            if !node.gated.contains(&outgoing) {
                node.gated.push(outgoing);
            }
        }
        for read in &effects.reads {
            invariants::read_is_current(node.read_at, read.index)?;
        }
        if !effects.reads.is_empty() || !effects.failed_reads.is_empty() {
            node.read_at = None;
        }
        let (durable, term) = (node.raft.durable_lsn(), node.raft.term());
        let (mut ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut node.gated)
            .into_iter()
            .partition(|m| m.after <= durable || defect.is_some_and(|d| d.leaves_early(&m.envelope.message)));
        node.gated = waiting;
        // As the replica does: a promise of a term that has passed is of no use to anybody.
        ready.retain(|m| m.envelope.term == term || !is_promise(&m.envelope.message));
        node.commit_index = node.commit_index.max(node.raft.commit_index());
        if let Some(defect) = defect {
            defect.after_input(node);
        }
        for Outgoing { envelope, .. } in &ready {
            invariants::what_is_promised_is_durable(node, envelope)?;
        }
        Ok(ready.into_iter().map(|m| m.envelope).collect())
    }

    /// One line about every node.
    pub(crate) fn describe(&self) -> String {
        let node = |n: &Arc<Node>| {
            let terms: Vec<Term> = n.entries().iter().map(|entry| entry.id.term).collect();
            let vote = n.raft.hard_state().voted_for.map_or(String::new(), |id| format!(", voted for n{id}"));
            format!(
                "n{} {} in term {}{vote}, committed {}, log {terms:?} after {}, {} of {} records unsynced",
                n.raft.id(),
                n.raft.role().name(),
                n.raft.term(),
                n.commit_index,
                n.raft.log().base(),
                n.pending.len(),
                n.raft.last_lsn(),
            )
        };
        self.nodes.iter().map(node).collect::<Vec<_>>().join("\n    ")
    }

    /// What an action is, for a person.
    pub(crate) fn tell(&self, action: &Action) -> String {
        match action {
            Action::Deliver { at, again } => {
                let Envelope { from, to, term, message } = &self.network[*at].envelope;
                let stays = if *again { ", and it may arrive again" } else { "" };
                format!("n{to} gets from n{from}, term {term}: {message:?}{stays}")
            }
            Action::Timeout(node) => format!("n{}: timeout", node + 1),
            Action::Sync { node, records } => format!("n{}: {records} records are durable", node + 1),
            Action::Restart { node, survive } => {
                format!("n{}: killed and started, {survive} unsynced records survive", node + 1)
            }
            Action::Propose(node) => format!("n{}: a command", node + 1),
            Action::Read(node) => format!("n{}: a read", node + 1),
            Action::Snapshot { node, last } => format!("n{}: its snapshot of {last} is durable", node + 1),
            Action::Fetched(node) => format!("n{}: what it fetches is there", node + 1),
            Action::Transfer { node, to } => format!("n{} is asked to hand over to n{to}", node + 1),
            Action::Change(node) => format!("n{}: a change of voters", node + 1),
        }
    }
}

impl Datagram {
    fn new(envelope: Envelope, process: ProcessId) -> Datagram {
        let fingerprints = NAMES.map(|names| {
            let (from, to) = (Names(&names).of(envelope.from), Names(&names).of(envelope.to));
            let mut hasher = DefaultHasher::new();
            (from, to, envelope.term, &envelope.message, process).hash(&mut hasher);
            hasher.finish()
        });
        Datagram { envelope, process, fingerprints }
    }
}

/// The match that an append reply claims, if it is one.
pub(crate) fn acknowledged(message: &Message) -> Option<Index> {
    match message {
        Message::AppendReply { result: AppendResult::Accepted { match_index }, .. } => Some(*match_index),
        _ => None,
    }
}
