//! A set that grows and is read as a whole, in any order.
//! A read that shows an element twice is impossible here: what is in a set is in it once.

use std::collections::BTreeSet;

use super::Model;
use crate::history::{Action, Value};

/// A grow-only set.
#[derive(Clone, Debug)]
pub struct Set;

impl Model for Set {
    type State = BTreeSet<Value>;

    fn initial(&self) -> BTreeSet<Value> {
        BTreeSet::new()
    }

    fn step(&self, state: &BTreeSet<Value>, action: &Action) -> Option<BTreeSet<Value>> {
        match action {
            Action::Read(value) => {
                let read = value.elements()?;
                let same = read.len() == state.len()
                    && read.iter().all(|e| state.contains(e))
                    && read.iter().collect::<BTreeSet<_>>().len() == read.len();
                same.then(|| state.clone())
            }
            Action::Add(element) => {
                let mut larger = state.clone();
                larger.insert(element.clone());
                Some(larger)
            }
            _ => None,
        }
    }

    fn size(&self, state: &BTreeSet<Value>) -> usize {
        state.len() * 2 * size_of::<Value>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_forgets_order_and_counts_once() {
        let read = |items: &[i64]| Action::Read(Value::List(items.iter().copied().map(Value::Int).collect()));
        let state = Set.step(&Set.initial(), &Action::Add(2.into())).unwrap();
        let state = Set.step(&state, &Action::Add(1.into())).unwrap();
        let state = Set.step(&state, &Action::Add(2.into())).unwrap();
        assert_eq!(state.len(), 2);
        assert_eq!(Set.step(&state, &read(&[2, 1])), Some(state.clone()));
        assert_eq!(Set.step(&state, &read(&[1, 2])), Some(state.clone()));
        for wrong in [&[1][..], &[1, 3], &[1, 1], &[1, 2, 2], &[1, 2, 3]] {
            assert_eq!(Set.step(&state, &read(wrong)), None, "{wrong:?}");
        }
        assert_eq!(Set.step(&Set.initial(), &Action::Read(Value::Nil)), Some(BTreeSet::new()));
        assert_eq!(Set.step(&state, &Action::Append(1.into())), None);
    }
}
