//! The nouns of the paper's Figure 2: ids, terms, indexes, entries and the state that must survive a crash.
//! What travels between nodes is in [`super::message`].

use std::fmt;
use std::sync::Arc;

/// A member of the cluster: its position in the peer list, counted from 1. 0 is never a node.
pub type NodeId = u32;
/// A logical clock of elections (§5.1). 0 is before the first election.
pub type Term = u64;
/// A position in the Raft log, counted from 1. 0 is the empty position before the first entry.
pub type Index = u64;
/// The highest term, index or round that a message may carry. No honest counter comes near it, and below it no sum of the
/// algorithm overflows, whatever a datagram claims.
pub const NUMBER_MAX: u64 = 1 << 62;
/// The sequence number of a record in the write-ahead log. Everything up to a durable `Lsn` survives power loss.
pub type Lsn = u64;
/// How often this data directory has been opened, counted from 1: tells a restarted process from its predecessor.
pub type Incarnation = u64;

/// The identity of an entry: no two different entries of one history share both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the leader that created the entry. First, so that `Ord` is the up-to-date comparison of §5.4.1.
    pub term: Term,
    /// Position of the entry.
    pub index: Index,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Appended by each new leader so that entries of earlier terms commit (§8, thesis §6.4).
    Noop,
    /// An encoded [`crate::kv::command::Command`]. Shared, because the log, the disk queue and the datagrams all hold it.
    Command(Arc<[u8]>),
}

impl Payload {
    /// The bytes that go to disk and into datagrams; a no-op has none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Noop => &[],
            Payload::Command(bytes) => bytes,
        }
    }
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Position and term.
    pub id: LogId,
    /// Content.
    pub payload: Payload,
}

/// Term and vote: what a node must not forget between two elections (Figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Whom this node voted for in `term`.
    pub voted_for: Option<NodeId>,
}

/// One step of durable state, in the order in which it must reach the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A process opened the directory. The first record of each incarnation.
    Boot {
        /// The incarnation that begins here.
        incarnation: Incarnation,
    },
    /// Term and vote from here on.
    HardState(HardState),
    /// Every entry after `last_index` is gone. Explicit, because an implied truncation is lost when recovery
    /// skips the record that implied it (etcd#22442).
    Truncate {
        /// The last entry that stays.
        last_index: Index,
    },
    /// An entry, at the position after the last one.
    Entry(Entry),
}
