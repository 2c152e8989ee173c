//! The kinds of faults, and what all of them have in common: a name, a summary, drawn parameters.
//! Each fault is a file of its own below; when to inject is the schedule's decision, doing it the nemesis' work.

pub mod delay;
pub mod duplicate;
pub mod kill;
pub mod loss;
pub mod partition;
pub mod pause;
pub mod reorder;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::net::{Counters, Direction, Link, Rule};
use crate::system::Transport;
use crate::target::Target;

/// A kind of fault, as `--faults` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL, later a restart.
    Kill,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// Directed links that drop everything.
    Partition,
    /// Directed links that drop some datagrams.
    Loss,
    /// Directed links that are slow.
    Delay,
    /// Directed links that deliver some datagrams twice.
    Duplicate,
    /// Directed links on which some datagrams are overtaken.
    Reorder,
}

impl FaultKind {
    /// Every kind, in the order of tables.
    pub const ALL: [FaultKind; 7] = [
        FaultKind::Kill,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::Loss,
        FaultKind::Delay,
        FaultKind::Duplicate,
        FaultKind::Reorder,
    ];

    /// The name on the command line and in histories.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Kill => "kill",
            FaultKind::Pause => "pause",
            FaultKind::Partition => "partition",
            FaultKind::Loss => "loss",
            FaultKind::Delay => "delay",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Reorder => "reorder",
        }
    }

    /// What it does, in one line.
    pub fn summary(self) -> &'static str {
        match self {
            FaultKind::Kill => kill::SUMMARY,
            FaultKind::Pause => pause::SUMMARY,
            FaultKind::Partition => partition::SUMMARY,
            FaultKind::Loss => loss::SUMMARY,
            FaultKind::Delay => delay::SUMMARY,
            FaultKind::Duplicate => duplicate::SUMMARY,
            FaultKind::Reorder => reorder::SUMMARY,
        }
    }

    /// Whether a cluster can have it.
    pub fn possible(self, cluster: Cluster) -> bool {
        match self {
            FaultKind::Kill | FaultKind::Pause => true,
            FaultKind::Partition | FaultKind::Delay | FaultKind::Loss => {
                cluster.nodes > 1 && cluster.transport != Transport::Direct
            }
            FaultKind::Duplicate | FaultKind::Reorder => {
                cluster.nodes > 1 && cluster.transport == Transport::Udp
            }
        }
    }

    /// What a cluster must have for it, in words.
    pub fn condition(self) -> &'static str {
        match self {
            FaultKind::Kill | FaultKind::Pause => "any can",
            FaultKind::Partition | FaultKind::Delay | FaultKind::Loss => {
                "it needs two nodes or more, whose links pass the harness"
            }
            FaultKind::Duplicate | FaultKind::Reorder => "it needs two nodes or more that send datagrams",
        }
    }

    /// Whether it is there to make a leader fall, rather than to make its life hard.
    pub(crate) fn deposes_leader(self) -> bool {
        matches!(self, FaultKind::Kill | FaultKind::Pause | FaultKind::Partition)
    }

    /// Draws a fault of this kind for a cluster of `nodes`. The `dealt` one, the first of its kind in a run, is aimed so that it
    /// bites: at the leader and long enough for an election, or at links of everyone.
    pub(crate) fn draw(self, rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn {
        match self {
            FaultKind::Kill => kill::draw(rng, dealt),
            FaultKind::Pause => pause::draw(rng, dealt),
            FaultKind::Partition => partition::draw(rng, nodes, dealt),
            FaultKind::Loss => loss::draw(rng, dealt),
            FaultKind::Delay => delay::draw(rng, dealt),
            FaultKind::Duplicate => duplicate::draw(rng, dealt),
            FaultKind::Reorder => reorder::draw(rng, dealt),
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What decides which faults a cluster can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: u32,
    /// How they talk to each other.
    pub transport: Transport,
    /// Whether a node that lost its data comes back as a member.
    pub survives_wipe: bool,
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

/// A fault with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// See [`kill`].
    Kill(kill::Kill),
    /// See [`pause`].
    Pause(pause::Pause),
    /// See [`partition`].
    Partition(partition::Partition),
    /// See [`loss`].
    Loss(loss::Loss),
    /// See [`delay`].
    Delay(delay::Delay),
    /// See [`duplicate`].
    Duplicate(duplicate::Duplicate),
    /// See [`reorder`].
    Reorder(reorder::Reorder),
}

impl Fault {
    /// Its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Kill(_) => FaultKind::Kill,
            Fault::Pause(_) => FaultKind::Pause,
            Fault::Partition(_) => FaultKind::Partition,
            Fault::Loss(_) => FaultKind::Loss,
            Fault::Delay(_) => FaultKind::Delay,
            Fault::Duplicate(_) => FaultKind::Duplicate,
            Fault::Reorder(_) => FaultKind::Reorder,
        }
    }

    /// What it does to directed links when it hits `victims` (in the order in which they were drawn) of `nodes`; empty for faults
    /// of processes.
    pub fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        match self {
            Fault::Kill(_) | Fault::Pause(_) => Vec::new(),
            Fault::Partition(fault) => fault.rules(victims, nodes),
            Fault::Loss(fault) => fault.rules(victims, nodes),
            Fault::Delay(fault) => fault.rules(victims, nodes),
            Fault::Duplicate(fault) => fault.rules(victims, nodes),
            Fault::Reorder(fault) => fault.rules(victims, nodes),
        }
    }

    /// Whether the evidence of a fault of links shows that it had an effect.
    pub fn bit(&self, counters: &Counters) -> bool {
        match self {
            Fault::Kill(_) | Fault::Pause(_) => false,
            Fault::Partition(_) => counters.dropped + counters.held > 0,
            Fault::Loss(_) => counters.dropped + counters.stalled > 0,
            Fault::Delay(_) => counters.delayed > 0,
            Fault::Duplicate(_) => counters.duplicated > 0,
            Fault::Reorder(_) => counters.reordered > 0,
        }
    }
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
            assert!(kind.summary().len() > 20);
        }
        let error = "kil".parse::<FaultKind>().unwrap_err().to_string();
        assert!(error.contains("\"kil\"") && error.contains("kill, pause, partition"), "{error}");
    }
}
