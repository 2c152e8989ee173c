//! How long a dead leader costs: from SIGKILL of its process to the next acknowledgement of a write that was begun after it.
//! A write that was on its way already does not count: its answer may have been.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::whitewater::{Answer, Whitewater};
use super::{BenchError, Place, percentile};

/// Pauses before each kill are drawn up to here, so that kills fall anywhere between two heartbeats.
const PHASE_MAX: Duration = Duration::from_millis(100);
/// An outage that is longer ends the measurement.
const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outages {
    /// All of them, ascending.
    pub sorted: Vec<Duration>,
    /// Elections beyond the one that each kill needs: split votes, or a node that was too slow to be heard.
    pub elections_beyond: u64,
}

impl Outages {
    /// The smallest outage that at least `percent` of the trials do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.sorted, percent)
    }
}

/// Kills `trials` leaders, one after the other, each started again and caught up before the next. `observe` is told how many.
///
/// # Errors
/// The cluster did not start, or did not come back.
pub fn run(place: &Place, trials: u32, observe: &mut dyn FnMut(u32)) -> Result<Outages, BenchError> {
    let mut system = Whitewater::launch(place)?;
    let mut rng = ChaCha8Rng::seed_from_u64(trials.into());
    let mut writer = system.clients(1)?;
    write(&mut writer)?;
    let mut sorted = Vec::new();
    let mut elections_beyond = 0;
    for trial in 1..=trials {
        let before = system.wait_ready()?;
        writer.first = before.node as usize - 1;
        write(&mut writer)?;
        std::thread::sleep(PHASE_MAX.mul_f64(rng.random_range(0.0..1.0)));
        let killed = Instant::now();
        system.cluster.kill(before.node)?;
        // Any node but the dead one, as a client would that lost its connection.
        writer.first = before.node as usize % place.nodes as usize;
        write(&mut writer)?;
        sorted.push(killed.elapsed());
        system.cluster.start(before.node)?;
        elections_beyond += system.wait_ready()?.term.saturating_sub(before.term + 1);
        observe(trial);
    }
    sorted.sort_unstable();
    Ok(Outages { sorted, elections_beyond })
}

/// One write, until it is acknowledged.
fn write(writer: &mut super::whitewater::Clients) -> Result<(), BenchError> {
    let late = BenchError::Late { what: "an acknowledgement", waited_s: OUTAGE_MAX.as_secs() };
    let started = Instant::now();
    while started.elapsed() < OUTAGE_MAX {
        writer.write(0, b"failover".to_vec(), vec![b'v'; 64]);
        // Given up or refused: the client asks again, as a user would.
        if let [(_, Answer::Done)] = writer.wait(OUTAGE_MAX)[..] {
            return Ok(());
        }
    }
    Err(late)
}
