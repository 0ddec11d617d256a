//! What is asked and what comes back: the vocabulary every other module shares.
//!
//! A [`Prompt`] is one chat question, kept as the client wrote it so that no parameter, image or turn is
//! lost on its way upstream. A [`Completion`] is one candidate answer, kept as the provider wrote it, with
//! the few fields that votes and streams read parsed once beside it. Nothing here knows who produces or
//! consumes these types.

mod raw_object;
mod step;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;

pub use raw_object::RawObject;
pub use step::{Step, StepRule, TemperatureSwitch};

/// One chat question, the same for every candidate of a run.
///
/// JSON that only the model reads (messages, tool definitions, formats) stays raw: it is forwarded byte
/// for byte. What itsd itself acts on is typed.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// The model's name as the upstream or the local engine knows it.
    pub model: String,
    /// The `messages` array as the client wrote it.
    pub messages: Box<RawValue>,
    /// The offered tools, in the client's order; empty when there are none.
    pub tools: Vec<Tool>,
    /// `tool_choice` as the client wrote it.
    pub tool_choice: Option<Box<RawValue>>,
    /// `response_format` as the client wrote it.
    pub response_format: Option<Box<RawValue>>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Whether the client wants log-probabilities in the response, and how many alternatives a token.
    pub logprobs: Option<Logprobs>,
    /// What the run itself needs to know of each generated token. The client sees none of it unless `logprobs`
    /// asks for it too.
    pub signals: Option<Signals>,
    /// Every other field, known to OpenAI or not, forwarded as it came.
    pub passthrough: BTreeMap<String, Box<RawValue>>,
}

/// An offered tool: the definition as the client wrote it, and what validity checks read.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The whole element of the `tools` array.
    pub definition: Box<RawValue>,
    /// `function.name`, where the tool is a function.
    pub name: Option<String>,
    /// `function.parameters`, a JSON Schema, where there is one.
    pub parameters: Option<serde_json::Value>,
}

/// The sampling settings that itsd reads or fills in. `None` leaves the choice to the provider.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u32>,
    pub min_p: Option<f64>,
    pub max_tokens: Option<MaxTokens>,
    pub seed: Option<i64>,
    pub stop: Vec<String>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    /// Additive bias by token id, from `logit_bias`.
    pub logit_bias: BTreeMap<u32, f64>,
}

/// Parameters of OpenAI's chat API that itsd does not act on: they go upstream without a word.
pub const OPENAI_FIELDS: &[&str] = &[
    "audio",
    "function_call",
    "functions",
    "metadata",
    "modalities",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
    "web_search_options",
];

/// Parameters of servers that sample in process, our own engine among them, which no other API has.
pub const ENGINE_FIELDS: &[&str] =
    &["grammar", "regex", "repeat_last_n", "repeat_penalty", "repetition_penalty", "typical_p"];

/// A completion length limit in tokens, and the parameter name it travels under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxTokens {
    pub tokens: u32,
    pub name: MaxTokensName,
}

/// OpenAI renamed the parameter; providers differ in which one they take, so the client's choice is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxTokensName {
    MaxTokens,
    MaxCompletionTokens,
}

impl MaxTokensName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// A request for log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logprobs {
    /// Alternatives reported for each token, 0 to [`Logprobs::MOST`].
    pub top: u8,
}

impl Logprobs {
    /// The most alternatives that OpenAI's API tells of one token.
    pub const MOST: u8 = 20;
}

impl Prompt {
    /// The log-probabilities to ask for: what the client wants and what the run needs at once.
    pub fn wanted_logprobs(&self) -> Option<Logprobs> {
        let needed = self.signals.map(|signals| signals.top);
        let tops = self.logprobs.map(|logprobs| logprobs.top).into_iter().chain(needed);
        tops.max().map(|top| Logprobs { top })
    }
}

/// What a run needs to know of the tokens of its candidates, to tell how sure the model was of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals {
    /// Alternatives of each token, 0 to [`Logprobs::MOST`].
    pub top: u8,
    /// Whether the self-certainty of each token is needed, which only the in-process engine can tell.
    pub self_certainty: bool,
}

