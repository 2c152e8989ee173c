//! What a replica has done with snapshots while it goes on: jobs and their outcomes as data, and the worker that does them
//! one after the other. On which thread it works is left to whoever runs it.

use std::sync::Arc;

use crate::raft::types::LogId;
use crate::storage::snapshot_dir::{SnapshotDir, SnapshotWriter};
use crate::storage::snapshot_file::SnapshotMeta;

/// Something to do. Jobs are done in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotJob {
    /// Add to the image at `last`. The first one of another `last` begins that, and abandons any that was not finished.
    Write {
        /// The last entry that will be in it.
        last: LogId,
        /// The next bytes of the image, as the encoder made them.
        bytes: Vec<u8>,
    },
    /// The image at `meta.last` is complete.
    Finish {
        /// What it is.
        meta: SnapshotMeta,
    },
    /// Abandon the image that is being written, if there is one.
    Abort,
    /// Check and write an image that came in one piece.
    Save {
        /// What it must be.
        meta: SnapshotMeta,
        /// Its bytes.
        image: Arc<[u8]>,
    },
    /// Read a part of an image.
    Read {
        /// Comes back with the outcome.
        token: u64,
        /// Which image.
        last: LogId,
        /// Where to begin.
        offset: u64,
        /// How many bytes at most.
        len: usize,
    },
    /// Remove every snapshot but these. Only after a snapshot mark that does without the others is durable.
    Keep(Vec<LogId>),
}

impl SnapshotJob {
    /// Bytes that it holds, or that its outcome will.
    pub fn bytes(&self) -> usize {
        match self {
            SnapshotJob::Write { bytes, .. } => bytes.len(),
            SnapshotJob::Save { image, .. } => image.len(),
            SnapshotJob::Read { len, .. } => *len,
            SnapshotJob::Finish { .. } | SnapshotJob::Abort | SnapshotJob::Keep(_) => 0,
        }
    }
}

/// What became of a job. No failure here loses anything: a snapshot that was not finished is one that was never taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// This many bytes of the image at `last` are written, not durable.
    Written {
        /// Which image.
        last: LogId,
        /// How many, since the last outcome.
        bytes: usize,
    },
    /// The snapshot is durable, whole, and has its name: `Finish` or `Save`.
    Durable(SnapshotMeta),
    /// The snapshot at `last` will not be. Said once, whatever jobs for it follow; another attempt at the same `last` begins
    /// with [`SnapshotJob::Abort`].
    Failed {
        /// Which image.
        last: LogId,
        /// Why, for people.
        reason: String,
    },
    /// What was read, fewer bytes than wanted at the end of the image; or why nothing, for people.
    Read {
        /// That of the job.
        token: u64,
        /// Which image.
        last: LogId,
        /// Where the bytes begin.
        offset: u64,
        /// They.
        bytes: Result<Vec<u8>, String>,
    },
    /// The others are gone; or why some may not be, for people.
    Kept(Result<(), String>),
}

/// Does the jobs of one data directory.
pub struct SnapshotWorker {
    snapshots: SnapshotDir,
    writing: Option<(LogId, SnapshotWriter)>,
    failed: Option<LogId>,
}

impl SnapshotWorker {
    /// A worker of `snapshots`.
    pub fn new(snapshots: SnapshotDir) -> SnapshotWorker {
        SnapshotWorker { snapshots, writing: None, failed: None }
    }

