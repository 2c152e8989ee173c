//! A whole replica, datagram by datagram: what may leave before the disk, who is answered what, and what is bounded.

use std::net::SocketAddr;

use node::client::{client_frame, decode_response, request_frame};
use node::config::{REQUEST_TIMEOUT_MS, SNAPSHOT_ENTRIES, ServerConfig, TRAILING_ENTRIES};
use node::kv::command::{Operation, Reply};
use node::protocol::content::Content;
use node::protocol::error::ErrorCode;
use node::protocol::{Purpose, REQUEST_BYTES_MAX, Request, RequestBody, Response, ResponseBody};
use node::raft::message::{AppendResult, Message};
use node::raft::types::{Entry, HardState, NodeId, Payload, Term};
use node::replica::{Destination, Output, RecoveredState, Replica, ReplicaConfig};
use node::trace::TraceEvent;
use node::transport::frame::{DropReason, Frame, Kind, cluster_id};
use node::transport::message_codec::{self, Incoming};
use node::transport::object::{Chunk, ObjectId, PullRequest};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::core::*;

pub(crate) const CLUSTER: &str = "bench";

pub(crate) fn replica_config(id: NodeId, nodes: u16) -> ReplicaConfig {
    let config = ServerConfig {
        unsynced_in_memory: false,
        id,
        addresses: (1..=nodes).map(|id| SocketAddr::from(([127, 0, 0, 1], id))).collect(),
        peers: Default::default(),
        listen: None,
        cluster: CLUSTER.to_owned(),
        key: None,
        data_dir: "unused".into(),
        trace: true,
        http: None,
        level: None,
        log_json: false,
        election_timeout_ms_min: 300,
        election_timeout_ms_max: 600,
        heartbeat_interval_ms: 50,
        lease_reads: false,
        clock_drift_percent_max: 0,
        snapshot_entries: SNAPSHOT_ENTRIES,
        trailing_entries: TRAILING_ENTRIES,
    };
    config.validate().unwrap();
    config.replica(process(id, 1))
}

pub(crate) fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 9], port))
}

pub(crate) fn peer_frame(kind: Kind, from: NodeId, to: NodeId, term: Term, payload: &[u8]) -> Vec<u8> {
    let cluster_id = cluster_id(CLUSTER);
    Frame { kind, cluster_id, from, to, process: process(from, 1), term, message_id: 1, payload }.encode()
}

pub(crate) struct Bench {
    pub(crate) replica: Replica,
    pub(crate) now: u64,
}

/// What left in one turn, decoded.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) peers: Vec<(NodeId, Term, Message)>,
    pub(crate) clients: Vec<(u16, Response)>,
    pub(crate) forwards: Vec<(NodeId, Request)>,
    pub(crate) replies: Vec<(NodeId, Response)>,
    pub(crate) pulls: Vec<(Destination, PullRequest)>,
    /// Object, where the chunk begins, its bytes.
    pub(crate) chunks: Vec<(Destination, ObjectId, u64, Vec<u8>)>,
}

impl Left {
    fn of(output: &Output) -> Left {
        let mut left = Left::default();
        for (destination, bytes) in &output.datagrams {
            let frame = Frame::decode(bytes).unwrap();
            match (*destination, frame.kind) {
                (_, Kind::Pull) => {
                    left.pulls.push((*destination, PullRequest::decode(frame.payload).unwrap()));
                }
                (_, Kind::Chunk) => {
                    let chunk = Chunk::decode(frame.payload).unwrap();
                    left.chunks.push((*destination, chunk.object, chunk.offset, chunk.bytes.to_vec()));
                }
                (Destination::Client(at), _) => {
                    left.clients.push((at.port(), decode_response(cluster_id(CLUSTER), bytes).unwrap()));
                }
                (Destination::Node(to), Kind::Peer) => {
                    // What it takes to complete an append of long entries is shown in `large`.
                    if let Incoming::Whole(message) =
                        message_codec::decode_incoming(frame.payload, frame.term).unwrap()
                    {
                        left.peers.push((to, frame.term, message));
                    }
                }
                (Destination::Node(to), Kind::Forward) => {
                    left.forwards.push((to, Request::decode(frame.payload).unwrap()));
                }
                (Destination::Node(to), _) => {
                    left.replies.push((to, Response::decode(frame.payload).unwrap()));
                }
            }
        }
        left
    }

