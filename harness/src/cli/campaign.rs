//! `harness campaign`: flags of a campaign, its table, its exit code.
//! Running it is [`crate::campaign`]'s business.

use std::path::PathBuf;
use std::time::Duration;

use super::spec_args::{SpecArgs, duration, fresh_seed, seed};
use super::{Failure, interrupts, print};
use crate::campaign::{Campaign, Keep, worst};
use crate::run_dir::DEFAULT_PARENT;

/// What a run may take beyond its load and until its cluster serves: settling, final reads, judging.
const RUN_BESIDE_LOAD_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("extent").required(true).multiple(true).args(["runs", "budget"])))]
pub(super) struct Args {
    /// Runs to make
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Start no run after this long
    #[arg(long, value_parser = duration)]
    budget: Option<Duration>,
    /// Runs at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Which run directories stay: of those that were not valid, or all
    #[arg(long, default_value = "fail", value_parser = keep)]
    keep: Keep,
    /// Seed that the seeds of the runs are drawn from [default: a random one]
    #[arg(long, value_parser = seed)]
    seed: Option<u64>,
    /// Where the run directories go [default: runs/campaign-SEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    spec: SpecArgs,
}

fn keep(text: &str) -> Result<Keep, String> {
    match text {
        "fail" => Ok(Keep::Fail),
        "all" => Ok(Keep::All),
        _ => Err("say fail or all".to_owned()),
    }
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let interrupted = interrupts()?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let system = args.spec.system()?;
    let spec = args.spec.spec(seed, system.as_ref())?;
    let dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PARENT).join(format!("campaign-{seed:#x}")));
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        let error = anyhow::anyhow!("{} exists already; a campaign never writes over another", dir.display());
        return Err(Failure::hint(error, "name another directory with --out, or another --seed"));
    }
    let campaign = Campaign {
        seed,
        runs: args.runs,
        budget: args.budget,
        jobs: args.jobs,
        flags: args.spec.flags(&spec),
        keep: args.keep,
        dir,
        run_time_max: Duration::from_millis(2 * spec.ready_ms + spec.time_ms) + RUN_BESIDE_LOAD_MAX,
    };
    print::say(&print::campaign_head(&campaign, &spec));
    let harness = std::env::current_exe()?;
    let rows = campaign.run(&harness, &interrupted, &mut |row| print::say(&print::campaign_row(row)))?;
    print::say(&print::campaign_end(&campaign, &rows));
    Ok(worst(&rows).exit_code())
}
