//! Tells one violation as a timeline: who did what when, drawn to the order of the times, with the faults in between.
//! Which operations stand in it was decided by the check that found it.

use std::collections::BTreeSet;

use crate::history::Clock;
use crate::report::{Evidence, Report, Violation};

/// Columns between two times.
const STEP: usize = 4;
/// Different times that fit into a drawing.
const TIMES_MAX: usize = 24;

/// The story of each violation, or of those about one key. `None` if there is nothing to tell.
pub fn explain(report: &Report, key: Option<&str>) -> Option<String> {
    let about = |violation: &&Violation| key.is_none_or(|key| violation.key.as_deref() == Some(key));
    let stories: Vec<String> =
        report.violations.iter().filter(about).map(|violation| story(violation, report.clock)).collect();
    (!stories.is_empty()).then(|| stories.join("\n"))
}

fn story(violation: &Violation, clock: Clock) -> String {
    let about = violation.key.as_ref().map(|key| format!(" of key {key}")).unwrap_or_default();
    let mut out =
        format!("{}   {}{about}\n  {}\n", violation.class.to_uppercase(), violation.check, violation.reason);
    if !violation.operations.is_empty() {
        let drawing = drawing(&violation.operations);
        if !drawing.is_empty() {
            out += &format!("\n{drawing}");
        }
        out += "\n";

        for operation in &violation.operations {
            let [process, what, ended, note] = operation.columns(clock);
            let note = if note.is_empty() { note } else { format!("   {note}") };
            out += &format!("  {process} {what}   from {}   {ended}{note}\n", clock.show(operation.invoke));
        }
    }
    for event in &violation.events {
        out += &format!("  {event}\n");
    }
    if violation.check == "linearizability" {
        out += "  Whatever one of these operations saw, everything that can have written it is among them:\n  \
                they cannot be put in any order by themselves, so neither can the history.\n";
    }
    out
}

/// One row an operation: a bar from its invoke to its completion. Times are drawn by rank, not to scale.
fn drawing(operations: &[Evidence]) -> String {
    let end = |operation: &Evidence| match operation.outcome.as_str() {
        "info" => None,
        _ => operation.complete,
    };
    let times: BTreeSet<u64> = operations.iter().flat_map(|o| [Some(o.invoke), end(o)]).flatten().collect();
    let times: Vec<u64> = times.into_iter().collect();
    if times.len() > TIMES_MAX {
        return String::new();
    }
    let column = |time: u64| times.partition_point(|t| *t < time) * STEP;
    let width = times.len() * STEP;
    let process = |operation: &Evidence| format!("p{}", operation.process);
    let label = operations.iter().map(|o| process(o).len()).max().unwrap_or(0);
    let mut rows: Vec<&Evidence> = operations.iter().collect();
    rows.sort_by_key(|o| (o.invoke, o.index));
    let mut out = String::new();
    for operation in rows {
        let from = column(operation.invoke);
        let bar = match end(operation) {
            Some(time) if column(time) > from => format!("|{}|", "-".repeat(column(time) - from - 1)),
            Some(_) => "|".to_owned(),
            None => format!("|{}?", "-".repeat((width - from).saturating_sub(1))),
        };
        let drawn = format!("{}{bar}", " ".repeat(from));
        out += &format!("  {:label$}  {drawn:<width$}   {}\n", process(operation), operation.what);
    }
    out
}
