//! A log as recovery finds it: entries, entries of which only the identity is left, and places where nothing is known.
//! Which records are missing, and what that costs, is left to [`super::recovery`].

use crate::raft::types::{Entry, Index, LogId};

/// Unknown places that are kept apart between known ones. More than this, and nothing of the log is held to be known: no
/// claim of a file makes recovery reserve memory without bound.
const FILL_MAX: Index = 1 << 20;

/// One place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The entry.
    Entry(Entry),
    /// An entry whose content is lost. Those who have it know it by this.
    Faulty(LogId),
    /// Something was here.
    Missing,
}

impl Slot {
    fn id(&self) -> Option<LogId> {
        match self {
            Slot::Entry(entry) => Some(entry.id),
            Slot::Faulty(id) => Some(*id),
            Slot::Missing => None,
        }
    }
}

/// The log from the entry after `base` on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    base: LogId,
    /// Places after `base` of which nothing is known: entries of segments that are gone.
    absent: Index,
    slots: Vec<Slot>,
}

impl Slots {
    /// A log that begins after `base`, of which nothing is known up to `last_index`.
    pub fn unknown(base: LogId, last_index: Index) -> Slots {
        Slots { base, absent: last_index.saturating_sub(base.index), slots: Vec::new() }
    }

    /// The entry after which the log begins.
    pub fn base(&self) -> LogId {
        self.base
    }

    /// The last place, that of the base if there is none.
    pub fn last_index(&self) -> Index {
        self.base.index + self.absent + self.slots.len() as Index
    }

    /// The identity of the entry at `index`, if it is known.
    pub fn id(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        let at = index.checked_sub(self.base.index + self.absent + 1)?;
        self.slots.get(usize::try_from(at).ok()?).and_then(Slot::id)
    }

    /// Adds one place.
    pub fn push(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    /// Takes away every place after `last_index`.
    pub fn truncate(&mut self, last_index: Index) {
        let kept = last_index.saturating_sub(self.base.index);
        self.slots.truncate(kept.saturating_sub(self.absent) as usize);
        self.absent = self.absent.min(kept);
    }

    /// Adds unknown places up to `last_index`, if it ends before.
    pub fn fill(&mut self, last_index: Index) {
        let missing = last_index.saturating_sub(self.last_index());
        if missing > FILL_MAX || self.slots.is_empty() {
            self.absent += self.slots.len() as Index + missing;
            self.slots.clear();
        } else {
            self.slots.extend(std::iter::repeat_n(Slot::Missing, missing as usize));
        }
    }

    /// Says of an unknown last place what it was.
    pub fn name_last(&mut self, id: LogId) {
        if self.slots.is_empty() && self.absent > 0 {
            self.absent -= 1;
            self.slots.push(Slot::Missing);
        }
        if let Some(last @ Slot::Missing) = self.slots.last_mut() {
            *last = Slot::Faulty(id);
        }
    }

    /// Lets the log begin after `base`: what it holds up to there goes, and everything if it ends before, or if `clears`.
    pub fn rebase(&mut self, base: LogId, clears: bool) {
        if clears || base.index > self.last_index() {
            *self = Slots { base, absent: 0, slots: Vec::new() };
            return;
        }
        let dropped = base.index.saturating_sub(self.base.index);
        self.slots.drain(..dropped.saturating_sub(self.absent) as usize);
        self.absent = self.absent.saturating_sub(dropped);
        self.base = base;
    }

    /// The identity of the last place, if it is known.
    pub fn last(&self) -> Option<LogId> {
        self.id(self.last_index())
    }

    /// The first place whose content is not there, and its identity if that is known; `None` if the log is whole.
    pub fn first_fault(&self) -> Option<(Index, Option<LogId>)> {
        if self.absent > 0 {
            return Some((self.base.index + 1, None));
        }
        let at = self.slots.iter().position(|slot| !matches!(slot, Slot::Entry(_)))?;
        Some((self.base.index + 1 + at as Index, self.slots[at].id()))
    }

    /// The entries before the first fault.
    pub fn into_entries(self) -> Vec<Entry> {
        if self.absent > 0 {
            return Vec::new();
        }
        let mut entries = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let Slot::Entry(entry) = slot else { break };
            entries.push(entry);
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Payload;

    fn id(index: Index, term: u64) -> LogId {
        LogId { index, term }
    }

    fn entry(index: Index) -> Slot {
        Slot::Entry(Entry { id: id(index, 1), payload: Payload::Noop })
    }

    /// Base at 10, nothing known of 11 and 12, then `.` an entry, `x` one with an identity alone, `?` nothing.
    fn slots(text: &str) -> Slots {
        let mut slots = Slots::unknown(id(10, 1), 12);
        for (index, letter) in (13..).zip(text.chars()) {
            slots.push(match letter {
                '.' => entry(index),
                'x' => Slot::Faulty(id(index, 1)),
                _ => Slot::Missing,
            });
        }
        slots
    }

    #[test]
    fn places_go_and_come_at_the_end() {
        for last_index in 10..=16 {
            let mut cut = slots("..x.");
            cut.truncate(last_index);
            assert_eq!(cut.last_index(), last_index);
            cut.fill(16);
            assert_eq!(cut.last_index(), 16);
            assert_eq!(cut.last(), (last_index == 16).then_some(id(16, 1)));
            cut.name_last(id(16, 1));
            assert_eq!((cut.last(), cut.last_index()), (Some(id(16, 1)), 16));
            assert_eq!(cut.id(10), Some(id(10, 1)));
        }
        let mut named = slots(".");
        named.name_last(id(13, 9));
        assert_eq!(named, slots("."), "what is known stays");
    }

    #[test]
    fn a_base_takes_what_is_before_it() {
        for base in 10..=16 {
            let mut log = slots("..x.");
            log.rebase(id(base, 1), false);
            assert_eq!((log.base(), log.last_index()), (id(base, 1), 16));
            let fault = (base < 12).then_some((base + 1, None));
            let fault = fault.or((base < 15).then_some((15, Some(id(15, 1)))));
            assert_eq!(log.first_fault(), fault, "base {base}");
            let entries = log.into_entries().len() as u64;
            assert_eq!(
                entries,
                if base < 12 {
                    0
                } else if base < 15 {
                    14 - base
                } else {
                    16 - base
                }
            );
        }
        for (base, clears) in [(17, false), (13, true)] {
            let mut log = slots("..x.");
            log.rebase(id(base, 4), clears);
            assert_eq!((log.last_index(), log.last(), log.first_fault()), (base, Some(id(base, 4)), None));
        }
    }
}
