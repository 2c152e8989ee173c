//! What a run is, as data: everything that a person may choose, and nothing that a machine finds out.
//! The schedule of faults is drawn from it by [`crate::schedule`], the operations by the workloads.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Bending;
use crate::disk::Store;
use crate::fault::FaultKind;
use crate::net::Backend;
use crate::profile::{self, Pace};

/// Few enough that who misses a second of a run needs a snapshot also where faults and a busy machine leave a hundred writes a second.
pub const SNAPSHOT_ENTRIES: u64 = 100;

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

impl WorkloadKind {
    /// Every kind, in the order of tables.
    pub const ALL: [WorkloadKind; 4] =
        [WorkloadKind::Mixed, WorkloadKind::Register, WorkloadKind::Append, WorkloadKind::Set];

    /// The name on the command line and in histories.
    pub fn name(self) -> &'static str {
        match self {
            WorkloadKind::Mixed => "mixed",
            WorkloadKind::Register => "register",
            WorkloadKind::Append => "append",
            WorkloadKind::Set => "set",
        }
    }

    /// Functions that a system's clients must have for it. `cas` is done where they have it.
    pub fn needs(self) -> &'static [&'static str] {
        match self {
            WorkloadKind::Mixed => &["read", "write", "append"],
            WorkloadKind::Register => &["read", "write"],
            WorkloadKind::Append => &["read", "append"],
            WorkloadKind::Set => &["read", "add"],
        }
    }

    /// What clients do, in one line.
    pub fn summary(self) -> &'static str {
        match self {
            WorkloadKind::Mixed => {
                "registers and lists: 60 % of the operations on the former, 40 % on the latter"
            }
            WorkloadKind::Register => "read 40 %, write 30 %, compare-and-set 30 %, on 5 registers at a time",
            WorkloadKind::Append => "append an element 50 %, read the list 50 %, on 3 lists at a time",
            WorkloadKind::Set => "add an element 67 %, read the set 33 %, on 4 sets at a time",
        }
    }
}

/// One run. Two runs of equal specs have equal schedules and equal streams of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Nodes of the cluster.
    pub nodes: u32,
    /// How long clients load the cluster, in milliseconds. Every fault is healed by then.
    pub time_ms: u64,
    /// How long a fresh cluster may take until all nodes are ready, and follow one leader if they tell, and as long again until one of
    /// them serves, in milliseconds.
    #[serde(default = "ready_ms")]
    pub ready_ms: u64,
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
    /// Entries after which our node writes a snapshot; as many as it takes by itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_entries: Option<u64>,
    /// Further flags of our node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_args: Vec<String>,
    /// How dense the faults are.
    #[serde(default)]
    pub pace: Pace,
    /// Whether damage of disks may hit more nodes than the system survives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// How what nodes send passes through the harness.
    #[serde(default)]
    pub net: Backend,
    /// Where nodes keep their data.
    #[serde(default)]
    pub disk: Store,
    /// How clocks are bent.
    #[serde(default)]
    pub clocks: Bending,
    /// The system, as the command line named it; our own node if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The program that it runs in place of the one that its description names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
}

/// Databases that begin with a copy of each other's files take longer than an election, and a busy machine takes long for both.
fn ready_ms() -> u64 {
    60_000
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            nodes: 5,
            time_ms: 30_000,
            ready_ms: ready_ms(),
            clients: 10,
            rate: 2_000,
            workload: WorkloadKind::Mixed,
            faults: profile::default_faults(),
            seed: 0,
            bug: None,
            snapshot_entries: Some(SNAPSHOT_ENTRIES),
            node_args: Vec::new(),
            pace: Pace::default(),
            blind: false,
            net: Backend::Proxy,
            disk: Store::Real,
            clocks: Bending::Memory,
            system: None,
            binary: None,
        }
    }
}
