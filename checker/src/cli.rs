//! The command line: what a person types and what is printed for it.
//! Judging is the library's business.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::{self, Shape};
use crate::interop::{ExportError, Format, NilRead, Reading, Target, export};
use crate::model::ModelKind;
use crate::verify::{Verified, verify};
use crate::{CheckError, Options, Report, Verdict, certify, check, explain, follow};

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
        /// Run directories, or histories: ours, Jepsen's and Maelstrom's EDN, Knossos', Porcupine's, plain or .gz
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Print the report as JSON, one document a path
        #[arg(long)]
        json: bool,
        /// Write down what shows the verdict of each key, for `verify`; of one path
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        #[command(flatten)]
        bounds: Bounds,
    },
    /// Check a certificate against its history, without the engines: 0 it shows the verdict of every key, 1 it is wrong, 2 some keys are left open
    Verify {
        /// A run directory or a history
        path: PathBuf,
        /// What `check --certificate` wrote
        certificate: PathBuf,
        #[command(flatten)]
        reading: Foreign,
    },
    /// Judge a history while it is written, and say at once what is wrong: registers with unique values; other keys are left to check
    #[command(after_help = CODES)]
    Follow {
        /// A history in our format that grows, or - for what comes through a pipe
        path: PathBuf,
        /// A file counts as complete once nothing came for so long
        #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
        idle: Duration,
        /// Whether to end at the first violation
        #[arg(long, default_value = "stop")]
        on_violation: OnViolation,
    },
    /// Write a history in a format of ours or of others
    Export {
        /// A run directory or a history
        path: PathBuf,
        /// What to write
        #[arg(long)]
        to: Target,
        /// Only this key
        #[arg(long)]
        key: Option<String>,
        /// Where to; the terminal if it is not given
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        reading: Foreign,
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
    /// Time the judge on generated histories, one row for each combination of keys, clients and unknown outcomes
    #[command(after_help = CODES)]
    Bench(Bench),
}

/// What following does when something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnViolation {
    /// End.
    Stop,
    /// Go on to the end of the history.
    Continue,
}

#[derive(Args, Debug)]
struct Bench {
    /// Operations of a history
    #[arg(long, default_value_t = 1_000_000)]
    operations: u64,
    /// Numbers of keys
    #[arg(long, value_delimiter = ',', default_value = "1,10,1000", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keys: Vec<u64>,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "5,20,100", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: Vec<u64>,
    /// Percentages of operations whose outcome nobody knows
    #[arg(long, value_delimiter = ',', default_value = "0,0.5,5", value_parser = parse_percent)]
    unknown: Vec<f64>,
    /// Write only so many different values, again and again; 0 writes a new one each time
    #[arg(long, default_value_t = 0)]
    values: u64,
    /// Lose an acknowledged write at the end
    #[arg(long)]
    lost_write: bool,
    /// Write two of the values so many times at the end and read the first, which an indeterminate operation has to bring back
    #[arg(long, default_value_t = 0)]
    drain: u64,
    /// Generate transactions instead, of one to four steps, on so many keys at a time as `--keys` says
    #[arg(long, value_enum, conflicts_with_all = ["values", "drain", "follow"])]
    transactions: Option<bench::Transactions>,
    #[command(flatten)]
    limits: Limits,
    /// Follow each history through a pipe while it is generated, instead of checking it: in memory that does
    /// not grow with it, so nothing bounds it
    #[arg(long, conflicts_with_all = ["generate", "time", "memory", "steps"])]
    follow: bool,
    /// Times that each history is judged
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Decides the histories
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only write the first history to this file
    #[arg(long, value_name = "FILE")]
    generate: Option<PathBuf>,
}

