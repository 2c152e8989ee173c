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
/// Drawn at random when a data directory is made: tells a node whose directory was wiped from its former self, which may
/// have voted and acknowledged what the new one does not remember. 0 is no directory.
pub type DirectoryId = u64;

/// Which process a message is from: the directory that it remembers by, and which opening of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Its directory.
    pub directory: DirectoryId,
    /// Which opening of the directory.
    pub incarnation: Incarnation,
}

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
    /// An encoded [`super::membership::Membership`], in force from the moment it is appended (§6). As bytes, because that is
    /// how it travels and lies on disk; whoever lets such an entry in has checked that it decodes.
    Membership(Arc<[u8]>),
}

impl Payload {
    /// The bytes that go to disk and into datagrams; a no-op has none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Noop => &[],
            Payload::Command(bytes) | Payload::Membership(bytes) => bytes,
        }
    }

    /// The same bytes, shared.
    pub fn shared_bytes(&self) -> Arc<[u8]> {
        match self {
            Payload::Noop => Arc::default(),
            Payload::Command(bytes) | Payload::Membership(bytes) => Arc::clone(bytes),
        }
    }

    /// What kind it is, as a number in datagrams and in the chain over a log. Never reused.
    pub fn kind(&self) -> u8 {
        match self {
            Payload::Noop => 0,
            Payload::Command(_) => 1,
            Payload::Membership(_) => 2,
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
    /// From here on the log begins after `base`, and what `last` and all before it did is in a snapshot.
    Snapshot(SnapshotMark),
    /// From here on this restriction holds; with `None`, none does any more.
    Recovering(Option<Recovering>),
}

/// What a node may not do, because its disk lost something that was durable. Storage finds it and keeps it, over further
/// restarts, until [`Record::Recovering`] with `None` is durable.
///
/// While it holds, the node is no candidate, leads nothing and serves nothing that a lease or a majority with it would prove;
/// it appends, acknowledges what its log has *now*, and answers pre-votes and votes as the fields allow. It ends when the log
/// is durable up to `last.index` and up to the last entry that a leader had when it first heard from this process: everything
/// that the node ever acknowledged and that was committed is then in its log again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recovering {
    /// The last entry that the log is known to have had.
    pub last: LogId,
    /// Whether `last` was the last for sure. Then a candidate whose log is at least as up to date as `last`, rather than as
    /// what is left, may have this node's vote. Otherwise nobody may: an entry that the node acknowledged may be one that
    /// nobody knows of any more.
    pub last_known: bool,
    /// Whether the recovered term and vote are the last for sure. Otherwise the node may have voted in any later term: it
    /// votes again only above every term that any member was in when it caught up, for those it may have voted in before. The same
    /// where the mark is lost that says which directories it knows the members by: it may have counted others.
    pub vote_known: bool,
}

/// What a node must know of a snapshot to go on from it. The first record of a directory after its `Boot` is a mark at index
/// 0, which has no snapshot file: it holds the membership that the node was started with.
///
/// Replayed: entries up to `base` are dropped if the log has `base`, otherwise the whole log is. Whatever the log holds at
/// `base + 1 ..= last` is committed, and in the snapshot already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMark {
    /// The last entry in the snapshot. It is committed and applied.
    pub last: LogId,
    /// Chain over the log at `last`.
    pub chain: u64,
    /// The entry after which the log begins; `last` itself, or one before it whose successors are kept for slow followers.
    pub base: LogId,
    /// Chain over the log at `base`.
    pub base_chain: u64,
    /// The encoded membership that was in force at `last`.
    pub membership: Arc<[u8]>,
}
