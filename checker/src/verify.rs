//! Accepts or rejects certificates: the order that shows that a key is linearizable, or the core that shows that it is not. A small
//! text of its own, so that nobody has to trust the engines: it shares no code with them, only the reader of histories.
//! A certificate is JSON Lines: a header, then for each key `{"key":…,"verdict":"valid","order":[…]}` or `"invalid"` with a `core`;
//! operations are called by the index of their invoke. Of lists, only the `elements` beside a core count, of transactions pairs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::history::{Action, History, KeyHistory, Micro, Operation, Outcome, Value};
use crate::model::ModelKind;
pub use crate::report::certificate::{FORMAT, Line};

/// Configurations that are tried for one core.
const TRIED_MAX: usize = 5_000_000;
type Tried = HashSet<(Vec<bool>, Held)>;

/// What was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Keys whose order is right.
    pub valid: u64,
    /// Keys whose core is closed and has no order.
    pub invalid: u64,
    /// Keys about which the certificate says nothing.
    pub open: Vec<String>,
}

/// Verifies a certificate against the whole history.
///
/// # Errors
/// The line of the certificate that is wrong, and why.
pub fn verify(history: &History, certificate: &str) -> Result<Verified, String> {
    let mut lines = certificate.lines();
    let header = lines.next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    if header.as_ref().and_then(|h| h.get("format")?.as_str()) != Some(FORMAT) {
        return Err(format!("line 1: not the header of a certificate, {{\"format\":{FORMAT:?}}}"));
    }
    let (mut verified, mut seen) = (Verified::default(), HashSet::new());
    for (number, text) in (2..).zip(lines) {
        let bad = |reason: String| format!("line {number}: {reason}");
        let line: Line = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let no_key = || bad(format!("there is no key {:?}", line.key));
        let of_key = history.keys.get(&line.key).ok_or_else(no_key)?;
        if !seen.insert(line.key.clone()) {
            return Err(bad(format!("key {:?} again", line.key)));
        }
        let at = of_key.operations.iter().enumerate().map(|(i, o)| (o.index, i)).collect();
        match (&line.order, &line.core) {
            (Some(order), None) if line.verdict == "valid" => {
                check_order(of_key, &places(&at, order).map_err(bad)?).map_err(bad)?;
                verified.valid += 1;
            }
            (None, Some(core)) if line.verdict == "invalid" => {
                let elements = line.elements.map(|list| list.iter().filter_map(Value::from_json).collect());
                check_core(of_key, &places(&at, core).map_err(bad)?, elements).map_err(bad)?;
                verified.invalid += 1;
            }
            (None, None) => verified.open.push(line.key),
            _ => return Err(bad(format!("verdict {:?} with another's evidence", line.verdict))),
        }
    }
    verified.open.extend(history.keys.keys().filter(|key| !seen.contains(*key)).cloned());
    Ok(verified)
}

fn places(at: &HashMap<u64, usize>, indexes: &[u64]) -> Result<Vec<usize>, String> {
    let mut met = HashSet::new();
    let place = |index: &u64| match at.get(index) {
        Some(place) if met.insert(*place) => Ok(*place),
        Some(_) => Err(format!("operation {index} twice")),
        None => Err(format!("operation {index} is not one of this key")),
    };
    indexes.iter().map(place).collect()
}

/// The order holds every acknowledged operation, contradicts no real time, and gives every result.
fn check_order(of_key: &KeyHistory, order: &[usize]) -> Result<(), String> {
    let listed: HashSet<usize> = order.iter().copied().collect();
    let mut acknowledged = of_key.operations.iter().enumerate().filter(|(_, o)| o.outcome == Outcome::Ok);
    if let Some((_, missing)) = acknowledged.find(|(i, _)| !listed.contains(i)) {
        return Err(format!("operation {} is missing", missing.index));
    }
    let (mut held, mut latest) = (Held::new(of_key.model), 0);
    for operation in order.iter().map(|i| &of_key.operations[*i]) {
        if operation.outcome == Outcome::Fail {
            return Err(format!("operation {} failed", operation.index));
        }
        if operation.end() < latest {
            return Err(format!("operation {} was over before one before it began", operation.index));
        }
        latest = latest.max(operation.invoke);
        if !held.step(&operation.action) {
            return Err(format!("operation {} cannot have had its result", operation.index));
        }
    }
    Ok(())
}

