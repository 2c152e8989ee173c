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
    /// About how many bytes it takes beyond its own size.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Value::Nil | Value::Int(_) => 0,
            Value::Text(text) => text.len() + 32,
            Value::List(items) => size_of_val(&**items) + 32 + items.iter().map(Value::bytes).sum::<usize>(),
        }
    }

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

    /// The items of a list, but not of an absent key.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
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
    /// Set the key; to nil: deleted it.
    Write(Value),
    /// Replaced the first value by the second.
    Cas(Value, Value),
    /// Refused to replace the first value by the second, because it saw the third: judged as a read of that.
    CasMismatch(Value, Value, Value),
    /// Put an element at the end.
    Append(Value),
    /// Put an element into a set.
    Add(Value),
    /// Took a lock that was free.
    Acquire,
    /// Gave back a lock that was held.
    Release,
    /// Put an element at the end of a queue.
    Enqueue(Value),
    /// Took the first element of a queue, nil if it was empty; `None` if nobody knows which.
    Dequeue(Option<Value>),
    /// Did all of these at one moment.
    Txn(Arc<[Micro]>),
}

/// One step of a transaction, on one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Micro {
    /// Returned this value, or list; `None` if nobody knows what.
    Read(Arc<str>, Option<Value>),
    /// Set the key; to nil: deleted it.
    Write(Arc<str>, Value),
    /// Put an element at the end of the list.
    Append(Arc<str>, Value),
}

impl Micro {
    /// Its key.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Micro::Read(key, _) | Micro::Write(key, _) | Micro::Append(key, _) => key,
        }
    }

    /// As a value, the way a history writes it: `["w", "x", 2]`.
    pub fn to_value(&self) -> Value {
        let (f, value) = match self {
            Micro::Read(_, value) => ("r", value.clone().unwrap_or(Value::Nil)),
            Micro::Write(_, value) => ("w", value.clone()),
            Micro::Append(_, value) => ("append", value.clone()),
        };
        Value::List([Value::Text(f.into()), Value::Text(self.key().clone()), value].into())
    }

    /// From such a value. A read of nil is of an absent key if its transaction is `known` to have happened.
    pub fn from_value(value: &Value, known: bool) -> Option<Micro> {
        let [Value::Text(f), Value::Text(key), value] = value.items()? else { return None };
        let (key, value) = (key.clone(), value.clone());
        Some(match (&**f, &value) {
            ("r", Value::Nil) if !known => Micro::Read(key, None),
            ("r", _) => Micro::Read(key, Some(value)),
            ("w", Value::Nil | Value::Int(_) | Value::Text(_)) => Micro::Write(key, value),
            ("append", Value::Int(_) | Value::Text(_)) => Micro::Append(key, value),
            _ => return None,
        })
    }
}

/// What [`Action::Release`] brings and [`Action::Acquire`] sees.
const FREE: &Value = &Value::Int(0);
/// The reverse.
const HELD: &Value = &Value::Int(1);

impl Action {
    /// Whether it leaves every state as it was.
    pub fn reads_only(&self) -> bool {
        match self {
            Action::Read(_) | Action::CasMismatch(..) => true,
            Action::Txn(steps) => steps.iter().all(|step| matches!(step, Micro::Read(..))),
            _ => false,
        }
    }

    /// The whole value that the action claims to have seen. Transactions tell theirs by [`Action::observed`].
    pub fn observes(&self) -> Option<&Value> {
        match self {
            Action::Read(value) | Action::Cas(value, _) | Action::CasMismatch(_, _, value) => Some(value),
            Action::Dequeue(value) => value.as_ref(),
            Action::Acquire => Some(FREE),
            Action::Release => Some(HELD),
            Action::Write(_) | Action::Append(_) | Action::Add(_) | Action::Enqueue(_) | Action::Txn(_) => {
                None
            }
        }
    }

    /// The value or element that the action brings into the key. Transactions tell theirs by [`Action::brought`].
    pub fn brings(&self) -> Option<&Value> {
        match self {
            Action::Write(value)
            | Action::Cas(_, value)
            | Action::Append(value)
            | Action::Add(value)
            | Action::Enqueue(value) => Some(value),
            Action::Acquire => Some(HELD),
            Action::Release => Some(FREE),
            Action::Read(_) | Action::CasMismatch(..) | Action::Dequeue(_) | Action::Txn(_) => None,
        }
    }

    /// What it saw of each key before it changed that key itself, of lists also after that: they show what others appended.
    /// The key is empty outside of transactions.
    pub fn observed(&self) -> Vec<(&str, &Value)> {
        let Action::Txn(steps) = self else { return self.observes().map(|v| ("", v)).into_iter().collect() };
        let mut changed: Vec<&str> = Vec::new();
        let mut observed = Vec::new();
        for step in steps.iter() {
            match step {
                Micro::Read(key, Some(value)) if value.items().is_some() || !changed.contains(&&**key) => {
                    observed.push((&**key, value));
                }
                Micro::Read(..) => {}
                Micro::Write(key, _) | Micro::Append(key, _) => changed.push(key),
            }
        }
        observed
    }

    /// What it leaves in, or adds to, each key; the key is empty outside of transactions.
    pub fn brought(&self) -> Vec<(&str, &Value)> {
        let Action::Txn(steps) = self else { return self.brings().map(|v| ("", v)).into_iter().collect() };
        let brought = steps.iter().filter_map(|step| match step {
            Micro::Write(key, value) | Micro::Append(key, value) => Some((&**key, value)),
            Micro::Read(..) => None,
        });
        brought.collect()
    }