/// How sure the model was of one token that it generated. All of it is the model's own, before temperature and
/// whatever else the drawing did.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSignals {
    /// The token's text; a character may be spread over several tokens.
    pub bytes: Box<[u8]>,
    /// Its natural logarithm of probability, at most 0; not a number where the provider left it out.
    pub logprob: f64,
    /// Those of the most probable tokens in its place, the greatest first.
    pub top: Box<[f64]>,
    /// −(1/V) Σ log(V·p) over the V tokens of the vocabulary: 0 where all are as probable, and the greater the
    /// surer the model (Kang et al., "Scalable Best-of-N Selection via Self-Certainty", 2025).
    pub self_certainty: Option<f64>,
}

/// One candidate answer.
#[derive(Debug, Clone)]
pub struct Completion {
    pub reply: Reply,
    pub finish_reason: FinishReason,
    /// The `logprobs` object of the choice, as the provider wrote it, less what only the run has asked for.
    pub logprobs: Option<Box<RawValue>>,
    /// Mean log-probability (natural logarithm, ≤ 0) of the generated tokens, where it is known.
    pub mean_logprob: Option<f64>,
    /// The tokens of the text, where [`Prompt::signals`] asked for them and the provider told them.
    pub tokens: Option<Vec<TokenSignals>>,
    pub usage: Usage,
}

/// The assistant message of a candidate: the object as the provider wrote it, and a parsed view of it.
#[derive(Debug, Clone)]
pub struct Reply {
    raw: Box<RawValue>,
    content: Option<String>,
    tool_calls: Vec<ToolCall>,
}

/// One call of an assistant message: an element of `tool_calls`, or the `function_call` of old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    pub kind: CallKind,
    /// Empty for a `function_call`, which has none.
    pub id: String,
    pub name: String,
    /// The arguments as the model wrote them: JSON text, or what was meant to be. Of a custom tool, its input.
    pub arguments: String,
}

/// What is called, which says how [`ToolCall::arguments`] are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A function, whose arguments are JSON.
    Function,
    /// A custom tool, whose input is text of any form.
    Custom,
}

impl ToolCall {
    /// A call of a function.
    pub fn function(id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { kind: CallKind::Function, id: id.into(), name: name.into(), arguments: arguments.into() }
    }
}