impl Bench {
    fn shapes(&self) -> impl Iterator<Item = Shape> {
        let each = |keys: u64, clients: u64, percent: f64| Shape {
            operations: self.operations,
            keys,
            clients,
            unknown: percent / 100.0,
            values: self.values,
            lost_write: self.lost_write,
            drain: self.drain,
            transactions: self.transactions,
        };
        self.keys.iter().flat_map(move |keys| {
            self.clients.iter().flat_map(move |clients| {
                self.unknown.iter().map(move |percent| each(*keys, *clients, *percent))
            })
        })
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().map_err(|_| format!("{text:?} is no number"))?;
    (0.0..=100.0).contains(&percent).then_some(percent).ok_or_else(|| "not between 0 and 100".to_owned())
}

/// How much a judgement may take.
#[derive(Args, Debug)]
struct Limits {
    /// Outer bound on the time of a judgement, reading included; beyond it a key is unknown
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Bound on the memory of what is read and searched, for all keys at once: 512M, 4G
    #[arg(long, default_value = "4G", value_parser = parse_bytes)]
    memory: u64,
    /// Bound on the steps of the search, for each key
    #[arg(long, default_value_t = Options::default().steps)]
    steps: u64,
}

#[derive(Args, Debug)]
struct Bounds {
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    reading: Foreign,
}

/// How histories of others are to be understood.
#[derive(Args, Debug)]
struct Foreign {
    /// Format of a history, instead of telling it by content
    #[arg(long)]
    format: Option<Format>,
    /// Model of every key of a foreign history: cas-register, list-append, set, kv, counter
    #[arg(long, value_parser = parse_model)]
    model: Option<ModelKind>,
    /// What a foreign register holds at first: a number, or nil
    #[arg(long, value_parser = parse_initial, allow_negative_numbers = true)]
    initial: Option<Initial>,
    /// What it says if a foreign register was read as nil
    #[arg(long)]
    nil_read: Option<NilRead>,
}

/// A register's first value; `None` is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Initial(Option<i64>);

fn parse_model(text: &str) -> Result<ModelKind, String> {
    ModelKind::from_name(text).ok_or_else(|| format!("there are {}", ModelKind::NAMES.join(", ")))
}

fn parse_initial(text: &str) -> Result<Initial, String> {
    match text {
        "nil" => Ok(Initial(None)),
        number => number.parse().map(|n| Initial(Some(n))).map_err(|_| "neither a number nor nil".into()),
    }
}

impl From<Foreign> for Reading {
    fn from(Foreign { format, model, initial, nil_read }: Foreign) -> Reading {
        Reading { format, model, initial: initial.map(|initial| initial.0), nil_read }
    }
}

impl Limits {
    fn options(&self, reading: Reading) -> Options {
        let Limits { time, memory, steps } = *self;
        Options { time, memory, steps, reading }
    }
}

impl From<Bounds> for Options {
    fn from(Bounds { limits, reading }: Bounds) -> Options {
        limits.options(reading.into())
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
        Command::Check { paths, certificate: Some(_), .. } if paths.len() > 1 => {
            complain(
                &anyhow::anyhow!("one certificate for {} paths", paths.len()),
                "give one path a certificate",
            );
            USAGE
        }
        Command::Check { paths, json, certificate, bounds } => {
            check_paths(&paths, json, certificate.as_deref(), &bounds.into())
        }
        Command::Verify { path, certificate, reading } => verify_path(&path, &certificate, &reading.into())
            .unwrap_or_else(|error| {
                complain(&error, hint(&error));
                FAILED
            }),
        Command::Follow { path, idle, on_violation } => follow_path(&path, idle, on_violation)
            .unwrap_or_else(|error| {
                complain(
                    &error,
                    "only histories of our own format can be followed, as they are written by harness run",
                );
                FAILED
            }),
        Command::Export { path, to, key, out, reading } => {
            match export_path(&path, to, key.as_deref(), out.as_deref(), &reading.into()) {
                Ok(()) => 0,
                Err(error) => {
                    complain(&error, hint(&error));
                    FAILED
                }
            }
        }
        Command::Explain { path, key, bounds } => explain_path(&path, key.as_deref(), &bounds.into()),
        Command::Bench(arguments) => run_bench(&arguments).unwrap_or_else(|error| {
            complain(&error, "look at the directory of temporary files, or choose one with TMPDIR");
            FAILED
        }),
    }
}

fn check_paths(paths: &[PathBuf], json: bool, certificate: Option<&Path>, options: &Options) -> u8 {
    let mut worst = Verdict::Valid;
    for path in paths {
        let verdict = match judged(path, certificate, options) {
            Ok(report) => {
                let heading = if paths.len() > 1 { format!("{}\n", path.display()) } else { String::new() };
                print(&if json { report.to_json() } else { heading + &report.render() });
                report.verdict
            }
            Err(error) => {
                complain(&error, hint(&error));
                Verdict::Error
            }
        };
        worst = worst.worst(verdict);
    }
    worst.exit_code()
}

/// Judges a path; a run directory gets its verdict written down.
fn judged(path: &Path, certificate: Option<&Path>, options: &Options) -> anyhow::Result<Report> {
    let report = match certificate {
        None => check(path, options)?,
        Some(file) => {
            let (report, text) = certify(path, options)?;
            std::fs::write(file, text)
                .map_err(|e| anyhow::anyhow!("cannot write {}: {e}", file.display()))?;
            report
        }
    };
    if path.is_dir() {
        report
            .write_verdict(path)
            .map_err(|e| anyhow::anyhow!("cannot write {}: {e}", path.join(crate::report::FILE).display()))?;
    }
    Ok(report)
}

fn follow_path(path: &Path, idle: Duration, on_violation: OnViolation) -> anyhow::Result<u8> {
    let mut source: Box<dyn io::BufRead> = if path == Path::new("-") {
        Box::new(io::BufReader::with_capacity(1 << 16, io::stdin().lock()))
    } else {
        Box::new(io::BufReader::with_capacity(1 << 16, Growing::open(path, idle)?))
    };
    let followed = follow::follow(path, &mut source, |violation| {
        let at = crate::history::Clock::Nanoseconds.show(violation.time);
        print(&format!("{at}  {}  key {}: {}\n", violation.class, violation.key, violation.reason));
        on_violation == OnViolation::Stop
    })?;
    for (key, reason) in &followed.left {
        print(&format!("  left to check  key {key}: {reason}\n"));
    }
    let verdict = followed.verdict();
    print(&format!("{}  {} operations\n", verdict.to_string().to_uppercase(), followed.operations));
    Ok(verdict.exit_code())
}

/// A file that somebody still writes to: its end is where nothing comes for a while.
struct Growing {
    file: std::fs::File,
    idle: Duration,
}

impl Growing {
    fn open(path: &Path, idle: Duration) -> anyhow::Result<Growing> {
        let file =
            std::fs::File::open(path).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", path.display()))?;
        Ok(Growing { file, idle })
    }
}

impl io::Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let started = std::time::Instant::now();
        loop {
            let count = self.file.read(buffer)?;
            if count > 0 || started.elapsed() >= self.idle {
                return Ok(count);
            }
            std::thread::sleep(Duration::from_millis(20).min(self.idle));
        }
    }
}

