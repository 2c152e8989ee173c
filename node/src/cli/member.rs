//! `node member`: changes who belongs to the cluster, and waits until it is so.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use node::client::{Client, ClientConfig, Status};
use node::config::CLUSTER_DEFAULT;
use node::raft::reconfigure::Change;

use super::{KeyFile, TOOL, address, fail, finish};

/// Between two looks at what the nodes say.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOK_HINT: &str = "see who belongs to the cluster with: node member list --addr A,B,C";

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is so, 1 it will not be, 2 unknown, 64 usage, 3 other errors.")]
pub(crate) struct Member {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Args)]
struct Common {
    /// Nodes to ask, separated by commas. Any node will do.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address)]
    addr: Vec<SocketAddr>,
    /// Name of the cluster.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    #[command(flatten)]
    key_file: KeyFile,
    /// How long it may take.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send the log to a further node, without a vote; or change where a member is found.
    Add {
        /// Its id: any number that no other node has, or had.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        id: u32,
        /// Where the others find it.
        #[arg(value_parser = address)]
        address: SocketAddr,
        #[command(flatten)]
        common: Common,
    },
    /// Give a node that was added a vote, as soon as it has caught up.
    Promote {
        /// Its id.
        id: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Take a node out of the cluster, the leader or any other.
    Remove {
        /// Its id.
        id: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Show who belongs to the cluster.
    List {
        #[command(flatten)]
        common: Common,
        /// One JSON object a member and line.
        #[arg(long)]
        json: bool,
    },
}

impl Member {
    pub(super) fn run(self) -> ExitCode {
        match self.action {
            Action::Add { id, address, common } => common.change(&Change::Add(id, address.to_string())),
            Action::Promote { id, common } => common.change(&Change::Promote(id)),
            Action::Remove { id, common } => common.change(&Change::Remove(id)),
            Action::List { common, json } => common.list(json),
        }
    }
}

/// Whether a membership that a node tells of is what a change leads to.
fn is_done(change: &Change, status: &Status) -> bool {
    let member = |id: u32| status.members.iter().find(|member| member.id == id);
    match change {
        Change::Add(id, address) => member(*id).is_some_and(|member| member.address == *address),
        Change::Promote(id) => member(*id).is_some_and(|member| member.role == "voter"),
        Change::Remove(id) => member(*id).is_none(),
    }
}

fn told(change: &Change) -> String {
    match change {
        Change::Add(id, address) => format!("n{id} at {address} belongs to the cluster"),
        Change::Promote(id) => format!("n{id} is a voter"),
        Change::Remove(id) => format!("n{id} belongs to the cluster no longer"),
    }
}

impl Common {
    fn client(&self) -> Result<Client, ExitCode> {
        let config = ClientConfig {
            cluster: self.cluster.clone(),
            key: self.key_file.load()?,
            operation_timeout: self.timeout,
            ..ClientConfig::default()
        };
        Client::new(config, self.addr.clone())
            .map_err(|error| fail(&format!("cannot open a socket: {error}"), "check `ulimit -n`", TOOL))
    }

    /// What the asked node that has committed most says.
    fn latest(&self, client: &mut Client) -> Option<Status> {
        let statuses = self.addr.iter().filter_map(|addr| client.status(*addr));
        statuses.max_by_key(|status| (status.commit_index, status.term))
    }

    fn change(&self, change: &Change) -> ExitCode {
        let deadline = Instant::now() + self.timeout;
        let mut client = match self.client() {
            Ok(client) => client,
            Err(code) => return code,
        };
        let index = match client.reconfigure(change) {
            Ok(index) => index,
            Err("bad_request") => {
                return fail(
                    "there is no such member, or without it nobody would be left to vote",
                    LOOK_HINT,
                    1,
                );
            }
            Err(error) => {
                let hint = match error {
                    "not_ready" => {
                        "another change is under way, or the node has not caught up: is it running, with --join? \
                         Try again, or with a longer --timeout"
                    }
                    _ => "see who is up with: node status --addr A,B,C",
                };
                return fail(&format!("nobody took the order: {error}"), hint, 2);
            }
        };
        loop {
            let latest = self.latest(&mut client);
            if let Some(status) = latest
                .filter(|status| status.commit_index >= index && is_done(change, status) && !status.joint)
            {
                return finish(
                    writeln!(io::stdout(), "ok   {} (index {})", told(change), status.commit_index),
                    0,
                );
            }
            if Instant::now() >= deadline {
                let what = format!("not seen within {:?}: {}", self.timeout, told(change));
                return fail(&what, LOOK_HINT, 2);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn list(&self, json: bool) -> ExitCode {
        let mut client = match self.client() {
            Ok(client) => client,
            Err(code) => return code,
        };
        let Some(status) = self.latest(&mut client) else {
            return fail("no node answers", "see who is up with: node status --addr A,B,C", 2);
        };
        let mut text = String::new();
        if json {
            for member in &status.members {
                let _ = writeln!(text, "{}", serde_json::to_string(member).unwrap_or_default());
            }
        } else {
            let _ = writeln!(text, "{:<5} {:<9} {:<22} directory", "node", "role", "address");
            for member in &status.members {
                let id = format!("n{}", member.id);
                let _ =
                    writeln!(text, "{id:<5} {:<9} {:<22} {}", member.role, member.address, member.directory);
            }
            if status.joint {
                let _ = writeln!(text, "a change of voters is under way");
            }
        }
        finish(write!(io::stdout(), "{text}"), 0)
    }
}
