//! Parameters: what Converse names itself, what goes to the model, and what goes nowhere.

use super::*;

/// All of the body but the conversation.
#[track_caller]
fn beside(model: &str, request: &Value) -> Value {
    let mut body = body(model, request);
    body.as_object_mut().unwrap().shift_remove("messages");
    body
}

#[test]
fn parameters_of_converse_have_its_names() {
    let request = json!({"max_tokens": 50, "temperature": 0.5, "top_p": 0.9, "stop": ["END", "\n\nHuman"]});
    let expected = json!({"inferenceConfig": {
        "maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "\n\nHuman"]
    }});
    assert_eq!(beside(CLAUDE, &request), expected);
    assert_eq!(beside(CLAUDE, &json!({})), json!({}));
    assert_eq!(
        beside(CLAUDE, &json!({"temperature": 0.0, "top_p": 1.0}))["inferenceConfig"],
        json!({"temperature": 0.0, "topP": 1.0})
    );
    let one = warned(CLAUDE_4_5, &json!({"temperature": 0.5, "top_p": 0.9}), "`top_p` was left out");
    assert_eq!(one["inferenceConfig"], json!({"temperature": 0.5}));
    let none = warned(CLAUDE_5, &json!({"temperature": 0.5}), "samples in a way of its own");
    assert!(none.get("inferenceConfig").is_none());
}

