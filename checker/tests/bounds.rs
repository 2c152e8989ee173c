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

/// Registers, lists and texts of others: operations one after the other, in every way to write them.
fn foreign() -> Vec<(&'static str, String)> {
    let pairs = |count: u64, line: &dyn Fn(u64, &str) -> String| -> String {
        (0..count).map(|n| line(n, "invoke") + &line(n, "ok")).collect()
    };
    let edn = |n: u64, kind: &str| {
        format!("{{:index {n}, :time {n}00000, :process {}, :type :{kind}, :f :write, :value {n}}}\n", n % 5)
    };
    let terse = |n: u64, kind: &str| format!("{{:process 1 :type :{kind} :f :write :value {n}}}");
    let keyed = |n: u64, kind: &str| {
        format!("{{:process {}, :type :{kind}, :f :write, :value [{} {n}]}}\n", n % 5, n % 1000)
    };
    let json = |n: u64, kind: &str| {
        format!("{{\"process\":{},\"type\":\"{kind}\",\"f\":\"write\",\"value\":{n}}}\n", n % 5)
    };
    let put = |n: u64, kind: &str| {
        format!("{{:process {}, :type :{kind}, :f :put, :key \"{}\", :value \"x {n} y\"}}\n", n % 5, n % 9)
    };
    let log = |n: u64, kind: &str| format!("INFO  jepsen.util - {}\t:{kind}\t:write\t{n}\n", n % 5);
    let short = |n: u64, kind: &str| format!("{} :{kind} :write {n}\n", n % 5);
    let lists = |n: u64, kind: &str| match (n % 10, kind) {
        (0, "ok") => {
            let held = (0..n).filter(|n| n % 10 > 0).map(|n| format!(" {n}")).collect::<String>();
            format!("{{:process 0 :type :ok :f :txn :value [[:r x [{held}]]]}}\n")
        }
        (0, _) => format!("{{:process 0 :type :{kind} :f :txn :value [[:r x nil]]}}\n"),
        _ => format!("{{:process 0 :type :{kind} :f :txn :value [[:append x {n}]]}}\n"),
    };
    let etcd = |n: u64| {
        format!(
            r#"{{"ClientId":1,"Input":{{"Type":"txn","Txn":{{"Conditions":null,"OperationsOnSuccess":[{{"Type":"put-operation","Put":{{"Key":"k{}","Value":{{"Value":"{n}"}}}}}}],"OperationsOnFailure":null}}}},"Call":{},"Output":{{"Txn":{{"Failure":false,"Results":[{{}}]}},"Revision":{}}},"Return":{}}}"#,
            n % 9,
            10 * n,
            n + 2,
            10 * n + 5
        ) + "\n"
    };
    vec![
        ("history.edn", format!("[{}]", pairs(4000, &edn))),
        ("terse.edn", pairs(4000, &terse)),
        ("keyed.edn", pairs(4000, &keyed)),
        ("history.json", pairs(4000, &json)),
        ("kv.txt", pairs(4000, &put)),
        ("jepsen.log", pairs(4000, &log)),
        ("history.txt", pairs(4000, &short)),
        ("lists.edn", pairs(700, &lists)),
        ("operations.json", (0..3000).map(etcd).collect()),
    ]
}

/// The files of others are understood as a whole: with the least memory that is enough for that, no more is allocated, and with less
/// nothing is said.
fn foreign_files_stay_within_the_budget(dir: &Path) {
    let ample = Duration::from_secs(3600);
    for (name, text) in foreign() {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        let unread = |memory: u64| {
            let (report, peak) = judged(&path, memory, ample);
            assert!(peak <= memory + memory / 20, "{name}: {peak} bytes of {memory}");
            let told = reasons(&report);
            let unread = told.contains("the memory of the budget ended the reading of");
            assert!(!unread || (report.verdict == Verdict::Unknown && told.contains(name)), "{name}: {told}");
            (unread, report, peak)
        };
        let (mut less, mut enough) = (3 * MIB, 256 * MIB);
        assert!(unread(less).0, "{name} is read in {less} bytes");
        while enough - less > MIB / 8 {
            let middle = less.midpoint(enough);
            if unread(middle).0 { less = middle } else { enough = middle }
        }
        let (_, _, peak) = unread(enough);
        assert!(peak >= enough / 8, "{name}: {peak} bytes of {enough} show nothing");
        println!("{name}: {peak} bytes of {enough}");
        let (_, report, _) = unread(256 * MIB);
        let keys = &report.keys;
        assert!(keys.valid > 0 && keys.total() == keys.valid, "{name}: {}", report.render());
        let (report, _) = judged(&path, 256 * MIB, Duration::ZERO);
        let told = reasons(&report);
        assert!(told.contains("the time of the budget ended the reading of"), "{name}: {told}");
    }
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
        let shape = Shape {
            operations: 60_000,
            keys,
            clients: 100,
            unknown,
            values,
            lost_write: false,
            drain: 0,
            transactions: None,
        };
        bench::write(&path, &shape, 1).unwrap();
        let told = within(8 * MIB, "reading");
        assert!(told.contains("the memory of the budget ended the reading in line"), "{told}");
        let (report, _) = judged(&path, 64 * MIB, Duration::ZERO);
        let told = reasons(&report);
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(told.contains("the time of the budget ended the reading in line 2,"), "{told}");
    }
    foreign_files_stay_within_the_budget(dir.path());
}
