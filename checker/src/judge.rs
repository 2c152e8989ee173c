//! Reads a run directory or a bare history, runs every check that its content allows, and puts the results into one report.
//! What each check means is in its own file; nothing here decides.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::beyond::Beyond;
use crate::deadline::{Deadline, Net};
use crate::history::{
    Action, EventType, History, HistoryError, KeyHistory, Limit, Operation, Outcome, Value,
};
use crate::interop::{self, Reading};
use crate::invariant;
use crate::linearizability::{self, Bound, Budget, Engine, Judgement};
use crate::report::{Evidence, Keys, Operations, Report, Violation};
use crate::trace::{self, Trace, TraceError};
use crate::verdict::Verdict;
use crate::{Options, convergence, coverage, durability, liveness, roles, verify};

/// Threads that judge keys. The report does not depend on it.
const WORKERS: usize = 2;
/// Faults named beside one violation.
const FAULTS_SHOWN: usize = 4;
/// The class that is told before all others.
const LOST_WRITE: &str = "lost write";
/// Name of the history in a run directory.
const HISTORY: &str = "history.jsonl";

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nothing to read.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A directory that is not a run.
    #[error("{} has no {HISTORY}", .0.display())]
    NoHistory(PathBuf),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A node's state.
    #[error(transparent)]
    State(#[from] durability::StateError),
    /// A directory that cannot be listed.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CheckError {
    /// The way out, for a person.
    pub fn hint(&self) -> &'static str {
        match self {
            CheckError::Missing(_) => "give a run directory, or a history file (plain or .gz)",
            CheckError::NoHistory(_) => {
                "a run directory holds history.jsonl; give that directory, or the file itself"
            }
            CheckError::History(_) => {
                "what is read is described in checker/README.md, our own format in checker/HISTORY.md"
            }
            CheckError::Trace(_) | CheckError::State(_) => {
                "move the file away to judge the rest without it, or record the run again"
            }
            CheckError::Io { .. } => "look at the permissions of the path",
        }
    }
}

/// Everything that was recorded.
struct Recorded {
    history: History,
    /// By node; of the nodes that have one.
    traces: Vec<Trace>,
    states: Vec<durability::NodeState>,
    /// Nodes without a trace although others have one.
    untraced: Vec<String>,
    /// Nodes whose traces were not read in time.
    unread: Vec<String>,
}

impl Recorded {
    fn bare(history: History) -> Recorded {
        let (traces, states, untraced, unread) = Default::default();
        Recorded { history, traces, states, untraced, unread }
    }
}

/// Judges a run directory or a bare history.
///
/// # Errors
/// The files cannot be read, or are not what their formats say.
pub fn check(path: &Path, options: &Options) -> Result<Report, CheckError> {
    Ok(judged(path, options, false)?.0)
}

/// Judges a run directory or a bare history, and certifies what is said of each key: `verify` describes the second text.
///
/// # Errors
/// As [`check`].
pub fn certify(path: &Path, options: &Options) -> Result<(Report, String), CheckError> {
    let (mut report, history, judgements, budget) = judged(path, options, true)?;
    let text = certificate(&mut report, &history, judgements, budget);
    Ok((report, text))
}

fn certificate(report: &mut Report, history: &History, judgements: Vec<Judgement>, budget: Budget) -> String {
    let mut text = format!("{{\"format\":{:?},\"version\":\"1.0\"}}\n", verify::FORMAT);
    for ((key, of_key), judgement) in history.keys.iter().zip(judgements) {
        let index = |i: usize| of_key.operations[i].index;
        let mut line = verify::Line {
            key: key.clone(),
            verdict: "unknown".into(),
            order: None,
            core: None,
            elements: None,
        };
        match judgement {
            Judgement::Valid => {
                let order = linearizability::certify(of_key, budget);
                if order.is_none() && budget.deadline.passed() {
                    let warning =
                        format!("key {key}: the wall clock ended the search for the order that certifies it");
                    report.warnings.push(warning);
                }
                line.verdict = "valid".into();
                line.order = order.map(|order| order.into_iter().map(index).collect());
            }
            Judgement::Invalid(finding) => {
                line.verdict = "invalid".into();
                line.core = Some(finding.core.iter().map(|witness| index(witness.operation)).collect());
                line.elements = finding.elements.map(|list| list.iter().map(Value::to_json).collect());
            }
            Judgement::Unknown(_) => {}
        }
        text += &serde_json::to_string(&line).expect("a line has no map with other keys than texts");
        text += "\n";
    }
    text
}

