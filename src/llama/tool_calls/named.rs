//! Calls whose name stands before the arguments, between marks of its own: Mistral's `[TOOL_CALLS]name[ARGS]{…}` and
//! DeepSeek's `<｜tool▁call▁begin｜>name<｜tool▁sep｜>{…}`, with or without a type and a fence.

use super::json_call::{JsonCalls, ValueScan};
use super::{Fate, LONGEST_NAME, OfferedTool, Out};

/// What follows `[TOOL_CALLS]`: a list of JSON, or a name with its arguments.
#[derive(Debug, Clone)]
pub(super) enum MistralCall {
    Start,
    List(JsonCalls),
    Name(String),
    /// Between the name and its arguments.
    Named(String),
    Arguments(ValueScan),
}

const ARGS: &str = "[ARGS]";
const CALL_ID: &str = "[CALL_ID]";

impl MistralCall {
    pub(super) fn is_committed(&self) -> bool {
        match self {
            Self::List(list) => list.is_committed(),
            Self::Arguments(_) => true,
            _ => false,
        }
    }

    pub(super) fn may_end(&self) -> bool {
        match self {
            Self::List(list) => list.may_end(),
            other => other.is_committed(),
        }
    }

    pub(super) fn step(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        match self {
            Self::Start if c.is_whitespace() => Fate::Going,
            Self::Start if c == '[' || c == '{' => {
                *self = Self::List(JsonCalls::new(false));
                self.step(c, tools, out)
            }
            Self::Start => {
                *self = Self::Name(String::new());
                self.step(c, tools, out)
            }
            Self::List(list) => list.step(c, tools, out),
            Self::Name(head) => {
                let name_of = |head: &str| head.split('[').next().unwrap_or_default().trim().to_owned();
                if c == '{' {
                    let name = name_of(head);
                    return self.begin(name, out);
                }
                if c.is_whitespace() || matches!(c, '"' | '<' | '(') || head.len() > LONGEST_NAME {
                    return Fate::Broken;
                }
                head.push(c);
                // A bracket can only begin one of the two marks.
                let marks = head.find('[').map_or("", |start| &head[start..]);
                if !(CALL_ID.starts_with(marks) || marks.starts_with(CALL_ID) || ARGS.starts_with(marks)) {
                    head.pop();
                    return Fate::Broken;
                }
                if head.ends_with(ARGS) {
                    let name = name_of(head);
                    *self = Self::Named(name);
                }
                Fate::Going
            }
            Self::Named(_) if c.is_whitespace() => Fate::Going,
            Self::Named(name) if c == '{' => {
                let name = std::mem::take(name);
                self.begin(name, out)
            }
            Self::Arguments(scan) => {
                out.argument(c);
                if scan.step(c) { Fate::Done } else { Fate::Going }
            }
            Self::Named(_) => Fate::Broken,
        }
    }

    fn begin(&mut self, name: String, out: &mut Out) -> Fate {
        if name.is_empty() {
            return Fate::Broken;
        }
        out.call(name);
        out.argument('{');
        let mut scan = ValueScan::default();
        scan.step('{');
        *self = Self::Arguments(scan);
        Fate::Going
    }
}

/// What follows `<｜tool▁call▁begin｜>`.
#[derive(Debug, Clone)]
pub(super) enum DeepSeekCall {
    /// The name, or the type of what is called, until the mark.
    Head(String),
    /// After the mark: the arguments, or the name where the head was a type.
    AfterMark {
        head: String,
        name: String,
    },
    /// The fence before the arguments.
    Fence(String),
    Arguments(ValueScan),
    /// The fence after them.
    After,
}

pub(super) const DEEPSEEK_MARK: &str = "<｜tool▁sep｜>";

impl DeepSeekCall {
    pub(super) fn new() -> Self {
        Self::Head(String::new())
    }

    pub(super) fn is_committed(&self) -> bool {
        matches!(self, Self::Arguments(_) | Self::After)
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out) -> Fate {
        match self {
            Self::Head(head) => {
                if c == '\n' || head.len() > LONGEST_NAME {
                    return Fate::Broken;
                }
                head.push(c);
                if let Some(head) = head.strip_suffix(DEEPSEEK_MARK) {
                    *self = Self::AfterMark { head: head.trim().to_owned(), name: String::new() };
                }
                Fate::Going
            }
            Self::AfterMark { head, name } => match c {
                '{' if name.trim().is_empty() => {
                    let head = std::mem::take(head);
                    self.begin(head, out)
                }
                '\n' if name.trim().is_empty() => Fate::Going,
                '\n' => {
                    let name = name.trim().to_owned();
                    *self = Self::Fence(name);
                    Fate::Going
                }
                '<' | '"' => Fate::Broken,
                _ if name.len() > LONGEST_NAME => Fate::Broken,
                c => {
                    name.push(c);
                    Fate::Going
                }
            },
            Self::Fence(name) => match c {
                '{' => {
                    let name = std::mem::take(name);
                    self.begin(name, out)
                }
                '`' | 'j' | 's' | 'o' | 'n' | '\n' | ' ' => Fate::Going,
                _ => Fate::Broken,
            },
            Self::Arguments(scan) => {
                out.argument(c);
                if scan.step(c) {
                    *self = Self::After;
                }
                Fate::Going
            }
            Self::After if c.is_whitespace() || c == '`' => Fate::Going,
            Self::After => Fate::Broken,
        }
    }

    fn begin(&mut self, name: String, out: &mut Out) -> Fate {
        if name.is_empty() {
            return Fate::Broken;
        }
        out.call(name);
        out.argument('{');
        let mut scan = ValueScan::default();
        scan.step('{');
        *self = Self::Arguments(scan);
        Fate::Going
    }
}