    /// The one answer to a client.
    pub(crate) fn answer(&self) -> ResponseBody {
        assert_eq!(self.clients.len(), 1, "{:?}", self.clients);
        self.clients[0].1.body.clone()
    }
}

impl Bench {
    pub(crate) fn new(config: ReplicaConfig, term: Term, terms: &[Term]) -> Bench {
        let hard_state = HardState { term, voted_for: None };
        let raft = recovered(3, hard_state, entries(0, terms), 1 + terms.len() as u64);
        let recovered = RecoveredState { raft, state: None };
        Bench { replica: Replica::new(config, ChaCha8Rng::seed_from_u64(1), 0, recovered), now: 0 }
    }

    /// Node 1 of 3, leading term 1, its no-op committed and applied.
    pub(crate) fn leader_of(config: ReplicaConfig) -> Bench {
        let mut bench = Bench::new(config, 0, &[]);
        bench.now = bench.replica.next_deadline();
        bench.replica.tick(bench.now);
        bench.peer(2, 0, &Message::PreVoteReply { candidate_term: 1, granted: true });
        bench.sync();
        bench.peer(2, 1, &Message::VoteReply { granted: true });
        bench.sync();
        bench.peer(2, 1, &accepted(1));
        bench.turn();
        assert_eq!(bench.replica.store().last_applied(), 1);
        bench
    }

    pub(crate) fn leader() -> Bench {
        Bench::leader_of(replica_config(1, 3))
    }

    /// Node 2 of 3, following node 1 in term 1.
    pub(crate) fn follower() -> Bench {
        let mut bench = Bench::new(replica_config(2, 3), 1, &[]);
        bench.peer(1, 1, &append(id(0, 0), 0, &[]));
        bench.turn();
        bench
    }

    pub(crate) fn peer(&mut self, from: NodeId, term: Term, message: &Message) {
        let payload = message_codec::encode(message);
        let bytes = peer_frame(Kind::Peer, from, self.replica.raft().id(), term, &payload);
        self.replica.datagram(self.now, client(0), &bytes);
    }

    pub(crate) fn request(&mut self, port: u16, sequence: u64, body: RequestBody) {
        let payload = Request { nonce: u64::from(port), sequence, body }.encode();
        self.replica.datagram(self.now, client(port), &request_frame(cluster_id(CLUSTER), 1, &payload));
    }

    pub(crate) fn forwarded(&mut self, from: NodeId, nonce: u64, sequence: u64, body: RequestBody) {
        let payload = Request { nonce, sequence, body }.encode();
        let bytes = peer_frame(Kind::Forward, from, self.replica.raft().id(), 1, &payload);
        self.replica.datagram(self.now, client(0), &bytes);
    }

    pub(crate) fn flush(&mut self) -> Output {
        self.replica.flush(self.now)
    }

    pub(crate) fn turn(&mut self) -> Left {
        Left::of(&self.flush())
    }

    /// The disk finishes what it was given, node 2 acknowledges it, and the rest follows.
    pub(crate) fn commit(&mut self) -> Left {
        self.flush();
        self.sync();
        let last = self.replica.raft().log().last().index;
        let term = self.replica.raft().term();
        self.peer(2, term, &accepted(last));
        self.turn()
    }

    /// A part of an object, from a peer, or from the client at this port.
    pub(crate) fn chunk(&mut self, from: Result<NodeId, u16>, chunk: &Chunk<'_>) {
        self.object_frame(Kind::Chunk, from, &chunk.encode());
    }

    /// A request for parts of an object, likewise.
    pub(crate) fn pull(&mut self, from: Result<NodeId, u16>, request: &PullRequest) {
        self.object_frame(Kind::Pull, from, &request.encode());
    }

    fn object_frame(&mut self, kind: Kind, from: Result<NodeId, u16>, payload: &[u8]) {
        let (bytes, source) = match from {
            Ok(id) => (peer_frame(kind, id, self.replica.raft().id(), 1, payload), client(0)),
            Err(port) => (client_frame(None, kind, cluster_id(CLUSTER), 1, payload), client(port)),
        };
        self.replica.datagram(self.now, source, &bytes);
    }

