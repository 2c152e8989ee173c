//! A cluster of scripts: real processes that are killed, stopped, limited and seen to be so.

use super::*;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::net::Fabric;

/// Writes an executable script. Another process writes it: if this one did, a child forked meanwhile by another test would hold
/// the file open for writing, and executing it would fail with "text file busy".
pub(crate) fn write_script(path: &Path, text: &str) {
    let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    assert!(Command::new("/bin/sh").arg("-c").arg(write).arg(path).arg(text).status().unwrap().success());
}

/// A cluster whose nodes are shell scripts: real processes that answer nobody.
pub(crate) fn cluster_of(script: &str, nodes: u32, dir: &Path) -> (Cluster, Fabric) {
    cluster_with(script, nodes, dir, None, None)
}

fn cluster_with(
    script: &str,
    nodes: u32,
    dir: &Path,
    disks: Option<Disks>,
    groups: Option<Groups>,
) -> (Cluster, Fabric) {
    let binary = dir.join("script");
    write_script(&binary, script);
    let addresses = Addresses::claim(nodes).unwrap();
    let fabric = Fabric::start(&addresses, 1).unwrap();
    let system = Arc::new(scripted(binary));
    let cluster = Cluster::start_all(system, &run_dir(dir), addresses, true, disks, groups);
    (cluster.unwrap(), fabric)
}

fn run_dir(dir: &Path) -> RunDir {
    RunDir::open(&dir.join("run"))
}

/// The same on disks of the harness's own; nothing, and says so, where there are none.
pub(crate) fn cluster_on_disks(script: &str, nodes: u32, dir: &Path) -> Option<(Cluster, Fabric)> {
    if let Some(reason) = crate::disk::refused() {
        println!("skipped: no disks of the harness's own on this machine: {reason}");
        return None;
    }
    let disks = Disks::create(&run_dir(dir), nodes, &["trace.jsonl"]).unwrap();
    Some(cluster_with(script, nodes, dir, Some(disks), None))
}

/// The same with memory that can be limited; nothing, and says so, where it cannot.
pub(crate) fn cluster_in_groups(script: &str, nodes: u32, dir: &Path) -> Option<(Cluster, Fabric)> {
    match Groups::create(nodes) {
        Ok(groups) => Some(cluster_with(script, nodes, dir, None, Some(groups))),
        Err(error) => {
            println!("skipped: no control groups for memory on this machine: {error}");
            None
        }
    }
}

fn scripted(binary: PathBuf) -> Whitewater {
    Whitewater {
        binary,
        cluster_name: "test".to_owned(),
        bug: None,
        log_level: "info".to_owned(),
        trace: true,
        snapshot_entries: None,
        node_args: Vec::new(),
        clock_file: false,
        unsynced_in_memory: false,
    }
}

fn wait_for_exits(cluster: &Cluster, count: usize) -> Vec<SelfExit> {
    let started = Instant::now();
    let mut exits = Vec::new();
    while exits.len() < count {
        assert!(started.elapsed() < Duration::from_secs(10), "{exits:?}");
        exits.extend(cluster.self_exits());
        std::thread::sleep(Duration::from_millis(1));
    }
    exits
}

#[test]
fn nodes_are_killed_restarted_paused_and_resumed_with_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _fabric) = cluster_of("echo \"$@\"; exec sleep 1000", 3, dir.path());
    assert_eq!(cluster.up(), [1, 2, 3]);
    let stdout = || fs::read_to_string(cluster.run_dir.stdout(2)).unwrap();
    let started = Instant::now();
    while !stdout().ends_with('\n') {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    let killed = cluster.kill(2).unwrap();
    assert_eq!((killed.saw.as_str(), killed.confirmed), ("signal 9", true));
    assert_eq!(cluster.up(), [1, 3]);
    assert_eq!(cluster.kill(2).unwrap_err().to_string(), "n2 is killed");
    assert_ne!(cluster.start(2).unwrap().pid, killed.pid);
    assert_eq!(cluster.start(2).unwrap_err().to_string(), "n2 is up");

    assert!(cluster.pause(1).unwrap().confirmed);
    assert_eq!(cluster.kill(1).unwrap_err().to_string(), "n1 is paused");
    assert_eq!(cluster.pause(1).unwrap_err().to_string(), "n1 is paused");
    assert_eq!(cluster.resume(3).unwrap_err().to_string(), "n3 is up");
    let resumed = cluster.resume(1).unwrap();
    assert_eq!((resumed.saw.as_str(), resumed.confirmed), ("T", true));
    assert_eq!(cluster.up(), [1, 2, 3]);
    assert_eq!(cluster.self_exits(), []);

    cluster.pause(3).unwrap();
    cluster.stop_all();
    assert!(cluster.up().is_empty());
    assert_eq!(cluster.self_exits(), [], "what is stopped did not exit by itself");
    assert!(stdout().starts_with("serve 2 127."), "{}", stdout());
}

