//! The node's structured record of what it did, one JSON object a line, for checkers and for people.
//! Written by one writer, in causal order, and handed to the kernel before any datagram that a line explains leaves:
//! after a SIGKILL the file holds the reason of everything that others saw. Which properties hold is the checker's business.

use serde::{Deserialize, Serialize};

use crate::raft::types::{DirectoryId, Incarnation, Index, Lsn, NodeId, Term};

/// One line of `trace.jsonl`: an event and when it happened on the machine's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Nanoseconds of CLOCK_MONOTONIC. For people; no check orders two nodes by it.
    pub at: u64,
    /// What the node took for the time instead, if `--clock-file` bent its clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<ShownClocks>,
    /// What happened.
    #[serde(flatten)]
    pub event: TraceEvent,
}

/// What bent clocks showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownClocks {
    /// In place of CLOCK_MONOTONIC, nanoseconds.
    pub monotonic: u64,
    /// The time of day, nanoseconds since 1970.
    pub wall: u64,
}

/// A role as the trace names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceRole {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether an election could succeed, without touching its term (thesis §9.6).
    PreCandidate,
    /// Stands for election in its current term.
    Candidate,
    /// Leads its current term.
    Leader,
}

/// A run of consecutive entries of one term: used to describe a whole log in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRun {
    /// Index of the first entry of the run.
    pub first_index: Index,
    /// Their term.
    pub term: Term,
}

/// What happened. `chain` is a running hash over all entries up to an index: two logs with equal chains at an index are
/// equal up to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TraceEvent {
    /// A process recovered its directory. All of it is durable already (recovery syncs before it believes).
    Boot {
        /// This node.
        node: NodeId,
        /// Which start of this directory.
        incarnation: Incarnation,
        /// Recovered term.
        term: Term,
        /// Recovered vote.
        voted_for: Option<NodeId>,
        /// Last recovered entry, 0 if the log is empty.
        last_index: Index,
        /// Chain at `last_index`, 0 if the log is empty.
        #[serde(with = "hex")]
        chain: u64,
        /// The recovered log as runs of terms, ascending.
        terms: Vec<TermRun>,
        /// Every later `durable` counts from here.
        lsn: Lsn,
        /// The data directory: another one than before was made anew, and remembers nothing.
        #[serde(with = "hex")]
        directory: DirectoryId,
        /// Everything up to here is committed, and applied already, by the snapshot that was recovered; 0 without one.
        snapshot_index: Index,
    },
    /// Term or vote changed in memory; durable once a `durable` reaches `lsn`.
    HardState {
        /// Record that carries it.
        lsn: Lsn,
        /// New term.
        term: Term,
        /// New vote.
        voted_for: Option<NodeId>,
    },
    /// Entries after `last_index` were discarded (a conflict with the leader, §5.3).
    Truncate {
        /// Record that carries it.
        lsn: Lsn,
        /// Last entry that stays.
        last_index: Index,
    },
    /// Entries `prev_index + 1 ..` of one term were appended in memory. The i-th has record `lsn + i`.
    Append {
        /// Record of the first entry.
        lsn: Lsn,
        /// Entry before the first.
        prev_index: Index,
        /// Term of all of them.
        term: Term,
        /// Chain at each of them.
        #[serde(with = "hex_list")]
        chains: Vec<u64>,
    },
    /// A snapshot of the leader's replaced the applied state, and the log up to `last_index`.
    Install {
        /// Record that carries it.
        lsn: Lsn,
        /// Last entry in it.
        last_index: Index,
        /// Its term.
        term: Term,
        /// Chain there.
        #[serde(with = "hex")]
        chain: u64,
        /// Whether the log had that entry already, so that what follows it stays.
        kept: bool,
    },
    /// Every record up to `lsn` survives power loss.
    Durable {
        /// The last such record.
        lsn: Lsn,
    },
    /// The role changed, or the term of the role.
    Role {
        /// New role.
        role: TraceRole,
        /// In this term.
        term: Term,
    },
    /// A granted vote leaves for `to`.
    VoteSent {
        /// The candidate.
        to: NodeId,
        /// Term of the vote.
        term: Term,
    },
    /// An acknowledgement of everything up to `match_index` leaves for the leader `to`.
    AppendAckSent {
        /// The leader.
        to: NodeId,
        /// Its term.
        term: Term,
        /// Last entry known to equal the leader's.
        match_index: Index,
    },
    /// The commit index advanced.
    Commit {
        /// This node's current term.
        term: Term,
        /// New commit index.
        commit_index: Index,
        /// Chain there.
        #[serde(with = "hex")]
        chain: u64,
    },
    /// Entries `first_index ..= last_index` were applied to the state machine.
    Apply {
        /// First of the batch.
        first_index: Index,
        /// Last of the batch.
        last_index: Index,
        /// Chain over the entries that were *applied*, at `last_index`.
        #[serde(with = "hex")]
        chain: u64,
    },
    /// Hash of the whole applied state at an index that every node reports (multiples of 64).
    State {
        /// Last applied entry.
        index: Index,
        /// Hash of state machine and sessions.
        #[serde(with = "hex")]
        hash: u64,
    },
    /// A planted bug's site was passed. Never in a normal build.
    Planted {
        /// Catalogue id.
        bug: String,
        /// How often the site was passed.
        reached: u64,
        /// How often it changed what happened.
        infected: u64,
    },
}

/// 64-bit hashes as 16 hexadecimal digits: JSON numbers lose bits above 2^53 in most readers.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// A list of [`hex`] values.
mod hex_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(values: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|v| format!("{v:016x}")).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|t| u64::from_str_radix(t, 16).map_err(D::Error::custom)).collect()
    }
}
