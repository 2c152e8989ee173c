//! The safety properties of the Raft paper and what a node must not forget, judged from the traces of all nodes, one file a
//! property, each in linear time. What the clients saw is the business of linearizability and durability.
//!
//! No check orders events of two nodes by their clocks: a node's own events have an order, nodes are compared only through
//! terms, indexes and hashes.

mod election_safety;
mod leader_append_only;
mod leader_completeness;
mod log_matching;
mod monotonic;
mod one_vote_per_term;
mod replay;
mod sent_implies_durable;
mod state_machine_safety;

use crate::deadline::Deadline;
use crate::trace::{Event, Trace};
use replay::{Replay, Step};

/// A broken property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Field-standard class.
    pub class: &'static str,
    /// In a sentence.
    pub reason: String,
    /// The events that show it, each with its node and line.
    pub events: Vec<String>,
}

/// What became of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its name in `verdict.json`.
    pub name: &'static str,
    /// The first breach, if there is one.
    pub breach: Option<Breach>,
    /// The deadline came first: no breach was found in what was looked at, which is not all.
    pub late: bool,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Name of the node.
    pub(crate) node: &'a str,
    /// Position in the trace's lines.
    pub(crate) position: usize,
    /// Nanoseconds on the node's clock.
    pub(crate) at: u64,
}

impl Place<'_> {
    /// The event in words, with where to find it.
    pub(crate) fn tell(&self, what: impl std::fmt::Display) -> String {
        // The header is line 1.
        format!("{} {what}   (nodes/{}/trace.jsonl:{})", self.node, self.node, self.position + 2)
    }
}

/// A property that is judged event by event.
pub(crate) trait Invariant {
    /// Its name in `verdict.json`.
    fn name(&self) -> &'static str;

    /// Looks at one event. `replay` is the node after it, `step` what the event changed. A breach ends the work of this
    /// property.
    fn observe(&mut self, place: Place, event: &Event, step: &Step, replay: &Replay) -> Option<Breach>;
}

/// Events between two looks at the clock.
const CLOCK_EVENTS: usize = 1024;

