//! Jepsen's `:drain`, which takes elements out of a queue until there is none: a dequeue of each, and one that found the queue empty.
//! They took effect somewhere between its beginning and its end; their order there is not judged.

use std::collections::HashMap;

use super::super::budget::{Budget, Ended};
use super::{Edn, EventType, Parsed, Told};

/// Bytes that a dequeue of a drain becomes, beyond what its element took in the file.
const DEQUEUE: u64 = 900;

/// Puts dequeues in the place of drains, all at the moments of the drain.
///
/// # Errors
/// Of a drain without a result nobody knows how many elements it took: nothing that is missing afterwards says anything.
pub(super) fn expand<'a>(told: Vec<Told<'a>>, budget: &Budget) -> Parsed<Result<Vec<Told<'a>>, Ended>> {
    if told.iter().all(|t| t.f != Some("drain")) {
        return Ok(Ok(told));
    }
    let drains = drains(&told)?;
    let mut process = told.iter().map(|t| t.process).max().unwrap_or_default();
    // By place, what stands there instead.
    let mut instead: HashMap<usize, Vec<Told<'_>>> = HashMap::new();
    let mut bytes = 0;
    for (began, end) in drains {
        instead.extend([(began, Vec::new()), (end, Vec::new())]);
        let taken = match told[end].kind {
            EventType::Fail => continue,
            EventType::Ok => {
                let value = told[end].value;
                let none = || (told[end].line, format!("{value} is no list of what a :drain took"));
                value.items().ok_or_else(none)?
            }
            _ => return Err(unknown(told[end].line)),
        };
        bytes += DEQUEUE * taken.len() as u64;
        if let Err(ended) = budget.room(bytes, told[end].line) {
            return Ok(Err(ended));
        }
        for (n, value) in taken.iter().chain([&Edn::Nil]).enumerate() {
            process += 1;
            let dequeue = |at: usize, kind, value| Told {
                line: told[at].line,
                along: n > 0,
                process,
                kind,
                f: Some("dequeue"),
                key: told[began].key.clone(),
                value,
            };
            instead.entry(began).or_default().push(dequeue(began, EventType::Invoke, &Edn::Nil));
            instead.entry(end).or_default().push(dequeue(end, EventType::Ok, value));
        }
    }
    let each = told.into_iter().enumerate();
    Ok(Ok(each.flat_map(|(place, t)| instead.remove(&place).unwrap_or_else(|| vec![t])).collect()))
}

/// Where each drain begins and ends.
fn drains(told: &[Told<'_>]) -> Parsed<Vec<(usize, usize)>> {
    let mut drains = Vec::new();
    // By process, what it has under way.
    let mut open: HashMap<u64, usize> = HashMap::new();
    for (place, t) in told.iter().enumerate() {
        let before = match t.kind {
            EventType::Invoke => open.insert(t.process, place),
            _ => open.remove(&t.process),
        };
        let drain = before.filter(|before| told[*before].f == Some("drain"));
        match (t.kind, t.f, before, drain) {
            (EventType::Invoke, Some("drain"), Some(before), _) | (EventType::Invoke, _, _, Some(before)) => {
                let line = told[before].line;
                return Err((
                    t.line,
                    format!("process {} invokes while its operation of line {line} is open", t.process),
                ));
            }
            (EventType::Invoke, ..) => {}
            (_, None | Some("drain"), _, Some(began)) => drains.push((began, place)),
            (_, Some(other), _, Some(_)) => return Err((t.line, format!("{other} completes a drain"))),
            _ => {}
        }
    }
    match open.into_values().filter(|place| told[*place].f == Some("drain")).min() {
        Some(place) => Err(unknown(told[place].line)),
        None => Ok(drains),
    }
}

fn unknown(line: u64) -> (u64, String) {
    let reason = "a :drain without a result took nobody knows how many elements, so that what is missing later says nothing";
    (line, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{operations, read};
    use super::{Budget, Ended};
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
    fn what_a_drain_took_is_told_of_its_lines_and_within_the_budget() {
        let list: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
        let text = format!("{BEFORE}\n{{:process 1 :type :ok :f :drain :value [{}]}}", list.join(" "));
        let history = read("h.edn", &text, &Reading::default()).unwrap();
        let dequeues = &history.keys["fifo-queue"].operations[2..];
        assert_eq!(dequeues.len(), 1001);
        assert!(dequeues.iter().all(|o| (o.invoke, o.complete) == (5, Some(6))), "{:?}", dequeues[0]);
        let within = |memory| {
            let mut budget = Budget::new(&crate::history::Limit { memory, ..crate::history::Limit::NONE });
            let scale = crate::interop::budget::Scale { byte: 2, word: 64, line: 0, map: 320 };
            budget.read(&mut text.as_bytes(), scale).unwrap().unwrap();
            super::super::read_maps(std::path::Path::new("h.edn"), &text, &Reading::default(), &budget)
                .unwrap()
        };
        assert!(within(4 << 20).is_ok());
        assert_eq!(within((2 << 20) + 500_000).unwrap_err(), Ended { bound: "memory", line: 4 });
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
            ("{:process 1 :type :ok :f :enqueue :value [1 2]}", "h.edn:4: enqueue completes a drain"),
            (
                "{:process 1 :type :fail :f :drain}\n{:process 2 :type :ok :f :drain :value [1 2]}",
                "h.edn:5: process 2 completes an operation that it did not invoke",
            ),
            (
                "{:process 2 :type :invoke :f :enqueue :value 3}\n{:process 2 :type :invoke :f :drain}",
                "h.edn:5: process 2 invokes while its operation of line 4 is open",
            ),
            (
                "{:process 1 :type :invoke :f :enqueue :value 3}",
                "h.edn:4: process 1 invokes while its operation of line 3 is open",
            ),
        ] {
            assert!(reason(text).contains(line), "{}", reason(text));
        }
    }
}
