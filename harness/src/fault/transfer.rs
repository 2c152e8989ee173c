//! Leadership transfer: an order to the leader to hand over, to a node that was drawn or to the one that is furthest.
//! Taking the order is the system's business; that it was the order that was followed is told by the nodes.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Behaviour, Described, Drawn, Fault, Needs, SteppedFault};
use crate::cluster::leader_of;
use crate::errand::{Conclusion, Errand, names};
use crate::run_dir::node_name;
use crate::target::Target;

/// How long one order may take, refusals included.
const ORDER_WITHIN: Duration = Duration::from_millis(500);
/// How long the others may take to follow; then the order is given again.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);
/// How long it is tried: other faults may have left nobody to order, or nobody to follow.
const TRIED_WITHIN: Duration = Duration::from_secs(5);

/// To whom leadership goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The victim.
    Drawn,
    /// Whose log is furthest, as the leader sees it.
    Furthest,
}

/// Moves leadership once; there is nothing to heal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// To whom.
    pub to: To,
}

impl Behaviour for Transfer {
    fn steps(&self) -> Option<&dyn SteppedFault> {
        Some(self)
    }
}

impl Described for Transfer {
    const SUMMARY: &'static str = "asks the leader to hand over to a node that is drawn, or to the furthest; evidence: by their own words a client asked the leader and the leader asked that one, whom others follow in the next term";
    const NEEDS: Needs = Needs::Orders;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, _dealt: bool) -> Drawn {
        let to = if rng.random_range(0..3) == 0 { To::Furthest } else { To::Drawn };
        Drawn { fault: Fault::Transfer(Transfer { to }), target: Target::Followers, duration_ms: (300, 1_000) }
    }
}

impl SteppedFault for Transfer {
    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion {
        let mut conclusion = Conclusion::default();
        let mut orders = 0_u64;
        let moved = errand.until(
            TRIED_WITHIN,
            || !errand.is_stopped(),
            || {
                let from = leader_of(&errand.cluster.statuses())?;
                let to = match self.to {
                    To::Furthest => None,
                    // One that has come to lead by itself meanwhile cannot be handed anything.
                    To::Drawn => Some(*errand.victims.iter().find(|node| **node != from.node)?),
                };
                let taken = errand.transfer_leader(to, ORDER_WITHIN);
                orders += 1;
                let to = taken.ok().filter(|to| *to != from.node)?;
                errand.until(
                    FOLLOWED_WITHIN,
                    || true,
                    || {
                        let statuses = errand.cluster.statuses();
                        let leader = leader_of(&statuses).filter(|l| l.node == to && l.term == from.term + 1)?;
                        let (system, dir) = (errand.cluster.system(), errand.cluster.run_dir());
                        if !system.was_handed_over(dir, from, to) {
                            return None;
                        }
                        let id = &statuses.get(&to)?.id;
                        let follows = |node: &u32| {
                            let status = &statuses[node];
                            *node != to && status.term == leader.term && status.leader.as_ref() == Some(id)
                        };
                        let told_by: Vec<u32> =
                            statuses.keys().copied().filter(|node| follows(node)).collect();
                        (!told_by.is_empty()).then_some((from, leader, told_by))
                    },
                )
            },
        );
        conclusion.evidence.insert("orders".to_owned(), orders.into());
        if let Some((from, leader, told_by)) = moved {
            conclusion.bit = true;
            let moved = json!({"from": node_name(from.node), "from_term": from.term, "to": node_name(leader.node),
                "to_term": leader.term, "told_by": names(told_by)});
            conclusion.evidence.insert("moved".to_owned(), moved);
        }
        conclusion
    }
}
