//! Histories of Jepsen and those that write like it, Maelstrom, Knossos, Porcupine: maps or lines with `process`, `type`, `f` and
//! `value`. What the operations are is told by their functions. Reading EDN is `edn`'s business.

mod drain;

use std::collections::HashMap;
use std::path::Path;

use super::budget::{Budget, Ended};
use super::edn::{self, Edn, Parsed};
use super::{Foreign, NilRead, Reading};
use crate::history::{EventType, History, HistoryError, Value};
use crate::model::ModelKind;

/// An operation of a client as a file tells it.
struct Told<'a> {
    line: u64,
    /// Of the same moment as what was told before it.
    along: bool,
    process: u64,
    kind: EventType,
    /// Function under our name; `None` if it is the one of the invoke.
    f: Option<&'a str>,
    /// Of files whose operations name one: by `:key`, by Jepsen's independent `[key value]`, or inside a transaction.
    key: Option<String>,
    value: &'a Edn<'a>,
}

/// What all operations of a file have in common.
struct Shape {
    /// Values are Jepsen's independent `[key value]`.
    independent: bool,
    /// Transactions are told by their values alone.
    by_value: bool,
    /// Transactions are judged as such, not by their one operation.
    whole: bool,
    /// Transactions call their steps `:r`, `:w` and `:append`.
    short: bool,
    /// There are `get` and `put`, and these bring or see nothing but texts.
    texts: bool,
    /// A register exists once a key, or is known to begin absent.
    absent: bool,
}

/// A history, unless the time for it ran out.
type Understood = Result<Result<History, Ended>, HistoryError>;

/// Lines between two looks at the clock.
const CLOCK_LINES: usize = 1024;

/// Maps, in EDN or JSON.
pub(super) fn read_maps(path: &Path, text: &str, reading: &Reading, budget: &Budget) -> Understood {
    let bad = |(line, reason): (u64, String)| HistoryError::Line { path: path.to_owned(), line, reason };
    match edn::stream(text, |line| budget.late(line)).map_err(bad)? {
        Ok(maps) => history(path, &maps, false, reading, budget),
        Err(ended) => Ok(Err(ended)),
    }
}

/// Lines of a log: `INFO  jepsen.util - 4   :invoke :cas   [2 4]`, or the same without what stands before the process, as in
/// `history.txt`. Columns are separated by any white space; what follows the value is why it failed.
pub(super) fn read_log(path: &Path, text: &str, reading: &Reading, budget: &Budget) -> Understood {
    let bad = |(line, reason): (u64, String)| HistoryError::Line { path: path.to_owned(), line, reason };
    let mut maps = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if !line.trim().is_empty() {
            maps.push((number, log_line(line, number).map_err(bad)?));
        }
        if let (true, Err(ended)) = (maps.len() % CLOCK_LINES == 1, budget.late(number)) {
            return Ok(Err(ended));
        }
    }
    // The logs of 2015 are of one register that begins absent.
    history(path, &maps, text.contains("jepsen.util"), reading, budget)
}

fn log_line(line: &str, number: u64) -> Parsed<Edn<'_>> {
    let bad = |reason: &str| Err((number, reason.to_owned()));
    let is_type = |word: &str| word.strip_prefix(':').and_then(super::kind).is_some();
    // Each word with what follows it.
    let mut rest = line;
    let mut words = std::iter::from_fn(|| {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some((word, after))
    })
    .peekable();
    let (process, after) = loop {
        match (words.next(), words.peek()) {
            (Some((process, _)), Some((word, after))) if is_type(word) => break (process, *after),
            (Some(_), Some(_)) => {}
            _ => return bad("none of :invoke, :ok, :fail, :info after a process"),
        }
    };
    let kind = words.next().map_or("", |(word, _)| word).trim_start_matches(':');
    let f = after.trim_start();
    let end = f.find(char::is_whitespace).unwrap_or(f.len());
    let (f, value) = f.split_at(end);
    let Some(f) = f.strip_prefix(':').filter(|f| !f.is_empty()) else {
        return bad("no function after the type");
    };
    let word = Edn::Keyword;
    Ok(Edn::Map(vec![
        (word("process"), edn::first(process, number)?),
        (word("type"), word(kind)),
        (word("f"), word(f)),
        (word("value"), edn::first(value, number)?),
    ]))
}

