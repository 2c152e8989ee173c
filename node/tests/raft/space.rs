//! A node whose disk is full: it refuses writes, takes no entries, and goes on with reads and votes.

use node::protocol::error::ErrorCode;
use node::protocol::{RequestBody, ResponseBody};
use node::raft::message::Message;
use node::storage::Progress;

use crate::core::*;
use crate::replica::*;

fn space(bench: &mut Bench, out_of_space: bool, hard_state: u64) {
    let durable = bench.replica.raft().durable_lsn();
    bench.replica.stored(bench.now, Progress { durable, hard_state: hard_state.max(durable), out_of_space });
}

#[test]
fn a_leader_refuses_writes_and_serves_reads_until_there_is_space() {
    let mut bench = Bench::leader();
    let client_id = bench.session(1);
    space(&mut bench, true, 0);
    bench.request(1, 9, set(client_id, "k", "v"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy));
    bench.request(2, 1, get("k"));
    bench.turn();
    bench.peer(2, 1, &echo(1));
    assert!(matches!(bench.turn().answer(), ResponseBody::Applied { .. }), "a read needs no space");
    space(&mut bench, false, 0);
    bench.request(1, 10, set(client_id, "k", "v"));
    assert!(matches!(bench.commit().answer(), ResponseBody::Applied { .. }));
    bench.request(3, 1, RequestBody::Status);
    assert!(matches!(bench.turn().answer(), ResponseBody::Status { .. }));
}

#[test]
fn a_follower_hears_its_leader_takes_no_entries_and_votes() {
    let mut bench = Bench::follower();
    space(&mut bench, true, 0);
    let deadline = bench.replica.next_deadline();
    bench.now += 100 * MS;
    bench.peer(1, 1, &append(id(0, 0), 0, &[1, 1]));
    assert_eq!(bench.replica.raft().log().last().index, 0, "no entry waits for a full disk");
    assert!(bench.replica.next_deadline() != deadline, "the leader was heard all the same");
    bench.turn();
    bench.now += 1_000 * MS;
    bench.peer(3, 2, &Message::VoteRequest { last: id(0, 0), transfer: false });
    let granted = |bench: &mut Bench| {
        bench.turn().peers.iter().filter(|(_, _, m)| *m == Message::VoteReply { granted: true }).count()
    };
    assert_eq!(granted(&mut bench), 0, "the vote is not durable yet");
    let lsn = bench.replica.raft().last_lsn();
    space(&mut bench, true, lsn - 1);
    assert_eq!(granted(&mut bench), 0);
    space(&mut bench, true, lsn);
    assert_eq!(granted(&mut bench), 1, "the reserve took it");
    space(&mut bench, false, lsn);
    bench.peer(3, 2, &append(id(0, 0), 0, &[1, 1]));
    assert_eq!(bench.replica.raft().log().last().index, 2);
}
