//! Anomalies put into valid histories, by class and model: each is found, called by its name, and certified by a core that `verify`
//! accepts; and its near miss, the same history with one interval wider or one outcome unknown, is valid. Seeded;
//! `CHECKER_ANOMALIES=100000 cargo test --release -p checker --test anomalies` makes it more.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

mod transactions;

use std::collections::BTreeMap;

use checker::deadline::Deadline;
use checker::history::{
    Action, Clock, FORMAT, Header, History, KeyHistory, Operation, Outcome, Phase, VERSION, Value,
};
use checker::linearizability::{Budget, Engine, Finding, Judgement, certify, judge};
use checker::model::ModelKind;
use checker::verify::{self, Line, verify};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories of a run that nobody asked to be longer.
const HISTORIES: u64 = 1_000;
const AMPLE: Budget = Budget { steps: 10_000_000, memory: 1 << 28, deadline: Deadline::NEVER };
/// Operations of a core of puts and gets.
const CORE_MAX: usize = 6;

use Outcome::{Fail, Info, Ok};

const REGISTER: ModelKind = ModelKind::CasRegister;
const LIST: ModelKind = ModelKind::ListAppend;
const SET: ModelKind = ModelKind::Set;
const COUNTER: ModelKind = ModelKind::Counter;
const QUEUE: ModelKind = ModelKind::FifoQueue;
const MUTEX: ModelKind = ModelKind::Mutex;
const TEXT: ModelKind = ModelKind::Kv;

/// What is injected: the model, the class that it has to be called, and whether compare-and-set takes part.
const CASES: [(ModelKind, &str, bool); 35] = [
    (REGISTER, "lost write", false),
    (REGISTER, "stale read", false),
    (REGISTER, "aborted read", false),
    (REGISTER, "future read", false),
    (REGISTER, "lost write", true),
    (REGISTER, "stale read", true),
    (REGISTER, "aborted read", true),
    (REGISTER, "future read", true),
    (REGISTER, "lost update", true),
    (LIST, "lost write", false),
    (LIST, "stale read", false),
    (LIST, "aborted read", false),
    (LIST, "future read", false),
    (LIST, "duplicate apply", false),
    (LIST, "split brain", false),
    (SET, "lost write", false),
    (SET, "stale read", false),
    (SET, "aborted read", false),
    (SET, "future read", false),
    (SET, "duplicate apply", false),
    (SET, "split brain", false),
    (COUNTER, "lost write", false),
    (COUNTER, "stale read", false),
    (COUNTER, "aborted read", false),
    (COUNTER, "future read", false),
    (COUNTER, "duplicate apply", false),
    (QUEUE, "lost write", false),
    (QUEUE, "aborted read", false),
    (QUEUE, "future read", false),
    (QUEUE, "duplicate apply", false),
    (MUTEX, "held twice", false),
    (TEXT, "lost write", false),
    (TEXT, "stale read", false),
    (TEXT, "future read", false),
    (TEXT, "duplicate apply", false),
];

type Step = (u64, u64, Outcome, Action);

/// A history under way, and what its object holds.
struct Draft {
    model: ModelKind,
    cas: bool,
    steps: Vec<Step>,
    /// Moment of the next effect.
    now: u64,
    /// What was brought last: every value is new.
    last: i64,
    held: Vec<Value>,
    rng: ChaCha8Rng,
}

impl Draft {
    fn fresh(&mut self) -> Value {
        self.last += 1;
        match self.model {
            // No two choices of amounts have one sum.
            COUNTER => Value::Int(3i64.pow(self.last as u32)),
            TEXT => Value::Text(format!("<{}>", self.last).into()),
            _ => Value::Int(self.last),
        }
    }

    /// What a read shows of these.
    fn shown(&self, held: &[Value]) -> Value {
        match self.model {
            REGISTER => held.last().cloned().unwrap_or(Value::Nil),
            COUNTER => Value::Int(held.iter().map(|v| if let Value::Int(n) = v { *n } else { 0 }).sum()),
            TEXT => {
                let texts = held
                    .iter()
                    .map(|v| if let Value::Text(text) = v { text.to_string() } else { String::new() });
                Value::Text(texts.collect::<String>().into())
            }
            _ => Value::List(held.into()),
        }
    }

    fn read(&self, held: &[Value]) -> Action {
        Action::Read(self.shown(held))
    }

