//! A write-ahead log on a memory disk, with a model of what it must give back.
//! What happens to the disk between two openings is the business of the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::raft::types::{Entry, HardState, LogId, Lsn, Payload, Record};
use node::storage::recovery::{self, SegmentFile};
use node::storage::segment::{self, Piece};
use node::storage::{Disk, Identity, Layout, MemoryDisk, Recovered, StorageError, Wal};

pub(crate) const IDENTITY: Identity = Identity { cluster_id: 7, node_id: 2 };
/// Small, so that a few batches fill several segments, and steps of zeros end inside batches.
pub(crate) const LAYOUT: Layout = Layout { segment_bytes: 2048, zero_step_bytes: 1024 };

pub(crate) fn dir() -> &'static Path {
    Path::new("cluster/n2")
}

pub(crate) fn segment_path(sequence: u64) -> PathBuf {
    dir().join(segment::file_name(sequence))
}

pub(crate) fn entry(term: u64, index: u64, bytes: usize) -> Record {
    let payload = if bytes == 0 { Payload::Noop } else { Payload::Command(vec![index as u8; bytes].into()) };
    Record::Entry(Entry { id: LogId { term, index }, payload })
}

/// Batches as a node in an unlucky cluster writes them: votes, runs of entries, truncations. Some batches fill more than a segment.
pub(crate) fn script() -> Vec<Vec<Record>> {
    let vote = |term, voted_for| Record::HardState(HardState { term, voted_for });
    vec![
        vec![vote(1, Some(2)), entry(1, 1, 0)],
        vec![entry(1, 2, 10), entry(1, 3, 700), entry(1, 4, 1)],
        vec![vote(2, None)],
        vec![Record::Truncate { last_index: 2 }, entry(2, 3, 100), entry(2, 4, 0), entry(2, 5, 600)],
        (6..=12).map(|index| entry(2, index, 500)).collect(),
        vec![vote(3, Some(1))],
        vec![entry(2, 13, 8)],
        vec![entry(2, 14, 3000), entry(2, 15, 5)],
        vec![Record::Truncate { last_index: 13 }, vote(4, None), entry(4, 14, 1000), entry(4, 15, 1000)],
        vec![entry(4, 16, 40), entry(4, 17, 0)],
    ]
}

pub(crate) struct World {
    pub(crate) disk: MemoryDisk,
    below: Arc<dyn Disk>,
    wal: Option<Wal>,
    /// Everything appended, by lsn from 1, since the last opening that told what survived.
    records: Vec<Record>,
    /// Up to here it must survive.
    pub(crate) acked: Lsn,
    /// An opening failed, perhaps after it had appended its `Boot`.
    boot_in_doubt: bool,
}

impl World {
    pub(crate) fn new() -> World {
        let disk = MemoryDisk::new(1);
        World::on(disk.clone(), Arc::new(disk))
    }

    /// A world whose log sees `disk` through `below`.
    pub(crate) fn on(disk: MemoryDisk, below: Arc<dyn Disk>) -> World {
        World { disk, below, wal: None, records: Vec::new(), acked: 0, boot_in_doubt: false }
    }

    /// A world in which `batches` were written and synced, and then the process was killed.
    pub(crate) fn written(batches: &[Vec<Record>]) -> World {
        let mut world = World::new();
        world.open().unwrap();
        for batch in batches {
            world.write(batch).unwrap();
        }
        world.kill();
        world
    }

    /// Opens the log, and compares what it gives back with what may and must be there.
    pub(crate) fn open(&mut self) -> Result<Recovered, StorageError> {
        self.wal = None;
        match Wal::open_with(self.below.clone(), dir(), &IDENTITY, LAYOUT) {
            Ok((wal, recovered)) => {
                self.compare(&recovered);
                self.wal = Some(wal);
                Ok(recovered)
            }
            Err(error) => {
                self.boot_in_doubt = true;
                Err(error)
            }
        }
    }

