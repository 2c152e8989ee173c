//! Changes of membership: §6, thesis §4, Ongaro's erratum of 2015, and the defects M01 to M06 and Z07 of the catalogue.

use node::raft::event::Event;
use node::raft::membership::{ADDRESS_BYTES_MAX, MEMBERS_MAX, Membership};
use node::raft::message::{AppendResult, Message, SnapshotOffer};
use node::raft::reconfigure::{Change, ChangeError, PROMOTION_LAG_MAX};
use node::raft::types::{Entry, HardState, Index, NodeId, Payload, ProcessId, Record, Term};
use node::raft::{Effects, Input};

use crate::core::*;

const ADDRESS: &str = "10.0.0.4:4000";

/// Node 1 of 3, leading term 5, its no-op committed at index 1.
pub(crate) fn leader() -> Core {
    let mut core = Core::leader(3, 4, &[]);
    for peer in [2, 3] {
        core.receive(peer, 5, accepted(1));
    }
    assert_eq!(core.raft.commit_index(), 1);
    core
}

/// `id` with this membership in force from the start, after `term`.
fn with(id: NodeId, membership: &Membership, term: Term, terms: &[Term]) -> Core {
    let hard_state = HardState { term, voted_for: None };
    let mut recovered = recovered(1, hard_state, entries(0, terms), terms.len() as u64 + 1);
    recovered.mark.membership = membership.encode().into();
    Core::start(config(id), recovered)
}

/// 1, 2 and 3 on their way to 1, 4 and 5.
fn joint() -> Membership {
    Membership { voters: [1, 4, 5].into(), outgoing: [1, 2, 3].into(), ..membership(5) }
}

fn change(core: &mut Core, change: &Change) -> Effects {
    let next = core.raft.change(change).unwrap();
    core.input(Input::Reconfigure(next))
}

/// The disk and these nodes have everything.
pub(crate) fn accept_all(core: &mut Core, peers: &[NodeId]) -> Effects {
    core.sync();
    let last = core.raft.log().last().index;
    let mut effects = Effects::default();
    for peer in peers {
        effects = core.receive(*peer, core.raft.term(), accepted(last));
    }
    effects
}

fn voters(core: &Core) -> (Vec<NodeId>, Vec<NodeId>) {
    let membership = core.raft.membership();
    (membership.voters.iter().copied().collect(), membership.outgoing.iter().copied().collect())
}

fn configuration(prev: Index, term: Term, membership: &Membership) -> Message {
    let payload = Payload::Membership(membership.encode().into());
    let entries = vec![Entry { id: id(prev + 1, term), payload }];
    Message::Append { prev: id(prev, term), commit_index: 0, round: 0, entries }
}

// ---- When a configuration is in force ----

#[test]
fn a_configuration_is_in_force_when_it_is_appended() {
    let mut core = leader();
    let effects = change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    assert_eq!((core.raft.membership_index(), core.raft.commit_index()), (2, 1));
    assert!(core.raft.membership().is_learner(4));
    assert_eq!(core.raft.membership().member(4).unwrap().address, ADDRESS);
    let told = core.raft.membership().to_string();
    assert!(effects.events.contains(&Event::MembershipChanged { index: 2, membership: told }));
    assert!(matches!(effects.records[0].1, Record::Entry(Entry { payload: Payload::Membership(_), .. })));
    assert_eq!(sent(&core.timeout(), 4).len(), 1, "it gets the log from now on");

    let mut follower = Core::new(2, 3, 5, None, &[5]);
    follower.receive(1, 5, configuration(1, 5, core.raft.membership()));
    assert_eq!(follower.raft.membership(), core.raft.membership());
    assert_eq!((follower.raft.membership_index(), follower.raft.commit_index()), (2, 0));
    assert_eq!(*follower.raft.membership_at(1).as_ref(), membership(3));
    assert_eq!(follower.raft.membership_at(2).as_ref(), core.raft.membership());
    assert_eq!(follower.raft.membership_at(9).as_ref(), core.raft.membership());
}

