//! What faults of disks have in common: to break and mend several at once, to damage one, and what is noted of it.
//! What a disk does is in [`crate::disk`]; who may be damaged is decided in [`crate::cluster`].

use serde_json::{Map, Value, json};

use super::{Acted, INDETERMINATE, INSTALLED, Ongoing, SKIPPED, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::disk::{Answers, Difference, Disk};
use crate::run_dir::node_name;

/// Does something to the disks of nodes that go on, and excuses what they do then.
pub(super) fn on_disks(cluster: &Cluster, victims: &[NodeId], change: impl Fn(&Disk) -> u64) -> Acted {
    let (mut nodes, mut evidence) = (Vec::new(), Map::new());
    for &node in victims {
        match cluster.disk(node) {
            Ok(disk) => {
                cluster.excuse(node);
                disk.mark(change(disk));
                nodes.push(node);
            }
            Err(error) => {
                evidence.insert(node_name(node), json!({"error": error.to_string()}));
            }
        }
    }
    let outcome = if nodes.is_empty() { SKIPPED } else { INSTALLED };
    Acted { nodes, outcome, evidence }
}

/// Undoes it, and starts again whoever ended. It had an effect if what the disks count themselves and `answered`, which is counted by
/// the code that answers the kernel, agree that there was something.
pub(super) fn off_disks(
    cluster: &Cluster,
    ongoing: &Ongoing,
    change: impl Fn(&Disk) -> u64,
    answered: impl Fn(&Answers) -> u64,
) -> (bool, Map<String, Value>) {
    let (mut caused, mut seen) = (0, 0);
    for &node in &ongoing.nodes {
        if let Ok(disk) = cluster.disk(node) {
            let (own, answers) = disk.since_mark(change(disk));
            caused += own;
            seen += answered(&answers);
        }
    }
    let mut evidence =
        Map::from_iter([("caused".to_owned(), caused.into()), ("answered".to_owned(), seen.into())]);
    release(cluster, ongoing, &mut evidence);
    // Most of what was caused must have been answered so: a flush may be late because the machine is busy, too.
    (caused > 0 && seen > 0 && seen.saturating_mul(2) >= caused, evidence)
}

/// Starts again whoever ended because of a fault that is gone, and notes how.
pub(super) fn release(cluster: &Cluster, ongoing: &Ongoing, evidence: &mut Map<String, Value>) {
    let exit = |node: &NodeId| Some((node_name(*node), cluster.release(*node)?.into()));
    let exits: Map<String, Value> = ongoing.nodes.iter().filter_map(exit).collect();
    if !exits.is_empty() {
        evidence.insert("exits".to_owned(), exits.into());
    }
}

/// Why these victims may lose nothing now, if so: too many others have not got back yet what they lost. From here on it counts.
pub(super) fn one_too_many(cluster: &Cluster, victims: &[NodeId]) -> Option<Acted> {
    let reason = "others are damaged, and a majority must have everything";
    let evidence = || Map::from_iter([("reason".to_owned(), reason.into())]);
    let refused = victims.iter().any(|victim| !cluster.may_damage(*victim));
    refused.then(|| Acted { nodes: Vec::new(), outcome: SKIPPED, evidence: evidence() })
}

/// Those of the victims that may lose something: the first alone, or all of them if nobody looks.
pub(super) fn to_damage<'v>(cluster: &Cluster, victims: &'v [NodeId]) -> &'v [NodeId] {
    if cluster.is_blind() { victims } else { &victims[..victims.len().min(1)] }
}

/// Notes who has lost something, if that is more than the system survives: what is lost then was to be expected.
pub(super) fn note_beyond(cluster: &Cluster, evidence: &mut Map<String, Value>) {
    if let Some(nodes) = cluster.beyond_survival() {
        evidence.insert("beyond".to_owned(), nodes.into_iter().map(node_name).collect());
    }
}

/// Kills victims and damages their disks, if they are not too many. `shows` tells whether what changed is what was meant.
pub(super) fn damage(
    cluster: &Cluster,
    victims: &[NodeId],
    change: impl Fn(&Disk),
    shows: impl Fn(Difference) -> bool,
) -> Acted {
    let victims = to_damage(cluster, victims);
    if let Some(refused) = one_too_many(cluster, victims) {
        return refused;
    }
    let mut acted = act(victims, |node| cluster.kill(node));
    for &victim in &acted.nodes {
        match cluster.damage_disk(victim, &change) {
            Ok(difference) => {
                difference.note(&mut acted.evidence);
                if !shows(difference) {
                    acted.outcome = INDETERMINATE;
                }
            }
            Err(error) => {
                acted.evidence.insert("error".to_owned(), error.to_string().into());
                acted.outcome = INDETERMINATE;
            }
        }
    }
    note_beyond(cluster, &mut acted.evidence);
    acted
}

