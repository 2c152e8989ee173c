//! Five production replicas, bytes in and bytes out, each on the real log and the real snapshot files over a disk in memory,
//! in virtual time from one seed. Links lose, repeat, delay and damage; processes end, stand still and keep bad time; disks
//! lose power, forget, rot, refuse and fill up; members come and go. After every turn of a process the properties of
//! `safety` hold; a quorum that is healed serves, though the rest stays broken; once all is healed everybody holds the same;
//! and what clients saw is linearizable.
#![allow(clippy::unwrap_used, reason = "clippy.toml excuses tests, but not the functions that they share")]

mod client;
mod fault;
mod history;
mod ledger;
mod machine;
mod network;
mod queue;
mod safety;
mod tally;
mod weather;
mod world;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tally::Tally;
use weather::Weather;
use world::World;

/// Seeds of the short version that runs with the tests. `SIM_SEEDS=10000 cargo test -p tests --release --test sim` runs the
/// long one, `SIM_SEEDS=17..18` a single seed.
const SEEDS: u64 = 100;

/// Says how to see a failure again, if there is one.
struct Seed<'a> {
    seed: u64,
    next: &'a AtomicU64,
}

impl Drop for Seed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.seed;
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
            eprintln!(
                "seed {seed} failed; replay: SIM_LOG=1 SIM_SEEDS={seed}..{} cargo test -p tests --release --test sim seeds -- --nocapture",
                seed + 1
            );
        }
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else { return 0..SEEDS };
    match text.split_once("..") {
        None => 0..text.parse().unwrap(),
        Some((first, end)) => first.parse().unwrap()..end.parse().unwrap(),
    }
}

/// One life: faults, a quorum, everybody.
fn live(seed: u64, next: &AtomicU64) -> Tally {
    let replay = Seed { seed, next };
    let mut world = World::of_seed(seed);
    if std::env::var_os("SIM_LOG").is_some() {
        println!("{:#?}", world.weather);
        world.speak();
    }
    world.run_for(world.weather.storm_ms);
    world.heal_a_quorum();
    world.heal_and_settle();
    drop(replay);
    world.tally
}

#[test]
fn seeds_are_safe_under_faults_and_serve_after_them() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let tally = live(seed, &next);
                    *total.lock().unwrap() += &tally;
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{} seeds\n{total}", seeds.end - seeds.start);
    // What was not exercised was not shown.
    if seeds.end - seeds.start >= SEEDS {
        for (what, count) in total.rows() {
            assert!(count > 0, "none of the seeds had {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let mut world = World::of_seed(seed);
        world.take_fingerprint();
        world.run_for(2_000);
        world.fingerprint().unwrap()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_calm_cluster_elects_once_and_keeps_its_leader() {
    let mut world = World::new(1, Weather::calm(5));
    world.run_for(10_000);
    world.heal_and_settle();
    assert_eq!(world.tally.elections, 1);
    assert!(world.tally.operations > 1_000, "{}", world.tally);
}
