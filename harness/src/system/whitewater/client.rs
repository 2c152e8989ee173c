//! The one outcome rule: what an answer of the node means in a history, and how values look on either side.
//! Asking is the node's client library; recording is [`crate::recorder`].

use std::io;
use std::net::SocketAddr;

use checker::history::EventType;
use node::client::{Client, ClientConfig, Operation as Request, Outcome, Reply};
use serde_json::{Value, json};

use crate::NodeId;
use crate::system::{Completion, Local, Session};
use crate::workload::{Action, Operation, Shape, shape};

/// The node's own client, which asks one node after the other until the request is answered.
#[derive(Debug)]
pub(super) struct NodeSession {
    client: Client,
    addrs: Vec<SocketAddr>,
}

impl NodeSession {
    pub(super) fn new(config: ClientConfig, nodes: &[(NodeId, SocketAddr)]) -> io::Result<NodeSession> {
        let addrs: Vec<_> = nodes.iter().map(|(_, addr)| *addr).collect();
        Ok(NodeSession { client: Client::new(config, addrs.clone())?, addrs })
    }
}

impl Session for NodeSession {
    fn perform(&mut self, _process: u64, operation: &Operation, first: usize) -> Completion {
        complete(operation, self.client.execute(&request(operation), first))
    }

    fn local(&mut self, position: usize, key: &str) -> Option<Local> {
        let local = self.client.local_get(*self.addrs.get(position)?, key.as_bytes())?;
        Some(Local { last_applied: local.last_applied, value: decode(key, local.value.as_deref()) })
    }
}

/// The operation in the node's words.
fn request(operation: &Operation) -> Request {
    let key = operation.key.clone().into_bytes();
    let number = |value: i64| value.to_string().into_bytes();
    match operation.action {
        Action::Read => Request::Get { key },
        Action::Write(value) => Request::Set { key, value: number(value) },
        Action::Cas { from, to } => Request::Cas { key, expected: Some(number(from)), new: number(to) },
        // The space closes the element: `12 ` never looks like the beginning of `123 `.
        Action::Append(value) | Action::Add(value) => {
            Request::Append { key, value: format!("{value} ").into_bytes() }
        }
    }
}

/// What stands under `key`, in history form: an integer or null, or a list of integers. Bytes that nobody wrote come out
/// as text, so that the checker sees a value that no operation explains.
fn decode(key: &str, bytes: Option<&[u8]>) -> Value {
    let text = bytes.map(String::from_utf8_lossy);
    match (shape(key), text) {
        (Shape::Register, None) | (Shape::Elements, None) => Value::Null,
        (Shape::Register, Some(text)) => text.parse::<i64>().map_or_else(|_| json!(text), |v| json!(v)),
        (Shape::Elements, Some(text)) => {
            let elements: Result<Vec<i64>, _> = text.split_terminator(' ').map(str::parse).collect();
            match elements {
                Ok(elements) if text.is_empty() || text.ends_with(' ') => json!(elements),
                _ => json!(text),
            }
        }
    }
}

