//! Changes of membership (§6, thesis §4) by joint consensus: a configuration is in force from the moment it is appended, a
//! change of voters goes through one in which both majorities are needed, and one change ends before the next begins.
//! What a configuration is, is in [`super::membership`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::event::{Event, Level};
use super::membership::{ADDRESS_BYTES_MAX, MEMBERS_MAX, Member, Membership};
use super::message::Message;
use super::progress::Progress;
use super::types::{Index, NodeId, Payload};
use super::{Effects, Raft, Role};

/// How many entries a learner may be behind the commit index when it becomes a voter: it will have them before they matter.
pub const PROMOTION_LAG_MAX: Index = 1_024;

/// What an operator may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Send the log to a further node, which gets no vote yet; or change where a member is found.
    Add(NodeId, String),
    /// Give a learner that has caught up a vote.
    Promote(NodeId),
    /// Take a node out, whatever it is.
    Remove(NodeId),
}

/// Why a change is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// An earlier one is under way, or this leader has committed nothing in its term yet (Ongaro's erratum of 2015 to the
    /// single-server change: without that rule two configurations that share no majority can both be in use).
    #[error("another change is under way")]
    UnderWay,
    /// The learner is not where the leader is.
    #[error("the learner has not caught up yet")]
    Behind,
    /// No such node, no such address, or nobody would be left.
    #[error("there is no such member, or nobody would be left")]
    Impossible,
    /// Nothing to do.
    #[error("it is so already")]
    Done,
}

impl Raft {
    /// The membership that a change would lead to, to be proposed with [`super::Input::Reconfigure`].
    ///
    /// # Errors
    /// Why the change is not to be begun now, or at all.
    pub fn change(&self, change: &Change) -> Result<Membership, ChangeError> {
        if self.role != Role::Leader || !self.may_reconfigure() {
            return Err(ChangeError::UnderWay);
        }
        let mut next = self.membership().clone();
        match change {
            Change::Add(id, address) => {
                let full = !next.members.contains_key(id) && next.members.len() >= MEMBERS_MAX;
                if *id == 0 || full || address.is_empty() || address.len() > ADDRESS_BYTES_MAX {
                    return Err(ChangeError::Impossible);
                }
                next.members.entry(*id).or_default().address.clone_from(address);
            }
            Change::Promote(id) if !next.members.contains_key(id) => return Err(ChangeError::Impossible),
            Change::Promote(id) => {
                if next.is_voter(*id) {
                    return Err(ChangeError::Done);
                }
                if !self.has_caught_up(*id) {
                    return Err(ChangeError::Behind);
                }
                // It has its vote back now, by whoever's order.
                next.returning.remove(id);
                next.begin_change(|voters| voters.insert(*id));
            }
            Change::Remove(id) if next.is_learner(*id) => {
                next.returning.remove(id);
                next.members.remove(id);
            }
            Change::Remove(id) => {
                let left = next.voters.iter().any(|voter| voter != id);
                if !next.is_voter(*id) || !left {
                    return Err(if left { ChangeError::Done } else { ChangeError::Impossible });
                }
                next.begin_change(|voters| voters.remove(id));
            }
        }
        if next == *self.membership() { Err(ChangeError::Done) } else { Ok(next) }
    }

    /// Whether a new configuration may be appended: the last one is settled and committed, and so is an entry of this term.
    fn may_reconfigure(&self) -> bool {
        let committed = self.commit_index >= self.membership_index().max(self.term_start_index);
        committed && !self.membership().is_joint() && self.transfer.is_none()
    }

    /// Whether a learner is so near that it may become a voter: its very process answers, and almost all of the log is on
    /// its disk.
    fn has_caught_up(&self, id: NodeId) -> bool {
        self.progress.get(&id).is_some_and(|progress| {
            let recognised = self.recognises(id, progress.process.directory);
            recognised
                && progress.process.directory != 0
                && progress.match_index + PROMOTION_LAG_MAX >= self.commit_index
                && progress.match_index >= self.membership_index()
        })
    }

    pub(super) fn reconfigure(&mut self, now: u64, membership: &Membership, effects: &mut Effects) {
        assert!(self.role == Role::Leader, "only a leader reconfigures; this node is {}", self.role.name());
        self.propose(vec![Payload::Membership(Arc::from(membership.encode()))], effects);
        self.follow_membership(now);
    }

