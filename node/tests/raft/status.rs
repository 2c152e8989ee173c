//! What a replica says of itself, where it finds others, when it may leave, and in which order what it sends leaves.

use std::net::SocketAddr;

use node::client::{MemberStatus, PeerStatus, Status};
use node::protocol::{RequestBody, ResponseBody};
use node::raft::membership::{MEMBERS_MAX, Member, Membership};
use node::raft::message::Message;
use node::raft::types::{Entry, Payload};
use node::transport::frame::{DropReason, Frame, Kind, PAYLOAD_BYTES_MAX};
use node::transport::object::{ObjectId, PullRequest};
use node::transport::pull::ChunkRange;

use crate::core::*;
use crate::replica::*;

/// A follower whose log holds this membership.
fn follower_in(membership: &Membership) -> Bench {
    let mut bench = Bench::follower();
    let entry = Entry { id: id(1, 1), payload: Payload::Membership(membership.encode().into()) };
    bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: 0, round: 0, entries: vec![entry] });
    bench.turn();
    bench
}

fn status(bench: &Bench) -> Status {
    bench.replica.status(bench.now)
}

#[test]
fn a_leader_says_what_it_has_and_what_it_knows_of_its_peers() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", "v"));
    bench.commit();
    bench.request(7, 3, set(session, "k", "w"));
    bench.flush();
    bench.now += 7 * MS;
    let raft = bench.replica.raft();
    let said = status(&bench);
    let member = |id: u32| MemberStatus {
        id,
        role: "voter".to_owned(),
        address: format!("127.0.0.1:{id}"),
        directory: format!("{:016x}", 1000 + id),
    };
    let peer = |id, match_index, next_index, state: &str, heard_ms_ago| PeerStatus {
        id,
        match_index,
        next_index,
        state: state.to_owned(),
        heard_ms_ago,
    };
    let next = raft.progress()[&3].next_index;
    let expected = Status {
        id: 1,
        role: "leader".to_owned(),
        term: 1,
        leader: Some(1),
        commit_index: 3,
        last_applied: 3,
        first_index: 1,
        last_index: 4,
        durable_index: 3,
        incarnation: 1,
        keys: 1,
        snapshot_index: 0,
        log_bytes: raft.log().bytes() as u64,
        members: vec![member(1), member(2), member(3)],
        membership_index: raft.membership_index(),
        joint: false,
        may_vote: true,
        lease_reads: 0,
        build_id: node::BUILD_ID.to_owned(),
        dropped: Default::default(),
        peers: vec![peer(2, 3, 5, "replicate", Some(7)), peer(3, 0, next, "probe", None)],
    };
    assert_eq!(said, expected);
    assert!(said.log_bytes > 0);
}

#[test]
fn each_member_has_its_role() {
    let mut membership = membership(5);
    membership.voters = [1, 2].into();
    membership.outgoing = [2, 3].into();
    membership.returning = [4].into();
    let bench = follower_in(&membership);
    let roles: Vec<_> = status(&bench).members.into_iter().map(|member| (member.id, member.role)).collect();
    let expected = [(1, "voter"), (2, "voter"), (3, "outgoing"), (4, "returning"), (5, "learner")];
    assert_eq!(roles, expected.map(|(id, role)| (id, role.to_owned())));
    assert!(status(&bench).joint && status(&bench).membership_index == 1);
}

/// However much there is to say, it fits into a datagram, and the most important of it stays.
#[test]
fn a_status_that_is_too_long_leaves_out_what_matters_least() {
    let ask = |bench: &mut Bench| {
        bench.request(7, 1, RequestBody::Status);
        let ResponseBody::Status { json } = bench.turn().answer() else { panic!() };
        (json.len(), serde_json::from_slice::<Status>(&json).unwrap())
    };
    let long = |members: u32| {
        let mut membership = membership(3);
        for id in 4..=members {
            let address = format!("{}:1", "a".repeat(50));
            membership.members.insert(id, Member { address, ..Member::default() });
        }
        let mut bench = follower_in(&membership);
        bench.replica.lost_by_kernel(1);
        (status(&bench), ask(&mut bench))
    };
    let mut left_out = [0, 0];
    for members in 3..20 {
        let (all, (bytes, said)) = long(members);
        let whole = serde_json::to_vec(&all).unwrap().len();
        assert!(bytes + 23 <= PAYLOAD_BYTES_MAX);
        if whole + 23 <= PAYLOAD_BYTES_MAX {
            assert_eq!(said, all, "{members} members");
        } else if !said.members.is_empty() {
            left_out[0] += 1;
            assert_eq!(said, Status { dropped: Default::default(), ..all });
        } else {
            left_out[1] += 1;
            assert_eq!(said, Status { dropped: Default::default(), members: vec![], ..all });
        }
    }
    assert!(left_out[1] > 2, "{left_out:?}");
    // A leader leaves out peers one by one before it leaves out members.
    let mut bench = Bench::leader();
    for reason in [DropReason::Cluster, DropReason::Sender, DropReason::Kind] {
        bench.replica.drop_datagram(reason);
    }
    let (_, said) = ask(&mut bench);
    assert_eq!(said, status(&bench));
    assert_eq!((said.dropped["cluster"], said.peers.len()), (1, 2));
}