type Judged = (Report, History, Vec<Judgement>, Budget);

fn judged(path: &Path, options: &Options, certified: bool) -> Result<Judged, CheckError> {
    let start = Instant::now();
    let limit = Limit { memory: options.memory, deadline: Net::reading(start, options.time) };
    let recorded = read(path, &options.reading, &limit)?;
    let net = Net::new(start, options.time, start.elapsed(), certified);
    Ok(judged_within(path, options, recorded, net))
}

/// Judges what was read. The budget that is returned is for certificates.
fn judged_within(path: &Path, options: &Options, recorded: Recorded, net: Net) -> Judged {
    let left = options.memory.saturating_sub(recorded.history.bytes).min(options.memory / 2);
    let budget = Budget {
        steps: options.steps,
        memory: left / recorded.history.keys.len().clamp(1, WORKERS) as u64,
        deadline: net.judging,
    };
    let mut report = Report::new(path);
    report.warnings.clone_from(&recorded.history.warnings);
    report.clock = recorded.history.clock;
    report.operations = count(&recorded.history);
    let judgements = linearizability(&mut report, &recorded.history, budget);
    durability(&mut report, &recorded, net.rest);
    invariants(&mut report, &recorded, net.rest);
    convergence(&mut report, &recorded.states);
    system(&mut report, &recorded.history);
    let gaps = coverage::gaps(&recorded.history);
    let verdict = if gaps.is_empty() { Verdict::Valid } else { Verdict::Unknown };
    report.add("coverage", verdict, (!gaps.is_empty()).then(|| gaps.join("; ")));

    if let Some(beyond) = Beyond::of(&recorded.history) {
        let (mut early, before) = (Report::new(path), beyond.before(&recorded.history));
        linearizability(&mut early, &before, budget);
        beyond.excuse(&mut report, (&recorded.history, early), &recorded.traces, net.rest);
    }
    sort_violations(&mut report.violations);
    report.class = report.violations.first().map(|violation| violation.class.clone());
    let budget = Budget { deadline: net.certifying, ..budget };
    (report, recorded.history, judgements, budget)
}

/// Most telling first: keys that lost a write, then other keys, then nodes. What is wrong with one key stands together.
fn sort_violations(violations: &mut [Violation]) {
    let lossy: BTreeSet<Option<String>> =
        violations.iter().filter(|v| v.class == LOST_WRITE).map(|v| v.key.clone()).collect();
    let keys: Vec<Option<String>> = violations.iter().map(|v| v.key.clone()).collect();
    violations.sort_by_key(|v| match &v.key {
        None => (2, 0, false),
        key => {
            let rank = if lossy.contains(key) { 0 } else { 1 };
            (rank, keys.iter().position(|k| k == key).unwrap_or(keys.len()), v.class != LOST_WRITE)
        }
    });
}

