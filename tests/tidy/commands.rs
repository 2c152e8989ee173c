//! The commands that READMEs show exist: every subcommand and every flag, as `--help` tells them.

use std::collections::BTreeMap;
use std::process::Command;

use tests::binaries::binaries;
use tests::workspace::{files, read};

/// A command of one of our programs, as a document shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    program: String,
    /// And one below it, if a second name follows: an argument that looks like one does no harm to the help.
    subcommand: Option<Vec<String>>,
    flags: Vec<String>,
}

/// The commands in a document: in its blocks of code and between single backticks.
fn shown(text: &str) -> Vec<Shown> {
    let mut snippets = Vec::new();
    let mut block = None;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language.trim().to_owned()) };
        } else {
            match block.as_deref() {
                // What is tagged otherwise is output, or JSON.
                Some("" | "sh" | "bash" | "console") => {
                    let line = line
                        .trim_start()
                        .trim_start_matches("$ ")
                        .replace("&&", "\n")
                        .replace([';', '|'], "\n");
                    snippets.extend(line.lines().map(str::to_owned));
                }
                Some(_) => {}
                None => snippets.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
            }
        }
    }
    snippets.iter().filter_map(|snippet| command(snippet)).collect()
}

fn command(snippet: &str) -> Option<Shown> {
    let snippet = snippet.split(" #").next().unwrap_or_default();
    let plain = snippet.replace(['[', ']', '…', '(', ')'], " ");
    let mut words = plain.split_whitespace();
    let path = words.next()?;
    let program = path.rsplit('/').next()?;
    if !["node", "harness", "checker"].contains(&program) || path.ends_with('/') {
        return None;
    }
    let mut rest = words.clone();
    let first = rest.next()?;
    let name = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let subcommand = (!first.starts_with('-') && name(first)).then(|| {
        let second = rest.next().filter(|word| !word.starts_with('-') && name(word));
        [Some(first), second].into_iter().flatten().map(str::to_owned).collect()
    });
    // A word that is no flag and no name is no command of ours: the line only begins like one.
    if subcommand.is_none() && !first.starts_with('-') {
        return None;
    }
    let flags = words
        .filter_map(|word| word.split(['=', ',', '`']).next())
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned);
    Some(Shown { program: program.to_owned(), subcommand, flags: flags.collect() })
}

/// What `PROGRAM [SUBCOMMAND …] --help` prints; `None` if there is no such subcommand.
fn help(program: &str, subcommand: &[String]) -> Option<String> {
    let programs = binaries();
    let path = match program {
        "node" => &programs.node,
        "harness" => &programs.harness,
        _ => &programs.checker,
    };
    let output = Command::new(path).args(subcommand).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn commands_are_recognised_in_blocks_and_in_sentences() {
    let text = "```\ncargo build && ./target/release/harness run --time 5s --out=x # note\nnodes\n```\nSee `node serve 1 A` and \
                `node` and `checker check PATH [--json]`.\n```json\nnode fake\n```\n";
    let commands: Vec<_> = shown(text)
        .into_iter()
        .map(|s| (s.program, s.subcommand.unwrap().join(" "), s.flags.join(" ")))
        .collect();
    let expected =
        [("harness", "run", "--time --out"), ("node", "serve", ""), ("checker", "check", "--json")];
    assert_eq!(commands, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    assert!(help("harness", &["rum".to_owned()]).is_none());
    assert!(help("harness", &["bench".to_owned(), "rum".to_owned()]).is_none());
}

#[test]
fn documents_show_only_commands_that_exist() {
    let mut helps = BTreeMap::new();
    let mut count = 0;
    for path in files(".md") {
        for Shown { program, subcommand, flags } in shown(&read(&path)) {
            count += 1;
            let text = helps
                .entry((program.clone(), subcommand.clone()))
                .or_insert_with(|| help(&program, subcommand.as_deref().unwrap_or_default()));
            let name = format!("{program} {}", subcommand.unwrap_or_default().join(" "));
            let Some(text) = text else { panic!("{}: there is no `{name}`", path.display()) };
            for flag in flags {
                // `cas KEY --absent NEW` is a word of an operation, and stands in the help as one.
                let known =
                    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == flag);
                // A feature that only another build has is told apart by that build's own tests.
                let planted = flag == "--planted";
                assert!(known || planted, "{}: `{name}` has no {flag}", path.display());
            }
        }
    }
    assert!(count > 10, "only {count} commands found in all documents");
}

#[test]
fn the_readme_shows_the_two_commands_of_the_project() {
    let text = read("README.md");
    for command in ["cargo build --release && ./target/release/harness run", "cargo test --workspace"] {
        assert!(text.lines().any(|line| line.trim_start_matches("$ ").starts_with(command)), "{command}");
    }
}
