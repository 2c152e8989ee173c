//! A write-ahead log and its snapshots on a memory disk, with a model of what they must give back.
//! What happens to the disk between two openings is the business of the tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::raft::types::{Entry, HardState, LogId, Lsn, Payload, Record, Recovering, SnapshotMark};
use node::storage::record::Kind;
use node::storage::recovery::{self, SegmentFile};
use node::storage::segment::{self, Piece};
use node::storage::snapshot_file::Encoder;
use node::storage::superblock::{Superblock, SuperblockFile};
use node::storage::{
    Condition, Disk, Identity, Layout, MemoryDisk, Recovered, SnapshotDir, SnapshotMeta, StorageError, Wal,
};

pub(crate) const IDENTITY: Identity = Identity { cluster_id: 7, node_id: 2 };
/// Small, so that a few batches fill several segments, and steps of zeros end inside batches.
pub(crate) const LAYOUT: Layout = Layout { segment_bytes: 2048, zero_step_bytes: 1024, reserve_bytes: 256 };

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

pub(crate) fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// A snapshot at `last`, after which the log begins after `base`.
pub(crate) fn mark(last: LogId, base: LogId) -> SnapshotMark {
    let membership = Arc::from([last.index as u8, 3].as_slice());
    SnapshotMark { last, chain: last.index * 7, base, base_chain: base.index * 7, membership }
}

/// The mark of no snapshot with which a log begins, and again whenever it knows `members` by other directories.
pub(crate) fn founding(members: u8) -> SnapshotMark {
    SnapshotMark { membership: Arc::from([members, 3].as_slice()), ..SnapshotMark::default() }
}

/// The image of the snapshot at `last`.
pub(crate) fn image(last: LogId) -> (SnapshotMeta, Vec<u8>) {
    let SnapshotMark { chain, membership, .. } = mark(last, last);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(IDENTITY.cluster_id, last, chain, membership, &mut bytes);
    encoder.push(&[last.index as u8; 700], &mut bytes);
    (encoder.finish(&mut bytes), bytes)
}

