//! What a node with an empty directory may promise. Its directory may be new, or it may have been wiped: then a former self may
//! have voted in a term, or acknowledged entries, of which this one knows nothing. So it asks before it votes.
//!
//! Two rules together:
//! - **Who counts.** A membership binds each member to a data directory as soon as a leader has heard from it. Votes and
//!   acknowledgements from another directory count for nothing, whoever gets them; the leader makes such a member a learner,
//!   and a voter again once it has caught up. That is in `reconfigure`. Until an entry says it, each node binds by itself,
//!   durably: a voter to the directory of the vote that it counts, and one that asks to the directory that it asks from. So "I
//!   know no other" is a promise to count no other.
//! - **Who votes.** Before a membership binds it, an empty node votes only if every other voter has said that it knows no
//!   other directory under this id, or if a majority of the voters are empty and nobody knows another one: then there is no
//!   cluster yet whose promises could be broken, unless some of the empty ones were wiped and the others never up, which
//!   nobody can tell from here. A leader that sends it entries may do so all the while.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Event, Level};
use super::membership::Membership;
use super::message::Message;
use super::types::{DirectoryId, HardState, LogId, NodeId, ProcessId, Record, SnapshotMark};
use super::{Effects, Raft, Role};

/// Whether this node may vote, and what it has learnt while it may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Admission {
    Granted,
    /// The answers of the others: whether each is empty itself. Several may come from one node; the last one counts.
    Pending(BTreeMap<NodeId, bool>),
}

impl Admission {
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Admission::Pending(_))
    }
}

impl Raft {
    /// Whether this node may vote and stand for election.
    pub fn may_vote(&self) -> bool {
        !self.admission.is_pending() && self.vote_is_known()
    }

    /// Whether it may lead: a leader must not lack what it acknowledged.
    pub(super) fn may_stand(&self) -> bool {
        !self.admission.is_pending() && !self.is_recovering() && self.may_be_needed()
    }

    /// Whether this node is a voter, or was one by the membership before one of which it does not know that it is committed.
    /// Then nobody else may have that entry: those who are left cannot elect anybody without it (thesis §4.2.2).
    pub(super) fn may_be_needed(&self) -> bool {
        let committed = self.memberships.partition_point(|(index, _)| *index <= self.commit_index);
        let possible = &self.memberships[committed.saturating_sub(1)..];
        possible.iter().any(|(_, membership)| membership.is_voter(self.config.id))
    }

    /// A directory in which nothing has happened yet.
    fn is_blank(&self) -> bool {
        self.hard_state == HardState::default() && self.log.last() == LogId::default()
    }

    pub(super) fn ask_for_admission(&mut self, now: u64, effects: &mut Effects) {
        // Nobody's patience is tried by a question, so it is asked at the pace of heartbeats.
        self.election_deadline = now + self.config.heartbeat_interval;
        // Alone it asks nobody.
        self.decide_admission(now, effects);
        if self.admission.is_pending() {
            for peer in self.other_voters() {
                self.send(peer, Message::Hello, 0, effects);
            }
        }
    }

    pub(super) fn answer_hello(&mut self, now: u64, from: NodeId, process: ProcessId, effects: &mut Effects) {
        let bound = self.bound(from);
        // A leader has heard from followers that no entry binds yet.
        let heard = self.progress.get(&from).map_or(0, |progress| progress.process.directory);
        let known = if bound != 0 { bound } else { heard };
        // A leader forgets what the process before this one acknowledged, before it says how far its log goes. A question
        // makes it forget no other directory: that takes an acknowledgement.
        let same = heard == 0 || heard == process.directory;
        let leads = self.role == Role::Leader && same && self.hear_process(now, from, process);
        let leads = leads.then_some(self.log.last().index);
        if known == 0 {
            self.bind(from, process.directory, effects);
        }
        let message = Message::HelloReply { asked_by: process, blank: self.is_blank(), known, leads };
        self.send(from, message, self.hard_state_lsn, effects);
    }

    pub(super) fn count_hello(
        &mut self,
        now: u64,
        from: NodeId,
        process: ProcessId,
        blank: bool,
        known: u64,
        effects: &mut Effects,
    ) {
        let own = self.config.process.directory;
        let recognised = self.recognises(from, process.directory);
        if let Admission::Pending(answers) = &mut self.admission
            && recognised
        {
            if known == 0 || known == own {
                answers.insert(from, blank);
            } else {
                answers.remove(&from);
                effects.event(Level::Warn, || Event::Forgotten { by: from });
            }
            self.decide_admission(now, effects);
        }
    }

    fn decide_admission(&mut self, now: u64, effects: &mut Effects) {
        let Admission::Pending(answers) = &self.admission else { return };
        let own = self.config.id;
        let membership = self.membership();
        let blank =
            membership.decides(|id| (id == own && self.is_blank()) || answers.get(&id) == Some(&true));
        let others = self.other_voters();
        let all = membership.is_voter(own) && others.iter().all(|id| answers.contains_key(id));
        if blank || all {
            self.admission = Admission::Granted;
            // Written down before it votes. With a log that begins later an entry says so, or a leader soon will.
            self.bind(self.config.id, self.config.process.directory, effects);
            effects.info(|| Event::Admitted);
            // Nobody has been waited for yet: the usual patience begins now.
            self.reset_election_deadline(now);
        }
    }

    /// The directory that a node is known by: the last one that an entry, or this node itself, bound it to; 0 if none did.
    pub(super) fn bound(&self, id: NodeId) -> DirectoryId {
        let directory =
            |(_, membership): &(_, Arc<Membership>)| membership.member(id).map(|member| member.directory);
        self.memberships.iter().rev().filter_map(directory).find(|directory| *directory != 0).unwrap_or(0)
    }

    /// Whether what a process with `directory` says may count as the voice of `id`.
    pub(super) fn recognises(&self, id: NodeId, directory: DirectoryId) -> bool {
        let bound = self.bound(id);
        self.membership().member(id).is_some() && (bound == 0 || bound == directory)
    }

    /// Binds a node that no entry and nobody here has bound yet, in the membership that this node was started with, which no
    /// other node reads. Votes and answers leave after the record that says it, and nobody leads before it is durable.
    pub(super) fn bind(&mut self, id: NodeId, directory: DirectoryId, effects: &mut Effects) {
        if self.bound(id) != 0 || directory == 0 || self.log.base().index > 0 {
            return;
        }
        let [(0, founding), ..] = self.memberships.as_mut_slice() else { return };
        if let Some(member) = Arc::make_mut(founding).members.get_mut(&id) {
            (member.directory, member.provisional) = (directory, true);
            let membership = Arc::from(founding.encode());
            let mark = SnapshotMark { membership, ..SnapshotMark::default() };
            self.hard_state_lsn = self.record(Record::Snapshot(mark), effects);
        }
    }

    /// A membership that names this very directory admits it: whatever another one promised under this id, the members know
    /// not to count on it. Any that the log knows of does, not the last one alone: a leader that has not heard from this node
    /// yet writes one that binds others and not this one, and takes nothing back by it. A learner is admitted, too: it is
    /// asked by those who know that it has become a voter, and may be needed before it knows itself.
    pub(super) fn admit_if_recognised(&mut self) {
        let (id, directory) = (self.config.id, self.config.process.directory);
        let bound = |membership: &Membership| {
            membership.members.get(&id).is_some_and(|member| member.directory == directory)
        };
        if directory != 0 && self.memberships.iter().any(|(_, membership)| bound(membership)) {
            self.admission = Admission::Granted;
        }
    }
}
