//! The streamed answer: chunks as they come, under the model's name as the client knows it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::Failure;
use crate::generator::{Members, TextAnswer};
use crate::http::AppState;
use crate::http::chat::Ticket;
use crate::http::chat::job::cancelled;
use crate::http::error::ApiError;

use super::Call;

/// Chunks held for a slow reader before the upstream is kept waiting.
const PENDING_CHUNKS: usize = 64;

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
/// The body owns the call: when the client disconnects, the server drops it and the call ends.
pub async fn respond(call: Arc<Call>, ticket: Ticket, state: &AppState) -> Result<HttpResponse, ApiError> {
    let (sender, items) = mpsc::channel(PENDING_CHUNKS);
    let task = AbortOnDropHandle::new(state.home(true).spawn(make(Arc::clone(&call), sender)));
    let work = Some(Work { ticket, _task: task });
    let mut events = Events { call, items, keep_alive: state.keep_alive, work };

    let first = match events.hear().await {
        Some(Heard::Item(Item::Failed(failure))) => return Err(ApiError::from(&failure)),
        Some(Heard::Cancelled) => return Err(cancelled(&events.call.record)),
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

/// Makes the call. Without a reader there is nobody to tell, and this task goes with it.
async fn make(call: Arc<Call>, sender: mpsc::Sender<Item>) {
    let last = match call.answer().await {
        Err(failure) => Item::Failed(failure),
        // A chunk of everything.
        Ok(TextAnswer::Whole(answer)) => {
            let _ = sender.send(Item::Chunk(answer)).await;
            Item::Ended
        }
        Ok(TextAnswer::Stream(mut chunks)) => loop {
            match call.run.until_deadline(chunks.next()).await {
                Ok(Some(Ok(chunk))) => drop(sender.send(Item::Chunk(chunk)).await),
                Ok(None) => break Item::Ended,
                Ok(Some(Err(failure))) | Err(failure) => break Item::Failed(failure),
            }
        },
    };
    call.account(match &last {
        Item::Failed(failure) => Some(failure),
        Item::Chunk(_) | Item::Ended => None,
    });
    let _ = sender.send(last).await;
}

/// What the response hears next.
enum Heard {
    Item(Item),
    /// Nothing for as long as a stream may be silent.
    Silence,
    /// The order to end.
    Cancelled,
    /// The call is gone without a word, which only a panic does.
    BrokenOff,
}

/// The response's end.
struct Events {
    call: Arc<Call>,
    items: mpsc::Receiver<Item>,
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
            () = work.ticket.cancelled() => Some(Heard::Cancelled),
            item = timeout(self.keep_alive, self.items.recv()) => Some(match item {
                Ok(Some(item)) => Heard::Item(item),
                Ok(None) => Heard::BrokenOff,
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
            Heard::Item(Item::Failed(failure)) => self.end(event(&ApiError::from(&failure).body())),
            Heard::Item(Item::Ended) => self.end(Bytes::from_static(b"data: [DONE]\n\n")),
            Heard::Cancelled => {
                let error = cancelled(&self.call.record);
                self.end(event(&error.body()))
            }
            Heard::BrokenOff => {
                tracing::error!("a streamed call ended by a defect of ours");
                self.end(event(&ApiError::internal().body()))
            }
        }
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
