//! What stands where: the root, the READMEs, the length and the first line of each source file.

use std::path::Path;

use tests::workspace::{GENERATED, files, read, root};

/// Everything that may stand at the root, beside what is hidden or generated.
const ROOT: [&str; 7] = ["Cargo.toml", "Cargo.lock", "README.md", "node", "harness", "checker", "tests"];
/// A file that needs more lines is probably two nouns.
const LINES_MAX: usize = 800;
/// Longer files that there are already. It only ever gets shorter.
const TOO_LONG: [&str; 0] = [];
/// The members of the workspace.
pub(crate) const MEMBERS: [&str; 4] = ["node", "harness", "checker", "tests"];

fn may_stand_at_the_root(name: &str) -> bool {
    name.starts_with('.') || name.starts_with("LICENSE") || ROOT.contains(&name) || GENERATED.contains(&name)
}

fn is_too_long(text: &str) -> bool {
    text.lines().count() > LINES_MAX
}

/// A build script and a program's `main.rs` own something, too.
fn says_what_it_owns(text: &str) -> bool {
    text.starts_with("//! ")
}

#[test]
fn the_root_holds_what_the_architecture_lists() {
    assert!(!may_stand_at_the_root("docs") && !may_stand_at_the_root("notes.md"));
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(may_stand_at_the_root(&name), "{name} has no place at the root");
    }
    for name in ROOT {
        assert!(root().join(name).exists(), "{name} is missing at the root");
    }
}

#[test]
fn every_crate_has_a_readme_and_the_root_links_to_it() {
    let text = read("README.md");
    for member in MEMBERS {
        let path = format!("{member}/README.md");
        assert!(read(&path).lines().count() > 5, "{path} says nothing");
        assert!(text.contains(&format!("]({path})")), "README.md does not link to {path}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let lost = |path: &Path, text: &str| -> Vec<String> {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let local = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let target = |link: &str| {
            let file = link.split('#').next().unwrap_or_default();
            root().join(path).parent().map(|parent| parent.join(file))
        };
        local.filter(|link| !target(link).is_some_and(|path| path.exists())).map(str::to_owned).collect()
    };
    assert_eq!(lost(Path::new("README.md"), "[a](missing.md) [b](Cargo.toml#x)"), ["missing.md"]);
    for path in files(".md") {
        assert_eq!(lost(&path, &read(&path)), [""; 0], "{}", path.display());
    }
}

#[test]
fn no_source_file_swells() {
    assert!(is_too_long(&"\n".repeat(LINES_MAX + 1)) && !is_too_long(&"\n".repeat(LINES_MAX)));
    let long: Vec<_> = files(".rs").into_iter().filter(|path| is_too_long(&read(path))).collect();
    let known: Vec<_> = TOO_LONG.iter().map(Path::new).collect();
    assert_eq!(long, known, "a file over {LINES_MAX} lines, or one in the list that is no longer");
}

#[test]
fn every_source_file_says_first_what_it_owns() {
    assert!(!says_what_it_owns("use std::fs;\n") && says_what_it_owns("//! A noun.\n"));
    let sources = files(".rs");
    assert!(sources.len() > 50, "the walk found only {} files", sources.len());
    let silent: Vec<_> = sources.iter().filter(|path| !says_what_it_owns(&read(path))).collect();
    assert!(silent.is_empty(), "no `//!` at the start of {silent:?}");
}

#[test]
fn the_readme_of_the_tests_tells_what_each_file_shows() {
    let text = read("tests/README.md");
    let mut shown = files(".rs");
    shown.retain(|path| path.starts_with("tests/e2e") && !path.ends_with("main.rs"));
    assert!(shown.len() > 5, "the end-to-end tests are not where they were");
    for path in shown {
        let row = format!("| `{}` |", path.strip_prefix("tests").unwrap().display());
        assert!(text.contains(&row), "tests/README.md has no row that begins with {row}");
    }
}
