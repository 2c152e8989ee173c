//! What a leader knows of one follower: how far it matches, what is on the way to it, when it was last heard.
//! Modelled on etcd-raft's `tracker/progress.go`: probe one message at a time until a match is found, then pipeline.

use std::collections::VecDeque;

use super::types::{Index, ProcessId};

/// How the leader sends to a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// The match is not known: one message at a time, until one is accepted.
    Probe,
    /// The match is known: messages follow each other without waiting.
    Replicate,
    /// What it needs next is in this log no more: it fetches the snapshot that ends here.
    Snapshot(Index),
}

impl ProgressState {
    /// Its name in `node status`.
    pub fn name(self) -> &'static str {
        match self {
            ProgressState::Probe => "probe",
            ProgressState::Replicate => "replicate",
            ProgressState::Snapshot(_) => "snapshot",
        }
    }
}

/// One pipelined message that was not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inflight {
    last_index: Index,
    bytes: usize,
    sent_at: u64,
}

/// A leader's view of one follower (`nextIndex` and `matchIndex` of Figure 2, and the flow of messages).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Last entry known to be durable there.
    pub match_index: Index,
    /// Next entry to send.
    pub next_index: Index,
    /// Probe or replicate.
    pub state: ProgressState,
    /// When it was last heard in this term, on the leader's clock (ns).
    pub heard_at: u64,
    /// Highest read round it confirmed.
    pub round: u64,
    /// Its process, as far as known: a restarted one lost what was in its sockets, so the pipeline starts anew.
    pub process: ProcessId,
    probe_sent_at: Option<u64>,
    inflights: VecDeque<Inflight>,
    inflight_bytes: usize,
}

