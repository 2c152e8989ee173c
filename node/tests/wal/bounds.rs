//! The edges of what files may say and of what a log may use: exactly so much is taken, and one more is not.

use std::sync::Arc;

use nix::errno::Errno;
use node::raft::types::{Entry, HardState, NUMBER_MAX, Payload, Record};
use node::storage::memory_disk::{Refusal, Unsynced};
use node::storage::segment::{self, HEADER_BYTES, Piece};
use node::storage::slots::{Slot, Slots};
use node::storage::snapshot_file::{BadImage, Encoder, MEMBERSHIP_BYTES_MAX, verify};
use node::storage::superblock::{SLOT_BYTES, Superblock, SuperblockFile};
use node::storage::{Disk, MemoryDisk, Recovered, SnapshotDir, StorageError, Wal};

use crate::world::{IDENTITY, LAYOUT, World, dir, entry, id, image, mark, script, segment_path};

fn open(disk: &MemoryDisk) -> (Wal, Recovered) {
    Wal::open_with(Arc::new(disk.clone()), dir(), &IDENTITY, None, LAYOUT).unwrap()
}

fn refuse(disk: &MemoryDisk, after: u64, errno: Errno) {
    disk.refuse(Some(Refusal { at: disk.operations() + after, onward: false, errno }));
}

// ---- Images ----

fn image_with(membership: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    let mut encoder = Encoder::new(7, id(1, 1), 1, membership.into(), &mut image);
    encoder.push(b"state", &mut image);
    encoder.finish(&mut image);
    image
}

/// Changes the header and makes its checksum hold again.
fn forge(image: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut image = image.to_vec();
    change(&mut image[..60]);
    let crc = crc32c::crc32c(&image[..60]).to_le_bytes();
    image[60..64].copy_from_slice(&crc);
    image
}

#[test]
fn an_image_of_a_wrong_length_says_what_it_should_be() {
    let image = image_with(&[1, 2, 3]);
    let length = |found, expected| Err(BadImage::Length { found, expected });
    assert_eq!(verify(&image[..63], None), length(63, 64 + 40));
    assert_eq!(verify(&image[..64 + 3 + 39], None), length(64 + 3 + 39, 64 + 3 + 40));
    let size_at = image.len() - 40;
    let mut longer = image.clone();
    longer[size_at] += 2;
    assert_eq!(verify(&longer, None), length(image.len() as u64, image.len() as u64 + 2));
}

#[test]
fn a_membership_of_an_image_has_its_bound_and_the_spare_bytes_of_the_header_are_zero() {
    let most = image_with(&vec![9; MEMBERSHIP_BYTES_MAX]);
    assert_eq!(verify(&most, None).unwrap().meta.membership.len(), MEMBERSHIP_BYTES_MAX);
    for more in [1, 2] {
        let claims = (MEMBERSHIP_BYTES_MAX as u32 + more).to_le_bytes();
        let forged = forge(&most, |header| header[12..16].copy_from_slice(&claims));
        assert_eq!(verify(&forged, None), Err(BadImage::Header));
    }
    assert_eq!(verify(&forge(&most, |header| header[50] = 1), None), Err(BadImage::Header));
}

#[test]
fn a_long_snapshot_is_synced_every_few_mebibytes() {
    let disk = MemoryDisk::new(1);
    open(&disk);
    let snapshots = SnapshotDir::new(Arc::new(disk.clone()), dir(), &IDENTITY);
    assert_eq!(snapshots.cluster_id(), IDENTITY.cluster_id);
    let mut writer = snapshots.writer(id(1, 1)).unwrap();
    let mut operations = Vec::new();
    for _ in 0..9 {
        let before = disk.operations();
        writer.write(&vec![1; 1 << 20]).unwrap();
        operations.push(disk.operations() - before);
    }
    assert_eq!(operations, [1, 1, 1, 2, 1, 1, 1, 2, 1]);
}

// ---- Superblock and slots ----

#[test]
fn a_superblock_with_a_number_that_nobody_counts_to_is_none() {
    let most = |sequence| Superblock { sequence, ..Superblock::new(IDENTITY, 99) };
    assert_eq!(Superblock::decode(&most(NUMBER_MAX).encode()), Some(most(NUMBER_MAX)));
    for number in [NUMBER_MAX + 1, NUMBER_MAX + 2] {
        assert_eq!(Superblock::decode(&most(number).encode()), None);
    }
}

