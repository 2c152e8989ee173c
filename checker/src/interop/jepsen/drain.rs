//! Jepsen's `:drain`, which takes elements out of a queue until there is none: a dequeue of each, and one that found the queue empty.
//! They took effect somewhere between its beginning and its end; their order there is not judged.

use std::collections::HashMap;

use super::{Edn, EventType, Parsed, Told};

/// Puts dequeues in the place of drains.
///
/// # Errors
/// Of a drain without a result nobody knows how many elements it took: nothing that is missing afterwards says anything.
pub(super) fn expand(told: Vec<Told<'_>>) -> Parsed<Vec<Told<'_>>> {
    if told.iter().all(|t| t.f != Some("drain")) {
        return Ok(told);
    }
    // By place of the beginning, the place of the end.
    let mut ends: HashMap<usize, usize> = HashMap::new();
    let mut open: HashMap<u64, usize> = HashMap::new();
    for (place, t) in told.iter().enumerate() {
        match (t.kind, t.f) {
            (EventType::Invoke, Some("drain")) => drop(open.insert(t.process, place)),
            (EventType::Invoke, _) => drop(open.remove(&t.process)),
            _ => ends.extend(open.remove(&t.process).map(|began| (began, place))),
        }
    }
    let mut process = told.iter().map(|t| t.process).max().unwrap_or_default();
    // By place, what stands there instead.
    let mut instead: HashMap<usize, Vec<Told<'_>>> = HashMap::new();
    for (place, t) in told.iter().enumerate() {
        if (t.kind, t.f) != (EventType::Invoke, Some("drain")) {
            continue;
        }
        let unknown = |line| {
            let reason = "a :drain without a result took nobody knows how many elements, so that what is missing later says nothing";
            (line, reason.to_owned())
        };
        let end = *ends.get(&place).ok_or_else(|| unknown(t.line))?;
        let taken = match told[end].kind {
            EventType::Ok => {
                let value = told[end].value;
                let none = || (told[end].line, format!("{value} is no list of what a :drain took"));
                value.items().ok_or_else(none)?
            }
            EventType::Fail => {
                instead.extend([(place, Vec::new()), (end, Vec::new())]);
                continue;
            }
            _ => return Err(unknown(told[end].line)),
        };
        for value in taken.iter().chain([&Edn::Nil]) {
            process += 1;
            let dequeue = |at: usize, kind, value| Told {
                line: told[at].line,
                process,
                kind,
                f: Some("dequeue"),
                key: t.key.clone(),
                value,
            };
            instead.entry(place).or_default().push(dequeue(place, EventType::Invoke, &Edn::Nil));
            instead.entry(end).or_default().push(dequeue(end, EventType::Ok, value));
        }
    }
    let each = told.into_iter().enumerate();
    Ok(each.flat_map(|(place, t)| instead.remove(&place).unwrap_or_else(|| vec![t])).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{operations, read};
    use crate::history::{Action, Outcome};
    use crate::interop::Reading;

    const BEFORE: &str =
        "{:process 0 :type :invoke :f :enqueue :value 1}{:process 0 :type :ok :f :enqueue :value 1}
        {:process 0 :type :invoke :f :enqueue :value 2}{:process 0 :type :ok :f :enqueue :value 2}
        {:process 1 :type :invoke :f :drain :value nil}";

    #[test]
    fn a_drain_takes_each_element_and_then_finds_nothing() {
        let after = |text: &str| operations(&format!("{BEFORE}{text}")).split_off(2);
        let taken = |value: i64| (Outcome::Ok, Action::Dequeue(Some(value.into())));
        let nothing = (Outcome::Ok, Action::Dequeue(Some(crate::history::Value::Nil)));
        let both = after("{:process 1 :type :ok :f :drain :value [1 2]}");
        assert_eq!(both, [taken(1), taken(2), nothing.clone()]);
        assert_eq!(after("{:process 1 :type :ok :f :drain :value []}"), [nothing]);
        assert_eq!(after("{:process 1 :type :fail :f :drain :value nil}"), []);
        let other = after(
            "{:process 1 :type :fail :f :drain}{:process 1 :type :invoke :f :dequeue}{:process 1 :type :ok :f :dequeue :value 1}",
        );
        assert_eq!(other, [taken(1)]);
    }

    #[test]
    fn what_a_drain_did_has_to_be_known() {
        let reason = |text: &str| {
            let told = read("h.edn", &format!("{BEFORE}\n{text}"), &Reading::default());
            told.unwrap_err().to_string()
        };
        for (text, line) in [
            ("", "h.edn:3: a :drain without a result"),
            ("{:process 1 :type :info :f :drain :value nil}", "h.edn:4: a :drain without a result"),
            ("{:process 1 :type :ok :f :drain :value 7}", "h.edn:4: 7 is no list of what a :drain took"),
        ] {
            assert!(reason(text).contains(line), "{}", reason(text));
        }
    }
}
