//! The instant mode: every chat request gets the same completion, made once and neither scripted nor recorded, so
//! that a benchmark measures its client and not its upstream.
//!
//! `n`, `stream` and `stream_options.include_usage` are honoured. They are looked for in the text of the request
//! without parsing it, which is safe within strings, where a quote is always escaped.

use std::sync::OnceLock;
use std::time::{Duration, Instant as Clock};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::sleep_until;

use super::completion::words;
use super::counters::InFlight;
use super::pace::Pace;
use super::wire;

const CONTENT: &str = "The two trains close the distance at 150 km/h, so that they meet after two hours, when the first \
                       has covered 2 * 80 = 160 km of the way. The answer is \\boxed{160}";
const PROMPT_TOKENS: u64 = 32;
const COMPLETION_TOKENS: u64 = 48;
/// The most choices that are made: further ones are left out.
const MOST_CHOICES: usize = 128;

/// The answers of the instant mode.
#[derive(Debug)]
pub struct Instant {
    /// A whole answer comes after `first_token_ms`, whatever its length; a stream is paced.
    pace: Pace,
    /// By the number of choices: heads and bodies of whole answers.
    whole: Vec<OnceLock<Vec<u8>>>,
    /// The same of streams, without usage and with it.
    streams: [Vec<OnceLock<Vec<Vec<u8>>>>; 2],
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    choices: usize,
    stream: bool,
    with_usage: bool,
}

impl Wish {
    pub fn of(body: &[u8]) -> Self {
        let is_true = |name: &[u8]| member(body, name).is_some_and(|value| value.starts_with(b"true"));
        Self {
            choices: member(body, b"\"n\":").and_then(number).map_or(1, |n| n.clamp(1, MOST_CHOICES)),
            stream: is_true(b"\"stream\":"),
            with_usage: is_true(b"\"include_usage\":"),
        }
    }
}

impl Instant {
    pub fn new(pace: Pace) -> Self {
        fn unmade<T>() -> Vec<OnceLock<T>> {
            (0..=MOST_CHOICES).map(|_| OnceLock::new()).collect()
        }
        Self { pace, whole: unmade(), streams: [unmade(), unmade()] }
    }

    /// Answers a request.
    pub async fn answer(&self, wish: Wish, request: &InFlight<'_>, writer: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let Wish { choices, stream: is_stream, with_usage } = wish;
        request.completion(choices as u64, PROMPT_TOKENS, COMPLETION_TOKENS * choices as u64);
        if !is_stream {
            if self.pace.first_token_ms > 0 {
                sleep_until((request.received() + Duration::from_millis(self.pace.first_token_ms)).into()).await;
            }
            writer.write_all(self.whole[choices].get_or_init(|| whole(choices))).await?;
            request.told(PROMPT_TOKENS, COMPLETION_TOKENS * choices as u64);
            return Ok(());
        }
        let pieces = self.streams[usize::from(with_usage)][choices].get_or_init(|| stream(choices, with_usage));
        let mut due = self.pace.due(0);
        // Pieces that are due together are one write: each costs more than all of them hold.
        let mut out: Vec<u8> = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            // The head waits for the first token, and the last two pieces end the stream without a pause.
            let is_token = at > 0 && at + 2 < pieces.len();
            if let Some(due) = due.next().filter(|due| (is_token || at == 0) && !due.is_zero()) {
                let due = request.received() + due;
                if due > Clock::now() {
                    writer.write_all(&out).await?;
                    out.clear();
                    sleep_until(due.into()).await;
                }
            }
            out.extend_from_slice(piece);
        }
        writer.write_all(&out).await?;
        if with_usage {
            request.told(PROMPT_TOKENS, COMPLETION_TOKENS * choices as u64);
        }
        Ok(())
    }
}

fn whole(choices: usize) -> Vec<u8> {
    let body = json!({
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "scripted",
        "choices": (0..choices).map(|index| json!({
            "index": index,
            "message": {"role": "assistant", "content": CONTENT, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        })).collect::<Vec<_>>(),
        "usage": usage(choices),
    })
    .to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// The head with the first chunk, one piece for each further chunk, and the end.
fn stream(choices: usize, with_usage: bool) -> Vec<Vec<u8>> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-0",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "scripted",
            "choices": choices,
        });
        if with_usage {
            chunk["usage"] = usage;
        }
        wire::chunk(format!("data: {chunk}\n\n").as_bytes())
    };
    let each = |delta: Value, finish_reason: Value| -> Vec<u8> {
        (0..choices)
            .flat_map(|index| {
                let choice =
                    json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]);
                chunk(choice, Value::Null)
            })
            .collect()
    };
    let mut first =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    first.extend(each(json!({"role": "assistant", "content": ""}), Value::Null));
    let mut pieces = vec![first];
    pieces.extend(words(CONTENT).map(|word| each(json!({"content": word}), Value::Null)));
    pieces.push(each(json!({}), json!("stop")));
    let mut end = Vec::new();
    if with_usage {
        end = chunk(json!([]), usage(choices));
    }
    end.extend(wire::chunk(b"data: [DONE]\n\n"));
    end.extend(wire::chunk(b""));
    pieces.push(end);
    pieces
}

fn usage(choices: usize) -> Value {
    let completion_tokens = COMPLETION_TOKENS * choices as u64;
    json!({
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
    })
}

/// What follows `name` in the text, without white space before it.
fn member<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = wire::find(body, name)?;
    Some(body[at + name.len()..].trim_ascii_start())
}

fn number(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_in_any_spacing_and_not_out_of_strings() {
        let read = |body: &str| {
            let Wish { choices, stream, with_usage } = Wish::of(body.as_bytes());
            (choices, stream, with_usage)
        };
        assert_eq!(read(r#"{"n":8,"stream":true,"stream_options":{"include_usage":true}}"#), (8, true, true));
        assert_eq!(read(r#"{"n": 3, "stream": false}"#), (3, false, false));
        assert_eq!(read(r#"{"messages":[{"content":"{\"n\":9,\"stream\":true}"}]}"#), (1, false, false));
        assert_eq!(read(r#"{"n":0}"#), (1, false, false));
        assert_eq!(read(r#"{"n":1000000}"#), (128, false, false));
        assert_eq!(read(r#"{"n":null}"#), (1, false, false));
        assert_eq!(read(""), (1, false, false));
    }
}
