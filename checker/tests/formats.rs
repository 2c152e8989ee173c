//! Every format that others write is told by its content, plain or gzip, can be forced, and says what its folder says: see
//! `tests/golden/formats/README.md`. That an export says the same again is `round_trip`'s business.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use checker::interop::{Format, Reading};
use checker::{Options, Report, Verdict, check, judge};

fn files() -> Vec<(PathBuf, Verdict)> {
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/formats");
    let mut files = Vec::new();
    for (folder, verdict) in [("valid", Verdict::Valid), ("invalid", Verdict::Invalid)] {
        for entry in fs::read_dir(formats.join(folder)).unwrap() {
            files.push((entry.unwrap().path(), verdict));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn judged(path: &Path, format: Option<Format>) -> Report {
    let reading = Reading { format, ..Reading::default() };
    check(path, &Options { reading, ..Options::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn format(path: &Path) -> Format {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        "jepsen-etcd.log" | "maelstrom-lin-kv.txt" => Format::Log,
        name if name.starts_with("operations") => Format::Operations,
        _ => Format::Edn,
    }
}

#[test]
fn each_format_is_told_by_its_content_and_can_be_forced() {
    let dir = tempfile::tempdir().unwrap();
    let files = files();
    assert_eq!(files.len(), 30, "15 in each folder");
    for (path, verdict) in files {
        let expected = judged(&path, None);
        assert_eq!(expected.verdict, verdict, "{}: {}", path.display(), expected.render());
        let copy = dir.path().join("history");
        let bytes = fs::read(&path).unwrap();
        let marked = [b"\xef\xbb\xbf".as_slice(), &bytes].concat();
        let returned = String::from_utf8(bytes.clone()).unwrap().replace('\n', "\r\n").into_bytes();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        for (how, bytes) in
            [("as it is", bytes), ("gzip", packed), ("with a mark", marked), ("CRLF", returned)]
        {
            fs::write(&copy, bytes).unwrap();
            for forced in [None, Some(format(&path))] {
                let report = judged(&copy, forced);
                let context = || format!("{} {how}, {forced:?}: {}", path.display(), report.render());
                assert_eq!(report.verdict, verdict, "{}", context());
                assert_eq!(report.class, expected.class, "{}", context());
                assert_eq!(report.operations, expected.operations, "{}", context());
            }
        }
        let other = if format(&path) == Format::Operations { Format::Edn } else { Format::Operations };
        let reading = Reading { format: Some(other), ..Reading::default() };
        assert!(check(&path, &Options { reading, ..Options::default() }).is_err(), "{}", path.display());
    }
}

#[test]
fn one_history_in_many_shapes_is_one_history() {
    for folder in [Verdict::Valid, Verdict::Invalid] {
        let shapes = ["vector.edn", "list.edn", "stream.edn", "records.edn", "tuples.edn"];
        let names = shapes.map(|shape| format!("jepsen-{shape}"));
        let others = ["jepsen.json", "maelstrom-lin-kv.edn", "maelstrom-lin-kv.txt"].map(str::to_owned);
        let mut told = Vec::new();
        for name in names.iter().chain(&others) {
            let path = files()
                .into_iter()
                .find(|(path, verdict)| *verdict == folder && path.ends_with(name))
                .unwrap()
                .0;
            let history = judge::history(&path, &Reading::default()).unwrap();
            let keys = history.keys.into_iter().map(|(key, of_key)| {
                let operations = of_key.operations.into_iter();
                (key, of_key.model, operations.map(|o| (o.process, o.action, o.outcome)).collect::<Vec<_>>())
            });
            told.push((name.clone(), keys.collect::<Vec<_>>()));
        }
        for (name, keys) in &told[1..] {
            assert_eq!(*keys, told[0].1, "{name} and {}", told[0].0);
        }
    }
}

/// The report of a robustness test is a directory; what one client saw, others wrote.
#[test]
fn the_clients_of_a_report_are_read_together() {
    for (path, verdict) in files().into_iter().filter(|(path, _)| path.ends_with("operations.json")) {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut last = PathBuf::new();
        for line in text.lines() {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let folder = dir.path().join(format!("client-{}", json["ClientId"]));
            fs::create_dir_all(&folder).unwrap();
            last = folder.join("operations.json");
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&last).unwrap();
            writeln!(file, "{line}").unwrap();
        }
        let whole = judged(&path, None);
        for part in [dir.path(), &last] {
            let report = judged(part, None);
            assert_eq!(report.verdict, verdict, "{}: {}", part.display(), report.render());
            assert_eq!(report.operations, whole.operations);
        }
        assert!(judged(&last, None).warnings.iter().any(|w| w.starts_with("read together with the ")));
        fs::write(&last, "{\"ClientId\":1}\n").unwrap();
        let error = check(dir.path(), &Options::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:1: missing field", last.display())), "{error}");
    }
}
