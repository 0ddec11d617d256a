//! Values written as Python writes them: `str`, `json.dumps` and `strftime`. Models were trained on what these give.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use time::OffsetDateTime;

/// `str(value)`; what is undefined is nothing, as it is to Jinja.
pub(super) fn str(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => {
            let mut out = String::new();
            write_repr(value, &mut out);
            out
        }
    }
}

fn write_repr(value: &Value, out: &mut String) {
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (position, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                write_repr(&key, out);
                out.push_str(": ");
                write_repr(&value.get_item(&key).unwrap_or_default(), out);
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (position, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                write_repr(&item, out);
            }
            out.push_str(if value.is_tuple() && value.len() == Some(1) { "," } else { "" });
            out.push(close);
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// Python's `repr` of a string: single quotes, unless that would need more escapes.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// `repr` of a number: whole ones as they are, others with the fewest digits and an exponent beyond 16 places.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(number) = f64::try_from(value.clone()) else { return value.to_string() };
    let magnitude = number.abs();
    if number == 0.0 || !number.is_finite() || (1e-4..1e16).contains(&magnitude) {
        return match number {
            number if number.is_nan() => "nan".into(),
            f64::INFINITY => "inf".into(),
            f64::NEG_INFINITY => "-inf".into(),
            number => format!("{number:?}"),
        };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// The options of `json.dumps`.
#[derive(Debug)]
pub(super) struct JsonStyle<'a> {
    /// What stands between items.
    pub(super) item: &'a str,
    /// What stands between a key and its value.
    pub(super) key: &'a str,
    /// Spaces of each level on a line of its own; `None`: all on one line.
    pub(super) indent: Option<usize>,
    pub(super) ensure_ascii: bool,
    pub(super) sort_keys: bool,
}

/// `json.dumps(value, …)`.
///
/// # Errors
///
/// When something in it has no form in JSON.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    write_json(value, style, 0, &mut out)?;
    Ok(out)
}

fn write_json(value: &Value, style: &JsonStyle, depth: usize, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => match number(value).as_str() {
            "nan" => out.push_str("NaN"),
            "inf" => out.push_str("Infinity"),
            "-inf" => out.push_str("-Infinity"),
            text => out.push_str(text),
        },
        ValueKind::String => write_json_string(value.as_str().unwrap_or_default(), style, out),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sort_keys {
                keys.sort();
            }
            out.push('{');
            for (position, key) in keys.iter().enumerate() {
                begin_item(position, style, depth, out);
                write_json_string(&key.to_string(), style, out);
                out.push_str(style.key);
                write_json(&value.get_item(key)?, style, depth + 1, out)?;
            }
            end_items(keys.len(), style, depth, out);
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut count = 0;
            for item in value.try_iter()? {
                begin_item(count, style, depth, out);
                write_json(&item, style, depth + 1, out)?;
                count += 1;
            }
            end_items(count, style, depth, out);
            out.push(']');
        }
        _ => return Err(Error::new(ErrorKind::InvalidOperation, "a value has no JSON form")),
    }
    Ok(())
}

fn begin_item(position: usize, style: &JsonStyle, depth: usize, out: &mut String) {
    if position > 0 {
        out.push_str(style.item);
    }
    new_line(style, depth + 1, out);
}

fn end_items(count: usize, style: &JsonStyle, depth: usize, out: &mut String) {
    if count > 0 {
        new_line(style, depth, out);
    }
}

fn new_line(style: &JsonStyle, depth: usize, out: &mut String) {
    if let Some(width) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
}

fn write_json_string(text: &str, style: &JsonStyle, out: &mut String) {
    let quoted = serde_json::to_string(text).expect("strings always serialise");
    if !style.ensure_ascii {
        out.push_str(&quoted);
        return;
    }
    for c in quoted.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// `str.title()`: every letter that follows no letter is a capital.
pub(super) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_letter = false;
    for c in text.chars() {
        match after_letter {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        after_letter = c.is_alphabetic();
    }
    out
}

/// `datetime.strftime(format)`.
///
/// # Errors
///
/// When the format is not understood.
pub(super) fn strftime(now: OffsetDateTime, format: &str) -> Result<String, Error> {
    let bad = || Error::new(ErrorKind::InvalidOperation, format!("the date format {format:?} is not understood"));
    let items = time::format_description::parse_strftime_borrowed(format).map_err(|_| bad())?;
    now.format(&items).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-1.5e300, "-1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (3e-7, "3e-07"),
            (5e-324, "5e-324"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(str(&Value::from(value)), text);
        }
        assert_eq!(str(&Value::from(u64::MAX)), "18446744073709551615");
        assert_eq!(str(&Value::from(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn what_is_no_string_is_written_as_python_would_show_it() {
        assert_eq!(str(&Value::UNDEFINED), "");
        assert_eq!(str(&Value::from(())), "None");
        assert_eq!(str(&Value::from(true)), "True");
        let texts = Value::from(vec!["it's", "a \"b\" it's", "\n\\\u{7}"]);
        assert_eq!(str(&texts), r#"["it's", 'a "b" it\'s', '\n\\\x07']"#);
        assert_eq!(str(&Value::from_pairs([("a", Value::from(())), ("b", Value::from(1))])), "{'a': None, 'b': 1}");
    }

    #[test]
    fn dates_that_cannot_be_written_are_refused() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(strftime(now, "%d %b %Y").unwrap(), "01 Jan 1970");
        assert_eq!(strftime(now, "").unwrap(), "");
        assert!(strftime(now, "%Q").is_err());
    }
}
