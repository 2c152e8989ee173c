//! Links between nodes and what faults do to them: the vocabulary of the network below a cluster.
//! Deciding over bytes is in `rules`, moving datagrams in `forward`, over sockets (`proxies`) or devices (`switch`), and streams in
//! `streams`; `fabric` is what others see of it.

mod counters;
mod fabric;
mod forward;
mod ip;
mod proxies;
mod rules;
mod streams;
mod switch;
mod traffic;

pub use counters::LinkCounters;
pub use fabric::Fabric;
pub use rules::{Counters, Rule};
pub(crate) use traffic::Traffic;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// How what nodes send passes through the harness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Sockets on loopback addresses, which systems are told to talk to. Needs no privilege.
    #[default]
    Proxy,
    /// A network namespace and a device for each node, and a switch between them, of which systems need not know.
    Switch,
}

impl Backend {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Proxy => "proxy",
            Backend::Switch => "switch",
        }
    }
}

/// What stands for all clients at an end of a link.
pub const CLIENTS: NodeId = 0;

/// A directed link: datagrams from one node to another, or from or to [`CLIENTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
}

impl Link {
    /// Every directed link of a cluster, in order.
    pub fn all(nodes: u32) -> impl Iterator<Item = Link> {
        (1..=nodes)
            .flat_map(move |from| (1..=nodes).filter(move |&to| to != from).map(move |to| Link { from, to }))
    }
}

/// Which links of some nodes, seen from them. Links among them are not meant, unless they are everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// To them and from them.
    Both,
    /// To them.
    In,
    /// From them.
    Out,
    /// From the first of them to the node of the next number, and no other: a message that is late while all others are in time finds
    /// what equal delays hide.
    OneLink,
}

impl Direction {
    /// The links, in order. If everyone is meant: all links (`Both`), or those to the higher (`In`) or lower (`Out`) number.
    pub fn links(self, victims: &[NodeId], nodes: u32) -> Vec<Link> {
        let next = victims.first().map(|first| first % nodes + 1);
        let everyone = victims.len() >= nodes as usize;
        Link::all(nodes)
            .filter(|link| {
                let (from, to) = (victims.contains(&link.from), victims.contains(&link.to));
                match self {
                    Direction::Both => everyone || from != to,
                    Direction::OneLink => Some(&link.from) == victims.first() && Some(link.to) == next,
                    Direction::In => {
                        if everyone {
                            link.from < link.to
                        } else {
                            to && !from
                        }
                    }
                    Direction::Out => {
                        if everyone {
                            link.from > link.to
                        } else {
                            from && !to
                        }
                    }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(direction: Direction, victims: &[NodeId], expected: &[(NodeId, NodeId)]) {
        let links =
            direction.links(victims, 3).into_iter().map(|link| (link.from, link.to)).collect::<Vec<_>>();
        assert_eq!(links, expected, "{direction:?} of {victims:?}");
    }

    #[test]
    fn directions_are_seen_from_the_victims() {
        check(Direction::In, &[2], &[(1, 2), (3, 2)]);
        check(Direction::Out, &[2], &[(2, 1), (2, 3)]);
        check(Direction::Both, &[2], &[(1, 2), (2, 1), (2, 3), (3, 2)]);
        check(Direction::OneLink, &[2, 1], &[(2, 3)]);
        check(Direction::OneLink, &[3], &[(3, 1)]);
        check(Direction::Both, &[1, 2, 3], &[(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]);
        check(Direction::In, &[1, 2, 3], &[(1, 2), (1, 3), (2, 3)]);
        check(Direction::Out, &[1, 2, 3], &[(2, 1), (3, 1), (3, 2)]);
    }
}
