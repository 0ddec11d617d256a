//! The servers that the upstream can stand for, as data: what each takes, refuses and answers otherwise than OpenAI.

use serde::Deserialize;

use super::known_fields::{GEMINI_FIELDS, GROQ_FIELDS, OPENAI_FIELDS};

/// Which server the upstream stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Profile {
    /// OpenAI's shapes, for any key and any model.
    #[default]
    Plain,
    OpenAi,
    Azure,
    OpenRouter,
    Groq,
    Together,
    DeepInfra,
    Ollama,
    LmStudio,
    Vllm,
    LlamaServer,
    /// A build from before it learned `n`, which also ends its streams without a word.
    OldLlamaServer,
    TextGenerationWebUi,
    GeminiCompatible,
    /// Takes `n` and gives one choice.
    IgnoresN,
    /// A proxy in front that answers errors with pages.
    HtmlErrors,
    /// Every error has the status 200.
    ErrorIn200,
}

/// In what a server differs.
#[derive(Debug, Clone, Copy)]
pub struct Quirks {
    /// What comes before `/chat/completions`. Azure has another address too, with the deployment in it.
    pub base_path: &'static str,
    pub key: Key,
    pub n: Several,
    /// The fields that it knows, where it refuses others.
    pub only_fields: Option<&'static [&'static str]>,
    /// Models of these families refuse `max_tokens` and sampling settings.
    pub reasoning_families: &'static [&'static str],
    pub logprobs: LogprobShape,
    pub takes_json_object: bool,
    /// Whether `tool_choice` may be more than `auto` or `none`.
    pub forces_tools: bool,
    pub errors: ErrorShape,
    /// What the reasoning is called in a message.
    pub reasoning: &'static str,
    pub tool_index: ToolIndex,
    /// Why a stream that ends in tool calls ends.
    pub streamed_tool_end: &'static str,
    /// The choices of a stream take turns, rather than coming one after the other.
    pub interleaves: bool,
    /// Sent before the first event of a stream.
    pub comment: Option<&'static str>,
    pub line_end: &'static str,
    pub ends_with_done: bool,
}

/// How a caller shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// It need not.
    None,
    /// `Authorization: Bearer`.
    Bearer,
    /// The header `api-key`.
    Header,
}