    /// The function that a history calls it by.
    pub fn function(&self) -> &'static str {
        match self {
            Action::Read(_) => "read",
            Action::Write(Value::Nil) => "delete",
            Action::Write(_) => "write",
            Action::Cas(..) | Action::CasMismatch(..) => "cas",
            Action::Append(_) => "append",
            Action::Add(_) => "add",
            Action::Acquire => "acquire",
            Action::Release => "release",
            Action::Enqueue(_) => "enqueue",
            Action::Dequeue(_) => "dequeue",
            Action::Txn(_) => "txn",
        }
    }

    /// The argument that it was invoked with; of what only returns something nil, of a transaction its steps.
    pub fn argument(&self) -> Value {
        match self {
            Action::Read(_) | Action::Acquire | Action::Release | Action::Dequeue(_) => Value::Nil,
            Action::Cas(from, to) | Action::CasMismatch(from, to, _) => {
                Value::List([from.clone(), to.clone()].into())
            }
            Action::Write(value) | Action::Append(value) | Action::Add(value) | Action::Enqueue(value) => {
                value.clone()
            }
            Action::Txn(steps) => {
                let open = |step: &Micro| match step {
                    Micro::Read(key, _) => Micro::Read(key.clone(), None).to_value(),
                    step => step.to_value(),
                };
                Value::List(steps.iter().map(open).collect())
            }
        }
    }

    /// What its completion shows if it is `ok`: the result of what returns one, else the argument.
    pub fn result(&self) -> Value {
        match self {
            Action::Read(value) => value.clone(),
            Action::Dequeue(value) => value.clone().unwrap_or(Value::Nil),
            Action::Txn(steps) => Value::List(steps.iter().map(Micro::to_value).collect()),
            _ => self.argument(),
        }
    }

    /// In words, about `key`.
    pub fn describe(&self, key: &str) -> String {
        match self {
            Action::Read(value) => format!("read {key}={value}"),
            Action::Write(Value::Nil) => format!("delete {key}"),
            Action::Write(value) => format!("write {key}={value}"),
            Action::Cas(from, to) => format!("cas {key} {from}->{to}"),
            Action::CasMismatch(from, to, actual) => format!("cas {key} {from}->{to} refused, saw {actual}"),
            Action::Append(element) => format!("append {key}+={element}"),
            Action::Add(element) => format!("add {key}+={element}"),
            Action::Acquire => format!("acquire {key}"),
            Action::Release => format!("release {key}"),
            Action::Enqueue(element) => format!("enqueue {key} <- {element}"),
            Action::Dequeue(None) => format!("dequeue {key} -> ?"),
            Action::Dequeue(Some(Value::Nil)) => format!("dequeue {key} -> empty"),
            Action::Dequeue(Some(element)) => format!("dequeue {key} -> {element}"),
            Action::Txn(steps) => {
                let step = |step: &Micro| match step {
                    Micro::Read(key, None) => format!("read {key}"),
                    Micro::Read(key, Some(value)) => format!("read {key}={value}"),
                    Micro::Write(key, Value::Nil) => format!("delete {key}"),
                    Micro::Write(key, value) => format!("write {key}={value}"),
                    Micro::Append(key, value) => format!("append {key}+={value}"),
                };
                // Of keys that have no name together, `txn` is the name.
                let name = if key == "txn" { String::new() } else { format!("{key} ") };
                format!("txn {name}{{{}}}", steps.iter().map(step).collect::<Vec<_>>().join(", "))
            }
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
    /// What it does. A read that did not end well reads `Nil`, a dequeue or a transaction what nobody knows.
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
        assert_eq!(Action::Write(Value::Nil).describe("k"), "delete k");
        assert_eq!(Action::Dequeue(Some(Value::Nil)).describe("q"), "dequeue q -> empty");
    }

    #[test]
    fn a_transaction_shows_what_others_left_and_leaves_what_others_see() {
        let list = |items: Vec<Value>| Value::List(items.into());
        let text = |s: &str| Value::Text(s.into());
        let step = |f: &str, key: &str, value: Value| list(vec![text(f), text(key), value]);
        let steps = [
            step("r", "x", 1.into()),
            step("w", "x", 2.into()),
            step("r", "x", 2.into()),
            step("append", "y", 3.into()),
            step("r", "z", Value::Nil),
        ];
        let of = |known| Action::Txn(steps.iter().map(|s| Micro::from_value(s, known).unwrap()).collect());
        assert_eq!(
            of(true).observed(),
            [("x", &1.into()), ("z", &Value::Nil)],
            "its own write is nobody else's"
        );
        assert_eq!(of(false).observed(), [("x", &1.into())], "what nobody knows says nothing");
        assert_eq!(of(true).brought(), [("x", &2.into()), ("y", &3.into())]);
        assert_eq!(of(true).result(), list(steps.to_vec()));
        assert_ne!(of(true).argument(), of(true).result());
        assert!(!of(true).reads_only() && Action::Txn([].into()).reads_only());
        for bad in [step("x", "x", 1.into()), step("w", "x", list(vec![])), step("append", "x", list(vec![]))]
        {
            assert_eq!(Micro::from_value(&bad, true), None, "{bad}");
        }
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
