//! Where in an answer something stands: a JSON pointer (RFC 6901) in which `*` means every element of a list.
//! `base64 ` before it says that what stands there is encoded.

use serde::Deserialize;
use serde_json::Value;

use super::template::decode;

/// A place in a JSON answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pointer {
    steps: Vec<String>,
    encoded: bool,
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Pointer, String> {
        let (encoded, path) = match text.strip_prefix("base64 ") {
            Some(path) => (true, path),
            None => (false, text.as_str()),
        };
        if path.is_empty() {
            return Ok(Pointer { steps: Vec::new(), encoded });
        }
        let Some(path) = path.strip_prefix('/') else {
            return Err(format!(
                "{text:?} is no pointer into an answer, such as /kvs/0/value or base64 /kvs/*/value; \"\" is all of it"
            ));
        };
        let steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Pointer { steps, encoded })
    }
}

impl Pointer {
    /// What stands there: null if nothing does, a list if the pointer holds a `*`.
    pub(super) fn pick(&self, answer: &Value) -> Value {
        let mut found = Vec::new();
        collect(answer, &self.steps, &mut found);
        let mut found = found.into_iter().map(|value| match value.as_str().filter(|_| self.encoded) {
            // What is no base64 is shown as it is: the judge sees a value that nobody wrote.
            Some(text) => Value::from(decode(text).unwrap_or_else(|| text.to_owned())),
            None => value.clone(),
        });
        if self.steps.iter().any(|step| step == "*") {
            found.collect()
        } else {
            found.next().unwrap_or(Value::Null)
        }
    }

    /// The number that stands there, written as such or as text.
    pub(super) fn number(&self, answer: &Value) -> Option<u64> {
        let value = self.pick(answer);
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// The word that stands there; a number counts as one.
    pub(super) fn word(&self, answer: &Value) -> Option<String> {
        match self.pick(answer) {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

fn collect<'a>(value: &'a Value, steps: &[String], found: &mut Vec<&'a Value>) {
    let Some((step, rest)) = steps.split_first() else { return found.push(value) };
    match value {
        Value::Array(items) if step == "*" => items.iter().for_each(|item| collect(item, rest, found)),
        Value::Array(items) => {
            if let Some(item) = step.parse::<usize>().ok().and_then(|rank| items.get(rank)) {
                collect(item, rest, found);
            }
        }
        Value::Object(fields) => {
            if let Some(field) = fields.get(step) {
                collect(field, rest, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(pointer: &str, expected: Value) {
        let answer = json!({"kvs": [{"v": "MQ=="}, {"v": "Mg=="}], "term": "7", "n": 3, "a/b": true});
        assert_eq!(Pointer::try_from(pointer.to_owned()).unwrap().pick(&answer), expected, "{pointer}");
    }

    #[test]
    fn a_pointer_finds_one_value_or_all() {
        check("/kvs/1/v", json!("Mg=="));
        check("base64 /kvs/1/v", json!("2"));
        check("base64 /kvs/*/v", json!(["1", "2"]));
        check("/kvs/9/v", Value::Null);
        check("/none/*/v", json!([]));
        check("/a~1b", json!(true));
        let whole = |text: &str| Pointer::try_from(text.to_owned()).unwrap().pick(&json!(["MQ=="]));
        assert_eq!(
            (whole(""), whole("/*"), whole("base64 /0")),
            (json!(["MQ=="]), json!(["MQ=="]), json!("1"))
        );
        let number = |text: &str| {
            Pointer::try_from(text.to_owned()).unwrap().number(&json!({"a": "7", "b": 8, "c": "x"}))
        };
        assert_eq!([number("/a"), number("/b"), number("/c")], [Some(7), Some(8), None]);
        assert!(Pointer::try_from("kvs".to_owned()).unwrap_err().contains("\"kvs\""));
    }
}