    fn write(&self, value: &Value) -> Action {
        let value = value.clone();
        match self.model {
            LIST | TEXT => Action::Append(value),
            SET | COUNTER => Action::Add(value),
            QUEUE => Action::Enqueue(value),
            _ => Action::Write(value),
        }
    }

    /// What a write makes of what is held.
    fn with(&self, value: &Value) -> Vec<Value> {
        let before = if self.model == REGISTER { &[] } else { self.held.as_slice() };
        [before, std::slice::from_ref(value)].concat()
    }

    /// Operations that overlap and take effect one after the other, some of them with unknown outcomes.
    fn ordinary(&mut self, count: u64) {
        for _ in 0..count {
            self.now += 10;
            let (call, ret) =
                (self.now - self.rng.random_range(0..25), self.now + self.rng.random_range(0..25));
            // A release that nobody heard of may free the lock at any time.
            let told = self.model == MUTEX || self.rng.random_bool(0.9);
            let mut outcome = if told { Ok } else { Info };
            let roll = self.rng.random_range(0..5);
            let action = match self.model {
                MUTEX if self.held.is_empty() => {
                    self.held.push(Value::Int(1));
                    Action::Acquire
                }
                MUTEX => {
                    self.held.clear();
                    Action::Release
                }
                QUEUE if roll < 2 => {
                    outcome = Ok;
                    let first = if self.held.is_empty() { Value::Nil } else { self.held.remove(0) };
                    Action::Dequeue(Some(first))
                }
                _ if roll < 2 => {
                    outcome = Ok;
                    self.read(&self.held)
                }
                _ => {
                    let value = self.fresh();
                    let from = self.held.last().cloned();
                    let action = match from {
                        Some(from) if self.cas && roll == 2 => Action::Cas(from, value.clone()),
                        _ => self.write(&value),
                    };
                    // It may take effect although nobody is told, or never.
                    if outcome == Ok || self.rng.random_bool(0.5) {
                        self.held = self.with(&value);
                    }
                    action
                }
            };
            self.steps.push((call, ret, outcome, action));
        }
        self.now += 100;
    }

    /// An operation of its own at `at` after now.
    fn step(&mut self, at: u64, length: u64, outcome: Outcome, action: Action) -> usize {
        self.steps.push((self.now + at, self.now + at + length, outcome, action));
        self.steps.len() - 1
    }

    /// Takes all that a queue holds.
    fn drain(&mut self) {
        for value in std::mem::take(&mut self.held) {
            self.now += 10;
            self.step(0, 5, Ok, Action::Dequeue(Some(value)));
        }
        self.now += 10;
    }
}

fn recorded(model: ModelKind, steps: &[Step]) -> KeyHistory {
    let mut operations: Vec<Operation> = steps
        .iter()
        .map(|(invoke, complete, outcome, action)| Operation {
            index: 0,
            process: 0,
            action: action.clone(),
            outcome: *outcome,
            ended: None,
            invoke: *invoke,
            complete: Some(*complete),
            node: None,
            position: None,
            phase: Phase::Load,
        })
        .collect();
    operations.sort_by_key(|operation| operation.invoke);
    for (operation, index) in operations.iter_mut().zip(0..) {
        (operation.index, operation.process) = (index, index);
    }
    KeyHistory { model, clock: Clock::Lines, operations }
}

type Near = Box<dyn Fn(&mut Vec<Step>)>;

