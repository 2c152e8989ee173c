//! A disk that is full: entries wait in their order, votes go on from the reserve, a snapshot makes space, and when there is
//! space again all of it is there. Nothing that was said to be durable is ever lost by it.

use std::sync::Arc;

use nix::errno::Errno;
use node::raft::types::{Entry, HardState, LogId, Lsn, Record};
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::{Condition, Disk, MemoryDisk, Progress, Recovered, SnapshotDir, StorageError, Wal};

use crate::world::{IDENTITY, LAYOUT, World, dir, entry, id, image, mark, script};

/// A log on a disk of its own, with everything that was appended.
struct Full {
    disk: MemoryDisk,
    wal: Wal,
    first_lsn: Lsn,
    appended: Vec<Record>,
}

fn open(disk: &MemoryDisk) -> Result<(Wal, Recovered), StorageError> {
    Wal::open_with(Arc::new(disk.clone()), dir(), &IDENTITY, None, LAYOUT)
}

impl Full {
    /// A log of one entry, with a spare segment, on a disk that has room for `bytes` more.
    fn new(bytes: u64) -> Full {
        let disk = MemoryDisk::new(1);
        let (mut wal, recovered) = open(&disk).unwrap();
        wal.prepare().unwrap();
        disk.set_capacity(disk.used() + bytes);
        let mut full = Full { disk, wal, first_lsn: recovered.last_lsn + 1, appended: Vec::new() };
        assert!(!full.write(entry(1, 1, 10)).unwrap().out_of_space);
        full
    }

    fn write(&mut self, record: Record) -> Result<Progress, StorageError> {
        let lsn = self.first_lsn + self.appended.len() as Lsn;
        self.appended.push(record.clone());
        self.wal.append(&[(lsn, record)])?;
        self.wal.sync()
    }

    fn vote(&mut self, term: u64) -> Result<Progress, StorageError> {
        self.write(Record::HardState(HardState { term, voted_for: Some(1) }))
    }

    /// Appends entries until they wait. Returns how many are durable.
    fn fill(&mut self) -> u64 {
        for index in 2.. {
            let progress = self.write(entry(1, index, 300)).unwrap();
            if progress.out_of_space {
                assert_eq!(progress.durable, self.wal.last_lsn() - 1, "only the last one waits");
                return index - 1;
            }
        }
        unreachable!("a full disk takes everything")
    }

    fn last_lsn(&self) -> Lsn {
        self.wal.last_lsn()
    }

    /// A snapshot up to this entry. Where it found space is another story: it is there, also afterwards.
    fn snapshot(&self, index: u64) -> LogId {
        let last = id(1, index);
        let (meta, bytes) = image(last);
        self.disk.set_capacity(u64::MAX);
        SnapshotDir::new(Arc::new(self.disk.clone()), dir(), &IDENTITY).save(&meta, &bytes).unwrap();
        last
    }

    fn restart(self) -> Recovered {
        self.disk.kill();
        open(&self.disk).unwrap().1
    }
}

fn entries(records: &[Record]) -> Vec<Entry> {
    let entries = records.iter().filter_map(|record| match record {
        Record::Entry(entry) => Some(entry.clone()),
        _ => None,
    });
    entries.collect()
}

#[test]
fn entries_wait_and_votes_go_on() {
    let mut full = Full::new(3000);
    let durable = full.fill();
    assert!(durable > 3, "only {durable} entries fitted");
    for term in 2..=4 {
        let progress = full.vote(term).unwrap();
        assert!(progress.out_of_space);
        assert_eq!(progress.hard_state, full.last_lsn(), "the vote is durable");
        assert!(progress.durable < full.last_lsn() - 1, "the entry before it is not");
    }
    let appended = full.appended.clone();
    let recovered = full.restart();
    assert_eq!(recovered.hard_state, HardState { term: 4, voted_for: Some(1) });
    assert_eq!(recovered.entries, entries(&appended)[..durable as usize]);
    assert_eq!(recovered.condition, Condition::Sound);
}

