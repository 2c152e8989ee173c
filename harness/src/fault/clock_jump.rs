//! Clocks of some processes that jump: the wall clock either way, the monotonic one forward, as after a suspension.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, clocks};
use crate::NodeId;
use crate::clock::Skew;
use crate::cluster::Cluster;
use crate::target::Target;

/// Moves the clocks; heals by giving the wall clock back and letting the time catch up with the monotonic one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockJump {
    /// By so many milliseconds; negative is back.
    pub wall_ms: i64,
    /// Forward by so many milliseconds.
    pub monotonic_ms: u32,
}

impl ClockJump {
    fn skew(self) -> Skew {
        Skew { wall_ms: self.wall_ms, monotonic_ms: self.monotonic_ms, rate: 1.0 }
    }
}

impl Behaviour for ClockJump {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }

    /// A node with a wrong clock may be killed and paused like any.
    fn holds_processes(&self) -> bool {
        false
    }

    fn holds_clocks(&self) -> bool {
        true
    }
}

impl ProcessFault for ClockJump {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        clocks::inject(cluster, victims, &self.skew())
    }

    fn tick(&self, cluster: &Cluster, ongoing: &mut Ongoing) {
        clocks::tick(cluster, ongoing, &self.skew());
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let (wall_ms, monotonic_ms) = (self.wall_ms as f64, f64::from(self.monotonic_ms));
        clocks::heal(cluster, ongoing, |seen| {
            (wall_ms == 0.0 || clocks::is_off(seen.wall_ms, wall_ms))
                && (monotonic_ms == 0.0 || clocks::is_off(seen.monotonic_ms, monotonic_ms))
        })
    }
}

impl Described for ClockJump {
    const SUMMARY: &'static str = "wall clocks of the victims jump by up to a day either way, monotonic ones 0.3-3 s forward; evidence: what the code in their memory shows and, of our node, what it recorded";
    const NEEDS: Needs = Needs::Clocks;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let longest_ms = [1_000, 60_000, 86_400_000][rng.random_range(0..3)];
        let (by_ms, back) = (rng.random_range(300..=longest_ms), rng.random_range(0..2) == 0);
        let fault = ClockJump { wall_ms: if back { -by_ms } else { by_ms }, monotonic_ms: rng.random_range(300..=3_000) };
        Drawn { fault: Fault::ClockJump(fault), target: draw_target(rng, dealt), duration_ms: (700, 3_000) }
    }
}

/// Whose clocks are wrong: mostly the leader's, which the others believe to be there by their own.
pub(super) fn draw_target(rng: &mut ChaCha8Rng, dealt: bool) -> Target {
    match rng.random_range(0..6) {
        _ if dealt => Target::Leader,
        0..2 => Target::Leader,
        2 => Target::One,
        3 => Target::Minority,
        4 => Target::Followers,
        _ => Target::All,
    }
}
