//! The write-ahead log on the disk of this machine: what a memory disk cannot show, that the operating system is asked the right way.
//! Failures of the disk are left to `failures`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use node::raft::types::{Entry, HardState, LogId, Payload, Record};
use node::storage::{Condition, RealDisk, Recovered, StorageError, Wal};

use crate::world::IDENTITY;

fn open(dir: &Path) -> Result<(Wal, Recovered), StorageError> {
    Wal::open(Arc::new(RealDisk), dir, &IDENTITY, None)
}

fn command(index: u64, bytes: &[u8]) -> Entry {
    Entry { id: LogId { term: 1, index }, payload: Payload::Command(Arc::from(bytes)) }
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/b");
    let (mut wal, first) = open(&dir).unwrap();
    assert_eq!((first.incarnation, first.last_lsn, first.entries.len()), (1, 1, 0));

    let hard_state = HardState { term: 1, voted_for: Some(2) };
    let entries: Vec<Entry> = (1..=100).map(|index| command(index, &vec![b'x'; 1000])).collect();
    wal.append(&[(2, Record::HardState(hard_state))]).unwrap();
    for (lsn, entry) in (3..).zip(&entries) {
        wal.append(&[(lsn, Record::Entry(entry.clone()))]).unwrap();
    }
    assert_eq!(wal.sync().unwrap().durable, 102);
    drop(wal);

    let (_wal, again) = open(&dir).unwrap();
    let expected = Recovered {
        mark: None,
        snapshot: None,
        condition: Condition::Sound,
        hard_state,
        entries,
        incarnation: 2,
        directory_id: first.directory_id,
        last_lsn: 103,
        notes: Vec::new(),
    };
    assert_eq!(again, expected);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "one segment, the superblock, and no lock file");
}

#[test]
fn two_directories_of_one_node_differ() {
    let root = tempfile::tempdir().unwrap();
    let (_a, a) = open(&root.path().join("a")).unwrap();
    let (_b, b) = open(&root.path().join("b")).unwrap();
    assert_ne!(a.directory_id, b.directory_id);
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let (first, _) = open(root.path()).unwrap();
    let error = open(root.path()).err().unwrap();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    assert_eq!(error.exit_code(), 65);
    drop(first);
    assert_eq!(open(root.path()).unwrap().1.incarnation, 2);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = open(&path).err().unwrap();
    assert_eq!(error.exit_code(), 74);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}
