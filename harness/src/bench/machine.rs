//! What the machine itself takes for the two things that a write waits for, a flush and a datagram there and back, and who used
//! its processors meanwhile.

use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How long flushes are measured between two steps.
const FLUSH_BUDGET: Duration = Duration::from_millis(100);
/// Bytes of a measured flush.
const FLUSH_BYTES: usize = 4096;
/// Places in the measured file: written one after the other, then again from the first.
const FLUSH_PLACES: u64 = 256;
/// Most flushes of a majority that are measured between two steps.
const SHARED_FLUSHES_MAX: usize = 200;
/// Round trips that are measured between two steps.
const ROUND_TRIPS: usize = 500;
/// Bytes of a measured datagram: about a small request.
const DATAGRAM_BYTES: usize = 128;
/// A datagram on loopback that is not back by then does not come: the kernel dropped it.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// Samples of one look at the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Floor {
    pub(super) fdatasync: Vec<Duration>,
    pub(super) majority_fdatasync: Vec<Duration>,
    pub(super) round_trip: Vec<Duration>,
}

impl Floor {
    /// Measures in `dir`, for a cluster of `nodes`, and on loopback, for about a quarter of a second.
    pub(super) fn measure(dir: &Path, nodes: u32) -> io::Result<Floor> {
        let fdatasync = flushes(dir)?;
        // As long as the others, about: `nodes` flushes at once take at most as long as one after the other.
        let rounds = (fdatasync.len() / nodes.max(1) as usize).clamp(3, SHARED_FLUSHES_MAX);
        Ok(Floor {
            majority_fdatasync: majority_flushes(dir, nodes, rounds)?,
            fdatasync,
            round_trip: round_trips(ROUND_TRIPS)?,
        })
    }
}

/// Times of writes with fdatasync into a file that has all its bytes already, as a write-ahead log has that is filled ahead: a file
/// that grows also waits for the journal of its file system, and would be too easy to beat.
fn flushes(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join("fdatasync.probe");
    let file = filled(&path)?;
    let (started, mut samples) = (Instant::now(), Vec::new());
    for place in (0..FLUSH_PLACES).cycle() {
        let before = Instant::now();
        flush(&file, place)?;
        samples.push(before.elapsed());
        if samples.len() >= 3 && started.elapsed() >= FLUSH_BUDGET {
            break;
        }
    }
    fs::remove_file(&path)?;
    Ok(samples)
}

/// Times until a majority of `nodes` flushes is over that begin at once, each of a file of its own: what replicas that share a disk
/// wait for at the least, because the disk serves their flushes one after the other.
fn majority_flushes(dir: &Path, nodes: u32, rounds: usize) -> io::Result<Vec<Duration>> {
    let paths: Vec<_> = (0..nodes).map(|node| dir.join(format!("fdatasync.probe.{node}"))).collect();
    let files = paths.iter().map(|path| filled(path)).collect::<io::Result<Vec<_>>>()?;
    let together = Barrier::new(files.len());
    let times = thread::scope(|scope| {
        let flushers: Vec<_> = files
            .iter()
            .map(|file| {
                let together = &together;
                scope.spawn(move || {
                    // Who fails goes on to the barrier: the others wait for everybody there.
                    let times = (0..FLUSH_PLACES).cycle().take(rounds).map(|place| {
                        together.wait();
                        let before = Instant::now();
                        flush(file, place).map(|()| (before, Instant::now()))
                    });
                    times.collect::<Vec<_>>()
                })
            })
            .collect();
        let times = flushers.into_iter().map(|flusher| {
            let times = flusher.join().map_err(|_| io::Error::other("a flushing thread panicked"))?;
            times.into_iter().collect::<io::Result<Vec<_>>>()
        });
        times.collect::<io::Result<Vec<_>>>()
    })?;
    paths.iter().try_for_each(fs::remove_file)?;
    let of_round = |round: usize| {
        let begun = times.iter().map(|times| times[round].0).min();
        let mut ended: Vec<_> = times.iter().map(|times| times[round].1).collect();
        ended.sort_unstable();
        ended[times.len() / 2].duration_since(begun.expect("there is a node"))
    };
    Ok((0..rounds).map(of_round).collect())
}

/// A file that has all its bytes.
fn filled(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.write_all_at(&vec![0; FLUSH_BYTES * FLUSH_PLACES as usize], 0)?;
    file.sync_all()?;
    Ok(file)
}

