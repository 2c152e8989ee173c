//! The end of a run: does the healed cluster serve through every node, do all agree, and what does each of them hold.
//! Whether the answers are right is the checker's business.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use checker::history::EventType;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::NodeId;
use crate::cluster::{Cluster, ClusterError, Seen};
use crate::net::{Direction, Fabric, Rule};
use crate::random::{Purpose, stream};
use crate::run_dir::{RunDir, node_name};
use crate::system::{Image, System};
use crate::worker::Worker;
use crate::workload::Workload;

/// A healed cluster that does not serve within this time is broken, if this machine starts it as fast as most.
const SERVE_WITHIN: Duration = Duration::from_secs(30);
/// Where this machine takes long to start it, it has so many times that: an election is a part of a start.
const STARTS: u32 = 20;
/// Nobody waits longer.
const SERVE_WITHIN_MAX: Duration = Duration::from_secs(300);
/// A harness that got no CPU for this long says nothing about the cluster.
pub(crate) const STARVED_LAG: Duration = Duration::from_secs(2);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(50);
/// The final reads of a very long run end here; what they did not reach stays indeterminate.
const FINAL_WITHIN: Duration = Duration::from_secs(60);
/// The id of what cuts a quorum off from the others: no fault of a schedule has it.
const QUORUM_FAULT: u32 = u32::MAX;
/// Attempts at each final read.
pub(crate) const FINAL_ATTEMPTS: u32 = 5;

/// A worker that talks to one node alone.
#[derive(Debug)]
pub struct Pinned<'a> {
    /// The node.
    pub id: NodeId,
    /// The worker.
    pub worker: Worker<'a>,
}

/// What came of the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What to say of the cluster.
    pub outcome: Outcome,
    /// How long it was waited for.
    pub waited: Duration,
    /// In words.
    pub detail: String,
    /// Nodes that were to serve.
    pub nodes: usize,
}

/// What to say of a cluster after its faults were healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every node served a write and a read, and all applied the same index.
    Served,
    /// That did not happen in time.
    NotServed,
    /// That did not happen in time, and the harness itself got no CPU.
    Starved,
}

impl Settled {
    /// Whether the cluster serves.
    pub fn served(&self) -> bool {
        self.outcome == Outcome::Served
    }

    /// The value of the `settle` line, or of the `quorum` line before it.
    pub fn to_json(&self) -> Value {
        let outcome = match self.outcome {
            Outcome::Served => "served",
            Outcome::NotServed => "not_served",
            Outcome::Starved => "starved",
        };
        let waited = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        json!({"outcome": outcome, "waited_ms": waited, "detail": self.detail})
    }
}

/// What a node had applied at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The node.
    pub id: NodeId,
    /// The lowest index at which one of the values was read.
    pub last_applied: u64,
    /// The highest.
    pub until: u64,
    /// Its whole state, if it tells that.
    pub image: Option<Image>,
    /// Values in history form; null for an absent key.
    pub values: BTreeMap<String, Value>,
}

impl State {
    /// The content of `state.json`.
    pub fn to_json(&self) -> Value {
        let mut state = json!({
            "node": node_name(self.id), "last_applied": self.last_applied, "until": self.until, "values": self.values,
        });
        if let Some(Image { index, hash }) = &self.image {
            state["image"] = json!({"index": index, "hash": hash});
        }
        state
    }
}

/// Asks the system what the files of each node that told its state come to, when all are dead, at the last index that all of them had
/// applied. What does not tell is in the sentences that come back.
pub fn add_images(states: &mut [State], system: &dyn System, dir: &RunDir) -> Vec<String> {
    let Some(until) = states.iter().map(|state| state.last_applied).min() else { return Vec::new() };
    let mut silent = Vec::new();
    for state in states {
        match system.image(dir, state.id, until) {
            None => {}
            Some(Ok(image)) => state.image = Some(image),
            Some(Err(why)) => {
                silent.push(format!("the files of {} do not tell its state: {why}", node_name(state.id)))
            }
        }
    }
    silent
}

/// How long a healed cluster may take to serve, when it took so long from its start until it was ready.
pub fn within(setup: Duration) -> Duration {
    setup.saturating_mul(STARTS).clamp(SERVE_WITHIN, SERVE_WITHIN_MAX)
}

