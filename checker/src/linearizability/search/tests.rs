//! The search by itself: what it answers, what it tells, and what it costs.

use super::super::run;
use super::*;
use crate::deadline::Deadline;
use crate::history::Value;
use crate::model::{Counter, ModelKind, Register};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BUDGET: Budget = Budget { steps: 1_000_000, memory: 1 << 28, deadline: Deadline::NEVER };

fn op(id: usize, call: u64, ret: u64, action: Action) -> Op {
    Op { id, call, ret, action }
}

fn answer(ops: &[Op], budget: Budget) -> Answer {
    search(&Register { initial: Value::Nil }, ops, budget, false)
}

#[test]
fn an_indeterminate_write_takes_effect_late_or_never_but_once() {
    let write = |id, call, ret, v: i64| op(id, call, ret, Action::Write(v.into()));
    let read = |id, call, ret, v: i64| op(id, call, ret, Action::Read(v.into()));
    let info = write(0, 0, u64::MAX, 1);
    let two = write(1, 1, 2, 2);
    assert_eq!(answer(&[info.clone(), two.clone(), read(2, 3, 4, 1)], BUDGET), Answer::Valid(None));
    assert_eq!(answer(&[info.clone(), two.clone(), read(2, 3, 4, 2)], BUDGET), Answer::Valid(None));
    let again = [info, two, read(2, 3, 4, 1), write(3, 5, 6, 3), read(4, 7, 8, 1)];
    assert_eq!(answer(&again, BUDGET), Answer::Invalid { among: vec![0, 1, 2, 3, 4] });
}

#[test]
fn the_order_that_was_found_is_told() {
    // 2 is read while 3 is being written and 1 after both: one of them is hidden before the other.
    let ops = [
        op(0, 0, 9, Action::Write(1.into())),
        op(1, 0, 9, Action::Write(2.into())),
        op(2, 0, 3, Action::Write(3.into())),
        op(3, 1, 8, Action::Read(2.into())),
        op(4, 4, 5, Action::Read(3.into())),
        op(5, 6, 7, Action::Cas(3.into(), 4.into())),
        op(6, 0, u64::MAX, Action::Cas(4.into(), 5.into())),
        op(7, 10, 11, Action::Read(5.into())),
    ];
    let answer = search(&Register { initial: Value::Nil }, &ops, BUDGET, true);
    let Answer::Valid(Some(order)) = answer else { panic!("{answer:?}") };
    assert_eq!(order, [1, 3, 0, 2, 4, 5, 6, 7]);
}

#[test]
fn a_proof_may_look_at_a_part_of_the_history() {
    let write = |id, at: u64, v: i64| op(id, at, at + 5, Action::Write(v.into()));
    let mut ops: Vec<Op> = (0..300).map(|i| write(i, 10 * i as u64, i as i64 % 3)).collect();
    ops.push(op(300, 3000, 3001, Action::Read(1.into())));
    let Answer::Invalid { among } = answer(&ops, BUDGET) else { panic!("299 wrote 2") };
    assert_eq!(among.last(), Some(&300));
    ops[300].action = Action::Read(2.into());
    assert_eq!(answer(&ops, BUDGET), Answer::Valid(None));
}

#[test]
fn equal_times_are_concurrent() {
    let ops = |call, then| {
        [
            op(0, 0, 5, Action::Write(1.into())),
            op(1, call, 9, Action::Read(Value::Nil)),
            op(2, then, 20, Action::Write(2.into())),
        ]
    };
    assert_eq!(answer(&ops(5, 9), BUDGET), Answer::Valid(None));
    assert_eq!(answer(&ops(6, 9), BUDGET), Answer::Invalid { among: vec![0, 1, 2] });
    assert_eq!(answer(&ops(6, 10), BUDGET), Answer::Invalid { among: vec![0, 1] });
}

#[test]
fn each_bound_ends_the_search_with_its_name() {
    // Every choice of these has another sum, and none has this one.
    let mut stuck: Vec<Op> =
        (0..30).map(|i| op(i, 0, 100 + i as u64, Action::Add((1i64 << i).into()))).collect();
    stuck.push(op(30, 90, 91, Action::Read((-1).into())));
    stuck.push(op(31, 80, u64::MAX, Action::Add(7.into())));
    let spent = |budget| match search(&Counter, &stuck, budget, false) {
        Answer::Unknown(spent) => spent,
        other => panic!("{other:?}"),
    };
    let stopped = spent(Budget { steps: 10_000, ..BUDGET });
    assert_eq!(stopped, Spent { bound: Bound::Steps, reached: 91, open_unknown: 1, steps: 10_031 });
    for looks in [1, 2] {
        let stopped = spent(Budget { deadline: Deadline::after_looks(looks).0, ..BUDGET });
        assert_eq!((stopped.bound, stopped.steps / CLOCK_STEPS), (Bound::Time, looks));
    }
    assert_eq!(spent(Budget { memory: 100_000, ..BUDGET }).bound, Bound::Memory);
    let tables = (stuck.len() * OPERATION_BYTES) as u64;
    assert!(spent(Budget { memory: tables, ..BUDGET }).steps > 0);
    let nothing = Spent { bound: Bound::Memory, reached: 0, open_unknown: 0, steps: 0 };
    assert_eq!(spent(Budget { memory: tables - 1, ..BUDGET }), nothing);
    let wide: Vec<Op> = (0..129).map(|i| op(i, 0, 100, Action::Write(1.into()))).collect();
    assert_eq!(answer(&wide[..128], BUDGET), Answer::Valid(None));
    assert!(matches!(answer(&wide, BUDGET), Answer::Unknown(Spent { bound: Bound::Open, .. })));
}

