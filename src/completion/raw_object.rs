//! A JSON object whose members stay as they were written, in the order in which they were written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A JSON object of which single members can be replaced: the bytes and the order of all others are kept.
#[derive(Debug, Clone, Default)]
pub struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Reads an object.
    ///
    /// # Errors
    ///
    /// When the text is no JSON object.
    pub fn parse(raw: &RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw.get())
    }

    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Replaces a member where it stands, or adds it at the end.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(self).expect("strings and raw JSON always serialise")
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawObject(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> RawObject {
        serde_json::from_str(text).unwrap()
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn members_keep_their_bytes_and_their_order() {
        let text = r#"{"z":1.0,"a":{"k": [1e5,  2]},"é\n":"\u00e9"}"#;
        assert_eq!(object(text).to_raw().get(), text);
        assert_eq!(object("{}").to_raw().get(), "{}");
        assert!(RawObject::parse(&raw("[]")).is_err());
    }

    #[test]
    fn a_member_is_replaced_where_it_stands_and_added_where_it_is_missing() {
        let mut reply = object(r#"{"content":"a","refusal":null}"#);
        reply.set("content", raw("\"b\""));
        reply.set("extra", raw("1"));
        assert_eq!(reply.to_raw().get(), r#"{"content":"b","refusal":null,"extra":1}"#);
        assert_eq!(reply.get("content").unwrap().get(), "\"b\"");
        assert!(reply.get("absent").is_none());
    }
}
