//! `node inspect` and `node verify` on directories that are whole, torn, damaged, in use, or none.
//! That the verdicts agree with what the log does when it opens is checked in every case.

use std::path::Path;
use std::sync::Arc;

use node::dump::{DumpError, run_dump};
use node::inspect::{self, Inspection, Verdict, inspect, run_inspect, run_verify};
use node::kv::Store;
use node::kv::command::{Command, Operation};
use node::raft::types::{Entry, LogId, Payload, Record, SnapshotMark};
use node::storage::segment::HEADER_BYTES;
use node::storage::snapshot_file::Encoder;
use node::storage::{Condition, Disk, RealDisk, SnapshotDir, Wal};

use crate::world::{IDENTITY, World, dir, entry, script};

fn check(world: &World, verdict: Verdict) -> Inspection {
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let inspection = inspect(&disk, dir());
    assert_eq!(inspection.verdict, verdict, "{:?}", inspection.reasons);
    inspection
}

fn lines(inspection: &Inspection) -> Vec<&inspect::Line> {
    inspection.segments.iter().flat_map(|segment| &segment.lines).collect()
}

#[test]
fn a_whole_directory_is_intact_and_every_record_is_shown() {
    let mut world = World::written(&script()[..6]);
    let inspection = check(&world, Verdict::Intact);
    let records = lines(&inspection).into_iter().filter(|line| line.kind != "checkpoint");
    let shown: Vec<_> = records.map(|line| line.lsn).collect();
    assert_eq!(shown, (1..=world.acked).map(Some).collect::<Vec<_>>());
    let recovered = world.open().unwrap();
    assert_eq!(
        (inspection.term, inspection.voted_for, inspection.last_index, inspection.incarnation),
        (
            recovered.hard_state.term,
            recovered.hard_state.voted_for,
            recovered.entries.last().unwrap().id.index,
            1
        )
    );
    assert_eq!(inspection.owner.unwrap().directory_id, format!("{:016x}", recovered.directory_id));
    // It is open now, and that is no obstacle.
    check(&world, Verdict::Intact);
}

#[test]
fn a_torn_tail_is_said_and_left_where_it_is() {
    let mut world = World::written(&script());
    let (sequence, offset, lsn) = *world.positions().last().unwrap();
    world.age_superblock(lsn - 1);
    world.tamper(sequence, |bytes| bytes.truncate(offset as usize + 20));
    let inspection = check(&world, Verdict::TornTail);
    assert_eq!(inspection.last_lsn, lsn - 1);
    assert_eq!(lines(&inspection).last().map(|line| (line.kind, line.offset)), Some(("gap", offset)));
    check(&world, Verdict::TornTail);
    world.acked = lsn - 1;
    world.open().unwrap();
    check(&world, Verdict::Intact);
}

#[test]
fn damage_is_named_and_what_follows_it_is_still_shown() {
    let mut world = World::written(&script());
    let records = lines(&check(&world, Verdict::Intact)).len();
    let newest = world.segments().pop().unwrap();
    let (_, at, lsn) =
        world.positions().into_iter().rfind(|(sequence, ..)| *sequence == newest.sequence).unwrap();
    world.tamper(newest.sequence, |bytes| bytes[at as usize + 3] ^= 1);
    let inspection = check(&world, Verdict::Corrupt);
    assert!(inspection.reasons[0].contains(&format!("expected the record with lsn {lsn}")), "{inspection:?}");
    assert!(inspection.hint.unwrap().contains("fetches from them"), "{inspection:?}");
    assert_eq!(lines(&inspection).iter().filter(|line| line.lsn.is_some()).count(), records - 1);
    let recovered = world.open_damaged().unwrap();
    assert_eq!(recovered.notes, inspection.reasons);
    assert_ne!(recovered.condition, Condition::Sound);
    // The node has seen to it: what is there now is consistent, and says what the node is short of.
    let inspection = check(&world, Verdict::Intact);
    let repaired =
        lines(&inspection).into_iter().any(|line| line.text.contains("made by recovery, recovering: had"));
    assert!(repaired, "{inspection:?}");
    assert!(inspection.reasons[0].contains("an earlier start took care of it"), "{inspection:?}");
}

#[test]
fn what_a_node_refuses_is_corrupt_with_the_same_words() {
    let mut world = World::written(&script());
    world.set_superblock(&[]);
    let inspection = check(&world, Verdict::Corrupt);
    let error = world.open().err().unwrap();
    assert_eq!((&inspection.reasons, inspection.hint), (&vec![error.to_string()], Some(error.hint())));
}

