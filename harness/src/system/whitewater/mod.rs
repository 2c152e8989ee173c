//! Our own node: how it is found, started and asked for its status.
//! What its answers mean in a history is in `client`; processes are the cluster's business.

mod client;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use node::client::{Client, ClientConfig};
use node::dump::{Dump, run_dump};
use node::raft::reconfigure::Change as Reconfigure;
use node::trace::{TraceEvent, TraceLine, TraceRole};

use super::{Change, Image, Membership, Place, Session, Status, System, ToldClocks, ToldMoment, Transport};
use crate::NodeId;
use crate::anchor::Moment;
use crate::clock::{Bending, file};
use crate::cluster::{Addresses, Leader};
use crate::disk::Store;
use crate::host::monotonic_ns;
use crate::planted;
use crate::run_dir::RunDir;
use crate::run_file::Binary;
use crate::spec::Spec;
use crate::translate::{Damage, Election, TranslateError, translate_all};
use client::NodeSession;

/// How long a client waits for one node: a few round trips of a delayed link, less than an election.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(200);

/// How our node ends after a failed write or flush.
const STORAGE_FAILED: i32 = 74;
/// And if it finds what it cannot make sense of, or too little to know what it promised.
const DATA_REFUSED: i32 = 65;
/// How many times fewer entries stay in the log before a snapshot than there are between two: little, so that who was away
/// for a while needs one.
const TRAILING: u64 = 5;
/// With more entries between two snapshots nobody misses enough to need one while a fault lasts.
const SNAPSHOT_ENTRIES_MAX: u64 = 5_000;

/// Why there is no usable `node`. The way out of each is [`BinaryError::hint`].
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// No such file.
    #[error("no node executable at {}", .0.display())]
    Missing(PathBuf),
    /// It did not tell its build id.
    #[error("{} does not tell its build id: {reason}", path.display())]
    Silent {
        /// The executable.
        path: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// It was built from other sources than this harness.
    #[error("{} has build id {found:?}, this harness was built with {expected:?}", path.display())]
    Stale {
        /// The executable.
        path: PathBuf,
        /// Its build id and features.
        found: String,
        /// `node::BUILD_ID` and the features that are needed.
        expected: String,
    },
}

impl BinaryError {
    /// What to type.
    pub fn hint(&self) -> &'static str {
        "cargo build --release"
    }
}

/// The `node` beside this executable, checked to be an honest one of the same build.
///
/// # Errors
/// When there is none, or it was built from other sources or with planted bugs.
pub fn find_binary() -> Result<PathBuf, BinaryError> {
    let name = format!("node{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().map(|exe| exe.with_file_name(&name));
    let path = beside.unwrap_or_else(|_| PathBuf::from(name));
    check_build(&path, "")?;
    Ok(path)
}

/// Checks that an executable has `node::BUILD_ID` and was built with exactly `features` (`planted`, or none).
///
/// # Errors
/// When it does not exist, does not say, or has another build id or other features.
pub fn check_build(path: &Path, features: &str) -> Result<(), BinaryError> {
    let silent = |reason: String| BinaryError::Silent { path: path.to_owned(), reason };
    let output = Command::new(path).arg("--build-id").output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BinaryError::Missing(path.to_owned()),
        _ => silent(error.to_string()),
    })?;
    if !output.status.success() {
        return Err(silent(format!("{} from `--build-id`", output.status)));
    }
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let expected = format!("{} {features}", node::BUILD_ID).trim().to_owned();
    if found == expected {
        Ok(())
    } else {
        Err(BinaryError::Stale { path: path.to_owned(), found, expected })
    }
}

/// Whether snapshots so many entries apart catch up a node that was away for as long as a fault lasts.
pub fn snapshots_are_frequent(entries: u64) -> bool {
    entries <= SNAPSHOT_ENTRIES_MAX
}

