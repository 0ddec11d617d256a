//! Making a prompt fit for a model that cannot do all that is asked of it.
//!
//! What means the same under another name is renamed. What is left out or asked for in another way is said in a
//! warning. What nothing can stand for is refused by the parameter to change. Nothing else of the prompt is touched:
//! messages stay as the client wrote them, byte for byte, but for the role of one that the server does not know.

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::completion::{MaxTokensName, OPENAI_FIELDS, Prompt};
use crate::config::capabilities::{Capabilities, ForcedTool, LengthLimit, Prefill, Support};
use crate::failure::Failure;

/// Who is asked.
pub(super) struct Target<'a> {
    /// The provider's name.
    pub provider: &'a str,
    pub row: &'a Capabilities,
    /// Body fields that the configuration sends along where a prompt does not name them itself. They are the
    /// operator's own, and stay.
    pub configured: &'a Map<String, Value>,
}

/// Makes `prompt` fit, and says of everything that is asked for in another way than it was. What fits already is not
/// changed.
///
/// # Errors
///
/// What the model cannot do and nothing can stand for, with the parameter to change.
pub(super) fn fit(prompt: &mut Prompt, target: &Target) -> Result<Vec<String>, Failure> {
    let mut fitting = Fitting { prompt, target, warnings: Vec::new() };
    fitting.sampling()?;
    fitting.logprobs()?;
    fitting.tools()?;
    fitting.response_format()?;
    fitting.messages()?;
    fitting.unknown_fields();
    Ok(fitting.warnings)
}

struct Fitting<'a> {
    prompt: &'a mut Prompt,
    target: &'a Target<'a>,
    warnings: Vec<String>,
}

