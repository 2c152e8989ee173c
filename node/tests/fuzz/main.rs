//! Every decoder of datagrams against mutations of a kept corpus, on stable Rust, the same ones each time: none panics, and what
//! decodes is spelled in no other way. Whole replicas under hostile datagrams are the business of `tests/raft/hostile.rs`.
//!
//! The corpus is `corpus/DECODER/ok-….hex` and `bad-….hex`: what must decode, and what must be refused. A file that once broke
//! something stays. `BLESS=1` writes the samples of this file anew; `FUZZ_ROUNDS=1000000` mutates for longer.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod samples;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node::kv::command::Command;
use node::protocol::{Request, Response};
use node::transport::frame::{Frame, HEADER_BYTES};
use node::transport::key::Key;
use node::transport::message_codec::{self, Incoming};
use node::transport::object::{Chunk, PullRequest};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mutations of each decoder's corpus.
const ROUNDS: u64 = 20_000;

/// Decodes; `None` if the bytes are refused, otherwise the same bytes made again (where a decoder can).
type Decoder = fn(&[u8]) -> Option<Vec<u8>>;

const DECODERS: [(&str, Decoder); 8] = [
    ("chunk", |bytes| Chunk::decode(bytes).ok().map(|chunk| chunk.encode())),
    ("command", |bytes| Command::decode(bytes).ok().map(|command| command.encode())),
    ("datagram", |bytes| Frame::decode(bytes).ok().map(|frame| frame.encode())),
    ("message", |bytes| match message_codec::decode_incoming(bytes, 5).ok()? {
        Incoming::Whole(message) => Some(message_codec::encode(&message)),
        // What is named by its hash cannot be spelled again without it.
        Incoming::InParts(_) => Some(bytes.to_vec()),
    }),
    ("pull", |bytes| PullRequest::decode(bytes).ok().map(|request| request.encode())),
    ("request", |bytes| Request::decode(bytes).ok().map(|request| request.encode())),
    ("response", |bytes| Response::decode(bytes).ok().map(|response| response.encode())),
    ("tagged_datagram", |bytes| {
        let key = samples::key();
        Frame::open(bytes, Some(&key)).ok().map(|frame| frame.seal(Some(&key)))
    }),
];

fn folder(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(decoder)
}

fn corpus(decoder: &str) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder(decoder)).unwrap_or_else(|error| panic!("{decoder}: {error}"));
    files
        .map(|file| {
            let path = file.unwrap().path();
            let text: String =
                std::fs::read_to_string(&path).unwrap().split_whitespace().collect::<Vec<_>>().concat();
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            let bytes = (0..text.len()).step_by(2).map(byte).collect();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), bytes)
        })
        .collect()
}

#[test]
fn the_corpus_decodes_or_is_refused_as_its_names_say() {
    if std::env::var_os("BLESS").is_some() {
        for (decoder, name, bytes) in samples::all() {
            std::fs::create_dir_all(folder(decoder)).unwrap();
            let lines: Vec<String> = bytes
                .chunks(32)
                .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
                .collect();
            std::fs::write(folder(decoder).join(format!("{name}.hex")), lines.concat()).unwrap();
        }
    }
    for (decoder, decode) in DECODERS {
        let corpus = corpus(decoder);
        let count = |start: &str| corpus.keys().filter(|name| name.starts_with(start)).count();
        assert!(count("ok-") >= 1 && count("bad-") >= 1, "{decoder}: {:?}", corpus.keys());
        assert_eq!(count("ok-") + count("bad-"), corpus.len(), "{decoder}: {:?}", corpus.keys());
        for (name, bytes) in corpus {
            let expected = name.starts_with("ok-").then(|| bytes.clone());
            assert_eq!(decode(&bytes), expected, "{decoder}/{name}");
        }
    }
    for (decoder, name, bytes) in samples::all() {
        assert_eq!(corpus(decoder).get(&name), Some(&bytes), "{decoder}/{name}: BLESS=1 writes it anew");
    }
}

fn number(rng: &mut ChaCha8Rng) -> u64 {
    let edges = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 1 << 31, 1 << 62, (1 << 62) + 1, u64::MAX - 1, u64::MAX];
    edges[rng.random_range(0..edges.len())]
}

fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => {
                let width = [1, 2, 4, 8][rng.random_range(0..4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number(rng).to_le_bytes()[..width]);
            }
            3 => bytes.truncate(at),
            4 => {
                let mut more = vec![0; rng.random_range(1..20)];
                rng.fill_bytes(&mut more);
                bytes.splice(at..at, more);
            }
            5 => {
                let from = rng.random_range(0..=at);
                let again = bytes[from..at].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[at.min(other.len())..]);
            }
        }
    }
}

/// Puts checksum and tag right, so that a mutation gets past them.
fn repair(bytes: &mut [u8], key: Option<&Key>) {
    let tag = if key.is_some() { 16 } else { 0 };
    if bytes.len() < HEADER_BYTES + tag {
        return;
    }
    let end = bytes.len() - tag;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..60]), &bytes[HEADER_BYTES..end]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    if let Some(key) = key {
        let tag = key.tag(&bytes[..end]);
        bytes[end..].copy_from_slice(&tag);
    }
}

#[test]
fn no_mutation_panics_or_decodes_to_something_else() {
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    for (seed, (decoder, decode)) in (1..).zip(DECODERS) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let corpus: Vec<Vec<u8>> = corpus(decoder).into_values().collect();
        let (mut decoded, mut refused) = (0_u64, 0_u64);
        for _ in 0..rounds {
            let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
            let other = corpus[rng.random_range(0..corpus.len())].clone();
            mutate(&mut rng, &mut bytes, &other);
            if rng.random() {
                match decoder {
                    "datagram" => repair(&mut bytes, None),
                    "tagged_datagram" => repair(&mut bytes, Some(&samples::key())),
                    _ => {}
                }
            }
            match decode(&bytes) {
                Some(again) => {
                    decoded += 1;
                    assert!(again == bytes, "{decoder}: {bytes:02x?}");
                }
                None => refused += 1,
            }
        }
        // What was never taken, or never refused, was not tested.
        assert!(
            decoded > rounds / 200 && refused > rounds / 20,
            "{decoder}: {decoded} taken, {refused} refused"
        );
    }
}
