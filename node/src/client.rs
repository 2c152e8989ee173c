//! The client library: one operation at a time, retried under the same (client, sequence) until a reply comes or its time is up.
//! What a reply means is in [`crate::protocol`]; what an operation does is in [`crate::kv`].

mod exchange;
mod multiplexed;
mod route;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::{TryRng, rngs::SysRng};
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;
use crate::config::{CLUSTER_DEFAULT, RECEIVE_BUFFER_BYTES};
pub use crate::kv::command::{Operation, Reply};
use crate::protocol::error::ErrorCode;
use crate::protocol::{Request, RequestBody, Response, ResponseBody};
use crate::raft::reconfigure::Change;
use crate::raft::types::ProcessId;
use crate::transport::frame::{DATAGRAM_BYTES_MAX, Frame, Kind, cluster_id};
use crate::transport::key::Key;
pub use exchange::{Exchange, Outgoing, Taken};
pub use multiplexed::Multiplexed;
use route::Route;

/// Pause before the next node is asked after one refused: an election takes longer than a round trip.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How an operation ended: the three cases that a caller must tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and applied (or, for a read, answered linearizably).
    Applied {
        /// The result.
        reply: Reply,
        /// Log index of the operation; for a read, the index it was served at.
        position: u64,
        /// The node that answered.
        node: u32,
    },
    /// Definitely not applied, now or ever.
    NotApplied {
        /// Error name from the protocol's table, such as `too_large`.
        error: &'static str,
        /// A sentence for people.
        message: String,
    },
    /// May have been applied, or may yet be.
    Unknown {
        /// Error name from the protocol's table, such as `timeout`.
        error: &'static str,
    },
}

/// Progress of one peer, as a leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub id: u32,
    /// Last entry known to be durable there.
    pub match_index: u64,
    /// Next entry to send.
    pub next_index: u64,
    /// `probe` or `replicate`.
    pub state: String,
    /// Milliseconds since it was last heard, `None` if never in this term.
    pub heard_ms_ago: Option<u64>,
}

/// A member of the cluster, as a node's log has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub id: u32,
    /// `voter`, `learner`, `outgoing` (a vote only until a change ends) or `returning` (a learner that lost its directory).
    pub role: String,
    /// Where the others find it.
    pub address: String,
    /// Its data directory as 16 hexadecimal digits; zeros until a leader has heard from it.
    pub directory: String,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub id: u32,
    /// `follower`, `pre_candidate`, `candidate` or `leader`.
    pub role: String,
    /// Current term.
    pub term: u64,
    /// The leader it follows or is.
    pub leader: Option<u32>,
    /// Commit index.
    pub commit_index: u64,
    /// Last applied entry.
    pub last_applied: u64,
    /// First entry of the log.
    pub first_index: u64,
    /// Last entry of the log.
    pub last_index: u64,
    /// Last durable entry of the log.
    pub durable_index: u64,
    /// How often this directory was opened.
    pub incarnation: u64,
    /// Keys in the store.
    pub keys: u64,
    /// Last entry of the newest snapshot, 0 without one.
    pub snapshot_index: u64,
    /// Bytes of the entries that the log holds.
    pub log_bytes: u64,
    /// Who belongs to the cluster, by the latest configuration in its log. Empty if they are too many for a datagram.
    pub members: Vec<MemberStatus>,
    /// The entry since which they do.
    pub membership_index: u64,
    /// Whether a change of voters is half done.
    pub joint: bool,
    /// Whether it may vote: a node that finds its directory empty asks first.
    pub may_vote: bool,
    /// Reads that it answered without a round, under a lease.
    pub lease_reads: u64,
    /// `node::BUILD_ID` of the running process.
    pub build_id: String,
    /// Datagrams that were dropped, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// Peers, if this node leads.
    pub peers: Vec<PeerStatus>,
}

