//! The general engine: a lazy frontier of configurations over the history in time order, for any model. Sound and complete
//! within its budget. Which histories need it is decided in the module above.
//!
//! It is Lowe's just-in-time linearization ("Testing for linearizability", CCPE 2017) breadth first, with these reductions, each of which
//! loses nothing:
//! - an open read is done as soon as the state allows it;
//! - what overwrites (a plain write) hides what came right before it. So nothing is placed for its own sake before an overwriting
//!   operation: whatever was called before the last one, begins with another and ends nowhere is an *excursion*, placed when
//!   one of its operations has to be done, just before that last one and without a trace in the state;
//! - of open operations that do the same, the one that ends first goes first;
//! - indeterminate operations that do the same are counted, not told apart, and at first not even counted: an order that uses one
//!   of them too often makes the search begin again with these counted. No order at all, although they could be
//!   used without end, is a proof already;
//! - of two configurations with the same state and the same mutations done, the one that can do less is dropped.
//!
//! The frontier is cut to a width that grows from try to try: the end reached is an order found; a frontier that died without a cut
//! is a proof that there is none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use super::frontier::{Configuration, Frontier, Goal, Slots, Supply, Used};
use super::path::{NO_PATH, Placed, What, order};
use super::space::Space;
use super::{Bound, Budget, Op, Spent};
use crate::deadline::Watch;
use crate::hash::FastMap;
use crate::history::Action;
use crate::model::Model;

/// Operations with known outcomes that may be open at one moment: the bits of a mask.
pub(crate) const OPEN_MAX: u32 = u128::BITS;
/// Widths of the frontier, tried one after the other.
const WIDTHS: [usize; 6] = [8, 64, 512, 4096, 32_768, usize::MAX];
/// Steps between two looks at the clock.
const CLOCK_STEPS: u64 = 1024;
/// Events in a window, tried one after the other.
const WINDOWS: [usize; 3] = [64, 512, 4096];
/// Narrower frontiers prove hardly anything about a whole history with indeterminate operations.
const PROOF_WIDTH_MIN: usize = 512;
/// Configurations looked at before an order is given up, however narrow the frontier.
const REACH_MIN: usize = 512;
/// Bytes of a configuration with what the tables need for it: vectors and tables double when they grow.
const CONFIGURATION_BYTES: usize = 2 * size_of::<Option<Configuration>>()
    + 2 * size_of::<((u32, u128), Vec<usize>)>()
    + 2 * size_of::<Reverse<((usize, u32), usize)>>()
    + size_of::<Used>()
    + 3 * ALLOCATION_BYTES;
/// What an allocator adds to a block, and the least that a vector takes.
const ALLOCATION_BYTES: usize = 32;
/// Bytes of an operation in the tables of a search.
const OPERATION_BYTES: usize = 2 * size_of::<Op>() + 3 * size_of::<(u64, bool, usize)>() + ALLOCATION_BYTES;

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The order, by position in the operations that were searched, if it was asked for.
    Valid(Option<Vec<usize>>),
    /// These have no order, whatever the state before them and whoever else is in between, as long as nobody else brings what one
    /// of them saw.
    Invalid {
        among: Vec<usize>,
    },
    Unknown(Spent),
}

enum Try {
    End(Configuration),
    /// No configuration places this operation; it is a proof if none was cut before.
    Died {
        at: usize,
        cut: bool,
    },
    Spent(Spent),
}

