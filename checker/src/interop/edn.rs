//! Histories in EDN: what Jepsen and Maelstrom store, Knossos' data, Porcupine's key-value texts. A file is a vector, a list, or a
//! bare stream of maps or tagged records. What the operations are is told by their functions; see [`Told`].
//! Only what such files hold of EDN is read: maps, sequences, sets, texts, numbers, keywords, symbols, tags, comments.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Foreign, NilRead, Reading, kind};
use crate::history::{EventType, History, HistoryError};
use crate::model::ModelKind;

/// Nesting that is followed.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Edn {
    Nil,
    Int(i64),
    Text(String),
    /// A keyword without its colon, or a symbol.
    Name(String),
    Sequence(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    fn get(&self, key: &str) -> Option<&Edn> {
        let Edn::Map(entries) = self else { return None };
        entries
            .iter()
            .find(|(k, _)| matches!(k, Edn::Name(name) | Edn::Text(name) if name == key))
            .map(|(_, v)| v)
    }

    fn name(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Edn::Name(name) | Edn::Text(name) => Some(name),
            _ => None,
        }
    }

    fn items(&self) -> Option<&[Edn]> {
        match self {
            Edn::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// As the name of a key.
    fn key(&self) -> Option<String> {
        match self {
            Edn::Int(n) => Some(n.to_string()),
            Edn::Text(name) | Edn::Name(name) => Some(name.clone()),
            Edn::Nil | Edn::Sequence(_) | Edn::Map(_) => None,
        }
    }

    fn json(&self) -> Option<Json> {
        Some(match self {
            Edn::Nil => Json::Null,
            Edn::Int(n) => json!(n),
            Edn::Text(text) => json!(text),
            Edn::Sequence(items) => Json::Array(items.iter().map(Edn::json).collect::<Option<_>>()?),
            Edn::Name(_) | Edn::Map(_) => return None,
        })
    }

    /// As the steps of a transaction, under our names.
    fn steps(&self) -> Option<Json> {
        let step = |step: &Edn| match step.items()? {
            [Edn::Name(f), key, value] => Some(json!([
                match f.as_str() {
                    "read" => "r",
                    "write" => "w",
                    f => f,
                },
                key.key()?,
                value.json()?
            ])),
            _ => None,
        };
        self.items()?.iter().map(step).collect::<Option<_>>().map(Json::Array)
    }
}

/// An operation of a client as a file tells it.
struct Told<'a> {
    line: u64,
    process: u64,
    kind: EventType,
    /// Function under our name.
    f: &'a str,
    /// Of files whose operations name one: by `:key`, by Jepsen's independent `[key value]`, or inside a transaction.
    key: Option<String>,
    value: &'a Edn,
}

pub(super) fn read(path: &Path, text: &str, reading: &Reading) -> Result<History, HistoryError> {
    let bad = |(line, reason): (u64, String)| HistoryError::Line { path: path.to_owned(), line, reason };
    let maps = maps(text).map_err(bad)?;
    let shape = Shape {
        independent: maps.iter().any(|(_, map)| is_independent(map)),
        whole: maps.iter().any(|(_, map)| is_long(map)),
    };
    let independent = shape.independent;
    let mut told = Vec::with_capacity(maps.len());
    for (line, map) in &maps {
        told.extend(tell(*line, map, &shape).map_err(bad)?);
    }
    let mut model = reading.model.unwrap_or_else(|| infer(&maps, &told));
    if let (ModelKind::Txn | ModelKind::TxnFrom(_), Some(initial)) = (model, reading.initial) {
        model = initial.map_or(ModelKind::Txn, ModelKind::TxnFrom);
    }
    if model == ModelKind::CasRegister {
        // Knossos' data begins with 0; a register that exists once a key begins absent.
        let zero = reading.model.is_none() && !independent;
        model = match reading.initial {
            Some(Some(n)) => ModelKind::RegisterFrom(n),
            None if zero => ModelKind::RegisterFrom(0),
            Some(None) | None => ModelKind::CasRegister,
        };
    }
    let nil = reading.nil_read.unwrap_or(if independent { NilRead::Absent } else { NilRead::Anything });
    let mut foreign = Foreign::new(path, model);
    let mut open: HashMap<u64, (&str, String)> = HashMap::new();
    for Told { line, process, mut kind, f, key, value } in told {
        let of_nil = f == "read" && kind == EventType::Ok && *value == Edn::Nil;
        if of_nil && model.is_register() && nil == NilRead::Anything {
            // A read of anything constrains nothing, like one that failed.
            kind = EventType::Fail;
        }
        let json = match (kind, f) {
            // What a completion without a result repeats is known from its invoke.
            (EventType::Fail | EventType::Info, _)
            | (EventType::Invoke, "read" | "dequeue")
            | (_, "acquire" | "release") => Json::Null,
            (_, "txn") => value.steps().ok_or_else(|| bad((line, format!("{value:?} is no transaction"))))?,
            _ => value.json().ok_or_else(|| bad((line, format!("{value:?} is no value"))))?,
        };
        let (f, key) = match kind {
            EventType::Invoke => {
                let plain = matches!(model, ModelKind::CasRegister | ModelKind::RegisterFrom(_));
                let key = key.unwrap_or_else(|| if plain { "register" } else { model.name() }.into());
                open.insert(process, (f, key.clone()));
                (f, key)
            }
            // A completion may leave out what its invoke said.
            _ => open.remove(&process).unwrap_or((f, key.unwrap_or_default())),
        };
        foreign.push(line, process, kind, f, &key, json)?;
    }
    Ok(foreign.finish())
}

