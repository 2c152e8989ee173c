//! Raft messages as the payload of a datagram. An append is cut at entry boundaries, so each datagram is complete in itself.

use crate::protocol::wire::{Malformed, Reader, Writer};
use crate::raft::membership::Membership;
use crate::raft::message::{AppendResult, Message, SnapshotOffer};
use crate::raft::types::{Entry, LogId, NUMBER_MAX, Payload, Term};

use super::frame::PAYLOAD_BYTES_MAX;

/// Bytes of an append beside its entries.
const APPEND_FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 8 + 2;
/// Bytes of an entry beside its payload.
pub const ENTRY_OVERHEAD: usize = 8 + 1 + 2;
/// Bytes of entries that fit into one append.
pub const APPEND_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - APPEND_FIXED_BYTES;
/// Longest payload that travels in an append: it fills one.
pub const INLINE_BYTES_MAX: usize = APPEND_BYTES_MAX - ENTRY_OVERHEAD;

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

/// The bytes of a message.
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
                writer.u64(entry.id.term);
                writer.u8(entry.payload.kind());
                writer.bytes(entry.payload.bytes());
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
        Message::HelloReply { blank, known } => {
            writer.u8(10);
            writer.u8(u8::from(*blank));
            writer.u64(*known);
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

/// The message in `payload`, sent in `term`.
///
/// # Errors
/// When it is not one message, claims a number above [`NUMBER_MAX`], or its entries could not be part of a log: terms
/// from 1, never falling and never above the sender's.
pub fn decode(payload: &[u8], term: Term) -> Result<Message, Malformed> {
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
            let mut entries = Vec::new();
            let mut last = prev;
            for _ in 0..count {
                let id = LogId { term: reader.u64()?, index: last.index + 1 };
                let kind = reader.u8()?;
                let bytes = reader.slice()?;
                let payload = match kind {
                    0 if bytes.is_empty() => Payload::Noop,
                    1 => Payload::Command(bytes.into()),
                    2 if Membership::decode(bytes).is_ok() => Payload::Membership(bytes.into()),
                    _ => return Err(Malformed),
                };
                // Every entry was made by a leader, and the first leader has term 1.
                if id.term < last.term.max(1) || id.term > term {
                    return Err(Malformed);
                }
                last = id;
                entries.push(Entry { id, payload });
            }
            Message::Append { prev, commit_index, round, entries }
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
        10 => Message::HelloReply { blank: reader.boolean()?, known: reader.u64()? },
        _ => return Err(Malformed),
    };
    reader.finish()?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Message::HelloReply { blank: true, known: 0 },
            Message::HelloReply { blank: false, known: 77 },
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
    fn the_largest_command_fits_into_one_append() {
        let overhead = 1 + 8 + 8 + 1 + 2 + 1 + 2 + 2; // command, session, sequence, operation, three lengths
        assert!(overhead + crate::kv::command::KEY_VALUE_BYTES_MAX + ENTRY_OVERHEAD <= APPEND_BYTES_MAX);
    }
}
