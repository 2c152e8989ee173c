//! One node as its trace tells it: log, term, vote, role, and what of them is durable. Judges nothing; each property reads here.
//!
//! Records are pending until a `durable` covers them. A process that is killed leaves some prefix of its pending records
//! behind: `boot` is matched against all of them, so an unsynced truncation may come back and an unsynced entry may go.

use std::collections::{BTreeMap, VecDeque};

use crate::trace::{Event, Index, Lsn, NodeId, Role, Term};

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    /// Chain at it; unknown in what a first `boot` found.
    pub(crate) chain: Option<u64>,
    /// Record that carries it; 0 if it was recovered.
    pub(crate) lsn: Lsn,
}

#[derive(Clone, Copy, Debug)]
enum Record {
    HardState { term: Term, voted_for: Option<NodeId> },
    Truncate { last_index: Index },
    Entry { index: Index, entry: Entry },
    Install { last_index: Index, entry: Entry },
}

/// A log of which a snapshot stands for everything but the last entry.
fn installed(last_index: Index, entry: Entry) -> Vec<Entry> {
    let unknown = Entry { term: 0, chain: None, lsn: entry.lsn };
    let mut log = vec![unknown; usize::try_from(last_index.saturating_sub(1)).unwrap_or(0)];
    log.push(entry);
    log
}

/// Term and vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HardState {
    pub(crate) term: Term,
    pub(crate) voted_for: Option<NodeId>,
}

/// A node.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// The log in memory; index 1 is at 0.
    pub(crate) log: Vec<Entry>,
    /// Term and vote in memory.
    pub(crate) hard_state: HardState,
    /// Term and vote that survive power loss.
    pub(crate) durable_hard_state: HardState,
    /// Every vote that survives power loss, by term.
    pub(crate) durable_votes: BTreeMap<Term, NodeId>,
    pub(crate) durable_lsn: Lsn,
    pub(crate) role: Option<Role>,
    /// Term of the role.
    pub(crate) role_term: Term,
    pub(crate) commit_index: Index,
    pub(crate) last_applied: Index,

    /// Whether the trace has shown an incarnation.
    booted: bool,
    incarnation: u64,
    directory: u64,
    durable_log: Vec<Entry>,
    pending: VecDeque<(Lsn, Record)>,
    last_lsn: Lsn,
}

/// What one event changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Before the event.
    pub(crate) hard_state: HardState,
    /// Survived until the event.
    pub(crate) durable_hard_state: HardState,
    pub(crate) commit_index: Index,
    pub(crate) last_applied: Index,
    /// Entries that were in the log and are not in it any more.
    pub(crate) discarded: u64,
    /// An `append` begins behind the end of the log: first missing index.
    pub(crate) hole: Option<Index>,
    /// A `boot` that fits nothing that the process can have left behind.
    pub(crate) lost: Option<LostLog>,
    /// A `boot` that is not the first of the trace.
    pub(crate) restart: bool,
}

/// What a recovered log lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LostLog {
    /// The first durable entry that is gone or changed.
    pub(crate) index: Index,
    /// Its term.
    pub(crate) term: Term,
    /// Where the recovered log ends.
    pub(crate) recovered: Index,
}

impl Replay {
    /// The entry at an index.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    /// Takes one event in.
    pub(crate) fn step(&mut self, event: &Event) -> Step {
        let mut step = Step {
            hard_state: self.hard_state,
            durable_hard_state: self.durable_hard_state,
            commit_index: self.commit_index,
            last_applied: self.last_applied,
            ..Step::default()
        };
        match event {
            Event::Boot { .. } => self.boot(event, &mut step),
            Event::HardState { lsn, term, voted_for } => {
                self.hard_state = HardState { term: *term, voted_for: *voted_for };
                self.record(*lsn, Record::HardState { term: *term, voted_for: *voted_for });
            }
            Event::Truncate { lsn, last_index } => {
                step.discarded = self.cut(*last_index);
                self.record(*lsn, Record::Truncate { last_index: *last_index });
            }
            Event::Append { lsn, prev_index, term, chains } => {
                if *prev_index > self.log.len() as u64 {
                    step.hole = Some(self.log.len() as u64 + 1);
                    return step;
                }
                // The format wants a truncation of its own; an append that implies one is followed all the same.
                step.discarded = self.cut(*prev_index);
                for (i, chain) in chains.iter().enumerate() {
                    let entry = Entry { term: *term, chain: Some(*chain), lsn: lsn + i as u64 };
                    self.log.push(entry);
                    self.record(entry.lsn, Record::Entry { index: self.log.len() as u64, entry });
                }
            }
            Event::Install { lsn, last_index, term, chain, kept } => {
                if !kept {
                    let entry = Entry { term: *term, chain: Some(*chain), lsn: *lsn };
                    let before = std::mem::replace(&mut self.log, installed(*last_index, entry));
                    // What was there already and equal, because it was committed or this term's leader sent it, is as durable as it
                    // was, whether or not the record of the snapshot survives.
                    let of_leader = before.iter().rposition(|old| old.term == self.hard_state.term);
                    let equal = of_leader.map_or(0, |at| at + 1).max(self.commit_index as usize);
                    for (entry, old) in self.log.iter_mut().zip(&before[..equal.min(before.len())]) {
                        entry.lsn = old.lsn;
                    }
                    self.record(*lsn, Record::Install { last_index: *last_index, entry });
                }
                self.commit_index = *last_index;
                self.last_applied = *last_index;
            }
            Event::Durable { lsn } => self.durable(*lsn),
            Event::Damage {} => self.owe_nothing(),
            Event::Role { role, term } => {
                self.role = Some(*role);
                self.role_term = *term;
            }
            Event::Commit { commit_index, .. } => self.commit_index = *commit_index,
            Event::Apply { last_index, .. } => self.last_applied = *last_index,
            Event::VoteSent { .. }
            | Event::AppendAckSent { .. }
            | Event::State { .. }
            | Event::Planted { .. } => {}
        }
        step
    }

