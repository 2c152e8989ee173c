//! Partitions: which directed links drop everything, by shape.
//! Dropping and counting is done by [`crate::net`]; who is a victim is decided by the target.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Needs, Drawn, Fault, draw_slow, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};
use crate::target::Target;

/// One line for `harness list`.
const SUMMARY: &str = "cuts links: halves with the leader on either side, one or the leader alone, one way in or out, majorities ring, bridge, or makes them slow by 0.3-1.2 s; evidence: datagrams lost, or streams kept, or what was put aside or came late";

/// Which links are cut (the shapes are Jepsen's, `jepsen.nemesis`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Victims and the rest do not hear each other: halves if the victims are many, an isolated node if it is one.
    Split,
    /// The victims hear nothing from the rest, and are heard.
    OneWayIn,
    /// The victims hear the rest, and are not heard.
    OneWayOut,
    /// Each node hears a majority, and no two nodes the same one. The victims' order is the order round the ring.
    MajoritiesRing,
    /// The first victim hears everyone; of the others two halves do not hear each other.
    Bridge,
}

/// Cuts links; heals by removing the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which links.
    pub shape: Shape,
    /// Slow by so many milliseconds rather than cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ms: Option<u32>,
}

impl Behaviour for Partition {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        let rule = Rule::cut(self.slow_ms);
        let all = |links: BTreeSet<Link>| links.into_iter().map(|link| (link, rule)).collect();
        match self.shape {
            Shape::Split => on_links_of(victims, nodes, Direction::Both, rule),
            Shape::OneWayIn => on_links_of(victims, nodes, Direction::In, rule),
            Shape::OneWayOut => on_links_of(victims, nodes, Direction::Out, rule),
            Shape::MajoritiesRing => all(ring(&seating(victims, nodes))),
            Shape::Bridge => all(bridge(&seating(victims, nodes))),
        }
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        is_cut(counters, seen)
    }
}

/// Whether links that were cut, or made slow, show it.
pub(super) fn is_cut(counters: &Counters, seen: &LinkCounters) -> bool {
    (counters.dropped > 0 && seen.lost > 0)
        || (counters.held > 0 && seen.kept > 0)
        || (counters.delayed > 0 && seen.is_late())
}

impl Described for Partition {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Links;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn {
        draw(rng, nodes, dealt)
    }
}

/// All nodes: the victims as drawn, then the others.
fn seating(victims: &[NodeId], nodes: u32) -> Vec<NodeId> {
    let others = (1..=nodes).filter(|node| !victims.contains(node));
    victims.iter().copied().chain(others).collect()
}

/// Each seat hears the window of a majority of seats around it.
fn ring(seats: &[NodeId]) -> BTreeSet<Link> {
    let n = seats.len();
    let majority = n / 2 + 1;
    let mut cut = BTreeSet::new();
    for seat in 0..n {
        // Offsets majority/2 seats back to (majority - 1)/2 seats ahead are heard, the rest is not.
        for offset in (majority - 1) / 2 + 1..n - majority / 2 {
            cut.insert(Link { from: seats[(seat + offset) % n], to: seats[seat] });
        }
    }
    cut
}

/// The first seat joins two halves of the rest.
fn bridge(seats: &[NodeId]) -> BTreeSet<Link> {
    let Some((_, rest)) = seats.split_first() else { return BTreeSet::new() };
    let (left, right) = rest.split_at(rest.len() / 2);
    left.iter()
        .flat_map(|&a| right.iter().flat_map(move |&b| [Link { from: a, to: b }, Link { from: b, to: a }]))
        .collect()
}

