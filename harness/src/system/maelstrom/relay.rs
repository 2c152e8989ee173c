//! The process that a node of Maelstrom runs behind: starts the program, tells it who it is, and carries its messages as datagrams to
//! and from the addresses of nodes and clients. It ends when the program does, with its exit code.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::letter::{self, Letter, Mailbox};
use crate::NodeId;
use crate::run_dir::node_name;

/// The client in whose name the first message comes.
const FIRST_CLIENT: &str = "c0";
/// What is asked of the relay itself.
pub(super) const IS_READY: &str = "is_ready";
/// Messages that wait for a program that does not read: what comes on top is lost, as in a network.
const QUEUE_MAX: usize = 4_096;
/// Clients whose addresses are known at a time; each process of a history is one.
const CLIENTS_MAX: usize = 100_000;

/// Who a relay serves.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The node.
    pub node: NodeId,
    /// Where this node listens, and what it takes for the addresses of the others, in the order of ids from 1.
    pub addresses: Vec<SocketAddr>,
    /// The program.
    pub program: PathBuf,
    /// Its words.
    pub words: Vec<String>,
}

/// What the threads share.
struct Shared {
    relay: Relay,
    socket: UdpSocket,
    /// Where clients are, by name.
    clients: Mutex<BTreeMap<String, SocketAddr>>,
    /// The program has answered the first message.
    ready: AtomicBool,
    /// Number of the next letter: higher than those of a former process at this address.
    next: AtomicU64,
}

impl Relay {
    /// Serves until the program ends, and this process with it, with its exit code, or 128 more than the signal that ended it.
    ///
    /// # Errors
    /// The address is taken, or the program cannot be started.
    pub fn run(self) -> io::Result<Infallible> {
        let own = self.addresses.get(self.node as usize - 1).copied().ok_or(io::ErrorKind::InvalidInput)?;
        let socket = UdpSocket::bind(own)?;
        let mut command = Command::new(&self.program);
        command.args(&self.words).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: between fork and exec one system call is made, which is async-signal-safe and allocates nothing.
        unsafe {
            // This thread is the process' first, which lives as long as the process.
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
        }
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (mut stdin, stdout) =
            stdin.zip(stdout).ok_or_else(|| io::Error::other("the program has no pipes"))?;
        let first = self.first_message();
        let (clients, ready) = (Mutex::default(), AtomicBool::new(false));
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64);
        let shared = Arc::new(Shared { relay: self, socket, clients, ready, next: AtomicU64::new(now) });
        let (lines, queue) = sync_channel::<Vec<u8>>(QUEUE_MAX);
        std::thread::spawn(move || {
            for mut line in queue {
                line.push(b'\n');
                // The program closed its stdin, and ends soon.
                if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        // The queue is empty: there is room.
        let _ = lines.try_send(first.to_string().into_bytes());
        let (out, to_itself) = (shared.clone(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                if let Some(line) = out.send(line) {
                    let _ = to_itself.try_send(line);
                }
            }
            let code =
                child.wait().map_or(1, |status| status.code().unwrap_or(128 + status.signal().unwrap_or(0)));
            std::process::exit(code);
        });
        let (mut buffer, mut mailbox) = (vec![0; 1 << 16], Mailbox::default());
        loop {
            let Ok((length, source)) = shared.socket.recv_from(&mut buffer) else { continue };
            let letter = mailbox.take(source, &buffer[..length]);
            if let Some(line) = letter.and_then(|letter| shared.receive(letter, source)) {
                // Lost if the program does not read.
                let _ = lines.try_send(line);
            }
        }
    }

    /// The message that tells a program who it is.
    fn first_message(&self) -> Value {
        let ids: Vec<String> = (1..).map(node_name).take(self.addresses.len()).collect();
        let node = node_name(self.node);
        let body = json!({"type": "init", "msg_id": 1, "node_id": node, "node_ids": ids});
        json!({"src": FIRST_CLIENT, "dest": node, "body": body})
    }
}

impl Shared {
    /// The line for the program that came as a message.
    fn receive(&self, letter: Letter, source: SocketAddr) -> Option<Vec<u8>> {
        let parsed: Value = serde_json::from_slice(&letter.message).ok()?;
        if parsed["relay"] == IS_READY {
            let answer = json!({"relay": self.ready.load(Ordering::Relaxed)}).to_string();
            self.post(&Letter { client: None, message: answer.into_bytes() }, source);
            return None;
        }
        let from = parsed["src"].as_str()?;
        if from.starts_with('c') {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if clients.len() >= CLIENTS_MAX {
                clients.clear();
            }
            // What a node passes on for a client is answered to that client, not to the node.
            clients.insert(from.to_owned(), letter.client.unwrap_or(source));
        }
        Some(letter.message)
    }

    /// Where a client is.
    fn client(&self, name: &str) -> Option<SocketAddr> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Sends a letter. What the kernel refuses is lost, as in a network.
    fn post(&self, letter: &Letter, to: SocketAddr) {
        let Some(datagrams) = letter.seal(self.next.fetch_add(1, Ordering::Relaxed)) else {
            let bytes = letter.message.len();
            eprintln!("relay: a message of {bytes} bytes is longer than {}", letter::BYTES_MAX);
            return;
        };
        for (place, datagram) in datagrams.iter().enumerate() {
            if place > 0 && place % letter::PARTS_AT_ONCE == 0 {
                std::thread::sleep(letter::REST);
            }
            let _ = self.socket.send_to(datagram, to);
        }
    }

    /// Sends a line of the program to where it is for; what is for the program itself comes back.
    fn send(&self, line: Vec<u8>) -> Option<Vec<u8>> {
        let parsed: Option<Value> = serde_json::from_slice(&line).ok();
        let to = parsed.as_ref().and_then(|message| message["dest"].as_str());
        let Some(to) = to else {
            // Seen in the stderr of the node.
            eprintln!("relay: no message of Maelstrom: {}", String::from_utf8_lossy(&line));
            return None;
        };
        if to == FIRST_CLIENT {
            self.ready.store(true, Ordering::Relaxed);
            return None;
        }
        let node = to.strip_prefix('n').and_then(|id| id.parse::<usize>().ok());
        if node == Some(self.relay.node as usize) {
            return Some(line);
        }
        let address = match node {
            Some(node) => node.checked_sub(1).and_then(|rank| self.relay.addresses.get(rank).copied()),
            None => self.client(to),
        };
        let Some(address) = address else {
            eprintln!("relay: there is no {to}; of Maelstrom's services there are none here");
            return None;
        };
        let from = parsed.as_ref().and_then(|message| message["src"].as_str());
        let client = from.and_then(|from| self.client(from));
        self.post(&Letter { client, message: line }, address);
        None
    }
}
