//! Log compaction (§7): when a snapshot stands for a prefix of the log, and when one replaces a log that is too far behind.
//! How a snapshot is made, stored and fetched is the replica's and the storage's business.

use std::sync::Arc;

use super::event::{Event, Level};
use super::membership::Membership;
use super::message::{AppendResult, Message, SnapshotOffer};
use super::types::{Index, LogId, NodeId, Record, SnapshotMark};
use super::{Effects, Raft, Role, decoded};

impl Raft {
    /// A snapshot of the own state is durable: the log may begin later.
    pub(super) fn snapshot_saved(&mut self, offer: SnapshotOffer, effects: &mut Effects) {
        let SnapshotOffer { last, .. } = offer;
        // While it was written, one from the leader may have replaced everything that it stands for.
        if self.snapshot.is_some_and(|newer| newer.last.index >= last.index) || !self.log.contains(last) {
            return;
        }
        assert!(
            last.index <= self.commit_index,
            "a snapshot at {last}, but only {} is committed",
            self.commit_index
        );
        let trailing = last.index.saturating_sub(self.config.trailing_entries);
        // An entry that this disk does not have yet is not forgotten for a mark that it does not have either.
        let base_index = trailing.min(self.log.durable_index()).max(self.log.base().index);
        let base = LogId { index: base_index, term: self.log.term_at(base_index).unwrap_or_default() };
        // What takes the place of the memberships here says which directories they named.
        let membership = Membership::clone(self.membership_at(last.index)).bound_by(|id| self.bound(id));
        let mark = SnapshotMark {
            last,
            chain: self.log.chain_at(last.index),
            base,
            base_chain: self.log.chain_at(base_index),
            membership: Arc::from(membership.encode()),
        };
        self.record(Record::Snapshot(mark), effects);
        self.log.compact(base_index);
        self.replace_memberships(last.index, membership);
        self.snapshot = Some(offer);
        effects.info(|| Event::Compacted { last, first_index: base_index + 1 });
    }

    /// The entries that `peer` needs are gone: it is offered the snapshot, again and again until it has it.
    pub(super) fn send_snapshot(&mut self, peer: NodeId, effects: &mut Effects) -> bool {
        let Some(offer) = self.snapshot else { return false };
        if let Some(progress) = self.progress.get_mut(&peer) {
            progress.needs_snapshot(offer.last.index);
        }
        let round = self.reads.round();
        effects.event(Level::Debug, || Event::SnapshotOffered { to: peer, last: offer.last });
        self.send(peer, Message::Snapshot { offer, round }, 0, effects);
        true
    }

    pub(super) fn answer_snapshot(
        &mut self,
        now: u64,
        from: NodeId,
        offer: SnapshotOffer,
        round: u64,
        effects: &mut Effects,
    ) {
        if !self.hear_leader(now, from, effects) {
            return;
        }
        // What is committed here is in every later snapshot; what comes after that one is in the leader's log.
        let (result, after) = if offer.last.index <= self.commit_index {
            let match_index = self.commit_index.min(self.log.durable_index());
            (AppendResult::Accepted { match_index }, self.hard_state_lsn.max(self.log.lsn_at(match_index)))
        } else {
            effects.fetch = Some((from, offer));
            (AppendResult::Fetching, self.hard_state_lsn)
        };
        self.send(from, Message::AppendReply { round, result }, after, effects);
    }

    pub(super) fn snapshot_fetched(
        &mut self,
        offer: SnapshotOffer,
        mut mark: SnapshotMark,
        effects: &mut Effects,
    ) {
        let SnapshotOffer { last, .. } = offer;
        // Overtaken by the log; or by an election: a leader has in its log whatever is committed, and learns that it is (§5.4).
        if last.index <= self.commit_index || self.role == Role::Leader {
            return;
        }
        let (membership, chain) = (decoded(&mark.membership).bound_by(|id| self.bound(id)), mark.chain);
        mark.membership = Arc::from(membership.encode());
        let lsn = self.record(Record::Snapshot(mark), effects);
        // What follows stays (Figure 13, rule 6): it is on disk, or will be, and may have been counted on in a vote request. The
        // mark is replayed by the same rule.
        let kept = self.log.contains(last);
        if kept {
            self.log.compact(last.index);
        } else {
            self.log.reset(last, chain, lsn);
            self.memberships.clear();
        }
        self.replace_memberships(last.index, membership);
        self.commit_index = last.index;
        self.snapshot = Some(offer);
        effects.restore = Some(last);
        effects.trace(|| crate::trace::TraceEvent::Install {
            lsn,
            last_index: last.index,
            term: last.term,
            chain,
            kept,
        });
        effects.info(|| Event::SnapshotInstalled { last });
        self.membership_changed(effects);
    }

    /// Of the memberships up to a committed index only the last one can still be in force. What takes their place is what the
    /// mark says, and so what a restart will know.
    fn replace_memberships(&mut self, index: Index, membership: Membership) {
        let later = self.memberships.partition_point(|(at, _)| *at <= index);
        self.memberships.splice(..later, [(index, Arc::new(membership))]);
    }
}
