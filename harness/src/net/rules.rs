//! What active faults decide over a datagram or a piece of a stream, and the evidence that they did.
//! Pure: bytes are moved, and time is read, by [`super::fabric`] and [`super::streams`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Link;
use crate::dud::{self, Reach};

/// What a piece of a stream waits that was lost once: the shortest retransmission timeout of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Longest queue before a link of limited rate; a datagram that would wait longer is dropped, as a router does.
const RATE_QUEUE_MAX: Duration = Duration::from_millis(500);

/// What a fault does to each datagram on a directed link. Chances are in percent, times in milliseconds. Bytes of a stream are never
/// dropped, doubled, moved or changed, because TCP never does that: see each rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Drops it. A stream is held until the rule is gone.
    Drop,
    /// Keeps it until the rule is gone, as a stream is held: then all come at once, in their order.
    Keep,
    /// Drops some. A piece of a stream is late by one retransmission.
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
    /// Changes one bit of some.
    Corrupt {
        /// Chance of each.
        percent: u8,
    },
    /// Changes one bit of some and leaves their checksum as it was, where it can be left.
    Garble {
        /// Chance of each.
        percent: u8,
    },
    /// Sends an old datagram of the same link behind some.
    Replay {
        /// Chance of each.
        percent: u8,
    },
    /// Lets no more pass than this; what comes on top waits, and what would wait too long is dropped. A stream waits.
    Rate {
        /// Kilobytes (1,000 bytes) a second.
        kbytes_per_s: u32,
    },
    /// Resets connections, those there are and those that are made. Means nothing to datagrams that belong to none.
    Reset,
}

/// What a rule decided over one datagram.
enum Action {
    Pass,
    Drop,
    Keep,
    Delay(Duration),
    Duplicate(Duration),
    Change(Change),
    Replay(u32),
}

/// A bit that is to change, by a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The receiver gets to see it.
    Seen(u32),
    /// The receiver's kernel finds it.
    Dropped(u32),
}

impl Rule {
    /// What a cut does to a link: stops it, or makes it slow by so many milliseconds.
    pub fn cut(slow_ms: Option<u32>) -> Rule {
        slow_ms.map_or(Rule::Drop, |delay_ms| Rule::Delay { delay_ms, jitter_ms: 0 })
    }

    /// `free_at` is when a link of limited rate has sent what came before.
    fn decide(self, len: usize, now: Instant, free_at: &mut Option<Instant>, rng: &mut ChaCha8Rng) -> Action {
        match self {
            Rule::Drop => Action::Drop,
            Rule::Keep => Action::Keep,
            Rule::Lose { percent } if hits(rng, percent) => Action::Drop,
            Rule::Delay { delay_ms, jitter_ms } => {
                Action::Delay(Duration::from_millis(delay_ms.into()) + up_to_ms(rng, jitter_ms))
            }
            Rule::Duplicate { percent, within_ms } if hits(rng, percent) => {
                Action::Duplicate(up_to_ms(rng, within_ms))
            }
            Rule::Hold { percent, hold_ms } if hits(rng, percent) => Action::Delay(up_to_ms(rng, hold_ms)),
            Rule::Corrupt { percent } if hits(rng, percent) => Action::Change(Change::Seen(rng.random())),
            Rule::Garble { percent } if hits(rng, percent) => Action::Change(Change::Dropped(rng.random())),
            Rule::Replay { percent } if hits(rng, percent) => Action::Replay(rng.random()),
            Rule::Rate { kbytes_per_s } => {
                let waits = queue(len, kbytes_per_s, now, free_at, Some(RATE_QUEUE_MAX));
                waits.map_or(
                    Action::Drop,
                    |waits| if waits.is_zero() { Action::Pass } else { Action::Delay(waits) },
                )
            }
            Rule::Lose { .. }
            | Rule::Duplicate { .. }
            | Rule::Hold { .. }
            | Rule::Corrupt { .. }
            | Rule::Garble { .. }
            | Rule::Replay { .. }
            | Rule::Reset => Action::Pass,
        }
    }
}

