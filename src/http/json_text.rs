//! What a parser that only passes JSON on lets through, and those behind it refuse: nesting without an end, and halves
//! of surrogate pairs, which are no text. Refused here, it costs no calls.

use super::error::ApiError;
use super::fields::Fields;

/// Levels of lists and objects within one field. Parsers commonly take 128, the body and whatever a provider wraps
/// around the field included.
const MOST_LEVELS: usize = 100;

/// Checks every field of a body.
///
/// # Errors
///
/// A 400 that names the field, and of a list the element.
pub fn check(fields: &Fields) -> Result<(), ApiError> {
    for (name, value) in fields {
        if let Some(Fault { element, kind }) = fault(value.get()) {
            let param = element.map_or_else(|| name.clone(), |index| format!("{name}[{index}]"));
            let message = match kind {
                Kind::Nesting => format!("`{param}` is nested too deeply; at most {MOST_LEVELS} levels are taken"),
                Kind::Surrogate => format!(
                    "`{param}` holds half of a surrogate pair, such as \\ud800, which is no character; send both \
                     halves, or the character itself"
                ),
            };
            return Err(ApiError::invalid_value(&param, message));
        }
    }
    Ok(())
}

struct Fault {
    /// The element at fault where the value is a list.
    element: Option<usize>,
    kind: Kind,
}

enum Kind {
    Nesting,
    Surrogate,
}

/// The first fault of a valid JSON value, in one pass over its bytes.
fn fault(json: &str) -> Option<Fault> {
    let bytes = json.as_bytes();
    let is_list = bytes.first() == Some(&b'[');
    let (mut at, mut levels, mut element) = (0, 0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        let mut found = None;
        match byte {
            b'"' => match string_end(bytes, at + 1) {
                Some(end) => at = end,
                None => found = Some(Kind::Surrogate),
            },
            b'[' | b'{' if levels == MOST_LEVELS => found = Some(Kind::Nesting),
            b'[' | b'{' => levels += 1,
            b']' | b'}' => levels = levels.saturating_sub(1),
            b',' if levels == 1 => element += 1,
            _ => {}
        }
        if let Some(kind) = found {
            return Some(Fault { element: is_list.then_some(element), kind });
        }
        at += 1;
    }
    None
}

/// Where the string that begins at `at` has its closing quote; `None` where it holds half of a pair.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = &bytes[at.min(bytes.len())..];
        let Some(next) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else { return Some(bytes.len()) };
        at += next;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += match escaped_unit(bytes, at) {
            Some(0xD800..=0xDBFF) => match escaped_unit(bytes, at + 6) {
                Some(0xDC00..=0xDFFF) => 12,
                _ => return None,
            },
            Some(0xDC00..=0xDFFF) => return None,
            Some(_) => 6,
            None => 2,
        };
    }
}

/// The UTF-16 code unit of the escape `\uXXXX` at this place, if there is one.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Option<String> {
        let fields: Fields = serde_json::from_str(&format!("{{\"f\": {json}}}")).unwrap();
        check(&fields).err().map(|error| error.param.unwrap())
    }

    #[test]
    fn half_of_a_pair_is_found_wherever_it_stands() {
        for (json, param) in [
            (r#""\ud800""#, "f"),
            (r#""\uDFFF""#, "f"),
            (r#""\ud83d\u0041""#, "f"),
            (r#""\ud83dx""#, "f"),
            (r#""\ude00\ud83d""#, "f"),
            (r#""\\\ud800""#, "f"),
            (r#"{"\ud800": 1}"#, "f"),
            (r#"["a", "\ud800"]"#, "f[1]"),
            (r#"[{"a": [1, 2], "b": ","}, {}, {"c": {"d": ["\udc00"]}}]"#, "f[2]"),
        ] {
            assert_eq!(refused(json).as_deref(), Some(param), "{json}");
        }
    }

    #[test]
    fn what_is_text_passes() {
        for json in [
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\ud83d\ude00""#,
            r#""\\ud800""#,
            r#""\\\\ud800 \" \\""#,
            r#""\u00e9\n\"\ufffd""#,
            r#""""#,
            "[]",
            "{}",
            "-1.5e3",
            "true",
            r#""é😀""#,
        ] {
            assert_eq!(refused(json), None, "{json}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(refused(&nested(MOST_LEVELS)), None);
        assert_eq!(refused(&nested(MOST_LEVELS + 1)).as_deref(), Some("f[0]"));
        assert_eq!(refused(&format!("[1, {}]", nested(MOST_LEVELS))).as_deref(), Some("f[1]"));
        assert_eq!(refused(&format!("{{\"a\": {}}}", nested(100_000))).as_deref(), Some("f"));
        // Side by side is no nesting, and brackets within strings are text.
        assert_eq!(refused(&format!("[{}]", vec!["[[]]"; 1000].join(","))), None);
        assert_eq!(refused(&format!("\"{}\"", "[".repeat(1000))), None);
    }
}
