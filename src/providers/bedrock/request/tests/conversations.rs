//! Messages: turns, their blocks, and what cannot be one.

use super::*;

const IMAGE: &str = "data:image/png;base64,aGk=";

fn said(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

fn asks(id: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
}

#[test]
fn instructions_stand_beside_the_conversation_wherever_they_were() {
    let request = json!({"messages": [
        said("system", json!("Be brief.")),
        said("user", json!("Hi")),
        said("developer", json!([{"type": "text", "text": "Be kind."}, {"type": "text", "text": " "}])),
        said("system", json!("")),
    ]});
    let expected = json!({"messages": user(), "system": [{"text": "Be brief."}, {"text": "Be kind."}]});
    assert_eq!(body(CLAUDE, &request), expected);
}

#[test]
fn turns_of_one_role_become_one_and_blank_texts_none() {
    let messages = json!([
        said("user", json!("a")),
        said("user", json!([{"type": "text", "text": "b"}, {"type": "text", "text": "\n"}])),
        said("assistant", json!("c")),
        {"role": "assistant", "content": null},
        said("assistant", json!([{"type": "text", "text": "d"}, {"type": "refusal", "refusal": "no"}])),
        {"role": "assistant", "content": null, "refusal": "never"},
        said("user", json!("e")),
        said("assistant", json!("")),
        said("user", json!("f")),
    ]);
    let expected = json!([
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}, {"text": "d"}, {"text": "no"}, {"text": "never"}]},
        {"role": "user", "content": [{"text": "e"}, {"text": "f"}]},
    ]);
    assert_eq!(turns(messages), expected);
}

