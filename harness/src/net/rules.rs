//! What active faults decide over a datagram, and the evidence that they did.
//! Pure: the datagram is moved, and time is read, by [`super::fabric`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Link;

/// What a fault does to each datagram on a directed link. Chances are in percent, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Drops it.
    Drop,
    /// Drops some.
    Lose {
        /// Chance of each.
        percent: u8,
    },
    /// Delivers it later.
    Delay {
        /// By at least this.
        delay_ms: u32,
        /// And up to so much more, uniformly.
        jitter_ms: u32,
    },
    /// Delivers some twice.
    Duplicate {
        /// Chance of each.
        percent: u8,
        /// The copy follows after 0 to so many milliseconds, uniformly.
        within_ms: u32,
    },
    /// Holds some back, so that later ones overtake them.
    Hold {
        /// Chance of each.
        percent: u8,
        /// For 0 to so many milliseconds, uniformly.
        hold_ms: u32,
    },
}

/// What a rule decided over one datagram.
enum Action {
    Pass,
    Drop,
    Delay(Duration),
    Duplicate(Duration),
}

impl Rule {
    fn decide(self, rng: &mut ChaCha8Rng) -> Action {
        match self {
            Rule::Drop => Action::Drop,
            Rule::Lose { percent } if hits(rng, percent) => Action::Drop,
            Rule::Delay { delay_ms, jitter_ms } => {
                Action::Delay(Duration::from_millis(delay_ms.into()) + up_to_ms(rng, jitter_ms))
            }
            Rule::Duplicate { percent, within_ms } if hits(rng, percent) => {
                Action::Duplicate(up_to_ms(rng, within_ms))
            }
            Rule::Hold { percent, hold_ms } if hits(rng, percent) => Action::Delay(up_to_ms(rng, hold_ms)),
            Rule::Lose { .. } | Rule::Duplicate { .. } | Rule::Hold { .. } => Action::Pass,
        }
    }
}

fn hits(rng: &mut ChaCha8Rng, percent: u8) -> bool {
    rng.random_range(0..100) < percent
}

/// Microsecond steps: whole milliseconds would let held datagrams of one burst leave in bursts again.
fn up_to_ms(rng: &mut ChaCha8Rng, ms: u32) -> Duration {
    Duration::from_micros(rng.random_range(0..=u64::from(ms) * 1_000))
}

/// What one fault did: the evidence that it bit. Counts datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sent on links of this fault while it was active.
    pub matched: u64,
    /// Dropped by it.
    pub dropped: u64,
    /// Held back by it (`delay`, `reorder`).
    pub delayed: u64,
    /// Sent again by it.
    pub duplicated: u64,
    /// Held back by it and sent after one that came later on the same link.
    pub reordered: u64,
}

/// [`Counters`] that the forwarding thread writes and others read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    matched: AtomicU64,
    dropped: AtomicU64,
    delayed: AtomicU64,
    duplicated: AtomicU64,
    pub(super) reordered: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            matched: load(&self.matched),
            dropped: load(&self.dropped),
            delayed: load(&self.delayed),
            duplicated: load(&self.duplicated),
            reordered: load(&self.reordered),
        }
    }
}

pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One sending of a datagram: how late, and on whose account.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) delay: Duration,
    /// The fault that holds it back; it gets the credit if the datagram is overtaken.
    pub(super) held_by: Option<Arc<Tally>>,
}

/// The active faults, by id.
#[derive(Debug, Default)]
pub(super) struct Rules {
    active: BTreeMap<u32, (BTreeMap<Link, Rule>, Arc<Tally>)>,
}

impl Rules {
    pub(super) fn install(&mut self, fault: u32, rules: Vec<(Link, Rule)>) {
        self.active.insert(fault, (rules.into_iter().collect(), Arc::default()));
    }

    pub(super) fn remove(&mut self, fault: u32) -> Option<Arc<Tally>> {
        self.active.remove(&fault).map(|(_, tally)| tally)
    }

    pub(super) fn tally(&self, fault: u32) -> Option<&Arc<Tally>> {
        self.active.get(&fault).map(|(_, tally)| tally)
    }

