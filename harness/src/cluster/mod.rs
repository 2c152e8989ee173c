//! A cluster of real node processes on addresses of its own, and what may be done to them.
//! How our node is started and asked is in [`crate::system`], one process in `process`, addresses in `ports`.

mod admin;
mod clocks;
mod disks;
mod freeze;
mod guardian;
mod hosts;
mod limits;
mod logs;
mod ports;
mod process;

pub use disks::ExpectedExit;
pub(crate) use disks::{PowerLoss, files_with_bytes};
pub use freeze::Frozen;
pub use hosts::{Hosts, Inside};
pub use logs::{LogWatch, Printed, Trouble};
pub use ports::{Addresses, NODES_MAX, Roster};
pub(crate) use process::{Process, Spawner, group_of};

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::NodeId;
use crate::disk::Disks;
use crate::dud::{self, Reach};
use crate::group::Groups;
use crate::run_dir::{RunDir, node_name};
use crate::system::whitewater::Whitewater;
use crate::system::{Membership, Place, Status, System};
use crate::translate::Damage;
use process::{is_stopped, status_text};

/// How long a node may take to answer a question about its status.
const STATUS_TIMEOUT: Duration = Duration::from_millis(250);
/// Pause between two looks while waiting for a leader.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long a process may take to end after SIGKILL: what it waits for in the kernel comes first.
const DIES_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to end after SIGTERM: it may flush, and hand over its leadership.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// How to start a cluster of our own nodes.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Each node lives in `nodes/nI` below it.
    pub run_dir: RunDir,
    /// Cluster name; nodes drop what comes from another.
    pub cluster_name: String,
    /// Planted bug, for a node that was built with them.
    pub bug: Option<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// Whether nodes talk through a [`crate::net::Fabric`] or directly.
    pub proxied: bool,
    /// Whether nodes write traces.
    pub trace: bool,
}

/// Who leads, as the nodes themselves say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// A node that died though nobody killed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfExit {
    /// The node.
    pub node: NodeId,
    /// `exit 101` or `signal 6`.
    pub status: String,
    /// The end of what it printed since its last start.
    pub said: String,
    /// Where it printed that: `stderr`, or `stdout` if it said nothing there.
    pub stream: &'static str,
}

/// What was seen of a process when something was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The process.
    pub pid: u32,
    /// `signal 9`, the states of its threads (`T` is "all stopped"), or `started`.
    pub saw: String,
    /// Whether this is what was to be seen.
    pub confirmed: bool,
}

/// Why a cluster did not start, or a process did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A node is not in the state that the action needs.
    #[error("{} is {state}", node_name(*node))]
    State {
        /// The node.
        node: NodeId,
        /// `up`, `paused`, `killed` or `dead by itself`.
        state: &'static str,
    },
    /// Nobody leads.
    #[error("no leader that all nodes follow after {waited_ms} ms: {detail}")]
    NoLeader {
        /// How long it was waited for.
        waited_ms: u128,
        /// What the nodes said.
        detail: String,
    },
    /// A node died while the others waited for it.
    #[error("{} died by itself ({}): {}", node_name(.0.node), .0.status, .0.said.trim_end())]
    Died(SelfExit),
}

/// What became of a node's process.
#[derive(Debug)]
enum Slot {
    Up(Process),
    Paused(Process),
    Killed,
    Dead,
}

impl Slot {
    fn state(&self) -> &'static str {
        match self {
            Slot::Up(_) => "up",
            Slot::Paused(_) => "paused",
            Slot::Killed => "killed",
            Slot::Dead => "dead by itself",
        }
    }
}

/// A running cluster. Dropping it kills and reaps every process.
#[derive(Debug)]
pub struct Cluster {
    system: Arc<dyn System>,
    run_dir: RunDir,
    proxied: bool,
    addresses: Addresses,
    /// What limits the memory of nodes. Before the spawner: its guardian removes what is left of them.
    groups: Option<Groups>,
    spawner: Spawner,
    slots: Vec<Mutex<Slot>>,
    /// How long the logs of each node were when it was last started: stderr, stdout.
    logs_before: Mutex<BTreeMap<NodeId, [u64; 2]>>,
    /// Of each log the last part that a fault explains, bytes.
    excused_logs: Mutex<BTreeMap<PathBuf, Range<u64>>>,
    /// Found, but not yet asked for.
    self_exits: Mutex<Vec<SelfExit>>,
    /// Where nodes keep their data, if not on this machine's disk.
    disks: Option<Disks>,
    /// Nodes whose exit a fault explains.
    excuses: Mutex<BTreeMap<NodeId, disks::Excuse>>,
    /// Exits that a fault explains, not yet asked for.
    expected_exits: Mutex<Vec<ExpectedExit>>,
    /// What was done to disks.
    damages: Mutex<Vec<Damage>>,
    /// Nodes that lost what they had flushed, and what each must have applied to have it back.
    damaged: Mutex<BTreeMap<NodeId, Option<u64>>>,
    /// Whether more may be damaged than it survives.
    blind: bool,
    /// Nodes that may open no more files.
    file_limits: Mutex<BTreeMap<NodeId, limits::FileLimit>>,
}

