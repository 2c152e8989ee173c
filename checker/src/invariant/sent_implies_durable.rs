//! Sent implies durable (Figure 2, "updated on stable storage before responding"): no vote and no acknowledgement leaves before the
//! records that it speaks of survive power loss, and what survived is there at the next start.
//! Whether a vote stays the same is the business of `one_vote_per_term`.

use super::{Breach, Invariant, Place, Replay, Step};
use crate::trace::Event;

/// Needs no memory: the replay has it.
pub(crate) struct SentImpliesDurable;

impl Invariant for SentImpliesDurable {
    fn name(&self) -> &'static str {
        "sent_implies_durable"
    }

    fn observe(&mut self, place: Place, event: &Event, step: &Step, replay: &Replay) -> Option<Breach> {
        let node = place.node;
        let (class, reason, what) = match event {
            Event::VoteSent { to, term } => {
                if replay.durable_votes.get(term) == Some(to) {
                    return None;
                }
                (
                    "vote before write",
                    format!("{node} sends its vote for n{to} in term {term} before it is durable"),
                    format!("votes for n{to} in term {term}, durable up to record {}", replay.durable_lsn),
                )
            }
            Event::AppendAckSent { to, term, match_index } => {
                let what = format!(
                    "acknowledges up to {match_index} to n{to} in term {term}, durable up to record {}",
                    replay.durable_lsn
                );
                // Records of one log ascend with the index: the last entry speaks for all.
                match replay.entry(*match_index) {
                    _ if replay.durable_hard_state.term < *term => (
                        "ack before term",
                        format!("{node} acknowledges in term {term} before it is durable that it is in it"),
                        what,
                    ),
                    None if *match_index > 0 => (
                        "ack without entry",
                        format!(
                            "{node} acknowledges up to {match_index}, its log ends at {}",
                            replay.log.len()
                        ),
                        what,
                    ),
                    Some(entry) if entry.lsn > replay.durable_lsn => (
                        "ack before write",
                        format!(
                            "{node} acknowledges entry {match_index} before its record {} is durable",
                            entry.lsn
                        ),
                        what,
                    ),
                    _ => return None,
                }
            }
            Event::Boot { .. } => {
                let lost = step.lost?;
                (
                    "durable entry lost",
                    format!(
                        "entry {} of term {} was durable on {node}, but after the restart its log, which ends at {}, does not hold it",
                        lost.index, lost.term, lost.recovered
                    ),
                    format!("recovers a log that ends at {}", lost.recovered),
                )
            }
            _ => return None,
        };
        Some(Breach { class, reason, events: vec![place.tell(what)] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, boot, check, hard_state};
    use super::*;

    const NAME: &str = "sent_implies_durable";

    fn node(before: &[Event], durable: u64, after: Event) -> Vec<Vec<Event>> {
        vec![[&[boot(0, None, &[], 1)][..], before, &[Event::Durable { lsn: durable }, after]].concat()]
    }

    #[test]
    fn a_vote_leaves_after_its_record() {
        let state = [hard_state(2, 3, Some(2))];
        let vote = |to| Event::VoteSent { to, term: 3 };
        check(NAME, "vote before write", &node(&state, 1, vote(2)), &[&node(&state, 2, vote(2))]);
        check(NAME, "vote before write", &node(&state, 2, vote(1)), &[]);
        check(NAME, "vote before write", &node(&[hard_state(2, 3, None)], 2, vote(1)), &[]);
    }

    #[test]
    fn an_acknowledgement_leaves_after_every_record_that_it_covers() {
        let log = [hard_state(2, 1, None), append(3, 0, 1, &[11, 12, 13])];
        let ack = |match_index| Event::AppendAckSent { to: 1, term: 1, match_index };
        check(
            NAME,
            "ack before write",
            &node(&log, 4, ack(3)),
            &[&node(&log, 4, ack(2)), &node(&log, 5, ack(3)), &node(&log, 4, ack(0))],
        );
        check(NAME, "ack without entry", &node(&log, 5, ack(4)), &[]);
        let late = Event::AppendAckSent { to: 1, term: 2, match_index: 3 };
        check(NAME, "ack before term", &node(&log, 5, late), &[]);
        let recovered = vec![vec![boot(1, None, &[(1, 11), (1, 12)], 9), ack(2)]];
        let rewritten =
            [&log[..], &[Event::Truncate { lsn: 6, last_index: 1 }, append(7, 1, 1, &[92])]].concat();
        check(
            NAME,
            "ack before write",
            &node(&rewritten, 6, ack(2)),
            &[&recovered, &node(&rewritten, 7, ack(2))],
        );
    }

    /// A snapshot replaces the log in memory before its record is durable. What of it was on the disk before may be acknowledged
    /// all the same; the rest may not, nor what stood there from another leader.
    #[test]
    fn an_acknowledgement_of_what_a_snapshot_repeats_needs_no_record_of_the_snapshot() {
        let install = |lsn| Event::Install { lsn, last_index: 5, term: 2, chain: 55, kept: false };
        let ack = |match_index| Event::AppendAckSent { to: 1, term: 2, match_index };
        let of_leader = [hard_state(2, 2, None), append(3, 0, 2, &[11, 12, 13]), install(6)];
        check(
            NAME,
            "ack before write",
            &node(&of_leader, 5, ack(5)),
            &[&node(&of_leader, 5, ack(3)), &node(&of_leader, 6, ack(5))],
        );
        check(NAME, "ack before write", &node(&of_leader, 4, ack(3)), &[&node(&of_leader, 4, ack(2))]);
        let of_another = [append(2, 0, 1, &[11, 12, 13, 14, 15]), hard_state(7, 2, None), install(8)];
        check(NAME, "ack before write", &node(&of_another, 7, ack(3)), &[&node(&of_another, 8, ack(3))]);
        let commit = Event::Commit { term: 2, commit_index: 3, chain: 13 };
        let committed = [append(2, 0, 1, &[11, 12, 13, 14, 15]), hard_state(7, 2, None), commit, install(8)];
        check(NAME, "ack before write", &node(&committed, 7, ack(4)), &[&node(&committed, 7, ack(3))]);
    }

    #[test]
    fn what_was_durable_is_there_after_a_restart() {
        let log = [append(2, 0, 1, &[11, 12])];
        let shorter = || boot(0, None, &[(1, 11)], 3);
        check(
            NAME,
            "durable entry lost",
            &node(&log, 3, shorter()),
            &[&node(&log, 2, shorter()), &node(&log, 3, boot(0, None, &[(1, 11), (1, 12)], 4))],
        );
    }

    /// Entries of one append become durable one by one, a record that comes after the news of it is durable at once, and an entry in
    /// the place of another replaces it, on the disk and in what may be found there.
    #[test]
    fn each_record_is_durable_by_itself() {
        let two = [append(3, 0, 1, &[11, 12])];
        let found = |log: &[(u64, u64)]| boot(0, None, log, 3);
        check(
            NAME,
            "durable entry lost",
            &node(&two, 3, found(&[])),
            &[&node(&two, 3, found(&[(1, 11)])), &node(&two, 3, found(&[(1, 11), (1, 12)]))],
        );
        check(NAME, "durable entry lost", &node(&two, 4, found(&[(1, 11)])), &[]);
        let ack = Event::AppendAckSent { to: 1, term: 1, match_index: 1 };
        let after = |lsn| {
            let events = [hard_state(2, 1, None), Event::Durable { lsn }, append(3, 0, 1, &[11])];
            node(&events, 0, ack.clone())
        };
        check(NAME, "ack before write", &after(2), &[&after(3), &after(4)]);
        let replaced = [append(2, 0, 1, &[11]), append(3, 0, 2, &[21])];
        check(
            NAME,
            "durable entry lost",
            &node(&replaced, 3, found(&[(1, 11)])),
            &[
                &node(&replaced, 3, found(&[(2, 21)])),
                &node(&replaced, 2, found(&[(2, 21)])),
                &node(&replaced, 2, found(&[(1, 11)])),
            ],
        );
    }
}
