//! Every file under `tests/golden/histories/<model>/{valid,invalid,unknown}/` earns its folder, and an invalid one its name:
//! `stale-read--of-an-info.jsonl` is a `stale read`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use checker::{Options, Verdict, check, explain};

fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/histories");
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

#[test]
fn every_golden_earns_its_folder_and_its_name() {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for path in goldens() {
        let part = |n: usize| path.iter().rev().nth(n).unwrap().to_string_lossy().into_owned();
        let (folder, model) = (part(1), part(2));
        let report = check(&path, &Options::default()).unwrap();
        assert_eq!(report.verdict.to_string(), folder, "{}\n{}", path.display(), report.render());
        if report.verdict == Verdict::Invalid {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let class = stem.split("--").next().unwrap().replace('-', " ");
            assert_eq!(
                report.class.as_deref(),
                Some(class.as_str()),
                "{}\n{}",
                path.display(),
                report.render()
            );
            assert!(report.render().contains(&format!("INVALID  {class}\n")));
            let told = explain::explain(&report, None).unwrap();
            assert!(told.contains(&report.violations[0].reason), "{told}");
        } else {
            assert_eq!(report.violations, [], "{}", path.display());
            assert_eq!(explain::explain(&report, None), None);
        }
        *counts.entry((model, folder)).or_default() += 1;
    }
    for model in ["cas-register", "counter", "fifo-queue", "list-append", "mutex", "set", "txn"] {
        for folder in ["valid", "invalid", "unknown"] {
            let count = counts.get(&(model.into(), folder.into())).copied().unwrap_or(0);
            assert!(count >= 5, "{model}/{folder} has {count}");
        }
    }
}

/// Metamorphic: names of keys and the gaps between times mean nothing.
#[test]
fn renamed_keys_and_stretched_times_do_not_move_a_verdict() {
    let dir = tempfile::tempdir().unwrap();
    for path in goldens() {
        let text = fs::read_to_string(&path).unwrap();
        let moved: String = text
            .lines()
            .map(|line| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(mut json) => {
                    if let Some(key) = json.get_mut("key") {
                        *key = format!("{}-elsewhere", key.as_str().unwrap()).into();
                    }
                    if let Some(time) = json.get_mut("time") {
                        let t = time.as_u64().unwrap();
                        *time = (t * t / 1000 + 5).into();
                    }
                    json.to_string() + "\n"
                }
                Err(_) => line.to_owned(),
            })
            .collect();
        let copy = dir.path().join("history.jsonl");
        fs::write(&copy, moved).unwrap();
        let (one, other) =
            (check(&path, &Options::default()).unwrap(), check(&copy, &Options::default()).unwrap());
        assert_eq!((one.verdict, one.class), (other.verdict, other.class), "{}", path.display());
    }
}
