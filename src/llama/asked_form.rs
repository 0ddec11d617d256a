//! Which form a prompt asks its answer to have: `response_format`, `grammar`, `regex`, or a tool that must be called.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::grammar::{Compiled, Form, Grammars};
use super::vocabulary::Vocabulary;
use crate::completion::{Prompt, Tool};
use crate::failure::{Failure, FailureKind};

/// A form, and the parameter that asks for it.
#[derive(Debug, PartialEq)]
pub(super) struct AskedForm {
    pub(super) param: &'static str,
    pub(super) form: Form,
    /// The answer is a call: an object of a tool's name and arguments, read by [`read_call`].
    pub(super) is_call: bool,
}

impl AskedForm {
    /// Compiles it, with grammars that are made for the first one: a large vocabulary takes a second.
    ///
    /// # Errors
    ///
    /// Why it cannot be kept, by the parameter that asks for it.
    pub(super) fn compile(&self, grammars: &OnceLock<Grammars>, vocabulary: &Vocabulary) -> Result<Compiled, Failure> {
        let grammars = match grammars.get() {
            Some(grammars) => grammars,
            None => {
                let (texts, ends) = vocabulary.texts();
                let made = Grammars::new(&texts, &ends)
                    .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
                grammars.get_or_init(|| made)
            }
        };
        let refused = |error| Failure::invalid_param(self.param, format!("`{}`: {error}", self.param));
        grammars.compile(&self.form).map_err(refused)
    }
}

/// What `tool_choice` says.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    Auto,
    Never,
    /// One of these must be called.
    Forced(Vec<String>),
}

const RESPONSE_FORMAT: &str = "response_format";
const TOOL_CHOICE: &str = "tool_choice";
/// The fields that name a form and are no part of OpenAI's API.
pub(super) const GRAMMAR: &str = "grammar";
pub(super) const REGEX: &str = "regex";

/// Whether the prompt may ask for a form, which takes time to compile.
pub(super) fn may_ask(prompt: &Prompt) -> bool {
    let names = [GRAMMAR, REGEX, RESPONSE_FORMAT];
    prompt.response_format.is_some()
        || prompt.tool_choice.is_some()
        || names.iter().any(|name| prompt.passthrough.contains_key(*name))
}

/// The form that the prompt asks for, if any.
///
/// # Errors
///
/// The parameter at fault, by name; and where two forms are asked for, or one beside tools that may be called or not.
pub(super) fn read(prompt: &Prompt, choice: &Choice) -> Result<Option<AskedForm>, Failure> {
    let mut asked = Vec::new();
    let format = prompt.response_format.as_ref().or_else(|| prompt.passthrough.get(RESPONSE_FORMAT));
    if let Some(form) = format.map(|format| of_format(format)).transpose()?.flatten() {
        asked.push(AskedForm { param: RESPONSE_FORMAT, form, is_call: false });
    }
    let text =
        |name: &str| match prompt.passthrough.get(name).map(|raw| serde_json::from_str::<Option<String>>(raw.get())) {
            Some(Err(_)) => Err(Failure::invalid_param(name, format!("`{name}` must be a string"))),
            Some(Ok(text)) => Ok(text),
            None => Ok(None),
        };
    if let Some(grammar) = text(GRAMMAR)? {
        asked.push(AskedForm { param: GRAMMAR, form: Form::Grammar(grammar), is_call: false });
    }
    if let Some(regex) = text(REGEX)? {
        asked.push(AskedForm { param: REGEX, form: Form::Regex(regex), is_call: false });
    }
    if let (Some(first), Choice::Auto) = (asked.first(), choice)
        && !prompt.tools.is_empty()
    {
        let message = format!(
            "`{}` and `tools` cannot go together in the in-process engine: send `tool_choice` `none` or leave out one",
            first.param
        );
        return Err(Failure::invalid_param(first.param, message));
    }
    if let Choice::Forced(names) = choice {
        asked.push(AskedForm { param: TOOL_CHOICE, form: of_calls(&prompt.tools, names), is_call: true });
    }
    if let [first, second, ..] = &asked[..] {
        let message = format!("`{}` and `{}` cannot both be kept: leave out one", first.param, second.param);
        return Err(Failure::invalid_param(first.param, message));
    }
    Ok(asked.pop())
}

