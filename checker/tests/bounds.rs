//! The bound on memory, held against what is allocated, byte by byte: luck and the machine have no say in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its stage has to stop")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use checker::bench::{self, Shape};
use checker::{Options, Report, Verdict, check};

/// Counts what is allocated, and the most that ever was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: everything is the system's; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Relaxed);
        took(size);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: u64 = 1 << 20;

/// Judges a history within these bytes, and tells how many there were at most.
fn judged(path: &Path, memory: u64, time: Duration) -> (Report, u64) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let report = check(path, &Options { memory, time, steps: u64::MAX, ..Options::default() }).unwrap();
    (report, (PEAK.load(Relaxed) - before) as u64)
}

fn reasons(report: &Report) -> String {
    report.checks.values().filter_map(|check| check.reason.clone()).collect::<Vec<_>>().join("; ")
}

/// Adds that are all open at once, each with a sum of its own, and a read of a sum that no choice of them gives.
fn sums(keys: u64) -> String {
    let mut text = r#"{"format":"whitewater-history","version":"1.0","workload":"sums","models":{"":"counter"},"clock":"monotonic-ns","nodes":["n1"]}"#.to_owned() + "\n";
    let mut index = 0;
    let mut line = |time: u64, process: u64, kind: &str, f: &str, key: u64, value: String| {
        writeln!(text, r#"{{"index":{index},"time":{time},"process":{process},"type":"{kind}","f":"{f}","key":"c{key}","value":{value}}}"#).unwrap();
        index += 1;
    };
    let amount = |add: u64| (1u64 << add).to_string();
    for key in 0..keys {
        let process = |n: u64| 100 * key + n;
        for add in 0..40 {
            line(1, process(add), "invoke", "add", key, amount(add));
        }
        line(2, process(40), "invoke", "read", key, "null".into());
        line(3, process(40), "ok", "read", key, "-1".into());
        for add in 0..40 {
            let kind = if add % 2 == 0 { "ok" } else { "info" };
            line(4, process(add), kind, "add", key, amount(add));
        }
    }
    text
}

/// One test, because others in the same process would be counted with it.
#[test]
fn what_is_allocated_stays_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let ample = Duration::from_secs(3600);
    let within = |memory: u64, what: &str| {
        let (report, peak) = judged(&path, memory, ample);
        assert!(peak <= memory + memory / 20, "{what}: {peak} bytes of {memory}");
        assert!(peak >= memory / 8, "{what}: {peak} bytes of {memory} show nothing");
        assert_eq!(report.verdict, Verdict::Unknown, "{what}");
        reasons(&report)
    };
    for keys in [1, 5] {
        fs::write(&path, sums(keys)).unwrap();
        let told = within(48 * MIB, "searches");
        assert!(told.contains("key c0: the search came as far as"), "{told}");
        assert!(told.contains("the memory of its budget had run out after"), "{told}");
        assert!(told.contains("with 20 indeterminate operations open"), "{told}");
    }
    for (keys, unknown, values) in [(1, 0.5, 5), (300, 0.05, 0)] {
        let shape =
            Shape { operations: 60_000, keys, clients: 100, unknown, values, lost_write: false, drain: 0 };
        bench::write(&path, &shape, 1).unwrap();
        let told = within(8 * MIB, "reading");
        assert!(told.contains("the memory of the budget ended the reading in line"), "{told}");
        let (report, _) = judged(&path, 64 * MIB, Duration::ZERO);
        let told = reasons(&report);
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(told.contains("the time of the budget ended the reading in line 2,"), "{told}");
    }
}
