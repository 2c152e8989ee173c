//! A cluster with a key file: who has it is served, who has another or none is dropped, counted, and told nothing.

use std::os::unix::fs::PermissionsExt;

use tests::hand::Hand;
use tests::output::Said;
use tests::poll;
use tests::sandbox::Sandbox;

#[test]
fn a_cluster_with_a_key_serves_who_has_it() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "keyed", 3);
    let file = |name: &str, secret: &str, mode: u32| {
        let path = sandbox.out(name);
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let key = file("key", &"secret of the cluster ".repeat(2), 0o600);
    let other = file("other", &"secret of another one ".repeat(2), 0o600);
    let with = |path: &str| ["--key-file".to_owned(), path.to_owned()];

    let short = file("short", "too short\n", 0o600);
    let open = file("open", &"x".repeat(40), 0o644);
    let missing = sandbox.out("missing").display().to_string();
    let wrong = [(&short, "9 bytes, not of 32", "urandom"), (&open, "open to others", "chmod 600")];
    for (path, words, hint) in wrong.into_iter().chain([(&missing, "cannot read", "check the path")]) {
        Said::of(hand.serve(1).args(with(path))).exits(64).tells(words, hint);
        hand.client(1, &["--key-file", path, "get", "k"]).exits(64).tells(words, hint);
    }

    for id in 1..=3 {
        hand.start_with(id, &["--key-file", &key]);
    }
    let client = |id: usize, key: &[&str], words: &[&str]| {
        let addr = hand.address(id).to_string();
        hand.node(&[&["client", "--addr", &addr], key, words].concat())
    };
    poll::until_true("the cluster to serve", || {
        client(1, &["--key-file", &key], &["set", "k", "v"]).code == Some(0)
    });
    let addr = (1..=3).map(|id| hand.address(id).to_string()).collect::<Vec<_>>().join(",");
    let dropped = || {
        let said = hand.node(&["status", "--json", "--key-file", &key, "--addr", &addr]).exits(0);
        let lines = said.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["status"]["dropped"]["authentication"].as_u64().unwrap_or(0)).sum::<u64>()
    };
    for key in [&["--timeout", "300ms"][..], &["--timeout", "300ms", "--key-file", &other]] {
        let before = dropped();
        client(2, key, &["set", "k", "stranger"]).exits(1);
        client(2, key, &["get", "k"]).exits(2);
        assert!(dropped() > before, "nobody counted it");
    }
    hand.node(&["status", "--addr", &addr]).exits(2);
    hand.node(&["transfer-leader", "--timeout", "300ms", "--addr", &addr]).exits(2);
    assert_eq!(client(3, &["--key-file", &key], &["get", "k"]).exits(0).stdout, "v\n");
    let order = ["transfer-leader", "--timeout", "30s", "--key-file", &key, "--addr", &addr];
    hand.node(&order).exits(0);
    assert!(hand.all_run());
    drop(hand);
    sandbox.assert_nothing_left();
}