#[test]
fn what_says_nothing_is_refused_by_its_place() {
    for (messages, param, words) in [
        (json!([said("user", json!(" \n"))]), "messages[0].content", "is blank"),
        (json!([said("user", json!([]))]), "messages[0].content", "is blank"),
        (json!([said("system", json!("x"))]), "messages", "send a message of the role `user`"),
        (json!([said("assistant", json!(""))]), "messages", "without a turn of the user's"),
        (json!([said("function", json!("x"))]), "messages[0].role", "`tool`"),
        (json!([said("user", json!(4))]), "messages[0].content", "cannot be read"),
        (json!([said("user", json!(["x"]))]), "messages[0].content[0]", "cannot be read"),
        (json!([said("user", json!([{"text": "x"}]))]), "messages[0].content[0].type", "`image_url`"),
        (json!([said("user", json!([{"type": "text"}]))]), "messages[0].content[0].text", "is missing"),
        (json!([said("user", json!([{"type": "video_url"}]))]), "messages[0].content[0].type", "`video_url`"),
        (json!([said("user", json!([{"type": "input_audio"}]))]), "messages[0].content[0]", "send a transcript"),
        (
            json!([said("user", json!([{"type": "json", "json": {}}]))]),
            "messages[0].content[0]",
            "a user message cannot",
        ),
        (
            json!([said("user", json!("x")), said("assistant", json!([{"type": "image_url", "image_url": IMAGE}]))]),
            "messages[1].content[0]",
            "an assistant message cannot hold",
        ),
        (
            json!([said("system", json!([{"type": "file", "file": {}}]))]),
            "messages[0].content[0]",
            "a system message cannot hold",
        ),
        (
            json!([said("user", json!("x")), {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]),
            "messages[1].function_call",
            "send `tool_calls`",
        ),
    ] {
        refused(CLAUDE, &json!({"messages": messages}), param, words);
    }
}

#[test]
fn a_conversation_that_begins_with_the_assistant_gets_a_turn_before_it() {
    let request = json!({"messages": [said("assistant", json!("Hello!")), said("user", json!("Hi"))]});
    let body = warned(CLAUDE, &request, "begins with the assistant");
    let expected = json!([
        {"role": "user", "content": [{"text": "(The assistant begins.)"}]},
        {"role": "assistant", "content": [{"text": "Hello!"}]},
        {"role": "user", "content": [{"text": "Hi"}]},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn a_message_is_continued_by_models_that_do_so_and_refused_by_others() {
    let request = |text: &str| json!({"messages": [said("user", json!("Hi")), said("assistant", json!(text))]});
    for model in [CLAUDE, CLAUDE_4_5, NOVA, HIDDEN, LLAMA] {
        let last = body(model, &request("So"))["messages"][1].take();
        assert_eq!(last, json!({"role": "assistant", "content": [{"text": "So"}]}), "{model}");
    }
    for model in [CLAUDE_4_6, CLAUDE_5] {
        refused(model, &request("So"), "messages", "extra_args.capabilities.prefill");
    }
    let instructed = json!([said("user", json!("Hi")), said("assistant", json!("So")), said("system", json!("x"))]);
    refused(CLAUDE_4_6, &json!({"messages": instructed}), "messages", "end with one of the user's");
    let trimmed = warned(CLAUDE, &request("So: \n"), "white space at the end");
    assert_eq!(trimmed["messages"][1]["content"], json!([{"text": "So:"}]));
    // Elsewhere it is nobody's business.
    assert_eq!(turns(json!([said("user", json!("Hi "))])), json!([{"role": "user", "content": [{"text": "Hi "}]}]));
}

#[test]
fn images_and_documents_go_as_bytes() {
    let file = |name: &str| json!({"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,aGk="}});
    let content = json!([
        {"type": "text", "text": "Compare"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "high"}},
        {"type": "image_url", "image_url": "data:image/jpg;base64,aGk="},
        file("a_1.pdf"),
        file("a_1.pdf"),
        {"type": "image_url", "image_url": {"url": "s3://bucket/cat.webp"}},
    ]);
    let expected = json!([
        {"text": "Compare"},
        {"image": {"format": "png", "source": {"bytes": "aGk="}}},
        {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}},
        {"document": {"format": "pdf", "name": "a-1", "source": {"bytes": "aGk="}}},
        {"document": {"format": "pdf", "name": "a-1 (2)", "source": {"bytes": "aGk="}}},
        {"image": {"format": "webp", "source": {"s3Location": {"uri": "s3://bucket/cat.webp"}}}},
    ]);
    assert_eq!(turns(json!([said("user", content)])), json!([{"role": "user", "content": expected}]));
    for (part, param, words) in [
        (
            json!({"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
            "image_url.url",
            "Bedrock fetches none",
        ),
        (json!({"type": "image_url", "image_url": {}}), "image_url", "cannot be read"),
        (json!({"type": "image_url"}), "image_url", "is missing"),
        (json!({"type": "file", "file": {"file_id": "x"}}), "file.file_data", "keeps no files"),
        (json!({"type": "file", "file": {"file_data": "https://x/y.pdf"}}), "file.file_data", "fetches none"),
    ] {
        let request = json!({"messages": [said("user", json!([part]))]});
        refused(CLAUDE, &request, &format!("messages[0].content[0].{param}"), words);
    }
    let alone = json!({"messages": [said("user", json!([file("a.pdf")]))]});
    refused(CLAUDE, &alone, "messages[0].content", "wants a text beside it");
    // What is said of it may be a message of its own.
    let apart = json!([said("user", json!([file("a.pdf")])), said("user", json!("What is it?"))]);
    assert_eq!(turns(apart)[0]["content"].as_array().unwrap().len(), 2);
    let six = json!([{"type": "text", "text": "x"}, file("a"), file("a"), file("a"), file("a"), file("a"), file("a")]);
    refused(
        CLAUDE,
        &json!({"messages": [said("user", six)]}),
        "messages[0].content",
        "6 documents; Bedrock takes at most 5",
    );
}

#[test]
fn calls_and_their_results_are_blocks_of_the_turns_around_them() {
    let messages = json!([
        said("user", json!("Weather?")),
        {"role": "assistant", "content": "Let me see.", "tool_calls": [asks("call_1", "{\"b\": 1.0, \"a\": [1e2]}"), asks("call_2", "")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "{\"t\": 7}"},
        {"role": "tool", "tool_call_id": "call_2", "content": [
            {"type": "text", "text": ""},
            {"type": "json", "json": {"z": 1, "a": 2}},
            {"type": "image_url", "image_url": {"url": IMAGE}},
        ], "is_error": true},
        said("user", json!("And?")),
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let request = json!({"messages": messages, "tools": tools}).to_string();
    let (text, warnings) = text_of(CLAUDE, &request, json!({})).unwrap();
    assert_eq!(warnings, [""; 0]);
    // Byte for byte, as the model wrote them.
    assert!(text.contains(r#""input":{"b": 1.0, "a": [1e2]}"#), "{text}");
    assert!(text.contains(r#"{"json":{"z":1,"a":2}}"#), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    let expected = json!([
        {"role": "user", "content": [{"text": "Weather?"}]},
        {"role": "assistant", "content": [
            {"text": "Let me see."},
            {"toolUse": {"toolUseId": "call_1", "name": "f", "input": {"b": 1.0, "a": [100.0]}}},
            {"toolUse": {"toolUseId": "call_2", "name": "f", "input": {}}},
        ]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "call_1", "content": [{"text": "{\"t\": 7}"}]}},
            {"toolResult": {"toolUseId": "call_2", "status": "error", "content": [
                {"text": ""}, {"json": {"z": 1, "a": 2}}, {"image": {"format": "png", "source": {"bytes": "aGk="}}},
            ]}},
            {"text": "And?"},
        ]},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn results_stand_first_in_their_turn_and_ids_are_made_fit() {
    let long = "x".repeat(65);
    let messages = json!([
        said("user", json!("a")),
        {"role": "assistant", "tool_calls": [asks("a|b", "{}"), asks(&long, "{}"), asks("c.d:e-f_1", "{}")]},
        {"role": "tool", "tool_call_id": long, "content": "2"},
        said("user", json!("b")),
        {"role": "tool", "tool_call_id": "c.d:e-f_1", "content": "3", "cache_control": {"type": "ephemeral"}},
        {"role": "tool", "tool_call_id": "a|b", "content": null, "status": "error"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = body(CLAUDE, &json!({"messages": messages, "tools": tools}));
    let ids: Vec<&str> =
        (0..3).map(|at| body["messages"][1]["content"][at]["toolUse"]["toolUseId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["renamed_call_0", "renamed_call_1", "c.d:e-f_1"]);
    let expected = json!([
        {"toolResult": {"toolUseId": "renamed_call_1", "content": [{"text": "2"}]}},
        {"toolResult": {"toolUseId": "c.d:e-f_1", "content": [{"text": "3"}]}},
        {"cachePoint": {"type": "default"}},
        {"toolResult": {"toolUseId": "renamed_call_0", "content": [{"text": ""}], "status": "error"}},
        {"text": "b"},
    ]);
    assert_eq!(body["messages"][2]["content"], expected);
}

#[test]
fn calls_and_results_that_do_not_belong_together_are_refused() {
    let call = |id: &str| json!({"role": "assistant", "tool_calls": [asks(id, "{}")]});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "x"});
    let first = said("user", json!("a"));
    for (messages, param, words) in [
        (json!([first, call("1")]), "messages[1].tool_calls", "`1`"),
        (json!([first, call("1"), first]), "messages[1].tool_calls", "is not answered in the next turn"),
        (json!([first, call("1"), result("2")]), "messages[2].tool_call_id", "names no open call"),
        (json!([first, call("1"), result("1"), result("1")]), "messages[3].tool_call_id", "names no open call"),
        (json!([first, result("1")]), "messages[1].tool_call_id", "names no open call"),
        (json!([first, call("1"), result("")]), "messages[2].tool_call_id", "is missing"),
        (json!([first, call("1"), call("1")]), "messages[2].tool_calls", "the same `id`"),
        (json!([first, call("")]), "messages[1].tool_calls[0].id", "is missing"),
    ] {
        refused(CLAUDE, &json!({"messages": messages}), param, words);
    }
    for arguments in ["[1]", "4", "{", "null", "\"x\"", "{} {}"] {
        let message = json!({"role": "assistant", "tool_calls": [asks("1", arguments)]});
        let param = "messages[1].tool_calls[0].function.arguments";
        refused(CLAUDE, &json!({"messages": [first, message]}), param, "must be the text of a JSON object");
    }
    let custom = json!({"id": "1", "type": "custom", "custom": {"name": "f", "input": ""}});
    let custom = json!({"messages": [first, {"role": "assistant", "tool_calls": [custom]}]});
    refused(CLAUDE, &custom, "messages[1].tool_calls[0]", "no call of a function");
}

#[test]
fn that_a_tool_failed_is_said_where_it_can_be() {
    let messages = json!([
        said("user", json!("a")), {"role": "assistant", "tool_calls": [asks("1", "{}")]},
        {"role": "tool", "tool_call_id": "1", "content": "x", "is_error": true, "status": "success"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let request = json!({"messages": messages, "tools": tools});
    for model in [CLAUDE, NOVA, HIDDEN] {
        assert_eq!(body(model, &request)["messages"][2]["content"][0]["toolResult"]["status"], "error", "{model}");
    }
    let body = warned(LLAMA, &request, "that a tool failed was not said");
    assert_eq!(body["messages"][2]["content"][0]["toolResult"], json!({"toolUseId": "1", "content": [{"text": "x"}]}));
}

#[test]
fn what_the_model_thought_is_given_back_with_its_signature() {
    let messages = json!([
        said("user", json!("a")),
        {"role": "assistant", "content": "b", "reasoning_content": "hm", "thinking_blocks": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "thinking", "thinking": "", "signature": "b21pdHRlZA=="},
            {"type": "redacted_thinking", "data": "c2VjcmV0"},
            {"type": "thinking", "thinking": "unsigned"},
            {"type": "thinking", "thinking": "unsigned", "signature": ""},
        ]},
        said("user", json!("c")),
    ]);
    let expected = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"reasoningText": {"text": "", "signature": "b21pdHRlZA=="}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "b"},
    ]);
    assert_eq!(turns(messages)[1]["content"], expected);
    let odd = json!([said("user", json!("a")), {"role": "assistant", "thinking_blocks": [{"type": "text"}]}]);
    refused(CLAUDE, &json!({"messages": odd}), "messages[1].thinking_blocks[0].type", "`redacted_thinking`");
    for member in ["thinking_blocks", "tool_calls"] {
        let odd = json!([said("user", json!("a")), {"role": "assistant", "content": "b", member: "zzz"}]);
        let place = format!("messages[1].{member}");
        refused(CLAUDE, &json!({"messages": odd}), &place, &format!("`{place}` must be a list"));
        let none = json!([said("user", json!("a")), {"role": "assistant", "content": "b", member: null}]);
        assert_eq!(turns(none)[1]["content"], json!([{"text": "b"}]));
    }
}

#[test]
fn cache_control_becomes_a_cache_point_after_what_is_to_be_kept() {
    let mark = json!({"type": "ephemeral"});
    let request = json!({
        "messages": [
            said("system", json!([{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])),
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": mark}, {"type": "text", "text": "b"}]},
            said("assistant", json!("c")),
            {"role": "user", "content": "d", "cache_control": mark},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
    });
    let point = json!({"cachePoint": {"type": "default"}});
    let expected = json!({
        "messages": [
            {"role": "user", "content": [{"text": "a"}, point, {"text": "b"}]},
            {"role": "assistant", "content": [{"text": "c"}]},
            {"role": "user", "content": [{"text": "d"}, point]},
        ],
        "system": [{"text": "Long."}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
        "toolConfig": {"tools": [
            {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}}},
            {"cachePoint": {"type": "default", "ttl": "5m"}},
        ]},
    });
    assert_eq!(body(CLAUDE, &request), expected);
    let nova = warned(NOVA, &request, "keeps no cache of tools");
    assert_eq!(nova["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(nova["system"], expected["system"]);
    let llama = warned(LLAMA, &request, "keeps no cache of prompts").to_string();
    assert!(!llama.contains("cachePoint"), "{llama}");
    // For the request as a whole it is the end of what the user says.
    let whole = json!({"cache_control": mark, "messages": [said("user", json!("a")), said("assistant", json!("b"))]});
    let whole = body(CLAUDE, &whole);
    assert_eq!(whole["messages"][0]["content"], json!([{"text": "a"}, point]));
    assert!(whole.get("additionalModelRequestFields").is_none());
}

#[test]
fn cache_points_that_cannot_be_are_refused() {
    let with = |control: Value| json!({"messages": [{"role": "user", "content": "a", "cache_control": control}]});
    refused(CLAUDE, &with(json!({"type": "forever"})), "messages[0].cache_control.type", "ephemeral");
    refused(CLAUDE, &with(json!({"type": "ephemeral", "ttl": "2h"})), "messages[0].cache_control.ttl", "`5m` or `1h`");
    refused(CLAUDE, &with(json!(true)), "messages[0].cache_control", "cannot be read");
    assert_eq!(turns(with(Value::Null)["messages"].take()), json!([{"role": "user", "content": [{"text": "a"}]}]));
    let part = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
    let five = json!({"messages": [said("user", json!([part, part, part, part, part]))]});
    refused(CLAUDE, &five, "messages[0].content[4].cache_control", "has 5, and Bedrock takes at most 4");
    let mut four = vec![said("user", json!([part, part, part, part]))];
    let whole = json!({"messages": four, "cache_control": {"type": "ephemeral", "ttl": "1h"}});
    four.push(said("system", json!([part])));
    refused(CLAUDE, &json!({"messages": four}), "messages[1].content[0].cache_control", "is one too many");
    // It is put where one stands already.
    assert!(text_of(CLAUDE, &whole.to_string(), json!({})).is_ok());
    // A blank text is left out, and its point with it where nothing stands before it.
    let blank =
        json!([{"type": "text", "text": " ", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "a"}]);
    assert_eq!(turns(json!([said("user", blank)])), json!([{"role": "user", "content": [{"text": "a"}]}]));
}

#[test]
fn what_a_guardrail_is_to_look_at_is_marked() {
    let messages = json!([said("user", json!([{"type": "guarded_text", "text": "a"}, {"type": "text", "text": "b"}]))]);
    let expected = json!([{"role": "user", "content": [{"guardContent": {"text": {"text": "a"}}}, {"text": "b"}]}]);
    assert_eq!(turns(messages), expected);
}

#[test]
fn names_of_speakers_are_left_out_and_that_is_told_once() {
    let named = json!({"role": "user", "content": "a", "name": "ann"});
    let body = warned(CLAUDE, &json!({"messages": [named, named]}), "`name` of messages was left out");
    assert_eq!(body["messages"], json!([{"role": "user", "content": [{"text": "a"}, {"text": "a"}]}]));
}

#[test]
fn a_document_without_a_text_is_told_by_its_message() {
    let file = json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}});
    let text = json!({"type": "text", "text": "What is it?"});
    let messages = json!([
        said("user", json!([file, text])),
        said("assistant", json!("A report.")),
        said("system", json!("Be brief.")),
        said("user", json!([file])),
    ]);
    refused(CLAUDE, &json!({"messages": messages}), "messages[3].content", "wants a text beside it");
}
