//! A history that is followed gets the verdict that it gets when it is complete; memory stays in proportion to what is open and
//! alive; the program follows a file while it grows.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use checker::bench::{Shape, generate};
use checker::follow::{Followed, follow};
use checker::{Options, Verdict, check};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn text(shape: &Shape, seed: u64) -> Vec<String> {
    let mut out = Vec::new();
    generate(shape, seed, &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn followed(lines: &[String]) -> Followed {
    let text = lines.join("\n") + "\n";
    follow(Path::new("h"), &mut text.as_bytes(), |_| false).unwrap()
}

/// Changes what some reads returned.
fn corrupt(lines: &mut [String], most: i64, rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(0..3) {
        let at = rng.random_range(1..lines.len());
        let mut json: serde_json::Value = serde_json::from_str(&lines[at]).unwrap();
        if json["type"] == "ok" && json["f"] == "read" {
            json["value"] = rng.random_range(1..most).into();
            lines[at] = json.to_string();
        }
    }
}

/// Puts some lines before the one that they follow, as recorders do whose threads overtake each other: times stay what they were.
fn overtake(lines: &mut [String], rng: &mut ChaCha8Rng) {
    let mut json: Vec<serde_json::Value> =
        lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for _ in 0..rng.random_range(0..lines.len()) {
        let at = rng.random_range(1..json.len());
        if json[at - 1]["process"] != json[at]["process"] {
            json.swap(at - 1, at);
        }
    }
    for (index, event) in json.iter_mut().enumerate() {
        event["index"] = index.into();
        lines[index + 1] = event.to_string();
    }
}

#[test]
fn following_says_what_checking_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut counts = [0, 0];
    for seed in 0..1500 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let operations = [12, 40, 300][seed as usize % 3];
        let shape = Shape {
            operations,
            keys: rng.random_range(1..3),
            clients: rng.random_range(2..7),
            unknown: [0.0, 0.1, 0.4][rng.random_range(0..3)],
            values: 0,
            lost_write: rng.random_bool(0.1),
            drain: 0,
            transactions: None,
        };
        let mut lines = text(&shape, seed);
        corrupt(&mut lines, operations as i64, &mut rng);
        if rng.random() {
            overtake(&mut lines, &mut rng);
        }
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let report = check(&path, &Options::default()).unwrap();
        let invalid = report.keys.invalid > 0;
        let followed = followed(&lines);
        assert_eq!(
            followed.verdict() == Verdict::Invalid,
            invalid,
            "seed {seed}: {followed:?}\n{}\n{}",
            report.render(),
            lines.join("\n")
        );
        assert!(followed.left.is_empty());
        counts[usize::from(invalid)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 150), "{counts:?} valid, invalid");
}

#[test]
fn what_cannot_be_followed_is_left_to_check() {
    let shape = Shape {
        operations: 100,
        keys: 1,
        clients: 3,
        unknown: 0.0,
        values: 2,
        lost_write: false,
        drain: 0,
        transactions: None,
    };
    let followed = followed(&text(&shape, 1));
    assert_eq!(followed.verdict(), Verdict::Unknown);
    assert!(followed.left["r0"].contains("again"), "{:?}", followed.left);
    assert_eq!(followed.operations, 100);
}

#[test]
fn what_completes_before_it_began_is_refused() {
    let shape = Shape {
        operations: 100,
        keys: 1,
        clients: 3,
        unknown: 0.0,
        values: 0,
        lost_write: false,
        drain: 0,
        transactions: None,
    };
    let mut lines = text(&shape, 1);
    let at = lines.iter().position(|line| line.contains("\"ok\"")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&lines[at]).unwrap();
    json["time"] = 0.into();
    lines[at] = json.to_string();
    let text = lines.join("\n") + "\n";
    let refused = follow(Path::new("h"), &mut text.as_bytes(), |_| false).unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("h:{}: completes at 0 ns, before its invoke at", at + 1)),
        "{refused}"
    );
}

#[test]
fn a_growing_file_is_followed_to_its_violation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let shape = Shape {
        operations: 500,
        keys: 1,
        clients: 3,
        unknown: 0.0,
        values: 0,
        lost_write: true,
        drain: 0,
        transactions: None,
    };
    let lines = text(&shape, 2);
    let (early, late) = lines.split_at(300);
    fs::write(&path, early.join("\n") + "\n{\"ind").unwrap();
    let checker = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(["follow", path.to_str().unwrap(), "--idle", "60s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    // The rest of the line that was torn, and everything else; time goes on so that nothing waits any more.
    let last =
        r#"{"index":1000000,"time":9000000000000,"process":999999,"type":"invoke","f":"read","key":"r0"}"#;
    let rest = late.join("\n") + "\n" + last + "\n";
    file.write_all(&rest.as_bytes()["{\"ind".len()..]).unwrap();
    drop(file);
    let output = checker.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("key r0") && told.ends_with("operations\n") && told.contains("INVALID"), "{told}");
}

#[test]
fn a_complete_file_ends_when_nothing_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let shape = Shape {
        operations: 500,
        keys: 2,
        clients: 3,
        unknown: 0.1,
        values: 0,
        lost_write: false,
        drain: 0,
        transactions: None,
    };
    let lines = text(&shape, 2);
    let run = |bytes: &str| {
        fs::write(&path, bytes).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_checker"))
            .args(["follow", path.to_str().unwrap(), "--idle", "50ms"])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let whole = lines.join("\n") + "\n";
    assert_eq!(run(&whole), (Some(0), "VALID  500 operations\n".into()));
    assert_eq!(run(&whole[..whole.len() - 9]).0, Some(2), "a torn end");
    let (code, told) = run("{\"format\":1}\n");
    assert!(code == Some(3) && told.contains(":1: not the header") && told.contains("\n\nhint: "), "{told}");
}
