//! Text with `{placeholders}` and `base64(…)` in it, as descriptions of systems hold it.
//! Which placeholders there are is decided by those who fill them in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Fills in the placeholders of `text`. A placeholder is a word in braces, with another behind a colon or without:
/// `{name}`, `{port:client}`. Other braces are left as they are, and `{{word}}` stands for `{word}`.
///
/// # Errors
/// The first placeholder for which `fill` has nothing.
pub(super) fn expand(text: &str, fill: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out += &rest[..at];
        rest = &rest[at..];
        let escaped = rest.strip_prefix("{{").and_then(|inner| Some((inner, inner.find("}}")?)));
        if let Some((inner, end)) = escaped.filter(|(inner, end)| is_placeholder(&inner[..*end])) {
            out += &rest[1..end + 3];
            rest = &inner[end + 2..];
            continue;
        }
        match rest.find('}').map(|end| &rest[1..end]).filter(|word| is_placeholder(word)) {
            Some(word) => {
                out += &fill(word).ok_or_else(|| word.to_owned())?;
                rest = &rest[word.len() + 2..];
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    Ok(out + rest)
}

fn is_placeholder(word: &str) -> bool {
    let name = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
    };
    match word.split_once(':') {
        Some((first, second)) => name(first) && name(second),
        None => name(word),
    }
}

/// Replaces each `base64(…)` by the base64 of what stands between its parentheses, which holds no parenthesis itself.
pub(super) fn encode(text: &str) -> String {
    const CALL: &str = "base64(";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(CALL) {
        out += before;
        let Some((inner, behind)) = after.split_once(')') else {
            rest = &rest[before.len()..];
            break;
        };
        out += &STANDARD.encode(inner);
        rest = behind;
    }
    out + rest
}

/// The text behind its base64; `None` if it is none, or no text.
pub(super) fn decode(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let fill = |word: &str| match word {
            "name" => Some("n1".to_owned()),
            "port:client" => Some("80".to_owned()),
            _ => None,
        };
        assert_eq!(expand(text, &fill).as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        check("a {name}:{port:client} b", Ok("a n1:80 b"));
        check(r#"{"key":"{name}","x":{}}"#, Ok(r#"{"key":"n1","x":{}}"#));
        check("{{name}} { name } {", Ok("{name} { name } {"));
        check("{nane}", Err("nane"));
        check("{port:peer}", Err("port:peer"));
    }

    #[test]
    fn base64_is_the_one_of_rfc_4648() {
        assert_eq!(encode(r#"{"k":"base64(foobar)","v":"base64()"}"#), r#"{"k":"Zm9vYmFy","v":""}"#);
        assert_eq!(encode("base64(open"), "base64(open");
        assert_eq!(decode("Zm9vYmFy").as_deref(), Some("foobar"));
        assert_eq!(decode("not base64"), None);
    }
}
