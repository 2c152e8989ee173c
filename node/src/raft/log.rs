//! The log in memory: entries, the chain hash over them, and how much of them is durable.
//! What is written when is decided by the callers; nothing here does I/O.

use std::collections::VecDeque;

use super::types::{Entry, Index, LogId, Lsn, Term};
use crate::hash::hash;
use crate::trace::TermRun;

/// One entry with what the node knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    entry: Entry,
    /// Hash over this entry and all before it.
    chain: u64,
    /// Bytes in the payloads up to this entry, from wherever this log began.
    total_bytes: usize,
    /// The record that carries the entry: an entry that was overwritten and written again has a new one, so the
    /// completion of the first write never makes the second durable (etcd-raft's append ABA race).
    lsn: Lsn,
}

/// Bytes that stand in a message for a payload that is not in it: its size and its hash.
pub const REFERENCE_BYTES: usize = 4 + 16;

/// How much goes into one message, and to one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendBounds {
    /// Bytes of entries in one message.
    pub message_bytes: usize,
    /// Bytes that an entry takes in a message beside its payload.
    pub entry_overhead: usize,
    /// A payload with more bytes is not in the message: the follower fetches it.
    pub inline_bytes: usize,
    /// Pipelined messages to one follower.
    pub inflight_messages: usize,
    /// Bytes of payloads on their way to one follower, those that it fetches included. One entry is always on its way.
    pub inflight_bytes: usize,
}

/// The replicated log of one node: from the entry after `base`, before which a snapshot stands for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RaftLog {
    /// The last entry that is not here any more; zero in a log that begins at index 1. It is committed.
    base: LogId,
    base_chain: u64,
    /// The record that makes the base durable, its entry's or the mark of its snapshot; 0 if it was so from the start.
    base_lsn: Lsn,
    slots: VecDeque<Slot>,
    durable_index: Index,
    /// Bytes of the payloads.
    bytes: usize,
}

/// The chain after `entry`, given the chain before it: a hash over both. Two logs with equal chains at an index are equal up to
/// it (accidental collisions aside: 2⁻⁶⁴ a pair).
pub fn chain_after(chain: u64, entry: &Entry) -> u64 {
    let mut head = [entry.payload.kind(); 17];
    head[..8].copy_from_slice(&entry.id.index.to_le_bytes());
    head[8..16].copy_from_slice(&entry.id.term.to_le_bytes());
    hash(hash(chain, &head), entry.payload.bytes())
}

impl RaftLog {
    /// A log whose entries, from the one after `base`, were all recovered from disk, durable up to the record `lsn`.
    pub fn recovered(base: LogId, base_chain: u64, entries: Vec<Entry>, lsn: Lsn) -> RaftLog {
        let mut log = RaftLog::default();
        log.reset(base, base_chain, 0);
        for entry in entries {
            log.append(entry, lsn);
        }
        log.durable_index = log.last().index;
        log
    }

    /// Identity of the last entry; that of the base if there is none here.
    pub fn last(&self) -> LogId {
        self.slots.back().map_or(self.base, |slot| slot.entry.id)
    }

    /// The entry before the first one here.
    pub fn base(&self) -> LogId {
        self.base
    }

    /// Index of the first entry that the log holds, or would hold.
    pub fn first_index(&self) -> Index {
        self.base.index + 1
    }

