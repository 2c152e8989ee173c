//! Snapshots of a whole replica: when one is written, what of it waits for the disk, how parts of it are given to others, and how
//! one is fetched. What a snapshot means for the log is the business of `snapshot`.

use std::path::Path;
use std::sync::Arc;

use node::kv::Store;
use node::kv::command::{Operation, VALUE_BYTES_MAX};
use node::protocol::RequestBody;
use node::raft::event::{Event, Level};
use node::raft::message::{AppendResult, Message, SnapshotOffer};
use node::raft::types::{LogId, Record, Term};
use node::replica::{Destination, Output};
use node::storage::snapshot_file;
use node::storage::snapshot_job::{SnapshotJob, SnapshotOutcome, SnapshotWorker};
use node::storage::{Disk, Identity, MemoryDisk, SnapshotDir, SnapshotMeta};
use node::transport::object::{CHUNK_BYTES, ObjectId, PullRequest};
use node::transport::pull::ChunkRange;

use crate::core::*;
use crate::large::{feed, upload};
use crate::replica::*;

/// A worker, and the directory that it works in.
struct Files {
    worker: SnapshotWorker,
    dir: SnapshotDir,
}

impl Files {
    fn new() -> Files {
        let disk = MemoryDisk::new(1);
        disk.create_dir(Path::new("d")).unwrap();
        let identity = Identity { cluster_id: node::transport::frame::cluster_id(CLUSTER), node_id: 1 };
        let dir = SnapshotDir::new(Arc::new(disk), Path::new("d"), &identity);
        Files { worker: SnapshotWorker::new(dir.clone()), dir }
    }

    /// Does the jobs, and those that follow from them, until there are none. Returns the names of all.
    fn work(&mut self, bench: &mut Bench, mut output: Output) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let (jobs, encoding) = (output.snapshot_jobs, bench.replica.next_deadline() == 0);
            if jobs.is_empty() && !encoding {
                return names;
            }
            for job in jobs {
                names.push(name(&job));
                if let Some(outcome) = self.worker.run(job) {
                    bench.replica.snapshot_outcome(bench.now, outcome);
                }
            }
            output = bench.flush();
        }
    }
}

fn name(job: &SnapshotJob) -> String {
    match job {
        SnapshotJob::Write { last, .. } => format!("write {last}"),
        SnapshotJob::Finish { meta } => format!("finish {}", meta.last),
        SnapshotJob::Abort => "abort".to_owned(),
        SnapshotJob::Save { meta, .. } => format!("save {}", meta.last),
        SnapshotJob::Read { last, offset, len, .. } => format!("read {last} {offset} {len}"),
        SnapshotJob::Keep(keep) => format!("keep {keep:?}"),
    }
}

fn names(output: &Output) -> Vec<String> {
    output.snapshot_jobs.iter().map(name).collect()
}

/// A leader that writes a snapshot every so many entries, and has the log begin where it ends.
fn leader(snapshot_entries: u64) -> Bench {
    let mut config = replica_config(1, 3);
    config.snapshot_entries = snapshot_entries;
    config.raft.trailing_entries = 0;
    config.level = Some(Level::Warn);
    Bench::leader_of(config)
}

/// Node 2, following node 1.
fn follower() -> Bench {
    let mut config = replica_config(2, 3);
    config.level = Some(Level::Warn);
    let mut bench = Bench::new(config, 1, &[]);
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    bench.turn();
    bench
}

/// The disk has what it was given, node 2 acknowledges it, and it is applied. Returns what left in that turn.
fn commit(bench: &mut Bench) -> Output {
    bench.sync();
    let (last, term) = (bench.replica.raft().log().last().index, bench.replica.raft().term());
    bench.peer(2, term, &accepted(last));
    bench.flush()
}

fn write(bench: &mut Bench, session: u64, sequence: u64, value: &str) -> Output {
    bench.request(7, sequence, set(session, &format!("k{sequence}"), value));
    commit(bench)
}

