//! Raft messages as the payload of a datagram. An append is cut at entry boundaries, so each datagram is complete in itself.

use crate::kv::command::COMMAND_BYTES_MAX;
use crate::protocol::content::Content;
use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::membership::Membership;
use crate::raft::message::{AppendResult, Message, SnapshotOffer};
use crate::raft::types::{Entry, Index, LogId, NUMBER_MAX, Payload, ProcessId, Term};

use super::frame::PAYLOAD_BYTES_MAX;

/// Bytes of an append beside its entries.
const APPEND_FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 2;
/// Bytes of an entry beside its payload.
pub const ENTRY_OVERHEAD: usize = 8 + 1 + 2;
/// Bytes of entries that fit into one append.
pub const APPEND_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - APPEND_FIXED_BYTES;
/// Longest payload that travels in an append: it fills one.
pub const INLINE_BYTES_MAX: usize = APPEND_BYTES_MAX - ENTRY_OVERHEAD;
/// Longest payload of an entry that a node fetches: that of the longest command.
pub const ENTRY_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// Set in the kind of an entry whose payload does not stand in the message.
const ELSEWHERE: u8 = 0x80;

/// What stands in an append for the payload of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The payload.
    Here(Payload),
    /// It has to be fetched from the sender, under the entry's id.
    Elsewhere {
        /// [`Payload::kind`].
        kind: u8,
        /// What its bytes must be.
        content: Content,
    },
}

/// A [`Message::Append`] whose payloads may be elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendInParts {
    /// As in the message.
    pub prev: LogId,
    /// As in the message.
    pub commit_index: Index,
    /// As in the message.
    pub round: u64,
    /// As in the message.
    pub entries: Vec<(LogId, Part)>,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Whole(Message),
    /// An append of which something is missing.
    InParts(AppendInParts),
}

/// The payload of the entry that a kind and bytes describe.
///
/// # Errors
/// When there is none.
pub fn payload(kind: u8, bytes: &[u8]) -> Result<Payload, Malformed> {
    Ok(match kind {
        0 if bytes.is_empty() => Payload::Noop,
        1 => Payload::Command(bytes.into()),
        2 if Membership::decode(bytes).is_ok() => Payload::Membership(bytes.into()),
        _ => return Err(Malformed),
    })
}

fn write_id(writer: &mut Writer, id: LogId) {
    writer.u64(id.term);
    writer.u64(id.index);
}

fn read_number(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    Some(reader.u64()?).filter(|number| *number <= NUMBER_MAX).ok_or(Malformed)
}

fn read_id(reader: &mut Reader<'_>) -> Result<LogId, Malformed> {
    Ok(LogId { term: read_number(reader)?, index: read_number(reader)? })
}

/// The bytes of a message. A payload that is longer than [`INLINE_BYTES_MAX`] is named by its hash.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut writer = Writer::default();
    match message {
        Message::PreVoteRequest { candidate_term, last } => {
            writer.u8(1);
            writer.u64(*candidate_term);
            write_id(&mut writer, *last);
        }
        Message::PreVoteReply { candidate_term, granted } => {
            writer.u8(2);
            writer.u64(*candidate_term);
            writer.u8(u8::from(*granted));
        }
        Message::VoteRequest { last, transfer } => {
            writer.u8(3);
            write_id(&mut writer, *last);
            writer.u8(u8::from(*transfer));
        }
        Message::VoteReply { granted } => {
            writer.u8(4);
            writer.u8(u8::from(*granted));
        }
        Message::Append { prev, commit_index, round, entries } => {
            writer.u8(5);
            write_id(&mut writer, *prev);
            writer.u64(*commit_index);
            writer.u64(*round);
            writer.u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
            for entry in entries {
                let (kind, bytes) = (entry.payload.kind(), entry.payload.bytes());
                writer.u64(entry.id.term);
                if bytes.len() > INLINE_BYTES_MAX {
                    writer.u8(kind | ELSEWHERE);
                    Content::of(bytes).encode(&mut writer);
                } else {
                    writer.u8(kind);
                    writer.bytes(bytes);
                }
            }
        }
        Message::Snapshot { offer, round } => {
            writer.u8(8);
            write_id(&mut writer, offer.last);
            writer.u64(offer.size);
            offer.root.iter().for_each(|byte| writer.u8(*byte));
            writer.u64(*round);
        }
        Message::Hello => writer.u8(9),
        Message::HelloReply { asked_by, blank, known, leads } => {
            writer.u8(10);
            writer.u64(asked_by.directory);
            writer.u64(asked_by.incarnation);
            writer.u8(u8::from(*blank));
            writer.u64(*known);
            writer.u8(u8::from(leads.is_some()));
            writer.u64(leads.unwrap_or(0));
        }
        Message::AppendReply { round, result } => {
            writer.u8(6);
            writer.u64(*round);
            match result {
                AppendResult::Accepted { match_index } => {
                    writer.u8(1);
                    writer.u64(*match_index);
                }
                AppendResult::Fetching => writer.u8(3),
                AppendResult::Rejected { prev_index, hint } => {
                    writer.u8(2);
                    writer.u64(*prev_index);
                    write_id(&mut writer, *hint);
                }
            }
        }
        Message::TimeoutNow => writer.u8(7),
    }
    writer.into_bytes()
}

