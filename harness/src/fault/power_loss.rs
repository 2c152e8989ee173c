//! The power of nodes fails: what they had not flushed is gone, or a part of it, and so are names of files.
//! The order in which that is done is in [`crate::cluster`], what a disk keeps in [`crate::disk`].

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, Ongoing, ProcessFault, SKIPPED, act};
use crate::NodeId;
use crate::cluster::{Cluster, PowerLoss as Loss};
use crate::disk::{Entries, Moment};
use crate::run_dir::node_name;
use crate::target::Target;

/// How long it is waited for a flush that the loss comes before.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);
/// How long for the flush of a directory, which is rarer.
const FLUSH_DIRECTORY_WITHIN: Duration = Duration::from_millis(800);

/// How long nodes that were started may take to tell what they found.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(5);

/// Kills the victims and loses what they had not flushed; heals by starting them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerLoss {
    /// Which names of files survive.
    pub entries: Entries,
    /// Whether some sectors of what was not flushed survive: those that this seed draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<u32>,
    /// How long the processes go on without an answer of their disks, milliseconds: who acknowledges what he has not flushed yet shows
    /// it then.
    #[serde(default)]
    pub stall_ms: u32,
}

impl Behaviour for PowerLoss {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for PowerLoss {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        if cluster.disks().is_none() {
            return act(victims, |node| cluster.lose_memory(node));
        }
        let (moment, within) = match self.entries {
            Entries::Journal => (Moment::Fsync, FLUSH_WITHIN),
            Entries::Directory => (Moment::FsyncDirectory, FLUSH_DIRECTORY_WITHIN),
        };
        let stall = Duration::from_millis(self.stall_ms.into());
        let loss = Loss { entries: self.entries, moment, within, stall };
        let mut torn = self.torn.map(|seed| ChaCha8Rng::seed_from_u64(seed.into()));
        let (mut nodes, mut confirmed, mut lost, mut evidence) = (Vec::new(), true, false, Map::new());
        for (node, result) in cluster.lose_power(victims, &loss, torn.as_mut()) {
            let seen = match result {
                Ok(of_node) => {
                    nodes.push(node);
                    confirmed &= of_node.seen.confirmed;
                    lost |= !of_node.difference.is_none();
                    let mut seen = Map::from_iter([
                        ("pid".to_owned(), of_node.seen.pid.into()),
                        ("saw".to_owned(), of_node.seen.saw.into()),
                        ("states".to_owned(), of_node.states.into()),
                    ]);
                    of_node.difference.note(&mut seen);
                    of_node.difference.note(&mut evidence);
                    Value::Object(seen)
                }
                Err(error) => {
                    confirmed = false;
                    json!({"error": error.to_string()})
                }
            };
            evidence.insert(node_name(node), seen);
        }
        let outcome = match (nodes.is_empty(), confirmed && lost) {
            (true, _) => SKIPPED,
            (false, true) => INSTALLED,
            (false, false) => super::INDETERMINATE,
        };
        Acted { nodes, outcome, evidence }
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        if cluster.disks().is_none() {
            return heal_memory(cluster, ongoing);
        }
        let started = act(&ongoing.nodes, |node| cluster.start_torn(node));
        (ongoing.confirmed && started.outcome == INSTALLED, started.evidence)
    }
}

/// Starts nodes again that had in their memory what they had not flushed, and has them tell what they did not find any more.
fn heal_memory(cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
    let (system, dir) = (cluster.system(), cluster.run_dir());
    let before: Vec<(NodeId, u64)> =
        ongoing.nodes.iter().map(|node| (*node, system.record_bytes(dir, *node))).collect();
    let Acted { outcome, mut evidence, .. } = act(&ongoing.nodes, |node| cluster.start(node));
    let deadline = Instant::now() + TOLD_WITHIN;
    let mut lost = 0;
    for (node, from) in before {
        let told = loop {
            match system.lost_records(dir, node, from) {
                None if Instant::now() < deadline => std::thread::sleep(LOOK),
                told => break told.unwrap_or_default(),
            }
        };
        lost += told;
    }
    evidence.insert("lost_records".to_owned(), lost.into());
    (ongoing.confirmed && outcome == INSTALLED && lost > 0, evidence)
}

