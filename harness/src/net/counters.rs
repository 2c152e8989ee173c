//! What was seen on each directed link by the code that moves bytes, which knows nothing of faults.
//! What a fault counted itself is in [`super::rules`]; the two are held against each other.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was seen on a directed link since the start, in datagrams or pieces of streams. Counted where bytes come in and leave, by code
/// that knows nothing of faults: the evidence that is held against what a fault itself counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Taken from the sender.
    pub received: u64,
    /// Handed to the receiver, each for the first time.
    pub passed: u64,
    /// Handed to nobody.
    pub lost: u64,
    /// Put aside, to be handed to the receiver 20 ms later or more.
    pub aside: u64,
    /// Datagrams, and pieces of streams that were due, which stayed.
    pub kept: u64,
    /// Handed to the receiver 20 ms or more after they came.
    pub late: u64,
    /// Handed to the receiver once more.
    pub copied: u64,
    /// Handed to the receiver after one that came later.
    pub overtaken: u64,
    /// Handed to the receiver with other bytes than came.
    pub changed: u64,
    /// Handed to the receiver long after they were for the first time.
    pub old: u64,
    /// Connections that were ended by a reset.
    pub reset: u64,
    /// Dropped by the receivers' kernels because their checksum was wrong: counted by those, see [`super::Fabric::bad_checksums`].
    pub bad_checksum: u64,
    /// Dropped because they did not come from the link's sender.
    pub foreign: u64,
    /// Dropped because too many datagrams were being held back.
    pub overflow: u64,
    /// Refused by the kernel when they were to be sent.
    pub refused: u64,
}

impl LinkCounters {
    /// Whether something came late, or will.
    pub fn is_late(&self) -> bool {
        self.late > 0 || self.aside > 0
    }

    /// The counters that are not zero, by name.
    pub fn to_json(&self) -> serde_json::Value {
        let all = [
            ("received", self.received),
            ("passed", self.passed),
            ("lost", self.lost),
            ("aside", self.aside),
            ("kept", self.kept),
            ("late", self.late),
            ("copied", self.copied),
            ("overtaken", self.overtaken),
            ("changed", self.changed),
            ("old", self.old),
            ("reset", self.reset),
            ("bad_checksum", self.bad_checksum),
            ("foreign", self.foreign),
            ("overflow", self.overflow),
            ("refused", self.refused),
        ];
        all.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), serde_json::Value::from(count)))
            .collect()
    }

    /// Each counter with that of another combined by `f`.
    fn each(self, other: LinkCounters, f: impl Fn(u64, u64) -> u64) -> LinkCounters {
        LinkCounters {
            received: f(self.received, other.received),
            passed: f(self.passed, other.passed),
            lost: f(self.lost, other.lost),
            aside: f(self.aside, other.aside),
            kept: f(self.kept, other.kept),
            late: f(self.late, other.late),
            copied: f(self.copied, other.copied),
            overtaken: f(self.overtaken, other.overtaken),
            changed: f(self.changed, other.changed),
            old: f(self.old, other.old),
            reset: f(self.reset, other.reset),
            bad_checksum: f(self.bad_checksum, other.bad_checksum),
            foreign: f(self.foreign, other.foreign),
            overflow: f(self.overflow, other.overflow),
            refused: f(self.refused, other.refused),
        }
    }

    /// What came on top of `before`.
    pub fn since(self, before: LinkCounters) -> LinkCounters {
        self.each(before, u64::saturating_sub)
    }

    /// Both together.
    pub fn plus(self, other: LinkCounters) -> LinkCounters {
        self.each(other, u64::saturating_add)
    }
}

/// [`LinkCounters`] that the thread which moves bytes writes and others read.
#[derive(Debug, Default)]
pub(super) struct LinkTally {
    pub(super) received: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) aside: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) copied: AtomicU64,
    pub(super) overtaken: AtomicU64,
    pub(super) changed: AtomicU64,
    pub(super) old: AtomicU64,
    pub(super) reset: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) overflow: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl LinkTally {
    pub(super) fn read(&self) -> LinkCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounters {
            received: load(&self.received),
            passed: load(&self.passed),
            lost: load(&self.lost),
            aside: load(&self.aside),
            kept: load(&self.kept),
            late: load(&self.late),
            copied: load(&self.copied),
            overtaken: load(&self.overtaken),
            changed: load(&self.changed),
            old: load(&self.old),
            reset: load(&self.reset),
            bad_checksum: 0,
            foreign: load(&self.foreign),
            overflow: load(&self.overflow),
            refused: load(&self.refused),
        }
    }
}