fn history(
    path: &Path,
    maps: &[(u64, Edn<'_>)],
    absent: bool,
    reading: &Reading,
    budget: &Budget,
) -> Understood {
    let bad = |(line, reason): (u64, String)| HistoryError::Line { path: path.to_owned(), line, reason };
    let shape = shape(maps, absent);
    let mut told = Vec::new();
    for (line, map) in maps {
        told.extend(tell(*line, map, &shape).map_err(bad)?);
        if let (true, Err(ended)) = (told.len() % CLOCK_LINES == 1, budget.late(*line)) {
            return Ok(Err(ended));
        }
    }
    let told = match drain::expand(told, budget).map_err(bad)? {
        Ok(told) => told,
        Err(ended) => return Ok(Err(ended)),
    };
    let mut model = reading.model.unwrap_or_else(|| infer(&told, &shape));
    match (model, reading.initial) {
        (ModelKind::Txn | ModelKind::TxnFrom(_), Some(initial)) => {
            model = initial.map_or(ModelKind::Txn, ModelKind::TxnFrom);
        }
        (ModelKind::CasRegister | ModelKind::RegisterFrom(_), Some(initial)) => {
            model = initial.map_or(ModelKind::CasRegister, ModelKind::RegisterFrom);
        }
        // Knossos' data begins with 0, but neither does a register of texts, nor one that was replaced while it was absent.
        (ModelKind::CasRegister, None) if reading.model.is_none() && !shape.absent && numbers(&told) => {
            model = ModelKind::RegisterFrom(0);
        }
        _ => {}
    }
    let nil = reading.nil_read.unwrap_or(if shape.absent { NilRead::Absent } else { NilRead::Anything });
    let plain = matches!(model, ModelKind::CasRegister | ModelKind::RegisterFrom(_));
    let lists = matches!(model, ModelKind::ListAppend | ModelKind::Set);
    let mut foreign = Foreign::new(path, model);
    let mut open: HashMap<u64, Invoked<'_>> = HashMap::new();
    for Told { line, along, process, mut kind, f, key, value } in told {
        // A register of texts that is never appended to is absent where it holds no text.
        let empty = plain && shape.texts && matches!(value, Edn::Text(text) if text.is_empty());
        let value = if empty { &Edn::Nil } else { value };
        let (f, key) = match (kind, f) {
            (EventType::Invoke, Some(f)) => {
                let key = key.unwrap_or_else(|| if plain { "register" } else { model.name() }.into());
                let ours = if plain && f == "write" && *value == Edn::Nil { "delete" } else { f };
                open.insert(process, Invoked { f, ours, key: key.clone() });
                (ours, key)
            }
            // A completion may leave out what its invoke said.
            (_, f) => match open.remove(&process) {
                Some(invoked) => {
                    let same = f.is_none_or(|f| f == invoked.f);
                    (if same { invoked.ours } else { f.unwrap_or_default() }, key.unwrap_or(invoked.key))
                }
                None => (f.unwrap_or_default(), key.unwrap_or_default()),
            },
        };
        if (f, kind, value) == ("read", EventType::Ok, &Edn::Nil) && plain && nil == NilRead::Anything {
            // A read of anything constrains nothing, like one that failed.
            kind = EventType::Fail;
        }
        let value = match (kind, f) {
            // What a completion without a result repeats is known from its invoke.
            (EventType::Fail | EventType::Info, _)
            | (EventType::Invoke, "read" | "dequeue")
            | (_, "acquire" | "release") => Value::Nil,
            (_, "txn") => steps(value)
                .ok_or_else(|| bad((line, format!("{value} is no transaction, a list of [f key value]"))))?,
            (_, "cas") => match value.pair() {
                Some((from, to)) => Value::List([from.value(), to.value()].into()),
                None => value.value(),
            },
            (_, "read") if lists => value.list(),
            _ => value.value(),
        };
        if along {
            foreign.along();
        }
        foreign.push(line, process, kind, f, &key, value)?;
        if let (true, Err(ended)) = (foreign.index % CLOCK_LINES as u64 == 1, budget.late(line)) {
            return Ok(Err(ended));
        }
    }
    Ok(Ok(foreign.finish()))
}

/// What a process has open.
struct Invoked<'a> {
    /// Function as the file calls it, and as we do.
    f: &'a str,
    ours: &'a str,
    key: String,
}

/// The steps of a transaction, under our names.
fn steps(value: &Edn<'_>) -> Option<Value> {
    let step = |step: &Edn<'_>| match step.items()? {
        [f, key, value] => {
            let f = match f.as_name()? {
                "read" => "r",
                "write" => "w",
                f => f,
            };
            let value = if f == "r" { value.list() } else { value.value() };
            Some(Value::List([Value::Text(f.into()), Value::Text(key.key()?.into()), value].into()))
        }
        _ => None,
    };
    value.items()?.iter().map(step).collect::<Option<_>>().map(Value::List)
}