#[test]
fn a_node_that_exits_by_itself_is_reported_once_and_not_touched_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _fabric) =
        cluster_of("[ $2 = 2 ] && { echo broken >&2; exit 7; }; exec sleep 1000", 2, dir.path());
    let exits = wait_for_exits(&cluster, 1);
    let said = "broken\n".to_owned();
    let expected = SelfExit { node: 2, status: "exit 7".to_owned(), said, stream: "stderr" };
    assert_eq!(exits, [expected]);
    assert_eq!(cluster.self_exits(), []);
    assert_eq!(cluster.kill(2).unwrap_err().to_string(), "n2 is dead by itself");
    assert_eq!(cluster.start(2).unwrap_err().to_string(), "n2 is dead by itself");
    assert_eq!(cluster.up(), [1]);
}

#[test]
fn what_a_node_said_before_its_last_start_does_not_explain_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = "[ -e ended ] && { echo 'the file is torn'; exit 1; }; echo a warning >&2; exec sleep 1000";
    let script = format!("cd {}; {script}", dir.path().display());
    let (cluster, _fabric) = cluster_of(&script, 1, dir.path());
    while fs::read(cluster.run_dir().stderr(1)).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.kill(1).unwrap();
    fs::write(dir.path().join("ended"), "").unwrap();
    cluster.start(1).unwrap();
    let exits = wait_for_exits(&cluster, 1);
    assert_eq!((exits[0].said.as_str(), exits[0].stream), ("the file is torn\n", "stdout"));
}

#[test]
fn dropping_a_cluster_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _fabric) = cluster_of("exec sleep 1000", 3, dir.path());
    let pids = (1..=3).map(|node| cluster.pause(node).unwrap().pid).collect::<Vec<_>>();
    drop(cluster);
    assert!(pids.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()));
}

#[test]
fn nodes_that_do_not_answer_or_die_are_told_when_no_leader_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _fabric) = cluster_of("exec sleep 1000", 2, dir.path());
    let error = cluster.wait_ready(Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("n1 does not answer, n2 does not answer"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let (cluster, _fabric) = cluster_of("echo cannot bind >&2; exit 74", 1, dir.path());
    let error = cluster.wait_ready(Duration::from_secs(10)).unwrap_err().to_string();
    assert_eq!(error, "n1 died by itself (exit 74): cannot bind");
}

#[test]
fn who_is_started_while_files_are_limited_may_open_as_many_as_the_others_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    // A shell that forks without an exec: under the limit nothing could be loaded.
    let script = "trap '( while :; do :; done ) &' USR1; echo ready >&2; while :; do :; done";
    let (cluster, _fabric) = cluster_of(script, 1, dir.path());
    let wait = |what: &dyn Fn() -> bool| {
        while !what() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&|| !fs::read(cluster.run_dir().stderr(1)).unwrap().is_empty());
    let group = || match &*lock(&cluster.slots[0]) {
        Slot::Up(process) => process.members(),
        _ => Vec::new(),
    };
    let limit = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    let before = limit(&group()[0]);
    cluster.limit_files(1).unwrap();
    kill(Pid::from_raw(group()[0] as i32), Signal::SIGUSR1).unwrap();
    wait(&|| group().len() == 2);
    cluster.limit_files(1).unwrap();
    assert!(group().iter().all(|pid| limit(pid) < before));
    cluster.unlimit_files(1);
    assert_eq!(group().iter().map(limit).collect::<Vec<_>>(), [before, before]);
}
