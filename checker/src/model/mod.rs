//! What a key is allowed to do: the sequential specifications, one file each, behind one small trait.
//! In which order operations are tried is the engines' business.

mod counter;
mod kv;
mod list;
mod mutex;
mod queue;
mod register;
mod set;
mod txn;

pub use counter::Counter;
pub use kv::Kv;
pub use list::List;
pub use mutex::Mutex;
pub use queue::Queue;
pub use register::Register;
pub use set::Set;
pub use txn::Txn;

use std::hash::Hash;

use crate::history::{Action, Value};

/// A sequential specification.
pub trait Model {
    /// What the key holds between two operations.
    type State: Clone + Eq + Hash;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `action`, or `None` if the result that it claims is impossible in `state`.
    /// An action that [`Action::reads_only`] returns an equal state.
    fn step(&self, state: &Self::State, action: &Action) -> Option<Self::State>;

    /// About how many bytes a state takes beyond its own size.
    fn size(&self, state: &Self::State) -> usize;

    /// Whether the action is possible in every state and leads from all of them to one and the same, as a plain write does. What
    /// came right before such an action leaves no trace, which saves the search most of its work. `false` is always right.
    fn overwrites(&self, _action: &Action) -> bool {
        false
    }

    /// Every state that these actions can lead to, if they are few: it allows proofs that look at a part of a history only.
    fn states(&self, _actions: &[&Action]) -> Option<Vec<Self::State>> {
        None
    }
}

/// The models by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModelKind {
    /// [`Register`], absent at first.
    CasRegister,
    /// [`List`].
    ListAppend,
    /// [`Set`].
    Set,
    /// [`Kv`].
    Kv,
    /// [`Counter`].
    Counter,
    /// [`Register`] that begins with this number.
    RegisterFrom(i64),
    /// [`Mutex`].
    Mutex,
    /// [`Queue`].
    FifoQueue,
    /// [`Txn`] over keys that are absent at first.
    Txn,
    /// [`Txn`] over registers that begin with this number.
    TxnFrom(i64),
}

impl ModelKind {
    /// Names that a header may use.
    pub const NAMES: [&str; 8] =
        ["cas-register", "list-append", "set", "kv", "counter", "mutex", "fifo-queue", "txn"];

