//! What all records of a write-ahead log up to one point add up to, entries aside: first in each segment, so that older
//! segments may go, or be damaged, without taking more with them than the entries in them.
//! When a segment begins, and what is lost with one, is left to [`super::wal`] and [`super::recovery`].
//!
//! The payload of its frame; the frame itself has the last entry of the log.
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | incarnation u64 | |
//! | 8 | term u64, voted_for u64 | 0 is no vote |
//! | 24 | flags u64 | 1 there is a mark, 2 there is a restriction, 4 its last entry is known, 8 its vote is known, 16 made by recovery |
//! | 32 | restriction: last index u64, last term u64 | |
//! | 48 | mark: last index, last term, chain, base index, base term, base chain, each u64 | |
//! | 96 | mark: membership | |

use crate::raft::types::{
    HardState, Incarnation, Index, LogId, NUMBER_MAX, NodeId, Record, Recovering, SnapshotMark, Term,
};

const FIXED_WORDS: usize = 12;
const MARK: u64 = 1;
const RESTRICTS: u64 = 2;
const LAST_KNOWN: u64 = 4;
const VOTE_KNOWN: u64 = 8;
const REPAIRED: u64 = 16;

/// The sum of all records before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The latest boot.
    pub incarnation: Incarnation,
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot mark.
    pub mark: Option<SnapshotMark>,
    /// The restriction, while there is one.
    pub recovering: Option<Recovering>,
    /// The last entry of the log; its base if it is empty.
    pub last: LogId,
    /// Made by recovery: the log up to `last` is what can be read of it, and what else is missing or damaged before this
    /// point is known and accounted for.
    pub repaired: bool,
}

impl Checkpoint {
    /// The entry after which the log begins.
    pub fn base(&self) -> LogId {
        self.mark.as_ref().map_or(LogId::default(), |mark| mark.base)
    }

    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let recovering = self.recovering.unwrap_or(Recovering {
            last: LogId::default(),
            last_known: false,
            vote_known: false,
        });
        let mark = self.mark.clone().unwrap_or_default();
        let flags = [
            flag(self.mark.is_some(), MARK),
            flag(self.recovering.is_some(), RESTRICTS),
            flag(recovering.last_known, LAST_KNOWN),
            flag(recovering.vote_known, VOTE_KNOWN),
            flag(self.repaired, REPAIRED),
        ];
        let words: [u64; FIXED_WORDS] = [
            self.incarnation,
            self.hard_state.term,
            self.hard_state.voted_for.map_or(0, u64::from),
            flags.into_iter().sum(),
            recovering.last.index,
            recovering.last.term,
            mark.last.index,
            mark.last.term,
            mark.chain,
            mark.base.index,
            mark.base.term,
            mark.base_chain,
        ];
        let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        out.extend_from_slice(&mark.membership);
        out
    }

    /// The checkpoint in the payload of a frame that says `last`.
    ///
    /// # Errors
    /// A sentence, if [`Checkpoint::encode`] makes no such payload.
    pub fn decode(last: LogId, payload: &[u8]) -> Result<Checkpoint, String> {
        let Some((fixed, membership)) = payload.split_first_chunk::<{ FIXED_WORDS * 8 }>() else {
            return Err(format!("a checkpoint of {} bytes", payload.len()));
        };
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&fixed[at * 8..at * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        let id = |at: usize| LogId { index: word(at), term: word(at + 1) };
        let flags = word(3);
        let voted_for = NodeId::try_from(word(2))
            .map_err(|_| format!("a vote for node {}, which no cluster has", word(2)))?;
        let hard_state = HardState { term: word(1), voted_for: Some(voted_for).filter(|node| *node != 0) };
        let mark = SnapshotMark {
            last: id(6),
            chain: word(8),
            base: id(9),
            base_chain: word(11),
            membership: membership.into(),
        };
        let recovering = Recovering {
            last: id(4),
            last_known: flags & LAST_KNOWN != 0,
            vote_known: flags & VOTE_KNOWN != 0,
        };
        let checkpoint = Checkpoint {
            incarnation: word(0),
            hard_state,
            mark: (flags & MARK != 0).then_some(mark),
            recovering: (flags & RESTRICTS != 0).then_some(recovering),
            last,
            repaired: flags & REPAIRED != 0,
        };
        if checkpoint.encode() != payload {
            return Err(format!("a checkpoint with flags {flags:#x} and fields that they do not name"));
        }
        if let Some(at) = [0, 1, 4, 5, 6, 7, 9, 10].into_iter().find(|at| word(*at) > NUMBER_MAX) {
            return Err(format!("a checkpoint with the number {}, at most {NUMBER_MAX}", word(at)));
        }
        let base = checkpoint.base();
        if base.index > last.index
            || checkpoint.mark.as_ref().is_some_and(|mark| mark.base.index > mark.last.index)
        {
            return Err(format!("a checkpoint of a log that begins after {base} and ends at {last}"));
        }
        Ok(checkpoint)
    }
}

