//! The nemesis on `sleep` processes: what is hit, what is recorded, and that everything runs again.

use super::*;
use crate::cluster::tests::cluster_of;
use crate::fault::FaultKind;
use std::cell::RefCell;
use std::net::UdpSocket;

/// Runs a schedule on `sleep` processes: every line as (`f`, value).
fn check(schedule: &str, during: impl Fn(&Cluster, &Fabric, &Value)) -> Vec<(String, Value)> {
    let dir = tempfile::tempdir().unwrap();
    check_on(cluster_of("exec sleep 1000", 3, dir.path()), schedule, during)
}

/// Runs a schedule on three processes.
fn check_on(
    (cluster, fabric): (Cluster, Fabric),
    schedule: &str,
    during: impl Fn(&Cluster, &Fabric, &Value),
) -> Vec<(String, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("schedule.jsonl");
    std::fs::write(&path, schedule).unwrap();
    let schedule = Schedule::read(&path).unwrap();
    let lines = RefCell::new(Vec::new());
    let sink = |f: &str, value: Value| {
        during(&cluster, &fabric, &value);
        lines.borrow_mut().push((f.to_owned(), value));
    };
    run(&schedule, 1, &cluster, &fabric, nothing_open(&sink), Instant::now(), &AtomicBool::new(false));
    assert_eq!(cluster.up(), [1, 2, 3], "all run again");
    assert!(schedule.faults.iter().all(|planned| fabric.counters(planned.id).is_none()), "no rule is left");
    lines.into_inner()
}

fn nothing_open<'a>(sink: &'a dyn Fn(&str, Value)) -> Record<'a> {
    Record { sink, in_flight: &Vec::new, acknowledged: &|| 0 }
}

fn of<'v>(lines: &'v [(String, Value)], id: u32, phase: &str) -> &'v Value {
    &lines.iter().find(|(_, value)| value["id"] == id && value["phase"] == phase).unwrap().1
}

#[test]
fn processes_are_hit_once_and_all_run_at_the_end() {
    let lines = check(
        r#"{"id":1,"at_ms":0,"duration_ms":400,"target":{"named":[2]},"fault":{"kind":"kill"}}
{"id":2,"at_ms":10,"duration_ms":100,"target":{"named":[2]},"fault":{"kind":"pause"}}
{"id":3,"at_ms":20,"duration_ms":100,"target":"all","fault":{"kind":"pause"}}
{"id":4,"at_ms":30,"duration_ms":50,"target":{"named":[1]},"fault":{"kind":"kill"}}
"#,
        |_, _, _| {},
    );
    let (kill, restart) = (of(&lines, 1, "inject"), of(&lines, 1, "heal"));
    assert_eq!((&kill["outcome"], &kill["nodes"]), (&json!("installed"), &json!(["n2"])));
    assert_eq!(kill["evidence"]["n2"]["saw"], "signal 9");
    assert_eq!((&restart["bit"], &restart["evidence"]["n2"]["saw"]), (&json!(true), &json!("started")));
    assert_ne!(kill["evidence"]["n2"]["pid"], restart["evidence"]["n2"]["pid"]);
    assert_eq!(of(&lines, 2, "inject")["outcome"], "skipped");
    let pause = of(&lines, 3, "inject");
    let mut paused = pause["nodes"].as_array().unwrap().clone();
    paused.sort_by_key(Value::to_string);
    assert_eq!(paused, [json!("n1"), json!("n3")], "the killed one is left out");
    assert_eq!(pause["evidence"]["n1"]["saw"], "T");
    assert_eq!(of(&lines, 3, "heal")["bit"], true);
    assert_eq!(of(&lines, 4, "inject")["outcome"], "skipped", "a paused node is not killed");
    assert_eq!(lines.len(), 6, "what was skipped is not healed: {lines:?}");
}

