//! Tells contradictions of locks, queues and transactions: class, sentence, each operation's part. Registers, lists and sets are
//! `classify`'s.

mod circles;

use super::Op;
use super::classify::{About, Story};
use crate::history::{Action, Outcome, Value};

impl About<'_> {
    /// A lock that two held, or that was given back twice.
    pub(super) fn lock_story(&self, core: &[usize]) -> Story {
        let last = core.iter().copied().max_by_key(|i| (self.ops[*i].call, *i)).unwrap_or_default();
        let at = self.key.clock.show(self.ops[last].call);
        let (class, reason, note) = match self.ops[last].action {
            Action::Release => (
                "released twice",
                format!("nobody can have held the lock when the release that began at {at} gave it back"),
                "gives back what nobody holds",
            ),
            _ => (
                "held twice",
                format!("the lock cannot have been free when the acquire that began at {at} took it"),
                "takes what another holds",
            ),
        };
        (class, reason, vec![(last, note.to_owned())])
    }

    /// An element of a queue that came from nowhere, twice, too early, too late or never.
    pub(super) fn queue_story(&self, core: &[usize]) -> Story {
        let taken = |i: &usize| match &self.ops[*i].action {
            Action::Dequeue(Some(value)) => Some(value),
            _ => None,
        };
        for i in core {
            let Some(value) = taken(i) else { continue };
            if *value == Value::Nil {
                return (
                    "lost write",
                    format!(
                        "the dequeue that began at {} found nothing, but something was in the queue all the time",
                        self.key.clock.show(self.ops[*i].call)
                    ),
                    vec![(*i, "finds nothing".to_owned())],
                );
            }
            if let Some(other) = core.iter().find(|other| *other > i && taken(other) == Some(value)) {
                let brought = self.ops.iter().filter(|op| op.action.brings() == Some(value)).count();
                if brought == 1 {
                    return (
                        "duplicate apply",
                        format!("{value} was enqueued once, but dequeued twice"),
                        vec![(*i, format!("takes {value}")), (*other, format!("takes {value} again"))],
                    );
                }
            }
        }
        for i in core {
            let Some(value) = self.ops[*i].action.brings() else { continue };
            let missing = !core.iter().any(|other| taken(other) == Some(value));
            if missing && !self.ops[*i].unknown() {
                return (
                    "lost write",
                    format!(
                        "{value} was acknowledged at {} and never dequeued, but what was enqueued after it was",
                        self.key.clock.show(self.ops[*i].ret)
                    ),
                    vec![(*i, "acknowledged, and nobody ever takes it".to_owned())],
                );
            }
        }
        let last = core.iter().copied().filter(|i| taken(i).is_some()).max_by_key(|i| self.ops[*i].call);
        let late = last.and_then(|i| Some((i, taken(&i)?)));
        match late {
            Some((i, value)) => (
                "reordered writes",
                format!("{value} was dequeued after what was enqueued behind it"),
                vec![(i, format!("{value} comes late"))],
            ),
            None => self.no_order(core),
        }
    }

    /// A text in which something is missing, too much, or of nobody. Texts show no seams, so that only what can be told apart
    /// by its own text is told.
    pub(super) fn text_story(&self, core: &[usize]) -> Story {
        self.wrong_text(core).unwrap_or_else(|| self.no_order(core))
    }

    fn wrong_text(&self, core: &[usize]) -> Option<Story> {
        let text = |value: &Value| match value {
            Value::Text(text) => Some(text.to_string()),
            _ => None,
        };
        let read_of = |op: &Op| match &op.action {
            Action::Read(Value::Nil) => Some(String::new()),
            Action::Read(value) => text(value),
            _ => None,
        };
        let reader = core
            .iter()
            .copied()
            .filter(|i| self.ops[*i].action.reads_only())
            .max_by_key(|i| self.ops[*i].call)?;
        let (read, shown) = (&self.ops[reader], read_of(&self.ops[reader])?);
        let began = self.key.clock.show(read.call);
        let brought = |op: &Op| op.action.brings().and_then(text).filter(|text| !text.is_empty());
        let others = |piece: &str, than: &Op| {
            self.ops.iter().any(|op| op.id != than.id && brought(op).is_some_and(|text| text.contains(piece)))
        };
        let failed = self.key.operations.iter().filter(|o| o.outcome == Outcome::Fail).find(|o| {
            let piece = o.action.brings().and_then(text).filter(|text| !text.is_empty());
            let alone = |piece: &String| {
                !self.ops.iter().any(|op| brought(op).is_some_and(|text| text.contains(piece.as_str())))
            };
            piece.is_some_and(|piece| shown.contains(&piece) && alone(&piece))
        });
        if let Some(failed) = failed {
            let end = self.key.clock.show(failed.complete.unwrap_or(failed.invoke));
            return Some((
                "aborted read",
                format!(
                    "the read that began at {began} shows {}, which failed at {end}: it definitely did not happen",
                    failed.action.argument()
                ),
                vec![(reader, format!("shows what process {} did not write", failed.process))],
            ));
        }
        let early = self.ops.iter().find(|op| {
            op.call > read.ret
                && brought(op).is_some_and(|piece| shown.contains(&piece) && !others(&piece, op))
        });
        if let Some(early) = early {
            return Some((
                "future read",
                format!(
                    "the read that ended at {} shows {}, which began only then",
                    self.key.clock.show(read.ret),
                    early.action.argument()
                ),
                vec![(reader, "ends before what it shows begins".to_owned())],
            ));
        }
        let twice = self.ops.iter().find(|op| {
            brought(op).is_some_and(|piece| shown.matches(&piece).count() > 1 && !others(&piece, op))
        });
        if let Some(twice) = twice {
            return Some((
                "duplicate apply",
                format!(
                    "{} was brought once, but the read that began at {began} shows it twice",
                    twice.action.argument()
                ),
                vec![(reader, "shows it twice".to_owned())],
            ));
        }
        // Acknowledged before, and nothing can have replaced it.
        let puts = |op: &Op, than: &Op| {
            op.id != than.id
                && matches!(op.action, Action::Write(_))
                && op.ret >= than.call
                && op.call <= read.ret
        };
        let missing = core.iter().copied().find(|i| {
            let op = &self.ops[*i];
            op.ret < read.call
                && brought(op).is_some_and(|piece| !shown.contains(&piece))
                && !self.ops.iter().any(|other| puts(other, op))
        });
        if let Some(i) = missing {
            let piece = brought(&self.ops[i])?;
            let again = self
                .ops
                .iter()
                .any(|op| op.call > read.call && read_of(op).is_some_and(|text| text.contains(&piece)));
            let class = if again { "stale read" } else { "lost write" };
            let rest = if again { "later reads show it again" } else { "nothing later shows it" };
            return Some((
                class,
                format!(
                    "{} was acknowledged at {}, but the read that began at {began} misses it; {rest}",
                    self.ops[i].action.argument(),
                    self.key.clock.show(self.ops[i].ret)
                ),
                vec![(i, "acknowledged".to_owned()), (reader, "misses it".to_owned())],
            ));
        }
        // What no pieces make up is of nobody.
        let pieces: Vec<String> =
            self.ops.iter().filter(|op| op.call <= read.ret).filter_map(brought).collect();
        let mut reached = vec![false; shown.len() + 1];
        reached[0] = true;
        for at in 0..shown.len() {
            if reached[at] {
                for piece in pieces.iter().filter(|piece| shown[at..].starts_with(piece.as_str())) {
                    reached[at + piece.len()] = true;
                }
            }
        }
        (!reached[shown.len()]).then(|| {
            (
                "phantom read",
                format!("the read that began at {began} shows a text that nobody wrote"),
                vec![(reader, "is made of no texts that were written".to_owned())],
            )
        })
    }

    /// A transaction that saw half of another, what was gone, or what another changed as well.
    pub(super) fn transaction_story(&self, core: &[usize]) -> Story {
        self.told_transactions(core).unwrap_or_else(|| self.no_order(core))
    }

    fn told_transactions(&self, core: &[usize]) -> Option<Story> {
        self.fractured(core).or_else(|| self.updated_twice(core)).or_else(|| self.old_transaction(core))
    }

    fn fractured(&self, core: &[usize]) -> Option<Story> {
        for (reader, writer) in pairs(core) {
            let (seen, brought) = (self.ops[reader].action.observed(), self.ops[writer].action.brought());
            let shows =
                |(key, value): &(&str, &Value)| seen.iter().find(|(k, v)| k == key && shown(v, value));
            let Some((there, _)) = brought.iter().find_map(shows) else { continue };
            // What it misses must be older: nothing at all, or over before the writer began.
            let older = |key: &str, held: &Value| {
                let parts = held.items().unwrap_or(std::slice::from_ref(held));
                let mut writers = self
                    .ops
                    .iter()
                    .filter(|op| op.action.brought().iter().any(|(k, v)| *k == key && parts.contains(v)));
                writers.all(|op| op.ret < self.ops[writer].call)
            };
            let missed = brought.iter().find(|(key, value)| {
                seen.iter().any(|(k, held)| k == key && !shown(held, value) && older(key, held))
            });
            let Some((missed, value)) = missed else { continue };
            return Some((
                "fractured read",
                format!(
                    "one transaction wrote {there} and {missed} together, another saw the first and not the second"
                ),
                vec![
                    (writer, format!("writes both {there} and {missed}")),
                    (reader, format!("sees its {there}, but not {missed}={value}")),
                ],
            ));
        }
        None
    }

    fn updated_twice(&self, core: &[usize]) -> Option<Story> {
        for (a, b) in pairs(core) {
            let updates = |op: &Op, key: &str| op.action.brought().iter().any(|(k, _)| *k == key);
            // A value that came back, by a second write or a delete, may be replaced again.
            let once = |key: &str, value: &Value| {
                let writers =
                    self.ops.iter().filter(|op| op.action.brought().contains(&(key, value))).count();
                writers + usize::from(*value == self.key.model.initial()) <= 1
            };
            let common = self.ops[a].action.observed().into_iter().find(|(key, value)| {
                once(key, value)
                    && self.ops[b].action.observed().contains(&(key, value))
                    && updates(&self.ops[a], key)
                    && updates(&self.ops[b], key)
            });
            if let Some((key, value)) = common {
                return Some((
                    "lost update",
                    format!("{key}={value} was there once, but two transactions saw it and changed it"),
                    vec![
                        (a, format!("changes {key}={value}")),
                        (b, format!("changes {key}={value} as well, which is gone by then")),
                    ],
                ));
            }
        }
        None
    }

    fn old_transaction(&self, core: &[usize]) -> Option<Story> {
        for (reader, writer) in pairs(core) {
            let (read, write) = (&self.ops[reader], &self.ops[writer]);
            if write.ret >= read.call {
                continue;
            }
            for (key, value) in write.action.brought() {
                let missed =
                    read.action.observed().into_iter().find(|(k, held)| *k == key && !shown(held, value));
                let Some((_, held)) = missed else { continue };
                let parts = held.items().unwrap_or(std::slice::from_ref(held));
                let mut writers = self
                    .ops
                    .iter()
                    .filter(|op| op.action.brought().iter().any(|(k, v)| *k == key && parts.contains(v)));
                if !writers.all(|op| op.ret < write.call) {
                    continue;
                }
                let sees = |op: &Op| op.action.observed().iter().any(|(k, v)| *k == key && shown(v, value));
                let again = self.ops.iter().any(|op| op.call > read.call && sees(op));
                let class = if again { "stale read" } else { "lost write" };
                let (written, read_at) = (self.key.clock.show(write.ret), self.key.clock.show(read.call));
                let (reason, older) = match held.items() {
                    // Of a list only what it is about is left; the rest was read as well.
                    Some(_) => (
                        format!(
                            "{key}+={value} was acknowledged at {written}, but a transaction that began at {read_at} does not see it"
                        ),
                        format!("misses {value} in {key}"),
                    ),
                    None => (
                        format!(
                            "{key}={value} was acknowledged at {written}, but a transaction that began at {read_at} saw {key}={held}"
                        ),
                        format!("{key}={held} is older"),
                    ),
                };
                return Some((class, reason, vec![(writer, "acknowledged".to_owned()), (reader, older)]));
            }
        }
        None
    }
}

/// Whether what a key holds is, or has in it, what was brought.
fn shown(held: &Value, brought: &Value) -> bool {
    held == brought || held.items().is_some_and(|items| items.contains(brought))
}

fn pairs(core: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    core.iter().flat_map(move |a| core.iter().filter(move |b| a != *b).map(move |b| (*a, *b)))
}

#[cfg(test)]
mod tests;