/// An image of a leader's at 4@1, made by a leader.
fn made() -> (SnapshotMeta, Vec<u8>, Store) {
    let (mut bench, mut files) = (leader(4), Files::new());
    let session = bench.session(7);
    write(&mut bench, session, 2, &"y".repeat(900));
    let output = write(&mut bench, session, 3, &"x".repeat(900));
    let store = bench.replica.store().clone();
    files.work(&mut bench, output);
    let (meta, image) = files.dir.load(id(4, 1)).unwrap();
    (meta, image, store)
}

fn offer_of(meta: &SnapshotMeta) -> SnapshotOffer {
    SnapshotOffer { last: meta.last, size: meta.size, root: meta.root }
}

fn marks(output: &Output) -> Vec<LogId> {
    let mark = |(_, record): &(u64, Record)| match record {
        Record::Snapshot(mark) => Some(mark.last),
        _ => None,
    };
    output.records.iter().filter_map(mark).collect()
}

fn failures(output: &Output) -> Vec<&Event> {
    output.events.iter().filter(|event| matches!(event, Event::SnapshotFailed { .. })).collect()
}

// ---- Writing ----

#[test]
fn every_so_many_entries_the_state_is_written_and_the_log_begins_after_it() {
    let (mut bench, mut files) = (leader(4), Files::new());
    let session = bench.session(7);
    assert_eq!(names(&write(&mut bench, session, 2, "two")), [""; 0], "three entries");
    let output = write(&mut bench, session, 3, "three");
    let state = bench.replica.store().clone();
    // The header and what comes before the pairs; the rest in turns that nobody has to ask for.
    assert_eq!(
        names(&output),
        ["abort", "write 4@1", "write 4@1"].map(str::to_owned)[..output.snapshot_jobs.len()]
    );
    assert_eq!(bench.replica.next_deadline(), 0);
    // What is written is the state of that moment, whatever happens meanwhile.
    bench.request(7, 4, set(session, "k", "four"));
    bench.request(8, 1, RequestBody::OpenSession);
    let chain = bench.replica.raft().log().chain_at(4);
    let mut jobs = output.snapshot_jobs;
    while bench.replica.next_deadline() == 0 {
        jobs.extend(commit(&mut bench).snapshot_jobs);
    }
    assert_eq!(bench.replica.store().last_applied(), 6);
    assert!(matches!(jobs.last(), Some(SnapshotJob::Finish { .. })), "{jobs:?}");
    let mut outcomes: Vec<_> = jobs.into_iter().filter_map(|job| files.worker.run(job)).collect();
    let durable = outcomes.pop().unwrap();
    for outcome in outcomes {
        bench.replica.snapshot_outcome(bench.now, outcome);
        assert_eq!(marks(&bench.flush()), [], "it is not durable yet");
    }
    bench.replica.snapshot_outcome(bench.now, durable);
    let output = bench.flush();
    assert_eq!((marks(&output), names(&output).len()), (vec![id(4, 1)], 0), "the mark is not durable yet");
    assert_eq!(bench.replica.raft().log().first_index(), 5);
    let (meta, image) = files.dir.load(id(4, 1)).unwrap();
    assert_eq!((meta.chain, &meta.membership[..]), (chain, &membership(3).agreed().encode()[..]));
    assert_eq!(bench.replica.raft().snapshot(), Some(offer_of(&meta)));
    let read = snapshot_file::verify(&image, None).unwrap();
    assert_eq!(Store::decode(&read.state()).unwrap().state_hash(), state.state_hash());
    bench.replica.durable(bench.now, bench.replica.raft().last_lsn());
    assert_eq!(names(&bench.flush()), ["keep [LogId { term: 1, index: 4 }]"]);
    assert_eq!(names(&bench.flush()), [""; 0], "once");
}

#[test]
fn bytes_of_entries_make_one_due_as_well() {
    // A no-op counts for its record's header; the session's entry for that and its command.
    let session = 48 + 9;
    for (bytes, due) in [(2 * 48 + 9, true), (2 * 48 + 9 + 1, false)] {
        let mut config = replica_config(1, 3);
        config.snapshot_bytes = bytes;
        let mut bench = Bench::leader_of(config);
        bench.request(7, 1, RequestBody::OpenSession);
        let output = commit(&mut bench);
        let entry = bench.replica.raft().log().entry(2).unwrap();
        assert_eq!(48 + entry.payload.bytes().len(), session);
        assert_eq!(!names(&output).is_empty(), due, "{bytes} bytes");
    }
}