    /// The disk finishes everything, without a flush after it.
    pub(crate) fn sync(&mut self) {
        self.flush();
        self.replica.durable(self.now, self.replica.raft().last_lsn());
    }

    /// The session that the client at `port` opens.
    pub(crate) fn session(&mut self, port: u16) -> u64 {
        self.request(port, 1, RequestBody::OpenSession);
        match self.commit().answer() {
            ResponseBody::SessionOpened { client_id } => client_id,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> String {
        format!("{:?} {:?}", self.replica.raft(), self.replica.store())
    }
}

pub(crate) fn set(client_id: u64, key: &str, value: &str) -> RequestBody {
    RequestBody::Write { client_id, operation: Operation::Set { key: key.into(), value: value.into() } }
}

pub(crate) fn extend(client_id: u64, key: &str, value: &str) -> RequestBody {
    RequestBody::Write { client_id, operation: Operation::Append { key: key.into(), value: value.into() } }
}

pub(crate) fn get(key: &str) -> RequestBody {
    RequestBody::Get { key: key.into() }
}

pub(crate) fn refusal(error: ErrorCode) -> ResponseBody {
    ResponseBody::Error { error }
}

fn value(text: &str, position: u64) -> ResponseBody {
    ResponseBody::Applied { position, reply: Reply::Value(Some(text.as_bytes().into())) }
}

fn at(events: &[TraceEvent], wanted: impl Fn(&TraceEvent) -> bool) -> usize {
    events.iter().position(wanted).unwrap_or_else(|| panic!("not in {events:?}"))
}

// ---- What is taken ----

#[test]
fn a_client_may_name_the_node_that_it_means() {
    let mut bench = Bench::leader();
    let payload = Request { nonce: 7, sequence: 1, body: RequestBody::Status }.encode();
    for (to, answers) in [(0, 1), (1, 1), (2, 0)] {
        let (kind, cluster_id) = (Kind::Request, cluster_id(CLUSTER));
        let process = Default::default();
        let frame =
            Frame { kind, cluster_id, from: 0, to, process, term: 0, message_id: 1, payload: &payload };
        bench.replica.datagram(bench.now, client(7), &frame.encode());
        assert_eq!(bench.turn().clients.len(), answers, "to {to}");
    }
}

/// Q05: whoever tells the replica that its clock went wrong ends its lease.
#[test]
fn a_clock_that_jumped_ends_the_lease_of_a_replica() {
    let mut config = replica_config(1, 3);
    config.raft.lease = 200 * MS;
    let mut bench = Bench::leader_of(config);
    let read = |bench: &mut Bench| {
        bench.request(7, 1, get("k"));
        bench.turn().clients.len()
    };
    assert_eq!(read(&mut bench), 0, "its first round");
    bench.peer(2, 1, &echo(1));
    bench.turn();
    assert_eq!(read(&mut bench), 1, "at once");
    bench.replica.clock_jumped(bench.now);
    assert_eq!(read(&mut bench), 0, "it has to ask the others again");
}

// ---- What may leave, and when ----

#[test]
fn a_vote_leaves_after_its_record_is_durable_and_is_traced_in_that_order() {
    let mut bench = Bench::new(replica_config(2, 3), 4, &[]);
    bench.peer(1, 5, &Message::VoteRequest { last: id(0, 0), transfer: false });
    let output = bench.flush();
    assert!(output.datagrams.is_empty(), "defect E03");
    assert!(!output.trace.iter().any(|e| matches!(e, TraceEvent::VoteSent { .. })));
    let lsn = output.records.last().unwrap().0;
    bench.replica.durable(bench.now, lsn - 1);
    assert!(bench.flush().datagrams.is_empty(), "the term is on disk, the vote is not");
    bench.replica.durable(bench.now, lsn);
    let output = bench.flush();
    let left = Left::of(&output);
    assert_eq!(left.peers, [(1, 5, Message::VoteReply { granted: true })]);
    let durable = at(&output.trace, |e| *e == TraceEvent::Durable { lsn });
    let vote = at(&output.trace, |e| *e == TraceEvent::VoteSent { to: 1, term: 5 });
    assert!(durable < vote);
}

#[test]
fn an_acknowledgement_leaves_after_its_entries_are_durable_and_says_it_all_at_once() {
    let mut bench = Bench::follower();
    bench.sync();
    for prev in 0..3 {
        bench.peer(1, 1, &append(id(prev, u64::from(prev > 0)), 0, &[1]));
    }
    let output = bench.flush();
    assert!(output.datagrams.is_empty(), "defect R21");
    let lsn = output.records.last().unwrap().0;
    bench.replica.durable(bench.now, lsn);
    let output = bench.flush();
    let reply = Message::AppendReply { round: 0, result: AppendResult::Accepted { match_index: 3 } };
    assert_eq!(Left::of(&output).peers, [(1, 1, reply)]);
    let durable = at(&output.trace, |e| *e == TraceEvent::Durable { lsn });
    let sent = at(&output.trace, |e| *e == TraceEvent::AppendAckSent { to: 1, term: 1, match_index: 3 });
    assert!(durable < sent);
}

#[test]
fn acknowledgements_that_leave_together_keep_the_latest_round_and_match() {
    let mut bench = Bench::follower();
    bench.sync();
    let append = |prev, round, terms: &[Term]| Message::Append {
        prev,
        commit_index: 0,
        round,
        entries: entries(prev.index, terms),
    };
    for message in [append(id(0, 0), 3, &[1, 1]), append(id(0, 0), 5, &[1]), append(id(0, 0), 4, &[])] {
        bench.peer(1, 1, &message);
    }
    bench.sync();
    let left = bench.turn();
    let reply =
        |round, match_index| Message::AppendReply { round, result: AppendResult::Accepted { match_index } };
    assert_eq!(left.peers, [(1, 1, reply(5, 2))]);
}

#[test]
fn promises_of_a_term_that_has_passed_do_not_leave() {
    let mut bench = Bench::new(replica_config(2, 3), 4, &[]);
    bench.peer(1, 5, &Message::VoteRequest { last: id(0, 0), transfer: false });
    bench.peer(1, 5, &append(id(0, 0), 0, &[5]));
    bench.peer(3, 6, &Message::VoteReply { granted: false });
    bench.sync();
    assert!(bench.turn().peers.is_empty());
}

#[test]
fn messages_that_wait_for_the_disk_are_bounded() {
    let mut config = replica_config(2, 3);
    config.gated_messages_max = 10;
    let mut bench = Bench::new(config, 1, &[]);
    for _ in 0..50 {
        bench.peer(1, 2, &append(id(9, 2), 0, &[])); // rejections, gated on the record of term 2
    }
    bench.sync();
    assert_eq!(bench.turn().peers.len(), 10);
}

#[test]
fn a_full_disk_queue_takes_heartbeats_but_no_entries() {
    let mut config = replica_config(2, 3);
    config.unsynced_bytes_max = 0;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[1]));
    bench.flush();
    let last = |bench: &Bench| bench.replica.raft().log().last().index;
    assert_eq!(last(&bench), 1);
    let deadline = bench.replica.next_deadline();
    bench.now += 250 * MS;
    bench.peer(1, 1, &append(id(1, 1), 1, &[1, 1]));
    assert_eq!((last(&bench), bench.replica.raft().commit_index()), (1, 1), "the entries were dropped");
    assert!(bench.replica.next_deadline() != deadline, "and the leader was heard");
    assert_eq!(bench.replica.status(bench.now).dropped["disk_backlog"], 1);
    bench.sync();
    bench.peer(1, 1, &append(id(1, 1), 1, &[1, 1]));
    assert_eq!(last(&bench), 3, "the disk caught up");
}

