//! What became of each acknowledged write: seen at the end, overwritten, lost, or beyond what was recorded. Answers in linear time
//! even where linearizability cannot. The end is what the final reads saw and what each node's own state holds.
//!
//! A node that lags is not at fault: its state speaks only of log indexes that it has applied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::deadline::Deadline;
use crate::history::{History, KeyHistory, Operation, Outcome, Phase, Value};
use crate::linearizability;
use crate::report::Durability;

/// Acknowledged writes between two looks at the clock, each of which is looked for in every view.
const CLOCK_WRITES: usize = 64;

/// A node's own applied state at the end, as the harness wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeState {
    /// Its name.
    pub node: String,
    /// Last log index in the state.
    pub last_applied: u64,
    /// Last log index in any of the values, if they were not all read at one; as `last_applied` if they were.
    #[serde(default)]
    until: Option<u64>,
    /// The whole state.
    #[serde(default)]
    pub(crate) image: Option<Image>,
    /// Keys that are present.
    values: BTreeMap<String, serde_json::Value>,
}

/// A whole state as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Image {
    /// Last log index in it.
    pub(crate) index: u64,
    /// Of its bytes, as the system itself makes it.
    pub(crate) hash: String,
}

/// Why a node's state could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct StateError {
    path: PathBuf,
    reason: String,
}

impl NodeState {
    /// Reads a `state.json`.
    ///
    /// # Errors
    /// The file cannot be read or is not a state.
    pub fn read(path: &Path) -> Result<NodeState, StateError> {
        let error = |reason: String| StateError { path: path.to_owned(), reason };
        let bytes = fs::read(path).map_err(|e| error(e.to_string()))?;
        let state: NodeState = serde_json::from_slice(&bytes).map_err(|e| error(e.to_string()))?;
        match state.values.iter().find(|(_, json)| Value::from_json(json).is_none()) {
            Some((key, json)) => Err(error(format!("{json} is no value of key {key:?}"))),
            None => Ok(state),
        }
    }

    /// The one log index at which all values were read.
    pub(crate) fn settled(&self) -> Option<u64> {
        self.until.filter(|until| *until == self.last_applied)
    }

    /// The first key of which two nodes hold different values; null is absent.
    pub(crate) fn first_difference<'a>(&'a self, other: &'a NodeState) -> Option<&'a str> {
        let keys = self.values.keys().chain(other.values.keys());
        keys.map(String::as_str).find(|key| self.told(key) != other.told(key))
    }

    /// What was written down of a key.
    pub(crate) fn told(&self, key: &str) -> &serde_json::Value {
        self.values.get(key).unwrap_or(&serde_json::Value::Null)
    }

    fn value(&self, key: &str) -> Value {
        self.values.get(key).and_then(Value::from_json).unwrap_or(Value::Nil)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// How many writes came to which end.
    pub counts: Durability,
    /// One a key at most: the most telling.
    pub losses: Vec<Loss>,
    /// The first key that was not, or not wholly, looked at before the deadline. The writes of these are indeterminate.
    pub late: Option<String>,
}

/// A write that is gone, or something in a node's state that does not belong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Object.
    pub key: String,
    /// Field-standard class.
    pub class: &'static str,
    /// In a sentence.
    pub reason: String,
    /// Positions in the key's operations, each with its part in the story: a closed set.
    pub operations: Vec<(usize, String)>,
    /// What nodes held.
    pub events: Vec<String>,
}

/// Looks at the clock until it has passed.
struct Look {
    deadline: Deadline,
    passed: bool,
}

impl Look {
    fn passed(&mut self) -> bool {
        self.passed = self.passed || self.deadline.passed();
        self.passed
    }
}

/// One look at a key after everything.
struct View {
    value: Value,
    seer: Seer,
}

enum Seer {
    /// A final read, by its position in the key's operations.
    Read(usize),
    /// A node's state: its name and last applied index.
    State(String, u64),
}

