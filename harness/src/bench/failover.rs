//! How long a dead leader costs: from SIGKILL of its process to the next acknowledgement of a write that was begun after it.
//! A write that was on its way already does not count: its answer may have been. One client asks each node first, so that
//! one of them has to find out by itself that its node is gone.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::whitewater::{Answer, Clients, Whitewater};
use super::{BenchError, Place, percentile};

/// Pauses before each kill are drawn up to here, so that kills fall anywhere between two heartbeats.
const PHASE_MAX: Duration = Duration::from_millis(100);
/// An outage that is longer ends the measurement.
const OUTAGE_MAX: Duration = Duration::from_secs(30);

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outages {
    /// Until the first acknowledgement, of whichever client: ascending.
    pub first: Vec<Duration>,
    /// Until that of the client which asked the dead leader first: ascending.
    pub orphan: Vec<Duration>,
    /// Elections beyond the one that each kill needs: split votes, or a node that was too slow to be heard.
    pub elections_beyond: u64,
}

/// The smallest outage that at least `percent` of the sorted ones do not exceed.
pub fn at_most(sorted: &[Duration], percent: usize) -> Duration {
    percentile(sorted, percent)
}

/// Kills `trials` leaders, one after the other, each started again and caught up before the next. `observe` is told how many.
///
/// # Errors
/// The cluster did not start, or did not come back.
pub fn run(place: &Place, trials: u32, observe: &mut dyn FnMut(u32)) -> Result<Outages, BenchError> {
    let mut system = Whitewater::launch(place)?;
    let mut rng = ChaCha8Rng::seed_from_u64(trials.into());
    let mut clients = system.clients(place.nodes)?;
    let mut outages = Outages::default();
    for trial in 1..=trials {
        let before = system.wait_ready()?;
        // Every client has a session, as one that was at work has.
        write_all(&mut clients, place.nodes, |_| {})?;
        std::thread::sleep(PHASE_MAX.mul_f64(rng.random_range(0.0..1.0)));
        let killed = Instant::now();
        system.cluster.kill(before.node)?;
        let mut first = None;
        write_all(&mut clients, place.nodes, |client| {
            first.get_or_insert(killed.elapsed());
            if client + 1 == before.node as usize {
                outages.orphan.push(killed.elapsed());
            }
        })?;
        outages.first.extend(first);
        system.cluster.start(before.node)?;
        outages.elections_beyond += system.wait_ready()?.term.saturating_sub(before.term + 1);
        observe(trial);
    }
    outages.first.sort_unstable();
    outages.orphan.sort_unstable();
    Ok(outages)
}

/// One write of each client, first through the node of its number, until each is acknowledged. `acknowledged` is told whose was.
fn write_all(
    clients: &mut Clients,
    count: u32,
    mut acknowledged: impl FnMut(usize),
) -> Result<(), BenchError> {
    let submit = |clients: &mut Clients, client: usize| {
        clients.first = client;
        clients.write(client, format!("failover-{client}").into_bytes(), vec![b'v'; 64]);
    };
    (0..count as usize).for_each(|client| submit(clients, client));
    let (started, mut open) = (Instant::now(), count);
    while open > 0 {
        if started.elapsed() >= OUTAGE_MAX {
            return Err(BenchError::Late { what: "an acknowledgement", waited_s: OUTAGE_MAX.as_secs() });
        }
        for (client, answer) in clients.wait(OUTAGE_MAX) {
            match answer {
                Answer::Done => {
                    acknowledged(client);
                    open -= 1;
                }
                // Given up or refused: the client asks again, as a user would.
                _ => submit(clients, client),
            }
        }
    }
    Ok(())
}
