//! From the node's trace to the checker's: the one place that knows both vocabularies.
//! An event that either side gains does not compile here until it has a counterpart.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use checker::trace::{Event, Header, Line, Role, TermRun};
use node::trace::{TraceEvent, TraceLine, TraceRole};

use crate::NodeId;
use crate::run_dir::{RunDir, node_name};

/// Why a trace could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that SIGKILL cannot explain.
    #[error("{}:{line}: not a line of a node's trace ({reason})", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// An election that a node says it won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Election {
    /// Nanoseconds of CLOCK_MONOTONIC, as the node stamped it.
    pub at: u64,
    /// The new leader.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// A fault that took from the disk of a node what may have been durable, while it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The node.
    pub node: NodeId,
    /// Bytes of whole lines that its own trace had. By time it would not be found there: a node with a bent clock stamps its lines
    /// with another one.
    pub after: u64,
}

impl Damage {
    /// Of a node that is killed.
    ///
    /// # Errors
    /// Its trace cannot be read.
    pub fn now(dir: &RunDir, node: NodeId) -> io::Result<Damage> {
        let trace = match std::fs::read(dir.node_trace(node)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let whole = trace.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Ok(Damage { node, after: whole as u64 })
    }
}

/// Translates the traces of all nodes of a run, with what was done to their disks, and lists the elections that they tell of, by node.
///
/// # Errors
/// A trace is malformed before its end, or a file cannot be read or written.
pub fn translate_all(dir: &RunDir, nodes: u32, damages: &[Damage]) -> Result<Vec<Election>, TranslateError> {
    let mut elections = Vec::new();
    for id in 1..=nodes {
        let from = dir.node_trace(id);
        if from.exists() {
            let damages = damages.iter().filter(|damage| damage.node == id).map(|damage| damage.after);
            translate(&from, &dir.trace(id), id, damages.collect(), &mut elections)?;
        }
    }
    Ok(elections)
}

fn translate(
    from: &Path,
    to: &Path,
    id: NodeId,
    mut damages: VecDeque<u64>,
    elections: &mut Vec<Election>,
) -> Result<(), TranslateError> {
    let reading = |source| TranslateError::Io { path: from.to_owned(), source };
    let writing = |source| TranslateError::Io { path: to.to_owned(), source };
    let mut input = BufReader::with_capacity(1 << 16, File::open(from).map_err(reading)?);
    let mut output = BufWriter::with_capacity(1 << 16, File::create(to).map_err(writing)?);
    let mut put = |value: String| output.write_all((value + "\n").as_bytes()).map_err(writing);
    put(serde_json::to_string(&Header::new(node_name(id))).map_err(|e| writing(e.into()))?)?;
    let mut bytes = Vec::new();
    let (mut number, mut begins, mut before) = (0, 0, 0);
    loop {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes).map_err(reading)? == 0 {
            break;
        }
        number += 1;
        let line: TraceLine = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            // SIGKILL cut the last write short.
            Err(_) if bytes.last() != Some(&b'\n') => break,
            Err(e) => {
                return Err(TranslateError::Malformed {
                    path: from.to_owned(),
                    line: number,
                    reason: e.to_string(),
                });
            }
        };
        while damages.pop_front_if(|after| *after <= begins).is_some() {
            let damage = Line { at: before, event: Event::Damage {} };
            put(serde_json::to_string(&damage).map_err(|e| writing(e.into()))?)?;
        }
        begins += bytes.len() as u64;
        before = line.at;
        if let TraceEvent::Role { role: TraceRole::Leader, term } = line.event {
            elections.push(Election { at: line.at, node: id, term });
        }
        let line = Line { at: line.at, event: event(line.event) };
        put(serde_json::to_string(&line).map_err(|e| writing(e.into()))?)?;
    }
    output.flush().map_err(writing)
}

/// One event in the checker's words.
fn event(event: TraceEvent) -> Event {
    match event {
        TraceEvent::Boot {
            node,
            incarnation,
            term,
            voted_for,
            last_index,
            chain,
            terms,
            lsn,
            directory,
            snapshot_index,
        } => {
            let terms =
                terms.into_iter().map(|r| TermRun { first_index: r.first_index, term: r.term }).collect();
            Event::Boot {
                node,
                incarnation,
                term,
                voted_for,
                last_index,
                chain,
                terms,
                lsn,
                directory,
                snapshot_index,
            }
        }
        TraceEvent::Install { lsn, last_index, term, chain, kept } => {
            Event::Install { lsn, last_index, term, chain, kept }
        }
        TraceEvent::HardState { lsn, term, voted_for } => Event::HardState { lsn, term, voted_for },
        TraceEvent::Truncate { lsn, last_index } => Event::Truncate { lsn, last_index },
        TraceEvent::Append { lsn, prev_index, term, chains } => {
            Event::Append { lsn, prev_index, term, chains }
        }
        TraceEvent::Durable { lsn } => Event::Durable { lsn },
        TraceEvent::Role { role, term } => Event::Role { role: self::role(role), term },
        TraceEvent::VoteSent { to, term } => Event::VoteSent { to, term },
        TraceEvent::AppendAckSent { to, term, match_index } => Event::AppendAckSent { to, term, match_index },
        TraceEvent::Commit { term, commit_index, chain } => Event::Commit { term, commit_index, chain },
        TraceEvent::Apply { first_index, last_index, chain } => {
            Event::Apply { first_index, last_index, chain }
        }
        TraceEvent::State { index, hash } => Event::State { index, hash },
        TraceEvent::Planted { bug, reached, infected } => Event::Planted { bug, reached, infected },
    }
}

