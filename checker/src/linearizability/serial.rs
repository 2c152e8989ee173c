//! Linearizability of transactions on registers whose values are each written once: a search for the serial order, depth first, in
//! which what was read forbids nearly everything. Exact within its budget.
//!
//! A value that was replaced never comes back. So nothing replaces a value that somebody has still to read (the anti-dependencies of
//! Adya), and whoever wrote a value takes effect before its first reader ends, whoever read it after its writer began. What can be
//! done at once without taking anything from the others is done at once: a transaction of which nobody reads what it writes, or
//! before which nobody else can write those keys. Only between writers of one key that overlap is there a choice. A placement of
//! the same transactions is not tried again: a value that somebody has still to read was not replaced in either, so that both hold
//! the same, as far as anybody will look.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::dependencies::steps;
use super::{Bound, Budget, Op, Spent};
use crate::deadline::Watch;
use crate::history::{Micro, Value};

/// Steps between two looks at the clock.
const CLOCK_STEPS: u64 = 1024;
/// Bytes of a placement that was tried, with what its table needs.
const TRIED_BYTES: u64 = 48;

/// What the search says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An order, by position. Indeterminate transactions of which nobody saw anything are not in it.
    Linearizable(Vec<usize>),
    /// These have no order; it shows near this moment.
    Violation(Vec<usize>, u64),
    /// A list, or a value that is written twice: not for this engine.
    NotTold,
    Unknown(Spent),
}

/// Who wrote a value; `None` is what was there at first.
type Version = Option<usize>;

struct Txn {
    call: u64,
    /// When it must have taken effect at the latest, and at the earliest, by those who read from it and from whom it read.
    ret: u64,
    /// Key and version of what it saw before it wrote the key.
    reads: Vec<(usize, Version)>,
    writes: Vec<usize>,
}

struct Serial<'a> {
    ops: &'a [Op],
    txns: Vec<Txn>,
    happened: Vec<bool>,
    /// By key: who writes it and is not placed, by earliest moment.
    writers: Vec<BTreeSet<(u64, usize)>>,
    /// Readers of a version that are still to come.
    readers: HashMap<(usize, Version), usize>,
    current: Vec<Version>,
    /// What is not placed, by earliest and by latest moment.
    by_call: BTreeSet<(u64, usize)>,
    by_ret: BTreeSet<(u64, usize)>,
    /// What is placed, with the versions that it replaced.
    placed: Vec<(usize, Vec<Version>)>,
    /// A number that stands for what is placed.
    mark: u128,
}

/// Judges transactions on keys that are this at first.
pub(crate) fn judge(initial: &Value, ops: &[Op], budget: Budget) -> Verdict {
    match Serial::of(initial, ops) {
        Some(Ok(mut serial)) => serial.search(budget),
        Some(Err(seed)) => Verdict::Violation(seed, u64::MAX),
        None => Verdict::NotTold,
    }
}

