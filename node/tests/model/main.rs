//! The production core, model-checked: every behaviour of three nodes within bounds, with datagrams that are lost, duplicated and
//! overtaken, disks that are late, processes that are killed and start from what was durable, timeouts at any moment, leaders that hand
//! over, voters that change, and snapshots.
//!
//! `cargo test -p node --test model` looks at small bounds. `MODEL=large cargo test --release -p node --test model every_state --
//! --nocapture` looks at larger ones, and prints how many states there are; `MODEL='four terms'` looks at those of that name.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod defect;
mod invariants;
mod search;
mod snapshots;
mod world;

use defect::Defect;
use search::{Outcome, search};
use world::{Bounds, Change, Disks};

/// Two terms, and all that can happen to a datagram and to a record.
const TWO_TERMS: Bounds = Bounds {
    terms: 2,
    commands_up_to: 1,
    in_flight: 1,
    restarts: 0,
    duplicates: true,
    heartbeats: false,
    disks: Disks::Late,
    reads: 0,
    transfers: 0,
    snapshots: 0,
    change: None,
};
/// Datagrams that overtake each other.
const OVERTAKING: Bounds = Bounds { terms: 1, commands_up_to: 2, in_flight: 2, ..TWO_TERMS };
/// A kill and a power loss at any moment.
const RESTART: Bounds = Bounds { restarts: 1, ..TWO_TERMS };
/// Leaders that replace each other more often.
const THREE_TERMS: Bounds = Bounds { terms: 3, duplicates: false, disks: Disks::AtOnce, ..TWO_TERMS };
/// Figure 8 takes four terms with three nodes.
const FOUR_TERMS: Bounds = Bounds { terms: 4, ..THREE_TERMS };
/// A read at any leader.
const READ: Bounds = Bounds { commands_up_to: 2, disks: Disks::AtOnce, reads: 1, ..TWO_TERMS };
/// Leaders that hand over, and serve reads.
const TRANSFER: Bounds = Bounds { transfers: 1, duplicates: false, ..READ };
/// A log that is compacted at a follower or a leader, and a snapshot for whoever lags behind it.
const SNAPSHOT: Bounds =
    Bounds { snapshots: 1, heartbeats: true, duplicates: false, disks: Disks::AtOnce, ..TWO_TERMS };
/// Two of three voters leave at once, the leader among them or not: the majorities of before and after have nobody in common.
const LEAVE: Bounds =
    Bounds { commands_up_to: 0, change: Some(Change { from: &[1, 2, 3], to: &[1] }), ..THREE_TERMS };
/// The other way round: one who decides alone takes in two others.
const JOIN: Bounds = Bounds { change: Some(Change { from: &[1], to: &[1, 2, 3] }), ..LEAVE };
/// One voter leaves.
const REMOVE: Bounds = Bounds { change: Some(Change { from: &[1, 2, 3], to: &[1, 2] }), ..LEAVE };

const SMALL: [(&str, Bounds); 9] = [
    ("two terms", TWO_TERMS),
    ("overtaking", OVERTAKING),
    ("a restart in one term", Bounds { terms: 1, ..RESTART }),
    ("three terms", THREE_TERMS),
    ("a read", READ),
    ("a transfer", Bounds { reads: 0, commands_up_to: 1, ..TRANSFER }),
    ("a snapshot", Bounds { terms: 1, commands_up_to: 2, ..SNAPSHOT }),
    ("two voters leave", Bounds { terms: 2, ..LEAVE }),
    ("two voters join", Bounds { terms: 2, ..JOIN }),
];
const LARGE: [(&str, Bounds); 16] = [
    ("two terms, two entries", Bounds { commands_up_to: 2, ..TWO_TERMS }),
    ("overtaking, two terms", Bounds { terms: 2, duplicates: false, disks: Disks::AtOnce, ..OVERTAKING }),
    ("a read and a restart", Bounds { restarts: 1, ..READ }),
    ("a restart", RESTART),
    ("four terms", FOUR_TERMS),
    ("three terms, late disks", Bounds { disks: Disks::Late, ..THREE_TERMS }),
    ("a transfer, three terms, a read", Bounds { terms: 3, ..TRANSFER }),
    ("heartbeats and a read", Bounds { heartbeats: true, duplicates: false, ..READ }),
    ("two snapshots, two terms, two entries", Bounds { commands_up_to: 2, snapshots: 2, ..SNAPSHOT }),
    ("a snapshot, two terms, duplicates", Bounds { duplicates: true, ..SNAPSHOT }),
    (
        "a snapshot, late disks, a restart",
        Bounds { terms: 1, commands_up_to: 2, restarts: 1, disks: Disks::Late, ..SNAPSHOT },
    ),
    ("a snapshot, two terms, a restart", Bounds { restarts: 1, ..SNAPSHOT }),
    ("two voters leave, three terms", LEAVE),
    ("two voters join, three terms", JOIN),
    ("a voter leaves, three terms", REMOVE),
    (
        "two voters leave, late disks, a restart",
        Bounds { terms: 2, disks: Disks::Late, restarts: 1, ..LEAVE },
    ),
];

