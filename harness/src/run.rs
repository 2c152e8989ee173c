//! One run from setup to verdict: its phases, in order, and what each hands to the next.
//! What hurts is the nemesis' work, how it is judged the checker's, how it looks the command line's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use checker::follow::Violation;
use checker::history::{EventType, Header};
use checker::{Report, Verdict};
use serde_json::{Value, json};

use crate::NodeId;
use crate::aside::{self, Turn};
use crate::cluster::{Addresses, Cluster, ClusterError, Leader, LogWatch, Printed, Trouble};
use crate::disk::{Disks, Store};
use crate::fault::Needs;
use crate::group::Groups;
use crate::host::{Host, LagProbe, monotonic_ns};
use crate::nemesis;
use crate::net::{Backend, Fabric};
use crate::random::{Purpose, stream};
use crate::recorder::Recorder;
use crate::run_dir::{RunDir, node_name};
use crate::run_file::{self, Binary, RunFile, RunFileError};
use crate::schedule::{Schedule, ScheduleError};
use crate::settle::{self, Quorum, Settled, State};
use crate::sometimes;
use crate::spec::Spec;
use crate::system::{System, Transport};
use crate::tally::Tally;
use crate::translate::TranslateError;
use crate::watch::{OnViolation, Watch};
use crate::worker::Worker;
use crate::workload::{Can, Workload};

/// How long an operation of a patient worker may take: longer than an election, so that what was sent is sent again to a new
/// leader.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same of every second worker: shorter than an election, so that a lost leader leaves unknown outcomes. Those are what a
/// judge has to be good at.
const IMPATIENCE: Duration = Duration::from_millis(250);
/// A datagram that left this late was hurt by the machine, not by a fault.
const LAG_MS_NOTABLE: f64 = 100.0;
/// How often the phases look at the clock, the signals and the children.
const POLL: Duration = Duration::from_millis(50);
/// An election this long after a fault ended still counts as its doing: twice the longest election timeout.
const AFTERMATH_NS: u64 = 1_200_000_000;

/// Everything a run needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to run.
    pub spec: Spec,
    /// Which faults, when.
    pub schedule: Schedule,
    /// Where; created and empty.
    pub dir: RunDir,
    /// What runs.
    pub system: Arc<dyn System>,
    /// What to do when the history becomes invalid.
    pub on_violation: OnViolation,
    /// The command line, for `run.json`.
    pub command: Vec<String>,
}

/// What a run tells while it goes on, phase by phase.
#[derive(Debug)]
pub enum Stage<'a> {
    /// The cluster is ready.
    Setup {
        /// Who leads, where the system tells.
        leader: Option<Leader>,
        /// How long that took.
        took: Duration,
    },
    /// Load and faults are under way. Comes several times a second.
    Loading {
        /// So far.
        tally: &'a Tally,
        /// Since the load began.
        elapsed: Duration,
    },
    /// The history became invalid.
    Violated {
        /// How.
        violation: &'a Violation,
        /// How long after it happened that was noticed, and acted upon.
        noticed: Duration,
        /// Since the load began.
        elapsed: Duration,
        /// The nodes that were stopped for a look, with the process of each, if that was asked for.
        frozen: Option<&'a [(NodeId, u32)]>,
    },
    /// Load and faults are over.
    Loaded {
        /// All of it.
        tally: &'a Tally,
        /// How long it took.
        took: Duration,
    },
    /// A random majority served although the others were broken, or it did not.
    Held {
        /// What came of it.
        held: &'a Settled,
    },
    /// Each node had its turn to lead.
    Aside {
        /// The turns.
        turns: &'a [Turn],
        /// How long they took.
        took: Duration,
    },
    /// The healed cluster was given its time.
    Settled {
        /// What came of it.
        settled: &'a Settled,
        /// How long that and the final reads took.
        took: Duration,
    },
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// The judgement.
    pub report: Report,
    /// What was recorded.
    pub tally: Tally,
    /// Whether the nodes tell of their elections.
    pub tells_elections: bool,
    /// Leaders elected during the load.
    pub elections: u64,
    /// Those elected while a fault was active, or right after.
    pub elections_by_fault: u64,
    /// How often rare facts were so, by name; empty where nodes write no traces.
    pub sometimes: BTreeMap<String, u64>,
    /// How long translating and judging took.
    pub check_took: Duration,
    /// What a reader should know although it moves no verdict.
    pub warnings: Vec<String>,
}

