//! Reading one field of a JSON object: its type, its range, and errors that name it and say what to change.

use std::ops::RangeInclusive;

use serde_json::Value;

/// Why a setting was refused, and which one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// The field at fault, as the client writes it; `extra_args.headers` for a nested one.
    pub param: String,
    pub code: SettingsCode,
    /// What is wrong and what to change; lower case, no full stop, never a secret.
    pub message: String,
}

/// The machine-readable kinds of [`SettingsError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsCode {
    /// Wrong type, out of range, or not one of the known values.
    InvalidValue,
    MissingField,
    UnknownField,
    /// A field or value of the contract whose feature this version does not have.
    NotSupportedYet,
}

impl SettingsCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidValue => "invalid_value",
            Self::MissingField => "missing_field",
            Self::UnknownField => "unknown_field",
            Self::NotSupportedYet => "not_supported_yet",
        }
    }
}

impl SettingsError {
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), code: SettingsCode::InvalidValue, message: message.into() }
    }

    pub fn missing(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), code: SettingsCode::MissingField, message: message.into() }
    }

    pub fn later(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), code: SettingsCode::NotSupportedYet, message: message.into() }
    }

    /// A field nobody knows, with the nearest of `known` if one is near.
    pub fn unknown<'a>(param: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = did_you_mean(param, known);
        Self {
            param: param.to_owned(),
            code: SettingsCode::UnknownField,
            message: format!("unknown field `{param}`{hint}"),
        }
    }

    /// A member nobody knows of the object that a field holds.
    pub fn unknown_member<'a>(field: &str, member: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let hint = did_you_mean(member, known);
        let param = format!("{field}.{member}");
        Self { code: SettingsCode::UnknownField, message: format!("unknown field `{param}`{hint}"), param }
    }
}

/// `; did you mean …?` with the nearest of the known names, or nothing when none is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    }
}

/// ` (did you mean …?)`, for the middle of a sentence, with the nearest of the known names, or nothing.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// The known name most like `name`, by Jaro-Winkler similarity of at least 0.8.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.replace('-', "_")), candidate))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// A string that is not empty.
pub fn text(param: &str, value: &Value) -> Result<String, SettingsError> {
    match value {
        Value::String(text) if text.trim().is_empty() => {
            Err(SettingsError::invalid(param, format!("`{param}` must not be empty")))
        }
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong_type(param, "a string", other)),
    }
}

/// A string that is not empty, where white space counts as text: it is what steps usually end with.
pub fn token(param: &str, value: &Value) -> Result<String, SettingsError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::String(_) => Err(SettingsError::invalid(param, format!("`{param}` must not be empty"))),
        other => Err(wrong_type(param, "a string", other)),
    }
}

pub fn boolean(param: &str, value: &Value) -> Result<bool, SettingsError> {
    value.as_bool().ok_or_else(|| wrong_type(param, "true or false", value))
}

/// A whole number in a range; `3.0` counts as whole.
pub fn integer(param: &str, value: &Value, range: RangeInclusive<i64>) -> Result<i64, SettingsError> {
    let whole = match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            // Every integer up to 2^53 is exact as a double, and no setting is larger; `seed` comes as an integer.
            number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0)
                .map(|float| float as i64)
        }),
        _ => return Err(wrong_type(param, "a whole number", value)),
    };
    match whole {
        Some(number) if range.contains(&number) => Ok(number),
        _ if *range.start() == i64::MIN => {
            Err(SettingsError::invalid(param, format!("`{param}` must be a whole number of 64 bits, not {value}")))
        }
        _ => Err(SettingsError::invalid(
            param,
            format!("`{param}` must be a whole number from {} to {}, not {value}", range.start(), range.end()),
        )),
    }
}

/// A finite number in a range.
pub fn number(param: &str, value: &Value, range: RangeInclusive<f64>) -> Result<f64, SettingsError> {
    let Some(number) = value.as_f64() else { return Err(wrong_type(param, "a number", value)) };
    if number.is_finite() && range.contains(&number) {
        return Ok(number);
    }
    Err(SettingsError::invalid(
        param,
        format!("`{param}` must be from {} to {}, not {value}", range.start(), range.end()),
    ))
}

/// A finite number above 0 and up to `most`.
pub fn positive(param: &str, value: &Value, most: f64) -> Result<f64, SettingsError> {
    let Some(number) = value.as_f64() else { return Err(wrong_type(param, "a number", value)) };
    if number > 0.0 && number <= most {
        return Ok(number);
    }
    Err(SettingsError::invalid(param, format!("`{param}` must be above 0 and at most {most}, not {value}")))
}

