//! What does not fit into a datagram: entries that followers fetch, requests that nodes fetch, responses that clients fetch.
//! Each arrives once and whole whatever is lost, doubled or late, and none of it is without bound.

use node::config::{ENTRY_PULL_BYTES_MAX, TRANSFER_IDLE_MS};
use node::kv::command::{KEY_BYTES_MAX, Operation, Reply, VALUE_BYTES_MAX};
use node::protocol::content::Content;
use node::protocol::error::ErrorCode;
use node::protocol::{Purpose, Request, RequestBody, Response, ResponseBody};
use node::raft::message::{AppendResult, Message};
use node::raft::types::{Entry, Index, NodeId, Payload, Term};
use node::replica::Destination;
use node::transport::frame::Kind;
use node::transport::message_codec;
use node::transport::object::{CHUNK_BYTES, Chunk, ObjectId, PullRequest};
use node::transport::pull::ChunkRange;

use crate::core::*;
use crate::replica::*;

/// The payload of a long entry, different at each index.
fn bytes(index: Index, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64 * 31 + index) as u8).collect()
}

fn long(term: Term, index: Index, size: usize) -> Entry {
    Entry { id: id(index, term), payload: Payload::Command(bytes(index, size).into()) }
}

fn append_of(prev: node::raft::types::LogId, round: u64, entries: Vec<Entry>) -> Message {
    Message::Append { prev, commit_index: 0, round, entries }
}

fn replies(left: &Left) -> Vec<AppendResult> {
    let result = |(_, _, message): &(NodeId, Term, Message)| match message {
        Message::AppendReply { result, .. } => Some(*result),
        _ => None,
    };
    left.peers.iter().filter_map(result).collect()
}

fn pulled(left: &Left) -> Vec<(Destination, ObjectId)> {
    left.pulls.iter().map(|(to, request)| (*to, request.object)).collect()
}

/// Answers requests for parts of `object` until there are none. Returns how many chunks that took.
pub(crate) fn feed(
    bench: &mut Bench,
    from: Result<NodeId, u16>,
    mut left: Left,
    object: ObjectId,
    whole: &[u8],
) -> usize {
    let mut fed = 0;
    loop {
        let asked: Vec<PullRequest> =
            left.pulls.into_iter().map(|(_, request)| request).filter(|r| r.object == object).collect();
        if asked.is_empty() {
            return fed;
        }
        for request in asked {
            for (offset, length) in request.chunks(whole.len() as u64) {
                let bytes = &whole[offset as usize..][..length];
                bench.chunk(from, &Chunk { object, asked_at: request.asked_at, offset, bytes });
                fed += 1;
            }
        }
        left = bench.turn();
    }
}

fn synced_follower() -> Bench {
    let mut bench = Bench::follower();
    bench.sync();
    bench
}

// ---- Entries ----

#[test]
fn a_follower_fetches_a_long_entry_and_acknowledges_it_when_it_is_on_disk() {
    let mut bench = synced_follower();
    let size = 200_000;
    let object = ObjectId::Entry(id(2, 1));
    let entries = vec![long(1, 1, 10), long(1, 2, size), long(1, 3, 10)];
    bench.peer(1, 1, &append_of(id(0, 0), 7, entries));
    let left = bench.turn();
    assert_eq!(bench.replica.raft().log().last().index, 1, "what is there is taken");
    assert_eq!(pulled(&left), [(Destination::Node(1), object)]);
    let fed = feed(&mut bench, Ok(1), left, object, &bytes(2, size));
    assert_eq!(fed, size.div_ceil(CHUNK_BYTES), "each part once");
    assert_eq!(bench.replica.raft().log().last().index, 3, "and with it what waited behind it");
    assert_eq!(bench.replica.raft().log().entry(2), Some(&long(1, 2, size)));
    assert!(replies(&bench.turn()).is_empty(), "nothing is promised that the disk does not have");
    bench.sync();
    assert_eq!(replies(&bench.turn()), [AppendResult::Accepted { match_index: 3 }]);
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 0);
}

