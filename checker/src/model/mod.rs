//! What a key is allowed to do: the sequential specifications, one file each, behind one small trait.
//! In which order operations are tried is the engines' business.

mod counter;
mod kv;
mod list;
mod register;
mod set;

pub use counter::Counter;
pub use kv::Kv;
pub use list::List;
pub use register::Register;
pub use set::Set;

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
}

impl ModelKind {
    /// Names that a header may use.
    pub const NAMES: [&str; 5] = ["cas-register", "list-append", "set", "kv", "counter"];

    /// The model of this name.
    pub fn from_name(name: &str) -> Option<ModelKind> {
        Some(match name {
            "cas-register" => ModelKind::CasRegister,
            "list-append" => ModelKind::ListAppend,
            "set" => ModelKind::Set,
            "kv" => ModelKind::Kv,
            "counter" => ModelKind::Counter,
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
        }
    }

    /// What a key of this kind reads as before the first operation.
    pub fn initial(self) -> Value {
        match self {
            ModelKind::RegisterFrom(n) => Value::Int(n),
            ModelKind::Counter => Value::Int(0),
            ModelKind::CasRegister | ModelKind::ListAppend | ModelKind::Set | ModelKind::Kv => Value::Nil,
        }
    }

    /// Whether keys of this kind hold one value that a write replaces.
    pub fn is_register(self) -> bool {
        matches!(self, ModelKind::CasRegister | ModelKind::RegisterFrom(_))
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
            (ModelKind::Kv, Action::Write(v) | Action::Append(v)) => matches!(v, Value::Text(_)),
            (ModelKind::Counter, Action::Read(v)) => matches!(v, Value::Nil | Value::Int(_)),
            (ModelKind::Counter, Action::Add(v)) => matches!(v, Value::Int(_)),
            _ => false,
        }
    }

    /// Whether a read shows what each operation before it brought, and not only their sum.
    pub fn shows_parts(self) -> bool {
        !matches!(self, ModelKind::Kv | ModelKind::Counter)
    }
}
