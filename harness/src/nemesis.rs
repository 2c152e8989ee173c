//! Injects the faults of a schedule into a running cluster and heals them, on time, with evidence.
//! What a fault does is in [`crate::fault`]; processes and links are changed through [`crate::cluster`] and [`crate::net`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::NodeId;
use crate::cluster::{Cluster, Leader};
use crate::dud;
use crate::errand::{Conclusion, Errand};
use crate::fault::{Acted, Fault, INSTALLED, Ongoing, SKIPPED, SteppedFault};
use crate::net::{CLIENTS, Fabric, Link, LinkCounters};
use crate::random::{Purpose, stream};
use crate::run_dir::node_name;
use crate::schedule::{PlannedFault, Schedule};
use crate::target::Target;

/// How late a stop, or the death of a node by itself, may be noticed.
const TICK: Duration = Duration::from_millis(10);
/// How long an injection that needs a leader waits for one: an election of nodes that are being hurt takes that long.
const LEADER_WAIT: Duration = Duration::from_secs(1);
/// Pause between two questions who leads.
const LEADER_POLL: Duration = Duration::from_millis(50);
/// How long a fault waits for others that are in its way, milliseconds: each kind is dealt once. Who names nodes means them at
/// that moment.
const WAIT_MS_MAX: u64 = 5_000;
/// Between two tries, milliseconds.
const AGAIN_AFTER_MS: u64 = 250;

/// Runs a schedule to its end; its times count from `started`, its targets are drawn from `seed`. Each line of the history goes to
/// `sink` as `f` and `value`. When `stop` is set, everything is healed at once. On return every founder that did not die by itself
/// runs, and no rule is active.
pub fn run(
    schedule: &Schedule,
    seed: u64,
    cluster: &Cluster,
    fabric: &Fabric,
    sink: &dyn Fn(&str, Value),
    started: Instant,
    stop: &AtomicBool,
) {
    std::thread::scope(|scope| {
        let (active, waiting) = (BTreeMap::new(), VecDeque::new());
        let mut nemesis = Nemesis { scope, seed, cluster, fabric, sink, started, stop, active, waiting };
        nemesis.follow(schedule);
        nemesis.give_up_waiting();
        nemesis.heal_due(u64::MAX);
        while !nemesis.active.is_empty() {
            std::thread::sleep(TICK);
            nemesis.look();
        }
    });
}

/// Reports the nodes that died by themselves since the last call, as `self_exit` lines, and those that a fault explains and that run
/// again, as `expected_exit`; how many there were of the former.
pub fn report_self_exits(cluster: &Cluster, sink: &dyn Fn(&str, Value)) -> usize {
    let exits = cluster.self_exits();
    for exit in &exits {
        sink(
            "self_exit",
            json!({"node": node_name(exit.node), "status": exit.status, "stderr": exit.stderr}),
        );
    }
    for exit in cluster.expected_exits() {
        let restored = exit.restored;
        let value = json!({"node": node_name(exit.node), "status": exit.status, "restored": restored});
        sink("expected_exit", value);
    }
    exits.len()
}

/// A fault that was injected and is not healed yet.
struct Active<'a> {
    planned: &'a PlannedFault,
    ongoing: Ongoing,
    /// With what was seen of each before the injection.
    links: BTreeMap<Link, LinkCounters>,
    /// What their receivers' kernels had dropped of it.
    bad_checksums: u64,
    heal_ms: u64,
    leader: Option<Leader>,
    /// What carries out a fault of many steps.
    errand: Option<Underway<'a>>,
}

impl Active<'_> {
    /// Whether it was told to heal, and takes its time.
    fn is_healing(&self) -> bool {
        self.errand.as_ref().is_some_and(|errand| errand.due.load(Ordering::Relaxed))
    }
}

/// A thread that carries out a fault, and what tells it that it is time to heal.
struct Underway<'a> {
    due: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'a, Conclusion>,
}

