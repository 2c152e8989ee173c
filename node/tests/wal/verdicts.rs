//! What recovery says of damaged directories, written down: `verdicts.txt` has a line for each damage to each of some logs. What it
//! says is never more than is true: the same directories are opened, and compared with what was written. `BLESS=1 cargo test -p node
//! --test wal` writes the file anew; read the difference before you commit it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use node::raft::types::{HardState, Lsn, Record};
use node::storage::recovery::{self, Replay};
use node::storage::segment::HEADER_BYTES;

use crate::world::{IDENTITY, World, dir, entry, founding, id, mark, script, segment_path};

fn vote(term: u64) -> Record {
    Record::HardState(HardState { term, voted_for: Some(2) })
}

fn restriction(last: u64) -> Record {
    let restriction =
        node::raft::types::Recovering { last: id(1, last), last_known: true, vote_known: false };
    Record::Recovering(Some(restriction))
}

/// Logs of all kinds, each batch proven by the next.
fn logs() -> Vec<(&'static str, Vec<Vec<Record>>)> {
    vec![
        (
            "votes and entries",
            vec![
                vec![vote(1), entry(1, 1, 10)],
                vec![entry(1, 2, 10)],
                vec![vote(2)],
                vec![entry(2, 3, 10), entry(2, 4, 0)],
                vec![entry(2, 5, 10)],
            ],
        ),
        (
            "truncations",
            vec![
                vec![vote(1), entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 10)],
                vec![Record::Truncate { last_index: 1 }, entry(2, 2, 10)],
                vec![entry(2, 3, 0), Record::Truncate { last_index: 3 }],
                vec![Record::Truncate { last_index: 2 }],
            ],
        ),
        (
            "segments",
            vec![
                vec![vote(1), entry(1, 1, 600), entry(1, 2, 600)],
                vec![vote(2), entry(2, 3, 900), restriction(9)],
                vec![Record::Truncate { last_index: 2 }, entry(3, 3, 1500)],
                vec![entry(3, 4, 0), Record::Recovering(None)],
                vec![vote(4), entry(4, 5, 1500)],
            ],
        ),
        (
            "snapshots",
            vec![
                vec![vote(1), entry(1, 1, 0), entry(1, 2, 0)],
                vec![entry(1, 3, 0), Record::Snapshot(mark(id(0, 0), id(0, 0)))],
                vec![Record::Snapshot(mark(id(1, 2), id(1, 1)))],
                vec![entry(1, 4, 0)],
                vec![Record::Snapshot(mark(id(1, 3), id(1, 3)))],
                vec![entry(1, 5, 0)],
            ],
        ),
        (
            "marks of no snapshot",
            vec![
                vec![vote(1), Record::Snapshot(founding(1))],
                vec![Record::Snapshot(founding(2)), entry(1, 1, 0)],
                vec![entry(1, 2, 0), vote(2)],
            ],
        ),
        (
            "a leader's snapshot",
            vec![
                vec![vote(1), entry(1, 1, 0), entry(1, 2, 0)],
                vec![Record::Snapshot(mark(id(3, 9), id(3, 9)))],
                vec![entry(3, 10, 0), entry(3, 11, 0)],
                vec![Record::Truncate { last_index: 10 }],
            ],
        ),
        (
            "votes at the end",
            vec![
                vec![vote(1), entry(1, 1, 0), entry(1, 2, 0), entry(1, 3, 0)],
                vec![Record::Truncate { last_index: 2 }],
                vec![entry(2, 3, 10)],
                vec![vote(3)],
            ],
        ),
        ("all of it", script()),
    ]
}

type Damage<'a> = (String, Box<dyn Fn(&World) + 'a>);

/// Every record, every two and three that follow each other, every segment, and bytes that nobody wrote.
fn damages(world: &World) -> Vec<Damage<'static>> {
    let mut damages: Vec<Damage<'static>> = vec![("nothing".to_owned(), Box::new(|_| {}))];
    let lsns: Vec<Lsn> = world.positions().iter().map(|(_, _, lsn)| *lsn).collect();
    for (at, lsn) in lsns.iter().enumerate() {
        for run in 1..=3.min(lsns.len() - at) {
            let spoilt = lsns[at..at + run].to_vec();
            damages.push((format!("headers {spoilt:?}"), Box::new(move |world| flip(world, &spoilt, 20))));
        }
        if world.record(*lsn).2 > 48 {
            let lsn = *lsn;
            damages.push((format!("payload {lsn}"), Box::new(move |world| flip(world, &[lsn], 48))));
        }
    }
    for file in world.segments() {
        let (sequence, len) = (file.sequence, file.bytes.len());
        damages.push((
            format!("no segment {sequence}"),
            Box::new(move |world| node::storage::Disk::unlink(&world.disk, &segment_path(sequence)).unwrap()),
        ));
        let spoil = move |at: usize| move |world: &World| world.tamper(sequence, |bytes| bytes[at] ^= 1);
        damages.push((format!("header of segment {sequence}"), Box::new(spoil(20))));
        damages.push((format!("checkpoint of segment {sequence}"), Box::new(spoil(HEADER_BYTES + 20))));
        damages.push((format!("payload of checkpoint {sequence}"), Box::new(spoil(HEADER_BYTES + 50))));
        damages.push((format!("a byte behind segment {sequence}"), Box::new(spoil(len - 1))));
        damages.push((
            format!("half a header of segment {sequence}"),
            Box::new(move |world| world.tamper(sequence, |bytes| bytes.truncate(HEADER_BYTES / 2))),
        ));
        damages.push((
            format!("nothing behind the header of segment {sequence}"),
            Box::new(move |world| world.tamper(sequence, |bytes| bytes[HEADER_BYTES..].fill(0))),
        ));
    }
    damages
}