/// A node's own applied value of a key: not linearizable, for checks of what each replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalValue {
    /// Last applied entry when it was read.
    pub last_applied: u64,
    /// The value, `None` if the key is absent.
    pub value: Option<Arc<[u8]>>,
}

/// How long a client waits, and for which cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Cluster name; nodes drop requests for another.
    pub cluster: String,
    /// The cluster's key, if it has one; nodes drop requests without it.
    pub key: Option<Key>,
    /// How long one node may be silent before the same request goes to the next.
    pub attempt_timeout: Duration,
    /// How long one operation may take altogether.
    pub operation_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            cluster: CLUSTER_DEFAULT.to_owned(),
            key: None,
            // Below every election timeout: who asked a dead leader has found another node when there is a new one.
            attempt_timeout: Duration::from_millis(150),
            operation_timeout: Duration::from_secs(2),
        }
    }
}

/// A connection-less client with a socket of its own. One operation at a time.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    addrs: Vec<SocketAddr>,
    socket: UdpSocket,
    cluster_id: u64,
    nonce: u64,
    sequence: u64,
    session: Option<u64>,
    datagrams: u64,
}

impl Client {
    /// A client of the nodes at `addrs`, tried in this order.
    ///
    /// # Errors
    /// When no UDP socket can be bound, or the system has no entropy to give.
    pub fn new(config: ClientConfig, addrs: Vec<SocketAddr>) -> io::Result<Client> {
        let socket = bind_for(&addrs)?;
        Ok(Client {
            cluster_id: cluster_id(&config.cluster),
            config,
            addrs,
            socket,
            nonce: SysRng.try_next_u64().map_err(io::Error::other)?,
            sequence: 0,
            session: None,
            datagrams: 0,
        })
    }

    /// Executes one operation, first through `addrs[first]`. Returns within the operation timeout.
    pub fn execute(&mut self, operation: &Operation, first: usize) -> Outcome {
        // What every node refuses need not travel.
        if operation.is_too_large() {
            return not_applied(ErrorCode::TooLarge);
        }
        if operation.key().is_empty() {
            return not_applied(ErrorCode::BadRequest);
        }
        let deadline = Instant::now() + self.config.operation_timeout;
        let body = match operation {
            Operation::Get { key } => RequestBody::Get { key: key.clone() },
            write => match self.session(first, deadline) {
                Some(client_id) => RequestBody::Write { client_id, operation: write.clone() },
                // The write itself was never sent.
                None => {
                    return Outcome::NotApplied {
                        error: "no_session",
                        message: "no session could be opened in time; the operation was not sent".to_owned(),
                    };
                }
            },
        };
        let answer = self.ask(body, first, deadline);
        if let Ok(Response { body: ResponseBody::Error { error: ErrorCode::SessionExpired }, .. }) = answer {
            self.session = None;
        }
        outcome(answer)
    }

    /// Asks the node at `addr` for its status; `None` if it does not answer within one attempt.
    pub fn status(&mut self, addr: SocketAddr) -> Option<Status> {
        match self.ask_one(RequestBody::Status, addr)?.body {
            ResponseBody::Status { json } => serde_json::from_slice(&json).ok(),
            _ => None,
        }
    }

