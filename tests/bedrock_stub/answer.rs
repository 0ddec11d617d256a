//! The answers of a model: whole, and as the events of a stream.

use serde_json::{Map, Value, json};

use super::script::{Block, Step, ToolUse};

/// What an unscripted model says.
const USUAL_TEXT: &str = "This is what the scripted model says.";

/// An answer before it is whole or a stream.
pub struct Answer<'a> {
    step: &'a Step,
    content: Vec<Block>,
    stop_reason: String,
    usage: Value,
    latency_ms: u64,
}

impl<'a> Answer<'a> {
    /// The answer to request `number` with this body.
    pub fn new(step: &'a Step, body: &Value, number: u64) -> Self {
        let is_usual = step.content.is_empty() && !step.is_silent;
        let mut content = if is_usual { vec![usual(body)] } else { step.content.clone() };
        let mut uses = 0;
        for block in &mut content {
            if let Block::ToolUse(tool_use) = block {
                tool_use.id.get_or_insert_with(|| format!("tooluse_{number}_{uses}"));
                uses += 1;
            }
        }
        let usual_reason = if uses > 0 { "tool_use" } else { "end_turn" };
        let stop_reason = step.stop_reason.clone().unwrap_or_else(|| usual_reason.to_owned());
        let usage = usage(step.usage.as_ref(), body, &content);
        Self { step, content, stop_reason, usage, latency_ms: step.latency_ms.unwrap_or(120) }
    }

    /// The body of a whole answer.
    pub fn whole(&self) -> Value {
        let content: Vec<Value> = self.content.iter().map(block).collect();
        let mut whole = json!({
            "metrics": {"latencyMs": self.latency_ms},
            "output": {"message": {"content": content, "role": "assistant"}},
            "stopReason": self.stop_reason,
            "usage": self.usage,
        });
        self.add_extras(&mut whole, true, true);
        whole
    }

