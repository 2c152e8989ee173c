//! A follower misses so much that its entries are gone, and has to be caught up by a snapshot.
//! Stopping it is done by [`crate::cluster`], cutting it off by [`crate::net`]; its own trace says what it installed.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, SteppedFault, act, on_links_of,
};
use crate::NodeId;
use crate::cluster::{Cluster, leader_of};
use crate::errand::{Conclusion, Errand};
use crate::net::{Direction, Link, Rule};
use crate::target::Target;

/// How much longer than planned it waits for the others to compact their logs.
const COMPACTED_WITHIN: Duration = Duration::from_secs(5);
/// How long a healed node may take to fetch the snapshot and to make it durable.
const INSTALLED_WITHIN: Duration = Duration::from_secs(5);

/// How a node is made to miss entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// SIGSTOP, and no datagram waits for it.
    Pause,
    /// No datagram of other nodes reaches it, and none of its own gets out.
    Cut,
}

/// Keeps a node away; heals by letting it come back, when there is no way but a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// How.
    pub by: By,
}

impl Behaviour for Snapshot {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        // A stopped node, too: what waits in its socket would be there when it goes on.
        on_links_of(victims, nodes, Direction::Both, Rule::Drop)
    }

    fn steps(&self) -> Option<&dyn SteppedFault> {
        Some(self)
    }

    fn holds_processes(&self) -> bool {
        self.by == By::Pause
    }
}

impl Described for Snapshot {
    const SUMMARY: &'static str = "stops a follower, or cuts it off, until the entries that it misses are compacted away; evidence: snapshots that it installed";
    const NEEDS: Needs = Needs::Snapshots;
    // It deposes nobody, but nothing passes the links of its victim: what shapes traffic there would shape nothing.
    const DEPOSES_LEADER: bool = true;
    // A node that is removed from the cluster meanwhile is sent nothing.
    const MAY_MISS: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, _dealt: bool) -> Drawn {
        let by = if rng.random_bool(0.5) { By::Pause } else { By::Cut };
        let fault = Fault::Snapshot(Snapshot { by });
        Drawn { fault, target: Target::Followers, duration_ms: (500, 1_500) }
    }
}

impl SteppedFault for Snapshot {
    fn begin(&self, cluster: &Cluster, victim: NodeId) -> Acted {
        match self.by {
            By::Pause => act(&[victim], |node| cluster.pause(node)),
            By::Cut => Acted { nodes: vec![victim], outcome: INSTALLED, evidence: Map::new() },
        }
    }

    fn hits_spares(&self) -> bool {
        true
    }

    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion {
        let (cluster, system) = (errand.cluster, errand.cluster.system());
        let mut conclusion = Conclusion::default();
        let Some(&victim) = errand.victims.first() else { return conclusion };
        let mut note = |name: &str, value: Value| conclusion.evidence.insert(name.to_owned(), value);
        let from = system.record_bytes(cluster.run_dir(), victim);
        // Nobody has more than this, and the victim gets no more.
        let last = errand.until(
            COMPACTED_WITHIN,
            || !errand.is_stopped(),
            || cluster.statuses().values().map(|status| status.last_index).max(),
        );
        errand.until(Duration::MAX, || !errand.is_due(), || None::<()>);
        let compacted = last.and_then(|last| {
            errand.until(
                COMPACTED_WITHIN,
                || !errand.is_stopped(),
                || {
                    let statuses = cluster.statuses();
                    let leader = leader_of(&statuses).filter(|leader| leader.node != victim)?;
                    let first = statuses.get(&leader.node)?.first_index;
                    (first > last.saturating_add(1)).then_some(first)
                },
            )
        });
        let counters = errand.fabric.remove(errand.id);
        note("dropped", counters.dropped.into());
        let resumed = match self.by {
            By::Pause => cluster.resume(victim).map(|seen| (seen.saw, seen.confirmed)),
            By::Cut => Ok(("cut".to_owned(), true)),
        };
        let healed = match resumed {
            Ok((saw, confirmed)) => {
                note("saw", saw.into());
                confirmed
            }
            Err(error) => {
                note("error", error.to_string().into());
                false
            }
        };
        note("had_at_most", json!(last));
        note("log_began_at", json!(compacted));
        let installed = compacted.and_then(|_| {
            errand.until(
                INSTALLED_WITHIN,
                || true,
                || Some(system.installs(cluster.run_dir(), victim, from)).filter(|installs| *installs > 0),
            )
        });
        note("installed", installed.unwrap_or_default().into());
        // What it missed must have been kept from it by this fault, and by none beside it.
        conclusion.bit = healed && installed.is_some() && !counters.are_disproved();
        conclusion
    }
}
