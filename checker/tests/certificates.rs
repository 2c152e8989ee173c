//! What `check` says of each key is shown by a certificate that `verify` accepts, and no other: of every golden, of what others
//! recorded, and of generated histories. `verify` shares no code with the engines.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::path::{Path, PathBuf};

use checker::bench::{self, Shape};
use checker::history::History;
use checker::interop::Reading;
use checker::verify::{Line, Verified, verify};
use checker::{Options, certify, judge};

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn certified(path: &Path) -> (History, String, Verified) {
    let (report, text) = certify(path, &Options::default()).unwrap();
    let history = judge::history(path, &Reading::default()).unwrap();
    let verified = verify(&history, &text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()));
    assert_eq!(
        (verified.valid, verified.invalid),
        (report.keys.valid, report.keys.invalid),
        "{}",
        path.display()
    );
    assert_eq!(verified.open.len() as u64, report.keys.unknown, "{}", path.display());
    (history, text, verified)
}

#[test]
fn every_recorded_history_has_a_certificate() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let histories = files(golden.join("histories"));
    let corpora = files(golden.join("corpora"));
    let corpora = corpora.iter().filter(|path| path.extension().is_none_or(|e| e != "md"));
    let (mut valid, mut invalid) = (0, 0);
    for path in histories.iter().chain(corpora) {
        let (_, _, verified) = certified(path);
        valid += verified.valid;
        invalid += verified.invalid;
    }
    assert!(valid > 50 && invalid > 50, "{valid} valid, {invalid} invalid");
}

#[test]
fn generated_histories_have_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.jsonl");
    for (values, unknown, lost_write, verdicts) in
        [(0, 0.0, false, (3, 0)), (0, 0.3, false, (3, 0)), (0, 0.05, true, (2, 1)), (5, 0.05, false, (3, 0))]
    {
        let shape = Shape {
            operations: 2000,
            keys: 3,
            clients: 9,
            unknown,
            values,
            lost_write,
            drain: 0,
            transactions: None,
        };
        bench::write(&path, &shape, 5).unwrap();
        let (_, _, verified) = certified(&path);
        assert_eq!((verified.valid, verified.invalid), verdicts, "{shape:?}");
    }
}

/// Certificates that are wrong, each in one place.
#[test]
fn what_shows_nothing_is_rejected() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/histories");
    let rejected = |file: &str, change: &dyn Fn(&mut Line), reason: &str| {
        let (history, text, _) = certified(&golden.join(file));
        let (header, line) = text.split_once('\n').unwrap();
        let mut line: Line = serde_json::from_str(line.trim()).unwrap();
        change(&mut line);
        let text = format!("{header}\n{}\n", serde_json::to_string(&line).unwrap());
        let error = verify(&history, &text).unwrap_err();
        assert!(error.contains(reason), "{error}");
    };
    let order = |change: fn(&mut Vec<u64>)| move |line: &mut Line| change(line.order.as_mut().unwrap());
    let core = |change: fn(&mut Vec<u64>)| move |line: &mut Line| change(line.core.as_mut().unwrap());
    let valid = "cas-register/valid/sequential.jsonl";
    rejected(valid, &order(|o| _ = o.pop()), "is missing");
    rejected(valid, &order(|o| o.push(o[0])), "twice");
    rejected(valid, &order(|o| o.push(1000)), "is not one of this key");
    let blind = "cas-register/valid/deleted-and-written-again.jsonl";
    rejected(blind, &order(|o| o.swap(0, 1)), "was over before one before it began");
    rejected(
        "mutex/valid/waits-for-the-release.jsonl",
        &order(|o| o.swap(1, 2)),
        "cannot have had its result",
    );
    rejected(valid, &|line| line.verdict = "invalid".into(), "another's evidence");
    rejected(valid, &|line| line.key = "nobody".into(), "there is no key");
    rejected(
        valid,
        &|line| (line.core, line.order, line.verdict) = (line.order.clone(), None, "invalid".into()),
        "has an order",
    );
    let invalid = "cas-register/invalid/stale-read.jsonl";
    rejected(invalid, &core(|c| _ = c.remove(1)), "has an order");
    rejected("cas-register/invalid/lost-update.jsonl", &core(|c| _ = c.remove(0)), "is not in the core");
    rejected(invalid, &|line| line.elements = Some(Vec::new()), "only lists and sets");
    rejected(
        "list-append/invalid/lost-write.jsonl",
        &|line| line.elements = Some(Vec::new()),
        "has an order",
    );
    rejected("fifo-queue/invalid/reordered-writes.jsonl", &core(|c| _ = c.pop()), "is not in the core");
    rejected("counter/invalid/aborted-read.jsonl", &|line| line.core.as_mut().unwrap().push(2), "failed");
    let (history, ..) = certified(&golden.join(valid));
    assert!(verify(&history, "").unwrap_err().contains("header"));
    let nothing = "{\"format\":\"whitewater-certificate\"}\n";
    assert_eq!(verify(&history, nothing).unwrap().open.len(), 1, "silence shows nothing");
}

