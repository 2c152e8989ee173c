//! SIGSTOP, later SIGCONT: a node that misses elections and wakes up believing what it believed before.
//! Sending the signals and seeing every thread stop is done by [`crate::cluster`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act, INSTALLED};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// One line for `harness list`.
const SUMMARY: &str = "SIGSTOP, SIGCONT after 0.3-3 s; evidence: state T of every thread, when stopped and still before it goes on";

/// Stops the victims; heals by letting them go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {}

impl Behaviour for Pause {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Pause {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| cluster.pause(node))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let resumed = act(&ongoing.nodes, |node| cluster.resume(node));
        (ongoing.confirmed && resumed.outcome == INSTALLED, resumed.evidence)
    }
}

impl Described for Pause {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Nothing;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
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
