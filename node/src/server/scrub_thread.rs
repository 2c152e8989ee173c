//! The thread that looks for rot, a file at a time with long pauses between, so that nobody notices it at work.
//! What it reads and how it judges is the storage's.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::ServerError;
use crate::storage::scrub::{Scrubbed, Scrubber};

/// Between two files. At most 16 MiB then make less than 2 MiB/s.
const PAUSE: Duration = Duration::from_secs(10);

/// Handle of the event loop. The thread ends with it.
pub(super) struct ScrubThread {
    damage: Receiver<String>,
    scrubbed: Arc<Mutex<Scrubbed>>,
    _alive: Sender<()>,
}

impl ScrubThread {
    pub(super) fn start(scrubber: Scrubber) -> Result<ScrubThread, ServerError> {
        ScrubThread::start_with(scrubber, PAUSE)
    }

    fn start_with(mut scrubber: Scrubber, pause: Duration) -> Result<ScrubThread, ServerError> {
        let (found, damage) = mpsc::channel();
        let (alive, ended) = mpsc::channel::<()>();
        let scrubbed = Arc::new(Mutex::new(Scrubbed::default()));
        let theirs = Arc::clone(&scrubbed);
        thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || {
                while matches!(ended.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
                    let problem = scrubber.step();
                    *theirs.lock().unwrap_or_else(PoisonError::into_inner) = scrubber.scrubbed();
                    // Each file once: what waits here is bounded by the files of the directory.
                    if problem.is_some_and(|problem| found.send(problem).is_err()) {
                        return;
                    }
                }
            })
            .map_err(|source| ServerError::System { action: "start the scrub thread", source })?;
        Ok(ScrubThread { damage, scrubbed, _alive: alive })
    }

    /// Damage that was found since the last call, a sentence each.
    pub(super) fn damage(&self) -> impl Iterator<Item = String> {
        self.damage.try_iter()
    }

    /// What was looked at so far.
    pub(super) fn scrubbed(&self) -> Scrubbed {
        *self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::storage::{Disk, MemoryDisk};

    #[test]
    fn damage_reaches_the_loop_while_it_runs() {
        let disk = MemoryDisk::new(1);
        disk.create_dir(Path::new("d")).unwrap();
        let name = "snapshot-0000000000000001-0000000000000001.snap";
        disk.create(&Path::new("d").join(name)).unwrap();
        let scrubber = Scrubber::new(Arc::new(disk), Path::new("d"));
        let thread = ScrubThread::start_with(scrubber, Duration::from_millis(1)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let damage = loop {
            if let Some(damage) = thread.damage().next() {
                break damage;
            }
            assert!(Instant::now() < deadline, "nothing was found: {:?}", thread.scrubbed());
            thread::sleep(Duration::from_millis(1));
        };
        assert!(damage.starts_with(name), "{damage}");
        assert_eq!(thread.scrubbed().damaged, 1);
    }
}
