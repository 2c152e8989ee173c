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