struct Nemesis<'a, 'env> {
    scope: &'a Scope<'a, 'env>,
    seed: u64,
    cluster: &'a Cluster,
    fabric: &'a Fabric,
    sink: &'a dyn Fn(&str, Value),
    started: Instant,
    stop: &'a AtomicBool,
    active: BTreeMap<u32, Active<'a>>,
    /// Faults that others were in the way of, and when they are tried again, in this order.
    waiting: VecDeque<(u64, &'a PlannedFault)>,
}

impl<'a> Nemesis<'a, '_> {
    /// Injects and heals on time, until all is healed or it is stopped.
    fn follow(&mut self, schedule: &'a Schedule) {
        let mut planned = schedule.faults.iter().peekable();
        loop {
            let heals_at =
                self.active.values().filter(|active| !active.is_healing()).map(|active| active.heal_ms).min();
            let again_at = self.waiting.front().map(|(at_ms, _)| *at_ms);
            let planned_at = planned.peek().map(|planned| planned.at_ms);
            let again = again_at.is_some_and(|again| planned_at.is_none_or(|planned| again <= planned));
            let injects_at = if again { again_at } else { planned_at };
            // At one time heals come first: a node that is free again may be hit.
            let heal = heals_at.is_some_and(|heal| injects_at.is_none_or(|inject| heal <= inject));
            let Some(next_ms) = (if heal { heals_at } else { injects_at }) else { return };
            if !self.sleep_until(next_ms) {
                return;
            }
            if heal {
                self.heal_due(next_ms);
            } else if again {
                if let Some((_, planned)) = self.waiting.pop_front() {
                    self.inject(planned);
                }
            } else if let Some(planned) = planned.next() {
                self.inject(planned);
            }
        }
    }

    /// Looks who died by himself, and which faults of many steps have ended.
    fn look(&mut self) {
        report_self_exits(self.cluster, self.sink);
        let ended = |active: &Active<'_>| active.errand.as_ref().is_some_and(|e| e.thread.is_finished());
        let ended = self.active.iter().filter(|(_, active)| ended(active)).map(|(&id, _)| id);
        for id in ended.collect::<Vec<_>>() {
            if let Some(mut active) = self.active.remove(&id)
                && let Some(errand) = active.errand.take()
            {
                let Conclusion { bit, evidence } = errand.thread.join().unwrap_or_default();
                self.healed(&active, bit, evidence);
            }
        }
    }