    /// The events of a stream, in order. As from the service, a block of text begins with its first delta, and only the
    /// use of a tool with an event of its own.
    pub fn events(&self) -> Vec<(String, Value)> {
        let mut events = vec![("messageStart", json!({"role": "assistant"}))];
        for (index, block) in self.content.iter().enumerate() {
            let delta = |delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
            match block {
                Block::Text(text) => events.extend(pieces(text).map(|piece| delta(json!({ "text": piece })))),
                Block::ToolUse(ToolUse { id, name, input, input_text }) => {
                    let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                    events.push(("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
                    let text = input_text.clone().unwrap_or_else(|| input.to_string());
                    events.extend(halves(&text).map(|piece| delta(json!({"toolUse": {"input": piece}}))));
                }
                Block::Reasoning { text, signature } => {
                    events.extend(pieces(text).map(|piece| delta(json!({"reasoningContent": {"text": piece}}))));
                    events.extend(
                        signature.iter().map(|signature| delta(json!({"reasoningContent": {"signature": signature}}))),
                    );
                }
                Block::Redacted(data) => events.push(delta(json!({"reasoningContent": {"redactedContent": data}}))),
            }
            events.push(("contentBlockStop", json!({"contentBlockIndex": index})));
        }
        let mut stop = json!({"stopReason": self.stop_reason});
        self.add_extras(&mut stop, true, false);
        events.push(("messageStop", stop));
        let mut metadata = json!({"metrics": {"latencyMs": self.latency_ms}, "usage": self.usage});
        self.add_extras(&mut metadata, false, true);
        events.push(("metadata", metadata));
        events.into_iter().map(|(kind, payload)| (kind.to_owned(), payload)).collect()
    }

    fn add_extras(&self, to: &mut Value, fields: bool, trace: bool) {
        if let Some(told) = self.step.additional_model_response_fields.as_ref().filter(|_| fields) {
            to["additionalModelResponseFields"] = told.clone();
        }
        if let Some(told) = self.step.trace.as_ref().filter(|_| trace) {
            to["trace"] = told.clone();
        }
    }
}

/// The payload of an event as it goes over the wire: the service pads payloads, so that their lengths tell nothing of
/// what the model says.
pub fn padded(payload: &Value, number: usize) -> String {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut payload = payload.clone();
    if let Some(fields) = payload.as_object_mut() {
        fields.insert("p".to_owned(), json!(LETTERS[..number * 7 % LETTERS.len()]));
    }
    payload.to_string()
}

/// What is answered unscripted: the first tool is used where there is one and its result is not there yet.
fn usual(body: &Value) -> Block {
    let chosen = body["toolConfig"]["toolChoice"]["tool"]["name"].as_str();
    let first = || {
        let tools = body["toolConfig"]["tools"].as_array()?;
        tools.iter().find_map(|tool| tool["toolSpec"]["name"].as_str())
    };
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let is_answered = last
        .and_then(|last| last["content"].as_array())
        .is_some_and(|blocks| blocks.iter().any(|block| block.get("toolResult").is_some()));
    match chosen.or_else(first).filter(|_| !is_answered) {
        Some(name) => {
            Block::ToolUse(ToolUse { name: name.to_owned(), input: json!({"expression": "6*7"}), ..ToolUse::default() })
        }
        None => Block::Text(USUAL_TEXT.to_owned()),
    }
}

fn block(block: &Block) -> Value {
    match block {
        Block::Text(text) => json!({ "text": text }),
        Block::ToolUse(ToolUse { id, name, input, .. }) => {
            json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
        }
        Block::Reasoning { text, signature } => {
            let mut reasoning = json!({ "text": text });
            if let Some(signature) = signature {
                reasoning["signature"] = json!(signature);
            }
            json!({"reasoningContent": {"reasoningText": reasoning}})
        }
        Block::Redacted(data) => json!({"reasoningContent": {"redactedContent": data}}),
    }
}

/// A word is a token.
fn usage(told: Option<&Value>, body: &Value, content: &[Block]) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let input = words(&format!("{} {}", body["system"], body["messages"]));
    let output: usize = content
        .iter()
        .map(|block| match block {
            Block::Text(text) | Block::Reasoning { text, .. } | Block::Redacted(text) => words(text),
            Block::ToolUse(tool_use) => 1 + words(&tool_use.input.to_string()),
        })
        .sum();
    let mut usage = json!({
        "cacheReadInputTokens": 0, "cacheWriteInputTokens": 0, "inputTokens": input, "outputTokens": output,
        "totalTokens": input + output,
    });
    for (name, count) in told.and_then(Value::as_object).unwrap_or(&Map::new()) {
        usage[name] = count.clone();
    }
    if let Some(fields) = usage.as_object_mut() {
        fields.retain(|_, count| !count.is_null());
    }
    usage
}

/// Words, each with the spaces before it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(|letter: char| !letter.is_whitespace())?;
        let end = rest[word..].find(char::is_whitespace).map_or(rest.len(), |at| word + at);
        // Spaces at the end go with the last word.
        let end = if rest[end..].trim().is_empty() { rest.len() } else { end };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// An empty piece, as the service begins with, and two halves.
fn halves(text: &str) -> impl Iterator<Item = &str> {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(at, _)| at);
    let (first, second) = text.split_at(middle);
    ["", first, second]
        .into_iter()
        .enumerate()
        .filter(|(at, piece)| *at == 0 || !piece.is_empty())
        .map(|(_, piece)| piece)
}

#[cfg(test)]
mod tests {
    use super::super::service_model::ServiceModel;
    use super::*;

    const REASONS: [&str; 9] = [
        "end_turn",
        "tool_use",
        "max_tokens",
        "stop_sequence",
        "guardrail_intervened",
        "content_filtered",
        "malformed_model_output",
        "malformed_tool_use",
        "model_context_window_exceeded",
    ];

    /// Blocks of every kind.
    fn everything() -> Step {
        Step {
            content: vec![
                Block::Reasoning { text: "Let me see.".to_owned(), signature: Some("c2ln".to_owned()) },
                Block::Redacted("c2VjcmV0".to_owned()),
                Block::Text("Two calls: ".to_owned()),
                Block::tool_use("tooluse_a", "add", json!({"numbers": [1, 2]})),
                Block::tool_use("tooluse_b", "add", json!({})),
            ],
            usage: Some(json!({"cacheReadInputTokens": 5, "cacheWriteInputTokens": 7})),
            trace: Some(json!({"guardrail": {"actionReason": "none"}})),
            additional_model_response_fields: Some(json!({"stop_sequence": "x"})),
            ..Step::default()
        }
    }