/// A history of one key in which each operation has its function, outcome, value, invoke and completion.
fn told(model: &str, operations: &[(&str, &str, &str, u64, u64)]) -> History {
    let mut events = Vec::new();
    for (process, (f, kind, value, from, to)) in operations.iter().enumerate() {
        let argument = if *f == "read" { "null" } else { value };
        events.push((*from, 0, process, f, "invoke", argument));
        events.push((*to, 1, process, f, kind, if *kind == "ok" { value } else { argument }));
    }
    events.sort();
    let mut text = format!(
        r#"{{"format":"whitewater-history","version":"1.0","workload":"w","models":{{"":"{model}"}},"clock":"monotonic-ns","nodes":[]}}"#
    );
    for (index, (time, _, process, f, kind, value)) in events.iter().enumerate() {
        text += &format!(
            "\n{{\"index\":{index},\"time\":{time},\"process\":{process},\"type\":\"{kind}\",\"f\":\"{f}\",\"key\":\"k\",\"value\":{value}}}"
        );
    }
    checker::history::parse(Path::new("h"), &mut (text + "\n").as_bytes()).unwrap()
}

/// What `verify` says of evidence that names operations by their place in the history.
fn evidence(history: &History, verdict: &str, order: Option<&[usize]>, core: Option<&[usize]>) -> String {
    let operations = &history.keys["k"].operations;
    let indexes = |places: &[usize]| places.iter().map(|place| operations[*place].index).collect();
    let line = Line {
        key: "k".into(),
        verdict: verdict.into(),
        order: order.map(indexes),
        core: core.map(indexes),
        elements: None,
    };
    let text =
        format!("{{\"format\":\"whitewater-certificate\"}}\n{}\n", serde_json::to_string(&line).unwrap());
    match verify(history, &text) {
        Ok(verified) => {
            format!("valid {} invalid {} open {}", verified.valid, verified.invalid, verified.open.len())
        }
        Err(error) => error,
    }
}

