//! `node transfer-leader`: moves leadership, and waits until it has moved.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use node::client::{Client, ClientConfig};
use node::config::CLUSTER_DEFAULT;

use super::{KeyFile, TOOL, address, fail, finish};

/// Between two looks at who leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 that node leads, 1 definitely not, 2 unknown, 64 usage, 3 other errors."
)]
pub(crate) struct TransferLeader {
    /// Nodes to ask, separated by commas. Any node will do.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address)]
    addr: Vec<SocketAddr>,
    /// The node that is to lead [default: the one whose log is furthest].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    /// Name of the cluster.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    #[command(flatten)]
    key_file: KeyFile,
    /// How long it may take.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl TransferLeader {
    pub(super) fn run(self) -> ExitCode {
        let deadline = Instant::now() + self.timeout;
        let key = match self.key_file.load() {
            Ok(key) => key,
            Err(code) => return code,
        };
        let config = ClientConfig {
            cluster: self.cluster,
            key,
            operation_timeout: self.timeout,
            ..ClientConfig::default()
        };
        let mut client = match Client::new(config, self.addr.clone()) {
            Ok(client) => client,
            Err(error) => return fail(&format!("cannot open a socket: {error}"), "check `ulimit -n`", TOOL),
        };
        let to = match client.transfer_leader(self.to) {
            Ok(to) => to,
            Err("bad_request") => {
                return fail(
                    "there is no such node to lead",
                    "see who is up with: node status --addr A,B,C",
                    1,
                );
            }
            Err(error) => {
                return fail(
                    &format!("nobody took the order: {error}"),
                    "see who is up with: node status --addr A,B,C",
                    2,
                );
            }
        };
        loop {
            let statuses = self.addr.iter().filter_map(|addr| client.status(*addr));
            // What the asked nodes know of the latest term decides.
            let latest = statuses.max_by_key(|status| status.term);
            if let Some(status) = latest.filter(|status| status.leader == Some(to)) {
                return finish(writeln!(io::stdout(), "ok   n{to} leads term {}", status.term), 0);
            }
            if Instant::now() >= deadline {
                let hint = "the old leader may have gone on; see node status --addr A,B,C";
                return fail(&format!("n{to} was not seen to lead within {:?}", self.timeout), hint, 2);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
