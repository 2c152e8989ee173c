//! Log replication (§5.3) and the commit rule (§5.4.2): the leader's side and the follower's.
//! How a follower's state is tracked is in `progress`.

use super::event::{Event, Level};
use super::message::{AppendResult, Message};
use super::progress::{Progress, ProgressState};
use super::types::{Entry, Index, LogId, NodeId, Payload, ProcessId};
use super::{Effects, Raft, Role};

impl Raft {
    pub(super) fn propose(&mut self, payloads: Vec<Payload>, effects: &mut Effects) {
        assert!(self.role == Role::Leader, "only a leader proposes; this node is {}", self.role.name());
        effects.info(|| Event::ProposalReceived { count: payloads.len() });
        let (last, term) = (self.log.last().index, self.term());
        let entries = payloads.into_iter().zip(last + 1..);
        let entries = entries.map(|(payload, index)| Entry { id: LogId { index, term }, payload });
        self.append(entries.collect(), effects);
    }

    /// Every heartbeat interval: gives up leadership that no majority supports, and speaks to everybody.
    pub(super) fn heartbeat(&mut self, now: u64, effects: &mut Effects) {
        // A leader that hears no majority may have been replaced without knowing it (thesis §6.2).
        let patience = self.config.election_timeout_max;
        let own = self.config.id;
        let heard =
            |id| id == own || self.counted(id).is_some_and(|p| now.saturating_sub(p.heard_at) < patience);
        if !self.decides(heard) {
            effects.event(Level::Warn, || Event::QuorumLost { term: self.hard_state.term });
            return self.become_follower(now, self.term(), None, effects);
        }
        self.heartbeat_deadline = now + self.config.heartbeat_interval;
        self.continue_transfer(now, effects);
        self.start_lease_round(now, effects);
        for peer in self.followers() {
            if let Some(progress) = self.progress.get_mut(&peer)
                && progress.overdue(now, self.config.heartbeat_interval)
            {
                // Unanswered for a whole interval: lost, or the peer is silent. Back to one message an interval.
                progress.probe_again();
            }
            if !self.send_entries(now, peer, effects) {
                self.send_heartbeat(peer, effects);
            }
        }
        self.continue_reconfiguration(now, effects);
    }

    /// Speaks to everybody once more, so that all know what is committed.
    pub(super) fn tell_commit(&mut self, now: u64, effects: &mut Effects) {
        for peer in self.followers() {
            if !self.send_entries(now, peer, effects) {
                self.send_heartbeat(peer, effects);
            }
        }
    }

    fn followers(&self) -> Vec<NodeId> {
        self.progress.keys().copied().collect()
    }

    /// What is known of a follower whose word counts: the process that it was heard from has the directory that the
    /// membership binds it to, or it has not said a word yet.
    pub(super) fn counted(&self, id: NodeId) -> Option<&Progress> {
        let silent = |p: &Progress| p.process == ProcessId::default();
        self.progress.get(&id).filter(|p| silent(p) || self.recognises(id, p.process.directory))
    }

    /// Sends every peer what it may be sent, and starts a read round if reads are waiting for one.
    pub(super) fn replicate(&mut self, now: u64, effects: &mut Effects) {
        let round_started = self.start_read_round(now, effects);
        for peer in self.followers() {
            let sent = self.send_entries(now, peer, effects);
            if round_started && !sent {
                self.send_heartbeat(peer, effects);
            }
        }
    }

    /// Sends entries to `peer` as far as its window allows. Returns whether any message left.
    fn send_entries(&mut self, now: u64, peer: NodeId, effects: &mut Effects) -> bool {
        let mut sent = false;
        loop {
            let Some(progress) = self.progress.get_mut(&peer) else { return sent };
            let bounds = &self.config.append;
            let may_send = progress.may_send(bounds.inflight_messages, bounds.inflight_bytes);
            if progress.next_index > self.log.last().index || !may_send {
                return sent;
            }
            let from = progress.next_index;
            if from <= self.log.base().index {
                return self.send_snapshot(peer, effects) || sent;
            }
            let window = bounds.inflight_bytes.saturating_sub(progress.inflight_bytes());
            let entries = self.log.slice(from, bounds, window);
            let last_index = from + entries.len() as Index - 1;
            let bytes = entries.iter().map(|entry| entry.payload.bytes().len()).sum();
            self.send_append_from(peer, from, entries, effects);
            if let Some(progress) = self.progress.get_mut(&peer) {
                progress.sent(last_index, bytes, now);
            }
            sent = true;
        }
    }

