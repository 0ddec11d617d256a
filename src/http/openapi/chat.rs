//! What a chat request may hold: OpenAI's parameters as far as itsd reads them, and its own fields, which come
//! from the table of fields.

use serde_json::{Map, Value, json};

use crate::config::fields::Scope;
use crate::config::provider::ProviderName;
use crate::config::schema;

/// `POST /v1/chat/completions` and its siblings.
pub fn request() -> Value {
    let mut properties: Map<String, Value> = Map::new();
    for (name, schema, about) in parameters() {
        let mut schema = schema;
        schema["description"] = about.into();
        properties.insert(name.to_owned(), schema);
    }
    // The fields of a run say of themselves what they are; what OpenAI's parameters take is told above.
    let run = schema::of_scope(Scope::Run);
    for (name, ours, about) in TTS {
        let mut schema = run[ours].clone();
        let fields = schema.as_object_mut().expect("a schema is an object");
        fields.shift_remove("default");
        fields.insert("description".to_owned(), about.into());
        properties.insert(name.to_owned(), schema);
    }
    properties.extend(run);
    json!({
        "type": "object",
        "required": ["model", "messages"],
        "properties": properties,
        "additionalProperties": true,
        "allOf": [
            only_with("top_logprobs", json!({"type": "integer", "minimum": 1}), "logprobs"),
            only_with("stream_options", json!({"type": "object"}), "stream"),
        ],
    })
}

/// `needed` must be true where `field` has a value of this schema.
fn only_with(field: &str, schema: Value, needed: &str) -> Value {
    json!({
        "if": {"required": [field], "properties": {field: schema}},
        "then": {"required": [needed], "properties": {needed: {"const": true}}},
    })
}

fn stop() -> Value {
    json!({"anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
        {"type": "null"},
    ]})
}

/// The words of an earlier service for fields of ours: name, our name, and what is to be known beside.
const TTS: [(&str, &str, &str); 9] = [
    ("tts_strategy", "alg", "Another name of `alg`, with that service's defaults: temperature 0.7, 4096 tokens."),
    ("num_paths", "budget", "Another name of `budget`; 5 with a strategy that votes."),
    ("tts_num_trajectories", "budget", "Another name of `budget`; 8 with the strategy `offline_bon`."),
    ("tts_scorer", "rm_name", "Another name of `rm_name`; `entropy` with `offline_bon` and searches."),
    ("tts_score_aggregation", "rm_agg_method", "Another name of `rm_agg_method`; `min` likewise."),
    ("tts_beam_size", "beam_width", "Another name of `beam_width`; 4 with the strategy `beam_search`."),
    (
        "tts_candidates_per_step",
        "candidates_per_step",
        "Another name of `candidates_per_step`; 4 with the strategy `beam_search`, whose budget it makes.",
    ),
    ("tts_max_steps", "max_steps", "Another name of `max_steps`; 100 with the strategy of a search."),
    ("tts_window_size", "scoring_window", "Another name of `scoring_window`."),
];