/// Whether an invoke carries Jepsen's independent `[key value]`: no other read is invoked with a value, no other write with a
/// pair.
fn is_independent(map: &Edn) -> bool {
    let client = matches!(map.get("process"), Some(Edn::Int(_)));
    let single = matches!(map.name("f"), Some("read" | "write")) && map.name("type") == Some("invoke");
    client && single && map.get("value").and_then(Edn::items).is_some_and(|pair| pair.len() == 2)
}

/// Whether it is a transaction of other than one operation.
fn is_long(map: &Edn) -> bool {
    map.name("f") == Some("txn")
        && map.get("value").and_then(Edn::items).is_some_and(|steps| steps.len() != 1)
}

/// What all maps of a file have in common.
struct Shape {
    /// Values are Jepsen's independent `[key value]`.
    independent: bool,
    /// Transactions are judged as such, not by their one operation.
    whole: bool,
}

/// What a map says of a client's operation; nothing if it is the nemesis's.
fn tell<'a>(line: u64, map: &'a Edn, shape: &Shape) -> Result<Option<Told<'a>>, (u64, String)> {
    let bad = |reason: String| (line, reason);
    let field = |name: &str| map.name(name).ok_or_else(|| bad(format!("no :{name}")));
    let process = match map.get("process") {
        Some(Edn::Int(n)) if *n >= 0 => n.cast_unsigned(),
        Some(Edn::Name(_)) => return Ok(None),
        other => return Err(bad(format!("process {other:?} is neither a number nor a name"))),
    };
    let kind = kind(field("type")?).ok_or_else(|| bad("none of :invoke, :ok, :fail, :info".into()))?;
    let value = map.get("value").unwrap_or(&Edn::Nil);
    let f = field("f")?;
    let (f, key, value) = if f == "txn" && !shape.whole {
        match value.items().map(|operations| (operations, operations.first().and_then(Edn::items))) {
            Some(([_], Some([Edn::Name(f), key, value]))) => (f.as_str(), key.key(), value),
            _ if kind == EventType::Fail || kind == EventType::Info => (f, None, &Edn::Nil),
            _ => return Err(bad(format!("{value:?} is no transaction"))),
        }
    } else if shape.independent {
        match value.items() {
            Some([key, value]) => (f, key.key(), value),
            _ if kind == EventType::Fail || kind == EventType::Info => (f, None, &Edn::Nil),
            _ => return Err(bad(format!("{value:?} is no [key value], as in other lines"))),
        }
    } else {
        (f, map.get("key").and_then(Edn::key), value)
    };
    let f = match f {
        "get" | "r" => "read",
        "put" | "w" => "write",
        f => f,
    };
    Ok(Some(Told { line, process, kind, f, key, value }))
}