/// The rule. `info` unless the node said otherwise: only a definite answer makes a `fail`, except that a read which got no
/// answer changed nothing and may be one.
fn complete(operation: &Operation, outcome: Outcome) -> Completion {
    let argument = operation.argument();
    let plain = |kind, error: Option<String>| Completion {
        kind,
        value: argument.clone(),
        error,
        actual: None,
        node: None,
        position: None,
    };
    match outcome {
        Outcome::Applied { reply, position, node } => {
            let node = Some(node);
            match (reply, operation.is_read()) {
                (Reply::Value(bytes), true) => Completion {
                    value: decode(&operation.key, bytes.as_deref()),
                    node,
                    ..plain(EventType::Ok, None)
                },
                (Reply::Done, false) => {
                    Completion { node, position: Some(position), ..plain(EventType::Ok, None) }
                }
                (Reply::Mismatch(bytes), false) if matches!(operation.action, Action::Cas { .. }) => {
                    Completion {
                        actual: Some(decode(&operation.key, bytes.as_deref())),
                        node,
                        ..plain(EventType::Fail, Some("cas_mismatch".to_owned()))
                    }
                }
                // An answer to another question than the one that was asked: nothing is known of ours.
                _ => Completion { node, ..plain(EventType::Info, Some("unexpected_reply".to_owned())) },
            }
        }
        Outcome::NotApplied { error, .. } => plain(EventType::Fail, Some(error.to_owned())),
        Outcome::Unknown { error } if operation.is_read() => plain(EventType::Fail, Some(error.to_owned())),
        Outcome::Unknown { error } => plain(EventType::Info, Some(error.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(key: &str, action: Action) -> Operation {
        Operation { key: key.to_owned(), action }
    }

    fn applied(reply: Reply) -> Outcome {
        Outcome::Applied { reply, position: 40, node: 2 }
    }

    /// Checks one row of the table: kind, value, error, actual, position.
    fn check(
        operation: &Operation,
        outcome: Outcome,
        expected: (EventType, Value, Option<&str>, Option<Value>, Option<u64>),
    ) {
        let got = complete(operation, outcome.clone());
        let row = (got.kind, got.value, got.error.as_deref(), got.actual, got.position);
        assert_eq!(row, expected, "{operation:?} -> {outcome:?}");
    }

    #[test]
    fn the_outcome_table() {
        use EventType::{Fail, Info, Ok};
        let read = operation("r1", Action::Read);
        let list = operation("a1", Action::Read);
        let write = operation("r1", Action::Write(7));
        let cas = operation("r1", Action::Cas { from: 7, to: 8 });
        let append = operation("a1", Action::Append(9));
        let bytes = |text: &str| Reply::Value(Some(text.as_bytes().into()));
        let refused = || Outcome::NotApplied { error: "too_large", message: "a sentence".to_owned() };
        let unknown = || Outcome::Unknown { error: "timeout" };

        check(&read, applied(bytes("7")), (Ok, json!(7), None, None, None));
        check(&read, applied(Reply::Value(None)), (Ok, Value::Null, None, None, None));
        check(&list, applied(bytes("1 2 ")), (Ok, json!([1, 2]), None, None, None));
        check(&write, applied(Reply::Done), (Ok, json!(7), None, None, Some(40)));
        check(&cas, applied(Reply::Done), (Ok, json!([7, 8]), None, None, Some(40)));
        check(
            &cas,
            applied(Reply::Mismatch(Some(b"5"[..].into()))),
            (Fail, json!([7, 8]), Some("cas_mismatch"), Some(json!(5)), None),
        );
        check(
            &cas,
            applied(Reply::Mismatch(None)),
            (Fail, json!([7, 8]), Some("cas_mismatch"), Some(Value::Null), None),
        );
        check(&append, applied(Reply::Done), (Ok, json!(9), None, None, Some(40)));
        for operation in [&read, &write, &cas, &append] {
            check(operation, refused(), (Fail, operation.argument(), Some("too_large"), None, None));
        }
        check(&read, unknown(), (Fail, Value::Null, Some("timeout"), None, None));
        for operation in [&write, &cas, &append] {
            check(operation, unknown(), (Info, operation.argument(), Some("timeout"), None, None));
        }
        // Answers that fit no question.
        check(&read, applied(Reply::Done), (Info, Value::Null, Some("unexpected_reply"), None, None));
        check(&write, applied(Reply::Value(None)), (Info, json!(7), Some("unexpected_reply"), None, None));
        check(
            &append,
            applied(Reply::Mismatch(None)),
            (Info, json!(9), Some("unexpected_reply"), None, None),
        );
    }

    #[test]
    fn values_survive_the_way_to_the_node_and_back() {
        let Request::Append { value, .. } = request(&operation("a3", Action::Append(12))) else {
            panic!("an append")
        };
        assert_eq!(decode("a3", Some(&value)), json!([12]));
        let Request::Set { value, .. } = request(&operation("r3", Action::Write(-5))) else {
            panic!("a set")
        };
        assert_eq!(decode("r3", Some(&value)), json!(-5));
        assert_eq!(decode("s1", None), Value::Null);
        assert_eq!(decode("s1", Some(b"")), json!([]));
    }

    #[test]
    fn damaged_bytes_are_shown_and_never_repaired() {
        assert_eq!(decode("a1", Some(b"1 2")), json!("1 2"), "the last element is not closed");
        assert_eq!(decode("a1", Some(b"1  2 ")), json!("1  2 "));
        assert_eq!(decode("r1", Some(b"7 ")), json!("7 "));
        assert_eq!(decode("r1", Some(b"")), json!(""));
    }
}
