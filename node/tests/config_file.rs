//! Where settings come from: flag before environment before file before default, and what is said of a file that is wrong.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// What `node serve` says and exits with, given a file. None of these configurations can serve, so that it ends at once.
fn serve(file: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.arg("serve").args(arguments).arg("--config").arg(&path).envs(variables.iter().copied());
    let output = command.current_dir(dir.path()).output().unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// Timeouts that elect nobody: the error tells which were used.
const FILE: &str = r#"
id = 9
addresses = ["127.0.0.1:1", "127.0.0.1:2"]
election_timeout_ms_min = 10
election-timeout-ms-max = 20
heartbeat_interval_ms = 30
trace = true
"#;

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let (error, code) = serve(FILE, &[], &[]);
    assert!(error.contains("node id 9 is not a position in the list of 2 addresses"), "{error}");
    assert_eq!(code, Some(64));
    let (error, _) = serve(FILE, &["8", "127.0.0.1:3"], &[]);
    assert!(error.contains("node id 8 is not a position in the list of 1 addresses"), "{error}");
    let file = FILE.replace("id = 9", "id = 1");
    let heartbeat = "WHITEWATER_HEARTBEAT_INTERVAL_MS";
    let used = |arguments: &[&str], variables: &[(&str, &str)]| {
        let (error, code) = serve(&file, arguments, variables);
        assert_eq!(code, Some(64), "{error}");
        let words = error.split_whitespace().map(str::to_owned);
        words.filter_map(|word| word.parse().ok()).collect::<Vec<u64>>()
    };
    assert_eq!(used(&[], &[])[..4], [10, 20, 3, 30]);
    assert_eq!(used(&[], &[(heartbeat, "40")])[..4], [10, 20, 3, 40]);
    assert_eq!(used(&["--heartbeat-interval-ms", "50"], &[(heartbeat, "40")])[..4], [10, 20, 3, 50]);
    let (error, _) = serve("heartbeat_interval_ms = 5000", &["1", "127.0.0.1:3"], &[]);
    let default = node::config::ELECTION_TIMEOUT_MS_MIN;
    assert!(error.contains(&format!("{default} <= ")) && error.contains("5000 ms"), "{error}");
}

#[test]
fn a_file_that_is_wrong_is_named_with_the_place() {
    for (file, expected) in [
        ("id = 1\nelection_timeout = 5\n", "there is no setting \"election_timeout\""),
        ("id = 1\nconfig = \"x\"\n", "there is no setting \"config\""),
        ("id = 1\naddresses = [\n", "node.toml:"),
        ("id = 1\n\nlog_level = = 2\n", "node.toml:3: "),
        ("listen = { host = 1 }", "listen must be a text"),
        ("log_level = \"loud\"\nid = 1", "loud"),
    ] {
        let (error, code) = serve(file, &["1", "127.0.0.1:3"], &[]);
        assert!(error.contains(expected), "{file}: {error}");
        assert_eq!(code, Some(64), "{file}: {error}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_node"))
        .args(["serve", "1", "127.0.0.1:3", "--config=nowhere.toml"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: cannot read nowhere.toml"), "{error}");
    assert_eq!(output.status.code(), Some(64));
}
