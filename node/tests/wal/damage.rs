//! Damage to what was durable: each row of the recovery decision table, and rot at every place. A node may know less
//! afterwards, and then it says so; it never knows something else.
//! What an interrupted write leaves behind is left to `tails`, what is refused to `refusals`.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;
use node::raft::types::{HardState, LogId, Lsn, Record, Recovering};
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::segment::HEADER_BYTES;
use node::storage::snapshot_dir::file_name;
use node::storage::{Condition, Disk, MemoryDisk, Recovered, StorageError, Wal};

use crate::world::{IDENTITY, LAYOUT, World, dir, entry, founding, id, mark, script, segment_path};

fn vote(term: u64, voted_for: u32) -> Record {
    Record::HardState(HardState { term, voted_for: Some(voted_for) })
}

/// A log of one segment: votes and entries up to 6@2, each batch proven by the next.
fn short() -> World {
    World::written(&[
        vec![vote(1, 2), entry(1, 1, 10)],
        vec![entry(1, 2, 10)],
        vec![vote(2, 3)],
        vec![entry(2, 3, 10), entry(2, 4, 10)],
        vec![entry(2, 5, 0)],
        vec![entry(2, 6, 10)],
    ])
}

/// The lsns of those records: 1 is the boot.
const FIRST_VOTE: Lsn = 2;
const SECOND_VOTE: Lsn = 5;
const ENTRY_4: Lsn = 7;
const ENTRY_5: Lsn = 8;
const ENTRY_6: Lsn = 9;

/// Changes the record `lsn`, from `at` on.
fn damage(world: &World, lsn: Lsn, at: usize, change: impl FnOnce(&mut [u8])) {
    let (sequence, offset, len) = world.record(lsn);
    world.tamper(sequence, |bytes| change(&mut bytes[offset + at..offset + len]));
}

fn flip_header(world: &World, lsn: Lsn) {
    damage(world, lsn, 20, |bytes| bytes[0] ^= 1);
}

fn flip_payload(world: &World, lsn: Lsn) {
    damage(world, lsn, 48, |bytes| bytes[0] ^= 1);
}

fn spoil_checkpoint(world: &World, sequence: u64) {
    world.tamper(sequence, |bytes| bytes[HEADER_BYTES + 20] ^= 1);
}

fn last_index(recovered: &Recovered) -> u64 {
    recovered.entries.last().map_or(0, |entry| entry.id.index)
}

/// Opens, twice: what was found is found again after a restart, without the damage being said to be new.
fn check(world: &mut World, condition: Condition, last: u64) -> Recovered {
    let recovered = world.open_damaged().unwrap();
    assert_eq!((recovered.condition, last_index(&recovered)), (condition, last), "{:?}", recovered.notes);
    let restart = world.restart_damaged();
    assert_eq!((restart.condition, last_index(&restart)), (condition, last), "{:?}", restart.notes);
    recovered
}

fn recovering(last: LogId, last_known: bool, vote_known: bool) -> Condition {
    Condition::Recovering(Recovering { last, last_known, vote_known })
}

#[test]
fn a_clean_end_where_the_superblock_says_is_sound() {
    assert_eq!(check(&mut short(), Condition::Sound, 6).notes, [""; 0]);
}

#[test]
fn a_clean_end_before_what_was_durable_is_a_lost_tail() {
    let mut world = short();
    damage(&world, ENTRY_6, 0, |bytes| bytes.fill(0));
    let recovered = check(&mut world, recovering(id(2, 6), false, false), 5);
    assert!(recovered.notes[0].contains("though the superblock says that all up to lsn 9"), "{recovered:?}");
}

#[test]
fn a_torn_tail_before_what_was_durable_is_a_lost_tail() {
    let mut world = short();
    flip_header(&world, ENTRY_6);
    check(&mut world, recovering(id(2, 6), false, false), 5);
    // A near miss: had the superblock not known of it, it would be a torn batch that nobody was told of.
    let mut world = short();
    flip_header(&world, ENTRY_6);
    world.age_superblock(ENTRY_5);
    world.acked = ENTRY_5;
    world.open().unwrap();
}

