//! Lists: append an element, read the whole list; the order of the elements is the order of the appends.
//! A list gives way to a fresh one long before it reaches the node's bound on a value.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::slots::Slots;
use super::{Action, Family, Operation, Seen, Values};

#[derive(Debug)]
pub(super) struct Lists {
    slots: Slots,
    /// Whether clients read.
    reads: bool,
}

impl Lists {
    /// 60 elements of up to eight digits are 540 bytes: a read of them is one datagram.
    pub(super) fn new(reads: bool) -> Lists {
        Lists { slots: Slots::new("a", 3, 60), reads }
    }
}

impl Family for Lists {
    fn prefix(&self) -> &'static str {
        "a"
    }

    fn model(&self) -> &'static str {
        "list-append"
    }

    fn next(&mut self, rng: &mut ChaCha8Rng, _seen: &Seen, values: &mut Values) -> Operation {
        let (slot, key) = self.slots.draw(rng);
        if self.reads && rng.random_ratio(1, 2) {
            return Operation::read(&key);
        }
        self.slots.spend(slot);
        self.write(&key, values)
    }

    fn write(&self, key: &str, values: &mut Values) -> Operation {
        Operation { key: key.to_owned(), action: Action::Append(values.next()) }
    }

    fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }
}
