//! `harness/README.md` says what the code says: its tables are compared with it.
//! Whether the prose is true is for people to judge.

use harness::anchor::Moment;
use harness::fault::FaultKind;
use harness::profile::{Profile, SHIPPED};
use harness::spec::WorkloadKind;

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).expect("the crate has a README")
}

/// The rows of the first table after the heading, without head and rule: cells without their ticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = readme();
    let (_, after) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading:?} in the README"));
    after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_workloads_are_those_of_the_code() {
    let code = WorkloadKind::ALL.map(|kind| vec![kind.name().to_owned(), kind.summary().to_owned()]);
    assert_eq!(table("\n## Workloads\n"), code);
}

#[test]
fn the_profiles_are_those_of_the_code() {
    let code =
        SHIPPED.map(|(name, _)| vec![name.to_owned(), Profile::load(name).expect("it is right").about]);
    assert_eq!(table("\n## Profiles\n"), code);
}

#[test]
fn the_anchors_are_those_of_the_code() {
    let code = Moment::ALL.map(|moment| vec![moment.name().to_owned(), moment.summary().to_owned()]);
    assert_eq!(table("\n### Moments\n"), code);
}

#[test]
fn the_faults_are_those_of_the_code() {
    let code = FaultKind::ALL.map(|kind| vec![kind.name().to_owned(), kind.summary().to_owned()]);
    assert_eq!(table("\n## Faults\n"), code);
}

#[test]
fn every_file_of_a_run_directory_is_listed() {
    let dir = harness::run_dir::RunDir::open(std::path::Path::new(""));
    let listed =
        table("\n## The run directory\n").into_iter().map(|row| row[0].clone()).collect::<Vec<_>>().join(" ");
    for path in [
        dir.run_json(),
        dir.system(),
        dir.driver_log(),
        dir.admin_log(),
        dir.schedule(),
        dir.history(),
        dir.trace(7),
        dir.state(7),
        dir.data(7),
        dir.verdict(),
    ] {
        let name = path.display().to_string().replace("n7", "nI");
        assert!(listed.contains(&name), "{name} is not in the README's table: {listed}");
    }
}