/// Batches as a node in an unlucky cluster writes them: votes, runs of entries, truncations, snapshots of its own and of a
/// leader. Some batches fill more than a segment.
pub(crate) fn script() -> Vec<Vec<Record>> {
    let vote = |term, voted_for| Record::HardState(HardState { term, voted_for });
    vec![
        vec![vote(1, Some(2)), entry(1, 1, 0)],
        vec![entry(1, 2, 10), entry(1, 3, 700), entry(1, 4, 1)],
        vec![vote(2, None)],
        vec![Record::Truncate { last_index: 2 }, entry(2, 3, 100), entry(2, 4, 0), entry(2, 5, 600)],
        (6..=12).map(|index| entry(2, index, 500)).collect(),
        vec![vote(3, Some(1))],
        // A snapshot of its own: the log keeps some of what is in it.
        vec![entry(2, 13, 8), Record::Snapshot(mark(id(2, 11), id(2, 7))), entry(2, 14, 0)],
        vec![Record::Truncate { last_index: 13 }, entry(3, 14, 3000), entry(3, 15, 5)],
        vec![Record::Truncate { last_index: 13 }, vote(4, None), entry(4, 14, 1000), entry(4, 15, 1000)],
        // A snapshot of a leader, in place of the log.
        vec![Record::Snapshot(mark(id(5, 40), id(5, 40))), vote(5, Some(3)), entry(5, 41, 900)],
        vec![entry(5, 42, 40), entry(5, 43, 900)],
        vec![Record::Snapshot(mark(id(5, 42), id(5, 40)))],
        vec![vote(6, None), entry(6, 44, 800), entry(6, 45, 0)],
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
    /// The last failure was one of the log, not of a snapshot beside it.
    log_failed: bool,
    /// How often records had to wait for space.
    pub(crate) waited: u64,
    /// Openings that failed, perhaps after they had appended their `Boot`.
    boots_in_doubt: usize,
}

impl World {
    pub(crate) fn new() -> World {
        let disk = MemoryDisk::new(1);
        World::on(disk.clone(), Arc::new(disk))
    }

    /// A world whose log sees `disk` through `below`.
    pub(crate) fn on(disk: MemoryDisk, below: Arc<dyn Disk>) -> World {
        World {
            disk,
            below,
            wal: None,
            records: Vec::new(),
            acked: 0,
            waited: 0,
            log_failed: false,
            boots_in_doubt: 0,
        }
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
        match Wal::open_with(self.below.clone(), dir(), &IDENTITY, None, LAYOUT) {
            Ok((wal, recovered)) => {
                self.compare(&recovered);
                self.wal = Some(wal);
                Ok(recovered)
            }
            Err(error) => {
                self.boots_in_doubt += 1;
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
        for boots_in_doubt in 0..=self.boots_in_doubt.min(survived) {
            let before = survived - boots_in_doubt;
            if before <= self.records.len() {
                let mut records = self.records[..before].to_vec();
                for _ in 0..boots_in_doubt {
                    let incarnation = boots(&records) + 1;
                    records.push(Record::Boot { incarnation });
                }
                allowed.push(records);
            }
        }
        let found = allowed.into_iter().find(|records| is_state_of(recovered, records));
        let mut records = found.unwrap_or_else(|| {
            panic!("{recovered:?} is not the state after {survived} of the records {:?}", self.records)
        });
        records.push(Record::Boot { incarnation: recovered.incarnation });
        self.records = records;
        self.acked = recovered.last_lsn;
        self.boots_in_doubt = 0;
    }

    /// Appends and syncs one batch.
    pub(crate) fn write(&mut self, batch: &[Record]) -> Result<(), StorageError> {
        for record in batch {
            if let Record::Snapshot(SnapshotMark { last, .. }) = record {
                let (meta, image) = image(*last);
                self.snapshots().save(&meta, &image)?;
            }
        }
        let wal = self.wal.as_mut().expect("opened");
        let first = self.records.len() as Lsn + 1;
        let numbered: Vec<(Lsn, Record)> = (first..).zip(batch.iter().cloned()).collect();
        self.records.extend_from_slice(batch);
        self.log_failed = true;
        wal.append(&numbered)?;
        let mut progress = wal.sync()?;
        if progress.out_of_space {
            self.waited += 1;
            // What lacked is there again.
            self.disk.refuse(None);
            progress = wal.sync()?;
        }
        self.log_failed = false;
        assert_eq!((progress.hard_state, progress.out_of_space), (progress.durable, false));
        self.acked = progress.durable;
        assert_eq!(self.acked, self.records.len() as Lsn);
        if batch.iter().any(|record| matches!(record, Record::Snapshot(_))) {
            let marks = self.records.iter().rev().filter_map(|record| match record {
                Record::Snapshot(mark) => Some(mark.last),
                _ => None,
            });
            self.snapshots().remove_except(&marks.take(2).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The snapshots beside the log.
    pub(crate) fn snapshots(&self) -> SnapshotDir {
        SnapshotDir::new(self.below.clone(), dir(), &IDENTITY)
    }

    /// Opens the log after damage, and compares what it gives back with what is true: it may know less, but nothing else.
    pub(crate) fn open_damaged(&mut self) -> Result<Recovered, StorageError> {
        self.wal = None;
        let (wal, recovered) = Wal::open_with(self.below.clone(), dir(), &IDENTITY, None, LAYOUT)?;
        let (mark, log) = log_of(&self.records);
        let hard_state = hard_state_of(&self.records);
        assert!(recovered.incarnation > boots(&self.records), "an incarnation is given twice: {recovered:?}");
        assert!(recovered.last_lsn > self.records.len() as Lsn, "an lsn is given twice: {recovered:?}");
        // Where entries are lost that the snapshot stands for, the log begins after it.
        let begins = |mark: &Option<SnapshotMark>| mark.as_ref().map_or(0, |mark| mark.base.index);
        let rest = |mark: &Option<SnapshotMark>, log: &[Entry]| {
            let skipped = begins(&recovered.mark).saturating_sub(begins(mark)) as usize;
            log.get(skipped..).unwrap_or_default().to_vec()
        };
        let starts = |mark: &Option<SnapshotMark>, log: &[Entry]| {
            recovered.entries.is_empty() || rest(mark, log).starts_with(&recovered.entries)
        };
        match recovered.condition {
            Condition::Sound => {
                let mut seen = recovered.clone();
                let used = seen.mark.as_ref().map(|mark| mark.last);
                if used != mark.as_ref().map(|mark| mark.last) {
                    // An older snapshot stands in for the newest, and the log goes on after it.
                    assert_eq!(recovered.snapshot, used.map(image), "{recovered:?}");
                    (seen.mark, seen.snapshot) = (mark.clone(), mark.as_ref().map(|mark| image(mark.last)));
                }
                if begins(&seen.mark) > begins(&mark) {
                    let base = seen.mark.as_ref().map(|mark| (mark.base, mark.base_chain));
                    assert_eq!(base, seen.mark.as_ref().map(|mark| (mark.last, mark.chain)), "{recovered:?}");
                    assert_eq!(seen.entries, rest(&mark, &log), "{recovered:?}");
                    (seen.mark, seen.entries) = (mark.clone(), log.clone());
                }
                assert!(is_state_of(&seen, &self.records), "{recovered:?} passes for {:?}", self.records);
            }
            Condition::Recovering(Recovering { last, last_known, vote_known }) => {
                let base = mark.as_ref().map_or(LogId::default(), |mark| mark.base);
                let true_last = log.last().map_or(base, |entry| entry.id);
                if last_known {
                    assert_eq!(last, true_last, "{recovered:?}");
                    assert!(starts(&mark, &log), "{recovered:?} of {log:?}");
                } else {
                    let known = (0..=self.records.len()).any(|len| {
                        let (mark, log) = log_of(&self.records[..len]);
                        starts(&mark, &log)
                    });
                    assert!(known, "{recovered:?} was never the log");
                }
                match vote_known {
                    true => assert_eq!(recovered.hard_state, hard_state),
                    false => assert!(recovered.hard_state.term <= hard_state.term),
                }
            }
        }
        self.records.push(Record::Boot { incarnation: recovered.incarnation });
        self.wal = Some(wal);
        Ok(recovered)
    }

    /// Opens the log and returns what it gives back, whatever that is.
    pub(crate) fn open_unchecked(&mut self) -> Result<Recovered, StorageError> {
        self.wal = None;
        let (wal, recovered) = Wal::open_with(self.below.clone(), dir(), &IDENTITY, None, LAYOUT)?;
        self.wal = Some(wal);
        Ok(recovered)
    }

    /// Kills the node that recovered from damage, and opens again. Only the boots in between are new.
    pub(crate) fn restart_damaged(&mut self) -> Recovered {
        self.disk.kill();
        self.open_damaged().unwrap()
    }

    /// Writes records whatever was recovered, and takes what the log says for the truth from then on.
    pub(crate) fn write_on(&mut self, recovered: &Recovered, batch: &[Record]) {
        let wal = self.wal.as_mut().expect("opened");
        let numbered: Vec<(Lsn, Record)> = (recovered.last_lsn + 1..).zip(batch.iter().cloned()).collect();
        wal.append(&numbered).unwrap();
        assert_eq!(wal.sync().unwrap().durable, recovered.last_lsn + batch.len() as Lsn);
    }

    /// Opens again, appends after whatever was recovered, and opens once more: the first repair left nothing to repair.
    pub(crate) fn goes_on(&mut self) {
        self.reopen_clean();
        for bytes in [30, 900] {
            let (mark, log) = log_of(&self.records);
            let base = mark.map_or(0, |mark| mark.base.index);
            let index = log.last().map_or(base, |entry| entry.id.index) + 1;
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

    /// Opens, and writes the script until something fails. A failure of the log must poison it.
    pub(crate) fn run_script(&mut self) -> Option<StorageError> {
        if let Err(error) = self.open() {
            return Some(error);
        }
        for batch in script() {
            let written = self.write(&batch);
            if let (Err(error), false) = (&written, self.log_failed) {
                assert!(error.to_string().contains("n2"), "{error}");
                return written.err();
            }
            if let Err(error) = written {
                let wal = self.wal.as_mut().expect("opened");
                let next = (wal.last_lsn() + 1, Record::Truncate { last_index: 0 });
                assert!(matches!(wal.append(&[next]), Err(StorageError::Poisoned { .. })));
                assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
                return Some(error);
            }
        }
        None
    }

    /// What the superblock says now.
    pub(crate) fn superblock(&self) -> Vec<u8> {
        self.disk.read(&SuperblockFile::path(dir())).unwrap()
    }

    /// Has the superblock say, durably, what it said when the record `lsn` was the last: as old as a power loss can make it.
    pub(crate) fn age_superblock(&self, lsn: Lsn) {
        let records = &self.records[..lsn as usize];
        let (mark, log) = log_of(records);
        let base = mark.map_or(LogId::default(), |mark| mark.base);
        let aged = Superblock {
            durable_lsn: lsn,
            last: log.last().map_or(base, |entry| entry.id),
            hard_state: hard_state_of(records),
            mark_lsn: records.iter().rposition(is_mark).map_or(0, |at| at as Lsn + 1),
            ..Superblock::latest(&self.superblock()).unwrap()
        };
        self.set_superblock(&aged.encode_file());
    }

    /// Has the superblock say what it said at another time.
    pub(crate) fn set_superblock(&self, superblock: &[u8]) {
        self.disk.tamper(&SuperblockFile::path(dir()), |bytes| *bytes = superblock.to_vec()).unwrap();
    }

    pub(crate) fn segments(&self) -> Vec<SegmentFile> {
        recovery::read(&self.disk, dir()).unwrap().segments
    }

    /// Segment, offset and lsn of every record, checkpoints aside.
    pub(crate) fn positions(&self) -> Vec<(u64, u64, Lsn)> {
        let mut positions = Vec::new();
        for file in self.segments() {
            for piece in &file.pieces {
                let Piece::Record { offset, frame } = piece else { panic!("{piece:?} in {:?}", file.path) };
                if frame.kind != Kind::Checkpoint as u8 {
                    positions.push((file.sequence, *offset, frame.lsn));
                }
            }
        }
        positions
    }

    /// Segment, offset and length of the record `lsn`, whatever surrounds it.
    pub(crate) fn record(&self, lsn: Lsn) -> (u64, usize, usize) {
        let files = self.segments();
        let pieces =
            files.iter().flat_map(|file| file.pieces.iter().map(move |piece| (file.sequence, piece)));
        let mut records = pieces.filter_map(|(sequence, piece)| match piece {
            Piece::Record { offset, frame } if frame.kind != Kind::Checkpoint as u8 && frame.lsn == lsn => {
                Some((sequence, *offset as usize, frame.encoded_bytes() as usize))
            }
            _ => None,
        });
        records.next().unwrap_or_else(|| panic!("no record {lsn}"))
    }

    pub(crate) fn tamper(&self, sequence: u64, change: impl FnOnce(&mut Vec<u8>)) {
        self.disk.tamper(&segment_path(sequence), change).unwrap();
    }
}

fn is_state_of(recovered: &Recovered, records: &[Record]) -> bool {
    let (mark, log) = log_of(records);
    recovered.incarnation == boots(records) + 1
        && recovered.mark == mark
        && recovered.entries == log
        && recovered.hard_state == hard_state_of(records)
        && recovered.condition == Condition::Sound
        && recovered.snapshot
            == recovered.mark.as_ref().filter(|mark| mark.last.index > 0).map(|mark| image(mark.last))
}

fn is_mark(record: &Record) -> bool {
    matches!(record, Record::Snapshot(_))
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

/// The latest mark, and the log after its base.
fn log_of(records: &[Record]) -> (Option<SnapshotMark>, Vec<Entry>) {
    let mut mark: Option<SnapshotMark> = None;
    let mut log: Vec<Entry> = Vec::new();
    for record in records {
        let base = mark.as_ref().map_or(LogId::default(), |mark| mark.base);
        match record {
            Record::Entry(entry) => log.push(entry.clone()),
            Record::Truncate { last_index } => log.retain(|entry| entry.id.index <= *last_index),
            Record::Snapshot(next) => {
                if next.base == base || log.iter().any(|entry| entry.id == next.base) {
                    log.retain(|entry| entry.id.index > next.base.index);
                } else {
                    log.clear();
                }
                mark = Some(next.clone());
            }
            Record::Boot { .. } | Record::HardState(_) | Record::Recovering(_) => {}
        }
    }
    (mark, log)
}
