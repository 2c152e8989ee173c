//! `node serve`: one node, until SIGTERM or Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use node::config::{
    CLUSTER_DEFAULT, ELECTION_TIMEOUT_MS_MAX, ELECTION_TIMEOUT_MS_MIN, HEARTBEAT_INTERVAL_MS,
    SNAPSHOT_ENTRIES, ServerConfig, TRAILING_ENTRIES,
};
use node::raft::event::Level;
use node::server;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{TOOL, address, fail};

#[derive(Debug, Args)]
#[command(after_help = "Example, in three terminals:\n  \
    node serve 1 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n  \
    node serve 2 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n  \
    node serve 3 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n\n\
    Exit codes: 0 stopped by SIGTERM or Ctrl-C, 65 data refused, 74 storage failed, 64 usage, 3 other errors.")]
pub(crate) struct Serve {
    /// This node's position in the list of addresses, from 1.
    id: u32,
    /// Where this node knows every node that founds the cluster, itself included: none for a node that joins.
    #[arg(required_unless_present = "join", value_parser = address, value_name = "ADDRESS")]
    addresses: Vec<SocketAddr>,
    /// Join a cluster that is there already: wait to be added with `node member add`.
    #[arg(long, conflicts_with = "addresses", requires = "listen")]
    join: bool,
    /// Find this node there, whatever address the cluster knows it by. May be given several times.
    #[arg(long = "peer", value_parser = peer, value_name = "ID=ADDRESS")]
    peers: Vec<(u32, SocketAddr)>,
    /// Listen here instead of at the own address of the list.
    #[arg(long, value_parser = address)]
    listen: Option<SocketAddr>,
    /// Where the node keeps its files [default: data/nID].
    #[arg(long, env = "WHITEWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the cluster: nodes and clients of another name are ignored.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    /// Write every step as a JSON line to trace.jsonl in the data directory.
    #[arg(long)]
    trace: bool,
    /// The least urgent lines that are printed.
    #[arg(long, value_enum, default_value = "info")]
    log_level: LogLevel,
    /// Shortest wait for a leader before an election, in milliseconds.
    #[arg(long, default_value_t = ELECTION_TIMEOUT_MS_MIN)]
    election_timeout_ms_min: u64,
    /// Longest such wait, in milliseconds.
    #[arg(long, default_value_t = ELECTION_TIMEOUT_MS_MAX)]
    election_timeout_ms_max: u64,
    /// How often an idle leader speaks, in milliseconds.
    #[arg(long, default_value_t = HEARTBEAT_INTERVAL_MS)]
    heartbeat_interval_ms: u64,
    /// Entries after which the state is written to a snapshot.
    #[arg(long, default_value_t = SNAPSHOT_ENTRIES)]
    snapshot_entries: u64,
    /// Entries before a snapshot that stay in the log.
    #[arg(long, default_value_t = TRAILING_ENTRIES)]
    trailing_entries: u64,
    /// Activate a planted bug of the catalogue.
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "BUG")]
    planted: Option<node::planted::Bug>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    /// Nothing.
    Off,
    /// What is broken.
    Error,
    /// What is odd.
    Warn,
    /// Elections, entries, commits.
    Info,
    /// Everything.
    Debug,
}

/// `2=127.0.0.1:8002`.
fn peer(text: &str) -> Result<(u32, SocketAddr), String> {
    let (id, at) = text.split_once('=').ok_or("expected ID=ADDRESS, such as 2=127.0.0.1:8002")?;
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(|| format!("{id:?} is no node id"))?;
    Ok((id, address(at)?))
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        #[cfg(feature = "planted")]
        if let Some(bug) = self.planted {
            node::planted::activate(bug);
        }
        let config = ServerConfig {
            id: self.id,
            addresses: self.addresses,
            peers: self.peers.into_iter().collect(),
            listen: self.listen,
            cluster: self.cluster,
            data_dir: self.data_dir.unwrap_or_else(|| PathBuf::from(format!("data/n{}", self.id))),
            trace: self.trace,
            level: match self.log_level {
                LogLevel::Off => None,
                LogLevel::Error => Some(Level::Error),
                LogLevel::Warn => Some(Level::Warn),
                LogLevel::Info => Some(Level::Info),
                LogLevel::Debug => Some(Level::Debug),
            },
            election_timeout_ms_min: self.election_timeout_ms_min,
            election_timeout_ms_max: self.election_timeout_ms_max,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            snapshot_entries: self.snapshot_entries,
            trailing_entries: self.trailing_entries,
        };
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The second one ends the process at once, should the first one not.
            let armed = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
            if let Err(error) = armed {
                return fail(&format!("cannot handle signals: {error}"), "report this", TOOL);
            }
        }
        match server::serve(&config, &stop) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), error.hint(), error.exit_code()),
        }
    }
}