/// Why a run came to no verdict. Never a word about the system.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of the run directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The network below the cluster.
    #[error("cannot set up the links between nodes: {0}")]
    Network(io::Error),
    /// The disks below the nodes.
    #[error("cannot set up the disks of nodes: {0}")]
    Disks(io::Error),
    /// The control groups of the nodes.
    #[error("cannot make control groups for the memory of nodes: {0}")]
    Groups(io::Error),
    /// A client.
    #[error("cannot start a client: {0}")]
    Session(io::Error),
    /// All clients.
    #[error("{0}")]
    Broken(String),
    /// The cluster did not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Nobody served before anything was done to them, which is a mistake of a description or a driver far more often than of a system.
    #[error("no node served a write and the read of it within {within_s} s, before any fault: {said}")]
    NeverServed {
        /// How long it was waited for, in seconds.
        within_s: f64,
        /// What each node answered last.
        said: String,
    },
    /// `run.json`.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// `schedule.jsonl`.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The traces.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// The harness itself hurt the system, in a way that no fault asked for.
    #[error("the harness was the fault: {0}")]
    OwnFault(String),
    /// The judge.
    #[error(transparent)]
    Check(#[from] checker::CheckError),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    move |source| RunError::Io { path: path.to_owned(), source }
}

/// Runs a plan. `interrupted` ends the load early; everything after it still happens.
///
/// # Errors
/// The harness could not do its own work.
pub fn run(
    plan: &Plan,
    interrupted: &AtomicBool,
    observe: &mut dyn FnMut(Stage<'_>),
) -> Result<Finished, RunError> {
    let spec = &plan.spec;
    write_run_file(plan)?;
    plan.schedule.write(&plan.dir.schedule())?;
    if let Some(text) = plan.system.description() {
        let path = plan.dir.system();
        std::fs::write(&path, text).map_err(io_error(&path))?;
    }

    let setup = Instant::now();
    let mut addresses =
        Addresses::claim_with_spares(spec.nodes, plan.schedule.spares()).map_err(RunError::Network)?;
    let fabric = match plan.system.transport() {
        _ if spec.net == Backend::Switch => Fabric::start_switch(&mut addresses, spec.seed),
        Transport::Tcp => Fabric::start_streams(&addresses, &plan.system.fronts(&addresses), spec.seed),
        Transport::Udp | Transport::Direct => Fabric::start(&addresses, spec.seed),
    };
    let fabric = fabric.map_err(RunError::Network)?;
    let _inside = fabric.enter().map_err(RunError::Network)?;
    let disks = match spec.disk {
        Store::Real | Store::Memory => None,
        Store::Fuse => {
            let kept = plan.system.kept_files();
            Some(Disks::create(&plan.dir, addresses.nodes(), kept).map_err(RunError::Disks)?)
        }
    };
    let groups = match plan.schedule.kinds().iter().any(|kind| kind.needs() == Needs::Memory) {
        true => Some(Groups::create(addresses.nodes()).map_err(RunError::Groups)?),
        false => None,
    };
    let cluster =
        Cluster::start_all(plan.system.clone(), &plan.dir, addresses, true, disks, groups)?.blind(spec.blind);
    let leader = cluster.wait_up(Duration::from_millis(spec.ready_ms))?;

    let has = |name: &str| plan.system.functions().iter().any(|function| function == name);
    let workload = Workload::new(spec.workload, Can { cas: has("cas"), read: has("read") }, spec.rate);
    let header = Header {
        format: checker::history::FORMAT.to_owned(),
        version: checker::history::VERSION.to_owned(),
        workload: spec.workload.name().to_owned(),
        models: workload.models(),
        clock: "monotonic-ns".to_owned(),
        nodes: (1..=cluster.places()).map(node_name).collect(),
    };
    let (started, started_ns) = (Instant::now(), monotonic_ns());
    let history = plan.dir.history();
    let recorder = Recorder::create(&history, &header, started).map_err(io_error(&history))?;
    let setup = setup.elapsed();
    observe(Stage::Setup { leader, took: setup });

    let dead = Mutex::new(BTreeSet::new());
    let logs = Mutex::new(LogWatch::new(&plan.dir, cluster.places(), plan.system.clone()));
    let run = Run {
        plan,
        cluster: &cluster,
        fabric: &fabric,
        recorder: &recorder,
        setup,
        dead: &dead,
        logs: &logs,
    };
    let watch = LagProbe::start();
    let (workload, violated) = run.load(workload, interrupted, observe)?;
    // Later the wait for a quorum says by itself that it was starved.
    let lag = watch.max();
    recorder.nemesis("phase", json!({"phase": "settle"}));
    let (settled, mut states) = run.settle(workload, violated, observe)?;

    // Nodes that end by themselves while being asked count as well; after `stop_all` nobody can.
    run.look();
    cluster.stop_all();
    cluster.put_disks_away()?;
    let mut warnings = fabric_warnings(&fabric);
    let own_fault = own_fault(fabric.overflow(), lag);
    let (places, damages) = (cluster.places(), cluster.damages());
    drop(cluster);
    drop(fabric);
    warnings.extend(settle::add_images(&mut states, &*plan.system, &plan.dir));
    let tally = recorder.finish().map_err(io_error(&history))?;
    for state in &states {
        let path = plan.dir.state(state.id);
        let text = serde_json::to_string(&state.to_json()).map_err(io::Error::from);
        text.and_then(|text| std::fs::write(&path, text + "\n")).map_err(io_error(&path))?;
    }

    let checking = Instant::now();
    let elections = plan.system.translate(&plan.dir, places, &damages)?;
    let report = checker::check(plan.dir.path(), &checker::Options::default())?;
    let verdict = plan.dir.verdict();
    report.write_verdict(plan.dir.path()).map_err(io_error(&verdict))?;

    // What is wrong is wrong; but that nothing was found, or that something came late, is no word about the system then.
    if let Some(why) = own_fault.filter(|_| report.verdict != Verdict::Invalid) {
        return Err(RunError::OwnFault(why));
    }
    let during_load: Vec<u64> = elections
        .iter()
        .flatten()
        .filter_map(|e| e.at.checked_sub(started_ns))
        .filter(|at| tally.load.1.is_none_or(|end| *at < end))
        .collect();
    let by_fault = during_load.iter().filter(|at| tally.in_fault(**at, AFTERMATH_NS)).count();
    let silent = settled.nodes - states.len();
    if settled.served() && silent > 0 && plan.system.tells_state() {
        warnings.push(format!("{silent} of {} nodes did not tell their applied state", settled.nodes));
    }
    let sometimes = match &elections {
        Some(_) => sometimes::count(&plan.dir, places, started_ns).map_err(io_error(plan.dir.path()))?,
        None => BTreeMap::new(),
    };
    Ok(Finished {
        report,
        sometimes,
        tally,
        tells_elections: elections.is_some(),
        elections: during_load.len() as u64,
        elections_by_fault: by_fault as u64,
        check_took: checking.elapsed(),
        warnings,
    })
}

/// What the links did that no fault asked for.
fn fabric_warnings(fabric: &Fabric) -> Vec<String> {
    let lag = fabric.lag_ms_max();
    if lag <= LAG_MS_NOTABLE {
        return Vec::new();
    }
    vec![format!("datagrams left up to {lag:.0} ms late: this machine was too busy for exact delays")]
}

/// Why a run says nothing of the system, if the harness hurt it: what it dropped by itself, and for how long it got no CPU while
/// clients were at work.
fn own_fault(overflow: u64, lag: Duration) -> Option<String> {
    if overflow > 0 {
        return Some(format!("it dropped {overflow} datagrams because too many were held back"));
    }
    (lag > settle::STARVED_LAG)
        .then(|| format!("it got no CPU for {:.1} s while clients were at work", lag.as_secs_f64()))
}

fn write_run_file(plan: &Plan) -> Result<(), RunError> {
    let own = std::env::current_exe().map_err(io_error(Path::new("the harness's own executable")))?;
    let file = RunFile {
        format: run_file::FORMAT.to_owned(),
        version: run_file::VERSION.to_owned(),
        seed: format!("{:#x}", plan.spec.seed),
        spec: plan.spec.clone(),
        command: plan.command.clone(),
        harness: Binary::describe(&own, "").map_err(io_error(&own))?,
        node: plan.system.binary().map_err(io_error(Path::new("the executable of the nodes")))?,
        host: Host::measure(plan.dir.path()).map_err(io_error(plan.dir.path()))?,
    };
    Ok(file.write(&plan.dir)?)
}

/// What the phases between launch and stop share.
struct Run<'a> {
    plan: &'a Plan,
    cluster: &'a Cluster,
    fabric: &'a Fabric,
    recorder: &'a Recorder,
    /// How long the cluster took until it was ready.
    setup: Duration,
    /// Names of the nodes that died by themselves.
    dead: &'a Mutex<BTreeSet<String>>,
    logs: &'a Mutex<LogWatch>,
}

