//! The end of the faults: a quorum is healed and has to serve, then everybody is, and has to hold the same.

use node::raft::types::{HardState, LogId};

use super::*;

impl World {
    /// The faults end, but only for some who decide, whatever membership is in force where: the rest stays as broken as it
    /// is. They must serve.
    pub(crate) fn heal_a_quorum(&mut self) {
        self.queue.retain(|event| !matches!(event, Event::Strike));
        self.settle_forgotten();
        let memberships: Vec<Membership> = self.machines.keys().flat_map(|id| self.in_force(*id)).collect();
        let decides =
            |ids: &[NodeId]| memberships.iter().all(|membership| membership.decides(|id| ids.contains(&id)));
        let unfit: BTreeSet<NodeId> = [self.forgotten, self.damaged].into_iter().flatten().collect();
        let unfit: BTreeSet<NodeId> =
            self.machines.keys().copied().filter(|id| unfit.contains(id) || !self.is_admitted(*id)).collect();
        let members = |id: &NodeId| memberships.iter().any(|membership| membership.is_voter(*id));
        let mut quorum: Vec<NodeId> = self.machines.keys().copied().filter(members).collect();
        let mut candidates: Vec<NodeId> = quorum.clone();
        // The unfit first, then by chance.
        candidates.sort_by_key(|id| !unfit.contains(id));
        let fit = candidates.partition_point(|id| unfit.contains(id));
        for at in (fit + 1..candidates.len()).rev() {
            candidates.swap(at, self.rng.random_range(fit..=at));
        }
        for id in candidates {
            let without: Vec<NodeId> = quorum.iter().copied().filter(|other| *other != id).collect();
            if decides(&without) {
                quorum = without;
            }
        }
        let whole = unfit.iter().all(|id| !quorum.contains(id));
        let founded = memberships.iter().all(|membership| !membership.voters.is_empty());
        if !whole || !founded || memberships.is_empty() {
            return;
        }
        self.log(|| format!("only {quorum:?} heal"));
        self.tally.quorums += u64::from(quorum.len() < self.machines.len());
        for id in &quorum {
            for other in &quorum {
                self.network.heal(node_address(*id), node_address(*other), Quality::calm());
            }
            for client in 0..self.clients.len() {
                self.network.heal(node_address(*id), client_address(client), Quality::calm());
            }
            self.mend(*id);
        }
        self.clients.iter_mut().for_each(Client::take_heart);
        let before: Vec<u64> = self.clients.iter().map(|client| client.done).collect();
        let progress = |world: &World| {
            let done = world.clients.iter().map(|client| client.done);
            done.zip(&before).all(|(done, before)| done >= before + PROGRESS_OPERATIONS)
        };
        assert!(
            self.run_until(PROGRESS_WITHIN_MS, progress),
            "progress: {quorum:?} are whole and connected, and did not serve within {PROGRESS_WITHIN_MS} ms: {}",
            self.state()
        );
    }

    /// The memberships that may be in force at `node`, now or once it has started again.
    pub(crate) fn in_force(&self, node: NodeId) -> Vec<Membership> {
        let ledger = self.safety.last_ledger(node);
        let both = ledger.map(|ledger| [&ledger.durable, &ledger.written]);
        both.into_iter().flatten().map(|holding| holding.membership().clone()).collect()
    }

    /// Whether a node will know after any restart that it may vote.
    pub(crate) fn is_admitted(&self, node: NodeId) -> bool {
        let durable = self.safety.last_ledger(node).map(|ledger| ledger.durable.membership().clone());
        durable.is_some_and(|membership| membership.member(node).is_some_and(|member| member.directory != 0))
    }

    /// Whether nothing has happened in a node's directory that is there after any restart.
    pub(crate) fn is_blank(&self, node: NodeId) -> bool {
        let durable = self.safety.last_ledger(node).map(|ledger| &ledger.durable);
        durable.is_none_or(|held| held.last() == LogId::default() && held.hard_state == HardState::default())
    }