#[test]
fn another_format_version_is_unknown() {
    let world = World::written(&[]);
    let mut header = world.segments()[0].header.unwrap();
    header.version = 9;
    world.tamper(1, |bytes| bytes[..HEADER_BYTES].copy_from_slice(&header.encode()));
    let inspection = check(&world, Verdict::Unknown);
    assert!(inspection.reasons[0].contains("format version 9"), "{:?}", inspection.reasons);
}

fn run(dir: &Path) -> (u8, String, u8, String) {
    let (mut shown, mut judged) = (Vec::new(), Vec::new());
    let inspect = run_inspect(dir, false, &mut shown).unwrap();
    let verify = run_verify(dir, &mut judged).unwrap();
    (inspect, String::from_utf8(shown).unwrap(), verify, String::from_utf8(judged).unwrap())
}

#[test]
fn what_is_no_data_directory_is_unknown() {
    let root = tempfile::tempdir().unwrap();
    let (_, _, code, text) = run(root.path());
    assert!(code == 2 && text.contains("is not a data directory"), "{code} {text}");
    let (_, _, code, text) = run(&root.path().join("absent"));
    assert!(code == 2 && text.contains("absent"), "{code} {text}");
}

#[test]
fn a_person_reads_what_each_record_says() {
    let root = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(Arc::new(RealDisk), root.path(), &IDENTITY, None).unwrap();
    let operation = Operation::Set { key: b"k7".to_vec(), value: b"311".to_vec() };
    let command = Command::Execute { client_id: 4, sequence: 2, operation }.encode();
    let id = LogId { term: 1, index: 2 };
    let set = Record::Entry(Entry { id, payload: Payload::Command(command.into()) });
    wal.append(&[
        (2, entry(1, 1, 0)),
        (3, set),
        (4, entry(1, 3, 5)),
        (5, Record::Truncate { last_index: 2 }),
    ])
    .unwrap();
    wal.sync().unwrap();

    let (code, text, verify, verdict) = run(root.path());
    assert_eq!((code, verify), (0, 0));
    for expected in [
        "node 2   cluster 0000000000000007   directory ",
        "incarnation 1   term 0   no vote   last index 2   last lsn 5\n",
        "wal-0000000000000001.seg   1048576 bytes   first lsn 1\n",
        "         64  lsn 0         checkpoint  incarnation 0, term 0, no vote and ends at 0@0\n",
        "        208  lsn 1         boot        incarnation 1\n",
        "        256  lsn 2         entry       index 1, term 1: no-op\n",
        "        304  lsn 3         entry       index 2, term 1: set k7 311 (client 4, sequence 2)\n",
        "entry       index 3, term 1: 5 bytes that are no command: \\x03\\x03\\x03\\x03\\x03\n",
        "truncate    every entry after index 2\n",
        "intact   6 records in 1 segment\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert_eq!(verdict, "intact   6 records in 1 segment\n");

    let mut json = Vec::new();
    run_inspect(root.path(), true, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["verdict"], "intact");
    assert_eq!(json["segments"][0]["lines"][3]["index"], 2);
}

/// A real directory with a snapshot at 2 and entries up to 4; the store then holds `a` and `b`.
fn with_a_snapshot(dir: &Path) -> Vec<std::path::PathBuf> {
    let command = |sequence, operation| Command::Execute { client_id: 1, sequence, operation };
    let set = |key: &[u8], value: &[u8]| Operation::Set { key: key.to_vec(), value: value.to_vec() };
    let open = Command::OpenSession { nonce: 5 };
    let commands =
        [open, command(1, set(b"a", b"1")), command(2, set(b"b", b"\xff\t")), command(3, set(b"a", b"2"))];
    let mut store = Store::default();
    for (index, command) in (1..).zip(&commands[..2]) {
        store.apply(index, Some(command));
    }
    store.freeze();
    let last = LogId { index: 2, term: 1 };
    let mut image = Vec::new();
    let mut encoder = Encoder::new(IDENTITY.cluster_id, last, 9, [].as_slice().into(), &mut image);
    while let Some(piece) = store.thaw(100) {
        encoder.push(&piece, &mut image);
    }
    let meta = encoder.finish(&mut image);
    let (mut wal, recovered) = Wal::open(Arc::new(RealDisk), dir, &IDENTITY, None).unwrap();
    SnapshotDir::new(Arc::new(RealDisk), dir, &IDENTITY).save(&meta, &image).unwrap();
    let mark = SnapshotMark { last, chain: 9, base: LogId { index: 1, term: 1 }, ..SnapshotMark::default() };
    let entries = (1..).zip(&commands).map(|(index, command)| {
        let payload = Payload::Command(command.encode().into());
        Record::Entry(Entry { id: LogId { index, term: 1 }, payload })
    });
    let records = entries.chain([Record::Snapshot(mark)]);
    wal.append(&(recovered.last_lsn + 1..).zip(records).collect::<Vec<_>>()).unwrap();
    wal.sync().unwrap();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn dump(path: &Path, json: bool, until: Option<u64>) -> Result<(String, u64), DumpError> {
    let mut out = Vec::new();
    let dump = run_dump(path, json, until, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), dump.index))
}

