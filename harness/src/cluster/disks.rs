//! What may be done to the disks of a cluster, and to a process by way of its disk: power losses, damage within what a majority
//! survives, and exits that a disk explains.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;

use super::{Cluster, ClusterError, Seen, SelfExit, Slot, is_stopped, lock, refused, status_text};
use crate::NodeId;
use crate::disk::{Backup, Difference, Disk, Disks, Entries, Moment};
use crate::dud::{self, Reach};
use crate::group::Counts;
use crate::run_dir::node_name;
use crate::system::Place;
use crate::translate::Damage;

/// How long the threads of a process may take to stop or to wait for its disk alone.
const QUIET_WITHIN: Duration = Duration::from_millis(200);

/// How the power fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PowerLoss {
    /// Which names survive.
    pub(crate) entries: Entries,
    /// At which request of any victim.
    pub(crate) moment: Moment,
    /// How long that is waited for; then it fails anyway.
    pub(crate) within: Duration,
    /// How long the processes go on when nobody is answered any more.
    pub(crate) stall: Duration,
}

/// What was seen of a node whose power failed.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Its end.
    pub(crate) seen: Seen,
    /// The states of its threads before that: `T` if all were stopped when the disk began to refuse.
    pub(crate) states: String,
    /// How what is on its disk differs from what it had written.
    pub(crate) difference: Difference,
}

/// Why the exit of a node is no violation.
#[derive(Debug, Default)]
pub(super) struct Excuse {
    /// A fault has the node in its hands, and starts it again.
    held: bool,
    /// It ended as it said it would.
    fallen: Option<String>,
    /// What the kernel had counted before the memory of the node was limited.
    memory: Option<Counts>,
    /// What its disk held before it was damaged: what a node that refuses the rest gets back.
    backup: Option<Backup>,
    /// The damage is what a power loss tore: that alone may be refused.
    torn: bool,
}

/// The exit of a node that a fault explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedExit {
    /// The node.
    pub node: NodeId,
    /// `exit 74`.
    pub status: String,
    /// Whether its disk was restored from before the damage, because it refused what was left.
    pub restored: bool,
}

impl Cluster {
    /// The disks of ours below it, if that is what it is on.
    pub fn disks(&self) -> Option<&Disks> {
        self.disks.as_ref()
    }

    /// The disk of a node.
    ///
    /// # Errors
    /// There is none of ours.
    pub(crate) fn disk(&self, node: NodeId) -> Result<&Disk, ClusterError> {
        let disk = self.disks.as_ref().and_then(|disks| disks.of(node));
        disk.ok_or_else(|| refused("hurt a disk", io::Error::other("it is a real one")))
    }

    /// Writes the files that a node finds at its start, those of its data to where its data is.
    ///
    /// # Errors
    /// The file system refuses.
    pub(super) fn lay_files(&self, place: &Place<'_>) -> io::Result<()> {
        let data = std::path::absolute(self.run_dir.data(place.node))?;
        for (path, text) in self.system.files(place)? {
            if let (Some(disks), Ok(within)) = (&self.disks, path.strip_prefix(&data)) {
                disks.put(place.node, within, text.as_bytes())?;
                continue;
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text)?;
        }
        Ok(())
    }

    /// The power of these nodes fails at once, in this order: the disks carry out nothing more and answer nobody, the processes are
    /// stopped, what waits is refused, the processes are killed, and what was not flushed is lost. Without the first two a process
    /// that is killed amid a flush waits for the flush, and what it flushed is durable.
    pub(crate) fn lose_power(
        &self,
        nodes: &[NodeId],
        loss: &PowerLoss,
        mut torn: Option<&mut ChaCha8Rng>,
    ) -> BTreeMap<NodeId, Result<Lost, ClusterError>> {
        let disks: Vec<_> = nodes.iter().filter_map(|node| self.disk(*node).ok()).collect();
        disks.iter().for_each(|disk| disk.arm(loss.moment));
        let started = Instant::now();
        while started.elapsed() < loss.within && disks.iter().all(|disk| disk.is_on()) {
            let share = Duration::from_millis(2).min(loss.within);
            if let Some(disk) = disks.first() {
                let _ = disk.wait_failing(share);
            }
        }
        disks.iter().for_each(|disk| disk.fail());
        std::thread::sleep(loss.stall);
        let mut slots = Vec::new();
        for &node in nodes {
            let slot = self.living(node);
            if let Ok(slot) = &slot
                && let Slot::Up(process) = &**slot
            {
                process.send_stop();
            }
            slots.push((node, slot));
        }
        let mut lost = BTreeMap::new();
        for (node, slot) in slots {
            let ended = slot.and_then(|mut slot| match std::mem::replace(&mut *slot, Slot::Killed) {
                Slot::Up(process) => {
                    process.wait_quiet(QUIET_WITHIN);
                    self.disk(node)?.off();
                    let states = process.pause();
                    let pid = process.pid();
                    process.kill();
                    let status = process.reap().map_err(|e| refused(&format!("reap pid {pid}"), e))?;
                    let saw = status_text(status);
                    let confirmed = saw == "signal 9" && is_stopped(&states);
                    Ok((Seen { pid, saw, confirmed }, states))
                }
                other => {
                    *slot = other;
                    Err(ClusterError::State { node, state: slot.state() })
                }
            });
            let ended = ended.and_then(|(seen, states)| {
                if torn.is_some() && !self.system.torn_exits().is_empty() {
                    let backup = Some(self.disk(node)?.flushed(loss.entries));
                    let mut excuses = lock(&self.excuses);
                    // Another fault may have the node in its hands.
                    if excuses.get(&node).is_none_or(|excuse| !excuse.held) {
                        excuses.insert(node, Excuse { held: true, backup, torn: true, ..Excuse::default() });
                    }
                }
                let difference =
                    self.change_disk(node, |disk| disk.lose(loss.entries, torn.as_deref_mut()))?;
                Ok(Lost { seen, states, difference })
            });
            lost.insert(node, ended);
        }
        // Those that could not be hit go on.
        for (node, result) in &lost {
            if let (Err(_), Ok(disk)) = (result, self.disk(*node)) {
                disk.on();
            }
        }
        lost
    }