/// M05: what is taken back is in force no more, and what it replaced is again.
#[test]
fn a_configuration_rolls_back_with_its_entry() {
    let three = membership(3);
    let (first, second) = (joint(), joint().settled());
    let mut core = Core::new(2, 3, 5, None, &[5]);
    core.receive(1, 5, configuration(1, 5, &first));
    core.receive(1, 5, configuration(2, 5, &second));
    assert_eq!(core.raft.membership(), &second);
    let effects = core.receive(3, 6, append(id(2, 5), 0, &[6]));
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&first, 2));
    let told = first.to_string();
    assert!(effects.events.contains(&Event::MembershipChanged { index: 2, membership: told }));
    core.receive(1, 7, append(id(1, 5), 0, &[7]));
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&three, 0));
    // A truncation after it leaves it alone, and the first one cannot be taken back.
    core.receive(1, 8, configuration(2, 8, &first));
    assert_eq!(core.raft.membership_index(), 0, "that does not fit");
    core.receive(
        1,
        8,
        Message::Append {
            prev: id(2, 7),
            commit_index: 0,
            round: 0,
            entries: vec![
                Entry { id: id(3, 8), payload: Payload::Membership(first.encode().into()) },
                Entry { id: id(4, 8), payload: Payload::Noop },
            ],
        },
    );
    core.receive(3, 9, append(id(3, 8), 0, &[9]));
    assert_eq!(core.raft.membership_index(), 3);
    core.receive(3, 10, append(id(0, 0), 0, &[10]));
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&three, 0));
}

/// Z07: a snapshot stands for the membership too, and it is what a later truncation falls back to.
#[test]
fn a_configuration_is_kept_over_compaction() {
    let mut core = Core::new(2, 3, 5, None, &[5]);
    core.receive(1, 5, configuration(1, 5, &joint()));
    core.receive(1, 5, configuration(2, 5, &joint().settled()));
    core.receive(1, 5, append(id(3, 5), 3, &[5]));
    let offer = |index| SnapshotOffer { last: id(index, 5), size: 1, root: [0; 32] };
    for (index, expected) in [(1, membership(3)), (2, joint()), (3, joint().settled())] {
        let effects = core.input(Input::SnapshotSaved(offer(index)));
        let [(_, Record::Snapshot(mark))] = &effects.records[..] else { panic!("{:?}", effects.records) };
        assert_eq!(Membership::decode(&mark.membership), Ok(expected.clone()), "at {index}");
        assert_eq!((core.raft.membership(), core.raft.membership_index()), (&joint().settled(), 3));
        assert_eq!(core.raft.membership_at(index).as_ref(), &expected);
    }
    core.receive(1, 6, configuration(4, 6, &membership(5)));
    core.receive(
        1,
        6,
        Message::Append {
            prev: id(3, 5),
            commit_index: 3,
            round: 0,
            entries: vec![Entry {
                id: id(4, 6),
                payload: Payload::Membership(membership(5).encode().into()),
            }],
        },
    );
    assert_eq!(core.raft.membership(), &membership(5));
    core.receive(3, 7, append(id(3, 5), 3, &[7]));
    assert_eq!((core.raft.membership(), core.raft.membership_index()), (&joint().settled(), 3));
}

// ---- When a change may begin ----

/// Ongaro's erratum (defect M01): until an entry of its term is committed, a leader may not know of a change that is.
#[test]
fn no_change_before_a_commit_in_this_term() {
    let mut core = Core::leader(3, 4, &[1, 2]);
    let add = Change::Add(4, ADDRESS.to_owned());
    assert_eq!(core.raft.change(&add), Err(ChangeError::UnderWay));
    core.receive(2, 5, accepted(2));
    assert_eq!(core.raft.change(&add), Err(ChangeError::UnderWay));
    core.receive(2, 5, accepted(3));
    assert!(core.raft.change(&add).is_ok());
    assert_eq!(Core::new(1, 3, 4, None, &[]).raft.change(&add), Err(ChangeError::UnderWay), "no leader");
}

