//! What the clients of a measurement do and what they saw: the same for every system that is measured.
//! How a system is asked is its own file's business.

use std::time::{Duration, Instant};

/// Length of every key, in bytes.
pub(super) const KEY_BYTES: usize = 16;
/// Connections to etcd, or sockets, that all clients share.
pub(super) const CONNECTIONS: u32 = 4;
/// Keys that one client goes through: the store stays small, so that its size is not what is measured.
pub(super) const KEYS_PER_CLIENT: usize = 10;

/// What each client does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sets a key; acknowledged when a majority has it on disk.
    Write,
    /// Reads a key, linearizably.
    Read,
}

impl Work {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Work::Write => "writes",
            Work::Read => "reads",
        }
    }
}

/// One step of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub work: Work,
    /// By how many clients, each with one operation open at a time.
    pub clients: u32,
    /// Length of every value, in bytes.
    pub value_bytes: usize,
    /// For how long.
    pub time: Duration,
}

impl Step {
    /// The key of a client's `i`-th operation.
    pub(super) fn key(client: usize, i: usize) -> Vec<u8> {
        format!("{:0width$}", client * KEYS_PER_CLIENT + i % KEYS_PER_CLIENT, width = KEY_BYTES).into_bytes()
    }

    /// The value that is written to every key.
    pub(super) fn value(&self) -> Vec<u8> {
        vec![b'v'; self.value_bytes]
    }
}

/// What came out of one step, once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Acknowledged operations.
    pub acknowledged: u64,
    /// Acknowledged operations a second.
    pub per_s: f64,
    /// Half of the operations took no longer.
    pub p50: Duration,
    /// 99 of 100 operations took no longer.
    pub p99: Duration,
    /// Operations that were refused, lost, or answered with something else than what is stored.
    pub unacknowledged: u64,
}

/// Collects one turn.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    last: Instant,
    latencies: Vec<Duration>,
    unacknowledged: u64,
}

impl Tally {
    pub(super) fn start() -> Tally {
        let now = Instant::now();
        Tally { started: now, last: now, latencies: Vec::new(), unacknowledged: 0 }
    }

    /// Notes the end of an operation that began at `begun`.
    pub(super) fn note(&mut self, begun: Instant, now: Instant, acknowledged: bool) {
        match acknowledged {
            true => self.latencies.push(now.saturating_duration_since(begun)),
            false => self.unacknowledged += 1,
        }
        self.last = now;
    }

    /// Whether the turn is over at `now`.
    pub(super) fn is_over(&self, now: Instant, time: Duration) -> bool {
        now.saturating_duration_since(self.started) >= time
    }

    pub(super) fn finish(mut self) -> Turn {
        self.latencies.sort_unstable();
        let seconds = self.last.duration_since(self.started).as_secs_f64();
        let acknowledged = self.latencies.len() as u64;
        Turn {
            acknowledged,
            per_s: if seconds > 0.0 { acknowledged as f64 / seconds } else { 0.0 },
            p50: percentile(&self.latencies, 50),
            p99: percentile(&self.latencies, 99),
            unacknowledged: self.unacknowledged,
        }
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed; zero if there are none.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The middle of the numbers; zero if there are none.
pub(super) fn middle(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ms = Duration::from_millis;
        let hundred: Vec<Duration> = (1..=100).map(ms).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (ms(50), ms(99)));
        assert_eq!((percentile(&[ms(4)], 50), percentile(&[ms(4)], 99)), (ms(4), ms(4)));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
        assert_eq!((middle([3.0, 1.0, 2.0]), middle([])), (2.0, 0.0));
    }

    #[test]
    fn a_turn_counts_only_what_was_acknowledged() {
        let mut tally = Tally::start();
        let begun = tally.started;
        let after = |ms| begun + Duration::from_millis(ms);
        tally.note(begun, after(100), true);
        tally.note(begun, after(300), true);
        tally.note(begun, after(500), false);
        assert!(tally.is_over(after(500), Duration::from_millis(500)));
        assert!(!tally.is_over(after(499), Duration::from_millis(500)));
        let turn = tally.finish();
        assert_eq!((turn.acknowledged, turn.unacknowledged), (2, 1));
        assert_eq!((turn.p50, turn.p99), (Duration::from_millis(100), Duration::from_millis(300)));
        assert!((turn.per_s - 4.0).abs() < 1e-9, "two in half a second, not {}", turn.per_s);
    }

    #[test]
    fn keys_have_one_length_and_belong_to_one_client() {
        assert_eq!(Step::key(255, 19).len(), KEY_BYTES);
        assert_eq!(Step::key(3, 0), Step::key(3, KEYS_PER_CLIENT));
        assert_ne!(Step::key(3, 9), Step::key(4, 0));
    }
}
