//! Systems under test: how one is started, asked and talked to, for ours and for those that a file describes.
//! What is done to their processes is the cluster's business, what clients ask the workload's.

mod described;
pub mod description;
mod http;
mod log;
pub mod maelstrom;
mod pointer;
mod program;
mod template;
pub mod whitewater;
mod wire;

pub use described::{Described, DescribedError};
pub use log::Role;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use checker::history::EventType;
use serde_json::Value;

use crate::NodeId;
use crate::anchor::Moment;
use crate::cluster::{Addresses, Leader};
use crate::run_dir::RunDir;
use crate::run_file::Binary;
use crate::translate::{Damage, Election, TranslateError};
use crate::workload::Operation;

/// How far the clocks of a node were from the time by what it recorded, milliseconds; positive is ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldClocks {
    /// CLOCK_MONOTONIC.
    pub monotonic_ms: f64,
    /// CLOCK_REALTIME, if it records that, too.
    pub wall_ms: Option<f64>,
}

/// A moment that a fault may wait for, by a line that a node wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldMoment {
    /// Which.
    pub moment: Moment,
    /// When, in nanoseconds of the node's own CLOCK_MONOTONIC, if the line says so.
    pub at: Option<u64>,
    /// The term, if the line says so.
    pub term: Option<u64>,
}

