//! The end of the log after an interrupted write: it is cut off, said, and written over.
//! Damage in front of it is left to `refusals`.

use node::raft::types::Record;
use node::storage::Disk;
use node::storage::segment::{self, Header};

use crate::world::{World, dir, entry, script, segment_path};

/// A world whose last batch was not acknowledged; where that batch starts and ends in which segment.
fn world_with_unacknowledged_batch() -> (World, u64, usize, usize) {
    let mut world = World::written(&script());
    let acked = world.acked;
    world.open().unwrap();
    world
        .write(&[entry(5, 18, 21), Record::Truncate { last_index: 17 }, entry(6, 18, 0), entry(6, 19, 13)])
        .unwrap();
    world.kill();
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
        world.write(&batch).unwrap();
        world.kill();
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
    world.write(&[entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 0)]).unwrap();
    world.kill();
    world.acked = 2;
    let hole = world.positions()[2].1 as usize;
    world.tamper(1, |bytes| bytes[hole..hole + 48].fill(0));
    assert_eq!(world.open().unwrap().entries, []);
    world.kill();
    assert_eq!(world.open().unwrap().entries, []);
    world.goes_on();
}

#[test]
fn rot_in_the_last_batch_cannot_be_told_from_a_torn_write_but_is_said() {
    let mut world = World::written(&script());
    let (sequence, offset, lsn) = *world.positions().last().unwrap();
    world.tamper(sequence, |bytes| bytes[offset as usize + 10] ^= 1);
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
fn a_segment_torn_at_its_creation_is_made_again() {
    let written = World::written(&script());
    let segments = written.segments();
    let last = segments.last().unwrap();
    let header = Header { sequence: last.sequence + 1, first_lsn: written.acked + 1, ..last.header.unwrap() };
    for len in 0..=segment::HEADER_BYTES {
        let mut world = World::written(&script());
        world.disk.create(&segment_path(header.sequence)).unwrap();
        world.disk.fsync_dir(dir()).unwrap();
        world.tamper(header.sequence, |bytes| bytes.extend_from_slice(&header.encode()[..len]));
        let recovered = world.open().unwrap();
        assert_eq!(recovered.notes.is_empty(), len == segment::HEADER_BYTES, "{:?}", recovered.notes);
        world.goes_on();
    }
}

#[test]
fn a_first_segment_torn_at_its_creation_is_made_again() {
    // Cut inside the header, or with its first sector lost and the zeros behind it kept.
    for (len, header_bytes) in [(0, 0), (1, 1), (63, 63), (64, 0), (1024, 0), (1024, 40)] {
        let mut world = World::written(&[]);
        world.tamper(1, |bytes| {
            bytes.truncate(len);
            bytes[header_bytes..].fill(0);
        });
        world.acked = 0;
        assert_eq!(world.open().unwrap().incarnation, 1, "{len} bytes, {header_bytes} of the header");
        world.goes_on();
    }
}