    /// The model of this name; `cas-register=0` and `txn=0` begin with that number.
    pub fn from_name(name: &str) -> Option<ModelKind> {
        if let Some((name, initial)) = name.split_once('=') {
            let initial = initial.parse().ok()?;
            return match name {
                "cas-register" => Some(ModelKind::RegisterFrom(initial)),
                "txn" => Some(ModelKind::TxnFrom(initial)),
                _ => None,
            };
        }
        Some(match name {
            "cas-register" => ModelKind::CasRegister,
            "list-append" => ModelKind::ListAppend,
            "set" => ModelKind::Set,
            "kv" => ModelKind::Kv,
            "counter" => ModelKind::Counter,
            "mutex" => ModelKind::Mutex,
            "fifo-queue" => ModelKind::FifoQueue,
            "txn" => ModelKind::Txn,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::CasRegister | ModelKind::RegisterFrom(_) => "cas-register",
            ModelKind::ListAppend => "list-append",
            ModelKind::Set => "set",
            ModelKind::Kv => "kv",
            ModelKind::Counter => "counter",
            ModelKind::Mutex => "mutex",
            ModelKind::FifoQueue => "fifo-queue",
            ModelKind::Txn | ModelKind::TxnFrom(_) => "txn",
        }
    }

    /// Its name with what it begins with, as [`ModelKind::from_name`] reads it.
    pub fn full_name(self) -> String {
        match self {
            ModelKind::RegisterFrom(n) | ModelKind::TxnFrom(n) => format!("{}={n}", self.name()),
            _ => self.name().to_owned(),
        }
    }

    /// What a key of this kind reads as before the first operation.
    pub fn initial(self) -> Value {
        match self {
            ModelKind::RegisterFrom(n) | ModelKind::TxnFrom(n) => Value::Int(n),
            // Of a mutex: it is free.
            ModelKind::Counter | ModelKind::Mutex => Value::Int(0),
            ModelKind::CasRegister
            | ModelKind::ListAppend
            | ModelKind::Set
            | ModelKind::Kv
            | ModelKind::FifoQueue
            | ModelKind::Txn => Value::Nil,
        }
    }

    /// Whether keys of this kind hold one value that a write replaces.
    pub fn is_register(self) -> bool {
        matches!(self, ModelKind::CasRegister | ModelKind::RegisterFrom(_) | ModelKind::Mutex)
    }

    /// Whether the action is one of this model and its values have the right shape.
    pub fn admits(self, action: &Action) -> bool {
        let single = |v: &Value| !matches!(v, Value::List(_));
        match (self, action) {
            (ModelKind::CasRegister | ModelKind::RegisterFrom(_), Action::Read(v) | Action::Write(v)) => {
                single(v)
            }
            (ModelKind::CasRegister | ModelKind::RegisterFrom(_), Action::Cas(a, b)) => {
                single(a) && single(b)
            }
            (ModelKind::CasRegister | ModelKind::RegisterFrom(_), Action::CasMismatch(_, _, v)) => single(v),
            (ModelKind::ListAppend, Action::Append(_)) | (ModelKind::Set, Action::Add(_)) => true,
            (ModelKind::ListAppend | ModelKind::Set, Action::Read(v)) => v.elements().is_some(),
            (ModelKind::Kv, Action::Read(v)) => matches!(v, Value::Nil | Value::Text(_)),
            (ModelKind::Kv, Action::Write(Value::Nil)) => true,
            (ModelKind::Kv, Action::Write(v) | Action::Append(v)) => matches!(v, Value::Text(_)),
            (ModelKind::Counter, Action::Read(v)) => matches!(v, Value::Nil | Value::Int(_)),
            (ModelKind::Counter, Action::Add(v)) => matches!(v, Value::Int(_)),
            (ModelKind::Mutex, Action::Acquire | Action::Release)
            | (ModelKind::FifoQueue, Action::Enqueue(_) | Action::Dequeue(_))
            | (ModelKind::Txn | ModelKind::TxnFrom(_), Action::Txn(_)) => true,
            _ => false,
        }
    }

    /// Whether a read shows what each operation before it brought, and not only their sum.
    pub fn shows_parts(self) -> bool {
        !matches!(self, ModelKind::Kv | ModelKind::Counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_its_name_and_admits_its_own_values() {
        for name in ModelKind::NAMES {
            let model = ModelKind::from_name(name).unwrap();
            assert_eq!((model.name(), model.full_name().as_str()), (name, name));
        }
        for name in ["cas-register=-3", "txn=7"] {
            assert_eq!(ModelKind::from_name(name).unwrap().full_name(), name);
        }
        assert_eq!(ModelKind::from_name("cas-register=7"), Some(ModelKind::RegisterFrom(7)));
        for name in ["queue", "set=1", "txn=x"] {
            assert_eq!(ModelKind::from_name(name), None, "{name}");
        }
        let (n, list, text) = (Value::Int(1), Value::List([].into()), Value::Text("a".into()));
        let cas = |a: &Value, b: &Value| Action::Cas(a.clone(), b.clone());
        for register in [ModelKind::CasRegister, ModelKind::RegisterFrom(0)] {
            assert!(register.admits(&cas(&n, &text)));
            assert!(!register.admits(&cas(&list, &n)) && !register.admits(&cas(&n, &list)));
        }
        assert!(ModelKind::Kv.admits(&Action::Write(Value::Nil)), "a delete");
        assert!(!ModelKind::Kv.admits(&Action::Append(Value::Nil)));
    }

    #[test]
    fn a_state_is_charged_what_it_holds_beyond_itself() {
        let value = size_of::<Value>();
        let two = || [1, 2].map(Value::Int);
        assert_eq!((Counter.size(&7), Mutex.size(&true)), (0, 0));
        assert_eq!(Register { initial: Value::Nil }.size(&1.into()), 0);
        let kv = Kv::of([Action::Read(Value::Nil)].iter());
        assert_eq!(kv.initial(), Some(String::new()));
        assert_eq!((kv.size(&None), kv.size(&Some("abc".into()))), (0, 3));
        assert_eq!(List.size(&two().into()), 2 * value);
        assert_eq!(Set.size(&[1, 2, 3].map(Value::Int).into()), 6 * value);
        let queue = std::collections::VecDeque::from(two());
        assert_eq!(Queue.size(&queue), queue.capacity() * value);
        let keys = [("x", 1.into()), ("l", Value::List(two().into()))].map(|(key, held)| (key.into(), held));
        let entry = size_of::<(std::sync::Arc<str>, Value)>();
        assert_eq!(Txn { initial: Value::Nil }.size(&keys.into()), 4 * entry + 2 * value);
    }

    #[test]
    fn states_that_are_few_are_told() {
        assert_eq!(Mutex.states(&[]), Some(vec![false, true]));
        let states = |writes: i64| {
            let writes: Vec<Action> = (1..=writes).map(|v| Action::Write(v.into())).collect();
            Register { initial: Value::Nil }.states(&writes.iter().collect::<Vec<_>>())
        };
        assert_eq!(states(2), Some(vec![Value::Nil, 1.into(), 2.into()]));
        assert_eq!((states(63).map(|states| states.len()), states(64)), (Some(64), None));
        let overwrites = |model: &dyn Fn(&Action) -> bool| {
            [Action::Write(1.into()), Action::Append(1.into())].map(|action| model(&action))
        };
        let kv = Kv::of([].iter());
        assert_eq!(overwrites(&|action| kv.overwrites(action)), [true, false]);
        let register = Register { initial: Value::Nil };
        assert_eq!(overwrites(&|action| register.overwrites(action)), [true, false]);
    }

    #[test]
    fn what_a_model_does_not_tell_of_itself_is_not_assumed() {
        assert!(!List.overwrites(&Action::Append(1.into())));
        assert_eq!(Queue.states(&[]), None);
    }
}
