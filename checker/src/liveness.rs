//! Whether the system served again after all faults were healed, and whether every node stayed alive of its own accord.
//! Both are facts that the harness recorded; how it found them is its business.

use crate::history::{Clock, History, Nemesis};
use crate::verdict::Verdict;

/// What one of the two checks says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its verdict.
    pub verdict: Verdict,
    /// In a sentence; empty if valid.
    pub reason: String,
    /// What was recorded.
    pub events: Vec<String>,
}

/// Whether it served again: a majority while the others were broken for good, if that was asked of it, then all. `None` for a history that
/// no harness of ours made.
pub fn served_again(history: &History) -> Option<Finding> {
    let last = |f: &str| history.nemesis.iter().rfind(|line| line.f == f);
    let did_not = |line: &&Nemesis| line.text("outcome") != Some("served");
    let Some(line) = last("quorum").filter(did_not).or_else(|| last("settle")) else {
        let ours = history.nemesis.iter().any(|line| line.f == "plan");
        let reason = "the run ended before the faults were healed and the system had settled".to_owned();
        return ours.then_some(Finding { verdict: Verdict::Unknown, reason, events: Vec::new() });
    };
    let detail = line.text("detail").unwrap_or_default();
    let waited = line.value.get("waited_ms").and_then(|ms| ms.as_u64()).unwrap_or(0);
    let waited = Clock::Nanoseconds.show(waited.saturating_mul(1_000_000));
    let events = vec![format!("{} at {}: {detail}", line.f, Clock::Nanoseconds.show(line.time))];
    let (verdict, reason) = match (line.text("outcome"), line.f.as_str()) {
        (Some("served"), _) => {
            return Some(Finding { verdict: Verdict::Valid, reason: String::new(), events: Vec::new() });
        }
        (Some("not_served"), "quorum") => (
            Verdict::Invalid,
            format!("a majority did not serve within {waited} while the others were broken"),
        ),
        (Some("not_served"), _) => (
            Verdict::Invalid,
            format!("the system did not serve within {waited} after all faults were healed"),
        ),
        (Some("starved"), _) => (
            Verdict::Unknown,
            format!(
                "the harness itself got too little processor time to judge the {waited} after the faults"
            ),
        ),
        (other, f) => (Verdict::Error, format!("the outcome of {f} is {other:?}")),
    };
    Some(Finding { verdict, reason, events })
}

/// Of what a node said last the line that tells why it ended: where a panic or a fatal error begins, because a trace of its stack stands
/// behind that, or else the last line with something in it. What a line ends with a colon to announce, as Rust does, is told with it.
fn cause(said: &str) -> String {
    const BEGINNINGS: [&str; 4] = ["panic: ", "panicked at", "fatal error: ", "Assertion "];
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let begins = |line: &&str| BEGINNINGS.iter().any(|beginning| line.contains(beginning));
    match lines.iter().position(begins).map(|at| (lines[at], lines.get(at + 1))) {
        Some((line, Some(message))) if line.ends_with(':') => format!("{line} {}", message.trim()),
        Some((line, _)) => line.to_owned(),
        None => lines.last().copied().unwrap_or_default().to_owned(),
    }
}

