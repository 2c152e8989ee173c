//! Programs that were written for Maelstrom, run as they are.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::any_system::there_is;

/// A node that hands every request to the first; started with `remembers`, it answers reads by what it saw of others' writes last;
/// started with `passes`, it passes the client's own message on, made long, and the first node answers the client, as demos of Raft do.
const NODE: &str = r#"#!/usr/bin/env python3
import json, os, sys

remembers = os.path.basename(sys.argv[0]) == "remembers" or "remembers" in sys.argv
passes = os.path.basename(sys.argv[0]) == "passes"
me, ids, store, waiting, sent = None, [], {}, {}, 0

def send(dest, body):
    print(json.dumps({"src": me, "dest": dest, "body": body}), flush=True)

def perform(body):
    key, kind = body["key"], body["type"]
    if kind == "write":
        store[key] = body["value"]
    elif key not in store:
        return {"type": "error", "code": 20, "text": "no such key"}
    elif kind == "read":
        return {"type": "read_ok", "value": store[key]}
    elif store[key] != body["from"]:
        return {"type": "error", "code": 22, "text": "it is " + str(store[key])}
    else:
        store[key] = body["to"]
    return {"type": kind + "_ok"}

for line in sys.stdin:
    message = json.loads(line)
    source, body = message["src"], message["body"]
    if body["type"] == "init":
        me, ids = body["node_id"], body["node_ids"]
        send(source, {"type": "init_ok", "in_reply_to": body["msg_id"]})
    elif "in_reply_to" in body:
        client, number, asked = waiting.pop(body["in_reply_to"], (None, None, None))
        if client:
            if body["type"] in ("write_ok", "cas_ok"):
                store[asked["key"]] = asked.get("value", asked.get("to"))
            send(client, {**body, "in_reply_to": number})
    elif me != ids[0] and passes:
        print(json.dumps({"src": source, "dest": ids[0], "body": {**body, "ballast": "x" * 100_000}}), flush=True)
    elif me == ids[0] or (remembers and body["type"] == "read" and body["key"] in store):
        send(source, {**perform(body), "in_reply_to": body["msg_id"]})
    else:
        sent += 1
        waiting[sent] = (source, body["msg_id"], body)
        send(ids[0], {**body, "msg_id": sent})
"#;

/// The program under a name, executable.
fn program(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.path().join(name);
    std::fs::write(&path, NODE).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn nodes_of_maelstrom_that_ask_one_node_are_valid_under_what_its_network_does() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let program = program(&sandbox, "asks");
    let (file, out) = (sandbox.path().join("asks.toml"), sandbox.out("asks"));
    // Without its first node it does not serve, and was not made to.
    let description =
        format!("kind = \"maelstrom\"\nname = \"asks\"\ncommand = [{program:?}]\ntolerates = 0\n");
    std::fs::write(&file, description).unwrap();
    // Messages that are lost are not sent again: many clients, so that some are always about to ask.
    let faults = "--faults=pause,partition,loss,delay";
    let args = ["run", "--system", file.to_str().unwrap(), faults, "--clients", "40", "--time", "16s"];
    let said = sandbox.run(&[&args[..], &["--seed", "11"]].concat(), &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    for kind in ["pause", "partition", "loss", "delay"] {
        assert!(run.nemesis(kind).iter().any(|value| value["bit"] == true), "no {kind} bit: {said}");
    }
    assert!(run.operations("ok") >= 100, "{said}");
    sandbox.assert_nothing_left();
}

#[test]
fn nodes_of_maelstrom_may_pass_requests_on_for_another_to_answer() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let program = program(&sandbox, "passes");
    let (file, out) = (sandbox.path().join("passes.toml"), sandbox.out("passes"));
    let description =
        format!("kind = \"maelstrom\"\nname = \"passes\"\ncommand = [{program:?}]\ntolerates = 0\n");
    std::fs::write(&file, description).unwrap();
    let args = ["run", "--system", file.to_str().unwrap(), "--faults", "none", "--time", "3s"];
    // It is valid only if a client is served through each node.
    let said = sandbox.run(&args, &out).exits(0);
    assert!(Recorded::at(&out).operations("ok") >= 100, "{said}");
    sandbox.assert_nothing_left();
}

#[test]
fn nodes_of_maelstrom_that_read_what_they_remember_are_found_and_replayed() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let program = program(&sandbox, "remembers");
    let (out, again) = (sandbox.out("remembers"), sandbox.out("again"));
    let args = ["run", "--maelstrom", program.to_str().unwrap(), "--time", "5s", "--faults", "none"];
    let said = sandbox.run(&args, &out).exits(1);
    let linearizability = |path: &PathBuf| {
        let verdict = Recorded::at(path).json("verdict.json");
        verdict.to_string().contains("linearizability") && verdict["verdict"] == "invalid"
    };
    assert!(linearizability(&out) && said.stdout.contains("INVALID"), "{said}");
    sandbox.run(&["replay", out.to_str().unwrap()], &again).exits(1);
    assert!(linearizability(&again));
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_no_node_of_maelstrom_is_told() {
    let sandbox = Sandbox::new();
    // It ends at once.
    let out = sandbox.out("none");
    let said = sandbox.run(&["run", "--maelstrom", "/bin/true", "--time", "2s"], &out).exits(3);
    assert!(said.stderr.contains("died by itself (exit 0)"), "{said}");
    let said = sandbox.run(&["run", "--maelstrom", "/nonexistent/node"], &sandbox.out("nowhere")).exits(3);
    assert!(said.stderr.contains("/nonexistent/node"), "{said}");
    let said =
        sandbox.run(&["run", "--maelstrom", "/bin/true", "--workload", "set"], &sandbox.out("set")).exits(3);
    assert!(
        said.stderr.contains("can read, write, cas") && said.stderr.contains("hint: --workload register"),
        "{said}"
    );
    sandbox.assert_nothing_left();
}
