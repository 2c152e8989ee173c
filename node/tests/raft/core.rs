//! One Raft core on a bench: hand-made messages in, effects out. What must come out is asserted by the tests.

use node::raft::event::Level;
use node::raft::log::AppendBounds;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Envelope, Message};
use node::raft::types::{
    Entry, HardState, Index, LogId, Lsn, NodeId, Payload, ProcessId, Record, SnapshotMark, Term,
};
use node::raft::{Effects, Input, Outgoing, Raft, RaftConfig, Recovered};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A process of the node `id`, in the directory that it has in these tests.
pub(crate) fn process(id: NodeId, incarnation: u64) -> ProcessId {
    ProcessId { directory: 1000 + u64::from(id), incarnation }
}

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const ELECTION_MIN: u64 = 300 * MS;
pub(crate) const ELECTION_MAX: u64 = 600 * MS;
pub(crate) const HEARTBEAT: u64 = 50 * MS;

/// The membership of these tests: each voter bound to its directory, so that all of them may vote.
pub(crate) fn membership(voters: u32) -> Membership {
    let mut membership = Membership::of_voters((1..=voters).map(|id| (id, format!("127.0.0.1:{id}"))));
    for (id, member) in &mut membership.members {
        member.directory = process(*id, 1).directory;
    }
    membership
}

/// What a node of a cluster of `voters` remembers.
pub(crate) fn recovered(voters: u32, hard_state: HardState, entries: Vec<Entry>, last_lsn: Lsn) -> Recovered {
    let mark = SnapshotMark { membership: membership(voters).encode().into(), ..SnapshotMark::default() };
    Recovered { hard_state, mark, snapshot: None, entries, recovering: None, last_lsn }
}

/// One more record on the disk, as `storage::recovery` reads it back.
pub(crate) fn replay(disk: &mut Recovered, lsn: Lsn, record: &Record) {
    let base = disk.mark.base.index;
    disk.last_lsn = lsn;
    match record {
        Record::Boot { .. } | Record::Recovering(_) => {}
        Record::HardState(hard_state) => disk.hard_state = *hard_state,
        Record::Truncate { last_index } => disk.entries.truncate((last_index - base) as usize),
        Record::Entry(entry) => {
            assert_eq!(entry.id.index, base + disk.entries.len() as Index + 1, "a directory that is refused");
            disk.entries.push(entry.clone());
        }
        Record::Snapshot(mark) => {
            let dropped = (mark.base.index - base) as usize;
            let has_base = match dropped.checked_sub(1) {
                None => mark.base == disk.mark.base,
                Some(at) => disk.entries.get(at).is_some_and(|entry| entry.id == mark.base),
            };
            disk.entries.drain(..if has_base { dropped } else { disk.entries.len() });
            disk.mark = mark.clone();
        }
    }
}

pub(crate) fn config(id: NodeId) -> RaftConfig {
    RaftConfig {
        id,
        process: process(id, 1),
        election_timeout_min: ELECTION_MIN,
        lease: 0,
        election_timeout_max: ELECTION_MAX,
        heartbeat_interval: HEARTBEAT,
        append: AppendBounds {
            message_bytes: 64,
            entry_overhead: 10,
            inline_bytes: 54,
            inflight_messages: 4,
            inflight_bytes: 1_000,
        },
        trailing_entries: 0,
    }
}

pub(crate) fn id(index: Index, term: Term) -> LogId {
    LogId { term, index }
}

pub(crate) fn command(text: &str) -> Payload {
    Payload::Command(text.as_bytes().into())
}

/// No-ops of these terms, after position `prev`.
pub(crate) fn entries(prev: Index, terms: &[Term]) -> Vec<Entry> {
    let id = |(term, index): (&Term, Index)| LogId { term: *term, index };
    terms.iter().zip(prev + 1..).map(|at| Entry { id: id(at), payload: Payload::Noop }).collect()
}

/// What left for `to`, with what it waits for.
pub(crate) fn sent(effects: &Effects, to: NodeId) -> Vec<&Outgoing> {
    effects.messages.iter().filter(|m| m.envelope.to == to).collect()
}

/// The one message that left for `to`.
pub(crate) fn only(effects: &Effects, to: NodeId) -> Outgoing {
    let all = sent(effects, to);
    assert_eq!(all.len(), 1, "messages for n{to}: {all:?}");
    all[0].clone()
}

pub(crate) fn accepted(match_index: Index) -> Message {
    Message::AppendReply { round: 0, result: AppendResult::Accepted { match_index } }
}