fn role(role: TraceRole) -> Role {
    match role {
        TraceRole::Follower => Role::Follower,
        TraceRole::PreCandidate => Role::PreCandidate,
        TraceRole::Candidate => Role::Candidate,
        TraceRole::Leader => Role::Leader,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_event() -> Vec<TraceEvent> {
        vec![
            TraceEvent::Boot {
                node: 2,
                incarnation: 3,
                term: 4,
                voted_for: Some(1),
                last_index: 7,
                chain: u64::MAX - 1,
                terms: vec![node::trace::TermRun { first_index: 1, term: 4 }],
                lsn: 9,
                directory: 5,
                snapshot_index: 2,
            },
            TraceEvent::Install { lsn: 9, last_index: 7, term: 4, chain: 12, kept: false },
            TraceEvent::HardState { lsn: 10, term: 5, voted_for: None },
            TraceEvent::Truncate { lsn: 11, last_index: 6 },
            TraceEvent::Append { lsn: 12, prev_index: 6, term: 5, chains: vec![1, 2] },
            TraceEvent::Durable { lsn: 13 },
            TraceEvent::Role { role: TraceRole::Follower, term: 5 },
            TraceEvent::Role { role: TraceRole::PreCandidate, term: 5 },
            TraceEvent::Role { role: TraceRole::Candidate, term: 6 },
            TraceEvent::Role { role: TraceRole::Leader, term: 6 },
            TraceEvent::VoteSent { to: 3, term: 6 },
            TraceEvent::AppendAckSent { to: 3, term: 6, match_index: 8 },
            TraceEvent::Commit { term: 6, commit_index: 8, chain: 77 },
            TraceEvent::Apply { first_index: 7, last_index: 8, chain: 78 },
            TraceEvent::State { index: 64, hash: 79 },
            TraceEvent::Planted { bug: "A03".to_owned(), reached: 4, infected: 2 },
        ]
    }

    fn raw(events: Vec<TraceEvent>) -> String {
        let lines =
            events.into_iter().enumerate().map(|(i, event)| TraceLine { at: i as u64, shown: None, event });
        lines.map(|l| serde_json::to_string(&l).unwrap() + "\n").collect()
    }

    fn check(text: &str) -> Result<(String, Vec<Election>), TranslateError> {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("raw.jsonl"), dir.path().join("trace.jsonl"));
        std::fs::write(&from, text).unwrap();
        let mut elections = Vec::new();
        translate(&from, &to, 2, VecDeque::new(), &mut elections)?;
        checker::trace::read(&to).expect("the checker reads what is written for it");
        Ok((std::fs::read_to_string(&to).unwrap(), elections))
    }

    #[test]
    fn every_event_keeps_its_name_and_all_its_fields() {
        let raw = raw(every_event());
        let (text, elections) = check(&raw).unwrap();
        let (header, events) = text.split_once('\n').unwrap();
        assert_eq!(header, r#"{"format":"whitewater-trace","version":"1.0","node":"n2"}"#);
        assert_eq!(events, raw, "both vocabularies are the same words");
        assert_eq!(elections, [Election { at: 9, node: 2, term: 6 }]);
    }

    /// Also where the clock of the node was bent, and where its end tore the last line, of which its next start makes nothing.
    #[test]
    fn a_damage_stands_between_what_was_before_and_what_came_after() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        let from = run_dir.node_trace(2);
        std::fs::create_dir_all(from.parent().unwrap()).unwrap();
        assert_eq!(Damage::now(&run_dir, 2).unwrap(), Damage { node: 2, after: 0 }, "it never ran");
        let line = |at, lsn| {
            serde_json::to_string(&TraceLine { at, shown: None, event: TraceEvent::Durable { lsn } }).unwrap()
                + "\n"
        };
        let (ahead, behind) = (line(9_000, 1) + &line(9_001, 2), line(7, 3));
        std::fs::write(&from, format!("{ahead}{{\"at\":9002,")).unwrap();
        let damage = Damage::now(&run_dir, 2).unwrap();
        assert_eq!(damage.after, ahead.len() as u64);
        let late = Damage { after: (ahead.len() + behind.len()) as u64, ..damage };
        std::fs::write(&from, ahead + &behind).unwrap();
        let other = Damage { node: 1, after: 0 };
        translate_all(&run_dir, 2, &[other, damage, late]).unwrap();
        let read = checker::trace::read(&run_dir.trace(2)).unwrap();
        let damaged: Vec<bool> = read.lines.iter().map(|line| line.event == Event::Damage {}).collect();
        assert_eq!(damaged, [false, false, true, false], "the last one was seen by nobody");
    }

    #[test]
    fn a_torn_end_is_dropped_and_a_malformed_middle_is_named() {
        let raw = raw(every_event());
        let (whole, _) = check(&raw).unwrap();
        let (cut, _) = check(&raw[..raw.len() - 5]).unwrap();
        assert_eq!(cut.lines().count(), whole.lines().count() - 1);
        let error = check(&raw.replacen("truncate", "truncated", 1)).unwrap_err().to_string();
        assert!(error.contains("raw.jsonl:4: not a line"), "{error}");
    }
}
