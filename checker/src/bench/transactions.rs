//! Generates histories of transactions as Jepsen's workloads list-append and rw-register make them: a few keys at a time, of each so
//! many new values, then a new key.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, Write};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Shape, Step};

/// What transactions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transactions {
    /// Append to lists, and read them.
    Lists,
    /// Write registers, and read them.
    Registers,
}

/// Values of a key, after which another takes its place.
const VALUES: u64 = 32;
/// Steps of a transaction, at most.
const STEPS: u64 = 4;

/// A step of a transaction: the key, and the value that it brings; none for a read.
type Part = (u64, Option<u64>);

#[derive(Clone, Default)]
struct Open {
    process: u64,
    parts: Vec<Part>,
    /// What each part saw, as a history writes it.
    saw: Vec<String>,
    unknown: bool,
    happened: bool,
}

struct Generator<'a> {
    kind: Transactions,
    rng: ChaCha8Rng,
    out: &'a mut dyn Write,
    index: u64,
    /// The keys in use, and how many values each has had.
    keys: Vec<(u64, u64)>,
    next_key: u64,
    held: HashMap<u64, Vec<u64>>,
}

/// Writes a history of transactions of one to four steps, half of them reads.
pub(super) fn generate(
    kind: Transactions,
    shape: &Shape,
    rng: ChaCha8Rng,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        r#"{{"format":"whitewater-history","version":"1.0","workload":"bench","models":{{"":"txn"}},"clock":"monotonic-ns","nodes":["n1","n2","n3"]}}"#
    )?;
    let keys = (0..shape.keys).map(|key| (key, 0)).collect();
    let mut generator =
        Generator { kind, rng, out, index: 0, keys, next_key: shape.keys, held: HashMap::new() };
    let mut open = vec![Open::default(); shape.clients as usize];
    let mut steps = BinaryHeap::new();
    for (client, open) in open.iter_mut().enumerate() {
        open.process = client as u64;
        steps.push(Reverse((generator.rng.random_range(0..100_000u64), Step::Invoke, client)));
    }
    let (mut next_process, mut left, mut end) = (shape.clients, shape.operations, 0);
    while let Some(Reverse((time, step, client))) = steps.pop() {
        let o = &mut open[client];
        match step {
            Step::Invoke if left == 0 => {}
            Step::Invoke => {
                left -= 1;
                o.parts = generator.parts();
                o.saw.clear();
                o.unknown = generator.rng.random_bool(shape.unknown);
                o.happened = !o.unknown || generator.rng.random_bool(0.5);
                generator.line(time, client, o, "invoke")?;
                let effect = time + generator.rng.random_range(1_000..200_000);
                steps.push(Reverse((effect, Step::Effect, client)));
                let complete = effect + generator.rng.random_range(1_000..200_000);
                steps.push(Reverse((complete, Step::Complete, client)));
            }
            Step::Effect if !o.happened => {}
            Step::Effect => generator.happen(o),
            Step::Complete => {
                generator.line(time, client, o, if o.unknown { "info" } else { "ok" })?;
                if o.unknown {
                    o.process = next_process;
                    next_process += 1;
                }
                let next = time + generator.rng.random_range(1_000..100_000);
                steps.push(Reverse((next, Step::Invoke, client)));
            }
        }
        end = time;
    }
    if shape.lost_write {
        // Two that follow each other; what the first brought is not there.
        let key = generator.keys[0].0;
        let mut writer =
            Open { process: next_process, parts: vec![(key, Some(VALUES + 1))], ..Open::default() };
        let mut reader = Open { process: next_process + 1, parts: vec![(key, None)], ..Open::default() };
        generator.happen(&mut reader);
        generator.happen(&mut writer);
        for (n, o) in (0..).zip([writer, reader]) {
            generator.line(end + 1 + 2 * n, 0, &o, "invoke")?;
            generator.line(end + 2 + 2 * n, 0, &o, "ok")?;
        }
    }
    generator.out.flush()
}

impl Generator<'_> {
    fn parts(&mut self) -> Vec<Part> {
        let count = self.rng.random_range(1..=STEPS);
        (0..count).map(|_| self.part()).collect()
    }

    fn part(&mut self) -> Part {
        let at = self.rng.random_range(0..self.keys.len());
        let key = self.keys[at].0;
        if self.rng.random_bool(0.5) {
            return (key, None);
        }
        self.keys[at].1 += 1;
        let value = self.keys[at].1;
        if value == VALUES {
            self.keys[at] = (self.next_key, 0);
            self.next_key += 1;
        }
        (key, Some(value))
    }

    fn happen(&mut self, o: &mut Open) {
        for (key, brings) in &o.parts {
            let held = self.held.entry(*key).or_default();
            match brings {
                Some(value) => {
                    if self.kind == Transactions::Registers {
                        held.clear();
                    }
                    held.push(*value);
                    o.saw.push(value.to_string());
                }
                None => o.saw.push(match self.kind {
                    Transactions::Lists => serde_json::to_string(held).expect("numbers are JSON"),
                    Transactions::Registers => held.last().map_or("null".to_owned(), u64::to_string),
                }),
            }
        }
    }

    fn line(&mut self, time: u64, client: usize, o: &Open, kind: &str) -> io::Result<()> {
        let brings = match self.kind {
            Transactions::Lists => "append",
            Transactions::Registers => "w",
        };
        write!(
            self.out,
            r#"{{"index":{},"time":{time},"process":{},"type":"{kind}","f":"txn","key":"db","value":["#,
            self.index, o.process
        )?;
        for (n, (key, value)) in o.parts.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            match value {
                Some(value) => write!(self.out, r#"{comma}["{brings}","k{key}",{value}]"#)?,
                None if kind == "ok" => write!(self.out, r#"{comma}["r","k{key}",{}]"#, o.saw[n])?,
                None => write!(self.out, r#"{comma}["r","k{key}",null]"#)?,
            }
        }
        let error = if kind == "info" { r#","error":"timeout""# } else { "" };
        writeln!(self.out, r#"]{error},"node":"n{}","client":"c{client}"}}"#, client % 3 + 1)?;
        self.index += 1;
        Ok(())
    }
}
