//! Shrinks a violation to a small closed set of operations that is wrong by itself: for every value that one of them
//! observed, all that can have written it are in the set. How it is told is `classify`'s business.
//!
//! A write that began after the observer had ended cannot have written what it saw, nor can one that was over before another
//! write, of another value, began and ended before the observer began; that other write is in the set in its place.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::{Budget, Op, run, search::Answer};
use crate::deadline::Deadline;
use crate::history::{Action, Value};
use crate::model::ModelKind;

/// Operations looked at for one core, over all probes; beyond it the core stays as large as it is.
const WORK: usize = 400_000;
/// Bounds of each probe: one that takes longer keeps what it wanted to leave out.
const PROBE: Budget = Budget { steps: 50_000, memory: 1 << 26, deadline: Deadline::NEVER };

/// The operations of a key, and who may have written what.
pub(crate) struct Closure<'a> {
    model: ModelKind,
    ops: &'a [Op],
    /// By key inside transactions, else the empty one, and value.
    writers: HashMap<(&'a str, &'a Value), Vec<usize>>,
    /// What brings something, by its end: the end, the latest by call of all up to here, and the latest of those that bring
    /// another value than that one.
    replacing: Vec<(u64, usize, Option<usize>)>,
    /// Ends the shrinking, which no verdict depends on.
    deadline: Deadline,
    /// [`WORK`].
    work: usize,
}

impl<'a> Closure<'a> {
    pub(crate) fn new(model: ModelKind, ops: &'a [Op], deadline: Deadline) -> Self {
        let mut writers: HashMap<(&str, &Value), Vec<usize>> = HashMap::new();
        for (i, op) in ops.iter().enumerate() {
            for brought in op.action.brought() {
                writers.entry(brought).or_default().push(i);
            }
        }
        Closure { model, ops, writers, replacing: replacing(ops), deadline, work: WORK }
    }

    /// The smallest closed set around `seed`, ascending.
    pub(crate) fn close(&self, seed: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut set: BTreeSet<usize> = BTreeSet::new();
        let mut queue: Vec<usize> = seed.into_iter().collect();
        while let Some(op) = queue.pop() {
            if set.insert(op) {
                queue.extend(self.needs(op));
            }
        }
        set.into_iter().collect()
    }

    /// What has to be in a closed set because this operation is.
    fn needs(&self, op: usize) -> Vec<usize> {
        let observer = &self.ops[op];
        let possible = |other: &usize| self.ops[*other].call <= observer.ret;
        match self.model {
            // A text or a sum shows no seams: whoever changed it before may be in it.
            ModelKind::Kv | ModelKind::Counter if observer.action.observes().is_some() => {
                (0..self.ops.len()).filter(|i| !self.ops[*i].action.reads_only() && possible(i)).collect()
            }
            ModelKind::FifoQueue => self.queue_needs(op),
            _ if self.model.is_register() => match observer.action.observes() {
                Some(value) => self.register_needs(op, value),
                None => Vec::new(),
            },
            _ => {
                let mut needs = Vec::new();
                for (key, observed) in observer.action.observed() {
                    let parts = observed.items().unwrap_or(std::slice::from_ref(observed));
                    for writers in parts.iter().filter_map(|part| self.writers.get(&(key, part))) {
                        needs.extend(writers.iter().copied().filter(possible));
                    }
                }
                needs
            }
        }
    }

    fn register_needs(&self, op: usize, observed: &Value) -> Vec<usize> {
        let reader = &self.ops[op];
        let possible = |writer: &usize| *writer != op && self.ops[*writer].call <= reader.ret;
        let writers: Vec<usize> =
            self.writers.get(&("", observed)).into_iter().flatten().copied().filter(possible).collect();
        let replacement = self.replacement(observed, reader.call);
        let over = |writer: &usize| replacement.is_some_and(|r| self.ops[*writer].ret < self.ops[r].call);
        let mut needs = Vec::new();
        if writers.iter().any(over) {
            // It stands in the set for the writers that it rules out, and for the last of them if none is left.
            needs.extend(replacement);
            if writers.iter().all(over) {
                needs.extend(writers.iter().copied().max_by_key(|writer| self.ops[*writer].ret));
            }
        }
        needs.extend(writers.into_iter().filter(|writer| !over(writer)));
        needs
    }