/// How our node is started.
#[derive(Clone, Debug)]
pub struct Whitewater {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Cluster name; nodes drop what comes from another.
    pub cluster_name: String,
    /// Planted bug, for a node that was built with them.
    pub bug: Option<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log_level: String,
    /// Whether nodes write traces.
    pub trace: bool,
    /// Entries after which a node writes a snapshot; its own default if absent.
    pub snapshot_entries: Option<u64>,
    /// Further flags.
    pub node_args: Vec<String>,
    /// Whether nodes ask a file how wrong their clocks are.
    pub clock_file: bool,
    /// Whether nodes keep in their memory what they have not flushed.
    pub unsynced_in_memory: bool,
}

impl Whitewater {
    /// Our node as a run of this spec starts it.
    pub fn of(spec: &Spec, binary: PathBuf) -> Whitewater {
        Whitewater {
            binary,
            cluster_name: format!("whitewater-{:x}", spec.seed),
            bug: spec.bug.clone(),
            log_level: "info".to_owned(),
            trace: true,
            snapshot_entries: spec.snapshot_entries,
            node_args: spec.node_args.clone(),
            clock_file: spec.clocks == Bending::File,
            unsynced_in_memory: spec.disk == Store::Memory,
        }
    }

    /// A client that orders whoever leads.
    fn orders(&self, addresses: &Addresses, timeout: Duration) -> Result<Client, String> {
        let addrs = (1..=addresses.nodes()).map(|node| addresses.node(node)).collect();
        Client::new(self.config(ATTEMPT_TIMEOUT, timeout), addrs).map_err(|error| error.to_string())
    }

    fn config(&self, attempt_timeout: Duration, operation_timeout: Duration) -> ClientConfig {
        ClientConfig {
            cluster: self.cluster_name.clone(),
            attempt_timeout,
            operation_timeout,
            ..ClientConfig::default()
        }
    }
}

/// So much of a trace before a boot holds what was made last.
const BEFORE_BYTES: u64 = 256 << 10;
/// So much of the end of a trace holds its newest line.
const TRACE_TAIL_BYTES: u64 = 16 << 10;

impl System for Whitewater {
    fn name(&self) -> &str {
        "whitewater"
    }

    fn functions(&self) -> Vec<String> {
        ["read", "write", "cas", "append", "add"].map(str::to_owned).to_vec()
    }

    fn transport(&self) -> Transport {
        Transport::Udp
    }

    fn survives_wipe(&self) -> bool {
        // A node that forgot its vote may vote twice in a term: Raft needs its disk (§5.2).
        false
    }

    fn kept_files(&self) -> &[&str] {
        &["trace.jsonl"]
    }

    fn expected_exits(&self) -> &[i32] {
        &[STORAGE_FAILED]
    }

    fn refused_exits(&self) -> &[i32] {
        &[DATA_REFUSED]
    }

    /// The command line of `node serve`.
    fn command(&self, place: &Place<'_>) -> io::Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg(place.node.to_string());
        let peers = place.addresses.peers(place.node, place.proxied);
        let founders = place.addresses.founders();
        if place.node <= founders {
            command.args(peers[..founders as usize].iter().map(SocketAddr::to_string));
        } else {
            command.arg("--join").arg("--listen").arg(place.addresses.node(place.node).to_string());
        }
        // The log says where the others are; through the harness they are elsewhere.
        let listed = |id: NodeId| id == place.node || (place.node <= founders && id <= founders);
        for (id, peer) in (1..).zip(&peers).filter(|(id, _)| !listed(*id)) {
            command.arg("--peer").arg(format!("{id}={peer}"));
        }
        command.arg("--data-dir").arg(place.run_dir.data(place.node));
        command.arg("--cluster").arg(&self.cluster_name);
        command.arg("--log-level").arg(&self.log_level);
        if self.trace {
            command.arg("--trace");
        }
        if let Some(entries) = self.snapshot_entries {
            command.arg("--snapshot-entries").arg(entries.to_string());
            command.arg("--trailing-entries").arg((entries / TRAILING).to_string());
        }
        if let Some(path) = self.clock_file(place.run_dir, place.node) {
            file::create(&path)?;
            command.arg("--clock-file").arg(path);
        }
        if self.unsynced_in_memory {
            command.arg("--unsynced-in-memory");
        }
        command.args(&self.node_args);
        if let Some(bug) = &self.bug {
            command.arg("--planted").arg(bug);
        }
        Ok(command)
    }

