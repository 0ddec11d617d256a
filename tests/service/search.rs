//! Search step by step over HTTP: what a client asks for, what comes back, and where it cannot be.

use serde_json::{Value, json};

use crate::app::{Answer, PATIENCE, TestApp, document, question, receive, spawn_app, spawn_app_for};
use crate::metrics::{Scrape, scrape_when};
use crate::upstream::Upstream;

const CHAT: &str = "/v1/chat/completions";

/// A sum for the model that ships, whose certainty of the whole path is what is searched by.
fn sum(fields: Value) -> Value {
    let mut request = json!({
        "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 23 + 48 - 17?"}],
        "temperature": 0.8, "seed": 5, "max_tokens": 160, "rm_name": "perplexity", "rm_agg_method": "model",
        "return_response_only": false
    });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

async fn search(app: &TestApp, fields: Value) -> Answer {
    app.post(CHAT, &sum(fields)).await
}

fn particles() -> Value {
    json!({"alg": "particle-filtering", "budget": 4})
}

fn beams() -> Value {
    json!({"alg": "beam-search", "budget": 6, "beam_width": 3})
}

fn with(mut fields: Value, more: Value) -> Value {
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

fn warnings(answer: &Answer) -> &str {
    answer.header("x-its-warnings").unwrap_or_default()
}

/// The text from the first step down to this one.
fn text_of(tree: &[Value], mut node: usize) -> String {
    let mut text = tree[node]["text"].as_str().unwrap().to_owned();
    while let Some(parent) = tree[node]["parent"].as_u64() {
        assert!((parent as usize) < node, "a step goes on from an earlier one");
        node = parent as usize;
        text.insert_str(0, tree[node]["text"].as_str().unwrap());
    }
    text
}

/// Checks that the tree is one, that it holds every answer to the letter, and that `content` is the chosen one.
#[track_caller]
fn assert_tree(metadata: &Value, content: &str) {
    let tree = metadata["tree"].as_array().unwrap();
    let responses = metadata["responses"].as_array().unwrap();
    let selected = metadata["selected_index"].as_u64().unwrap() as usize;
    let mut is_winner_there = false;
    for (id, node) in tree.iter().enumerate() {
        assert_eq!(node["id"], id);
        let score = node["score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score), "{node}");
        let text = text_of(tree, id);
        let state = node["state"].as_str().unwrap();
        if let Some(candidate) = node["candidate"].as_u64() {
            assert_ne!(state, "pruned", "{node}");
            assert_eq!(responses[candidate as usize]["content"], text.as_str(), "{node}");
            assert_eq!(metadata["scores"][candidate as usize], node["score"]);
            let is_same = responses[selected]["content"] == text.as_str();
            is_winner_there |= is_same && text == content;
        }
        let is_parent = tree.iter().any(|other| other["parent"] == id);
        assert!(!is_parent || state == "kept", "only from what is kept it goes on: {node}");
    }
    assert!(is_winner_there, "{metadata}");
    for (response, steps) in responses.iter().zip(metadata["steps_used"].as_array().unwrap()) {
        assert_eq!(response.is_null(), steps.is_null());
        assert_ne!(steps, 0);
    }
}

fn last_metadata(events: &[Value]) -> &Value {
    events.iter().map(|event| &event["metadata"]).find(|metadata| !metadata.is_null()).expect("metadata on a chunk")
}

fn told(events: &[Value]) -> Vec<&str> {
    let deltas = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    deltas.filter_map(|choice| choice["delta"]["content"].as_str()).filter(|text| !text.is_empty()).collect()
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn particles_are_filtered_to_an_answer_that_tells_how_it_came_to_be() {
    let app = spawn_app().await;
    let answer = search(&app, particles()).await;
    let body = answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("particle-filtering"));
    assert_eq!((answer.header("x-its-candidates"), answer.header("x-its-stop")), (Some("4"), Some("completed")));
    assert_eq!(warnings(&answer), "");
    let metadata = &body["metadata"];
    let content = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_tree(metadata, content);
    assert!(content.contains("\\boxed{"), "{content}");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["choices"][0]["logprobs"].is_null(), "nobody asked for what the scorer reads");
    let of = |name: &str| metadata[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    let (scores, weights): (Vec<f64>, Vec<f64>) = (of("scores"), of("log_weights"));
    for (score, weight) in scores.iter().zip(&weights) {
        assert!((weight - (score / (1.0 - score)).ln()).abs() < 1e-6, "{scores:?} {weights:?}");
    }
    let best = scores.iter().copied().fold(0.0, f64::max);
    assert_eq!(metadata["scores"][metadata["selected_index"].as_u64().unwrap() as usize], best);
    assert_eq!(metadata["vote"], "argmax");
    // A call a step, of which the first of all accounts for the prompt.
    let steps = metadata["usage_by_phase"]["generate"]["calls"].as_u64().unwrap();
    assert_eq!(steps, metadata["tree"].as_array().unwrap().len() as u64);
    assert_eq!(body["usage"]["completion_tokens"], metadata["usage_by_phase"]["generate"]["completion_tokens"]);
    assert!(metadata["stop"]["saved_tokens_estimate"] == 0);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_same_seed_writes_the_same_path() {
    let app = spawn_app().await;
    // Of one path, since what is evaluated beside another one differs in the last digits.
    let alone = |seed: u32| json!({"alg": "particle-filtering", "budget": 1, "seed": seed, "temperature": 1.5});
    let first = search(&app, alone(5)).await.ok();
    assert_eq!(search(&app, alone(5)).await.ok()["metadata"]["tree"], first["metadata"]["tree"]);
    let mut others = Vec::new();
    for seed in 6..12 {
        others.push(search(&app, alone(seed)).await.ok()["metadata"]["tree"].clone());
    }
    // Two of them may well say the same.
    assert!(others.iter().any(|tree| tree != &first["metadata"]["tree"]), "{others:?}");
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn beams_are_kept_and_spread_to_an_answer_that_tells_how_it_came_to_be() {
    let app = spawn_app().await;
    let answer = search(&app, beams()).await;
    let body = answer.ok();
    assert_eq!(
        (answer.header("x-its-algorithm"), answer.header("x-its-stop")),
        (Some("beam-search"), Some("completed"))
    );
    let metadata = &body["metadata"];
    assert_tree(metadata, body["choices"][0]["message"]["content"].as_str().unwrap());
    assert!(metadata.get("log_weights").is_none(), "beams have no weights");
    let tree = metadata["tree"].as_array().unwrap();
    assert_eq!(tree.iter().filter(|node| node["parent"].is_null()).count(), 6, "the first step is of all paths");
    for (id, _) in tree.iter().enumerate() {
        let continuations = tree.iter().filter(|other| other["parent"] == id).count();
        assert!(matches!(continuations, 0 | 2), "{continuations} of step {id}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn what_is_certain_is_streamed_before_the_rest() {
    let app = spawn_app().await;
    for fields in [particles(), beams(), json!({"alg": "particle-filtering", "budget": 1})] {
        let answer = search(&app, with(fields.clone(), json!({"stream": true}))).await;
        let events = answer.events();
        let pieces = told(&events);
        assert_tree(last_metadata(&events), &pieces.concat());
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        if fields["budget"] == 1 {
            let steps = last_metadata(&events)["steps_used"][0].as_u64().unwrap();
            assert_eq!(pieces.len() as u64, steps, "the one path there is is told step by step: {pieces:?}");
            assert!(steps > 1);
        }
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn progress_is_told_of_every_step() {
    let app = spawn_app().await;
    let options = json!({"stream": true, "stream_options": {"include_progress": true, "include_usage": true}});
    let events = search(&app, with(particles(), options)).await.events();
    let last = events.iter().filter_map(|event| event.get("progress")).next_back().unwrap();
    assert_eq!(last, &json!({"completed": 4, "planned": 4, "phase": "generate"}));
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_search_ends_with_its_last_step_and_says_so() {
    let app = spawn_app().await;
    for fields in [particles(), beams()] {
        let answer = search(&app, with(fields, json!({"max_steps": 1}))).await;
        let body = answer.ok();
        assert_eq!(answer.header("x-its-stop"), Some("max_steps"));
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        let metadata = &body["metadata"];
        assert_tree(metadata, body["choices"][0]["message"]["content"].as_str().unwrap());
        assert!(metadata["steps_used"].as_array().unwrap().iter().all(|steps| steps.is_null() || *steps == 1));
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn steps_end_where_the_request_says() {
    let app = spawn_app().await;
    let by_tokens = search(&app, with(particles(), json!({"tokens_per_step": 4, "max_steps": 2}))).await.ok();
    assert!(by_tokens["usage"]["completion_tokens"].as_u64().unwrap() <= 2 * 4 * 4);
    let by_text = search(&app, with(particles(), json!({"step_token": " "}))).await.ok();
    for node in by_text["metadata"]["tree"].as_array().unwrap() {
        let text = node["text"].as_str().unwrap();
        let inside = text.trim_end_matches(' ');
        assert!(
            !inside.get(1..).unwrap_or_default().trim_start().contains(' ') || node["state"] == "finished",
            "{node}"
        );
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_words_of_the_earlier_service_search_with_its_defaults() {
    let app = spawn_app().await;
    let request = json!({
        "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 2 + 3?"}], "seed": 1,
        "tts_strategy": "beam_search", "tts_beam_size": 2, "tts_candidates_per_step": 3, "num_paths": 5,
        "max_tokens": 100, "tts_verbose": true
    });
    let answer = app.post(CHAT, &request).await;
    let body = answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("beam-search"));
    assert!(warnings(&answer).contains("`num_paths` has no effect"), "{}", warnings(&answer));
    let told = &body["choices"][0]["tts_metadata"];
    assert_eq!(told["strategy"], "beam_search");
    assert!(told["all_trajectories"].as_array().unwrap().iter().all(|path| path["score"].is_f64()), "{told}");
    let first = body["metadata"]["tree"].as_array().unwrap().iter().filter(|node| node["parent"].is_null()).count();
    assert_eq!(first, 6);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_strategy_searches_whatever_is_configured_for_other_runs() {
    let app = spawn_app().await;
    let request = |fields: Value| {
        let request = json!({
            "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 2 + 3?"}], "seed": 1,
            "max_tokens": 30, "max_steps": 1, "return_response_only": false
        });
        with(request, fields)
    };
    for configured in [
        json!({"alg": "best-of-n", "rm_name": "llm-judge"}),
        json!({"alg": "best-of-n", "rm_name": "self_certainty"}),
        json!({"alg": "beam-search", "rm_name": "perplexity", "budget": 8, "candidates_per_step": 2}),
    ] {
        let configuration = with(json!({"provider": "llama", "model": "arithmetic-demo"}), configured);
        app.post("/configure", &configuration).await.ok();
        for (strategy, first) in [("beam_search", 16), ("particle_filtering", 8)] {
            let body = app.post(CHAT, &request(json!({"tts_strategy": strategy}))).await.ok();
            assert_eq!(body["metadata"]["tree"].as_array().unwrap().len(), first, "{configuration}");
        }
    }
    // More answers than are configured have more continuations.
    app.post(CHAT, &request(json!({"n": 9}))).await.ok();
    let answer = app.post(CHAT, &request(json!({"tts_strategy": "beam_search", "budget": 6}))).await;
    assert_eq!(answer.ok()["metadata"]["tree"].as_array().unwrap().len(), 6);
    assert!(warnings(&answer).contains("`beam_width` is 3"), "{}", warnings(&answer));
    for (fields, param) in [
        (json!({"tts_beam_size": 500}), "tts_beam_size"),
        (json!({"beam_width": 500}), "beam_width"),
        (json!({"budget": 6, "tts_beam_size": 4}), "tts_beam_size"),
        (json!({"n": 17, "tts_candidates_per_step": 4}), "n"),
    ] {
        let fields = with(fields, json!({"tts_strategy": "beam_search"}));
        let error = app.post(CHAT, &request(fields.clone())).await.error(400);
        assert_eq!(error["param"], param, "{fields}: {error}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_path_or_a_configuration_may_choose_a_search() {
    let app = spawn_app().await;
    let answer = app.post("/v1/beam-search/entropy/chat/completions", &sum(json!({"rm_name": "llm-judge"}))).await;
    assert_eq!(answer.ok()["choices"][0]["tts_metadata"]["strategy"], "beam-search");
    let configuration = json!({
        "provider": "llama", "model": "arithmetic-demo", "alg": "particle-filtering", "rm_name": "entropy", "budget": 3,
        "resampling": "stratified", "resample": "ess", "weights": "incremental", "final_select": "sample"
    });
    let configured = app.post("/configure", &configuration).await.ok();
    assert!(configured["message"].as_str().unwrap().contains("particle-filtering"), "{configured}");
    let request = json!({"model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 2 + 3?"}]});
    let answer = app.post(CHAT, &request).await;
    answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("particle-filtering"));
    assert_eq!(app.get("/configure").await.ok()["resampling"], "stratified");
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn tool_calls_come_whole_from_a_search() {
    let app = spawn_app().await;
    let tools = json!([{"type": "function", "function": {
        "name": "calculator", "description": "Perform arithmetic calculations",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}
    }}]);
    for stream in [false, true] {
        let request = json!({
            "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 847 * 293 + 156?"}],
            "tools": tools, "alg": "particle-filtering", "rm_name": "perplexity", "budget": 3, "seed": 2,
            "temperature": 0.3, "stream": stream
        });
        let answer = app.post(CHAT, &request).await;
        let call = match stream {
            false => answer.ok()["choices"][0]["message"]["tool_calls"][0].clone(),
            true => {
                let events = answer.events();
                let calls = events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]);
                calls.clone().find(|call| !call.is_null()).expect("a call").clone()
            }
        };
        assert_eq!(call["function"]["name"], "calculator", "{call}");
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert!(arguments["expression"].is_string(), "{call}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn nothing_is_evaluated_twice() {
    for fields in [particles(), beams(), with(beams(), json!({"tokens_per_step": 3, "temperature": 1.5}))] {
        // The engine is fresh, so that nothing of the prompt is there before.
        let app = spawn_app().await;
        let body = search(&app, fields.clone()).await.ok();
        let metadata = &body["metadata"];
        assert!(metadata["tree"].as_array().unwrap().len() > 6, "{metadata}");
        let told = |name: &str| body["usage"][name].as_f64().unwrap();
        let evaluated =
            |scrape: &Scrape, kind: &str| scrape.value(&format!("itsd_engine_tokens_total{{kind=\"{kind}\"}}"));
        let is_counted = |scrape: &Scrape| evaluated(scrape, "generated") >= told("completion_tokens");
        let scrape = scrape_when(&app, is_counted).await;
        let found = (evaluated(&scrape, "prompt"), evaluated(&scrape, "generated"));
        assert_eq!(found, (told("prompt_tokens"), told("completion_tokens")), "{fields}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_answer_of_a_search_has_the_form_that_was_asked_for() {
    let app = spawn_app().await;
    let schema = json!({
        "type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 999}}, "required": ["sum"],
        "additionalProperties": false
    });
    let schema = json!({"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}});
    let tool = json!({"type": "function", "function": {
        "name": "calculator",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string", "maxLength": 12}},
                       "required": ["expression"], "additionalProperties": false}
    }});
    for fields in [particles(), beams()] {
        // White space is free in JSON, and a model that has never seen any may write much of it.
        let cool = with(fields.clone(), json!({"temperature": 0.3, "max_tokens": 300}));
        let of = |form: Value| search(&app, with(cool.clone(), form));
        let message = |body: &Value| {
            assert_ne!(body["choices"][0]["finish_reason"], "length", "{body}");
            body["choices"][0]["message"].clone()
        };
        let body = of(json!({"response_format": schema.clone()})).await.ok();
        let said: Value = serde_json::from_str(message(&body)["content"].as_str().unwrap()).unwrap();
        assert!(said["sum"].is_u64() && said.as_object().unwrap().len() == 1, "{said}");
        for form in
            [json!({"regex": "(yes|no): [0-9]{2}"}), json!({"grammar": "start: (\"yes\" | \"no\") \": \" /[0-9]{2}/"})]
        {
            let body = of(form.clone()).await.ok();
            let said = message(&body)["content"].as_str().unwrap().to_owned();
            let number = said.strip_prefix("yes: ").or_else(|| said.strip_prefix("no: ")).unwrap_or_default();
            assert!(number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit()), "{form}: {said}");
        }
        let body = of(json!({"tools": [tool.clone()], "tool_choice": "required"})).await.ok();
        let call = message(&body)["tool_calls"][0]["function"].clone();
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
        assert!(call["name"] == "calculator" && arguments["expression"].is_string(), "{call}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_best_of_several_paths_are_several_answers() {
    let app = spawn_app().await;
    let fields = with(beams(), json!({"n": 2, "temperature": 1.5, "max_steps": 2, "tokens_per_step": 6}));
    let body = search(&app, fields).await.ok();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    assert_ne!(choices[0]["message"]["content"], choices[1]["message"]["content"]);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn greedy_paths_are_one() {
    let app = spawn_app().await;
    for fields in [particles(), beams()] {
        let answer = search(&app, with(fields, json!({"temperature": 0}))).await;
        assert_eq!(answer.ok()["metadata"]["responses"].as_array().unwrap().len(), 1);
        assert!(warnings(&answer).contains("one path instead of"), "{}", warnings(&answer));
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_limit_ends_a_search_with_the_best_path_so_far() {
    let app = spawn_app().await;
    for fields in [particles(), beams()] {
        // The prompt alone is more than half of it, and a step of all paths the rest.
        let limited = json!({"limits": {"max_total_tokens": 40}, "tokens_per_step": 4});
        let answer = search(&app, with(fields, limited)).await;
        let body = answer.ok();
        assert_eq!(answer.header("x-its-stop"), Some("max_total_tokens"));
        assert_tree(&body["metadata"], body["choices"][0]["message"]["content"].as_str().unwrap());
        assert_eq!(body["choices"][0]["finish_reason"], "length");
    }
    // Whether a step comes to its end in this time is up to the machine.
    let answer = search(&app, with(particles(), json!({"limits": {"deadline_ms": 1}, "budget": 32}))).await;
    match answer.status {
        200 => assert_eq!(answer.header("x-its-stop"), Some("deadline")),
        _ => assert_eq!(answer.error(504)["code"], "deadline_exceeded"),
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_search_that_is_called_off_leaves_nothing_behind() {
    let app = spawn_app().await;
    let long = sum(with(
        particles(),
        json!({"budget": 32, "tokens_per_step": 1, "max_steps": 10_000, "max_tokens": 400, "temperature": 2.0}),
    ));
    let request = app.json_request(CHAT, &long.to_string()).header("x-request-id", "the-search");
    let asked = tokio::spawn(receive(request));
    let cancel = async { while app.post("/v1/chat/cancel/the-search", &json!({})).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, cancel).await.expect("the request begins");
    assert_eq!(asked.await.unwrap().error(499)["code"], "request_cancelled");
    // Whoever is next finds the engine free.
    search(&app, particles()).await.ok();
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn what_does_not_fit_together_is_refused_by_name() {
    let app = spawn_app().await;
    for (fields, param) in [
        (json!({"alg": "beam-search", "budget": 6}), "beam_width"),
        (json!({"alg": "beam-search", "budget": 8, "candidates_per_step": 3}), "candidates_per_step"),
        (json!({"alg": "particle-filtering", "resample": "ess"}), "weights"),
        (json!({"alg": "particle-filtering", "rm_name": "llm-judge"}), "rm_name"),
        (json!({"alg": "particle-filtering", "rm_name": "self_certainty"}), "rm_name"),
        (json!({"alg": "beam-search", "rm_name": null}), "rm_name"),
        (json!({"alg": "particle-filtering", "budget": 129}), "budget"),
        (json!({"alg": "beam-search", "budget": 1000}), "budget"),
        (json!({"alg": "beam-search", "budget": 4, "n": 5}), "n"),
        (json!({"alg": "particle-filtering", "temperature": 0, "n": 2}), "n"),
    ] {
        let error = search(&app, fields.clone()).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("invalid_value")), "{fields}: {error}");
        let configuration = with(json!({"provider": "llama", "model": "arithmetic-demo"}), fields.clone());
        if !["n", "temperature"].iter().any(|name| fields.get(*name).is_some()) {
            assert_eq!(app.post("/configure", &configuration).await.error(400)["param"], param, "{fields}");
        }
    }
}

#[tokio::test]
async fn what_continues_no_partial_answer_is_not_searched() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 8})).await;
    for alg in ["beam-search", "particle_filtering"] {
        let fields = json!({"alg": alg, "rm_name": "entropy", "budget": 5});
        let configured = app.post("/configure", &document(&upstream, fields.clone())).await.error(400);
        let error = app.chat(fields).await.error(400);
        let by_path = app.post(&format!("/v1/{alg}/entropy/chat/completions"), &question(json!({}))).await.error(400);
        for error in [configured, error, by_path] {
            assert_eq!((&error["param"], &error["code"]), (&json!("alg"), &json!("invalid_value")), "{error}");
            assert!(error["message"].as_str().unwrap().contains("cannot continue a partial answer"), "{error}");
        }
    }
    let error = app.chat(json!({"tts_strategy": "beam_search"})).await.error(400);
    assert_eq!(error["param"], "tts_strategy", "it is named as it was written: {error}");
    assert_eq!(upstream.counters().requests, 0, "nothing was spent on it");
}

#[tokio::test]
async fn fields_of_a_search_beside_another_algorithm_are_taken_with_a_warning() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let answer = app.chat(json!({"beam_width": 2, "resampling": "residual", "max_steps": 3})).await;
    answer.ok();
    for (field, readers) in [
        ("beam_width", "`beam-search`"),
        ("resampling", "`particle-filtering`"),
        ("max_steps", "`beam-search` and `particle-filtering`"),
    ] {
        let expected = format!("`{field}` has no effect with `alg` `self-consistency`, only with {readers}");
        assert!(warnings(&answer).contains(&expected), "{}", warnings(&answer));
    }
    assert!(!upstream.seen()[0].json().to_string().contains("beam_width"), "it goes to nobody");
}
