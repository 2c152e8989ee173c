//! The outer net of a judgement: the moment after which what is unfinished stays so, and which part of the time belongs to what.
//! What becomes of unfinished work is the business of whoever looks; each of them says so in the report.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Part of the time that is kept for what only writes down and puts away.
const TAIL: f64 = 0.04;
/// Part of the time in which is read: what was read has to be judged.
const READING: f64 = 0.7;
/// What follows a reading without a look at the clock, engines that are linear and putting away what was read, beside the reading.
const AFTER_READING: f64 = 0.15;
/// Part of the time that a search leaves to the explanation of what it found.
const EXPLAINING: f64 = 0.05;
/// Putting away what a search holds, beside the time in which it was made: measured, 0.23.
const PUTTING_AWAY: f64 = 0.3;
/// The same for each byte, at most.
const PUTTING_AWAY_NANOSECONDS: u64 = 4;

/// A moment after which nothing goes on. The only bound that is not deterministic, but for [`Deadline::after_looks`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Clock);

#[derive(Clone, Copy, Debug)]
enum Clock {
    Never,
    /// The moment, and how long before it a search ends.
    At(Instant, Duration),
    Looks(&'static Looks),
}

/// A clock that goes on by being looked at.
#[derive(Debug)]
pub struct Looks {
    made: AtomicU64,
    passed_at: u64,
}

impl Looks {
    /// Looks that were made after the first that found the moment passed.
    pub fn in_vain(&self) -> u64 {
        self.made.load(Relaxed).saturating_sub(self.passed_at + 1)
    }
}

impl Deadline {
    /// There is all the time in the world.
    pub const NEVER: Deadline = Deadline(Clock::Never);

    /// So long after `start`; searches end earlier by `spare`.
    pub(crate) fn at(start: Instant, after: Duration, spare: Duration) -> Deadline {
        Deadline(start.checked_add(after).map_or(Clock::Never, |moment| Clock::At(moment, spare)))
    }

    /// The same for what a search found: nothing is left for later.
    pub(crate) fn for_explaining(self) -> Deadline {
        match self.0 {
            Clock::At(moment, _) => Deadline(Clock::At(moment, Duration::ZERO)),
            Clock::Never | Clock::Looks(_) => self,
        }
    }

    /// Passed after so many looks, whoever makes them: where unfinished work stops is then a matter of arithmetic. The
    /// counter is never freed.
    pub fn after_looks(looks: u64) -> (Deadline, &'static Looks) {
        let looks: &'static Looks = Box::leak(Box::new(Looks { made: AtomicU64::new(0), passed_at: looks }));
        (Deadline(Clock::Looks(looks)), looks)
    }

    /// Whether it is over.
    pub(crate) fn passed(&self) -> bool {
        match self.0 {
            Clock::Never => false,
            Clock::At(moment, _) => Instant::now() > moment,
            Clock::Looks(looks) => looks.made.fetch_add(1, Relaxed) >= looks.passed_at,
        }
    }
}

/// Looks at a deadline for somebody who holds more and more, all of which has to be put away by then.
#[derive(Debug)]
pub(crate) struct Watch {
    deadline: Deadline,
    looked: Option<Instant>,
    /// The most bytes so far, and how long it took to come to hold them.
    most: u64,
    growing: Duration,
}

impl Watch {
    pub(crate) fn new(deadline: Deadline) -> Watch {
        Watch { deadline, looked: None, most: 0, growing: Duration::ZERO }
    }

    /// Whether there is only time left to put so many bytes away.
    pub(crate) fn passed(&mut self, bytes: u64) -> bool {
        let Clock::At(moment, spare) = self.deadline.0 else { return self.deadline.passed() };
        let now = Instant::now();
        self.grow(bytes, now);
        now + spare + self.putting_away(bytes) > moment
    }

    fn grow(&mut self, bytes: u64, now: Instant) {
        if bytes > self.most {
            self.growing += now.saturating_duration_since(self.looked.unwrap_or(now));
            self.most = bytes;
        }
        self.looked = Some(now);
    }

