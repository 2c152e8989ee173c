//! The command line: subcommands, exit codes, signals, and how an error is told.
//! Each subcommand is a file; every byte a person reads comes from `print`.

mod bench;
mod campaign;
mod doctor;
#[cfg(debug_assertions)]
mod duds;
mod list;
mod print;
mod relay;
mod replay;
mod run;
mod spec_args;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::planted::PlantedError;

/// Exit code of a wrong command line. Clap's own would read as `unknown`.
const EXIT_USAGE: u8 = 64;
/// Exit code when the harness itself could not do its work.
const EXIT_ERROR: u8 = 3;
/// Exit code after a second Ctrl-C.
const EXIT_INTERRUPTED: i32 = 130;

const EXIT_CODES: &str = "Exit codes: 0 valid, 1 invalid, 2 unknown, 3 error of the tool itself, 64 wrong usage, \
                          130 second Ctrl-C";

/// Hurts a real cluster while clients use it, records what they saw, and has the record judged.
#[derive(Debug, Parser)]
#[command(name = "harness", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run: start a cluster, load and hurt it, heal it, judge it
    Run(run::Args),
    /// Apply the recorded faults of a run to a new cluster
    Replay(replay::Args),
    /// Many runs with seeds of their own; the worst verdict decides
    Campaign(campaign::Args),
    /// Print the workloads, faults, profiles and systems that there are
    List(list::Args),
    /// Say what this machine allows and how to get the rest, and remove what a run left that was killed
    Doctor,
    /// Measure the system without faults
    Bench(bench::Args),
    /// Show for every kind of fault that a run in which it does nothing is unknown
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Duds(duds::Args),
    /// Carry the messages of a node of Maelstrom
    #[command(hide = true)]
    Relay(relay::Args),
}

/// Why a command ended without a result, and the way out.
#[derive(Debug)]
struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { error: error.into(), hint: None }
    }
}

impl Failure {
    fn hint(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Failure {
        Failure { error: error.into(), hint: Some(hint.into()) }
    }

    fn planted(error: PlantedError, harness: &std::path::Path) -> Failure {
        let command = match &error {
            // It was built just now, so what is older than the sources is this program.
            PlantedError::Binary(binary) => binary.hint().to_owned(),
            _ => crate::planted::shown_command(harness),
        };
        Failure::hint(error, format!("in the workspace, run: {command}"))
    }
}

/// Parses the arguments of this process, does what they say, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stdout is no reason to fail: help was asked for by somebody who stopped reading.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::main(&args),
        Command::Replay(args) => replay::main(&args),
        Command::Campaign(args) => campaign::main(&args),
        Command::List(args) => {
            list::main(&args);
            Ok(0)
        }
        Command::Doctor => doctor::main(),
        Command::Bench(args) => bench::main(&args),
        #[cfg(debug_assertions)]
        Command::Duds(args) => duds::main(&args),
        Command::Relay(args) => relay::main(args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            print::failure(&failure.error, failure.hint.as_deref());
            ExitCode::from(EXIT_ERROR)
        }
    }
}

/// A flag that the first Ctrl-C or SIGTERM sets; the second ends the process at once, and its nodes with it, because each asked
/// the kernel to be killed when its parent ends.
fn interrupts() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal must not yet see the flag that it sets.
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
