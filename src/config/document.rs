//! The document of a configuration as JSON: where its secrets are, how it is shown, and its hash.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::extra_args;
use super::field::SettingsError;
use super::secret::{fingerprint, is_fingerprint, is_reference};

/// A `/configure` document as the client wrote it.
pub type Document = Map<String, Value>;

/// Calls `visit` with the place and text of every literal secret; references are not literals.
pub fn visit_literals(document: &mut Document, visit: &mut dyn FnMut(&str, &mut String)) {
    let mut visit_literal = |place: &str, text: &mut String| {
        if !is_reference(text) {
            visit(place, text);
        }
    };
    if let Some(Value::String(text)) = document.get_mut("api_key") {
        visit_literal("api_key", text);
    }
    if let Some(Value::Object(extra_args)) = document.get_mut("extra_args") {
        extra_args::visit_secrets(extra_args, &mut visit_literal);
    }
}

/// The document with every literal secret replaced by its fingerprint: what is shown and hashed.
pub fn redacted(document: &Document) -> Document {
    let mut shown = document.clone();
    visit_literals(&mut shown, &mut |_, text| {
        if !is_fingerprint(text) {
            *text = fingerprint(&text.as_str().into());
        }
    });
    shown
}

/// Puts the stored secrets back where the document holds their fingerprints.
///
/// # Errors
///
/// When a fingerprint is not that of the secret stored in the same place.
pub fn with_stored_secrets(mut document: Document, stored: Option<&Document>) -> Result<Document, SettingsError> {
    let mut secrets = Vec::new();
    if let Some(stored) = stored {
        visit_literals(&mut stored.clone(), &mut |place, text| secrets.push((place.to_owned(), text.clone())));
    }
    let mut strangers = Vec::new();
    visit_literals(&mut document, &mut |place, text| {
        if !is_fingerprint(text) {
            return;
        }
        let stored = secrets.iter().find(|(at, secret)| at == place && fingerprint(&secret.as_str().into()) == *text);
        match stored {
            Some((_, secret)) => text.clone_from(secret),
            None => strangers.push((place.to_owned(), text.clone())),
        }
    });
    match strangers.first() {
        None => Ok(document),
        Some((place, shown)) => Err(SettingsError::invalid(
            place,
            format!(
                "`{place}` is the fingerprint {shown} of a secret that is not stored here; send the secret itself, \
                 `env:NAME` or `file:PATH`"
            ),
        )),
    }
}

/// SHA-256, in hexadecimal, of the redacted document in canonical JSON: keys sorted, nulls of the top level
/// left out, because they mean nothing.
pub fn content_hash(document: &Document) -> String {
    let mut shown = redacted(document);
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
            "extra_args": {"headers": {"Authorization": "Bearer sk-literal-2", "X-Title": "t"}, "my_token": "sk-literal-3"}
        }))
    }

    #[test]
    fn what_is_shown_holds_no_literal_and_sent_back_gives_every_secret_again() {
        let original = with_secrets();
        let shown = redacted(&original);
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("sk-literal"), "{text}");
        assert_eq!(shown["extra_args"]["headers"]["X-Title"], "t");
        assert_eq!(with_stored_secrets(shown, Some(&original)).unwrap(), original);
    }

    #[test]
    fn a_fingerprint_is_not_taken_from_another_place_or_another_secret() {
        let original = with_secrets();
        let mut moved = redacted(&original);
        let shown = moved["api_key"].clone();
        moved["extra_args"]["my_token"] = shown;
        assert_eq!(with_stored_secrets(moved, Some(&original)).unwrap_err().param, "extra_args.my_token");
        assert_eq!(with_stored_secrets(redacted(&original), None).unwrap_err().param, "api_key");
    }

    #[test]
    fn references_are_shown_as_they_are() {
        let original = document(json!({"model": "m", "api_key": "env:OPENAI_API_KEY"}));
        assert_eq!(redacted(&original), original);
    }

    #[test]
    fn the_hash_knows_content_and_secrets_but_not_order_or_nulls() {
        let hash = |value: Value| content_hash(&document(value));
        let one = hash(json!({"model": "m", "budget": 4, "api_key": "a"}));
        assert_eq!(one, hash(json!({"api_key": "a", "budget": 4, "model": "m", "rm_name": null})));
        assert_ne!(one, hash(json!({"model": "m", "budget": 4, "api_key": "b"})));
        assert_ne!(one, hash(json!({"model": "m", "budget": 5, "api_key": "a"})));
        assert_eq!(one.len(), 64);
    }
}
