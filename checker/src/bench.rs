//! Times the judge on histories that anyone can make again: `checker bench`. A seed, the shape and nothing else decides what is
//! generated; what is measured (time and memory of a whole check, reading included) never gets into a verdict.

mod transactions;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use transactions::Transactions;

use crate::follow::follow;
use crate::{CheckError, Options, Verdict, check};

/// What a generated history is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Operations of clients.
    pub operations: u64,
    /// Registers.
    pub keys: u64,
    /// Clients, each with one operation at a time.
    pub clients: u64,
    /// Share of operations whose outcome nobody knows, 0 to 1.
    pub unknown: f64,
    /// Different values that are written; 0 for a new one each time.
    pub values: u64,
    /// Whether an acknowledged write is gone at the end of the first key.
    pub lost_write: bool,
    /// How often at the end, one after the other, two of the `values` are written and the first is read: each time an
    /// indeterminate operation has to have brought it back, until there is none left. Hard to refuse.
    pub drain: u64,
    /// Transactions instead, on as many keys at a time; `values` and `drain` are not for them.
    pub transactions: Option<Transactions>,
}

/// A step of a client in virtual time.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Invoke,
    Effect,
    Complete,
}

/// The operation that a client has open.
#[derive(Clone, Default)]
struct Open {
    process: u64,
    key: usize,
    what: What,
    unknown: bool,
    happened: bool,
    saw: Option<u64>,
}

#[derive(Clone, Copy, Default)]
enum What {
    #[default]
    Read,
    Write(u64),
    Cas(u64, u64),
}

/// Writes a history of compare-and-set registers: 40 % reads, 40 % writes, 20 % compare-and-set of which most meet the value
/// that they expect and the others tell what they saw; or one of transactions.
///
/// # Errors
/// The output cannot be written.
pub fn generate(shape: &Shape, seed: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    if let Some(kind) = shape.transactions {
        return transactions::generate(kind, shape, rng, out);
    }
    writeln!(
        out,
        r#"{{"format":"whitewater-history","version":"1.0","workload":"bench","models":{{"r":"cas-register"}},"clock":"monotonic-ns","nodes":["n1","n2","n3"]}}"#
    )?;
    let mut state: Vec<Option<u64>> = vec![None; shape.keys as usize];
    let mut open = vec![Open::default(); shape.clients as usize];
    let mut steps = BinaryHeap::new();
    for (client, open) in open.iter_mut().enumerate() {
        open.process = client as u64;
        steps.push(Reverse((rng.random_range(0..100_000), Step::Invoke, client)));
    }
    let (mut next_process, mut next_value, mut index, mut left) = (shape.clients, 0, 0, shape.operations);
    if shape.lost_write {
        left = left.saturating_sub(3);
    }
    let mut end = 0;
    while let Some(Reverse((time, step, client))) = steps.pop() {
        let o = &mut open[client];
        match step {
            Step::Invoke if left == 0 => {}
            Step::Invoke => {
                left -= 1;
                next_value += 1;
                let fresh = if shape.values > 0 { rng.random_range(1..=shape.values) } else { next_value };
                o.key = rng.random_range(0..state.len());
                o.what = match (rng.random_range(0..10), state[o.key]) {
                    (0..4, _) => What::Read,
                    (8.., Some(held)) => What::Cas(held, fresh),
                    _ => What::Write(fresh),
                };
                o.unknown = rng.random_bool(shape.unknown);
                o.happened = !o.unknown || rng.random_bool(0.5);
                o.saw = None;
                line(out, &mut index, time, client, o, "invoke")?;
                let effect = time + rng.random_range(1_000..200_000);
                steps.push(Reverse((effect, Step::Effect, client)));
                steps.push(Reverse((effect + rng.random_range(1_000..200_000), Step::Complete, client)));
            }
            Step::Effect if !o.happened => {}
            Step::Effect => {
                let held = &mut state[o.key];
                o.saw = *held;
                match o.what {
                    What::Write(value) => *held = Some(value),
                    What::Cas(from, to) if *held == Some(from) => *held = Some(to),
                    What::Read | What::Cas(..) => {}
                }
            }
            Step::Complete => {
                let refused = matches!(o.what, What::Cas(from, _) if o.saw != Some(from));
                let kind = match (o.unknown, refused) {
                    (true, _) => "info",
                    (false, true) => "fail",
                    (false, false) => "ok",
                };
                line(out, &mut index, time, client, o, kind)?;
                if o.unknown {
                    o.process = next_process;
                    next_process += 1;
                }
                steps.push(Reverse((time + rng.random_range(1_000..100_000), Step::Invoke, client)));
            }
        }
        end = time;
    }
    if shape.lost_write {
        let (kept, lost) = (next_value + 1, next_value + 2);
        for (n, what) in (1..).zip([What::Write(kept), What::Write(lost), What::Read]) {
            let o = Open { process: next_process, what, saw: Some(kept), ..Open::default() };
            line(out, &mut index, end + 2 * n, 0, &o, "invoke")?;
            line(out, &mut index, end + 2 * n + 1, 0, &o, "ok")?;
        }
    }
    for round in 0..shape.drain {
        for (n, what) in (0..).zip([What::Write(1), What::Write(2), What::Read]) {
            let o = Open { process: next_process, what, saw: Some(1), ..Open::default() };
            let time = end + 10 + 2 * (3 * round + n);
            line(out, &mut index, time, 0, &o, "invoke")?;
            line(out, &mut index, time + 1, 0, &o, "ok")?;
        }
    }
    out.flush()
}