/// Searches for an order of `ops`, and tells it if `record` is set.
pub(crate) fn search<M: Model>(model: &M, ops: &[Op], budget: Budget, record: bool) -> Answer {
    if (ops.len() * OPERATION_BYTES) as u64 > budget.memory {
        return Answer::Unknown(Spent { bound: Bound::Memory, reached: 0, open_unknown: 0, steps: 0 });
    }
    let mut searcher = Searcher::new(model, ops, budget, record);
    // Used without end, they lead to states without end unless these are few.
    if searcher.few_states(model).is_none() {
        searcher.supply.counted = (0..searcher.classes.len()).collect();
    }
    for width in WIDTHS {
        searcher.supply.goal = Goal::Order;
        let died = match searcher.attempt(width) {
            Try::End(end) => return Answer::Valid(record.then(|| searcher.told(end.path))),
            Try::Died { at, cut } => {
                // Without indeterminate operations both goals are the same.
                if !cut && searcher.classes.is_empty() {
                    return Answer::Invalid { among: searcher.until(at) };
                }
                at
            }
            Try::Spent(spent) => return Answer::Unknown(spent),
        };
        match searcher.windows(model, died, width) {
            Ok(Some(among)) => return Answer::Invalid { among },
            Ok(None) => {}
            Err(spent) => return Answer::Unknown(spent),
        }
        if width < PROOF_WIDTH_MIN && !searcher.classes.is_empty() {
            continue;
        }
        searcher.supply.goal = Goal::Proof;
        loop {
            match searcher.attempt(width) {
                Try::Died { at, cut: false } => return Answer::Invalid { among: searcher.until(at) },
                Try::Died { .. } => break,
                Try::End(end) if end.used.overdrawn.is_empty() => {
                    return Answer::Valid(record.then(|| searcher.told(end.path)));
                }
                Try::End(end) => {
                    let overdrawn = end.used.overdrawn.iter().map(|class| *class as usize);
                    searcher.supply.counted.extend(overdrawn);
                }
                Try::Spent(spent) => return Answer::Unknown(spent),
            }
        }
    }
    unreachable!("the last width cuts nothing, so what died in it is proved to have no order")
}

/// What can be placed: an open operation with a known outcome, or one of a class of indeterminate ones.
struct Candidate {
    what: What,
    action: u32,
    overwrites: bool,
    /// Event of its call; of a class, of the first of them.
    call: u32,
    /// Slots of others that do the same and end earlier.
    before: u128,
}

struct Searcher<'a, M: Model> {
    ops: &'a [Op],
    space: Space<'a, M>,
    /// (time, completes, operation): at equal times invokes come first, because equal times are concurrent.
    events: Vec<(u64, bool, usize)>,
    /// By operation: number of its action, event of its call, whether it only reads, whether it overwrites.
    action_of: Vec<u32>,
    call_of: Vec<u32>,
    reads: Vec<bool>,
    overwrites: Vec<bool>,
    /// Indeterminate operations by class, by call.
    classes: Vec<Vec<usize>>,
    supply: Supply,
    budget: Budget,
    steps: u64,
    /// Looks at the clock, next after so many steps.
    watch: Watch,
    look: u64,
    /// About what is held, when that was last asked.
    bytes: u64,
    record: bool,
    paths: Vec<Placed>,
    /// Configurations that an operation that completes has met so far, beside those that are being looked at.
    held: usize,
    /// States before everything.
    starts: Vec<u32>,
}

/// Operations open at one moment.
struct Open {
    slots: Vec<Option<usize>>,
    slot_of: HashMap<usize, usize>,
    kinds: Slots,
    unknown: usize,
}

/// An operation completes: what is open, its slot and event, what can be placed, and how many configurations are kept.
struct Moment<'o> {
    open: &'o Open,
    slot: usize,
    event: u32,
    candidates: Vec<Candidate>,
    width: usize,
}

/// The candidates that are possible in each state, by place.
type Possible = FastMap<u32, Rc<[usize]>>;

impl<'a, M: Model> Searcher<'a, M> {
    fn new(model: &'a M, ops: &'a [Op], budget: Budget, record: bool) -> Self {
        let mut events = Vec::with_capacity(2 * ops.len());
        let mut actions: Vec<&Action> = Vec::new();
        let mut known: HashMap<&Action, u32> = HashMap::new();
        let mut action_of = Vec::with_capacity(ops.len());
        for (i, op) in ops.iter().enumerate() {
            events.push((op.call, false, i));
            if !op.unknown() {
                events.push((op.ret, true, i));
            }
            action_of.push(*known.entry(&op.action).or_insert_with(|| {
                actions.push(&op.action);
                actions.len() as u32 - 1
            }));
        }
        events.sort_unstable();
        let mut call_of = vec![0; ops.len()];
        let mut classes: Vec<Vec<usize>> = Vec::new();
        let mut supply = Supply { calls: Vec::new(), counted: Vec::new(), goal: Goal::Proof };
        let mut class_of_action: HashMap<u32, usize> = HashMap::new();
        for (event, (_, completes, i)) in (1..).zip(&events) {
            if *completes {
                continue;
            }
            call_of[*i] = event;
            if ops[*i].unknown() {
                let class = *class_of_action.entry(action_of[*i]).or_insert(classes.len());
                if class == classes.len() {
                    classes.push(Vec::new());
                    supply.calls.push(Vec::new());
                }
                classes[class].push(*i);
                supply.calls[class].push(event);
            }
        }
        Searcher {
            ops,
            action_of,
            call_of,
            reads: ops.iter().map(|op| op.action.reads_only()).collect(),
            overwrites: ops.iter().map(|op| model.overwrites(&op.action)).collect(),
            space: Space::new(model, actions),
            events,
            classes,
            supply,
            budget,
            steps: 0,
            watch: Watch::new(budget.deadline),
            look: 0,
            bytes: 0,
            record,
            paths: Vec::new(),
            held: 0,
            starts: vec![0],
        }
    }