impl Progress {
    /// Nothing is known of the follower but that it may have everything up to `next_index - 1`.
    pub fn new(next_index: Index, now: u64) -> Progress {
        Progress {
            match_index: 0,
            next_index,
            state: ProgressState::Probe,
            heard_at: now,
            round: 0,
            process: ProcessId::default(),
            probe_sent_at: None,
            inflights: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    /// Whether entries may be sent now. `messages` and `bytes` bound what is pipelined.
    pub fn may_send(&self, messages: usize, bytes: usize) -> bool {
        match self.state {
            ProgressState::Probe => self.probe_sent_at.is_none(),
            ProgressState::Replicate => self.inflights.len() < messages && self.inflight_bytes < bytes,
            ProgressState::Snapshot(_) => false,
        }
    }

    /// Bytes of payloads that are pipelined.
    pub fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// Notes that entries up to `last_index`, with `bytes` in their payloads, left at `now`.
    pub fn sent(&mut self, last_index: Index, bytes: usize, now: u64) {
        match self.state {
            ProgressState::Probe => self.probe_sent_at = Some(now),
            ProgressState::Replicate => {
                self.next_index = last_index + 1;
                self.inflights.push_back(Inflight { last_index, bytes, sent_at: now });
                self.inflight_bytes += bytes;
            }
            ProgressState::Snapshot(_) => {}
        }
    }

    /// Notes an acknowledgement up to `match_index`. Late and duplicated ones never move anything back.
    /// Returns whether the match advanced.
    pub fn accepted(&mut self, match_index: Index) -> bool {
        let advanced = match_index > self.match_index;
        self.match_index = self.match_index.max(match_index);
        self.next_index = self.next_index.max(self.match_index + 1);
        while let Some(sent) = self.inflights.front().filter(|sent| sent.last_index <= self.match_index) {
            self.inflight_bytes -= sent.bytes;
            self.inflights.pop_front();
        }
        if let ProgressState::Snapshot(index) = self.state
            && match_index >= index
        {
            self.probe_from(self.match_index);
        }
        // Only an acknowledgement that reaches the probe ends probing: an older one says nothing about it.
        if self.state == ProgressState::Probe && match_index + 1 >= self.next_index {
            self.state = ProgressState::Replicate;
            self.probe_sent_at = None;
        }
        advanced
    }

    /// Notes a rejection at `prev_index`; `next_index` is the leader's best guess from the hint. Returns whether the
    /// rejection was current, and so something is to be sent again.
    pub fn rejected(&mut self, prev_index: Index, next_index: Index) -> bool {
        let stale = match self.state {
            ProgressState::Probe => prev_index + 1 != self.next_index,
            ProgressState::Replicate => prev_index <= self.match_index,
            // Whatever it lacks, the snapshot has.
            ProgressState::Snapshot(_) => true,
        };
        if stale {
            return false;
        }
        self.probe_from(next_index.min(prev_index));
        true
    }

    /// Starts probing at `next_index`, or right after the match if that is later. What was pipelined counts as lost.
    pub fn probe_from(&mut self, next_index: Index) {
        self.state = ProgressState::Probe;
        self.next_index = next_index.max(self.match_index + 1);
        self.probe_sent_at = None;
        self.inflights.clear();
        self.inflight_bytes = 0;
    }

    /// Sends again what was not answered: the same probe, or what follows the match. A probe that is only lost is no reason to
    /// look further back, where the log may be gone and a whole snapshot would have to be fetched.
    pub fn probe_again(&mut self) {
        let probing = self.state == ProgressState::Probe;
        self.probe_from(if probing { self.next_index } else { self.match_index });
    }

    /// Nothing can be sent but the snapshot that ends at `index`.
    pub fn needs_snapshot(&mut self, index: Index) {
        self.probe_from(index + 1);
        self.state = ProgressState::Snapshot(index);
    }

    /// A process that remembers nothing of what its predecessor acknowledged: all of that counts for nothing.
    pub fn forget(&mut self, process: ProcessId) {
        let next_index = self.match_index + 1;
        *self = Progress { process, ..Progress::new(next_index, self.heard_at) };
    }

    /// The same with ages in the place of times: those that are `patience` or `timeout` ns are old enough for everything.
    pub(super) fn aged(&self, now: u64, patience: u64, timeout: u64) -> Progress {
        let age = |at: u64| now.saturating_sub(at).min(timeout);
        Progress {
            heard_at: now.saturating_sub(self.heard_at).min(patience),
            probe_sent_at: self.probe_sent_at.map(age),
            inflights: self.inflights.iter().map(|i| Inflight { sent_at: age(i.sent_at), ..*i }).collect(),
            ..*self
        }
    }

    /// Whether the oldest unacknowledged message left `timeout` ns ago or earlier.
    pub fn overdue(&self, now: u64, timeout: u64) -> bool {
        let oldest = match self.state {
            ProgressState::Probe => self.probe_sent_at,
            ProgressState::Replicate => self.inflights.front().map(|sent| sent.sent_at),
            ProgressState::Snapshot(_) => None,
        };
        oldest.is_some_and(|sent_at| now.saturating_sub(sent_at) >= timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_one_message_then_pipelines() {
        let mut progress = Progress::new(5, 0);
        assert!(progress.may_send(2, 100));
        progress.sent(7, 10, 0);
        assert!(!progress.may_send(2, 100), "a probe waits for its answer");
        assert!(progress.accepted(7));
        assert_eq!((progress.state, progress.next_index), (ProgressState::Replicate, 8));
        progress.sent(9, 10, 0);
        progress.sent(11, 10, 0);
        assert!(!progress.may_send(2, 100), "the window is full");
        assert!(progress.may_send(3, 21) && !progress.may_send(3, 20), "20 bytes are on their way");
        assert_eq!(progress.inflight_bytes(), 20);
        assert!(progress.accepted(9));
        assert_eq!(progress.inflight_bytes(), 10);
        assert!(!progress.accepted(9), "nothing new");
        assert!(progress.may_send(2, 100));
        assert_eq!(progress.next_index, 12);
    }

    #[test]
    fn late_and_duplicated_replies_move_nothing_back() {
        let mut progress = Progress::new(1, 0);
        progress.accepted(10);
        assert!(!progress.accepted(4));
        assert_eq!((progress.match_index, progress.next_index), (10, 11));
        assert!(!progress.rejected(10, 3), "the match is already beyond that rejection");
        assert_eq!(progress.state, ProgressState::Replicate);
        assert!(progress.rejected(14, 12));
        assert_eq!((progress.state, progress.next_index), (ProgressState::Probe, 12));
        assert!(!progress.rejected(14, 12), "the same rejection twice");
        assert!(progress.rejected(11, 2));
        assert_eq!(progress.next_index, 11, "never below the match");
    }

    #[test]
    fn an_old_acknowledgement_does_not_end_probing() {
        let mut progress = Progress::new(1, 0);
        progress.accepted(3);
        progress.sent(9, 10, 0);
        progress.probe_from(8);
        progress.accepted(5);
        assert_eq!(progress.state, ProgressState::Probe);
        progress.accepted(7);
        assert_eq!(progress.state, ProgressState::Replicate);
    }

    #[test]
    fn what_was_lost_is_sent_again_and_no_more() {
        let mut progress = Progress::new(9, 0);
        progress.sent(9, 10, 0);
        progress.probe_again();
        assert_eq!((progress.state, progress.next_index), (ProgressState::Probe, 9), "the same probe");
        assert!(progress.may_send(1, 100));
        progress.accepted(9);
        progress.sent(10, 10, 0);
        progress.probe_again();
        assert_eq!(
            (progress.state, progress.next_index, progress.inflight_bytes()),
            (ProgressState::Probe, 10, 0)
        );
    }

    #[test]
    fn overdue_counts_from_the_oldest_message() {
        let mut progress = Progress::new(1, 0);
        progress.accepted(0);
        assert!(!progress.overdue(100, 50));
        progress.sent(1, 10, 100);
        progress.sent(2, 10, 140);
        assert!(!progress.overdue(149, 50));
        assert!(progress.overdue(150, 50));
        progress.accepted(1);
        assert!(!progress.overdue(150, 50));
    }

    #[test]
    fn a_follower_that_needs_a_snapshot_gets_nothing_else_until_it_has_it() {
        let mut progress = Progress::new(5, 0);
        assert_eq!(progress.state.name(), "probe");
        progress.needs_snapshot(9);
        assert_eq!((progress.state.name(), progress.next_index), ("snapshot", 10));
        assert!(!progress.may_send(9, 100) && !progress.rejected(20, 3));
        progress.accepted(8);
        assert_eq!(progress.state, ProgressState::Snapshot(9), "not all of it");
        progress.accepted(11);
        assert_eq!((progress.state.name(), progress.next_index), ("replicate", 12));
    }

    #[test]
    fn another_process_is_heard_but_has_acknowledged_nothing() {
        let mut progress = Progress::new(5, 70);
        progress.accepted(9);
        let process = ProcessId { directory: 3, incarnation: 2 };
        progress.forget(process);
        assert_eq!(progress, Progress { process, ..Progress::new(10, 70) });
    }
}