impl Cluster {
    /// Starts every node of a cluster of ours.
    ///
    /// # Errors
    /// When a directory or process cannot be created.
    pub fn launch(config: &ClusterConfig, addresses: Addresses) -> Result<Cluster, ClusterError> {
        let system = Whitewater {
            binary: config.binary.clone(),
            cluster_name: config.cluster_name.clone(),
            bug: config.bug.clone(),
            log_level: config.log_level.clone(),
            trace: config.trace,
            snapshot_entries: None,
            node_args: Vec::new(),
            clock_file: false,
            unsynced_in_memory: false,
        };
        Cluster::start_all(Arc::new(system), &config.run_dir, addresses, config.proxied, None, None)
    }

    /// Starts every founder of a system; each node lives in `nodes/nI` below `run_dir`. `proxied` tells whether they talk through a
    /// [`crate::net::Fabric`] or directly, `disks` where they keep their data, if not in the run directory, and `groups` what can limit their
    /// memory.
    ///
    /// # Errors
    /// When a directory or process cannot be created.
    pub fn start_all(
        system: Arc<dyn System>,
        run_dir: &RunDir,
        addresses: Addresses,
        proxied: bool,
        disks: Option<Disks>,
        groups: Option<Groups>,
    ) -> Result<Cluster, ClusterError> {
        let spawner = Spawner::new().map_err(|source| refused("start the spawning thread", source))?;
        for path in groups.iter().flat_map(Groups::paths) {
            spawner.guard_group(path);
        }
        let slots = (0..addresses.nodes()).map(|_| Mutex::new(Slot::Killed)).collect();
        let run_dir = run_dir.clone();
        let self_exits = Mutex::default();
        let cluster = Cluster {
            system,
            run_dir,
            proxied,
            addresses,
            groups,
            spawner,
            slots,
            logs_before: Mutex::default(),
            excused_logs: Mutex::default(),
            self_exits,
            disks,
            excuses: Mutex::default(),
            expected_exits: Mutex::default(),
            damages: Mutex::default(),
            damaged: Mutex::default(),
            blind: false,
            file_limits: Mutex::default(),
        };
        for node in 1..=cluster.nodes() {
            cluster.start(node)?;
        }
        Ok(cluster)
    }

    /// Lets faults damage more nodes at once than it survives, if `blind`.
    #[must_use]
    pub fn blind(mut self, blind: bool) -> Cluster {
        self.blind = blind;
        self
    }

    /// Whether they may.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// What runs in it.
    pub fn system(&self) -> &dyn System {
        &*self.system
    }

