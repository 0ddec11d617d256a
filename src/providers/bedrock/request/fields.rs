//! Fields by their names: Converse's own, those that it has other words for, and those that go to the model as they are.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::body::CachePoint;
use super::family::{Family, Thinking};
use super::messages::Thoughtless;
use super::{Scope, cache, read, shown};
use crate::completion::Sampling;
use crate::failure::Failure;

/// Fields of Converse that a request may name, each with the JSON that it must be.
const CONVERSES: [(&str, &str); 7] = [
    ("guardrailConfig", "an object"),
    ("performanceConfig", "an object"),
    ("requestMetadata", "an object"),
    ("promptVariables", "an object"),
    ("serviceTier", "an object"),
    ("outputConfig", "an object"),
    ("additionalModelResponseFieldPaths", "an array"),
];

/// Fields of Converse that are written from others, and from which.
const WRITTEN: [(&str, &str); 4] = [
    ("inferenceConfig", "send `max_tokens`, `temperature`, `top_p` and `stop`"),
    ("toolConfig", "send `tools` and `tool_choice`"),
    ("system", "send messages of the role `system`"),
    ("modelId", "send `model`"),
];

/// What each call decides for itself.
const OUR_OWN: [&str; 5] = ["model", "messages", "n", "stream", "stream_options"];

/// Fields of OpenAI's of which Converse knows nothing, and no model behind it.
const UNKNOWN_THERE: [&str; 16] = [
    "audio",
    "logit_bias",
    "logprobs",
    "metadata",
    "modalities",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "seed",
    "store",
    "tools",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
];

/// Whether a field that is none of OpenAI's has a meaning to Converse, or to a model of this family.
pub(super) fn knows(family: Family, name: &str) -> bool {
    let is_converses = CONVERSES.iter().any(|(own, _)| *own == name);
    is_converses
        || matches!(name, "additionalModelRequestFields" | "cache_control")
        || match family {
            Family::Claude(_) => matches!(name, "thinking" | "anthropic_beta"),
            Family::Nova { reasons } => reasons && name == "reasoningConfig",
            _ => false,
        }
}

const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Where every field goes.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// At the top of the request.
    pub own: Map<String, Value>,
    /// `additionalModelRequestFields`.
    pub additional: Map<String, Value>,
    /// `parallel_tool_calls`.
    pub parallel: Option<bool>,
    /// What is to be kept in a cache up to the end of the user's last turn.
    pub cache: Option<CachePoint>,
    /// The names of those that go nowhere.
    pub left_out: Vec<String>,
    pub warnings: Vec<String>,
}

impl Fields {
    /// Sorts the fields that a call asks for.
    ///
    /// # Errors
    ///
    /// A field that cannot be what it is, or that is written from others.
    pub fn sort(fields: Map<String, Value>, scope: &Scope) -> Result<Self, Failure> {
        let mut sorted = Self::default();
        let mut given = Map::new();
        let mut effort = None;
        for (name, value) in fields {
            if let Some((_, how)) = WRITTEN.iter().find(|(written, _)| *written == name) {
                let message = format!("`{name}` is written from other fields; {how}");
                return Err(Failure::invalid_param(&name, message));
            }
            if name == "requestMetadata" {
                check_metadata(&value)?;
            }
            if let Some((_, kind)) = CONVERSES.iter().find(|(own, _)| *own == name) {
                let fits = if *kind == "an array" { value.is_array() } else { value.is_object() };
                if !fits {
                    return Err(Failure::invalid_param(&name, format!("`{name}` must be {kind}")));
                }
                sorted.own.insert(name, value);
                continue;
            }
            match name.as_str() {
                _ if OUR_OWN.contains(&name.as_str()) => {}
                _ if value.is_null() => {}
                "additionalModelRequestFields" => match value {
                    Value::Object(fields) => given = fields,
                    _ => return Err(Failure::invalid_param(&name, format!("`{name}` must be an object"))),
                },
                "parallel_tool_calls" => match value {
                    Value::Bool(parallel) => sorted.parallel = Some(parallel),
                    _ => return Err(Failure::invalid_param(&name, format!("`{name}` must be true or false"))),
                },
                "reasoning_effort" => match value.as_str().filter(|word| EFFORTS.contains(word)) {
                    Some(word) => effort = Some(word.to_owned()),
                    None => {
                        let message = format!("`{name}` must be one of {}", EFFORTS.join(", "));
                        return Err(Failure::invalid_param(&name, message));
                    }
                },
                "service_tier" => sorted.service_tier(&value)?,
                "cache_control" => {
                    let raw = serde_json::value::to_raw_value(&value).expect("JSON values serialise");
                    sorted.cache = Some(cache::point(&name, &raw)?);
                }
                "functions" | "function_call" => {
                    let message = format!("`{name}` has no words on Bedrock; send `tools` and `tool_choice`");
                    return Err(Failure::invalid_param(&name, message));
                }
                // These say no more than what is so anyway.
                "store" if value == false => {}
                "modalities" if value == json!(["text"]) => {}
                _ if UNKNOWN_THERE.contains(&name.as_str()) => sorted.leave_out(&name, "does not take it", scope),
                _ => {
                    sorted.additional.insert(name, value);
                }
            }
        }
        sorted.guardrail(scope);
        if let Some(effort) = effort {
            sorted.effort(&effort, scope);
        }
        // What somebody writes by Converse's own name is meant as it stands.
        sorted.additional.extend(given);
        Ok(sorted)
    }

