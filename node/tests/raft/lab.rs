//! A cluster of production cores under a script: every message, sync and timeout happens when a line says so.
//! The safety properties of the paper are asserted after each line; what the lines mean is in `scripts/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use node::raft::event::Level;
use node::raft::log::AppendBounds;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Envelope, Message, SnapshotOffer};
use node::raft::reconfigure::Change;
use node::raft::types::{
    HardState, Incarnation, Index, LogId, Lsn, NodeId, ProcessId, Record, SnapshotMark, Term,
};
use node::raft::{Effects, Input, Outgoing, Raft, RaftConfig, Role};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::core::{MS, command, config, entries, process, recovered, replay};

#[derive(Default)]
struct Member {
    raft: Option<Raft>,
    /// How often its directory was lost.
    wiped: u64,
    /// It was not there when the cluster began, and knows of no members.
    joined: bool,
    snapshot: Option<SnapshotOffer>,
    fetching: Option<(NodeId, SnapshotOffer)>,
    durable: Vec<(Lsn, Record)>,
    pending: Vec<(Lsn, Record)>,
    gated: Vec<Outgoing>,
    incarnation: Incarnation,
    slow: bool,
}

#[derive(Default)]
pub(crate) struct Lab {
    now: u64,
    members: BTreeMap<NodeId, Member>,
    network: Vec<(Envelope, ProcessId)>,
    output: String,
    leaders: BTreeMap<Term, (NodeId, Vec<u64>)>,
    committed: BTreeMap<Index, u64>,
}

fn describe(message: &Message) -> String {
    match message {
        Message::PreVoteRequest { candidate_term, last } => {
            format!("would you vote for me in term {candidate_term}? my last entry is {last}")
        }
        Message::PreVoteReply { candidate_term, granted } => {
            format!("{} in term {candidate_term}", if *granted { "I would" } else { "I would not" })
        }
        Message::VoteRequest { last, transfer } => {
            let why = if *transfer { ", the leader asked me to" } else { "" };
            format!("vote for me, my last entry is {last}{why}")
        }
        Message::Hello => "have you met me?".to_owned(),
        Message::HelloReply { blank, known, .. } => {
            let state = if *blank { "I am empty too" } else { "I am not empty" };
            format!("{state}, I know you by directory {known}")
        }
        Message::Snapshot { offer, .. } => format!("fetch snapshot at {}", offer.last),
        Message::TimeoutNow => "stand for election now".to_owned(),
        Message::VoteReply { granted } => (if *granted { "my vote" } else { "no vote" }).to_owned(),
        Message::Append { prev, commit_index, round, entries } => {
            let mut text = format!("append after {prev}:");
            for entry in entries {
                let _ = write!(text, " {}", entry.id);
            }
            let _ = write!(text, " commit {commit_index}");
            if *round > 0 {
                let _ = write!(text, " round {round}");
            }
            text
        }
        Message::AppendReply { round, result } => {
            let mut text = match result {
                AppendResult::Accepted { match_index } => format!("accepted up to {match_index}"),
                AppendResult::Fetching => "fetching".to_owned(),
                AppendResult::Rejected { prev_index, hint } => {
                    format!("rejected after {prev_index}, try {hint}")
                }
            };
            if *round > 0 {
                let _ = write!(text, " round {round}");
            }
            text
        }
    }
}

fn line(envelope: &Envelope) -> String {
    let Envelope { from, to, term, message } = envelope;
    format!("n{from} -> n{to} term {term}: {}", describe(message))
}

impl Lab {
    fn say(&mut self, text: &str) {
        let _ = writeln!(self.output, "  {text}");
    }

