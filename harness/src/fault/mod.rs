//! The kinds of faults, and what all of them have in common: a name, a summary, drawn parameters, an effect, evidence.
//! Each fault is a file of its own below and a line of the table in this file; when to inject is the schedule's decision, doing it on
//! time the nemesis' work.

use std::time::Instant;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::NodeId;
use crate::cluster::{Cluster, ClusterError, Seen};
use crate::errand::{Conclusion, Errand};
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};
use crate::run_dir::node_name;
use crate::system::Transport;
use crate::target::Target;

mod clocks;

/// The table of faults: a variant, its module and type there, its name. A fault more is a file and a line.
macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $module:ident $name:literal;)+) => {
        $(pub mod $module;)+

        /// A kind of fault, as `--faults` names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultKind {
            $($(#[$doc])* $variant,)+
        }

        impl FaultKind {
            /// Every kind, in the order of tables.
            pub const ALL: [FaultKind; [$($name),+].len()] = [$(FaultKind::$variant),+];

            /// The name on the command line and in histories.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$variant => $name,)+ }
            }

            /// What it does, in one line.
            pub fn summary(self) -> &'static str {
                match self { $(FaultKind::$variant => <$module::$variant as Described>::SUMMARY,)+ }
            }

            /// What a cluster must have for it.
            pub fn needs(self) -> Needs {
                match self { $(FaultKind::$variant => <$module::$variant as Described>::NEEDS,)+ }
            }

            /// Whether it is there to make a leader fall, rather than to make its life hard.
            pub(crate) fn deposes_leader(self) -> bool {
                match self { $(FaultKind::$variant => <$module::$variant as Described>::DEPOSES_LEADER,)+ }
            }

            /// Whether it takes or gives something that its victims may have no use for until it is healed.
            pub(crate) fn may_miss(self) -> bool {
                match self { $(FaultKind::$variant => <$module::$variant as Described>::MAY_MISS,)+ }
            }

            /// Draws a fault of this kind for a cluster of `nodes`. The `dealt` one, the first of its kind in a run, is aimed so that
            /// it bites: at the leader and long enough for an election, or at links of everyone.
            pub(crate) fn draw(self, rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn {
                match self { $(FaultKind::$variant => <$module::$variant as Described>::draw(rng, nodes, dealt),)+ }
            }
        }

        /// A fault with its parameters.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum Fault {
            $($(#[$doc])* $variant($module::$variant),)+
        }

        impl Fault {
            /// Its kind.
            pub fn kind(&self) -> FaultKind {
                match self { $(Fault::$variant(_) => FaultKind::$variant,)+ }
            }

            pub(crate) fn behaviour(&self) -> &dyn Behaviour {
                match self { $(Fault::$variant(fault) => fault,)+ }
            }
        }
    };
}

faults! {
    /// SIGKILL, later a restart.
    Kill = kill "kill";
    /// SIGSTOP, later SIGCONT.
    Pause = pause "pause";
    /// Directed links that pass nothing.
    Partition = partition "partition";
    /// Directed links that lose some datagrams.
    Loss = loss "loss";
    /// Directed links that are slow.
    Delay = delay "delay";
    /// Directed links that deliver some datagrams twice.
    Duplicate = duplicate "duplicate";
    /// Directed links on which some datagrams are overtaken.
    Reorder = reorder "reorder";
    /// SIGTERM, soon a restart.
    Restart = restart "restart";
    /// One node after the other stopped and started.
    RollingRestart = rolling_restart "rolling_restart";
    /// Every node killed at once.
    KillAll = kill_all "kill_all";
    /// One node that comes back when the others are far ahead.
    StartLate = start_late "start_late";
    /// A node that lost its data directory.
    Wipe = wipe "wipe";
    /// Processes that get little CPU.
    Starve = starve "starve";
    /// Processes that can open no more files.
    FdLimit = fd_limit "fd_limit";
    /// Processes that get less memory than they use.
    MemoryLimit = memory_limit "memory_limit";
    /// Directed links that change a bit of some datagrams.
    Corrupt = corrupt "corrupt";
    /// Directed links that deliver old datagrams again.
    Replay = replay "replay";
    /// Directed links of little bandwidth.
    Rate = rate "rate";
    /// Connections that are reset.
    Reset = reset "reset";
    /// Directed links whose datagrams arrive with a wrong checksum.
    Garble = garble "garble";
    /// Nodes that clients do not reach.
    CutClients = cut_clients "cut_clients";
    /// Clocks that jump.
    ClockJump = clock_jump "clock_jump";
    /// Clocks that run too fast or too slow.
    ClockRate = clock_rate "clock_rate";
    /// A node joins, another is taken out.
    Membership = membership "membership";
    /// The leader hands over.
    Transfer = transfer "transfer";
    /// A follower misses so much that only a snapshot helps.
    Snapshot = snapshot "snapshot";
    /// What was not flushed is gone.
    PowerLoss = power_loss "power_loss";
    /// Disks that refuse.
    Eio = eio "eio";
    /// Disks without space.
    DiskFull = disk_full "disk_full";
    /// Disks that take their time.
    SlowFsync = slow_fsync "slow_fsync";
    /// Bits of what was flushed are others.
    BitFlip = bit_flip "bit_flip";
    /// A file is gone.
    LostFile = lost_file "lost_file";
    /// The end of a file is gone.
    TruncatedFile = truncated_file "truncated_file";
    /// One leader after the other loses its links.
    Depose = depose "depose";
    /// A command of an operator's.
    Admin = admin "admin";
}

