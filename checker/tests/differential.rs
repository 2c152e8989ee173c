//! The engines against a brute-force checker that shares no code with them: it tries every order of every choice of
//! indeterminate operations. Small random histories of all models, seeded; what is rare in real runs is common here: equal
//! times, indeterminate operations, values written twice, results that are off by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::collections::BTreeMap;

use checker::history::{Action, Clock, KeyHistory, Operation, Outcome, Phase, Value};
use checker::linearizability::{Budget, Engine, Finding, Judgement, judge};
use checker::model::ModelKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HISTORIES: u64 = 140_000;
const AMPLE: Budget = Budget { steps: 10_000_000, memory: 1 << 28, deadline: None };

/// What a key holds, told in the simplest way.
#[derive(Clone, PartialEq)]
enum State {
    Register(Value),
    List(Vec<Value>),
    Set(Vec<Value>),
    Text(String),
    Counter(i64),
}

fn start(model: ModelKind) -> State {
    match model {
        ModelKind::CasRegister => State::Register(Value::Nil),
        ModelKind::RegisterFrom(n) => State::Register(Value::Int(n)),
        ModelKind::ListAppend => State::List(Vec::new()),
        ModelKind::Set => State::Set(Vec::new()),
        ModelKind::Kv => State::Text(String::new()),
        ModelKind::Counter => State::Counter(0),
    }
}

