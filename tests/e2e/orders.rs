//! Memberships, transfers and snapshots in a run: their evidence, and that a run whose orders nobody follows says nothing.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use harness::NodeId;
use harness::cluster::Addresses;
use harness::fault::FaultKind;
use harness::run::{Plan, run};
use harness::run_dir::RunDir;
use harness::run_file::Binary;
use harness::schedule::Schedule;
use harness::spec::Spec;
use harness::system::whitewater::Whitewater;
use harness::system::{Change, Place, Session, Status, System, Transport};
use harness::translate::{Damage, Election, TranslateError};
use harness::watch::OnViolation;
use tests::binaries::binaries;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

const KINDS: [FaultKind; 3] = [FaultKind::Membership, FaultKind::Transfer, FaultKind::Snapshot];

#[test]
fn orders_are_followed_under_load_and_other_nodes_tell() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("orders");
    let faults = "--faults=membership,transfer,snapshot";
    let args = ["run", faults, "--snapshot-entries", "50", "--time", "10s", "--seed", "0x51f2"];
    let said = sandbox.run(&args, &out).exits(0);
    let recorded = Recorded::at(&out);
    assert_eq!(recorded.verdict(), "valid", "{said}");
    let bitten = |kind: FaultKind| {
        let values = recorded.nemesis(kind.name());
        let found = values.iter().find(|value| value["phase"] == "heal" && value["bit"] == true);
        found.unwrap_or_else(|| panic!("no {kind} bit: {values:?}\n{said}"))["evidence"].clone()
    };
    let membership = bitten(FaultKind::Membership);
    let steps = membership["steps"].as_array().unwrap();
    assert_eq!(steps[0]["goal"], "n6 votes", "{membership}");
    for step in steps.iter().filter(|step| step["reached"] == true) {
        let (told_by, voters) = (step["told_by"].as_array().unwrap(), step["voters"].as_array().unwrap());
        assert!(told_by.len() > voters.len() / 2, "{step}");
        let about = step["goal"].as_str().unwrap().split(' ').next().unwrap();
        assert!(!told_by.iter().any(|node| node == about), "{step}");
    }
    assert!(membership["joint_entries"].as_u64() > Some(0), "{membership}");
    let moved = bitten(FaultKind::Transfer)["moved"].clone();
    assert!(moved["to_term"].as_u64() > moved["from_term"].as_u64() && moved["to"] != moved["from"]);
    let snapshot = bitten(FaultKind::Snapshot);
    assert!(snapshot["installed"].as_u64() > Some(0), "{snapshot}");
    assert!(snapshot["log_began_at"].as_u64() > snapshot["had_at_most"].as_u64(), "{snapshot}");
    assert!(recorded.path.join("nodes/n6/trace.jsonl").is_file(), "the spare has its trace");
    sandbox.assert_nothing_left();
}

/// Our node, but one kind of orders reaches nobody: it is taken, and nothing comes of it.
#[derive(Debug)]
struct Deaf {
    ours: Whitewater,
    to: FaultKind,
}