    fn attempt(&mut self, width: usize) -> Try {
        let mut open =
            Open { slots: Vec::new(), slot_of: HashMap::new(), kinds: Slots::default(), unknown: 0 };
        let none = || vec![0; self.classes.len()].into_boxed_slice();
        let used = Used { all: none(), before_last: none(), ..Used::default() };
        let used = Rc::new(used);
        let start = |state: &u32| Configuration {
            state: *state,
            last: 0,
            done: 0,
            free: 0,
            late: false,
            used: used.clone(),
            path: NO_PATH,
        };
        let mut frontier: Vec<Configuration> = self.starts.iter().map(start).collect();
        self.paths.clear();
        let mut cut = false;
        for event in 1..=self.events.len() {
            let (time, completes, i) = self.events[event - 1];
            let event = event as u32;
            let spent = |bound, steps, open: &Open| {
                Try::Spent(Spent { bound, reached: time, open_unknown: open.unknown, steps })
            };
            if !completes {
                if self.ops[i].unknown() {
                    open.unknown += 1;
                    continue;
                }
                let slot = open.slots.iter().position(Option::is_none).unwrap_or(open.slots.len());
                if slot >= OPEN_MAX as usize {
                    return spent(Bound::Open, self.steps, &open);
                }
                if slot == open.slots.len() {
                    open.slots.push(None);
                }
                open.slots[slot] = Some(i);
                open.slot_of.insert(i, slot);
                if self.reads[i] {
                    open.kinds.reads |= 1 << slot;
                    self.steps += frontier.len() as u64;
                    for configuration in &mut frontier {
                        self.absorb(configuration, configuration.state, slot, i, event, false);
                    }
                }
                if self.overwrites[i] {
                    open.kinds.writes |= 1 << slot;
                }
                continue;
            }
            let slot = open.slot_of[&i];
            match self.complete(frontier, &open, slot, event, width, &mut cut) {
                Ok(next) => frontier = next,
                Err(bound) => return spent(bound, self.steps, &open),
            }
            if frontier.is_empty() {
                return Try::Died { at: i, cut };
            }
            open.kinds = open.kinds.without(1 << slot);
            open.slots[slot] = None;
            open.slot_of.remove(&i);
            if self.space.bytes() > self.budget.memory / 4 {
                self.space.forget(frontier.iter_mut().map(|configuration| &mut configuration.state));
            }
        }
        let end = frontier.into_iter().min_by_key(Configuration::cost);
        Try::End(end.expect("a frontier that is empty has died"))
    }

    /// Everything that may have taken effect before this operation ended.
    fn until(&self, at: usize) -> Vec<usize> {
        (0..self.ops.len()).filter(|i| self.ops[*i].call <= self.ops[at].ret).collect()
    }

    fn few_states(&self, model: &M) -> Option<Vec<M::State>> {
        model.states(&self.ops.iter().map(|op| &op.action).collect::<Vec<_>>())
    }

    /// Looks for a proof in what is around the operation at which an attempt died, with any state before it: where few states are
    /// possible at all, most contradictions are near. Returns operations that have no order.
    fn windows(&mut self, model: &M, died: usize, width: usize) -> Result<Option<Vec<usize>>, Spent> {
        let Some(states) = self.few_states(model) else { return Ok(None) };
        let end = self.events.partition_point(|event| event.0 <= self.ops[died].ret);
        for events in WINDOWS {
            if events >= end {
                break;
            }
            let from = self.events[end - events].0;
            let until = self.ops[died].ret;
            let whole = |op: &Op| from <= op.call && op.ret <= until;
            let inside =
                |op: &Op| whole(op) || (op.call <= until && op.ret >= from && !op.action.reads_only());
            let among: Vec<usize> = (0..self.ops.len()).filter(|i| inside(&self.ops[*i])).collect();
            // What sticks out may have taken effect outside.
            let may_be_outside =
                |op: &Op| Op { ret: if whole(op) { op.ret } else { u64::MAX }, ..op.clone() };
            let ops: Vec<Op> = among.iter().map(|i| may_be_outside(&self.ops[*i])).collect();
            let left = Budget { steps: self.budget.steps.saturating_sub(self.steps), ..self.budget };
            let mut searcher = Searcher::new(model, &ops, left, false);
            searcher.starts = states.iter().map(|state| searcher.space.number(state.clone())).collect();
            let result = searcher.attempt(width);
            self.steps += searcher.steps;
            match result {
                Try::Died { cut: false, .. } => return Ok(Some(among)),
                Try::Spent(spent) => return Err(Spent { steps: self.steps, ..spent }),
                Try::Died { .. } | Try::End(_) => {}
            }
        }
        Ok(None)
    }