impl Fitting<'_> {
    /// Whom a message speaks of.
    fn who(&self) -> String {
        format!("`{}` of {}", self.prompt.model, self.target.provider)
    }

    fn left_out(&mut self, names: &[&str], why: &str) {
        if !names.is_empty() {
            let (verb, names) = (if names.len() == 1 { "was" } else { "were" }, names.join("`, `"));
            self.warnings.push(format!("`{names}` {verb} left out: {} {why}", self.who()));
        }
    }

    fn refusal(&self, param: &str, why: &str) -> Failure {
        Failure::invalid_param(param, format!("{} {why}", self.who()))
    }

    /// A refusal by a column of the table of capabilities, which may be wrong of this server.
    fn incapable(&self, param: &str, why: &str, column: &str) -> Failure {
        self.refusal(param, &format!("{why} (or correct `extra_args.capabilities.{column}`, if this is wrong)"))
    }

    fn sampling(&mut self) -> Result<(), Failure> {
        let row = self.target.row;
        if let Some(limit) = &mut self.prompt.sampling.max_tokens {
            limit.name = match row.length_limit {
                LengthLimit::MaxTokens => MaxTokensName::MaxTokens,
                LengthLimit::MaxCompletionTokens => MaxTokensName::MaxCompletionTokens,
                LengthLimit::Either => limit.name,
            };
        }
        if row.sampling == Support::No {
            let sampling = &mut self.prompt.sampling;
            // At the value that is the model's own, leaving it out means the same.
            let taken = [
                ("temperature", sampling.temperature.take(), 1.0),
                ("top_p", sampling.top_p.take(), 1.0),
                ("presence_penalty", sampling.presence_penalty.take(), 0.0),
                ("frequency_penalty", sampling.frequency_penalty.take(), 0.0),
            ];
            let differs = |(_, value, own): &&(&str, Option<f64>, f64)| value.is_some_and(|value| value != *own);
            let names: Vec<&str> = taken.iter().filter(differs).map(|(name, ..)| *name).collect();
            self.left_out(&names, "samples in a way of its own");
        } else if row.explicit_sampling == Support::Yes {
            let sampling = &mut self.prompt.sampling;
            for (name, setting) in [("temperature", &mut sampling.temperature), ("top_p", &mut sampling.top_p)] {
                if setting.is_none() && !self.target.configured.contains_key(name) {
                    *setting = Some(1.0);
                }
            }
        }
        self.one_sampler();
        if row.top_k == Support::No {
            let sampling = &mut self.prompt.sampling;
            let taken = [("top_k", sampling.top_k.take().is_some()), ("min_p", sampling.min_p.take().is_some())];
            let names: Vec<&str> = taken.iter().filter(|(_, is_named)| *is_named).map(|(name, _)| *name).collect();
            self.left_out(&names, "does not take it");
        }
        if row.logit_bias == Support::No && !std::mem::take(&mut self.prompt.sampling.logit_bias).is_empty() {
            self.left_out(&["logit_bias"], "does not take it");
        }
        if row.seed == Support::No && self.prompt.sampling.seed.is_some() {
            // It stays in the prompt, since the run draws from it too; calls go without.
            self.left_out(&["seed"], "does not take it");
        }
        let stops = self.prompt.sampling.stop.len();
        match row.max_stop {
            Some(0) if stops > 0 => Err(self.incapable("stop", "takes no `stop`; leave it out", "max_stop")),
            Some(most) if stops > usize::from(most) => {
                let why = format!("takes at most {most} texts in `stop`, not {stops}; leave some out");
                Err(self.incapable("stop", &why, "max_stop"))
            }
            _ => Ok(()),
        }
    }

    /// Leaves one of `temperature` and `top_p` where both together are refused. At 1 either means nothing.
    fn one_sampler(&mut self) {
        let sampling = &mut self.prompt.sampling;
        let (Some(temperature), Some(top_p)) = (sampling.temperature, sampling.top_p) else { return };
        if self.target.row.temperature_with_top_p != Support::No {
            return;
        }
        if temperature == 1.0 && top_p != 1.0 {
            sampling.temperature = None;
            return;
        }
        sampling.top_p = None;
        if top_p != 1.0 {
            self.left_out(&["top_p"], "takes `temperature` or `top_p`, and not both");
        }
    }

    fn logprobs(&mut self) -> Result<(), Failure> {
        let Some(wanted) = &mut self.prompt.logprobs else { return Ok(()) };
        let Some(most) = self.target.row.top_logprobs() else {
            return Err(self.incapable("logprobs", "tells no log-probabilities; leave out `logprobs`", "logprobs"));
        };
        if wanted.top > most {
            wanted.top = most;
            self.warnings
                .push(format!("`top_logprobs` was lowered to {most}, which is the most that {} tells", self.who()));
        }
        Ok(())
    }

    fn tools(&mut self) -> Result<(), Failure> {
        const PARALLEL: &str = "parallel_tool_calls";
        let row = self.target.row;
        if row.tools == Support::No && !self.prompt.tools.is_empty() {
            return Err(self.incapable("tools", "takes no tools; leave out `tools`", "tools"));
        }
        if row.parallel_tools == Support::No && self.prompt.passthrough.remove(PARALLEL).is_some() {
            self.left_out(&[PARALLEL], "does not take it");
        }
        self.tool_choice();
        Ok(())
    }

    /// A tool that must be called stands alone where it cannot be named, so that no other can be called.
    fn tool_choice(&mut self) {
        let forced_tool = self.target.row.forced_tool;
        let can_require = match forced_tool {
            ForcedTool::Named | ForcedTool::Unknown => return,
            ForcedTool::Required => true,
            ForcedTool::Never => false,
        };
        let Some(choice) = &self.prompt.tool_choice else { return };
        let named = match serde_json::from_str(choice.get()) {
            Ok(Value::String(word)) if word == "required" && !can_require => None,
            Ok(Value::Object(choice)) => match choice.get("function").and_then(|function| function["name"].as_str()) {
                Some(name) => Some(name.to_owned()),
                None => return,
            },
            _ => return,
        };
        let or_words = "it may answer in words all the same";
        let Some(named) = named else {
            self.prompt.tool_choice = None;
            let who = self.who();
            self.warnings.push(format!(
                "`tool_choice` `required` was left out: {who} cannot be made to call a tool, so that {or_words}"
            ));
            return;
        };
        let is_named = |name: &Option<String>| name.as_deref() == Some(&named);
        if !self.prompt.tools.iter().any(|tool| is_named(&tool.name)) {
            // The server says better what is wrong with it.
            return;
        }
        self.prompt.tools.retain(|tool| is_named(&tool.name));
        self.prompt.tool_choice = can_require.then(|| raw(&json!("required")));
        let who = self.who();
        self.warnings.push(match can_require {
            true => format!("`tool_choice` was asked for in another way: {who} cannot be told which tool to call, so that it is offered `{named}` alone, and required to call one"),
            false => format!("`tool_choice` was asked for in another way: {who} cannot be made to call a tool, so that it is offered `{named}` alone; {or_words}"),
        });
    }

    fn response_format(&mut self) -> Result<(), Failure> {
        let row = self.target.row;
        if row.json_schema != Support::No && row.json_object != Support::No {
            return Ok(());
        }
        let Some(format) = &self.prompt.response_format else { return Ok(()) };
        let format: Value = serde_json::from_str(format.get()).unwrap_or_default();
        let (other, told) = match (format["type"].as_str(), row.json_schema, row.json_object) {
            (Some("json_schema" | "json_object"), Support::No, Support::No) => {
                let why = "cannot be held to JSON; leave out `response_format`, and ask for JSON in the messages";
                return Err(self.incapable("response_format", why, "json_schema"));
            }
            (Some("json_schema"), Support::No, _) => (
                json!({"type": "json_object"}),
                "takes no schema, so that any JSON object is asked for; tell the schema in the messages",
            ),
            (Some("json_object"), _, Support::No) => {
                let schema = json!({"name": "object", "schema": {"type": "object"}});
                (
                    json!({"type": "json_schema", "json_schema": schema}),
                    "takes no `json_object`, so that a schema of any object is asked for",
                )
            }
            _ => return Ok(()),
        };
        self.prompt.response_format = Some(raw(&other));
        let who = self.who();
        self.warnings.push(format!("`response_format` was asked for in another way: {who} {told}"));
        Ok(())
    }

    fn messages(&mut self) -> Result<(), Failure> {
        let row = self.target.row;
        if row.developer_role == Support::No
            && let Some(messages) = with_system_for_developer(&self.prompt.messages)
        {
            self.prompt.messages = messages;
        }
        let continues = match row.prefill {
            Prefill::Continued | Prefill::Unknown => return Ok(()),
            Prefill::NewTurn | Prefill::Refused => "",
            Prefill::ByField => {
                const FIELD: &str = "continue_final_message";
                let is_set = |field: Option<&str>| field == Some("true");
                let configured = self.target.configured.get(FIELD) == Some(&Value::Bool(true));
                if configured || is_set(self.prompt.passthrough.get(FIELD).map(|value| value.get())) {
                    return Ok(());
                }
                "; to have it continued, send `continue_final_message: true` and `add_generation_prompt: false`"
            }
        };
        if last_role(&self.prompt.messages).as_deref() != Some("assistant") {
            return Ok(());
        }
        if row.prefill == Prefill::Refused {
            let why = "continues no message of the assistant's; end with one of the user's";
            return Err(self.incapable("messages", why, "prefill"));
        }
        let who = self.who();
        self.warnings
            .push(format!("the last message is the assistant's, and {who} begins a new turn after it{continues}"));
        Ok(())
    }

    fn unknown_fields(&mut self) {
        let row = self.target.row;
        if row.refuses_unknown_fields != Support::Yes {
            return;
        }
        let is_known = |name: &str| OPENAI_FIELDS.contains(&name) || row.own_fields.contains(&name);
        let unknown: Vec<String> = self.prompt.passthrough.keys().filter(|name| !is_known(name)).cloned().collect();
        self.prompt.passthrough.retain(|name, _| is_known(name));
        let names: Vec<&str> = unknown.iter().map(String::as_str).collect();
        self.left_out(&names, "refuses fields that it does not know");
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("JSON values serialise")
}