/// What the processes of a run, and the clients that talk to them, are.
pub trait System: Debug + Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// The text of its description, if a file describes it.
    fn description(&self) -> Option<&str> {
        None
    }

    /// Functions of a history that its clients can perform: `read`, `write`, `cas`, `append`, `add`.
    fn functions(&self) -> Vec<String>;

    /// How its nodes talk to each other, and so which faults its links can have.
    fn transport(&self) -> Transport;

    /// Of each node the addresses at which others take it to be, and those at which it is: the streams that pass the harness.
    fn fronts(&self, _addresses: &Addresses) -> Vec<(NodeId, SocketAddr, SocketAddr)> {
        Vec::new()
    }

    /// Whether a node that lost its data directory comes back as a member.
    fn survives_wipe(&self) -> bool;

    /// How many nodes it serves without, whichever they are, if not any minority.
    fn tolerates(&self) -> Option<u32> {
        None
    }

    /// Whether a node that is killed loses what it knows, and so is killed only by a fault that was asked for.
    fn forgets(&self) -> bool {
        false
    }

    /// Names of files in a data directory that are no part of the data, such as a trace: no fault of a disk reaches them.
    fn kept_files(&self) -> &[&str] {
        &[]
    }

    /// Exit codes of a node that could not go on because of its disk or a limit.
    fn expected_exits(&self) -> &[i32] {
        &[]
    }

    /// Exit codes of a node that refuses damaged data when it starts: its disk has to be restored.
    fn refused_exits(&self) -> &[i32] {
        &[]
    }

    /// Exit codes of a node that refuses the torn end of a file when it starts after a power loss: it gets back what it had flushed.
    fn torn_exits(&self) -> &[i32] {
        &[]
    }

    /// Files that a node finds at each start: where they are, and what is in them.
    ///
    /// # Errors
    /// A path that goes into one is no text.
    fn files(&self, _place: &Place<'_>) -> io::Result<Vec<(PathBuf, String)>> {
        Ok(Vec::new())
    }

    /// The command that starts a node; the files that it reads are there by then.
    ///
    /// # Errors
    /// A directory cannot be made.
    fn command(&self, place: &Place<'_>) -> io::Result<Command>;

    /// Where clients reach a node.
    fn client_addr(&self, addresses: &Addresses, node: NodeId) -> SocketAddr;

    /// Whether [`System::status`] tells who leads.
    fn tells_leader(&self) -> bool;

    /// Whether it also tells whom a node follows.
    fn tells_followed(&self) -> bool {
        self.tells_leader()
    }

    /// Whether [`System::status`] tells what a node has applied.
    fn tells_applied(&self) -> bool;

    /// Whether [`Session::local`] tells what a node itself holds.
    fn tells_state(&self) -> bool {
        false
    }

    /// The whole state that the files of a node that is dead come to after the entry `until`, or why they do not tell it; `None` if this
    /// system's files tell nothing.
    fn image(&self, _dir: &RunDir, _node: NodeId, _until: u64) -> Option<Result<Image, String>> {
        None
    }

    /// What a node says of itself; `None` if it does not answer in time, or is not ready.
    fn status(&self, place: &Place<'_>, timeout: Duration) -> Option<Status>;

    /// A client of these nodes, for one worker at a time. An operation may take as long as `patience`.
    ///
    /// # Errors
    /// No socket can be had, or no driver started.
    fn session(&self, nodes: &[(NodeId, SocketAddr)], patience: Duration) -> io::Result<Box<dyn Session>>;

    /// Whether [`System::role`] tells anything.
    fn prints_roles(&self) -> bool {
        false
    }

    /// The role that a line which a node printed says it has from then on.
    fn role(&self, _line: &str) -> Option<Role> {
        None
    }

    /// What each key holds by what a node printed; `None` if nobody can ask for it otherwise and no line tells of it either.
    fn printed(&self, _dir: &RunDir, _node: NodeId) -> Option<BTreeMap<String, String>> {
        None
    }

    /// Texts that mean trouble in the output of a node.
    fn trouble(&self) -> &[String] {
        &[]
    }

    /// Why its clients can do nothing any more, if that is so: an error of the tool.
    fn broken(&self) -> Option<String> {
        None
    }

    /// Whether [`System::reconfigure`] and [`System::transfer_leader`] do something, and [`System::status`] tells of it.
    fn takes_orders(&self) -> bool {
        false
    }

    /// Asks whoever leads to change the membership. That it was taken does not say that it is done.
    ///
    /// # Errors
    /// Nobody took the order in time; in the system's words.
    fn reconfigure(&self, _addresses: &Addresses, _change: Change, _timeout: Duration) -> Result<(), String> {
        Err("this system has no membership to change".to_owned())
    }

    /// Asks whoever leads to hand over to a node, or to the one that is furthest; to whom it will.
    ///
    /// # Errors
    /// Nobody took the order in time; in the system's words.
    fn transfer_leader(
        &self,
        _addresses: &Addresses,
        _to: Option<NodeId>,
        _timeout: Duration,
    ) -> Result<NodeId, String> {
        Err("this system transfers no leadership".to_owned())
    }

    /// The names of what an operator does to it while it runs, sorted.
    fn commands(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The command of this name, for a node.
    ///
    /// # Errors
    /// There is none, or it cannot be made for that node.
    fn operation(&self, name: &str, _place: &Place<'_>) -> io::Result<Command> {
        Err(io::Error::other(format!("this system has no command {name:?}")))
    }

    /// Whether a node that misses enough is caught up by a snapshot, and [`System::installs`] tells of it.
    fn installs_snapshots(&self) -> bool {
        false
    }

    /// How far the record is in which a node tells of the snapshots that it installed: where [`System::installs`] is to begin.
    fn record_bytes(&self, _dir: &RunDir, _node: NodeId) -> u64 {
        0
    }

    /// How many records of its log a node that was started since its record was `from` bytes long did not find any more, though it had
    /// told of them; `None` as long as it does not say.
    fn lost_records(&self, _dir: &RunDir, _node: NodeId, _from: u64) -> Option<u64> {
        None
    }

    /// Whether lines of [`System::moment_files`] tell of this moment.
    fn tells_moment(&self, _moment: Moment) -> bool {
        false
    }

    /// The files to which a node writes the lines for [`System::moment`].
    fn moment_files(&self, _dir: &RunDir, _node: NodeId) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What a line that a node wrote tells of a moment that a fault may wait for.
    fn moment(&self, _line: &str) -> Option<ToldMoment> {
        None
    }

    /// How many snapshots a node says that it installed, since its record was `from` bytes long.
    fn installs(&self, _dir: &RunDir, _node: NodeId, _from: u64) -> u64 {
        0
    }

    /// How far the clocks of a node were from the time when it wrote the newest line of its record; of its wall clock where it records
    /// that, too. `None` if it records no time.
    fn told_clocks(&self, _dir: &RunDir, _node: NodeId) -> Option<ToldClocks> {
        None
    }

    /// The file that a node asks how wrong its clocks are; `None` if it asks none.
    fn clock_file(&self, _dir: &RunDir, _node: NodeId) -> Option<PathBuf> {
        None
    }

    /// Whether the nodes themselves say that leader `from`, of that term, was ordered to hand over to `to`, and that `to` stood for election
    /// because that leader told it to: an election for any other reason, a stop of the leader among them, is none.
    fn was_handed_over(&self, _dir: &RunDir, _from: Leader, _to: NodeId) -> bool {
        false
    }

    /// The entries that were appended while two majorities were needed, by the changes of membership between the entries
    /// `range` that a node tells of.
    fn joint_entries(&self, _dir: &RunDir, _node: NodeId, _range: (u64, u64)) -> u64 {
        0
    }

    /// The program that is run.
    ///
    /// # Errors
    /// It cannot be read.
    fn binary(&self) -> io::Result<Binary>;

    /// Makes what a judge reads of what nodes wrote, and of what was done to their disks, when all of them are dead; the elections that they tell of, if they do.
    ///
    /// # Errors
    /// What they wrote is malformed.
    fn translate(
        &self,
        dir: &RunDir,
        nodes: u32,
        damages: &[Damage],
    ) -> Result<Option<Vec<Election>>, TranslateError>;
}

/// Where a node lives.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node.
    pub node: NodeId,
    /// The addresses of the run.
    pub addresses: &'a Addresses,
    /// Whether nodes reach each other through the harness.
    pub proxied: bool,
    /// The run directory.
    pub run_dir: &'a RunDir,
    /// Where in its stderr and its stdout the present life of the node begins, bytes.
    pub life: [u64; 2],
}

/// How nodes talk to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: each may be lost, delayed, duplicated, overtaken, damaged.
    Udp,
    /// Streams: their bytes may be held and delayed, and whole connections reset.
    Tcp,
    /// Not through the harness.
    Direct,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it calls itself.
    pub id: String,
    /// Whether it leads.
    pub leads: bool,
    /// The [`Status::id`] of the node that it follows or is.
    pub leader: Option<String>,
    /// Its term.
    pub term: u64,
    /// What it knows to be committed.
    pub commit_index: u64,
    /// What it has applied.
    pub last_applied: u64,
    /// First entry of its log, 0 if it does not say.
    pub first_index: u64,
    /// Last entry of its log, 0 if it does not say.
    pub last_index: u64,
    /// Who belongs to the cluster, if it says so.
    pub membership: Option<Membership>,
}