#[test]
fn only_datagrams_of_nodes_to_this_node_in_this_cluster_reach_the_core() {
    let payload = message_codec::encode(&Message::VoteReply { granted: false });
    let frame = |kind, cluster: &str, from, to| {
        let cluster_id = cluster_id(cluster);
        Frame {
            kind,
            cluster_id,
            from,
            to,
            process: process(from, 1),
            term: 9,
            message_id: 1,
            payload: &payload,
        }
        .encode()
    };
    let mut bench = Bench::new(replica_config(2, 3), 4, &[]);
    let before = bench.state();
    for (bytes, reason) in [
        (frame(Kind::Peer, "other", 1, 2), DropReason::Cluster),
        (frame(Kind::Peer, CLUSTER, 1, 3), DropReason::Receiver),
        (frame(Kind::Request, CLUSTER, 0, 3), DropReason::Receiver),
        (frame(Kind::Peer, CLUSTER, 0, 2), DropReason::Sender),
        (frame(Kind::Peer, CLUSTER, 2, 2), DropReason::Sender),
        (frame(Kind::Response, CLUSTER, 1, 2), DropReason::Kind),
        (frame(Kind::Request, CLUSTER, 0, 2), DropReason::Malformed),
        (frame(Kind::Forward, CLUSTER, 1, 2), DropReason::Malformed),
        (frame(Kind::ForwardReply, CLUSTER, 1, 2), DropReason::Malformed),
    ] {
        bench.replica.datagram(0, client(0), &bytes);
        let dropped = bench.replica.status(0).dropped;
        assert!(dropped.get(reason.name()).is_some_and(|count| *count > 0), "{reason}: {dropped:?}");
    }
    assert_eq!(bench.replica.status(0).dropped.values().sum::<u64>(), 9);
    assert_eq!(bench.state(), before);
    bench.replica.datagram(0, client(0), &frame(Kind::Peer, CLUSTER, 1, 2));
    assert_eq!(bench.replica.raft().term(), 9);
}

