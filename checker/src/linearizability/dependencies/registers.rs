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
        values.sort_by_key(|(op, _)| ops[*op].call);
        for pair in values.windows(2) {
            let [(one, value), (two, _)] = pair else { continue };
            let read = ops[*two].action.observed().contains(&(*key, *value));
            if !read && ops[*one].ret >= ops[*two].call {
                return None;
            }
            timed |= !read;
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