    fn putting_away(&self, bytes: u64) -> Duration {
        let at_most = Duration::from_nanos(bytes.saturating_mul(PUTTING_AWAY_NANOSECONDS));
        self.growing.mul_f64(PUTTING_AWAY).min(at_most)
    }
}

/// Which part of the time belongs to what, once everything was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    /// Engines and explanations.
    pub(crate) judging: Deadline,
    /// Orders for certificates.
    pub(crate) certifying: Deadline,
    /// Durability and traces.
    pub(crate) rest: Deadline,
}

impl Net {
    /// Until when is read.
    pub(crate) fn reading(start: Instant, time: Duration) -> Deadline {
        Deadline::at(start, time.mul_f64(READING), Duration::ZERO)
    }

    /// What is left of `time` after so much reading. An order has to be found again for a certificate, and is given as long.
    pub(crate) fn new(start: Instant, time: Duration, reading: Duration, certified: bool) -> Net {
        let [judging, certifying, rest] = moments(time, reading, certified);
        Net {
            judging: Deadline::at(start, judging, time.mul_f64(EXPLAINING)),
            certifying: Deadline::at(start, certifying, Duration::ZERO),
            rest: Deadline::at(start, rest, Duration::ZERO),
        }
    }
}

/// When judging, the rest, and certifying end, after the start.
fn moments(time: Duration, reading: Duration, certified: bool) -> [Duration; 3] {
    let end = time.saturating_sub(time.mul_f64(TAIL));
    let free = end.saturating_sub(reading.mul_f64(1.0 + AFTER_READING));
    let judged = if certified { end.saturating_sub(free.mul_f64(0.5)) } else { end };
    let after = reading.mul_f64(AFTER_READING);
    [judged.saturating_sub(after), end.saturating_sub(after / 2), end.saturating_sub(after / 2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_gets_its_part_of_the_time() {
        let seconds = Duration::from_secs;
        let [judging, certifying, rest] = moments(seconds(100), seconds(20), false);
        assert_eq!((judging, certifying, rest), (seconds(93), seconds_f(94.5), seconds_f(94.5)));
        let [judging, certifying, _] = moments(seconds(100), seconds(20), true);
        assert_eq!(judging, seconds_f(56.5));
        assert!(certifying - judging > seconds(35), "as long as the search had");
        let late = moments(seconds(1), seconds(9), true);
        assert!(late.iter().all(|moment| *moment < seconds(1)), "{late:?}");
    }

    fn seconds_f(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn what_is_held_is_put_away_in_time() {
        let start = Instant::now();
        let mut watch = Watch::new(Deadline::NEVER);
        let after = |seconds| start + Duration::from_secs(seconds);
        watch.grow(1 << 20, after(0));
        watch.grow(1 << 30, after(8));
        assert_eq!(watch.putting_away(1 << 30), seconds_f(8.0 * PUTTING_AWAY));
        watch.grow(1 << 30, after(80));
        assert_eq!(watch.putting_away(1 << 30), seconds_f(8.0 * PUTTING_AWAY), "nothing was added since");
        assert_eq!(watch.putting_away(1000), Duration::from_nanos(4000), "hardly anything is left");
    }

    #[test]
    fn it_is_over_when_there_is_only_time_to_put_away_and_to_explain() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let grown = |spare| {
            let mut watch = Watch::new(Deadline::at(start, seconds(100), seconds(spare)));
            watch.grow(1, start);
            watch.grow(1 << 35, start + seconds(400));
            watch
        };
        // It took 400 s to make them: putting them away takes 120.
        assert!(grown(0).passed(1 << 35) && !grown(0).passed(1000));
        assert!(grown(101).passed(1000) && !grown(10).passed(1000));
    }

    #[test]
    fn looks_are_counted() {
        let (deadline, looks) = Deadline::after_looks(2);
        let seen: Vec<bool> = (0..4).map(|_| deadline.passed()).collect();
        assert_eq!((seen, looks.in_vain()), (vec![false, false, true, true], 1));
    }
}
