//! The flags that make a spec, shared by the commands that run something.
//! What they mean is in [`crate::spec`].

use std::cell::LazyCell;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use super::Failure;
use crate::anchor::Moment;
use crate::clock::{self, Bending};
use crate::cluster::Hosts;
use crate::disk::{Store, refused as disk_refused};
use crate::fault::{FaultKind, Needs, Shape};
use crate::group::Groups;
use crate::net::Backend;
use crate::profile::{self, Profile};
use crate::spec::{Spec, WorkloadKind};
use crate::system::description::Defaults;
use crate::system::{Described, System, Transport, whitewater};

/// More nodes than this say nothing new on one machine.
const NODES_MAX: i64 = 9;
/// Longest load: a day.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SpecArgs {
    /// A system other than our own node: a name of `harness list`, or a description file
    #[arg(long, value_name = "NAME|FILE")]
    system: Option<String>,
    /// A program that was written for Maelstrom, as nodes that serve `lin-kv` over stdin and stdout
    #[arg(long, value_name = "PROGRAM", conflicts_with = "system")]
    maelstrom: Option<PathBuf>,
    /// The program that its nodes run, in place of the one that its description names
    #[arg(long, value_name = "FILE", requires = "system")]
    binary: Option<PathBuf>,
    /// Nodes of the cluster [default: 5, or what the system's description says; so for all below]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=NODES_MAX))]
    nodes: Option<u32>,
    /// How long clients load the cluster [default: 30s]
    #[arg(long, value_parser = time)]
    time: Option<Duration>,
    /// How long a fresh cluster may take until its nodes are ready, and as long again until one serves [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    ready_within: Option<Duration>,
    /// Workers, each with one operation open at a time [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: Option<u32>,
    /// Operations a second over all clients; 0 is as fast as they go [default: 2000]
    #[arg(long)]
    rate: Option<u32>,
    /// What clients do; see `harness list` [default: mixed]
    #[arg(long, value_parser = workload)]
    workload: Option<WorkloadKind>,
    /// Faults to inject: kinds of `harness list`, separated by commas, or `none`, or `all` that this cluster can have [default: those
    /// of the profile]
    #[arg(long)]
    faults: Option<Faults>,
    /// Which faults, how many at once, how dense: a name of `harness list`, or a TOML file [default: steady]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Moments that kills, pauses and power losses wait for: those of `harness list`, separated by commas, or `none` [default: those of
    /// the profile]
    #[arg(long, value_parser = anchors)]
    anchors: Option<Anchors>,
    /// How what nodes send passes through the harness: a switch between hosts of their own (needs root), proxies, or the better of them
    /// that this machine allows
    #[arg(long, value_enum, default_value_t = Net::Auto)]
    net: Net,
    /// Entries after which a node writes a snapshot of its state and forgets most of its log [default: 100]
    #[arg(long, value_name = "N", conflicts_with_all = ["system", "maelstrom"], value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_entries: Option<u64>,
    /// A further flag of `node serve`, such as --node-arg=--lease-reads; may be given several times
    #[arg(long = "node-arg", value_name = "FLAG", conflicts_with = "system", allow_hyphen_values = true)]
    node_args: Vec<String>,
    /// Where nodes keep their data: `real`, in the run directory; `fuse`, on disks of the harness's own, which faults can hurt; `memory`,
    /// in the run directory, and in the memory of our own nodes what they have not flushed, for power_loss; `auto`, on what the faults
    /// need and this machine has [default: auto]
    #[arg(long, value_name = "WHERE", value_parser = disk)]
    disk: Option<Disk>,
    /// How clocks are bent: `memory`, in that of any process; `file`, by one that our own node asks; `auto`, in the former way if a fault
    /// of the run needs it and this machine allows it, else in the latter [default: auto]
    #[arg(long, value_name = "HOW", value_parser = clocks)]
    clocks: Option<Clocks>,
    /// Let damage of disks (bit_flip, lost_file, truncated_file, wipe) hit more nodes at once than the system survives: what is lost then was
    /// to be expected, and the verdict is unknown
    #[arg(long)]
    blind: bool,
    /// Run a node with this planted bug (builds one on first use); the verdict must be invalid
    #[arg(long, value_name = "ID", conflicts_with_all = ["system", "maelstrom"])]
    bug: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Net {
    /// The switch where this machine allows it, else proxies
    Auto,
    /// Sockets on loopback addresses
    Proxy,
    /// A network namespace and a TUN device for each node
    Switch,
}

