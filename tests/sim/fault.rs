//! The faults: what each does to the world, within what a cluster must survive. Any number of processes may end and start
//! again; but of what disks forget, by a wipe or by damage, there is one at a time, until its node is a voter again.

use std::path::Path;

use node::raft::membership::Membership;
use node::raft::reconfigure::Change;
use node::raft::types::NodeId;
use node::storage::memory_disk::Unsynced;
use node::storage::recovery;
use node::storage::snapshot_dir;
use node::storage::superblock::{SLOT_BYTES, SLOTS, SuperblockFile};
use rand::RngExt;

use crate::machine::{DIRECTORY, End};
use crate::network::Quality;
use crate::weather::MS;
use crate::world::{Event, World};

/// A kind of fault, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A process is killed, and started again later.
    Kill,
    /// A machine loses power: what was not synced is lost or torn.
    PowerLoss,
    /// All machines lose power at once.
    Blackout,
    /// A process stands still for a while.
    Pause,
    /// A clock runs faster or slower than it did.
    Skew,
    /// One direction of a link lets nothing pass.
    Cut,
    /// A node hears nobody, or nobody hears it, or both.
    Isolate,
    /// The nodes fall into two groups.
    Split,
    /// One direction of a link becomes worse than the others.
    Worsen,
    /// All links are as they were.
    Heal,
    /// An operator moves the leader.
    Transfer,
    /// A process is asked to stop, and started again later.
    Leave,
    /// An operator adds, promotes or removes a member.
    Membership,
    /// A machine gets an empty disk.
    Wipe,
    /// A bit of a file changes that later records prove to have been durable.
    Flip,
    /// An operation of a disk fails.
    FailDisk,
    /// A disk has no space for a while.
    FillDisk,
    /// A disk takes much longer for everything, for a while.
    SlowDisk,
}

impl Fault {
    pub(crate) const ALL: [Fault; 18] = [
        Fault::Kill,
        Fault::PowerLoss,
        Fault::Blackout,
        Fault::Pause,
        Fault::Skew,
        Fault::Cut,
        Fault::Isolate,
        Fault::Split,
        Fault::Worsen,
        Fault::Heal,
        Fault::Transfer,
        Fault::Leave,
        Fault::Membership,
        Fault::Wipe,
        Fault::Flip,
        Fault::FailDisk,
        Fault::FillDisk,
        Fault::SlowDisk,
    ];

    /// The share of seeds that have it.
    pub(crate) fn chance(self) -> f64 {
        match self {
            Fault::Blackout => 0.3,
            Fault::Heal => 1.0,
            _ => 0.5,
        }
    }
}

impl World {
    /// One of the weather's faults happens, and the next one is planned.
    pub(crate) fn strike(&mut self) {
        let faults = self.weather.faults.len();
        if faults == 0 || self.weather.fault_every == 0 {
            return;
        }
        let fault = self.weather.faults[self.rng.random_range(0..faults)];
        self.inflict(fault);
        let next = self.rng.random_range(0..=2 * self.weather.fault_every);
        self.queue.after(next, Event::Strike);
    }