/// The leader is heard and answered while a follower fetches: no election, no rejection that would make it send all again.
#[test]
fn while_it_fetches_a_follower_answers_the_leader() {
    let mut bench = synced_follower();
    bench.peer(1, 1, &append_of(id(0, 0), 1, vec![long(1, 1, 10), long(1, 2, 50_000)]));
    bench.sync();
    bench.turn();
    let deadline = bench.replica.raft().next_deadline();
    bench.now += 100 * MS;
    // What comes behind it waits, in whatever order; a heartbeat beyond the log is none to be rejected.
    bench.peer(1, 1, &append_of(id(4, 1), 2, vec![long(1, 5, 10)]));
    bench.peer(1, 1, &append_of(id(2, 1), 3, vec![long(1, 3, 60_000), long(1, 4, 10)]));
    bench.peer(1, 1, &append_of(id(5, 1), 4, vec![]));
    let left = bench.turn();
    assert_eq!(replies(&left), [AppendResult::Accepted { match_index: 1 }]);
    assert!(matches!(left.peers[0].2, Message::AppendReply { round: 4, .. }), "the round is confirmed");
    assert!(bench.replica.raft().next_deadline() > deadline + 50 * MS, "the leader was heard");
    assert_eq!(bench.replica.holdings().held_appends, 3);
    let left = {
        bench.now += 200 * MS; // the first requests were lost
        bench.turn()
    };
    // The second one arrives first: it waits for the first.
    let objects: Vec<ObjectId> = pulled(&left).into_iter().map(|(_, object)| object).collect();
    assert_eq!(objects, [2, 3].map(|index| ObjectId::Entry(id(index, 1))));
    for (index, size, last) in [(3, 60_000, 1), (2, 50_000, 5)] {
        let left = {
            bench.now += 200 * MS;
            bench.peer(1, 1, &append_of(id(5, 1), 5, vec![]));
            bench.turn()
        };
        feed(&mut bench, Ok(1), left, ObjectId::Entry(id(index, 1)), &bytes(index, size));
        assert_eq!(bench.replica.raft().log().last().index, last);
    }
    bench.sync();
    assert_eq!(replies(&bench.turn()), [AppendResult::Accepted { match_index: 5 }]);
    assert_eq!(bench.replica.holdings().held_appends, 0);
}

#[test]
fn what_waits_for_entries_is_bounded_and_can_be_lost() {
    let mut config = replica_config(2, 3);
    config.held_appends_max = 3;
    let mut bench = Bench::new(config, 1, &[]);
    let size = 1 << 20;
    for prev in 0..20 {
        bench.peer(1, 1, &append_of(id(prev, u64::from(prev > 0)), 0, vec![long(1, prev + 1, size)]));
        let left = bench.turn();
        let asked: u64 = left.pulls.iter().flat_map(|(_, r)| &r.ranges).map(|range| range.bytes).sum();
        assert!(asked <= 96 * CHUNK_BYTES as u64, "a window, whatever is missing");
        let holdings = bench.replica.holdings();
        assert!(holdings.held_appends <= 3 && holdings.entry_pull_bytes <= ENTRY_PULL_BYTES_MAX);
    }
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 3 << 20);
    // Nobody sends a part for a while: all of it is forgotten, and begun again when the leader speaks of it.
    bench.now += TRANSFER_IDLE_MS * MS;
    bench.turn();
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 0);
    bench.peer(1, 1, &append_of(id(0, 0), 0, vec![long(1, 1, 5_000)]));
    let left = bench.turn();
    feed(&mut bench, Ok(1), left, ObjectId::Entry(id(1, 1)), &bytes(1, 5_000));
    assert_eq!(bench.replica.raft().log().last().index, 1);
}

/// A leader that broke its promise: its hash says so.
#[test]
fn an_entry_with_other_content_is_not_what_was_fetched() {
    let mut bench = synced_follower();
    bench.peer(1, 1, &append_of(id(0, 0), 1, vec![long(1, 1, 10), long(1, 2, 20_000), long(1, 3, 30_000)]));
    let left = bench.turn();
    // The third one is here, behind the second.
    feed(&mut bench, Ok(1), left, ObjectId::Entry(id(3, 1)), &bytes(3, 30_000));
    assert_eq!(bench.replica.raft().log().last().index, 1);
    bench.peer(1, 1, &append_of(id(1, 1), 2, vec![long(1, 2, 10), long(1, 3, 30_001)]));
    assert_eq!(
        bench.replica.raft().log().last().index,
        2,
        "what was fetched under the name of 3 is another entry"
    );
}

/// What nobody waits for any more makes room.
#[test]
fn entries_of_a_new_leader_take_the_room_of_those_of_the_old_one() {
    let mut config = replica_config(2, 3);
    config.entry_pull_bytes_max = 25_000;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append_of(id(0, 0), 0, vec![long(1, 1, 20_000)]));
    assert_eq!(pulled(&bench.turn()), [(Destination::Node(1), ObjectId::Entry(id(1, 1)))]);
    bench.peer(3, 2, &append_of(id(0, 0), 0, vec![long(2, 1, 20_000)]));
    assert_eq!(pulled(&bench.turn()), [(Destination::Node(3), ObjectId::Entry(id(1, 2)))]);
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 20_000);
}

