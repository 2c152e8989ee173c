//! Sets: add an element, read all of them; an acknowledged element must be in every later read, in any order.
//! In the node a set is stored like a list, because the node knows bytes alone.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::slots::Slots;
use super::{Action, Family, Operation, Seen, Values};

#[derive(Debug)]
pub(super) struct Sets {
    slots: Slots,
    /// Whether clients read.
    reads: bool,
}

impl Sets {
    /// 80 elements of up to eight digits are 720 bytes: a read of them is one datagram.
    pub(super) fn new(reads: bool) -> Sets {
        Sets { slots: Slots::new("s", 4, 80), reads }
    }
}

impl Family for Sets {
    fn prefix(&self) -> &'static str {
        "s"
    }

    fn model(&self) -> &'static str {
        "set"
    }

    fn next(&mut self, rng: &mut ChaCha8Rng, _seen: &Seen, values: &mut Values) -> Operation {
        let (slot, key) = self.slots.draw(rng);
        if self.reads && rng.random_ratio(1, 3) {
            return Operation::read(&key);
        }
        self.slots.spend(slot);
        self.write(&key, values)
    }

    fn write(&self, key: &str, values: &mut Values) -> Operation {
        Operation { key: key.to_owned(), action: Action::Add(values.next()) }
    }

    fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }
}
