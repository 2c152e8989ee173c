//! The node that people run knows nothing of planted bugs; the one that has them says so.

use std::process::Command;

use tests::binaries::binaries;
use tests::output::Said;

use crate::{FOUND_BY, planted_node};

/// Strings that a build with planted bugs contains: from its help, its errors, and its symbols.
const TELLTALES: [&str; 3] = ["Activate a planted bug", "no planted bug", "7planted7enabled"];

fn contains(program: &[u8], text: &str) -> bool {
    program.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_honest_node_has_no_planted_bug_and_no_way_to_ask_for_one() {
    let serve = ["serve", "1", "127.0.0.1:1", "--planted", "A03"];
    let honest = &binaries().node;
    let said = Said::of(Command::new(honest).args(serve)).exits(64);
    assert!(said.stderr.contains("--planted"), "{said}");
    let help = Said::of(Command::new(honest).args(["serve", "--help"])).exits(0);
    assert!(!help.stdout.contains("planted"), "{help}");
    let id = Said::of(Command::new(honest).arg("--build-id")).exits(0);
    assert_eq!(id.stdout.trim(), node::BUILD_ID);
    let bytes = std::fs::read(honest).unwrap();

    // The control: the same look at a build that has them finds them.
    let planted = planted_node();
    let id = Said::of(Command::new(&planted).arg("--build-id")).exits(0);
    assert_eq!(id.stdout.trim(), format!("{} planted", node::BUILD_ID));
    let planted_bytes = std::fs::read(&planted).unwrap();
    for text in TELLTALES {
        assert!(contains(&planted_bytes, text), "{text:?} does not tell a planted build");
        assert!(!contains(&bytes, text), "the honest node contains {text:?}");
    }
    let unknown = Said::of(Command::new(&planted).args(&serve[..3]).args(["--planted", "A00"])).exits(64);
    let ids = format!("[{}]", FOUND_BY.map(|(bug, _)| bug).join(", "));
    assert!(unknown.stderr.contains(&ids), "there is a planted bug that no test looks for\n{unknown}");
}