#[test]
fn a_snapshot_and_what_follows_it_are_dumped() {
    let root = tempfile::tempdir().unwrap();
    let paths = with_a_snapshot(root.path());
    let snapshot = paths.iter().find(|path| path.extension().is_some_and(|end| end == "snap")).unwrap();
    assert_eq!(dump(snapshot, false, None).unwrap(), ("a\t1\n".to_owned(), 2));
    assert_eq!(dump(root.path(), false, None).unwrap(), ("a\t2\nb\t\\xff\\t\n".to_owned(), 4));
    assert_eq!(dump(root.path(), false, Some(3)).unwrap(), ("a\t1\nb\t\\xff\\t\n".to_owned(), 3));
    let hash = |path: &Path, until| run_dump(path, false, until, &mut std::io::sink()).unwrap().hash;
    assert_eq!(hash(root.path(), Some(2)), hash(snapshot, None), "equal states have equal hashes");
    assert_ne!(hash(root.path(), Some(3)), hash(root.path(), Some(4)), "others do not");
    let (json, _) = dump(root.path(), true, None).unwrap();
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&lines[0]["index"], &lines[0]["snapshot_index"], &lines[0]["keys"]),
        (&4.into(), &2.into(), &2.into())
    );
    assert_eq!(lines[1], serde_json::json!({"key": "a", "value": "2"}));
    assert_eq!(lines[2], serde_json::json!({"key": "b", "value": {"hex": "ff09"}}));
    let error = dump(root.path(), false, Some(1)).unwrap_err().to_string();
    assert!(error.contains("the state at index 1 is gone"), "{error}");

    let mut bytes = std::fs::read(snapshot).unwrap();
    bytes[80] ^= 1;
    std::fs::write(snapshot, bytes).unwrap();
    assert!(dump(snapshot, false, None).unwrap_err().to_string().contains("block 0"));
    let error = dump(root.path(), false, None).unwrap_err().to_string();
    assert!(error.contains("no snapshot is left"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = dump(empty.path(), false, None).unwrap_err().to_string();
    assert!(error.contains("is not a data directory"), "{error}");
}

#[test]
fn every_file_that_a_node_writes_is_verified_by_itself_and_with_the_others() {
    let root = tempfile::tempdir().unwrap();
    let trace = root.path().join("trace.jsonl");
    std::fs::write(&trace, "{\"at\":5,\"event\":\"durable\",\"lsn\":2}\n").unwrap();
    let paths = with_a_snapshot(root.path());
    let said = |path: &Path| {
        let mut out = Vec::new();
        let code = run_verify(path, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    assert_eq!(
        said(root.path()),
        (0, "intact   8 records in 2 segments, 1 snapshot, 1 lines of trace\n".to_owned())
    );
    for path in paths {
        let (code, text) = said(&path);
        assert!(code == 0 && text.starts_with("intact"), "{}: {text}", path.display());
        let good = std::fs::read(&path).unwrap();
        // A byte in every line, record, block and slot.
        let mut bad = good.clone();
        bad.iter_mut().skip(20).step_by(64).for_each(|byte| *byte ^= 0x80);
        std::fs::write(&path, &bad).unwrap();
        let (code, text) = said(&path);
        assert!(code == 1 && text.starts_with("corrupt"), "{}: {text}", path.display());
        let (code, text) = said(root.path());
        assert!(code == 1 && text.starts_with("corrupt"), "{} in its directory: {text}", path.display());
        std::fs::write(&path, &good).unwrap();
    }
    std::fs::write(&trace, "{\"at\":5,\"event\":\"durable\",\"lsn\":2}\n{\"at\":6,").unwrap();
    assert!(said(&trace).1.starts_with("torn tail   1 lines of trace"), "{}", said(&trace).1);
    assert_eq!(said(root.path()).0, 0, "a torn line of the trace is no loss");
    let other = root.path().join("other");
    std::fs::write(&other, "x").unwrap();
    let (code, text) = said(&other);
    assert!(code == 2 && text.contains("no name that a node gives"), "{text}");

    let mut shown = Vec::new();
    run_inspect(root.path(), false, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    for expected in [
        "superblock   lsn 6 durable, last entry 4@1, term 0, no vote, incarnation 1\n",
        "snapshot-0000000000000002-0000000000000001.snap   ",
        "   up to 2@1   root ",
        "trace.jsonl   1 lines, and half of one\n",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in\n{shown}");
    }
}
