//! Rot in files that nobody reads, while the node runs. What a start makes of it is left to `damage`.

use std::sync::Arc;

use nix::errno::Errno;
use node::raft::types::Record;
use node::storage::memory_disk::Refusal;
use node::storage::scrub::{Scrubbed, Scrubber};
use node::storage::snapshot_dir::file_name;
use node::storage::{Disk, MemoryDisk};

use crate::world::{World, dir, entry, id, mark};

/// Three segments, the last one open, and a snapshot.
fn world() -> World {
    let mut world = World::written(&[
        (1..=4).map(|index| entry(1, index, 600)).collect(),
        vec![Record::Snapshot(mark(id(1, 2), id(1, 1)))],
    ]);
    world.open().unwrap();
    assert_eq!(world.segments().len(), 3);
    world
}

/// Everything that two rounds say.
fn rounds(scrubber: &mut Scrubber) -> Vec<String> {
    (0..2 * (3 + 1)).filter_map(|_| scrubber.step()).collect()
}

fn scrubber(disk: &MemoryDisk) -> Scrubber {
    Scrubber::new(Arc::new(disk.clone()), dir())
}

#[test]
fn whole_files_are_read_round_after_round_and_nothing_is_said() {
    let world = world();
    let mut scrubber = scrubber(&world.disk);
    assert_eq!(rounds(&mut scrubber), [""; 0]);
    assert_eq!(
        scrubber.scrubbed(),
        Scrubbed { files: 6, damaged: 0 },
        "two sealed segments and a snapshot, twice"
    );
}

#[test]
fn rot_is_said_once_with_file_and_place() {
    let world = world();
    let mut scrubber = scrubber(&world.disk);
    rounds(&mut scrubber);
    world.tamper(1, |bytes| bytes[300] ^= 1);
    let snapshot = file_name(id(1, 2));
    world.disk.tamper(&dir().join(&snapshot), |bytes| bytes[100] ^= 1).unwrap();
    // The open segment is written at this moment: what it looks like says nothing.
    world.tamper(3, |bytes| bytes[300] ^= 1);
    let said = rounds(&mut scrubber);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter().any(|said| said.starts_with(&format!("{snapshot} is damaged at byte 66: block 0"))),
        "{said:?}"
    );
    let payload =
        "wal-0000000000000001.seg is damaged at byte 256: the payload of record lsn 2 (index 1, term 1)";
    assert!(said.iter().any(|said| said.starts_with(payload)), "{said:?}");
    assert_eq!(scrubber.scrubbed().damaged, 2);
}

#[test]
fn a_file_that_cannot_be_opened_now_is_no_damage_and_is_read_as_soon_as_it_can() {
    let world = world();
    let mut scrubber = scrubber(&world.disk);
    world.tamper(1, |bytes| bytes[300] ^= 1);
    rounds(&mut scrubber);
    let before = scrubber.scrubbed();
    assert_eq!(before.damaged, 1);
    world.disk.refuse(Some(Refusal { at: 0, onward: true, errno: Errno::EMFILE }));
    assert_eq!(rounds(&mut scrubber), [""; 0]);
    assert_eq!(scrubber.scrubbed(), before, "nothing was read");
    world.disk.refuse(None);
    assert_eq!(rounds(&mut scrubber), [""; 0], "and what was said is known");
    assert_eq!(scrubber.scrubbed(), Scrubbed { files: before.files + 6, ..before });
    // In the middle of a round, too.
    assert_eq!(scrubber.step(), None);
    world.disk.refuse(Some(Refusal { at: world.disk.operations(), onward: false, errno: Errno::ENFILE }));
    assert_eq!(scrubber.step(), None);
    assert_eq!(scrubber.scrubbed().files, before.files + 6);
    (0..3).for_each(|_| assert_eq!(scrubber.step(), None));
    assert_eq!(scrubber.scrubbed().files, before.files + 9);
}

#[test]
fn a_file_that_goes_while_its_turn_comes_is_no_damage() {
    let world = world();
    let mut scrubber = scrubber(&world.disk);
    assert_eq!(scrubber.step(), None, "lists the files");
    world.disk.unlink(&dir().join(file_name(id(1, 2)))).unwrap();
    assert_eq!(rounds(&mut scrubber), [""; 0]);
}
