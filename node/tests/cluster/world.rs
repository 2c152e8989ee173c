//! The simulated world: virtual time, links, disks and processes, all from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use node::client::{Outgoing, client_frame};
use node::config::{SNAPSHOT_ENTRIES, ServerConfig};
use node::raft::log::chain_after;
use node::raft::message::SnapshotOffer;
use node::raft::types::{Entry, HardState, Lsn, ProcessId, Record, SnapshotMark};
use node::raft::{Raft, Recovered, Role};
use node::replica::{Destination, RecoveredState, Replica};
use node::storage::snapshot_job::{SnapshotOutcome, SnapshotWorker};
use node::storage::{Identity, MemoryDisk, SnapshotDir, snapshot_file};
use node::trace::TraceEvent;
use node::transport::frame::{Frame, Kind, cluster_id};
use node::transport::key::Key;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client::{self, Client};

const MS: u64 = 1_000_000;
const CLUSTER: &str = "simulated";
const CLIENTS: u64 = 4;

/// How bad it is.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    loss: f64,
    duplicate: f64,
    delay_max: u64,
    /// Mean time between two faults (a stop, a cut link, a healed one), 0 for none.
    fault_every: u64,
    sync_max: u64,
    snapshot_entries: u64,
    /// Bytes of the elements that clients append; 0: a few.
    element_bytes: usize,
    /// Whether the cluster has a key.
    keyed: bool,
}

impl Weather {
    pub(crate) fn calm() -> Weather {
        Weather {
            loss: 0.0,
            duplicate: 0.0,
            delay_max: MS,
            fault_every: 0,
            sync_max: MS,
            snapshot_entries: SNAPSHOT_ENTRIES,
            element_bytes: 0,
            keyed: false,
        }
    }
    pub(crate) fn keyed() -> Weather {
        Weather { keyed: true, ..Weather::calm() }
    }
    pub(crate) fn storm() -> Weather {
        Weather {
            loss: 0.1,
            duplicate: 0.1,
            delay_max: 30 * MS,
            fault_every: 250 * MS,
            sync_max: 20 * MS,
            snapshot_entries: 20,
            element_bytes: 0,
            keyed: false,
        }
    }
    /// Every third datagram is lost, every third of the others comes twice, and values take many.
    pub(crate) fn flood() -> Weather {
        Weather { loss: 0.3, duplicate: 0.3, fault_every: 500 * MS, element_bytes: 5_000, ..Weather::storm() }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives { to: u32, source: SocketAddr, bytes: Vec<u8> },
    Answers { client: usize, node: u32, bytes: Vec<u8> },
    Synced { node: u32, incarnation: u64, lsn: Lsn },
    Snapshot { node: u32, incarnation: u64, outcome: Outcome },
    Tick { node: u32, incarnation: u64 },
    Polls { client: usize },
    Fault,
    Restart { node: u32 },
}

/// An outcome that orders with nothing: what happens at one time happens in the order in which it was planned.
struct Outcome(SnapshotOutcome);

impl PartialEq for Outcome {
    fn eq(&self, _: &Outcome) -> bool {
        true
    }
}
impl Eq for Outcome {}
impl PartialOrd for Outcome {
    fn partial_cmp(&self, other: &Outcome) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Outcome {
    fn cmp(&self, _: &Outcome) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// A disk that forgets what was not synced. Snapshots are durable at once.
struct Disk {
    snapshots: SnapshotDir,
    worker: SnapshotWorker,
    durable: Vec<(Lsn, Record)>,
    pending: Vec<(Lsn, Record)>,
    incarnation: u64,
}

impl Disk {
    fn new(node: u32) -> Disk {
        let files = MemoryDisk::new(u64::from(node));
        let dir = Path::new("data");
        node::storage::Disk::create_dir(&files, dir).unwrap();
        let identity = Identity { cluster_id: cluster_id(CLUSTER), node_id: node };
        let snapshots = SnapshotDir::new(Arc::new(files), dir, &identity);
        let worker = SnapshotWorker::new(snapshots.clone());
        Disk { snapshots, worker, durable: Vec::new(), pending: Vec::new(), incarnation: 0 }
    }

    /// As `storage::recovery` does for files: the records in order.
    fn recover(&self, mut mark: SnapshotMark) -> RecoveredState {
        let mut entries: Vec<Entry> = Vec::new();
        let mut hard_state = HardState::default();
        for (_, record) in &self.durable {
            match record {
                Record::Boot { .. } | Record::Recovering(_) => {}
                Record::HardState(state) => hard_state = *state,
                Record::Truncate { last_index } => entries.retain(|entry| entry.id.index <= *last_index),
                Record::Snapshot(later) => {
                    let has_base = later.base == mark.base || entries.iter().any(|e| e.id == later.base);
                    entries.retain(|entry| has_base && entry.id.index > later.base.index);
                    mark = later.clone();
                }
                Record::Entry(entry) => {
                    let last = entries.last().map_or(mark.base.index, |entry| entry.id.index);
                    assert_eq!(entry.id.index, last + 1, "a hole on disk");
                    entries.push(entry.clone());
                }
            }
        }
        let last_lsn = self.durable.last().map_or(0, |(lsn, _)| *lsn);
        let (mut snapshot, mut state) = (None, None);
        if mark.last.index > 0 {
            let (meta, image) = self.snapshots.load(mark.last).unwrap();
            snapshot = Some(SnapshotOffer { last: meta.last, size: meta.size, root: meta.root });
            state = Some(snapshot_file::verify(&image, None).unwrap().state());
        }
        RecoveredState {
            raft: Recovered { hard_state, mark, snapshot, entries, recovering: None, last_lsn },
            state,
        }
    }
}

pub(crate) struct World {
    rng: ChaCha8Rng,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    weather: Weather,
    replicas: BTreeMap<u32, Option<Replica>>,
    disks: BTreeMap<u32, Disk>,
    clients: Vec<Client>,
    heard: Option<Vec<(u32, SocketAddr, Vec<u8>)>>,
    cut: BTreeSet<(u32, u32)>,
    finish: bool,
    leaders: BTreeMap<u64, u32>,
    /// Chain at each index that some node has applied.
    applied: BTreeMap<u64, u64>,
    restarts: u64,
    installed: u64,
    trace: u64,
}

fn address(node: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8000 + node as u16))
}

fn client_address(client: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9000 + client as u16))
}