fn is_client(map: &Edn<'_>) -> bool {
    matches!(map.get("process"), Some(Edn::Int(_)))
}

fn f<'a>(map: &'a Edn<'_>) -> &'a str {
    map.get("f").and_then(Edn::as_name).unwrap_or_default()
}

/// Steps of a transaction as Jepsen's workloads write them, whatever function they name: that of long forks calls them reads and writes.
fn steps_of<'a, 'b>(value: &'a Edn<'b>) -> Option<&'a [Edn<'b>]> {
    let named = |f: &Edn<'_>| matches!(f.as_name(), Some("r" | "w" | "append"));
    let step = |step: &Edn<'_>| matches!(step.items(), Some([f, _, _]) if named(f));
    let Edn::Sequence(steps) = value else { return None };
    (!steps.is_empty() && steps.iter().all(step)).then_some(steps)
}

fn value<'a, 'b>(map: &'a Edn<'b>) -> &'a Edn<'b> {
    map.get("value").unwrap_or(&Edn::Nil)
}

fn shape(maps: &[(u64, Edn<'_>)], absent: bool) -> Shape {
    let clients = || maps.iter().map(|(_, map)| map).filter(|map| is_client(map));
    let invokes = || clients().filter(|map| map.get("type").and_then(Edn::as_name) == Some("invoke"));
    let by_value = invokes().any(|map| f(map) != "txn" && steps_of(value(map)).is_some());
    fn named<'a>(map: &'a Edn<'_>, by_value: bool) -> &'a str {
        if by_value && steps_of(value(map)).is_some() { "txn" } else { f(map) }
    }
    // No other read is invoked with a value, no other write with a pair, no other cas with a pair in a pair.
    let independent = |map: &Edn<'_>| match (named(map, by_value), value(map)) {
        (_, Edn::Tuple(_)) => Some(true),
        ("read" | "write", value) => Some(value.pair().is_some()),
        ("cas", value) => Some(value.pair().is_some_and(|(_, pair)| pair.pair().is_some())),
        _ => None,
    };
    // A transaction names its keys itself.
    let keyed = clients()
        .filter(|map| named(map, by_value) != "txn")
        .any(|map| map.get("key").is_some_and(|key| *key != Edn::Nil));
    let told: Vec<bool> = invokes().filter_map(independent).collect();
    let independent = !keyed && !told.is_empty() && told.iter().all(|told| *told);
    let get_put = clients().any(|map| matches!(named(map, by_value), "get" | "put"));
    let text = |map: &Edn<'_>| {
        let value = value(map);
        let inner = if independent { value.pair().map_or(value, |(_, value)| value) } else { value };
        matches!(inner, Edn::Nil | Edn::Text(_))
    };
    let is_txn = |map: &&Edn<'_>| named(map, by_value) == "txn";
    let long = clients().filter(is_txn).any(|map| value(map).items().is_some_and(|steps| steps.len() != 1));
    // Knossos writes the steps out, and its keys begin with 0; Elle's begin absent.
    let short = clients().filter(is_txn).flat_map(|map| value(map).items().unwrap_or_default()).any(
        |step| matches!(step.items(), Some([f, ..]) if matches!(f.as_name(), Some("r" | "w" | "append"))),
    );
    Shape {
        independent,
        by_value,
        whole: long,
        short,
        texts: get_put && clients().all(text),
        absent: absent || independent || keyed || get_put || short,
    }
}

