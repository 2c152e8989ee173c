//! Runs `scripts/*.txt` and compares what happens with what is written there. `BLESS=1 cargo test -p node --test raft`
//! writes it anew; read the difference before you commit it.

use std::fs;
use std::path::Path;

use crate::lab::Lab;

/// Runs one script: comments, empty lines and commands stay, the lines between them are what happened.
fn play(script: &str) -> String {
    let (mut lab, mut text) = (Lab::default(), String::new());
    for line in script.lines().filter(|line| !line.starts_with("  ")) {
        eprintln!("{line}"); // shown when the next command panics
        text += &format!("{line}\n");
        if !line.is_empty() && !line.starts_with('#') {
            let happened = lab.run(line);
            eprint!("{happened}");
            text += &happened;
        }
    }
    text
}

#[test]
fn scripts_happen_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 10, "{paths:?}");
    let mut different = Vec::new();
    for path in paths {
        let golden = fs::read_to_string(&path).unwrap();
        let happened = play(&golden);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &happened).unwrap();
        } else if happened != golden {
            let at = happened.lines().zip(golden.lines()).position(|(a, b)| a != b).unwrap_or_default();
            let [now, then] = [&happened, &golden].map(|text| text.lines().nth(at).unwrap_or_default());
            different.push(format!("{}:{}\n  happened {now:?}\n  written  {then:?}", path.display(), at + 1));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
#[should_panic(expected = "no such message")]
fn a_script_cannot_deliver_what_was_not_sent() {
    play("cluster 3\ndeliver 1 2\n");
}