fn draw(rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn {
    if dealt {
        // Longer than an election timeout (400 ms) and its election: the majority goes on under another leader.
        let fault = Fault::Partition(Partition { shape: Shape::Split, slow_ms: None });
        return Drawn { fault, target: Target::Leader, duration_ms: (1_500, 2_000) };
    }
    // A ring of three whose members hear one neighbour each has no working majority at all: a bridge instead.
    let (shape, target) = match rng.random_range(0..9) {
        0 => (Shape::Split, Target::LeadersMinority),
        1 => (Shape::Split, Target::One),
        2 => (Shape::Split, Target::Leader),
        3 => (Shape::OneWayIn, if rng.random_range(0..2) == 0 { Target::Leader } else { Target::One }),
        4 => (Shape::OneWayOut, if rng.random_range(0..2) == 0 { Target::Leader } else { Target::One }),
        5 => (Shape::OneWayIn, Target::OthersMinority),
        6 => (Shape::Split, Target::OthersMinority),
        7 if nodes >= 4 => (Shape::MajoritiesRing, Target::All),
        _ => (Shape::Bridge, Target::All),
    };
    let slow_ms = draw_slow(rng, dealt);
    Drawn { fault: Fault::Partition(Partition { shape, slow_ms }), target, duration_ms: (700, 3_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The links that a shape cuts, as `from>to` in order.
    fn check(shape: Shape, victims: &[NodeId], nodes: u32, expected: &str) {
        let rules = Partition { shape, slow_ms: None }.rules(victims, nodes);
        assert!(rules.iter().all(|(_, rule)| *rule == Rule::Drop));
        let slow = Partition { shape, slow_ms: Some(300) }.rules(victims, nodes);
        let links = |rules: &[(Link, Rule)]| rules.iter().map(|(link, _)| *link).collect::<Vec<_>>();
        assert_eq!(links(&slow), links(&rules));
        assert!(slow.iter().all(|(_, rule)| *rule == Rule::Delay { delay_ms: 300, jitter_ms: 0 }));
        let cut =
            rules.iter().map(|(link, _)| format!("{}>{}", link.from, link.to)).collect::<Vec<_>>().join(" ");
        assert_eq!(cut, expected, "{shape:?} of {victims:?}");
    }

    #[test]
    fn halves_and_isolation_cut_both_ways() {
        check(Shape::Split, &[2, 1], 5, "1>3 1>4 1>5 2>3 2>4 2>5 3>1 3>2 4>1 4>2 5>1 5>2");
        check(Shape::Split, &[3], 3, "1>3 2>3 3>1 3>2");
    }

    #[test]
    fn one_way_cuts_one_way() {
        check(Shape::OneWayIn, &[3], 3, "1>3 2>3");
        check(Shape::OneWayOut, &[3], 3, "3>1 3>2");
    }

    #[test]
    fn in_a_ring_each_hears_a_majority_of_its_own() {
        // Seats 1 2 3 4 5: each hears itself and both neighbours.
        check(Shape::MajoritiesRing, &[1, 2, 3, 4, 5], 5, "1>3 1>4 2>4 2>5 3>1 3>5 4>1 4>2 5>2 5>3");
        // Seats 1 3 5 2 4: other neighbours.
        check(Shape::MajoritiesRing, &[1, 3, 5, 2, 4], 5, "1>2 1>5 2>1 2>3 3>2 3>4 4>3 4>5 5>1 5>4");
        for nodes in 4..=9 {
            let seats = (1..=nodes).collect::<Vec<_>>();
            let cut = ring(&seats);
            let heard = seats
                .iter()
                .map(|&to| seats.iter().copied().filter(|&from| !cut.contains(&Link { from, to })).collect())
                .collect::<BTreeSet<BTreeSet<NodeId>>>();
            assert_eq!(heard.len(), seats.len(), "no two nodes hear the same majority");
            assert!(heard.iter().all(|set| set.len() == seats.len() / 2 + 1), "{nodes} nodes: {heard:?}");
        }
    }

    #[test]
    fn a_bridge_hears_both_halves() {
        check(Shape::Bridge, &[3, 1, 2], 5, "1>4 1>5 2>4 2>5 4>1 4>2 5>1 5>2");
        check(Shape::Bridge, &[2], 3, "1>3 3>1");
    }
}
