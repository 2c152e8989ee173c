//! The key-value state machine: applies commands in log order, the same way on every node.
//! No clock, no randomness, no unordered iteration: two nodes that applied the same entries hold the same bytes.

pub mod command;
pub mod image;
pub mod session;

use std::collections::BTreeMap;

use crate::hash::hash_pieces;
use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::types::Index;
use command::{Command, Operation, Reply, VALUE_BYTES_MAX};
use image::{Freeze, Value};
use session::{Sessions, Verdict};

/// What applying one command came to. Goes to whoever waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// A session was opened under this id.
    SessionOpened {
        /// The id: the index of the entry that opened it.
        client_id: u64,
    },
    /// The operation was executed, now or when it first came.
    Executed {
        /// What it returned.
        reply: Reply,
        /// Where it was first applied.
        position: Index,
    },
    /// The operation is refused for good: its result would not fit. The store did not change.
    TooLarge,
    /// No such session: never opened, or expired.
    SessionUnknown,
    /// The session has gone on to a later operation.
    Superseded,
}

impl Applied {
    /// Writes it, for a snapshot.
    fn encode(&self, writer: &mut Writer) {
        match self {
            Applied::SessionOpened { client_id } => {
                writer.u8(1);
                writer.u64(*client_id);
            }
            Applied::Executed { reply, position } => {
                writer.u8(2);
                writer.u64(*position);
                let (kind, value) = match reply {
                    Reply::Done => (0, None),
                    Reply::Value(value) => (1, value.as_deref()),
                    Reply::Mismatch(value) => (2, value.as_deref()),
                };
                writer.u8(kind);
                writer.u8(u8::from(value.is_some()));
                writer.long_bytes(value.unwrap_or_default());
            }
            Applied::TooLarge => writer.u8(3),
            Applied::SessionUnknown => writer.u8(4),
            Applied::Superseded => writer.u8(5),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the bytes are none.
    fn decode(reader: &mut Reader<'_>) -> Result<Applied, Malformed> {
        Ok(match reader.u8()? {
            1 => Applied::SessionOpened { client_id: reader.u64()? },
            2 => {
                let (position, kind, there) = (reader.u64()?, reader.u8()?, reader.boolean()?);
                let bytes = reader.long_slice()?;
                if !there && !bytes.is_empty() {
                    return Err(Malformed);
                }
                let value = there.then(|| Value::from(bytes));
                let reply = match kind {
                    0 if bytes.is_empty() && !there => Reply::Done,
                    1 => Reply::Value(value),
                    2 => Reply::Mismatch(value),
                    _ => return Err(Malformed),
                };
                Applied::Executed { reply, position }
            }
            3 => Applied::TooLarge,
            4 => Applied::SessionUnknown,
            5 => Applied::Superseded,
            _ => return Err(Malformed),
        })
    }
}

/// The replicated store: what every node must agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Store {
    /// Shared with the replies and snapshots that carry them.
    values: BTreeMap<Vec<u8>, Value>,
    sessions: Sessions,
    last_applied: Index,
    /// What the entries say of time, ms: the leaders' clocks as far as they were written down. Never falls.
    log_time: u64,
    /// A state of before that is being written.
    freeze: Option<Freeze>,
    /// XOR of a hash of each pair: changes with one pair are cheap, the order of pairs does not matter.
    values_hash: u64,
}

impl Store {
    /// The last applied entry.
    pub fn last_applied(&self) -> Index {
        self.last_applied
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What the log says of time, ms.
    pub fn log_time(&self) -> u64 {
        self.log_time
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        self.values.get(key)
    }

    /// Every key with its value, in the order of keys.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(key, value)| (key.as_slice(), value.as_ref()))
    }

    /// The sessions, for a leader that answers a retry without the log.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// A hash of everything that nodes must agree on.
    pub fn state_hash(&self) -> u64 {
        self.values_hash ^ self.sessions.hash()
    }

    /// Applies the entry at `index`. `command` is `None` for a no-op.
    pub fn apply(&mut self, index: Index, command: Option<&Command>) -> Option<Applied> {
        assert!(
            index == self.last_applied + 1,
            "entry {index} cannot be applied after {}",
            self.last_applied
        );
        self.last_applied = index;
        match command? {
            Command::Clock { time } => {
                self.log_time = self.log_time.max(*time);
                self.sessions.expire(self.log_time);
                None
            }
            Command::OpenSession { .. } => {
                self.sessions.open(index, self.log_time);
                Some(Applied::SessionOpened { client_id: index })
            }
            Command::Execute { client_id, sequence, operation } => {
                let verdict = self.sessions.look_up(*client_id, *sequence);
                #[cfg(feature = "planted")]
                let verdict = crate::planted::no_deduplication(verdict);
                let applied = match verdict {
                    Verdict::New => {
                        let applied = self.execute(index, operation);
                        self.sessions.record(*client_id, *sequence, index, self.log_time, applied.clone());
                        applied
                    }
                    Verdict::Done(applied) => applied,
                    Verdict::Superseded => Applied::Superseded,
                    Verdict::Unknown => Applied::SessionUnknown,
                };
                Some(applied)
            }
        }
    }

