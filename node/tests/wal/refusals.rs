//! Data that must be refused, by name, and left as it is: rot, gaps, and directories of somebody else.
//! What an interrupted write leaves behind is left to `tails`.

use std::sync::Arc;

use node::raft::types::{HardState, Record};
use node::storage::segment::{HEADER_BYTES, Piece};
use node::storage::{Disk, Identity, MemoryDisk, StorageError, Wal};

use crate::world::{IDENTITY, LAYOUT, World, dir, entry, script, segment_path};

/// Opening must fail, as refused data, without a byte changed.
fn refused(world: &mut World) -> StorageError {
    let bytes = |world: &World| world.segments().into_iter().map(|file| file.bytes).collect::<Vec<_>>();
    let before = bytes(world);
    let error = world.open().expect_err("refused");
    assert_eq!(error.exit_code(), 65, "{error}");
    assert_eq!(before, bytes(world), "refused data was touched");
    error
}

fn check_corrupt(world: &mut World, sequence: u64, offset: u64, says: &str) {
    let error = refused(world);
    let StorageError::Corrupt { file, offset: found, detail } = &error else { panic!("{error}") };
    assert_eq!((file, *found), (&segment_path(sequence), offset), "{error}");
    assert!(detail.contains(says), "{error}");
}

#[test]
fn a_flip_of_any_byte_before_the_last_batch_is_refused_by_name() {
    let mut world = World::written(&script());
    world.open().unwrap();
    world.kill();
    let segments = world.segments();
    let boot = world.positions().last().copied().unwrap();
    for file in &segments {
        let newest = file.sequence == segments.len() as u64;
        let end = if newest { boot.1 as usize } else { file.bytes.len() };
        let mut starts: Vec<usize> = vec![0];
        for piece in &file.pieces {
            let Piece::Record { offset, frame } = piece else { panic!("{piece:?}") };
            starts.push(*offset as usize);
            starts.push((*offset + frame.encoded_bytes()) as usize);
        }
        for at in 0..end {
            // Behind the last record the damage starts at the multiple of 8 where the next record would be.
            let start = *starts.iter().rfind(|start| **start <= at).unwrap();
            world.tamper(file.sequence, |bytes| bytes[at] ^= 1 << (at % 8));
            let error = refused(&mut world);
            let StorageError::Corrupt { file: named, offset, .. } = &error else {
                panic!("byte {at}: {error}")
            };
            assert_eq!((named, *offset), (&file.path, start as u64), "byte {at}: {error}");
            world.tamper(file.sequence, |bytes| bytes[at] ^= 1 << (at % 8));
        }
    }
    world.open().unwrap();
}

#[test]
fn a_zeroed_record_before_the_last_batch_is_refused() {
    let mut world = World::written(&script());
    world.open().unwrap();
    world.kill();
    for (sequence, offset, lsn) in world.positions() {
        if lsn == world.acked {
            continue;
        }
        let mut kept = Vec::new();
        let frame = world.segments()[sequence as usize - 1]
            .pieces
            .iter()
            .find_map(|piece| piece.frame().filter(|frame| frame.lsn == lsn).cloned())
            .unwrap();
        let range = offset as usize..(offset + frame.encoded_bytes()) as usize;
        world.tamper(sequence, |bytes| {
            kept = bytes[range.clone()].to_vec();
            bytes[range.clone()].fill(0);
        });
        let error = refused(&mut world);
        assert!(matches!(error, StorageError::Corrupt { .. }), "lsn {lsn}: {error}");
        world.tamper(sequence, |bytes| bytes[range].copy_from_slice(&kept));
    }
}

#[test]
fn a_missing_segment_is_refused() {
    for missing in 1..=3 {
        let mut world = World::written(&script());
        world.disk.unlink(&segment_path(missing)).unwrap();
        check_corrupt(&mut world, missing, 0, "the segment is missing");
    }
}

