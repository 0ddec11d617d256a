//! The body of a Converse request, written once for a whole run.
//!
//! The pages below say what becomes of each part of a chat request. What changes nothing of the answer is written without
//! a word; what is left out or said in another way is told in a warning; what Bedrock has no words for is refused with
//! what to send instead, before anything is spent.

mod asked;
mod body;
mod cache;
mod family;
mod fields;
mod inference;
mod media;
mod messages;
mod parts;
mod tools;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::asked::Asked;
use self::body::{Block, Body, CachePoint, Role, ToolConfig, Turn};
use self::family::Family;
use self::fields::Fields;
use self::messages::Conversation;
use self::tools::Wishes;
use crate::completion::Prompt;
use crate::config::capabilities::{Capabilities, Support};
use crate::failure::Failure;
use crate::providers::limiter::Caller;

/// A Converse request. Cloning it shares the text, and the clones' calls take their turns as one run.
#[derive(Debug, Clone)]
pub struct PreparedRequest {
    /// A whole JSON object without the model, which stands in the path; or why there is none.
    body: Result<Bytes, Failure>,
    model: Arc<str>,
    caller: Caller,
}

impl PreparedRequest {
    /// Writes `prompt`, and those `extra` fields of the configuration that the prompt does not name itself.
    pub(super) fn new(prompt: &Prompt, extra: &Map<String, Value>, row: &Capabilities) -> Self {
        let body = compose(prompt, extra, row, |body| text_of(body, prompt)).map(|written| written.body);
        Self { body, model: prompt.model.as_str().into(), caller: Caller::default() }
    }

    /// The same on behalf of a request, whose calls take their turns as one.
    #[must_use]
    pub(in crate::providers) fn for_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// # Errors
    ///
    /// What of the prompt the API has no words for.
    pub(super) fn body(&self) -> Result<&Bytes, &Failure> {
        self.body.as_ref()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn model(&self) -> Arc<str> {
        Arc::clone(&self.model)
    }
}

/// Makes ready for the neutral fitting, which knows nothing of Converse: takes out what is so there anyway.
///
/// # Errors
///
/// JSON without a schema, for which the fitting would ask for an object of which nothing is said, and which no model
/// there is held to.
pub(super) fn before_fitting(prompt: &mut Prompt, row: &Capabilities) -> Result<(), Failure> {
    const PARALLEL: &str = "parallel_tool_calls";
    if prompt.passthrough.get(PARALLEL).is_some_and(|value| value.get() == "true") {
        prompt.passthrough.remove(PARALLEL);
    }
    let format = prompt.response_format.as_deref();
    let format: Value = format.and_then(|format| serde_json::from_str(format.get()).ok()).unwrap_or_default();
    if format["type"] == "json_object" && row.json_schema != Support::No {
        return Err(fields::json_object(&Scope::new(&prompt.model, row)));
    }
    Ok(())
}

/// What is said of a prompt as it goes to Bedrock. Fields of the prompt that go nowhere are taken out of it.
///
/// # Errors
///
/// What the API has no words for.
pub(super) fn told(
    prompt: &mut Prompt,
    extra: &Map<String, Value>,
    row: &Capabilities,
) -> Result<Vec<String>, Failure> {
    let written = compose(prompt, extra, row, |_| ())?;
    prompt.passthrough.retain(|name, _| !written.left_out.contains(name));
    Ok(written.warnings)
}

/// As [`super::Provider::knows`].
pub(in crate::providers) fn knows(model: &str, field: &str) -> bool {
    fields::knows(Family::of(model), field)
}

/// Whom a request is for.
struct Scope<'a> {
    family: Family,
    row: &'a Capabilities,
    /// As messages speak of it.
    who: String,
}

impl<'a> Scope<'a> {
    fn new(model: &str, row: &'a Capabilities) -> Self {
        Self { family: Family::of(model), row, who: format!("`{model}` of bedrock") }
    }
}

struct Written<T> {
    body: T,
    warnings: Vec<String>,
    /// Fields of the prompt that are no part of it.
    left_out: Vec<String>,
}

