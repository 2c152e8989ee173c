//! A system that answers no question and cannot be read: who leads and what it holds is known by the lines that it prints.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use harness::run::{Finished, Plan, run};
use harness::run_dir::RunDir;
use harness::schedule::Schedule;
use harness::spec::{Spec, WorkloadKind};
use harness::system::Described;
use harness::watch::OnViolation;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::any_system::there_is;

/// Nodes that share a file, which each of them follows and prints. Whoever has the lock leads, in a term that the file beside it counts.
/// Started with `forgets`, one acknowledged write in ten stays out of the file; with `twins` nobody counts the terms.
const PRINTER: &str = r#"
import fcntl, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ip, port, shared, variant = sys.argv[1:]
os.makedirs(shared, exist_ok=True)
log, writes = open(shared + "/log", "a+"), 0

def lead():
    with open(shared + "/term", "a+") as term:
        fcntl.flock(term, fcntl.LOCK_EX)
        term.seek(0)
        number = len(term.read()) if variant == "twins" else len(term.read()) + 1
        term.write("+" if variant != "twins" else "")
        term.flush()
        print("became leader in term %d" % number, flush=True)
        time.sleep(1e6)

def follow():
    with open(shared + "/log") as lines:
        rest = ""
        while True:
            rest += lines.readline()
            if rest.endswith("\n"):
                print("applied " + rest, end="", flush=True)
                rest = ""
            else:
                time.sleep(0.005)

class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        global writes
        value, writes = self.rfile.read(int(self.headers["Content-Length"])).decode(), writes + 1
        if variant != "forgets" or writes % 10:
            log.write("%s = %s\n" % (self.path[1:], value))
            log.flush()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

threading.Thread(target=lead, daemon=True).start()
threading.Thread(target=follow, daemon=True).start()
Server((ip, int(port)), Store).serve_forever()
"#;

/// The leader is killed, and whoever leads next stops 2 ms after it said so.
const SCHEDULE: &str = r#"{"id":1,"at_ms":300,"duration_ms":400,"target":"one","anchor":{"after":"leader","offset_us":2000,"within_ms":8000},"fault":{"kind":"pause"}}
{"id":2,"at_ms":400,"duration_ms":1000,"target":"leader","fault":{"kind":"kill"}}
"#;

fn finished(sandbox: &Sandbox, variant: &str) -> (Finished, Recorded) {
    let (program, shared) = (sandbox.path().join("printer.py"), sandbox.path().join(variant));
    std::fs::write(&program, PRINTER).unwrap();
    let description = sandbox.path().join(format!("{variant}.toml"));
    let text = format!(
        "name = \"printer\"\ncommand = [\"python3\", {program:?}, \"{{ip}}\", \"{{port:web}}\", {shared:?}, \"{variant}\"]\n\
         [[log]]\npattern = 'became leader in term (?<term>\\d+)'\nsays = \"leader\"\n\
         [[log]]\npattern = 'applied (?<key>\\w+) = (?<value>\\d+)'\nsays = \"value\"\n\
         [ports]\nweb = \"direct\"\n\
         [http]\nport = \"web\"\n[http.write]\nmethod = \"PUT\"\npath = \"/{{key}}\"\nbody = \"{{value}}\"\n"
    );
    std::fs::write(&description, text).unwrap();
    let system = Described::load(&description.display().to_string(), None).unwrap();
    let spec = Spec {
        nodes: 3,
        time_ms: 3_000,
        clients: 4,
        rate: 300,
        workload: WorkloadKind::Register,
        faults: Vec::new(),
        seed: 5,
        system: Some(description.display().to_string()),
        ..Spec::default()
    };
    let dir = RunDir::create(&sandbox.out(&format!("run-{variant}"))).unwrap();
    let path = sandbox.out("logs.jsonl");
    std::fs::write(&path, SCHEDULE).unwrap();
    let schedule = Schedule::read(&path).unwrap();
    let system = Arc::new(system.in_run(&dir));
    let on_violation = OnViolation::Continue;
    let plan = Plan { spec, schedule, dir: dir.clone(), system, on_violation, command: Vec::new() };
    let finished = run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    (finished, Recorded::at(dir.path()))
}

#[test]
fn what_nodes_print_tells_who_leads_and_what_they_hold() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();

    let (good, run) = finished(&sandbox, "good");
    assert_eq!(good.report.verdict.to_string(), "valid", "{:?}", good.report);
    assert!(run.checks("valid").contains(&"election_safety".to_owned()), "{:?}", run.checks("valid"));
    let roles = run.nemesis("role");
    let said = |term: u64| roles.iter().find(|role| role["term"] == term).unwrap()["node"].clone();
    let struck = run.nemesis("kill")[0]["nodes"][0].clone();
    assert_eq!(struck, said(1), "the leader was to be killed: {roles:?}");
    let stopped = run.nemesis("pause").into_iter().find(|value| value["phase"] == "inject").unwrap();
    let anchor = &stopped["evidence"]["anchor"];
    assert!(anchor["term"] == 2 && anchor["node"] == said(2), "{anchor}, {roles:?}");
    let settled = run.nemesis("settle")[0]["detail"].as_str().unwrap().to_owned();
    assert!(settled.starts_with("all nodes printed the same of "), "{settled}");
    let reads = |run: &Recorded| {
        let reads = |event: &&serde_json::Value| event["f"] == "read" && event["type"] == "ok";
        run.lines("history.jsonl").iter().filter(reads).count()
    };
    assert!(reads(&run) > 300, "each key is read of each node at the end: {}", reads(&run));

    let (bad, run) = finished(&sandbox, "forgets");
    assert_eq!(bad.report.class.as_deref(), Some("lost write"), "{:?}", bad.report);
    assert!(run.checks("valid").contains(&"election_safety".to_owned()));

    let (bad, run) = finished(&sandbox, "twins");
    assert_eq!(
        (bad.report.class.as_deref(), run.checks("invalid")),
        (Some("two leaders"), vec!["election_safety".to_owned()])
    );
    sandbox.assert_nothing_left();
}
