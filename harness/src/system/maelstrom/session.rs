//! Clients of `lin-kv`: requests as messages, and what its errors mean.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::letter::{Letter, Mailbox};
use super::relay::IS_READY;
use crate::NodeId;
use crate::run_dir::node_name;
use crate::system::{Completion, Local};
use crate::workload::{Action, Operation};

/// The key does not exist.
const NO_SUCH_KEY: u64 = 20;
/// The value is not the one that a `cas` asks for.
const PRECONDITION_FAILED: u64 = 22;
/// Errors that say that nothing was done: node not found, not supported, temporarily unavailable, malformed request, abort, the two
/// above, key already exists, transaction conflict. Of all others (0 timeout, 13 crash, a program's own) nobody knows.
const DEFINITE: [u64; 9] = [1, 10, 11, 12, 14, NO_SUCH_KEY, 21, PRECONDITION_FAILED, 30];

/// A client of some nodes. Each operation goes to one node, once.
#[derive(Debug)]
pub(crate) struct Session {
    socket: UdpSocket,
    nodes: Vec<(NodeId, SocketAddr)>,
    patience: Duration,
    /// Number of its last message.
    sent: u64,
}

impl Session {
    pub(crate) fn new(nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Session> {
        Ok(Session { socket: UdpSocket::bind("0.0.0.0:0")?, nodes: nodes.to_vec(), patience, sent: 0 })
    }
}

impl crate::system::Session for Session {
    fn perform(&mut self, process: u64, operation: &Operation, first: usize) -> Completion {
        let Some(&(node, address)) = self.nodes.get(first) else {
            return Completion::fail(operation, "no_such_node");
        };
        self.sent += 1;
        // Client 0 is the one in whose name nodes are told who they are.
        let client = format!("c{}", process + 1);
        let Some(body) = body(operation, self.sent) else {
            return Completion::fail(operation, "no_such_function");
        };
        let message = json!({"src": client, "dest": node_name(node), "body": body}).to_string();
        if let Err(error) = post(&self.socket, message, self.sent, address) {
            return Completion::fail(operation, format!("not_sent: {error}"));
        }
        let is_it =
            |answer: &Value| answer["dest"] == client.as_str() && answer["body"]["in_reply_to"] == self.sent;
        match wait(&self.socket, Instant::now() + self.patience, is_it) {
            Some(answer) => answered(operation, node, &answer["body"]),
            None => Completion::unknown(operation, "timeout"),
        }
    }

    fn local(&mut self, _position: usize, _key: &str) -> Option<Local> {
        None
    }
}

/// Keys of `lin-kv` are numbers.
fn body(operation: &Operation, message: u64) -> Option<Value> {
    let key: u64 = operation.key.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
    Some(match operation.action {
        Action::Read => json!({"type": "read", "msg_id": message, "key": key}),
        Action::Write(value) => json!({"type": "write", "msg_id": message, "key": key, "value": value}),
        Action::Cas { from, to } => {
            json!({"type": "cas", "msg_id": message, "key": key, "from": from, "to": to})
        }
        Action::Append(_) | Action::Add(_) => return None,
    })
}

/// What an answer means.
fn answered(operation: &Operation, node: NodeId, body: &Value) -> Completion {
    let by = |completion: Completion| Completion { node: Some(node), ..completion };
    match (body["type"].as_str(), operation.action) {
        (Some("read_ok"), Action::Read) if body["value"].is_i64() || body["value"].is_null() => {
            Completion::ok(body["value"].clone(), node)
        }
        (Some("write_ok"), Action::Write(_)) | (Some("cas_ok"), Action::Cas { .. }) => {
            Completion::ok(operation.argument(), node)
        }
        (Some("error"), action) => {
            let code = body["code"].as_u64();
            let text = body["text"].as_str().unwrap_or_default();
            let error =
                format!("error {}: {text}", code.map_or("without code".to_owned(), |code| code.to_string()));
            match code {
                Some(NO_SUCH_KEY) if action == Action::Read => Completion::ok(Value::Null, node),
                Some(code) if DEFINITE.contains(&code) => by(Completion::fail(operation, error)),
                _ => by(Completion::unknown(operation, error)),
            }
        }
        (kind, _) => by(Completion::unknown(operation, format!("an answer of type {kind:?} to this"))),
    }
}

/// Whether the program at an address knows who it is.
pub(crate) fn is_ready(address: SocketAddr, timeout: Duration) -> bool {
    let ask = || -> io::Result<bool> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let question = json!({"relay": IS_READY}).to_string();
        post(&socket, question, 0, address)?;
        Ok(wait(&socket, Instant::now() + timeout, |answer| answer["relay"].is_boolean())
            .is_some_and(|answer| answer["relay"] == true))
    };
    ask().unwrap_or(false)
}

