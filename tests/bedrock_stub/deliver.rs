//! Sends an answer as its step has it: late, in pieces, spoiled, broken off.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::sleep_until;

use super::answer::{Answer, padded};
use super::connection::date_header;
use super::counters::InFlight;
use super::event_stream;
use super::script::{Point, Step};
use super::state::Shared;
use super::wire;

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
    /// Whether a piece of a stream is out.
    pub began: &'a mut bool,
}

struct Body {
    status: u16,
    headers: Vec<(String, String)>,
    content: Content,
}

enum Content {
    Whole(Vec<u8>),
    /// Messages, and after how many of them a gate is waited for.
    Stream {
        messages: Vec<Vec<u8>>,
        gate_at: usize,
    },
}

impl Exchange<'_> {
    /// Answers a request with this body.
    pub async fn answer(&mut self, step: &Step, request: &Value, is_stream: bool) -> std::io::Result<Outcome> {
        if let Some(gate) = &step.gate {
            self.shared.gate_opened(gate).await;
        }
        if step.delay_ms > 0 {
            sleep_until((self.in_flight.received() + Duration::from_millis(step.delay_ms)).into()).await;
        }
        if let Some(end) = self.breaks_off(step, Point::Request).await {
            return Ok(end);
        }
        let body = body(step, request, is_stream, self.in_flight.number);
        self.send(body, step).await
    }

    async fn send(&mut self, body: Body, step: &Step) -> std::io::Result<Outcome> {
        let Body { status, mut headers, content } = body;
        headers.push(date_header(self.shared.state().now()));
        headers
            .push(("x-amzn-requestid".to_owned(), format!("00000000-0000-4000-8000-{:012x}", self.in_flight.number)));
        for (name, value) in &step.headers {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value.clone()));
        }
        headers.extend(step.retry_after.into_iter().flat_map(|form| form.headers()));
        self.in_flight.status(status);
        let length = if let Content::Whole(whole) = &content { Some(whole.len()) } else { None };
        let length = length.filter(|_| step.split_bytes.is_none());
        wire::send_head(self.writer, status, &headers, length).await?;
        if let Some(end) = self.breaks_off(step, Point::Head).await {
            return Ok(end);
        }
        let breaks = [step.close_at, step.hang_at, step.reset_at].contains(&Some(Point::Body));
        let (mut pieces, gate_at, half) = match content {
            Content::Whole(whole) => {
                let half = whole.len() / 2;
                let end = if breaks { half } else { whole.len() };
                (vec![whole[..end].to_vec()], usize::MAX, 1)
            }
            Content::Stream { messages, gate_at } => {
                let half = messages.len() / 2;
                (messages, gate_at, half)
            }
        };
        if breaks {
            pieces.truncate(half);
        }
        let is_chunked = length.is_none();
        match &step.stream_gate {
            // What the gate holds back must not be in a piece that is sent before it.
            Some(gate) if gate_at < pieces.len() => {
                let after = pieces.split_off(gate_at);
                self.send_pieces(pieces, step, is_chunked).await?;
                self.shared.gate_opened(gate).await;
                self.send_pieces(after, step, is_chunked).await?;
            }
            _ => self.send_pieces(pieces, step, is_chunked).await?,
        }
        if let Some(end) = self.breaks_off(step, Point::Body).await {
            return Ok(end);
        }
        if is_chunked {
            wire::send_chunk(self.writer, b"").await?;
        }
        Ok(Outcome::Next)
    }

    async fn send_pieces(&mut self, pieces: Vec<Vec<u8>>, step: &Step, is_chunked: bool) -> std::io::Result<()> {
        let pieces = match step.split_bytes {
            Some(size) => pieces.concat().chunks(size.max(1)).map(<[u8]>::to_vec).collect(),
            None => pieces,
        };
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            if let Some(pause) = step.drip_ms {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            if is_chunked {
                wire::send_chunk(self.writer, piece).await?;
                *self.began = true;
            } else {
                self.writer.write_all(piece).await?;
            }
        }
        Ok(())
    }

    /// What the step has in mind for this point, if anything.
    async fn breaks_off(&mut self, step: &Step, point: Point) -> Option<Outcome> {
        if step.hang_at == Some(point) {
            self.in_flight.count(|counters| counters.hung += 1);
            std::future::pending::<()>().await;
        }
        if step.reset_at == Some(point) {
            self.in_flight.count(|counters| counters.resets += 1);
            return Some(Outcome::Reset);
        }
        (step.close_at == Some(point)).then(|| {
            self.in_flight.count(|counters| counters.truncated += 1);
            Outcome::Close
        })
    }
}

fn body(step: &Step, request: &Value, is_stream: bool, number: u64) -> Body {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let json = || vec![header("content-type", "application/json")];
    if let Some(bytes) = step.bytes.as_deref().or(step.body.as_deref().map(str::as_bytes)) {
        let status = step.status.unwrap_or(200);
        return Body { status, headers: json(), content: Content::Whole(bytes.to_vec()) };
    }
    let at_once = step.exception.as_ref().filter(|_| !is_stream);
    if let Some(failure) = step.error.as_ref().or(at_once) {
        let mut headers = json();
        headers.push(("x-amzn-errortype".to_owned(), failure.error_type()));
        let status = step.status.unwrap_or_else(|| failure.status());
        return Body { status, headers, content: Content::Whole(failure.body().to_string().into_bytes()) };
    }
    let status = step.status.unwrap_or(200);
    let answer = Answer::new(step, request, number);
    if !is_stream {
        let whole = answer.whole().to_string().into_bytes();
        return Body { status, headers: json(), content: Content::Whole(whole) };
    }
    let events = match &step.events {
        Some(events) => events.iter().map(|event| (event.kind.clone(), event.payload.clone())).collect(),
        None => answer.events(),
    };
    let gate_at = events.iter().position(|(kind, _)| kind == "contentBlockDelta").map_or(1, |at| at + 1);
    let mut messages: Vec<Vec<u8>> = events
        .iter()
        .enumerate()
        .map(|(at, (kind, payload))| event_stream::event(kind, &padded(payload, at)))
        .collect();
    if let Some(failure) = &step.exception {
        messages.truncate(step.exception_after.unwrap_or(messages.len() / 2));
        messages.push(if failure.unmodelled {
            event_stream::error(&failure.kind, &failure.message())
        } else {
            event_stream::exception(&failure.member_name(), &failure.body().to_string())
        });
    }
    if let Some(message) = step.bad_checksum_at.and_then(|at| messages.get_mut(at)) {
        event_stream::spoil_checksum(message);
    }
    if let Some(at) = step.cut_at.filter(|at| *at < messages.len()) {
        messages.truncate(at + 1);
        let half = messages[at].len() / 2;
        messages[at].truncate(half);
    }
    let headers = vec![header("content-type", "application/vnd.amazon.eventstream")];
    Body { status, headers, content: Content::Stream { messages, gate_at } }
}
