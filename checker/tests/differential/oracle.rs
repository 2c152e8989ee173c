//! The brute-force checker: tries every order of every choice of indeterminate operations. Shares no code with the engines.

use std::collections::{BTreeMap, HashSet};

use checker::history::{Action, Micro, Operation, Outcome, Value};
use checker::model::ModelKind;

/// What a key holds, told in the simplest way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Register(Value),
    List(Vec<Value>),
    Set(Vec<Value>),
    Text(String),
    Counter(i64),
    Mutex(bool),
    Queue(Vec<Value>),
    Txn(BTreeMap<String, Value>, Value),
}

pub(crate) fn start(model: ModelKind) -> State {
    match model {
        ModelKind::CasRegister => State::Register(Value::Nil),
        ModelKind::RegisterFrom(n) => State::Register(Value::Int(n)),
        ModelKind::ListAppend => State::List(Vec::new()),
        ModelKind::Set => State::Set(Vec::new()),
        ModelKind::Kv => State::Text(String::new()),
        ModelKind::Counter => State::Counter(0),
        ModelKind::Mutex => State::Mutex(false),
        ModelKind::FifoQueue => State::Queue(Vec::new()),
        ModelKind::Txn => State::Txn(BTreeMap::new(), Value::Nil),
        ModelKind::TxnFrom(n) => State::Txn(BTreeMap::new(), Value::Int(n)),
    }
}

pub(crate) fn shown(state: &State) -> Value {
    match state {
        State::Register(value) => value.clone(),
        State::List(items) | State::Set(items) => Value::List(items.as_slice().into()),
        State::Text(text) => Value::Text(text.as_str().into()),
        State::Counter(n) => Value::Int(*n),
        State::Queue(items) => items.first().cloned().unwrap_or(Value::Nil),
        State::Mutex(_) | State::Txn(..) => Value::Nil,
    }
}

fn same(state: &State, read: &Value) -> bool {
    match (state, read) {
        (State::Set(items), Value::List(read)) => {
            let mut read = read.to_vec();
            read.sort();
            *items == read
        }
        (State::List(items) | State::Set(items), Value::Nil) => items.is_empty(),
        (State::Text(text), Value::Nil) => text.is_empty(),
        (State::Counter(n), Value::Nil) => *n == 0,
        _ => shown(state) == *read,
    }
}

/// What a transaction sees of a key.
pub(crate) fn seen(state: &State, key: &str) -> Value {
    let State::Txn(held, initial) = state else { return Value::Nil };
    held.get(key).unwrap_or(initial).clone()
}

/// The state after one step of a transaction.
pub(crate) fn after(state: &State, step: &Micro) -> Option<State> {
    let State::Txn(held, initial) = state else { return None };
    let (mut held, at) = (held.clone(), seen(state, step.key()));
    match step {
        Micro::Read(_, None) => {}
        Micro::Read(_, Some(read)) => {
            let nothing = |v: &Value| v.elements().is_some_and(<[Value]>::is_empty);
            let untold = *initial != Value::Nil && *read == Value::Nil;
            if at != *read && !untold && !(nothing(&at) && nothing(read)) {
                return None;
            }
        }
        Micro::Write(key, value) => _ = held.insert(key.to_string(), value.clone()),
        Micro::Append(key, value) => {
            let longer = [at.elements()?, std::slice::from_ref(value)].concat();
            held.insert(key.to_string(), Value::List(longer.into()));
        }
    }
    Some(State::Txn(held, initial.clone()))
}

/// The next state, or `None` if the result is impossible.
pub(crate) fn next(state: &State, action: &Action) -> Option<State> {
    match (state, action) {
        (_, Action::Read(value) | Action::CasMismatch(_, _, value)) => {
            same(state, value).then(|| state.clone())
        }
        (State::Register(_), Action::Write(value)) => Some(State::Register(value.clone())),
        (State::Register(held), Action::Cas(from, to)) => (held == from).then(|| State::Register(to.clone())),
        (State::List(items), Action::Append(e)) => {
            Some(State::List([items.as_slice(), std::slice::from_ref(e)].concat()))
        }
        (State::Set(items), Action::Add(e)) => {
            let mut items = items.clone();
            if !items.contains(e) {
                items.push(e.clone());
                items.sort();
            }
            Some(State::Set(items))
        }
        (State::Counter(n), Action::Add(Value::Int(more))) => Some(State::Counter(n + more)),
        (State::Text(_), Action::Write(Value::Nil)) => Some(State::Text(String::new())),
        (State::Text(_), Action::Write(Value::Text(text))) => Some(State::Text(text.to_string())),
        (State::Text(held), Action::Append(Value::Text(text))) => Some(State::Text(format!("{held}{text}"))),
        (State::Mutex(held), Action::Acquire) => (!held).then_some(State::Mutex(true)),
        (State::Mutex(held), Action::Release) => held.then_some(State::Mutex(false)),
        (State::Queue(items), Action::Enqueue(e)) => {
            Some(State::Queue([items.as_slice(), std::slice::from_ref(e)].concat()))
        }
        (State::Queue(items), Action::Dequeue(taken)) => {
            let first = items.first().cloned().unwrap_or(Value::Nil);
            let fits = taken.as_ref().is_none_or(|taken| *taken == first);
            fits.then(|| State::Queue(items.iter().skip(1).cloned().collect()))
        }
        (State::Txn(..), Action::Txn(steps)) => {
            steps.iter().try_fold(state.clone(), |state, step| after(&state, step))
        }
        _ => None,
    }
}

/// An operation: call, return if it is known that it happened, what it did.
pub(crate) type Plain = (u64, Option<u64>, Action);

pub(crate) fn plain(operation: &Operation) -> Option<Plain> {
    match operation.outcome {
        Outcome::Ok => Some((operation.invoke, operation.complete, operation.action.clone())),
        Outcome::Info => Some((operation.invoke, None, operation.action.clone())),
        Outcome::Fail => None,
    }
}

/// Whether some order of these works. Operations without a return may be left out.
pub(crate) fn orderable(model: ModelKind, operations: impl Iterator<Item = Plain>) -> bool {
    let read = |action: &Action| matches!(action, Action::Read(_) | Action::CasMismatch(..));
    let operations: Vec<Plain> =
        operations.filter(|(_, ret, action)| ret.is_some() || !read(action)).collect();
    search(&start(model), &operations, 0, &mut HashSet::new())
}

/// Whether the operations that are not in the set `done` can follow in some order.
fn search(state: &State, operations: &[Plain], done: u64, met: &mut HashSet<(u64, State)>) -> bool {
    let left = || (0..operations.len()).filter(|i| done & (1 << i) == 0);
    if left().all(|i| operations[i].1.is_none()) {
        return true;
    }
    if !met.insert((done, state.clone())) {
        return false;
    }
    let first = |i: &usize| left().all(|j| operations[j].1.is_none_or(|ret| ret >= operations[*i].0));
    left().filter(first).any(|i| {
        next(state, &operations[i].2).is_some_and(|state| search(&state, operations, done | 1 << i, met))
    })
}
