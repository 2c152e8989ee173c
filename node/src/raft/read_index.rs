//! Linearizable reads without the log (§8, thesis §6.4): a read notes the commit index, the leader confirms that it still
//! leads, and the read is served once everything up to that index is applied.
//!
//! Confirmation is a *round*: a number that only grows within one leadership, carried by every append and echoed by every
//! reply. A read waits for a round that started after it arrived, so no late or duplicated reply of an earlier round can
//! confirm it (the defect of etcd#20418), and the term of the reply ties it to this leadership. Under a lease no round is needed.

use std::collections::VecDeque;

use super::types::Index;
use super::{Effects, Raft, ReadState, Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingRead {
    id: u64,
    index: Index,
    round: u64,
}

/// The reads that a leader has not confirmed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ReadQueue {
    /// Arrived before this leader committed an entry of its term: its commit index may still be behind (§8).
    waiting: Vec<u64>,
    pending: VecDeque<PendingRead>,
    /// The round that the latest appends carry.
    round: u64,
    /// The latest round that a majority echoed.
    confirmed: u64,
}

impl ReadQueue {
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn into_ids(self) -> impl Iterator<Item = u64> {
        self.waiting.into_iter().chain(self.pending.into_iter().map(|read| read.id))
    }
}

impl Raft {
    pub(super) fn read_index(&mut self, now: u64, id: u64, effects: &mut Effects) {
        if self.role != Role::Leader {
            effects.failed_reads.push(id);
        } else if self.commit_index < self.term_start_index {
            self.reads.waiting.push(id);
        } else if self.lease_serves(now) {
            effects.reads.push(ReadState { id, index: self.commit_index });
        } else {
            let round = self.reads.round + 1;
            self.reads.pending.push_back(PendingRead { id, index: self.commit_index, round });
        }
    }

    /// Called when the commit index has reached this term.
    pub(super) fn release_waiting_reads(&mut self) {
        let (index, round) = (self.commit_index, self.reads.round + 1);
        let waiting = std::mem::take(&mut self.reads.waiting);
        self.reads.pending.extend(waiting.into_iter().map(|id| PendingRead { id, index, round }));
    }

    /// Starts the next round if reads wait for it and the last one is confirmed: all reads that arrive while a round is
    /// on its way share the next one. Returns whether a round started.
    pub(super) fn start_read_round(&mut self, now: u64, effects: &mut Effects) -> bool {
        let wanted = self.reads.pending.back().is_some_and(|read| read.round > self.reads.round);
        if !wanted || self.reads.confirmed < self.reads.round {
            return false;
        }
        self.start_round(now, effects);
        true
    }

    /// With leases every heartbeat begins a round, so that those who listen renew theirs.
    pub(super) fn start_lease_round(&mut self, now: u64, effects: &mut Effects) {
        if self.config.lease > 0 {
            self.start_round(now, effects);
        }
    }

    fn start_round(&mut self, now: u64, effects: &mut Effects) {
        self.reads.round += 1;
        self.lease_round_began(now, self.reads.round);
        self.confirm_reads(effects);
    }

    /// Hands out every read whose round a majority has echoed.
    pub(super) fn confirm_reads(&mut self, effects: &mut Effects) {
        let (own, round) = (self.config.id, self.reads.round);
        let echoed = |id| if id == own { round } else { self.counted(id).map_or(0, |p| p.round) };
        self.reads.confirmed = self.membership().committed(echoed);
        self.lease_rounds_confirmed(self.reads.confirmed);
        while let Some(read) = self.reads.pending.front()
            && read.round <= self.reads.confirmed
        {
            effects.reads.push(ReadState { id: read.id, index: read.index });
            self.reads.pending.pop_front();
        }
    }
}