/// One write in place with its fdatasync.
fn flush(file: &File, place: u64) -> io::Result<()> {
    file.write_all_at(&[0x5a; FLUSH_BYTES], place * FLUSH_BYTES as u64)?;
    file.sync_data()
}

/// Times of datagrams to another thread and back over loopback.
fn round_trips(count: usize) -> io::Result<Vec<Duration>> {
    let (near, far) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    for (socket, other) in [(&near, &far), (&far, &near)] {
        socket.connect(other.local_addr()?)?;
        socket.set_read_timeout(Some(ROUND_TRIP_MAX))?;
    }
    thread::scope(|scope| {
        let echo = scope.spawn(|| -> io::Result<()> {
            let mut buffer = [0; DATAGRAM_BYTES];
            for _ in 0..count {
                far.recv(&mut buffer)?;
                far.send(&buffer)?;
            }
            Ok(())
        });
        let mut samples = Vec::with_capacity(count);
        let mut buffer = [0; DATAGRAM_BYTES];
        for _ in 0..count {
            let before = Instant::now();
            near.send(&buffer)?;
            near.recv(&mut buffer)?;
            samples.push(before.elapsed());
        }
        echo.join().map_err(|_| io::Error::other("the echoing thread panicked"))??;
        Ok(samples)
    })
}

/// Who used the processors, each as a share of all of them together, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// The system that is measured.
    pub system: f64,
    /// This process: the clients.
    pub load: f64,
    /// Everybody else, and the kernel on nobody's account.
    pub others: f64,
}

impl Share {
    /// All that was not idle.
    pub fn busy(&self) -> f64 {
        self.system + self.load + self.others
    }
}

/// Processor time so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Instant,
    system: Duration,
    load: Duration,
    busy_ticks: u64,
    all_ticks: u64,
}

impl Clock {
    /// Reads the clocks of the machine, of this process, and of the processes `pids`.
    pub(super) fn read(pids: &[u32]) -> io::Result<Clock> {
        let (busy_ticks, all_ticks) = machine_ticks(&fs::read_to_string("/proc/stat")?);
        Ok(Clock {
            at: Instant::now(),
            system: pids.iter().map(|pid| process_time(*pid)).sum(),
            load: process_time(std::process::id()),
            busy_ticks,
            all_ticks,
        })
    }

    /// Who used the processors from `self` to `later`.
    pub(super) fn until(&self, later: &Clock) -> Share {
        let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
        let all = later.at.duration_since(self.at).as_secs_f64() * cores;
        let ticks = later.all_ticks.saturating_sub(self.all_ticks).max(1) as f64;
        let busy = later.busy_ticks.saturating_sub(self.busy_ticks) as f64 / ticks;
        let of = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / all;
        let (system, load) = (of(self.system, later.system), of(self.load, later.load));
        Share { system, load, others: (busy - system - load).max(0.0) }
    }
}

/// Busy and all ticks of all processors, from /proc/stat. Waiting for a disk is idle.
fn machine_ticks(stat: &str) -> (u64, u64) {
    // cpu user nice system idle iowait irq softirq steal guest guest_nice; guests are counted in the first two already.
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let all = ticks.iter().sum();
    (all - ticks.iter().skip(3).take(2).sum::<u64>(), all)
}

/// What the living threads of a process have used; zero if it is gone.
fn process_time(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_the_machine_finds_flushes_and_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let floor = Floor::measure(dir.path(), 3).unwrap();
        assert!(floor.fdatasync.len() >= 3);
        assert!((3..=SHARED_FLUSHES_MAX).contains(&floor.majority_fdatasync.len()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "probes are removed");
        assert_eq!(floor.round_trip.len(), ROUND_TRIPS);
        assert!(floor.round_trip.iter().all(|time| !time.is_zero()));
    }

    #[test]
    fn waiting_is_not_busy() {
        let stat = "cpu  10 1 20 100 50 3 4 2 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(machine_ticks(stat), (40, 190));
    }

    #[test]
    fn work_of_this_process_is_on_its_own_account() {
        let before = Clock::read(&[]).unwrap();
        let mut sum = 0_u64;
        while before.at.elapsed() < Duration::from_millis(50) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let share = before.until(&Clock::read(&[]).unwrap());
        assert!(share.load > 0.0 && share.system == 0.0, "{share:?}");
        assert!(share.busy() >= share.load);
    }
}