#[test]
fn records_that_do_not_follow_each_other_are_refused() {
    let mut world = World::written(&[vec![entry(1, 1, 0), entry(1, 3, 0)]]);
    check_corrupt(&mut world, 1, HEADER_BYTES as u64 + 96, "index 3, expected index 2");
    let mut world = World::written(&[vec![entry(1, 1, 0), Record::Truncate { last_index: 2 }]]);
    check_corrupt(&mut world, 1, HEADER_BYTES as u64 + 96, "after index 2, but the log ends at index 1");
}

/// Changes the header of the record at `offset` and makes its checksums hold again.
fn forge(world: &World, offset: usize, change: impl FnOnce(&mut [u8])) {
    let seed = world.segments()[0].header.unwrap().checksum_seed();
    world.tamper(1, |bytes| {
        let header = &mut bytes[offset..offset + 48];
        change(header);
        let crc = crc32c::crc32c_append(seed, &header[..40]);
        header[40..44].copy_from_slice(&crc.to_le_bytes());
        header[44..48].copy_from_slice(&crc32c::crc32c_append(crc, &[]).to_le_bytes());
    });
}

#[test]
fn what_only_a_later_release_can_mean_is_refused() {
    let vote = Record::HardState(HardState { term: 1, voted_for: Some(1) });
    let at = HEADER_BYTES + 48;
    let mut world = World::written(&[vec![vote.clone()]]);
    forge(&world, at, |header| header[4] = 77);
    check_corrupt(&mut world, 1, at as u64, "unknown kind 77");
    let mut world = World::written(&[vec![vote.clone()]]);
    forge(&world, at, |header| header[12] = 1);
    check_corrupt(&mut world, 1, at as u64, "which no cluster has");
    let mut world = World::written(&[vec![vote]]);
    forge(&world, at, |header| header[24] = 9);
    check_corrupt(&mut world, 1, at as u64, "lsn 9, expected lsn 2");
}

#[test]
fn another_format_version_is_named() {
    let mut world = World::written(&script());
    let mut header = world.segments()[0].header.unwrap();
    header.version = 2;
    world.tamper(1, |bytes| bytes[..HEADER_BYTES].copy_from_slice(&header.encode()));
    let error = refused(&mut world);
    assert!(matches!(error, StorageError::Version { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused_naming_both() {
    let world = World::written(&script());
    for (identity, own) in [
        (Identity { node_id: 3, ..IDENTITY }, "node 3 of cluster 0000000000000007"),
        (Identity { cluster_id: 8, ..IDENTITY }, "node 2 of cluster 0000000000000008"),
    ] {
        let error = Wal::open_with(Arc::new(world.disk.clone()), dir(), &identity, LAYOUT).err().unwrap();
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("node 2 of cluster 0000000000000007") && text.contains(own), "{text}");
    }
}

#[test]
fn a_segment_of_another_directory_of_the_same_node_is_refused() {
    let mut world = World::written(&script());
    let disk = MemoryDisk::new(2);
    let mut other = World::on(disk.clone(), Arc::new(disk));
    assert!(other.run_script().is_none());
    let stray = other.disk.read(&segment_path(2)).unwrap();
    world.tamper(2, |bytes| *bytes = stray);
    let error = refused(&mut world);
    assert!(matches!(&error, StorageError::Foreign { file, .. } if *file == segment_path(2)), "{error}");
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_dead() {
    let mut first = World::new();
    first.open().unwrap();
    let again = || Wal::open_with(Arc::new(first.disk.clone()), dir(), &IDENTITY, LAYOUT);
    assert!(matches!(again().err().unwrap(), StorageError::Locked { .. }));
    first.disk.kill();
    assert_eq!(again().unwrap().1.incarnation, 2);
}

#[test]
#[should_panic(expected = "lsn 9 appended where lsn 2 is next")]
fn a_gap_in_the_numbering_of_the_caller_is_a_broken_invariant() {
    let disk = Arc::new(MemoryDisk::new(1));
    let (mut wal, _) = Wal::open(disk, dir(), &IDENTITY).unwrap();
    wal.append(&[(9, entry(1, 1, 0))]).ok();
}
