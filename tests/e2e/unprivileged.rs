//! The main job as a user who may do nothing special.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

use tests::output::Said;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::main_job::assert_valid_under_every_fault;

/// `nobody` on every Linux.
const NOBODY: u32 = 65_534;

#[test]
fn the_main_job_needs_no_privilege() {
    if !nix::unistd::geteuid().is_root() {
        println!("these tests run without privilege, so `main_job` has shown it");
        return;
    }
    let sandbox = Sandbox::new();
    let harness = sandbox.open_to_everybody();
    let out = sandbox.out("nobody");
    let mut command = sandbox.command(&harness);
    command.uid(NOBODY).gid(NOBODY).args(["run", "--time", "8s", "--seed", "7", "--out"]).arg(&out);
    let said = Said::of(&mut command).exits(0);
    assert_valid_under_every_fault(&said, &Recorded::at(&out));
    assert_eq!(std::fs::metadata(out.join("nodes/n1/data")).unwrap().uid(), NOBODY);
    sandbox.assert_nothing_left();
}

/// One kind bends the clocks that a node of ours asks its file for, and by its own record it takes that for the time; the other, which
/// writes nothing, did nothing.
#[test]
fn clocks_of_our_own_node_are_bent_without_privilege_and_a_dud_of_them_does_not_bite() {
    let sandbox = Sandbox::new();
    let harness = sandbox.open_to_everybody();
    if Said::of(sandbox.command(&harness).args(["duds", "--help"])).code != Some(0) {
        println!("skipped: a release build has no duds");
        return;
    }
    let out = sandbox.out("clocks");
    let mut command = sandbox.command(&harness);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["run", "--clocks", "file", "--faults", "clock_jump,clock_rate", "--dud", "clock_jump"]);
    command.args(["--nodes", "3", "--time", "4s", "--seed", "0x51f2", "--out"]).arg(&out);
    let said = Said::of(&mut command).exits(2);
    assert!(said.stdout.contains("no clock_jump had an effect"), "{said}");
    assert!(said.stdout.contains("   clocks file\n"), "{said}");
    let run = Recorded::at(&out);
    assert!(run.nemesis("clock_rate").iter().any(|value| value["bit"] == true), "{said}");
    assert!(run.nemesis("clock_jump").iter().any(|value| value["outcome"] == "installed"), "{said}");
    sandbox.assert_nothing_left();
}

#[test]
fn what_was_not_flushed_is_lost_without_privilege_and_nothing_that_was_acknowledged() {
    let sandbox = Sandbox::new();
    let harness = sandbox.open_to_everybody();
    let out = sandbox.out("memory");
    let mut command = sandbox.command(&harness);
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["run", "--faults", "power_loss", "--disk", "memory", "--nodes", "3", "--time", "6s"]);
    command.args(["--seed", "0x51f2", "--out"]).arg(&out);
    let said = Said::of(&mut command).exits(0);
    assert!(said.stdout.contains("   disk memory\n"), "{said}");
    let losses = Recorded::at(&out).nemesis("power_loss");
    let lost = losses.iter().filter_map(|value| value["evidence"]["lost_records"].as_u64()).sum::<u64>();
    assert!(lost > 0 && losses.iter().any(|value| value["bit"] == true), "{said}\n{losses:?}");
    sandbox.assert_nothing_left();
}
