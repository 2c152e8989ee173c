//! Damage of more nodes than a system survives, done on purpose: what breaks then is unknown and names it, what broke before is not.

use std::path::Path;

use tests::recorded::Recorded;
use tests::sandbox::Sandbox;

use crate::any_system::there_is;

/// Three nodes with one directory between them, where every key is a file, and each with a mark in a directory of its own. When two have
/// ever been without theirs, all is gone. Started with a number, it acknowledges one write in so many without keeping it.
const STORE: &str = r#"
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

name, ip, port, own, shared, forgets = sys.argv[1:]
values, writes = os.path.join(shared, "values"), 0
for directory in own, values:
    os.makedirs(directory, exist_ok=True)

def there(path):
    found = os.path.exists(path)
    open(path, "a").close()
    return found

if there(os.path.join(shared, "started-" + name)) and not os.path.exists(os.path.join(own, "mark")):
    there(os.path.join(shared, "lost-" + name))
    if sum(file.startswith("lost-") for file in os.listdir(shared)) > 1:
        for key in os.listdir(values):
            os.remove(os.path.join(values, key))
there(os.path.join(own, "mark"))

class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        path = values + self.path
        try:
            self.say(open(path, "rb").read())
        except FileNotFoundError:
            self.say(b"null")
    def do_PUT(self):
        global writes
        path, value = values + self.path, self.rfile.read(int(self.headers["Content-Length"]))
        writes += 1
        if forgets == "0" or writes % int(forgets) != 0:
            draft = "%s/draft-%s-%d" % (shared, name, int(value))
            open(draft, "wb").write(value)
            os.rename(draft, path)
        self.say(b"")
    def log_message(self, *words):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server((ip, int(port)), Store).serve_forever()
"#;

const PROFILE: &str = "about = \"majorities that lose everything\"\nfaults = [\"wipe\"]\ngap_ms = [500, 1000]\ntogether = 1\n\
                       duration_percent = 20\ntarget = \"majority\"\n";

/// Whether two nodes or more had lost everything at one time, by the evidence of a run.
fn there_was_too_much(out: &Path) -> bool {
    let beyond = |value: &serde_json::Value| value["evidence"]["beyond"].as_array().map_or(0, Vec::len);
    Recorded::at(out).nemesis("wipe").iter().any(|value| beyond(value) >= 2)
}

#[test]
fn what_a_majority_without_its_disks_loses_is_unknown_and_what_was_lost_before_is_invalid() {
    if !there_is("python3", "--version") {
        return;
    }
    let sandbox = Sandbox::new();
    let write = |name: &str, text: &str| {
        let path = sandbox.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (store, profile) = (write("store.py", STORE), write("wipes.toml", PROFILE));
    let place =
        |shared: &str, forgets: u32| format!("\"{}\", \"{forgets}\"]", sandbox.path().join(shared).display());
    let text = format!(
        "name = \"marked\"\n\
         command = [\"python3\", \"{store}\", \"{{name}}\", \"{{ip}}\", \"{{port:web}}\", \"{{data}}\", {}\n\
         [ports]\nweb = \"direct\"\n[run]\nnodes = 3\nworkload = \"register\"\nrate = 100\nfaults = [\"wipe\"]\ntime = \"3s\"\n\
         [http]\nport = \"web\"\n[http.read]\nmethod = \"GET\"\npath = \"/{{key}}\"\nvalue = \"\"\n\
         [http.write]\nmethod = \"PUT\"\npath = \"/{{key}}\"\nbody = \"{{value}}\"\n",
        place("kept", 0)
    );
    let (description, out) = (write("marked.toml", &text), sandbox.out("lost"));
    let args = ["run", "--blind", "--system", &description, "--profile", &profile, "--seed", "5"];
    let said = sandbox.run(&[&args[..], &["--on-violation", "continue"]].concat(), &out).exits(2);
    assert!(said.stdout.contains("lost, which was to be expected: n"), "{said}");
    assert!(there_was_too_much(&out), "{said}");

    // The same damage, but later, and a store that loses writes from the beginning.
    let (schedule, system) = (out.join("schedule.jsonl"), out.join("system.toml"));
    let first = "\"at_ms\":300,";
    let planned = std::fs::read_to_string(&schedule).unwrap();
    assert!(planned.contains(first), "{planned}");
    std::fs::write(&schedule, planned.lines().next().unwrap().replace(first, "\"at_ms\":2000,")).unwrap();
    std::fs::write(&system, text.replace(&place("kept", 0), &place("lost", 2))).unwrap();
    let (replay, run) = (sandbox.out("before"), out.display().to_string());
    let said = sandbox.run(&["replay", &run, "--on-violation", "continue"], &replay).exits(1);
    assert!(said.stdout.contains("lost write") || said.stdout.contains("stale read"), "{said}");
    assert!(there_was_too_much(&replay), "{said}");
    // Whose state went another way is not asked of a system that is known to be broken.
    assert_eq!(Recorded::at(&replay).nemesis("aside").len(), 0, "{said}");
    sandbox.assert_nothing_left();
}
