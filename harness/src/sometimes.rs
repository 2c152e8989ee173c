//! What happened in a run, or never did: rare facts, counted after it from its history and the traces of its nodes, so that a person
//! sees what a campaign did not reach. They move no verdict: times of different nodes are compared, and a fault may bend their clocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};

use checker::history::{Event as Recorded, EventType, Process};
use checker::trace::{Event, Line, Role};
use serde_json::Value;

use crate::NodeId;
use crate::run_dir::RunDir;

/// A leader that dies so soon after it acknowledged a write has told few of it, nanoseconds.
const SOON_NS: u64 = 50_000_000;
/// No operation of a client is open for longer, nanoseconds.
const OPEN_NS_MAX: u64 = 5_000_000_000;
/// Kinds of faults that kill at once.
const KILLS: [&str; 4] = ["kill", "kill_all", "start_late", "power_loss"];

/// A rare fact: its name, and how often it was so.
type Fact = (&'static str, fn(&Record) -> u64);

/// All of them, in the order in which they are told.
const FACTS: [Fact; 9] = [
    ("leader killed with a write in flight", leader_killed_with_write),
    ("leader killed 50 ms or less after it acknowledged a write", leader_killed_after_ack),
    ("two nodes believed to lead at once", two_leaders),
    ("paused leader woke up deposed", woke_up_deposed),
    ("operation answered by a leader elected since it was asked", answered_by_next),
    ("election during a change of membership", election_during_membership),
    ("snapshot installed during a partition", install_during_partition),
    ("follower behind the first entry of its leader's log", behind_the_log),
    ("entries of a deposed leader discarded", discarded),
];

/// How often each fact was so in a run, by its name. Times of traces count from `started_ns`.
///
/// # Errors
/// A file of the run directory cannot be read.
pub fn count(dir: &RunDir, nodes: u32, started_ns: u64) -> io::Result<BTreeMap<String, u64>> {
    let mut record = Record::default();
    for line in BufReader::new(File::open(dir.history())?).lines().skip(1) {
        // The judge says what is wrong with a line.
        if let Ok(event) = serde_json::from_str(&line?) {
            record.history(event);
        }
    }
    record.operations.sort_by_key(|operation| operation.asked);
    for node in 1..=nodes {
        if let Ok(trace) = checker::trace::read(&dir.trace(node)) {
            record.trace(node, trace.lines.into_iter(), started_ns);
        }
    }
    Ok(FACTS.iter().map(|(name, fact)| ((*name).to_owned(), fact(&record))).collect())
}

/// An operation; times in nanoseconds of the history.
#[derive(Debug)]
struct Operation {
    write: bool,
    asked: u64,
    /// Absent if nobody knows.
    answered: Option<u64>,
    ok: bool,
    /// Whom the client asked first, and who answered.
    nodes: (Option<NodeId>, Option<NodeId>),
}

/// A fault that was installed.
#[derive(Debug)]
struct Window {
    kind: String,
    nodes: Vec<NodeId>,
    from: u64,
    to: u64,
}

impl Window {
    fn holds(&self, time: u64) -> bool {
        (self.from..=self.to).contains(&time)
    }
}

/// A node in office, by what it wrote itself.
#[derive(Debug)]
struct Reign {
    node: NodeId,
    from: u64,
    /// When it last showed that it believed to lead.
    to: u64,
    /// When it next said what it was: after its end, if it was killed.
    next: u64,
}

/// What facts are counted from.
#[derive(Debug, Default)]
struct Record {
    operations: Vec<Operation>,
    open: BTreeMap<u64, Operation>,
    faults: BTreeMap<u64, Window>,
    reigns: Vec<Reign>,
    installs: Vec<u64>,
    discarded: u64,
}

fn number(name: &str) -> Option<NodeId> {
    name.strip_prefix('n')?.parse().ok()
}

impl Record {
    fn history(&mut self, event: Recorded) {
        let node = event.node.as_deref().and_then(number);
        match (event.process, event.kind) {
            (Process::Nemesis, _) => self.nemesis(event.time, event.f, &event.value),
            (Process::Client(process), EventType::Invoke) => {
                let (write, nodes) = (event.f != "read", (node, None));
                let operation = Operation { write, asked: event.time, answered: None, ok: false, nodes };
                self.open.insert(process, operation);
            }
            (Process::Client(process), kind) => {
                let Some(mut operation) = self.open.remove(&process) else { return };
                operation.answered = (kind != EventType::Info).then_some(event.time);
                operation.ok = kind == EventType::Ok;
                operation.nodes.1 = node;
                self.operations.push(operation);
            }
        }
    }

    fn nemesis(&mut self, time: u64, kind: String, value: &Value) {
        let Some(id) = value["id"].as_u64() else { return };
        match (value["phase"].as_str(), value["outcome"].as_str()) {
            (Some("inject"), Some("skipped")) => {}
            (Some("inject"), _) => {
                let nodes = value["nodes"].as_array().into_iter().flatten();
                let nodes = nodes.filter_map(|node| number(node.as_str()?)).collect();
                self.faults.insert(id, Window { kind, nodes, from: time, to: u64::MAX });
            }
            (Some("heal"), _) => {
                self.faults.entry(id).and_modify(|window| window.to = time);
            }
            _ => {}
        }
    }

    fn trace(&mut self, node: NodeId, lines: impl Iterator<Item = Line>, started_ns: u64) {
        let (mut reign, mut last) = (None::<Reign>, 0);
        let mut end = |reign: &mut Option<Reign>, to, next| {
            self.reigns.extend(reign.take().map(|reign| Reign { to, next, ..reign }));
        };
        for Line { at, event } in lines {
            let at = at.saturating_sub(started_ns);
            match event {
                Event::Role { role, .. } => {
                    end(&mut reign, at, at);
                    reign = (role == Role::Leader).then_some(Reign { node, from: at, to: at, next: at });
                }
                // It died some time after its last line.
                Event::Boot { .. } => end(&mut reign, last, at),
                Event::Install { kept: false, .. } => self.installs.push(at),
                Event::Truncate { .. } => self.discarded += 1,
                _ => {}
            }
            last = at;
        }
        end(&mut reign, last, u64::MAX);
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Window> {
        self.faults.values().filter(move |window| window.kind == kind)
    }

    /// Leaders that were killed, and when.
    fn killed_leaders(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let kills = self.faults.values().filter(|window| KILLS.contains(&window.kind.as_str()));
        let victims = kills.flat_map(|window| window.nodes.iter().map(|node| (*node, window.from)));
        victims.filter(|(node, at)| {
            self.reigns.iter().any(|reign| reign.node == *node && reign.from < *at && *at < reign.next)
        })
    }

    /// Writes that were asked before a time, and not so long ago that they must be over.
    fn writes_before(&self, at: u64) -> impl Iterator<Item = &Operation> {
        let from = self.operations.partition_point(|one| one.asked < at.saturating_sub(OPEN_NS_MAX));
        let to = self.operations.partition_point(|one| one.asked < at);
        self.operations[from..to.max(from)].iter().filter(|one| one.write)
    }
}

fn leader_killed_with_write(record: &Record) -> u64 {
    let open =
        |at: u64| record.writes_before(at).any(|one| one.answered.is_none_or(|answered| answered > at));
    record.killed_leaders().filter(|(_, at)| open(*at)).count() as u64
}

fn leader_killed_after_ack(record: &Record) -> u64 {
    let soon = |node: NodeId, at: u64| {
        let window = at.saturating_sub(SOON_NS)..=at;
        let acknowledged = |one: &Operation| one.ok && one.nodes.1 == Some(node);
        record
            .writes_before(at)
            .any(|one| acknowledged(one) && one.answered.is_some_and(|answered| window.contains(&answered)))
    };
    record.killed_leaders().filter(|(node, at)| soon(*node, *at)).count() as u64
}

fn two_leaders(record: &Record) -> u64 {
    let reigns = || record.reigns.iter();
    let overlap = |one: &&Reign| {
        reigns().any(|other| other.node != one.node && other.from < one.from && one.from < other.to)
    };
    reigns().filter(overlap).count() as u64
}

fn woke_up_deposed(record: &Record) -> u64 {
    let deposed = |pause: &Window, node: NodeId| {
        let led = record
            .reigns
            .iter()
            .any(|reign| reign.node == node && reign.from < pause.from && pause.from < reign.next);
        led && record.reigns.iter().any(|reign| reign.node != node && pause.holds(reign.from))
    };
    let woke =
        record.of("pause").flat_map(|pause| pause.nodes.iter().filter(move |node| deposed(pause, **node)));
    woke.count() as u64
}

fn answered_by_next(record: &Record) -> u64 {
    let by_next = |one: &&Operation| {
        let (Some(answered), Some(node)) = (one.answered.filter(|_| one.ok), one.nodes.1) else {
            return false;
        };
        let elected = |reign: &Reign| reign.node == node && one.asked < reign.from && reign.from < answered;
        one.nodes.0 != Some(node) && record.reigns.iter().any(elected)
    };
    record.operations.iter().filter(by_next).count() as u64
}

fn election_during_membership(record: &Record) -> u64 {
    let during = |reign: &&Reign| record.of("membership").any(|window| window.holds(reign.from));
    record.reigns.iter().filter(during).count() as u64
}

fn install_during_partition(record: &Record) -> u64 {
    let during = |at: &&u64| record.of("partition").any(|window| window.holds(**at));
    record.installs.iter().filter(during).count() as u64
}

fn behind_the_log(record: &Record) -> u64 {
    record.installs.len() as u64
}

fn discarded(record: &Record) -> u64 {
    record.discarded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A history of lines (time, process or `nemesis`, type, rest), and traces of lines (node, at, event); which facts were so.
    fn facts(history: &[Value], traces: &[(NodeId, u64, Value)]) -> Vec<(&'static str, u64)> {
        let mut record = Record::default();
        for (index, line) in (0_u64..).zip(history) {
            let mut line = line.clone();
            line["index"] = index.into();
            record.history(serde_json::from_value(line).unwrap());
        }
        record.operations.sort_by_key(|operation| operation.asked);
        for node in 1..=3 {
            let lines = traces.iter().filter(|(of, _, _)| *of == node).map(|(_, at, event)| {
                let mut line = event.clone();
                line["at"] = (at + 1_000).into();
                serde_json::from_value(line).unwrap()
            });
            record.trace(node, lines, 1_000);
        }
        FACTS.iter().map(|(name, fact)| (*name, fact(&record))).filter(|(_, count)| *count > 0).collect()
    }

    fn check(history: &[Value], traces: &[(NodeId, u64, Value)], expected: &[&str]) {
        let names: Vec<&str> = facts(history, traces).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }

    fn role(node: NodeId, at: u64, role: &str) -> (NodeId, u64, Value) {
        (node, at, json!({"event": "role", "role": role, "term": 2}))
    }

    fn fault(time: u64, phase: &str, kind: &str, node: &str) -> Value {
        let value = json!({"id": 1, "phase": phase, "outcome": "installed", "nodes": [node]});
        json!({"time": time, "process": "nemesis", "type": "info", "f": kind, "value": value})
    }

    fn line(time: u64, kind: &str, f: &str, node: &str) -> Value {
        json!({"time": time, "process": 1, "type": kind, "f": f, "key": "r1", "value": 1, "node": node})
    }

    const IN_FLIGHT: &str = "leader killed with a write in flight";
    const AFTER_ACK: &str = "leader killed 50 ms or less after it acknowledged a write";

    #[test]
    fn a_leader_killed_with_a_write_in_flight_is_no_follower_and_no_reader() {
        let leader = [role(1, 5, "leader"), role(2, 5, "follower")];
        let history = |f, node, answered| {
            [line(10, "invoke", f, "n3"), fault(20, "inject", "kill", node), line(answered, "info", f, "n3")]
        };
        check(&history("write", "n1", 30), &leader, &[IN_FLIGHT]);
        check(&history("write", "n2", 30), &leader, &[]);
        check(&history("read", "n1", 30), &leader, &[]);
        let fell = [role(1, 5, "leader"), role(1, 15, "follower")];
        check(&history("write", "n1", 30), &fell, &[]);
        let answered = [line(10, "invoke", "write", "n1"), line(15, "fail", "write", "n1")];
        check(&[&answered[..], &[fault(20, "inject", "kill", "n1")]].concat(), &leader, &[]);
    }

    #[test]
    fn a_leader_killed_soon_after_an_acknowledgement_is_the_one_that_gave_it() {
        let leader = [role(1, 5, "leader")];
        let history = |by, after| {
            [
                line(10, "invoke", "write", "n1"),
                line(15, "ok", "write", by),
                fault(15 + after, "inject", "power_loss", "n1"),
            ]
        };
        check(&history("n1", SOON_NS), &leader, &[AFTER_ACK]);
        check(&history("n1", SOON_NS + 1), &leader, &[]);
        check(&history("n2", 1), &leader, &[]);
    }

    #[test]
    fn two_lead_at_once_while_the_old_one_still_shows_that_it_believes_to() {
        let traces = |until| [role(1, 5, "leader"), role(1, until, "follower"), role(2, 20, "leader")];
        check(&[], &traces(21), &["two nodes believed to lead at once"]);
        check(&[], &traces(20), &[]);
        // Of one that was killed nobody knows more than its last line.
        let boot = json!({"event": "boot", "node": 1, "incarnation": 2, "term": 2, "voted_for": null, "last_index": 0,
            "chain": "0000000000000000", "terms": [], "lsn": 0, "directory": "0000000000000001", "snapshot_index": 0});
        check(&[], &[role(1, 5, "leader"), (1, 40, boot), role(2, 20, "leader")], &[]);
        let pause = [fault(10, "inject", "pause", "n1"), fault(25, "heal", "pause", "n1")];
        let deposed = ["two nodes believed to lead at once", "paused leader woke up deposed"];
        check(&pause, &traces(26), &deposed);
        let late = [role(1, 5, "leader"), role(1, 26, "follower"), role(2, 30, "leader")];
        check(&pause, &late, &[]);
    }

    #[test]
    fn an_operation_that_outlived_a_leader_was_answered_by_one_elected_meanwhile() {
        let history = |asked, by| [line(10, "invoke", "read", asked), line(30, "ok", "read", by)];
        let name = ["operation answered by a leader elected since it was asked"];
        check(&history("n1", "n2"), &[role(2, 20, "leader")], &name);
        check(&history("n1", "n2"), &[role(2, 9, "leader")], &[]);
        check(&history("n1", "n3"), &[role(2, 20, "leader")], &[]);
    }

    #[test]
    fn elections_and_snapshots_are_counted_within_the_fault() {
        let change = [fault(10, "inject", "membership", "n3"), fault(30, "heal", "membership", "n3")];
        check(&change, &[role(2, 30, "leader")], &["election during a change of membership"]);
        check(&change, &[role(2, 31, "leader")], &[]);
        let install = |at, kept| {
            let chain = "0000000000000007";
            (
                3,
                at,
                json!({"event": "install", "lsn": 1, "last_index": 9, "term": 2, "chain": chain, "kept": kept}),
            )
        };
        let behind = "follower behind the first entry of its leader's log";
        let cut = [fault(10, "inject", "partition", "n3"), fault(30, "heal", "partition", "n3")];
        check(&cut, &[install(20, false)], &["snapshot installed during a partition", behind]);
        check(&cut, &[install(31, false)], &[behind]);
        check(&cut, &[install(20, true)], &[]);
        let truncate = (3, 7, json!({"event": "truncate", "lsn": 1, "last_index": 3}));
        check(&[], &[truncate], &["entries of a deposed leader discarded"]);
    }
}