impl Net {
    /// What it comes to on this machine.
    fn backend(self) -> Result<Backend, Failure> {
        let hosts = || Hosts::probe();
        match self {
            Net::Proxy => Ok(Backend::Proxy),
            Net::Auto => Ok(hosts().map_or(Backend::Proxy, |()| Backend::Switch)),
            Net::Switch => hosts().map(|()| Backend::Switch).map_err(|error| {
                let error = anyhow::anyhow!("this process cannot make hosts for nodes: {error}");
                Failure::hint(error, "run it as root with /dev/net/tun, or with --net proxy")
            }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Faults {
    All,
    Listed(Vec<FaultKind>),
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::All),
            "none" => return Ok(Faults::Listed(Vec::new())),
            _ => {}
        }
        let mut kinds = Vec::new();
        for name in text.split(',') {
            let kind = name.trim().parse::<FaultKind>();
            let kind = kind.map_err(|error| format!("{error}, all, none"))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Faults::Listed(kinds))
    }
}

/// What `--anchors` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Anchors(Vec<Moment>);

fn anchors(text: &str) -> Result<Anchors, String> {
    let mut moments = Vec::new();
    for name in text.split(',').filter(|_| text != "none") {
        let moment = name.trim().parse()?;
        if !moments.contains(&moment) {
            moments.push(moment);
        }
    }
    Ok(Anchors(moments))
}

/// What `--disk` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Auto,
    Chosen(Store),
}

fn disk(text: &str) -> Result<Disk, String> {
    match text {
        "auto" => Ok(Disk::Auto),
        "real" => Ok(Disk::Chosen(Store::Real)),
        "fuse" => Ok(Disk::Chosen(Store::Fuse)),
        "memory" => Ok(Disk::Chosen(Store::Memory)),
        _ => Err(format!("there is no disk {text:?}; there are auto, real, fuse, memory")),
    }
}

/// What `--clocks` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clocks {
    Auto,
    Chosen(Bending),
}

fn clocks(text: &str) -> Result<Clocks, String> {
    match text {
        "auto" => Ok(Clocks::Auto),
        "memory" => Ok(Clocks::Chosen(Bending::Memory)),
        "file" => Ok(Clocks::Chosen(Bending::File)),
        _ => Err(format!("there is no way {text:?}; there are auto, memory, file")),
    }
}

impl Clocks {
    /// How they would be bent on this machine, if they can be.
    fn bending(self, is_ours: bool) -> Result<Option<Bending>, Failure> {
        let refused = clock::refused();
        match self {
            Clocks::Chosen(Bending::File) if !is_ours => {
                let error = anyhow::anyhow!("only our own node asks a file how wrong its clocks are");
                Err(Failure::hint(error, "--clocks memory, or no --system"))
            }
            Clocks::Chosen(Bending::Memory) if let Some(reason) = &refused => {
                let error =
                    anyhow::anyhow!("this machine lets nobody bend the clocks of processes: {reason}");
                Err(Failure::hint(error, "`harness doctor` says how to get it; --clocks file does without"))
            }
            Clocks::Chosen(bending) => Ok(Some(bending)),
            Clocks::Auto if refused.is_none() => Ok(Some(Bending::Memory)),
            Clocks::Auto => Ok(is_ours.then_some(Bending::File)),
        }
    }
}

fn workload(text: &str) -> Result<WorkloadKind, String> {
    WorkloadKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let known = WorkloadKind::ALL.map(WorkloadKind::name).join(", ");
        format!("there is no workload {text:?}; there are {known}")
    })
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_secs(1)..=TIME_MAX).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text} is not between 1s and 24h"))
    }
}