mod disks;

use disks::{damage, mend, off_disks, on_disks, release};

impl FaultKind {
    /// Whether one may wait for a moment of a node: what is done to a single process at once.
    pub fn can_be_anchored(self) -> bool {
        matches!(self, FaultKind::Kill | FaultKind::Pause | FaultKind::PowerLoss)
    }

    /// Whether it takes from nodes what they had flushed.
    pub fn damages(self) -> bool {
        matches!(self, FaultKind::Wipe | FaultKind::BitFlip | FaultKind::LostFile | FaultKind::TruncatedFile)
    }

    /// Whether a cluster can have it.
    pub fn possible(self, cluster: Shape) -> bool {
        match self.needs() {
            Needs::Nothing => true,
            Needs::Majority => cluster.nodes > 2,
            Needs::Links => cluster.nodes > 1 && (cluster.hosts || cluster.transport != Transport::Direct),
            Needs::Datagrams => cluster.nodes > 1 && (cluster.hosts || cluster.transport == Transport::Udp),
            Needs::Payloads => cluster.nodes > 1 && cluster.transport == Transport::Udp,
            Needs::Hosts => cluster.nodes > 1 && cluster.hosts,
            Needs::ClientLinks => cluster.hosts,
            Needs::Clocks => cluster.clocks,
            Needs::Streams => cluster.nodes > 1 && cluster.transport == Transport::Tcp,
            Needs::Wipe => cluster.nodes > 2 && cluster.survives_wipe,
            Needs::Orders => cluster.nodes > 2 && cluster.takes_orders,
            Needs::Admin => cluster.has_commands,
            Needs::Snapshots => {
                cluster.nodes > 2 && cluster.installs_snapshots && cluster.transport == Transport::Udp
            }
            Needs::Disks => cluster.disks,
            Needs::Power => cluster.disks || cluster.unsynced_in_memory,
            Needs::Damage => cluster.nodes > 2 && cluster.disks,
            Needs::Memory => cluster.groups,
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a cluster must have for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Three nodes or more, so that one may be away.
    Majority,
    /// Links that pass the harness.
    Links,
    /// Links that carry datagrams, be it those of IP.
    Datagrams,
    /// Links that carry datagrams whose payload nothing but the application checks.
    Payloads,
    /// Two nodes or more with hosts of their own.
    Hosts,
    /// Clients whose datagrams pass the harness.
    ClientLinks,
    /// Processes whose clocks can be bent.
    Clocks,
    /// Links that carry streams.
    Streams,
    /// Three nodes or more, of which one may lose its data.
    Wipe,
    /// Three nodes or more that change their membership and their leader when told to.
    Orders,
    /// A description with commands of an operator's.
    Admin,
    /// Three nodes or more that write snapshots so often that one catches up by them.
    Snapshots,
    /// Disks of the harness's own below the nodes.
    Disks,
    /// Those, or nodes of ours that keep in their memory what they have not flushed.
    Power,
    /// Disks of the harness's own, and three nodes or more, so that one may be damaged.
    Damage,
    /// Control groups for the memory of processes.
    Memory,
}

impl Needs {
    /// Whether the harness must have disks of its own for it.
    pub fn disks(self) -> bool {
        matches!(self, Needs::Disks | Needs::Damage)
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Needs::Nothing => "it needs nothing",
            Needs::Majority => "it needs three nodes or more",
            Needs::Links => "it needs two nodes or more, whose links pass the harness",
            Needs::Datagrams => "it needs two nodes or more that send datagrams, or --net switch",
            Needs::Payloads => "it needs two nodes or more that send datagrams over UDP",
            Needs::Hosts => "it needs two nodes or more with hosts of their own: --net switch",
            Needs::Clocks => {
                "it needs a kernel and a processor (x86-64) on which clocks of a process can be bent"
            }
            Needs::ClientLinks => "it needs nodes with hosts of their own: --net switch",
            Needs::Streams => "it needs two nodes or more that talk over TCP",
            Needs::Wipe => "it needs three nodes or more of a system that says that a node may lose its data",
            Needs::Orders => "it needs three nodes or more that take orders",
            Needs::Admin => "it needs a system whose description has commands in [admin]",
            Needs::Disks => "it needs disks of the harness's own: --disk fuse, and see `harness doctor`",
            Needs::Power => {
                "it needs disks of the harness's own, --disk fuse, or our own node with --disk memory; see `harness doctor`"
            }
            Needs::Damage => {
                "it needs three nodes or more on disks of the harness's own: --disk fuse, and see `harness doctor`"
            }
            Needs::Memory => "it needs control groups for memory, see `harness doctor`",
            Needs::Snapshots => {
                "it needs three nodes or more that write snapshots often: --snapshot-entries 5000 or less"
            }
        })
    }
}

