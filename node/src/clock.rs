//! The one clock that the programs read: CLOCK_MONOTONIC in nanoseconds, the same for every process of a machine; and another
//! that shows when it goes wrong. What they show can be bent by a file, so that tests need no privilege for a wrong clock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::trace::ShownClocks;

/// Difference between two clocks that still counts as none: a pause between reading the one and the other.
const JUMP_NS: i64 = 5_000_000;
/// Longest file that bends clocks, bytes.
const FILE_BYTES_MAX: usize = 512;

/// What bends the clocks of this process, if anything does.
static BENT: OnceLock<ClockFile> = OnceLock::new();

/// Nanoseconds since an arbitrary point; never falls.
pub fn monotonic_ns() -> u64 {
    show(ClockId::CLOCK_MONOTONIC)
}

/// The time of day, nanoseconds since 1970.
pub(crate) fn wall_ns() -> u64 {
    show(ClockId::CLOCK_REALTIME)
}

/// The time of day.
pub(crate) fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(wall_ns())
}

/// [`monotonic_ns`] of a process whose clocks nothing bends.
pub(crate) fn machine_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// What the clocks show, if something bends them now.
pub(crate) fn shown() -> Option<ShownClocks> {
    let bent = BENT.get().is_some_and(|file| !file.bends().is_empty());
    bent.then(|| ShownClocks { monotonic: monotonic_ns(), wall: wall_ns() })
}

/// From now on, and for good, the clocks of this process show what a file says; it may change at any time. Each of its lines bends a
/// clock, `wall`, `monotonic` or `boot`: `CLOCK SINCE_NS SHOWN_NS RATE [UNTIL_NS]`. When the clock of the machine was at SINCE_NS it showed
/// SHOWN_NS, and goes at RATE from there until that of the machine is at UNTIL_NS. It begins and ends with the same number, or it
/// is just being written, and what it said before goes on; an empty one bends nothing.
///
/// # Errors
/// There is no such file.
pub fn bend_by(path: &Path) -> io::Result<()> {
    let file = ClockFile { file: File::open(path)?, last: Mutex::default(), latest: Default::default() };
    // Only the first counts; there is one.
    let _ = BENT.set(file);
    Ok(())
}

fn read(clock: ClockId) -> u64 {
    // The kernel has had these clocks for decades: the call fails only for a clock that does not exist.
    let now = clock_gettime(clock).expect("the clock exists");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn show(clock: ClockId) -> u64 {
    let now = read(clock);
    BENT.get().map_or(now, |file| file.show(clock, now))
}

/// A file that bends clocks.
struct ClockFile {
    file: File,
    /// What it said when it was last whole.
    last: Mutex<Vec<Bend>>,
    /// The latest that CLOCK_MONOTONIC and CLOCK_BOOTTIME showed: they never fall, whatever the file says.
    latest: [AtomicU64; 2],
}

impl ClockFile {
    fn show(&self, clock: ClockId, now: u64) -> u64 {
        let shown = self.bends().iter().find(|bend| bend.clock == clock).map_or(now, |bend| bend.shows(now));
        let latest = match clock {
            ClockId::CLOCK_MONOTONIC => &self.latest[0],
            ClockId::CLOCK_BOOTTIME => &self.latest[1],
            _ => return shown,
        };
        latest.fetch_max(shown, Ordering::Relaxed).max(shown)
    }

    fn bends(&self) -> Vec<Bend> {
        let mut text = [0; FILE_BYTES_MAX];
        let said = self.file.read_at(&mut text, 0).ok().and_then(|length| parse(&text[..length]));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = said {
            *last = said;
        }
        last.clone()
    }
}

/// A line of such a file.
#[derive(Clone, Debug, PartialEq)]
struct Bend {
    clock: ClockId,
    since_ns: u64,
    shown_ns: u64,
    rate: f64,
    until_ns: Option<u64>,
}

impl Bend {
    fn shows(&self, now: u64) -> u64 {
        if self.until_ns.is_some_and(|until| now >= until) {
            return now;
        }
        self.shown_ns.saturating_add((now.saturating_sub(self.since_ns) as f64 * self.rate) as u64)
    }
}

/// What a file says; `None` if it is not whole.
fn parse(text: &[u8]) -> Option<Vec<Bend>> {
    let mut lines: Vec<&str> = std::str::from_utf8(text).ok()?.trim().lines().collect();
    if lines.is_empty() {
        return Some(Vec::new());
    }
    let number = lines.pop()?;
    if lines.is_empty() || lines.remove(0).trim() != number.trim() {
        return None;
    }
    let bend = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&[name, since, shown, rate], until) = words.split_first_chunk()?;
        let clock = match name {
            "wall" => ClockId::CLOCK_REALTIME,
            "monotonic" => ClockId::CLOCK_MONOTONIC,
            "boot" => ClockId::CLOCK_BOOTTIME,
            _ => return None,
        };
        Some(Bend {
            clock,
            since_ns: since.parse().ok()?,
            shown_ns: shown.parse().ok()?,
            rate: rate.parse().ok().filter(|rate| *rate >= 0.0)?,
            until_ns: until.first().map(|until| until.parse()).transpose().ok()?,
        })
    };
    lines.into_iter().map(bend).collect()
}

