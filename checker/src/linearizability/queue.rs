//! Linearizability of a first-in, first-out queue whose elements are each enqueued once, in O(n log n): the aspects of Henzinger,
//! Sezgin and Vafeiadis ("Aspect-oriented linearizability proofs", CONCUR 2013). A queue is at fault exactly if an element comes
//! from nowhere or twice, if one overtakes another, or if it is called empty while something is in it all the time.
//!
//! A dequeue that tells nothing may have taken any element that no other took. Without such it is exact; with them it
//! answers if the answer does not depend on what they took, and leaves the rest to the search.

use std::collections::HashMap;

use super::Op;
use crate::history::{Action, Value};

/// What the aspects say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// Operations that have no order, together with all others on their elements.
    Violation(Vec<usize>),
    /// An element is enqueued twice, or it depends on dequeues that tell nothing.
    NotTold,
}

/// An element with who brought and who took it.
struct Element {
    enqueue: usize,
    dequeue: Option<usize>,
    /// When its enqueue began and ended, and its dequeue; never ending times are `u64::MAX`.
    from: (u64, u64),
    to: (u64, u64),
}

/// Judges the operations of a queue.
pub(crate) fn judge(ops: &[Op]) -> Verdict {
    let mut elements: Vec<Element> = Vec::new();
    let mut place: HashMap<&Value, usize> = HashMap::new();
    for (i, op) in ops.iter().enumerate() {
        if let Action::Enqueue(value) = &op.action {
            if place.insert(value, elements.len()).is_some() {
                return Verdict::NotTold;
            }
            let (from, to) = ((op.call, op.ret), (u64::MAX, u64::MAX));
            elements.push(Element { enqueue: i, dequeue: None, from, to });
        }
    }
    let mut untold: Option<u64> = None;
    for (i, op) in ops.iter().enumerate() {
        let Action::Dequeue(taken) = &op.action else { continue };
        let Some(value) = taken else {
            untold = Some(untold.map_or(op.call, |first| first.min(op.call)));
            continue;
        };
        if *value == Value::Nil {
            continue;
        }
        let Some(element) = place.get(value).map(|at| &mut elements[*at]) else {
            return Verdict::Violation(vec![i]);
        };
        if let Some(other) = element.dequeue.replace(i) {
            return Verdict::Violation(vec![other, i]);
        }
        element.to = (op.call, op.ret);
        if op.ret < element.from.0 {
            return Verdict::Violation(vec![element.enqueue, i]);
        }
    }
    // What may never have been enqueued, and nobody took, was not.
    elements.retain(|element| element.dequeue.is_some() || element.from.1 != u64::MAX);
    let strict = faults(ops, &elements);
    let Some(first) = untold else {
        return strict.map_or(Verdict::Linearizable, Verdict::Violation);
    };
    if strict.is_none() {
        return Verdict::Linearizable;
    }
    for element in elements.iter_mut().filter(|element| element.dequeue.is_none()) {
        element.to.0 = first.max(element.from.0);
    }
    faults(ops, &elements).map_or(Verdict::NotTold, Verdict::Violation)
}

/// Operations on elements that overtake each other, or on those that fill the queue while it is called empty.
fn faults(ops: &[Op], elements: &[Element]) -> Option<Vec<usize>> {
    overtaken(elements).or_else(|| {
        let mut empty = (0..ops.len()).filter(|i| ops[*i].action == Action::Dequeue(Some(Value::Nil)));
        let mut by_end: Vec<&Element> = elements.iter().collect();
        by_end.sort_by_key(|element| element.from.1);
        empty.find_map(|i| never_empty(&ops[i], i, &by_end))
    })
}

/// An element that was dequeued although another was enqueued before it and dequeued after it, or never.
fn overtaken(elements: &[Element]) -> Option<Vec<usize>> {
    let mut by_end: Vec<&Element> = elements.iter().filter(|element| element.from.1 != u64::MAX).collect();
    by_end.sort_by_key(|element| element.from.1);
    let mut by_call: Vec<&Element> = elements.iter().filter(|element| element.dequeue.is_some()).collect();
    by_call.sort_by_key(|element| element.from.0);
    let mut earlier = by_end.into_iter().peekable();
    let mut last: Option<&Element> = None;
    for element in by_call {
        while let Some(before) = earlier.next_if(|before| before.from.1 < element.from.0) {
            if last.is_none_or(|last| before.to.0 > last.to.0) {
                last = Some(before);
            }
        }
        if let Some(other) = last.filter(|other| other.to.0 > element.to.1) {
            return Some(operations(&[other, element]));
        }
    }
    None
}

