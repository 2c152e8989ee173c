//! Hostile bytes for every decoder, and hostile datagrams for a replica: nothing that arrives makes it panic but the one
//! broken invariant that is documented, and what is malformed leaves no trace but a counter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use node::client::{decode_response, request_frame};
use node::kv::command::{Command, Operation};
use node::protocol::{Request, RequestBody, Response};
use node::raft::Input;
use node::raft::message::{AppendResult, Message};
use node::raft::types::{Entry, LogId, NUMBER_MAX, Payload};
use node::transport::frame::{DATAGRAM_BYTES_MAX, Frame, HEADER_BYTES, Kind, cluster_id};
use node::transport::message_codec;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::core::{Core, append, id};
use crate::replica::{Bench, CLUSTER, client, peer_frame, replica_config};

const CHECKSUM: std::ops::Range<usize> = HEADER_BYTES - 4..HEADER_BYTES;

fn random_bytes(rng: &mut ChaCha8Rng, max: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..=max)];
    rng.fill_bytes(&mut bytes);
    // Small numbers get further than random ones.
    for byte in &mut bytes {
        if rng.random_range(0..3) > 0 {
            *byte %= 6;
        }
    }
    bytes
}

/// Whatever decodes is encoded to the very same bytes: no two datagrams mean the same, and no byte is ignored.
#[test]
fn what_decodes_is_what_was_encoded() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut decoded = [0; 5];
    for _ in 0..20_000 {
        let bytes = random_bytes(&mut rng, 60);
        if let Ok(message) = message_codec::decode(&bytes, 5) {
            assert_eq!(message_codec::encode(&message), bytes);
            decoded[0] += 1;
        }
        if let Ok(request) = Request::decode(&bytes) {
            assert_eq!(request.encode(), bytes);
            decoded[1] += 1;
        }
        if let Ok(response) = Response::decode(&bytes) {
            assert_eq!(response.encode(), bytes);
            decoded[2] += 1;
        }
        if let Ok(command) = Command::decode(&bytes) {
            assert_eq!(command.encode(), bytes);
            decoded[3] += 1;
        }
        assert!(Frame::decode(&bytes).is_err() && decode_response(7, &bytes).is_none());
        // From a valid one, a few bytes changed.
        let mut near = message(&mut rng, 3).map_or_else(Vec::new, |m| message_codec::encode(&m));
        if let Some(at) = (!near.is_empty()).then(|| rng.random_range(0..near.len())) {
            near[at] = rng.random();
            if let Ok(message) = message_codec::decode(&near, 5) {
                assert_eq!(message_codec::encode(&message), near);
                decoded[4] += 1;
            }
        }
    }
    assert!(decoded.iter().all(|count| *count >= 10), "each decoder said yes now and then: {decoded:?}");
}

/// Terms, indexes and rounds around what a node has, and at the ends of their range.
fn number(rng: &mut ChaCha8Rng, near: u64) -> u64 {
    match rng.random_range(0..8) {
        0 => 0,
        1 => NUMBER_MAX,
        2 => NUMBER_MAX + 1,
        3 => u64::MAX,
        4 => near.saturating_sub(rng.random_range(0..3)),
        5 => near + rng.random_range(1..3),
        _ => near,
    }
}

fn message(rng: &mut ChaCha8Rng, near: u64) -> Option<Message> {
    let mut any = || number(rng, near);
    let (a, b, c, d) = (any(), any(), any(), any());
    let last = LogId { term: b, index: c };
    Some(match rng.random_range(0..7) {
        0 => Message::PreVoteRequest { candidate_term: a, last },
        1 => Message::PreVoteReply { candidate_term: a, granted: rng.random() },
        2 => Message::VoteRequest { last, transfer: false },
        3 => Message::VoteReply { granted: rng.random() },
        4 => Message::AppendReply { round: a, result: AppendResult::Accepted { match_index: b } },
        5 => Message::AppendReply { round: a, result: AppendResult::Rejected { prev_index: d, hint: last } },
        _ => {
            let first = c.checked_add(1)?;
            let term = number(rng, near);
            let entry = |index| {
                let bytes = random_bytes(rng, 30);
                let payload = if bytes.is_empty() { Payload::Noop } else { Payload::Command(bytes.into()) };
                Entry { id: LogId { term, index }, payload }
            };
            let entries = (first..first.checked_add(3)?).map(entry).collect();
            Message::Append { prev: last, commit_index: a, round: d, entries }
        }
    })
}

