//! Calls as Gemma 4 writes them: `<|tool_call>call:name{key:value}<tool_call|>`, with bare keys and strings between marks
//! of their own. A call is read when it has ended.

use serde_json::{Map, Value as Json};

pub(super) const CALL: &str = "<|tool_call>";
pub(super) const END: &str = "<tool_call|>";
pub(super) const QUOTE: &str = "<|\"|>";

/// How deep lists and objects may be nested.
const DEEPEST: usize = 64;

/// The name and the arguments, as JSON, of what stands between the marks. `None`: it is no call.
pub(super) fn call(text: &str) -> Option<(String, String)> {
    let (name, arguments) = text.trim().strip_prefix("call:")?.split_once('{')?;
    let name = name.trim();
    let is_name = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "<>\"".contains(c));
    let mut reader = Reader { rest: arguments, depth: 0 };
    let arguments = reader.object()?;
    reader.skip_space();
    (is_name(name) && reader.rest.is_empty()).then(|| (name.to_owned(), arguments.to_string()))
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, mark: &str) -> bool {
        self.skip_space();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// The rest of an object, after its brace.
    fn object(&mut self) -> Option<Json> {
        let mut fields = Map::new();
        while !self.take("}") {
            let key = match self.take(QUOTE) {
                true => self.up_to(QUOTE)?,
                false => self.word(&[':', '{', '}', '[', ']', ','])?,
            };
            self.take(":").then_some(())?;
            fields.insert(key, self.value()?);
            if !self.take(",") {
                self.take("}").then_some(())?;
                break;
            }
        }
        Some(fields.into())
    }

    /// The rest of a list, after its bracket.
    fn list(&mut self) -> Option<Json> {
        let mut items = Vec::new();
        while !self.take("]") {
            items.push(self.value()?);
            if !self.take(",") {
                self.take("]").then_some(())?;
                break;
            }
        }
        Some(items.into())
    }

    fn value(&mut self) -> Option<Json> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = if self.take(QUOTE) {
            Json::String(self.up_to(QUOTE)?)
        } else if self.take("{") {
            self.object()?
        } else if self.take("[") {
            self.list()?
        } else {
            match self.word(&[',', '}', ']', '{', '['])?.as_str() {
                "true" | "True" => Json::Bool(true),
                "false" | "False" => Json::Bool(false),
                "null" | "None" => Json::Null,
                number => serde_json::from_str::<Json>(number).ok().filter(Json::is_number)?,
            }
        };
        self.depth -= 1;
        Some(value)
    }

    fn up_to(&mut self, mark: &str) -> Option<String> {
        let (text, rest) = self.rest.split_once(mark)?;
        self.rest = rest;
        Some(text.to_owned())
    }

    fn word(&mut self, ends: &[char]) -> Option<String> {
        let end = self.rest.find(ends)?;
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let word = word.trim();
        (!word.is_empty()).then(|| word.to_owned())
    }
}
