//! A client of the simulated cluster, and what it must have seen if the store is linearizable: each key is a list of unique
//! elements, so an acknowledged append must stand exactly once in every later read, and reads must extend each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use node::client::{Exchange, Outgoing, Taken};
use node::kv::command::{Operation, Reply};
use node::protocol::{Request, RequestBody, Response, ResponseBody};
use node::transport::frame::Frame;

/// After so many ns without an answer the same request goes to another node.
const ATTEMPT_TIMEOUT: u64 = 200_000_000;
/// Operations of one client on one key before it goes on to the next: no list outgrows its bound.
const OPERATIONS_PER_KEY: u64 = 12;

pub(crate) struct Client {
    pub(crate) id: u64,
    session: Option<u64>,
    sequence: u64,
    done: u64,
    open: Option<(Request, Exchange, u64)>,
    /// Length of the elements that it appends; 0: as short as may be.
    element_bytes: usize,
    retry_at: u64,
    /// Appends: key, element, invoked, acknowledged.
    pub(crate) appends: Vec<(String, String, u64, Option<u64>)>,
    /// Reads: key, elements, invoked, completed.
    pub(crate) reads: Vec<(String, Vec<String>, u64, u64)>,
}

impl Client {
    pub(crate) fn new(id: u64, element_bytes: usize) -> Client {
        Client {
            id,
            session: None,
            sequence: 0,
            done: 0,
            open: None,
            element_bytes,
            retry_at: 0,
            appends: Vec::new(),
            reads: Vec::new(),
        }
    }

    pub(crate) fn idle(&self) -> bool {
        self.open.is_none()
    }

    /// The request to send now, if any: a new one unless `finish`, or the open one again.
    pub(crate) fn poll(&mut self, now: u64, finish: bool) -> Option<Vec<u8>> {
        if self.open.is_none() {
            if finish {
                return None;
            }
            self.sequence += 1;
            let key = format!("k{}", self.done / OPERATIONS_PER_KEY);
            let body = match self.session {
                None => RequestBody::OpenSession,
                Some(_) if self.done % 3 == 2 => RequestBody::Get { key: key.into_bytes() },
                Some(client_id) => {
                    let element = format!("{}.{}", self.id, self.sequence);
                    let element = format!("{element:x<width$}", width = self.element_bytes);
                    self.appends.push((key.clone(), element.clone(), now, None));
                    let operation = Operation::Append {
                        key: key.into_bytes(),
                        value: format!("{element} ").into_bytes(),
                    };
                    RequestBody::Write { client_id, operation }
                }
            };
            let request = Request { nonce: self.id, sequence: self.sequence, body };
            let exchange = Exchange::new(&request, ATTEMPT_TIMEOUT);
            self.open = Some((request, exchange, now));
        } else if now < self.retry_at {
            return None;
        }
        self.retry_at = now + ATTEMPT_TIMEOUT;
        self.open.as_ref().map(|(_, exchange, _)| exchange.opening().to_vec())
    }

    /// What to ask nodes for of a response that is fetched.
    pub(crate) fn requests(&mut self, now: u64) -> Vec<Outgoing> {
        self.open.as_mut().map_or_else(Vec::new, |(_, exchange, _)| exchange.requests(now))
    }

    /// Takes a datagram. Returns what it gives reason to send.
    pub(crate) fn take(&mut self, now: u64, source: SocketAddr, frame: &Frame<'_>) -> Vec<Outgoing> {
        let mut out = Vec::new();
        let Some((_, exchange, _)) = self.open.as_mut() else { return out };
        match exchange.take(now, source, frame.kind, frame.payload, &mut out) {
            Taken::Answer(response) => self.receive(now, &response),
            // Whoever fetches or is fetched from is alive: no reason to begin anew elsewhere.
            Taken::Progress => self.retry_at = now + ATTEMPT_TIMEOUT,
            Taken::Nothing => {}
        }
        out.extend(self.requests(now));
        out
    }

    fn receive(&mut self, now: u64, response: &Response) {
        let Some((request, _, invoked)) = self.open.as_ref() else { return };
        if (response.nonce, response.sequence) != (request.nonce, request.sequence) {
            return;
        }
        match (&request.body, &response.body) {
            (_, ResponseBody::Error { error }) if error.row().retry => return,
            (RequestBody::OpenSession, ResponseBody::SessionOpened { client_id }) => {
                self.session = Some(*client_id);
            }
            (RequestBody::Write { .. }, ResponseBody::Applied { reply: Reply::Done, .. }) => {
                self.appends.last_mut().unwrap().3 = Some(now);
            }
            (RequestBody::Get { key }, ResponseBody::Applied { reply: Reply::Value(value), .. }) => {
                let text = String::from_utf8(value.clone().unwrap_or_default().to_vec()).unwrap();
                let elements = text.split_whitespace().map(str::to_owned).collect();
                self.reads.push((String::from_utf8(key.clone()).unwrap(), elements, *invoked, now));
            }
            (body, answer) => panic!("{body:?} was answered with {answer:?}"),
        }
        self.done += 1;
        self.open = None;
    }
}

/// Asserts that what the clients saw is linearizable: exact for appends of unique elements, because every read shows the
/// order of all that came before it.
pub(crate) fn check(clients: &[Client], finals: &BTreeMap<String, Vec<String>>) {
    let nothing = Vec::new();
    for client in clients {
        for (key, element, _, acknowledged) in &client.appends {
            let times = finals.get(key).unwrap_or(&nothing).iter().filter(|e| *e == element).count();
            assert!(times <= 1, "{element} stands {times} times in {key}");
            assert!(
                times == 1 || acknowledged.is_none(),
                "{element} was acknowledged and is lost from {key}"
            );
        }
        for (key, elements, invoked, completed) in &client.reads {
            let all = finals.get(key).unwrap_or(&nothing);
            assert!(all.starts_with(elements), "a read of {key} saw {elements:?}, which became {all:?}");
            for (other, element, started, acknowledged) in clients.iter().flat_map(|c| &c.appends) {
                if other != key {
                    continue;
                }
                let seen = elements.contains(element);
                assert!(
                    seen || acknowledged.is_none_or(|at| at >= *invoked),
                    "{element} missing from a later read of {key}"
                );
                assert!(!seen || started <= completed, "{element} read before it was written");
            }
            for (other, longer, _, before) in clients.iter().flat_map(|c| &c.reads) {
                if other == key && before < invoked {
                    assert!(longer.len() <= elements.len(), "a read of {key} went back in time");
                }
            }
        }
    }
}