/// What decides which faults a cluster can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its nodes.
    pub nodes: u32,
    /// How they talk to each other.
    pub transport: Transport,
    /// Whether every datagram of theirs passes the harness, those of their clients too.
    pub hosts: bool,
    /// Whether the clocks of its processes can be bent.
    pub clocks: bool,
    /// Whether a node that lost its data comes back as a member.
    pub survives_wipe: bool,
    /// Whether it changes its membership and its leader when told to.
    pub takes_orders: bool,
    /// Whether its description has commands of an operator's.
    pub has_commands: bool,
    /// Whether a node that misses a second is caught up by a snapshot.
    pub installs_snapshots: bool,
    /// Whether its nodes may be on disks of the harness's own.
    pub disks: bool,
    /// Whether its nodes may keep in their memory what they have not flushed.
    pub unsynced_in_memory: bool,
    /// Whether there are control groups for the memory of its processes.
    pub groups: bool,
}

/// A name that is no kind of fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no fault is called {name:?}; there are {}", FaultKind::ALL.map(FaultKind::name).join(", "))]
pub struct UnknownFault {
    /// The name.
    pub name: String,
}

impl std::str::FromStr for FaultKind {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        FaultKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownFault { name: name.to_owned() })
    }
}

/// What a kind of fault is, before one is drawn.
pub(crate) trait Described {
    /// One line for `harness list`.
    const SUMMARY: &'static str;
    /// What a cluster must have for it.
    const NEEDS: Needs;
    /// Whether it is there to make a leader fall.
    const DEPOSES_LEADER: bool = false;
    /// See [`FaultKind::may_miss`].
    const MAY_MISS: bool = false;

    /// See [`FaultKind::draw`].
    fn draw(rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn;
}

/// What a fault does: to directed links, to processes, or step by step.
pub(crate) trait Behaviour {
    /// What it does to directed links when it hits `victims` (in the order in which they were drawn) of `nodes`; empty for faults of
    /// processes.
    fn rules(&self, _victims: &[NodeId], _nodes: u32) -> Vec<(Link, Rule)> {
        Vec::new()
    }

