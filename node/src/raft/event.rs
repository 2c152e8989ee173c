//! The events that a person follows in the log, in the order in which a first election and a first write produce them.
//! How they are printed, and at which level, is the logger's business.

use std::fmt;

use super::types::{Index, LogId, NodeId, Term};

/// How much a reader cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd, service goes on.
    Warn,
    /// What Raft does: elections, entries, commits.
    Info,
    /// What happens many times a second even when nothing does.
    Debug,
}

/// One step of the algorithm that a person may want to see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are those of the messages and of Figure 2
pub enum Event {
    /// No leader was heard for an election timeout.
    ElectionTimeout { term: Term },
    /// Asking for pre-votes, without a new term.
    BecamePreCandidate { term: Term },
    /// Stands for election.
    BecameCandidate { term: Term },
    /// Asks a peer for its vote.
    VoteRequested { to: NodeId, term: Term, last: LogId },
    /// Gives its vote.
    VoteGranted { to: NodeId, term: Term },
    /// Refuses its vote.
    VoteDenied { to: NodeId, term: Term },
    /// Got a vote.
    VoteReceived { from: NodeId, term: Term, votes: usize, needed: usize },
    /// Has a majority.
    ElectionWon { term: Term, votes: usize },
    /// Leads.
    BecameLeader { term: Term },
    /// Follows.
    BecameFollower { term: Term, leader: Option<NodeId> },
    /// Was asked by a client to hand leadership over.
    TransferRequested { to: NodeId, term: Term },
    /// Hands leadership over.
    TransferStarted { to: NodeId, term: Term },
    /// Was asked by the leader to stand for election now.
    TransferReceived { from: NodeId, term: Term },
    /// Handing over took too long; this node goes on as leader.
    TransferAborted { to: NodeId, term: Term },
    /// Gave up leadership because no majority answered.
    QuorumLost { term: Term },
    /// Entries arrived from the leader.
    AppendReceived { from: NodeId, term: Term, prev: LogId, entries: usize },
    /// The leader's entries do not fit behind this log.
    AppendRejected { from: NodeId, prev: LogId, last: LogId },
    /// Commands arrived to be proposed.
    ProposalReceived { count: usize },
    /// Entries were appended to the own log.
    Appended { first: Index, last: LogId },
    /// Entries after this one were discarded.
    Truncated { last_index: Index },
    /// A follower has everything up to `match_index`.
    Replicated { to: NodeId, match_index: Index, next_index: Index },
    /// The leader's commit index advanced.
    Committed { commit_index: Index, term: Term },
    /// An entry was applied to the state machine.
    Applied { index: Index, command: String },
    /// A follower learnt a new commit index.
    FollowerCommitted { commit_index: Index },
    /// A new configuration is in force.
    MembershipChanged { index: Index, membership: String },
    /// This node is not in the committed configuration and leads no longer.
    Removed { term: Term },
    /// Two clocks that go alike did not: no lease and no promise is measured with what they showed.
    ClockJumped,
    /// An empty directory may vote.
    Admitted,
    /// Another node knows this one with another directory.
    Forgotten { by: NodeId },
    /// A snapshot stands for a prefix of the log.
    Compacted { last: LogId, first_index: Index },
    /// A follower needs entries that the log does not hold any more.
    SnapshotOffered { to: NodeId, last: LogId },
    /// The state was replaced by a snapshot of the leader's.
    SnapshotInstalled { last: LogId },
    /// A snapshot that was fetched is not what was offered.
    SnapshotRefused { last: LogId },
    /// A snapshot could not be written, read or removed. Nothing depends on it.
    SnapshotFailed { last: LogId, reason: String },
    /// What the disk had lost is there again.
    Recovered { last: LogId },
    /// The disk is full, or not any more.
    Space { out: bool },
    /// Another node claims to lead the term that this node leads.
    ConflictingLeader { from: NodeId, term: Term },
}

