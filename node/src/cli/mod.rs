//! The command line of `node`: one subcommand a file. Everything printed is here; everything done is in the library.

mod client;
pub(crate) mod config_file;
mod member;
mod serve;
mod status;
mod transfer;

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
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
    /// Print everything in a data directory, without writing to it.
    Inspect {
        /// The data directory.
        dir: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of a data directory: exit 0 intact, 1 corrupt, 2 not a data directory that this build reads.
    Verify {
        /// The data directory.
        dir: PathBuf,
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
            Some(Command::Inspect { dir, json }) => {
                let mut out = io::stdout().lock();
                settle(node::inspect::run_inspect(&dir, json, &mut out))
            }
            Some(Command::Verify { dir }) => {
                settle(node::inspect::run_verify(&dir, &mut io::stdout().lock()))
            }
        }
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
