//! One streamed candidate: each chunk's delta is passed on as it came, and the chunks are put together into
//! the completion that a whole answer would have been.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::logprobs::{self, Readers};
use super::response;
use super::shape::{self, CallMend};
use crate::completion::{CallKind, Completion, Delta, Reply};
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{Upstream, malformed};

/// What one event of a stream was.
#[derive(Debug)]
pub(super) enum Event {
    Delta {
        delta: Delta,
        /// Whether the model said something in it: a role alone, or an empty string, is nothing yet.
        has_content: bool,
    },
    /// Nothing to pass on: an end without words, a usage report, a chunk without choices.
    Silent,
    /// `[DONE]`.
    Done,
}

/// The answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    readers: Readers,
    content: Option<String>,
    refusal: Option<String>,
    reasoning: Option<(&'static str, String)>,
    calls: Vec<Call>,
    others: Map<String, Value>,
    logprobs: Option<Tokens>,
    /// The server's word for why it ended.
    finish_word: Option<String>,
    usage: Option<Box<RawValue>>,
    has_delta: bool,
}

#[derive(Debug)]
struct Call {
    kind: CallKind,
    index: Option<u64>,
    id: String,
    /// Whether the id is the server's.
    has_own_id: bool,
    name: String,
    arguments: String,
    others: Map<String, Value>,
}

#[derive(Debug, Default, Serialize)]
struct Tokens {
    content: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusal: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct DeltaView<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallView<'a>>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct CallView<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<FunctionView<'a>>,
    #[serde(borrow)]
    custom: Option<CustomView<'a>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct FunctionView<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CustomView<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// Groq puts beside a chunk what OpenAI puts into it.
#[derive(Deserialize)]
struct GroqView<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

impl Answer {
    /// An answer of which nothing has come yet.
    pub fn new(readers: Readers) -> Self {
        Self { readers, ..Self::default() }
    }

    /// Takes in the data of one event.
    ///
    /// # Errors
    ///
    /// The failure that an `error` in the event stands for, or a malformed answer.
    pub fn take(&mut self, data: &[u8], upstream: &Upstream) -> Result<Event, AttemptFailure> {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            #[serde(borrow)]
            error: Option<&'a RawValue>,
            #[serde(borrow)]
            choices: Option<Vec<Choice<'a>>>,
            #[serde(borrow)]
            usage: Option<&'a RawValue>,
            #[serde(borrow)]
            x_groq: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Choice<'a> {
            #[serde(borrow)]
            error: Option<&'a RawValue>,
            #[serde(borrow)]
            delta: Option<&'a RawValue>,
            #[serde(borrow)]
            finish_reason: Option<Cow<'a, str>>,
            #[serde(borrow)]
            logprobs: Option<&'a RawValue>,
        }

        if data.trim_ascii() == b"[DONE]" {
            return Ok(Event::Done);
        }
        let unreadable = |error: serde_json::Error| {
            upstream
                .error_in_success(data)
                .unwrap_or_else(|| malformed(upstream, &format!("a stream event that cannot be read ({error})")))
        };
        let chunk: Chunk = serde_json::from_slice(data).map_err(unreadable)?;
        if chunk.error.is_some() || chunk.choices.is_none() && chunk.usage.is_none() {
            return Err(upstream
                .error_in_success(data)
                .unwrap_or_else(|| malformed(upstream, "a stream event without choices")));
        }
        let groq: Option<GroqView> = chunk.x_groq.and_then(|raw| serde_json::from_str(raw.get()).ok());
        if let Some(error) = groq.as_ref().and_then(|groq| groq.error) {
            return Err(upstream.error_in_choice(Some(error)));
        }
        if let Some(usage) = chunk.usage.or_else(|| groq?.usage) {
            self.usage = Some(usage.to_owned());
        }
        let Some(choice) = chunk.choices.and_then(|choices| choices.into_iter().next()) else {
            return Ok(Event::Silent);
        };
        // A router whose provider broke off says so in the choice.
        if choice.error.is_some() || choice.finish_reason.as_deref() == Some("error") {
            return Err(upstream.error_in_choice(choice.error));
        }
        // Some servers send an empty word in every chunk before the end.
        if let Some(word) = choice.finish_reason.filter(|word| !word.is_empty()) {
            self.finish_word = Some(word.into_owned());
        }
        let view: Option<DeltaView> =
            choice.delta.map(|fields| serde_json::from_str(fields.get())).transpose().map_err(unreadable)?;
        let said = view.as_ref().and_then(|view| view.content).map(text);
        let logprobs = choice.logprobs.map(|logprobs| logprobs::in_our_shape(logprobs, said.as_deref()));
        if let Some(logprobs) = &logprobs {
            self.take_logprobs(logprobs);
        }
        let (Some(fields), Some(view)) = (choice.delta, view) else { return Ok(Event::Silent) };
        let is_empty = view.is_empty();
        let (has_content, mends) = self.take_delta(view);
        let logprobs = logprobs.as_deref().and_then(|logprobs| self.readers.for_client(logprobs));
        if is_empty && logprobs.is_none() {
            return Ok(Event::Silent);
        }
        self.has_delta = true;
        let fields = mends.map_or_else(|| fields.to_owned(), |mends| shape::delta(fields, mends));
        Ok(Event::Delta { delta: Delta { fields, logprobs: logprobs.map(Cow::into_owned) }, has_content })
    }

