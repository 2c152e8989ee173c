//! Whether the operations of one key can be put in one order that its model allows and real time does not contradict.
//! Picks the engine: exact linear-time ones where every value is written once, else the bounded search. Durability, which asks
//! less and answers even when this cannot, is a check of its own.

mod certificate;
mod chains;
mod classify;
mod core;
mod dependencies;
mod frontier;
mod graph;
mod hint;
mod order;
mod path;
mod projection;
mod queue;
mod relevant;
mod search;
mod serial;
mod space;
mod stories;

pub use certificate::certify;
use relevant::relevant;

use std::borrow::Cow;

use crate::deadline::Deadline;
use crate::history::{Action, KeyHistory, Operation, Outcome, Value};
use crate::model::{Counter, Kv, List, ModelKind, Mutex, Queue, Register, Set, Txn};

/// Bounds of the search on one key.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Steps of the model.
    pub steps: u64,
    /// Bytes of configurations.
    pub memory: u64,
    /// Outer net; the only bound that is not deterministic.
    pub deadline: Deadline,
}

/// Which engine decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The fast one that fits, else the search.
    Portfolio,
    /// The search alone.
    Search,
}

/// What was found about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There is such an order.
    Valid,
    /// There is none.
    Invalid(Finding),
    /// The budget ended first.
    Unknown(Spent),
}

/// Why a key is not linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Field-standard class.
    pub class: &'static str,
    /// In a sentence.
    pub reason: String,
    /// A closed set of operations that has no valid order by itself, by invoke.
    pub core: Vec<Witness>,
    /// Elements of a list or set to which its reads are reduced; of transactions lists of key and element.
    pub elements: Option<Vec<Value>>,
    /// The clock ended the shrinking, so that the core may hold more than it needs, or the violation have no name.
    pub late: bool,
}

/// One operation of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Position in the operations that were judged.
    pub operation: usize,
    /// The operation, reduced to the elements that the finding is about: lists and sets may be judged element by element.
    pub action: Action,
    /// Its part in the story.
    pub note: String,
}

/// Where a search stood when its budget ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Which bound.
    pub bound: Bound,
    /// Everything that completed before this time could be ordered, or was not excluded.
    pub reached: u64,
    /// Indeterminate operations that were open there.
    pub open_unknown: usize,
    /// Steps taken.
    pub steps: u64,
}

/// A bound of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Budget::steps`].
    Steps,
    /// [`Budget::memory`].
    Memory,
    /// [`Budget::deadline`].
    Time,
    /// More than [`search::OPEN_MAX`] operations with known outcomes were open at one moment.
    Open,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bound::Steps => "the steps of its budget",
            Bound::Memory => "the memory of its budget",
            Bound::Time => "the time of its budget",
            Bound::Open => "the 128 operations that it can hold open at once",
        })
    }
}

/// An operation as the engines see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    /// Position in the judged operations.
    pub(crate) id: usize,
    pub(crate) call: u64,
    /// `u64::MAX` if nobody knows whether it happened.
    pub(crate) ret: u64,
    pub(crate) action: Action,
}

impl Op {
    /// Whether it may never have happened.
    pub(crate) fn unknown(&self) -> bool {
        self.ret == u64::MAX
    }
}