impl<'a> Serial<'a> {
    /// `None` if they are not for this engine, an error if one saw what it cannot have seen.
    fn of(initial: &Value, ops: &'a [Op]) -> Option<Result<Serial<'a>, Vec<usize>>> {
        let mut keys: HashMap<&str, usize> = HashMap::new();
        let mut wrote: HashMap<(usize, &Value), (usize, bool)> = HashMap::new();
        let mut writers: Vec<Vec<usize>> = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            let steps = steps(op);
            for (n, step) in steps.iter().enumerate() {
                let next = keys.len();
                let key = *keys.entry(step.key()).or_insert(next);
                if key == next {
                    writers.push(Vec::new());
                }
                match step {
                    Micro::Append(..) => return None,
                    Micro::Read(_, Some(Value::List(_))) => return None,
                    Micro::Read(_, told) if op.unknown() && told.is_some() => return None,
                    Micro::Read(..) => {}
                    Micro::Write(name, value) => {
                        let last =
                            !steps[n + 1..].iter().any(|s| matches!(s, Micro::Write(k, _) if k == name));
                        if value == initial || wrote.insert((key, value), (i, last)).is_some() {
                            return None;
                        }
                        if last {
                            writers[key].push(i);
                        }
                    }
                }
            }
        }
        let mut txns = Vec::with_capacity(ops.len());
        let mut readers: HashMap<(usize, Version), usize> = HashMap::new();
        for (i, op) in ops.iter().enumerate() {
            let mut own: HashMap<usize, &Value> = HashMap::new();
            let mut txn = Txn { call: op.call, ret: op.ret, reads: Vec::new(), writes: Vec::new() };
            for step in steps(op) {
                let key = keys[&**step.key()];
                match step {
                    Micro::Write(_, value) => drop(own.insert(key, value)),
                    // Where a register always holds a number, a read of nil is one without a result.
                    Micro::Read(_, Some(Value::Nil)) if *initial != Value::Nil => {}
                    Micro::Read(_, Some(read)) => {
                        if let Some(written) = own.get(&key) {
                            if *written != read {
                                return Some(Err(vec![i]));
                            }
                            continue;
                        }
                        let version = match wrote.get(&(key, read)) {
                            Some((writer, true)) if *writer != i => Some(*writer),
                            Some((writer, _)) => return Some(Err(vec![i, *writer])),
                            None if read == initial => None,
                            None => return Some(Err(vec![i])),
                        };
                        match txn.reads.iter().find(|(k, _)| *k == key) {
                            Some((_, other)) if *other != version => {
                                return Some(Err([Some(i), *other, version].into_iter().flatten().collect()));
                            }
                            Some(_) => {}
                            None => txn.reads.push((key, version)),
                        }
                    }
                    _ => {}
                }
            }
            txn.writes = own.into_keys().collect();
            txn.writes.sort_unstable();
            for read in &txn.reads {
                *readers.entry(*read).or_default() += 1;
            }
            txns.push(txn);
        }
        let mut happened: Vec<bool> = ops.iter().map(|op| !op.unknown()).collect();
        for (_, version) in readers.keys() {
            if let Some(writer) = version {
                happened[*writer] = true;
            }
        }
        tighten(&mut txns);
        let to_come = |of_key: Vec<usize>| {
            of_key.into_iter().filter(|i| happened[*i]).map(|i| (txns[i].call, i)).collect()
        };
        let writers = writers.into_iter().map(to_come).collect();
        let current = vec![None; keys.len()];
        let left = || (0..ops.len()).filter(|i| happened[*i]);
        let by_call = left().map(|i| (txns[i].call, i)).collect();
        let by_ret = left().map(|i| (txns[i].ret, i)).collect();
        Some(Ok(Serial {
            ops,
            txns,
            happened,
            writers,
            readers,
            current,
            by_call,
            by_ret,
            placed: Vec::new(),
            mark: 0,
        }))
    }

    fn search(&mut self, budget: Budget) -> Verdict {
        let mut watch = Watch::new(budget.deadline);
        let (mut steps, mut look) = (0, CLOCK_STEPS);
        // What is still to be tried, and how many were placed before it.
        let mut choices: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut tried: HashSet<u128> = HashSet::new();
        let mut furthest = 0;
        loop {
            let Some((latest, next)) = self.by_ret.first().copied() else {
                return Verdict::Linearizable(self.placed.iter().map(|(op, _)| *op).collect());
            };
            let spent = |bound| {
                Verdict::Unknown(Spent {
                    bound,
                    reached: latest.min(self.ops[next].ret),
                    open_unknown: 0,
                    steps,
                })
            };
            if steps > budget.steps {
                return spent(Bound::Steps);
            }
            if tried.len() as u64 * TRIED_BYTES > budget.memory {
                return spent(Bound::Memory);
            }
            if steps >= look {
                look = steps + CLOCK_STEPS;
                if watch.passed(0) {
                    return spent(Bound::Time);
                }
            }
            furthest = furthest.max(latest);
            let mut possible = self.possible(latest, &mut steps);
            if possible.is_empty() || (possible.len() > 1 && !tried.insert(self.mark)) {
                // Back to the last choice.
                let Some((count, rest)) = choices.last_mut() else {
                    let all = (0..self.ops.len()).filter(|i| self.happened[*i]).collect();
                    return Verdict::Violation(all, furthest);
                };
                let count = *count;
                let next = rest.pop();
                while self.placed.len() > count {
                    self.take_back();
                }
                match next {
                    Some(next) => self.place(next),
                    None => drop(choices.pop()),
                }
                steps += 1;
                continue;
            }
            let next = possible.remove(0);
            if !possible.is_empty() {
                possible.reverse();
                choices.push((self.placed.len(), possible));
            }
            self.place(next);
            steps += 1;
        }
    }

