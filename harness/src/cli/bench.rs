//! `harness bench`: flags of the measurements, and what is printed of them.
//! Measuring is [`crate::bench`]'s business.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::spec_args::duration;
use super::{Failure, print};
use crate::bench::throughput::{self, Machine, Measured, Row};
use crate::bench::{Place, Step, Work, failover, link, pause, soak};
use crate::run_dir::{DEFAULT_PARENT, RunDir};
use crate::system;

/// Keys and values that one write may have together, in bytes, less the key.
const VALUE_BYTES_MAX: i64 = 1_000;
/// Growth of the largest resident set over the second half of a soak that still counts as none: allocators keep what they had.
const GROWTH_MAX: f64 = 0.05;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Durable writes and linearizable reads a second and their latency, by number of clients
    Node(NodeArgs),
    /// From SIGKILL of the leader to the next acknowledged write
    Failover(FailoverArgs),
    /// Pause and resume followers: the term must not change
    Pause(PauseArgs),
    /// Many writes over a few keys: the log and the resident set must stop growing
    Soak(SoakArgs),
    /// What passing through the harness adds to the time of a datagram, with each backend
    Link(LinkArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    /// The Debian package etcd-server, over gRPC
    Etcd,
}

#[derive(Debug, clap::Args)]
struct NodesArg {
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
}

#[derive(Debug, clap::Args)]
struct NodeArgs {
    #[command(flatten)]
    nodes: NodesArg,
    /// Numbers of clients that write, separated by commas
    #[arg(long, default_value = "1,16,64,256", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: Vec<u32>,
    /// Numbers of clients that read, separated by commas
    #[arg(long, default_value = "256", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    readers: Vec<u32>,
    /// Length of every value, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=VALUE_BYTES_MAX))]
    value_bytes: u32,
    /// Rounds; the middle one is reported
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each number of clients has its turn in a round
    #[arg(long, default_value = "2s", value_parser = duration)]
    turn: Duration,
    /// Another system, measured side by side in the same rounds
    #[arg(long, value_enum)]
    against: Option<Against>,
}

#[derive(Debug, clap::Args)]
struct FailoverArgs {
    #[command(flatten)]
    nodes: Failover,
    /// Leaders that are killed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    trials: u32,
}

#[derive(Debug, clap::Args)]
struct Failover {
    /// Nodes of the cluster; with fewer than three a dead leader has no successor
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=9))]
    nodes: u32,
}

#[derive(Debug, clap::Args)]
struct PauseArgs {
    #[command(flatten)]
    nodes: Failover,
    /// Pauses
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cycles: u32,
    /// How long each of them lasts; the default is longer than any election timeout
    #[arg(long, default_value = "700ms", value_parser = duration)]
    pause: Duration,
}

#[derive(Debug, clap::Args)]
struct SoakArgs {
    #[command(flatten)]
    nodes: NodesArg,
    /// Acknowledged writes
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    writes: u64,
    /// Keys that they go round
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Length of every value, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=VALUE_BYTES_MAX))]
    value_bytes: u32,
    /// Clients that write
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// Looks at the sizes, at equal distances
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    looks: u32,
    /// Most bytes that a node may ever have on disk, in MiB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    disk_mib_max: u64,
}

#[derive(Debug, clap::Args)]
struct LinkArgs {
    /// Datagrams a second
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Length of every datagram, in bytes
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(link::BYTES_MIN as i64..=1_400))]
    bytes: u32,
    /// Rounds, in each of which every path has its turn; the middle one is reported
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How long each path has its turn in a round
    #[arg(long, default_value = "1s", value_parser = duration)]
    turn: Duration,
    /// Most microseconds that a backend may add to the 99th percentile
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    added_us_max: u32,
}

pub(super) fn main(args: &Args) -> Result<u8, Failure> {
    match &args.what {
        What::Node(args) => node(args),
        What::Failover(args) => failover(args),
        What::Pause(args) => pause(args),
        What::Soak(args) => soak(args),
        What::Link(args) => link(args),
    }
}

/// Finds the binary, makes a directory for the time of `measure`, and removes it: the data is the medium of a measurement, not its
/// result. After a failure it stays, for what the nodes said.
fn measured<T>(
    nodes: u32,
    measure: impl FnOnce(&Place) -> Result<T, crate::bench::BenchError>,
) -> Result<T, Failure> {
    let binary = system::whitewater::find_binary().map_err(|error| {
        let hint = error.hint();
        Failure::hint(error, hint)
    })?;
    let dir = RunDir::create_fresh(Path::new(DEFAULT_PARENT), "bench")?;
    let place = Place { binary, dir: dir.clone(), nodes };
    let result = measure(&place).map_err(|error| {
        Failure::hint(error, format!("what the processes said is in {}", dir.path().display()))
    })?;
    std::fs::remove_dir_all(dir.path())?;
    Ok(result)
}