#[test]
fn parameters_beyond_what_converse_takes_are_refused() {
    for (request, param, words) in [
        (json!({"temperature": 1.5}), "temperature", "Bedrock takes 0 to 1"),
        (json!({"top_p": -0.1}), "top_p", "Bedrock takes 0 to 1"),
        (json!({"max_tokens": 2147483648u32}), "max_tokens", "at most 2147483647"),
        (json!({"stop": vec!["x"; 2501]}), "stop", "at most 2500"),
        (json!({"stop": ["\n"]}), "stop", "white space alone"),
        (json!({"reasoning_effort": "much"}), "reasoning_effort", "one of none, minimal"),
        (json!({"reasoning_effort": "high", "max_tokens": 4096}), "max_tokens", "may take 4096; raise it above that"),
        (json!({"response_format": {"type": "json_object"}}), "response_format", "ask for JSON in the messages"),
        (json!({"response_format": {"type": "xml"}}), "response_format", "`xml`"),
        (json!({"functions": []}), "functions", "send `tools`"),
        (json!({"inferenceConfig": {}}), "inferenceConfig", "send `max_tokens`"),
        (json!({"guardrailConfig": "x"}), "guardrailConfig", "must be an object"),
        (json!({"additionalModelResponseFieldPaths": {}}), "additionalModelResponseFieldPaths", "must be an array"),
        (json!({"additionalModelRequestFields": []}), "additionalModelRequestFields", "must be an object"),
        (json!({"service_tier": "scale"}), "service_tier", "`flex`"),
    ] {
        refused(CLAUDE, &request, param, words);
    }
    assert_eq!(beside(NOVA, &json!({"stop": ["\n"]})), json!({"inferenceConfig": {"stopSequences": ["\n"]}}));
    let failure = text_of(CLAUDE, r#"{"odd": 1e999}"#, json!({})).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("odd"), "{}", failure.message);
    refused("openai.gpt-oss-20b-1:0", &json!({"stop": ["x"]}), "stop", "takes no `stop`");
    refused(
        CLAUDE_4_5,
        &json!({"response_format": {"type": "json_object"}}),
        "response_format",
        "send a `json_schema`",
    );
}

#[test]
fn what_converse_has_no_name_for_goes_by_that_of_the_maker() {
    let top_k = json!({"top_k": 40});
    for (model, fields) in [
        (CLAUDE, json!({"top_k": 40})),
        (NOVA, json!({"inferenceConfig": {"topK": 40}})),
        ("cohere.command-r-v1:0", json!({"k": 40})),
        (HIDDEN, json!({"top_k": 40})),
    ] {
        assert_eq!(beside(model, &top_k), json!({"additionalModelRequestFields": fields}), "{model}");
    }
    let penalties = json!({"presence_penalty": 0.0, "frequency_penalty": 0.5, "min_p": 0.1});
    let (body, warnings) = written(CLAUDE, &penalties);
    assert!(body.get("additionalModelRequestFields").is_none());
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let fields = json!({"min_p": 0.1, "frequency_penalty": 0.5});
    assert_eq!(beside(HIDDEN, &penalties), json!({"additionalModelRequestFields": fields}));
}

#[test]
fn unknown_fields_go_to_the_model_and_openais_bookkeeping_goes_nowhere() {
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let request = json!({
        "thinking": thinking, "anthropic_beta": ["x"], "store": false, "modalities": ["text"], "stream_options": {},
        "additionalModelRequestFields": {"anthropic_beta": ["y"], "custom": {"b": 1, "a": 2}}, "n": 2, "nothing": null,
    });
    let expected = json!({"thinking": thinking, "anthropic_beta": ["y"], "custom": {"b": 1, "a": 2}});
    assert_eq!(beside(CLAUDE, &request), json!({"additionalModelRequestFields": expected}));
    for field in ["user", "metadata", "store", "prompt_cache_key", "verbosity", "web_search_options"] {
        let mut prompt = prompt(CLAUDE, &json!({field: "x", "kept": 1}).to_string());
        let row = &CapabilityTable::new(ProviderName::Bedrock).of(CLAUDE);
        let warnings = told(&mut prompt, &Map::new(), row).unwrap();
        assert!(warnings.len() == 1 && warnings[0].starts_with(&format!("`{field}` was left out")), "{warnings:?}");
        assert_eq!(prompt.passthrough.keys().collect::<Vec<_>>(), ["kept"], "nobody forwards it");
    }
}

#[test]
fn fields_of_converses_own_stand_where_it_has_them() {
    let own = json!({
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "1", "trace": "enabled"},
        "performanceConfig": {"latency": "optimized"}, "requestMetadata": {"team": "a"},
        "promptVariables": {"x": {"text": "y"}}, "serviceTier": {"type": "flex"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
    });
    assert_eq!(beside(CLAUDE, &own), own);
    assert_eq!(beside(CLAUDE, &json!({"service_tier": "priority"})), json!({"serviceTier": {"type": "priority"}}));
    assert_eq!(beside(CLAUDE, &json!({"service_tier": "auto"})), json!({}));
    let request = json!({"guardrailConfig": {"guardrailIdentifier": "gr1", "streamProcessingMode": "async"}});
    let body = warned(CLAUDE, &request, "streamProcessingMode` was left out");
    assert_eq!(body["guardrailConfig"], json!({"guardrailIdentifier": "gr1"}));
}

#[test]
fn the_configurations_fields_stand_in_for_those_that_the_prompt_leaves_open() {
    let extra = json!({
        "max_tokens": 100, "temperature": 0.2, "top_p": 0.9, "top_k": 5, "stop": "END", "thing": 1, "tool_choice": "auto",
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "DRAFT"}, "parallel_tool_calls": true,
    });
    let of = |model: &str, request: &str| {
        let (text, warnings) = text_of(model, request, extra.clone()).unwrap();
        assert_eq!(warnings, [""; 0]);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let body = of(CLAUDE, "{}");
    let inference = json!({"maxTokens": 100, "temperature": 0.2, "topP": 0.9, "stopSequences": ["END"]});
    assert_eq!(body["inferenceConfig"], inference);
    assert_eq!(body["additionalModelRequestFields"], json!({"thing": 1, "top_k": 5}));
    assert_eq!(body["guardrailConfig"]["guardrailVersion"], "DRAFT");
    let body = of(CLAUDE, r#"{"max_tokens": 7, "temperature": 0.0, "thing": 2, "stop": ["X"], "top_k": 6}"#);
    let inference = json!({"maxTokens": 7, "temperature": 0.0, "topP": 0.9, "stopSequences": ["X"]});
    assert_eq!(body["inferenceConfig"], inference);
    assert_eq!(body["additionalModelRequestFields"], json!({"thing": 2, "top_k": 6}));
    // Of two that are refused together, the prompt's is left.
    assert_eq!(of(CLAUDE_4_5, r#"{"top_p": 0.5}"#)["inferenceConfig"]["temperature"], Value::Null);
    assert_eq!(of(CLAUDE_4_5, r#"{"temperature": 0.5}"#)["inferenceConfig"]["topP"], Value::Null);
    for (extra, place) in [
        (json!({"temperature": "hot"}), "extra_args.temperature"),
        (json!({"max_tokens": 0}), "extra_args.max_tokens"),
        (json!({"top_k": 1.5}), "extra_args.top_k"),
        (json!({"stop": [""]}), "extra_args.stop"),
    ] {
        let failure = text_of(CLAUDE, "{}", extra).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some(place), "{}", failure.message);
    }
}

#[test]
fn a_schema_is_asked_for_as_text() {
    let request = r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true,
        "schema": {"type": "object",  "properties": {"z": {}, "a": {"const": 1.0}}}}}}"#;
    let (text, warnings) = text_of(CLAUDE_4_5, request, json!({})).unwrap();
    assert_eq!(warnings, [""; 0]);
    let body: Value = serde_json::from_str(&text).unwrap();
    let schema = r#"{"type": "object",  "properties": {"z": {}, "a": {"const": 1.0}}}"#;
    let structure = json!({"jsonSchema": {"schema": schema, "name": "answer"}});
    assert_eq!(body["outputConfig"], json!({"textFormat": {"type": "json_schema", "structure": structure}}));
    let failure = text_of(CLAUDE, request, json!({})).unwrap_err();
    assert!(failure.message.contains("extra_args.capabilities.json_schema"), "{}", failure.message);
    assert_eq!(beside(CLAUDE, &json!({"response_format": {"type": "text"}})), json!({}));
    let none = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}});
    refused(CLAUDE_4_5, &none, "response_format.json_schema.schema", "is missing");
}