#[test]
fn when_there_is_space_again_everything_that_waited_is_there_in_its_order() {
    let mut full = Full::new(3000);
    let durable = full.fill();
    full.vote(2).unwrap();
    full.write(Record::Truncate { last_index: durable }).unwrap();
    full.write(entry(2, durable + 1, 900)).unwrap();
    assert!(full.vote(3).unwrap().out_of_space);
    full.disk.set_capacity(u64::MAX);
    let last = full.last_lsn();
    assert_eq!(full.wal.sync().unwrap(), Progress { durable: last, hard_state: last, out_of_space: false });
    full.write(entry(2, durable + 2, 5)).unwrap();
    let appended = full.appended.clone();
    let recovered = full.restart();
    let mut expected = entries(&appended);
    expected.remove(durable as usize); // the one that was cut off
    assert_eq!(recovered.entries, expected);
    assert_eq!(recovered.hard_state.term, 3);
    assert_eq!(recovered.last_lsn, last + 2, "one more record, and the boot");
}

#[test]
fn the_reserve_ends_and_even_then_nothing_is_lost() {
    let mut full = Full::new(3000);
    full.fill();
    let mut term = 1;
    let waiting = loop {
        term += 1;
        let progress = full.vote(term).unwrap();
        if progress.hard_state < full.last_lsn() {
            break progress;
        }
    };
    // The reserve of a segment and a spare one, at 48 bytes a vote.
    let votes = term - 2;
    assert!((15..=30).contains(&votes), "{votes} votes fitted into the reserve");
    assert_eq!(waiting.hard_state, full.last_lsn() - 1);
    full.disk.set_capacity(u64::MAX);
    assert_eq!(full.wal.sync().unwrap().hard_state, full.last_lsn());
    assert_eq!(full.restart().hard_state.term, term);
}

#[test]
fn a_snapshot_makes_space_out_of_the_reserve() {
    let mut full = Full::new(6000);
    let durable = full.fill();
    let last = full.snapshot(durable);
    let used = full.disk.used();
    full.disk.set_capacity(used);
    let progress = full.write(Record::Snapshot(mark(last, last))).unwrap();
    assert!(!progress.out_of_space, "{progress:?}");
    assert_eq!(progress.durable, full.last_lsn());
    assert!(full.disk.used() < used, "segments went");
    let recovered = full.restart();
    assert_eq!(recovered.mark, Some(mark(last, last)));
    assert_eq!(recovered.entries.len(), 1, "the one that had waited");
}

#[test]
fn a_node_starts_on_a_full_disk() {
    let mut full = Full::new(3000);
    let durable = full.fill();
    full.vote(2).unwrap();
    full.disk.set_capacity(full.disk.used());
    let disk = full.disk.clone();
    assert_eq!(full.restart().entries.len() as u64, durable);
    disk.kill();
    let (mut wal, recovered) = open(&disk).unwrap();
    let vote = Record::HardState(HardState { term: 3, voted_for: None });
    wal.append(&[(recovered.last_lsn + 1, vote)]).unwrap();
    assert_eq!(wal.sync().unwrap().hard_state, recovered.last_lsn + 1);
}

#[test]
fn a_process_that_may_open_no_more_files_waits_as_on_a_full_disk() {
    let mut full = Full::new(u64::MAX / 2);
    full.disk.refuse(Some(Refusal { at: 0, onward: true, errno: Errno::EMFILE }));
    let durable = full.fill();
    assert!(durable > 3, "only {durable} entries fitted into the open segment");
    assert!(full.vote(2).unwrap().hard_state == full.last_lsn(), "votes go on");
    // In an idle moment, too, nothing breaks.
    full.wal.prepare().unwrap();
    full.disk.refuse(None);
    let last = full.last_lsn();
    assert_eq!(full.wal.sync().unwrap(), Progress { durable: last, hard_state: last, out_of_space: false });
    full.write(entry(2, durable + 2, 300)).unwrap();
    let appended = full.appended.clone();
    let recovered = full.restart();
    assert_eq!((recovered.entries, recovered.condition), (entries(&appended), Condition::Sound));
}

