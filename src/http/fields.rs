//! The members of a request's body, taken out one by one: each with its type, and with errors in plain words that
//! name it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::config::aws;
use crate::config::field::{self, wrong_type};
use crate::config::fields::EXTRA_ARGS;

use super::error::ApiError;

/// Members of a JSON object with their text as it came.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// Reads a body, which must be a JSON object.
///
/// # Errors
///
/// A 400 that says where it goes wrong, without quoting it.
pub fn read(body: &[u8]) -> Result<Fields, ApiError> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

/// What is said of a body that is no JSON object. The parser's own words may quote the body, which may hold a key.
pub fn unreadable(error: &serde_json::Error) -> ApiError {
    let message = match error.classify() {
        Category::Data => "the body must be a JSON object such as {\"model\": \"…\"}".to_owned(),
        _ => {
            let (line, column) = (error.line(), error.column());
            format!("the body is not valid JSON: it breaks off or goes wrong at line {line}, column {column}")
        }
    };
    ApiError::bad_request(None, "invalid_value", message)
}

/// Refuses what says as whom, or where, AWS is called. Whoever sends it means it for the configuration; passed on as an
/// unknown field, it would show a secret to a model.
///
/// # Errors
///
/// A 400 for any name that begins with `aws_`, in whatever letters.
pub fn check_not_of_aws(name: &str) -> Result<(), ApiError> {
    let lower = name.to_ascii_lowercase();
    if !lower.starts_with(aws::PREFIX) {
        return Ok(());
    }
    let place = match lower.as_str() {
        "aws_region" | "aws_default_region" => "extra_args.aws_region_name".to_owned(),
        field if EXTRA_ARGS.iter().any(|member| member.name == field) => format!("extra_args.{field}"),
        _ => "extra_args".to_owned(),
    };
    let message = format!("`{}` is set by POST /configure, in `{place}`, not by a request; leave it out", shown(name));
    Err(ApiError::invalid_value(name, message))
}

/// The value of a member that stays where it is.
///
/// # Errors
///
/// A number that no double can hold, which is the one thing that JSON may say and a value cannot.
pub fn value_of(name: &str, raw: &RawValue) -> Result<Value, ApiError> {
    serde_json::from_str(raw.get())
        .map_err(|_| ApiError::invalid_value(name, format!("`{name}` holds a number that is too large")))
}

pub fn value(fields: &mut Fields, name: &str) -> Result<Option<Value>, ApiError> {
    fields.remove(name).map(|raw| value_of(name, &raw)).transpose()
}

/// A string, which may be empty.
pub fn text(fields: &mut Fields, name: &str) -> Result<Option<String>, ApiError> {
    match value(fields, name)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(name, "a string", &other).into()),
    }
}

pub fn flag(fields: &mut Fields, name: &str) -> Result<Option<bool>, ApiError> {
    Ok(value(fields, name)?.map(|value| field::boolean(name, &value)).transpose()?)
}

/// A whole number in a range, however it is written: `1e3` is one.
pub fn whole(fields: &mut Fields, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
    Ok(value(fields, name)?.map(|value| field::integer(name, &value, range)).transpose()?)
}

pub fn number(fields: &mut Fields, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
    Ok(value(fields, name)?.map(|value| field::number(name, &value, range)).transpose()?)
}

/// The elements of a list with their text as it came.
pub fn list<'a>(name: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| ApiError::invalid_value(name, format!("`{name}` must be a list")))
}

/// The members of an object with their text as it came; those that are null are left out, for they say nothing.
pub fn members(name: &str, raw: &RawValue) -> Result<Fields, ApiError> {
    let mut members: Fields = serde_json::from_str(raw.get())
        .map_err(|_| ApiError::invalid_value(name, format!("`{name}` must be an object")))?;
    members.retain(|_, value| value.get() != "null");
    Ok(members)
}

/// The name of a model, which must be there.
pub fn model(fields: &mut Fields) -> Result<String, ApiError> {
    let model = text(fields, "model")?.ok_or_else(|| ApiError::missing_field("model"))?;
    if model.is_empty() {
        return Err(ApiError::invalid_value("model", "`model` is empty; GET /v1/models lists the names"));
    }
    check_model(&model)?;
    Ok(model)
}

/// Refuses what no model is called, and what would make a mess of logs and headers.
pub fn check_model(name: &str) -> Result<(), ApiError> {
    if name.chars().any(char::is_control) {
        return Err(ApiError::invalid_value("model", "`model` must not hold control characters such as line breaks"));
    }
    Ok(())
}

/// The beginning of a client's text, for messages: nobody needs all of what is wrong with it.
pub fn shown(text: &str) -> String {
    const MOST_CHARS: usize = 60;
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn whole_numbers_may_be_written_in_any_way() {
        for written in ["1000", "1000.0", "1e3"] {
            let mut fields = read(format!("{{\"seed\": {written}}}").as_bytes()).unwrap();
            assert_eq!(whole(&mut fields, "seed", i64::MIN..=i64::MAX).unwrap(), Some(1000), "{written}");
        }
        for (written, told) in [
            ("1.5", "must be a whole number from 0 to 10, not 1.5"),
            ("11", "must be a whole number from 0 to 10, not 11"),
            ("\"1\"", "must be a whole number, not a string"),
            ("1e999", "holds a number that is too large"),
        ] {
            let error = whole(&mut read(format!("{{\"n\": {written}}}").as_bytes()).unwrap(), "n", 0..=10).unwrap_err();
            assert_eq!((error.param.as_deref(), error.message), (Some("n"), format!("`n` {told}")));
        }
        let digits = "9".repeat(300);
        let error = whole(&mut read(format!("{{\"n\": {digits}}}").as_bytes()).unwrap(), "n", 0..=10).unwrap_err();
        assert!(error.message.len() < 80, "{}", error.message);
    }

    #[test]
    fn a_type_that_is_wrong_is_told_in_plain_words() {
        let mut wrong = fields(json!({"text": 1, "flag": "yes", "number": [1], "list": {}, "object": [1]}));
        let (list_raw, object_raw) = (wrong.remove("list").unwrap(), wrong.remove("object").unwrap());
        for (error, told) in [
            (text(&mut wrong, "text").unwrap_err(), "`text` must be a string, not a number"),
            (flag(&mut wrong, "flag").unwrap_err(), "`flag` must be true or false, not a string"),
            (number(&mut wrong, "number", 0.0..=1.0).unwrap_err(), "`number` must be a number, not a list"),
            (list("list", &list_raw).unwrap_err(), "`list` must be a list"),
            (members("object", &object_raw).unwrap_err(), "`object` must be an object"),
        ] {
            assert_eq!(error.message, told);
        }
    }

    #[test]
    fn a_model_has_a_name_of_one_line() {
        assert_eq!(model(&mut fields(json!({"model": "a/b:c é"}))).unwrap(), "a/b:c é");
        for wrong in ["a\nb", "a\u{0}", "\u{7f}", ""] {
            assert_eq!(model(&mut fields(json!({"model": wrong}))).unwrap_err().param.as_deref(), Some("model"));
        }
        assert_eq!(model(&mut Fields::new()).unwrap_err().code, Some("missing_field"));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shown("short"), "short");
        assert_eq!(shown(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }
}
