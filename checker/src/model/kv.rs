//! A text that can be put, appended to and read: the key-value model of Porcupine's histories.
//! An absent key reads as the empty text.

use super::Model;
use crate::history::{Action, Value};

/// A text register with append.
#[derive(Clone, Debug)]
pub struct Kv;

impl Model for Kv {
    type State = String;

    fn initial(&self) -> String {
        String::new()
    }

    fn step(&self, state: &String, action: &Action) -> Option<String> {
        match action {
            Action::Read(Value::Nil) => state.is_empty().then(String::new),
            Action::Read(Value::Text(text)) => (**text == **state).then(|| state.clone()),
            Action::Write(Value::Nil) => Some(String::new()),
            Action::Write(Value::Text(text)) => Some(text.to_string()),
            Action::Append(Value::Text(text)) => Some(format!("{state}{text}")),
            _ => None,
        }
    }

    fn size(&self, state: &String) -> usize {
        state.len()
    }

    fn overwrites(&self, action: &Action) -> bool {
        matches!(action, Action::Write(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_put_and_appended_to() {
        let text = |s: &str| Value::Text(s.into());
        let state = Kv.step(&Kv.initial(), &Action::Append(text("a"))).unwrap();
        let state = Kv.step(&state, &Action::Append(text("b"))).unwrap();
        assert_eq!(Kv.step(&state, &Action::Read(text("ab"))), Some("ab".into()));
        assert_eq!(Kv.step(&state, &Action::Read(text("ba"))), None);
        assert_eq!(Kv.step(&state, &Action::Write(text("c"))), Some("c".into()));
        assert_eq!(Kv.step(&state, &Action::Write(Value::Nil)), Some(String::new()), "deleted");
        assert_eq!(Kv.step(&Kv.initial(), &Action::Read(Value::Nil)), Some(String::new()));
        assert_eq!(Kv.step(&state, &Action::Read(Value::Nil)), None);
        assert_eq!(Kv.step(&state, &Action::Add(text("c"))), None);
    }
}