    /// False if it was stopped before.
    fn sleep_until(&mut self, at_ms: u64) -> bool {
        let until = self.started + Duration::from_millis(at_ms);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            self.look();
            self.tick();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(TICK));
        }
    }

    /// Lets the faults go on that go on.
    fn tick(&mut self) {
        for active in self.active.values_mut() {
            if let Some(process) = active.planned.fault.behaviour().process()
                && active.ongoing.due <= Instant::now()
            {
                let kind = active.planned.fault.kind();
                dud::during(kind, || process.tick(self.cluster, &mut active.ongoing));
            }
        }
    }

    /// The nodes that are up and that no fault of processes has in its hands; nor one of clocks, if it is about `clocks`.
    fn free(&self, clocks: bool) -> Vec<NodeId> {
        let holds = |active: &&Active<'_>| {
            let behaviour = active.planned.fault.behaviour();
            behaviour.holds_processes() || (clocks && behaviour.holds_clocks())
        };
        let held = |node: &NodeId| {
            self.active.values().filter(holds).any(|active| active.ongoing.nodes.contains(node))
        };
        self.cluster.up().into_iter().filter(|node| !held(node)).collect()
    }

    fn inject(&mut self, planned: &'a PlannedFault) {
        let leader = self.leader(planned.target.needs_leader());
        let (founders, places) = (self.cluster.nodes(), self.cluster.places());
        let (behaviour, kind) = (planned.fault.behaviour(), planned.fault.kind());
        // A process that is hurt is not hurt again, and its links carry little. Yet all links are all links.
        let candidates = match (behaviour.process(), behaviour.steps(), &planned.target) {
            (None, Some(steps), _) if !steps.hits_spares() => {
                self.cluster.up().into_iter().filter(|node| *node <= founders).collect()
            }
            (None, None, Target::All | Target::Named(_)) => (1..=places).collect(),
            (None, None, _) => self.cluster.up(),
            _ => self.free(behaviour.holds_clocks()),
        };
        let mut rng = stream(self.seed, Purpose::Target, planned.id);
        // Where nobody tells who leads, it is whoever the others talk to: links without traffic have nothing to hurt.
        let told = self.cluster.system().tells_leader() || !planned.target.needs_leader();
        let busiest = if told { None } else { busiest(&self.fabric.links(), &candidates) };
        let mut drawn = planned.target.resolve(
            &candidates,
            founders,
            leader.map(|leader| leader.node).or(busiest),
            &mut rng,
        );
        if behaviour.steps().is_some() {
            drawn.truncate(1);
        }
        let (mut links, mut bad_checksums) = (BTreeMap::new(), 0);
        let acted = match behaviour.process() {
            Some(process) => dud::during(kind, || process.inject(self.cluster, &drawn)),
            None => {
                // Nothing passes the links of a spare that does not run.
                let nodes = self.cluster.up().last().map_or(founders, |last| founders.max(*last));
                let rules = behaviour.rules(&drawn, nodes);
                let before = self.fabric.links();
                let seen = |link| before.get(&link).copied().unwrap_or_default();
                links.extend(rules.iter().map(|(link, _)| (*link, seen(*link))));
                bad_checksums = self.fabric.bad_checksums(receivers(&links));
                let outcome = if rules.is_empty() { SKIPPED } else { INSTALLED };
                if !rules.is_empty() {
                    dud::during(kind, || self.fabric.install(planned.id, rules));
                }
                match (behaviour.steps(), drawn.first()) {
                    (Some(steps), Some(victim)) => dud::during(kind, || self.begin(planned, steps, *victim)),
                    _ => Acted { nodes: drawn, outcome, evidence: Map::new() },
                }
            }
        };
        if acted.outcome == SKIPPED {
            self.fabric.remove(planned.id);
            if self.may_wait(planned) {
                return self.waiting.push_back((self.now_ms() + AGAIN_AFTER_MS, planned));
            }
        }
        let ongoing = Ongoing::new(&acted);
        let Acted { outcome, mut evidence, .. } = acted;
        if outcome == SKIPPED {
            evidence.entry("reason").or_insert_with(|| "no node that could be hit".into());
        }
        describe_leader(&mut evidence, leader);
        // The time to heal counts from the injection as it was, not as it was planned: a fault that came late is no shorter.
        let at_ms = self.now_ms();
        let heal_ms = at_ms.max(planned.at_ms).saturating_add(planned.duration_ms);
        let mut active = Active { planned, ongoing, links, bad_checksums, heal_ms, leader, errand: None };
        let times = (planned.at_ms, at_ms);
        self.record(&active, "inject", times, json!({"outcome": outcome, "evidence": evidence}));
        if outcome != SKIPPED {
            active.errand = behaviour.steps().map(|steps| self.send_out(steps, &active));
            self.active.insert(planned.id, active);
        }
    }

    /// Records what waited to the end.
    fn give_up_waiting(&mut self) {
        for (_, planned) in std::mem::take(&mut self.waiting) {
            let acted = Acted { nodes: Vec::new(), outcome: SKIPPED, evidence: Map::new() };
            let (ongoing, links) = (Ongoing::new(&acted), BTreeMap::new());
            let nothing =
                Active { planned, ongoing, links, bad_checksums: 0, heal_ms: 0, leader: None, errand: None };
            let evidence = json!({"reason": "others were in the way to the end"});
            let times = (planned.at_ms, self.now_ms());
            self.record(&nothing, "inject", times, json!({"outcome": SKIPPED, "evidence": evidence}));
        }
    }

    /// Whether a fault that found nobody to hit, or another of its kind, may be tried again.
    fn may_wait(&self, planned: &PlannedFault) -> bool {
        let chosen = matches!(planned.target, Target::Named(_));
        !chosen
            && self.now_ms() < planned.at_ms.saturating_add(WAIT_MS_MAX)
            && !self.stop.load(Ordering::Relaxed)
    }

    /// The first step of a fault of many.
    fn begin(&self, planned: &PlannedFault, steps: &dyn SteppedFault, victim: NodeId) -> Acted {
        let kind = planned.fault.kind();
        if steps.is_exclusive() && self.active.values().any(|active| active.planned.fault.kind() == kind) {
            let evidence = Map::from_iter([("reason".to_owned(), "another one is under way".into())]);
            return Acted { nodes: Vec::new(), outcome: SKIPPED, evidence };
        }
        steps.begin(self.cluster, victim)
    }

    /// The others, on a thread of their own.
    fn send_out(&self, steps: &'a dyn SteppedFault, active: &Active<'_>) -> Underway<'a> {
        let (id, kind) = (active.planned.id, active.planned.fault.kind());
        let due = Arc::new(AtomicBool::new(false));
        let (cluster, fabric, stop) = (self.cluster, self.fabric, self.stop);
        let victims = active.ongoing.nodes.clone();
        let errand = Errand { cluster, fabric, id, victims, due: due.clone(), stop };
        Underway { due, thread: self.scope.spawn(move || dud::during(kind, || steps.carry_out(&errand))) }
    }

    /// Heals what is due at `now_ms`, in the order of ids.
    fn heal_due(&mut self, now_ms: u64) {
        let due = self.active.iter().filter(|(_, active)| active.heal_ms <= now_ms).map(|(&id, _)| id);
        for id in due.collect::<Vec<_>>() {
            if let Some(errand) = self.active.get(&id).and_then(|active| active.errand.as_ref()) {
                errand.due.store(true, Ordering::Relaxed);
            } else if let Some(active) = self.active.remove(&id) {
                self.heal(&active);
            }
        }
    }

    fn heal(&self, active: &Active<'_>) {
        let behaviour = active.planned.fault.behaviour();
        let (bit, evidence) = match behaviour.process() {
            Some(process) => {
                dud::during(active.planned.fault.kind(), || process.heal(self.cluster, &active.ongoing))
            }
            None => {
                // Looked at while the fault is still there: what it holds back has not passed yet.
                let now = self.fabric.links();
                let seen = active
                    .links
                    .iter()
                    .map(|(link, before)| now.get(link).copied().unwrap_or_default().since(*before));
                let mut seen = seen.fold(LinkCounters::default(), LinkCounters::plus);
                seen.bad_checksum =
                    self.fabric.bad_checksums(receivers(&active.links)) - active.bad_checksums;
                let counters = self.fabric.remove(active.planned.id);
                let mut evidence = match json!(counters) {
                    Value::Object(counters) => counters,
                    other => Map::from_iter([("counters".to_owned(), other)]),
                };
                evidence.retain(|name, count| name == "matched" || *count != 0);
                evidence.insert("seen".to_owned(), seen.to_json());
                (behaviour.bit(&counters, &seen) && !counters.are_disproved(), evidence)
            }
        };
        self.healed(active, bit, evidence);
    }

    /// Records that a fault is healed, and who leads then.
    fn healed(&self, active: &Active<'_>, bit: bool, mut evidence: Map<String, Value>) {
        let times = (active.planned.end_ms(), self.now_ms());
        // Asked after the healing, which is not to wait for an answer.
        let leader = self.cluster.leader();
        describe_leader(&mut evidence, leader);
        if let (Some(before), Some(after)) = (active.leader, leader) {
            evidence.insert("leader_changed".to_owned(), (before != after).into());
        }
        self.record(active, "heal", times, json!({"bit": bit, "evidence": evidence}));
    }

    fn leader(&self, needed: bool) -> Option<Leader> {
        let needed = needed && self.cluster.system().tells_leader();
        let asked = Instant::now();
        loop {
            let leader = self.cluster.leader();
            if leader.is_some()
                || !needed
                || asked.elapsed() >= LEADER_WAIT
                || self.stop.load(Ordering::Relaxed)
            {
                return leader;
            }
            std::thread::sleep(LEADER_POLL);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A line of the history, with when it was planned and when it was done.
    fn record(&self, active: &Active<'_>, phase: &str, (planned_ms, done_ms): (u64, u64), rest: Value) {
        let planned = active.planned;
        let links = active.links.keys().map(|link| [end_name(link.from), end_name(link.to)]);
        let mut value = json!({
            "id": planned.id,
            "phase": phase,
            "target": planned.target.name(),
            "nodes": active.ongoing.nodes.iter().copied().map(node_name).collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
            "params": params(&planned.fault),
            "planned_ms": planned_ms,
            "done_ms": done_ms,
        });
        if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
            value.extend(rest);
        }
        (self.sink)(planned.fault.kind().name(), value);
    }
}