#[test]
fn a_start_makes_its_incarnation_durable_in_the_superblock_and_writes_take_slots_in_turn() {
    let disk = MemoryDisk::new(1);
    let read = || disk.read(&SuperblockFile::path(dir())).unwrap();
    for incarnation in 1..=3 {
        drop(open(&disk));
        disk.power_loss(Unsynced::Lost);
        assert_eq!(Superblock::latest(&read()).unwrap().incarnation, incarnation);
    }
    let (mut wal, recovered) = open(&disk);
    for lsn in recovered.last_lsn + 1..recovered.last_lsn + 6 {
        wal.append(&[(lsn, entry(1, lsn - recovered.last_lsn, 0))]).unwrap();
        wal.sync().unwrap();
    }
    let bytes = read();
    let slots = bytes.chunks(SLOT_BYTES as usize).map(|slot| Superblock::decode(slot).unwrap().sequence);
    let mut sequences: Vec<_> = slots.collect();
    sequences.sort_unstable();
    let last = sequences[3];
    assert_eq!(sequences, [last - 3, last - 2, last - 1, last]);
}

#[test]
fn places_of_which_nothing_is_known_are_kept_apart_up_to_a_bound() {
    let base = id(1, 10);
    let one = |index| {
        let mut slots = Slots::unknown(base, 10);
        slots.push(Slot::Entry(Entry { id: id(1, 11), payload: Payload::Noop }));
        slots.fill(index);
        (slots.id(11), slots.last_index())
    };
    let bound = 1 << 20;
    assert_eq!(one(11 + bound), (Some(id(1, 11)), 11 + bound));
    for more in [1, 2] {
        assert_eq!(one(11 + bound + more), (None, 11 + bound + more));
    }
    let mut nothing = Slots::unknown(base, 12);
    nothing.fill(16);
    assert_eq!(nothing, Slots::unknown(base, 16));
}

// ---- Segments ----

#[test]
fn a_gap_says_where_it_is_and_how_long_and_one_byte_is_one() {
    let world = World::written(&[vec![entry(1, 1, 0)], vec![entry(1, 2, 0)], vec![entry(1, 3, 0)]]);
    let [file] = &world.segments()[..] else { panic!() };
    let end =
        file.pieces.iter().filter_map(Piece::frame).fold(HEADER_BYTES as u64, |at, f| at + f.encoded_bytes());
    let header = file.header.unwrap();
    let gap = |bytes: &[u8]| {
        segment::scan(&header, bytes).into_iter().find_map(|piece| match piece {
            Piece::Gap { offset, bytes, .. } => Some((offset, bytes)),
            Piece::Record { .. } => None,
        })
    };
    assert_eq!(gap(&file.bytes), None);
    for at in [0, 1, 9] {
        let mut bytes = file.bytes.clone();
        bytes[end as usize + at] = 7;
        assert_eq!(gap(&bytes), Some((end, at as u64 + 1)));
    }
    let (_, second, len) = world.record(3);
    let mut bytes = file.bytes.clone();
    bytes[second + 20] ^= 1;
    assert_eq!(gap(&bytes), Some((second as u64, len as u64)));
}

#[test]
fn a_segment_that_is_gone_by_the_time_it_is_read_is_none_and_one_of_another_format_is_not_looked_into() {
    let world = World::written(&script());
    let all = world.segments().len();
    // The listing and the superblock come first.
    refuse(&world.disk, 2, Errno::ENOENT);
    assert_eq!(world.segments().len(), all - 1);
    refuse(&world.disk, 2, Errno::EIO);
    assert!(node::storage::recovery::read(&world.disk, dir()).is_err());
    world.disk.refuse(None);
    let mut header = world.segments()[0].header.unwrap();
    header.version += 1;
    world.tamper(header.sequence, |bytes| bytes[..HEADER_BYTES].copy_from_slice(&header.encode()));
    assert_eq!(world.segments()[0].pieces, []);
}

#[test]
fn an_error_names_the_segment_and_a_directory_that_cannot_be_listed_is_not_one_that_is_not_there() {
    let disk = MemoryDisk::new(1);
    let (mut wal, recovered) = open(&disk);
    wal.append(&[(recovered.last_lsn + 1, entry(1, 1, 0))]).unwrap();
    refuse(&disk, 0, Errno::EIO);
    let error = wal.sync().unwrap_err().to_string();
    assert!(error.contains(segment_path(1).to_str().unwrap()), "{error}");
    drop(wal);
    let checked: Arc<dyn Disk> = Arc::new(disk.clone());
    refuse(&disk, 0, Errno::EIO);
    assert!(matches!(Wal::check(&checked, dir(), &IDENTITY), Err(StorageError::Io { .. })));
}

// ---- Space ----

#[test]
fn a_spare_segment_lacks_for_want_of_space_and_nothing_else() {
    let disk = MemoryDisk::new(1);
    let (mut wal, _) = open(&disk);
    let there = || disk.list(dir()).unwrap().contains(&"wal-spare.tmp".to_owned());
    disk.set_capacity(disk.used() + 100);
    wal.prepare().unwrap();
    assert!(!there(), "half of one is none");
    disk.set_capacity(u64::MAX);
    refuse(&disk, 0, Errno::EMFILE);
    wal.prepare().unwrap();
    assert!(!there());
    refuse(&disk, 0, Errno::EIO);
    assert_eq!(wal.prepare().unwrap_err().exit_code(), 74);
    assert!(matches!(wal.prepare(), Err(StorageError::Poisoned { .. })));
}

