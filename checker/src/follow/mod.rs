//! Judges a history while it grows, line by line, and says at once what is wrong: `checker follow`. Registers whose values are each
//! written once are judged in memory that is in proportion to open operations and live values; keys of other models, or with
//! repeated values, are only counted, and left to `check`.
//!
//! A history is written in nearly the order of its times. Lines wait until those that are [`SLACK`] later have come.

mod register;
mod waiting;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use crate::Verdict;
use crate::hash::FastMap;
use crate::history::{
    Action, ClientEvent, Event, EventType, Header, HistoryError, Process, Value, scan, shaped,
};
use crate::model::ModelKind;
use register::{Found, Register};
use waiting::Waiting;

/// How much later a line may be written than one of a later time: nanoseconds of the history's clock.
pub const SLACK: u64 = 100_000_000;
/// Violations that are kept; more are only counted.
const KEPT: usize = 1000;

/// What was wrong, and when it became so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Object.
    pub key: String,
    /// Field-standard class; `check` may find a more telling one, as it sees what came later.
    pub class: &'static str,
    /// In a sentence.
    pub reason: String,
    /// Of the completion that showed it.
    pub time: u64,
    /// Index of that operation's invoke.
    pub index: u64,
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Operations that began.
    pub operations: u64,
    /// Reads and compare-and-sets that told something.
    pub observed: u64,
    /// In the order of their times, up to a bound.
    pub violations: Vec<Violation>,
    /// Keys that were left to `check`, with the reason.
    pub left: BTreeMap<String, String>,
    /// Whether the last line was torn.
    pub torn: bool,
}

impl Followed {
    /// Invalid if anything was wrong; unknown if nothing was seen, or a key was left.
    pub fn verdict(&self) -> Verdict {
        match self {
            Followed { violations, .. } if !violations.is_empty() => Verdict::Invalid,
            Followed { left, observed, torn, .. } if !left.is_empty() || *observed == 0 || *torn => {
                Verdict::Unknown
            }
            _ => Verdict::Valid,
        }
    }
}

/// What an operation was invoked with.
struct Invoked {
    index: u64,
    key: usize,
    call: u64,
    action: Action,
}

/// An event that waits for its turn.
struct Turn {
    kind: EventType,
    /// Of an `ok` with its result.
    operation: Invoked,
}

enum Judge {
    Register(Box<Register>),
    /// Not judged here.
    Left,
}

/// A history that is followed.
pub struct Follower {
    path: std::path::PathBuf,
    models: Vec<(String, ModelKind)>,
    keys: Vec<(String, ModelKind, Judge)>,
    key_of: FastMap<String, usize>,
    /// By process: what it has open.
    invoked: FastMap<u64, Invoked>,
    waiting: Waiting<Turn>,
    latest: u64,
    followed: Followed,
}

impl Follower {
    /// Of a history with this first line.
    ///
    /// # Errors
    /// It is not the header of a history, or names a model that there is not.
    pub fn new(path: &Path, header: &[u8]) -> Result<Follower, HistoryError> {
        let bad = |reason: String| HistoryError::Line { path: path.to_owned(), line: 1, reason };
        let header: Header = serde_json::from_slice(header).map_err(|e| {
            bad(format!("not the header of a history ({e}); only our own format can be followed"))
        })?;
        let mut models = Vec::new();
        for (prefix, name) in header.models {
            let model =
                ModelKind::from_name(&name).ok_or_else(|| bad(format!("there is no model {name:?}")))?;
            models.push((prefix, model));
        }
        models.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        Ok(Follower {
            path: path.to_owned(),
            models,
            keys: Vec::new(),
            key_of: FastMap::default(),
            invoked: FastMap::default(),
            waiting: Waiting::new(),
            latest: 0,
            followed: Followed::default(),
        })
    }

    /// Takes line `number`, with its newline.
    ///
    /// # Errors
    /// The line is malformed, or contradicts an earlier one.
    pub fn line(&mut self, number: u64, line: &[u8]) -> Result<(), HistoryError> {
        if let Some((event, _)) = scan::event(line) {
            return self.client(number, &event);
        }
        let event: Event = serde_json::from_slice(line).map_err(|e| self.bad(number, e.to_string()))?;
        let Process::Client(process) = event.process else { return Ok(()) };
        let value = |json| Value::from_json(json).ok_or(json);
        self.client(
            number,
            &ClientEvent {
                index: event.index,
                time: event.time,
                process,
                kind: event.kind,
                f: &event.f,
                key: event.key.as_deref(),
                value: value(&event.value),
                error: event.error.as_deref(),
                actual: event.actual.as_ref().map(value),
                node: None,
                position: None,
            },
        )
    }

    /// Judges what waits and is not after `time`, because nothing that is comes any more.
    pub fn until(&mut self, time: u64) {
        while let Some(((time, _, _), turn)) = self.waiting.pop_until(time) {
            self.turn(time, turn);
        }
    }

