//! A node that may open no more files: what it has open it keeps, anything else gets EMFILE, be it a segment of its log, a snapshot or a
//! connection. A node may end then, with the exit code that its system declares for storage, or wait. Needs no privilege.

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act, disk_full, release};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::run_dir::node_name;

/// Between two looks whether it lasts.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lowers the soft RLIMIT_NOFILE of the victims to what they have open; heals by raising it again, and by starting whoever ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdLimit {}

impl Behaviour for FdLimit {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for FdLimit {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        let acted = act(victims, |node| {
            cluster.excuse(node);
            cluster.limit_files(node).inspect_err(|_| {
                // Some of its processes may have been limited before one was not.
                cluster.unlimit_files(node);
                drop(cluster.release(node));
            })
        });
        // Whether it is full at that very moment is not what matters: it may just have closed something.
        Acted { outcome: if acted.nodes.is_empty() { super::SKIPPED } else { super::INSTALLED }, ..acted }
    }

    /// Looks whether it lasts. Who closed one of the files that it had then may open none instead.
    fn tick(&self, cluster: &Cluster, ongoing: &mut Ongoing) {
        let mut full = false;
        for &node in &ongoing.nodes {
            match cluster.files(node) {
                Ok(files) if !files.full => drop(cluster.limit_files(node)),
                files => full |= files.is_ok(),
            }
        }
        ongoing.worked += u32::from(full);
        ongoing.steps += 1;
        ongoing.due = Instant::now() + LOOK_EVERY;
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let mut evidence = Map::new();
        let mut refused = 0;
        for &node in &ongoing.nodes {
            if let Ok(files) = cluster.files(node) {
                evidence.insert(node_name(node), json!({"open": files.open, "limit": files.limit}));
            }
            refused += cluster.files_refused_since(node);
            cluster.unlimit_files(node);
        }
        release(cluster, ongoing, &mut evidence);
        evidence.insert("full".to_owned(), json!(ongoing.worked));
        evidence.insert("refused".to_owned(), json!(refused));
        // Who said that it was refused one may have ended before the next look.
        (ongoing.worked > 0 || refused > 0, evidence)
    }
}

impl Described for FdLimit {
    const SUMMARY: &'static str = "victims can open no more files for 0.5-3 s: their soft RLIMIT_NOFILE is what they have open; evidence: /proc shows no number free below the limit, or the victim says that it was refused one; who ends with a declared exit code is started again";
    const NEEDS: Needs = Needs::Nothing;
    const MAY_MISS: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = disk_full::draw_target(rng, dealt);
        Drawn { fault: Fault::FdLimit(FdLimit {}), target, duration_ms: (500, 3_000) }
    }
}
