//! The command line of `node`: one subcommand a file. Everything printed is here; everything done is in the library.

mod client;
pub(crate) mod config_file;
mod member;
mod serve;
mod status;
mod transfer;

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use node::dump::{Dump, DumpError};
use node::transport::key::Key;

/// Exit code of a command line that makes no sense (sysexits.h).
pub(crate) const USAGE: u8 = 64;
/// Exit code of an error of the tool itself.
const TOOL: u8 = 3;

/// A Raft-replicated key-value store over UDP, durable on disk.
#[derive(Debug, Parser)]
#[command(name = "node", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Print the id of this build, and its features, and exit.
    #[arg(long)]
    build_id: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as one node of a cluster.
    Serve(serve::Serve),
    /// Execute one operation on a cluster.
    Client(client::Client),
    /// Show or change who belongs to the cluster.
    Member(member::Member),
    /// Have the leader hand over to another node.
    TransferLeader(transfer::TransferLeader),
    /// Show what nodes say of themselves.
    Status(status::Status),
    /// Print everything in a data directory, or in one file of it, without writing to it.
    Inspect {
        /// The data directory, a segment, a snapshot, a superblock or a trace.
        path: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of a data directory, or of one file of it: exit 0 intact, 1 corrupt, 2 nothing that this build reads.
    Verify {
        /// The data directory, a segment, a snapshot, a superblock or a trace.
        path: PathBuf,
    },
    /// Print every key and its value, as a snapshot or a data directory has them, without writing to it.
    Dump {
        /// The data directory, or a snapshot.
        path: PathBuf,
        /// As JSON, one object a line.
        #[arg(long)]
        json: bool,
        /// Of a data directory: the state after this entry, rather than after the last one in the log.
        #[arg(long, value_name = "INDEX")]
        until: Option<u64>,
    },
}

/// The key of the cluster.
#[derive(Clone, Debug, Args)]
struct KeyFile {
    /// The cluster's key: a file with a secret of at least 32 bytes that only its owner may read. Who has another one, or
    /// none, is not listened to.
    #[arg(long = "key-file", value_name = "FILE", env = "WHITEWATER_KEY_FILE")]
    path: Option<PathBuf>,
}

impl KeyFile {
    fn load(&self) -> Result<Option<Key>, ExitCode> {
        let key = self.path.as_deref().map(Key::load).transpose();
        key.map_err(|error| fail(&error.to_string(), &error.hint(), USAGE))
    }
}

impl Arguments {
    pub(crate) fn run(self) -> ExitCode {
        if self.build_id {
            return finish(writeln!(io::stdout(), "{} {}", node::BUILD_ID, node::FEATURES), 0);
        }
        match self.command {
            None => {
                eprintln!("error: no command\n\nhint: node --help");
                ExitCode::from(USAGE)
            }
            Some(Command::Serve(serve)) => serve.run(),
            Some(Command::Client(client)) => client.run(),
            Some(Command::Member(member)) => member.run(),
            Some(Command::TransferLeader(transfer)) => transfer.run(),
            Some(Command::Status(status)) => status.run(),
            Some(Command::Inspect { path, json }) => {
                let mut out = io::stdout().lock();
                settle(node::inspect::run_inspect(&path, json, &mut out))
            }
            Some(Command::Verify { path }) => {
                settle(node::inspect::run_verify(&path, &mut io::stdout().lock()))
            }
            Some(Command::Dump { path, json, until }) => dump(&path, json, until),
        }
    }
}

fn dump(path: &Path, json: bool, until: Option<u64>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let dumped = node::dump::run_dump(path, json, until, &mut out);
    match dumped.and_then(|dump| Ok(out.flush().map(|()| dump)?)) {
        Ok(Dump { index, snapshot_index, keys, hash, .. }) => {
            // Beside the result, not in it: what is printed on stdout can be compared between nodes.
            let log = match index - snapshot_index {
                0 => String::new(),
                entries => format!("; the last {entries} entries come from the log and may not be committed"),
            };
            let _ = writeln!(io::stderr(), "{keys} keys at index {index}, state {hash}{log}");
            ExitCode::SUCCESS
        }
        Err(DumpError::Output(error)) => settle(Err(error)),
        Err(error) => fail(&error.to_string(), "`node inspect PATH` shows what is still readable", 1),
    }
}

/// Ends with `code` if the output could be written. A reader that went away is no error.
fn finish(written: io::Result<()>, code: u8) -> ExitCode {
    settle(written.map(|()| code))
}

fn settle(result: io::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write to standard output: {error}"), "check where it goes", TOOL),
    }
}

/// Prints an error and the way out.
pub(crate) fn fail(error: &str, hint: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}\n\nhint: {hint}");
    ExitCode::from(code)
}

/// Resolves `host:port`.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .map_err(|error| format!("{error}; expected HOST:PORT such as 127.0.0.1:8001"))?
        .next()
        .ok_or_else(|| "the name has no address".to_owned())
}