/// Everything before its term is committed and known to be, and still its own no-op decides.
#[test]
fn a_new_leader_that_knows_all_commits_changes_nothing_yet() {
    let mut core = Core::new(1, 3, 1, None, &[1, 1]);
    core.receive(2, 1, append(id(2, 1), 2, &[]));
    core.win();
    assert_eq!(core.raft.change(&Change::Remove(3)), Err(ChangeError::UnderWay));
    // Nor does it bind directories by itself: that is a change as well.
    let mut unbound = with(1, &Membership::of_voters([(1, "a:1".to_owned())]), 4, &[]);
    for _ in 0..20 {
        unbound.timeout();
    }
    assert_eq!(unbound.raft.membership_index(), 0, "its directory is not admitted, so it does not even lead");
}

/// M02: one change after the other.
#[test]
fn one_change_at_a_time() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    let remove = Change::Remove(3);
    assert_eq!(core.raft.change(&remove), Err(ChangeError::UnderWay), "not committed");
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 2);
    change(&mut core, &remove);
    assert_eq!(core.raft.change(&Change::Remove(2)), Err(ChangeError::UnderWay));
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 3);
    assert_eq!(core.raft.change(&Change::Remove(2)), Err(ChangeError::UnderWay), "still joint");
    core.timeout();
    assert_eq!(voters(&core), (vec![1, 2], vec![]));
    assert_eq!(core.raft.change(&Change::Remove(2)), Err(ChangeError::UnderWay), "not committed");
    accept_all(&mut core, &[2]);
    assert!(core.raft.change(&Change::Remove(2)).is_ok());
}

#[test]
fn no_change_during_a_transfer() {
    let mut core = leader();
    core.input(Input::Propose(vec![command("x")]));
    core.input(Input::TransferLeader(Some(2)));
    assert_eq!(core.raft.change(&Change::Remove(3)), Err(ChangeError::UnderWay));
    core.now += ELECTION_MAX;
    core.receive(3, 5, accepted(1));
    assert!(core.raft.change(&Change::Remove(3)).is_ok(), "given up");
}

#[test]
fn impossible_changes_are_refused() {
    let mut core = leader();
    let add = |id, address: &str| Change::Add(id, address.to_owned());
    let long = "x".repeat(ADDRESS_BYTES_MAX + 1);
    for (change, error) in [
        (add(0, ADDRESS), ChangeError::Impossible),
        (add(4, ""), ChangeError::Impossible),
        (add(4, &long), ChangeError::Impossible),
        (add(2, "127.0.0.1:2"), ChangeError::Done),
        (Change::Promote(9), ChangeError::Impossible),
        (Change::Promote(2), ChangeError::Done),
        (Change::Remove(9), ChangeError::Done),
    ] {
        assert_eq!(core.raft.change(&change), Err(error), "{change:?}");
    }
    assert!(core.raft.change(&add(4, &long[1..])).is_ok());
    let moved = core.raft.change(&add(2, ADDRESS)).unwrap();
    assert_eq!((moved.member(2).unwrap().address.as_str(), moved.is_voter(2)), (ADDRESS, true));
    assert_eq!(moved.member(2).unwrap().directory, process(2, 1).directory, "only where it is found changes");
    // As many members as there may be, and no more.
    let mut crowd = membership(3);
    for id in 4..=MEMBERS_MAX as NodeId {
        crowd.members.entry(id).or_default().address = ADDRESS.to_owned();
    }
    core.input(Input::Reconfigure(crowd));
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.change(&add(99, ADDRESS)), Err(ChangeError::Impossible));
    assert!(core.raft.change(&add(4, "10.0.0.9:1")).is_ok());
    // Somebody must be left.
    let mut alone = Core::leader(1, 4, &[]);
    assert_eq!(alone.raft.change(&Change::Remove(1)), Err(ChangeError::Impossible));
    change(&mut alone, &Change::Add(2, ADDRESS.to_owned()));
    alone.sync();
    assert_eq!(alone.raft.change(&Change::Remove(1)), Err(ChangeError::Impossible), "a learner is nobody");
}

// ---- Two majorities ----

