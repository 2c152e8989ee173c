//! Every byte that a person reads: stdout is the result, stderr the progress on a terminal.
//! The `check` line and the reasons of a verdict are the checker's words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use checker::Verdict;
use checker::follow::Violation;
use indicatif::{ProgressBar, ProgressStyle};

#[cfg(debug_assertions)]
use super::duds::Row as DudRow;
use super::list::What;
use crate::NodeId;
use crate::anchor::Moment;
use crate::aside::Turn;
use crate::campaign::{Campaign, Row, worst};
use crate::clock::Bending;
use crate::disk::Store;
use crate::doctor::Finding;
use crate::fault::FaultKind;
use crate::net::Backend;
use crate::profile::{self, Profile};
use crate::run::{Finished, Stage};
use crate::run_dir::{RunDir, node_name};
use crate::spec::{Spec, WorkloadKind};
#[cfg(debug_assertions)]
use crate::summary::Summary;
use crate::system::description;
use crate::tally::{FaultTally, Tally};

/// Column in which the duration of a phase ends.
const WIDTH: usize = 78;

/// Prints a text and a newline to stdout. A reader that went away is no error: the verdict is in the exit code, too.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

/// Prints an error and the way out to stderr.
pub(super) fn failure(error: &anyhow::Error, hint: Option<&str>) {
    // Every error of ours names its cause itself: the chain would say it twice.
    let mut text = format!("error: {error}\n");
    if let Some(hint) = hint {
        let _ = write!(text, "\nhint: {hint}\n");
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints one run, phase by phase; nothing at all in JSON mode.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Printer {
        Printer { json }
    }

    fn say(&self, text: &str) {
        if !self.json {
            say(text);
        }
    }

    pub(super) fn head(&self, spec: &Spec) {
        self.say(&format!("run {:#x}   {}", spec.seed, spec_words(spec)));
        self.say(&format!("  net     {}", net_words(spec.net)));
    }

    /// The bar of the load; none in JSON mode.
    pub(super) fn bar(&self, time_ms: u64) -> ProgressBar {
        if self.json {
            return ProgressBar::hidden();
        }
        bar(time_ms, "  load    [{bar:30}] {msg}")
    }

    pub(super) fn stage(&self, stage: &Stage<'_>, bar: &ProgressBar) {
        match stage {
            Stage::Setup { leader, took } => {
                let text = match leader {
                    Some(leader) => format!("  setup   leader n{}, term {}", leader.node, leader.term),
                    None => "  setup   every node is ready".to_owned(),
                };
                self.say(&timed(&text, *took));
            }
            Stage::Loading { tally, elapsed } => {
                bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
                bar.set_message(format!("{} ok   {} fail   {} info", tally.ok, tally.fail, tally.info));
            }
            Stage::Violated { violation, noticed, elapsed, frozen } => {
                bar.suspend(|| self.violated(violation, *noticed, *elapsed, *frozen));
            }
            Stage::Loaded { tally, took } => {
                bar.finish_and_clear();
                self.say(&timed(&load_words(tally), *took));
                self.say(&fault_lines(&tally.faults));
                let starts: u64 = tally.faults.values().map(|tally| tally.injected).sum();
                if starts > 0 {
                    let a_minute = starts as f64 * 60.0 / took.as_secs_f64().max(1.0);
                    self.say(&format!("  pace    {a_minute:.0} fault starts a minute"));
                }
            }
            Stage::Held { held } => self.say(&timed(&format!("  quorum  {}", held.detail), held.waited)),
            Stage::Aside { turns, took } => self.say(&timed(&turn_words(turns), *took)),
            Stage::Settled { settled, took } => {
                self.say(&timed(&format!("  settle  {}", settled.detail), *took));
            }
        }
    }

    fn violated(
        &self,
        violation: &Violation,
        noticed: Duration,
        elapsed: Duration,
        frozen: Option<&[(NodeId, u32)]>,
    ) {
        let text = format!("  wrong   {} of {}: {}", violation.class, violation.key, violation.reason);
        self.say(&timed(&text, elapsed));
        self.say(&format!("          noticed {:.2} s after it happened", noticed.as_secs_f64()));
        let Some(frozen) = frozen else { return };
        let nodes: Vec<String> = frozen.iter().map(|(node, pid)| format!("n{node} {pid}")).collect();
        let (_, first) = frozen.first().copied().unwrap_or_default();
        let text = format!(
            "  frozen  {}\n          look:    gdb -p {first}, or cat /proc/{first}/status; their files are under nodes/\n          \
             go on:   Ctrl-C heals and judges, a second one kills everything",
            nodes.join("   ")
        );
        // Whoever asked for JSON reads stdout to its one line, but somebody has to be told.
        if self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
        self.say(&text);
    }

    pub(super) fn verdict(&self, finished: &Finished, dir: &RunDir) {
        let Finished { elections, elections_by_fault, .. } = finished;
        if finished.tells_elections {
            self.say(&format!(
                "  leaders {elections} elected during the load   {elections_by_fault} by a fault"
            ));
        }
        // Of one run, that it never did this or that is no news.
        for line in seen(&finished.sometimes) {
            self.say(&line);
        }
        for warning in &finished.warnings {
            self.say(&format!("  warning {warning}"));
        }
        let text = finished.report.render();
        let (check, rest) = text.split_once('\n').unwrap_or((&text, ""));
        self.say(&timed(check, finished.check_took));
        self.say(rest);
        self.say(&format!("  replay  harness replay {}", dir.path().display()));
    }
}

/// A bar on stderr, invisible where that is no terminal.
pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style.progress_chars("=> "))
}