/// Accounts for every acknowledged write.
pub fn judge(history: &History, states: &[NodeState], deadline: Deadline) -> Accounts {
    let mut accounts = Accounts::default();
    for (key, of_key) in &history.keys {
        if accounts.late.is_some() || deadline.passed() {
            accounts.late.get_or_insert_with(|| key.clone());
            accounts.counts.indeterminate += acknowledged(of_key).count() as u64;
            continue;
        }
        let views = views(key, of_key, states);
        let mut look = Look { deadline, passed: false };
        let loss = if of_key.model.is_register() {
            register(key, of_key, &views, &mut accounts.counts, &mut look)
        } else {
            elements(key, of_key, &views, &mut accounts.counts, &mut look)
        };
        accounts.losses.extend(loss);
        accounts.late = look.passed.then(|| key.clone());
    }
    accounts
}

/// The final reads, or where a history has no final phase the last read; and the states.
fn views(key: &str, of_key: &KeyHistory, states: &[NodeState]) -> Vec<View> {
    let reads =
        || of_key.operations.iter().enumerate().filter(|(_, o)| o.outcome == Outcome::Ok && is_read(o));
    let mut finals: Vec<usize> = reads().filter(|(_, o)| o.phase == Phase::Final).map(|(i, _)| i).collect();
    if finals.is_empty() {
        finals.extend(reads().next_back().map(|(i, _)| i));
    }
    let of_read = |i: usize| View {
        value: of_key.operations[i].action.observes().cloned().unwrap_or(Value::Nil),
        seer: Seer::Read(i),
    };
    let of_state =
        |s: &NodeState| View { value: s.value(key), seer: Seer::State(s.node.clone(), s.last_applied) };
    finals.into_iter().map(of_read).chain(states.iter().map(of_state)).collect()
}

fn is_read(operation: &Operation) -> bool {
    operation.action.reads_only()
}

impl View {
    /// Whether the acknowledged write must be visible here, unless something replaced it.
    fn covers(&self, of_key: &KeyHistory, write: &Operation) -> bool {
        match &self.seer {
            Seer::Read(read) => write.precedes(&of_key.operations[*read]),
            Seer::State(_, last_applied) => write.position.is_some_and(|position| position <= *last_applied),
        }
    }

    fn tell(&self, key: &str) -> Option<String> {
        match &self.seer {
            Seer::Read(_) => None,
            Seer::State(node, last_applied) => Some(format!(
                "{node} holds {key}={} at index {last_applied}   (nodes/{node}/state.json)",
                self.value
            )),
        }
    }

    fn place(&self, of_key: &KeyHistory) -> String {
        match &self.seer {
            Seer::Read(i) => {
                let read = &of_key.operations[*i];
                let which = if read.phase == Phase::Final { "the final read" } else { "the last read" };
                let node = read.node.as_ref().map(|node| format!(" through {node}")).unwrap_or_default();
                format!("{which}{node} at {}", of_key.clock.show(read.end()))
            }
            Seer::State(node, last_applied) => format!("the state of {node} at index {last_applied}"),
        }
    }

    /// The closed set of operations around these, with the reader if there is one.
    fn evidence(
        &self,
        of_key: &KeyHistory,
        notes: Vec<(usize, String)>,
        seen: &[usize],
    ) -> Vec<(usize, String)> {
        let reader = match self.seer {
            Seer::Read(i) => Some(i),
            Seer::State(..) => None,
        };
        let seed = notes.iter().map(|(i, _)| *i).chain(seen.iter().copied()).chain(reader);
        let note =
            |i: usize| notes.iter().find(|(op, _)| *op == i).map(|(_, n)| n.clone()).unwrap_or_default();
        linearizability::closed(of_key, seed).into_iter().map(|i| (i, note(i))).collect()
    }
}

/// Acknowledged mutations of a key.
fn acknowledged(of_key: &KeyHistory) -> impl Iterator<Item = (usize, &Operation, &Value)> {
    let acked = of_key.operations.iter().enumerate().filter(|(_, o)| o.outcome == Outcome::Ok);
    acked.filter_map(|(i, o)| Some((i, o, o.action.brings()?)))
}