#[test]
fn what_the_kernel_lost_is_a_total() {
    let mut bench = Bench::follower();
    bench.replica.lost_by_kernel(0);
    assert!(status(&bench).dropped.is_empty());
    for total in [5, 7, 7] {
        bench.replica.lost_by_kernel(total);
        assert_eq!(status(&bench).dropped["receive_buffer"], total);
    }
    bench.replica.drop_datagram(DropReason::Malformed);
    bench.replica.drop_datagram(DropReason::Malformed);
    assert_eq!(status(&bench).dropped["malformed"], 2);
}

#[test]
fn nodes_are_found_where_the_log_says_or_where_they_were_heard_and_so_many_are_remembered() {
    let mut bench = Bench::follower();
    assert_eq!(bench.replica.address_of(3), Some(SocketAddr::from(([127, 0, 0, 1], 3))));
    assert_eq!(bench.replica.address_of(9), None);
    let heard = |bench: &mut Bench, from, port| {
        let payload = node::transport::message_codec::encode(&Message::VoteReply { granted: false });
        bench.replica.datagram(bench.now, client(port), &peer_frame(Kind::Peer, from, 2, 1, &payload));
    };
    for from in 10..200 {
        heard(&mut bench, from, from as u16);
    }
    let known = (10..200).filter(|id| bench.replica.address_of(*id).is_some()).count();
    assert_eq!(known, MEMBERS_MAX - 1, "and the leader");
    heard(&mut bench, 10, 5_000);
    assert_eq!(bench.replica.address_of(10), Some(client(5_000)), "who moved is found");
}

#[test]
fn a_leader_hands_over_before_it_leaves_and_others_leave_when_somebody_leads() {
    let mut bench = Bench::leader();
    assert!(!bench.replica.may_leave());
    bench.replica.leave(bench.now);
    assert!(bench.replica.raft().transferring_to().is_some());
    let mut bench = Bench::follower();
    assert!(bench.replica.may_leave(), "somebody else leads");
    bench.replica.leave(bench.now);
    assert_eq!(bench.turn().peers, [], "it has nothing to hand over");
    assert!(
        !Bench::new(replica_config(2, 3), 1, &[]).replica.may_leave(),
        "it may be needed for an election"
    );
    assert!(
        Bench::new(replica_config(1, 1), 1, &[]).replica.may_leave() || {
            // Alone, whatever its role.
            let recovered = recovered(1, Default::default(), vec![], 1);
            let raft = node::replica::RecoveredState { raft: recovered, state: None };
            use rand::SeedableRng;
            let rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
            node::replica::Replica::new(replica_config(1, 1), rng, 0, raft).may_leave()
        }
    );
    let mut without = membership(3);
    without.voters = [1, 3].into();
    let mut bench = follower_in(&without);
    bench.now = bench.replica.next_deadline() + 10_000 * MS;
    bench.replica.tick(bench.now);
    assert!(bench.replica.may_leave(), "it has no vote");
}

/// Votes and heartbeats leave first, then acknowledgements and questions, then entries and answers, then parts of objects.
#[test]
fn what_keeps_a_leader_leaves_first() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", &"x".repeat(1_200)));
    bench.commit();
    bench.flush();
    let object = ObjectId::Entry(id(3, 1));
    let ranges = vec![ChunkRange { offset: 0, bytes: 10 }];
    bench.pull(Ok(2), &PullRequest { object, asked_at: 1, ranges });
    bench.request(8, 1, RequestBody::LocalGet { key: b"none".to_vec() });
    bench.request(7, 3, set(session, "k", "v"));
    bench.request(9, 1, get("k"));
    let content = node::protocol::content::Content::of(&[7; 3_000]);
    bench.request(9, 2, RequestBody::Offer { purpose: node::protocol::Purpose::Read, content });
    bench.now += 60 * MS;
    bench.replica.tick(bench.now);
    let output = bench.flush();
    let frames: Vec<_> = output.datagrams.iter().map(|(_, bytes)| Frame::decode(bytes).unwrap()).collect();
    let rank = |frame: &Frame<'_>| match frame.kind {
        Kind::Chunk => 3,
        Kind::Pull => 1,
        Kind::Peer => match node::transport::message_codec::decode(frame.payload, frame.term) {
            Ok(Message::Append { entries, .. }) if entries.is_empty() => 0,
            _ => 2,
        },
        _ => 2,
    };
    let ranks: Vec<_> = frames.iter().map(rank).collect();
    assert!(ranks.is_sorted() && (0..4).all(|rank| ranks.contains(&rank)), "{ranks:?}");
    let mut ids: Vec<_> = frames.iter().map(|frame| frame.message_id).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ids:?}");
}

#[test]
fn what_waits_for_the_disk_is_counted_with_its_header() {
    let mut bench = Bench::follower();
    bench.sync();
    assert_eq!(bench.replica.holdings().unsynced_bytes, 0);
    let entries = vec![Entry { id: id(1, 1), payload: command("12345") }];
    bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: 0, round: 0, entries });
    bench.peer(3, 2, &Message::VoteReply { granted: false });
    bench.flush();
    assert_eq!(bench.replica.holdings().unsynced_bytes, 64 + 5 + 64, "an entry, and a term");
    let last = bench.replica.raft().last_lsn();
    bench.replica.durable(bench.now, last - 1);
    assert_eq!(bench.replica.holdings().unsynced_bytes, 64);
    bench.replica.durable(bench.now, last);
    assert_eq!(bench.replica.holdings().unsynced_bytes, 0);
}