    /// Carries out one line; returns what there was to see.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> u64 {
            words.get(at).and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("word {at} of {line:?}"))
        };
        let node = |at: usize| number(at) as NodeId;
        match words[0] {
            "cluster" => (1..=node(1)).for_each(|id| self.create(id, &[])),
            "node" => self.create(node(1), &words[2..]),
            "timeout" | "heartbeat" => {
                let deadline = self.raft(node(1)).next_deadline();
                self.now = self.now.max(deadline);
                self.input(node(1), Input::Tick);
            }
            "pass" => self.now += number(1) * MS,
            "deliver" => {
                let at = self.find(node(1), node(2), words.get(3).copied());
                self.deliver(at);
            }
            "duplicate" => {
                let at = self.find(node(1), node(2), words.get(3).copied());
                self.network.push(self.network[at].clone());
            }
            "drop" if words[1] == "all" => self.network.clear(),
            "drop" => {
                let at = self.find(node(1), node(2), words.get(3).copied());
                self.network.remove(at);
            }
            "settle" => {
                let among: Vec<NodeId> = (1..words.len()).map(node).collect();
                self.settle(&among);
            }
            "elect" => {
                let voters: Vec<NodeId> = (2..words.len()).map(node).collect();
                self.elect(node(1), &voters);
            }
            "slow" => self.member(node(1)).slow = true,
            "sync" => {
                let all = self.member(node(1)).pending.len();
                self.sync(node(1), words.get(2).map_or(all, |_| number(2) as usize));
            }
            "propose" => self.input(node(1), Input::Propose(words[2..].iter().map(|w| command(w)).collect())),
            "read" => self.input(node(1), Input::ReadIndex(number(2))),
            "join" => {
                self.members.insert(node(1), Member { joined: true, ..Member::default() });
                self.start(node(1));
            }
            "add" => self.change(node(1), &Change::Add(node(2), format!("10.0.0.{}:4000", number(2)))),
            "promote" => self.change(node(1), &Change::Promote(node(2))),
            "remove" => self.change(node(1), &Change::Remove(node(2))),
            "snapshot" => {
                let raft = self.raft(node(1));
                let (index, log) = (raft.commit_index(), raft.log());
                let last = LogId { index, term: log.term_at(index).unwrap() };
                let offer = SnapshotOffer { last, size: 1, root: [0; 32] };
                self.member(node(1)).snapshot = Some(offer);
                self.input(node(1), Input::SnapshotSaved(offer));
            }
            "fetch" => self.fetch(node(1)),
            "kill" => {
                let member = self.member(node(1));
                (member.raft, member.slow) = (None, false);
                member.pending.clear();
                member.gated.clear();
            }
            "restart" => self.start(node(1)),
            "wipe" => {
                let member = self.member(node(1));
                *member = Member { wiped: member.wiped + 1, joined: member.joined, ..Member::default() };
            }
            "show" => self.show(),
            "members" => {
                let text = format!("n{} {}", words[1], self.raft(node(1)).membership());
                self.say(&text);
            }
            other => panic!("no command {other:?}"),
        }
        std::mem::take(&mut self.output)
    }

    fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).unwrap_or_else(|| panic!("no node {id}"))
    }

    fn raft(&mut self, id: NodeId) -> &mut Raft {
        self.member(id).raft.as_mut().unwrap_or_else(|| panic!("node {id} is down"))
    }

    /// `term T [vote N] [log T T T …]`, all durable.
    fn create(&mut self, id: NodeId, words: &[&str]) {
        let mut words = words.iter().copied().peekable();
        let (mut state, mut log) = (HardState::default(), Vec::new());
        while let Some(word) = words.next() {
            match word {
                "term" => state.term = words.next().unwrap().parse().unwrap(),
                "vote" => state.voted_for = Some(words.next().unwrap().parse().unwrap()),
                "log" => log = words.by_ref().map(|w| w.parse().unwrap()).collect(),
                other => panic!("no property {other:?}"),
            }
        }
        let records =
            [Record::HardState(state)].into_iter().chain(entries(0, &log).into_iter().map(Record::Entry));
        let durable = (1..).zip(records).collect();
        self.members.insert(id, Member { durable, ..Member::default() });
        if self.members.len() == id as usize {
            self.members.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.start(id));
        } else {
            self.start(id);
        }
    }

    fn process(&mut self, id: NodeId) -> ProcessId {
        let member = self.member(id);
        let ProcessId { directory, incarnation } = process(id, member.incarnation);
        ProcessId { directory: directory + 1_000 * member.wiped, incarnation }
    }

    fn change(&mut self, id: NodeId, change: &Change) {
        match self.raft(id).change(change) {
            Ok(next) => self.input(id, Input::Reconfigure(next)),
            Err(error) => self.say(&format!("n{id} refuses: {error}")),
        }
    }

    /// The snapshot that `id` wishes for arrives whole.
    fn fetch(&mut self, id: NodeId) {
        let (from, offer) =
            self.member(id).fetching.take().unwrap_or_else(|| panic!("n{id} fetches nothing"));
        let mark = |(_, record): &(Lsn, Record)| match record {
            Record::Snapshot(mark) if mark.last == offer.last => Some(mark.clone()),
            _ => None,
        };
        let mark = self.member(from).durable.iter().rev().find_map(mark).unwrap();
        let mark = SnapshotMark { base: mark.last, base_chain: mark.chain, ..mark };
        self.member(id).snapshot = Some(offer);
        self.input(id, Input::SnapshotFetched(offer, mark));
    }

    fn config(&mut self, id: NodeId) -> RaftConfig {
        // One entry a message, so that a script decides about each.
        let config = RaftConfig { process: self.process(id), ..config(id) };
        RaftConfig { append: AppendBounds { message_bytes: 1, ..config.append }, ..config }
    }

    /// As `storage::recovery` does for files.
    fn start(&mut self, id: NodeId) {
        // Of this start on.
        self.member(id).incarnation += 1;
        let (config, now) = (self.config(id), self.now);
        let voters = self.members.values().filter(|member| !member.joined).count() as u32;
        let member = self.member(id);
        let mut disk = recovered(voters, HardState::default(), vec![], 0);
        if member.joined || member.wiped > 0 {
            // It knows at most who the others are, and nothing of anybody's directory.
            let others = (1..=if member.joined { 0 } else { voters }).map(|id| (id, String::new()));
            disk.mark.membership = Membership::of_voters(others).encode().into();
        }
        for (lsn, record) in &member.durable {
            replay(&mut disk, *lsn, record);
        }
        disk.snapshot = member.snapshot.filter(|offer| offer.last == disk.mark.last);
        let rng = ChaCha8Rng::seed_from_u64(u64::from(id) << 32 | member.incarnation);
        member.raft = Some(Raft::new(config, rng, now, disk));
    }

    /// The `which`-th message from `from` to `to`: counted from 1, or `last`.
    fn find(&self, from: NodeId, to: NodeId, which: Option<&str>) -> usize {
        let all: Vec<usize> = (0..self.network.len())
            .filter(|at| (self.network[*at].0.from, self.network[*at].0.to) == (from, to))
            .collect();
        let at = match which {
            None => all.first(),
            Some("last") => all.last(),
            Some(number) => all.get(number.parse::<usize>().unwrap() - 1),
        };
        *at.unwrap_or_else(|| panic!("no such message from n{from} to n{to}; {} are on their way", all.len()))
    }

    fn deliver(&mut self, at: usize) {
        let (envelope, process) = self.network.remove(at);
        if self.member(envelope.to).raft.is_some() {
            self.input(envelope.to, Input::Message(envelope, process));
        }
    }

    /// Delivers, in order, what these nodes tell each other, until they have nothing more to say.
    fn settle(&mut self, among: &[NodeId]) {
        for _ in 0..1_000 {
            let inside = |(e, _): &(Envelope, _)| among.contains(&e.from) && among.contains(&e.to);
            match self.network.iter().position(inside) {
                Some(at) => self.deliver(at),
                None => return,
            }
        }
        panic!("1000 messages and no end");
    }

    /// Lets `id` stand until it leads, on the votes of `voters` alone. What else was on its way is lost.
    fn elect(&mut self, id: NodeId, voters: &[NodeId]) {
        let of_replication = |m: &Message| matches!(m, Message::Append { .. } | Message::AppendReply { .. });
        for _ in 0..3 {
            self.network.clear();
            self.now = self.now.max(self.raft(id).next_deadline());
            self.input(id, Input::Tick);
            while let Some(at) = self.network.iter().position(|(e, _)| {
                !of_replication(&e.message)
                    && (e.from == id && voters.contains(&e.to) || e.to == id && voters.contains(&e.from))
            }) {
                self.deliver(at);
            }
            if self.raft(id).role() == Role::Leader {
                return self.network.retain(|(e, _)| of_replication(&e.message));
            }
        }
        panic!("n{id} was not elected by {voters:?}");
    }

    fn sync(&mut self, id: NodeId, records: usize) {
        let member = self.member(id);
        let done: Vec<_> = member.pending.drain(..records).collect();
        let Some((lsn, _)) = done.last().cloned() else { return };
        member.durable.extend(done);
        self.input(id, Input::Durable(lsn));
    }

    fn input(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        let mut effects = Effects { level: Some(Level::Debug), ..Effects::default() };
        let raft = self.raft(id);
        raft.step(now, input, &mut effects);
        raft.flush(now, &mut effects);
        for event in &effects.events {
            self.say(&format!("n{id} {event}"));
        }
        for read in &effects.reads {
            self.say(&format!("n{id} may serve read {} at index {}", read.id, read.index));
        }
        for read in &effects.failed_reads {
            self.say(&format!("n{id} cannot serve read {read}"));
        }
        if let Some(last) = effects.restore {
            self.say(&format!("n{id} has the state of the snapshot at {last}"));
        }
        let process = self.process(id);
        let member = self.member(id);
        member.fetching = effects.fetch.or(member.fetching.take());
        member.pending.extend(effects.records);
        member.gated.extend(effects.messages);
        let durable = member.raft.as_ref().unwrap().durable_lsn();
        let (ready, waiting) =
            std::mem::take(&mut member.gated).into_iter().partition(|m| m.after <= durable);
        member.gated = waiting;
        let mut ready: Vec<Outgoing> = ready;
        // As the replica does: a promise of a term that has passed is of no use to anybody.
        let term = self.raft(id).term();
        let promise = |m: &Message| matches!(m, Message::VoteReply { .. } | Message::AppendReply { .. });
        ready.retain(|m| m.envelope.term == term || !promise(&m.envelope.message));
        for outgoing in ready {
            self.say(&line(&outgoing.envelope));
            self.network.push((outgoing.envelope, process));
        }
        self.check(id);
        if !self.member(id).slow && !self.member(id).pending.is_empty() {
            let all = self.member(id).pending.len();
            self.sync(id, all);
        }
    }

    /// Election Safety, Leader Append-Only, and State Machine Safety with Leader Completeness behind it.
    fn check(&mut self, id: NodeId) {
        let raft = self.members[&id].raft.as_ref().unwrap();
        let log = raft.log();
        // What a snapshot stands for was committed, and is compared no more.
        let base = log.base().index.max(1);
        for index in base..=raft.commit_index() {
            let first = *self.committed.entry(index).or_insert(log.chain_at(index));
            assert_eq!(first, log.chain_at(index), "n{id} committed another entry {index}");
        }
        let known = |index| {
            if index < base {
                self.committed.get(&index).copied().unwrap_or_default()
            } else {
                log.chain_at(index)
            }
        };
        let chains: Vec<u64> = (1..=log.last().index).map(known).collect();
        if raft.role() == Role::Leader {
            let (leader, before) = self.leaders.entry(raft.term()).or_insert((id, Vec::new()));
            assert_eq!(*leader, id, "two leaders in term {}", raft.term());
            assert!(chains.starts_with(before), "the leader n{id} lost entries of its own");
            *before = chains;
            for (index, chain) in self.committed.range(base..) {
                assert_eq!(
                    log.chain_at(*index),
                    *chain,
                    "the leader n{id} lacks the committed entry {index}"
                );
            }
        }
    }

    fn show(&mut self) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            let Some(raft) = &self.members[&id].raft else {
                self.say(&format!("n{id} is down"));
                continue;
            };
            let mut text = format!("n{id} {} in term {}", raft.role().name(), raft.term());
            if let Some(vote) = raft.hard_state().voted_for {
                let _ = write!(text, ", voted for n{vote}");
            }
            let _ = write!(text, ", committed {}, log", raft.commit_index());
            if raft.log().base().index > 0 {
                let _ = write!(text, " (snapshot {})", raft.log().base());
            }
            for index in raft.log().first_index()..=raft.log().last().index {
                let _ = write!(text, " {}", raft.log().term_at(index).unwrap());
            }
            self.say(&text);
        }
    }
}