fn register(
    key: &str,
    of_key: &KeyHistory,
    views: &[View],
    counts: &mut Durability,
    look: &mut Look,
) -> Option<Loss> {
    let operations = &of_key.operations;
    let mut found: Option<Loss> = None;
    let mut lost: HashSet<usize> = HashSet::new();
    for view in views {
        if look.passed() {
            break;
        }
        let wrote = |o: &Operation| o.outcome != Outcome::Fail && o.action.brings() == Some(&view.value);
        let seen: Vec<usize> = (0..operations.len()).filter(|i| wrote(&operations[*i])).collect();
        if seen.is_empty() && view.value != of_key.model.initial() {
            if let Seer::State(node, _) = &view.seer {
                found.get_or_insert_with(|| stranger(key, of_key, view, node, &view.value));
            }
            continue;
        }
        // The value seen is older than this write, and nobody can have brought it back.
        let gone = acknowledged(of_key).filter(|(_, write, value)| {
            **value != view.value
                && view.covers(of_key, write)
                && seen.iter().all(|writer| operations[*writer].precedes(write))
        });
        let Some((i, write, value)) = gone.last() else { continue };
        lost.insert(i);
        found.get_or_insert_with(|| Loss {
            key: key.to_owned(),
            class: "lost write",
            reason: format!(
                "{value} was acknowledged at {}, but {} shows {}, which is older",
                of_key.clock.show(write.end()),
                view.place(of_key),
                view.value
            ),
            operations: view.evidence(of_key, vec![(i, "acknowledged".into())], &seen),
            events: view.tell(key).into_iter().collect(),
        });
    }
    let shown: HashSet<&Value> = views.iter().map(|view| &view.value).collect();
    let latest = latest(of_key, views);
    for (i, write, value) in acknowledged(of_key) {
        let place = if lost.contains(&i) {
            &mut counts.lost
        } else if shown.contains(value) {
            &mut counts.stable
        } else if !look.passed && latest.iter().any(|view| view.covers(of_key, write)) {
            &mut counts.overwritten
        } else {
            &mut counts.indeterminate
        };
        *place += 1;
    }
    found
}

/// The read and the state that cover what any of the views covers.
fn latest<'a>(of_key: &KeyHistory, views: &'a [View]) -> Vec<&'a View> {
    let read = |view: &&View| match view.seer {
        Seer::Read(i) => Some(of_key.operations[i].invoke),
        Seer::State(..) => None,
    };
    let state = |view: &&View| match view.seer {
        Seer::Read(_) => None,
        Seer::State(_, last_applied) => Some(last_applied),
    };
    let read = views.iter().filter(|view| read(view).is_some()).max_by_key(read);
    let state = views.iter().filter(|view| state(view).is_some()).max_by_key(state);
    read.into_iter().chain(state).collect()
}

fn elements(
    key: &str,
    of_key: &KeyHistory,
    views: &[View],
    counts: &mut Durability,
    look: &mut Look,
) -> Option<Loss> {
    let mut held: Vec<Option<HashSet<&Value>>> = Vec::with_capacity(views.len());
    for view in views {
        if !look.passed() {
            held.push(parts(of_key, view).map(|parts| parts.iter().collect()));
        }
    }
    let mut found = None;
    for (nth, (i, write, element)) in acknowledged(of_key).enumerate() {
        if look.passed || (nth.is_multiple_of(CLOCK_WRITES) && look.passed()) {
            counts.indeterminate += 1;
            continue;
        }
        let mut covering = views.iter().zip(&held).filter_map(|(view, held)| {
            let held = held.as_ref()?;
            view.covers(of_key, write).then_some((view, held))
        });
        let mut looked = false;
        let missing = covering.find(|(_, held)| {
            looked = true;
            !held.contains(element)
        });
        let Some((view, _)) = missing else {
            *(if looked { &mut counts.stable } else { &mut counts.indeterminate }) += 1;
            continue;
        };
        counts.lost += 1;
        found.get_or_insert_with(|| {
            let mut operations = vec![(i, "acknowledged".to_owned())];
            if let Seer::Read(read) = view.seer {
                operations.push((read, format!("misses {element}")));
            }
            Loss {
                key: key.to_owned(),
                class: "lost write",
                reason: format!(
                    "{element} was acknowledged at {}, but {} misses it",
                    of_key.clock.show(write.end()),
                    view.place(of_key)
                ),
                operations,
                events: view.tell(key).into_iter().collect(),
            }
        });
    }
    if look.passed {
        return found;
    }
    found.or_else(|| states_hold_each_element_once(key, of_key, views))
}