/// Puts an anomaly behind what is there; returns how its near miss differs.
fn inject(draft: &mut Draft, class: &str) -> Near {
    let model = draft.model;
    let unknown = |i: usize| -> Near { Box::new(move |steps| steps[i].2 = Info) };
    let earlier = |i: usize, by: u64| -> Near { Box::new(move |steps| steps[i].0 -= by) };
    let later = |i: usize, by: u64| -> Near { Box::new(move |steps| steps[i].1 += by) };
    if model == MUTEX {
        if !draft.held.is_empty() {
            draft.step(0, 5, Ok, Action::Release);
        }
        draft.held = vec![Value::Int(1)];
        let first = draft.step(10, 5, Ok, Action::Acquire);
        draft.step(20, 5, Ok, Action::Acquire);
        draft.now += 100;
        return unknown(first);
    }
    if model == QUEUE {
        return inject_queue(draft, class);
    }
    if model == REGISTER {
        // What nobody saw may have been written by an operation of unknown outcome, which may do so later as well.
        draft.step(0, 5, Ok, draft.read(&draft.held));
        draft.now += 10;
    }
    let value = draft.fresh();
    let (old, new) = (draft.held.clone(), draft.with(&value));
    let mut write = draft.write(&value);
    if let (true, Some(from)) = (draft.cas, old.last()) {
        write = Action::Cas(from.clone(), value.clone());
    }
    let near: Near = match class {
        "lost write" => {
            let lost = draft.step(0, 5, Ok, write);
            draft.step(10, 5, Ok, draft.read(&old));
            if draft.rng.random_bool(0.5) {
                draft.step(20, 5, Ok, draft.read(&old));
            }
            unknown(lost)
        }
        "stale read" => {
            draft.step(0, 5, Ok, write);
            let stale = draft.step(10, 5, Ok, draft.read(&old));
            draft.step(20, 5, Ok, draft.read(&new));
            draft.held = new;
            earlier(stale, 7)
        }
        "aborted read" => {
            let aborted = draft.step(0, 5, Fail, write);
            draft.step(10, 5, Ok, draft.read(&new));
            draft.held = new;
            unknown(aborted)
        }
        "future read" => {
            let early = draft.step(0, 5, Ok, draft.read(&new));
            draft.step(10, 5, Ok, write);
            draft.held = new;
            later(early, 7)
        }
        "duplicate apply" => {
            draft.step(0, 5, Ok, write.clone());
            let twice = [new.as_slice(), std::slice::from_ref(&value)].concat();
            let read = draft.step(20, 5, Ok, draft.read(&twice));
            draft.held = twice;
            if model == SET {
                // No set shows an element twice, whatever happened.
                draft.held.pop();
                unknown(read)
            } else {
                // A retry that nobody heard of may have been applied.
                let (call, ret) = (draft.now + 10, draft.now + 15);
                Box::new(move |steps| steps.push((call, ret, Info, write.clone())))
            }
        }
        "split brain" => {
            let other = draft.fresh();
            let both = [new.as_slice(), std::slice::from_ref(&other)].concat();
            let one = [old.as_slice(), std::slice::from_ref(&other)].concat();
            draft.step(0, 40, Ok, write);
            draft.step(0, 40, Ok, draft.write(&other));
            draft.step(10, 5, Ok, draft.read(&new));
            let read = draft.step(20, 5, Ok, draft.read(&one));
            draft.held = both;
            unknown(read)
        }
        "lost update" => {
            let (first, second) = (draft.fresh(), draft.fresh());
            draft.step(0, 5, Ok, draft.write(&value));
            let lost = draft.step(10, 5, Ok, Action::Cas(value.clone(), first));
            draft.step(20, 5, Ok, Action::Cas(value, second.clone()));
            draft.held = vec![second];
            unknown(lost)
        }
        other => unreachable!("{other}"),
    };
    draft.now += 100;
    near
}

fn inject_queue(draft: &mut Draft, class: &str) -> Near {
    let value = draft.fresh();
    let enqueue = Action::Enqueue(value.clone());
    let dequeue = Action::Dequeue(Some(value));
    let near: Near = match class {
        "lost write" => {
            let lost = draft.step(0, 5, Ok, enqueue);
            if draft.rng.random_bool(0.5) {
                let behind = draft.fresh();
                draft.step(10, 5, Ok, Action::Enqueue(behind.clone()));
                draft.now += 10;
                draft.held.push(behind);
                draft.drain();
            } else {
                draft.now += 10;
                draft.drain();
                draft.step(0, 5, Ok, Action::Dequeue(Some(Value::Nil)));
            }
            Box::new(move |steps| steps[lost].2 = Info)
        }
        "aborted read" => {
            draft.drain();
            let aborted = draft.step(0, 5, Fail, enqueue);
            draft.step(10, 5, Ok, dequeue);
            Box::new(move |steps| steps[aborted].2 = Info)
        }
        "future read" => {
            draft.drain();
            let early = draft.step(0, 5, Ok, dequeue);
            draft.step(10, 5, Ok, enqueue);
            Box::new(move |steps| steps[early].1 += 7)
        }
        "duplicate apply" => {
            draft.drain();
            draft.step(0, 5, Ok, enqueue.clone());
            draft.step(20, 5, Ok, dequeue.clone());
            draft.step(30, 5, Ok, dequeue);
            let (call, ret) = (draft.now + 10, draft.now + 15);
            Box::new(move |steps| steps.push((call, ret, Info, enqueue.clone())))
        }
        other => unreachable!("{other}"),
    };
    draft.now += 100;
    near
}

