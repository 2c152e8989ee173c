//! Which operations can decide anything about a key: what leaves no mark on anything that was seen would only be tried in vain.
//! What the others mean is the engines' business.

use std::collections::{HashMap, HashSet};

use super::{Op, counted};
use crate::history::{Action, Micro, Operation, Value};
use crate::model::ModelKind;

/// What can decide: without failed operations, without reads that returned nothing, and without indeterminate operations
/// that leave no mark on anything read. The last is lossless: take them out of any valid order and it stays valid.
pub(super) fn relevant(model: ModelKind, operations: &[Operation]) -> Vec<Op> {
    let mut ops: Vec<Op> = counted(operations)
        .map(|(id, o)| Op { id, call: o.invoke, ret: o.end(), action: o.action.clone() })
        .collect();
    if matches!(model, ModelKind::Txn | ModelKind::TxnFrom(_)) {
        return told_transactions(ops);
    }
    let told_by_values = model.is_register() || matches!(model, ModelKind::ListAppend | ModelKind::Set);
    if !told_by_values || !ops.iter().any(Op::unknown) {
        return ops;
    }
    let mut seen: HashSet<Value> = HashSet::new();
    for op in ops.iter().filter(|op| !op.unknown()) {
        match op.action.observes() {
            Some(Value::List(items)) if !model.is_register() => {
                // Long lists are read again and again; most of their elements are known already.
                for item in items.iter() {
                    if !seen.contains(item) {
                        seen.insert(item.clone());
                    }
                }
            }
            Some(value) => {
                seen.insert(value.clone());
            }
            None => {}
        }
    }
    // An indeterminate cas whose result was seen has happened, so its own `from` was there.
    let mut waiting: HashMap<Value, Vec<Value>> = HashMap::new();
    for op in ops.iter().filter(|op| op.unknown()) {
        if let (Some(from), Some(to)) = (op.action.observes(), op.action.brings()) {
            waiting.entry(to.clone()).or_default().push(from.clone());
        }
    }
    let mut queue: Vec<Value> = waiting.keys().filter(|to| seen.contains(to)).cloned().collect();
    while let Some(to) = queue.pop() {
        for from in waiting.remove(&to).unwrap_or_default() {
            if seen.insert(from.clone()) {
                queue.push(from);
            }
        }
    }
    ops.retain(|op| !op.unknown() || op.action.brings().is_some_and(|value| seen.contains(value)));
    ops
}

/// The same for transactions: indeterminate ones lose what they do to keys that nobody ever read, and those of which nobody
/// saw anything are left out. Keys that hold values as well as lists stay: a value is no list to append to.
fn told_transactions(ops: Vec<Op>) -> Vec<Op> {
    if !ops.iter().any(Op::unknown) {
        return ops;
    }
    let (mut written, mut appended) = (HashSet::new(), HashSet::new());
    let mut seen: HashMap<&str, HashSet<&Value>> = HashMap::new();
    for step in ops.iter().flat_map(|op| steps(&op.action)) {
        match step {
            Micro::Read(key, Some(value)) => {
                let seen = seen.entry(&**key).or_default();
                seen.insert(value);
                seen.extend(value.items().into_iter().flatten());
            }
            Micro::Read(_, None) => {}
            Micro::Write(key, _) => drop(written.insert(&**key)),
            Micro::Append(key, _) => drop(appended.insert(&**key)),
        }
    }
    let mixed = |key: &str| written.contains(key) && appended.contains(key);
    let marks = |step: &Micro| match step {
        Micro::Read(..) => false,
        Micro::Write(key, value) | Micro::Append(key, value) => {
            mixed(key) || seen.get(&**key).is_some_and(|seen| seen.contains(value))
        }
    };
    let matters = |step: &&Micro| match step {
        Micro::Read(_, told) => told.is_some(),
        Micro::Write(key, _) | Micro::Append(key, _) => mixed(key) || seen.contains_key(&**key),
    };
    let told = |op: &Op| {
        if !op.unknown() {
            return Some(op.clone());
        }
        let steps = steps(&op.action);
        let kept = || Action::Txn(steps.iter().filter(matters).cloned().collect());
        steps.iter().any(marks).then(|| Op { action: kept(), ..op.clone() })
    };
    ops.iter().filter_map(told).collect()
}

