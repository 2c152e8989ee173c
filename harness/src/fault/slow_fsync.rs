//! A disk that takes its time: every flush is answered late, and is durable only then.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, off_disks, on_disks};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Delays every flush of the victims; heals by letting them go as fast as they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowFsync {
    /// How long a flush takes, milliseconds.
    pub delay_ms: u32,
}

impl Behaviour for SlowFsync {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for SlowFsync {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        let delay = Duration::from_millis(self.delay_ms.into());
        on_disks(cluster, victims, |disk| disk.set_slow(Some(delay)))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        off_disks(cluster, ongoing, |disk| disk.set_slow(None), |answers| answers.late_flushes)
    }
}

impl Described for SlowFsync {
    const SUMMARY: &'static str =
        "a flush takes 10-300 ms for 0.5-3 s; evidence: flushes answered 5 ms or more after they came";
    const NEEDS: Needs = Needs::Disks;
    const MAY_MISS: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        // The first of a run is short, so that flushes are answered while it lasts.
        let short = rng.random_bool(0.7) || dealt;
        let delay_ms = if short { rng.random_range(10..=50) } else { rng.random_range(50..=300) };
        let target = match rng.random_range(0..6) {
            _ if dealt => Target::Leader,
            0..2 => Target::Leader,
            2 => Target::One,
            3 => Target::Minority,
            4 => Target::Followers,
            _ => Target::All,
        };
        Drawn { fault: Fault::SlowFsync(SlowFsync { delay_ms }), target, duration_ms: (500, 3_000) }
    }
}
