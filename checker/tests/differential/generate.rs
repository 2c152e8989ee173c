//! Small random histories that happened, with a few defects. What is rare in real runs is common here: equal times,
//! indeterminate operations, values written twice, results that are off by one.

use checker::history::{Action, Micro, Operation, Outcome, Phase, Value};
use checker::model::ModelKind;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::oracle::{State, after, next, seen, shown, start};

struct Draft {
    point: u64,
    call: u64,
    ret: u64,
    outcome: Outcome,
    action: Action,
}

/// What transactions use.
#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Lists,
    Registers,
    Both,
}

/// A history that happened, with up to four defects.
pub(crate) fn history(model: ModelKind, rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let most = [5, 7, 12][rng.random_range(0..3)];
    let count = rng.random_range(2..=most);
    let unique = rng.random_bool(0.6);
    let horizon = rng.random_range(8..=30u64);
    let length = [2, 6, 24][rng.random_range(0..3)];
    let info = [0.0, 0.15, 0.4][rng.random_range(0..3)];
    // Transactions on lists alone, on registers alone, and on registers beside a list.
    let keys = match model {
        ModelKind::Txn => [Keys::Lists, Keys::Registers, Keys::Both][rng.random_range(0..3)],
        _ => Keys::Registers,
    };
    let mut drafts: Vec<Draft> = (0..count)
        .map(|i| {
            let call = rng.random_range(0..=horizon);
            let ret = rng.random_range(call..=call + length);
            let outcome = if rng.random_bool(info) { Outcome::Info } else { Outcome::Ok };
            let last = if outcome == Outcome::Info { (2 * horizon).max(call) } else { ret };
            let point = rng.random_range(call..=last);
            let fresh = if unique { 10 + i } else { rng.random_range(1..=3) };
            let any = if unique { 10 + rng.random_range(0..count) } else { rng.random_range(1..=3) };
            Draft { point, call, ret, outcome, action: action(model, keys, fresh, any, rng) }
        })
        .collect();
    drafts.sort_by_key(|draft| draft.point);
    let mut state = start(model);
    let mut operations = Vec::new();
    for Draft { point, call, ret, mut outcome, action } in drafts {
        let never = outcome == Outcome::Info && point > horizon;
        let action = happen(model, action, &mut outcome, never, &mut state, rng);
        operations.push(Operation {
            index: 0,
            process: 0,
            action,
            outcome,
            ended: None,
            invoke: call,
            complete: Some(ret),
            node: None,
            position: None,
            phase: Phase::Load,
        });
    }
    for _ in 0..rng.random_range(0..=4) {
        spoil(model, &mut operations, rng);
    }
    operations.sort_by_key(|o| o.invoke);
    for (i, operation) in operations.iter_mut().enumerate() {
        (operation.index, operation.process) = (i as u64, i as u64);
    }
    operations
}

fn action(model: ModelKind, keys: Keys, fresh: i64, any: i64, rng: &mut ChaCha8Rng) -> Action {
    let text = |n: i64| Value::Text(format!("{n}.").into());
    match (model, rng.random_range(0..4) % 3) {
        (ModelKind::Mutex, roll) => [Action::Acquire, Action::Release][usize::from(roll == 1)].clone(),
        (ModelKind::FifoQueue, 0) => Action::Dequeue(None),
        (ModelKind::FifoQueue, _) => Action::Enqueue(fresh.into()),
        (ModelKind::Txn | ModelKind::TxnFrom(_), _) => {
            let step = |n: i64, rng: &mut ChaCha8Rng| {
                let key = ["x", "y", "z"][rng.random_range(0..3)].into();
                let value = Value::Int(10 * fresh + n);
                if keys == Keys::Lists {
                    let key = ["l", "m"][rng.random_range(0..2)].into();
                    return if rng.random_bool(0.5) {
                        Micro::Read(key, None)
                    } else {
                        Micro::Append(key, value)
                    };
                }
                match (rng.random_range(0..3), keys) {
                    (0, _) => Micro::Read(key, None),
                    (1, Keys::Both) => Micro::Append("l".into(), value),
                    _ => Micro::Write(key, value),
                }
            };
            Action::Txn((0..rng.random_range(1..=3)).map(|n| step(n, rng)).collect())
        }
        (_, 0) => Action::Read(Value::Nil),
        (ModelKind::ListAppend, _) => Action::Append(fresh.into()),
        (ModelKind::Set, _) => Action::Add(fresh.into()),
        (ModelKind::Counter, _) => Action::Add(rng.random_range(-1..=2).into()),
        (ModelKind::Kv, 1) if rng.random_bool(0.2) => Action::Write(Value::Nil),
        (ModelKind::Kv, 1) => Action::Write(text(fresh)),
        (ModelKind::Kv, _) => Action::Append(text(fresh)),
        (ModelKind::CasRegister, 1) if rng.random_bool(0.1) => Action::Write(Value::Nil),
        (_, 1) => Action::Write(fresh.into()),
        (_, _) if rng.random_bool(0.1) => Action::Cas(Value::Nil, fresh.into()),
        (_, _) => Action::Cas(any.into(), fresh.into()),
    }
}