    fn send_heartbeat(&mut self, peer: NodeId, effects: &mut Effects) {
        let Some(progress) = self.progress.get(&peer) else { return };
        let next_index = progress.next_index;
        match progress.state {
            ProgressState::Snapshot(_) => {
                self.send_snapshot(peer, effects);
            }
            // What follows a probe that is on its way is not known here any more, but the leader is to be heard.
            _ if next_index <= self.log.base().index => {
                self.send_snapshot(peer, effects);
            }
            _ => self.send_append_from(peer, next_index, Vec::new(), effects),
        }
    }

    fn send_append_from(&self, peer: NodeId, next_index: Index, entries: Vec<Entry>, effects: &mut Effects) {
        let index = next_index - 1;
        let prev = LogId { index, term: self.log.term_at(index).unwrap_or(0) };
        let round = self.reads.round();
        let message = Message::Append { prev, commit_index: self.commit_index, round, entries };
        // Entries leave while the leader still writes them itself: it counts itself when they are durable (thesis §10.2.1).
        self.send(peer, message, 0, effects);
    }

    #[allow(clippy::too_many_arguments)] // the fields of one message
    pub(super) fn answer_append(
        &mut self,
        now: u64,
        from: NodeId,
        prev: LogId,
        leader_commit: Index,
        round: u64,
        entries: Vec<Entry>,
        effects: &mut Effects,
    ) {
        if !self.hear_leader(now, from, effects) {
            return;
        }
        let term = self.term();
        if !entries.is_empty() {
            effects.info(|| Event::AppendReceived { from, term, prev, entries: entries.len() });
        }
        // What the log begins after is committed, and so is everything before it: the leader has it too.
        if prev.index >= self.log.base().index && !self.log.contains(prev) {
            effects.event(Level::Debug, || Event::AppendRejected { from, prev, last: self.log.last() });
            return self.reject(from, prev, round, effects);
        }
        let match_index = prev.index + entries.len() as Index;
        let heartbeat = entries.is_empty();
        // What is here already stays: a late message must not cut off what came after it (§5.3).
        let missing: Vec<Entry> = entries.into_iter().skip_while(|entry| self.holds(entry.id)).collect();
        if let Some(first) = missing.first().map(|entry| entry.id.index) {
            if first <= self.log.last().index {
                self.truncate(first - 1, effects);
            }
            self.append(missing, effects);
        }
        // Beyond `match_index` nothing is known to equal the leader's log (Figure 2, AppendEntries rule 5).
        let commit_index = leader_commit.min(match_index);
        if commit_index > self.commit_index {
            self.set_commit_index(commit_index, effects);
        }
        // A heartbeat's answer does not wait behind data: it confirms what the disk has already.
        let (match_index, after) = match heartbeat {
            true => (match_index.min(self.log.durable_index()), self.hard_state_lsn),
            false => (match_index, self.hard_state_lsn.max(self.log.lsn_at(match_index))),
        };
        let result = AppendResult::Accepted { match_index };
        self.send(from, Message::AppendReply { round, result }, after, effects);
    }

    /// Whether this entry is in the log, or in the snapshot before it.
    fn holds(&self, id: LogId) -> bool {
        id.index <= self.log.base().index || self.log.contains(id)
    }