    /// An element stays in a queue from its enqueue to its dequeue, and a dequeue that tells nothing may have taken any.
    fn queue_needs(&self, op: usize) -> Vec<usize> {
        let element = |op: &Op| match &op.action {
            Action::Enqueue(element) => Some(element.clone()),
            Action::Dequeue(taken) => taken.clone(),
            _ => None,
        };
        let mine = element(&self.ops[op]);
        let together = |other: &Op| {
            matches!(other.action, Action::Dequeue(None)) || (mine.is_some() && element(other) == mine)
        };
        if mine == Some(Value::Nil) {
            return Vec::new();
        }
        (0..self.ops.len()).filter(|i| together(&self.ops[*i])).collect()
    }

    /// The latest operation that brought another value and was over before `time`: what was over before it began cannot be
    /// seen any more.
    fn replacement(&self, value: &Value, time: u64) -> Option<usize> {
        let over = self.replacing.partition_point(|(ret, ..)| *ret < time);
        let (_, latest, other) = *self.replacing.get(over.checked_sub(1)?)?;
        if self.ops[latest].action.brings() == Some(value) { other } else { Some(latest) }
    }

    /// A closed subset of the closure of `seed` that still has no valid order, from which nothing can be left out; and whether the
    /// clock ended that before it was certain.
    pub(crate) fn shrink(&self, seed: Vec<usize>) -> (Vec<usize>, bool) {
        let mut left = self.work;
        let mut core = self.recent(seed, &mut left);
        let mut chunk = core.len().div_ceil(2).max(1);
        loop {
            let before = core.len();
            let mut at = 0;
            while at < core.len() && self.goes_on(left) {
                let rest = core[..at].iter().chain(core.iter().skip(at).skip(chunk));
                match self.smaller(rest.copied(), core.len(), &mut left) {
                    Some(smaller) => core = smaller,
                    None => at += chunk,
                }
            }
            let shrunk = core.len() != before;
            if chunk == 1 && !shrunk {
                match self.without_a_value(&core, &mut left) {
                    Some(smaller) => core = smaller,
                    None => return (core, self.late()),
                }
            }
            if !shrunk {
                chunk = chunk.div_ceil(2);
            }
            chunk = chunk.min(core.len()).max(1);
        }
    }

    /// What is left out may also be a value with all that uses it.
    fn without_a_value(&self, core: &[usize], left: &mut usize) -> Option<Vec<usize>> {
        for value in self.values(core) {
            if !self.goes_on(*left) {
                break;
            }
            let rest = core.iter().copied().filter(|i| !self.touches(*i, value));
            if let Some(smaller) = self.smaller(rest, core.len(), left) {
                return Some(smaller);
            }
        }
        None
    }

    /// The closure of the last few operations of `seed` if it is wrong already, else of all: most contradictions are near.
    fn recent(&self, mut seed: Vec<usize>, left: &mut usize) -> Vec<usize> {
        seed.sort_by_key(|i| Reverse((self.ops[*i].call, *i)));
        let mut count = 1;
        loop {
            if count >= seed.len() || !self.goes_on(*left) {
                return self.close(seed);
            }
            if let Some(wrong) = self.smaller(seed[..count].iter().copied(), usize::MAX, left) {
                return wrong;
            }
            count *= 2;
        }
    }

    /// The closure of these, if it is smaller than `than` and has no valid order by itself.
    fn smaller(&self, of: impl Iterator<Item = usize>, than: usize, left: &mut usize) -> Option<Vec<usize>> {
        let candidate = self.close(of);
        *left = left.saturating_sub(candidate.len());
        (candidate.len() < than && self.contradicts(&candidate)).then_some(candidate)
    }

    fn goes_on(&self, left: usize) -> bool {
        left != 0 && !self.late()
    }

