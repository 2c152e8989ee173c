//! Elections (§5.2, §5.4.1) with pre-vote (thesis §9.6): from a silent leader to a new one.
//! What a leader then does is in `replication`.

use super::event::{Event, Level};
use super::message::Message;
use super::types::{Entry, HardState, LogId, NodeId, Payload, ProcessId, Term};
use super::{Effects, Raft, Role, quorum};

impl Raft {
    /// Follows `leader`, or nobody yet, in `term`. In the same term the vote stays: a vote is fixed for its term.
    pub(super) fn become_follower(
        &mut self,
        now: u64,
        term: Term,
        leader: Option<NodeId>,
        effects: &mut Effects,
    ) {
        let same = term == self.term() && self.role == Role::Follower && self.leader == leader;
        if term > self.term() {
            self.set_hard_state(HardState { term, voted_for: None }, effects);
            self.leader_heard_at = None;
        }
        self.leader = leader;
        self.votes.clear();
        self.progress.clear();
        self.transfer = None;
        self.drop_lease();
        effects.failed_reads.extend(std::mem::take(&mut self.reads).into_ids());
        if !same {
            self.set_role(Role::Follower, effects);
            self.reset_election_deadline(now);
            effects.info(|| Event::BecameFollower { term, leader });
        }
    }

    pub(super) fn start_pre_vote(&mut self, now: u64, effects: &mut Effects) {
        self.leader = None;
        self.set_role(Role::PreCandidate, effects);
        effects.info(|| Event::BecamePreCandidate { term: self.hard_state.term });
        self.reset_election_deadline(now);
        self.votes = [self.config.id].into();
        if self.decides(|id| self.votes.contains(&id)) {
            return self.start_election(now, false, effects);
        }
        let message = Message::PreVoteRequest { candidate_term: self.term() + 1, last: self.log.last() };
        for peer in self.other_voters() {
            self.send(peer, message.clone(), 0, effects);
        }
    }

    pub(super) fn answer_pre_vote(
        &mut self,
        now: u64,
        from: NodeId,
        candidate_term: Term,
        last: LogId,
        effects: &mut Effects,
    ) {
        let granted = candidate_term > self.term()
            && self.is_up_to_date(last)
            && !self.keeps_a_leader(now)
            && self.may_vote();
        self.send(from, Message::PreVoteReply { candidate_term, granted }, self.hard_state_lsn, effects);
    }

    pub(super) fn count_pre_vote(
        &mut self,
        now: u64,
        from: NodeId,
        process: ProcessId,
        candidate_term: Term,
        granted: bool,
        effects: &mut Effects,
    ) {
        let counts = self.recognises(from, process.directory);
        if self.role != Role::PreCandidate || candidate_term != self.term() + 1 || !granted || !counts {
            return;
        }
        self.votes.insert(from);
        if self.decides(|id| self.votes.contains(&id)) {
            self.start_election(now, false, effects);
        }
    }

    /// The leader hands over: no pre-vote, because the point is to replace a live leader (thesis §3.10).
    pub(super) fn stand_now(&mut self, now: u64, from: NodeId, effects: &mut Effects) {
        let may_stand = self.may_stand();
        if self.role == Role::Follower && self.leader == Some(from) && may_stand {
            effects.info(|| Event::TransferReceived { from, term: self.hard_state.term });
            self.start_election(now, true, effects);
        }
    }

    fn start_election(&mut self, now: u64, transfer: bool, effects: &mut Effects) {
        let term = self.term() + 1;
        self.set_hard_state(HardState { term, voted_for: Some(self.config.id) }, effects);
        self.set_role(Role::Candidate, effects);
        effects.info(|| Event::BecameCandidate { term });
        self.reset_election_deadline(now);
        // The own vote counts when it is durable, like anybody else's: see count_own_vote.
        self.votes.clear();
        let last = self.log.last();
        for peer in self.other_voters() {
            effects.info(|| Event::VoteRequested { to: peer, term, last });
            self.send(peer, Message::VoteRequest { last, transfer }, self.hard_state_lsn, effects);
        }
    }

    pub(super) fn answer_vote(
        &mut self,
        now: u64,
        from: NodeId,
        term: Term,
        last: LogId,
        transfer: bool,
        effects: &mut Effects,
    ) {
        let free = self.hard_state.voted_for.is_none_or(|vote| vote == from);
        let granted = term == self.term()
            && free
            && self.is_up_to_date(last)
            && self.role != Role::Leader
            && (transfer || now >= self.promised_until)
            && self.may_vote();
        if granted {
            if self.hard_state.voted_for.is_none() {
                self.set_hard_state(HardState { term, voted_for: Some(from) }, effects);
            }
            if self.role != Role::Follower {
                self.become_follower(now, term, None, effects);
            }
            self.reset_election_deadline(now);
            effects.info(|| Event::VoteGranted { to: from, term });
        } else {
            effects.event(Level::Debug, || Event::VoteDenied { to: from, term });
        }
        self.send(from, Message::VoteReply { granted }, self.hard_state_lsn, effects);
    }

    /// The own vote, and whose votes were counted, are durable.
    pub(super) fn count_own_vote(&mut self, now: u64, effects: &mut Effects) {
        if self.durable_lsn >= self.hard_state_lsn {
            self.add_vote(now, self.config.id, effects);
            self.lead_if_elected(now, effects);
        }
    }

    pub(super) fn count_vote(
        &mut self,
        now: u64,
        from: NodeId,
        process: ProcessId,
        granted: bool,
        effects: &mut Effects,
    ) {
        // A process with another directory than the one that was counted on may have voted for somebody else before.
        let counts = self.recognises(from, process.directory);
        if self.role == Role::Candidate && granted && counts {
            // From here on no other directory has this voter's voice.
            self.bind(from, process.directory, effects);
            self.add_vote(now, from, effects);
        }
    }

    fn add_vote(&mut self, now: u64, from: NodeId, effects: &mut Effects) {
        if !self.votes.insert(from) {
            return;
        }
        let (term, votes) = (self.term(), self.votes.len());
        let needed = quorum::majority(self.membership().voters.len());
        effects.info(|| Event::VoteReceived { from, term, votes, needed });
        self.lead_if_elected(now, effects);
    }

    fn lead_if_elected(&mut self, now: u64, effects: &mut Effects) {
        let durable = self.durable_lsn >= self.hard_state_lsn;
        if self.role == Role::Candidate && durable && self.decides(|id| self.votes.contains(&id)) {
            let (term, votes) = (self.term(), self.votes.len());
            effects.info(|| Event::ElectionWon { term, votes });
            self.become_leader(now, effects);
        }
    }

    fn become_leader(&mut self, now: u64, effects: &mut Effects) {
        let term = self.term();
        self.leader = Some(self.config.id);
        self.set_role(Role::Leader, effects);
        effects.info(|| Event::BecameLeader { term });
        let next_index = self.log.last().index + 1;
        self.follow_membership(now);
        self.heartbeat_deadline = now + self.config.heartbeat_interval;
        // Entries of earlier terms commit with the first one of this term (§5.4.2, §8): do not wait for a client.
        self.term_start_index = next_index;
        let id = LogId { index: next_index, term };
        self.append(vec![Entry { id, payload: Payload::Noop }], effects);
    }
}
