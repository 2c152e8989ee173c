//! The general engine: a lazy frontier of configurations over the history in time order, for any model. Sound and complete
//! within its budget. Which histories need it is decided in the module above.
//!
//! It is Lowe's just-in-time linearization ("Testing for linearizability", CCPE 2017) breadth first, with these reductions, each of which
//! loses nothing:
//! an open read is done as soon as the state allows it; indeterminate operations that do the same are counted, not told apart;
//! of two configurations with the same state and the same mutations done, the one with fewer reads done and more
//! indeterminate operations used up is dropped. The frontier is cut to a width that grows from try to try: the end reached
//! is an order found; a frontier that died without a cut is a proof that there is none.

use std::collections::HashMap;
use std::time::Instant;

use super::{Bound, Budget, Op, Spent};
use crate::history::Action;
use crate::model::Model;

/// Operations with known outcomes that may be open at one moment: the bits of a mask.
pub(crate) const OPEN_MAX: u32 = u128::BITS;
/// Widths of the frontier, tried one after the other.
const WIDTHS: [usize; 6] = [8, 64, 512, 4096, 32_768, usize::MAX];
/// Steps between two looks at the clock.
const CLOCK_STEPS: u64 = 4096;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Valid,
    /// No order places this operation, nor any that completed before it, together.
    Invalid {
        stuck: usize,
    },
    Unknown(Spent),
}

enum Try {
    Valid,
    Invalid(usize),
    TooNarrow,
    Spent(Spent),
}

/// What has happened so far in one attempt to order the history.
#[derive(Clone)]
struct Configuration<S> {
    state: S,
    /// Open operations with known outcomes that have taken effect, by slot.
    done: u128,
    /// How many indeterminate operations of each class have.
    used: Box<[u16]>,
}

/// Configurations of which none makes another needless.
struct Frontier<S> {
    all: Vec<Option<Configuration<S>>>,
    by_key: HashMap<(S, u128), Vec<usize>>,
    alive: usize,
}

impl<S: Clone + Eq + std::hash::Hash> Frontier<S> {
    fn new() -> Self {
        Frontier { all: Vec::new(), by_key: HashMap::new(), alive: 0 }
    }