/// Whoever can have written what one of the core saw is in the core, and the core has no order.
fn check_core(of_key: &KeyHistory, core: &[usize], elements: Option<Vec<Value>>) -> Result<(), String> {
    let inside: HashSet<u64> = core.iter().map(|i| of_key.operations[*i].index).collect();
    let listed = matches!(of_key.model, ModelKind::ListAppend | ModelKind::Set | ModelKind::Txn);
    let reduced = |o: &Operation| match &elements {
        Some(kept) => reduce(&o.action, kept).filter(|_| listed),
        None => Some(o.action.clone()),
    };
    if of_key.operations.iter().any(|o| reduced(o).is_none()) {
        return Err("only lists and sets have elements, and keys of transactions that nobody deletes".into());
    }
    let mut operations = Vec::new();
    for mut operation in core.iter().map(|i| of_key.operations[*i].clone()) {
        operation.action = reduced(&operation).unwrap_or(operation.action);
        if operation.outcome == Outcome::Fail {
            return Err(format!("operation {} failed", operation.index));
        }
        let outside = of_key.operations.iter().filter(|other| !inside.contains(&other.index));
        for other in outside.filter(|other| other.outcome != Outcome::Fail) {
            if may_matter(of_key, core, &operation, other) {
                let (other, seer) = (other.index, operation.index);
                return Err(format!("operation {other}, which {seer} may have seen, is not in the core"));
            }
        }
        operations.push(operation);
    }
    operations.retain(|o| o.outcome == Outcome::Ok || !o.action.reads_only());
    let mut tried = HashSet::new();
    match has_order(&operations, &mut vec![false; operations.len()], &Held::new(of_key.model), &mut tried) {
        None => Err("the core is too large to try all its orders".into()),
        Some(true) => Err("the core has an order".into()),
        Some(false) => Ok(()),
    }
}

/// The action if only these elements count, of a transaction pairs of a key and one. `None` if it cannot be told what is left of it.
fn reduce(action: &Action, kept: &[Value]) -> Option<Action> {
    let counts = |key: Option<&std::sync::Arc<str>>, e: &Value| match key {
        Some(key) => kept.contains(&Value::List([Value::Text(key.clone()), e.clone()].into())),
        None => kept.contains(e),
    };
    let list = |key, list: &Value| {
        list.elements().map(|items| Value::List(items.iter().filter(|e| counts(key, e)).cloned().collect()))
    };
    let steps = match action {
        Action::Txn(steps) => steps,
        Action::Read(value) => return list(None, value).map(Action::Read),
        _ if action.brings().is_some_and(|e| !kept.contains(e)) => return Some(Action::Txn([].into())),
        _ => return Some(action.clone()),
    };
    let mut left = Vec::new();
    for step in steps.iter() {
        let name = Value::Text(step.key().clone());
        match step {
            _ if !kept.iter().any(|pair| pair.items().and_then(<[Value]>::first) == Some(&name)) => {}
            Micro::Write(_, v) if v.elements().is_some() => return None,
            Micro::Write(key, v) | Micro::Append(key, v) if !counts(Some(key), v) => {}
            Micro::Read(key, Some(v)) if v.elements().is_none() && !counts(Some(key), v) => {}
            Micro::Read(k, Some(v)) => {
                left.push(Micro::Read(k.clone(), list(Some(k), v).or(Some(v.clone()))))
            }
            step => left.push(step.clone()),
        }
    }
    Some(Action::Txn(left.into()))
}

/// Whether what `seer` saw may depend on `other`, outside of the core: nothing there replaced it in between.
fn may_matter(of_key: &KeyHistory, core: &[usize], seer: &Operation, other: &Operation) -> bool {
    if other.invoke > seer.end() && of_key.model != ModelKind::FifoQueue {
        return false;
    }
    match of_key.model {
        ModelKind::Kv | ModelKind::Counter => seer.action.reads_only() && !other.action.reads_only(),
        ModelKind::FifoQueue => {
            let element = |action: &Action| match action {
                Action::Enqueue(value) | Action::Dequeue(Some(value)) => value.clone(),
                _ => Value::Nil,
            };
            let mine = element(&seer.action);
            other.action == Action::Dequeue(None) || (mine != Value::Nil && mine == element(&other.action))
        }
        _ => seer.action.observed().into_iter().any(|(key, seen)| {
            let parts = seen.items().unwrap_or(std::slice::from_ref(seen));
            let brings = other.action.brought().iter().any(|(k, value)| *k == key && parts.contains(value));
            let replaced = of_key.model.is_register()
                && core.iter().map(|i| &of_key.operations[*i]).any(|between| {
                    between.outcome == Outcome::Ok
                        && between.action.brought().iter().any(|(_, value)| *value != seen)
                        && other.precedes(between)
                        && between.precedes(seer)
                });
            brings && !replaced
        }),
    }
}

