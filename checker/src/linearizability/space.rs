//! The states that a search has met, each kept once and named by a number, and what every action makes of them, asked of the
//! model once. What is done with them is `search`'s business.

use std::collections::HashMap;
use std::rc::Rc;

use crate::hash::FastMap;
use crate::history::Action;
use crate::model::Model;

/// In the memory of steps: the action is impossible in that state.
const IMPOSSIBLE: u32 = u32::MAX;

/// States and steps of one model.
pub(super) struct Space<'a, M: Model> {
    model: &'a M,
    actions: Vec<&'a Action>,
    states: Vec<Rc<M::State>>,
    numbers: HashMap<Rc<M::State>, u32>,
    steps: FastMap<u64, u32>,
    bytes: u64,
}

impl<'a, M: Model> Space<'a, M> {
    /// With the initial state, which is number 0.
    pub(super) fn new(model: &'a M, actions: Vec<&'a Action>) -> Self {
        let mut space = Space {
            model,
            actions,
            states: Vec::new(),
            numbers: HashMap::new(),
            steps: FastMap::default(),
            bytes: 0,
        };
        space.number(model.initial());
        space
    }

    /// The state after an action.
    pub(super) fn step(&mut self, state: u32, action: u32) -> Option<u32> {
        let key = u64::from(state) << 32 | u64::from(action);
        if let Some(known) = self.steps.get(&key) {
            return (*known != IMPOSSIBLE).then_some(*known);
        }
        let next = self.model.step(&self.states[state as usize], self.actions[action as usize]);
        let next = next.map(|state| self.number(state));
        self.steps.insert(key, next.unwrap_or(IMPOSSIBLE));
        // Tables double when they grow, and hold both for a moment.
        self.bytes += 3 * size_of::<(u64, u32)>() as u64;
        next
    }

    /// The number of a state.
    pub(super) fn number(&mut self, state: M::State) -> u32 {
        if let Some(number) = self.numbers.get(&state) {
            return *number;
        }
        let number = self.states.len() as u32;
        // Its own bytes, two counts, up to two places in the list and three in the table, and what allocators add.
        self.bytes += (self.model.size(&state) + size_of::<M::State>() + 128) as u64;
        let state = Rc::new(state);
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }

    /// About how many bytes all of it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets all states but the first and these, and renames these.
    pub(super) fn forget<'s>(&mut self, kept: impl Iterator<Item = &'s mut u32>) {
        let states = std::mem::take(&mut self.states);
        self.numbers.clear();
        self.steps = FastMap::default();
        self.bytes = 0;
        self.number(self.model.initial());
        for number in kept {
            *number = self.number(M::State::clone(&states[*number as usize]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Value;
    use crate::model::List;

    #[test]
    fn a_state_has_one_number_and_what_is_forgotten_is_found_again() {
        let (append, read) = (Action::Append(1.into()), Action::Read(Value::List([1.into()].into())));
        let mut space = Space::new(&List, vec![&append, &read]);
        let one = space.step(0, 0).unwrap();
        assert_eq!((space.step(0, 0), space.step(0, 1), space.step(one, 1)), (Some(one), None, Some(one)));
        let mut two = space.step(one, 0).unwrap();
        let before = space.bytes();
        space.forget([&mut two].into_iter());
        assert!(space.bytes() < before);
        assert_eq!((two, space.step(two, 1)), (1, None));
        assert_eq!(space.step(0, 0), Some(2), "one is a new state again");
    }
}