fn steps(action: &Action) -> &[Micro] {
    match action {
        Action::Txn(steps) => steps,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(id: usize, ret: u64, steps: &[Micro]) -> Op {
        Op { id, call: 0, ret, action: Action::Txn(steps.into()) }
    }

    #[test]
    fn of_indeterminate_operations_stays_what_somebody_saw() {
        use crate::history::{Outcome, Phase};
        let operation = |(index, (outcome, action)): (usize, &(Outcome, Action))| Operation {
            index: index as u64,
            process: index as u64,
            action: action.clone(),
            outcome: *outcome,
            ended: None,
            invoke: 0,
            complete: Some(9),
            node: None,
            position: None,
            phase: Phase::Load,
        };
        let kept = |model, steps: &[(Outcome, Action)]| -> Vec<usize> {
            let operations: Vec<Operation> = steps.iter().enumerate().map(operation).collect();
            relevant(model, &operations).iter().map(|op| op.id).collect()
        };
        use Outcome::{Fail, Info, Ok};
        let list = |n: i64| Value::List([n].map(Value::Int).into());
        let write = |value: Value| (Info, Action::Write(value));
        let cas = |from: i64, to: i64| (Info, Action::Cas(from.into(), to.into()));
        let register = ModelKind::CasRegister;
        let through = [write(1.into()), cas(1, 2), cas(2, 3), cas(7, 8), (Ok, Action::Read(3.into()))];
        assert_eq!(kept(register, &through), [0, 1, 2, 4], "3 was seen, so 2 and 1 were there");
        let whole = [write(list(1)), write(1.into()), (Ok, Action::Read(list(1)))];
        assert_eq!(kept(register, &whole), [0, 2], "a register holds a list as a whole");
        let append = |n: i64| (Info, Action::Append(n.into()));
        let element = [append(1), append(2), (Ok, Action::Read(list(1))), (Fail, Action::Append(1.into()))];
        assert_eq!(kept(ModelKind::ListAppend, &element), [0, 2]);
        let sum = [(Info, Action::Add(1.into())), (Ok, Action::Read(2.into()))];
        assert_eq!(kept(ModelKind::Counter, &sum), [0, 1], "any add may be in a sum");
    }

    #[test]
    fn of_indeterminate_transactions_stays_what_somebody_may_have_seen() {
        let write = |key: &str, v: i64| Micro::Write(key.into(), v.into());
        let append = |key: &str, v: i64| Micro::Append(key.into(), v.into());
        let read = |key: &str, value: Value| Micro::Read(key.into(), Some(value));
        let known =
            op(0, 9, &[read("x", 1.into()), read("l", Value::List([7.into()].into())), write("m", 1)]);
        let kept = |steps: &[Micro]| {
            let mut left = told_transactions(vec![known.clone(), op(1, u64::MAX, steps)]);
            assert_eq!(left.remove(0), known, "what happened stays as it is");
            left.pop().map(|op| op.action)
        };
        let stays = |steps: &[Micro]| Some(Action::Txn(steps.into()));
        assert_eq!(kept(&[write("x", 1), write("y", 1)]), stays(&[write("x", 1)]), "nobody reads y");
        assert_eq!(kept(&[write("x", 2)]), None, "nobody saw 2");
        assert_eq!(kept(&[write("x", 2), append("l", 7)]), stays(&[write("x", 2), append("l", 7)]));
        assert_eq!(kept(&[append("l", 8), Micro::Read("x".into(), None)]), None);
        assert_eq!(kept(&[append("m", 8)]), stays(&[append("m", 8)]), "m is no list while it holds 1");
    }
}