/// The elements that the view shows, if values of the key have any.
fn parts<'a>(of_key: &KeyHistory, view: &'a View) -> Option<&'a [Value]> {
    if of_key.model.shows_parts() { view.value.elements() } else { None }
}

/// What nobody brought, or what was brought once and is there twice, in a node's own state. In reads both are
/// linearizability's business.
fn states_hold_each_element_once(key: &str, of_key: &KeyHistory, views: &[View]) -> Option<Loss> {
    let mut bringers: HashMap<&Value, Vec<usize>> = HashMap::new();
    for (i, operation) in of_key.operations.iter().enumerate().filter(|(_, o)| o.outcome != Outcome::Fail) {
        if let Some(element) = operation.action.brings() {
            bringers.entry(element).or_default().push(i);
        }
    }
    for view in views {
        let (Seer::State(node, _), Some(held)) = (&view.seer, parts(of_key, view)) else { continue };
        let mut times: HashMap<&Value, usize> = HashMap::new();
        for element in held {
            let times = times.entry(element).or_default();
            *times += 1;
            match bringers.get(element) {
                None => return Some(stranger(key, of_key, view, node, element)),
                Some(bringers) if bringers.len() < *times => {
                    return Some(Loss {
                        key: key.to_owned(),
                        class: "duplicate apply",
                        reason: format!(
                            "{element} was brought once, but {} holds it twice",
                            view.place(of_key)
                        ),
                        operations: bringers.iter().map(|i| (*i, String::new())).collect(),
                        events: view.tell(key).into_iter().collect(),
                    });
                }
                Some(_) => {}
            }
        }
    }
    None
}

