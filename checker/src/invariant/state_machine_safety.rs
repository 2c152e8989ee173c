//! State Machine Safety (§5.4.3): no two nodes apply different entries at one index, and each node applies what its log holds, in
//! order, once it is committed. Re-application is the business of `monotonic`.

use std::collections::HashMap;

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, Index};

/// What the first node that had it had at an index: value, node, line.
type Known = HashMap<Index, (u64, String, usize)>;

/// Committed prefixes and state hashes by index.
#[derive(Default)]
pub(crate) struct StateMachineSafety {
    chains: Known,
    states: Known,
}

fn differs(known: &mut Known, index: Index, value: u64, place: Place) -> Option<(String, usize)> {
    let (first, node, position) =
        known.entry(index).or_insert_with(|| (value, place.node.to_owned(), place.position));
    (*first != value).then(|| (node.clone(), *position))
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state_machine_safety"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, replay: &Replay) -> Option<Breach> {
        let breach =
            |class, reason, what: String| Some(Breach { class, reason, events: vec![place.tell(what)] });
        let disagree = |known: &mut Known, index, value, what: &str| {
            let (node, position) = differs(known, index, value, place)?;
            let other = Place { node: &node, position, at: place.at };
            let told = format!("{what} {index}");
            Some(Breach {
                class: "diverging state",
                reason: format!("{node} and {} disagree on what is {what} {index}", place.node),
                events: vec![other.tell(&told), place.tell(&told)],
            })
        };
        let node = place.node;
        match event {
            Event::Commit { commit_index, chain, .. } => {
                let own = replay.entry(*commit_index).map(|entry| entry.chain);
                if *commit_index > 0 && own.is_none_or(|own| own.is_some_and(|own| own != *chain)) {
                    let reason =
                        format!("{node} commits up to {commit_index}, which is not what its log holds");
                    return breach("commit outside the log", reason, format!("commits up to {commit_index}"));
                }
                disagree(&mut self.chains, *commit_index, *chain, "committed up to")
            }
            Event::Apply { first_index, last_index, chain } => {
                let what = format!("applies {first_index} to {last_index}");
                if *first_index > step.last_applied + 1 {
                    let reason =
                        format!("{node} skips from {} to {first_index} as it applies", step.last_applied);
                    return breach("skipped apply", reason, what);
                }
                if *last_index > replay.commit_index {
                    let committed = replay.commit_index;
                    let reason =
                        format!("{node} applies up to {last_index}, but knows only {committed} as committed");
                    return breach("early apply", reason, what);
                }
                let own = replay.entry(*last_index).and_then(|entry| entry.chain);
                if own.is_some_and(|own| own != *chain) {
                    let reason = format!("what {node} applied up to {last_index} is not what its log holds");
                    return breach("wrong apply", reason, what);
                }
                let applied = (*first_index..*last_index)
                    .filter_map(|index| Some((index, replay.entry(index)?.chain?)))
                    .chain([(*last_index, *chain)]);
                for (index, chain) in applied {
                    if let Some(found) = disagree(&mut self.chains, index, chain, "committed up to") {
                        return Some(found);
                    }
                }
                None
            }
            Event::State { index, hash } => disagree(&mut self.states, *index, *hash, "the state at"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, apply, check, commit};
    use super::*;

    const NAME: &str = "state_machine_safety";

    fn node(chains: &[u64], batches: &[(u64, u64)]) -> Vec<Event> {
        let at = |index: u64| chains[index as usize - 1];
        let mut events =
            vec![append(1, 0, 1, chains), commit(1, chains.len() as u64, at(chains.len() as u64))];
        events.extend(batches.iter().map(|(first, last)| apply(*first, *last, at(*last))));
        events
    }

    #[test]
    fn nodes_apply_the_same_at_each_index() {
        let one = node(&[11, 12, 13], &[(1, 3)]);
        check(
            NAME,
            "diverging state",
            &[one.clone(), node(&[11, 92], &[(1, 2)])],
            &[
                &[one.clone(), node(&[11, 12], &[(1, 2)])],
                &[one.clone(), node(&[11, 12, 13], &[(1, 1), (2, 3)])],
            ],
        );
        let state = |index, hash| vec![Event::State { index, hash }];
        check(
            NAME,
            "diverging state",
            &[state(64, 1), state(64, 2)],
            &[&[state(64, 1), state(128, 2), state(64, 1)]],
        );
    }

    #[test]
    fn a_node_applies_its_committed_log_in_order() {
        let log = append(1, 0, 1, &[11, 12, 13]);
        let good = vec![commit(1, 0, 0), log.clone(), commit(1, 2, 12), apply(1, 1, 11), apply(2, 2, 12)];
        let with = |events: &[Event]| [vec![[vec![log.clone()], events.to_vec()].concat()]].concat();
        check(NAME, "skipped apply", &with(&[commit(1, 2, 12), apply(2, 2, 12)]), &[&[good]]);
        check(NAME, "early apply", &with(&[commit(1, 1, 11), apply(1, 2, 12)]), &[]);
        check(NAME, "wrong apply", &with(&[commit(1, 2, 12), apply(1, 2, 77)]), &[]);
        check(NAME, "commit outside the log", &with(&[commit(1, 4, 14)]), &[]);
        check(NAME, "commit outside the log", &with(&[commit(1, 2, 77)]), &[]);
    }
}
