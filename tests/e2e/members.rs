//! Who belongs to a cluster, by hand: a node joins, catches up by a snapshot, votes and leaves; a node that lost its directory comes back.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use node::client::{Client, ClientConfig, Operation, Outcome, Reply};
use serde_json::Value;
use tests::hand::Hand;
use tests::output::Said;
use tests::poll;
use tests::sandbox::Sandbox;

/// Snapshots so often that who is away for a while needs one.
const OFTEN: [&str; 4] = ["--snapshot-entries", "50", "--trailing-entries", "10"];

/// A client that waits longer than any election.
fn client(hand: &Hand<'_>, ids: &[usize]) -> Client {
    let config = ClientConfig { operation_timeout: Duration::from_secs(30), ..ClientConfig::default() };
    let addrs: Vec<SocketAddr> = ids.iter().map(|id| hand.address(*id)).collect();
    Client::new(config, addrs).unwrap()
}

fn key(number: u32) -> Vec<u8> {
    format!("key{number:04}").into_bytes()
}

/// Writes that are acknowledged.
fn write(hand: &Hand<'_>, ids: &[usize], numbers: std::ops::Range<u32>) {
    let mut client = client(hand, ids);
    for number in numbers {
        let set = Operation::Set { key: key(number), value: number.to_string().into_bytes() };
        let outcome = client.execute(&set, 0);
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
}

/// Every write of [`write`] is read through every one of these nodes.
fn read_all(hand: &Hand<'_>, ids: &[usize], numbers: std::ops::Range<u32>) {
    for id in ids {
        let mut client = client(hand, &[*id]);
        for number in numbers.clone() {
            let outcome = client.execute(&Operation::Get { key: key(number) }, 0);
            let Outcome::Applied { reply: Reply::Value(Some(value)), .. } = &outcome else {
                panic!("key {number} through n{id}: {outcome:?}")
            };
            assert_eq!(**value, *number.to_string().as_bytes(), "key {number} through n{id}");
        }
    }
}

/// `node member WORDS… --addr (nodes)`.
fn member(hand: &Hand<'_>, ids: &[usize], words: &[&str]) -> Said {
    let addrs = ids.iter().map(|id| hand.address(*id).to_string()).collect::<Vec<_>>().join(",");
    hand.node(&[&["member"], words, &["--timeout", "30s", "--addr", &addrs]].concat())
}

/// The role of `id` by what the node `asked` says.
fn role(hand: &Hand<'_>, asked: usize, id: usize) -> Option<String> {
    let status = hand.status(asked);
    let members = status["members"].as_array()?;
    let found = members.iter().find(|member| member["id"] == id)?;
    found["role"].as_str().map(str::to_owned)
}

#[test]
fn a_node_joins_by_a_snapshot_votes_and_leaves_and_so_does_the_leader() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "members", 4).founded_by(3).with(&OFTEN);
    let founders = [1, 2, 3];
    for id in founders {
        hand.start(id);
    }
    hand.leader(&founders);
    write(&hand, &founders, 0..200);
    assert!(hand.status(1)["first_index"].as_u64() > Some(100), "the log is bounded");

    hand.start(4);
    let address = hand.address(4).to_string();
    member(&hand, &founders, &["promote", "4"]).exits(1).tells("no such member", "node member list");
    let said = member(&hand, &founders, &["add", "4", &address]).exits(0);
    assert!(said.stdout.starts_with(&format!("ok   n4 at {address} belongs to the cluster")), "{said}");
    let said = member(&hand, &founders, &["promote", "4"]).exits(0);
    assert!(said.stdout.starts_with("ok   n4 is a voter"), "{said}");
    assert!(hand.log(4).contains("installed snapshot at"), "{}", hand.log(4));
    assert_eq!(role(&hand, 1, 4).as_deref(), Some("voter"));
    let listed = member(&hand, &[2], &["list"]).exits(0).stdout;
    assert_eq!(listed.matches(" voter ").count(), 4, "{listed}");
    read_all(&hand, &[4], 0..200);

    let leader = hand.leader(&[1, 2, 3, 4]);
    let name = leader.to_string();
    let rest: Vec<usize> = (1..=4).filter(|id| *id != leader).collect();
    member(&hand, &rest, &["remove", &name]).exits(0);
    let next = hand.leader(&rest);
    assert_ne!(next, leader, "the cluster goes on without it");
    write(&hand, &rest, 200..400);
    assert_eq!(role(&hand, next, leader), None);
    let address = hand.address(leader).to_string();
    member(&hand, &rest, &["add", &name, &address]).exits(0);
    member(&hand, &rest, &["promote", &name]).exits(0);
    read_all(&hand, &[leader], 0..400);
    member(&hand, &rest, &["remove", "4"]).exits(0);
    assert_eq!(hand.end(4, Signal::SIGTERM).code(), Some(0), "{}", hand.log(4));
    hand.leader(&founders);
    read_all(&hand, &founders, 0..400);
    assert!(hand.all_run());
    drop(hand);
    sandbox.assert_nothing_left();
}

