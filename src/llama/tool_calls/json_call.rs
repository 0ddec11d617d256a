//! Calls written as JSON: `{"name": …, "arguments": {…}}`, or a list of such. The arguments are passed on as they come.

use super::{Fate, OfferedTool, Out};

/// Follows a JSON value from its first character to its last, by brackets and strings alone: what a model writes
/// between them is the client's to check, as it is with every provider.
#[derive(Debug, Clone, Default)]
pub(super) struct ValueScan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ValueScan {
    /// Takes the next character of an object, a list or a string. True: it was the last.
    pub(super) fn step(&mut self, c: char) -> bool {
        if self.in_string {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' => self.escaped = true,
                '"' => self.in_string = false,
                _ => {}
            }
        } else {
            match c {
                '"' => self.in_string = true,
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.depth == 0 && !self.in_string
    }
}

/// One call or a list of them.
#[derive(Debug, Clone)]
pub(super) struct JsonCalls {
    at: At,
    in_list: bool,
    /// A call to a tool that was not offered is none: what is not marked as a call may be the answer that was asked.
    only_offered: bool,
    key: String,
    /// The string that is being read, with its quotes.
    literal: String,
    scan: ValueScan,
    name: Option<String>,
    /// Arguments that came before the name.
    held: Option<String>,
    is_committed: bool,
    /// Whether the call stands within `"function": {…}`.
    is_nested: bool,
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Start,
    Element,
    Key,
    KeyText,
    Colon,
    Value,
    Name,
    Arguments,
    HeldArguments,
    ArgumentsText,
    Other,
    Scalar,
    AfterValue,
    BetweenElements,
}

impl JsonCalls {
    pub(super) fn new(only_offered: bool) -> Self {
        Self {
            at: At::Start,
            in_list: false,
            only_offered,
            key: String::new(),
            literal: String::new(),
            scan: ValueScan::default(),
            name: None,
            held: None,
            is_committed: false,
            is_nested: false,
            calls: 0,
        }
    }

    /// Whether a call has been told of whose end has not come.
    pub(super) fn is_committed(&self) -> bool {
        self.is_committed
    }

    pub(super) fn step(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        let is_space = c.is_ascii_whitespace();
        match self.at {
            At::Start if is_space => Fate::Going,
            At::Start if c == '[' => {
                self.in_list = true;
                self.go(At::Element)
            }
            At::Start | At::Element if c == '{' => self.go(At::Key),
            At::Element if is_space => Fate::Going,
            At::Element if c == ']' && self.calls > 0 => Fate::Done,
            At::Key if is_space => Fate::Going,
            At::Key if c == '"' => self.begin_literal(At::KeyText),
            At::Key if c == '}' => self.end_object(tools, out),
            At::Colon if is_space => Fate::Going,
            At::Colon if c == ':' => self.go(At::Value),
            At::Value if is_space => Fate::Going,
            At::Value => self.begin_value(c, tools, out),
            At::KeyText | At::Name | At::ArgumentsText => self.continue_literal(c, tools, out),
            At::Arguments => {
                out.argument(c);
                self.scan_to(c, At::AfterValue)
            }
            At::HeldArguments => {
                self.held.get_or_insert_default().push(c);
                self.scan_to(c, At::AfterValue)
            }
            At::Other => self.scan_to(c, At::AfterValue),
            At::Scalar if is_space || matches!(c, ',' | '}' | ']') => {
                self.at = At::AfterValue;
                self.step(c, tools, out)
            }
            At::Scalar if c.is_ascii_alphanumeric() || "+-.".contains(c) => Fate::Going,
            At::AfterValue if is_space => Fate::Going,
            At::AfterValue if c == ',' => self.go(At::Key),
            At::AfterValue if c == '}' => self.end_object(tools, out),
            At::BetweenElements if is_space => Fate::Going,
            At::BetweenElements if c == ',' => self.go(At::Element),
            At::BetweenElements if c == ']' => Fate::Done,
            _ => Fate::Broken,
        }
    }

    /// Whether the text may end here: no call has begun that was not told of.
    pub(super) fn may_end(&self) -> bool {
        self.is_committed || self.at == At::BetweenElements || (self.at == At::Element && self.calls > 0)
    }

    fn go(&mut self, at: At) -> Fate {
        self.at = at;
        Fate::Going
    }

    fn scan_to(&mut self, c: char, after: At) -> Fate {
        if self.scan.step(c) {
            self.at = after;
        }
        Fate::Going
    }

    fn begin_literal(&mut self, at: At) -> Fate {
        self.literal.clear();
        self.literal.push('"');
        self.scan = ValueScan::default();
        self.scan.step('"');
        self.go(at)
    }

    fn begin_value(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        let is_told = self.is_committed;
        match (self.key.as_str(), c) {
            ("name" | "function", '"') if !is_told => self.begin_literal(At::Name),
            ("function", '{') if !is_told && !self.is_nested => {
                self.is_nested = true;
                self.go(At::Key)
            }
            ("name", _) if !is_told => Fate::Broken,
            ("arguments" | "parameters", '"') if !is_told => self.begin_literal(At::ArgumentsText),
            ("arguments" | "parameters", '{') if !is_told => {
                self.scan = ValueScan::default();
                self.scan.step(c);
                match self.name.is_some() {
                    true if !self.commit(tools, out) => Fate::Broken,
                    true => {
                        out.argument(c);
                        self.go(At::Arguments)
                    }
                    false => {
                        self.held = Some("{".into());
                        self.go(At::HeldArguments)
                    }
                }
            }
            ("arguments" | "parameters", 'n') if !is_told => self.go(At::Scalar),
            ("arguments" | "parameters", _) if !is_told => Fate::Broken,
            (_, '"' | '{' | '[') => {
                self.scan = ValueScan::default();
                self.scan.step(c);
                self.go(At::Other)
            }
            (_, c) if c.is_ascii_alphanumeric() || c == '-' => self.go(At::Scalar),
            _ => Fate::Broken,
        }
    }

    fn continue_literal(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        self.literal.push(c);
        if !self.scan.step(c) {
            return Fate::Going;
        }
        let Ok(text) = serde_json::from_str::<String>(&self.literal) else { return Fate::Broken };
        match self.at {
            At::KeyText => {
                self.key = text;
                return self.go(At::Colon);
            }
            At::Name if text.is_empty() => return Fate::Broken,
            At::Name => self.name = Some(text),
            _ => self.held = Some(text),
        }
        self.at = At::AfterValue;
        if self.name.is_some() && self.held.is_some() && !self.commit(tools, out) {
            return Fate::Broken;
        }
        Fate::Going
    }

    /// Tells of the call. False: it is one that must not be.
    fn commit(&mut self, tools: &[OfferedTool], out: &mut Out) -> bool {
        let Some(name) = self.name.take() else { return false };
        if self.only_offered && !tools.iter().any(|tool| tool.name == name) {
            return false;
        }
        out.call(name);
        for c in self.held.take().iter().flat_map(|text| text.chars()) {
            out.argument(c);
        }
        self.is_committed = true;
        self.calls += 1;
        true
    }

    fn end_object(&mut self, tools: &[OfferedTool], out: &mut Out) -> Fate {
        if self.is_nested {
            self.is_nested = false;
            return self.go(At::AfterValue);
        }
        if !self.is_committed {
            self.held.get_or_insert_with(|| "{}".into());
            if !self.commit(tools, out) {
                return Fate::Broken;
            }
        }
        self.is_committed = false;
        (self.name, self.held) = (None, None);
        if !self.in_list {
            return Fate::Done;
        }
        self.go(At::BetweenElements)
    }
}