#[test]
fn a_bad_payload_that_a_snapshot_covers_costs_nothing() {
    let mut world = World::written(&[
        vec![entry(1, 1, 10), entry(1, 2, 10), entry(1, 3, 10)],
        vec![Record::Snapshot(mark(id(1, 2), id(1, 2)))],
        vec![entry(1, 4, 10)],
    ]);
    flip_payload(&world, 3);
    let recovered = check(&mut world, Condition::Sound, 4);
    assert!(recovered.notes.iter().any(|note| note.contains("the payload of record lsn 3")), "{recovered:?}");
    // A near miss: the entry after the base.
    let mut world = World::written(&[
        vec![entry(1, 1, 10), entry(1, 2, 10), entry(1, 3, 10)],
        vec![Record::Snapshot(mark(id(1, 2), id(1, 2)))],
        vec![entry(1, 4, 10)],
    ]);
    flip_payload(&world, 4);
    check(&mut world, recovering(id(1, 4), true, true), 0);
}

/// A snapshot stands for entries that are kept for slow followers, too: without them the log begins after it.
#[test]
fn a_bad_entry_between_the_base_and_the_end_of_the_snapshot_costs_nothing() {
    // The last entry that the snapshot stands for is the new base: that it cannot be read must not cost what follows it.
    for (flip, lsn) in
        [(flip_payload as fn(&World, Lsn), 3), (flip_header, 3), (flip_payload, 4), (flip_header, 4)]
    {
        let mut world = World::written(&[
            vec![entry(1, 1, 10)],
            vec![entry(1, 2, 10), entry(1, 3, 10)],
            vec![Record::Snapshot(mark(id(1, 3), id(1, 1)))],
            vec![entry(1, 4, 10)],
        ]);
        flip(&world, lsn);
        let recovered = check(&mut world, Condition::Sound, 4);
        let mark = recovered.mark.unwrap();
        assert_eq!((mark.last, mark.base, recovered.entries.len()), (id(1, 3), id(1, 3), 1));
    }
}

#[test]
fn a_bad_payload_with_a_good_header_leaves_the_last_entry_and_the_vote_known() {
    let mut world = short();
    flip_payload(&world, ENTRY_4);
    let recovered = check(&mut world, recovering(id(2, 6), true, true), 3);
    assert!(recovered.notes[0].contains("(index 4, term 2) fails its checksum"), "{recovered:?}");
    // Also without a superblock that speaks of the end: what follows says enough.
    let mut world = short();
    flip_payload(&world, ENTRY_4);
    world.age_superblock(ENTRY_5);
    check(&mut world, recovering(id(2, 6), true, true), 3);
    // The very last entry: its header says that it was the last.
    let mut world = short();
    flip_payload(&world, ENTRY_6);
    check(&mut world, recovering(id(2, 6), true, true), 5);
}

#[test]
fn a_hole_that_entries_follow_leaves_the_last_entry_known_and_the_vote_to_the_superblock() {
    let mut world = short();
    flip_header(&world, ENTRY_4);
    check(&mut world, recovering(id(2, 6), true, true), 3);
    let mut world = short();
    flip_header(&world, ENTRY_4);
    world.age_superblock(ENTRY_5);
    check(&mut world, recovering(id(2, 6), true, false), 3);
}

#[test]
fn a_hole_may_have_cut_the_log_off_before_it_filled_it_again() {
    // Of three missing records one may have cut off entry 1 or 2, so that nothing from there on is certain.
    let mut world = short();
    for lsn in [SECOND_VOTE, SECOND_VOTE + 1, ENTRY_4] {
        flip_header(&world, lsn);
    }
    check(&mut world, recovering(id(2, 6), true, true), 2);
}

#[test]
fn an_unreadable_vote_with_a_later_one_costs_nothing() {
    let mut world = short();
    flip_header(&world, FIRST_VOTE);
    world.age_superblock(ENTRY_5);
    check(&mut world, Condition::Sound, 6);
}

#[test]
fn a_newest_vote_that_may_be_in_the_hole_is_not_known() {
    let mut world = short();
    flip_header(&world, SECOND_VOTE);
    world.age_superblock(ENTRY_5);
    let recovered = check(&mut world, recovering(id(2, 6), true, false), 6);
    assert_eq!(recovered.hard_state, HardState { term: 1, voted_for: Some(2) }, "the last that is known of");
    // A near miss: the superblock still knows it.
    let mut world = short();
    flip_header(&world, SECOND_VOTE);
    let recovered = check(&mut world, Condition::Sound, 6);
    assert_eq!(recovered.hard_state, HardState { term: 2, voted_for: Some(3) });
}

