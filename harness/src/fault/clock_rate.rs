//! Clocks of some processes that run too fast or too slow.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, clocks};
use crate::NodeId;
use crate::clock::Skew;
use crate::cluster::Cluster;

/// Bends the rate of both clocks; heals by setting them right, a monotonic one that is ahead by letting the time catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockRate {
    /// Of the right rate, percent.
    pub percent: u32,
}

impl ClockRate {
    fn skew(self) -> Skew {
        Skew { wall_ms: 0, monotonic_ms: 0, rate: f64::from(self.percent) / 100.0 }
    }
}

impl Behaviour for ClockRate {
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

impl ProcessFault for ClockRate {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        clocks::inject(cluster, victims, &self.skew())
    }

    fn tick(&self, cluster: &Cluster, ongoing: &mut Ongoing) {
        clocks::tick(cluster, ongoing, &self.skew());
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let way = f64::from(self.percent) - 100.0;
        // The monotonic clock may still be ahead from a fault before.
        clocks::heal(cluster, ongoing, |seen| clocks::is_off(seen.wall_ms, way))
    }
}

impl Described for ClockRate {
    const SUMMARY: &'static str = "clocks of the victims run at 20-80 % or 125-300 % of their rate; evidence: what the code in their memory shows and, of our node, what it recorded";
    const NEEDS: Needs = Needs::Clocks;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let fast = rng.random_range(0..2) == 0;
        let percent = if fast { rng.random_range(125..=300) } else { rng.random_range(20..=80) };
        let target = super::clock_jump::draw_target(rng, dealt);
        Drawn { fault: Fault::ClockRate(ClockRate { percent }), target, duration_ms: (700, 3_000) }
    }
}
