//! The simulated world: machines, links and clients in virtual time, all from one seed. It carries out what processes want
//! done, takes them as long as the weather says, and looks at every property after every turn.

mod healing;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use checker::history::{Action, Value};
use node::client::{decode_response, request_frame};
use node::config::ServerConfig;
use node::protocol::{Request, RequestBody};
use node::raft::Role;
use node::raft::membership::Membership;
use node::raft::message::Message;
use node::raft::types::{Index, Lsn, NodeId, Record};
use node::replica::{Destination, Output, Replica};
use node::storage::StorageError;
use node::storage::snapshot_job::SnapshotJob;
use node::trace::{TraceEvent, TraceRole};
use node::transport::frame::{Frame, Kind, cluster_id};
use node::transport::message_codec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::client::Client;
use crate::history::{History, value_of};
use crate::machine::{End, Machine, Process};
use crate::network::{Datagram, Network, Quality};
use crate::queue::Queue;
use crate::safety::Safety;
use crate::tally::Tally;
use crate::weather::{MS, Weather};

const CLUSTER: &str = "simulated";
/// How long the network may take to give somebody a leader and everybody a reply, when nothing gets lost any more.
const PROGRESS_WITHIN_MS: u64 = 20_000;
/// How long all nodes may take to hold the same.
const AGREEMENT_WITHIN_MS: u64 = 30_000;
/// How soon what waits for space is tried again, ns.
const SPACE_RETRY: u64 = 100 * MS;
/// Operations of each client that show progress.
const PROGRESS_OPERATIONS: u64 = 3;

/// What is planned.
pub(crate) enum Event {
    Arrive(Datagram),
    Turn {
        node: NodeId,
        life: u64,
        at: u64,
    },
    Synced {
        node: NodeId,
        life: u64,
    },
    Worked {
        node: NodeId,
        life: u64,
    },
    Start {
        node: NodeId,
    },
    Resume {
        node: NodeId,
        life: u64,
    },
    Leave {
        node: NodeId,
        life: u64,
        by: u64,
    },
    /// A full disk has space again.
    Empty {
        node: NodeId,
    },
    /// A slow disk is as fast as before.
    Quicken {
        node: NodeId,
    },
    Poll {
        client: usize,
    },
    Strike,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) rng: ChaCha8Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) weather: Weather,
    pub(crate) network: Network,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) tally: Tally,
    /// The machine whose disk forgot, until its node votes again.
    pub(crate) forgotten: Option<NodeId>,
    /// The machine whose disk is damaged, until a start finds nothing missing, or its node has got it back.
    pub(crate) damaged: Option<NodeId>,
    /// Machines whose files may not be what was written.
    pub(crate) rotten: BTreeSet<NodeId>,
    clients: Vec<Client>,
    history: History,
    safety: Safety,
    memberships: BTreeMap<Index, Arc<Membership>>,
    /// Records that will say, once they are durable, that nothing is missing from a machine any more.
    repaired: BTreeMap<NodeId, Lsn>,
    /// Clients begin nothing new.
    finish: bool,
    operator_nonce: u64,
    fingerprint: Option<DefaultHasher>,
    verbose: bool,
}

fn node_address(node: NodeId) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8_000 + node as u16))
}

const CLIENT_PORT: u16 = 9_000;
const OPERATOR_PORT: u16 = 9_900;

fn client_address(client: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], CLIENT_PORT + client as u16))
}

/// A stream of its own for each purpose: another draw for one does not change what the others get.
pub(crate) fn stream(seed: u64, purpose: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(purpose);
    rng
}

