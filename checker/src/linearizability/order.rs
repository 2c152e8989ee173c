//! Linearizability of a list that elements are appended to, or a set that they are added to, each once: in time linear in what
//! was read. The reads force the order (Elle's list-append); what is left is a comparison with real time. Exact.
//! Elements that are brought twice are left to the search.
//!
//! Every read must be a prefix of the longest one (of a set: the reads must include each other). So all operations stand in
//! blocks of forced order: reads of nothing, the first element, reads of it alone, the second element, …, and last the
//! acknowledged elements that nobody saw. Operations of one block are free. Looking only at the elements of a few operations is
//! lossless for a violation: leaving out an element everywhere turns a valid order into a valid order.

use std::collections::{HashMap, HashSet};

use super::Op;
use crate::history::{Action, Value};
use crate::model::ModelKind;

/// What the order says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    Violation(Fault),
    /// An element is brought twice: not for this engine.
    NotUnique,
}

/// A contradiction: these operations, reduced to these elements, have no valid order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The read that is wrong, or one of the two that contradict each other.
    pub(crate) read: usize,
    /// Another read, if it takes two.
    pub(crate) other: Option<usize>,
    pub(crate) elements: Vec<Value>,
}

/// Kinds of contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A read shows what nobody brought.
    Phantom,
    /// A read shows an element twice.
    Duplicate,
    /// Two reads agree on no order.
    Divergent,
    /// A read ended before the element that it shows was brought.
    Future,
    /// The read misses an element that was acknowledged before it began.
    Missing,
    /// The read misses an element that the other read, which ended before it began, shows.
    Vanished,
    /// The read shows the first element and misses the second, which was acknowledged before the first was brought.
    Overtaken,
    /// The read shows the first element before the second, which was acknowledged before the first was brought.
    Reordered,
}

/// A read and its elements, in comparable order.
struct Read<'a> {
    op: usize,
    elements: Vec<&'a Value>,
}

/// Judges operations without unobserved indeterminate ones.
pub(crate) fn judge(model: ModelKind, ops: &[Op]) -> Verdict {
    let mut brought: HashMap<&Value, usize> = HashMap::new();
    for (i, op) in ops.iter().enumerate() {
        if let Some(element) = op.action.brings()
            && brought.insert(element, i).is_some()
        {
            return Verdict::NotUnique;
        }
    }
    let reads = reads(model, ops);
    if let Err(fault) = agree(model, &brought, &reads) {
        return Verdict::Violation(fault);
    }
    match real_time(model, ops, &brought, &reads) {
        Some(fault) => Verdict::Violation(fault),
        None => Verdict::Linearizable,
    }
}

/// Whether the reads, without time, could come from one growing object.
fn agree(model: ModelKind, brought: &HashMap<&Value, usize>, reads: &[Read]) -> Result<(), Fault> {
    let Some(longest) = reads.last() else { return Ok(()) };
    genuine(brought, longest)?;
    for (i, read) in reads.iter().enumerate().rev().skip(1) {
        let longer = if model == ModelKind::Set { &reads[i + 1] } else { longest };
        let pair = match model {
            ModelKind::Set => missing(longer, read).zip(missing(read, longer)),
            _ => longer.elements.iter().zip(&read.elements).find(|(a, b)| a != b).map(|(a, b)| (*b, *a)),
        };
        // A sorted set that holds an element twice can hide among others; a prefix of a list that is genuine is so too.
        if model == ModelKind::Set || pair.is_some() {
            genuine(brought, read)?;
        }
        if let Some((only_here, only_there)) = pair {
            return Err(Fault {
                kind: Kind::Divergent,
                read: read.op,
                other: Some(longer.op),
                elements: vec![only_here.clone(), only_there.clone()],
            });
        }
    }
    Ok(())
}