/// How long `len` bytes wait for what came before them on a link of this rate; `None` if they would wait longer than `longest`, and so
/// do not join the queue. Sending them takes its time, too, but they leave when it begins.
fn queue(
    len: usize,
    kbytes_per_s: u32,
    now: Instant,
    free_at: &mut Option<Instant>,
    longest: Option<Duration>,
) -> Option<Duration> {
    let starts = free_at.unwrap_or(now).max(now);
    let waits = starts - now;
    if longest.is_some_and(|longest| waits > longest) {
        return None;
    }
    let micros = len as u64 * 1_000 / u64::from(kbytes_per_s.max(1));
    *free_at = Some(starts + Duration::from_micros(micros));
    Some(waits)
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
    /// Sent on with a changed bit.
    #[serde(default)]
    pub corrupted: u64,
    /// Old ones that it sent again.
    #[serde(default)]
    pub replayed: u64,
    /// Datagrams and pieces of streams that it held until it was healed.
    #[serde(default)]
    pub held: u64,
    /// Pieces of streams that it made late by a retransmission.
    #[serde(default)]
    pub stalled: u64,
    /// Connections that it reset.
    #[serde(default)]
    pub reset: u64,
    /// Datagrams to which it said that it did something, and who moves them saw it done.
    #[serde(default)]
    pub confirmed: u64,
    /// Those to which it was not done.
    #[serde(default)]
    pub denied: u64,
}

impl Counters {
    /// Whether nothing that it said of datagrams was true: what was seen on its links is the work of others.
    pub fn are_disproved(&self) -> bool {
        self.denied > 0 && self.confirmed == 0
    }
}

/// [`Counters`] that the forwarding thread writes and others read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    matched: AtomicU64,
    dropped: AtomicU64,
    delayed: AtomicU64,
    duplicated: AtomicU64,
    pub(super) reordered: AtomicU64,
    corrupted: AtomicU64,
    pub(super) replayed: AtomicU64,
    held: AtomicU64,
    stalled: AtomicU64,
    pub(super) reset: AtomicU64,
    confirmed: AtomicU64,
    denied: AtomicU64,
    /// Its fault is healed: what it kept is to go on.
    healed: AtomicBool,
}

impl Tally {
    pub(super) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            matched: load(&self.matched),
            dropped: load(&self.dropped),
            delayed: load(&self.delayed),
            duplicated: load(&self.duplicated),
            reordered: load(&self.reordered),
            corrupted: load(&self.corrupted),
            replayed: load(&self.replayed),
            held: load(&self.held),
            stalled: load(&self.stalled),
            reset: load(&self.reset),
            confirmed: load(&self.confirmed),
            denied: load(&self.denied),
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
    /// The faults that keep it, each until it is healed.
    pub(super) kept_by: Vec<Arc<Tally>>,
    /// The bits that are changed.
    pub(super) changes: Vec<Change>,
    /// The draw and the account of an old datagram to be sent in its place.
    pub(super) old: Option<(u32, Arc<Tally>)>,
}

/// What comes of a datagram, and what faults say that they did to it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) sendings: Vec<Sending>,
    pub(super) claims: Claims,
}

/// What a fault says that it did to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Lost,
    Kept,
    Late(Duration),
    Copied,
    Changed,
}

/// What faults say that they did to one datagram, for who moves it to look whether that is so.
#[derive(Debug)]
pub(super) struct Claims(Vec<(Arc<Tally>, Claim)>);

/// What was done to a datagram, as who moves it did it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// How often it is sent anew, the first time included; 0 if it is lost.
    pub(super) sent: usize,
    /// How long the first one is put aside.
    pub(super) delay: Duration,
    /// How many faults keep that one until they are healed.
    pub(super) kept: usize,
    /// Changes that left other bytes than there were.
    pub(super) changed: usize,
}