impl Event {
    /// Its level.
    pub fn level(&self) -> Level {
        match self {
            Event::ConflictingLeader { .. } | Event::SnapshotFailed { .. } | Event::Space { out: true } => {
                Level::Error
            }
            Event::QuorumLost { .. }
            | Event::TransferAborted { .. }
            | Event::Removed { .. }
            | Event::ClockJumped
            | Event::SnapshotRefused { .. }
            | Event::Recovered { .. }
            | Event::Forgotten { .. } => Level::Warn,
            Event::AppendRejected { .. } | Event::VoteDenied { .. } | Event::SnapshotOffered { .. } => {
                Level::Debug
            }
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::ElectionTimeout { term } => write!(f, "election timeout in term {term}, no leader heard"),
            Event::BecamePreCandidate { term } => write!(f, "became pre-candidate in term {term}"),
            Event::BecameCandidate { term } => write!(f, "became candidate for term {term}"),
            Event::VoteRequested { to, term, last } => {
                write!(f, "sending vote request to n{to} for term {term}, last entry {last}")
            }
            Event::VoteGranted { to, term } => write!(f, "granted vote to n{to} for term {term}"),
            Event::VoteDenied { to, term } => write!(f, "denied vote to n{to} for term {term}"),
            Event::VoteReceived { from, term, votes, needed } => {
                write!(f, "received vote from n{from} for term {term}, {votes} of {needed} needed")
            }
            Event::ElectionWon { term, votes } => {
                write!(f, "won election for term {term} with {votes} votes")
            }
            Event::BecameLeader { term } => write!(f, "became leader for term {term}"),
            Event::BecameFollower { term, leader: Some(leader) } => {
                write!(f, "became follower of n{leader} in term {term}")
            }
            Event::BecameFollower { term, leader: None } => write!(f, "became follower in term {term}"),
            Event::TransferRequested { to, term } => {
                write!(f, "a client asks to hand leadership of term {term} over to n{to}")
            }
            Event::TransferStarted { to, term } => {
                write!(f, "handing leadership of term {term} over to n{to}")
            }
            Event::TransferReceived { from, term } => {
                write!(f, "leader n{from} of term {term} asks this node to stand for election")
            }
            Event::TransferAborted { to, term } => {
                write!(f, "n{to} did not take over in time; still leader of term {term}")
            }
            Event::QuorumLost { term } => {
                write!(f, "stepped down in term {term}: no majority answered within an election timeout")
            }
            Event::AppendReceived { from, term, prev, entries } => {
                write!(
                    f,
                    "received append from leader n{from} in term {term}: {entries} entries after {prev}"
                )
            }
            Event::AppendRejected { from, prev, last } => {
                write!(f, "rejected append from n{from}: no entry {prev} here, last entry {last}")
            }
            Event::ProposalReceived { count } => write!(f, "received proposal of {count} commands"),
            Event::Appended { first, last } if *first == last.index => write!(f, "appended entry {last}"),
            Event::Appended { first, last } => write!(f, "appended entries {first} to {last}"),
            Event::Truncated { last_index } => write!(f, "discarded entries after {last_index}"),
            Event::Replicated { to, match_index, next_index } => {
                write!(f, "append to n{to} succeeded, next_index {next_index}, match_index {match_index}")
            }
            Event::Committed { commit_index, term } => {
                write!(f, "leader committed up to index {commit_index} in term {term}")
            }
            Event::Applied { index, command } => {
                write!(f, "applied entry {index} to state machine: {command}")
            }
            Event::FollowerCommitted { commit_index } => {
                write!(f, "follower advanced commit_index to {commit_index}")
            }
            Event::MembershipChanged { index, membership } => {
                write!(f, "membership since entry {index}: {membership}")
            }
            Event::Removed { term } => {
                write!(f, "stepped down in term {term}: this node was removed from the cluster")
            }
            Event::ClockJumped => write!(f, "the clock jumped: no lease until it was measured anew"),
            Event::Admitted => {
                write!(f, "the data directory is empty and nobody misses another one: may vote")
            }
            Event::Forgotten { by } => {
                write!(
                    f,
                    "n{by} knows this node with another data directory: it votes again once it has caught up"
                )
            }
            Event::Compacted { last, first_index } => {
                write!(f, "snapshot at {last} is durable, the log begins at index {first_index}")
            }
            Event::SnapshotOffered { to, last } => write!(f, "offering snapshot at {last} to n{to}"),
            Event::SnapshotInstalled { last } => write!(f, "installed snapshot at {last}"),
            Event::SnapshotRefused { last } => {
                write!(f, "the snapshot at {last} that was fetched is damaged; fetching it again")
            }
            Event::SnapshotFailed { last, reason } => write!(f, "snapshot at {last}: {reason}"),
            Event::Recovered { last } => {
                write!(f, "what the disk had lost is there again, up to {last}: no restriction any more")
            }
            Event::Space { out: true } => {
                write!(f, "the disk is full: reads and votes go on, writes are refused until there is space")
            }
            Event::Space { out: false } => write!(f, "there is space on the disk again"),
            Event::ConflictingLeader { from, term } => {
                write!(f, "n{from} claims to lead term {term}, which this node leads; message dropped")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_is_told_louder_than_what_happens_all_the_time() {
        let last = LogId { term: 2, index: 7 };
        for (event, level) in [
            (Event::Space { out: true }, Level::Error),
            (Event::ConflictingLeader { from: 2, term: 1 }, Level::Error),
            (Event::SnapshotFailed { last, reason: String::new() }, Level::Error),
            (Event::QuorumLost { term: 1 }, Level::Warn),
            (Event::ClockJumped, Level::Warn),
            (Event::Recovered { last }, Level::Warn),
            (Event::Space { out: false }, Level::Info),
            (Event::BecameLeader { term: 1 }, Level::Info),
            (Event::VoteDenied { to: 2, term: 1 }, Level::Debug),
            (Event::SnapshotOffered { to: 2, last }, Level::Debug),
        ] {
            assert_eq!(event.level(), level, "{event:?}");
        }
        let appended = |first| Event::Appended { first, last }.to_string();
        assert_ne!(appended(7), appended(6), "one entry or several");
    }
}
