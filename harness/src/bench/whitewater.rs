//! Our own cluster under measurement: its processes, and clients that are one thread together, on as many sockets as etcd's
//! clients have connections. With a thread each, the scheduler would be what is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use node::client::{ClientConfig, Multiplexed, Operation, Outcome, Reply};

use super::load::{CONNECTIONS, KEYS_PER_CLIENT, Step, Tally, Turn, Work};
use super::{BenchError, Place, Subject};
use crate::NodeId;
use crate::cluster::{Addresses, Cluster, ClusterConfig, Leader};

/// How long a fresh cluster may take to elect a leader.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(20);
/// The name of the cluster: nothing else on this machine answers to it.
const CLUSTER: &str = "whitewater-bench";

/// A running cluster without traces, whose nodes talk to each other directly.
pub(super) struct Whitewater {
    pub(super) cluster: Cluster,
    addrs: Vec<SocketAddr>,
    leader: NodeId,
}

impl Whitewater {
    pub(super) fn launch(place: &Place) -> Result<Whitewater, BenchError> {
        let config = ClusterConfig {
            binary: place.binary.clone(),
            run_dir: place.dir.clone(),
            cluster_name: CLUSTER.to_owned(),
            bug: None,
            log_level: "warn".to_owned(),
            proxied: false,
            trace: false,
        };
        let cluster = Cluster::launch(&config, Addresses::claim(place.nodes)?)?;
        let leader = cluster.wait_ready(READY_WITHIN)?.node;
        Ok(Whitewater { addrs: cluster.client_addrs(), cluster, leader })
    }

    /// Waits until all nodes follow one leader, and asks it first from now on.
    pub(super) fn wait_ready(&mut self) -> Result<Leader, BenchError> {
        let leader = self.cluster.wait_ready(READY_WITHIN)?;
        self.leader = leader.node;
        Ok(leader)
    }

    /// Clients of this cluster.
    pub(super) fn clients(&self, clients: u32) -> std::io::Result<Clients> {
        // A patient client: what it does not give up is latency, and latency is what is measured.
        let config = ClientConfig {
            cluster: CLUSTER.to_owned(),
            operation_timeout: Duration::from_secs(30),
            ..ClientConfig::default()
        };
        let load = Multiplexed::new(
            config,
            self.addrs.clone(),
            clients as usize,
            CONNECTIONS.min(clients) as usize,
        )?;
        Ok(Clients { load, first: self.leader as usize - 1 })
    }
}

impl Subject for Whitewater {
    fn name(&self) -> &'static str {
        "whitewater"
    }

    fn fill(&mut self, step: &Step) -> Result<(), BenchError> {
        let mut clients = self.clients(step.clients)?;
        for i in 0..KEYS_PER_CLIENT {
            for client in 0..step.clients as usize {
                clients.write(client, Step::key(client, i), step.value());
            }
            clients.finish(step.clients)?;
        }
        Ok(())
    }

    fn turn(&mut self, step: &Step) -> Result<Turn, BenchError> {
        let mut clients = self.clients(step.clients)?;
        let all = 0..step.clients as usize;
        let value = step.value();
        let submit = |clients: &mut Clients, client: usize, i: usize| match step.work {
            Work::Write => clients.write(client, Step::key(client, i), value.clone()),
            Work::Read => clients.read(client, Step::key(client, i)),
        };
        // Sessions are opened before the clock starts.
        all.clone().for_each(|client| submit(&mut clients, client, 0));
        clients.finish(step.clients)?;
        let mut tally = Tally::start();
        let mut begun = vec![Instant::now(); all.len()];
        all.for_each(|client| submit(&mut clients, client, 1));
        let (mut open, mut count) = (step.clients, 1);
        while open > 0 {
            for (client, answer) in clients.wait(step.time) {
                let now = Instant::now();
                let right = match step.work {
                    Work::Write => answer == Answer::Done,
                    Work::Read => answer == Answer::Value(step.value_bytes),
                };
                tally.note(begun[client], now, right);
                if tally.is_over(now, step.time) {
                    open -= 1;
                } else {
                    (begun[client], count) = (now, count + 1);
                    submit(&mut clients, client, count);
                }
            }
        }
        Ok(tally.finish())
    }

    fn pids(&self) -> Vec<u32> {
        self.cluster.pids()
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A write is applied.
    Done,
    /// A read found a value of so many bytes.
    Value(usize),
    /// Anything else.
    No,
}

/// Many clients, numbered from 0, each with at most one operation open.
pub(super) struct Clients {
    load: Multiplexed,
    /// The node that is asked first, by position.
    pub(super) first: usize,
}

impl Clients {
    pub(super) fn write(&mut self, client: usize, key: Vec<u8>, value: Vec<u8>) {
        self.load.submit(client, Operation::Set { key, value }, self.first);
    }

    pub(super) fn read(&mut self, client: usize, key: Vec<u8>) {
        self.load.submit(client, Operation::Get { key }, self.first);
    }

    /// The next operations that ended; none if none did within `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) -> Vec<(usize, Answer)> {
        let ended = self.load.wait(timeout);
        let answer = |outcome| match outcome {
            Outcome::Applied { reply: Reply::Done, .. } => Answer::Done,
            Outcome::Applied { reply: Reply::Value(Some(value)), .. } => Answer::Value(value.len()),
            _ => Answer::No,
        };
        ended.into_iter().map(|(client, outcome)| (client, answer(outcome))).collect()
    }

    /// Waits for the ends of `open` operations.
    ///
    /// # Errors
    /// When one of them was given up: a cluster that nobody hurts answers all.
    pub(super) fn finish(&mut self, open: u32) -> Result<(), BenchError> {
        let mut ended = 0;
        while ended < open {
            let answers = self.wait(READY_WITHIN);
            if answers.is_empty() || answers.iter().any(|(_, answer)| *answer == Answer::No) {
                let waited_s = READY_WITHIN.as_secs();
                return Err(BenchError::Late { what: "an acknowledgement", waited_s });
            }
            ended += answers.len() as u32;
        }
        Ok(())
    }
}
