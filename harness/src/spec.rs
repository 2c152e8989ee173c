//! What a run is, as data: everything that a person may choose, and nothing that a machine finds out.
//! The schedule of faults is drawn from it by [`crate::schedule`], the operations by the workloads.

use serde::{Deserialize, Serialize};

use crate::fault::FaultKind;

/// Which operations clients issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// Registers and lists together.
    Mixed,
    /// Registers: read, write, compare-and-set.
    Register,
    /// Lists: append an element, read the list.
    Append,
    /// Sets: add an element, read the set.
    Set,
}

/// One run. Two runs of equal specs have equal schedules and equal streams of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Nodes of the cluster.
    pub nodes: u32,
    /// How long clients load the cluster, in milliseconds. Every fault is healed by then.
    pub time_ms: u64,
    /// Workers, each with one operation open at a time.
    pub clients: u32,
    /// Operations a second over all clients; 0 is as fast as they go.
    pub rate: u32,
    /// What clients do.
    pub workload: WorkloadKind,
    /// Kinds of faults to inject; empty is a healthy run.
    pub faults: Vec<FaultKind>,
    /// Seed of every random stream.
    pub seed: u64,
    /// Planted bug that the node is started with.
    pub bug: Option<String>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            nodes: 5,
            time_ms: 30_000,
            clients: 10,
            rate: 2_000,
            workload: WorkloadKind::Mixed,
            faults: FaultKind::ALL.to_vec(),
            seed: 0,
            bug: None,
        }
    }
}
