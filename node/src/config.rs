//! Every knob of a node: its unit in its name, its default, its bound. Where the values come from is the command line's business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::raft::RaftConfig;
use crate::raft::event::Level;
use crate::raft::log::AppendBounds;
use crate::raft::membership::{MEMBERS_MAX, Membership};
use crate::raft::types::{NodeId, ProcessId, SnapshotMark};
use crate::replica::ReplicaConfig;
use crate::transport::key::Key;
use crate::transport::{frame, message_codec};

/// The cluster that nodes and clients belong to unless told otherwise.
pub const CLUSTER_DEFAULT: &str = "whitewater";
/// Shortest election timeout. Above the article's 150 ms: an fdatasync on a shared disk takes up to tens of milliseconds.
pub const ELECTION_TIMEOUT_MS_MIN: u64 = 200;
/// Longest election timeout.
pub const ELECTION_TIMEOUT_MS_MAX: u64 = 400;
/// How often an idle leader speaks.
pub const HEARTBEAT_INTERVAL_MS: u64 = 50;
/// By how much of a second the clock of a node may go wrong in one, percent, where leases are counted on. Crystals stay below 0.02.
pub const CLOCK_DRIFT_PERCENT_MAX: u64 = 5;
/// Pipelined appends to one follower: 64 datagrams stay below the receive buffer that an unprivileged socket gets.
pub const INFLIGHT_MAX: usize = 64;
/// Bytes of payloads on their way to one follower.
pub const INFLIGHT_BYTES_MAX: usize = 4 << 20;
/// Entries that a leader appends beyond its commit index.
pub const UNCOMMITTED_MAX: u64 = 16_384;
/// Bytes in the payloads of those entries.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// Requests that a node holds.
pub const REQUESTS_MAX: usize = 16_384;
/// How long a request is remembered without an answer. Longer than a client waits for one attempt.
pub const REQUEST_TIMEOUT_MS: u64 = 5_000;
/// Bytes of records that may wait for the disk.
pub const UNSYNCED_BYTES_MAX: usize = 16 << 20;
/// Votes and acknowledgements that may wait for the disk. More are dropped, like any datagram.
pub const GATED_MESSAGES_MAX: usize = 4_096;
/// Who may wait for one write: a client, through each node that it tried.
pub const WAITERS_PER_WRITE_MAX: usize = 16;
/// Entries that are applied before the socket is looked at again: a node with a long log to apply is not silent over it.
pub const APPLY_PER_TURN_MAX: u64 = 4_096;
/// Entries after which the state is written to a snapshot.
pub const SNAPSHOT_ENTRIES: u64 = 250_000;
/// Bytes of entries after which it is, however few they are: what a restart has to read again.
pub const SNAPSHOT_BYTES: u64 = 32 << 20;
/// Entries before a snapshot that stay in the log: a follower that missed a moment needs no snapshot.
pub const TRAILING_ENTRIES: u64 = 10_000;
/// Appends that wait until what they refer to was fetched.
pub const HELD_APPENDS_MAX: usize = 64;
/// Bytes of entries that a follower fetches from its leader at a time.
pub const ENTRY_PULL_BYTES_MAX: usize = 8 << 20;
/// Requests that are fetched from clients at a time, because they do not fit into a datagram.
pub const REQUEST_PULLS_MAX: usize = 64;
/// Bytes of those requests.
pub const REQUEST_PULL_BYTES_MAX: usize = 32 << 20;
/// Bytes of responses that wait to be fetched by clients, because they do not fit into a datagram.
pub const RESPONSE_BYTES_HELD_MAX: usize = 32 << 20;
/// Chunks that are asked for and not here. As many fit into the receive buffer that an unprivileged socket gets.
pub const PULL_WINDOW: usize = 96;
/// Chunks that are sent in one turn.
pub const CHUNKS_PER_TURN_MAX: usize = 512;
/// How long an object on its way is remembered when nothing is heard of it.
pub const TRANSFER_IDLE_MS: u64 = 2_000;
/// How long a stopping leader waits for its successor.
pub const LEAVE_WAIT_MS: u64 = 1_000;
/// Datagrams that are taken of peers, and then of clients, before their effects are carried out.
pub const DATAGRAMS_PER_TURN_MAX: usize = 256;
/// Receive buffer that is asked for; the kernel may grant less.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Lines for people that may wait for a slow stderr before they are dropped, and counted.
pub const LOG_LINES_MAX: usize = 8_192;