/// What the command line says of a time, or the description under `name`, or else `usual`, in milliseconds.
fn milliseconds(
    name: &str,
    said: Option<Duration>,
    described: Option<&str>,
    usual: u64,
) -> Result<u64, Failure> {
    let wrong = |error| anyhow::anyhow!("[run] of the description: {name}: {error}");
    let chosen = match (said, described) {
        (Some(said), _) => said,
        (None, Some(text)) => time(text).map_err(wrong)?,
        (None, None) => return Ok(usual),
    };
    Ok(u64::try_from(chosen.as_millis()).unwrap_or(u64::MAX))
}

/// A duration such as `30s` or `5m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}, such as 30s or 5m"))
}

/// A seed: decimal, or hexadecimal after `0x`.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{error}; a seed is a number below 2^64, such as 20978 or 0x51f2"))
}

/// A seed that nobody chose: 32 bits, to be short enough to type.
pub(super) fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The keys of a new hasher come from the operating system.
    std::hash::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

impl SpecArgs {
    /// The system that it names; `None` for our own node.
    pub(super) fn system(&self) -> Result<Option<Described>, Failure> {
        let loaded = match (&self.system, &self.maelstrom) {
            (Some(name), _) => Described::load(name, self.binary.as_deref()),
            (None, Some(program)) => Described::maelstrom(program),
            (None, None) => return Ok(None),
        };
        loaded.map(Some).map_err(|error| {
            let hint = error.hint();
            Failure::hint(error, hint)
        })
    }