/// Judges the operations of one key, sorted by invoke.
pub fn judge(key: &KeyHistory, engine: Engine, budget: Budget) -> Judgement {
    let model = key.model;
    if budget.deadline.passed() {
        return Judgement::Unknown(Spent { bound: Bound::Time, reached: 0, open_unknown: 0, steps: 0 });
    }
    let mut violation = None;
    if engine == Engine::Portfolio && model.is_register() {
        let items = counted(&key.operations).map(|(id, o)| chains::Item {
            id,
            call: o.invoke,
            ret: o.end(),
            action: &o.action,
        });
        match chains::judge(items, &model.initial()) {
            chains::Verdict::Linearizable => return Judgement::Valid,
            chains::Verdict::Violation(seed) => violation = Some(seed),
            chains::Verdict::NotUnique => {}
        }
    }
    let ops = relevant(model, &key.operations);
    let about = classify::About { key, ops: &ops, deadline: budget.deadline.for_explaining() };
    if let Some(seed) = violation {
        let place = |id: &usize| ops.binary_search_by_key(id, |op| op.id).ok();
        return Judgement::Invalid(about.explain(seed.iter().filter_map(place).collect()));
    }
    if engine == Engine::Portfolio && matches!(model, ModelKind::ListAppend | ModelKind::Set) {
        match order::judge(model, &ops) {
            order::Verdict::Linearizable => return Judgement::Valid,
            order::Verdict::Violation(fault) => return Judgement::Invalid(about.explain_elements(fault)),
            order::Verdict::NotUnique => {}
        }
    }
    if engine == Engine::Portfolio && model == ModelKind::FifoQueue {
        match queue::judge(&ops) {
            queue::Verdict::Linearizable => return Judgement::Valid,
            queue::Verdict::Violation(seed) => return Judgement::Invalid(about.explain(seed)),
            queue::Verdict::NotTold => {}
        }
    }
    if engine == Engine::Portfolio && model == ModelKind::Txn {
        match dependencies::judge(&ops) {
            dependencies::Verdict::Linearizable(_) => return Judgement::Valid,
            dependencies::Verdict::Violation(fault) => {
                return Judgement::Invalid(about.explain_lists(&fault));
            }
            dependencies::Verdict::NotTold => {}
        }
    }
    if engine == Engine::Portfolio {
        if hint::order(key, &ops, budget.deadline).is_some() {
            return Judgement::Valid;
        }
        let serial = match model {
            ModelKind::Txn | ModelKind::TxnFrom(_) => serial::judge(&model.initial(), &ops, budget),
            _ => serial::Verdict::NotTold,
        };
        match serial {
            serial::Verdict::Linearizable(_) => return Judgement::Valid,
            serial::Verdict::Violation(seed, at) if model == ModelKind::Txn => {
                return Judgement::Invalid(about.explain_registers(seed, at));
            }
            serial::Verdict::Violation(seed, _) => return Judgement::Invalid(about.explain(seed)),
            serial::Verdict::Unknown(_) | serial::Verdict::NotTold => {}
        }
        if let Some(seed) = projection::wrong_key(model, &ops, budget) {
            return Judgement::Invalid(about.explain(seed));
        }
        if let serial::Verdict::Unknown(spent) = serial {
            return Judgement::Unknown(spent);
        }
    }
    for together in components(&ops) {
        match run(model, &together, budget, false) {
            search::Answer::Valid(_) => {}
            search::Answer::Unknown(spent) => return Judgement::Unknown(spent),
            search::Answer::Invalid { among } => {
                let place = |i: usize| ops.binary_search_by_key(&together[i].id, |op| op.id).ok();
                return Judgement::Invalid(about.explain(among.into_iter().filter_map(place).collect()));
            }
        }
    }
    Judgement::Valid
}

/// The operations that have to be ordered together: transactions without a common key, direct or through others, are none of each
/// other's business (Herlihy and Wing, locality).
fn components(ops: &[Op]) -> Vec<Cow<'_, [Op]>> {
    let mut group_of: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let mut parent: Vec<usize> = Vec::new();
    fn root(parent: &[usize], mut group: usize) -> usize {
        while parent[group] != group {
            group = parent[group];
        }
        group
    }
    let mut first: Vec<usize> = Vec::with_capacity(ops.len());
    for op in ops {
        let Action::Txn(steps) = &op.action else { return vec![Cow::Borrowed(ops)] };
        parent.push(parent.len());
        let mut group = parent.len() - 1;
        for step in steps.iter() {
            let other = root(&parent, *group_of.entry(step.key()).or_insert(group));
            // The older one stays: its chain is short.
            let (old, new) = (other.min(group), other.max(group));
            parent[new] = old;
            group = old;
        }
        first.push(parent.len() - 1);
    }
    let mut groups: std::collections::BTreeMap<usize, Vec<Op>> = std::collections::BTreeMap::new();
    for (op, group) in ops.iter().zip(first) {
        groups.entry(root(&parent, group)).or_default().push(op.clone());
    }
    groups.into_values().map(Cow::Owned).collect()
}