/// Name, schema and meaning of every parameter that is read.
fn parameters() -> Vec<(&'static str, Value, &'static str)> {
    let number = |least: f64, most: f64| json!({"type": ["number", "null"], "minimum": least, "maximum": most});
    let tokens = json!({"type": ["integer", "null"], "minimum": 1, "maximum": u32::MAX});
    vec![
        ("model", json!({"type": "string", "minLength": 1}), "One of GET /v1/models."),
        ("messages", json!({"type": "array", "minItems": 1, "items": message()}), "The conversation so far."),
        ("n", json!({"type": ["integer", "null"], "minimum": 1, "maximum": 1000}), "How many of the best answers."),
        ("stream", json!({"type": ["boolean", "null"], "default": false}), "Answer as a stream of events."),
        (
            "stream_options",
            json!({"type": ["object", "null"], "properties": {
                "include_usage": {"type": ["boolean", "null"]},
                "include_progress": {"type": ["boolean", "null"]},
            }}),
            "Only with `stream`: a chunk with the usage, and objects that tell of the progress.",
        ),
        ("temperature", number(0.0, 2.0), "Sampling temperature."),
        ("top_p", number(0.0, 1.0), "Nucleus."),
        ("min_p", number(0.0, 1.0), "Least probability, relative to the likeliest token's."),
        (
            "top_k",
            json!({"type": ["integer", "null"], "minimum": i64::MIN, "maximum": i64::MAX}),
            "Likeliest tokens; 0 and -1 for all.",
        ),
        ("presence_penalty", number(-2.0, 2.0), "Against tokens that have occurred."),
        ("frequency_penalty", number(-2.0, 2.0), "Against tokens by how often they have occurred."),
        (
            "logit_bias",
            json!({
                "type": ["object", "null"],
                "propertyNames": {"pattern": r"^\+?[0-9]+$"},
                "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
            }),
            "Token id to what is added to its logit.",
        ),
        ("max_tokens", tokens.clone(), "Length limit in tokens."),
        ("max_completion_tokens", tokens, "The same under its newer name; send one of the two."),
        (
            "seed",
            json!({"type": ["integer", "null"], "minimum": i64::MIN, "maximum": i64::MAX}),
            "Each candidate's seed derives from it.",
        ),
        ("stop", stop(), "Texts that end an answer."),
        ("logprobs", json!({"type": ["boolean", "null"]}), "Log probabilities of the answer's tokens."),
        (
            "top_logprobs",
            json!({"type": ["integer", "null"], "minimum": 0, "maximum": 20}),
            "Alternatives to tell of; needs `logprobs`.",
        ),
        ("tools", json!({"type": ["array", "null"], "items": tool()}), "Functions that the model may call."),
        ("tool_choice", json!({}), "Passed on: `none`, `auto`, `required`, or one function."),
        ("provider", provider(), "Who answers, of those that the operator has configured; an object is OpenRouter's."),
        (
            "response_format",
            json!({}),
            "Text, JSON, or JSON of a schema: passed on, and kept by the in-process engine.",
        ),
        ("grammar", json!({}), "Passed on. For the in-process engine a Lark grammar that the answer matches."),
        ("regex", json!({}), "Passed on. For the in-process engine an expression that the whole answer matches."),
        ("typical_p", json!({}), "Passed on: locally typical sampling, from 0 to 1."),
        ("repeat_penalty", json!({}), "Passed on: against the last `repeat_last_n` tokens of prompt and answer."),
        ("repeat_last_n", json!({}), "Passed on: 64 where it is left out, -1 for all tokens."),
        ("repetition_penalty", json!({}), "Passed on: against all tokens of prompt and answer."),
        (
            "return_response_only",
            json!({"type": ["boolean", "null"], "default": true}),
            "With false, `metadata` tells of every candidate, the vote and what it cost.",
        ),
        ("tts_verbose", json!({"type": ["boolean", "null"]}), "True says the same as `return_response_only` false."),
    ]
}

fn provider() -> Value {
    json!({"anyOf": [{"enum": ProviderName::WORDS}, {"type": ["object", "null"]}]})
}

/// `POST /v1/completions`.
pub fn text_request() -> Value {
    const OF_CHAT_TOO: [&str; 19] = [
        "model",
        "temperature",
        "top_p",
        "min_p",
        "top_k",
        "presence_penalty",
        "frequency_penalty",
        "grammar",
        "regex",
        "repeat_last_n",
        "repeat_penalty",
        "repetition_penalty",
        "response_format",
        "typical_p",
        "logit_bias",
        "max_tokens",
        "seed",
        "stop",
        "provider",
    ];
    let mut properties = Map::new();
    for (name, mut schema, about) in parameters().into_iter().filter(|(name, ..)| OF_CHAT_TOO.contains(name)) {
        schema["description"] = about.into();
        properties.insert(name.to_owned(), schema);
    }
    let texts = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    let tokens = json!({"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}});
    let several = json!({"type": "array", "minItems": 1, "items": {"type": "array"}});
    let boolean = json!({"type": ["boolean", "null"], "default": false});
    let own = json!({
        "prompt": {"anyOf": [{"type": "string"}, texts, tokens, several]},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
        "best_of": {"description": "Passed on."},
        "suffix": {"description": "Passed on."},
        "echo": boolean,
        "stream": boolean,
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": ["boolean", "null"]}}},
        "logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 255},
        "limits": schema::of_scope(Scope::Run)["limits"],
    });
    properties.extend(own.as_object().expect("written as an object").clone());
    json!({
        "type": "object",
        "required": ["model", "prompt"],
        "properties": properties,
        "additionalProperties": true,
        "allOf": [only_with("stream_options", json!({"type": "object"}), "stream")],
    })
}

fn message() -> Value {
    // What parts hold is for the model.
    let parts = json!({"type": "array"});
    json!({
        "type": "object",
        "required": ["role"],
        "oneOf": [
            {
                "required": ["content"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user"]},
                    "content": {"anyOf": [{"type": "string"}, parts]},
                },
            },
            {"properties": {
                "role": {"enum": ["assistant", "tool", "function"]},
                "content": {"anyOf": [{"type": "string"}, parts, {"type": "null"}]},
            }},
        ],
    })
}

/// Only functions are known; tools of other types are passed on.
fn tool() -> Value {
    json!({
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string"},
            "function": {
                "type": ["object", "null"],
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"description": "A JSON Schema."}},
            },
        },
        "if": {"properties": {"type": {"const": "function"}}},
        "then": {"required": ["function"], "properties": {"function": {"type": "object"}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::chat::tts;

    #[test]
    fn every_word_of_the_earlier_service_is_described() {
        let request = request();
        for name in tts::NAMES {
            assert!(request["properties"].get(name).is_some(), "{name}");
        }
    }
}
