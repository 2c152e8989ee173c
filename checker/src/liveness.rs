//! Whether the system served again after all faults were healed, and whether every node stayed alive of its own accord.
//! Both are facts that the harness recorded; how it found them is its business.

use crate::history::{Clock, History};
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

/// Whether it served again. `None` for a history that no harness of ours made.
pub fn served_again(history: &History) -> Option<Finding> {
    let Some(settle) = history.nemesis.iter().rfind(|line| line.f == "settle") else {
        let ours = history.nemesis.iter().any(|line| line.f == "plan");
        let reason = "the run ended before the faults were healed and the system had settled".to_owned();
        return ours.then_some(Finding { verdict: Verdict::Unknown, reason, events: Vec::new() });
    };
    let detail = settle.text("detail").unwrap_or_default();
    let waited = settle.value.get("waited_ms").and_then(|ms| ms.as_u64()).unwrap_or(0);
    let waited = Clock::Nanoseconds.show(waited.saturating_mul(1_000_000));
    let events = vec![format!("settle at {}: {detail}", Clock::Nanoseconds.show(settle.time))];
    let (verdict, reason) = match settle.text("outcome") {
        Some("served") => {
            return Some(Finding { verdict: Verdict::Valid, reason: String::new(), events: Vec::new() });
        }
        Some("not_served") => (
            Verdict::Invalid,
            format!("the system did not serve within {waited} after all faults were healed"),
        ),
        Some("starved") => (
            Verdict::Error,
            format!(
                "the harness itself got too little processor time to judge the {waited} after the faults"
            ),
        ),
        other => (Verdict::Error, format!("the outcome of settle is {other:?}")),
    };
    Some(Finding { verdict, reason, events })
}

/// Whether a node died by itself. `None` for a history that no harness of ours made.
pub fn nobody_died(history: &History) -> Option<Finding> {
    let deaths: Vec<String> = history
        .nemesis
        .iter()
        .filter(|line| line.f == "self_exit")
        .map(|line| {
            let field = |name| line.text(name).unwrap_or("?");
            let stderr = field("stderr").lines().last().unwrap_or_default().to_owned();
            format!(
                "{} at {}: {}: {stderr}",
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
mod tests {
    use super::*;
    use crate::history::Nemesis;

    fn history(lines: &[(&str, &str)]) -> History {
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
        assert_eq!(settle("starved").verdict, Verdict::Error);
        assert_eq!(settle("gone").verdict, Verdict::Error);
        assert_eq!(served_again(&history(&[PLAN])).unwrap().verdict, Verdict::Unknown);
        assert_eq!(served_again(&history(&[])), None);
    }

    #[test]
    fn a_node_that_dies_by_itself_is_invalid() {
        let exit = ("self_exit", r#"{"node":"n3","status":"signal 6","stderr":"a\npanicked at x"}"#);
        let found = nobody_died(&history(&[PLAN, exit])).unwrap();
        assert_eq!(
            (found.verdict, found.events),
            (Verdict::Invalid, vec!["n3 at 2.000 s: signal 6: panicked at x".into()])
        );
        assert_eq!(nobody_died(&history(&[PLAN])).unwrap().verdict, Verdict::Valid);
        assert_eq!(nobody_died(&history(&[])), None);
    }
}