    /// The power of a node fails that has in its memory what it has not flushed.
    ///
    /// # Errors
    /// As [`Cluster::kill`].
    pub(crate) fn lose_memory(&self, node: NodeId) -> Result<Seen, ClusterError> {
        if dud::is_at(Reach::Disk) {
            return Ok(Seen { pid: 0, saw: "it lives".to_owned(), confirmed: false });
        }
        self.kill(node)
    }

    /// Changes what is on the disk of a node that is killed, behind the kernel's back; how it differs then.
    pub(crate) fn change_disk(
        &self,
        node: NodeId,
        change: impl FnOnce(&Disk),
    ) -> Result<Difference, ClusterError> {
        let disk = self.disk(node)?;
        if let Some(disks) = &self.disks {
            disks.unmount(node).map_err(|source| refused(&format!("unmount {}", node_name(node)), source))?;
        }
        let before = disk.image();
        change(disk);
        Ok(before.difference(&disk.image()))
    }

    /// Whether this node may lose what it flushed: the others that did and are not seen to have it back are, with it, no more than
    /// the system serves without. Says so of it if it may.
    pub(crate) fn may_damage(&self, node: NodeId) -> bool {
        self.look_repaired();
        let mut damaged = lock(&self.damaged);
        let others = damaged.keys().filter(|other| **other != node).count() as u32;
        let tolerated = self.tolerated();
        let may = (self.blind || others < tolerated) && node <= self.nodes();
        if may {
            damaged.insert(node, None);
        }
        may
    }

    /// How many nodes may have lost what they had flushed at once.
    fn tolerated(&self) -> u32 {
        self.system.tolerates().unwrap_or((self.nodes() - 1) / 2)
    }

    /// The nodes that lost what they had flushed and are not seen to have it back, if they are more than the system survives.
    pub(crate) fn beyond_survival(&self) -> Option<Vec<NodeId>> {
        let damaged = self.look_repaired();
        (damaged.len() as u32 > self.tolerated()).then_some(damaged)
    }

    /// From now on a damaged node is seen to be repaired when it has applied what is committed now.
    pub(crate) fn expect_repair(&self, node: NodeId) {
        if !self.system.tells_applied() {
            return;
        }
        let committed = self.statuses().values().map(|status| status.commit_index).max();
        lock(&self.damaged).entry(node).and_modify(|wanted| *wanted = committed);
    }

    /// The nodes that lost what they had flushed, and are not seen to have it back.
    pub(crate) fn look_repaired(&self) -> Vec<NodeId> {
        if !lock(&self.damaged).is_empty() {
            let statuses = self.statuses();
            lock(&self.damaged).retain(|node, wanted| {
                let applied = statuses.get(node).map(|status| status.last_applied);
                wanted.zip(applied).is_none_or(|(wanted, applied)| applied < wanted)
            });
        }
        lock(&self.damaged).keys().copied().collect()
    }

    /// From now on an exit of this node with one of the codes that its system declares is no violation, until its next start, but
    /// not before [`Cluster::release`].
    pub(crate) fn excuse(&self, node: NodeId) {
        lock(&self.excuses).insert(node, Excuse { held: true, ..Excuse::default() });
    }

    /// The same, and from now on it is no violation either if the kernel kills the node for its memory.
    pub(crate) fn excuse_killed(&self, node: NodeId) {
        let memory = Some(self.memory_counts(node));
        lock(&self.excuses).insert(node, Excuse { held: true, memory, ..Excuse::default() });
    }

    /// What the kernel counted of the memory of a node since then.
    pub(crate) fn memory_counts_since(&self, node: NodeId) -> Counts {
        let before = lock(&self.excuses).get(&node).and_then(|excuse| excuse.memory).unwrap_or_default();
        self.memory_counts(node).since(before)
    }

