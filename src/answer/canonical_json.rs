//! JSON in one canonical form, for comparing what models write.
//!
//! Keys are sorted, numbers are exact decimals, and of a key written twice the last counts, as in every
//! common parser. `serde_json`'s own numbers would merge integers beyond 64 bits, hence a tree of its own.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::decimal::Decimal;

/// Nesting beyond this many levels is refused; `serde_json` draws the same line.
const MAX_DEPTH: usize = 128;

/// A JSON value whose equality is equality of meaning: key order and the spelling of numbers do not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// Why a text is not JSON that can be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not JSON: {0}")]
    Malformed(String),
    #[error("JSON nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl Json {
    /// Reads one JSON value, with white space around it or not, in time linear in the text.
    ///
    /// # Errors
    ///
    /// When the text breaks JSON's grammar, holds a lone surrogate, or nests deeper than 128 levels.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        // serde_json checks the grammar without recursion; the walk below then only has to split.
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| JsonError::Malformed(error.to_string()))?;
        let mut walk = Walk { text: raw.get(), at: 0 };
        walk.value(0)
    }

    /// Removes white space around every string value; keys stay as they are.
    pub fn trim_strings(&mut self) {
        match self {
            Self::Text(text) => {
                let trimmed = text.trim();
                if trimmed.len() < text.len() {
                    *text = trimmed.to_owned();
                }
            }
            Self::List(items) => items.iter_mut().for_each(Self::trim_strings),
            Self::Object(fields) => fields.values_mut().for_each(Self::trim_strings),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }

    /// The value as `serde_json` holds it. Numbers become the nearest `f64` where they are no 64-bit
    /// integer, the largest finite one where they exceed it.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(yes) => Value::Bool(*yes),
            Self::Number(number) => number_value(&number.to_string()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value.to_value())).collect(),
        }
    }
}

