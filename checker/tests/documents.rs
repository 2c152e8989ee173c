//! What the documents show is what the program does.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use checker::{Options, Verdict, check};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The blocks between fences of this kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_example_of_the_format_is_a_valid_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let blocks = blocks(&document("HISTORY.md"), "jsonl");
    assert_eq!(blocks.len(), 1);
    fs::write(&path, &blocks[0]).unwrap();
    let report = check(&path, &Options::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Valid, "{}", report.render());
    let operations = report.operations;
    assert_eq!((operations.ok, operations.fail, operations.info), (2, 1, 1));
}

/// A block of kind `console` holds commands after `$ ` and the output of each.
#[test]
fn the_commands_of_the_readme_print_what_it_shows() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let blocks = blocks(&document("README.md"), "console");
    assert!(blocks.len() >= 2);
    for block in blocks {
        let mut commands = 0;
        for part in block.split("$ checker ").skip(1) {
            let (command, expected) = part.split_once('\n').unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_checker"))
                .args(command.split_whitespace())
                .current_dir(&root)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "checker {command}");
            commands += 1;
        }
        assert!(commands > 0, "{block}");
    }
}

/// The last cell of a row names the tests that show what the cell before it says.
#[test]
fn every_feature_of_the_readme_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { sources += &fs::read_to_string(path).unwrap() }
        }
    }
    let text = document("README.md");
    let (_, after) = text.split_once("\n## Beside others\n").unwrap();
    let rows =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut shown = 0;
    for row in rows.skip(2) {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let file = root.join(name).is_file();
            assert!(
                file || sources.contains(&format!("#[test]\n    fn {name}("))
                    || sources.contains(&format!("#[test]\nfn {name}(")),
                "there is no test {name}"
            );
            shown += 1;
        }
    }
    assert!(shown > 15, "{shown}");
}
