//! A directed graph of things that come before each other: an order of them, or a shortest circle that shows that there is none.
//! What they are, and why one comes before another, is the caller's business.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Edges looked at for a shortest circle; beyond it the shortest so far is taken.
const LOOKED_MAX: usize = 20_000_000;

/// How far a node is from the start, and the node and the edge that lead to it.
type Came<L> = HashMap<usize, (usize, Option<(usize, L)>)>;

/// Nodes are numbers from 0. Those from [`Graph::real`] on only stand between others and cost no step of a path.
pub(super) struct Graph<L> {
    nodes: usize,
    real: usize,
    /// First edge of each node.
    from: Vec<usize>,
    edges: Vec<(u32, L)>,
}

impl<L: Copy> Graph<L> {
    /// A graph of `nodes` nodes, of which those below `real` are real, with these edges.
    pub(super) fn new(nodes: usize, real: usize, edges: &[(u32, u32, L)]) -> Self {
        let mut from = vec![0; nodes + 1];
        for (a, ..) in edges {
            from[*a as usize + 1] += 1;
        }
        for node in 0..nodes {
            from[node + 1] += from[node];
        }
        let mut sorted: Vec<u32> = (0..edges.len() as u32).collect();
        sorted.sort_by_key(|i| edges[*i as usize].0);
        let edges = sorted.into_iter().map(|i| (edges[i as usize].1, edges[i as usize].2)).collect();
        Graph { nodes, real, from, edges }
    }

    fn next(&self, node: usize) -> &[(u32, L)] {
        &self.edges[self.from[node]..self.from[node + 1]]
    }