fn read(path: &Path, reading: &Reading, limit: &Limit) -> Result<Recorded, CheckError> {
    if !path.exists() {
        return Err(CheckError::Missing(path.to_owned()));
    }
    if !path.is_dir() {
        let history = interop::read_within(path, reading, limit)?;
        return Ok(Recorded::bare(history));
    }
    let clients = interop::clients(path);
    if !clients.is_empty() {
        let history = interop::read_all(&clients, limit)?;
        return Ok(Recorded::bare(history));
    }
    let candidates = [path.join(HISTORY), path.join(format!("{HISTORY}.gz"))];
    let file = candidates.iter().find(|file| file.is_file());
    let file = file.ok_or_else(|| CheckError::NoHistory(path.to_owned()))?;
    let history = interop::read_within(file, reading, limit)?;
    let mut recorded = Recorded::bare(history);
    for node in nodes(&path.join("nodes"))? {
        let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let trace_file = node.join("trace.jsonl");
        if trace_file.is_file() {
            match trace::read_within(&trace_file, limit.deadline)? {
                Some(trace) => recorded.traces.push(trace),
                None => recorded.unread.push(name),
            }
        } else {
            recorded.untraced.push(name);
        }
        let state_file = node.join("state.json");
        if state_file.is_file() {
            recorded.states.push(durability::NodeState::read(&state_file)?);
        }
    }
    if recorded.traces.is_empty() {
        recorded.untraced.clear();
    }
    Ok(recorded)
}

/// The history of a run directory, or a bare one.
///
/// # Errors
/// It cannot be read.
pub fn history(path: &Path, reading: &Reading) -> Result<History, CheckError> {
    Ok(read(path, reading, &Limit::NONE)?.history)
}

/// The directories of the nodes: n2 before n10.
fn nodes(path: &Path) -> Result<Vec<PathBuf>, CheckError> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let io = |source| CheckError::Io { path: path.to_owned(), source };
    let mut nodes = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        if entry.is_dir() {
            nodes.push(entry);
        }
    }
    nodes.sort_by_key(|node| (node.as_os_str().len(), node.clone()));
    Ok(nodes)
}

fn count(history: &History) -> Operations {
    let mut operations = Operations::default();
    for operation in history.keys.values().flat_map(|of_key| &of_key.operations) {
        *match operation.ended {
            Some(EventType::Ok) => &mut operations.ok,
            Some(EventType::Fail) => &mut operations.fail,
            Some(EventType::Info | EventType::Invoke) | None => &mut operations.info,
        } += 1;
    }
    operations
}

fn linearizability(report: &mut Report, history: &History, budget: Budget) -> Vec<Judgement> {
    let keys: Vec<(&String, &KeyHistory)> = history.keys.iter().collect();
    let mut reasons = Vec::new();
    let judgements = judge_keys(&keys, budget);
    for ((key, of_key), judgement) in keys.iter().zip(&judgements) {
        match judgement {
            Judgement::Valid => report.keys.valid += 1,
            Judgement::Invalid(finding) => {
                report.keys.invalid += 1;
                if finding.late {
                    report.warnings.push(format!(
                        "key {key}: the wall clock ended the shrinking, so fewer operations may show what is wrong"
                    ));
                }
                let operations: Vec<Evidence> = finding
                    .core
                    .iter()
                    .map(|witness| {
                        let operation = &of_key.operations[witness.operation];
                        let mut evidence = evidence(key, operation, witness.note.clone());
                        if witness.action != operation.action {
                            evidence.what = format!(
                                "{} (reduced from {})",
                                witness.action.describe(key),
                                brief(operation)
                            );
                        }
                        evidence
                    })
                    .collect();
                report.violations.push(Violation {
                    check: "linearizability".into(),
                    class: finding.class.into(),
                    key: Some((*key).clone()),
                    reason: finding.reason.clone(),
                    events: faults_between(history, &operations),
                    operations,
                });
            }
            Judgement::Unknown(spent) => {
                report.keys.unknown += 1;
                reasons.push(format!(
                    "key {key}: the search came as far as {} with {} indeterminate operations open, then {} had run out after {} steps; \
                     it may decide with a larger --steps, --memory or --time",
                    history.clock.show(spent.reached),
                    spent.open_unknown,
                    spent.bound,
                    spent.steps
                ));
                if spent.bound == Bound::Time {
                    report.warnings.push(format!(
                        "key {key}: the wall clock ended the search, so a faster machine may say more"
                    ));
                }
            }
        }
    }
    let (verdict, reason) = match report.keys {
        Keys { invalid: 0, unknown: 0, .. } => (Verdict::Valid, None),
        Keys { invalid: 0, .. } => (Verdict::Unknown, Some(reasons.join("; "))),
        Keys { invalid, .. } => {
            (Verdict::Invalid, Some(format!("{invalid} of {} keys", report.keys.total())))
        }
    };
    report.add("linearizability", verdict, reason);
    judgements
}

