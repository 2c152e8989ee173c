//! Changes of who belongs to the cluster: a spare node joins, is promoted, a voter or the leader is taken out and put back.
//! The orders are the system's own; that they were followed is told by nodes that they are not about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Behaviour, Described, Drawn, Fault, Needs, SteppedFault};
use crate::NodeId;
use crate::cluster::{ClusterError, membership_of};
use crate::errand::{Conclusion, Errand, names};
use crate::run_dir::node_name;
use crate::system::{Change as Order, Membership as Told, Status};
use crate::target::Target;

/// Fewer voters lose their majority to a single fault.
const VOTERS_MIN: usize = 3;
/// How long one order may take, refusals included.
const ORDER_WITHIN: Duration = Duration::from_millis(500);
/// How long a step may take: other faults may leave nobody to order for a while.
const STEP_WITHIN: Duration = Duration::from_secs(8);
/// The same of a step back, which is not given up because the load is over.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// What is done to the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A spare node becomes a voter.
    Grow,
    /// The victim is taken out.
    Shrink,
    /// A spare node becomes a voter, then the victim is taken out.
    Replace,
}

/// Changes the voters; heals by changing them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// What is done.
    pub change: Change,
}

impl Behaviour for Membership {
    fn steps(&self) -> Option<&dyn SteppedFault> {
        Some(self)
    }
}

impl Described for Membership {
    const SUMMARY: &'static str = "a spare node joins and gets a vote, a voter or the leader is taken out, later all back; evidence: the voters that other nodes report";
    const NEEDS: Needs = Needs::Orders;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, nodes: u32, dealt: bool) -> Drawn {
        let change = match rng.random_range(0..4) {
            _ if dealt => Change::Replace,
            0 => Change::Grow,
            1 if nodes as usize > VOTERS_MIN => Change::Shrink,
            _ => Change::Replace,
        };
        let target = if dealt || rng.random_bool(0.5) { Target::Leader } else { Target::One };
        Drawn { fault: Fault::Membership(Membership { change }), target, duration_ms: (800, 2_500) }
    }
}

/// What a step is to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Votes(NodeId),
    Gone(NodeId),
}

impl Goal {
    fn node(self) -> NodeId {
        match self {
            Goal::Votes(node) | Goal::Gone(node) => node,
        }
    }

    fn is_reached(self, told: &Told) -> bool {
        let Told { voters, learners, joint, .. } = told;
        !joint
            && match self {
                Goal::Votes(node) => voters.contains(&node),
                Goal::Gone(node) => !voters.contains(&node) && !learners.contains(&node),
            }
    }

    /// What is to be ordered next, where that is how things are.
    fn order(self, told: &Told) -> Option<Order> {
        let Told { voters, learners, joint, .. } = told;
        match self {
            _ if *joint => None,
            Goal::Votes(node) if voters.contains(&node) => None,
            Goal::Votes(node) if learners.contains(&node) => Some(Order::Promote(node)),
            Goal::Votes(node) => Some(Order::Add(node)),
            Goal::Gone(node) if voters.contains(&node) && voters.len() <= VOTERS_MIN => None,
            Goal::Gone(node) => Some(Order::Remove(node)),
        }
    }

    fn words(self) -> String {
        match self {
            Goal::Votes(node) => format!("{} votes", node_name(node)),
            Goal::Gone(node) => format!("{} is gone", node_name(node)),
        }
    }
}

impl SteppedFault for Membership {
    fn is_exclusive(&self) -> bool {
        true
    }

    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion {
        let mut conclusion = Conclusion::default();
        let Some(&victim) = errand.victims.first() else { return conclusion };
        // The nemesis lets one change happen at a time, so that one spare is enough.
        let spare = errand.cluster.places();
        let before = errand.until(
            STEP_WITHIN,
            || !errand.is_stopped(),
            || membership_of(&errand.cluster.statuses()).cloned(),
        );
        let Some(before) = before else { return conclusion };
        let (there, back) = match self.change {
            Change::Grow => (vec![Goal::Votes(spare)], vec![Goal::Gone(spare)]),
            Change::Shrink => (vec![Goal::Gone(victim)], vec![Goal::Votes(victim)]),
            Change::Replace => {
                (vec![Goal::Votes(spare), Goal::Gone(victim)], vec![Goal::Votes(victim), Goal::Gone(spare)])
            }
        };
        let mut steps: Vec<Value> = Vec::new();
        if self.change != Change::Shrink
            && let Err(error) = start(errand, spare)
        {
            conclusion.evidence.insert("error".to_owned(), error.to_string().into());
            return conclusion;
        }
        let mut reached = Vec::new();
        let mut last_index = before.index;
        for goal in there {
            let step = walk(errand, goal, STEP_WITHIN, || !errand.is_stopped());
            reached.extend(step.as_ref().map(|(told, _)| told.voters != before.voters));
            last_index = step.as_ref().map_or(last_index, |(told, _)| told.index);
            let failed = step.is_none();
            steps.push(described(goal, step));
            if failed {
                break;
            }
        }
        errand.until(Duration::MAX, || !errand.is_due(), || None::<()>);
        let mut left = true;
        for goal in back {
            let step = walk(errand, goal, BACK_WITHIN, || true);
            last_index = step.as_ref().map_or(last_index, |(told, _)| told.index);
            left &= step.is_some();
            steps.push(described(goal, step));
        }
        if left && self.change != Change::Shrink {
            // Who belongs to nothing is stopped. One that another fault has stopped already stays so, or is idle.
            errand.until(
                Duration::from_secs(2),
                || true,
                || errand.cluster.kill(spare).is_ok().then_some(()),
            );
        }
        let range = (before.index + 1, last_index);
        let joint = |node| errand.cluster.system().joint_entries(errand.cluster.run_dir(), node, range);
        let joint_entries = errand.cluster.up().into_iter().map(joint).max().unwrap_or_default();
        conclusion.bit = reached.contains(&true);
        conclusion.evidence.insert("voters_before".to_owned(), names(before.voters));
        conclusion.evidence.insert("steps".to_owned(), steps.into());
        conclusion.evidence.insert("changes".to_owned(), reached.len().into());
        conclusion.evidence.insert("joint_entries".to_owned(), joint_entries.into());
        conclusion
    }
}