/// Something in a node's state that nobody can have put there.
fn stranger(key: &str, of_key: &KeyHistory, view: &View, node: &str, value: &Value) -> Loss {
    let failed =
        of_key.operations.iter().position(|o| o.outcome == Outcome::Fail && o.action.brings() == Some(value));
    let (class, who) = match failed {
        Some(_) => ("aborted write", "the operation that brings it failed"),
        None => ("phantom write", "nobody wrote it"),
    };
    Loss {
        key: key.to_owned(),
        class,
        reason: format!("the state of {node} holds {value}, but {who}"),
        operations: failed.map(|i| (i, "definitely did not happen".to_owned())).into_iter().collect(),
        events: view.tell(key).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Clock};
    use crate::model::ModelKind;

    fn op(invoke: u64, complete: u64, outcome: Outcome, action: Action, position: Option<u64>) -> Operation {
        Operation {
            index: invoke,
            process: invoke,
            action,
            outcome,
            ended: None,
            invoke,
            complete: Some(complete),
            node: None,
            position,
            phase: if invoke >= 100 { Phase::Final } else { Phase::Load },
        }
    }

    fn write(invoke: u64, complete: u64, v: i64, position: u64) -> Operation {
        op(invoke, complete, Outcome::Ok, Action::Write(v.into()), Some(position))
    }

    fn read(invoke: u64, value: Value) -> Operation {
        op(invoke, invoke + 1, Outcome::Ok, Action::Read(value), None)
    }

    fn list(items: &[i64]) -> Value {
        Value::List(items.iter().copied().map(Value::Int).collect())
    }

    fn state(last_applied: u64, value: &str) -> NodeState {
        let text = format!(r#"{{"node":"n3","last_applied":{last_applied},"values":{{"k":{value}}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn accounts(
        model: ModelKind,
        operations: Vec<Operation>,
        states: &[NodeState],
        deadline: Deadline,
    ) -> Accounts {
        let header = serde_json::from_str(
            r#"{"format":"","version":"","workload":"","models":{},"clock":"","nodes":[]}"#,
        )
        .unwrap();
        let keys = [("k".to_owned(), KeyHistory { model, clock: Clock::Nanoseconds, operations })].into();
        judge(
            &History {
                header,
                clock: Clock::Nanoseconds,
                keys,
                nemesis: Vec::new(),
                torn: false,
                unread: None,
                bytes: 0,
                warnings: Vec::new(),
            },
            states,
            deadline,
        )
    }

    fn counts(stable: u64, overwritten: u64, lost: u64, indeterminate: u64) -> Durability {
        Durability { stable, overwritten, lost, indeterminate }
    }

    /// Asserts counts and the class of the loss.
    fn check(
        model: ModelKind,
        operations: &[Operation],
        states: &[NodeState],
        expected: Durability,
        class: Option<&str>,
    ) -> Option<Loss> {
        let accounts = accounts(model, operations.to_vec(), states, Deadline::NEVER);
        assert_eq!(accounts.counts, expected, "{accounts:?}");
        assert_eq!(accounts.losses.first().map(|loss| loss.class), class, "{accounts:?}");
        accounts.losses.into_iter().next()
    }

    const REGISTER: ModelKind = ModelKind::CasRegister;
    const LIST: ModelKind = ModelKind::ListAppend;

    #[test]
    fn a_register_that_ends_older_than_an_acknowledged_write_lost_it() {
        let writes = [write(0, 1, 1, 1), write(2, 3, 2, 2)];
        let ends = |value| [&writes[..], &[read(100, value)]].concat();
        check(REGISTER, &ends(2.into()), &[], counts(1, 1, 0, 0), None);
        let loss = check(REGISTER, &ends(1.into()), &[], counts(1, 0, 1, 0), Some("lost write")).unwrap();
        assert_eq!(loss.operations.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1, 2]);
        let acknowledged = "2 was acknowledged at 0.000 s, but";
        let older = "shows 1, which is older";
        assert_eq!(loss.reason, format!("{acknowledged} the final read at 0.000 s {older}"));
        // Where there is no final phase the last read counts, and where there is one no other.
        let unfinished = [&writes[..], &[read(4, 2.into()), read(6, 1.into())]].concat();
        let last = check(REGISTER, &unfinished, &[], counts(1, 0, 1, 0), Some("lost write")).unwrap().reason;
        assert_eq!(last, format!("{acknowledged} the last read at 0.000 s {older}"));
        let early = [&ends(2.into())[..], &[read(4, 1.into())]].concat();
        check(REGISTER, &early, &[], counts(1, 1, 0, 0), None);
        check(REGISTER, &ends(Value::Nil), &[], counts(0, 1, 1, 0), Some("lost write"));
        check(REGISTER, &writes, &[], counts(0, 0, 0, 2), None);
        let concurrent = [write(0, 2, 1, 1), write(2, 3, 2, 2), read(100, 1.into())];
        check(REGISTER, &concurrent, &[], counts(1, 1, 0, 0), None);
        let unknown = op(0, 1, Outcome::Info, Action::Write(9.into()), None);
        check(REGISTER, &[&[unknown][..], &ends(9.into())].concat(), &[], counts(0, 2, 0, 0), None);
    }

    #[test]
    fn a_node_is_held_to_what_it_applied() {
        let writes = [write(0, 1, 1, 5), write(2, 3, 2, 9), read(100, 2.into())];
        check(REGISTER, &writes, &[state(9, "2")], counts(1, 1, 0, 0), None);
        check(REGISTER, &writes, &[state(8, "1")], counts(2, 0, 0, 0), None);
        let loss =
            check(REGISTER, &writes, &[state(9, "1")], counts(1, 0, 1, 0), Some("lost write")).unwrap();
        assert_eq!(loss.events, ["n3 holds k=1 at index 9   (nodes/n3/state.json)"]);
        check(REGISTER, &writes, &[state(4, "null")], counts(1, 1, 0, 0), None);
        check(REGISTER, &writes, &[state(5, "null")], counts(1, 0, 1, 0), Some("lost write"));
        check(REGISTER, &writes, &[state(9, "7")], counts(1, 1, 0, 0), Some("phantom write"));
        let failed = op(4, 5, Outcome::Fail, Action::Write(7.into()), None);
        let with_failed = [&writes[..], &[failed]].concat();
        for (held, class) in [("7", "aborted write"), ("8", "phantom write")] {
            check(REGISTER, &with_failed, &[state(9, held)], counts(1, 1, 0, 0), Some(class));
        }
    }

    #[test]
    fn every_acknowledged_element_is_in_every_final_view() {
        let append = |invoke, v: i64, position| {
            op(invoke, invoke + 1, Outcome::Ok, Action::Append(v.into()), Some(position))
        };
        let appends = [append(0, 1, 3), append(2, 2, 4)];
        let ends = |items: &[i64]| [&appends[..], &[read(100, list(items))]].concat();
        check(LIST, &ends(&[1, 2]), &[state(4, "[1,2]"), state(3, "[1]")], counts(2, 0, 0, 0), None);
        let loss = check(LIST, &ends(&[1]), &[], counts(1, 0, 1, 0), Some("lost write")).unwrap();
        assert_eq!(loss.operations, [(1, "acknowledged".to_owned()), (2, "misses 2".to_owned())]);
        check(LIST, &ends(&[1, 2]), &[state(4, "[1]")], counts(1, 0, 1, 0), Some("lost write"));
        check(LIST, &appends, &[], counts(0, 0, 0, 2), None);
        check(LIST, &ends(&[1, 2]), &[state(4, "[1,2,2]")], counts(2, 0, 0, 0), Some("duplicate apply"));
        check(LIST, &ends(&[1, 2]), &[state(4, "[1,2,5]")], counts(2, 0, 0, 0), Some("phantom write"));
    }

    #[test]
    fn what_is_not_looked_at_in_time_is_indeterminate() {
        let append = |invoke, v: i64| op(invoke, invoke + 1, Outcome::Ok, Action::Append(v.into()), None);
        let lists = vec![append(0, 1), append(2, 2), read(100, list(&[1, 2]))];
        let registers = vec![write(0, 1, 1, 1), write(2, 3, 2, 2), read(100, 2.into())];
        // One look for the key, one for its view, one for its first elements.
        for (model, operations, looks) in [(REGISTER, registers, 2), (LIST, lists, 3)] {
            let after = |looks| accounts(model, operations.clone(), &[], Deadline::after_looks(looks).0);
            for few in 0..looks {
                let late = after(few);
                assert_eq!(late.late.as_deref(), Some("k"), "{model:?} after {few}");
                let not_shown =
                    if model == REGISTER && few > 0 { counts(1, 0, 0, 1) } else { counts(0, 0, 0, 2) };
                assert_eq!(late.counts, not_shown, "{model:?} after {few}");
            }
            assert_eq!(after(looks).late, None, "{model:?}");
        }
    }

    #[test]
    fn a_state_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        std::fs::write(&path, r#"{"node":"n1","last_applied":1,"values":{"k":{}}}"#).unwrap();
        assert!(
            NodeState::read(&path)
                .unwrap_err()
                .to_string()
                .ends_with("state.json: {} is no value of key \"k\"")
        );
        std::fs::write(&path, "{").unwrap();
        assert!(NodeState::read(&path).is_err());
    }
}
