//! Histories that others recorded and judged: see `tests/golden/corpora/README.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::path::{Path, PathBuf};

use checker::{Options, Report, Verdict, check};

fn corpus(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/corpora").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn judged(path: &Path) -> Report {
    check(path, &Options::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Judges each file of a folder; an invalid one must show a core with every operation that the history has of it.
fn all(folder: &str, count: usize, valid: impl Fn(&str) -> bool) {
    let files = corpus(folder);
    assert_eq!(files.len(), count, "{folder}");
    for path in files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let report = judged(&path);
        let expected = if valid(&name) { Verdict::Valid } else { Verdict::Invalid };
        assert_eq!(report.verdict, expected, "{name}: {}", report.render());
        if expected == Verdict::Invalid {
            let violation = report.violations.iter().find(|v| v.check == "linearizability").unwrap();
            assert!(!violation.operations.is_empty() && !violation.reason.is_empty(), "{name}");
        }
    }
}

#[test]
fn etcd_logs() {
    let valid = ["002", "005", "007", "018", "025", "031", "038", "045", "048", "049"];
    all("etcd", 51, |name| valid.contains(&&name["etcd_".len()..]));
}

#[test]
fn key_value_texts() {
    all("kv", 4, |name| name.ends_with("-ok"));
}

#[test]
fn knossos_registers() {
    all("knossos/good", 10, |_| true);
    all("knossos/bad", 4, |_| false);
}

#[test]
fn the_cores_of_the_etcd_logs_are_small() {
    let mut sizes: Vec<usize> = corpus("etcd")
        .iter()
        .flat_map(|path| judged(path).violations)
        .filter(|violation| violation.check == "linearizability")
        .map(|violation| violation.operations.len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 41);
    let (median, largest) = (sizes[sizes.len() / 2], sizes[sizes.len() - 1]);
    assert!(median <= 6 && largest <= 32, "median {median}, largest {largest}");
}

/// Knossos names the operation that cannot be placed; what is left of ours must contain it.
#[test]
fn a_core_holds_the_operation_that_knossos_names() {
    for (name, value) in [("immediate-failure", "3"), ("rethink-fail-minimal", "3")] {
        let path = corpus("knossos/bad").into_iter().find(|p| p.file_stem().unwrap() == name).unwrap();
        let report = judged(&path);
        let shown = report.violations.iter().flat_map(|v| &v.operations);
        assert!(
            shown.clone().any(|o| o.what == format!("read register={value}")),
            "{name}: {}",
            report.render()
        );
    }
}
