//! What a response tells of its run: `metadata`, `tts_metadata` and `progress`. Nothing may be told that is not
//! described here.

use serde_json::{Map, Value, json};

use super::reference;

/// `metadata`, with `return_response_only: false`.
pub fn metadata() -> Value {
    let messages = json!({"type": "array", "items": {"type": ["object", "null"]}});
    let of_classes = |of: Value| json!({"type": "object", "additionalProperties": of});
    closed(
        "How the answer came to be; with `return_response_only: false`.",
        json!({
            "algorithm": text("The algorithm that ran."),
            "revision": count("The configuration's revision."),
            "responses": about(
                messages.clone(),
                "The candidates' messages in order; null where one failed or was cancelled.",
            ),
            "all_responses": about(messages, "The same once more."),
            "selected_index": about(
                json!({"type": ["integer", "null"], "minimum": 0}),
                "The candidate that is the answer; null where it was made of several.",
            ),
            "vote": text("Which vote decided, or how the best score was chosen."),
            "response_counts": about(
                of_classes(json!({"type": "integer", "minimum": 1})),
                "Candidates by class, the winner first.",
            ),
            "response_weights": about(
                of_classes(share("")),
                "The classes' shares of the weight, where votes are weighted.",
            ),
            "scores": about(
                json!({"type": "array", "items": {"type": ["number", "null"]}}),
                "In candidate order, where candidates were scored; null for those that were not.",
            ),
            "log_weights": about(
                json!({"type": "array", "items": {"type": ["number", "null"]}}),
                "In candidate order, of particle filtering: the logarithms of the weights of the last step.",
            ),
            "steps_used": about(
                json!({"type": "array", "items": {"type": ["integer", "null"], "minimum": 1}}),
                "In candidate order, of a search: how many steps each has.",
            ),
            "tree": about(json!({"type": "array", "items": node()}), "Every step of a search, by its `id`."),
            "agreement": share("The share of candidates that agree with the winner; 1 where there was nothing to choose."),
            "set_aside": about(json!({"type": "array", "items": closed("", json!({
                "candidate": count(""),
                "reason": text(""),
            }), &[])}), "Candidates that completed and did not vote."),
            "stop": closed("Why and when the run ended.", json!({
                "reason": text(
                    "`completed`, `decided`, the stop rule that was content, `max_steps`, or the limit that was met.",
                ),
                "planned": count("Candidates that were asked for."),
                "started": count("Candidates that were begun."),
                "completed": count("Candidates that ended with an answer."),
                "cancelled": count("Candidates that were begun and ended before they had an answer."),
                "saved_tokens_estimate": count("Completion tokens that an early end saved."),
            }), &[]),
            "failures": {"type": "array", "items": closed("", json!({
                "candidate": count(""),
                "what": text("The kind of failure."),
                "message": text(""),
                "status": about(json!({"type": ["integer", "null"]}), "The upstream's status, where it answered."),
            }), &[])},
            "usage_by_phase": {
                "type": "object",
                "propertyNames": {"enum": PHASES},
                "additionalProperties": closed("", json!({
                    "calls": count("Calls, however often each was attempted and however many candidates it brought."),
                    "prompt_tokens": count(""),
                    "completion_tokens": count(""),
                    "cached_tokens": count("The part of the prompt that the provider had cached."),
                    "reasoning_tokens": count("The part of the completion that is hidden reasoning."),
                    "unknown_calls": count("Attempts that were made and whose usage never arrived."),
                }), &[]),
            },
            "cost_usd": about(
                json!({"type": ["number", "null"], "minimum": 0}),
                "US dollars; null where a model that was called has no price, or does not tell its usage.",
            ),
            "timing_ms": closed(
                "",
                json!({
                    "total": duration("Milliseconds."),
                    "upstream": duration("Milliseconds in which at least one call was under way."),
                    "overhead": duration("The rest of the total."),
                }),
                &[],
            ),
            "warnings": {"type": "array", "items": {"type": "string"}},
        }),
        &["vote", "response_weights", "scores", "log_weights", "steps_used", "tree"],
    )
}

