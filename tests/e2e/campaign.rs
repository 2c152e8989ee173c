//! Many runs, one table, one exit code; and what there is to run.

use harness::anchor::Moment;
use harness::fault::FaultKind;
use harness::profile;
use harness::spec::WorkloadKind;
use harness::system::description;
use tests::binaries::binaries;
use tests::output::Said;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

#[test]
fn a_campaign_prints_a_row_for_each_run_and_keeps_what_it_is_told_to() {
    let sandbox = Sandbox::new();
    let out = sandbox.out("campaign");
    let args = ["campaign", "--runs", "2", "--keep", "all", "--nodes", "3", "--time", "4s", "--seed", "5"];
    let said = sandbox.run(&[&args[..], &["--faults", "kill,partition"]].concat(), &out).exits(0);
    let rows: Vec<_> = said.stdout.lines().filter(|line| line.contains(" 0x")).skip(1).collect();
    assert_eq!(rows.len(), 2, "{said}");
    for row in &rows {
        assert!(row.contains(" valid ") && row.contains("kill ") && row.contains("partition "), "{said}");
    }
    assert!(said.stdout.lines().last().unwrap().starts_with("VALID  2 runs   2 valid"), "{said}");
    let mut kept: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.retain(|path| path.is_dir());
    assert_eq!(kept.len(), 2);
    for dir in kept {
        assert_eq!(Recorded::at(&dir).verdict(), "valid");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn the_list_names_every_workload_and_every_fault() {
    let said = Said::of(std::process::Command::new(&binaries().harness).arg("list")).exits(0);
    let names: Vec<_> = said.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let workloads = WorkloadKind::ALL.map(WorkloadKind::name);
    let faults = FaultKind::ALL.map(FaultKind::name);
    let profiles = profile::SHIPPED.map(|(name, _)| name);
    let anchors = Moment::ALL.map(Moment::name);
    let systems = description::SHIPPED.map(|(name, _)| name);
    let expected = [
        &["workloads"],
        &workloads[..],
        &["faults"],
        &faults[..],
        &["profiles"],
        &profiles[..],
        &["anchors"],
        &anchors[..],
        &["systems"],
        &systems[..],
    ];
    assert_eq!(names, expected.concat());
    let said = Said::of(std::process::Command::new(&binaries().harness).args(["list", "faults"])).exits(0);
    assert_eq!(said.stdout.lines().count(), 1 + faults.len(), "{said}");
    assert!(said.stdout.starts_with("faults\n"), "{said}");
}
