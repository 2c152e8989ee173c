//! The client library: one operation at a time, retried under the same (client, sequence) until a reply comes or its time is up.
//! What a reply means is in [`crate::protocol`]; what an operation does is in [`crate::kv`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a client may ask of the store. Keys and values are bytes; key + value are at most 1,024 bytes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read a key, linearizably.
    Get {
        /// Key.
        key: Vec<u8>,
    },
    /// Set a key.
    Set {
        /// Key.
        key: Vec<u8>,
        /// New value.
        value: Vec<u8>,
    },
    /// Set a key to `new` if it holds `expected` (`None`: if it is absent).
    Cas {
        /// Key.
        key: Vec<u8>,
        /// Value that must be there.
        expected: Option<Vec<u8>>,
        /// Value that replaces it.
        new: Vec<u8>,
    },
    /// Append bytes to a key's value (an absent key counts as empty).
    Append {
        /// Key.
        key: Vec<u8>,
        /// Bytes to append.
        value: Vec<u8>,
    },
    /// Remove a key.
    Delete {
        /// Key.
        key: Vec<u8>,
    },
}

/// What an applied operation returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `set`, `append`, `delete` and a `cas` that matched.
    Done,
    /// `get`: the value, `None` if the key is absent.
    Value(Option<Vec<u8>>),
    /// A `cas` that did not match, with what was there. The store did not change.
    Mismatch(Option<Vec<u8>>),
}

/// How an operation ended: the three cases that a caller must tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and applied (or, for a read, answered linearizably).
    Applied {
        /// The result.
        reply: Reply,
        /// Log index of the operation; for a read, the index it was served at.
        position: u64,
        /// The node that answered.
        node: u32,
    },
    /// Definitely not applied, now or ever.
    NotApplied {
        /// Error name from the protocol's table, such as `too_large`.
        error: &'static str,
        /// A sentence for people.
        message: String,
    },
    /// May have been applied, or may yet be.
    Unknown {
        /// Error name from the protocol's table, such as `timeout`.
        error: &'static str,
    },
}

/// Progress of one peer, as a leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub id: u32,
    /// Last entry known to be durable there.
    pub match_index: u64,
    /// Next entry to send.
    pub next_index: u64,
    /// `probe` or `replicate`.
    pub state: String,
    /// Milliseconds since it was last heard, `None` if never in this term.
    pub heard_ms_ago: Option<u64>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub id: u32,
    /// `follower`, `pre_candidate`, `candidate` or `leader`.
    pub role: String,
    /// Current term.
    pub term: u64,
    /// The leader it follows or is.
    pub leader: Option<u32>,
    /// Commit index.
    pub commit_index: u64,
    /// Last applied entry.
    pub last_applied: u64,
    /// First entry of the log.
    pub first_index: u64,
    /// Last entry of the log.
    pub last_index: u64,
    /// Last durable entry of the log.
    pub durable_index: u64,
    /// How often this directory was opened.
    pub incarnation: u64,
    /// Keys in the store.
    pub keys: u64,
    /// `node::BUILD_ID` of the running process.
    pub build_id: String,
    /// Datagrams that were dropped, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// Peers, if this node leads.
    pub peers: Vec<PeerStatus>,
}

/// A node's own applied value of a key: not linearizable, for checks of what each replica holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalValue {
    /// Last applied entry when it was read.
    pub last_applied: u64,
    /// The value, `None` if the key is absent.
    pub value: Option<Vec<u8>>,
}

/// How long a client waits, and for which cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Cluster name; nodes drop requests for another.
    pub cluster: String,
    /// How long to wait for one node before the same request goes to the next.
    pub attempt_timeout: Duration,
    /// How long one operation may take altogether.
    pub operation_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            cluster: "whitewater".to_owned(),
            attempt_timeout: Duration::from_millis(300),
            operation_timeout: Duration::from_secs(2),
        }
    }
}

/// A connection-less client with a socket of its own. One operation at a time.
#[derive(Debug)]
pub struct Client {
    _private: (),
}

impl Client {
    /// A client of the nodes at `addrs`, tried in this order.
    ///
    /// # Errors
    /// When no UDP socket can be bound.
    pub fn new(config: ClientConfig, addrs: Vec<SocketAddr>) -> io::Result<Client> {
        let _ = (config, addrs);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Executes one operation, first through `addrs[first]`. Returns within the operation timeout.
    pub fn execute(&mut self, operation: &Operation, first: usize) -> Outcome {
        let _ = (operation, first);
        Outcome::Unknown { error: "timeout" }
    }

    /// Asks the node at `addr` for its status; `None` if it does not answer within one attempt.
    pub fn status(&mut self, addr: SocketAddr) -> Option<Status> {
        let _ = addr;
        None
    }

    /// Asks the node at `addr` what it has applied for `key`; `None` if it does not answer within one attempt.
    pub fn local_get(&mut self, addr: SocketAddr, key: &[u8]) -> Option<LocalValue> {
        let _ = (addr, key);
        None
    }
}
