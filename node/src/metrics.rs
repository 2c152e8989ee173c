//! A node's status as Prometheus text (exposition format 0.0.4): names with a unit at the end, counters that end in `_total`.
//! Who asks for it, and over what, is the server's business.

use std::fmt::Write as _;

use crate::client::Status;
use crate::storage::scrub::Scrubbed;

/// What the operating system says of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Bytes in memory.
    pub resident_bytes: u64,
    /// Processor time, s.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Upper bounds of the buckets of [`Latency`], ms, as in etcd's `wal_fsync_duration_seconds`.
const BUCKETS_MS: [u64; 14] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192];

/// How long something took, many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum_ns: u64,
}

impl Latency {
    /// Notes that it took `ns` once more.
    pub fn observe(&mut self, ns: u64) {
        if let Some(bucket) = BUCKETS_MS.iter().position(|bound| ns <= bound * 1_000_000) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum_ns += ns;
    }

    /// How often it was noted.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// Writes one metric after the other.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "counter", help);
        self.sample(name, value);
    }

    fn histogram(&mut self, name: &str, help: &str, latency: &Latency) {
        self.family(name, "histogram", help);
        let mut below = 0;
        for (bound, count) in BUCKETS_MS.iter().zip(latency.buckets) {
            below += count;
            self.sample(&format!("{name}_bucket{{le=\"{}\"}}", *bound as f64 / 1e3), below);
        }
        self.sample(&format!("{name}_bucket{{le=\"+Inf\"}}"), latency.count);
        self.sample(&format!("{name}_sum"), latency.sum_ns as f64 / 1e9);
        self.sample(&format!("{name}_count"), latency.count);
    }
}

/// The page that a Prometheus server reads.
pub fn render(status: &Status, process: Process, fsync: &Latency, scrubbed: Scrubbed) -> String {
    let mut page = Page(String::new());
    let leads = status.role == "leader";
    page.gauge("raft_term", "Current term.", status.term);
    page.gauge("raft_has_leader", "Whether this node knows a leader.", u8::from(status.leader.is_some()));
    page.gauge("raft_is_leader", "Whether this node leads.", u8::from(leads));
    page.gauge("raft_is_voter", "Whether this node may vote.", u8::from(status.may_vote));
    page.gauge("raft_commit_index", "Last committed entry that this node knows of.", status.commit_index);
    page.gauge("raft_applied_index", "Last entry that this node has applied.", status.last_applied);
    page.gauge("raft_first_index", "First entry of the log.", status.first_index);
    page.gauge("raft_last_index", "Last entry of the log.", status.last_index);
    page.gauge("raft_durable_index", "Last entry of the log that survives power loss.", status.durable_index);
    page.gauge("raft_snapshot_index", "Last entry of the newest snapshot.", status.snapshot_index);
    page.gauge("raft_log_bytes", "Bytes of the entries in the log.", status.log_bytes);
    page.gauge("raft_members", "Members of the cluster.", status.members.len());
    page.gauge("raft_joint", "Whether a change of voters is half done.", u8::from(status.joint));
    page.counter(
        "raft_lease_reads_total",
        "Reads answered without a round, under a lease.",
        status.lease_reads,
    );
    page.gauge("kv_keys", "Keys in the store.", status.keys);
    page.counter("node_starts_total", "How often this data directory was opened.", status.incarnation);
    if !status.peers.is_empty() {
        page.family("raft_peer_match_index", "gauge", "Last entry known to be durable on a peer.");
        for peer in &status.peers {
            page.sample(&format!("raft_peer_match_index{{peer=\"n{}\"}}", peer.id), peer.match_index);
        }
        page.family("raft_peer_heard_seconds", "gauge", "Seconds since a peer was last heard.");
        for peer in &status.peers {
            if let Some(ms) = peer.heard_ms_ago {
                page.sample(&format!("raft_peer_heard_seconds{{peer=\"n{}\"}}", peer.id), ms as f64 / 1e3);
            }
        }
    }
    page.family("network_dropped_datagrams_total", "counter", "Datagrams that were dropped, by reason.");
    for (reason, count) in &status.dropped {
        page.sample(&format!("network_dropped_datagrams_total{{reason=\"{reason}\"}}"), count);
    }
    page.histogram(
        "wal_fsync_duration_seconds",
        "How long a batch of records took to become durable.",
        fsync,
    );
    page.counter("scrub_files_total", "Files that were read again to find rot.", scrubbed.files);
    page.counter("scrub_damaged_files_total", "Files in which rot was found.", scrubbed.damaged);
    page.gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes);
    page.counter("process_cpu_seconds_total", "Processor time, user and system.", process.cpu_seconds);
    page.gauge("process_open_fds", "Open file descriptors.", process.open_fds);
    page.family("build_info", "gauge", "1, with the id of the build.");
    page.sample(&format!("build_info{{build_id=\"{}\"}}", status.build_id), 1);
    page.0
}