/// What to say of a cluster that served or did not, while the harness itself got no CPU for `lag`.
fn outcome(served: bool, lag: Duration) -> Outcome {
    match served {
        true => Outcome::Served,
        false if lag > STARVED_LAG => Outcome::Starved,
        false => Outcome::NotServed,
    }
}

/// Waits until each pinned node serves a fresh write and a read of it, and all nodes applied the same index. `lag` tells the
/// longest time that the harness got no CPU.
pub fn serve(
    cluster: &Cluster,
    pinned: &mut [Pinned<'_>],
    workload: &mut Workload,
    within: Duration,
    lag: &dyn Fn() -> Duration,
) -> Settled {
    let started = Instant::now();
    let deadline = started + within;
    let key = workload.probe_key();
    let workload = Mutex::new(workload);
    let silent = silent(pinned.iter_mut().collect(), &workload, &key, deadline);
    let agreed = if !silent.is_empty() {
        let others = pinned.len() - silent.len();
        Err(format!(
            "no write and read through {}{}",
            silent.join(", "),
            advice(cluster.system().description(), others)
        ))
    } else if cluster.system().tells_applied() {
        let nodes: Vec<NodeId> = pinned.iter().map(|node| node.id).collect();
        agree(cluster, &nodes, deadline).map(|index| format!("all nodes agree at index {index}"))
    } else {
        let nodes: Vec<NodeId> = pinned.iter().map(|node| node.id).collect();
        print_alike(cluster, &nodes, deadline)
    };
    let lag = lag();
    let outcome = outcome(agreed.is_ok(), lag);
    let mut detail = agreed.unwrap_or_else(|detail| detail);
    if outcome == Outcome::Starved {
        detail += &format!(", but the harness itself got no CPU for {:.1} s", lag.as_secs_f64());
    }
    Settled { outcome, waited: started.elapsed(), detail, nodes: pinned.len() }
}

/// Nodes that must serve although the others are broken for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// A random majority, or more.
    pub core: Vec<NodeId>,
    /// The others.
    pub broken: Vec<NodeId>,
    /// What is wrong with these.
    pub how: Broken,
}

/// How the others are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Killed.
    Killed,
    /// Stopped.
    Paused,
    /// Cut off from the quorum, both ways.
    CutOff,
}

impl Quorum {
    /// Who of `nodes` must serve, and how the others are broken, from a seed: these are a minority, and no more than `tolerated`.
    /// `None` if they are nobody.
    pub fn draw(seed: u64, nodes: u32, tolerated: Option<u32>, links: bool) -> Option<Quorum> {
        let mut rng = stream(seed, Purpose::Quorum, 0);
        let mut core: Vec<NodeId> = (1..=nodes).collect();
        core.shuffle(&mut rng);
        let minority = nodes.saturating_sub(1) / 2;
        let broken = tolerated.map_or(minority, |tolerated| tolerated.min(minority));
        let mut broken = core.split_off((nodes - broken) as usize);
        core.sort_unstable();
        broken.sort_unstable();
        let how =
            [Broken::Killed, Broken::Paused, Broken::CutOff][rng.random_range(0..if links { 3 } else { 2 })];
        (!broken.is_empty()).then_some(Quorum { core, broken, how })
    }

    /// The same, with pauses in place of kills.
    #[must_use]
    pub fn without_kills(self) -> Quorum {
        let how = if self.how == Broken::Killed { Broken::Paused } else { self.how };
        Quorum { how, ..self }
    }

    /// `n1 n3 n4 serve while n2 n5 are killed`.
    pub fn sentence(&self, serve: &str) -> String {
        let names = |nodes: &[NodeId]| nodes.iter().copied().map(node_name).collect::<Vec<_>>().join(" ");
        let (are, how) = match (self.broken.len(), self.how) {
            (1, Broken::Killed) => ("is", "killed"),
            (_, Broken::Killed) => ("are", "killed"),
            (1, Broken::Paused) => ("is", "paused"),
            (_, Broken::Paused) => ("are", "paused"),
            (1, Broken::CutOff) => ("is", "cut off"),
            (_, Broken::CutOff) => ("are", "cut off"),
        };
        format!("{} {serve} while {} {are} {how}", names(&self.core), names(&self.broken))
    }

