//! Damage beyond what the system survives, done to it on purpose: more nodes at once had lost what they had flushed than it serves without.
//! What is broken after that was to be expected and says nothing of the system; what the damage cannot explain still does.
//!
//! That is a violation in what had been seen before it, a node that ended by itself before it, and a promise that a node which was
//! never damaged broke all by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::deadline::Deadline;
use crate::history::{Action, Clock, History, Micro, Nemesis, Operation, Outcome};
use crate::invariant::{self, Breach};
use crate::report::Report;
use crate::trace::Trace;
use crate::verdict::Verdict;

/// Properties of one node alone: no other node, whatever it lost, makes it break them.
const OF_ONE_NODE: [&str; 3] = ["leader_append_only", "one_vote_per_term", "sent_implies_durable"];

/// When it began, and who was damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// When the first damage was done that was too much. Nothing can have felt it before: the node was dead.
    since: u64,
    /// That one, in words.
    told: String,
    /// All nodes that ever lost something, and so may break any promise.
    damaged: BTreeSet<String>,
}

impl Beyond {
    /// Whether that happened in this history.
    pub fn of(history: &History) -> Option<Beyond> {
        let beyond = |line: &Nemesis| names(&line.value["evidence"]["beyond"]);
        let first = history.nemesis.iter().find(|line| !beyond(line).is_empty())?;
        let nodes = beyond(first).into_iter().collect::<Vec<_>>().join(" ");
        let told = format!("{nodes} had lost what they had flushed, by {} at {}", first.f, show(first.time));
        let kinds: BTreeSet<&str> = history
            .nemesis
            .iter()
            .filter(|line| !beyond(line).is_empty())
            .map(|line| line.f.as_str())
            .collect();
        // Whoever was hit by such a kind at all, also while it was no more than the system survives.
        let hit = history.nemesis.iter().filter(|line| kinds.contains(line.f.as_str()));
        let hit = hit.flat_map(|line| names(&line.value["nodes"]));
        let damaged = history.nemesis.iter().flat_map(beyond).chain(hit).collect();
        Some(Beyond { since: first.time, told, damaged })
    }

    /// What of a history was seen before: whatever ended later may have taken effect, or not.
    pub fn before(&self, history: &History) -> History {
        let mut early = history.clone();
        early
            .keys
            .values_mut()
            .for_each(|key| key.operations.retain_mut(|operation| self.had_begun(operation)));
        early
    }

    fn had_begun(&self, operation: &mut Operation) -> bool {
        let ended = operation.complete.is_some_and(|time| time < self.since);
        if operation.invoke >= self.since || ended || operation.outcome == Outcome::Fail {
            return operation.invoke < self.since;
        }
        (operation.outcome, operation.complete, operation.ended) = (Outcome::Info, None, None);
        match &mut operation.action {
            // Nobody knows what it read, and it does nothing else.
            Action::Read(_) | Action::CasMismatch(..) => return false,
            Action::Dequeue(element) => *element = None,
            Action::Txn(steps) => {
                let unread = |step: &Micro| match step {
                    Micro::Read(key, _) => Micro::Read(key.clone(), None),
                    other => other.clone(),
                };
                *steps = steps.iter().map(unread).collect();
            }
            _ => {}
        }
        true
    }

    /// Takes from a report what was to be expected, and keeps what the history [`Beyond::before`] shows by itself, `early`. A check of
    /// which nothing is left is unknown.
    pub fn excuse(
        &self,
        report: &mut Report,
        (history, early): (&History, Report),
        traces: &[Trace],
        deadline: Deadline,
    ) {
        let sound: Vec<Trace> =
            traces.iter().filter(|trace| !self.damaged.contains(&trace.node)).cloned().collect();
        let mut broken: BTreeMap<&str, Breach> = invariant::judge(&sound, deadline)
            .into_iter()
            .filter(|outcome| OF_ONE_NODE.contains(&outcome.name))
            .filter_map(|outcome| Some((outcome.name, outcome.breach?)))
            .collect();
        let died = history.nemesis.iter().any(|line| line.f == "self_exit" && line.time < self.since);
        report.violations.retain_mut(|violation| match violation.check.as_str() {
            // What is shown of the whole history may be a later one.
            "linearizability" => false,
            "self_exit" => died,
            // The first that broke it may have been a damaged one.
            check => broken.remove(check).is_some_and(|Breach { class, reason, events }| {
                (violation.class, violation.reason, violation.events) = (class.to_owned(), reason, events);
                true
            }),
        });
        report.violations.extend(early.violations);
        report.checks.extend(early.checks.into_iter().filter(|(_, check)| check.verdict == Verdict::Invalid));
        let left: BTreeSet<&str> =
            report.violations.iter().map(|violation| violation.check.as_str()).collect();
        for (name, check) in &mut report.checks {
            if check.verdict == Verdict::Invalid && !left.contains(name.as_str()) {
                check.verdict = Verdict::Unknown;
                let reason = check.reason.take().unwrap_or_else(|| format!("{name} is broken"));
                check.reason = Some(format!("{reason}, which was to be expected: {}", self.told));
            }
        }
        report.verdict = report.checks.values().map(|c| c.verdict).fold(Verdict::Valid, Verdict::worst);
    }
}