    /// Adds what samples and has no word in Converse, each by the name that its maker gives it, and takes out of
    /// `sampling` what a model that thinks does not take.
    pub fn sample(&mut self, sampling: &mut Sampling, scope: &Scope) {
        self.think(sampling, scope);
        if let Some(top_k) = sampling.top_k {
            match scope.family {
                Family::Nova { .. } => {
                    let config = self.additional.entry("inferenceConfig").or_insert_with(|| json!({}));
                    if let Some(config) = config.as_object_mut() {
                        config.entry("topK").or_insert_with(|| top_k.into());
                    }
                }
                Family::Cohere => self.add("k", top_k.into()),
                _ => self.add("top_k", top_k.into()),
            }
        }
        let others = [
            ("min_p", sampling.min_p),
            ("presence_penalty", sampling.presence_penalty),
            ("frequency_penalty", sampling.frequency_penalty),
        ];
        for (name, value) in others.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            match scope.family {
                // At zero it says nothing.
                _ if value == 0.0 => {}
                Family::Claude(_) | Family::Nova { .. } => self.leave_out(name, "does not take it", scope),
                Family::Cohere if name == "min_p" => self.leave_out(name, "does not take it", scope),
                _ => self.add(name, value.into()),
            }
        }
    }

    /// Whether it is a Claude that is told to think.
    pub fn thinks(&self, scope: &Scope) -> bool {
        scope.family.is_claude()
            && matches!(self.additional.get("thinking").map(|thinking| &thinking["type"]),
                Some(Value::String(kind)) if kind != "disabled")
    }

    /// Whether Claude is asked to think between the calls of tools too, as Anthropic tries it out.
    pub fn thinks_between_calls(&self) -> bool {
        let names = self.additional.get("anthropic_beta").and_then(Value::as_array);
        names
            .into_iter()
            .flatten()
            .any(|name| name.as_str().is_some_and(|name| name.starts_with("interleaved-thinking")))
    }

    /// Keeps Claude from thinking where it could not take up its thoughts again. One that thinks by a number of tokens
    /// wants them back while its tools are at work, and has had its time for them where its words are given; later ones
    /// do without.
    pub fn think_no_more(&mut self, turn: Thoughtless, scope: &Scope) {
        if !self.thinks(scope) || self.additional["thinking"]["type"] != "enabled" {
            return;
        }
        self.additional.shift_remove("thinking");
        let who = &scope.who;
        let why = match turn {
            Thoughtless::Called => format!(
                "the assistant's last message with `tool_calls` has none of its `thinking_blocks`, without which {who} \
                 refuses to think on; hand that message back as it came"
            ),
            Thoughtless::Continued => format!(
                "{who} does not think before it continues a message of the assistant's; end with one of the user's to \
                 have it think"
            ),
        };
        self.warnings.push(format!("thinking was left out of this call: {why}"));
    }

    /// Holds the answer to the schema of a `response_format`.
    ///
    /// # Errors
    ///
    /// What is no such format, and JSON of no schema, which Converse has no words for.
    pub fn response_format(&mut self, raw: &RawValue, scope: &Scope) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Format<'a> {
            r#type: String,
            #[serde(borrow)]
            json_schema: Option<Schema<'a>>,
        }
        #[derive(Deserialize)]
        struct Schema<'a> {
            name: Option<String>,
            description: Option<String>,
            #[serde(borrow)]
            schema: Option<&'a RawValue>,
        }
        const NAME: &str = "response_format";
        let format: Format = read(NAME, raw)?;
        match (format.r#type.as_str(), format.json_schema) {
            ("text", _) => Ok(()),
            ("json_object", _) => Err(json_object(scope)),
            ("json_schema", Some(Schema { name, description, schema: Some(schema) })) => {
                // The schema is text there, so that not a byte of it changes.
                let mut text = json!({"schema": schema.get()});
                for (member, value) in [("name", name), ("description", description)] {
                    if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
                        text[member] = value.into();
                    }
                }
                let text = json!({"type": "json_schema", "structure": {"jsonSchema": text}});
                self.output_config("textFormat", text);
                Ok(())
            }
            ("json_schema", _) => {
                let place = "response_format.json_schema.schema";
                Err(Failure::invalid_param(place, format!("`{place}` is missing; send a JSON Schema")))
            }
            (other, _) => {
                let message = format!("`{NAME}.type` is `{}`; it must be `text` or `json_schema`", shown(other));
                Err(Failure::invalid_param(NAME, message))
            }
        }
    }

    pub fn leave_out(&mut self, name: &str, why: &str, scope: &Scope) {
        self.left_out.push(name.to_owned());
        self.warnings.push(format!("`{name}` was left out: {} {why}", scope.who));
    }

    /// Adds a field that nobody has named otherwise.
    fn add(&mut self, name: &str, value: Value) {
        self.additional.entry(name).or_insert(value);
    }

    fn output_config(&mut self, name: &str, value: Value) {
        let config = self.own.entry("outputConfig").or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            config.entry(name).or_insert(value);
        }
    }

    fn service_tier(&mut self, value: &Value) -> Result<(), Failure> {
        match value.as_str() {
            Some("auto") => Ok(()),
            Some(tier @ ("default" | "flex" | "priority" | "reserved")) => {
                self.own.entry("serviceTier").or_insert_with(|| json!({"type": tier}));
                Ok(())
            }
            _ => {
                let message = "`service_tier` must be `auto`, `default`, `flex`, `priority` or `reserved`";
                Err(Failure::invalid_param("service_tier", message))
            }
        }
    }

    /// Whether a call is a stream is decided call by call, so that what only streams take cannot be said.
    fn guardrail(&mut self, scope: &Scope) {
        let config = self.own.get_mut("guardrailConfig").and_then(Value::as_object_mut);
        if config.is_some_and(|config| config.shift_remove("streamProcessingMode").is_some()) {
            self.warnings.push(format!(
                "`guardrailConfig.streamProcessingMode` was left out: not every call to {} is a stream",
                scope.who
            ));
        }
    }

    /// How hard the model is to think, in the words of its maker.
    fn effort(&mut self, effort: &str, scope: &Scope) {
        let of_three = match effort {
            "minimal" | "low" => "low",
            "medium" => "medium",
            _ => "high",
        };
        let least_low = if effort == "minimal" { "low" } else { effort };
        match scope.family {
            Family::Claude(Thinking::Budget | Thinking::Effort) if effort == "none" => {}
            Family::Claude(Thinking::Budget) => {
                let tokens = match effort {
                    "minimal" | "low" => 1024,
                    "medium" => 2048,
                    "high" => 4096,
                    "xhigh" => 8192,
                    _ => 16384,
                };
                self.add("thinking", json!({"type": "enabled", "budget_tokens": tokens}));
            }
            Family::Claude(Thinking::Effort | Thinking::AtWill) if effort != "none" => {
                self.add("thinking", json!({"type": "adaptive"}));
                self.output_config("effort", least_low.into());
            }
            Family::Nova { reasons: true } => {
                let config = match effort {
                    "none" => json!({"type": "disabled"}),
                    _ => json!({"type": "enabled", "maxReasoningEffort": of_three}),
                };
                self.add("reasoningConfig", config);
            }
            Family::TakesEffort if effort != "none" => self.add("reasoning_effort", of_three.into()),
            Family::Gpt => self.add("reasoning", json!({"effort": least_low})),
            Family::Hidden => self.add("reasoning_effort", effort.into()),
            _ if effort == "none" => self.leave_out("reasoning_effort", "cannot be kept from reasoning", scope),
            _ => self.leave_out("reasoning_effort", "does not take it", scope),
        }
    }

    /// While it thinks, Claude samples in a way of its own.
    fn think(&mut self, sampling: &mut Sampling, scope: &Scope) {
        if !self.thinks(scope) {
            return;
        }
        let taken = [
            ("temperature", sampling.temperature.take_if(|temperature| *temperature != 1.0).is_some()),
            ("top_p", sampling.top_p.take_if(|top_p| *top_p < 0.95).is_some()),
            ("top_k", sampling.top_k.take().is_some()),
        ];
        for (name, _) in taken.into_iter().filter(|(_, taken)| *taken) {
            let why = "does not take it while it thinks";
            self.warnings.push(format!("`{name}` was left out: {} {why}", scope.who));
        }
    }
}

/// Metadata are texts, each by its name.
fn check_metadata(metadata: &Value) -> Result<(), Failure> {
    let mut members = metadata.as_object().into_iter().flatten();
    let Some((name, _)) = members.find(|(_, value)| !value.is_string()) else { return Ok(()) };
    let place = format!("requestMetadata.{}", shown(name));
    Err(Failure::invalid_param(&place, format!("`{place}` must be a string")))
}

/// The refusal of JSON without a schema.
pub(super) fn json_object(scope: &Scope) -> Failure {
    let message = format!(
        "{} takes no `json_object`; send a `json_schema`, or ask for JSON in the messages and leave out `response_format`",
        scope.who
    );
    Failure::invalid_param("response_format", message)
}
