//! Systems that we did not write: etcd where it is installed, and a small store with the driver that the README shows.

use std::path::PathBuf;
use std::process::Command;

use tests::binaries::binaries;
use tests::output::Said;
use tests::poll;
use tests::processes;
use tests::recorded::Recorded;
use tests::sandbox::Sandbox;
use tests::workspace::read;

use crate::disks::there_are_disks;

/// Whether a program can be started; says so if not, because a test that is skipped must not look like one that ran.
pub(crate) fn there_is(program: &str, argument: &str) -> bool {
    let there = Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: there is no {program} here");
    }
    there
}

#[test]
fn etcd_is_valid_under_every_fault_that_streams_can_have() {
    if !there_is("etcd", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let out = sandbox.out("etcd");
    let args = [
        "run",
        "--system",
        "etcd",
        "--net",
        "proxy",
        "--faults",
        "kill,partition,loss,delay,rate,reset",
        "--profile",
        "steady",
        "--workload",
        "mixed",
        "--clients",
        "10",
        "--rate",
        "400",
    ];
    let said = sandbox.run(&[&args[..], &["--time", "15s", "--seed", "0x51f2"]].concat(), &out).exits(0);
    let run = Recorded::at(&out);
    assert_eq!(run.verdict(), "valid", "{said}");
    for (kind, counter) in [
        ("partition", "held"),
        ("delay", "delayed"),
        ("loss", "stalled"),
        ("rate", "delayed"),
        ("reset", "reset"),
    ] {
        let healed = run.nemesis(kind);
        let bit = |value: &&serde_json::Value| {
            value["phase"] == "heal" && value["evidence"][counter].as_u64() > Some(0)
        };
        assert!(healed.iter().any(|value| bit(&value)), "no {kind} has {counter}: {healed:?}");
    }
    assert!(run.operations("ok") >= 300, "{said}");
    let told = |value: &serde_json::Value| value["served"] == true && value["keys"].as_u64() > Some(0);
    assert!(run.nemesis("aside").len() == 3 && run.nemesis("aside").iter().all(told), "{said}");
    sandbox.assert_nothing_left();
}

/// A store of one node: `PUT` and `GET` of `/KEY`, every write in a file before it is acknowledged. Started with a number, it
/// acknowledges one write in so many without keeping it.
const STORE: &str = r#"
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ip, port, path, forgets = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
os.makedirs(os.path.dirname(path), exist_ok=True)
data, writes = {}, 0
if os.path.exists(path):
    for line in open(path):
        if line.endswith("\n"):
            data.update(json.loads(line))
log = open(path, "a")

class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.say(json.dumps(data.get(self.path)).encode())
    def do_PUT(self):
        global writes
        value = int(self.rfile.read(int(self.headers["Content-Length"])))
        writes += 1
        if forgets == 0 or writes % forgets != 0:
            log.write(json.dumps({self.path: value}) + "\n")
            log.flush()
            data[self.path] = value
        self.say(b"")
    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

print("serving", flush=True)
Server((ip, port), Store).serve_forever()
"#;

/// The program that the README shows.
fn driver() -> String {
    let text = read("harness/README.md");
    let block = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the README shows a driver").to_owned()
}

/// Describes the store, with the README's driver as its client.
fn describe(sandbox: &Sandbox, forgets: u32) -> PathBuf {
    let write = |name: &str, text: &str| {
        let path = sandbox.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (store, driver) = (write("store.py", STORE), write("driver.py", &driver()));
    let text = format!(
        "name = \"store\"\ncommand = [\"python3\", \"{store}\", \"{{ip}}\", \"{{port:web}}\", \"{{data}}/log\", \"{forgets}\"]\n\
         ready = {{ log = \"serving\" }}\n[ports]\nweb = \"direct\"\n[run]\nnodes = 1\nworkload = \"register\"\nrate = 300\nfaults = [\"pause\"]\ntime = \"3s\"\n\
         [driver]\ncommand = [\"python3\", \"{driver}\"]\nport = \"web\"\nfunctions = [\"read\", \"write\"]\n"
    );
    sandbox.path().join(write("store.toml", &text))
}

#[test]
fn a_store_with_the_driver_of_the_readme_is_valid_until_it_forgets() {
    assert!(driver().lines().count() <= 40, "the README promises a short example");
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    for (forgets, code) in [(0, 0), (5, 1)] {
        let description = describe(&sandbox, forgets).display().to_string();
        let out = sandbox.out(&format!("store-{forgets}"));
        // To the end also when it has forgotten something: the fault is to come.
        let args = ["run", "--system", &description, "--seed", "7", "--on-violation", "continue"];
        let said = sandbox.run(&args, &out).exits(code);
        let run = Recorded::at(&out);
        let ok = run.operations("ok");
        assert!(ok > 200, "{ok} operations\n{said}");
        assert!(run.nemesis("pause").iter().any(|value| value["bit"] == true), "{said}");
        let replay = sandbox.out(&format!("replay-{forgets}"));
        sandbox.run(&["replay", &out.display().to_string()], &replay).exits(code);
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_driver_that_ends_or_does_nothing_is_an_error_of_the_tool_and_trouble_in_a_log_is_not() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let description = describe(&sandbox, 0);
    let text = std::fs::read_to_string(&description).unwrap();
    let path = description.display().to_string();

    let driven_by = |name: &str| {
        let of = |name: &str| sandbox.path().join(name).display().to_string();
        std::fs::write(&description, text.replace(&of("driver.py"), &of(name))).unwrap();
    };
    driven_by("none.py");
    let said = sandbox.run(&["run", "--system", &path], &sandbox.out("ended")).exits(3);
    said.tells("the driver python3", "driver.log");

    // A driver that lives and never does anything: that is no word about the store.
    std::fs::write(sandbox.path().join("idle.py"), "import sys\nfor line in sys.stdin: pass\n").unwrap();
    driven_by("idle.py");
    let idle = ["run", "--system", &path, "--ready-within", "3s"];
    let said = sandbox.run(&idle, &sandbox.out("idle")).exits(3);
    said.tells("before any fault: n1 (timeout)", "driver.log and the stderr.log");

    std::fs::write(&description, text.replace("ready =", "trouble = [\"serving\"]\nready =")).unwrap();
    let out = sandbox.out("trouble");
    let said = sandbox.run(&["run", "--system", &path], &out).exits(1);
    assert!(said.stdout.contains("its log says \"serving\""), "{said}");
    assert_eq!(Recorded::at(&out).checks("invalid"), ["self_exit"]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_file_of_a_description_is_on_the_disk_of_its_node_at_each_start() {
    let sandbox = Sandbox::new();
    if !there_is("python3", "--version") || !there_are_disks(&sandbox) {
        return;
    }
    let description = describe(&sandbox, 0);
    // The store does not start without its file, and leaves a mark in it.
    let script = sandbox.path().join("start.sh");
    std::fs::write(&script, "grep -qx n1 $1/own && echo mark >> $1/own && shift && exec \"$@\"\n").unwrap();
    let text = std::fs::read_to_string(&description).unwrap();
    let command = format!("command = [\"sh\", {script:?}, \"{{data}}\", \"python3\"");
    let text = text.replacen("command = [\"python3\"", &command, 1).replace("\"pause\"", "\"kill\"");
    std::fs::write(&description, text + "[files]\n\"{data}/own\" = \"{name}\\n\"\n").unwrap();
    let out = sandbox.out("own");
    let args = ["run", "--system", &description.display().to_string(), "--disk", "fuse"];
    let said = sandbox.run(&args, &out).exits(0);
    assert!(Recorded::at(&out).nemesis("kill").iter().any(|value| value["bit"] == true), "{said}");
    assert_eq!(std::fs::read_to_string(out.join("nodes/n1/data/own")).unwrap(), "n1\nmark\n");
    sandbox.assert_nothing_left();
}

#[test]
fn commands_of_an_operator_are_run_for_a_node_and_bite_where_they_succeed() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let description = describe(&sandbox, 0);
    let text = std::fs::read_to_string(&description).unwrap().replace("[\"pause\"]", "[\"admin\"]");
    let path = description.display().to_string();
    let with = |word: &str| {
        let admin = format!("[admin]\nlook = [\"sh\", \"-c\", \"echo {{name}} at {{addr:web}}; {word}\"]\n");
        std::fs::write(&description, text.clone() + &admin).unwrap();
    };
    let judge = |out: &std::path::Path, status: &str| {
        let run = Recorded::at(out);
        let healed = run.nemesis("admin").into_iter().filter(|value| value["phase"] == "heal");
        let healed = healed.collect::<Vec<_>>();
        let ran = |value: &serde_json::Value| {
            value["bit"] == (status == "exit 0") && value["evidence"]["status"] == status
        };
        assert!(!healed.is_empty() && healed.iter().all(ran), "{healed:?}");
        let log = std::fs::read_to_string(out.join("admin.log")).unwrap_or_default();
        let said = log.lines().filter(|line| line.starts_with("n1 at 127.") || line.starts_with("n1 at 10."));
        assert_eq!(said.count(), if status == "not run" { 0 } else { healed.len() }, "{log}");
    };
    with("false");
    let out = sandbox.out("false");
    sandbox.run(&["run", "--system", &path, "--time", "3s"], &out).exits(2);
    judge(&out, "exit 1");
    with("true");
    let out = sandbox.out("true");
    if Said::of(sandbox.command(&binaries().harness).args(["duds", "--help"])).code == Some(0) {
        let args = ["duds", "--system", &path, "--faults", "admin", "--time", "3s", "--seed", "7"];
        let said = sandbox.run(&args, &out).exits(0);
        assert!(said.stdout.contains("no admin had an effect"), "{said}");
        judge(&out.join("admin-dud"), "not run");
        judge(&out.join("admin"), "exit 0");
    } else {
        sandbox.run(&["run", "--system", &path, "--time", "3s"], &out).exits(0);
        judge(&out, "exit 0");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_killed_harness_leaves_nothing_of_what_a_script_started() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let description = describe(&sandbox, 0);
    let text = std::fs::read_to_string(&description).unwrap();
    // The node is the script; the store is its child, which no parent-death signal reaches.
    let script = sandbox.path().join("start.sh");
    std::fs::write(&script, "\"$@\" &\nwait\n").unwrap();
    let command = format!("command = [\"sh\", \"{}\", \"python3\"", script.display());
    let text =
        text.replacen("command = [\"python3\"", &command, 1).replace("time = \"3s\"", "time = \"60s\"");
    std::fs::write(&description, text).unwrap();
    let out = sandbox.out("killed");
    let args = ["run", "--system", &description.display().to_string()];
    let mut child = sandbox.harness(&args, &out).stdout(std::process::Stdio::null()).spawn().unwrap();
    let run = Recorded::at(&out);
    poll::until_true("operations", || run.events_so_far().len() > 20);
    let store =
        |found: &processes::Found| found.command.contains("store.py") && !found.command.starts_with("sh ");
    assert!(processes::mentioning(sandbox.path()).iter().any(store));
    child.kill().unwrap();
    child.wait().unwrap();
    processes::wait_gone(sandbox.path());
}

/// Three nodes with one directory between them, where every key is a file. One that is stubborn answers reads by what it saw of a key
/// first while n1 does not answer, as a leader would whose state went another way.
const SHARED: &str = r#"
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

name, ip, port, peers, shared, stubborn = sys.argv[1:]
first, seen = peers.split(",")[0].rsplit(":", 1), {}
os.makedirs(shared, exist_ok=True)

def alone():
    if stubborn != "yes" or name == "n1":
        return False
    try:
        with socket.create_connection(first, 0.5) as connection:
            connection.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
            return connection.recv(1) == b""
    except OSError:
        return True

class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = shared + self.path
        value = open(path, "rb").read() if os.path.exists(path) else b"null"
        seen.setdefault(path, value)
        self.say(seen[path] if alone() else value)
    def do_PUT(self):
        path, value = shared + self.path, self.rfile.read(int(self.headers["Content-Length"]))
        draft = "%s.%s.%d" % (path, name, int(value))
        open(draft, "wb").write(value)
        os.rename(draft, path)
        self.say(b"")
    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server((ip, int(port)), Store).serve_forever()
"#;

#[test]
fn a_state_that_went_another_way_shows_when_the_others_step_aside() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let store = sandbox.path().join("shared.py");
    std::fs::write(&store, SHARED).unwrap();
    for (stubborn, code) in [("no", 0), ("yes", 1)] {
        let description = sandbox.path().join(format!("{stubborn}.toml"));
        let shared = sandbox.path().join(format!("shared-{stubborn}"));
        let text = format!(
            "name = \"shared\"\npeers = \"{{addr:web}}\"\n\
             command = [\"python3\", {store:?}, \"{{name}}\", \"{{ip}}\", \"{{port:web}}\", \"{{peers}}\", {shared:?}, \"{stubborn}\"]\n\
             [ports]\nweb = \"direct\"\n[run]\nnodes = 3\nworkload = \"register\"\nrate = 200\nfaults = []\ntime = \"3s\"\n\
             [http]\nport = \"web\"\n[http.read]\nmethod = \"GET\"\npath = \"/{{key}}\"\nvalue = \"\"\n\
             [http.write]\nmethod = \"PUT\"\npath = \"/{{key}}\"\nbody = \"{{value}}\"\n"
        );
        std::fs::write(&description, text).unwrap();
        let out = sandbox.out(stubborn);
        let args = ["run", "--system", description.to_str().unwrap(), "--seed", "3"];
        let said = sandbox.run(&args, &out).exits(code);
        let run = Recorded::at(&out);
        let aside = run.nemesis("aside");
        assert!(aside.len() == 3 && aside.iter().all(|value| value["served"] == true), "{said}\n{aside:?}");
        assert!(said.stdout.contains("in turn: the others told"), "{said}");
        if code == 1 {
            // Not of the load: while that went on n1 answered.
            assert!(said.stdout.contains("stale read") || said.stdout.contains("lost write"), "{said}");
            assert!(!said.stdout.contains("  wrong "), "{said}");
        }
    }
    sandbox.assert_nothing_left();
}
