//! The trace of one node as the judge reads it: the serde types of `nodes/*/trace.jsonl`, and its reader.
//! The node has a vocabulary of its own with the same field names; the harness translates. What an event proves is the
//! business of `invariant/`.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deadline::Deadline;

/// The `format` of the header line.
pub const FORMAT: &str = "whitewater-trace";
/// The `version` that this crate understands. Another major version is refused.
pub const VERSION: &str = "1.0";

/// A node: its position in the peer list, counted from 1.
pub type NodeId = u32;
/// A term of the paper; 0 is before the first election.
pub type Term = u64;
/// A position in the Raft log, counted from 1; 0 is before the first entry.
pub type Index = u64;
/// The sequence number of a record in the write-ahead log.
pub type Lsn = u64;

/// The first line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// `major.minor`.
    pub version: String,
    /// Name of the node, `n1`.
    pub node: String,
}

impl Header {
    /// The header of a trace of `node` in the version of this crate.
    pub fn new(node: impl Into<String>) -> Header {
        Header { format: FORMAT.into(), version: VERSION.into(), node: node.into() }
    }
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Nanoseconds of the node's CLOCK_MONOTONIC. For people; no check orders two nodes by it.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A role as the trace names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Follows a leader or waits for one.
    Follower,
    /// Asks whether an election could succeed (thesis §9.6).
    PreCandidate,
    /// Stands for election in its term.
    Candidate,
    /// Leads its term.
    Leader,
}

/// Consecutive entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermRun {
    /// Index of the first.
    pub first_index: Index,
    /// Their term.
    pub term: Term,
}

/// What happened. A `chain` is a running hash over all entries up to an index: equal chains mean equal logs up to there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A process recovered its directory; everything recovered is durable.
    Boot {
        /// This node.
        node: NodeId,
        /// Which start of this directory, counted from 1.
        incarnation: u64,
        /// Recovered term.
        term: Term,
        /// Recovered vote.
        voted_for: Option<NodeId>,
        /// Last recovered entry.
        last_index: Index,
        /// Chain there, 0 if the log is empty.
        #[serde(serialize_with = "hex")]
        chain: u64,
        /// The recovered log as runs of terms, ascending.
        terms: Vec<TermRun>,
        /// Last record recovered.
        lsn: Lsn,
        /// The data directory; another one than before was made anew and owes nothing to it. 0 if not told.
        #[serde(serialize_with = "hex")]
        directory: u64,
        /// Committed and applied already, by a snapshot; 0 without one.
        snapshot_index: Index,
    },
    /// A snapshot of the leader's replaced the applied state, and the log up to `last_index`.
    Install {
        /// Record that carries it.
        lsn: Lsn,
        /// Last entry in it.
        last_index: Index,
        /// Its term.
        term: Term,
        /// Chain there.
        #[serde(serialize_with = "hex")]
        chain: u64,
        /// Whether the log had that entry already, so that what follows it stays.
        kept: bool,
    },
    /// Term or vote changed in memory.
    HardState {
        /// Record that carries it.
        lsn: Lsn,
        /// New term.
        term: Term,
        /// New vote.
        voted_for: Option<NodeId>,
    },
    /// Entries after `last_index` were discarded.
    Truncate {
        /// Record that carries it.
        lsn: Lsn,
        /// Last entry that stays.
        last_index: Index,
    },
    /// Entries `prev_index + 1 ..` of one term were appended in memory; the i-th has record `lsn + i`.
    Append {
        /// Record of the first.
        lsn: Lsn,
        /// Entry before the first.
        prev_index: Index,
        /// Term of all of them.
        term: Term,
        /// Chain at each of them.
        #[serde(serialize_with = "hex_list")]
        chains: Vec<u64>,
    },
    /// Every record up to `lsn` survives power loss.
    Durable {
        /// The last such record.
        lsn: Lsn,
    },
    /// A fault took from the disk what may have been durable, while no process used it. What the node finds at its next start is no
    /// breach of a promise; what it does then may be.
    Damage {},
    /// The role changed, or the term of the role.
    Role {
        /// New role.
        role: Role,
        /// In this term.
        term: Term,
    },
    /// A granted vote leaves.
    VoteSent {
        /// The candidate.
        to: NodeId,
        /// Term of the vote.
        term: Term,
    },
    /// An acknowledgement of everything up to `match_index` leaves.
    AppendAckSent {
        /// The leader.
        to: NodeId,
        /// Its term.
        term: Term,
        /// Last entry known to equal the leader's.
        match_index: Index,
    },
    /// The commit index advanced.
    Commit {
        /// The node's current term.
        term: Term,
        /// New commit index.
        commit_index: Index,
        /// Chain there.
        #[serde(serialize_with = "hex")]
        chain: u64,
    },
    /// Entries `first_index ..= last_index` were applied.
    Apply {
        /// First of the batch.
        first_index: Index,
        /// Last of the batch.
        last_index: Index,
        /// Chain over the entries that were applied, at `last_index`.
        #[serde(serialize_with = "hex")]
        chain: u64,
    },
    /// Hash of the whole applied state.
    State {
        /// Last applied entry.
        index: Index,
        /// The hash.
        #[serde(serialize_with = "hex")]
        hash: u64,
    },
    /// A planted bug's site was passed.
    Planted {
        /// Catalogue id.
        bug: String,
        /// How often it was passed.
        reached: u64,
        /// How often it changed what happened.
        infected: u64,
    },
}