/// A checkpoint that grows with each record, and knows the term of every entry of the log.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    checkpoint: Checkpoint,
    /// From which index on entries have which term, ascending by index. Few, since terms change with leaders.
    runs: Vec<(Index, Term)>,
}

impl Sum {
    /// The sum that `checkpoint` says, of a log with these entries.
    pub fn new(checkpoint: Checkpoint, entries: impl IntoIterator<Item = LogId>) -> Sum {
        let last = checkpoint.last;
        let mut sum = Sum { checkpoint, runs: Vec::new() };
        sum.checkpoint.last = sum.checkpoint.base();
        entries.into_iter().for_each(|id| sum.push(id));
        assert!(sum.checkpoint.last == last, "a log that ends at {}, expected {last}", sum.checkpoint.last);
        sum
    }

    /// What it comes to.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Adds one record. Returns whether it is a snapshot mark after which the log is empty.
    ///
    /// The caller keeps the log in order: entries follow each other, no truncation or mark goes back behind the base.
    pub fn add(&mut self, record: &Record) -> bool {
        let (base, last) = (self.checkpoint.base(), self.checkpoint.last);
        match record {
            Record::Boot { incarnation } => self.checkpoint.incarnation = *incarnation,
            Record::HardState(hard_state) => self.checkpoint.hard_state = *hard_state,
            Record::Recovering(recovering) => self.checkpoint.recovering = *recovering,
            Record::Entry(entry) => self.push(entry.id),
            Record::Truncate { last_index } => {
                let kept = *last_index;
                assert!(
                    (base.index..=last.index).contains(&kept),
                    "a truncation after index {kept} of a log {base}..{last}"
                );
                self.runs.retain(|(first, _)| *first <= kept);
                self.checkpoint.last = LogId { index: kept, term: self.term_at(kept).unwrap_or(base.term) };
            }
            Record::Snapshot(mark) => {
                assert!(
                    mark.base.index >= base.index,
                    "a log that begins after {}, but began after {base}",
                    mark.base
                );
                let clears = mark.base != base && self.term_at(mark.base.index) != Some(mark.base.term);
                if clears {
                    self.runs.clear();
                    self.checkpoint.last = mark.base;
                }
                // The run that holds the base goes on after it.
                let kept = self.runs.partition_point(|(first, _)| *first <= mark.base.index + 1);
                self.runs.drain(..kept.saturating_sub(1));
                self.checkpoint.mark = Some(mark.clone());
                return clears;
            }
        }
        false
    }

    fn push(&mut self, id: LogId) {
        let last = self.checkpoint.last;
        assert!(id.index == last.index + 1, "entry {id} appended after {last}");
        if self.runs.last().is_none_or(|(_, term)| *term != id.term) {
            self.runs.push((id.index, id.term));
        }
        self.checkpoint.last = id;
    }

