//! What clients asked for and were told, in the words of the judge, and its verdict.

use std::collections::BTreeMap;

use checker::history::{Action, Clock, KeyHistory, Operation, Outcome, Phase, Value};
use checker::linearizability::{Budget, Engine, Judgement, judge};
use checker::model::ModelKind;

/// Generous for the few hundred operations of a key.
const BUDGET: Budget =
    Budget { steps: 5_000_000, memory: 256 << 20, deadline: checker::deadline::Deadline::NEVER };

/// What a key is, by its name.
pub(crate) fn model_of(key: &str) -> ModelKind {
    if key.starts_with('l') { ModelKind::ListAppend } else { ModelKind::CasRegister }
}

/// A value as the store has it, in the judge's words.
pub(crate) fn value_of(key: &str, bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Nil };
    let text = String::from_utf8_lossy(bytes);
    match model_of(key) {
        ModelKind::ListAppend => {
            Value::List(text.split_whitespace().map(|it| Value::Text(it.into())).collect())
        }
        _ => Value::Text(text.as_ref().into()),
    }
}

/// All operations, by the key.
#[derive(Debug, Default)]
pub(crate) struct History {
    keys: BTreeMap<String, Vec<Operation>>,
    index: u64,
}

/// Which operation.
pub(crate) type OperationId = (String, usize);

impl History {
    /// An operation begins.
    pub(crate) fn invoke(&mut self, now: u64, process: u64, key: &str, action: Action) -> OperationId {
        let operations = self.keys.entry(key.to_owned()).or_default();
        operations.push(Operation {
            index: self.index,
            process,
            action,
            outcome: Outcome::Info,
            ended: None,
            invoke: now,
            complete: None,
            node: None,
            position: None,
            phase: Phase::Load,
        });
        self.index += 1;
        (key.to_owned(), operations.len() - 1)
    }

    /// It happened, and `action` says with what result.
    pub(crate) fn complete(&mut self, now: u64, id: &OperationId, action: Action) {
        if let Some(operation) = self.operation(id) {
            operation.action = action;
            operation.outcome = Outcome::Ok;
            operation.complete = Some(now);
        }
    }

    /// It did not happen.
    pub(crate) fn fail(&mut self, id: &OperationId) {
        if let Some(operation) = self.operation(id) {
            operation.outcome = Outcome::Fail;
        }
    }

    /// What is asked of a key by an operation.
    pub(crate) fn action(&mut self, id: &OperationId) -> Option<Action> {
        self.operation(id).map(|operation| operation.action.clone())
    }

    fn operation(&mut self, (key, at): &OperationId) -> Option<&mut Operation> {
        self.keys.get_mut(key)?.get_mut(*at)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// Judges every key.
    ///
    /// # Errors
    /// The first key that is not linearizable, and why.
    pub(crate) fn judge(&self) -> Result<(), String> {
        for (key, operations) in &self.keys {
            let history = KeyHistory {
                model: model_of(key),
                clock: Clock::Nanoseconds,
                operations: operations.clone(),
            };
            match judge(&history, Engine::Portfolio, BUDGET) {
                Judgement::Valid => {}
                Judgement::Invalid(finding) => {
                    return Err(format!("{key} is not linearizable: {}: {finding:#?}", finding.reason));
                }
                Judgement::Unknown(spent) => return Err(format!("{key} could not be judged: {spent:?}")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn a_lost_write_is_found_and_an_unknown_one_is_not_taken_for_lost() {
        let judged = |acknowledged: bool, read: &str| {
            let mut history = History::default();
            let first = history.invoke(1, 1, "r", Action::Write(text("a")));
            history.complete(2, &first, Action::Write(text("a")));
            let second = history.invoke(3, 1, "r", Action::Write(text("b")));
            if acknowledged {
                history.complete(4, &second, Action::Write(text("b")));
            }
            let last = history.invoke(5, 2, "r", Action::Read(Value::Nil));
            history.complete(6, &last, Action::Read(text(read)));
            history.judge()
        };
        assert!(judged(true, "a").is_err_and(|reason| reason.contains("r is not linearizable")));
        assert_eq!(judged(false, "a"), Ok(()));
        assert_eq!(judged(true, "b"), Ok(()));
    }

    #[test]
    fn an_append_that_stands_twice_is_found() {
        let judged = |read: &[u8]| {
            let mut history = History::default();
            let append = history.invoke(1, 1, "l", Action::Append(text("1.1")));
            history.complete(2, &append, Action::Append(text("1.1")));
            let last = history.invoke(5, 2, "l", Action::Read(Value::Nil));
            history.complete(6, &last, Action::Read(value_of("l", Some(read))));
            history.judge()
        };
        assert!(judged(b"1.1 1.1 ").is_err());
        assert_eq!(judged(b"1.1 "), Ok(()));
    }
}
