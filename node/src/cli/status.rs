//! `node status`: what each node says of itself, once or every second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use node::client::{Client, ClientConfig};
use node::config::CLUSTER_DEFAULT;

use super::{KeyFile, TOOL, address, fail, finish};

/// Between two looks of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 every node answered, 1 some did not, 2 none did.")]
pub(crate) struct Status {
    /// Nodes to ask, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address)]
    addr: Vec<SocketAddr>,
    /// Name of the cluster.
    #[arg(long, default_value = CLUSTER_DEFAULT, env = "WHITEWATER_CLUSTER")]
    cluster: String,
    #[command(flatten)]
    key_file: KeyFile,
    /// One JSON object a node and line.
    #[arg(long)]
    json: bool,
    /// Look again every second, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

type Answer = (SocketAddr, Option<node::client::Status>);

impl Status {
    pub(super) fn run(self) -> ExitCode {
        let key = match self.key_file.load() {
            Ok(key) => key,
            Err(code) => return code,
        };
        let config = ClientConfig { cluster: self.cluster.clone(), key, ..ClientConfig::default() };
        let mut client = match Client::new(config, self.addr.clone()) {
            Ok(client) => client,
            Err(error) => return fail(&format!("cannot open a socket: {error}"), "check `ulimit -n`", TOOL),
        };
        loop {
            let answers: Vec<Answer> = self.addr.iter().map(|addr| (*addr, client.status(*addr))).collect();
            let text = if self.json { json(&answers) } else { table(&answers) };
            let mut out = io::stdout().lock();
            // On a terminal the table stays in place; into a file or pipe the looks follow each other.
            let home = if self.watch && !self.json && out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            let written = write!(out, "{home}{text}").and_then(|()| out.flush());
            if !self.watch || written.is_err() {
                let silent = answers.iter().filter(|(_, status)| status.is_none()).count();
                let code = match silent {
                    0 => 0,
                    some if some < answers.len() => 1,
                    _ => 2,
                };
                return finish(written, code);
            }
            drop(out);
            thread::sleep(WATCH_INTERVAL);
        }
    }
}

fn json(answers: &[Answer]) -> String {
    let mut text = String::new();
    for (addr, status) in answers {
        let value = serde_json::json!({ "addr": addr.to_string(), "status": status });
        let _ = writeln!(text, "{value}");
    }
    text
}

fn table(answers: &[Answer]) -> String {
    let mut text = format!(
        "{:<22} {:<5} {:<13} {:>6} {:>7} {:>9} {:>9} {:>15} {:>6}\n",
        "address", "node", "role", "term", "leader", "commit", "applied", "log", "starts"
    );
    for (addr, status) in answers {
        let Some(s) = status else {
            let _ = writeln!(text, "{:<22} no answer", addr.to_string());
            continue;
        };
        let leader = s.leader.map_or("-".to_owned(), |id| format!("n{id}"));
        let log = format!("{}..{}", s.first_index, s.last_index);
        let (id, addr) = (format!("n{}", s.id), addr.to_string());
        let _ = writeln!(
            text,
            "{addr:<22} {id:<5} {:<13} {:>6} {leader:>7} {:>9} {:>9} {log:>15} {:>6}",
            s.role, s.term, s.commit_index, s.last_applied, s.incarnation
        );
        for peer in &s.peers {
            let heard = peer.heard_ms_ago.map_or("never".to_owned(), |ms| format!("{ms} ms ago"));
            let _ = writeln!(
                text,
                "{:<22}   -> n{} {:<9} match {} next {} heard {heard}",
                "", peer.id, peer.state, peer.match_index, peer.next_index
            );
        }
        if !s.dropped.is_empty() {
            let dropped: Vec<String> = s.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            let _ = writeln!(text, "{:<22}   dropped datagrams: {}", "", dropped.join(", "));
        }
    }
    text
}
