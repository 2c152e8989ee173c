//! Shrinks a violation to a small closed set of operations that is wrong by itself: for every value that one of them
//! observed, all that can have written it are in the set. How it is told is `classify`'s business.

use std::collections::{BTreeSet, HashMap};

use super::{Budget, Op, run, search::Answer};
use crate::history::Value;
use crate::model::ModelKind;

/// Searches spent on one core.
const PROBES: usize = 4000;
/// Bounds of each: a probe that takes longer keeps what it wanted to leave out.
const PROBE: Budget = Budget { steps: 100_000, memory: 1 << 26, deadline: None };

/// The operations of a key, and who may have written what.
pub(crate) struct Closure<'a> {
    model: ModelKind,
    ops: &'a [Op],
    writers: HashMap<&'a Value, Vec<usize>>,
}

impl<'a> Closure<'a> {
    pub(crate) fn new(model: ModelKind, ops: &'a [Op]) -> Self {
        let mut writers: HashMap<&Value, Vec<usize>> = HashMap::new();
        for (i, op) in ops.iter().enumerate() {
            if let Some(value) = op.action.brings() {
                writers.entry(value).or_default().push(i);
            }
        }
        Closure { model, ops, writers }
    }

    /// The smallest closed set around `seed`, ascending.
    pub(crate) fn close(&self, seed: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut set: BTreeSet<usize> = BTreeSet::new();
        let mut queue: Vec<usize> = seed.into_iter().collect();
        while let Some(op) = queue.pop() {
            if !set.insert(op) {
                continue;
            }
            let reader = &self.ops[op];
            let Some(observed) = reader.action.observes() else { continue };
            let possible = |writer: &usize| *writer != op && self.ops[*writer].call <= reader.ret;
            if self.model == ModelKind::Kv {
                // A text shows no seams: whoever wrote before may be in it.
                queue.extend(self.writers.values().flatten().copied().filter(possible));
            } else if self.model.is_register() {
                queue.extend(self.writers.get(observed).into_iter().flatten().copied().filter(possible));
            } else {
                let elements = observed.elements().unwrap_or_default();
                queue.extend(
                    elements.iter().filter_map(|e| self.writers.get(e)).flatten().copied().filter(possible),
                );
            }
        }
        set.into_iter().collect()
    }

    /// A closed subset of the closure of `seed` that still has no valid order, from which nothing can be left out.
    pub(crate) fn shrink(&self, seed: Vec<usize>) -> Vec<usize> {
        let mut core = self.close(seed);
        let mut probes = 0;
        let mut chunk = core.len().div_ceil(2).max(1);
        loop {
            let mut shrunk = false;
            let mut at = 0;
            while at < core.len() && probes < PROBES {
                let left_out = &core[at..(at + chunk).min(core.len())];
                let candidate = self.close(core.iter().copied().filter(|op| !left_out.contains(op)));
                probes += 1;
                if candidate.len() < core.len() && self.contradicts(&candidate) {
                    core = candidate;
                    shrunk = true;
                } else {
                    at += chunk;
                }
            }
            if probes >= PROBES || (chunk == 1 && !shrunk) {
                return core;
            }
            if !shrunk {
                chunk = chunk.div_ceil(2);
            }
            chunk = chunk.min(core.len()).max(1);
        }
    }

    /// Whether the operations have no valid order by themselves.
    pub(crate) fn contradicts(&self, set: &[usize]) -> bool {
        let ops: Vec<Op> = set.iter().map(|i| self.ops[*i].clone()).collect();
        matches!(run(self.model, &ops, PROBE), Answer::Invalid { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Action;

    #[test]
    fn a_core_is_closed_and_nothing_in_it_is_idle() {
        let actions = [
            (0, 1, Action::Write(1.into())),
            (2, 3, Action::Read(1.into())),
            (4, 5, Action::Write(3.into())),
            (6, 7, Action::Write(2.into())),
            (8, 9, Action::Read(2.into())),
            (10, 11, Action::Read(1.into())),
            (12, u64::MAX, Action::Write(1.into())),
        ];
        let ops: Vec<Op> = actions
            .into_iter()
            .enumerate()
            .map(|(id, (call, ret, action))| Op { id, call, ret, action })
            .collect();
        let closure = Closure::new(ModelKind::CasRegister, &ops);
        assert_eq!(
            closure.close([5]),
            [0, 5],
            "a write that begins after the read is no possible writer of it"
        );
        let core = closure.shrink((0..6).collect());
        assert_eq!(core.len(), 3, "{core:?}");
        assert!(core.contains(&0) && core.contains(&5), "{core:?}");
        assert!(closure.contradicts(&core));
        assert!(!closure.contradicts(&[0, 5]));
    }
}
