//! A number that is added to and read: Jepsen's counter. An absent key reads as 0.
//! That negative numbers may be added is the history's decision.

use super::Model;
use crate::history::{Action, Value};

/// A counter.
#[derive(Clone, Debug)]
pub struct Counter;

impl Model for Counter {
    type State = i64;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, action: &Action) -> Option<i64> {
        match action {
            Action::Read(Value::Nil) => (*state == 0).then_some(0),
            Action::Read(Value::Int(n)) => (n == state).then_some(*state),
            // A sum that does not fit was never read.
            Action::Add(Value::Int(n)) => state.checked_add(*n),
            _ => None,
        }
    }

    fn size(&self, _state: &i64) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_adds_up() {
        let add = |n: i64| Action::Add(n.into());
        let read = |n: i64| Action::Read(n.into());
        assert_eq!(Counter.step(&0, &add(3)), Some(3));
        assert_eq!(Counter.step(&3, &add(-4)), Some(-1));
        assert_eq!(Counter.step(&3, &read(3)), Some(3));
        assert_eq!(Counter.step(&3, &read(4)), None);
        assert_eq!(Counter.step(&0, &Action::Read(Value::Nil)), Some(0));
        assert_eq!(Counter.step(&3, &Action::Read(Value::Nil)), None);
        assert_eq!(Counter.step(&i64::MAX, &add(1)), None);
        assert_eq!(Counter.step(&3, &Action::Write(3.into())), None);
    }
}