/// Takes effect unless it `never` does, and returns what is recorded of it.
fn happen(
    model: ModelKind,
    action: Action,
    outcome: &mut Outcome,
    never: bool,
    state: &mut State,
    rng: &mut ChaCha8Rng,
) -> Action {
    let known = *outcome == Outcome::Ok;
    match &action {
        Action::Read(_) => {
            return Action::Read(match shown(state) {
                Value::List(items) if items.is_empty() && rng.random_bool(0.5) => Value::Nil,
                Value::List(items) if model == ModelKind::Set => {
                    Value::List(items.iter().rev().cloned().collect())
                }
                value => value,
            });
        }
        _ if never => return action,
        Action::Dequeue(_) => {
            let first = shown(state);
            *state = next(state, &Action::Dequeue(None)).unwrap();
            return Action::Dequeue(known.then_some(first));
        }
        Action::Txn(steps) => {
            let told = steps.iter().map(|step| {
                let told = match step {
                    Micro::Read(key, _) => Micro::Read(key.clone(), known.then(|| seen(state, key))),
                    step => step.clone(),
                };
                *state = after(state, &told).unwrap();
                told
            });
            return Action::Txn(told.collect());
        }
        _ => {}
    }
    match next(state, &action) {
        Some(after) => *state = after,
        None if !known => {}
        None => match &action {
            Action::Cas(from, to) if rng.random_bool(0.5) => {
                return Action::CasMismatch(from.clone(), to.clone(), shown(state));
            }
            _ => *outcome = Outcome::Fail,
        },
    }
    action
}

/// One small defect: a result, an interval or an outcome.
fn spoil(model: ModelKind, operations: &mut [Operation], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..operations.len());
    let other = operations[rng.random_range(0..operations.len())].action.clone();
    let operation = &mut operations[at];
    match rng.random_range(0..6) {
        0 => {
            // What happened tells its result, what did not tells none.
            let told = match &operation.action {
                Action::Dequeue(result) => result.is_some(),
                Action::Txn(steps) => steps.iter().all(|step| !matches!(step, Micro::Read(_, None))),
                _ => true,
            };
            operation.outcome = if told && rng.random_bool(0.5) { Outcome::Ok } else { Outcome::Fail };
        }
        1 => {
            let shift = rng.random_range(1..=12);
            operation.invoke = operation.invoke.saturating_sub(shift);
            operation.complete =
                operation.complete.map(|ret| ret.saturating_sub(shift).max(operation.invoke));
        }
        2 => {
            let shift = rng.random_range(1..=12);
            operation.invoke += shift;
            operation.complete = operation.complete.map(|ret| ret + shift);
        }
        _ => change_result(model, &mut operation.action, &other, rng),
    }
}

fn change_result(model: ModelKind, action: &mut Action, other: &Action, rng: &mut ChaCha8Rng) {
    let (brought, observed) = (other.brought(), other.observed());
    let values: Vec<&Value> = brought.iter().chain(&observed).map(|(_, value)| *value).collect();
    let Some(value) = values.first().copied() else { return };
    let lists = matches!(model, ModelKind::ListAppend | ModelKind::Set);
    match action {
        Action::Read(read) => {
            let mut items = read.elements().unwrap_or_default().to_vec();
            *read = match value {
                Value::List(_) | Value::Nil if lists => value.clone(),
                element if lists && (rng.random_bool(0.5) || items.is_empty()) => {
                    items.insert(rng.random_range(0..=items.len()), element.clone());
                    Value::List(items.into())
                }
                _ if lists => {
                    items.remove(rng.random_range(0..items.len()));
                    Value::List(items.into())
                }
                _ => value.clone(),
            };
        }
        Action::Dequeue(Some(taken)) => *taken = value.clone(),
        Action::Txn(steps) => {
            let any = values[rng.random_range(0..values.len())];
            let changed = steps.iter().map(|step| match step {
                Micro::Read(key, Some(Value::List(read))) if rng.random_bool(0.5) => {
                    let mut items = read.to_vec();
                    match any {
                        Value::Int(_) if rng.random_bool(0.5) => {
                            items.insert(rng.random_range(0..=items.len()), any.clone());
                        }
                        _ => drop(items.pop()),
                    }
                    Micro::Read(key.clone(), Some(Value::List(items.into())))
                }
                Micro::Read(key, Some(_)) if rng.random_bool(0.5) => {
                    Micro::Read(key.clone(), Some(any.clone()))
                }
                step => step.clone(),
            });
            *action = Action::Txn(changed.collect());
        }
        _ => {}
    }
}
