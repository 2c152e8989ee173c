//! Linearizability of a register whose values are each written once, in O(n log n): the zones of Gibbons and Korach ("Testing
//! shared memories", SICOMP 1997), with compare-and-set as the glue that makes chains of values. Exact, with indeterminate
//! operations, and never out of memory. Values written twice are left to the search.
//!
//! A plain write heads a chain `a1 -cas-> a2 -cas-> …`; inside it the order is forced. From outside only two times of a chain
//! matter: f, the first completion in it, and s, the last invoke. f < s: the register holds the chain during all of (f, s), a
//! forward zone. f >= s: all of it fits at any one instant of [s, f], a backward zone. An order exists exactly if no two
//! forward zones overlap and no backward zone lies strictly inside a forward one.

use crate::hash::FastMap;
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

/// An operation in the eyes of this engine.
pub(crate) struct Item<'a> {
    /// By which the verdict calls it.
    pub(crate) id: usize,
    pub(crate) call: u64,
    /// `u64::MAX` if nobody knows whether it happened.
    pub(crate) ret: u64,
    pub(crate) action: &'a Action,
}

/// Before every operation: where the initial value was written. Times are shifted by one to make room for it.
const START: u64 = 0;
/// No operation, or no value.
const NONE: u32 = u32::MAX;
/// The number of the initial value.
const INITIAL: u32 = 0;

/// An operation with numbers for values: a read only sees one, a write only brings one, a compare-and-set does both.
#[derive(Clone, Copy)]
struct Step {
    id: u32,
    saw: u32,
    brings: u32,
    call: u64,
    ret: u64,
}

impl Step {
    fn unknown(&self) -> bool {
        self.ret == u64::MAX
    }

    /// Invoke and completion, shifted.
    fn span(&self) -> (u64, u64) {
        (self.call.saturating_add(1), self.ret.saturating_add(1))
    }
}

/// Who touched each value.
struct Clusters {
    /// Who wrote it; [`NONE`] for the initial value.
    writer: Vec<u32>,
    /// The compare-and-set that replaced it.
    next: Vec<u32>,
    /// The readers of all values, value by value, and where each value's begin.
    readers: Vec<u32>,
    first_reader: Vec<u32>,
}

impl Clusters {
    fn readers(&self, value: u32) -> &[u32] {
        let at = |value: usize| self.first_reader[value] as usize;
        &self.readers[at(value as usize)..at(value as usize + 1)]
    }
}

/// The end of a zone and the operation that sets it.
#[derive(Clone, Copy)]
struct End {
    time: u64,
    op: u32,
}

const NO_END: End = End { time: START, op: NONE };

struct Zone {
    /// The value that its chain begins with.
    head: u32,
    /// First completion.
    f: End,
    /// Last invoke.
    s: End,
}

impl Zone {
    /// Whether its value is there between two times, rather than at any one instant.
    fn is_forward(&self) -> bool {
        self.f.time < self.s.time
    }
}

/// Judges operations, none of which is a read without a result. Indeterminate ones that left no mark are passed over.
pub(crate) fn judge<'a>(items: impl Iterator<Item = Item<'a>>, initial: &'a Value) -> Verdict {
    let (steps, values) = numbered(items, initial);
    match chains(&steps, values) {
        Ok(_) => Verdict::Linearizable,
        // An indeterminate operation proves nothing without somebody who saw it.
        Err(Verdict::Violation(seed)) => {
            let mut seed: Vec<usize> = seed
                .into_iter()
                .flat_map(|op| witnesses(&steps, op))
                .map(|op| steps[op].id as usize)
                .collect();
            seed.sort_unstable();
            seed.dedup();
            Verdict::Violation(seed)
        }
        Err(other) => other,
    }
}

/// The order of operations that were judged linearizable, by id: chain after chain, by the beginning of their zones. A backward zone
/// that begins within a forward one ends after it, and so can follow.
pub(crate) fn order<'a>(items: impl Iterator<Item = Item<'a>>, initial: &'a Value) -> Option<Vec<usize>> {
    let (steps, values) = numbered(items, initial);
    let (clusters, mut zones) = chains(&steps, values).ok()?;
    // The initial value comes first whatever its zone: it is there before any operation.
    zones.sort_by_key(|zone| (zone.head != INITIAL, zone.f.time.min(zone.s.time), zone.is_forward()));
    let mut order = Vec::with_capacity(steps.len());
    for zone in zones {
        let mut value = zone.head;
        loop {
            let writer = clusters.writer[value as usize];
            order.extend((writer != NONE).then_some(writer));
            let mut readers = clusters.readers(value).to_vec();
            readers.sort_by_key(|reader| steps[*reader as usize].call);
            order.extend(readers);
            match clusters.next[value as usize] {
                NONE => break,
                cas => value = steps[cas as usize].brings,
            }
        }
    }
    Some(order.into_iter().map(|op| steps[op as usize].id as usize).collect())
}