/// Reads `tool_choice`.
///
/// # Errors
///
/// When it is none of OpenAI's, or names what is not offered.
pub(super) fn read_choice(prompt: &Prompt) -> Result<Choice, Failure> {
    let Some(raw) = &prompt.tool_choice else { return Ok(Choice::Auto) };
    let refused = |message: String| Err(Failure::invalid_param(TOOL_CHOICE, message));
    let offered: Vec<String> = prompt.tools.iter().filter_map(|tool| tool.name.clone()).collect();
    match serde_json::from_str(raw.get()).unwrap_or_default() {
        Json::Null => Ok(Choice::Auto),
        Json::String(word) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::Never),
            "required" if offered.is_empty() => refused("`tool_choice` `required` needs functions in `tools`".into()),
            "required" => Ok(Choice::Forced(offered)),
            _ => refused("`tool_choice` must be `none`, `auto`, `required` or a function".into()),
        },
        choice => match choice["function"]["name"].as_str() {
            Some(name) if choice["type"] == "function" && offered.iter().any(|it| it == name) => {
                Ok(Choice::Forced(vec![name.to_owned()]))
            }
            Some(name) if choice["type"] == "function" => {
                refused(format!("`tool_choice` names the function `{name}`, which `tools` does not offer"))
            }
            _ => Err(Failure {
                kind: FailureKind::NotSupported,
                ..Failure::invalid_param(
                    TOOL_CHOICE,
                    "this tool choice is not supported by the in-process engine yet: choose `none`, `auto`, `required` or a function",
                )
            }),
        },
    }
}

/// The name and the arguments of a call that was written in the form of [`AskedForm::is_call`].
pub(super) fn read_call(text: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Call {
        name: String,
        arguments: Box<RawValue>,
    }
    let call: Call = serde_json::from_str(text).ok()?;
    Some((call.name, call.arguments.get().to_owned()))
}

fn of_format(format: &RawValue) -> Result<Option<Form>, Failure> {
    let mut format: Json = serde_json::from_str(format.get()).unwrap_or_default();
    if format.is_null() {
        return Ok(None);
    }
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Form::Schema(json!({"type": "object"})))),
        Some("json_schema") => {
            match format.get_mut("json_schema").and_then(|it| it.get_mut("schema")).map(Json::take) {
                Some(schema @ Json::Object(_)) => Ok(Some(Form::Schema(schema))),
                _ => Err(Failure::invalid_param(
                    RESPONSE_FORMAT,
                    "`response_format.json_schema.schema` must be a JSON Schema, an object",
                )),
            }
        }
        _ => Err(Failure {
            kind: FailureKind::NotSupported,
            ..Failure::invalid_param(
                RESPONSE_FORMAT,
                "this response format is not supported by the in-process engine: choose `text`, `json_object` or `json_schema`",
            )
        }),
    }
}

