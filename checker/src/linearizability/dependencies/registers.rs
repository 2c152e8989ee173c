//! Circles among transactions on registers. A register whose values have a known order is a list that grows, of which the last element
//! shows; so what is known of lists tells who has to come before whom.

use std::collections::BTreeMap;

use super::{Fault, Kind, Verdict, Why, judge, steps};
use crate::history::{Action, Micro, Value};
use crate::linearizability::Op;

/// A circle, by position.
pub(in super::super) struct Circle {
    pub(in super::super) edges: Vec<(usize, Why)>,
    /// That one value came after another is known by real time alone.
    pub(in super::super) timed: bool,
}

/// Whether one value of a key came after another: `Some` if it did, and whether that is known by time alone.
fn comes_after(ops: &[Op], key: &str, one: (usize, &Value), other: (usize, &Value)) -> Option<bool> {
    if one.0 != other.0 && ops[one.0].action.observed().contains(&(key, other.1)) {
        return Some(false);
    }
    (ops[other.0].ret < ops[one.0].call).then_some(true)
}

/// The circle among these, if each value of a key is known to have come after the one before: its writer read that one, or began when
/// the other writer was over. `None` if that is not known of some key, or if there is no circle.
pub(in super::super) fn circle(ops: &[Op]) -> Option<Circle> {
    let mut written: BTreeMap<&str, Vec<(usize, &Value)>> = BTreeMap::new();
    for (i, op) in ops.iter().enumerate() {
        for step in steps(op) {
            if let Micro::Write(key, value) = step {
                written.entry(&**key).or_default().push((i, value));
            }
        }
    }
    let mut timed = false;
    for (key, values) in &mut written {
        let mut left = std::mem::take(values);
        while !left.is_empty() {
            // The only one that comes after none of the others.
            let after = |one: &(usize, &Value)| {
                left.iter().any(|other| comes_after(ops, key, *one, *other).is_some())
            };
            let firsts: Vec<usize> = (0..left.len()).filter(|n| !after(&left[*n])).collect();
            let [first] = firsts[..] else { return None };
            let first = left.swap_remove(first);
            if let Some(before) = values.last() {
                timed |= comes_after(ops, key, first, *before)?;
            }
            values.push(first);
        }
    }
    // What a key holds when this is the last that was written to it.
    let list = |key: &str, last: &Value| -> Option<Value> {
        let values = written.get(key).map_or(&[][..], |values| values);
        let count = match last {
            Value::Nil => 0,
            _ => values.iter().position(|(_, value)| *value == last)? + 1,
        };
        Some(Value::List(values[..count].iter().map(|(_, value)| (*value).clone()).collect()))
    };
    let as_list = |step: &Micro| match step {
        Micro::Write(key, value) => Some(Micro::Append(key.clone(), value.clone())),
        Micro::Read(key, Some(value)) => Some(Micro::Read(key.clone(), Some(list(key, value)?))),
        _ => None,
    };
    let mut lists = Vec::with_capacity(ops.len() + 1);
    for op in ops {
        let steps: Option<_> = steps(op).iter().map(as_list).collect();
        lists.push(Op { action: Action::Txn(steps?), ..op.clone() });
    }
    // Somebody sees the whole of each, at any time.
    let all = written.iter().map(|(key, values)| {
        let last = values.last().and_then(|(_, value)| list(key, value));
        Micro::Read((*key).into(), last)
    });
    lists.push(Op { id: usize::MAX, call: 0, ret: u64::MAX - 1, action: Action::Txn(all.collect()) });
    match judge(&lists) {
        Verdict::Violation(Fault { kind: Kind::Circle(edges), .. }) => Some(Circle { edges, timed }),
        _ => None,
    }
}