impl World {
    /// A world that has just begun.
    pub(crate) fn new(seed: u64, weather: Weather) -> World {
        let founders: Vec<SocketAddr> = (1..=weather.founders).map(node_address).collect();
        let mut machines = BTreeMap::new();
        for id in 1..=weather.founders + weather.spares {
            let config = ServerConfig {
                id,
                addresses: if id <= weather.founders { founders.clone() } else { Vec::new() },
                peers: BTreeMap::new(),
                listen: Some(node_address(id)),
                cluster: CLUSTER.to_owned(),
                key: None,
                http: None,
                log_json: false,
                data_dir: "unused".into(),
                trace: true,
                level: None,
                election_timeout_ms_min: weather.election_timeout_ms.0,
                election_timeout_ms_max: weather.election_timeout_ms.1,
                heartbeat_interval_ms: weather.election_timeout_ms.0 / 4,
                lease_reads: weather.lease_reads,
                unsynced_in_memory: false,
                clock_drift_percent_max: weather.clock_drift_percent,
                snapshot_entries: weather.snapshot_entries,
                trailing_entries: weather.snapshot_entries / 4,
            };
            machines.insert(id, Machine::new(config, stream(seed, 100 + u64::from(id))));
        }
        let mut world = World {
            rng: stream(seed, 1),
            queue: Queue::new(),
            network: Network::new(stream(seed, 2), weather.quality),
            machines,
            tally: Tally::default(),
            forgotten: None,
            damaged: None,
            rotten: BTreeSet::new(),
            clients: (0..weather.clients)
                .map(|name| Client::new(name, weather.patience, stream(seed, 200 + name)))
                .collect(),
            history: History::default(),
            safety: Safety::default(),
            memberships: BTreeMap::new(),
            repaired: BTreeMap::new(),
            finish: false,
            operator_nonce: 1 << 63,
            fingerprint: None,
            verbose: false,
            weather,
        };
        for node in 1..=world.weather.founders {
            world.queue.after(0, Event::Start { node });
        }
        for client in 0..world.clients.len() {
            world.queue.after(MS, Event::Poll { client });
        }
        if world.weather.fault_every > 0 {
            world.queue.after(world.weather.fault_every, Event::Strike);
        }
        world
    }

    /// A world in the weather that the seed draws.
    pub(crate) fn of_seed(seed: u64) -> World {
        World::new(seed, Weather::drawn(&mut stream(seed, 0)))
    }

    /// Hashes every trace event and every datagram from now on.
    pub(crate) fn take_fingerprint(&mut self) {
        self.fingerprint = Some(DefaultHasher::new());
    }