/// Only the leader of this term is waited for.
#[test]
fn appends_of_another_term_are_not_held() {
    for leader in [1, 3] {
        let mut bench = Bench::new(replica_config(2, 3), 2, &[]);
        bench.peer(leader, 2, &append_of(id(0, 0), 0, vec![]));
        bench.sync();
        bench.turn();
        bench.peer(1, 1, &append_of(id(0, 0), 0, vec![long(1, 1, 50_000)]));
        assert_eq!(bench.replica.holdings().held_appends, 0, "led by {leader}");
        assert_eq!(bench.turn().pulls, []);
    }
    let mut bench = Bench::new(replica_config(2, 3), 2, &[]);
    bench.peer(1, 2, &append_of(id(0, 0), 0, vec![long(2, 1, 50_000)]));
    assert_eq!(bench.replica.holdings().held_appends, 1, "the near miss");
}

/// While parts are on their way a node wakes up to ask for those that are late, not all the time.
#[test]
fn what_was_asked_for_is_due_later() {
    let mut bench = synced_follower();
    bench.now += 100_000 * MS;
    let entries = vec![long(1, 1, 30_000), long(1, 2, 20_000)];
    bench.peer(1, 1, &append_of(id(0, 0), 1, entries));
    assert!(bench.replica.next_deadline() <= bench.now, "nothing was asked for yet");
    let left = bench.turn();
    let due = bench.replica.next_deadline();
    assert!(due > bench.now && due <= bench.now + 100 * MS, "{due}");
    feed(&mut bench, Ok(1), left, ObjectId::Entry(id(2, 1)), &bytes(2, 20_000));
    let due = bench.replica.next_deadline();
    assert!(due > bench.now && due <= bench.now + 100 * MS, "the other one is late: {due}");
}

/// More than the bound is fetched one after the other, the lowest index first.
#[test]
fn entries_over_the_bound_are_fetched_in_turn() {
    let mut config = replica_config(2, 3);
    config.entry_pull_bytes_max = 25_000;
    let mut bench = Bench::new(config, 1, &[]);
    let entries = (1..=5).map(|index| long(1, index, 10_000)).collect();
    bench.peer(1, 1, &append_of(id(0, 0), 0, entries));
    let left = bench.turn();
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 20_000);
    let mut asked = left;
    for index in 1..=5 {
        feed(&mut bench, Ok(1), asked, ObjectId::Entry(id(index, 1)), &bytes(index, 10_000));
        assert_eq!(bench.replica.raft().log().last().index, index);
        bench.now += 300 * MS;
        bench.peer(1, 1, &append_of(id(0, 0), 0, vec![]));
        asked = bench.turn();
    }
    assert_eq!(bench.replica.holdings().entry_pull_bytes, 0);
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_was_lost() {
    let mut bench = synced_follower();
    let (size, object) = (100_000, ObjectId::Entry(id(1, 1)));
    let whole = bytes(1, size);
    bench.peer(1, 1, &append_of(id(0, 0), 0, vec![long(1, 1, size)]));
    let (_, request) = bench.turn().pulls.remove(0);
    for (offset, length) in request.chunks(size as u64).take(30) {
        let bytes = &whole[offset as usize..][..length];
        bench.chunk(Ok(1), &Chunk { object, asked_at: 0, offset, bytes });
    }
    // Node 3 was elected with the entry and sends it on, with a no-op of its own.
    let noop = Entry { id: id(2, 2), payload: Payload::Noop };
    bench.peer(3, 2, &append_of(id(0, 0), 0, vec![long(1, 1, size), noop]));
    let left = bench.turn();
    assert_eq!(pulled(&left)[0], (Destination::Node(3), object));
    let first = left.pulls[0].1.ranges[0].offset;
    assert_eq!(first, 30 * CHUNK_BYTES as u64, "what is here is not fetched again");
    feed(&mut bench, Ok(3), left, object, &whole);
    assert_eq!(bench.replica.raft().log().last(), id(2, 2));
    // A third one that has overwritten it gets it replaced: nothing of the past waits.
    bench.peer(1, 3, &append_of(id(0, 0), 0, vec![long(3, 1, 10)]));
    assert_eq!((bench.replica.raft().log().last(), bench.replica.holdings().held_appends), (id(1, 3), 0));
}