/// A list of strings, none of them empty.
pub fn texts(param: &str, value: &Value) -> Result<Vec<String>, SettingsError> {
    let Value::Array(items) = value else { return Err(wrong_type(param, "a list of strings", value)) };
    items
        .iter()
        .map(|item| match item {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            Value::String(_) => Err(SettingsError::invalid(param, format!("`{param}` must not hold an empty string"))),
            other => Err(wrong_type(param, "a list of strings", other)),
        })
        .collect()
}

pub fn object<'a>(param: &str, value: &'a Value) -> Result<&'a serde_json::Map<String, Value>, SettingsError> {
    value.as_object().ok_or_else(|| wrong_type(param, "an object", value))
}

/// One of a closed set of words. `later` are words of the contract that this version cannot serve.
///
/// `-` and `_` are the same in what is compared.
pub fn choice<T: Copy>(
    param: &str,
    value: &Value,
    known: &[(&'static str, T)],
    later: &[&'static str],
) -> Result<T, SettingsError> {
    let Value::String(word) = value else { return Err(wrong_type(param, "a string", value)) };
    let plain = |name: &str| name.replace('-', "_");
    if let Some((_, choice)) = known.iter().find(|(name, _)| plain(name) == plain(word)) {
        return Ok(*choice);
    }
    let names = || known.iter().map(|(name, _)| *name);
    if later.iter().any(|name| plain(name) == plain(word)) {
        return Err(SettingsError::later(
            param,
            format!("`{param}` `{word}` is not supported yet by this version; it takes {}", list(names())),
        ));
    }
    let hint = suggestion(word, names());
    Err(SettingsError::invalid(param, format!("`{param}` does not know {word:?}{hint}; it takes {}", list(names()))))
}

/// The error for a value of the wrong JSON type. The value itself is not shown: it may be a secret.
pub fn wrong_type(param: &str, expected: &str, value: &Value) -> SettingsError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    SettingsError::invalid(param, format!("`{param}` must be {expected}, not {found}"))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_name_is_told_its_nearest_and_a_strange_one_nothing() {
        let known = ["budget", "model", "exclude_args", "tool_vote"];
        assert_eq!(nearest("buget", known), Some("budget"));
        assert_eq!(nearest("exclude-arg", known), Some("exclude_args"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn a_misspelt_word_is_told_its_nearest_and_never_one_that_is_not_supported_yet() {
        let read = |word: &str| {
            choice("alg", &json!(word), &[("best-of-n", 0), ("none", 1)], &["entropic-filtering"]).unwrap_err().message
        };
        assert_eq!(
            read("best-of-m"),
            "`alg` does not know \"best-of-m\" (did you mean `best-of-n`?); it takes `best-of-n`, `none`"
        );
        assert_eq!(read("entropic"), "`alg` does not know \"entropic\"; it takes `best-of-n`, `none`");
        assert_eq!(
            read("entropic_filtering"),
            "`alg` `entropic_filtering` is not supported yet by this version; it takes `best-of-n`, `none`"
        );
    }

    #[test]
    fn numbers_at_the_edges_of_a_range_are_taken_and_just_outside_refused() {
        assert_eq!(integer("budget", &json!(1), 1..=1000), Ok(1));
        assert_eq!(integer("budget", &json!(1000), 1..=1000), Ok(1000));
        assert_eq!(integer("budget", &json!(8.0), 1..=1000), Ok(8));
        for outside in [json!(0), json!(1001), json!(-1), json!(1.5), json!(1e300), json!(18446744073709551615u64)] {
            let error = integer("budget", &outside, 1..=1000).unwrap_err();
            assert_eq!(error.code, SettingsCode::InvalidValue);
            assert!(error.message.contains("from 1 to 1000"), "{}", error.message);
        }
        assert_eq!(number("temperature", &json!(0), 0.0..=2.0), Ok(0.0));
        assert_eq!(number("temperature", &json!(2), 0.0..=2.0), Ok(2.0));
        assert!(number("temperature", &json!(2.0000001), 0.0..=2.0).is_err());
        assert_eq!(positive("weight", &json!(5), 5.0), Ok(5.0));
        for outside in [json!(0), json!(-0.0), json!(-1), json!(5.1)] {
            let expected = format!("`weight` must be above 0 and at most 5, not {outside}");
            assert_eq!(positive("weight", &outside, 5.0).unwrap_err().message, expected);
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated_in_the_message() {
        let error = text("api_key", &json!(["sk-secret"])).unwrap_err();
        assert_eq!(error.message, "`api_key` must be a string, not a list");
    }
}