/// A message as far as it is looked at: its role where it stands in the text.
#[derive(Deserialize)]
struct Role<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
}

impl Role<'_> {
    fn is(&self, word: &str) -> bool {
        self.role.is_some_and(|role| serde_json::from_str::<String>(role.get()).is_ok_and(|role| role == word))
    }
}

/// The messages with `system` in place of each role `developer`, every other byte as it was; `None` where there is
/// nothing to replace.
fn with_system_for_developer(messages: &RawValue) -> Option<Box<RawValue>> {
    let text = messages.get();
    let roles: Vec<Role> = serde_json::from_str(text).ok()?;
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for role in roles.iter().filter(|message| message.is("developer")).filter_map(|message| message.role) {
        // The raw values are slices of the text, so that their addresses tell where they stand.
        let start = role.get().as_ptr() as usize - text.as_ptr() as usize;
        replaced.push_str(&text[copied..start]);
        replaced.push_str(r#""system""#);
        copied = start + role.get().len();
    }
    if copied == 0 {
        return None;
    }
    replaced.push_str(&text[copied..]);
    RawValue::from_string(replaced).ok()
}

fn last_role(messages: &RawValue) -> Option<String> {
    let messages: Vec<&RawValue> = serde_json::from_str(messages.get()).ok()?;
    let last: Role = serde_json::from_str(messages.last()?.get()).ok()?;
    serde_json::from_str(last.role?.get()).ok()
}

#[cfg(test)]
mod tests;
