//! Disks below unmodified processes: our node loses its power, its space and some of its bits, and a killed harness leaves no mount.

use std::path::Path;
use std::process::Stdio;

use tests::binaries::binaries;
use tests::output::Said;
use tests::poll;
use tests::processes;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::any_system::there_is;

/// Whether this machine lets the harness mount; says so if not.
pub(crate) fn there_are_disks(sandbox: &Sandbox) -> bool {
    let said = Said::of(sandbox.command(&binaries().harness).arg("doctor")).exits(0).stdout;
    let there = said.lines().any(|line| line.starts_with("  fuse       yes"));
    if !there {
        println!("skipped: {said}");
    }
    there
}

/// Lines of mounts of ours below a path, in the namespace of any process.
fn mounts(path: &Path) -> usize {
    let text = path.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mounts =
        processes.map(|entry| std::fs::read_to_string(entry.path().join("mounts")).unwrap_or_default());
    mounts.map(|mounts| mounts.lines().filter(|line| line.contains(&text)).count()).sum()
}

/// It ends where it cannot write or read, as it should, and is started again when its disk is whole.
#[test]
fn etcd_that_ends_on_a_broken_disk_is_valid() {
    let sandbox = Sandbox::new();
    if !there_are_disks(&sandbox) || !there_is("etcd", "--version") {
        return;
    }
    let out = sandbox.out("etcd");
    let args =
        ["run", "--system", "etcd", "--nodes", "1", "--faults", "eio,disk_full", "--workload", "register"];
    let load = ["--clients", "8", "--rate", "400", "--time", "6s", "--seed", "5"];
    let said = sandbox.run(&[&args[..], &load].concat(), &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    let ended = run.nemesis("expected_exit");
    assert!(ended.iter().any(|value| value["status"] == "exit 1"), "{said}\n{ended:?}");
    sandbox.assert_nothing_left();
}

#[test]
fn our_node_loses_nothing_with_its_power_its_space_or_its_bits() {
    let sandbox = Sandbox::new();
    if !there_are_disks(&sandbox) {
        return;
    }
    let out = sandbox.out("disks");
    let faults = "--faults=power_loss,eio,disk_full,slow_fsync,bit_flip";
    let said = sandbox.run(&["run", faults, "--time", "15s", "--seed", "0x51f2"], &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    assert!(said.stdout.contains("disk fuse"), "{said}");
    for (kind, phase, count) in [
        ("power_loss", "inject", "bytes"),
        ("eio", "heal", "answered"),
        ("disk_full", "heal", "answered"),
        ("slow_fsync", "heal", "answered"),
        ("bit_flip", "inject", "bits"),
    ] {
        let values = run.nemesis(kind);
        assert!(values.iter().any(|value| value["bit"] == true), "{kind}: {values:?}\n{said}");
        let counted = |value: &&serde_json::Value| {
            value["phase"] == phase && value["evidence"][count].as_u64() > Some(0)
        };
        assert!(values.iter().any(|value| counted(&value)), "no {kind} has {count}: {values:?}");
    }
    let text = std::fs::read_to_string(out.join("run.json")).unwrap();
    assert!(text.contains("\"disk\": \"fuse\""), "{text}");
    // What the disks held is there to be read.
    for node in 1..=5 {
        let data = out.join(format!("nodes/n{node}/data"));
        assert!(
            data.join("superblock").is_file() && data.join("trace.jsonl").is_file(),
            "{}",
            data.display()
        );
    }
    assert_eq!(mounts(sandbox.path()), 0);
    sandbox.assert_nothing_left();
}

#[test]
fn a_killed_harness_leaves_no_mount_and_no_process_on_one() {
    let sandbox = Sandbox::new();
    if !there_are_disks(&sandbox) {
        return;
    }
    let out = sandbox.out("killed");
    let args = ["run", "--nodes", "3", "--time", "60s", "--faults", "none", "--disk", "fuse"];
    let mut child = sandbox.harness(&args, &out).stdout(Stdio::null()).spawn().unwrap();
    let run = Recorded::at(&out);
    poll::until_true("the run to be under way", || run.events_so_far().len() > 500);
    assert!(mounts(sandbox.path()) > 0, "the nodes are on mounts");
    child.kill().unwrap();
    child.wait().unwrap();
    processes::wait_gone(sandbox.path());
    poll::until_true("the end of the mounts", || mounts(sandbox.path()) == 0);
}

#[test]
fn where_disks_are_real_their_faults_are_refused() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("real");
    let said = sandbox.run(&["run", "--faults", "power_loss", "--disk", "real"], &out).exits(3);
    said.tells("cannot have the fault power_loss", "it can have kill");
}