    /// The sendings that come of one datagram: none if a fault drops it, several if one duplicates it. Delays add up, and a copy
    /// takes the delays of its original on top of its own.
    pub(super) fn decide(&self, link: Link, rng: &mut ChaCha8Rng) -> Vec<Sending> {
        let mut original = Sending { delay: Duration::ZERO, held_by: None };
        let mut copies = Vec::new();
        for (rules, tally) in self.active.values() {
            let Some(rule) = rules.get(&link) else { continue };
            bump(&tally.matched);
            match rule.decide(rng) {
                Action::Pass => {}
                Action::Drop => {
                    bump(&tally.dropped);
                    return Vec::new();
                }
                Action::Delay(delay) => {
                    bump(&tally.delayed);
                    original.delay += delay;
                    original.held_by = Some(Arc::clone(tally));
                }
                Action::Duplicate(after) => {
                    bump(&tally.duplicated);
                    copies.push(after);
                }
            }
        }
        let delay = original.delay;
        let copies = copies.into_iter().map(|after| Sending { delay: delay + after, held_by: None });
        std::iter::once(original).chain(copies).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    const LINK: Link = Link { from: 1, to: 2 };

    /// Sends 1,000 datagrams over `LINK` under `rules`, one fault each: the counters of each and the delays in milliseconds.
    fn check(rules: &[Rule]) -> (Vec<Counters>, Vec<u128>) {
        let mut active = Rules::default();
        for (id, rule) in rules.iter().enumerate() {
            active.install(id as u32, vec![(LINK, *rule)]);
        }
        let mut rng = stream(1, Purpose::Link, 0);
        let delays = (0..1_000)
            .flat_map(|_| active.decide(LINK, &mut rng))
            .map(|sending| sending.delay.as_millis())
            .collect::<Vec<_>>();
        assert_eq!(active.decide(Link { from: 2, to: 1 }, &mut rng).len(), 1, "the other direction is free");
        let counters =
            (0..rules.len() as u32).map(|id| active.remove(id).unwrap().read()).collect::<Vec<_>>();
        assert_eq!(counters[0].matched, 1_000);
        assert_eq!(active.decide(LINK, &mut rng)[0].delay, Duration::ZERO, "removed is healed");
        (counters, delays)
    }

    #[test]
    fn each_rule_does_what_its_counter_says() {
        let (counters, sent) = check(&[Rule::Drop]);
        assert_eq!((counters[0].dropped, sent.len()), (1_000, 0));

        let (counters, sent) = check(&[Rule::Lose { percent: 30 }]);
        assert_eq!(counters[0].dropped as usize, 1_000 - sent.len());
        assert!((200..400).contains(&counters[0].dropped), "{counters:?}");

        let (counters, sent) = check(&[Rule::Delay { delay_ms: 50, jitter_ms: 10 }]);
        assert_eq!(counters[0].delayed, 1_000);
        assert!(sent.iter().all(|ms| (50..=60).contains(ms)) && sent.contains(&50) && sent.contains(&59));

        let (counters, sent) = check(&[Rule::Duplicate { percent: 100, within_ms: 20 }]);
        assert_eq!((counters[0].duplicated, sent.len()), (1_000, 2_000));
        assert!(sent.iter().all(|&ms| ms <= 20));

        let (counters, sent) = check(&[Rule::Hold { percent: 50, hold_ms: 40 }]);
        assert!((400..600).contains(&counters[0].delayed), "{counters:?}");
        assert!(sent.len() == 1_000 && sent.iter().all(|&ms| ms <= 40));
    }

    #[test]
    fn faults_on_one_link_add_up() {
        let (counters, sent) = check(&[
            Rule::Delay { delay_ms: 5, jitter_ms: 0 },
            Rule::Duplicate { percent: 100, within_ms: 0 },
            Rule::Delay { delay_ms: 7, jitter_ms: 0 },
        ]);
        assert!(sent.len() == 2_000 && sent.iter().all(|&ms| ms == 12));
        assert_eq!([counters[0].delayed, counters[1].duplicated, counters[2].delayed], [1_000; 3]);
        let (counters, sent) = check(&[Rule::Delay { delay_ms: 5, jitter_ms: 0 }, Rule::Drop]);
        assert_eq!((counters[1].dropped, sent.len()), (1_000, 0));
    }
}