// ---- Writes ----

#[test]
fn a_write_is_answered_after_it_is_committed_and_applied() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", "v"));
    assert!(bench.turn().clients.is_empty(), "defect A03");
    bench.sync();
    assert!(bench.turn().clients.is_empty(), "only its own disk has it");
    bench.peer(2, 1, &accepted(3));
    let answer = bench.turn().answer();
    assert_eq!(answer, ResponseBody::Applied { position: 3, reply: Reply::Done });
    assert_eq!(bench.replica.store().get(b"k"), Some(&b"v"[..].into()));
}

/// The defect A05: one operation sent again is one entry while it waits, and none once it is applied.
#[test]
fn a_retried_write_is_applied_once() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    for _ in 0..3 {
        bench.request(7, 2, extend(session, "k", "x"));
        bench.turn();
    }
    bench.forwarded(3, 7, 2, extend(session, "k", "x"));
    assert_eq!(bench.replica.raft().log().last().index, 3);
    let left = bench.commit();
    let body = ResponseBody::Applied { position: 3, reply: Reply::Done };
    assert_eq!(left.answer(), body);
    assert_eq!((left.replies.len(), left.replies[0].0, &left.replies[0].1.body), (1, 3, &body));
    bench.request(7, 2, extend(session, "k", "x"));
    assert_eq!(bench.turn().answer(), body, "from the session, where it was applied first");
    assert_eq!(
        (bench.replica.raft().log().last().index, bench.replica.store().get(b"k")),
        (3, Some(&b"x"[..].into()))
    );
    bench.request(7, 3, extend(session, "k", "y"));
    bench.commit();
    bench.request(7, 2, extend(session, "k", "x"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Superseded));
}

#[test]
fn a_write_in_no_session_is_not_executed() {
    let mut bench = Bench::leader();
    bench.request(7, 2, set(99, "k", "v"));
    assert_eq!(bench.commit().answer(), refusal(ErrorCode::SessionExpired));
    assert!(bench.replica.store().is_empty());
}

/// Those who wait for a write hear at once that its leader is none any more: not that it failed.
#[test]
fn a_deposed_leader_tells_who_waits() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", "v"));
    bench.request(8, 1, get("k"));
    bench.turn();
    bench.request(9, 1, RequestBody::OpenSession); // not even proposed yet
    bench.peer(3, 2, &append(id(2, 1), 2, &[2]));
    let left = bench.turn();
    let ports: Vec<u16> = left.clients.iter().map(|(port, _)| *port).collect();
    assert_eq!((ports.len(), ports.iter().sum::<u16>()), (3, 24));
    assert!(left.clients.iter().all(|(_, r)| r.body == refusal(ErrorCode::NoLeader)));
    assert!(!ErrorCode::NoLeader.row().definite);
    assert_eq!(bench.replica.raft().log().last(), id(3, 2));
    // Another entry at its index answers nobody (defect A04).
    bench.peer(3, 2, &append(id(3, 2), 3, &[]));
    assert!(bench.turn().clients.is_empty());
}

