//! Each class with its near miss, by the engines where they find it, and by the words alone where they would not.

use super::super::{Budget, Engine, Judgement, judge, relevant};
use super::*;
use crate::history::{Clock, Micro, Operation, Phase};

pub(crate) type Step = (u64, u64, Outcome, Action);

/// `ok`, `fail` or `info` operations: `(invoke, complete, outcome, action)`.
fn history(model: ModelKind, steps: &[Step]) -> KeyHistory {
    let operation = |(i, (invoke, complete, outcome, action)): (usize, &Step)| Operation {
        index: i as u64,
        process: i as u64,
        action: action.clone(),
        outcome: *outcome,
        ended: None,
        invoke: *invoke,
        complete: Some(*complete),
        node: None,
        position: None,
        phase: Phase::Load,
    };
    KeyHistory { model, clock: Clock::Lines, operations: steps.iter().enumerate().map(operation).collect() }
}

fn finding(model: ModelKind, steps: &[Step]) -> Finding {
    let budget = Budget { steps: 1_000_000, memory: 1 << 28, deadline: Deadline::NEVER };
    match judge(&history(model, steps), Engine::Portfolio, budget) {
        Judgement::Invalid(finding) => finding,
        other => panic!("{other:?}"),
    }
}

/// What the words are, whoever found the contradiction.
pub(crate) fn about<T>(
    model: ModelKind,
    steps: &[Step],
    deadline: Deadline,
    told: impl FnOnce(&About) -> T,
) -> T {
    let key = history(model, steps);
    let ops = relevant(model, &key.operations);
    told(&About { key: &key, ops: &ops, deadline })
}

pub(crate) fn check(model: ModelKind, class: &str, core: &[usize], steps: &[Step]) -> Finding {
    let finding = finding(model, steps);
    assert_eq!(finding.class, class, "{finding:?}");
    assert_eq!(finding.core.iter().map(|w| w.operation).collect::<Vec<_>>(), core, "{finding:?}");
    finding
}

fn write(v: i64) -> Action {
    Action::Write(v.into())
}

fn read(v: i64) -> Action {
    Action::Read(v.into())
}

fn list(items: &[i64]) -> Action {
    Action::Read(Value::List(items.iter().copied().map(Value::Int).collect()))
}

fn append(v: i64) -> Action {
    Action::Append(v.into())
}

use Outcome::{Fail, Info, Ok};

#[test]
fn registers_fail_in_the_classes_of_the_field() {
    let model = REGISTER;
    let base = [(0, 1, Ok, write(1)), (2, 3, Ok, write(2)), (4, 5, Ok, read(1))];
    let lost = check(model, "lost write", &[0, 1, 2], &base);
    assert_eq!(
        lost.reason,
        "2 was acknowledged at line 3, but an operation that began at line 4 saw 1; nothing later shows 2"
    );
    assert_eq!(lost.core[2].note, "no write of 1 can follow 2");
    check(model, "stale read", &[0, 1, 2], &[&base[..], &[(6, 7, Ok, read(2))]].concat());
    let over = [&base[..], &[(6, 7, Ok, write(3)), (8, 9, Ok, read(3))]].concat();
    check(model, "stale read", &[0, 1, 2], &over);
    check(model, "lost write", &[0, 1], &[(0, 1, Ok, write(1)), (2, 3, Ok, Action::Read(Value::Nil))]);
    check(model, "phantom read", &[1], &[(0, 1, Ok, write(1)), (2, 3, Ok, read(7))]);
    check(model, "aborted read", &[1], &[(0, 1, Fail, write(1)), (2, 3, Ok, read(1))]);
    check(model, "future read", &[0], &[(0, 1, Ok, read(1)), (2, 3, Ok, write(1))]);
    let twice = [(0, 1, Ok, write(1)), (2, 3, Ok, cas(1, 2)), (2, 3, Ok, cas(1, 3))];
    check(model, "lost update", &[0, 1, 2], &twice);
    let back = [
        (0, 9, Ok, write(1)),
        (0, 9, Info, write(2)),
        (1, 2, Ok, read(1)),
        (3, 4, Ok, read(2)),
        (5, 6, Ok, read(1)),
    ];
    check(model, "stale read", &[0, 1, 2, 3, 4], &back);
}