    /// The configurations in which the operation of `slot` has taken effect, reached from `frontier` by as few others as
    /// needed; its slot is free in them.
    fn complete(
        &mut self,
        frontier: Vec<Configuration>,
        open: &Open,
        slot: usize,
        event: u32,
        width: usize,
        cut: &mut bool,
    ) -> Result<Vec<Configuration>, Bound> {
        let Some(target_op) = open.slots[slot] else { return Ok(frontier) };
        let target = 1u128 << slot;
        let kinds_after = open.kinds.without(target);
        let mut next = Frontier::new();
        let leave = |next: &mut Frontier, mut configuration: Configuration, supply: &Supply| {
            configuration.done &= !target;
            configuration.free &= !target;
            configuration.late = false;
            next.insert(configuration, kinds_after, supply);
        };
        if frontier.iter().all(|configuration| configuration.done & target != 0) {
            for configuration in frontier {
                leave(&mut next, configuration, &self.supply);
            }
            return Ok(next.cheapest_first(kinds_after));
        }
        let now = Moment { open, slot, event, width, candidates: self.candidates(open, event) };
        let mut possible = Possible::default();
        let mut pending = Frontier::new();
        let mut queue = BinaryHeap::new();
        let queued = |configuration: &Configuration, place: usize| Reverse((configuration.cost(), place));
        let before = frontier.len();
        for configuration in frontier {
            if configuration.done & target != 0 {
                leave(&mut next, configuration, &self.supply);
                continue;
            }
            self.held = before + pending.all.len() + next.all.len();
            if self.call_of[target_op] < configuration.last {
                for hidden in self.excursions(&configuration, &now, &mut possible, cut)? {
                    leave(&mut next, hidden, &self.supply);
                }
            }
            let copy = configuration.clone();
            if let Some(place) = pending.insert(configuration, open.kinds, &self.supply) {
                queue.push(queued(&copy, place));
            }
        }
        // An order wants the cheapest way only.
        let mut enough = (usize::MAX, u32::MAX);
        while let Some(Reverse((cost, place))) = queue.pop() {
            if self.supply.goal == Goal::Order {
                if next.alive > 0 {
                    enough = enough.min(cost);
                }
                if cost > enough {
                    break;
                }
            }
            if pending.all.len() > self.reach(width, next.alive)
                || next.alive > width.saturating_mul(self.spread())
            {
                *cut = true;
                break;
            }
            let Some(from) = pending.all[place].clone() else { continue };
            for place in self.possible(&mut possible, from.state, &now.candidates).iter() {
                let candidate = &now.candidates[*place];
                if from.late && candidate.overwrites {
                    continue;
                }
                let Some(mut reached) = self.place(&from, candidate, &now, false)? else {
                    continue;
                };
                self.held = before + next.all.len();
                self.afford(pending.all.len())?;
                if candidate.overwrites {
                    reached.late = true;
                }
                if reached.done & target != 0 {
                    leave(&mut next, reached, &self.supply);
                    continue;
                }
                let copy = reached.clone();
                if let Some(place) = pending.insert(reached, open.kinds, &self.supply) {
                    queue.push(queued(&copy, place));
                }
            }
        }
        let mut next = next.cheapest_first(kinds_after);
        if next.len() > width {
            *cut = true;
            next.truncate(width);
        }
        Ok(next)
    }

    /// Configurations looked at on the way: narrow frontiers look at more as long as they found none.
    fn reach(&self, width: usize, found: usize) -> usize {
        match self.supply.goal {
            Goal::Order if found == 0 => width.saturating_mul(4).max(REACH_MIN),
            Goal::Order => width.saturating_mul(4),
            Goal::Proof => width.saturating_mul(16),
        }
    }

    /// Configurations kept before the cheapest are chosen, for each of the width.
    fn spread(&self) -> usize {
        if self.supply.goal == Goal::Order { 1 } else { 4 }
    }

