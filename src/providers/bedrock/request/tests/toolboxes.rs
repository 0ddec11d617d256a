//! Tools: definitions, choices, and conversations that have used some.

use super::*;

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
}

fn spec(name: &str) -> Value {
    json!({"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}})
}

fn with(fields: Value) -> Value {
    let mut request = json!({"tools": [tool("f"), tool("g")]});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

/// A conversation that has used `f`.
fn used() -> Value {
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    json!([
        {"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ])
}

#[test]
fn schemas_go_byte_for_byte() {
    let request = r#"{"tools": [{"type": "function", "function": {"strict": true, "name": "look_up", "description": "Finds.",
        "parameters": {"type": "object",  "required": ["z"], "properties": {"z": {"minimum": 1.0}, "a": {"maximum": 1e3}}}}},
        {"type": "function", "function": {"name": "now", "description": " ", "strict": false}}]}"#;
    let (text, warnings) = text_of(CLAUDE_4_5, request, json!({})).unwrap();
    assert_eq!(warnings, [""; 0]);
    let schema =
        r#"{"type": "object",  "required": ["z"], "properties": {"z": {"minimum": 1.0}, "a": {"maximum": 1e3}}}"#;
    assert!(text.contains(schema), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    let mut first = body["toolConfig"]["tools"][0]["toolSpec"].clone();
    first["inputSchema"] = Value::Null;
    assert_eq!(first, json!({"name": "look_up", "description": "Finds.", "inputSchema": null, "strict": true}));
    let second = json!({"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}});
    assert_eq!(body["toolConfig"]["tools"][1], second);
    let body = text_of(CLAUDE, request, json!({})).unwrap();
    assert!(body.1.len() == 1 && body.1[0].starts_with("`strict` was left out"), "{:?}", body.1);
    assert!(!body.0.contains("strict"), "{}", body.0);
}

#[test]
fn every_schema_says_that_it_is_of_an_object() {
    for (parameters, schema) in [
        ("{}", r#"{"type":"object","properties":{}}"#),
        ("{ }", r#"{"type":"object","properties":{}}"#),
        (
            r#"{"properties": {"type": {"minimum": 1.0}}}"#,
            r#"{"type":"object","properties": {"type": {"minimum": 1.0}}}"#,
        ),
        (r#"{ "a\"b": 1, "type": "object"}"#, r#"{ "a\"b": 1, "type": "object"}"#),
    ] {
        let request = format!(
            r#"{{"tools": [{{"type": "function", "function": {{"name": "f", "parameters": {parameters}}}}}]}}"#
        );
        let (text, warnings) = text_of(CLAUDE, &request, json!({})).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert!(text.contains(&format!(r#""inputSchema":{{"json":{schema}}}"#)), "{text}");
    }
}

#[test]
fn tools_that_bedrock_does_not_take_are_refused_by_their_place() {
    for (tools, param, words) in [
        (json!([tool("a b")]), "tools[0].function.name", "letters, digits"),
        (json!([tool("f"), tool("")]), "tools[1].function.name", "1 to 64"),
        (json!([tool(&"x".repeat(65))]), "tools[0].function.name", "1 to 64"),
        (json!([tool("f"), tool("f")]), "tools[1]", "twice"),
        (json!([{"type": "custom", "custom": {"name": "f"}}]), "tools[0]", "no function"),
        (
            json!([{"type": "function", "function": {"name": "f", "parameters": []}}]),
            "tools[0].function.parameters",
            "object",
        ),
        (
            json!([{"type": "function", "function": {"name": "f", "parameters": {"type": ["object", "null"]}}}]),
            "tools[0].function.parameters.type",
            "must be `object`",
        ),
    ] {
        refused(CLAUDE, &json!({"tools": tools}), param, words);
    }
    refused("amazon.titan-text-express-v1", &json!({"tools": [tool("f")]}), "tools", "takes no tools");
    refused(
        "amazon.titan-text-express-v1",
        &json!({"messages": used()}),
        "messages",
        "leave these and their results out",
    );
}

#[test]
fn every_choice_has_its_words() {
    let named = json!({"type": "function", "function": {"name": "g"}});
    let both = json!([spec("f"), spec("g")]);
    for (choice, config) in [
        (json!("auto"), json!({"tools": both})),
        (json!("required"), json!({"tools": both, "toolChoice": {"any": {}}})),
        (named, json!({"tools": both, "toolChoice": {"tool": {"name": "g"}}})),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "g"}]}}),
            json!({"tools": [spec("g")]}),
        ),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}),
            json!({"tools": [spec("f")], "toolChoice": {"any": {}}}),
        ),
    ] {
        let expected = json!({"messages": user(), "toolConfig": config});
        assert_eq!(body(CLAUDE, &with(json!({"tool_choice": choice}))), expected, "{choice}");
    }
    // Without any, none can be used, and nothing need be said of them.
    assert_eq!(body(CLAUDE, &with(json!({"tool_choice": "none"}))), json!({"messages": user()}));
    assert_eq!(body(CLAUDE, &json!({"tool_choice": "none"})), json!({"messages": user()}));
    assert_eq!(body(CLAUDE, &json!({"tool_choice": "auto"})), json!({"messages": user()}));
}

#[test]
fn choices_that_the_tools_cannot_make_true_are_refused() {
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    refused(CLAUDE, &with(json!({"tool_choice": named("h")})), "tool_choice", "`h`, which `tools` does not hold");
    refused(CLAUDE, &json!({"tool_choice": named("f")}), "tool_choice", "does not hold");
    refused(CLAUDE, &json!({"tool_choice": "required"}), "tool_choice", "there is none");
    for odd in [json!("never"), json!({}), json!({"type": "function"}), json!(4), json!({"type": "allowed_tools"})] {
        refused(CLAUDE, &with(json!({"tool_choice": odd})), "tool_choice", "must be `auto`");
    }
    // Where nothing can be forced, it is offered alone, and that is told.
    let body = warned(LLAMA, &with(json!({"tool_choice": named("g")})), "is offered `g` alone");
    assert_eq!(body["toolConfig"], json!({"tools": [spec("g")]}));
    let mistral = "mistral.mistral-large-2402-v1:0";
    let body = warned(mistral, &with(json!({"tool_choice": named("g")})), "required to call one");
    assert_eq!(body["toolConfig"], json!({"tools": [spec("g")], "toolChoice": {"any": {}}}));
}

#[test]
fn a_conversation_that_has_used_tools_keeps_them_although_none_may_be_called() {
    let none = json!({"tool_choice": {"type": "none"}});
    let request = with(json!({"messages": used(), "tool_choice": "none"}));
    let claude = body(CLAUDE, &request);
    assert_eq!(claude["toolConfig"], json!({"tools": [spec("f"), spec("g")]}));
    assert_eq!(claude["additionalModelRequestFields"], none);
    let nova = warned(NOVA, &request, "cannot be kept from calling a tool");
    assert_eq!(nova["toolConfig"], json!({"tools": [spec("f"), spec("g")]}));
    assert!(nova.get("additionalModelRequestFields").is_none());
    // Without definitions, the names are known from the calls.
    let claude = body(CLAUDE, &json!({"messages": used()}));
    let schema = json!({"type": "object", "properties": {}});
    assert_eq!(claude["toolConfig"], json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]}));
    assert_eq!(claude["additionalModelRequestFields"], none);
}