impl Reply {
    /// Parses an assistant message object.
    ///
    /// # Errors
    ///
    /// When the text is not a JSON object of the assistant-message shape. Fields the view does not know are
    /// kept in [`Reply::raw`].
    pub fn parse(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct View {
            #[serde(default)]
            content: Option<ContentView>,
            #[serde(default)]
            tool_calls: Option<Vec<CallView>>,
            #[serde(default)]
            function_call: Option<Box<RawValue>>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum ContentView {
            Text(String),
            Parts(Vec<PartView>),
        }
        #[derive(Deserialize)]
        struct PartView {
            #[serde(default)]
            text: Option<String>,
        }
        #[derive(Deserialize)]
        struct CallView {
            #[serde(default)]
            id: Option<String>,
            function: Option<FunctionView>,
            custom: Option<CustomView>,
        }
        #[derive(Deserialize)]
        struct FunctionView {
            #[serde(default)]
            name: String,
            #[serde(default)]
            arguments: Option<Box<RawValue>>,
        }
        #[derive(Deserialize)]
        struct CustomView {
            #[serde(default)]
            name: String,
            #[serde(default)]
            input: Option<Box<RawValue>>,
        }
        // Some servers send the arguments as an object instead of as JSON text.
        let text = |raw: Option<Box<RawValue>>| match raw {
            Some(raw) => serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
            None => String::new(),
        };

        let view: View = serde_json::from_str(raw.get())?;
        let content = view.content.map(|content| match content {
            ContentView::Text(text) => text,
            ContentView::Parts(parts) => parts.into_iter().filter_map(|part| part.text).collect(),
        });
        let call = |call: CallView| {
            let id = call.id.unwrap_or_default();
            match (call.function, call.custom) {
                (Some(function), _) => Some(ToolCall::function(id, function.name, text(function.arguments))),
                (None, Some(custom)) => {
                    let kind = CallKind::Custom;
                    Some(ToolCall { kind, id, name: custom.name, arguments: text(custom.input) })
                }
                (None, None) => None,
            }
        };
        let mut tool_calls: Vec<ToolCall> = view.tool_calls.unwrap_or_default().into_iter().filter_map(call).collect();
        // Servers that fill in both say the same thing twice.
        if tool_calls.is_empty()
            && let Some(function) = view.function_call
            && let Ok(function) = serde_json::from_str::<FunctionView>(function.get())
            && !function.name.is_empty()
        {
            tool_calls.push(ToolCall::function("", function.name, text(function.arguments)));
        }
        Ok(Self { raw, content, tool_calls })
    }

    /// Builds an assistant message from its parts, in OpenAI's shape.
    pub fn new(content: Option<String>, tool_calls: Vec<ToolCall>) -> Self {
        Self::with_reasoning(None, content, tool_calls)
    }

    /// The same of a model that has thought first: what it thought is `reasoning_content`, as many servers have it.
    pub fn with_reasoning(reasoning: Option<&str>, content: Option<String>, tool_calls: Vec<ToolCall>) -> Self {
        #[derive(Serialize)]
        struct Message<'a> {
            role: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reasoning_content: Option<&'a str>,
            content: Option<&'a str>,
            refusal: Option<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            tool_calls: Vec<Call<'a>>,
        }
        #[derive(Serialize)]
        struct Call<'a> {
            id: &'a str,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            function: Option<Function<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            custom: Option<Custom<'a>>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        #[derive(Serialize)]
        struct Custom<'a> {
            name: &'a str,
            input: &'a str,
        }
        fn shown(call: &ToolCall) -> Call<'_> {
            let ToolCall { kind, id, name, arguments } = call;
            match kind {
                CallKind::Function => {
                    Call { id, r#type: "function", function: Some(Function { name, arguments }), custom: None }
                }
                CallKind::Custom => {
                    Call { id, r#type: "custom", function: None, custom: Some(Custom { name, input: arguments }) }
                }
            }
        }

        let message = Message {
            role: "assistant",
            reasoning_content: reasoning,
            content: content.as_deref(),
            refusal: None,
            tool_calls: tool_calls.iter().map(shown).collect(),
        };
        let raw = serde_json::value::to_raw_value(&message).expect("strings always serialise");
        Self { raw, content, tool_calls }
    }

    /// The message object exactly as the provider wrote it.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// The text of the message; `None` for a message that carries only tool calls.
    pub fn content(&self) -> Option<&str> {
        self.content.as_deref()
    }

    pub fn tool_calls(&self) -> &[ToolCall] {
        &self.tool_calls
    }
}

/// Why generation ended, in OpenAI's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    /// A provider's own word, passed on as it came.
    Other(String),
}

impl FinishReason {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Tokens spent. Sums over calls; a call whose usage never arrived is counted in `unknown_calls`. What is counted is
/// what others say, so that sums end at the greatest number there is and never fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    /// The part of `prompt_tokens` that the provider read from its cache.
    pub cached_tokens: u64,
    /// The part of `prompt_tokens`, beside that, which the provider wrote to its cache, where it says so: some prices tell
    /// it apart.
    #[serde(skip)]
    pub cache_write_tokens: u64,
    /// The part of `completion_tokens` spent on hidden reasoning.
    pub reasoning_tokens: u64,
    /// Calls that were made but whose usage is not known (cancelled, failed, or not reported).
    pub unknown_calls: u64,
}

impl Usage {
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(other.reasoning_tokens);
        self.unknown_calls = self.unknown_calls.saturating_add(other.unknown_calls);
    }
}

/// A piece of a streamed answer: the `delta` object of one chunk, as the provider wrote it.
#[derive(Debug, Clone)]
pub struct Delta {
    pub fields: Box<RawValue>,
    /// The chunk's `logprobs` object, where it has one.
    pub logprobs: Option<Box<RawValue>>,
}