/// 64-bit hashes are 16 hexadecimal digits: JSON numbers lose bits above 2^53 in most readers.
fn hex<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:016x}"))
}

fn hex_list<S: Serializer>(values: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|v| format!("{v:016x}")))
}

struct Hex(u64);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        u64::from_str_radix(&text.0, 16).map(Hex).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// All fields of all events. A tagged enum would make serde buffer each line; traces are the bulk of what is read.
#[derive(Deserialize)]
struct Flat<'a> {
    at: u64,
    #[serde(borrow)]
    event: Cow<'a, str>,
    node: Option<NodeId>,
    incarnation: Option<u64>,
    term: Option<Term>,
    voted_for: Option<NodeId>,
    last_index: Option<Index>,
    chain: Option<Hex>,
    terms: Option<Vec<TermRun>>,
    lsn: Option<Lsn>,
    prev_index: Option<Index>,
    chains: Option<Vec<Hex>>,
    role: Option<Role>,
    to: Option<NodeId>,
    match_index: Option<Index>,
    commit_index: Option<Index>,
    first_index: Option<Index>,
    index: Option<Index>,
    hash: Option<Hex>,
    bug: Option<String>,
    reached: Option<u64>,
    infected: Option<u64>,
    directory: Option<Hex>,
    snapshot_index: Option<Index>,
    kept: Option<bool>,
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = Flat::deserialize(deserializer)?;
        macro_rules! need {
            ($field:ident) => {
                flat.$field
                    .ok_or_else(|| <D::Error as serde::de::Error>::missing_field(stringify!($field)))?
            };
        }
        let event = match flat.event.as_ref() {
            "boot" => Event::Boot {
                node: need!(node),
                incarnation: need!(incarnation),
                term: need!(term),
                voted_for: flat.voted_for,
                last_index: need!(last_index),
                chain: need!(chain).0,
                terms: need!(terms),
                lsn: need!(lsn),
                directory: flat.directory.map_or(0, |directory| directory.0),
                snapshot_index: flat.snapshot_index.unwrap_or(0),
            },
            "install" => Event::Install {
                lsn: need!(lsn),
                last_index: need!(last_index),
                term: need!(term),
                chain: need!(chain).0,
                kept: need!(kept),
            },
            "hard_state" => {
                Event::HardState { lsn: need!(lsn), term: need!(term), voted_for: flat.voted_for }
            }
            "truncate" => Event::Truncate { lsn: need!(lsn), last_index: need!(last_index) },
            "append" => Event::Append {
                lsn: need!(lsn),
                prev_index: need!(prev_index),
                term: need!(term),
                chains: need!(chains).into_iter().map(|h| h.0).collect(),
            },
            "damage" => Event::Damage {},
            "durable" => Event::Durable { lsn: need!(lsn) },
            "role" => Event::Role { role: need!(role), term: need!(term) },
            "vote_sent" => Event::VoteSent { to: need!(to), term: need!(term) },
            "append_ack_sent" => {
                Event::AppendAckSent { to: need!(to), term: need!(term), match_index: need!(match_index) }
            }
            "commit" => {
                Event::Commit { term: need!(term), commit_index: need!(commit_index), chain: need!(chain).0 }
            }
            "apply" => Event::Apply {
                first_index: need!(first_index),
                last_index: need!(last_index),
                chain: need!(chain).0,
            },
            "state" => Event::State { index: need!(index), hash: need!(hash).0 },
            "planted" => {
                Event::Planted { bug: need!(bug), reached: need!(reached), infected: need!(infected) }
            }
            other => {
                return Err(serde::de::Error::custom(format!("there is no event {other:?} in a trace")));
            }
        };
        Ok(Line { at: flat.at, event })
    }
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file itself.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that is not what the format says.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// One node's trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Name of the node, from the header.
    pub node: String,
    /// Everything it did, in its own order.
    pub lines: Vec<Line>,
}

/// Lines between two looks at the clock.
const CLOCK_LINES: u64 = 1024;

/// Reads a trace, however long it takes.
///
/// # Errors
/// As of a trace that is damaged: no header, one of another major version, or a line in the middle that is none; or no file.
pub fn read(path: &Path) -> Result<Trace, TraceError> {
    read_within(path, Deadline::NEVER).map(|trace| trace.expect("a deadline that never comes"))
}