#[test]
fn damaged_and_foreign_parts_change_nothing() {
    let mut bench = synced_follower();
    let (size, object) = (3 * CHUNK_BYTES, ObjectId::Entry(id(1, 1)));
    let whole = bytes(1, size);
    bench.peer(1, 1, &append_of(id(0, 0), 0, vec![long(1, 1, size)]));
    let left = bench.turn();
    let mut wrong = whole.clone();
    wrong[2 * CHUNK_BYTES + 1] ^= 1;
    // Whole, and not what it must be: all of it is asked for again.
    let (_, request) = &left.pulls[0];
    for (offset, length) in request.chunks(size as u64) {
        let bytes = &wrong[offset as usize..][..length];
        bench.chunk(Ok(3), &Chunk { object, asked_at: 0, offset, bytes });
    }
    let left = bench.turn();
    assert_eq!((bench.replica.raft().log().last().index, left.pulls.len()), (0, 1));
    assert_eq!(feed(&mut bench, Ok(1), left, object, &whole), 3);
    assert_eq!(bench.replica.raft().log().last().index, 1);
    // Nobody asked for these.
    let before = format!("{:?}", bench.replica);
    for object in [ObjectId::Entry(id(9, 1)), ObjectId::Request { nonce: 1, sequence: 1 }] {
        bench.chunk(Ok(1), &Chunk { object, asked_at: 0, offset: 0, bytes: &[1; CHUNK_BYTES] });
    }
    assert_eq!(format!("{:?}", bench.replica), before);
}

#[test]
fn a_node_sends_parts_of_what_its_log_has_and_only_so_many_at_once() {
    let mut config = replica_config(1, 3);
    config.chunks_per_turn_max = 10;
    let mut bench = Bench::leader_of(config);
    let session = bench.session(7);
    let value = "x".repeat(50_000);
    upload(&mut bench, 7, 2, set(session, "k", &value));
    let entry = bench.replica.raft().log().entry(3).cloned().unwrap();
    let whole = entry.payload.bytes();
    let ask = |term, ranges: Vec<ChunkRange>| PullRequest {
        object: ObjectId::Entry(id(3, term)),
        asked_at: 5,
        ranges,
    };
    let all = ChunkRange { offset: 0, bytes: 40 * CHUNK_BYTES as u64 };
    bench.pull(Ok(2), &ask(1, vec![all]));
    let left = bench.turn();
    let expected: Vec<_> = whole.chunks(CHUNK_BYTES).take(10).map(<[u8]>::to_vec).collect();
    assert_eq!(left.chunks.iter().map(|(_, _, _, bytes)| bytes.clone()).collect::<Vec<_>>(), expected);
    assert!(left.chunks.iter().all(|(to, ..)| *to == Destination::Node(2)));
    bench.pull(Ok(2), &ask(1, vec![ChunkRange { offset: 39 * CHUNK_BYTES as u64, bytes: 99 }]));
    let left = bench.turn();
    assert_eq!(left.chunks[0].3, whole[39 * CHUNK_BYTES..], "the last one");
    bench.pull(Ok(2), &ask(2, vec![all]));
    bench.pull(Err(7), &ask(1, vec![all]));
    assert!(bench.turn().chunks.is_empty(), "no such entry; and clients do not read logs");
}

// ---- Requests and responses ----

fn offer(request: &Request) -> RequestBody {
    let purpose = match &request.body {
        RequestBody::Write { client_id, .. } => Purpose::Write { client_id: *client_id },
        RequestBody::LocalGet { .. } => Purpose::LocalRead,
        _ => Purpose::Read,
    };
    RequestBody::Offer { purpose, content: Content::of(&request.encode()) }
}

/// Offers a request as the client at `port`, and gives the node what it asks for. Returns the number of parts.
pub(crate) fn upload(bench: &mut Bench, port: u16, sequence: u64, body: RequestBody) -> usize {
    let nonce = u64::from(port);
    let request = Request { nonce, sequence, body };
    bench.request(port, sequence, offer(&request));
    let left = bench.turn();
    feed(bench, Err(port), left, ObjectId::Request { nonce, sequence }, &request.encode())
}

