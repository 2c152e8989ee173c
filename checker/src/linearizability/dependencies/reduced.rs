//! Shrinks a contradiction between transactions to few transactions and few values: elements of lists, values of registers. What is
//! left out is left out everywhere, where it is brought and where it is read, which turns a valid order into a valid order. How it
//! is told is `stories`' business.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::{Budget, Op, serial};
use super::{Fault, Kind, Verdict, judge, steps};
use crate::deadline::Deadline;
use crate::history::{Action, Micro, Value};

/// Bounds of each probe: one that takes longer keeps what it wanted to leave out.
const PROBE: Budget = Budget { steps: 50_000, memory: 1 << 26, deadline: Deadline::NEVER };
/// Transactions judged for one core, over all probes; beyond it the core stays as large as it is.
const WORK: usize = 2_000_000;

/// Values that count, by key.
pub(in super::super) type Kept = BTreeMap<String, BTreeSet<Value>>;

/// What is left, from which nothing can be left out without its being wrong in another way or not at all.
pub(in super::super) struct Core {
    /// Ascending.
    pub(in super::super) ops: Vec<usize>,
    pub(in super::super) kept: Kept,
    /// What is wrong with the lists of the operations, by position in `ops`, reduced to what counts; `None` if it takes registers.
    pub(in super::super) fault: Option<Fault>,
    /// The clock ended the shrinking.
    pub(in super::super) late: bool,
}

/// Shrinks a fault of these operations.
pub(in super::super) fn of_lists(ops: &[Op], fault: &Fault, deadline: Deadline) -> Option<Core> {
    let mut kept = Kept::new();
    for (key, element) in &fault.elements {
        kept.entry(key.clone()).or_default().insert(element.clone());
    }
    let shrinking = Shrinking { ops, bringers: bringers(ops) };
    let core = shrinking.core(fault.ops.clone(), kept)?;
    Some(shrinking.shrink(core, deadline))
}

/// Shrinks these operations, which have no order; it shows near a moment.
pub(in super::super) fn of_registers(
    ops: &[Op],
    seed: &[usize],
    at: u64,
    deadline: Deadline,
) -> Option<Core> {
    let shrinking = Shrinking { ops, bringers: bringers(ops) };
    let (mut early, late): (Vec<usize>, Vec<usize>) = seed.iter().partition(|op| ops[**op].call <= at);
    early.sort_by_key(|op| (ops[*op].call, *op));
    // Most contradictions are near.
    let mut count = 8;
    loop {
        let whole = count >= early.len();
        let mut near = early[early.len().saturating_sub(count)..].to_vec();
        if whole {
            near.extend(&late);
        }
        let mut kept = Kept::new();
        for step in near.iter().flat_map(|op| steps(&ops[*op])) {
            if let Micro::Write(key, value) | Micro::Append(key, value) | Micro::Read(key, Some(value)) = step
            {
                let parts = value.items().unwrap_or(std::slice::from_ref(value));
                kept.entry(key.to_string()).or_default().extend(parts.iter().cloned());
            }
        }
        if let Some(core) = shrinking.core(near, kept) {
            return Some(shrinking.shrink(core, deadline));
        }
        if whole || deadline.passed() {
            return None;
        }
        count *= 2;
    }
}

fn bringers(ops: &[Op]) -> HashMap<(&str, &Value), usize> {
    let mut bringers = HashMap::new();
    for (i, op) in ops.iter().enumerate() {
        bringers.extend(op.action.brought().into_iter().map(|pair| (pair, i)));
    }
    bringers
}

struct Shrinking<'a> {
    ops: &'a [Op],
    bringers: HashMap<(&'a str, &'a Value), usize>,
}