fn node(args: &NodeArgs) -> Result<u8, Failure> {
    let step = |work, clients: &[u32]| {
        let (value_bytes, time) = (args.value_bytes as usize, args.turn);
        clients.iter().map(move |&clients| Step { work, clients, value_bytes, time }).collect::<Vec<_>>()
    };
    let steps = [step(Work::Write, &args.clients), step(Work::Read, &args.readers)].concat();
    print::say(&format!(
        "bench node   {} nodes   {} rounds of {} a step   keys of 16 bytes, values of {}",
        args.nodes.nodes,
        args.rounds,
        humantime::format_duration(args.turn),
        args.value_bytes
    ));
    let bar = print::bar(args.rounds.into(), "  {pos}/{len} rounds");
    let (measured, machine) = measured(args.nodes.nodes, |place| {
        let etcd = args.against == Some(Against::Etcd);
        let config = throughput::Config { place: place.clone(), steps, rounds: args.rounds, etcd };
        throughput::run(&config, &mut |round| bar.set_position(round.into()))
    })?;
    bar.finish_and_clear();
    print::say(&table(&measured, &machine));
    Ok(0)
}

fn failover(args: &FailoverArgs) -> Result<u8, Failure> {
    let bar = print::bar(args.trials.into(), "  {pos}/{len} leaders killed");
    let outages = measured(args.nodes.nodes, |place| {
        failover::run(place, args.trials, &mut |trial| bar.set_position(trial.into()))
    })?;
    bar.finish_and_clear();
    let at = |sorted: &[Duration]| {
        let at = |percent| ms(failover::at_most(sorted, percent));
        format!("p50 {} ms   p99 {} ms   longest {} ms", at(50), at(99), at(100))
    };
    print::say(&format!(
        "bench failover   {} nodes   {} leaders killed   {} more elections than that\n\
         SIGKILL to the next acknowledged write                  {}\n\
         ... of a client that asks the dead leader first         {}",
        args.nodes.nodes,
        args.trials,
        outages.elections_beyond,
        at(&outages.first),
        at(&outages.orphan)
    ));
    Ok(0)
}

fn pause(args: &PauseArgs) -> Result<u8, Failure> {
    let bar = print::bar(args.cycles.into(), "  {pos}/{len} pauses");
    let pauses = measured(args.nodes.nodes, |place| {
        pause::run(place, args.cycles, args.pause, &mut |cycle| bar.set_position(cycle.into()))
    })?;
    bar.finish_and_clear();
    print::say(&format!(
        "bench pause   {} nodes   {} followers paused for {}, {} seen stopped to the end\n\
         writes meanwhile   acknowledged {}   unacknowledged {}\n\
         term   {} before, {} after, {} changes",
        args.nodes.nodes,
        args.cycles,
        humantime::format_duration(args.pause),
        pauses.confirmed,
        pauses.acknowledged,
        pauses.unacknowledged,
        pauses.terms.0,
        pauses.terms.1,
        pauses.term_changes
    ));
    Ok(match (pauses.term_changes, pauses.confirmed) {
        (0, confirmed) if confirmed == args.cycles => 0,
        (0, _) => 2, // a pause that did not last shows nothing
        _ => 1,
    })
}

fn soak(args: &SoakArgs) -> Result<u8, Failure> {
    print::say(&format!(
        "bench soak   {} nodes   {} writes over {} keys, values of {} bytes, {} clients",
        args.nodes.nodes, args.writes, args.keys, args.value_bytes, args.clients
    ));
    print::say(&format!("{:>12} {:>9}   MiB on disk / resident, of each node", "writes", "s"));
    let looks = measured(args.nodes.nodes, |place| {
        let config = soak::Config {
            place: place.clone(),
            writes: args.writes,
            keys: args.keys,
            value_bytes: args.value_bytes as usize,
            clients: args.clients,
            looks: args.looks,
        };
        soak::run(&config, &mut |look| print::say(&look_line(look)))
    })?;
    let (growth, disk) = (soak::late_growth(&looks), soak::most_on_disk(&looks));
    let bounded = disk <= args.disk_mib_max << 20;
    let settled = growth <= GROWTH_MAX;
    print::say(&format!(
        "on disk        at most {} MiB of {} allowed: {}\n\
         resident set   {:+.1} % over the second half of {:.0} % allowed: {}",
        disk >> 20,
        args.disk_mib_max,
        if bounded { "bounded" } else { "NOT bounded" },
        growth * 100.0,
        GROWTH_MAX * 100.0,
        if settled { "stopped growing" } else { "STILL GROWING" }
    ));
    Ok(if bounded && settled { 0 } else { 1 })
}

