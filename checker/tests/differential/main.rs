//! The engines against a brute-force checker, on small random histories of all models, seeded. More of them by
//! `CHECKER_HISTORIES=10000000 cargo test --release -p checker --test differential`, in parts with `CHECKER_FIRST=5000000`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

mod generate;
mod oracle;

use std::collections::BTreeMap;

use checker::deadline::Deadline;
use checker::history::{Action, Clock, KeyHistory, Operation, Outcome, Value};
use checker::linearizability::{Bound, Budget, Engine, Finding, Judgement, judge};
use checker::model::ModelKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use oracle::{orderable, plain};

/// Histories of a run that nobody asked to be longer.
const HISTORIES: u64 = 60_000;
const AMPLE: Budget = Budget { steps: 10_000_000, memory: 1 << 28, deadline: Deadline::NEVER };
const MODELS: [ModelKind; 10] = [
    ModelKind::CasRegister,
    ModelKind::RegisterFrom(1),
    ModelKind::ListAppend,
    ModelKind::Set,
    ModelKind::Kv,
    ModelKind::Counter,
    ModelKind::Mutex,
    ModelKind::FifoQueue,
    ModelKind::Txn,
    ModelKind::TxnFrom(0),
];

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
        for (key, observed) in action.observed() {
            let seen = match observed {
                Value::List(items) => items.to_vec(),
                value => vec![value.clone()],
            };
            for (w, writer) in operations.iter().enumerate() {
                let brought = writer.action.brought();
                let writes = brought.iter().any(|(k, value)| *k == key && seen.contains(value));
                let replaces = |o: &Operation| {
                    o.outcome == Outcome::Ok
                        && o.action.brought().iter().any(|(k, value)| *k == key && *value != observed)
                        && writer.precedes(o)
                        && o.precedes(reader)
                };
                let replaced = model.is_register() && core.keys().any(|i| replaces(&operations[*i]));
                assert!(
                    writer.outcome == Outcome::Fail
                        || w == *i
                        || !writes
                        || core.contains_key(&w)
                        || replaced
                        || writer.invoke > reader.end(),
                    "operation {w} may have written what {i} of the core saw: {finding:?}\n{context}"
                );
            }
        }
    }
}

fn told(operations: &[Operation]) -> String {
    let line = |(i, o): (usize, &Operation)| {
        format!("  {i}: {}..{} {:?} {}\n", o.invoke, o.end(), o.outcome, o.action.describe("k"))
    };
    operations.iter().enumerate().map(line).collect()
}

#[test]
fn all_engines_agree_with_brute_force() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let histories = number("CHECKER_HISTORIES").unwrap_or(HISTORIES);
    let first = number("CHECKER_FIRST").unwrap_or(0);
    let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let (mut cut_short, mut tried_short) = (0, 0);
    let (mut fired, mut unshrunk) = (0, 0);
    let mut given_up: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first..first + histories {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let model = MODELS[(seed % MODELS.len() as u64) as usize];
        let operations = generate::history(model, &mut rng);
        let valid = orderable(model, operations.iter().filter_map(plain));
        let key = KeyHistory { model, clock: Clock::Lines, operations };
        let context = format!("seed {seed}, {model:?}\n{}", told(&key.operations));
        for engine in [Engine::Portfolio, Engine::Search] {
            let queue = model == ModelKind::FifoQueue && engine == Engine::Search;
            let lists = matches!(model, ModelKind::ListAppend | ModelKind::Txn);
            let all_orders = queue || (lists && engine == Engine::Search);
            let budget = if queue { Budget { steps: 50_000, ..AMPLE } } else { AMPLE };
            match judge(&key, engine, budget) {
                Judgement::Valid => assert!(valid, "{engine:?} says valid\n{context}"),
                Judgement::Invalid(finding) => {
                    assert!(!valid, "{engine:?} says invalid\n{context}");
                    check_core(model, &key.operations, &finding, &context);
                }
                // Orders of what goes into a queue or a list may be too many for the search alone.
                Judgement::Unknown(_) if all_orders => *given_up.entry(model.name()).or_default() += 1,
                Judgement::Unknown(spent) => panic!("{engine:?} gives up: {spent:?}\n{context}"),
            }
        }
        let short = Budget { steps: rng.random_range(0..12), ..AMPLE };
        tried_short += 1;
        match judge(&key, Engine::Search, short) {
            Judgement::Unknown(_) => cut_short += 1,
            answer => assert_eq!(answer == Judgement::Valid, valid, "under a short budget\n{context}"),
        }
        // Wherever the clock fires, what is said is true, and nobody goes on for long.
        let (deadline, looks) = Deadline::after_looks(rng.random_range(0..8));
        match judge(&key, Engine::Portfolio, Budget { deadline, ..AMPLE }) {
            Judgement::Unknown(spent) => {
                assert_eq!(spent.bound, Bound::Time, "{context}");
                fired += 1;
            }
            Judgement::Invalid(finding) => {
                assert!(!valid, "invalid, late\n{context}");
                check_core(model, &key.operations, &finding, &context);
                unshrunk += u64::from(finding.late);
            }
            Judgement::Valid => assert!(valid, "valid, late\n{context}"),
        }
        assert!(looks.in_vain() <= 8, "{} looks after the end\n{context}", looks.in_vain());
        counts.entry(model.name()).or_default()[usize::from(valid)] += 1;
        if seed % 4 == 0 {
            failed_operations_say_nothing(&key, valid, &context);
        }
    }
    println!("{histories} histories from seed {first}, no difference: {counts:?} (invalid, valid)");
    println!("given up by the search alone, decided by the portfolio: {given_up:?}");
    for lists in [ModelKind::ListAppend, ModelKind::Txn].map(ModelKind::name) {
        assert!(given_up.get(lists).is_none_or(|count| *count * 100_000 <= histories), "{given_up:?}");
    }
    for (model, [invalid, valid]) in &counts {
        let few = (invalid + valid) / 15;
        assert!(*invalid >= few && *valid >= few, "{model}: {invalid} invalid, {valid} valid");
    }
    println!("the clock ended {fired} judgements and left {unshrunk} cores unshrunk");
    assert!(fired * 20 >= histories && unshrunk * 50 >= histories, "{fired} and {unshrunk} of {histories}");
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