/// What a map says of a client's operation; nothing if it is the nemesis's.
fn tell<'a>(line: u64, map: &'a Edn<'a>, shape: &Shape) -> Parsed<Option<Told<'a>>> {
    let bad = |reason: String| (line, reason);
    if !matches!(map, Edn::Map(_)) {
        let expected = "an operation, {:process 0, :type :invoke, :f :read, :value nil}";
        return Err(bad(format!("{map} stands where {expected}, is expected")));
    }
    let process = match map.get("process") {
        Some(Edn::Int(n)) if *n >= 0 => n.cast_unsigned(),
        Some(Edn::Keyword(_)) => return Ok(None),
        Some(Edn::Text(name) | Edn::Symbol(name)) if name == "nemesis" => return Ok(None),
        Some(other) => return Err(bad(format!(":process {other} is neither a number from 0 nor a keyword"))),
        None => return Err(bad("no :process".into())),
    };
    let field = |name: &str| match map.get(name) {
        Some(value) => value.as_name().ok_or_else(|| bad(format!(":{name} {value} is no keyword"))),
        None => Err(bad(format!("no :{name}"))),
    };
    let kind = field("type")?;
    let kind = super::kind(kind)
        .ok_or_else(|| bad(format!(":type :{kind} is none of :invoke, :ok, :fail, :info")))?;
    let value = value(map);
    let f = if shape.by_value && steps_of(value).is_some() { "txn" } else { field("f")? };
    // What came to nothing, or may have, need not say again what was tried.
    let silent = matches!(kind, EventType::Fail | EventType::Info);
    let (f, key, value) = if silent && shape.by_value && f != "txn" {
        (None, None, &Edn::Nil)
    } else if f == "txn" && !shape.whole {
        match value.items().map(|operations| (operations, operations.first().and_then(Edn::items))) {
            Some(([_], Some([f, key, value]))) if f.as_name().is_some() && *key != Edn::Nil => {
                (f.as_name(), key.key(), value)
            }
            _ if silent => (None, None, &Edn::Nil),
            _ => return Err(bad(format!("{value} is no transaction, a list of [f key value]"))),
        }
    } else if shape.independent {
        match value.pair() {
            Some((key, value)) if steps_of(value).is_some() => {
                let reason = format!(
                    "{value} of key {key} is a transaction: of independent keys single operations are read"
                );
                return Err(bad(reason));
            }
            Some((key, value)) => (Some(f), key.key(), value),
            None if silent || (kind == EventType::Ok && f != "read" && *value == Edn::Nil) => {
                (Some(f), None, &Edn::Nil)
            }
            None => return Err(bad(format!("{value} is no [key value], as in other lines"))),
        }
    } else {
        (Some(f), map.get("key").and_then(Edn::key), value)
    };
    let f = f.map(|f| match f {
        "get" | "r" => "read",
        "put" | "w" => "write",
        f => f,
    });
    Ok(Some(Told { line, along: false, process, kind, f, key, value }))
}