#[test]
fn of_the_snapshots_the_newest_two_are_kept_and_what_is_being_written() {
    let (mut bench, mut files) = (leader(3), Files::new());
    let session = bench.session(7);
    let mut kept = 0;
    // Each write is the entry after its sequence.
    for sequence in 2..=12 {
        let output = write(&mut bench, session, sequence, "v");
        kept += files.work(&mut bench, output).iter().filter(|name| name.starts_with("keep")).count();
    }
    assert_eq!((files.dir.list().unwrap(), kept), (vec![id(9, 1), id(12, 1)], 4));
    write(&mut bench, session, 13, "v");
    let output = write(&mut bench, session, 14, "v");
    files.work(&mut bench, output);
    // The next one is due while the mark of this one is on its way to the disk: the others have the entries already.
    (15..=17).for_each(|sequence| bench.request(7, sequence, set(session, "k", "v")));
    bench.flush();
    [2, 3].into_iter().for_each(|peer| bench.peer(peer, 1, &accepted(18)));
    let output = bench.flush();
    assert_eq!(names(&output)[..2], ["abort", "write 18@1"]);
    bench.replica.durable(bench.now, bench.replica.raft().last_lsn());
    let all = [12, 15, 18].map(|index| format!("{:?}", id(index, 1))).join(", ");
    assert!(names(&bench.flush()).contains(&format!("keep [{all}]")));
}

#[test]
fn while_one_is_being_written_no_other_is_begun() {
    let mut bench = leader(2);
    bench.request(7, 1, RequestBody::OpenSession);
    assert_eq!(names(&commit(&mut bench))[0], "abort");
    let mut begun = 0;
    for sequence in 2..8 {
        begun += names(&write(&mut bench, 2, sequence, "v")).iter().filter(|name| **name == "abort").count();
    }
    assert_eq!(begun, 0);
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    let mut bench = leader(6);
    let session = bench.session(7);
    for (sequence, key) in [(2, "a"), (3, "b"), (4, "c")] {
        let operation = Operation::Set { key: key.into(), value: vec![1; VALUE_BYTES_MAX] };
        upload(&mut bench, 7, sequence, RequestBody::Write { client_id: session, operation });
        commit(&mut bench);
    }
    let mut jobs = write(&mut bench, session, 5, "v").snapshot_jobs;
    while bench.replica.next_deadline() == 0 {
        jobs.extend(bench.flush().snapshot_jobs);
    }
    let waits: usize = jobs.iter().map(SnapshotJob::bytes).sum();
    assert!((1 << 20..2 << 20).contains(&waits), "{waits} bytes wait");
    assert_eq!(names(&bench.flush()), [""; 0]);
    // Another image's progress is none of this one's.
    let written = |last| SnapshotOutcome::Written { last, bytes: waits };
    bench.replica.snapshot_outcome(bench.now, written(id(9, 9)));
    assert_eq!(names(&bench.flush()), [""; 0]);
    bench.replica.snapshot_outcome(bench.now, written(id(6, 1)));
    assert_eq!((bench.replica.next_deadline(), names(&bench.flush())), (0, vec!["write 6@1".to_owned()]));
}

