//! Election safety by what nodes printed, for systems without a trace: in one term at most one node said that it leads.
//! Which lines say so is the description's business, and whether a term has one leader at all: one that names none is not judged.

use std::collections::BTreeMap;

use crate::history::{Clock, History};
use crate::liveness::Finding;
use crate::verdict::Verdict;

/// Whether no two nodes said that they lead the same term. `None` if nobody named a term that it leads.
pub fn one_leader_a_term(history: &History) -> Option<Finding> {
    let leaders =
        history.nemesis.iter().filter(|line| line.f == "role" && line.text("role") == Some("leader"));
    let mut first: BTreeMap<u64, (&str, String)> = BTreeMap::new();
    for line in leaders {
        let (Some(term), Some(node)) = (line.value["term"].as_u64(), line.text("node")) else { continue };
        let printed = line.text("line").unwrap_or_default();
        let told = format!("{node} at {}: {printed}", Clock::Nanoseconds.show(line.time));
        match first.get(&term) {
            None => _ = first.insert(term, (node, told)),
            Some((other, _)) if *other == node => {}
            Some((other, earlier)) => {
                return Some(Finding {
                    verdict: Verdict::Invalid,
                    reason: format!("{other} and {node} both said that they lead term {term}"),
                    events: vec![earlier.clone(), told],
                });
            }
        }
    }
    (!first.is_empty()).then_some(Finding {
        verdict: Verdict::Valid,
        reason: String::new(),
        events: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::liveness::tests::history;

    fn judge(said: &[(&str, &str, &str)]) -> Option<Finding> {
        let line = |(node, role, term): &(&str, &str, &str)| {
            format!(r#"{{"node":"{node}","role":"{role}","term":{term},"line":"I am {role}"}}"#)
        };
        let lines: Vec<String> = said.iter().map(line).collect();
        one_leader_a_term(&history(&lines.iter().map(|line| ("role", line.as_str())).collect::<Vec<_>>()))
    }

    #[test]
    fn two_nodes_that_lead_one_term_break_it_and_a_second_term_or_the_same_node_do_not() {
        let found = judge(&[("n1", "leader", "3"), ("n2", "leader", "4"), ("n3", "leader", "3")]).unwrap();
        assert_eq!(
            (found.verdict, found.reason.as_str()),
            (Verdict::Invalid, "n1 and n3 both said that they lead term 3")
        );
        assert_eq!(found.events, ["n1 at 2.000 s: I am leader", "n3 at 2.000 s: I am leader"]);
        let valid = |said: &[(&str, &str, &str)]| judge(said).unwrap().verdict == Verdict::Valid;
        assert!(valid(&[("n1", "leader", "3"), ("n2", "leader", "4")]));
        assert!(valid(&[("n1", "leader", "3"), ("n1", "follower", "3"), ("n1", "leader", "3")]));
        assert!(valid(&[("n1", "leader", "3"), ("n2", "follower", "3")]));
        // Nothing that could be wrong.
        assert_eq!(judge(&[("n1", "leader", "null"), ("n2", "leader", "null")]), None);
        assert_eq!(judge(&[("n1", "follower", "3"), ("n2", "follower", "3")]), None);
        assert_eq!(judge(&[]), None);
    }
}
