//! Nodes and clients in terminals, without a harness: what the article promises, and what a person does next.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::binaries::binaries;
use tests::hand::Hand;
use tests::output::Said;
use tests::poll;
use tests::sandbox::Sandbox;

/// The events of a first election and a first write, as they read in the logs of three nodes.
const EVENTS: [&str; 14] = [
    "election timeout in term",
    "became candidate for term",
    "sending vote request to n",
    "granted vote to n",
    "received vote from n",
    "won election for term",
    "became leader for term",
    "received append from leader n",
    "received proposal of",
    "appended entry",
    "append to n",
    "leader committed up to index",
    "to state machine: set key001",
    "follower advanced commit_index to",
];
const ALL: [usize; 3] = [1, 2, 3];

#[test]
fn three_nodes_serve_what_the_article_shows() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "three", 3);
    for id in ALL {
        hand.start(id);
        // One terminal after the other; not a wait for anything.
        std::thread::sleep(Duration::from_millis(700));
    }
    let leader = hand.leader(&ALL);
    let follower = leader % 3 + 1;
    operations_through_any_node(&hand, follower);
    the_longest(&hand, &sandbox, follower);
    for event in EVENTS {
        assert!(ALL.iter().any(|id| hand.log(*id).contains(event)), "nobody logged {event:?}");
    }
    assert!(hand.log(1).lines().all(|line| line.contains(" n1 info ") || line.contains(" n1 warn ")));
    status_shows_every_node(&hand, leader);
    a_directory_in_use_can_be_looked_at_but_not_taken(&hand);

    for id in ALL {
        hand.end(id, Signal::SIGKILL);
    }
    nobody_answers(&hand);
    for id in ALL {
        hand.look("verify", id, &[]).exits(0);
        hand.start(id);
    }
    hand.leader(&ALL);
    for id in ALL {
        assert_eq!(hand.client(id, &["get", "key001"]).exits(0).stdout, "value002\n");
        assert_eq!(hand.status(id)["incarnation"], 2);
    }
    leadership_is_handed_over(&mut hand);
    let foreign = Said::of(hand.serve(1).args(["--cluster", "another"])).exits(65);
    foreign.tells("belongs to", "cluster name");
    sandbox.assert_nothing_left();
}

/// By order, and by whoever is stopped while it leads. Ends with no node running.
fn leadership_is_handed_over(hand: &mut Hand<'_>) {
    let leader = hand.leader(&ALL);
    let (next, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let addr = hand.address(other).to_string();
    let order = ["transfer-leader", "--timeout", "30s", "--addr", &addr, "--to"];
    let said = hand.node(&[&order[..], &[&next.to_string()]].concat()).exits(0);
    assert!(said.stdout.starts_with(&format!("ok   n{next} leads term ")), "{said}");
    hand.node(&[&order[..], &["7"]].concat()).exits(1).tells("no such node", "node status");
    let leads = hand.leader(&ALL);
    let rest: Vec<usize> = ALL.into_iter().filter(|id| *id != leads).collect();
    assert_eq!(hand.end(leads, Signal::SIGTERM).code(), Some(0), "{}", hand.log(leads));
    assert!(hand.log(leads).contains("handing leadership of term"), "{}", hand.log(leads));
    hand.leader(&rest);
    let told = |id: &usize| hand.log(*id).contains(&format!("leader n{leads} of term"));
    assert!(rest.iter().any(told), "one of the others was told to stand");
    for id in rest {
        assert_eq!(hand.end(id, Signal::SIGTERM).code(), Some(0), "{}", hand.log(id));
    }
}

fn operations_through_any_node(hand: &Hand<'_>, follower: usize) {
    let set = hand.client(follower, &["set", "key001", "value001"]).exits(0);
    assert!(set.stdout.starts_with("ok"), "{set}");
    for id in ALL {
        assert_eq!(hand.client(id, &["get", "key001"]).exits(0).stdout, "value001\n");
    }
    hand.client(follower, &["--cmd", "set key002 two words"]).exits(0);
    assert_eq!(hand.client(1, &["--cmd", "get key002"]).exits(0).stdout, "two words\n");

    hand.client(2, &["cas", "key001", "value001", "value002"]).exits(0);
    let mismatch = hand.client(3, &["cas", "key001", "value001", "value003"]).exits(1);
    assert!(mismatch.stdout.contains("mismatch") && mismatch.stdout.contains("value002"), "{mismatch}");
    hand.client(1, &["cas", "key003", "--absent", "x"]).exits(0);
    hand.client(1, &["cas", "key003", "--absent", "y"]).exits(1);
    hand.client(2, &["append", "key003", "yz"]).exits(0);
    assert_eq!(hand.client(3, &["get", "key003"]).exits(0).stdout, "xyz\n");
    hand.client(1, &["delete", "key003"]).exits(0);
    assert_eq!(hand.client(2, &["get", "key003"]).exits(0).stdout, "(absent)\n");

    hand.client(1, &["set", "key004"]).exits(64).tells("not an operation", "set KEY VALUE");
}

/// The longest key and value, to the byte, written through a follower and read through everybody.
fn the_longest(hand: &Hand<'_>, sandbox: &Sandbox, follower: usize) {
    let key = "k".repeat(4_096);
    let value: String = (0..1 << 20).map(|at| char::from(b'a' + (at / 1_000 % 26) as u8)).collect();
    let file = |name: &str, text: &str| {
        let path = sandbox.out(name);
        std::fs::write(&path, text).unwrap();
        format!("@{}", path.display())
    };
    let (longest, longer) = (file("longest", &value), file("longer", &(value.clone() + "v")));
    hand.client(follower, &["set", &key, &longest]).exits(0);
    for id in ALL {
        assert!(hand.client(id, &["--raw", "get", &key]).exits(0).stdout == value, "through n{id}");
    }
    hand.client(follower, &["set", &key, &longer]).exits(1).tells("1048576", "change the request");
    hand.client(follower, &["append", &key, "v"]).exits(1).tells("1048576", "change the request");
    hand.client(1, &["get", &(key.clone() + "k")]).exits(1).tells("4096", "change the request");
    hand.client(1, &["set", "key004", "@missing"]).exits(3).tells("cannot read missing", "two of them");
    assert!(hand.client(1, &["--raw", "get", &key]).exits(0).stdout == value, "nothing changed");
}

fn all_addresses(hand: &Hand<'_>) -> String {
    ALL.map(|id| hand.address(id).to_string()).join(",")
}

fn status_shows_every_node(hand: &Hand<'_>, leader: usize) {
    let said = hand.node(&["status", "--json", "--addr", &all_addresses(hand)]).exits(0);
    let lines: Vec<serde_json::Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, id) in lines.iter().zip(ALL) {
        let status = &line["status"];
        assert_eq!(status["id"], id);
        assert_eq!(status["leader"], leader, "{said}");
        assert_eq!(status["role"], if id == leader { "leader" } else { "follower" });
        assert_eq!(status["build_id"], node::BUILD_ID);
        assert_eq!(status["peers"].as_array().unwrap().len(), if id == leader { 2 } else { 0 });
        assert!(status["commit_index"].as_u64() > Some(8) && status["first_index"] == 1, "{said}");
    }
    let table = hand.node(&["status", "--addr", &all_addresses(hand)]).exits(0);
    assert!(table.stdout.contains("leader") && table.stdout.contains("-> n"), "{table}");
}

