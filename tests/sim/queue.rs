//! What will happen, in the order of virtual time; what was planned first happens first among equals.
//! What it means is left to the world.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

struct Planned<E> {
    at: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Planned<E>) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<E> Eq for Planned<E> {}
impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Planned<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Planned<E> {
    /// Reversed: a `BinaryHeap` gives its greatest first.
    fn cmp(&self, other: &Planned<E>) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Virtual time, in nanoseconds, and what is planned.
pub(crate) struct Queue<E> {
    now: u64,
    order: u64,
    heap: BinaryHeap<Planned<E>>,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Queue<E> {
        Queue { now: 0, order: 0, heap: BinaryHeap::new() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Plans `event` in `delay` ns.
    pub(crate) fn after(&mut self, delay: u64, event: E) {
        self.order += 1;
        self.heap.push(Planned { at: self.now.saturating_add(delay), order: self.order, event });
    }

    /// The next event, if it is due by `until`; time goes on to it, or to `until` if there is none.
    pub(crate) fn next(&mut self, until: u64) -> Option<E> {
        if self.heap.peek().is_none_or(|next| next.at > until) {
            self.now = self.now.max(until);
            return None;
        }
        let Planned { at, event, .. } = self.heap.pop()?;
        self.now = at;
        Some(event)
    }

    /// Takes back what `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&E) -> bool) {
        self.heap.retain(|planned| keep(&planned.event));
    }
}
