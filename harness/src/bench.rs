//! What a healthy cluster does when nobody hurts it: durable writes a second and their latency, by number of clients.
//! Always beside the machine's own fdatasync, measured in the same minutes: without that, the numbers say nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::client::{ClientConfig, Multiplexed, Operation, Outcome};

use crate::cluster::{Addresses, Cluster, ClusterConfig, ClusterError};
use crate::host::{fdatasync_samples, median};
use crate::run_dir::RunDir;

/// Length of every key, in bytes.
const KEY_BYTES: usize = 16;
/// Length of every value, in bytes.
const VALUE_BYTES: usize = 100;
/// How long a fresh cluster may take to elect a leader.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The `node` executable.
    pub binary: PathBuf,
    /// Where its data goes; the disk that is measured.
    pub dir: RunDir,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// Numbers of clients, each with one write open at a time.
    pub clients: Vec<u32>,
    /// Rounds; in each, every number of clients has its turn. The middle one is reported.
    pub rounds: u32,
    /// How long one turn lasts.
    pub turn: Duration,
}

/// What came out for one number of clients: medians over the rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The number of clients.
    pub clients: u32,
    /// Acknowledged writes a second.
    pub writes_per_s: f64,
    /// Half of the writes took no longer.
    pub p50: Duration,
    /// 99 of 100 writes took no longer.
    pub p99: Duration,
    /// Writes that were not acknowledged, over all rounds.
    pub unacknowledged: u64,
}

/// The whole measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// By number of clients.
    pub steps: Vec<Step>,
    /// Median of a 4 KiB append and its fdatasync in the same directory, taken between the turns.
    pub fdatasync_p50: Duration,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The cluster did not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A socket or a file.
    #[error("cannot measure: {0}")]
    Io(#[from] std::io::Error),
}

/// One turn.
#[derive(Debug, Default)]
struct Turn {
    writes_per_s: f64,
    p50: Duration,
    p99: Duration,
    unacknowledged: u64,
}

/// Measures. `observe` is told the rounds that are done.
///
/// # Errors
/// The cluster did not start, or the machine is out of sockets.
pub fn run(config: &BenchConfig, observe: &mut dyn FnMut(u32)) -> Result<Measured, BenchError> {
    let addresses = Addresses::claim(config.nodes)?;
    let cluster_name = "whitewater-bench".to_owned();
    let cluster = Cluster::launch(
        &ClusterConfig {
            binary: config.binary.clone(),
            run_dir: config.dir.clone(),
            cluster_name: cluster_name.clone(),
            bug: None,
            log_level: "warn".to_owned(),
            proxied: false,
            trace: false,
        },
        addresses,
    )?;
    let leader = cluster.wait_ready(READY_WITHIN)?;
    let addrs = cluster.client_addrs();
    // A patient client: what it does not give up is latency, and latency is what is measured.
    let client = ClientConfig { cluster: cluster_name, ..ClientConfig::default() };
    let mut turns: Vec<Vec<Turn>> = config.clients.iter().map(|_| Vec::new()).collect();
    let mut flushes = Vec::new();
    for round in 1..=config.rounds {
        for (clients, turns) in config.clients.iter().zip(&mut turns) {
            turns.push(turn(&client, &addrs, leader.node as usize - 1, *clients, config.turn)?);
            flushes.extend(fdatasync_samples(config.dir.path(), Duration::from_millis(100))?);
        }
        observe(round);
    }
    cluster.stop_all();
    let steps = config.clients.iter().zip(turns).map(|(clients, turns)| step(*clients, turns)).collect();
    Ok(Measured { steps, fdatasync_p50: median(flushes) })
}

fn step(clients: u32, turns: Vec<Turn>) -> Step {
    let mut rates: Vec<f64> = turns.iter().map(|turn| turn.writes_per_s).collect();
    rates.sort_by(f64::total_cmp);
    Step {
        clients,
        writes_per_s: rates.get(rates.len() / 2).copied().unwrap_or_default(),
        p50: median(turns.iter().map(|turn| turn.p50).collect()),
        p99: median(turns.iter().map(|turn| turn.p99).collect()),
        unacknowledged: turns.iter().map(|turn| turn.unacknowledged).sum(),
    }
}

/// `clients` clients write as fast as they are answered, each with one write open, all from one thread and socket: with a
/// thread each, the scheduler would be what is measured.
fn turn(
    config: &ClientConfig,
    addrs: &[SocketAddr],
    leader: usize,
    clients: u32,
    time: Duration,
) -> std::io::Result<Turn> {
    let mut load = Multiplexed::new(config.clone(), addrs.to_vec(), clients as usize)?;
    // Sessions are opened before the clock starts.
    for client in 0..clients as usize {
        load.submit(client, write_of(client, 0), leader);
    }
    let mut ready = 0;
    while ready < clients {
        ready += load.wait(time).len() as u32;
    }
    let mut begun = vec![Instant::now(); clients as usize];
    let (started, mut latencies, mut unacknowledged) = (Instant::now(), Vec::new(), 0);
    for client in 0..clients as usize {
        load.submit(client, write_of(client, 1), leader);
    }
    let mut open = clients;
    let mut last = started;
    while open > 0 {
        for (client, outcome) in load.wait(time) {
            let now = Instant::now();
            match outcome {
                Outcome::Applied { .. } => latencies.push(now.duration_since(begun[client])),
                Outcome::NotApplied { .. } | Outcome::Unknown { .. } => unacknowledged += 1,
            }
            last = now;
            if now.duration_since(started) < time {
                begun[client] = now;
                load.submit(client, write_of(client, latencies.len()), leader);
            } else {
                open -= 1;
            }
        }
    }
    latencies.sort();
    Ok(Turn {
        writes_per_s: latencies.len() as f64 / last.duration_since(started).as_secs_f64(),
        p50: percentile(&latencies, 50),
        p99: percentile(&latencies, 99),
        unacknowledged,
    })
}

/// Ten keys a client: the store stays small, so that its size is not what is measured.
fn write_of(client: usize, i: usize) -> Operation {
    let key = format!("{:0width$}", client * 10 + i % 10, width = KEY_BYTES).into_bytes();
    Operation::Set { key, value: vec![b'v'; VALUE_BYTES] }
}

/// The smallest value that at least `percent` of the sorted values do not exceed; zero if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let ms = Duration::from_millis;
        let hundred: Vec<Duration> = (1..=100).map(ms).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (ms(50), ms(99)));
        assert_eq!((percentile(&[ms(4)], 50), percentile(&[ms(4)], 99)), (ms(4), ms(4)));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn a_step_reports_the_middle_round_and_counts_every_loss() {
        let turn = |rate, p50| Turn {
            writes_per_s: rate,
            p50: Duration::from_millis(p50),
            p99: Duration::from_millis(p50 * 2),
            unacknowledged: 1,
        };
        let step = step(16, vec![turn(900.0, 9), turn(100.0, 1), turn(500.0, 5)]);
        let expected = Step {
            clients: 16,
            writes_per_s: 500.0,
            p50: Duration::from_millis(5),
            p99: Duration::from_millis(10),
            unacknowledged: 3,
        };
        assert_eq!(step, expected);
    }
}