    fn client_addr(&self, addresses: &Addresses, node: NodeId) -> SocketAddr {
        addresses.node(node)
    }

    fn tells_leader(&self) -> bool {
        true
    }

    fn tells_applied(&self) -> bool {
        true
    }

    fn tells_state(&self) -> bool {
        true
    }

    fn status(&self, place: &Place<'_>, timeout: Duration) -> Option<Status> {
        let addr = place.addresses.node(place.node);
        let status = Client::new(self.config(timeout, timeout), vec![addr]).ok()?.status(addr)?;
        // Addresses are the run's own, but a wrong answer here would blame the wrong node later.
        (status.id == place.node).then(|| Status {
            id: status.id.to_string(),
            leads: status.role == "leader",
            leader: status.leader.map(|leader| leader.to_string()),
            term: status.term,
            commit_index: status.commit_index,
            last_applied: status.last_applied,
            first_index: status.first_index,
            last_index: status.last_index,
            membership: Some(membership(&status)),
        })
    }

    /// As `node dump` has it: by the rules of this build, whatever the node itself made of its log.
    fn image(&self, dir: &RunDir, node: NodeId, until: u64) -> Option<Result<Image, String>> {
        let dump = run_dump(&dir.data(node), false, Some(until), &mut io::sink());
        Some(match dump.map_err(|error| error.to_string()) {
            Ok(Dump { index, hash, .. }) if index == until => Ok(Image { index, hash }),
            Ok(Dump { index, .. }) => Err(format!("they end at index {index}, before {until}")),
            Err(why) => Err(why),
        })
    }

    fn takes_orders(&self) -> bool {
        true
    }

    fn reconfigure(&self, addresses: &Addresses, change: Change, timeout: Duration) -> Result<(), String> {
        let change = match change {
            Change::Add(id) => Reconfigure::Add(id, addresses.node(id).to_string()),
            Change::Promote(id) => Reconfigure::Promote(id),
            Change::Remove(id) => Reconfigure::Remove(id),
        };
        self.orders(addresses, timeout)?.reconfigure(&change).map(drop).map_err(str::to_owned)
    }

