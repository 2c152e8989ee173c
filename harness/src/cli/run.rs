//! `harness run`, and what it shares with `harness replay`: from a spec and a schedule to the exit code.
//! The phases themselves are in [`crate::run`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::print::{self, Printer};
use super::spec_args::{SpecArgs, fresh_seed, seed};
use super::{Failure, interrupts};
use crate::cluster::ClusterError;
use crate::run::{self, Plan, RunError};
use crate::run_dir::{DEFAULT_PARENT, RunDir, RunDirError};
use crate::schedule::Schedule;
use crate::spec::Spec;
use crate::summary::Summary;
use crate::system::whitewater::Whitewater;
use crate::system::{Described, System};
use crate::watch::OnViolation;
use crate::{planted, system};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Seed of everything that is drawn; printed first [default: a random one]
    #[arg(long, value_parser = seed)]
    seed: Option<u64>,
    /// Run directory [default: runs/SEED, or with -2, -3, … if that is taken]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to do when the history becomes invalid
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_violation: OnViolation,
    /// Print one line of JSON instead of the summary
    #[arg(long)]
    json: bool,
    /// A kind of fault whose injector does everything but hurt: the verdict must be unknown
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "KIND", hide = true)]
    dud: Option<crate::fault::FaultKind>,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    #[cfg(debug_assertions)]
    args.dud.into_iter().for_each(crate::dud::choose);
    let system = args.spec.system()?;
    let spec = args.spec.spec(args.seed.unwrap_or_else(fresh_seed), system.as_ref())?;
    let schedule = Schedule::plan(&spec);
    let name = format!("{:#x}", spec.seed);
    execute(spec, schedule, system, args.out.as_deref(), &name, args.on_violation, args.json)
}

/// Runs `schedule` on a new cluster in `out`, or in a fresh directory called `name`.
pub(super) fn execute(
    spec: Spec,
    schedule: Schedule,
    described: Option<Described>,
    out: Option<&Path>,
    name: &str,
    on_violation: OnViolation,
    json: bool,
) -> Result<u8, Failure> {
    let interrupted = interrupts()?;
    let printer = Printer::new(json);
    printer.head(&spec);
    let ours = if described.is_none() {
        Some(Whitewater::of(&spec, node_binary(spec.bug.as_deref())?))
    } else {
        None
    };
    let dir = match out {
        Some(path) => RunDir::create(path),
        None => RunDir::create_fresh(Path::new(DEFAULT_PARENT), name),
    }
    .map_err(|error| match error {
        RunDirError::Taken(_) => {
            Failure::hint(error, "name a directory that does not exist, or leave --out away")
        }
        RunDirError::Create { .. } => {
            Failure::hint(error, "name a directory below one that you may write, with --out")
        }
    })?;
    let system: Arc<dyn System> = match (described, ours) {
        (Some(described), _) => Arc::new(described.in_run(&dir)),
        (None, Some(ours)) => Arc::new(ours),
        (None, None) => return Err(Failure::from(anyhow::anyhow!("there is no system to run"))),
    };
    let (seed, time_ms) = (spec.seed, spec.time_ms);
    let plan = Plan { spec, schedule, dir, system, on_violation, command: std::env::args().collect() };
    let bar = printer.bar(time_ms);
    let finished = run::run(&plan, &interrupted, &mut |stage| printer.stage(&stage, &bar));
    bar.finish_and_clear();
    let finished = finished.map_err(|error| failure(error, &plan.dir))?;
    let code = finished.report.verdict.exit_code();
    if json {
        print::say(&serde_json::to_string(&Summary::new(seed, &plan.dir, &finished))?);
    } else {
        printer.verdict(&finished, &plan.dir);
    }
    Ok(code)
}

/// The node to run: the one beside this program, or one with planted bugs.
fn node_binary(bug: Option<&str>) -> Result<PathBuf, Failure> {
    match bug {
        None => {
            system::whitewater::find_binary().map_err(|error| Failure::hint(error, "cargo build --release"))
        }
        Some(_) => {
            let own = std::env::current_exe()?;
            planted::ensure(&own).map_err(|error| Failure::planted(error, &own))
        }
    }
}

fn failure(error: RunError, dir: &RunDir) -> Failure {
    let kept = format!("what was recorded so far is in {}", dir.path().display());
    let hint = match &error {
        RunError::Cluster(ClusterError::NoLeader { .. } | ClusterError::Died(_)) => {
            format!("read the stderr.log of the nodes; {kept}")
        }
        RunError::NeverServed { .. } => {
            let log = dir.driver_log();
            let driver = if log.exists() { format!("{} and ", log.display()) } else { String::new() };
            format!(
                "read {driver}the stderr.log of the nodes, or give them longer with --ready-within; {kept}"
            )
        }
        RunError::OwnFault(_) => {
            format!("let this machine do less at once, or ask for less with --clients and --rate; {kept}")
        }
        RunError::Broken(_) => format!("read {}; {kept}", dir.driver_log().display()),
        RunError::Disks(_) => {
            "`harness doctor` says what this machine lacks; --disk real does without".to_owned()
        }
        RunError::Network(_) => {
            "look for other runs that hold addresses or file descriptors (ulimit -n)".to_owned()
        }
        _ => kept,
    };
    Failure::hint(error, hint)
}
