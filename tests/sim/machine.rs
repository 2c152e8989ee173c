//! One machine: its disk, its clock, and the process on it, driven as the server drives it: completed writes, outcomes of
//! snapshots and datagrams go into the replica, then time; records, jobs and datagrams come out. One batch of records is on
//! its way to the disk at a time, and what queues meanwhile is the next.
//! How long anything takes, and when a process ends, is left to the world.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use node::config::{DATAGRAMS_PER_TURN_MAX, ServerConfig};
use node::raft::Recovered;
use node::raft::message::SnapshotOffer;
use node::raft::types::{Entry, HardState, Lsn, NodeId, ProcessId, Record, Recovering, SnapshotMark};
use node::replica::{Output, RecoveredState, Replica};
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::snapshot_job::{SnapshotJob, SnapshotOutcome, SnapshotWorker};
use node::storage::{
    Condition, Identity, Layout, MemoryDisk, Progress, SnapshotDir, StorageError, Wal, snapshot_file,
};
use node::transport::frame::cluster_id;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where its files are, on its own disk.
pub(crate) const DIRECTORY: &str = "data";
/// Small segments, so that a short life fills several.
const LAYOUT: Layout = Layout { segment_bytes: 16 << 10, zero_step_bytes: 4 << 10, reserve_bytes: 1 << 10 };
/// Datagrams that a socket holds; more are lost.
const SOCKET_DATAGRAMS: usize = 1_024;

/// A clock that runs at a rate of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    shown: u64,
    since: u64,
    /// Thousandths of the true speed.
    rate: u64,
}

impl Clock {
    fn new(shown: u64) -> Clock {
        Clock { shown, since: 0, rate: 1_000 }
    }

    /// What it shows at the true time `now`.
    pub(crate) fn shows(&self, now: u64) -> u64 {
        self.shown + (now - self.since) * self.rate / 1_000
    }

    /// True ns from `now` until it shows `shown`.
    pub(crate) fn until(&self, now: u64, shown: u64) -> u64 {
        let left = shown.saturating_sub(self.shows(now));
        left.saturating_mul(1_000).div_ceil(self.rate)
    }

    /// Goes on at another rate.
    pub(crate) fn set_rate(&mut self, now: u64, rate: u64) {
        *self = Clock { shown: self.shows(now), since: now, rate };
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything that it wrote stays readable.
    Kill,
    /// What was not synced is lost, or torn.
    PowerLoss(Unsynced),
}

/// What the disk gave back at a start.
pub(crate) struct Booted {
    pub(crate) process: ProcessId,
    pub(crate) hard_state: HardState,
    pub(crate) mark: SnapshotMark,
    pub(crate) entries: Vec<Entry>,
    /// What it lacks.
    pub(crate) recovering: Option<Recovering>,
    pub(crate) notes: Vec<String>,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) replica: Replica,
    pub(crate) id: ProcessId,
    pub(crate) paused: bool,
    /// When its next turn is planned.
    pub(crate) turn_at: Option<u64>,
    wal: Wal,
    queued: Vec<(Lsn, Record)>,
    /// Turns whose records are in `queued`.
    queued_turns: u64,
    writing: Option<Vec<(Lsn, Record)>>,
    /// Records wait for space.
    out_of_space: bool,
    progress: Option<Progress>,
    worker: SnapshotWorker,
    jobs: VecDeque<SnapshotJob>,
    working: bool,
    outcomes: Vec<SnapshotOutcome>,
    socket: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) config: ServerConfig,
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    /// Counts processes: what was planned for an earlier one is void.
    pub(crate) life: u64,
    /// How many times longer the disk takes.
    pub(crate) slowness: u64,
    rng: ChaCha8Rng,
}

impl Machine {
    pub(crate) fn new(config: ServerConfig, mut rng: ChaCha8Rng) -> Machine {
        let disk = MemoryDisk::new(rng.random());
        let clock = Clock::new(rng.random_range(0..1 << 40));
        Machine { config, disk, clock, process: None, life: 0, slowness: 1, rng }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { cluster_id: cluster_id(&self.config.cluster), node_id: self.config.id }
    }

    /// An empty disk in place of the old one.
    pub(crate) fn wipe(&mut self) {
        assert!(self.process.is_none(), "the disk of n{} is in use", self.id());
        self.disk = MemoryDisk::new(self.rng.random());
    }

    /// Starts a process, as `node serve` does.
    pub(crate) fn start(&mut self, now: u64) -> Result<Booted, StorageError> {
        assert!(self.process.is_none(), "n{} runs already", self.id());
        let (dir, identity) = (Path::new(DIRECTORY), self.identity());
        let disk = Arc::new(self.disk.clone());
        let founding = Some(self.config.founding_mark());
        let (wal, recovered) = Wal::open_with(disk.clone(), dir, &identity, founding, LAYOUT)?;
        let snapshots = SnapshotDir::new(disk, dir, &identity);
        let mark = recovered.mark.unwrap_or_else(|| self.config.founding_mark());
        let (mut snapshot, mut state) = (None, None);
        if mark.last.index > 0 {
            let (meta, image) = snapshots.load(mark.last)?;
            snapshot = Some(SnapshotOffer { last: meta.last, size: meta.size, root: meta.root });
            state = snapshot_file::verify(&image, Some(identity.cluster_id)).map(|image| image.state()).ok();
        }
        let id = ProcessId { directory: recovered.directory_id, incarnation: recovered.incarnation };
        let recovering = match recovered.condition {
            Condition::Sound => None,
            Condition::Recovering(recovering) => Some(recovering),
        };
        let booted = Booted {
            process: id,
            hard_state: recovered.hard_state,
            mark: mark.clone(),
            entries: recovered.entries.clone(),
            recovering,
            notes: recovered.notes,
        };
        let raft = Recovered {
            hard_state: recovered.hard_state,
            mark,
            snapshot,
            entries: recovered.entries,
            recovering,
            last_lsn: recovered.last_lsn,
        };
        let replica = Replica::new(
            self.config.replica(id),
            ChaCha8Rng::seed_from_u64(self.rng.random()),
            self.clock.shows(now),
            RecoveredState { raft, state },
        );
        self.life += 1;
        self.process = Some(Process {
            replica,
            id,
            paused: false,
            turn_at: None,
            wal,
            queued: Vec::new(),
            queued_turns: 0,
            writing: None,
            out_of_space: false,
            progress: None,
            worker: SnapshotWorker::new(snapshots),
            jobs: VecDeque::new(),
            working: false,
            outcomes: Vec::new(),
            socket: VecDeque::new(),
        });
        Ok(booted)
    }

