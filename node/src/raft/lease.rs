//! Reads without a round trip (thesis §6.4.1), where clocks may be trusted so far: while a majority has promised to elect nobody
//! else, nobody else leads, and the leader's commit index is the cluster's.
//!
//! A node that has heard a leader at a time *t* gives no vote before *t* plus the shortest election timeout, whatever term it
//! hears of meanwhile, and after a restart as if it had heard one then. The leader counts from the moment at which it *began* a
//! round that a majority echoed: each of them heard it later than that, however long the echoes were on their way (counting from
//! their receipt is the defect of sofa-jraft#26). Its lease is shorter than the promise by what the two clocks may differ.
//!
//! A transfer breaks promises on purpose: from the first order to stand on there is no lease in that term any more, for the
//! order may arrive late (etcd#12704). All members need the same election timeout and `--lease-reads`.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use super::types::Term;
use super::{Effects, Raft, Role};

/// Rounds on their way that are remembered. A leader that hears nothing of so many has no majority to lose.
const ROUNDS_MAX: usize = 64;

/// What a leader knows of the promises of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    /// Rounds that nobody's majority has echoed yet, and when each began.
    rounds: VecDeque<(u64, u64)>,
    /// Nobody else leads before this.
    until: u64,
    /// The term in which somebody was told to stand: there is no lease in it.
    given_up_in: Option<Term>,
    /// Reads that needed no round.
    served: u64,
}

impl Lease {
    /// Feeds `hasher` with what decides about the future at `now`.
    pub(super) fn fingerprint(&self, now: u64, hasher: &mut impl Hasher) {
        let Lease { rounds, until, given_up_in, served: _ } = self;
        for (round, at) in rounds {
            (round, now.saturating_sub(*at)).hash(hasher);
        }
        (until.saturating_sub(now), given_up_in).hash(hasher);
    }
}

impl Raft {
    /// How long reads need no round, ns; 0: they do.
    pub fn lease_left(&self, now: u64) -> u64 {
        if self.role == Role::Leader { self.lease.until.saturating_sub(now) } else { 0 }
    }

    /// Reads that this process answered without a round.
    pub fn lease_reads(&self) -> u64 {
        self.lease.served
    }

    /// Whether a read needs no round now; counted.
    pub(super) fn lease_serves(&mut self, now: u64) -> bool {
        let serves = self.lease_left(now) > 0;
        self.lease.served += u64::from(serves);
        serves
    }

    /// A round begins, before any message of it leaves.
    pub(super) fn lease_round_began(&mut self, now: u64, round: u64) {
        if self.config.lease == 0 || self.lease.given_up_in == Some(self.term()) {
            return;
        }
        if self.lease.rounds.len() == ROUNDS_MAX {
            self.lease.rounds.pop_front();
        }
        self.lease.rounds.push_back((round, now));
    }

    /// A majority has echoed every round up to this one.
    pub(super) fn lease_rounds_confirmed(&mut self, confirmed: u64) {
        while let Some((_, began)) = self.lease.rounds.pop_front_if(|(round, _)| *round <= confirmed) {
            self.lease.until = self.lease.until.max(began + self.config.lease);
        }
    }

    /// What was promised so far does not count: the members are others, or this node leads no more.
    pub(super) fn drop_lease(&mut self) {
        self.lease.rounds.clear();
        self.lease.until = 0;
    }

    /// Somebody is told to stand, although this leader lives.
    pub(super) fn give_up_lease(&mut self) {
        self.drop_lease();
        self.lease.given_up_in = Some(self.term());
    }

    /// A leader was heard, or may have been heard before a restart: no vote for anybody else until this has passed.
    pub(super) fn promise(&mut self, now: u64) {
        if self.config.lease > 0 {
            self.promised_until = self.promised_until.max(now + self.config.election_timeout_min);
        }
    }

    /// The clock went by more or less than time did: what was measured with it says nothing.
    pub(super) fn clock_jumped(&mut self, now: u64, effects: &mut Effects) {
        self.drop_lease();
        // The promise was made in time, not in what the clock showed. Counted anew it is kept at least.
        if self.config.lease > 0 && self.hard_state.term > 0 {
            self.promised_until = now + self.config.election_timeout_min;
        }
        effects.event(super::event::Level::Warn, || super::event::Event::ClockJumped);
    }
}