/// Only what every node refuses for the request's own sake is refused for good, by whoever is asked.
#[test]
fn requests_that_no_node_accepts_are_refused_alike_by_all() {
    let offer = |size: usize| RequestBody::Offer {
        purpose: Purpose::Write { client_id: 1 },
        content: Content { size: size as u32, hash: [7; 16] },
    };
    let cases = [
        (offer(REQUEST_BYTES_MAX + 1), Some(ErrorCode::TooLarge)),
        (offer(REQUEST_BYTES_MAX), None),
        (set(1, "k", &"x".repeat(1_000)), None),
        (get(&"k".repeat(1_000)), None),
        (set(1, "", "v"), Some(ErrorCode::BadRequest)),
        (get(""), Some(ErrorCode::BadRequest)),
    ];
    for (body, expected) in cases {
        let (mut leader, mut follower) = (Bench::leader(), Bench::follower());
        for bench in [&mut leader, &mut follower] {
            bench.request(7, 2, body.clone());
            let left = bench.turn();
            let refused = left.clients.first().map(|(_, response)| response.body.clone());
            assert_eq!(refused, expected.map(refusal), "{body:?}");
        }
    }
}

#[test]
fn a_leader_takes_no_more_than_its_bounds() {
    let mut config = replica_config(1, 3);
    (config.uncommitted_max, config.requests_max, config.waiters_per_write_max) = (4, 6, 2);
    let mut bench = Bench::leader_of(config);
    for port in 1..=5 {
        bench.request(port, 1, RequestBody::OpenSession);
    }
    let left = bench.turn();
    assert_eq!((left.clients.len(), left.clients[0].0, left.answer()), (1, 5, refusal(ErrorCode::Busy)));
    bench.request(6, 1, RequestBody::OpenSession);
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy), "four are in the log");
    // The same write again, from elsewhere: at most two wait for it.
    bench.forwarded(2, 1, 1, RequestBody::OpenSession);
    bench.forwarded(3, 1, 1, RequestBody::OpenSession);
    let left = bench.turn();
    assert_eq!((left.replies.len(), left.replies[0].0), (1, 3));
    // Reads count among the requests.
    bench.request(7, 1, get("k"));
    bench.request(8, 1, get("k"));
    assert!(bench.turn().clients.is_empty());
    bench.request(9, 1, get("k"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::Busy), "six are held");
}

#[test]
fn requests_without_an_answer_are_forgotten() {
    for (after, answer) in
        [(REQUEST_TIMEOUT_MS - 1, Some(refusal(ErrorCode::Busy))), (REQUEST_TIMEOUT_MS, None)]
    {
        let mut config = replica_config(1, 3);
        config.requests_max = 2;
        let mut bench = Bench::leader_of(config);
        bench.request(1, 1, RequestBody::OpenSession);
        bench.request(2, 1, get("k"));
        bench.turn();
        bench.now += after * MS;
        bench.peer(2, 1, &accepted(1)); // it is heard, and so it leads on
        bench.replica.tick(bench.now);
        bench.turn();
        bench.request(3, 1, get("k"));
        bench.request(4, 1, get("k"));
        let left = bench.turn();
        assert_eq!(left.clients.len(), if answer.is_some() { 2 } else { 0 }, "after {after} ms");
        assert_eq!(left.clients.first().map(|(_, r)| r.body.clone()), answer);
    }
}

// ---- Reads ----

#[test]
fn a_read_is_served_after_its_round_came_back() {
    let mut bench = Bench::leader();
    let session = bench.session(7);
    bench.request(7, 2, set(session, "k", "v"));
    bench.commit();
    bench.request(8, 1, get("k"));
    let left = bench.turn();
    assert!(left.clients.is_empty(), "defect Q01");
    assert!(matches!(left.peers[0].2, Message::Append { round: 1, .. }));
    bench.peer(2, 1, &echo(1));
    assert_eq!(bench.turn().answer(), value("v", 3));
    bench.request(8, 2, get("absent"));
    bench.turn();
    bench.peer(2, 1, &echo(2));
    assert_eq!(bench.turn().answer(), ResponseBody::Applied { position: 3, reply: Reply::Value(None) });
}

