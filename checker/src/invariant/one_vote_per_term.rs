//! One vote a term (§5.2): a vote is fixed for its term. A node that voted or led in a term and forgets that, or votes again, breaks
//! it, even if nobody asks for the second vote yet. When a vote may leave is the business of `sent_implies_durable`.

use std::collections::HashMap;

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, NodeId, Role, Term};

/// The latest vote of each node that others know of, or that is durable.
#[derive(Default)]
pub(crate) struct OneVotePerTerm {
    fixed: HashMap<String, Fixed>,
}

#[derive(Clone)]
struct Fixed {
    term: Term,
    vote: Option<NodeId>,
    told: String,
}

fn name(vote: Option<NodeId>) -> String {
    vote.map_or_else(|| "nobody".into(), |node| format!("n{node}"))
}

impl Invariant for OneVotePerTerm {
    fn name(&self) -> &'static str {
        "one_vote_per_term"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, _replay: &Replay) -> Option<Breach> {
        let breach = |class,
                      term,
                      before: Option<NodeId>,
                      after: Option<NodeId>,
                      earlier: Option<String>,
                      what: String| {
            let mut events: Vec<String> = earlier.into_iter().collect();
            events.push(place.tell(what));
            Some(Breach {
                class,
                reason: format!(
                    "{} voted for {} in term {term}, then its vote there is for {}",
                    place.node,
                    name(before),
                    name(after)
                ),
                events,
            })
        };
        match event {
            Event::HardState { term, voted_for, .. } => {
                let before = step.hard_state;
                if *term == before.term && before.voted_for.is_some() && before.voted_for != *voted_for {
                    let what = format!("changes its vote of term {term} to {}", name(*voted_for));
                    return breach("vote changed", *term, before.voted_for, *voted_for, None, what);
                }
                None
            }
            Event::VoteSent { to, term } => {
                let told = place.tell(format_args!("votes for n{to} in term {term}"));
                let earlier = self.fixed.get(place.node).filter(|fixed| fixed.term == *term).cloned();
                if let Some(fixed) = earlier
                    && fixed.vote.is_some_and(|vote| vote != *to)
                {
                    let what = format!("votes for n{to} in term {term}");
                    return breach("two votes", *term, fixed.vote, Some(*to), Some(fixed.told), what);
                }
                self.fix(place, *term, Some(*to), told);
                None
            }
            Event::Role { role: Role::Leader, term } => {
                let told = place.tell(format_args!("becomes leader in term {term}"));
                // Whom it voted for is in its hard state: a leader votes for itself.
                let vote = (step.hard_state.term == *term).then_some(step.hard_state.voted_for).flatten();
                self.fix(place, *term, vote, told);
                None
            }
            Event::Boot { term, voted_for, .. } if step.restart => {
                let what = format!("restarts in term {term} with its vote for {}", name(*voted_for));
                let durable = step.durable_hard_state;
                if durable.term == *term && durable.voted_for.is_some() && durable.voted_for != *voted_for {
                    return breach("vote forgotten", *term, durable.voted_for, *voted_for, None, what);
                }
                let fixed = self.fixed.get(place.node)?;
                let forgotten = *term < fixed.term
                    || (*term == fixed.term
                        && (voted_for.is_none() || (fixed.vote.is_some() && fixed.vote != *voted_for)));
                if !forgotten {
                    return None;
                }
                let now = voted_for.filter(|_| *term == fixed.term);
                breach("vote forgotten", fixed.term, fixed.vote, now, Some(fixed.told.clone()), what)
            }
            _ => None,
        }
    }
}