/// The elements that fill the queue all the time while `op` finds it empty.
fn never_empty(op: &Op, i: usize, mut by_end: &[&Element]) -> Option<Vec<usize>> {
    let mut filling: Vec<&Element> = Vec::new();
    // Everything up to here, exclusively, is filled.
    let mut until = op.call;
    while until <= op.ret {
        let (enqueued, later) = by_end.split_at(by_end.partition_point(|e| e.from.1 < until));
        // Who is out before that time leaves a gap: nobody is left in the next round.
        let longest = enqueued.iter().max_by_key(|e| e.to.0)?;
        filling.push(longest);
        until = longest.to.0;
        by_end = later;
    }
    let mut found = operations(&filling);
    found.push(i);
    Some(found)
}

fn operations(elements: &[&Element]) -> Vec<usize> {
    elements.iter().flat_map(|element| [Some(element.enqueue), element.dequeue]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u64 = u64::MAX;

    fn enqueue(v: i64) -> Action {
        Action::Enqueue(v.into())
    }

    fn take(v: i64) -> Action {
        Action::Dequeue(Some(v.into()))
    }

    fn check(ops: &[(u64, u64, Action)], expected: Verdict) {
        let op = |(id, (call, ret, action)): (usize, &(u64, u64, Action))| Op {
            id,
            call: *call,
            ret: *ret,
            action: action.clone(),
        };
        assert_eq!(judge(&ops.iter().enumerate().map(op).collect::<Vec<_>>()), expected, "{ops:?}");
    }

    #[test]
    fn elements_come_from_somewhere_once_and_later() {
        check(&[(0, 1, take(1))], Verdict::Violation(vec![0]));
        let twice = [(0, 1, enqueue(1)), (2, 3, take(1)), (4, 5, take(1))];
        check(&twice, Verdict::Violation(vec![1, 2]));
        check(&twice[..2], Verdict::Linearizable);
        check(&[(0, 1, take(1)), (2, 3, enqueue(1))], Verdict::Violation(vec![1, 0]));
        check(&[(0, 1, take(1)), (1, 3, enqueue(1))], Verdict::Linearizable);
        check(&[(0, 1, enqueue(1)), (0, 1, enqueue(1))], Verdict::NotTold);
    }

    #[test]
    fn nobody_overtakes() {
        let two = |second| [(0, 1, enqueue(1)), (second, 3, enqueue(2)), (4, 5, take(2)), (6, 7, take(1))];
        check(&two(2), Verdict::Violation(vec![0, 3, 1, 2]));
        check(&two(1), Verdict::Linearizable);
        check(&two(2)[..3], Verdict::Violation(vec![0, 1, 2]));
        let touching = [(0, 1, enqueue(1)), (2, 3, enqueue(2)), (4, 5, take(2)), (5, 7, take(1))];
        check(&touching, Verdict::Linearizable);
        let three = |second, first| {
            let in_order = [(0, 1, enqueue(2)), (0, 1, enqueue(1)), (4, 5, enqueue(3)), (6, 7, take(3))];
            [&in_order[..], &[(second, second + 1, take(2)), (first, first + 1, take(1))]].concat()
        };
        check(&three(2, 8), Verdict::Violation(vec![1, 5, 2, 3]));
        check(&three(8, 2), Verdict::Violation(vec![0, 4, 2, 3]));
        check(&three(8, 8), Verdict::Violation(vec![0, 4, 2, 3]));
        let unsure = [(0, NEVER, enqueue(1)), (2, 3, enqueue(2)), (4, 5, take(2)), (6, 7, take(1))];
        check(&unsure, Verdict::Linearizable);
    }

    #[test]
    fn a_queue_with_something_in_it_is_not_empty() {
        let empty = Action::Dequeue(Some(Value::Nil));
        let full = |from| {
            [
                (0, 1, enqueue(1)),
                (from, 5, enqueue(2)),
                (6, 9, take(1)),
                (10, 11, take(2)),
                (3, 8, empty.clone()),
            ]
        };
        check(&full(2), Verdict::Violation(vec![0, 2, 1, 3, 4]));
        let gap = |from, until, taken| {
            let two = [(0, 1, enqueue(1)), (from, until, enqueue(2)), (taken, 9, take(1)), (10, 11, take(2))];
            [&two[..], &[(3, 8, empty.clone())]].concat()
        };
        check(&gap(2, 7, 6), Verdict::Linearizable);
        check(&gap(2, 3, 2), Verdict::Linearizable);
        check(&gap(2, 9, 8), Verdict::Linearizable);
        check(&gap(2, 9, 9), Verdict::Violation(vec![0, 2, 4]));
    }

    #[test]
    fn a_dequeue_that_tells_nothing_may_have_taken_what_is_missing() {
        let lost = [(0, 1, enqueue(1)), (2, 3, enqueue(2)), (4, 5, take(2))];
        check(&lost, Verdict::Violation(vec![0, 1, 2]));
        let untold = |call| [&lost[..], &[(call, NEVER, Action::Dequeue(None))]].concat();
        check(&untold(2), Verdict::NotTold);
        check(&untold(6), Verdict::Violation(vec![0, 1, 2]));
        check(&[(0, 1, enqueue(1)), (0, NEVER, Action::Dequeue(None))], Verdict::Linearizable);
    }
}
