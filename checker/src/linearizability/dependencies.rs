//! Linearizability of transactions that read and append to lists, each element of a key once: in time linear in what was read,
//! but for one sort. What was read forces which transaction comes before which (Adya, "Weak Consistency", 1999, §3.1: item
//! write, read and anti-dependencies, recovered from lists as in Kingsbury and Alvaro, "Elle", VLDB 2020); real time forces the
//! rest. They have an order exactly if that graph has no circle. Of transactions that use other keys as well, keys that are written
//! or elements that are appended twice, the lists alone are judged, which may show that there is no order.
//!
//! What nobody read of a key comes after all that was read of it, and after those reads, in any order. Looking at some elements
//! alone is lossless for a violation: leaving out an element everywhere turns a valid order into a valid order.

pub(super) mod reduced;
pub(super) mod registers;

use std::collections::{HashMap, HashSet};

use super::Op;
use super::graph::Graph;
use crate::history::{Action, Micro, Value};

/// What the dependencies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An order, by position. Indeterminate transactions of which nobody saw anything are not in it.
    Linearizable(Vec<usize>),
    Violation(Fault),
    /// Nothing is wrong with the lists, but there are other keys.
    NotTold,
}

/// Transactions that have no order, if only these elements of the lists count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) ops: Vec<usize>,
    /// Key and element.
    pub(crate) elements: Vec<(String, Value)>,
}

/// Kinds of contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A list shows what nobody appended.
    Phantom,
    /// A list shows an element twice.
    Duplicate,
    /// Two lists of one key agree on no order.
    Divergent,
    /// A transaction contradicts itself: what it read is not what was there and what it appended.
    Alone,
    /// Each has to come before the next, and the last before the first.
    Circle(Vec<(usize, Why)>),
}

/// Why a transaction comes before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its element stands before the other's in the list of a key.
    Before(String, Value, Value),
    /// The other read its element of a key.
    Read(String, Value),
    /// It read the list of a key without the other's element.
    Missed(String, Value),
    /// It was over before the other began.
    Over,
}

/// A reason as it is kept with an edge: the key, and the place of the element in its longest list that the edge is about.
#[derive(Clone, Copy)]
enum Label {
    Before(u32, u32),
    Read(u32, u32),
    Missed(u32, u32),
    Over,
}

/// What is known of the list of a key.
#[derive(Default)]
struct Key<'a> {
    name: &'a str,
    /// Who appends each element.
    appended: HashMap<&'a Value, usize>,
    /// Who read which list.
    reads: Vec<(usize, &'a [Value])>,
    /// The longest list that was read, who read it, and the places in it.
    longest: &'a [Value],
    reader: Option<usize>,
    places: HashMap<&'a Value, usize>,
}

struct Lists<'a> {
    ops: &'a [Op],
    keys: Vec<Key<'a>>,
    at: HashMap<&'a str, usize>,
    /// Keys that are no lists, or not of elements that are each appended once, or of which too much is told.
    others: HashSet<&'a str>,
}

/// Judges transactions.
pub(crate) fn judge(ops: &[Op]) -> Verdict {
    let mut lists = Lists::of(ops);
    if let Some(fault) = lists.agree() {
        return Verdict::Violation(fault);
    }
    let happened: Vec<bool> = (0..ops.len()).map(|i| !ops[i].unknown() || lists.shown(i)).collect();
    let mut edges = Vec::new();
    if let Some(fault) = lists.dependencies(&happened, &mut edges) {
        return Verdict::Violation(fault);
    }
    // Without real time first: what is wrong even so is worse.
    let nodes = ops.len() + lists.keys.len();
    let graph = Graph::new(nodes, ops.len(), &edges);
    if let Some(circle) = graph.circle() {
        return Verdict::Violation(lists.circle(&circle));
    }
    let nodes = real_time(ops, &happened, nodes, &mut edges);
    let graph = Graph::new(nodes, ops.len(), &edges);
    let order = graph.order();
    if order.len() == nodes {
        if !lists.others.is_empty() {
            return Verdict::NotTold;
        }
        return Verdict::Linearizable(order.into_iter().filter(|i| *i < ops.len() && happened[*i]).collect());
    }
    let circle = graph.circle().expect("a graph without an order has a circle");
    Verdict::Violation(lists.circle(&circle))
}

