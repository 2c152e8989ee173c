//! EDN and JSON as far as histories use them: what one file holds as values with their lines. What they mean is `jepsen`'s business.
//! Maps, sequences, sets, texts, numbers, keywords, symbols, tags, comments, discards; commas and a JSON colon are white space.

use std::borrow::Cow;
use std::fmt;

use crate::history::Value;

/// Nesting that is followed.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Edn<'a> {
    Nil,
    Int(i64),
    Text(Cow<'a, str>),
    /// Without its colon.
    Keyword(&'a str),
    /// A symbol, and what is written like one: `true`, `1.5`, `1/2`, a number beyond 64 bits, a character.
    Symbol(Cow<'a, str>),
    Sequence(Vec<Edn<'a>>),
    Set(Vec<Edn<'a>>),
    Map(Vec<(Edn<'a>, Edn<'a>)>),
    /// A key of its own and a value, tagged as such: Jepsen's independent tuple.
    Tuple(Box<(Edn<'a>, Edn<'a>)>),
}

impl<'a> Edn<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&Edn<'a>> {
        let Edn::Map(entries) = self else { return None };
        entries.iter().find(|(k, _)| k.as_name() == Some(key)).map(|(_, v)| v)
    }

    pub(super) fn as_name(&self) -> Option<&str> {
        match self {
            Edn::Keyword(name) => Some(name),
            Edn::Symbol(name) | Edn::Text(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> Option<&[Edn<'a>]> {
        match self {
            Edn::Sequence(items) | Edn::Set(items) => Some(items),
            _ => None,
        }
    }

    /// As a key and its value, whether tagged so or a sequence of two.
    pub(super) fn pair(&self) -> Option<(&Edn<'a>, &Edn<'a>)> {
        match self {
            Edn::Tuple(pair) => Some((&pair.0, &pair.1)),
            Edn::Sequence(items) => match &items[..] {
                [key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        }
    }

    /// As the name of a key; `None` of nil.
    pub(super) fn key(&self) -> Option<String> {
        match self {
            Edn::Nil => None,
            _ => Some(self.as_name().map_or_else(|| self.to_string(), str::to_owned)),
        }
    }

    /// As one value: whatever is neither nil, a whole number nor a text is the text that shows it.
    pub(super) fn value(&self) -> Value {
        match self {
            Edn::Nil => Value::Nil,
            Edn::Int(n) => Value::Int(*n),
            Edn::Text(text) => Value::Text((&**text).into()),
            _ => Value::Text(self.to_string().into()),
        }
    }

    /// As a list of such values if it has items.
    pub(super) fn list(&self) -> Value {
        match self.items() {
            Some(items) => Value::List(items.iter().map(Edn::value).collect()),
            None => self.value(),
        }
    }
}

/// In one form: equal values look the same, however a file wrote them.
impl fmt::Display for Edn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |items: &[Edn<'_>]| items.iter().map(Edn::to_string).collect::<Vec<_>>();
        let sorted = |mut items: Vec<String>| {
            items.sort();
            items.join(" ")
        };
        match self {
            Edn::Nil => f.write_str("nil"),
            Edn::Int(n) => n.fmt(f),
            Edn::Text(text) => write!(f, "{text:?}"),
            Edn::Keyword(name) => write!(f, ":{name}"),
            Edn::Symbol(name) => f.write_str(name),
            Edn::Sequence(items) => write!(f, "[{}]", row(items).join(" ")),
            Edn::Set(items) => write!(f, "#{{{}}}", sorted(row(items))),
            Edn::Map(entries) => {
                write!(f, "{{{}}}", sorted(entries.iter().map(|(k, v)| format!("{k} {v}")).collect()))
            }
            Edn::Tuple(pair) => write!(f, "[{} {}]", pair.0, pair.1),
        }
    }
}

/// A reason with its line.
pub(super) type Parsed<T> = Result<T, (u64, String)>;

/// What a file holds, one by one with their lines: the items of its vector or list, or a bare stream of values. Less if `late` says
/// of a line that there is no time for what follows.
pub(super) fn stream<'a, E>(
    text: &'a str,
    late: impl Fn(u64) -> Result<(), E>,
) -> Parsed<Result<Vec<(u64, Edn<'a>)>, E>> {
    let mut parser = Parser { all: text, text: text.as_bytes(), at: 0, line: 1, depth: 0 };
    let mut values = Vec::new();
    parser.blank()?;
    if let Some(open @ (b'[' | b'(')) = parser.peek() {
        parser.at += 1;
        let close = if open == b'[' { b']' } else { b')' };
        while let Some((line, item)) = parser.item(close)? {
            values.push((line, item));
            if let (true, Err(ended)) = (values.len().is_multiple_of(CLOCK_VALUES), late(line)) {
                return Ok(Err(ended));
            }
        }
        parser.blank()?;
    }
    while parser.peek().is_some() {
        let line = parser.line;
        values.push((line, parser.value()?));
        parser.blank()?;
        if let (true, Err(ended)) = (values.len().is_multiple_of(CLOCK_VALUES), late(line)) {
            return Ok(Err(ended));
        }
    }
    Ok(Ok(values))
}

/// Values between two looks at the clock.
const CLOCK_VALUES: usize = 1024;

/// The first value of a text, which stands in `line`; nil if there is none.
pub(super) fn first(text: &str, line: u64) -> Parsed<Edn<'_>> {
    let mut parser = Parser { all: text, text: text.as_bytes(), at: 0, line, depth: 0 };
    parser.blank()?;
    if parser.peek().is_none() { Ok(Edn::Nil) } else { parser.value() }
}

struct Parser<'a> {
    all: &'a str,
    /// The same as bytes: what gives a text its structure is ASCII.
    text: &'a [u8],
    at: usize,
    line: u64,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Parsed<T> {
        Err((self.line, reason.into()))
    }

    /// Skips white space, commas, comments, discarded values and the colons of JSON.
    fn blank(&mut self) -> Parsed<()> {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => self.line += 1,
                b';' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b'#' if self.text.get(self.at + 1) == Some(&b'_') => {
                    self.at += 2;
                    self.deeper(|parser| {
                        parser.blank()?;
                        parser.value().map(drop)
                    })?;
                    continue;
                }
                b':' if self.text.get(self.at + 1).is_none_or(|b| b" \t\r\n\"[{".contains(b)) => {}
                b',' => {}
                b if b.is_ascii_whitespace() => {}
                _ => return Ok(()),
            }
            self.at += 1;
        }
        Ok(())
    }

    /// The next of some items with its line, or nothing behind the last.
    fn item(&mut self, close: u8) -> Parsed<Option<(u64, Edn<'a>)>> {
        self.blank()?;
        match self.peek() {
            None => self.fail(format!("the file ends before {:?}", close as char)),
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(None)
            }
            Some(_) => {
                let line = self.line;
                Ok(Some((line, self.value()?)))
            }
        }
    }

    fn sequence(&mut self, close: u8) -> Parsed<Vec<Edn<'a>>> {
        self.at += 1;
        let mut items = Vec::new();
        while let Some((_, item)) = self.item(close)? {
            items.push(item);
        }
        // There are as many of them as words in the file: no room is left between.
        items.shrink_to_fit();
        Ok(items)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail("nested too deeply");
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn value(&mut self) -> Parsed<Edn<'a>> {
        self.deeper(Parser::inner)
    }

    fn inner(&mut self) -> Parsed<Edn<'a>> {
        match self.peek() {
            None => self.fail("a value is missing at the end of the file"),
            Some(b'[') => Ok(Edn::Sequence(self.sequence(b']')?)),
            Some(b'(') => Ok(Edn::Sequence(self.sequence(b')')?)),
            Some(b'{') => {
                let items = self.sequence(b'}')?;
                if items.len() % 2 == 1 {
                    return self.fail("a map with a key and no value");
                }
                let mut entries = Vec::with_capacity(items.len() / 2);
                let mut items = items.into_iter();
                while let Some(entry) = items.next().zip(items.next()) {
                    entries.push(entry);
                }
                Ok(Edn::Map(entries))
            }
            Some(b'"') => self.string(),
            Some(b'#') => self.tagged(),
            Some(b'^') => {
                // Metadata says nothing about the value that follows it.
                self.at += 1;
                self.value()?;
                self.blank()?;
                self.value()
            }
            Some(b'\\') => {
                // A character; the one behind the backslash may be a delimiter.
                let start = self.at;
                self.at += 2;
                self.word();
                Ok(Edn::Symbol(self.since(start).into()))
            }
            Some(_) => {
                let line = self.line;
                let word = self.word();
                if word.is_empty() {
                    return Err((line, format!("unexpected {:?}", self.text[self.at] as char)));
                }
                Ok(word_value(word))
            }
        }
    }

    fn tagged(&mut self) -> Parsed<Edn<'a>> {
        self.at += 1;
        match self.peek() {
            Some(b'{') => return Ok(Edn::Set(self.sequence(b'}')?)),
            // ##Inf, ##NaN
            Some(b'#') => return Ok(Edn::Symbol(format!("#{}", self.word()).into())),
            _ => {}
        }
        let tag = self.word();
        if tag.is_empty() {
            return self.fail("a tag without a name");
        }
        self.blank()?;
        let value = self.value()?;
        let independent = tag.ends_with("MapEntry") || tag.contains("independent");
        Ok(match value.pair() {
            Some((key, value)) if independent => Edn::Tuple((key.clone(), value.clone()).into()),
            _ => match (value.get("key"), value.get("value")) {
                (Some(key), Some(value)) if independent => Edn::Tuple((key.clone(), value.clone()).into()),
                // Any other tag says nothing that is judged.
                _ => value,
            },
        })
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|b| !b.is_ascii_whitespace() && !b"[](){}\",;".contains(&b)) {
            self.at += 1;
        }
        self.since(start)
    }

    /// What was passed since `start`. Both ends are at ASCII, or at an end.
    fn since(&self, start: usize) -> &'a str {
        self.all.get(start..self.at.min(self.all.len())).unwrap_or_default()
    }

    fn string(&mut self) -> Parsed<Edn<'a>> {
        let start = self.at + 1;
        // Filled from the first escape on.
        let mut bytes: Option<Vec<u8>> = None;
        loop {
            self.at += 1;
            match self.peek() {
                None => return self.fail("the file ends inside a text"),
                Some(b'"') => {
                    let text = match bytes {
                        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
                        None => self.since(start).into(),
                    };
                    self.at += 1;
                    // In JSON a colon follows a key at once; in EDN nothing does.
                    self.at += usize::from(self.peek() == Some(b':'));
                    return Ok(Edn::Text(text));
                }
                Some(b'\\') => {
                    let before = self.since(start);
                    let bytes = bytes.get_or_insert_with(|| before.into());
                    self.at += 1;
                    match self.peek() {
                        Some(b'n') => bytes.push(b'\n'),
                        Some(b't') => bytes.push(b'\t'),
                        Some(b'r') => bytes.push(b'\r'),
                        Some(b'b') => bytes.push(8),
                        Some(b'f') => bytes.push(12),
                        Some(b'u') => bytes.extend(self.unicode()?.to_string().bytes()),
                        Some(other) => bytes.push(other),
                        None => return self.fail("the file ends inside a text"),
                    }
                }
                Some(byte) => {
                    self.line += u64::from(byte == b'\n');
                    bytes.iter_mut().for_each(|bytes| bytes.push(byte));
                }
            }
        }
    }

    /// The character of `\uXXXX`, or of two of them that make one; stands at the `u` before and at the last digit after.
    fn unicode(&mut self) -> Parsed<char> {
        let first = self.hex()?;
        let low = self.text.get(self.at + 1..self.at + 3) == Some(b"\\u");
        if (0xd800..0xdc00).contains(&first) && low {
            self.at += 2;
            let second = self.hex()?;
            let code = 0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Parsed<u32> {
        let digits = self.text.get(self.at + 1..self.at + 5).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.fail("\\u is followed by four hexadecimal digits"),
        }
    }
}