    /// Damages the disk of a node that is killed; how it differs then.
    pub(crate) fn damage_disk(
        &self,
        node: NodeId,
        change: impl FnOnce(&Disk),
    ) -> Result<Difference, ClusterError> {
        let backup = Some(self.disk(node)?.backup());
        lock(&self.excuses).insert(node, Excuse { held: true, backup, ..Excuse::default() });
        let difference = self.change_disk(node, change)?;
        let damage = Damage::now(&self.run_dir, node);
        lock(&self.damages).push(damage.map_err(|e| refused("read a trace", e))?);
        Ok(difference)
    }

    /// Starts a node whose power failed. If it refuses what was torn, and says that it may, it gets back what was flushed.
    pub(crate) fn start_torn(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let seen = self.start(node)?;
        if let Some(excuse) = lock(&self.excuses).get_mut(&node).filter(|excuse| excuse.torn) {
            excuse.held = false;
        }
        Ok(seen)
    }

    /// Starts a node whose disk was damaged. If it refuses what is left, it is restored.
    pub(crate) fn start_damaged(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let seen = self.start(node)?;
        if let Some(excuse) = lock(&self.excuses).get_mut(&node) {
            excuse.held = false;
        }
        Ok(seen)
    }

    /// What was done to disks so far that took what may have been durable.
    pub fn damages(&self) -> Vec<Damage> {
        lock(&self.damages).clone()
    }

    /// Exits that a fault explains, each reported once.
    pub fn expected_exits(&self) -> Vec<ExpectedExit> {
        std::mem::take(&mut *lock(&self.expected_exits))
    }

    /// The fault is gone: a node that ended because of it is started again, now or when it ends. How it ended, if it did.
    pub(crate) fn release(&self, node: NodeId) -> Option<String> {
        // An error says that it is dead, which is what is asked for.
        drop(self.living(node));
        let fallen = {
            let mut excuses = lock(&self.excuses);
            let excuse = excuses.get_mut(&node)?;
            excuse.held = false;
            excuse.fallen.clone()
        };
        self.raise(node);
        fallen
    }

    /// Whether whatever this node says or does of its disk is to be expected.
    pub(crate) fn is_excused(&self, node: NodeId) -> bool {
        lock(&self.excuses).contains_key(&node)
    }

    /// Starts a node again that ended because of a fault which is gone. Several threads look who ended; one of them does it.
    pub(super) fn raise(&self, node: NodeId) {
        let (status, backup, torn) = match lock(&self.excuses).get_mut(&node) {
            Some(Excuse { held: false, fallen, backup, torn, .. }) => match fallen.take() {
                Some(status) => (status, backup.take(), *torn),
                None => return,
            },
            _ => return,
        };
        let codes = if torn { self.system.torn_exits() } else { self.system.refused_exits() };
        let refused = codes.iter().any(|code| status == format!("exit {code}"));
        let restored = match backup.filter(|_| refused) {
            Some(backup) => self.change_disk(node, |disk| disk.restore(backup)).is_ok(),
            None => false,
        };
        // Before it starts, when nothing excuses it any more: its last words may not have been read yet.
        self.excuse_logs(node);
        // If it does not start it is not up, and does not serve in the end.
        if self.start(node).is_ok() {
            lock(&self.expected_exits).push(ExpectedExit { node, status, restored });
        }
    }

    /// A new incarnation has no excuse, unless the fault still has it in its hands.
    pub(super) fn forget_excuse(&self, node: NodeId) {
        let mut excuses = lock(&self.excuses);
        match excuses.get_mut(&node) {
            Some(excuse) if excuse.held => excuse.fallen = None,
            _ => drop(excuses.remove(&node)),
        }
    }

    /// Whether an exit is one that the system declares and a fault explains, or the kernel's doing where it was given little memory; it is
    /// remembered then.
    pub(super) fn explains(&self, exit: &SelfExit) -> bool {
        let is_one_of = |codes: &[i32]| codes.iter().any(|code| exit.status == format!("exit {code}"));
        let declared = |excuse: &Excuse| {
            let codes = match excuse {
                Excuse { torn: true, .. } => is_one_of(self.system.torn_exits()),
                Excuse { backup: Some(_), .. } => {
                    is_one_of(self.system.expected_exits()) || is_one_of(self.system.refused_exits())
                }
                Excuse { backup: None, .. } => is_one_of(self.system.expected_exits()),
            };
            // However it ended: a script whose program was killed has an exit code of its own.
            codes || excuse.memory.is_some_and(|before| self.memory_counts(exit.node).since(before).kills > 0)
        };
        match lock(&self.excuses).get_mut(&exit.node).filter(|excuse| declared(excuse)) {
            Some(excuse) => {
                excuse.fallen = Some(exit.status.clone());
                true
            }
            None => false,
        }
    }

    /// Writes what the disks hold into the run directory. Every process must be dead.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn put_disks_away(&self) -> Result<(), ClusterError> {
        let Some(disks) = &self.disks else { return Ok(()) };
        disks.put_away().map_err(|source| refused("write the disks into the run directory", source))
    }
}

/// Files of an image that hold something, without the one called `kept`.
pub(crate) fn files_with_bytes(disk: &Disk) -> Vec<(std::path::PathBuf, u64)> {
    let mut files = disk.image().files();
    files.retain(|(path, size)| *size > 0 && path != Path::new(""));
    files
}
