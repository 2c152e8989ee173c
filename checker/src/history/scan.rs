//! Reads the common form of an event line without allocating: no white space, no escapes, whole numbers, no field twice.
//! Whatever is unusual is left to serde: a line that is scanned means exactly what serde says of it.

use super::pair::ClientEvent;
use super::{EventType, Value};

/// Digits that fit into 64 bits whatever they are.
const DIGITS_MAX: usize = 18;

/// Bytes that stand for themselves in a text: printable ASCII but for the quote and the backslash.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// The event of a client in the first line of `text` and the length of that line with its newline, or `None` if serde has to
/// look at it.
pub(crate) fn event(text: &[u8]) -> Option<(ClientEvent<'_>, usize)> {
    let mut scanner = Scanner { rest: text };
    let (mut index, mut time, mut process, mut kind, mut f) = (None, None, None, None, None);
    let (mut key, mut value, mut error, mut actual) = (None, None, None, None);
    let (mut node, mut client, mut position) = (None, None, None);
    scanner.expect(b'{')?;
    loop {
        let name = scanner.bytes()?;
        scanner.expect(b':')?;
        match name {
            b"index" => once(&mut index, scanner.number()?)?,
            b"time" => once(&mut time, scanner.number()?)?,
            b"process" => once(&mut process, scanner.number()?)?,
            b"type" => once(&mut kind, event_type(scanner.bytes()?)?)?,
            b"f" => once(&mut f, scanner.text()?)?,
            b"key" => once(&mut key, scanner.text()?)?,
            b"value" => once(&mut value, scanner.value()?)?,
            b"error" => once(&mut error, scanner.text()?)?,
            b"actual" => once(&mut actual, scanner.value()?)?,
            b"node" => once(&mut node, scanner.text()?)?,
            b"client" => once(&mut client, scanner.bytes()?)?,
            b"position" => once(&mut position, scanner.number()?)?,
            _ => return None,
        }
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    let length = match scanner.rest {
        [] => text.len(),
        [b'\n', rest @ ..] => text.len() - rest.len(),
        _ => return None,
    };
    let event = ClientEvent {
        index: index?,
        time: time?,
        process: process?,
        kind: kind?,
        f: f?,
        key,
        value: Ok(value.unwrap_or(Value::Nil)),
        error,
        actual: actual.map(Ok),
        node,
        position,
    };
    Some((event, length))
}

/// Fills a field that was not there yet.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn event_type(name: &[u8]) -> Option<EventType> {
    Some(match name {
        b"invoke" => EventType::Invoke,
        b"ok" => EventType::Ok,
        b"fail" => EventType::Fail,
        b"info" => EventType::Info,
        _ => return None,
    })
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    #[inline]
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// A text without escapes, in ASCII.
    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let mut end = 0;
        while PLAIN[usize::from(*self.rest.get(end)?)] {
            end += 1;
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.expect(b'"')?;
        Some(text)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A number without sign, fraction, exponent or leading zero.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (mut n, mut end) = (0, 0);
        while let Some(digit @ b'0'..=b'9') = self.rest.get(end) {
            if end == DIGITS_MAX {
                return None;
            }
            n = n * 10 + u64::from(digit - b'0');
            end += 1;
        }
        if end == 0 || (self.rest[0] == b'0' && end > 1) {
            return None;
        }
        self.rest = &self.rest[end..];
        Some(n)
    }

    fn value(&mut self) -> Option<Value> {
        match self.rest.first()? {
            b'n' => {
                self.rest = self.rest.strip_prefix(b"null")?;
                Some(Value::Nil)
            }
            b'-' => {
                self.rest = &self.rest[1..];
                // Minus zero is a fraction to serde.
                let n = self.number().filter(|n| *n != 0)?;
                Some(Value::Int(-i64::try_from(n).ok()?))
            }
            b'[' => {
                self.rest = &self.rest[1..];
                let mut items = Vec::new();
                if self.rest.first() == Some(&b']') {
                    self.rest = &self.rest[1..];
                    return Some(Value::List(items.into()));
                }
                loop {
                    // A list in a list is rare, and unbounded in depth.
                    if self.rest.first() == Some(&b'[') {
                        return None;
                    }
                    items.push(self.value()?);
                    match self.next()? {
                        b',' => {}
                        b']' => return Some(Value::List(items.into())),
                        _ => return None,
                    }
                }
            }
            b'"' => self.text().map(|text| Value::Text(text.into())),
            _ => Some(Value::Int(i64::try_from(self.number()?).ok()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::{Event, Process};
    use super::*;

    const LINES: [&str; 8] = [
        r#"{"index":2,"time":1000,"process":0,"type":"invoke","f":"write","key":"r1","value":7,"node":"n1","client":"c0"}"#,
        r#"{"index":4,"time":2000,"process":0,"type":"ok","f":"write","key":"r1","value":-7,"node":"n1","client":"c0","position":12}"#,
        r#"{"index":6,"time":3000,"process":0,"type":"invoke","f":"cas","key":"r1","value":[null,9],"node":"n1"}"#,
        r#"{"index":7,"time":3500,"process":0,"type":"fail","f":"cas","value":[8,9],"error":"cas_mismatch","actual":null}"#,
        r#"{"index":8,"time":4000,"process":1,"type":"info","f":"append","key":"a1","value":"x","error":"timeout"}"#,
        r#"{"index":14,"time":7000,"process":2,"type":"ok","f":"read","key":"a1","value":[3,10,200]}"#,
        r#"{"index":15,"time":7000,"process":2,"type":"ok","f":"read","key":"a1","value":[]}"#,
        r#"{"index":0,"time":0,"process":"nemesis","type":"info","f":"plan","value":{"kinds":["kill"]}}"#,
    ];

    /// Asserts that a line that is scanned means what serde says of it; returns whether it was scanned.
    fn agrees(line: &[u8]) -> bool {
        let Some((scanned, length)) = event(line) else { return false };
        if length < line.len() {
            return agrees(&line[..length]) && agrees(&line[length..]);
        }
        let context = String::from_utf8_lossy(line);
        let serde: Event = serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {context}"));
        assert_eq!(serde.process, Process::Client(scanned.process), "{context}");
        assert_eq!(
            (serde.index, serde.time, serde.kind, serde.f.as_str(), serde.position),
            (scanned.index, scanned.time, scanned.kind, scanned.f, scanned.position),
            "{context}"
        );
        assert_eq!(
            (serde.key.as_deref(), serde.error.as_deref(), serde.node.as_deref()),
            (scanned.key, scanned.error, scanned.node),
            "{context}"
        );
        assert_eq!(Value::from_json(&serde.value), scanned.value.ok(), "{context}");
        assert_eq!(
            serde.actual.map(|json| Value::from_json(&json)),
            scanned.actual.map(|actual| actual.ok()),
            "{context}"
        );
        true
    }

    #[test]
    fn what_is_scanned_is_what_serde_reads() {
        let scanned: Vec<bool> = LINES.iter().map(|line| agrees(line.as_bytes())).collect();
        assert_eq!(scanned, [true, true, true, true, true, true, true, false]);
        for unusual in [
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"read","value":-0}"#,
            r#"{"index":01,"time":1,"process":1,"type":"ok","f":"read"}"#,
            r#"{"index":1,"index":1,"time":1,"process":1,"type":"ok","f":"read"}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"read","value":1.0}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"read","value":1e3}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"read","value":9223372036854775808}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"re\u0061d"}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok"}"#,
            r#"{"index":1,"time":1,"process":1,"type":"ok","f":"read"} x"#,
        ] {
            assert!(!agrees(unusual.as_bytes()), "{unusual}");
        }
    }

    #[test]
    fn mutated_lines_are_scanned_as_serde_reads_them_or_not_at_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut scanned = 0;
        for round in 0..200_000 {
            let mut line = LINES[round % LINES.len()].as_bytes().to_vec();
            for _ in 0..rng.random_range(1..=3) {
                let at = rng.random_range(0..line.len());
                let bytes = br#"0123456789-+.eE"\{}[]:,nultrue x"#;
                match rng.random_range(0..4) {
                    0 => line[at] = bytes[rng.random_range(0..bytes.len())],
                    1 => line.insert(at, bytes[rng.random_range(0..bytes.len())]),
                    2 => _ = line.remove(at),
                    _ => line[at] = rng.random_range(0..=255),
                }
            }
            scanned += usize::from(agrees(&line));
        }
        assert!((5_000..180_000).contains(&scanned), "{scanned} of 200000 mutated lines were scanned");
    }
}
