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
        let shape = Shape { operations: 2000, keys: 3, clients: 9, unknown, values, lost_write, drain: 0 };
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
        "brings an element that is left out",
    );
    rejected("fifo-queue/invalid/reordered-writes.jsonl", &core(|c| _ = c.pop()), "is not in the core");
    rejected("counter/invalid/aborted-read.jsonl", &|line| line.core.as_mut().unwrap().push(2), "failed");
    let (history, ..) = certified(&golden.join(valid));
    assert!(verify(&history, "").unwrap_err().contains("header"));
    let nothing = "{\"format\":\"whitewater-certificate\"}\n";
    assert_eq!(verify(&history, nothing).unwrap().open.len(), 1, "silence shows nothing");
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
