//! The applied state as bytes: what a snapshot holds. Equal states make equal bytes on every node.
//! A state is written while it goes on changing: [`Freeze`] remembers what a key held when the writing began, until the
//! writing has passed it. The bytes around it in a file are the storage's.
//!
//! Little-endian: last applied index u64, log time u64, the sessions, then each key with its value in the order of keys, both
//! with a four-byte length, until the end.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Store;
use super::session::Sessions;
use crate::protocol::wire::{Malformed, Reader, Writer};

/// A value of the store; shared, because replies, snapshots and the store all hold it.
pub type Value = Arc<[u8]>;

/// The state of one moment, part of it written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Freeze {
    /// What comes before the pairs, until it is written.
    head: Option<Vec<u8>>,
    /// The last key that is written.
    cursor: Option<Vec<u8>>,
    /// What keys behind the cursor held that have changed since: nothing, or a value.
    before: BTreeMap<Vec<u8>, Option<Value>>,
}

impl Freeze {
    /// A key is about to change from what it `holds`.
    pub(super) fn note(&mut self, key: &[u8], holds: Option<&Value>) {
        let written = self.cursor.as_deref().is_some_and(|cursor| key <= cursor);
        if !written && !self.before.contains_key(key) {
            self.before.insert(key.to_vec(), holds.cloned());
        }
    }
}

impl Store {
    /// Begins to write the state as it is now. An earlier writing that is not finished is given up.
    pub fn freeze(&mut self) {
        let mut writer = Writer::default();
        writer.u64(self.last_applied);
        writer.u64(self.log_time);
        self.sessions.encode(&mut writer);
        self.freeze = Some(Freeze { head: Some(writer.into_bytes()), cursor: None, before: BTreeMap::new() });
    }

    /// The next bytes of the state that was frozen, about `budget` of them, or `None` at its end.
    pub fn thaw(&mut self, budget: usize) -> Option<Vec<u8>> {
        let freeze = self.freeze.as_mut()?;
        if let Some(head) = freeze.head.take() {
            return Some(head);
        }
        let mut writer = Writer::default();
        let after = freeze.cursor.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut live = self.values.range::<Vec<u8>, _>((after, Bound::Unbounded)).peekable();
        let mut last = None;
        while writer.len() < budget {
            let changed = freeze.before.first_key_value().map(|(key, _)| key);
            let (key, value) = match (live.peek(), changed) {
                (None, None) => break,
                (Some((key, value)), changed) if changed.is_none_or(|changed| *key < changed) => {
                    let pair = ((*key).clone(), Some((*value).clone()));
                    live.next();
                    pair
                }
                (live_pair, _) => {
                    let same = live_pair.is_some_and(|(key, _)| Some(*key) == changed);
                    if same {
                        live.next();
                    }
                    let Some(pair) = freeze.before.pop_first() else { break };
                    pair
                }
            };
            if let Some(value) = value {
                writer.long_bytes(&key);
                writer.long_bytes(&value);
            }
            last = Some(key);
        }
        if last.is_none() {
            self.freeze = None;
            return None;
        }
        freeze.cursor = last;
        Some(writer.into_bytes())
    }

    /// Gives up a writing that is under way.
    pub fn forget_freeze(&mut self) {
        self.freeze = None;
    }

    /// Whether a writing is under way.
    pub fn is_frozen(&self) -> bool {
        self.freeze.is_some()
    }