/// Puts a request together, of which `write` makes what is wanted: a request may hold megabytes, which only one that is
/// sent needs to be text.
fn compose<T>(
    prompt: &Prompt,
    extra: &Map<String, Value>,
    row: &Capabilities,
    write: impl FnOnce(&Body) -> T,
) -> Result<Written<T>, Failure> {
    let scope = &Scope::new(&prompt.model, row);
    let Asked { mut sampling, tool_choice, response_format, fields } = Asked::new(prompt, extra, row)?;
    let mut fields = Fields::sort(fields, scope)?;
    let mut conversation = Conversation::read(&prompt.messages, scope)?;
    if let Some(turn) = conversation.thoughtless() {
        fields.think_no_more(turn, scope);
    }
    fields.sample(&mut sampling, scope);
    if let Some(format) = &response_format {
        fields.response_format(format, scope)?;
    }
    let used: Vec<String> = conversation.used_tools().into_iter().map(str::to_owned).collect();
    let used: Vec<&str> = used.iter().map(String::as_str).collect();
    let wishes =
        Wishes { choice: tool_choice.as_deref(), parallel: fields.parallel, thinks: fields.thinks(scope), used: &used };
    let mut toolbox = tools::toolbox(&prompt.tools, &wishes, scope)?;
    if let Some(choice) = toolbox.claudes_choice.take() {
        fields.additional.entry("tool_choice").or_insert(choice);
    }
    if let Some(point) = fields.cache.take() {
        mark_last_question(&mut conversation.turns, point);
    }
    let mut warnings = std::mem::take(&mut conversation.warnings);
    warnings.append(&mut toolbox.warnings);
    check_cache_points(&mut conversation, toolbox.config.as_mut(), scope, &mut warnings)?;
    let inference_config = inference::config(&sampling, &fields, scope)?;
    warnings.append(&mut fields.warnings);
    let body = Body {
        messages: conversation.turns,
        system: conversation.system,
        inference_config,
        tool_config: toolbox.config,
        additional_model_request_fields: fields.additional,
        own: fields.own,
    };
    Ok(Written { body: write(&body), warnings, left_out: fields.left_out })
}

/// The text of a body. It is about as long as the messages that it says again.
fn text_of(body: &Body, prompt: &Prompt) -> Bytes {
    const OTHERS_BYTES: usize = 4096;
    let mut text = Vec::with_capacity(prompt.messages.get().len() + OTHERS_BYTES);
    serde_json::to_writer(&mut text, body).expect("texts, numbers and raw JSON always serialise to memory");
    text.into()
}

/// Asks for a cache of all up to the end of the last turn of the user's.
fn mark_last_question(turns: &mut [Turn], point: CachePoint) {
    let last = turns.iter_mut().rfind(|turn| turn.role == Role::User);
    if let Some(turn) = last.filter(|turn| !matches!(turn.content.last(), Some(Block::CachePoint(_)))) {
        turn.content.push(Block::CachePoint(point));
    }
}

/// Takes the cache points out where there is no cache, and refuses more than there may be.
fn check_cache_points(
    conversation: &mut Conversation,
    tools: Option<&mut ToolConfig>,
    scope: &Scope,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let mut places = Vec::new();
    let has_cache = scope.row.prompt_caching != Support::No;
    let has_cache_of_tools = has_cache && !matches!(scope.family, Family::Nova { .. });
    let mut stays = |point: Option<&CachePoint>, has_cache: bool| match point {
        Some(point) if has_cache => {
            places.push(Rc::clone(&point.place));
            true
        }
        Some(_) => false,
        None => true,
    };
    let lists = conversation.turns.iter_mut().map(|turn| &mut turn.content).chain([&mut conversation.system]);
    let mut taken = 0;
    for list in lists {
        let before = list.len();
        list.retain(|block| stays(block.cache_point(), has_cache));
        taken += before - list.len();
    }
    if let Some(tools) = tools {
        let before = tools.tools.len();
        tools.tools.retain(|tool| stays(tool.cache_point(), has_cache_of_tools));
        taken += before - tools.tools.len();
    }
    if taken > 0 {
        let what = if has_cache { "of tools" } else { "of prompts" };
        warnings.push(format!("`cache_control` was left out: {} keeps no cache {what}", scope.who));
    }
    if let Some(place) = places.get(cache::MOST) {
        let (count, most) = (places.len(), cache::MOST);
        let message = format!("`{place}` is one too many: the request has {count}, and Bedrock takes at most {most}");
        return Err(Failure::invalid_param(place, message));
    }
    Ok(())
}

/// Reads the JSON that stands at `place`.
fn read<'a, T: Deserialize<'a>>(place: &str, raw: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(raw.get())
        .map_err(|error| Failure::invalid_param(place, format!("`{place}` cannot be read: {error}")))
}

/// As much of a text of the client's as a message can show.
fn shown(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
