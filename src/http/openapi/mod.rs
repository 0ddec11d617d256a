//! The OpenAPI 3.1 description of every route, made of the tables that the parsers read where there is one.
//!
//! What a configuration and a run take comes from `config::schema`; the shapes of OpenAI's protocol are told here
//! as far as itsd reads them, since the rest passes through.

mod chat;
mod operations;
mod responses;

use serde_json::{Value, json};

use crate::config::schema;

/// The whole document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "itsd",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Makes any language model answer better by asking it many times.",
            "description": "An OpenAI-compatible service: a client changes its base URL and nothing else. \
                Every response carries `x-request-id`, which is the client's own where that is valid.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": [
            {"name": "chat", "description": "Answers, scaled by the active configuration or by the request's own fields."},
            {"name": "models", "description": "The names that requests may use."},
            {"name": "configuration", "description": "What answers, and how: numbered revisions, one of them active."},
            {"name": "operation", "description": "For those who watch over the service."},
        ],
        "paths": operations::paths(),
        "components": {"schemas": {
            "Configuration": configuration(&["model"]),
            "ConfigurationPatch": configuration(&[]),
            "ActiveConfiguration": responses::active_configuration(),
            "Configured": responses::configured(),
            "History": responses::history(),
            "ChatRequest": chat::request(),
            "ChatCompletion": responses::chat_completion(),
            "TextRequest": chat::text_request(),
            "TextCompletion": responses::text_completion(),
            "Cancelled": responses::cancelled(),
            "Model": responses::model(),
            "Models": responses::models(),
            "Health": responses::health(),
            "Readiness": responses::readiness(),
            "Error": responses::error(),
        }},
    })
}

/// The fields of a chat request that are described, and so are known.
pub fn chat_fields() -> Vec<String> {
    let request = chat::request();
    request["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

/// A document for `/configure`, with what `GET` adds and takes back.
fn configuration(required: &[&str]) -> Value {
    let mut schema = schema::configuration(required);
    let properties = &mut schema["properties"];
    properties["revision"] = json!({
        "type": ["integer", "null"],
        "description": "As GET shows it: the revision that the document was made from, which must still be active.",
    });
    properties["content_hash"] = json!({"description": "As GET shows it; taken and not read."});
    properties["origin"] = json!({"description": "As GET shows it; taken and not read."});
    schema
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Calls `visit` with every value below `value`.
    fn walk<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
        visit(value);
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(value, visit)),
            Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used_and_is_one() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut used = BTreeSet::new();
        walk(&document, &mut |value| {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                used.insert(reference.strip_prefix("#/components/schemas/").unwrap().to_owned());
            }
        });
        assert_eq!(used, schemas.keys().cloned().collect());
        for (name, schema) in schemas {
            let checked = jsonschema::draft202012::meta::validate(schema);
            assert!(checked.is_ok(), "{name}: {}", checked.unwrap_err());
        }
    }

    #[test]
    fn operations_have_names_of_their_own_and_tell_their_errors() {
        let document = document();
        let mut names = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            let braces: BTreeSet<_> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            for (method, operation) in operations.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
                    let schema = &response["content"]["application/json"]["schema"];
                    let ready = path == "/ready" && status == "503";
                    assert!(ready || schema["$ref"] == "#/components/schemas/Error", "{method} {path} {status}");
                }
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_path: BTreeSet<_> = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                assert_eq!(in_path, braces, "{method} {path}");
            }
        }
    }
}