    /// The state in the bytes of a snapshot.
    ///
    /// # Errors
    /// When they are not what [`Store::thaw`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Store, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut store = Store { last_applied: reader.u64()?, log_time: reader.u64()?, ..Store::default() };
        store.sessions = Sessions::decode(&mut reader)?;
        let mut last: Option<Vec<u8>> = None;
        while !reader.is_empty() {
            let key = reader.long_slice()?.to_vec();
            let value = reader.long_slice()?;
            if last.as_ref().is_some_and(|last| *last >= key) {
                return Err(Malformed);
            }
            store.put(&key, value.into());
            last = Some(key);
        }
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, Operation};
    use super::*;

    fn written(store: &mut Store, budget: usize, mut between: impl FnMut(&mut Store)) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(piece) = store.thaw(budget) {
            bytes.extend(piece);
            between(store);
        }
        assert!(!store.is_frozen());
        bytes
    }

    fn execute(store: &mut Store, sequence: u64, operation: Operation) {
        let command = Command::Execute { client_id: 1, sequence, operation };
        store.apply(store.last_applied() + 1, Some(&command));
    }

    fn set(key: u64, value: &str) -> Operation {
        Operation::Set { key: format!("k{key:03}").into_bytes(), value: value.as_bytes().to_vec() }
    }

    fn filled() -> Store {
        let mut store = Store::default();
        store.apply(1, Some(&Command::OpenSession { nonce: 5 }));
        for key in 0..100 {
            execute(&mut store, key + 1, set(2 * key, "first"));
        }
        store
    }

    #[test]
    fn what_is_written_is_the_state_of_the_moment_it_was_frozen() {
        let mut store = filled();
        let expected = store.clone();
        store.freeze();
        let mut sequence = 1_000;
        // Changes before, at and behind the cursor: keys that were there, new ones, ones that go and come back.
        let bytes = written(&mut store, 60, |store| {
            for key in [0, 1, 77, 100, 101, 198, 199, 350] {
                sequence += 1;
                let gone = Operation::Delete { key: format!("k{key:03}").into_bytes() };
                let operation = if (sequence + key) % 3 == 0 { gone } else { set(key, "changed") };
                execute(store, sequence, operation);
            }
        });
        assert_ne!(store, expected);
        assert_eq!(Store::decode(&bytes), Ok(expected.clone()));
        let mut quiet = expected.clone();
        quiet.freeze();
        assert_eq!(written(&mut quiet, 1 << 20, |_| {}), bytes, "equal states make equal bytes");
        assert_eq!(quiet.state_hash(), expected.state_hash());
    }

    #[test]
    fn a_writing_is_under_way_until_its_end_or_until_it_is_given_up() {
        let mut store = filled();
        assert!(!store.is_frozen());
        store.freeze();
        assert!(store.is_frozen());
        store.thaw(1);
        // Two keys of four bytes, two values of five, and the length of each.
        assert_eq!(store.thaw(34).map(|piece| piece.len()), Some(34));
        assert!(store.is_frozen());
        store.forget_freeze();
        assert!(!store.is_frozen() && store.thaw(1).is_none());
    }

    #[test]
    fn a_session_outlives_a_snapshot() {
        let mut store = filled();
        store.freeze();
        let bytes = written(&mut store, 1 << 20, |_| {});
        let mut again = Store::decode(&bytes).unwrap();
        let command = Command::Execute { client_id: 1, sequence: 100, operation: set(0, "twice") };
        let next = again.last_applied() + 1;
        assert_eq!(again.apply(next, Some(&command)), store.apply(next, Some(&command)));
        assert_eq!(
            again.get(b"k000").map(AsRef::as_ref),
            Some(&b"first"[..]),
            "applied once, before the snapshot"
        );
        assert_eq!(again.state_hash(), store.state_hash());
    }

    #[test]
    fn an_empty_store_and_cut_bytes() {
        let mut store = Store::default();
        store.freeze();
        let bytes = written(&mut store, 10, |_| {});
        assert_eq!(Store::decode(&bytes), Ok(Store::default()));
        let mut store = filled();
        store.freeze();
        let bytes = written(&mut store, 1 << 20, |_| {});
        let whole = (0..bytes.len()).filter(|cut| Store::decode(&bytes[..*cut]).is_ok()).count();
        assert_eq!(whole, 100, "only at the end of a pair; the file around it knows its length");
    }
}