impl Described for PowerLoss {
    const SUMMARY: &'static str = "the power of nodes fails, mostly at a flush, restarted after 0.3-3 s: what was not flushed is gone, or some sectors of it, or names of files; evidence: exit status signal 9, bytes that differ, or records of its log that a node told of and does not find";
    const NEEDS: Needs = Needs::Power;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let torn = (!dealt && rng.random_bool(0.4)).then(|| rng.random());
        // What a directory alone promises is the rarest to be needed: new files are rare.
        let entries = if !dealt && rng.random_ratio(1, 4) { Entries::Directory } else { Entries::Journal };
        let stall_ms = if dealt || rng.random_bool(0.5) { rng.random_range(10..=50) } else { 0 };
        let target = match rng.random_range(0..10) {
            _ if dealt => Target::Leader,
            0..4 => Target::Leader,
            4..6 => Target::One,
            6 => Target::Minority,
            7 => Target::Majority,
            _ => Target::All,
        };
        let duration_ms = match target {
            Target::Majority | Target::All => (300, 800),
            _ => (300, 3_000),
        };
        Drawn { fault: Fault::PowerLoss(PowerLoss { entries, torn, stall_ms }), target, duration_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::cluster::Addresses;
    use crate::disk::{Disks, refused};
    use crate::nemesis::{self, Record};
    use crate::net::Fabric;
    use crate::run_dir::RunDir;
    use crate::schedule::Schedule;
    use crate::system::Described;

    /// Appends records of one length, flushes each twice as late as it is written, and does not start on half a record.
    const STRICT: &str = "cd {data} && touch log && [ $(($(stat -c %s log) % 6000)) = 0 ] || exit 3\n\
        while :; do head -c 6000 /dev/zero >> log; head -c 6000 /dev/zero >> log; sync log; done";

    /// The line that tells of its exit after a power loss that tore its log; nothing where there are no disks of ours.
    fn exit_after(torn: u32, description: &str) -> Option<(String, Value)> {
        if let Some(reason) = refused() {
            println!("skipped: no disks of the harness's own on this machine: {reason}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (file, schedule) = (dir.path().join("strict.toml"), dir.path().join("schedule.jsonl"));
        let text = format!(
            "name = \"strict\"\ncommand = [\"sh\", \"-c\", {STRICT:?}]\n{description}[ports]\nweb = \"direct\"\n\
             [driver]\ncommand = [\"cat\"]\nport = \"web\"\nfunctions = [\"read\", \"write\"]\n"
        );
        std::fs::write(&file, text).unwrap();
        let line = format!(
            "{{\"id\":1,\"at_ms\":500,\"duration_ms\":300,\"target\":{{\"named\":[1]}},\
             \"fault\":{{\"kind\":\"power_loss\",\"entries\":\"journal\",\"torn\":{torn}}}}}\n"
        );
        std::fs::write(&schedule, line).unwrap();
        let system = Arc::new(Described::load(file.to_str().unwrap(), None).unwrap());
        let addresses = Addresses::claim(1).unwrap();
        let fabric = Fabric::start(&addresses, 1).unwrap();
        let run_dir = RunDir::open(&dir.path().join("run"));
        let disks = Disks::create(&run_dir, 1, &[]).unwrap();
        let cluster = Cluster::start_all(system, &run_dir, addresses, true, Some(disks), None).unwrap();
        let lines = RefCell::new(Vec::new());
        let sink = |f: &str, value: Value| lines.borrow_mut().push((f.to_owned(), value));
        let record = Record { sink: &sink, in_flight: &Vec::new, acknowledged: &|| 0 };
        let planned = Schedule::read(&schedule).unwrap();
        nemesis::run(&planned, 1, &cluster, &fabric, record, Instant::now(), &AtomicBool::new(false));
        // What it refuses it refuses at once.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(2) && !lines.borrow().iter().any(|(f, _)| f.ends_with("_exit")) {
            nemesis::report_self_exits(&cluster, &sink);
            std::thread::sleep(Duration::from_millis(5));
        }
        let up = cluster.up() == [1];
        let exit = lines.into_inner().into_iter().find(|(f, _)| f.ends_with("_exit"));
        assert_eq!(up, exit.as_ref().is_none_or(|(f, _)| f == "expected_exit"), "{exit:?}");
        exit
    }

    #[test]
    fn who_may_refuse_what_a_power_loss_tore_gets_back_what_was_flushed() {
        // What is left of a growth is drawn: some draws leave all or nothing, which nobody refuses.
        let Some((torn, (f, value))) = (1..8).find_map(|torn| Some((torn, exit_after(torn, "")?))) else {
            assert!(refused().is_some(), "nothing was torn");
            return;
        };
        assert_eq!((f.as_str(), &value["status"]), ("self_exit", &json!("exit 3")));
        let excused = (torn..torn + 8).find_map(|torn| exit_after(torn, "torn_exit = [3]\n"));
        assert_eq!(
            excused,
            Some(("expected_exit".to_owned(), json!({"node": "n1", "status": "exit 3", "restored": true})))
        );
    }
}
