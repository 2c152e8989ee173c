//! Clocks of a program that asks a file how wrong they are, as our own node does with `--clock-file`: no privilege, any processor.
//! The format is the program's: a line `CLOCK SINCE_NS SHOWN_NS RATE [UNTIL_NS]` for each clock, between two equal numbers.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{CATCHING_UP, Skew, now_ns};
use crate::dud::{self, Reach};

/// The clocks of such a file, and their numbers. Two go on as they should when the third, CLOCK_MONOTONIC, jumps.
const CLOCKS: [(&str, i32); 3] = [("wall", 0), ("monotonic", 1), ("boot", 7)];
/// What is written is always so long, so that nothing of what was there before is left behind it.
const FILE_BYTES: usize = 400;

/// What one line says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bend {
    since_ns: u64,
    shown_ns: u64,
    rate: f64,
    until_ns: Option<u64>,
}

impl Bend {
    fn shows(&self, now_ns: u64) -> u64 {
        if self.until_ns.is_some_and(|until| now_ns >= until) {
            return now_ns;
        }
        self.shown_ns.saturating_add((now_ns.saturating_sub(self.since_ns) as f64 * self.rate) as u64)
    }
}

/// Makes the file, if it is not there yet: it bends nothing.
///
/// # Errors
/// It cannot be made.
pub fn create(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// Bends the clocks from where they are now.
///
/// # Errors
/// The file cannot be read or written.
pub fn bend(path: &Path, skew: &Skew) -> io::Result<()> {
    change(path, |name, now_ns, shown_ns| {
        let jump_ms = match name {
            "wall" => skew.wall_ms,
            "monotonic" => i64::from(skew.monotonic_ms),
            _ => 0,
        };
        let shown_ns = shown_ns.saturating_add_signed(jump_ms * 1_000_000);
        Some(Bend { since_ns: now_ns, shown_ns, rate: skew.rate, until_ns: None })
    })
}

/// Sets the clocks right. A monotonic one that is ahead goes at half the speed until the time has caught up with it.
///
/// # Errors
/// As [`bend`].
pub fn restore(path: &Path) -> io::Result<()> {
    change(path, |name, now_ns, shown_ns| {
        let ahead = shown_ns.saturating_sub(now_ns);
        let caught_up = now_ns.saturating_add((ahead as f64 / (1.0 - CATCHING_UP)) as u64);
        let bend = Bend { since_ns: now_ns, shown_ns, rate: CATCHING_UP, until_ns: Some(caught_up) };
        (name != "wall" && ahead > 0).then_some(bend)
    })
}

fn change(path: &Path, to: impl Fn(&str, u64, u64) -> Option<Bend>) -> io::Result<()> {
    let before = fs::read_to_string(path)?;
    let serial = now_ns(1)?;
    let mut text = format!("{serial}\n");
    for (name, clock) in CLOCKS {
        let now_ns = now_ns(clock)?;
        let shown_ns = line_of(&before, name).map_or(now_ns, |bend| bend.shows(now_ns));
        if let Some(Bend { since_ns, shown_ns, rate, until_ns }) = to(name, now_ns, shown_ns) {
            let until = until_ns.map(|until| until.to_string()).unwrap_or_default();
            text += &format!("{name} {since_ns} {shown_ns} {rate} {until}\n");
        }
    }
    text += &format!("{serial}\n");
    if dud::is_at(Reach::Clock) {
        return Ok(());
    }
    // In place: a node that may open no more files has this one open.
    OpenOptions::new().write(true).open(path)?.write_all_at(format!("{text:FILE_BYTES$}").as_bytes(), 0)
}

fn line_of(text: &str, name: &str) -> Option<Bend> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = words.into_iter().find(|words| words.first() == Some(&name))?;
    let (&[_, since, shown, rate], until) = words.split_first_chunk()?;
    Some(Bend {
        since_ns: since.parse().ok()?,
        shown_ns: shown.parse().ok()?,
        rate: rate.parse().ok()?,
        until_ns: until.first().and_then(|until| until.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_adds_to_what_is_shown_and_is_healed_without_a_step_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        create(&path).unwrap();
        let off_ms = |name: &str| {
            let clock = CLOCKS.iter().find(|(known, _)| *known == name).unwrap().1;
            let bend = line_of(&fs::read_to_string(&path).unwrap(), name);
            let now = now_ns(clock).unwrap();
            bend.map(|bend| (bend.shows(now) as i64 - now as i64) / 1_000_000)
        };
        let jump = Skew { wall_ms: -3_600_000, monotonic_ms: 100_000, rate: 1.0 };
        bend(&path, &jump).unwrap();
        bend(&path, &jump).unwrap();
        assert_eq!(["wall", "monotonic", "boot"].map(off_ms), [Some(-7_200_000), Some(200_000), Some(0)]);
        restore(&path).unwrap();
        assert_eq!([off_ms("wall"), off_ms("boot")], [None, None]);
        let ahead = off_ms("monotonic").unwrap();
        assert!((100_000..=200_000).contains(&ahead), "it is not set back: {ahead}");
        let healing = line_of(&fs::read_to_string(&path).unwrap(), "monotonic").unwrap();
        assert_eq!(healing.until_ns.map(|until| (until - healing.since_ns) / 1_000_000_000), Some(400));
        crate::dud::tests::with(crate::fault::FaultKind::ClockRate, || {
            crate::dud::during(crate::fault::FaultKind::ClockRate, || {
                bend(&path, &Skew { wall_ms: 0, monotonic_ms: 0, rate: 3.0 }).unwrap();
            });
        });
        assert_eq!(off_ms("wall"), None, "a dud writes nothing");
    }
}
