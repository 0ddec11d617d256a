//! From the text that a model writes to the message that a client reads: thoughts, content and tool calls, told apart
//! as the text comes. However it is cut into pieces, the same message comes of it, streamed or whole.

use std::sync::Arc;

use super::reasoning::{ThoughtMarks, ThoughtReader};
use super::tool_calls::{CallReader, OfferedTool, ToolFormat};

/// How the texts of a job are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The tools that were offered and how the model calls them; `None` where there are none.
    pub(super) tools: Option<(ToolFormat, Arc<[OfferedTool]>)>,
    pub(super) marks: ThoughtMarks,
    /// Whether the prompt has opened a thought.
    pub(super) is_thought_opened: bool,
    /// Whether thoughts are given apart.
    pub(super) separates_thoughts: bool,
}

impl Reading {
    /// Whether the template takes earlier calls only under ids of nine characters.
    pub(super) fn wants_short_ids(&self) -> bool {
        self.tools.as_ref().is_some_and(|(format, _)| format.wants_short_ids())
    }
}

/// A part of a message, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Reasoning(String),
    Content(String),
    /// A call of this name begins.
    Call(String),
    /// The arguments of the last call go on.
    Arguments(String),
}

/// Takes what has become certain.
#[derive(Debug, Clone, Default)]
pub(super) struct Out {
    pieces: Vec<Piece>,
    calls: usize,
}

impl Out {
    pub(super) fn reasoning(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Reasoning(text)) => text.push(c),
            _ => self.pieces.push(Piece::Reasoning(c.into())),
        }
    }

    pub(super) fn content(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Content(text)) => text.push(c),
            _ => self.pieces.push(Piece::Content(c.into())),
        }
    }

    pub(super) fn call(&mut self, name: String) {
        self.calls += 1;
        self.pieces.push(Piece::Call(name));
    }

    pub(super) fn argument(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Arguments(text)) => text.push(c),
            _ => self.pieces.push(Piece::Arguments(c.into())),
        }
    }

    /// Calls that were told of so far.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }
}

/// Reads one message.
#[derive(Debug, Clone)]
pub(super) struct ReplyReader {
    /// `None` where all of it is content.
    thoughts: Option<ThoughtReader>,
    calls: Option<CallReader>,
    out: Out,
    read_bytes: usize,
}

impl ReplyReader {
    /// Without a way to read it, all of a text is content.
    pub(super) fn new(reading: Option<&Reading>) -> Self {
        let needed = reading.filter(|reading| reading.separates_thoughts || reading.tools.is_some());
        let thoughts = |Reading { marks, is_thought_opened, separates_thoughts, .. }: &Reading| {
            ThoughtReader::new(*marks, *is_thought_opened, *separates_thoughts)
        };
        let tools = needed.and_then(|reading| reading.tools.as_ref());
        Self {
            thoughts: needed.map(thoughts),
            calls: tools.map(|(format, tools)| CallReader::new(format.clone(), tools.clone())),
            out: Out::default(),
            read_bytes: 0,
        }
    }

    /// Reads on, and gives what has become certain.
    pub(super) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.read_bytes += text.len();
        let Some(thoughts) = &mut self.thoughts else {
            return if text.is_empty() { Vec::new() } else { vec![Piece::Content(text.to_owned())] };
        };
        for c in text.chars() {
            thoughts.step(c, &mut self.calls, &mut self.out);
        }
        std::mem::take(&mut self.out.pieces)
    }

    /// The end of the text: gives the rest.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
        if let Some(thoughts) = &mut self.thoughts {
            thoughts.finish(&mut self.calls, &mut self.out);
        }
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut self.out);
        }
        std::mem::take(&mut self.out.pieces)
    }

    /// Bytes that were read.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Bytes that were read and of which it is certain what they are.
    pub(super) fn decided_bytes(&self) -> usize {
        let thoughts = self.thoughts.as_ref().map_or(0, ThoughtReader::undecided_bytes);
        let calls = self.calls.as_ref().map_or(0, CallReader::undecided_bytes);
        self.read_bytes.saturating_sub(thoughts + calls)
    }

    /// Whether the text so far ends within a thought that is given apart.
    pub(super) fn is_thinking(&self) -> bool {
        self.thoughts.as_ref().is_some_and(ThoughtReader::is_thinking)
    }
}