    fn transfer_leader(
        &self,
        addresses: &Addresses,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, String> {
        self.orders(addresses, timeout)?.transfer_leader(to).map_err(str::to_owned)
    }

    fn was_handed_over(&self, dir: &RunDir, from: Leader, to: NodeId) -> bool {
        let Leader { node, term } = from;
        let says = |node, words: String| lines_from(&dir.stderr(node), 0).any(|line| line.ends_with(&words));
        says(node, format!("a client asks to hand leadership of term {term} over to n{to}"))
            && says(to, format!("leader n{node} of term {term} asks this node to stand for election"))
    }

    fn installs_snapshots(&self) -> bool {
        self.trace && self.snapshot_entries.is_some_and(snapshots_are_frequent)
    }

    /// Of a boot behind these bytes of the trace, by the records that the node told of before, and those that it recovered.
    fn lost_records(&self, dir: &RunDir, node: NodeId, from: u64) -> Option<u64> {
        let trace = dir.node_trace(node);
        let parsed = |line: String| serde_json::from_str::<TraceLine>(&line).ok().map(|line| line.event);
        let recovered = lines_from(&trace, from).filter_map(parsed).find_map(|event| match event {
            TraceEvent::Boot { lsn, .. } => Some(lsn),
            _ => None,
        })?;
        let begin = from.saturating_sub(BEFORE_BYTES);
        let mut before = Vec::new();
        let mut file = File::open(&trace).ok()?;
        file.seek(SeekFrom::Start(begin)).ok()?;
        file.take(from - begin).read_to_end(&mut before).ok()?;
        let before = String::from_utf8_lossy(&before);
        let made = before.lines().map(str::to_owned).filter_map(parsed);
        let made = made.filter_map(|event| match event {
            TraceEvent::Append { lsn, chains, .. } => Some(lsn + (chains.len() as u64).saturating_sub(1)),
            TraceEvent::HardState { lsn, .. }
            | TraceEvent::Truncate { lsn, .. }
            | TraceEvent::Install { lsn, .. } => Some(lsn),
            _ => None,
        });
        Some(made.max().unwrap_or_default().saturating_sub(recovered))
    }

    fn record_bytes(&self, dir: &RunDir, node: NodeId) -> u64 {
        std::fs::metadata(dir.node_trace(node)).map_or(0, |trace| trace.len())
    }

    fn tells_moment(&self, moment: Moment) -> bool {
        moment.is_told()
    }

    fn moment_files(&self, dir: &RunDir, node: NodeId) -> Vec<PathBuf> {
        vec![dir.node_trace(node)]
    }

    fn moment(&self, line: &str) -> Option<ToldMoment> {
        // Most lines tell of entries, and parsing them all would take more than a follower may.
        if !line.contains("vote_sent") && !line.contains("leader") {
            return None;
        }
        let TraceLine { at, event, .. } = serde_json::from_str(line).ok()?;
        let (moment, term) = match event {
            TraceEvent::Role { role: TraceRole::Leader, term } => (Moment::Leader, term),
            TraceEvent::VoteSent { term, .. } => (Moment::Vote, term),
            _ => return None,
        };
        Some(ToldMoment { moment, at: Some(at), term: Some(term) })
    }

    fn installs(&self, dir: &RunDir, node: NodeId, from: u64) -> u64 {
        let install = |line: &String| {
            let parsed: Option<TraceLine> = serde_json::from_str(line).ok();
            parsed.is_some_and(|line| matches!(line.event, TraceEvent::Install { .. }))
        };
        lines_from(&dir.node_trace(node), from).filter(install).count() as u64
    }

    fn clock_file(&self, dir: &RunDir, node: NodeId) -> Option<PathBuf> {
        self.clock_file.then(|| dir.clock(node))
    }

    /// By the stamps of the newest line of its trace, and by when the kernel says that the file was written last.
    fn told_clocks(&self, dir: &RunDir, node: NodeId) -> Option<ToldClocks> {
        let path = dir.node_trace(node);
        let length = std::fs::metadata(&path).ok()?.len();
        let last = lines_from(&path, length.saturating_sub(TRACE_TAIL_BYTES))
            .filter_map(|line| serde_json::from_str::<TraceLine>(&line).ok());
        let TraceLine { at, shown, .. } = last.last()?;
        let written = std::fs::metadata(&path).ok()?.modified().ok()?;
        let age_ns = written.elapsed().unwrap_or_default().as_nanos() as i128;
        let written_ns = written.duration_since(UNIX_EPOCH).ok()?.as_nanos() as i128;
        let ms = |shown_ns: u64, written_ns: i128| (i128::from(shown_ns) - written_ns) as f64 / 1e6;
        let monotonic_ns = i128::from(monotonic_ns()) - age_ns;
        Some(ToldClocks {
            monotonic_ms: ms(shown.map_or(at, |shown| shown.monotonic), monotonic_ns),
            wall_ms: shown.map(|shown| ms(shown.wall, written_ns)),
        })
    }

    fn joint_entries(&self, dir: &RunDir, node: NodeId, (from, to): (u64, u64)) -> u64 {
        let told: BTreeMap<u64, bool> = lines_from(&dir.stderr(node), 0)
            .filter_map(|line| {
                let (index, membership) = line.split_once("membership since entry ")?.1.split_once(": ")?;
                Some((index.parse().ok()?, membership.contains(", outgoing ")))
            })
            .filter(|(index, _)| (from..=to).contains(index))
            .collect();
        let told: Vec<_> = told.into_iter().collect();
        told.windows(2).filter(|pair| pair[0].1).map(|pair| pair[1].0 - pair[0].0).sum()
    }

    fn session(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>> {
        Ok(Box::new(NodeSession::new(self.config(ATTEMPT_TIMEOUT, patience), nodes)?))
    }

    fn binary(&self) -> io::Result<Binary> {
        Binary::describe(&self.binary, if self.bug.is_some() { planted::FEATURE } else { "" })
    }

    fn translate(
        &self,
        dir: &RunDir,
        nodes: u32,
        damages: &[Damage],
    ) -> Result<Option<Vec<Election>>, TranslateError> {
        translate_all(dir, nodes, damages).map(Some)
    }
}

/// Who belongs to the cluster by what a node says. A voter of either half of a change votes.
fn membership(status: &node::client::Status) -> Membership {
    let ids = |votes: bool| {
        let of_it = status.members.iter().filter(move |member| votes == votes_as(&member.role));
        of_it.map(|member| member.id).collect()
    };
    Membership {
        index: status.membership_index,
        voters: ids(true),
        learners: ids(false),
        joint: status.joint,
    }
}

fn votes_as(role: &str) -> bool {
    role == "voter" || role == "outgoing"
}

/// The lines of a file behind its first `from` bytes; none if it cannot be read.
fn lines_from(path: &Path, from: u64) -> impl Iterator<Item = String> + use<> {
    let behind = File::open(path).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
    behind
        .into_iter()
        .flat_map(|file| BufReader::new(file).split(b'\n').map_while(Result::ok))
        .map(|line| String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::write_script;

    /// Checks a script in place of `node` that prints `printed` and exits with `exit`.
    fn check(printed: &str, exit: i32, features: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        write_script(&path, &format!("echo '{printed}'\nexit {exit}"));
        check_build(&path, features).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_same_build_with_the_same_features_is_taken() {
        let id = node::BUILD_ID;
        assert_eq!(check(id, 0, ""), Ok(()));
        assert_eq!(check(&format!("{id} planted"), 0, "planted"), Ok(()));
        assert!(check(&format!("{id} planted"), 0, "").unwrap_err().contains("planted"));
        assert!(check(id, 0, "planted").unwrap_err().contains("planted"));
        assert!(check("0123", 0, "").unwrap_err().contains("\"0123\""));
        assert!(check(id, 1, "").unwrap_err().contains("does not tell its build id"));
        let missing = check_build(Path::new("/nonexistent/node"), "").unwrap_err();
        assert_eq!(missing.to_string(), "no node executable at /nonexistent/node");
        assert_eq!(missing.hint(), "cargo build --release");
    }

    #[test]
    fn a_nodes_command_line_is_complete() {
        let addresses = Addresses::claim_with_spares(2, 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        (2..=3).for_each(|node| std::fs::create_dir_all(run_dir.node(node)).unwrap());
        let place = Place { node: 2, addresses: &addresses, proxied: true, run_dir: &run_dir, life: [0; 2] };
        let system = Whitewater {
            binary: PathBuf::from("node"),
            cluster_name: "c".to_owned(),
            bug: Some("A03".to_owned()),
            log_level: "info".to_owned(),
            trace: true,
            snapshot_entries: Some(50),
            node_args: vec!["--lease-reads".to_owned()],
            clock_file: true,
            unsynced_in_memory: false,
        };
        let check = |node: NodeId, expected: &str| {
            let command = system.command(&Place { node, ..place }).unwrap();
            let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
            let rest = format!(
                "--data-dir {home}/data --cluster c --log-level info --trace --snapshot-entries 50 --trailing-entries 10 \
                 --clock-file {home}/clock --lease-reads --planted A03",
                home = run_dir.node(node).display()
            );
            assert_eq!(args.join(" "), format!("serve {node} {expected} {rest}"));
        };
        let at = |node| addresses.node(node);
        let through = |from, to| addresses.proxy(from, to);
        check(2, &format!("{} {} --peer 3={}", through(2, 1), at(2), through(2, 3)));
        let peers = format!("--peer 1={} --peer 2={}", through(3, 1), through(3, 2));
        check(3, &format!("--join --listen {} {peers}", at(3)));
    }

    #[test]
    fn what_a_node_wrote_tells_of_installs_and_of_entries_under_two_majorities() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let line = |event| serde_json::to_string(&TraceLine { at: 1, shown: None, event }).unwrap() + "\n";
        let durable = line(TraceEvent::Durable { lsn: 1 });
        let install = line(TraceEvent::Install { lsn: 1, last_index: 7, term: 1, chain: 2, kept: false });
        write(run_dir.node_trace(1), &format!("{install}{durable}{install}{{\"at\""));
        let system = Whitewater { trace: true, ..ours(Some(50)) };
        assert_eq!(system.installs(&run_dir, 1, 0), 2);
        assert_eq!(system.installs(&run_dir, 1, install.len() as u64), 1);
        assert_eq!(system.installs(&run_dir, 2, 0), 0, "no trace");
        assert!(system.record_bytes(&run_dir, 1) > install.len() as u64);
        let said = "x n1 info  membership since entry 5: voters n1 n2, outgoing n1\n\
                    x n1 info  membership since entry 5: voters n1 n2, outgoing n1\n\
                    x n1 info  membership since entry 9: voters n1 n2\n\
                    x n1 info  membership since entry 12: voters n1, outgoing n1 n2\n\
                    x n1 info  membership since entry 15: voters n1\n";
        write(run_dir.stderr(1), said);
        assert_eq!(system.joint_entries(&run_dir, 1, (0, 20)), 4 + 3);
        assert_eq!(system.joint_entries(&run_dir, 1, (6, 20)), 3);
        assert_eq!(system.joint_entries(&run_dir, 1, (9, 12)), 0);
    }

    #[test]
    fn leadership_was_handed_over_if_both_say_so_of_that_term() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        let told = "x n2 info  leader n1 of term 4 asks this node to stand for election\n";
        let stopped = "x n1 info  handing leadership of term 4 over to n2\n";
        let ordered = "x n1 info  a client asks to hand leadership of term 4 over to n2\n";
        let check = |of_n1: &str, of_n2: &str, term| {
            for (node, said) in [(1, of_n1), (2, of_n2)] {
                std::fs::create_dir_all(run_dir.node(node)).unwrap();
                std::fs::write(run_dir.stderr(node), said).unwrap();
            }
            ours(None).was_handed_over(&run_dir, Leader { node: 1, term }, 2)
        };
        assert!(check(&(ordered.to_owned() + stopped), told, 4));
        assert!(!check(ordered, told, 5), "that was another term");
        assert!(!check(stopped, told, 4), "it was told to stop, not to hand over");
        assert!(!check(ordered, "", 4), "the other never heard of it");
    }

    #[test]
    fn only_frequent_snapshots_catch_anybody_up_while_a_fault_lasts() {
        assert!(ours(Some(50)).installs_snapshots() && ours(Some(5_000)).installs_snapshots());
        assert!(!ours(Some(5_001)).installs_snapshots() && !ours(None).installs_snapshots());
    }

    fn ours(snapshot_entries: Option<u64>) -> Whitewater {
        Whitewater {
            binary: PathBuf::from("node"),
            cluster_name: "c".to_owned(),
            bug: None,
            log_level: "info".to_owned(),
            trace: true,
            snapshot_entries,
            node_args: Vec::new(),
            clock_file: false,
            unsynced_in_memory: false,
        }
    }
}
