//! Tool calls in the words of the model, told from its text as it comes, character by character: the name first, then
//! the arguments in pieces. However the text is cut, the same comes of it.
//!
//! Which formats are read follows from the marks in the model's own template ([`ToolFormat::of`]). What cannot be read
//! as a call stays text, with its marks. What has been told of cannot be taken back: the arguments of a call that is
//! cut off or malformed are those that the model wrote. A marked call may name any tool, as with every provider; one
//! without marks must name a tool that was offered, since it may as well be the answer that was asked.

use std::sync::Arc;

use serde_json::Value as Json;

use code::CodeScan;
use json_call::JsonCalls;
use named::{DEEPSEEK_MARK, DeepSeekCall, MistralCall};
use tagged::TaggedCall;

use super::reply::Out;
use crate::completion::Tool;

mod code;
mod gemma;
mod json_call;
mod named;
mod tagged;
#[cfg(test)]
mod tests;

/// Texts that open or close a call or stand within one. Some models make control tokens of them, which are no text
/// otherwise.
pub(super) const MARKS: &[&str] = &[
    TOOL_CALL,
    "</tool_call>",
    "<|tool_call|>",
    "<|/tool_call|>",
    PYTHON_TAG,
    TOOL_CALLS,
    "[ARGS]",
    "[CALL_ID]",
    DEEPSEEK_CALLS,
    DEEPSEEK_CALL,
    DEEPSEEK_MARK,
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    gemma::CALL,
    gemma::END,
    gemma::QUOTE,
];

const TOOL_CALL: &str = "<tool_call>";
const PYTHON_TAG: &str = "<|python_tag|>";
const TOOL_CALLS: &str = "[TOOL_CALLS]";
const FUNCTION: &str = "<function=";
const DEEPSEEK_CALLS: &str = "<｜tool▁calls▁begin｜>";
const DEEPSEEK_CALL: &str = "<｜tool▁call▁begin｜>";
const CODE: &str = "```tool_code";
const JSON_FENCE: &str = "```json";

/// Bytes that a name may have before it is taken for none.
const LONGEST_NAME: usize = 256;

/// A tool that was put before the model.
#[derive(Debug, Clone)]
pub(super) struct OfferedTool {
    pub(super) name: String,
    /// A JSON Schema, where there is one.
    pub(super) parameters: Option<Json>,
}

impl OfferedTool {
    /// `None` where the tool is no function.
    pub(super) fn of(tool: &Tool) -> Option<Self> {
        Some(Self { name: tool.name.clone()?, parameters: tool.parameters.clone() })
    }
}

/// How a model writes its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolFormat {
    openings: Vec<(&'static str, Kind)>,
    /// What may follow a call and belongs to it.
    closings: Vec<&'static str>,
    /// Whether a message may be a call without any mark.
    takes_bare_json: bool,
    /// Whether the template takes earlier calls only under ids of nine characters.
    wants_short_ids: bool,
}

/// What follows an opening mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    /// JSON in a fence, at the beginning of a message only: it may be the answer that was asked.
    FencedJson,
    /// JSON, or `<function=`.
    JsonOrTagged,
    Tagged,
    Mistral,
    DeepSeekCalls,
    DeepSeek,
    Code,
    Gemma,
}

impl ToolFormat {
    /// The format that a template's own marks tell. A template that tells none is taken for one of Hermes' or Llama's.
    pub(super) fn of(template: &str) -> Self {
        let mut openings = Vec::new();
        let mut closings = Vec::new();
        let mut takes_bare_json = template.contains(PYTHON_TAG) || template.contains(r#""parameters": "#);
        if template.contains(TOOL_CALL) {
            openings.push((TOOL_CALL, Kind::JsonOrTagged));
            closings.push("</tool_call>");
        }
        if template.contains(FUNCTION) {
            openings.push((FUNCTION, Kind::Tagged));
        }
        if template.contains(TOOL_CALLS) {
            openings.push((TOOL_CALLS, Kind::Mistral));
        }
        if template.contains("<|tool_call|>") {
            openings.push(("<|tool_call|>", Kind::Json));
            closings.push("<|/tool_call|>");
        }
        if template.contains(DEEPSEEK_CALL) {
            openings.extend([(DEEPSEEK_CALLS, Kind::DeepSeekCalls), (DEEPSEEK_CALL, Kind::DeepSeek)]);
            closings.extend(["<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"]);
        }
        if template.contains(CODE) {
            openings.extend([(CODE, Kind::Code), (JSON_FENCE, Kind::FencedJson)]);
            closings.push(code::FENCE);
            takes_bare_json = true;
        }
        if template.contains(gemma::CALL) {
            openings.push((gemma::CALL, Kind::Gemma));
        }
        if openings.is_empty() && !takes_bare_json {
            openings.push((TOOL_CALL, Kind::JsonOrTagged));
            closings.push("</tool_call>");
            takes_bare_json = true;
        }
        if takes_bare_json {
            openings.push((PYTHON_TAG, Kind::Json));
            closings.push(";");
        }
        let wants_short_ids = template.contains("length != 9") || template.contains("length == 9");
        Self { openings, closings, takes_bare_json, wants_short_ids }
    }

    pub(super) fn wants_short_ids(&self) -> bool {
        self.wants_short_ids
    }
}

/// What a reader of a call says to a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Going,
    /// It was the last.
    Done,
    /// It is no part of a call, and nothing is that was not told of.
    Broken,
}

