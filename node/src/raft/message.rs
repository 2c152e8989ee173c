//! What one node tells another. Each message is complete in one datagram and idempotent: loss, duplication and reordering
//! change when things happen, never what happens. The bytes are the transport's business.

use super::types::{DirectoryId, Entry, Index, LogId, NodeId, ProcessId, Term};

/// A message with its addresses and the sender's term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// The sender's current term when it sent.
    pub term: Term,
    /// Content.
    pub message: Message,
}

/// The messages of Figure 2, and pre-vote (thesis §9.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// "Would you vote for me in `candidate_term`?" Changes nobody's term or vote.
    PreVoteRequest {
        /// The term the sender would stand in: its current term + 1.
        candidate_term: Term,
        /// Its last entry.
        last: LogId,
    },
    /// Answer to [`Message::PreVoteRequest`].
    PreVoteReply {
        /// The term that was asked about.
        candidate_term: Term,
        /// Whether a vote would be granted.
        granted: bool,
    },
    /// RequestVote of Figure 2.
    VoteRequest {
        /// The candidate's last entry.
        last: LogId,
        /// The leader itself asked for this election: a live leader is no reason to refuse (thesis §4.2.3).
        transfer: bool,
    },
    /// Its result.
    VoteReply {
        /// Whether the vote was granted in the envelope's term.
        granted: bool,
    },
    /// "Have you met me, and with which directory?" Asked before a first vote, see `admission`, and by a node whose disk lost
    /// something, see `recovering`.
    Hello,
    /// Answer to [`Message::Hello`].
    HelloReply {
        /// The process that asked. What was said to the one before it, of the same node and perhaps of another directory, may come
        /// late, and says nothing about this one.
        asked_by: ProcessId,
        /// Whether the answering node has a directory in which nothing has ever happened.
        blank: bool,
        /// The directory by which it knows the one that asked; 0 if it does not.
        known: DirectoryId,
        /// The last entry of its log, if it leads the envelope's term.
        leads: Option<Index>,
    },
    /// "Stand for election now": the leader hands over to a follower that has all of its log (thesis §3.10).
    TimeoutNow,
    /// AppendEntries of Figure 2; a heartbeat if `entries` is empty.
    Append {
        /// The entry before the first of `entries`.
        prev: LogId,
        /// The leader's commit index.
        commit_index: Index,
        /// The leader's read round: an echo of it confirms every read that was waiting for that round (§8, thesis §6.4).
        round: u64,
        /// Consecutive entries after `prev`.
        entries: Vec<Entry>,
    },
    /// InstallSnapshot of Figure 13, as an offer: the entries that the receiver needs are in the leader's log no more, but in
    /// a snapshot, which it fetches. Also a heartbeat.
    Snapshot {
        /// Which, and by what its bytes are recognised.
        offer: SnapshotOffer,
        /// As in [`Message::Append`].
        round: u64,
    },
    /// The result of an [`Message::Append`] or a [`Message::Snapshot`].
    AppendReply {
        /// The round of the [`Message::Append`] that is answered.
        round: u64,
        /// What became of it.
        result: AppendResult,
    },
}

/// A snapshot that a leader has. Every node that takes one at the same entry makes the same bytes, so one that was begun
/// from one leader can be finished from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotOffer {
    /// The last entry in it.
    pub last: LogId,
    /// Its size in bytes.
    pub size: u64,
    /// The hash over all of it.
    pub root: [u8; 32],
}

/// What a follower made of an [`Message::Append`] or a [`Message::Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendResult {
    /// Everything up to `match_index` equals the leader's log and is durable here.
    Accepted {
        /// Last entry of the match.
        match_index: Index,
    },
    /// The snapshot is being fetched.
    Fetching,
    /// The entry before the first one is missing or different here.
    Rejected {
        /// The index that did not match: tells a stale rejection from a current one.
        prev_index: Index,
        /// The last place where the logs may agree, so that the leader skips whole terms (§5.3).
        hint: LogId,
    },
}