/// A whole datagram: valid, or valid and then damaged with its checksum put right again.
fn datagram(rng: &mut ChaCha8Rng, to: u32, term: u64, near: u64) -> Vec<u8> {
    let kinds = [
        Kind::Peer,
        Kind::Peer,
        Kind::Peer,
        Kind::Forward,
        Kind::ForwardReply,
        Kind::Request,
        Kind::Response,
    ];
    let kind = kinds[rng.random_range(0..kinds.len())];
    let payload = match kind {
        Kind::Peer => message(rng, near).map_or_else(Vec::new, |m| message_codec::encode(&m)),
        Kind::Request | Kind::Forward => {
            let key = random_bytes(rng, 3);
            let operation = Operation::Append { key: key.clone(), value: random_bytes(rng, 1_200) };
            let body = match rng.random_range(0..5) {
                0 => RequestBody::OpenSession,
                1 => RequestBody::Get { key },
                2 => RequestBody::LocalGet { key },
                3 => RequestBody::Status,
                _ => RequestBody::Write { client_id: number(rng, near), operation },
            };
            Request { nonce: rng.random_range(0..3), sequence: number(rng, near), body }.encode()
        }
        _ => random_bytes(rng, 60),
    };
    let from = if kind == Kind::Request { 0 } else { rng.random_range(1..=3) };
    let mut bytes = peer_frame(kind, from, to, number(rng, term), &payload);
    for _ in 0..rng.random_range(0..3) {
        let at = rng.random_range(0..bytes.len());
        bytes[at] ^= 1 << rng.random_range(0..8);
    }
    if rng.random_range(0..20) == 0 {
        bytes.truncate(rng.random_range(0..bytes.len()));
    }
    if bytes.len() >= HEADER_BYTES {
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM.start]), &bytes[HEADER_BYTES..]);
        bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

fn fresh(role: usize) -> Bench {
    match role {
        0 => Bench::leader_of(replica_config(1, 3)),
        1 => Bench::follower(),
        _ => Bench::new(replica_config(3, 3), 2, &[1, 1, 2]),
    }
}

/// A member may claim anything, for nothing authenticates it. All that it can do with one datagram is to make a node abort
/// over a committed entry that it contradicts: that abort is evidence.
#[test]
fn no_datagram_makes_a_replica_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut aborted, mut dropped, mut taken) = (0, 0, 0);
    for round in 0..300 {
        let mut bench = fresh(round % 3);
        for _ in 0..40 {
            let raft = bench.replica.raft();
            let near = raft.log().last().index.min(1_000);
            let bytes = datagram(&mut rng, raft.id(), raft.term().min(NUMBER_MAX), near);
            let before = format!("{:?} {:?}", raft, bench.replica.store());
            let count = |bench: &Bench| bench.replica.status(0).dropped.values().sum::<u64>();
            let counted = count(&bench);
            let step = || {
                bench.replica.datagram(bench.now, client(9), &bytes);
                if count(&bench) > counted {
                    let after = format!("{:?} {:?}", bench.replica.raft(), bench.replica.store());
                    assert_eq!(after, before, "a dropped datagram changes nothing");
                    return true;
                }
                let next = bench.replica.next_deadline();
                if rng.random_range(0..4) == 0 {
                    bench.now = next;
                    bench.replica.tick(next);
                }
                for (_, datagram) in bench.flush().datagrams {
                    assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
                }
                if rng.random() {
                    bench.sync();
                }
                false
            };
            match catch_unwind(AssertUnwindSafe(step)) {
                Ok(true) => dropped += 1,
                Ok(false) => taken += 1,
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    assert!(text.contains("may not be discarded"), "{text} after {bytes:?}");
                    aborted += 1;
                    break;
                }
            }
        }
    }
    assert!(dropped > 1_000 && taken > 1_000 && aborted < 150, "{dropped} {taken} {aborted}");
}

