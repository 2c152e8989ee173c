//! Shrinks a contradiction between transactions on lists to few transactions and few elements of their lists. The elements that
//! are left out are left out everywhere: of what is appended, and of what is read. How it is told is `stories`' business.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Op;
use super::{Fault, Verdict, judge, steps};
use crate::deadline::Deadline;
use crate::history::{Action, Micro, Value};

/// Keys and elements that count.
pub(in super::super) type Kept = BTreeSet<(String, Value)>;

/// What is left, from which nothing can be left out.
pub(in super::super) struct Core {
    /// Ascending.
    pub(in super::super) ops: Vec<usize>,
    pub(in super::super) kept: Kept,
    /// Of the operations, by position in `ops`, reduced to the elements.
    pub(in super::super) fault: Fault,
    /// The clock ended the shrinking.
    pub(in super::super) late: bool,
}

/// Shrinks a fault of these operations.
pub(in super::super) fn shrink(ops: &[Op], fault: &Fault, deadline: Deadline) -> Core {
    let kept: Kept = fault.elements.iter().cloned().collect();
    let mut bringers = BTreeMap::new();
    for (i, op) in ops.iter().enumerate() {
        for step in steps(op) {
            if let Micro::Append(key, element) = step
                && let Some(pair) = kept.get(&(key.to_string(), element.clone()))
            {
                bringers.insert(pair.clone(), i);
            }
        }
    }
    let shrinking = Shrinking { ops, bringers };
    let set = shrinking.close(fault.ops.clone(), &kept);
    let mut core = Core { ops: set, kept, fault: fault.clone(), late: false };
    let reduced = shrinking.contradiction(&core.ops, &core.kept);
    debug_assert!(reduced.is_some(), "a fault that is none by itself: {fault:?}");
    core.fault = reduced.unwrap_or(core.fault);
    loop {
        core.late = deadline.passed();
        let smaller = |core: &Core| {
            let without_element = core.kept.iter().find_map(|element| {
                let mut kept = core.kept.clone();
                kept.remove(element);
                shrinking.smaller(core, core.ops.clone(), kept)
            });
            without_element.or_else(|| {
                core.ops.iter().find_map(|op| {
                    let rest: Vec<usize> = core.ops.iter().copied().filter(|other| other != op).collect();
                    shrinking.smaller(core, rest, core.kept.clone())
                })
            })
        };
        match (!core.late).then(|| smaller(&core)).flatten() {
            Some(smaller) => core = smaller,
            None => return core,
        }
    }
}

struct Shrinking<'a> {
    ops: &'a [Op],
    bringers: BTreeMap<(String, Value), usize>,
}

impl Shrinking<'_> {
    /// What is left of a core, if it is still wrong.
    fn smaller(&self, than: &Core, ops: Vec<usize>, kept: Kept) -> Option<Core> {
        let ops = self.close(
            ops.into_iter().filter(|op| !steps(&reduce(&self.ops[*op], &kept)).is_empty()).collect(),
            &kept,
        );
        if ops.len() > than.ops.len() || (ops.len() == than.ops.len() && kept.len() == than.kept.len()) {
            return None;
        }
        let fault = self.contradiction(&ops, &kept)?;
        Some(Core { ops, kept, fault, late: false })
    }

    fn contradiction(&self, ops: &[usize], kept: &Kept) -> Option<Fault> {
        let reduced: Vec<Op> = ops.iter().map(|op| reduce(&self.ops[*op], kept)).collect();
        match judge(&reduced) {
            Verdict::Violation(fault) => Some(fault),
            _ => None,
        }
    }

    /// These, and who appended what they read.
    fn close(&self, mut queue: Vec<usize>, kept: &Kept) -> Vec<usize> {
        let mut set = BTreeSet::new();
        while let Some(op) = queue.pop() {
            if !set.insert(op) {
                continue;
            }
            for step in steps(&reduce(&self.ops[op], kept)) {
                if let Micro::Read(key, Some(value)) = step {
                    let bringer = |e: &Value| self.bringers.get(&(key.to_string(), e.clone())).copied();
                    // Who began after it had ended appended nothing that it saw.
                    let possible = |other: &usize| self.ops[*other].call <= self.ops[op].ret;
                    queue.extend(
                        value.items().unwrap_or_default().iter().filter_map(bringer).filter(possible),
                    );
                }
            }
        }
        set.into_iter().collect()
    }
}

/// The operation as it looks if only these elements count.
pub(in super::super) fn reduce(op: &Op, kept: &Kept) -> Op {
    let counts = |key: &str, element: &Value| kept.contains(&(key.to_owned(), element.clone()));
    let step = |step: &Micro| match step {
        Micro::Append(key, element) => counts(key, element).then(|| step.clone()),
        Micro::Read(key, Some(value)) if kept.iter().any(|(k, _)| **k == **key) => {
            let list = value.elements()?.iter().filter(|element| counts(key, element)).cloned().collect();
            Some(Micro::Read(key.clone(), Some(Value::List(list))))
        }
        _ => None,
    };
    Op { action: Action::Txn(steps(op).iter().filter_map(step).collect()), ..op.clone() }
}
