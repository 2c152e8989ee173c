//! What was exercised, counted: a fault that hit nothing shows nothing.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($name:ident: $what:literal),* $(,)?) => {
        /// How often what happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Tally {
            $(pub(crate) $name: u64,)*
        }

        impl Tally {
            /// Each count with its name.
            pub(crate) fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$(($what, self.$name)),*]
            }
        }

        impl AddAssign<&Tally> for Tally {
            fn add_assign(&mut self, other: &Tally) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

tally! {
    operations: "operations acknowledged",
    abandoned: "operations abandoned by their client",
    applied: "entries committed",
    elections: "leaders elected",
    truncations: "truncations of a log",
    batches: "syncs of the log",
    grouped: "syncs of more than one turn's records",
    snapshots: "snapshots taken",
    installs: "snapshots installed",
    memberships: "memberships committed",
    promotions: "learners promoted",
    removals: "voters removed",
    leader_removals: "leaders removed",
    transfers: "elections by transfer",
    left: "processes that stopped by request",
    kills: "kills",
    power_losses: "power losses",
    torn: "torn tails repaired",
    pauses: "pauses",
    lease_reads: "reads answered under a lease",
    skews: "clocks that changed their rate",
    wipes: "directories wiped",
    returns: "voters again after a wipe",
    flips: "bits flipped on a disk",
    damaged: "starts that missed something durable",
    recovered: "nodes that got it back",
    failed_syncs: "processes ended by a failing disk",
    full: "syncs that waited for space",
    failed_snapshots: "snapshots that could not be written or read",
    slow: "disks that became slow",
    lost: "datagrams lost",
    cut_off: "datagrams cut off",
    duplicated: "datagrams duplicated",
    replayed: "old datagrams replayed",
    corrupted: "datagrams corrupted",
    quorums: "quorums healed while others stayed broken",
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.rows() {
            writeln!(f, "{count:>12} {what}")?;
        }
        Ok(())
    }
}