#[test]
fn what_makes_space_or_votes_opens_nothing() {
    let mut full = Full::new(6000);
    let durable = full.fill();
    let last = full.snapshot(durable);
    let segments = full.disk.list(dir()).unwrap().len();
    full.disk.refuse(Some(Refusal { at: 0, onward: true, errno: Errno::ENFILE }));
    // The mark goes into the open segment, the spare one follows it, and those before go.
    let progress = full.write(Record::Snapshot(mark(last, last))).unwrap();
    assert_eq!((progress.durable, progress.out_of_space), (full.last_lsn(), false));
    let term = 40;
    for term in 2..=term {
        assert_eq!(full.vote(term).unwrap().hard_state, full.last_lsn(), "the vote of term {term}");
    }
    full.disk.refuse(None);
    assert!(full.disk.list(dir()).unwrap().len() < segments, "segments went");
    full.wal.sync().unwrap();
    let recovered = full.restart();
    assert_eq!((recovered.hard_state.term, recovered.mark), (term, Some(mark(last, last))));
    assert_eq!((recovered.entries.len(), recovered.condition), (1, Condition::Sound));
}

#[test]
fn openings_refused_at_any_moment_make_a_log_wait_and_never_end_it() {
    let mut world = World::new();
    world.open().unwrap();
    let first = world.disk.operations();
    script().iter().for_each(|batch| world.write(batch).unwrap());
    let (mut waits, mut snapshots) = (0, 0);
    for at in first..world.disk.operations() {
        for (onward, errno) in [(false, Errno::EMFILE), (true, Errno::ENFILE)] {
            let mut world = World::new();
            world.open().unwrap();
            world.disk.refuse(Some(Refusal { at, onward, errno }));
            for batch in script() {
                let acked = world.acked;
                // Snapshots do not wait: whoever wants one tries again.
                if let Err(error) = world.write(&batch) {
                    assert!(error.to_string().contains("oo many open files"), "operation {at}: {error}");
                    world.disk.refuse(None);
                    snapshots += 1;
                    if world.acked == acked {
                        world.write(&batch).unwrap();
                    }
                }
            }
            waits += world.waited;
            world.disk.refuse(None);
            world.disk.power_loss(Unsynced::Lost);
            world.open().unwrap_or_else(|error| panic!("operation {at}, {errno}: {error}"));
            world.goes_on();
        }
    }
    assert!(waits > 50 && snapshots > 50, "{waits} waits, {snapshots} snapshots put off");
}

#[test]
fn a_start_that_may_open_no_more_files_is_none_and_takes_nothing_for_lost() {
    let mut refused = 0;
    for at in 0.. {
        let mut world = World::written(&script());
        let from = world.disk.operations();
        world.disk.refuse(Some(Refusal { at: from + at, onward: false, errno: Errno::EMFILE }));
        match world.open() {
            Err(error) => {
                assert_eq!(error.exit_code(), 74, "operation {at}: {error}");
                refused += 1;
            }
            Ok(_) if world.disk.operations() <= from + at => break,
            Ok(recovered) => assert_eq!(recovered.condition, Condition::Sound, "operation {at}"),
        }
        world.disk.refuse(None);
        world.kill();
        world.open().unwrap_or_else(|error| panic!("operation {at}: {error}"));
        world.goes_on();
    }
    assert!(refused > 9, "only {refused} openings");
}

#[test]
fn a_spare_segment_whose_name_finds_no_room_is_no_failure() {
    // How many votes fit, on a full disk that refuses an operation besides; `None` if that is a failure.
    let votes = |at: u64| {
        let mut full = Full::new(3000);
        full.fill();
        let from = full.disk.operations();
        full.disk.refuse(Some(Refusal { at: from + at, onward: false, errno: Errno::ENOSPC }));
        let mut votes = 0;
        loop {
            match full.vote(votes + 2) {
                Err(error) => {
                    assert!(!error.to_string().contains("cannot rename"), "operation {at}: {error}");
                    return (None, false);
                }
                Ok(progress) if progress.hard_state < full.last_lsn() => break,
                Ok(_) => votes += 1,
            }
        }
        let ended = full.disk.operations() <= from + at;
        full.disk.refuse(None);
        full.disk.set_capacity(u64::MAX);
        full.wal.prepare().unwrap();
        assert!(full.disk.list(dir()).unwrap().iter().any(|name| name == "wal-spare.tmp"), "operation {at}");
        assert_eq!(full.wal.sync().unwrap().durable, full.last_lsn());
        assert_eq!(full.restart().hard_state.term, votes + 2, "operation {at}");
        (Some(votes), ended)
    };
    let all = votes(u64::MAX / 2).0.unwrap();
    let outcomes: Vec<_> = (0..).map(votes).take_while(|(_, ended)| !ended).collect();
    let without_spare =
        outcomes.iter().filter(|(votes, _)| votes.is_some_and(|votes| votes + 3 < all)).count();
    assert_eq!(without_spare, 1, "the rename, and nothing else: {outcomes:?} of {all}");
}