/// `text`, with a duration at the right margin.
fn timed(text: &str, took: Duration) -> String {
    let took = format!("{:.1} s", took.as_secs_f64());
    let gap = WIDTH.saturating_sub(text.chars().count() + took.len()).max(2);
    format!("{text}{:gap$}{took}", "")
}

/// How what nodes send passes through the harness.
fn net_words(net: Backend) -> &'static str {
    match net {
        Backend::Proxy => "proxy: sockets on loopback addresses",
        Backend::Switch => "switch: every node has a host of its own, and clients have one",
    }
}

/// `5 nodes   mixed   30 s`.
fn spec_words(spec: &Spec) -> String {
    let mut words =
        format!("{} nodes   {}   {} s", spec.nodes, spec.workload.name(), spec.time_ms as f64 / 1_000.0);
    if let Some(system) = &spec.system {
        words = format!("{system}   {words}");
    }
    if spec.disk != Store::Real {
        let _ = write!(words, "   disk {}", spec.disk.name());
    }
    if spec.clocks != Bending::Memory {
        let _ = write!(words, "   clocks {}", spec.clocks.name());
    }
    if spec.blind {
        words += "   blind";
    }
    if let Some(bug) = &spec.bug {
        let _ = write!(words, "   planted {bug}");
    }
    words
}

fn load_words(tally: &Tally) -> String {
    format!(
        "  load    {} operations   {} ok   {} fail   {} info",
        tally.operations(),
        tally.ok,
        tally.fail,
        tally.info
    )
}

/// `aside n2 n1 n3 in turn: the others told 17 keys each time`, or `turns n2 n1 n3 n4 n5 as the only one that others hear: …`.
fn turn_words(turns: &[Turn]) -> String {
    let nodes: Vec<String> = turns.iter().map(|turn| node_name(turn.node)).collect();
    let nodes = nodes.join(" ");
    let keys = turns.iter().map(|turn| turn.keys).min().unwrap_or_default();
    let silent = turns.iter().find(|turn| !turn.served).map(|turn| node_name(turn.node));
    match (turns.iter().all(|turn| turn.hub), silent) {
        (true, None) => format!("  turns   {nodes} led in turn: each told {keys} keys or more"),
        (true, Some(silent)) => {
            format!("  turns   {nodes} in turn: heard alone, {silent} did not serve in time")
        }
        (false, None) => format!("  aside   {nodes} in turn: the others told {keys} keys each time"),
        (false, Some(silent)) => {
            format!("  aside   {nodes} in turn: without {silent} the others did not serve in time")
        }
    }
}

/// One kind: `kill 9`, `kill 8/9` if one had no effect, and its telling counter.
fn fault_words(kind: &str, tally: &FaultTally) -> String {
    let mut words = if tally.bit == tally.injected {
        format!("{kind} {}", tally.bit)
    } else {
        format!("{kind} {}/{}", tally.bit, tally.injected)
    };
    // The first of those that a kind has: streams are held where datagrams are dropped.
    let counters: &[&str] = match kind {
        "partition" => &["dropped", "held", "delayed"],
        "cut_clients" => &["dropped", "delayed"],
        "loss" => &["dropped", "stalled"],
        "delay" | "rate" => &["delayed"],
        "duplicate" => &["duplicated"],
        "reorder" => &["reordered"],
        "corrupt" | "garble" => &["corrupted"],
        "replay" => &["replayed"],
        "reset" => &["reset"],
        "starve" => &["stops"],
        "rolling_restart" => &["restarted"],
        "memory_limit" => &["killed", "hits"],
        "eio" | "disk_full" | "slow_fsync" => &["answered"],
        _ => &[],
    };
    if let Some((counter, count)) = counters.iter().find_map(|c| Some((c, tally.evidence.get(*c)?))) {
        let _ = write!(words, " ({count} {counter})");
    }
    words
}

