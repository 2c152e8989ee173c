//! Waiting for something that takes as long as it takes: looked at often, given up late.
//! No test sleeps for a time that it hopes is enough.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// What `look` finds, as soon as it finds something.
///
/// # Panics
/// When it finds nothing within [`PATIENCE`]; `what` names what was waited for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// Waits until `condition` holds; see [`until`].
///
/// # Panics
/// When it does not come to hold.
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(()));
}