/// The operations with numbers for values, and how many values there are.
fn numbered<'a>(items: impl Iterator<Item = Item<'a>>, initial: &'a Value) -> (Vec<Step>, usize) {
    let mut numbers: FastMap<&Value, u32> = FastMap::default();
    numbers.reserve(items.size_hint().1.unwrap_or(0).div_ceil(2));
    numbers.insert(initial, INITIAL);
    let mut number = |value: Option<&'a Value>| match value {
        None => NONE,
        Some(value) => {
            let next = numbers.len() as u32;
            *numbers.entry(value).or_insert(next)
        }
    };
    let mut steps: Vec<Step> = items
        .map(|item| Step {
            id: item.id as u32,
            saw: number(item.action.observes()),
            brings: number(item.action.brings()),
            call: item.call,
            ret: item.ret,
        })
        .collect();
    let values = numbers.len();
    drop(numbers);
    keep_seen(&mut steps, values);
    (steps, values)
}

/// Takes out indeterminate operations whose value nobody saw: take them out of any valid order and it stays valid.
fn keep_seen(steps: &mut Vec<Step>, values: usize) {
    if !steps.iter().any(Step::unknown) {
        return;
    }
    let mut seen = vec![false; values];
    for step in steps.iter().filter(|step| !step.unknown() && step.saw != NONE) {
        seen[step.saw as usize] = true;
    }
    // An indeterminate cas whose result was seen has happened, so its own `from` was there.
    let mut swaps: Vec<(u32, u32)> = steps
        .iter()
        .filter(|step| step.unknown() && step.saw != NONE && step.brings != NONE)
        .map(|step| (step.brings, step.saw))
        .collect();
    swaps.sort_unstable();
    let mut queue: Vec<u32> = swaps.iter().map(|(to, _)| *to).filter(|to| seen[*to as usize]).collect();
    while let Some(to) = queue.pop() {
        let first = swaps.partition_point(|swap| swap.0 < to);
        for (_, from) in swaps[first..].iter().take_while(|swap| swap.0 == to) {
            if !std::mem::replace(&mut seen[*from as usize], true) {
                queue.push(*from);
            }
        }
    }
    steps.retain(|step| !step.unknown() || (step.brings != NONE && seen[step.brings as usize]));
}

/// The chains of all values with their zones, or what contradicts them.
fn chains(steps: &[Step], values: usize) -> Result<(Clusters, Vec<Zone>), Verdict> {
    let mut clusters = Clusters {
        writer: vec![NONE; values],
        next: vec![NONE; values],
        readers: Vec::new(),
        first_reader: vec![0; values + 1],
    };
    for (i, step) in (0..).zip(steps) {
        if step.brings != NONE
            && (step.brings == INITIAL
                || std::mem::replace(&mut clusters.writer[step.brings as usize], i) != NONE)
        {
            return Err(Verdict::NotUnique);
        }
    }
    let mut swaps = 0;
    for (i, step) in steps.iter().enumerate().filter(|(_, step)| step.saw != NONE) {
        if step.saw != INITIAL && clusters.writer[step.saw as usize] == NONE {
            return Err(Verdict::Violation(vec![i]));
        }
        if step.brings == NONE {
            clusters.first_reader[step.saw as usize + 1] += 1;
            continue;
        }
        swaps += 1;
        let other = std::mem::replace(&mut clusters.next[step.saw as usize], i as u32);
        if other != NONE {
            return Err(Verdict::Violation(vec![other as usize, i]));
        }
    }
    for value in 0..values {
        clusters.first_reader[value + 1] += clusters.first_reader[value];
    }
    let mut place = clusters.first_reader.clone();
    clusters.readers = vec![NONE; clusters.first_reader[values] as usize];
    for (i, step) in (0..).zip(steps).filter(|(_, step)| step.saw != NONE && step.brings == NONE) {
        let place = &mut place[step.saw as usize];
        clusters.readers[*place as usize] = i;
        *place += 1;
    }
    drop(place);
    let writes = steps.iter().filter(|step| step.saw == NONE).map(|step| step.brings);
    let mut reached = 0;
    let mut zones = Vec::new();
    for head in std::iter::once(INITIAL).chain(writes) {
        match zone(steps, &clusters, head, &mut reached) {
            Ok(zone) => zones.push(zone),
            Err((a, b)) => return Err(Verdict::Violation(vec![a as usize, b as usize])),
        }
    }
    if reached < swaps {
        // Values that lead only to each other: no chain begins anywhere. All of them are needed to see it.
        return Err(Verdict::Violation(cycle(steps, &clusters)));
    }
    match compare(&zones) {
        Verdict::Linearizable => Ok((clusters, zones)),
        violation => Err(violation),
    }
}