impl Claims {
    /// Holds what faults say against what was done. Where less was done than they say together, nobody can tell whose part it was.
    pub(super) fn check(&self, done: Done) {
        let count = |wanted: Claim| self.0.iter().filter(|(_, claim)| *claim == wanted).count();
        let late =
            || self.0.iter().map(|(_, claim)| if let Claim::Late(by) = claim { *by } else { Duration::ZERO });
        for (tally, claim) in &self.0 {
            let so = match claim {
                Claim::Lost => done.sent == 0 && count(Claim::Lost) == 1,
                Claim::Kept => done.kept == count(Claim::Kept),
                Claim::Late(_) => done.sent > 0 && done.delay >= late().sum(),
                Claim::Copied => done.sent == 1 + count(Claim::Copied),
                Claim::Changed => done.changed == count(Claim::Changed),
            };
            bump(if so { &tally.confirmed } else { &tally.denied });
        }
    }
}

/// How a piece of a stream goes on.
#[derive(Debug)]
pub(super) enum Passage {
    /// It leaves after so long, and after all before it.
    After(Duration),
    /// Its connection ends here.
    Reset(Arc<Tally>),
}

/// An active fault.
#[derive(Debug, Default)]
struct Active {
    /// With the time at which a link of limited rate is free.
    rules: BTreeMap<Link, (Rule, Option<Instant>)>,
    tally: Arc<Tally>,
    /// Whether it decides and counts, and nothing comes of it.
    dud: bool,
}

/// The active faults, by id.
#[derive(Debug, Default)]
pub(super) struct Rules {
    active: BTreeMap<u32, Active>,
}

impl Rules {
    pub(super) fn install(&mut self, fault: u32, rules: Vec<(Link, Rule)>) {
        let rules = rules.into_iter().map(|(link, rule)| (link, (rule, None))).collect();
        self.active.insert(fault, Active { rules, tally: Arc::default(), dud: dud::is_at(Reach::Rule) });
    }

    pub(super) fn remove(&mut self, fault: u32) -> Option<Arc<Tally>> {
        let tally = self.active.remove(&fault).map(|active| active.tally);
        tally.inspect(|tally| tally.healed.store(true, Ordering::Relaxed))
    }

    pub(super) fn tally(&self, fault: u32) -> Option<&Arc<Tally>> {
        self.active.get(&fault).map(|active| &active.tally)
    }

    /// Whether no fault is active.
    pub(super) fn are_none(&self) -> bool {
        self.active.is_empty()
    }