/// What a node needs to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This node: its position in `addresses`, from 1, unless it joins.
    pub id: NodeId,
    /// The voters that found the cluster, this node included; position = id. Empty for a node that joins one later. They
    /// count when the directory is empty; after that the log says who belongs to the cluster.
    pub addresses: Vec<SocketAddr>,
    /// Where this node finds others, whatever the log says. The founders are found at `addresses` unless they stand here.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Where it listens, if not at its own address of the list.
    pub listen: Option<SocketAddr>,
    /// Name of the cluster.
    pub cluster: String,
    /// Its key; `None`: whoever reaches the port is believed.
    pub key: Option<Key>,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Whether it writes `trace.jsonl` into the data directory.
    pub trace: bool,
    /// Where it answers over HTTP with its status and metrics; nowhere if `None`.
    pub http: Option<SocketAddr>,
    /// The least urgent line for people that is printed.
    pub level: Option<Level>,
    /// Whether those lines are JSON objects.
    pub log_json: bool,
    /// Shortest election timeout.
    pub election_timeout_ms_min: u64,
    /// Longest election timeout.
    pub election_timeout_ms_max: u64,
    /// How often an idle leader speaks.
    pub heartbeat_interval_ms: u64,
    /// Whether a leader answers reads without a round while a majority has promised to elect nobody else.
    pub lease_reads: bool,
    /// Whether what is not flushed stays in the memory of the process, for SIGKILL to take.
    pub unsynced_in_memory: bool,
    /// By how much the clock of any member may go wrong, percent.
    pub clock_drift_percent_max: u64,
    /// Entries after which the state is written to a snapshot, and the log begins later.
    pub snapshot_entries: u64,
    /// Entries before a snapshot that are kept for followers that are a little behind.
    pub trailing_entries: u64,
}

/// A configuration that no node can run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The id is no position in the list.
    #[error("node id {id} is not a position in the list of {nodes} addresses")]
    Id {
        /// The id.
        id: NodeId,
        /// Length of the list.
        nodes: usize,
    },
    /// A node that joins has no address of its own to listen at.
    #[error(
        "a node that joins a cluster needs an id of 1 or more and --listen, for it stands in no list of addresses"
    )]
    Join,
    /// More than a membership can hold.
    #[error("{0} addresses, at most 64")]
    Many(usize),
    /// Without entries between two snapshots there is nothing else to do.
    #[error("a snapshot must be at least 1 entry after the one before it")]
    Snapshots,
    /// Two nodes at one address.
    #[error("the address {0} stands twice in the list")]
    Twice(SocketAddr),
    /// Timeouts that elect nobody.
    #[error(
        "the election timeout must be {min} <= {max} ms and at least 3 heartbeat intervals of {heartbeat} ms (1 or more)"
    )]
    Timeouts {
        /// Shortest election timeout, ms.
        min: u64,
        /// Longest election timeout, ms.
        max: u64,
        /// Heartbeat interval, ms.
        heartbeat: u64,
    },
    /// A clock that tells nothing.
    #[error("the clocks may go wrong by 0 to 50 percent, not {0}")]
    Drift(u64),
}

