//! What is wrong with a disk at the moment: which requests it refuses, delays or leaves without an answer, and how many it did.
//! What is stored is the volume's business; what was answered is counted by those who answer, who know nothing of this.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a request does to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reads bytes of a file. What the kernel has in its cache is not asked for.
    Read,
    /// Writes bytes, or sets the size.
    Write,
    /// Flushes a file or a directory.
    Fsync,
    /// Changes names.
    Name,
}

impl Access {
    /// The name in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::Fsync => "fsync",
            Access::Name => "name",
        }
    }
}

/// At which request the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The next flush of a file with unflushed bytes, before it does anything.
    Fsync,
    /// The next flush of a directory with unflushed names, before it does anything.
    FsyncDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// It fails now: nothing is carried out, and nobody is answered, so that nobody acts on it.
    Failing,
    /// Everything is refused.
    Off,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    /// EIO.
    Refuse,
    /// No answer yet.
    Hold,
    /// Only after this time.
    Delay(Duration),
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) power: Power,
    pub(super) armed: Option<Moment>,
    pub(super) broken: Option<Access>,
    pub(super) slow: Option<Duration>,
    /// Whether what is broken or slow is counted, and nothing comes of it.
    pub(super) dud: bool,
    /// Requests that it refused because of [`Gate::broken`].
    pub(super) refused: u64,
    /// Flushes that it delayed.
    pub(super) delayed: u64,
}

impl Gate {
    pub(super) fn new() -> Gate {
        Gate { power: Power::On, armed: None, broken: None, slow: None, dud: false, refused: 0, delayed: 0 }
    }

    /// Decides about a request. `moment` is what it is for who waits for one.
    pub(super) fn decide(&mut self, access: Access, moment: Option<Moment>) -> Fate {
        if self.armed.is_some() && self.armed == moment {
            self.armed = None;
            self.power = Power::Failing;
        }
        match self.power {
            Power::Off => return Fate::Refuse,
            Power::Failing if access != Access::Read => return Fate::Hold,
            _ => {}
        }
        if self.broken == Some(access) {
            self.refused += 1;
            return if self.dud { Fate::Pass } else { Fate::Refuse };
        }
        match self.slow {
            Some(delay) if access == Access::Fsync => {
                self.delayed += 1;
                if self.dud { Fate::Pass } else { Fate::Delay(delay) }
            }
            _ => Fate::Pass,
        }
    }
}

/// What was answered, counted by who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Errors, by request and name of the error, such as `fsync EIO`.
    pub errors: BTreeMap<String, u64>,
    /// Flushes that were answered, with success or without.
    pub flushes: u64,
    /// Those of them that were answered later than [`LATE`] after they came.
    pub late_flushes: u64,
}

/// A flush in memory takes microseconds.
pub(super) const LATE: Duration = Duration::from_millis(5);

impl Answers {
    /// What was answered since `before`.
    pub fn since(&self, before: &Answers) -> Answers {
        let grown = |(name, count): (&String, &u64)| {
            let grown = count - before.errors.get(name).copied().unwrap_or_default();
            (grown > 0).then(|| (name.clone(), grown))
        };
        Answers {
            errors: self.errors.iter().filter_map(grown).collect(),
            flushes: self.flushes - before.flushes,
            late_flushes: self.late_flushes - before.late_flushes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_fails_at_its_moment_and_who_asks_then_is_not_answered() {
        let mut gate = Gate::new();
        gate.armed = Some(Moment::Fsync);
        assert_eq!(gate.decide(Access::Write, None), Fate::Pass);
        assert_eq!(gate.decide(Access::Fsync, Some(Moment::FsyncDirectory)), Fate::Pass);
        assert_eq!(gate.decide(Access::Fsync, Some(Moment::Fsync)), Fate::Hold);
        assert_eq!(gate.decide(Access::Write, None), Fate::Hold);
        assert_eq!(gate.decide(Access::Read, None), Fate::Pass);
        gate.power = Power::Off;
        assert_eq!(gate.decide(Access::Read, None), Fate::Refuse);
        assert_eq!(gate.refused, 0, "that is no error of the disk");
    }

    #[test]
    fn what_is_broken_is_refused_and_the_rest_is_not() {
        let mut gate = Gate::new();
        (gate.broken, gate.slow) = (Some(Access::Write), Some(LATE));
        assert_eq!(gate.decide(Access::Write, None), Fate::Refuse);
        assert_eq!(gate.decide(Access::Fsync, None), Fate::Delay(LATE));
        assert_eq!(gate.decide(Access::Name, None), Fate::Pass);
        assert_eq!((gate.refused, gate.delayed), (1, 1));
    }
}
