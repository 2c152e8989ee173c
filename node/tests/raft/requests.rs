//! Requests that a leader carries out itself, what it adds to the log with those of clients, and the edges of what it takes.

use node::kv::command::Command;
use node::protocol::error::ErrorCode;
use node::protocol::{RequestBody, ResponseBody};
use node::raft::event::{Event, Level};
use node::raft::message::Message;
use node::raft::reconfigure::Change;
use node::storage::Progress;
use node::transport::frame::{Frame, Kind, cluster_id};
use node::transport::message_codec;

use crate::core::*;
use crate::replica::*;

/// A leader of three whose log is on every disk.
fn leader() -> Bench {
    let mut bench = Bench::leader();
    bench.peer(3, 1, &accepted(1));
    bench.turn();
    bench
}

fn command_at(bench: &Bench, index: u64) -> Command {
    Command::decode(bench.replica.raft().log().entry(index).unwrap().payload.bytes()).unwrap()
}

#[test]
fn leadership_is_handed_to_who_is_named_or_to_whom_is_furthest() {
    for (to, answer, target) in [
        (2, ResponseBody::Transferring { to: 2 }, Some(2)),
        (3, ResponseBody::Transferring { to: 3 }, Some(3)),
        (1, ResponseBody::Transferring { to: 1 }, None),
        (9, refusal(ErrorCode::BadRequest), None),
    ] {
        let mut bench = leader();
        bench.request(7, 1, RequestBody::TransferLeader { to });
        assert_eq!((bench.turn().answer(), bench.replica.raft().transferring_to()), (answer, target), "{to}");
    }
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, RequestBody::TransferLeader { to: 0 });
    assert_eq!(bench.turn().answer(), ResponseBody::Transferring { to: 2 }, "it alone has everything");
    bench.request(7, 3, set(session, "k", "v"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy), "the next leader takes it in a moment");
}

#[test]
fn a_change_of_members_comes_after_the_commands_before_it_and_is_answered_with_its_entry() {
    let mut bench = leader();
    bench.request(8, 1, RequestBody::OpenSession);
    let change = Change::Add(4, "127.0.0.1:4".to_owned());
    let ask = |bench: &mut Bench, change: &Change| {
        bench.request(7, 1, RequestBody::Reconfigure { change: change.clone() });
        bench.turn().answer()
    };
    assert_eq!(ask(&mut bench, &change), ResponseBody::Reconfiguring { index: 3 });
    assert!(matches!(command_at(&bench, 2), Command::OpenSession { .. }));
    assert_eq!(bench.replica.raft().membership_index(), 3);
    assert_eq!(ask(&mut bench, &Change::Remove(3)), refusal(ErrorCode::NotReady), "one at a time");
    bench.commit();
    assert_eq!(ask(&mut bench, &change), ResponseBody::Reconfiguring { index: 3 }, "it is so already");
    assert_eq!(ask(&mut bench, &Change::Promote(9)), refusal(ErrorCode::BadRequest));
}

/// The log is told the time with commands, at most once a second, and by nobody to whom nothing happens.
#[test]
fn a_leader_tells_the_log_the_time_with_its_commands() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    let last = |bench: &Bench| bench.replica.raft().log().last().index;
    let write = |bench: &mut Bench, sequence| {
        bench.request(7, sequence, set(session, "k", "v"));
        bench.commit();
    };
    bench.now += 999 * MS;
    write(&mut bench, 2);
    assert_eq!(last(&bench), 3, "not yet");
    bench.now += MS;
    bench.flush();
    assert_eq!(last(&bench), 3, "nothing happens");
    write(&mut bench, 3);
    assert_eq!((last(&bench), command_at(&bench, 4)), (5, Command::Clock { time: 1_000 }));
    assert_eq!(bench.replica.store().log_time(), 1_000);
    bench.now += 2_500 * MS;
    write(&mut bench, 4);
    assert_eq!((last(&bench), command_at(&bench, 6)), (7, Command::Clock { time: 3_500 }));
    write(&mut bench, 5);
    assert_eq!(last(&bench), 8);
}