/// Sends a message, whose number is this socket's own.
fn post(socket: &UdpSocket, message: String, number: u64, address: SocketAddr) -> io::Result<()> {
    let letter = Letter { client: None, message: message.into_bytes() };
    for datagram in letter.seal(number).ok_or(io::ErrorKind::InvalidInput)? {
        socket.send_to(&datagram, address)?;
    }
    Ok(())
}

/// The next message that is meant, if one comes in time.
fn wait(socket: &UdpSocket, deadline: Instant, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
    let (mut buffer, mut mailbox) = (vec![0; 1 << 16], Mailbox::default());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return None;
        }
        // A refusal of what was sent before, or the end of the wait: either way look at the time.
        let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
        let message = mailbox
            .take(source, &buffer[..length])
            .and_then(|letter| serde_json::from_slice(&letter.message).ok());
        if let Some(message) = message.filter(|message| is_it(message)) {
            return Some(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use checker::history::EventType;

    fn check(action: Action, answer: Value, kind: EventType, value: Value) {
        let operation = Operation { key: "r12".to_owned(), action };
        let completion = answered(&operation, 3, &answer);
        assert_eq!((completion.kind, &completion.value), (kind, &value), "{answer} to {action:?}");
        assert_eq!(completion.node, Some(3));
    }

    #[test]
    fn answers_mean_what_lin_kv_says() {
        let (ok, fail, info) = (EventType::Ok, EventType::Fail, EventType::Info);
        let cas = Action::Cas { from: 1, to: 2 };
        let error = |code: u64| json!({"type": "error", "code": code, "text": "why"});
        check(Action::Read, json!({"type": "read_ok", "value": 7}), ok, json!(7));
        check(Action::Read, error(20), ok, Value::Null);
        check(Action::Write(5), json!({"type": "write_ok"}), ok, json!(5));
        check(cas, json!({"type": "cas_ok"}), ok, json!([1, 2]));
        for code in [1, 10, 11, 12, 14, 20, 21, 22, 30] {
            check(cas, error(code), fail, json!([1, 2]));
        }
        for code in [0, 2, 13, 1_000] {
            check(Action::Write(5), error(code), info, json!(5));
            check(Action::Read, error(code), fail, Value::Null);
        }
        // An answer to something else, and none at all.
        check(Action::Write(5), json!({"type": "read_ok", "value": 5}), info, json!(5));
        check(cas, json!({"type": "error"}), info, json!([1, 2]));
        check(Action::Read, json!({"type": "read_ok", "value": "text"}), fail, Value::Null);
    }

    #[test]
    fn requests_have_numbers_for_keys() {
        let body = |action| body(&Operation { key: "r12".to_owned(), action }, 4);
        assert_eq!(body(Action::Read), Some(json!({"type": "read", "msg_id": 4, "key": 12})));
        let cas = json!({"type": "cas", "msg_id": 4, "key": 12, "from": 1, "to": 2});
        assert_eq!(body(Action::Cas { from: 1, to: 2 }), Some(cas));
        assert_eq!(body(Action::Add(1)), None);
    }
}