    /// Everything that can be placed now.
    fn candidates(&self, open: &Open, event: u32) -> Vec<Candidate> {
        // In the order in which they complete.
        let mut slots: Vec<(u64, usize, usize)> = (0..)
            .zip(&open.slots)
            .filter_map(|(slot, i)| (*i).filter(|i| !self.reads[*i]).map(|i| (self.ops[i].ret, i, slot)))
            .collect();
        slots.sort_unstable();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (_, i, slot) in slots {
            let action = self.action_of[i];
            let same = |c: &&Candidate| c.action == action;
            let bit = |c: &Candidate| match c.what {
                What::Slot(slot) => 1u128 << slot,
                What::Class(_) => 0,
            };
            let before = candidates.iter().filter(same).map(bit).sum();
            let (overwrites, call) = (self.overwrites[i], self.call_of[i]);
            candidates.push(Candidate { what: What::Slot(slot), action, overwrites, call, before });
        }
        for (class, members) in self.classes.iter().enumerate() {
            let (first, call) = (members[0], self.supply.calls[class][0]);
            if call < event {
                let (action, overwrites) = (self.action_of[first], self.overwrites[first]);
                candidates.push(Candidate { what: What::Class(class), action, overwrites, call, before: 0 });
            }
        }
        candidates
    }

    /// The candidates that are possible in a state, by place.
    fn possible(&mut self, known: &mut Possible, state: u32, candidates: &[Candidate]) -> Rc<[usize]> {
        if let Some(places) = known.get(&state) {
            return places.clone();
        }
        self.steps += candidates.len() as u64;
        let possible =
            (0..candidates.len()).filter(|i| self.space.step(state, candidates[*i].action).is_some());
        known.entry(state).or_insert(possible.collect()).clone()
    }

    /// What becomes of a configuration by an excursion just before its last overwriting operation in which the operation of
    /// `slot` takes effect. Their state is that of `from`.
    fn excursions(
        &mut self,
        from: &Configuration,
        now: &Moment<'_>,
        possible: &mut Possible,
        cut: &mut bool,
    ) -> Result<Vec<Configuration>, Bound> {
        let target = 1u128 << now.slot;
        let leads = |c: &&Candidate| c.overwrites && matches!(c.what, What::Slot(s) if s == now.slot);
        let itself = now.candidates.iter().any(|c| leads(&c));
        let mut met = Frontier::new();
        let mut queue = BinaryHeap::new();
        let meet =
            |met: &mut Frontier, reached: Configuration, supply: &Supply, queue: &mut BinaryHeap<_>| {
                let cost = reached.cost();
                queue.extend(met.insert(reached, now.open.kinds, supply).map(|place| Reverse((cost, place))));
            };
        for candidate in now.candidates.iter().filter(|c| c.overwrites && (!itself || leads(c))) {
            if let Some(reached) = self.place(from, candidate, now, true)? {
                meet(&mut met, reached, &self.supply, &mut queue);
            }
        }
        // An order wants the cheapest way only.
        let mut enough = (usize::MAX, u32::MAX);
        while let Some(Reverse((cost, place))) = queue.pop() {
            if self.supply.goal == Goal::Order {
                if met.all[place].as_ref().is_some_and(|c| c.done & target != 0) {
                    enough = enough.min(cost);
                }
                if cost > enough {
                    break;
                }
            }
            if met.all.len() > self.reach(now.width, 1) {
                *cut = true;
                break;
            }
            let Some(at) = met.all[place].clone() else { continue };
            for place in self.possible(possible, at.state, &now.candidates).iter() {
                let candidate = &now.candidates[*place];
                if candidate.overwrites {
                    continue;
                }
                if let Some(reached) = self.place(&at, candidate, now, true)? {
                    self.afford(met.all.len())?;
                    meet(&mut met, reached, &self.supply, &mut queue);
                }
            }
        }
        let done = met.all.into_iter().flatten().filter(|c| c.done & target != 0);
        Ok(done.map(|c| Configuration { state: from.state, ..c }).collect())
    }

