//! A disk that lost a file of a node while it was away.
//! Only where a majority has everything; see [`crate::cluster`].

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, damage, mend};
use crate::NodeId;
use crate::cluster::{Cluster, files_with_bytes};
use crate::disk::{Difference, Disk};
use crate::target::Target;

/// Kills the victim and removes a file of it; heals by starting it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LostFile {
    /// Draws which.
    pub seed: u32,
}

impl LostFile {
    fn lose(&self, disk: &Disk) {
        let files = files_with_bytes(disk);
        let drawn = ChaCha8Rng::seed_from_u64(self.seed.into()).random_range(0..files.len().max(1));
        if let Some((path, _)) = files.get(drawn) {
            disk.lose_file(path);
        }
    }
}

impl Behaviour for LostFile {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for LostFile {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        damage(cluster, victims, |disk| self.lose(disk), |seen: Difference| seen.gone == 1 && seen.new == 0)
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        mend(cluster, ongoing)
    }
}

impl Described for LostFile {
    const SUMMARY: &'static str = "one node is killed, loses a file, and is restarted after 0.3-1 s; at most a minority is damaged at a time; evidence: exit status signal 9, a path that is gone";
    const NEEDS: Needs = Needs::Damage;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = if !dealt && rng.random_ratio(1, 3) { Target::Leader } else { Target::One };
        Drawn { fault: Fault::LostFile(LostFile { seed: rng.random() }), target, duration_ms: (300, 1_000) }
    }
}