    fn execute(&mut self, index: Index, operation: &Operation) -> Applied {
        let done = Applied::Executed { reply: Reply::Done, position: index };
        match operation {
            Operation::Get { key } => {
                let reply = Reply::Value(self.get(key).cloned());
                return Applied::Executed { reply, position: index };
            }
            Operation::Set { key, value } => self.put(key, value.as_slice().into()),
            Operation::Cas { key, expected, new } => {
                let actual = self.get(key);
                if actual.map(AsRef::as_ref) != expected.as_deref() {
                    let reply = Reply::Mismatch(actual.cloned());
                    return Applied::Executed { reply, position: index };
                }
                self.put(key, new.as_slice().into());
            }
            Operation::Append { key, value } => {
                let old = self.get(key).map(AsRef::as_ref).unwrap_or_default();
                if old.len() + value.len() > VALUE_BYTES_MAX {
                    return Applied::TooLarge;
                }
                let joined = [old, value].concat();
                self.put(key, joined.into());
            }
            Operation::Delete { key } => {
                self.note(key);
                if let Some(old) = self.values.remove(key) {
                    self.values_hash ^= pair_hash(key, &old);
                }
            }
        }
        done
    }

    /// For a state that is being written: a key is about to change.
    fn note(&mut self, key: &[u8]) {
        if let Some(freeze) = &mut self.freeze {
            freeze.note(key, self.values.get(key));
        }
    }

