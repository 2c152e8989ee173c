//! The thread that writes: takes every record that came during the last fdatasync, writes them with one more, and says so.
//! Group commit needs no timer: while the disk is busy the next batch grows. The format is the storage's.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::ServerError;
use super::shared::Shared;
use crate::clock::monotonic_ns;
use crate::metrics::Latency;
use crate::raft::types::{Lsn, Record};
use crate::storage::{Progress, StorageError, Wal};

/// How soon what waits for space is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    records: Vec<(Lsn, Record)>,
    progress: Option<Progress>,
    latency: Latency,
    failure: Option<StorageError>,
}

/// Handle of the event loop. What waits here is bounded by the replica's `unsynced_bytes_max`.
pub(super) struct DiskThread {
    shared: Arc<Shared<State>>,
}

impl DiskThread {
    pub(super) fn start(wal: Wal) -> Result<DiskThread, ServerError> {
        let shared = Shared::with_thread("disk", move |shared| write_batches(shared, wal))?;
        Ok(DiskThread { shared })
    }

    /// Hands records over.
    pub(super) fn write(&self, records: Vec<(Lsn, Record)>) {
        if !records.is_empty() {
            self.shared.lock().records.extend(records);
            self.shared.tell_thread();
        }
    }

    /// How far the log is, if that is news since the last call. While it is out of space, records wait in their order, and
    /// those who wait for them wait too; term and vote alone go on, and what waits for a vote may go out at
    /// `hard_state`. Whoever could add to what waits refuses it; it is over when an answer says so.
    pub(super) fn completed(&self) -> Result<Option<Progress>, ServerError> {
        if !self.shared.has_news()? {
            return Ok(None);
        }
        let mut state = self.shared.lock();
        match state.failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok(state.progress.take()),
        }
    }

    /// How long the batches took so far.
    pub(super) fn latency(&self) -> Latency {
        self.shared.lock().latency
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

fn write_batches(shared: &Shared<State>, mut wal: Wal) {
    let mut out_of_space = false;
    let mut told = None;
    loop {
        // In the first idle moment, and again in each until there is space for it.
        let prepared = if shared.lock().records.is_empty() { wal.prepare() } else { Ok(()) };
        let batch = {
            let mut state = shared.lock();
            while state.records.is_empty() && prepared.is_ok() && !out_of_space {
                state = shared.wait(state, None);
            }
            if state.records.is_empty() && out_of_space {
                state = shared.wait(state, Some(SPACE_RETRY));
            }
            std::mem::take(&mut state.records)
        };
        let began = monotonic_ns();
        let result = prepared.and_then(|()| wal.append(&batch)).and_then(|()| wal.sync());
        let took = monotonic_ns().saturating_sub(began);
        let failed = result.is_err();
        {
            let mut state = shared.lock();
            if !batch.is_empty() {
                state.latency.observe(took);
            }
            match result {
                Ok(progress) if told == Some(progress) => continue,
                Ok(progress) => {
                    out_of_space = progress.out_of_space;
                    told = Some(progress);
                    state.progress = told;
                }
                Err(failure) => state.failure = Some(failure),
            }
        }
        shared.tell_loop();
        if failed {
            return; // a failed fdatasync is never tried again (Rebello et al., ATC'20)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::raft::types::{Entry, HardState, LogId, Payload};
    use crate::storage::{Identity, Layout, MemoryDisk};

    /// Waits for an answer that satisfies `wanted`.
    fn progress(thread: &DiskThread, wanted: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            let mut fds = [PollFd::new(thread.as_fd(), PollFlags::POLLIN)];
            assert!(poll(&mut fds, PollTimeout::from(60_000u16)).unwrap() > 0, "no such answer");
            if let Some(progress) = thread.completed().unwrap().filter(|progress| wanted(progress)) {
                return progress;
            }
        }
    }

    fn entry(index: u64) -> Record {
        Record::Entry(Entry {
            id: LogId { term: 1, index },
            payload: Payload::Command([7; 400].as_slice().into()),
        })
    }

    #[test]
    fn what_waits_for_space_goes_on_when_there_is_some_and_votes_do_not_wait() {
        let disk = MemoryDisk::new(1);
        let layout = Layout { segment_bytes: 4096, zero_step_bytes: 1024, reserve_bytes: 512 };
        let identity = Identity { cluster_id: 7, node_id: 1 };
        let (wal, recovered) =
            Wal::open_with(Arc::new(disk.clone()), Path::new("d"), &identity, None, layout).unwrap();
        disk.set_capacity(disk.used());
        let thread = DiskThread::start(wal).unwrap();
        let first = recovered.last_lsn + 1;
        thread.write((first..).zip((1..=4).map(entry)).collect());
        let stuck = progress(&thread, |progress| progress.out_of_space);
        assert!(stuck.durable < first + 3, "{stuck:?}");
        let vote = Record::HardState(HardState { term: 2, voted_for: Some(1) });
        thread.write(vec![(first + 4, vote)]);
        let voted = progress(&thread, |progress| progress.hard_state == first + 4);
        assert_eq!((voted.durable, voted.out_of_space), (stuck.durable, true));
        disk.set_capacity(u64::MAX);
        let last = first + 4;
        let free = Progress { durable: last, hard_state: last, out_of_space: false };
        assert_eq!(progress(&thread, |progress| !progress.out_of_space), free);
    }
}
