//! The built-in driver: clients that speak JSON over HTTP/1.1, by templates of a description.
//! What stands where in an answer is said by pointers; connections and framing are in `wire`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::description::{Http, Request, StatusRequest};
use super::template::{encode, expand};
use super::wire::{Connection, ExchangeError};
use super::{Completion, Local, Session, Status};
use crate::NodeId;
use crate::workload::{Action, Operation, Shape, shape};

/// A worker's connections, one to each of its nodes. Each operation goes to one node, once.
#[derive(Debug)]
pub(super) struct HttpSession {
    http: Http,
    nodes: Vec<(NodeId, SocketAddr)>,
    connections: Vec<Connection>,
    timeout: Duration,
}

impl HttpSession {
    /// `patience` is that of a client of a system that answers within a second; the description's own bound scales it.
    pub(super) fn new(http: Http, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> HttpSession {
        let timeout = patience.mul_f64(http.timeout_ms as f64 / 1_000.0);
        let connections = nodes.iter().map(|(_, addr)| Connection::to(*addr)).collect();
        HttpSession { http, nodes: nodes.to_vec(), connections, timeout }
    }

    fn request(&self, operation: &Operation) -> Option<&Request> {
        match (operation.action, shape(&operation.key)) {
            (Action::Read, Shape::Register) => self.http.read.as_ref(),
            (Action::Read, Shape::Elements) => self.http.elements.as_ref(),
            (Action::Write(_), _) => self.http.write.as_ref(),
            (Action::Cas { .. }, _) => self.http.cas.as_ref(),
            (Action::Append(_), _) => self.http.append.as_ref(),
            (Action::Add(_), _) => self.http.add.as_ref(),
        }
    }
}

impl Session for HttpSession {
    fn perform(&mut self, _process: u64, operation: &Operation, first: usize) -> Completion {
        let Some(request) = self.request(operation).cloned() else {
            return Completion::fail(operation, "no_such_function");
        };
        let (Some((node, _)), Some(connection)) = (self.nodes.get(first), self.connections.get_mut(first))
        else {
            return Completion::fail(operation, "no_such_node");
        };
        let fill = |word: &str| match (word, operation.action) {
            ("key", _) => Some(operation.key.clone()),
            ("value", Action::Write(value) | Action::Append(value) | Action::Add(value)) => {
                Some(value.to_string())
            }
            ("from", Action::Cas { from, .. }) => Some(from.to_string()),
            ("to", Action::Cas { to, .. }) => Some(to.to_string()),
            _ => None,
        };
        let text = |text: &str| expand(text, &fill).map(|text| encode(&text));
        let path = text(request.path.get_ref());
        let body = request.body.as_ref().map_or(Ok(String::new()), |body| text(body.get_ref()));
        let (Ok(path), Ok(body)) = (path, body) else {
            return Completion::fail(operation, "bad_template");
        };
        match connection.exchange(&request.method, &path, &body, Instant::now() + self.timeout) {
            Ok((status, answer)) => answered(operation, &request, &self.http, *node, status, &answer),
            Err(ExchangeError::NotSent(error)) => Completion::fail(operation, format!("not_sent: {error}")),
            Err(ExchangeError::Lost(error)) => Completion::unknown(operation, error),
        }
    }

