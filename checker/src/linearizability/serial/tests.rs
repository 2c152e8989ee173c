//! What is forced, what has to be chosen, and what has no order.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::dependencies::tests::{Txn, happens, ops};
use super::super::search::tests::least;
use super::*;
use crate::deadline::Deadline;

const NEVER: u64 = u64::MAX;
const AMPLE: Budget = Budget { steps: 100_000, memory: 1 << 20, deadline: Deadline::NEVER };

fn w(key: &str, value: i64) -> Micro {
    Micro::Write(key.into(), value.into())
}

fn r(key: &str, value: i64) -> Micro {
    Micro::Read(key.into(), Some(if value == 0 { Value::Nil } else { value.into() }))
}

/// Who is in the order, which gives every result and contradicts no real time.
fn valid(txns: &[Txn]) -> Vec<usize> {
    match judge(&Value::Nil, &ops(txns), AMPLE) {
        Verdict::Linearizable(order) => happens(txns, order),
        other => panic!("{other:?}"),
    }
}

fn violation(txns: &[Txn]) -> Vec<usize> {
    match judge(&Value::Nil, &ops(txns), AMPLE) {
        Verdict::Violation(ops, _) => ops,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_read_and_real_time_leave_one_order_or_none() {
    let (one, two) = ([w("x", 1)], [r("x", 1), w("x", 2)]);
    assert_eq!(
        valid(&[(0, 9, &two), (0, 9, &one), (0, 9, &[r("x", 2)]), (0, 9, &[r("x", 0)])]),
        [0, 1, 2, 3]
    );
    assert_eq!(violation(&[(0, 1, &one), (2, 3, &[r("x", 0)])]), [0, 1]);
    assert_eq!(valid(&[(0, 2, &one), (2, 3, &[r("x", 0)])]), [0, 1], "a shared moment is no order");
    assert_eq!(violation(&[(4, 5, &one), (2, 3, &[r("x", 1)])]), [0, 1], "from the future");
    assert_eq!(valid(&[(3, 5, &one), (2, 3, &[r("x", 1)])]), [0, 1]);
    // Two that saw one value and replaced it.
    assert_eq!(violation(&[(0, 9, &[r("x", 0), w("x", 1)]), (0, 9, &[r("x", 0), w("x", 2)])]), [0, 1]);
    assert_eq!(valid(&[(0, 9, &[r("x", 0), w("x", 1)]), (0, 9, &[r("x", 1), w("x", 2)])]), [0, 1]);
    // Each misses what the other wrote.
    let skew = [r("x", 0), w("y", 1)];
    assert_eq!(violation(&[(0, 9, &skew), (0, 9, &[r("y", 0), w("x", 1)])]), [0, 1]);
    assert_eq!(valid(&[(0, 9, &skew), (0, 9, &[r("y", 1), w("x", 1)])]), [0, 1]);
}

#[test]
fn a_transaction_sees_what_others_left_and_what_it_did_itself() {
    let twice = [w("x", 1), r("x", 1), w("x", 2), r("x", 2)];
    assert_eq!(valid(&[(0, 9, &twice), (0, 9, &[r("x", 2), r("x", 2)])]), [0, 1]);
    assert_eq!(violation(&[(0, 9, &twice), (0, 9, &[r("x", 1)])]), [1, 0], "what was never left");
    assert_eq!(violation(&[(0, 9, &[w("x", 1), r("x", 0)])]), [0]);
    assert_eq!(violation(&[(0, 9, &[r("x", 1), w("x", 1)])]), [0, 0], "before it wrote it");
    assert_eq!(violation(&[(0, 9, &[r("x", 7)])]), [0], "of nobody");
    assert_eq!(violation(&[(0, 9, &[w("x", 1)]), (0, 9, &[r("x", 0), r("x", 1)])]), [1, 0]);
}

#[test]
fn a_choice_between_writers_is_taken_back_if_it_was_wrong() {
    // Which of the two writers of x came first is told only by y, at the end.
    let (one, two) = ([w("x", 1), w("a", 1)], [w("x", 2), w("b", 1)]);
    let reads = |first: i64, second: i64| -> Vec<Vec<Micro>> {
        vec![vec![r("x", first)], vec![r("x", second)], vec![r("x", second), r("a", 1), r("b", 1)]]
    };
    for (first, second) in [(1, 2), (2, 1)] {
        let told = reads(first, second);
        let txns = [(0, 9, &one[..]), (0, 9, &two), (0, 20, &told[0]), (0, 20, &told[1]), (10, 20, &told[2])];
        assert_eq!(valid(&txns), [0, 1, 2, 3, 4]);
    }
    // Sixteen such choices, and what is seen last fits none of them.
    let keys: Vec<String> = (0..16).map(|n| format!("k{n}")).collect();
    let mut all: Vec<(u64, u64, Vec<Micro>)> = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let from = 100 * n as u64;
        for value in [1, 2] {
            all.push((from, from + 9, vec![w(key, value)]));
            all.push((from, from + 9, vec![r(key, value)]));
        }
    }
    let last = |value| (2000, 2001, vec![r("k0", value), r("k15", 0)]);
    let told = |last: (u64, u64, Vec<Micro>)| {
        let all: Vec<_> = all.iter().cloned().chain([last]).collect();
        let steps: Vec<Txn> = all.iter().map(|(call, ret, steps)| (*call, *ret, &steps[..])).collect();
        judge(&Value::Nil, &ops(&steps), AMPLE)
    };
    let Verdict::Violation(seed, at) = told(last(1)) else { panic!("{:?}", told(last(1))) };
    assert_eq!((seed.len(), at), (65, 1509), "shows where k15 is written, which nothing may replace");
    let fits = (2000, 2001, vec![r("k0", 1), r("k15", 2)]);
    assert!(matches!(told(fits), Verdict::Linearizable(order) if order.len() == 65));
}

#[test]
fn an_indeterminate_transaction_happened_if_something_of_it_was_seen() {
    let unknown = [w("x", 1), w("y", 1)];
    assert_eq!(valid(&[(0, NEVER, &unknown), (2, 3, &[r("x", 0), r("y", 0)])]), [1]);
    assert_eq!(valid(&[(0, NEVER, &unknown), (2, 3, &[r("x", 1), r("y", 1)])]), [0, 1]);
    assert_eq!(violation(&[(0, NEVER, &unknown), (0, 1, &[r("x", 1)]), (2, 3, &[r("y", 0)])]), [0, 1, 2]);
}

#[test]
fn what_is_not_for_it_is_left_alone_and_what_is_too_much_is_told() {
    let told = |initial: &Value, txns: &[Txn]| judge(initial, &ops(txns), AMPLE);
    let nil = Value::Nil;
    assert_eq!(told(&nil, &[(0, 1, &[Micro::Append("x".into(), 1.into())])]), Verdict::NotTold);
    assert_eq!(told(&nil, &[(0, 1, &[w("x", 1)]), (0, 1, &[w("x", 1)])]), Verdict::NotTold);
    assert_eq!(told(&nil, &[(0, 1, &[Micro::Write("x".into(), Value::Nil)])]), Verdict::NotTold);
    assert_eq!(told(&nil, &[(0, NEVER, &[r("x", 1)])]), Verdict::NotTold);
    assert_eq!(told(&7.into(), &[(0, 1, &[w("x", 7)])]), Verdict::NotTold);
    let seven = [(0, 1, &[r("x", 7), r("x", 0)][..]), (2, 3, &[w("x", 1)]), (4, 5, &[r("x", 0), r("x", 1)])];
    assert_eq!(told(&7.into(), &seven), Verdict::Linearizable(vec![0, 1, 2]), "nil is read without a result");
    let steps = |steps| judge(&nil, &ops(&seven[1..2]), Budget { steps, ..AMPLE });
    assert!(matches!(steps(0), Verdict::Linearizable(_)), "one look is free");
    let many: Vec<Txn> = vec![(0, 9, &[]); 20];
    let short = judge(&nil, &ops(&many), Budget { steps: 5, ..AMPLE });
    assert!(matches!(&short, Verdict::Unknown(spent) if spent.bound == Bound::Steps), "{short:?}");
    let late = Budget { deadline: Deadline::after_looks(0).0, ..AMPLE };
    let many: Vec<Txn> = vec![(0, 9, &[]); 3000];
    assert!(matches!(judge(&nil, &ops(&many), late), Verdict::Unknown(spent) if spent.bound == Bound::Time));
}

/// Transactions of one to three steps on these keys that happened in this order, at moments ten apart and for up to `wide` to
/// either side; one in ten is indeterminate, and half of those took no effect. If it is `spoilt`, the last one sees what a key
/// held before its last value.
fn history(keys: usize, wide: u64, spoilt: bool, rng: &mut ChaCha8Rng) -> Vec<(u64, u64, Vec<Micro>)> {
    let (mut held, mut before, mut next) = (vec![0; keys], vec![0; keys], 1);
    let mut txns: Vec<(u64, u64, Vec<Micro>)> = Vec::new();
    for n in 0..60 {
        let at = 1000 + 10 * n;
        let unknown = rng.random_bool(0.1);
        let happened = !unknown || rng.random_bool(0.5);
        let steps = (0..rng.random_range(1..=3)).map(|_| {
            let key = rng.random_range(0..keys);
            let name = format!("k{key}");
            match rng.random_bool(0.5) {
                true if unknown => Micro::Read(name.as_str().into(), None),
                true => r(&name, held[key]),
                false => {
                    if happened {
                        (before[key], held[key]) = (held[key], next);
                    }
                    next += 1;
                    w(&name, next - 1)
                }
            }
        });
        let steps = steps.collect();
        let (call, ret) = (at - rng.random_range(0..wide), at + rng.random_range(0..wide));
        txns.push((call, if unknown { NEVER } else { ret }, steps));
    }
    if spoilt {
        txns.push((3000, 3001, vec![r("k0", before[0])]));
    }
    txns
}

/// As for the search of everything else: none of these numbers is sacred; who changes what is tried changes them, and sees whether
/// it is more than before.
#[test]
fn what_a_search_costs_is_known() {
    const MUCH: Budget = Budget { steps: 1 << 20, memory: 1 << 24, deadline: Deadline::NEVER };
    let costs = |keys, wide| {
        let (mut invalid, mut steps, mut bytes, mut looks, mut stopped) = (0, 0, 0, 0, [0; 2]);
        for seed in 0..10 {
            let txns = history(keys, wide, seed % 2 == 1, &mut ChaCha8Rng::seed_from_u64(seed));
            let txns: Vec<Txn> = txns.iter().map(|(call, ret, steps)| (*call, *ret, &steps[..])).collect();
            let ops = ops(&txns);
            let told = |budget| judge(&Value::Nil, &ops, budget);
            let verdict = told(MUCH);
            match &verdict {
                Verdict::Linearizable(order) => drop(happens(&txns, order.clone())),
                Verdict::Violation(..) => invalid += 1,
                other => panic!("{keys} {wide} {seed}: {other:?}"),
            }
            let needed = least(MUCH.steps, |steps| told(Budget { steps, ..MUCH }) == verdict);
            steps += needed;
            bytes += least(MUCH.memory, |memory| told(Budget { memory, ..MUCH }) == verdict);
            looks += least(1 << 10, |looks| {
                told(Budget { deadline: Deadline::after_looks(looks).0, ..MUCH }) == verdict
            });
            if let Verdict::Unknown(spent) = told(Budget { steps: needed / 2, ..MUCH }) {
                stopped = [stopped[0] + spent.reached, stopped[1] + spent.steps];
            }
        }
        (invalid, steps, bytes, looks, stopped)
    };
    let known = [
        (1, 40, (4, 1203, 2448, 0, [9370, 613])),
        (3, 60, (4, 2821, 4176, 1, [12_001, 1441])),
        (3, 150, (4, 14_121, 12_528, 9, [11_812, 7111])),
        (8, 150, (3, 14_708, 12_528, 11, [12_911, 7399])),
    ];
    let found = known.map(|(keys, wide, _)| (keys, wide, costs(keys, wide)));
    assert_eq!(found, known, "keys, width; invalid, steps, bytes, looks, and where half of the steps ends");
    let numbers: HashSet<[u64; 2]> =
        (0..1000).map(|n| number(&n)).map(|n| [n as u64, (n >> 64) as u64]).collect();
    let halves: HashSet<u64> = numbers.into_iter().flatten().collect();
    assert_eq!(halves.len(), 2000, "128 bits");
}