/// Compares two clocks that go alike, CLOCK_MONOTONIC and CLOCK_BOOTTIME, and notices when one has moved without the other: the
/// machine slept, or somebody moved a clock, at once or little by little.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// How far the one was behind the other when that was last noticed, or first looked at.
    difference: Option<i64>,
}

impl ClockWatch {
    /// [`monotonic_ns`], and whether the clocks have moved differently by then, since that was last noticed.
    pub fn look(&mut self) -> (u64, bool) {
        let now = monotonic_ns();
        (now, self.moved(now, show(ClockId::CLOCK_BOOTTIME)))
    }

    fn moved(&mut self, monotonic: u64, boot: u64) -> bool {
        let difference = boot.wrapping_sub(monotonic).cast_signed();
        let moved = self.difference.is_some_and(|before| difference.wrapping_sub(before).abs() > JUMP_NS);
        if moved || self.difference.is_none() {
            self.difference = Some(difference);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_moves_alone_is_noticed_once() {
        let mut watch = ClockWatch::default();
        assert!(!watch.moved(1_000, 9_000_000_000), "they need not show the same");
        assert!(!watch.moved(2_000_001_000, 11_000_000_000), "both went on by two seconds");
        assert!(watch.moved(2_000_002_000, 11_010_000_000), "the machine slept for 10 ms");
        assert!(!watch.moved(2_000_003_000, 11_010_001_000));
        assert!(watch.moved(2_100_003_000, 11_010_002_000), "the clock was moved on by 100 ms");
        assert!(!ClockWatch::default().look().1);
    }

    #[test]
    fn a_clock_that_goes_slower_than_the_other_is_noticed_however_often_it_is_looked_at() {
        let mut watch = ClockWatch::default();
        let noticed = (0..100).filter(|ms| watch.moved(ms * 500_000, ms * 1_000_000)).count();
        assert_eq!(noticed, 9, "every 11 ms of 100, at half the speed");
    }

    #[test]
    fn the_clocks_of_this_machine_go_alike() {
        let mut watch = ClockWatch::default();
        // A pause between the two readings looks like a jump; it does not last.
        let jumps = (0..1_000).filter(|_| watch.look().1).count();
        assert!(jumps < 100, "{jumps} of 1000");
    }

    #[test]
    fn a_file_bends_the_clocks_that_it_names_until_it_says_something_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clocks = ClockFile {
            file: File::open(file.path()).unwrap(),
            last: Mutex::default(),
            latest: Default::default(),
        };
        let (wall, monotonic, boot) =
            (ClockId::CLOCK_REALTIME, ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME);
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        assert_eq!(clocks.show(monotonic, 1_000), 1_000);
        write("7\nmonotonic 1000 5000 2.0\nwall 1000 200 0.5   \n7\n   ");
        assert_eq!([900, 1_000, 2_000].map(|now| clocks.show(monotonic, now)), [5_000, 5_000, 7_000]);
        assert_eq!([1_000, 2_000].map(|now| clocks.show(wall, now)), [200, 700]);
        assert_eq!(clocks.show(boot, 2_000), 2_000);
        // Half written, and nonsense.
        for text in
            ["8\nmonotonic 3000 9000 1.0\n7", "9\nmonotonic x 9000 1.0\n9", "9", "9\nmonotonic 1 1 -1\n9"]
        {
            write(text);
            assert_eq!(clocks.show(monotonic, 3_000), 9_000, "{text}");
        }
        write("8\nmonotonic 3000 9000 0.5 15000\n8");
        assert_eq!(
            [3_000, 5_000, 14_000, 15_000, 16_000].map(|now| clocks.show(monotonic, now)),
            [9_000, 10_000, 14_500, 15_000, 16_000],
            "the time caught up"
        );
        write("");
        assert_eq!(clocks.show(wall, 4_000), 4_000, "the time of day goes back");
        assert_eq!(clocks.show(monotonic, 4_000), 16_000, "this clock stands still");
    }
}
