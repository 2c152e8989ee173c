//! The end of the log after an interrupted write: it is cut off, said, and written over.
//! Damage in front of it is left to `refusals`.

use node::raft::types::Record;
use node::storage::Disk;

use crate::world::{World, dir, entry, script};

/// A world whose last batch was not acknowledged; where that batch starts and ends in which segment.
fn world_with_unacknowledged_batch() -> (World, u64, usize, usize) {
    let mut world = World::written(&script());
    let acked = world.acked;
    world.open().unwrap();
    let superblock = world.superblock();
    world
        .write(&[entry(6, 46, 21), Record::Truncate { last_index: 45 }, entry(7, 46, 0), entry(7, 47, 13)])
        .unwrap();
    world.kill();
    world.set_superblock(&superblock);
    let positions = world.positions();
    // The lsn after `acked` is the `Boot` of the second opening: acknowledged as well.
    let (sequence, start, _) = *positions.iter().find(|(_, _, lsn)| *lsn == acked + 2).unwrap();
    assert_eq!(positions.last().unwrap().0, sequence, "the batch lies in one segment");
    world.acked = acked + 1;
    let end = positions.last().unwrap().1 as usize + 48 + 16;
    (world, sequence, start as usize, end)
}

#[test]
fn a_last_batch_cut_at_every_byte_costs_nothing_before_it() {
    let (_, _, start, end) = world_with_unacknowledged_batch();
    let mut notes = 0;
    for cut in start..=end {
        for zeros in [false, true] {
            let (mut world, sequence, _, _) = world_with_unacknowledged_batch();
            world.tamper(sequence, |bytes| {
                if zeros {
                    bytes[cut..].fill(0);
                } else {
                    bytes.truncate(cut);
                }
            });
            let recovered = world.open().unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            notes += recovered.notes.len();
            world.goes_on();
        }
    }
    assert!(notes > end - start, "{notes} torn tails noted");
}

#[test]
fn any_sector_of_a_last_batch_may_be_missing() {
    // Three records of more than a sector each: a lost middle one leaves a valid one behind the hole.
    let batch: Vec<Record> = (1..=3).map(|index| entry(1, index, 450)).collect();
    for lost in 0..4 {
        let mut world = World::written(&[]);
        world.open().unwrap();
        let superblock = world.superblock();
        world.write(&batch).unwrap();
        world.kill();
        world.set_superblock(&superblock);
        let boot = 2;
        world.acked = boot;
        let from = world.positions()[boot as usize].1 as usize;
        world.tamper(1, |bytes| {
            let sector = from / 512 + lost;
            bytes[(sector * 512).max(from)..(sector + 1) * 512].fill(0);
        });
        let recovered = world.open().unwrap();
        let said = recovered.notes.iter().any(|note| note.contains("torn tail at byte"));
        assert!(said || recovered.entries.len() == 3, "sector {lost}: {recovered:?}");
        world.goes_on();
    }
}

#[test]
fn what_lies_behind_a_hole_does_not_come_back_when_the_hole_is_filled() {
    // The hole has the size of the `Boot` record that takes its place, and its lsn: what follows would fit.
    let mut world = World::written(&[]);
    world.open().unwrap();
    let superblock = world.superblock();
    world.write(&[entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 0)]).unwrap();
    world.kill();
    world.set_superblock(&superblock);
    world.acked = 2;
    let hole = world.positions()[2].1 as usize;
    world.tamper(1, |bytes| bytes[hole..hole + 48].fill(0));
    assert_eq!(world.open().unwrap().entries, []);
    world.kill();
    assert_eq!(world.open().unwrap().entries, []);
    world.goes_on();
}

#[test]
fn rot_in_a_last_batch_that_the_superblock_does_not_know_is_taken_for_torn_and_said() {
    let mut world = World::written(&script()[..4]);
    let superblock = world.superblock();
    world.open().unwrap();
    world.write(&[entry(2, 6, 3)]).unwrap();
    world.kill();
    let (sequence, offset, lsn) = *world.positions().last().unwrap();
    world.tamper(sequence, |bytes| bytes[offset as usize + 10] ^= 1);
    world.set_superblock(&superblock);
    world.acked = lsn - 1;
    let recovered = world.open().unwrap();
    assert_eq!(recovered.last_lsn, lsn, "the `Boot` record took its place");
    assert!(
        recovered.notes[0].contains(&format!("the log ends at lsn {}", lsn - 1)),
        "{:?}",
        recovered.notes
    );
}

#[test]
fn what_was_being_made_when_the_node_stopped_counts_for_nothing_and_goes() {
    for name in ["wal-new.tmp", "wal-spare.tmp"] {
        let mut world = World::written(&script());
        let newest = world.segments().pop().unwrap().bytes;
        let path = dir().join(name);
        world.disk.create(&path).unwrap().write_at(0, &newest).unwrap();
        assert_eq!(world.open().unwrap().notes, [""; 0]);
        assert!(!world.disk.list(dir()).unwrap().contains(&name.to_owned()), "{name} is still there");
        world.goes_on();
    }
}

#[test]
fn a_directory_with_a_superblock_alone_is_one_that_was_just_made() {
    let mut world = World::written(&[]);
    let [segment] = &world.segments()[..] else { panic!("{:?}", world.segments()) };
    world.disk.unlink(&segment.path).unwrap();
    let unused = node::storage::superblock::Superblock {
        durable_lsn: 0,
        incarnation: 0,
        ..node::storage::superblock::Superblock::latest(&world.superblock()).unwrap()
    };
    world.set_superblock(&unused.encode_file());
    world.acked = 0;
    let recovered = world.open().unwrap();
    assert_eq!((recovered.incarnation, recovered.directory_id), (1, unused.directory_id));
    world.goes_on();
}