    fn local(&mut self, _position: usize, _key: &str) -> Option<Local> {
        None
    }
}

/// What an answer means. Success is done, unless the answer itself says that it was not; anything else may have been done, unless
/// the description knows the error to be definite.
fn answered(
    operation: &Operation,
    request: &Request,
    http: &Http,
    node: NodeId,
    status: u16,
    answer: &[u8],
) -> Completion {
    if operation.is_read() && request.absent_status == Some(status) {
        return Completion::ok(Value::Null, node);
    }
    if !(200..300).contains(&status) {
        let text = String::from_utf8_lossy(answer);
        let error = format!("http_{status}: {}", text.lines().next().unwrap_or_default());
        let known =
            http.definite_status.contains(&status) || http.definite.iter().any(|part| text.contains(part));
        let actual = request.actual.as_ref().filter(|_| matches!(operation.action, Action::Cas { .. }));
        let actual = actual.and_then(|actual| Some(actual.pick(&serde_json::from_slice(answer).ok()?)));
        return match (known, actual) {
            (true, Some(actual)) if !actual.is_null() => {
                Completion::mismatch(operation, history_form(&operation.key, actual), node)
            }
            (true, _) => Completion::fail(operation, error),
            (false, _) => Completion::unknown(operation, error),
        };
    }
    let answer: Value = match serde_json::from_slice(answer) {
        Ok(answer) => answer,
        // A write needs no words to be answered; a read does.
        Err(_) if request.value.is_none() && request.done.is_none() => Value::Null,
        Err(error) => return Completion::unknown(operation, format!("not_json: {error}")),
    };
    let done = request.done.as_ref().is_none_or(|done| done.pick(&answer) == Value::Bool(true));
    match (done, &request.value, &request.actual) {
        (true, Some(value), _) if operation.is_read() => {
            Completion::ok(history_form(&operation.key, value.pick(&answer)), node)
        }
        (true, ..) => Completion::ok(operation.argument(), node),
        (false, _, Some(actual)) if matches!(operation.action, Action::Cas { .. }) => {
            Completion::mismatch(operation, history_form(&operation.key, actual.pick(&answer)), node)
        }
        (false, ..) => Completion::fail(operation, "not_done"),
    }
}

/// A value of an answer as a history has it: numbers, also where they are written as text. Other text stays, so that a judge sees a
/// value that nobody wrote.
pub(super) fn history_form(key: &str, value: Value) -> Value {
    let number = |value: Value| match value.as_str().map(str::parse::<i64>) {
        Some(Ok(number)) => Value::from(number),
        _ => value,
    };
    match (shape(key), value) {
        (Shape::Elements, Value::Array(elements)) => elements.into_iter().map(number).collect(),
        (_, value) => number(value),
    }
}

/// Asks a node for its status.
pub(super) fn status(request: &StatusRequest, addr: SocketAddr, timeout: Duration) -> Option<Status> {
    let body = request.body.as_deref().unwrap_or_default();
    let mut connection = Connection::to(addr);
    let (code, answer) =
        connection.exchange(&request.method, &request.path, body, Instant::now() + timeout).ok()?;
    if !(200..300).contains(&code) {
        return None;
    }
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let number = |pointer: &Option<super::pointer::Pointer>| pointer.as_ref().and_then(|p| p.number(&answer));
    let word = |pointer: &Option<super::pointer::Pointer>| pointer.as_ref().and_then(|p| p.word(&answer));
    let id = word(&request.id);
    let leader = word(&request.leader);
    let applied = number(&request.applied).unwrap_or_default();
    Some(Status {
        leads: id.is_some() && id == leader,
        id: id.unwrap_or_default(),
        leader,
        term: number(&request.term).unwrap_or_default(),
        commit_index: applied,
        last_applied: applied,
        ..Status::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::description::Description;
    use checker::history::EventType;
    use serde_json::json;

    fn etcd() -> Http {
        Description::load("etcd").unwrap().0.http.unwrap().into_inner()
    }

    fn operation(key: &str, action: Action) -> Operation {
        Operation { key: key.to_owned(), action }
    }

    /// What etcd's answer to an operation becomes: kind, value, actual.
    fn check(operation: &Operation, status: u16, answer: &str, expected: (EventType, Value, Option<Value>)) {
        let session = HttpSession::new(etcd(), &[], Duration::from_secs(1));
        let request = session.request(operation).unwrap();
        let got = answered(operation, request, &session.http, 1, status, answer.as_bytes());
        assert_eq!((got.kind, got.value, got.actual), expected, "{operation:?} {status} {answer}");
    }

    #[test]
    fn an_error_whose_status_is_definite_did_nothing_and_may_tell_what_a_cas_saw() {
        let http = Http { definite_status: vec![409, 503], ..etcd() };
        let seen = r#"{"responses":[{"response_range":{"kvs":[{"value":"OQ=="}]}}]}"#;
        let check = |action, status, answer: &str, kind, actual: Option<Value>| {
            let operation = operation("r1", action);
            let session = HttpSession::new(http.clone(), &[], Duration::from_secs(1));
            let request = session.request(&operation).unwrap();
            let got = answered(&operation, request, &http, 1, status, answer.as_bytes());
            assert_eq!((got.kind, got.actual), (kind, actual), "{status} {answer}");
        };
        check(Action::Cas { from: 7, to: 8 }, 409, seen, EventType::Fail, Some(json!(9)));
        check(Action::Cas { from: 7, to: 8 }, 409, "conflict", EventType::Fail, None);
        check(Action::Cas { from: 7, to: 8 }, 500, seen, EventType::Info, None);
        check(Action::Write(7), 503, seen, EventType::Fail, None);
        check(Action::Write(7), 504, seen, EventType::Info, None);
    }

    #[test]
    fn answers_of_etcd_mean_what_they_say() {
        use EventType::{Fail, Info, Ok};
        let read = operation("r1", Action::Read);
        let set = operation("s1", Action::Read);
        let write = operation("r1", Action::Write(7));
        let cas = operation("r1", Action::Cas { from: 7, to: 8 });
        check(&read, 200, r#"{"kvs":[{"key":"cjE=","value":"Nw=="}],"count":"1"}"#, (Ok, json!(7), None));
        check(&read, 200, r#"{"header":{}}"#, (Ok, Value::Null, None));
        check(&set, 200, r#"{"kvs":[{"value":"Nw=="},{"value":"OA=="}]}"#, (Ok, json!([7, 8]), None));
        check(&set, 200, r#"{"kvs":[{"value":"Nw=="},{"value":"eA=="}]}"#, (Ok, json!([7, "x"]), None));
        check(&set, 200, r#"{"header":{}}"#, (Ok, json!([]), None));
        check(&write, 200, r#"{"header":{}}"#, (Ok, json!(7), None));
        check(&cas, 200, r#"{"succeeded":true}"#, (Ok, json!([7, 8]), None));
        let seen = r#"{"responses":[{"response_range":{"kvs":[{"value":"OQ=="}]}}]}"#;
        check(&cas, 200, seen, (Fail, json!([7, 8]), Some(json!(9))));
        check(
            &cas,
            200,
            r#"{"responses":[{"response_range":{}}]}"#,
            (Fail, json!([7, 8]), Some(Value::Null)),
        );
        check(&write, 503, r#"{"error":"etcdserver: request timed out"}"#, (Info, json!(7), None));
        check(&write, 400, r#"{"error":"etcdserver: too many requests"}"#, (Fail, json!(7), None));
        check(&read, 503, "", (Fail, Value::Null, None));
        check(&read, 200, "no json", (Fail, Value::Null, None));
    }
}
