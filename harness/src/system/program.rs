//! A client driver of somebody else's: a program that takes one JSON operation a line on stdin and answers on stdout.
//! One process serves many workers; each line carries the process of the history that it belongs to.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use checker::history::EventType;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::history_form;
use super::{Completion, Local, Session};
use crate::NodeId;
use crate::run_dir::node_name;
use crate::workload::{Action, Operation, Shape, shape};

/// Lines that wait for a driver that does not read. What comes on top was not sent.
const QUEUE_MAX: usize = 4_096;

/// A line to the driver.
#[derive(Debug, Serialize)]
struct Question<'a> {
    id: u64,
    process: u64,
    node: String,
    address: SocketAddr,
    f: &'static str,
    key: &'a str,
    value: Value,
    model: &'static str,
    timeout_ms: u64,
    /// Where clients reach each node that any of them was told of.
    nodes: BTreeMap<String, SocketAddr>,
}

/// A line from the driver. Fields that are not named here are ignored.
#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    #[serde(rename = "type")]
    kind: EventType,
    #[serde(default)]
    value: Value,
    error: Option<String>,
    actual: Option<Value>,
}

/// What the threads around a driver share.
#[derive(Debug, Default)]
struct Shared {
    /// Who waits for which answer.
    waiting: BTreeMap<u64, SyncSender<Answer>>,
    next: u64,
    /// Where the nodes are that its clients were told of.
    nodes: BTreeMap<String, SocketAddr>,
    /// Why it says nothing any more.
    ended: Option<String>,
}

/// A driver process. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Program {
    shared: Arc<Mutex<Shared>>,
    lines: Option<SyncSender<String>>,
    pid: Pid,
    threads: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts the driver; its stderr goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(words: &[String], log: &Path) -> io::Result<Program> {
        let (program, args) =
            words.split_first().ok_or_else(|| io::Error::other("the driver has no command"))?;
        let mut command = Command::new(program);
        let stderr = match log.as_os_str().is_empty() {
            true => Stdio::null(),
            false => OpenOptions::new().create(true).append(true).open(log)?.into(),
        };
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        let parent = Pid::this();
        // SAFETY: between fork and exec only two system calls are made, which are async-signal-safe and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
            });
        }
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (started, start) = sync_channel(1);
        let answers = shared.clone();
        let shown = words.join(" ");
        // The thread that forks is the one that reads: the kernel ties the child's life to it, and it ends after the child.
        let reader = std::thread::Builder::new().name("driver".to_owned()).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    let error =
                        io::Error::new(error.kind(), format!("cannot start the driver {shown}: {error}"));
                    // Whoever started it waits for this.
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let _ = started.send(Ok((child.id(), stdin)));
            let why = match stdout {
                Some(stdout) => read(BufReader::new(stdout), &answers),
                None => "it has no stdout".to_owned(),
            };
            // It closed its stdout, or said what cannot be understood: either way it is of no more use.
            let _ = child.kill();
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            let mut shared = lock(&answers);
            shared.ended = Some(format!("the driver {shown} ended ({status}): {why}"));
            shared.waiting.clear();
        })?;
        let (pid, stdin) = start.recv().map_err(|_| io::Error::other("the driver's thread is gone"))??;
        let mut stdin = stdin.ok_or_else(|| io::Error::other("the driver has no stdin"))?;
        let (lines, queue) = sync_channel::<String>(QUEUE_MAX);
        let writer = std::thread::Builder::new().name("driver-in".to_owned()).spawn(move || {
            for line in queue {
                if stdin.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Program {
            shared,
            lines: Some(lines),
            pid: Pid::from_raw(pid.cast_signed()),
            threads: vec![reader, writer],
        })
    }

    /// Why it answers nobody any more, if that is so.
    pub(super) fn ended(&self) -> Option<String> {
        lock(&self.shared).ended.clone()
    }

    /// Asks, and waits for the answer as long as `timeout`.
    fn ask(&self, mut question: Question<'_>, timeout: Duration) -> Result<Answer, Unanswered> {
        let (reply, answer) = sync_channel(1);
        {
            let mut shared = lock(&self.shared);
            if shared.ended.is_some() {
                return Err(Unanswered::NotSent);
            }
            question.id = shared.next;
            shared.next += 1;
            shared.waiting.insert(question.id, reply);
        }
        let line = serde_json::to_string(&question).unwrap_or_default() + "\n";
        let sent = self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        let answer = if sent { answer.recv_timeout(timeout) } else { Err(RecvTimeoutError::Disconnected) };
        lock(&self.shared).waiting.remove(&question.id);
        match answer {
            Ok(answer) => Ok(answer),
            Err(_) if !sent => Err(Unanswered::NotSent),
            Err(RecvTimeoutError::Timeout) => Err(Unanswered::Lost("timeout")),
            Err(RecvTimeoutError::Disconnected) => Err(Unanswered::Lost("driver_ended")),
        }
    }
}

enum Unanswered {
    NotSent,
    Lost(&'static str),
}

impl Drop for Program {
    fn drop(&mut self) {
        self.lines = None;
        // Its group is its own; it is gone if the driver ended by itself.
        if self.ended().is_none() {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
        for thread in self.threads.drain(..) {
            // Both end when the process does; a panic in one leaves nothing to clean.
            let _ = thread.join();
        }
    }
}

/// Hands answers to those who wait until the driver ends or says nonsense; which of the two.
fn read(stdout: impl BufRead, shared: &Mutex<Shared>) -> String {
    for line in stdout.lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return error.to_string(),
        };
        match serde_json::from_str::<Answer>(&line) {
            Ok(answer) => {
                // Nobody waits for an answer that came too late.
                if let Some(reply) = lock(shared).waiting.remove(&answer.id) {
                    let _ = reply.try_send(answer);
                }
            }
            Err(error) => return format!("{line:?} is no answer: {error}"),
        }
    }
    "it closed its stdout".to_owned()
}