/// The model that the functions speak of.
fn infer(maps: &[(u64, Edn)], told: &[Told<'_>]) -> ModelKind {
    let any = |f: &str| told.iter().any(|t| t.f == f);
    let reads_lists =
        || told.iter().any(|t| t.f == "read" && t.kind == EventType::Ok && t.value.items().is_some());
    if maps.iter().any(|(_, map)| matches!(map.name("f"), Some("get" | "put"))) {
        ModelKind::Kv
    } else if told.iter().any(|t| t.f == "txn") {
        // Knossos writes its steps out and begins with 0; Elle's keys begin absent.
        let steps = |t: &Told<'_>| t.value.items().unwrap_or_default().to_vec();
        let names =
            |step: &Edn| matches!(step.items(), Some([Edn::Name(f), ..]) if f == "read" || f == "write");
        let written_out = told.iter().any(|t| t.f == "txn" && steps(t).iter().any(names));
        if written_out { ModelKind::TxnFrom(0) } else { ModelKind::Txn }
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

/// The maps of a file with their lines.
fn maps(text: &str) -> Result<Vec<(u64, Edn)>, (u64, String)> {
    let mut parser = Parser { text: text.as_bytes(), at: 0, line: 1, depth: 0 };
    let mut maps = Vec::new();
    parser.blank();
    if let Some(open @ (b'[' | b'(')) = parser.peek() {
        parser.at += 1;
        parser.items(if open == b'[' { b']' } else { b')' }, |line, item| maps.push((line, item)))?;
        parser.blank();
    }
    while parser.peek().is_some() {
        let line = parser.line;
        maps.push((line, parser.value()?));
        parser.blank();
    }
    Ok(maps)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
    depth: usize,
}

type Parsed<T> = Result<T, (u64, String)>;

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Parsed<T> {
        Err((self.line, reason.into()))
    }

    /// Skips white space, commas and comments.
    fn blank(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => self.line += 1,
                b';' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b',' => {}
                b if b.is_ascii_whitespace() => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn items(&mut self, close: u8, mut take: impl FnMut(u64, Edn)) -> Parsed<()> {
        loop {
            self.blank();
            match self.peek() {
                None => return self.fail(format!("the file ends before {:?}", close as char)),
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => {
                    let line = self.line;
                    let item = self.value()?;
                    take(line, item);
                }
            }
        }
    }

    fn sequence(&mut self, close: u8) -> Parsed<Vec<Edn>> {
        self.at += 1;
        let mut items = Vec::new();
        self.items(close, |_, item| items.push(item))?;
        Ok(items)
    }

    fn value(&mut self) -> Parsed<Edn> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail("nested too deeply");
        }
        let value = self.inner();
        self.depth -= 1;
        value
    }

    fn inner(&mut self) -> Parsed<Edn> {
        match self.peek() {
            None => self.fail("a value is missing at the end of the file"),
            Some(b'[') => Ok(Edn::Sequence(self.sequence(b']')?)),
            Some(b'(') => Ok(Edn::Sequence(self.sequence(b')')?)),
            Some(b'{') => {
                let items = self.sequence(b'}')?;
                if items.len() % 2 == 1 {
                    return self.fail("a map with a key and no value");
                }
                let mut items = items.into_iter();
                Ok(Edn::Map(std::iter::from_fn(|| items.next().zip(items.next())).collect()))
            }
            Some(b'"') => self.string(),
            Some(b'#') => {
                self.at += 1;
                if self.peek() == Some(b'{') {
                    return Ok(Edn::Sequence(self.sequence(b'}')?));
                }
                // A tag: its value alone is kept.
                self.word();
                self.blank();
                self.value()
            }
            Some(_) => {
                let line = self.line;
                let word = self.word();
                if word.is_empty() {
                    return Err((line, format!("unexpected {:?}", self.text[self.at] as char)));
                }
                Ok(match word.as_str() {
                    "nil" => Edn::Nil,
                    word => match word.strip_suffix('N').unwrap_or(word).parse() {
                        Ok(number) => Edn::Int(number),
                        Err(_) => Edn::Name(word.strip_prefix(':').unwrap_or(word).to_owned()),
                    },
                })
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|b| !b.is_ascii_whitespace() && !b"[](){}\",;".contains(&b)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn string(&mut self) -> Parsed<Edn> {
        let mut bytes = Vec::new();
        loop {
            self.at += 1;
            match self.peek() {
                None => return self.fail("the file ends inside a text"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Edn::Text(String::from_utf8_lossy(&bytes).into_owned()));
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'n') => bytes.push(b'\n'),
                        Some(b't') => bytes.push(b'\t'),
                        Some(other) => bytes.push(other),
                        None => return self.fail("the file ends inside a text"),
                    }
                }
                Some(byte) => {
                    self.line += u64::from(byte == b'\n');
                    bytes.push(byte);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Micro, Outcome, Value};

    fn operations(text: &str) -> Vec<(Outcome, Action)> {
        let history = read(Path::new("h.edn"), text, &Reading::default()).unwrap();
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
            let history = read(Path::new("h"), text, &Reading::default()).unwrap();
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
            let history = read(Path::new("h"), text, &Reading::default()).unwrap();
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
            (ModelKind::RegisterFrom(0), "x".into(), Action::Read(3.into()))
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
        let refused = read(Path::new("h"), &op(":txn", "[[:w x]]", "nil"), &Reading::default());
        assert!(refused.unwrap_err().to_string().starts_with("h:1: "));
    }

    #[test]
    fn what_a_format_leaves_open_can_be_said() {
        let text = "{:process 0 :type :invoke :f :read :value nil}{:process 0 :type :ok :f :read :value nil}";
        let first = |reading: &Reading| {
            let history = read(Path::new("h"), text, reading).unwrap();
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
        let history = read(Path::new("h"), text, &Reading::default()).unwrap();
        assert_eq!(history.keys.keys().collect::<Vec<_>>(), ["0", "1"]);
        assert!(history.keys.values().all(|of_key| of_key.model == ModelKind::Kv));
        assert_eq!(history.keys["1"].operations[0].action, Action::Read(Value::Text("".into())));
    }

    #[test]
    fn what_is_no_edn_is_refused_with_its_line() {
        let refused = |text: &str| read(Path::new("h"), text, &Reading::default()).unwrap_err().to_string();
        assert_eq!(refused("[{:process 1\n"), "h:2: the file ends before '}'");
        assert_eq!(refused("{:process 1 :type}"), "h:1: a map with a key and no value");
        assert_eq!(
            refused("{:process \"x\"}"),
            "h:1: process Some(Text(\"x\")) is neither a number nor a name"
        );
        assert_eq!(refused("[\n}]"), "h:2: unexpected '}'");
        assert!(refused(&"[".repeat(5000)).contains("nested too deeply"));
    }
}
