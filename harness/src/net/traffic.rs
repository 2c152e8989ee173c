//! Whose links carried most lately: who leads, where no node tells. What carries them is in `fabric`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{CLIENTS, Link, LinkCounters};
use crate::NodeId;

/// How far back "lately" reaches, at least: longer than a heartbeat, and no longer than an election, after which another leads.
const WINDOW: Duration = Duration::from_millis(600);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What links had carried at a few moments of the last second.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    marks: VecDeque<(Instant, BTreeMap<Link, u64>)>,
}

impl Traffic {
    /// Looks at what links have carried, if it is time.
    pub(crate) fn look(&mut self, now: Instant, links: impl FnOnce() -> BTreeMap<Link, LinkCounters>) {
        if self.marks.back().is_some_and(|(at, _)| now.duration_since(*at) < LOOK_EVERY) {
            return;
        }
        self.marks.push_back((now, carried(&links())));
        while self.marks.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.marks.pop_front();
        }
    }

    /// Which of `nodes` has the links to other nodes that carried most lately, or ever if nothing was carried lately; nobody if none
    /// carried anything.
    pub(crate) fn busiest(&self, links: &BTreeMap<Link, LinkCounters>, nodes: &[NodeId]) -> Option<NodeId> {
        let nothing = BTreeMap::new();
        let before = self.marks.front().map_or(&nothing, |(_, carried)| carried);
        most(links, before, nodes).or_else(|| most(links, &nothing, nodes))
    }

    /// The same of what was carried on top of `before`; nobody if nothing was.
    pub(crate) fn busiest_since(
        before: &BTreeMap<Link, LinkCounters>,
        links: &BTreeMap<Link, LinkCounters>,
        nodes: &[NodeId],
    ) -> Option<NodeId> {
        most(links, &carried(before), nodes)
    }
}

fn carried(links: &BTreeMap<Link, LinkCounters>) -> BTreeMap<Link, u64> {
    links.iter().map(|(link, counters)| (*link, counters.received)).collect()
}

fn most(
    links: &BTreeMap<Link, LinkCounters>,
    before: &BTreeMap<Link, u64>,
    nodes: &[NodeId],
) -> Option<NodeId> {
    let carried = |node: NodeId| -> u64 {
        let of_it =
            |link: &Link| ![link.from, link.to].contains(&CLIENTS) && [link.from, link.to].contains(&node);
        let since = |(link, counters): (&Link, &LinkCounters)| {
            counters.received.saturating_sub(before.get(link).copied().unwrap_or_default())
        };
        links.iter().filter(|(link, _)| of_it(link)).map(since).sum()
    };
    let most = nodes.iter().map(|node| (carried(*node), *node)).max_by_key(|(carried, _)| *carried)?;
    (most.0 > 0).then_some(most.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(carried: &[(NodeId, NodeId, u64)]) -> BTreeMap<Link, LinkCounters> {
        let link =
            |&(from, to, received)| (Link { from, to }, LinkCounters { received, ..LinkCounters::default() });
        carried.iter().map(link).collect()
    }

    #[test]
    fn it_is_whoever_others_talk_to_of_those_that_may_be_hit() {
        let traffic = Traffic::default();
        let all = links(&[(1, 2, 5), (2, 3, 6), (3, 1, 2), (CLIENTS, 1, 90), (1, CLIENTS, 90)]);
        assert_eq!(traffic.busiest(&all, &[1, 2, 3]), Some(2));
        assert_eq!(traffic.busiest(&all, &[1, 3]), Some(3), "of those that may be hit");
        assert_eq!(traffic.busiest(&links(&[(1, 2, 0)]), &[1, 2]), None);
        assert_eq!(traffic.busiest(&all, &[]), None);
        let later = links(&[(1, 2, 7), (2, 3, 6), (3, 1, 9), (CLIENTS, 1, 90), (1, CLIENTS, 90)]);
        assert_eq!(Traffic::busiest_since(&all, &later, &[1, 2, 3]), Some(1));
        assert_eq!(Traffic::busiest_since(&all, &later, &[2, 3]), Some(3));
        assert_eq!(Traffic::busiest_since(&all, &all, &[1, 2, 3]), None);
    }

    #[test]
    fn who_led_long_ago_leads_no_more() {
        let (mut traffic, start) = (Traffic::default(), Instant::now());
        let led = links(&[(1, 2, 9_000), (1, 3, 9_000), (2, 3, 0)]);
        let leads = links(&[(1, 2, 9_000), (1, 3, 9_001), (2, 3, 40)]);
        for ms in [0, 100, 200, 400, 600] {
            traffic.look(start + Duration::from_millis(ms), || led.clone());
        }
        assert_eq!(traffic.busiest(&leads, &[1, 2]), Some(2));
        assert_eq!(traffic.busiest(&led, &[1, 2, 3]), Some(1), "nothing was carried lately");
        // What is looked at is no older than it must be, and not looked at more often than that.
        traffic.look(start + Duration::from_millis(700), || unreachable!("it is not time"));
        traffic.look(start + Duration::from_secs(9), || leads.clone());
        assert_eq!(traffic.marks.len(), 2);
        traffic.look(start + Duration::from_secs(10), || leads.clone());
        assert_eq!(traffic.busiest(&leads, &[1, 2, 3]), Some(1));
    }
}