#[test]
fn one_call_at_a_time_is_said_in_claudes_words() {
    let one = json!({"parallel_tool_calls": false});
    let claude = body(CLAUDE, &with(one.clone()));
    let expected = json!({"tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    assert_eq!(claude["additionalModelRequestFields"], expected);
    // Its kind is said by Converse's own words where there are some.
    let claude = body(CLAUDE, &with(json!({"parallel_tool_calls": false, "tool_choice": "required"})));
    assert_eq!(claude["additionalModelRequestFields"], json!({"tool_choice": {"disable_parallel_tool_use": true}}));
    assert_eq!(claude["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(body(CLAUDE, &one), json!({"messages": user()}), "without tools it says nothing");
    for model in [NOVA, LLAMA, HIDDEN] {
        let body = warned(model, &with(one.clone()), "`parallel_tool_calls` was left out");
        assert!(body.get("additionalModelRequestFields").is_none(), "{model}");
        assert!(
            super::body(model, &with(json!({"parallel_tool_calls": true})))
                .get("additionalModelRequestFields")
                .is_none()
        );
    }
    refused(CLAUDE, &with(json!({"parallel_tool_calls": "no"})), "parallel_tool_calls", "true or false");
}

#[test]
fn while_claude_thinks_no_tool_is_forced() {
    let named = json!({"type": "function", "function": {"name": "g"}});
    for model in [CLAUDE, CLAUDE_4_6] {
        let forced = |choice: &Value| with(json!({"tool_choice": choice, "reasoning_effort": "low"}));
        let told = "cannot be made to call a tool while it thinks";
        let body = warned(model, &forced(&json!("required")), told);
        assert_eq!(body["toolConfig"], json!({"tools": [spec("f"), spec("g")]}));
        let body = warned(model, &forced(&named), told);
        assert_eq!(body["toolConfig"], json!({"tools": [spec("g")]}), "nothing else can be called");
    }
    let calm = with(json!({"tool_choice": "required", "thinking": {"type": "disabled"}}));
    assert_eq!(body(CLAUDE, &calm)["toolConfig"]["toolChoice"], json!({"any": {}}));
    let one = with(json!({"tool_choice": "required", "parallel_tool_calls": false, "reasoning_effort": "low"}));
    let body = warned(CLAUDE, &one, "for as `auto`");
    let choice = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(body["additionalModelRequestFields"]["tool_choice"], choice);
}
