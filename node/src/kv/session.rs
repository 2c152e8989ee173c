//! Client sessions: which operation of each client was applied last, and what it returned, so that a retried write is
//! applied once (thesis §6.3). Part of the replicated state: opened, used and expired by log entries alone.

use std::collections::BTreeMap;

use super::{Applied, hash_pieces};
use crate::raft::types::Index;

/// Sessions that are kept. Opening one more expires the one that was used longest ago, by log index, on every node alike.
pub const SESSIONS_MAX: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    last_used: Index,
    sequence: u64,
    applied: Option<Applied>,
}

/// What a session table says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before.
    New,
    /// Executed already, with this result.
    Done(Applied),
    /// The client has gone on to a later operation.
    Superseded,
    /// No such session.
    Unknown,
}

/// The session table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sessions {
    sessions: BTreeMap<u64, Session>,
    by_use: BTreeMap<Index, u64>,
    hash: u64,
}

impl Sessions {
    /// Opens a session whose id is the index of the entry that opens it: unique without a random number.
    pub(super) fn open(&mut self, index: Index) {
        if self.sessions.len() >= SESSIONS_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            let expired = self.sessions.remove(&oldest).map_or(0, |session| session.sequence);
            self.hash ^= session_hash(oldest, expired);
        }
        self.sessions.insert(index, Session { last_used: index, sequence: 0, applied: None });
        self.by_use.insert(index, index);
        self.hash ^= session_hash(index, 0);
    }

    /// What is known of operation `sequence` of `client_id`.
    pub fn look_up(&self, client_id: u64, sequence: u64) -> Verdict {
        match self.sessions.get(&client_id) {
            None => Verdict::Unknown,
            Some(session) if sequence > session.sequence => Verdict::New,
            Some(Session { sequence: last, applied: Some(applied), .. }) if sequence == *last => {
                Verdict::Done(applied.clone())
            }
            Some(_) => Verdict::Superseded,
        }
    }

    /// Notes the result of an operation that was applied at `index`.
    pub(super) fn record(&mut self, client_id: u64, sequence: u64, index: Index, applied: Applied) {
        if let Some(session) = self.sessions.get_mut(&client_id) {
            self.by_use.remove(&session.last_used);
            self.by_use.insert(index, client_id);
            self.hash ^= session_hash(client_id, session.sequence) ^ session_hash(client_id, sequence);
            *session = Session { last_used: index, sequence, applied: Some(applied) };
        }
    }

    /// A hash over which sessions exist and how far each has come.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

fn session_hash(client_id: u64, sequence: u64) -> u64 {
    hash_pieces([&client_id.to_le_bytes()[..], &sequence.to_le_bytes()[..]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_sessions_apart_by_how_far_they_came() {
        let opened = |clients: &[u64]| {
            let mut sessions = Sessions::default();
            clients.iter().for_each(|client| sessions.open(*client));
            sessions
        };
        let mut a = opened(&[1, 2]);
        let mut b = opened(&[1, 2]);
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.hash(), opened(&[1]).hash());
        a.record(1, 5, 9, Applied::TooLarge);
        assert_ne!(a.hash(), b.hash());
        b.record(1, 4, 8, Applied::TooLarge);
        assert_ne!(a.hash(), b.hash());
        b.record(1, 5, 9, Applied::TooLarge);
        assert_eq!(a.hash(), b.hash());
    }

    #[test]
    fn the_session_used_longest_ago_expires() {
        let mut sessions = Sessions::default();
        for index in 1..=SESSIONS_MAX as u64 {
            sessions.open(index);
        }
        let next = SESSIONS_MAX as u64 + 1;
        sessions.record(1, 1, next, Applied::TooLarge);
        sessions.open(next + 1);
        assert_eq!(sessions.look_up(1, 2), Verdict::New, "1 was just used");
        assert_eq!(sessions.look_up(2, 1), Verdict::Unknown, "2 was used longest ago");
        assert_eq!(sessions.look_up(3, 1), Verdict::New);
    }
}