    /// Whether a fault of links had an effect: what it counted itself must agree with `seen`, which was counted on its links by the
    /// code that moves bytes, from injection to heal.
    fn bit(&self, _counters: &Counters, _seen: &LinkCounters) -> bool {
        false
    }

    /// What it does to processes.
    fn process(&self) -> Option<&dyn ProcessFault> {
        None
    }

    /// What it does step by step.
    fn steps(&self) -> Option<&dyn SteppedFault> {
        None
    }

    /// Whether it has its victims' processes in its hands, so that no other fault can hit them.
    fn holds_processes(&self) -> bool {
        self.process().is_some()
    }

    /// Whether it has its victims' clocks in its hands, so that no other fault can bend them.
    fn holds_clocks(&self) -> bool {
        false
    }
}

/// A fault of many steps, for one victim, carried out on a thread of its own: it looks at what nodes say, and waits for it.
pub(crate) trait SteppedFault: Sync {
    /// The first step, at a victim that is up.
    fn begin(&self, _cluster: &Cluster, victim: NodeId) -> Acted {
        Acted { nodes: vec![victim], outcome: INSTALLED, evidence: Map::new() }
    }

    /// The others, the healing included.
    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion;

    /// Whether one has to end before the next of its kind begins.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Whether spares, too, can be hit.
    fn hits_spares(&self) -> bool {
        false
    }
}

/// A fault of processes.
pub(crate) trait ProcessFault {
    /// Hits the victims, who are up.
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted;

    /// Goes on, if it is one that goes on; called every 10 ms or so.
    fn tick(&self, _cluster: &Cluster, _ongoing: &mut Ongoing) {}

    /// Heals; whether it had an effect, and the evidence.
    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>);
}

/// The outcome of an injection that did what it was to do.
pub(crate) const INSTALLED: &str = "installed";
/// Of one that did nothing.
pub(crate) const SKIPPED: &str = "skipped";
/// Of one of which only a part was seen to work.
pub(crate) const INDETERMINATE: &str = "indeterminate";

/// What came of an injection.
#[derive(Debug)]
pub(crate) struct Acted {
    /// The nodes that were hit.
    pub(crate) nodes: Vec<NodeId>,
    /// [`INSTALLED`], [`SKIPPED`] or [`INDETERMINATE`].
    pub(crate) outcome: &'static str,
    /// What was seen.
    pub(crate) evidence: Map<String, Value>,
}

/// A fault of processes that is active.
#[derive(Debug)]
pub(crate) struct Ongoing {
    /// The nodes that were hit.
    pub(crate) nodes: Vec<NodeId>,
    /// Whether the injection was seen to work on every one.
    pub(crate) confirmed: bool,
    /// When it goes on; the fault itself sets it.
    pub(crate) due: Instant,
    /// How often it went on.
    pub(crate) steps: u32,
    /// How often that was seen to work.
    pub(crate) worked: u32,
}

impl Ongoing {
    pub(crate) fn new(acted: &Acted) -> Ongoing {
        let confirmed = acted.outcome == INSTALLED;
        Ongoing { nodes: acted.nodes.clone(), confirmed, due: Instant::now(), steps: 0, worked: 0 }
    }
}

/// Does the same to several nodes, and notes what was seen of each: [`INSTALLED`] if every one was seen to obey, [`INDETERMINATE`] if
/// some did, [`SKIPPED`] if it could be done to none.
pub(crate) fn act(nodes: &[NodeId], action: impl Fn(NodeId) -> Result<Seen, ClusterError>) -> Acted {
    let (mut done, mut confirmed, mut evidence) = (Vec::new(), true, Map::new());
    for &node in nodes {
        let seen = match action(node) {
            Ok(seen) => {
                done.push(node);
                confirmed &= seen.confirmed;
                json!({"pid": seen.pid, "saw": seen.saw})
            }
            Err(error) => {
                confirmed = false;
                json!({"error": error.to_string()})
            }
        };
        evidence.insert(node_name(node), seen);
    }
    let outcome = match (done.is_empty(), confirmed) {
        (true, _) => SKIPPED,
        (false, true) => INSTALLED,
        (false, false) => INDETERMINATE,
    };
    Acted { nodes: done, outcome, evidence }
}