impl System for Deaf {
    fn name(&self) -> &str {
        self.ours.name()
    }
    fn functions(&self) -> Vec<String> {
        self.ours.functions()
    }
    fn transport(&self) -> Transport {
        self.ours.transport()
    }
    fn survives_wipe(&self) -> bool {
        self.ours.survives_wipe()
    }
    fn command(&self, place: &Place<'_>) -> io::Result<Command> {
        let rare = Whitewater { snapshot_entries: None, ..self.ours.clone() };
        if self.to == FaultKind::Snapshot { rare.command(place) } else { self.ours.command(place) }
    }
    fn client_addr(&self, addresses: &Addresses, node: NodeId) -> SocketAddr {
        self.ours.client_addr(addresses, node)
    }
    fn tells_leader(&self) -> bool {
        self.ours.tells_leader()
    }
    fn tells_applied(&self) -> bool {
        self.ours.tells_applied()
    }
    fn tells_state(&self) -> bool {
        self.ours.tells_state()
    }
    fn status(&self, place: &Place<'_>, timeout: Duration) -> Option<Status> {
        self.ours.status(place, timeout)
    }
    fn session(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>> {
        self.ours.session(nodes, patience)
    }
    fn takes_orders(&self) -> bool {
        self.ours.takes_orders()
    }
    fn reconfigure(&self, addresses: &Addresses, change: Change, timeout: Duration) -> Result<(), String> {
        if self.to == FaultKind::Membership {
            Ok(())
        } else {
            self.ours.reconfigure(addresses, change, timeout)
        }
    }
    fn transfer_leader(
        &self,
        addresses: &Addresses,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, String> {
        match to {
            Some(to) if self.to == FaultKind::Transfer => Ok(to),
            _ => self.ours.transfer_leader(addresses, to, timeout),
        }
    }
    fn installs_snapshots(&self) -> bool {
        self.ours.installs_snapshots()
    }
    fn record_bytes(&self, dir: &RunDir, node: NodeId) -> u64 {
        self.ours.record_bytes(dir, node)
    }
    fn installs(&self, dir: &RunDir, node: NodeId, from: u64) -> u64 {
        self.ours.installs(dir, node, from)
    }
    fn joint_entries(&self, dir: &RunDir, node: NodeId, range: (u64, u64)) -> u64 {
        self.ours.joint_entries(dir, node, range)
    }
    fn binary(&self) -> io::Result<Binary> {
        self.ours.binary()
    }
    fn translate(
        &self,
        dir: &RunDir,
        nodes: u32,
        damages: &[Damage],
    ) -> Result<Option<Vec<Election>>, TranslateError> {
        self.ours.translate(dir, nodes, damages)
    }
}

/// One fault of a kind, dealt by hand: to the drawn node, for a transfer to have a name.
fn schedule(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Membership => {
            r#"{"id":1,"at_ms":500,"duration_ms":500,"target":"leader","fault":{"kind":"membership","change":"grow"}}"#
        }
        FaultKind::Transfer => {
            r#"{"id":1,"at_ms":500,"duration_ms":500,"target":"followers","fault":{"kind":"transfer","to":"drawn"}}"#
        }
        _ => {
            r#"{"id":1,"at_ms":500,"duration_ms":500,"target":"followers","fault":{"kind":"snapshot","by":"cut"}}"#
        }
    }
}

#[test]
fn orders_that_nobody_follows_make_a_run_unknown() {
    let sandbox = Sandbox::new();
    for kind in KINDS {
        let spec = Spec {
            nodes: 3,
            time_ms: 3_000,
            clients: 4,
            rate: 400,
            faults: vec![kind],
            snapshot_entries: Some(50),
            seed: 7,
            ..Spec::default()
        };
        let dir = RunDir::create(&sandbox.out(kind.name())).unwrap();
        let path = sandbox.out(&format!("{kind}.jsonl"));
        std::fs::write(&path, schedule(kind)).unwrap();
        let schedule = Schedule::read(&path).unwrap();
        let ours = Whitewater::of(&spec, binaries().node.clone());
        let system = Arc::new(Deaf { ours, to: kind });
        let on_violation = OnViolation::Continue;
        let plan = Plan { spec, schedule, dir: dir.clone(), system, on_violation, command: Vec::new() };
        let finished = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!(finished.report.verdict.to_string(), "unknown", "{kind}");
        let recorded = Recorded::at(dir.path());
        assert_eq!(recorded.checks("unknown"), ["coverage"], "{kind}");
        let heal = recorded.nemesis(kind.name()).pop().unwrap();
        assert_eq!((&heal["phase"], &heal["bit"]), (&"heal".into(), &false.into()), "{kind}: {heal}");
    }
    sandbox.assert_nothing_left();
}