/// The faults in lines of bounded width.
fn fault_lines(faults: &BTreeMap<String, FaultTally>) -> String {
    if faults.is_empty() {
        return "  faults  none".to_owned();
    }
    // In the order of `harness list`, not of the alphabet.
    let words = FaultKind::ALL
        .into_iter()
        .filter_map(|kind| faults.get(kind.name()).map(|tally| fault_words(kind.name(), tally)));
    let (mut lines, mut line) = (Vec::new(), "  faults".to_owned());
    for (i, word) in words.enumerate() {
        if line.len() + 3 + word.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(8)));
            line += "  ";
        } else {
            line += if i == 0 { "  " } else { "   " };
        }
        line += &word;
    }
    lines.push(line);
    lines.join("\n")
}

/// Rare facts that were so, with their counts.
fn seen(facts: &BTreeMap<String, u64>) -> impl Iterator<Item = String> {
    let seen = facts.iter().filter(|(_, count)| **count > 0);
    seen.map(|(name, count)| format!("  seen    {name}: {count}"))
}

/// The same, and those that never were so.
fn sometimes(facts: &BTreeMap<String, u64>) -> String {
    let never = facts.iter().filter(|(_, count)| **count == 0).map(|(name, _)| format!("  never   {name}"));
    seen(facts).chain(never).map(|line| line + "\n").collect()
}

/// A part of `harness list`.
pub(super) fn list(what: What) -> String {
    let row = |name: &str, about: &str| format!("  {name:<15} {about}").trim_end().to_owned() + "\n";
    match what {
        What::Workloads => {
            let rows = WorkloadKind::ALL.into_iter().map(|kind| row(kind.name(), kind.summary()));
            "workloads\n".to_owned() + &rows.collect::<String>()
        }
        What::Faults => {
            let rows = FaultKind::ALL.into_iter().map(|kind| row(kind.name(), kind.summary()));
            "faults\n".to_owned() + &rows.collect::<String>()
        }
        What::Profiles => {
            let about =
                |name| Profile::load(name).map_or_else(|error| error.to_string(), |found| found.about);
            let rows = profile::SHIPPED.into_iter().map(|(name, _)| row(name, &about(name)));
            "profiles\n".to_owned() + &rows.collect::<String>()
        }
        What::Anchors => {
            let rows = Moment::ALL.into_iter().map(|moment| row(moment.name(), moment.summary()));
            "anchors\n".to_owned() + &rows.collect::<String>()
        }
        What::Systems => {
            let rows = description::SHIPPED.into_iter().map(|(name, _)| row(name, ""));
            "systems\n".to_owned() + &rows.collect::<String>()
        }
    }
}

/// `harness doctor`.
pub(super) fn doctor(found: &[Finding], swept: &[String]) -> String {
    let mut text = "this machine allows\n".to_owned();
    for finding in found {
        let Finding { name, about, refused, hint } = finding;
        let _ = match refused {
            None => writeln!(text, "  {name:<10} yes   {about}"),
            Some(reason) => {
                writeln!(text, "  {name:<10} no    {about}\n{:18}{reason}\n{:18}hint: {hint}", "", "")
            }
        };
    }
    text += "left by earlier runs\n";
    if swept.is_empty() {
        text += "  nothing\n";
    }
    for what in swept {
        let _ = writeln!(text, "  {what}: removed");
    }
    text
}

/// The head of a campaign's table.
pub(super) fn campaign_head(campaign: &Campaign, spec: &Spec) -> String {
    let runs = campaign.runs.map(|runs| format!("   {runs} runs")).unwrap_or_default();
    let budget = campaign.budget.map(|b| format!("   {}", humantime::format_duration(b))).unwrap_or_default();
    format!(
        "campaign {:#x}{runs}{budget}   {}\n{:>5}  {:<12} {:>8} {:>6} {:>6}  {:>7}  {:<7}  faults that bit",
        campaign.seed,
        spec_words(spec),
        "run",
        "seed",
        "ok",
        "fail",
        "info",
        "leaders",
        "verdict",
    )
}

