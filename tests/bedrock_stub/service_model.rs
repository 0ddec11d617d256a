//! AWS's description of the service, and whether a document fits it.
//!
//! The description is the file `service-2.json` that Python's `botocore` ships. It is not ours and is not kept here:
//! `scripts/test` installs botocore into `.venv`, where [`ServiceModel::installed`] finds it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fancy_regex::Regex;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

/// Names the file where it is not in `.venv`.
pub const VARIABLE: &str = "BEDROCK_SERVICE_MODEL";

const IN_BOTOCORE: &str = "site-packages/botocore/data/bedrock-runtime/2023-09-30/service-2.json.gz";

/// The shapes of the service.
pub struct ServiceModel {
    shapes: HashMap<String, Shape>,
    patterns: HashMap<String, Regex>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    members: BTreeMap<String, Member>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    union: bool,
    #[serde(default)]
    document: bool,
    member: Option<Member>,
    key: Option<Member>,
    value: Option<Member>,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<String>,
    #[serde(rename = "enum", default)]
    allowed: Vec<String>,
}

#[derive(Deserialize)]
struct Member {
    shape: String,
    /// Where it is sent, when not in the body.
    location: Option<String>,
}

impl ServiceModel {
    /// The description in the file that [`VARIABLE`] names, else in this project's `.venv`. It is read once.
    ///
    /// # Panics
    ///
    /// When there is none, saying how to come by it.
    pub fn installed() -> Arc<Self> {
        static INSTALLED: OnceLock<Arc<ServiceModel>> = OnceLock::new();
        let load = || {
            let path = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(in_environment);
            let path = path.unwrap_or_else(|| {
                panic!(
                    "botocore's description of Bedrock is missing: run scripts/test, or at least \
                     `python3 -m venv .venv && .venv/bin/pip install -r tests/clients/requirements.txt`; {VARIABLE} \
                     names the file where it is elsewhere"
                )
            });
            Arc::new(Self::load(&path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display())))
        };
        Arc::clone(INSTALLED.get_or_init(load))
    }

    /// Reads `service-2.json`, or `service-2.json.gz`.
    ///
    /// # Errors
    ///
    /// The file is missing, or is something else.
    pub fn load(path: &Path) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            shapes: HashMap<String, Shape>,
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            GzDecoder::new(&*bytes).read_to_end(&mut text).map_err(|error| error.to_string())?;
        } else {
            text = bytes;
        }
        let document: Document = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let mut patterns = HashMap::new();
        for shape in document.shapes.values() {
            if let Some(pattern) = &shape.pattern {
                // The service holds patterns against the whole text.
                let whole = Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(|error| error.to_string())?;
                patterns.insert(pattern.clone(), whole);
            }
        }
        Ok(Self { shapes: document.shapes, patterns })
    }

    /// What is wrong with `body` as the shape `name`, in AWS's words; nothing when it fits. `elsewhere` are the members
    /// that the request has outside of its body.
    pub fn problems(&self, name: &str, body: &Value, elsewhere: &[(&str, &str)]) -> Vec<String> {
        let mut check = Check { model: self, problems: Vec::new() };
        for (member, value) in elsewhere {
            match self.shape(name).members.get(*member) {
                Some(bound) => check.value(&bound.shape, &Value::from(*value), member),
                None => check.problems.push(format!("'{member}' is no member of {name}")),
            }
        }
        check.value(name, body, "");
        check.problems
    }

    /// What is wrong with the payload of an event of the union `stream`.
    pub fn event_problems(&self, stream: &str, event: &str, payload: &Value) -> Vec<String> {
        match self.shape(stream).members.get(event) {
            Some(member) => self.problems(&member.shape, payload, &[]),
            None => vec![format!("'{event}' is no member of {stream}")],
        }
    }

    fn shape(&self, name: &str) -> &Shape {
        self.shapes.get(name).unwrap_or_else(|| panic!("the service model has no shape {name}"))
    }
}

/// The sentence that AWS makes of several problems.
pub fn validation_message(problems: &[String]) -> String {
    let s = if problems.len() == 1 { "" } else { "s" };
    format!("{} validation error{s} detected: {}", problems.len(), problems.join("; "))
}

fn in_environment() -> Option<PathBuf> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let versions = fs::read_dir(libraries).ok()?;
    versions.flatten().map(|version| version.path().join(IN_BOTOCORE)).find(|path| path.exists())
}

