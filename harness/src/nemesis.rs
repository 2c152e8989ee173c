//! Injects the faults of a schedule into a running cluster and heals them, on time, with evidence.
//! What a fault does is in [`crate::fault`]; processes and links are changed through [`crate::cluster`] and [`crate::net`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::NodeId;
use crate::anchor::{Anchor, InFlight, Lookout, Moment, Sighting};
use crate::cluster::{Cluster, Leader};
use crate::dud;
use crate::errand::{Conclusion, Errand};
use crate::fault::{Acted, Fault, INSTALLED, Ongoing, SKIPPED, SteppedFault};
use crate::host::monotonic_ns;
use crate::net::{CLIENTS, Fabric, Link, LinkCounters, Traffic};
use crate::random::{Purpose, stream};
use crate::run_dir::node_name;
use crate::schedule::{PlannedFault, Schedule};
use crate::target::Target;

/// How late a stop, or the death of a node by itself, may be noticed.
const TICK: Duration = Duration::from_millis(10);
/// The same while a fault waits for a moment: those that matter are a few milliseconds long.
const LOOKOUT_TICK: Duration = Duration::from_micros(500);
/// How long an injection that needs a leader waits for one, milliseconds: an election of nodes that are being hurt takes that long.
/// Meanwhile all else goes on: what is not healed on time may be what there is no leader for.
const LEADER_WAIT_MS: u64 = 1_000;
/// Pause between two questions who leads, milliseconds.
const LEADER_POLL_MS: u64 = 50;
/// How long a fault waits for others that are in its way, milliseconds: each kind is dealt once. Who names nodes means them at
/// that moment.
const WAIT_MS_MAX: u64 = 5_000;
/// Between two tries, milliseconds.
const AGAIN_AFTER_MS: u64 = 250;

/// What the nemesis shares with those who write the history.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Takes each of its lines, as `f` and `value`.
    pub sink: &'a dyn Fn(&str, Value),
    /// Tells which writes clients wait for.
    pub in_flight: &'a dyn Fn() -> Vec<InFlight>,
    /// Tells when the newest write that was acknowledged was asked for, nanoseconds of CLOCK_MONOTONIC; 0 if none was.
    pub acknowledged: &'a (dyn Fn() -> u64 + Sync),
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record")
    }
}