    /// Asks the leader, through any node, to hand over to the node `to`, or to the one that is furthest. Returns who it hands
    /// over to; who leads in the end is in the [`Status`] of the nodes.
    ///
    /// # Errors
    /// The error's name in the protocol's table: `bad_request` if there is no such node, otherwise nobody led in time.
    pub fn transfer_leader(&mut self, to: Option<u32>) -> Result<u32, &'static str> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let body = RequestBody::TransferLeader { to: to.unwrap_or(0) };
        match self.ask(body, 0, deadline).map(|response| response.body) {
            Ok(ResponseBody::Transferring { to }) => Ok(to),
            Ok(ResponseBody::Error { error }) | Err(error) => Err(error.row().name),
            Ok(_) => Err(ErrorCode::Timeout.row().name),
        }
    }

    /// Asks the leader, through any node, to change who belongs to the cluster. Returns the index of the entry that begins it;
    /// whether it is done is in the [`Status`] of the nodes.
    ///
    /// # Errors
    /// The error's name in the protocol's table: `bad_request` if that cannot be, `not_ready` if it had to wait all the
    /// time, otherwise nobody led.
    pub fn reconfigure(&mut self, change: &Change) -> Result<u64, &'static str> {
        let deadline = Instant::now() + self.config.operation_timeout;
        let body = RequestBody::Reconfigure { change: change.clone() };
        match self.ask(body, 0, deadline).map(|response| response.body) {
            Ok(ResponseBody::Reconfiguring { index }) => Ok(index),
            Ok(ResponseBody::Error { error }) | Err(error) => Err(error.row().name),
            Ok(_) => Err(ErrorCode::Timeout.row().name),
        }
    }

    /// Asks the node at `addr` what it has applied for `key`; `None` if it does not answer within one attempt.
    pub fn local_get(&mut self, addr: SocketAddr, key: &[u8]) -> Option<LocalValue> {
        match self.ask_one(RequestBody::LocalGet { key: key.to_vec() }, addr)?.body {
            ResponseBody::Local { last_applied, value } => Some(LocalValue { last_applied, value }),
            _ => None,
        }
    }

    /// The session of this client, opened on the first write.
    fn session(&mut self, first: usize, deadline: Instant) -> Option<u64> {
        if self.session.is_none()
            && let Ok(response) = self.ask(RequestBody::OpenSession, first, deadline)
            && let ResponseBody::SessionOpened { client_id } = response.body
        {
            self.session = Some(client_id);
        }
        self.session
    }

    /// Sends one request to one node after the other, always under the same sequence, until one answers for good.
    fn ask(&mut self, body: RequestBody, first: usize, deadline: Instant) -> Result<Response, ErrorCode> {
        let request = self.request(body);
        let mut exchange = self.exchange_of(&request);
        let mut error;
        let mut route = Route::new(self.addrs.len(), first);
        loop {
            let addr = self.addrs[route.target()];
            match self.attempt(&mut exchange, addr, deadline) {
                Some(Response { body: ResponseBody::Error { error: refusal }, .. })
                    if refusal.row().retry =>
                {
                    error = refusal;
                    route.refused();
                    thread::sleep(RETRY_PAUSE.min(deadline.saturating_duration_since(Instant::now())));
                }
                Some(response) => return Ok(response),
                None => {
                    error = ErrorCode::Timeout;
                    route.was_silent();
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(error)
    }

    fn ask_one(&mut self, body: RequestBody, addr: SocketAddr) -> Option<Response> {
        let request = self.request(body);
        let mut exchange = self.exchange_of(&request);
        self.attempt(&mut exchange, addr, Instant::now() + self.config.operation_timeout)
    }

    fn request(&mut self, body: RequestBody) -> Request {
        self.sequence += 1;
        Request { nonce: self.nonce, sequence: self.sequence, body }
    }

    fn exchange_of(&self, request: &Request) -> Exchange {
        let patience = self.config.attempt_timeout.as_nanos();
        Exchange::new(request, u64::try_from(patience).unwrap_or(u64::MAX))
    }

    /// Sends the request once and waits for a response to it, from anybody: an earlier attempt may be answered late. Gives up
    /// when nothing came on for the time of an attempt.
    fn attempt(&mut self, exchange: &mut Exchange, addr: SocketAddr, deadline: Instant) -> Option<Response> {
        self.send(addr, Kind::Request, exchange.opening());
        let mut until = deadline.min(Instant::now() + self.config.attempt_timeout);
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        let mut out = Vec::new();
        loop {
            let now = monotonic_ns();
            out.extend(exchange.requests(now));
            for (to, kind, payload) in out.drain(..) {
                self.send(to, kind, &payload);
            }
            let due = Duration::from_nanos(exchange.next_deadline().saturating_sub(now));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            // A timeout of zero would mean none at all.
            let wait = left.min(due).max(Duration::from_micros(100));
            if self.socket.set_read_timeout(Some(wait)).is_err() {
                return None;
            }
            let Ok((length, source)) = self.socket.recv_from(&mut buffer) else { continue };
            let Ok(frame) = Frame::open(&buffer[..length], self.config.key.as_ref()) else { continue };
            if frame.cluster_id != self.cluster_id {
                continue;
            }
            match exchange.take(monotonic_ns(), source, frame.kind, frame.payload, &mut out) {
                Taken::Answer(response) => {
                    for (to, kind, payload) in out.drain(..) {
                        self.send(to, kind, &payload);
                    }
                    return Some(response);
                }
                Taken::Progress => until = deadline.min(Instant::now() + self.config.attempt_timeout),
                Taken::Nothing => {}
            }
        }
    }

    fn send(&mut self, to: SocketAddr, kind: Kind, payload: &[u8]) {
        self.datagrams += 1;
        let datagram = client_frame(self.config.key.as_ref(), kind, self.cluster_id, self.datagrams, payload);
        // A send that fails is a lost datagram: what it was for is asked for again.
        let _ = self.socket.send_to(&datagram, to);
    }
}

/// A socket to talk to nodes at `addrs`.
fn bind_for(addrs: &[SocketAddr]) -> io::Result<UdpSocket> {
    let local: SocketAddr = match addrs.first() {
        Some(SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        Some(SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        None => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a client needs the address of a node"));
        }
    };
    let socket = UdpSocket::bind(local)?;
    // A wish: a window of chunks should fit, and if it does not, those that are lost are asked for again.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    Ok(socket)
}

/// The one rule that turns an answer, or its absence, into an outcome.
fn outcome(answer: Result<Response, ErrorCode>) -> Outcome {
    match answer {
        Ok(Response { node, body: ResponseBody::Applied { position, reply }, .. }) => {
            Outcome::Applied { reply, position, node }
        }
        Ok(Response { body: ResponseBody::Error { error }, .. }) | Err(error) => match error.row().definite {
            true => not_applied(error),
            false => Outcome::Unknown { error: error.row().name },
        },
        // An answer to another question: it says nothing about this one.
        Ok(_) => Outcome::Unknown { error: ErrorCode::Timeout.row().name },
    }
}

fn not_applied(error: ErrorCode) -> Outcome {
    let row = error.row();
    Outcome::NotApplied { error: row.name, message: row.meaning.to_owned() }
}

/// The datagram of a client's request to a cluster without a key.
pub fn request_frame(cluster_id: u64, message_id: u64, payload: &[u8]) -> Vec<u8> {
    client_frame(None, Kind::Request, cluster_id, message_id, payload)
}

/// A datagram of a client.
pub fn client_frame(
    key: Option<&Key>,
    kind: Kind,
    cluster_id: u64,
    message_id: u64,
    payload: &[u8],
) -> Vec<u8> {
    Frame { kind, cluster_id, from: 0, to: 0, process: ProcessId::default(), term: 0, message_id, payload }
        .seal(key)
}

/// The response in a datagram, if it is one of this cluster, which has no key.
pub fn decode_response(cluster_id: u64, datagram: &[u8]) -> Option<Response> {
    open_response(None, cluster_id, datagram)
}

/// The response in a datagram, if it is one of this cluster.
fn open_response(key: Option<&Key>, cluster_id: u64, datagram: &[u8]) -> Option<Response> {
    let frame = Frame::open(datagram, key).ok()?;
    (frame.kind == Kind::Response && frame.cluster_id == cluster_id)
        .then(|| Response::decode(frame.payload).ok())
        .flatten()
}
