//! A disk without a free page: what would need one gets ENOSPC, and overwriting goes on.
//! A node may end then, with the exit code that its system declares, or wait for space.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, off_disks, on_disks};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Fills the disks of the victims; heals by giving the space back, and by starting whoever ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskFull {}

impl Behaviour for DiskFull {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for DiskFull {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        on_disks(cluster, victims, |disk| disk.set_full(true))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        off_disks(cluster, ongoing, |disk| disk.set_full(false), |answers| {
            answers.errors.get("write ENOSPC").copied().unwrap_or_default()
        })
    }
}

impl Described for DiskFull {
    const SUMMARY: &'static str = "disks have no free page for 0.5-3 s; evidence: ENOSPC answered; who ends with a declared exit code is started again";
    const NEEDS: Needs = Needs::Disks;
    const MAY_MISS: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = draw_target(rng, dealt);
        // Only growth needs a page, and a log that is filled ahead or a cluster that is hurt otherwise may not grow for a while.
        let duration_ms = if dealt { (2_000, 3_000) } else { (500, 3_000) };
        Drawn { fault: Fault::DiskFull(DiskFull {}), target, duration_ms }
    }
}

/// Whom something hits that everybody can wait out.
pub(super) fn draw_target(rng: &mut ChaCha8Rng, dealt: bool) -> Target {
    match rng.random_range(0..6) {
        _ if dealt => Target::Leader,
        0..2 => Target::Leader,
        2..4 => Target::One,
        4 => Target::Minority,
        _ => Target::All,
    }
}
