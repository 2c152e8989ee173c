//! What of a core's state decides what it does from now on, as a digest: a model checker that has met a state under one
//! fingerprint need not look at it again. What does not matter is not in it: the random stream, configuration, numbers of
//! records that are durable, and how long ago something happened that is overdue by now.

use std::hash::{Hash, Hasher};

use super::Raft;
use super::admission::Admission;
use super::types::{Lsn, NodeId};

/// The nodes of a cluster under other names: node `names[i]` is called `i + 1`. Nodes that differ in their ids alone are
/// interchangeable, and so are the states of two clusters that differ in who plays which part.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(pub &'a [NodeId]);

impl Names<'_> {
    /// What `id` is called: 0 if it has no name.
    pub fn of(self, id: NodeId) -> NodeId {
        self.0.iter().position(|known| *known == id).map_or(0, |at| at as NodeId + 1)
    }

    /// These nodes under their names, in the order of names, as bits.
    pub fn set<'i>(self, ids: impl IntoIterator<Item = &'i NodeId>) -> u64 {
        ids.into_iter().fold(0, |bits, id| bits | 1 << self.of(*id))
    }
}

impl Raft {
    /// Feeds `hasher` with the state at `now` (ns), as it looks when the nodes are called `names`. Two cores with the same
    /// configuration and the same fingerprint do the same, if both get the same inputs and if for both time moves from one
    /// of their deadlines to the next.
    pub fn fingerprint(&self, now: u64, names: Names<'_>, hasher: &mut impl Hasher) {
        // Every field by name: one that is added later has to be thought about here.
        let Raft {
            config,
            rng: _,
            hard_state,
            hard_state_lsn,
            role,
            leader,
            leader_heard_at,
            log,
            commit_index,
            last_lsn,
            durable_lsn,
            election_deadline: _,
            heartbeat_deadline,
            votes,
            progress,
            memberships,
            snapshot,
            admission,
            term_start_index,
            reads,
            lease,
            promised_until,
            transfer,
            restriction,
        } = self;
        let age = |at: u64, enough: u64| now.saturating_sub(at).min(enough);
        let pending = |lsn: Lsn| lsn.saturating_sub(*durable_lsn);
        let name = |id: Option<NodeId>| id.map(|id| names.of(id));
        (hard_state.term, name(hard_state.voted_for), pending(*hard_state_lsn)).hash(hasher);
        (role, name(*leader), commit_index, pending(*last_lsn), term_start_index, snapshot).hash(hasher);
        leader_heard_at.map(|at| age(at, config.election_timeout_min)).hash(hasher);
        if *role == super::Role::Leader {
            heartbeat_deadline.saturating_sub(now).hash(hasher);
        }
        (log.base(), pending(log.lsn_at(log.base().index)), log.durable_index(), log.last().index)
            .hash(hasher);
        for index in log.first_index()..=log.last().index {
            (log.entry(index), pending(log.lsn_at(index))).hash(hasher);
        }
        names.set(votes).hash(hasher);
        for id in names.0 {
            let progress = progress.get(id);
            progress
                .map(|p| p.aged(now, config.election_timeout_max, config.heartbeat_interval))
                .hash(hasher);
        }
        for (index, membership) in memberships {
            let sets = [&membership.voters, &membership.outgoing, &membership.returning];
            (index, sets.map(|ids| names.set(ids))).hash(hasher);
            for id in names.0 {
                membership.member(*id).map(|member| member.directory).hash(hasher);
            }
        }
        match admission {
            Admission::Granted => 0.hash(hasher),
            Admission::Pending(answers) => names.0.iter().for_each(|id| answers.get(id).hash(hasher)),
        }
        // A restriction is written as it is, ids and times: one that a search could rename or repeat is not modelled yet.
        (reads, restriction).hash(hasher);
        lease.fingerprint(now, hasher);
        promised_until.saturating_sub(now).hash(hasher);
        transfer.map(|transfer| transfer.aged(now, names)).hash(hasher);
    }
}