/// M04 and M06: a joint configuration elects with a majority of each half; learners count for nothing.
#[test]
fn a_joint_configuration_elects_with_both_majorities() {
    for (voting, expected) in [
        (&[4, 5][..], false),
        (&[2, 3], false),
        (&[2, 4], true),
        (&[3, 5], true),
        (&[2], false),
        (&[6, 7, 4, 5], false),
    ] {
        let mut members = joint();
        members.members.entry(6).or_default().address = ADDRESS.to_owned();
        let mut core = with(1, &members, 4, &[1]);
        let effects = core.timeout();
        let asked: Vec<NodeId> = effects.messages.iter().map(|m| m.envelope.to).collect();
        assert_eq!(asked, [2, 3, 4, 5], "the voters of both halves, and no learner");
        for peer in voting {
            core.receive(*peer, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
        }
        assert_eq!(core.role(), if expected { "candidate" } else { "pre_candidate" }, "{voting:?}");
        for peer in [2, 3, 4, 5] {
            core.receive(peer, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
        }
        core.sync();
        for peer in voting {
            core.receive(*peer, 5, Message::VoteReply { granted: true });
        }
        assert_eq!(core.role(), if expected { "leader" } else { "candidate" }, "{voting:?}");
    }
}

/// Leads term 5; the joint configuration is entry 1, its no-op entry 2, and neither is committed.
fn joint_leader() -> Core {
    let mut recovered = recovered(3, HardState { term: 4, voted_for: None }, vec![], 2);
    recovered.entries = vec![Entry { id: id(1, 4), payload: Payload::Membership(joint().encode().into()) }];
    let mut core = Core::start(config(1), recovered);
    core.win();
    core.sync();
    assert_eq!(core.raft.membership(), &joint());
    core
}

#[test]
fn a_joint_configuration_commits_and_reads_with_both_majorities() {
    let mut core = joint_leader();
    core.receive(4, 5, accepted(2));
    core.receive(5, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 0);
    core.receive(2, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 2);
    core.input(Input::ReadIndex(7));
    for peer in [2, 3] {
        assert!(core.receive(peer, 5, echo(1)).reads.is_empty());
    }
    assert_eq!(core.receive(4, 5, echo(1)).reads.len(), 1);
}

#[test]
fn a_leader_of_a_joint_configuration_needs_to_hear_both_majorities() {
    for (answering, expected) in [(&[4, 5][..], false), (&[2, 3], false), (&[3, 4], true)] {
        let mut core = joint_leader();
        let elected = core.now;
        while core.role() == "leader" && core.now < elected + 2 * ELECTION_MAX {
            for peer in answering {
                core.receive(*peer, 5, echo(0));
            }
            core.timeout();
        }
        assert_eq!(core.role() == "leader", expected, "{answering:?}");
    }
}

/// Both majorities have the joint configuration: the leader leaves it by itself. Also a new leader that only inherited it.
#[test]
fn a_joint_configuration_is_left_when_it_is_committed() {
    let mut core = joint_leader();
    core.receive(4, 5, accepted(2));
    core.timeout();
    assert!(core.raft.membership().is_joint(), "the old majority does not have it");
    core.receive(2, 5, accepted(2));
    assert!(core.raft.membership().is_joint());
    core.timeout();
    assert_eq!((voters(&core), core.raft.membership_index()), ((vec![1, 4, 5], vec![]), 3));
    let left: Vec<NodeId> = core.raft.membership().members.keys().copied().collect();
    assert_eq!(left, [1, 4, 5], "those who only had a vote before are gone");
}

// ---- Add, promote, remove ----

#[test]
fn a_node_is_added_caught_up_and_promoted() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    core.sync();
    core.receive(4, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 1, "a learner's disk is no majority's");
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 2);
    // Its directory is known by now, and is bound before anything is promised to it.
    core.timeout();
    assert_eq!(core.raft.membership().member(4).unwrap().directory, process(4, 1).directory);
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 3);
    let promote = Change::Promote(4);
    assert_eq!(core.raft.change(&promote), Err(ChangeError::Behind), "it lacks the latest configuration");
    core.receive(4, 5, accepted(3));
    change(&mut core, &promote);
    assert_eq!(voters(&core), (vec![1, 2, 3, 4], vec![1, 2, 3]));
    core.sync();
    core.receive(2, 5, accepted(4));
    assert_eq!(core.raft.commit_index(), 3, "2 of 4");
    core.receive(4, 5, accepted(4));
    assert_eq!(core.raft.commit_index(), 4);
    core.timeout();
    assert_eq!(voters(&core), (vec![1, 2, 3, 4], vec![]));
    accept_all(&mut core, &[2, 4]);
    let index = core.raft.membership_index();
    for _ in 0..5 {
        core.timeout();
        accept_all(&mut core, &[2, 3, 4]);
    }
    assert_eq!((core.raft.membership_index(), core.raft.commit_index()), (index, 5), "and that is all");
}