    /// The nodes in an order that no edge contradicts, of those that are free the lowest first; what is in a circle, or behind
    /// one, is missing.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut before = vec![0u32; self.nodes];
        for (to, _) in &self.edges {
            before[*to as usize] += 1;
        }
        let mut free: BinaryHeap<Reverse<usize>> =
            (0..self.nodes).filter(|node| before[*node] == 0).map(Reverse).collect();
        let mut order = Vec::with_capacity(self.nodes);
        while let Some(Reverse(node)) = free.pop() {
            order.push(node);
            for (to, _) in self.next(node) {
                before[*to as usize] -= 1;
                if before[*to as usize] == 0 {
                    free.push(Reverse(*to as usize));
                }
            }
        }
        order
    }

    /// A circle with the fewest real nodes, each with the edge by which it is left; `None` if there is none.
    pub(super) fn circle(&self) -> Option<Vec<(usize, L)>> {
        let inside = self.inside();
        let mut best: Option<Vec<(usize, L)>> = None;
        let mut left = LOOKED_MAX;
        for start in (0..self.real).filter(|node| inside[*node]) {
            let shorter_than = best.as_ref().map_or(usize::MAX, Vec::len);
            if shorter_than <= 2 {
                break;
            }
            if let Some(found) = self.circle_through(start, &inside, shorter_than, &mut left) {
                best = Some(found);
            }
        }
        best
    }

    /// Nodes that are neither before nor behind all circles.
    fn inside(&self) -> Vec<bool> {
        let mut inside = vec![true; self.nodes];
        for node in self.order() {
            inside[node] = false;
        }
        let mut after = vec![0u32; self.nodes];
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); self.nodes];
        for node in (0..self.nodes).filter(|node| inside[*node]) {
            for (to, _) in self.next(node).iter().filter(|(to, _)| inside[*to as usize]) {
                after[node] += 1;
                into[*to as usize].push(node as u32);
            }
        }
        let mut ends: Vec<usize> =
            (0..self.nodes).filter(|node| inside[*node] && after[*node] == 0).collect();
        while let Some(node) = ends.pop() {
            inside[node] = false;
            for before in &into[node] {
                after[*before as usize] -= 1;
                if after[*before as usize] == 0 {
                    ends.push(*before as usize);
                }
            }
        }
        inside
    }

    /// The shortest way from `start` back to it, if it has fewer real nodes than `shorter_than`.
    fn circle_through(
        &self,
        start: usize,
        inside: &[bool],
        shorter_than: usize,
        left: &mut usize,
    ) -> Option<Vec<(usize, L)>> {
        // Few nodes are near: no table of all.
        let mut came: Came<L> = HashMap::from([(start, (1, None))]);
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            let (distance, _) = came[&node];
            for (to, label) in self.next(node) {
                let to = *to as usize;
                *left = left.saturating_sub(1);
                if to == start {
                    return Some(self.way(node, *label, &came));
                }
                let steps = distance + usize::from(to < self.real);
                let nearer = came.get(&to).is_some_and(|(distance, _)| *distance <= steps);
                if !inside[to] || steps >= shorter_than || nearer || *left == 0 {
                    continue;
                }
                came.insert(to, (steps, Some((node, *label))));
                if to < self.real {
                    queue.push_back(to);
                } else {
                    queue.push_front(to);
                }
            }
        }
        None
    }

    /// The real nodes on the way to `last`, which is left by `label`. What leaves a real node says why, what goes on from
    /// one in between repeats it.
    fn way(&self, last: usize, label: L, came: &Came<L>) -> Vec<(usize, L)> {
        let mut way = Vec::new();
        let (mut node, mut label) = (last, label);
        loop {
            if node < self.real {
                way.push((node, label));
            }
            let Some((before, by)) = came[&node].1 else { break };
            (node, label) = (before, by);
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, real: usize, edges: &[(u32, u32)]) -> Graph<u32> {
        let edges: Vec<(u32, u32, u32)> = edges.iter().map(|(a, b)| (*a, *b, 10 * a + b)).collect();
        Graph::new(nodes, real, &edges)
    }

    #[test]
    fn an_order_contradicts_no_edge_and_leaves_circles_out() {
        assert_eq!(graph(4, 4, &[(3, 0), (0, 2)]).order(), [1, 3, 0, 2]);
        assert_eq!(graph(4, 4, &[]).order(), [0, 1, 2, 3]);
        assert_eq!(graph(5, 5, &[(0, 1), (1, 2), (2, 1), (2, 3)]).order(), [0, 4], "3 is behind a circle");
    }

    #[test]
    fn the_shortest_circle_is_found_with_its_reasons() {
        assert_eq!(graph(3, 3, &[(0, 1), (1, 2)]).circle(), None);
        let long = [(0, 1), (1, 2), (2, 0)];
        assert_eq!(graph(3, 3, &long).circle(), Some(vec![(0, 1), (1, 12), (2, 20)]));
        let both = [&long[..], &[(2, 3), (3, 2), (4, 3), (3, 5)]].concat();
        assert_eq!(graph(6, 6, &both).circle(), Some(vec![(2, 23), (3, 32)]), "4 is before it, 5 behind it");
    }

    #[test]
    fn what_stands_between_is_no_step_and_takes_the_reason_of_what_leads_to_it() {
        let through = [(0, 3), (3, 4), (4, 5), (5, 1), (1, 0), (0, 2), (2, 1)];
        assert_eq!(graph(6, 3, &through).circle(), Some(vec![(0, 3), (1, 10)]));
        let longer = [(0, 2), (2, 3), (3, 0), (0, 4), (4, 1), (1, 0)];
        assert_eq!(graph(5, 4, &longer).circle(), Some(vec![(0, 4), (1, 10)]));
        let first_longer = [(0, 1), (1, 2), (2, 0), (3, 5), (5, 4), (4, 3)];
        assert_eq!(
            graph(6, 5, &first_longer).circle(),
            Some(vec![(3, 35), (4, 43)]),
            "the first that is none"
        );
    }

    #[test]
    fn what_leads_to_a_circle_or_away_from_it_is_not_searched() {
        let inside = |nodes, edges| graph(nodes, nodes, edges).inside();
        let around = [(0, 1), (1, 2), (2, 1), (2, 3), (1, 3), (3, 4), (0, 5)];
        assert_eq!(inside(6, &around), [false, true, true, false, false, false]);
        let between = [(0, 1), (1, 0), (1, 2), (2, 3), (3, 4), (4, 3)];
        assert_eq!(inside(5, &between), [true; 5], "2 is behind one and before the other");
    }
}
