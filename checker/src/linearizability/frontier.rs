//! Configurations of a search, and of many the few of which none makes another needless.
//! How one becomes another is `search`'s business.

use std::cmp::Reverse;
use std::rc::Rc;

use crate::hash::FastMap;

/// What has happened so far in one attempt to order the history.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    /// Number of the state.
    pub(super) state: u32,
    /// Event at which the last overwriting operation was placed; 0 if there is none. What was called before it can still be placed
    /// just before it, without a trace.
    pub(super) last: u32,
    /// Open operations with known outcomes that have taken effect, by slot.
    pub(super) done: u128,
    /// Open plain writes with known outcomes that were called before `last`, by slot: those that are still to be done can be done at
    /// any moment, without a trace.
    pub(super) free: u128,
    /// An operation that overwrites was placed in the extension that is being made.
    pub(super) late: bool,
    /// Indeterminate operations that have taken effect.
    pub(super) used: Rc<Used>,
    /// The last step of its path, if paths are kept.
    pub(super) path: u32,
}

/// How often indeterminate operations of each class have taken effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// In all.
    pub(super) all: Box<[u32]>,
    /// Those that must have been called before the last overwriting operation was placed.
    pub(super) before_last: Box<[u32]>,
    /// Sum of `all`.
    pub(super) total: u32,
    /// Classes of which more have taken effect than there were.
    pub(super) overdrawn: Vec<u32>,
}

impl Configuration {
    /// Less is better: fewer classes overdrawn, fewer indeterminate operations.
    pub(super) fn cost(&self) -> (usize, u32) {
        (self.used.overdrawn.len(), self.used.total)
    }
}

/// Which indeterminate operations are counted, and how many of a class had been called before an event.
pub(super) struct Supply {
    /// Events of the calls, by class, ascending.
    pub(super) calls: Vec<Vec<u32>>,
    /// Classes whose number matters; operations of the others can be used again and again.
    pub(super) counted: Vec<usize>,
    /// What an attempt is after.
    pub(super) goal: Goal,
}

/// What an attempt is after, and so what it may overlook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// An order: nothing is used too often, and few indeterminate operations are better than many of any kind. That it finds none
    /// proves nothing.
    Order,
    /// That there is none: what is not counted may be used too often. That it finds one proves nothing.
    Proof,
}

impl Supply {
    /// Operations of the class that were called before the event.
    pub(super) fn before(&self, class: usize, event: u32) -> u32 {
        self.calls[class].partition_point(|call| *call < event) as u32
    }

    /// Whether whatever can follow on `b` can follow on `a` too, given that the state and the mutations done are the same, but for
    /// reads and plain writes: `a` may still have to do a write that `b` has done, if it can do it without a trace.
    fn covers(&self, a: &Configuration, b: &Configuration, writes: u128) -> bool {
        let free = |c: &Configuration, class: usize| {
            i64::from(self.before(class, c.last)) - i64::from(c.used.before_last[class])
        };
        b.done & !a.done & !a.free == 0
            && a.done & !b.done & writes == 0
            && a.last >= b.last
            && (!a.late || b.late)
            && match self.goal {
                Goal::Order => a.used.total <= b.used.total,
                Goal::Proof => self.counted.iter().all(|class| {
                    a.used.all[*class] <= b.used.all[*class] && free(a, *class) >= free(b, *class)
                }),
            }
    }
}

/// Slots of open operations with known outcomes, by what they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slots {
    pub(super) reads: u128,
    /// Those that overwrite.
    pub(super) writes: u128,
}

impl Slots {
    /// Those but these.
    pub(super) fn without(self, slots: u128) -> Slots {
        Slots { reads: self.reads & !slots, writes: self.writes & !slots }
    }
}

/// Configurations of which none makes another needless.
pub(super) struct Frontier {
    pub(super) all: Vec<Option<Configuration>>,
    by_key: FastMap<(u32, u128), Vec<usize>>,
    pub(super) alive: usize,
}

impl Frontier {
    pub(super) fn new() -> Self {
        Frontier { all: Vec::new(), by_key: FastMap::default(), alive: 0 }
    }