    /// Term of an entry that the log holds.
    fn term_at(&self, index: Index) -> Option<Term> {
        let base = self.checkpoint.base();
        if index <= base.index || index > self.checkpoint.last.index {
            return (index == base.index).then_some(base.term);
        }
        let run = self.runs.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        Some(self.runs[run].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Entry, Payload};

    fn id(index: Index, term: Term) -> LogId {
        LogId { index, term }
    }

    fn entry(index: Index, term: Term) -> Record {
        Record::Entry(Entry { id: id(index, term), payload: Payload::Noop })
    }

    fn mark(base: LogId) -> Record {
        Record::Snapshot(SnapshotMark { last: base, base, ..SnapshotMark::default() })
    }

    /// A log of these terms from index 1.
    fn sum(terms: &[Term]) -> Sum {
        let entries = (1..).zip(terms).map(|(index, term)| id(index, *term)).collect::<Vec<_>>();
        Sum::new(Checkpoint { last: *entries.last().unwrap(), ..Checkpoint::default() }, entries)
    }

    #[test]
    fn a_checkpoint_comes_back_with_everything_or_nothing_in_it() {
        let mark = SnapshotMark {
            last: id(9, 3),
            chain: 11,
            base: id(4, 2),
            base_chain: 12,
            membership: [1, 2, 3].as_slice().into(),
        };
        let full = Checkpoint {
            incarnation: 4,
            hard_state: HardState { term: 7, voted_for: Some(2) },
            mark: Some(mark),
            recovering: Some(Recovering { last: id(12, 3), last_known: true, vote_known: false }),
            last: id(10, 3),
            repaired: true,
        };
        for checkpoint in
            [full.clone(), Checkpoint { mark: None, recovering: None, ..full }, Checkpoint::default()]
        {
            assert_eq!(Checkpoint::decode(checkpoint.last, &checkpoint.encode()), Ok(checkpoint));
        }
    }

    #[test]
    fn an_impossible_checkpoint_is_none() {
        let refused = |checkpoint: &Checkpoint, change: fn(&mut Vec<u8>)| {
            let mut bytes = checkpoint.encode();
            change(&mut bytes);
            Checkpoint::decode(checkpoint.last, &bytes).unwrap_err()
        };
        let empty = Checkpoint::default();
        assert!(refused(&empty, |bytes| bytes.truncate(95)).contains("95 bytes"));
        assert!(refused(&empty, |bytes| bytes.push(1)).contains("flags"));
        assert!(refused(&empty, |bytes| bytes[24] = 32).contains("flags"));
        assert!(refused(&empty, |bytes| bytes[23] = 1).contains("no cluster"));
        let behind = Checkpoint {
            mark: Some(SnapshotMark { last: id(5, 1), base: id(5, 1), ..SnapshotMark::default() }),
            ..empty
        };
        assert!(refused(&behind, |_| {}).contains("begins after 5@1 and ends at 0@0"));
    }

    #[test]
    fn a_mark_clears_a_log_that_does_not_hold_its_base() {
        for (base, clears, last) in [
            (id(2, 1), false, id(4, 3)),
            (id(3, 3), false, id(4, 3)),
            (id(4, 3), false, id(4, 3)),
            (id(3, 2), true, id(3, 2)),
            (id(4, 4), true, id(4, 4)),
            (id(9, 3), true, id(9, 3)),
        ] {
            let mut sum = sum(&[1, 1, 3, 3]);
            assert_eq!(sum.add(&mark(base)), clears, "{base}");
            assert_eq!((sum.checkpoint.last, sum.checkpoint.base()), (last, base));
            sum.add(&entry(last.index + 1, 5));
            sum.add(&Record::Truncate { last_index: last.index });
            assert_eq!(sum.checkpoint.last, last, "after {base}");
            assert_eq!(sum.term_at(last.index), Some(last.term));
        }
    }

    #[test]
    fn terms_are_known_across_truncation_and_compaction() {
        let mut sum = sum(&[1, 1, 2, 2, 4]);
        sum.add(&Record::Truncate { last_index: 3 });
        assert_eq!(sum.checkpoint.last, id(3, 2));
        sum.add(&entry(4, 5));
        assert!(!sum.add(&mark(id(2, 1))));
        let terms: Vec<_> = (1..=5).map(|index| sum.term_at(index)).collect();
        assert_eq!(terms, [None, Some(1), Some(2), Some(5), None]);
        assert!(!sum.add(&mark(id(4, 5))));
        sum.add(&Record::Truncate { last_index: 4 });
        assert_eq!(sum.checkpoint.last, id(4, 5));
    }

    #[test]
    #[should_panic(expected = "entry 3@1 appended after 1@1")]
    fn a_gap_between_entries_is_a_broken_invariant() {
        sum(&[1]).add(&entry(3, 1));
    }
}
