//! A cluster with a key: who does not have it changes nothing, learns nothing, and is counted.

use node::client::client_frame;
use node::protocol::{Request, RequestBody};
use node::raft::message::Message;
use node::raft::types::NodeId;
use node::transport::frame::{DropReason, Frame, Kind, cluster_id};
use node::transport::key::Key;
use node::transport::message_codec;
use node::transport::object::{Chunk, ObjectId, PullRequest};

use crate::core::*;
use crate::replica::*;

fn key(byte: u8) -> Key {
    Key::of_secret(&[byte; 40]).unwrap()
}

fn keyed(id: NodeId) -> Bench {
    let mut config = replica_config(id, 3);
    config.key = Some(key(1));
    Bench::new(config, 1, &[])
}

/// One datagram of each kind, right in every respect but perhaps its tag.
fn datagrams(to: NodeId, tag: Option<&Key>) -> Vec<Vec<u8>> {
    let object = ObjectId::Request { nonce: 1, sequence: 1 };
    let chunk = Chunk { object, asked_at: 1, offset: 0, bytes: b"part" }.encode();
    let pull = PullRequest { object, asked_at: 1, ranges: vec![] }.encode();
    let request = |body| Request { nonce: 1, sequence: 1, body }.encode();
    let peer = |kind, payload: &[u8]| {
        let cluster_id = cluster_id(CLUSTER);
        let process = process(3, 1);
        Frame { kind, cluster_id, from: 3, to, process, term: 9, message_id: 1, payload }.seal(tag)
    };
    let client = |kind, payload: &[u8]| client_frame(tag, kind, cluster_id(CLUSTER), 1, payload);
    let vote = message_codec::encode(&Message::VoteRequest { last: id(0, 0), transfer: true });
    let append = message_codec::encode(&append(id(0, 0), 0, &[1, 9]));
    vec![
        peer(Kind::Peer, &vote),
        peer(Kind::Peer, &append),
        peer(Kind::Forward, &request(RequestBody::OpenSession)),
        peer(Kind::ForwardReply, &[0; 30]),
        peer(Kind::Pull, &pull),
        peer(Kind::Chunk, &chunk),
        client(Kind::Request, &request(set(1, "k", "v"))),
        client(Kind::Request, &request(get("k"))),
        client(Kind::Request, &request(RequestBody::LocalGet { key: b"k".to_vec() })),
        client(Kind::Request, &request(RequestBody::Status)),
        client(Kind::Request, &request(RequestBody::TransferLeader { to: 2 })),
        client(Kind::Pull, &pull),
        client(Kind::Chunk, &chunk),
    ]
}

#[test]
fn without_the_key_nobody_changes_a_term_reads_or_writes() {
    for (tag, name) in [(None, "no tag"), (Some(key(2)), "another key")] {
        let mut bench = keyed(2);
        let before = format!("{:?} {:?}", bench.replica.raft(), bench.replica.store());
        let all = datagrams(2, tag.as_ref());
        for (count, datagram) in (1..).zip(&all) {
            bench.replica.datagram(0, client(9), datagram);
            let dropped = bench.replica.status(0).dropped;
            assert_eq!(dropped.get(DropReason::Authentication.name()), Some(&count), "{name}: {dropped:?}");
            assert!(bench.flush().datagrams.is_empty(), "{name}: datagram {count} was answered");
        }
        assert_eq!(format!("{:?} {:?}", bench.replica.raft(), bench.replica.store()), before, "{name}");
    }
    // The near miss: the same with the key.
    let mut bench = keyed(2);
    for datagram in datagrams(2, Some(&key(1))) {
        bench.replica.datagram(0, client(9), &datagram);
    }
    assert_eq!(bench.replica.raft().term(), 9);
    assert!(!bench.replica.status(0).dropped.contains_key("authentication"));
}

#[test]
fn a_node_without_a_key_takes_no_tagged_datagram() {
    let mut bench = Bench::new(replica_config(2, 3), 1, &[]);
    for datagram in datagrams(2, Some(&key(1))) {
        bench.replica.datagram(0, client(9), &datagram);
    }
    assert_eq!((bench.replica.raft().term(), bench.replica.status(0).dropped["authentication"]), (1, 13));
}

#[test]
fn every_datagram_of_a_node_with_a_key_carries_its_tag() {
    let mut bench = keyed(2);
    for datagram in datagrams(2, Some(&key(1))) {
        bench.replica.datagram(0, client(9), &datagram);
    }
    bench.now = bench.replica.next_deadline();
    bench.replica.tick(bench.now);
    bench.sync();
    let mut left = 0;
    for _ in 0..3 {
        bench.now = bench.replica.next_deadline();
        bench.replica.tick(bench.now);
        for (_, datagram) in bench.flush().datagrams {
            assert!(Frame::open(&datagram, Some(&key(1))).is_ok());
            assert_eq!(Frame::open(&datagram, None), Err(DropReason::Authentication));
            left += 1;
        }
    }
    assert!(left > 0, "nothing left");
}
