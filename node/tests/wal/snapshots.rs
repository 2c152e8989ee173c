//! Snapshot files under power loss, refused operations and rot: one that has a name is whole, one that was finished stays
//! until it is removed. The bytes of an image are tested where they are made.

use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use node::raft::types::LogId;
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::snapshot_dir::file_name;
use node::storage::snapshot_file::{Encoder, verify};
use node::storage::{Disk, MemoryDisk, RealDisk, SnapshotDir, SnapshotMeta, StorageError};

use crate::forgetful::{Forgetful, Forgets};
use crate::world::{IDENTITY, dir};

const FIRST: LogId = LogId { index: 10, term: 1 };
const SECOND: LogId = LogId { index: 20, term: 2 };
const THIRD: LogId = LogId { index: 30, term: 2 };

/// The image at `last`, in the pieces in which an encoder makes it.
fn pieces(last: LogId) -> (Vec<Vec<u8>>, SnapshotMeta) {
    let mut pieces = vec![Vec::new()];
    let mut encoder = Encoder::new(IDENTITY.cluster_id, last, 5, Arc::from([9].as_slice()), &mut pieces[0]);
    for _ in 0..3 {
        let mut piece = Vec::new();
        encoder.push(&vec![last.index as u8; 30_000], &mut piece);
        pieces.push(piece);
    }
    let mut end = Vec::new();
    let meta = encoder.finish(&mut end);
    pieces.push(end);
    (pieces, meta)
}

fn image(last: LogId) -> Vec<u8> {
    pieces(last).0.concat()
}

/// A disk with the data directory on it, durable.
fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new(1);
    for path in [Path::new("cluster"), dir()] {
        disk.create_dir(path).unwrap();
        disk.fsync_dir(path.parent().unwrap()).unwrap();
    }
    disk
}

fn snapshots(disk: impl Disk + 'static) -> SnapshotDir {
    SnapshotDir::new(Arc::new(disk), dir(), &IDENTITY)
}

fn write(snapshots: &SnapshotDir, last: LogId) -> Result<(), StorageError> {
    let mut writer = snapshots.writer(last)?;
    for piece in pieces(last).0 {
        writer.write(&piece)?;
    }
    assert_eq!(writer.written(), image(last).len() as u64);
    writer.finish()
}

/// What a node does in its life. Says after each step which snapshots must be there from now on.
fn life(snapshots: &SnapshotDir, must: &mut Vec<LogId>) -> Result<(), StorageError> {
    for (last, keep) in [(FIRST, None), (SECOND, None), (THIRD, Some([SECOND, THIRD]))] {
        write(snapshots, last)?;
        must.push(last);
        if let Some(keep) = keep {
            must.retain(|last| keep.contains(last));
            snapshots.remove_except(&keep)?;
        }
    }
    drop(snapshots.writer(FIRST)?);
    snapshots.save(&pieces(FIRST).1, &image(FIRST))?;
    must.push(FIRST);
    must.retain(|last| *last == FIRST);
    snapshots.remove_except(&[FIRST])
}

/// Every snapshot with a name is whole, and those that must be there are.
fn check(disk: &MemoryDisk, must: &[LogId], when: &str) {
    let snapshots = snapshots(disk.clone());
    let listed = snapshots.list().unwrap();
    for last in &listed {
        let (meta, bytes) = snapshots.load(*last).unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!((bytes, meta), (image(*last), pieces(*last).1), "{when}");
    }
    for last in must {
        assert!(listed.contains(last), "{when}: {last} is gone, {listed:?} are there");
    }
}

#[test]
fn power_loss_at_every_operation_leaves_whole_snapshots_alone() {
    let (mut cut_off, mut unfinished) = (0, 0);
    for at in 0.. {
        let mut finished = false;
        for seed in 0..16 {
            let disk = disk();
            let from = disk.operations();
            disk.refuse(Some(Refusal { at: from + at, onward: true, errno: Errno::EIO }));
            let mut must = Vec::new();
            finished = life(&snapshots(disk.clone()), &mut must).is_ok();
            disk.power_loss(Unsynced::Torn { seed });
            disk.refuse(None);
            let when = format!("operation {at}, seed {seed}");
            check(&disk, &must, &when);
            let names = disk.list(dir()).unwrap();
            unfinished += usize::from(names.iter().any(|name| name.ends_with(".tmp")));
            cut_off += usize::from(!finished);
            // The next one finds nothing in its way, and takes what was left with it.
            let again = snapshots(disk.clone());
            write(&again, SECOND).unwrap();
            again.remove_except(&[SECOND]).unwrap();
            disk.power_loss(Unsynced::Lost);
            check(&disk, &[SECOND], &when);
            assert_eq!(disk.list(dir()).unwrap(), [file_name(SECOND)], "{when}");
        }
        if finished {
            break;
        }
    }
    assert!(unfinished * 10 > cut_off, "only {unfinished} of {cut_off} power losses left an unfinished file");
}