    fn compare(&mut self, recovered: &Recovered) {
        let survived = (recovered.last_lsn - 1) as usize;
        assert!(
            survived as Lsn >= self.acked,
            "lsn {} was acknowledged, only {survived} survived",
            self.acked
        );
        let mut allowed = Vec::new();
        if survived <= self.records.len() {
            allowed.push(self.records[..survived].to_vec());
        }
        if self.boot_in_doubt && survived > 0 && survived <= self.records.len() + 1 {
            let mut records = self.records[..survived - 1].to_vec();
            let incarnation = boots(&records) + 1;
            records.push(Record::Boot { incarnation });
            allowed.push(records);
        }
        let found = allowed.into_iter().find(|records| is_state_of(recovered, records));
        let mut records = found.unwrap_or_else(|| {
            panic!("{recovered:?} is not the state after {survived} of the records {:?}", self.records)
        });
        records.push(Record::Boot { incarnation: recovered.incarnation });
        self.records = records;
        self.acked = recovered.last_lsn;
        self.boot_in_doubt = false;
    }

    /// Appends and syncs one batch.
    pub(crate) fn write(&mut self, batch: &[Record]) -> Result<(), StorageError> {
        let wal = self.wal.as_mut().expect("opened");
        let first = self.records.len() as Lsn + 1;
        let numbered: Vec<(Lsn, Record)> = (first..).zip(batch.iter().cloned()).collect();
        self.records.extend_from_slice(batch);
        wal.append(&numbered)?;
        self.acked = wal.sync()?;
        assert_eq!(self.acked, self.records.len() as Lsn);
        Ok(())
    }

    /// Opens again, appends after whatever was recovered, and opens once more: the first repair left nothing to repair.
    pub(crate) fn goes_on(&mut self) {
        self.reopen_clean();
        for bytes in [30, 900] {
            let index = log_of(&self.records).len() as u64 + 1;
            self.write(&[entry(9, index, bytes)]).unwrap();
        }
        self.reopen_clean();
    }

    fn reopen_clean(&mut self) {
        self.kill();
        let recovered = self.open().unwrap();
        assert_eq!(recovered.notes, Vec::<String>::new());
    }

    pub(crate) fn kill(&mut self) {
        self.wal = None;
        self.disk.kill();
    }

    /// Opens, and writes the script until something fails. The failure must poison the log.
    pub(crate) fn run_script(&mut self) -> Option<StorageError> {
        if let Err(error) = self.open() {
            return Some(error);
        }
        for batch in script() {
            if let Err(error) = self.write(&batch) {
                let wal = self.wal.as_mut().expect("opened");
                let next = (wal.last_lsn() + 1, Record::Truncate { last_index: 0 });
                assert!(matches!(wal.append(&[next]), Err(StorageError::Poisoned { .. })));
                assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
                return Some(error);
            }
        }
        None
    }

    pub(crate) fn segments(&self) -> Vec<SegmentFile> {
        recovery::read_segments(&self.disk, dir()).unwrap()
    }

    /// Segment, offset and lsn of every record.
    pub(crate) fn positions(&self) -> Vec<(u64, u64, Lsn)> {
        let mut positions = Vec::new();
        for file in self.segments() {
            for piece in &file.pieces {
                let Piece::Record { offset, frame } = piece else { panic!("{piece:?} in {:?}", file.path) };
                positions.push((file.sequence, *offset, frame.lsn));
            }
        }
        positions
    }

    pub(crate) fn tamper(&self, sequence: u64, change: impl FnOnce(&mut Vec<u8>)) {
        self.disk.tamper(&segment_path(sequence), change).unwrap();
    }
}

fn is_state_of(recovered: &Recovered, records: &[Record]) -> bool {
    recovered.incarnation == boots(records) + 1
        && recovered.entries == log_of(records)
        && recovered.hard_state == hard_state_of(records)
}

fn boots(records: &[Record]) -> u64 {
    records.iter().filter(|record| matches!(record, Record::Boot { .. })).count() as u64
}

fn hard_state_of(records: &[Record]) -> HardState {
    let mut states = records.iter().filter_map(|record| match record {
        Record::HardState(state) => Some(*state),
        _ => None,
    });
    states.next_back().unwrap_or_default()
}

fn log_of(records: &[Record]) -> Vec<Entry> {
    let mut log = Vec::new();
    for record in records {
        match record {
            Record::Entry(entry) => log.push(entry.clone()),
            Record::Truncate { last_index } => log.truncate(*last_index as usize),
            Record::Boot { .. } | Record::HardState(_) | Record::Snapshot(_) => {}
        }
    }
    log
}
