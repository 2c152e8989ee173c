//! Duds: a kind of fault whose injector goes through all its motions, draws, records and counts, while nothing of it reaches the world.
//! A run with one must come out `unknown`, or the evidence of that kind is the injector's own word: `harness duds` shows it for each.
//!
//! Compiled into tests and builds with debug assertions alone: a release build has neither this code nor the flag.

#[cfg(any(test, debug_assertions))]
pub use enabled::choose;
#[cfg(any(test, debug_assertions))]
pub(crate) use enabled::{during, is_at, patience};
#[cfg(not(any(test, debug_assertions)))]
pub(crate) use none::{during, is_at, patience};

/// The places at which faults reach the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Signals to processes.
    Signal,
    /// Rules of links.
    Rule,
    /// The memory in which a process has its clocks.
    Clock,
    /// Orders to the system.
    Order,
    /// What a disk holds and answers.
    Disk,
    /// What processes may use.
    Limit,
}

#[cfg(not(any(test, debug_assertions)))]
mod none {
    use std::time::Duration;

    use super::Reach;
    use crate::fault::FaultKind;

    /// Nothing is a dud.
    pub(crate) const fn is_at(_reach: Reach) -> bool {
        false
    }

    /// As long as usual.
    pub(crate) const fn patience(_reach: Reach, usual: Duration) -> Duration {
        usual
    }

    /// Does the work.
    pub(crate) fn during<T>(_kind: FaultKind, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[cfg(any(test, debug_assertions))]
mod enabled {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::time::Duration;

    use super::Reach;
    use crate::fault::FaultKind;

    /// The dud of this process.
    static CHOSEN: OnceLock<FaultKind> = OnceLock::new();

    thread_local! {
        /// What the work that this thread does must not reach.
        static NUMB: Cell<&'static [Reach]> = const { Cell::new(&[]) };
    }

    /// From now on, and for good, this kind is a dud.
    pub fn choose(kind: FaultKind) {
        // Only the first choice counts; there is one.
        let _ = CHOSEN.set(kind);
    }

    /// Whether what is about to be done here, on this thread, is the work of a dud, and must not be done.
    pub(crate) fn is_at(reach: Reach) -> bool {
        NUMB.get().contains(&reach)
    }

    /// How long an effect is waited for that comes at once, or late on a machine that is busy: of a dud none comes.
    pub(crate) fn patience(reach: Reach, usual: Duration) -> Duration {
        if is_at(reach) { Duration::from_millis(100) } else { usual }
    }

    /// Does work of a fault of this kind, without its effect if it is the dud.
    pub(crate) fn during<T>(kind: FaultKind, work: impl FnOnce() -> T) -> T {
        let chosen = CHOSEN.get().copied();
        #[cfg(test)]
        let chosen = super::tests::chosen().or(chosen);
        let before = NUMB.replace(if chosen == Some(kind) { reaches(kind) } else { &[] });
        let done = work();
        NUMB.set(before);
        done
    }

    /// Where a kind reaches the world. Of a node that is killed so that its disk can be damaged it is the damage: a kill shows by itself.
    fn reaches(kind: FaultKind) -> &'static [Reach] {
        match kind {
            FaultKind::Kill
            | FaultKind::Pause
            | FaultKind::Restart
            | FaultKind::RollingRestart
            | FaultKind::KillAll
            | FaultKind::StartLate
            | FaultKind::Starve => &[Reach::Signal],
            FaultKind::Partition
            | FaultKind::Loss
            | FaultKind::Delay
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::Corrupt
            | FaultKind::Replay
            | FaultKind::Rate
            | FaultKind::Reset
            | FaultKind::Garble
            | FaultKind::CutClients
            | FaultKind::Depose => &[Reach::Rule],
            FaultKind::Snapshot => &[Reach::Signal, Reach::Rule],
            FaultKind::FdLimit | FaultKind::MemoryLimit => &[Reach::Limit],
            FaultKind::ClockJump | FaultKind::ClockRate => &[Reach::Clock],
            FaultKind::Membership | FaultKind::Transfer | FaultKind::Admin => &[Reach::Order],
            FaultKind::Wipe
            | FaultKind::PowerLoss
            | FaultKind::Eio
            | FaultKind::DiskFull
            | FaultKind::SlowFsync
            | FaultKind::BitFlip
            | FaultKind::LostFile
            | FaultKind::TruncatedFile => &[Reach::Disk],
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fault::FaultKind;

    thread_local! {
        /// Tests of one process run side by side: each thread has a choice of its own.
        static CHOSEN: Cell<Option<FaultKind>> = const { Cell::new(None) };
    }

    pub(crate) fn chosen() -> Option<FaultKind> {
        CHOSEN.get()
    }

    /// Does something while a kind is a dud, for what this thread does.
    pub(crate) fn with<T>(kind: FaultKind, work: impl FnOnce() -> T) -> T {
        CHOSEN.set(Some(kind));
        let done = work();
        CHOSEN.set(None);
        done
    }

    #[test]
    fn a_dud_is_numb_where_its_kind_reaches_the_world_and_nowhere_else() {
        let seen = |kind| during(kind, || [Reach::Signal, Reach::Rule].map(is_at));
        with(FaultKind::Kill, || {
            assert_eq!(seen(FaultKind::Kill), [true, false]);
            assert_eq!(seen(FaultKind::Pause), [false, false]);
            assert!(!is_at(Reach::Signal), "outside of what a fault does");
        });
        assert_eq!(seen(FaultKind::Kill), [false, false]);
    }
}