/// A call that is being read.
#[derive(Debug, Clone)]
enum Body {
    Json(JsonCalls),
    /// After `<tool_call>`, or within the beginning of `<function=` there.
    JsonOrTagged(String),
    Tagged(TaggedCall),
    Mistral(MistralCall),
    /// Between DeepSeek's mark for calls and the one for the first.
    DeepSeekCalls(String),
    DeepSeek(DeepSeekCall),
    Code(CodeScan, String),
    Gemma(String),
}

/// Tells calls from text.
#[derive(Debug, Clone)]
pub(super) struct CallReader {
    format: ToolFormat,
    tools: Arc<[OfferedTool]>,
    body: Option<Body>,
    /// The beginning of what may be a mark.
    mark: String,
    /// Text of a call that was not told of yet.
    raw: String,
    /// White space that is content only if content follows.
    space: String,
    /// Whether there was content that was not a thought, after which no call comes without a mark.
    has_begun: bool,
    has_content: bool,
    /// Right after a call.
    is_after_call: bool,
    /// Since the last call there was no content.
    is_boundary: bool,
    calls: usize,
}

impl CallReader {
    pub(super) fn new(format: ToolFormat, tools: Arc<[OfferedTool]>) -> Self {
        Self {
            format,
            tools,
            body: None,
            mark: String::new(),
            raw: String::new(),
            space: String::new(),
            has_begun: false,
            has_content: false,
            is_after_call: false,
            is_boundary: false,
            calls: 0,
        }
    }

    /// Bytes that are neither content nor call yet.
    pub(super) fn undecided_bytes(&self) -> usize {
        self.mark.len() + self.raw.len() + self.space.len()
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out) {
        loop {
            let Some(body) = &mut self.body else {
                let may_be_bare = self.format.takes_bare_json && !self.has_begun && self.mark.is_empty();
                if may_be_bare && matches!(c, '{' | '[') {
                    self.body = Some(Body::Json(JsonCalls::new(true)));
                    continue;
                }
                self.mark.push(c);
                self.settle_mark(out);
                return;
            };
            let before = out.calls();
            let was_told = body.is_committed();
            let fate = body.step(c, &self.tools, out);
            let is_told = was_told || body.is_committed() || out.calls() > before;
            self.note_calls(out.calls() - before);
            match fate {
                Fate::Going if is_told => self.raw.clear(),
                Fate::Going => self.raw.push(c),
                Fate::Done => {
                    self.body = None;
                    self.raw.clear();
                }
                Fate::Broken => {
                    self.body = None;
                    let raw = std::mem::take(&mut self.raw);
                    raw.chars().for_each(|c| self.content(c, out));
                    continue;
                }
            }
            return;
        }
    }

    /// Text that is content whatever it looks like.
    pub(super) fn verbatim(&mut self, c: char, out: &mut Out) {
        for c in std::mem::take(&mut self.space).chars() {
            out.content(c);
        }
        self.has_content = true;
        out.content(c);
    }

    /// The end of the text.
    pub(super) fn finish(&mut self, out: &mut Out) {
        let mark = std::mem::take(&mut self.mark);
        if !(self.is_after_call && self.format.closings.contains(&mark.as_str())) {
            mark.chars().for_each(|c| self.content(c, out));
        }
        if let Some(mut body) = self.body.take() {
            let before = out.calls();
            let is_call = body.finish(out);
            self.note_calls(out.calls() - before);
            let raw = std::mem::take(&mut self.raw);
            if !is_call {
                raw.chars().for_each(|c| self.content(c, out));
            }
        }
        // White space beside calls says nothing; that of a text is part of it.
        if self.calls == 0 {
            std::mem::take(&mut self.space).chars().for_each(|c| out.content(c));
        }
    }

    fn note_calls(&mut self, calls: usize) {
        if calls > 0 {
            self.calls += calls;
            self.space.clear();
            self.raw.clear();
            self.is_after_call = true;
            self.is_boundary = true;
        }
    }

    /// Finds out what of the beginning of a mark is one, and what is content.
    fn settle_mark(&mut self, out: &mut Out) {
        while !self.mark.is_empty() {
            let openings = self.format.openings.iter();
            let mut openings = openings.filter(|(_, kind)| *kind != Kind::FencedJson || !self.has_begun);
            if let Some((_, kind)) = openings.clone().find(|(opening, _)| *opening == self.mark) {
                self.body = Some(Body::new(*kind));
                self.raw = std::mem::take(&mut self.mark);
                return;
            }
            let mut closings = self.format.closings.iter().filter(|_| self.is_after_call);
            let mut begun = closings.clone().chain(openings.by_ref().map(|(opening, _)| opening));
            // The longer of two marks that begin alike is the one.
            if begun.any(|mark| mark.len() > self.mark.len() && mark.starts_with(&self.mark)) {
                return;
            }
            if let Some(closing) = closings.find(|closing| self.mark.starts_with(**closing)) {
                self.mark.drain(..closing.len());
                continue;
            }
            let first = self.mark.remove(0);
            self.content(first, out);
        }
    }