fn link(args: &LinkArgs) -> Result<u8, Failure> {
    let bar = print::bar(args.rounds.into(), "  {pos}/{len} rounds");
    let config =
        link::Config { rate: args.rate, bytes: args.bytes as usize, rounds: args.rounds, turn: args.turn };
    let measured = link::run(&config, &mut |round| bar.set_position(round.into()))?;
    bar.finish_and_clear();
    print::say(&format!(
        "bench link   {} datagrams/s of {} bytes   {} rounds of {} a path\n{}",
        args.rate,
        args.bytes,
        args.rounds,
        humantime::format_duration(args.turn),
        link_table(&measured)
    ));
    let through = &measured.rows[1..];
    let slow = through.iter().any(|row| row.added_p99_us.0 > f64::from(args.added_us_max));
    // Fewer datagrams than asked for say nothing about as many.
    let few = measured.rows.iter().any(|row| row.per_s < 0.95 * f64::from(args.rate));
    print::say(&format!(
        "added p99      {} us allowed: {}",
        args.added_us_max,
        if slow {
            "TOO SLOW"
        } else if few {
            "unknown, the rate was not reached"
        } else {
            "kept"
        }
    ));
    Ok(match (slow, few) {
        (false, false) => 0,
        (false, true) => 2,
        (true, _) => 1,
    })
}

/// What was measured of links, one path a line.
fn link_table(measured: &link::Measured) -> String {
    let us = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    let mut text = format!(
        "{:<8} {:>9} {:>8} {:>8} {:>10} {:>10} {:>18} {:>7}\n",
        "", "per s", "p50 us", "p99 us", "added p50", "added p99", "fastest-slowest", "lost"
    );
    for row in &measured.rows {
        let (p99, slowest, fastest) = row.added_p99_us;
        let added = match row.path {
            "direct" => ["-".to_owned(), "-".to_owned(), "-".to_owned()],
            _ => [
                format!("{:.1}", row.added_p50_us),
                format!("{p99:.1}"),
                format!("{fastest:.1} to {slowest:.1}"),
            ],
        };
        let _ = writeln!(
            text,
            "{:<8} {:>9.0} {:>8} {:>8} {:>10} {:>10} {:>18} {:>7}",
            row.path,
            row.per_s,
            us(row.p50),
            us(row.p99),
            added[0],
            added[1],
            added[2],
            row.lost
        );
    }
    if let Some(why) = &measured.no_switch {
        let _ = writeln!(text, "switch   skipped: {why}");
    }
    let share = measured.share;
    let _ = write!(
        text,
        "processors     harness {:.0} %, others {:.0} %",
        share.load * 100.0,
        share.others * 100.0
    );
    text
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1_000.0)
}

fn look_line(look: &soak::Look) -> String {
    let mut line = format!("{:>12} {:>9.1}  ", look.writes, look.at.as_secs_f64());
    for size in &look.sizes {
        let _ = write!(line, " {:>6} / {:<6}", size.disk_bytes >> 20, size.resident_bytes >> 20);
    }
    line.trim_end().to_owned()
}

/// The table of a measurement, and what it says about limits.
fn table(measured: &[Measured], machine: &Machine) -> String {
    let mut text = format!(
        "{:<7} {:>7}  {:<10} {:>8} {:>17} {:>8} {:>8} {:>6}   {}\n",
        "",
        "clients",
        "",
        "per s",
        "slowest-fastest",
        "p50 ms",
        "p99 ms",
        "failed",
        "processors: system, load, others"
    );
    for Measured { step, rows, ratio } in measured {
        for (i, row) in rows.iter().enumerate() {
            let head = match i {
                0 => format!("{:<7} {:>7}", step.work.name(), step.clients),
                _ => " ".repeat(15),
            };
            let _ = writeln!(text, "{head}  {}", row_text(row));
        }
        if let Some(ratio) = ratio {
            let _ = writeln!(text, "{:<15}  {:<10} {:>7.1}x", "", "ratio", ratio);
        }
    }
    let Machine { cores, fdatasync_p50, fdatasync_p99, majority_fdatasync_p50, round_trip_p50 } = machine;
    let _ = writeln!(
        text,
        "this machine, between the steps   {cores} processors   fdatasync of 4 KiB in place p50 {} ms, p99 {} ms, of a majority at once p50 {} ms   UDP round trip p50 {:.3} ms",
        ms(*fdatasync_p50),
        ms(*fdatasync_p99),
        ms(*majority_fdatasync_p50),
        round_trip_p50.as_secs_f64() * 1_000.0
    );
    for Measured { step, rows, .. } in measured {
        for row in rows {
            text.push_str(&limit(step, row, machine));
        }
    }
    text
}

