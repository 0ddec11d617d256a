//! What Bedrock, and the models behind it, refuse beside what the service model says.
//!
//! The words are those that callers report. A blank text is refused as a block of a message and taken in the result of
//! a tool, where the service has been seen to take it.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::documents;
use super::failure::Failure;

/// What one model does not take. The default takes everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRules {
    /// The caller has no access to it.
    pub denied: bool,
    /// The last message must be the user's.
    pub refuses_prefill: bool,
    pub refuses_temperature_with_top_p: bool,
    /// What it does not take: `temperature`, `topP`, `stopSequences`, `toolConfig.toolChoice.any`, ….
    pub refused_fields: Vec<String>,
    pub refuses_system: bool,
    pub refuses_tools: bool,
    pub refuses_streams: bool,
    /// Some want the results of tools in a message of their own.
    pub refuses_text_beside_tool_results: bool,
    /// The formats of images that it takes; without it all, and with an empty list it sees nothing.
    pub image_formats: Option<Vec<String>>,
}

/// Holds a body that fits the service model against the rules.
///
/// # Errors
///
/// The first refusal.
pub fn check(body: &Value, rules: &ModelRules, is_stream: bool) -> Result<(), Failure> {
    if rules.denied {
        return Err(Failure::new("AccessDeniedException"));
    }
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    check_model_takes(body, messages, rules, is_stream)?;
    check_turns(messages)?;
    for (at, message) in messages.iter().enumerate() {
        check_message(at, message)?;
    }
    documents::check(messages)?;
    check_tools(body, messages)?;
    check_last(messages, rules)
}

fn check_model_takes(body: &Value, messages: &[Value], rules: &ModelRules, is_stream: bool) -> Result<(), Failure> {
    let config = &body["inferenceConfig"];
    for field in &rules.refused_fields {
        let elsewhere = body.pointer(&format!("/{}", field.replace('.', "/")));
        if !config[field].is_null() || elsewhere.is_some_and(|value| !value.is_null()) {
            let message = format!("This model doesn't support the {field} field. Remove {field} and try again.");
            return Err(Failure::validation(message));
        }
    }
    let refused = if rules.refuses_system && !body["system"].is_null() {
        "This model doesn't support system messages. Try again without a system message or use a model that supports \
         system messages."
    } else if rules.refuses_tools && !body["toolConfig"].is_null() {
        "This model doesn't support tool use."
    } else if rules.refuses_streams && is_stream {
        "The model is unsupported for streaming"
    } else {
        ""
    };
    if !refused.is_empty() {
        return Err(Failure::validation(refused));
    }
    if rules.refuses_temperature_with_top_p && !config["temperature"].is_null() && !config["topP"].is_null() {
        return Err(Failure::of_model(
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        ));
    }
    for (at, message) in messages.iter().enumerate() {
        let blocks = || blocks(message).iter();
        let image = blocks().chain(blocks().flat_map(result_blocks)).find_map(|block| block.get("image"));
        if let (Some(formats), Some(image)) = (&rules.image_formats, image)
            && !formats.iter().any(|format| image["format"] == format.as_str())
        {
            let message = "This model doesn't support the image content block that you provided.";
            return Err(Failure::validation(message));
        }
        let is_result = |block: &Value| block.get("toolResult").is_some();
        if rules.refuses_text_beside_tool_results && blocks().any(is_result) && !blocks().all(is_result) {
            return Err(Failure::validation(format!(
                "messages.{at}.content: Conversation blocks and tool result blocks cannot be provided in the same turn."
            )));
        }
    }
    Ok(())
}

fn check_turns(messages: &[Value]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Err(Failure::validation(
            "The messages field is empty. Add a Message object to the messages field and try again.",
        ));
    }
    if messages[0]["role"] != "user" {
        return Err(Failure::validation(
            "A conversation must start with a user message. Try again with a conversation that starts with a user \
             message.",
        ));
    }
    let alternates =
        messages.iter().zip(["user", "assistant"].iter().cycle()).all(|(message, role)| message["role"] == *role);
    if !alternates {
        return Err(Failure::validation(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates \
             between user and assistant roles and try again.",
        ));
    }
    Ok(())
}

