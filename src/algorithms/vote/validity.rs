//! What makes a candidate valid for its request: calls to offered tools with arguments that fit, and text
//! that keeps to the response format.
//!
//! Schemas come from clients. They are compiled at the first candidate that needs them, never fetch a remote
//! reference, and one that is itself invalid checks nothing but that arguments are a JSON object.

use std::sync::OnceLock;

use jsonschema::{PatternOptions, Validator};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::answer::Json;
use crate::completion::{CallKind, Prompt, Reply, Tool, ToolCall};

/// Backtracking steps that one `pattern` of a schema may take.
const PATTERN_BUDGET: usize = 100_000;

/// How much of a validator's own words a reason quotes.
const MAX_QUOTE_CHARS: usize = 160;

/// The checks of one request, shared by its candidates.
#[derive(Debug)]
pub struct Validity {
    tools: Vec<OfferedTool>,
    format: Option<Format>,
}

#[derive(Debug)]
struct OfferedTool {
    kind: CallKind,
    name: String,
    parameters: Option<Schema>,
}

#[derive(Debug)]
struct Format {
    /// `json_object` asks for an object, `json_schema` for whatever the schema takes.
    object: bool,
    schema: Option<Schema>,
}

/// A schema that is compiled when it is first needed.
#[derive(Debug)]
struct Schema {
    source: Value,
    compiled: OnceLock<Result<Validator, String>>,
}

impl Validity {
    /// Reads what the request offers and asks for. Costs next to nothing where it has neither tools nor a
    /// response format.
    pub fn of(prompt: &Prompt) -> Self {
        Self {
            tools: prompt.tools.iter().filter_map(OfferedTool::of).chain(functions_of_old(prompt)).collect(),
            format: prompt.response_format.as_deref().and_then(|raw| Format::parse(raw.get())),
        }
    }

    /// In words, the schemas that are themselves invalid, of those that a recorded candidate was checked against.
    pub fn warnings(&self) -> Vec<String> {
        let tools = self.tools.iter().filter_map(|tool| {
            let fault = tool.parameters.as_ref()?.fault()?;
            Some(format!("the parameters of tool `{}` are not a valid JSON Schema, so calls are only checked to carry a JSON object: {fault}", tool.name))
        });
        let format = self.format.as_ref().and_then(|format| {
            let fault = format.schema.as_ref()?.fault()?;
            Some(format!(
                "the schema of response_format is not a valid JSON Schema, so text is only checked to be JSON: {fault}"
            ))
        });
        tools.chain(format).collect()
    }

    /// Whether any call can be valid.
    pub(super) fn offers_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// What is wrong with a message, whether it calls tools or not; `None` where nothing is.
    pub fn fault(&self, reply: &Reply) -> Option<String> {
        let calls = reply.tool_calls();
        let text = reply.content().unwrap_or_default();
        if !calls.is_empty() {
            self.examine_calls(calls).1
        } else if text.trim().is_empty() {
            fault_of_empty(reply)
        } else {
            self.examine_text(text).1
        }
    }

    /// Whether the response format asks for JSON.
    pub fn wants_json(&self) -> bool {
        self.format.is_some()
    }

    /// Parses the arguments of each call, and says what is wrong with the first call that is invalid.
    /// Arguments that do not parse stand as their text, and so does the input of a custom tool.
    pub(super) fn examine_calls(&self, calls: &[ToolCall]) -> (Vec<Json>, Option<String>) {
        let mut problem = None;
        let mut all = Vec::with_capacity(calls.len());
        for call in calls {
            if call.kind == CallKind::Custom {
                problem = problem.or_else(|| self.offered(call).err());
                all.push(Json::Text(call.arguments.clone()));
                continue;
            }
            // A tool without parameters is often called with no text at all.
            let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
            let parsed = Json::parse(text);
            if problem.is_none() {
                problem = match &parsed {
                    Ok(arguments) => self.fault_of_call(call, arguments),
                    Err(error) => Some(format!("the arguments of `{}` are {error}", call.name)),
                };
            }
            all.push(parsed.unwrap_or_else(|_| Json::Text(call.arguments.clone())));
        }
        (all, problem)
    }

    /// Parses text where the response format asks for JSON, and says what is wrong with it.
    pub(super) fn examine_text(&self, text: &str) -> (Option<Json>, Option<String>) {
        let Some(format) = &self.format else { return (None, None) };
        match Json::parse(text) {
            Err(error) => (None, Some(format!("the text is {error}, but response_format asks for JSON"))),
            Ok(json) => {
                let wrong_type = format.object && !matches!(json, Json::Object(_));
                let fault = match &format.schema {
                    _ if wrong_type => Some("the text is JSON but no object, as response_format asks".to_owned()),
                    Some(schema) => schema
                        .check(&json)
                        .map(|fault| format!("the text breaks the schema of response_format: {fault}")),
                    None => None,
                };
                (Some(json), fault)
            }
        }
    }