pub(crate) fn echo(round: u64) -> Message {
    Message::AppendReply { round, result: AppendResult::Accepted { match_index: 0 } }
}

pub(crate) fn rejected(prev_index: Index, hint: LogId) -> Message {
    Message::AppendReply { round: 0, result: AppendResult::Rejected { prev_index, hint } }
}

pub(crate) fn append(prev: LogId, commit_index: Index, terms: &[Term]) -> Message {
    Message::Append { prev, commit_index, round: 0, entries: entries(prev.index, terms) }
}

/// What an append reply says, if the message is one.
pub(crate) fn result(outgoing: &Outgoing) -> AppendResult {
    match outgoing.envelope.message {
        Message::AppendReply { result, .. } => result,
        ref other => panic!("no append reply: {other:?}"),
    }
}

pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) now: u64,
}

impl Core {
    /// Node `id` of `voters`, recovered with `term`, `voted_for` and a log of no-ops of `terms`.
    pub(crate) fn new(
        id: NodeId,
        voters: u32,
        term: Term,
        voted_for: Option<NodeId>,
        terms: &[Term],
    ) -> Core {
        let hard_state = HardState { term, voted_for };
        let lsn = terms.len() as Lsn + 1;
        Core::start(config(id), recovered(voters, hard_state, entries(0, terms), lsn))
    }

    /// A node that remembers this.
    pub(crate) fn start(config: RaftConfig, recovered: Recovered) -> Core {
        let rng = ChaCha8Rng::seed_from_u64(u64::from(config.id));
        Core { raft: Raft::new(config, rng, 0, recovered), now: 0 }
    }

    /// Node 1 of `voters`, elected in the term after `term`, its no-op on its own disk alone.
    pub(crate) fn leader(voters: u32, term: Term, terms: &[Term]) -> Core {
        let mut core = Core::new(1, voters, term, None, terms);
        core.win();
        core.sync();
        core
    }

    /// Stands for election and gets every vote.
    pub(crate) fn win(&mut self) {
        let term = self.raft.term() + 1;
        self.timeout();
        let peers: Vec<NodeId> = self.peers();
        for peer in &peers {
            self.receive(*peer, term - 1, Message::PreVoteReply { candidate_term: term, granted: true });
        }
        self.sync();
        for peer in &peers {
            self.receive(*peer, term, Message::VoteReply { granted: true });
        }
        if self.role() == "candidate" {
            self.sync(); // whose votes were counted is written down before they decide
        }
        assert_eq!(self.role(), "leader");
    }

    fn peers(&self) -> Vec<NodeId> {
        (1..=5).filter(|id| *id != self.raft.id()).collect()
    }

    /// One input, then a flush.
    pub(crate) fn input(&mut self, input: Input) -> Effects {
        let mut effects = Effects { tracing: true, level: Some(Level::Debug), ..Effects::default() };
        self.raft.step(self.now, input, &mut effects);
        self.raft.flush(self.now, &mut effects);
        effects
    }

    /// A message from `from`, in its first incarnation.
    pub(crate) fn receive(&mut self, from: NodeId, term: Term, message: Message) -> Effects {
        self.receive_from(from, process(from, 1), term, message)
    }

    /// A message from this process of `from`.
    pub(crate) fn receive_from(
        &mut self,
        from: NodeId,
        process: ProcessId,
        term: Term,
        message: Message,
    ) -> Effects {
        let to = self.raft.id();
        self.input(Input::Message(Envelope { from, to, term, message }, process))
    }

    /// Time passes until the node's own deadline.
    pub(crate) fn timeout(&mut self) -> Effects {
        self.now = self.now.max(self.raft.next_deadline());
        self.input(Input::Tick)
    }

    /// The disk finishes everything.
    pub(crate) fn sync(&mut self) -> Effects {
        let lsn = self.raft.last_lsn();
        self.input(Input::Durable(lsn))
    }

    /// The terms of the log.
    pub(crate) fn log(&self) -> Vec<Term> {
        (1..=self.raft.log().last().index).map(|i| self.raft.log().term_at(i).unwrap()).collect()
    }

    pub(crate) fn role(&self) -> &'static str {
        self.raft.role().name()
    }
}

/// The hard states among the records.
pub(crate) fn hard_states(effects: &Effects) -> Vec<HardState> {
    let state = |(_, record): &(Lsn, Record)| match record {
        Record::HardState(state) => Some(*state),
        _ => None,
    };
    effects.records.iter().filter_map(state).collect()
}
