//! Members and their data directories: who lost one counts for nothing until it has caught up (defects D09 and T03 of the
//! catalogue). What such a node itself may promise is in `admission`.

use node::raft::Input;
use node::raft::membership::Membership;
use node::raft::message::Message;
use node::raft::progress::ProgressState;
use node::raft::reconfigure::Change;
use node::raft::types::{HardState, NodeId, ProcessId};

use crate::core::*;
use crate::membership::{accept_all, leader};

/// What node 2 is after its directory was lost.
const WIPED: ProcessId = ProcessId { directory: 2_002, incarnation: 1 };

/// Node 2 is silent until its word would be taken from another directory.
fn wait_for_silence(core: &mut Core) {
    let heard = core.raft.progress()[&2].heard_at;
    while core.now < heard + ELECTION_MAX {
        core.timeout();
        core.receive(3, 5, echo(0));
    }
    assert_eq!(core.role(), "leader");
}

fn directory(core: &Core, id: NodeId) -> u64 {
    core.raft.membership().member(id).unwrap().directory
}

#[test]
fn a_leader_binds_its_members_to_the_directories_that_it_hears_from() {
    let mut recovered = recovered(3, HardState { term: 4, voted_for: None }, vec![], 1);
    let mut members = membership(3);
    for id in [2, 3] {
        members.members.get_mut(&id).unwrap().directory = 0;
    }
    recovered.mark.membership = members.encode().into();
    let mut core = Core::start(config(1), recovered);
    core.timeout();
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    core.sync();
    core.receive(2, 5, Message::VoteReply { granted: true });
    core.sync();
    assert_eq!((core.role(), directory(&core, 2)), ("leader", 1_002), "whose vote it counted it knows");
    core.timeout();
    assert_eq!(core.raft.membership_index(), 0, "nothing is committed in this term yet");
    accept_all(&mut core, &[2]);
    core.timeout();
    assert_eq!((core.raft.membership_index(), directory(&core, 2), directory(&core, 3)), (2, 1_002, 0));
    assert!(!core.raft.membership().is_joint(), "nobody's vote changed");
    core.timeout();
    assert_eq!(core.raft.membership_index(), 2, "one change at a time");
    accept_all(&mut core, &[2, 3]);
    core.timeout();
    assert_eq!(directory(&core, 3), 1_003);
}

