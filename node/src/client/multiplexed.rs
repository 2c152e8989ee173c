//! Many clients on few sockets and one thread: for load, where a thread a client would measure the scheduler.
//! Each of them behaves like [`super::Client`]: one operation at a time, a session and a nonce of its own, retries under
//! the same sequence.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::route::Route;
use super::{
    ClientConfig, Operation, Outcome, RETRY_PAUSE, bind_for, client_frame, not_applied, open_response,
    outcome,
};
use crate::protocol::error::ErrorCode;
use crate::protocol::{Request, RequestBody, Response, ResponseBody};
use crate::transport::frame::{Kind, PAYLOAD_BYTES_MAX, cluster_id};
use crate::transport::udp::BatchSocket;
use rand::{TryRng, rngs::SysRng};

/// Between two looks for operations that are due again.
const SWEEP_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Open {
    operation: Operation,
    request: Request,
    route: Route,
    /// Whether the target of the route was sent the request.
    asked: bool,
    due: Instant,
    deadline: Instant,
}

#[derive(Debug, Default)]
struct Logical {
    sequence: u64,
    session: Option<u64>,
    open: Option<Open>,
}

/// A socket that some of the clients share, client i the one at i modulo the number of sockets.
#[derive(Debug)]
struct Line {
    socket: BatchSocket,
    /// Leaves when the caller waits, all at once.
    outgoing: Vec<(SocketAddr, Vec<u8>)>,
}

/// Many clients. They are numbered from 0.
#[derive(Debug)]
pub struct Multiplexed {
    config: ClientConfig,
    addrs: Vec<SocketAddr>,
    lines: Vec<Line>,
    cluster_id: u64,
    first_nonce: u64,
    clients: Vec<Logical>,
    datagrams: u64,
    swept: Instant,
    finished: VecDeque<(usize, Outcome)>,
}

impl Multiplexed {
    /// `clients` clients of the nodes at `addrs`, on `sockets` sockets.
    ///
    /// # Errors
    /// When no UDP socket can be bound, or the system has no entropy to give.
    pub fn new(
        config: ClientConfig,
        addrs: Vec<SocketAddr>,
        clients: usize,
        sockets: usize,
    ) -> io::Result<Multiplexed> {
        let line = || Ok(Line { socket: BatchSocket::new(bind_for(&addrs)?)?, outgoing: Vec::new() });
        Ok(Multiplexed {
            lines: (0..sockets.max(1)).map(|_| line()).collect::<io::Result<_>>()?,
            cluster_id: cluster_id(&config.cluster),
            config,
            addrs,
            // The nonces of all clients follow each other; the highest bits stay random.
            first_nonce: SysRng.try_next_u64().map_err(io::Error::other)? >> 1,
            clients: (0..clients).map(|_| Logical::default()).collect(),
            datagrams: 0,
            swept: Instant::now(),
            finished: VecDeque::new(),
        })
    }

    /// Begins an operation of `client`, first through `addrs[first]`. The client must be idle. What does not fit into one
    /// datagram is not sent, and ends as `too_large`: that is what [`super::Client`] is for.
    pub fn submit(&mut self, client: usize, operation: Operation, first: usize) {
        assert!(self.clients[client].open.is_none(), "client {client} has an operation open");
        let now = Instant::now();
        let request = Request { nonce: 0, sequence: 0, body: RequestBody::Status }; // set by `begin`
        let deadline = now + self.config.operation_timeout;
        let route = Route::new(self.addrs.len(), first);
        self.clients[client].open =
            Some(Open { operation, request, route, asked: false, due: now, deadline });
        self.begin(client);
    }

    /// The next operations that ended, with their clients; none if none did within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Vec<(usize, Outcome)> {
        let until = Instant::now() + timeout;
        let mut responses = Vec::new();
        loop {
            for Line { socket, outgoing } in &mut self.lines {
                socket.send(outgoing);
                outgoing.clear();
                socket.receive(self.clients.len(), |_, datagram| {
                    responses.extend(open_response(self.config.key.as_ref(), self.cluster_id, datagram));
                });
            }
            responses.drain(..).for_each(|response| self.receive(response));
            self.sweep();
            let left = until.saturating_duration_since(Instant::now());
            if !self.finished.is_empty() || left.is_zero() {
                return self.finished.drain(..).collect();
            }
            // What the answers and the sweep gave reason to send leaves first.
            if self.lines.iter().all(|line| line.outgoing.is_empty()) {
                self.sleep(left.min(SWEEP_INTERVAL));
            }
        }
    }

    /// Sends the first request of the open operation: the operation itself, or a session for it.
    fn begin(&mut self, client: usize) {
        let nonce = self.first_nonce + client as u64;
        let logical = &mut self.clients[client];
        let Some(open) = &mut logical.open else { return };
        logical.sequence += 1;
        let body = match (&open.operation, logical.session) {
            (Operation::Get { key }, _) => RequestBody::Get { key: key.clone() },
            (write, Some(client_id)) => RequestBody::Write { client_id, operation: write.clone() },
            (_, None) => RequestBody::OpenSession,
        };
        open.request = Request { nonce, sequence: logical.sequence, body };
        self.send(client);
    }

    fn send(&mut self, client: usize) {
        let Some(open) = &mut self.clients[client].open else { return };
        self.datagrams += 1;
        let payload = open.request.encode();
        if payload.len() > PAYLOAD_BYTES_MAX {
            self.clients[client].open = None;
            return self.finished.push_back((client, not_applied(ErrorCode::TooLarge)));
        }
        let key = self.config.key.as_ref();
        let datagram = client_frame(key, Kind::Request, self.cluster_id, self.datagrams, &payload);
        open.due = Instant::now() + self.config.attempt_timeout;
        open.asked = true;
        let line = client % self.lines.len();
        self.lines[line].outgoing.push((self.addrs[open.route.target()], datagram));
    }

    fn receive(&mut self, response: Response) {
        let Some(client) = response.nonce.checked_sub(self.first_nonce).map(|client| client as usize) else {
            return;
        };
        let Some(logical) = self.clients.get_mut(client) else { return };
        let Some(open) = &mut logical.open else { return };
        if response.sequence != open.request.sequence {
            return;
        }
        match response.body {
            ResponseBody::Error { error } if error.row().retry => {
                open.route.refused();
                open.asked = false;
                open.due = Instant::now() + RETRY_PAUSE;
            }
            ResponseBody::SessionOpened { client_id } => {
                logical.session = Some(client_id);
                self.begin(client);
            }
            body => {
                if matches!(body, ResponseBody::Error { error: ErrorCode::SessionExpired }) {
                    logical.session = None;
                }
                logical.open = None;
                let response = Response { body, ..response };
                self.finished.push_back((client, outcome(Ok(response))));
            }
        }
    }

    /// Sends again what is due, and gives up what is over its time.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.swept) < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        for client in 0..self.clients.len() {
            let Some(open) = &mut self.clients[client].open else { continue };
            if now >= open.deadline {
                self.clients[client].open = None;
                self.finished.push_back((client, outcome(Err(ErrorCode::Timeout))));
            } else if now >= open.due {
                if open.asked {
                    open.route.was_silent();
                }
                self.send(client);
            }
        }
    }

    fn sleep(&self, timeout: Duration) {
        use nix::poll::{PollFd, PollFlags, ppoll};
        use std::os::fd::AsFd;
        let fds = self.lines.iter().map(|line| PollFd::new(line.socket.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = fds.collect();
        // Interrupted or not: the loop looks again.
        let _ = ppoll(&mut fds, Some(timeout.into()), None);
    }
}
