//! What no event may break: the properties of the paper's Figure 3 and what a disk must not forget, over all nodes at once.
//! Looked at after every turn of a process. What clients may see is left to the history.

use std::collections::{BTreeMap, BTreeSet};

use node::raft::Role;
use node::raft::membership::Membership;
use node::raft::message::{AppendResult, Message};
use node::raft::types::{DirectoryId, Index, NodeId, ProcessId, Record, Term};
use node::replica::{Destination, Output, Replica};
use node::trace::{TraceEvent, TraceRole};
use node::transport::frame::{Frame, Kind};
use node::transport::message_codec;

use crate::ledger::Ledger;
use crate::machine::Booted;
use crate::tally::Tally;

/// What a process showed after its last turn.
#[derive(Clone, Debug)]
struct Seen {
    process: ProcessId,
    leads: bool,
    term: Term,
    commit_index: Index,
    last_applied: Index,
    last_index: Index,
    chain: u64,
    membership: Membership,
}

/// What is committed at an index.
#[derive(Clone, Copy, Debug)]
struct Committed {
    /// The term of the leader that committed it.
    by: Term,
    chain: u64,
}

/// Everything that has to be known of the past to judge the present.
#[derive(Debug, Default)]
pub(crate) struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    /// Chain at each entry that any log ever had.
    entries: BTreeMap<(Index, Term), u64>,
    /// From index 1 on.
    committed: Vec<Committed>,
    /// Hash of the state after each entry that some turn ended with.
    states: BTreeMap<Index, u64>,
    votes: BTreeMap<(DirectoryId, Term), NodeId>,
    ledgers: BTreeMap<DirectoryId, Ledger>,
    seen: BTreeMap<NodeId, Seen>,
}

impl Safety {
    /// The last committed entry.
    pub(crate) fn committed(&self) -> Index {
        self.committed.len() as Index
    }

    /// The directory's model.
    pub(crate) fn ledger(&mut self, directory: DirectoryId) -> Option<&mut Ledger> {
        self.ledgers.get_mut(&directory)
    }

    /// The model of the directory that a node started with last.
    pub(crate) fn last_ledger(&self, node: NodeId) -> Option<&Ledger> {
        self.ledgers.get(&self.seen.get(&node)?.process.directory)
    }

    /// A process started with what it found.
    pub(crate) fn boot(&mut self, node: NodeId, booted: &Booted, damaged: bool, replica: &Replica) {
        let Booted { process, hard_state, mark, entries, recovering, .. } = booted;
        let ledger = self.ledgers.entry(process.directory).or_insert_with(|| Ledger::new(node, mark));
        assert_eq!(ledger.node, node, "directory {:016x} changed hands", process.directory);
        if recovering.is_some() {
            ledger.lose(*hard_state, mark, entries);
        } else if let Err(difference) = ledger.recover(*hard_state, mark, entries, damaged) {
            panic!("recovery of n{node}: {difference}");
        }
        self.seen.insert(node, seen(*process, replica));
        self.look(node, replica);
    }

    /// A process took a turn, and wants `output` done.
    pub(crate) fn turn(
        &mut self,
        node: NodeId,
        process: ProcessId,
        replica: &Replica,
        output: &Output,
        tally: &mut Tally,
    ) {
        let raft = replica.raft();
        let before = self.seen.insert(node, seen(process, replica));
        let Some(before) = before.filter(|before| before.process == process) else {
            panic!("n{node} was never seen to start")
        };
        if let Some(ledger) = self.ledgers.get_mut(&process.directory) {
            for (lsn, record) in &output.records {
                tally.truncations += u64::from(matches!(record, Record::Truncate { .. }));
                let replaced = ledger.write(*lsn, record);
                if let Some(replaced) = replaced {
                    let next = ledger.written.membership();
                    assert!(
                        overlap(&replaced, next),
                        "membership quorum overlap: n{node} appended {next} after {replaced}"
                    );
                }
            }
            let (written, shown) = (ledger.written.membership(), raft.membership());
            assert_eq!(written, shown, "membership in force at n{node} is not the last one of its log");
            assert_eq!(ledger.written.last(), raft.log().last(), "log of n{node}");
            assert_eq!(ledger.written.hard_state, raft.hard_state(), "term and vote of n{node}");
        }
        assert!(raft.term() >= before.term, "monotonic: term of n{node} fell to {}", raft.term());
        assert!(raft.commit_index() >= before.commit_index, "monotonic: commit index of n{node} fell");
        assert!(
            replica.store().last_applied() >= before.last_applied,
            "monotonic: n{node} took back what it had applied"
        );
        if before.leads && raft.role() == Role::Leader && raft.term() == before.term {
            let at = before.last_index;
            assert!(
                raft.log().last().index >= at && known(raft.log().chain_at(at), before.chain),
                "leader append-only: n{node} changed its log at {at} in term {}",
                before.term
            );
        }
        for event in &output.trace {
            self.event(node, event, replica, &before.membership, tally);
        }
        for (destination, bytes) in &output.datagrams {
            if let Destination::Node(to) = destination {
                self.sent(node, *to, process.directory, replica, bytes);
            }
        }
        self.look(node, replica);
    }