#[test]
fn one_that_failed_is_said_and_the_next_multiple_tries_again() {
    let (mut bench, mut files) = (leader(2), Files::new());
    bench.request(7, 1, RequestBody::OpenSession);
    commit(&mut bench);
    let failed = |last| SnapshotOutcome::Failed { last, reason: "no space".to_owned() };
    bench.replica.snapshot_outcome(bench.now, failed(id(9, 9)));
    assert_eq!(bench.replica.next_deadline(), 0, "that was another one");
    bench.flush();
    bench.replica.snapshot_outcome(bench.now, failed(id(2, 1)));
    let output = bench.flush();
    assert_eq!(failures(&output), [&Event::SnapshotFailed { last: id(2, 1), reason: "no space".to_owned() }]);
    assert_ne!(bench.replica.next_deadline(), 0, "nothing of it is encoded any more");
    write(&mut bench, 2, 2, "v");
    let output = write(&mut bench, 2, 3, "v");
    let done = files.work(&mut bench, output);
    assert_eq!((&done[0][..], files.dir.list().unwrap()), ("abort", vec![id(4, 1)]));
    bench.replica.snapshot_outcome(bench.now, SnapshotOutcome::Kept(Err("no space".to_owned())));
    let output = bench.flush();
    assert_eq!(failures(&output), [&Event::SnapshotFailed { last: id(4, 1), reason: "no space".to_owned() }]);
    bench.replica.snapshot_outcome(bench.now, SnapshotOutcome::Kept(Ok(())));
    assert!(failures(&bench.flush()).is_empty());
}

// ---- Giving ----

#[test]
fn parts_of_a_snapshot_are_read_and_sent_to_who_asks_and_no_more_than_so_many_at_once() {
    let (mut bench, mut files) = (leader(4), Files::new());
    let session = bench.session(7);
    write(&mut bench, session, 2, &"y".repeat(1_200));
    let output = write(&mut bench, session, 3, &"x".repeat(1_200));
    files.work(&mut bench, output);
    let (meta, image) = files.dir.load(id(4, 1)).unwrap();
    let object = ObjectId::Snapshot { last: meta.last, root: meta.root };
    let range = |chunk: u64, bytes| ChunkRange { offset: chunk * CHUNK_BYTES as u64, bytes };
    let ask = |object, ranges| PullRequest { object, asked_at: 5, ranges };
    bench.pull(Ok(3), &ask(object, vec![range(0, 1), range(1, 2 * CHUNK_BYTES as u64)]));
    let output = bench.flush();
    assert_eq!(
        names(&output),
        ["read 4@1 0 1".to_owned(), format!("read 4@1 {CHUNK_BYTES} {}", 2 * CHUNK_BYTES)]
    );
    for job in output.snapshot_jobs {
        let outcome = files.worker.run(job).unwrap();
        bench.replica.snapshot_outcome(bench.now, outcome.clone());
        bench.replica.snapshot_outcome(bench.now, outcome); // twice is once
    }
    let to = Destination::Node(3);
    let chunk = |from: usize, to_byte: usize| image[from..to_byte.min(image.len())].to_vec();
    let (one, two, three) = (CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES);
    assert_eq!(
        bench.turn().chunks,
        [
            (to, object, 0, chunk(0, 1)),
            (to, object, one as u64, chunk(one, two)),
            (to, object, two as u64, chunk(two, three)),
        ][..if image.len() > two { 3 } else { 2 }]
    );
    // Of one that is not kept nothing is read, and clients get none.
    bench.pull(Ok(3), &ask(ObjectId::Snapshot { last: id(3, 1), root: meta.root }, vec![range(0, 1)]));
    bench.pull(Err(7), &ask(object, vec![range(0, 1)]));
    assert_eq!(names(&bench.flush()), [""; 0]);
    // 32 at once; one that came back, even if it failed, makes room for another.
    for round in 0..5 {
        bench.pull(Ok(3), &ask(object, (0..8).map(|at| range(round * 8 + at, 1)).collect()));
    }
    let output = bench.flush();
    assert_eq!(output.snapshot_jobs.len(), 32);
    let SnapshotJob::Read { token, last, offset, .. } = output.snapshot_jobs[3] else { panic!() };
    let bytes = Err("gone".to_owned());
    bench.replica.snapshot_outcome(bench.now, SnapshotOutcome::Read { token, last, offset, bytes });
    bench.pull(Ok(3), &ask(object, vec![range(0, 1), range(1, 1)]));
    let output = bench.flush();
    assert_eq!((output.snapshot_jobs.len(), failures(&output).len()), (1, 1));
}