/// Fetches the response that was offered.
fn download(bench: &mut Bench, port: u16, sequence: u64, body: &ResponseBody) -> Response {
    let ResponseBody::Offer { content } = *body else { panic!("{body:?}") };
    let object = ObjectId::Response { nonce: u64::from(port), sequence, hash: content.short_hash() };
    let mut whole = Vec::new();
    while whole.len() < content.size as usize {
        let range = ChunkRange { offset: whole.len() as u64, bytes: 100 * CHUNK_BYTES as u64 };
        bench.pull(Err(port), &PullRequest { object, asked_at: 1, ranges: vec![range] });
        for (to, _, offset, bytes) in bench.turn().chunks {
            assert_eq!((to, offset), (Destination::Client(client(port)), whole.len() as u64));
            whole.extend(bytes);
        }
    }
    bench.pull(Err(port), &PullRequest { object, asked_at: 1, ranges: vec![] });
    assert_eq!(Content::of(&whole), content);
    Response::decode(&whole).unwrap()
}

fn huge(byte: u8) -> Vec<u8> {
    vec![byte; VALUE_BYTES_MAX]
}

fn write(client_id: u64, operation: Operation) -> RequestBody {
    RequestBody::Write { client_id, operation }
}

#[test]
fn the_longest_values_and_keys_are_written_and_read() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    let key = vec![b'k'; KEY_BYTES_MAX];
    let operation = Operation::Set { key: key.clone(), value: huge(1) };
    upload(&mut bench, 7, 2, write(session, operation));
    assert_eq!(bench.commit().answer(), ResponseBody::Applied { position: 3, reply: Reply::Done });
    upload(&mut bench, 7, 3, RequestBody::Get { key: key.clone() });
    bench.peer(2, 1, &echo(1));
    let offered = bench.turn().answer();
    let ResponseBody::Offer { content } = offered else { panic!("{offered:?}") };
    assert_eq!(bench.replica.holdings().response_bytes, content.size as usize);
    let response = download(&mut bench, 7, 3, &offered);
    let reply = Reply::Value(Some(huge(1).into()));
    assert_eq!(response.body, ResponseBody::Applied { position: 3, reply });
    assert_eq!(bench.replica.holdings().response_bytes, 0, "who has it says so");
    // A compare-and-set with two of them, and what it saw instead.
    let cas = |expected| Operation::Cas { key: key.clone(), expected: Some(expected), new: huge(2) };
    upload(&mut bench, 7, 4, write(session, cas(huge(9))));
    let offered = bench.commit().answer();
    let body = download(&mut bench, 7, 4, &offered).body;
    let mismatch = Reply::Mismatch(Some(huge(1).into()));
    assert_eq!(body, ResponseBody::Applied { position: 4, reply: mismatch });
    upload(&mut bench, 7, 5, write(session, cas(huge(1))));
    assert_eq!(bench.commit().answer(), ResponseBody::Applied { position: 5, reply: Reply::Done });
    // What the node itself has, under a key that fits into no datagram.
    upload(&mut bench, 7, 6, RequestBody::LocalGet { key: key.clone() });
    let mut follower = Bench::follower();
    upload(&mut follower, 7, 6, RequestBody::LocalGet { key });
    assert_eq!(follower.replica.holdings(), Bench::follower().replica.holdings());
}

#[test]
fn what_is_over_the_bounds_is_refused_for_good() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    let more = |bytes: Vec<u8>| [bytes, vec![0]].concat();
    let cases = [
        write(session, Operation::Set { key: b"k".to_vec(), value: more(huge(1)) }),
        write(session, Operation::Set { key: more(vec![b'k'; KEY_BYTES_MAX]), value: vec![] }),
        RequestBody::Get { key: more(vec![b'k'; KEY_BYTES_MAX]) },
    ];
    for (sequence, body) in (2..).zip(cases) {
        let request = Request { nonce: 7, sequence, body };
        bench.request(7, sequence, offer(&request));
        let (_, asked) = bench.turn().pulls.remove(0);
        let mut left = Left::default();
        left.pulls.push((Destination::Client(client(7)), asked));
        let object = ObjectId::Request { nonce: 7, sequence };
        let whole = request.encode();
        // The answer comes with the turn that takes the last part.
        let answer = loop {
            let (_, asked) = left.pulls.remove(0);
            for (offset, length) in asked.chunks(whole.len() as u64) {
                let bytes = &whole[offset as usize..][..length];
                bench.chunk(Err(7), &Chunk { object, asked_at: asked.asked_at, offset, bytes });
            }
            left = bench.turn();
            if left.pulls.is_empty() {
                break left.answer();
            }
        };
        assert_eq!(answer, refusal(ErrorCode::TooLarge));
    }
    upload(&mut bench, 7, 9, write(session, Operation::Append { key: b"k".to_vec(), value: huge(1) }));
    bench.commit();
    bench.request(7, 10, extend(session, "k", "y"));
    assert_eq!(bench.commit().answer(), refusal(ErrorCode::TooLarge));
    bench.request(7, 10, extend(session, "k", "y"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::TooLarge), "and so says the session");
}

