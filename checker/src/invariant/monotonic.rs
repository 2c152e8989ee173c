//! Monotonicity: a node's term never goes back, not even over a restart once it was durable, and within an incarnation neither
//! do its commit index and what it has applied (Figure 2). Votes are the business of `one_vote_per_term`.

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::Event;

/// Needs no memory: the replay has it.
pub(crate) struct Monotonic;

impl Invariant for Monotonic {
    fn name(&self) -> &'static str {
        "monotonic"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, _replay: &Replay) -> Option<Breach> {
        let (class, what, before, after) = match event {
            // Before the first one nothing is durable.
            Event::Boot { term, .. } => {
                ("term went back", "recovers term", step.durable_hard_state.term, *term)
            }
            Event::HardState { term, .. } => ("term went back", "moves to term", step.hard_state.term, *term),
            Event::Commit { commit_index, .. } => {
                ("commit went back", "commits up to", step.commit_index, *commit_index)
            }
            Event::Apply { first_index, .. } => (
                "applied twice",
                "applies from",
                step.last_applied + 1,
                (*first_index).min(step.last_applied + 1),
            ),
            _ => return None,
        };
        (after < before).then(|| Breach {
            class,
            reason: format!("{} {what} {after} after {before}", place.node),
            events: vec![place.tell(format_args!("{what} {after}"))],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, apply, boot, check, commit, hard_state};
    use super::*;

    const NAME: &str = "monotonic";

    #[test]
    fn a_term_does_not_go_back() {
        let up = vec![hard_state(1, 4, None), hard_state(2, 4, Some(1)), hard_state(3, 5, None)];
        check(NAME, "term went back", &[vec![hard_state(1, 4, None), hard_state(2, 3, None)]], &[&[up]]);
        let restart = |durable, term| {
            vec![
                boot(1, None, &[], 1),
                hard_state(2, 4, None),
                Event::Durable { lsn: durable },
                boot(term, None, &[], 3),
            ]
        };
        check(
            NAME,
            "term went back",
            &[restart(2, 3)],
            &[&[restart(1, 1)], &[restart(2, 4)], &[restart(2, 5)]],
        );
    }

    #[test]
    fn commit_and_apply_go_on_within_an_incarnation() {
        let log = append(2, 0, 1, &[11, 12]);
        let start = [log, commit(1, 2, 12), apply(1, 2, 12)].to_vec();
        let then = |event| vec![[start.clone(), vec![event]].concat()];
        let restarted =
            [start.clone(), vec![boot(1, None, &[(1, 11), (1, 12)], 3), commit(1, 1, 11), apply(1, 1, 11)]]
                .concat();
        check(NAME, "commit went back", &then(commit(1, 1, 11)), &[&[restarted]]);
        check(NAME, "applied twice", &then(apply(2, 2, 12)), &[&then(commit(1, 2, 12))]);
    }
}