/// Runs a schedule to its end; its times count from `started`, its targets are drawn from `seed`. When `stop` is set, everything is healed at once. On return every founder that did not die by itself
/// runs, and no rule is active.
pub fn run(
    schedule: &Schedule,
    seed: u64,
    cluster: &Cluster,
    fabric: &Fabric,
    record: Record<'_>,
    started: Instant,
    stop: &AtomicBool,
) {
    std::thread::scope(|scope| {
        let (active, waiting, armed) = (BTreeMap::new(), Vec::new(), Vec::new());
        let traffic = Traffic::default();
        let Record { sink, in_flight, acknowledged } = record;
        let mut nemesis = Nemesis {
            scope,
            seed,
            cluster,
            fabric,
            sink,
            in_flight,
            acknowledged,
            started,
            stop,
            active,
            waiting,
            armed,
            traffic,
        };
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
            json!({"node": node_name(exit.node), "status": exit.status, (exit.stream): exit.said}),
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

/// A fault that others are in the way of, or that needs a leader where there is none.
struct Waiting<'a> {
    planned: &'a PlannedFault,
    /// When it is tried again, milliseconds after the load began.
    again_ms: u64,
    /// When it was tried first.
    since_ms: u64,
}

/// A fault whose time has come, and that waits for its moment.
struct Armed<'a> {
    planned: &'a PlannedFault,
    anchor: Anchor,
    lookout: Lookout,
    /// When it gives up, milliseconds after the load began.
    until_ms: u64,
    /// Who led when it began to wait, if its target depends on it.
    leader: Option<Leader>,
    seen: Option<Sighting>,
}

struct Nemesis<'a, 'env> {
    scope: &'a Scope<'a, 'env>,
    seed: u64,
    cluster: &'a Cluster,
    fabric: &'a Fabric,
    sink: &'a dyn Fn(&str, Value),
    in_flight: &'a dyn Fn() -> Vec<InFlight>,
    acknowledged: &'a (dyn Fn() -> u64 + Sync),
    started: Instant,
    stop: &'a AtomicBool,
    active: BTreeMap<u32, Active<'a>>,
    waiting: Vec<Waiting<'a>>,
    armed: Vec<Armed<'a>>,
    traffic: Traffic,
}

impl<'a> Nemesis<'a, '_> {
    /// Injects and heals on time, until all is healed or it is stopped.
    fn follow(&mut self, schedule: &'a Schedule) {
        let mut planned = schedule.faults.iter().peekable();
        loop {
            let heals_at =
                self.active.values().filter(|active| !active.is_healing()).map(|active| active.heal_ms).min();
            let again_at = self.waiting.iter().map(|waiting| waiting.again_ms).min();
            let planned_at = planned.peek().map(|planned| planned.at_ms);
            let again = again_at.is_some_and(|again| planned_at.is_none_or(|planned| again <= planned));
            let injects_at = if again { again_at } else { planned_at };
            // At one time heals come first: a node that is free again may be hit.
            let heal = heals_at.is_some_and(|heal| injects_at.is_none_or(|inject| heal <= inject));
            let Some(next_ms) = (if heal { heals_at } else { injects_at }) else {
                match self.armed.iter().map(|armed| armed.until_ms).min() {
                    Some(until_ms) if self.sleep_until(until_ms) => continue,
                    _ => return,
                }
            };
            if !self.sleep_until(next_ms) {
                return;
            }
            // What struck meanwhile may have to heal before.
            if self.now_ms() < next_ms {
                continue;
            }
            if heal {
                self.heal_due(self.now_ms());
            } else if again {
                let first = self.waiting.iter().position(|waiting| waiting.again_ms == next_ms);
                if let Some(Waiting { planned, since_ms, .. }) = first.map(|at| self.waiting.remove(at)) {
                    self.attempt(planned, since_ms);
                }
            } else if let Some(planned) = planned.next() {
                self.attempt(planned, self.now_ms());
            }
        }
    }

    /// Looks who died by himself, and which faults of many steps have ended.
    fn look(&mut self) {
        report_self_exits(self.cluster, self.sink);
        if !self.cluster.system().tells_leader() {
            self.traffic.look(Instant::now(), || self.fabric.links());
        }
        let ended = |active: &Active<'_>| active.errand.as_ref().is_some_and(|e| e.thread.is_finished());
        let ended = self.active.iter().filter(|(_, active)| ended(active)).map(|(&id, _)| id);
        let mut healed = Vec::new();
        for id in ended.collect::<Vec<_>>() {
            if let Some(mut active) = self.active.remove(&id)
                && let Some(errand) = active.errand.take()
            {
                let Conclusion { bit, evidence } = errand.thread.join().unwrap_or_default();
                healed.push((active, self.now_ms(), bit, evidence));
            }
        }
        self.record_healed(healed);
    }

    /// False if it was stopped before; it returns early when a fault that waited for its moment strikes, which is to heal some time.
    fn sleep_until(&mut self, at_ms: u64) -> bool {
        let until = self.started + Duration::from_millis(at_ms);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            self.look();
            self.tick();
            let struck = self.look_out();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || struck {
                return true;
            }
            std::thread::sleep(left.min(if self.armed.is_empty() { TICK } else { LOOKOUT_TICK }));
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

    /// Injects a fault that was tried first at `since_ms`, or lets it wait: for its moment, or for a leader if it needs one.
    fn attempt(&mut self, planned: &'a PlannedFault, since_ms: u64) {
        let needed = planned.target.needs_leader();
        // Who waits for a moment does not need to know, and may miss it meanwhile.
        let leader = if needed || planned.anchor.is_none() { self.cluster.leader() } else { None };
        let missing = needed && leader.is_none() && self.cluster.system().tells_leader();
        if missing && self.now_ms() < since_ms + LEADER_WAIT_MS {
            let again_ms = self.now_ms() + LEADER_POLL_MS;
            return self.waiting.push(Waiting { planned, again_ms, since_ms });
        }
        match planned.anchor {
            Some(anchor) => self.arm(planned, anchor, leader),
            None => self.inject(planned, leader),
        }
    }

    /// Lets a fault wait for its moment.
    fn arm(&mut self, planned: &'a PlannedFault, anchor: Anchor, leader: Option<Leader>) {
        let lookout =
            Lookout::new(anchor, self.cluster.system(), self.cluster.run_dir(), self.cluster.places());
        let until_ms = planned.at_ms.max(self.now_ms()).saturating_add(anchor.within_ms);
        self.armed.push(Armed { planned, anchor, lookout, until_ms, leader, seen: None });
    }

    /// Looks whether the moments came that faults wait for, and strikes those whose time it is. Whether one of them is over: struck, or
    /// given up.
    fn look_out(&mut self) -> bool {
        if self.armed.is_empty() {
            return false;
        }
        let (mut armed, mut over) = (std::mem::take(&mut self.armed), false);
        let in_flight = (self.in_flight)();
        armed.retain_mut(|armed| {
            if armed.seen.is_none() {
                let free = self.free(false);
                let meant = |node: NodeId| match &armed.planned.target {
                    Target::Named(named) => named.contains(&node),
                    Target::Leader => armed.leader.is_none_or(|leader| leader.node == node),
                    _ => true,
                };
                let seen = armed.lookout.look(self.cluster.system(), &in_flight, monotonic_ns());
                armed.seen = seen.into_iter().find(|seen| free.contains(&seen.node) && meant(seen.node));
            }
            let due = armed
                .seen
                .filter(|seen| monotonic_ns() >= seen.from().saturating_add(armed.anchor.offset_us * 1_000));
            let given_up = armed.seen.is_none() && self.now_ms() >= armed.until_ms;
            if let Some(seen) = due {
                let leads = seen.term.filter(|_| armed.anchor.after == Moment::Leader);
                let leader = leads.map(|term| Leader { node: seen.node, term }).or(armed.leader);
                // Another may have taken it into its hands since.
                let victims = self.free(false).into_iter().filter(|node| *node == seen.node).collect();
                self.strike(armed.planned, victims, leader, Some(seen));
            } else if given_up {
                self.miss(armed.planned, &missed(&armed.anchor));
            }
            over |= due.is_some() || given_up;
            due.is_none() && !given_up
        });
        self.armed = armed;
        over
    }

    fn inject(&mut self, planned: &'a PlannedFault, leader: Option<Leader>) {
        let (founders, places) = (self.cluster.nodes(), self.cluster.places());
        let behaviour = planned.fault.behaviour();
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
        let busiest = if told { None } else { self.traffic.busiest(&self.fabric.links(), &candidates) };
        let mut drawn = planned.target.resolve(
            &candidates,
            founders,
            leader.map(|leader| leader.node).or(busiest),
            &mut rng,
        );
        if behaviour.steps().is_some() {
            drawn.truncate(1);
        }
        self.strike(planned, drawn, leader, None);
    }

    /// Hits the nodes that were drawn, or the one whose moment was seen.
    fn strike(
        &mut self,
        planned: &'a PlannedFault,
        drawn: Vec<NodeId>,
        leader: Option<Leader>,
        seen: Option<Sighting>,
    ) {
        let (behaviour, kind) = (planned.fault.behaviour(), planned.fault.kind());
        let founders = self.cluster.nodes();
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
        let struck = monotonic_ns();
        if acted.outcome == SKIPPED {
            self.fabric.remove(planned.id);
            if seen.is_none() && self.may_wait(planned) {
                let now_ms = self.now_ms();
                let again_ms = now_ms + AGAIN_AFTER_MS;
                return self.waiting.push(Waiting { planned, again_ms, since_ms: now_ms });
            }
        }
        let ongoing = Ongoing::new(&acted);
        let Acted { outcome, mut evidence, .. } = acted;
        if outcome == SKIPPED {
            evidence.entry("reason").or_insert_with(|| "no node that could be hit".into());
        }
        if let (Some(seen), Some(anchor)) = (seen, &planned.anchor) {
            evidence.insert("anchor".to_owned(), seen.to_json(anchor, struck));
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
        for Waiting { planned, .. } in std::mem::take(&mut self.waiting) {
            self.miss(planned, "others were in the way to the end");
        }
        for armed in std::mem::take(&mut self.armed) {
            self.miss(armed.planned, &missed(&armed.anchor));
        }
    }

    /// Records a fault that struck nobody.
    fn miss(&self, planned: &'a PlannedFault, reason: &str) {
        let acted = Acted { nodes: Vec::new(), outcome: SKIPPED, evidence: Map::new() };
        let (ongoing, links) = (Ongoing::new(&acted), BTreeMap::new());
        let nothing =
            Active { planned, ongoing, links, bad_checksums: 0, heal_ms: 0, leader: None, errand: None };
        let evidence = json!({"reason": reason});
        let times = (planned.at_ms, self.now_ms());
        self.record(&nothing, "inject", times, json!({"outcome": SKIPPED, "evidence": evidence}));
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
        let (cluster, fabric, stop, acknowledged) = (self.cluster, self.fabric, self.stop, self.acknowledged);
        let victims = active.ongoing.nodes.clone();
        let errand = Errand { cluster, fabric, id, victims, due: due.clone(), stop, acknowledged };
        Underway { due, thread: self.scope.spawn(move || dud::during(kind, || steps.carry_out(&errand))) }
    }

    /// Heals what is due at `now_ms`, in the order in which it was to be.
    fn heal_due(&mut self, now_ms: u64) {
        let due = self.active.iter().filter(|(_, active)| active.heal_ms <= now_ms);
        let mut due: Vec<_> = due.map(|(&id, active)| (active.heal_ms, id)).collect();
        due.sort_unstable();
        let mut healed = Vec::new();
        for (_, id) in due {
            if let Some(errand) = self.active.get(&id).and_then(|active| active.errand.as_ref()) {
                errand.due.store(true, Ordering::Relaxed);
            } else if let Some(active) = self.active.remove(&id) {
                let (bit, evidence) = self.heal(&active);
                healed.push((active, self.now_ms(), bit, evidence));
                // Who is free again may be hit again by what goes on, however late all this is.
                self.tick();
            }
        }
        self.record_healed(healed);
    }

    /// Whether it bit, and by what that is known.
    fn heal(&self, active: &Active<'_>) -> (bool, Map<String, Value>) {
        let behaviour = active.planned.fault.behaviour();
        match behaviour.process() {
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
        }
    }

    /// Records that faults are healed, since when, and who leads then.
    fn record_healed(&self, healed: Vec<(Active<'_>, u64, bool, Map<String, Value>)>) {
        if healed.is_empty() {
            return;
        }
        // Asked once, and after all healing, which is not to wait for an answer.
        let leader = self.cluster.leader();
        for (active, healed_ms, bit, mut evidence) in healed {
            describe_leader(&mut evidence, leader);
            if let (Some(before), Some(after)) = (active.leader, leader) {
                evidence.insert("leader_changed".to_owned(), (before != after).into());
            }
            let times = (active.planned.end_ms(), healed_ms);
            self.record(&active, "heal", times, json!({"bit": bit, "evidence": evidence}));
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

/// Why a fault with this anchor struck nobody.
fn missed(anchor: &Anchor) -> String {
    format!("no moment {:?} of a node that could be hit within {} ms", anchor.after.name(), anchor.within_ms)
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
mod tests;