    /// What was seen, once nothing waits any more.
    pub fn finish(mut self, torn: bool) -> Followed {
        self.until(u64::MAX);
        self.followed.torn = torn;
        self.followed
    }

    /// What was seen so far.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    fn bad(&self, line: u64, reason: impl Into<String>) -> HistoryError {
        HistoryError::Line { path: self.path.clone(), line, reason: reason.into() }
    }

    fn client(&mut self, number: u64, event: &ClientEvent<'_>) -> Result<(), HistoryError> {
        let operation = if event.kind == EventType::Invoke {
            let name = event.key.ok_or_else(|| self.bad(number, format!("{} without a key", event.f)))?;
            let key = self.key(number, name)?;
            let action = shaped(self.keys[key].1, event, None).map_err(|reason| self.bad(number, reason))?;
            let (index, call) = (event.index, event.time);
            let invoked = Invoked { index, key, call, action: action.clone() };
            if self.invoked.insert(event.process, invoked).is_some() {
                let reason = format!("process {} invokes while its operation is open", event.process);
                return Err(self.bad(number, reason));
            }
            Invoked { index, key, call, action }
        } else {
            let Some(invoked) = self.invoked.remove(&event.process) else {
                let reason =
                    format!("process {} completes an operation that it did not invoke", event.process);
                return Err(self.bad(number, reason));
            };
            if event.time < invoked.call {
                let reason =
                    format!("completes at {} ns, before its invoke at {} ns", event.time, invoked.call);
                return Err(self.bad(number, reason));
            }
            let action = shaped(self.keys[invoked.key].1, event, Some(&invoked.action))
                .map_err(|reason| self.bad(number, reason))?;
            Invoked { action, ..invoked }
        };
        let refused = matches!(operation.action, Action::CasMismatch(..));
        let kind = if refused { EventType::Ok } else { event.kind };
        let rank = (event.time, event.kind != EventType::Invoke, event.index);
        self.waiting.push(rank, Turn { kind, operation });
        self.latest = self.latest.max(event.time);
        self.until(self.latest.saturating_sub(SLACK));
        Ok(())
    }

    fn key(&mut self, number: u64, name: &str) -> Result<usize, HistoryError> {
        if let Some(key) = self.key_of.get(name) {
            return Ok(*key);
        }
        let model = self.models.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, model)| *model);
        let model =
            model.ok_or_else(|| self.bad(number, format!("key {name:?} has no model in the header")))?;
        let judge = match model {
            ModelKind::CasRegister | ModelKind::RegisterFrom(_) => {
                Judge::Register(Box::new(Register::new(model.initial())))
            }
            _ => {
                self.followed.left.insert(name.to_owned(), format!("a {} is not followed", model.name()));
                Judge::Left
            }
        };
        self.keys.push((name.to_owned(), model, judge));
        self.key_of.insert(name.to_owned(), self.keys.len() - 1);
        Ok(self.keys.len() - 1)
    }

    fn turn(&mut self, time: u64, Turn { kind, operation }: Turn) {
        self.followed.operations += u64::from(kind == EventType::Invoke);
        let Invoked { index, key, call, action } = operation;
        let (name, _, judge) = &mut self.keys[key];
        let Judge::Register(register) = judge else { return };
        // One later: the initial value is there before the first operation.
        let (call, now) = (call.saturating_add(1), time.saturating_add(1));
        let result: Result<(), Found> = match kind {
            EventType::Invoke => {
                if register.invoke(&action, call).is_err() {
                    let reason = format!("{} is written again while it is there", action.argument());
                    self.followed.left.insert(name.clone(), reason);
                    *judge = Judge::Left;
                }
                return;
            }
            EventType::Ok => {
                self.followed.observed += u64::from(action.observes().is_some());
                register.ok(&action, call, now)
            }
            EventType::Fail => register.fail(&action, call, now),
            EventType::Info => {
                register.info(call, now);
                Ok(())
            }
        };
        if let Err((class, reason)) = result
            && self.followed.violations.len() < KEPT
        {
            self.followed.violations.push(Violation { key: name.clone(), class, reason, time, index });
        }
    }
}