/// The superblock is not synced with each batch: what it alone knows at one start, a power loss may take away before the next.
#[test]
fn what_the_superblock_made_up_for_once_is_made_up_for_from_then_on() {
    let mut world = short();
    flip_header(&world, SECOND_VOTE);
    let recovered = world.open_damaged().unwrap();
    assert_eq!(recovered.condition, Condition::Sound);
    world.age_superblock(ENTRY_6);
    let again = world.restart_damaged();
    assert_eq!((again.condition, last_index(&again)), (Condition::Sound, 6), "{:?}", again.notes);
    assert_eq!(again.hard_state, HardState { term: 2, voted_for: Some(3) });
}

/// The mark of no snapshot says whose votes count here: term, vote and last entry, which the superblock tells, are not all then.
#[test]
fn a_lost_mark_of_no_snapshot_is_a_lost_vote() {
    let written = |members: &[u8]| {
        let marks = members.iter().map(|members| Record::Snapshot(founding(*members)));
        let first = [vote(1, 2)].into_iter().chain(marks).chain([entry(1, 1, 0)]);
        World::written(&[first.collect(), vec![entry(1, 2, 0)], vec![vote(2, 3)]])
    };
    for (members, lost) in
        [(&[1][..], vec![3]), (&[1], vec![2, 3]), (&[1, 2], vec![2, 3, 4]), (&[1, 2], vec![4])]
    {
        let mut world = written(members);
        lost.iter().for_each(|lsn| flip_header(&world, *lsn));
        let recovered = check(&mut world, recovering(id(1, 2), true, false), 2);
        assert!(recovered.notes.iter().any(|note| note.contains("which directories")), "{recovered:?}");
        assert_eq!(recovered.hard_state, HardState { term: 2, voted_for: Some(3) });
    }
    // Near misses: a later mark is there; the superblock knows of no mark among what is missing, as long as it knows of that at all.
    let spoilt = |members, lsn, known: Option<Lsn>| {
        let mut world = written(members);
        flip_header(&world, lsn);
        known.into_iter().for_each(|known| world.age_superblock(known));
        world.open_damaged().unwrap().condition
    };
    assert_eq!(spoilt(&[1, 2], 3, None), Condition::Sound);
    assert_eq!(spoilt(&[1], 2, None), Condition::Sound);
    assert_eq!(spoilt(&[1], 4, None), recovering(id(1, 2), true, true));
    assert_eq!(spoilt(&[1], 2, Some(3)), Condition::Sound);
    assert_eq!(spoilt(&[1], 4, Some(3)), recovering(id(1, 2), true, false));
}

/// At a start the superblock knows no more of marks than could be read then, and no less.
#[test]
fn a_start_hands_on_where_a_lost_mark_may_be() {
    // A mark that a superblock of before it does not know of.
    let mut world =
        World::written(&[vec![vote(1, 2), Record::Snapshot(founding(1)), entry(1, 1, 0)], vec![vote(2, 3)]]);
    world.age_superblock(FIRST_VOTE);
    assert_eq!(world.open_damaged().unwrap().condition, Condition::Sound);
    world.kill();
    flip_header(&world, 3);
    check(&mut world, recovering(id(1, 1), true, false), 1);
    // One for which a checkpoint makes up, until that is lost as well.
    let first = vec![vote(1, 2), Record::Snapshot(founding(1)), entry(1, 1, 900)];
    let mut world = World::written(&[first, vec![entry(1, 2, 900)], vec![entry(1, 3, 10), vote(2, 3)]]);
    assert_eq!(world.segments().len(), 2);
    flip_header(&world, 3);
    let recovered = world.open_damaged().unwrap();
    assert_eq!((recovered.mark, recovered.condition), (Some(founding(1)), Condition::Sound));
    world.kill();
    spoil_checkpoint(&world, 2);
    check(&mut world, recovering(id(1, 3), true, false), 3);
}

/// With a membership to start with, as `node serve` has one.
fn serve(world: &World, founders: u8) -> Recovered {
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let (mut wal, recovered) =
        Wal::open_with(disk, dir(), &IDENTITY, Some(founding(founders)), LAYOUT).unwrap();
    if recovered.incarnation == 1 {
        let records = [vote(1, 2), Record::Snapshot(founding(7)), entry(1, 1, 0)];
        wal.append(&(recovered.last_lsn + 1..).zip(records).collect::<Vec<_>>()).unwrap();
        wal.sync().unwrap();
        wal.append(&[(recovered.last_lsn + 4, entry(1, 2, 0))]).unwrap();
        wal.sync().unwrap();
    }
    recovered
}