    /// The spec with this seed, of this system.
    pub(super) fn spec(&self, seed: u64, system: Option<&Described>) -> Result<Spec, Failure> {
        let none = Defaults::default();
        let described = system.map_or(&none, |system| system.defaults());
        let ours = Spec::default();
        let time_ms = milliseconds("time", self.time, described.time.as_deref(), ours.time_ms)?;
        let ready_ms = milliseconds(
            "ready_within",
            self.ready_within,
            described.ready_within.as_deref(),
            ours.ready_ms,
        )?;
        let nodes = self.nodes.or(described.nodes).unwrap_or(ours.nodes);
        if !(1..=NODES_MAX).contains(&i64::from(nodes)) {
            let error = anyhow::anyhow!("[run] of the description: nodes is 1 to {NODES_MAX}, not {nodes}");
            return Err(Failure::hint(error, "say another number, or --nodes"));
        }
        let name = self.profile.as_ref().or(described.profile.as_ref());
        let profile = Profile::load(name.map_or(profile::DEFAULT, String::as_str)).map_err(|error| {
            let known = profile::SHIPPED.map(|(name, _)| name).join(", ");
            Failure::hint(error, format!("name a file, or one of: {known}"))
        })?;
        // Other systems have knobs of their own.
        let snapshot_entries = match system {
            Some(_) => None,
            None => self.snapshot_entries.or(ours.snapshot_entries),
        };
        let net = self.net.backend()?;
        let wanted = self.disk.unwrap_or(Disk::Auto);
        // Asked only where it matters: it takes a mount.
        let refused = LazyCell::new(disk_refused);
        if wanted == Disk::Chosen(Store::Fuse)
            && let Some(reason) = &*refused
        {
            let error = anyhow::anyhow!("this machine has no disks of the harness's own: {reason}");
            return Err(Failure::hint(
                error,
                "`harness doctor` says how to get them; --disk real does without",
            ));
        }
        if wanted == Disk::Chosen(Store::Memory) && system.is_some() {
            let error = anyhow::anyhow!("only our own node keeps in its memory what it has not flushed");
            return Err(Failure::hint(error, "--disk fuse, or no --system"));
        }
        let bending = self.clocks.unwrap_or(Clocks::Auto).bending(system.is_none())?;
        let possible = |kind: FaultKind, cluster: Shape| {
            let disks = kind.needs().disks() || (kind.needs() == Needs::Power && !cluster.unsynced_in_memory);
            kind.possible(cluster) && (!disks || refused.is_none())
        };
        let cluster = Shape {
            disks: matches!(wanted, Disk::Auto | Disk::Chosen(Store::Fuse)),
            unsynced_in_memory: system.is_none()
                && matches!(wanted, Disk::Auto | Disk::Chosen(Store::Memory)),
            groups: Groups::probe().is_ok(),
            nodes,
            hosts: net == Backend::Switch,
            clocks: bending.is_some(),
            transport: system.map_or(Transport::Udp, |system| system.transport()),
            survives_wipe: self.blind || system.is_some_and(|system| system.survives_wipe()),
            has_commands: system.is_some_and(|system| !system.commands().is_empty()),
            takes_orders: system.is_none_or(|system| system.takes_orders()),
            installs_snapshots: match system {
                Some(system) => system.installs_snapshots(),
                None => snapshot_entries.is_some_and(whitewater::snapshots_are_frequent),
            },
        };
        let all = || -> Vec<FaultKind> {
            FaultKind::ALL.into_iter().filter(|kind| possible(*kind, cluster)).collect()
        };
        let asked = match (&self.faults, &described.faults) {
            (Some(Faults::Listed(kinds)), _) => Some(kinds),
            (Some(Faults::All), _) => None,
            (None, _) if self.profile.is_some() => profile.faults.as_ref(),
            (None, described) => described.as_ref().or(profile.faults.as_ref()),
        };
        let faults = match (asked, &self.faults) {
            (None, _) => all(),
            // Who lists a fault that cannot be is told so; a profile holds what there is of it.
            (Some(kinds), Some(_)) => match kinds.iter().find(|kind| !possible(**kind, cluster)) {
                Some(kind) => {
                    let error =
                        anyhow::anyhow!("this cluster cannot have the fault {kind}: {}", kind.needs());
                    let known = all().into_iter().map(FaultKind::name).collect::<Vec<_>>().join(", ");
                    return Err(Failure::hint(error, format!("it can have {known}")));
                }
                None => kinds.clone(),
            },
            (Some(kinds), None) => kinds.iter().copied().filter(|kind| possible(*kind, cluster)).collect(),
        };
        let disk = match wanted {
            Disk::Chosen(backend) => backend,
            Disk::Auto if faults.iter().any(|kind| kind.needs().disks()) => Store::Fuse,
            Disk::Auto if faults.iter().any(|kind| kind.needs() == Needs::Power) => match &*refused {
                None => Store::Fuse,
                Some(_) => Store::Memory,
            },
            Disk::Auto => Store::Real,
        };
        let clocks = match (self.clocks, bending) {
            (Some(Clocks::Chosen(bending)), _) => bending,
            (_, Some(bending)) if faults.iter().any(|kind| kind.needs() == Needs::Clocks) => bending,
            _ => Bending::default(),
        };
        let mut pace = profile.pace;
        let untold =
            |moment: &Moment| moment.is_told() && system.is_some_and(|system| !system.tells_moment(*moment));
        match &self.anchors {
            None => pace.anchors.retain(|moment| !untold(moment)),
            Some(Anchors(asked)) => match asked.iter().find(|moment| untold(moment)) {
                Some(moment) => {
                    let error = anyhow::anyhow!(
                        "no fault can wait for the moment {}: nothing that nodes of {} write tells of it",
                        moment.name(),
                        system.map_or("this system", |system| system.name())
                    );
                    let hint = "it can have --anchors write, and leader where a [[log]] of the description says who leads";
                    return Err(Failure::hint(error, hint));
                }
                None => pace.anchors.clone_from(asked),
            },
        }
        let workload = self.workload.or(described.workload).unwrap_or(ours.workload);
        if let Some(system) = system {
            let mut has = system.functions();
            has.extend(system.prints_values().then(|| "read".to_owned()));
            if let Some(missing) = workload.needs().iter().find(|need| !has.iter().any(|has| has == *need)) {
                let error = anyhow::anyhow!(
                    "the workload {} needs clients that can {missing}; those of {} can {}",
                    workload.name(),
                    system.name(),
                    has.join(", ")
                );
                let can =
                    |kind: &WorkloadKind| kind.needs().iter().all(|need| has.iter().any(|has| has == need));
                let possible = WorkloadKind::ALL.into_iter().filter(can).map(WorkloadKind::name);
                let possible = possible.collect::<Vec<_>>().join(", ");
                return Err(Failure::hint(error, format!("--workload {possible}")));
            }
        }
        Ok(Spec {
            blind: self.blind,
            nodes,
            time_ms,
            ready_ms,
            clients: self.clients.or(described.clients).unwrap_or(ours.clients),
            rate: self.rate.or(described.rate).unwrap_or(ours.rate),
            workload,
            faults,
            seed,
            bug: self.bug.clone(),
            snapshot_entries,
            node_args: self.node_args.clone(),
            pace,
            net,
            disk,
            clocks,
            system: self.system.clone().or(self.maelstrom.as_ref().map(|path| path.display().to_string())),
            binary: self.binary.clone(),
        })
    }

