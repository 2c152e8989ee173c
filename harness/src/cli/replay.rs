//! `harness replay`: the recorded faults of a run, on a new cluster.
//! Real processes never repeat exactly; what is the same is the spec, the schedule and the streams of operations.

use std::path::PathBuf;

use super::Failure;
use super::run::execute;
use crate::run_dir::RunDir;
use crate::run_file::RunFile;
use crate::schedule::Schedule;
use crate::system::Described;
use crate::watch::OnViolation;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run directory whose run.json and schedule.jsonl say what to do
    run: PathBuf,
    /// Run directory of the replay [default: runs/SEED-replay, or with -2, -3, … if that is taken]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to do when the history becomes invalid
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    on_violation: OnViolation,
    /// Print one line of JSON instead of the summary
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let dir = RunDir::open(&args.run);
    let hint = "name a directory that `harness run` made, such as runs/0x51f2";
    let file = RunFile::read(&dir).map_err(|error| Failure::hint(error, hint))?;
    let schedule = Schedule::read(&dir.schedule()).map_err(|error| Failure::hint(error, hint))?;
    let name = format!("{:#x}-replay", file.spec.seed);
    // The description as it was: its file may have changed since.
    let text = dir.system().display().to_string();
    let system = file.spec.system.as_ref().map(|_| Described::load(&text, file.spec.binary.as_deref()));
    let system = system.transpose().map_err(|error| {
        let hint = error.hint();
        Failure::hint(error, hint)
    })?;
    execute(file.spec, schedule, system, args.out.as_deref(), &name, args.on_violation, args.json)
}