/// What such an operation makes of a value, if it is possible.
fn after(value: &Value, action: &Action) -> Option<Value> {
    match (action, value) {
        (Action::Write(new), _) => Some(new.clone()),
        (Action::Cas(from, to), _) => (from == value).then(|| to.clone()),
        (Action::Add(Value::Int(n)), Value::Int(sum)) => Some((sum + n).into()),
        (Action::Append(Value::Text(end)), Value::Text(text)) => {
            Some(Value::Text(format!("{text}{end}").into()))
        }
        (Action::Append(text), Value::Nil) => Some(text.clone()),
        _ => None,
    }
}

/// A history that happened, of `count` operations at moments ten apart: a third are reads, about three are indeterminate, and half
/// of those took no effect. If it is `spoilt`, the last read shows what was written long before.
fn history(model: ModelKind, count: usize, spoilt: bool, rng: &mut ChaCha8Rng) -> Vec<Op> {
    let mut value = model.initial();
    let mut ops = Vec::new();
    for id in 0..count {
        let at = 100 + 10 * id as u64;
        let n = rng.random_range(1..=3i64);
        let text = || Value::Text(["a", "b", "c"][n as usize - 1].into());
        let action = match (model, rng.random_range(0..6)) {
            (_, 0 | 1) => Action::Read(value.clone()),
            (ModelKind::Counter, _) => Action::Add(n.into()),
            (ModelKind::Kv, 2) => Action::Write(text()),
            (ModelKind::Kv, _) => Action::Append(text()),
            (_, 2 | 3) => Action::Cas(rng.random_range(1..=3i64).into(), n.into()),
            _ => Action::Write(n.into()),
        };
        let unknown = !action.reads_only() && rng.random_bool(4.0 / count as f64);
        let (call, ret) = (at - rng.random_range(0..30), at + rng.random_range(0..30));
        let ret = if unknown { u64::MAX } else { ret };
        let action = match after(&value, &action) {
            Some(new) => {
                if !unknown || rng.random_bool(0.5) {
                    value = new;
                }
                action
            }
            None if unknown => action,
            None => Action::Read(value.clone()),
        };
        ops.push(op(id, call, ret, action));
    }
    if spoilt {
        let at = 100 + 10 * count as u64;
        let wrong = match &value {
            Value::Int(n) if model == ModelKind::Counter => Value::Int(n - 1),
            Value::Int(n) => Value::Int(n % 3 + 1),
            Value::Text(text) => Value::Text(format!("c{text}").into()),
            other => other.clone(),
        };
        ops.push(op(count, at + 30, at + 31, Action::Read(wrong)));
    }
    ops.sort_by_key(|op| (op.call, op.id));
    ops
}

/// The least that `enough` is true of, below `most`.
pub(in super::super) fn least(most: u64, enough: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Budgets count steps and bytes, so that what is written about a history is the same everywhere. None of these numbers is sacred; who
/// changes the search changes them, and sees whether it needs more than before.
#[test]
fn what_a_search_costs_is_known() {
    let costs = |model, count| {
        let (mut among, mut steps, mut bytes, mut stopped) = (0, 0, 0, [0; 3]);
        for seed in 0..12 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let ops = history(model, count, seed % 2 == 0, &mut rng);
            let answer = run(model, &ops, BUDGET, seed % 3 == 0);
            let same = |budget| run(model, &ops, budget, seed % 3 == 0) == answer;
            assert!(!matches!(answer, Answer::Unknown(_)), "{model:?} {count} {seed}: {answer:?}");
            let needed = least(BUDGET.steps, |steps| same(Budget { steps, ..BUDGET }));
            steps += needed;
            bytes += least(BUDGET.memory, |memory| same(Budget { memory, ..BUDGET }));
            if let Answer::Invalid { among: ops } = &answer {
                among += ops.len();
            }
            for part in 1..4 {
                let budget = Budget { steps: needed * part / 4, ..BUDGET };
                if let Answer::Unknown(spent) = run(model, &ops, budget, false) {
                    let told = [spent.reached, spent.open_unknown as u64, spent.steps];
                    stopped = std::array::from_fn(|i| stopped[i] + told[i]);
                }
            }
        }
        (among, steps, bytes, stopped)
    };
    let known = [
        (ModelKind::CasRegister, 20, (42, 1856, 162_664, [8197, 97, 2922])),
        (ModelKind::CasRegister, 150, (186, 16_820, 759_032, [35_316, 64, 25_307])),
        (ModelKind::Counter, 16, (85, 6022, 248_544, [6933, 80, 9127])),
        (ModelKind::Kv, 20, (126, 11_964, 371_728, [7076, 53, 18_006])),
        (ModelKind::Kv, 80, (405, 63_241, 1_136_826, [16_623, 45, 94_939])),
    ];
    let found = known.map(|(model, count, _)| (model, count, costs(model, count)));
    assert_eq!(found, known, "operations without an order, steps, bytes, and where a part of the steps ends");
}
