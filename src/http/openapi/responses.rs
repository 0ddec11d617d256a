//! The shapes of what comes back.

use serde_json::{Value, json};

use super::{configuration, reference};

pub fn error() -> Value {
    let text = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["error", "detail"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "What is wrong and what to change."},
                    "type": {"type": "string", "description": "OpenAI's kind of error, such as `invalid_request_error`."},
                    "param": text,
                    "code": text,
                },
                "additionalProperties": false,
            },
            "detail": {"type": "string", "description": "The message once more."},
        },
        "additionalProperties": false,
    })
}

pub fn active_configuration() -> Value {
    let mut schema = configuration(&["model", "revision", "content_hash", "origin"]);
    schema["properties"]["revision"] =
        json!({"type": "integer", "description": "0 for the model that ships, which nobody configured."});
    schema["properties"]["content_hash"] = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    // What may be set is told exactly where it is set. Tools that check answers by this document take a list for one of a
    // kind, and fail at one whose items differ.
    if let Some(switch) = schema["properties"]["temperature_switch"].as_object_mut() {
        switch.remove("prefixItems");
    }
    schema["properties"]["origin"] = json!({
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Where each field's value came from: `default`, `request`, `file`, or `environment NAME`.",
    });
    schema
}

pub fn configured() -> Value {
    json!({
        "type": "object",
        "required": ["status", "message", "revision", "warnings"],
        "properties": {
            "status": {"const": "success"},
            "message": {"type": "string"},
            "revision": {"type": "integer", "description": "The active one."},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "probe": probe(),
        },
        "additionalProperties": false,
    })
}

/// What an endpoint has said of itself.
fn probe() -> Value {
    let cells = json!({"type": "object", "additionalProperties": {"type": ["boolean", "integer", "string"]}});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let cell = json!({"type": ["boolean", "integer", "string"]});
    json!({
        "type": "object",
        "description": "With `?probe=true`: what the endpoint has said of itself, by the names of \
            `extra_args.capabilities`.",
        "required": ["calls", "found", "differs", "kept", "notes"],
        "properties": {
            "calls": {"type": "integer", "minimum": 1, "description": "Calls that were made."},
            "found": cells,
            "differs": {"type": "object", "description": "Where something else was known.", "additionalProperties": {
                "type": "object",
                "required": ["known", "found"],
                "properties": {"known": cell, "found": cell},
                "additionalProperties": false,
            }},
            "kept": {"type": "array", "items": {"type": "string"}, "description": "What the document says itself."},
            "notes": texts,
        },
        "additionalProperties": false,
    })
}

pub fn history() -> Value {
    json!({
        "type": "object",
        "required": ["object", "data", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "has_more": {"type": "boolean", "description": "Whether there are older ones."},
            "data": {"type": "array", "items": {
                "type": "object",
                "required": ["revision", "created_at", "content_hash", "origin", "active", "document"],
                "properties": {
                    "revision": {"type": "integer"},
                    "created_at": {"type": "string", "format": "date-time"},
                    "content_hash": {"type": "string"},
                    "origin": {"enum": ["request", "patch", "rollback", "file", "environment"]},
                    "active": {"type": "boolean"},
                    "document": {"type": "object", "description": "Secrets as references or fingerprints."},
                },
                "additionalProperties": false,
            }},
        },
        "additionalProperties": false,
    })
}

pub fn chat_completion() -> Value {
    json!({
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string", "description": "As the client named it."},
            "choices": {"type": "array", "minItems": 1, "items": {
                "type": "object",
                "required": ["index", "message", "finish_reason"],
                "properties": {
                    "index": {"type": "integer"},
                    "message": {"type": "object", "description": "As the model wrote it: content, refusal, tool_calls."},
                    "logprobs": {"type": ["object", "null"]},
                    "finish_reason": {"type": "string"},
                    "tts_metadata": reference("TtsMetadata"),
                },
            }},
            "usage": usage(),
            "metadata": reference("RunMetadata"),
        },
    })
}

pub fn text_completion() -> Value {
    json!({
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "object": {"const": "text_completion"},
            "model": {"type": "string", "description": "As the request names it."},
            "choices": {"type": "array", "items": {
                "type": "object",
                "required": ["text", "index"],
                "properties": {"text": {"type": "string"}, "index": {"type": "integer", "minimum": 0}},
            }},
        },
    })
}

pub fn cancelled() -> Value {
    json!({
        "type": "object",
        "required": ["status", "request_id", "requests"],
        "properties": {
            "status": {"const": "cancelled"},
            "request_id": {"type": "string"},
            "requests": {"type": "integer", "description": "How many there were of this id."},
        },
        "additionalProperties": false,
    })
}

fn usage() -> Value {
    json!({
        "type": "object",
        "description": "The sum over all calls that were made.",
        "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
        "properties": {
            "prompt_tokens": {"type": "integer"},
            "completion_tokens": {"type": "integer"},
            "total_tokens": {"type": "integer"},
        },
    })
}

pub fn model() -> Value {
    json!({
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string", "description": "The provider, or `itsd` for a model in this process."},
        },
        "additionalProperties": false,
    })
}

pub fn models() -> Value {
    json!({
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": reference("Model")},
        },
        "additionalProperties": false,
    })
}

pub fn health() -> Value {
    json!({
        "type": "object",
        "required": ["status", "timestamp", "version"],
        "properties": {
            "status": {"const": "healthy"},
            "timestamp": {"type": "string", "format": "date-time"},
            "version": {"type": "string"},
        },
        "additionalProperties": false,
    })
}

fn upstream_state() -> Value {
    let count = |what: &str| json!({"type": "integer", "minimum": 0, "description": what});
    json!({
        "type": "object",
        "required": ["provider", "origin", "in_flight", "queued", "models"],
        "properties": {
            "provider": {"type": "string"},
            "origin": {"type": "string", "description": "Scheme, host and port."},
            "in_flight": count("Calls in flight."),
            "queued": count("Calls that wait for a place."),
            "models": {
                "type": "array",
                "description": "The models that were called of late.",
                "items": {
                    "type": "object",
                    "required": ["model", "breaker"],
                    "properties": {"model": {"type": "string"}, "breaker": {"enum": ["closed", "half_open", "open"]}},
                    "additionalProperties": false,
                },
            },
        },
        "additionalProperties": false,
    })
}

pub fn readiness() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["ready", "reasons"],
        "properties": {
            "ready": {"type": "boolean"},
            "reasons": texts,
            "warnings": texts,
            "providers": {"type": "array", "items": upstream_state()},
        },
        "additionalProperties": false,
    })
}
