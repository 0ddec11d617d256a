//! The conversation as Converse wants it: instructions beside it, turns that alternate and begin with the user's, and
//! the results of tools in the turn after the calls.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{Block, CachePoint, Reasoning, Role, ToolResult, ToolUse, Turn};
use super::media::Names;
use super::parts::{self, Of, Text};
use super::{Scope, cache, read, shown, tools};
use crate::config::capabilities::Prefill;
use crate::failure::Failure;

/// What stands in for a first turn of the user's, which no conversation there can do without.
const OPENING: &str = "(The assistant begins.)";

/// The most documents that a conversation may hold.
const MOST_DOCUMENTS: usize = 5;

/// The longest id of a call.
const LONGEST_ID: usize = 64;

#[derive(Default)]
pub(super) struct Conversation<'a> {
    pub system: Vec<Block<'a>>,
    pub turns: Vec<Turn<'a>>,
    pub warnings: Vec<String>,
    ids: Ids,
    names: Names,
    /// The message that each document of the turns is of.
    documents: Vec<usize>,
}

/// A turn of the assistant's that has none of its thoughts, although it is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughtless {
    /// It is to be continued.
    Continued,
    /// Its calls have just been answered.
    Called,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<Text<'a>>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_call_id: Option<Text<'a>>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

impl<'a> Conversation<'a> {
    /// Reads the `messages` of a prompt.
    ///
    /// # Errors
    ///
    /// What Converse has no words for, by its place.
    pub fn read(messages: &'a RawValue, scope: &Scope) -> Result<Self, Failure> {
        let mut conversation = Self::default();
        let messages: Vec<&RawValue> = read("messages", messages)?;
        for (at, message) in messages.into_iter().enumerate() {
            let place = format!("messages[{at}]");
            let message: Message = read(&place, message)?;
            let mark = message.cache_control.map(|raw| cache::point(&format!("{place}.cache_control"), raw));
            let mark = mark.transpose()?;
            // A result needs no name beside the id of its call.
            if message.name.is_some() && message.role != "tool" {
                conversation.warn(format!("`name` of messages was left out: {} knows nobody by name", scope.who));
            }
            match &*message.role {
                "system" | "developer" => {
                    let blocks = conversation.content(&place, message.content, Of::System)?;
                    conversation.system.extend(marked(blocks, mark));
                }
                "user" => {
                    let blocks = conversation.content(&place, message.content, Of::User)?;
                    check_user(&place, &blocks)?;
                    let documents = blocks.iter().filter(|block| matches!(block, Block::Document(_))).count();
                    conversation.documents.extend(std::iter::repeat_n(at, documents));
                    conversation.push(Role::User, marked(blocks, mark));
                }
                "assistant" => {
                    let blocks = conversation.assistant(&place, at, message)?;
                    conversation.push(Role::Assistant, marked(blocks, mark));
                }
                "tool" => {
                    let (result, inner) = conversation.result(&place, at, message, scope)?;
                    conversation.push_result(marked(vec![Block::ToolResult(result)], mark.or(inner)));
                }
                "function" => {
                    let message = "messages of the role `function` have no words on Bedrock; send `tool_calls`, and \
                                   their results as messages of the role `tool`";
                    return Err(Failure::invalid_param(&format!("{place}.role"), message));
                }
                other => {
                    let message = format!("`{place}.role` is `{}`, which Bedrock does not know", shown(other));
                    return Err(Failure::invalid_param(&format!("{place}.role"), message));
                }
            }
        }
        conversation.finish(scope)?;
        Ok(conversation)
    }

