//! Each kind of contradiction with its near miss, and the orders of what is right.

use super::*;

const NEVER: u64 = u64::MAX;

fn a(key: &str, element: i64) -> Micro {
    Micro::Append(key.into(), element.into())
}

fn r(key: &str, list: &[i64]) -> Micro {
    Micro::Read(key.into(), Some(Value::List(list.iter().copied().map(Value::Int).collect())))
}

/// When it began and ended, and its steps.
pub(in super::super) type Txn<'a> = (u64, u64, &'a [Micro]);

pub(in super::super) fn ops(txns: &[Txn]) -> Vec<Op> {
    let op = |(id, (call, ret, steps)): (usize, &Txn)| Op {
        id,
        call: *call,
        ret: *ret,
        action: Action::Txn((*steps).into()),
    };
    txns.iter().enumerate().map(op).collect()
}

/// Who is in an order, which gives every result and contradicts no real time.
pub(in super::super) fn happens(txns: &[Txn], mut order: Vec<usize>) -> Vec<usize> {
    use crate::model::{Model, Txn as Keys};
    let ops = ops(txns);
    let model = Keys { initial: Value::Nil };
    let (mut state, mut latest) = (model.initial(), 0);
    for op in order.iter().map(|i| &ops[*i]) {
        assert!(op.ret >= latest, "{order:?} contradicts real time");
        latest = latest.max(op.call);
        state = model.step(&state, &op.action).unwrap_or_else(|| panic!("{order:?} gives other results"));
    }
    order.sort_unstable();
    order
}

fn valid(txns: &[Txn]) -> Vec<usize> {
    match judge(&ops(txns)) {
        Verdict::Linearizable(order) => happens(txns, order),
        other => panic!("{other:?}"),
    }
}

