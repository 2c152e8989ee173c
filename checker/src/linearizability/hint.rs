//! The order that the system itself tells: the log index, or revision, of each operation. It is a candidate for a certificate and
//! nothing else: replayed once, and compared with real time. If it is wrong the engines decide, as if it had never been told; for
//! a system may well log one order and show clients another, or the reverse.

use super::Op;
use crate::deadline::Deadline;
use crate::history::KeyHistory;
use crate::model::{Counter, Kv, List, Model, ModelKind, Mutex, Queue, Register, Set, Txn};

/// Indeterminate operations that are put together in one place.
const TOGETHER_MAX: usize = 2;
/// Places that are tried for indeterminate operations, over the whole history.
const TRIES_MAX: usize = 200_000;
/// Tries between two looks at the clock.
const CLOCK_TRIES: usize = 256;

/// The operations in the order of their positions, if that is a valid order: of those that are known to have happened each has to
/// tell its own. Indeterminate ones without a position are put right before what would not be possible without them. O(n log n)
/// and one replay, but for those.
pub(super) fn order(key: &KeyHistory, ops: &[Op], deadline: Deadline) -> Option<Vec<usize>> {
    match key.model {
        ModelKind::CasRegister | ModelKind::RegisterFrom(_) => {
            replayed(&Register { initial: key.model.initial() }, key, ops, deadline)
        }
        ModelKind::ListAppend => replayed(&List, key, ops, deadline),
        ModelKind::Set => replayed(&Set, key, ops, deadline),
        ModelKind::Kv => replayed(&Kv::of(ops.iter().map(|op| &op.action)), key, ops, deadline),
        ModelKind::Counter => replayed(&Counter, key, ops, deadline),
        ModelKind::Mutex => replayed(&Mutex, key, ops, deadline),
        ModelKind::FifoQueue => replayed(&Queue, key, ops, deadline),
        ModelKind::Txn | ModelKind::TxnFrom(_) => {
            replayed(&Txn { initial: key.model.initial() }, key, ops, deadline)
        }
    }
}

fn replayed<M: Model>(model: &M, key: &KeyHistory, ops: &[Op], deadline: Deadline) -> Option<Vec<usize>> {
    let mut placed: Vec<(u64, bool, u64, usize)> = Vec::with_capacity(ops.len());
    let mut replay = Replay {
        model,
        ops,
        order: Vec::new(),
        state: model.initial(),
        latest: 0,
        open: Vec::new(),
        tries: 0,
        deadline,
    };
    for (i, op) in ops.iter().enumerate() {
        match key.operations[op.id].position {
            // What only reads at a position sees what was written there.
            Some(position) => placed.push((position, op.action.reads_only(), op.call, i)),
            None if op.unknown() => replay.open.push(i),
            None => return None,
        }
    }
    placed.sort_unstable();
    for (_, _, _, i) in placed {
        // As few as possible: what did not happen must not come in with what did.
        if !replay.place(i) && !(1..=TOGETHER_MAX).any(|together| replay.place_behind(i, together)) {
            return None;
        }
    }
    Some(replay.order)
}

struct Replay<'a, M: Model> {
    model: &'a M,
    ops: &'a [Op],
    order: Vec<usize>,
    state: M::State,
    /// The last call so far.
    latest: u64,
    /// Indeterminate operations that are not placed, by invoke.
    open: Vec<usize>,
    tries: usize,
    deadline: Deadline,
}