    /// Values that the operations bring or saw.
    fn values(&self, set: &[usize]) -> BTreeSet<&'a Value> {
        let of = |i: &usize| {
            let action = &self.ops[*i].action;
            action.brought().into_iter().chain(action.observed()).map(|(_, value)| value).collect::<Vec<_>>()
        };
        set.iter().flat_map(of).collect()
    }

    fn touches(&self, op: usize, value: &Value) -> bool {
        let action = &self.ops[op].action;
        action.brought().iter().chain(&action.observed()).any(|(_, v)| *v == value)
    }

    fn late(&self) -> bool {
        self.deadline.passed()
    }

    /// Whether the operations have no valid order by themselves.
    pub(crate) fn contradicts(&self, set: &[usize]) -> bool {
        let ops: Vec<Op> = set.iter().map(|i| self.ops[*i].clone()).collect();
        let steps = match self.model {
            // The fewer reads are left, the longer it takes to see that texts, sums and transactions have no order; few can be.
            ModelKind::Kv | ModelKind::Counter | ModelKind::Txn | ModelKind::TxnFrom(_) => {
                20 * ops.len() as u64
            }
            _ => PROBE.steps,
        };
        matches!(
            run(self.model, &ops, Budget { steps, deadline: self.deadline, ..PROBE }, false),
            Answer::Invalid { .. }
        )
    }
}