/// An offer that comes again finds what became of the first: nothing is fetched twice, nothing is applied twice.
#[test]
fn an_offer_that_is_sent_again_fetches_nothing_again() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    let body = extend(session, "k", &"x".repeat(20_000));
    let request = Request { nonce: 7, sequence: 2, body };
    bench.request(7, 2, offer(&request));
    let left = bench.turn();
    bench.request(7, 2, offer(&request));
    let again = bench.turn();
    assert!(left.pulls.len() == 1 && again.pulls.is_empty(), "it is on its way");
    let object = ObjectId::Request { nonce: 7, sequence: 2 };
    feed(&mut bench, Err(7), left, object, &request.encode());
    bench.request(7, 2, offer(&request));
    assert!(bench.turn().pulls.is_empty(), "it is in the log");
    let done = ResponseBody::Applied { position: 3, reply: Reply::Done };
    assert_eq!(bench.commit().answer(), done);
    bench.request(7, 2, offer(&request));
    let left = bench.turn();
    assert_eq!((left.answer(), left.pulls.len()), (done, 0), "it is applied");
    assert_eq!(bench.replica.raft().log().last().index, 3);
    assert_eq!(bench.replica.store().get(b"k").map(|value| value.len()), Some(20_000));
}

#[test]
fn requests_on_their_way_are_bounded_refused_by_who_stops_leading_and_forgotten() {
    let mut config = replica_config(1, 3);
    (config.request_pulls_max, config.request_pull_bytes_max) = (2, 70_000);
    let big =
        |port, size| Request { nonce: u64::from(port), sequence: 1, body: extend(1, "k", &"x".repeat(size)) };
    let mut bench = Bench::leader_of(config);
    for (port, size, answers) in [(1, 30_000, 0), (2, 50_000, 1), (3, 30_000, 0), (4, 2_000, 1)] {
        bench.request(port, 1, offer(&big(port, size)));
        let left = bench.turn();
        assert_eq!(left.clients.len(), answers, "{port}");
        assert!(left.clients.iter().all(|(_, response)| response.body == refusal(ErrorCode::Busy)));
    }
    let on_their_way = [1, 3].map(|port| big(port, 30_000).encode().len());
    assert_eq!(bench.replica.holdings().request_pull_bytes, on_their_way.iter().sum::<usize>());
    bench.peer(3, 2, &append(id(1, 1), 0, &[2]));
    let left = bench.turn();
    assert_eq!(left.clients.len(), 2);
    assert!(left.clients.iter().all(|(_, response)| response.body == refusal(ErrorCode::NoLeader)));
    assert_eq!(bench.replica.holdings().request_pull_bytes, 0);

    let size = big(1, 30_000).encode().len();
    for (room, busy) in [(2 * size, 0), (2 * size - 1, 1)] {
        let mut config = replica_config(1, 3);
        config.request_pull_bytes_max = room;
        let mut bench = Bench::leader_of(config);
        bench.request(1, 1, offer(&big(1, 30_000)));
        bench.request(2, 1, offer(&big(2, 30_000)));
        assert_eq!(bench.turn().clients.len(), busy, "filled to the byte");
    }

    let mut bench = Bench::leader();
    bench.now += 100_000 * MS;
    bench.peer(2, 1, &accepted(1));
    bench.replica.tick(bench.now);
    bench.request(1, 1, offer(&big(1, 30_000)));
    bench.turn();
    let due = bench.replica.next_deadline();
    assert!(
        due > bench.now && due < bench.now + TRANSFER_IDLE_MS * MS,
        "what was asked for is asked for again"
    );
    bench.now += TRANSFER_IDLE_MS * MS - 1;
    bench.peer(2, 1, &accepted(1)); // it is heard, and so it leads on
    bench.replica.tick(bench.now);
    assert_eq!(bench.replica.holdings().request_pull_bytes, size);
    bench.now += 1;
    bench.replica.tick(bench.now);
    assert_eq!(bench.replica.holdings().request_pull_bytes, 0, "nobody sent a part");
}