/// Follows a source to its end, and calls `tell` for each violation as it is found; stops early if that says so.
///
/// # Errors
/// The source cannot be read, or is not a history of ours.
pub fn follow(
    path: &Path,
    source: &mut dyn BufRead,
    mut tell: impl FnMut(&Violation) -> bool,
) -> Result<Followed, HistoryError> {
    let io = |source| HistoryError::Io { path: path.to_owned(), source };
    let mut line = Vec::new();
    source.read_until(b'\n', &mut line).map_err(io)?;
    let mut follower = Follower::new(path, &line)?;
    let mut told = 0;
    for number in 2.. {
        // Most lines are common and whole in the buffer: no copy, no allocation.
        let buffer = source.fill_buf().map_err(io)?;
        if let Some((event, length)) = scan::event(buffer)
            && buffer[length - 1] == b'\n'
        {
            follower.client(number, &event)?;
            source.consume(length);
        } else {
            line.clear();
            if source.read_until(b'\n', &mut line).map_err(io)? == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && serde_json::from_slice::<serde_json::Value>(&line).is_err() {
                return Ok(follower.finish(true));
            }
            follower.line(number, &line)?;
        }
        while told < follower.followed().violations.len() {
            told += 1;
            if tell(&follower.followed().violations[told - 1]) {
                return Ok(follower.followed().clone());
            }
        }
    }
    let followed = follower.finish(false);
    for violation in &followed.violations[told..] {
        tell(violation);
    }
    Ok(followed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"x","models":{"":"cas-register"},"clock":"monotonic-ns","nodes":[]}"#;

    /// A line of time, process, type, function and value.
    fn line((time, process, kind, f, value): (u64, u64, &str, &str, &str)) -> String {
        format!(
            r#"{{"index":0,"time":{time},"process":{process},"type":"{kind}","f":"{f}","key":"k","value":{value}}}"#
        ) + "\n"
    }

    fn text(lines: &[(u64, u64, &str, &str, &str)]) -> String {
        HEADER.to_owned() + "\n" + &lines.iter().copied().map(line).collect::<String>()
    }

    fn followed(text: &str) -> Result<Followed, HistoryError> {
        follow(Path::new("h"), &mut text.as_bytes(), |_| false)
    }

    #[test]
    fn a_verdict_needs_something_seen_and_nothing_left() {
        let seen = Followed { observed: 1, ..Followed::default() };
        assert_eq!(seen.verdict(), Verdict::Valid);
        let left = BTreeMap::from([("k".to_owned(), String::new())]);
        for unknown in [
            Followed::default(),
            Followed { torn: true, ..seen.clone() },
            Followed { left: left.clone(), ..seen.clone() },
        ] {
            assert_eq!(unknown.verdict(), Verdict::Unknown, "{unknown:?}");
        }
        let violation = Violation { key: "k".into(), class: "x", reason: String::new(), time: 1, index: 1 };
        assert_eq!(Followed { violations: vec![violation], left, ..seen }.verdict(), Verdict::Invalid);
    }

    #[test]
    fn equal_times_are_concurrent_and_a_completion_is_not_before_its_invoke() {
        let read_at = |time| {
            [(1, 0, "invoke", "read", "null"), (5, 0, "ok", "read", "1"), (time, 1, "invoke", "write", "1")]
        };
        let beside = followed(&text(&read_at(5))).unwrap();
        assert_eq!((beside.operations, beside.observed, beside.violations.len()), (2, 1, 0));
        let later = followed(&text(&read_at(6))).unwrap();
        assert_eq!(later.violations[0].class, "stale read");
        let ends = |time| followed(&text(&[(5, 0, "invoke", "write", "1"), (time, 0, "ok", "write", "1")]));
        assert!(ends(5).is_ok());
        assert!(ends(4).unwrap_err().to_string().contains("before its invoke"));
    }

    #[test]
    fn what_was_seen_so_far_is_told_line_by_line() {
        let mut follower = Follower::new(Path::new("h"), HEADER.as_bytes()).unwrap();
        follower.line(2, line((1, 0, "invoke", "read", "null")).as_bytes()).unwrap();
        follower.line(3, line((2, 0, "ok", "read", "7")).as_bytes()).unwrap();
        follower.until(3);
        assert_eq!((follower.followed().operations, follower.followed().violations.len()), (1, 1));
    }

    #[test]
    fn each_violation_is_told_once_and_a_bound_of_them_is_kept() {
        let slack = SLACK;
        let reads = |count: u64| -> String {
            let read = |n: u64| {
                let at = 3 * n * slack;
                line((at, 0, "invoke", "read", "null")) + &line((at + 1, 0, "ok", "read", "7"))
            };
            HEADER.to_owned() + "\n" + &(0..count).map(read).collect::<String>()
        };
        let mut times = Vec::new();
        let all = follow(Path::new("h"), &mut reads(4).as_bytes(), |violation| {
            times.push(violation.time);
            false
        });
        assert_eq!((times.len(), all.unwrap().violations.len()), (4, 4));
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        let first = follow(Path::new("h"), &mut reads(4).as_bytes(), |_| true).unwrap();
        assert_eq!(first.violations.len(), 1, "stops when it is told to");
        assert_eq!(followed(&reads(KEPT as u64 + 1)).unwrap().violations.len(), KEPT);
    }

    #[test]
    fn only_the_last_line_may_be_torn() {
        let whole = text(&[(1, 0, "invoke", "read", "null"), (2, 0, "ok", "read", "null")]);
        let torn = |text: &str| followed(text).map(|followed| (followed.torn, followed.observed));
        assert_eq!(torn(&whole).unwrap(), (false, 1));
        assert_eq!(torn(whole.trim_end()).unwrap(), (false, 1), "whole, but for its newline");
        assert_eq!(torn(&(whole.clone() + "{\"index\":5,\"ti")).unwrap(), (true, 1));
        assert!(torn(&(whole + "{\"index\":5,\"ti\n")).is_err());
    }
}