    /// Whatever the next start finds was not promised. Votes stay: who voted may not vote otherwise, whatever he remembers.
    fn owe_nothing(&mut self) {
        self.durable_log.clear();
        self.pending.clear();
        self.booted = false;
    }

    fn cut(&mut self, last_index: Index) -> u64 {
        let before = self.log.len();
        self.log.truncate(usize::try_from(last_index).unwrap_or(usize::MAX));
        (before - self.log.len()) as u64
    }

    fn record(&mut self, lsn: Lsn, record: Record) {
        self.last_lsn = self.last_lsn.max(lsn);
        self.pending.push_back((lsn, record));
        // The disk may have been faster than the one who writes the trace.
        self.durable(self.durable_lsn);
    }

    fn durable(&mut self, lsn: Lsn) {
        self.durable_lsn = self.durable_lsn.max(lsn);
        while let Some((_, record)) = self.pending.pop_front_if(|(at, _)| *at <= lsn) {
            match record {
                Record::HardState { term, voted_for } => {
                    self.durable_hard_state = HardState { term, voted_for };
                    if let Some(vote) = voted_for {
                        self.durable_votes.insert(term, vote);
                    }
                }
                Record::Truncate { last_index } => self.durable_log.truncate(last_index as usize),
                Record::Install { last_index, entry } => self.durable_log = installed(last_index, entry),
                Record::Entry { index, entry } => {
                    self.durable_log.truncate(index as usize - 1);
                    self.durable_log.push(entry);
                }
            }
        }
    }

    fn boot(&mut self, event: &Event, step: &mut Step) {
        let Event::Boot {
            incarnation,
            term,
            voted_for,
            last_index,
            chain,
            terms,
            lsn,
            directory,
            snapshot_index,
            ..
        } = event
        else {
            return;
        };
        if self.directory != *directory {
            // Made anew: what the one before it held is gone with it, and this one never promised it.
            self.owe_nothing();
            self.directory = *directory;
        }
        step.restart = self.booted;
        // Before it a snapshot stands for the log: its entries were committed, and have no terms to compare any more.
        let first_told = terms.first().map_or(1, |run| run.first_index);
        let term_of =
            |index: Index| terms.iter().rev().find(|run| run.first_index <= index).map_or(0, |run| run.term);
        let recovered = match self.surviving(*last_index, *chain) {
            Some(log) => log,
            None => {
                // Each start writes a record of its own. If there were more records than the trace tells, its last
                // lines were lost with the process, and only what was durable can be judged.
                let starts = incarnation.saturating_sub(self.incarnation);
                let told = lsn.saturating_sub(starts) <= self.last_lsn;
                let same = |(entry, index): &(&Entry, Index)| {
                    *index < first_told || (*index <= *last_index && entry.term == term_of(*index))
                };
                let kept = self.durable_log.iter().zip(1..).take_while(same).count();
                // Behind all durable entries may stand one that the trace did not live to tell. In their place it may not: if
                // the log ends where they do and only the chain differs, the last one is as good as any to name.
                let changed = kept == self.durable_log.len() && *last_index == kept as u64;
                let first_gone = if changed { kept.saturating_sub(1) } else { kept };
                if let (true, true, Some(gone)) = (self.booted, told, self.durable_log.get(first_gone)) {
                    let index = first_gone as u64 + 1;
                    step.lost = Some(LostLog { index, term: gone.term, recovered: *last_index });
                }
                let mut log = self.durable_log[..kept].to_vec();
                log.extend((kept as u64 + 1..=*last_index).map(|i| Entry {
                    term: term_of(i),
                    chain: None,
                    lsn: 0,
                }));
                if let Some(last) = log.last_mut() {
                    last.chain = Some(*chain);
                }
                log
            }
        };
        self.log = recovered;
        for entry in &mut self.log {
            entry.lsn = 0;
        }
        self.durable_log.clone_from(&self.log);
        self.pending.clear();
        self.hard_state = HardState { term: *term, voted_for: *voted_for };
        self.durable_hard_state = self.hard_state;
        if let Some(vote) = voted_for {
            self.durable_votes.insert(*term, *vote);
        }
        self.durable_lsn = *lsn;
        self.last_lsn = *lsn;
        self.incarnation = *incarnation;
        self.role = None;
        self.role_term = 0;
        self.commit_index = *snapshot_index;
        self.last_applied = *snapshot_index;
        self.booted = true;
    }