    /// The flags that say the same to a child.
    pub(super) fn flags(&self, spec: &Spec) -> Vec<String> {
        let faults: Vec<&str> = spec.faults.iter().map(|kind| kind.name()).collect();
        let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(",") };
        let mut flags = vec![
            format!("--nodes={}", spec.nodes),
            format!("--time={}ms", spec.time_ms),
            format!("--ready-within={}ms", spec.ready_ms),
            format!("--clients={}", spec.clients),
            format!("--rate={}", spec.rate),
            format!("--workload={}", spec.workload.name()),
            format!("--faults={faults}"),
            format!("--net={}", spec.net.name()),
            format!("--disk={}", spec.disk.name()),
        ];
        flags.extend((spec.clocks == Bending::File).then(|| "--clocks=file".to_owned()));
        flags.extend(self.profile.iter().map(|profile| format!("--profile={profile}")));
        flags.extend(self.anchors.iter().map(|Anchors(moments)| {
            let names: Vec<&str> = moments.iter().map(|moment| moment.name()).collect();
            format!("--anchors={}", if names.is_empty() { "none".to_owned() } else { names.join(",") })
        }));
        flags.extend(self.system.iter().map(|system| format!("--system={system}")));
        flags.extend(self.maelstrom.iter().map(|program| format!("--maelstrom={}", program.display())));
        flags.extend(self.binary.iter().map(|binary| format!("--binary={}", binary.display())));
        flags.extend(spec.snapshot_entries.iter().map(|entries| format!("--snapshot-entries={entries}")));
        flags.extend(spec.node_args.iter().map(|flag| format!("--node-arg={flag}")));
        flags.extend(spec.blind.then(|| "--blind".to_owned()));
        flags.extend(self.bug.iter().map(|bug| format!("--bug={bug}")));
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        args: SpecArgs,
    }

    fn parse(flags: &[&str]) -> Result<SpecArgs, String> {
        let flags = std::iter::once("x").chain(flags.iter().copied());
        Flags::try_parse_from(flags).map(|f| f.args).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_spec() {
        let spec = |flags: &[&str]| parse(flags).unwrap().spec(0, None).unwrap();
        // What is possible depends on the machine unless it is said.
        assert_eq!(spec(&["--net=proxy"]), Spec::default());
        let one = spec(&["--nodes=1"]);
        assert_eq!(one.faults, [FaultKind::Kill, FaultKind::Pause], "one node has no links");
        assert!(spec(&["--faults=all"]).faults.len() > spec(&[]).faults.len());
    }

    #[test]
    fn a_child_that_gets_the_flags_runs_the_same_spec() {
        let flags = [
            "--nodes=3",
            "--time=90s",
            "--ready-within=150s",
            "--clients=4",
            "--rate=0",
            "--workload=set",
            "--faults=kill,loss",
            "--anchors=leader,write",
            "--snapshot-entries=50",
            "--clocks=file",
            "--node-arg=--lease-reads",
            "--node-arg=--election-timeout-ms-min=300",
            "--bug=Q01",
        ];
        for flags in [&flags[..], &[], &["--faults", "none"], &["--anchors=none"], &["--profile", "network"]]
        {
            let args = parse(flags).unwrap();
            let spec = args.spec(9, None).unwrap();
            let told = args.flags(&spec);
            let again = parse(&told.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            assert_eq!(again.spec(9, None).unwrap(), spec, "{flags:?}");
        }
    }

    #[test]
    fn what_a_system_prints_decides_what_it_can_have() {
        let dir = tempfile::tempdir().unwrap();
        let asked = |logs: &str, flags: &[&str]| {
            let file = dir.path().join("x.toml");
            let text = format!(
                "name = \"x\"\ncommand = [\"sh\"]\n{logs}[ports]\nweb = \"direct\"\n\
                 [driver]\ncommand = [\"sh\"]\nport = \"web\"\nfunctions = [\"write\"]\n"
            );
            std::fs::write(&file, text).unwrap();
            let system = Described::load(file.to_str().unwrap(), None).unwrap();
            let flags = [&["--net=proxy", "--faults=kill", "--workload=register"], flags].concat();
            parse(&flags).unwrap().spec(0, Some(&system)).map_err(|failure| failure.error.to_string())
        };
        let leads = "[[log]]\npattern = 'leads'\nsays = \"leader\"\n";
        let holds = "[[log]]\npattern = '(?<key>.) (?<value>.)'\nsays = \"value\"\n";
        assert!(asked("", &[]).unwrap_err().contains("clients that can read"));
        assert!(asked(leads, &[]).unwrap_err().contains("clients that can read"));
        assert!(asked(holds, &[]).is_ok());
        assert!(asked(&(leads.to_owned() + holds), &["--anchors=leader"]).is_ok());
        assert!(asked(holds, &["--anchors=leader"]).unwrap_err().contains("the moment leader"));
        assert!(
            asked(&(leads.to_owned() + holds), &["--anchors=vote"]).unwrap_err().contains("the moment vote")
        );
        assert!(asked(holds, &["--disk=memory"]).unwrap_err().contains("only our own node"));
    }

    #[test]
    fn rare_snapshots_catch_nobody_up() {
        let rare = parse(&["--snapshot-entries=100000"]).unwrap().spec(0, None).unwrap();
        assert!(!rare.faults.contains(&FaultKind::Snapshot));
        let asked = parse(&["--snapshot-entries=100000", "--faults=snapshot"]).unwrap().spec(0, None);
        let told = asked.unwrap_err().error.to_string();
        assert!(told.contains("cannot have the fault snapshot") && told.contains("5000"), "{told}");
    }

    #[test]
    fn wrong_values_are_named_with_what_would_be_right() {
        for (flag, said) in [
            ("--faults=kill,fire", "no fault is called \"fire\"; there are kill, pause"),
            ("--anchors=tea", "no moment \"tea\"; there are leader, vote, write, none"),
            ("--disk=water", "there is no disk \"water\"; there are auto, real, fuse, memory"),
            ("--clocks=sun", "there is no way \"sun\"; there are auto, memory, file"),
            ("--workload=bank", "there is no workload \"bank\"; there are mixed"),
            ("--time=10", "such as 30s"),
            ("--time=0s", "between 1s and 24h"),
            ("--ready-within=100ms", "between 1s and 24h"),
            ("--snapshot-entries=0", "1.."),
            ("--nodes=0", "1..=9"),
            ("--clients=0", "1..=1000"),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(said), "{flag}: {error}");
        }
        assert!(seed("0x51f2") == Ok(0x51f2) && seed("20978") == Ok(0x51f2));
        assert!(seed("51f2").unwrap_err().contains("0x51f2"));
        assert!(fresh_seed() <= u64::from(u32::MAX));
    }
}
