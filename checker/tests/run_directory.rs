//! The `checker` program on run directories: exit codes, `verdict.json`, traces and states of nodes, errors, closed pipes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"mix","models":{"r":"cas-register","a":"list-append"},"clock":"monotonic-ns","nodes":["n1","n2"]}"#;
const NEMESIS: [&str; 2] = [
    r#""time":0,"process":"nemesis","type":"info","f":"plan","value":{"kinds":[]}"#,
    r#""time":1,"process":"nemesis","type":"info","f":"settle","value":{"outcome":"served","waited_ms":1,"detail":""}"#,
];
const WRITE: [&str; 2] = [
    r#""time":1000000,"process":1,"type":"invoke","f":"write","key":"r1","value":7,"node":"n1""#,
    r#""time":2000000,"process":1,"type":"ok","f":"write","key":"r1","value":7,"node":"n1","position":2"#,
];

fn read(value: &str) -> [String; 2] {
    [
        r#""time":3000000,"process":1,"type":"invoke","f":"read","key":"r1","node":"n2""#.to_owned(),
        format!(
            r#""time":4000000,"process":1,"type":"ok","f":"read","key":"r1","value":{value},"node":"n2""#
        ),
    ]
}

/// A run with one write and one read of it, traced by two nodes.
fn run(dir: &Path, value: &str, follower_durable: u64) -> PathBuf {
    let run = dir.join("run");
    let mut text = HEADER.to_owned() + "\n";
    for (i, line) in NEMESIS.into_iter().chain(WRITE).map(String::from).chain(read(value)).enumerate() {
        text += &format!("{{\"index\":{i},{line}}}\n");
    }
    let chains = r#""chains":["00000000000000aa","00000000000000bb"]"#;
    let boot = r#"{"at":1,"event":"boot","node":1,"incarnation":1,"term":0,"voted_for":null,"last_index":0,"chain":"0","terms":[],"lsn":1}"#;
    let log = |at| format!(r#"{{"at":{at},"event":"append","lsn":3,"prev_index":0,"term":1,{chains}}}"#);
    let hard_state = r#"{"at":2,"event":"hard_state","lsn":2,"term":1,"voted_for":1}"#;
    let durable = |lsn| format!(r#"{{"at":5,"event":"durable","lsn":{lsn}}}"#);
    let ack = r#"{"at":6,"event":"append_ack_sent","to":1,"term":1,"match_index":2}"#.to_owned();
    let leader = r#"{"at":3,"event":"role","role":"leader","term":1}"#.to_owned();
    let nodes = [
        ("n1", vec![boot.to_owned(), hard_state.to_owned(), durable(2), leader, log(4), durable(4)]),
        ("n2", vec![boot.to_owned(), hard_state.to_owned(), log(4), durable(follower_durable), ack]),
    ];
    for (node, lines) in nodes {
        let folder = run.join("nodes").join(node);
        fs::create_dir_all(&folder).unwrap();
        let header = format!(r#"{{"format":"whitewater-trace","version":"1.0","node":"{node}"}}"#);
        fs::write(folder.join("trace.jsonl"), format!("{header}\n{}\n", lines.join("\n"))).unwrap();
        let state = format!(r#"{{"node":"{node}","last_applied":2,"values":{{"r1":7}}}}"#);
        fs::write(folder.join("state.json"), state).unwrap();
    }
    fs::write(run.join("history.jsonl"), text).unwrap();
    run
}

fn checker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checker")).args(arguments).output().unwrap()
}

/// Asserts exit code and what the output holds.
fn says(arguments: &[&str], code: i32, expected: &[&str]) -> String {
    let output = checker(arguments);
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    text
}

#[test]
fn an_honest_run_is_valid_and_its_verdict_comes_back_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "7", 4);
    let path = run.to_str().unwrap();
    let check_line = "  check   linearizable 1/1 keys   durability 0 lost   8/8 invariants\nVALID\n";
    says(&["check", path], 0, &[check_line]);
    let verdict = fs::read(run.join("verdict.json")).unwrap();
    fs::remove_file(run.join("verdict.json")).unwrap();
    let json = says(&["check", "--json", path], 0, &[r#""verdict": "valid""#, r#""stable": 1"#]);
    assert_eq!(fs::read(run.join("verdict.json")).unwrap(), verdict);
    assert_eq!(json.as_bytes(), verdict);
    assert!(!json.contains(path), "no path of this machine in {json}");
    let checks: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&String> = checks["checks"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "coverage",
            "durability",
            "election_safety",
            "leader_append_only",
            "leader_completeness",
            "linearizability",
            "liveness",
            "log_matching",
            "monotonic",
            "one_vote_per_term",
            "self_exit",
            "sent_implies_durable",
            "state_machine_safety",
        ]
    );
}

#[test]
fn what_is_broken_is_named_with_the_operations_that_show_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "null", 4);
    let path = path.to_str().unwrap();
    let operations = [
        "INVALID  lost write\n",
        "    p1 write r1=7    ok at 0.002 s   n1, index 2   acknowledged\n",
        "    p1 read r1=nil   ok at 0.004 s   n2            nil was the value before all writes",
        "durability 1 lost",
    ];
    for part in ["INVALID  lost write\n", "p1 write r1=7", "p1 read r1=nil", "index 2", "durability 1 lost"] {
        assert!(says(&["check", path], 1, &[]).contains(part), "{part} of {operations:?}");
    }
    let told =
        says(&["explain", path, "--key", "r1"], 1, &["LOST WRITE   linearizability of key r1", "|---|"]);
    assert!(told.contains("from 0.001 s   ok at 0.002 s"), "{told}");
    says(&["explain", path, "--key", "r2"], 1, &["nothing is wrong with key r2"]);
}