/// The node whose links to other nodes carried most so far; nobody if none carried anything.
fn busiest(links: &BTreeMap<Link, LinkCounters>, nodes: &[NodeId]) -> Option<NodeId> {
    let carried = |node: NodeId| -> u64 {
        let of_it =
            |link: &Link| ![link.from, link.to].contains(&CLIENTS) && [link.from, link.to].contains(&node);
        links.iter().filter(|(link, _)| of_it(link)).map(|(_, counters)| counters.received).sum()
    };
    let most = nodes.iter().map(|node| (carried(*node), *node)).max_by_key(|(carried, _)| *carried)?;
    (most.0 > 0).then_some(most.1)
}

/// The nodes at the ends of links, each once.
fn receivers(links: &BTreeMap<Link, LinkCounters>) -> impl Iterator<Item = NodeId> {
    links.keys().map(|link| link.to).collect::<BTreeSet<_>>().into_iter()
}

/// The name of an end of a link.
fn end_name(end: NodeId) -> String {
    if end == CLIENTS { "clients".to_owned() } else { node_name(end) }
}

/// The parameters without the kind, which is the `f` of the line.
fn params(fault: &Fault) -> Value {
    let mut params = json!(fault);
    if let Value::Object(params) = &mut params {
        params.remove("kind");
    }
    params
}

