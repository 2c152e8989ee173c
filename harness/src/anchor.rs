//! Moments that a fault waits for, "2 ms after n3 becomes leader": what they are, and seeing one in what nodes still write.
//! Which faults have an anchor is the schedule's decision, striking on time the nemesis' work.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::NodeId;
use crate::run_dir::{RunDir, node_name};
use crate::system::{System, ToldMoment};
use crate::tail::Tail;
use crate::target::Target;

/// How long a fault waits for its moment unless the run ends before, milliseconds: two elections of a cluster that is being hurt.
const WITHIN_MS_MAX: u64 = 3_000;
/// Less is no wait.
const WITHIN_MS_MIN: u64 = 250;
/// A node whose clock is bent stamps its lines with anything: what is further from now than this is counted from when it was seen.
const STAMP_NS_MAX: u64 = 1_000_000_000;

/// What a node does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// It wins an election.
    Leader,
    /// It grants a vote.
    Vote,
    /// It was asked for a write that is not answered yet.
    Write,
}

impl Moment {
    /// Every moment, in the order of tables.
    pub const ALL: [Moment; 3] = [Moment::Leader, Moment::Vote, Moment::Write];

    /// The name on the command line and in schedules.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Leader => "leader",
            Moment::Vote => "vote",
            Moment::Write => "write",
        }
    }

    /// What it is, in one line.
    pub fn summary(self) -> &'static str {
        match self {
            Moment::Leader => "a node became leader, by its trace or what it printed",
            Moment::Vote => "a node granted a vote, by its trace",
            Moment::Write => "a client asked the leader for a write, and is not answered yet",
        }
    }

    /// Whether it is nodes that tell of it.
    pub fn is_told(self) -> bool {
        self != Moment::Write
    }
}

impl std::str::FromStr for Moment {
    type Err = String;

    fn from_str(name: &str) -> Result<Moment, String> {
        Moment::ALL.into_iter().find(|moment| moment.name() == name).ok_or_else(|| {
            let known = Moment::ALL.map(Moment::name).join(", ");
            format!("there is no moment {name:?}; there are {known}, none")
        })
    }
}

/// The moment that a fault waits for from its planned time on. It strikes the node whose moment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The moment.
    pub after: Moment,
    /// How long after it the node is struck, microseconds.
    pub offset_us: u64,
    /// How long the moment is waited for, milliseconds; after that the fault is skipped.
    pub within_ms: u64,
}

impl Anchor {
    /// Draws one for a fault that has `spare_ms` to come late; none if that is too short. One in three has none in any case: faults
    /// that wait for an election need others that cause one.
    pub(crate) fn draw(rng: &mut ChaCha8Rng, moments: &[Moment], spare_ms: u64) -> Option<Anchor> {
        if moments.is_empty() {
            return None;
        }
        let after = moments[rng.random_range(0..moments.len())];
        let (anchored, soon) = (rng.random_ratio(2, 3), rng.random_ratio(1, 2));
        // A write is answered within a few milliseconds; what an election leaves to do takes some more.
        let offset_us = rng.random_range(0..=if soon || after == Moment::Write { 2_000 } else { 50_000 });
        let within_ms = spare_ms.min(WITHIN_MS_MAX);
        (anchored && within_ms >= WITHIN_MS_MIN).then_some(Anchor { after, offset_us, within_ms })
    }

    /// Whom a fault with it is aimed at.
    pub(crate) fn target(&self) -> Target {
        if self.after == Moment::Write { Target::Leader } else { Target::One }
    }
}

/// A write that a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The node that was asked first, as histories name it.
    pub node: String,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub since: u64,
}

/// A moment that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What it was.
    pub moment: Moment,
    /// Of which node.
    pub node: NodeId,
    /// Its term, where the node tells.
    pub term: Option<u64>,
    /// As the node, or the client, stamped it: nanoseconds of CLOCK_MONOTONIC; when it was seen if nobody did.
    pub at: u64,
    /// When it was seen, the same.
    pub seen: u64,
}

impl Sighting {
    /// From when on to count: the stamp, unless the clock of the node was bent.
    pub fn from(&self) -> u64 {
        if self.seen.abs_diff(self.at) <= STAMP_NS_MAX && self.at <= self.seen { self.at } else { self.seen }
    }

    /// What the history says of a fault that struck at `struck`.
    pub(crate) fn to_json(self, anchor: &Anchor, struck: u64) -> Value {
        let us = |ns: u64| ns.saturating_sub(self.from()) / 1_000;
        json!({
            "after": anchor.after.name(),
            "node": node_name(self.node),
            "term": self.term,
            "at_ns": self.at,
            "requested_us": anchor.offset_us,
            "seen_us": us(self.seen),
            "actual_us": us(struck),
        })
    }
}

/// Looks out for one moment of any node.
#[derive(Debug)]
pub(crate) struct Lookout {
    anchor: Anchor,
    tails: Vec<(NodeId, Tail)>,
}

impl Lookout {
    /// From now on, at nodes 1 to `nodes`.
    pub(crate) fn new(anchor: Anchor, system: &dyn System, dir: &RunDir, nodes: NodeId) -> Lookout {
        let nodes = if anchor.after.is_told() { nodes } else { 0 };
        let of =
            |node| system.moment_files(dir, node).into_iter().map(move |path| (node, Tail::at_end(path)));
        Lookout { anchor, tails: (1..=nodes).flat_map(of).collect() }
    }