#[test]
fn a_restarted_node_gives_the_snapshot_that_it_began_with() {
    let (meta, image, _) = made();
    let mut bench = restarted(&meta, &image);
    assert_eq!(bench.replica.store().last_applied(), 4);
    let object = ObjectId::Snapshot { last: meta.last, root: meta.root };
    let ranges = vec![ChunkRange { offset: 0, bytes: 9 }];
    bench.pull(Ok(1), &PullRequest { object, asked_at: 5, ranges });
    assert_eq!(names(&bench.flush()), ["read 4@1 0 9"]);
}

/// Node 2, started with this snapshot and nothing after it.
fn restarted(meta: &SnapshotMeta, image: &[u8]) -> Bench {
    use rand::SeedableRng;
    let state = snapshot_file::verify(image, None).unwrap().state();
    let hard_state = node::raft::types::HardState { term: 1, voted_for: None };
    let mut raft = recovered(3, hard_state, vec![], 9);
    (raft.mark.last, raft.mark.chain) = (meta.last, meta.chain);
    (raft.mark.base, raft.mark.base_chain) = (meta.last, meta.chain);
    raft.snapshot = Some(offer_of(meta));
    let recovered = node::replica::RecoveredState { raft, state: Some(state) };
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    Bench { replica: node::replica::Replica::new(replica_config(2, 3), rng, 0, recovered), now: 0 }
}

// ---- Fetching ----

fn offered(bench: &mut Bench, from: u32, term: Term, meta: &SnapshotMeta) {
    bench.peer(from, term, &Message::Snapshot { offer: offer_of(meta), round: 0 });
}

fn pulled_from(bench: &mut Bench) -> Vec<(Destination, ObjectId)> {
    bench.turn().pulls.iter().map(|(to, request)| (*to, request.object)).collect()
}

/// Feeds all but the last part, and returns the turn's output after the last.
fn feed_image(bench: &mut Bench, meta: &SnapshotMeta, image: &[u8]) -> Output {
    let object = ObjectId::Snapshot { last: meta.last, root: meta.root };
    for (at, bytes) in image.chunks(CHUNK_BYTES).enumerate() {
        let offset = (at * CHUNK_BYTES) as u64;
        bench.chunk(Ok(1), &node::transport::object::Chunk { object, asked_at: bench.now, offset, bytes });
    }
    bench.flush()
}

#[test]
fn a_follower_fetches_checks_saves_and_goes_on_from_a_snapshot() {
    let (meta, image, store) = made();
    let (mut bench, mut files) = (follower(), Files::new());
    bench.sync();
    bench.request(9, 1, RequestBody::LocalGet { key: b"k".to_vec() });
    offered(&mut bench, 1, 1, &meta);
    let left = bench.turn();
    let object = ObjectId::Snapshot { last: meta.last, root: meta.root };
    assert_eq!(
        left.pulls.iter().map(|(to, r)| (*to, r.object)).collect::<Vec<_>>(),
        [(Destination::Node(1), object)]
    );
    let asked: u64 =
        left.pulls.iter().flat_map(|(_, request)| &request.ranges).map(|range| range.bytes).sum();
    assert!(asked >= meta.size, "all of it fits into the window");
    assert!(bench.replica.next_deadline() < bench.now + 1_000 * MS, "what is lost is asked for again");
    let output = feed_image(&mut bench, &meta, &image);
    assert_eq!(names(&output), ["save 4@1"]);
    assert_eq!(
        (bench.replica.store().last_applied(), marks(&output)),
        (0, vec![]),
        "nothing before it is saved"
    );
    // Meanwhile no other is fetched.
    offered(&mut bench, 1, 1, &SnapshotMeta { last: id(9, 1), ..meta.clone() });
    assert!(bench.turn().pulls.is_empty());
    let mut jobs = output.snapshot_jobs;
    let outcome = files.worker.run(jobs.remove(0)).unwrap();
    bench.replica.snapshot_outcome(bench.now, outcome);
    let output = bench.flush();
    assert_eq!(marks(&output), [id(4, 1)]);
    assert_eq!(
        (bench.replica.store().state_hash(), bench.replica.store().last_applied()),
        (store.state_hash(), 4)
    );
    bench.peer(1, 1, &append(id(4, 1), 4, &[]));
    bench.sync();
    bench.peer(1, 1, &append(id(4, 1), 4, &[1]));
    bench.sync();
    let replies: Vec<_> = bench.turn().peers.into_iter().map(|(_, _, message)| message).collect();
    let accepted = |match_index| AppendResult::Accepted { match_index };
    assert_eq!(replies, [Message::AppendReply { round: 0, result: accepted(5) }]);
    assert_eq!(files.dir.load(id(4, 1)).unwrap().0, meta);
    // What was computed goes on from it: the next snapshot names the chain of the whole log.
    bench.peer(1, 1, &append(id(5, 1), 5, &[]));
    bench.flush();
    let chain = bench.replica.raft().log().chain_at(5);
    assert_ne!(chain, 0);
}