#[test]
fn random_bytes_are_dropped_and_counted() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut bench = fresh(1);
    let before = format!("{:?} {:?}", bench.replica.raft(), bench.replica.store());
    for _ in 0..5_000 {
        let bytes = random_bytes(&mut rng, DATAGRAM_BYTES_MAX + 2);
        bench.replica.datagram(0, client(9), &bytes);
    }
    assert_eq!(bench.replica.status(0).dropped.values().sum::<u64>(), 5_000);
    assert_eq!(format!("{:?} {:?}", bench.replica.raft(), bench.replica.store()), before);
    assert!(bench.flush().datagrams.is_empty());
}

/// The largest term that may arrive still leaves room to stand for election after it.
#[test]
fn the_ends_of_the_range_of_terms_are_harmless() {
    let mut core = Core::new(1, 3, 1, None, &[]);
    core.receive(2, NUMBER_MAX, Message::VoteReply { granted: false });
    assert_eq!(core.raft.term(), NUMBER_MAX);
    core.timeout();
    core.receive(2, NUMBER_MAX, Message::PreVoteReply { candidate_term: NUMBER_MAX + 1, granted: true });
    assert_eq!((core.role(), core.raft.term()), ("candidate", NUMBER_MAX + 1));
    core.input(Input::Tick);
    for term in [NUMBER_MAX + 1, u64::MAX] {
        let mut bench = fresh(1);
        bench.peer(1, term, &Message::VoteRequest { last: id(0, 0), transfer: false });
        assert_eq!((bench.replica.raft().term(), bench.replica.status(0).dropped["malformed"]), (1, 1));
        bench.peer(1, 1, &Message::PreVoteRequest { candidate_term: term, last: id(0, 0) });
        bench.peer(
            1,
            1,
            &Message::AppendReply { round: 0, result: AppendResult::Accepted { match_index: term } },
        );
        bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: 0, round: term, entries: vec![] });
        assert_eq!(bench.replica.status(0).dropped["malformed"], 4);
    }
    let mut bench = fresh(1);
    bench.peer(1, 1, &Message::PreVoteRequest { candidate_term: NUMBER_MAX, last: id(0, 0) });
    bench.peer(1, NUMBER_MAX, &Message::VoteReply { granted: false });
    assert_eq!(bench.replica.raft().term(), NUMBER_MAX);
    assert!(bench.replica.status(0).dropped.is_empty(), "the largest numbers themselves are taken");
    bench.peer(1, NUMBER_MAX, &append(id(0, 0), 0, &[0]));
    assert_eq!(bench.replica.status(0).dropped["malformed"], 1, "no leader has term 0");
}

/// What a client sends reaches the store only as a whole request.
#[test]
fn mutated_requests_are_whole_or_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // A write, which is passed on at once: reads would wait for each other.
    let body = crate::replica::set(5, "key", "value");
    let request = Request { nonce: 7, sequence: 1, body }.encode();
    let (mut bench, mut answered) = (fresh(1), 0);
    for _ in 0..2_000 {
        let mut payload = request.clone();
        let at = rng.random_range(0..payload.len());
        payload[at] = rng.random();
        let whole = Request::decode(&payload).is_ok();
        bench.replica.datagram(0, client(9), &request_frame(cluster_id(CLUSTER), 1, &payload));
        assert_eq!(bench.flush().datagrams.is_empty(), !whole, "{payload:?}");
        answered += u32::from(whole);
    }
    assert!(answered > 100 && bench.replica.status(0).dropped["malformed"] > 100);
}