#[test]
fn bytes_that_are_not_committed_are_bounded_in_the_log_and_before_it() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", "v"));
    bench.flush();
    let bytes = bench.replica.raft().log().entry(3).unwrap().payload.bytes().len();
    let mut config = replica_config(1, 3);
    config.uncommitted_bytes_max = 3 * bytes;
    let mut bench = Bench::leader_of(config);
    let session = bench.session(7);
    let write = |bench: &mut Bench, sequence| {
        bench.request(7, sequence, set(session, "k", "v"));
    };
    (2..=5).for_each(|sequence| write(&mut bench, sequence));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy), "three, and not a fourth");
    assert_eq!(bench.replica.holdings().uncommitted_bytes, 3 * bytes);
    write(&mut bench, 6);
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy));
    bench.commit();
    (7..=8).for_each(|sequence| write(&mut bench, sequence));
    assert!(bench.turn().clients.is_empty(), "there is room again");
    (9..=10).for_each(|sequence| write(&mut bench, sequence));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy), "two in the log and one before it");
}

#[test]
fn that_space_lacks_and_is_there_again_is_said_once_each() {
    let mut config = replica_config(2, 3);
    config.level = Some(Level::Info);
    let mut bench = Bench::new(config, 1, &[]);
    let mut said = Vec::new();
    for out_of_space in [false, true, true, false, false] {
        let durable = bench.replica.raft().durable_lsn();
        bench.replica.stored(bench.now, Progress { durable, hard_state: durable, out_of_space });
        let space = |event: &Event| match event {
            Event::Space { out } => Some(*out),
            _ => None,
        };
        said.extend(bench.flush().events.iter().filter_map(space));
    }
    assert_eq!(said, [true, false]);
}

#[test]
fn a_client_may_leave_open_which_node_it_asks() {
    let mut bench = Bench::leader();
    let payload = node::protocol::Request { nonce: 7, sequence: 1, body: RequestBody::OpenSession }.encode();
    for (to, taken) in [(0, 1), (3, 1), (1, 2)] {
        let payload = if to == 1 {
            node::protocol::Request { nonce: 8, sequence: 1, body: RequestBody::OpenSession }.encode()
        } else {
            payload.clone()
        };
        let frame = node::client::request_frame(cluster_id(CLUSTER), to, &payload);
        bench.replica.datagram(bench.now, client(7), &frame);
        assert_eq!(bench.replica.holdings().requests, taken, "to {to}");
    }
}

/// Questions for parts of objects leave with acknowledgements: behind votes, before answers.
#[test]
fn questions_for_parts_leave_after_votes_and_before_answers() {
    let mut bench = Bench::follower();
    bench.sync();
    bench.turn();
    bench.request(8, 1, RequestBody::LocalGet { key: b"none".to_vec() });
    let long = node::raft::types::Entry {
        id: id(1, 1),
        payload: node::raft::types::Payload::Command(vec![1; 5_000].into()),
    };
    bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: 0, round: 0, entries: vec![long] });
    bench.now += 10_000 * MS;
    bench.peer(3, 1, &Message::PreVoteRequest { candidate_term: 2, last: id(0, 0) });
    let output = bench.flush();
    let ranks: Vec<u8> = output
        .datagrams
        .iter()
        .map(|(_, bytes)| {
            let frame = Frame::decode(bytes).unwrap();
            match frame.kind {
                Kind::Pull => 1,
                Kind::Peer => match message_codec::decode(frame.payload, frame.term) {
                    Ok(Message::AppendReply { .. }) => 1,
                    _ => 0,
                },
                _ => 2,
            }
        })
        .collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert!([0, 1, 2].iter().all(|rank| ranks.contains(rank)), "{ranks:?}");
}

#[test]
fn clients_neither_read_nor_write_logs_and_snapshots() {
    use node::transport::object::{Chunk, ObjectId, PullRequest};
    use node::transport::pull::ChunkRange;
    let mut bench = Bench::follower();
    bench.request(7, 2, set(1, "k", "v"));
    bench.turn();
    let (entry, snapshot) = (ObjectId::Entry(id(1, 1)), ObjectId::Snapshot { last: id(1, 1), root: [1; 32] });
    let request = ObjectId::Request { nonce: 7, sequence: 2 };
    let response = ObjectId::Response { nonce: 7, sequence: 2, hash: 9 };
    let ask = |object| PullRequest { object, asked_at: 1, ranges: vec![ChunkRange { offset: 0, bytes: 9 }] };
    [entry, snapshot, request].into_iter().for_each(|object| bench.pull(Err(7), &ask(object)));
    for object in [entry, snapshot, response] {
        bench.chunk(Err(7), &Chunk { object, asked_at: 1, offset: 0, bytes: &[1; 9] });
    }
    assert_eq!(bench.replica.status(bench.now).dropped["malformed"], 6);
    // A node fetches a response from who made it, not through another one.
    bench.pull(Ok(3), &ask(response));
    let left = bench.turn();
    assert!(left.pulls.is_empty() && left.chunks.is_empty());
}