/// What a word outside of texts means.
fn word_value(word: &str) -> Edn<'_> {
    if let Some(name) = word.strip_prefix(':') {
        return Edn::Keyword(name);
    }
    if word == "nil" || word == "null" {
        return Edn::Nil;
    }
    if !word.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit()) {
        return Edn::Symbol(word.into());
    }
    let number = word.strip_suffix(['N', 'M']).unwrap_or(word);
    let hexadecimal = |digits: &str| i64::from_str_radix(digits, 16).ok();
    if let Some(n) = number.strip_prefix("0x").and_then(hexadecimal).or_else(|| number.parse().ok()) {
        return Edn::Int(n);
    }
    let shown = |n: f64| format!("{n:?}");
    let decimal = number.contains(['.', 'e', 'E']).then(|| number.parse().ok().map(shown)).flatten();
    Edn::Symbol(decimal.map_or(number.into(), Cow::Owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Parsed<Vec<(u64, Edn<'_>)>> {
        Ok(stream(text, |_| Ok::<(), ()>(()))?.unwrap())
    }

    fn one(text: &str) -> Edn<'_> {
        let values = all(text).unwrap();
        assert_eq!(values.len(), 1, "{text}: {values:?}");
        values[0].1.clone()
    }

    #[test]
    fn a_stream_ends_when_it_is_late() {
        let text = "1 ".repeat(2 * CLOCK_VALUES) + "]";
        let at = |line| Err::<(), u64>(line);
        assert_eq!(stream(&text, at), Ok(Err(1)), "before the bracket that is wrong");
        assert_eq!(stream(&format!("[{text}"), at), Ok(Err(1)));
        assert!(stream(&text, |_| Ok::<(), ()>(())).is_err());
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let shown = |text: &str| one(&format!("[[{text}]]")).to_string();
        for (text, expected) in [
            ("nil null", "[nil nil]"),
            ("1 -2 +3 4N -9223372036854775808 0x1f", "[1 -2 3 4 -9223372036854775808 31]"),
            (
                "123456789012345678901234567890N 1.50 -1e3 2.5M 1/2",
                "[123456789012345678901234567890 1.5 -1000.0 2.5 1/2]",
            ),
            (":a :ns/b c true \\a \\newline \\[", "[:a :ns/b c true \\a \\newline \\[]"),
            ("\"a \\\"b\\\" \\\\ \\u00e9 \\ud83d\\ude00\"", "[\"a \\\"b\\\" \\\\ é 😀\"]"),
            ("#{3 1 2} {:b 1, :a 2} (1 (2))", "[#{1 2 3} {:a 2 :b 1} [1 [2]]]"),
            (
                "#inst \"2020\" #uuid \"x\" #:n{:a 1} ##Inf #object[a.B 0x1 \"c\"] ^{:m 1} 7",
                "[\"2020\" \"x\" {:a 1} ##Inf [a.B 1 \"c\"] 7]",
            ),
            ("1 #_ 2 #_ #_ 3 4 #_{:a [5]} ; 6\n 7", "[1 7]"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(all("[1 #_{:a [} 2]").is_err(), "what is discarded is a value, too");
        assert_eq!(one("#jepsen.independent.Tuple{:key 1 :value 2}"), one("#clojure.lang.MapEntry[1 2]"));
        assert_eq!(
            one("{\"a\":null,\"b\" : [1,2],\"c\":\"x\",\"d\":-1}"),
            one("{\"a\" nil \"b\" [1 2] \"c\" \"x\" \"d\" -1}")
        );
    }

    #[test]
    fn equal_values_are_equal_texts() {
        assert_eq!(one("{:b #{2 1} :a 1.0}").value(), one("{:a 1.00, :b #{1, 2}}").value());
        assert_ne!(one(":a").value(), one("a").value());
        assert_ne!(one("1.0").value(), one("1").value());
        assert_eq!(one(":a").key(), one("\"a\"").key());
        assert_eq!(one("[[1 :x]]").key().unwrap(), "[1 :x]");
    }

    #[test]
    fn what_is_no_edn_is_refused_with_its_line() {
        let refused = |text: &str| all(text).unwrap_err();
        assert_eq!(refused("[{:process 1\n"), (2, "the file ends before '}'".into()));
        assert_eq!(refused("{:process 1 :type}"), (1, "a map with a key and no value".into()));
        assert_eq!(refused("[\n}]"), (2, "unexpected '}'".into()));
        assert_eq!(refused("\n\"a\\u12g4\""), (2, "\\u is followed by four hexadecimal digits".into()));
        assert_eq!(refused("#"), (1, "a tag without a name".into()));
        for deep in ["[", "#_", "#a ", "^", "{1 "] {
            assert!(refused(&deep.repeat(5000)).1.contains("nested too deeply"), "{deep}");
        }
    }
}
