//! The content of a message: texts, images and documents as blocks.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{Block, Guarded};
use super::media::{self, Names};
use super::{cache, read, shown};
use crate::failure::{Failure, FailureKind};

/// Whose content it is, which decides what may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    System,
    User,
    Assistant,
    ToolResult,
}

impl Of {
    fn takes_media(self) -> bool {
        matches!(self, Self::User | Self::ToolResult)
    }

    fn name(self) -> &'static str {
        match self {
            Self::System => "a system message",
            Self::User => "a user message",
            Self::Assistant => "an assistant message",
            Self::ToolResult => "the result of a tool",
        }
    }
}

/// A string of the client's, borrowed where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    r#type: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    refusal: Option<Text<'a>>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    file: Option<&'a RawValue>,
    #[serde(borrow)]
    json: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

/// The blocks of the content that stands at `place`. Blank texts, which Bedrock refuses, are left out of all but the
/// results of tools.
///
/// # Errors
///
/// A part that cannot stand there or that Bedrock has no block for, by its place.
pub(super) fn blocks<'a>(
    place: &str,
    content: &'a RawValue,
    of: Of,
    names: &mut Names,
) -> Result<Vec<Block<'a>>, Failure> {
    let keeps_blanks = of == Of::ToolResult;
    let mut blocks = Vec::new();
    if content.get().starts_with('"') {
        let Text(text) = read(place, content)?;
        blocks.push(Block::Text(text));
        blocks.retain(|block| keeps_blanks || !block.is_blank());
        return Ok(blocks);
    }
    let parts: Vec<&RawValue> = read(place, content)?;
    for (at, part) in parts.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        let part: Part = read(&place, part)?;
        let mark = part.cache_control.map(|raw| cache::point(&format!("{place}.cache_control"), raw)).transpose()?;
        let block = block(&place, part, of, names)?;
        if keeps_blanks || !block.is_blank() {
            blocks.push(block);
        }
        // With nothing before it, it would keep nothing.
        if !blocks.is_empty() {
            blocks.extend(mark.map(Block::CachePoint));
        }
    }
    Ok(blocks)
}

fn block<'a>(place: &str, part: Part<'a>, of: Of, names: &mut Names) -> Result<Block<'a>, Failure> {
    let kind = part.r#type.map_or_else(Cow::default, |Text(kind)| kind);
    let missing = |member: &str| {
        let place = format!("{place}.{member}");
        Failure::invalid_param(&place, format!("`{place}` is missing"))
    };
    match &*kind {
        "text" => part.text.map(|Text(text)| Block::Text(text)).ok_or_else(|| missing("text")),
        "refusal" if of == Of::Assistant => {
            part.refusal.map(|Text(text)| Block::Text(text)).ok_or_else(|| missing("refusal"))
        }
        "guarded_text" if of != Of::Assistant && of != Of::ToolResult => {
            let text = part.text.ok_or_else(|| missing("text"))?;
            Ok(Block::GuardContent(Guarded::Text { text: text.0 }))
        }
        "image_url" if of.takes_media() => image(place, part.image_url.ok_or_else(|| missing("image_url"))?),
        "file" if of.takes_media() => file(place, part.file.ok_or_else(|| missing("file"))?, names),
        "json" if of == Of::ToolResult => {
            let json = part.json.ok_or_else(|| missing("json"))?;
            if !json.get().starts_with('{') {
                let place = format!("{place}.json");
                return Err(Failure::invalid_param(&place, format!("`{place}` must be an object; send it as text")));
            }
            Ok(Block::Json(json))
        }
        "image_url" | "file" | "refusal" | "guarded_text" | "json" => {
            let message = format!("`{place}` is of the type `{kind}`, which {} cannot hold", of.name());
            Err(Failure::invalid_param(place, message))
        }
        "input_audio" => {
            let message = format!("`{place}` is audio, which is not sent to Bedrock; send a transcript as text");
            Err(Failure { param: Some(place.to_owned()), ..Failure::new(FailureKind::InvalidRequest, message) })
        }
        other => {
            let message = format!(
                "`{place}.type` is `{}`; Bedrock takes `text`, `image_url` and `file`, and in the results of tools \
                 `json`",
                shown(other)
            );
            Err(Failure::invalid_param(&format!("{place}.type"), message))
        }
    }
}

fn image<'a>(place: &str, raw: &'a RawValue) -> Result<Block<'a>, Failure> {
    #[derive(Deserialize)]
    struct Image<'a> {
        #[serde(borrow)]
        url: Text<'a>,
    }
    let place = format!("{place}.image_url");
    // Some clients write the address itself in place of the object.
    if raw.get().starts_with('"') {
        let Text(url) = read(&place, raw)?;
        return media::image(&place, url).map(Block::Image);
    }
    let Image { url: Text(url) } = read(&place, raw)?;
    media::image(&format!("{place}.url"), url).map(Block::Image)
}

fn file<'a>(place: &str, raw: &'a RawValue, names: &mut Names) -> Result<Block<'a>, Failure> {
    #[derive(Deserialize)]
    struct File<'a> {
        #[serde(borrow)]
        file_data: Option<Text<'a>>,
        #[serde(borrow)]
        filename: Option<Text<'a>>,
    }
    let place = format!("{place}.file");
    let file: File = read(&place, raw)?;
    let Some(Text(data)) = file.file_data else {
        let message = format!("`{place}.file_data` is missing; Bedrock keeps no files to be named by `file_id`");
        return Err(Failure::invalid_param(&format!("{place}.file_data"), message));
    };
    let name = file.filename.as_ref().map(|Text(name)| &**name);
    names.document(&format!("{place}.file_data"), data, name).map(Block::Document)
}