impl OneVotePerTerm {
    fn fix(&mut self, place: Place, term: Term, vote: Option<NodeId>, told: String) {
        let newer = self.fixed.get(place.node).is_none_or(|fixed| fixed.term < term);
        if newer {
            self.fixed.insert(place.node.to_owned(), Fixed { term, vote, told });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{boot, breach, check, hard_state, role};
    use super::*;

    const NAME: &str = "one_vote_per_term";

    #[test]
    fn a_vote_is_fixed_over_a_restart() {
        let voted = |after| {
            let vote = Event::VoteSent { to: 2, term: 3 };
            [vec![boot(0, None, &[], 1), hard_state(2, 3, Some(2)), vote, after]]
        };
        let good: [&[Vec<Event>]; 2] = [&voted(boot(3, Some(2), &[], 3)), &voted(boot(4, None, &[], 3))];
        check(NAME, "vote forgotten", &voted(boot(3, None, &[], 3)), &good);
        check(NAME, "vote forgotten", &voted(boot(3, Some(1), &[], 3)), &[]);
        check(NAME, "vote forgotten", &voted(boot(2, None, &[], 3)), &[]);
        let led = |vote| {
            [vec![
                boot(0, None, &[], 1),
                hard_state(2, 3, Some(1)),
                role(Role::Leader, 3),
                boot(3, vote, &[], 3),
            ]]
        };
        check(NAME, "vote forgotten", &led(None), &[&led(Some(1))]);
    }

    #[test]
    fn the_latest_term_counts_and_in_it_the_first_vote() {
        let vote = |to, term| Event::VoteSent { to, term };
        let twice = |after| [vec![boot(0, None, &[], 1), vote(2, 3), vote(3, 4), after]];
        check(
            NAME,
            "vote forgotten",
            &twice(boot(4, None, &[], 3)),
            &[&twice(boot(4, Some(3), &[], 3)), &twice(boot(5, None, &[], 3))],
        );
        // Nobody knows whom it voted for when it led, but whom before.
        let led = |then| [vec![vote(2, 3), role(Role::Leader, 3), then]];
        check(NAME, "two votes", &led(vote(1, 3)), &[&led(vote(2, 3))]);
        // A vote of an earlier term says nothing of the one in which it leads.
        let leads = |term, voted_for, after| {
            [vec![boot(0, None, &[], 1), hard_state(2, term, voted_for), role(Role::Leader, 3), after]]
        };
        check(
            NAME,
            "vote forgotten",
            &leads(3, Some(1), boot(3, Some(2), &[], 3)),
            &[&leads(2, Some(2), boot(3, Some(1), &[], 3)), &leads(3, Some(1), boot(3, Some(1), &[], 3))],
        );
    }

    #[test]
    fn the_reason_names_both_votes() {
        let reason = |after| {
            let events = vec![boot(0, None, &[], 1), Event::VoteSent { to: 2, term: 3 }, after];
            breach(NAME, &[events]).unwrap().reason
        };
        let expected = |now: &str| format!("n1 voted for n2 in term 3, then its vote there is for {now}");
        assert_eq!(reason(boot(3, Some(5), &[], 3)), expected("n5"));
        assert_eq!(reason(boot(3, None, &[], 3)), expected("nobody"));
        assert_eq!(reason(boot(2, Some(5), &[], 3)), expected("nobody"), "its vote is of another term");
    }

    #[test]
    fn a_durable_vote_is_fixed_and_a_pending_one_that_nobody_saw_is_not() {
        let durable = |lsn, after| {
            [vec![boot(0, None, &[], 1), hard_state(2, 3, Some(2)), Event::Durable { lsn }, after]]
        };
        check(
            NAME,
            "vote forgotten",
            &durable(2, boot(3, None, &[], 3)),
            &[
                &durable(1, boot(0, None, &[], 3)),
                &durable(2, boot(3, Some(2), &[], 3)),
                &durable(2, boot(4, None, &[], 3)),
            ],
        );
        // Written down after it was durable.
        let late = [vec![
            boot(0, None, &[], 1),
            Event::Durable { lsn: 2 },
            hard_state(2, 3, Some(2)),
            boot(3, None, &[], 3),
        ]];
        check(NAME, "vote forgotten", &late, &[]);
    }

    #[test]
    fn nobody_votes_twice_in_a_term() {
        let vote = |to, term| Event::VoteSent { to, term };
        check(
            NAME,
            "two votes",
            &[vec![vote(2, 3), vote(1, 3)]],
            &[&[vec![vote(2, 3), vote(1, 4)]], &[vec![vote(2, 3), vote(2, 3)]]],
        );
        let change = |term, vote| [vec![hard_state(1, 3, Some(2)), hard_state(2, term, vote)]];
        check(NAME, "vote changed", &change(3, None), &[&change(4, None), &change(3, Some(2))]);
        check(
            NAME,
            "vote changed",
            &change(3, Some(1)),
            &[&[vec![hard_state(1, 3, None), hard_state(2, 3, Some(1))]]],
        );
    }
}
