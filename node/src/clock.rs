//! The one clock that the programs read: CLOCK_MONOTONIC in nanoseconds, the same for every process of a machine.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since an arbitrary point; never falls.
pub fn monotonic_ns() -> u64 {
    // The kernel has had this clock for decades: the call fails only for a clock that does not exist.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