/// Judges the keys on a few threads; the answers are in the order of the keys.
fn judge_keys(keys: &[(&String, &KeyHistory)], budget: Budget) -> Vec<Judgement> {
    let judge =
        |(_, of_key): &(&String, &KeyHistory)| linearizability::judge(of_key, Engine::Portfolio, budget);
    // A thread costs as much as judging a short history.
    if keys.len() == 1 {
        return keys.iter().map(judge).collect();
    }
    let chunk = keys.len().div_ceil(WORKERS).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = keys
            .chunks(chunk)
            .map(|chunk| scope.spawn(move || chunk.iter().map(judge).collect::<Vec<_>>()))
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Vec<Judgement>>| match worker.join() {
            Ok(judgements) => judgements,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    })
}

fn durability(report: &mut Report, recorded: &Recorded, deadline: Deadline) {
    let accounts = durability::judge(&recorded.history, &recorded.states, deadline);
    report.durability = accounts.counts;
    let reason = match (report.durability.lost, accounts.losses.len()) {
        (0, 0) => None,
        (0, wrong) => Some(format!("{wrong} keys hold what they must not")),
        (lost, _) => Some(format!("{lost} acknowledged writes are lost")),
    };
    let late = accounts.late.map(|key| format!("the wall clock ended the accounting at key {key}"));
    match (reason, late) {
        (Some(reason), late) => {
            report.warnings.extend(late);
            report.add("durability", Verdict::Invalid, Some(reason));
        }
        (None, Some(late)) => report.add("durability", Verdict::Unknown, Some(late)),
        (None, None) => report.add("durability", Verdict::Valid, None),
    }
    for loss in accounts.losses {
        let of_key = &recorded.history.keys[&loss.key];
        let operations: Vec<Evidence> = loss
            .operations
            .into_iter()
            .map(|(i, note)| evidence(&loss.key, &of_key.operations[i], note))
            .collect();
        let mut events = loss.events;
        events.extend(faults_between(&recorded.history, &operations));
        report.violations.push(Violation {
            check: "durability".into(),
            class: loss.class.into(),
            key: Some(loss.key),
            reason: loss.reason,
            operations,
            events,
        });
    }
}

fn convergence(report: &mut Report, states: &[durability::NodeState]) {
    match convergence::judge(states) {
        None => {}
        Some(Ok(())) => report.add("convergence", Verdict::Valid, None),
        Some(Err(divergence)) => {
            report.add("convergence", Verdict::Invalid, Some(divergence.reason.clone()));
            report.violations.push(Violation {
                check: "convergence".into(),
                class: "diverging states".into(),
                key: None,
                reason: divergence.reason,
                operations: Vec::new(),
                events: divergence.events,
            });
        }
    }
}

fn invariants(report: &mut Report, recorded: &Recorded, deadline: Deadline) {
    if recorded.traces.is_empty() && recorded.unread.is_empty() {
        return;
    }
    for outcome in invariant::judge(&recorded.traces, deadline) {
        match outcome.breach {
            Some(breach) => {
                report.add(outcome.name, Verdict::Invalid, Some(breach.reason.clone()));
                report.violations.push(Violation {
                    check: outcome.name.into(),
                    class: breach.class.into(),
                    key: None,
                    reason: breach.reason,
                    operations: Vec::new(),
                    events: breach.events,
                });
            }
            None if !recorded.unread.is_empty() => {
                let nodes = recorded.unread.join(", ");
                let reason = format!("the wall clock ended the reading before the traces of {nodes}");
                report.add(outcome.name, Verdict::Unknown, Some(reason));
            }
            None if outcome.late => {
                let reason = "the wall clock ended the judging of the traces".to_owned();
                report.add(outcome.name, Verdict::Unknown, Some(reason));
            }
            None if recorded.untraced.is_empty() => report.add(outcome.name, Verdict::Valid, None),
            None => {
                let reason = format!("there is no trace of {}", recorded.untraced.join(", "));
                report.add(outcome.name, Verdict::Unknown, Some(reason));
            }
        }
    }
    report.traced = true;
}

