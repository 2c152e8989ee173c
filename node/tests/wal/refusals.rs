//! Data that must be refused, by name, and left as it is: contradictions, other formats, and directories of somebody else.
//! What an interrupted write leaves behind is left to `tails`, rot to `damage`.

use std::sync::Arc;

use node::raft::types::{HardState, Record};
use node::storage::checkpoint::Checkpoint;
use node::storage::record::{self, Content};
use node::storage::recovery;
use node::storage::segment::HEADER_BYTES;
use node::storage::superblock::{Superblock, SuperblockFile};
use node::storage::{Disk, Identity, MemoryDisk, StorageError, Wal};

use crate::world::{IDENTITY, LAYOUT, World, dir, entry, id, mark, script, segment_path};

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
fn records_that_do_not_follow_each_other_are_refused() {
    for (record, at, number, says) in [
        (entry(1, 2, 0), 8, 3, "index 3, expected index 2"),
        (Record::Truncate { last_index: 1 }, 8, 2, "after index 2, but the log ends at index 1"),
        (entry(1, 2, 0), 24, 9, "lsn 9, expected lsn 3"),
        (entry(1, 2, 0), 15, 0x7f, "at most 4611686018427387904"),
    ] {
        let mut world = World::written(&[vec![entry(1, 1, 0), record]]);
        let offset = world.positions()[2].1;
        forge(&world, offset as usize, |header| header[at] = number);
        check_corrupt(&mut world, 1, offset, says);
    }
}

/// Writes a record behind the newest one, with checksums that hold.
fn add(world: &World, encode: impl FnOnce(&mut Vec<u8>, u32, u64)) -> (u64, u64) {
    let file = world.segments().pop().unwrap();
    let (_, at, len) = {
        let (_, _, lsn) = *world.positions().last().unwrap();
        world.record(lsn)
    };
    let last = world.positions().last().unwrap().2;
    let mut bytes = Vec::new();
    encode(&mut bytes, file.header.unwrap().checksum_seed(), last);
    world.tamper(file.sequence, |segment| segment[at + len..at + len + bytes.len()].copy_from_slice(&bytes));
    (file.sequence, (at + len) as u64)
}

#[test]
fn a_log_is_not_cut_or_begun_where_it_does_not_reach() {
    let batches = [
        vec![entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 0)],
        vec![Record::Snapshot(mark(id(1, 3), id(1, 2))), entry(1, 4, 0), entry(1, 5, 0)],
    ];
    let before = |base| Record::Snapshot(mark(id(1, 3), base));
    for (record, says) in [
        (Record::Truncate { last_index: 1 }, Some("after index 1, but the log begins after 2@1")),
        (Record::Truncate { last_index: 0 }, Some("after index 0, but the log begins after 2@1")),
        (Record::Truncate { last_index: 2 }, None),
        (before(id(1, 1)), Some("begins after 1@1, but it began after 2@1 before")),
        (before(id(1, 2)), None),
        (Record::Snapshot(mark(id(1, 5), id(1, 5))), None),
        (Record::Snapshot(mark(id(1, 6), id(1, 6))), Some("begins after 6@1, which it does not hold")),
        (Record::Snapshot(mark(id(1, 7), id(1, 7))), Some("begins after 7@1, which it does not hold")),
        (Record::Snapshot(mark(id(2, 4), id(2, 4))), Some("begins after 4@2, which it does not hold")),
    ] {
        let mut world = World::written(&batches);
        let (sequence, offset) = add(&world, |bytes, seed, last| {
            record::encode(bytes, seed, last + 1, last, &record, false);
        });
        match says {
            Some(says) => check_corrupt(&mut world, sequence, offset, says),
            None => {
                let replay = recovery::replay(&recovery::read(&world.disk, dir()).unwrap(), Some(&IDENTITY));
                assert!(replay.damage.is_none(), "{record:?}: {:?}", replay.damage);
            }
        }
    }
}

#[test]
fn a_checkpoint_in_the_middle_of_a_segment_is_refused() {
    for ahead in [0, 1] {
        let mut world = World::written(&[vec![entry(1, 1, 0)]]);
        let checkpoint = Checkpoint { incarnation: 1, last: id(1, 1), ..Checkpoint::default() };
        let (sequence, offset) = add(&world, |bytes, seed, last| {
            record::encode_checkpoint(bytes, seed, last + ahead, &checkpoint);
        });
        check_corrupt(&mut world, sequence, offset, "a record with lsn");
    }
}

