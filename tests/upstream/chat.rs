//! A request for a completion, parsed and checked as OpenAI's server does it.

use serde_json::{Value, json};

use super::accept;
use super::profile::{Profile, Quirks, Several};
use super::refusal::Refusal;

/// A request for chat, or for a continuation of raw text.
#[derive(Debug)]
pub struct Chat {
    pub profile: Profile,
    pub body: Value,
    pub model: String,
    pub n: usize,
    pub stream: bool,
    pub include_usage: bool,
    /// It asks the legacy API for raw text.
    pub is_text: bool,
}

impl Chat {
    /// Reads a chat request. `deployment` stands for the model where the address names it.
    ///
    /// # Errors
    ///
    /// What OpenAI refuses, and then what this server does.
    pub fn parse(profile: Profile, deployment: Option<String>, body: &[u8]) -> Result<Self, Refusal> {
        let body: Value = serde_json::from_slice(body).map_err(|_| {
            Refusal::invalid(None, None, "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly.)")
        })?;
        let model = deployment.or_else(|| body["model"].as_str().map(str::to_owned)).filter(|model| !model.is_empty());
        let Some(model) = model else {
            return Err(Refusal::invalid(None, None, "you must provide a model parameter"));
        };
        check_messages(&body)?;
        for (name, low, high) in
            [("temperature", 0.0, 2.0), ("top_p", 0.0, 1.0), ("top_logprobs", 0.0, 20.0), ("n", 1.0, 128.0)]
        {
            let value = &body[name];
            if !value.is_null() && !value.as_f64().is_some_and(|value| (low..=high).contains(&value)) {
                let message =
                    format!("Invalid '{name}': expected a number from {low} to {high}, but got {value} instead.");
                return Err(Refusal::invalid(Some(name), Some("invalid_value"), &message));
            }
        }
        if !body["tool_choice"].is_null() && body["tools"].is_null() {
            let message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
            return Err(Refusal::invalid(Some("tool_choice"), None, message));
        }
        let include_usage = body["stream_options"]["include_usage"] == true;
        if !body["stream_options"].is_null() && body["stream"] != true {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(Refusal::invalid(Some("stream_options"), None, message));
        }
        accept::check_fields(profile, &model, &body)?;
        Ok(Self {
            profile,
            model,
            n: body["n"].as_u64().unwrap_or(1) as usize,
            stream: body["stream"] == true,
            include_usage,
            is_text: false,
            body,
        })
    }

    /// The same for the legacy API, whose prompt stands for the messages.
    pub fn parse_text(profile: Profile, deployment: Option<String>, body: &[u8]) -> Result<Self, Refusal> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Refusal::invalid(None, None, "not JSON"))?;
        if body["prompt"].is_null() {
            let message = "Missing required parameter: 'prompt'.";
            return Err(Refusal::invalid(Some("prompt"), Some("missing_required_parameter"), message));
        }
        let mut with_messages = body;
        with_messages["messages"] = json!([{"role": "user"}]);
        let chat = Self::parse(profile, deployment, with_messages.to_string().as_bytes())?;
        Ok(Self { is_text: true, ..chat })
    }

    /// In what the server differs that was asked.
    pub fn quirks(&self) -> Quirks {
        self.profile.quirks()
    }

    /// How many choices the answer has. `honours_n` overrides the profile.
    pub fn choices(&self, honours_n: Option<bool>) -> usize {
        let honours_n = honours_n.unwrap_or(self.quirks().n == Several::Honoured);
        if honours_n { self.n } else { 1 }
    }
}

fn check_messages(body: &Value) -> Result<(), Refusal> {
    match &body["messages"] {
        Value::Null => {
            let message = "Missing required parameter: 'messages'.";
            Err(Refusal::invalid(Some("messages"), Some("missing_required_parameter"), message))
        }
        Value::Array(messages) if messages.is_empty() => {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
            Err(Refusal::invalid(Some("messages"), Some("empty_array"), message))
        }
        Value::Array(messages) => match messages.iter().position(|message| !message["role"].is_string()) {
            None => Ok(()),
            Some(at) => {
                let param = format!("messages[{at}].role");
                let message = format!("Missing required parameter: '{param}'.");
                Err(Refusal::invalid(Some(&param), Some("missing_required_parameter"), &message))
            }
        },
        _ => {
            let message = "Invalid type for 'messages': expected an array of objects.";
            Err(Refusal::invalid(Some("messages"), Some("invalid_type"), message))
        }
    }
}
