//! What faults share that take many steps: each is carried out on a thread of its own beside the nemesis, and looks at what the
//! nodes say. What the steps are is the business of the fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::NodeId;
use crate::cluster::Cluster;
use crate::dud::{self, Reach};
use crate::net::Fabric;
use crate::run_dir::node_name;
use crate::system::Change;

/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(50);

/// A fault under way, as the thread that carries it out sees it.
pub(crate) struct Errand<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) fabric: &'a Fabric,
    /// The fault's number in the schedule, and of its rules in the fabric.
    pub(crate) id: u32,
    /// Whom it hits, in the order drawn.
    pub(crate) victims: Vec<NodeId>,
    /// Set when it is time to heal.
    pub(crate) due: Arc<AtomicBool>,
    /// Set when all is to be healed at once.
    pub(crate) stop: &'a AtomicBool,
    /// When the newest acknowledged write was asked for, see [`crate::nemesis::Record`].
    pub(crate) acknowledged: &'a (dyn Fn() -> u64 + Sync),
}

/// How it ended: healed, as far as that was possible.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Conclusion {
    /// Whether its effect was seen.
    pub(crate) bit: bool,
    /// What was seen.
    pub(crate) evidence: Map<String, Value>,
}

impl Errand<'_> {
    /// Whether it is time to heal.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) || self.is_stopped()
    }

    /// Whether all is to be healed at once.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Orders a change of the membership, see [`crate::system::System::reconfigure`].
    pub(crate) fn reconfigure(&self, change: Change, timeout: Duration) -> Result<(), String> {
        if dud::is_at(Reach::Order) {
            return Ok(());
        }
        self.cluster.system().reconfigure(self.cluster.addresses(), change, timeout)
    }

    /// Orders the leader to hand over, see [`crate::system::System::transfer_leader`].
    pub(crate) fn transfer_leader(&self, to: Option<NodeId>, timeout: Duration) -> Result<NodeId, String> {
        if dud::is_at(Reach::Order) {
            let drawn = to.or(self.victims.first().copied());
            return drawn.ok_or_else(|| "nobody to hand over to".to_owned());
        }
        self.cluster.system().transfer_leader(self.cluster.addresses(), to, timeout)
    }

    /// Looks again and again until there is something to see, for `within` at most, and no longer than `go_on` holds.
    pub(crate) fn until<T>(
        &self,
        within: Duration,
        go_on: impl Fn() -> bool,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let started = Instant::now();
        loop {
            if let Some(seen) = look() {
                return Some(seen);
            }
            if started.elapsed() >= within || !go_on() {
                return None;
            }
            std::thread::sleep(LOOK.min(within.saturating_sub(started.elapsed())));
        }
    }
}

/// Names of nodes, for evidence.
pub(crate) fn names(nodes: impl IntoIterator<Item = NodeId>) -> Value {
    nodes.into_iter().map(node_name).collect::<Vec<_>>().into()
}