/// The texts of a list.
fn names(list: &serde_json::Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn show(time: u64) -> String {
    Clock::Nanoseconds.show(time)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trace::{Event, Line};

    /// A fault that was injected 2 s after the beginning.
    fn history(evidence: &str, more: &str) -> History {
        let header = r#"{"format":"whitewater-history","version":"1.0","workload":"x","models":{},"clock":"monotonic-ns","nodes":["n1","n2","n3"]}"#;
        let line = format!(
            r#"{{"index":0,"time":2000000000,"process":"nemesis","type":"info","f":"bit_flip","value":{{"id":1,"phase":"inject","nodes":["n1","n2"],"outcome":"installed","evidence":{evidence}}}}}"#
        );
        crate::history::parse(Path::new("h"), &mut format!("{header}\n{line}\n{more}").as_bytes()).unwrap()
    }

    const BEYOND: &str = r#"{"beyond":["n1","n2"]}"#;

    const DAMAGE_NS: u64 = 2_000_000_000;

    /// What register `k` was asked and answered, as (time, process, type, `f` and value), around the damage.
    fn calls(calls: &[(u64, u64, &str, &str)]) -> String {
        let damage =
            format!(r#""process":"nemesis","type":"info","f":"wipe","value":{{"evidence":{BEYOND}}}"#);
        let mut lines = vec![(DAMAGE_NS, damage)];
        lines.extend(calls.iter().map(|(time, process, kind, call)| {
            (*time, format!(r#""process":{process},"type":"{kind}","key":"k",{call}"#))
        }));
        lines.sort_by_key(|(time, _)| *time);
        let header = r#"{"format":"whitewater-history","version":"1.0","workload":"register","models":{"k":"cas-register"},"clock":"monotonic-ns","nodes":["n1"]}"#;
        let numbered = lines.iter().enumerate();
        let lines =
            numbered.map(|(index, (time, rest))| format!(r#"{{"index":{index},"time":{time},{rest}}}"#));
        [header.to_owned()].into_iter().chain(lines).map(|line| line + "\n").collect()
    }

    const WRITE_1: &str = r#""f":"write","value":1"#;
    const CAS_2_3: &str = r#""f":"cas","value":[2,3]"#;
    const READ_NIL: &str = r#""f":"read","value":null"#;

    /// A report in which one check is broken.
    fn report(check: &str) -> Report {
        let mut report = Report::new(Path::new("run"));
        report.add("coverage", Verdict::Valid, None);
        report.add(check, Verdict::Invalid, Some("it is broken".into()));
        report.violations.push(crate::report::Violation {
            check: check.into(),
            class: "x".into(),
            key: None,
            reason: String::new(),
            operations: Vec::new(),
            events: Vec::new(),
        });
        report
    }

    /// The verdict once what was to be expected is taken away.
    fn check(mut report: Report, history: &History, traces: &[Trace], expected: Verdict) -> Report {
        if let Some(beyond) = Beyond::of(history) {
            let early = Report::new(Path::new("run"));
            beyond.excuse(&mut report, (history, early), traces, Deadline::NEVER);
        }
        assert_eq!(report.verdict, expected, "{report:?}");
        assert_eq!(report.violations.is_empty(), expected != Verdict::Invalid, "{report:?}");
        report
    }

    #[test]
    fn what_is_lost_after_a_majority_was_damaged_is_unknown_and_says_that_it_was_to_be_expected() {
        for name in ["durability", "liveness", "convergence", "log_matching", "self_exit"] {
            let said = check(report(name), &history(BEYOND, ""), &[], Verdict::Unknown);
            assert_eq!(
                said.checks[name].reason.as_deref(),
                Some(
                    "it is broken, which was to be expected: n1 n2 had lost what they had flushed, by bit_flip at 2.000 s"
                )
            );
            // The same damage, no more than the system survives.
            check(report(name), &history("{}", ""), &[], Verdict::Invalid);
        }
    }

    #[test]
    fn what_was_seen_before_the_damage_stays_a_violation() {
        let (early, then, late) = (DAMAGE_NS - 1, DAMAGE_NS, DAMAGE_NS + 1);
        let read_3 = r#""f":"read","value":3"#;
        let written = [(5, 1, "invoke", WRITE_1), (10, 1, "ok", WRITE_1)];
        let read = |asked, told, what| [(asked, 2, "invoke", READ_NIL), (told, 2, "ok", what)];
        let dir = tempfile::tempdir().unwrap();
        for (rest, expected) in [
            // Stale, and known to be so before or after the damage.
            (read(20, early, READ_NIL).to_vec(), Verdict::Invalid),
            (read(20, then, READ_NIL).to_vec(), Verdict::Unknown),
            (read(20, late, READ_NIL).to_vec(), Verdict::Unknown),
            // What would explain the read failed for want of a 2, whether or not somebody still waits for it, or it comes too late.
            ([&[(15, 3, "invoke", CAS_2_3)], &read(20, 30, read_3)[..]].concat(), Verdict::Invalid),
            (
                [&[(15, 3, "invoke", CAS_2_3), (late, 3, "info", CAS_2_3)], &read(20, 30, read_3)[..]]
                    .concat(),
                Verdict::Invalid,
            ),
            ([&[(late, 3, "invoke", CAS_2_3)], &read(20, 30, read_3)[..]].concat(), Verdict::Invalid),
            // A stale read before, and a worse one after: that is the one that the whole history shows.
            (
                [read(20, 30, READ_NIL), read(late, late + 1, r#""f":"read","value":7"#)].concat(),
                Verdict::Invalid,
            ),
        ] {
            let path = dir.path().join("history.jsonl");
            std::fs::write(&path, calls(&[&written[..], &rest].concat())).unwrap();
            let said = crate::judge::check(&path, &crate::Options::default()).unwrap();
            assert_eq!(said.checks["linearizability"].verdict, expected, "{rest:?} {said:?}");
            assert_eq!(said.violations.is_empty(), expected != Verdict::Invalid, "{rest:?} {said:?}");
            let seen = said.violations.iter().flat_map(|violation| &violation.operations);
            assert!(seen.into_iter().all(|operation| operation.invoke < DAMAGE_NS), "{rest:?} {said:?}");
        }
        let died = |time: u64| {
            format!(
                r#"{{"index":1,"time":{time},"process":"nemesis","type":"info","f":"self_exit","value":{{"node":"n3"}}}}"#
            ) + "\n"
        };
        // Nodes are told of in the order of time.
        check(report("self_exit"), &history(BEYOND, &died(late)), &[], Verdict::Unknown);
        check(report("self_exit"), &history(BEYOND, &died(then)), &[], Verdict::Unknown);
        let mut before = history(BEYOND, &died(late));
        before.nemesis[1].time = early;
        check(report("self_exit"), &before, &[], Verdict::Invalid);
    }

    #[test]
    fn of_what_ended_after_the_damage_nothing_was_seen_before_it() {
        let late = DAMAGE_NS + 1;
        let text = calls(&[
            (10, 1, "invoke", WRITE_1),
            (20, 2, "invoke", READ_NIL),
            (30, 3, "invoke", READ_NIL),
            (40, 2, "ok", READ_NIL),
            (late, 1, "ok", WRITE_1),
            (late, 3, "ok", r#""f":"read","value":1"#),
            (late, 4, "invoke", CAS_2_3),
        ]);
        let whole = crate::history::parse(Path::new("h"), &mut text.as_bytes()).unwrap();
        let early = Beyond::of(&whole).unwrap().before(&whole);
        let seen: Vec<_> = early.keys["k"].operations.iter().map(|o| (o.invoke, o.outcome)).collect();
        assert_eq!(seen, [(10, Outcome::Info), (20, Outcome::Ok)]);
        assert_eq!(whole.keys["k"].operations.len(), 4);
    }

    #[test]
    fn a_promise_that_an_undamaged_node_broke_by_itself_stays_a_violation() {
        // A vote that leaves before it is durable.
        let trace = |node: &str| Trace {
            node: node.into(),
            lines: vec![Line { at: 1, event: Event::VoteSent { to: 2, term: 1 } }],
        };
        let of = || report("sent_implies_durable");
        check(of(), &history(BEYOND, ""), &[trace("n3")], Verdict::Invalid);
        check(of(), &history(BEYOND, ""), &[trace("n1")], Verdict::Unknown);
        // Nor is one that was hit by the same kind, though it alone would have been survived; a kill damages nothing.
        for (f, expected) in [("bit_flip", Verdict::Unknown), ("kill", Verdict::Invalid)] {
            let more = format!(
                r#"{{"index":1,"time":2000000001,"process":"nemesis","type":"info","f":"{f}","value":{{"id":2,"phase":"inject","nodes":["n3"],"outcome":"installed","evidence":{{}}}}}}"#
            ) + "\n";
            check(of(), &history(BEYOND, &more), &[trace("n3")], expected);
        }
    }
}
