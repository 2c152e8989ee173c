//! Linearizability of a register whose values are each written once, in O(n log n): the zones of Gibbons and Korach ("Testing
//! shared memories", SICOMP 1997), with compare-and-set as the glue that makes chains of values. Exact, with indeterminate
//! operations, and never out of memory. Values written twice are left to the search.
//!
//! A plain write heads a chain `a1 -cas-> a2 -cas-> …`; inside it the order is forced. From outside only two times of a chain
//! matter: f, the first completion in it, and s, the last invoke. f < s: the register holds the chain during all of (f, s), a
//! forward zone. f >= s: all of it fits at any one instant of [s, f], a backward zone. An order exists exactly if no two
//! forward zones overlap and no backward zone lies strictly inside a forward one.

use std::collections::HashMap;

use super::Op;
use crate::history::{Action, Value};

/// What the zones say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// Operations that, with all possible writers of what they observed, have no valid order.
    Violation(Vec<usize>),
    /// A value is written twice: not for this engine.
    NotUnique,
}

/// Before every operation: where the initial value was written. Times are shifted by one to make room for it.
const START: u64 = 0;

/// The operations around one value.
#[derive(Default)]
struct Cluster {
    /// Who wrote it; `None` for the initial value.
    writer: Option<usize>,
    readers: Vec<usize>,
    /// The compare-and-set that replaced it.
    next: Option<usize>,
}

/// The end of a zone and the operation that sets it.
#[derive(Clone, Copy)]
struct End {
    time: u64,
    op: Option<usize>,
}

struct Zone {
    /// First completion.
    f: End,
    /// Last invoke.
    s: End,
}

/// Judges operations without unobserved indeterminate ones.
pub(crate) fn judge(ops: &[Op], initial: &Value) -> Verdict {
    match zones(ops, initial) {
        // An indeterminate operation proves nothing without somebody who saw it.
        Verdict::Violation(seed) => {
            let mut seed: Vec<usize> = seed.into_iter().flat_map(|op| witnesses(ops, op)).collect();
            seed.sort_unstable();
            seed.dedup();
            Verdict::Violation(seed)
        }
        other => other,
    }
}

fn zones(ops: &[Op], initial: &Value) -> Verdict {
    let mut clusters: HashMap<&Value, Cluster> = HashMap::new();
    clusters.insert(initial, Cluster::default());
    for (i, op) in ops.iter().enumerate() {
        if let Some(value) = op.action.brings()
            && clusters.insert(value, Cluster { writer: Some(i), ..Cluster::default() }).is_some()
        {
            return Verdict::NotUnique;
        }
    }
    for (i, op) in ops.iter().enumerate() {
        let Some(value) = op.action.observes() else { continue };
        let Some(cluster) = clusters.get_mut(value) else { return Verdict::Violation(vec![i]) };
        if op.action.reads_only() {
            cluster.readers.push(i);
        } else if let Some(other) = cluster.next.replace(i) {
            return Verdict::Violation(vec![other, i]);
        }
    }
    let heads = std::iter::once(initial).chain(ops.iter().filter_map(|op| match &op.action {
        Action::Write(value) => Some(value),
        _ => None,
    }));
    let mut reached = 0;
    let mut zones = Vec::new();
    for head in heads {
        match zone(ops, &clusters, head, &mut reached) {
            Ok(zone) => zones.push(zone),
            Err((a, b)) => return Verdict::Violation(vec![a, b]),
        }
    }
    let swaps = || ops.iter().enumerate().filter(|(_, op)| matches!(op.action, Action::Cas(..)));
    if reached < swaps().count() {
        // Values that lead only to each other: no chain begins anywhere. All of them are needed to see it.
        return Verdict::Violation(cycle(ops, &clusters));
    }
    compare(zones)
}

/// Walks one chain in its forced order; an operation that completed before an earlier one of the chain began breaks it.
fn zone(
    ops: &[Op],
    clusters: &HashMap<&Value, Cluster>,
    head: &Value,
    reached: &mut usize,
) -> Result<Zone, (usize, usize)> {
    let mut zone = Zone { f: End { time: u64::MAX, op: None }, s: End { time: START, op: None } };
    // The initial value was there before any operation.
    if clusters[head].writer.is_none() {
        zone.f = End { time: START, op: None };
    }
    let mut visit = |op: usize, latest: End| -> Result<(), (usize, usize)> {
        let (call, ret) = (ops[op].call.saturating_add(1), ops[op].ret.saturating_add(1));
        if let (true, Some(earlier)) = (ret < latest.time, latest.op) {
            return Err((earlier, op));
        }
        if ret < zone.f.time {
            zone.f = End { time: ret, op: Some(op) };
        }
        if call > zone.s.time {
            zone.s = End { time: call, op: Some(op) };
        }
        Ok(())
    };
    let mut latest = End { time: START, op: None };
    let later = |latest: End, op: usize| {
        let call = ops[op].call.saturating_add(1);
        if call > latest.time { End { time: call, op: Some(op) } } else { latest }
    };
    let mut value = head;
    loop {
        let cluster = &clusters[value];
        if let Some(writer) = cluster.writer {
            visit(writer, latest)?;
            latest = later(latest, writer);
        }
        for reader in &cluster.readers {
            visit(*reader, latest)?;
        }
        for reader in &cluster.readers {
            latest = later(latest, *reader);
        }
        let Some(cas) = cluster.next else { return Ok(zone) };
        *reached += 1;
        let Action::Cas(_, to) = &ops[cas].action else { return Ok(zone) };
        value = to;
    }
}