/// Walks one chain in its forced order; an operation that completed before an earlier one of the chain began breaks it.
fn zone(steps: &[Step], clusters: &Clusters, head: u32, reached: &mut usize) -> Result<Zone, (u32, u32)> {
    let mut zone = Zone { head, f: End { time: u64::MAX, op: NONE }, s: NO_END };
    // The initial value was there before any operation.
    if head == INITIAL {
        zone.f = NO_END;
    }
    let mut visit = |op: u32, latest: End| -> Result<(), (u32, u32)> {
        let (call, ret) = steps[op as usize].span();
        if ret < latest.time && latest.op != NONE {
            return Err((latest.op, op));
        }
        if ret < zone.f.time {
            zone.f = End { time: ret, op };
        }
        if call > zone.s.time {
            zone.s = End { time: call, op };
        }
        Ok(())
    };
    let mut latest = NO_END;
    let later = |latest: End, op: u32| {
        let (call, _) = steps[op as usize].span();
        if call > latest.time { End { time: call, op } } else { latest }
    };
    let mut value = head;
    loop {
        let writer = clusters.writer[value as usize];
        if writer != NONE {
            visit(writer, latest)?;
            latest = later(latest, writer);
        }
        for reader in clusters.readers(value) {
            visit(*reader, latest)?;
        }
        for reader in clusters.readers(value) {
            latest = later(latest, *reader);
        }
        let cas = clusters.next[value as usize];
        if cas == NONE {
            return Ok(zone);
        }
        *reached += 1;
        value = steps[cas as usize].brings;
    }
}

/// Compares the zones; the operations at the ends of two that cannot be side by side.
fn compare(zones: &[Zone]) -> Verdict {
    let seed = |a: &Zone, b: &Zone| {
        let ends = [a.f.op, a.s.op, b.f.op, b.s.op].into_iter().filter(|op| *op != NONE);
        Verdict::Violation(ends.map(|op| op as usize).collect())
    };
    let (mut forward, backward): (Vec<&Zone>, Vec<&Zone>) = zones.iter().partition(|zone| zone.is_forward());
    forward.sort_by_key(|z| (z.f.time, z.s.time));
    for pair in forward.windows(2) {
        if pair[1].f.time < pair[0].s.time {
            return seed(pair[0], pair[1]);
        }
    }
    for zone in backward {
        let before = forward.partition_point(|z| z.f.time < zone.s.time);
        if let Some(around) = before.checked_sub(1).map(|i| forward[i])
            && zone.f.time < around.s.time
        {
            return seed(around, zone);
        }
    }
    Verdict::Linearizable
}

/// For an indeterminate operation, the observers that prove that it happened; itself included.
fn witnesses(steps: &[Step], op: usize) -> Vec<usize> {
    let mut found = vec![op];
    let mut last = op;
    while steps[last].unknown() {
        let value = steps[last].brings;
        let observer = |definite: bool| {
            steps
                .iter()
                .enumerate()
                .position(|(i, step)| !found.contains(&i) && step.saw == value && step.unknown() != definite)
        };
        let Some(next) = observer(true).or_else(|| observer(false)) else { break };
        found.push(next);
        last = next;
    }
    found
}