fn check_message(at: usize, message: &Value) -> Result<(), Failure> {
    if blocks(message).is_empty() {
        return Err(Failure::validation(format!(
            "The content field in the Message object at messages.{at} is empty. Add a ContentBlock object to the \
             content field and try again."
        )));
    }
    for (index, block) in blocks(message).iter().enumerate() {
        let path = format!("messages.{at}.content.{index}");
        if block["text"].as_str().is_some_and(|text| text.trim().is_empty()) {
            return Err(Failure::validation(format!(
                "The text field in the ContentBlock object at {path} is blank. Add text to the text field, and try again."
            )));
        }
        let input = block.get("toolUse").map(|tool_use| &tool_use["input"]);
        if input.is_some_and(|input| !input.is_object()) {
            return Err(Failure::validation(format!(
                "The format of the value at {path}.toolUse.input is invalid. Provide a json object for the field and \
                 try again."
            )));
        }
        let result = &block["toolResult"];
        if result["status"] == "error" && result["content"].as_array().is_none_or(Vec::is_empty) {
            return Err(Failure::validation(format!(
                "The content field at {path}.toolResult cannot be empty when status value is error."
            )));
        }
        let is_of_the_other = match message["role"].as_str() {
            Some("user") => ["toolUse", "reasoningContent"].iter().find(|name| block.get(**name).is_some()),
            _ => ["toolResult", "image", "document"].iter().find(|name| block.get(**name).is_some()),
        };
        if let Some(name) = is_of_the_other {
            let role = message["role"].as_str().unwrap_or_default();
            return Err(Failure::validation(format!(
                "The {name} block at {path} is not supported in a message of the {role} role."
            )));
        }
    }
    Ok(())
}