/// An element of `b` that `a` does not hold; both sorted.
fn missing<'a>(a: &Read, b: &Read<'a>) -> Option<&'a Value> {
    let mut at = 0;
    for element in &b.elements {
        while at < a.elements.len() && a.elements[at] < *element {
            at += 1;
        }
        if a.elements.get(at) != Some(element) {
            return Some(element);
        }
    }
    None
}

/// Whether every element was brought by somebody and is there once.
fn genuine(brought: &HashMap<&Value, usize>, read: &Read) -> Result<(), Fault> {
    let mut seen = HashSet::with_capacity(read.elements.len());
    for element in &read.elements {
        let kind = match (brought.contains_key(element), seen.insert(*element)) {
            (false, _) => Kind::Phantom,
            (true, false) => Kind::Duplicate,
            (true, true) => continue,
        };
        return Err(Fault { kind, read: read.op, other: None, elements: vec![(*element).clone()] });
    }
    Ok(())
}

/// The order of operations that were judged linearizable, by position.
pub(crate) fn order(model: ModelKind, ops: &[Op]) -> Vec<usize> {
    let brought: HashMap<&Value, usize> =
        ops.iter().enumerate().filter_map(|(i, op)| Some((op.action.brings()?, i))).collect();
    let mut blocks = blocks(model, ops, &brought, &reads(model, ops));
    blocks.sort_by_key(|(block, op)| (*block, ops[*op].call));
    blocks.into_iter().map(|(_, op)| op).collect()
}

/// The reads, shortest first.
fn reads(model: ModelKind, ops: &[Op]) -> Vec<Read<'_>> {
    let mut reads: Vec<Read> = Vec::new();
    for (op, o) in ops.iter().enumerate() {
        if let Action::Read(value) = &o.action {
            let mut elements: Vec<&Value> = value.elements().unwrap_or_default().iter().collect();
            if model == ModelKind::Set {
                elements.sort_unstable();
            }
            reads.push(Read { op, elements });
        }
    }
    reads.sort_by_key(|read| (read.elements.len(), read.op));
    reads
}

/// (block, operation): even blocks are reads, odd ones elements. The order of the blocks is forced.
fn blocks(
    model: ModelKind,
    ops: &[Op],
    brought: &HashMap<&Value, usize>,
    reads: &[Read],
) -> Vec<(usize, usize)> {
    let mut blocks: Vec<(usize, usize)> = Vec::with_capacity(ops.len());
    let mut placed: HashSet<usize> = HashSet::new();
    let mut block = 0;
    let mut length = 0;
    for read in reads {
        if read.elements.len() > length {
            if model == ModelKind::Set {
                for element in &read.elements {
                    let op = brought[element];
                    if placed.insert(op) {
                        blocks.push((block + 1, op));
                    }
                }
                block += 2;
            } else {
                for element in &read.elements[length..] {
                    placed.insert(brought[element]);
                    blocks.push((block + 1, brought[element]));
                    block += 2;
                }
            }
            length = read.elements.len();
        }
        blocks.push((block, read.op));
    }
    blocks.extend(
        (0..ops.len())
            .filter(|i| ops[*i].action.brings().is_some() && !placed.contains(i))
            .map(|i| (block + 1, i)),
    );
    blocks.sort_unstable();
    blocks
}

/// Compares the forced blocks with real time.
fn real_time(
    model: ModelKind,
    ops: &[Op],
    brought: &HashMap<&Value, usize>,
    reads: &[Read],
) -> Option<Fault> {
    let blocks = blocks(model, ops, brought, reads);
    let mut latest: Option<usize> = None;
    for group in blocks.chunk_by(|a, b| a.0 == b.0) {
        for (_, op) in group {
            if let Some(earlier) = latest
                && ops[*op].ret < ops[earlier].call
            {
                return Some(contradiction(model, ops, reads, earlier, *op));
            }
        }
        for (_, op) in group {
            if latest.is_none_or(|l| ops[*op].call > ops[l].call) {
                latest = Some(*op);
            }
        }
    }
    None
}

