//! Tools: what is offered, what must be called, and what was called.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::body::{InputSchema, Offered, ToolChoice, ToolConfig, ToolSpec};
use super::family::Family;
use super::parts::Text;
use super::{Scope, cache, read, shown};
use crate::completion::Tool;
use crate::config::capabilities::Support;
use crate::failure::Failure;

/// The longest name of a tool.
const LONGEST_NAME: usize = 64;

/// The schema of a tool of which nothing is known but its name, or that takes nothing.
const ANY_OBJECT: &str = r#"{"type":"object","properties":{}}"#;

/// A call of an earlier turn.
pub(super) struct Call<'a> {
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub input: Cow<'a, RawValue>,
}

/// What the request says of tools beside their definitions.
pub(super) struct Wishes<'a> {
    pub choice: Option<&'a RawValue>,
    /// `parallel_tool_calls`.
    pub parallel: Option<bool>,
    /// Whether it is a Claude that is told to think, which cannot be made to call a tool meanwhile.
    pub thinks: bool,
    /// The tools that the conversation has used.
    pub used: &'a [&'a str],
}

/// What of it goes into the request.
#[derive(Default)]
pub(super) struct Toolbox<'a> {
    pub config: Option<ToolConfig<'a>>,
    /// What Claude's own API calls `tool_choice`, for what Converse has no words for.
    pub claudes_choice: Option<Value>,
    pub warnings: Vec<String>,
}

/// What the client wants called.
#[derive(Debug, PartialEq)]
enum Choice {
    Auto,
    None,
    Required,
    Named(String),
    /// Only these, and whether one of them must be.
    Among(Vec<String>, bool),
}

/// Reads a call of an assistant's message.
///
/// # Errors
///
/// What is no call of a function, and arguments that are no JSON object.
pub(super) fn call<'a>(place: &str, raw: &'a RawValue) -> Result<Call<'a>, Failure> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        id: Option<Text<'a>>,
        #[serde(borrow)]
        function: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Function<'a> {
        #[serde(borrow)]
        name: Text<'a>,
        #[serde(borrow)]
        arguments: Option<&'a RawValue>,
    }
    let outer: Outer = read(place, raw)?;
    let Some(function) = outer.function else {
        let message = format!("`{place}` is no call of a function, and Bedrock knows no others");
        return Err(Failure::invalid_param(place, message));
    };
    let Some(Text(id)) = outer.id.filter(|Text(id)| !id.is_empty()) else {
        let place = format!("{place}.id");
        return Err(Failure::invalid_param(&place, format!("`{place}` is missing")));
    };
    let place = format!("{place}.function");
    let Function { name: Text(name), arguments } = read(&place, function)?;
    check_name(&format!("{place}.name"), &name)?;
    Ok(Call { id, name, input: input(&format!("{place}.arguments"), arguments)? })
}

