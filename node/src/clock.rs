//! The one clock that the programs read: CLOCK_MONOTONIC in nanoseconds, the same for every process of a machine; and another
//! that shows when it goes wrong.

use nix::time::{ClockId, clock_gettime};

/// Difference between two clocks over one look that still counts as none: a pause between reading the one and the other.
const JUMP_NS: i64 = 5_000_000;

/// Nanoseconds since an arbitrary point; never falls.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> u64 {
    // The kernel has had these clocks for decades: the call fails only for a clock that does not exist.
    let now = clock_gettime(clock).expect("the clock exists");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Looks at two clocks that go alike, CLOCK_MONOTONIC and CLOCK_BOOTTIME, and notices when one has moved without the other: the
/// machine slept, or somebody moved a clock.
#[derive(Debug, Default)]
pub struct ClockWatch {
    /// How far the one was behind the other at the last look.
    difference: Option<i64>,
}

impl ClockWatch {
    /// Whether the clocks moved differently since the last look.
    pub fn jumped(&mut self) -> bool {
        self.moved(monotonic_ns(), read(ClockId::CLOCK_BOOTTIME))
    }

    fn moved(&mut self, monotonic: u64, boot: u64) -> bool {
        let difference = boot.wrapping_sub(monotonic).cast_signed();
        let before = self.difference.replace(difference);
        before.is_some_and(|before| difference.wrapping_sub(before).abs() > JUMP_NS)
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
        assert!(!ClockWatch::default().jumped());
    }

    #[test]
    fn the_clocks_of_this_machine_go_alike() {
        let mut watch = ClockWatch::default();
        // A pause between the two readings looks like a jump; it does not last.
        let jumps = (0..1_000).filter(|_| watch.jumped()).count();
        assert!(jumps < 100, "{jumps} of 1000");
    }
}