#[test]
fn an_acknowledgement_before_its_write_is_invalid_although_clients_saw_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "7", 3);
    let expected =
        ["7/8 invariants", "INVALID  ack before write", "n2 acknowledges entry 2", "nodes/n2/trace.jsonl:6"];
    says(&["check", path.to_str().unwrap()], 1, &expected);
}

#[test]
fn states_that_differ_in_a_byte_at_one_index_are_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "7", 4);
    let path = run.to_str().unwrap();
    let tell = |node: &str, hash: &str| {
        let state = format!(
            r#"{{"node":"{node}","last_applied":2,"until":2,"values":{{"r1":7}},"image":{{"index":2,"hash":"{hash}"}}}}"#
        );
        fs::write(run.join("nodes").join(node).join("state.json"), state).unwrap();
    };
    tell("n1", "00aa");
    tell("n2", "00aa");
    says(&["check", path], 0, &["VALID\n"]);
    assert!(fs::read_to_string(run.join("verdict.json")).unwrap().contains("\"convergence\""));
    tell("n2", "00ab");
    let expected = [
        "INVALID  diverging states\n",
        "convergence: the states of n1 and n2 at index 2 are not the same",
        "n2 has the hash 00ab   (nodes/n2/state.json)",
    ];
    says(&["check", path], 1, &expected);
}

/// Damage that a harness did to more nodes than the system survives, in its own words.
#[test]
fn a_write_that_is_lost_after_blind_damage_is_unknown_and_without_it_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "null", 4);
    let path = run.to_str().unwrap();
    let history = fs::read_to_string(run.join("history.jsonl")).unwrap();
    let damaged = |evidence: &str| {
        let line = format!(
            r#""time":2500000,"process":"nemesis","type":"info","f":"wipe","value":{{"id":1,"phase":"inject","outcome":"installed","nodes":["n1","n2"],"evidence":{evidence}}}}}"#
        );
        let mut lines: Vec<&str> = history.lines().collect();
        let header = lines.remove(0);
        let mut lines: Vec<&str> = lines.into_iter().map(|line| line.split_once(',').unwrap().1).collect();
        // Between the write and the read that misses it.
        lines.insert(4, &line);
        let numbered = lines.iter().enumerate().map(|(i, line)| format!("{{\"index\":{i},{line}\n"));
        fs::write(run.join("history.jsonl"), format!("{header}\n{}", numbered.collect::<String>())).unwrap();
    };
    damaged("{}");
    says(&["check", path], 1, &["INVALID  lost write\n"]);
    damaged(r#"{"beyond":["n1","n2"]}"#);
    let told = says(
        &["check", path],
        2,
        &["UNKNOWN  ", "1 acknowledged writes are lost, which was to be expected: n1 n2"],
    );
    assert!(!told.contains("explain"), "there is nothing to explain: {told}");
}

#[test]
fn a_node_without_a_trace_leaves_the_invariants_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "7", 4);
    fs::remove_file(path.join("nodes/n2/trace.jsonl")).unwrap();
    says(&["check", path.to_str().unwrap()], 2, &["0/8 invariants", "UNKNOWN  there is no trace of n2"]);
}

#[test]
fn errors_name_the_thing_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "7", 4);
    let path = run.to_str().unwrap();
    let nowhere = dir.path().join("nowhere");
    says(
        &["check", nowhere.to_str().unwrap()],
        3,
        &["error: ", "nowhere does not exist\n\nhint: give a run"],
    );
    says(&["check", dir.path().to_str().unwrap()], 3, &["has no history.jsonl\n\nhint: "]);
    says(&["check", path, nowhere.to_str().unwrap()], 3, &["VALID"]);
    says(&["check"], 64, &["Usage"]);
    says(&["chekc", path], 64, &["chekc"]);
    says(&["check", "--memory", "1.5G", path], 64, &["no whole number"]);
    says(&["--version"], 0, &["checker 0.1.0"]);
    says(&["--help"], 0, &["Exit codes"]);
    fs::write(run.join("nodes/n1/trace.jsonl"), "{}\n").unwrap();
    says(&["check", path], 3, &["trace.jsonl:1: not the header of a trace"]);
}

#[test]
fn a_reader_that_goes_away_does_not_change_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let path = run(dir.path(), "null", 4);
    let mut child = Command::new(env!("CARGO_BIN_EXE_checker"))
        .args(["check", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(1), Vec::new()));
}
