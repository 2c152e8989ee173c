//! A disk that rots while a node is away: bits of what it had flushed are others when it comes back.
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

/// Kills the victim and inverts bits of its files; heals by starting it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitFlip {
    /// How many.
    pub bits: u32,
    /// Draws which.
    pub seed: u32,
}

impl Behaviour for BitFlip {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl BitFlip {
    fn flip(&self, disk: &Disk) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.into());
        let files = files_with_bytes(disk);
        for _ in 0..self.bits {
            // Each file alike, however small: what is short is often what matters most.
            if let Some((path, size)) = files.get(rng.random_range(0..files.len().max(1))) {
                disk.flip(path, rng.random_range(0..size * 8));
            }
        }
    }
}

impl ProcessFault for BitFlip {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        // The same bit twice is none.
        damage(cluster, victims, |disk| self.flip(disk), |seen: Difference| {
            (1..=u64::from(self.bits)).contains(&seen.bits) && seen.gone + seen.new == 0
        })
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        mend(cluster, ongoing)
    }
}

impl Described for BitFlip {
    const SUMMARY: &'static str = "one node is killed, 1-8 bits of its files are inverted, and it is restarted after 0.3-1 s; at most a minority is damaged at a time; evidence: exit status signal 9, bits that differ";
    const NEEDS: Needs = Needs::Damage;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let bits = if rng.random_bool(0.5) { 1 } else { rng.random_range(2..=8) };
        let fault = BitFlip { bits, seed: rng.random() };
        let target = if !dealt && rng.random_ratio(1, 3) { Target::Leader } else { Target::One };
        Drawn { fault: Fault::BitFlip(fault), target, duration_ms: (300, 1_000) }
    }
}