    /// The names of the tools that were used, each once, in the order of their first use.
    pub fn used_tools(&self) -> Vec<&str> {
        let blocks = self.turns.iter().flat_map(|turn| &turn.content);
        let mut seen = HashSet::new();
        let names = blocks.filter_map(|block| match block {
            Block::ToolUse(tool_use) => Some(&*tool_use.name),
            _ => None,
        });
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// The turn of the assistant's, if there is one, from which a model that thinks by a number of tokens cannot go on.
    pub fn thoughtless(&self) -> Option<Thoughtless> {
        let last = self.turns.iter().rfind(|turn| turn.role == Role::Assistant)?;
        let is_thought = matches!(last.content.first(), Some(Block::ReasoningContent(_)));
        let has_calls = last.content.iter().any(|block| matches!(block, Block::ToolUse(_)));
        match self.turns.last()?.role {
            _ if is_thought => None,
            Role::Assistant => Some(Thoughtless::Continued),
            Role::User => has_calls.then_some(Thoughtless::Called),
        }
    }

    fn content(&mut self, place: &str, content: Option<&'a RawValue>, of: Of) -> Result<Vec<Block<'a>>, Failure> {
        let Some(content) = content else { return Ok(Vec::new()) };
        parts::blocks(&format!("{place}.content"), content, of, &mut self.names)
    }

    fn assistant(&mut self, place: &str, at: usize, message: Message<'a>) -> Result<Vec<Block<'a>>, Failure> {
        if message.function_call.is_some() {
            let place = format!("{place}.function_call");
            let message = format!("`{place}` has no words on Bedrock; send `tool_calls`");
            return Err(Failure::invalid_param(&place, message));
        }
        let mut blocks = Vec::new();
        let thoughts = format!("{place}.thinking_blocks");
        for (index, raw) in list(&thoughts, message.thinking_blocks)?.into_iter().enumerate() {
            blocks.extend(reasoning(&format!("{thoughts}[{index}]"), raw)?);
        }
        blocks.extend(self.content(place, message.content, Of::Assistant)?);
        blocks.extend(message.refusal.map(|Text(text)| Block::Text(text)).filter(|block| !block.is_blank()));
        let calls = format!("{place}.tool_calls");
        for (index, raw) in list(&calls, message.tool_calls)?.into_iter().enumerate() {
            let call = tools::call(&format!("{calls}[{index}]"), raw)?;
            let tool_use_id = self.ids.of(&call.id);
            blocks.push(Block::ToolUse(ToolUse { tool_use_id, name: call.name, input: call.input, message: at }));
        }
        Ok(blocks)
    }

    /// The result of a call, and the cache point that one of its parts asks for, which can only stand after it.
    fn result(
        &mut self,
        place: &str,
        at: usize,
        message: Message<'a>,
        scope: &Scope,
    ) -> Result<(ToolResult<'a>, Option<CachePoint>), Failure> {
        let Some(Text(id)) = message.tool_call_id.filter(|Text(id)| !id.is_empty()) else {
            let place = format!("{place}.tool_call_id");
            return Err(Failure::invalid_param(&place, format!("`{place}` is missing; name the call that it answers")));
        };
        let mut content = self.content(place, message.content, Of::ToolResult)?;
        let mut mark = None;
        content.retain(|block| match block {
            Block::CachePoint(point) => {
                mark = Some(point.clone());
                false
            }
            _ => true,
        });
        if content.is_empty() {
            // The result of an error cannot be empty, and a model reads an empty text as nothing.
            content.push(Block::Text(Cow::Borrowed("")));
        }
        let failed = [(message.is_error, "true"), (message.status, r#""error""#)];
        let failed = failed.iter().any(|(said, error)| said.is_some_and(|said| said.get() == *error));
        if failed && !scope.family.takes_result_status() {
            self.warn(format!("that a tool failed was not said: {} takes only what the tool said of it", scope.who));
        }
        let status = (failed && scope.family.takes_result_status()).then_some("error");
        Ok((ToolResult { tool_use_id: self.ids.of(&id), content, status, message: at }, mark))
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Adds blocks to the last turn where it is of the same role, and begins a turn otherwise.
    fn push(&mut self, role: Role, blocks: Vec<Block<'a>>) {
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            _ => self.turns.push(Turn { role, content: blocks }),
        }
    }

    /// Results stand before whatever else a turn says.
    fn push_result(&mut self, blocks: Vec<Block<'a>>) {
        match self.turns.last_mut() {
            Some(last) if last.role == Role::User => {
                let is_result = |block: &Block| matches!(block, Block::ToolResult(_));
                let after = last.content.iter().rposition(is_result).map_or(0, |at| {
                    // A mark belongs to the result before it.
                    at + 1 + usize::from(matches!(last.content.get(at + 1), Some(Block::CachePoint(_))))
                });
                last.content.splice(after..after, blocks);
            }
            _ => self.turns.push(Turn { role: Role::User, content: blocks }),
        }
    }

    /// What can only be said of the whole conversation.
    fn finish(&mut self, scope: &Scope) -> Result<(), Failure> {
        match self.turns.first() {
            None => {
                let message = "Bedrock takes no conversation without a turn of the user's; send a message of the role \
                               `user`";
                return Err(Failure::invalid_param("messages", message));
            }
            Some(first) if first.role == Role::Assistant => {
                let opening = Turn { role: Role::User, content: vec![Block::Text(Cow::Borrowed(OPENING))] };
                self.turns.insert(0, opening);
                self.warn(format!(
                    "the conversation begins with the assistant, and for {} with the user, so that `{OPENING}` was put \
                     before it",
                    scope.who
                ));
            }
            Some(_) => {}
        }
        self.check_documents()?;
        self.check_calls()?;
        let ends_with_assistant = self.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        if ends_with_assistant && scope.row.prefill == Prefill::Refused {
            // Instructions that come last are no turn of their own.
            let why = "continues no message of the assistant's; end with one of the user's";
            return Err(Failure::invalid_param("messages", format!("{} {why}", scope.who)));
        }
        if let Some(Turn { role: Role::Assistant, content }) = self.turns.last_mut()
            && let Some(Block::Text(text)) = content.iter_mut().rfind(|block| !matches!(block, Block::CachePoint(_)))
            && text.ends_with(char::is_whitespace)
        {
            *text = text.trim_end().to_owned().into();
            self.warn(
                "white space at the end of the message to continue was left out, since Bedrock refuses it".into(),
            );
        }
        Ok(())
    }

    fn check_documents(&self) -> Result<(), Failure> {
        let mut count = 0;
        for turn in &self.turns {
            let documents = turn.content.iter().filter(|block| matches!(block, Block::Document(_))).count();
            if documents > 0 && !turn.content.iter().any(|block| matches!(block, Block::Text(_))) {
                let place = format!("messages[{}].content", self.documents[count]);
                let message = format!("`{place}` holds a document and no text; Bedrock wants a text beside it");
                return Err(Failure::invalid_param(&place, message));
            }
            count += documents;
        }
        if let Some(at) = self.documents.get(MOST_DOCUMENTS) {
            let place = format!("messages[{at}].content");
            let message = format!("`messages` hold {count} documents; Bedrock takes at most {MOST_DOCUMENTS}");
            return Err(Failure::invalid_param(&place, message));
        }
        Ok(())
    }

    /// Every call is answered in the turn after it, and nothing else is.
    fn check_calls(&self) -> Result<(), Failure> {
        let mut open: HashMap<&str, usize> = HashMap::new();
        for turn in &self.turns {
            let mut asked = HashMap::new();
            for block in &turn.content {
                match block {
                    Block::ToolUse(tool_use) if asked.contains_key(tool_use.tool_use_id.as_str()) => {
                        let place = format!("messages[{}].tool_calls", tool_use.message);
                        let message = format!("two of `{place}` have the same `id`; give each one of its own");
                        return Err(Failure::invalid_param(&place, message));
                    }
                    Block::ToolUse(tool_use) => {
                        asked.insert(tool_use.tool_use_id.as_str(), tool_use.message);
                    }
                    Block::ToolResult(result) if open.remove(result.tool_use_id.as_str()).is_none() => {
                        let place = format!("messages[{}].tool_call_id", result.message);
                        let message = format!("`{place}` names no open call of the assistant's turn before it");
                        return Err(Failure::invalid_param(&place, message));
                    }
                    _ => {}
                }
            }
            check_answered(&open)?;
            open = asked;
        }
        check_answered(&open)
    }
}

/// The elements of a list that may be missing.
fn list<'a>(place: &str, raw: Option<&'a RawValue>) -> Result<Vec<&'a RawValue>, Failure> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if !raw.get().starts_with('[') {
        return Err(Failure::invalid_param(place, format!("`{place}` must be a list")));
    }
    read(place, raw)
}

fn check_answered(open: &HashMap<&str, usize>) -> Result<(), Failure> {
    let Some((id, at)) = open.iter().min_by_key(|(id, at)| (**at, **id)) else { return Ok(()) };
    let place = format!("messages[{at}].tool_calls");
    let message = format!(
        "the call `{}` of `{place}` is not answered in the next turn; send its result as a message of the role `tool`",
        shown(id)
    );
    Err(Failure::invalid_param(&place, message))
}

/// A cache point is of no use with nothing before it.
fn marked(mut blocks: Vec<Block<'_>>, mark: Option<CachePoint>) -> Vec<Block<'_>> {
    if !blocks.is_empty() && !matches!(blocks.last(), Some(Block::CachePoint(_))) {
        blocks.extend(mark.map(Block::CachePoint));
    }
    blocks
}

fn check_user(place: &str, blocks: &[Block]) -> Result<(), Failure> {
    let place = format!("{place}.content");
    if !blocks.iter().any(|block| !matches!(block, Block::CachePoint(_))) {
        let message =
            format!("`{place}` is blank, which Bedrock refuses; say something in it, or leave the message out");
        return Err(Failure::invalid_param(&place, message));
    }
    Ok(())
}

/// A piece of what the model thought, as it was told in an earlier answer. Without its signature nobody can tell that the
/// model thought so, and it is left out.
fn reasoning<'a>(place: &str, raw: &'a RawValue) -> Result<Option<Block<'a>>, Failure> {
    #[derive(Deserialize)]
    struct Thought<'a> {
        #[serde(borrow)]
        r#type: Text<'a>,
        #[serde(borrow)]
        thinking: Option<Text<'a>>,
        #[serde(borrow)]
        signature: Option<Text<'a>>,
        #[serde(borrow)]
        data: Option<Text<'a>>,
    }
    let thought: Thought = read(place, raw)?;
    match (&*thought.r#type.0, thought.thinking, thought.signature, thought.data) {
        ("thinking", Some(Text(text)), Some(Text(signature)), _) if !signature.is_empty() => {
            Ok(Some(Block::ReasoningContent(Reasoning::ReasoningText { text, signature })))
        }
        ("redacted_thinking", _, _, Some(Text(data))) => {
            Ok(Some(Block::ReasoningContent(Reasoning::RedactedContent(data))))
        }
        ("thinking" | "redacted_thinking", ..) => Ok(None),
        (other, ..) => {
            let message = format!("`{place}.type` is `{}`; it must be `thinking` or `redacted_thinking`", shown(other));
            Err(Failure::invalid_param(&format!("{place}.type"), message))
        }
    }
}

/// Ids of calls as Bedrock takes them: letters, digits and `_.:-`, at most 64. Others get one that does not change
/// between the requests of a conversation.
#[derive(Default)]
struct Ids(HashMap<String, String>);

impl Ids {
    fn of(&mut self, id: &str) -> String {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(is_fine) {
            return id.to_owned();
        }
        let number = self.0.len();
        self.0.entry(id.to_owned()).or_insert_with(|| format!("renamed_call_{number}")).clone()
    }
}