#[test]
fn a_core_counts_what_may_have_happened_and_all_that_its_reads_depend_on() {
    let rejected = |history: &History, core: &[usize], reason: &str| {
        let error = evidence(history, "invalid", None, Some(core));
        assert!(error.contains(reason), "{error}");
    };
    let accepted = |history: &History, core: &[usize]| {
        assert_eq!(evidence(history, "invalid", None, Some(core)), "valid 0 invalid 1 open 0");
    };
    // A write that nobody knows of explains the read, and a read that came to nothing explains nothing.
    let may_be = told("cas-register", &[("write", "info", "1", 1, 2), ("read", "ok", "1", 3, 4)]);
    rejected(&may_be, &[0, 1], "has an order");
    rejected(&may_be, &[1], "is not in the core");
    let never = told("cas-register", &[("read", "info", "1", 1, 2), ("read", "ok", "1", 3, 4)]);
    accepted(&never, &[0, 1]);
    // Equal times are concurrent: what begins when the read ends may have been seen, what begins later not.
    let late = |begins| told("cas-register", &[("read", "ok", "1", 1, 3), ("write", "ok", "1", begins, 9)]);
    rejected(&late(3), &[0], "is not in the core");
    rejected(&late(3), &[0, 1], "has an order");
    accepted(&late(4), &[0]);
    // A sum depends on all that was added, a text on all that was written.
    let sum = |read| {
        let add = |from, to| ("add", "ok", "1", from, to);
        told("counter", &[add(1, 2), add(3, 4), ("read", "ok", read, 5, 6)])
    };
    rejected(&sum("3"), &[0, 2], "is not in the core");
    accepted(&sum("3"), &[0, 1, 2]);
    rejected(&sum("2"), &[0, 1, 2], "has an order");
    let text = |read| told("kv", &[("append", "ok", r#""a""#, 1, 2), ("read", "ok", read, 5, 6)]);
    rejected(&text(r#""b""#), &[1], "is not in the core");
    accepted(&text("null"), &[0, 1]);
    // Neither a write beside it nor a read replaces what was written.
    let beside = [("write", "ok", "1", 1, 4), ("write", "ok", "2", 2, 3), ("read", "ok", "1", 5, 6)];
    rejected(&told("cas-register", &beside), &[1, 2], "is not in the core");
    let between = [
        ("write", "ok", "1", 1, 2),
        ("write", "ok", "2", 1, 2),
        ("read", "ok", "2", 3, 4),
        ("read", "ok", "1", 5, 6),
    ];
    rejected(&told("cas-register", &between), &[1, 2, 3], "is not in the core");
    // Evidence of one verdict is none of the other.
    for (verdict, order, core) in [("valid", None, Some(&[0, 1][..])), ("invalid", Some(&[0, 1][..]), None)] {
        let error = evidence(&text("null"), verdict, order, core);
        assert!(error.contains("another's evidence"), "{error}");
    }
    assert_eq!(evidence(&text("null"), "unknown", None, None), "valid 0 invalid 0 open 1");
}

#[test]
fn a_text_that_was_deleted_is_read_as_nothing() {
    let operations = [
        ("read", "ok", "null", 1, 2),
        ("write", "ok", r#""a""#, 3, 4),
        ("delete", "ok", "null", 5, 6),
        ("read", "ok", "null", 7, 8),
        ("append", "ok", r#""b""#, 9, 10),
        ("read", "ok", r#""b""#, 11, 12),
    ];
    let history = told("kv", &operations);
    assert_eq!(evidence(&history, "valid", Some(&[0, 1, 2, 3, 4, 5]), None), "valid 1 invalid 0 open 0");
    let without = told("kv", &[operations[1], operations[3]]);
    assert!(evidence(&without, "valid", Some(&[0, 1]), None).contains("cannot have had its result"));
}

#[test]
fn a_list_that_is_not_there_is_read_as_empty() {
    let of = |read| [("txn", "ok", read, 1, 2), ("txn", "ok", r#"[["append","l",1]]"#, 3, 4)];
    let verified = |read| evidence(&told("txn", &of(read)), "valid", Some(&[0, 1]), None);
    assert_eq!(verified(r#"[["r","l",[]]]"#), "valid 1 invalid 0 open 0");
    assert_eq!(verified(r#"[["r","l",null]]"#), "valid 1 invalid 0 open 0");
    assert!(verified(r#"[["r","l",[1]]]"#).contains("cannot have had its result"));
}

/// Only pairs of a key and an element that are named count, everywhere, and of keys that are nothing but lists.
#[test]
fn a_core_of_transactions_is_reduced_to_elements_of_lists() {
    let append = |x: &'static str, from, to| ("txn", "ok", x, from, to);
    let both = r#"[["append","x",1],["append","y",1],["append","x",2]]"#;
    let operations = [
        append(r#"[["append","x",9]]"#, 1, 2),
        append(both, 3, 4),
        append(r#"[["r","x",[9,1]],["r","y",[]]]"#, 5, 6),
    ];
    let history = told("txn", &operations);
    let checked = |history: &History, core: &[usize], elements: serde_json::Value| {
        let text = evidence(history, "invalid", None, Some(core));
        let of = |i: &usize| history.keys["k"].operations[*i].index;
        let line = serde_json::json!({"key": "k", "verdict": "invalid", "core": core.iter().map(of).collect::<Vec<_>>(), "elements": elements});
        let with = verify(history, &format!("{{\"format\":\"whitewater-certificate\"}}\n{line}\n"));
        (text, with.map(|verified| verified.invalid))
    };
    let pairs = |pairs: &[(&str, i64)]| serde_json::json!(pairs);
    let rejected = |core: &[usize], elements, reason: &str| {
        let (_, with) = checked(&history, core, elements);
        assert!(with.clone().unwrap_err().contains(reason), "{with:?}");
    };
    let (without, with) = checked(&history, &[1, 2], pairs(&[("y", 1)]));
    assert!(without.contains("is not in the core"), "{without}: 9 was seen");
    assert_eq!(with, Ok(1), "of y alone");
    assert_eq!(checked(&history, &[1, 2], pairs(&[("x", 2)])).1, Ok(1));
    rejected(&[1, 2], pairs(&[("x", 1)]), "has an order");
    rejected(&[1, 2], pairs(&[]), "has an order");
    rejected(&[1, 2], pairs(&[("x", 9), ("y", 1)]), "is not in the core");
    rejected(&[2], pairs(&[("y", 1)]), "has an order");
    rejected(&[1, 2], serde_json::json!([1, "y"]), "has an order");
    // What a transaction sees after its own append are also elements of others.
    let own = [append(r#"[["append","x",1]]"#, 1, 2), append(r#"[["append","x",2],["r","x",[1,2]]]"#, 3, 4)];
    assert!(
        checked(&told("txn", &own), &[1], pairs(&[("x", 1), ("x", 2)])).1.unwrap_err().contains("is not in")
    );
    let written = [operations[1], operations[2], append(r#"[["w","y",null]]"#, 5, 6)];
    let error = checked(&told("txn", &written), &[0, 1], pairs(&[("y", 1)])).1.unwrap_err();
    assert!(error.contains("only lists and sets"), "{error}: a list that may be deleted");
    let queue = [("enqueue", "ok", "1", 1, 2), ("dequeue", "ok", "1", 3, 4)];
    let error = checked(&told("fifo-queue", &queue), &[0, 1], serde_json::json!([])).1.unwrap_err();
    assert!(error.contains("only lists and sets"), "{error}");
}

#[test]
fn the_verifier_is_small_and_knows_no_engine() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify.rs")).unwrap();
    assert!(text.lines().count() <= 300, "{} lines", text.lines().count());
    let uses: Vec<&str> = text.lines().filter(|line| line.starts_with("use crate::")).collect();
    assert_eq!(
        uses,
        [
            "use crate::history::{Action, History, KeyHistory, Micro, Operation, Outcome, Value};",
            "use crate::model::ModelKind;",
        ],
        "the reader and the names of the models, no engine and no model"
    );
}