#[test]
fn a_snapshot_that_is_not_what_was_offered_is_refused_and_fetched_anew() {
    let (meta, image, _) = made();
    let mut wrong = image.clone();
    wrong[100] ^= 1;
    let other_root = SnapshotMeta { root: [7; 32], ..meta.clone() };
    let other_last = SnapshotMeta { last: id(5, 1), ..meta.clone() };
    for (meta, image) in [(&meta, &wrong), (&other_root, &image), (&other_last, &image)] {
        let mut bench = follower();
        offered(&mut bench, 1, 1, meta);
        bench.flush();
        let output = feed_image(&mut bench, meta, image);
        assert_eq!(names(&output), [""; 0]);
        assert!(output.events.contains(&Event::SnapshotRefused { last: meta.last }), "{:?}", output.events);
        offered(&mut bench, 1, 1, meta);
        assert_eq!(pulled_from(&mut bench).len(), 1, "again");
    }
}

#[test]
fn a_snapshot_of_another_cluster_or_of_another_moment_than_it_says_is_refused() {
    let (_, image, store) = made();
    let state = snapshot_file::verify(&image, None).unwrap().state();
    let cluster = node::transport::frame::cluster_id(CLUSTER);
    assert_eq!(store.last_applied(), 4);
    for (cluster_id, index, accepted) in [(cluster, 4, true), (cluster + 1, 4, false), (cluster, 5, false)] {
        let mut image = Vec::new();
        let members = membership(3).encode().into();
        let mut encoder = snapshot_file::Encoder::new(cluster_id, id(index, 1), 3, members, &mut image);
        encoder.push(&state, &mut image);
        let meta = encoder.finish(&mut image);
        let mut bench = follower();
        offered(&mut bench, 1, 1, &meta);
        bench.flush();
        assert_eq!(!names(&feed_image(&mut bench, &meta, &image)).is_empty(), accepted);
    }
}

#[test]
fn one_fetch_at_a_time_from_whoever_offers_it_until_it_stands_still() {
    let (meta, image, _) = made();
    let later = SnapshotMeta { last: id(9, 1), root: [9; 32], ..meta.clone() };
    let mut bench = follower();
    bench.now += 10_000 * MS;
    bench.peer(1, 1, &append(id(0, 0), 0, &[]));
    offered(&mut bench, 1, 1, &meta);
    bench.flush();
    let object = |meta: &SnapshotMeta| ObjectId::Snapshot { last: meta.last, root: meta.root };
    // A part of it arrives after a second: patience counts from there.
    bench.now += 1_000 * MS;
    let bytes = &image[..CHUNK_BYTES];
    let first =
        node::transport::object::Chunk { object: object(&meta), asked_at: bench.now, offset: 0, bytes };
    bench.chunk(Ok(1), &first);
    bench.now += 1_999 * MS;
    offered(&mut bench, 1, 1, &later);
    assert!(pulled_from(&mut bench).iter().all(|(_, of)| *of == object(&meta)), "it was heard of just now");
    bench.now += MS;
    offered(&mut bench, 1, 1, &later);
    assert_eq!(pulled_from(&mut bench), [(Destination::Node(1), object(&later))]);
    // The next leader has the same one: what is here is not fetched again, and it is asked at once.
    offered(&mut bench, 3, 2, &later);
    assert_eq!(pulled_from(&mut bench), [(Destination::Node(3), object(&later))]);
    offered(&mut bench, 3, 2, &later);
    assert!(pulled_from(&mut bench).is_empty(), "and is not asked twice");
    // More than can be held in memory is not begun.
    let mut bench = follower();
    offered(&mut bench, 1, 1, &SnapshotMeta { size: (8 << 30) + 1, ..meta.clone() });
    assert!(pulled_from(&mut bench).is_empty());
    offered(&mut bench, 1, 1, &SnapshotMeta { size: 8 << 30, ..meta });
    assert!(!pulled_from(&mut bench).is_empty());
}