/// The canonical text: no white space, keys in order, one spelling a number. Two values have the same text
/// exactly when they are equal.
impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(yes) => write!(out, "{yes}"),
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => write_string(out, text),
            Self::List(items) => {
                out.write_str("[")?;
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        out.write_str(",")?;
                    }
                    write!(out, "{item}")?;
                }
                out.write_str("]")
            }
            Self::Object(fields) => {
                out.write_str("{")?;
                for (position, (name, value)) in fields.iter().enumerate() {
                    if position > 0 {
                        out.write_str(",")?;
                    }
                    write_string(out, name)?;
                    write!(out, ":{value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

fn write_string(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

fn number_value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| {
        let bound = if text.starts_with('-') { f64::MIN } else { f64::MAX };
        Value::from(bound)
    })
}

/// A cursor over text that is already known to be one well-formed JSON value.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        match self.next_byte() {
            Some(b'{') => self.object(self.deeper(depth)?),
            Some(b'[') => self.list(self.deeper(depth)?),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b't') => Ok(self.literal("true", Json::Bool(true))),
            Some(b'f') => Ok(self.literal("false", Json::Bool(false))),
            Some(b'n') => Ok(self.literal("null", Json::Null)),
            _ => self.number(),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, JsonError> {
        if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(JsonError::TooDeep) }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut fields = BTreeMap::new();
        self.at += 1;
        while self.next_byte() == Some(b'"') {
            let name = self.string()?;
            self.skip(b':');
            let value = self.value(depth)?;
            fields.insert(name, value);
            self.skip(b',');
        }
        self.skip(b'}');
        Ok(Json::Object(fields))
    }

    fn list(&mut self, depth: usize) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.next_byte(), Some(b']') | None) {
            items.push(self.value(depth)?);
            self.skip(b',');
        }
        self.skip(b']');
        Ok(Json::List(items))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        self.at += 1;
        while self.at < bytes.len() && bytes[self.at] != b'"' {
            let width = if bytes[self.at] == b'\\' { 2 } else { 1 };
            escaped |= width == 2;
            self.at += width;
        }
        let end = self.at.min(bytes.len());
        self.at = (end + 1).min(bytes.len());
        if escaped {
            serde_json::from_str(&self.text[start..self.at]).map_err(|error| JsonError::Malformed(error.to_string()))
        } else {
            Ok(self.text[start + 1..end].to_owned())
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let rest = &self.text[self.at..];
        let length = rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
        self.at += length;
        let number = Decimal::parse(&rest[..length]);
        number.map(Json::Number).ok_or_else(|| JsonError::Malformed("a value is missing".to_owned()))
    }

    fn literal(&mut self, word: &str, value: Json) -> Json {
        self.at += word.len();
        value
    }

    /// Passes over white space, then over `byte` if it comes next.
    fn skip(&mut self, byte: u8) {
        if self.next_byte() == Some(byte) {
            self.at += 1;
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        Json::parse(text).unwrap().to_string()
    }

    #[test]
    fn key_order_and_spelling_of_numbers_do_not_matter() {
        assert_eq!(
            canonical(r#" {"b": [1.0, 2e0 ,-0], "a" : {"y":null,"x":true}} "#),
            r#"{"a":{"x":true,"y":null},"b":[1,2,0]}"#
        );
        assert_eq!(canonical(r#""\u0041\n""#), r#""A\n""#);
        assert_eq!(canonical("[ ]"), "[]");
        assert_eq!(canonical("{ }"), "{}");
    }

    #[test]
    fn true_is_not_one_and_text_is_not_a_number() {
        assert_ne!(Json::parse("true").unwrap(), Json::parse("1").unwrap());
        assert_ne!(Json::parse("\"1\"").unwrap(), Json::parse("1").unwrap());
        assert_ne!(Json::parse("null").unwrap(), Json::parse("{}").unwrap());
    }

    #[test]
    fn of_a_key_written_twice_the_last_counts() {
        assert_eq!(canonical(r#"{"a":1,"b":3,"a":2}"#), r#"{"a":2,"b":3}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{'a':1}", "[1,]", "01", "1 2", "nul", "\"\\ud800\"", "{\"a\" 1}", "\"a\nb\""] {
            assert!(matches!(Json::parse(text), Err(JsonError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn hostile_nesting_is_refused_without_recursion_into_it() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        assert_eq!(Json::parse(&deep), Err(JsonError::TooDeep));
        let deep = "{\"a\":".repeat(50_000);
        assert!(Json::parse(&deep).is_err());
        let shallow = format!("{}{}", "[".repeat(128), "]".repeat(128));
        assert!(Json::parse(&shallow).is_ok());
    }

    #[test]
    fn trimming_reaches_every_string_and_no_key() {
        let mut json = Json::parse(r#"{" k ":[" a ",{"x":"\tb\n"}]}"#).unwrap();
        json.trim_strings();
        assert_eq!(json.to_string(), r#"{" k ":["a",{"x":"b"}]}"#);
    }

    #[test]
    fn a_number_beyond_every_float_becomes_the_largest_one_for_schemas() {
        assert_eq!(Json::parse("-1e400").unwrap().to_value(), Value::from(f64::MIN));
        assert_eq!(Json::parse("7.0").unwrap().to_value(), Value::from(7));
        assert_eq!(Json::parse("18446744073709551615").unwrap().to_value(), Value::from(u64::MAX));
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_its_own_canonical_text(json in json()) {
            let text = json.to_string();
            prop_assert_eq!(Json::parse(&text).unwrap(), json);
            prop_assert_eq!(canonical(&text), text);
        }

        #[test]
        fn no_text_makes_the_reader_panic_and_it_takes_what_serde_json_takes(text in "[\\[\\]{}\",:0-9a-f\\\\ue.\\- ]{0,40}") {
            let ours = Json::parse(&text);
            if serde_json::from_str::<Value>(&text).is_ok() {
                prop_assert!(ours.is_ok());
            }
        }
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            "-?[1-9][0-9]{0,25}(\\.[0-9]{1,9})?(e-?[0-9]{1,4})?"
                .prop_map(|text| Json::Number(Decimal::parse(&text).unwrap())),
            ".{0,8}".prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
                prop::collection::btree_map(".{0,4}", inner, 0..5).prop_map(Json::Object),
            ]
        })
    }
}
