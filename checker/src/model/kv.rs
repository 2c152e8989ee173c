//! A text that can be put, appended to and read: the key-value model of Porcupine's histories.
//! An absent key reads as the empty text.

use std::sync::Arc;

use super::Model;
use crate::history::{Action, Value};

/// A text register with append, as far as some operations can tell. A text that none of them shows, not even its beginning, can be
/// shown no more until it is replaced: all such texts are one state, so that orders of appends which nobody sees are one, too.
#[derive(Clone, Debug)]
pub struct Kv {
    /// What is read, sorted, each once.
    shown: Vec<Arc<str>>,
}

impl Kv {
    /// For these operations, and no others.
    pub fn of<'a>(actions: impl Iterator<Item = &'a Action>) -> Kv {
        let mut shown: Vec<Arc<str>> = actions
            .filter_map(|action| match action {
                Action::Read(Value::Text(text)) => Some(text.clone()),
                Action::Read(Value::Nil) => Some("".into()),
                _ => None,
            })
            .collect();
        shown.sort();
        shown.dedup();
        Kv { shown }
    }

    /// The text, if it can still be shown.
    fn told(&self, text: String) -> Option<String> {
        let after = self.shown.partition_point(|shown| **shown < *text);
        self.shown.get(after).is_some_and(|shown| shown.starts_with(&text)).then_some(text)
    }
}

impl Model for Kv {
    /// `None` is every text that cannot be shown any more.
    type State = Option<String>;

    fn initial(&self) -> Option<String> {
        self.told(String::new())
    }

    fn step(&self, state: &Option<String>, action: &Action) -> Option<Option<String>> {
        match (action, state) {
            (Action::Read(Value::Nil), Some(held)) => held.is_empty().then(|| state.clone()),
            (Action::Read(Value::Text(text)), Some(held)) => (**text == **held).then(|| state.clone()),
            (Action::Write(Value::Nil), _) => Some(self.told(String::new())),
            (Action::Write(Value::Text(text)), _) => Some(self.told(text.to_string())),
            (Action::Append(Value::Text(text)), Some(held)) => Some(self.told(format!("{held}{text}"))),
            (Action::Append(Value::Text(_)), None) => Some(None),
            _ => None,
        }
    }

    fn size(&self, state: &Option<String>) -> usize {
        state.as_ref().map_or(0, String::len)
    }

    fn overwrites(&self, action: &Action) -> bool {
        matches!(action, Action::Write(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Value {
        Value::Text(s.into())
    }

    #[test]
    fn text_is_put_and_appended_to() {
        let reads = ["ab", "ba", "c"].map(|s| Action::Read(text(s)));
        let kv = Kv::of(reads.iter());
        let state = kv.step(&kv.initial(), &Action::Append(text("a"))).unwrap();
        let state = kv.step(&state, &Action::Append(text("b"))).unwrap();
        assert_eq!(kv.step(&state, &Action::Read(text("ab"))), Some(Some("ab".into())));
        assert_eq!(kv.step(&state, &Action::Read(text("ba"))), None);
        assert_eq!(kv.step(&state, &Action::Write(text("c"))), Some(Some("c".into())));
        assert_eq!(kv.step(&state, &Action::Write(Value::Nil)), Some(Some(String::new())), "deleted");
        assert_eq!(kv.step(&kv.initial(), &Action::Read(Value::Nil)), Some(Some(String::new())));
        assert_eq!(kv.step(&state, &Action::Read(Value::Nil)), None);
        assert_eq!(kv.step(&state, &Action::Add(text("c"))), None);
    }

    #[test]
    fn what_nobody_shows_is_one_state_until_it_is_replaced() {
        let reads = [Action::Read(text("ab")), Action::Read(text("é"))];
        let kv = Kv::of(reads.iter());
        let lost = kv.step(&kv.initial(), &Action::Append(text("b"))).unwrap();
        assert_eq!(lost, None);
        assert_eq!(kv.step(&Some("ab".into()), &Action::Append(text("c"))), Some(None));
        assert_eq!(kv.step(&lost, &Action::Append(text("a"))), Some(None));
        for action in [Action::Read(text("ab")), Action::Read(Value::Nil)] {
            assert_eq!(kv.step(&lost, &action), None, "it is not empty either");
        }
        assert_eq!(kv.step(&lost, &Action::Write(text("a"))), Some(Some("a".into())));
        assert_eq!(kv.step(&lost, &Action::Write(Value::Nil)), Some(Some(String::new())));
        assert_eq!(Kv::of([].iter()).initial(), None, "nobody reads at all");
    }
}