impl<'a> Lists<'a> {
    fn of(ops: &'a [Op]) -> Lists<'a> {
        let (mut others, mut once) = (HashSet::new(), HashSet::new());
        for (op, step) in ops.iter().flat_map(|op| steps(op).iter().map(move |step| (op, step))) {
            let other = match step {
                Micro::Write(..) => true,
                Micro::Append(key, element) => !once.insert((key, element)),
                // What one read that may not have happened is left to the search as well.
                Micro::Read(_, told) => told.as_ref().is_some_and(|v| op.unknown() || v.elements().is_none()),
            };
            if other {
                others.insert(&**step.key());
            }
        }
        let mut lists = Lists { ops, keys: Vec::new(), at: HashMap::new(), others: HashSet::new() };
        for (i, op) in ops.iter().enumerate() {
            for step in steps(op).iter().filter(|step| !others.contains(&**step.key())) {
                let key = lists.key(step.key());
                match step {
                    Micro::Append(_, element) => drop(lists.keys[key].appended.insert(element, i)),
                    Micro::Read(_, Some(value)) => {
                        lists.keys[key].reads.push((i, value.elements().unwrap_or_default()));
                    }
                    _ => {}
                }
            }
        }
        Lists { others, ..lists }
    }

    fn key(&mut self, name: &'a str) -> usize {
        let next = self.keys.len();
        let at = *self.at.entry(name).or_insert(next);
        if at == next {
            self.keys.push(Key { name, ..Key::default() });
        }
        at
    }

    /// Whether the lists of each key, without time, could come from one that grows; finds the longest.
    fn agree(&mut self) -> Option<Fault> {
        for key in &mut self.keys {
            let Some((reader, longest)) = key.reads.iter().max_by_key(|(_, list)| list.len()).copied() else {
                continue;
            };
            (key.reader, key.longest) = (Some(reader), longest);
            if let Some(fault) = key.not_genuine(reader, longest) {
                return Some(fault);
            }
            for (other, list) in &key.reads {
                let Some(at) = list.iter().zip(longest).position(|(a, b)| a != b) else { continue };
                let differ = || key.fault(Kind::Divergent, &[*other, reader], &[&list[at], &longest[at]]);
                return Some(key.not_genuine(*other, list).unwrap_or_else(differ));
            }
            key.places = longest.iter().enumerate().map(|(place, element)| (element, place)).collect();
        }
        None
    }

    /// Whether somebody read something of it.
    fn shown(&self, op: usize) -> bool {
        self.seen_of(op).is_some()
    }

    /// Something of it that somebody read.
    fn seen_of(&self, op: usize) -> Option<(&Key<'a>, &'a Value)> {
        appended(&self.ops[op]).find_map(|(key, element)| {
            let key = &self.keys[*self.at.get(key)?];
            key.places.contains_key(element).then_some((key, element))
        })
    }

    /// Everything that what was read forces; or a transaction that contradicts itself.
    fn dependencies(&self, happened: &[bool], edges: &mut Vec<(u32, u32, Label)>) -> Option<Fault> {
        // By key: those that read everything, and those that appended what nobody read.
        let mut last_reads: Vec<HashSet<usize>> = vec![HashSet::new(); self.keys.len()];
        let mut unread: Vec<HashSet<usize>> = vec![HashSet::new(); self.keys.len()];
        for op in (0..self.ops.len()).filter(|op| happened[*op]) {
            for (at, own, base) in match self.alone(op) {
                Ok(keys) => keys,
                Err(fault) => return Some(fault),
            } {
                let key = &self.keys[at];
                if own.iter().any(|element| !key.places.contains_key(element)) {
                    unread[at].insert(op);
                }
                let Some(base) = base else { continue };
                let bringer = |place: usize| key.appended[&key.longest[place]];
                let label = |place: usize| (at as u32, place as u32);
                if let Some(before) = base.checked_sub(1) {
                    edge(edges, bringer(before), op, Label::Read(label(before).0, label(before).1));
                }
                if base < key.longest.len() {
                    edge(edges, op, bringer(base), Label::Missed(label(base).0, label(base).1));
                } else {
                    last_reads[at].insert(op);
                }
            }
        }
        for (at, key) in self.keys.iter().enumerate() {
            for (place, pair) in key.longest.windows(2).enumerate() {
                let label = Label::Before(at as u32, place as u32);
                edge(edges, key.appended[&pair[0]], key.appended[&pair[1]], label);
            }
            let last = key.longest.last().map(|element| key.appended[element]);
            self.tail(at, last, &last_reads[at], &unread[at], edges);
        }
        None
    }

    /// What nobody read comes after what was, and after those who read that. One node of its own stands between them; who is on
    /// both sides comes before the others that were not read.
    fn tail(
        &self,
        at: usize,
        last: Option<usize>,
        reads: &HashSet<usize>,
        unread: &HashSet<usize>,
        edges: &mut Vec<(u32, u32, Label)>,
    ) {
        let end = self.keys[at].longest.len() as u32;
        let between = self.ops.len() + at;
        let missed = |op: usize| match reads.contains(&op) {
            true => Label::Missed(at as u32, end),
            false => Label::Before(at as u32, end - 1),
        };
        let mut before: Vec<usize> = reads.iter().copied().chain(last).collect();
        before.sort_unstable();
        before.dedup();
        let mut after: Vec<usize> = unread.iter().copied().collect();
        after.sort_unstable();
        let (both, before): (Vec<usize>, Vec<usize>) = before.into_iter().partition(|op| unread.contains(op));
        if after.is_empty() {
            return;
        }
        for op in before {
            edge(edges, op, between, missed(op));
        }
        for op in &after {
            edge(edges, between, *op, Label::Missed(at as u32, end));
        }
        match both[..] {
            [] => {}
            [one] => after.iter().for_each(|op| edge(edges, one, *op, missed(one))),
            [one, two, ..] => {
                edge(edges, one, two, missed(one));
                edge(edges, two, one, missed(two));
            }
        }
    }

    /// What a transaction appends to each key, in order, and how long the list was that it found, if it read it; or how it
    /// contradicts itself.
    #[allow(clippy::type_complexity, reason = "used in one place")]
    fn alone(&self, op: usize) -> Result<Vec<(usize, Vec<&'a Value>, Option<usize>)>, Fault> {
        let mut keys: Vec<(usize, Vec<&Value>, Option<usize>)> = Vec::new();
        for step in steps(&self.ops[op]) {
            let Some(at) = self.at.get(&**step.key()).copied() else { continue };
            let place = keys.iter().position(|(key, ..)| *key == at).unwrap_or_else(|| {
                keys.push((at, Vec::new(), None));
                keys.len() - 1
            });
            let (_, own, base) = &mut keys[place];
            match step {
                Micro::Append(_, element) => own.push(element),
                Micro::Read(_, Some(value)) => {
                    let list = value.elements().unwrap_or_default();
                    let found = list.len().checked_sub(own.len());
                    let found = found.filter(|found| list[*found..].iter().eq(own.iter().copied()));
                    let known = *base.get_or_insert(found.unwrap_or_default());
                    if found != Some(known) {
                        let key = &self.keys[at];
                        let about: Vec<&Value> =
                            own.iter().copied().chain(list).chain(&key.longest[..known]).collect();
                        return Err(key.fault(Kind::Alone, &[op], &about));
                    }
                }
                _ => {}
            }
        }
        for (at, own, base) in &keys {
            let key = &self.keys[*at];
            // Where its own stand, what nobody read last.
            let places = own.iter().map(|e| key.places.get(e).copied().unwrap_or(usize::MAX));
            let found_own = base.is_some_and(|base| places.clone().any(|place| place < base));
            if found_own || !places.is_sorted() {
                return Err(key.fault(Kind::Alone, &[op], own));
            }
        }
        Ok(keys)
    }

    fn circle(&self, circle: &[(usize, Label)]) -> Fault {
        let (mut ops, mut elements, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (op, label)) in circle.iter().enumerate() {
            let (next, _) = circle[(n + 1) % circle.len()];
            ops.push(*op);
            // An indeterminate one counts only if something of it is seen.
            if self.ops[*op].unknown()
                && let Some((key, element)) = self.seen_of(*op)
            {
                ops.extend(key.reader);
                elements.push((key.name.to_owned(), element.clone()));
            }
            let at = |key: u32, place: u32| {
                let key = &self.keys[key as usize];
                let unread = || key.unread_of(&self.ops[next]).expect("what comes after all that was read");
                (key, key.longest.get(place as usize).unwrap_or_else(unread).clone())
            };
            let why = match *label {
                Label::Over => Why::Over,
                Label::Read(key, place) => {
                    let (key, element) = at(key, place);
                    Why::Read(key.name.to_owned(), element)
                }
                Label::Missed(key, place) => {
                    let (key, element) = at(key, place);
                    Why::Missed(key.name.to_owned(), element)
                }
                Label::Before(key, place) => {
                    let ((key, first), (_, second)) = (at(key, place), at(key, place + 1));
                    ops.extend(key.reader);
                    Why::Before(key.name.to_owned(), first, second)
                }
            };
            match &why {
                Why::Over => {}
                Why::Read(key, element) | Why::Missed(key, element) => {
                    elements.push((key.clone(), element.clone()));
                }
                Why::Before(key, first, second) => {
                    elements.push((key.clone(), first.clone()));
                    elements.push((key.clone(), second.clone()));
                }
            }
            reasons.push((*op, why));
        }
        Fault { kind: Kind::Circle(reasons), ops, elements }
    }
}

impl<'a> Key<'a> {
    fn fault(&self, kind: Kind, ops: &[usize], elements: &[&Value]) -> Fault {
        // Whoever read most shows in which order they stand.
        let ops = ops.iter().copied().chain(self.reader).collect();
        let elements = elements.iter().map(|e| (self.name.to_owned(), (*e).clone())).collect();
        Fault { kind, ops, elements }
    }

