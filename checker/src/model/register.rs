//! A register with read, write and compare-and-set.
//! That absent reads as nil is the format's decision, not this file's.

use std::collections::BTreeSet;

use super::Model;
use crate::history::{Action, Value};

/// Values that are few.
const STATES_MAX: usize = 64;

/// A compare-and-set register.
#[derive(Clone, Debug)]
pub struct Register {
    /// Value before the first operation.
    pub initial: Value,
}

impl Model for Register {
    type State = Value;

    fn initial(&self) -> Value {
        self.initial.clone()
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        match action {
            Action::Read(value) | Action::CasMismatch(_, _, value) => (value == state).then(|| state.clone()),
            Action::Write(value) => Some(value.clone()),
            Action::Cas(from, to) => (from == state).then(|| to.clone()),
            _ => None,
        }
    }

    fn size(&self, _state: &Value) -> usize {
        0
    }

    fn overwrites(&self, action: &Action) -> bool {
        matches!(action, Action::Write(_))
    }

    fn states(&self, actions: &[&Action]) -> Option<Vec<Value>> {
        let brought = actions.iter().filter_map(|action| action.brings());
        let states: BTreeSet<&Value> = brought.chain([&self.initial]).collect();
        (states.len() <= STATES_MAX).then(|| states.into_iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_holds_what_was_written_last() {
        let model = Register { initial: Value::Nil };
        let step = |state: Value, action| model.step(&state, &action);
        assert_eq!(model.initial(), Value::Nil);
        assert_eq!(step(Value::Nil, Action::Write(1.into())), Some(1.into()));
        assert_eq!(step(1.into(), Action::Read(1.into())), Some(1.into()));
        assert_eq!(step(1.into(), Action::Read(Value::Nil)), None);
        assert_eq!(step(1.into(), Action::Cas(1.into(), 2.into())), Some(2.into()));
        assert_eq!(step(1.into(), Action::Cas(2.into(), 3.into())), None);
        assert_eq!(step(1.into(), Action::CasMismatch(2.into(), 3.into(), 1.into())), Some(1.into()));
        assert_eq!(step(2.into(), Action::CasMismatch(2.into(), 3.into(), 1.into())), None);
        assert_eq!(step(1.into(), Action::Append(2.into())), None);
    }
}