fn row_text(row: &Row) -> String {
    let turn = &row.turn;
    format!(
        "{:<10} {:>8.0} {:>17} {:>8} {:>8} {:>6}   {:>3.0} % {:>3.0} % {:>3.0} %",
        row.system,
        turn.per_s,
        format!("{:.0}-{:.0}", row.spread.0, row.spread.1),
        ms(turn.p50),
        ms(turn.p99),
        turn.unacknowledged,
        row.share.system * 100.0,
        row.share.load * 100.0,
        row.share.others * 100.0
    )
}

/// How near a row is to what the machine allows: one client waits for the disk and the network, many for the processors.
fn limit(step: &Step, row: &Row, machine: &Machine) -> String {
    let Row { system, turn, flushes, share, .. } = row;
    match (step.work, step.clients) {
        (Work::Write, 1) => {
            // To the leader and back, and from the leader to a follower and back, whose flush runs beside the leader's, on one disk.
            let least = machine.majority_fdatasync_p50 + 2 * machine.round_trip_p50;
            format!(
                "limit of 1 client's write, {system}   the fdatasync of a majority and two round trips {} ms, measured {} ms; p50 is {flushes:.2} fdatasyncs of the same round\n",
                ms(least),
                ms(turn.p50),
            )
        }
        (_, clients) if clients >= 64 && share.busy() > 0.0 => {
            let name = step.work.name();
            let cost = machine.cores as f64 * 1e6 / turn.per_s.max(1.0);
            format!(
                "limit of {clients} clients' {name}, {system}   {:.0} % of the processors busy ({:.1} us an operation in the system, {:.1} us in the clients); \
                 all of them for these two would do {:.0} a second\n",
                share.busy() * 100.0,
                share.system * cost,
                share.load * cost,
                turn.per_s / (share.system + share.load).max(0.01),
            )
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Share, Turn};

    #[test]
    fn a_table_tells_rates_the_ratio_and_the_limits() {
        let row = |system, per_s| Row {
            system,
            turn: Turn {
                acknowledged: 10,
                per_s,
                p50: Duration::from_micros(300),
                p99: Duration::from_micros(900),
                unacknowledged: 0,
            },
            spread: (per_s, per_s * 2.0),
            flushes: 1.5,
            share: Share { system: 0.5, load: 0.25, others: 0.2 },
        };
        let step =
            |clients| Step { work: Work::Write, clients, value_bytes: 64, time: Duration::from_secs(1) };
        let machine = Machine {
            cores: 2,
            fdatasync_p50: Duration::from_micros(200),
            fdatasync_p99: Duration::from_micros(400),
            majority_fdatasync_p50: Duration::from_micros(250),
            round_trip_p50: Duration::from_micros(10),
        };
        let measured = [
            Measured { step: step(1), rows: vec![row("whitewater", 3_000.0)], ratio: None },
            Measured {
                step: step(256),
                rows: vec![row("whitewater", 75_000.0), row("etcd", 7_500.0)],
                ratio: Some(10.0),
            },
        ];
        let text = table(&measured, &machine);
        for part in [
            "writes        1  whitewater     3000         3000-6000     0.30     0.90      0    50 %  25 %  20 %",
            "                 etcd           7500",
            "                 ratio         10.0x",
            "fdatasync of 4 KiB in place p50 0.20 ms, p99 0.40 ms, of a majority at once p50 0.25 ms   UDP round trip p50 0.010 ms",
            "two round trips 0.27 ms, measured 0.30 ms; p50 is 1.50 fdatasyncs",
            "256 clients' writes, whitewater   95 % of the processors busy (13.3 us an operation in the system, 6.7 us in the clients); \
             all of them for these two would do 100000 a second",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_look_is_one_line() {
        let size = soak::Size { disk_bytes: 5 << 20, resident_bytes: 7 << 20 };
        let look = soak::Look { writes: 10, at: Duration::from_millis(1_500), sizes: vec![size, size] };
        assert_eq!(look_line(&look).split_whitespace().collect::<Vec<_>>().join(" "), "10 1.5 5 / 7 5 / 7");
    }
}