fn line(
    out: &mut dyn Write,
    index: &mut u64,
    time: u64,
    client: usize,
    o: &Open,
    kind: &str,
) -> io::Result<()> {
    let f = match o.what {
        What::Read => "read",
        What::Write(_) => "write",
        What::Cas(..) => "cas",
    };
    write!(
        out,
        r#"{{"index":{index},"time":{time},"process":{},"type":"{kind}","f":"{f}","key":"r{}","value":"#,
        o.process, o.key
    )?;
    match o.what {
        What::Write(value) => write!(out, "{value}")?,
        What::Cas(from, to) => write!(out, "[{from},{to}]")?,
        What::Read => match o.saw.filter(|_| kind == "ok") {
            Some(value) => write!(out, "{value}")?,
            None => write!(out, "null")?,
        },
    }
    match (kind, o.saw) {
        ("fail", Some(saw)) => write!(out, r#","error":"cas_mismatch","actual":{saw}"#)?,
        ("fail", None) => write!(out, r#","error":"cas_mismatch","actual":null"#)?,
        ("info", _) => write!(out, r#","error":"timeout""#)?,
        _ => {}
    }
    writeln!(out, r#","node":"n{}","client":"c{client}"}}"#, client % 3 + 1)?;
    *index += 1;
    Ok(())
}

/// What was measured of one shape.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Of the history.
    pub verdict: Verdict,
    /// Of a whole judgement, in the middle of all rounds.
    pub median: Duration,
    /// The slowest round.
    pub slowest: Duration,
    /// Processor time of a round, of all threads that judge, on average; `None` where the system does not tell.
    pub processor: Option<Duration>,
    /// Bytes that were resident at most; `None` where the system does not tell.
    pub peak: Option<u64>,
}

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The history could not be written.
    #[error("cannot write the generated history: {0}")]
    Write(#[from] io::Error),
    /// It could not be judged.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Writes the history of a shape to `path`.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, shape: &Shape, seed: u64) -> Result<(), BenchError> {
    Ok(generate(shape, seed, &mut BufWriter::new(File::create(path)?))?)
}

/// Judges the history at `path` so many times, at least once.
///
/// # Errors
/// It cannot be judged.
pub fn measure(path: &Path, rounds: u32, options: &Options) -> Result<Measurement, BenchError> {
    timed(rounds, PROCESS, || Ok(check(path, options)?.verdict))
}

/// Follows the history of a shape so many times, at least once, while another thread generates it into a pipe. The processor time is
/// that of following alone, the peak that of both.
///
/// # Errors
/// There is no pipe, or the history cannot be followed.
pub fn measure_following(shape: &Shape, seed: u64, rounds: u32) -> Result<Measurement, BenchError> {
    timed(rounds, THREAD, || {
        let (reader, writer) = io::pipe()?;
        thread::scope(|scope| {
            let generator =
                scope.spawn(|| generate(shape, seed, &mut BufWriter::with_capacity(1 << 16, writer)));
            let mut reader = BufReader::with_capacity(1 << 16, reader);
            let followed = follow(Path::new("generated"), &mut reader, |_| false);
            // A generator whose reader went away ends with an error, too, and not with the first one.
            drop(reader);
            let generated = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let verdict = followed.map_err(CheckError::from)?.verdict();
            generated?;
            Ok(verdict)
        })
    })
}

/// What so many rounds of a judgement took; `processor` is where Linux tells the time of those who judge.
fn timed(
    rounds: u32,
    processor: &str,
    mut judge: impl FnMut() -> Result<Verdict, BenchError>,
) -> Result<Measurement, BenchError> {
    let mut times = Vec::new();
    forget_peak();
    let before = processor_time(processor);
    let mut verdict = Verdict::Valid;
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        verdict = judge()?;
        times.push(start.elapsed());
    }
    let processor =
        before.zip(processor_time(processor)).map(|(before, after)| (after - before) / rounds.max(1));
    times.sort_unstable();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(Measurement { verdict, median, slowest, processor, peak: peak() })
}

/// Where Linux tells of all threads, and of the one that asks.
const PROCESS: &str = "/proc/self/stat";
const THREAD: &str = "/proc/thread-self/stat";

/// Makes Linux count the peak from now on; elsewhere the peak stays unknown.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// What Linux counts in `utime` and `stime`, hundredths of a second on every architecture.
fn processor_time(path: &str) -> Option<Duration> {
    let stat = fs::read_to_string(path).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}

fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history;

    fn shape() -> Shape {
        Shape {
            operations: 3000,
            keys: 3,
            clients: 7,
            unknown: 0.05,
            values: 0,
            lost_write: false,
            drain: 0,
            transactions: None,
        }
    }

    fn text(shape: &Shape, seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        generate(shape, seed, &mut out).unwrap();
        out
    }

    #[test]
    fn a_seed_and_a_shape_decide_the_history() {
        assert_eq!(text(&shape(), 1), text(&shape(), 1));
        assert_ne!(text(&shape(), 1), text(&shape(), 2));
        let history = history::parse(Path::new("h"), &mut &text(&shape(), 1)[..]).unwrap();
        let operations = || history.keys.values().flat_map(|key| &key.operations);
        assert_eq!((operations().count(), history.keys.len()), (3000, 3));
        let unknown = operations().filter(|o| o.outcome == history::Outcome::Info).count();
        assert!((60..300).contains(&unknown), "{unknown} of 3000 are indeterminate");
    }

    #[test]
    fn what_is_generated_is_valid_and_what_is_planted_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("h.jsonl");
        for (unknown, values) in [(0.0, 0), (0.5, 0), (0.05, 5)] {
            write(&path, &Shape { unknown, values, operations: 500, ..shape() }, 3).unwrap();
            let measured = measure(&path, 2, &Options::default()).unwrap();
            assert_eq!(measured.verdict, Verdict::Valid);
            assert!(measured.median <= measured.slowest);
        }
        let followed = measure_following(&shape(), 3, 2).unwrap();
        assert_eq!(followed.verdict, Verdict::Valid);
        let lossy = Shape { unknown: 0.1, lost_write: true, ..shape() };
        assert_eq!(measure_following(&lossy, 3, 1).unwrap().verdict, Verdict::Invalid);
        for kind in [Transactions::Lists, Transactions::Registers] {
            let shape = Shape { transactions: Some(kind), keys: 10, clients: 20, ..shape() };
            write(&path, &shape, 3).unwrap();
            assert_eq!(check(&path, &Options::default()).unwrap().verdict, Verdict::Valid);
            let lossy = Shape { lost_write: true, ..shape };
            write(&path, &lossy, 3).unwrap();
            let report = check(&path, &Options::default()).unwrap();
            assert_eq!((report.verdict, report.class.as_deref()), (Verdict::Invalid, Some("lost write")));
            assert!(report.violations[0].operations.len() <= 3, "{:?}", report.violations[0]);
            assert_eq!(text(&lossy, 1), text(&lossy, 1));
        }
        let lossy = Shape { keys: 1, unknown: 0.5, lost_write: true, ..shape() };
        write(&path, &lossy, 3).unwrap();
        let report = check(&path, &Options::default()).unwrap();
        assert_eq!((report.verdict, report.class.as_deref()), (Verdict::Invalid, Some("lost write")));
        assert!(
            report.violations[0].reason.starts_with("2999 was acknowledged"),
            "{}",
            report.violations[0].reason
        );
    }
}