#[test]
fn nobody_votes_by_the_membership_that_a_node_was_started_with_if_a_later_one_is_lost() {
    let whole = World::new();
    assert_eq!(serve(&whole, 1).mark, Some(founding(1)));
    whole.disk.kill();
    // The checkpoint with the founders costs nothing while a later mark is there, and started anew it is that one that counts.
    spoil_checkpoint(&whole, 1);
    let recovered = serve(&whole, 9);
    assert_eq!((recovered.mark, recovered.condition), (Some(founding(7)), Condition::Sound));
    for (checkpoint, mark) in [(false, founding(1)), (true, founding(9))] {
        let world = World::new();
        serve(&world, 1);
        world.disk.kill();
        flip_header(&world, 3);
        if checkpoint {
            spoil_checkpoint(&world, 1);
        }
        for _ in 0..3 {
            let recovered = serve(&world, 9);
            // Whoever is asked for help is in it; nothing is voted for or counted by it.
            assert_eq!(recovered.mark.as_ref(), Some(&mark));
            assert_eq!(recovered.condition, recovering(id(1, 2), true, false));
            world.disk.kill();
            // What an earlier start found is lost with its checkpoint, and found again.
            let newest = world.segments().pop().unwrap();
            if newest.sequence == 2 {
                spoil_checkpoint(&world, 2);
            }
        }
    }
}

#[test]
fn a_first_start_that_is_cut_off_anywhere_begins_with_the_founders_or_anew() {
    let open = |world: &World| {
        let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
        Wal::open_with(disk, dir(), &IDENTITY, Some(founding(1)), LAYOUT).map(|(_, recovered)| recovered)
    };
    let mut failed = 0;
    for (at, seed) in (0..).flat_map(|at| [(at, None), (at, Some(at))]) {
        let world = World::new();
        world.disk.refuse(Some(Refusal { at, onward: true, errno: Errno::EIO }));
        let first = open(&world);
        world.disk.refuse(None);
        world.disk.power_loss(seed.map_or(Unsynced::Lost, |seed| Unsynced::Torn { seed }));
        let recovered = open(&world).unwrap();
        assert_eq!((recovered.mark, recovered.condition), (Some(founding(1)), Condition::Sound), "at {at}");
        if first.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 16, "{failed} starts");
}

/// Entries of one term in four segments and more.
fn long() -> World {
    World::written(&(1..=12).map(|index| vec![vote(index, 1), entry(1, index, 600)]).collect::<Vec<_>>())
}

#[test]
fn a_missing_segment_costs_what_was_in_it_and_after_it() {
    let segments = long().segments().len() as u64;
    assert!(segments >= 4);
    for missing in 1..=segments {
        let mut world = long();
        world.disk.unlink(&segment_path(missing)).unwrap();
        let recovered = world.open_damaged().unwrap();
        let Condition::Recovering(restriction) = recovered.condition else { panic!("{recovered:?}") };
        let newest = missing == segments;
        assert_eq!((restriction.last, restriction.last_known), (id(1, 12), !newest), "{recovered:?}");
        assert_eq!(restriction.vote_known, !newest);
        assert!(last_index(&recovered) < 3 * missing, "segment {missing}: {recovered:?}");
        assert_eq!(world.restart_damaged().condition, recovered.condition);
    }
}

#[test]
fn a_bad_header_of_a_segment_is_a_missing_segment() {
    let segments = long().segments().len() as u64;
    for bad in 1..=segments {
        let mut world = long();
        world.tamper(bad, |bytes| bytes[20] ^= 1);
        let recovered = world.open_damaged().unwrap();
        let Condition::Recovering(restriction) = recovered.condition else { panic!("{recovered:?}") };
        assert_eq!((restriction.last, restriction.last_known), (id(1, 12), bad != segments));
        // Nobody knows what a newest segment held beyond what the superblock says.
        assert!(recovered.last_lsn > world.acked);
    }
}

