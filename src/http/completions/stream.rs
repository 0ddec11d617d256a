//! The streamed answer: chunks as they come, under the model's name as the client knows it.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::Failure;
use crate::generator::{Members, TextAnswer};
use crate::http::AppState;
use crate::http::backlog::{self, backlog};
use crate::http::chat::job::interrupted;
use crate::http::chat::{Interruption, Ticket};
use crate::http::error::ApiError;
use crate::http::event_stream::{self, Telling, event};
use crate::http::request_log::RequestRecord;

use super::Call;

type Item = event_stream::Item<Members, ()>;

/// Makes the call and answers with the stream of its chunks.
///
/// # Cancel safety
///
/// The body owns the call: when the client disconnects, it ends.
pub async fn respond(call: Arc<Call>, ticket: Ticket, state: &AppState) -> Result<HttpResponse, ApiError> {
    let order = ticket.order().clone();
    let (writer, items) = backlog(order.clone(), state.unread_timeout);
    let run = AbortOnDropHandle::new(state.home(call.may_stay()).spawn({
        let call = Arc::clone(&call);
        async move {
            // Of an order the response hears from its ticket.
            let Ok(made) = order.or(make(&call, &writer)).await else { return };
            call.account(made.as_ref().err());
            let last = match made {
                Ok(()) => Item::Answer(()),
                Err(failure) => Item::Failed(ApiError::from(&failure)),
            };
            writer.end(last).await;
        }
    }));
    event_stream::respond(Told { call }, items, ticket, run, state.keep_alive).await
}

/// Makes the call and passes its chunks on.
async fn make(call: &Call, writer: &backlog::Writer<Item>) -> Result<(), Failure> {
    let answer = call.answer().await?;
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
    call.run.until_deadline(passing_on).await?
}

async fn put(writer: &backlog::Writer<Item>, chunk: Members) {
    let bytes = chunk.iter().map(|(name, value)| name.len() + value.get().len()).sum();
    writer.put(Item::Piece(chunk), bytes).await;
}

/// A call as its client is told of it.
struct Told {
    call: Arc<Call>,
}

impl Telling for Told {
    type Piece = Members;
    type Answer = ();

    fn headers(&self, _: Option<&()>) -> Vec<(HeaderName, HeaderValue)> {
        self.call.headers()
    }

    fn piece(&mut self, chunk: Members, ticket: &mut Ticket) -> Bytes {
        // A provider's answer keeps the provider's id, which is the one that the client sees.
        if let Some(id) = chunk.get("id").and_then(|id| serde_json::from_str(id.get()).ok()) {
            ticket.add_name(id);
        }
        event(&self.call.signed(chunk))
    }

    fn answer(&mut self, (): ()) -> Bytes {
        Bytes::from_static(b"data: [DONE]\n\n")
    }

    fn silence(&mut self) -> Bytes {
        Bytes::from_static(b": its\n\n")
    }

    fn interrupted(&self, why: Interruption) -> ApiError {
        interrupted(why, &self.call.record)
    }

    fn record(&self) -> &RequestRecord {
        &self.call.record
    }
}