    fn place(&self, node: NodeId) -> Place<'_> {
        Place {
            node,
            addresses: &self.addresses,
            proxied: self.proxied,
            run_dir: &self.run_dir,
            life: self.life(node),
        }
    }

    /// Nodes that found the cluster, running or not: the first ones.
    pub fn nodes(&self) -> u32 {
        self.addresses.founders()
    }

    /// Those and the spares behind them, which run only while a fault has them join.
    pub fn places(&self) -> u32 {
        self.addresses.nodes()
    }

    /// The addresses of the run.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The run directory.
    pub fn run_dir(&self) -> &RunDir {
        &self.run_dir
    }

    /// The spares that do not run.
    pub fn idle_spares(&self) -> Vec<NodeId> {
        let idle = |node: &NodeId| matches!(*self.slot(*node), Slot::Killed);
        (self.nodes() + 1..=self.places()).filter(idle).collect()
    }

    /// Where clients reach each node, spares included, in order of ids.
    pub fn client_addrs(&self) -> Vec<SocketAddr> {
        self.ids().map(|node| self.system.client_addr(&self.addresses, node)).collect()
    }

    /// What a node takes for the addresses of all nodes, in order of ids.
    pub fn addresses_of(&self, node: NodeId) -> Vec<SocketAddr> {
        self.addresses.peers(node, self.proxied)
    }

    /// The processes that are alive, in order of nodes.
    pub fn pids(&self) -> Vec<u32> {
        let pid = |node| match &*self.slot(node) {
            Slot::Up(process) | Slot::Paused(process) => Some(process.pid()),
            Slot::Killed | Slot::Dead => None,
        };
        self.ids().filter_map(pid).collect()
    }

    /// The nodes whose processes are neither killed, paused nor dead.
    pub fn up(&self) -> Vec<NodeId> {
        self.ids().filter(|&node| matches!(*self.slot(node), Slot::Up(_))).collect()
    }

    /// The status of every node that is up and answers.
    pub fn statuses(&self) -> BTreeMap<NodeId, Status> {
        let ask = |node| Some((node, self.system.status(&self.place(node), STATUS_TIMEOUT)?));
        let up = self.up();
        std::thread::scope(|scope| {
            let questions = up.into_iter().map(|node| scope.spawn(move || ask(node))).collect::<Vec<_>>();
            questions.into_iter().filter_map(|question| question.join().ok().flatten()).collect()
        })
    }

    /// The leader of the highest term among the nodes that answer.
    pub fn leader(&self) -> Option<Leader> {
        if !self.system.tells_leader() {
            return None;
        }
        leader_of(&self.statuses())
    }

    /// Who belongs to the cluster, as the node says that has committed most; its founders where no node says.
    pub fn members(&self) -> BTreeSet<NodeId> {
        match membership_of(&self.statuses()) {
            Some(told) => told.voters.union(&told.learners).copied().collect(),
            None => (1..=self.nodes()).collect(),
        }
    }

    /// Those of them who vote.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        match membership_of(&self.statuses()) {
            Some(told) => told.voters.clone(),
            None => (1..=self.nodes()).collect(),
        }
    }

    /// Waits until every founder answers and follows one leader.
    ///
    /// # Errors
    /// When that is not so in time, or a node dies by itself.
    pub fn wait_ready(&self, timeout: Duration) -> Result<Leader, ClusterError> {
        self.wait_statuses(timeout, |statuses| {
            let leader = leader_of(statuses)?;
            let id = &statuses.get(&leader.node)?.id;
            let follows =
                |status: &&Status| status.leader.as_ref() == Some(id) || !self.system.tells_followed();
            let followed = statuses.values().filter(follows).count();
            (followed == self.nodes() as usize).then_some(leader)
        })
    }

    /// Waits until every node is ready, and follows one leader if this system tells who leads.
    ///
    /// # Errors
    /// When that is not so in time, or a node dies by itself.
    pub fn wait_up(&self, timeout: Duration) -> Result<Option<Leader>, ClusterError> {
        if self.system.tells_leader() {
            return self.wait_ready(timeout).map(Some);
        }
        self.wait_statuses(timeout, |statuses| (statuses.len() == self.nodes() as usize).then_some(None))
    }

    fn wait_statuses<T>(
        &self,
        timeout: Duration,
        found: impl Fn(&BTreeMap<NodeId, Status>) -> Option<T>,
    ) -> Result<T, ClusterError> {
        let started = Instant::now();
        loop {
            let statuses = self.statuses();
            if let Some(found) = found(&statuses) {
                return Ok(found);
            }
            if let Some(exit) = self.self_exits().into_iter().next() {
                return Err(ClusterError::Died(exit));
            }
            if started.elapsed() >= timeout {
                let describe = |node| match statuses.get(&node) {
                    Some(status) => {
                        let role = if status.leads { "leads" } else { "follows" };
                        format!("{} {role} in term {}", node_name(node), status.term)
                    }
                    None => format!("{} does not answer", node_name(node)),
                };
                let detail = (1..=self.nodes()).map(describe).collect::<Vec<_>>().join(", ");
                return Err(ClusterError::NoLeader { waited_ms: started.elapsed().as_millis(), detail });
            }
            std::thread::sleep(READY_POLL);
        }
    }

    /// Starts a node that is not running, on the data it had; a spare waits to be told that it belongs to the cluster.
    ///
    /// # Errors
    /// When it runs, died by itself, or the system refuses.
    pub fn start(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let mut slot = self.slot(node);
        if !matches!(*slot, Slot::Killed) {
            return Err(ClusterError::State { node, state: slot.state() });
        }
        let home = self.run_dir.node(node);
        fs::create_dir_all(&home).map_err(|source| refused(&format!("create {}", home.display()), source))?;
        // Files, never pipes: a full pipe would stop a node that nobody meant to stop.
        let log = |path: PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.map_err(|source| refused(&format!("open {}", path.display()), source))
        };
        let place = self.place(node);
        let prepared = self.lay_files(&place).and_then(|()| self.system.command(&place));
        let mut command =
            prepared.map_err(|source| refused(&format!("prepare {}", node_name(node)), source))?;
        self.note_logs(node);
        command.stdout(log(self.run_dir.stdout(node))?).stderr(log(self.run_dir.stderr(node))?);
        let doing = format!("start {}", command.get_program().display());
        if let Some(hosts) = self.addresses.hosts() {
            hosts.place(node, &mut command).map_err(|source| refused(&doing, source))?;
        }
        if let Some(disks) = &self.disks {
            disks
                .enter(node, &mut command)
                .map_err(|source| refused(&format!("mount the disk of {}", node_name(node)), source))?;
        }
        if let Some(groups) = &self.groups {
            groups.place(node, &mut command).map_err(|source| refused(&doing, source))?;
        }
        self.forget_excuse(node);
        let process = self.spawner.spawn(command).map_err(|source| refused(&doing, source))?;
        let pid = process.pid();
        self.addresses.roster().note(node, pid);
        *slot = Slot::Up(process);
        Ok(Seen { pid, saw: "started".to_owned(), confirmed: true })
    }

    /// Sends SIGKILL and reaps.
    ///
    /// # Errors
    /// When the node is not up: a kill of a paused node would end the pause without its healing.
    pub fn kill(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let mut slot = self.living(node)?;
        let process = match std::mem::replace(&mut *slot, Slot::Killed) {
            Slot::Up(process) => process,
            other => {
                *slot = other;
                return Err(ClusterError::State { node, state: slot.state() });
            }
        };
        let pid = process.pid();
        let Some(status) = end(&mut slot, process)? else {
            return Ok(Seen { pid, saw: "it lives".to_owned(), confirmed: false });
        };
        let saw = status_text(status);
        if saw != "signal 9" {
            // It was quicker than the signal: not our kill.
            self.report_exit(node, saw, &mut slot);
            return Err(ClusterError::State { node, state: slot.state() });
        }
        Ok(Seen { pid, saw, confirmed: true })
    }

    /// Sends SIGTERM and reaps; what does not end in time is killed, which is not confirmed.
    ///
    /// # Errors
    /// When the node is not up.
    pub fn stop(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let mut slot = self.living(node)?;
        let mut process = match std::mem::replace(&mut *slot, Slot::Killed) {
            Slot::Up(process) => process,
            other => {
                *slot = other;
                return Err(ClusterError::State { node, state: slot.state() });
            }
        };
        let pid = process.pid();
        process.terminate();
        let stopped = process.ended_within(dud::patience(Reach::Signal, STOPS_WITHIN));
        if let Some(status) = stopped.map_err(|source| refused(&format!("wait for pid {pid}"), source))? {
            return Ok(Seen { pid, saw: status_text(status), confirmed: true });
        }
        let killed = end(&mut slot, process)?.is_some();
        let saw = if killed { "it did not stop and was killed" } else { "it lives" };
        Ok(Seen { pid, saw: saw.to_owned(), confirmed: false })
    }

    /// Removes the data directory of a node that is killed; what was seen is how much it held, confirmed if it held something and is gone.
    ///
    /// # Errors
    /// When the node is not killed, or the file system refuses.
    pub fn wipe(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let slot = self.slot(node);
        if !matches!(*slot, Slot::Killed) {
            return Err(ClusterError::State { node, state: slot.state() });
        }
        if self.disks.is_some() {
            let gone = self.change_disk(node, |disk| disk.clear())?.gone;
            return Ok(Seen { pid: 0, saw: format!("{gone} files removed"), confirmed: gone > 0 });
        }
        let data = self.run_dir.data(node);
        let files = count_files(&data);
        match if dud::is_at(Reach::Disk) { Ok(()) } else { fs::remove_dir_all(&data) } {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused(&format!("remove {}", data.display()), error));
            }
            _ => {}
        }
        let confirmed = files > 0 && !data.exists();
        Ok(Seen { pid: 0, saw: format!("{files} files removed"), confirmed })
    }

    /// Sends SIGSTOP and waits until every thread is stopped.
    ///
    /// # Errors
    /// When the node is not up.
    pub fn pause(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let mut slot = self.living(node)?;
        match std::mem::replace(&mut *slot, Slot::Killed) {
            Slot::Up(process) => {
                let saw = process.pause();
                let seen = Seen { pid: process.pid(), confirmed: is_stopped(&saw), saw };
                *slot = Slot::Paused(process);
                Ok(seen)
            }
            other => {
                *slot = other;
                Err(ClusterError::State { node, state: slot.state() })
            }
        }
    }

    /// Sends SIGCONT to a paused node and waits until no thread is stopped. What was seen is the state *before* the signal, confirmed
    /// if the node was stopped to the very end of the pause.
    ///
    /// # Errors
    /// When the node is not paused.
    pub fn resume(&self, node: NodeId) -> Result<Seen, ClusterError> {
        let mut slot = self.living(node)?;
        match std::mem::replace(&mut *slot, Slot::Killed) {
            Slot::Paused(process) => {
                let saw = process.states();
                let after = process.resume();
                let confirmed = is_stopped(&saw) && !is_stopped(&after);
                let seen = Seen { pid: process.pid(), saw, confirmed };
                *slot = Slot::Up(process);
                Ok(seen)
            }
            other => {
                *slot = other;
                Err(ClusterError::State { node, state: slot.state() })
            }
        }
    }

    /// Nodes that died by themselves, each reported once.
    pub fn self_exits(&self) -> Vec<SelfExit> {
        for node in self.ids() {
            // An error says that it is dead, which is what is asked for.
            drop(self.living(node));
            self.raise(node);
        }
        std::mem::take(&mut *lock(&self.self_exits))
    }

    /// Kills and reaps every process. Who died by himself before is still reported by [`Cluster::self_exits`].
    pub fn stop_all(&self) {
        let mut dying = Vec::new();
        for node in self.ids() {
            let Ok(mut slot) = self.living(node) else { continue };
            if let Slot::Up(process) | Slot::Paused(process) = std::mem::replace(&mut *slot, Slot::Killed) {
                process.kill();
                dying.push(process);
            }
        }
        for process in dying {
            // A child of ours that got SIGKILL can always be waited for.
            let _ = process.reap();
        }
    }

    /// Founders and spares.
    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=self.addresses.nodes()
    }

    fn slot(&self, node: NodeId) -> MutexGuard<'_, Slot> {
        lock(&self.slots[node as usize - 1])
    }

    /// A node's slot, after a look whether its process died; an error if it did.
    fn living(&self, node: NodeId) -> Result<MutexGuard<'_, Slot>, ClusterError> {
        let mut slot = self.slot(node);
        if let Slot::Up(process) | Slot::Paused(process) = &mut *slot {
            let pid = process.pid();
            let exited =
                process.exited().map_err(|source| refused(&format!("wait for pid {pid}"), source))?;
            if let Some(status) = exited {
                self.report_exit(node, status_text(status), &mut slot);
                return Err(ClusterError::State { node, state: slot.state() });
            }
        }
        Ok(slot)
    }

    fn report_exit(&self, node: NodeId, status: String, slot: &mut Slot) {
        let (stream, said) = self.last_words(node);
        let exit = SelfExit { node, status, said, stream };
        if self.explains(&exit) {
            *slot = Slot::Killed;
        } else {
            *slot = Slot::Dead;
            lock(&self.self_exits).push(exit);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_all();
        // A run that ended early keeps what there is, as far as that is possible.
        let _ = self.put_disks_away();
    }
}