#[test]
fn lists_fail_in_the_classes_of_the_field() {
    let model = ModelKind::ListAppend;
    let one = (0, 1, Ok, append(1));
    let lost =
        check(model, "lost write", &[1, 2], &[one.clone(), (2, 3, Ok, append(2)), (4, 5, Ok, list(&[1]))]);
    assert_eq!(lost.core[1].action, list(&[]), "reduced to the element that is missing");
    let seen = [one.clone(), (2, 3, Ok, list(&[])), (4, 5, Ok, list(&[1]))];
    check(model, "stale read", &[0, 1], &seen);
    check(model, "duplicate apply", &[0, 1], &[one.clone(), (2, 3, Ok, list(&[1, 1]))]);
    check(model, "phantom read", &[1], &[one.clone(), (2, 3, Ok, list(&[1, 2]))]);
    check(model, "aborted read", &[2], &[one.clone(), (0, 1, Fail, append(2)), (2, 3, Ok, list(&[1, 2]))]);
    check(model, "future read", &[0, 1], &[(0, 1, Ok, list(&[1])), (2, 3, Ok, append(1))]);
    let fork = [(0, 9, Ok, append(1)), (0, 9, Ok, append(2)), (2, 3, Ok, list(&[1])), (2, 3, Ok, list(&[2]))];
    check(model, "split brain", &[0, 1, 2, 3], &fork);
    let forked = [one.clone(), (0, 9, Ok, append(2)), (2, 3, Ok, list(&[1])), (2, 3, Ok, list(&[2]))];
    check(model, "lost write", &[0, 1, 2, 3], &forked);
    let swapped = [(0, 1, Ok, append(2)), (2, 3, Ok, append(1)), (4, 5, Ok, list(&[1, 2]))];
    check(model, "reordered writes", &[0, 1, 2], &swapped);
}

fn cas(a: i64, b: i64) -> Action {
    Action::Cas(a.into(), b.into())
}

fn add(n: i64) -> Action {
    Action::Add(n.into())
}

const REGISTER: ModelKind = ModelKind::CasRegister;
const COUNTER: ModelKind = ModelKind::Counter;

#[test]
fn what_was_never_written_is_told_from_what_was_there_at_first() {
    let from = ModelKind::RegisterFrom(0);
    check(from, "lost write", &[0, 1], &[(0, 1, Ok, write(1)), (2, 3, Ok, read(0))]);
    let other = [(0, 1, Ok, write(1)), (0, 1, Fail, write(8)), (2, 3, Ok, read(7))];
    check(REGISTER, "phantom read", &[2], &other);
    let future = |begins| {
        let steps = [(0, 1, Ok, read(1)), (begins, 3, Ok, write(1))];
        about(REGISTER, &steps, Deadline::NEVER, |about| about.never_written(&[0]).map(|story| story.0))
    };
    assert_eq!((future(1), future(2)), (None, Some("future read")));
    // Brought twice: no forced order, but the same words.
    let twice = [(0, 1, Ok, append(1)), (2, 3, Ok, append(1)), (4, 5, Ok, list(&[1, 7]))];
    let phantom = check(ModelKind::ListAppend, "phantom read", &[0, 1, 2], &twice);
    assert!(phantom.reason.starts_with("7 was seen"), "{}", phantom.reason);
    let nil =
        Action::Txn([("x", Value::Nil), ("y", 5.into())].map(|(k, v)| Micro::Read(k.into(), Some(v))).into());
    let phantom = finding(ModelKind::TxnFrom(0), &[(0, 1, Ok, nil)]);
    assert!(phantom.reason.starts_with("5 was seen"), "{}", phantom.reason);
}

