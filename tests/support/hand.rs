//! Nodes as a person starts them, one `node serve` a terminal: without a harness, without proxies.
//! What they answer is for the tests to judge.

use std::fs::OpenOptions;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use harness::cluster::Addresses;
use nix::sys::signal::Signal;

use crate::binaries::binaries;
use crate::output::Said;
use crate::poll;
use crate::processes::signal;
use crate::sandbox::Sandbox;

/// A cluster of terminals.
#[derive(Debug)]
pub struct Hand<'a> {
    sandbox: &'a Sandbox,
    name: String,
    addresses: Vec<SocketAddr>,
    /// The first so many found the cluster; the others join it.
    founders: usize,
    flags: Vec<String>,
    nodes: Vec<Option<Child>>,
    /// Keeps runs of a harness away from the addresses.
    _claim: Addresses,
}

impl<'a> Hand<'a> {
    /// `count` terminals in which nothing runs yet. Their data and logs go below a run directory called `name`.
    ///
    /// # Panics
    /// When this machine gives no loopback addresses.
    pub fn new(sandbox: &'a Sandbox, name: &str, count: u32) -> Hand<'a> {
        let claim = Addresses::claim(count).expect("the loopback interface has addresses");
        let addresses = (1..=count).map(|id| claim.node(id)).collect();
        std::fs::create_dir_all(sandbox.out(name)).expect("runs go there");
        let nodes = (0..count).map(|_| None).collect();
        let (founders, flags) = (count as usize, Vec::new());
        Hand { sandbox, name: name.to_owned(), addresses, founders, flags, nodes, _claim: claim }
    }

    /// The same, with the first `founders` alone to found the cluster.
    #[must_use]
    pub fn founded_by(mut self, founders: usize) -> Hand<'a> {
        self.founders = founders;
        self
    }

    /// The same, with more flags for every `node serve`.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Hand<'a> {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// Where node `id` (from 1) is.
    pub fn address(&self, id: usize) -> SocketAddr {
        self.addresses[id - 1]
    }

    /// The data directory of node `id`.
    pub fn data(&self, id: usize) -> PathBuf {
        self.sandbox.out(&self.name).join(format!("n{id}"))
    }

    /// `node serve ID ADDRESS…`, or `--join`, not started yet.
    pub fn serve(&self, id: usize) -> Command {
        let mut command = self.sandbox.command(&binaries().node);
        command.arg("serve").arg(id.to_string());
        if id <= self.founders {
            command.args(self.addresses[..self.founders].iter().map(SocketAddr::to_string));
        } else {
            command.arg("--join").arg("--listen").arg(self.address(id).to_string());
        }
        command.arg("--data-dir").arg(self.data(id)).args(&self.flags);
        command
    }

    /// Sends a signal to node `id`, which lives on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, id: usize, with: Signal) {
        let child = self.nodes[id - 1].as_ref().expect("the node runs");
        signal(child.id().cast_signed(), with);
    }

    /// Starts node `id`, its log appended to a file.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&mut self, id: usize) {
        self.start_with(id, &[]);
    }

    /// Starts node `id` with further flags.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(&mut self, id: usize, flags: &[&str]) {
        let log =
            OpenOptions::new().create(true).append(true).open(self.log_path(id)).expect("logs go there");
        let child = self
            .serve(id)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the node can be started");
        self.nodes[id - 1] = Some(child);
    }

    /// Sends a signal to node `id` and waits for its end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn end(&mut self, id: usize, with: Signal) -> ExitStatus {
        let mut child = self.nodes[id - 1].take().expect("the node runs");
        signal(child.id().cast_signed(), with);
        poll::until("the end of a node", || child.try_wait().expect("it is our child"))
    }

    /// Whether every started node still runs.
    pub fn all_run(&mut self) -> bool {
        self.nodes.iter_mut().flatten().all(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// What node `id` has logged.
    pub fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    fn log_path(&self, id: usize) -> PathBuf {
        self.sandbox.out(&self.name).join(format!("n{id}.log"))
    }

    /// Runs `node client --addr (node ID) WORDS…`, with more time than any machine needs.
    pub fn client(&self, id: usize, words: &[&str]) -> Said {
        let addr = self.address(id).to_string();
        self.node(&[&["client", "--timeout", "30s", "--addr", &addr], words].concat())
    }

    /// Runs `node WORDS…`.
    pub fn node(&self, words: &[&str]) -> Said {
        Said::of(self.sandbox.command(&binaries().node).args(words))
    }

    /// Runs `node COMMAND (data directory of ID) FLAGS…`.
    pub fn look(&self, command: &str, id: usize, flags: &[&str]) -> Said {
        let data = self.data(id);
        let program = &binaries().node;
        Said::of(self.sandbox.command(program).arg(command).arg::<&Path>(&data).args(flags))
    }

    /// The status of node `id`, once it answers.
    ///
    /// # Panics
    /// When it never does.
    pub fn status(&self, id: usize) -> serde_json::Value {
        let addr = self.address(id).to_string();
        poll::until("the status of a node", || {
            let said = self.node(&["status", "--json", "--addr", &addr]);
            let mut line: serde_json::Value = serde_json::from_str(&said.stdout).ok()?;
            (said.code == Some(0)).then(|| line["status"].take())
        })
    }

    /// The id of the leader, once the nodes `ids` all follow one.
    ///
    /// # Panics
    /// When they never do.
    pub fn leader(&self, ids: &[usize]) -> usize {
        poll::until("a leader", || {
            let leaders: Vec<_> = ids.iter().map(|id| self.status(*id)["leader"].as_u64()).collect();
            let first = (*leaders.first()?)? as usize;
            let agreed = leaders.iter().all(|leader| *leader == Some(first as u64));
            (agreed && self.status(first)["role"] == "leader").then_some(first)
        })
    }

    /// Sends a datagram to node `id`, from nobody it knows.
    ///
    /// # Panics
    /// When the loopback interface does not take it.
    pub fn throw(&self, socket: &UdpSocket, id: usize, datagram: &[u8]) {
        socket.send_to(datagram, self.address(id)).expect("the loopback interface takes datagrams");
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            // It may have ended by itself. SIGKILL ends a stopped one, too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
