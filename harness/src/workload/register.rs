//! Registers: read, write and compare-and-set on a few keys at a time, each for some hundred operations.
//! A key must rotate because the cost of judging one grows with the operations of unknown outcome on it.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::slots::Slots;
use super::{Action, Family, Operation, Seen, Values};

/// First letter of register keys.
pub(super) const PREFIX: &str = "r";

#[derive(Debug)]
pub(super) struct Registers {
    slots: Slots,
    /// Whether clients can compare and set.
    cas: bool,
}

impl Registers {
    pub(super) fn new(cas: bool) -> Registers {
        Registers { slots: Slots::new(PREFIX, 5, 400), cas }
    }
}

impl Family for Registers {
    fn prefix(&self) -> &'static str {
        PREFIX
    }

    fn model(&self) -> &'static str {
        "cas-register"
    }

    fn next(&mut self, rng: &mut ChaCha8Rng, seen: &Seen, values: &mut Values) -> Operation {
        let (slot, key) = self.slots.draw(rng);
        self.slots.spend(slot);
        let action = match (rng.random_range(0..100), seen.get(&key)) {
            (0..40, _) => Action::Read,
            (70..100, Some(&from)) if self.cas => Action::Cas { from, to: values.next() },
            _ => Action::Write(values.next()),
        };
        Operation { key, action }
    }

    fn write(&self, key: &str, values: &mut Values) -> Operation {
        Operation { key: key.to_owned(), action: Action::Write(values.next()) }
    }

    fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }
}
