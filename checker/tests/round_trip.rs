//! A saved history of each format says the same through `check`, `export` and `check` again.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checker::interop::{ExportError, Reading, Target, export};
use checker::report::Report;
use checker::{Options, Verdict, check, judge};

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(path)) } else { files.push(path) }
    }
    files.retain(|path| path.extension().is_none_or(|e| e != "md"));
    files.sort();
    files
}

/// What it says of the order of operations: formats differ in what a key is, and only ours carries faults.
fn told(report: &Report) -> Verdict {
    report.checks["linearizability"].verdict
}

#[test]
fn every_history_comes_back_with_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    for path in files(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")) {
        let before = check(&path, &Options::default()).unwrap();
        let history = judge::history(&path, &Reading::default()).unwrap();
        for target in [Target::Whitewater, Target::Edn, Target::Porcupine] {
            let mut bytes = Vec::new();
            match export(&history, target, None, &mut bytes) {
                Ok(()) => {}
                Err(ExportError::Unsaid(_)) if target != Target::Whitewater => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            }
            // Without an operation there is no key, and nothing for others to read.
            if before.keys.total() == 0 && target != Target::Whitewater {
                continue;
            }
            let copy = dir.path().join("copy");
            fs::write(&copy, &bytes).unwrap();
            let context =
                || format!("{} as {target:?}:\n{}", path.display(), String::from_utf8_lossy(&bytes));
            let after = check(&copy, &Options::default()).unwrap_or_else(|e| panic!("{e}\n{}", context()));
            assert_eq!(told(&before), told(&after), "{}", context());
            if target == Target::Whitewater && !history.torn {
                assert_eq!(before.verdict, after.verdict, "{}", context());
                assert_eq!(before.class, after.class, "{}", context());
            }
            *said.entry(format!("{target:?}")).or_default() += 1;
        }
    }
    assert!(said["Whitewater"] > 150 && said["Edn"] > 80 && said["Porcupine"] > 20, "{said:?}");
}
