//! Power loss and refused operations at every point: what was acknowledged survives, the rest is a prefix.
//! Damage to bytes that were durable is left to `refusals`.

use std::sync::Arc;

use nix::errno::Errno;
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::{Disk, MemoryDisk, Wal};

use crate::forgetful::{Forgetful, Forgets};
use crate::world::{IDENTITY, LAYOUT, World, dir, entry, script};

/// Operations of the whole script when nothing fails.
fn operations() -> u64 {
    let mut world = World::new();
    assert!(world.run_script().is_none());
    let operations = world.disk.operations();
    let sequences: Vec<u64> = world.segments().iter().map(|file| file.sequence).collect();
    assert!(
        sequences[0] >= 5 && sequences.len() <= 4,
        "the script rolls, and old segments go: {sequences:?} are left"
    );
    operations
}

fn halt(at: u64) -> Option<Refusal> {
    Some(Refusal { at, onward: true, errno: Errno::EIO })
}

#[test]
fn power_loss_at_every_operation_loses_nothing_acknowledged() {
    let (mut torn, mut repaired) = (0, 0);
    for at in 0..=operations() {
        for seed in 0..24 {
            let mut world = World::new();
            world.disk.refuse(halt(at));
            world.run_script();
            world.disk.power_loss(Unsynced::Torn { seed });
            torn += 1;
            // Once more in the middle of recovery: what repairs must survive power loss too.
            world.disk.refuse(halt(world.disk.operations() + seed % 16));
            let interrupted = world.open().is_err();
            world.disk.power_loss(Unsynced::Torn { seed: seed + 1000 });
            world.disk.refuse(None);
            let recovered =
                world.open().unwrap_or_else(|error| panic!("operation {at}, seed {seed}: {error}"));
            repaired += usize::from(interrupted && !recovered.notes.is_empty());
            world.disk.power_loss(Unsynced::Lost);
            world.open().unwrap();
            world.goes_on();
        }
    }
    assert!(
        repaired * 50 > torn,
        "only {repaired} of {torn} power losses left anything torn: the test proves little"
    );
}

#[test]
fn what_was_synced_survives_the_worst_power_loss() {
    let mut world = World::new();
    world.open().unwrap();
    for batch in script() {
        world.write(&batch).unwrap();
        world.disk.power_loss(Unsynced::Lost);
        world.open().unwrap();
    }
}

#[test]
fn a_directory_restored_from_a_copy_is_made_durable_before_it_is_believed() {
    let mut world = World::written(&script());
    let contents: Vec<_> = world.segments().into_iter().map(|file| (file.path, file.bytes)).collect();
    for (path, bytes) in contents {
        world.disk.unlink(&path).unwrap();
        world.disk.create(&path).unwrap().write_at(0, &bytes).unwrap();
    }
    world.open().unwrap();
    world.disk.power_loss(Unsynced::Lost);
    world.open().unwrap();
    world.goes_on();
}

#[test]
fn every_refused_operation_stops_the_log_and_loses_nothing_acknowledged() {
    let last = operations();
    let (mut waits, mut made_space) = (0, 0);
    for errno in [Errno::EIO, Errno::ENOSPC] {
        for at in 0..last {
            let mut world = World::new();
            world.disk.refuse(Some(Refusal { at, onward: false, errno }));
            match world.run_script() {
                Some(error) => assert_eq!(error.exit_code(), 74, "operation {at}: {error}"),
                None if errno == Errno::ENOSPC && world.waited == 1 => waits += 1,
                // The segment after a snapshot mark was tried again, once old segments were gone.
                None if errno == Errno::ENOSPC => made_space += 1,
                None => panic!("operation {at} was refused and nobody noticed"),
            }
            world.kill();
            world.open().unwrap_or_else(|error| panic!("operation {at}, {errno}: {error}"));
            // What this opening gave back counts as acknowledged, even where the refused fdatasync left it readable
            // but not durable (Rebello et al., ATC'20).
            world.disk.power_loss(Unsynced::Lost);
            world.open().unwrap_or_else(|error| panic!("operation {at}, {errno}, after power loss: {error}"));
            world.goes_on();
        }
    }
    assert!(waits >= 20, "only {waits} operations lacked space and were tried again");
    // Four operations after each of three marks: remove, create, write, rename.
    assert!(made_space <= 4 * 3, "{made_space} refusals went unnoticed");
}

#[test]
fn a_batch_costs_one_write_one_fdatasync_and_one_write_of_the_superblock() {
    let mut world = World::new();
    world.open().unwrap();
    world.write(&[entry(1, 1, 0)]).unwrap();
    let before = world.disk.operations();
    let batch: Vec<_> = (2..=6).map(|index| entry(1, index, 10)).collect();
    world.write(&batch).unwrap();
    assert_eq!(world.disk.operations() - before, 3);
    world.write(&[]).unwrap();
    assert_eq!(world.disk.operations() - before, 3, "an empty sync touches nothing");
}

/// Whether everything acknowledged is there after the worst power loss.
fn survives(forgets: Forgets) -> bool {
    let disk = MemoryDisk::new(1);
    let open = |below: Arc<dyn Disk>| Wal::open_with(below, dir(), &IDENTITY, None, LAYOUT);
    // The directory and its first segment are made honestly: it is the later segments that must be forgotten.
    drop(open(Arc::new(disk.clone())).unwrap());
    let (mut wal, recovered) = open(Arc::new(Forgetful { disk: disk.clone(), forgets })).unwrap();
    let mut lsn = recovered.last_lsn;
    for record in script().into_iter().flatten() {
        lsn += 1;
        wal.append(&[(lsn, record)]).unwrap();
        assert_eq!(wal.sync().unwrap().durable, lsn);
    }
    disk.power_loss(Unsynced::Lost);
    open(Arc::new(disk.clone())).is_ok_and(|(_, recovered)| recovered.last_lsn == lsn + 1)
}

#[test]
fn without_fsync_of_the_directory_acknowledged_records_would_be_lost() {
    assert!(survives(Forgets::Nothing));
    assert!(!survives(Forgets::FsyncDir));
}

#[test]
fn without_fdatasync_acknowledged_records_would_be_lost() {
    assert!(!survives(Forgets::Fdatasync));
}
