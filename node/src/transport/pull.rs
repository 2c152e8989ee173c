//! Receiver-driven transfer of one object of known size: which chunks are here, which were asked for, when to ask again.
//! It holds no bytes and knows no peer: where chunks are kept, and who is asked for them, is left to the caller.
//!
//! The receiver asks for what it misses, so the sender remembers nothing, a lost request and a lost chunk look the same, and
//! another holder of the same object can take over in the middle. Memory: one bit a chunk, and what is in flight.

use std::collections::BTreeMap;

/// The timeout before the first chunk has told how long one takes, ns.
const TIMEOUT_FIRST: u64 = 100_000_000;
/// Shortest timeout, ns: a busy peer on a fast link answers late without having lost anything.
const TIMEOUT_MIN: u64 = 5_000_000;
/// Longest timeout, ns, back-off included: a peer that comes back is found again within it.
const TIMEOUT_MAX: u64 = 1_000_000_000;
/// The timeout doubles at most so often.
const BACKOFF_MAX: u32 = 8;

/// Consecutive chunks of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRange {
    /// Where the first one begins.
    pub offset: u64,
    /// Bytes of all of them; only the object's last chunk is shorter than the others.
    pub bytes: u64,
}

/// The state of one transfer. Times are nanoseconds of the caller's clock.
#[derive(Clone, Debug)]
pub struct Pull {
    size: u64,
    chunk_bytes: u64,
    chunks: u64,
    /// One bit a chunk.
    here: Vec<u64>,
    missing: u64,
    /// By number, when those were last asked for that are not here.
    asked: BTreeMap<u64, u64>,
    /// Every chunk below is here or asked for.
    next: u64,
    /// Smoothed round trip and its variation (RFC 6298), once there was one.
    round_trip: Option<(u64, u64)>,
    backoff: u32,
    /// When the peer last proved to be there, or was given a new chance to.
    heard_at: u64,
}

impl Pull {
    /// Nothing of an object of `size` bytes is here. Chunks have `chunk_bytes` bytes, at least 1; sender and receiver agree
    /// on that.
    pub fn new(size: u64, chunk_bytes: usize) -> Pull {
        let chunk_bytes = (chunk_bytes as u64).max(1);
        let chunks = size.div_ceil(chunk_bytes);
        Pull {
            size,
            chunk_bytes,
            chunks,
            here: vec![0; usize::try_from(chunks.div_ceil(64)).unwrap_or(usize::MAX)],
            missing: chunks,
            asked: BTreeMap::new(),
            next: 0,
            round_trip: None,
            backoff: 0,
            heard_at: 0,
        }
    }

    /// Whether every chunk is here.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Chunks that are asked for and not here.
    pub fn in_flight(&self) -> usize {
        self.asked.len()
    }

    /// Chunks that are not here.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// When a chunk last came that was not here before, or the peer was changed; 0 if neither ever happened. Whoever waits
    /// too long for the next one may give up.
    pub fn heard_at(&self) -> u64 {
        self.heard_at
    }