/// A step of a search.
fn node() -> Value {
    closed(
        "",
        json!({
            "id": count(""),
            "parent": about(
                json!({"type": ["integer", "null"], "minimum": 0}),
                "The step that it goes on from; null for a first one.",
            ),
            "text": text("What it adds to the text that the model wrote."),
            "score": about(
                json!({"type": ["number", "null"], "minimum": 0, "maximum": 1}),
                "That of its path up to here; null where it could not be scored.",
            ),
            "state": about(
                json!({"enum": ["kept", "pruned", "finished"]}),
                "Whether the search went on from it, gave it up, or has an answer that ends with it.",
            ),
            "candidate": count("The first of `responses` that ends with it, where one does."),
        }),
        &["candidate"],
    )
}

/// `tts_metadata` of the first choice.
pub fn tts_metadata() -> Value {
    closed(
        "Where a `tts_*` field or the path chose the run, in the words of the service they come from.",
        json!({
            "strategy": text("As the request names it."),
            "elapsed_time": duration("Seconds."),
            "selected_answer": text("The class that won the vote; without a vote, the answer that the text gives."),
            "consensus_score": share("The winner's share of the votes, where classes of answers were counted."),
            "answer_distribution": {"type": "object", "additionalProperties": share("")},
            "all_trajectories": {"type": "array", "items": closed("A candidate that completed.", json!({
                "text": about(json!({"type": ["string", "null"]}), "Null for an answer that only calls tools."),
                "num_tokens": count(""),
                "score": about(json!({"type": "number"}), "Where it was scored."),
                "selected": {"type": "boolean"},
            }), &["score"])},
            "token_stats": closed("Over all calls.", json!({
                "input_tokens": count(""),
                "output_tokens": count(""),
                "total_tokens_this_sample": count(""),
                "generation_count": count("Calls."),
            }), &[]),
        }),
        &["selected_answer", "consensus_score", "answer_distribution"],
    )
}

/// `progress` of a chunk without choices, with `stream_options.include_progress`.
pub fn progress() -> Value {
    closed(
        "How far the run has come; with `stream_options.include_progress`, on chunks without choices.",
        json!({
            "completed": count("Candidates that have ended."),
            "planned": count("Candidates that were asked for."),
            "phase": about(json!({"enum": PHASES}), "What calls are made for at present."),
        }),
        &[],
    )
}

/// One chunk of a stream.
pub fn chat_chunk() -> Value {
    json!({
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion.chunk"},
            "created": {"type": "integer"},
            "model": text("As the client named it."),
            "choices": {"type": "array", "items": {
                "type": "object",
                "required": ["index", "delta", "logprobs", "finish_reason"],
                "properties": {
                    "index": count(""),
                    "delta": {"type": "object"},
                    "logprobs": {"type": ["object", "null"]},
                    "finish_reason": {"type": ["string", "null"]},
                    "tts_metadata": reference("TtsMetadata"),
                },
                "additionalProperties": false,
            }},
            "usage": about(
                json!({"type": ["object", "null"]}),
                "With `stream_options.include_usage`: null until the last chunk.",
            ),
            "metadata": reference("RunMetadata"),
            "progress": reference("Progress"),
        },
        "additionalProperties": false,
    })
}

/// What calls are made for.
const PHASES: [&str; 3] = ["generate", "synthesize", "judge"];

/// An object of these properties and no others, all there but those that are named.
fn closed(description: &str, properties: Value, optional: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(Map::keys);
    let required: Vec<&String> = names.filter(|name| !optional.contains(&name.as_str())).collect();
    let schema =
        json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    about(schema, description)
}

fn about(mut schema: Value, description: &str) -> Value {
    if !description.is_empty() {
        schema["description"] = description.into();
    }
    schema
}

fn text(description: &str) -> Value {
    about(json!({"type": "string"}), description)
}

fn count(description: &str) -> Value {
    about(json!({"type": "integer", "minimum": 0}), description)
}

fn share(description: &str) -> Value {
    about(json!({"type": "number", "minimum": 0, "maximum": 1}), description)
}

fn duration(description: &str) -> Value {
    about(json!({"type": "number", "minimum": 0}), description)
}