fn replacing(ops: &[Op]) -> Vec<(u64, usize, Option<usize>)> {
    let mut ends: Vec<(u64, usize)> = (0..ops.len())
        .filter(|i| !ops[*i].unknown() && ops[*i].action.brings().is_some())
        .map(|i| (ops[i].ret, i))
        .collect();
    ends.sort_unstable();
    let mut latest: Option<usize> = None;
    let mut other: Option<usize> = None;
    let mut replacing = Vec::with_capacity(ends.len());
    for (ret, i) in ends {
        let later = |than: Option<usize>| than.is_none_or(|than| ops[than].call <= ops[i].call);
        let same = latest.is_some_and(|latest| ops[latest].action.brings() == ops[i].action.brings());
        if later(latest) {
            if !same {
                other = latest;
            }
            latest = Some(i);
        } else if !same && later(other) {
            other = Some(i);
        }
        replacing.push((ret, latest.unwrap_or(i), other));
    }
    replacing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops<const N: usize>(actions: [(u64, u64, Action); N]) -> Vec<Op> {
        let op = |(id, (call, ret, action))| Op { id, call, ret, action };
        actions.into_iter().enumerate().map(op).collect()
    }

    #[test]
    fn a_core_is_closed_and_nothing_in_it_is_idle() {
        let ops = ops([
            (0, 1, Action::Write(1.into())),
            (2, 3, Action::Read(1.into())),
            (4, 5, Action::Write(3.into())),
            (6, 7, Action::Write(2.into())),
            (8, 9, Action::Read(2.into())),
            (10, 11, Action::Read(1.into())),
            (12, u64::MAX, Action::Write(1.into())),
        ]);
        let closure = Closure::new(ModelKind::CasRegister, &ops, Deadline::NEVER);
        assert_eq!(
            closure.close([5]),
            [0, 3, 5],
            "a write that begins after the read is no possible writer of it"
        );
        let (core, late) = closure.shrink((0..6).collect());
        assert!(!late);
        assert_eq!(core.len(), 3, "{core:?}");
        assert!(core.contains(&0) && core.contains(&5), "{core:?}");
        assert!(closure.contradicts(&core));
        assert!(!closure.contradicts(&[0, 5]));
    }

    #[test]
    fn whoever_can_have_brought_what_was_seen_belongs_to_it_and_nobody_else() {
        let closed = |model, ops: &[Op], of| Closure::new(model, ops, Deadline::NEVER).close([of]);
        let sums = ops([
            (0, 1, Action::Add(1.into())),
            (0, 1, Action::Read(0.into())),
            (2, 5, Action::Read(1.into())),
            (5, 6, Action::Add(2.into())),
            (6, 7, Action::Add(2.into())),
        ]);
        assert_eq!(closed(ModelKind::Counter, &sums, 2), [0, 2, 3]);
        assert_eq!(closed(ModelKind::Counter, &sums, 4), [4], "it saw nothing");
        let lists = ops([
            (0, 1, Action::Append(1.into())),
            (0, 1, Action::Append(2.into())),
            (2, 5, Action::Read(Value::List([1.into()].into()))),
            (5, 6, Action::Append(1.into())),
            (6, 7, Action::Append(1.into())),
        ]);
        assert_eq!(closed(ModelKind::ListAppend, &lists, 2), [0, 2, 3]);
        let register = |over: u64, by: (u64, u64)| {
            let ops = ops([
                (0, over, Action::Write(1.into())),
                (by.0, by.1, Action::Write(2.into())),
                (8, 9, Action::Read(1.into())),
            ]);
            closed(ModelKind::CasRegister, &ops, 2)
        };
        assert_eq!(
            register(2, (3, 7)),
            [0, 1, 2],
            "the last of those that were replaced, and what replaced it"
        );
        assert_eq!(register(3, (3, 7)), [0, 2], "it may have been written after 2");
        assert_eq!(register(2, (3, 8)), [0, 2], "2 may be written after the read");
        let between = |writes: &[(u64, u64, i64)]| {
            let write = |(call, ret, v): &(u64, u64, i64)| (*call, *ret, Action::Write((*v).into()));
            let read = (10, 11, Action::Read(1.into()));
            let all = writes.iter().map(write).chain([read]).enumerate();
            let ops: Vec<Op> = all.map(|(id, (call, ret, action))| Op { id, call, ret, action }).collect();
            closed(ModelKind::CasRegister, &ops, writes.len())
        };
        assert_eq!(between(&[(0, 1, 1), (2, 3, 2), (4, 5, 1)]), [1, 2, 3], "the first is no more to be seen");
        assert_eq!(between(&[(0, 1, 1), (4, 5, 1), (3, 6, 2)]), [1, 2, 3], "nor if 2 takes longer");
        assert_eq!(between(&[(0, 1, 1), (4, 5, 1), (3, 6, 1)]), [0, 1, 2, 3], "nothing replaces 1");
        assert_eq!(
            between(&[(0, 3, 1), (6, 7, 1), (4, 8, 2), (3, 9, 3)]),
            [1, 2, 4],
            "of two that replace it the one that began later"
        );
    }

    #[test]
    fn an_element_is_left_out_with_all_that_uses_it() {
        let element = |n: i64| Some(n.into());
        let queue = ops([
            (0, 1, Action::Enqueue(1.into())),
            (2, 3, Action::Enqueue(2.into())),
            (4, 5, Action::Enqueue(9.into())),
            (6, 7, Action::Dequeue(element(2))),
            (8, 9, Action::Dequeue(element(1))),
            (10, 11, Action::Dequeue(element(9))),
        ]);
        let closure = Closure::new(ModelKind::FifoQueue, &queue, Deadline::NEVER);
        assert_eq!(closure.shrink((0..6).collect()), (vec![0, 1, 3, 4], false));
        let spent = Closure { work: 0, ..Closure::new(ModelKind::FifoQueue, &queue, Deadline::NEVER) };
        assert_eq!(spent.shrink(vec![3, 4, 5]), ((0..6).collect(), false), "closed, if not small");
        let late = Closure::new(ModelKind::FifoQueue, &queue, Deadline::after_looks(0).0);
        assert_eq!(late.shrink(vec![3, 4, 5]), ((0..6).collect(), true));
    }

    #[test]
    fn a_contradiction_is_looked_for_near_the_end_and_not_for_long() {
        // Everybody reads what was written just before, but for one, seven pairs before the end.
        let mut all = Vec::new();
        for pair in 0..60 {
            let (at, value) = (10 * pair as u64, pair as i64);
            let seen = if pair == 52 { 50 } else { value };
            for (call, action) in [(at, Action::Write(value.into())), (at + 5, Action::Read(seen.into()))] {
                all.push(Op { id: all.len(), call, ret: call + 1, action });
            }
        }
        let closure = Closure { work: 50, ..Closure::new(ModelKind::CasRegister, &all, Deadline::NEVER) };
        let (core, late) = closure.shrink((0..all.len()).collect());
        assert!(core.len() <= 20 && !late && closure.contradicts(&core), "{core:?}");

        let sums = |adds: usize| {
            let add = |id: usize| Op { id, call: 0, ret: 100, action: Action::Add((1i64 << id).into()) };
            let read = Op { id: adds, call: 50, ret: 51, action: Action::Read((-1).into()) };
            let ops: Vec<Op> = (0..adds).map(add).chain([read]).collect();
            Closure::new(ModelKind::Counter, &ops, Deadline::NEVER)
                .contradicts(&(0..=adds).collect::<Vec<_>>())
        };
        assert!(sums(3) && !sums(10), "few sums are tried, and many are given up");
    }
}