    /// Adds a configuration unless another is at least as good; `reads` are the slots of open reads. Returns its place.
    fn insert(&mut self, new: Configuration<S>, reads: u128) -> Option<usize> {
        let places = self.by_key.entry((new.state.clone(), new.done & !reads)).or_default();
        let covers = |a: &Configuration<S>, b: &Configuration<S>| {
            b.done & !a.done == 0 && a.used.iter().zip(&b.used).all(|(a, b)| a <= b)
        };
        if places.iter().any(|i| self.all[*i].as_ref().is_some_and(|old| covers(old, &new))) {
            return None;
        }
        let all = &mut self.all;
        let alive = &mut self.alive;
        places.retain(|i| {
            let needless = all[*i].as_ref().is_some_and(|old| covers(&new, old));
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
}

/// Searches for an order of `ops`.
pub(crate) fn search<M: Model>(model: &M, ops: &[Op], budget: Budget) -> Answer {
    let mut searcher = Searcher::new(model, ops, budget);
    for width in WIDTHS {
        match searcher.attempt(width) {
            Try::Valid => return Answer::Valid,
            Try::Invalid(stuck) => return Answer::Invalid { stuck },
            Try::Spent(spent) => return Answer::Unknown(spent),
            Try::TooNarrow => {}
        }
    }
    unreachable!("the last width cuts nothing, so its frontier cannot be too narrow")
}

struct Searcher<'a, M: Model> {
    model: &'a M,
    ops: &'a [Op],
    /// (time, completes, operation): at equal times invokes come first, because equal times are concurrent.
    events: Vec<(u64, bool, usize)>,
    /// Class of each indeterminate operation, and the action of each class.
    class_of: Vec<usize>,
    classes: Vec<&'a Action>,
    budget: Budget,
    steps: u64,
}

/// Operations open at one moment.
struct Open {
    slots: Vec<Option<usize>>,
    slot_of: HashMap<usize, usize>,
    reads: u128,
    available: Vec<u16>,
    unknown: usize,
}

impl<'a, M: Model> Searcher<'a, M> {
    fn new(model: &'a M, ops: &'a [Op], budget: Budget) -> Self {
        let mut events = Vec::with_capacity(2 * ops.len());
        let mut classes: Vec<&Action> = Vec::new();
        let mut known: HashMap<&Action, usize> = HashMap::new();
        let mut class_of = vec![usize::MAX; ops.len()];
        for (i, op) in ops.iter().enumerate() {
            events.push((op.call, false, i));
            if op.unknown() {
                class_of[i] = *known.entry(&op.action).or_insert_with(|| {
                    classes.push(&op.action);
                    classes.len() - 1
                });
            } else {
                events.push((op.ret, true, i));
            }
        }
        events.sort_unstable();
        Searcher { model, ops, events, class_of, classes, budget, steps: 0 }
    }

    fn attempt(&mut self, width: usize) -> Try {
        let mut open = Open {
            slots: Vec::new(),
            slot_of: HashMap::new(),
            reads: 0,
            available: vec![0; self.classes.len()],
            unknown: 0,
        };
        let start = Configuration {
            state: self.model.initial(),
            done: 0,
            used: vec![0; self.classes.len()].into_boxed_slice(),
        };
        let mut frontier = vec![start];
        let mut cut = false;
        for event in 0..self.events.len() {
            let (time, completes, i) = self.events[event];
            let spent = |bound, steps, open: &Open| {
                Try::Spent(Spent { bound, reached: time, open_unknown: open.unknown, steps })
            };
            if !completes {
                if self.ops[i].unknown() {
                    let available = &mut open.available[self.class_of[i]];
                    *available = available.saturating_add(1);
                    open.unknown += 1;
                    continue;
                }
                let slot = open.slots.iter().position(Option::is_none).unwrap_or(open.slots.len());
                if slot >= OPEN_MAX as usize {
                    return spent(Bound::Open, self.steps, &open);
                }
                if slot == open.slots.len() {
                    open.slots.push(None);
                }
                open.slots[slot] = Some(i);
                open.slot_of.insert(i, slot);
                if self.ops[i].action.reads_only() {
                    open.reads |= 1 << slot;
                    self.steps += frontier.len() as u64;
                    for configuration in &mut frontier {
                        if self.model.step(&configuration.state, &self.ops[i].action).is_some() {
                            configuration.done |= 1 << slot;
                        }
                    }
                }
                continue;
            }
            let slot = open.slot_of[&i];
            match self.complete(frontier, &open, slot, width, &mut cut) {
                Ok(next) => frontier = next,
                Err(bound) => return spent(bound, self.steps, &open),
            }
            if frontier.is_empty() {
                return if cut { Try::TooNarrow } else { Try::Invalid(i) };
            }
            open.reads &= !(1 << slot);
            open.slots[slot] = None;
            open.slot_of.remove(&i);
        }
        Try::Valid
    }

    /// The configurations in which the operation of `slot` has taken effect, reached from `frontier` by as few others as
    /// needed; its slot is free in them.
    fn complete(
        &mut self,
        frontier: Vec<Configuration<M::State>>,
        open: &Open,
        slot: usize,
        width: usize,
        cut: &mut bool,
    ) -> Result<Vec<Configuration<M::State>>, Bound> {
        let target = 1u128 << slot;
        let reads_after = open.reads & !target;
        let mut next = Frontier::new();
        let mut pending = Frontier::new();
        let mut stack = Vec::new();
        let mut bytes = 0u64;
        for mut configuration in frontier {
            if configuration.done & target != 0 {
                configuration.done &= !target;
                next.insert(configuration, reads_after);
            } else if let Some(place) = pending.insert(configuration, open.reads) {
                stack.push(place);
            }
        }
        stack.reverse();
        while let Some(place) = stack.pop() {
            if pending.all.len() > width.saturating_mul(16) || next.alive > width.saturating_mul(4) {
                *cut = true;
                break;
            }
            let Some(from) = pending.all[place].clone() else { continue };
            let mutations = open.slots.iter().enumerate().filter_map(|(slot, i)| {
                let i = (*i)?;
                let bit = 1u128 << slot;
                (open.reads & bit == 0 && from.done & bit == 0).then_some((&self.ops[i].action, bit, None))
            });
            let indeterminate = self
                .classes
                .iter()
                .enumerate()
                .filter(|(class, _)| from.used[*class] < open.available[*class])
                .map(|(class, action)| (*action, 0, Some(class)));
            for (action, bit, class) in mutations.chain(indeterminate) {
                self.steps += 1;
                if self.steps > self.budget.steps {
                    return Err(Bound::Steps);
                }
                if self.steps.is_multiple_of(CLOCK_STEPS)
                    && self.budget.deadline.is_some_and(|deadline| Instant::now() > deadline)
                {
                    return Err(Bound::Time);
                }
                let Some(state) = self.model.step(&from.state, action) else { continue };
                let mut reached = Configuration { state, done: from.done | bit, used: from.used.clone() };
                if let Some(class) = class {
                    reached.used[class] += 1;
                }
                for (slot, i) in open.slots.iter().enumerate() {
                    let bit = 1u128 << slot;
                    if let Some(i) = i
                        && open.reads & bit & !reached.done != 0
                        && self.model.step(&reached.state, &self.ops[*i].action).is_some()
                    {
                        reached.done |= bit;
                    }
                }
                bytes += (2 * size_of::<Configuration<M::State>>() + 64) as u64
                    + 2 * (self.model.size(&reached.state) + 2 * reached.used.len()) as u64;
                if bytes > self.budget.memory {
                    return Err(Bound::Memory);
                }
                if reached.done & target != 0 {
                    reached.done &= !target;
                    next.insert(reached, reads_after);
                } else if let Some(place) = pending.insert(reached, open.reads) {
                    stack.push(place);
                }
            }
        }
        let mut next: Vec<_> = next.all.into_iter().flatten().collect();
        if next.len() > width {
            *cut = true;
            next.sort_by_key(|c| c.used.iter().map(|n| u64::from(*n)).sum::<u64>());
            next.truncate(width);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Value;
    use crate::model::Register;

    const BUDGET: Budget = Budget { steps: 1_000_000, memory: 1 << 28, deadline: None };

    fn op(id: usize, call: u64, ret: u64, action: Action) -> Op {
        Op { id, call, ret, action }
    }

    fn answer(ops: &[Op], budget: Budget) -> Answer {
        search(&Register { initial: Value::Nil }, ops, budget)
    }

    #[test]
    fn an_indeterminate_write_takes_effect_late_or_never_but_once() {
        let write = |id, call, ret, v: i64| op(id, call, ret, Action::Write(v.into()));
        let read = |id, call, ret, v: i64| op(id, call, ret, Action::Read(v.into()));
        let info = write(0, 0, u64::MAX, 1);
        let two = write(1, 1, 2, 2);
        assert_eq!(answer(&[info.clone(), two.clone(), read(2, 3, 4, 1)], BUDGET), Answer::Valid);
        assert_eq!(answer(&[info.clone(), two.clone(), read(2, 3, 4, 2)], BUDGET), Answer::Valid);
        let again = [info, two, read(2, 3, 4, 1), write(3, 5, 6, 3), read(4, 7, 8, 1)];
        assert_eq!(answer(&again, BUDGET), Answer::Invalid { stuck: 4 });
    }

    #[test]
    fn equal_times_are_concurrent() {
        let ops = |call| [op(0, 0, 5, Action::Write(1.into())), op(1, call, 9, Action::Read(Value::Nil))];
        assert_eq!(answer(&ops(5), BUDGET), Answer::Valid);
        assert_eq!(answer(&ops(6), BUDGET), Answer::Invalid { stuck: 1 });
    }

    #[test]
    fn each_bound_ends_the_search_with_its_name() {
        let many: Vec<Op> =
            (0..40).map(|i| op(i, 0, 100 + i as u64, Action::Write((i as i64 % 7).into()))).collect();
        let mut stuck = many.clone();
        stuck.push(op(40, 200, 201, Action::Read(99.into())));
        let bound = |budget| match answer(&stuck, budget) {
            Answer::Unknown(spent) => spent.bound,
            other => panic!("{other:?}"),
        };
        assert_eq!(bound(Budget { steps: 10_000, ..BUDGET }), Bound::Steps);
        assert_eq!(bound(Budget { memory: 10_000, ..BUDGET }), Bound::Memory);
        assert_eq!(bound(Budget { deadline: Some(Instant::now()), ..BUDGET }), Bound::Time);
        let wide: Vec<Op> = (0..129).map(|i| op(i, 0, 100, Action::Write(1.into()))).collect();
        assert_eq!(answer(&wide[..128], BUDGET), Answer::Valid);
        assert!(matches!(answer(&wide, BUDGET), Answer::Unknown(Spent { bound: Bound::Open, .. })));
    }
}