    /// What holds at any moment.
    fn look(&mut self, node: NodeId, replica: &Replica) {
        let (raft, applied) = (replica.raft(), replica.store().last_applied());
        let (commit, last) = (raft.commit_index(), raft.log().last().index);
        let snapshot = raft.snapshot().map_or(0, |offer| offer.last.index);
        assert!(
            raft.log().base().index <= snapshot && snapshot <= applied && applied <= commit && commit <= last,
            "order: n{node} has its snapshot at {snapshot}, applied {applied}, committed {commit}, last {last}"
        );
        if let Some(committed) = commit.checked_sub(1).and_then(|at| self.committed.get(at as usize)) {
            assert!(
                known(raft.log().chain_at(commit), committed.chain),
                "state machine safety: n{node} committed something else at {commit}"
            );
        }
        assert!(commit <= self.committed(), "n{node} knows of a commit at {commit} that no leader made");
        let hash = replica.store().state_hash();
        let other = *self.states.entry(applied).or_insert(hash);
        assert_eq!(other, hash, "state machine safety: state of n{node} after entry {applied}");
    }

    fn event(
        &mut self,
        node: NodeId,
        event: &TraceEvent,
        replica: &Replica,
        membership_before: &Membership,
        tally: &mut Tally,
    ) {
        let raft = replica.raft();
        match event {
            TraceEvent::Append { prev_index, term, chains, .. } => {
                for (index, chain) in (prev_index + 1..).zip(chains) {
                    let other = *self.entries.entry((index, *term)).or_insert(*chain);
                    assert_eq!(other, *chain, "log matching: n{node} has another entry {index}@{term}");
                }
            }
            TraceEvent::Role { role: TraceRole::Leader, term } => {
                tally.elections += 1;
                let leader = *self.leaders.entry(*term).or_insert(node);
                assert_eq!(leader, node, "election safety: n{leader} and n{node} lead term {term}");
                let earlier = self.committed.partition_point(|committed| committed.by < *term);
                if let Some(last) = self.committed[..earlier].last()
                    && raft.role() == Role::Leader
                {
                    let held = raft.log().last().index >= earlier as Index
                        && known(raft.log().chain_at(earlier as Index), last.chain);
                    assert!(held, "leader completeness: n{node} leads term {term} without entry {earlier}");
                }
            }
            TraceEvent::Commit { term, commit_index, .. } if *commit_index > self.committed() => {
                for index in self.committed() + 1..=*commit_index {
                    self.committed.push(Committed { by: *term, chain: raft.log().chain_at(index) });
                }
                let chain = raft.log().chain_at(*commit_index);
                let memberships = [membership_before, raft.membership()];
                assert!(
                    memberships.into_iter().any(|membership| self.holds(membership, *commit_index, chain)),
                    "committed on a durable quorum: n{node} committed {commit_index} in term {term}, of {}",
                    raft.membership()
                );
                for (other, seen) in &self.seen {
                    let missing = seen.leads && seen.term > *term && seen.last_index < *commit_index;
                    assert!(
                        !missing,
                        "leader completeness: n{other} leads a later term without {commit_index}"
                    );
                }
            }
            TraceEvent::Apply { last_index, chain, .. } => {
                let committed = self.committed.get(*last_index as usize - 1).map_or(0, |it| it.chain);
                assert!(
                    known(*chain, committed),
                    "state machine safety: n{node} applied another {last_index}"
                );
            }
            TraceEvent::Install { last_index, chain, .. } => {
                tally.installs += 1;
                let committed = self.committed.get(*last_index as usize - 1).map_or(0, |it| it.chain);
                assert!(
                    known(*chain, committed),
                    "state machine safety: n{node} installed another {last_index}"
                );
            }
            _ => {}
        }
    }