    /// Follows who leads this term. Returns whether there is somebody to follow.
    pub(super) fn hear_leader(&mut self, now: u64, from: NodeId, effects: &mut Effects) -> bool {
        let term = self.term();
        if self.role == Role::Leader {
            effects.event(Level::Error, || Event::ConflictingLeader { from, term });
            return false;
        }
        if self.role != Role::Follower || self.leader != Some(from) {
            self.become_follower(now, term, Some(from), effects);
        }
        self.leader_heard_at = Some(now);
        self.promise(now);
        self.reset_election_deadline(now);
        self.ask_for_recovery(now, effects);
        true
    }

    /// Answers an append that does not fit, or comes from a deposed leader.
    pub(super) fn reject(&mut self, to: NodeId, prev: LogId, round: u64, effects: &mut Effects) {
        let index = self.log.last_index_at_or_below_term(prev.index.saturating_sub(1), prev.term);
        let hint = LogId { index, term: self.log.term_at(index).unwrap_or(0) };
        let result = AppendResult::Rejected { prev_index: prev.index, hint };
        self.send(to, Message::AppendReply { round, result }, self.hard_state_lsn, effects);
    }

    /// Notes which process a follower is. What another process of the same node acknowledged counts for nothing from
    /// here on: this one may have lost it, and says again what it has. Returns whether what it says counts.
    pub(super) fn hear_process(&mut self, now: u64, from: NodeId, process: ProcessId) -> bool {
        let patience = self.config.election_timeout_max;
        let bound = self.bound(from);
        let Some(progress) = self.progress.get_mut(&from) else { return false };
        let (known, silent) = (progress.process, now.saturating_sub(progress.heard_at) >= patience);
        if known != ProcessId::default() && known != process {
            let counts = bound == 0 || bound == known.directory;
            if known.directory == process.directory && process.incarnation < known.incarnation {
                return false; // late, from a process that is dead
            }
            if known.directory != process.directory && counts && !silent {
                return false; // the one that counts is alive: this is late, from before the directory was lost
            }
            progress.forget(process);
        }
        progress.process = process;
        true
    }

    #[allow(clippy::too_many_arguments)] // the fields of one message
    pub(super) fn count_append(
        &mut self,
        now: u64,
        from: NodeId,
        process: ProcessId,
        round: u64,
        result: AppendResult,
        effects: &mut Effects,
    ) {
        let last_index = self.log.last().index;
        if !self.hear_process(now, from, process) {
            return;
        }
        let Some(progress) = self.progress.get_mut(&from) else { return };
        progress.heard_at = now;
        progress.round = progress.round.max(round.min(self.reads.round()));
        // A snapshot that came from elsewhere, or an earlier one, may have brought it to where this log begins.
        let reached = self.log.base().index;
        match result {
            // A follower cannot match what this leader does not have.
            AppendResult::Accepted { match_index } if match_index > last_index => return,
            AppendResult::Accepted { match_index } => {
                let advanced = progress.accepted(match_index);
                if matches!(progress.state, ProgressState::Snapshot(_)) && progress.match_index >= reached {
                    progress.probe_from(progress.match_index + 1);
                }
                if advanced {
                    let next_index = progress.next_index;
                    effects.info(|| Event::Replicated { to: from, match_index, next_index });
                    self.advance_commit(now, effects);
                }
            }
            AppendResult::Fetching => {}
            AppendResult::Rejected { prev_index, hint } => {
                let agree = self.log.last_index_at_or_below_term(hint.index, hint.term);
                progress.rejected(prev_index, agree + 1);
            }
        }
        if self.role == Role::Leader {
            self.confirm_reads(effects);
            self.continue_transfer(now, effects);
        }
    }

    /// The commit rule: a majority has it, and it is of this term (§5.4.2, Figure 8). The leader counts itself up to what
    /// its own disk has.
    pub(super) fn advance_commit(&mut self, now: u64, effects: &mut Effects) {
        let (own, durable) = (self.config.id, self.log.durable_index());
        let matched = |id| if id == own { durable } else { self.counted(id).map_or(0, |p| p.match_index) };
        let index = self.membership().committed(matched);
        if index > self.commit_index && self.log.term_at(index) == Some(self.term()) {
            self.set_commit_index(index, effects);
            self.release_waiting_reads();
            self.step_down_if_removed(now, effects);
        }
    }
}
