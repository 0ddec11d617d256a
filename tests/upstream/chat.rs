//! Chat completions as OpenAI's server answers them: what it checks in a request, and the shapes of its
//! whole and streamed answers.

use serde_json::{Value, json};

use super::script::Step;
use super::text;

/// A chat request, parsed and checked.
#[derive(Debug)]
pub struct Chat {
    pub body: Value,
    pub model: String,
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
    /// It asks the legacy API for raw text.
    is_text: bool,
}

/// A body, and the content type that goes with it.
#[derive(Debug)]
pub struct Answer {
    pub content_type: &'static str,
    /// Pieces that a stream sends one by one; a whole answer is one piece.
    pub pieces: Vec<String>,
    /// After how many pieces the first content is out.
    pub first_content: usize,
}

impl Chat {
    /// # Errors
    ///
    /// The error object of OpenAI's 400.
    pub fn parse(body: &[u8]) -> Result<Self, Value> {
        let body: Value = serde_json::from_slice(body).map_err(|_| {
            invalid(None, None, "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly.)")
        })?;
        let Some(model) = body["model"].as_str().filter(|model| !model.is_empty()) else {
            return Err(invalid(None, None, "you must provide a model parameter"));
        };
        match &body["messages"] {
            Value::Null => {
                let message = "Missing required parameter: 'messages'.";
                return Err(invalid(Some("messages"), Some("missing_required_parameter"), message));
            }
            Value::Array(messages) if messages.is_empty() => {
                let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
                return Err(invalid(Some("messages"), Some("empty_array"), message));
            }
            Value::Array(messages) => {
                if let Some(at) = messages.iter().position(|message| !message["role"].is_string()) {
                    let param = format!("messages[{at}].role");
                    let message = format!("Missing required parameter: '{param}'.");
                    return Err(invalid(Some(&param), Some("missing_required_parameter"), &message));
                }
            }
            _ => {
                return Err(invalid(
                    Some("messages"),
                    Some("invalid_type"),
                    "Invalid type for 'messages': expected an array of objects.",
                ));
            }
        }
        for (name, low, high) in
            [("temperature", 0.0, 2.0), ("top_p", 0.0, 1.0), ("top_logprobs", 0.0, 20.0), ("n", 1.0, 128.0)]
        {
            let value = &body[name];
            if !value.is_null() && !value.as_f64().is_some_and(|value| (low..=high).contains(&value)) {
                let message =
                    format!("Invalid '{name}': expected a number from {low} to {high}, but got {value} instead.");
                return Err(invalid(Some(name), Some("invalid_value"), &message));
            }
        }
        if !body["tool_choice"].is_null() && body["tools"].is_null() {
            let message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
            return Err(invalid(Some("tool_choice"), None, message));
        }
        let include_usage = body["stream_options"]["include_usage"] == true;
        if !body["stream_options"].is_null() && body["stream"] != true {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(invalid(Some("stream_options"), None, message));
        }
        Ok(Self {
            is_text: false,
            model: model.to_owned(),
            n: body["n"].as_u64().unwrap_or(1) as usize,
            stream: body["stream"] == true,
            include_usage,
            body,
        })
    }

    /// The same for the legacy API, whose prompt stands for the messages.
    pub fn parse_text(body: &[u8]) -> Result<Self, Value> {
        let mut body: Value = serde_json::from_slice(body).map_err(|_| invalid(None, None, "not JSON"))?;
        if body["prompt"].is_null() {
            return Err(invalid(
                Some("prompt"),
                Some("missing_required_parameter"),
                "Missing required parameter: 'prompt'.",
            ));
        }
        body["messages"] = json!([{"role": "user"}]);
        Ok(Self { is_text: true, ..Self::parse(body.to_string().as_bytes())? })
    }

    /// The answer that `step` describes, in the shape that was asked for.
    pub fn answer(&self, step: &Step, number: u64, honours_n: bool) -> Answer {
        let choices = if honours_n { self.n } else { 1 };
        if self.is_text {
            return text::answer(self, step, number, choices);
        }
        let reply = self.reply(step);
        if self.stream {
            self.streamed(step, &reply, number, choices)
        } else {
            self.whole(step, &reply, number, choices)
        }
    }

    /// The assistant message: what the step says, else a call of the tool that must be called or comes first,
    /// else a fixed sentence.
    fn reply(&self, step: &Step) -> Value {
        let mut reply = json!({"role": "assistant", "content": step.content, "refusal": step.refusal});
        if let Some(reasoning) = &step.reasoning_content {
            reply["reasoning_content"] = json!(reasoning);
        }
        if !step.tool_calls.is_empty() {
            let calls = step.tool_calls.iter().enumerate();
            reply["tool_calls"] = calls
                .map(|(at, call)| {
                    let id = call.id.clone().unwrap_or_else(|| format!("call_{at}"));
                    json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
                })
                .collect();
        } else if step.content.is_none() && step.refusal.is_none() {
            match self.tool_to_call() {
                Some(name) => {
                    reply["tool_calls"] =
                        json!([{"id": "call_0", "type": "function", "function": {"name": name, "arguments": "{}"}}]);
                }
                None => reply["content"] = json!("This is a scripted answer."),
            }
        }
        if let (Some(size), Some(text)) = (step.content_bytes, reply["content"].as_str()) {
            let text: String = text.chars().cycle().take(size).collect();
            reply["content"] = json!(text);
        }
        reply
    }

