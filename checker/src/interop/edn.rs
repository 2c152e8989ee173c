//! Histories in EDN: Knossos (one compare-and-set register, 0 at first, where a read of nil is a read of anything) and Porcupine's
//! key-value texts (get, put, append). A file is a vector, a list, or a bare stream of maps.
//! Only what such files hold of EDN is read: maps, sequences, sets, texts, numbers, keywords, symbols, tags, comments.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::{Foreign, kind};
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
        entries.iter().find(|(k, _)| matches!(k, Edn::Name(name) if name == key)).map(|(_, v)| v)
    }

    fn name(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Edn::Name(name) => Some(name),
            _ => None,
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
}

pub(super) fn read(path: &Path, text: &str) -> Result<History, HistoryError> {
    let bad = |line, reason: String| HistoryError::Line { path: path.to_owned(), line, reason };
    let maps = maps(text).map_err(|(line, reason)| bad(line, reason))?;
    let is_kv = maps.iter().any(|(_, map)| matches!(map.name("f"), Some("get" | "put")));
    let model = if is_kv { ModelKind::Kv } else { ModelKind::RegisterFrom(0) };
    let mut foreign = Foreign::new(path, model);
    for (line, map) in &maps {
        let (line, field) =
            (*line, |name: &str| map.name(name).ok_or_else(|| bad(*line, format!("no :{name}"))));
        let process = match map.get("process") {
            Some(Edn::Int(n)) if *n >= 0 => *n as u64,
            Some(Edn::Name(_)) => continue,
            other => return Err(bad(line, format!("process {other:?} is neither a number nor a name"))),
        };
        let mut event =
            kind(field("type")?).ok_or_else(|| bad(line, "none of :invoke, :ok, :fail, :info".into()))?;
        let f = match field("f")? {
            "get" => "read",
            "put" => "write",
            f => f,
        };
        let key = match map.get("key") {
            Some(Edn::Text(key)) => key.as_str(),
            _ => "register",
        };
        let value = map.get("value").unwrap_or(&Edn::Nil);
        if f == "read" && model != ModelKind::Kv && event == EventType::Ok && *value == Edn::Nil {
            // A read of anything constrains nothing, like one that failed.
            event = EventType::Fail;
        }
        let value = match event {
            // What a completion without a result repeats is known from its invoke.
            EventType::Fail | EventType::Info => Json::Null,
            EventType::Invoke if f == "read" => Json::Null,
            EventType::Invoke | EventType::Ok => {
                value.json().ok_or_else(|| bad(line, format!("{value:?} is no value")))?
            }
        };
        foreign.push(line, process, event, f, key, value);
    }
    foreign.pair(model)
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
    use crate::history::{Action, Outcome, Value};

    fn operations(text: &str) -> Vec<(Outcome, Action)> {
        let history = read(Path::new("h.edn"), text).unwrap();
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
    fn key_value_texts_have_keys() {
        let text = "{:process 9, :type :invoke, :f :append, :key \"0\", :value \"x 9 0 y\"}
            {:process 9, :type :ok, :f :append, :key \"0\", :value \"x 9 0 y\"}
            {:process 2, :type :invoke, :f :get, :key \"1\", :value nil}
            {:process 2, :type :ok, :f :get, :key \"1\", :value \"\"}";
        let history = read(Path::new("h"), text).unwrap();
        assert_eq!(history.keys.keys().collect::<Vec<_>>(), ["0", "1"]);
        assert!(history.keys.values().all(|of_key| of_key.model == ModelKind::Kv));
        assert_eq!(history.keys["1"].operations[0].action, Action::Read(Value::Text("".into())));
    }

    #[test]
    fn what_is_no_edn_is_refused_with_its_line() {
        let refused = |text: &str| read(Path::new("h"), text).unwrap_err().to_string();
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