    /// Bytes of the payloads that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last entry up to which everything survives power loss.
    pub fn durable_index(&self) -> Index {
        self.durable_index
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first_index())?).ok()?)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.slot(index).map(|slot| &slot.entry)
    }

    /// Term of the entry at `index`: known from the base to the end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.slot(index).map(|slot| slot.entry.id.term)
        }
    }

    /// Chain at `index`: 0 where it is not known.
    pub fn chain_at(&self, index: Index) -> u64 {
        if index == self.base.index { self.base_chain } else { self.slot(index).map_or(0, |slot| slot.chain) }
    }

    /// The record that makes the entry at `index` durable; 0 if it was so from the start, and beyond the end.
    pub fn lsn_at(&self, index: Index) -> Lsn {
        if index <= self.base.index { self.base_lsn } else { self.slot(index).map_or(0, |slot| slot.lsn) }
    }

    /// Whether the log has exactly this entry (the consistency check of §5.3).
    pub fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last index at or below `at_most` whose term is at or below `term`: everything after it differs from a log
    /// that has `term` at `at_most`, so both sides may skip it (§5.3, last paragraph). Terms never fall along a log. What
    /// the base and all before it were is not known any more, but they are committed: whoever asks has them too, or
    /// needs a snapshot.
    pub fn last_index_at_or_below_term(&self, at_most: Index, term: Term) -> Index {
        let Some(bound) = at_most.checked_sub(self.base.index) else { return at_most };
        let bound = usize::try_from(bound).unwrap_or(usize::MAX).min(self.slots.len());
        self.base.index + self.slots.partition_point(|slot| slot.entry.id.term <= term).min(bound) as Index
    }

    /// Appends an entry that the record `lsn` will carry.
    pub fn append(&mut self, entry: Entry, lsn: Lsn) {
        let last = self.last();
        assert!(
            entry.id.index == last.index + 1 && entry.id.term >= last.term,
            "entry {} cannot follow {last}",
            entry.id
        );
        let chain = chain_after(self.chain_at(last.index), &entry);
        let before = self.slots.back().map_or(0, |slot| slot.total_bytes);
        let total_bytes = before + entry.payload.bytes().len();
        self.bytes += entry.payload.bytes().len();
        self.slots.push_back(Slot { entry, chain, total_bytes, lsn });
    }

    /// Bytes in the payloads of the entries after `index`; those that are not here count as none.
    pub fn bytes_after(&self, index: Index) -> usize {
        let Some(last) = self.slots.back() else { return 0 };
        let first = self.slot(index.max(self.first_index().saturating_sub(1)) + 1);
        first.map_or(0, |first| last.total_bytes - first.total_bytes + first.entry.payload.bytes().len())
    }

    /// Discards every entry after `last_index`.
    pub fn truncate(&mut self, last_index: Index) {
        while self.last().index > last_index
            && let Some(slot) = self.slots.pop_back()
        {
            self.bytes -= slot.entry.payload.bytes().len();
        }
        self.durable_index = self.durable_index.min(last_index);
    }

    /// Forgets the entries up to `index`, which a snapshot stands for. One that is not durable yet is so with its own record:
    /// what survives of the disk before the snapshot's mark has it.
    pub fn compact(&mut self, index: Index) {
        while self.base.index < index
            && let Some(slot) = self.slots.pop_front()
        {
            self.bytes -= slot.entry.payload.bytes().len();
            (self.base, self.base_chain, self.base_lsn) = (slot.entry.id, slot.chain, slot.lsn);
        }
    }

    /// Begins anew after `base`, without any entry. A snapshot stands for everything up to it, from the record `lsn` on.
    pub fn reset(&mut self, base: LogId, base_chain: u64, lsn: Lsn) {
        let durable_index = if lsn == 0 { base.index } else { 0 };
        *self = RaftLog { base, base_chain, base_lsn: lsn, durable_index, ..RaftLog::default() };
    }

    /// Notes that every record up to `lsn` is durable.
    pub fn durable(&mut self, lsn: Lsn) {
        if self.durable_index < self.base.index {
            if self.base_lsn > lsn {
                return;
            }
            self.durable_index = self.base.index;
        }
        while self.slot(self.durable_index + 1).is_some_and(|slot| slot.lsn <= lsn) {
            self.durable_index += 1;
        }
    }

    /// Entries from `from` on that fit into one message, with at most `payload_bytes` in their payloads; at least one if
    /// there is one, because each fits into a message, by itself or by reference.
    pub fn slice(&self, from: Index, bounds: &AppendBounds, payload_bytes: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        let (mut message_bytes, mut payloads) = (0, 0);
        let mut index = from;
        while let Some(entry) = self.entry(index) {
            let bytes = entry.payload.bytes().len();
            let in_message = if bytes > bounds.inline_bytes { REFERENCE_BYTES } else { bytes };
            message_bytes += bounds.entry_overhead + in_message;
            payloads += bytes;
            let full = message_bytes > bounds.message_bytes || payloads > payload_bytes;
            if full && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
            index += 1;
        }
        taken
    }

    /// The log as runs of equal terms, ascending; from the base on, if a snapshot stands for what was before.
    pub fn term_runs(&self) -> Vec<TermRun> {
        let mut runs: Vec<TermRun> = Vec::new();
        if self.base.index > 0 {
            runs.push(TermRun { first_index: self.base.index, term: self.base.term });
        }
        for slot in &self.slots {
            let id = slot.entry.id;
            if runs.last().is_none_or(|run| run.term != id.term) {
                runs.push(TermRun { first_index: id.index, term: id.term });
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Payload;
    use super::*;

    fn log(terms: &[Term]) -> RaftLog {
        let mut log = RaftLog::default();
        for (i, term) in terms.iter().enumerate() {
            let id = LogId { index: i as Index + 1, term: *term };
            log.append(Entry { id, payload: Payload::Noop }, i as Lsn + 1);
        }
        log
    }

    #[test]
    fn the_conflict_hint_skips_whole_terms() {
        let log = log(&[1, 1, 4, 4, 5, 5, 6, 6]);
        assert_eq!(log.last_index_at_or_below_term(8, 4), 4);
        assert_eq!(log.last_index_at_or_below_term(8, 3), 2);
        assert_eq!(log.last_index_at_or_below_term(8, 6), 8);
        assert_eq!(log.last_index_at_or_below_term(3, 6), 3);
        assert_eq!(log.last_index_at_or_below_term(8, 0), 0);
    }

    #[test]
    fn a_completion_of_an_overwritten_write_makes_nothing_durable() {
        let mut log = log(&[1, 1]);
        log.durable(1);
        log.truncate(1);
        log.append(Entry { id: LogId { index: 2, term: 2 }, payload: Payload::Noop }, 4);
        log.durable(2); // the write of the first entry 2
        assert_eq!(log.durable_index(), 1);
        log.durable(4);
        assert_eq!(log.durable_index(), 2);
    }

    #[test]
    fn a_compacted_log_knows_its_base_and_what_follows() {
        let mut log = log(&[1, 1, 4, 4, 5]);
        let chain = log.chain_at(3);
        log.durable(4);
        log.compact(3);
        assert_eq!((log.first_index(), log.base(), log.last().index), (4, LogId { index: 3, term: 4 }, 5));
        assert_eq!((log.term_at(2), log.term_at(3), log.term_at(4)), (None, Some(4), Some(4)));
        assert_eq!((log.chain_at(3), log.chain_at(2)), (chain, 0));
        assert_eq!((log.last_index_at_or_below_term(5, 4), log.last_index_at_or_below_term(5, 3)), (4, 3));
        assert_eq!(log.last_index_at_or_below_term(2, 9), 2, "what was there is not known");
        assert_eq!((log.entry(3), log.entry(4).map(|entry| entry.id.index)), (None, Some(4)));
        let runs =
            |log: &RaftLog| log.term_runs().iter().map(|run| (run.first_index, run.term)).collect::<Vec<_>>();
        assert_eq!(runs(&log), [(3, 4), (5, 5)]);
        log.compact(2);
        assert_eq!(log.first_index(), 4, "compaction never goes back");
        log.truncate(4);
        assert_eq!((log.last().index, log.durable_index()), (4, 4));
        log.compact(4);
        assert_eq!((log.last(), log.bytes()), (LogId { index: 4, term: 4 }, 0));
        log.reset(LogId { index: 9, term: 6 }, 77, 30);
        assert_eq!((log.last().index, log.chain_at(9), log.first_index()), (9, 77, 10));
        log.durable(29);
        assert_eq!(log.durable_index(), 0, "nothing says yet that a snapshot stands for it");
        log.durable(30);
        assert_eq!(log.durable_index(), 9);
    }

    #[test]
    fn equal_chains_mean_equal_prefixes() {
        let (a, b, c) = (log(&[1, 1, 2]), log(&[1, 1, 2]), log(&[1, 2, 2]));
        assert_eq!(a.chain_at(3), b.chain_at(3));
        assert_ne!(a.chain_at(3), c.chain_at(3), "an earlier entry differs");
        assert_eq!(a.chain_at(1), c.chain_at(1));
        let with = |payload| chain_after(7, &Entry { id: LogId { index: 1, term: 1 }, payload });
        assert_ne!(with(Payload::Noop), with(Payload::Command([].into())));
    }

    #[test]
    fn a_slice_keeps_to_its_budget_but_never_starves() {
        let mut log = RaftLog::default();
        for index in 1..=4 {
            let payload = Payload::Command(vec![0; 100].into());
            log.append(Entry { id: LogId { index, term: 1 }, payload }, index);
        }
        let slice = |from, message_bytes, inline_bytes, payload_bytes| {
            let bounds = AppendBounds {
                message_bytes,
                entry_overhead: 10,
                inline_bytes,
                inflight_messages: 1,
                inflight_bytes: 0,
            };
            log.slice(from, &bounds, payload_bytes).len()
        };
        assert_eq!([0, 1, 4, 9].map(|index| log.bytes_after(index)), [400, 300, 0, 0]);
        assert_eq!(slice(1, 330, 100, 1000), 3);
        assert_eq!(slice(1, 329, 100, 1000), 2);
        assert_eq!(slice(3, 10, 100, 1000), 1);
        assert_eq!(slice(5, 1000, 100, 1000), 0);
        assert_eq!(slice(1, 4 * (10 + REFERENCE_BYTES), 99, 1000), 4, "by reference");
        assert_eq!(slice(1, 4 * (10 + REFERENCE_BYTES) - 1, 99, 1000), 3);
        assert_eq!(
            [300, 299, 0].map(|left| slice(1, 1000, 100, left)),
            [3, 2, 1],
            "what is left of the window"
        );
        let all = AppendBounds {
            message_bytes: 1000,
            entry_overhead: 10,
            inline_bytes: 100,
            inflight_messages: 1,
            inflight_bytes: 0,
        };
        let indexes: Vec<Index> = log.slice(2, &all, 1000).iter().map(|entry| entry.id.index).collect();
        assert_eq!(indexes, [2, 3, 4]);
        assert_eq!(log.bytes(), 400);
        log.truncate(3);
        assert_eq!(log.bytes(), 300);
        log.compact(2);
        assert_eq!(log.bytes(), 100);
    }
}
