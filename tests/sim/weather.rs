//! What a seed makes of the world: how many nodes, which faults and how often, how good links and disks are.
//! Each seed has some kinds of faults and not others: faults that always come together hide what one alone would show.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::fault::Fault;
use crate::network::Quality;

pub(crate) const MS: u64 = 1_000_000;

/// The circumstances of one life.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Voters that found the cluster.
    pub(crate) founders: u32,
    /// Further machines that may join.
    pub(crate) spares: u32,
    pub(crate) clients: u64,
    /// How long a client waits for one operation before it gives it up, ns.
    pub(crate) patience: (u64, u64),
    pub(crate) quality: Quality,
    /// How long a sync takes, ns.
    pub(crate) sync: (u64, u64),
    pub(crate) snapshot_entries: u64,
    pub(crate) election_timeout_ms: (u64, u64),
    /// Whether leaders count on leases, and by how much they allow for wrong clocks, percent.
    pub(crate) lease_reads: bool,
    pub(crate) clock_drift_percent: u64,
    /// Which faults there are. Those that stand twice come twice as often.
    pub(crate) faults: Vec<Fault>,
    /// Mean time between two, ns.
    pub(crate) fault_every: u64,
    /// How long the faults last.
    pub(crate) storm_ms: u64,
}

impl Weather {
    /// Nothing happens but what clients want.
    pub(crate) fn calm(founders: u32) -> Weather {
        Weather {
            founders,
            spares: 0,
            clients: 4,
            patience: (u64::MAX / 4, u64::MAX / 4),
            quality: Quality::calm(),
            sync: (MS / 10, MS),
            snapshot_entries: 1_000_000,
            election_timeout_ms: (200, 400),
            lease_reads: false,
            clock_drift_percent: 0,
            faults: Vec::new(),
            fault_every: 0,
            storm_ms: 0,
        }
    }

    /// As the stream decides.
    pub(crate) fn drawn(rng: &mut ChaCha8Rng) -> Weather {
        let mut share = |chance: f64, most: f64| {
            let there = rng.random_bool(chance);
            if there { rng.random_range(0.0..most) } else { 0.0 }
        };
        let quality = Quality {
            loss: share(0.6, 0.3),
            duplication: share(0.5, 0.5),
            corruption: share(0.5, 0.05),
            replay: share(0.5, 0.2),
            delay: (MS / 20, MS),
            stragglers: share(0.5, 0.05),
            straggling: 0,
        };
        let slowest = [1, 5, 30][rng.random_range(0..3)];
        let quality = Quality {
            delay: (MS / 20, rng.random_range(MS / 10..=slowest * MS)),
            straggling: rng.random_range(1..=2_000) * MS,
            ..quality
        };
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| rng.random_bool(fault.chance())).collect();
        faults.extend([Fault::Heal, Fault::Heal]);
        Weather {
            founders: [5, 5, 5, 5, 5, 3, 3, 4, 2, 1][rng.random_range(0..10)],
            spares: rng.random_range(0..=2),
            clients: 4,
            patience: (500 * MS, 4_000 * MS),
            quality,
            sync: (MS / 20, [MS, 5 * MS, 20 * MS][rng.random_range(0..3)]),
            snapshot_entries: rng.random_range(4..40),
            election_timeout_ms: [(200, 400), (150, 300), (300, 600)][rng.random_range(0..3)],
            lease_reads: rng.random_bool(0.5),
            // The rates that clocks are set to.
            clock_drift_percent: 25,
            faults,
            fault_every: rng.random_range(40..400) * MS,
            storm_ms: rng.random_range(2_000..6_000),
        }
    }
}
