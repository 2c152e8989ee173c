//! The thread that writes and reads snapshots, so that neither the loop nor the log waits for them.
//! What a job does is the storage's; which jobs there are, the replica's.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::ServerError;
use super::shared::Shared;
use crate::storage::SnapshotDir;
use crate::storage::snapshot_job::{SnapshotJob, SnapshotOutcome, SnapshotWorker};

/// Jobs and outcomes that may wait, together.
const WAITING_MAX: usize = 64;
/// Bytes that those may hold. One job is taken however large it is.
const WAITING_BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
struct State {
    jobs: VecDeque<SnapshotJob>,
    outcomes: Vec<SnapshotOutcome>,
    /// Jobs that were taken and whose outcome nobody has fetched, and the bytes of them.
    waiting: usize,
    waiting_bytes: usize,
    /// What the jobs of which the outcome is in `outcomes`, or that have none, held.
    ended: usize,
    ended_bytes: usize,
    closed: bool,
}

/// Handle of the event loop. The thread ends with it, after the job that it is doing.
pub(super) struct SnapshotThread {
    shared: Arc<Shared<State>>,
}

impl SnapshotThread {
    pub(super) fn start(snapshots: SnapshotDir) -> Result<SnapshotThread, ServerError> {
        let worker = SnapshotWorker::new(snapshots);
        let shared = Shared::with_thread("snapshots", move |shared| work(shared, worker))?;
        Ok(SnapshotThread { shared })
    }

    /// Hands a job over. Gives it back if too much waits: outcomes have to be fetched first.
    pub(super) fn offer(&self, job: SnapshotJob) -> Result<(), SnapshotJob> {
        let mut state = self.shared.lock();
        let bytes = state.waiting_bytes + job.bytes();
        if state.waiting >= WAITING_MAX || (state.waiting > 0 && bytes > WAITING_BYTES_MAX) {
            return Err(job);
        }
        state.waiting += 1;
        state.waiting_bytes = bytes;
        state.jobs.push_back(job);
        self.shared.tell_thread();
        Ok(())
    }

    /// What became of jobs since the last call, in their order.
    pub(super) fn completed(&self) -> Result<Vec<SnapshotOutcome>, ServerError> {
        if !self.shared.has_news()? {
            return Ok(Vec::new());
        }
        let mut state = self.shared.lock();
        state.waiting -= std::mem::take(&mut state.ended);
        state.waiting_bytes -= std::mem::take(&mut state.ended_bytes);
        Ok(std::mem::take(&mut state.outcomes))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl Drop for SnapshotThread {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.tell_thread();
    }
}

fn work(shared: &Shared<State>, mut worker: SnapshotWorker) {
    loop {
        let job = {
            let mut state = shared.lock();
            loop {
                if state.closed {
                    return;
                }
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None => state = shared.wait(state, None),
                }
            }
        };
        let bytes = job.bytes();
        let outcome = worker.run(job);
        {
            let mut state = shared.lock();
            state.ended += 1;
            state.ended_bytes += bytes;
            state.outcomes.extend(outcome);
        }
        // Also without an outcome: there is room again.
        shared.tell_loop();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::raft::types::LogId;
    use crate::storage::{Disk, Identity, MemoryDisk};

    const LAST: LogId = LogId { index: 1, term: 1 };

    fn start() -> SnapshotThread {
        let disk = MemoryDisk::new(1);
        disk.create_dir(Path::new("d")).unwrap();
        let identity = Identity { cluster_id: 7, node_id: 1 };
        SnapshotThread::start(SnapshotDir::new(Arc::new(disk), Path::new("d"), &identity)).unwrap()
    }

    /// Waits for `count` outcomes.
    fn outcomes(thread: &SnapshotThread, count: usize) -> Vec<SnapshotOutcome> {
        let mut outcomes = Vec::new();
        while outcomes.len() < count {
            let mut fds = [PollFd::new(thread.as_fd(), PollFlags::POLLIN)];
            assert!(poll(&mut fds, PollTimeout::from(60_000u16)).unwrap() > 0, "only {outcomes:?}");
            outcomes.extend(thread.completed().unwrap());
        }
        outcomes
    }

    #[test]
    fn jobs_are_done_in_order_and_their_outcomes_wake_the_loop() {
        let thread = start();
        for bytes in [vec![1; 10], vec![2; 20]] {
            thread.offer(SnapshotJob::Write { last: LAST, bytes }).unwrap();
        }
        let written = |bytes| SnapshotOutcome::Written { last: LAST, bytes };
        assert_eq!(outcomes(&thread, 2), [written(10), written(20)]);
        thread.offer(SnapshotJob::Abort).unwrap();
        thread.offer(SnapshotJob::Read { token: 3, last: LAST, offset: 0, len: 5 }).unwrap();
        let read = outcomes(&thread, 1);
        assert!(matches!(read[..], [SnapshotOutcome::Read { token: 3, bytes: Err(_), .. }]), "{read:?}");
    }

    #[test]
    fn what_waits_is_bounded_and_fetching_makes_room() {
        let thread = start();
        let write = |len| SnapshotJob::Write { last: LAST, bytes: vec![0; len] };
        let mut taken = 0;
        while thread.offer(write(1 << 20)).is_ok() {
            taken += 1;
            assert!(taken <= WAITING_MAX);
        }
        assert_eq!(taken, WAITING_BYTES_MAX >> 20);
        assert_eq!(outcomes(&thread, taken).len(), taken);
        for _ in 0..WAITING_MAX {
            thread.offer(write(1)).unwrap();
        }
        assert_eq!(thread.offer(write(1)), Err(write(1)));
        outcomes(&thread, WAITING_MAX);
        thread.offer(write(WAITING_BYTES_MAX + 1)).unwrap();
        outcomes(&thread, 1);
    }
}