fn export_path(
    path: &Path,
    to: Target,
    key: Option<&str>,
    out: Option<&Path>,
    reading: &Reading,
) -> anyhow::Result<()> {
    let history = crate::judge::history(path, reading)?;
    let mut bytes = Vec::new();
    export(&history, to, key, &mut bytes)?;
    match out {
        Some(file) => {
            std::fs::write(file, bytes).map_err(|e| anyhow::anyhow!("cannot write {}: {e}", file.display()))
        }
        None => {
            print(&String::from_utf8_lossy(&bytes));
            Ok(())
        }
    }
}

fn verify_path(path: &Path, certificate: &Path, reading: &Reading) -> anyhow::Result<u8> {
    let history = crate::judge::history(path, reading)?;
    let text = std::fs::read_to_string(certificate)
        .map_err(|e| anyhow::anyhow!("cannot read {}: {e}", certificate.display()))?;
    Ok(match verify(&history, &text) {
        Ok(Verified { valid, invalid, open }) => {
            print(&format!("CERTIFIED  {valid} keys valid, {invalid} invalid, {} left open\n", open.len()));
            if open.is_empty() { 0 } else { Verdict::Unknown.exit_code() }
        }
        Err(reason) => {
            print(&format!("REJECTED  {}: {reason}\n", certificate.display()));
            Verdict::Invalid.exit_code()
        }
    })
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
            let hint = error.hint();
            complain(&error.into(), hint);
            FAILED
        }
    }
}

fn run_bench(arguments: &Bench) -> anyhow::Result<u8> {
    if let (Some(path), Some(shape)) = (&arguments.generate, arguments.shapes().next()) {
        bench::write(path, &shape, arguments.seed).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
        return Ok(0);
    }
    let scratch = std::env::temp_dir().join(format!("whitewater-bench-{}.jsonl", std::process::id()));
    let options = arguments.limits.options(Reading::default());
    print(
        "| operations | keys | clients | unknown | verdict | median s | slowest s | processor s | peak MiB |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let measured = arguments.shapes().try_for_each(|shape| {
        let measured = if arguments.follow {
            bench::measure_following(&shape, arguments.seed, arguments.rounds)?
        } else {
            bench::write(&scratch, &shape, arguments.seed)?;
            bench::measure(&scratch, arguments.rounds, &options)?
        };
        let processor =
            measured.processor.map_or("-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()));
        let peak = measured.peak.map_or("-".to_owned(), |bytes| (bytes >> 20).to_string());
        print(&format!(
            "| {} | {} | {} | {:.1} % | {} | {:.3} | {:.3} | {processor} | {peak} |\n",
            shape.operations,
            shape.keys,
            shape.clients,
            100.0 * shape.unknown,
            measured.verdict,
            measured.median.as_secs_f64(),
            measured.slowest.as_secs_f64(),
        ));
        anyhow::Ok(())
    });
    // It may never have been written.
    let _ = std::fs::remove_file(&scratch);
    measured.map(|()| 0)
}

/// Prints a result. A reader that went away (`checker … | head`) has seen enough: the verdict still counts.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn hint(error: &anyhow::Error) -> &'static str {
    if matches!(error.downcast_ref(), Some(ExportError::Unsaid(_))) {
        return "--to whitewater says everything";
    }
    match error.downcast_ref::<CheckError>() {
        Some(error) => error.hint(),
        None => "give the directory write permission, or copy it elsewhere",
    }
}

fn complain(error: &anyhow::Error, hint: &str) {
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