#[test]
fn how_hard_to_think_is_said_in_the_makers_words() {
    let effort = |word: &str| json!({"reasoning_effort": word});
    let fields = |model: &str, word: &str| beside(model, &effort(word))["additionalModelRequestFields"].take();
    for (word, tokens) in
        [("minimal", 1024), ("low", 1024), ("medium", 2048), ("high", 4096), ("xhigh", 8192), ("max", 16384)]
    {
        let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": tokens}});
        assert_eq!(fields(CLAUDE, word), thinking, "{word}");
    }
    assert_eq!(fields(CLAUDE, "none"), Value::Null);
    for model in [CLAUDE_4_6, CLAUDE_5] {
        let expected = json!({
            "additionalModelRequestFields": {"thinking": {"type": "adaptive"}}, "outputConfig": {"effort": "medium"}
        });
        assert_eq!(beside(model, &effort("medium")), expected, "{model}");
    }
    assert_eq!(
        fields("us.amazon.nova-2-lite-v1:0", "max"),
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}})
    );
    assert_eq!(fields("us.amazon.nova-2-lite-v1:0", "none"), json!({"reasoningConfig": {"type": "disabled"}}));
    assert_eq!(fields("openai.gpt-oss-120b-1:0", "minimal"), json!({"reasoning_effort": "low"}));
    assert_eq!(fields("us.openai.gpt-5.6-terra", "minimal"), json!({"reasoning": {"effort": "low"}}));
    assert_eq!(fields(HIDDEN, "high"), json!({"reasoning_effort": "high"}));
    for (model, word, words) in [
        (NOVA, "low", "does not take it"),
        (LLAMA, "high", "does not take it"),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", "high", "does not take it"),
        (CLAUDE_5, "none", "cannot be kept from reasoning"),
    ] {
        let body = warned(model, &effort(word), words);
        assert!(body.get("additionalModelRequestFields").is_none(), "{model}");
    }
    // What is said in Claude's own words stands.
    let request = json!({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2000}});
    assert_eq!(beside(CLAUDE, &request)["additionalModelRequestFields"]["thinking"]["budget_tokens"], 2000);
}

#[test]
fn while_claude_thinks_it_samples_in_a_way_of_its_own() {
    let request = json!({"reasoning_effort": "low", "temperature": 0.7, "top_p": 0.5, "top_k": 9, "max_tokens": 1025});
    let (body, warnings) = written(CLAUDE, &request);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.ends_with("does not take it while it thinks")), "{warnings:?}");
    assert_eq!(body["inferenceConfig"], json!({"maxTokens": 1025}));
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}});
    assert_eq!(body["additionalModelRequestFields"], thinking);
    let request = json!({"thinking": {"type": "disabled"}, "temperature": 0.7});
    assert_eq!(super::body(CLAUDE, &request)["inferenceConfig"], json!({"temperature": 0.7}));
    let request = json!({"reasoning_effort": "low", "temperature": 1.0, "top_p": 0.95});
    assert_eq!(super::body(CLAUDE, &request)["inferenceConfig"], json!({"temperature": 1.0, "topP": 0.95}));
}