    fn content(&mut self, c: char, out: &mut Out) {
        if c.is_whitespace() {
            self.space.push(c);
            return;
        }
        if self.is_boundary {
            self.space.clear();
            if self.has_content {
                out.content('\n');
            }
        }
        for space in std::mem::take(&mut self.space).chars() {
            out.content(space);
        }
        self.is_boundary = false;
        self.is_after_call = false;
        self.has_begun = true;
        self.has_content = true;
        out.content(c);
    }
}

impl Body {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Json => Self::Json(JsonCalls::new(false)),
            Kind::FencedJson => Self::Json(JsonCalls::new(true)),
            Kind::JsonOrTagged => Self::JsonOrTagged(String::new()),
            Kind::Tagged => Self::Tagged(TaggedCall::new()),
            Kind::Mistral => Self::Mistral(MistralCall::Start),
            Kind::DeepSeekCalls => Self::DeepSeekCalls(String::new()),
            Kind::DeepSeek => Self::DeepSeek(DeepSeekCall::new()),
            Kind::Code => Self::Code(CodeScan::default(), String::new()),
            Kind::Gemma => Self::Gemma(String::new()),
        }
    }

    /// Whether a call was told of that has not ended.
    fn is_committed(&self) -> bool {
        match self {
            Self::Json(body) => body.is_committed(),
            Self::Tagged(body) => body.is_committed(),
            Self::Mistral(body) => body.is_committed(),
            Self::DeepSeek(body) => body.is_committed(),
            Self::JsonOrTagged(_) | Self::DeepSeekCalls(_) | Self::Code(..) | Self::Gemma(_) => false,
        }
    }

    fn step(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        match self {
            Self::Json(body) => body.step(c, tools, out),
            Self::Tagged(body) => body.step(c, tools, out),
            Self::Mistral(body) => body.step(c, tools, out),
            Self::DeepSeek(body) => body.step(c, out),
            Self::JsonOrTagged(begun) if begun.is_empty() && c.is_whitespace() => Fate::Going,
            Self::JsonOrTagged(begun) if begun.is_empty() && c != '<' => {
                *self = Self::Json(JsonCalls::new(false));
                self.step(c, tools, out)
            }
            Self::JsonOrTagged(begun) => {
                begun.push(c);
                if !FUNCTION.starts_with(begun.as_str()) {
                    begun.pop();
                    return Fate::Broken;
                }
                if begun == FUNCTION {
                    *self = Self::Tagged(TaggedCall::new());
                }
                Fate::Going
            }
            Self::DeepSeekCalls(begun) if begun.is_empty() && c.is_whitespace() => Fate::Going,
            Self::DeepSeekCalls(begun) => {
                begun.push(c);
                if !DEEPSEEK_CALL.starts_with(begun.as_str()) {
                    begun.pop();
                    return Fate::Broken;
                }
                if begun == DEEPSEEK_CALL {
                    *self = Self::DeepSeek(DeepSeekCall::new());
                }
                Fate::Going
            }
            Self::Code(scan, code) => {
                code.push(c);
                if !scan.step(c) {
                    return Fate::Going;
                }
                match tell(code::calls(&code[..code.len() - code::FENCE.len()]), out) {
                    true => Fate::Done,
                    false => Fate::Broken,
                }
            }
            Self::Gemma(text) => {
                text.push(c);
                match text.strip_suffix(gemma::END) {
                    None => Fate::Going,
                    Some(text) if tell(gemma::call(text).map(|call| vec![call]), out) => Fate::Done,
                    Some(_) => Fate::Broken,
                }
            }
        }
    }

    /// The end of the text. False: what has been read is no call.
    fn finish(&mut self, out: &mut Out) -> bool {
        match self {
            Self::Json(body) => body.may_end(),
            Self::Tagged(body) => body.finish(out),
            Self::Mistral(body) => body.may_end(),
            Self::DeepSeek(body) => body.is_committed(),
            Self::JsonOrTagged(_) | Self::DeepSeekCalls(_) => false,
            // The end of the turn may stand for the fence.
            Self::Code(_, code) => tell(code::calls(code), out),
            Self::Gemma(text) => tell(gemma::call(text).map(|call| vec![call]), out),
        }
    }
}

/// Tells of calls that were read as a whole. Whether there were any.
fn tell(calls: Option<Vec<(String, String)>>, out: &mut Out) -> bool {
    let Some(calls) = calls else { return false };
    for (name, arguments) in calls {
        out.call(name);
        arguments.chars().for_each(|c| out.argument(c));
    }
    true
}
