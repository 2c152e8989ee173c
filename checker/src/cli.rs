//! The command line: what a person types and what is printed for it.
//! Judging is the library's business.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::{CheckError, Options, Report, Verdict, check, explain};

/// Exit code for a command line that makes no sense. Clap's own 2 would read as the verdict unknown.
const USAGE: u8 = 64;
/// Exit code for what the tool itself could not do.
const FAILED: u8 = 3;

/// Judges recorded histories: valid, invalid or unknown, and why.
#[derive(Debug, Parser)]
#[command(name = "checker", version, after_help = CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const CODES: &str = "Exit codes: 0 valid, 1 invalid, 2 unknown, 3 error of the tool itself, 64 usage.\n\
                     Over several paths: invalid, then error, then unknown, then valid decides.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge run directories or history files; a run directory gets its verdict.json
    #[command(after_help = CODES)]
    Check {
        /// Run directories, or histories: ours (plain or .gz), Jepsen's etcd logs, Knossos and Porcupine texts
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Print the report as JSON, one document a path
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Tell what is wrong as a timeline of the few operations that show it
    #[command(after_help = CODES)]
    Explain {
        /// A run directory or a history
        path: PathBuf,
        /// Only this key
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        bounds: Bounds,
    },
}

#[derive(Args, Debug)]
struct Bounds {
    /// Outer bound on the time of a judgement; beyond it a key is unknown
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Bound on the memory of the search, for all keys at once: 512M, 2G
    #[arg(long, default_value = "1G", value_parser = parse_bytes)]
    memory: u64,
    /// Bound on the steps of the search, for each key
    #[arg(long, default_value_t = Options::default().steps)]
    steps: u64,
}

impl From<Bounds> for Options {
    fn from(bounds: Bounds) -> Options {
        Options { steps: bounds.steps, memory: bounds.memory, time: bounds.time }
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        other => return Err(format!("{other:?} is none of K, M, G")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no whole number"))?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "not between 1 byte and 16 EiB".to_owned())
}

/// Runs the command line and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(help) => {
            let code = if help.use_stderr() { USAGE } else { 0 };
            // A closed terminal is no reason to fail.
            let _ = help.print();
            return code;
        }
    };
    match cli.command {
        Command::Check { paths, json, bounds } => check_paths(&paths, json, &bounds.into()),
        Command::Explain { path, key, bounds } => explain_path(&path, key.as_deref(), &bounds.into()),
    }
}

fn check_paths(paths: &[PathBuf], json: bool, options: &Options) -> u8 {
    let mut worst = Verdict::Valid;
    for path in paths {
        let verdict = match judged(path, options) {
            Ok(report) => {
                let heading = if paths.len() > 1 { format!("{}\n", path.display()) } else { String::new() };
                print(&if json { report.to_json() } else { heading + &report.render() });
                report.verdict
            }
            Err(error) => {
                complain(&error);
                Verdict::Error
            }
        };
        worst = worst.worst(verdict);
    }
    worst.exit_code()
}

/// Judges a path; a run directory gets its verdict written down.
fn judged(path: &Path, options: &Options) -> anyhow::Result<Report> {
    let report = check(path, options)?;
    if path.is_dir() {
        report
            .write_verdict(path)
            .map_err(|e| anyhow::anyhow!("cannot write {}: {e}", path.join(crate::report::FILE).display()))?;
    }
    Ok(report)
}

fn explain_path(path: &Path, key: Option<&str>, options: &Options) -> u8 {
    match check(path, options) {
        Ok(report) => {
            print(&explain::explain(&report, key).unwrap_or_else(|| match key {
                Some(key) => format!("nothing is wrong with key {key}\n{}", report.render()),
                None => report.render(),
            }));
            report.verdict.exit_code()
        }
        Err(error) => {
            complain(&error.into());
            FAILED
        }
    }
}

/// Prints a result. A reader that went away (`checker … | head`) has seen enough: the verdict still counts.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn complain(error: &anyhow::Error) {
    let hint = match error.downcast_ref::<CheckError>() {
        Some(error) => error.hint(),
        None => "give the directory write permission, or copy it elsewhere",
    };
    let _ = writeln!(io::stderr(), "error: {error}\n\nhint: {hint}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("512"), Ok(512));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        assert_eq!(parse_bytes("2MiB"), Ok(2 << 20));
        assert_eq!(parse_bytes("3k"), Ok(3 << 10));
        assert!(parse_bytes("1T").is_err());
        assert!(parse_bytes("0").is_err());
        assert!(parse_bytes("x").is_err());
        assert!(parse_bytes("99999999999999G").is_err());
    }
}
