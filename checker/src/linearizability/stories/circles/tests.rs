//! Each class of transactions on lists, told of the fewest transactions and elements that show it.

use super::super::super::classify::tests::{Step, about, check};
use super::*;
use crate::deadline::Deadline;
use crate::history::{Action, Micro, Outcome};
use crate::model::ModelKind;

use Outcome::{Fail, Info, Ok};

fn a(key: &str, element: i64) -> Micro {
    Micro::Append(key.into(), element.into())
}

fn r(key: &str, list: &[i64]) -> Micro {
    Micro::Read(key.into(), Some(Value::List(list.iter().copied().map(Value::Int).collect())))
}

fn step(call: u64, ret: u64, outcome: Outcome, steps: &[Micro]) -> Step {
    (call, ret, outcome, Action::Txn(steps.into()))
}

/// Told of transactions that all overlap.
fn told(class: &str, core: &[usize], txns: &[&[Micro]]) -> Finding {
    let steps: Vec<Step> = txns.iter().map(|steps| step(0, 9, Ok, steps)).collect();
    check(ModelKind::Txn, class, core, &steps)
}

fn notes(finding: &Finding) -> Vec<&str> {
    finding.core.iter().map(|witness| &*witness.note).collect()
}

#[test]
fn circles_have_the_names_that_the_field_gives_them() {
    let (one, two) = ([a("x", 1), a("y", 1)], [a("x", 2), a("y", 2)]);
    let writes = told("write cycle", &[0, 1, 2], &[&one, &two, &[r("x", &[1, 2]), r("y", &[2, 1])]]);
    assert_eq!(
        notes(&writes)[..2],
        ["before p1: in x, 1 stands before its 2", "before p0: in y, 2 stands before its 1"]
    );
    assert_eq!(
        writes.reason,
        "2 transactions each have to come before the next, and the last before the first, by what was read"
    );
    let flow =
        told("circular information flow", &[0, 1], &[&[a("x", 1), r("y", &[1])], &[a("y", 1), r("x", &[1])]]);
    assert_eq!(notes(&flow), ["before p1, which read x+=1", "before p0, which read y+=1"]);
    told("intermediate read", &[0, 1], &[&[a("x", 1), a("x", 2)], &[r("x", &[1])]]);
    let three = [&[a("x", 1)][..], &[r("x", &[1]), a("y", 1)], &[r("y", &[1]), r("x", &[])]];
    told("read skew", &[0, 1, 2], &three);
    let skew = told("write skew", &[0, 1], &[&[r("x", &[]), a("y", 1)], &[r("y", &[]), a("x", 1)]]);
    assert_eq!(notes(&skew)[0], "before p1, whose x+=1 it does not see");
}

#[test]
fn what_has_a_plainer_name_gets_that() {
    told("lost update", &[0, 1], &[&[r("x", &[]), a("x", 1)], &[r("x", &[]), a("x", 2)]]);
    told("fractured read", &[0, 1], &[&[a("x", 1), a("y", 1)], &[r("x", &[]), r("y", &[1])]]);
    told("duplicate apply", &[0, 1], &[&[a("x", 1)], &[r("x", &[1, 1])]]);
    told("phantom read", &[0], &[&[r("x", &[1])]]);
    told("internal inconsistency", &[0], &[&[a("x", 1), r("x", &[])]]);
    let split =
        told("split brain", &[0, 1, 2, 3], &[&[a("x", 1)], &[a("x", 2)], &[r("x", &[1])], &[r("x", &[2])]]);
    assert_eq!(split.reason, "two transactions saw two histories: one has 1 in x where the other has 2");
    // That stays so where one of the two would be stale by itself.
    let readers = [step(10, 15, Ok, &[r("x", &[1])]), step(20, 25, Ok, &[r("x", &[2])])];
    let split = [&[step(0, 40, Ok, &[a("x", 1)]), step(1, 41, Ok, &[a("x", 2)])], &readers[..]].concat();
    check(ModelKind::Txn, "split brain", &[0, 1, 2, 3], &split);
    let over = |call, steps: &[Micro]| step(call, call + 1, Ok, steps);
    check(ModelKind::Txn, "future read", &[0], &[over(0, &[r("x", &[1])]), over(2, &[a("x", 1)])]);
    let failed = step(0, 1, Fail, &[a("x", 1)]);
    check(ModelKind::Txn, "aborted read", &[1], &[failed, over(2, &[r("x", &[1])])]);
    let lost = [over(0, &[a("x", 1)]), over(2, &[r("x", &[])])];
    check(ModelKind::Txn, "lost write", &[0, 1], &lost);
    let stale = [&lost[..], &[over(4, &[r("x", &[1])])]].concat();
    check(ModelKind::Txn, "stale read", &[0, 1], &stale);
    let order = [over(0, &[a("x", 2)]), over(2, &[a("x", 1)]), over(4, &[r("x", &[1, 2])])];
    let order = check(ModelKind::Txn, "no valid order", &[0, 1, 2], &order);
    assert!(order.reason.ends_with("by what was read and real time"), "{}", order.reason);
}