/// What becomes of `n` above 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Several {
    Honoured,
    Ignored,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogprobShape {
    OpenAi,
    /// Lists beside each other; in a stream one number.
    Lists,
    /// Taken and answered with null.
    Null,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"error": {"code": "429", "message"}}` for what its gateway refuses, else as OpenAI.
    Azure,
    /// `{"error": {"message", "code": 429}}`.
    NumericCode,
    /// `{"error": {"message", "type"}}`, with a code where there is one.
    Groq,
    /// OpenAI's, beside an `id`.
    Together,
    /// `{"error": {"message"}}`.
    MessageOnly,
    /// `{"error": "message"}`.
    Text,
    /// `{"object": "error", "message", "type", "param", "code": 400}`.
    Flat,
    /// `{"error": {"code", "message", "type"}}` with the status in the code, and in newer builds 500 on the wire.
    LlamaServer,
    /// `{"detail": "message"}` for a key, else the words `Internal Server Error`.
    FastApi,
    /// A list of one `{"error": {"code", "message", "status"}}`.
    Google,
    /// A page of HTML.
    Html,
    /// OpenAI's, with status 200.
    In200,
}

/// How the pieces of tool calls in a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolIndex {
    /// By their `index`.
    Counted,
    /// Each call comes whole, without an index.
    Absent,
    /// Each call comes whole, with the index 0.
    Zero,
}

const PLAIN: Quirks = Quirks {
    base_path: "/v1",
    key: Key::None,
    n: Several::Honoured,
    only_fields: None,
    reasoning_families: &[],
    logprobs: LogprobShape::OpenAi,
    takes_json_object: true,
    forces_tools: true,
    errors: ErrorShape::OpenAi,
    reasoning: "reasoning_content",
    tool_index: ToolIndex::Counted,
    streamed_tool_end: "tool_calls",
    interleaves: false,
    comment: None,
    line_end: "\n",
    ends_with_done: true,
};

const REASONING_FAMILIES: &[&str] = &["o1", "o3", "o4", "gpt-5"];

impl Profile {
    pub const ALL: [(&'static str, Self); 17] = [
        ("plain", Self::Plain),
        ("openai", Self::OpenAi),
        ("azure", Self::Azure),
        ("openrouter", Self::OpenRouter),
        ("groq", Self::Groq),
        ("together", Self::Together),
        ("deepinfra", Self::DeepInfra),
        ("ollama", Self::Ollama),
        ("lmstudio", Self::LmStudio),
        ("vllm", Self::Vllm),
        ("llama-server", Self::LlamaServer),
        ("old-llama-server", Self::OldLlamaServer),
        ("text-generation-webui", Self::TextGenerationWebUi),
        ("gemini-compatible", Self::GeminiCompatible),
        ("ignores-n", Self::IgnoresN),
        ("html-errors", Self::HtmlErrors),
        ("error-in-200", Self::ErrorIn200),
    ];

    pub fn quirks(self) -> Quirks {
        match self {
            Self::Plain => PLAIN,
            Self::OpenAi => Quirks {
                key: Key::Bearer,
                only_fields: Some(OPENAI_FIELDS),
                reasoning_families: REASONING_FAMILIES,
                interleaves: true,
                ..PLAIN
            },
            Self::Azure => Quirks {
                base_path: "/openai/v1",
                key: Key::Header,
                only_fields: Some(OPENAI_FIELDS),
                reasoning_families: REASONING_FAMILIES,
                errors: ErrorShape::Azure,
                ..PLAIN
            },
            Self::OpenRouter => Quirks {
                base_path: "/api/v1",
                key: Key::Bearer,
                n: Several::Ignored,
                errors: ErrorShape::NumericCode,
                reasoning: "reasoning",
                comment: Some(": OPENROUTER PROCESSING\n\n"),
                ..PLAIN
            },
            Self::Groq => Quirks {
                base_path: "/openai/v1",
                key: Key::Bearer,
                n: Several::Refused,
                only_fields: Some(GROQ_FIELDS),
                logprobs: LogprobShape::Refused,
                errors: ErrorShape::Groq,
                reasoning: "reasoning",
                ..PLAIN
            },
            Self::Together => Quirks {
                key: Key::Bearer,
                logprobs: LogprobShape::Lists,
                errors: ErrorShape::Together,
                reasoning: "reasoning",
                ..PLAIN
            },
            Self::DeepInfra => Quirks {
                base_path: "/v1/openai",
                key: Key::Bearer,
                forces_tools: false,
                errors: ErrorShape::MessageOnly,
                ..PLAIN
            },
            Self::Ollama => Quirks {
                n: Several::Ignored,
                reasoning: "reasoning",
                tool_index: ToolIndex::Absent,
                streamed_tool_end: "stop",
                ..PLAIN
            },
            Self::LmStudio => Quirks {
                n: Several::Ignored,
                logprobs: LogprobShape::Null,
                takes_json_object: false,
                errors: ErrorShape::Text,
                ..PLAIN
            },
            Self::Vllm => Quirks { errors: ErrorShape::Flat, interleaves: true, ..PLAIN },
            Self::LlamaServer => Quirks { errors: ErrorShape::LlamaServer, interleaves: true, ..PLAIN },
            Self::OldLlamaServer => Quirks {
                n: Several::Refused,
                logprobs: LogprobShape::Null,
                errors: ErrorShape::LlamaServer,
                ends_with_done: false,
                ..PLAIN
            },
            Self::TextGenerationWebUi => Quirks {
                n: Several::Ignored,
                logprobs: LogprobShape::Null,
                errors: ErrorShape::FastApi,
                comment: Some(": ping - 2024-01-01 00:00:00.000000\r\n\r\n"),
                line_end: "\r\n",
                ends_with_done: false,
                ..PLAIN
            },
            Self::GeminiCompatible => Quirks {
                base_path: "/v1beta/openai",
                key: Key::Bearer,
                only_fields: Some(GEMINI_FIELDS),
                errors: ErrorShape::Google,
                tool_index: ToolIndex::Zero,
                streamed_tool_end: "stop",
                ..PLAIN
            },
            Self::IgnoresN => Quirks { n: Several::Ignored, ..PLAIN },
            Self::HtmlErrors => Quirks { errors: ErrorShape::Html, ..PLAIN },
            Self::ErrorIn200 => Quirks { errors: ErrorShape::In200, ..PLAIN },
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, profile)| profile).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            format!("no profile is called `{name}`; there are {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for Profile {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}
