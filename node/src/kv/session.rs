//! Client sessions: which operation of each client was applied last, and what it returned, so that a retried write is
//! applied once (thesis §6.3). Part of the replicated state: opened, used and expired by log entries alone.

use std::collections::BTreeMap;

use super::Applied;
use super::command::Reply;
use crate::hash::hash_pieces;
use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::types::Index;

/// A session that was not used for so long, in milliseconds of log time, expires.
pub const SESSION_IDLE_MS_MAX: u64 = 3_600_000;
/// Sessions that are kept. Opening one more expires the one that was used longest ago, by log index, on every node alike.
pub const SESSIONS_MAX: usize = 16_384;

/// Bytes of values in the results that are kept for retries, such as what a compare-and-set saw instead. One result more expires
/// the sessions that were used longest ago, until the rest fits.
pub const SESSION_REPLY_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    last_used: Index,
    /// Log time then.
    used_at: u64,
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
    /// Of the values in all `applied`.
    reply_bytes: usize,
    hash: u64,
}

impl Session {
    fn reply_bytes(&self) -> usize {
        match &self.applied {
            Some(Applied::Executed {
                reply: Reply::Value(Some(value)) | Reply::Mismatch(Some(value)),
                ..
            }) => value.len(),
            _ => 0,
        }
    }
}

impl Sessions {
    /// Opens a session whose id is the index of the entry that opens it: unique without a random number.
    pub(super) fn open(&mut self, index: Index, time: u64) {
        if self.sessions.len() >= SESSIONS_MAX {
            self.expire_oldest();
        }
        self.sessions.insert(index, Session { last_used: index, used_at: time, sequence: 0, applied: None });
        self.by_use.insert(index, index);
        self.hash ^= session_hash(index, 0);
    }

    /// Expires those that were not used for too long. Log time never falls along the log, so the one used longest ago by
    /// index is the one used longest ago by time.
    pub(super) fn expire(&mut self, time: u64) {
        while let Some((_, oldest)) = self.by_use.first_key_value()
            && let Some(session) = self.sessions.get(oldest)
            && time.saturating_sub(session.used_at) > SESSION_IDLE_MS_MAX
        {
            self.expire_oldest();
        }
    }

