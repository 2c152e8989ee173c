//! Each class of locks, queues, texts and transactions with its near miss.

use super::super::classify::tests::{Step, about, check};
use super::*;
use crate::deadline::Deadline;
use crate::history::Micro;
use crate::model::ModelKind;

use Outcome::{Fail, Info, Ok};

/// The class that a story about all of these operations has.
fn class(
    model: ModelKind,
    steps: &[Step],
    story: impl Fn(&About, &[usize]) -> Option<Story>,
) -> Option<&'static str> {
    about(model, steps, Deadline::NEVER, |about| {
        let core: Vec<usize> = (0..about.ops.len()).collect();
        story(about, &core).map(|story| story.0)
    })
}

#[test]
fn a_lock_is_held_twice_or_given_back_twice() {
    let acquire = |call| (call, call + 1, Ok, Action::Acquire);
    let release = |call| (call, call + 1, Ok, Action::Release);
    let held = check(ModelKind::Mutex, "held twice", &[0, 1], &[acquire(0), acquire(2)]);
    assert_eq!(held.core[1].note, "takes what another holds");
    let twice = [acquire(0), release(2), release(4)];
    let released = check(ModelKind::Mutex, "released twice", &[0, 1, 2], &twice);
    assert_eq!(released.core[2].note, "gives back what nobody holds");
}

