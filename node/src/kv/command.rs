//! Commands of the state machine and their bytes in the log. What they do is in [`super`].

use std::fmt;
use std::sync::Arc;

use crate::protocol::wire::{Malformed, Reader, Writer};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// Longest value, in bytes; after an append, too.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest command in the log: a compare-and-set with two of the longest values.
pub const COMMAND_BYTES_MAX: usize = 1 + 8 + 8 + 1 + (2 + KEY_BYTES_MAX) + 1 + 2 * (6 + VALUE_BYTES_MAX);
/// Bytes of a key or value that are shown to people; of longer ones the beginning.
const SHOWN_BYTES_MAX: usize = 256;

/// What a client may ask of the store. Keys and values are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read a key, linearizably.
    Get {
        /// Key.
        key: Vec<u8>,
    },
    /// Set a key.
    Set {
        /// Key.
        key: Vec<u8>,
        /// New value.
        value: Vec<u8>,
    },
    /// Set a key to `new` if it holds `expected` (`None`: if it is absent).
    Cas {
        /// Key.
        key: Vec<u8>,
        /// Value that must be there.
        expected: Option<Vec<u8>>,
        /// Value that replaces it.
        new: Vec<u8>,
    },
    /// Append bytes to a key's value (an absent key counts as empty).
    Append {
        /// Key.
        key: Vec<u8>,
        /// Bytes to append.
        value: Vec<u8>,
    },
    /// Remove a key.
    Delete {
        /// Key.
        key: Vec<u8>,
    },
}

/// What an executed operation returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// `set`, `append`, `delete` and a `cas` that matched.
    Done,
    /// `get`: the value, `None` if the key is absent.
    Value(Option<Arc<[u8]>>),
    /// A `cas` that did not match, with what was there. The store did not change.
    Mismatch(Option<Arc<[u8]>>),
}

/// What an entry of the log asks of the state machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The leader's clock, now and then: by it sessions expire, on every node at the same entry (thesis §6.3).
    Clock {
        /// Milliseconds; what matters is how it grows.
        time: u64,
    },
    /// Open a client session.
    OpenSession {
        /// Drawn by the client, so that it recognises its own.
        nonce: u64,
    },
    /// Execute an operation once.
    Execute {
        /// The session.
        client_id: u64,
        /// Grows by one with each operation of the session; a retry repeats it.
        sequence: u64,
        /// What to do.
        operation: Operation,
    },
}

impl Operation {
    /// Whether the key or a value is over its bound.
    pub fn is_too_large(&self) -> bool {
        let (first, second) = match self {
            Operation::Get { .. } | Operation::Delete { .. } => (0, 0),
            Operation::Set { value, .. } | Operation::Append { value, .. } => (value.len(), 0),
            Operation::Cas { expected, new, .. } => (expected.as_ref().map_or(0, Vec::len), new.len()),
        };
        self.key().len() > KEY_BYTES_MAX || first.max(second) > VALUE_BYTES_MAX
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        match self {
            Operation::Get { key }
            | Operation::Set { key, .. }
            | Operation::Cas { key, .. }
            | Operation::Append { key, .. }
            | Operation::Delete { key } => key,
        }
    }

    /// Writes the operation.
    pub fn encode(&self, writer: &mut Writer) {
        match self {
            Operation::Get { key } => {
                writer.u8(1);
                writer.bytes(key);
            }
            Operation::Set { key, value } => {
                writer.u8(2);
                writer.bytes(key);
                writer.bytes(value);
            }
            Operation::Cas { key, expected, new } => {
                writer.u8(3);
                writer.bytes(key);
                writer.optional_bytes(expected.as_deref());
                writer.bytes(new);
            }
            Operation::Append { key, value } => {
                writer.u8(4);
                writer.bytes(key);
                writer.bytes(value);
            }
            Operation::Delete { key } => {
                writer.u8(5);
                writer.bytes(key);
            }
        }
    }

    /// Reads an operation.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Operation, Malformed> {
        Ok(match reader.u8()? {
            1 => Operation::Get { key: reader.bytes()? },
            2 => Operation::Set { key: reader.bytes()?, value: reader.bytes()? },
            3 => Operation::Cas {
                key: reader.bytes()?,
                expected: reader.optional_bytes()?,
                new: reader.bytes()?,
            },
            4 => Operation::Append { key: reader.bytes()?, value: reader.bytes()? },
            5 => Operation::Delete { key: reader.bytes()? },
            _ => return Err(Malformed),
        })
    }
}

impl Command {
    /// The command as the payload of an entry.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Command::OpenSession { nonce } => {
                writer.u8(1);
                writer.u64(*nonce);
            }
            Command::Clock { time } => {
                writer.u8(3);
                writer.u64(*time);
            }
            Command::Execute { client_id, sequence, operation } => {
                writer.u8(2);
                writer.u64(*client_id);
                writer.u64(*sequence);
                operation.encode(&mut writer);
            }
        }
        writer.into_bytes()
    }

    /// The command in an entry's payload.
    ///
    /// # Errors
    /// When the bytes are not one command, exactly.
    pub fn decode(bytes: &[u8]) -> Result<Command, Malformed> {
        let mut reader = Reader::new(bytes);
        let command = match reader.u8()? {
            1 => Command::OpenSession { nonce: reader.u64()? },
            2 => Command::Execute {
                client_id: reader.u64()?,
                sequence: reader.u64()?,
                operation: Operation::decode(&mut reader)?,
            },
            3 => Command::Clock { time: reader.u64()? },
            _ => return Err(Malformed),
        };
        reader.finish()?;
        Ok(command)
    }
}