fn fault(txns: &[Txn]) -> Fault {
    match judge(&ops(txns)) {
        Verdict::Violation(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// The reasons of a circle in words, from its first transaction on.
fn circle(txns: &[Txn]) -> String {
    let Kind::Circle(circle) = fault(txns).kind else { panic!("{:?}", fault(txns)) };
    let told = circle.iter().map(|(op, why)| match why {
        Why::Before(key, first, second) => format!("{op} {key}{first}<{key}{second}"),
        Why::Read(key, element) => format!("{op} read {key}{element}"),
        Why::Missed(key, element) => format!("{op} missed {key}{element}"),
        Why::Over => format!("{op} over"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Three that overlap, and what the third reads.
fn overlap<'a>(first: &'a [Micro], second: &'a [Micro], third: &'a [Micro]) -> [Txn<'a>; 3] {
    [(0, 9, first), (0, 9, second), (0, 9, third)]
}

#[test]
fn what_was_read_forces_an_order_or_a_circle() {
    let (one, two) = ([a("x", 1), a("y", 1)], [a("x", 2), a("y", 2)]);
    assert_eq!(circle(&overlap(&one, &two, &[r("x", &[1, 2]), r("y", &[2, 1])])), "0 x1<x2, 1 y2<y1");
    assert_eq!(valid(&overlap(&one, &two, &[r("x", &[2, 1]), r("y", &[2, 1])])), [0, 1, 2]);

    let flow = [a("x", 1), r("y", &[1])];
    assert_eq!(circle(&overlap(&flow, &[a("y", 1), r("x", &[1])], &[])), "0 read x1, 1 read y1");
    assert_eq!(valid(&overlap(&flow, &[a("y", 1), r("x", &[])], &[])), [0, 1, 2]);

    let half = [a("x", 1), a("x", 2)];
    assert_eq!(circle(&overlap(&half, &[r("x", &[1])], &[])), "0 read x1, 1 missed x2");
    assert_eq!(circle(&overlap(&half, &[r("x", &[1])], &[r("x", &[1, 2])])), "0 read x1, 1 missed x2");
    assert_eq!(valid(&overlap(&half, &[r("x", &[1, 2])], &[r("x", &[])])), [0, 1, 2]);

    assert_eq!(circle(&overlap(&one, &[r("x", &[]), r("y", &[1])], &[])), "0 read y1, 1 missed x1");
    assert_eq!(valid(&overlap(&one, &[r("x", &[]), r("y", &[])], &[])), [0, 1, 2]);

    let skew = [r("x", &[]), a("y", 1)];
    assert_eq!(circle(&overlap(&skew, &[r("y", &[]), a("x", 1)], &[])), "0 missed x1, 1 missed y1");
    assert_eq!(valid(&overlap(&skew, &[r("y", &[1]), a("x", 1)], &[])), [0, 1, 2]);
}

#[test]
fn what_nobody_read_comes_after_all_that_was_and_after_those_reads() {
    let update = [r("x", &[]), a("x", 1)];
    assert_eq!(circle(&overlap(&update, &[r("x", &[]), a("x", 2)], &[])), "0 missed x2, 1 missed x1");
    assert_eq!(valid(&overlap(&update, &[a("x", 2)], &[])), [0, 1, 2], "who found nothing comes first");
    assert_eq!(valid(&[(0, 9, &[a("x", 2)]), (0, 9, &update), (0, 9, &[r("x", &[])])]), [0, 1, 2]);
    assert_eq!(circle(&[(0, 1, &[a("x", 2)]), (2, 3, &update)]), "0 over, 1 missed x2");
    let read =
        [(0, 9, &[a("x", 1)][..]), (0, 9, &[a("x", 2)]), (0, 9, &[r("x", &[1])]), (3, 9, &[a("x", 3)])];
    assert_eq!(valid(&read), [0, 1, 2, 3]);
    let mut early = read;
    early[2] = (4, 9, early[2].2);
    assert_eq!(valid(&early), [0, 1, 2, 3]);
    early[1] = (0, 3, early[1].2);
    assert_eq!(circle(&early), "1 over, 2 missed x2");
    // Whoever appended the last that was read, and more, is followed by the rest.
    let more = [a("x", 1), a("x", 2)];
    assert_eq!(circle(&overlap(&more, &[a("x", 3)], &[r("x", &[1])])), "0 read x1, 2 missed x2");
    let after = [(0, 1, &[a("x", 3)][..]), (2, 9, &[a("x", 1)]), (2, 9, &[r("x", &[1])])];
    assert_eq!(circle(&after), "0 over, 1 x1<x3");
}

#[test]
fn real_time_forces_what_reads_do_not() {
    let append = [a("x", 1)];
    assert_eq!(circle(&[(0, 1, &append), (2, 3, &[r("x", &[])])]), "0 over, 1 missed x1");
    assert_eq!(valid(&[(0, 2, &append), (2, 3, &[r("x", &[])])]), [0, 1], "a shared moment is no order");
    let through = [(0, 1, &[r("x", &[1])][..]), (2, 3, &[r("y", &[1])]), (0, 9, &[a("x", 1), r("y", &[])])];
    let last = [a("y", 1)];
    let late = [&through[..], &[(3, 9, &last)]].concat();
    assert_eq!(valid(&late), [0, 1, 2, 3]);
    let order = [(5, 9, &[a("x", 1)][..]), (0, 1, &[a("x", 2)]), (10, 11, &[r("x", &[1, 2])])];
    assert_eq!(circle(&order), "0 x1<x2, 1 over");
    assert_eq!(circle(&[(4, 9, &append), (2, 3, &[r("x", &[1])])]), "0 read x1, 1 over");
    // Not only the last that was over, and by however many ends.
    let last = [(0, 1, &append[..]), (0, 2, &[]), (0, 3, &[]), (4, 5, &[r("x", &[])])];
    assert_eq!(circle(&last), "0 over, 3 missed x1");
}

#[test]
fn a_list_that_is_none_has_its_kind() {
    let kind = |txns: &[Txn]| (fault(txns).kind, fault(txns).elements.into_iter().map(|(_, e)| e).collect());
    let elements = |all: &[i64]| -> Vec<Value> { all.iter().copied().map(Value::Int).collect() };
    let (one, two) = ([a("x", 1)], [a("x", 2)]);
    assert_eq!(kind(&overlap(&one, &[r("x", &[1, 7])], &[])), (Kind::Phantom, elements(&[7])));
    assert_eq!(kind(&overlap(&one, &[r("x", &[1, 1])], &[])), (Kind::Duplicate, elements(&[1])));
    let split = [(0, 9, &one[..]), (0, 9, &two), (0, 9, &[r("x", &[1])]), (0, 9, &[r("x", &[2])])];
    assert_eq!(kind(&split), (Kind::Divergent, elements(&[1, 2])));
    let shorter = [(0, 9, &one[..]), (0, 9, &two), (0, 9, &[r("x", &[7])]), (0, 9, &[r("x", &[1, 2])])];
    assert_eq!(kind(&shorter), (Kind::Phantom, elements(&[7])), "what is no list of the key is told first");
    assert_eq!(valid(&[(0, 9, &one), (0, 9, &two), (0, 9, &[r("x", &[2])])]), [0, 1, 2]);
}

#[test]
fn a_transaction_may_contradict_itself() {
    let alone = |steps: &[Micro], others: &[Micro]| {
        let fault = fault(&[(0, 9, steps), (0, 9, others)]);
        assert_eq!((fault.kind, fault.ops[0]), (Kind::Alone, 0));
    };
    let other = [a("x", 1)];
    alone(&[r("x", &[]), r("x", &[1])], &other);
    alone(&[r("x", &[1]), r("x", &[])], &other);
    alone(&[a("x", 2), r("x", &[])], &other);
    alone(&[a("x", 2), r("x", &[2, 1])], &other);
    alone(&[a("x", 2), a("x", 3), r("x", &[3, 2])], &other);
    alone(&[r("x", &[2]), a("x", 2)], &other);
    alone(&[a("x", 2), a("x", 3)], &[r("x", &[3, 2])]);
    alone(&[a("x", 2), a("x", 3)], &[r("x", &[3])]);
    let whole = [r("x", &[1]), a("x", 2), r("x", &[1, 2]), a("x", 3), r("x", &[1, 2, 3])];
    assert_eq!(valid(&[(0, 9, &whole), (0, 9, &other)]), [0, 1]);
    assert_eq!(valid(&[(0, 9, &[a("x", 2), a("x", 3)]), (0, 9, &[r("x", &[2, 3])])]), [0, 1]);
}

#[test]
fn an_indeterminate_transaction_happened_if_something_of_it_was_seen() {
    let unknown = [a("x", 1), a("y", 1)];
    let seen = |after: &'static [Micro]| [(0, NEVER, &unknown[..]), (0, 1, &[]), (2, 3, after)];
    assert_eq!(valid(&[(0, NEVER, &unknown), (2, 3, &[r("x", &[]), r("y", &[])])]), [1]);
    let with = |steps: &[Micro]| {
        let txns = [(0, NEVER, &unknown[..]), (0, 1, &[r("x", &[1])]), (2, 3, steps)];
        judge(&ops(&txns))
    };
    assert_eq!(with(&[r("y", &[1])]), Verdict::Linearizable(vec![0, 1, 2]));
    let Verdict::Violation(fault) = with(&[r("y", &[])]) else { panic!("y1 is missed after x1 was read") };
    assert!(fault.elements.contains(&("x".to_owned(), 1.into())), "{fault:?} has to show that it happened");
    assert_eq!(valid(&seen(&[])), [1, 2]);
}

#[test]
fn of_other_keys_nothing_is_said_but_what_the_lists_alone_say() {
    let write = Micro::Write("z".into(), 1.into());
    let (one, two) = ([a("x", 1), write.clone()], [r("x", &[])]);
    assert_eq!(judge(&ops(&[(0, 9, &one), (0, 9, &two)])), Verdict::NotTold);
    assert_eq!(circle(&[(0, 1, &one), (2, 3, &two)]), "0 over, 1 missed x1");
    let twice = [a("x", 1), a("x", 1)];
    assert_eq!(judge(&ops(&[(0, 1, &twice), (2, 3, &two)])), Verdict::NotTold);
    let told = [(0, NEVER, &[r("x", &[]), a("y", 1)][..]), (0, 1, &[a("x", 1)]), (0, 1, &[r("y", &[1])])];
    assert_eq!(judge(&ops(&told)), Verdict::NotTold, "what it read counts only if it happened");
    let number = [Micro::Read("x".into(), Some(7.into()))];
    assert_eq!(judge(&ops(&[(0, 1, &[a("x", 1)]), (2, 3, &number)])), Verdict::NotTold);
}