    /// The configuration after a candidate and every read that it satisfies, if it can be placed: at the end, or `hidden`.
    fn place(
        &mut self,
        from: &Configuration,
        candidate: &Candidate,
        now: &Moment<'_>,
        hidden: bool,
    ) -> Result<Option<Configuration>, Bound> {
        if hidden && candidate.call >= from.last {
            return Ok(None);
        }
        let mut bit = 0;
        let mut op = u32::MAX;
        if let What::Slot(slot) = candidate.what {
            bit = 1 << slot;
            if from.done & bit != 0 || another_goes_first(from, candidate, &now.candidates) {
                return Ok(None);
            }
            op = now.open.slots[slot].map_or(u32::MAX, |i| i as u32);
        }
        self.steps += 1;
        if self.steps > self.budget.steps {
            return Err(Bound::Steps);
        }
        if self.steps >= self.look {
            self.look = self.steps + CLOCK_STEPS;
            if self.watch.passed(self.bytes) {
                return Err(Bound::Time);
            }
        }
        let Some(state) = self.space.step(from.state, candidate.action) else { return Ok(None) };
        let mut reached = Configuration { state, ..from.clone() };
        reached.done |= bit;
        if let What::Class(class) = candidate.what
            && !self.take(&mut reached, class, now.event, hidden)
        {
            return Ok(None);
        }
        let bound = if hidden { from.last } else { now.event };
        self.keep(&mut reached, candidate.what, op, bound, hidden);
        if candidate.overwrites && !hidden {
            reached.last = now.event;
            reached.free = now.open.kinds.writes;
            if reached.used.before_last != reached.used.all {
                let used = Rc::make_mut(&mut reached.used);
                used.before_last.clone_from(&used.all);
            }
        }
        let mut reads = now.open.kinds.reads & !reached.done;
        while reads != 0 {
            let slot = reads.trailing_zeros() as usize;
            reads &= reads - 1;
            if let Some(read) = now.open.slots[slot]
                && (!hidden || self.call_of[read] < from.last)
            {
                self.absorb(&mut reached, state, slot, read, bound, hidden);
            }
        }
        Ok(Some(reached))
    }

    /// Marks an open read as done if it fits the state.
    fn absorb(
        &mut self,
        configuration: &mut Configuration,
        state: u32,
        slot: usize,
        read: usize,
        bound: u32,
        hidden: bool,
    ) {
        if self.space.step(state, self.action_of[read]).is_some() {
            configuration.done |= 1 << slot;
            self.keep(configuration, What::Slot(slot), read as u32, bound, hidden);
        }
    }

    /// Uses up an operation of a class, if there is one left or the class is not counted.
    fn take(&self, configuration: &mut Configuration, class: usize, event: u32, hidden: bool) -> bool {
        let used = &configuration.used;
        let short = used.all[class] >= self.supply.before(class, event)
            || (hidden && used.before_last[class] >= self.supply.before(class, configuration.last));
        if short && (self.supply.goal == Goal::Order || self.supply.counted.contains(&class)) {
            return false;
        }
        let used = Rc::make_mut(&mut configuration.used);
        used.all[class] += 1;
        used.before_last[class] += u32::from(hidden);
        used.total += 1;
        if short && !used.overdrawn.contains(&(class as u32)) {
            used.overdrawn.push(class as u32);
        }
        true
    }

    /// Refuses to hold more than the budget: these configurations and the others.
    fn afford(&mut self, configurations: usize) -> Result<(), Bound> {
        let each = CONFIGURATION_BYTES + 2 * 4 * self.classes.len();
        let bytes = ((self.held + configurations) * each + self.ops.len() * OPERATION_BYTES) as u64
            + self.space.bytes()
            + (2 * self.paths.len() * size_of::<Placed>()) as u64;
        self.bytes = bytes;
        if bytes > self.budget.memory { Err(Bound::Memory) } else { Ok(()) }
    }

    fn told(&self, path: u32) -> Vec<usize> {
        order(&self.paths, path, &self.classes, &self.overwrites)
    }

    /// Adds a placement to the path of a configuration.
    fn keep(&mut self, configuration: &mut Configuration, what: What, op: u32, bound: u32, hidden: bool) {
        if self.record {
            self.paths.push(Placed { before: configuration.path, what, op, bound, hidden });
            configuration.path = self.paths.len() as u32 - 1;
        }
    }
}

/// Whether an open operation that does the same, can be placed in the same places and ends earlier is still to be done.
fn another_goes_first(from: &Configuration, candidate: &Candidate, all: &[Candidate]) -> bool {
    let waiting = candidate.before & !from.done;
    waiting != 0
        && all.iter().any(|other| {
            matches!(other.what, What::Slot(slot) if waiting & (1 << slot) != 0)
                && (other.call < from.last) == (candidate.call < from.last)
        })
}

#[cfg(test)]
pub(super) mod tests;