/// Whether those not `done` can follow in some order; indeterminate ones may stay out. `None` if it takes too long.
fn has_order(ops: &[Operation], done: &mut Vec<bool>, held: &Held, tried: &mut Tried) -> Option<bool> {
    let open: Vec<usize> = (0..ops.len()).filter(|i| !done[*i]).collect();
    if open.iter().all(|i| ops[*i].outcome == Outcome::Info) {
        return Some(true);
    }
    if !tried.insert((done.clone(), held.clone())) {
        return Some(false);
    }
    if tried.len() > TRIED_MAX {
        return None;
    }
    let first_end = open.iter().map(|i| ops[*i].end()).min().unwrap_or(u64::MAX);
    for i in open.into_iter().filter(|i| ops[*i].invoke <= first_end) {
        let mut next = held.clone();
        if next.step(&ops[i].action) {
            done[i] = true;
            let found = has_order(ops, done, &next, tried);
            done[i] = false;
            if found != Some(false) {
                return found;
            }
        }
    }
    Some(false)
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Held {
    One(Value),
    Sum(i128),
    Text(String),
    List(VecDeque<Value>),
    Set(BTreeSet<Value>),
    Keys(BTreeMap<String, Value>, Value),
}

impl Held {
    fn new(model: ModelKind) -> Held {
        match model {
            ModelKind::Counter => Held::Sum(0),
            ModelKind::Kv => Held::Text(String::new()),
            ModelKind::ListAppend | ModelKind::FifoQueue => Held::List(VecDeque::new()),
            ModelKind::Set => Held::Set(BTreeSet::new()),
            ModelKind::Txn | ModelKind::TxnFrom(_) => Held::Keys(BTreeMap::new(), model.initial()),
            _ => Held::One(model.initial()),
        }
    }

    /// Takes effect, if its result is possible here.
    fn step(&mut self, action: &Action) -> bool {
        match (self, action) {
            (Held::One(held), Action::Read(value) | Action::CasMismatch(_, _, value)) => held == value,
            (Held::One(held), Action::Write(value)) => put(held, value.clone()),
            (Held::One(held), Action::Cas(from, to)) => held == from && put(held, to.clone()),
            (Held::One(held), Action::Acquire) => *held == Value::Int(0) && put(held, Value::Int(1)),
            (Held::One(held), Action::Release) => *held == Value::Int(1) && put(held, Value::Int(0)),
            (Held::Sum(held), Action::Read(Value::Nil)) => *held == 0,
            (Held::Sum(held), Action::Read(Value::Int(n))) => i128::from(*n) == *held,
            (Held::Sum(held), Action::Add(Value::Int(n))) => change(held, |sum| *sum += i128::from(*n)),
            (Held::Text(held), Action::Read(Value::Nil)) => held.is_empty(),
            (Held::Text(held), Action::Read(Value::Text(text))) => **text == **held,
            (Held::Text(held), Action::Write(Value::Nil)) => put(held, String::new()),
            (Held::Text(held), Action::Write(Value::Text(t))) => put(held, t.to_string()),
            (Held::Text(held), Action::Append(Value::Text(t))) => change(held, |held| held.push_str(t)),
            (Held::List(h), Action::Append(v) | Action::Enqueue(v)) => change(h, |h| h.push_back(v.clone())),
            (Held::List(held), Action::Read(v)) => v.elements().is_some_and(|read| held.iter().eq(read)),
            (Held::List(held), Action::Dequeue(taken)) => {
                let first = held.pop_front().unwrap_or(Value::Nil);
                taken.as_ref().is_none_or(|taken| *taken == first)
            }
            (Held::Set(held), Action::Add(v)) => change(held, |held| held.extend([v.clone()])),
            (Held::Set(held), Action::Read(value)) => value.elements().is_some_and(|read| {
                read.len() == held.len() && read.iter().collect::<BTreeSet<_>>().into_iter().eq(held.iter())
            }),
            (Held::Keys(held, initial), Action::Txn(steps)) => steps.iter().all(|step| {
                let at = held.entry(step.key().to_string()).or_insert_with(|| initial.clone());
                match step {
                    Micro::Read(_, None) => true,
                    Micro::Read(_, Some(Value::Nil)) => {
                        *initial != Value::Nil || at.elements().is_some_and(<[Value]>::is_empty)
                    }
                    Micro::Read(_, Some(v)) if v.elements() == Some(&[]) => at.elements() == Some(&[]),
                    Micro::Read(_, Some(value)) => at == value,
                    Micro::Write(_, value) => put(at, value.clone()),
                    Micro::Append(_, value) => match at.elements() {
                        Some(items) => put(at, Value::List(items.iter().chain([value]).cloned().collect())),
                        None => false,
                    },
                }
            }),
            (_, Action::Txn(steps)) => steps.is_empty(),
            _ => false,
        }
    }
}

fn put<T>(held: &mut T, value: T) -> bool {
    change(held, |held| *held = value)
}

fn change<T>(held: &mut T, how: impl FnOnce(&mut T)) -> bool {
    how(held);
    true
}
