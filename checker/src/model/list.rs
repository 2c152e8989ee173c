//! A list that grows at its end and is read as a whole.
//! That an absent key is an empty list is the format's decision.

use super::Model;
use crate::history::{Action, Value};

/// A list-append object.
#[derive(Clone, Debug)]
pub struct List;

impl Model for List {
    type State = Vec<Value>;

    fn initial(&self) -> Vec<Value> {
        Vec::new()
    }

    fn step(&self, state: &Vec<Value>, action: &Action) -> Option<Vec<Value>> {
        match action {
            Action::Read(value) => (value.elements() == Some(state)).then(|| state.clone()),
            Action::Append(element) => {
                let mut longer = state.clone();
                longer.push(element.clone());
                Some(longer)
            }
            _ => None,
        }
    }

    fn size(&self, state: &Vec<Value>) -> usize {
        state.len() * size_of::<Value>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_order_and_duplicates() {
        let list = |items: &[i64]| items.iter().copied().map(Value::Int).collect::<Vec<_>>();
        let read = |items: &[i64]| Action::Read(Value::List(list(items).into()));
        let state = List.step(&List.initial(), &Action::Append(2.into())).unwrap();
        let state = List.step(&state, &Action::Append(1.into())).unwrap();
        let state = List.step(&state, &Action::Append(2.into())).unwrap();
        assert_eq!(state, list(&[2, 1, 2]));
        assert_eq!(List.step(&state, &read(&[2, 1, 2])), Some(state.clone()));
        assert_eq!(List.step(&state, &read(&[2, 1])), None);
        assert_eq!(List.step(&state, &read(&[1, 2, 2])), None);
        assert_eq!(List.step(&List.initial(), &Action::Read(Value::Nil)), Some(Vec::new()));
        assert_eq!(List.step(&state, &Action::Write(2.into())), None);
    }
}