    /// Every heartbeat: what follows from what this leader knows, without anybody asking for it.
    pub(super) fn continue_reconfiguration(&mut self, now: u64, effects: &mut Effects) {
        if self.commit_index < self.membership_index() {
            return;
        }
        if self.membership().is_joint() {
            // Both majorities have the joint configuration: the old one is not needed any more (§6).
            let settled = self.membership().settled();
            return self.reconfigure(now, &settled, effects);
        }
        self.progress.retain(|id, progress| {
            let member = self.memberships.last().is_some_and(|(_, m)| m.members.contains_key(id));
            // Who was taken out is told so, if it listens.
            let patience = self.config.election_timeout_max;
            member
                || (progress.match_index < self.commit_index
                    && now.saturating_sub(progress.heard_at) < patience)
        });
        if self.may_reconfigure()
            && let Some(next) = self.bind_directories()
        {
            self.reconfigure(now, &next, effects);
        }
    }

    /// Binds members to the directories that they were heard from. A voter whose directory is another than it was becomes a
    /// learner first, then the learner with that directory, then a voter: each step a change of its own, so that at no
    /// moment two majorities could do without each other.
    fn bind_directories(&self) -> Option<Membership> {
        let mut next = self.membership().clone();
        let heard = |id: NodeId| {
            let progress = self.progress.get(&id).map_or(0, |progress| progress.process.directory);
            if id == self.config.id { self.config.process.directory } else { progress }
        };
        let mut bound = false;
        for (id, member) in &mut next.members {
            let learner = !self.membership().is_voter(*id);
            let bound_here = self.bound(*id);
            // What this node knows and no entry says yet comes first: a voter that was wiped since is one that was wiped.
            let directory = if bound_here == 0 || learner { heard(*id) } else { bound_here };
            bound |= std::mem::take(&mut member.provisional);
            if directory != 0 && directory != member.directory && (member.directory == 0 || learner) {
                // A learner that lost its directory was a voter before, or will be: either way it votes with the new one.
                member.directory = directory;
                bound = true;
            }
        }
        if bound {
            return Some(next);
        }
        let wiped = next.voters.iter().copied().find(|id| {
            let directory = heard(*id);
            directory != 0 && !self.recognises(*id, directory)
        });
        if let Some(id) = wiped
            && next.voters.len() > 1
        {
            next.begin_change(|voters| voters.remove(&id));
            next.returning.insert(id);
            return Some(next);
        }
        let returned = next.returning.iter().copied().find(|id| self.has_caught_up(*id))?;
        next.returning.remove(&returned);
        next.begin_change(|voters| voters.insert(returned));
        Some(next)
    }

    /// Brings the leader's view of its followers in line with the membership.
    pub(super) fn follow_membership(&mut self, now: u64) {
        if self.role != Role::Leader {
            return;
        }
        let next_index = self.log.last().index + 1;
        let members: BTreeSet<NodeId> = self.membership().members.keys().copied().collect();
        for id in members.into_iter().filter(|id| *id != self.config.id) {
            self.progress.entry(id).or_insert_with(|| Progress::new(next_index, now));
        }
    }

    /// The log says who belongs to the cluster; every node follows it from the moment it is appended, or taken back.
    pub(super) fn membership_changed(&mut self, effects: &mut Effects) {
        self.drop_lease();
        let (index, membership) = (self.membership_index(), self.membership().to_string());
        effects.info(|| Event::MembershipChanged { index, membership });
        self.admit_if_recognised();
    }

    /// A leader that is not a voter of a committed, settled membership has done its last duty (thesis §4.2.2).
    pub(super) fn step_down_if_removed(&mut self, now: u64, effects: &mut Effects) {
        let gone =
            !self.membership().is_voter(self.config.id) && self.commit_index >= self.membership_index();
        if self.role != Role::Leader || !gone {
            return;
        }
        // Those who need not wait for an election timeout do not: the furthest may stand at once.
        if let Some(to) = self.transfer_target(now, None) {
            self.tell_commit(now, effects);
            self.send(to, Message::TimeoutNow, 0, effects);
        }
        effects.event(Level::Warn, || Event::Removed { term: self.hard_state.term });
        self.become_follower(now, self.term(), None, effects);
    }
}

impl Membership {
    /// Enters the joint configuration of a change of voters.
    fn begin_change<T>(&mut self, change: impl FnOnce(&mut BTreeSet<NodeId>) -> T) {
        self.outgoing = self.voters.clone();
        change(&mut self.voters);
    }

    /// `id` with what is known of it.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }
}