fn flip(world: &World, lsns: &[Lsn], at: usize) {
    let records: Vec<_> = lsns.iter().map(|lsn| world.record(*lsn)).collect();
    for (sequence, offset, _) in records {
        world.tamper(sequence, |bytes| bytes[offset + at] ^= 1);
    }
}

/// Everything that recovery says, in one line; what it says for people only if they are `told`.
fn verdict(replay: Replay, told: bool) -> String {
    let mut line = String::new();
    let slots = replay.slots.clone();
    let known = |known: bool| if known { "" } else { "?" };
    let HardState { term, voted_for } = replay.hard_state;
    write!(line, "log {}:", slots.base()).unwrap();
    for index in slots.base().index + 1..=slots.last_index().min(slots.base().index + 50) {
        match slots.id(index) {
            Some(id) => write!(line, " {id}").unwrap(),
            None => write!(line, " -").unwrap(),
        }
    }
    let fault = slots.first_fault().map(|(index, _)| index).unwrap_or_default();
    write!(line, " fault {fault}, {} read", slots.into_entries().len()).unwrap();
    write!(line, ", last {}{}", replay.last, known(replay.last_known)).unwrap();
    write!(line, ", term {term} vote {}{}", voted_for.unwrap_or_default(), known(replay.vote_known)).unwrap();
    write!(line, ", lsn {}, boot {}", replay.last_lsn, replay.incarnation).unwrap();
    if let Some(mark) = &replay.mark {
        write!(line, ", mark {} {}", mark.last, mark.base).unwrap();
    }
    if let Some(recovering) = &replay.recovering {
        write!(line, ", restricted {}", recovering.last).unwrap();
    }
    match replay.tail {
        Some(tail) => {
            let torn = if tail.torn { " torn" } else { "" };
            write!(line, ", tail {} {} {}{torn}", tail.header.sequence, tail.unproven, tail.end).unwrap();
        }
        None => line += ", no tail",
    }
    let extents: Vec<_> =
        replay.extents.iter().map(|extent| format!("{}:{}", extent.sequence, extent.max_index)).collect();
    write!(line, ", segments {}", extents.join(" ")).unwrap();
    if replay.marked {
        line += ", marked";
    }
    if let Some(damage) = &replay.damage {
        write!(line, ", refused: {damage}").unwrap();
    }
    let (notes, faults) = (&replay.notes, &replay.faults);
    if told {
        notes.iter().for_each(|note| write!(line, "\n      note {note}").unwrap());
        faults.iter().for_each(|fault| write!(line, "\n      fault {fault}").unwrap());
    } else {
        write!(line, ", {} notes, {} faults", notes.len(), faults.len()).unwrap();
    }
    line
}

fn verdicts() -> String {
    let mut text = String::new();
    for (name, batches) in logs() {
        writeln!(text, "{name}").unwrap();
        let whole = World::written(&batches);
        let positions = whole.positions();
        let middle = positions[positions.len() / 2].2;
        for (damage, spoil) in damages(&whole) {
            for (superblock, lsn) in [("", None), (", old superblock", Some(middle))] {
                let mut world = World::written(&batches);
                spoil(&world);
                lsn.into_iter().for_each(|lsn| world.age_superblock(lsn));
                let files = recovery::read(&world.disk, dir()).unwrap();
                let replay = recovery::replay(&files, Some(&IDENTITY));
                let refused = replay.damage.is_some();
                let told = match lsn {
                    None => !damage.starts_with("headers") || damage.len() < 12,
                    Some(_) => damage.starts_with("a byte behind"),
                };
                writeln!(text, "  {damage}{superblock}\n    {}", verdict(replay, told)).unwrap();
                // Whoever forgot what was durable without a trace of it may pass for sound: that is what the superblock is for.
                if !refused && lsn.is_none() {
                    world.open_damaged().unwrap_or_else(|error| panic!("{name}, {damage}: {error}"));
                    world.disk.kill();
                    let again = recovery::read(&world.disk, dir()).unwrap();
                    let again = verdict(recovery::replay(&again, Some(&IDENTITY)), false);
                    writeln!(text, "    again {again}").unwrap();
                }
            }
        }
    }
    text
}

#[test]
fn damaged_directories_mean_what_is_written_of_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wal/verdicts.txt");
    let happened = verdicts();
    if std::env::var_os("BLESS").is_some() {
        return fs::write(&path, &happened).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap();
    let at = happened.lines().zip(golden.lines()).position(|(now, then)| now != then);
    let shown = at.map(|at| {
        [&happened, &golden].map(|text| text.lines().skip(at.max(1) - 1).take(2).collect::<Vec<_>>())
    });
    assert!(happened == golden, "line {at:?} of {}: {shown:#?}", path.display());
}