#[test]
fn a_learner_that_is_far_behind_is_not_promoted() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    accept_all(&mut core, &[2, 4]);
    core.timeout();
    accept_all(&mut core, &[2, 4]);
    core.input(Input::Propose(vec![Payload::Noop; 2 * PROMOTION_LAG_MAX as usize]));
    accept_all(&mut core, &[2]);
    let promote = Change::Promote(4);
    let near = core.raft.commit_index() - PROMOTION_LAG_MAX;
    assert_eq!(core.raft.change(&promote), Err(ChangeError::Behind));
    core.receive(4, 5, accepted(near - 1));
    assert_eq!(core.raft.change(&promote), Err(ChangeError::Behind));
    core.receive(4, 5, accepted(near));
    assert!(core.raft.change(&promote).is_ok());
    // What another directory says under its id is not its word.
    let wiped = ProcessId { directory: 9, incarnation: 1 };
    core.now += ELECTION_MAX;
    core.receive_from(4, wiped, 5, accepted(near));
    assert_eq!(core.raft.change(&promote), Err(ChangeError::Behind));
}

#[test]
fn a_learner_that_was_never_heard_is_not_promoted() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.change(&Change::Promote(4)), Err(ChangeError::Behind));
}

#[test]
fn a_learner_is_removed_at_once() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    accept_all(&mut core, &[2]);
    change(&mut core, &Change::Remove(4));
    assert_eq!((voters(&core), core.raft.membership().member(4)), ((vec![1, 2, 3], vec![]), None));
}

#[test]
fn a_follower_is_removed_and_told_so() {
    let mut core = leader();
    let effects = change(&mut core, &Change::Remove(3));
    assert_eq!(voters(&core), (vec![1, 2], vec![1, 2, 3]));
    assert_eq!(sent(&effects, 3).len(), 1);
    core.sync();
    core.receive(3, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 1, "a majority of those who stay is needed");
    core.receive(2, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 2);
    let effects = core.timeout();
    assert_eq!(voters(&core), (vec![1, 2], vec![]));
    let carried: usize = sent(&effects, 3)
        .iter()
        .filter_map(|m| match &m.envelope.message {
            Message::Append { entries, .. } => Some(entries.len()),
            _ => None,
        })
        .sum();
    assert_eq!(carried, 1, "it is to know that it is out");
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 3);
    core.timeout();
    assert!(core.raft.progress().contains_key(&3), "it has not got it yet");
    core.receive(3, 5, accepted(3));
    accept_all(&mut core, &[2]);
    core.timeout();
    assert!(!core.raft.progress().contains_key(&3));
    assert!(sent(&core.timeout(), 3).is_empty());
}

#[test]
fn one_that_was_removed_and_does_not_listen_is_given_up() {
    let mut core = leader();
    change(&mut core, &Change::Remove(3));
    accept_all(&mut core, &[2]);
    core.timeout();
    accept_all(&mut core, &[2]);
    let silent_since = core.now;
    while core.raft.progress().contains_key(&3) {
        assert!(core.now <= silent_since + ELECTION_MAX);
        core.timeout();
        accept_all(&mut core, &[2]);
    }
}

/// Thesis §4.2.2, and the near miss: what commits before that configuration does is no reason to go.
#[test]
fn a_leader_that_is_removed_commits_what_stands_before_and_leads_on() {
    let mut core = leader();
    change(&mut core, &Change::Remove(1));
    core.input(Input::Propose(vec![command("x")]));
    core.sync();
    core.receive(2, 5, accepted(2));
    core.receive(3, 5, accepted(2));
    core.timeout();
    core.sync();
    assert_eq!((core.raft.commit_index(), voters(&core)), (2, (vec![2, 3], vec![])));
    core.receive(2, 5, accepted(3));
    core.receive(3, 5, accepted(3));
    assert_eq!((core.raft.commit_index(), core.role()), (3, "leader"));
    core.receive(2, 5, accepted(4));
    core.receive(3, 5, accepted(4));
    assert_eq!((core.raft.commit_index(), core.role()), (4, "follower"));
}