    /// Whether those who decide in `membership` have the log up to `index` on their disks, or had it on one that they lost.
    fn holds(&self, membership: &Membership, index: Index, chain: u64) -> bool {
        membership.decides(|id| {
            let bound = membership.member(id).map_or(0, |member| member.directory);
            self.ledgers.iter().any(|(directory, ledger)| {
                ledger.node == id && (bound == 0 || bound == *directory) && ledger.had(index, chain)
            })
        })
    }

    /// A datagram leaves: what it promises is on the disk, and contradicts nothing that left before.
    fn sent(&mut self, node: NodeId, to: NodeId, directory: DirectoryId, replica: &Replica, bytes: &[u8]) {
        let Ok(frame) = Frame::open(bytes, None) else { panic!("n{node} sends what is no frame") };
        if frame.kind != Kind::Peer {
            return;
        }
        let Ok(message) = message_codec::decode(frame.payload, frame.term) else {
            panic!("n{node} sends what is no message")
        };
        let Some(ledger) = self.ledgers.get(&directory) else { return };
        if !matches!(message, Message::PreVoteRequest { .. } | Message::Hello) {
            assert!(
                ledger.durable.hard_state.term >= frame.term,
                "sent implies durable: n{node} speaks in term {}, its disk knows {:?}",
                frame.term,
                ledger.durable.hard_state
            );
        }
        match message {
            Message::VoteReply { granted: true } => {
                let vote = *self.votes.entry((directory, frame.term)).or_insert(to);
                assert_eq!(vote, to, "one vote per term: n{node} in term {}", frame.term);
                let durable = ledger.durable.hard_state;
                assert!(
                    durable.term > frame.term || durable.voted_for == Some(to),
                    "sent implies durable: n{node} votes for n{to} in term {}, its disk knows {durable:?}",
                    frame.term
                );
            }
            Message::VoteRequest { .. } => {
                let vote = *self.votes.entry((directory, frame.term)).or_insert(node);
                assert_eq!(vote, node, "one vote per term: n{node} stands in term {}", frame.term);
            }
            Message::AppendReply { result: AppendResult::Accepted { match_index }, .. } => {
                let chain = replica.raft().log().chain_at(match_index);
                assert!(
                    match_index <= ledger.durable.last().index
                        && (chain == 0 || ledger.durable.has(match_index, chain)),
                    "sent implies durable: n{node} acknowledges {match_index}, its disk ends at {}",
                    ledger.durable.last()
                );
            }
            _ => {}
        }
    }
}

fn seen(process: ProcessId, replica: &Replica) -> Seen {
    let raft = replica.raft();
    let last_index = raft.log().last().index;
    Seen {
        process,
        leads: raft.role() == Role::Leader,
        term: raft.term(),
        commit_index: raft.commit_index(),
        last_applied: replica.store().last_applied(),
        last_index,
        chain: raft.log().chain_at(last_index),
        membership: raft.membership().clone(),
    }
}

/// Whether two chains at one index agree. A log that begins later does not know them any more, and says 0.
fn known(a: u64, b: u64) -> bool {
    a == b || a == 0 || b == 0
}

/// Whether no two majorities, one of each, can do without each other.
fn overlap(a: &Membership, b: &Membership) -> bool {
    let ids: BTreeSet<NodeId> = a.members.keys().chain(b.members.keys()).copied().collect();
    let place = |id: NodeId| ids.iter().position(|known| *known == id).unwrap_or_default();
    (0_u64..1 << ids.len()).all(|set| {
        let inside = |id| set >> place(id) & 1 == 1;
        !(a.decides(inside) && b.decides(|id| !inside(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[NodeId], outgoing: &[NodeId]) -> Membership {
        let mut membership = Membership::of_voters(ids.iter().map(|id| (*id, "127.0.0.1:1".to_owned())));
        membership.outgoing = outgoing.iter().copied().collect();
        membership
    }

    #[test]
    fn majorities_that_can_do_without_each_other_are_found() {
        let old = voters(&[1, 2, 3], &[]);
        assert!(overlap(&old, &old));
        assert!(overlap(&old, &voters(&[1, 2, 3, 4], &[])), "one voter more");
        assert!(!overlap(&old, &voters(&[1, 2, 3, 4, 5], &[])), "4 and 5 with 1, without 2 and 3");
        assert!(overlap(&old, &voters(&[1, 2, 3, 4, 5], &[1, 2, 3])), "joint");
        assert!(overlap(&voters(&[3, 4, 5], &[1, 2, 3]), &voters(&[3, 4, 5], &[])));
        assert!(!overlap(&old, &voters(&[3, 4, 5], &[])));
    }
}
