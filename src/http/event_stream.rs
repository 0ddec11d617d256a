//! A streamed response: what a run tells as it goes on, as server-sent events, up to its answer or to what came
//! instead.
//!
//! The status line waits for the first sign of life, so that a run which fails at once is a plain HTTP error.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::backlog::Reader;
use super::chat::response::guarded;
use super::chat::{Interruption, Listener, Ticket};
use super::error::ApiError;

/// More is not handed to the connection at a time: it would be copied whole, and kept until the last of it is read.
const PIECE_BYTES: usize = 64 << 10;

/// What a run tells the response.
pub enum Item<P, A> {
    /// A piece of what is passed on as it comes.
    Piece(P),
    /// The last word.
    Answer(A),
    /// The last word where there is no answer.
    Failed(ApiError),
}

/// How one kind of run is told to its client. Whatever it returns is whole events, or nothing.
pub trait Telling {
    type Piece;
    type Answer;

    /// The headers of the response, of which the first thing heard may be the answer.
    fn headers(&self, answer: Option<&Self::Answer>) -> Vec<(HeaderName, HeaderValue)>;

    /// A piece, which may bring to light a further name of the request.
    fn piece(&mut self, piece: Self::Piece, ticket: &mut Ticket) -> Bytes;

    /// The answer, and the end of the stream.
    fn answer(&mut self, answer: Self::Answer) -> Bytes;

    /// A sign of life after a silence.
    fn silence(&mut self) -> Bytes;

    /// Waits until the run has come further in a way that the client wants to hear of; `None` when it will not.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    async fn further(&mut self) -> Option<()> {
        None
    }

    /// How far the run has come.
    fn progress(&mut self) -> Bytes {
        Bytes::new()
    }

    /// What the client is told of an order to end.
    fn interrupted(&self, why: Interruption) -> ApiError;
}

/// Answers with the events of a run that goes on in a task of its own. `keep_alive` is the longest silence.
///
/// # Errors
///
/// What the run ends with before there is anything to tell.
///
/// # Cancel safety
///
/// The body owns the run: when the client disconnects, the server drops it and every call in flight ends. A body is
/// polled only as far as its client reads, so that the run must listen for orders to end by itself.
pub async fn respond<T: Telling + 'static>(
    telling: T,
    items: Reader<Item<T::Piece, T::Answer>>,
    ticket: Ticket,
    run: AbortOnDropHandle<()>,
    keep_alive: Duration,
) -> Result<HttpResponse, ApiError> {
    let work = Some(Work { listener: ticket.order().listener(), ticket, _run: run });
    let mut events = Events { telling, items, keep_alive, silence: Box::pin(sleep(keep_alive)), work };

    let first = events.hear().await.unwrap_or(Heard::BrokenOff);
    let headers = match &first {
        Heard::Item(Item::Answer(answer)) => guarded(|| events.telling.headers(Some(answer)))?,
        _ => events.telling.headers(None),
    };
    let first = match first {
        Heard::Item(Item::Failed(error)) => return Err(error),
        Heard::Interrupted(why) => return Err(events.telling.interrupted(why)),
        Heard::BrokenOff => return Err(broken_off()),
        heard => events.render(heard),
    };
    let mut response = HttpResponse::Ok();
    for header in headers {
        response.insert_header(header);
    }
    response.insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let body = stream::unfold((first, events), |(mut bytes, mut events)| async move {
        while bytes.is_empty() {
            let heard = events.hear().await?;
            bytes = events.render(heard);
        }
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        Some((Ok::<_, Infallible>(piece), (bytes, events)))
    });
    Ok(response.streaming(body))
}

/// Writes the event of an object.
pub fn write_event(out: &mut Vec<u8>, value: &impl Serialize) {
    out.extend_from_slice(b"data: ");
    serde_json::to_writer(&mut *out, value).expect("what is told always serialises to memory");
    out.extend_from_slice(b"\n\n");
}

/// The event of an object.
pub fn event(value: &impl Serialize) -> Bytes {
    let mut out = Vec::new();
    write_event(&mut out, value);
    out.into()
}

/// What the response hears next.
enum Heard<P, A> {
    Item(Item<P, A>),
    /// The run has come further.
    Further,
    /// Nothing for as long as a stream may be silent.
    Silence,
    /// The order to end.
    Interrupted(Interruption),
    /// The run is gone without a word, which only a panic does.
    BrokenOff,
}

/// The response's end: turns what the run tells into events.
struct Events<T: Telling> {
    telling: T,
    items: Reader<Item<T::Piece, T::Answer>>,
    keep_alive: Duration,
    /// Ends a silence.
    silence: Pin<Box<Sleep>>,
    /// Until the last event is out.
    work: Option<Work>,
}

/// The run, which ends when this is dropped, and its place among those that can be cancelled.
struct Work {
    ticket: Ticket,
    listener: Listener,
    _run: AbortOnDropHandle<()>,
}

impl<T: Telling> Events<T> {
    /// Waits for what is next; `None` after the last event.
    async fn hear(&mut self) -> Option<Heard<T::Piece, T::Answer>> {
        let work = self.work.as_mut()?;
        let order = work.ticket.order();
        if let Some(why) = order.is_given() {
            return Some(Heard::Interrupted(why));
        }
        self.silence.as_mut().reset(Instant::now() + self.keep_alive);
        Some(tokio::select! {
            biased;
            // Before the end that may be here too, so that the last progress is told.
            Some(()) = self.telling.further() => Heard::Further,
            item = self.items.take() => match item {
                Some(item) => Heard::Item(item),
                // The run may have heard of the order first.
                None => order.is_given().map_or(Heard::BrokenOff, Heard::Interrupted),
            },
            why = work.listener.given() => Heard::Interrupted(why),
            () = self.silence.as_mut() => Heard::Silence,
        })
    }

    fn render(&mut self, heard: Heard<T::Piece, T::Answer>) -> Bytes {
        guarded(|| self.write(heard)).unwrap_or_else(|error| {
            self.work = None;
            event(&error.body())
        })
    }

    fn write(&mut self, heard: Heard<T::Piece, T::Answer>) -> Bytes {
        match heard {
            Heard::Item(Item::Piece(piece)) => match &mut self.work {
                Some(work) => self.telling.piece(piece, &mut work.ticket),
                None => Bytes::new(),
            },
            Heard::Further => self.telling.progress(),
            Heard::Silence => self.telling.silence(),
            // In what follows the calls go first, then the client is told.
            Heard::Item(Item::Answer(answer)) => {
                self.work = None;
                self.telling.answer(answer)
            }
            Heard::Item(Item::Failed(error)) => {
                self.work = None;
                event(&error.body())
            }
            Heard::Interrupted(why) => {
                self.work = None;
                event(&self.telling.interrupted(why).body())
            }
            Heard::BrokenOff => {
                self.work = None;
                event(&broken_off().body())
            }
        }
    }
}

fn broken_off() -> ApiError {
    tracing::error!("a streamed run ended by a defect of ours");
    ApiError::internal()
}
