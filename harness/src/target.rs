//! Whom a fault hits: described in the schedule, resolved to nodes at injection.
//! The nemesis asks who is up and who leads, and records the resolution.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// A description of nodes that holds for any moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Any one node.
    One,
    /// Any largest set that leaves a majority of the cluster.
    Minority,
    /// A largest minority with the leader in it; any minority if none is known.
    LeadersMinority,
    /// A largest minority without the leader; any minority if none is known.
    OthersMinority,
    /// Any smallest majority of the cluster.
    Majority,
    /// The leader; any one node if none is known.
    Leader,
    /// Everyone but the leader; everyone if none is known.
    Followers,
    /// Every node, in any order.
    All,
    /// These nodes.
    Named(Vec<NodeId>),
}

impl Target {
    /// The name in histories.
    pub fn name(&self) -> &'static str {
        match self {
            Target::One => "one",
            Target::Minority => "minority",
            Target::LeadersMinority => "leaders_minority",
            Target::OthersMinority => "others_minority",
            Target::Majority => "majority",
            Target::Leader => "leader",
            Target::Followers => "followers",
            Target::All => "all",
            Target::Named(_) => "named",
        }
    }

    /// Whether resolving it depends on who leads.
    pub fn needs_leader(&self) -> bool {
        matches!(self, Target::Leader | Target::Followers | Target::LeadersMinority | Target::OthersMinority)
    }

    /// The nodes it means now, in the order drawn. `candidates` are those that the fault may hit, of a cluster of `nodes`; what is
    /// no candidate is left out, so that fewer may come back than the name says, even none.
    pub fn resolve(
        &self,
        candidates: &[NodeId],
        nodes: u32,
        leader: Option<NodeId>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<NodeId> {
        let leader = leader.filter(|node| candidates.contains(node));
        let mut drawn = candidates.to_vec();
        drawn.shuffle(rng);
        let majority = nodes as usize / 2 + 1;
        match (self, leader) {
            (Target::Leader, Some(leader)) => drawn = vec![leader],
            (Target::Leader, None) | (Target::One, _) => drawn.truncate(1),
            (Target::LeadersMinority, Some(leader)) => {
                drawn.retain(|&node| node != leader);
                drawn.insert(0, leader);
                drawn.truncate((nodes as usize - majority).max(1));
            }
            (Target::OthersMinority, Some(leader)) => {
                drawn.retain(|&node| node != leader);
                drawn.truncate(nodes as usize - majority);
            }
            (Target::Minority | Target::LeadersMinority | Target::OthersMinority, _) => {
                drawn.truncate(nodes as usize - majority)
            }
            (Target::Majority, _) => drawn.truncate(majority),
            (Target::Followers, Some(leader)) => drawn.retain(|&node| node != leader),
            (Target::Followers, None) | (Target::All, _) => {}
            (Target::Named(named), _) => {
                drawn = named.iter().copied().filter(|n| candidates.contains(n)).collect()
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn check(
        target: Target,
        candidates: &[NodeId],
        leader: Option<NodeId>,
        expected: &[usize],
    ) -> Vec<Vec<NodeId>> {
        (0..50)
            .map(|id| {
                let resolve = || target.resolve(candidates, 5, leader, &mut stream(7, Purpose::Target, id));
                let drawn = resolve();
                assert_eq!(drawn, resolve(), "same stream, same nodes");
                assert!(expected.contains(&drawn.len()), "{target:?} -> {drawn:?}");
                assert!(drawn.iter().all(|node| candidates.contains(node)));
                let mut unique = drawn.clone();
                unique.sort_unstable();
                unique.dedup();
                assert_eq!(unique.len(), drawn.len());
                drawn
            })
            .collect()
    }

    #[test]
    fn sizes_are_what_the_names_say() {
        let all = [1, 2, 3, 4, 5];
        let ones = check(Target::One, &all, Some(3), &[1]);
        assert!(all.iter().all(|&node| ones.contains(&vec![node])), "every node has its turn");
        check(Target::Minority, &all, None, &[2]);
        check(Target::Majority, &all, None, &[3]);
        check(Target::All, &all, None, &[5]);
        assert_eq!(check(Target::Leader, &all, Some(4), &[1])[0], [4]);
        assert!(check(Target::LeadersMinority, &all, Some(4), &[2]).iter().all(|drawn| drawn[0] == 4));
        assert!(check(Target::OthersMinority, &all, Some(4), &[2]).iter().all(|drawn| !drawn.contains(&4)));
        check(Target::LeadersMinority, &all, None, &[2]);
        assert!(check(Target::Followers, &all, Some(4), &[4]).iter().all(|drawn| !drawn.contains(&4)));
        assert_eq!(check(Target::Named(vec![5, 2]), &all, None, &[2])[0], [5, 2]);
    }

    #[test]
    fn who_is_no_candidate_is_not_hit() {
        check(Target::Leader, &[1, 2], Some(4), &[1]);
        check(Target::Majority, &[1, 2], None, &[2]);
        check(Target::Named(vec![5, 2]), &[1, 2], None, &[1]);
        check(Target::One, &[], None, &[0]);
    }
}
