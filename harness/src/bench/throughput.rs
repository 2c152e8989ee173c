//! Throughput and latency of a healthy cluster, by number of clients, beside the machine's own figures, and beside etcd if that is
//! wanted. Everything is interleaved: each round takes every step of every system once, with a look at the machine before
//! and after each, so that a machine that slows down slows all of them.

use std::time::Duration;

use super::etcd::Etcd;
use super::load::middle;
use super::machine::{Clock, Floor};
use super::whitewater::Whitewater;
use super::{BenchError, Place, Share, Step, Subject, Turn, Work, percentile};
use crate::host::median;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub place: Place,
    /// In this order, in every round.
    pub steps: Vec<Step>,
    /// How often.
    pub rounds: u32,
    /// Whether etcd is measured, too.
    pub etcd: bool,
}

/// One system in one step: medians over the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The system.
    pub system: &'static str,
    /// Rate and latencies; what was not acknowledged is the sum of all rounds.
    pub turn: Turn,
    /// The slowest and the fastest round's rate.
    pub spread: (f64, f64),
    /// p50 over the fdatasync p50 of the same round.
    pub flushes: f64,
    /// Who used the processors in the middle round.
    pub share: Share,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was done.
    pub step: Step,
    /// Ours, then etcd's if it was asked for.
    pub rows: Vec<Row>,
    /// Our rate over etcd's of the same round.
    pub ratio: Option<f64>,
}

/// The machine, over all rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Processors that this process may use.
    pub cores: usize,
    /// A 4 KiB write in place and its fdatasync, in the same directory: half took no longer.
    pub fdatasync_p50: Duration,
    /// 99 of 100 took no longer.
    pub fdatasync_p99: Duration,
    /// As many of those at once as there are nodes, each in a file of its own: in half of the cases a majority was done by then.
    pub majority_fdatasync_p50: Duration,
    /// A datagram to another thread and back over loopback: half took no longer.
    pub round_trip_p50: Duration,
}

/// Measures. `observe` is told the rounds that are done.
///
/// # Errors
/// A cluster did not start or does not answer, or the machine is out of sockets.
pub fn run(config: &Config, observe: &mut dyn FnMut(u32)) -> Result<(Vec<Measured>, Machine), BenchError> {
    let (dir, nodes) = (config.place.dir.path(), config.place.nodes);
    let mut systems: Vec<Box<dyn Subject>> = vec![Box::new(Whitewater::launch(&config.place)?)];
    if config.etcd {
        systems.push(Box::new(Etcd::launch(&config.place)?));
    }
    for step in config.steps.iter().filter(|step| step.work == Work::Read) {
        systems.iter_mut().try_for_each(|system| system.fill(step))?;
    }
    let mut rounds: Vec<Vec<Vec<Round>>> =
        config.steps.iter().map(|_| vec![Vec::new(); systems.len()]).collect();
    let mut floors = Floor::measure(dir, nodes)?;
    let mut before = floors.clone();
    for round in 1..=config.rounds {
        for (step, rounds) in config.steps.iter().zip(&mut rounds) {
            for (system, rounds) in systems.iter_mut().zip(rounds) {
                let pids = system.pids();
                let clock = Clock::read(&pids)?;
                let turn = system.turn(step)?;
                let share = clock.until(&Clock::read(&pids)?);
                let after = Floor::measure(dir, nodes)?;
                let around = [before.fdatasync.as_slice(), after.fdatasync.as_slice()].concat();
                let flushes = turn.p50.as_secs_f64() / median(around).as_secs_f64().max(1e-9);
                rounds.push(Round { turn, flushes, share });
                floors.fdatasync.extend(&after.fdatasync);
                floors.majority_fdatasync.extend(&after.majority_fdatasync);
                floors.round_trip.extend(&after.round_trip);
                before = after;
            }
        }
        observe(round);
    }
    let names: Vec<_> = systems.iter().map(|system| system.name()).collect();
    let measured = config.steps.iter().zip(rounds).map(|(step, rounds)| Measured {
        step: *step,
        ratio: match rounds.as_slice() {
            [ours, theirs] => Some(ratio(ours, theirs)),
            _ => None,
        },
        rows: names.iter().zip(rounds).map(|(system, rounds)| row(system, &rounds)).collect(),
    });
    Ok((measured.collect(), machine(floors)))
}

/// One system in one step, once.
#[derive(Clone, Debug)]
struct Round {
    turn: Turn,
    flushes: f64,
    share: Share,
}

fn row(system: &'static str, rounds: &[Round]) -> Row {
    let turns = || rounds.iter().map(|round| &round.turn);
    let rates = || turns().map(|turn| turn.per_s);
    let per_s = middle(rates());
    Row {
        system,
        turn: Turn {
            acknowledged: turns().map(|turn| turn.acknowledged).sum(),
            per_s,
            p50: median(turns().map(|turn| turn.p50).collect()),
            p99: median(turns().map(|turn| turn.p99).collect()),
            unacknowledged: turns().map(|turn| turn.unacknowledged).sum(),
        },
        spread: (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)),
        flushes: middle(rounds.iter().map(|round| round.flushes)),
        // Of one round: shares of different rounds would not add up.
        share: rounds
            .iter()
            .find(|round| round.turn.per_s == per_s)
            .map(|round| round.share)
            .unwrap_or_default(),
    }
}

/// The middle of the rounds' ratios, not the ratio of the middles: both systems saw the same minute.
fn ratio(ours: &[Round], theirs: &[Round]) -> f64 {
    let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| theirs.turn.per_s > 0.0);
    middle(pairs.map(|(ours, theirs)| ours.turn.per_s / theirs.turn.per_s))
}

fn machine(floors: Floor) -> Machine {
    let Floor { mut fdatasync, majority_fdatasync, round_trip } = floors;
    fdatasync.sort_unstable();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        fdatasync_p50: percentile(&fdatasync, 50),
        fdatasync_p99: percentile(&fdatasync, 99),
        majority_fdatasync_p50: median(majority_fdatasync),
        round_trip_p50: median(round_trip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(per_s: f64, p50_ms: u64, flushes: f64) -> Round {
        let turn = Turn {
            acknowledged: 10,
            per_s,
            p50: Duration::from_millis(p50_ms),
            p99: Duration::from_millis(p50_ms * 2),
            unacknowledged: 1,
        };
        Round { turn, flushes, share: Share { system: flushes / 10.0, load: 0.1, others: 0.0 } }
    }

    #[test]
    fn a_row_reports_the_middle_round_and_counts_every_loss() {
        let row = row("x", &[round(900.0, 9, 3.0), round(100.0, 1, 1.0), round(500.0, 5, 2.0)]);
        assert_eq!((row.turn.per_s, row.spread), (500.0, (100.0, 900.0)));
        assert_eq!((row.turn.p50, row.turn.p99), (Duration::from_millis(5), Duration::from_millis(10)));
        assert_eq!((row.turn.acknowledged, row.turn.unacknowledged), (30, 3));
        assert_eq!((row.flushes, row.share.system), (2.0, 0.2));
    }

    #[test]
    fn a_ratio_compares_rounds_of_the_same_minute() {
        let ours = [round(100.0, 1, 1.0), round(1000.0, 1, 1.0), round(10.0, 1, 1.0)];
        let theirs = [round(10.0, 1, 1.0), round(200.0, 1, 1.0), round(0.0, 1, 1.0)];
        assert_eq!(ratio(&ours, &theirs), 10.0, "a round in which the other did nothing has no ratio");
    }
}