    /// Adds a configuration unless another is at least as good. Returns its place.
    pub(super) fn insert(&mut self, new: Configuration, open: Slots, supply: &Supply) -> Option<usize> {
        let places = self.by_key.entry((new.state, new.done & !open.reads & !open.writes)).or_default();
        let better = |a: &Configuration, b: &Configuration| {
            supply.covers(a, b, open.writes) && (a.cost() <= b.cost() || !supply.covers(b, a, open.writes))
        };
        if places.iter().any(|i| self.all[*i].as_ref().is_some_and(|old| better(old, &new))) {
            return None;
        }
        let all = &mut self.all;
        let alive = &mut self.alive;
        places.retain(|i| {
            let needless = all[*i].as_ref().is_some_and(|old| better(&new, old));
            if needless {
                all[*i] = None;
                *alive -= 1;
            }
            !needless
        });
        places.push(all.len());
        all.push(Some(new));
        *alive += 1;
        Some(all.len() - 1)
    }

    /// Those that are left, cheapest first; of equal ones those that have more behind them, and more in hand.
    pub(super) fn cheapest_first(self, open: Slots) -> Vec<Configuration> {
        let mut left: Vec<Configuration> = self.all.into_iter().flatten().collect();
        left.sort_by_cached_key(|c| {
            (c.cost(), Reverse((c.done & !open.writes).count_ones()), (c.done & open.writes).count_ones())
        });
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_two_stays_and_what_cannot_be_compared_stays_too() {
        let supply = Supply { calls: vec![vec![1, 5], vec![2]], counted: vec![0], goal: Goal::Proof };
        let configuration = |done, last, all: [u32; 2], before_last: [u32; 2]| Configuration {
            state: 0,
            last,
            done,
            free: 0,
            late: false,
            used: Rc::new(Used {
                total: all.iter().sum(),
                all: all.into(),
                before_last: before_last.into(),
                overdrawn: Vec::new(),
            }),
            path: 0,
        };
        let open = Slots { reads: 0b11, writes: 0b11000 };
        let kept = |configurations: &[Configuration]| {
            let mut frontier = Frontier::new();
            for configuration in configurations {
                frontier.insert(configuration.clone(), open, &supply);
            }
            let kept = frontier.cheapest_first(open);
            kept.iter().map(|c| (c.done, c.last, c.used.all[0], c.used.all[1])).collect::<Vec<_>>()
        };
        let plain = configuration(0b01, 3, [0, 0], [0, 0]);
        assert_eq!(kept(&[plain.clone(), configuration(0b11, 3, [0, 0], [0, 0])]), [(0b11, 3, 0, 0)]);
        assert_eq!(kept(&[configuration(0b11, 3, [0, 0], [0, 0]), plain.clone()]), [(0b11, 3, 0, 0)]);
        assert_eq!(kept(&[plain.clone(), configuration(0b10, 3, [0, 0], [0, 0])]).len(), 2, "other reads");
        assert_eq!(kept(&[plain.clone(), configuration(0b101, 3, [0, 0], [0, 0])]).len(), 2, "a mutation");
        assert_eq!(kept(&[plain.clone(), configuration(0b01, 4, [0, 0], [0, 0])]), [(1, 4, 0, 0)]);
        assert_eq!(
            kept(&[plain.clone(), configuration(0b11, 3, [1, 0], [0, 0])]).len(),
            2,
            "costs a counted"
        );
        assert_eq!(kept(&[plain.clone(), configuration(0b11, 3, [0, 9], [0, 9])]), [(0b11, 3, 0, 9)]);
        assert_eq!(kept(&[plain.clone(), configuration(0b01, 3, [0, 9], [0, 9])]), [(1, 3, 0, 0)]);
        let full = configuration(0b01, 3, [0, 0], [1, 0]);
        assert_eq!(kept(&[full, plain.clone()]), [(1, 3, 0, 0)], "more can still be hidden");
        let written = configuration(0b1001, 3, [0, 0], [0, 0]);
        assert_eq!(
            kept(&[written.clone(), plain.clone()]).len(),
            2,
            "the write of the second leaves a trace"
        );
        let free = Configuration { free: 0b1000, ..plain.clone() };
        assert_eq!(kept(&[written.clone(), free.clone()]), [(1, 3, 0, 0)]);
        assert_eq!(kept(&[free.clone(), written]), [(1, 3, 0, 0)]);
        assert_eq!(kept(&[free, configuration(0b10001, 3, [0, 0], [0, 0])]).len(), 2, "another write");
        let late = Configuration { late: true, done: 0b11, ..plain.clone() };
        assert_eq!(kept(&[late, plain]).len(), 2);
    }
}
