//! An operation: an invoke and its completion as one thing with an interval, and the values it carries.
//! How operations are made from events is `pair`'s business; what they may do is the models'.

use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::EventType;

/// What a key holds, or an element of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// The key is absent.
    Nil,
    /// A number.
    Int(i64),
    /// A text.
    Text(Arc<str>),
    /// A list, or a set in any order.
    List(Arc<[Value]>),
}

impl Value {
    /// A value of JSON, if it is one that histories carry.
    pub fn from_json(json: &Json) -> Option<Value> {
        match json {
            Json::Null => Some(Value::Nil),
            Json::Number(n) => n.as_i64().map(Value::Int),
            Json::String(s) => Some(Value::Text(s.as_str().into())),
            Json::Array(items) => items.iter().map(Value::from_json).collect::<Option<_>>().map(Value::List),
            Json::Bool(_) | Json::Object(_) => None,
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Nil => Json::Null,
            Value::Int(n) => Json::from(*n),
            Value::Text(text) => Json::from(&**text),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
        }
    }

    /// The elements of a list; an absent key has none. `None` for a single value.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Nil => Some(&[]),
            Value::List(items) => Some(items),
            Value::Int(_) | Value::Text(_) => None,
        }
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Int(n)
    }
}

/// Elements shown of each end of a long list.
const SHOWN: usize = 6;

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Int(n) => n.fmt(f),
            Value::Text(s) => write!(f, "{s:?}"),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if items.len() > 2 * SHOWN + 1 && (SHOWN..items.len() - SHOWN).contains(&i) {
                        if i == SHOWN {
                            f.write_str(" …")?;
                        }
                        continue;
                    }
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// What an operation does, with the result that the system claims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Returned this value.
    Read(Value),
    /// Set the key.
    Write(Value),
    /// Replaced the first value by the second.
    Cas(Value, Value),
    /// Refused to replace the first value by the second, because it saw the third: judged as a read of that.
    CasMismatch(Value, Value, Value),
    /// Put an element at the end.
    Append(Value),
    /// Put an element into a set.
    Add(Value),
}

impl Action {
    /// Whether it leaves every state as it was.
    pub fn reads_only(&self) -> bool {
        matches!(self, Action::Read(_) | Action::CasMismatch(..))
    }

    /// The whole value that the action claims to have seen.
    pub fn observes(&self) -> Option<&Value> {
        match self {
            Action::Read(value) | Action::Cas(value, _) | Action::CasMismatch(_, _, value) => Some(value),
            Action::Write(_) | Action::Append(_) | Action::Add(_) => None,
        }
    }

    /// The value or element that the action brings into the key.
    pub fn brings(&self) -> Option<&Value> {
        match self {
            Action::Write(value) | Action::Cas(_, value) | Action::Append(value) | Action::Add(value) => {
                Some(value)
            }
            Action::Read(_) | Action::CasMismatch(..) => None,
        }
    }

    /// The function that a history calls it by.
    pub fn function(&self) -> &'static str {
        match self {
            Action::Read(_) => "read",
            Action::Write(_) => "write",
            Action::Cas(..) | Action::CasMismatch(..) => "cas",
            Action::Append(_) => "append",
            Action::Add(_) => "add",
        }
    }

    /// The argument that it was invoked with; of a read nil.
    pub fn argument(&self) -> Value {
        match self {
            Action::Read(_) => Value::Nil,
            Action::Cas(from, to) | Action::CasMismatch(from, to, _) => {
                Value::List([from.clone(), to.clone()].into())
            }
            Action::Write(value) | Action::Append(value) | Action::Add(value) => value.clone(),
        }
    }

    /// In words, about `key`.
    pub fn describe(&self, key: &str) -> String {
        match self {
            Action::Read(value) => format!("read {key}={value}"),
            Action::Write(value) => format!("write {key}={value}"),
            Action::Cas(from, to) => format!("cas {key} {from}->{to}"),
            Action::CasMismatch(from, to, actual) => format!("cas {key} {from}->{to} refused, saw {actual}"),
            Action::Append(element) => format!("append {key}+={element}"),
            Action::Add(element) => format!("add {key}+={element}"),
        }
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It did not.
    Fail,
    /// It may have happened at any time after its invoke, or may yet. An operation that was never completed is one, too.
    Info,
}

/// Part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Clients and faults.
    Load,
    /// All faults are healed; waiting until the system serves again.
    Settle,
    /// Every key is read once more through each node.
    Final,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of its invoke in the history.
    pub index: u64,
    /// Its process.
    pub process: u64,
    /// What it does. A read that did not end well reads `Nil`.
    pub action: Action,
    /// How it counts.
    pub outcome: Outcome,
    /// What its completion says. A refused `cas` that tells what it saw is a `fail` that counts as an `ok` read.
    pub ended: Option<EventType>,
    /// When it began, in nanoseconds.
    pub invoke: u64,
    /// When its completion was recorded, if it was. Bounds the effect only of an `ok`; see [`Operation::end`].
    pub complete: Option<u64>,
    /// Node that answered, or was asked.
    pub node: Option<Arc<str>>,
    /// Log index, where the system tells it.
    pub position: Option<u64>,
    /// Part of the run in which it began.
    pub phase: Phase,
}

impl Operation {
    /// The last moment at which it can have taken effect: its completion if it is `ok`, else never ending.
    pub fn end(&self) -> u64 {
        match (self.outcome, self.complete) {
            (Outcome::Ok, Some(time)) => time,
            _ => u64::MAX,
        }
    }

    /// Whether it ended before the other began: the real-time order. Equal times are concurrent.
    pub fn precedes(&self, other: &Operation) -> bool {
        self.end() < other.invoke
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_show_as_people_write_them() {
        let list = |n: i64| Value::List((1..=n).map(Value::Int).collect());
        assert_eq!(list(0).to_string(), "[]");
        assert_eq!(list(3).to_string(), "[1 2 3]");
        assert_eq!(list(13).to_string(), "[1 2 3 4 5 6 7 8 9 10 11 12 13]");
        assert_eq!(list(20).to_string(), "[1 2 3 4 5 6 … 15 16 17 18 19 20]");
        assert_eq!(Action::Cas(Value::Nil, 4.into()).describe("r1"), "cas r1 nil->4");
        assert_eq!(Action::Read(Value::Text("x".into())).describe("k"), "read k=\"x\"");
    }

    #[test]
    fn json_becomes_values() {
        let parse = |text: &str| Value::from_json(&serde_json::from_str(text).unwrap());
        assert_eq!(parse("null"), Some(Value::Nil));
        assert_eq!(parse("[1,\"a\"]"), Some(Value::List([1.into(), Value::Text("a".into())].into())));
        assert_eq!(parse("{}"), None);
        assert_eq!(parse("1.5"), None);
        assert_eq!(parse("[true]"), None);
    }
}
