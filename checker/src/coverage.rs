//! Whether there was anything to judge: operations, reads, and for each kind of fault that the run planned at least one that had an
//! effect while clients were served. Having looked at nothing is unknown, never valid.

use crate::history::{Action, History, Outcome};

/// Why a valid verdict would say too much; empty if it would not.
pub fn gaps(history: &History) -> Vec<String> {
    let mut gaps = Vec::new();
    let operations = || history.keys.values().flat_map(|of_key| &of_key.operations);
    if operations().next().is_none() {
        gaps.push("there is no operation in the history".to_owned());
    } else if !operations().any(|o| o.outcome == Outcome::Ok && shows(&o.action)) {
        gaps.push("no read was answered, so nothing could contradict the writes".to_owned());
    }
    if history.torn {
        gaps.push("the history breaks off in its last line".to_owned());
    }
    gaps.extend(history.unread.clone());
    let Some(plan) = history.nemesis.iter().find(|line| line.f == "plan") else { return gaps };
    let kinds: Vec<&str> = plan
        .value
        .get("kinds")
        .and_then(|k| k.as_array())
        .into_iter()
        .flatten()
        .filter_map(|k| k.as_str())
        .collect();
    for kind in &kinds {
        let bit = history.nemesis.iter().any(|line| {
            line.f == *kind
                && line.text("phase") == Some("heal")
                && line.value.get("bit").and_then(|bit| bit.as_bool()) == Some(true)
        });
        if !bit {
            gaps.push(format!("no {kind} had an effect, although the schedule has that fault"));
        }
    }
    if !kinds.is_empty() && !served_under_fault(history, &kinds) {
        gaps.push("no operation was ok while a fault was active".to_owned());
    }
    gaps
}

/// Whether the action tells something that can be wrong, other than that a compare-and-set worked.
fn shows(action: &Action) -> bool {
    match action {
        Action::Acquire | Action::Release | Action::Dequeue(Some(_)) => true,
        Action::Txn(_) => !action.observed().is_empty(),
        _ => action.reads_only(),
    }
}