    /// A fault hits whom the stream chooses.
    pub(crate) fn inflict(&mut self, fault: Fault) {
        let node = self.any_machine();
        self.log(|| format!("{fault:?} n{node}"));
        match fault {
            Fault::Kill => self.crash(node, End::Kill),
            Fault::PowerLoss => self.lose_power(node),
            Fault::Blackout => self
                .machines
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|id| self.lose_power(id)),
            Fault::Pause => self.pause(node),
            Fault::Skew => {
                let rate = self.rng.random_range(800..=1_250);
                let now = self.queue.now();
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.clock.set_rate(now, rate);
                    self.tally.skews += 1;
                    self.plan_turn(node);
                }
            }
            Fault::Cut => {
                let other = self.any_machine();
                self.network.cut(self.address(node), self.address(other));
            }
            Fault::Isolate => {
                let (deaf, mute) = [(true, true), (true, false), (false, true)][self.rng.random_range(0..3)];
                for other in self.addresses() {
                    if deaf {
                        self.network.cut(other, self.address(node));
                    }
                    if mute {
                        self.network.cut(self.address(node), other);
                    }
                }
            }
            Fault::Split => {
                let sides: Vec<_> =
                    self.addresses().into_iter().map(|at| (at, self.rng.random_bool(0.5))).collect();
                for (from, side) in &sides {
                    for (to, _) in sides.iter().filter(|(_, other)| other != side) {
                        self.network.cut(*from, *to);
                    }
                }
            }
            Fault::Worsen => {
                let other = self.any_machine();
                let quality = Quality {
                    loss: self.rng.random_range(0.0..0.9),
                    duplication: self.rng.random_range(0.0..=1.0),
                    delay: (MS, self.rng.random_range(2..300) * MS),
                    ..self.network.quality
                };
                self.network.set(self.address(node), self.address(other), quality);
            }
            Fault::Heal => self.network.restore(),
            Fault::Transfer => {
                let to = if self.rng.random_bool(0.5) { node } else { 0 };
                self.operate(node::protocol::RequestBody::TransferLeader { to });
            }
            Fault::Leave => self.leave(node),
            Fault::Membership => self.change_membership(),
            Fault::Wipe => self.wipe(node),
            Fault::Flip => self.flip(node),
            Fault::FailDisk => {
                if let Some(machine) = self.machines.get_mut(&node)
                    && machine.process.is_some()
                {
                    machine.fail_soon();
                }
            }
            Fault::FillDisk => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.fill(true);
                    let delay = self.rng.random_range(10..1_000) * MS;
                    self.queue.after(delay, Event::Empty { node });
                }
            }
            Fault::SlowDisk => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.slowness = self.rng.random_range(2..60);
                    self.tally.slow += 1;
                    let delay = self.rng.random_range(100..2_000) * MS;
                    self.queue.after(delay, Event::Quicken { node });
                }
            }
        }
    }

    fn any_machine(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.machines.keys().copied().collect();
        // The leader is one of many, and the one that matters most.
        match self.leader() {
            Some(leader) if self.rng.random_bool(0.3) => leader,
            _ => ids[self.rng.random_range(0..ids.len())],
        }
    }

    fn lose_power(&mut self, node: NodeId) {
        let unsynced = match self.rng.random_bool(0.2) {
            true => Unsynced::Lost,
            false => Unsynced::Torn { seed: self.rng.random() },
        };
        self.crash(node, End::PowerLoss(unsynced));
    }

    /// Ends a process, and plans its return.
    pub(crate) fn crash(&mut self, node: NodeId, how: End) {
        if self.machines[&node].process.is_none() {
            return;
        }
        match how {
            End::Kill => self.tally.kills += 1,
            End::PowerLoss(_) => self.tally.power_losses += 1,
        }
        self.end(node, how);
        self.plan_start(node);
    }

    pub(crate) fn plan_start(&mut self, node: NodeId) {
        let longest = if self.rng.random_bool(0.7) { 200 } else { 1_500 };
        let delay = self.rng.random_range(0..longest * MS);
        self.queue.after(delay, Event::Start { node });
    }

    fn pause(&mut self, node: NodeId) {
        let delay = self.rng.random_range(1..1_500) * MS;
        if let Some(machine) = self.machines.get_mut(&node)
            && let Some(process) = &mut machine.process
            && !process.paused
        {
            process.paused = true;
            self.tally.pauses += 1;
            self.queue.after(delay, Event::Resume { node, life: machine.life });
        }
    }

    /// SIGTERM: a leader hands over first.
    fn leave(&mut self, node: NodeId) {
        let now = self.queue.now();
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let life = machine.life;
        if let Some(process) = &mut machine.process
            && !process.paused
        {
            process.replica.leave(machine.clock.shows(now));
            self.plan_turn(node);
            self.queue.after(MS, Event::Leave { node, life, by: now + 1_000 * MS });
        }
    }

    /// An operator who knows the leader's membership takes a step from it.
    fn change_membership(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(membership) = self.replica(leader).map(|replica| replica.raft().membership().clone()) else {
            return;
        };
        let absent: Vec<NodeId> =
            self.machines.keys().copied().filter(|id| !membership.members.contains_key(id)).collect();
        let learners: Vec<NodeId> =
            membership.members.keys().copied().filter(|id| membership.is_learner(*id)).collect();
        let voters: Vec<NodeId> = membership.voters.iter().copied().collect();
        let change = match self.rng.random_range(0..10) {
            0..4 if !absent.is_empty() => {
                let id = absent[self.rng.random_range(0..absent.len())];
                Change::Add(id, self.address(id).to_string())
            }
            0..7 if !learners.is_empty() => {
                Change::Promote(learners[self.rng.random_range(0..learners.len())])
            }
            7 if !learners.is_empty() => Change::Remove(learners[self.rng.random_range(0..learners.len())]),
            _ if voters.len() >= 4 || (voters.len() > 1 && self.rng.random_bool(0.3)) => {
                let leave = if self.rng.random_bool(0.3) {
                    leader
                } else {
                    voters[self.rng.random_range(0..voters.len())]
                };
                // Nobody takes out a whole node for one that is not.
                let unfit = [self.forgotten, self.damaged];
                let left: Vec<_> = voters.iter().filter(|id| **id != leave).collect();
                let whole = left.iter().filter(|id| !unfit.contains(&Some(***id))).count();
                if whole <= left.len() / 2 {
                    return;
                }
                Change::Remove(leave)
            }
            _ => return,
        };
        if let Change::Add(id, _) = change
            && self.machines[&id].process.is_none()
        {
            self.queue.after(0, Event::Start { node: id });
        }
        self.operate(node::protocol::RequestBody::Reconfigure { change });
    }

    /// A machine loses its disk, and its process with it.
    fn wipe(&mut self, node: NodeId) {
        if !self.may_forget(node) {
            return;
        }
        self.tally.wipes += 1;
        self.end(node, End::Kill);
        self.forget(node);
        self.plan_start(node);
    }

    /// Empties the disk of a machine that has no process.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.log(|| format!("n{node} forgets"));
        self.forgotten = Some(node);
        if let Some(machine) = self.machines.get_mut(&node) {
            machine.wipe();
        }
        self.rotten.remove(&node);
    }

    /// Whether a disk may forget now: no other one has, those who are left decide without it, and they may: each has it on its
    /// disk that it is admitted. One that is not yet asks everybody, and one that forgot is not everybody it was. Nor would it
    /// make a majority of empty ones, with those whom nothing has reached yet: that founds a cluster.
    fn may_forget(&mut self, node: NodeId) -> bool {
        self.settle_forgotten();
        let Some(membership) = self.membership() else { return false };
        let in_force: Vec<_> = self.machines.keys().flat_map(|id| self.in_force(*id)).collect();
        self.forgotten.is_none()
            && self.damaged.is_none()
            && membership.voters.len() >= 3
            && membership.voters.iter().all(|id| *id == node || self.is_admitted(*id))
            && !membership.decides(|id| id == node || self.is_blank(id))
            && in_force.iter().all(|it| it.voters.is_empty() || it.decides(|id| id != node))
    }

    /// A bit rots. Which one must be noticed is known: one that records were written after, and those synced.
    ///
    /// Not before every log says which directory each voter has: of a log with hardly a record in it one start may find that
    /// nothing is lost by a hole, and the next one that something may be.
    fn flip(&mut self, node: NodeId) {
        let in_force: Vec<_> = self.machines.keys().flat_map(|id| self.in_force(*id)).collect();
        let known = |it: &Membership, id: &NodeId| {
            it.member(*id).is_some_and(|member| member.directory != 0 && !member.provisional)
        };
        let all_known = |it: &Membership| it.voters.iter().all(|id| known(it, id));
        if !self.may_forget(node) || !in_force.iter().all(all_known) {
            return;
        }
        let disk = self.machines[&node].disk.clone();
        let Ok(files) = recovery::read(&disk, Path::new(DIRECTORY)) else { return };
        let replay = recovery::replay(&files, None);
        let Some(tail) = replay.tail else { return };
        let mut places = vec![(SuperblockFile::path(Path::new(DIRECTORY)), SLOTS * SLOT_BYTES)];
        for file in &files.segments {
            let newest = file.sequence == tail.header.sequence;
            let end = if newest { tail.unproven } else { file.bytes.len() as u64 };
            places.push((file.path.clone(), end));
        }
        let names = node::storage::Disk::list(&disk, Path::new(DIRECTORY)).unwrap_or_default();
        for name in names.into_iter().filter(|name| snapshot_dir::parse_file_name(name).is_some()) {
            let path = Path::new(DIRECTORY).join(name);
            let bytes = node::storage::Disk::read(&disk, &path).map_or(0, |bytes| bytes.len());
            places.push((path, bytes as u64));
        }
        let (path, end) = places[self.rng.random_range(0..places.len())].clone();
        if end == 0 {
            return;
        }
        let (at, bit) = (self.rng.random_range(0..end) as usize, self.rng.random_range(0..8));
        if disk.tamper(&path, |bytes| bytes[at] ^= 1 << bit).is_ok() {
            self.log(|| format!("n{node}: bit {bit} of byte {at} of {} flipped", path.display()));
            self.tally.flips += 1;
            self.damaged = Some(node);
            self.rotten.insert(node);
            // Nobody reads a log before the next start.
            if self.rng.random_bool(0.7) {
                self.end(node, End::Kill);
                self.plan_start(node);
            }
        }
    }

    /// A disk that forgot counts as a whole one again when a committed membership, and no joint one, has its node with the
    /// new directory, and not as one that waits for its vote; or does not have it any more.
    pub(crate) fn settle_forgotten(&mut self) {
        let Some(membership) = self.membership() else { return };
        if !membership.is_joint() {
            self.damaged.take_if(|node| !membership.members.contains_key(node));
        }
        let Some(node) = self.forgotten else { return };
        let directory = self.machines[&node].process.as_ref().map_or(0, |process| process.id.directory);
        let bound = membership.member(node).map(|member| member.directory);
        let back = directory != 0 && bound == Some(directory) && !membership.returning.contains(&node);
        if !membership.is_joint() && (back || bound.is_none()) {
            self.tally.returns += u64::from(back);
            self.forgotten = None;
        }
    }
}
