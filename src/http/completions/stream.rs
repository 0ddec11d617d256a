//! The streamed answer: chunks as they come, under the model's name as the client knows it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::Failure;
use crate::generator::{Members, TextAnswer};
use crate::http::AppState;
use crate::http::backlog::{self, backlog};
use crate::http::chat::job::interrupted;
use crate::http::chat::{Interruption, Ticket};
use crate::http::error::ApiError;

use super::Call;

/// What the call tells the response.
enum Item {
    Chunk(Members),
    Failed(Failure),
    Ended,
}

/// Makes the call and answers with the stream of its chunks.
///
/// # Cancel safety
///
/// The body owns the call: when the client disconnects, the server drops it and the call ends. A body is polled only as
/// far as its client reads, so that the call listens for orders to end by itself.
pub async fn respond(call: Arc<Call>, ticket: Ticket, state: &AppState) -> Result<HttpResponse, ApiError> {
    let order = ticket.order().clone();
    let (writer, items) = backlog(order.clone(), state.unread_timeout);
    let task = AbortOnDropHandle::new(state.home(true).spawn({
        let call = Arc::clone(&call);
        async move {
            // Of an order the response hears from its ticket.
            let Ok(last) = order.or(make(&call, &writer)).await else { return };
            call.account(match &last {
                Item::Failed(failure) => Some(failure),
                Item::Chunk(_) | Item::Ended => None,
            });
            writer.end(last).await;
        }
    }));
    let work = Some(Work { ticket, _task: task });
    let mut events = Events { call, items, keep_alive: state.keep_alive, work };

    let first = match events.hear().await {
        Some(Heard::Item(Item::Failed(failure))) => return Err(ApiError::from(&failure)),
        Some(Heard::Interrupted(why)) => return Err(interrupted(why, &events.call.record)),
        Some(Heard::BrokenOff) | None => {
            tracing::error!("a streamed call ended by a defect of ours");
            return Err(ApiError::internal());
        }
        Some(heard) => events.render(heard),
    };
    let mut response = HttpResponse::Ok();
    for header in events.call.headers() {
        response.insert_header(header);
    }
    response.insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let rest = stream::unfold(events, |mut events| async move {
        let heard = events.hear().await?;
        Some((events.render(heard), events))
    });
    Ok(response.streaming(stream::iter([first]).chain(rest).map(Ok::<_, Infallible>)))
}

/// Makes the call, passes its chunks on and returns what comes after them.
async fn make(call: &Call, writer: &backlog::Writer<Item>) -> Item {
    let answer = match call.answer().await {
        Ok(answer) => answer,
        Err(failure) => return Item::Failed(failure),
    };
    let passing_on = async {
        match answer {
            // A chunk of everything.
            TextAnswer::Whole(answer) => put(writer, answer).await,
            TextAnswer::Stream(mut chunks) => {
                while let Some(chunk) = chunks.next().await {
                    put(writer, chunk?).await;
                }
            }
        }
        Ok(())
    };
    match call.run.until_deadline(passing_on).await {
        Ok(Ok(())) => Item::Ended,
        Ok(Err(failure)) | Err(failure) => Item::Failed(failure),
    }
}

async fn put(writer: &backlog::Writer<Item>, chunk: Members) {
    let bytes = chunk.iter().map(|(name, value)| name.len() + value.get().len()).sum();
    writer.put(Item::Chunk(chunk), bytes).await;
}

/// What the response hears next.
enum Heard {
    Item(Item),
    /// Nothing for as long as a stream may be silent.
    Silence,
    /// The order to end.
    Interrupted(Interruption),
    /// The call is gone without a word, which only a panic does.
    BrokenOff,
}

/// The response's end.
struct Events {
    call: Arc<Call>,
    items: backlog::Reader<Item>,
    /// The longest silence.
    keep_alive: Duration,
    /// Dropped with the last event.
    work: Option<Work>,
}

/// The call, which ends when this is dropped, and its place among those that can be cancelled.
struct Work {
    ticket: Ticket,
    _task: AbortOnDropHandle<()>,
}

impl Events {
    /// Waits for what is next; `None` after the last event.
    async fn hear(&mut self) -> Option<Heard> {
        let work = self.work.as_ref()?;
        tokio::select! {
            biased;
            why = work.ticket.order().given() => Some(Heard::Interrupted(why)),
            item = timeout(self.keep_alive, self.items.take()) => Some(match item {
                Ok(Some(item)) => Heard::Item(item),
                // The call may have heard of the order first.
                Ok(None) => work.ticket.order().is_given().map_or(Heard::BrokenOff, Heard::Interrupted),
                Err(_) => Heard::Silence,
            }),
        }
    }

    fn render(&mut self, heard: Heard) -> Bytes {
        match heard {
            Heard::Item(Item::Chunk(chunk)) => {
                self.note_id(&chunk);
                event(&self.call.signed(chunk))
            }
            Heard::Silence => Bytes::from_static(b": its\n\n"),
            Heard::Item(Item::Failed(failure)) => self.break_off(&ApiError::from(&failure)),
            Heard::Item(Item::Ended) => self.end(Bytes::from_static(b"data: [DONE]\n\n")),
            Heard::Interrupted(why) => {
                let error = interrupted(why, &self.call.record);
                self.break_off(&error)
            }
            Heard::BrokenOff => {
                tracing::error!("a streamed call ended by a defect of ours");
                self.break_off(&ApiError::internal())
            }
        }
    }

    fn break_off(&mut self, error: &ApiError) -> Bytes {
        self.call.record.note_broken_off(error);
        self.end(event(&error.body()))
    }

    fn end(&mut self, last: Bytes) -> Bytes {
        self.work = None;
        last
    }

    /// A provider's answer keeps the provider's id, which is the one that the client sees.
    fn note_id(&mut self, chunk: &Members) {
        let id = chunk.get("id").and_then(|id| serde_json::from_str(id.get()).ok());
        if let (Some(id), Some(work)) = (id, &mut self.work) {
            work.ticket.add_name(id);
        }
    }
}

fn event(value: &impl Serialize) -> Bytes {
    let mut out = b"data: ".to_vec();
    serde_json::to_writer(&mut out, value).expect("chunks always serialise to memory");
    out.extend_from_slice(b"\n\n");
    out.into()
}
