//! What a model thinks before it answers, told from the answer as it comes.
//!
//! A thought stands at the beginning of a message between the model's marks; where the prompt has opened it already,
//! the text begins within. Marks elsewhere are text, since a model may well write of them.

use super::reply::Out;
use super::tool_calls::CallReader;

/// The marks of a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThoughtMarks {
    open: &'static str,
    close: &'static str,
}

const USUAL: ThoughtMarks = ThoughtMarks { open: "<think>", close: "</think>" };
const MISTRAL: ThoughtMarks = ThoughtMarks { open: "[THINK]", close: "[/THINK]" };
const GEMMA: ThoughtMarks = ThoughtMarks { open: "<|channel>thought", close: "<channel|>" };

/// Tokens that open or close a thought. Some models make control tokens of them, which are no text otherwise.
pub(super) const MARKS: &[&str] = &[USUAL.open, USUAL.close, MISTRAL.open, MISTRAL.close, "<|channel>", GEMMA.close];

impl ThoughtMarks {
    /// The marks that a template tells, or else the usual ones.
    pub(super) fn of(template: &str) -> Self {
        [MISTRAL, GEMMA].into_iter().find(|marks| template.contains(marks.open)).unwrap_or(USUAL)
    }

    pub(super) fn open(self) -> &'static str {
        self.open
    }

    pub(super) fn close(self) -> &'static str {
        self.close
    }

    /// Whether a prompt ends with a thought that it has opened.
    pub(super) fn are_opened_by(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// Tells the thought from what follows it, which goes on to the calls' reader where there is one.
#[derive(Debug, Clone)]
pub(super) struct ThoughtReader {
    marks: ThoughtMarks,
    /// Whether the thought is given apart, without its marks; otherwise it stays in the text, where nothing in it is a
    /// call.
    is_separate: bool,
    is_opened: bool,
    at: At,
    /// The beginning of what may be a mark.
    mark: String,
    /// White space that is part of a thought only if more of it follows.
    space: String,
    has_thought: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Inside,
    /// After a thought that was given apart: the white space between it and the text is neither's.
    After,
    Outside,
}

impl ThoughtReader {
    pub(super) fn new(marks: ThoughtMarks, is_opened: bool, is_separate: bool) -> Self {
        Self {
            marks,
            is_separate,
            is_opened,
            at: At::Start,
            mark: String::new(),
            space: String::new(),
            has_thought: false,
        }
    }

    /// Whether the text so far ends within a thought that is given apart.
    pub(super) fn is_thinking(&self) -> bool {
        self.is_separate && (self.at == At::Inside || (self.at == At::Start && self.is_opened))
    }

    pub(super) fn undecided_bytes(&self) -> usize {
        self.mark.len() + self.space.len()
    }

    pub(super) fn step(&mut self, c: char, calls: &mut Option<CallReader>, out: &mut Out) {
        match self.at {
            At::Start if self.mark.is_empty() && c.is_whitespace() => self.space.push(c),
            At::Start => {
                self.mark.push(c);
                if self.mark == self.marks.open {
                    self.at = At::Inside;
                    let space = std::mem::take(&mut self.space);
                    let mark = std::mem::take(&mut self.mark);
                    if !self.is_separate {
                        space.chars().chain(mark.chars()).for_each(|c| verbatim(c, calls, out));
                    }
                } else if !self.marks.open.starts_with(&self.mark) {
                    self.at = if self.is_opened { At::Inside } else { At::Outside };
                    let begun = std::mem::take(&mut self.space) + &std::mem::take(&mut self.mark);
                    begun.chars().for_each(|c| self.step(c, calls, out));
                }
            }
            At::Inside => {
                self.mark.push(c);
                self.settle_mark(calls, out);
            }
            At::After if c.is_whitespace() => {}
            At::After => {
                self.at = At::Outside;
                answer(c, calls, out);
            }
            At::Outside => answer(c, calls, out),
        }
    }

    /// The end of the text. The calls' reader is to be ended after it.
    pub(super) fn finish(&mut self, calls: &mut Option<CallReader>, out: &mut Out) {
        let space = if self.at == At::Start { std::mem::take(&mut self.space) } else { String::new() };
        let rest = space + &std::mem::take(&mut self.mark);
        let is_thought = self.at == At::Inside || (self.at == At::Start && self.is_opened);
        for c in rest.chars() {
            match is_thought {
                true => self.thought(c, calls, out),
                false => answer(c, calls, out),
            }
        }
    }

    fn settle_mark(&mut self, calls: &mut Option<CallReader>, out: &mut Out) {
        while !self.mark.is_empty() {
            if self.mark == self.marks.close {
                let mark = std::mem::take(&mut self.mark);
                self.space.clear();
                self.at = if self.is_separate { At::After } else { At::Outside };
                if !self.is_separate {
                    mark.chars().for_each(|c| verbatim(c, calls, out));
                }
                return;
            }
            if self.marks.close.starts_with(&self.mark) {
                return;
            }
            let first = self.mark.remove(0);
            self.thought(first, calls, out);
        }
    }

    fn thought(&mut self, c: char, calls: &mut Option<CallReader>, out: &mut Out) {
        if !self.is_separate {
            verbatim(c, calls, out);
        } else if c.is_whitespace() {
            self.space.push(c);
        } else {
            let space = std::mem::take(&mut self.space);
            if self.has_thought {
                space.chars().for_each(|c| out.reasoning(c));
            }
            self.has_thought = true;
            out.reasoning(c);
        }
    }
}

fn answer(c: char, calls: &mut Option<CallReader>, out: &mut Out) {
    match calls {
        Some(calls) => calls.step(c, out),
        None => out.content(c),
    }
}

fn verbatim(c: char, calls: &mut Option<CallReader>, out: &mut Out) {
    match calls {
        Some(calls) => calls.verbatim(c, out),
        None => out.content(c),
    }
}