    /// The log that the durable records and some prefix of the pending ones leave, if one of them ends like this.
    fn surviving(&self, last_index: Index, chain: u64) -> Option<Vec<Entry>> {
        let mut kept = self.durable_log.len();
        let mut extra: Vec<Entry> = Vec::new();
        let matches = |kept: usize, extra: &[Entry]| {
            let last = extra.last().or_else(|| kept.checked_sub(1).map(|i| &self.durable_log[i]));
            (kept + extra.len()) as u64 == last_index
                && last.is_none_or(|entry| entry.chain.is_none_or(|known| known == chain))
        };
        let mut found = matches(kept, &extra).then(|| (kept, extra.clone()));
        for (_, record) in &self.pending {
            if found.is_some() {
                break;
            }
            let keep = match record {
                Record::HardState { .. } => continue,
                Record::Install { .. } => 0,
                Record::Truncate { last_index } => *last_index as usize,
                Record::Entry { index, .. } => *index as usize - 1,
            };
            extra.truncate(keep.saturating_sub(kept));
            kept = kept.min(keep);
            match record {
                Record::Entry { entry, .. } => extra.push(*entry),
                Record::Install { last_index, entry } => extra = installed(*last_index, *entry),
                Record::HardState { .. } | Record::Truncate { .. } => {}
            }
            if matches(kept, &extra) {
                found = Some((kept, extra.clone()));
            }
        }
        let (kept, extra) = found?;
        Some(self.durable_log[..kept].iter().chain(&extra).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, boot, hard_state};
    use super::*;
    use crate::trace::TermRun;

    fn replay(events: &[Event]) -> (Replay, Step) {
        let mut replay = Replay::default();
        let mut step = Step::default();
        for event in events {
            step = replay.step(event);
        }
        (replay, step)
    }

    fn chains(replay: &Replay) -> Vec<Option<u64>> {
        replay.log.iter().map(|entry| entry.chain).collect()
    }

    #[test]
    fn a_killed_process_leaves_any_prefix_of_its_pending_records() {
        let before = [
            boot(0, None, &[], 1),
            append(2, 0, 1, &[11, 12, 13]),
            Event::Durable { lsn: 4 },
            hard_state(5, 2, None),
            Event::Truncate { lsn: 6, last_index: 1 },
            append(7, 1, 2, &[22, 23]),
        ];
        let (undisturbed, _) = replay(&before);
        assert_eq!(chains(&undisturbed), [Some(11), Some(22), Some(23)]);
        for log in
            [&[(1, 11), (1, 12), (1, 13)][..], &[(1, 11)], &[(1, 11), (2, 22)], &[(1, 11), (2, 22), (2, 23)]]
        {
            let (after, step) = replay(&[&before[..], &[boot(1, None, log, 5)]].concat());
            assert_eq!(step.lost, None, "{log:?}");
            assert_eq!(chains(&after), log.iter().map(|(_, chain)| Some(*chain)).collect::<Vec<_>>());
            assert!(after.log.iter().all(|entry| entry.lsn == 0));
        }
        for (log, index) in [(&[][..], 1), (&[(1, 11), (1, 12)][..], 3), (&[(1, 11), (1, 12), (1, 99)], 3)] {
            let (_, step) = replay(&[&before[..], &[boot(1, None, log, 5)]].concat());
            assert_eq!(step.lost.map(|lost| lost.index), Some(index), "{log:?}");
        }
    }

    #[test]
    fn records_that_the_trace_lost_with_the_process_are_no_lost_entries() {
        let before = [boot(0, None, &[], 1), append(2, 0, 1, &[11]), Event::Durable { lsn: 2 }];
        let longer = [(1, 11), (1, 12)];
        let (after, step) = replay(&[&before[..], &[boot(0, None, &longer, 9)]].concat());
        assert_eq!(step.lost, None);
        assert_eq!(chains(&after), [Some(11), Some(12)]);
        let changed = [(1, 99)];
        let (_, step) = replay(&[&before[..], &[boot(0, None, &changed, 2)]].concat());
        assert_eq!(step.lost.map(|lost| (lost.index, lost.recovered)), Some((1, 1)));
        let (_, step) = replay(&[&before[..], &[boot(0, None, &changed, 9)]].concat());
        assert_eq!(step.lost, None);
    }

    /// A restart from a snapshot at 2, with the log from there on.
    fn from_snapshot(directory: u64, log: &[(u64, u64)]) -> Event {
        let Event::Boot { node, last_index, chain, mut terms, .. } = boot(2, None, log, 9) else {
            unreachable!("boot makes a boot")
        };
        terms.retain(|run| run.first_index > 2);
        terms.insert(0, TermRun { first_index: 2, term: log[1].0 });
        let (incarnation, snapshot_index) = (2, 2);
        Event::Boot {
            node,
            incarnation,
            term: 2,
            voted_for: None,
            last_index,
            chain,
            terms,
            lsn: 6,
            directory,
            snapshot_index,
        }
    }

    #[test]
    fn a_log_that_begins_after_a_snapshot_is_not_lost_before_it() {
        let before = [boot(0, None, &[], 1), append(2, 0, 1, &[11, 12, 13, 14]), Event::Durable { lsn: 9 }];
        let (after, step) =
            replay(&[&before[..], &[from_snapshot(0, &[(1, 11), (1, 12), (1, 13), (1, 14)])]].concat());
        assert_eq!((step.lost, after.commit_index, after.last_applied), (None, 2, 2));
        let (_, step) = replay(&[&before[..], &[from_snapshot(0, &[(1, 11), (1, 12), (2, 23)])]].concat());
        assert_eq!(step.lost.map(|lost| lost.index), Some(3));
    }

    #[test]
    fn a_directory_made_anew_owes_nothing() {
        let before = [boot(0, None, &[], 1), append(2, 0, 1, &[11]), Event::Durable { lsn: 9 }];
        let Event::Boot { node, incarnation, term, voted_for, last_index, chain, terms, lsn, .. } =
            boot(0, None, &[], 1)
        else {
            unreachable!("boot makes a boot")
        };
        let anew = |directory| Event::Boot {
            node,
            incarnation,
            term,
            voted_for,
            last_index,
            chain,
            terms: terms.clone(),
            lsn,
            directory,
            snapshot_index: 0,
        };
        let (after, step) = replay(&[&before[..], &[anew(7)]].concat());
        assert_eq!((step.lost, step.restart, after.log.len()), (None, false, 0));
        let (_, step) = replay(&[&before[..], &[anew(0)]].concat());
        assert_eq!((step.lost.map(|lost| lost.index), step.restart), (Some(1), true), "the same directory");
    }

    #[test]
    fn a_damaged_disk_owes_nothing_but_its_votes() {
        let before = [
            boot(0, None, &[], 1),
            append(2, 0, 1, &[11]),
            hard_state(3, 1, Some(2)),
            Event::Durable { lsn: 9 },
        ];
        let restart = boot(0, None, &[], 4);
        let (after, step) = replay(&[&before[..], &[Event::Damage {}, restart.clone()]].concat());
        assert_eq!((step.lost, step.restart, after.log.len()), (None, false, 0));
        assert_eq!(after.durable_votes.get(&1), Some(&2));
        // Once, not for ever.
        let again = [append(5, 0, 2, &[21]), Event::Durable { lsn: 5 }, restart];
        let (_, step) = replay(&[&before[..], &[Event::Damage {}, boot(0, None, &[], 4)], &again].concat());
        assert_eq!(step.lost.map(|lost| lost.index), Some(1));
    }

    #[test]
    fn an_installed_snapshot_replaces_the_log_once_it_is_durable() {
        let before = [boot(0, None, &[], 1), append(2, 0, 1, &[11]), Event::Durable { lsn: 2 }];
        let install = |kept| Event::Install { lsn: 3, last_index: 5, term: 2, chain: 25, kept };
        let (after, _) = replay(&[&before[..], &[install(false), append(4, 5, 2, &[26])]].concat());
        assert_eq!(chains(&after), [None, None, None, None, Some(25), Some(26)]);
        assert_eq!((after.commit_index, after.last_applied), (5, 5));
        let restart = |durable, log: &[(u64, u64)]| {
            let events = [install(false), Event::Durable { lsn: durable }, boot(2, None, log, 3)];
            replay(&[&before[..], &events].concat()).1.lost.map(|lost| lost.index)
        };
        assert_eq!(restart(2, &[(1, 11)]), None, "the record may be lost while it is not durable");
        assert_eq!(restart(3, &[(1, 1), (1, 2), (1, 3), (1, 4), (2, 25)]), None);
        assert!(restart(3, &[(1, 11)]).is_some());
    }
}
