//! Judges the history while it is written, so that a run can end at its first violation: the checker's `follow`, on the file that the
//! recorder appends to. What is not followed there, lists and repeated values, is found by the judge at the end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use checker::follow::{Follower, SLACK, Violation};

/// How long the follower sleeps at the end of the file.
const POLL: Duration = Duration::from_millis(20);

/// What a run does when its history became invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnViolation {
    /// End the load, heal, settle, judge.
    #[default]
    Stop,
    /// Stop every process of the cluster (SIGSTOP) and wait for Ctrl-C; then the same.
    Freeze,
    /// Go on to the planned end.
    Continue,
}

/// Follows the history of one run.
#[derive(Debug, Default)]
pub struct Watch {
    found: OnceLock<Violation>,
}

impl Watch {
    /// The first violation, once there is one.
    pub fn found(&self) -> Option<&Violation> {
        self.found.get()
    }

    /// Follows `history` until something is wrong or `stop` is set; `now` tells the time of the history. A history that cannot be
    /// followed is left to the judge.
    pub fn follow(&self, history: &Path, now: &dyn Fn() -> u64, stop: &AtomicBool) {
        let Ok(file) = File::open(history) else { return };
        let mut source = BufReader::new(file);
        let (mut line, mut number) = (Vec::new(), 0);
        let mut follower: Option<Follower> = None;
        while !stop.load(Ordering::Relaxed) {
            match source.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {}
                Ok(_) => {
                    // The end so far, perhaps within a line. What is this old waits for nothing earlier any more.
                    std::thread::sleep(POLL);
                    if let Some(follower) = &mut follower {
                        follower.until(now().saturating_sub(2 * SLACK));
                        if self.tell(follower) {
                            return;
                        }
                    }
                    continue;
                }
                Err(_) => return,
            }
            number += 1;
            let taken = match &mut follower {
                Some(follower) => follower.line(number, &line),
                None => Follower::new(history, &line).map(|new| follower = Some(new)),
            };
            line.clear();
            if taken.is_err() || follower.as_ref().is_some_and(|follower| self.tell(follower)) {
                return;
            }
        }
    }

    /// Whether something was wrong.
    fn tell(&self, follower: &Follower) -> bool {
        let first = follower.followed().violations.first();
        if let Some(violation) = first {
            self.found.get_or_init(|| violation.clone());
        }
        first.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::atomic::AtomicU64;

    const HEADER: &str = r#"{"format":"whitewater-history","version":"1.0","workload":"register","models":{"r":"cas-register"},"clock":"monotonic-ns","nodes":["n1"]}"#;

    /// Lines of a register that is written twice and then read as `value`.
    fn history(value: i64) -> String {
        let operations = [("write", 1, 1), ("write", 2, 2), ("read", 0, value)];
        let mut text = HEADER.to_owned() + "\n";
        for (i, (f, argument, result)) in (0..).zip(operations) {
            let argument = if f == "read" { "null".to_owned() } else { argument.to_string() };
            for (j, kind, value) in [(0, "invoke", &argument), (1, "ok", &result.to_string())] {
                let index = 2 * i + j;
                let time = 1_000 * (index + 1);
                text += &format!(
                    "{{\"index\":{index},\"time\":{time},\"process\":0,\"type\":\"{kind}\",\"f\":\"{f}\",\"key\":\"r0\",\"value\":{value}}}\n"
                );
            }
        }
        text
    }

    /// Follows a history that is written in two parts, torn in a line; nothing comes after it but time.
    fn followed(text: &str) -> Option<Violation> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let (early, late) = text.split_at(text.len() / 2);
        let mut file = File::create(&path).unwrap();
        file.write_all(early.as_bytes()).unwrap();
        let (watch, stop, time) = (Watch::default(), AtomicBool::new(false), AtomicU64::new(0));
        let now = || time.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| watch.follow(&path, &now, &stop));
            file.write_all(late.as_bytes()).unwrap();
            // Until now the last operation may still have been preceded by what is not written yet.
            time.store(u64::MAX, Ordering::Relaxed);
            for _ in 0..100 {
                if follower.is_finished() {
                    break;
                }
                std::thread::sleep(POLL);
            }
            stop.store(true, Ordering::Relaxed);
        });
        watch.found().cloned()
    }

    #[test]
    fn a_violation_is_found_while_the_history_grows_and_nothing_where_there_is_none() {
        let violation = followed(&history(1)).unwrap();
        assert_eq!((violation.key.as_str(), violation.class), ("r0", "stale read"));
        assert_eq!(followed(&history(2)), None);
        assert_eq!(followed("no history\n"), None);
    }
}