/// Reads a trace, as a whole or, if the deadline comes first, not at all: `None`. A last line without its newline is what SIGKILL leaves, and is left out if it does not parse.
///
/// # Errors
/// The file cannot be read, the header is missing or of another major version, or a line in the middle is malformed.
pub(crate) fn read_within(path: &Path, deadline: Deadline) -> Result<Option<Trace>, TraceError> {
    let io = |source| TraceError::Io { path: path.to_owned(), source };
    let bad = |line, reason| TraceError::Line { path: path.to_owned(), line, reason };
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let (mut bytes, mut number) = (Vec::new(), 0u64);
    let mut node = None;
    let mut lines = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(io)? == 0 {
            break;
        }
        if number.is_multiple_of(CLOCK_LINES) && deadline.passed() {
            return Ok(None);
        }
        number += 1;
        let torn = bytes.last() != Some(&b'\n');
        if node.is_none() {
            let header: Header = serde_json::from_slice(&bytes)
                .map_err(|e| bad(number, format!("not the header of a trace ({e})")))?;
            if header.format != FORMAT || header.version.split('.').next() != VERSION.split('.').next() {
                let (format, version) = (header.format, header.version);
                return Err(bad(
                    number,
                    format!("{format} {version}, this checker reads {FORMAT} {VERSION}"),
                ));
            }
            node = Some(header.node);
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(line) => lines.push(line),
            Err(_) if torn => break,
            Err(e) => return Err(bad(number, e.to_string())),
        }
    }
    match node {
        Some(node) => Ok(Some(Trace { node, lines })),
        None => Err(bad(1, "empty file, a trace begins with its header".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_event() -> Vec<Event> {
        vec![
            Event::Boot {
                node: 1,
                incarnation: 2,
                term: 3,
                voted_for: Some(4),
                last_index: 5,
                chain: u64::MAX,
                terms: vec![TermRun { first_index: 1, term: 3 }],
                lsn: 6,
                directory: u64::MAX,
                snapshot_index: 2,
            },
            Event::Install { lsn: 6, last_index: 5, term: 3, chain: 4, kept: true },
            Event::HardState { lsn: 7, term: 4, voted_for: None },
            Event::Truncate { lsn: 8, last_index: 2 },
            Event::Append { lsn: 9, prev_index: 2, term: 4, chains: vec![1, 0xdead_beef_0000_0001] },
            Event::Durable { lsn: 10 },
            Event::Damage {},
            Event::Role { role: Role::PreCandidate, term: 4 },
            Event::VoteSent { to: 2, term: 4 },
            Event::AppendAckSent { to: 2, term: 4, match_index: 4 },
            Event::Commit { term: 4, commit_index: 4, chain: 7 },
            Event::Apply { first_index: 3, last_index: 4, chain: 8 },
            Event::State { index: 64, hash: 9 },
            Event::Planted { bug: "A03".into(), reached: 2, infected: 1 },
        ]
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn text(events: Vec<Event>) -> (Vec<Line>, String) {
        let lines: Vec<Line> =
            events.into_iter().enumerate().map(|(i, event)| Line { at: i as u64, event }).collect();
        let mut out = serde_json::to_string(&Header::new("n1")).unwrap() + "\n";
        for line in &lines {
            out += &(serde_json::to_string(line).unwrap() + "\n");
        }
        (lines, out)
    }

    #[test]
    fn every_event_comes_back_as_it_was_written() {
        let (lines, text) = text(every_event());
        let (_dir, path) = file(&text);
        assert_eq!(read(&path).unwrap(), Trace { node: "n1".into(), lines });
        assert!(text.contains(r#""chains":["0000000000000001","deadbeef00000001"]"#), "{text}");
    }

    #[test]
    fn only_a_torn_last_line_is_forgiven() {
        let (lines, text) = text(every_event());
        let (_dir, path) = file(&text[..text.len() - 10]);
        assert_eq!(read(&path).unwrap().lines, lines[..lines.len() - 1]);

        let broken = text.replacen(r#""event":"truncate""#, r#""event":"trunc""#, 1);
        let (_dir, path) = file(&broken);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("trace.jsonl:5: there is no event \"trunc\""), "{error}");

        let (_dir, path) = file(&text.replacen(r#""lsn":10"#, r#""x":10"#, 1));
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("trace.jsonl:7: missing field `lsn`"), "{error}");
    }

    #[test]
    fn another_major_version_is_refused() {
        let (_, text) = text(Vec::new());
        let (_dir, path) = file(&text.replace("1.0", "2.0"));
        assert!(read(&path).unwrap_err().to_string().contains("whitewater-trace 2.0"));
        let (_dir, path) = file(&text.replace("1.0", "1.7"));
        assert!(read(&path).unwrap().lines.is_empty());
        let (_dir, path) = file("");
        assert!(read(&path).unwrap_err().to_string().contains("empty file"));
    }
}