/// One row of a campaign's table.
pub(super) fn campaign_row(row: &Row) -> String {
    let start = format!("{:>5}  {:<12}", row.rank, format!("{:#x}", row.seed));
    match &row.outcome {
        Ok(summary) => {
            let words = |kind: FaultKind| {
                let FaultTally { bit, injected, .. } = summary.faults.get(kind.name())?;
                Some(if bit == injected {
                    format!("{kind} {bit}", kind = kind.name())
                } else {
                    format!("{} {bit}/{injected}", kind.name())
                })
            };
            let mut faults = FaultKind::ALL.into_iter().filter_map(words).collect::<Vec<_>>().join(" ");
            if let Some(reason) = summary.class.as_ref().or(summary.reason.as_ref()) {
                let _ = write!(faults, "   {reason}");
            }
            let leaders = format!("{}/{}", summary.elections_by_fault, summary.elections);
            format!(
                "{start} {:>8} {:>6} {:>6}  {leaders:>7}  {:<7}  {faults}",
                summary.ok,
                summary.fail,
                summary.info,
                summary.verdict.to_string(),
            )
        }
        Err(reason) => {
            format!("{start} {:>8} {:>6} {:>6}  {:>7}  {:<7}  {reason}", "-", "-", "-", "-", "error")
        }
    }
}

/// The end of a campaign: its verdict, and what to type next.
pub(super) fn campaign_end(campaign: &Campaign, rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    let counts = [Verdict::Valid, Verdict::Invalid, Verdict::Unknown, Verdict::Error]
        .map(|verdict| (verdict, count(verdict)))
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(verdict, n)| format!("{n} {verdict}"))
        .collect::<Vec<_>>()
        .join("   ");
    let worst = worst(rows);
    let mut facts = BTreeMap::<String, u64>::new();
    for (name, count) in rows.iter().filter_map(|row| row.outcome.as_ref().ok()).flat_map(|s| &s.sometimes) {
        *facts.entry(name.clone()).or_default() += count;
    }
    let mut text = sometimes(&facts);
    let _ = writeln!(text, "{}  {} runs   {counts}", worst.to_string().to_uppercase(), rows.len());
    if let Some(row) = rows.iter().find(|row| worst != Verdict::Valid && row.verdict() == worst) {
        let dir = campaign.dir.join(format!("{:#x}", row.seed));
        let _ = write!(text, "  check   checker check {0}\n  replay  harness replay {0}", dir.display());
    }
    text
}

/// The head of the table of duds.
#[cfg(debug_assertions)]
pub(super) fn duds_head(spec: &Spec) -> String {
    format!("duds   seed {:#x}   {}\n{:<16} {:<38} as a dud", spec.seed, spec_words(spec), "kind", "with it")
}

