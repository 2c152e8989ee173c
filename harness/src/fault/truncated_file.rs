//! A disk that lost the end of a file of a node while it was away.
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

/// Kills the victim and cuts a file of it short; heals by starting it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruncatedFile {
    /// Draws which, and where.
    pub seed: u32,
}

impl TruncatedFile {
    fn cut(&self, disk: &Disk) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.into());
        let files = files_with_bytes(disk);
        if let Some((path, size)) = files.get(rng.random_range(0..files.len().max(1))) {
            disk.cut(path, rng.random_range(0..*size));
        }
    }
}

impl Behaviour for TruncatedFile {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for TruncatedFile {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        damage(cluster, victims, |disk| self.cut(disk), |seen: Difference| {
            seen.bytes > 0 && seen.bits == 0 && seen.gone + seen.new == 0
        })
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        mend(cluster, ongoing)
    }
}

impl Described for TruncatedFile {
    const SUMMARY: &'static str = "one node is killed, loses the end of a file, and is restarted after 0.3-1 s; at most a minority is damaged at a time; evidence: exit status signal 9, bytes that are missing";
    const NEEDS: Needs = Needs::Damage;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = if !dealt && rng.random_ratio(1, 3) { Target::Leader } else { Target::One };
        let fault = Fault::TruncatedFile(TruncatedFile { seed: rng.random() });
        Drawn { fault, target, duration_ms: (300, 1_000) }
    }
}