/// Who belongs to a cluster, as a node's log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The entry since which they do.
    pub index: u64,
    /// Those who vote.
    pub voters: BTreeSet<NodeId>,
    /// Those who do not.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of voters is half done.
    pub joint: bool,
}

/// A change of who belongs to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A further node gets the log, and no vote.
    Add(NodeId),
    /// A node that was added gets a vote.
    Promote(NodeId),
    /// A node is taken out.
    Remove(NodeId),
}

/// A client that performs one operation at a time.
pub trait Session: Debug + Send {
    /// Performs `operation` on behalf of `process`, first through the node at position `first` of those that it was made for.
    fn perform(&mut self, process: u64, operation: &Operation, first: usize) -> Completion;

    /// What the node at this position itself has applied for a key; `None` if it does not say.
    fn local(&mut self, position: usize, key: &str) -> Option<Local>;
}

/// What a node has applied for a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Last log index that it had applied.
    pub last_applied: u64,
    /// The value in history form.
    pub value: Value,
}

/// A whole state as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Last log index in it.
    pub index: u64,
    /// Of its bytes, as the system makes it.
    pub hash: String,
}

/// The end of an operation, as the history says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// `ok`, `fail` or `info`.
    pub kind: EventType,
    /// What was read, or the argument again.
    pub value: Value,
    /// Why it failed or is unknown.
    pub error: Option<String>,
    /// What a mismatched `cas` saw.
    pub actual: Option<Value>,
    /// The node that answered.
    pub node: Option<NodeId>,
    /// Log index of an applied write.
    pub position: Option<u64>,
}

impl Completion {
    /// An operation that happened; `value` is what it read, or its argument.
    pub fn ok(value: Value, node: NodeId) -> Completion {
        let node = Some(node);
        Completion { kind: EventType::Ok, value, error: None, actual: None, node, position: None }
    }

    /// An operation that definitely did not happen.
    pub fn fail(operation: &Operation, error: impl Into<String>) -> Completion {
        Completion {
            kind: EventType::Fail,
            value: operation.argument(),
            error: Some(error.into()),
            actual: None,
            node: None,
            position: None,
        }
    }

    /// An operation of which nothing is known, except that a read which got no answer changed nothing.
    pub fn unknown(operation: &Operation, error: impl Into<String>) -> Completion {
        let kind = if operation.is_read() { EventType::Fail } else { EventType::Info };
        Completion { kind, ..Completion::fail(operation, error) }
    }

    /// A `cas` that saw something else.
    pub fn mismatch(operation: &Operation, actual: Value, node: NodeId) -> Completion {
        let failed = Completion::fail(operation, "cas_mismatch");
        Completion { actual: Some(actual), node: Some(node), ..failed }
    }
}