#[test]
fn a_checkpoint_that_contradicts_the_records_before_it_is_refused() {
    let mut world = World::written(&script()[..4]);
    let second = world.segments().remove(1);
    let seed = second.header.unwrap().checksum_seed();
    world.tamper(second.sequence, |bytes| {
        let frame = record::decode(&bytes[HEADER_BYTES..], seed).unwrap().0;
        let Ok(Content::Checkpoint(checkpoint)) = frame.content() else { panic!("{frame:?}") };
        let other = Checkpoint { incarnation: 9, ..checkpoint };
        let mut encoded = Vec::new();
        record::encode_checkpoint(&mut encoded, seed, frame.lsn, &other);
        bytes[HEADER_BYTES..HEADER_BYTES + encoded.len()].copy_from_slice(&encoded);
    });
    check_corrupt(&mut world, second.sequence, HEADER_BYTES as u64, "incarnation: 9");
}

#[test]
fn what_only_a_later_release_can_mean_is_refused() {
    let vote = Record::HardState(HardState { term: 1, voted_for: Some(1) });
    let mut world = World::written(&[vec![vote.clone()]]);
    let at = world.positions()[1].1;
    forge(&world, at as usize, |header| header[4] = 77);
    check_corrupt(&mut world, 1, at, "unknown kind 77");
    let mut world = World::written(&[vec![vote]]);
    forge(&world, at as usize, |header| header[12] = 1);
    check_corrupt(&mut world, 1, at, "which no cluster has");
}

#[test]
fn a_log_without_a_whole_superblock_is_refused() {
    let path = SuperblockFile::path(dir());
    let mut world = World::written(&script());
    world.disk.unlink(&path).unwrap();
    let error = refused(&mut world).to_string();
    assert!(error.contains("superblock is corrupt") && error.contains("it is missing"), "{error}");

    let mut world = World::written(&script());
    world.disk.tamper(&path, |bytes| bytes.chunks_mut(512).for_each(|slot| slot[50] ^= 1)).unwrap();
    let error = refused(&mut world).to_string();
    assert!(error.contains("no slot in it is whole"), "{error}");

    // A near miss: the newest slot is torn, and the one before it still stands.
    let mut world = World::written(&script());
    let newest = Superblock::latest(&world.superblock()).unwrap().sequence % 4;
    world.disk.tamper(&path, |bytes| bytes[newest as usize * 512 + 50] ^= 1).unwrap();
    world.open().unwrap();
}

#[test]
fn a_superblock_without_its_log_is_refused() {
    let mut world = World::written(&script());
    for file in world.segments() {
        world.disk.unlink(&file.path).unwrap();
    }
    let error = refused(&mut world).to_string();
    assert!(error.contains("was durable, and there is no segment at all"), "{error}");
}

#[test]
fn a_superblock_of_another_directory_is_refused() {
    let mut world = World::written(&script());
    let other = Superblock { directory_id: 1, ..Superblock::latest(&world.superblock()).unwrap() };
    world.set_superblock(&other.encode_file());
    let error = refused(&mut world);
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
}

#[test]
fn another_format_version_is_named() {
    let mut world = World::written(&script());
    let sequence = world.segments()[0].sequence;
    let mut header = world.segments()[0].header.unwrap();
    header.version = 1;
    world.tamper(sequence, |bytes| bytes[..HEADER_BYTES].copy_from_slice(&header.encode()));
    let error = refused(&mut world);
    assert!(matches!(error, StorageError::Version { found: 1, supported: 2, .. }), "{error}");
}

#[test]
fn a_directory_of_another_node_or_cluster_is_refused_naming_both() {
    let world = World::written(&script());
    for (identity, own) in [
        (Identity { node_id: 3, ..IDENTITY }, "node 3 of cluster 0000000000000007"),
        (Identity { cluster_id: 8, ..IDENTITY }, "node 2 of cluster 0000000000000008"),
    ] {
        let error =
            Wal::open_with(Arc::new(world.disk.clone()), dir(), &identity, None, LAYOUT).err().unwrap();
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
    let newest = world.segments().pop().unwrap();
    let stray = other.disk.read(&newest.path).unwrap();
    world.tamper(newest.sequence, |bytes| *bytes = stray);
    let error = refused(&mut world);
    assert!(matches!(&error, StorageError::Foreign { file, .. } if *file == newest.path), "{error}");
}

#[test]
fn a_second_opener_is_refused_until_the_first_is_dead() {
    let mut first = World::new();
    first.open().unwrap();
    let again = || Wal::open_with(Arc::new(first.disk.clone()), dir(), &IDENTITY, None, LAYOUT);
    assert!(matches!(again().err().unwrap(), StorageError::Locked { .. }));
    first.disk.kill();
    assert_eq!(again().unwrap().1.incarnation, 2);
}

#[test]
#[should_panic(expected = "lsn 9 appended where lsn 2 is next")]
fn a_gap_in_the_numbering_of_the_caller_is_a_broken_invariant() {
    let disk = Arc::new(MemoryDisk::new(1));
    let (mut wal, _) = Wal::open(disk, dir(), &IDENTITY, None).unwrap();
    wal.append(&[(9, entry(1, 1, 0))]).ok();
}