/// Whether a node died by itself. `None` for a history that no harness of ours made.
pub fn nobody_died(history: &History) -> Option<Finding> {
    let deaths: Vec<String> = history
        .nemesis
        .iter()
        .filter(|line| line.f == "self_exit")
        .map(|line| {
            let field = |name| line.text(name).unwrap_or("?");
            let said = line.text("stderr").or(line.text("stdout")).unwrap_or_default();
            let said = cause(said);
            format!(
                "{} at {}: {}: {said}",
                field("node"),
                Clock::Nanoseconds.show(line.time),
                field("status")
            )
        })
        .collect();
    if deaths.is_empty() {
        let ours = history.nemesis.iter().any(|line| line.f == "plan");
        return ours.then_some(Finding {
            verdict: Verdict::Valid,
            reason: String::new(),
            events: Vec::new(),
        });
    }
    let reason = match deaths.len() {
        1 => "a node ended although nobody killed it".to_owned(),
        n => format!("nodes ended {n} times although nobody killed them"),
    };
    Some(Finding { verdict: Verdict::Invalid, reason, events: deaths })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// With these lines of the nemesis, each a function and a value.
    pub(crate) fn history(lines: &[(&str, &str)]) -> History {
        let nemesis = |(f, value): &(&str, &str)| Nemesis {
            index: 0,
            time: 2_000_000_000,
            f: (*f).into(),
            value: serde_json::from_str(value).unwrap(),
        };
        let header = serde_json::from_str(
            r#"{"format":"","version":"","workload":"","models":{},"clock":"","nodes":[]}"#,
        )
        .unwrap();
        let nemesis = lines.iter().map(nemesis).collect();
        History {
            header,
            clock: Clock::Nanoseconds,
            keys: Default::default(),
            nemesis,
            torn: false,
            unread: None,
            bytes: 0,
            warnings: Vec::new(),
        }
    }

    const PLAN: (&str, &str) = ("plan", r#"{"kinds":[]}"#);

    #[test]
    fn a_system_that_does_not_come_back_is_invalid_and_a_starved_harness_says_nothing() {
        let settle = |outcome: &str| {
            let value = format!(r#"{{"outcome":"{outcome}","waited_ms":30000,"detail":"n2 has no leader"}}"#);
            served_again(&history(&[PLAN, ("settle", &value)])).unwrap()
        };
        assert_eq!(settle("served").verdict, Verdict::Valid);
        let lost = settle("not_served");
        assert_eq!(lost.verdict, Verdict::Invalid);
        assert_eq!(lost.reason, "the system did not serve within 30.000 s after all faults were healed");
        assert_eq!(lost.events, ["settle at 2.000 s: n2 has no leader"]);
        assert_eq!(settle("starved").verdict, Verdict::Unknown);
        assert_eq!(settle("gone").verdict, Verdict::Error);
        assert_eq!(served_again(&history(&[PLAN])).unwrap().verdict, Verdict::Unknown);
        assert_eq!(served_again(&history(&[])), None);
    }

    #[test]
    fn of_a_node_that_died_the_line_is_shown_that_says_why() {
        let go = "Route created\npanic: slice bounds out of range [24:17]\n\ngoroutine 33 [running]:\nraft.go:4119 +0x276\n";
        assert_eq!(cause(go), "panic: slice bounds out of range [24:17]");
        let rust = "thread 'main' (7) panicked at src/log.rs:7:9:\nno such entry\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(cause(rust), "thread 'main' (7) panicked at src/log.rs:7:9: no such entry");
        assert_eq!(cause("panicked at src/log.rs:7:9:\n"), "panicked at src/log.rs:7:9:");
        assert_eq!(cause("starting\nI do not know what to do\n \n"), "I do not know what to do");
        assert_eq!(cause(""), "");
    }

    #[test]
    fn a_majority_that_did_not_serve_is_invalid_although_all_served_in_the_end() {
        let said = |quorum: &str| {
            let value = format!(r#"{{"outcome":"{quorum}","waited_ms":30000,"detail":"n1 n2 are silent"}}"#);
            let settle = ("settle", r#"{"outcome":"served","waited_ms":10,"detail":""}"#);
            served_again(&history(&[PLAN, ("quorum", &value), settle])).unwrap()
        };
        let lost = said("not_served");
        assert_eq!(lost.verdict, Verdict::Invalid);
        assert_eq!(lost.reason, "a majority did not serve within 30.000 s while the others were broken");
        assert_eq!(lost.events, ["quorum at 2.000 s: n1 n2 are silent"]);
        assert_eq!(said("starved").verdict, Verdict::Unknown);
        assert_eq!(said("served").verdict, Verdict::Valid);
    }

    #[test]
    fn a_node_that_dies_by_itself_is_invalid() {
        let exit = ("self_exit", r#"{"node":"n3","status":"signal 6","stderr":"a\npanicked at x"}"#);
        let found = nobody_died(&history(&[PLAN, exit])).unwrap();
        assert_eq!(
            (found.verdict, found.events),
            (Verdict::Invalid, vec!["n3 at 2.000 s: signal 6: panicked at x".into()])
        );
        let exit = ("self_exit", r#"{"node":"n3","status":"exit 1","stdout":"a\nthe file is torn\n\n"}"#);
        let found = nobody_died(&history(&[PLAN, exit])).unwrap();
        assert_eq!(found.events, ["n3 at 2.000 s: exit 1: the file is torn"]);
        assert_eq!(nobody_died(&history(&[PLAN])).unwrap().verdict, Verdict::Valid);
        assert_eq!(nobody_died(&history(&[])), None);
    }
}