#[test]
fn a_core_holds_nothing_that_it_does_not_need() {
    // A hundred elements and as many readers: two transactions and one element are enough.
    let mut steps: Vec<Step> = Vec::new();
    let mut list = Vec::new();
    for n in 0..100 {
        list.push(n);
        steps.push(step(10 * n as u64, 10 * n as u64 + 1, Ok, &[a("x", n), a("y", n)]));
        steps.push(step(10 * n as u64 + 2, 10 * n as u64 + 3, Ok, &[r("y", &list), r("x", &list)]));
    }
    steps.push(step(2000, 2001, Ok, &[r("x", &list[..99]), r("y", &list), a("z", 1)]));
    let found = check(ModelKind::Txn, "lost write", &[198, 200], &steps);
    let pair = |key: &str, n: i64| Value::List([Value::Text(key.into()), n.into()].into());
    assert_eq!(found.elements, Some(vec![pair("x", 99)]));
    assert_eq!(found.core[1].action, Action::Txn([r("x", &[])].into()));
    assert!(found.reason.ends_with("but a transaction that began at line 2000 does not see it"), "{found:?}");
    // That an indeterminate one happened has to be seen.
    let unknown = step(0, 1, Info, &[a("x", 1), a("y", 1)]);
    let seen = [unknown, step(2, 3, Ok, &[r("x", &[1])]), step(4, 5, Ok, &[r("y", &[])])];
    check(ModelKind::Txn, "stale read", &[0, 1, 2], &seen);
}