#[test]
fn every_refused_operation_is_an_error_that_names_the_file_and_costs_one_snapshot() {
    for at in 0.. {
        let disk = disk();
        write(&snapshots(disk.clone()), FIRST).unwrap();
        let snapshots = snapshots(disk.clone());
        disk.refuse(Some(Refusal { at: disk.operations() + at, onward: false, errno: Errno::ENOSPC }));
        let result = write(&snapshots, SECOND);
        let bit = disk.operations() > at;
        let Err(error) = result else {
            disk.refuse(None);
            assert_eq!(snapshots.list().unwrap(), [FIRST, SECOND]);
            assert!(bit && at > 5, "only {at} operations");
            break;
        };
        assert!(error.to_string().contains("cluster/n2"), "{error}");
        disk.refuse(None);
        check(&disk, &[FIRST], &format!("operation {at}"));
        write(&snapshots, SECOND).unwrap();
        disk.power_loss(Unsynced::Lost);
        check(&disk, &[FIRST, SECOND], &format!("operation {at}"));
    }
}

#[test]
fn a_snapshot_that_was_begun_is_finished_though_nothing_can_be_opened_any_more() {
    let disk = disk();
    let ours = snapshots(disk.clone());
    write(&ours, FIRST).unwrap();
    let mut writer = ours.writer(SECOND).unwrap();
    disk.refuse(Some(Refusal { at: 0, onward: true, errno: Errno::EMFILE }));
    pieces(SECOND).0.iter().for_each(|piece| writer.write(piece).unwrap());
    writer.finish().unwrap();
    assert!(ours.writer(THIRD).is_err());
    assert!(ours.remove_except(&[SECOND]).is_err());
    disk.refuse(None);
    disk.power_loss(Unsynced::Lost);
    check(&disk, &[FIRST, SECOND], "nothing can be opened");
    assert_eq!(disk.list(dir()).unwrap().len(), 2, "the third left nothing, and the first was not removed");
}

#[test]
fn an_abandoned_snapshot_leaves_nothing() {
    let disk = disk();
    let mut writer = snapshots(disk.clone()).writer(FIRST).unwrap();
    writer.write(b"half of it").unwrap();
    assert_eq!(disk.list(dir()).unwrap().len(), 1);
    drop(writer);
    assert_eq!(disk.list(dir()).unwrap(), [""; 0]);
}

/// Whether a snapshot that was finished is there, and whole, after the worst power loss.
fn survives(forgets: Forgets) -> bool {
    let disk = disk();
    write(&snapshots(Forgetful { disk: disk.clone(), forgets }), FIRST).unwrap();
    disk.power_loss(Unsynced::Lost);
    snapshots(disk).load(FIRST).is_ok()
}

#[test]
fn without_either_sync_a_finished_snapshot_would_be_lost() {
    assert!(survives(Forgets::Nothing));
    assert!(!survives(Forgets::Fdatasync));
    assert!(!survives(Forgets::FsyncDir));
}

#[test]
fn what_is_not_the_snapshot_of_its_name_is_refused() {
    let disk = disk();
    let ours = snapshots(disk.clone());
    write(&ours, FIRST).unwrap();
    let path = dir().join(file_name(FIRST));
    let good = image(FIRST);
    for at in (0..good.len()).step_by(997).chain([good.len() - 1]) {
        disk.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
        let error = ours.load(FIRST).unwrap_err();
        assert_eq!(error.exit_code(), 65, "byte {at}: {error}");
        disk.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
    }
    ours.load(FIRST).unwrap();

    disk.tamper(&path, |bytes| *bytes = image(SECOND)).unwrap();
    let error = ours.load(FIRST).unwrap_err().to_string();
    assert!(error.contains("it holds the snapshot at 20@2, its name says 10@1"), "{error}");
    assert!(ours.save(&pieces(FIRST).1, &image(SECOND)).is_err());

    disk.tamper(&path, |bytes| *bytes = image(FIRST)).unwrap();
    let other = node::storage::Identity { cluster_id: 8, ..IDENTITY };
    let error = SnapshotDir::new(Arc::new(disk), dir(), &other).load(FIRST).unwrap_err();
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
}

#[test]
fn a_real_disk_gives_back_every_chunk() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = SnapshotDir::new(Arc::new(RealDisk), root.path(), &IDENTITY);
    write(&snapshots, FIRST).unwrap();
    let mut read = Vec::new();
    loop {
        let chunk = snapshots.read_at(FIRST, read.len() as u64, 1000).unwrap();
        if chunk.is_empty() {
            break;
        }
        read.extend(chunk);
    }
    assert_eq!(read, image(FIRST));
    assert_eq!(verify(&read, Some(IDENTITY.cluster_id)).unwrap().state(), vec![10; 90_000]);
    assert_eq!(snapshots.read_at(FIRST, u64::MAX / 2, 1 << 40).unwrap(), [0; 0]);
    assert!(snapshots.read_at(SECOND, 0, 1).is_err());
}