#[test]
fn any_node_says_what_itself_has_and_is() {
    let mut bench = Bench::follower();
    bench.request(7, 1, RequestBody::LocalGet { key: b"k".to_vec() });
    assert_eq!(bench.turn().answer(), ResponseBody::Local { last_applied: 0, value: None });
    bench.request(7, 2, RequestBody::Status);
    let ResponseBody::Status { json } = bench.turn().answer() else { panic!() };
    let status: node::client::Status = serde_json::from_slice(&json).unwrap();
    assert_eq!((status.id, status.role.as_str(), status.leader), (2, "follower", Some(1)));
    let mut bench = Bench::leader();
    bench.forwarded(2, 1, 1, RequestBody::Status);
    assert_eq!(bench.turn().replies[0].1.body, refusal(ErrorCode::BadRequest), "no honest node forwards it");
}

// ---- Forwarding ----

#[test]
fn a_follower_forwards_to_the_leader_and_the_answer_back_once() {
    let mut bench = Bench::follower();
    bench.request(7, 2, set(1, "k", "v"));
    let left = bench.turn();
    assert!(left.clients.is_empty());
    assert_eq!(left.forwards, [(1, Request { nonce: 7, sequence: 2, body: set(1, "k", "v") })]);
    let body = ResponseBody::Applied { position: 9, reply: Reply::Done };
    for (sequence, answers) in [(3, 0), (2, 1), (2, 0)] {
        let payload = Response { nonce: 7, sequence, node: 1, body: body.clone() }.encode();
        let bytes = peer_frame(Kind::ForwardReply, 1, 2, 1, &payload);
        bench.replica.datagram(bench.now, client(0), &bytes);
        let left = bench.turn();
        assert_eq!(left.clients.len(), answers, "sequence {sequence}");
        assert!(left.clients.iter().all(|(port, r)| (*port, r.node, &r.body) == (7, 1, &body)));
    }
}

/// Whoever waits for what was passed on to a leader hears at once that this leader is none any more; nobody else would tell.
#[test]
fn a_follower_that_loses_its_leader_tells_who_waits() {
    type Lose = fn(&mut Bench);
    let lost: [(&str, Lose); 3] = [
        ("silence", |bench| {
            bench.now = bench.replica.next_deadline();
            bench.replica.tick(bench.now);
        }),
        ("a candidate", |bench| {
            bench.now += 10_000 * MS;
            bench.peer(3, 2, &Message::VoteRequest { last: id(0, 0), transfer: false });
        }),
        ("another leader", |bench| bench.peer(3, 2, &append(id(0, 0), 0, &[]))),
    ];
    for (how, lose) in lost {
        let mut bench = Bench::follower();
        bench.request(7, 2, set(1, "k", "v"));
        bench.peer(1, 1, &append(id(0, 0), 0, &[]));
        assert!(bench.turn().clients.is_empty(), "the same leader goes on");
        lose(&mut bench);
        assert_eq!(bench.turn().answer(), refusal(ErrorCode::NoLeader), "{how}");
        bench.peer(3, 3, &append(id(0, 0), 0, &[]));
        assert!(bench.turn().clients.is_empty(), "told once");
    }
}

#[test]
fn who_does_not_lead_passes_on_what_clients_ask_and_nothing_else() {
    let mut bench = Bench::follower();
    bench.forwarded(3, 7, 2, set(1, "k", "v"));
    let left = bench.turn();
    assert!(left.forwards.is_empty(), "passed on once and no further");
    assert_eq!(left.replies[0].1.body, refusal(ErrorCode::NoLeader));
    let mut bench = Bench::new(replica_config(2, 3), 1, &[]);
    bench.request(7, 2, set(1, "k", "v"));
    assert_eq!(bench.turn().answer(), refusal(ErrorCode::NoLeader));
}

