//! The links between addresses, one for each direction: they lose, delay, duplicate, reorder, damage and repeat datagrams.
//! What is in a datagram is nobody's business here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::tally::Tally;

/// Datagrams of each link that an old one is taken from.
const REMEMBERED: usize = 32;

/// How a link treats a datagram. Shares are of 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    /// One bit is flipped.
    pub(crate) corruption: f64,
    /// An older datagram of the link arrives once more.
    pub(crate) replay: f64,
    /// Shortest and longest delay in ns; uniform, so that datagrams overtake each other.
    pub(crate) delay: (u64, u64),
    /// So many take up to `straggling` ns longer.
    pub(crate) stragglers: f64,
    pub(crate) straggling: u64,
}

impl Quality {
    /// Nothing gets lost.
    pub(crate) fn calm() -> Quality {
        Quality {
            loss: 0.0,
            duplication: 0.0,
            corruption: 0.0,
            replay: 0.0,
            delay: (50_000, 500_000),
            stragglers: 0.0,
            straggling: 0,
        }
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// All links.
pub(crate) struct Network {
    rng: ChaCha8Rng,
    /// Of every link that has no other.
    pub(crate) quality: Quality,
    special: BTreeMap<(SocketAddr, SocketAddr), Quality>,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    past: BTreeMap<(SocketAddr, SocketAddr), VecDeque<Vec<u8>>>,
}

impl Network {
    pub(crate) fn new(rng: ChaCha8Rng, quality: Quality) -> Network {
        Network { rng, quality, special: BTreeMap::new(), cut: BTreeSet::new(), past: BTreeMap::new() }
    }

    /// Gives one direction a quality of its own.
    pub(crate) fn set(&mut self, from: SocketAddr, to: SocketAddr, quality: Quality) {
        self.special.insert((from, to), quality);
    }

    /// Lets nothing pass in one direction.
    pub(crate) fn cut(&mut self, from: SocketAddr, to: SocketAddr) {
        self.cut.insert((from, to));
    }

    /// Makes both directions between two as good as new.
    pub(crate) fn heal(&mut self, a: SocketAddr, b: SocketAddr, quality: Quality) {
        for link in [(a, b), (b, a)] {
            self.cut.remove(&link);
            self.special.insert(link, quality);
        }
    }

    /// Removes every cut and every special quality.
    pub(crate) fn restore(&mut self) {
        self.cut.clear();
        self.special.clear();
    }

    /// What arrives because `datagram` was sent, and in how many ns.
    pub(crate) fn send(&mut self, datagram: &Datagram, tally: &mut Tally) -> Vec<(u64, Datagram)> {
        let Datagram { from, to, bytes } = datagram;
        let link = (*from, *to);
        let quality = self.special.get(&link).copied().unwrap_or(self.quality);
        let rng = &mut self.rng;
        let mut arriving = Vec::new();
        if quality.replay > 0.0 {
            let past = self.past.entry(link).or_default();
            if !past.is_empty() && rng.random_bool(quality.replay) {
                tally.replayed += 1;
                arriving.push(past[rng.random_range(0..past.len())].clone());
            }
            if past.len() == REMEMBERED {
                past.pop_front();
            }
            past.push_back(bytes.clone());
        }
        if quality.loss > 0.0 && rng.random_bool(quality.loss) {
            tally.lost += 1;
        } else {
            arriving.push(bytes.clone());
        }
        if quality.duplication > 0.0 && rng.random_bool(quality.duplication) {
            tally.duplicated += 1;
            arriving.push(bytes.clone());
        }
        if self.cut.contains(&link) {
            tally.cut_off += 1;
            return Vec::new();
        }
        let mut on_their_way = Vec::new();
        for mut bytes in arriving {
            if quality.corruption > 0.0 && !bytes.is_empty() && rng.random_bool(quality.corruption) {
                tally.corrupted += 1;
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            let mut delay = rng.random_range(quality.delay.0..=quality.delay.1);
            if quality.stragglers > 0.0 && rng.random_bool(quality.stragglers) {
                delay += rng.random_range(0..=quality.straggling);
            }
            on_their_way.push((delay, Datagram { from: *from, to: *to, bytes }));
        }
        on_their_way
    }
}