/// Ends node `id`, empties its place and starts it again.
fn wipe(hand: &mut Hand<'_>, id: usize) {
    hand.end(id, Signal::SIGKILL);
    std::fs::remove_dir_all(hand.data(id)).unwrap();
    hand.start(id);
}

/// Waits until the nodes `ids` say that `id` is a voter with the directory that it has now.
fn returned(hand: &Hand<'_>, ids: &[usize], id: usize) {
    let directory = |status: &Value| {
        let members = status["members"].as_array()?;
        let found = members.iter().find(|member| member["id"] == id && member["role"] == "voter")?;
        found["directory"].as_str().map(str::to_owned)
    };
    let own = poll::until("the directory of a node", || {
        let look: Value = serde_json::from_str(&hand.look("inspect", id, &["--json"]).stdout).ok()?;
        look["owner"]["directory_id"].as_str().map(str::to_owned)
    });
    poll::until_true("a wiped node that votes again", || {
        ids.iter().all(|asked| directory(&hand.status(*asked)).as_deref() == Some(&own))
    });
}

#[test]
fn a_wiped_node_comes_back_as_a_learner_then_votes_and_nothing_acknowledged_is_lost() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "wiped", 3).with(&OFTEN);
    let all = [1, 2, 3];
    for id in all {
        hand.start(id);
    }
    let leader = hand.leader(&all);
    write(&hand, &all, 0..200);
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    wipe(&mut hand, wiped);
    returned(&hand, &all, wiped);
    let learnt = format!("learners n{wiped}");
    assert!(all.iter().any(|id| hand.log(*id).contains(&learnt)), "{}", hand.log(leader));
    assert!(hand.log(wiped).contains("installed snapshot at"), "{}", hand.log(wiped));
    hand.end(other, Signal::SIGKILL);
    let left = [leader, wiped];
    hand.leader(&left);
    read_all(&hand, &left, 0..200);
    write(&hand, &left, 200..250);
    drop(hand);
    sandbox.assert_nothing_left();
}

/// With the leader stopped and another node empty, a majority remembers nothing for sure: the empty one must not help to elect.
#[test]
fn an_empty_node_neither_leads_nor_votes_while_the_leader_is_stopped() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "empty", 3);
    let all = [1, 2, 3];
    for id in all {
        hand.start(id);
    }
    let leader = hand.leader(&all);
    write(&hand, &all, 0..100);
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let term = hand.status(leader)["term"].clone();
    hand.signal(leader, Signal::SIGSTOP);
    wipe(&mut hand, wiped);
    // The other one tries, again and again.
    let tries = |hand: &Hand<'_>| hand.log(other).matches("election timeout in term").count();
    let before = tries(&hand);
    poll::until_true("elections that fail", || tries(&hand) >= before + 5);
    for id in [wiped, other] {
        let status = hand.status(id);
        assert_ne!(status["role"], "leader", "{status}");
    }
    assert_eq!(hand.status(wiped)["may_vote"], false);
    assert_eq!(hand.status(wiped)["last_index"], 0);
    assert_eq!(hand.status(other)["term"], term, "nobody was elected");
    hand.signal(leader, Signal::SIGCONT);
    hand.leader(&all);
    returned(&hand, &all, wiped);
    read_all(&hand, &all, 0..100);
    drop(hand);
    sandbox.assert_nothing_left();
}
