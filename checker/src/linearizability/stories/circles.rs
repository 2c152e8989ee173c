//! Tells contradictions of transactions: what is wrong with one list, or who has to come before whom in a circle.

use std::collections::HashMap;

use super::super::classify::{About, LATE_MAX, Story};
use super::super::dependencies::reduced::{Core, of_lists, of_registers, reduce};
use super::super::dependencies::registers;
use super::super::dependencies::{Fault, Kind, Why, steps};
use super::super::{Finding, Op, Witness};
use crate::history::{Micro, Value};

impl About<'_> {
    /// Shrinks a contradiction between transactions on lists, and tells what is left.
    pub(in super::super) fn explain_lists(&self, fault: &Fault) -> Finding {
        match of_lists(self.ops, fault, self.deadline) {
            Some(core) => self.explain_core(core),
            None => unreachable!("a fault that is none by itself: {fault:?}"),
        }
    }

    /// The same for transactions on registers, of which it is known near which moment it shows.
    pub(in super::super) fn explain_registers(&self, seed: Vec<usize>, at: u64) -> Finding {
        match of_registers(self.ops, &seed, at, self.deadline) {
            Some(core) => self.explain_core(core),
            None => self.explain(seed),
        }
    }

    fn explain_core(&self, core: Core) -> Finding {
        let reduced: Vec<Op> = self.ops.iter().map(|op| reduce(op, &core.kept)).collect();
        let about = About { ops: &reduced, ..*self };
        let kind = core.fault.as_ref().map(|fault| &fault.kind);
        let told = about.never_written(&core.ops).or_else(|| match kind {
            Some(Kind::Duplicate) => about.shown_twice(&core.ops),
            Some(Kind::Alone) => Some(about.internal(&core.ops)),
            None => about.changed_its_mind(&core.ops).or_else(|| about.between_two_writes(&core.ops)),
            _ => None,
        });
        let told = told.or_else(|| about.told_transactions(&core.ops));
        let circle_of_registers = || {
            if core.late || core.ops.len() > LATE_MAX {
                return None;
            }
            let ops: Vec<Op> = core.ops.iter().map(|i| reduced[*i].clone()).collect();
            registers::circle(&ops)
                .map(|circle| about.circle_story(&core.ops, &circle.edges, Some(circle.timed)))
        };
        let (class, reason, notes) = told.unwrap_or_else(|| match (&core.fault, kind) {
            (_, Some(Kind::Circle(circle))) => about.circle_story(&core.ops, circle, None),
            (Some(fault), Some(Kind::Divergent)) => about.two_lists(&core.ops, fault),
            _ => circle_of_registers().unwrap_or_else(|| about.no_order(&core.ops)),
        });
        let witness = |i: &usize| Witness {
            operation: reduced[*i].id,
            action: reduced[*i].action.clone(),
            note: notes.iter().find(|(op, _)| op == i).map(|(_, note)| note.clone()).unwrap_or_default(),
        };
        let pair = |(key, value): (&String, &Value)| {
            Value::List([Value::Text(key.as_str().into()), value.clone()].into())
        };
        let pairs = core.kept.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        Finding {
            class,
            reason,
            core: core.ops.iter().map(witness).collect(),
            elements: Some(pairs.map(pair).collect()),
            late: core.late,
        }
    }

    fn shown_twice(&self, core: &[usize]) -> Option<Story> {
        for reader in core {
            for (key, list) in self.ops[*reader].action.observed() {
                let items = list.items().unwrap_or_default();
                let twice = items.iter().enumerate().find(|(n, element)| items[..*n].contains(element));
                let Some((_, element)) = twice else { continue };
                return Some((
                    "duplicate apply",
                    format!("{element} was appended to {key} once, but a transaction saw it there twice"),
                    vec![(*reader, format!("shows {element} twice"))],
                ));
            }
        }
        None
    }

    fn two_lists(&self, core: &[usize], fault: &Fault) -> Story {
        let note = |place: &usize| (core[*place], "shows another order than the other".to_owned());
        let differ = match &fault.elements[..] {
            [(key, here), (_, there)] => format!(": one has {here} in {key} where the other has {there}"),
            _ => String::new(),
        };
        let reason = format!("two transactions saw two histories{differ}");
        ("split brain", reason, fault.ops.iter().map(note).collect())
    }

    /// A transaction that read two values of one key, or not what it wrote itself.
    fn changed_its_mind(&self, core: &[usize]) -> Option<Story> {
        let minds = |op: &&usize| {
            let mut held: HashMap<&str, &Value> = HashMap::new();
            steps(&self.ops[**op]).iter().any(|step| match step {
                Micro::Read(key, Some(value)) => *held.entry(&**key).or_insert(value) != value,
                Micro::Write(key, value) => {
                    held.insert(&**key, value);
                    false
                }
                _ => false,
            })
        };
        core.iter().find(minds).map(|op| self.internal(&[*op]))
    }

    /// A transaction that saw what another wrote and replaced at once.
    fn between_two_writes(&self, core: &[usize]) -> Option<Story> {
        for writer in core {
            let brought = self.ops[*writer].action.brought();
            for (n, (key, value)) in brought.iter().enumerate() {
                let Some((_, last)) = brought[n + 1..].iter().find(|(k, _)| k == key) else { continue };
                let sees =
                    |op: &&usize| *op != writer && self.ops[**op].action.observed().contains(&(key, value));
                if let Some(reader) = core.iter().find(sees) {
                    return Some((
                        "intermediate read",
                        format!(
                            "{key}={value} was seen, which one transaction wrote and replaced by {last} itself"
                        ),
                        vec![
                            (*writer, format!("leaves {key}={last}")),
                            (*reader, format!("sees {key}={value}, which was never left")),
                        ],
                    ));
                }
            }
        }
        None
    }

    fn internal(&self, core: &[usize]) -> Story {
        (
            "internal inconsistency",
            "whatever others do, no transaction can have seen what this one says that it read and changed itself".to_owned(),
            core.first().map(|op| (*op, "contradicts itself".to_owned())).into_iter().collect(),
        )
    }

    /// The name is Adya's, by the kinds of dependencies; where real time is among them it has none. Of registers it is said whether
    /// real time tells in which order their values came.
    fn circle_story(&self, core: &[usize], circle: &[(usize, Why)], registers: Option<bool>) -> Story {
        let brings = if registers.is_some() { "=" } else { "+=" };
        let count = |kind: fn(&Why) -> bool| circle.iter().filter(|(_, why)| kind(why)).count();
        let over = count(|why| matches!(why, Why::Over));
        let missed = count(|why| matches!(why, Why::Missed(..)));
        let read = count(|why| matches!(why, Why::Read(..)));
        let class = match (over, missed, read) {
            (0, 0, 0) => "write cycle",
            (0, 0, _) => "circular information flow",
            // It saw one of the other's and not the next. Of two keys that is a fractured read, which is told before of lists; of
            // registers an intermediate one is told before.
            (0, 1, 1) if circle.len() == 2 && registers.is_none() => "intermediate read",
            (0, 1, _) => "read skew",
            (0, ..) => "write skew",
            (_, 1, _) => "stale read",
            _ => "no valid order",
        };
        let process = |place: usize| {
            let op = &self.ops[core[place]];
            format!("p{}", self.key.operations[op.id].process)
        };
        let notes = circle.iter().enumerate().map(|(n, (place, why))| {
            let next = process(circle[(n + 1) % circle.len()].0);
            let note = match why {
                Why::Before(key, first, second) => {
                    format!("before {next}: in {key}, {first} stands before its {second}")
                }
                Why::Read(key, element) => format!("before {next}, which read {key}{brings}{element}"),
                Why::Missed(key, element) => {
                    format!("before {next}, whose {key}{brings}{element} it does not see")
                }
                Why::Over => format!("before {next}, which began after this had ended"),
            };
            (core[*place], note)
        });
        let real_time = if over > 0 || registers == Some(true) { " and real time" } else { "" };
        let reason = format!(
            "{} transactions each have to come before the next, and the last before the first, by what was read{real_time}",
            circle.len()
        );
        (class, reason, notes.collect())
    }
}

#[cfg(test)]
mod tests;