/// All operations on values that no chain reaches.
fn cycle(steps: &[Step], clusters: &Clusters) -> Vec<usize> {
    let mut left = vec![true; clusters.writer.len()];
    let heads = steps.iter().filter(|step| step.saw == NONE).map(|step| step.brings);
    for mut value in std::iter::once(INITIAL).chain(heads) {
        loop {
            left[value as usize] = false;
            match clusters.next[value as usize] {
                NONE => break,
                cas => value = steps[cas as usize].brings,
            }
        }
    }
    let on = |value: u32| value != NONE && left[value as usize];
    (0..steps.len()).filter(|i| on(steps[*i].brings) || on(steps[*i].saw)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(ops: &[(u64, u64, Action)]) -> impl Iterator<Item = Item<'_>> {
        ops.iter().enumerate().map(|(id, (call, ret, action))| Item { id, call: *call, ret: *ret, action })
    }

    fn check(ops: &[(u64, u64, Action)], expected: Verdict) {
        assert_eq!(judge(items(ops), &Value::Nil), expected);
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

    #[test]
    fn zones_are_told_by_their_beginning() {
        let ops =
            [(0, 1, write(1)), (10, 11, read(1)), (4, 12, write(2)), (0, 20, write(3)), (11, 12, read(2))];
        assert_eq!(order(items(&ops), &Value::Nil), Some(vec![3, 0, 1, 2, 4]));
        let instant = [(0, 5, write(1)), (8, 9, read(1)), (5, 5, write(2))];
        assert_eq!(order(items(&instant), &Value::Nil), Some(vec![2, 0, 1]), "2 is there before 1 has to be");
        let initial = [(0, 1, Action::Read(Value::Nil)), (2, 3, write(1))];
        assert_eq!(order(items(&initial), &Value::Nil), Some(vec![0, 1]));
    }

    #[test]
    fn zones_may_touch() {
        check(&[(0, 1, write(1)), (4, 5, read(1)), (0, 4, write(2)), (6, 7, read(2))], Verdict::Linearizable);
        check(&[(0, 3, write(1)), (8, 9, read(1)), (3, 5, write(2))], Verdict::Linearizable);
    }

    #[test]
    fn of_operations_that_set_the_end_of_a_zone_alike_the_first_is_called() {
        let lost = [(0, 1, write(1)), (2, 3, write(2))];
        let with = |rest: &[_]| [&lost[..], rest].concat();
        check(&with(&[(0, 1, read(1)), (4, 5, read(1))]), Verdict::Violation(vec![0, 1, 3]));
        check(&with(&[(4, 5, read(1)), (4, 6, read(1))]), Verdict::Violation(vec![0, 1, 2]));
        let broken = [(0, 1, write(1)), (4, 5, read(1)), (4, 6, read(1)), (2, 3, cas(1, 2))];
        check(&broken, Verdict::Violation(vec![1, 3]));
    }

    #[test]
    fn values_that_lead_only_to_each_other_have_no_beginning() {
        let ring = [(0, 9, cas(1, 2)), (0, 9, cas(2, 1)), (0, 9, read(1)), (0, 1, write(5)), (2, 3, read(5))];
        check(&ring, Verdict::Violation(vec![0, 1, 2]));
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
        let among_others = [(0, 1, write(9)), (7, NEVER, write(1)), (5, 6, read(1))];
        check(&among_others, Verdict::Violation(vec![1, 2]));
        let seen_twice = [(7, NEVER, write(1)), (0, NEVER, cas(1, 2)), (0, 9, read(2)), (5, 6, read(1))];
        check(&seen_twice, Verdict::Violation(vec![0, 3]));
        let through_others =
            [(0, NEVER, write(1)), (0, NEVER, cas(1, 2)), (0, NEVER, cas(2, 3)), (5, 6, read(3))];
        check(&through_others, Verdict::Linearizable);
        check(
            &[(0, 1, write(1)), (2, NEVER, cas(1, 2)), (5, 6, read(2)), (7, 8, read(1))],
            Verdict::Violation(vec![2, 3]),
        );
    }

    #[test]
    fn a_value_from_nowhere_is_a_violation_and_one_written_twice_is_not_for_zones() {
        check(&[(0, 1, read(1))], Verdict::Violation(vec![0]));
        check(&[(0, 1, write(1)), (2, 3, write(1))], Verdict::NotUnique);
        check(&[(0, 1, Action::Write(Value::Nil))], Verdict::NotUnique);
        check(&[], Verdict::Linearizable);
    }

    #[test]
    fn an_indeterminate_operation_that_left_no_mark_is_passed_over() {
        let unseen = [(0, NEVER, write(1)), (0, NEVER, write(1)), (0, NEVER, cas(1, 2))];
        check(&unseen, Verdict::Linearizable);
        check(&[(0, NEVER, cas(1, 2)), (3, 4, read(2))], Verdict::Violation(vec![0, 1]));
        check(
            &[(9, NEVER, write(1)), (0, NEVER, cas(1, 2)), (3, 4, read(2))],
            Verdict::Violation(vec![0, 1, 2]),
        );
    }
}
