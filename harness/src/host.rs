//! What this machine can do: how long a flush takes, and how late its threads wake up.
//! Measured so that a slow disk or a starved harness is never mistaken for a slow system.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The machine of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Cores that this process may use.
    pub cores: usize,
    /// Median of a 4 KiB append and its fdatasync beside the run directory, in microseconds.
    pub fdatasync_p50_us: u64,
    /// Longest oversleep of a 1 ms sleep while that was measured, in microseconds.
    pub scheduler_lag_max_us: u64,
}

impl Host {
    /// Measures in `dir`, for about a tenth of a second.
    ///
    /// # Errors
    /// The directory does not take files.
    pub fn measure(dir: &Path) -> io::Result<Host> {
        let probe = LagProbe::start();
        let samples = fdatasync_samples(dir, Duration::from_millis(100))?;
        Ok(Host {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            fdatasync_p50_us: micros(median(samples)),
            scheduler_lag_max_us: micros(probe.max()),
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The middle of the samples; zero if there are none.
pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// Times of 4 KiB appends with fdatasync to a file in `dir`, for as long as `budget`, at least three.
///
/// # Errors
/// The file cannot be written, flushed or removed.
pub fn fdatasync_samples(dir: &Path, budget: Duration) -> io::Result<Vec<Duration>> {
    let path = dir.join("fdatasync.probe");
    let mut file = File::create(&path)?;
    let (started, mut samples) = (Instant::now(), Vec::new());
    while samples.len() < 3 || started.elapsed() < budget {
        let before = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        samples.push(before.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(samples)
}

/// A thread that sleeps 1 ms at a time and remembers the worst oversleep: how long this process got no CPU.
#[derive(Debug)]
pub struct LagProbe {
    max_ns: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LagProbe {
    /// Starts to measure.
    pub fn start() -> LagProbe {
        let (max_ns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (max, ended) = (max_ns.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            const STEP: Duration = Duration::from_millis(1);
            while !ended.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(STEP);
                let late = before.elapsed().saturating_sub(STEP);
                max.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        LagProbe { max_ns, stop, thread: Some(thread) }
    }

    /// The worst oversleep since the start.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns.load(Ordering::Relaxed))
    }
}

impl Drop for LagProbe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its loop cannot panic; if it could not even be joined there would be nothing left to do about it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Now on CLOCK_MONOTONIC, in nanoseconds: the clock that nodes stamp their traces with.
pub fn monotonic_ns() -> u64 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// FNV-1a over a file's bytes, as 16 hexadecimal digits: enough to tell two builds apart.
///
/// # Errors
/// The file cannot be read.
pub fn file_hash(path: &Path) -> io::Result<String> {
    let hash = std::fs::read(path)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_takes_time_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::measure(dir.path()).unwrap();
        assert!(host.fdatasync_p50_us > 0 && host.cores > 0);
        assert!(host.scheduler_lag_max_us > 0, "no sleep ends on the nanosecond");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Host::measure(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn medians_and_hashes() {
        let ms = Duration::from_millis;
        assert_eq!(median(vec![ms(9), ms(1), ms(5)]), ms(5));
        assert_eq!(median(Vec::new()), Duration::ZERO);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "a").unwrap();
        // The published FNV-1a 64 test vector of "a".
        assert_eq!(file_hash(&dir.path().join("a")).unwrap(), "af63dc4c8601ec8c");
    }

    #[test]
    fn the_monotonic_clock_is_the_one_of_instant() {
        let (a, before) = (monotonic_ns(), Instant::now());
        std::thread::sleep(Duration::from_millis(5));
        let (b, elapsed) = (monotonic_ns(), before.elapsed());
        assert!(b - a >= 5_000_000 && Duration::from_nanos(b - a) <= elapsed + Duration::from_secs(1));
    }
}