/// The search with the model of this kind.
pub(crate) fn run(model: ModelKind, ops: &[Op], budget: Budget, record: bool) -> search::Answer {
    match model {
        ModelKind::CasRegister | ModelKind::RegisterFrom(_) => {
            search::search(&Register { initial: model.initial() }, ops, budget, record)
        }
        ModelKind::ListAppend => search::search(&List, ops, budget, record),
        ModelKind::Set => search::search(&Set, ops, budget, record),
        ModelKind::Kv => search::search(&Kv::of(ops.iter().map(|op| &op.action)), ops, budget, record),
        ModelKind::Counter => search::search(&Counter, ops, budget, record),
        ModelKind::Mutex => search::search(&Mutex, ops, budget, record),
        ModelKind::FifoQueue => search::search(&Queue, ops, budget, record),
        ModelKind::Txn | ModelKind::TxnFrom(_) => {
            search::search(&Txn { initial: model.initial() }, ops, budget, record)
        }
    }
}

/// Operations that may have done something, with their positions.
fn counted(operations: &[Operation]) -> impl Iterator<Item = (usize, &Operation)> {
    operations
        .iter()
        .enumerate()
        .filter(|(_, o)| o.outcome == Outcome::Ok || (o.outcome == Outcome::Info && !o.action.reads_only()))
}