/// A poisoned lock is taken all the same: the map is changed by single operations.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker's way to a driver.
#[derive(Debug)]
pub(super) struct ProgramSession {
    program: Arc<Program>,
    nodes: Vec<(NodeId, SocketAddr)>,
    patience: Duration,
}

impl ProgramSession {
    pub(super) fn new(
        program: Arc<Program>,
        nodes: &[(NodeId, SocketAddr)],
        patience: Duration,
    ) -> ProgramSession {
        lock(&program.shared).nodes.extend(nodes.iter().map(|(node, address)| (node_name(*node), *address)));
        ProgramSession { program, nodes: nodes.to_vec(), patience }
    }
}

impl Session for ProgramSession {
    fn perform(&mut self, process: u64, operation: &Operation, first: usize) -> Completion {
        let Some(&(node, address)) = self.nodes.get(first) else {
            return Completion::fail(operation, "no_such_node");
        };
        let model = match (shape(&operation.key), operation.key.starts_with('s')) {
            (Shape::Register, _) => "cas-register",
            (Shape::Elements, true) => "set",
            (Shape::Elements, false) => "list-append",
        };
        let question = Question {
            id: 0,
            process,
            node: node_name(node),
            address,
            f: operation.f(),
            key: &operation.key,
            value: operation.argument(),
            model,
            timeout_ms: u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX),
            nodes: lock(&self.program.shared).nodes.clone(),
        };
        match self.program.ask(question, self.patience) {
            Ok(answer) => completion(operation, answer, node),
            Err(Unanswered::NotSent) => Completion::fail(operation, "not_sent"),
            Err(Unanswered::Lost(why)) => Completion::unknown(operation, why),
        }
    }

    fn local(&mut self, _position: usize, _key: &str) -> Option<Local> {
        None
    }
}

fn completion(operation: &Operation, answer: Answer, node: NodeId) -> Completion {
    let error = || answer.error.clone().unwrap_or_else(|| "driver".to_owned());
    match (answer.kind, answer.actual) {
        (EventType::Ok, _) if operation.is_read() => {
            Completion::ok(history_form(&operation.key, answer.value), node)
        }
        (EventType::Ok, _) => Completion::ok(operation.argument(), node),
        (EventType::Fail, Some(actual)) if matches!(operation.action, Action::Cas { .. }) => {
            Completion::mismatch(operation, history_form(&operation.key, actual), node)
        }
        (EventType::Fail, _) => Completion::fail(operation, error()),
        // An `invoke` is no end of anything.
        (EventType::Info | EventType::Invoke, _) => Completion::unknown(operation, error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    /// A session with a driver that is this shell script.
    fn session(script: &str) -> ProgramSession {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let program = Arc::new(Program::start(&words, Path::new("")).unwrap());
        let node = (3, "127.0.0.1:9".parse().unwrap());
        ProgramSession::new(program, &[node], Duration::from_secs(10))
    }

    fn read_of(key: &str) -> Operation {
        Operation { key: key.to_owned(), action: Action::Read }
    }

    #[test]
    fn a_driver_gets_whole_questions_and_its_answers_find_their_workers() {
        let mut echo = session(
            r#"while read -r line; do printf '{"id":%s,"type":"ok","value":[%s]}\n' "$(printf %s "$line" | sed 's/{"id":\([0-9]*\).*/\1/')" "$line"; done"#,
        );
        for id in 0..3 {
            let done = echo.perform(7, &read_of("a1"), 0);
            let question = json!({"id": id, "process": 7, "node": "n3", "address": "127.0.0.1:9", "f": "read", "key": "a1",
                "value": null, "model": "list-append", "timeout_ms": 10_000, "nodes": {"n3": "127.0.0.1:9"}});
            assert_eq!((done.kind, done.value, done.node), (EventType::Ok, json!([question]), Some(3)));
        }
        assert_eq!(echo.program.ended(), None);
    }

    #[test]
    fn silence_is_unknown_and_a_driver_that_ends_is_told() {
        let mut silent = session("exec sleep 1000");
        silent.patience = Duration::from_millis(30);
        let write = Operation { key: "r1".to_owned(), action: Action::Write(5) };
        let done = silent.perform(1, &write, 0);
        assert_eq!((done.kind, done.error.as_deref()), (EventType::Info, Some("timeout")));
        assert_eq!(silent.perform(1, &read_of("r1"), 0).kind, EventType::Fail);

        let mut broken = session("read -r line; echo nonsense; sleep 1000");
        let done = broken.perform(1, &write, 0);
        assert_eq!((done.kind, done.error.as_deref()), (EventType::Info, Some("driver_ended")));
        let started = Instant::now();
        while broken.program.ended().is_none() {
            assert!(started.elapsed() < Duration::from_secs(10));
        }
        assert!(broken.program.ended().unwrap().contains("\"nonsense\" is no answer"));
        assert_eq!(broken.perform(1, &write, 0).error.as_deref(), Some("not_sent"));
        let error = Program::start(&["/nonexistent/driver".to_owned()], Path::new("")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/driver"), "{error}");
    }

    #[test]
    fn a_dropped_driver_leaves_no_process() {
        let silent = session("exec sleep 1000");
        let pid = silent.program.pid;
        drop(silent);
        assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap());
    }
}