impl World {
    pub(crate) fn new(seed: u64, nodes: u32, weather: Weather) -> World {
        let mut world = World {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            replicas: BTreeMap::new(),
            disks: (1..=nodes).map(|id| (id, Disk::new(id))).collect(),
            clients: (1..=CLIENTS).map(|id| Client::new(id, weather.element_bytes)).collect(),
            heard: None,
            cut: BTreeSet::new(),
            finish: false,
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            restarts: 0,
            installed: 0,
            trace: 0,
            weather,
        };
        for node in 1..=nodes {
            world.start(node);
        }
        for client in 0..world.clients.len() {
            world.after(0, Event::Polls { client });
        }
        if world.weather.fault_every > 0 {
            world.after(world.weather.fault_every, Event::Fault);
        }
        world
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order, event)));
    }

    fn start(&mut self, node: u32) {
        let nodes = self.disks.len() as u32;
        let key = self.key();
        let disk = self.disks.get_mut(&node).unwrap();
        disk.incarnation += 1;
        let (incarnation, lsn) = (disk.incarnation, disk.durable.last().map_or(0, |(lsn, _)| *lsn));
        disk.durable.push((lsn + 1, Record::Boot { incarnation }));
        let config = ServerConfig {
            id: node,
            addresses: (1..=nodes).map(address).collect(),
            peers: BTreeMap::new(),
            listen: None,
            cluster: CLUSTER.to_owned(),
            key,
            data_dir: "unused".into(),
            trace: true,
            http: None,
            level: None,
            log_json: false,
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            heartbeat_interval_ms: 50,
            lease_reads: false,
            unsynced_in_memory: false,
            clock_drift_percent_max: 0,
            snapshot_entries: self.weather.snapshot_entries,
            trailing_entries: self.weather.snapshot_entries / 4,
        };
        let rng = ChaCha8Rng::seed_from_u64(self.rng.random());
        let replica = Replica::new(
            config.replica(ProcessId { directory: u64::from(node), incarnation }),
            rng,
            self.now,
            disk.recover(config.founding_mark()),
        );
        self.replicas.insert(node, Some(replica));
        self.after(0, Event::Tick { node, incarnation });
    }

    /// SIGKILL and power loss in one: some prefix of what was not synced survives.
    fn stop(&mut self, node: u32) {
        self.replicas.insert(node, None);
        let disk = self.disks.get_mut(&node).unwrap();
        let kept = self.rng.random_range(0..=disk.pending.len());
        disk.durable.extend(disk.pending.drain(..kept));
        disk.pending.clear();
        self.restarts += 1;
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        self.run_for_us(ms * 1_000);
    }

    pub(crate) fn run_for_us(&mut self, us: u64) {
        let until = self.now + us * MS / 1_000;
        while self.queue.peek().is_some_and(|Reverse((at, _, _))| *at <= until) {
            let Some(Reverse((at, _, event))) = self.queue.pop() else { break };
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives { to, source, bytes } => {
                let now = self.now;
                if let Some(replica) = self.replicas.get_mut(&to).unwrap() {
                    replica.datagram(now, source, &bytes);
                    self.turn(to);
                }
            }
            Event::Answers { client, node, bytes } => {
                let key = self.key();
                let frame = Frame::open(&bytes, key.as_ref()).unwrap();
                let out = self.clients[client].take(self.now, address(node), &frame);
                self.send_of_client(client, out);
                self.after(MS, Event::Polls { client });
            }
            Event::Synced { node, incarnation, lsn } => {
                let disk = self.disks.get_mut(&node).unwrap();
                if disk.incarnation == incarnation
                    && let Some(replica) = self.replicas.get_mut(&node).unwrap()
                {
                    let done = disk.pending.partition_point(|(record, _)| *record <= lsn);
                    disk.durable.extend(disk.pending.drain(..done));
                    replica.durable(self.now, lsn);
                    self.turn(node);
                }
            }
            Event::Snapshot { node, incarnation, outcome: Outcome(outcome) } => {
                if self.disks[&node].incarnation == incarnation
                    && let Some(replica) = self.replicas.get_mut(&node).unwrap()
                {
                    replica.snapshot_outcome(self.now, outcome);
                    self.turn(node);
                }
            }
            Event::Tick { node, incarnation } => {
                if self.disks[&node].incarnation == incarnation
                    && let Some(replica) = self.replicas.get_mut(&node).unwrap()
                {
                    replica.tick(self.now);
                    let next = replica.next_deadline().saturating_sub(self.now).max(1);
                    self.turn(node);
                    // Deadlines move; looking again too early does no harm.
                    self.after(next.min(25 * MS), Event::Tick { node, incarnation });
                }
            }
            Event::Polls { client } => {
                if let Some(payload) = self.clients[client].poll(self.now, self.finish) {
                    let to = self.rng.random_range(1..=self.disks.len() as u32);
                    self.send_of_client(client, vec![(address(to), Kind::Request, payload)]);
                }
                let out = self.clients[client].requests(self.now);
                self.send_of_client(client, out);
                if !self.clients[client].idle() {
                    self.after(50 * MS, Event::Polls { client });
                }
            }
            Event::Restart { node } => {
                if self.replicas[&node].is_none() {
                    self.start(node);
                }
            }
            Event::Fault => self.fault(),
        }
    }

    fn fault(&mut self) {
        let nodes = self.disks.len() as u32;
        let node = self.rng.random_range(1..=nodes);
        let peer = self.rng.random_range(1..=nodes);
        match self.rng.random_range(0..10) {
            0..=3 if self.replicas[&node].is_some() => {
                self.stop(node);
                let delay = self.rng.random_range(0..1_500 * MS);
                self.after(delay, Event::Restart { node });
            }
            4 => {
                self.cut.insert((node, peer));
            }
            5 if self.replicas[&node].is_some() => self.leave(node),
            6 => self.isolate(node),
            _ => self.cut.clear(),
        }
        let next = self.rng.random_range(0..2 * self.weather.fault_every);
        self.after(next, Event::Fault);
    }

    pub(crate) fn leave(&mut self, node: u32) {
        let now = self.now;
        self.replicas.get_mut(&node).unwrap().as_mut().unwrap().leave(now);
        self.turn(node);
    }

    pub(crate) fn leader_known_to(&self, node: u32) -> Option<u32> {
        self.replicas[&node].as_ref().unwrap().raft().leader()
    }

    pub(crate) fn may_leave(&self, node: u32) -> bool {
        self.replicas[&node].as_ref().unwrap().may_leave()
    }

    pub(crate) fn isolate(&mut self, node: u32) {
        for other in self.disks.keys() {
            self.cut.extend([(node, *other), (*other, node)]);
        }
    }

    fn key(&self) -> Option<Key> {
        self.weather.keyed.then(|| Key::of_secret(&[7; 32]).unwrap())
    }

    /// From now on every datagram that is sent to a node is kept by somebody who listens.
    pub(crate) fn listen(&mut self) {
        self.heard = Some(Vec::new());
    }

    /// Who listened sends all of it again, in any order, within so many ms.
    pub(crate) fn replay(&mut self, ms: u64) -> usize {
        let heard = self.heard.take().unwrap();
        let count = heard.len();
        for (to, source, bytes) in heard {
            let delay = self.rng.random_range(0..ms * MS);
            self.after(delay, Event::Arrives { to, source, bytes });
        }
        count
    }

    fn send_of_client(&mut self, client: usize, out: Vec<Outgoing>) {
        for (to, kind, payload) in out {
            let bytes = client_frame(self.key().as_ref(), kind, cluster_id(CLUSTER), 0, &payload);
            self.send(u32::from(to.port()) - 8_000, client_address(client), bytes);
        }
    }

    fn send(&mut self, to: u32, source: SocketAddr, bytes: Vec<u8>) {
        if let Some(heard) = &mut self.heard {
            heard.push((to, source, bytes.clone()));
        }
        let copies = match self.rng.random::<f64>() {
            p if p < self.weather.loss => 0,
            p if p < self.weather.loss + self.weather.duplicate => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let mut delay = self.rng.random_range(MS / 10..=self.weather.delay_max);
            if self.weather.fault_every > 0 && self.rng.random_range(0..100) == 0 {
                delay += self.rng.random_range(0..2_000 * MS); // beyond the election timeout
            }
            self.after(delay, Event::Arrives { to, source, bytes: bytes.clone() });
        }
    }

    /// Carries out what a replica wants done, and checks the properties that no event may break.
    fn turn(&mut self, node: u32) {
        let now = self.now;
        let replica = self.replicas.get_mut(&node).unwrap().as_mut().unwrap();
        let output = replica.flush(now);
        for event in &output.trace {
            self.installed += u64::from(matches!(event, TraceEvent::Install { .. }));
            self.trace = self.trace.wrapping_mul(31).wrapping_add(fingerprint(event));
        }
        let lsn = output.records.last().map(|(lsn, _)| *lsn);
        let disk = self.disks.get_mut(&node).unwrap();
        let incarnation = disk.incarnation;
        disk.pending.extend(output.records);
        let outcomes: Vec<_> =
            output.snapshot_jobs.into_iter().filter_map(|job| disk.worker.run(job)).collect();
        if let Some(lsn) = lsn {
            let delay = self.rng.random_range(MS / 10..=self.weather.sync_max);
            self.after(delay, Event::Synced { node, incarnation, lsn });
        }
        for outcome in outcomes {
            self.after(MS, Event::Snapshot { node, incarnation, outcome: Outcome(outcome) });
        }
        for (destination, bytes) in output.datagrams {
            match destination {
                Destination::Node(to) if self.cut.contains(&(node, to)) => {}
                Destination::Node(to) => self.send(to, address(node), bytes),
                Destination::Client(at) => {
                    let client = usize::from(at.port() - 9000);
                    if self.rng.random::<f64>() >= self.weather.loss {
                        self.after(MS / 10, Event::Answers { client, node, bytes });
                    }
                }
            }
        }
        self.check(node);
    }

    fn check(&mut self, node: u32) {
        let replica = self.replicas[&node].as_ref().unwrap();
        let raft: &Raft = replica.raft();
        if raft.role() == Role::Leader {
            let leader = *self.leaders.entry(raft.term()).or_insert(node);
            assert_eq!(leader, node, "election safety: two leaders in term {}", raft.term());
        }
        let applied = replica.store().last_applied();
        assert!(applied <= raft.commit_index() && raft.commit_index() <= raft.log().last().index);
        let chain = *self.applied.entry(applied).or_insert_with(|| raft.log().chain_at(applied));
        assert_eq!(chain, raft.log().chain_at(applied), "state machine safety: n{node} differs at {applied}");
    }

    /// Ends all faults, lets every client finish, and asserts that all nodes come to hold the same.
    pub(crate) fn heal_and_settle(&mut self, ms: u64) {
        self.weather = Weather { keyed: self.weather.keyed, ..Weather::calm() };
        self.cut.clear();
        self.queue.retain(|Reverse((_, _, event))| !matches!(event, Event::Fault));
        for node in self.disks.keys().copied().collect::<Vec<_>>() {
            if self.replicas[&node].is_none() {
                self.start(node);
            }
        }
        self.finish = true;
        self.run_for(ms);
        for client in &self.clients {
            assert!(client.idle(), "client {} got no answer within {ms} ms of calm", client.id);
        }
        let states: BTreeSet<(u64, u64)> =
            self.live().map(|r| (r.store().last_applied(), r.store().state_hash())).collect();
        assert_eq!(states.len(), 1, "all nodes hold the same: {states:?}");
    }

    pub(crate) fn check_clients(&self) {
        let furthest = self.live().max_by_key(|r| r.store().last_applied()).unwrap();
        let mut finals = BTreeMap::new();
        for key in self.clients.iter().flat_map(|c| c.appends.iter().map(|a| a.0.clone())) {
            let text =
                String::from_utf8(furthest.store().get(key.as_bytes()).cloned().unwrap_or_default().to_vec())
                    .unwrap();
            finals.insert(key, text.split_whitespace().map(str::to_owned).collect());
        }
        client::check(&self.clients, &finals);
    }

    fn live(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values().flatten()
    }
    pub(crate) fn applied(&self) -> u64 {
        self.live().map(|r| r.store().last_applied()).max().unwrap_or(0)
    }
    pub(crate) fn terms_led(&self) -> u64 {
        self.leaders.len() as u64
    }
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts
    }
    pub(crate) fn installed(&self) -> u64 {
        self.installed
    }
    pub(crate) fn leader(&self) -> Option<u32> {
        let leads = |r: &&Replica| r.raft().role() == Role::Leader;
        self.live().filter(leads).max_by_key(|r| r.raft().term()).map(|r| r.raft().id())
    }
    pub(crate) fn role(&self, node: u32) -> &'static str {
        self.replicas[&node].as_ref().unwrap().raft().role().name()
    }
    pub(crate) fn term(&self, node: u32) -> u64 {
        self.replicas[&node].as_ref().unwrap().raft().term()
    }
    /// A hash over every trace line of every node.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.trace
    }
}

fn fingerprint(event: &TraceEvent) -> u64 {
    let line = serde_json::to_vec(event).unwrap();
    let payload = node::raft::types::Payload::Command(line.into());
    chain_after(0, &Entry { id: Default::default(), payload })
}
