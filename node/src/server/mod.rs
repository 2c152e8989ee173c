//! The one event loop of a node: completed writes, datagrams and time go into the replica; trace lines, records and datagrams
//! come out, and are carried out in this order. What they are is the replica's business.

mod disk_thread;
mod http;
mod logger;
mod scrub_thread;
mod shared;
mod snapshot_thread;
mod sockets;
mod trace_file;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};
use rand::{SeedableRng, TryRng, rngs::SysRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::clock::{ClockWatch, monotonic_ns};
use crate::config::{ConfigError, LEAVE_WAIT_MS, ServerConfig};
use crate::raft::Recovered;
use crate::raft::event::Level;
use crate::raft::message::SnapshotOffer;
use crate::raft::types::ProcessId;
use crate::replica::{Destination, RecoveredState, Replica};
use crate::storage::SnapshotMeta;
use crate::storage::scrub::Scrubber;
use crate::storage::snapshot_job::SnapshotJob;
use crate::storage::{
    Condition, Disk, ForgetfulDisk, Identity, RealDisk, SnapshotDir, StorageError, Wal, snapshot_file,
};
use crate::transport::frame;
use disk_thread::DiskThread;
use http::Http;
use logger::Logger;
use scrub_thread::ScrubThread;
use snapshot_thread::SnapshotThread;
use sockets::Sockets;
use trace_file::TraceFile;

/// Between two looks at how many datagrams the kernel had no room for, ns.
const LOST_INTERVAL: u64 = 500_000_000;

/// Why a node stopped, other than by request.
#[derive(Debug, Error)]
pub enum ServerError {
    /// It cannot run like this.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its storage refused its data, or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The trace cannot be written: without it nothing may leave that it should explain.
    #[error("cannot write the trace {}: {source}", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something that it never refuses.
    #[error("cannot {action}: {source}")]
    System {
        /// What.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl ServerError {
    /// The exit code of `node serve`.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServerError::Config(_) => 64,
            ServerError::Storage(error) => error.exit_code(),
            ServerError::Trace { .. } => 74,
            ServerError::Listen { .. } | ServerError::System { .. } => 3,
        }
    }

    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            ServerError::Config(_) => {
                "node serve ID ADDRESS1 ADDRESS2 …, where ID is this node's position in the list"
            }
            ServerError::Listen { .. } => {
                "another process may hold the address (see `ss -ulpn`); choose another one, or pass --listen"
            }
            ServerError::Storage(error) => error.hint(),
            ServerError::Trace { .. } => "check free space and permissions, or start without --trace",
            ServerError::System { .. } => "check the limits of this process (ulimit -n)",
        }
    }
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> ServerError {
    move |errno| ServerError::System { action, source: errno.into() }
}

