//! Defects that the search must find, planted around the core: in the driver, in what it is told, or in what it remembers.
//! Ids of `../../src/planted.rs` and of the literature, where there is one.

use std::collections::BTreeSet;

use node::raft::Recovered;
use node::raft::Role;
use node::raft::membership::Membership;
use node::raft::message::{Envelope, Message};
use node::raft::types::{HardState, Index, LogId, NodeId, Record, SnapshotMark};

use crate::world::{Node, acknowledged};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A vote leaves before it is durable.
    EarlyVote,
    /// An acknowledgement leaves before the entries are durable.
    EarlyAcknowledgement,
    /// A restarted node remembers its term, not its vote.
    ForgottenVote,
    /// A node votes again in a term in which it has voted.
    SecondVote,
    /// A node votes for whoever asks, whatever the log.
    AnyLog,
    /// A leader commits what a majority has, of whatever term (Figure 8).
    OldTerms,
    /// A follower commits what the leader has, whether or not its own log matches.
    CommitWithoutMatch,
    /// An append cuts off what comes after it, though nothing contradicts it.
    CutTail,
    /// A disk that said "durable" has lost the last entry at the next start.
    LostTail,
    /// A leader answers a read without asking whether it still leads.
    UnconfirmedRead,
    /// The voters change without a joint configuration between.
    OneStep,
    /// A snapshot from the leader cuts off what comes after it, though nothing contradicts it (Figure 13, rule 6).
    CutByInstall,
    /// A snapshot is installed though more than is in it is committed here by now.
    LateInstall,
    /// While two majorities are needed, a leader commits with the one that is to come.
    HalfCommit,
}

impl Defect {
    pub(crate) fn leaves_early(self, message: &Message) -> bool {
        match self {
            Defect::EarlyVote => matches!(message, Message::VoteReply { .. }),
            Defect::EarlyAcknowledgement => acknowledged(message).is_some(),
            _ => false,
        }
    }

    pub(crate) fn at_recovery(self, disk: &mut Recovered) {
        match self {
            Defect::ForgottenVote => disk.hard_state.voted_for = None,
            Defect::LostTail => {
                disk.entries.pop();
            }
            _ => {}
        }
    }

    pub(crate) fn before_delivery(self, node: &mut Node, envelope: &mut Envelope) {
        let hard_state = node.raft.hard_state();
        match (self, &mut envelope.message) {
            (Defect::AnyLog, Message::VoteRequest { last, .. }) => {
                *last = LogId { term: 99, index: 99 };
            }
            (Defect::SecondVote, Message::VoteRequest { .. })
                if hard_state.term == envelope.term
                    && hard_state.voted_for.is_some_and(|vote| vote != envelope.from)
                    && node.pending.is_empty()
                    && node.raft.role() == Role::Follower =>
            {
                node.replace_core(HardState { voted_for: None, ..hard_state }, node.entries());
            }
            (Defect::CutTail, Message::Append { prev, entries, .. }) => {
                let end = prev.index + entries.len() as Index;
                let mut log = node.entries();
                let follows = node.raft.role() == Role::Follower && envelope.term >= node.raft.term();
                if follows && node.raft.log().contains(*prev) && (log.len() as Index) > end {
                    log.truncate(end.max(node.commit_index) as usize);
                    let lsn = node.raft.last_lsn();
                    node.pending.push((lsn, Record::Truncate { last_index: log.len() as Index }));
                    node.replace_core(hard_state, log);
                }
            }
            _ => {}
        }
    }

    /// Before a fetched snapshot is given to the core.
    pub(crate) fn before_install(self, node: &mut Node, mark: &SnapshotMark) {
        let (last, committed) = (mark.last, node.raft.commit_index());
        match self {
            _ if node.raft.role() == Role::Leader => {}
            Defect::CutByInstall if last.index > committed && node.raft.log().contains(last) => {
                let kept = node.entries().into_iter().filter(|entry| entry.id.index <= last.index).collect();
                let lsn = node.raft.last_lsn();
                node.pending.push((lsn, Record::Truncate { last_index: last.index }));
                node.replace_core(node.raft.hard_state(), kept);
            }
            Defect::LateInstall if last.index < committed => node.go_on_from(mark),
            _ => {}
        }
    }

    pub(crate) fn after_delivery(self, node: &mut Node, message: &Message) {
        if let (Defect::CommitWithoutMatch, Message::Append { commit_index, .. }) = (self, message) {
            let known = (*commit_index).min(node.raft.log().last().index);
            node.commit_index = node.commit_index.max(known);
        }
    }

    pub(crate) fn after_input(self, node: &mut Node) {
        if self == Defect::OldTerms && node.raft.role() == Role::Leader {
            let raft = &node.raft;
            let matched = |id| raft.progress().get(&id).map_or(raft.log().durable_index(), |p| p.match_index);
            node.commit_index = node.commit_index.max(raft.membership().committed(matched));
        }
        if self == Defect::HalfCommit && node.raft.role() == Role::Leader {
            let raft = &node.raft;
            let matched = |id: NodeId| {
                let theirs = raft.progress().get(&id).map(|progress| progress.match_index);
                if id == raft.id() { raft.log().durable_index() } else { theirs.unwrap_or_default() }
            };
            let half =
                Membership { outgoing: BTreeSet::new(), ..raft.membership().clone() }.committed(matched);
            if raft.log().term_at(half) == Some(raft.term()) {
                node.commit_index = node.commit_index.max(half);
            }
        }
    }
}