    /// Ends the process wherever it is: also in the middle of writing a batch or a part of a snapshot. Returns how
    /// far the log was by then, though nobody heard of it any more.
    pub(crate) fn end(&mut self, how: End) -> Option<Progress> {
        let mut process = self.process.take()?;
        self.life += 1;
        let mut durable = None;
        // Each thread got so far with what it was doing.
        let refusal = |operations: u64, at| Refusal { at: operations + at, onward: true, errno: Errno::EIO };
        if process.working && !process.paused {
            self.disk.refuse(Some(refusal(self.disk.operations(), self.rng.random_range(0..6))));
            process.work();
        }
        if process.writing.is_some() {
            self.disk.refuse(Some(refusal(self.disk.operations(), self.rng.random_range(0..4))));
            durable = process.write().ok();
        }
        match how {
            End::Kill => self.disk.kill(),
            End::PowerLoss(unsynced) => self.disk.power_loss(unsynced),
        }
        self.disk.refuse(None);
        durable
    }

    /// Takes all space from the disk, or gives it back.
    pub(crate) fn fill(&mut self, full: bool) {
        self.disk.set_capacity(if full { self.disk.used() } else { u64::MAX });
    }

    /// One operation, soon, fails.
    pub(crate) fn fail_soon(&mut self) {
        let at = self.disk.operations() + self.rng.random_range(0..6);
        self.disk.refuse(Some(Refusal { at, onward: false, errno: Errno::EIO }));
    }
}

impl Process {
    /// A datagram reaches the socket. Returns whether there was room for it.
    pub(crate) fn arrive(&mut self, from: SocketAddr, bytes: Vec<u8>) -> bool {
        let room = self.socket.len() < SOCKET_DATAGRAMS;
        if room {
            self.socket.push_back((from, bytes));
        }
        room
    }

    /// One turn of the event loop.
    pub(crate) fn turn(&mut self, local: u64) -> Output {
        if let Some(progress) = self.progress.take() {
            self.replica.stored(local, progress);
        }
        for outcome in std::mem::take(&mut self.outcomes) {
            self.replica.snapshot_outcome(local, outcome);
        }
        for _ in 0..DATAGRAMS_PER_TURN_MAX {
            let Some((source, bytes)) = self.socket.pop_front() else { break };
            self.replica.datagram(local, source, &bytes);
        }
        self.replica.tick(local);
        self.replica.flush(local)
    }

    /// Whether there is something for a turn already.
    pub(crate) fn has_work(&self) -> bool {
        self.progress.is_some() || !self.outcomes.is_empty() || !self.socket.is_empty()
    }

    /// Takes what a turn wants written.
    pub(crate) fn queue(&mut self, records: Vec<(Lsn, Record)>, jobs: Vec<SnapshotJob>) {
        self.queued_turns += u64::from(!records.is_empty());
        self.queued.extend(records);
        self.jobs.extend(jobs);
    }

    /// The disk thread takes the next batch, if it has nothing to do; an empty one, to see whether there is space by now.
    /// Returns of how many turns it is.
    pub(crate) fn begin_batch(&mut self) -> Option<u64> {
        if self.writing.is_some() || (self.queued.is_empty() && !self.out_of_space) {
            return None;
        }
        self.writing = Some(std::mem::take(&mut self.queued));
        Some(std::mem::take(&mut self.queued_turns))
    }

    /// The batch is written and synced, as far as there is space. In an idle moment the next segment is prepared.
    pub(crate) fn complete_batch(&mut self) -> Result<Progress, StorageError> {
        let progress = self.write()?;
        self.out_of_space = progress.out_of_space;
        self.progress = Some(progress);
        if self.queued.is_empty() {
            self.wal.prepare()?;
        }
        Ok(progress)
    }

    fn write(&mut self) -> Result<Progress, StorageError> {
        let batch = self.writing.take().unwrap_or_default();
        self.wal.append(&batch).and_then(|()| self.wal.sync())
    }

    /// The snapshot thread takes the next job, if it has nothing to do.
    pub(crate) fn begin_job(&mut self) -> bool {
        let begin = !self.working && !self.jobs.is_empty();
        self.working |= begin;
        begin
    }

    /// The job is done. Returns whether it failed.
    pub(crate) fn complete_job(&mut self) -> bool {
        let outcome = self.work();
        let failed = matches!(
            outcome,
            Some(SnapshotOutcome::Failed { .. } | SnapshotOutcome::Read { bytes: Err(_), .. })
        );
        self.outcomes.extend(outcome);
        failed
    }

    fn work(&mut self) -> Option<SnapshotOutcome> {
        self.working = false;
        let job = self.jobs.pop_front()?;
        self.worker.run(job)
    }
}