#[test]
fn forwarded_requests_are_bounded_and_forgotten() {
    let mut config = replica_config(2, 3);
    config.requests_max = 2;
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    for port in 1..=3 {
        bench.request(port, 1, RequestBody::OpenSession);
    }
    let left = bench.turn();
    assert_eq!((left.forwards.len(), left.answer()), (2, refusal(ErrorCode::Busy)));
    bench.now += REQUEST_TIMEOUT_MS * MS;
    bench.peer(1, 1, &append(id(0, 0), 0, &[])); // the leader is alive: nobody is told anything
    bench.replica.tick(bench.now);
    assert!(bench.turn().clients.is_empty());
    bench.request(4, 1, RequestBody::OpenSession);
    assert_eq!(bench.turn().forwards.len(), 1);
}

// ---- Apply ----

/// "If commitIndex > lastApplied: apply log[lastApplied]", in order, on followers and leaders, and bytes that are no
/// command are a no-op everywhere.
#[test]
fn committed_entries_are_applied_in_order_and_once() {
    let mut bench = Bench::follower();
    let payloads = [Payload::Noop, Payload::Command(b"no command".as_slice().into()), Payload::Noop];
    let ids = (1..).map(|index| id(index, 1));
    let entries = ids.zip(payloads).map(|(id, payload)| Entry { id, payload }).collect();
    bench.peer(1, 1, &Message::Append { prev: id(0, 0), commit_index: 2, round: 0, entries });
    let output = bench.flush();
    assert_eq!(bench.replica.store().last_applied(), 2);
    let chain = bench.replica.raft().log().chain_at(2);
    assert!(output.trace.contains(&TraceEvent::Apply { first_index: 1, last_index: 2, chain }));
    bench.peer(1, 1, &append(id(3, 1), 3, &[]));
    let output = bench.flush();
    let chain = bench.replica.raft().log().chain_at(3);
    assert!(output.trace.contains(&TraceEvent::Apply { first_index: 3, last_index: 3, chain }));
    assert!(bench.flush().trace.is_empty(), "nothing twice");
}

/// Many entries are applied over several turns, and no read gets ahead of them (defect Q04).
#[test]
fn a_turn_applies_no_more_than_its_bound() {
    let mut config = replica_config(1, 3);
    config.apply_per_turn_max = 4;
    let mut bench = Bench::new(config, 1, &[1; 10]);
    bench.now = bench.replica.next_deadline();
    bench.replica.tick(bench.now);
    bench.peer(2, 1, &Message::PreVoteReply { candidate_term: 2, granted: true });
    bench.sync();
    bench.peer(2, 2, &Message::VoteReply { granted: true });
    bench.sync();
    bench.turn();
    bench.request(7, 1, get("k"));
    bench.peer(2, 2, &accepted(11));
    bench.turn();
    assert_eq!(bench.replica.store().last_applied(), 4);
    bench.peer(2, 2, &echo(1));
    for (applied, answers) in [(8, 0), (11, 1)] {
        assert_eq!(bench.replica.next_deadline(), 0, "there is more to apply");
        assert_eq!(bench.turn().clients.len(), answers);
        assert_eq!(bench.replica.store().last_applied(), applied);
    }
    assert!(bench.replica.next_deadline() > bench.now);
}

/// The hash of the state is traced at the same indexes by every node.
#[test]
fn the_state_hash_is_traced_at_multiples_of_64() {
    let mut bench = Bench::follower();
    for prev in (0..130).step_by(10) {
        bench.peer(1, 1, &append(id(prev, u64::from(prev > 0)), prev + 10, &[1; 10]));
    }
    let states = |event: &TraceEvent| match event {
        TraceEvent::State { index, .. } => Some(*index),
        _ => None,
    };
    let indexes: Vec<u64> = bench.flush().trace.iter().filter_map(states).collect();
    assert_eq!(indexes, [64, 128]);
}

#[test]
fn a_boot_is_traced_with_what_was_recovered() {
    let output = Bench::new(replica_config(2, 3), 4, &[1, 1, 4]).flush();
    let TraceEvent::Boot { node, term, voted_for, last_index, ref terms, lsn, .. } = output.trace[0] else {
        panic!("{:?}", output.trace)
    };
    assert_eq!((node, term, voted_for, last_index, lsn), (2, 4, None, 3, 4));
    let runs: Vec<(u64, u64)> = terms.iter().map(|run| (run.first_index, run.term)).collect();
    assert_eq!(runs, [(1, 1), (3, 4)]);
}