/// What comes is what was offered, by who offered it, or nothing at all.
#[test]
fn a_request_that_is_not_what_was_offered_is_dropped() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    let (write, last) = (set(session, "k", &"x".repeat(3_000)), bench.replica.raft().log().last());
    let local = RequestBody::LocalGet { key: vec![b'k'; 3_000] };
    let uploaded = |bench: &mut Bench, sequence, purpose, request: &Request| {
        let whole = request.encode();
        bench.request(7, sequence, RequestBody::Offer { purpose, content: Content::of(&whole) });
        let (object, mut answers) = (ObjectId::Request { nonce: 7, sequence }, Vec::new());
        loop {
            let left = bench.turn();
            answers.extend(left.clients.into_iter().map(|(_, response)| response.body));
            if left.pulls.is_empty() {
                return answers;
            }
            for (_, asked) in left.pulls {
                for (offset, length) in asked.chunks(whole.len() as u64) {
                    let bytes = &whole[offset as usize..][..length];
                    bench.chunk(Err(7), &Chunk { object, asked_at: asked.asked_at, offset, bytes });
                }
            }
        }
    };
    let of = |nonce, sequence, body: &RequestBody| Request { nonce, sequence, body: body.clone() };
    let writes = |client_id| Purpose::Write { client_id };
    let wrong = [
        (Purpose::Read, of(7, 2, &write)),
        (Purpose::LocalRead, of(7, 2, &write)),
        (writes(session + 1), of(7, 2, &write)),
        (writes(session), of(8, 2, &write)),
        (writes(session), of(7, 3, &write)),
        (writes(session), of(7, 2, &local)),
        (Purpose::Read, of(7, 2, &local)),
        (Purpose::LocalRead, of(7, 2, &RequestBody::Get { key: vec![b'k'; 3_000] })),
        (Purpose::Read, of(7, 2, &RequestBody::Offer { purpose: Purpose::Read, content: Content::of(b"") })),
    ];
    for (purpose, request) in &wrong {
        assert_eq!(uploaded(&mut bench, 2, *purpose, request), [], "{purpose:?} {request:?}");
    }
    assert_eq!((bench.replica.raft().log().last(), bench.replica.holdings().request_pull_bytes), (last, 0));
    let here = ResponseBody::Local { last_applied: last.index, value: None };
    assert_eq!(uploaded(&mut bench, 2, Purpose::LocalRead, &of(7, 2, &local)), [here]);
    assert_eq!(uploaded(&mut bench, 2, writes(session), &of(7, 2, &write)), []);
    assert_eq!(bench.replica.raft().log().last().index, last.index + 1, "the near miss");
}

#[test]
fn responses_that_wait_are_bounded_the_same_for_the_same_request_and_forgotten() {
    let mut config = replica_config(1, 3);
    config.response_bytes_max = 50_000;
    let mut bench = Bench::leader_of(config);
    let session = bench.session(7);
    upload(&mut bench, 7, 2, set(session, "k", &"x".repeat(30_000)));
    bench.commit();
    let read = |bench: &mut Bench, port: u16, round| {
        bench.request(port, 9, get("k"));
        bench.turn();
        bench.peer(2, 1, &echo(round));
        bench.turn().answer()
    };
    let first = read(&mut bench, 1, 1);
    assert!(matches!(first, ResponseBody::Offer { .. }));
    assert_eq!(read(&mut bench, 2, 2), refusal(ErrorCode::Busy));
    // The value changes; who asked before still gets one answer, of which parts may be on their way.
    upload(&mut bench, 7, 3, extend(session, "k", &"y".repeat(2_000)));
    bench.commit();
    assert_eq!(read(&mut bench, 1, 3), first);
    let response = download(&mut bench, 1, 9, &first);
    let ResponseBody::Applied { reply: Reply::Value(Some(value)), .. } = response.body else { panic!() };
    assert_eq!(value.len(), 30_000);
    assert!(matches!(read(&mut bench, 2, 4), ResponseBody::Offer { .. }), "there is room again");
    bench.now += TRANSFER_IDLE_MS * MS - 1;
    bench.peer(2, 1, &accepted(1)); // it is heard, and so it leads on
    bench.replica.tick(bench.now);
    assert!(bench.replica.holdings().response_bytes > 30_000);
    bench.now += 1;
    bench.replica.tick(bench.now);
    assert_eq!(bench.replica.holdings().response_bytes, 0);
}

