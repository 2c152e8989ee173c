//! What a directory holds, as a model beside the files: the records that its process handed out, and those of them that are
//! durable. Recovery must come to the same; what leaves a process must be in here.

use std::collections::VecDeque;
use std::fmt;

use node::raft::log::chain_after;
use node::raft::membership::Membership;
use node::raft::types::{Entry, HardState, Index, LogId, Lsn, NodeId, Payload, Record, SnapshotMark};
use node::storage::Progress;

/// What records add up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding {
    pub(crate) hard_state: HardState,
    pub(crate) mark: SnapshotMark,
    /// Each entry after the mark's base, with the chain there.
    pub(crate) entries: VecDeque<(LogId, u64)>,
    /// The memberships that may still be fallen back to, by index; the last one is in force.
    memberships: Vec<(Index, Membership)>,
}

impl Holding {
    fn new(hard_state: HardState, mark: &SnapshotMark, entries: &[Entry]) -> Holding {
        let mut holding = Holding { hard_state, ..Holding::default() };
        holding.take(&Record::Snapshot(mark.clone()));
        for entry in entries {
            holding.take(&Record::Entry(entry.clone()));
        }
        holding
    }

    /// Adds a record. Returns the membership that it replaced, if it is one.
    fn take(&mut self, record: &Record) -> Option<Membership> {
        match record {
            Record::Boot { .. } | Record::Recovering(_) => {}
            Record::HardState(hard_state) => self.hard_state = *hard_state,
            Record::Truncate { last_index } => {
                while self.last().index > *last_index && self.entries.pop_back().is_some() {}
                let kept = self.memberships.partition_point(|(index, _)| index <= last_index).max(1);
                self.memberships.truncate(kept);
            }
            Record::Entry(entry) => {
                let last = self.last();
                assert_eq!(entry.id.index, last.index + 1, "entry {} after {last}", entry.id);
                let chain = chain_after(self.chain_at(last.index).unwrap_or_default(), entry);
                self.entries.push_back((entry.id, chain));
                // One that the snapshot stands for is in its mark.
                if let Payload::Membership(bytes) = &entry.payload
                    && entry.id.index > self.mark.last.index
                {
                    let before = self.membership().clone();
                    self.memberships.push((entry.id.index, decoded(bytes)));
                    return Some(before);
                }
            }
            Record::Snapshot(mark) => {
                let has_base =
                    mark.base == self.mark.base || self.term_at(mark.base.index) == Some(mark.base.term);
                let dropped = if has_base { mark.base.index - self.mark.base.index } else { u64::MAX };
                for _ in 0..dropped.min(self.entries.len() as u64) {
                    self.entries.pop_front();
                }
                self.memberships.retain(|(index, _)| has_base && *index > mark.last.index);
                self.memberships.insert(0, (mark.last.index, decoded(&mark.membership)));
                self.mark = mark.clone();
            }
        }
        None
    }

    /// Whether a disk holds this. A damaged one may lack what its snapshot stands for, and whom it was founded with.
    fn is(&self, found: &Holding, damaged: bool) -> bool {
        let same = self.hard_state == found.hard_state && self.last() == found.last();
        if damaged {
            let chain = self.chain_at(self.last().index);
            return same && chain == found.chain_at(found.last().index);
        }
        same && self.mark == found.mark
            && self.entries == found.entries
            && self.memberships == found.memberships
    }

    pub(crate) fn last(&self) -> LogId {
        self.entries.back().map_or(self.mark.base, |(id, _)| *id)
    }

    fn at(&self, index: Index) -> Option<&(LogId, u64)> {
        self.entries.get(usize::try_from(index.checked_sub(self.mark.base.index + 1)?).ok()?)
    }

    fn term_at(&self, index: Index) -> Option<u64> {
        self.at(index).map(|(id, _)| id.term)
    }

    pub(crate) fn chain_at(&self, index: Index) -> Option<u64> {
        match index == self.mark.base.index {
            true => Some(self.mark.base_chain),
            false => self.at(index).map(|(_, chain)| *chain),
        }
    }

