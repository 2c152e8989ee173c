//! Reads at a node that does not lead: it asks the leader for an index alone, and answers from its own state once it has applied
//! so far (thesis §6.4). The value does not travel through the leader, and all reads that arrive while one question is on its
//! way share the next.

use super::requests::Waiter;
use super::{Destination, Replica};
use crate::protocol::error::ErrorCode;
use crate::protocol::{Request, RequestBody, Response, ResponseBody};
use crate::raft::Role;
use crate::raft::types::Index;
use crate::transport::frame::Kind;

type Read = (Waiter, Vec<u8>);

/// One question to the leader. Its reads all arrived before it was first sent, so that any answer to it is late enough.
#[derive(Debug)]
struct Question {
    sequence: u64,
    sent_at: u64,
    reads: Vec<Read>,
}

/// The reads that wait in a node that does not lead.
#[derive(Debug, Default)]
pub(super) struct FollowerReads {
    /// Arrived since the question was sent.
    waiting: Vec<Read>,
    question: Option<Question>,
    /// May be answered when everything up to the index is applied.
    ready: Vec<(Index, Vec<Read>)>,
    sequence: u64,
}

impl FollowerReads {
    pub(super) fn len(&self) -> usize {
        let asked = self.question.as_ref().map_or(0, |question| question.reads.len());
        self.waiting.len() + asked + self.ready.iter().map(|(_, reads)| reads.len()).sum::<usize>()
    }

    fn take_unanswered(&mut self) -> Vec<Read> {
        let mut reads = std::mem::take(&mut self.waiting);
        reads.extend(self.question.take().into_iter().flat_map(|question| question.reads));
        reads
    }

    pub(super) fn forget_old(&mut self, fresh: impl Fn(u64) -> bool) {
        let retain = |reads: &mut Vec<Read>| reads.retain(|(waiter, _)| fresh(waiter.since));
        retain(&mut self.waiting);
        self.ready.iter_mut().for_each(|(_, reads)| retain(reads));
        self.ready.retain(|(_, reads)| !reads.is_empty());
        self.question.iter_mut().for_each(|question| retain(&mut question.reads));
        self.question.take_if(|question| question.reads.is_empty());
    }
}

impl Replica {
    pub(super) fn read_as_follower(&mut self, waiter: Waiter, key: Vec<u8>) {
        self.follower_reads.waiting.push((waiter, key));
    }

    /// What the questions of this process are told by from those of clients, and of its predecessors in this directory: an
    /// answer that was meant for one of them would be too early an index.
    fn question_nonce(&self) -> u64 {
        self.config.process.directory ^ self.config.process.incarnation.rotate_left(32)
    }

    /// Asks the leader, if reads wait and no question is on its way; and again, if it was for long.
    pub(super) fn ask_for_index(&mut self, now: u64) {
        if self.follower_reads.waiting.is_empty() && self.follower_reads.question.is_none() {
            return;
        }
        let leader = self.raft.leader().filter(|_| self.raft.role() != Role::Leader);
        let Some(leader) = leader else { return self.refuse_follower_reads(ErrorCode::NoLeader) };
        let (retry_after, nonce) = (self.config.raft.heartbeat_interval, self.question_nonce());
        let FollowerReads { waiting, question, sequence, .. } = &mut self.follower_reads;
        match question {
            Some(question) if now.saturating_sub(question.sent_at) < retry_after => return,
            Some(question) => question.sent_at = now,
            None => {
                *sequence += 1;
                let reads = std::mem::take(waiting);
                *question = Some(Question { sequence: *sequence, sent_at: now, reads });
            }
        }
        let sequence = *sequence;
        let payload = Request { nonce, sequence, body: RequestBody::ReadIndex }.encode();
        self.send_frame(Kind::Forward, Destination::Node(leader), self.raft.term(), &payload);
    }

    /// Takes the answer to a question. Returns whether it was one.
    pub(super) fn index_answer(&mut self, response: &Response) -> bool {
        if response.nonce != self.question_nonce() {
            return false;
        }
        let current = |question: &mut Question| question.sequence == response.sequence;
        let Some(question) = self.follower_reads.question.take_if(current) else { return true };
        match response.body {
            ResponseBody::ReadIndex { index } => self.follower_reads.ready.push((index, question.reads)),
            ResponseBody::Error { error } => {
                question.reads.into_iter().for_each(|(waiter, _)| self.refuse(waiter, error));
            }
            _ => question.reads.into_iter().for_each(|(waiter, _)| self.refuse(waiter, ErrorCode::NoLeader)),
        }
        true
    }

    pub(super) fn answer_follower_reads(&mut self) {
        let applied = self.store.last_applied();
        for (index, reads) in std::mem::take(&mut self.follower_reads.ready) {
            if index <= applied {
                reads.into_iter().for_each(|(waiter, key)| self.answer_read(waiter, &key));
            } else {
                self.follower_reads.ready.push((index, reads));
            }
        }
    }

    /// Those whose index is not known ask again.
    pub(super) fn refuse_follower_reads(&mut self, error: ErrorCode) {
        for (waiter, _) in self.follower_reads.take_unanswered() {
            self.refuse(waiter, error);
        }
    }

    /// When [`Replica::ask_for_index`] has something to do.
    pub(super) fn follower_reads_deadline(&self) -> u64 {
        let question = self.follower_reads.question.as_ref();
        question.map_or(u64::MAX, |question| question.sent_at + self.config.raft.heartbeat_interval)
    }
}
