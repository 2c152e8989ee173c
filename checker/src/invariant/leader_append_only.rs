//! Leader Append-Only (§5.3): a leader never overwrites or deletes entries of its own log, it only appends.
//! What followers discard is the business of `leader_completeness` and `sent_implies_durable`.

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::{Event, Role};

/// Needs no memory: the role is in the replay.
pub(crate) struct LeaderAppendOnly;

impl Invariant for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader_append_only"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, replay: &Replay) -> Option<Breach> {
        if !matches!(event, Event::Truncate { .. } | Event::Append { .. })
            || step.discarded == 0
            || replay.role != Some(Role::Leader)
        {
            return None;
        }
        let term = replay.role_term;
        Some(Breach {
            class: "leader truncates",
            reason: format!(
                "{} discards {} entries of its own log while it leads term {term}",
                place.node, step.discarded
            ),
            events: vec![
                place.tell(format_args!("discards {} entries as leader of term {term}", step.discarded)),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, check, role};
    use super::*;

    #[test]
    fn only_a_leader_must_not_truncate() {
        let log = append(1, 0, 1, &[11, 12]);
        let truncate = |last_index| Event::Truncate { lsn: 3, last_index };
        let leader = role(Role::Leader, 2);
        check(
            "leader_append_only",
            "leader truncates",
            &[vec![log.clone(), leader.clone(), truncate(1)]],
            &[
                &[vec![log.clone(), leader.clone(), role(Role::Follower, 3), truncate(1)]],
                &[vec![log.clone(), leader.clone(), truncate(2)]],
                &[vec![log.clone(), leader.clone(), append(3, 2, 2, &[23])]],
            ],
        );
        let overwrite = [vec![log, leader, append(3, 1, 2, &[22])]];
        check("leader_append_only", "leader truncates", &overwrite, &[]);
    }
}