/// The toolbox of a request.
///
/// # Errors
///
/// What is no function, a name that Bedrock does not take, and a choice that the tools cannot make true.
pub(super) fn toolbox<'a>(tools: &'a [Tool], wishes: &Wishes<'a>, scope: &Scope) -> Result<Toolbox<'a>, Failure> {
    if scope.row.tools == Support::No && !wishes.used.is_empty() {
        let message = format!(
            "{} takes no tools, and `messages` hold calls of some; leave these and their results out (or correct \
             `extra_args.capabilities.tools`, if this is wrong)",
            scope.who
        );
        return Err(Failure::invalid_param("messages", message));
    }
    let mut toolbox = Toolbox::default();
    let choice = choice(wishes.choice)?;
    let mut offered = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let place = format!("tools[{at}]");
        offered.push(spec(&place, &tool.definition, scope, &mut toolbox.warnings)?);
    }
    let names: Vec<String> = offered.iter().map(|(spec, _)| spec.name.clone().into_owned()).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        let message = format!("`tools` holds `{}` twice; offer each tool once", shown(twice.1));
        return Err(Failure::invalid_param(&format!("tools[{}]", twice.0), message));
    }
    let check = |wanted: &str| match names.iter().any(|name| name == wanted) {
        true => Ok(()),
        false => {
            let message = format!("`tool_choice` names `{}`, which `tools` does not hold", shown(wanted));
            Err(Failure::invalid_param("tool_choice", message))
        }
    };
    let mut must_call = match choice {
        Choice::Auto | Choice::None => None,
        Choice::Required => Some(ToolChoice::Any {}),
        Choice::Named(ref name) => {
            check(name)?;
            Some(ToolChoice::Tool { name: name.clone() })
        }
        Choice::Among(ref allowed, must) => {
            allowed.iter().try_for_each(|name| check(name))?;
            offered.retain(|(spec, _)| allowed.iter().any(|name| *name == spec.name));
            must.then_some(ToolChoice::Any {})
        }
    };
    if must_call.is_some() && offered.is_empty() {
        let message = "`tool_choice` wants a tool called and there is none; offer one in `tools`, or leave it out";
        return Err(Failure::invalid_param("tool_choice", message));
    }
    if wishes.thinks
        && let Some(forced) = must_call.take()
    {
        let how = match forced {
            ToolChoice::Any {} => "may call a tool, and",
            ToolChoice::Tool { name } => {
                offered.retain(|(spec, _)| spec.name == name);
                "is offered that tool alone, and"
            }
        };
        toolbox.warnings.push(format!(
            "`tool_choice` was asked for as `auto`: {} cannot be made to call a tool while it thinks, so that it {how} \
             may answer in words all the same",
            scope.who
        ));
    }
    let may_call = choice != Choice::None && !offered.is_empty();
    if !may_call {
        // Blocks about tools want a toolbox, even when nothing of it may be used.
        if !wishes.used.is_empty() {
            let specs = |offered: Vec<(ToolSpec<'a>, _)>| match offered.is_empty() {
                true => wishes.used.iter().map(|name| (unknown(name), None)).collect(),
                false => offered,
            };
            toolbox.config = Some(config(specs(offered), None));
            match scope.family {
                Family::Claude(_) => toolbox.claudes_choice = Some(json!({"type": "none"})),
                _ => toolbox.warnings.push(format!(
                    "{} cannot be kept from calling a tool while the messages hold calls, so that it may call one all \
                     the same",
                    scope.who
                )),
            }
        }
        return Ok(toolbox);
    }
    if wishes.parallel == Some(false) {
        match scope.family {
            // Beside a choice of Converse's own, the kind is said there.
            Family::Claude(_) => {
                let mut one = Map::new();
                if must_call.is_none() {
                    one.insert("type".to_owned(), "auto".into());
                }
                one.insert("disable_parallel_tool_use".to_owned(), true.into());
                toolbox.claudes_choice = Some(one.into());
            }
            _ => toolbox.warnings.push(format!(
                "`parallel_tool_calls` was left out: {} cannot be kept from calling several tools at once",
                scope.who
            )),
        }
    }
    toolbox.config = Some(config(offered, must_call));
    Ok(toolbox)
}

fn config<'a>(
    offered: Vec<(ToolSpec<'a>, Option<super::body::CachePoint>)>,
    tool_choice: Option<ToolChoice>,
) -> ToolConfig<'a> {
    let mut tools = Vec::with_capacity(offered.len());
    for (spec, mark) in offered {
        tools.push(Offered::ToolSpec(spec));
        tools.extend(mark.map(Offered::CachePoint));
    }
    ToolConfig { tools, tool_choice }
}

fn unknown<'a>(name: &str) -> ToolSpec<'a> {
    let json = Cow::Owned(any_object());
    ToolSpec { name: name.to_owned().into(), description: None, input_schema: InputSchema { json }, strict: false }
}

fn any_object() -> Box<RawValue> {
    RawValue::from_string(ANY_OBJECT.to_owned()).expect("the constant is JSON")
}

fn spec<'a>(
    place: &str,
    raw: &'a RawValue,
    scope: &Scope,
    warnings: &mut Vec<String>,
) -> Result<(ToolSpec<'a>, Option<super::body::CachePoint>), Failure> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        function: Option<&'a RawValue>,
        #[serde(borrow)]
        cache_control: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Function<'a> {
        #[serde(borrow)]
        name: Text<'a>,
        #[serde(borrow)]
        description: Option<Text<'a>>,
        #[serde(borrow)]
        parameters: Option<&'a RawValue>,
        strict: Option<bool>,
        #[serde(borrow)]
        cache_control: Option<&'a RawValue>,
    }
    let outer: Outer = read(place, raw)?;
    let Some(function) = outer.function else {
        let message = format!("`{place}` is no function, and Bedrock takes no other tools");
        return Err(Failure::invalid_param(place, message));
    };
    let function_place = format!("{place}.function");
    let function: Function = read(&function_place, function)?;
    let Text(name) = function.name;
    check_name(&format!("{function_place}.name"), &name)?;
    let mark = [(outer.cache_control, place), (function.cache_control, function_place.as_str())];
    let mark = mark.iter().find_map(|(raw, place)| Some((raw.as_ref()?, place)));
    let mark = mark.map(|(raw, place)| cache::point(&format!("{place}.cache_control"), raw)).transpose()?;
    let json = match function.parameters {
        None => Cow::Owned(any_object()),
        Some(schema) => of_object(&format!("{function_place}.parameters"), schema)?,
    };
    let mut strict = function.strict == Some(true);
    if strict && scope.row.json_schema == Support::No {
        strict = false;
        let warning = format!("`strict` was left out: {} cannot be held to the schemas of tools", scope.who);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    let description = function.description.map(|Text(text)| text).filter(|text| !text.trim().is_empty());
    Ok((ToolSpec { name, description, input_schema: InputSchema { json }, strict }, mark))
}