#[test]
fn what_fits_into_a_datagram_is_answered_at_once_and_room_for_the_rest_is_filled_to_the_byte() {
    let sizes = |bench: &mut Bench, values: &[usize]| -> Vec<Option<u32>> {
        let session = bench.session(7);
        let mut sizes = Vec::new();
        for (n, size) in (0..).zip(values) {
            upload(bench, 7, 2 + n, set(session, "k", &"x".repeat(*size)));
            bench.commit();
            bench.request(100 + n as u16, 1, get("k"));
            bench.turn();
            bench.peer(2, 1, &echo(n + 1));
            sizes.push(match bench.turn().answer() {
                ResponseBody::Offer { content } => Some(content.size),
                ResponseBody::Applied { reply: Reply::Value(Some(value)), .. } => {
                    assert_eq!(value.len(), *size);
                    None
                }
                other => {
                    assert_eq!(other, refusal(ErrorCode::Busy));
                    Some(0)
                }
            });
        }
        sizes
    };
    let long = sizes(&mut Bench::leader(), &[100, 20_000]);
    let around = long[1].unwrap() as usize - 20_000;
    let most = node::transport::frame::PAYLOAD_BYTES_MAX - around;
    let full = Some((most + 1 + around) as u32);
    assert_eq!(sizes(&mut Bench::leader(), &[most, most + 1]), [None, full]);
    for (room, third) in [(3 * (most + 1 + around), full), (3 * (most + 1 + around) - 1, Some(0))] {
        let mut config = replica_config(1, 3);
        config.response_bytes_max = room;
        let mut bench = Bench::leader_of(config);
        assert_eq!(sizes(&mut bench, &[most + 1; 3]), [full, full, third]);
    }
}

/// Who does not lead passes offers, requests for parts and parts on, both ways, and keeps nothing but whose they are.
#[test]
fn a_follower_passes_on_what_clients_and_the_leader_fetch_from_each_other() {
    let mut bench = Bench::follower();
    let request = Request { nonce: 7, sequence: 2, body: set(1, "k", &"x".repeat(9_000)) };
    bench.request(7, 2, offer(&request));
    let left = bench.turn();
    assert_eq!(left.forwards, [(1, Request { nonce: 7, sequence: 2, body: offer(&request) })]);
    let (object, to_client) = (ObjectId::Request { nonce: 7, sequence: 2 }, Destination::Client(client(7)));
    let range = ChunkRange { offset: 0, bytes: 9_000 };
    let ask = |object| PullRequest { object, asked_at: 3, ranges: vec![range] };
    bench.pull(Ok(1), &ask(object));
    assert_eq!(bench.turn().pulls, [(to_client, ask(object))]);
    let chunk = |object| Chunk { object, asked_at: 3, offset: 0, bytes: &[1; CHUNK_BYTES] };
    bench.chunk(Err(7), &chunk(object));
    let part = |to, object| (to, object, 0, vec![1; CHUNK_BYTES]);
    assert_eq!(bench.turn().chunks, [part(Destination::Node(1), object)]);

    let content = Content::of(b"a long response");
    let body = ResponseBody::Offer { content };
    let payload = Response { nonce: 7, sequence: 2, node: 1, body: body.clone() }.encode();
    let bytes = peer_frame(Kind::ForwardReply, 1, 2, 1, &payload);
    bench.replica.datagram(bench.now, client(0), &bytes);
    assert_eq!(bench.turn().answer(), body);
    let object = ObjectId::Response { nonce: 7, sequence: 2, hash: content.short_hash() };
    bench.pull(Err(7), &ask(object));
    assert_eq!(bench.turn().pulls, [(Destination::Node(1), ask(object))]);
    bench.chunk(Ok(1), &chunk(object));
    assert_eq!(bench.turn().chunks, [part(to_client, object)]);
    let done = PullRequest { object, asked_at: 3, ranges: vec![] };
    bench.pull(Err(7), &done);
    assert_eq!(bench.turn().pulls, [(Destination::Node(1), done)]);
    bench.pull(Err(7), &ask(object));
    bench.chunk(Ok(1), &chunk(object));
    let left = bench.turn();
    assert!(left.pulls.is_empty() && left.chunks.is_empty(), "it is done");
    assert_eq!(bench.replica.holdings().requests, 0);
}

/// No append is larger than a datagram, whatever its entries are.
#[test]
fn appends_of_long_entries_fit_into_datagrams() {
    let entries: Vec<Entry> = (1..=30).map(|index| long(1, index, 1_283)).collect();
    let payload = message_codec::encode(&append_of(id(0, 0), 0, entries));
    assert!(payload.len() < 1_000, "{} bytes", payload.len());
}