    /// An element of the list that nobody brought, or that is there twice.
    fn not_genuine(&self, reader: usize, list: &[Value]) -> Option<Fault> {
        let mut seen = HashSet::with_capacity(list.len());
        list.iter().find_map(|element| match (self.appended.contains_key(element), seen.insert(element)) {
            (false, _) => Some(self.fault(Kind::Phantom, &[reader], &[element])),
            (true, false) => Some(self.fault(Kind::Duplicate, &[reader], &[element])),
            (true, true) => None,
        })
    }

    /// What this transaction appends to the key and nobody read.
    fn unread_of(&self, op: &'a Op) -> Option<&'a Value> {
        appended(op).find(|(key, e)| *key == self.name && !self.places.contains_key(e)).map(|(_, e)| e)
    }
}

/// What was over comes before what began later: one node for each end, in a chain. Gives the number of nodes.
fn real_time(ops: &[Op], happened: &[bool], first: usize, edges: &mut Vec<(u32, u32, Label)>) -> usize {
    let mut ends: Vec<(u64, usize)> =
        (0..ops.len()).filter(|op| !ops[*op].unknown()).map(|op| (ops[op].ret, op)).collect();
    ends.sort_unstable();
    for (n, (_, op)) in ends.iter().enumerate() {
        edge(edges, *op, first + n, Label::Over);
        if n > 0 {
            edge(edges, first + n - 1, first + n, Label::Over);
        }
    }
    for op in (0..ops.len()).filter(|op| happened[*op]) {
        let over = ends.partition_point(|(ret, _)| *ret < ops[op].call);
        if over > 0 {
            edge(edges, first + over - 1, op, Label::Over);
        }
    }
    first + ends.len()
}

/// None to itself: a transaction that depends on itself is [`Lists::alone`]'s business.
fn edge(edges: &mut Vec<(u32, u32, Label)>, from: usize, to: usize, label: Label) {
    if from != to {
        edges.push((from as u32, to as u32, label));
    }
}

pub(super) fn steps(op: &Op) -> &[Micro] {
    match &op.action {
        Action::Txn(steps) => steps,
        _ => &[],
    }
}

fn appended(op: &Op) -> impl Iterator<Item = (&str, &Value)> {
    steps(op).iter().filter_map(|step| match step {
        Micro::Append(key, element) => Some((&**key, element)),
        _ => None,
    })
}

#[cfg(test)]
pub(super) mod tests;