impl Shrinking<'_> {
    /// Leaves out values, then transactions, in halves, quarters and so on, until no single one can be left out.
    fn shrink(&self, mut core: Core, deadline: Deadline) -> Core {
        let mut left = WORK;
        loop {
            let before = (core.ops.len(), size(&core.kept));
            for values in [true, false] {
                let mut chunk = if values { size(&core.kept) } else { core.ops.len() }.div_ceil(2).max(1);
                loop {
                    let mut at = 0;
                    while at < if values { size(&core.kept) } else { core.ops.len() } {
                        core.late = deadline.passed();
                        if core.late || left == 0 {
                            return core;
                        }
                        left = left.saturating_sub(core.ops.len());
                        match self.without(&core, values, at, chunk) {
                            Some(smaller) => core = smaller,
                            None => at += chunk,
                        }
                    }
                    if chunk == 1 {
                        break;
                    }
                    chunk = chunk.div_ceil(2);
                }
            }
            if before == (core.ops.len(), size(&core.kept)) {
                return core;
            }
        }
    }

    /// The core without some of its values, or of its transactions, if it is smaller and still wrong. What is wrong with a list by
    /// itself stays that: two histories of it are not told as one that is stale.
    fn without(&self, core: &Core, values: bool, at: usize, chunk: usize) -> Option<Core> {
        let out = at..at + chunk;
        let (mut ops, mut kept) = (core.ops.clone(), core.kept.clone());
        if values {
            let mut n = 0;
            kept.retain(|_, of_key| {
                of_key.retain(|_| {
                    n += 1;
                    !out.contains(&(n - 1))
                });
                !of_key.is_empty()
            });
        } else {
            ops = ops.into_iter().enumerate().filter(|(n, _)| !out.contains(n)).map(|(_, op)| op).collect();
        }
        let smaller = self.core(ops, kept)?;
        let size = |core: &Core| (core.ops.len(), size(&core.kept));
        let kind = |core: &Core| core.fault.as_ref().map(|fault| std::mem::discriminant(&fault.kind));
        let circle = core.fault.as_ref().is_none_or(|fault| matches!(fault.kind, Kind::Circle(_)));
        ((circle || kind(&smaller) == kind(core)) && size(&smaller) < size(core)).then_some(smaller)
    }

    /// These, closed, if they have no order.
    fn core(&self, ops: Vec<usize>, kept: Kept) -> Option<Core> {
        let ops = self.close(ops, &kept);
        let reduced: Vec<Op> = ops.iter().map(|op| reduce(&self.ops[*op], &kept)).collect();
        let fault = match judge(&reduced) {
            Verdict::Violation(fault) => Some(fault),
            Verdict::Linearizable(_) => return None,
            Verdict::NotTold => match serial::judge(&Value::Nil, &reduced, PROBE) {
                serial::Verdict::Violation(..) => None,
                _ => return None,
            },
        };
        Some(Core { ops, kept, fault, late: false })
    }

    /// Those of these of which anything counts, and who brought what they saw.
    fn close(&self, mut queue: Vec<usize>, kept: &Kept) -> Vec<usize> {
        let mut set = BTreeSet::new();
        while let Some(op) = queue.pop() {
            if set.contains(&op) {
                continue;
            }
            let reduced = reduce(&self.ops[op], kept);
            if steps(&reduced).is_empty() {
                continue;
            }
            set.insert(op);
            for (key, value) in reduced.action.observed() {
                let parts = value.items().unwrap_or(std::slice::from_ref(value));
                let bringers = parts.iter().filter_map(|part| self.bringers.get(&(key, part)).copied());
                // Who began after it had ended brought nothing that it saw.
                queue.extend(bringers.filter(|other| self.ops[*other].call <= self.ops[op].ret));
            }
        }
        set.into_iter().collect()
    }
}

fn size(kept: &Kept) -> usize {
    kept.values().map(BTreeSet::len).sum()
}

/// The operation as it looks if only these values count. That nothing was there counts with any value of the key.
pub(in super::super) fn reduce(op: &Op, kept: &Kept) -> Op {
    let step = |step: &Micro| {
        let of_key = kept.get(&**step.key())?;
        match step {
            Micro::Append(_, value) | Micro::Write(_, value) => of_key.contains(value).then(|| step.clone()),
            Micro::Read(_, None) => None,
            Micro::Read(_, Some(Value::Nil)) => Some(step.clone()),
            Micro::Read(key, Some(Value::List(list))) => {
                let list = list.iter().filter(|element| of_key.contains(element)).cloned().collect();
                Some(Micro::Read(key.clone(), Some(Value::List(list))))
            }
            Micro::Read(_, Some(value)) => of_key.contains(value).then(|| step.clone()),
        }
    };
    Op { action: Action::Txn(steps(op).iter().filter_map(step).collect()), ..op.clone() }
}