fn system(report: &mut Report, history: &History) {
    let checks = [
        ("liveness", "not served", liveness::served_again(history)),
        ("self_exit", "node died", liveness::nobody_died(history)),
        // Traces tell more of it, where there are any.
        ("election_safety", "two leaders", roles::one_leader_a_term(history).filter(|_| !report.traced)),
    ];
    for (name, class, finding) in checks {
        let Some(finding) = finding else { continue };
        let reason = (finding.verdict != Verdict::Valid).then(|| finding.reason.clone());
        report.add(name, finding.verdict, reason);
        if finding.verdict == Verdict::Invalid {
            report.violations.push(Violation {
                check: name.into(),
                class: class.into(),
                key: None,
                reason: finding.reason,
                operations: Vec::new(),
                events: finding.events,
            });
        }
    }
}

/// Result of a list or set, without its elements.
fn brief(operation: &Operation) -> String {
    if let Action::Txn(steps) = &operation.action {
        return format!("{} steps", steps.len());
    }
    match operation.action.observes().and_then(|value| value.elements()) {
        Some(elements) => format!("{} elements", elements.len()),
        None => "the same".into(),
    }
}

fn evidence(key: &str, operation: &Operation, note: String) -> Evidence {
    Evidence {
        index: operation.index,
        process: operation.process,
        what: operation.action.describe(key),
        outcome: match operation.outcome {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        }
        .into(),
        invoke: operation.invoke,
        complete: operation.complete,
        node: operation.node.as_deref().map(str::to_owned),
        position: operation.position,
        note,
    }
}