/// A schema of a call of one of these functions.
fn of_calls(tools: &[Tool], names: &[String]) -> Form {
    let mut tools = tools.iter().filter(|tool| tool.name.as_ref().is_some_and(|name| names.contains(name)));
    let call = |tool: &Tool, place: &str| {
        let mut arguments =
            tool.parameters.clone().filter(Json::is_object).unwrap_or_else(|| json!({"type": "object"}));
        move_references(&mut arguments, &format!("{place}/properties/arguments"));
        json!({
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let schema = match names {
        [_] => tools.next().map(|tool| call(tool, "#")).unwrap_or_default(),
        _ => {
            let calls: Vec<Json> =
                tools.enumerate().map(|(index, tool)| call(tool, &format!("#/anyOf/{index}"))).collect();
            json!({ "anyOf": calls })
        }
    };
    Form::Schema(schema)
}

/// Lets the references of a schema that stands at `place` of another one lead to where they led.
fn move_references(schema: &mut Json, place: &str) {
    match schema {
        Json::Object(members) => {
            for (name, member) in members {
                match member {
                    Json::String(reference) if name == "$ref" => {
                        if let Some(path) = reference.strip_prefix('#') {
                            *reference = format!("{place}{}", path.trim_end_matches('/'));
                        }
                    }
                    member => move_references(member, place),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| move_references(item, place)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{prompt, raw, tool};
    use super::*;

    fn asked(change: impl FnOnce(&mut Prompt)) -> Result<Option<AskedForm>, Failure> {
        let mut prompt = prompt("x");
        change(&mut prompt);
        read(&prompt, &read_choice(&prompt)?)
    }

    fn fault(change: impl FnOnce(&mut Prompt)) -> String {
        asked(change).unwrap_err().param.unwrap()
    }

    #[test]
    fn each_way_to_ask_for_a_form_is_read() {
        let schema = json!({"type": "array"});
        let form = |change: &dyn Fn(&mut Prompt)| asked(change).unwrap().map(|asked| asked.form);
        assert_eq!(form(&|_| {}), None);
        assert_eq!(form(&|prompt| prompt.response_format = Some(raw(r#"{"type":"text"}"#))), None);
        assert_eq!(
            form(&|prompt| prompt.response_format = Some(raw(r#"{"type":"json_object"}"#))),
            Some(Form::Schema(json!({"type": "object"})))
        );
        let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}).to_string();
        assert_eq!(form(&|prompt| prompt.response_format = Some(raw(&format))), Some(Form::Schema(schema.clone())));
        assert_eq!(
            form(&|prompt| drop(prompt.passthrough.insert("regex".into(), raw(r#""a+""#)))),
            Some(Form::Regex("a+".into()))
        );
        assert_eq!(
            form(&|prompt| drop(prompt.passthrough.insert("grammar".into(), raw(r#""start: \"a\"""#)))),
            Some(Form::Grammar("start: \"a\"".into()))
        );
        assert_eq!(form(&|prompt| drop(prompt.passthrough.insert("grammar".into(), raw("null")))), None);
    }

    #[test]
    fn what_cannot_be_read_or_kept_together_is_refused_by_name() {
        for format in [
            r#"{"type":"json_schema"}"#,
            r#"{"type":"json_schema","json_schema":{"schema":true}}"#,
            r#"{"type":"xml"}"#,
            "7",
        ] {
            assert_eq!(fault(|prompt| prompt.response_format = Some(raw(format))), "response_format", "{format}");
        }
        assert_eq!(fault(|prompt| drop(prompt.passthrough.insert("regex".into(), raw("7")))), "regex");
        let two = |prompt: &mut Prompt| {
            prompt.passthrough.insert("regex".into(), raw(r#""a""#));
            prompt.passthrough.insert("grammar".into(), raw(r#""start: \"a\"""#));
        };
        assert_eq!(fault(two), "grammar");
        let with_tools = |prompt: &mut Prompt| {
            prompt.response_format = Some(raw(r#"{"type":"json_object"}"#));
            prompt.tools = vec![tool("add")];
        };
        assert_eq!(fault(with_tools), "response_format");
        let without = asked(|prompt| {
            with_tools(prompt);
            prompt.tool_choice = Some(raw(r#""none""#));
        });
        assert!(without.unwrap().is_some());
    }

    #[test]
    fn a_forced_call_is_an_object_of_name_and_arguments() {
        let forced = |choice: &str| {
            asked(|prompt| {
                prompt.tools = vec![tool("add"), tool("sub")];
                prompt.tools[1].parameters = Some(json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}));
                prompt.tool_choice = Some(raw(choice));
            })
        };
        let named = forced(r#"{"type":"function","function":{"name":"sub"}}"#).unwrap().unwrap();
        assert!(named.is_call && named.param == "tool_choice");
        let Form::Schema(schema) = named.form else { panic!("a call is JSON") };
        assert_eq!(schema["properties"]["name"], json!({"const": "sub"}));
        assert_eq!(schema["properties"]["arguments"]["$ref"], "#/properties/arguments/$defs/a");
        let Form::Schema(schema) = forced(r#""required""#).unwrap().unwrap().form else { panic!("a call is JSON") };
        assert_eq!(schema["anyOf"][0]["properties"]["arguments"], json!({"type": "object"}));
        assert_eq!(schema["anyOf"][1]["properties"]["arguments"]["$ref"], "#/anyOf/1/properties/arguments/$defs/a");
        for wrong in [r#"{"type":"function","function":{"name":"mul"}}"#, r#"{"type":"function"}"#, r#""must""#, "[]"] {
            assert_eq!(forced(wrong).unwrap_err().param.as_deref(), Some("tool_choice"), "{wrong}");
        }
        assert_eq!(fault(|prompt| prompt.tool_choice = Some(raw(r#""required""#))), "tool_choice");
        let call = read_call(r#"{ "name": "sub", "arguments": {"a": [1]} }"#);
        assert_eq!(call, Some(("sub".into(), r#"{"a": [1]}"#.into())));
        assert_eq!(read_call(r#"{"name": "sub", "argu"#), None);
    }
}
