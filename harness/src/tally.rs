//! Running totals of a history while it is written: what the progress line and the summary show.
//! Nothing here decides a verdict; the checker counts for itself from the file.

use std::collections::BTreeMap;

use checker::history::{Event, EventType, Process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Totals of one kind of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultTally {
    /// Faults that were installed.
    pub injected: u64,
    /// Those whose counted evidence shows an effect.
    pub bit: u64,
    /// Those that found no target.
    pub skipped: u64,
    /// Sums of the counters in their evidence.
    pub evidence: BTreeMap<String, u64>,
}

/// Totals of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations that happened.
    pub ok: u64,
    /// Operations that did not happen.
    pub fail: u64,
    /// Operations of unknown outcome.
    pub info: u64,
    /// By kind of fault.
    pub faults: BTreeMap<String, FaultTally>,
    /// When faults were active: start and end in nanoseconds, the end absent while it lasts.
    pub windows: BTreeMap<u64, (u64, Option<u64>)>,
    /// When the load began and ended.
    pub load: (Option<u64>, Option<u64>),
}

impl Tally {
    /// Operations that ended, one way or another.
    pub fn operations(&self) -> u64 {
        self.ok + self.fail + self.info
    }

    /// Whether a fault was active at `time`, or had ended at most `after` nanoseconds before it.
    pub fn in_fault(&self, time: u64, after: u64) -> bool {
        self.windows
            .values()
            .any(|(start, end)| *start <= time && end.is_none_or(|end| time <= end.saturating_add(after)))
    }

    /// Counts one event.
    pub fn observe(&mut self, event: &Event) {
        if event.process == Process::Nemesis {
            return self.observe_nemesis(event.time, &event.f, &event.value);
        }
        match event.kind {
            EventType::Invoke => {}
            EventType::Ok => self.ok += 1,
            EventType::Fail => self.fail += 1,
            EventType::Info => self.info += 1,
        }
    }

    fn observe_nemesis(&mut self, time: u64, f: &str, value: &Value) {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        if f == "phase" {
            match text("phase") {
                Some("load") => self.load.0 = Some(time),
                Some("settle") => self.load.1 = Some(time),
                _ => {}
            }
            return;
        }
        // Faults alone have an id; `plan`, `settle` and `self_exit` have none.
        let Some(id) = value.get("id").and_then(Value::as_u64) else { return };
        let tally = self.faults.entry(f.to_owned()).or_default();
        match (text("phase"), text("outcome")) {
            (Some("inject"), Some("skipped")) => tally.skipped += 1,
            (Some("inject"), _) => {
                tally.injected += 1;
                self.windows.insert(id, (time, None));
            }
            (Some("heal"), _) => {
                if let Some(window) = self.windows.get_mut(&id) {
                    window.1 = Some(time);
                }
                if value.get("bit").and_then(Value::as_bool) == Some(true) {
                    tally.bit += 1;
                }
                let counters = value.get("evidence").and_then(Value::as_object).into_iter().flatten();
                for (name, count) in counters.filter_map(|(name, v)| Some((name, v.as_u64()?))) {
                    *tally.evidence.entry(name.clone()).or_default() += count;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_counted_by_kind_with_their_evidence_and_windows() {
        let mut tally = Tally::default();
        let mut see = |time, f: &str, value| tally.observe_nemesis(time, f, &value);
        see(10, "phase", json!({"phase": "load"}));
        see(100, "loss", json!({"id": 1, "phase": "inject", "outcome": "installed"}));
        see(110, "kill", json!({"id": 2, "phase": "inject", "outcome": "skipped"}));
        see(
            200,
            "loss",
            json!({"id": 1, "phase": "heal", "bit": true, "evidence": {"dropped": 5, "links": ["n1"]}}),
        );
        see(250, "loss", json!({"id": 3, "phase": "inject", "outcome": "installed"}));
        see(300, "loss", json!({"id": 3, "phase": "heal", "bit": false, "evidence": {"dropped": 0}}));
        see(400, "settle", json!({"outcome": "served"}));
        see(500, "phase", json!({"phase": "settle"}));
        let loss = FaultTally {
            injected: 2,
            bit: 1,
            skipped: 0,
            evidence: BTreeMap::from([("dropped".to_owned(), 5)]),
        };
        assert_eq!(tally.faults["loss"], loss);
        assert_eq!(tally.faults["kill"], FaultTally { skipped: 1, ..FaultTally::default() });
        assert_eq!(tally.faults.len(), 2);
        assert_eq!(tally.load, (Some(10), Some(500)));
        let inside = [99, 100, 205, 206, 249, 250, 305, 306].map(|t| tally.in_fault(t, 5));
        assert_eq!(inside, [false, true, true, false, false, true, true, false]);
    }
}