fn served_under_fault(history: &History, kinds: &[&str]) -> bool {
    let faults = || history.nemesis.iter().filter(|line| kinds.contains(&line.f.as_str()));
    let injected =
        faults().filter(|l| l.text("phase") == Some("inject") && l.text("outcome") == Some("installed"));
    let intervals: Vec<(u64, u64)> = injected
        .map(|inject| {
            let heal = faults()
                .find(|l| l.text("phase") == Some("heal") && l.value.get("id") == inject.value.get("id"))
                .map_or(u64::MAX, |heal| heal.time);
            (inject.time, heal)
        })
        .collect();
    // Nor is a fault over while a minority is broken for good: the others had to serve then.
    let held = history.nemesis.iter().any(|l| l.f == "quorum" && l.text("outcome") == Some("served"));
    // Where one node is all there is, nobody else serves while it is down: then it has to serve after a fault.
    let alone = history.header.nodes.len() == 1;
    held || history
        .keys
        .values()
        .flat_map(|of_key| &of_key.operations)
        .filter(|o| o.outcome == Outcome::Ok)
        .any(|o| intervals.iter().any(|(inject, heal)| (alone || o.invoke <= *heal) && o.end() >= *inject))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::history::parse;

    const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"mix","models":{"":"cas-register"},"clock":"monotonic-ns","nodes":[]}"#;

    fn check(lines: &[&str], expected: &[&str]) {
        check_of(HEADER, lines, expected);
    }

    fn check_of(header: &str, lines: &[&str], expected: &[&str]) {
        let mut text = header.to_owned() + "\n";
        for (i, line) in lines.iter().enumerate() {
            text += &format!("{{\"index\":{i},{line}}}\n");
        }
        let history = parse(Path::new("h"), &mut text.as_bytes()).unwrap();
        assert_eq!(gaps(&history), expected);
    }

    const PLAN: &str = r#""time":0,"process":"nemesis","type":"info","f":"plan","value":{"kinds":["kill"]}"#;
    const NO_PLAN: &str = r#""time":0,"process":"nemesis","type":"info","f":"plan","value":{"kinds":[]}"#;
    const INJECT: &str = r#""time":10,"process":"nemesis","type":"info","f":"kill","value":{"id":1,"phase":"inject","outcome":"installed"}"#;
    const HEAL: &str = r#""time":20,"process":"nemesis","type":"info","f":"kill","value":{"id":1,"phase":"heal","bit":true}"#;
    const NO_BITE: &str = r#""time":20,"process":"nemesis","type":"info","f":"kill","value":{"id":1,"phase":"heal","bit":false}"#;

    fn read(from: u64, to: u64) -> [String; 2] {
        [
            format!(r#""time":{from},"process":{from},"type":"invoke","f":"read","key":"r""#),
            format!(r#""time":{to},"process":{from},"type":"ok","f":"read","key":"r","value":null"#),
        ]
    }

    #[test]
    fn having_looked_at_nothing_is_a_gap() {
        check(&[], &["there is no operation in the history"]);
        let write = [
            r#""time":1,"process":1,"type":"invoke","f":"write","key":"r","value":1"#,
            r#""time":2,"process":1,"type":"ok","f":"write","key":"r","value":1"#,
        ];
        check(&write, &["no read was answered, so nothing could contradict the writes"]);
        let [invoke, ok] = read(1, 2);
        check(&[&invoke, &ok], &[]);
        check(&[NO_PLAN, &invoke, &ok], &[]);
    }

    #[test]
    fn what_shows_something_depends_on_the_operation() {
        let nothing = "no read was answered, so nothing could contradict the writes";
        let told = |model: &str, f: &str, value: &str, expected: &[&str]| {
            let header = HEADER.replace("cas-register", model);
            let line = |time, kind| {
                format!(r#""time":{time},"process":1,"type":"{kind}","f":"{f}","key":"r","value":{value}"#)
            };
            check_of(&header, &[&line(1, "invoke"), &line(2, "ok")], expected);
        };
        for f in ["acquire", "release"] {
            told("mutex", f, "null", &[]);
        }
        told("fifo-queue", "enqueue", "1", &[nothing]);
        told("txn", "txn", r#"[["w","x",1]]"#, &[nothing]);
        told("txn", "txn", r#"[["w","x",1],["r","y",2]]"#, &[]);
        let header = HEADER.replace("cas-register", "fifo-queue");
        let dequeue = [
            r#""time":1,"process":1,"type":"invoke","f":"dequeue","key":"r","value":null"#,
            r#""time":2,"process":1,"type":"ok","f":"dequeue","key":"r","value":1"#,
        ];
        check_of(&header, &dequeue, &[]);
    }

    #[test]
    fn a_planned_fault_must_bite_while_clients_are_served() {
        let [invoke, ok] = read(11, 12);
        check(&[PLAN, INJECT, &invoke, &ok, HEAL], &[]);
        let none = "no kill had an effect, although the schedule has that fault";
        check(&[PLAN, INJECT, &invoke, &ok, NO_BITE], &[none]);
        check(&[PLAN, INJECT, &invoke, &ok], &[none]);
        let idle = "no operation was ok while a fault was active";
        let [invoke, ok] = read(1, 9);
        check(&[PLAN, &invoke, &ok, INJECT, HEAL], &[idle]);
        let [invoke, ok] = read(21, 22);
        check(&[PLAN, INJECT, HEAL, &invoke, &ok], &[idle]);
        check(&[PLAN, &invoke, &ok], &[none, idle]);
        let quorum = |outcome: &str| {
            format!(
                r#""time":30,"process":"nemesis","type":"info","f":"quorum","value":{{"outcome":"{outcome}"}}"#
            )
        };
        check(&[PLAN, INJECT, HEAL, &invoke, &ok, &quorum("served")], &[]);
        check(&[PLAN, INJECT, HEAL, &invoke, &ok, &quorum("starved")], &[idle]);
        check(&[PLAN, &invoke, &ok, &quorum("served")], &[none]);
        let alone = HEADER.replace("\"nodes\":[]", "\"nodes\":[\"n1\"]");
        check_of(&alone, &[PLAN, INJECT, HEAL, &invoke, &ok], &[]);
        let [invoke, ok] = read(1, 9);
        check_of(&alone, &[PLAN, &invoke, &ok, INJECT, HEAL], &[idle]);
        let skipped = INJECT.replace("installed", "skipped");
        let [invoke, ok] = read(11, 12);
        check(&[PLAN, &skipped, &invoke, &ok, HEAL], &[idle]);
    }
}
