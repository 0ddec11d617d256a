//! Calls written as Python in a fence, as Gemma is asked to: `name(argument=value)`, several if need be, in a list or
//! within `print` or not. A fence is read when it has ended.

use serde_json::{Map, Value as Json};

/// The calls of the code, with their arguments as JSON. `None`: it is anything but calls.
pub(super) fn calls(code: &str) -> Option<Vec<(String, String)>> {
    let code = code.trim();
    if code.starts_with('{') || code.starts_with("[{") {
        return json_calls(code);
    }
    let mut reader = Reader { rest: code, depth: 0 };
    let in_list = reader.take('[');
    let mut calls = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest.is_empty() || (in_list && reader.rest.starts_with(']')) {
            break;
        }
        let is_printed = reader.rest.strip_prefix("print").is_some_and(|rest| rest.trim_start().starts_with('('));
        if is_printed {
            reader.rest = &reader.rest["print".len()..];
            reader.expect('(')?;
        }
        calls.push(reader.call()?);
        if is_printed {
            reader.expect(')')?;
        }
        let _ = reader.take(',') || reader.take(';');
    }
    if in_list {
        reader.expect(']')?;
    }
    reader.skip_space();
    (reader.rest.is_empty() && !calls.is_empty()).then_some(calls)
}

fn json_calls(code: &str) -> Option<Vec<(String, String)>> {
    let calls = match serde_json::from_str(code).ok()? {
        Json::Array(calls) => calls,
        call => vec![call],
    };
    let call = |call: &Json| {
        let arguments = call.get("arguments").or_else(|| call.get("parameters"));
        let arguments = arguments.cloned().unwrap_or_else(|| Map::new().into());
        let name = call.get("name")?.as_str().filter(|name| !name.is_empty())?;
        arguments.is_object().then(|| (name.to_owned(), arguments.to_string()))
    };
    calls.iter().map(call).collect::<Option<Vec<_>>>().filter(|calls| !calls.is_empty())
}

/// How deep lists and objects may be nested.
const DEEPEST: usize = 64;

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        let after = self.rest.strip_prefix(c);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn expect(&mut self, c: char) -> Option<()> {
        self.take(c).then_some(())
    }

    fn word(&mut self, more: &str) -> Option<String> {
        self.skip_space();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || more.contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }

    fn call(&mut self) -> Option<(String, String)> {
        let name = self.word(".-")?;
        self.expect('(')?;
        let mut arguments = Map::new();
        while !self.take(')') {
            let key = self.word("")?;
            self.expect('=')?;
            arguments.insert(key, self.value()?);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Some((name, Json::Object(arguments).to_string()))
    }

    fn value(&mut self) -> Option<Json> {
        self.skip_space();
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = match self.rest.chars().next()? {
            '"' | '\'' => Json::String(self.string()?),
            '[' => self.list(']')?,
            '(' => self.list(')')?,
            '{' => self.object()?,
            _ => {
                let word = self.word("+-.")?;
                match word.as_str() {
                    "True" | "true" => Json::Bool(true),
                    "False" | "false" => Json::Bool(false),
                    "None" | "null" => Json::Null,
                    number => serde_json::from_str::<Json>(number).ok().filter(Json::is_number)?,
                }
            }
        };
        self.depth -= 1;
        Some(value)
    }

    fn list(&mut self, close: char) -> Option<Json> {
        self.rest = &self.rest[1..];
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.value()?);
            if !self.take(',') {
                self.expect(close)?;
                break;
            }
        }
        Some(items.into())
    }

    fn object(&mut self) -> Option<Json> {
        self.rest = &self.rest[1..];
        let mut fields = Map::new();
        while !self.take('}') {
            self.skip_space();
            let key = self.string()?;
            self.expect(':')?;
            fields.insert(key, self.value()?);
            if !self.take(',') {
                self.expect('}')?;
                break;
            }
        }
        Some(fields.into())
    }

    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next().filter(|(_, c)| matches!(c, '"' | '\''))?;
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    '\n' => {}
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    other => text.extend(['\\', other]),
                },
                c if c == quote => {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }
}

/// Follows code up to the fence that ends it: one within a string does not.
#[derive(Debug, Clone, Default)]
pub(super) struct CodeScan {
    quote: Option<char>,
    is_escaped: bool,
    backticks: usize,
}

impl CodeScan {
    /// Takes the next character. True: the fence is complete.
    pub(super) fn step(&mut self, c: char) -> bool {
        match self.quote {
            Some(_) if self.is_escaped => self.is_escaped = false,
            Some(_) if c == '\\' => self.is_escaped = true,
            // A string ends with its line at the latest.
            Some(quote) if c == quote || c == '\n' => self.quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => self.quote = Some(c),
            None => {}
        }
        self.backticks = if c == '`' && self.quote.is_none() { self.backticks + 1 } else { 0 };
        self.backticks == FENCE.len()
    }
}

pub(super) const FENCE: &str = "```";
