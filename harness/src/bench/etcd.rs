//! etcd under measurement: three members of the Debian package `etcd-server` with the defaults that they come with, asked over
//! gRPC through their leader, like our own. Clients are tasks of one thread, multiplexed over a few connections.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::grpc::{Channel, Field, PUT, RANGE, STATUS, field, message};
use super::load::{CONNECTIONS, KEYS_PER_CLIENT, Step, Tally, Turn, Work};
use super::{BenchError, Place, Subject};
use crate::cluster::{Addresses, Process, Spawner};

/// The executable, found on the path.
const PROGRAM: &str = "etcd";
/// How long a fresh cluster may take to elect a leader.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks while waiting for it.
const READY_POLL: Duration = Duration::from_millis(100);

/// A running cluster.
pub(super) struct Etcd {
    runtime: Runtime,
    leader: String,
    members: Vec<Process>,
    spawner: Spawner,
    addresses: Addresses,
}

impl Etcd {
    /// Starts members on addresses of their own, with their data beside ours, and waits for a leader.
    pub(super) fn launch(place: &Place) -> Result<Etcd, BenchError> {
        let addresses = Addresses::claim(place.nodes)?;
        let spawner = Spawner::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut etcd = Etcd { runtime, leader: String::new(), members: Vec::new(), spawner, addresses };
        for node in 1..=place.nodes {
            let command = etcd.command(place, node)?;
            let process = etcd.spawner.spawn(command).map_err(|error| {
                BenchError::Etcd(format!(
                    "cannot start `{PROGRAM}` ({error}); it is in the Debian package etcd-server"
                ))
            })?;
            etcd.members.push(process);
        }
        etcd.leader = etcd.wait_ready(place.nodes)?;
        Ok(etcd)
    }

    fn client_address(&self, node: u32) -> SocketAddr {
        self.addresses.node(node)
    }

    fn command(&self, place: &Place, node: u32) -> Result<Command, BenchError> {
        let peer = |node| format!("http://{}", self.addresses.proxy(node, node));
        let all = (1..=place.nodes).map(|node| format!("m{node}={}", peer(node))).collect::<Vec<_>>();
        let client = format!("http://{}", self.client_address(node));
        let home = place.dir.path().join("etcd").join(format!("m{node}"));
        fs::create_dir_all(&home)?;
        let mut command = Command::new(PROGRAM);
        command.args(["--name", &format!("m{node}")]).arg("--data-dir").arg(home.join("data"));
        command.args(["--listen-peer-urls", &peer(node), "--initial-advertise-peer-urls", &peer(node)]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        command.stdout(File::create(home.join("stdout.log"))?).stderr(File::create(home.join("stderr.log"))?);
        Ok(command)
    }

    /// Waits for a leader and returns where it is asked.
    fn wait_ready(&mut self, nodes: u32) -> Result<String, BenchError> {
        let started = Instant::now();
        loop {
            for node in 1..=nodes {
                let address = self.client_address(node).to_string();
                if self.runtime.block_on(is_leader(&address)).unwrap_or(false) {
                    return Ok(address);
                }
            }
            for member in &mut self.members {
                if let Some(status) = member.exited()? {
                    return Err(BenchError::Etcd(format!("a member ended by itself ({status})")));
                }
            }
            if started.elapsed() >= READY_WITHIN {
                return Err(BenchError::Late {
                    what: "an election of etcd",
                    waited_s: READY_WITHIN.as_secs(),
                });
            }
            std::thread::sleep(READY_POLL);
        }
    }

    /// Runs `clients` clients until each has had enough. `next` says what a client's `i`-th call is, or that it is done.
    fn drive(
        &self,
        step: &Step,
        next: impl Fn(usize, usize) -> Option<Work> + 'static,
        note: impl Fn(Instant, bool) + 'static,
    ) -> Result<(), BenchError> {
        let (next, note) = (Rc::new(next), Rc::new(note));
        let value = Rc::new(step.value());
        let clients = step.clients;
        LocalSet::new().block_on(&self.runtime, async move {
            let mut channels = Vec::new();
            for _ in 0..CONNECTIONS.min(clients) {
                channels.push(Channel::connect(&self.leader).await.map_err(BenchError::Etcd)?);
            }
            let tasks = (0..clients as usize).map(|client| {
                let mut channel = channels[client % channels.len()].clone();
                let (next, note, value) = (next.clone(), note.clone(), value.clone());
                tokio::task::spawn_local(async move {
                    for i in 0.. {
                        let Some(work) = next(client, i) else { break };
                        let key = Step::key(client, i);
                        let begun = Instant::now();
                        let right = match work {
                            Work::Write => channel.call(PUT, &message(&[&key, &value])).await.is_ok(),
                            Work::Read => {
                                let answer = channel.call(RANGE, &message(&[&key])).await;
                                answer.is_ok_and(|answer| value_of(&answer) == Some(value.as_slice()))
                            }
                        };
                        note(begun, right);
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.map_err(|error| BenchError::Etcd(error.to_string()))?;
            }
            Ok(())
        })
    }
}

impl Subject for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn fill(&mut self, step: &Step) -> Result<(), BenchError> {
        let failed = Rc::new(RefCell::new(0_u64));
        let counter = failed.clone();
        self.drive(
            step,
            |_, i| (i < KEYS_PER_CLIENT).then_some(Work::Write),
            move |_, right| *counter.borrow_mut() += u64::from(!right),
        )?;
        match failed.take() {
            0 => Ok(()),
            failed => Err(BenchError::Etcd(format!("{failed} writes before the first step failed"))),
        }
    }

    fn turn(&mut self, step: &Step) -> Result<Turn, BenchError> {
        let tally = Rc::new(RefCell::new(Tally::start()));
        let (clock, notes) = (tally.clone(), tally.clone());
        let (work, time) = (step.work, step.time);
        self.drive(
            step,
            move |_, _| (!clock.borrow().is_over(Instant::now(), time)).then_some(work),
            move |begun, right| notes.borrow_mut().note(begun, Instant::now(), right),
        )?;
        Ok(tally.replace(Tally::start()).finish())
    }

    fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Process::pid).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.members.iter().for_each(Process::kill);
        for member in self.members.drain(..) {
            // A child of ours that got SIGKILL can always be waited for.
            let _ = member.reap();
        }
    }
}

/// Whether the member at `address` says that it leads.
async fn is_leader(address: &str) -> Result<bool, String> {
    let answer = Channel::connect(address).await?.call(STATUS, &[]).await?;
    // StatusResponse { header = 1 { member_id = 2 }, …, leader = 4 }
    let header = field(&answer, 1).and_then(Field::bytes).unwrap_or_default();
    let (own, leader) = (field(header, 2).and_then(Field::number), field(&answer, 4).and_then(Field::number));
    Ok(own.is_some() && own == leader)
}

/// The value of the first pair of an answer to a read: `RangeResponse { kvs = 2 { value = 5 } }`.
fn value_of(answer: &[u8]) -> Option<&[u8]> {
    field(field(answer, 2)?.bytes()?, 5)?.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_an_answer_to_a_read() {
        let pair = message(&[b"key", b"", b"", b"", b"value"]);
        assert_eq!(value_of(&message(&[b"header", &pair])), Some(&b"value"[..]));
        assert_eq!(value_of(&message(&[b"header"])), None, "no such key");
    }
}