#[test]
fn an_element_of_a_queue_is_missing_late_or_there_twice() {
    let model = ModelKind::FifoQueue;
    let enqueue = |call, v: i64| (call, call + 1, Ok, Action::Enqueue(v.into()));
    let take = |call, v: i64| (call, call + 1, Ok, Action::Dequeue(Some(v.into())));
    let empty = (2, 3, Ok, Action::Dequeue(Some(Value::Nil)));
    let found = check(model, "lost write", &[0, 1], &[enqueue(0, 1), empty]);
    assert!(found.reason.starts_with("the dequeue that began at line 2 found nothing"), "{}", found.reason);
    let twice = check(model, "duplicate apply", &[0, 1, 2], &[enqueue(0, 1), take(2, 1), take(4, 1)]);
    assert_eq!([&twice.core[1].note, &twice.core[2].note], ["takes 1", "takes 1 again"]);
    let lost = check(model, "lost write", &[0, 1, 2], &[enqueue(0, 1), enqueue(2, 2), take(4, 2)]);
    assert!(lost.reason.starts_with("1 was acknowledged at line 1 and never dequeued"), "{}", lost.reason);
    let swapped = [enqueue(0, 1), enqueue(2, 2), take(4, 2), take(6, 1)];
    let late = check(model, "reordered writes", &[0, 1, 2, 3], &swapped);
    assert_eq!(late.core[3].note, "1 comes late");
    let story = |about: &About, core: &[usize]| Some(about.queue_story(core));
    let unknown = (0, 9, Info, Action::Enqueue(9.into()));
    let unsure = [&[unknown][..], &swapped].concat();
    assert_eq!(
        class(model, &unsure, story),
        Some("reordered writes"),
        "what may never have been is not lost"
    );
    assert_eq!(class(model, &unsure[..1], story), Some("no valid order"));
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn a_text_is_held_against_its_pieces() {
    let append = |call, piece: &str| (call, call + 1, Ok, Action::Append(text(piece)));
    let put = |call, piece: &str| (call, call + 1, Ok, Action::Write(text(piece)));
    let read = |call, shown: &str| (call, call + 2, Ok, Action::Read(text(shown)));
    let failed = |piece: &str| (0, 1, Fail, Action::Append(text(piece)));
    let told = |steps: &[Step]| class(ModelKind::Kv, steps, |about, core| about.wrong_text(core));
    let a = || append(0, "a");

    assert_eq!(told(&[a(), failed("z"), read(2, "az")]), Some("aborted read"));
    assert_eq!(told(&[append(0, "zz"), failed("z"), read(2, "zz!")]), Some("phantom read"));

    let begun = |call| told(&[a(), read(2, "ab"), append(call, "b")]);
    assert_eq!((begun(5), begun(4)), (Some("future read"), None));
    assert_eq!(told(&[append(0, "b"), read(2, "bb"), append(5, "b")]), None, "one of two, twice");

    assert_eq!(told(&[a(), read(2, "aa")]), Some("duplicate apply"));
    assert_eq!(told(&[a(), append(0, "ab"), read(2, "aab")]), None);

    let missing = |rest: &[Step]| told(&[&[a(), append(2, "b")][..], rest].concat());
    assert_eq!(missing(&[read(4, "a")]), Some("lost write"));
    assert_eq!(missing(&[read(3, "a")]), None, "beside");
    let early = (4, 5, Ok, Action::Read(text("ab")));
    assert_eq!(missing(&[early, read(5, "a")]), Some("lost write"), "shown before, but not after");
    let by_reads = |other: Step| {
        let steps = [a(), append(2, "b"), read(4, "a"), other];
        about(ModelKind::Kv, &steps, Deadline::NEVER, |about| about.wrong_text(&[0, 1, 2])).unwrap().0
    };
    assert_eq!(by_reads(read(7, "ab")), "stale read");
    assert_eq!(by_reads(read(4, "ab")), "lost write", "beside");
    assert_eq!(told(&[a(), (2, 3, Ok, Action::Read(Value::Nil))]), Some("lost write"));
    let nothing = [a(), append(0, ""), failed(""), append(2, "b"), read(4, "a")];
    assert_eq!(told(&nothing), Some("lost write"), "empty pieces are everywhere");

    // A put replaces what came before it, or beside it.
    assert_eq!(told(&[a(), put(2, "c"), read(4, "c")]), None);
    assert_eq!(told(&[put(0, "a"), append(2, "b"), read(4, "b")]), Some("lost write"));
    assert_eq!(told(&[put(0, "c"), append(2, "a"), read(4, "c")]), Some("lost write"));
    assert_eq!(told(&[put(1, "c"), append(2, "a"), read(4, "c")]), None);
    assert_eq!(told(&[a(), (2, 3, Ok, Action::Read(Value::Nil)), put(4, "c")]), Some("lost write"));

    assert_eq!(told(&[a(), read(2, "ax")]), Some("phantom read"));
    assert_eq!(told(&[append(0, "bc"), put(0, "a"), read(2, "abc")]), None);
    check(ModelKind::Kv, "phantom read", &[0, 1], &[a(), read(2, "ax")]);
}

fn wrote(key: &str, v: i64) -> Micro {
    Micro::Write(key.into(), v.into())
}

fn appended(key: &str, v: i64) -> Micro {
    Micro::Append(key.into(), v.into())
}

fn saw(key: &str, v: i64) -> Micro {
    Micro::Read(key.into(), Some(v.into()))
}

fn saw_list(key: &str, items: &[i64]) -> Micro {
    Micro::Read(key.into(), Some(Value::List(items.iter().copied().map(Value::Int).collect())))
}

fn absent(key: &str) -> Micro {
    Micro::Read(key.into(), Some(Value::Nil))
}

fn txn(call: u64, ret: u64, steps: &[Micro]) -> Step {
    (call, ret, Ok, Action::Txn(steps.into()))
}

#[test]
fn a_transaction_that_sees_half_of_another_is_fractured() {
    let told = |steps: &[Step]| class(ModelKind::Txn, steps, |about, core| about.fractured(core));
    let writer = txn(3, 9, &[wrote("x", 1), wrote("y", 1)]);
    let half = txn(3, 9, &[saw("x", 1), absent("y")]);
    let both = [writer.clone(), half];
    check(ModelKind::Txn, "fractured read", &[0, 1], &both);
    assert_eq!(told(&[writer.clone(), txn(3, 9, &[saw("x", 1), saw("y", 1)])]), None);
    assert_eq!(told(&[writer.clone(), txn(3, 9, &[absent("x"), absent("y")])]), None);
    assert_eq!(told(&[writer.clone(), txn(3, 9, &[saw("x", 1), absent("z")])]), None);
    assert_eq!(told(&[writer.clone(), txn(3, 9, &[saw("z", 1), absent("x")])]), None);
    // What it saw instead was there before, or may have come after.
    let older =
        |ret| told(&[writer.clone(), txn(0, ret, &[wrote("y", 2)]), txn(3, 9, &[saw("x", 1), saw("y", 2)])]);
    assert_eq!((older(2), older(3)), (Some("fractured read"), None));
    let unrelated = [
        writer,
        txn(3, 9, &[wrote("z", 2)]),
        txn(0, 1, &[wrote("y", 2)]),
        txn(3, 9, &[saw("x", 1), saw("y", 2)]),
    ];
    assert_eq!(told(&unrelated), Some("fractured read"));
    let lists = txn(3, 9, &[appended("l", 1), appended("m", 1)]);
    assert_eq!(
        told(&[lists.clone(), txn(3, 9, &[saw_list("l", &[7, 1]), saw_list("m", &[])])]),
        Some("fractured read")
    );
    assert_eq!(told(&[lists, txn(3, 9, &[saw_list("l", &[7, 1]), saw_list("m", &[7, 1])])]), None);
}

#[test]
fn an_update_is_lost_if_two_transactions_changed_what_was_there_once() {
    let told = |steps: &[Step]| class(ModelKind::Txn, steps, |about, core| about.updated_twice(core));
    let one = txn(0, 1, &[wrote("x", 1)]);
    let update = |from: i64, to: i64| txn(2, 9, &[saw("x", from), wrote("x", to)]);
    let both = [one.clone(), update(1, 2), update(1, 3)];
    let lost = check(ModelKind::Txn, "lost update", &[0, 1, 2], &both);
    let notes = ["changes x=1", "changes x=1 as well, which is gone by then"];
    assert_eq!([&lost.core[1].note, &lost.core[2].note], notes);
    assert_eq!(told(&[one.clone(), update(1, 2), update(2, 3)]), None);
    let reader = txn(2, 9, &[saw("x", 1), wrote("y", 3)]);
    assert_eq!(told(&[one.clone(), update(1, 2), reader.clone()]), None);
    assert_eq!(told(&[one.clone(), reader, update(1, 2)]), None);
    assert_eq!(told(&[&both[..], &[one]].concat()), None, "written twice");
    let from_nothing = |to| txn(2, 9, &[absent("x"), wrote("x", to)]);
    let initial = [from_nothing(2), from_nothing(3)];
    assert_eq!(told(&initial), Some("lost update"));
    let deleted = txn(0, 9, &[Micro::Write("x".into(), Value::Nil)]);
    assert_eq!(told(&[&initial[..], &[deleted]].concat()), None, "there again");
}

#[test]
fn a_transaction_that_sees_what_was_gone_lost_a_write_or_is_stale() {
    let told = |steps: &[Step]| class(ModelKind::Txn, steps, |about, core| about.old_transaction(core));
    let history = |first, second| {
        [txn(0, first, &[wrote("x", 1)]), txn(2, second, &[wrote("x", 2)]), txn(4, 5, &[saw("x", 1)])]
    };
    let old = history(1, 3);
    check(ModelKind::Txn, "lost write", &[0, 1, 2], &old);
    assert_eq!(told(&old), Some("lost write"));
    assert_eq!((told(&history(2, 3)), told(&history(1, 4))), (None, None), "beside");
    let other = txn(4, 5, &[wrote("y", 1)]);
    assert_eq!(told(&[&old[..], &[other]].concat()), Some("lost write"));
    let with = |call| told(&[&old[..], &[txn(call, 9, &[saw("x", 2)])]].concat());
    assert_eq!((with(3), with(4), with(6)), (Some("lost write"), Some("lost write"), Some("stale read")));
    assert_eq!(told(&[&old[..], &[txn(6, 9, &[saw("x", 1)])]].concat()), Some("lost write"));
    let other = [txn(0, 1, &[wrote("y", 7)]), txn(2, 3, &[wrote("x", 2)]), txn(4, 5, &[saw("y", 7)])];
    assert_eq!(told(&other), None);
    let lists = |shown: &[i64]| {
        told(&[
            txn(0, 1, &[appended("l", 1)]),
            txn(2, 3, &[appended("l", 2)]),
            txn(4, 5, &[saw_list("l", shown)]),
        ])
    };
    assert_eq!((lists(&[1]), lists(&[1, 2])), (Some("lost write"), None));
}