/// Bytes as people read them.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SHOWN_BYTES_MAX) {
            Some(start) if self.0.len() > SHOWN_BYTES_MAX => {
                write!(f, "{}… ({} bytes)", start.escape_ascii(), self.0.len())
            }
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Shown(self.key());
        match self {
            Operation::Get { .. } => write!(f, "get {key}"),
            Operation::Set { value, .. } => write!(f, "set {key} {}", Shown(value)),
            Operation::Cas { expected, new, .. } => {
                let expected = expected.as_ref().map_or("(absent)".to_owned(), |e| Shown(e).to_string());
                write!(f, "cas {key} {expected} {}", Shown(new))
            }
            Operation::Append { value, .. } => write!(f, "append {key} {}", Shown(value)),
            Operation::Delete { .. } => write!(f, "delete {key}"),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Clock { time } => write!(f, "clock {time} ms"),
            Command::OpenSession { nonce } => write!(f, "open session (nonce {nonce:016x})"),
            Command::Execute { client_id, sequence, operation } => {
                write!(f, "{operation} (client {client_id}, sequence {sequence})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_survives_its_bytes_and_nothing_else_decodes() {
        let key = b"key".to_vec();
        let value = vec![0, 255, 10];
        let operations = [
            Operation::Get { key: key.clone() },
            Operation::Set { key: key.clone(), value: value.clone() },
            Operation::Cas { key: key.clone(), expected: None, new: value.clone() },
            Operation::Cas { key: key.clone(), expected: Some(Vec::new()), new: value.clone() },
            Operation::Append { key: key.clone(), value },
            Operation::Delete { key },
        ];
        let commands = operations
            .into_iter()
            .map(|operation| Command::Execute { client_id: 7, sequence: u64::MAX, operation })
            .chain([Command::OpenSession { nonce: 3 }, Command::Clock { time: 9 }]);
        for command in commands {
            let bytes = command.encode();
            assert_eq!(Command::decode(&bytes), Ok(command.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(Command::decode(&bytes[..cut]), Err(Malformed), "{command} cut at {cut}");
            }
            assert_eq!(Command::decode(&[&bytes[..], &[0]].concat()), Err(Malformed), "{command} and more");
        }
    }

    #[test]
    fn the_bounds_are_those_of_a_key_and_of_each_value() {
        let (key, value) = (vec![1; KEY_BYTES_MAX], vec![2; VALUE_BYTES_MAX]);
        let more = |bytes: &[u8]| [bytes, &[0]].concat();
        let set = |key: &[u8], value: &[u8]| Operation::Set { key: key.to_vec(), value: value.to_vec() };
        assert!(!set(&key, &value).is_too_large());
        assert!(set(&more(&key), b"").is_too_large() && set(b"k", &more(&value)).is_too_large());
        assert!(Operation::Get { key: more(&key) }.is_too_large());
        let cas = |expected: &[u8], new: &[u8]| Operation::Cas {
            key: key.clone(),
            expected: Some(expected.to_vec()),
            new: new.to_vec(),
        };
        assert!(cas(&more(&value), b"").is_too_large() && cas(b"", &more(&value)).is_too_large());
        let longest = Command::Execute { client_id: 1, sequence: 2, operation: cas(&value, &value) };
        assert_eq!(longest.encode().len(), COMMAND_BYTES_MAX);
        assert_eq!(Command::decode(&longest.encode()), Ok(longest));
        const { assert!(COMMAND_BYTES_MAX <= crate::storage::record::PAYLOAD_BYTES_MAX) };
    }

    #[test]
    fn people_are_shown_the_beginning_of_what_is_long() {
        let set = |bytes| Operation::Set { key: b"k".to_vec(), value: vec![b'x'; bytes] }.to_string();
        assert_eq!(set(3), "set k xxx");
        assert_eq!(set(SHOWN_BYTES_MAX).len(), 6 + SHOWN_BYTES_MAX);
        assert!(set(1 << 20).ends_with("x… (1048576 bytes)") && set(1 << 20).len() < 300);
    }

    #[test]
    fn a_command_reads_as_what_it_does() {
        let delete = Operation::Delete { key: b"k".to_vec() };
        for (command, text) in [
            (Command::Clock { time: 7 }, "clock 7 ms"),
            (Command::OpenSession { nonce: 255 }, "open session (nonce 00000000000000ff)"),
            (
                Command::Execute { client_id: 3, sequence: 4, operation: delete },
                "delete k (client 3, sequence 4)",
            ),
        ] {
            assert_eq!(command.to_string(), text);
        }
    }
}