fn describe_leader(evidence: &mut Map<String, Value>, leader: Option<Leader>) {
    evidence.insert("leader".to_owned(), json!(leader.map(|leader| node_name(leader.node))));
    evidence.insert("term".to_owned(), json!(leader.map(|leader| leader.term)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster_of;
    use crate::fault::FaultKind;
    use std::cell::RefCell;
    use std::net::UdpSocket;

    /// Runs a schedule on `sleep` processes: every line as (`f`, value).
    fn check(schedule: &str, during: impl Fn(&Cluster, &Fabric, &Value)) -> Vec<(String, Value)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("schedule.jsonl");
        std::fs::write(&path, schedule).unwrap();
        let schedule = Schedule::read(&path).unwrap();
        let (cluster, fabric) = cluster_of("exec sleep 1000", 3, dir.path());
        let lines = RefCell::new(Vec::new());
        let sink = |f: &str, value: Value| {
            during(&cluster, &fabric, &value);
            lines.borrow_mut().push((f.to_owned(), value));
        };
        run(&schedule, 1, &cluster, &fabric, &sink, Instant::now(), &AtomicBool::new(false));
        assert_eq!(cluster.up(), [1, 2, 3], "all run again");
        assert!(
            schedule.faults.iter().all(|planned| fabric.counters(planned.id).is_none()),
            "no rule is left"
        );
        lines.into_inner()
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

    /// The heal of the only fault of a schedule, whose target is everyone, after `ms`.
    fn check_process(fault: &str, ms: u64) -> (Value, Value) {
        let line = format!(r#"{{"id":1,"at_ms":0,"duration_ms":{ms},"target":"all","fault":{fault}}}"#);
        let lines = check(&line, |_, _, _| {});
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
        let (_, heal) = check_process(r#"{"kind":"rolling_restart","pause_ms":10}"#, 400);
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

    #[test]
    fn a_fault_that_had_no_time_to_go_on_did_not_bite() {
        let (_, heal) = check_process(r#"{"kind":"starve","stopped_ms":5000,"running_ms":10}"#, 20);
        assert_eq!(heal["bit"], false);
    }

    #[test]
    fn a_wipe_takes_the_data_of_one_node() {
        let dir = tempfile::tempdir().unwrap();
        // A node writes a file once, and says whether it found one.
        let script = "shift 5; d=$2; [ -e $d/f ] && echo found || echo empty; mkdir -p $d; touch $d/f; exec sleep 1000";
        let (cluster, fabric) = cluster_of(script, 3, dir.path());
        let said = |node: u32| {
            std::fs::read_to_string(dir.path().join(format!("run/nodes/n{node}/stdout.log")))
                .unwrap_or_default()
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
            &sink,
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
            run(&schedule, 1, &cluster, &fabric, &sink, Instant::now(), &AtomicBool::new(false));
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
        let lines = check(
            r#"{"id":1,"at_ms":0,"duration_ms":900,"target":"all","fault":{"kind":"clock_jump","wall_ms":-3600000,"monotonic_ms":2000}}
{"id":2,"at_ms":50,"duration_ms":100,"target":{"named":[2]},"fault":{"kind":"kill"}}
{"id":3,"at_ms":300,"duration_ms":100,"target":{"named":[3]},"fault":{"kind":"pause"}}
{"id":4,"at_ms":400,"duration_ms":300,"target":{"named":[1]},"fault":{"kind":"clock_rate","percent":50}}
{"id":5,"at_ms":1000,"duration_ms":300,"target":"one","fault":{"kind":"clock_rate","percent":50}}
"#,
            |_, _, _| {},
        );
        assert_eq!(of(&lines, 1, "inject")["outcome"], "installed");
        assert_eq!(
            (&of(&lines, 2, "heal")["bit"], &of(&lines, 3, "heal")["bit"]),
            (&json!(true), &json!(true))
        );
        let healed = of(&lines, 1, "heal");
        assert_eq!(
            (&healed["bit"], &healed["evidence"]["bent_again"]),
            (&json!(true), &json!(1)),
            "{healed}"
        );
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

    #[test]
    fn who_carries_most_is_taken_for_the_leader_where_nobody_tells() {
        let link =
            |from, to, received| (Link { from, to }, LinkCounters { received, ..LinkCounters::default() });
        let links = BTreeMap::from([
            link(1, 2, 5),
            link(2, 3, 9),
            link(3, 2, 1),
            link(CLIENTS, 1, 99),
            link(1, CLIENTS, 99),
        ]);
        assert_eq!(busiest(&links, &[1, 2, 3]), Some(2));
        assert_eq!(busiest(&links, &[1, 3]), Some(3), "of those that may be hit");
        assert_eq!(busiest(&BTreeMap::from([link(1, 2, 0)]), &[1, 2]), None);
        assert_eq!(busiest(&links, &[]), None);
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
    fn a_stop_heals_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (cluster, fabric) = cluster_of("exec sleep 1000", 3, dir.path());
        let path = dir.path().join("schedule.jsonl");
        let line =
            r#"{"id":1,"at_ms":0,"duration_ms":600000,"target":{"named":[2]},"fault":{"kind":"pause"}}"#;
        std::fs::write(&path, line).unwrap();
        let stop = AtomicBool::new(false);
        let healed = RefCell::new(false);
        let sink = |_: &str, value: Value| {
            stop.store(true, Ordering::Relaxed);
            *healed.borrow_mut() |= value["phase"] == "heal";
        };
        run(&Schedule::read(&path).unwrap(), 1, &cluster, &fabric, &sink, Instant::now(), &stop);
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
        run(&Schedule::read(&path).unwrap(), 1, &cluster, &fabric, &sink, Instant::now(), &stop);
        let expected = json!({"node": "n3", "status": "exit 101", "stderr": "oops\n"});
        assert_eq!(lines.into_inner(), [("self_exit".to_owned(), expected)]);
        assert_eq!(cluster.up(), [1, 2]);
    }
}
