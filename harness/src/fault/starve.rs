//! Processes that get little CPU: stopped and let go again many times a second, so that they answer, but late, and believe to be in
//! time. Needs no privilege, unlike a quota of a control group.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, Ongoing, ProcessFault, SKIPPED};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Stops the victims again and again; heals by letting them go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Starve {
    /// Stopped for so long, milliseconds.
    pub stopped_ms: u32,
    /// And then running for so long, milliseconds.
    pub running_ms: u32,
}

impl Behaviour for Starve {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Starve {
    fn inject(&self, _cluster: &Cluster, victims: &[NodeId]) -> Acted {
        let outcome = if victims.is_empty() { SKIPPED } else { INSTALLED };
        Acted { nodes: victims.to_vec(), outcome, evidence: Map::new() }
    }

    /// Even steps stop, odd ones let go.
    fn tick(&self, cluster: &Cluster, ongoing: &mut Ongoing) {
        let stop = ongoing.steps.is_multiple_of(2);
        let mut obeyed = false;
        for &node in &ongoing.nodes {
            // A resumed node tells that it was stopped to the end.
            let seen = if stop { cluster.pause(node) } else { cluster.resume(node) };
            obeyed |= seen.is_ok_and(|seen| seen.confirmed);
        }
        ongoing.steps += 1;
        ongoing.worked += u32::from(!stop && obeyed);
        let ms = if stop { self.stopped_ms } else { self.running_ms };
        ongoing.due = Instant::now() + Duration::from_millis(ms.into());
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        for &node in &ongoing.nodes {
            // It runs already if the last step let it go.
            let _ = cluster.resume(node);
        }
        (ongoing.worked > 0, Map::from_iter([("stops".to_owned(), json!(ongoing.worked))]))
    }
}

impl Described for Starve {
    const SUMMARY: &'static str = "victims run 10-40 ms of every 50-240 ms, by SIGSTOP and SIGCONT; evidence: stops during which every thread was in state T";
    const NEEDS: Needs = Needs::Nothing;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let fault = Starve { stopped_ms: rng.random_range(40..=200), running_ms: rng.random_range(10..=40) };
        let target = match rng.random_range(0..6) {
            _ if dealt => Target::Leader,
            0..3 => Target::Leader,
            3 => Target::One,
            4 => Target::Minority,
            _ => Target::All,
        };
        Drawn { fault: Fault::Starve(fault), target, duration_ms: (500, 3_000) }
    }
}