/// Serves until `stop` is set. A leader hands over before it stops, so that nobody waits for an election timeout.
///
/// # Errors
/// See [`ServerError`]. After a storage failure nothing more was sent.
pub fn serve(config: &ServerConfig, stop: &AtomicBool) -> Result<(), ServerError> {
    config.validate()?;
    let logger = Logger::start(config.id, config.level, config.log_json);
    let identity = Identity { cluster_id: frame::cluster_id(&config.cluster), node_id: config.id };
    let files: Arc<dyn Disk> = match config.unsynced_in_memory {
        true => Arc::new(ForgetfulDisk::default()),
        false => Arc::new(RealDisk),
    };
    if config.addresses.len() == 1 {
        // What a lone node lost, nobody can give back: going on without it would hide that.
        Wal::check(&files, &config.data_dir, &identity)?;
    }
    let founding = Some(config.founding_mark());
    let (wal, recovered) = Wal::open(files.clone(), &config.data_dir, &identity, founding)?;
    let address = config.listen();
    let listen = |source| ServerError::Listen { address, source };
    let mut sockets = Sockets::bind(address).map_err(listen)?;
    let mut trace = match config.trace {
        true => Some(TraceFile::open(&config.data_dir)?),
        false => None,
    };
    for note in &recovered.notes {
        logger.line(Level::Warn, note);
    }
    logger.line(
        Level::Info,
        &format!(
            "serving on {address} as node {} of {}, data directory {}, incarnation {}, term {}, {} entries recovered",
            config.id,
            config.addresses.len(),
            config.data_dir.display(),
            recovered.incarnation,
            recovered.hard_state.term,
            recovered.entries.len(),
        ),
    );
    let snapshots = SnapshotDir::new(files.clone(), &config.data_dir, &identity);
    let mark = recovered.mark.unwrap_or_else(|| config.founding_mark());
    let (snapshot, state) = recovered.snapshot.and_then(opened).unzip();
    let mut seed = [0; 32];
    SysRng
        .try_fill_bytes(&mut seed)
        .map_err(|e| ServerError::System { action: "draw a random seed", source: io::Error::other(e) })?;
    let mut replica = Replica::new(
        config.replica(ProcessId { directory: recovered.directory_id, incarnation: recovered.incarnation }),
        ChaCha8Rng::from_seed(seed),
        monotonic_ns(),
        RecoveredState {
            raft: Recovered {
                hard_state: recovered.hard_state,
                mark,
                snapshot,
                entries: recovered.entries,
                recovering: match recovered.condition {
                    Condition::Sound => None,
                    Condition::Recovering(recovering) => Some(recovering),
                },
                last_lsn: recovered.last_lsn,
            },
            state,
        },
    );
    let disk = DiskThread::start(wal)?;
    let mut snapshots = Snapshots { thread: SnapshotThread::start(snapshots)?, backlog: VecDeque::new() };
    let scrub = ScrubThread::start(Scrubber::new(files, &config.data_dir))?;
    let mut http = config.http.map(Http::start).transpose()?;
    let mut outgoing = Vec::new();
    let mut leave_by = None;
    let mut lost_looked_at = 0;
    let mut time = Time { watch: config.lease_reads.then(ClockWatch::default) };
    loop {
        if stop.load(Ordering::Relaxed) {
            let now = monotonic_ns();
            let deadline = *leave_by.get_or_insert_with(|| {
                replica.leave(now);
                now + LEAVE_WAIT_MS * 1_000_000
            });
            if replica.may_leave() || now >= deadline {
                break;
            }
        }
        wait(&sockets, &disk, &snapshots.thread, replica.next_deadline())?;
        if let Some(progress) = disk.completed()? {
            let now = time.now(&mut replica);
            replica.stored(now, progress);
        }
        for outcome in snapshots.thread.completed()? {
            let now = time.now(&mut replica);
            replica.snapshot_outcome(now, outcome);
        }
        // Each at a time after it came, however long this process was stopped before it took it: a lease is to be over by then.
        sockets.receive(|source, datagram| {
            let now = time.now(&mut replica);
            replica.datagram(now, source, datagram);
        });
        // After the datagrams: a node that was stopped for a while first hears the leader, then counts the silence.
        let now = time.now(&mut replica);
        if now >= lost_looked_at + LOST_INTERVAL {
            lost_looked_at = now;
            replica.lost_by_kernel(sockets.lost());
        }
        replica.tick(now);
        let output = replica.flush(now);
        output.events.into_iter().for_each(|event| logger.event(event));
        if let Some(trace) = &mut trace {
            trace.write(&output.trace)?;
        }
        disk.write(output.records);
        snapshots.give(output.snapshot_jobs);
        outgoing.extend(output.datagrams.into_iter().filter_map(|(destination, datagram)| {
            let to = match destination {
                Destination::Node(id) => config.peer(id).or_else(|| replica.address_of(id)),
                Destination::Client(address) => Some(address),
            };
            // Lost like any datagram, where nobody knows an address: whoever needs it asks again.
            Some((to?, datagram))
        }));
        sockets.send(&outgoing);
        outgoing.clear();
        for damage in scrub.damage() {
            logger.line(Level::Error, &damage);
        }
        if let Some(http) = &mut http {
            http.refresh(now, || replica.status(now), disk.latency(), scrub.scrubbed());
        }
    }
    logger.line(Level::Info, "stopped by request");
    Ok(())
}

/// The clock, and who watches it where leases count on it.
struct Time {
    watch: Option<ClockWatch>,
}

impl Time {
    /// Nothing is done at a time that a clock shows that went wrong before the replica has heard that it did.
    fn now(&mut self, replica: &mut Replica) -> u64 {
        let Some(watch) = &mut self.watch else { return monotonic_ns() };
        let (now, moved) = watch.look();
        if moved {
            replica.clock_jumped(now);
        }
        now
    }
}

/// The snapshot thread, and the jobs that it has no room for yet: the replica bounds how many there are.
struct Snapshots {
    thread: SnapshotThread,
    backlog: VecDeque<SnapshotJob>,
}

impl Snapshots {
    fn give(&mut self, jobs: Vec<SnapshotJob>) {
        self.backlog.extend(jobs);
        while let Some(job) = self.backlog.pop_front() {
            if let Err(refused) = self.thread.offer(job) {
                self.backlog.push_front(refused);
                return;
            }
        }
    }
}

/// The snapshot that a recovered log begins after: what it is called in an offer, and the state in it.
fn opened((meta, image): (SnapshotMeta, Vec<u8>)) -> Option<(SnapshotOffer, Vec<u8>)> {
    // Recovery has checked every byte; only where the state stands in them is looked up here.
    let state = snapshot_file::verify(&image, None).ok()?.state();
    Some((SnapshotOffer { last: meta.last, size: meta.size, root: meta.root }, state))
}

/// Sleeps until a datagram, a completed write, an outcome of a snapshot, the deadline or a signal.
fn wait(
    sockets: &Sockets,
    disk: &DiskThread,
    snapshots: &SnapshotThread,
    deadline: u64,
) -> Result<(), ServerError> {
    let [peers, clients] = sockets.as_fds();
    let mut fds =
        [peers, clients, disk.as_fd(), snapshots.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let left = deadline.saturating_sub(monotonic_ns());
    let timeout = TimeSpec::nanoseconds(i64::try_from(left).unwrap_or(i64::MAX));
    match ppoll(&mut fds, Some(timeout), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(system("wait for the socket")(errno)),
    }
}