#[test]
fn an_old_value_is_lost_or_stale_by_what_came_later() {
    let base = [(0, 1, Ok, write(1)), (2, 3, Ok, write(2)), (4, 5, Ok, read(1))];
    let rest = |more: &[Step]| {
        let steps = [&base[..], more].concat();
        let story = about(REGISTER, &steps, Deadline::NEVER, |about| about.old_value(&[0, 1, 2])).unwrap();
        (story.0, story.1.split_once("; ").unwrap().1.to_owned())
    };
    let lost = ("lost write", "nothing later shows 2".to_owned());
    assert_eq!(rest(&[]), lost);
    assert_eq!(rest(&[(6, 7, Ok, read(1))]), lost);
    assert_eq!(rest(&[(3, 4, Ok, read(2))]), lost, "before");
    assert_eq!(rest(&[(4, 9, Ok, read(2))]), lost, "beside");
    assert_eq!(rest(&[(5, 9, Ok, read(3))]), lost, "beside");
    assert_eq!(rest(&[(6, 7, Ok, read(2))]), ("stale read", "later operations show 2 again".to_owned()));
    assert_eq!(rest(&[(6, 7, Ok, read(3))]), ("stale read", "1 is not seen again".to_owned()));
    let touching = [(0, 1, Ok, write(1)), (2, 3, Ok, write(2)), (3, 4, Ok, write(3)), (4, 5, Ok, read(1))];
    let story = about(REGISTER, &touching, Deadline::NEVER, |about| about.old_value(&[0, 1, 2, 3])).unwrap();
    assert!(story.1.starts_with("2 was acknowledged at line 3"), "{}", story.1);
    let first =
        check(REGISTER, "lost write", &[0, 1], &[(0, 1, Ok, write(1)), (2, 3, Ok, Action::Read(Value::Nil))]);
    let note = "null was the value before all writes; 1 was acknowledged before this began";
    assert_eq!(first.core[1].note.replace("nil", "null"), note);
}

#[test]
fn a_value_is_gone_for_good_if_nobody_can_write_it_again() {
    // Of writes of 1 that may follow the last operation.
    let gone = |steps: &[Step]| {
        let core: Vec<usize> = (0..steps.len()).collect();
        about(REGISTER, steps, Deadline::NEVER, |about| {
            about.gone_for_good(&core, &1.into(), steps.len() - 1)
        })
    };
    let (one, two) = (|ret| (0, ret, Ok, write(1)), (3, 4, Ok, write(2)));
    assert!(gone(&[one(2), two.clone()]));
    assert!(!gone(&[one(3), two.clone()]), "beside");
    assert!(gone(&[one(9), (1, 2, Ok, read(1)), two.clone()]), "seen by then");
    assert!(!gone(&[one(9), (1, 3, Ok, read(1)), two.clone()]));
    assert!(!gone(&[one(9), (0, 1, Ok, write(5)), (1, 2, Ok, read(5)), two.clone()]));
    assert!(gone(&[one(9), (3, 4, Ok, cas(1, 2))]), "replaced");
    assert!(!gone(&[one(9), one(9), (1, 2, Ok, read(1)), two]), "one of them may follow");
}

#[test]
fn a_value_went_back_if_another_was_seen_in_its_place() {
    let back = |from| {
        [
            (0, 9, Ok, write(1)),
            (0, 9, Info, write(2)),
            (1, 2, Ok, read(1)),
            (3, from, Ok, read(2)),
            (5, 6, Ok, read(1)),
        ]
    };
    let told = |steps: &[Step]| {
        let core: Vec<usize> = (0..steps.len()).collect();
        about(REGISTER, steps, Deadline::NEVER, |about| about.old_value(&core).map(|story| story.0))
    };
    assert_eq!(told(&back(4)), Some("stale read"));
    assert_eq!(told(&back(5)), None, "beside");
    // Who nobody heard of may have written it again.
    let again = [
        (0, 1, Ok, write(1)),
        (2, 3, Ok, write(2)),
        (2, 3, Ok, read(2)),
        (4, 6, Ok, read(1)),
        (5, 9, Info, cas(7, 1)),
    ];
    assert_eq!(told(&again), None);
}

