//! Sends an answer as its step has it: late, paced, in pieces, broken off.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::sleep_until;

use super::chat::Chat;
use super::completion::{self, Answer, Piece};
use super::counters::InFlight;
use super::pace::Pace;
use super::profile::{ErrorShape, Profile};
use super::refusal::{ErrorBody, Refusal};
use super::script::{Point, Step};
use super::state::Shared;
use super::{text, wire};

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It may serve another request.
    Next,
    /// It is closed in good order.
    Close,
    /// It is reset.
    Reset,
}

/// A request that is to be answered.
pub struct Exchange<'a> {
    pub shared: &'a Shared,
    pub in_flight: &'a InFlight<'a>,
    pub writer: &'a mut OwnedWriteHalf,
}

/// What is sent: a completion, or something else that costs nothing.
struct Body {
    status: u16,
    content_type: &'static str,
    pieces: Vec<Piece>,
    is_chunked: bool,
    /// Of a completion: choices, the tokens of prompt and completion, and whether the body tells them.
    cost: Option<(u64, u64, u64, bool)>,
}

impl Exchange<'_> {
    /// Answers a request that the server takes.
    pub async fn answer(&mut self, chat: &Chat, step: &Step, number: u64) -> std::io::Result<Outcome> {
        if let Some(gate) = &step.gate {
            self.shared.gate_opened(gate).await;
        }
        if step.delay_ms > 0 {
            sleep_until((self.in_flight.received() + Duration::from_millis(step.delay_ms)).into()).await;
        }
        if let Some(end) = self.breaks_off(step, Point::Request).await {
            return Ok(end);
        }
        let (honours_n, pace) = {
            let state = self.shared.state();
            (state.honours_n, step.pace.or(state.pace))
        };
        let body = body(chat, step, number, honours_n);
        self.send(body, step, pace, number).await
    }

    /// Refuses a request.
    pub async fn refuse(&mut self, refusal: &Refusal, profile: Profile) -> std::io::Result<Outcome> {
        let body = refused(refusal.body(profile), false);
        self.send(body, &Step::default(), None, 0).await
    }

    async fn send(&mut self, body: Body, step: &Step, pace: Option<Pace>, number: u64) -> std::io::Result<Outcome> {
        let mut headers = vec![("content-type".to_owned(), body.content_type.to_owned())];
        for (name, value) in &step.headers {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value.clone()));
        }
        headers.extend(step.more_headers.iter().cloned());
        headers.extend(step.retry_after.into_iter().flat_map(|form| form.headers()));
        let length = (!body.is_chunked).then(|| body.pieces.iter().map(|piece| piece.bytes.len()).sum());
        self.in_flight.status(body.status);
        if let Some((choices, prompt_tokens, completion_tokens, _)) = body.cost {
            self.in_flight.completion(choices, prompt_tokens, completion_tokens);
        }
        let mut due = pace.map(|pace| pace.due(number));
        if !body.is_chunked
            && let Some(due) = &mut due
        {
            // A whole answer waits for the last token of its longest choice.
            let (choices, _, tokens, _) = body.cost.unwrap_or((1, 0, 1, false));
            let last =
                due.nth((tokens / choices.max(1)).saturating_sub(1) as usize).expect("tokens are due without end");
            sleep_until((self.in_flight.received() + last).into()).await;
        }
        wire::send_head(self.writer, body.status, &headers, length).await?;
        if let Some(end) = self.breaks_off(step, Point::Head).await {
            return Ok(end);
        }
        let breaks = [step.close_at, step.hang_at, step.reset_at].contains(&Some(Point::Body));
        if !body.is_chunked {
            let whole: Vec<u8> = body.pieces.into_iter().flat_map(|piece| piece.bytes).collect();
            let half = if breaks { whole.len() / 2 } else { whole.len() };
            self.writer.write_all(&whole[..half]).await?;
            if let Some(end) = self.breaks_off(step, Point::Body).await {
                return Ok(end);
            }
            self.tell(body.cost);
            return Ok(Outcome::Next);
        }
        let first_content = body.pieces.iter().position(|piece| piece.is_token).map_or(1, |at| at + 1);
        let count = body.pieces.len();
        for (at, piece) in body.pieces.iter().enumerate() {
            if at == first_content
                && let Some(gate) = &step.stream_gate
            {
                self.shared.gate_opened(gate).await;
            }
            if breaks && at >= count / 2 {
                return Ok(self.breaks_off(step, Point::Body).await.expect("it breaks off here"));
            }
            if let Some(due) = due.as_mut().filter(|_| piece.is_token).and_then(Iterator::next) {
                sleep_until((self.in_flight.received() + due).into()).await;
            }
            if let Some(pause) = step.drip_ms {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            wire::send_chunk(self.writer, &piece.bytes).await?;
            // A client need not wait for what comes after it.
            if wire::find(&piece.bytes, b"\"usage\":{").is_some() {
                self.tell(body.cost);
            }
        }
        wire::send_chunk(self.writer, b"").await?;
        Ok(Outcome::Next)
    }

    fn tell(&self, cost: Option<(u64, u64, u64, bool)>) {
        if let Some((_, prompt_tokens, completion_tokens, true)) = cost {
            self.in_flight.told(prompt_tokens, completion_tokens);
        }
    }

    /// How the answer ends at `point`, if it does; one that hangs there never returns.
    async fn breaks_off(&self, step: &Step, point: Point) -> Option<Outcome> {
        if step.hang_at == Some(point) {
            self.in_flight.hung();
            std::future::pending::<()>().await;
        }
        if step.reset_at == Some(point) {
            self.in_flight.reset();
            return Some(Outcome::Reset);
        }
        (step.close_at == Some(point)).then(|| {
            self.in_flight.truncated();
            Outcome::Close
        })
    }
}

fn body(chat: &Chat, step: &Step, number: u64, honours_n: Option<bool>) -> Body {
    let mut body = if let Some(status) = step.refuse {
        let said = Refusal::of_status(status).body(chat.profile);
        let is_event = chat.stream && chat.quirks().errors == ErrorShape::In200;
        refused(said, is_event)
    } else if let Some(bytes) = step.bytes.as_deref().or(step.body.as_deref().map(str::as_bytes)) {
        Body {
            status: 200,
            content_type: "application/json",
            pieces: vec![Piece::new(bytes, true)],
            is_chunked: chat.stream,
            cost: None,
        }
    } else {
        let choices = chat.choices(honours_n);
        let answer = if chat.is_text {
            text::answer(chat, step, number, choices)
        } else {
            completion::answer(chat, step, number, choices)
        };
        let cost = cost(&answer);
        Body {
            status: 200,
            content_type: answer.content_type,
            pieces: answer.pieces,
            is_chunked: chat.stream,
            cost: Some(cost),
        }
    };
    body.status = step.status.unwrap_or(body.status);
    if let Some(size) = step.split_bytes {
        let whole: Vec<u8> = body.pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        body.pieces = whole.chunks(size.max(1)).map(|piece| Piece::new(piece, false)).collect();
        body.is_chunked = true;
    }
    body
}

fn refused(said: ErrorBody, is_event: bool) -> Body {
    let ErrorBody { status, content_type, text } = said;
    let (content_type, text) =
        if is_event { ("text/event-stream", format!("data: {text}\n\n")) } else { (content_type, text) };
    Body { status, content_type, pieces: vec![Piece::new(text, false)], is_chunked: is_event, cost: None }
}

fn cost(answer: &Answer) -> (u64, u64, u64, bool) {
    let count = |name: &str| answer.usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    (answer.choices as u64, count("prompt_tokens"), count("completion_tokens"), answer.tells_usage)
}