struct Check<'a> {
    model: &'a ServiceModel,
    problems: Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, name: &str, value: &Value, path: &str) {
        let shape = self.model.shape(name);
        match (shape.kind.as_str(), value) {
            // Any JSON will do; what the service wants of some of them is not in the model.
            _ if shape.document => {}
            ("structure", Value::Object(_)) => self.structure(shape, value, path),
            ("list", Value::Array(items)) => {
                self.size(shape, items.len(), path);
                let member = &shape.member.as_ref().expect("a list has a member").shape;
                for (at, item) in items.iter().enumerate() {
                    self.value(member, item, &format!("{path}.{}.member", at + 1));
                }
            }
            ("map", Value::Object(entries)) => {
                self.size(shape, entries.len(), path);
                let (key, item) = (shape.key.as_ref(), shape.value.as_ref());
                for (name, value) in entries {
                    let path = format!("{path}.{name}");
                    self.value(&key.expect("a map has keys").shape, &Value::from(name.as_str()), &path);
                    self.value(&item.expect("a map has values").shape, value, &format!("{path}.member"));
                }
            }
            ("string", Value::String(text)) => self.string(shape, text, path),
            ("blob", Value::String(text)) => match STANDARD.decode(text) {
                Ok(bytes) => self.size(shape, bytes.len(), path),
                Err(_) => self.problems.push(format!("Value at '{path}' is not base64")),
            },
            ("integer" | "long", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.range(shape, number.as_f64().unwrap_or_default(), path);
            }
            ("float" | "double", Value::Number(number)) => {
                self.range(shape, number.as_f64().unwrap_or_default(), path);
            }
            ("boolean", Value::Bool(_)) => {}
            (kind, value) => {
                let found = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "a boolean",
                    Value::Number(_) => "a number",
                    Value::String(_) => "a string",
                    Value::Array(_) => "a list",
                    Value::Object(_) => "an object",
                };
                self.problems.push(format!("Value at '{path}' is {found} and can not be converted to a {kind}"));
            }
        }
    }

    fn structure(&mut self, shape: &Shape, value: &Value, path: &str) {
        let of = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let fields = value.as_object().expect("a structure is an object");
        let set: Vec<(&String, &Value)> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
        for name in &shape.required {
            let in_body = shape.members.get(name).is_none_or(|member| member.location.is_none());
            if in_body && !set.iter().any(|(set, _)| *set == name) {
                let at = of(name);
                self.fail("null", &at, "Member must not be null");
            }
        }
        if shape.union && set.len() != 1 {
            let names: Vec<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
            let text = format!("Value at '{path}' must have exactly one member set, not [{}]", names.join(", "));
            self.problems.push(text);
        }
        for (name, value) in set {
            match shape.members.get(name) {
                Some(member) if member.location.is_none() => self.value(&member.shape, value, &of(name)),
                _ => self.problems.push(format!("extraneous key [{}] is not permitted", of(name))),
            }
        }
    }

    fn string(&mut self, shape: &Shape, text: &str, path: &str) {
        self.size(shape, text.chars().count(), path);
        if !shape.allowed.is_empty() && !shape.allowed.iter().any(|allowed| allowed == text) {
            let set = format!("Member must satisfy enum value set: [{}]", shape.allowed.join(", "));
            self.fail(text, path, &set);
        }
        if let Some(pattern) = &shape.pattern
            && !self.model.patterns[pattern].is_match(text).unwrap_or(false)
        {
            self.fail(text, path, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    fn size(&mut self, shape: &Shape, size: usize, path: &str) {
        self.bounds(shape, size as f64, path, "length");
    }

    fn range(&mut self, shape: &Shape, number: f64, path: &str) {
        self.bounds(shape, number, path, "value");
    }

    fn bounds(&mut self, shape: &Shape, number: f64, path: &str, what: &str) {
        let mut fail = |bound: &str, limit: f64| {
            self.problems.push(format!(
                "Value at '{path}' failed to satisfy constraint: Member must have {what} {bound} than or equal to {limit}"
            ));
        };
        if let Some(min) = shape.min.filter(|min| number < *min) {
            fail("greater", min);
        }
        if let Some(max) = shape.max.filter(|max| number > *max) {
            fail("less", max);
        }
    }

    fn fail(&mut self, value: &str, path: &str, constraint: &str) {
        let value = if value == "null" { value.to_owned() } else { format!("'{value}'") };
        self.problems.push(format!("Value {value} at '{path}' failed to satisfy constraint: {constraint}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MODEL: (&str, &str) = ("modelId", "us.anthropic.claude-sonnet-4-5-20250929-v1:0");

    fn problems(body: Value) -> Vec<String> {
        ServiceModel::installed().problems("ConverseRequest", &body, &[MODEL])
    }

    fn of_content(block: Value) -> Vec<String> {
        problems(json!({"messages": [{"role": "user", "content": [block]}]}))
    }

    #[test]
    fn a_whole_request_fits() {
        let body = json!({
            "messages": [
                {"role": "user", "content": [
                    {"text": "What is this?"},
                    {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
                ]},
                {"role": "assistant", "content": [
                    {"reasoningContent": {"reasoningText": {"text": "…", "signature": "c2ln"}}},
                    {"toolUse": {"toolUseId": "tooluse_1", "name": "look_up", "input": {"anything": [1, null]}}},
                ]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "tooluse_1", "content": [{"json": {"a": 1}}], "status": "success"}},
                    {"cachePoint": {"type": "default"}},
                ]},
            ],
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 1, "temperature": 1, "topP": 0.5, "stopSequences": ["\n"]},
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "look_up", "inputSchema": {"json": {"type": "object"}}}}],
                "toolChoice": {"auto": {}},
            },
            "additionalModelRequestFields": {"top_k": 5, "whatever": {"deep": true}},
            "requestMetadata": {"team": "tests"},
        });
        assert_eq!(problems(body), [""; 0]);
    }

    #[test]
    fn members_are_required_and_known() {
        let found = problems(json!({"messages": [{"role": "user"}], "max_tokens": 5}));
        assert_eq!(
            found,
            [
                "Value null at 'messages.1.member.content' failed to satisfy constraint: Member must not be null",
                "extraneous key [max_tokens] is not permitted",
            ]
        );
        assert_eq!(problems(json!({"messages": [], "modelId": "x"})), ["extraneous key [modelId] is not permitted"]);
        // As the service has it, null is nothing.
        assert_eq!(problems(json!({"messages": [], "system": null})), [""; 0]);
    }

    #[test]
    fn a_union_has_exactly_one_member() {
        let path = "messages.1.member.content.1.member";
        let one = |names: &str| format!("Value at '{path}' must have exactly one member set, not [{names}]");
        assert_eq!(of_content(json!({})), [one("")]);
        let both = json!({"text": "a", "cachePoint": {"type": "default"}});
        assert_eq!(of_content(both), [one("text, cachePoint")]);
    }

    #[test]
    fn texts_have_their_lengths_patterns_and_values() {
        let long = "x".repeat(65);
        for (block, problem) in [
            (
                json!({"toolUse": {"toolUseId": long, "name": "f", "input": {}}}),
                "Value at 'messages.1.member.content.1.member.toolUse.toolUseId' failed to satisfy constraint: Member \
                 must have length less than or equal to 64",
            ),
            (
                json!({"toolUse": {"toolUseId": "a", "name": "f g", "input": {}}}),
                "Value 'f g' at 'messages.1.member.content.1.member.toolUse.name' failed to satisfy constraint: Member \
                 must satisfy regular expression pattern: [a-zA-Z0-9_-]+",
            ),
            (
                json!({"image": {"format": "bmp", "source": {"bytes": "AA=="}}}),
                "Value 'bmp' at 'messages.1.member.content.1.member.image.format' failed to satisfy constraint: Member \
                 must satisfy enum value set: [png, jpeg, gif, webp]",
            ),
            (
                json!({"image": {"format": "png", "source": {"bytes": "no base64"}}}),
                "Value at 'messages.1.member.content.1.member.image.source.bytes' is not base64",
            ),
            (
                json!({"image": {"format": "png", "source": {"bytes": ""}}}),
                "Value at 'messages.1.member.content.1.member.image.source.bytes' failed to satisfy constraint: Member \
                 must have length greater than or equal to 1",
            ),
            (
                json!({"text": 5}),
                "Value at 'messages.1.member.content.1.member.text' is a number and can not be converted to a string",
            ),
        ] {
            assert_eq!(of_content(block), [problem]);
        }
    }

    #[test]
    fn numbers_have_their_ranges_and_kinds() {
        let config = |config: Value| problems(json!({"inferenceConfig": config}));
        let out = |name: &str, bound: &str| {
            let bound = format!("Member must have value {bound}");
            vec![format!("Value at 'inferenceConfig.{name}' failed to satisfy constraint: {bound}")]
        };
        assert_eq!(config(json!({"temperature": 1.5})), out("temperature", "less than or equal to 1"));
        assert_eq!(config(json!({"topP": -0.1})), out("topP", "greater than or equal to 0"));
        assert_eq!(config(json!({"maxTokens": 0})), out("maxTokens", "greater than or equal to 1"));
        let kind = "Value at 'inferenceConfig.maxTokens' is a number and can not be converted to a integer";
        assert_eq!(config(json!({"maxTokens": 1.5})), [kind]);
        assert_eq!(config(json!({"stopSequences": [""]})).len(), 1);
    }

    #[test]
    fn lists_and_maps_have_their_sizes() {
        let tools = problems(json!({"toolConfig": {"tools": []}}));
        assert!(tools[0].ends_with("Member must have length greater than or equal to 1"), "{tools:?}");
        let metadata: serde_json::Map<String, Value> = (0..17).map(|at| (at.to_string(), json!("x"))).collect();
        let metadata = problems(json!({"requestMetadata": metadata}));
        assert!(metadata[0].ends_with("Member must have length less than or equal to 16"), "{metadata:?}");
        assert_eq!(problems(json!({"requestMetadata": {"k": 1}})).len(), 1);
    }

    #[test]
    fn what_is_in_the_path_is_checked_too() {
        let model = ServiceModel::installed();
        let of = |id: &str| model.problems("ConverseRequest", &json!({}), &[("modelId", id)]).len();
        assert_eq!(of("anthropic.claude-v2:1"), 0);
        assert_eq!(of("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"), 0);
        assert_eq!(of("two words"), 1);
        assert_eq!(of(""), 2);
    }

    #[test]
    fn problems_make_a_sentence() {
        assert_eq!(validation_message(&["A".to_owned()]), "1 validation error detected: A");
        assert_eq!(validation_message(&["A".to_owned(), "B".to_owned()]), "2 validation errors detected: A; B");
    }
}
