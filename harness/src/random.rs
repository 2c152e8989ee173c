//! The random streams of a run: one for each purpose, so that a draw added to one does not move any other.
//! Who draws what is the business of the modules that the purposes name.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream is drawn for. The numbers are part of the meaning of a seed: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Which faults, when: [`crate::schedule`].
    Schedule = 1,
    /// Which nodes a fault hits, by fault id: [`crate::target`].
    Target = 2,
    /// Fate of each datagram, by directed link: [`crate::net`].
    Link = 3,
    /// Operations, by worker.
    Workload = 4,
    /// Fate of each piece of a stream, by connection and direction.
    Stream = 6,
    /// The majority that must serve at the end of a run.
    Quorum = 7,
    /// Which moments faults wait for.
    Anchor = 8,
    /// Seeds of the runs of a campaign.
    Campaign = 5,
}

/// The stream of one purpose, and of one worker, link or fault within it. Pinned generator (ChaCha8): the same bytes on every
/// machine.
pub fn stream(seed: u64, purpose: Purpose, index: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 32 | u64::from(index));
    rng
}
