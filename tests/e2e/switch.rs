//! Nodes on hosts of their own: every kind of fault that datagrams can have, our node and a system that we did not write, and
//! nothing left of it. Where this process can make no hosts, each says so and is done.

use harness::cluster::Hosts;
use harness::fault::{FaultKind, Shape};
use harness::system::Transport;
use tests::poll;
use tests::processes;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::any_system::there_is;

/// Whether hosts can be made; says so if not, because a test that is skipped must not look like one that ran.
fn there_are_hosts() -> bool {
    let refused = Hosts::probe().err();
    if let Some(error) = &refused {
        println!("skipped: this process can make no hosts: {error}");
    }
    refused.is_none()
}

/// Every kind that the cluster can have had an effect.
fn assert_all_bit(run: &Recorded, kinds: impl Iterator<Item = FaultKind>) {
    for kind in kinds {
        let values = run.nemesis(kind.name());
        assert!(values.iter().any(|value| value["bit"] == true), "no {kind} bit: {values:?}");
    }
}

#[test]
fn a_storm_of_every_fault_over_the_switch_is_valid_and_every_kind_bites() {
    if !there_are_hosts() {
        return;
    }
    let sandbox = Sandbox::new();
    let out = sandbox.out("storm");
    let args = ["run", "--profile", "storm", "--disk", "real", "--time", "20s", "--seed", "0x57"];
    let said = sandbox.run(&[&args[..], &["--net", "switch"]].concat(), &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    assert!(said.stdout.contains("\n  net     switch"), "{said}");
    assert_eq!(run.json("run.json")["spec"]["net"], "switch");
    let shape = Shape {
        has_commands: false,
        unsynced_in_memory: false,
        nodes: 5,
        transport: Transport::Udp,
        hosts: true,
        clocks: harness::clock::is_possible(),
        survives_wipe: false,
        takes_orders: true,
        installs_snapshots: true,
        disks: false,
        groups: harness::group::Groups::probe().is_ok(),
    };
    assert_all_bit(&run, FaultKind::ALL.into_iter().filter(|kind| kind.possible(shape)));
    assert!(run.operations("ok") >= 1_500, "{said}");
    sandbox.assert_nothing_left();
}

#[test]
fn etcd_is_valid_over_the_switch_and_its_streams_are_hurt() {
    if !there_are_hosts() || !there_is("etcd", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let out = sandbox.out("etcd");
    let faults = "kill,partition,loss,delay,duplicate,garble,rate,reset,cut_clients";
    let args = ["run", "--system", "etcd", "--net", "switch", "--profile", "steady", "--faults", faults];
    // So many that some are always about to ask, although others wait for an election; and this seed cuts clients off twice.
    let load = ["--workload", "mixed", "--clients", "40", "--rate", "400", "--time", "20s", "--seed", "16"];
    let said = sandbox.run(&[&args[..], &load].concat(), &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    assert_all_bit(&run, faults.split(',').map(|name| name.parse().unwrap()));
    assert!(run.operations("ok") >= 300, "{said}");
    sandbox.assert_nothing_left();
}

#[test]
fn a_killed_run_leaves_no_namespace() {
    if !there_are_hosts() {
        return;
    }
    let sandbox = Sandbox::new();
    let args = ["run", "--time", "60s", "--faults", "loss", "--net", "switch", "--nodes", "3"];
    let mut child =
        sandbox.harness(&args, &sandbox.out("killed")).stdout(std::process::Stdio::null()).spawn().unwrap();
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    poll::until_true("all nodes", || processes::nodes_of(sandbox.path()).len() == 3);
    let own = namespace(std::process::id().cast_signed());
    let of_nodes = || processes::nodes_of(sandbox.path()).into_iter().filter_map(|node| namespace(node.pid));
    poll::until_true("nodes on hosts of their own", || {
        of_nodes().filter(|seen| Some(seen) != own.as_ref()).count() == 3
    });
    let theirs: Vec<_> = of_nodes().collect();
    assert_eq!(theirs.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{theirs:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // A namespace lives in processes and descriptors, and no process of the run does.
    sandbox.assert_nothing_left();
    let in_theirs = |pid: i32| namespace(pid).is_some_and(|seen| theirs.contains(&seen));
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    assert!(!pids.into_iter().any(in_theirs));
}