    /// The tool that is called; an error says that there is none.
    fn offered(&self, call: &ToolCall) -> Result<&OfferedTool, String> {
        let tool = self.tools.iter().find(|tool| tool.kind == call.kind && tool.name == call.name);
        tool.ok_or_else(|| format!("it calls `{}`, which is not an offered tool", call.name))
    }

    fn fault_of_call(&self, call: &ToolCall, arguments: &Json) -> Option<String> {
        let name = &call.name;
        let tool = match self.offered(call) {
            Ok(tool) => tool,
            Err(problem) => return Some(problem),
        };
        if !matches!(arguments, Json::Object(_)) {
            return Some(format!("the arguments of `{name}` are no JSON object"));
        }
        let fault = tool.parameters.as_ref()?.check(arguments)?;
        Some(format!("the arguments of `{name}` break its schema: {fault}"))
    }
}

impl OfferedTool {
    /// `None` for a tool that is neither a function nor custom: what calls it is no call that a client answers.
    fn of(tool: &Tool) -> Option<Self> {
        #[derive(Deserialize)]
        struct View {
            custom: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        if let Some(name) = tool.name.clone() {
            return Some(Self::function(name, tool.parameters.clone()));
        }
        let View { custom } = serde_json::from_str(tool.definition.get()).ok()?;
        Some(Self { kind: CallKind::Custom, name: custom.name, parameters: None })
    }

    fn function(name: String, parameters: Option<Value>) -> Self {
        let parameters = parameters.filter(|schema| !schema.is_null()).map(Schema::new);
        Self { kind: CallKind::Function, name, parameters }
    }
}

/// What `functions` offers, under the name that `tools` had before.
fn functions_of_old(prompt: &Prompt) -> Vec<OfferedTool> {
    #[derive(Deserialize)]
    struct View {
        name: Option<String>,
        parameters: Option<Value>,
    }
    let functions = prompt.passthrough.get("functions").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let functions: Vec<View> = functions.unwrap_or_default();
    functions.into_iter().filter_map(|view| Some(OfferedTool::function(view.name?, view.parameters))).collect()
}

/// What is wrong with a message that has neither text nor calls that can be compared. `None` where it carries
/// something else that a client may use (a call of another kind, audio).
pub(super) fn fault_of_empty(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct Rest {
        refusal: Option<String>,
        tool_calls: Option<Vec<IgnoredAny>>,
        audio: Option<IgnoredAny>,
    }
    match serde_json::from_str::<Rest>(reply.raw().get()) {
        Ok(Rest { refusal: Some(refusal), .. }) if !refusal.is_empty() => Some("the model refused".to_owned()),
        Ok(Rest { tool_calls: Some(calls), .. }) if !calls.is_empty() => None,
        Ok(Rest { audio: Some(_), .. }) => None,
        _ => Some("the message has neither content nor tool calls".to_owned()),
    }
}

impl Format {
    /// `None` for a format that asks for no JSON, or that this version does not know.
    fn parse(raw: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct View {
            r#type: String,
            /// llama.cpp and others take a schema beside `json_object`.
            schema: Option<Value>,
            json_schema: Option<Named>,
        }
        #[derive(Deserialize)]
        struct Named {
            schema: Option<Value>,
        }
        let view: View = serde_json::from_str(raw).ok()?;
        let schema = view.json_schema.and_then(|named| named.schema).or(view.schema).map(Schema::new);
        match view.r#type.as_str() {
            "json_object" => Some(Self { object: true, schema }),
            "json_schema" => Some(Self { object: false, schema }),
            _ => None,
        }
    }
}

impl Schema {
    fn new(source: Value) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn compiled(&self) -> &Result<Validator, String> {
        self.compiled.get_or_init(|| {
            let options = jsonschema::options().offline();
            let options = options.with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(PATTERN_BUDGET));
            options.build(&self.source).map_err(|error| quote(&error.to_string()))
        })
    }

    /// What is wrong with the instance; `None` too where the schema itself is invalid.
    fn check(&self, instance: &Json) -> Option<String> {
        let validator = self.compiled().as_ref().ok()?;
        let value = instance.to_value();
        let error = validator.validate(&value).err()?;
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
        Some(format!("{}{place}", quote(&error.to_string())))
    }

    /// What is wrong with the schema, where it has been needed and is invalid.
    fn fault(&self) -> Option<&str> {
        self.compiled.get()?.as_ref().err().map(String::as_str)
    }
}

/// A validator quotes the whole instance, which may be long.
fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