fn a_directory_in_use_can_be_looked_at_but_not_taken(hand: &Hand<'_>) {
    for id in ALL {
        let verified = hand.look("verify", id, &[]).exits(0);
        assert!(
            verified.stdout.starts_with("intact") || verified.stdout.starts_with("torn tail"),
            "{verified}"
        );
        let inspected = hand.look("inspect", id, &[]).exits(0);
        assert!(inspected.stdout.contains("set key001"), "{inspected}");
        let json: serde_json::Value =
            serde_json::from_str(&hand.look("inspect", id, &["--json"]).exits(0).stdout).unwrap();
        assert_eq!(json["owner"]["node_id"], id);
        Said::of(&mut hand.serve(id))
            .exits(65)
            .tells("in use by another process", "data directory of its own");
    }
    hand.look("verify", 1, &[]).exits(0);
}

fn nobody_answers(hand: &Hand<'_>) {
    let addresses = all_addresses(hand);
    let client = ["client", "--timeout", "500ms", "--addr", &addresses];
    hand.node(&[&client[..], &["get", "key001"]].concat()).exits(2).tells("timeout", "node status");
    // A write whose session could not be opened was never sent: that is definite.
    hand.node(&[&client[..], &["set", "key001", "x"]].concat()).exits(1).tells("not sent", "");
    let status = hand.node(&["status", "--addr", &addresses]).exits(2);
    assert_eq!(status.stdout.matches("no answer").count(), 3, "{status}");
}

#[test]
fn one_node_is_a_cluster_and_its_damaged_log_is_refused() {
    let sandbox = Sandbox::new();
    let mut hand = Hand::new(&sandbox, "one", 1);
    hand.start(1);
    assert_eq!(hand.leader(&[1]), 1);
    for number in 0..20 {
        hand.client(1, &["set", &format!("key{number:03}"), &format!("value{number:03}")]).exits(0);
    }
    assert_eq!(hand.client(1, &["get", "key007"]).exits(0).stdout, "value007\n");
    assert_eq!(hand.end(1, Signal::SIGTERM).code(), Some(0));

    let segment = std::fs::read_dir(hand.data(1))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap();
    let honest = std::fs::read(&segment).unwrap();
    let at = honest.windows(8).position(|window| window == b"value007").unwrap();
    let mut damaged = honest.clone();
    damaged[at] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let verified = hand.look("verify", 1, &[]).exits(1);
    assert!(verified.stdout.starts_with("corrupt"), "{verified}");
    Said::of(&mut hand.serve(1)).exits(65).tells("is corrupt at byte", "node inspect");
    assert_eq!(std::fs::read(&segment).unwrap(), damaged, "a refused directory is not touched");

    std::fs::write(&segment, &honest).unwrap();
    hand.start(1);
    hand.leader(&[1]);
    assert_eq!(hand.client(1, &["get", "key019"]).exits(0).stdout, "value019\n");
    the_default_data_directory_is_below_the_working_directory(&sandbox, hand.address(1));
}

/// Without `--data-dir` a node keeps its files in `data/n1` of where it was started.
fn the_default_data_directory_is_below_the_working_directory(sandbox: &Sandbox, taken: SocketAddr) {
    let here = sandbox.out("here");
    std::fs::create_dir(&here).unwrap();
    let mut command = sandbox.command(&binaries().node);
    // The address is another node's, so that this one gives up after it has made its directory.
    let said = Said::of(command.current_dir(&here).args(["serve", "1", &taken.to_string()])).exits(3);
    said.tells("cannot listen on", "--listen");
    assert!(here.join("data/n1").is_dir());
    poll::until_true("no process there", || tests::processes::mentioning(&here).is_empty());
}
