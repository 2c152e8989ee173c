//! Bytes from anywhere: every decoder of the storage on mutations of a kept corpus, half of them with checksums that hold.
//! They may be refused, or mean less; they never panic, hang, or pass for what they are not. `BLESS=1` rewrites the corpus.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::raft::types::LogId;
use node::storage::record::{self, HEADER_BYTES as RECORD_BYTES};
use node::storage::segment::{self, HEADER_BYTES, Header, Piece};
use node::storage::snapshot_file::verify;
use node::storage::superblock::Superblock;
use node::storage::{Disk, MemoryDisk, StorageError, Wal};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::world::{IDENTITY, LAYOUT, World, dir, script};

/// Mutations of each kind. More with `FUZZ_ROUNDS`.
const ROUNDS: u64 = 5000;

fn rounds() -> u64 {
    std::env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// The files of a directory that an earlier release left, by name. Segments without the zeros at their end.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wal/corpus");
    if std::env::var_os("BLESS").is_some() {
        let world = World::written(&script());
        for name in world.disk.list(dir()).unwrap() {
            let mut bytes = world.disk.read(&dir().join(&name)).unwrap();
            if name.ends_with(".seg") {
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 8);
            }
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named =
        |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
    files.map(named).collect()
}

fn disk_with(files: &BTreeMap<String, Vec<u8>>) -> MemoryDisk {
    let disk = MemoryDisk::new(1);
    for path in dir().ancestors().collect::<Vec<_>>().into_iter().rev().filter(|path| *path != Path::new(""))
    {
        disk.create_dir(path).unwrap();
    }
    for (name, bytes) in files {
        disk.create(&dir().join(name)).unwrap().write_at(0, bytes).unwrap();
    }
    disk
}

fn open(disk: &MemoryDisk) -> Result<Vec<LogId>, StorageError> {
    let opened = Wal::open_with(Arc::new(disk.clone()), dir(), &IDENTITY, None, LAYOUT);
    opened.map(|(_, recovered)| recovered.entries.iter().map(|entry| entry.id).collect())
}

/// A number as bugs like them.
fn odd_number(rng: &mut ChaCha8Rng) -> u64 {
    let near = [0, 1, 2, 7, 40, 1 << 31, 1 << 32, 1 << 62, u64::MAX];
    near[rng.random_range(0..near.len())].wrapping_add(rng.random_range(0..3)).wrapping_sub(1)
}

/// Flips, cuts, repeats or overwrites something.
fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let len = rng.random_range(0..=64.min(bytes.len() - at));
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            2 => bytes[at..at + len].fill(0),
            3 => rng.fill_bytes(&mut bytes[at..at + len]),
            4 => {
                let copied = bytes[at..at + len].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copied);
            }
            _ => {
                let number = odd_number(rng).to_le_bytes();
                let len = 8.min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&number[..len]);
            }
        }
    }
}

/// Changes a header or a record of a segment, and makes its checksums hold.
fn forge(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let Some(header) = Header::decode(bytes) else { return };
    if rng.random_range(0..8) == 0 {
        let at = [8, 12, 16, 24, 32, 40][rng.random_range(0..6)];
        bytes[at..at + 8].copy_from_slice(&odd_number(rng).to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        return;
    }
    let pieces = segment::scan(&header, bytes);
    let records: Vec<_> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Record { offset, frame } => Some((*offset as usize, frame.payload.len())),
            Piece::Gap { .. } => None,
        })
        .collect();
    if records.is_empty() {
        return;
    }
    let (at, payload) = records[rng.random_range(0..records.len())];
    let (head, body) = bytes[at..at + RECORD_BYTES + payload].split_at_mut(RECORD_BYTES);
    match rng.random_range(0..4) {
        0 => head[4] = rng.random_range(0..12),
        1 => head[5] = rng.random_range(0..8),
        2 if payload >= 8 => {
            let word = rng.random_range(0..payload / 8) * 8;
            body[word..word + 8].copy_from_slice(&odd_number(rng).to_le_bytes());
        }
        _ => {
            let word = 8 * rng.random_range(1..5);
            head[word..word + 8].copy_from_slice(&odd_number(rng).to_le_bytes());
        }
    }
    let crc = crc32c::crc32c_append(header.checksum_seed(), &head[..40]);
    head[40..44].copy_from_slice(&crc.to_le_bytes());
    head[44..48].copy_from_slice(&crc32c::crc32c_append(crc, body).to_le_bytes());
}

#[test]
fn the_corpus_is_what_this_release_reads() {
    let files = corpus();
    assert!(files.len() >= 5, "{:?}", files.keys());
    let entries = open(&disk_with(&files)).unwrap();
    assert_eq!(entries.last().unwrap().index, 45);
}

#[test]
fn a_directory_of_mutated_files_is_refused_or_opened_and_opens_again() {
    let files = corpus();
    let names: Vec<&String> = files.keys().collect();
    let (mut refused, mut opened) = (0, 0);
    for seed in 0..rounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut mutated = files.clone();
        for _ in 0..rng.random_range(1..3) {
            let bytes = mutated.get_mut(names[rng.random_range(0..names.len())]).unwrap();
            if rng.random_bool(0.5) { mutate(&mut rng, bytes) } else { forge(&mut rng, bytes) }
        }
        let disk = disk_with(&mutated);
        match open(&disk) {
            Err(error) => {
                assert_eq!(error.exit_code(), 65, "seed {seed}: {error}");
                refused += 1;
            }
            Ok(entries) => {
                opened += 1;
                disk.kill();
                let again = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, opened again: {error}"));
                assert_eq!(again, entries, "seed {seed}");
            }
        }
    }
    assert!(refused * 20 > rounds() && opened * 20 > rounds(), "{refused} refused, {opened} opened");
}

#[test]
fn mutated_snapshots_are_refused() {
    let files = corpus();
    let images: Vec<&Vec<u8>> =
        files.iter().filter(|(name, _)| name.ends_with(".snap")).map(|(_, bytes)| bytes).collect();
    let mut deep = 0;
    for seed in 0..rounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let image = images[rng.random_range(0..images.len())];
        let mut bytes = image.clone();
        mutate(&mut rng, &mut bytes);
        if rng.random_bool(0.5) && bytes.len() >= 64 {
            // Past the first checksum.
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            deep += 1;
        }
        assert!(bytes == *image || verify(&bytes, None).is_err(), "seed {seed} passes");
    }
    assert!(deep * 4 > rounds(), "only {deep} had a header that holds");
}

#[test]
fn mutated_records_and_superblocks_are_none_or_what_their_checksums_say() {
    let files = corpus();
    for seed in 0..rounds() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for (name, bytes) in &files {
            let mut bytes = bytes.clone();
            mutate(&mut rng, &mut bytes);
            let _ = Superblock::latest(&bytes);
            if name.ends_with(".seg") {
                forge(&mut rng, &mut bytes);
                let Some(header) = Header::decode(&bytes) else { continue };
                for piece in segment::scan(&header, &bytes) {
                    if let Piece::Record { offset, frame } = piece {
                        let again = record::decode(&bytes[offset as usize..], header.checksum_seed());
                        assert_eq!(again, Ok((frame.clone(), frame.encoded_bytes() as usize)));
                        let _ = frame.content();
                    }
                }
            }
        }
    }
}