    fn put(&mut self, key: &[u8], value: Value) {
        self.note(key);
        self.values_hash ^= pair_hash(key, &value);
        // Most writes are to a key that is there: its bytes need not be copied.
        match self.values.get_mut(key) {
            Some(there) => {
                self.values_hash ^= pair_hash(key, there);
                *there = value;
            }
            None => drop(self.values.insert(key.to_vec(), value)),
        }
    }
}

fn pair_hash(key: &[u8], value: &[u8]) -> u64 {
    hash_pieces([key, value])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(store: &mut Store, client_id: u64, sequence: u64, operation: Operation) -> Applied {
        let command = Command::Execute { client_id, sequence, operation };
        store.apply(store.last_applied() + 1, Some(&command)).expect("a command answers")
    }

    fn opened() -> (Store, u64) {
        let mut store = Store::default();
        assert_eq!(
            store.apply(1, Some(&Command::OpenSession { nonce: 9 })),
            Some(Applied::SessionOpened { client_id: 1 })
        );
        (store, 1)
    }

    fn append(value: &str) -> Operation {
        Operation::Append { key: b"k".to_vec(), value: value.as_bytes().to_vec() }
    }

    #[test]
    fn a_retried_write_is_applied_once_and_answers_the_same() {
        let (mut store, client) = opened();
        let first = run(&mut store, client, 1, append("a"));
        assert_eq!(run(&mut store, client, 1, append("a")), first);
        assert_eq!(store.get(b"k"), Some(&b"a"[..].into()));
        run(&mut store, client, 2, append("b"));
        assert_eq!(run(&mut store, client, 1, append("a")), Applied::Superseded);
        assert_eq!(store.get(b"k"), Some(&b"ab"[..].into()));
        assert_eq!(run(&mut store, 77, 1, append("c")), Applied::SessionUnknown);
        assert_eq!(store.get(b"k"), Some(&b"ab"[..].into()));
    }

    #[test]
    fn cas_says_what_it_saw() {
        let (mut store, client) = opened();
        let cas = |expected: Option<&str>, new: &str| Operation::Cas {
            key: b"k".to_vec(),
            expected: expected.map(|e| e.as_bytes().to_vec()),
            new: new.as_bytes().to_vec(),
        };
        let mismatch = |seen: Option<&str>, position| Applied::Executed {
            reply: Reply::Mismatch(seen.map(|s| s.as_bytes().into())),
            position,
        };
        assert_eq!(run(&mut store, client, 1, cas(Some("1"), "2")), mismatch(None, 2));
        assert_eq!(
            run(&mut store, client, 2, cas(None, "1")),
            Applied::Executed { reply: Reply::Done, position: 3 }
        );
        assert_eq!(run(&mut store, client, 3, cas(None, "5")), mismatch(Some("1"), 4));
        assert_eq!(store.get(b"k"), Some(&b"1"[..].into()));
    }

    #[test]
    fn an_append_that_outgrows_the_bound_changes_nothing() {
        let (mut store, client) = opened();
        run(&mut store, client, 1, append(&"x".repeat(VALUE_BYTES_MAX)));
        let before = store.state_hash();
        let sessions = store.sessions().hash();
        assert_eq!(run(&mut store, client, 2, append("y")), Applied::TooLarge);
        assert_eq!(store.get(b"k").map(|value| value.len()), Some(VALUE_BYTES_MAX));
        assert_eq!(store.state_hash() ^ store.sessions().hash(), before ^ sessions);
    }

    #[test]
    fn the_hash_depends_on_the_contents_and_not_on_the_way_there() {
        let (mut a, client) = opened();
        let (mut b, _) = opened();
        let set = |k: &str, v: &str| Operation::Set { key: k.into(), value: v.into() };
        run(&mut a, client, 1, set("x", "1"));
        run(&mut a, client, 2, set("y", "2"));
        run(&mut b, client, 1, set("y", "2"));
        run(&mut b, client, 2, set("x", "1"));
        assert_eq!(a.values_hash, b.values_hash);
        run(&mut a, client, 3, set("x", "3"));
        assert_ne!(a.values_hash, b.values_hash);
        run(&mut a, client, 4, set("x", "1"));
        assert_eq!(a.values_hash, b.values_hash);
        run(&mut a, client, 5, Operation::Delete { key: b"x".to_vec() });
        let (mut y, _) = opened();
        run(&mut y, client, 1, set("y", "2"));
        assert_eq!(a.values_hash, y.values_hash);
        run(&mut a, client, 6, Operation::Delete { key: b"y".to_vec() });
        assert_eq!(a.values_hash, 0);
    }

    #[test]
    fn a_store_tells_what_it_holds_and_when_its_log_was_written() {
        let (mut store, client) = opened();
        assert_eq!((store.len(), store.is_empty(), store.log_time()), (0, true, 0));
        for (sequence, key) in (1..).zip(["b", "a", "c"]) {
            let set = Operation::Set { key: key.into(), value: key.to_uppercase().into() };
            run(&mut store, client, sequence, set);
        }
        assert_eq!((store.len(), store.is_empty()), (3, false));
        let pairs: Vec<_> = store.pairs().collect();
        assert_eq!(pairs, [(&b"a"[..], &b"A"[..]), (b"b", b"B"), (b"c", b"C")]);
        for (time, told) in [(700, 700), (300, 700), (900, 900)] {
            store.apply(store.last_applied() + 1, Some(&Command::Clock { time }));
            assert_eq!(store.log_time(), told, "it never falls");
        }
    }

    #[test]
    fn a_result_survives_its_bytes_and_others_are_refused() {
        let executed = |reply| Applied::Executed { reply, position: 7 };
        let value = || Some(Value::from(&b"v"[..]));
        for applied in [
            Applied::SessionOpened { client_id: 5 },
            executed(Reply::Done),
            executed(Reply::Value(None)),
            executed(Reply::Value(value())),
            executed(Reply::Value(Some(Value::from(&b""[..])))),
            executed(Reply::Mismatch(None)),
            executed(Reply::Mismatch(value())),
            Applied::TooLarge,
            Applied::SessionUnknown,
            Applied::Superseded,
        ] {
            let mut writer = Writer::default();
            applied.encode(&mut writer);
            let bytes = writer.into_bytes();
            assert_eq!(Applied::decode(&mut Reader::new(&bytes)), Ok(applied));
        }
        // A kind of reply, whether a value is there, and the value.
        let decoded = |kind: u8, there: bool, value: &[u8]| {
            let mut writer = Writer::default();
            writer.u8(2);
            writer.u64(7);
            writer.u8(kind);
            writer.u8(u8::from(there));
            writer.long_bytes(value);
            Applied::decode(&mut Reader::new(&writer.into_bytes()))
        };
        assert_eq!(decoded(0, false, b""), Ok(executed(Reply::Done)));
        for (kind, there, value) in [(0, true, &b""[..]), (0, true, b"v"), (1, false, b"v"), (3, false, b"")]
        {
            assert_eq!(decoded(kind, there, value), Err(Malformed), "{kind} {there} {value:?}");
        }
        assert_eq!(Applied::decode(&mut Reader::new(&[6])), Err(Malformed));
    }
}