    fn expire_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_use.pop_first() {
            let expired = self.sessions.remove(&oldest);
            self.reply_bytes -= expired.as_ref().map_or(0, Session::reply_bytes);
            self.hash ^= session_hash(oldest, expired.map_or(0, |session| session.sequence));
        }
    }

    /// Writes the table, for a snapshot.
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u32(self.sessions.len() as u32);
        for (client_id, session) in &self.sessions {
            writer.u64(*client_id);
            writer.u64(session.last_used);
            writer.u64(session.used_at);
            writer.u64(session.sequence);
            match &session.applied {
                None => writer.u8(0),
                Some(applied) => {
                    writer.u8(1);
                    applied.encode(writer);
                }
            }
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When the bytes are not what [`Sessions::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Sessions, Malformed> {
        let mut table = Sessions::default();
        let mut last = 0;
        for _ in 0..reader.u32()? {
            let (client_id, last_used, used_at, sequence) =
                (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
            let applied = if reader.boolean()? { Some(Applied::decode(reader)?) } else { None };
            let twice = table.by_use.insert(last_used, client_id).is_some();
            if client_id <= last || twice || table.sessions.len() >= SESSIONS_MAX {
                return Err(Malformed);
            }
            last = client_id;
            table.hash ^= session_hash(client_id, sequence);
            let session = Session { last_used, used_at, sequence, applied };
            table.reply_bytes += session.reply_bytes();
            table.sessions.insert(client_id, session);
        }
        Ok(table)
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
    pub(super) fn record(
        &mut self,
        client_id: u64,
        sequence: u64,
        index: Index,
        time: u64,
        applied: Applied,
    ) {
        if let Some(session) = self.sessions.get_mut(&client_id) {
            self.by_use.remove(&session.last_used);
            self.by_use.insert(index, client_id);
            self.hash ^= session_hash(client_id, session.sequence) ^ session_hash(client_id, sequence);
            self.reply_bytes -= session.reply_bytes();
            *session = Session { last_used: index, used_at: time, sequence, applied: Some(applied) };
            self.reply_bytes += session.reply_bytes();
            // This one was used last, and fits by itself.
            while self.reply_bytes > SESSION_REPLY_BYTES_MAX {
                self.expire_oldest();
            }
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
    use super::super::command::VALUE_BYTES_MAX;
    use super::*;

    #[test]
    fn the_hash_tells_sessions_apart_by_how_far_they_came() {
        let opened = |clients: &[u64]| {
            let mut sessions = Sessions::default();
            clients.iter().for_each(|client| sessions.open(*client, 0));
            sessions
        };
        let mut a = opened(&[1, 2]);
        let mut b = opened(&[1, 2]);
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.hash(), opened(&[1]).hash());
        a.record(1, 5, 9, 0, Applied::TooLarge);
        assert_ne!(a.hash(), b.hash());
        b.record(1, 4, 8, 0, Applied::TooLarge);
        assert_ne!(a.hash(), b.hash());
        b.record(1, 5, 9, 0, Applied::TooLarge);
        assert_eq!(a.hash(), b.hash());
    }

    #[test]
    fn the_session_used_longest_ago_expires() {
        let mut sessions = Sessions::default();
        for index in 1..=SESSIONS_MAX as u64 {
            sessions.open(index, 0);
        }
        let next = SESSIONS_MAX as u64 + 1;
        sessions.record(1, 1, next, 0, Applied::TooLarge);
        sessions.open(next + 1, 0);
        assert_eq!(sessions.look_up(1, 2), Verdict::New, "1 was just used");
        assert_eq!(sessions.look_up(2, 1), Verdict::Unknown, "2 was used longest ago");
        assert_eq!(sessions.look_up(3, 1), Verdict::New);
    }

    #[test]
    fn a_session_that_is_not_used_expires_by_log_time() {
        let mut sessions = Sessions::default();
        sessions.open(1, 100);
        sessions.open(2, 100);
        sessions.record(1, 1, 3, 200, Applied::TooLarge);
        sessions.expire(100 + SESSION_IDLE_MS_MAX);
        assert_eq!(sessions.look_up(2, 1), Verdict::New, "to the millisecond");
        sessions.expire(101 + SESSION_IDLE_MS_MAX);
        assert_eq!(sessions.look_up(2, 1), Verdict::Unknown);
        assert_eq!(sessions.look_up(1, 2), Verdict::New, "used later");
        sessions.expire(201 + SESSION_IDLE_MS_MAX);
        assert_eq!(sessions, Sessions::default(), "nothing is left of them, not in the hash either");
    }

    /// The same on every node: what is kept is counted from the log, and so is who goes.
    #[test]
    fn long_results_expire_who_was_used_longest_ago() {
        let mut sessions = Sessions::default();
        let clients = (SESSION_REPLY_BYTES_MAX / VALUE_BYTES_MAX) as u64;
        (1..=clients + 2).for_each(|client| sessions.open(client, 0));
        let saw = |byte: u8| {
            let value = Some(vec![byte; VALUE_BYTES_MAX].into());
            Applied::Executed { reply: Reply::Mismatch(value), position: 9 }
        };
        for client in 1..=clients {
            sessions.record(client, 1, 1_000 + client, 0, saw(client as u8));
        }
        assert_eq!(sessions.look_up(1, 1), Verdict::Done(saw(1)), "as much as there is room for");
        sessions.record(2, 2, 2_000, 0, saw(2));
        assert_eq!(sessions.look_up(1, 1), Verdict::Done(saw(1)), "one result a session");
        sessions.record(clients + 1, 1, 2_001, 0, saw(0));
        let unused = [1, clients + 2].map(|client| sessions.look_up(client, 1));
        assert_eq!(unused, [Verdict::Unknown, Verdict::Unknown], "the one never used went before it");
        assert_eq!(sessions.look_up(2, 2), Verdict::Done(saw(2)));
        sessions.record(3, 2, 2_002, 0, Applied::TooLarge);
        assert_eq!(sessions.reply_bytes, SESSION_REPLY_BYTES_MAX - VALUE_BYTES_MAX);
    }

    #[test]
    fn a_table_survives_its_bytes() {
        let mut sessions = Sessions::default();
        for index in 1..=4 {
            sessions.open(index, 7);
        }
        let value = Applied::Executed { reply: Reply::Mismatch(Some(b"v".as_slice().into())), position: 9 };
        sessions.record(2, 3, 9, 11, value);
        sessions.record(3, 1, 10, 11, Applied::TooLarge);
        let mut writer = Writer::default();
        sessions.encode(&mut writer);
        let bytes = writer.into_bytes();
        assert_eq!(Sessions::decode(&mut Reader::new(&bytes)), Ok(sessions));
        for cut in 0..bytes.len() {
            assert_eq!(Sessions::decode(&mut Reader::new(&bytes[..cut])), Err(Malformed));
        }
    }

    #[test]
    fn an_expired_session_is_gone_from_the_hash() {
        let opened = |clients: &[u64]| {
            let mut sessions = Sessions::default();
            clients.iter().for_each(|client| sessions.open(*client, *client));
            sessions
        };
        let mut sessions = opened(&[1, 2, 3]);
        sessions.expire(2 + SESSION_IDLE_MS_MAX);
        assert_eq!(sessions, opened(&[2, 3]));
    }

    #[test]
    fn a_table_that_no_store_wrote_is_refused() {
        // Ids of clients, with when each was used last.
        let decoded = |sessions: &[(u64, u64)]| {
            let mut writer = Writer::default();
            writer.u32(sessions.len() as u32);
            for (client_id, last_used) in sessions {
                writer.u64(*client_id);
                writer.u64(*last_used);
                writer.u64(0);
                writer.u64(0);
                writer.u8(0);
            }
            Sessions::decode(&mut Reader::new(&writer.into_bytes())).map(|table| table.sessions.len())
        };
        assert_eq!(decoded(&[(1, 5), (2, 4)]), Ok(2));
        for wrong in [[(2, 4), (1, 5)], [(1, 4), (1, 5)], [(1, 5), (2, 5)]] {
            assert_eq!(decoded(&wrong), Err(Malformed), "{wrong:?}");
        }
        let many = |count: usize| decoded(&(1..=count as u64).map(|id| (id, id)).collect::<Vec<_>>());
        assert_eq!((many(SESSIONS_MAX), many(SESSIONS_MAX + 1)), (Ok(SESSIONS_MAX), Err(Malformed)));
    }
}