    /// What comes of one datagram: no sending if a fault drops it, several if one duplicates it. Delays add up, and a copy takes the
    /// delays of its original on top of its own.
    pub(super) fn decide(&mut self, link: Link, len: usize, now: Instant, rng: &mut ChaCha8Rng) -> Decision {
        let plain =
            |delay| Sending { delay, held_by: None, kept_by: Vec::new(), changes: Vec::new(), old: None };
        let mut original = plain(Duration::ZERO);
        let (mut copies, mut replays, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for Active { rules, tally, dud } in self.active.values_mut() {
            let Some((rule, free_at)) = rules.get_mut(&link) else { continue };
            bump(&tally.matched);
            let action = rule.decide(len, now, free_at, rng);
            let claim = match &action {
                Action::Drop => Some((Claim::Lost, &tally.dropped)),
                Action::Keep => Some((Claim::Kept, &tally.held)),
                Action::Delay(delay) => Some((Claim::Late(*delay), &tally.delayed)),
                Action::Duplicate(_) => Some((Claim::Copied, &tally.duplicated)),
                Action::Change(_) => Some((Claim::Changed, &tally.corrupted)),
                // Counted when one was found that is old enough.
                Action::Pass | Action::Replay(_) => None,
            };
            if let Some((claim, counter)) = claim {
                bump(counter);
                claims.push((Arc::clone(tally), claim));
            }
            if *dud {
                continue;
            }
            match action {
                Action::Pass => {}
                Action::Drop => {
                    // What the others meant to do to it nobody can see.
                    claims.retain(|(_, claim)| *claim == Claim::Lost);
                    return Decision { sendings: Vec::new(), claims: Claims(claims) };
                }
                Action::Keep => original.kept_by.push(Arc::clone(tally)),
                Action::Delay(delay) => {
                    original.delay += delay;
                    original.held_by = Some(Arc::clone(tally));
                }
                Action::Duplicate(after) => copies.push(after),
                Action::Change(change) => original.changes.push(change),
                Action::Replay(draw) => replays.push((draw, Arc::clone(tally))),
            }
        }
        let delay = original.delay;
        let copies = copies.into_iter().map(|after| plain(delay + after));
        let replays = replays.into_iter().map(|old| Sending { old: Some(old), ..plain(delay) });
        let sendings = std::iter::once(original).chain(copies).chain(replays).collect();
        Decision { sendings, claims: Claims(claims) }
    }

    /// Whether streams of a link are held.
    pub(super) fn holds(&self, link: Link) -> bool {
        self.active.values().any(|active| {
            !active.dud && matches!(active.rules.get(&link), Some((Rule::Drop | Rule::Keep, _)))
        })
    }

    /// The fault that resets the connections of a link, if there is one.
    pub(super) fn resets(&self, link: Link) -> Option<&Arc<Tally>> {
        let resets =
            |active: &&Active| !active.dud && matches!(active.rules.get(&link), Some((Rule::Reset, _)));
        self.active.values().find(resets).map(|active| &active.tally)
    }

    /// How a piece of a stream goes on: never dropped, doubled or changed.
    pub(super) fn passage(&mut self, link: Link, len: usize, now: Instant, rng: &mut ChaCha8Rng) -> Passage {
        let mut delay = Duration::ZERO;
        for Active { rules, tally, dud } in self.active.values_mut() {
            let Some((rule, free_at)) = rules.get_mut(&link) else { continue };
            bump(&tally.matched);
            let waits = match *rule {
                Rule::Drop | Rule::Keep => {
                    bump(&tally.held);
                    continue;
                }
                Rule::Lose { percent } if hits(rng, percent) => {
                    bump(&tally.stalled);
                    RETRANSMISSION
                }
                Rule::Delay { delay_ms, jitter_ms } => {
                    bump(&tally.delayed);
                    Duration::from_millis(delay_ms.into()) + up_to_ms(rng, jitter_ms)
                }
                Rule::Rate { kbytes_per_s } => {
                    let waits = queue(len, kbytes_per_s, now, free_at, None).unwrap_or_default();
                    if !waits.is_zero() {
                        bump(&tally.delayed);
                    }
                    waits
                }
                Rule::Reset if *dud => {
                    bump(&tally.reset);
                    continue;
                }
                Rule::Reset => return Passage::Reset(Arc::clone(tally)),
                Rule::Lose { .. }
                | Rule::Duplicate { .. }
                | Rule::Hold { .. }
                | Rule::Corrupt { .. }
                | Rule::Garble { .. }
                | Rule::Replay { .. } => continue,
            };
            if !*dud {
                delay += waits;
            }
        }
        Passage::After(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultKind;
    use crate::random::{Purpose, stream};

    const LINK: Link = Link { from: 1, to: 2 };

    /// Sends 1,000 datagrams over `LINK` under `rules`, one fault each: the counters of each and the delays in milliseconds.
    fn check(rules: &[Rule]) -> (Vec<Counters>, Vec<u128>) {
        let mut active = Rules::default();
        for (id, rule) in rules.iter().enumerate() {
            active.install(id as u32, vec![(LINK, *rule)]);
        }
        let mut rng = stream(1, Purpose::Link, 0);
        let now = Instant::now();
        let delays = (0..1_000)
            .flat_map(|_| active.decide(LINK, 100, now, &mut rng).sendings)
            .map(|sending| sending.delay.as_millis())
            .collect::<Vec<_>>();
        assert_eq!(
            active.decide(Link { from: 2, to: 1 }, 100, now, &mut rng).sendings.len(),
            1,
            "the other direction is free"
        );
        let counters =
            (0..rules.len() as u32).map(|id| active.remove(id).unwrap().read()).collect::<Vec<_>>();
        assert_eq!(counters[0].matched, 1_000);
        assert_eq!(
            active.decide(LINK, 100, now, &mut rng).sendings[0].delay,
            Duration::ZERO,
            "removed is healed"
        );
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

        let (counters, sent) = check(&[Rule::Corrupt { percent: 30 }]);
        assert!((200..400).contains(&counters[0].corrupted) && sent.len() == 1_000, "{counters:?}");
        let (counters, sent) = check(&[Rule::Replay { percent: 50 }]);
        assert!((1_400..1_600).contains(&sent.len()), "{}", sent.len());
        assert_eq!(counters[0].replayed, 0, "counted when an old one was found");

        // 100 bytes take 1 ms; all come at once, and the queue is half a second.
        let (counters, sent) = check(&[Rule::Rate { kbytes_per_s: 100 }]);
        assert_eq!((counters[0].delayed, counters[0].dropped, sent.len()), (500, 499, 501));
        assert_eq!((sent[0], sent[1], sent[500]), (0, 1, 500));
    }

    /// Sends 1,000 pieces of a stream over `LINK` under one rule: its counters, and the delays in milliseconds.
    fn check_stream(rule: Rule) -> (Counters, Vec<u128>) {
        let mut active = Rules::default();
        active.install(1, vec![(LINK, rule)]);
        let (mut rng, now) = (stream(1, Purpose::Link, 0), Instant::now());
        let mut delays = Vec::new();
        for _ in 0..1_000 {
            match active.passage(LINK, 100, now, &mut rng) {
                Passage::After(delay) => delays.push(delay.as_millis()),
                Passage::Reset(tally) => bump(&tally.reset),
            }
        }
        assert_eq!(active.holds(LINK), [Rule::Drop, Rule::Keep].contains(&rule));
        assert!(!active.holds(Link { from: 2, to: 1 }));
        assert_eq!(active.resets(LINK).is_some(), rule == Rule::Reset);
        (active.remove(1).unwrap().read(), delays)
    }

    #[test]
    fn pieces_of_streams_are_late_or_held_but_all_pass() {
        for rule in [
            Rule::Drop,
            Rule::Keep,
            Rule::Lose { percent: 30 },
            Rule::Delay { delay_ms: 5, jitter_ms: 0 },
            Rule::Duplicate { percent: 100, within_ms: 0 },
            Rule::Hold { percent: 100, hold_ms: 5 },
            Rule::Corrupt { percent: 100 },
            Rule::Replay { percent: 100 },
            Rule::Rate { kbytes_per_s: 100 },
        ] {
            let (counters, delays) = check_stream(rule);
            assert_eq!((delays.len(), counters.dropped), (1_000, 0), "{rule:?}");
            match rule {
                Rule::Drop | Rule::Keep => assert_eq!(counters.held, 1_000),
                Rule::Lose { .. } => {
                    assert!((200..400).contains(&counters.stalled), "{counters:?}");
                    assert!(delays.iter().all(|ms| [0, 200].contains(ms)));
                }
                Rule::Delay { .. } => assert_eq!((counters.delayed, delays[0]), (1_000, 5)),
                Rule::Rate { .. } => assert_eq!((counters.delayed, delays[999]), (999, 999)),
                _ => assert!(delays.iter().all(|ms| *ms == 0), "{rule:?}"),
            }
        }
        let (counters, delays) = check_stream(Rule::Reset);
        assert_eq!((counters.reset, delays.len()), (1_000, 0));
    }

    /// What 1,000 datagrams of a link under these rules let their faults say; the ones with `true` are duds.
    fn check_claims(rules: &[(Rule, bool)]) -> Vec<Counters> {
        let mut active = Rules::default();
        for (id, (rule, dud)) in rules.iter().enumerate() {
            let kind = if *dud { FaultKind::Loss } else { FaultKind::Kill };
            dud::tests::with(FaultKind::Loss, || {
                dud::during(kind, || active.install(id as u32, vec![(LINK, *rule)]));
            });
        }
        let (mut rng, now) = (stream(1, Purpose::Link, 0), Instant::now());
        for _ in 0..1_000 {
            let Decision { sendings, claims } = active.decide(LINK, 100, now, &mut rng);
            claims.check(Done {
                sent: sendings.iter().filter(|sending| sending.old.is_none()).count(),
                delay: sendings.first().map(|sending| sending.delay).unwrap_or_default(),
                kept: sendings.iter().map(|sending| sending.kept_by.len()).sum(),
                changed: sendings.iter().map(|sending| sending.changes.len()).sum(),
            });
        }
        (0..rules.len() as u32).map(|id| active.remove(id).unwrap().read()).collect()
    }

    #[test]
    fn what_a_dud_says_is_disproved_also_beside_others_that_do_the_same() {
        let rules = [
            Rule::Drop,
            Rule::Keep,
            Rule::Lose { percent: 50 },
            Rule::Delay { delay_ms: 50, jitter_ms: 10 },
            Rule::Duplicate { percent: 50, within_ms: 5 },
            Rule::Hold { percent: 50, hold_ms: 50 },
            Rule::Corrupt { percent: 50 },
            Rule::Garble { percent: 50 },
            Rule::Rate { kbytes_per_s: 100 },
        ];
        for rule in rules {
            let alone = check_claims(&[(rule, false)])[0];
            assert!(alone.confirmed > 100 && alone.denied == 0, "{rule:?}: {alone:?}");
            let dud = check_claims(&[(rule, true)])[0];
            assert!(dud.are_disproved() && dud.denied > 100, "{rule:?}: {dud:?}");
            for other in rules {
                let both = check_claims(&[(rule, true), (other, false)])[0];
                // Of what another fault drops nobody can say anything.
                let silent = other == Rule::Drop && both.confirmed + both.denied == 0;
                assert!(both.are_disproved() || silent, "{rule:?} beside {other:?}: {both:?}");
                let both = check_claims(&[(rule, false), (other, false)]);
                let fine = |counters: &Counters| counters.denied == 0;
                assert!(both.iter().all(fine), "{rule:?} and {other:?}: {both:?}");
            }
        }
    }

    #[test]
    fn a_stream_passes_a_dud_as_if_there_were_none() {
        for rule in [Rule::Drop, Rule::Lose { percent: 100 }, Rule::Rate { kbytes_per_s: 1 }, Rule::Reset] {
            let mut active = Rules::default();
            dud::tests::with(FaultKind::Loss, || {
                dud::during(FaultKind::Loss, || active.install(1, vec![(LINK, rule)]));
            });
            let (mut rng, now) = (stream(1, Purpose::Link, 0), Instant::now());
            for _ in 0..10 {
                let passage = active.passage(LINK, 100, now, &mut rng);
                assert!(matches!(passage, Passage::After(Duration::ZERO)), "{rule:?}: {passage:?}");
            }
            assert!(!active.holds(LINK) && active.resets(LINK).is_none());
            let Counters { held, stalled, delayed, reset, .. } = active.remove(1).unwrap().read();
            assert!(held + stalled + delayed + reset >= 9, "{rule:?} counts all the same");
        }
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