    /// What there is to see `now`, in no order; nothing twice that nodes tell of.
    pub(crate) fn look(&mut self, system: &dyn System, in_flight: &[InFlight], now: u64) -> Vec<Sighting> {
        let Anchor { after, offset_us, .. } = self.anchor;
        if !after.is_told() {
            // One that is open for so long: a shorter one is not in flight any more when it is struck.
            let old = |write: &&InFlight| now.saturating_sub(write.since) >= offset_us * 1_000;
            let node = |write: &InFlight| write.node.strip_prefix('n')?.parse().ok();
            let seen = |write| {
                Some(Sighting { moment: after, node: node(write)?, term: None, at: write.since, seen: now })
            };
            return in_flight.iter().filter(old).filter_map(seen).collect();
        }
        let lines = self.tails.iter_mut().flat_map(|(node, tail)| {
            let node = *node;
            tail.lines().into_iter().map(move |(_, line)| (node, line))
        });
        let seen = lines.filter_map(|(node, line)| {
            let ToldMoment { moment, at, term } = system.moment(&line)?;
            Some(Sighting { moment, node, term, at: at.unwrap_or(now), seen: now })
        });
        seen.filter(|sighting| sighting.moment == after).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::spec::Spec;
    use crate::system::whitewater::Whitewater;
    use std::io::Write;
    use std::path::PathBuf;

    fn anchor(after: Moment, offset_us: u64) -> Anchor {
        Anchor { after, offset_us, within_ms: 1_000 }
    }

    fn ours() -> Whitewater {
        Whitewater::of(&Spec::default(), PathBuf::from("node"))
    }

    fn look(lookout: &mut Lookout, in_flight: &[InFlight], now: u64) -> Vec<(NodeId, Option<u64>, u64)> {
        let seen = lookout.look(&ours(), in_flight, now);
        seen.into_iter().map(|sighting| (sighting.node, sighting.term, sighting.at)).collect()
    }

    #[test]
    fn what_a_node_writes_from_now_on_is_seen_once_and_a_line_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::open(dir.path());
        let write = |node, text: &str| {
            let path = run_dir.node_trace(node);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let role = |at, role: &str, term| {
            format!("{{\"at\":{at},\"event\":\"role\",\"role\":\"{role}\",\"term\":{term}}}\n")
        };
        write(1, &role(5, "leader", 2));
        let mut lookout = Lookout::new(anchor(Moment::Leader, 0), &ours(), &run_dir, 2);
        assert_eq!(look(&mut lookout, &[], 9), [], "that was before");
        let line = role(10, "leader", 3);
        write(1, &line[..20]);
        assert_eq!(look(&mut lookout, &[], 11), [], "half a line");
        write(1, &line[20..]);
        write(2, &(role(12, "candidate", 4) + "{\"at\":13,\"event\":\"vote_sent\",\"to\":1,\"term\":4}\n"));
        assert_eq!(look(&mut lookout, &[], 14), [(1, Some(3), 10)], "a candidate leads nothing");
        assert_eq!(look(&mut lookout, &[], 15), []);
        let mut lookout = Lookout::new(anchor(Moment::Vote, 0), &ours(), &run_dir, 2);
        write(2, "{\"at\":16,\"event\":\"vote_sent\",\"to\":1,\"term\":5}\n");
        write(2, &role(17, "leader", 6));
        assert_eq!(look(&mut lookout, &[], 18), [(2, Some(5), 16)]);
    }

    #[test]
    fn a_write_is_seen_while_it_is_open_for_as_long_as_the_offset() {
        let dir = tempfile::tempdir().unwrap();
        let mut lookout = Lookout::new(anchor(Moment::Write, 2), &ours(), &RunDir::open(dir.path()), 3);
        let write = |node: &str, since| InFlight { node: node.to_owned(), since };
        let open = [write("n2", 1_000), write("n3", 1_001)];
        assert_eq!(look(&mut lookout, &open, 3_000), [(2, None, 1_000)]);
        assert_eq!(look(&mut lookout, &[], 4_000), []);
    }

    #[test]
    fn the_stamp_of_a_bent_clock_is_not_believed() {
        let mut sighting =
            Sighting { moment: Moment::Leader, node: 1, term: Some(2), at: 5_000, seen: 9_000 };
        let told = sighting.to_json(&anchor(Moment::Leader, 7), 14_000);
        assert_eq!((&told["seen_us"], &told["actual_us"]), (&json!(4), &json!(9)), "{told}");
        assert_eq!((&told["requested_us"], &told["node"]), (&json!(7), &json!("n1")), "{told}");
        sighting.at = 9_001;
        assert_eq!(sighting.from(), 9_000, "later than it was seen");
        (sighting.at, sighting.seen) = (5, 6 + STAMP_NS_MAX);
        assert_eq!(sighting.from(), sighting.seen);
    }

    #[test]
    fn two_of_three_faults_that_may_wait_do() {
        let mut rng = stream(1, Purpose::Anchor, 0);
        let drawn: Vec<_> = (0..300).filter_map(|_| Anchor::draw(&mut rng, &Moment::ALL, 9_000)).collect();
        assert!((150..250).contains(&drawn.len()), "{}", drawn.len());
        for moment in Moment::ALL {
            assert!(drawn.iter().any(|anchor| anchor.after == moment));
        }
        assert!(drawn.iter().all(|anchor| anchor.within_ms == WITHIN_MS_MAX && anchor.offset_us <= 50_000));
        assert!((0..100).all(|_| Anchor::draw(&mut rng, &Moment::ALL, WITHIN_MS_MIN - 1).is_none()));
        assert_eq!(Anchor::draw(&mut rng, &[], 9_000), None);
    }
}
