//! The leader loses its links, and whoever leads next loses them as soon as it has acknowledged a write, again and again, at the pace of
//! the system's own elections: who led before comes back at that moment, with what only it has, and with what it said late.
//! Dropping and counting is done by [`crate::net`]; what clients were told, and how the traffic flows, shows that another leads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Behaviour, Described, Drawn, Fault, Needs, SteppedFault, on_links_of};
use crate::NodeId;
use crate::errand::{Conclusion, Errand, names};
use crate::host::monotonic_ns;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule, Traffic};
use crate::target::Target;

/// How long another leader is waited for: other faults, or a cut that deposes nobody, may let none come.
const NEXT_WITHIN: Duration = Duration::from_secs(6);
/// Cuts that are drawn; they come in turn.
const CUTS: usize = 4;
/// Clusters of so many nodes have a majority without two.
const COMPANY_NODES: u32 = 5;

/// What links had carried.
type Carried = BTreeMap<Link, LinkCounters>;

/// What becomes of what is sent over a link that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// It is lost.
    Lost,
    /// It is kept until the cut moves on, and comes when another leads.
    Kept,
    /// It is late by so many milliseconds to twice as many.
    Late(u32),
}

/// What is done to the links of one leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Which of them.
    pub direction: Direction,
    /// What becomes of what is sent over them.
    pub way: Way,
    /// Whether the node of the next number is cut off with it, if the others are a majority.
    pub company: bool,
    /// How long the next leader may lead from its first acknowledgement on, milliseconds.
    pub reign_ms: u32,
    /// If another has led before, that one is not waited for, but so many percent of the time that it took until then: the next may have
    /// been elected, and told nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_percent: Option<u32>,
}

impl Cut {
    fn rules(&self, leader: NodeId, nodes: u32) -> Vec<(Link, Rule)> {
        let rule = match self.way {
            Way::Lost => Rule::Drop,
            Way::Kept => Rule::Keep,
            Way::Late(ms) => Rule::Delay { delay_ms: ms, jitter_ms: ms },
        };
        let company = (self.company && nodes >= COMPANY_NODES).then_some(leader % nodes + 1);
        let victims: Vec<NodeId> = std::iter::once(leader).chain(company).collect();
        on_links_of(&victims, nodes, self.direction, rule)
    }

    fn draw(rng: &mut ChaCha8Rng) -> Cut {
        let direction = match rng.random_range(0..8) {
            0 => Direction::In,
            1..3 => Direction::Out,
            _ => Direction::Both,
        };
        let way = match (rng.random_range(0..10), rng.random_range(300..=2_000)) {
            (0..4, _) => Way::Lost,
            (4..8, _) => Way::Kept,
            (_, ms) => Way::Late(ms),
        };
        let company = rng.random_ratio(2, 3);
        // At once, while followers are not told of what is committed; or when some more is.
        let (soon, ms) = (rng.random_ratio(1, 2), rng.random_range(0..=600));
        let (early, percent) = (rng.random_ratio(1, 3), rng.random_range(40..=120));
        let reign_ms = if soon { ms / 20 } else { ms };
        Cut { direction, way, company, reign_ms, early_percent: early.then_some(percent) }
    }
}

/// Deposes one leader after the other; heals by letting all links be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Depose {
    /// What is done to each in turn, from the first again after the last.
    pub cuts: Vec<Cut>,
}

impl Behaviour for Depose {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        let first = self.cuts.first().zip(victims.first());
        first.map(|(cut, leader)| cut.rules(*leader, nodes)).unwrap_or_default()
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        super::partition::is_cut(counters, seen)
    }

    fn steps(&self) -> Option<&dyn SteppedFault> {
        Some(self)
    }
}

impl Described for Depose {
    const SUMMARY: &'static str = "cuts off the leader, or keeps what it says, or makes it late by 0.3-4 s, then whoever leads next as soon as that one acknowledged a write or before, again and again; evidence: datagrams lost or kept, or streams kept, or what was put aside or came late";
    const NEEDS: Needs = Needs::Links;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let mut cuts: Vec<Cut> = (0..CUTS).map(|_| Cut::draw(rng)).collect();
        if dealt {
            (cuts[0].direction, cuts[0].way) = (Direction::Both, Way::Lost);
        }
        Drawn { fault: Fault::Depose(Depose { cuts }), target: Target::Leader, duration_ms: (1_500, 4_000) }
    }
}

impl SteppedFault for Depose {
    /// Two of them would cut each other's leaders off, until nobody is left to lead.
    fn is_exclusive(&self) -> bool {
        true
    }

    fn carry_out(&self, errand: &Errand<'_>) -> Conclusion {
        let (cluster, fabric) = (errand.cluster, errand.fabric);
        let (mut cut_off, mut bit) = (errand.victims.clone(), false);
        let (mut dropped, mut held, mut delayed) = (0, 0, 0);
        // How long it took until another led.
        let mut took = None;
        for cut in self.cuts.iter().cycle() {
            let Some(&leader) = cut_off.last() else { break };
            let (since, before) = (monotonic_ns(), fabric.links());
            let rules = cut.rules(leader, cluster.nodes());
            let links: Vec<Link> = rules.iter().map(|(link, _)| *link).collect();
            // The first is there already.
            if fabric.counters(errand.id).is_none() {
                fabric.install(errand.id, rules);
            }
            let (struck, go_on) = (Instant::now(), || !errand.is_due());
            if let Some((percent, took)) = cut.early_percent.zip(took) {
                errand.until(took * percent / 100, go_on, || None::<()>);
            } else if errand
                // A write that was asked for since then has an answer, which is another leader's.
                .until(NEXT_WITHIN, go_on, || ((errand.acknowledged)() > since).then_some(()))
                .is_some()
            {
                took = Some(struck.elapsed());
                errand.until(Duration::from_millis(cut.reign_ms.into()), go_on, || None::<()>);
            }
            let next = next(errand, leader, &before);
            let now = fabric.links();
            let of = |counters: &Carried, link| counters.get(link).copied().unwrap_or_default();
            let seen = links.iter().map(|link| of(&now, link).since(of(&before, link)));
            let seen = seen.fold(LinkCounters::default(), LinkCounters::plus);
            let counters = fabric.remove(errand.id);
            bit |= self.bit(&counters, &seen) && !counters.are_disproved();
            dropped += counters.dropped;
            held += counters.held;
            delayed += counters.delayed;
            if errand.is_due() {
                break;
            }
            cut_off.extend(next);
        }
        let evidence = [
            ("dropped", json!(dropped)),
            ("held", json!(held)),
            ("delayed", json!(delayed)),
            ("cut_off", names(cut_off)),
        ];
        Conclusion { bit, evidence: evidence.map(|(name, value)| (name.to_owned(), value)).into_iter().collect() }
    }
}

/// Who leads now that `leader` was cut off: as nodes tell, or else whose links carried most since then.
fn next(errand: &Errand<'_>, leader: NodeId, before: &Carried) -> Option<NodeId> {
    let cluster = errand.cluster;
    let told = cluster.system().tells_leader().then(|| cluster.leader()).flatten();
    told.map(|told| told.node).or_else(|| {
        let others: Vec<NodeId> = cluster.up().into_iter().filter(|node| *node != leader).collect();
        Traffic::busiest_since(before, &errand.fabric.links(), &others)
    })
}