    fn tool_to_call(&self) -> Option<&str> {
        if self.body["tool_choice"] == "none" || self.body["messages"].as_array()?.last()?["role"] == "tool" {
            return None;
        }
        let named = self.body["tool_choice"]["function"]["name"].as_str();
        named.or_else(|| self.body["tools"][0]["function"]["name"].as_str())
    }

    fn whole(&self, step: &Step, reply: &Value, number: u64, choices: usize) -> Answer {
        let body = match &step.error {
            Some(error) => json!({ "error": error }),
            None => json!({
                "id": format!("chatcmpl-{number}"),
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": self.model,
                "choices": (0..choices).map(|index| json!({
                    "index": index,
                    "message": reply,
                    "logprobs": self.logprobs(step, 0, reply["content"].as_str().unwrap_or_default()),
                    "finish_reason": finish_reason(step, reply),
                })).collect::<Vec<_>>(),
                "usage": self.usage(step, reply, choices),
                "system_fingerprint": "fp_scripted",
            }),
        };
        Answer { content_type: "application/json", pieces: vec![body.to_string()], first_content: 1 }
    }

    fn streamed(&self, step: &Step, reply: &Value, number: u64, choices: usize) -> Answer {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": format!("chatcmpl-{number}"),
                "object": "chat.completion.chunk",
                "created": 1_700_000_000,
                "model": self.model,
                "system_fingerprint": "fp_scripted",
                "choices": choices,
            });
            if self.include_usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let mut deltas = Vec::new();
        if let Some(text) = reply["reasoning_content"].as_str() {
            deltas.extend(words(text).map(|word| (json!({"reasoning_content": word}), Value::Null)));
        }
        if let Some(text) = reply["content"].as_str() {
            let word = |(at, word)| (json!({"content": word}), self.logprobs(step, at, word));
            deltas.extend(words(text).enumerate().map(word));
        }
        if let Some(text) = reply["refusal"].as_str() {
            deltas.extend(words(text).map(|word| (json!({"refusal": word}), Value::Null)));
        }
        for (at, call) in reply["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let mut start = call.clone();
            start["index"] = json!(at);
            start["function"]["arguments"] = json!("");
            deltas.push((json!({"tool_calls": [start]}), Value::Null));
            let arguments: Vec<char> = call["function"]["arguments"].as_str().unwrap_or_default().chars().collect();
            deltas.extend(arguments.chunks(5).map(|piece| {
                let piece: String = piece.iter().collect();
                (json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}), Value::Null)
            }));
        }
        let choice = |index: usize, delta: &Value, logprobs: &Value, finish_reason: Value| json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]);
        let mut pieces = Vec::new();
        for index in 0..choices {
            let role = json!({"role": "assistant", "content": if reply["content"].is_null() { Value::Null } else { json!("") }});
            pieces.push(chunk(choice(index, &role, &Value::Null, Value::Null), Value::Null));
            for (delta, logprobs) in &deltas {
                pieces.push(chunk(choice(index, delta, logprobs, Value::Null), Value::Null));
            }
            pieces.push(chunk(choice(index, &json!({}), &Value::Null, finish_reason(step, reply)), Value::Null));
        }
        if self.include_usage {
            pieces.push(chunk(json!([]), self.usage(step, reply, choices)));
        }
        pieces.push("data: [DONE]\n\n".to_owned());
        if let Some(error) = &step.error {
            pieces.truncate(pieces.len() / 2);
            pieces.push(format!("data: {}\n\n", json!({ "error": error })));
        }
        Answer { content_type: "text/event-stream", pieces, first_content: 2 }
    }

    /// What is told of the words of `text`, of which `first` words of the content come before it.
    fn logprobs(&self, step: &Step, first: usize, text: &str) -> Value {
        let scripted = step.logprobs.as_deref();
        if self.body["logprobs"] != true || scripted.is_some_and(<[f64]>::is_empty) {
            return Value::Null;
        }
        let of_word = |at: usize| scripted.map_or(-0.25, |logprobs| logprobs[(first + at) % logprobs.len()]);
        let top = self.body["top_logprobs"].as_u64().unwrap_or(0);
        let token = |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
        let content: Vec<Value> = words(text)
            .enumerate()
            .map(|(at, word)| {
                let logprob = of_word(at);
                let mut entry = token(word, logprob);
                entry["top_logprobs"] = (0..top).map(|rank| token(word, logprob - rank as f64)).collect();
                entry
            })
            .collect();
        json!({"content": content, "refusal": null})
    }

    pub fn usage(&self, step: &Step, reply: &Value, choices: usize) -> Value {
        if let Some(usage) = &step.usage {
            return usage.clone();
        }
        let completion = words(reply["content"].as_str().unwrap_or("one")).count() * choices;
        json!({
            "prompt_tokens": 10,
            "completion_tokens": completion,
            "total_tokens": 10 + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        })
    }
}

/// The error body of a 400.
pub fn invalid(param: Option<&str>, code: Option<&str>, message: &str) -> Value {
    json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
}

fn finish_reason(step: &Step, reply: &Value) -> Value {
    match &step.finish_reason {
        Some(reason) => json!(reason),
        None if reply["tool_calls"].is_array() => json!("tool_calls"),
        None => json!("stop"),
    }
}

/// The text in words, each with the white space after it.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}
