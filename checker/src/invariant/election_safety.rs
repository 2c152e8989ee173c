//! Election Safety (§5.2): at most one leader in a term.
//! How votes were given is the business of `one_vote_per_term`.

use std::collections::BTreeMap;

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, Role, Term};

/// Leaders by term: node and the words for it.
#[derive(Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<Term, (String, String)>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election_safety"
    }

    fn observe(&mut self, place: Place, event: &Event, _step: &Step, _replay: &Replay) -> Option<Breach> {
        let Event::Role { role: Role::Leader, term } = event else { return None };
        let told = place.tell(format_args!("becomes leader in term {term}"));
        let (node, earlier) =
            self.leaders.entry(*term).or_insert_with(|| (place.node.to_owned(), told.clone())).clone();
        (node != place.node).then(|| Breach {
            class: "two leaders",
            reason: format!("{node} and {} both lead term {term}", place.node),
            events: vec![earlier, told],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, role};
    use super::*;

    #[test]
    fn one_leader_a_term() {
        let leader = |term| vec![role(Role::Candidate, term), role(Role::Leader, term)];
        let candidate = vec![role(Role::Candidate, 2), role(Role::Follower, 2)];
        check(
            "election_safety",
            "two leaders",
            &[leader(2), leader(2)],
            &[&[leader(2), leader(3)], &[leader(2), candidate], &[[leader(2), leader(2)].concat()]],
        );
    }
}
