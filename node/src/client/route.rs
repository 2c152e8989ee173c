//! Which node is asked next: the others in their order, those that did not answer last.
//! When it is time for the next is the client's business.

/// The way of one operation through the nodes, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    nodes: usize,
    target: usize,
    /// Did not answer in time, since all of them did not.
    silent: Vec<usize>,
}

impl Route {
    pub(super) fn new(nodes: usize, first: usize) -> Route {
        Route { nodes: nodes.max(1), target: first % nodes.max(1), silent: Vec::new() }
    }

    /// Whom to ask.
    pub(super) fn target(&self) -> usize {
        self.target
    }

    /// The target refused. It lives, and may know more in a moment: only a silent node is not worth waiting for again.
    pub(super) fn refused(&mut self) {
        self.silent.retain(|node| *node != self.target);
        let others = (1..=self.nodes).map(|step| (self.target + step) % self.nodes);
        self.target = others.into_iter().find(|node| !self.silent.contains(node)).unwrap_or(self.target);
    }

    /// The target did not answer in time.
    pub(super) fn was_silent(&mut self) {
        self.silent.push(self.target);
        if (0..self.nodes).all(|node| self.silent.contains(&node)) {
            self.silent = vec![self.target];
        }
        let others = (1..self.nodes).map(|step| (self.target + step) % self.nodes);
        self.target = others.into_iter().find(|node| !self.silent.contains(node)).unwrap_or(self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes that are asked while each in turn answers as told: `r` refuses, `s` is silent.
    fn asked(nodes: usize, first: usize, answers: &str) -> Vec<usize> {
        let mut route = Route::new(nodes, first);
        let mut asked = vec![route.target()];
        for answer in answers.chars() {
            match answer {
                'r' => route.refused(),
                _ => route.was_silent(),
            }
            asked.push(route.target());
        }
        asked
    }

    #[test]
    fn every_node_has_its_turn() {
        assert_eq!(asked(3, 1, "rrrr"), [1, 2, 0, 1, 2]);
        assert_eq!(asked(3, 4, "ssss"), [1, 2, 0, 1, 2], "when nobody answers, all are asked again");
        assert_eq!(asked(1, 0, "rsr"), [0, 0, 0, 0]);
    }

    #[test]
    fn a_silent_node_is_left_out_while_others_answer() {
        assert_eq!(asked(3, 0, "srrr"), [0, 1, 2, 1, 2], "the dead leader is not asked again");
        assert_eq!(asked(3, 0, "srsr"), [0, 1, 2, 1, 1], "who alone answers is asked until another does");
        assert_eq!(asked(3, 0, "srss"), [0, 1, 2, 1, 2], "who fell silent too makes room for those");
    }
}