    #[test]
    fn answers_fit_the_service_model() {
        let model = ServiceModel::installed();
        let body = json!({"messages": [{"role": "user", "content": [{"text": "a b c"}]}]});
        let silent = Step { is_silent: true, ..Step::default() };
        assert_eq!(Answer::new(&silent, &body, 0).whole()["output"]["message"]["content"], json!([]));
        let mut steps = vec![Step::default(), everything(), silent];
        steps.extend(REASONS.map(|reason| Step::text("x").stop_reason(reason)));
        for step in steps {
            let answer = Answer::new(&step, &body, 3);
            let whole = answer.whole();
            assert_eq!(model.problems("ConverseResponse", &whole, &[]), [""; 0], "{whole}");
            for (kind, payload) in answer.events() {
                let problems = model.event_problems("ConverseStreamOutput", &kind, &payload);
                assert_eq!(problems, [""; 0], "{kind} {payload}");
            }
        }
    }

    #[test]
    fn a_stream_says_what_a_whole_answer_says() {
        let step = everything();
        let answer = Answer::new(&step, &json!({}), 0);
        let events = answer.events();
        let of = |index: usize, path: &str| -> String {
            let deltas = events.iter().filter(|(_, payload)| payload["contentBlockIndex"] == index);
            deltas.filter_map(|(_, payload)| payload["delta"].pointer(path)?.as_str()).collect()
        };
        let whole = answer.whole();
        let content = &whole["output"]["message"]["content"];
        assert_eq!(of(0, "/reasoningContent/text"), "Let me see.");
        assert_eq!(of(0, "/reasoningContent/signature"), "c2ln");
        assert_eq!(of(1, "/reasoningContent/redactedContent"), content[1]["reasoningContent"]["redactedContent"]);
        assert_eq!(of(2, "/text"), content[2]["text"].as_str().unwrap());
        assert_eq!(of(3, "/toolUse/input"), content[3]["toolUse"]["input"].to_string());
        assert_eq!(of(4, "/toolUse/input"), "{}");
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds.first(), Some(&"messageStart"));
        assert_eq!(kinds[kinds.len() - 2..], ["messageStop", "metadata"]);
        assert_eq!(kinds.iter().filter(|kind| **kind == "contentBlockStart").count(), 2, "of the tools alone");
        assert_eq!(kinds.iter().filter(|kind| **kind == "contentBlockStop").count(), 5);
    }

    #[test]
    fn usage_is_counted_in_words_unless_told() {
        let body = json!({"system": [{"text": "x"}], "messages": [{"role": "user", "content": [{"text": "a b"}]}]});
        let usage_of = |step: &Step| Answer::new(step, &body, 0).whole()["usage"].clone();
        let counted = usage_of(&Step::text("one two three"));
        assert_eq!(counted["outputTokens"], 3);
        assert_eq!(counted["totalTokens"], counted["inputTokens"].as_u64().unwrap() + 3);
        assert_eq!(usage_of(&Step::text("x").usage(10, 20))["totalTokens"], 30);
        let step = Step { usage: Some(json!({"cacheReadInputTokens": null})), ..Step::text("x") };
        assert!(usage_of(&step).get("cacheReadInputTokens").is_none());
    }

    #[test]
    fn payloads_are_padded_and_keep_what_they_say() {
        let padded: Value = serde_json::from_str(&padded(&json!({"role": "assistant"}), 3)).unwrap();
        assert_eq!(padded, json!({"role": "assistant", "p": "abcdefghijklmnopqrstu"}));
    }

    #[test]
    fn pieces_make_the_text_again() {
        let of = |text: &str| pieces(text).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("a  b c "), ["a", "  b", " c "]);
        assert_eq!(of("é"), ["é"]);
        assert_eq!(of(""), [""; 0]);
        assert_eq!(halves("éab").collect::<Vec<_>>(), ["", "é", "ab"]);
        assert_eq!(halves("").collect::<Vec<_>>(), [""]);
    }
}