    /// Does one job. Some have nothing to say.
    pub fn run(&mut self, job: SnapshotJob) -> Option<SnapshotOutcome> {
        match job {
            SnapshotJob::Write { last, .. } | SnapshotJob::Finish { meta: SnapshotMeta { last, .. } }
                if self.failed == Some(last) =>
            {
                None
            }
            SnapshotJob::Write { last, bytes } => {
                self.failed = None;
                let written = self.write(last, &bytes);
                Some(self.outcome(last, written, SnapshotOutcome::Written { last, bytes: bytes.len() }))
            }
            SnapshotJob::Finish { meta } => {
                let finished = self.finish(&meta);
                Some(self.outcome(meta.last, finished, SnapshotOutcome::Durable(meta)))
            }
            SnapshotJob::Abort => {
                self.writing = None;
                self.failed = None;
                None
            }
            SnapshotJob::Save { meta, image } => {
                let last = meta.last;
                Some(match self.snapshots.save(&meta, &image) {
                    Ok(()) => SnapshotOutcome::Durable(meta),
                    Err(error) => SnapshotOutcome::Failed { last, reason: error.to_string() },
                })
            }
            SnapshotJob::Read { token, last, offset, len } => {
                let bytes = self.snapshots.read_at(last, offset, len).map_err(|error| error.to_string());
                Some(SnapshotOutcome::Read { token, last, offset, bytes })
            }
            SnapshotJob::Keep(keep) => {
                let kept = self.snapshots.remove_except(&keep).map_err(|error| error.to_string());
                Some(SnapshotOutcome::Kept(kept))
            }
        }
    }

    fn write(&mut self, last: LogId, bytes: &[u8]) -> Result<(), String> {
        if self.writing.as_ref().is_none_or(|(writing, _)| *writing != last) {
            self.writing = None;
            let writer = self.snapshots.writer(last).map_err(|error| error.to_string())?;
            self.writing = Some((last, writer));
        }
        let Some((_, writer)) = &mut self.writing else { return Ok(()) };
        writer.write(bytes).map_err(|error| error.to_string())
    }

    fn finish(&mut self, meta: &SnapshotMeta) -> Result<(), String> {
        let Some((_, writer)) = self.writing.take_if(|(last, _)| *last == meta.last) else {
            return Err(format!("no snapshot at {} is being written", meta.last));
        };
        if writer.written() != meta.size {
            return Err(format!("{} bytes of it were written, expected {}", writer.written(), meta.size));
        }
        writer.finish().map(|_| ()).map_err(|error| error.to_string())
    }