/// Judges the traces of one run, all nodes of it.
pub fn judge(traces: &[Trace], deadline: Deadline) -> Vec<Outcome> {
    let mut invariants: Vec<Box<dyn Invariant>> = vec![
        Box::new(election_safety::ElectionSafety::default()),
        Box::new(leader_append_only::LeaderAppendOnly),
        Box::new(log_matching::LogMatching::default()),
        Box::new(leader_completeness::LeaderCompleteness::new(traces)),
        Box::new(state_machine_safety::StateMachineSafety::default()),
        Box::new(monotonic::Monotonic),
        Box::new(one_vote_per_term::OneVotePerTerm::default()),
        Box::new(sent_implies_durable::SentImpliesDurable),
    ];
    let mut outcomes: Vec<Outcome> =
        invariants.iter().map(|i| Outcome { name: i.name(), breach: None, late: false }).collect();
    for trace in traces {
        let mut replay = Replay::default();
        for (position, line) in trace.lines.iter().enumerate() {
            if position.is_multiple_of(CLOCK_EVENTS) && deadline.passed() {
                for outcome in &mut outcomes {
                    outcome.late = outcome.breach.is_none();
                }
                return outcomes;
            }
            let step = replay.step(&line.event);
            let place = Place { node: &trace.node, position, at: line.at };
            for (invariant, outcome) in invariants.iter_mut().zip(&mut outcomes) {
                if outcome.breach.is_none() {
                    outcome.breach = invariant.observe(place, &line.event, &step, &replay);
                }
            }
        }
    }
    outcomes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trace::{Line, Role, TermRun};

    /// Judges traces of `n1`, `n2`, … by one property.
    pub(crate) fn breach(name: &str, nodes: &[Vec<Event>]) -> Option<Breach> {
        let traces: Vec<Trace> = nodes
            .iter()
            .enumerate()
            .map(|(i, events)| Trace {
                node: format!("n{}", i + 1),
                lines: events
                    .iter()
                    .enumerate()
                    .map(|(at, e)| Line { at: at as u64, event: e.clone() })
                    .collect(),
            })
            .collect();
        judge(&traces, Deadline::NEVER)
            .into_iter()
            .find(|outcome| outcome.name == name)
            .expect("a property of this name")
            .breach
    }

    /// Asserts that the property is broken with this class, and that near misses are not.
    pub(crate) fn check(name: &str, class: &str, caught: &[Vec<Event>], near_misses: &[&[Vec<Event>]]) {
        let found = breach(name, caught).unwrap_or_else(|| panic!("{name} misses {class}"));
        assert_eq!(found.class, class, "{found:?}");
        assert!(!found.reason.is_empty() && !found.events.is_empty(), "{found:?}");
        assert!(found.events.iter().all(|e| e.contains("trace.jsonl:")), "{found:?}");
        for (i, near_miss) in near_misses.iter().enumerate() {
            assert_eq!(breach(name, near_miss), None, "near miss {i} of {class}");
        }
    }

    pub(crate) fn boot(term: u64, voted_for: Option<u32>, log: &[(u64, u64)], lsn: u64) -> Event {
        let mut terms: Vec<TermRun> = Vec::new();
        for (i, (term, _)) in log.iter().enumerate() {
            if terms.last().is_none_or(|run| run.term != *term) {
                terms.push(TermRun { first_index: i as u64 + 1, term: *term });
            }
        }
        let chain = log.last().map_or(0, |(_, chain)| *chain);
        Event::Boot {
            node: 1,
            incarnation: 1,
            term,
            voted_for,
            last_index: log.len() as u64,
            chain,
            terms,
            lsn,
            directory: 0,
            snapshot_index: 0,
        }
    }

    pub(crate) fn hard_state(lsn: u64, term: u64, voted_for: Option<u32>) -> Event {
        Event::HardState { lsn, term, voted_for }
    }

    pub(crate) fn append(lsn: u64, prev_index: u64, term: u64, chains: &[u64]) -> Event {
        Event::Append { lsn, prev_index, term, chains: chains.to_vec() }
    }

    pub(crate) fn role(role: Role, term: u64) -> Event {
        Event::Role { role, term }
    }

    pub(crate) fn commit(term: u64, commit_index: u64, chain: u64) -> Event {
        Event::Commit { term, commit_index, chain }
    }

    pub(crate) fn apply(first_index: u64, last_index: u64, chain: u64) -> Event {
        Event::Apply { first_index, last_index, chain }
    }

    #[test]
    fn an_honest_run_breaks_nothing() {
        let leader = vec![
            boot(0, None, &[], 1),
            hard_state(2, 1, Some(1)),
            Event::Durable { lsn: 2 },
            role(Role::Leader, 1),
            append(3, 0, 1, &[11]),
            append(4, 1, 1, &[12, 13]),
            Event::Durable { lsn: 5 },
            commit(1, 3, 13),
            apply(1, 2, 12),
            apply(3, 3, 13),
            Event::State { index: 3, hash: 5 },
        ];
        let follower = vec![
            boot(0, None, &[], 1),
            hard_state(2, 1, Some(1)),
            Event::Durable { lsn: 2 },
            Event::VoteSent { to: 1, term: 1 },
            append(3, 0, 1, &[11, 12, 13]),
            Event::Durable { lsn: 5 },
            Event::AppendAckSent { to: 1, term: 1, match_index: 3 },
            boot(1, Some(1), &[(1, 11), (1, 12), (1, 13)], 6),
            commit(1, 3, 13),
            apply(1, 3, 13),
            Event::State { index: 3, hash: 5 },
        ];
        let names: Vec<_> = [leader, follower]
            .iter()
            .map(|events| Trace {
                node: "n".into(),
                lines: events.iter().map(|e| Line { at: 0, event: e.clone() }).collect(),
            })
            .collect();
        let outcomes = judge(&names, Deadline::NEVER);
        assert_eq!(outcomes.len(), 8);
        for outcome in outcomes {
            assert_eq!(outcome.breach, None, "{}", outcome.name);
        }
    }
}
