//! Damage beyond what the system survives, done to it on purpose: more nodes at once had lost what they had flushed than it serves without.
//! What is broken after that was to be expected and says nothing of the system; what the damage cannot explain still does.
//!
//! That is a violation whose operations all ended before it, a node that ended by itself before it, and a promise that a node which was
//! never damaged broke all by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::deadline::Deadline;
use crate::history::{Action, Clock, History, Micro, Nemesis, Operation, Outcome};
use crate::invariant::{self, Breach};
use crate::report::{Evidence, Report, Violation};
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

    /// What of a history was seen before: whatever ended later may have taken effect, or not. Of a key that is broken in it the
    /// violation that the whole history shows best may be a later one.
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

    /// Takes from a report what was to be expected, and adds the violations that the history [`Beyond::before`] shows by itself. A
    /// check of which nothing is left is unknown.
    pub fn excuse(
        &self,
        report: &mut Report,
        (history, early): (&History, Vec<Violation>),
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
            "linearizability" => self.is_before(violation),
            "self_exit" => died,
            // The first that broke it may have been a damaged one.
            check => broken.remove(check).is_some_and(|Breach { class, reason, events }| {
                (violation.class, violation.reason, violation.events) = (class.to_owned(), reason, events);
                true
            }),
        });
        let shown: BTreeSet<_> = report.violations.iter().map(|violation| violation.key.clone()).collect();
        report.violations.extend(early.into_iter().filter(|violation| !shown.contains(&violation.key)));
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

    /// Whether a history that ends there shows the violation as well: it is a closed set of operations, and all that was seen was seen by then.
    fn is_before(&self, violation: &Violation) -> bool {
        let seen = |at: u64| at < self.since;
        // Of an operation without a known end nothing was seen.
        let ended =
            |o: &Evidence| if o.outcome == "info" { o.invoke } else { o.complete.unwrap_or(o.invoke) };
        !violation.operations.is_empty() && violation.operations.iter().all(|o| seen(ended(o)))
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

    fn operation(outcome: &str, invoke: u64, complete: Option<u64>) -> Evidence {
        let (what, note) = (String::new(), String::new());
        let (node, position) = (None, None);
        Evidence {
            index: 0,
            process: 1,
            what,
            outcome: outcome.into(),
            invoke,
            complete,
            node,
            position,
            note,
        }
    }

    /// A report in which one check is broken.
    fn report(check: &str, operations: Vec<Evidence>) -> Report {
        let mut report = Report::new(Path::new("run"));
        report.add("coverage", Verdict::Valid, None);
        report.add(check, Verdict::Invalid, Some("it is broken".into()));
        report.violations.push(Violation {
            check: check.into(),
            class: "x".into(),
            key: None,
            reason: String::new(),
            operations,
            events: Vec::new(),
        });
        report
    }

    /// The verdict once what was to be expected is taken away.
    fn check(mut report: Report, history: &History, traces: &[Trace], expected: Verdict) -> Report {
        if let Some(beyond) = Beyond::of(history) {
            beyond.excuse(&mut report, (history, Vec::new()), traces, Deadline::NEVER);
        }
        assert_eq!(report.verdict, expected, "{report:?}");
        assert_eq!(report.violations.is_empty(), expected != Verdict::Invalid, "{report:?}");
        report
    }

    #[test]
    fn what_is_lost_after_a_majority_was_damaged_is_unknown_and_says_that_it_was_to_be_expected() {
        for name in ["durability", "liveness", "convergence", "log_matching", "self_exit"] {
            let said = check(report(name, Vec::new()), &history(BEYOND, ""), &[], Verdict::Unknown);
            assert_eq!(
                said.checks[name].reason.as_deref(),
                Some(
                    "it is broken, which was to be expected: n1 n2 had lost what they had flushed, by bit_flip at 2.000 s"
                )
            );
            // The same damage, no more than the system survives.
            check(report(name, Vec::new()), &history("{}", ""), &[], Verdict::Invalid);
        }
    }

    #[test]
    fn what_was_seen_before_the_damage_stays_a_violation() {
        let (early, then, late) = (1_999_999_999, 2_000_000_000, 2_000_000_001);
        let of = |operations| report("linearizability", operations);
        let write = operation("ok", 5, Some(10));
        for (read, expected) in [
            (operation("ok", 20, Some(early)), Verdict::Invalid),
            (operation("ok", 20, Some(then)), Verdict::Unknown),
            (operation("ok", 20, Some(late)), Verdict::Unknown),
            (operation("info", 20, None), Verdict::Invalid),
            (operation("info", 20, Some(late)), Verdict::Invalid),
            (operation("info", late, None), Verdict::Unknown),
        ] {
            check(of(vec![write.clone(), read]), &history(BEYOND, ""), &[], expected);
        }
        let died = |time: u64| {
            format!(
                r#"{{"index":1,"time":{time},"process":"nemesis","type":"info","f":"self_exit","value":{{"node":"n3"}}}}"#
            ) + "\n"
        };
        // Nodes are told of in the order of time.
        check(report("self_exit", Vec::new()), &history(BEYOND, &died(late)), &[], Verdict::Unknown);
        check(report("self_exit", Vec::new()), &history(BEYOND, &died(then)), &[], Verdict::Unknown);
        let mut before = history(BEYOND, &died(late));
        before.nemesis[1].time = early;
        check(report("self_exit", Vec::new()), &before, &[], Verdict::Invalid);
    }

    #[test]
    fn of_what_ended_after_the_damage_nothing_was_seen_before_it() {
        let call = |index: u64, process: u64, time: u64, kind: &str, what: &str| {
            format!(
                r#"{{"index":{index},"time":{time},"process":{process},"type":"{kind}",{what},"key":"k"}}"#
            ) + "\n"
        };
        let (write, other) = (r#""f":"write","value":1"#, r#""f":"write","value":2"#);
        let lines = [
            call(0, 1, 10, "invoke", write),
            call(1, 2, 20, "invoke", r#""f":"read","value":null"#),
            call(2, 3, 30, "invoke", r#""f":"read","value":null"#),
            call(3, 2, 40, "ok", r#""f":"read","value":null"#),
        ];
        let late = [
            call(5, 1, 2_000_000_001, "ok", write),
            call(6, 3, 2_000_000_002, "ok", r#""f":"read","value":1"#),
            call(7, 4, 2_000_000_003, "invoke", other),
        ];
        let header = r#"{"format":"whitewater-history","version":"1.0","workload":"register","models":{"k":"cas-register"},"clock":"monotonic-ns","nodes":["n1"]}"#;
        let damage = r#"{"index":4,"time":2000000000,"process":"nemesis","type":"info","f":"wipe","value":{"evidence":{"beyond":["n1"]}}}"#;
        let text = format!("{header}\n{}{damage}\n{}", lines.concat(), late.concat());
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
        let of = || report("sent_implies_durable", Vec::new());
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