#[test]
fn a_large_snapshot_is_fetched_in_windows() {
    let (mut leader, mut files) = (leader(4), Files::new());
    let session = leader.session(7);
    for (sequence, key) in [(2, "a"), (3, "b")] {
        let operation = Operation::Set { key: key.into(), value: vec![sequence as u8; 200_000] };
        upload(&mut leader, 7, sequence, RequestBody::Write { client_id: session, operation });
        let output = commit(&mut leader);
        files.work(&mut leader, output);
    }
    let (meta, image) = files.dir.load(id(4, 1)).unwrap();
    let mut bench = follower();
    offered(&mut bench, 1, 1, &meta);
    let left = bench.turn();
    let asked: u64 =
        left.pulls.iter().flat_map(|(_, request)| &request.ranges).map(|range| range.bytes).sum();
    assert_eq!(asked, 64 * CHUNK_BYTES as u64);
    let object = ObjectId::Snapshot { last: meta.last, root: meta.root };
    assert_eq!(
        feed(&mut bench, Ok(1), left, object, &image),
        image.len().div_ceil(CHUNK_BYTES),
        "each part once"
    );
}

#[test]
fn one_that_could_not_be_saved_is_fetched_again() {
    let (meta, image, _) = made();
    let mut bench = follower();
    offered(&mut bench, 1, 1, &meta);
    bench.flush();
    feed_image(&mut bench, &meta, &image);
    let failed = |last| SnapshotOutcome::Failed { last, reason: "no space".to_owned() };
    bench.replica.snapshot_outcome(bench.now, failed(id(3, 1)));
    offered(&mut bench, 1, 1, &meta);
    assert!(pulled_from(&mut bench).is_empty(), "that was another one");
    bench.replica.snapshot_outcome(bench.now, failed(meta.last));
    offered(&mut bench, 1, 1, &meta);
    assert!(!pulled_from(&mut bench).is_empty());
}

#[test]
fn an_own_snapshot_gives_way_to_one_that_was_fetched() {
    let (meta, image, _) = made();
    let mut config = replica_config(2, 3);
    config.snapshot_entries = 2;
    let mut bench = Bench::new(config, 1, &[]);
    offered(&mut bench, 1, 1, &meta);
    bench.flush();
    bench.peer(1, 1, &append(id(0, 0), 2, &[1, 1]));
    assert_eq!(names(&bench.flush())[0], "abort", "two entries are applied");
    assert!(names(&feed_image(&mut bench, &meta, &image)).contains(&"save 4@1".to_owned()));
    // While it waits to be saved, none of the own is begun.
    bench
        .replica
        .snapshot_outcome(bench.now, SnapshotOutcome::Durable(SnapshotMeta { size: 1, ..meta.clone() }));
    assert_eq!(bench.replica.store().last_applied(), 2, "that was not the one");
    bench.replica.snapshot_outcome(bench.now, SnapshotOutcome::Durable(meta.clone()));
    let output = bench.flush();
    assert_eq!((bench.replica.store().last_applied(), names(&output)), (4, vec!["abort".to_owned()]));
    // Counting begins anew: two more entries, and not one.
    bench.peer(1, 1, &append(id(4, 1), 5, &[1]));
    assert_eq!(names(&bench.flush()), [""; 0]);
    bench.peer(1, 1, &append(id(5, 1), 6, &[1]));
    assert_eq!(names(&bench.flush())[0], "abort");
}
