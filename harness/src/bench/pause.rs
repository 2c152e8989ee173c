//! Whether a follower that stands still for longer than an election timeout costs anybody anything when it goes on: with
//! pre-vote it asks first, is refused, and the term stays.

use std::time::{Duration, Instant};

use super::whitewater::{Answer, READY_WITHIN, Whitewater};
use super::{BenchError, Place};
use crate::NodeId;

/// How long a node that goes on may take to follow again.
const FOLLOW_WITHIN: Duration = READY_WITHIN;
/// Pause between two looks while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    /// Pauses during which every thread was seen stopped, to the end.
    pub confirmed: u32,
    /// The term before the first and after the last.
    pub terms: (u64, u64),
    /// Cycles after which the term was another than before.
    pub term_changes: u32,
    /// Writes that were acknowledged meanwhile.
    pub acknowledged: u64,
    /// Writes that were not.
    pub unacknowledged: u64,
}

/// Stops followers, one after the other, `cycles` times for `pause` each, while a client writes. `observe` is told how many.
///
/// # Errors
/// The cluster did not start, or a node did not come back.
pub fn run(
    place: &Place,
    cycles: u32,
    pause: Duration,
    observe: &mut dyn FnMut(u32),
) -> Result<Pauses, BenchError> {
    let mut system = Whitewater::launch(place)?;
    let mut leader = system.wait_ready()?;
    let mut writer = system.clients(1)?;
    let mut pauses = Pauses { terms: (leader.term, leader.term), ..Pauses::default() };
    for cycle in 0..cycles {
        // The followers in turn.
        let victim = (leader.node + cycle % (place.nodes - 1)) % place.nodes + 1;
        system.cluster.pause(victim)?;
        let until = Instant::now() + pause;
        while Instant::now() < until {
            writer.write(0, b"pause".to_vec(), vec![b'v'; 64]);
            match writer.wait(READY_WITHIN)[..] {
                [(_, Answer::Done)] => pauses.acknowledged += 1,
                _ => pauses.unacknowledged += 1,
            }
        }
        if system.cluster.resume(victim)?.confirmed {
            pauses.confirmed += 1;
        }
        wait_followed(&system, victim)?;
        let now = system.wait_ready()?;
        if now.term != leader.term {
            pauses.term_changes += 1;
            writer.first = now.node as usize - 1;
            leader = now;
        }
        observe(cycle + 1);
    }
    pauses.terms.1 = leader.term;
    Ok(pauses)
}

/// Waits until the node has applied what the others had when it went on.
fn wait_followed(system: &Whitewater, node: NodeId) -> Result<(), BenchError> {
    let started = Instant::now();
    let mut target = None;
    while started.elapsed() < FOLLOW_WITHIN {
        let statuses = system.cluster.statuses();
        let most = statuses.values().map(|status| status.last_applied).max().unwrap_or(0);
        let target = *target.get_or_insert(most);
        if statuses.get(&node).is_some_and(|status| status.last_applied >= target) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    Err(BenchError::Late { what: "catching up after a pause", waited_s: FOLLOW_WITHIN.as_secs() })
}
