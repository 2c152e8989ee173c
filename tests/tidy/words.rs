//! Words that must not stand in the workspace: marks of unfinished work, names with another meaning here, paths of one machine.

use tests::workspace::{files, read};

/// Words that the architecture's table of names replaces, with what to say.
const REPLACED: [(&str, &str); 3] =
    [("packet", "message, request or datagram"), ("chaos", "fault"), ("rerun", "replay or recheck")];

/// Marks of what is not finished. Put together here, so that this file is no offence.
fn marks() -> [String; 5] {
    ["to|do!", "un|implemented!", "TO|DO", "FIX|ME", "#[ig|nore"].map(|mark| mark.replace('|', ""))
}

/// Roots of paths that exist on one machine alone.
fn local_roots() -> [String; 4] {
    ["/home|/", "/ro|ot/", "/wo|rk/", "/t|mp/"].map(|path| path.replace('|', ""))
}

/// Whole words of a line, in lower case.
fn words(line: &str) -> impl Iterator<Item = String> {
    // Dashes join: `rerun-if-changed` is cargo's word.
    let cut = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    line.split(cut).filter(|word| !word.is_empty()).map(|word| word.trim_end_matches('s').to_lowercase())
}

fn offences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        found.extend(marks().into_iter().filter(|mark| line.contains(mark.as_str())));
        for (never, say) in REPLACED {
            if words(line).any(|word| word == never) {
                found.push(format!("{never} (say {say})"));
            }
        }
        for path in local_roots() {
            let rooted = line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + path.len()..].chars().next();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
                    && after.is_some_and(|c| c.is_ascii_alphanumeric())
            });
            if rooted {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn offences_are_found_and_nothing_else() {
    let mark = marks()[3].clone();
    assert_eq!(offences(&format!("// {mark}: later\nlet x = 1;")), [mark]);
    assert_eq!(offences("Two Packets\npacketizer"), ["packet (say message, request or datagram)"]);
    let path = local_roots()[0].clone();
    assert_eq!(offences(&format!("see {path}somebody/file")), [path.as_str()]);
    assert_eq!(offences(&format!("run ../shared{path}x or {path}")), [""; 0]);
}

#[test]
fn sources_and_documents_say_what_the_architecture_says() {
    let checked = [".rs", ".md", ".toml"].map(files).concat();
    // The list of what is replaced names it.
    let checked = checked.into_iter().filter(|path| !path.ends_with("tidy/words.rs"));
    let offending: Vec<_> =
        checked.map(|path| (offences(&read(&path)), path)).filter(|(found, _)| !found.is_empty()).collect();
    assert!(offending.is_empty(), "{offending:#?}");
}