fn shown(state: &State) -> Value {
    match state {
        State::Register(value) => value.clone(),
        State::List(items) | State::Set(items) => Value::List(items.as_slice().into()),
        State::Text(text) => Value::Text(text.as_str().into()),
        State::Counter(n) => Value::Int(*n),
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

/// The next state, or `None` if the result is impossible.
fn next(state: &State, action: &Action) -> Option<State> {
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
        (State::Text(_), Action::Write(Value::Text(text))) => Some(State::Text(text.to_string())),
        (State::Text(held), Action::Append(Value::Text(text))) => Some(State::Text(format!("{held}{text}"))),
        _ => None,
    }
}

/// Whether some order of `left` from `state` works. Operations without a return may be left out.
fn brute_force(state: &State, left: &mut Vec<(u64, Option<u64>, Action)>) -> bool {
    if left.iter().all(|(_, ret, _)| ret.is_none()) {
        return true;
    }
    for i in 0..left.len() {
        let (call, _, action) = &left[i];
        let first = left.iter().all(|(_, ret, _)| ret.is_none_or(|ret| ret >= *call));
        if let (true, Some(state)) = (first, next(state, action)) {
            let operation = left.remove(i);
            let works = brute_force(&state, left);
            left.insert(i, operation);
            if works {
                return true;
            }
        }
    }
    false
}

fn orderable(model: ModelKind, operations: impl Iterator<Item = (u64, Option<u64>, Action)>) -> bool {
    let reads_only = |action: &Action| matches!(action, Action::Read(_) | Action::CasMismatch(..));
    let mut left: Vec<_> =
        operations.filter(|(_, ret, action)| ret.is_some() || !reads_only(action)).collect();
    brute_force(&start(model), &mut left)
}

fn plain(operation: &Operation) -> Option<(u64, Option<u64>, Action)> {
    match operation.outcome {
        Outcome::Ok => Some((operation.invoke, operation.complete, operation.action.clone())),
        Outcome::Info => Some((operation.invoke, None, operation.action.clone())),
        Outcome::Fail => None,
    }
}

/// A history that happened, with up to four defects.
fn history(model: ModelKind, rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let count = rng.random_range(2..=7);
    let unique = rng.random_bool(0.7);
    let horizon = rng.random_range(8..=30u64);
    let length = [2, 6, 24][rng.random_range(0..3)];
    let info = [0.0, 0.15, 0.4][rng.random_range(0..3)];
    let mut drafts: Vec<(u64, u64, u64, Outcome, Action)> = Vec::new();
    for i in 0..count {
        let call = rng.random_range(0..=horizon);
        let ret = rng.random_range(call..=call + length);
        let point = rng.random_range(call..=ret);
        let fresh = if unique { 10 + i } else { rng.random_range(1..=3) };
        let any = if unique { 10 + rng.random_range(0..count) } else { rng.random_range(1..=3) };
        let text = |n: i64| Value::Text(format!("{n}.").into());
        let action = match (model, rng.random_range(0..4) % 3) {
            (_, 0) => Action::Read(Value::Nil),
            (ModelKind::ListAppend, _) => Action::Append(fresh.into()),
            (ModelKind::Set, _) => Action::Add(fresh.into()),
            (ModelKind::Counter, _) => Action::Add(rng.random_range(-1..=2).into()),
            (ModelKind::Kv, 1) => Action::Write(text(fresh)),
            (ModelKind::Kv, _) => Action::Append(text(fresh)),
            (_, 1) => Action::Write(fresh.into()),
            (_, _) if rng.random_bool(0.1) => Action::Cas(Value::Nil, fresh.into()),
            (_, _) => Action::Cas(any.into(), fresh.into()),
        };
        let outcome = if rng.random_bool(info) { Outcome::Info } else { Outcome::Ok };
        let point = if outcome == Outcome::Info { rng.random_range(call..=2 * horizon) } else { point };
        drafts.push((point, call, ret, outcome, action));
    }
    drafts.sort_by_key(|draft| draft.0);
    let mut state = start(model);
    let mut operations = Vec::new();
    for (point, call, ret, mut outcome, mut action) in drafts {
        match &action {
            Action::Read(_) => {
                action = Action::Read(match shown(&state) {
                    Value::List(items) if items.is_empty() && rng.random_bool(0.5) => Value::Nil,
                    Value::List(items) if model == ModelKind::Set => {
                        Value::List(items.iter().rev().cloned().collect())
                    }
                    value => value,
                });
            }
            _ if outcome == Outcome::Info && point > horizon => {}
            Action::Cas(from, to) if next(&state, &action).is_none() => match outcome {
                Outcome::Ok if rng.random_bool(0.5) => {
                    action = Action::CasMismatch(from.clone(), to.clone(), shown(&state));
                }
                Outcome::Ok => outcome = Outcome::Fail,
                _ => {}
            },
            _ => state = next(&state, &action).expect("it was looked at"),
        }
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

/// One small defect: a result, an interval or an outcome.
fn spoil(model: ModelKind, operations: &mut [Operation], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..operations.len());
    let other = operations[rng.random_range(0..operations.len())].action.clone();
    let operation = &mut operations[at];
    match rng.random_range(0..6) {
        0 => operation.outcome = [Outcome::Fail, Outcome::Ok][rng.random_range(0..2)],
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
        _ => {
            if let (Action::Read(read), Some(value)) =
                (&mut operation.action, other.brings().or(other.observes()))
            {
                let mut items = read.elements().unwrap_or_default().to_vec();
                *read = match (model, value) {
                    (ModelKind::ListAppend | ModelKind::Set, Value::List(_) | Value::Nil) => value.clone(),
                    (ModelKind::ListAppend | ModelKind::Set, element)
                        if rng.random_bool(0.5) || items.is_empty() =>
                    {
                        items.insert(rng.random_range(0..=items.len()), element.clone());
                        Value::List(items.into())
                    }
                    (ModelKind::ListAppend | ModelKind::Set, _) => {
                        items.remove(rng.random_range(0..items.len()));
                        Value::List(items.into())
                    }
                    _ => value.clone(),
                };
            }
        }
    }
}

/// Asserts that the core is wrong by itself, and that whoever can have written what it saw is in it.
fn check_core(model: ModelKind, operations: &[Operation], finding: &Finding, context: &str) {
    let core: BTreeMap<usize, &Action> = finding.core.iter().map(|w| (w.operation, &w.action)).collect();
    let reduced = core.iter().filter_map(|(i, action)| {
        let (call, ret, _) = plain(&operations[*i])?;
        Some((call, ret, (*action).clone()))
    });
    assert!(!orderable(model, reduced), "a core with an order: {finding:?}\n{context}");
    for (i, action) in &core {
        let reader = &operations[*i];
        let observed: Vec<&Value> = match action.observes() {
            Some(Value::List(items)) => items.iter().collect(),
            Some(value) if model.is_register() => {
                vec![value]
            }
            _ => continue,
        };
        for (w, writer) in operations.iter().enumerate() {
            let writes = writer.outcome != Outcome::Fail
                && w != *i
                && writer.action.brings().is_some_and(|value| observed.contains(&value));
            let overwritten = matches!(model, ModelKind::CasRegister | ModelKind::RegisterFrom(_))
                && operations.iter().enumerate().any(|(i, o)| {
                    core.contains_key(&i)
                        && o.outcome == Outcome::Ok
                        && o.action.brings().is_some_and(|value| !observed.contains(&value))
                        && writer.precedes(o)
                        && o.precedes(reader)
                });
            let possible = writes && writer.invoke <= reader.end() && !overwritten;
            assert!(!possible || core.contains_key(&w), "operation {w} is missing in {finding:?}\n{context}");
        }
    }
}

#[test]
fn the_engines_agree_with_brute_force_on_small_random_histories() {
    let models = [
        ModelKind::CasRegister,
        ModelKind::RegisterFrom(1),
        ModelKind::ListAppend,
        ModelKind::Set,
        ModelKind::Kv,
        ModelKind::CasRegister,
        ModelKind::Counter,
    ];
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let (mut cut_short, mut tried_short) = (0, 0);
    for seed in 0..HISTORIES {
        let model = models[seed as usize % models.len()];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let operations = history(model, &mut rng);
        let valid = orderable(model, operations.iter().filter_map(plain));
        let key = KeyHistory { model, clock: Clock::Lines, operations };
        let context = format!("seed {seed}: {key:#?}");
        for engine in [Engine::Portfolio, Engine::Search] {
            match judge(&key, engine, AMPLE) {
                Judgement::Valid => assert!(valid, "{engine:?} says valid\n{context}"),
                Judgement::Invalid(finding) => {
                    assert!(!valid, "{engine:?} says invalid\n{context}");
                    check_core(model, &key.operations, &finding, &context);
                }
                Judgement::Unknown(spent) => panic!("{engine:?} gives up: {spent:?}\n{context}"),
            }
        }
        let short = Budget { steps: rng.random_range(0..12), ..AMPLE };
        tried_short += 1;
        match judge(&key, Engine::Search, short) {
            Judgement::Unknown(_) => cut_short += 1,
            answer => assert_eq!(answer == Judgement::Valid, valid, "under a short budget\n{context}"),
        }
        counts.entry(model.name()).or_default()[usize::from(valid)] += 1;
        if seed % 4 == 0 {
            failed_operations_say_nothing(&key, valid, &context);
        }
    }
    for (model, [invalid, valid]) in &counts {
        let tenth = (invalid + valid) / 10;
        assert!(*invalid >= tenth && *valid >= tenth, "{model}: {invalid} invalid, {valid} valid");
    }
    assert!(
        cut_short * 10 >= tried_short && cut_short < tried_short,
        "{cut_short} of {tried_short} cut short"
    );
}

/// Metamorphic: without its failed operations a history has the same verdict; if they may have happened after all, a valid one
/// stays valid.
fn failed_operations_say_nothing(key: &KeyHistory, valid: bool, context: &str) {
    let without = KeyHistory {
        operations: key.operations.iter().filter(|o| o.outcome != Outcome::Fail).cloned().collect(),
        ..key.clone()
    };
    let is_valid = |key: &KeyHistory| judge(key, Engine::Portfolio, AMPLE) == Judgement::Valid;
    assert_eq!(is_valid(&without), valid, "without its failed operations\n{context}");
    let mut softened = key.clone();
    for operation in &mut softened.operations {
        if operation.outcome == Outcome::Fail {
            operation.outcome = Outcome::Info;
        }
    }
    assert!(!valid || is_valid(&softened), "with failed operations that may have happened\n{context}");
}
