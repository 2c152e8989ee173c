//! A first-in, first-out queue. That a dequeue of nothing returns nil is the format's decision.
//! A dequeue whose outcome nobody knows takes whatever is first, or nothing from an empty queue.

use std::collections::VecDeque;

use super::Model;
use crate::history::{Action, Value};

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue;

impl Model for Queue {
    type State = VecDeque<Value>;

    fn initial(&self) -> VecDeque<Value> {
        VecDeque::new()
    }

    fn step(&self, state: &VecDeque<Value>, action: &Action) -> Option<VecDeque<Value>> {
        let mut next = state.clone();
        match action {
            Action::Enqueue(element) => next.push_back(element.clone()),
            Action::Dequeue(None) => _ = next.pop_front(),
            Action::Dequeue(Some(Value::Nil)) if next.is_empty() => {}
            Action::Dequeue(Some(element)) if next.front() == Some(element) => _ = next.pop_front(),
            _ => return None,
        }
        Some(next)
    }

    fn size(&self, state: &VecDeque<Value>) -> usize {
        state.capacity() * size_of::<Value>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_is_first_out() {
        let take = |v: i64| Action::Dequeue(Some(v.into()));
        let nothing = Action::Dequeue(Some(Value::Nil));
        let one = Queue.step(&Queue.initial(), &Action::Enqueue(1.into())).unwrap();
        let two = Queue.step(&one, &Action::Enqueue(2.into())).unwrap();
        assert_eq!(Queue.step(&two, &take(2)), None);
        let left = Queue.step(&two, &take(1)).unwrap();
        assert_eq!(Queue.step(&two, &Action::Dequeue(None)), Some(left.clone()));
        assert_eq!(Queue.step(&left, &nothing), None);
        assert_eq!(Queue.step(&left, &take(2)), Some(Queue.initial()));
        assert_eq!(Queue.step(&Queue.initial(), &nothing), Some(Queue.initial()));
        assert_eq!(Queue.step(&Queue.initial(), &Action::Dequeue(None)), Some(Queue.initial()));
        assert_eq!(Queue.step(&left, &Action::Read(2.into())), None);
    }
}