    /// Whether the log up to `index` is the one that `chain` stands for. What a snapshot stands for is committed.
    pub(crate) fn has(&self, index: Index, chain: u64) -> bool {
        index < self.mark.base.index || self.chain_at(index) == Some(chain)
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.memberships[self.memberships.len() - 1].1
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, last) = (&self.mark, self.last());
        write!(f, "{:?}, snapshot {}, log after {} to {last}, ", self.hard_state, mark.last, mark.base)?;
        for (index, membership) in &self.memberships {
            write!(f, "membership {index}: {membership:?} ")?;
        }
        Ok(())
    }
}

fn decoded(bytes: &[u8]) -> Membership {
    Membership::decode(bytes).unwrap_or_default()
}

/// One directory.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) node: NodeId,
    pub(crate) durable: Holding,
    pub(crate) written: Holding,
    /// What was durable before the disk lost some of it: promises were made on it.
    pub(crate) lost: Option<Holding>,
    pending: VecDeque<(Lsn, Record)>,
}

impl Ledger {
    /// An empty directory of `node`, with what its process would begin with.
    pub(crate) fn new(node: NodeId, mark: &SnapshotMark) -> Ledger {
        let holding = Holding::new(HardState::default(), mark, &[]);
        let written = holding.clone();
        Ledger { node, durable: holding, written, lost: None, pending: VecDeque::new() }
    }

    /// The process hands out a record.
    pub(crate) fn write(&mut self, lsn: Lsn, record: &Record) -> Option<Membership> {
        self.pending.push_back((lsn, record.clone()));
        self.written.take(record)
    }

    /// The disk got so far. Where space lacks, term and vote are further than the rest.
    pub(crate) fn sync(&mut self, progress: &Progress) {
        let mut waiting = VecDeque::new();
        for (lsn, record) in std::mem::take(&mut self.pending) {
            let reached = if is_vote(&record) { progress.hard_state } else { progress.durable };
            if lsn <= reached {
                self.durable.take(&record);
            } else {
                waiting.push_back((lsn, record));
            }
        }
        self.pending = waiting;
    }

    /// The disk lost something, and says so: this is what is left.
    pub(crate) fn lose(&mut self, hard_state: HardState, mark: &SnapshotMark, entries: &[Entry]) {
        let left = Holding::new(hard_state, mark, entries);
        self.lost = Some(std::mem::replace(&mut self.durable, left));
        self.written = self.durable.clone();
        self.pending.clear();
    }

    /// Whether the log up to `index` is, or was, on the disk.
    pub(crate) fn had(&self, index: Index, chain: u64) -> bool {
        self.durable.has(index, chain) || self.lost.as_ref().is_some_and(|lost| lost.has(index, chain))
    }

    /// Compares with what a start found, and goes on from there: all that was durable, and of the rest some first part, of
    /// votes and of the log each. A `damaged` disk may have less than that where a snapshot stands for it.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn recover(
        &mut self,
        hard_state: HardState,
        mark: &SnapshotMark,
        entries: &[Entry],
        damaged: bool,
    ) -> Result<(), String> {
        let found = Holding::new(hard_state, mark, entries);
        let (votes, log): (Vec<_>, Vec<_>) =
            self.pending.drain(..).map(|(_, record)| record).partition(is_vote);
        let mut with_votes = self.durable.clone();
        for votes in std::iter::once(None).chain(votes.iter().map(Some)) {
            votes.map(|record| with_votes.take(record));
            let mut possible = with_votes.clone();
            for record in std::iter::once(None).chain(log.iter().map(Some)) {
                record.map(|record| possible.take(record));
                if possible.is(&found, damaged) {
                    (self.durable, self.written) = (found.clone(), found);
                    return Ok(());
                }
            }
        }
        Err(format!("recovered {found}, durable was {}, then {votes:?} {log:?}", self.durable))
    }
}

/// Whether a vote waits for the record, see [`Progress::hard_state`].
fn is_vote(record: &Record) -> bool {
    match record {
        Record::HardState(_) => true,
        Record::Snapshot(mark) => mark.last.index == 0,
        _ => false,
    }
}