/// `first` must come before `second` by what was read, but began after it had ended.
fn contradiction(model: ModelKind, ops: &[Op], reads: &[Read], first: usize, second: usize) -> Fault {
    let elements = |op: usize| match &ops[op].action {
        Action::Read(value) => value.elements().unwrap_or_default(),
        _ => &[],
    };
    let fault = |kind, read, other, elements: &[&Value]| Fault {
        kind,
        read,
        other,
        elements: elements.iter().map(|e| (*e).clone()).collect(),
    };
    match (ops[first].action.brings(), ops[second].action.brings()) {
        (Some(x), None) => fault(Kind::Future, second, None, &[x]),
        (None, Some(y)) => fault(Kind::Missing, first, None, &[y]),
        (None, None) => {
            let shorter: HashSet<&Value> = elements(first).iter().collect();
            let gone = elements(second).iter().rev().find(|e| !shorter.contains(e));
            let gone = gone.expect("the block of a read with fewer elements comes first");
            fault(Kind::Vanished, first, Some(second), &[gone])
        }
        (Some(x), Some(y)) => {
            let shows = |read: &&Read, e: &Value| elements(read.op).contains(e);
            match reads.iter().find(|r| shows(r, x) && !shows(r, y)) {
                Some(read) => fault(Kind::Overtaken, read.op, None, &[x, y]),
                None => {
                    debug_assert_ne!(
                        model,
                        ModelKind::Set,
                        "two elements of a set that nobody tells apart are in one block"
                    );
                    let read = reads.iter().find(|r| shows(r, x));
                    let read =
                        read.expect("an element before another was read, or it would be in the last block");
                    fault(Kind::Reordered, read.op, None, &[x, y])
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u64 = u64::MAX;

    fn ops(actions: &[(u64, u64, Action)]) -> Vec<Op> {
        let op = |(id, (call, ret, action)): (usize, &(u64, u64, Action))| Op {
            id,
            call: *call,
            ret: *ret,
            action: action.clone(),
        };
        actions.iter().enumerate().map(op).collect()
    }

    fn list(items: &[i64]) -> Action {
        Action::Read(Value::List(items.iter().copied().map(Value::Int).collect()))
    }

    fn bring(model: ModelKind, element: i64) -> Action {
        if model == ModelKind::Set { Action::Add(element.into()) } else { Action::Append(element.into()) }
    }

    fn valid(model: ModelKind, actions: &[(u64, u64, Action)]) {
        assert_eq!(judge(model, &ops(actions)), Verdict::Linearizable);
    }

    fn faulty(
        model: ModelKind,
        actions: &[(u64, u64, Action)],
        kind: Kind,
        read: usize,
        other: Option<usize>,
        elements: &[i64],
    ) {
        let elements = elements.iter().copied().map(Value::Int).collect();
        assert_eq!(judge(model, &ops(actions)), Verdict::Violation(Fault { kind, read, other, elements }));
    }

    #[test]
    fn each_contradiction_has_its_kind_and_its_near_miss() {
        for model in [ModelKind::ListAppend, ModelKind::Set] {
            let one = |call, ret| (call, ret, bring(model, 1));
            let two = |call, ret| (call, ret, bring(model, 2));
            valid(
                model,
                &[one(0, 1), (2, 3, list(&[1])), two(2, 5), (4, 6, list(&[1, 2])), (4, 6, list(&[1]))],
            );
            faulty(model, &[one(0, 1), (2, 3, list(&[1, 7]))], Kind::Phantom, 1, None, &[7]);
            faulty(model, &[one(0, 1), (2, 3, list(&[1, 1]))], Kind::Duplicate, 1, None, &[1]);
            faulty(
                model,
                &[one(0, 9), two(0, 9), (2, 3, list(&[1])), (2, 3, list(&[2]))],
                Kind::Divergent,
                2,
                Some(3),
                &[1, 2],
            );
            faulty(model, &[one(4, 9), (2, 3, list(&[1]))], Kind::Future, 1, None, &[1]);
            valid(model, &[one(3, 9), (2, 3, list(&[1]))]);
            faulty(model, &[one(0, 1), (2, 3, Action::Read(Value::Nil))], Kind::Missing, 1, None, &[1]);
            valid(model, &[one(0, 2), (2, 3, Action::Read(Value::Nil))]);
            faulty(
                model,
                &[one(0, NEVER), (2, 3, list(&[1])), (4, 5, list(&[]))],
                Kind::Vanished,
                2,
                Some(1),
                &[1],
            );
            valid(model, &[one(0, NEVER), (2, 4, list(&[1])), (4, 5, list(&[]))]);
            faulty(model, &[two(0, 1), one(2, 9), (0, 9, list(&[1]))], Kind::Overtaken, 2, None, &[1, 2]);
            valid(model, &[two(0, 2), one(2, 9), (0, 9, list(&[1]))]);
            assert_eq!(judge(model, &ops(&[one(0, 1), one(2, 3)])), Verdict::NotUnique);
        }
    }

    #[test]
    fn every_read_is_held_against_those_that_may_contradict_it() {
        let list_append = ModelKind::ListAppend;
        let brought = |model| [1, 2, 3].map(|element| (0, 9, bring(model, element)));
        let with = |model, rest: &[_]| [&brought(model)[..], rest].concat();
        let all = |reads: &[&[i64]]| reads.iter().map(|read| (0, 9, list(read))).collect::<Vec<_>>();
        let fork = with(list_append, &all(&[&[2], &[1, 2], &[1, 2, 3]]));
        faulty(list_append, &fork, Kind::Divergent, 3, Some(5), &[2, 1]);
        let set = ModelKind::Set;
        let hidden = with(set, &all(&[&[1], &[2], &[1, 2]]));
        faulty(set, &hidden, Kind::Divergent, 3, Some(4), &[1, 2]);
        valid(set, &with(set, &all(&[&[2], &[2, 1]])));
        faulty(set, &with(set, &all(&[&[1, 1], &[1, 2]])), Kind::Duplicate, 3, None, &[1]);
    }

    #[test]
    fn blocks_are_held_against_real_time() {
        for model in [ModelKind::ListAppend, ModelKind::Set] {
            let one = |call, ret| (call, ret, bring(model, 1));
            // Missed by a read, and shown by a later one.
            let missed = [one(0, 1), (2, 3, list(&[])), (4, 5, list(&[1]))];
            faulty(model, &missed, Kind::Missing, 1, None, &[1]);
            valid(model, &[one(0, 1), (5, 6, list(&[1])), (2, 3, list(&[1]))]);
            let vanished = [one(0, NEVER), (2, 3, list(&[1])), (4, 5, list(&[])), (4, 6, list(&[]))];
            faulty(model, &vanished, Kind::Vanished, 2, Some(1), &[1]);
            let two = (1, 9, bring(model, 2));
            let history = [two, (4, 6, list(&[1])), one(0, 5), (2, 3, list(&[])), (7, 8, list(&[1, 2]))];
            assert_eq!(order(model, &ops(&history)), [3, 2, 1, 0, 4]);
        }
    }

    #[test]
    fn a_list_has_an_order_and_a_set_has_none() {
        let model = ModelKind::ListAppend;
        let history = |ret| [(0, ret, bring(model, 2)), (2, 9, bring(model, 1)), (0, 9, list(&[1, 2]))];
        faulty(model, &history(1), Kind::Reordered, 2, None, &[1, 2]);
        valid(model, &history(2));
        let set = ModelKind::Set;
        valid(
            set,
            &[(0, 1, bring(set, 2)), (2, 9, bring(set, 1)), (0, 9, list(&[1, 2])), (0, 9, list(&[2, 1]))],
        );
        let both =
            [(0, 1, bring(model, 1)), (0, 1, bring(model, 2)), (2, 3, list(&[1, 2])), (2, 3, list(&[2, 1]))];
        faulty(model, &both, Kind::Divergent, 2, Some(3), &[1, 2]);
    }
}