/// What cannot be healed meanwhile may be what there is no leader for.
#[test]
fn while_a_fault_waits_for_a_leader_others_heal() {
    let lines = check(
        r#"{"id":1,"at_ms":0,"duration_ms":300,"target":{"named":[2]},"fault":{"kind":"pause"}}
{"id":2,"at_ms":10,"duration_ms":50,"target":"leader","fault":{"kind":"pause"}}
{"id":3,"at_ms":20,"duration_ms":50,"target":{"named":[3]},"fault":{"kind":"pause"}}
"#,
        |_, _, _| {},
    );
    let at = |id: u64, phase: &str| {
        lines.iter().position(|(_, value)| value["id"] == id && value["phase"] == phase).unwrap()
    };
    assert!(at(1, "heal") < at(2, "inject"), "{lines:?}");
    assert!(at(3, "inject") < at(2, "inject"), "{lines:?}");
}

/// The injection and the heal of the only fault of a schedule, whose target is everyone, after `ms`.
fn check_process(fault: &str, ms: u64) -> (Value, Value) {
    let dir = tempfile::tempdir().unwrap();
    check_process_on(cluster_of("exec sleep 1000", 3, dir.path()), fault, ms)
}

fn check_process_on(on: (Cluster, Fabric), fault: &str, ms: u64) -> (Value, Value) {
    let line = format!(r#"{{"id":1,"at_ms":0,"duration_ms":{ms},"target":"all","fault":{fault}}}"#);
    let lines = check_on(on, &line, |_, _, _| {});
    assert!(lines.iter().all(|(f, _)| f != "self_exit"), "{lines:?}");
    (of(&lines, 1, "inject").clone(), of(&lines, 1, "heal").clone())
}

#[test]
fn every_fault_of_processes_bites_is_counted_and_is_healed() {
    let (inject, heal) = check_process(r#"{"kind":"restart"}"#, 50);
    for node in ["n1", "n2", "n3"] {
        // `sleep` has no say in how it ends.
        assert_eq!(inject["evidence"][node]["saw"], "signal 15");
        assert_ne!(inject["evidence"][node]["pid"], heal["evidence"][node]["pid"]);
    }
    assert_eq!(heal["bit"], true);
    let (_, heal) = check_process(r#"{"kind":"rolling_restart","pause_ms":10}"#, 1_500);
    assert_eq!((&heal["bit"], &heal["evidence"]["restarted"]), (&json!(true), &json!(3)));
    let (inject, heal) = check_process(r#"{"kind":"kill_all"}"#, 50);
    assert!(["n1", "n2", "n3"].iter().all(|node| inject["evidence"][node]["saw"] == "signal 9"));
    assert_eq!(heal["bit"], true);
    let (inject, heal) = check_process(r#"{"kind":"start_late"}"#, 50);
    assert_eq!((&inject["outcome"], &heal["bit"]), (&json!("installed"), &json!(true)));
    let (_, heal) = check_process(r#"{"kind":"starve","stopped_ms":30,"running_ms":10}"#, 300);
    assert_eq!(heal["bit"], true);
    assert!(heal["evidence"]["stops"].as_u64() > Some(2), "{heal}");
}

/// Signals that are not sent, and clocks that are not written to: each fault of processes as a dud.
#[test]
fn no_dud_of_processes_bites() {
    for (kind, fault) in [
        (FaultKind::Kill, r#"{"kind":"kill"}"#),
        (FaultKind::Pause, r#"{"kind":"pause"}"#),
        (FaultKind::Restart, r#"{"kind":"restart"}"#),
        (FaultKind::RollingRestart, r#"{"kind":"rolling_restart","pause_ms":10}"#),
        (FaultKind::KillAll, r#"{"kind":"kill_all"}"#),
        (FaultKind::StartLate, r#"{"kind":"start_late"}"#),
        (FaultKind::Starve, r#"{"kind":"starve","stopped_ms":30,"running_ms":10}"#),
    ] {
        let (inject, heal) = dud::tests::with(kind, || check_process(fault, 250));
        assert_ne!(inject["outcome"], "skipped", "{kind} goes through its motions: {inject}");
        assert_eq!(heal["bit"], false, "{kind}: {inject} {heal}");
    }
    if !crate::clock::is_possible() {
        println!("skipped: clocks cannot be bent on this machine");
        return;
    }
    for (kind, fault) in [
        (FaultKind::ClockJump, r#"{"kind":"clock_jump","wall_ms":-3600000,"monotonic_ms":2000}"#),
        (FaultKind::ClockRate, r#"{"kind":"clock_rate","percent":50}"#),
    ] {
        let line =
            format!(r#"{{"id":1,"at_ms":0,"duration_ms":100,"target":{{"named":[1]}},"fault":{fault}}}"#);
        let lines = dud::tests::with(kind, || check(&line, |_, _, _| {}));
        let inject = of(&lines, 1, "inject");
        assert_eq!(inject["outcome"], "skipped", "{kind}: what was written is looked for: {inject}");
    }
}

/// Opens a file again and again, and says so when it is refused. What it has open begins at 0, without a gap.
const OPENER: &str = "exec 3< /dev/null; while :; do (true < /dev/zero) 2> /dev/null || echo 'Too many open files' >&2; sleep 0.01; done";
const FD_LIMIT: &str = r#"{"kind":"fd_limit"}"#;

#[test]
fn a_process_is_refused_files_as_long_as_it_lasts_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let limit = |cluster: &Cluster| cluster.files(1).unwrap().limit;
    let (on, seen) = (cluster_of(OPENER, 3, dir.path()), RefCell::new(Vec::new()));
    let before = limit(&on.0);
    let line = format!(r#"{{"id":1,"at_ms":100,"duration_ms":600,"target":"all","fault":{FD_LIMIT}}}"#);
    let lines = check_on(on, &line, |cluster, _, value| {
        let open = std::fs::read_dir(format!("/proc/{}/fd", cluster.pids()[0])).unwrap().count();
        seen.borrow_mut().push((value["phase"].clone(), limit(cluster), open));
    });
    let heal = of(&lines, 1, "heal");
    assert_eq!(heal["bit"], true, "{lines:?}");
    assert!(heal["evidence"]["refused"].as_u64() > Some(0), "{heal}");
    let seen = seen.into_inner();
    assert!(seen[0].1 <= seen[0].2 as u64 && seen[0].2 > 3, "{seen:?}");
    assert_eq!(seen[1].1, before, "{seen:?}");
    let dir = tempfile::tempdir().unwrap();
    let dud = || check_process_on(cluster_of(OPENER, 3, dir.path()), FD_LIMIT, 300);
    let (inject, heal) = dud::tests::with(FaultKind::FdLimit, dud);
    assert_eq!((&inject["outcome"], &heal["bit"]), (&json!("installed"), &json!(false)), "{inject} {heal}");
    assert_eq!(heal["evidence"]["refused"], 0, "{heal}");
}

#[test]
fn who_ends_because_it_was_refused_a_file_was_refused_one() {
    let ender =
        OPENER.replace("echo 'Too many open files' >&2", "{ echo 'Too many open files' >&2; exit 74; }");
    let dir = tempfile::tempdir().unwrap();
    let (_, heal) =
        check_process_on(cluster_of(&ender.replace("0.01", "0.001"), 3, dir.path()), FD_LIMIT, 300);
    assert_eq!(heal["evidence"]["exits"], json!({"n1": "exit 74", "n2": "exit 74", "n3": "exit 74"}));
    assert_eq!((&heal["bit"], &heal["evidence"]["refused"]), (&json!(true), &json!(3)), "{heal}");
}

/// Wants more memory again and again.
const EATER: &str = "x=; while :; do x=$x$(head -c 65536 /dev/zero | tr '\\0' x); sleep 0.005; done";
const MEMORY_LIMIT: &str = r#"{"kind":"memory_limit","percent":80}"#;

#[test]
fn who_wants_more_memory_than_it_gets_is_killed_for_it_and_started_again() {
    use crate::cluster::tests::cluster_in_groups;
    let check = |script: &str| {
        let dir = tempfile::tempdir().unwrap();
        Some(check_process_on(cluster_in_groups(script, 3, dir.path())?, MEMORY_LIMIT, 1_000))
    };
    let Some((inject, heal)) = check(EATER) else { return };
    assert_eq!((&inject["outcome"], &heal["bit"]), (&json!("installed"), &json!(true)), "{inject} {heal}");
    assert!(heal["evidence"]["killed"].as_u64() > Some(0), "{heal}");
    let dud = dud::tests::with(FaultKind::MemoryLimit, || check(EATER)).unwrap();
    assert_eq!((&dud.0["outcome"], &dud.1["bit"]), (&json!("installed"), &json!(false)), "{dud:?}");
    // Who wants nothing misses nothing.
    let (_, heal) = check("exec sleep 1000").unwrap();
    assert_eq!(heal["evidence"]["killed"], 0, "{heal}");
}

#[test]
fn a_fault_that_had_no_time_to_go_on_did_not_bite() {
    let (_, heal) = check_process(r#"{"kind":"starve","stopped_ms":5000,"running_ms":10}"#, 20);
    assert_eq!(heal["bit"], false);
}

#[test]
fn a_wipe_takes_the_data_of_one_node() {
    let dir = tempfile::tempdir().unwrap();
    // A node writes a file once, and says whether it found one.
    let script =
        "shift 5; d=$2; [ -e $d/f ] && echo found || echo empty; mkdir -p $d; touch $d/f; exec sleep 1000";
    let (cluster, fabric) = cluster_of(script, 3, dir.path());
    let said = |node: u32| {
        std::fs::read_to_string(dir.path().join(format!("run/nodes/n{node}/stdout.log"))).unwrap_or_default()
    };
    let wait = |condition: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(10), "{}", said(1));
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait(&|| (1..=3).all(|node| said(node) == "empty\n"));
    wait(&|| (1..=3).all(|node| dir.path().join(format!("run/nodes/n{node}/data/f")).exists()));
    let path = dir.path().join("schedule.jsonl");
    let lines = r#"{"id":1,"at_ms":0,"duration_ms":10,"target":{"named":[2]},"fault":{"kind":"kill"}}
{"id":2,"at_ms":200,"duration_ms":10,"target":{"named":[1,3]},"fault":{"kind":"wipe"}}
{"id":3,"at_ms":400,"duration_ms":10,"target":{"named":[3]},"fault":{"kind":"wipe"}}"#;
    std::fs::write(&path, lines).unwrap();
    let heals = RefCell::new(Vec::new());
    let sink = |_: &str, value: Value| heals.borrow_mut().push(value);
    run(
        &Schedule::read(&path).unwrap(),
        1,
        &cluster,
        &fabric,
        nothing_open(&sink),
        Instant::now(),
        &AtomicBool::new(false),
    );
    let lines = heals.borrow().clone();
    let wipe = lines.iter().find(|value| value["id"] == 2 && value["phase"] == "inject").unwrap();
    assert_eq!(wipe["evidence"]["n1_removed"], "1 files removed");
    assert_eq!(wipe["nodes"], json!(["n1"]), "never two at once");
    // Nor one after the other, while the first is not seen to have everything back.
    let next = lines.iter().find(|value| value["id"] == 3 && value["phase"] == "inject").unwrap();
    assert_eq!((&next["outcome"], &next["nodes"]), (&json!("skipped"), &json!([])));
    wait(&|| said(1) == "empty\nempty\n" && said(2) == "empty\nfound\n" && said(3) == "empty\n");
    assert!(lines.iter().any(|value| value["id"] == 2 && value["bit"] == true));

    // A wipe that removes nothing, of the same node, which counts as damaged already.
    let line = r#"{"id":4,"at_ms":0,"duration_ms":10,"target":{"named":[1]},"fault":{"kind":"wipe"}}"#;
    std::fs::write(&path, line).unwrap();
    let schedule = Schedule::read(&path).unwrap();
    dud::tests::with(FaultKind::Wipe, || {
        run(&schedule, 1, &cluster, &fabric, nothing_open(&sink), Instant::now(), &AtomicBool::new(false));
    });
    wait(&|| said(1) == "empty\nempty\nfound\n");
    let lines = heals.into_inner();
    assert!(lines.iter().any(|value| value["id"] == 4 && value["bit"] == false), "{lines:?}");
}

#[test]
fn links_are_cut_while_the_fault_is_active_and_a_fault_without_traffic_did_not_bite() {
    let lines = check(
        r#"{"id":1,"at_ms":0,"duration_ms":50,"target":{"named":[1]},"fault":{"kind":"partition","shape":"split"}}
{"id":2,"at_ms":0,"duration_ms":50,"target":{"named":[3]},"fault":{"kind":"loss","percent":100,"direction":"out"}}
"#,
        |cluster, fabric, value| {
            if value["id"] == 1 && value["phase"] == "inject" {
                // The nodes of this test send nothing, so the test sends in the name of n1.
                let node = UdpSocket::bind(cluster.client_addrs()[0]).unwrap();
                node.send_to(b"x", cluster.addresses_of(1)[1]).unwrap();
                let sent = Instant::now();
                while fabric.counters(1).unwrap().dropped == 0 {
                    assert!(sent.elapsed() < Duration::from_secs(10));
                }
            }
        },
    );
    let inject = of(&lines, 1, "inject");
    assert_eq!(inject["links"], json!([["n1", "n2"], ["n1", "n3"], ["n2", "n1"], ["n3", "n1"]]));
    assert_eq!(inject["params"], json!({"shape": "split"}));
    assert_eq!(of(&lines, 1, "heal")["evidence"]["dropped"], 1);
    assert_eq!(of(&lines, 1, "heal")["bit"], true);
    assert_eq!(of(&lines, 2, "heal")["bit"], false);
}

#[test]
fn clocks_are_bent_again_after_a_restart_and_healed() {
    if !crate::clock::is_possible() {
        println!("skipped: clocks cannot be bent on this machine");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A shell that becomes no other program, because that would have to be bent once more.
    let waits = cluster_of(r#"mkfifo "$0.$$"; read nothing <> "$0.$$""#, 3, dir.path());
    let lines = check_on(
        waits,
        r#"{"id":1,"at_ms":0,"duration_ms":1600,"target":"all","fault":{"kind":"clock_jump","wall_ms":-3600000,"monotonic_ms":2000}}
{"id":2,"at_ms":50,"duration_ms":100,"target":{"named":[2]},"fault":{"kind":"kill"}}
{"id":3,"at_ms":300,"duration_ms":100,"target":{"named":[3]},"fault":{"kind":"pause"}}
{"id":4,"at_ms":400,"duration_ms":300,"target":{"named":[1]},"fault":{"kind":"clock_rate","percent":50}}
{"id":5,"at_ms":1700,"duration_ms":300,"target":"one","fault":{"kind":"clock_rate","percent":50}}
"#,
        |_, _, _| {},
    );
    assert_eq!(of(&lines, 1, "inject")["outcome"], "installed");
    assert_eq!((&of(&lines, 2, "heal")["bit"], &of(&lines, 3, "heal")["bit"]), (&json!(true), &json!(true)));
    let healed = of(&lines, 1, "heal");
    assert_eq!((&healed["bit"], &healed["evidence"]["bent_again"]), (&json!(true), &json!(1)), "{healed}");
    for node in ["n1", "n2", "n3"] {
        let seen = &healed["evidence"][node];
        assert!((seen["wall_ms"].as_f64().unwrap() + 3_600_000.0).abs() < 1_000.0, "{healed}");
        assert!((seen["monotonic_ms"].as_f64().unwrap() - 2_000.0).abs() < 500.0, "{healed}");
        assert!(seen["wall_ms_after"].as_f64().unwrap().abs() < 1.0, "{healed}");
    }
    assert_eq!(of(&lines, 4, "inject")["outcome"], "skipped", "one fault at a time has a node's clocks");
    let slow = of(&lines, 5, "heal");
    let node = slow["nodes"][0].as_str().unwrap();
    assert!(slow["bit"] == true && slow["evidence"][node]["wall_ms"].as_f64() < Some(-100.0), "{slow}");
}

/// Nobody tells who leads, and no write is acknowledged until the first leader was cut off.
#[test]
fn one_leader_after_the_other_is_cut_off_by_what_their_links_carry() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, fabric) = cluster_of("exec sleep 1000", 3, dir.path());
    let path = dir.path().join("schedule.jsonl");
    let cut = r#"{"direction":"both","way":"lost","company":true,"reign_ms":0}"#;
    let line = format!(
        r#"{{"id":1,"at_ms":0,"duration_ms":700,"target":{{"named":[2]}},"fault":{{"kind":"depose","cuts":[{cut}]}}}}"#
    );
    std::fs::write(&path, line).unwrap();
    let lines = RefCell::new(Vec::new());
    let sink = |f: &str, value: Value| lines.borrow_mut().push((f.to_owned(), value));
    // n3 is whom others talk to from then on.
    let sender = UdpSocket::bind(cluster.addresses().node(3)).unwrap();
    let leads = || {
        sender.send_to(b"append", cluster.addresses().proxy(3, 1)).unwrap();
        monotonic_ns()
    };
    let record = Record { sink: &sink, in_flight: &Vec::new, acknowledged: &leads };
    let schedule = Schedule::read(&path).unwrap();
    run(&schedule, 1, &cluster, &fabric, record, Instant::now(), &AtomicBool::new(false));
    assert!(fabric.counters(1).is_none(), "no rule is left");
    let lines = lines.into_inner();
    assert_eq!(
        of(&lines, 1, "inject")["links"],
        json!([["n1", "n2"], ["n2", "n1"], ["n2", "n3"], ["n3", "n2"]])
    );
    let healed = of(&lines, 1, "heal");
    let cut_off = healed["evidence"]["cut_off"].as_array().unwrap();
    assert_eq!(cut_off[..2], [json!("n2"), json!("n3")], "{healed}");
    assert!(healed["bit"] == true && healed["evidence"]["dropped"].as_u64() > Some(0), "{healed}");
}

/// Where no node says anything there is no effect to see, and the victim goes on all the same.
#[test]
fn faults_of_many_steps_heal_and_did_not_bite_where_nobody_tells() {
    let lines = check(
        r#"{"id":1,"at_ms":0,"duration_ms":50,"target":{"named":[2]},"fault":{"kind":"snapshot","by":"pause"}}
{"id":2,"at_ms":0,"duration_ms":50,"target":{"named":[3]},"fault":{"kind":"transfer","to":"drawn"}}
"#,
        |_, _, _| {},
    );
    assert_eq!(of(&lines, 1, "inject")["evidence"]["n2"]["saw"], "T");
    let healed = of(&lines, 1, "heal");
    assert_eq!((&healed["bit"], &healed["evidence"]["saw"]), (&json!(false), &json!("T")), "{healed}");
    assert_eq!(of(&lines, 2, "heal")["bit"], false);
}

#[test]
fn a_fault_strikes_the_node_whose_moment_comes_and_is_skipped_if_none_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, fabric) = cluster_of("exec sleep 1000", 3, dir.path());
    let anchored = |id, within_ms, target: &str| {
        format!(
            "{{\"id\":{id},\"at_ms\":0,\"duration_ms\":100,\"target\":{target},\"anchor\":{{\"after\":\"write\",\"offset_us\":10,\
                 \"within_ms\":{within_ms}}},\"fault\":{{\"kind\":\"pause\"}}}}\n"
        )
    };
    let path = dir.path().join("schedule.jsonl");
    let other = "{\"id\":3,\"at_ms\":20,\"duration_ms\":10,\"target\":{\"named\":[1]},\"fault\":{\"kind\":\"kill\"}}\n";
    let schedule = anchored(1, 60_000, "\"one\"") + &anchored(2, 10, "{\"named\":[3]}") + other;
    std::fs::write(&path, schedule).unwrap();
    let lines = RefCell::new(Vec::new());
    let sink = |f: &str, value: Value| lines.borrow_mut().push((f.to_owned(), value));
    // A client asks n2 once the others were told of.
    let in_flight = || {
        let told = lines.borrow().iter().any(|(f, value)| f == "kill" && value["phase"] == "heal");
        let write = InFlight { node: "n2".to_owned(), since: monotonic_ns() - 50_000 };
        if told { vec![write] } else { Vec::new() }
    };
    let record = Record { sink: &sink, in_flight: &in_flight, acknowledged: &|| 0 };
    let schedule = Schedule::read(&path).unwrap();
    run(&schedule, 1, &cluster, &fabric, record, Instant::now(), &AtomicBool::new(false));
    let lines = lines.into_inner();
    let struck = of(&lines, 1, "inject");
    assert_eq!((&struck["outcome"], &struck["nodes"]), (&json!("installed"), &json!(["n2"])), "{struck}");
    let anchor = &struck["evidence"]["anchor"];
    assert_eq!((&anchor["after"], &anchor["requested_us"]), (&json!("write"), &json!(10)), "{anchor}");
    assert!(anchor["actual_us"].as_u64() >= Some(50), "{anchor}");
    assert_eq!(of(&lines, 1, "heal")["bit"], true);
    let missed = of(&lines, 2, "inject");
    assert_eq!(missed["outcome"], "skipped");
    assert!(missed["evidence"]["reason"].as_str().unwrap().contains("\"write\""), "{missed}");
    assert!(of(&lines, 3, "heal")["bit"] == true, "it waited for nobody");
}

#[test]
fn a_stop_heals_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, fabric) = cluster_of("exec sleep 1000", 3, dir.path());
    let path = dir.path().join("schedule.jsonl");
    let line = r#"{"id":1,"at_ms":0,"duration_ms":600000,"target":{"named":[2]},"fault":{"kind":"pause"}}"#;
    std::fs::write(&path, line).unwrap();
    let stop = AtomicBool::new(false);
    let healed = RefCell::new(false);
    let sink = |_: &str, value: Value| {
        stop.store(true, Ordering::Relaxed);
        *healed.borrow_mut() |= value["phase"] == "heal";
    };
    run(&Schedule::read(&path).unwrap(), 1, &cluster, &fabric, nothing_open(&sink), Instant::now(), &stop);
    assert!(healed.into_inner() && cluster.up() == [1, 2, 3]);
}

#[test]
fn a_node_that_dies_by_itself_is_recorded_and_left_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, fabric) =
        cluster_of("[ $2 = 3 ] && { echo oops >&2; exit 101; }; exec sleep 1000", 3, dir.path());
    let path = dir.path().join("schedule.jsonl");
    let line = r#"{"id":1,"at_ms":600000,"duration_ms":1,"target":"all","fault":{"kind":"kill"}}"#;
    std::fs::write(&path, line).unwrap();
    let stop = AtomicBool::new(false);
    let lines = RefCell::new(Vec::new());
    let sink = |f: &str, value: Value| {
        stop.store(true, Ordering::Relaxed);
        lines.borrow_mut().push((f.to_owned(), value));
    };
    run(&Schedule::read(&path).unwrap(), 1, &cluster, &fabric, nothing_open(&sink), Instant::now(), &stop);
    let expected = json!({"node": "n3", "status": "exit 101", "stderr": "oops\n"});
    assert_eq!(lines.into_inner(), [("self_exit".to_owned(), expected)]);
    assert_eq!(cluster.up(), [1, 2]);
}