fn history(key: &KeyHistory) -> History {
    let header = Header {
        format: FORMAT.into(),
        version: VERSION.into(),
        workload: "anomalies".into(),
        models: BTreeMap::from([(String::new(), key.model.full_name())]),
        clock: "monotonic-ns".into(),
        nodes: Vec::new(),
    };
    History {
        header,
        clock: key.clock,
        keys: BTreeMap::from([("k".to_owned(), key.clone())]),
        nemesis: Vec::new(),
        torn: false,
        unread: None,
        bytes: 0,
        warnings: Vec::new(),
    }
}

/// Asserts that the verifier accepts what shows a verdict.
fn certified(key: &KeyHistory, shown: Result<&Finding, Vec<usize>>, context: &str) {
    let index = |i: usize| key.operations[i].index;
    let mut line = Line { key: "k".into(), verdict: "valid".into(), order: None, core: None, elements: None };
    match shown {
        Result::Ok(finding) => {
            line.verdict = "invalid".into();
            line.core = Some(finding.core.iter().map(|witness| index(witness.operation)).collect());
            line.elements = finding.elements.as_ref().map(|list| list.iter().map(Value::to_json).collect());
        }
        Err(order) => line.order = Some(order.into_iter().map(index).collect()),
    }
    let text = format!("{{\"format\":{:?}}}\n{}\n", verify::FORMAT, serde_json::to_string(&line).unwrap());
    let verified = verify(&history(key), &text).unwrap_or_else(|e| panic!("{e}\n{text}\n{context}"));
    assert_eq!(verified.open, Vec::<String>::new(), "{context}");
}

fn told(key: &KeyHistory) -> String {
    let line = |o: &Operation| {
        format!("  {}: {}..{} {:?} {}\n", o.index, o.invoke, o.end(), o.outcome, o.action.describe("k"))
    };
    key.operations.iter().map(line).collect()
}

#[test]
fn every_anomaly_is_called_by_its_name_and_its_near_miss_is_valid() {
    let histories = std::env::var("CHECKER_ANOMALIES").ok().map_or(HISTORIES, |text| text.parse().unwrap());
    let mut wrong = Vec::new();
    let mut largest: BTreeMap<(&str, &str, bool), usize> = BTreeMap::new();
    for seed in 0..histories {
        let (model, class, cas) = CASES[seed as usize % CASES.len()];
        let mut draft = Draft {
            model,
            cas,
            steps: Vec::new(),
            now: 100,
            last: 0,
            held: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        let (before, after) = (draft.rng.random_range(0..14), draft.rng.random_range(0..6));
        draft.ordinary(before);
        let near = inject(&mut draft, class);
        // What a lost write or an update loses is told by what comes after: nothing does, or nothing that brings another value.
        if model != REGISTER || !class.starts_with("lost") {
            draft.ordinary(after);
        }
        let key = recorded(model, &draft.steps);
        let context = format!("seed {seed}, {model:?}, {class}\n{}", told(&key));
        match judge(&key, Engine::Portfolio, AMPLE) {
            Judgement::Invalid(finding) => {
                assert!(!finding.reason.is_empty());
                certified(&key, Result::Ok(&finding), &context);
                if finding.class != class || (model == REGISTER && !cas && finding.core.len() > CORE_MAX) {
                    wrong.push(format!("{finding:?}\n{context}"));
                }
                let size = largest.entry((model.name(), class, cas)).or_default();
                *size = finding.core.len().max(*size);
            }
            other => panic!("{other:?}\n{context}"),
        }
        let mut missed = draft.steps.clone();
        near(&mut missed);
        let key = recorded(model, &missed);
        let context = format!("near miss of seed {seed}, {model:?}, {class}\n{}", told(&key));
        assert_eq!(judge(&key, Engine::Portfolio, AMPLE), Judgement::Valid, "{context}");
        certified(&key, Err(certify(&key, AMPLE).unwrap()), &context);
    }
    let shown = wrong[..wrong.len().min(5)].join("\n");
    assert!(wrong.is_empty(), "{} of {histories} have another name, or a large core:\n{shown}", wrong.len());
    println!("{histories} anomalies, each called by its name; the largest core of each kind:");
    for ((model, class, cas), size) in &largest {
        println!("  {model}{}, {class}: {size}", if *cas { " with cas" } else { "" });
    }
    assert_eq!(largest.len(), CASES.len().min(histories as usize));
}
