//! The summary of a report, as a person reads it at the end of a run.
//! The timeline of one violation is `explain`'s business.

use super::{Evidence, Report, Violation};
use crate::history::Clock;
use crate::verdict::Verdict;

/// Violations shown whole; the rest is counted.
const VIOLATIONS_SHOWN: usize = 3;
/// Operations shown of one violation.
const OPERATIONS_SHOWN: usize = 12;
/// Names of the checks that read traces.
pub(super) const INVARIANTS: [&str; 8] = [
    "election_safety",
    "leader_append_only",
    "log_matching",
    "leader_completeness",
    "state_machine_safety",
    "monotonic",
    "one_vote_per_term",
    "sent_implies_durable",
];

impl Report {
    /// The `check` line, the verdict, and why; each line ends in a newline.
    pub fn render(&self) -> String {
        let mut out = format!(
            "  check   linearizable {}/{} keys   durability {} lost   {}\n",
            self.keys.valid,
            self.keys.total(),
            self.durability.lost,
            self.invariants()
        );
        let verdict = self.verdict.to_string().to_uppercase();
        match (self.verdict, &self.class) {
            (Verdict::Invalid, Some(class)) => out += &format!("{verdict}  {class}\n"),
            (Verdict::Valid, _) => out += &format!("{verdict}\n"),
            _ => {
                let why: Vec<&str> = self.reasons(self.verdict).collect();
                out += &format!("{verdict}  {}\n", why.first().copied().unwrap_or_default());
                for reason in why.iter().skip(1) {
                    out += &format!("  {reason}\n");
                }
            }
        }

        for (i, violation) in self.violations.iter().take(VIOLATIONS_SHOWN).enumerate() {
            let told = violation.key.is_some() && self.violations[..i].iter().any(|v| v.key == violation.key);
            out += &if told { violation.sentence() } else { violation.render(self.clock) };
        }
        if self.violations.len() > VIOLATIONS_SHOWN {
            let mut rest: Vec<String> = self.violations[VIOLATIONS_SHOWN..]
                .iter()
                .map(|v| format!("{} ({})", v.class, v.key.as_deref().unwrap_or(&v.check)))
                .collect();
            let hidden = rest.len().saturating_sub(OPERATIONS_SHOWN);
            rest.truncate(OPERATIONS_SHOWN);
            if hidden > 0 {
                rest.push(format!("{hidden} more"));
            }
            out += &format!("  also    {}\n", rest.join(", "));
        }
        for warning in &self.warnings {
            out += &format!("  warning {warning}\n");
        }
        if let Some(violation) = self.violations.first() {
            let key = violation.key.as_ref().map(|key| format!(" --key {key}")).unwrap_or_default();
            out += &format!("  explain checker explain {}{key}\n", self.path.display());
        }
        out
    }

    fn invariants(&self) -> String {
        if !self.traced {
            let printed = self.checks.get("election_safety").map(|check| check.verdict);
            return match printed {
                None => "no traces".into(),
                Some(Verdict::Valid) => "no two leaders printed, no traces".into(),
                Some(_) => "two leaders printed, no traces".into(),
            };
        }
        let held = INVARIANTS
            .iter()
            .filter(|name| self.checks.get(**name).is_some_and(|c| c.verdict == Verdict::Valid));
        format!("{}/{} invariants", held.count(), INVARIANTS.len())
    }

    /// Why checks came to this verdict.
    fn reasons(&self, verdict: Verdict) -> impl Iterator<Item = &str> {
        self.checks
            .values()
            .filter(move |check| check.verdict == verdict)
            .filter_map(|check| check.reason.as_deref())
    }
}

impl Violation {
    /// The check and what it says, in one line.
    fn sentence(&self) -> String {
        let about = self.key.as_ref().map(|key| format!("key {key}, ")).unwrap_or_default();
        format!("  {}: {about}{}\n", self.check, self.reason)
    }

    /// Class, sentence, operations and events, indented.
    pub(crate) fn render(&self, clock: Clock) -> String {
        let mut out = self.sentence();
        let shown = &self.operations[..self.operations.len().min(OPERATIONS_SHOWN)];
        let rows: Vec<[String; 4]> = shown.iter().map(|evidence| evidence.columns(clock)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for row in &rows {
            let mut line = String::from("   ");
            for (column, text) in row.iter().enumerate() {
                let fill = widths.get(column).map_or(0, |width| width - text.chars().count());
                line += &format!(" {text}{}{}", " ".repeat(fill), if column > 0 { "  " } else { "" });
            }
            out += line.trim_end();
            out += "\n";
        }
        if shown.len() < self.operations.len() {
            out += &format!("    and {} more operations\n", self.operations.len() - shown.len());
        }
        for event in &self.events {
            out += &format!("    {event}\n");
        }
        out
    }
}

impl Evidence {
    /// Process, what it did, when and where it ended, and its part in the story.
    pub(crate) fn columns(&self, clock: Clock) -> [String; 4] {
        let ended = match self.complete {
            Some(time) => format!("{} at {}", self.outcome, clock.show(time)),
            None => "never completed".into(),
        };
        let place = match (&self.node, self.position) {
            (Some(node), Some(position)) => format!("   {node}, index {position}"),
            (Some(node), None) => format!("   {node}"),
            (None, Some(position)) => format!("   index {position}"),
            (None, None) => String::new(),
        };
        [format!("p{}", self.process), self.what.clone(), ended + &place, self.note.clone()]
    }
}
