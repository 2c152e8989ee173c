//! A logical worker: one open operation at a time, recorded before it leaves and after its answer is in.
//! What to ask is the workload's business, what an answer means is the system's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use checker::history::{Event, EventType, Process};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::NodeId;
use crate::recorder::Recorder;
use crate::run_dir::node_name;
use crate::system::{Completion, Local, Session};
use crate::workload::{Action, Operation, Seen, Workload};

/// How often a write goes to another node than the worker's own first, in percent: a worker whose node is down is not the only
/// one that notices.
const WRITE_AWAY_PERCENT: u32 = 20;
/// The same of a read. A leader that was cut off and does not know it yet answers stale reads to those alone who still ask it, and
/// its own workers soon wait for a write that it cannot commit.
const READ_AWAY_PERCENT: u32 = 50;
/// Pause after an operation that failed at once: an unreachable cluster must not become a busy loop.
const FAIL_PAUSE: Duration = Duration::from_millis(10);

/// One worker, and the process id under which its operations stand in the history.
#[derive(Debug)]
pub struct Worker<'a> {
    recorder: &'a Recorder,
    session: Box<dyn Session>,
    /// Position to node id.
    nodes: Vec<NodeId>,
    name: String,
    process: u64,
    /// Distance to this worker's next process id: no two workers ever share one.
    stride: u64,
}

impl<'a> Worker<'a> {
    /// Worker `index` of `stride`, which talks through a session to these nodes.
    pub fn new(
        recorder: &'a Recorder,
        session: Box<dyn Session>,
        nodes: Vec<NodeId>,
        index: u64,
        stride: u64,
    ) -> Worker<'a> {
        Worker { recorder, session, nodes, name: format!("w{index}"), process: index, stride }
    }

    /// Performs one operation, first through the node at position `first`, with both its lines in the history.
    pub fn perform(&mut self, operation: &Operation, first: usize) -> Completion {
        let event = |time, process, kind| Event {
            index: 0,
            time,
            process: Process::Client(process),
            kind,
            f: operation.f().to_owned(),
            key: Some(operation.key.clone()),
            value: operation.argument(),
            error: None,
            actual: None,
            node: self.nodes.get(first).copied().map(node_name),
            client: Some(self.name.clone()),
            position: None,
        };
        // The line is in the kernel before the first byte leaves: an operation without one cannot have happened.
        self.recorder.client(event(self.recorder.now(), self.process, EventType::Invoke));
        let completion = self.session.perform(self.process, operation, first);
        let time = self.recorder.now();
        self.recorder.client(Event {
            value: completion.value.clone(),
            error: completion.error.clone(),
            actual: completion.actual.clone(),
            node: completion.node.map(node_name),
            position: completion.position,
            ..event(time, self.process, completion.kind)
        });
        if completion.kind == EventType::Info {
            // The old operation may take effect at any later time, so its process may never act again.
            self.process += self.stride;
        }
        completion
    }

    /// What the node at this position itself has applied for a key; see [`Session::local`].
    pub fn local(&mut self, position: usize, key: &str) -> Option<Local> {
        self.session.local(position, key)
    }

    /// Draws and performs operations until `stop`, one every `interval` (zero: back to back).
    pub fn work(
        &mut self,
        workload: &Mutex<Workload>,
        mut rng: ChaCha8Rng,
        interval: Duration,
        stop: &AtomicBool,
    ) {
        let count = self.nodes.len().max(1);
        let home = rng.random_range(0..count);
        let mut seen = Seen::new();
        // Workers start spread over one interval, or they would all ask at the same instant for ever.
        let mut due = Instant::now() + interval.mul_f64(rng.random());
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < due {
                std::thread::sleep((due - now).min(Duration::from_millis(50)));
                continue;
            }
            // What an unavailable cluster kept from being asked is not made up for by a burst.
            due = (due + interval).max(now);
            let operation = workload.lock().unwrap_or_else(PoisonError::into_inner).next(&mut rng, &seen);
            let away = if operation.is_read() { READ_AWAY_PERCENT } else { WRITE_AWAY_PERCENT };
            let first = if rng.random_ratio(away, 100) { rng.random_range(0..count) } else { home };
            let completion = self.perform(&operation, first);
            remember(&mut seen, &operation, &completion);
            if completion.kind == EventType::Fail && completion.actual.is_none() {
                std::thread::sleep(FAIL_PAUSE);
            }
        }
    }
}

/// Keeps the newest value that the worker knows of a register.
fn remember(seen: &mut Seen, operation: &Operation, completion: &Completion) {
    /// Many more than there are registers in use at once.
    const SEEN_MAX: usize = 64;
    let value = match (operation.action, completion.kind) {
        (Action::Read, EventType::Ok) => completion.value.as_i64(),
        (Action::Write(value) | Action::Cas { to: value, .. }, EventType::Ok) => Some(value),
        (Action::Cas { .. }, EventType::Fail) => {
            completion.actual.as_ref().and_then(serde_json::Value::as_i64)
        }
        _ => None,
    };
    let Some(value) = value else { return };
    if seen.len() >= SEEN_MAX && !seen.contains_key(&operation.key) {
        seen.clear();
    }
    seen.insert(operation.key.clone(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_worker_remembers_what_it_saw_and_forgets_the_rest_in_time() {
        let mut seen = Seen::new();
        let completion =
            |kind, value, actual| Completion { kind, value, error: None, actual, node: None, position: None };
        let operation = |key: &str, action| Operation { key: key.to_owned(), action };
        let mut see = |action, kind, value, actual| {
            remember(&mut seen, &operation("r1", action), &completion(kind, value, actual));
            seen.get("r1").copied()
        };
        assert_eq!(see(Action::Write(1), EventType::Info, json!(1), None), None);
        assert_eq!(see(Action::Write(2), EventType::Ok, json!(2), None), Some(2));
        assert_eq!(see(Action::Read, EventType::Ok, json!(3), None), Some(3));
        assert_eq!(see(Action::Read, EventType::Fail, json!(null), None), Some(3));
        assert_eq!(
            see(Action::Cas { from: 3, to: 4 }, EventType::Fail, json!([3, 4]), Some(json!(9))),
            Some(9)
        );
        assert_eq!(see(Action::Cas { from: 9, to: 5 }, EventType::Ok, json!([9, 5]), None), Some(5));
        for i in 0..1_000 {
            let operation = operation(&format!("r{i}"), Action::Write(i));
            remember(&mut seen, &operation, &completion(EventType::Ok, json!(i), None));
        }
        assert!(seen.len() <= 64 && seen["r999"] == 999);
    }
}