    /// A machine is as good as new, and its process runs.
    fn mend(&mut self, node: NodeId) {
        let now = self.queue.now();
        if let Some(machine) = self.machines.get_mut(&node) {
            machine.fill(false);
            machine.slowness = 1;
            machine.clock.set_rate(now, 1_000);
            if let Some(process) = &mut machine.process {
                process.paused = false;
            }
        }
        self.start(node);
        self.plan_turn(node);
        self.plan_work(node);
    }

    /// All faults end, and clients with them: everybody must come to hold the same, and what clients saw must be an order
    /// that one store could have shown.
    pub(crate) fn heal_and_settle(&mut self) {
        self.queue.retain(|event| !matches!(event, Event::Strike));
        self.network.restore();
        self.network.quality = Quality::calm();
        for node in self.rotten.clone() {
            self.end(node, End::Kill);
        }
        for node in self.machines.keys().copied().collect::<Vec<_>>() {
            let belongs = node <= self.weather.founders || self.safety.last_ledger(node).is_some();
            if belongs {
                self.mend(node);
            }
        }
        self.clients.iter_mut().for_each(Client::take_heart);
        self.finish = true;
        assert!(
            self.run_until(AGREEMENT_WITHIN_MS, World::agrees),
            "agreement: nothing is broken any more, and {AGREEMENT_WITHIN_MS} ms did not suffice: {}",
            self.state()
        );
        self.settle_forgotten();
        assert_eq!(self.damaged, None, "a node whose disk was damaged never got back what it lost");
        assert_eq!(self.forgotten, None, "a node whose disk was wiped is no voter again");
        self.tally.applied += self.safety.committed();
        let nodes: Vec<NodeId> = self.machines.keys().copied().collect();
        self.tally.lease_reads += nodes.into_iter().map(|node| self.lease_reads(node)).sum::<u64>();
        self.judge();
    }

    /// Whether all members hold the same, nobody waits, and no change is half done.
    fn agrees(&self) -> bool {
        let Some(leader) = self.leader().and_then(|id| self.replica(id)) else { return false };
        let membership = leader.raft().membership();
        let settled = !membership.is_joint() && membership.returning.is_empty();
        let told = |replica: &Replica| {
            let raft = replica.raft();
            (
                raft.log().last(),
                raft.commit_index(),
                replica.store().last_applied(),
                replica.store().state_hash(),
            )
        };
        settled
            && self.damaged.is_none_or(|id| !membership.members.contains_key(&id))
            && leader.raft().commit_index() == leader.raft().log().last().index
            && self.clients.iter().all(Client::idle)
            && membership.members.iter().all(|(id, member)| {
                let process = self.machines.get(id).and_then(|machine| machine.process.as_ref());
                process.is_some_and(|process| {
                    member.directory == process.id.directory && told(&process.replica) == told(leader)
                })
            })
    }

    fn judge(&mut self) {
        let now = self.queue.now();
        let Some(leader) = self.leader() else { return };
        for key in self.history.keys() {
            let Some(replica) = self.replica(leader) else { return };
            let value = value_of(&key, replica.store().get(key.as_bytes()).map(|value| &value[..]));
            let id = self.history.invoke(now, u64::MAX, &key, Action::Read(Value::Nil));
            self.history.complete(now + 1, &id, Action::Read(value));
        }
        if let Err(reason) = self.history.judge() {
            panic!("{reason}");
        }
    }

    /// Where everybody is, for people.
    fn state(&self) -> String {
        let mut lines = vec![format!(
            "at {} ms; clients idle {:?}",
            self.queue.now() / MS,
            self.clients.iter().map(Client::idle).collect::<Vec<_>>()
        )];
        for (id, machine) in &self.machines {
            lines.push(match &machine.process {
                None => format!("n{id} does not run"),
                Some(process) => {
                    let raft = process.replica.raft();
                    format!(
                        "n{id} {} term {} leader {:?} log {}..{} committed {} applied {} may vote {} directory {:016x} by {:?}",
                        raft.role().name(),
                        raft.term(),
                        raft.leader(),
                        raft.log().first_index(),
                        raft.log().last(),
                        raft.commit_index(),
                        process.replica.store().last_applied(),
                        raft.may_vote(),
                        process.id.directory,
                        raft.membership(),
                    )
                }
            });
        }
        lines.join("\n  ")
    }
}
