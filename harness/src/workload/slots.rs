//! The keys of one type: a few in use at once, each replaced by a fresh one after a fixed number of uses.
//! What counts as a use is decided by the type that owns the slots.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Keys in use and keys that were.
#[derive(Debug)]
pub(super) struct Slots {
    prefix: &'static str,
    /// Uses of a key before it is retired.
    lifetime: u32,
    /// Index into `used` of the key in each slot, and its uses.
    active: Vec<(usize, u32)>,
    used: Vec<String>,
    /// Those of them that were in a slot, and are no more.
    retired: Vec<usize>,
}

impl Slots {
    /// `count` slots of keys that start with `prefix`, each good for `lifetime` uses.
    pub(super) fn new(prefix: &'static str, count: usize, lifetime: u32) -> Slots {
        let mut slots = Slots { prefix, lifetime, active: Vec::new(), used: Vec::new(), retired: Vec::new() };
        for _ in 0..count {
            let key = slots.fresh();
            slots.active.push((key, 0));
        }
        slots
    }

    /// One of the active keys.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> (usize, String) {
        let slot = rng.random_range(0..self.active.len());
        (slot, self.used[self.active[slot].0].clone())
    }

    /// One of the newest `newest` keys that were retired; `None` if none was.
    pub(super) fn draw_retired(&self, rng: &mut ChaCha8Rng, newest: usize) -> Option<String> {
        let retired = self.retired.len().checked_sub(1)?;
        Some(self.used[self.retired[rng.random_range(retired.saturating_sub(newest - 1)..=retired)]].clone())
    }

    /// Counts one use of the key in `slot`; after its last one the slot holds a fresh key.
    pub(super) fn spend(&mut self, slot: usize) {
        self.active[slot].1 += 1;
        if self.active[slot].1 >= self.lifetime {
            self.retired.push(self.active[slot].0);
            self.active[slot] = (self.fresh(), 0);
        }
    }

    /// A key that stands in no slot.
    pub(super) fn reserve(&mut self) -> String {
        let key = self.fresh();
        self.used[key].clone()
    }

    /// Every key there ever was, oldest first.
    pub(super) fn used(&self) -> &[String] {
        &self.used
    }

    fn fresh(&mut self) -> usize {
        self.used.push(format!("{}{}", self.prefix, self.used.len()));
        self.used.len() - 1
    }
}