/// Compares the zones; the operations at the ends of two that cannot be side by side.
fn compare(zones: Vec<Zone>) -> Verdict {
    let seed = |a: &Zone, b: &Zone| {
        Verdict::Violation([a.f.op, a.s.op, b.f.op, b.s.op].into_iter().flatten().collect())
    };
    let (mut forward, backward): (Vec<Zone>, Vec<Zone>) =
        zones.into_iter().partition(|z| z.f.time < z.s.time);
    forward.sort_by_key(|z| (z.f.time, z.s.time));
    for pair in forward.windows(2) {
        if pair[1].f.time < pair[0].s.time {
            return seed(&pair[0], &pair[1]);
        }
    }
    for zone in &backward {
        let before = forward.partition_point(|z| z.f.time < zone.s.time);
        if let Some(around) = before.checked_sub(1).map(|i| &forward[i])
            && zone.f.time < around.s.time
        {
            return seed(around, zone);
        }
    }
    Verdict::Linearizable
}

/// For an indeterminate operation, the observers that prove that it happened; itself included.
fn witnesses(ops: &[Op], op: usize) -> Vec<usize> {
    let mut found = vec![op];
    let mut last = op;
    while ops[last].unknown() {
        let Some(value) = ops[last].action.brings() else { break };
        let observer = |definite: bool| {
            ops.iter().enumerate().position(|(i, o)| {
                !found.contains(&i) && o.action.observes() == Some(value) && o.unknown() != definite
            })
        };
        let Some(next) = observer(true).or_else(|| observer(false)) else { break };
        found.push(next);
        last = next;
    }
    found
}

/// All operations on values that no chain reaches.
fn cycle(ops: &[Op], clusters: &HashMap<&Value, Cluster>) -> Vec<usize> {
    let mut left: HashMap<&Value, bool> = clusters.keys().map(|value| (*value, true)).collect();
    let heads = clusters.iter().filter(|(_, cluster)| match cluster.writer {
        None => true,
        Some(writer) => matches!(ops[writer].action, Action::Write(_)),
    });
    for (head, _) in heads {
        let mut value = *head;
        loop {
            left.insert(value, false);
            match clusters[value].next.map(|cas| &ops[cas].action) {
                Some(Action::Cas(_, to)) => value = to,
                _ => break,
            }
        }
    }
    let on = |value: Option<&Value>| value.is_some_and(|v| left.get(v) == Some(&true));
    (0..ops.len()).filter(|i| on(ops[*i].action.brings()) || on(ops[*i].action.observes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ops: &[(u64, u64, Action)], expected: Verdict) {
        let ops: Vec<Op> = ops
            .iter()
            .enumerate()
            .map(|(id, (call, ret, action))| Op { id, call: *call, ret: *ret, action: action.clone() })
            .collect();
        assert_eq!(judge(&ops, &Value::Nil), expected);
    }

    fn write(v: i64) -> Action {
        Action::Write(v.into())
    }

    fn read(v: i64) -> Action {
        Action::Read(v.into())
    }

    fn cas(a: i64, b: i64) -> Action {
        Action::Cas(a.into(), b.into())
    }

    const NEVER: u64 = u64::MAX;

    #[test]
    fn a_write_inside_the_life_of_another_value_is_lost() {
        let lost = |f| [(0, 1, write(1)), (2, f, write(2)), (4, 5, read(1))];
        check(&lost(3), Verdict::Violation(vec![0, 1, 2]));
        check(&lost(4), Verdict::Linearizable);
        check(&[(2, 3, write(2)), (4, 5, Action::Read(Value::Nil))], Verdict::Violation(vec![0, 1]));
        check(&[(2, 3, write(2)), (3, 5, Action::Read(Value::Nil))], Verdict::Linearizable);
    }

    #[test]
    fn two_values_cannot_both_live_at_one_time() {
        let swap = |third| [(0, 9, write(1)), (0, 9, write(2)), (1, 2, read(1)), (3, 4, read(2)), third];
        check(&swap((5, 6, read(1))), Verdict::Violation(vec![2, 3, 4]));
        check(&swap((4, 6, read(1))), Verdict::Linearizable);
    }

    #[test]
    fn compare_and_set_makes_chains() {
        let chain = [(0, 1, write(1)), (2, 3, cas(1, 2)), (4, 5, cas(2, 3))];
        let with = |last| [chain.to_vec(), vec![last]].concat();
        check(&with((6, 7, read(3))), Verdict::Linearizable);
        check(&with((6, 7, read(2))), Verdict::Violation(vec![2, 3]));
        check(&with((5, 7, read(2))), Verdict::Linearizable);
        check(&with((6, 7, cas(2, 4))), Verdict::Violation(vec![2, 3]));
        check(&with((0, 1, read(3))), Verdict::Violation(vec![2, 3]));
        check(&[(0, 9, cas(1, 2)), (0, 9, cas(2, 1))], Verdict::Violation(vec![0, 1]));
    }

    #[test]
    fn an_indeterminate_operation_that_was_seen_has_happened() {
        check(&[(0, NEVER, write(1)), (5, 6, read(1))], Verdict::Linearizable);
        check(&[(7, NEVER, write(1)), (5, 6, read(1))], Verdict::Violation(vec![0, 1]));
        check(
            &[(0, 1, write(1)), (2, NEVER, cas(1, 2)), (5, 6, read(2)), (7, 8, read(1))],
            Verdict::Violation(vec![2, 3]),
        );
    }

    #[test]
    fn a_value_from_nowhere_is_a_violation_and_one_written_twice_is_not_for_zones() {
        check(&[(0, 1, read(1))], Verdict::Violation(vec![0]));
        check(&[(0, 1, write(1)), (2, 3, write(1))], Verdict::NotUnique);
        check(&[], Verdict::Linearizable);
    }
}