#[test]
fn an_update_is_lost_if_its_value_was_there_once() {
    let once = [(0, 1, Ok, write(1)), (2, 3, Ok, cas(1, 2)), (4, 5, Ok, read(1))];
    check(REGISTER, "lost write", &[0, 1, 2], &once);
    let told = |steps: &[Step], core: &[usize]| {
        about(REGISTER, steps, Deadline::NEVER, |about| about.lost_update(core).map(|story| story.0))
    };
    let twice = [(0, 1, Ok, write(1)), (2, 3, Ok, cas(1, 2)), (4, 5, Ok, cas(1, 3))];
    assert_eq!(told(&twice, &[0, 1, 2]), Some("lost update"));
    assert_eq!(told(&[&twice[..2], &[(4, 5, Ok, cas(2, 3))]].concat(), &[0, 1, 2]), None);
    assert_eq!(told(&[&twice[..], &[(0, 9, Ok, write(1))]].concat(), &[0, 1, 2, 3]), None);
    let swap = |to: i64| Action::Cas(Value::Nil, to.into());
    let initial = [(0, 1, Ok, swap(1)), (2, 3, Ok, swap(2))];
    assert_eq!(told(&initial, &[0, 1]), Some("lost update"));
    let deleted = [&initial[..], &[(0, 9, Ok, Action::Write(Value::Nil))]].concat();
    assert_eq!(told(&deleted, &[0, 1, 2]), None);
    // Large cores are not searched for words.
    let large = |more| [vec![1, 2], vec![0; PAIRED_MAX - 2 + more]].concat();
    assert_eq!((told(&twice, &large(0)), told(&twice, &large(1))), (Some("lost update"), None));
    let old = |core: &[usize]| {
        about(REGISTER, &once, Deadline::NEVER, |about| about.old_value(core).map(|story| story.0))
    };
    let large = |more| [vec![0, 1], vec![2; PAIRED_MAX - 2 + more]].concat();
    assert_eq!((old(&large(0)), old(&large(1))), (Some("lost write"), None));
}

#[test]
fn a_wrong_sum_is_called_by_what_it_counts() {
    let (one, two) = ((0, 1, Ok, add(1)), (2, 3, Ok, add(2)));
    let with = |rest: &[Step]| [&[one.clone(), two.clone()][..], rest].concat();
    let lost = check(COUNTER, "lost write", &[0, 1, 2], &with(&[(4, 5, Ok, read(1))]));
    assert!(
        lost.reason.ends_with("shows 1: an add that was acknowledged before is missing"),
        "{}",
        lost.reason
    );
    let later = |from, to, sum| with(&[(4, 6, Ok, read(1)), (from, to, Ok, read(sum))]);
    let stale = check(COUNTER, "stale read", &[0, 1, 2], &later(7, 8, 3));
    assert!(stale.reason.ends_with("is missing, later reads count it"), "{}", stale.reason);
    check(COUNTER, "lost write", &[0, 1, 2], &later(6, 8, 3));
    check(COUNTER, "lost write", &[0, 1, 2], &later(7, 8, 1));
    let before = [one.clone(), (1, 2, Ok, read(1)), (3, 4, Ok, add(2)), (5, 6, Ok, read(1))];
    check(COUNTER, "lost write", &[0, 2, 3], &before);
    let beside = [&later(8, 9, 3)[..], &[(7, 8, Ok, add(4))]].concat();
    check(COUNTER, "stale read", &[0, 1, 2], &beside);
    let future =
        check(COUNTER, "future read", &[0, 1], &[one.clone(), (2, 3, Ok, read(3)), (4, 5, Ok, add(2))]);
    assert!(future.reason.ends_with("counts an add that had not begun when it ended"), "{}", future.reason);
    let failed = [one.clone(), (0, 1, Fail, add(4)), (2, 3, Ok, read(5))];
    check(COUNTER, "aborted read", &[0, 2], &failed);
    let twice = check(COUNTER, "duplicate apply", &[0, 1, 2], &with(&[(4, 5, Ok, read(5))]));
    assert!(twice.reason.ends_with("shows 5, which counts an add of 2 twice"), "{}", twice.reason);
    let never = check(COUNTER, "impossible sum", &[0, 1, 2], &with(&[(4, 5, Ok, read(9))]));
    assert!(never.reason.ends_with("no choice of adds gives that sum"), "{}", never.reason);
    // Either read is right by itself.
    let both = [(0, 3, Ok, add(1)), (0, 2, Ok, read(1)), (3, 4, Ok, read(0))];
    check(COUNTER, "no valid order", &[0, 1, 2], &both);
}