/// The message in `payload`, sent in `term`, if all of it is there.
///
/// # Errors
/// As [`decode_incoming`], and when something is missing.
pub fn decode(payload: &[u8], term: Term) -> Result<Message, Malformed> {
    match decode_incoming(payload, term)? {
        Incoming::Whole(message) => Ok(message),
        Incoming::InParts(_) => Err(Malformed),
    }
}

/// The message in `payload`, sent in `term`.
///
/// # Errors
/// When it is not one message, claims a number above [`NUMBER_MAX`], or its entries could not be part of a log: terms
/// from 1, never falling and never above the sender's, payloads no longer than [`ENTRY_BYTES_MAX`].
pub fn decode_incoming(payload: &[u8], term: Term) -> Result<Incoming, Malformed> {
    let mut reader = Reader::new(payload);
    let message = match reader.u8()? {
        1 => {
            Message::PreVoteRequest { candidate_term: read_number(&mut reader)?, last: read_id(&mut reader)? }
        }
        2 => Message::PreVoteReply { candidate_term: read_number(&mut reader)?, granted: reader.boolean()? },
        3 => Message::VoteRequest { last: read_id(&mut reader)?, transfer: reader.boolean()? },
        4 => Message::VoteReply { granted: reader.boolean()? },
        5 => {
            let prev = read_id(&mut reader)?;
            let (commit_index, round) = (read_number(&mut reader)?, read_number(&mut reader)?);
            let count = reader.u16()?;
            let entries = read_parts(&mut reader, prev, count, term)?;
            reader.finish()?;
            return Ok(AppendInParts { prev, commit_index, round, entries }.into_incoming());
        }
        6 => {
            let round = read_number(&mut reader)?;
            let result = match reader.u8()? {
                1 => AppendResult::Accepted { match_index: read_number(&mut reader)? },
                2 => AppendResult::Rejected {
                    prev_index: read_number(&mut reader)?,
                    hint: read_id(&mut reader)?,
                },
                3 => AppendResult::Fetching,
                _ => return Err(Malformed),
            };
            Message::AppendReply { round, result }
        }
        7 => Message::TimeoutNow,
        8 => {
            let last = read_id(&mut reader)?;
            let size = reader.u64()?;
            let mut root = [0; 32];
            for byte in &mut root {
                *byte = reader.u8()?;
            }
            let offer = SnapshotOffer { last, size, root };
            Message::Snapshot { offer, round: read_number(&mut reader)? }
        }
        9 => Message::Hello,
        10 => {
            let asked_by = ProcessId { directory: reader.u64()?, incarnation: reader.u64()? };
            let (blank, known) = (reader.boolean()?, reader.u64()?);
            let (leads, last) = (reader.boolean()?, read_number(&mut reader)?);
            if !leads && last != 0 {
                return Err(Malformed);
            }
            Message::HelloReply { asked_by, blank, known, leads: leads.then_some(last) }
        }
        _ => return Err(Malformed),
    };
    reader.finish()?;
    Ok(Incoming::Whole(message))
}

fn read_parts(
    reader: &mut Reader<'_>,
    prev: LogId,
    count: u16,
    term: Term,
) -> Result<Vec<(LogId, Part)>, Malformed> {
    let mut entries = Vec::new();
    let mut last = prev;
    for _ in 0..count {
        let id = LogId { term: reader.u64()?, index: last.index + 1 };
        let kind = reader.u8()?;
        let part = if kind & ELSEWHERE == 0 {
            Part::Here(self::payload(kind, reader.slice()?)?)
        } else {
            let (kind, content) = (kind & !ELSEWHERE, Content::decode(reader)?);
            let size = content.size as usize;
            // What is short enough stands in the message; no-ops have nothing to fetch.
            if !matches!(kind, 1 | 2) || size <= INLINE_BYTES_MAX || size > ENTRY_BYTES_MAX {
                return Err(Malformed);
            }
            Part::Elsewhere { kind, content }
        };
        // Every entry was made by a leader, and the first leader has term 1.
        if id.term < last.term.max(1) || id.term > term {
            return Err(Malformed);
        }
        last = id;
        entries.push((id, part));
    }
    Ok(entries)
}