/// The smallest closed set of operations around `seed`: for each value that one of them observed, all that may have written it.
pub(crate) fn closed(key: &KeyHistory, seed: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let ops = relevant(key.model, &key.operations);
    let place = |id: usize| ops.binary_search_by_key(&id, |op| op.id).ok();
    let closure =
        core::Closure::new(key.model, &ops, Deadline::NEVER).close(seed.into_iter().filter_map(place));
    closure.into_iter().map(|i| ops[i].id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Clock, Micro, Phase};

    /// Operations that follow one another, each with a position.
    fn history(model: ModelKind, actions: &[Action]) -> KeyHistory {
        let operation = |(index, action): (u64, &Action)| Operation {
            index,
            process: 0,
            action: action.clone(),
            outcome: Outcome::Ok,
            ended: None,
            invoke: 2 * index,
            complete: Some(2 * index + 1),
            node: None,
            position: Some(index),
            phase: Phase::Load,
        };
        KeyHistory { model, clock: Clock::Lines, operations: (0..).zip(actions).map(operation).collect() }
    }

    fn list(items: &[i64]) -> Value {
        Value::List(items.iter().copied().map(Value::Int).collect())
    }

    #[test]
    fn the_engine_that_fits_takes_no_step_of_the_search() {
        let none = Budget { steps: 0, memory: 1 << 20, deadline: Deadline::NEVER };
        let one = || Value::from(1);
        let cases = [
            (ModelKind::CasRegister, vec![Action::Write(one()), Action::Read(one())]),
            (ModelKind::ListAppend, vec![Action::Append(one()), Action::Read(list(&[1]))]),
            (ModelKind::Set, vec![Action::Add(one()), Action::Read(list(&[1]))]),
            (ModelKind::FifoQueue, vec![Action::Enqueue(one()), Action::Dequeue(Some(one()))]),
            (ModelKind::Counter, vec![Action::Add(one()), Action::Read(one())]),
        ];
        for (model, actions) in cases {
            let mut key = history(model, &actions);
            assert_eq!(judge(&key, Engine::Portfolio, none), Judgement::Valid, "{model:?}");
            let search = judge(&key, Engine::Search, none);
            assert!(matches!(search, Judgement::Unknown(_)), "{model:?}: {search:?}");
            for operation in &mut key.operations {
                operation.position = None;
            }
            let told = judge(&key, Engine::Portfolio, none) == Judgement::Valid;
            assert_eq!(told, model != ModelKind::Counter, "sums are told by positions alone");
        }
    }

    #[test]
    fn what_a_register_holds_at_first_is_no_phantom() {
        let (write, read) = (Micro::Write("x".into(), 1.into()), Micro::Read("x".into(), Some(0.into())));
        let stale = [write, read].map(|step| Action::Txn([step].into()));
        let ample = Budget { steps: 1_000, memory: 1 << 20, deadline: Deadline::NEVER };
        let mut key = history(ModelKind::TxnFrom(0), &stale);
        key.operations.iter_mut().for_each(|operation| operation.position = None);
        let Judgement::Invalid(finding) = judge(&key, Engine::Portfolio, ample) else {
            panic!("0 was replaced")
        };
        assert_eq!((finding.class, finding.core.len()), ("lost write", 2), "{finding:?}");
        key.model = ModelKind::Txn;
        let Judgement::Invalid(finding) = judge(&key, Engine::Portfolio, ample) else {
            panic!("0 is of nobody")
        };
        assert_eq!((finding.class, finding.core.len()), ("phantom read", 1), "{finding:?}");
    }

    #[test]
    fn an_order_is_that_of_the_engine_that_decided() {
        let ample = Budget { steps: 1_000, memory: 1 << 20, deadline: Deadline::NEVER };
        let none = Budget { steps: 0, ..ample };
        let order = |model, actions: &[Action], positions: &[usize], budget| {
            let mut key = history(model, actions);
            for (operation, position) in key.operations.iter_mut().zip(positions) {
                operation.position = Some(*position as u64);
            }
            if positions.is_empty() {
                key.operations.iter_mut().for_each(|operation| operation.position = None);
            }
            certify(&key, budget)
        };
        let appended = |n: i64| Action::Append(n.into());
        let once = [Action::Read(Value::Nil), appended(2), Action::Read(list(&[2]))];
        assert_eq!(order(ModelKind::ListAppend, &once, &[], none), Some(vec![0, 1, 2]));
        let twice = [appended(2), Action::Read(list(&[2])), appended(2), Action::Read(list(&[2, 2]))];
        assert_eq!(order(ModelKind::ListAppend, &twice, &[], ample), Some(vec![0, 1, 2, 3]));
        assert_eq!(order(ModelKind::ListAppend, &twice, &[], none), None);
        let sums = [Action::Add(1.into()), Action::Read(1.into()), Action::Add(1.into())];
        assert_eq!(order(ModelKind::Counter, &sums, &[3, 4, 5], none), Some(vec![0, 1, 2]));
        assert_eq!(order(ModelKind::Counter, &sums, &[], ample), Some(vec![0, 1, 2]));
        assert_eq!(order(ModelKind::Counter, &sums, &[], none), None);
        let never = Budget { deadline: Deadline::after_looks(0).0, ..ample };
        assert_eq!(order(ModelKind::Counter, &sums, &[3, 4, 5], never), None);
    }

    #[test]
    fn transactions_are_ordered_together_if_keys_lead_from_one_to_the_other() {
        let txn = |keys: &str| {
            let write = |key: char| Micro::Write(key.to_string().into(), 1.into());
            Action::Txn(keys.chars().map(write).collect())
        };
        let groups = |keys: &[&str]| -> Vec<Vec<usize>> {
            let op = |(id, keys): (usize, &&str)| Op { id, call: 0, ret: 9, action: txn(keys) };
            let ops: Vec<Op> = keys.iter().enumerate().map(op).collect();
            components(&ops).iter().map(|group| group.iter().map(|op| op.id).collect()).collect()
        };
        assert_eq!(groups(&["a", "b", "a", "c", "b"]), [vec![0, 2], vec![1, 4], vec![3]]);
        assert_eq!(groups(&["a", "b", "c", "cb", "d", "ab"]), [vec![0, 1, 2, 3, 5], vec![4]]);
        let register = [Op { id: 0, call: 0, ret: 9, action: Action::Write(1.into()) }];
        assert_eq!(components(&register).len(), 1);
    }
}
