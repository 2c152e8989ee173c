//! Tells a contradiction as a person would: its class, a sentence, and each operation's part in it.
//! That it is one was shown by the engines; this file only finds the words.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::core::Closure;
use super::order::{Fault, Kind};
use super::{Finding, Op, Witness};
use crate::deadline::Deadline;
use crate::history::{Action, KeyHistory, Outcome, Value};
use crate::model::ModelKind;

/// Sums of a counter that are told apart before its violation is left without a name.
const SUMS_MAX: usize = 10_000;
/// From so many on the clock is looked at for each add.
const SUMS_LATE: usize = 100;
/// Sums that are made for one violation.
const SUMMING_MAX: usize = 20_000_000;
/// Operations of a core of registers that are held against each other for a name.
const PAIRED_MAX: usize = 5_000;
/// Operations of a core that still gets a name when the time is over.
pub(super) const LATE_MAX: usize = 64;

/// The operations of a key as they were recorded, and as they were judged.
pub(crate) struct About<'a> {
    pub(crate) key: &'a KeyHistory,
    pub(crate) ops: &'a [Op],
    /// Ends the shrinking of a contradiction; the verdict stands.
    pub(crate) deadline: Deadline,
}

/// Class, sentence, and notes by position in `ops`.
pub(super) type Story = (&'static str, String, Vec<(usize, String)>);

impl About<'_> {
    /// Shrinks a set of operations that has no valid order, and tells what is left.
    pub(crate) fn explain(&self, seed: Vec<usize>) -> Finding {
        let (core, late) = Closure::new(self.key.model, self.ops, self.deadline).shrink(seed);
        if late && core.len() > LATE_MAX {
            let (class, reason, notes) = self.no_order(&core);
            return Finding { late, ..self.finding(class, reason, notes, core, None) };
        }
        let told = match self.key.model {
            ModelKind::Mutex => Some(self.lock_story(&core)),
            _ => self.never_written(&core),
        };
        let (class, reason, notes) = told.unwrap_or_else(|| match self.key.model {
            ModelKind::FifoQueue => self.queue_story(&core),
            ModelKind::Txn | ModelKind::TxnFrom(_) => self.transaction_story(&core),
            ModelKind::Kv => self.text_story(&core),
            _ => self
                .wrong_sum(&core)
                .or_else(|| self.lost_update(&core))
                .or_else(|| self.old_value(&core))
                .unwrap_or_else(|| self.no_order(&core)),
        });
        let late = late || self.deadline.passed();
        Finding { late, ..self.finding(class, reason, notes, core, None) }
    }

    /// Tells a contradiction between a few elements of a list or set.
    pub(crate) fn explain_elements(&self, fault: Fault) -> Finding {
        let bringer = |e: &Value| (0..self.ops.len()).find(|i| self.ops[*i].action.brings() == Some(e));
        let mut core: Vec<usize> = fault.elements.iter().filter_map(bringer).collect();
        core.extend([Some(fault.read), fault.other].into_iter().flatten());
        core.sort_unstable();
        core.dedup();
        let (class, reason, notes) = self.element_story(&fault, bringer);
        self.finding(class, reason, notes, core, Some(fault.elements))
    }

    fn finding(
        &self,
        class: &'static str,
        reason: String,
        notes: Vec<(usize, String)>,
        core: Vec<usize>,
        elements: Option<Vec<Value>>,
    ) -> Finding {
        let reduce = |i: usize| match (&self.key.operations[self.ops[i].id].action, &elements) {
            (Action::Read(value), Some(kept)) => {
                let read = value.elements().unwrap_or_default().iter();
                Action::Read(Value::List(read.filter(|e| kept.contains(e)).cloned().collect()))
            }
            (other, _) => other.clone(),
        };
        let witness = |i: usize| Witness {
            operation: self.ops[i].id,
            action: reduce(i),
            note: notes.iter().find(|(op, _)| *op == i).map(|(_, note)| note.clone()).unwrap_or_default(),
        };
        let core = core.into_iter().map(witness).collect();
        Finding { class, reason, core, elements, late: false }
    }

    /// An operation that saw what nobody can have written before it ended.
    pub(super) fn never_written(&self, core: &[usize]) -> Option<Story> {
        for &i in core {
            for (key, observed) in self.ops[i].action.observed() {
                let values = match observed {
                    Value::List(items) => items,
                    value if *value == self.key.model.initial() => continue,
                    // A sum, a text: no part of it was brought as it is.
                    _ if !self.key.model.shows_parts() => continue,
                    Value::Nil => continue,
                    value => std::slice::from_ref(value),
                };
                for value in values {
                    let brings = |op: &&Op| op.action.brought().contains(&(key, value));
                    let mut writers = self.ops.iter().filter(brings).peekable();
                    if writers.peek().is_none() {
                        return Some(self.out_of_nowhere(i, key, value));
                    }
                    if writers.all(|writer| writer.call > self.ops[i].ret) {
                        return Some(self.out_of_the_future(i, value));
                    }
                }
            }
        }
        None
    }

    fn out_of_nowhere(&self, reader: usize, key: &str, value: &Value) -> Story {
        let failed = self
            .key
            .operations
            .iter()
            .find(|o| o.outcome == Outcome::Fail && o.action.brought().contains(&(key, value)));
        match failed {
            Some(failed) => (
                "aborted read",
                format!(
                    "{value} was seen, but the only operation that brings it failed at {}: it definitely did not happen",
                    self.key.clock.show(failed.complete.unwrap_or(failed.invoke)),
                ),
                vec![(
                    reader,
                    format!("{value} comes from an operation of process {} that failed", failed.process),
                )],
            ),
            None => (
                "phantom read",
                format!("{value} was seen, but nobody ever wrote it"),
                vec![(reader, format!("nobody writes {value} in the whole history"))],
            ),
        }
    }

    fn out_of_the_future(&self, reader: usize, value: &Value) -> Story {
        (
            "future read",
            format!(
                "{value} was seen by an operation that ended at {}, before any operation that brings it had begun",
                self.key.clock.show(self.ops[reader].ret)
            ),
            vec![(reader, format!("ends before anything that brings {value} begins"))],
        )
    }

    /// A sum that no choice of the adds that may have counted gives; or one that they give, but not in this place.
    fn wrong_sum(&self, core: &[usize]) -> Option<Story> {
        if self.key.model != ModelKind::Counter {
            return None;
        }
        let reader = core.iter().copied().rfind(|i| self.ops[*i].action.reads_only())?;
        let read = &self.ops[reader];
        let sum = match read.action.observes()? {
            Value::Int(n) => *n,
            _ => 0,
        };
        let amount = |action: &Action| match action {
            Action::Add(Value::Int(n)) => Some(*n),
            _ => None,
        };
        let summed = Cell::new(0);
        let sums = |may: &dyn Fn(&Op) -> bool, must: &dyn Fn(&Op) -> bool| {
            let mut sums = BTreeSet::from([0i64]);
            for op in self.ops.iter().filter(|op| may(op)) {
                let Some(n) = amount(&op.action) else { continue };
                let with: BTreeSet<i64> = sums.iter().filter_map(|sum| sum.checked_add(n)).collect();
                if must(op) {
                    sums = with;
                } else {
                    sums.extend(with);
                }
                summed.set(summed.get() + sums.len());
                let late = sums.len() > SUMS_LATE && self.deadline.passed();
                if late || sums.len() > SUMS_MAX || summed.get() > SUMMING_MAX {
                    return None;
                }
            }
            Some(sums)
        };
        let before = |op: &Op| op.call <= read.ret;
        let over = |op: &Op| op.ret < read.call;
        if sums(&before, &over)?.contains(&sum) {
            return None;
        }
        let failed = self.key.operations.iter().find(|o| {
            let n = (o.outcome == Outcome::Fail).then(|| amount(&o.action)).flatten();
            n.and_then(|n| sum.checked_sub(n))
                .is_some_and(|rest| sums(&before, &over).is_some_and(|sums| sums.contains(&rest)))
        });
        let began = self.key.clock.show(read.call);
        if let Some(failed) = failed {
            let reason = format!(
                "the read that began at {began} shows {sum}, which counts an add that failed at {}: it definitely did not happen",
                self.key.clock.show(failed.complete.unwrap_or(failed.invoke)),
            );
            return Some((
                "aborted read",
                reason,
                vec![(reader, format!("counts an add of process {}", failed.process))],
            ));
        }
        // Whether a later read counts all that was acknowledged before this one.
        let made_up_for = || {
            let mut later = self.ops.iter().filter(|op| op.call > read.ret && op.action.reads_only());
            later.any(|later| {
                let until = |op: &Op| op.call <= later.ret;
                let shown = match later.action.observes() {
                    Some(Value::Int(n)) => *n,
                    _ => 0,
                };
                sums(&until, &|op| op.ret < later.call).is_some_and(|sums| sums.contains(&shown))
            })
        };
        let twice = self.ops.iter().filter(|op| before(op)).filter_map(|op| amount(&op.action)).find(|n| {
            let rest = sum.checked_sub(*n);
            rest.is_some_and(|rest| sums(&before, &over).is_some_and(|sums| sums.contains(&rest)))
        });
        let class = if sums(&before, &|_| false)?.contains(&sum) {
            if made_up_for() { "stale read" } else { "lost write" }
        } else if sums(&|_| true, &over)?.contains(&sum) {
            "future read"
        } else if twice.is_some() {
            "duplicate apply"
        } else {
            "impossible sum"
        };
        let reason = match class {
            "lost write" => format!(
                "the read that began at {began} shows {sum}: an add that was acknowledged before is missing"
            ),
            "stale read" => format!(
                "the read that began at {began} shows {sum}: an add that was acknowledged before is missing, later reads count it"
            ),
            "duplicate apply" => format!(
                "the read that began at {began} shows {sum}, which counts an add of {} twice",
                twice.unwrap_or_default()
            ),
            "future read" => format!(
                "the read that began at {began} shows {sum}, which counts an add that had not begun when it ended"
            ),
            _ => format!("the read that began at {began} shows {sum}, and no choice of adds gives that sum"),
        };
        Some((
            class,
            reason,
            vec![(reader, format!("{sum} is the sum of nothing that can have happened by then"))],
        ))
    }

    /// Two compare-and-sets that both replaced one value that was there once.
    fn lost_update(&self, core: &[usize]) -> Option<Story> {
        if core.len() > PAIRED_MAX {
            return None;
        }
        for (n, &a) in core.iter().enumerate() {
            for &b in &core[n + 1..] {
                let (Action::Cas(from, first), Action::Cas(other, second)) =
                    (&self.ops[a].action, &self.ops[b].action)
                else {
                    continue;
                };
                let writers = self.ops.iter().filter(|op| op.action.brings() == Some(from)).count();
                if from != other || writers > 1 || (writers == 1 && *from == self.key.model.initial()) {
                    continue;
                }
                return Some((
                    "lost update",
                    format!(
                        "{from} was there once, but two operations replaced it: by {first} and by {second}"
                    ),
                    vec![
                        (a, format!("replaces {from}")),
                        (b, format!("replaces {from} again, which nobody brought back")),
                    ],
                ));
            }
        }
        None
    }

    /// An operation that saw a value after another had replaced it.
    fn old_value(&self, core: &[usize]) -> Option<Story> {
        if !self.key.model.is_register() || core.len() > PAIRED_MAX {
            return None;
        }
        let op = |i: usize| &self.ops[i];
        let saw = |i: &usize| !op(*i).unknown() && op(*i).action.observes().is_some();
        let reader = core.iter().copied().filter(saw).max_by_key(|i| op(*i).call)?;
        let old = op(reader).action.observes()?;
        let newer = core
            .iter()
            .copied()
            .filter(|i| op(*i).ret < op(reader).call && op(*i).action.brings().is_some_and(|v| v != old));
        let newer = newer.filter(|i| self.gone_for_good(core, old, *i)).max_by_key(|i| op(*i).call);
        let Some(newer) = newer else { return self.went_back(core, reader, old) };
        let value = op(newer).action.brings()?;
        let sees = |o: &&Op, v: &Value| !o.unknown() && o.action.observes() == Some(v);
        let shown_later = self.ops.iter().any(|o| o.call > op(reader).call && sees(&o, value));
        let mut after =
            self.ops.iter().filter(|o| o.call > op(reader).ret && o.action.observes().is_some()).peekable();
        let stayed = after.peek().is_none() || after.any(|o| sees(&o, old));
        let (class, rest) = match (shown_later, stayed) {
            (false, true) => ("lost write", format!("nothing later shows {value}")),
            (true, _) => ("stale read", format!("later operations show {value} again")),
            (false, false) => ("stale read", format!("{old} is not seen again")),
        };
        let never_written = !self.ops.iter().any(|o| o.action.brings() == Some(old));
        let note = if never_written {
            format!("{old} was the value before all writes; {value} was acknowledged before this began")
        } else {
            format!("no write of {old} can follow {value}")
        };
        Some((
            class,
            format!(
                "{value} was acknowledged at {}, but an operation that began at {} saw {old}; {rest}",
                self.key.clock.show(op(newer).ret),
                self.key.clock.show(op(reader).call)
            ),
            vec![(newer, "acknowledged".into()), (reader, note)],
        ))
    }

    /// Whether no write of `old` can take effect after `newer` has: all of them were over before it began, or the only one
    /// had been seen by then, or by `newer` itself.
    fn gone_for_good(&self, core: &[usize], old: &Value, newer: usize) -> bool {
        let before = |op: &Op| op.ret < self.ops[newer].call;
        let ops = || core.iter().map(|i| &self.ops[*i]);
        let writers = ops().filter(|op| op.action.brings() == Some(old)).count();
        let open = ops().filter(|op| op.action.brings() == Some(old) && !before(op)).count();
        let seen = |op: &Op| op.action.observes() == Some(old) && before(op);
        // A compare-and-set that replaced the value saw it itself.
        let replaced = self.ops[newer].action.observes() == Some(old);
        open == 0 || (writers == 1 && (replaced || ops().any(seen)))
    }

    /// A value that was seen again after another had been seen in its place.
    fn went_back(&self, core: &[usize], reader: usize, old: &Value) -> Option<Story> {
        let op = |i: usize| &self.ops[i];
        if core.iter().filter(|i| op(**i).action.brings() == Some(old)).count() > 1 {
            return None;
        }
        let between = core
            .iter()
            .copied()
            .find(|i| op(*i).ret < op(reader).call && op(*i).action.observes().is_some_and(|v| v != old))?;
        let value = op(between).action.observes()?;
        Some((
            "stale read",
            format!(
                "{value} had been seen in the place of {old} by {}, but an operation that began at {} saw {old} again",
                self.key.clock.show(op(between).ret),
                self.key.clock.show(op(reader).call)
            ),
            vec![
                (between, format!("{value} is there")),
                (reader, format!("no write of {old} can follow {value}")),
            ],
        ))
    }

    pub(super) fn no_order(&self, core: &[usize]) -> Story {
        let last = core.iter().copied().max_by_key(|i| (self.ops[*i].call, *i));
        (
            "no valid order",
            format!("these {} operations cannot be put in any order that real time allows", core.len()),
            last.map(|i| (i, "whatever the order, this cannot have been the result".into()))
                .into_iter()
                .collect(),
        )
    }

    fn element_story(&self, fault: &Fault, bringer: impl Fn(&Value) -> Option<usize>) -> Story {
        let (read, first) = (&self.ops[fault.read], &fault.elements[0]);
        match fault.kind {
            Kind::Phantom => self.out_of_nowhere(fault.read, "", first),
            Kind::Future => self.out_of_the_future(fault.read, first),
            Kind::Duplicate => (
                "duplicate apply",
                format!(
                    "{first} was brought once, but the read at {} shows it twice",
                    self.key.clock.show(read.ret)
                ),
                vec![(fault.read, format!("shows {first} twice"))],
            ),
            Kind::Reordered => {
                let second = &fault.elements[1];
                (
                    "reordered writes",
                    format!("{second} was acknowledged before {first} was begun, but stands behind it"),
                    vec![(fault.read, format!("shows {first} before {second}"))],
                )
            }
            Kind::Missing => self.gone(fault.read, first, bringer(first)),
            Kind::Overtaken => self.gone(fault.read, &fault.elements[1], bringer(&fault.elements[1])),
            Kind::Vanished => {
                let (class, reason, mut notes) = self.gone(fault.read, first, bringer(first));
                notes.extend(fault.other.map(|other| (other, format!("shows {first}"))));
                (class, reason, notes)
            }
            Kind::Divergent => self.divergent(fault, bringer),
        }
    }

    /// The read misses an element that was there before.
    fn gone(&self, read: usize, element: &Value, bringer: Option<usize>) -> Story {
        let r = &self.ops[read];
        let shows = |op: &&Op| op.call > r.call && elements(op).contains(element);
        let acknowledged = bringer.map(|i| &self.ops[i]).filter(|op| op.ret < r.ret);
        let later = self.ops.iter().find(shows);
        let class = if acknowledged.is_some() && later.is_none() { "lost write" } else { "stale read" };
        let had = match acknowledged {
            Some(op) => format!("{element} was acknowledged at {}", self.key.clock.show(op.ret)),
            None => format!("{element} had been seen"),
        };
        let rest = match later {
            Some(_) => format!("later reads show {element} again"),
            None => "and so does everything after it".to_owned(),
        };
        let mut notes = vec![(read, format!("misses {element}"))];
        notes.extend(bringer.filter(|_| acknowledged.is_some()).map(|i| (i, "acknowledged".into())));
        let reason =
            format!("{had}, but the read that began at {} misses it; {rest}", self.key.clock.show(r.call));
        (class, reason, notes)
    }

    fn divergent(&self, fault: &Fault, bringer: impl Fn(&Value) -> Option<usize>) -> Story {
        let pair = [Some(fault.read), fault.other];
        for element in &fault.elements {
            for read in pair.into_iter().flatten() {
                let brought = bringer(element);
                let acknowledged = brought.is_some_and(|i| self.ops[i].ret < self.ops[read].call);
                if acknowledged && !elements(&self.ops[read]).contains(element) {
                    return self.gone(read, element, brought);
                }
            }
        }
        let (x, y) = (&fault.elements[0], &fault.elements[1]);
        let mut notes = vec![(fault.read, format!("shows {x} where the other shows {y}"))];
        notes.extend(fault.other.map(|other| (other, format!("shows {y} where the other shows {x}"))));
        ("split brain", format!("two reads show two histories: one has {x} where the other has {y}"), notes)
    }
}

fn elements(op: &Op) -> &[Value] {
    op.action.observes().and_then(Value::elements).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
