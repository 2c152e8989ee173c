//! A disk that refuses: reads, writes or flushes get EIO. A node may end then, with the exit code that its system declares, or go on;
//! what it may not do is to acknowledge what it does not have.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act, on_disks};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::disk::Access;
use crate::target::Target;

/// Breaks the disks of the victims; heals by mending them, and by starting whoever ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eio {
    /// Which requests are refused. Reads hit a node that starts: what it has read the kernel has in its cache.
    pub on: Access,
}

impl Behaviour for Eio {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Eio {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        if self.on != Access::Read {
            return on_disks(cluster, victims, |disk| disk.set_broken(Some(self.on)));
        }
        let killed = act(victims, |node| {
            let seen = cluster.kill(node)?;
            // Mounted anew, so that nothing is in a cache.
            cluster.change_disk(node, |_| ())?;
            Ok(seen)
        });
        let mut acted = on_disks(cluster, &killed.nodes, |disk| disk.set_broken(Some(self.on)));
        acted.evidence.extend(killed.evidence);
        for (name, started) in act(&acted.nodes, |node| cluster.start(node)).evidence {
            acted.evidence.insert(format!("{name}_start"), started);
        }
        acted
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let name = format!("{} EIO", self.on.name());
        super::off_disks(cluster, ongoing, |disk| disk.set_broken(None), |answers| {
            answers.errors.get(&name).copied().unwrap_or_default()
        })
    }
}

impl Described for Eio {
    const SUMMARY: &'static str = "disks refuse fsync, write or read with EIO for 0.3-2 s; evidence: errors answered; who ends with a declared exit code is started again";
    const NEEDS: Needs = Needs::Disks;
    const MAY_MISS: bool = true;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let on = match rng.random_range(0..4) {
            _ if dealt => Access::Fsync,
            0..2 => Access::Fsync,
            2 => Access::Write,
            _ => Access::Read,
        };
        let target = match rng.random_range(0..6) {
            _ if dealt => Target::Leader,
            0..3 => Target::Leader,
            3..5 => Target::One,
            _ => Target::Minority,
        };
        Drawn { fault: Fault::Eio(Eio { on }), target, duration_ms: (300, 2_000) }
    }
}
