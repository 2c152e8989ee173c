//! Leader Completeness (§5.4): what was committed in a term is in the log of the leader of every later term.
//! Whether nodes agree on what was committed is the business of `state_machine_safety`.

use std::collections::BTreeMap;

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, Index, Role, Term, Trace};

/// The furthest commit that any node knew in a term.
#[derive(Clone)]
struct Commit {
    index: Index,
    chain: u64,
    told: String,
}

/// For each term, the furthest commit of it or of an earlier one. A chain stands for everything before it, so the furthest is
/// enough.
pub(crate) struct LeaderCompleteness {
    commits: BTreeMap<Term, Commit>,
}

impl LeaderCompleteness {
    /// Collects the commits of all nodes: elections are compared with those that other nodes knew.
    pub(crate) fn new(traces: &[Trace]) -> Self {
        let mut commits: BTreeMap<Term, Commit> = BTreeMap::new();
        for trace in traces {
            for (position, line) in trace.lines.iter().enumerate() {
                let Event::Commit { term, commit_index, chain } = &line.event else { continue };
                if commits.get(term).is_none_or(|known| known.index < *commit_index) {
                    let place = Place { node: &trace.node, position, at: line.at };
                    let told = place.tell(format_args!("commits up to {commit_index} in term {term}"));
                    commits.insert(*term, Commit { index: *commit_index, chain: *chain, told });
                }
            }
        }
        let mut furthest: Option<Commit> = None;
        for commit in commits.values_mut() {
            match &furthest {
                Some(earlier) if earlier.index > commit.index => *commit = earlier.clone(),
                _ => furthest = Some(commit.clone()),
            }
        }
        LeaderCompleteness { commits }
    }
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader_completeness"
    }

    fn observe(&mut self, place: Place, event: &Event, _step: &Step, replay: &Replay) -> Option<Breach> {
        let Event::Role { role: Role::Leader, term } = event else { return None };
        let (_, commit) = self.commits.range(..term).next_back()?;
        let held = match replay.entry(commit.index) {
            None => "its log ends before it",
            Some(entry) if entry.chain.is_some_and(|chain| chain != commit.chain) => {
                "its log holds something else there"
            }
            Some(_) => return None,
        };
        Some(Breach {
            class: "incomplete leader",
            reason: format!(
                "entry {} was committed before term {term}, but {} leads term {term} without it: {held}",
                commit.index, place.node
            ),
            events: vec![commit.told.clone(), place.tell(format_args!("becomes leader in term {term}"))],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, check, commit, role};
    use super::*;

    #[test]
    fn a_leader_holds_what_was_committed_before_its_term() {
        let name = "leader_completeness";
        let committed = |term| vec![append(1, 0, 1, &[11, 12]), commit(term, 2, 12)];
        let leader = |chains: &[u64], term| vec![append(1, 0, 1, chains), role(Role::Leader, term)];
        check(
            name,
            "incomplete leader",
            &[committed(1), leader(&[11], 2)],
            &[
                &[committed(1), leader(&[11, 12], 2)],
                &[committed(2), leader(&[11], 2)],
                &[committed(1), leader(&[11], 1)],
                &[vec![append(1, 0, 1, &[11, 12]), commit(1, 1, 11)], leader(&[11], 2)],
            ],
        );
        check(name, "incomplete leader", &[leader(&[11, 99], 3), committed(1)], &[]);
        // A commit of an early term counts although a later term committed less on its own account.
        let late = vec![append(1, 0, 1, &[11]), commit(2, 1, 11)];
        check(name, "incomplete leader", &[committed(1), late, leader(&[11], 3)], &[]);
    }
}
