//! Wrong command lines and missing programs: one error that names the thing and the way out, and an exit code that is no verdict.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::binaries::binaries;
use tests::output::Said;
use tests::sandbox::Sandbox;

#[test]
fn a_typo_is_64_in_all_three_programs_and_help_is_0() {
    let programs = binaries();
    let wrong: [(&std::path::Path, &[&str]); 12] = [
        (&programs.harness, &[]),
        (&programs.harness, &["rum"]),
        (&programs.harness, &["run", "--faults", "fire"]),
        (&programs.harness, &["run", "--nodes", "0"]),
        (&programs.harness, &["campaign"]),
        (&programs.checker, &[]),
        (&programs.checker, &["check"]),
        (&programs.checker, &["chekc", "x"]),
        (&programs.node, &[]),
        (&programs.node, &["serve", "1"]),
        (&programs.node, &["serve", "4", "127.0.0.1:8001"]),
        (&programs.node, &["client", "--addr", "127.0.0.1:8001", "put", "k", "v"]),
    ];
    for (program, args) in wrong {
        let said = Said::of(Command::new(program).args(args)).exits(64);
        assert!(said.stdout.is_empty() && !said.stderr.contains("panicked"), "{}\n{said}", said.command);
    }
    for program in [&programs.harness, &programs.checker, &programs.node] {
        let said = Said::of(Command::new(program).arg("--help")).exits(0);
        assert!(said.stdout.contains("Usage:"), "{said}");
        Said::of(Command::new(program).arg("--version")).exits(0);
    }
}

#[test]
fn a_harness_without_its_node_is_an_error_of_the_tool() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("none");
    let harness = sandbox.open_to_everybody();
    let node = harness.with_file_name("node");
    let run = || Said::of(sandbox.command(&harness).args(["run", "--out"]).arg(&out)).exits(3);

    std::fs::remove_file(&node).unwrap();
    run().tells("no node executable at", "cargo build --release");

    std::fs::write(&node, "#!/bin/sh\necho 0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o755)).unwrap();
    run().tells("0123456789abcdef", "cargo build --release");

    let planted =
        Said::of(sandbox.command(&harness).args(["run", "--bug", "E05", "--out"]).arg(&out)).exits(3);
    planted.tells(
        "no node with planted bugs",
        "cargo build --release --workspace --features node/planted --bin node-planted",
    );
    assert!(!out.exists(), "nothing was begun");
    sandbox.assert_nothing_left();
}

#[test]
fn a_taken_run_directory_is_refused() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("taken");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("run.json"), "mine").unwrap();
    sandbox.run(&["run", "--time", "1s"], &out).exits(3).tells("exists already", "--out");
    assert_eq!(std::fs::read_to_string(out.join("run.json")).unwrap(), "mine");
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_no_history_is_an_error_of_the_tool() {
    let sandbox = Sandbox::new();
    sandbox.checker(&["check"], &sandbox.out("missing")).exits(3).tells("missing", "");
    let file = sandbox.out("noise");
    std::fs::write(&file, [0xff; 100]).unwrap();
    sandbox.checker(&["check"], &file).exits(3).tells("noise", "");
}