/// What a node on a full disk goes through. Says what it was told to be durable.
fn life(full: &mut Full, told: &mut Progress) -> Result<(), StorageError> {
    let durable = 8;
    for index in 2..=durable {
        *told = full.write(entry(1, index, 300))?;
    }
    for term in 2..=9 {
        *told = full.vote(term)?;
    }
    full.disk.set_capacity(u64::MAX);
    *told = full.write(entry(2, durable + 1, 20))?;
    Ok(())
}

#[test]
fn power_loss_at_every_operation_on_a_full_disk_loses_nothing_that_was_durable() {
    let mut overtaken = 0;
    for at in 0.. {
        let mut finished = false;
        for seed in 0..10 {
            let mut full = Full::new(2000);
            let operations = full.disk.operations();
            full.disk.refuse(Some(Refusal { at: operations + at, onward: true, errno: Errno::EIO }));
            let lsn = full.last_lsn();
            let mut told = Progress { durable: lsn, hard_state: lsn, out_of_space: false };
            finished = life(&mut full, &mut told).is_ok();
            full.disk.power_loss(Unsynced::Torn { seed });
            full.disk.refuse(None);
            full.disk.set_capacity(u64::MAX);
            let (_, recovered) = open(&full.disk).unwrap();
            let when = format!("operation {at}, seed {seed}: {told:?}, {recovered:?}");
            assert_eq!(recovered.condition, Condition::Sound, "{when}");
            let promised = |lsn: Lsn| &full.appended[..(lsn + 1 - full.first_lsn) as usize];
            assert!(recovered.entries.starts_with(&entries(promised(told.durable))), "{when}");
            assert!(entries(&full.appended).starts_with(&recovered.entries), "{when}");
            let vote = promised(told.hard_state).iter().rev().find_map(|record| match record {
                Record::HardState(state) => Some(state.term),
                _ => None,
            });
            assert!(vote.unwrap_or(0) <= recovered.hard_state.term, "{when}");
            overtaken += usize::from(told.hard_state > told.durable);
        }
        if finished {
            break;
        }
    }
    assert!(overtaken > 50, "votes were ahead of entries only {overtaken} times");
}

#[test]
fn a_failed_sync_is_remembered_and_what_could_be_read_is_written_anew() {
    let disk = MemoryDisk::new(1);
    let (mut wal, recovered) = open(&disk).unwrap();
    let lsn = recovered.last_lsn;
    wal.append(&[(lsn + 1, entry(1, 1, 10))]).unwrap();
    wal.sync().unwrap();
    wal.append(&[(lsn + 2, entry(1, 2, 10))]).unwrap();
    let newest = dir().join("wal-0000000000000001.seg");
    // The write of the batch, then its fdatasync.
    disk.refuse(Some(Refusal { at: disk.operations() + 1, onward: false, errno: Errno::EIO }));
    assert_eq!(wal.sync().unwrap_err().exit_code(), 74);
    assert!(matches!(wal.sync(), Err(StorageError::Poisoned { .. })));
    drop(wal);
    disk.kill();
    let readable = disk.read(&newest).unwrap();
    let (wal, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries.len(), 2, "the second is readable, though its sync failed");
    assert!(recovered.notes.iter().any(|note| note.contains("a sync failed before")), "{recovered:?}");
    drop(wal);
    // From here on it is durable: the node was told of it.
    disk.power_loss(Unsynced::Lost);
    assert!(disk.read(&newest).unwrap().starts_with(&readable[..384]));
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!((recovered.entries.len(), recovered.notes.len()), (2, 0), "{recovered:?}");
}