impl ServerConfig {
    /// Checks what no type can.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let nodes = self.addresses.len();
        if nodes == 0 && (self.id == 0 || self.listen.is_none()) {
            return Err(ConfigError::Join);
        }
        if nodes > 0 && (self.id == 0 || self.id as usize > nodes) {
            return Err(ConfigError::Id { id: self.id, nodes });
        }
        if nodes > MEMBERS_MAX {
            return Err(ConfigError::Many(nodes));
        }
        if self.snapshot_entries == 0 {
            return Err(ConfigError::Snapshots);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.addresses.iter().find(|address| !seen.insert(**address)) {
            return Err(ConfigError::Twice(*twice));
        }
        let (min, max) = (self.election_timeout_ms_min, self.election_timeout_ms_max);
        let heartbeat = self.heartbeat_interval_ms;
        if heartbeat == 0 || min < heartbeat.saturating_mul(3) || max < min || max > 3_600_000 {
            return Err(ConfigError::Timeouts { min, max, heartbeat });
        }
        if self.clock_drift_percent_max > 50 {
            return Err(ConfigError::Drift(self.clock_drift_percent_max));
        }
        Ok(())
    }

    /// What is left of the shortest election timeout, ns, if the clock that measures it is as fast as it may be, and this one as slow.
    fn lease(&self) -> u64 {
        let drift = self.clock_drift_percent_max;
        self.election_timeout_ms_min * 1_000_000 / (100 + drift) * 100u64.saturating_sub(drift)
    }

    /// Where this node listens, in a configuration that [`ServerConfig::validate`] lets pass.
    pub fn listen(&self) -> SocketAddr {
        let own = self.addresses.get((self.id as usize).wrapping_sub(1)).copied();
        self.listen.or(own).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Where this node was told to find another; `None` if the log has to say it.
    pub fn peer(&self, id: NodeId) -> Option<SocketAddr> {
        let listed = || self.addresses.get((id as usize).wrapping_sub(1)).copied();
        self.peers.get(&id).copied().or_else(listed)
    }

    /// Where the log of an empty directory begins: at index 0, with the founders as members.
    pub fn founding_mark(&self) -> SnapshotMark {
        let voters = (1..).zip(self.addresses.iter().map(SocketAddr::to_string));
        let membership = Arc::from(Membership::of_voters(voters).encode());
        SnapshotMark { membership, ..SnapshotMark::default() }
    }

    /// The replica's part, for the process that it is.
    pub fn replica(&self, process: ProcessId) -> ReplicaConfig {
        const MS: u64 = 1_000_000;
        ReplicaConfig {
            raft: RaftConfig {
                id: self.id,
                process,
                election_timeout_min: self.election_timeout_ms_min * MS,
                election_timeout_max: self.election_timeout_ms_max * MS,
                heartbeat_interval: self.heartbeat_interval_ms * MS,
                lease: if self.lease_reads { self.lease() } else { 0 },
                append: AppendBounds {
                    message_bytes: message_codec::APPEND_BYTES_MAX,
                    entry_overhead: message_codec::ENTRY_OVERHEAD,
                    inline_bytes: message_codec::INLINE_BYTES_MAX,
                    inflight_messages: INFLIGHT_MAX,
                    inflight_bytes: INFLIGHT_BYTES_MAX,
                },
                trailing_entries: self.trailing_entries,
            },
            cluster_id: frame::cluster_id(&self.cluster),
            key: self.key.clone(),
            process,
            uncommitted_max: UNCOMMITTED_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            requests_max: REQUESTS_MAX,
            request_timeout: REQUEST_TIMEOUT_MS * MS,
            unsynced_bytes_max: UNSYNCED_BYTES_MAX,
            gated_messages_max: GATED_MESSAGES_MAX,
            apply_per_turn_max: APPLY_PER_TURN_MAX,
            snapshot_entries: self.snapshot_entries,
            snapshot_bytes: SNAPSHOT_BYTES,
            waiters_per_write_max: WAITERS_PER_WRITE_MAX,
            held_appends_max: HELD_APPENDS_MAX,
            entry_pull_bytes_max: ENTRY_PULL_BYTES_MAX,
            request_pulls_max: REQUEST_PULLS_MAX,
            request_pull_bytes_max: REQUEST_PULL_BYTES_MAX,
            response_bytes_max: RESPONSE_BYTES_HELD_MAX,
            pull_window: PULL_WINDOW,
            chunks_per_turn_max: CHUNKS_PER_TURN_MAX,
            transfer_idle: TRANSFER_IDLE_MS * MS,
            tracing: self.trace,
            level: self.level,
        }
    }
}