fn check_tools(body: &Value, messages: &[Value]) -> Result<(), Failure> {
    let is_about_tools = |block: &Value| block.get("toolUse").is_some() || block.get("toolResult").is_some();
    let config = &body["toolConfig"];
    if config.is_null() && messages.iter().flat_map(blocks).any(is_about_tools) {
        return Err(Failure::validation(
            "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        ));
    }
    let tools = config["tools"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, tool) in tools.iter().enumerate() {
        let schema = tool.pointer("/toolSpec/inputSchema/json");
        if schema.is_some_and(|schema| schema["type"] != "object") {
            return Err(Failure::validation(format!(
                "The value at toolConfig.tools.{at}.toolSpec.inputSchema.json.type must be one of the following: object."
            )));
        }
    }
    let mut names = HashSet::new();
    for name in tools.iter().filter_map(|tool| tool["toolSpec"]["name"].as_str()) {
        if !names.insert(name) {
            return Err(Failure::of_model("tools: Tool names must be unique."));
        }
    }
    if let Some(name) = config["toolChoice"]["tool"]["name"].as_str()
        && !names.contains(name)
    {
        let message = format!("tool_choice.tool.name: Tool '{name}' not found in provided tools");
        return Err(Failure::of_model(&message));
    }
    let mut asked: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let answered = ids(message, "toolResult");
        for (kind, found) in [("toolUse", ids(message, "toolUse")), ("toolResult", answered.clone())] {
            let mut seen = HashSet::new();
            if let Some(twice) = found.iter().find(|id| !seen.insert(**id)) {
                return Err(Failure::validation(format!(
                    "The {kind} blocks at messages.{at}.content contain duplicate Ids: {twice}"
                )));
            }
        }
        check_answers(at, &asked, &answered)?;
        asked = ids(message, "toolUse");
    }
    check_answers(messages.len(), &asked, &[])
}

/// Whether the results in message `at` are those of the tool uses before it.
fn check_answers(at: usize, asked: &[&str], answered: &[&str]) -> Result<(), Failure> {
    let missing: Vec<&str> = asked.iter().copied().filter(|id| !answered.contains(id)).collect();
    if answered.len() > asked.len() {
        return Err(Failure::validation(format!(
            "The number of toolResult blocks at messages.{at}.content exceeds the number of toolUse blocks of previous \
             turn."
        )));
    }
    if !missing.is_empty() {
        return Err(Failure::validation(format!(
            "Expected toolResult blocks at messages.{at}.content for the following Ids: {}",
            missing.join(", ")
        )));
    }
    Ok(())
}

fn check_last(messages: &[Value], rules: &ModelRules) -> Result<(), Failure> {
    let Some(last) = messages.last().filter(|last| last["role"] == "assistant") else { return Ok(()) };
    if rules.refuses_prefill {
        return Err(Failure::of_model(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
        ));
    }
    let text = blocks(last).last().and_then(|block| block["text"].as_str());
    if text.is_some_and(|text| text.ends_with(char::is_whitespace)) {
        return Err(Failure::of_model("messages: final assistant content cannot end with trailing whitespace"));
    }
    Ok(())
}

fn blocks(message: &Value) -> &[Value] {
    message["content"].as_array().map_or(&[], Vec::as_slice)
}

fn result_blocks(block: &Value) -> &[Value] {
    block["toolResult"]["content"].as_array().map_or(&[], Vec::as_slice)
}

fn ids<'a>(message: &'a Value, kind: &str) -> Vec<&'a str> {
    blocks(message).iter().filter_map(|block| block[kind]["toolUseId"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal_of(body: Value, rules: &ModelRules) -> String {
        check(&body, rules, false).err().map_or_else(String::new, |failure| failure.message())
    }

    fn refusal(messages: Value) -> String {
        let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]});
        refusal_of(json!({"messages": messages, "toolConfig": tools}), &ModelRules::default())
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": [{"text": text}]})
    }

    fn assistant(text: &str) -> Value {
        json!({"role": "assistant", "content": [{"text": text}]})
    }

    fn asks(ids: &[&str]) -> Value {
        let blocks: Vec<Value> =
            ids.iter().map(|id| json!({"toolUse": {"toolUseId": id, "name": "f", "input": {}}})).collect();
        json!({"role": "assistant", "content": blocks})
    }

    fn answers(ids: &[&str]) -> Value {
        let blocks: Vec<Value> =
            ids.iter().map(|id| json!({"toolResult": {"toolUseId": id, "content": [{"text": ""}]}})).collect();
        json!({"role": "user", "content": blocks})
    }

    #[test]
    fn turns_alternate_and_begin_with_the_user() {
        assert_eq!(refusal(json!([user("a"), assistant("b"), user("c")])), "");
        assert!(refusal(json!([])).starts_with("The messages field is empty"));
        assert!(
            refusal(json!([assistant("b"), user("a")])).starts_with("A conversation must start with a user message")
        );
        let alternate = "A conversation must alternate between user and assistant roles";
        assert!(refusal(json!([user("a"), user("b")])).starts_with(alternate));
        assert!(refusal(json!([user("a"), assistant("b"), assistant("c")])).starts_with(alternate));
    }

    #[test]
    fn blank_texts_are_refused_in_messages_and_taken_in_results() {
        let blank = "The text field in the ContentBlock object at messages.0.content.0 is blank";
        assert!(refusal(json!([user("")])).starts_with(blank));
        assert!(refusal(json!([user(" \n")])).starts_with(blank));
        assert_eq!(refusal(json!([user("a"), asks(&["1"]), answers(&["1"])])), "");
        let empty = json!([{"role": "user", "content": []}]);
        assert!(refusal(empty).starts_with("The content field in the Message object at messages.0 is empty"));
        let failed = json!({"toolUseId": "1", "content": [], "status": "error"});
        let failed = json!([user("a"), asks(&["1"]), {"role": "user", "content": [{"toolResult": failed}]}]);
        assert!(refusal(failed).ends_with("cannot be empty when status value is error."));
    }

    #[test]
    fn every_tool_use_is_answered_in_the_next_turn() {
        let expected =
            |ids: &str| format!("Expected toolResult blocks at messages.2.content for the following Ids: {ids}");
        assert_eq!(refusal(json!([user("a"), asks(&["1", "2"]), answers(&["2", "1"])])), "");
        assert_eq!(refusal(json!([user("a"), asks(&["1", "2"]), answers(&["2"])])), expected("1"));
        assert_eq!(refusal(json!([user("a"), asks(&["1"]), answers(&["3"])])), expected("1"));
        assert_eq!(refusal(json!([user("a"), asks(&["1"]), user("b")])), expected("1"));
        assert_eq!(refusal(json!([user("a"), asks(&["1"])])), expected("1"));
        let exceeds = "The number of toolResult blocks at messages.2.content exceeds";
        assert!(refusal(json!([user("a"), asks(&["1"]), answers(&["1", "2"])])).starts_with(exceeds));
        assert!(refusal(json!([user("a"), assistant("b"), answers(&["1"])])).starts_with(exceeds));
        let twice = "The toolUse blocks at messages.1.content contain duplicate Ids: 1";
        assert_eq!(refusal(json!([user("a"), asks(&["1", "1"]), answers(&["1"])])), twice);
        let text = json!({"toolUseId": "1", "name": "f", "input": "{}"});
        let text = json!([user("a"), {"role": "assistant", "content": [{"toolUse": text}]}, answers(&["1"])]);
        assert!(refusal(text).contains("messages.1.content.0.toolUse.input is invalid"));
    }

    #[test]
    fn blocks_about_tools_want_tools() {
        let body = json!({"messages": [user("a"), asks(&["1"]), answers(&["1"])]});
        let message = refusal_of(body, &ModelRules::default());
        assert!(message.starts_with("The toolConfig field must be defined"), "{message}");
        let tool = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
        let config = json!({"tools": [tool], "toolChoice": {"tool": {"name": "g"}}});
        let body = json!({"messages": [user("a")], "toolConfig": config});
        assert!(refusal_of(body, &ModelRules::default()).contains("Tool 'g' not found"));
        let body = json!({"messages": [user("a")], "toolConfig": {"tools": [tool, tool]}});
        assert!(refusal_of(body, &ModelRules::default()).contains("unique"));
        for schema in [json!({}), json!({"properties": {}}), json!({"type": ["object"]})] {
            let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]});
            let message = refusal_of(json!({"messages": [user("a")], "toolConfig": tools}), &ModelRules::default());
            assert!(message.ends_with("inputSchema.json.type must be one of the following: object."), "{message}");
        }
    }

    #[test]
    fn blocks_are_in_messages_of_their_role() {
        let image = json!({"image": {"format": "png", "source": {"bytes": "AA=="}}});
        let message = refusal(json!([user("a"), {"role": "assistant", "content": [image]}]));
        assert_eq!(
            message,
            "The image block at messages.1.content.0 is not supported in a message of the assistant role."
        );
        let asking = json!({"role": "user", "content": asks(&["1"])["content"]});
        assert!(refusal(json!([asking])).contains("of the user role"));
    }

    #[test]
    fn the_last_turn_of_an_assistant_has_no_trailing_space_and_some_models_take_none() {
        assert_eq!(refusal(json!([user("a"), assistant("b")])), "");
        assert_eq!(
            refusal(json!([user("a"), assistant("b ")])),
            "The model returned the following errors: messages: final assistant content cannot end with trailing whitespace"
        );
        let rules = ModelRules { refuses_prefill: true, ..ModelRules::default() };
        let message = refusal_of(json!({"messages": [user("a"), assistant("b")]}), &rules);
        assert_eq!(
            message,
            "The model returned the following errors: This model does not support assistant message prefill. The \
             conversation must end with a user message."
        );
        assert_eq!(refusal_of(json!({"messages": [user("a")]}), &rules), "");
    }

    #[test]
    fn a_model_refuses_what_it_is_told_to() {
        let rules = ModelRules {
            refuses_temperature_with_top_p: true,
            refused_fields: vec!["stopSequences".to_owned(), "toolConfig.toolChoice.any".to_owned()],
            refuses_system: true,
            refuses_text_beside_tool_results: true,
            image_formats: Some(vec!["png".to_owned()]),
            ..ModelRules::default()
        };
        let with = |name: &str, value: Value| {
            let mut body = json!({"messages": [user("a")]});
            body[name] = value;
            refusal_of(body, &rules)
        };
        assert_eq!(with("inferenceConfig", json!({"temperature": 0.5})), "");
        assert!(with("inferenceConfig", json!({"temperature": 0.5, "topP": 1})).contains("cannot both be specified"));
        let stop = with("inferenceConfig", json!({"stopSequences": ["x"]}));
        assert_eq!(stop, "This model doesn't support the stopSequences field. Remove stopSequences and try again.");
        let tools = |choice: &str| {
            let tool = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
            with("toolConfig", json!({"tools": [tool], "toolChoice": {choice: {}}}))
        };
        assert_eq!(tools("auto"), "");
        assert!(tools("any").starts_with("This model doesn't support the toolConfig.toolChoice.any field."));
        assert!(with("system", json!([{"text": "x"}])).starts_with("This model doesn't support system messages"));
        let image = |format: &str| json!([{"role": "user", "content": [{"image": {"format": format}}]}]);
        assert_eq!(with("messages", image("png")), "");
        assert!(with("messages", image("gif")).contains("doesn't support the image content block"));
        let mut mixed = answers(&["1"]);
        mixed["content"].as_array_mut().unwrap().push(json!({"text": "and?"}));
        let mixed = with("messages", json!([user("a"), asks(&["1"]), mixed]));
        assert!(mixed.starts_with("messages.2.content: Conversation blocks"), "{mixed}");
        let denied = ModelRules { denied: true, ..ModelRules::default() };
        assert!(check(&json!({"messages": [user("a")]}), &denied, false).is_err_and(|failure| failure.status() == 403));
    }
}