#[test]
fn registers_have_the_plain_names() {
    let w = |key: &str, value: i64| Micro::Write(key.into(), value.into());
    let r = |key: &str, value: i64| Micro::Read(key.into(), Some(value.into()));
    let nil = |key: &str| Micro::Read(key.into(), Some(Value::Nil));
    let half = told("intermediate read", &[0, 1], &[&[w("x", 1), w("x", 2)], &[r("x", 1)], &[r("x", 2)]]);
    assert_eq!(notes(&half), ["leaves x=2", "sees x=1, which was never left"]);
    let between = |core: &[usize], txns: &[&[Micro]]| {
        let steps: Vec<Step> = txns.iter().map(|steps| step(0, 9, Ok, steps)).collect();
        let story = |about: &About| about.between_two_writes(core).map(|(class, _, notes)| (class, notes));
        about(ModelKind::Txn, &steps, Deadline::NEVER, story)
    };
    let txns = [&[w("x", 1), w("x", 2)][..], &[r("y", 1)], &[r("x", 1)]];
    let two = vec![(0, "leaves x=2".to_owned()), (2, "sees x=1, which was never left".to_owned())];
    assert_eq!(between(&[0, 1, 2], &txns), Some(("intermediate read", two)), "not who sees something else");
    assert_eq!(between(&[0, 1], &txns), None);
    assert_eq!(between(&[0], &[&[w("x", 1), r("x", 1), w("x", 2)]]), None, "its own");
    told("internal inconsistency", &[0, 1], &[&[w("x", 1)], &[nil("x"), r("x", 1)]]);
    told("internal inconsistency", &[1], &[&[w("x", 1)], &[w("x", 2), nil("x")]]);
    told("phantom read", &[0], &[&[r("x", 7)]]);
    told("lost update", &[0, 1], &[&[nil("x"), w("x", 1)], &[nil("x"), w("x", 2)]]);
    told("fractured read", &[0, 1], &[&[w("x", 1), w("y", 1)], &[nil("x"), r("y", 1)]]);
    let skew = told("write skew", &[0, 1], &[&[nil("x"), w("y", 1)], &[nil("y"), w("x", 1)]]);
    assert_eq!(
        notes(&skew),
        ["before p1, whose x=1 it does not see", "before p0, whose y=1 it does not see"]
    );
    let flow = [&[w("x", 1), r("y", 1)][..], &[w("y", 1), r("x", 1)]];
    assert_eq!(
        notes(&told("circular information flow", &[0, 1], &flow)),
        ["before p1, which read x=1", "before p0, which read y=1"]
    );
    told("read skew", &[0, 1, 2], &[&[w("x", 1)], &[r("x", 1), w("y", 1)], &[r("y", 1), nil("x")]]);
    // Two values of one key have no order by themselves.
    let between = [
        &[w("x", 1), w("y", 1)][..],
        &[w("x", 2), w("y", 2)],
        &[r("x", 1), r("y", 2)],
        &[r("x", 2), r("y", 1)],
    ];
    told("no valid order", &[0, 1, 3], &between);
    // Two values of one key whose order time tells, or that somebody replaced knowingly.
    let over = |call, steps: &[Micro]| step(call, call + 1, Ok, steps);
    let old = over(0, &[w("x", 1), w("y", 1)]);
    let both =
        [old.clone(), step(2, 9, Ok, &[r("x", 1), w("y", 2)]), step(2, 9, Ok, &[r("y", 1), w("x", 2)])];
    let found = check(ModelKind::Txn, "write skew", &[0, 1, 2], &both);
    assert!(found.reason.ends_with("by what was read and real time"), "{}", found.reason);
    let both = [
        old,
        step(0, 9, Ok, &[r("x", 1), r("y", 1), w("y", 2)]),
        step(0, 9, Ok, &[r("y", 1), r("x", 1), w("x", 2)]),
    ];
    let found = check(ModelKind::Txn, "write skew", &[0, 1, 2], &both);
    assert!(found.reason.ends_with("by what was read"), "{}", found.reason);
    let shared = [
        step(0, 2, Ok, &[w("x", 1), w("y", 1)]),
        step(2, 9, Ok, &[r("x", 1), w("y", 2)]),
        step(2, 9, Ok, &[r("y", 1), w("x", 2)]),
    ];
    check(ModelKind::Txn, "no valid order", &[0, 1, 2], &shared);
    // However they began.
    for begins in [0, 1] {
        let late = [
            step(begins, 9, Ok, &[w("x", 1)]),
            step(0, 9, Ok, &[r("x", 1), w("x", 2), nil("y")]),
            step(0, 9, Ok, &[r("x", 1), w("y", 1)]),
        ];
        check(ModelKind::Txn, "write skew", &[0, 1, 2], &late);
    }
    let half =
        [[w("y", 1)].to_vec(), [r("y", 1), w("x", 1), w("y", 2)].to_vec(), [r("x", 1), r("y", 1)].to_vec()];
    told("read skew", &[0, 1, 2], &[&half[0], &half[1], &half[2]]);
    // The same values in two keys: that somebody read one of the other key says nothing.
    let other = [
        step(0, 9, Ok, &[w("x", 1), w("y", 1)]),
        step(0, 9, Ok, &[r("y", 1), w("x", 2), w("z", 1)]),
        step(0, 9, Ok, &[nil("z"), r("x", 2)]),
        step(0, 9, Ok, &[r("x", 1), r("z", 1)]),
    ];
    about(ModelKind::Txn, &other, Deadline::NEVER, |about| assert!(registers::circle(about.ops).is_none()));
    let over = |call, steps: &[Micro]| step(call, call + 1, Ok, steps);
    let stale = [over(0, &[w("x", 1)]), over(2, &[w("x", 2)]), over(4, &[r("x", 1)]), over(6, &[r("x", 2)])];
    check(ModelKind::Txn, "stale read", &[0, 1, 2], &stale);
    check(ModelKind::Txn, "lost write", &[0, 1, 2], &stale[..3]);
    // A hundred values before it: the last ones are enough.
    let mut long: Vec<Step> = Vec::new();
    for n in 0..100 {
        let at = 10 * n as u64;
        long.push(over(at, &[if n == 0 { nil("x") } else { r("x", n) }, w("x", n + 1), w("y", n + 1)]));
    }
    long.push(over(2000, &[r("x", 100), r("y", 99)]));
    let found = check(ModelKind::Txn, "lost write", &[98, 99, 100], &long);
    let pair = |key: &str, n: i64| Value::List([Value::Text(key.into()), n.into()].into());
    assert_eq!(found.elements, Some(vec![pair("y", 99), pair("y", 100)]));
}

/// Most contradictions are near the moment at which they show: only what is near is looked at, and twice as much each time.
#[test]
fn how_often_the_clock_is_looked_at_is_known() {
    let w = |key: &str, value: i64| Micro::Write(key.into(), value.into());
    let over = |call, steps: &[Micro]| step(call, call + 1, Ok, steps);
    let looks = |distance: i64| {
        let write = |n: i64| {
            let far = w(if n == 150 - distance { "far" } else { "near" }, n);
            over(10 * n as u64, &[w("x", n), far])
        };
        let mut txns: Vec<Step> = (1..=200).map(write).collect();
        // What comes later has nothing to do with it.
        txns.insert(150, over(1505, &[Micro::Read("far".into(), Some(Value::Nil))]));
        let seed: Vec<usize> = (0..txns.len()).collect();
        let judge = |deadline| {
            about(ModelKind::Txn, &txns, deadline, |about| about.explain_registers(seed.clone(), 1506))
        };
        let told = judge(Deadline::NEVER);
        let needed = (0..).find(|looks| judge(Deadline::after_looks(*looks).0) == told).expect("some number");
        let (fired, looks) = Deadline::after_looks(needed - 1);
        assert!(judge(fired).late);
        (told.core.len(), needed, looks.in_vain())
    };
    let known = [(2, 13, 0), (2, 16, 0), (2, 25, 0)];
    assert_eq!([1, 10, 100].map(looks), known, "operations of the core, looks, looks that were in vain");
}