/// Starts the spare, unless a fault of before has left it running.
fn start(errand: &Errand<'_>, spare: NodeId) -> Result<(), ClusterError> {
    match errand.cluster.start(spare) {
        Ok(_) | Err(ClusterError::State { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

type Step = (Told, Vec<NodeId>);

/// Orders what leads to a goal until a majority of the voters, the node in question not counted, tell that it is committed.
fn walk(
    errand: &Errand<'_>,
    goal: Goal,
    within: Duration,
    go_on: impl Fn() -> bool,
) -> Option<(Told, (Vec<NodeId>, u64))> {
    let started = Instant::now();
    let (told, told_by) = errand.until(within, go_on, || {
        let statuses = errand.cluster.statuses();
        if let Some(step) = told(&statuses, goal) {
            return Some(step);
        }
        if let Some(order) = membership_of(&statuses).and_then(|told| goal.order(told)) {
            // Refused, or lost: it is given again, if it still has to be.
            let _ = errand.reconfigure(order, ORDER_WITHIN);
        }
        None
    })?;
    Some((told, (told_by, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))))
}

/// The newest membership in which the goal is reached, and the other nodes that tell of it as committed: a majority.
fn told(statuses: &BTreeMap<NodeId, Status>, goal: Goal) -> Option<Step> {
    let newest = membership_of(statuses).filter(|newest| goal.is_reached(newest))?;
    let tells = |(node, status): (&NodeId, &Status)| {
        let same = status.membership.as_ref() == Some(newest) && status.commit_index >= newest.index;
        (same && *node != goal.node()).then_some(*node)
    };
    let told_by: Vec<NodeId> = statuses.iter().filter_map(tells).collect();
    (told_by.len() > newest.voters.len() / 2).then(|| (newest.clone(), told_by))
}

fn described(goal: Goal, step: Option<(Told, (Vec<NodeId>, u64))>) -> Value {
    match step {
        None => json!({"goal": goal.words(), "reached": false}),
        Some((told, (told_by, waited_ms))) => json!({
            "goal": goal.words(),
            "reached": true,
            "waited_ms": waited_ms,
            "membership_index": told.index,
            "voters": names(told.voters),
            "learners": names(told.learners),
            "told_by": names(told_by),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(voters: &[NodeId], learners: &[NodeId], joint: bool) -> Told {
        let set = |nodes: &[NodeId]| nodes.iter().copied().collect();
        Told { index: 7, voters: set(voters), learners: set(learners), joint }
    }

    #[test]
    fn orders_lead_from_a_stranger_to_a_voter_and_never_below_three_voters() {
        let order = |goal: Goal, voters: &[NodeId], learners: &[NodeId]| {
            goal.order(&membership(voters, learners, false))
        };
        let joins = Goal::Votes(4);
        assert_eq!(order(joins, &[1, 2, 3], &[]), Some(Order::Add(4)));
        assert_eq!(order(joins, &[1, 2, 3], &[4]), Some(Order::Promote(4)));
        assert_eq!(order(joins, &[1, 2, 3, 4], &[]), None);
        assert_eq!(order(Goal::Gone(1), &[1, 2, 3, 4], &[]), Some(Order::Remove(1)));
        assert_eq!(order(Goal::Gone(1), &[1, 2, 3], &[]), None);
        assert_eq!(order(Goal::Gone(4), &[1, 2, 3], &[4]), Some(Order::Remove(4)));
        assert_eq!(joins.order(&membership(&[1, 2, 3], &[4], true)), None, "one change at a time");
    }

    #[test]
    fn a_step_is_seen_when_a_majority_of_others_tell_it_as_committed() {
        let status = |told: &Told, commit_index| Status {
            membership: Some(told.clone()),
            commit_index,
            ..Status::default()
        };
        let new = membership(&[1, 2, 3, 4], &[], false);
        let old = membership(&[1, 2, 3], &[4], false);
        let mut statuses = BTreeMap::from([(1, status(&new, 9)), (2, status(&new, 7)), (3, status(&old, 6))]);
        let goal = Goal::Votes(4);
        assert_eq!(told(&statuses, goal), None, "two of four");
        statuses.insert(4, status(&new, 9));
        assert_eq!(told(&statuses, goal), None, "the node in question does not count");
        statuses.insert(3, status(&new, 6));
        assert_eq!(told(&statuses, goal), None, "not committed there");
        statuses.insert(3, status(&new, 7));
        assert_eq!(told(&statuses, goal), Some((new.clone(), vec![1, 2, 3])));
        assert_eq!(told(&statuses, Goal::Gone(4)), None);
        let joint = membership(&[1, 2, 3, 4], &[], true);
        let all: BTreeMap<_, _> = (1..=4).map(|node| (node, status(&joint, 9))).collect();
        assert_eq!(told(&all, goal), None, "half done");
    }
}