/// Whether all that registers were written, or read as, are numbers, and none was there before.
fn numbers(told: &[Told<'_>]) -> bool {
    told.iter().all(|t| match (t.f, t.value) {
        (Some("write" | "read"), value) => {
            matches!(value, Edn::Nil | Edn::Int(_)) || t.kind == EventType::Info
        }
        (Some("cas"), value) if t.kind == EventType::Ok => {
            value.pair().is_none_or(|(from, to)| matches!((from, to), (Edn::Int(_), Edn::Int(_))))
        }
        _ => true,
    })
}

/// The model that the functions speak of.
fn infer(told: &[Told<'_>], shape: &Shape) -> ModelKind {
    let any = |f: &str| told.iter().any(|t| t.f == Some(f));
    let reads_lists =
        || told.iter().any(|t| t.f == Some("read") && t.kind == EventType::Ok && t.value.items().is_some());
    if shape.texts && any("append") {
        ModelKind::Kv
    } else if any("txn") {
        if shape.short { ModelKind::Txn } else { ModelKind::TxnFrom(0) }
    } else if any("acquire") || any("release") {
        ModelKind::Mutex
    } else if any("enqueue") || any("dequeue") {
        ModelKind::FifoQueue
    } else if any("append") {
        ModelKind::ListAppend
    } else if any("add") && (reads_lists() || !any("read")) {
        ModelKind::Set
    } else if any("add") {
        ModelKind::Counter
    } else {
        ModelKind::CasRegister
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Micro, Outcome};

    pub(super) fn read(path: &str, text: &str, reading: &Reading) -> Result<History, HistoryError> {
        Ok(read_maps(Path::new(path), text, reading, &ample())?.unwrap())
    }

    fn ample() -> Budget {
        Budget::new(&crate::history::Limit::NONE)
    }

    pub(super) fn operations(text: &str) -> Vec<(Outcome, Action)> {
        let history = read("h.edn", text, &Reading::default()).unwrap();
        history.keys.values().flat_map(|k| &k.operations).map(|o| (o.outcome, o.action.clone())).collect()
    }

    #[test]
    fn vectors_lists_and_streams_say_the_same() {
        let write =
            "{:process 1, :type :invoke, :f :write, :value 2}\n{:process 1 :type :ok :f :write :value 2}";
        let expected = [(Outcome::Ok, Action::Write(2.into()))];
        for text in [write.to_owned(), format!("[{write}]"), format!("; a comment\n({write})\n")] {
            assert_eq!(operations(&text), expected, "{text}");
        }
        let noise =
            "{:process :nemesis, :type :info, :f :start, :value \"Cut off {:n3 #{:n4 :n1}} \\\"x\\\"\"}\n";
        assert_eq!(operations(&format!("[{noise}{write}]")), expected);
    }

    #[test]
    fn a_knossos_read_of_nil_says_nothing_and_failures_fall_away() {
        let text = "{:process 1 :type :invoke :f :read :value nil}{:process 1 :type :ok :f :read :value nil}
            {:process 1 :type :invoke :f :read :value nil}{:process 1 :type :ok :f :read :value 3}
            {:process 2 :type :invoke :f :cas :value [1 2]}{:process 2 :type :fail :f :cas :value [1 2] :error [:x nil]}
            {:process 3 :type :invoke :f :cas :value [1 2]}{:process 3 :type :info :f :cas :value :timed-out}";
        let cas = || Action::Cas(1.into(), 2.into());
        let expected = [
            (Outcome::Fail, Action::Read(Value::Nil)),
            (Outcome::Ok, Action::Read(3.into())),
            (Outcome::Fail, cas()),
            (Outcome::Info, cas()),
        ];
        assert_eq!(operations(text), expected);
    }

    /// Jepsen's long forks are transactions of registers, whatever function they name.
    #[test]
    fn what_looks_like_a_transaction_is_one() {
        let text = "{:type :invoke :f :write :value [[:w 0 1]] :process 0}{:type :ok :f :write :value [[:w 0 1]] :process 0}
            {:type :invoke :f :read :value [[:r 0 nil] [:r 1 nil]] :process 2}{:type :ok :f :read :value [[:r 0 1] [:r 1 nil]] :process 2}
            {:type :invoke :f :read :value [[:r 1 nil] [:r 0 nil]] :process 2}{:type :fail :f :read :value nil :process 2}
            {:type :invoke :f :write :value [[:w 1 1]] :process 0}{:type :info :f :write :value nil :process 0}";
        let (r, w) =
            (|k: &str, v| Micro::Read(k.into(), v), |k: &str, v: i64| Micro::Write(k.into(), v.into()));
        let txn = |steps: &[Micro]| Action::Txn(steps.into());
        let expected = [
            (Outcome::Ok, txn(&[w("0", 1)])),
            (Outcome::Ok, txn(&[r("0", Some(1.into())), r("1", Some(Value::Nil))])),
            (Outcome::Fail, txn(&[r("1", None), r("0", None)])),
            (Outcome::Info, txn(&[w("1", 1)])),
        ];
        assert_eq!(operations(text), expected);
    }

    #[test]
    fn what_only_looks_like_a_transaction_is_none() {
        // Elements of a set that have the form of steps.
        let set =
            "{:type :invoke :f :add :value [:w 1 2] :process 0}{:type :ok :f :add :value [:w 1 2] :process 0}
            {:type :invoke :f :read :value nil :process 0}{:type :ok :f :read :value #{[:w 1 2]} :process 0}";
        let told = operations(set);
        assert!(
            matches!(&told[..], [(_, Action::Add(_)), (_, Action::Read(Value::List(all)))] if all.len() == 1)
        );
        let list = set.replace(":add", ":append").replace("#{[:w 1 2]}", "[[:w 1 2]]");
        let told = operations(&list);
        assert!(
            matches!(&told[..], [(_, Action::Append(_)), (_, Action::Read(Value::List(all)))] if all.len() == 1)
        );
        // Of keys that are told apart, whole transactions are not read.
        for pair in ["#jepsen.independent.Tuple [7 [[:w 0 1]]]", "[7 [[:w 0 1]]]"] {
            let text = format!("{{:type :invoke :f :write :value {pair} :process 0}}");
            let reason = read("h.edn", &text, &Reading::default()).unwrap_err().to_string();
            assert!(reason.contains("of independent keys single operations are read"), "{reason}");
        }
    }

    #[test]
    fn what_jepsen_stores_is_read_in_every_shape() {
        let plain = "{:index 0 :time 5 :process 0 :type :invoke :f :write :value [7 1]}
            {:index 1 :time 6 :process 0 :type :ok :f :write :value [7 1]}
            {:index 2 :time 7 :process :nemesis :type :info :f :start :value nil}
            {:index 3 :time 8 :process 0 :type :invoke :f :read :value [7 nil]}
            {:index 4 :time 9 :process 0 :type :ok :f :read :value [7 nil]}
            {:index 5 :time 9 :process 0 :type :invoke :f :cas :value [8 [1 2]]}
            {:index 6 :time 9 :process 0 :type :info :f :cas :value nil :error #inst \"2020-01-01\"}
            {:index 7 :time 9 :process 0 :type :invoke :f :read :value [8 nil]}";
        let tagged = plain
            .replace("{:index", "#jepsen.history.Op{:index")
            .replace("[7 1]", "#jepsen.independent.MapEntry [7 1]");
        let texts = plain.replace(":type :invoke", "\"type\" \"invoke\"");
        for text in [plain, &tagged, &texts, &format!("[{}]", plain.replace('\n', " "))] {
            let history = read("h", text, &Reading::default()).unwrap();
            assert_eq!(history.keys.keys().collect::<Vec<_>>(), ["7", "8"], "{text}");
            let seven = &history.keys["7"];
            assert_eq!(seven.model, ModelKind::CasRegister, "a register of its own begins absent");
            assert_eq!(seven.operations[1].action, Action::Read(Value::Nil));
            assert_eq!(seven.operations[1].outcome, Outcome::Ok, "and a read of nil says so");
            assert!(seven.operations[0].precedes(&seven.operations[1]), "even on one line: {text}");
            let eight = &history.keys["8"].operations;
            assert_eq!(eight[0].action, Action::Cas(1.into(), 2.into()));
            assert_ne!(eight[0].process, eight[1].process, "a process that goes on after an info is another");
        }
    }

    #[test]
    fn functions_tell_the_model() {
        let model = |text: &str| {
            let history = read("h", text, &Reading::default()).unwrap();
            let (name, key) = history.keys.iter().next().unwrap();
            (key.model, name.clone(), key.operations.last().unwrap().action.clone())
        };
        let op = |f: &str, invoked: &str, ok: &str| {
            format!(
                "{{:process 0 :type :invoke :f {f} :value {invoked}}} {{:process 0 :type :ok :f {f} :value {ok}}}"
            )
        };
        let list = |items: &[i64]| Value::List(items.iter().copied().map(Value::Int).collect());
        let add = op(":add", "1", "1");
        assert_eq!(
            model(&(add.clone() + &op(":read", "nil", "#{1}"))),
            (ModelKind::Set, "set".into(), Action::Read(list(&[1])))
        );
        assert_eq!(
            model(&(add + &op(":read", "nil", "1"))),
            (ModelKind::Counter, "counter".into(), Action::Read(1.into()))
        );
        assert_eq!(
            model(&op(":txn", "[[:append x 3]]", "[[:append x 3]]")),
            (ModelKind::ListAppend, "x".into(), Action::Append(3.into()))
        );
        assert_eq!(
            model(&(op(":txn", "[[:w x 3]]", "[[:w x 3]]") + &op(":txn", "[[:r x nil]]", "[[:r x 3]]"))),
            (ModelKind::CasRegister, "x".into(), Action::Read(3.into())),
            "Elle's keys begin absent"
        );
        assert_eq!(model(&op(":acquire", "nil", "nil")), (ModelKind::Mutex, "mutex".into(), Action::Acquire));
        assert_eq!(
            model(&(op(":enqueue", "3", "3") + &op(":dequeue", "nil", "3"))),
            (ModelKind::FifoQueue, "fifo-queue".into(), Action::Dequeue(Some(3.into())))
        );
        let steps = |value: Value| {
            Action::Txn([Micro::Write("x".into(), 3.into()), Micro::Read("y".into(), Some(value))].into())
        };
        assert_eq!(
            model(&op(":txn", "[[:w x 3] [:r y nil]]", "[[:w x 3] [:r y [1]]]")),
            (ModelKind::Txn, "txn".into(), steps(list(&[1])))
        );
        assert_eq!(
            model(&op(":txn", "[[:write :x 3] [:read :y nil]]", "[[:write :x 3] [:read :y 7]]")),
            (ModelKind::TxnFrom(0), "txn".into(), steps(7.into()))
        );
        let refused = read("h", &op(":txn", "[[:w x]]", "nil"), &Reading::default());
        assert!(refused.unwrap_err().to_string().starts_with("h:1: "));
    }

    #[test]
    fn what_a_format_leaves_open_can_be_said() {
        let text = "{:process 0 :type :invoke :f :read :value nil}{:process 0 :type :ok :f :read :value nil}";
        let first = |reading: &Reading| {
            let history = read("h", text, reading).unwrap();
            (history.keys["register"].model, history.keys["register"].operations[0].outcome)
        };
        let open = Reading::default();
        assert_eq!(first(&open), (ModelKind::RegisterFrom(0), Outcome::Fail));
        let absent = Reading { nil_read: Some(NilRead::Absent), initial: Some(None), ..open };
        assert_eq!(first(&absent), (ModelKind::CasRegister, Outcome::Ok));
        let seven = Reading { initial: Some(Some(7)), ..open };
        assert_eq!(first(&seven), (ModelKind::RegisterFrom(7), Outcome::Fail));
    }

    #[test]
    fn key_value_texts_have_keys() {
        let text = "{:process 9, :type :invoke, :f :append, :key \"0\", :value \"x 9 0 y\"}
            {:process 9, :type :ok, :f :append, :key \"0\", :value \"x 9 0 y\"}
            {:process 2, :type :invoke, :f :get, :key \"1\", :value nil}
            {:process 2, :type :ok, :f :get, :key \"1\", :value \"\"}";
        let history = read("h", text, &Reading::default()).unwrap();
        assert_eq!(history.keys.keys().collect::<Vec<_>>(), ["0", "1"]);
        assert!(history.keys.values().all(|of_key| of_key.model == ModelKind::Kv));
        assert_eq!(history.keys["1"].operations[0].action, Action::Read(Value::Text("".into())));
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        let refused = |text: &str| read("h", text, &Reading::default()).unwrap_err().to_string();
        let op = |fields: &str| format!("{{:process 0 :type :invoke :f :write :value 1}}\n{{{fields}}}");
        assert_eq!(
            refused("{:process \"x\"}"),
            "h:1: :process \"x\" is neither a number from 0 nor a keyword"
        );
        assert_eq!(refused("{:process -1}"), "h:1: :process -1 is neither a number from 0 nor a keyword");
        assert_eq!(refused(&op(":type :ok")), "h:2: no :process");
        assert_eq!(refused(&op(":process 0 :f :write")), "h:2: no :type");
        assert_eq!(
            refused(&op(":process 0 :type :done :f :write")),
            "h:2: :type :done is none of :invoke, :ok, :fail, :info"
        );
        assert_eq!(refused(&op(":process 0 :type :ok :f 7")), "h:2: :f 7 is no keyword");
        assert!(refused("[1 2]").starts_with("h:1: 1 stands where an operation, {:process 0"));
        assert_eq!(
            refused(&op(":process 0 :type :ok :f :read :value 1")),
            "h:2: read completes a write of key \"register\" (invoked in line 1)"
        );
        assert_eq!(
            refused(&op(":process 0 :type :ok :f :write :value 2")),
            "h:2: completes with 2, was invoked with 1 (invoked in line 1)"
        );
        let pairs =
            "{:process 0 :type :invoke :f :read :value [1 nil]}\n{:process 0 :type :ok :f :read :value 3}";
        assert_eq!(refused(pairs), "h:2: 3 is no [key value], as in other lines");
        let log = |text: &str| {
            read_log(Path::new("h"), text, &Reading::default(), &ample()).unwrap_err().to_string()
        };
        assert_eq!(
            log("0 :invoke :read nil\n0 ok"),
            "h:2: none of :invoke, :ok, :fail, :info after a process"
        );
        assert_eq!(log("0 :invoke"), "h:1: no function after the type");
        assert_eq!(log("0 :invoke :write [1"), "h:1: the file ends before ']'");
    }

    #[test]
    fn logs_are_read_with_and_without_what_stands_before_the_process() {
        let read =
            |text: &str| read_log(Path::new("h"), text, &Reading::default(), &ample()).unwrap().unwrap();
        let plain = "0\t:invoke\t:write\t[:x 3]\n:nemesis\t:info\t:start\tnil\n0\t:info\t:write\t[:x 3]\t:timed-out\n\
                     1\t:invoke\t:read\t[:x nil]\n1\t:ok\t:read\t[:x \"3\"]\n";
        let history = read(plain);
        assert_eq!(history.keys["x"].operations[0].action, Action::Write(3.into()));
        assert_eq!(history.keys["x"].operations[0].outcome, Outcome::Info);
        assert_eq!(history.keys["x"].operations[1].action, Action::Read(Value::Text("3".into())));
        let old = "INFO  jepsen.util - 4   :invoke :cas   [2 4]\nINFO  jepsen.util - 4   :fail   :cas   [2 4]\n\
                   2020-01-01 00:00:00,1{GMT}\tINFO\t[jepsen worker 3] jepsen.util: 3\t:invoke\t:read\tnil\n";
        let history = read(old);
        assert_eq!(history.keys["register"].model, ModelKind::CasRegister);
        assert_eq!(history.keys["register"].operations.len(), 2);
        let bare = read("0 :invoke :read nil\n0 :ok :read nil\n");
        assert_eq!(bare.keys["register"].model, ModelKind::RegisterFrom(0), "as the same history in EDN");
    }

    #[test]
    fn values_of_every_kind_are_told_apart() {
        let values = [
            "nil",
            "-3",
            ":a",
            "\"a\"",
            "1/2",
            "1.5",
            "12345678901234567890123N",
            "#{1 2}",
            "{:a 1}",
            "[1 2 3]",
        ];
        let mut text = String::new();
        for (i, value) in values.iter().enumerate() {
            text += &format!(
                "{{:process {i} :type :invoke :f :write :value {value}}}\n{{:process {i} :type :ok :f :write :value {value}}}\n"
            );
        }
        let brought: Vec<_> =
            operations(&text).into_iter().map(|(_, action)| action.brings().unwrap().clone()).collect();
        assert_eq!(brought[0], Value::Nil, "a write of nil deletes");
        let different: std::collections::BTreeSet<_> = brought.iter().collect();
        assert_eq!(different.len(), values.len(), "{brought:?}");
    }

    #[test]
    fn keys_are_told_by_tags_by_shape_and_by_name() {
        let keys = |text: &str| {
            let history = read("h", text, &Reading::default()).unwrap();
            history.keys.iter().map(|(key, of_key)| (key.clone(), of_key.model)).collect::<Vec<_>>()
        };
        let op = |f: &str, invoked: &str, ok: &str| {
            format!(
                "{{:process 0 :type :invoke :f {f} :value {invoked}}} {{:process 0 :type :ok :f {f} :value {ok}}}"
            )
        };
        let register = ModelKind::CasRegister;
        assert_eq!(keys(&op(":cas", "[7 [1 2]]", "[7 [1 2]]")), [("7".to_owned(), register)]);
        let tag = "#jepsen.independent.Tuple";
        let add = op(":add", &format!("{tag}[:k 1]"), &format!("{tag}[:k 1]"));
        let read = op(":read", &format!("{tag}[:k nil]"), &format!("{tag}[:k #{{1}}]"));
        assert_eq!(keys(&(add + &read)), [("k".to_owned(), ModelKind::Set)]);
        // One write of a pair beside a plain read: the pair is the value.
        let plain = op(":write", "[1 2]", "[1 2]") + &op(":read", "nil", "[1 2]");
        assert_eq!(keys(&plain), [("register".to_owned(), register)]);
        let named = "{:process 0 :type :invoke :f :put :key :x :value 3}{:process 0 :type :ok :f :put :key :x :value 3}";
        assert_eq!(keys(named), [("x".to_owned(), register)]);
        let json = "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"value\":[\"x\",null]}\n\
                    {\"process\":0,\"type\":\"ok\",\"f\":\"write\",\"value\":[\"x\",null]}";
        assert_eq!(keys(json), [("x".to_owned(), register)]);
        assert_eq!(
            keys(&op(":write", ":a", ":a")),
            [("register".to_owned(), register)],
            "no number, no 0 at first"
        );
    }
}