/// A poisoned lock is taken all the same: slots are replaced whole, and processes must be killed after a panic too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the process of a slot; how it ended. One that does not is back in its place.
fn end(slot: &mut Slot, mut process: Process) -> Result<Option<ExitStatus>, ClusterError> {
    process.kill();
    let ended = process.ended_within(dud::patience(Reach::Signal, DIES_WITHIN));
    let ended = ended.map_err(|source| refused(&format!("reap pid {}", process.pid()), source))?;
    if ended.is_none() {
        *slot = Slot::Up(process);
    }
    Ok(ended)
}

fn refused(doing: &str, source: io::Error) -> ClusterError {
    ClusterError::Io { doing: doing.to_owned(), source }
}

/// Files below a directory; none if it is not there.
fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

/// The leader of the highest term: an older one that was cut off may not know yet.
pub fn leader_of(statuses: &BTreeMap<NodeId, Status>) -> Option<Leader> {
    statuses
        .iter()
        .filter(|(_, status)| status.leads)
        .map(|(&node, status)| Leader { node, term: status.term })
        .max_by_key(|leader| leader.term)
}

/// The membership in the status of the node that has committed most.
pub fn membership_of(statuses: &BTreeMap<NodeId, Status>) -> Option<&Membership> {
    let told = statuses.values().filter_map(|status| Some((status, status.membership.as_ref()?)));
    told.max_by_key(|(status, _)| (status.commit_index, status.term)).map(|(_, membership)| membership)
}

#[cfg(test)]
pub(crate) mod tests;