/// A fault as a schedule deals it: what, at whom, for how long (shortest and longest, milliseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) fault: Fault,
    pub(crate) target: Target,
    pub(crate) duration_ms: (u64, u64),
}

/// The same rule on every link of the victims, as seen from them.
fn on_links_of(victims: &[NodeId], nodes: u32, direction: Direction, rule: Rule) -> Vec<(Link, Rule)> {
    direction.links(victims, nodes).into_iter().map(|link| (link, rule)).collect()
}

/// By how much links are slow rather than cut, milliseconds, if they are: seldom, and never if it is dealt. Above any retry, so that
/// answers are late when nobody waits for them any more.
fn draw_slow(rng: &mut ChaCha8Rng, dealt: bool) -> Option<u32> {
    let (slow, by_ms) = (rng.random_range(0..4) == 0, rng.random_range(300..=1_200));
    (slow && !dealt).then_some(by_ms)
}

/// The links of a fault that does not cut them: mostly those of the leader, which always carry traffic, and one way in two of three
/// cases, because what is the same both ways hides what a late or lost reply alone does. The dealt fault is on links of everyone, some
/// of which always carry enough.
fn draw_links(rng: &mut ChaCha8Rng, dealt: bool) -> (Target, Direction) {
    let target = match rng.random_range(0..10) {
        _ if dealt => Target::All,
        0..4 => Target::Leader,
        4..6 => Target::One,
        6 => Target::Minority,
        7 => Target::Followers,
        _ => Target::All,
    };
    // Between two followers there is nothing to hurt: a single link is one of the leader's.
    let choices: &[Direction] = match target {
        Target::Leader => &[Direction::Both, Direction::In, Direction::Out, Direction::OneLink],
        _ => &[Direction::Both, Direction::In, Direction::Out],
    };
    (target, choices[rng.random_range(0..choices.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_a_wrong_one_lists_the_right_ones() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert!(kind.summary().len() > 20 && kind.summary().contains("evidence: "), "{kind}");
        }
        let error = "kil".parse::<FaultKind>().unwrap_err().to_string();
        assert!(error.contains("\"kil\"") && error.contains("kill, pause, partition"), "{error}");
    }

    /// The kinds that a cluster can have.
    fn check(nodes: u32, transport: Transport, hosts: bool, survives_wipe: bool, expected: &str) {
        let ours = transport == Transport::Udp;
        let shape = Shape {
            nodes,
            transport,
            hosts,
            clocks: hosts,
            survives_wipe,
            takes_orders: ours,
            has_commands: false,
            installs_snapshots: ours,
            disks: false,
            unsynced_in_memory: false,
            groups: false,
        };
        let possible = FaultKind::ALL.into_iter().filter(|kind| kind.possible(shape)).map(FaultKind::name);
        assert_eq!(possible.collect::<Vec<_>>().join(" "), expected, "{shape:?}");
    }

    #[test]
    fn a_cluster_has_the_faults_that_it_can_have() {
        check(1, Transport::Udp, false, true, "kill pause restart rolling_restart kill_all starve fd_limit");
        check(
            5,
            Transport::Udp,
            false,
            false,
            "kill pause partition loss delay duplicate reorder restart rolling_restart kill_all start_late starve fd_limit corrupt replay rate membership transfer snapshot depose",
        );
        check(
            3,
            Transport::Tcp,
            false,
            true,
            "kill pause partition loss delay restart rolling_restart kill_all start_late wipe starve fd_limit rate reset depose",
        );
        check(
            3,
            Transport::Direct,
            false,
            false,
            "kill pause restart rolling_restart kill_all start_late starve fd_limit",
        );
    }

    #[test]
    fn on_hosts_of_their_own_nodes_have_links_whatever_they_speak() {
        check(
            3,
            Transport::Direct,
            true,
            false,
            "kill pause partition loss delay duplicate reorder restart rolling_restart kill_all start_late starve fd_limit replay rate garble cut_clients clock_jump clock_rate depose",
        );
        check(
            3,
            Transport::Tcp,
            true,
            false,
            "kill pause partition loss delay duplicate reorder restart rolling_restart kill_all start_late starve fd_limit replay rate reset garble cut_clients clock_jump clock_rate depose",
        );
        check(
            1,
            Transport::Udp,
            true,
            true,
            "kill pause restart rolling_restart kill_all starve fd_limit cut_clients clock_jump clock_rate",
        );
    }

    /// Whether counters and what was seen on the links show an effect; and that neither does alone.
    fn check_bit(fault: &Fault, counters: Counters, seen: LinkCounters) {
        let bit = |counters: &Counters, seen: &LinkCounters| fault.behaviour().bit(counters, seen);
        assert!(bit(&counters, &seen), "{fault:?}");
        let untouched = LinkCounters { received: 10, passed: 10, ..LinkCounters::default() };
        assert!(!bit(&counters, &untouched), "the links show nothing of {fault:?}");
        assert!(!bit(&Counters { matched: 10, ..Counters::default() }, &seen), "{fault:?} counted nothing");
    }

    #[test]
    fn what_a_fault_counts_is_no_evidence_unless_the_links_show_it() {
        let direction = Direction::Both;
        let lossy = LinkCounters { received: 10, passed: 8, lost: 2, ..LinkCounters::default() };
        let passed = LinkCounters { received: 10, passed: 10, ..LinkCounters::default() };
        let late = LinkCounters { late: 2, ..passed };
        let dropped = Counters { dropped: 2, ..Counters::default() };
        check_bit(
            &Fault::Partition(partition::Partition { shape: partition::Shape::Split, slow_ms: None }),
            dropped,
            lossy,
        );
        let loss = Fault::Loss(loss::Loss { percent: 20, direction });
        check_bit(&loss, dropped, lossy);
        check_bit(&loss, Counters { stalled: 2, ..Counters::default() }, late);
        let delay = Fault::Delay(delay::Delay { delay_ms: 60, jitter_ms: 0, direction });
        let delayed = Counters { delayed: 2, ..Counters::default() };
        check_bit(&delay, delayed, late);
        check_bit(&delay, delayed, LinkCounters { aside: 2, ..passed });
        let split = Fault::Partition(partition::Partition { shape: partition::Shape::Split, slow_ms: None });
        check_bit(&split, Counters { held: 2, ..Counters::default() }, LinkCounters { kept: 2, ..passed });
        let duplicate = Fault::Duplicate(duplicate::Duplicate { percent: 20, within_ms: 5, direction });
        check_bit(
            &duplicate,
            Counters { duplicated: 2, ..Counters::default() },
            LinkCounters { copied: 2, ..passed },
        );
        let reorder = Fault::Reorder(reorder::Reorder { percent: 20, hold_ms: 50, direction });
        check_bit(
            &reorder,
            Counters { reordered: 2, ..Counters::default() },
            LinkCounters { overtaken: 2, ..passed },
        );
        let corrupt = Fault::Corrupt(corrupt::Corrupt { percent: 20, direction });
        check_bit(
            &corrupt,
            Counters { corrupted: 2, ..Counters::default() },
            LinkCounters { changed: 2, ..passed },
        );
        let garble = Fault::Garble(garble::Garble { percent: 20, direction });
        let garbled = Counters { corrupted: 2, ..Counters::default() };
        check_bit(&garble, garbled, LinkCounters { changed: 2, bad_checksum: 2, ..passed });
        let unseen = LinkCounters { changed: 2, ..passed };
        assert!(!garble.behaviour().bit(&garbled, &unseen), "no kernel found a wrong checksum");
        let cut = cut_clients::CutClients { way: cut_clients::Way::Both, slow_ms: None };
        check_bit(&Fault::CutClients(cut), dropped, lossy);
        check_bit(&Fault::CutClients(cut), delayed, late);
        check_bit(&split, delayed, late);
        let replay = Fault::Replay(replay::Replay { percent: 20, direction });
        check_bit(
            &replay,
            Counters { replayed: 2, ..Counters::default() },
            LinkCounters { old: 2, ..passed },
        );
        let rate = Fault::Rate(rate::Rate { kbytes_per_s: 20, direction });
        check_bit(&rate, delayed, late);
        check_bit(
            &Fault::Reset(reset::Reset {}),
            Counters { reset: 1, ..Counters::default() },
            LinkCounters { reset: 1, ..passed },
        );
    }
}