impl Run<'_> {
    /// Records a line of the nemesis, and remembers who died by himself, whoever noticed it.
    fn record(&self, f: &str, value: Value) {
        if let ("self_exit", Some(node)) = (f, value["node"].as_str()) {
            self.dead().insert(node.to_owned());
        }
        self.recorder.nemesis(f, value);
    }

    /// Looks for nodes that died by themselves, and for trouble in what they print.
    fn look(&self) {
        nemesis::report_self_exits(self.cluster, &|f, value| self.record(f, value));
        // What a node says of its disk while that is broken is no violation.
        let excused = |node, path: &Path, at| self.cluster.is_log_excused(node, path, at);
        for printed in self.logs.lock().unwrap_or_else(PoisonError::into_inner).look(excused) {
            match printed {
                Printed::Trouble(Trouble { node, text, line }) => {
                    let status = format!("its log says {text:?}");
                    let value = json!({"node": node_name(node), "status": status, "stderr": line});
                    self.record("self_exit", value);
                }
                Printed::Role { node, role, line } => {
                    let name = if role.leads { "leader" } else { "follower" };
                    let value =
                        json!({"node": node_name(node), "role": name, "term": role.term, "line": line});
                    self.record("role", value);
                }
            }
        }
    }

    fn dead(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Worker `index` of `stride`, a client of these nodes.
    fn worker(
        &self,
        nodes: &[(NodeId, SocketAddr)],
        patience: Duration,
        index: u64,
        stride: u64,
    ) -> Result<Worker<'_>, RunError> {
        let _there = self.fabric.enter_clients().map_err(RunError::Network)?;
        let session = self.plan.system.session(nodes, patience).map_err(RunError::Session)?;
        let ids = nodes.iter().map(|(id, _)| *id).collect();
        Ok(Worker::new(self.recorder, session, ids, index, stride))
    }

    /// Process ids of one round: those of the load, of those who talk to one node each at the end, and of these at the beginning.
    fn stride(&self) -> u64 {
        u64::from(self.plan.spec.clients) + 2 * u64::from(self.cluster.places())
    }

    /// Waits until a node serves a write and the read of it: who has elected nobody yet has nothing to lose. Whether all of them serve
    /// is asked at the end. Who ends the wait, or died in it, is told of by others.
    fn wait_served(
        &self,
        nodes: &[(NodeId, SocketAddr)],
        workload: &mut Workload,
        interrupted: &AtomicBool,
    ) -> Result<(), RunError> {
        let first = u64::from(self.plan.spec.clients) + u64::from(self.cluster.places());
        let mut workers = (first..)
            .zip(nodes)
            .map(|(index, node)| self.worker(&[*node], PATIENCE, index, self.stride()))
            .collect::<Result<Vec<_>, _>>()?;
        let within = Duration::from_millis(self.plan.spec.ready_ms);
        let deadline = Instant::now() + within;
        let key = workload.probe_key();
        while !interrupted.load(Ordering::Relaxed) && self.dead().is_empty() {
            if let Some(why) = self.plan.system.broken() {
                return Err(RunError::Broken(why));
            }
            let mut said = Vec::new();
            for (worker, (node, _)) in workers.iter_mut().zip(nodes) {
                let asked = workload.probe(&key);
                let mut answers = asked.iter().map(|op| worker.perform(op, 0));
                let Some(refused) = answers.find(|answer| answer.kind != EventType::Ok) else {
                    return Ok(());
                };
                said.push(settle::refusal(*node, refused.error));
            }
            if Instant::now() >= deadline {
                let (within_s, said) = (within.as_secs_f64(), said.join(", "));
                return Err(RunError::NeverServed { within_s, said });
            }
            self.look();
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Loads the cluster while the nemesis hurts it. A node that dies by itself ends the load at once, and so does a violation unless
    /// the plan says otherwise; whether there was one.
    fn load(
        &self,
        mut workload: Workload,
        interrupted: &AtomicBool,
        observe: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(Workload, bool), RunError> {
        let spec = &self.plan.spec;
        let nodes: Vec<_> = (1..=spec.nodes).zip(self.cluster.client_addrs()).collect();
        let stride = self.stride();
        let mut workers = Vec::new();
        for index in 0..spec.clients {
            let patience = if index % 2 == 0 { PATIENCE } else { IMPATIENCE };
            workers.push((index, self.worker(&nodes, patience, index.into(), stride)?));
        }
        let interval = match spec.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1).mul_f64(f64::from(spec.clients) / f64::from(rate)),
        };
        let time = Duration::from_millis(spec.time_ms);
        let sink = |f: &str, value: Value| self.record(f, value);
        sink("plan", json!({"kinds": self.kinds()}));
        sink("phase", json!({"phase": "load"}));
        if !self.plan.system.tells_followed() {
            self.wait_served(&nodes, &mut workload, interrupted)?;
        }

        let workload = Mutex::new(workload);
        let (heal, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let watch = Watch::default();
        let history = self.plan.dir.history();
        let started = Instant::now();
        let (mut broken, mut violated) = (None, false);
        let there = self.fabric.enter_clients().map_err(RunError::Network)?;
        std::thread::scope(|scope| {
            for (index, mut worker) in workers {
                let rng = stream(spec.seed, Purpose::Workload, index);
                let (workload, stop) = (&workload, &stop);
                scope.spawn(move || worker.work(workload, rng, interval, stop));
            }
            drop(there);
            scope.spawn(|| watch.follow(&history, &|| self.recorder.now(), &stop));
            let faults = scope.spawn(|| {
                let schedule = &self.plan.schedule;
                let recorder = self.recorder;
                let acknowledged = || recorder.acknowledged();
                let in_flight = || recorder.in_flight();
                let record =
                    nemesis::Record { sink: &sink, in_flight: &in_flight, acknowledged: &acknowledged };
                nemesis::run(schedule, spec.seed, self.cluster, self.fabric, record, started, &heal);
            });
            while started.elapsed() < time
                && !interrupted.load(Ordering::Relaxed)
                && self.dead().is_empty()
                && broken.is_none()
                && !(violated && self.plan.on_violation != OnViolation::Continue)
            {
                std::thread::sleep(POLL);
                self.look();
                broken = self.plan.system.broken();
                observe(Stage::Loading { tally: &self.recorder.tally(), elapsed: started.elapsed() });
                if let Some(violation) = watch.found().filter(|_| !violated) {
                    violated = true;
                    self.violated(violation, started, interrupted, &stop, observe);
                }
            }
            // Faults are healed under load: the last thing that clients see is a cluster that recovers.
            heal.store(true, Ordering::Relaxed);
            while !faults.is_finished() {
                std::thread::sleep(POLL);
                self.look();
            }
            stop.store(true, Ordering::Relaxed);
        });
        if let Some(why) = broken {
            return Err(RunError::Broken(why));
        }
        observe(Stage::Loaded { tally: &self.recorder.tally(), took: started.elapsed() });
        Ok((workload.into_inner().unwrap_or_else(PoisonError::into_inner), violated))
    }

    /// Records a violation, and ends the load, or freezes the cluster until somebody looked, as the plan says.
    fn violated(
        &self,
        violation: &Violation,
        started: Instant,
        interrupted: &AtomicBool,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(Stage<'_>),
    ) {
        let policy = self.plan.on_violation;
        if policy != OnViolation::Continue {
            // What clients did after it would only be in the way of whoever looks for it.
            stop.store(true, Ordering::Relaxed);
        }
        let frozen = (policy == OnViolation::Freeze).then(|| self.cluster.freeze());
        let Violation { key, class, reason, time, index } = violation;
        let value = json!({"key": key, "class": class, "reason": reason, "at": time, "operation": index});
        let noticed = Duration::from_nanos(self.recorder.now().saturating_sub(*time));
        self.recorder.nemesis("violation", value);
        let stopped = frozen.as_ref().map(|frozen| frozen.stopped());
        observe(Stage::Violated { violation, noticed, elapsed: started.elapsed(), frozen: stopped });
        while frozen.is_some() && !interrupted.load(Ordering::Relaxed) {
            std::thread::sleep(POLL);
        }
    }

    /// The kinds of faults in the schedule, each once.
    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = self.plan.schedule.faults.iter().map(|f| f.fault.kind()).collect();
        kinds.sort();
        kinds.dedup();
        kinds.into_iter().map(|kind| kind.name()).collect()
    }

    /// Waits for the healed cluster to serve, then reads every key through each node, and what each node holds.
    fn settle(
        &self,
        mut workload: Workload,
        mut violated: bool,
        observe: &mut dyn FnMut(Stage<'_>),
    ) -> Result<(Settled, Vec<State>), RunError> {
        let spec = &self.plan.spec;
        let probe = LagProbe::start();
        let stride = self.stride();
        let (dead, members) = (self.dead().clone(), self.cluster.members());
        let alive = (1..)
            .zip(self.cluster.client_addrs())
            .filter(|(id, _)| members.contains(id) && !dead.contains(&node_name(*id)));
        let mut pinned = Vec::new();
        for (id, addr) in alive {
            let index = u64::from(spec.clients) + u64::from(id) - 1;
            pinned.push(settle::Pinned { id, worker: self.worker(&[(id, addr)], PATIENCE, index, stride)? });
        }
        let links = spec.net == Backend::Switch || self.plan.system.transport() != Transport::Direct;
        // A quorum is one of the founders; a change of membership that could not be taken back leaves other voters.
        let whole = self.cluster.voters() == (1..=spec.nodes).collect();
        let tolerated = self.plan.system.tolerates();
        let quorum =
            Quorum::draw(spec.seed, spec.nodes, tolerated, links).filter(|_| whole && dead.is_empty());
        let quorum =
            quorum.map(|quorum| if self.plan.system.forgets() { quorum.without_kills() } else { quorum });
        let starved = || probe.max().max(Duration::from_secs_f64(self.fabric.lag_ms_max() / 1_000.0));
        let within = settle::within(self.setup);
        let settling = Instant::now();
        if let Some(quorum) = quorum
            && let Some(held) =
                quorum.hold(self.cluster, self.fabric, &mut pinned, &mut workload, within, &starved)
        {
            self.recorder.nemesis("quorum", held.to_json());
            observe(Stage::Held { held: &held });
            violated |= !held.served();
            // If it did not serve that is a violation; whether writes are lost as well, only those can tell who serve again.
        }
        let settled = settle::serve(self.cluster, &mut pinned, &mut workload, within, &starved);
        self.recorder.nemesis("settle", settled.to_json());
        if !settled.served() {
            observe(Stage::Settled { settled: &settled, took: settling.elapsed() });
            return Ok((settled, Vec::new()));
        }
        self.recorder.nemesis("phase", json!({"phase": "final"}));
        let states = settle::final_reads(&mut pinned, &workload.keys());
        observe(Stage::Settled { settled: &settled, took: settling.elapsed() });
        let spare = spec.nodes >= 3 && tolerated != Some(0);
        let reads = self.plan.system.functions().iter().any(|function| function == "read");
        // Whether a state went another way says nothing new of a system that is known to be broken.
        if spare && whole && !violated && dead.is_empty() && reads && !self.plan.system.tells_state() {
            let asking = Instant::now();
            let turns = aside::take_turns(self.cluster, self.fabric, &mut pinned, &mut workload, links);
            turns.iter().for_each(|turn| self.recorder.nemesis("aside", turn.to_json()));
            observe(Stage::Aside { turns: &turns, took: asking.elapsed() });
        }
        Ok((settled, states))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_that_dropped_or_slept_is_its_own_fault() {
        assert_eq!(own_fault(0, Duration::from_millis(1_900)), None);
        assert!(own_fault(3, Duration::ZERO).unwrap().contains("dropped 3 datagrams"));
        assert!(own_fault(0, Duration::from_secs(3)).unwrap().contains("no CPU for 3.0 s"));
    }
}