#[test]
fn a_missing_segment_that_a_snapshot_stands_for_costs_nothing() {
    let mut batches: Vec<_> = (1..=6).map(|index| vec![entry(1, index, 600)]).collect();
    batches.push(vec![Record::Snapshot(mark(id(1, 6), id(1, 4)))]);
    batches.extend((7..=9).map(|index| vec![entry(1, index, 600)]));
    let world = World::written(&batches);
    let oldest = world.segments()[0].sequence;
    assert!(oldest > 1, "the segments before the base are gone already");
    // What compaction leaves when the power fails in it: some of the oldest, in any order.
    let mut world = World::written(&batches);
    world.open().unwrap();
}

#[test]
fn a_bad_snapshot_is_replaced_by_an_older_one_and_the_log_after_it() {
    let batches = |base| {
        vec![
            vec![entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 0)],
            vec![Record::Snapshot(mark(id(1, 2), id(1, 1)))],
            vec![entry(1, 4, 0), entry(1, 5, 0)],
            vec![Record::Snapshot(mark(id(1, 4), base))],
            vec![entry(1, 6, 0)],
        ]
    };
    for missing in [false, true] {
        let spoil = |world: &World| {
            let path = dir().join(file_name(id(1, 4)));
            match missing {
                true => world.disk.unlink(&path).unwrap(),
                false => world.disk.tamper(&path, |bytes| bytes[300] ^= 1).unwrap(),
            }
        };
        let mut world = World::written(&batches(id(1, 2)));
        spoil(&world);
        let recovered = world.open_unchecked().unwrap();
        let mark = recovered.mark.clone().unwrap();
        assert_eq!((recovered.condition, mark.last, mark.base), (Condition::Sound, id(1, 2), id(1, 2)));
        assert_eq!(recovered.snapshot.unwrap().0.last, id(1, 2));
        assert_eq!(recovered.entries.len(), 4);

        // The log goes on after 3, and the older snapshot ends at 2: there is nothing to go on from.
        let mut world = World::written(&batches(id(1, 3)));
        spoil(&world);
        for _ in 0..2 {
            let recovered = world.open_unchecked().unwrap();
            let mark = recovered.mark.clone().unwrap();
            assert_eq!(recovered.condition, recovering(id(1, 6), true, true), "{recovered:?}");
            assert_eq!((mark.last, mark.base, &mark.membership[..]), (id(0, 0), id(0, 0), &[4, 3][..]));
            assert_eq!((recovered.snapshot, recovered.entries.len()), (None, 0));
            world.disk.kill();
        }
    }
}

#[test]
fn a_restriction_ends_when_the_node_says_so_and_not_before() {
    let mut world = short();
    flip_payload(&world, ENTRY_4);
    let recovered = world.open_damaged().unwrap();
    let caught_up = [entry(2, 4, 10), entry(2, 5, 0), entry(2, 6, 10), entry(3, 7, 1)];
    world.write_on(&recovered, &caught_up);
    world.disk.kill();
    let recovered = world.open_unchecked().unwrap();
    assert_eq!((recovered.condition, last_index(&recovered)), (recovering(id(2, 6), true, true), 7));
    world.write_on(&recovered, &[Record::Recovering(None)]);
    world.disk.kill();
    let recovered = world.open_unchecked().unwrap();
    assert_eq!((recovered.condition, last_index(&recovered)), (Condition::Sound, 7));
    assert_eq!(recovered.hard_state, HardState { term: 2, voted_for: Some(3) });
}

#[test]
fn a_second_loss_adds_to_the_first() {
    let mut world = short();
    flip_payload(&world, ENTRY_4);
    let recovered = world.open_damaged().unwrap();
    world.write_on(&recovered, &[entry(2, 4, 10), entry(2, 5, 0)]);
    world.disk.kill();
    let lsn = recovered.last_lsn + 2;
    flip_header(&world, lsn);
    let recovered = world.open_unchecked().unwrap();
    assert_eq!(recovered.condition, recovering(id(2, 6), false, false), "{recovered:?}");
    assert_eq!(last_index(&recovered), 4);
}

