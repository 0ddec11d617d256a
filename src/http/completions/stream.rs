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
pub async fn respond(call: Call, state: &AppState) -> Result<HttpResponse, ApiError> {
    let call = Arc::new(call);
    let (sender, items) = mpsc::channel(PENDING_CHUNKS);
    let task = AbortOnDropHandle::new(state.workers.spawn(make(Arc::clone(&call), sender)));
    let mut events = Events { call, items, keep_alive: state.keep_alive, over: false, _task: task };

    let first = match timeout(events.keep_alive, events.items.recv()).await {
        Ok(Some(Item::Failed(failure))) => return Err(ApiError::from(&failure)),
        Ok(Some(item)) => events.render(item),
        Ok(None) => {
            tracing::error!("a streamed call ended by a defect of ours");
            return Err(ApiError::internal());
        }
        Err(_) => keep_alive(),
    };
    let mut response = HttpResponse::Ok();
    for header in events.call.headers() {
        response.insert_header(header);
    }
    response.insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"));
    response.insert_header((CACHE_CONTROL, "no-cache"));
    let rest = stream::unfold(events, |mut events| async move { events.next().await.map(|bytes| (bytes, events)) });
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

/// The response's end.
struct Events {
    call: Arc<Call>,
    items: mpsc::Receiver<Item>,
    /// The longest silence.
    keep_alive: Duration,
    over: bool,
    _task: AbortOnDropHandle<()>,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        Some(match timeout(self.keep_alive, self.items.recv()).await {
            Ok(Some(item)) => self.render(item),
            Ok(None) => {
                self.over = true;
                tracing::error!("a streamed call ended by a defect of ours");
                event(&ApiError::internal().body())
            }
            Err(_) => keep_alive(),
        })
    }

    fn render(&mut self, item: Item) -> Bytes {
        match item {
            Item::Chunk(chunk) => event(&self.call.signed(chunk)),
            Item::Failed(failure) => {
                self.over = true;
                event(&ApiError::from(&failure).body())
            }
            Item::Ended => {
                self.over = true;
                Bytes::from_static(b"data: [DONE]\n\n")
            }
        }
    }
}

fn event(value: &impl Serialize) -> Bytes {
    let mut out = b"data: ".to_vec();
    serde_json::to_writer(&mut out, value).expect("chunks always serialise to memory");
    out.extend_from_slice(b"\n\n");
    out.into()
}

fn keep_alive() -> Bytes {
    Bytes::from_static(b": its\n\n")
}
