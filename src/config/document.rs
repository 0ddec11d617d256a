//! The document of a configuration as JSON: where its secrets are, how it is shown, and its hash.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::extra_args;
use super::field::SettingsError;
use super::fields;
use super::secret::{fingerprint, is_fingerprint, is_reference, secret_not_stored};

/// A `/configure` document as the client wrote it.
pub type Document = Map<String, Value>;

/// Calls `visit` with the place and text of every literal secret; references are not literals.
pub fn visit_literals(document: &mut Document, visit: &mut dyn FnMut(&str, &mut String)) {
    let mut visit_literal = |place: &str, text: &mut String| {
        if !is_reference(text) {
            visit(place, text);
        }
    };
    for field in ["api_key", "judge_api_key"] {
        if let Some(Value::String(text)) = document.get_mut(field) {
            visit_literal(field, text);
        }
    }
    for field in ["extra_args", "judge_extra_args"] {
        if let Some(Value::Object(extra_args)) = document.get_mut(field) {
            extra_args::visit_secrets(field, extra_args, &mut visit_literal);
        }
    }
}

/// The literal secrets of a document, by their place.
pub type Secrets = BTreeMap<String, SecretString>;

/// Takes the literal secrets out of a document and leaves their fingerprints: what is shown and hashed.
pub fn take_secrets(document: &mut Document) -> Secrets {
    let mut secrets = Secrets::new();
    visit_literals(document, &mut |place, text| {
        if !is_fingerprint(text) {
            let secret = SecretString::from(std::mem::take(text));
            *text = fingerprint(&secret);
            secrets.insert(place.to_owned(), secret);
        }
    });
    secrets
}

/// Puts stored secrets back where the document holds their fingerprints.
///
/// # Errors
///
/// When a fingerprint is not that of the secret stored for the same place.
pub fn put_back_secrets(document: &mut Document, stored: &Secrets) -> Result<(), SettingsError> {
    let mut strange = None;
    visit_literals(document, &mut |place, text| {
        if !is_fingerprint(text) {
            return;
        }
        match stored.get(place).filter(|secret| fingerprint(secret) == *text) {
            Some(secret) => secret.expose_secret().clone_into(text),
            None => strange = Some(secret_not_stored(place, text)),
        }
    });
    strange.map_or(Ok(()), Err)
}

/// Two fields that are one setting, whose name is the one that the provider takes.
const LENGTH_LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Applies a JSON merge patch to a configuration. A setting that the patch gives under one name takes the place of
/// what the document has under another.
pub fn patch(document: &mut Document, patch: &Document) {
    for field in patch.keys().filter_map(|name| fields::find(name)) {
        let limits = if LENGTH_LIMITS.contains(&field.name) { &LENGTH_LIMITS[..] } else { &[] };
        let names = std::iter::once(&field.name).chain(field.aliases).chain(limits);
        for other in names.filter(|other| !patch.contains_key(**other)) {
            document.shift_remove(*other);
        }
    }
    merge_patch(document, patch);
}

/// Applies a JSON merge patch (RFC 7396): objects are merged, null takes a field away, anything else replaces.
fn merge_patch(target: &mut Document, patch: &Document) {
    for (name, change) in patch {
        match change {
            Value::Null => drop(target.shift_remove(name)),
            Value::Object(change) => {
                let field = target.entry(name.clone()).or_insert(Value::Null);
                if !field.is_object() {
                    *field = Value::Object(Map::new());
                }
                merge_patch(field.as_object_mut().expect("it was just made one"), change);
            }
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

/// SHA-256, in hexadecimal, of a document without its secrets in canonical JSON: keys sorted, nulls of the
/// top level left out, because they mean nothing.
pub fn content_hash(shown: &Document) -> String {
    let mut shown = shown.clone();
    shown.retain(|_, value| !value.is_null());
    let canonical = serde_json::to_vec(&sorted(Value::Object(shown))).expect("JSON values serialise");
    Sha256::digest(canonical).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(value: Value) -> Document {
        value.as_object().unwrap().clone()
    }

    fn with_secrets() -> Document {
        document(json!({
            "model": "m", "api_key": "sk-literal-1",
            "extra_args": {"headers": {"X-Sec": "sk-literal-2", "X-Title": "t"}, "my_token": "sk-literal-3"},
            "judge_api_key": "sk-literal-4", "judge_extra_args": {"my_token": "sk-literal-5"}
        }))
    }

    #[test]
    fn what_is_shown_holds_no_literal_and_sent_back_gives_every_secret_again() {
        let original = with_secrets();
        let mut shown = original.clone();
        let secrets = take_secrets(&mut shown);
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("sk-literal"), "{text}");
        assert_eq!(secrets.len(), 5);
        assert_eq!(shown["extra_args"]["headers"]["X-Title"], "t");
        put_back_secrets(&mut shown, &secrets).unwrap();
        assert_eq!(shown, original);
    }

    #[test]
    fn a_fingerprint_is_not_taken_from_another_place_or_another_secret() {
        let mut shown = with_secrets();
        let secrets = take_secrets(&mut shown);
        let mut moved = shown.clone();
        moved["extra_args"]["my_token"] = shown["api_key"].clone();
        assert_eq!(put_back_secrets(&mut moved, &secrets).unwrap_err().param, "extra_args.my_token");
        let error = put_back_secrets(&mut shown, &Secrets::new()).unwrap_err();
        assert!(error.message.contains("not stored here"), "{}", error.message);
    }

    #[test]
    fn references_are_shown_as_they_are() {
        let original = document(json!({"model": "m", "api_key": "env:OPENAI_API_KEY"}));
        let mut shown = original.clone();
        assert!(take_secrets(&mut shown).is_empty());
        assert_eq!(shown, original);
    }

    #[test]
    fn a_merge_patch_does_what_the_examples_of_its_specification_say() {
        // RFC 7396, appendix A, those whose target and patch are objects.
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = document(target.clone());
            merge_patch(&mut merged, &document(patch.clone()));
            assert_eq!(Value::from(merged), expected, "{target} with {patch}");
        }
    }

    #[test]
    fn a_patch_under_another_name_of_a_field_takes_its_place() {
        let patched = |change: Value| {
            let mut patched = document(json!({"model": "m", "exclude_args": ["a"]}));
            patch(&mut patched, &document(change));
            Value::from(patched)
        };
        assert_eq!(patched(json!({"exclude_tool_args": ["b"]})), json!({"model": "m", "exclude_tool_args": ["b"]}));
        assert_eq!(patched(json!({"exclude_tool_args": null})), json!({"model": "m"}));
        assert_eq!(patched(json!({"exclude_args": ["b"]})), json!({"model": "m", "exclude_args": ["b"]}));
        let mut limited = document(json!({"model": "m", "max_tokens": 5}));
        patch(&mut limited, &document(json!({"max_completion_tokens": 9})));
        assert_eq!(Value::from(limited), json!({"model": "m", "max_completion_tokens": 9}));
    }

    #[test]
    fn the_hash_knows_content_and_secrets_but_not_order_or_nulls() {
        let hash = |value: Value| {
            let mut document = document(value);
            take_secrets(&mut document);
            content_hash(&document)
        };
        let one = hash(json!({"model": "m", "budget": 4, "api_key": "a"}));
        assert_eq!(one, hash(json!({"api_key": "a", "budget": 4, "model": "m", "rm_name": null})));
        assert_ne!(one, hash(json!({"model": "m", "budget": 4, "api_key": "b"})));
        assert_ne!(one, hash(json!({"model": "m", "budget": 5, "api_key": "a"})));
        assert_eq!(one.len(), 64);
    }
}