#[test]
fn power_loss_at_every_operation_of_a_repair_keeps_the_restriction() {
    type Spoil = fn(&World);
    let damages: [(Spoil, Condition); 3] = [
        (|world| flip_payload(world, ENTRY_4), recovering(id(2, 6), true, true)),
        (|world| flip_header(world, ENTRY_6), recovering(id(2, 6), false, false)),
        (|world| world.tamper(1, |bytes| bytes[20] ^= 1), recovering(id(2, 6), false, false)),
    ];
    for (spoil, condition) in damages {
        for at in 0.. {
            let mut finished = false;
            for seed in 0..12 {
                let mut world = short();
                spoil(&world);
                world.age_superblock(ENTRY_6); // as it is, but durable
                world.disk.refuse(Some(Refusal {
                    at: world.disk.operations() + at,
                    onward: true,
                    errno: Errno::EIO,
                }));
                finished = world.open_damaged().is_ok();
                world.disk.power_loss(Unsynced::Torn { seed });
                world.disk.refuse(None);
                let recovered = world.open_damaged().unwrap();
                assert_eq!(recovered.condition, condition, "operation {at}, seed {seed}: {recovered:?}");
            }
            if finished {
                break;
            }
        }
    }
}

/// All files of a directory.
fn files(world: &World) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let names = world.disk.list(dir()).unwrap();
    let paths = names.into_iter().map(|name| dir().join(name));
    paths.map(|path| (path.clone(), world.disk.read(&path).unwrap())).collect()
}

/// Spoils a copy of the same directory in many ways, and counts what came of it: sound, recovering, refused.
fn spoil_all(ways: impl Iterator<Item = (std::path::PathBuf, usize, usize, u8)>) -> [usize; 3] {
    let mut counts = [0; 3];
    for (path, from, to, mask) in ways {
        let mut world = World::written(&script());
        let spoil = |bytes: &mut Vec<u8>| {
            bytes[from..to].iter_mut().for_each(|byte| *byte = if mask == 0 { 0 } else { *byte ^ mask });
        };
        world.disk.tamper(&path, spoil).unwrap();
        // Whatever comes of it is compared with the truth.
        match world.open_damaged() {
            Ok(recovered) if recovered.condition == Condition::Sound => counts[0] += 1,
            Ok(_) => counts[1] += 1,
            Err(error) => {
                assert_eq!(error.exit_code(), 65, "{}: bytes {from}..{to}: {error}", path.display());
                counts[2] += 1;
            }
        }
    }
    counts
}

#[test]
fn a_flip_of_any_byte_never_passes_for_something_else() {
    let all = files(&World::written(&script()));
    let mut at = 0;
    let ways = all.iter().flat_map(|(path, bytes)| {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (0..(used + 64).min(bytes.len())).map(move |byte| (path.clone(), byte, byte + 1, 1 << (byte % 8)))
    });
    // Every third byte of everything, at another phase in each file.
    let ways = ways.filter(|_| {
        at += 1;
        at % 3 == 0
    });
    let [sound, recovering, refused] = spoil_all(ways);
    assert!(sound > 500 && recovering > 500, "{sound} sound, {recovering} recovering, {refused} refused");
    assert_eq!(refused, 0, "one flip is never more than can be made up for");
}

#[test]
fn zeros_in_place_of_any_stretch_never_pass_for_something_else() {
    let all = files(&World::written(&script()));
    let ways = all.iter().flat_map(|(path, bytes)| {
        let lengths = [48, 200, 512, 1500, 4096];
        let starts = (0..bytes.len()).step_by(40).zip(lengths.into_iter().cycle());
        let len = bytes.len();
        starts.map(move |(from, length)| (path.clone(), from, len.min(from + length), 0))
    });
    let [sound, recovering, refused] = spoil_all(ways);
    assert!(sound > 50 && recovering > 50, "{sound} sound, {recovering} recovering, {refused} refused");
}

#[test]
fn a_node_without_peers_is_refused_what_it_lost_and_nothing_is_touched() {
    let check = |world: &World| {
        let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
        Wal::check(&disk, dir(), &IDENTITY)
    };
    let world = World::written(&script());
    check(&world).unwrap();
    let newest = world.segments().pop().unwrap();
    world.tamper(newest.sequence, |bytes| bytes[300] ^= 1);
    let before = files(&world);
    let error = check(&world).unwrap_err();
    assert!(matches!(&error, StorageError::Corrupt { file, .. } if *file == newest.path), "{error}");
    assert_eq!(files(&world), before);
    let world = World::written(&script());
    for last in world.snapshots().list().unwrap() {
        world.disk.unlink(&dir().join(file_name(last))).unwrap();
    }
    let error = check(&world).unwrap_err().to_string();
    assert!(error.contains("no snapshot is left from which the log after"), "{error}");
    // A near miss: no directory at all.
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1));
    Wal::check(&disk, dir(), &IDENTITY).unwrap();
}
