//! Many runs with seeds of their own: each a child `harness run`, so that nothing of one run leaks into the next.
//! One run is [`crate::run`]'s business; how the table looks, the command line's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use checker::Verdict;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;

use crate::random::{Purpose, stream};
use crate::summary::Summary;

/// How often children are looked at.
const POLL: Duration = Duration::from_millis(50);

/// Which run directories stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those of runs that were not valid.
    Fail,
    /// All.
    All,
}

/// A campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seeds of the runs are drawn from it.
    pub seed: u64,
    /// Ends after so many runs.
    pub runs: Option<u32>,
    /// Starts no run after so long.
    pub budget: Option<Duration>,
    /// Runs at a time.
    pub jobs: u32,
    /// Flags of every `harness run`.
    pub flags: Vec<String>,
    /// Which run directories stay.
    pub keep: Keep,
    /// Where the run directories are.
    pub dir: PathBuf,
    /// A run that takes longer than this is stuck.
    pub run_time_max: Duration,
}

/// One run of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its rank, from 1.
    pub rank: u32,
    /// Its seed.
    pub seed: u64,
    /// What it said, or why it said nothing.
    pub outcome: Result<Summary, String>,
}

impl Row {
    /// Its verdict; a run that said nothing is an error of the tool.
    pub fn verdict(&self) -> Verdict {
        self.outcome.as_ref().map_or(Verdict::Error, |summary| summary.verdict)
    }
}

/// The verdict over many runs: invalid, then error, then unknown, then valid decides. None at all is unknown.
pub fn worst(rows: &[Row]) -> Verdict {
    rows.iter().map(Row::verdict).reduce(Verdict::worst).unwrap_or(Verdict::Unknown)
}

/// A run under way.
struct Job {
    rank: u32,
    seed: u64,
    child: Child,
    started: Instant,
    dir: PathBuf,
    stderr: PathBuf,
}

