//! Log Matching (§5.3): if two logs hold an entry with the same index and term, they are equal up to it. A chain is a hash over
//! everything up to an entry, so this is one comparison an entry.
//! Which entries may go is the business of `leader_append_only` and `leader_completeness`.

use std::collections::HashMap;

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, Index, Term};

/// Chain, node and line of the first entry with an index and term.
#[derive(Default)]
pub(crate) struct LogMatching {
    seen: HashMap<(Index, Term), (u64, String, usize)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log_matching"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, replay: &Replay) -> Option<Breach> {
        let tell = |place: Place, index, term| place.tell(format_args!("holds entry {index} of term {term}"));
        let mut compare = |index: Index, term: Term, chain: u64| {
            let (known, node, position) = self
                .seen
                .entry((index, term))
                .or_insert_with(|| (chain, place.node.to_owned(), place.position))
                .clone();
            let other = Place { node: &node, position, at: place.at };
            (known != chain).then(|| Breach {
                class: "diverging logs",
                reason: format!(
                    "entry {index} of term {term} is in the logs of {node} and {}, but what stands up to it differs",
                    place.node
                ),
                events: vec![tell(other, index, term), tell(place, index, term)],
            })
        };
        match event {
            Event::Append { prev_index, term, chains, .. } => {
                if let Some(missing) = step.hole {
                    let end = prev_index + 1;
                    return Some(Breach {
                        class: "hole in a log",
                        reason: format!(
                            "{} appends entry {end}, but its log ends before {missing}",
                            place.node
                        ),
                        events: vec![place.tell(format_args!("appends entry {end}"))],
                    });
                }
                (prev_index + 1..).zip(chains).find_map(|(index, chain)| compare(index, *term, *chain))
            }
            Event::Boot { last_index, chain, .. } => {
                let last = replay.entry(*last_index)?;
                compare(*last_index, last.term, *chain)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, boot, breach, check};

    #[test]
    fn equal_index_and_term_mean_equal_logs() {
        let name = "log_matching";
        let log = |chains: &[u64]| vec![append(1, 0, 1, chains)];
        let later = vec![append(1, 0, 2, &[21, 22])];
        check(
            name,
            "diverging logs",
            &[log(&[11, 12]), log(&[11, 99])],
            &[&[log(&[11, 12]), log(&[11, 12])], &[log(&[11, 12]), later], &[log(&[11, 12]), log(&[11])]],
        );
        let found = vec![boot(1, None, &[(1, 11), (1, 99)], 1)];
        let same = vec![boot(1, None, &[(1, 11), (1, 12)], 1)];
        check(name, "diverging logs", &[log(&[11, 12]), found], &[&[log(&[11, 12]), same]]);
        let hole = [vec![append(1, 0, 1, &[11]), append(2, 2, 1, &[13])]];
        let reason = breach(name, &hole).expect("a hole").reason;
        assert_eq!(reason, "n1 appends entry 3, but its log ends before 2");
        check(name, "hole in a log", &hole, &[&[vec![append(1, 0, 1, &[11]), append(2, 1, 1, &[12])]]]);
    }
}