/// Thesis §4.2.2: it leads until the configuration without it is committed, without counting itself, and then hands over.
#[test]
fn a_leader_that_is_removed_leads_until_that_is_committed() {
    let mut core = leader();
    change(&mut core, &Change::Remove(1));
    assert_eq!(voters(&core), (vec![2, 3], vec![1, 2, 3]));
    accept_all(&mut core, &[2]);
    assert_eq!(core.raft.commit_index(), 1, "its own disk is no part of the new majority");
    accept_all(&mut core, &[3]);
    assert_eq!((core.raft.commit_index(), core.role()), (2, "leader"));
    core.timeout();
    assert_eq!(voters(&core), (vec![2, 3], vec![]));
    core.input(Input::Propose(vec![command("x")]));
    core.sync();
    core.receive(2, 5, accepted(4));
    assert_eq!((core.raft.commit_index(), core.role()), (2, "leader"));
    let effects = core.receive(3, 5, accepted(3));
    assert_eq!((core.raft.commit_index(), core.role(), core.raft.leader()), (3, "follower", None));
    assert!(effects.events.contains(&Event::Removed { term: 5 }));
    for peer in [2, 3] {
        let told = sent(&effects, peer)
            .into_iter()
            .any(|m| matches!(m.envelope.message, Message::Append { commit_index: 3, .. }));
        assert!(told, "n{peer} knows that it is committed");
    }
    let stands: Vec<NodeId> = effects
        .messages
        .iter()
        .filter(|m| m.envelope.message == Message::TimeoutNow)
        .map(|m| m.envelope.to)
        .collect();
    assert_eq!(stands, [2], "the one that is furthest");
    for _ in 0..5 {
        assert!(core.timeout().messages.is_empty(), "it is nobody's candidate");
        assert_eq!(core.role(), "follower");
    }
}

// ---- Learners ----

#[test]
fn a_learner_follows_and_never_stands() {
    let mut members = membership(4);
    members.voters.remove(&4);
    let mut core = with(4, &members, 5, &[5]);
    for _ in 0..5 {
        assert!(core.timeout().messages.is_empty());
    }
    let reply = only(&core.receive(1, 5, append(id(1, 5), 0, &[5])), 1);
    assert_eq!(result(&reply), AppendResult::Accepted { match_index: 2 });
    core.receive(1, 5, Message::TimeoutNow);
    assert_eq!((core.role(), core.raft.term(), core.raft.leader()), ("follower", 5, Some(1)));
}

#[test]
fn nothing_is_handed_over_to_a_learner() {
    let mut core = leader();
    change(&mut core, &Change::Add(4, ADDRESS.to_owned()));
    accept_all(&mut core, &[2, 4]);
    assert_eq!(core.raft.transfer_target(core.now, Some(4)), None);
    core.input(Input::TransferLeader(Some(4)));
    assert_eq!(core.raft.transferring_to(), None);
    assert!(matches!(core.raft.transfer_target(core.now, None), Some(2 | 3)));
}

/// A node that joins knows of no members: it waits for a leader that knows it, whoever that is (§6).
#[test]
fn a_node_without_a_membership_follows_who_leads() {
    let mut recovered = recovered(1, HardState::default(), vec![], 1);
    recovered.mark.membership = Membership::default().encode().into();
    let mut core = Core::start(config(4), recovered);
    for _ in 0..3 {
        assert!(core.timeout().messages.is_empty());
    }
    let mut members = membership(4);
    members.voters.remove(&4);
    let payload = Payload::Membership(members.encode().into());
    let entries = vec![Entry { id: id(1, 7), payload }];
    let reply = core.receive(2, 7, Message::Append { prev: id(0, 0), commit_index: 0, round: 0, entries });
    assert_eq!(result(&only(&reply, 2)), AppendResult::Accepted { match_index: 1 });
    assert_eq!((core.raft.leader(), core.raft.membership()), (Some(2), &members));
}