    /// The hash so far.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        self.fingerprint.as_ref().map(Hasher::finish)
    }

    /// Tells people what happens.
    pub(crate) fn speak(&mut self) {
        self.verbose = true;
        for machine in self.machines.values_mut() {
            machine.config.level = Some(node::raft::event::Level::Info);
        }
    }

    pub(crate) fn log(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>12.6} {}", self.queue.now() as f64 / 1e9, text());
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, ms: u64) {
        let until = self.queue.now() + ms * MS;
        while let Some(event) = self.queue.next(until) {
            self.happen(event);
        }
    }

    /// Lets time pass until something holds. Returns whether it did in time.
    pub(crate) fn run_until(&mut self, ms: u64, holds: impl Fn(&World) -> bool) -> bool {
        let until = self.queue.now() + ms * MS;
        while self.queue.now() < until {
            self.run_for(20);
            if holds(self) {
                return true;
            }
        }
        false
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(datagram) => self.arrive(datagram),
            Event::Turn { node, life, at } => {
                if let Some(process) = self.process(node, life)
                    && process.turn_at == Some(at)
                {
                    process.turn_at = None;
                    if !process.paused {
                        self.turn(node);
                    }
                }
            }
            Event::Synced { node, life } => self.synced(node, life),
            Event::Worked { node, life } => {
                if let Some(process) = self.process(node, life) {
                    let failed = process.complete_job();
                    self.tally.failed_snapshots += u64::from(failed);
                    self.plan_turn(node);
                    self.plan_work(node);
                }
            }
            Event::Start { node } => self.start(node),
            Event::Resume { node, life } => {
                if let Some(process) = self.process(node, life) {
                    process.paused = false;
                    self.plan_turn(node);
                    self.plan_work(node);
                }
            }
            Event::Leave { node, life, by } => {
                let now = self.queue.now();
                let Some(process) = self.process(node, life) else { return };
                if process.replica.may_leave() || now >= by {
                    self.tally.left += 1;
                    self.log(|| format!("n{node} leaves"));
                    self.end(node, End::Kill);
                    self.plan_start(node);
                } else {
                    self.queue.after(MS, Event::Leave { node, life, by });
                }
            }
            Event::Empty { node } => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.fill(false);
                }
            }
            Event::Quicken { node } => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.slowness = 1;
                }
            }
            Event::Poll { client } => self.poll(client),
            Event::Strike => self.strike(),
        }
    }

    fn process(&mut self, node: NodeId, life: u64) -> Option<&mut Process> {
        let machine = self.machines.get_mut(&node)?;
        if machine.life == life { machine.process.as_mut() } else { None }
    }

    pub(crate) fn address(&self, node: NodeId) -> SocketAddr {
        node_address(node)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.machines.keys().map(|id| node_address(*id)).collect()
    }

    // ---- Processes ----

    /// Starts a process on a machine that has none.
    pub(crate) fn start(&mut self, node: NodeId) {
        let now = self.queue.now();
        let Some(machine) = self.machines.get_mut(&node) else { return };
        if machine.process.is_some() {
            return;
        }
        self.repaired.remove(&node);
        match machine.start(now) {
            Ok(booted) => {
                self.tally.torn += booted.notes.iter().filter(|note| note.contains("torn")).count() as u64;
                self.log(|| {
                    format!(
                        "n{node} starts, {} {:?} {:?} {:?}",
                        booted.process.incarnation, booted.hard_state, booted.recovering, booted.notes
                    )
                });
                let damaged = self.rotten.contains(&node);
                if booted.recovering.is_none() {
                    self.is_whole(node);
                } else {
                    assert!(damaged, "n{node} lost what nobody took: {:?}", booted.notes);
                    self.tally.damaged += 1;
                }
                if let Some(process) = &self.machines[&node].process {
                    self.safety.boot(node, &booted, damaged, &process.replica);
                }
                self.plan_turn(node);
            }
            Err(error @ (StorageError::Io { .. } | StorageError::Poisoned { .. })) => {
                self.log(|| format!("n{node} does not start: {error}"));
                self.fell(node);
            }
            Err(error) => {
                self.log(|| format!("n{node} refuses its data: {error}"));
                assert!(self.rotten.contains(&node), "n{node} refuses what it wrote: {error}");
                // Its operator gives it an empty directory: a copy of another node's would be somebody else's.
                self.is_whole(node);
                self.end(node, End::Kill);
                self.forget(node);
                self.plan_start(node);
            }
        }
    }

    /// Nothing durable is missing from a machine any more.
    fn is_whole(&mut self, node: NodeId) {
        self.rotten.remove(&node);
        self.repaired.remove(&node);
        self.damaged.take_if(|damaged| *damaged == node);
    }

    /// Reads that a running process answered under a lease.
    fn lease_reads(&self, node: NodeId) -> u64 {
        self.replica(node).map_or(0, |replica| replica.raft().lease_reads())
    }

    /// Ends a process, if there is one. What it was writing may have become durable in its last moment.
    pub(crate) fn end(&mut self, node: NodeId, how: End) {
        self.log(|| format!("n{node} ends: {how:?}"));
        self.tally.lease_reads += self.lease_reads(node);
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let directory = machine.process.as_ref().map(|process| process.id.directory);
        let durable = machine.end(how);
        if let (Some(directory), Some(progress)) = (directory, durable)
            && let Some(ledger) = self.safety.ledger(directory)
        {
            ledger.sync(&progress);
        }
    }

    /// A process ended by itself, because its disk did not do what it was asked.
    fn fell(&mut self, node: NodeId) {
        self.tally.failed_syncs += 1;
        self.end(node, End::Kill);
        self.plan_start(node);
    }

    /// Plans the next turn of a process for when it has something to do.
    pub(crate) fn plan_turn(&mut self, node: NodeId) {
        let now = self.queue.now();
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let (life, clock) = (machine.life, machine.clock);
        let Some(process) = &mut machine.process else { return };
        if process.paused {
            return;
        }
        // The scheduler and the kernel take a moment.
        let soonest = self.rng.random_range(5_000..60_000);
        let delay = match process.has_work() {
            true => soonest,
            false => clock.until(now, process.replica.next_deadline()).max(soonest),
        };
        let at = now + delay;
        if process.turn_at.is_none_or(|planned| planned > at) {
            process.turn_at = Some(at);
            self.queue.after(delay, Event::Turn { node, life, at });
        }
    }

    /// A turn of the event loop, and all that follows from it.
    fn turn(&mut self, node: NodeId) {
        let now = self.queue.now();
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let local = machine.clock.shows(now);
        let Some(process) = &mut machine.process else { return };
        let output = process.turn(local);
        self.safety.turn(node, process.id, &process.replica, &output, &mut self.tally);
        for client in &self.clients {
            client.check_session(&process.replica);
        }
        self.note_memberships(node);
        self.look_at(node, &output);
        let Output { records, snapshot_jobs, datagrams, .. } = output;
        if let Some((lsn, _)) = records.iter().find(|(_, record)| *record == Record::Recovering(None)) {
            self.repaired.insert(node, *lsn);
        }
        if let Some(process) = self.machines.get_mut(&node).and_then(|machine| machine.process.as_mut()) {
            process.queue(records, snapshot_jobs);
        }
        self.plan_work(node);
        for (destination, bytes) in datagrams {
            self.send(node, destination, bytes);
        }
        self.plan_turn(node);
    }

    /// What a turn shows of what was exercised.
    fn look_at(&mut self, node: NodeId, output: &Output) {
        for event in &output.events {
            self.log(|| format!("n{node}: {event}"));
        }
        if let Some(fingerprint) = &mut self.fingerprint {
            for event in &output.trace {
                format!("{node} {event:?}").hash(fingerprint);
            }
        }
        for event in &output.trace {
            if let TraceEvent::Role { role: TraceRole::Leader, term } = event {
                self.log(|| format!("n{node} leads term {term}"));
            }
        }
        for job in &output.snapshot_jobs {
            match job {
                SnapshotJob::Finish { meta } | SnapshotJob::Save { meta, .. } => {
                    self.log(|| format!("n{node}: writes the snapshot at {}", meta.last));
                }
                SnapshotJob::Keep(keep) => self.log(|| format!("n{node}: keeps the snapshots at {keep:?}")),
                _ => {}
            }
            self.tally.snapshots += u64::from(matches!(job, SnapshotJob::Finish { .. }));
        }
    }

    /// Each membership that gets committed, once.
    fn note_memberships(&mut self, node: NodeId) {
        let Some(replica) = self.replica(node) else { return };
        let commit = replica.raft().commit_index();
        let membership = Arc::clone(replica.raft().membership_at(commit));
        let known = self.memberships.last_key_value().map(|(at, known)| (*at, Arc::clone(known)));
        let Some((at, before)) = known else {
            self.memberships.insert(commit, membership);
            return;
        };
        if commit > at {
            if *before != *membership {
                let (old, new) = (&before.voters, &membership.voters);
                self.tally.memberships += 1;
                self.tally.promotions += new.difference(old).count() as u64;
                self.tally.removals += old.difference(new).count() as u64;
                let led = old.difference(new).any(|id| Some(*id) == self.leader());
                self.tally.leader_removals += u64::from(led);
                self.log(|| format!("{commit}: {membership}"));
            }
            self.memberships.insert(commit, membership);
            if self.memberships.len() > 2 {
                self.memberships.pop_first();
            }
        }
    }

    // ---- Disks ----

    /// Whatever a process wants from its disk, and is not being done, begins.
    fn plan_work(&mut self, node: NodeId) {
        let sync = self.weather.sync;
        let Some(machine) = self.machines.get_mut(&node) else { return };
        let (life, slowness) = (machine.life, machine.slowness);
        let Some(process) = machine.process.as_mut().filter(|process| !process.paused) else { return };
        if let Some(turns) = process.begin_batch() {
            self.tally.batches += u64::from(turns > 0);
            self.tally.grouped += u64::from(turns > 1);
            let waits = if turns == 0 { SPACE_RETRY } else { 0 };
            let delay = waits + self.rng.random_range(sync.0..=sync.1) * slowness;
            self.queue.after(delay, Event::Synced { node, life });
        }
        if process.begin_job() {
            let delay = self.rng.random_range(sync.0 / 4..=sync.1) * slowness;
            self.queue.after(delay, Event::Worked { node, life });
        }
    }

    fn synced(&mut self, node: NodeId, life: u64) {
        let Some(process) = self.process(node, life) else { return };
        let directory = process.id.directory;
        match process.complete_batch() {
            Ok(progress) => {
                self.tally.full += u64::from(progress.out_of_space);
                if let Some(ledger) = self.safety.ledger(directory) {
                    ledger.sync(&progress);
                }
                if self.repaired.get(&node).is_some_and(|lsn| *lsn <= progress.durable) {
                    self.tally.recovered += 1;
                    self.is_whole(node);
                }
                self.plan_turn(node);
                self.plan_work(node);
            }
            Err(error) => {
                self.log(|| format!("n{node} stops: {error}"));
                self.fell(node);
            }
        }
    }

    // ---- Datagrams ----

    fn send(&mut self, node: NodeId, destination: Destination, bytes: Vec<u8>) {
        let to = match destination {
            Destination::Client(address) => Some(address),
            Destination::Node(id) => {
                let peer = self.machines[&node].config.peer(id);
                peer.or_else(|| self.replica(node)?.address_of(id))
            }
        };
        if let Destination::Node(_) = destination
            && let Ok(frame) = Frame::open(&bytes, None)
            && frame.kind == Kind::Peer
            && let Ok(Message::VoteRequest { transfer: true, .. }) =
                message_codec::decode(frame.payload, frame.term)
        {
            self.tally.transfers += 1;
        }
        if let Some(to) = to {
            self.transmit(Datagram { from: node_address(node), to, bytes });
        }
    }

    fn transmit(&mut self, datagram: Datagram) {
        if let Some(fingerprint) = &mut self.fingerprint {
            (datagram.from, datagram.to, &datagram.bytes).hash(fingerprint);
        }
        for (delay, datagram) in self.network.send(&datagram, &mut self.tally) {
            self.queue.after(delay, Event::Arrive(datagram));
        }
    }

    fn arrive(&mut self, datagram: Datagram) {
        let Datagram { from, to, bytes } = datagram;
        if to.port() == OPERATOR_PORT {
            return;
        }
        if to.port() >= CLIENT_PORT {
            let client = usize::from(to.port() - CLIENT_PORT);
            let now = self.queue.now();
            if let Some(response) = decode_response(cluster_id(CLUSTER), &bytes) {
                self.clients[client].receive(now, response, &mut self.history, &mut self.tally);
                self.queue.after(MS, Event::Poll { client });
            }
            return;
        }
        let node = NodeId::from(to.port() - 8_000);
        if let Some(process) = self.machines.get_mut(&node).and_then(|machine| machine.process.as_mut()) {
            process.arrive(from, bytes);
            self.plan_turn(node);
        }
    }

    // ---- Clients and operators ----

    fn poll(&mut self, client: usize) {
        let now = self.queue.now();
        let open = self.clients[client].poll(now, self.finish, &mut self.history, &mut self.tally);
        if let Some(payload) = open {
            let ids: Vec<NodeId> = self.machines.keys().copied().collect();
            let to = node_address(ids[self.rng.random_range(0..ids.len())]);
            let bytes = request_frame(cluster_id(CLUSTER), 0, &payload);
            self.transmit(Datagram { from: client_address(client), to, bytes });
            self.queue.after(50 * MS, Event::Poll { client });
        } else if !self.clients[client].idle() {
            self.queue.after(20 * MS, Event::Poll { client });
        }
    }

    /// An operator on the leader's machine asks it, and it acts at once. On no network: a request that a link repeats much
    /// later would be another operator's, who does not look at what is broken.
    pub(crate) fn operate(&mut self, body: RequestBody) {
        let Some(leader) = self.leader() else { return };
        self.log(|| format!("operator at n{leader}: {body:?}"));
        self.operator_nonce += 1;
        let payload = Request { nonce: self.operator_nonce, sequence: 1, body }.encode();
        let bytes = request_frame(cluster_id(CLUSTER), 0, &payload);
        let operator = SocketAddr::from(([127, 0, 0, 1], OPERATOR_PORT));
        if let Some(process) = self.machines.get_mut(&leader).and_then(|machine| machine.process.as_mut())
            && !process.paused
            && process.arrive(operator, bytes)
        {
            self.turn(leader);
        }
    }

    // ---- The whole ----

    pub(crate) fn replica(&self, node: NodeId) -> Option<&Replica> {
        Some(&self.machines.get(&node)?.process.as_ref()?.replica)
    }

    fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.machines.values().filter_map(|machine| Some(&machine.process.as_ref()?.replica))
    }

    /// The leader of the latest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |replica: &&Replica| replica.raft().role() == Role::Leader;
        self.replicas().filter(leads).max_by_key(|replica| replica.raft().term()).map(|it| it.raft().id())
    }

    /// The last committed membership.
    pub(crate) fn membership(&self) -> Option<Arc<Membership>> {
        self.memberships.last_key_value().map(|(_, membership)| Arc::clone(membership))
    }
}