impl AppendInParts {
    /// The message, if nothing is missing.
    fn into_incoming(self) -> Incoming {
        if self.entries.iter().any(|(_, part)| matches!(part, Part::Elsewhere { .. })) {
            return Incoming::InParts(self);
        }
        let AppendInParts { prev, commit_index, round, entries } = self;
        let whole = |(id, part)| match part {
            Part::Here(payload) => Some(Entry { id, payload }),
            Part::Elsewhere { .. } => None,
        };
        let entries = entries.into_iter().filter_map(whole).collect();
        Incoming::Whole(Message::Append { prev, commit_index, round, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log::REFERENCE_BYTES;

    fn id(term: Term, index: u64) -> LogId {
        LogId { term, index }
    }

    #[test]
    fn messages_survive_their_bytes() {
        let entries = vec![
            Entry { id: id(2, 8), payload: Payload::Command(b"x".as_slice().into()) },
            Entry { id: id(3, 9), payload: Payload::Noop },
        ];
        for message in [
            Message::PreVoteRequest { candidate_term: 4, last: id(3, 9) },
            Message::PreVoteReply { candidate_term: 4, granted: true },
            Message::VoteRequest { last: id(3, 9), transfer: true },
            Message::VoteRequest { last: id(3, 9), transfer: false },
            Message::TimeoutNow,
            Message::Hello,
            Message::HelloReply { asked_by: ProcessId::default(), blank: true, known: 0, leads: None },
            Message::HelloReply {
                asked_by: ProcessId { directory: 77, incarnation: 3 },
                blank: false,
                known: 77,
                leads: Some(9),
            },
            Message::Snapshot { offer: SnapshotOffer { last: id(2, 7), size: 99, root: [5; 32] }, round: 4 },
            Message::AppendReply { round: 5, result: AppendResult::Fetching },
            Message::VoteReply { granted: false },
            Message::Append { prev: id(2, 7), commit_index: 6, round: 5, entries },
            Message::AppendReply { round: 5, result: AppendResult::Accepted { match_index: 9 } },
            Message::AppendReply {
                round: 5,
                result: AppendResult::Rejected { prev_index: 9, hint: id(1, 2) },
            },
        ] {
            let bytes = encode(&message);
            assert_eq!(decode(&bytes, 3), Ok(message));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut], 3), Err(Malformed), "cut at {cut}");
            }
        }
    }

    #[test]
    fn entries_that_no_log_could_hold_are_malformed() {
        let append = |prev, term| {
            let entries = vec![Entry { id: id(term, 1), payload: Payload::Noop }];
            encode(&Message::Append { prev, commit_index: 0, round: 0, entries })
        };
        assert!(decode(&append(id(2, 7), 2), 2).is_ok());
        assert_eq!(decode(&append(id(2, 7), 1), 2), Err(Malformed), "a falling term");
        assert_eq!(decode(&append(id(2, 7), 3), 2), Err(Malformed), "a term above the sender's");
        assert_eq!(decode(&append(id(2, u64::MAX), 2), 2), Err(Malformed), "an index beyond all indexes");
    }

    #[test]
    fn a_long_payload_is_named_by_its_hash_and_a_short_one_travels_along() {
        let entry = |index, bytes| {
            let payload = Payload::Command(vec![7; bytes].into());
            Entry { id: id(2, index), payload }
        };
        let append = |entries| Message::Append { prev: id(2, 7), commit_index: 6, round: 5, entries };
        let message = append(vec![entry(8, INLINE_BYTES_MAX)]);
        let bytes = encode(&message);
        assert_eq!((bytes.len(), decode(&bytes, 2)), (PAYLOAD_BYTES_MAX, Ok(message)));

        let long = entry(9, INLINE_BYTES_MAX + 1);
        let content = Content::of(long.payload.bytes());
        let bytes = encode(&append(vec![entry(8, 3), long]));
        assert!(bytes.len() <= APPEND_FIXED_BYTES + 2 * ENTRY_OVERHEAD + 3 + REFERENCE_BYTES);
        let parts = vec![
            (id(2, 8), Part::Here(Payload::Command([7; 3].into()))),
            (id(2, 9), Part::Elsewhere { kind: 1, content }),
        ];
        let parts = AppendInParts { prev: id(2, 7), commit_index: 6, round: 5, entries: parts };
        assert_eq!(decode_incoming(&bytes, 2), Ok(Incoming::InParts(parts)));
        assert_eq!(decode(&bytes, 2), Err(Malformed), "not all of it is there");
        for cut in 0..bytes.len() {
            assert_eq!(decode_incoming(&bytes[..cut], 2), Err(Malformed), "cut at {cut}");
        }
        let at = bytes.len() - REFERENCE_BYTES;
        for size in [0, INLINE_BYTES_MAX as u32, ENTRY_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut wrong = bytes.clone();
            wrong[at..at + 4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(decode_incoming(&wrong, 2), Err(Malformed), "{size} bytes");
        }
        for kind in [0, 3, 0x7f] {
            let mut wrong = bytes.clone();
            wrong[at - 1] = kind | ELSEWHERE;
            assert_eq!(decode_incoming(&wrong, 2), Err(Malformed), "kind {kind}");
        }
    }
}
