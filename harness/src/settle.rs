//! The end of a run: does the healed cluster serve through every node, do all agree, and what does each of them hold.
//! Whether the answers are right is the checker's business.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use checker::history::EventType;
use serde_json::{Value, json};

use crate::NodeId;
use crate::cluster::Cluster;
use crate::run_dir::node_name;
use crate::worker::Worker;
use crate::workload::Workload;

/// A healed cluster that does not serve within this time is broken.
const SERVE_WITHIN: Duration = Duration::from_secs(30);
/// A harness that got no CPU for this long says nothing about the cluster.
const STARVED_LAG: Duration = Duration::from_secs(2);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(50);
/// The final reads of a very long run end here; what they did not reach stays indeterminate.
const FINAL_WITHIN: Duration = Duration::from_secs(60);
/// Attempts at each final read.
const FINAL_ATTEMPTS: u32 = 5;

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

    /// The value of the `settle` line.
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
    /// Values in history form; null for an absent key.
    pub values: BTreeMap<String, Value>,
}

impl State {
    /// The content of `state.json`.
    pub fn to_json(&self) -> Value {
        json!({"node": node_name(self.id), "last_applied": self.last_applied, "values": self.values})
    }
}

/// Waits until each pinned node serves a fresh write and a read of it, and all nodes applied the same index. `lag` tells the
/// longest time that the harness got no CPU.
pub fn serve(
    cluster: &Cluster,
    pinned: &mut [Pinned<'_>],
    workload: &mut Workload,
    lag: &dyn Fn() -> Duration,
) -> Settled {
    let started = Instant::now();
    let deadline = started + SERVE_WITHIN;
    let key = workload.probe_key();
    let workload = Mutex::new(workload);
    let silent: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            pinned.iter_mut().map(|node| scope.spawn(|| probe(node, &workload, &key, deadline))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let agreed = if !silent.is_empty() {
        Err(format!("no write and read through {}", silent.join(", ")))
    } else if cluster.system().tells_applied() {
        agree(cluster, pinned.len(), deadline).map(|index| format!("all nodes agree at index {index}"))
    } else {
        Ok("every node serves".to_owned())
    };
    let (outcome, detail) = match agreed {
        Ok(detail) => (Outcome::Served, detail),
        Err(detail) if lag() > STARVED_LAG => (
            Outcome::Starved,
            format!("{detail}, but the harness itself got no CPU for {:.1} s", lag().as_secs_f64()),
        ),
        Err(detail) => (Outcome::NotServed, detail),
    };
    Settled { outcome, waited: started.elapsed(), detail }
}

/// The node's name, if it does not serve a write and the read of it before the deadline.
fn probe(
    node: &mut Pinned<'_>,
    workload: &Mutex<&mut Workload>,
    key: &str,
    deadline: Instant,
) -> Option<String> {
    loop {
        let (write, read) = workload.lock().unwrap_or_else(PoisonError::into_inner).probe(key);
        let served = [write, read].iter().all(|op| node.worker.perform(op, 0).kind == EventType::Ok);
        if served {
            return None;
        }
        if Instant::now() >= deadline {
            return Some(node_name(node.id));
        }
        std::thread::sleep(RETRY);
    }
}

/// The index that all of `count` nodes have committed and applied, once they have.
fn agree(cluster: &Cluster, count: usize, deadline: Instant) -> Result<u64, String> {
    loop {
        let statuses = cluster.statuses();
        let mut indexes: Vec<u64> =
            statuses.values().flat_map(|s| [s.last_applied, s.commit_index]).collect();
        indexes.sort_unstable();
        indexes.dedup();
        match indexes.as_slice() {
            [index] if statuses.len() >= count => return Ok(*index),
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
    let (mut last_applied, mut values) = (u64::MAX, BTreeMap::new());
    for key in keys {
        let local = (0..FINAL_ATTEMPTS).find_map(|_| node.worker.local(0, key))?;
        last_applied = last_applied.min(local.last_applied);
        values.insert(key.clone(), local.value);
    }
    Some(State { id: node.id, last_applied, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_checker_expects() {
        let settled =
            |outcome| Settled { outcome, waited: Duration::from_millis(1_900), detail: "x".to_owned() };
        let text = |outcome| settled(outcome).to_json().to_string();
        assert_eq!(text(Outcome::Served), r#"{"detail":"x","outcome":"served","waited_ms":1900}"#);
        assert!(text(Outcome::NotServed).contains("\"not_served\"") && !settled(Outcome::NotServed).served());
        assert!(text(Outcome::Starved).contains("\"starved\"") && !settled(Outcome::Starved).served());
        let values = BTreeMap::from([
            ("r0".to_owned(), json!(17)),
            ("a0".to_owned(), json!([1, 2])),
            ("r1".to_owned(), Value::Null),
        ]);
        let state = State { id: 1, last_applied: 9, values };
        assert_eq!(
            state.to_json().to_string(),
            r#"{"last_applied":9,"node":"n1","values":{"a0":[1,2],"r0":17,"r1":null}}"#
        );
    }
}
