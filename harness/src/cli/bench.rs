//! `harness bench`: flags and table of a measurement.
//! Measuring is [`crate::bench`]'s business.

use std::path::Path;
use std::time::Duration;

use clap::Subcommand;

use super::spec_args::duration;
use super::{Failure, print};
use crate::bench::{BenchConfig, run};
use crate::run_dir::{DEFAULT_PARENT, RunDir};
use crate::system;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Durable writes a second and their latency, by number of clients
    Node(NodeArgs),
}

#[derive(Debug, clap::Args)]
struct NodeArgs {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
    /// Numbers of clients, separated by commas
    #[arg(long, default_value = "1,16,64,256", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: Vec<u32>,
    /// Rounds; the middle one is reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each number of clients has its turn in a round
    #[arg(long, default_value = "2s", value_parser = duration)]
    turn: Duration,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    let What::Node(args) = &args.what;
    let binary = system::whitewater::find_binary().map_err(|error| {
        let hint = error.hint();
        Failure::hint(error, hint)
    })?;
    let dir = RunDir::create_fresh(Path::new(DEFAULT_PARENT), "bench")?;
    let config = BenchConfig {
        binary,
        dir: dir.clone(),
        nodes: args.nodes,
        clients: args.clients.clone(),
        rounds: args.rounds,
        turn: args.turn,
    };
    print::say(&print::bench_head(&config));
    let bar = print::bar(args.rounds.into(), "  {pos}/{len} rounds");
    let measured = run(&config, &mut |round| bar.set_position(round.into()))?;
    bar.finish_and_clear();
    print::say(&print::bench_table(&measured));
    // The data was the medium of the measurement, not its result.
    std::fs::remove_dir_all(dir.path())?;
    Ok(0)
}