/// What the operating system says of this process now; zeros where it does not say.
pub fn process() -> Process {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: utime and stime are fields 14 and 15, in ticks; rss is field 24, in pages.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let system = |name| nix::unistd::sysconf(name).ok().flatten().unwrap_or(1).max(1) as u64;
    let ticks = system(nix::unistd::SysconfVar::CLK_TCK);
    Process {
        resident_bytes: field(24) * system(nix::unistd::SysconfVar::PAGE_SIZE),
        cpu_seconds: (field(14) + field(15)) as f64 / ticks as f64,
        open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::client::PeerStatus;

    fn status() -> Status {
        let peer = PeerStatus {
            id: 2,
            match_index: 40,
            next_index: 41,
            state: "replicate".to_owned(),
            heard_ms_ago: Some(1_500),
        };
        Status {
            id: 1,
            role: "leader".to_owned(),
            term: 3,
            leader: Some(1),
            commit_index: 42,
            last_applied: 42,
            first_index: 1,
            last_index: 43,
            durable_index: 42,
            incarnation: 5,
            keys: 7,
            snapshot_index: 30,
            log_bytes: 900,
            members: Vec::new(),
            joint: false,
            membership_index: 2,
            may_vote: true,
            lease_reads: 8,
            build_id: "abc".to_owned(),
            dropped: [("checksum".to_owned(), 9)].into(),
            peers: vec![peer],
        }
    }

    #[test]
    fn every_sample_has_a_family_before_it_and_a_number_behind_it() {
        let mut fsync = Latency::default();
        [500_000, 3_000_000, 9_000_000_000].iter().for_each(|ns| fsync.observe(*ns));
        let page = render(&status(), process(), &fsync, Scrubbed { files: 9, damaged: 1 });
        let mut families: BTreeSet<&str> = BTreeSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(rest.split(' ').next().unwrap()), "{line}: twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.split('{').next().unwrap();
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(families.contains(name) || family.is_some_and(|f| families.contains(f)), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        for sample in [
            "raft_commit_index 42",
            "raft_is_leader 1",
            "raft_peer_match_index{peer=\"n2\"} 40",
            "raft_peer_heard_seconds{peer=\"n2\"} 1.5",
            "network_dropped_datagrams_total{reason=\"checksum\"} 9",
            "wal_fsync_duration_seconds_bucket{le=\"0.001\"} 1",
            "wal_fsync_duration_seconds_bucket{le=\"0.004\"} 2",
            "wal_fsync_duration_seconds_bucket{le=\"8.192\"} 2",
            "wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 3",
            "wal_fsync_duration_seconds_count 3",
        ] {
            assert!(page.lines().any(|line| line == sample), "no {sample} in\n{page}");
        }
    }

    #[test]
    fn the_process_is_looked_up() {
        let process = process();
        assert!(process.resident_bytes > 100_000 && process.open_fds >= 3, "{process:?}");
    }
}
