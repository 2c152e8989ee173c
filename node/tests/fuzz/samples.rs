//! Where the corpus came from: one of everything that a decoder takes, and near misses that it must refuse.

use node::kv::command::{Command, Operation, Reply};
use node::protocol::content::Content;
use node::protocol::error::ErrorCode;
use node::protocol::{Purpose, Request, RequestBody, Response, ResponseBody};
use node::raft::message::{AppendResult, Message};
use node::raft::types::{Entry, LogId, NUMBER_MAX, Payload, ProcessId};
use node::transport::frame::{Frame, Kind};
use node::transport::key::Key;
use node::transport::message_codec;
use node::transport::object::{CHUNK_BYTES, CHUNKS_PER_PULL_MAX, Chunk, ObjectId, PullRequest};
use node::transport::pull::ChunkRange;

pub(crate) fn key() -> Key {
    Key::of_secret(&[7; 32]).unwrap()
}

type Sample = (&'static str, String, Vec<u8>);

fn id(index: u64, term: u64) -> LogId {
    LogId { term, index }
}

/// Decoder, name, bytes.
pub(crate) fn all() -> Vec<Sample> {
    let mut all = Vec::new();
    let mut add = |decoder, name: &str, bytes: Vec<u8>| all.push((decoder, name.to_owned(), bytes));
    let key_of = || b"key".to_vec();
    let operations = [
        ("set", Operation::Set { key: key_of(), value: b"value".to_vec() }),
        ("cas", Operation::Cas { key: key_of(), expected: Some(b"old".to_vec()), new: b"new".to_vec() }),
        ("cas-absent", Operation::Cas { key: key_of(), expected: None, new: vec![] }),
        ("append", Operation::Append { key: key_of(), value: b" more".to_vec() }),
        ("delete", Operation::Delete { key: key_of() }),
    ];
    for (name, operation) in operations {
        let command = Command::Execute { client_id: 7, sequence: 9, operation: operation.clone() };
        add("command", &format!("ok-{name}"), command.encode());
        let body = RequestBody::Write { client_id: 7, operation };
        add("request", &format!("ok-{name}"), Request { nonce: 1, sequence: 9, body }.encode());
    }
    add("command", "ok-open-session", Command::OpenSession { nonce: 5 }.encode());
    add("command", "bad-more", [Command::OpenSession { nonce: 5 }.encode(), vec![0]].concat());
    // A short length said in the long way.
    let long_way = [&[2][..], &[0; 16], &[1], &[0xff, 0xff, 3, 0, 0, 0], b"key"].concat();
    add("command", "bad-long-length", long_way);

    let content = Content::of(b"content");
    let bodies = [
        ("open-session", RequestBody::OpenSession),
        ("get", RequestBody::Get { key: key_of() }),
        ("local-get", RequestBody::LocalGet { key: key_of() }),
        ("status", RequestBody::Status),
        ("transfer", RequestBody::TransferLeader { to: 3 }),
        ("read-index", RequestBody::ReadIndex),
        ("offer-write", RequestBody::Offer { purpose: Purpose::Write { client_id: 7 }, content }),
        ("offer-read", RequestBody::Offer { purpose: Purpose::Read, content }),
    ];
    for (name, body) in bodies {
        add("request", &format!("ok-{name}"), Request { nonce: 1, sequence: 9, body }.encode());
    }
    let get = RequestBody::Write { client_id: 7, operation: Operation::Get { key: key_of() } };
    add("request", "bad-get-as-write", Request { nonce: 1, sequence: 9, body: get }.encode());
    add("request", "bad-empty", vec![]);

    let value = || Some(b"value"[..].into());
    let bodies = [
        ("opened", ResponseBody::SessionOpened { client_id: 7 }),
        ("done", ResponseBody::Applied { position: 3, reply: Reply::Done }),
        ("value", ResponseBody::Applied { position: 3, reply: Reply::Value(value()) }),
        ("absent", ResponseBody::Applied { position: 3, reply: Reply::Value(None) }),
        ("mismatch", ResponseBody::Applied { position: 3, reply: Reply::Mismatch(value()) }),
        ("local", ResponseBody::Local { last_applied: 3, value: value() }),
        ("status", ResponseBody::Status { json: b"{}".to_vec() }),
        ("transferring", ResponseBody::Transferring { to: 2 }),
        ("read-index", ResponseBody::ReadIndex { index: 4 }),
        ("offer", ResponseBody::Offer { content }),
        ("error", ResponseBody::Error { error: ErrorCode::Busy }),
    ];
    for (name, body) in bodies {
        let bytes = Response { nonce: 1, sequence: 9, node: 2, body }.encode();
        if name == "error" {
            add("response", "bad-unknown-error", [&bytes[..bytes.len() - 1], &[200]].concat());
        }
        add("response", &format!("ok-{name}"), bytes);
    }

    let entries = |payload: Payload| vec![Entry { id: id(8, 3), payload }];
    let append =
        |payload| Message::Append { prev: id(7, 2), commit_index: 6, round: 5, entries: entries(payload) };
    let messages = [
        ("pre-vote", Message::PreVoteRequest { candidate_term: 4, last: id(9, 3) }),
        ("pre-vote-reply", Message::PreVoteReply { candidate_term: 4, granted: true }),
        ("vote", Message::VoteRequest { last: id(9, 3), transfer: false }),
        ("vote-reply", Message::VoteReply { granted: true }),
        ("timeout-now", Message::TimeoutNow),
        ("append-noop", append(Payload::Noop)),
        ("append-command", append(Payload::Command(b"command"[..].into()))),
        ("append-reference", append(Payload::Command(vec![7; 5_000].into()))),
        ("heartbeat", Message::Append { prev: id(7, 2), commit_index: 6, round: 5, entries: vec![] }),
        ("accepted", Message::AppendReply { round: 5, result: AppendResult::Accepted { match_index: 9 } }),
        (
            "rejected",
            Message::AppendReply {
                round: 5,
                result: AppendResult::Rejected { prev_index: 9, hint: id(4, 2) },
            },
        ),
    ];
    for (name, message) in messages {
        add("message", &format!("ok-{name}"), message_codec::encode(&message));
    }
    let beyond = Message::PreVoteRequest { candidate_term: NUMBER_MAX + 1, last: id(9, 3) };
    add("message", "bad-number", message_codec::encode(&beyond));
    let falling = vec![Entry { id: id(8, 1), payload: Payload::Noop }];
    let falling = Message::Append { prev: id(7, 2), commit_index: 6, round: 5, entries: falling };
    add("message", "bad-falling-term", message_codec::encode(&falling));
    let mut short = message_codec::encode(&append(Payload::Command(vec![7; 5_000].into())));
    let at = short.len() - 20;
    short[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    add("message", "bad-reference-to-what-is-short", short);

    let objects = [
        ("entry", ObjectId::Entry(id(9, 3))),
        ("snapshot", ObjectId::Snapshot { last: id(9, 3), root: [7; 32] }),
        ("request", ObjectId::Request { nonce: 1, sequence: 2 }),
        ("response", ObjectId::Response { nonce: 1, sequence: 2, hash: 3 }),
    ];
    let range = |chunk: u64, chunks: u64| ChunkRange {
        offset: chunk * CHUNK_BYTES as u64,
        bytes: chunks * CHUNK_BYTES as u64,
    };
    for (name, object) in objects {
        let ranges = vec![range(0, 2), range(5, 1)];
        let pull = PullRequest { object, asked_at: 4, ranges };
        add("pull", &format!("ok-{name}"), pull.encode());
        let chunk = Chunk { object, asked_at: 4, offset: CHUNK_BYTES as u64, bytes: &[5; 40] };
        add("chunk", &format!("ok-{name}"), chunk.encode());
        add("chunk", &format!("bad-{name}-cut"), chunk.encode()[..30].to_vec());
    }
    let object = objects[0].1;
    for (name, ranges) in [
        ("bad-too-much", vec![range(0, CHUNKS_PER_PULL_MAX + 1)]),
        ("bad-backwards", vec![range(3, 1), range(1, 1)]),
        ("bad-nothing", vec![ChunkRange { offset: 0, bytes: 0 }]),
    ] {
        add("pull", name, PullRequest { object, asked_at: 4, ranges }.encode());
    }

    let frame = |kind, payload| Frame {
        kind,
        cluster_id: 1,
        from: 1,
        to: 2,
        process: ProcessId { directory: 3, incarnation: 4 },
        term: 5,
        message_id: 6,
        payload,
    };
    for (name, kind) in [("peer", Kind::Peer), ("request", Kind::Request), ("chunk", Kind::Chunk)] {
        let frame = frame(kind, b"payload");
        add("datagram", &format!("ok-{name}"), frame.encode());
        add("tagged_datagram", &format!("ok-{name}"), frame.seal(Some(&key())));
    }
    let (plain, sealed) = (frame(Kind::Peer, b"x").encode(), frame(Kind::Peer, b"x").seal(Some(&key())));
    add("datagram", "bad-tagged", sealed.clone());
    add("tagged_datagram", "bad-plain", plain.clone());
    let changed = |mut bytes: Vec<u8>| {
        bytes[30] ^= 1;
        bytes
    };
    add("datagram", "bad-checksum", changed(plain));
    add("tagged_datagram", "bad-checksum", changed(sealed));
    all
}
