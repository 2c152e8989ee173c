//! Events that wait until nothing earlier can come any more, and come out in the order of their times. A history is written in
//! nearly that order: what is in its place stands in a queue, and only what comes late goes through a heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Time, whether it is a completion, and index: at equal times invokes come first, because equal times are concurrent.
pub(super) type Rank = (u64, bool, u64);

/// An event with its rank.
struct Ranked<T>(Rank, T);

impl<T> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Ranked<T> {}

impl<T> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Events that wait.
pub(super) struct Waiting<T> {
    /// Each after the one before it.
    in_place: VecDeque<Ranked<T>>,
    late: BinaryHeap<Reverse<Ranked<T>>>,
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Waiting<T> {
        Waiting { in_place: VecDeque::new(), late: BinaryHeap::new() }
    }

    pub(super) fn push(&mut self, rank: Rank, event: T) {
        if self.in_place.back().is_none_or(|last| last.0 <= rank) {
            self.in_place.push_back(Ranked(rank, event));
        } else {
            self.late.push(Reverse(Ranked(rank, event)));
        }
    }

    /// The first of all events, if it is not after `time`.
    pub(super) fn pop_until(&mut self, time: u64) -> Option<(Rank, T)> {
        let in_place = self.in_place.front().map(|event| event.0);
        let late = self.late.peek().map(|event| event.0.0);
        let first = match (in_place, late) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        if first.0 > time {
            return None;
        }
        let Ranked(rank, event) = match late == Some(first) {
            true => self.late.pop()?.0,
            false => self.in_place.pop_front()?,
        };
        Some((rank, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_their_rank_alone() {
        let at = |time, event: char| Ranked((time, false, 0), event);
        assert!(at(1, 'a') == at(1, 'b'));
        assert!(at(1, 'a') != at(2, 'a'));
    }

    #[test]
    fn events_come_out_in_the_order_of_their_times() {
        let mut waiting = Waiting::new();
        let ranks = [(5, true, 0), (3, false, 1), (5, false, 2), (9, false, 3), (4, true, 4), (9, true, 5)];
        for rank in ranks {
            waiting.push(rank, rank.2);
        }
        let mut out = Vec::new();
        while let Some((rank, event)) = waiting.pop_until(8) {
            assert_eq!(rank.2, event);
            out.push(event);
        }
        assert_eq!(out, [1, 4, 2, 0], "what is later than 8 waits");
        waiting.push((8, true, 6), 6);
        let rest: Vec<u64> = std::iter::from_fn(|| waiting.pop_until(9)).map(|(_, event)| event).collect();
        assert_eq!(rest, [6, 3, 5]);
        assert!(waiting.pop_until(u64::MAX).is_none());
    }
}