    /// Breaks the others, waits until every node of the core serves a fresh write and the read of it, and mends them. `None` if they
    /// could not be broken: that says nothing of the cluster.
    pub fn hold(
        &self,
        cluster: &Cluster,
        fabric: &Fabric,
        pinned: &mut [Pinned<'_>],
        workload: &mut Workload,
        within: Duration,
        lag: &dyn Fn() -> Duration,
    ) -> Option<Settled> {
        let confirmed = |seen: Result<Seen, ClusterError>| seen.is_ok_and(|seen| seen.confirmed);
        let broken = match self.how {
            Broken::Killed => self.broken.iter().all(|node| confirmed(cluster.kill(*node))),
            Broken::Paused => self.broken.iter().all(|node| confirmed(cluster.pause(*node))),
            Broken::CutOff => {
                let links = Direction::Both.links(&self.broken, cluster.nodes());
                fabric.install(QUORUM_FAULT, links.into_iter().map(|link| (link, Rule::Drop)).collect());
                true
            }
        };
        let started = Instant::now();
        let deadline = started + within;
        let key = workload.probe_key();
        let workload = Mutex::new(workload);
        let core = pinned.iter_mut().filter(|node| self.core.contains(&node.id)).collect();
        let silent = if broken { silent(core, &workload, &key, deadline) } else { Vec::new() };
        let waited = started.elapsed();
        match self.how {
            Broken::Killed => self.broken.iter().for_each(|node| drop(cluster.start(*node))),
            Broken::Paused => self.broken.iter().for_each(|node| drop(cluster.resume(*node))),
            Broken::CutOff => drop(fabric.remove(QUORUM_FAULT)),
        }
        let outcome = outcome(silent.is_empty(), lag());
        let detail = match silent.as_slice() {
            [] => self.sentence("serve"),
            silent => {
                let advice = advice(cluster.system().description(), self.core.len() - silent.len());
                let sentence = self.sentence("do not serve");
                format!("{sentence}: no write and read through {}{advice}", silent.join(", "))
            }
        };
        broken.then_some(Settled { outcome, waited, detail, nodes: self.core.len() })
    }
}

/// What may be wrong if some nodes do not serve while `others` do: every node has to, and where a description says how clients talk
/// to it, it is often these that stop at one which is not the leader.
fn advice(description: Option<&str>, others: usize) -> String {
    let has_clients = |text: &str| text.contains("[driver]") || text.contains("[http]");
    if !description.is_some_and(has_clients) || others == 0 {
        return String::new();
    }
    let serve = if others == 1 { "another serves" } else { "others serve" };
    format!(
        "; {serve}, so if this system serves through its leader alone, a driver has to ask that, whichever node it is given (`A driver of your own` in harness/README.md)"
    )
}

/// Names of the nodes that do not serve before the deadline, each with what a client was told last.
pub(crate) fn silent(
    nodes: Vec<&mut Pinned<'_>>,
    workload: &Mutex<&mut Workload>,
    key: &str,
    deadline: Instant,
) -> Vec<String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            nodes.into_iter().map(|node| scope.spawn(|| probe(node, workload, key, deadline))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// The node's name, if it does not serve a write and the read of it before the deadline, and why not.
fn probe(
    node: &mut Pinned<'_>,
    workload: &Mutex<&mut Workload>,
    key: &str,
    deadline: Instant,
) -> Option<String> {
    loop {
        let asked = workload.lock().unwrap_or_else(PoisonError::into_inner).probe(key);
        let mut answers = asked.iter().map(|op| node.worker.perform(op, 0));
        let refused = answers.find(|answer| answer.kind != EventType::Ok)?;
        if Instant::now() >= deadline {
            return Some(refusal(node.id, refused.error));
        }
        std::thread::sleep(RETRY);
    }
}

/// The node's name, and what it answered in place of serving.
pub(crate) fn refusal(node: NodeId, error: Option<String>) -> String {
    let name = node_name(node);
    error.map_or(name.clone(), |error| format!("{name} ({error})"))
}

/// The index that all of these nodes have committed and applied, once they have.
fn agree(cluster: &Cluster, nodes: &[NodeId], deadline: Instant) -> Result<u64, String> {
    loop {
        let mut statuses = cluster.statuses();
        // Who was taken out of the cluster is told no more.
        statuses.retain(|node, _| nodes.contains(node));
        let mut indexes: Vec<u64> =
            statuses.values().flat_map(|s| [s.last_applied, s.commit_index]).collect();
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.as_slice() {
            [index] if statuses.len() == nodes.len() => return Ok(*index),
            _ if Instant::now() < deadline => std::thread::sleep(RETRY),
            _ => {
                let said: Vec<String> = statuses
                    .iter()
                    .map(|(id, s)| format!("{} at {}", node_name(*id), s.last_applied))
                    .collect();
                return Err(format!("the nodes do not agree on what is applied: {}", said.join(", ")));
            }
        }
    }
}

/// Where what nodes hold is known by what they print: waits until all of these have printed the same of every key.
fn print_alike(cluster: &Cluster, nodes: &[NodeId], deadline: Instant) -> Result<String, String> {
    let printed = |node: &NodeId| cluster.system().printed(cluster.run_dir(), *node);
    loop {
        let Some(held) = nodes.iter().map(printed).collect::<Option<Vec<_>>>() else {
            return Ok("every node serves".to_owned());
        };
        let Some((node, key)) = first_unlike(&held) else {
            let keys = held.first().map_or(0, BTreeMap::len);
            return Ok(format!("all nodes printed the same of {keys} keys"));
        };
        if Instant::now() >= deadline {
            let (first, other) = (node_name(nodes[0]), node_name(nodes[node]));
            let tell = |node: usize| held[node].get(key).map_or("nothing", String::as_str);
            let (one, another) = (tell(0), tell(node));
            return Err(format!(
                "the nodes did not print the same: of {key} {first} {one}, {other} {another}"
            ));
        }
        std::thread::sleep(RETRY);
    }
}

/// The first key of which a node printed something else than the first node did, and the place of that node.
fn first_unlike(held: &[BTreeMap<String, String>]) -> Option<(usize, &str)> {
    let (first, others) = held.split_first()?;
    (1..).zip(others).find_map(|(place, other)| {
        let keys = first.keys().chain(other.keys());
        keys.map(String::as_str).find(|key| first.get(*key) != other.get(*key)).map(|key| (place, key))
    })
}

/// Reads every key linearizably through each node, into the history, and then what each node itself holds. A node that
/// does not tell all of its state is left out: a key that was not read must not look absent.
pub fn final_reads(pinned: &mut [Pinned<'_>], keys: &[String]) -> Vec<State> {
    let deadline = Instant::now() + FINAL_WITHIN;
    std::thread::scope(|scope| {
        let threads: Vec<_> = pinned
            .iter_mut()
            .map(|node| {
                scope.spawn(move || {
                    for read in Workload::final_reads(keys) {
                        for _ in 0..FINAL_ATTEMPTS {
                            if Instant::now() >= deadline
                                || node.worker.perform(&read, 0).kind == EventType::Ok
                            {
                                break;
                            }
                        }
                    }
                    state(node, keys)
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

fn state(node: &mut Pinned<'_>, keys: &[String]) -> Option<State> {
    let (mut last_applied, mut until, mut values) = (u64::MAX, 0, BTreeMap::new());
    for key in keys {
        let local = (0..FINAL_ATTEMPTS).find_map(|_| node.worker.local(0, key))?;
        last_applied = last_applied.min(local.last_applied);
        until = until.max(local.last_applied);
        values.insert(key.clone(), local.value);
    }
    Some(State { id: node.id, last_applied, until, image: None, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_slowly_may_serve_slowly_and_a_starved_harness_says_nothing() {
        let seconds = Duration::from_secs;
        let bounds = [0, 1, 10, 1_000].map(|setup| within(seconds(setup)));
        assert_eq!(bounds, [30, 30, 200, 300].map(seconds));
        assert_eq!(outcome(true, seconds(60)), Outcome::Served);
        assert_eq!(outcome(false, STARVED_LAG), Outcome::NotServed);
        assert_eq!(outcome(false, STARVED_LAG + Duration::from_nanos(1)), Outcome::Starved);
    }

    #[test]
    fn where_some_nodes_serve_a_described_system_gets_the_advice_to_follow_the_leader() {
        assert!(advice(Some("[driver]\ncommand = []"), 1).starts_with("; another serves, so if"));
        assert!(advice(Some("[http]\nport = \"x\""), 2).contains("a driver has to ask that"));
        assert_eq!(
            advice(Some("[driver]"), 0) + &advice(Some("kind = \"maelstrom\""), 2) + &advice(None, 2),
            ""
        );
    }

    #[test]
    fn one_key_of_which_one_node_printed_something_else_is_named() {
        let held = |text: &str| -> BTreeMap<String, String> {
            text.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect()
        };
        let first = held("r1=5 r2=6");
        assert_eq!(first_unlike(&[first.clone(), first.clone()]), None);
        assert_eq!(first_unlike(&[first.clone(), first.clone(), held("r1=5 r2=7")]), Some((2, "r2")));
        assert_eq!(first_unlike(&[first.clone(), held("r1=5")]), Some((1, "r2")));
        assert_eq!(first_unlike(&[first.clone(), held("r1=5 r2=6 r3=1")]), Some((1, "r3")));
        assert_eq!(first_unlike(&[]), None);
    }

    #[test]
    fn a_quorum_is_a_random_majority_and_the_others_are_broken_in_every_way() {
        let draws: Vec<Quorum> = (0..60).map(|seed| Quorum::draw(seed, 5, None, true).unwrap()).collect();
        for quorum in &draws {
            let mut all = [&quorum.core[..], &quorum.broken[..]].concat();
            all.sort_unstable();
            assert_eq!((all.as_slice(), quorum.core.len()), (&[1, 2, 3, 4, 5][..], 3));
        }
        for how in [Broken::Killed, Broken::Paused, Broken::CutOff] {
            assert!(draws.iter().any(|quorum| quorum.how == how));
        }
        assert!((0..60).all(|seed| Quorum::draw(seed, 3, None, false).unwrap().how != Broken::CutOff));
        assert_eq!(Quorum::draw(1, 1, None, true), None);
        assert_eq!(Quorum::draw(1, 2, None, true), None);
        // No more than the system can do without, and never so many that no majority is left.
        assert_eq!(Quorum::draw(1, 5, Some(0), true), None);
        assert_eq!(Quorum::draw(1, 5, Some(1), true).unwrap().core.len(), 4);
        assert_eq!(Quorum::draw(1, 5, Some(4), true).unwrap().core.len(), 3);
        let quorum = Quorum { core: vec![2, 3], broken: vec![1], how: Broken::CutOff };
        assert_eq!(quorum.sentence("serve"), "n2 n3 serve while n1 is cut off");
    }

    #[test]
    fn what_is_written_is_what_the_checker_expects() {
        let settled = |outcome| Settled {
            outcome,
            waited: Duration::from_millis(1_900),
            detail: "x".to_owned(),
            nodes: 5,
        };
        let text = |outcome| settled(outcome).to_json().to_string();
        assert_eq!(text(Outcome::Served), r#"{"detail":"x","outcome":"served","waited_ms":1900}"#);
        assert!(text(Outcome::NotServed).contains("\"not_served\"") && !settled(Outcome::NotServed).served());
        assert!(text(Outcome::Starved).contains("\"starved\"") && !settled(Outcome::Starved).served());
        let values = BTreeMap::from([
            ("r0".to_owned(), json!(17)),
            ("a0".to_owned(), json!([1, 2])),
            ("r1".to_owned(), Value::Null),
        ]);
        let image = Some(Image { index: 9, hash: "0a".to_owned() });
        let state = State { id: 1, last_applied: 9, until: 10, image, values };
        assert_eq!(
            state.to_json().to_string(),
            r#"{"image":{"hash":"0a","index":9},"last_applied":9,"node":"n1","until":10,"values":{"a0":[1,2],"r0":17,"r1":null}}"#
        );
    }
}