impl Campaign {
    /// The seeds of its runs, without end. Short enough to be typed.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + use<> {
        let mut rng = stream(self.seed, Purpose::Campaign, 0);
        std::iter::from_fn(move || Some(u64::from(rng.next_u32())))
    }

    /// Runs it with the `harness` executable at `harness`. Each row is shown to `observe` when it ends. `interrupted` is handed on
    /// to the runs, which heal, drain and judge; no other is started.
    ///
    /// # Errors
    /// A child or a file could not be created.
    pub fn run(
        &self,
        harness: &Path,
        interrupted: &AtomicBool,
        observe: &mut dyn FnMut(&Row),
    ) -> io::Result<Vec<Row>> {
        fs::create_dir_all(&self.dir)?;
        let started = Instant::now();
        let mut seeds = (1..).zip(self.seeds());
        let (mut jobs, mut rows, mut told) = (Vec::<Job>::new(), Vec::new(), false);
        loop {
            let stop = interrupted.load(Ordering::Relaxed);
            let open = |rank: u32| {
                !stop
                    && self.runs.is_none_or(|runs| rank <= runs)
                    && self.budget.is_none_or(|budget| started.elapsed() < budget)
            };
            while jobs.len() < self.jobs as usize && open(1 + (rows.len() + jobs.len()) as u32) {
                let Some((rank, seed)) = seeds.next() else { break };
                jobs.push(self.start(harness, rank, seed)?);
            }
            if jobs.is_empty() {
                return Ok(rows);
            }
            if stop && !told {
                told = true;
                for job in &jobs {
                    // A child that ended in this instant needs no signal.
                    let _ = kill(pid(&job.child), Signal::SIGINT);
                }
            }
            std::thread::sleep(POLL);
            let mut i = 0;
            while i < jobs.len() {
                if jobs[i].started.elapsed() > self.run_time_max {
                    jobs[i].child.kill()?;
                }
                match jobs[i].child.try_wait()? {
                    Some(status) => {
                        let row = self.end(jobs.swap_remove(i), status)?;
                        observe(&row);
                        rows.push(row);
                    }
                    None => i += 1,
                }
            }
        }
    }

    fn start(&self, harness: &Path, rank: u32, seed: u64) -> io::Result<Job> {
        let dir = self.dir.join(format!("{seed:#x}"));
        let stderr = self.dir.join(format!("{seed:#x}.stderr"));
        let mut command = Command::new(harness);
        command.args(["run", "--json", "--seed", &format!("{seed:#x}"), "--out"]).arg(&dir).args(&self.flags);
        // A group of its own: Ctrl-C on the terminal reaches the campaign alone, which hands it on once.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&stderr)?);
        // SAFETY: prctl(2) is async-signal-safe and touches nothing of the parent. The signal comes when the thread that
        // forked ends, and this is the thread that waits for the child.
        unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
        }
        let child = command.spawn()?;
        Ok(Job { rank, seed, child, started: Instant::now(), dir, stderr })
    }

    fn end(&self, mut job: Job, status: ExitStatus) -> io::Result<Row> {
        let mut line = String::new();
        if let Some(mut stdout) = job.child.stdout.take() {
            stdout.read_to_string(&mut line)?;
        }
        let said = fs::read_to_string(&job.stderr).unwrap_or_default();
        let outcome = match serde_json::from_str::<Summary>(&line) {
            Ok(summary) if status.code() == Some(i32::from(summary.verdict.exit_code())) => Ok(summary),
            Ok(_) | Err(_) => Err(explain(status, &said)),
        };
        let row = Row { rank: job.rank, seed: job.seed, outcome };
        if said.is_empty() {
            fs::remove_file(&job.stderr)?;
        }
        if self.keep == Keep::Fail && row.verdict() == Verdict::Valid {
            fs::remove_dir_all(&job.dir)?;
        }
        Ok(row)
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Why a run said nothing: how it ended, and its error line if it had one.
fn explain(status: ExitStatus, stderr: &str) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    match stderr.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some(error) => format!("{how}: {error}"),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn campaign(dir: &Path, runs: u32, jobs: u32) -> Campaign {
        Campaign {
            seed: 7,
            runs: Some(runs),
            budget: None,
            jobs,
            flags: vec!["--nodes".to_owned(), "3".to_owned()],
            keep: Keep::Fail,
            dir: dir.to_owned(),
            run_time_max: Duration::from_secs(20),
        }
    }

    /// A stand-in for `harness run`: makes its directory, and says the verdict that `script` decides.
    fn stand_in(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("stand-in");
        let text = format!(
            "#!/bin/sh\nseed=$4; out=$6; mkdir -p \"$out\"; echo \"$@\" > \"$out/args\"\n\
             say() {{ echo '{{\"seed\":\"'$seed'\",\"dir\":\"'$out'\",\"verdict\":\"'$1'\",\"ok\":1,\"fail\":0,\"info\":0,\
             \"faults\":{{}},\"elections\":0,\"elections_by_fault\":0}}'; exit $2; }}\n{script}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Runs a campaign over a stand-in; the verdicts in order of rank, and the names left in its directory.
    fn check(script: &str, runs: u32, jobs: u32) -> (Vec<Row>, Vec<String>) {
        let temporary = tempfile::tempdir().unwrap();
        let harness = stand_in(temporary.path(), script);
        let dir = temporary.path().join("campaign");
        let mut rows =
            campaign(&dir, runs, jobs).run(&harness, &AtomicBool::new(false), &mut |_| {}).unwrap();
        rows.sort_by_key(|row| row.rank);
        let mut names: Vec<String> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (rows, names)
    }

    #[test]
    fn valid_runs_leave_nothing_and_failing_ones_stay_whole() {
        let (rows, names) = check("say valid 0", 5, 2);
        assert_eq!(rows.len(), 5);
        assert_eq!(worst(&rows), Verdict::Valid);
        assert!(names.is_empty(), "{names:?}");

        let seeds: Vec<u64> = campaign(Path::new("x"), 3, 1).seeds().take(3).collect();
        let (rows, names) =
            check(&format!("[ $seed = {:#x} ] && say invalid 1; say valid 0", seeds[1]), 3, 1);
        let verdicts: Vec<Verdict> = rows.iter().map(Row::verdict).collect();
        assert_eq!(verdicts, [Verdict::Valid, Verdict::Invalid, Verdict::Valid]);
        assert_eq!(rows.iter().map(|r| r.seed).collect::<Vec<_>>(), seeds);
        assert_eq!(names, [format!("{:#x}", seeds[1])]);
        assert_eq!(worst(&rows), Verdict::Invalid);
    }

    #[test]
    fn a_run_that_says_nothing_or_contradicts_itself_is_an_error_with_its_reason() {
        let (rows, names) = check("echo 'error: no node executable' >&2; exit 3", 1, 1);
        assert_eq!(rows[0].outcome, Err("exit 3: no node executable".to_owned()));
        assert_eq!(names.len(), 2, "the run directory and its stderr stay: {names:?}");
        let (rows, _) = check("say valid 1", 1, 1);
        assert_eq!(rows[0].verdict(), Verdict::Error, "valid with exit code 1");
        let (rows, _) = check("kill -9 $$", 1, 1);
        assert_eq!(rows[0].outcome, Err("signal 9".to_owned()));
    }

    #[test]
    fn an_interrupt_starts_no_other_run_and_reaches_those_under_way() {
        let temporary = tempfile::tempdir().unwrap();
        let harness = stand_in(temporary.path(), "trap 'say unknown 2' INT; while :; do sleep 0.02; done");
        let dir = temporary.path().join("campaign");
        let interrupted = AtomicBool::new(false);
        let rows = std::thread::scope(|scope| {
            let thread = scope.spawn(|| campaign(&dir, 100, 1).run(&harness, &interrupted, &mut |_| {}));
            let args = dir.join(format!("{:#x}/args", campaign(&dir, 1, 1).seeds().next().unwrap()));
            while !args.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            // The trap is set right after the file: a signal before it would end the stand-in by signal 2.
            std::thread::sleep(Duration::from_millis(200));
            interrupted.store(true, Ordering::Relaxed);
            thread.join().unwrap().unwrap()
        });
        assert_eq!(rows.len(), 1);
        assert!(matches!(rows[0].verdict(), Verdict::Unknown | Verdict::Error), "{rows:?}");
    }

    #[test]
    fn no_run_at_all_is_unknown_and_seeds_are_reproducible() {
        assert_eq!(worst(&[]), Verdict::Unknown);
        let seeds =
            |seed| Campaign { seed, ..campaign(Path::new("x"), 1, 1) }.seeds().take(4).collect::<Vec<_>>();
        assert_eq!(seeds(1), seeds(1));
        assert_ne!(seeds(1), seeds(2));
    }
}
