//! The body of a Converse request as it goes over the wire.
//!
//! What only the model reads (schemas, arguments, JSON results) is text of the client's, byte for byte.

use std::borrow::Cow;
use std::rc::Rc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    pub messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_config: Option<InferenceConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub additional_model_request_fields: Map<String, Value>,
    /// Fields of Converse's own that were asked for by their names, such as `guardrailConfig`.
    #[serde(flatten)]
    pub own: Map<String, Value>,
}

#[derive(Serialize)]
pub(super) struct Turn<'a> {
    pub role: Role,
    pub content: Vec<Block<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    User,
    Assistant,
}

/// A piece of a turn, of the instructions, or of a tool's result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    Image(Image<'a>),
    Document(Document<'a>),
    /// Of a result alone.
    Json(&'a RawValue),
    ToolUse(ToolUse<'a>),
    ToolResult(ToolResult<'a>),
    ReasoningContent(Reasoning<'a>),
    GuardContent(Guarded<'a>),
    CachePoint(CachePoint),
}

#[derive(Serialize)]
pub(super) struct Image<'a> {
    pub format: &'static str,
    pub source: Source<'a>,
}

#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub format: &'static str,
    pub name: String,
    pub source: Source<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Source<'a> {
    /// Base64.
    Bytes(Cow<'a, str>),
    S3Location {
        uri: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    pub tool_use_id: String,
    pub name: Cow<'a, str>,
    pub input: Cow<'a, RawValue>,
    /// The message that it is of.
    #[serde(skip)]
    pub message: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolResult<'a> {
    pub tool_use_id: String,
    pub content: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// The message that it is of.
    #[serde(skip)]
    pub message: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText {
        text: Cow<'a, str>,
        signature: Cow<'a, str>,
    },
    /// Base64.
    RedactedContent(Cow<'a, str>),
}

/// Content that a guardrail looks at.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Guarded<'a> {
    Text { text: Cow<'a, str> },
}

/// Whatever stands before it is kept in a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CachePoint {
    pub r#type: CacheKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<&'static str>,
    /// Where the client asked for it.
    #[serde(skip)]
    pub place: Rc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CacheKind {
    Default,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub stop_sequences: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    pub tools: Vec<Offered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Offered<'a> {
    ToolSpec(ToolSpec<'a>),
    CachePoint(CachePoint),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolSpec<'a> {
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Cow<'a, str>>,
    pub input_schema: InputSchema<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

#[derive(Serialize)]
pub(super) struct InputSchema<'a> {
    pub json: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ToolChoice {
    /// Some tool must be used.
    Any {},
    /// This one must be.
    Tool { name: String },
}

impl Offered<'_> {
    pub fn cache_point(&self) -> Option<&CachePoint> {
        match self {
            Self::CachePoint(point) => Some(point),
            Self::ToolSpec(_) => None,
        }
    }
}

impl Block<'_> {
    pub fn cache_point(&self) -> Option<&CachePoint> {
        match self {
            Self::CachePoint(point) => Some(point),
            _ => None,
        }
    }

    pub fn is_blank(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().is_empty())
    }
}
