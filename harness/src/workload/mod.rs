//! What clients ask for: operations on keys that are retired before they grow old, from a seed and nothing else.
//! How a key of one type lives is in its own file; what a reply means is the system's business.

mod append;
mod register;
mod set;
mod slots;

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::spec::WorkloadKind;

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The key; its first letter tells its type.
    pub key: String,
    /// What to do with it.
    pub action: Action,
}

/// What an operation does. Values and elements are unique over the run, so that a read names its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the key linearizably.
    Read,
    /// Set a register.
    Write(i64),
    /// Set a register if it holds `from`.
    Cas {
        /// The value that must be there.
        from: i64,
        /// The value that replaces it.
        to: i64,
    },
    /// Append an element to a list.
    Append(i64),
    /// Add an element to a set.
    Add(i64),
}

impl Operation {
    /// The name of the function in a history.
    pub fn f(&self) -> &'static str {
        match self.action {
            Action::Read => "read",
            Action::Write(_) => "write",
            Action::Cas { .. } => "cas",
            Action::Append(_) => "append",
            Action::Add(_) => "add",
        }
    }

    /// The argument as a history shows it.
    pub fn argument(&self) -> Value {
        match self.action {
            Action::Read => Value::Null,
            Action::Write(value) | Action::Append(value) | Action::Add(value) => json!(value),
            Action::Cas { from, to } => json!([from, to]),
        }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        self.action == Action::Read
    }

    fn read(key: &str) -> Operation {
        Operation { key: key.to_owned(), action: Action::Read }
    }
}

/// How the bytes of a key are read: a register is decimal text, everything else is elements, each followed by a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One integer, or absent.
    Register,
    /// Integers in order; absent is empty.
    Elements,
}

/// The shape of a key of this harness, by its first letter.
pub fn shape(key: &str) -> Shape {
    if key.starts_with(register::PREFIX) { Shape::Register } else { Shape::Elements }
}

/// The last value that one worker knows of each register it met: where its `cas` starts from.
pub type Seen = BTreeMap<String, i64>;

/// What clients can do beside writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Can {
    /// Compare and set.
    pub cas: bool,
    /// Read while others write: what a system prints is read at the end alone.
    pub read: bool,
}

/// Unique values of a run, in order.
#[derive(Debug, Default)]
struct Values(i64);

