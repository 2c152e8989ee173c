//! Datagrams from strangers: counted, dropped, and of no consequence.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use node::config::CLUSTER_DEFAULT;
use node::raft::types::ProcessId;
use node::transport::frame::{DATAGRAM_BYTES_MAX, Frame, Kind, cluster_id};
use tests::hand::Hand;
use tests::poll;
use tests::sandbox::Sandbox;

const ALL: [usize; 3] = [1, 2, 3];

/// A datagram that is right in every respect, of a peer that the receiver knows.
fn frame(to: usize, payload: &[u8]) -> Frame<'_> {
    Frame {
        kind: Kind::Peer,
        cluster_id: cluster_id(CLUSTER_DEFAULT),
        from: (to % 3 + 1) as u32,
        to: to as u32,
        process: ProcessId { directory: 1, incarnation: 1 },
        term: 1,
        message_id: 1,
        payload,
    }
}

/// One datagram for each reason to drop one, with the name under which it must be counted.
fn hostile(to: usize) -> Vec<(&'static str, Vec<u8>)> {
    let payload = [0xee; 40];
    let right = frame(to, &payload).encode();
    let altered = |at: usize, value: u8| {
        let mut bytes = right.clone();
        bytes[at] = value;
        bytes
    };
    vec![
        ("length", b"hello".to_vec()),
        ("length", right[..right.len() - 1].to_vec()),
        ("oversized", vec![0xab; DATAGRAM_BYTES_MAX + 1]),
        ("magic", vec![0xab; 200]),
        ("version", altered(4, 99)),
        ("checksum", altered(right.len() - 1, 0)),
        ("cluster", Frame { cluster_id: 1, ..frame(to, &payload) }.encode()),
        ("receiver", Frame { to: 99, ..frame(to, &payload) }.encode()),
        ("sender", Frame { from: 0, ..frame(to, &payload) }.encode()),
        ("sender", Frame { from: to as u32, ..frame(to, &payload) }.encode()),
        ("kind", Frame { kind: Kind::Response, ..frame(to, &payload) }.encode()),
        ("malformed", right.clone()),
        ("malformed", Frame { kind: Kind::Request, from: 0, to: 0, ..frame(to, &payload) }.encode()),
        ("malformed", Frame { kind: Kind::Forward, ..frame(to, &payload) }.encode()),
        ("malformed", Frame { kind: Kind::ForwardReply, ..frame(to, &payload) }.encode()),
    ]
}

#[test]
fn hostile_datagrams_are_counted_and_break_nothing() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "hostile", 3);
    for id in ALL {
        hand.start(id);
    }
    hand.leader(&ALL);
    hand.client(1, &["set", "before", "1"]).exits(0);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for id in ALL {
        for (reason, datagram) in hostile(id) {
            let count = |id| hand.status(id)["dropped"][reason].as_u64().unwrap_or(0);
            let before = count(id);
            hand.throw(&socket, id, &datagram);
            poll::until_true(&format!("n{id} to count {reason}"), || count(id) > before);
        }
    }
    flood(&hand, &socket);
    assert!(hand.all_run());
    hand.leader(&ALL);
    for id in ALL {
        assert_eq!(hand.client(id, &["get", "before"]).exits(0).stdout, "1\n");
        assert_eq!(hand.client(id, &["get", "during"]).exits(0).stdout, "2\n");
    }
    drop(hand);
    sandbox.assert_nothing_left();
}

/// Random bytes behind a right beginning, as fast as they go, while a client works.
fn flood(hand: &Hand<'_>, socket: &UdpSocket) {
    let stop = AtomicBool::new(false);
    let before = hand.status(1)["dropped"]["checksum"].as_u64().unwrap_or(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut datagram = frame(1, &[0; 300]).encode();
            while !stop.load(Ordering::Relaxed) {
                for byte in &mut datagram[60..] {
                    // xorshift64: what it draws does not matter, that it varies does.
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state as u8;
                }
                for id in ALL {
                    hand.throw(socket, id, &datagram);
                }
            }
        });
        let flooded = || hand.status(1)["dropped"]["checksum"].as_u64().unwrap_or(0) > before + 10_000;
        poll::until_true("a flood", flooded);
        hand.client(2, &["set", "during", "2"]).exits(0);
        stop.store(true, Ordering::Relaxed);
    });
}
