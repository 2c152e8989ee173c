//! SIGKILL, later a restart on the same data: what a node had not handed to the kernel is lost, what it had is not.
//! Sending the signal, reaping and starting again is done by [`crate::cluster`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// One line for `harness list`.
const SUMMARY: &str =
    "SIGKILL, restarted on the same data after 0.3-3 s; evidence: exit status signal 9, the new pid";

/// Kills the victims; heals by starting them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {}

impl Behaviour for Kill {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Kill {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| cluster.kill(node))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let started = act(&ongoing.nodes, |node| cluster.start(node));
        let mut evidence = started.evidence;
        evidence.insert("restart".to_owned(), started.outcome.into());
        (ongoing.confirmed, evidence)
    }
}

impl Described for Kill {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Nothing;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    let target = match rng.random_range(0..10) {
        _ if dealt => Target::Leader,
        0..4 => Target::Leader,
        4..7 => Target::One,
        7 => Target::Minority,
        8 => Target::Majority,
        _ => Target::All,
    };
    // Without a majority nothing is served: such kills test recovery, for which the restart matters, not the wait.
    let duration_ms = match target {
        Target::Majority | Target::All => (300, 800),
        _ => (500, 3_000),
    };
    Drawn { fault: Fault::Kill(Kill {}), target, duration_ms }
}