/// The faults that began between the first invoke and the last completion of the operations; the latest of them.
fn faults_between(history: &History, operations: &[Evidence]) -> Vec<String> {
    let from = operations.iter().map(|o| o.invoke).min().unwrap_or(u64::MAX);
    let to = operations.iter().map(|o| o.complete.unwrap_or(o.invoke)).max().unwrap_or(0);
    let mut faults: Vec<String> = history
        .nemesis
        .iter()
        .filter(|line| (from..=to).contains(&line.time))
        .filter(|line| line.text("phase") == Some("inject") && line.text("outcome") == Some("installed"))
        .map(|line| {
            let nodes = line.value.get("nodes").and_then(|nodes| nodes.as_array());
            let names: Vec<&str> = nodes.into_iter().flatten().filter_map(|node| node.as_str()).collect();
            format!("{} {} at {}", line.f, names.join(" "), history.clock.show(line.time))
        })
        .collect();
    let hidden = faults.len().saturating_sub(FAULTS_SHOWN);
    if hidden > 0 {
        faults.drain(..hidden);
        faults.insert(0, format!("{hidden} earlier faults"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers of which one loses a write, in sight of many final reads, a counter that nothing decides, and traces.
    fn recorded() -> Recorded {
        let mut text = String::from(
            r#"{"format":"whitewater-history","version":"1.0","workload":"many","models":{"c":"counter","":"cas-register"},"clock":"monotonic-ns","nodes":["n1"]}"#,
        ) + "\n";
        let mut index = 0;
        let mut operation = |process: u64, key: &str, f: &str, value: i64, outcome: &str, phase: &str| {
            let asked = if f == "read" { "null".to_owned() } else { value.to_string() };
            for (kind, value) in [("invoke", asked), (outcome, value.to_string())] {
                text += &format!(
                    r#"{{"index":{index},"time":{index},"process":{process},"type":"{kind}","f":"{f}","key":"{key}","value":{value},"phase":"{phase}"}}"#
                );
                text += "\n";
                index += 1;
            }
        };
        for n in 1..40 {
            operation(1, "r", "write", n % 7, "ok", "load");
            operation(2, "s", "write", n, "ok", "load");
            operation(100 + n as u64, "c", "add", 1 << n, if n % 2 == 0 { "ok" } else { "info" }, "load");
        }
        operation(1, "c", "read", -1, "ok", "load");
        for _ in 0..5 {
            operation(1, "r", "read", 39 % 7, "ok", "final");
            operation(2, "s", "read", 7, "ok", "final");
        }
        let path = Path::new("history.jsonl");
        let history = crate::history::parse(path, &mut text.as_bytes()).unwrap();
        let lines =
            (1..5000).map(|at| trace::Line { at, event: trace::Event::Durable { lsn: at } }).collect();
        Recorded { traces: vec![Trace { node: "n1".into(), lines }], ..Recorded::bare(history) }
    }

    #[test]
    fn wherever_the_clock_fires_nothing_false_is_said_and_little_is_done_after() {
        let options = Options { steps: 20_000, ..Options::default() };
        let judged_with = |deadline: Deadline| {
            let net = Net { judging: deadline, certifying: deadline, rest: deadline };
            let (mut report, history, judgements, budget) =
                judged_within(Path::new("run"), &options, recorded(), net);
            let text = certificate(&mut report, &history, judgements, budget);
            (report, text)
        };
        let (full, certified) = judged_with(Deadline::NEVER);
        assert_eq!((full.keys.valid, full.keys.invalid, full.keys.unknown), (1, 1, 1), "{}", full.render());
        let writes = |d: &crate::report::Durability| d.stable + d.overwritten + d.lost + d.indeterminate;
        let mut seen = BTreeSet::new();
        for looks in 0.. {
            let (deadline, count) = Deadline::after_looks(looks);
            let (report, text) = judged_with(deadline);
            assert!(count.in_vain() <= 16, "{} looks after {looks}", count.in_vain());
            assert_eq!(writes(&report.durability), writes(&full.durability), "after {looks}");
            for (name, check) in &report.checks {
                let verdict = full.checks[name].verdict;
                assert!([verdict, Verdict::Unknown].contains(&check.verdict), "{name} after {looks}");
            }
            let json = report.to_json();
            let told: Vec<&str> = [
                "the time of its budget",
                "the wall clock ended the search for the order",
                "the wall clock ended the shrinking",
                "the wall clock ended the accounting",
                "the wall clock ended the judging of the traces",
            ]
            .into_iter()
            .filter(|words| json.contains(words))
            .collect();
            if told.is_empty() {
                assert_eq!((json, text), (full.to_json(), certified), "after {looks}");
                break;
            }
            seen.extend(told);
        }
        assert_eq!(seen.len(), 5, "{seen:?}");
    }

    #[test]
    fn lost_writes_are_told_first_and_keys_stay_together() {
        let violation = |check: &str, class: &str, key: Option<&str>| Violation {
            check: check.into(),
            class: class.into(),
            key: key.map(str::to_owned),
            reason: String::new(),
            operations: Vec::new(),
            events: Vec::new(),
        };
        let mut violations = [
            violation("log_matching", "diverging logs", None),
            violation("linearizability", "stale read", Some("r1")),
            violation("linearizability", "stale read", Some("r2")),
            violation("durability", "lost write", Some("r2")),
        ];
        sort_violations(&mut violations);
        let order: Vec<(&str, &str)> =
            violations.iter().map(|v| (v.check.as_str(), v.class.as_str())).collect();
        assert_eq!(
            order,
            [
                ("durability", "lost write"),
                ("linearizability", "stale read"),
                ("linearizability", "stale read"),
                ("log_matching", "diverging logs"),
            ]
        );
        assert_eq!(violations[1].key.as_deref(), Some("r2"));
    }
}