/// One kind: the verdict with it, how many of its faults bit and what was counted; the same as a dud, and why.
#[cfg(debug_assertions)]
pub(super) fn duds_row(row: &DudRow, right: bool) -> String {
    let bites = |summary: &Summary| {
        let tally = summary.faults.get(row.kind.name()).cloned().unwrap_or_default();
        format!("{} {}/{}", summary.verdict, tally.bit, tally.injected)
    };
    let with = match &row.with {
        Err(error) => error.clone(),
        Ok(summary) => {
            let evidence = summary.faults.get(row.kind.name()).map(|tally| &tally.evidence);
            let most = evidence.into_iter().flatten().filter(|(name, count)| {
                **count > 0 && !["term", "matched", "confirmed", "denied"].contains(&name.as_str())
            });
            let most = most.max_by_key(|(_, count)| **count);
            let most = most.map(|(name, count)| format!("   {name} {count}")).unwrap_or_default();
            format!("{}{most}", bites(summary))
        }
    };
    let dud = match &row.dud {
        Err(error) => error.clone(),
        Ok(summary) => format!("{}   {}", bites(summary), summary.reason.as_deref().unwrap_or("no reason")),
    };
    let name = row.kind.name();
    format!("{name:<16} {with:<38} {dud}{}", if right { "" } else { "   WRONG" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Summary;

    fn tally(injected: u64, bit: u64, evidence: &[(&str, u64)]) -> FaultTally {
        let evidence = evidence.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        FaultTally { injected, bit, skipped: 0, evidence }
    }

    #[test]
    fn the_lines_of_a_run_look_like_the_sample_of_the_architecture() {
        let spec =
            Spec { seed: 0x51f2, workload: WorkloadKind::Register, time_ms: 60_000, ..Spec::default() };
        assert_eq!(spec_words(&spec), "5 nodes   register   60 s");
        assert_eq!(
            spec_words(&Spec { bug: Some("A03".to_owned()), ..spec }),
            "5 nodes   register   60 s   planted A03"
        );
        let line = timed("  setup   leader n3, term 2", Duration::from_millis(812));
        assert_eq!(line, "  setup   leader n3, term 2                                              0.8 s");
        let tally = Tally { ok: 39_871, fail: 612, info: 725, ..Tally::default() };
        assert_eq!(load_words(&tally), "  load    41208 operations   39871 ok   612 fail   725 info");
    }

    #[test]
    fn faults_come_in_the_order_of_the_list_and_lines_are_not_too_wide() {
        assert_eq!(fault_lines(&BTreeMap::new()), "  faults  none");
        let mut faults = BTreeMap::from([
            ("partition".to_owned(), tally(6, 6, &[("dropped", 118_402), ("matched", 118_402)])),
            ("kill".to_owned(), tally(9, 9, &[])),
        ]);
        assert_eq!(fault_lines(&faults), "  faults  kill 9   partition 6 (118402 dropped)");
        faults.insert("pause".to_owned(), tally(3, 2, &[]));
        for (kind, counter) in
            [("delay", "delayed"), ("duplicate", "duplicated"), ("reorder", "reordered"), ("loss", "dropped")]
        {
            faults.insert(kind.to_owned(), tally(2, 2, &[(counter, 12_345)]));
        }
        let text = fault_lines(&faults);
        assert!(text.starts_with("  faults  kill 9   pause 2/3   partition 6 (118402 dropped)"), "{text}");
        assert!(text.lines().all(|l| l.len() <= WIDTH) && text.lines().count() > 1, "{text}");
        assert!(text.lines().skip(1).all(|l| l.starts_with("          ") && !l.ends_with(' ')), "{text}");
    }

    #[test]
    fn a_campaign_sums_what_its_runs_saw_and_says_what_none_did() {
        let facts = |count| BTreeMap::from([("a".to_owned(), count), ("b".to_owned(), 0)]);
        assert_eq!(sometimes(&facts(3)), "  seen    a: 3\n  never   b\n");
        assert_eq!(sometimes(&BTreeMap::new()), "");
        let text = r#"{"seed":"0x1","dir":"x","verdict":"valid","ok":1,"fail":0,"info":0,"faults":{},"elections":0,"elections_by_fault":0}"#;
        let row = |count| {
            let summary: Summary = serde_json::from_str(text).unwrap();
            Row { rank: 1, seed: 1, outcome: Ok(Summary { sometimes: facts(count), ..summary }) }
        };
        let campaign = Campaign {
            seed: 1,
            runs: Some(3),
            budget: None,
            jobs: 1,
            flags: Vec::new(),
            keep: crate::campaign::Keep::Fail,
            dir: "x".into(),
            run_time_max: Duration::from_secs(1),
        };
        let lost = Row { rank: 3, seed: 1, outcome: Err("exit 3".to_owned()) };
        let said = campaign_end(&campaign, &[row(3), row(4), lost]);
        assert!(
            said.starts_with("  seen    a: 7\n  never   b\nERROR  3 runs   2 valid   1 error\n"),
            "{said}"
        );
    }

    #[test]
    fn the_doctor_says_how_to_get_what_is_refused() {
        let finding = |name, refused| Finding { name, about: "something", refused, hint: "do this" };
        let found = [finding("fuse", None), finding("tun", Some("no such file".to_owned()))];
        let text = doctor(&found, &["mount x".to_owned()]);
        let expected = "this machine allows\n  fuse       yes   something\n  tun        no    something\n                  no such file\n                  hint: do this\nleft by earlier runs\n  mount x: removed\n";
        assert_eq!(text, expected);
        assert!(doctor(&found, &[]).ends_with("left by earlier runs\n  nothing\n"));
    }

    #[test]
    fn the_list_names_every_workload_and_fault() {
        let text = What::ALL.map(list).concat();
        for name in
            WorkloadKind::ALL.map(WorkloadKind::name).into_iter().chain(FaultKind::ALL.map(FaultKind::name))
        {
            assert!(
                text.lines().any(|l| l.split_whitespace().next() == Some(name)),
                "{name} is missing:\n{text}"
            );
        }
    }
}