    /// What can be next: one that takes nothing from the others, or each of those that may be first.
    fn possible(&self, latest: u64, steps: &mut u64) -> Vec<usize> {
        let mut possible = Vec::new();
        for (_, op) in self.by_call.range(..=(latest, usize::MAX)) {
            *steps += 1;
            if !self.fits(*op) {
                continue;
            }
            if self.takes_nothing(*op) {
                return vec![*op];
            }
            possible.push(*op);
        }
        possible.sort_by_key(|op| (self.txns[*op].ret, *op));
        possible
    }

    /// Whether what it saw is there, and nobody has still to see what it replaces.
    fn fits(&self, op: usize) -> bool {
        let txn = &self.txns[op];
        txn.reads.iter().all(|(key, version)| self.current[*key] == *version)
            && txn.writes.iter().all(|key| {
                let version = self.current[*key];
                let to_come = self.readers.get(&(*key, version)).copied().unwrap_or_default();
                to_come == usize::from(txn.reads.contains(&(*key, version)))
            })
    }

    /// Whether nobody reads what it writes, or nobody else can write that in the time until it has to be done.
    fn takes_nothing(&self, op: usize) -> bool {
        let txn = &self.txns[op];
        txn.writes.iter().all(|key| {
            let read = self.readers.contains_key(&(*key, Some(op)));
            let mut others = self.writers[*key].range(..=(txn.ret, usize::MAX));
            let after = |other: usize| self.txns[other].reads.contains(&(*key, Some(op)));
            !read || others.all(|(_, other)| *other == op || after(*other))
        })
    }

    fn place(&mut self, op: usize) {
        let replaced = self.txns[op].writes.iter().map(|key| self.current[*key]).collect();
        self.by_call.remove(&(self.txns[op].call, op));
        self.by_ret.remove(&(self.txns[op].ret, op));
        self.mark ^= number(&op);
        for read in &self.txns[op].reads {
            *self.readers.entry(*read).or_default() -= 1;
        }
        for key in &self.txns[op].writes {
            self.writers[*key].remove(&(self.txns[op].call, op));
            self.current[*key] = Some(op);
        }
        self.placed.push((op, replaced));
    }

    fn take_back(&mut self) {
        let Some((op, replaced)) = self.placed.pop() else { return };
        for (key, version) in self.txns[op].writes.iter().zip(replaced) {
            self.writers[*key].insert((self.txns[op].call, op));
            self.current[*key] = version;
        }
        for read in &self.txns[op].reads {
            *self.readers.entry(*read).or_default() += 1;
        }
        self.mark ^= number(&op);
        self.by_ret.insert((self.txns[op].ret, op));
        self.by_call.insert((self.txns[op].call, op));
    }
}

/// Moves the moments to those of others: whoever wrote is done before its readers end, whoever read after its writer began. Each
/// gets its moment once, from the first end or the last beginning that leads to it.
fn tighten(txns: &mut [Txn]) {
    let mut read_by: Vec<Vec<usize>> = vec![Vec::new(); txns.len()];
    let mut read_from = read_by.clone();
    for (reader, txn) in txns.iter().enumerate() {
        for writer in txn.reads.iter().filter_map(|(_, version)| *version) {
            read_by[writer].push(reader);
            read_from[reader].push(writer);
        }
    }
    let mut by_ret: Vec<usize> = (0..txns.len()).collect();
    by_ret.sort_by_key(|txn| txns[*txn].ret);
    hand_on(&by_ret, &read_from, |from, to| txns[to].ret = txns[from].ret);
    let mut by_call: Vec<usize> = (0..txns.len()).collect();
    by_call.sort_by_key(|txn| Reverse(txns[*txn].call));
    hand_on(&by_call, &read_by, |from, to| txns[to].call = txns[from].call);
}

/// Hands on from each, in this order, to all that it leads to and that nobody before has led to.
fn hand_on(order: &[usize], leads_to: &[Vec<usize>], mut hand: impl FnMut(usize, usize)) {
    let mut done = vec![false; order.len()];
    for first in order {
        let mut stack = vec![*first];
        while let Some(at) = stack.pop() {
            if !std::mem::replace(&mut done[at], true) {
                hand(*first, at);
                stack.extend(leads_to[at].iter().filter(|next| !done[**next]));
            }
        }
    }
}

/// A number of 128 bits that stands for this: two placements that differ have the same sum of such numbers once in 2^64 searches.
fn number(what: &impl Hash) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, what).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests;