#[test]
fn an_answer_has_room_beside_the_thoughts_before_it() {
    let mut request = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1024});
    refused(CLAUDE_4_5, &request, "max_tokens", "of which thinking alone may take 1024; raise it above that");
    // Thoughts between the calls of tools add up to more.
    request["anthropic_beta"] = json!(["interleaved-thinking-2025-05-14"]);
    assert_eq!(body(CLAUDE_4_5, &request)["inferenceConfig"], json!({"maxTokens": 1024}));
}

#[test]
fn metadata_other_than_texts_are_refused_by_their_place() {
    refused(CLAUDE, &json!({"requestMetadata": {"b": "x", "a": 1}}), "requestMetadata.a", "must be a string");
}

#[test]
fn what_converse_or_the_model_has_a_meaning_for_is_no_stranger() {
    for (model, name, is_known) in [
        (LLAMA, "guardrailConfig", true),
        (LLAMA, "additionalModelRequestFields", true),
        (LLAMA, "cache_control", true),
        (LLAMA, "thinking", false),
        (CLAUDE, "thinking", true),
        (CLAUDE, "anthropic_beta", true),
        (CLAUDE, "reasoningConfig", false),
        (NOVA, "reasoningConfig", false),
        ("us.amazon.nova-2-lite-v1:0", "reasoningConfig", true),
        (CLAUDE, "odd", false),
    ] {
        assert_eq!(knows(model, name), is_known, "{model} {name}");
    }
}

#[test]
fn thinking_is_left_out_where_the_thoughts_before_the_last_calls_are_lost() {
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = json!({"role": "tool", "tool_call_id": "1", "content": "x"});
    let question = json!({"role": "user", "content": "a"});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let signed = json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]);
    let asked = |thoughts: Value, more: Value| {
        let turn = json!({"role": "assistant", "content": "So.", "tool_calls": [call], "thinking_blocks": thoughts});
        let mut messages = vec![question.clone(), turn, result.clone()];
        messages.extend(more.as_array().unwrap().clone());
        json!({"messages": messages, "tools": tools, "reasoning_effort": "low", "temperature": 0.5, "max_tokens": 900})
    };
    let unsigned = json!([{"type": "thinking", "thinking": "hm"}]);
    for lost in [Value::Null, json!([]), unsigned] {
        let body = warned(CLAUDE, &asked(lost, json!([])), "has none of its `thinking_blocks`");
        assert!(body.get("additionalModelRequestFields").is_none(), "{body}");
        // What goes with thinking goes with it.
        assert_eq!(body["inferenceConfig"], json!({"maxTokens": 900, "temperature": 0.5}));
    }
    let mut kept = asked(signed, json!([]));
    kept["max_tokens"] = 2000.into();
    kept.as_object_mut().unwrap().remove("temperature");
    assert_eq!(body(CLAUDE, &kept)["additionalModelRequestFields"]["thinking"]["type"], "enabled");
    // Once the assistant has answered, nothing goes on.
    let mut answered = asked(Value::Null, json!([{"role": "assistant", "content": "b"}, question]));
    answered["max_tokens"] = 2000.into();
    answered.as_object_mut().unwrap().remove("temperature");
    assert_eq!(body(CLAUDE, &answered)["additionalModelRequestFields"]["thinking"]["type"], "enabled");
    // Later models think on without.
    answered["messages"].as_array_mut().unwrap().truncate(3);
    assert_eq!(body(CLAUDE_4_6, &answered)["additionalModelRequestFields"]["thinking"]["type"], "adaptive");
}

#[test]
fn thinking_is_left_out_where_a_message_is_continued() {
    let begun = |turn: Value| json!({"messages": [{"role": "user", "content": "a"}, turn], "reasoning_effort": "low"});
    let plain = begun(json!({"role": "assistant", "content": "So"}));
    for model in [CLAUDE, CLAUDE_4_5] {
        let body = warned(model, &plain, "does not think before it continues");
        assert!(body.get("additionalModelRequestFields").is_none(), "{body}");
    }
    let signed = json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]);
    let thought = begun(json!({"role": "assistant", "content": "So", "thinking_blocks": signed}));
    assert_eq!(body(CLAUDE, &thought)["additionalModelRequestFields"]["thinking"]["type"], "enabled");
}

#[test]
fn a_seed_of_the_configuration_is_told_of_as_a_requests_own() {
    let (text, warnings) = text_of(CLAUDE, "{}", json!({"seed": 4})).unwrap();
    assert!(!text.contains("seed"), "{text}");
    assert!(warnings.len() == 1 && warnings[0].starts_with("`seed` was left out"), "{warnings:?}");
}