/// The schema as Bedrock takes it: it must say itself that it is of an object.
fn of_object<'a>(place: &str, schema: &'a RawValue) -> Result<Cow<'a, RawValue>, Failure> {
    let Some(inner) = schema.get().strip_prefix('{') else {
        return Err(Failure::invalid_param(place, format!("`{place}` must be an object, a JSON Schema")));
    };
    let members: HashMap<Cow<str>, &RawValue> = read(place, schema)?;
    match members.get("type").map(|kind| kind.get()) {
        Some(r#""object""#) => Ok(Cow::Borrowed(schema)),
        Some(_) => {
            let place = format!("{place}.type");
            let message = format!("`{place}` must be `object`; Bedrock takes no other arguments of a tool");
            Err(Failure::invalid_param(&place, message))
        }
        None if members.is_empty() => Ok(Cow::Owned(any_object())),
        None => {
            let typed = RawValue::from_string(format!(r#"{{"type":"object",{inner}"#));
            Ok(Cow::Owned(typed.expect("a member before the others of an object leaves it one")))
        }
    }
}

fn check_name(place: &str, name: &str) -> Result<(), Failure> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_fine) {
        return Ok(());
    }
    let message =
        format!("`{place}` is `{}`; it must be 1 to {LONGEST_NAME} letters, digits, `_` and `-`", shown(name));
    Err(Failure::invalid_param(place, message))
}

/// Arguments are JSON text, or an object where a client is not strict about it. Models write nothing for a function that
/// takes nothing.
fn input<'a>(place: &str, raw: Option<&'a RawValue>) -> Result<Cow<'a, RawValue>, Failure> {
    let refusal = || {
        let message = format!("`{place}` must be the text of a JSON object, which Bedrock wants calls to be of");
        Failure::invalid_param(place, message)
    };
    let empty = || Cow::Owned(RawValue::from_string("{}".to_owned()).expect("an object is JSON"));
    let Some(raw) = raw else { return Ok(empty()) };
    if raw.get().starts_with('{') {
        return Ok(Cow::Borrowed(raw));
    }
    let text: String = serde_json::from_str(raw.get()).map_err(|_| refusal())?;
    if text.trim().is_empty() {
        return Ok(empty());
    }
    match RawValue::from_string(text.trim().to_owned()) {
        Ok(object) if object.get().starts_with('{') => Ok(Cow::Owned(object)),
        _ => Err(refusal()),
    }
}

fn choice(raw: Option<&RawValue>) -> Result<Choice, Failure> {
    let Some(raw) = raw else { return Ok(Choice::Auto) };
    let value: Value = read("tool_choice", raw)?;
    let named = |value: &Value| value["function"]["name"].as_str().or(value["name"].as_str()).map(str::to_owned);
    let choice = match (value.as_str(), value["type"].as_str()) {
        (Some("auto"), _) => Some(Choice::Auto),
        (Some("none"), _) => Some(Choice::None),
        // The second is Anthropic's word.
        (Some("required" | "any"), _) => Some(Choice::Required),
        (_, Some("function")) => named(&value).map(Choice::Named),
        (_, Some("allowed_tools")) => {
            let allowed = &value["allowed_tools"];
            let names = allowed["tools"].as_array().map(|tools| tools.iter().map(named).collect::<Option<Vec<_>>>());
            names.flatten().map(|names| Choice::Among(names, allowed["mode"] == "required"))
        }
        _ => None,
    };
    choice.ok_or_else(|| {
        let message = "`tool_choice` must be `auto`, `none`, `required`, a function by its name, or `allowed_tools`";
        Failure::invalid_param("tool_choice", message)
    })
}