#[test]
fn however_little_room_there_is_many_votes_at_once_end_no_log_and_what_is_told_of_them_is_true() {
    for capacity in (0..6_000).step_by(40) {
        let disk = MemoryDisk::new(1);
        let (mut wal, recovered) = open(&disk);
        wal.prepare().unwrap();
        disk.set_capacity(disk.used() + capacity);
        let mut lsn = recovered.last_lsn;
        for index in 1.. {
            lsn += 1;
            wal.append(&[(lsn, entry(1, index, 300))]).unwrap();
            if wal.sync().unwrap().out_of_space {
                break;
            }
        }
        let first = lsn + 1;
        for batch in [30, 7, 1] {
            let votes = (lsn + 1..=lsn + batch)
                .map(|lsn| (lsn, Record::HardState(HardState { term: lsn, voted_for: Some(2) })));
            wal.append(&votes.collect::<Vec<_>>()).unwrap();
            lsn += batch;
            wal.sync().unwrap_or_else(|error| panic!("{capacity} bytes: {error}"));
        }
        let told = wal.sync().unwrap();
        assert!(told.out_of_space && told.durable < first && told.hard_state >= first, "{told:?}");
        drop(wal);
        disk.power_loss(Unsynced::Lost);
        disk.set_capacity(u64::MAX);
        let (mut wal, recovered) = open(&disk);
        assert_eq!(recovered.hard_state.term, told.hard_state, "{capacity} bytes");
        // And goes on where it was.
        let vote = Record::HardState(HardState { term: 9_999, voted_for: None });
        wal.append(&[(recovered.last_lsn + 1, vote)]).unwrap();
        assert!(!wal.sync().unwrap().out_of_space);
        drop(wal);
        disk.power_loss(Unsynced::Lost);
        assert_eq!(open(&disk).1.hard_state.term, 9_999);
    }
}

/// A log on a full disk that has a spare segment, and what waits in it.
fn full(records: &[Record]) -> (MemoryDisk, Wal, node::storage::Progress, u64) {
    let disk = MemoryDisk::new(1);
    let (mut wal, recovered) = open(&disk);
    wal.prepare().unwrap();
    disk.set_capacity(disk.used());
    let first = recovered.last_lsn + 1;
    wal.append(&(first..).zip(records.iter().cloned()).collect::<Vec<_>>()).unwrap();
    let progress = wal.sync().unwrap();
    (disk, wal, progress, first)
}

#[test]
fn what_says_that_a_directory_may_vote_does_not_wait_and_a_snapshot_is_no_vote() {
    let founding = mark(id(0, 0), id(0, 0));
    let (disk, wal, progress, first) = full(&[entry(1, 1, 3_000), Record::Snapshot(founding.clone())]);
    assert_eq!((progress.durable, progress.hard_state, progress.out_of_space), (first - 1, first + 1, true));
    drop(wal);
    disk.power_loss(Unsynced::Lost);
    disk.set_capacity(u64::MAX);
    assert_eq!(open(&disk).1.mark, Some(founding.clone()));
    // And no segment has to begin with it.
    let world = World::written(&[vec![Record::Snapshot(founding)]]);
    let files = node::storage::recovery::read(&world.disk, dir()).unwrap();
    assert!(!node::storage::recovery::replay(&files, Some(&IDENTITY)).marked);
    // What does not even fit into the spare segment waits, mark or not.
    let last = id(1, 1);
    let (disk, wal, progress, first) = full(&[entry(1, 1, 3_000), Record::Snapshot(mark(last, last))]);
    assert_eq!((progress.durable, progress.out_of_space), (first - 1, true));
    drop(wal);
    disk.power_loss(Unsynced::Lost);
    disk.set_capacity(u64::MAX);
    assert_eq!(open(&disk).1.mark, None, "it waits behind its entries");
}

#[test]
fn segments_that_went_stay_away_whenever_the_power_fails() {
    let mut world = World::written(&(1..=6).map(|index| vec![entry(1, index, 900)]).collect::<Vec<_>>());
    world.open().unwrap();
    let before = world.segments().len();
    world.write(&[Record::Snapshot(mark(id(1, 6), id(1, 6)))]).unwrap();
    let after = world.segments().len();
    assert!(after < before && after == 1, "{before} segments, then {after}");
    world.disk.power_loss(Unsynced::Lost);
    assert_eq!(world.segments().len(), after);
    let (meta, bytes) = image(id(1, 6));
    assert_eq!(world.snapshots().load(id(1, 6)).unwrap(), (meta, bytes));
}
