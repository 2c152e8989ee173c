//! SIGSTOP, later SIGCONT: a node that misses elections and wakes up believing what it believed before.
//! Sending the signals and seeing every thread stop is done by [`crate::cluster`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Drawn, Fault};
use crate::target::Target;

/// One line for `harness list`.
pub(super) const SUMMARY: &str = "SIGSTOP, SIGCONT after 0.3-3 s; evidence: state T of every thread, when stopped and still before it goes on";

/// Stops the victims; heals by letting them go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {}

pub(super) fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    if dealt {
        // Longer than any election timeout (400 ms) and its election: the leader wakes up deposed.
        return Drawn { fault: Fault::Pause(Pause {}), target: Target::Leader, duration_ms: (1_300, 2_000) };
    }
    let target = match rng.random_range(0..10) {
        0..5 => Target::Leader,
        5..8 => Target::One,
        8 => Target::Minority,
        _ => Target::Majority,
    };
    let duration_ms = if target == Target::Majority { (300, 1_000) } else { (500, 3_000) };
    Drawn { fault: Fault::Pause(Pause {}), target, duration_ms }
}
