//! Calls between tags: `<function=name>` with a JSON object (Llama 3.1) or with `<parameter=name>` for each argument
//! (Qwen3-Coder), up to `</function>`.

use serde_json::Value as Json;

use super::json_call::ValueScan;
use super::{Fate, LONGEST_NAME, OfferedTool, Out};

/// What follows `<function=`.
#[derive(Debug, Clone)]
pub(super) struct TaggedCall {
    at: At,
    /// What has been read of the tag, the name or the value at hand.
    text: String,
    name: String,
    parameter: String,
    scan: ValueScan,
    is_committed: bool,
    arguments: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Name,
    Body,
    Tag,
    ParameterName,
    ParameterValue,
    Json,
    AfterJson,
}

const PARAMETER: &str = "<parameter=";
const END_OF_PARAMETER: &str = "</parameter>";
const END: &str = "</function>";

impl TaggedCall {
    pub(super) fn new() -> Self {
        Self {
            at: At::Name,
            text: String::new(),
            name: String::new(),
            parameter: String::new(),
            scan: ValueScan::default(),
            is_committed: false,
            arguments: 0,
        }
    }

    pub(super) fn is_committed(&self) -> bool {
        self.is_committed
    }

    pub(super) fn step(&mut self, c: char, tools: &[OfferedTool], out: &mut Out) -> Fate {
        match self.at {
            At::Name | At::ParameterName => {
                if c != '>' {
                    if matches!(c, '\n' | '<') || self.text.len() > LONGEST_NAME {
                        return self.broken(out);
                    }
                    self.text.push(c);
                    return Fate::Going;
                }
                let name = std::mem::take(&mut self.text).trim().trim_matches('"').to_owned();
                if name.is_empty() {
                    return self.broken(out);
                }
                if self.at == At::Name {
                    self.name = name;
                    self.at = At::Body;
                } else {
                    self.parameter = name;
                    self.at = At::ParameterValue;
                }
                Fate::Going
            }
            At::Body if c.is_whitespace() => Fate::Going,
            At::Body if c == '{' && !self.is_committed => {
                self.commit(out);
                out.argument('{');
                self.scan.step('{');
                self.at = At::Json;
                Fate::Going
            }
            At::Body if c == '<' => {
                self.text = "<".into();
                self.at = At::Tag;
                Fate::Going
            }
            At::Body => self.broken(out),
            At::Tag => {
                self.text.push(c);
                if self.text == END {
                    self.commit(out);
                    self.close(out);
                    return Fate::Done;
                }
                if self.text == PARAMETER {
                    self.text.clear();
                    self.commit(out);
                    self.at = At::ParameterName;
                    return Fate::Going;
                }
                if END.starts_with(&self.text) || PARAMETER.starts_with(&self.text) {
                    return Fate::Going;
                }
                self.broken(out)
            }
            At::ParameterValue => {
                self.text.push(c);
                if self.text.ends_with(END_OF_PARAMETER) {
                    self.text.truncate(self.text.len() - END_OF_PARAMETER.len());
                    self.argument(tools, out);
                    self.at = At::Body;
                }
                Fate::Going
            }
            At::Json => {
                out.argument(c);
                if self.scan.step(c) {
                    self.text.clear();
                    self.at = At::AfterJson;
                }
                Fate::Going
            }
            At::AfterJson => {
                if self.text.is_empty() && c.is_whitespace() {
                    return Fate::Going;
                }
                self.text.push(c);
                match END.starts_with(&self.text) {
                    true if self.text == END => Fate::Done,
                    true => Fate::Going,
                    false => Fate::Broken,
                }
            }
        }
    }

    /// The end of the text: whether the call was told of. One that was cut off in the midst of an argument lacks it.
    pub(super) fn finish(&mut self, out: &mut Out) -> bool {
        if self.is_committed && matches!(self.at, At::Body | At::Tag) {
            self.close(out);
        }
        self.is_committed
    }

    fn commit(&mut self, out: &mut Out) {
        if !self.is_committed {
            self.is_committed = true;
            out.call(self.name.clone());
        }
    }

    fn argument(&mut self, tools: &[OfferedTool], out: &mut Out) {
        let value = std::mem::take(&mut self.text);
        let value = value.strip_prefix('\n').unwrap_or(&value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        let schema = tools.iter().find(|tool| tool.name == self.name).and_then(|tool| tool.parameters.as_ref());
        let schema = schema.and_then(|schema| schema.get("properties")?.get(&self.parameter));
        let value = typed(value, schema.and_then(|schema| schema.get("type")));
        let text = format!("{}{}: {value}", if self.arguments == 0 { "{" } else { ", " }, quoted(&self.parameter));
        text.chars().for_each(|c| out.argument(c));
        self.arguments += 1;
    }

    fn close(&mut self, out: &mut Out) {
        (if self.arguments == 0 { "{}" } else { "}" }).chars().for_each(|c| out.argument(c));
    }

    /// A call that was told of ends here, with the arguments that it has.
    fn broken(&mut self, out: &mut Out) -> Fate {
        if self.is_committed {
            self.close(out);
        }
        Fate::Broken
    }
}

/// A value without quotes as JSON: a string, unless the tool's schema says that it is something else and it is.
fn typed(value: &str, kind: Option<&Json>) -> String {
    let names_string = |kind: &Json| kind.as_str() == Some("string");
    let is_string = match kind {
        None => true,
        Some(Json::Array(kinds)) => kinds.iter().all(names_string),
        Some(kind) => names_string(kind),
    };
    if is_string {
        return quoted(value);
    }
    match value.trim() {
        "True" => "true".into(),
        "False" => "false".into(),
        "None" => "null".into(),
        trimmed if serde_json::from_str::<&serde_json::value::RawValue>(trimmed).is_ok() => trimmed.into(),
        _ => quoted(value),
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("strings always serialise")
}