#[test]
fn sums_are_told_apart_up_to_a_bound_and_in_time() {
    // All sums from 0 to `sums - 1`; the read shows none of them.
    let named = |sums: i64, deadline| {
        let powers = (0..).map(|n| 1 << n).take_while(|power| 2 * power <= sums).collect::<Vec<i64>>();
        let rest = sums - 1 - powers.iter().sum::<i64>();
        let adds = powers.into_iter().chain((rest > 0).then_some(rest)).map(|n| (0, 9, Ok, add(n)));
        let steps: Vec<Step> = adds.chain([(1, 2, Ok, read(1 << 40))]).collect();
        let core: Vec<usize> = (0..steps.len()).collect();
        about(COUNTER, &steps, deadline, |about| about.wrong_sum(&core)).is_some()
    };
    let (most, few) = (SUMS_MAX as i64, SUMS_LATE as i64);
    assert!(named(most, Deadline::NEVER) && !named(most + 1, Deadline::NEVER));
    let late = || Deadline::after_looks(0).0;
    assert!(named(few, late()) && !named(few + 1, late()));
}

#[test]
fn what_is_late_says_so_and_has_a_name_if_it_is_small() {
    let lost = |adds: u64| {
        let adds = (0..adds).map(|n| (2 * n, 2 * n + 1, Ok, add(1)));
        adds.chain([(1000, 1001, Ok, read(0))]).collect::<Vec<Step>>()
    };
    let explained = |steps: &[Step], deadline| {
        let finding = about(COUNTER, steps, deadline, |about| about.explain((0..steps.len()).collect()));
        (finding.class, finding.late)
    };
    let late = || Deadline::after_looks(0).0;
    assert_eq!(explained(&lost(100), Deadline::NEVER), ("lost write", false));
    let small = LATE_MAX as u64 - 1;
    assert_eq!(explained(&lost(small), late()), ("lost write", true));
    assert_eq!(explained(&lost(small + 1), late()), ("no valid order", true));
    // The last look is made when the name is found.
    let steps = [(0, 1, Ok, write(1)), (2, 3, Ok, write(2)), (4, 5, Ok, read(1))];
    let shrunk_late = |looks| {
        about(REGISTER, &steps, Deadline::after_looks(looks).0, |about| {
            Closure::new(REGISTER, about.ops, about.deadline).shrink(vec![0, 1, 2]).1
        })
    };
    let looks = (0..).find(|looks| !shrunk_late(*looks)).unwrap();
    let explain = |looks| {
        let deadline = Deadline::after_looks(looks).0;
        about(REGISTER, &steps, deadline, |about| about.explain(vec![0, 1, 2]).late)
    };
    assert_eq!((explain(looks), explain(looks + 1)), (true, false));
}

#[test]
fn what_a_read_misses_is_lost_or_stale_by_what_came_later() {
    let list_append = ModelKind::ListAppend;
    let missed = |more: &[Step]| [&[(0, 1, Ok, append(1)), (2, 4, Ok, list(&[]))][..], more].concat();
    check(list_append, "lost write", &[0, 1], &missed(&[]));
    check(list_append, "stale read", &[0, 1], &missed(&[(5, 6, Ok, list(&[1]))]));
    let unsure = [(0, 9, Info, append(1)), (2, 3, Ok, list(&[1])), (4, 5, Ok, list(&[]))];
    let vanished = check(list_append, "stale read", &[0, 1, 2], &unsure);
    assert!(vanished.reason.starts_with("1 had been seen, but"), "{}", vanished.reason);
    // Acknowledged when the read ended: beside it, and so not before.
    let beside = [(0, 5, Ok, append(1)), (2, 3, Ok, list(&[1])), (4, 5, Ok, list(&[]))];
    let vanished = check(list_append, "stale read", &[0, 1, 2], &beside);
    assert!(vanished.reason.starts_with("1 had been seen, but"), "{}", vanished.reason);
    // Of two histories the one that misses what was acknowledged before it began.
    let fork = |ret| {
        [(0, ret, Ok, append(1)), (0, 9, Ok, append(2)), (2, 3, Ok, list(&[1])), (2, 3, Ok, list(&[2]))]
    };
    let forked = check(list_append, "lost write", &[0, 1, 2, 3], &fork(1));
    assert_eq!(forked.core[3].note, "misses 1");
    check(list_append, "split brain", &[0, 1, 2, 3], &fork(2));
}
