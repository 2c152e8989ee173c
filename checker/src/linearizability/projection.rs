//! What transactions do to one key alone is what a register sees: one that saw a value and left another is a compare-and-set. If that has
//! no order, neither have the transactions. The reverse does not hold, so that this only ever says invalid.

use std::collections::{BTreeMap, BTreeSet};

use super::{Budget, Op, chains, run, search};
use crate::history::{Action, Micro, Value};
use crate::model::ModelKind;

/// Steps of search for one key: what a single register takes that is not hard.
const STEPS: u64 = 200_000;

/// Operations whose part in one key has no order, by position. Keys that hold lists are left alone.
pub(super) fn wrong_key(model: ModelKind, ops: &[Op], budget: Budget) -> Option<Vec<usize>> {
    let register = match model {
        ModelKind::Txn => ModelKind::CasRegister,
        ModelKind::TxnFrom(n) => ModelKind::RegisterFrom(n),
        _ => return None,
    };
    let initial = model.initial();
    for parts in keys(ops, &initial).into_values() {
        let lists = |value: Option<&Value>| matches!(value, Some(Value::List(_)));
        if parts.iter().any(|part| lists(part.action.observes()) || lists(part.action.brings())) {
            continue;
        }
        let items = parts.iter().map(|Op { id, call, ret, action }| chains::Item {
            id: *id,
            call: *call,
            ret: *ret,
            action,
        });
        match chains::judge(items, &initial) {
            chains::Verdict::Linearizable => {}
            chains::Verdict::Violation(seed) => return Some(seed),
            chains::Verdict::NotUnique => {
                let budget = Budget { steps: budget.steps.min(STEPS), ..budget };
                if let search::Answer::Invalid { among } = run(register, &parts, budget, false) {
                    return Some(among.into_iter().map(|i| parts[i].id).collect());
                }
            }
        }
    }
    None
}

/// What each key saw, in the order of the operations, whose positions are the ids.
fn keys<'a>(ops: &'a [Op], initial: &Value) -> BTreeMap<&'a str, Vec<Op>> {
    let mut keys: BTreeMap<&str, Vec<Op>> = BTreeMap::new();
    let mut appended: BTreeSet<&str> = BTreeSet::new();
    for (id, op) in ops.iter().enumerate() {
        let Action::Txn(steps) = &op.action else { continue };
        appended
            .extend(steps.iter().filter(|step| matches!(step, Micro::Append(..))).map(|step| &**step.key()));
        let (seen, left) = (op.action.observed(), op.action.brought());
        let names: BTreeSet<&str> = seen.iter().chain(&left).map(|(key, _)| *key).collect();
        for name in names {
            let last = |told: &[(&str, &Value)]| {
                told.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).clone())
            };
            // Where registers always hold something, a read of nil is one without a result; and a transaction that nobody
            // heard of may have seen anything.
            let told = |value: &Value| !op.unknown() && (*value != Value::Nil || *initial == Value::Nil);
            let action = match (last(&seen).filter(told), last(&left)) {
                (Some(saw), Some(left)) => Action::Cas(saw, left),
                (Some(saw), None) => Action::Read(saw),
                (None, Some(left)) => Action::Write(left),
                (None, None) => continue,
            };
            keys.entry(name).or_default().push(Op { id, call: op.call, ret: op.ret, action });
        }
    }
    keys.retain(|key, _| !appended.contains(key));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Budget =
        Budget { steps: 100_000, memory: 1 << 26, deadline: crate::deadline::Deadline::NEVER };

    fn op(id: usize, call: u64, ret: u64, steps: &[Micro]) -> Op {
        Op { id, call, ret, action: Action::Txn(steps.into()) }
    }

    fn read(key: &str, value: Value) -> Micro {
        Micro::Read(key.into(), Some(value))
    }

    fn write(key: &str, value: Value) -> Micro {
        Micro::Write(key.into(), value)
    }

    #[test]
    fn a_key_that_is_wrong_by_itself_is_found_and_one_that_is_not_is_left() {
        let wrong = |ops: &[Op]| wrong_key(ModelKind::Txn, ops, AMPLE);
        let base = [
            op(0, 0, 1, &[write("x", 1.into()), write("y", 1.into())]),
            op(1, 2, 3, &[read("x", 1.into()), write("x", 2.into())]),
        ];
        let with = |last: Op| [&base[..], &[last]].concat();
        assert_eq!(wrong(&with(op(2, 4, 5, &[read("x", 2.into()), read("y", 1.into())]))), None);
        let stale = wrong(&with(op(2, 4, 5, &[read("x", 1.into()), read("y", 1.into())]))).unwrap();
        assert!(stale.contains(&1) && stale.contains(&2), "{stale:?}");
        let unknown = wrong(&with(op(2, 4, u64::MAX, &[read("x", 1.into()), write("y", 3.into())])));
        assert_eq!(unknown, None, "nobody knows what it saw");
        // Deleted and there again: no zones, but a search.
        let gone = [
            op(0, 0, 1, &[write("x", 1.into())]),
            op(1, 2, 3, &[write("x", Value::Nil)]),
            op(2, 4, 5, &[read("x", 1.into())]),
        ];
        assert!(wrong(&gone).unwrap().contains(&2));
        // Right for each key, wrong for both: not for this file.
        let skewed = [
            op(0, 0, 9, &[write("x", 1.into())]),
            op(1, 0, 9, &[write("y", 1.into())]),
            op(2, 1, 8, &[read("x", 1.into()), read("y", Value::Nil)]),
            op(3, 1, 8, &[read("x", Value::Nil), read("y", 1.into())]),
        ];
        assert_eq!(wrong(&skewed), None);
        let values = |n| read("l", Value::List([n].map(Value::Int).into()));
        let lists = [op(0, 0, 1, &[values(1)]), op(1, 2, 3, &[values(2)])];
        assert_eq!(wrong(&lists), None, "lists are left alone, also where nobody appends");
        let list =
            [op(0, 0, 1, &[read("l", Value::Nil)]), op(1, 2, 3, &[Micro::Append("l".into(), 1.into())])];
        assert_eq!(wrong(&list), None);
        let nothing = [op(0, 0, 1, &[write("x", 1.into())]), op(1, 2, 3, &[read("x", Value::Nil)])];
        assert_eq!(
            wrong_key(ModelKind::TxnFrom(0), &nothing, AMPLE),
            None,
            "a read of nil says nothing there"
        );
        let old = [op(0, 0, 1, &[write("x", 1.into())]), op(1, 2, 3, &[read("x", 0.into())])];
        assert_eq!(wrong_key(ModelKind::TxnFrom(0), &old, AMPLE), Some(vec![0, 1]));
    }
}
