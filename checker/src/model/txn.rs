//! Several keys behind transactions that read, write and append: each happens at one moment (strict serializability).
//! Which transactions have a key in common, and so have to be ordered together, is the engines' business.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Model;
use crate::history::{Action, Micro, Value};

/// Keys behind transactions.
#[derive(Clone, Debug)]
pub struct Txn {
    /// What every key holds at first.
    pub initial: Value,
}

impl Model for Txn {
    /// The keys that were changed.
    type State = BTreeMap<Arc<str>, Value>;

    fn initial(&self) -> BTreeMap<Arc<str>, Value> {
        BTreeMap::new()
    }

    fn step(&self, state: &BTreeMap<Arc<str>, Value>, action: &Action) -> Option<BTreeMap<Arc<str>, Value>> {
        let Action::Txn(steps) = action else { return None };
        let mut next = state.clone();
        for step in steps.iter() {
            let held = next.get(step.key()).unwrap_or(&self.initial);
            let value = match step {
                Micro::Read(_, None) => continue,
                Micro::Read(_, Some(read)) => {
                    let empty = |v: &Value| *v == Value::Nil || v.items().is_some_and(<[Value]>::is_empty);
                    // Where a register always holds a number, a read of nil is one without a result.
                    let untold = self.initial != Value::Nil && *read == Value::Nil;
                    if held == read || untold || (empty(held) && empty(read)) {
                        continue;
                    }
                    return None;
                }
                Micro::Write(_, value) => value.clone(),
                Micro::Append(_, element) => {
                    Value::List(held.elements()?.iter().chain([element]).cloned().collect())
                }
            };
            next.insert(step.key().clone(), value);
        }
        Some(next)
    }

    fn size(&self, state: &BTreeMap<Arc<str>, Value>) -> usize {
        let value = |v: &Value| v.items().map_or(0, size_of_val);
        state.values().map(|v| 2 * size_of::<(Arc<str>, Value)>() + value(v)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_happens_as_a_whole_or_not_at_all() {
        let model = Txn { initial: Value::Nil };
        let (x, y): (Arc<str>, Arc<str>) = ("x".into(), "y".into());
        let read = |key: &Arc<str>, v: Value| Micro::Read(key.clone(), Some(v));
        let write = |key: &Arc<str>, v: i64| Micro::Write(key.clone(), v.into());
        let append = |key: &Arc<str>, v: i64| Micro::Append(key.clone(), v.into());
        let step = |state: &_, steps: &[Micro]| model.step(state, &Action::Txn(steps.into()));
        let one = step(&model.initial(), &[read(&x, Value::Nil), write(&x, 1), read(&x, 1.into())]).unwrap();
        assert_eq!(step(&one, &[write(&y, 2), read(&x, 2.into())]), None);
        let two = step(&one, &[write(&x, 2), append(&y, 7), Micro::Read(x.clone(), None)]).unwrap();
        let list = Value::List([7.into()].into());
        assert_eq!(step(&two, &[read(&x, 2.into()), read(&y, list)]), Some(two.clone()));
        assert_eq!(step(&two, &[append(&x, 1)]), None, "a number is no list");
        assert!(step(&one, &[read(&y, Value::List([].into()))]).is_some(), "nothing is the empty list");
        assert_eq!(model.step(&two, &Action::Acquire), None);
        let zero = Txn { initial: 0.into() };
        assert!(zero.step(&zero.initial(), &Action::Txn([read(&x, 0.into())].into())).is_some());
        assert!(zero.step(&zero.initial(), &Action::Txn([read(&x, Value::Nil)].into())).is_some());
        assert_eq!(step(&two, &[read(&x, Value::Nil)]), None);
    }
}