impl Values {
    fn next(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

/// Keys of one type: what is done with them, and when each gives way to a fresh one.
trait Family: std::fmt::Debug + Send {
    /// First letter of its keys.
    fn prefix(&self) -> &'static str;
    /// The checker's name of its model.
    fn model(&self) -> &'static str;
    /// The next operation.
    fn next(&mut self, rng: &mut ChaCha8Rng, seen: &Seen, values: &mut Values) -> Operation;
    /// A write to `key`.
    fn write(&self, key: &str, values: &mut Values) -> Operation;
    /// The keys, with their slots and history.
    fn slots(&mut self) -> &mut slots::Slots;
}

/// A workload at work. Purely a function of its kind, of the random streams handed to it and of the order of the calls.
#[derive(Debug)]
pub struct Workload {
    /// Each with its share of the operations, in percent.
    families: Vec<(u32, Box<dyn Family>)>,
    values: Values,
    /// Whether clients read before the end.
    reads: bool,
}

impl Workload {
    /// A workload of this kind with no key used yet, for clients that `can`, which ask for `rate` operations a second, 0 if as many as
    /// they can.
    pub fn new(kind: WorkloadKind, can: Can, rate: u32) -> Workload {
        let register = || -> Box<dyn Family> { Box::new(register::Registers::new(can, rate)) };
        let append = || -> Box<dyn Family> { Box::new(append::Lists::new(can.read)) };
        let families = match kind {
            WorkloadKind::Mixed => vec![(60, register()), (40, append())],
            WorkloadKind::Register => vec![(100, register())],
            WorkloadKind::Append => vec![(100, append())],
            WorkloadKind::Set => vec![(100, Box::new(set::Sets::new(can.read)) as Box<dyn Family>)],
        };
        Workload { families, values: Values::default(), reads: can.read }
    }

    /// The models of its keys by prefix, as the header of the history names them.
    pub fn models(&self) -> BTreeMap<String, String> {
        self.families.iter().map(|(_, f)| (f.prefix().to_owned(), f.model().to_owned())).collect()
    }

    /// The next operation for a worker that draws from `rng` and knows `seen`.
    pub fn next(&mut self, rng: &mut ChaCha8Rng, seen: &Seen) -> Operation {
        let mut draw = rng.random_range(0..100);
        let mut chosen = 0;
        for (i, (share, _)) in self.families.iter().enumerate() {
            chosen = i;
            if draw < *share {
                break;
            }
            draw -= share;
        }
        self.families[chosen].1.next(rng, seen, &mut self.values)
    }

    /// A key of the workload's first type that no worker uses: for the question whether the cluster serves.
    pub fn probe_key(&mut self) -> String {
        self.families[0].1.slots().reserve()
    }

    /// A fresh write to a key from [`Workload::probe_key`], and the read that must see it, where clients read.
    pub fn probe(&mut self, key: &str) -> Vec<Operation> {
        let write = self.families[0].1.write(key, &mut self.values);
        std::iter::once(write).chain(self.reads.then(|| Operation::read(key))).collect()
    }

    /// Every key that was ever handed out, by type and age: what the final reads must cover.
    pub fn keys(&mut self) -> Vec<String> {
        self.families.iter_mut().flat_map(|(_, f)| f.slots().used().to_vec()).collect()
    }

    /// One read of each of `keys`.
    pub fn final_reads(keys: &[String]) -> Vec<Operation> {
        keys.iter().map(|k| Operation::read(k)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    const ALL: Can = Can { cas: true, read: true };

    /// `count` operations of three workers in turn; every worker believes that each of its writes took effect.
    fn operations(kind: WorkloadKind, seed: u64, count: usize) -> (Vec<Operation>, Workload) {
        let mut workload = Workload::new(kind, ALL, 2_000);
        let mut workers: Vec<(ChaCha8Rng, Seen)> =
            (0..3).map(|k| (ChaCha8Rng::seed_from_u64(seed + k), Seen::new())).collect();
        let operations = (0..count)
            .map(|i| {
                let (rng, seen) = &mut workers[i % 3];
                let operation = workload.next(rng, seen);
                if let Action::Write(value) | Action::Cas { to: value, .. } = operation.action {
                    seen.insert(operation.key.clone(), value);
                }
                operation
            })
            .collect();
        (operations, workload)
    }

    #[test]
    fn the_same_seed_gives_the_same_operations_and_another_gives_others() {
        for kind in WorkloadKind::ALL {
            let text = |seed| format!("{:?}", operations(kind, seed, 2_000).0);
            assert_eq!(text(7), text(7), "{kind:?}");
            assert_ne!(text(7), text(8), "{kind:?}");
        }
    }

    #[test]
    fn no_value_is_written_twice_in_a_run() {
        for kind in WorkloadKind::ALL {
            let mut written = BTreeSet::new();
            for operation in operations(kind, 3, 20_000).0 {
                match operation.action {
                    Action::Read => {}
                    Action::Write(v) | Action::Append(v) | Action::Add(v) | Action::Cas { to: v, .. } => {
                        assert!(written.insert(v), "{kind:?} writes {v} twice");
                    }
                }
            }
            assert!(written.len() > 5_000, "{kind:?}: only {} writes in 20000 operations", written.len());
        }
    }

    #[test]
    fn elements_stay_within_the_bound_of_the_node_and_keys_are_all_read_at_the_end() {
        for kind in [WorkloadKind::Mixed, WorkloadKind::Append, WorkloadKind::Set] {
            let (operations, mut workload) = operations(kind, 5, 100_000);
            let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
            let mut touched = BTreeSet::new();
            for operation in &operations {
                touched.insert(operation.key.clone());
                if let Action::Append(value) | Action::Add(value) = operation.action {
                    *bytes.entry(operation.key.clone()).or_insert(operation.key.len()) +=
                        value.to_string().len() + 1;
                }
            }
            let largest = bytes.values().max().copied().unwrap();
            // Two digits more, for values of ten million operations, and a read of it is still one datagram.
            assert!(largest <= 600, "{kind:?}: a key of {largest} bytes");
            let keys: BTreeSet<String> = workload.keys().into_iter().collect();
            assert!(touched.is_subset(&keys), "{kind:?}");
        }
    }

    #[test]
    fn a_cas_starts_from_a_value_that_its_worker_saw_and_mixed_has_every_function() {
        let (operations, _) = operations(WorkloadKind::Mixed, 1, 5_000);
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        let mut written = BTreeSet::new();
        for operation in &operations {
            *count.entry(operation.f()).or_default() += 1;
            match operation.action {
                Action::Write(v) => {
                    written.insert((operation.key.clone(), v));
                }
                Action::Cas { from, to } => {
                    assert!(written.contains(&(operation.key.clone(), from)), "cas from an unseen {from}");
                    written.insert((operation.key.clone(), to));
                }
                _ => {}
            }
        }
        assert_eq!(count.keys().copied().collect::<Vec<_>>(), ["append", "cas", "read", "write"]);
        assert!(count.values().all(|n| *n > 400), "{count:?}");
    }

    #[test]
    fn the_probe_uses_a_key_of_its_own_and_a_fresh_value_each_time() {
        for kind in WorkloadKind::ALL {
            let mut workload = Workload::new(kind, ALL, 2_000);
            let key = workload.probe_key();
            let first = workload.probe(&key);
            let second = workload.probe(&key);
            assert!(first.len() == 2 && first[1].is_read() && first[1].key == key);
            assert_ne!(first[0], second[0]);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for _ in 0..5_000 {
                assert_ne!(workload.next(&mut rng, &Seen::new()).key, key);
            }
            assert!(workload.keys().contains(&key));
        }
    }

    #[test]
    fn a_register_is_in_use_for_no_longer_where_clients_are_slow() {
        let keys = |rate| {
            let mut workload = Workload::new(WorkloadKind::Register, ALL, rate);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            (0..10_000).for_each(|_| drop(workload.next(&mut rng, &Seen::new())));
            workload.keys().len()
        };
        assert!(
            (20..=30).contains(&keys(0)) && keys(2_000) == keys(0) && keys(200) == keys(1),
            "{}",
            keys(0)
        );
        assert!((235..=255).contains(&keys(200)), "{}", keys(200));
    }

    #[test]
    fn who_cannot_read_writes_and_keys_are_many_so_that_what_is_lost_shows_at_the_end() {
        for kind in WorkloadKind::ALL {
            let mut workload = Workload::new(kind, Can { cas: true, read: false }, 2_000);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let drawn: Vec<Operation> = (0..3_000).map(|_| workload.next(&mut rng, &Seen::new())).collect();
            assert!(drawn.iter().all(|operation| !operation.is_read()), "{kind:?}");
            let key = workload.probe_key();
            assert!(
                workload.probe(&key).iter().all(|operation| !operation.is_read() && operation.key == key)
            );
            let registers: BTreeSet<&str> =
                drawn.iter().map(|o| o.key.as_str()).filter(|k| k.starts_with('r')).collect();
            let writes = drawn.iter().filter(|operation| operation.key.starts_with('r')).count();
            assert!(
                registers.len() * 3 >= writes,
                "{kind:?}: {writes} writes to {} registers",
                registers.len()
            );
        }
    }

    #[test]
    fn models_are_named_by_prefix() {
        let models = |kind| serde_json::to_string(&Workload::new(kind, ALL, 2_000).models()).unwrap();
        assert_eq!(models(WorkloadKind::Mixed), r#"{"a":"list-append","r":"cas-register"}"#);
        assert_eq!(models(WorkloadKind::Set), r#"{"s":"set"}"#);
        assert_eq!(
            (shape("r12"), shape("a1"), shape("s1")),
            (Shape::Register, Shape::Elements, Shape::Elements)
        );
    }
}
