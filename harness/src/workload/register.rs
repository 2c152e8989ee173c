//! Registers: read, write and compare-and-set on a few keys at a time, each for some hundred operations.
//! A key must rotate because the cost of judging one grows with the operations of unknown outcome on it.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::slots::Slots;
use super::{Action, Can, Family, Operation, Seen, Values};

/// First letter of register keys.
pub(super) const PREFIX: &str = "r";

/// Uses of a key, at most: the cost of judging one grows with them.
const USES_MAX: u32 = 400;
/// And at least: each key is read through each node at the end.
const USES_MIN: u32 = 40;
/// Where nobody reads before the end, when only the last write of each shows.
const USES_UNREAD: u32 = 2;

/// So many operations of a hundred read a key that was retired: nobody writes it any more, so that what a leader has of it shows for as
/// long as it leads.
const RETIRED_PERCENT: u32 = 6;
/// It is one of so many.
const RETIRED: usize = 30;

#[derive(Debug)]
pub(super) struct Registers {
    slots: Slots,
    can: Can,
}

impl Registers {
    /// At `rate` operations a second (0: as many as there can be) a key is in use for about a second: the last writes before a leader
    /// fell are then often the last of their keys, and what is lost of them cannot be hidden by later ones.
    pub(super) fn new(can: Can, rate: u32) -> Registers {
        let lifetime = match (can.read, rate) {
            (false, _) => USES_UNREAD,
            (true, 0) => USES_MAX,
            (true, rate) => (rate / 5).clamp(USES_MIN, USES_MAX),
        };
        Registers { slots: Slots::new(PREFIX, 5, lifetime), can }
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
        let draw = rng.random_range(0..100);
        if self.can.read
            && draw < RETIRED_PERCENT
            && let Some(key) = self.slots.draw_retired(rng, RETIRED)
        {
            return Operation::read(&key);
        }
        let (slot, key) = self.slots.draw(rng);
        self.slots.spend(slot);
        let action = match (draw, seen.get(&key)) {
            (0..40, _) if self.can.read => Action::Read,
            (70..100, Some(&from)) if self.can.cas => Action::Cas { from, to: values.next() },
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
