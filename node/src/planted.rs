//! Planted bugs: defects that the harness must find, by the ids of the catalogue. Compiled only with the feature `planted`;
//! a normal build has neither their code nor their names. One is active at a time, chosen by `node serve --planted ID`.

#[cfg(feature = "planted")]
pub use enabled::*;

/// Whether this planted bug is active; counts that its site was reached. Always `false` in a normal build.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "planted")]
        {
            $crate::planted::reached($crate::planted::Bug::$bug)
        }
        #[cfg(not(feature = "planted"))]
        {
            false
        }
    }};
}
pub(crate) use planted;

#[cfg(feature = "planted")]
mod enabled {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::kv::session::Verdict;
    use crate::trace::TraceEvent;

    /// The planted bugs of this build.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Bug {
        /// The leader acknowledges a write when it appends it, before it is committed. Found as a lost write: the leader
        /// is killed or cut off, and its successor never had the entry.
        A03,
        /// No deduplication: a write that a client sends again is applied again. Found with append keys, when a reply is
        /// lost or late, or a forwarded request is duplicated.
        A05,
        /// A restarted node remembers its term but not its vote, and may vote twice in one term.
        E05,
        /// The leader answers a read from its own state without asking whether it still leads: a stale read, when it was
        /// cut off or paused and has a successor.
        Q01,
        /// A follower acknowledges entries before its disk has them.
        R21,
    }

    impl Bug {
        /// All of them.
        pub const ALL: [Bug; 5] = [Bug::A03, Bug::A05, Bug::E05, Bug::Q01, Bug::R21];
    }

    impl FromStr for Bug {
        type Err = String;

        fn from_str(text: &str) -> Result<Bug, String> {
            Bug::ALL
                .into_iter()
                .find(|bug| format!("{bug:?}") == text)
                .ok_or_else(|| format!("no planted bug {text:?}; this build has {:?}", Bug::ALL))
        }
    }

    static ACTIVE: OnceLock<Bug> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    static INFECTED: AtomicU64 = AtomicU64::new(0);

    /// Activates one bug for the life of the process.
    pub fn activate(bug: Bug) {
        ACTIVE.get_or_init(|| bug);
    }

    /// Whether `bug` is active. If so its site counts as reached.
    pub fn reached(bug: Bug) -> bool {
        let active = ACTIVE.get() == Some(&bug);
        if active {
            REACHED.fetch_add(1, Ordering::Relaxed);
        }
        active
    }

    /// Counts that the active bug made a difference.
    pub fn infected() {
        INFECTED.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters of the active bug, for the trace.
    pub fn counters() -> Option<TraceEvent> {
        let bug = format!("{:?}", ACTIVE.get()?);
        let (reached, infected) = (REACHED.load(Ordering::Relaxed), INFECTED.load(Ordering::Relaxed));
        Some(TraceEvent::Planted { bug, reached, infected })
    }

    /// A05: forgets that an operation was executed already.
    pub fn no_deduplication(verdict: Verdict) -> Verdict {
        if reached(Bug::A05) && matches!(verdict, Verdict::Done(_) | Verdict::Superseded) {
            infected();
            return Verdict::New;
        }
        verdict
    }
}
