//! A lock that one holds at a time. Who holds it is not recorded: an acquire that may have happened and is never given back
//! blocks all others, as in Knossos' model.

use super::Model;
use crate::history::Action;

/// A lock.
#[derive(Clone, Debug)]
pub struct Mutex;

impl Model for Mutex {
    /// Whether it is held.
    type State = bool;

    fn initial(&self) -> bool {
        false
    }

    fn step(&self, held: &bool, action: &Action) -> Option<bool> {
        match action {
            Action::Acquire => (!held).then_some(true),
            Action::Release => held.then_some(false),
            _ => None,
        }
    }

    fn size(&self, _held: &bool) -> usize {
        0
    }

    fn states(&self, _actions: &[&Action]) -> Option<Vec<bool>> {
        Some(vec![false, true])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_once_and_given_back_once() {
        assert_eq!(Mutex.step(&Mutex.initial(), &Action::Acquire), Some(true));
        assert_eq!(Mutex.step(&true, &Action::Acquire), None);
        assert_eq!(Mutex.step(&true, &Action::Release), Some(false));
        assert_eq!(Mutex.step(&false, &Action::Release), None);
        assert_eq!(Mutex.step(&false, &Action::Write(1.into())), None);
    }
}