/// It may have voted for somebody else before it lost its directory.
#[test]
fn a_vote_from_another_directory_counts_for_nothing() {
    let mut core = Core::new(1, 3, 4, None, &[]);
    core.timeout();
    core.receive_from(2, WIPED, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    assert_eq!(core.role(), "pre_candidate");
    core.receive(2, 4, Message::PreVoteReply { candidate_term: 5, granted: true });
    core.sync();
    core.receive_from(2, WIPED, 5, Message::VoteReply { granted: true });
    assert_eq!(core.role(), "candidate");
    core.receive(2, 5, Message::VoteReply { granted: true });
    assert_eq!(core.role(), "leader");
}

#[test]
fn an_acknowledgement_from_another_directory_counts_for_nothing() {
    let mut core = leader();
    core.input(Input::Propose(vec![command("x")]));
    core.sync();
    // While the one that counts is heard, the other is not listened to.
    core.receive_from(2, WIPED, 5, accepted(2));
    let progress = &core.raft.progress()[&2];
    assert_eq!((progress.match_index, progress.process, core.raft.commit_index()), (1, process(2, 1), 1));
    wait_for_silence(&mut core);
    core.receive_from(2, WIPED, 5, accepted(2));
    let progress = &core.raft.progress()[&2];
    assert_eq!((progress.process, progress.match_index), (WIPED, 2), "what it has is known");
    assert_eq!(core.raft.commit_index(), 1, "and counts for nothing");
    core.input(Input::ReadIndex(7));
    assert!(core.receive_from(2, WIPED, 5, echo(1)).reads.is_empty());
    assert_eq!(core.raft.transfer_target(core.now, Some(2)), None);
    core.receive(3, 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 2);
}

/// What its predecessor had acknowledged is forgotten: it is gone.
#[test]
fn the_match_of_a_lost_directory_is_forgotten() {
    let mut core = leader();
    core.input(Input::Propose(vec![command("x")]));
    core.receive(2, 5, accepted(2));
    wait_for_silence(&mut core);
    core.receive_from(2, WIPED, 5, rejected(2, id(0, 0)));
    let progress = &core.raft.progress()[&2];
    assert_eq!((progress.match_index, progress.next_index), (0, 1));
    assert_eq!(progress.state, ProgressState::Probe);
}

/// Check-quorum: what another directory says is no sign of life of the one that counts.
#[test]
fn a_leader_that_hears_only_other_directories_steps_down() {
    let mut core = leader();
    let start = core.now;
    while core.role() == "leader" {
        assert!(core.now <= start + 2 * ELECTION_MAX);
        core.receive_from(2, WIPED, 5, accepted(1));
        core.timeout();
    }
}

/// A voter that lost its directory: learner, learner with the new one, voter. Each step is a change of its own.
#[test]
fn a_wiped_voter_is_demoted_caught_up_and_made_a_voter_again() {
    let mut core = leader();
    wait_for_silence(&mut core);
    core.receive_from(2, WIPED, 5, rejected(1, id(0, 0)));
    core.timeout();
    let members = core.raft.membership().clone();
    assert_eq!((&members.voters, &members.outgoing), (&[1, 3].into(), &[1, 2, 3].into()));
    assert!(members.returning.contains(&2));
    accept_all(&mut core, &[3]);
    core.timeout();
    let members = core.raft.membership().clone();
    assert!(!members.is_joint() && members.is_learner(2) && members.returning.contains(&2));
    assert_eq!(directory(&core, 2), 1_002);
    accept_all(&mut core, &[3]);
    core.timeout();
    assert_eq!((directory(&core, 2), core.raft.membership().is_learner(2)), (WIPED.directory, true));
    accept_all(&mut core, &[3]);
    let bound = core.raft.membership_index();
    core.timeout();
    assert_eq!(core.raft.membership_index(), bound, "not before it has caught up");
    core.receive(3, 5, accepted(bound));
    core.receive_from(2, WIPED, 5, accepted(bound));
    // An operator that is faster leaves nobody waiting for a vote that it has, and nobody waited for that is gone.
    for order in [Change::Promote(2), Change::Remove(2)] {
        assert!(core.raft.change(&order).unwrap().returning.is_empty(), "{order:?}");
    }
    core.timeout();
    let members = core.raft.membership().clone();
    assert_eq!((&members.voters, &members.outgoing), (&[1, 2, 3].into(), &[1, 3].into()));
    assert!(members.returning.is_empty());
    let last = core.raft.log().last().index;
    core.sync();
    core.receive(3, 5, accepted(last));
    core.receive_from(2, WIPED, 5, accepted(last));
    core.timeout();
    let expected =
        Membership { members: members.members.clone(), voters: members.voters.clone(), ..Default::default() };
    assert_eq!(core.raft.membership(), &expected);
    let last = core.raft.log().last().index;
    core.sync();
    core.receive_from(2, WIPED, 5, accepted(last));
    assert_eq!(core.raft.commit_index(), last, "its word counts again");
}

/// Late datagrams of the dead directory, after the new one is bound.
#[test]
fn a_late_word_from_a_dead_directory_demotes_nobody() {
    let mut core = leader();
    let dead = ProcessId { directory: 77, incarnation: 9 };
    core.input(Input::Propose(vec![command("x")]));
    core.sync();
    for message in [accepted(2), rejected(1, id(0, 0)), echo(3)] {
        core.receive_from(2, dead, 5, message);
    }
    let progress = &core.raft.progress()[&2];
    assert_eq!((progress.process, progress.match_index, core.raft.commit_index()), (process(2, 1), 1, 1));
    let index = core.raft.membership_index();
    for _ in 0..30 {
        core.timeout();
        core.receive(2, 5, accepted(2));
        core.receive_from(2, dead, 5, accepted(1));
        core.receive(3, 5, accepted(2));
    }
    assert_eq!((core.raft.membership_index(), core.role()), (index, "leader"));
}

/// A process that is dead says nothing about the one that followed it in the same directory.
#[test]
fn a_late_word_from_an_earlier_start_is_not_taken() {
    let mut core = leader();
    let at = |incarnation| ProcessId { incarnation, ..process(2, 1) };
    core.input(Input::Propose(vec![command("x")]));
    core.sync();
    core.receive_from(2, at(3), 5, accepted(1));
    core.receive_from(2, at(2), 5, accepted(2));
    assert_eq!((core.raft.progress()[&2].process, core.raft.commit_index()), (at(3), 1));
    core.receive_from(2, at(3), 5, accepted(2));
    assert_eq!(core.raft.commit_index(), 2);
}

/// The last voter cannot be made a learner, whatever is heard of it; nor is anybody else touched.
#[test]
fn a_returning_learner_that_loses_its_directory_again_is_bound_again() {
    let mut core = leader();
    wait_for_silence(&mut core);
    core.receive_from(2, WIPED, 5, rejected(1, id(0, 0)));
    for _ in 0..3 {
        core.timeout();
        accept_all(&mut core, &[3]);
    }
    assert_eq!(directory(&core, 2), WIPED.directory);
    wait_for_silence(&mut core);
    let again = ProcessId { directory: 3_003, incarnation: 1 };
    core.receive_from(2, again, 5, rejected(1, id(0, 0)));
    core.timeout();
    assert_eq!((directory(&core, 2), core.raft.membership().is_learner(2)), (3_003, true));
}