    /// When [`Pull::requests`] has something to ask for again; 0 if it has something to ask for now, `None` if nothing is
    /// missing.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.is_complete() {
            return None;
        }
        let timeout = self.timeout();
        Some(self.asked.values().min().map(|asked_at| asked_at + timeout).unwrap_or(0))
    }

    /// What to ask the peer for now, ascending, so that at most `window` chunks are in flight. A range is at most `window`
    /// chunks long. While a silent peer is backed off from, one chunk at a time.
    pub fn requests(&mut self, now: u64, window: usize) -> Vec<ChunkRange> {
        let window = window.max(1);
        let timeout = self.timeout();
        let overdue = |asked_at: &u64| now.saturating_sub(*asked_at) >= timeout;
        let mut numbers: Vec<u64> = Vec::new();
        if self.asked.values().any(overdue) {
            let quiet = self.asked.values().all(overdue) && now.saturating_sub(self.heard_at) >= timeout;
            if quiet {
                // Nothing at all came back: what was asked for counts as lost, and one request finds out when it ends.
                self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
                self.next = self.asked.keys().next().copied().unwrap_or(0).min(self.next);
                self.asked.clear();
            } else {
                let late = self.asked.iter_mut().filter(|(_, asked_at)| overdue(asked_at));
                numbers.extend(late.map(|(number, asked_at)| {
                    *asked_at = now;
                    *number
                }));
            }
        }
        let window = if self.backoff > 1 { 1 } else { window };
        let free = window.saturating_sub(self.asked.len());
        // A request for each chunk that arrives would double the datagrams.
        if free * 4 >= window || !numbers.is_empty() {
            for _ in 0..free {
                while self.next < self.chunks
                    && (self.is_here(self.next) || self.asked.contains_key(&self.next))
                {
                    self.next += 1;
                }
                if self.next == self.chunks {
                    break;
                }
                self.asked.insert(self.next, now);
                numbers.push(self.next);
                self.next += 1;
            }
        }
        numbers.sort_unstable();
        self.ranges(&numbers, window as u64)
    }

    /// Notes a chunk. Returns whether it is one of this object that was not here: then the caller keeps it. Whatever came
    /// before or does not fit changes nothing.
    ///
    /// `asked_at` is the `now` of the request that it answers, which travels there and back: without it nobody could tell
    /// which of two requests a chunk answers, and what is late would teach the timeout that the way is short.
    pub fn chunk(&mut self, now: u64, asked_at: u64, offset: u64, bytes: &[u8]) -> bool {
        let number = offset / self.chunk_bytes;
        if number >= self.chunks
            || !offset.is_multiple_of(self.chunk_bytes)
            || bytes.len() as u64 != self.chunk_bytes.min(self.size - offset)
        {
            return false;
        }
        // A duplicate that was asked for twice tells as much of the way as the first one did.
        if let Some(sample) = now.checked_sub(asked_at) {
            self.measured(sample.min(TIMEOUT_MAX));
        }
        if self.is_here(number) {
            return false;
        }
        self.asked.remove(&number);
        self.here[(number / 64) as usize] |= 1 << (number % 64);
        self.missing -= 1;
        self.heard_at = now;
        self.backoff = 0;
        true
    }

    /// From now on another peer is asked, or the same one again after a pause: nothing is in flight, and nothing is known of
    /// the way there. What is here stays.
    pub fn resume(&mut self, now: u64) {
        self.asked.clear();
        self.next = 0;
        self.round_trip = None;
        self.backoff = 0;
        self.heard_at = now;
    }

    fn is_here(&self, number: u64) -> bool {
        self.here[(number / 64) as usize] & (1 << (number % 64)) != 0
    }

    fn measured(&mut self, sample: u64) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                ((smoothed * 7 + sample) / 8, (variation * 3 + smoothed.abs_diff(sample)) / 4)
            }
        });
    }

    fn timeout(&self) -> u64 {
        let base = self.round_trip.map_or(TIMEOUT_FIRST, |(smoothed, variation)| smoothed + 4 * variation);
        (base.clamp(TIMEOUT_MIN, TIMEOUT_MAX) << self.backoff).min(TIMEOUT_MAX)
    }

    fn ranges(&self, numbers: &[u64], chunks_max: u64) -> Vec<ChunkRange> {
        let mut ranges: Vec<ChunkRange> = Vec::new();
        for number in numbers {
            let offset = number * self.chunk_bytes;
            let bytes = self.chunk_bytes.min(self.size - offset);
            match ranges.last_mut() {
                Some(last)
                    if last.offset + last.bytes == offset && last.bytes < chunks_max * self.chunk_bytes =>
                {
                    last.bytes += bytes;
                }
                _ => ranges.push(ChunkRange { offset, bytes }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MS: u64 = 1_000_000;

    fn range(offset: u64, bytes: u64) -> ChunkRange {
        ChunkRange { offset, bytes }
    }

    #[test]
    fn a_window_of_chunks_is_asked_for_once_and_the_rest_as_they_come() {
        let mut pull = Pull::new(95, 10);
        assert_eq!(pull.next_deadline(), Some(0));
        assert_eq!(pull.requests(0, 4), [range(0, 40)]);
        assert_eq!(pull.requests(0, 4), []);
        assert!(pull.chunk(MS, 0, 10, &[0; 10]));
        assert_eq!(pull.requests(MS, 4), [range(40, 10)]);
        for offset in [0, 20, 30, 40] {
            assert!(pull.chunk(2 * MS, MS, offset, &[0; 10]));
        }
        assert_eq!(pull.requests(2 * MS, 8), [range(50, 45)], "the last one is short");
        for offset in [50, 60, 70, 80] {
            assert!(pull.chunk(3 * MS, 2 * MS, offset, &[0; 10]));
        }
        assert!(!pull.is_complete());
        assert!(pull.chunk(3 * MS, 2 * MS, 90, &[0; 5]));
        assert!(pull.is_complete());
        assert_eq!((pull.next_deadline(), pull.requests(4 * MS, 8)), (None, vec![]));
    }

    #[test]
    fn new_chunks_are_asked_for_by_quarters_of_a_window_and_late_ones_by_themselves() {
        let mut pull = Pull::new(1_000, 10);
        assert_eq!(pull.requests(0, 8), [range(0, 80)]);
        assert!(pull.chunk(4 * MS, 0, 0, &[0; 10]));
        assert_eq!(pull.requests(4 * MS, 8), [], "one is free");
        assert!(pull.chunk(4 * MS, 0, 10, &[0; 10]));
        assert_eq!(pull.requests(6 * MS, 8), [range(80, 20)], "two are a quarter");
        assert_eq!(pull.requests(14 * MS + MS / 2, 8), [range(20, 60)], "late, while others may still come");
        // Nothing came of any: the first time all of it is asked for again, the second time one.
        assert_eq!(pull.requests(100 * MS, 8), [range(20, 80)]);
        assert_eq!(pull.requests(200 * MS, 8), [range(20, 10)]);
    }

    #[test]
    fn what_does_not_fit_or_came_before_changes_nothing() {
        let mut pull = Pull::new(25, 10);
        let wrong: [(u64, usize); 8] =
            [(0, 9), (0, 11), (5, 10), (20, 10), (20, 4), (30, 10), (u64::MAX, 10), (u64::MAX - 5, 0)];
        for (offset, bytes) in wrong {
            assert!(!pull.chunk(0, 0, offset, &vec![0; bytes]), "{bytes} bytes at {offset}");
        }
        assert_eq!(pull.missing(), 3);
        assert!(pull.chunk(0, 0, 20, &[0; 5]), "never asked for, and welcome");
        assert!(!pull.chunk(0, 0, 20, &[0; 5]), "a duplicate");
        assert_eq!(pull.requests(0, 8), [range(0, 20)]);
    }

    #[test]
    fn an_empty_object_is_complete_and_a_whole_one_is_asked_for_in_bounded_ranges() {
        assert!(Pull::new(0, 10).is_complete());
        let mut pull = Pull::new(1 << 30, 1_000);
        let asked: u64 = pull.requests(0, 64).iter().map(|range| range.bytes).sum();
        assert_eq!(asked, 64_000);
    }

    #[test]
    fn a_silent_peer_is_asked_ever_more_rarely_for_one_chunk() {
        let mut pull = Pull::new(100_000, 10);
        let (mut chunks, mut times) = (0, Vec::new());
        let mut now = 0;
        while now < 60_000 * MS {
            let asked: u64 = pull.requests(now, 64).iter().map(|range| range.bytes / 10).sum();
            if asked > 0 {
                chunks += asked;
                times.push(now);
            }
            now = pull.next_deadline().unwrap().max(now + 1);
        }
        assert!(times.len() < 70, "{} requests in a minute", times.len());
        assert!(chunks < 64 * 2 + 70, "{chunks} chunks");
        // It comes back, and the whole window with it.
        assert!(pull.chunk(now, now, 0, &[0; 10]));
        assert!(pull.requests(now, 64).iter().map(|range| range.bytes / 10).sum::<u64>() >= 60);
    }

    #[test]
    fn another_peer_is_asked_for_what_is_missing_and_nothing_else() {
        let mut pull = Pull::new(100, 10);
        pull.requests(0, 5);
        for offset in [0, 20, 40] {
            pull.chunk(MS, 0, offset, &[0; 10]);
        }
        pull.resume(2 * MS);
        assert_eq!(pull.requests(2 * MS, 10), [range(10, 10), range(30, 10), range(50, 50)]);
        assert!(pull.chunk(3 * MS, 2 * MS, 10, &[0; 10]), "a late chunk of the first peer is as good");
    }

    /// When it arrives, order, offset, when it was asked for, whether it arrives at the sender.
    type Network = BinaryHeap<Reverse<(u64, u64, u64, u64, bool)>>;

    /// Requests and chunks are lost, doubled and overtake each other, and the peer changes in the middle.
    fn transfer(seed: u64, size: usize, loss: f64) -> (u64, u64) {
        const CHUNK: usize = 100;
        const WINDOW: usize = 32;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut object = vec![0; size];
        rng.fill_bytes(&mut object);
        let mut copy = vec![0; size];
        let mut pull = Pull::new(size as u64, CHUNK);
        let mut network: Network = BinaryHeap::new();
        let (mut now, mut order, mut asked, mut changed) = (0, 0, 0, false);
        let mut send = |network: &mut Network, now: u64, offset: u64, asked_at: u64, request: bool| {
            let copies =
                if rng.random::<f64>() < loss { 0 } else { 1 + u64::from(rng.random::<f64>() < loss) };
            for _ in 0..copies {
                order += 1;
                let arrives = now + rng.random_range(MS / 10..20 * MS);
                network.push(Reverse((arrives, order, offset, asked_at, request)));
            }
        };
        while !pull.is_complete() {
            for range in pull.requests(now, WINDOW) {
                assert!(range.bytes <= (WINDOW * CHUNK) as u64);
                for offset in (range.offset..range.offset + range.bytes).step_by(CHUNK) {
                    asked += 1;
                    send(&mut network, now, offset, now, true);
                }
            }
            assert!(pull.asked.len() <= WINDOW, "{} in flight", pull.asked.len());
            let arrival = network.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            now = arrival.min(pull.next_deadline().unwrap()).max(now + 1);
            if arrival > now {
                continue;
            }
            let Reverse((_, _, offset, asked_at, at_sender)) = network.pop().unwrap();
            let end = (offset as usize + CHUNK).min(size);
            let bytes = &object[offset as usize..end];
            if at_sender {
                send(&mut network, now, offset, asked_at, false);
            } else if pull.chunk(now, asked_at, offset, bytes) {
                copy[offset as usize..end].copy_from_slice(bytes);
            }
            if !changed && pull.missing() < pull.chunks / 2 {
                changed = true;
                pull.resume(now);
            }
        }
        assert_eq!(copy, object, "seed {seed}");
        (asked, now)
    }

    #[test]
    fn under_loss_duplication_and_reordering_it_completes_with_a_bounded_number_of_requests() {
        for seed in 0..40 {
            let chunks = 1 + seed * 17;
            let (asked, took) = transfer(seed, (chunks as usize) * 100 - 37, 0.3);
            // Half of all questions get an answer: two for each chunk, and some because an answer was slower than the timeout.
            assert!(2 * asked <= 5 * chunks + 128, "seed {seed}: {asked} requests for {chunks} chunks");
            assert!(took < 30_000 * MS, "seed {seed}: {} ms for {chunks} chunks", took / MS);
        }
        let (asked, _) = transfer(7, 100_000, 0.0);
        assert!(asked <= 1_000 + 64, "{asked} requests for 1000 chunks without any loss");
    }
}
