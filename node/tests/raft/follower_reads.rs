//! Reads at a node that does not lead: an index from the leader, the value from its own state, and neither too early.

use node::config::{HEARTBEAT_INTERVAL_MS, REQUEST_TIMEOUT_MS};
use node::protocol::error::ErrorCode;
use node::protocol::{Request, RequestBody, Response, ResponseBody};
use node::raft::message::Message;
use node::raft::types::{Entry, NodeId, Payload};
use node::transport::frame::Kind;

use crate::core::*;
use crate::replica::*;

fn answer(bench: &mut Bench, from: NodeId, question: &Request, body: ResponseBody) {
    let Request { nonce, sequence, .. } = *question;
    let payload = Response { nonce, sequence, node: from, body }.encode();
    let bytes = peer_frame(Kind::ForwardReply, from, bench.replica.raft().id(), 1, &payload);
    bench.replica.datagram(bench.now, client(0), &bytes);
}

fn index(index: u64) -> ResponseBody {
    ResponseBody::ReadIndex { index }
}

/// The one question that left.
fn question(left: &Left) -> Request {
    assert_eq!(left.forwards.len(), 1, "{:?}", left.forwards);
    assert_eq!((left.forwards[0].0, &left.forwards[0].1.body), (1, &RequestBody::ReadIndex));
    left.forwards[0].1.clone()
}

fn absent(position: u64) -> ResponseBody {
    ResponseBody::Applied { position, reply: node::kv::command::Reply::Value(None) }
}

/// Entries of a leader, committed.
fn apply(bench: &mut Bench, last: u64) {
    let entries = (1..=last).map(|index| Entry { id: id(index, 1), payload: Payload::Noop }).collect();
    bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: last, round: 0, entries });
}

#[test]
fn a_read_at_a_follower_waits_for_the_leaders_index_and_for_its_own_state() {
    let mut bench = Bench::follower();
    bench.request(7, 1, get("k"));
    let left = bench.turn();
    assert!(left.clients.is_empty());
    let asked = question(&left);
    apply(&mut bench, 2);
    assert!(bench.turn().clients.is_empty(), "nobody has said yet that 2 is enough");
    answer(&mut bench, 1, &asked, index(3));
    assert!(bench.turn().clients.is_empty(), "it has applied 2, and must have 3");
    apply(&mut bench, 4);
    let left = bench.turn();
    assert_eq!((left.answer(), left.clients[0].1.node), (absent(4), 2));
    answer(&mut bench, 1, &asked, index(4));
    assert!(bench.turn().clients.is_empty(), "a duplicate answers nobody");
}

/// A read that arrives while a question is on its way must not be served by its answer: that index may be older than a write
/// that was acknowledged before the read began.
#[test]
fn reads_share_questions_but_never_one_that_has_left() {
    let mut bench = Bench::follower();
    bench.request(1, 1, get("k"));
    bench.request(2, 1, get("k"));
    let first = question(&bench.turn());
    bench.request(3, 1, get("k"));
    bench.request(4, 1, get("k"));
    assert!(bench.turn().forwards.is_empty(), "one question at a time");
    apply(&mut bench, 1);
    answer(&mut bench, 1, &first, index(0));
    let left = bench.turn();
    let second = question(&left);
    assert_eq!(left.clients.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1, 2]);
    assert!(second.sequence > first.sequence);
    answer(&mut bench, 1, &first, index(0));
    assert!(bench.turn().clients.is_empty(), "the answer to the first question, again");
    answer(&mut bench, 1, &second, index(1));
    assert_eq!(bench.turn().clients.len(), 2);
}

#[test]
fn a_question_is_sent_again_and_refused_with_its_reads() {
    let mut bench = Bench::follower();
    bench.now += 3 * MS;
    bench.request(1, 1, get("k"));
    let asked = question(&bench.turn());
    assert!(bench.turn().forwards.is_empty());
    let again = bench.now + HEARTBEAT_INTERVAL_MS * MS;
    assert_eq!(bench.replica.next_deadline(), again, "when it is due");
    bench.now = again;
    assert_eq!(question(&bench.turn()), asked, "the same one: any answer to it is late enough");
    answer(&mut bench, 1, &asked, refusal(ErrorCode::Busy));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy));
    // A leader that is lost answers nobody.
    bench.request(2, 1, get("k"));
    bench.turn();
    bench.peer(3, 2, &Message::VoteRequest { last: id(9, 1), transfer: true });
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::NoLeader));
}

#[test]
fn an_answer_to_another_process_is_none() {
    let mut config = replica_config(2, 3);
    config.process.incarnation = 2;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    bench.request(7, 1, get("k"));
    let asked = question(&bench.turn());
    let mut old = Bench::follower();
    old.request(7, 1, get("k"));
    let former = question(&old.turn());
    assert_eq!(asked.sequence, former.sequence);
    answer(&mut bench, 1, &former, index(0));
    assert!(bench.turn().clients.is_empty(), "its predecessor asked that, before");
    answer(&mut bench, 1, &asked, index(0));
    assert_eq!(bench.turn().answer(), absent(0));
    // Nor are two told apart by bits that both have.
    let nonce = |directory, incarnation| {
        let mut config = replica_config(2, 3);
        (config.process.directory, config.process.incarnation) = (directory, incarnation);
        let mut bench = Bench::new(config, 1, &[]);
        bench.peer(1, 1, &append(id(0, 0), 0, &[]));
        bench.request(7, 1, get("k"));
        question(&bench.turn()).nonce
    };
    assert_ne!(nonce(2 << 32, 1), nonce(2 << 32, 3));
    // And a client cannot ask in its name.
    bench.request(7, 2, RequestBody::ReadIndex);
    let left = bench.turn();
    assert_eq!((left.answer(), left.forwards.len()), (refusal(ErrorCode::BadRequest), 0));
}

#[test]
fn a_leader_gives_the_index_after_a_round_and_before_it_has_applied() {
    let mut bench = Bench::leader();
    bench.forwarded(2, 5, 9, RequestBody::ReadIndex);
    assert!(bench.turn().replies.is_empty(), "it does not know yet whether it still leads");
    bench.peer(2, 1, &echo(1));
    let left = bench.turn();
    assert_eq!((left.replies.len(), left.replies[0].0, &left.replies[0].1.body), (1, 2, &index(1)));
}

#[test]
fn reads_at_a_follower_are_bounded_and_forgotten() {
    let mut config = replica_config(2, 3);
    config.requests_max = 2;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    for port in 1..=3 {
        bench.request(port, 1, get("k"));
    }
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy));
    assert_eq!(bench.replica.holdings().requests, 2);
    bench.now += REQUEST_TIMEOUT_MS * MS;
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    bench.replica.tick(bench.now);
    assert_eq!(bench.replica.holdings().requests, 0);

    // Those on their way, those that wait for the next question, and those that wait for the state, all count, and live as long.
    let mut config = replica_config(2, 3);
    config.requests_max = 3;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    bench.request(1, 1, get("k"));
    let asked = question(&bench.turn());
    answer(&mut bench, 1, &asked, index(9));
    bench.request(2, 1, get("k"));
    bench.turn();
    bench.request(3, 1, get("k"));
    assert_eq!(bench.replica.holdings().requests, 3);
    bench.request(4, 1, get("k"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy));
    bench.now += REQUEST_TIMEOUT_MS * MS - 1;
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    bench.replica.tick(bench.now);
    assert_eq!(bench.replica.holdings().requests, 3, "not yet");
    apply(&mut bench, 9);
    assert_eq!(bench.turn().answer(), absent(9));
}