    /// Whether the model has said why it ended. What may still come is the usage.
    pub fn is_complete(&self) -> bool {
        self.finish_word.is_some()
    }

    /// The whole answer, at the end of the stream. `was_announced` tells that `[DONE]` came.
    ///
    /// # Errors
    ///
    /// When the stream ended before the model had: nothing was said, or the end was not announced.
    pub fn finish(self, was_announced: bool, upstream: &Upstream) -> Result<Completion, AttemptFailure> {
        let has_calls = !self.calls.is_empty();
        let finish_reason = match self.finish_word {
            Some(word) => shape::finish_reason(&word, has_calls),
            None if was_announced && self.has_delta => shape::finish_reason("stop", has_calls),
            None if was_announced => return Err(malformed(upstream, "a stream without an answer")),
            None => {
                let message = format!("{} broke off its stream before the answer was complete", upstream.name);
                return Err(Failure::new(FailureKind::Unavailable, message).into());
            }
        };
        #[derive(Serialize)]
        struct Message<'a> {
            role: &'static str,
            content: Option<String>,
            refusal: Option<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            tool_calls: Vec<CallOut<'a>>,
            #[serde(flatten)]
            others: Map<String, Value>,
        }
        #[derive(Serialize)]
        struct CallOut<'a> {
            id: &'a str,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            function: Option<FunctionOut<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            custom: Option<CustomOut<'a>>,
            #[serde(flatten)]
            others: &'a Map<String, Value>,
        }
        #[derive(Serialize)]
        struct FunctionOut<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        #[derive(Serialize)]
        struct CustomOut<'a> {
            name: &'a str,
            input: &'a str,
        }
        fn call_out(call: &Call) -> CallOut<'_> {
            let Call { kind, id, name, arguments, others, .. } = call;
            let (function, custom) = match kind {
                CallKind::Function => (Some(FunctionOut { name, arguments }), None),
                CallKind::Custom => (None, Some(CustomOut { name, input: arguments })),
            };
            CallOut { id, r#type: shape::kind_word(*kind), function, custom, others }
        }

        let mut others = self.others;
        if let Some((name, text)) = self.reasoning {
            others.insert(name.to_owned(), text.into());
        }
        let message = Message {
            role: "assistant",
            // Servers begin a stream with an empty word, whether or not others follow.
            content: self.content.filter(|content| !(content.is_empty() && has_calls)),
            refusal: self.refusal,
            tool_calls: self.calls.iter().map(call_out).collect(),
            others,
        };
        let reply = to_raw_value(&message).and_then(Reply::parse).expect("a message put together from parsed parts");
        let told = self.logprobs.map(|tokens| to_raw_value(&tokens).expect("raw JSON always serialises"));
        let told = told.as_deref();
        Ok(Completion {
            reply,
            finish_reason,
            mean_logprob: told.and_then(logprobs::mean),
            tokens: told.and_then(|told| self.readers.tokens(told)),
            logprobs: told.and_then(|told| self.readers.for_client(told)).map(Cow::into_owned),
            usage: response::usage(self.usage.as_deref()),
        })
    }

    /// Adds a delta to the answer; returns whether the model said something in it, and what is to be put right in its
    /// tool calls before the client gets them, if anything is.
    fn take_delta(&mut self, view: DeltaView) -> (bool, Option<Vec<CallMend>>) {
        let mut has_content = false;
        let mut append = |whole: &mut Option<String>, piece: Option<Cow<str>>| {
            if let Some(piece) = piece {
                has_content |= !piece.is_empty();
                whole.get_or_insert_default().push_str(&piece);
            }
        };
        append(&mut self.content, view.content.map(text));
        append(&mut self.refusal, view.refusal);
        for (name, piece) in [("reasoning_content", view.reasoning_content), ("reasoning", view.reasoning)] {
            // Servers that send both names send the same text under both.
            if self.reasoning.as_ref().is_some_and(|(known, _)| *known != name) {
                continue;
            }
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                has_content = true;
                self.reasoning.get_or_insert_with(|| (name, String::new())).1.push_str(&piece);
            }
        }
        let mut mends = Vec::new();
        let mut is_in_shape = true;
        for call in view.tool_calls.into_iter().flatten() {
            has_content = true;
            let (mend, was_in_shape) = self.take_call(call);
            mends.push(mend);
            is_in_shape &= was_in_shape;
        }
        for (name, value) in view.others {
            if name == "role" || value.is_null() {
                continue;
            }
            match (self.others.get_mut(&name), value) {
                (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
                (_, value) => {
                    self.others.insert(name, value);
                }
            }
        }
        (has_content, (!is_in_shape).then_some(mends))
    }

    /// A piece of a tool call belongs to the call of its index. Servers that send no index send a call whole
    /// or begin each with its id; servers that give every call index 0 tell them apart by their ids.
    ///
    /// Returns what makes OpenAI's of the piece, and whether it is that already.
    fn take_call(&mut self, view: CallView) -> (CallMend, bool) {
        let CallView { index, id, r#type: told_type, function, custom, others } = view;
        let id = id.as_deref().unwrap_or("");
        let is_custom = function.is_none() && (custom.is_some() || told_type.as_deref() == Some("custom"));
        let has_function = function.is_some();
        let (name, arguments) = match (function, custom) {
            (Some(function), _) => (function.name, function.arguments),
            (None, Some(custom)) => (custom.name, custom.input),
            (None, None) => (None, None),
        };
        let (name, arguments) = (name.as_deref().unwrap_or(""), arguments.filter(|raw| raw.get() != "null"));
        let known = match index {
            Some(index) => self.calls.iter().rposition(|call| call.index == Some(index)),
            None if id.is_empty() && name.is_empty() => self.calls.len().checked_sub(1),
            None if id.is_empty() => None,
            None => self.calls.iter().rposition(|call| call.id == id),
        };
        let known = known.filter(|&at| id.is_empty() || !self.calls[at].has_own_id || self.calls[at].id == id);
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call {
                kind: if is_custom { CallKind::Custom } else { CallKind::Function },
                index,
                id: if id.is_empty() { shape::made_id() } else { id.to_owned() },
                has_own_id: !id.is_empty(),
                name: String::new(),
                arguments: String::new(),
                others: Map::new(),
            });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        if call.name != name {
            call.name.push_str(name);
        }
        call.others.extend(others.into_iter().filter(|(_, value)| !value.is_null()));
        // Some servers send the arguments as an object instead of as JSON text.
        let is_text = arguments.is_none_or(shape::is_text);
        let piece = arguments.map(|raw| serde_json::from_str(raw.get()).unwrap_or(Cow::Borrowed(raw.get())));
        call.arguments.push_str(piece.as_deref().unwrap_or_default());

        let begins = known.is_none();
        let lacks_arguments = begins && has_function && arguments.is_none();
        let arguments = (!is_text || lacks_arguments).then(|| piece.unwrap_or_default().into_owned());
        let is_in_shape =
            index == Some(at as u64) && arguments.is_none() && (!begins || call.has_own_id && told_type.is_some());
        let beginning = begins.then(|| (call.id.clone(), call.kind));
        (CallMend { index: at, beginning, arguments }, is_in_shape)
    }

    fn take_logprobs(&mut self, raw: &RawValue) {
        #[derive(Deserialize)]
        struct View {
            content: Option<Vec<Box<RawValue>>>,
            refusal: Option<Vec<Box<RawValue>>>,
        }
        let Ok(view) = serde_json::from_str::<View>(raw.get()) else { return };
        let tokens = self.logprobs.get_or_insert_default();
        tokens.content.extend(view.content.into_iter().flatten());
        tokens.refusal.extend(view.refusal.into_iter().flatten());
    }
}

/// Content is a string, or from some reasoning models a list of parts, of which those with text count.
fn text(content: &RawValue) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Part {
        text: Option<String>,
    }
    serde_json::from_str(content.get()).unwrap_or_else(|_| {
        let parts: Vec<Part> = serde_json::from_str(content.get()).unwrap_or_default();
        parts.into_iter().filter_map(|part| part.text).collect::<String>().into()
    })
}

impl DeltaView<'_> {
    fn is_empty(&self) -> bool {
        self.content.is_none()
            && self.refusal.is_none()
            && self.reasoning_content.is_none()
            && self.reasoning.is_none()
            && self.tool_calls.is_none()
            && self.others.is_empty()
    }
}
