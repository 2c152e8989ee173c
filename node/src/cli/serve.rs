//! `node serve`: one node, until SIGTERM or Ctrl-C.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use node::clock;
use node::config::{
    CLOCK_DRIFT_PERCENT_MAX, CLUSTER_DEFAULT, ELECTION_TIMEOUT_MS_MAX, ELECTION_TIMEOUT_MS_MIN,
    HEARTBEAT_INTERVAL_MS, SNAPSHOT_ENTRIES, ServerConfig, TRAILING_ENTRIES,
};
use node::raft::event::Level;
use node::server;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{KeyFile, TOOL, USAGE, address, fail};

#[derive(Debug, Args)]
#[command(after_help = "Example, in three terminals:\n  \
    node serve 1 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n  \
    node serve 2 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n  \
    node serve 3 127.0.0.1:8001 127.0.0.1:8002 127.0.0.1:8003\n\n\
    Exit codes: 0 stopped by SIGTERM or Ctrl-C, 65 data refused, 74 storage failed, 64 usage, 3 other errors.")]
pub(crate) struct Serve {
    /// This node's position in the list of addresses, from 1.
    #[arg(index = 1)]
    id: u32,
    /// Where this node knows every node that founds the cluster, itself included: none for a node that joins.
    #[arg(index = 2, value_parser = address, value_name = "ADDRESS")]
    addresses: Vec<SocketAddr>,
    /// Join a cluster that is there already: wait to be added with `node member add`.
    #[arg(long, env = "WHITEWATER_JOIN")]
    join: bool,
    /// Find this node there, whatever address the cluster knows it by. May be given several times.
    #[arg(long = "peer", value_parser = peer, value_name = "ID=ADDRESS", env = "WHITEWATER_PEER", value_delimiter = ',')]
    peers: Vec<(u32, SocketAddr)>,
    /// Listen here instead of at the own address of the list.
    #[arg(long, value_parser = address, env = "WHITEWATER_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where the node keeps its files [default: data/nID].
    #[arg(long, env = "WHITEWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the cluster: nodes and clients of another name are ignored.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    #[command(flatten)]
    key_file: KeyFile,
    /// Write every step as a JSON line to trace.jsonl in the data directory.
    #[arg(long, env = "WHITEWATER_TRACE")]
    trace: bool,
    /// Answer GET /status with JSON and GET /metrics for Prometheus at this address, over HTTP. Off unless given.
    #[arg(long, value_parser = address, value_name = "ADDRESS", env = "WHITEWATER_HTTP")]
    http: Option<SocketAddr>,
    /// Read settings from this TOML file: the names are those of the flags, and `id` and `addresses`. A flag beats its
    /// environment variable (WHITEWATER_, then its name in capitals), that beats the file.
    #[arg(long, value_name = "FILE", env = "WHITEWATER_CONFIG")]
    config: Option<PathBuf>,
    /// The least urgent lines that are printed.
    #[arg(long, value_enum, default_value = "info", env = "WHITEWATER_LOG_LEVEL")]
    log_level: LogLevel,
    /// How they are printed.
    #[arg(long, value_enum, default_value = "text", env = "WHITEWATER_LOG_FORMAT")]
    log_format: LogFormat,
    /// Shortest wait for a leader before an election, in milliseconds.
    #[arg(long, default_value_t = ELECTION_TIMEOUT_MS_MIN, env = "WHITEWATER_ELECTION_TIMEOUT_MS_MIN")]
    election_timeout_ms_min: u64,
    /// Longest such wait, in milliseconds.
    #[arg(long, default_value_t = ELECTION_TIMEOUT_MS_MAX, env = "WHITEWATER_ELECTION_TIMEOUT_MS_MAX")]
    election_timeout_ms_max: u64,
    /// How often an idle leader speaks, in milliseconds.
    #[arg(long, default_value_t = HEARTBEAT_INTERVAL_MS, env = "WHITEWATER_HEARTBEAT_INTERVAL_MS")]
    heartbeat_interval_ms: u64,
    /// While a majority has promised to elect nobody else, answer reads without asking it again. Every member needs the flag, and
    /// the same shortest election timeout.
    #[arg(long, env = "WHITEWATER_LEASE_READS")]
    lease_reads: bool,
    /// How far wrong the clock of any member may go, in percent: leases are shorter by that.
    #[arg(long, default_value_t = CLOCK_DRIFT_PERCENT_MAX, env = "WHITEWATER_CLOCK_DRIFT_PERCENT_MAX")]
    clock_drift_percent_max: u64,
    /// For tests: show what this file says instead of the time, and look at it anew whenever the time is asked. Each line bends one
    /// clock, wall, monotonic or boot: CLOCK SINCE_NS SHOWN_NS RATE [UNTIL_NS]; first and last line are the same number.
    #[arg(long, value_name = "FILE", env = "WHITEWATER_CLOCK_FILE")]
    clock_file: Option<PathBuf>,
    /// For tests: keep in memory what is not flushed, so that SIGKILL takes it as a loss of power would.
    #[arg(long, env = "WHITEWATER_UNSYNCED_IN_MEMORY")]
    unsynced_in_memory: bool,
    /// Entries after which the state is written to a snapshot.
    #[arg(long, default_value_t = SNAPSHOT_ENTRIES, env = "WHITEWATER_SNAPSHOT_ENTRIES")]
    snapshot_entries: u64,
    /// Entries before a snapshot that stay in the log.
    #[arg(long, default_value_t = TRAILING_ENTRIES, env = "WHITEWATER_TRAILING_ENTRIES")]
    trailing_entries: u64,
    /// Activate a planted bug of the catalogue.
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "BUG")]
    planted: Option<node::planted::Bug>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
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
        if self.join != self.addresses.is_empty() {
            let error = if self.join {
                "a node that joins stands in no list of addresses"
            } else {
                "no addresses: a node either founds a cluster with others or joins one"
            };
            let hint = "node serve ID ADDRESS1 ADDRESS2 …, or node serve ID --join --listen ADDRESS";
            return fail(error, hint, USAGE);
        }
        if let Some(path) = &self.clock_file
            && let Err(error) = clock::bend_by(path)
        {
            let error = format!("cannot read the clock file {}: {error}", path.display());
            return fail(&error, "it must be there, and may be empty", USAGE);
        }
        let key = match self.key_file.load() {
            Ok(key) => key,
            Err(code) => return code,
        };
        let config = ServerConfig {
            id: self.id,
            addresses: self.addresses,
            peers: self.peers.into_iter().collect(),
            listen: self.listen,
            cluster: self.cluster,
            key,
            data_dir: self.data_dir.unwrap_or_else(|| PathBuf::from(format!("data/n{}", self.id))),
            trace: self.trace,
            http: self.http,
            log_json: matches!(self.log_format, LogFormat::Json),
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
            lease_reads: self.lease_reads,
            unsynced_in_memory: self.unsynced_in_memory,
            clock_drift_percent_max: self.clock_drift_percent_max,
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
