//! Far more requests than a node may hold: it says `busy`, holds no more than its bounds, and answers its peers first.

use node::protocol::content::Content;
use node::protocol::error::ErrorCode;
use node::protocol::{Purpose, RequestBody, ResponseBody};
use node::raft::message::Message;
use node::replica::{Destination, Output};
use node::transport::frame::{Frame, Kind};
use node::transport::message_codec;

use crate::core::*;
use crate::replica::*;

const REQUESTS: u64 = 40_000;

/// Asks for everything that makes a node hold something, from a new client each time.
fn flood(bench: &mut Bench, count: u64) {
    let port = (count % 60_000) as u16 + 1;
    let content = Content { size: 1 << 20, hash: [count as u8; 16] };
    let body = match count % 5 {
        0 => RequestBody::OpenSession,
        1 => set(count, "k", &"x".repeat(1_000)),
        2 => get("k"),
        3 => RequestBody::Offer { purpose: Purpose::Write { client_id: count }, content },
        _ => RequestBody::Offer { purpose: Purpose::LocalRead, content },
    };
    bench.request(port, count, body);
}

fn assert_bounded(bench: &Bench) {
    let (held, config) = (bench.replica.holdings(), replica_config(1, 3));
    assert!(held.requests <= config.requests_max, "{held:?}");
    assert!(held.uncommitted_bytes <= config.uncommitted_bytes_max, "{held:?}");
    assert!(held.request_pull_bytes <= config.request_pull_bytes_max, "{held:?}");
    assert!(held.response_bytes <= config.response_bytes_max, "{held:?}");
    assert!(held.gated_messages <= config.gated_messages_max, "{held:?}");
}

/// The kinds of what left, in order: whether it is for a peer and keeps a leader.
fn first_to_peers(output: &Output) -> Vec<bool> {
    let heartbeat = |bytes: &[u8]| {
        let frame = Frame::decode(bytes).unwrap();
        let message = message_codec::decode(frame.payload, frame.term);
        frame.kind == Kind::Peer
            && message.is_ok_and(|message| match message {
                Message::Append { entries, .. } => entries.is_empty(),
                Message::AppendReply { .. } => true,
                _ => false,
            })
    };
    output
        .datagrams
        .iter()
        .map(|(to, bytes)| matches!(to, Destination::Node(_)) && heartbeat(bytes))
        .collect()
}

#[test]
fn a_flooded_leader_stays_within_its_bounds_and_speaks_to_its_peers_first() {
    let mut bench = Bench::leader();
    let (mut busy, mut heartbeats) = (0, 0);
    for count in 0..REQUESTS {
        flood(&mut bench, count);
        if count % 256 == 255 {
            bench.now += 20 * MS;
            bench.peer(3, 1, &accepted(1)); // hears it, and has nothing on disk: nothing commits
            bench.peer(2, 1, &accepted(1));
            bench.replica.tick(bench.now);
            let output = bench.flush();
            let order = first_to_peers(&output);
            let first = order.iter().take_while(|first| **first).count();
            assert!(!order[first..].iter().any(|late| *late), "a heartbeat behind requests");
            heartbeats += first;
            busy += busy_answers(&output);
            assert_bounded(&bench);
        }
    }
    assert_eq!(bench.replica.raft().role().name(), "leader");
    assert!(heartbeats > 50, "{heartbeats} heartbeats");
    assert!(busy > REQUESTS as usize / 4, "{busy} were told to try again");
}

#[test]
fn a_flooded_follower_answers_its_leader_first() {
    let mut bench = Bench::follower();
    bench.sync();
    let mut busy = 0;
    for count in 0..REQUESTS {
        flood(&mut bench, count);
        if count % 256 == 255 {
            bench.now += 20 * MS;
            bench.peer(1, 1, &append(id(0, 0), 0, &[]));
            bench.replica.tick(bench.now);
            let output = bench.flush();
            assert!(first_to_peers(&output)[0], "the leader waits behind requests");
            busy += busy_answers(&output);
            assert_bounded(&bench);
        }
    }
    assert_eq!((bench.replica.raft().term(), bench.replica.raft().leader()), (1, Some(1)));
    assert!(busy > REQUESTS as usize / 10, "{busy} were told to try again");
}

fn busy_answers(output: &Output) -> usize {
    let busy = ResponseBody::Error { error: ErrorCode::Busy };
    let told = |bytes: &[u8]| {
        let cluster_id = node::transport::frame::cluster_id(CLUSTER);
        node::client::decode_response(cluster_id, bytes).is_some_and(|response| response.body == busy)
    };
    output.datagrams.iter().filter(|(_, bytes)| told(bytes)).count()
}
