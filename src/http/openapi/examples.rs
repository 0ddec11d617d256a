//! Requests to begin with, each under a name of its own. A test reads them as the daemon would.

use serde_json::{Value, json};

/// A name, what it shows, and the body.
pub type Example = (&'static str, &'static str, Value);

/// `POST /v1/chat/completions` and its siblings.
pub fn chat() -> Vec<Example> {
    let sum = json!([{"role": "user", "content": "What is 23 + 48 - 17?"}]);
    vec![
        (
            "vote",
            "The majority of eight answers",
            json!({"model": "arithmetic-demo", "messages": sum, "temperature": 0.8, "budget": 8}),
        ),
        ("as_configured", "As the active configuration says", json!({"model": "arithmetic-demo", "messages": sum})),
        (
            "told",
            "Every candidate, the vote and what it cost",
            json!({"model": "arithmetic-demo", "messages": sum, "budget": 4, "return_response_only": false}),
        ),
        (
            "best_by_entropy",
            "The answer of which the model was surest",
            json!({"model": "arithmetic-demo", "messages": sum, "alg": "best-of-n", "rm_name": "entropy", "budget": 4}),
        ),
        (
            "stream",
            "A stream that tells of its progress",
            json!({
                "model": "arithmetic-demo", "messages": sum, "budget": 4, "stream": true,
                "stream_options": {"include_usage": true, "include_progress": true},
            }),
        ),
        (
            "tts",
            "In the words of an earlier service",
            json!({"model": "arithmetic-demo", "messages": sum, "tts_strategy": "self_consistency", "num_paths": 5}),
        ),
        (
            "search",
            "The best of four particles, with the tree of their steps",
            json!({
                "model": "arithmetic-demo", "messages": sum, "alg": "particle-filtering", "rm_name": "perplexity",
                "rm_agg_method": "model", "step_token": "\n", "budget": 4, "return_response_only": false,
            }),
        ),
        (
            "one_call",
            "One plain call",
            json!({"model": "arithmetic-demo", "messages": sum, "alg": "none", "max_tokens": 64}),
        ),
    ]
}

/// `POST /v1/completions`.
pub fn text() -> Vec<Example> {
    vec![("continue", "A text, continued", json!({"model": "arithmetic-demo", "prompt": "2 + 3 =", "max_tokens": 8}))]
}

/// `POST /configure`.
pub fn configure() -> Vec<Example> {
    vec![
        (
            "shipped",
            "The model that ships, sixteen times over",
            json!({"provider": "llama", "model": "arithmetic-demo", "budget": 16}),
        ),
        (
            "openai",
            "OpenAI, with the key of an environment variable",
            json!({"provider": "openai", "api_key": "env:OPENAI_API_KEY", "model": "gpt-4o-mini", "budget": 8}),
        ),
        (
            "judged",
            "Best-of-N by a judge",
            json!({
                "provider": "openai", "model": "gpt-4o-mini", "alg": "best-of-n", "budget": 4,
                "rm_name": "llm-judge", "judge_model": "gpt-4o", "judge_criterion": "correctness",
            }),
        ),
        (
            "own_server",
            "A server on this machine, under a name for clients",
            json!({
                "provider": "openai-compatible", "endpoint": "http://localhost:8000/v1", "model": "small",
                "model_mapping": {"small": "Qwen/Qwen3-8B"}, "n_parallel": 8,
            }),
        ),
    ]
}

/// `PATCH /configure`.
pub fn patch() -> Vec<Example> {
    vec![
        (
            "change",
            "Fewer candidates, and no temperature of the configuration's",
            json!({"budget": 4, "temperature": null}),
        ),
        ("limits", "What a request may spend", json!({"limits": {"deadline_ms": 30000, "max_total_tokens": 20000}})),
        ("algorithm", "Another algorithm", json!({"alg": "beta-self-consistency", "confidence": 0.9})),
    ]
}

/// `POST /configure/rollback`.
pub fn roll_back() -> Vec<Example> {
    vec![("first", "Back to what was configured first", json!({"revision": 1}))]
}
