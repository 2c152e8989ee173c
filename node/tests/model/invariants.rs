//! The safety properties of Figure 3 and what they rest on, asserted in every state that the search meets.

use std::collections::BTreeSet;
use std::sync::Arc;

use node::raft::Role;
use node::raft::membership::Membership;
use node::raft::message::{Envelope, Message};
use node::raft::quorum;
use node::raft::types::{Entry, HardState, Index, NodeId, Payload};

use crate::snapshots;
use crate::world::{Committed, Node, Violation, World, acknowledged};

fn violation<T>(text: String) -> Result<T, Violation> {
    Err(Violation(text))
}

/// One vote a term, also on disk: a record never changes a vote of its own term, nor goes back to an older term.
pub(crate) fn vote_is_fixed(before: HardState, after: HardState) -> Result<(), Violation> {
    let fixed = after.term > before.term
        || (after.term == before.term && (before.voted_for.is_none() || before.voted_for == after.voted_for));
    if fixed { Ok(()) } else { violation(format!("one vote a term: {before:?} became {after:?}")) }
}

/// Sent implies durable: nobody hears of a vote or of a match that a power loss could undo.
pub(crate) fn what_is_promised_is_durable(node: &Node, envelope: &Envelope) -> Result<(), Violation> {
    let disk = &node.disk;
    let vote = |candidate| HardState { term: envelope.term, voted_for: Some(candidate) };
    let kept = match &envelope.message {
        Message::VoteReply { granted: true } => disk.hard_state == vote(envelope.to),
        Message::VoteRequest { .. } => {
            disk.hard_state.term > envelope.term || disk.hard_state == vote(envelope.from)
        }
        message => acknowledged(message).is_none_or(|index| {
            let (log, on_disk) = (node.raft.log(), snapshots::term_on(disk, index));
            // Of what the core has forgotten, only that the disk has not: what it was is no longer known, but committed.
            let forgotten = index < log.base().index && on_disk.is_some();
            let kept = index < disk.mark.base.index || forgotten || on_disk == log.term_at(index);
            disk.hard_state.term >= envelope.term && kept
        }),
    };
    let id = envelope.from;
    if kept { Ok(()) } else { violation(format!("sent implies durable: n{id} sends {:?}", envelope.message)) }
}

/// A linearizable read sees whatever was committed when it arrived.
pub(crate) fn read_is_current(committed: Option<Index>, index: Index) -> Result<(), Violation> {
    match committed {
        Some(committed) if index < committed => {
            violation(format!("stale read: served at {index}, but {committed} was committed when it arrived"))
        }
        _ => Ok(()),
    }
}

/// After node `at` took a step.
pub(crate) fn check(before: &World, after: &mut World, at: usize, restarted: bool) -> Result<(), Violation> {
    let (old, new) = (&before.nodes[at], after.nodes[at].clone());
    let (raft, id) = (&new.raft, new.raft.id());
    let log = raft.log();
    if !restarted {
        if raft.term() < old.raft.term() || new.commit_index < old.commit_index {
            return violation(format!("monotonic: n{id} goes back in term or commit index"));
        }
        vote_is_fixed(old.raft.hard_state(), raft.hard_state())?;
    }
    if raft.role() == Role::Leader {
        let leader = &mut after.leaders[raft.term() as usize - 1];
        if *leader != 0 && *leader != id {
            return violation(format!("election safety: n{leader} and n{id} lead term {}", raft.term()));
        }
        *leader = id;
        let led = old.raft.role() == Role::Leader && old.raft.term() == raft.term();
        let last = old.raft.log().last();
        if led && log.chain_at(last.index) != old.raft.log().chain_at(last.index) {
            return violation(format!("leader append-only: n{id} lost entries of its own up to {last}"));
        }
    }
    for other in after.nodes.iter().filter(|other| other.raft.id() != id) {
        let theirs = other.raft.log();
        let common = log.base().index.max(theirs.base().index)..=log.last().index.min(theirs.last().index);
        let same = common.rev().find(|index| log.term_at(*index) == theirs.term_at(*index));
        if same.is_some_and(|index| log.chain_at(index) != theirs.chain_at(index)) {
            return violation(format!("log matching: n{id} and n{} differ before {same:?}", other.raft.id()));
        }
    }
    commit(after, &new)?;
    for leader in after.nodes.iter().filter(|node| node.raft.role() == Role::Leader) {
        let lacking = (1..).zip(&after.committed).find(|(index, entry)| {
            // What a snapshot stands for is known by the chain at its end.
            let log = leader.raft.log();
            *index >= log.base().index
                && leader.raft.term() >= entry.by
                && log.chain_at(*index) != entry.chain
        });
        if let Some((index, _)) = lacking {
            let id = leader.raft.id();
            return violation(format!(
                "leader completeness: n{id} leads without the committed entry {index}"
            ));
        }
    }
    for (index, entry) in after.committed.iter().enumerate() {
        let has = |id: &NodeId| {
            let disk = &after.nodes[*id as usize - 1].disk;
            snapshots::keeps(disk, index as Index + 1, entry.term)
        };
        // While two majorities elect, it is enough that one of them cannot do without somebody who has it.
        let kept = |half: &BTreeSet<NodeId>| {
            !half.is_empty() && half.iter().filter(|id| has(id)).count() >= quorum::majority(half.len())
        };
        let membership = &after.membership;
        if !kept(&membership.voters) && !kept(&membership.outgoing) {
            return violation(format!(
                "durable quorum: the committed entry {} is on too few disks of {membership}",
                index + 1
            ));
        }
    }
    Ok(())
}

fn undecodable(index: Index) -> Violation {
    Violation(format!("the membership in entry {index} cannot be read"))
}

/// State machine safety: everybody commits the same entry at the same place.
fn commit(world: &mut World, node: &Node) -> Result<(), Violation> {
    let (log, by) = (node.raft.log(), node.raft.term());
    let base = log.base().index;
    if world.committed.len() < base as usize {
        return violation(format!("state machine safety: n{} forgot what nobody committed", node.raft.id()));
    }
    for index in base.max(1)..=node.commit_index {
        let (chain, term) = (log.chain_at(index), log.term_at(index).unwrap_or_default());
        match world.committed.get(index as usize - 1) {
            None => {
                world.committed.push(Committed { chain, term, by });
                if let Some(Entry { payload: Payload::Membership(bytes), .. }) = log.entry(index) {
                    world.membership = Arc::new(Membership::decode(bytes).map_err(|_| undecodable(index))?);
                }
            }
            Some(known) if known.chain == chain => {}
            Some(_) => {
                let id = node.raft.id();
                return violation(format!("state machine safety: n{id} commits another entry {index}"));
            }
        }
    }
    Ok(())
}