    fn outcome(&mut self, last: LogId, result: Result<(), String>, done: SnapshotOutcome) -> SnapshotOutcome {
        match result {
            Ok(()) => done,
            Err(reason) => {
                self.writing = None;
                self.failed = Some(last);
                SnapshotOutcome::Failed { last, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::errno::Errno;

    use super::*;
    use crate::storage::memory_disk::Refusal;
    use crate::storage::snapshot_file::Encoder;
    use crate::storage::{Disk, Identity, MemoryDisk};

    const LAST: LogId = LogId { index: 9, term: 3 };
    const NEXT: LogId = LogId { index: 12, term: 3 };

    fn worker() -> (MemoryDisk, SnapshotWorker) {
        let disk = MemoryDisk::new(1);
        disk.create_dir(Path::new("d")).unwrap();
        let identity = Identity { cluster_id: 7, node_id: 1 };
        let snapshots = SnapshotDir::new(Arc::new(disk.clone()), Path::new("d"), &identity);
        (disk, SnapshotWorker::new(snapshots))
    }

    fn image(last: LogId) -> (Vec<u8>, SnapshotMeta) {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(7, last, 1, Arc::from([].as_slice()), &mut bytes);
        encoder.push(b"state", &mut bytes);
        let meta = encoder.finish(&mut bytes);
        (bytes, meta)
    }

    fn write(last: LogId, bytes: &[u8]) -> SnapshotJob {
        SnapshotJob::Write { last, bytes: bytes.to_vec() }
    }

    fn reason(outcome: Option<SnapshotOutcome>) -> String {
        let Some(SnapshotOutcome::Failed { reason, .. }) = outcome else { panic!("{outcome:?}") };
        reason
    }

    #[test]
    fn what_was_written_in_pieces_is_read_in_pieces() {
        let (_, mut worker) = worker();
        let (bytes, meta) = image(LAST);
        for piece in bytes.chunks(50) {
            let written = SnapshotOutcome::Written { last: LAST, bytes: piece.len() };
            assert_eq!(worker.run(write(LAST, piece)), Some(written));
        }
        let durable = SnapshotOutcome::Durable(meta.clone());
        assert_eq!(worker.run(SnapshotJob::Finish { meta }), Some(durable));
        let read = worker.run(SnapshotJob::Read { token: 4, last: LAST, offset: 60, len: 1000 });
        let bytes = Ok(bytes[60..].to_vec());
        assert_eq!(read, Some(SnapshotOutcome::Read { token: 4, last: LAST, offset: 60, bytes }));
        let read = worker.run(SnapshotJob::Read { token: 5, last: NEXT, offset: 0, len: 1 });
        assert!(matches!(read, Some(SnapshotOutcome::Read { token: 5, bytes: Err(_), .. })), "{read:?}");
    }

    #[test]
    fn a_snapshot_that_lacks_bytes_is_never_named() {
        let (disk, mut worker) = worker();
        let (bytes, meta) = image(LAST);
        assert!(
            reason(worker.run(SnapshotJob::Finish { meta: meta.clone() })).contains("no snapshot at 9@3")
        );
        worker.run(SnapshotJob::Abort);
        worker.run(write(LAST, &bytes[1..]));
        assert!(reason(worker.run(SnapshotJob::Finish { meta: meta.clone() })).contains("bytes of it"));
        worker.run(SnapshotJob::Abort);
        worker.run(write(LAST, &bytes));
        worker.run(write(NEXT, &bytes));
        assert!(reason(worker.run(SnapshotJob::Finish { meta })).contains("no snapshot at 9@3"));
        assert_eq!(disk.list(Path::new("d")).unwrap(), [""; 0]);
    }

    #[test]
    fn a_failure_is_said_once_and_a_new_attempt_is_free() {
        let (disk, mut worker) = worker();
        let (bytes, meta) = image(LAST);
        disk.refuse(Some(Refusal { at: disk.operations() + 2, onward: false, errno: Errno::ENOSPC }));
        assert!(reason(worker.run(write(LAST, &bytes))).contains("No space left"));
        assert_eq!(worker.run(write(LAST, &bytes)), None);
        assert_eq!(worker.run(SnapshotJob::Finish { meta: meta.clone() }), None);
        assert_eq!(worker.run(SnapshotJob::Abort), None);
        worker.run(write(LAST, &bytes));
        let durable = SnapshotOutcome::Durable(meta.clone());
        assert_eq!(worker.run(SnapshotJob::Finish { meta }), Some(durable));
    }

    #[test]
    fn an_image_that_came_whole_is_checked_against_what_was_promised() {
        let (_, mut worker) = worker();
        let (bytes, meta) = image(LAST);
        let save =
            |meta: &SnapshotMeta, image: &[u8]| SnapshotJob::Save { meta: meta.clone(), image: image.into() };
        assert!(
            reason(worker.run(save(&SnapshotMeta { chain: 2, ..meta.clone() }, &bytes))).contains("promised")
        );
        let (other, _) = image(NEXT);
        assert!(reason(worker.run(save(&meta, &other))).contains("its name says 9@3"));
        assert!(reason(worker.run(save(&meta, &bytes[1..]))).contains("checksum"));
        assert_eq!(worker.run(save(&meta, &bytes)), Some(SnapshotOutcome::Durable(meta)));
    }

    #[test]
    fn what_is_not_kept_goes() {
        let (disk, mut worker) = worker();
        for last in [LAST, NEXT] {
            let (bytes, meta) = image(last);
            worker.run(SnapshotJob::Save { meta, image: bytes.into() });
        }
        assert_eq!(disk.list(Path::new("d")).unwrap().len(), 2);
        assert_eq!(worker.run(SnapshotJob::Keep(vec![NEXT])), Some(SnapshotOutcome::Kept(Ok(()))));
        assert_eq!(disk.list(Path::new("d")).unwrap().len(), 1);
    }
}