impl Delta {
    /// How much it holds.
    pub fn size_bytes(&self) -> usize {
        self.fields.get().len() + self.logprobs.as_ref().map_or(0, |logprobs| logprobs.get().len())
    }
}

/// What is heard of one candidate while it is generated. Each candidate ends with exactly one `Finished`
/// or `Failed`; deltas come before it, and only where the run is streamed live.
#[derive(Debug, Clone)]
pub enum StepEvent {
    Delta(Delta),
    Finished(Completion),
    Failed(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_reply_keeps_every_byte_and_fields_it_does_not_know() {
        let text = r#"{"role":"assistant", "content":null,"reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\": 1.0}"}}]}"#;
        let reply = Reply::parse(raw(text)).unwrap();
        assert_eq!(reply.raw().get(), text);
        assert_eq!(reply.content(), None);
        assert_eq!(reply.tool_calls(), [ToolCall::function("c1", "f", r#"{"a": 1.0}"#)]);
    }

    #[test]
    fn arguments_sent_as_an_object_and_content_sent_as_parts_are_read() {
        let reply = Reply::parse(raw(
            r#"{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}"#,
        ))
        .unwrap();
        assert_eq!(reply.content(), Some("ab"));
        assert_eq!(reply.tool_calls()[0].arguments, r#"{"a":1}"#);
    }

    #[test]
    fn a_built_reply_reads_back_as_itself() {
        let custom = ToolCall { kind: CallKind::Custom, ..ToolCall::function("y", "sql", "select 1") };
        let calls = vec![ToolCall::function("x", "f", "{}"), custom];
        let built = Reply::new(None, calls.clone());
        let parsed = Reply::parse(raw(built.raw().get())).unwrap();
        assert_eq!(parsed.content(), None);
        assert_eq!(parsed.tool_calls(), calls);
    }

    #[test]
    fn sums_of_tokens_end_at_the_greatest_number() {
        let most = Usage { prompt_tokens: u64::MAX, completion_tokens: u64::MAX, ..Usage::default() };
        let mut sum = Usage { prompt_tokens: 3, cached_tokens: 2, unknown_calls: 1, ..most };
        sum += most;
        assert_eq!((sum.prompt_tokens, sum.cached_tokens, sum.total_tokens()), (u64::MAX, 2, u64::MAX));
    }

    #[test]
    fn calls_of_custom_tools_and_the_function_call_of_old_are_read() {
        let text = r#"{"content":null,"tool_calls":[{"id":"c","type":"custom","custom":{"name":"sql","input":"{\"a\" :1"}},{"id":"d","type":"search"}]}"#;
        let reply = Reply::parse(raw(text)).unwrap();
        let custom =
            |name: &str, input: &str| ToolCall { kind: CallKind::Custom, ..ToolCall::function("c", name, input) };
        assert_eq!(reply.tool_calls(), [custom("sql", "{\"a\" :1")]);
        assert_eq!(reply.raw().get(), text);
        let old = r#"{"content":null,"function_call":{"name":"f","arguments":"{\"x\":1}"}}"#;
        assert_eq!(Reply::parse(raw(old)).unwrap().tool_calls(), [ToolCall::function("", "f", r#"{"x":1}"#)]);
    }

    #[test]
    fn a_function_call_counts_only_where_it_says_something_of_its_own() {
        for empty in ["null", "{}", r#"{"name":""}"#, r#""f""#, "[]"] {
            let reply = Reply::parse(raw(&format!(r#"{{"content":"a","function_call":{empty}}}"#))).unwrap();
            assert_eq!((reply.content(), reply.tool_calls().len()), (Some("a"), 0), "{empty}");
        }
        let both = r#"{"tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}],"function_call":{"name":"f","arguments":"{}"}}"#;
        assert_eq!(Reply::parse(raw(both)).unwrap().tool_calls(), [ToolCall::function("c", "f", "{}")]);
    }

    #[test]
    fn a_finish_reason_that_openai_does_not_know_is_passed_on() {
        assert_eq!(FinishReason::from("eos").as_str(), "eos");
    }
}