/// Starts a damaged node again, and looks from now on whether it has everything back. If it refuses its disk it gets the one from before.
pub(super) fn mend(cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
    let started = act(&ongoing.nodes, |node| cluster.start_damaged(node));
    ongoing.nodes.iter().for_each(|node| cluster.expect_repair(*node));
    (ongoing.confirmed && started.outcome == INSTALLED, started.evidence)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::cluster::tests::cluster_on_disks;
    use crate::dud;
    use crate::fault::FaultKind;
    use crate::nemesis;
    use crate::schedule::Schedule;

    /// Reads what there is, writes without end, flushes one of two files, and ends as our node does when it cannot.
    const WRITER: &str = "shift 5; cd $2 || exit 1; [ ! -e log ] || cat log > /dev/null || exit 74\n\
        while :; do head -c 4096 /dev/zero >> log || exit 74; echo y >> tail || exit 74; sync log || exit 74; done";
    const SLEEPER: &str = "exec sleep 1000";

    /// Runs a schedule on three such processes: every line as (`f`, value); nothing where there are no disks of ours.
    fn check(script: &str, schedule: &str) -> Option<Vec<(String, Value)>> {
        let dir = tempfile::tempdir().unwrap();
        let (cluster, fabric) = cluster_on_disks(script, 3, dir.path())?;
        if script == WRITER {
            let written = |node| cluster.disk(node).unwrap().durable_image(crate::disk::Entries::Journal);
            let flushed = |node| written(node).read(Path::new("log")).is_some_and(|log| !log.is_empty());
            let started = Instant::now();
            while !(1..=3).all(flushed) {
                assert!(started.elapsed() < Duration::from_secs(20), "nobody flushes");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let path = dir.path().join("schedule.jsonl");
        std::fs::write(&path, schedule).unwrap();
        let lines = RefCell::new(Vec::new());
        let sink = |f: &str, value: Value| lines.borrow_mut().push((f.to_owned(), value));
        let schedule = Schedule::read(&path).unwrap();
        let record = nemesis::Record { sink: &sink, in_flight: &Vec::new, acknowledged: &|| 0 };
        nemesis::run(&schedule, 1, &cluster, &fabric, record, Instant::now(), &AtomicBool::new(false));
        let started = Instant::now();
        while cluster.up() != [1, 2, 3] {
            nemesis::report_self_exits(&cluster, &sink);
            assert!(started.elapsed() < Duration::from_secs(20), "all run again: {lines:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(lines.into_inner())
    }

    fn line(id: u32, at_ms: u64, node: u32, fault: &str) -> String {
        format!(
            r#"{{"id":{id},"at_ms":{at_ms},"duration_ms":300,"target":{{"named":[{node}]}},"fault":{fault}}}"#
        ) + "\n"
    }

    /// The heal and the injection of the only fault.
    fn check_one(script: &str, fault: &str) -> Option<(Value, Value)> {
        let lines = check(script, &line(1, 0, 2, fault))?;
        let of = |phase: &str| {
            lines.iter().find(|(_, value)| value["phase"] == phase).map(|(_, value)| value.clone())
        };
        Some((of("inject")?, of("heal").unwrap_or_default()))
    }

    #[test]
    fn every_fault_of_disks_bites_who_uses_them_and_is_healed() {
        for (fault, evidence) in [
            (r#"{"kind":"power_loss","entries":"journal","stall_ms":10}"#, "bytes"),
            (r#"{"kind":"power_loss","entries":"journal","torn":7}"#, "bytes"),
            (r#"{"kind":"eio","on":"fsync"}"#, "answered"),
            (r#"{"kind":"eio","on":"write"}"#, "answered"),
            (r#"{"kind":"eio","on":"read"}"#, "answered"),
            (r#"{"kind":"disk_full"}"#, "caused"),
            (r#"{"kind":"slow_fsync","delay_ms":20}"#, "answered"),
            (r#"{"kind":"bit_flip","bits":3,"seed":5}"#, "bits"),
            (r#"{"kind":"lost_file","seed":5}"#, "files_gone"),
            (r#"{"kind":"truncated_file","seed":5}"#, "bytes"),
        ] {
            let Some((inject, heal)) = check_one(WRITER, fault) else { return };
            assert_eq!(inject["nodes"], json!(["n2"]), "{inject}");
            assert_eq!(heal["bit"], true, "{fault}: {inject} {heal}");
            let count = [&inject, &heal].map(|value| value["evidence"][evidence].as_u64());
            assert!(count.iter().flatten().any(|count| *count > 0), "{fault}: {inject} {heal}");
        }
    }

    #[test]
    fn no_dud_of_disks_bites_who_uses_them() {
        for (kind, fault) in [
            (FaultKind::PowerLoss, r#"{"kind":"power_loss","entries":"journal","stall_ms":10}"#),
            (FaultKind::Eio, r#"{"kind":"eio","on":"fsync"}"#),
            (FaultKind::DiskFull, r#"{"kind":"disk_full"}"#),
            (FaultKind::SlowFsync, r#"{"kind":"slow_fsync","delay_ms":20}"#),
            (FaultKind::BitFlip, r#"{"kind":"bit_flip","bits":3,"seed":5}"#),
            (FaultKind::LostFile, r#"{"kind":"lost_file","seed":5}"#),
            (FaultKind::TruncatedFile, r#"{"kind":"truncated_file","seed":5}"#),
        ] {
            let Some((inject, heal)) = dud::tests::with(kind, || check_one(WRITER, fault)) else { return };
            assert_eq!(inject["nodes"], json!(["n2"]), "{kind} goes through its motions: {inject}");
            assert_eq!(heal["bit"], false, "{kind}: {inject} {heal}");
            let caused = &heal["evidence"]["caused"];
            assert!(caused.is_null() || caused.as_u64() > Some(0), "{kind} counts all the same: {heal}");
        }
    }

    #[test]
    fn a_fault_of_a_disk_that_nobody_uses_did_not_bite() {
        for fault in [
            r#"{"kind":"power_loss","entries":"journal"}"#,
            r#"{"kind":"eio","on":"fsync"}"#,
            r#"{"kind":"disk_full"}"#,
            r#"{"kind":"slow_fsync","delay_ms":20}"#,
            r#"{"kind":"bit_flip","bits":3,"seed":5}"#,
            r#"{"kind":"lost_file","seed":5}"#,
            r#"{"kind":"truncated_file","seed":5}"#,
        ] {
            let Some((_, heal)) = check_one(SLEEPER, fault) else { return };
            assert_ne!(heal["bit"], true, "{fault}: {heal}");
        }
    }

    #[test]
    fn what_a_disk_says_that_it_did_is_no_evidence_unless_the_answers_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let Some((cluster, _)) = cluster_on_disks(SLEEPER, 1, dir.path()) else { return };
        let acted = on_disks(&cluster, &[1], |_| 0);
        let answered = |answers: &Answers| answers.errors.values().sum::<u64>() + answers.late_flushes;
        let (bit, evidence) = off_disks(&cluster, &Ongoing::new(&acted), |_| 5, answered);
        assert_eq!((bit, &evidence["caused"], &evidence["answered"]), (false, &json!(5), &json!(0)));
    }

    #[test]
    fn no_more_than_a_minority_is_damaged_until_it_is_seen_to_be_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let Some((cluster, _)) = cluster_on_disks(SLEEPER, 3, dir.path()) else { return };
        let hit = |node| damage(&cluster, &[node], |_| (), |_| true);
        let first = hit(1);
        assert_eq!(first.outcome, INSTALLED);
        assert!(!mend(&cluster, &Ongoing::new(&first)).1.is_empty());
        let second = hit(2);
        assert_eq!(second.outcome, SKIPPED, "these processes tell nobody what they have");
        assert!(second.evidence["reason"].as_str().is_some_and(|reason| reason.contains("majority")));
        assert_eq!(hit(1).outcome, INSTALLED, "the same one again");
        assert_eq!(cluster.up(), [2, 3]);
    }

    #[test]
    fn who_looks_away_damages_a_majority_and_says_since_when_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let Some((cluster, _)) = cluster_on_disks(SLEEPER, 3, dir.path()) else { return };
        let cluster = cluster.blind(true);
        let hit = |nodes: &[NodeId]| damage(&cluster, nodes, |_| (), |_| true);
        let first = hit(&[1]);
        assert_eq!((first.outcome, first.evidence.get("beyond")), (INSTALLED, None), "one of three");
        mend(&cluster, &Ongoing::new(&first));
        let second = hit(&[3, 2]);
        assert_eq!((second.outcome, &second.nodes), (INSTALLED, &vec![3, 2]), "several at once");
        assert_eq!(second.evidence["beyond"], json!(["n1", "n2", "n3"]));
        assert!(!mend(&cluster, &Ongoing::new(&second)).1.is_empty());
        assert_eq!(cluster.up(), [1, 2, 3]);
    }

    #[test]
    fn an_exit_that_is_declared_for_a_broken_disk_is_none_of_its_own_and_another_is() {
        let fault = r#"{"kind":"eio","on":"fsync"}"#;
        let Some((_, heal)) = check_one(WRITER, fault) else { return };
        assert_eq!(heal["evidence"]["exits"], json!({"n2": "exit 74"}));
        let dir = tempfile::tempdir().unwrap();
        let other = WRITER.replace("sync log || exit 74", "sync log || exit 75");
        let Some((cluster, _)) = cluster_on_disks(&other, 3, dir.path()) else { return };
        let acted = on_disks(&cluster, &[1], |disk| disk.set_broken(Some(crate::disk::Access::Fsync)));
        let started = Instant::now();
        let exits = loop {
            let exits = cluster.self_exits();
            if !exits.is_empty() {
                break exits;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{acted:?}");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(exits[0].status, "exit 75");
    }
}