impl<M: Model> Replay<'_, M> {
    /// Places an operation next, if it is possible there.
    fn place(&mut self, i: usize) -> bool {
        let op = &self.ops[i];
        if op.ret < self.latest {
            return false;
        }
        let Some(state) = self.model.step(&self.state, &op.action) else { return false };
        self.state = state;
        self.latest = self.latest.max(op.call);
        self.order.push(i);
        true
    }

    /// Places an operation behind so many open ones that make it possible.
    fn place_behind(&mut self, i: usize, together: usize) -> bool {
        // Who began after the operation had ended is not before it.
        let ret = self.ops[i].ret;
        let began = self.open.partition_point(|open| self.ops[*open].call <= ret);
        for at in 0..began {
            let first = self.open[at];
            self.tries += 1;
            if self.tries.is_multiple_of(CLOCK_TRIES) && self.deadline.passed() {
                self.tries = TRIES_MAX;
            }
            if self.tries > TRIES_MAX {
                return false;
            }
            let before = (self.state.clone(), self.latest, self.order.len());
            if self.place(first) {
                self.open.remove(at);
                let placed = if together > 1 { self.place_behind(i, together - 1) } else { self.place(i) };
                if placed {
                    return true;
                }
                self.open.insert(at, first);
            }
            (self.state, self.latest) = (before.0, before.1);
            self.order.truncate(before.2);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Clock, Operation, Outcome, Phase, Value};

    type Told = (u64, u64, Outcome, Action, Option<u64>);

    fn told(steps: &[Told]) -> Option<Vec<usize>> {
        let operations: Vec<Operation> = (0..)
            .zip(steps)
            .map(|(index, (invoke, complete, outcome, action, position))| Operation {
                index,
                process: index,
                action: action.clone(),
                outcome: *outcome,
                ended: None,
                invoke: *invoke,
                complete: Some(*complete),
                node: None,
                position: *position,
                phase: Phase::Load,
            })
            .collect();
        let op =
            |(id, o): (usize, &Operation)| Op { id, call: o.invoke, ret: o.end(), action: o.action.clone() };
        let ops: Vec<Op> = operations.iter().enumerate().map(op).collect();
        order(
            &KeyHistory { model: ModelKind::Counter, clock: Clock::Lines, operations },
            &ops,
            Deadline::NEVER,
        )
    }

    #[test]
    fn what_a_system_tells_is_a_certificate_only_if_it_is_right() {
        use Outcome::{Info, Ok};
        let add = |n: i64| Action::Add(n.into());
        let read = |n: i64| Action::Read(Value::Int(n));
        let right = [
            (0, 9, Ok, add(1), Some(7)),
            (0, 9, Ok, add(2), Some(3)),
            (1, 8, Ok, read(2), Some(3)),
            (1, 2, Info, add(4), None),
            (1, 2, Info, add(8), Some(8)),
            (10, 11, Ok, read(11), Some(8)),
        ];
        assert_eq!(told(&right), Some(vec![1, 2, 0, 4, 5]));
        let changed = |at: usize, change: &dyn Fn(&mut Told)| {
            let mut steps = right.clone();
            change(&mut steps[at]);
            told(&steps)
        };
        assert_eq!(changed(2, &|step| step.3 = read(3)), None, "not what the order gives");
        let gone = changed(2, &|step| step.3 = read(6));
        assert_eq!(gone, None, "what nobody heard of was there, but not in the end");
        let before = changed(5, &|step| step.3 = read(15));
        assert_eq!(before, Some(vec![1, 2, 0, 4, 3, 5]), "it stands before what shows it");
        let both = changed(4, &|step| step.4 = None);
        assert_eq!(both, Some(vec![1, 2, 0, 4, 5]), "only what is needed");
        assert_eq!(changed(0, &|step| step.4 = None), None, "one that happened tells nothing");
        assert_eq!(changed(5, &|step| step.4 = Some(2)), None, "a read before its time");
        assert_eq!(
            changed(4, &|step| step.0 = 12),
            None,
            "in the order, but begun after what follows it ended"
        );
        let touching = [(5, 9, Ok, add(1), Some(1)), (0, 5, Ok, add(2), Some(2))];
        assert_eq!(told(&touching), Some(vec![0, 1]), "what ends when another begins may be behind it");
        let late = [(0, 2, Ok, read(4), Some(1)), (2, 9, Info, add(4), None)];
        assert_eq!(told(&late), Some(vec![1, 0]), "begun when it ended");
        let few = [1, 2, 3].map(|n| (0, 9, Info, add(n), None));
        let shown = [&few[..], &[(1, 8, Ok, read(3), Some(1))]].concat();
        assert_eq!(told(&shown), Some(vec![2, 3]), "as few as make it possible");
    }

    #[test]
    fn tries_are_counted_over_the_whole_history() {
        // A read of 3 needs the adds of 1 and 2; pairs are tried in order, each of 500 places after what was tried alone.
        let needed = |one: usize| {
            let mut steps = vec![(0, 9, Outcome::Info, Action::Add(1_000.into()), None); 500];
            steps[one].3 = Action::Add(1.into());
            steps[499].3 = Action::Add(2.into());
            steps.push((1, 8, Outcome::Ok, Action::Read(3.into()), Some(1)));
            told(&steps)
        };
        assert_eq!(500 + 398 * 500 + 500, TRIES_MAX);
        assert_eq!(needed(398), Some(vec![398, 499, 500]), "the last try that is made");
        assert_eq!(needed(399), None);
    }
}