fn print(name: &str, bounds: &Bounds, outcome: &Outcome) {
    let Outcome { states, transitions, depth, seconds, .. } = outcome;
    println!("{name}: {states} states, {transitions} steps, depth {depth}, {seconds:.1} s   {bounds:?}");
}

#[test]
fn every_state_within_bounds_is_safe() {
    let searches: Vec<_> = match std::env::var("MODEL").as_deref() {
        Err(_) => SMALL.iter().collect(),
        Ok("large") => LARGE.iter().collect(),
        Ok(one) => SMALL.iter().chain(&LARGE).filter(|(name, _)| *name == one).collect(),
    };
    assert!(!searches.is_empty(), "there is no search of that name");
    for (name, bounds) in searches {
        let outcome = search(bounds, None);
        print(name, bounds, &outcome);
        if let Some((violation, way)) = outcome.violation {
            panic!("{}\n{way}", violation.0);
        }
        assert!(outcome.states > 1_000 && outcome.depth > 10, "a search that ends at once shows nothing");
    }
}

/// The same states by whatever names, and by whatever way they are met: a search is a function of its bounds.
#[test]
fn a_search_is_repeatable() {
    let count = || {
        let outcome = search(&Bounds { terms: 1, ..TWO_TERMS }, None);
        (outcome.states, outcome.transitions, outcome.depth)
    };
    assert_eq!(count(), count());
}

/// Asserts that `defect` breaks `property` within `bounds`.
fn check(defect: Defect, bounds: &Bounds, property: &str) {
    let outcome = search(bounds, Some(defect));
    print(&format!("{defect:?}"), bounds, &outcome);
    let (violation, way) = outcome.violation.unwrap_or_else(|| panic!("{defect:?} was not found"));
    println!("{way}");
    assert!(violation.0.starts_with(property), "{defect:?} was found as {}", violation.0);
}

#[test]
fn a_vote_that_leaves_before_it_is_durable_is_found() {
    check(Defect::EarlyVote, &TWO_TERMS, "sent implies durable");
}

#[test]
fn an_acknowledgement_that_leaves_before_it_is_durable_is_found() {
    check(Defect::EarlyAcknowledgement, &TWO_TERMS, "sent implies durable");
}

#[test]
fn a_vote_that_is_forgotten_is_found() {
    check(Defect::ForgottenVote, &RESTART, "election safety");
}

#[test]
fn a_second_vote_in_a_term_is_found() {
    check(Defect::SecondVote, &TWO_TERMS, "one vote a term");
}

#[test]
fn votes_for_any_log_are_found() {
    check(Defect::AnyLog, &TWO_TERMS, "leader completeness");
}

#[test]
fn commits_of_older_terms_by_counting_are_found() {
    check(Defect::OldTerms, &FOUR_TERMS, "leader completeness");
}

#[test]
fn commits_without_a_match_are_found() {
    check(Defect::CommitWithoutMatch, &THREE_TERMS, "state machine safety");
}

#[test]
fn appends_that_cut_the_tail_are_found() {
    check(Defect::CutTail, &OVERTAKING, "durable quorum");
}

#[test]
fn a_tail_that_was_durable_and_is_lost_is_found() {
    check(Defect::LostTail, &RESTART, "durable quorum");
}

#[test]
fn unconfirmed_reads_are_found() {
    check(Defect::UnconfirmedRead, &READ, "stale read");
}

#[test]
fn a_change_of_voters_in_one_step_is_found() {
    check(Defect::OneStep, &Bounds { terms: 2, ..LEAVE }, "leader completeness");
}

#[test]
fn a_commit_with_half_of_a_joint_configuration_is_found() {
    check(Defect::HalfCommit, &Bounds { terms: 2, ..LEAVE }, "leader completeness");
}

#[test]
fn a_snapshot_that_cuts_the_tail_is_found() {
    check(Defect::CutByInstall, &SNAPSHOT, "durable quorum");
}

#[test]
fn a_snapshot_that_comes_too_late_is_found() {
    check(Defect::LateInstall, &SNAPSHOT, "monotonic");
}
