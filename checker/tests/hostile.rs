//! Files that are damaged anywhere: every reader refuses them with the file and the line, or reads what is left, and never panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use checker::interop::{Format, Reading};
use checker::{Options, check};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: usize = 3000;

fn originals() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let files = [
        "corpora/etcd/etcd_002.log",
        "corpora/knossos/bad/immediate-failure.edn",
        "corpora/knossos/bad/rethink-fail-minimal.edn",
        "corpora/kv/c01-bad.txt",
        "histories/cas-register/invalid/lost-write--shown-by-a-refused-cas.jsonl",
        "histories/list-append/valid/faults-that-bit.jsonl",
        "histories/counter/invalid/duplicate-apply--of-an-info.jsonl",
        "histories/set/valid/grows.jsonl",
        "formats/valid/jepsen-vector.edn",
        "formats/valid/jepsen-list.edn",
        "formats/valid/jepsen-tuples.edn",
        "formats/valid/jepsen.json",
        "formats/valid/maelstrom-lin-kv.txt",
        "formats/valid/values.edn",
        "formats/invalid/knossos-mutex.edn",
        "formats/invalid/knossos-multi-register.edn",
        "formats/invalid/operations.json",
        "formats/valid/operations-leases.json",
    ];
    files.iter().map(|file| golden.join(file)).collect()
}

/// Changes a few bytes; now and then swaps, doubles or drops whole lines.
fn damage(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').take(160).collect();
    let any = |rng: &mut ChaCha8Rng, length: usize| rng.random_range(0..length);
    match any(rng, 5) {
        0 => {
            let (a, b) = (any(rng, lines.len()), any(rng, lines.len()));
            lines.swap(a, b);
        }
        1 => _ = lines.remove(any(rng, lines.len())),
        2 => lines.push(lines[any(rng, lines.len())]),
        _ => {}
    }
    let mut bytes = lines.concat();
    let syntax = b"0123456789-{}[]()#:;,.\"\\ \tnil_^@/\xff\x00";
    for _ in 0..any(rng, 4) {
        let at = any(rng, bytes.len());
        match any(rng, 4) {
            0 => bytes[at] = syntax[any(rng, syntax.len())],
            1 => bytes.insert(at, syntax[any(rng, syntax.len())]),
            2 => _ = bytes.remove(at),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Whether a file was read; if it was refused, its line was named.
fn judged(path: &Path, prefix: &str, bytes: &[u8], options: &Options) -> bool {
    let Err(error) = check(path, options) else { return true };
    let text = error.to_string();
    let line = text.strip_prefix(prefix).and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
    let lines = bytes.split(|b| *b == b'\n').count();
    assert!(line.is_some_and(|line| (1..=lines + 1).contains(&line)), "{text}");
    false
}

/// Cases that once went wrong, or easily could.
#[test]
fn what_is_nearly_a_history_is_refused_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("case");
    let prefix = format!("{}:", path.display());
    let deep = |open: &str| open.repeat(100_000);
    let operation = |input: &str, output: &str| {
        format!("{{\"ClientId\":0,\"Input\":{input},\"Call\":1,\"Output\":{output},\"Return\":2}}")
    };
    let range = "{\"Type\":\"range\",\"Range\":{\"Start\":\"k\"}}";
    let refused = [
        "",
        "\n\n",
        "x",
        "{",
        "[",
        "[}",
        "#",
        "#_",
        "#x",
        "^",
        "\\",
        "\"",
        "\"\\",
        "\"\\u1",
        "{:process}",
        "{:process 0}",
        "[nil]",
        "{:process 99999999999999999999 :type :invoke :f :read}",
        "{:process 0 :type :ok :f :read :value 1}",
        "{:process 0 :type :invoke :f :jump :value 1}",
        "{:process 0 :type :invoke :f :cas :value 1}",
        "{:process 0 :type :invoke :f :txn :value 1}",
        "{:process 0 :type :invoke :f :txn :value [[:r]]}",
        "{:process 0 :type :invoke :f :txn :value [[:w nil 1]]}",
        "0 :invoke",
        ":nemesis :invoke",
        "INFO",
        "INFO jepsen.util - x",
        "{\"ClientId\":0,\"Input\":{",
        "{\"ClientId\":-1,\"Input\":{}}",
        "[{\"ClientId\":0,\"Input\":{}}]",
        &operation("{\"Type\":\"leap\"}", "{}"),
        &operation("{\"Type\":\"range\"}", "{}"),
        &operation(range, "{}"),
        &operation(
            "{\"Type\":\"txn\",\"Txn\":{\"OperationsOnSuccess\":[{\"Type\":\"put-operation\"}]}}",
            "{\"Txn\":{}}",
        ),
        &operation(range, "{\"Range\":{}}").replace("\"Call\":1", "\"Call\":3"),
        &deep("["),
        &deep("#_"),
        &deep("(\n"),
        &deep("{:a "),
    ];
    for text in refused {
        fs::write(&path, text).unwrap();
        let shown = &text[..text.len().min(80)];
        assert!(!judged(&path, &prefix, text.as_bytes(), &Options::default()), "{shown:?} was read");
    }
    let read = [
        "[]",
        "()",
        ";",
        "#_ x []",
        "{:process :nemesis}",
        "{:process 0 :type :invoke :f :read}",
        "{:process 0 :type :invoke :f :write :value \"\\ud800\"}",
        "{:process 0, :type :invoke, :f :cas, :value [\"\" nil]}",
        ":nemesis :info :start",
        "0 :invoke :write",
        &operation(range, "{\"Range\":{}}"),
        &operation(range, "{\"Error\":\"x\"}").replace("\"Return\":2", "\"Return\":0"),
        &format!("[{}]", operation("{\"Type\":\"txn\",\"Txn\":{}}", "{\"Txn\":{\"Results\":[{}]}}")),
    ];
    for text in read {
        fs::write(&path, text).unwrap();
        let read = judged(&path, &prefix, text.as_bytes(), &Options::default());
        assert!(read || text.contains("[\"\" nil]"), "{text:?} was refused");
    }
}

#[test]
fn a_damaged_file_is_refused_with_its_line_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged");
    let prefix = format!("{}:", path.display());
    let files: Vec<Vec<u8>> = originals().iter().map(|file| fs::read(file).unwrap()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut refused, mut read) = (0, 0);
    for round in 0..ROUNDS {
        let bytes = damage(&files[round % files.len()], &mut rng);
        fs::write(&path, &bytes).unwrap();
        let format = [
            None,
            None,
            None,
            None,
            None,
            None,
            Some(Format::Whitewater),
            Some(Format::Edn),
            Some(Format::Log),
            Some(Format::Operations),
        ];
        let reading = Reading { format: format[rng.random_range(0..format.len())], ..Reading::default() };
        let options = Options { steps: 20_000, time: Duration::from_secs(5), reading, ..Options::default() };
        if judged(&path, &prefix, &bytes, &options) { read += 1 } else { refused += 1 }
    }
    assert!(refused > ROUNDS / 4 && read > ROUNDS / 8, "{refused} refused, {read} read");
}
