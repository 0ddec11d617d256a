//! `POST /v1/chat/completions`: one question in, one answer out, whatever was spent in between.

mod answers;
mod chunks;
mod ending;
pub(super) mod job;
mod metadata;
pub(super) mod precedence;
pub(super) mod request;
pub(super) mod response;
mod running;
mod stream;
pub(super) mod tts;
mod tts_metadata;

use std::sync::Arc;

use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use tokio_util::task::AbortOnDropHandle;

use crate::algorithms::vote::VoteRules;
use crate::config::run::RunSettings;

use super::AppState;
use super::body::JsonBody;
use super::destination;
use super::error::ApiError;
use super::query::QueryFields;
use super::request_log::RequestRecord;
use job::Job;
use precedence::PathChoice;
use request::ChatRequest;

pub(super) use running::{Interruption, Listener, Order, Ticket};
pub use running::{Running, cancel};

/// Whether the query string asks to refuse unknown fields instead of forwarding them.
///
/// # Errors
///
/// A query string that says anything else.
pub(super) fn is_strict(request: &HttpRequest) -> Result<bool, ApiError> {
    QueryFields::of(request, &["strict"])?.flag("strict")
}

/// Answers a chat request under the configuration that is active when it arrives. The path may name the algorithm and
/// the scorer.
///
/// # Cancel safety
///
/// The server drops this future when the client disconnects; with it goes the run and every call in flight.
pub async fn complete(state: Data<AppState>, request: HttpRequest, body: JsonBody) -> Result<HttpResponse, ApiError> {
    let record = request.extensions().get::<Arc<RequestRecord>>().cloned().expect("the request log wraps every route");
    let Some(active) = state.runtime.snapshot() else {
        let message = "no configuration is active yet; POST /configure sets one";
        return Err(ApiError::unavailable("model_error", message));
    };
    let path = PathChoice::of(&request)?;
    let mut chat = ChatRequest::parse(&body.0, is_strict(&request)?)?;
    precedence::put_header_over(&request, &mut chat.overrides)?;
    let destination = destination::of(&request, chat.provider)?;
    let job = Arc::new(Job::prepare(&active, chat, &path, destination, record)?);
    let ticket = state.running.register(job.names());
    if job.stream {
        return stream::respond(job, ticket, &state).await;
    }
    // A task of its own, whose panic is not the server's.
    let run = AbortOnDropHandle::new(state.home(job.may_stay()).spawn({
        let (job, order) = (Arc::clone(&job), ticket.order().clone());
        async move { order.or(job.run(&mut ())).await }
    }));
    // Dropped before the run, so that a request whose calls are seen to be gone is not known any more either.
    let _ticket = ticket;
    match run.await {
        Ok(Ok(Ok(outcome))) => response::guarded(|| job.finish(&outcome).render()),
        Ok(Ok(Err(error))) => Err(error.into()),
        Ok(Err(why)) => Err(job.interrupted(why)),
        // The daemon ends at once, without waiting for what runs.
        Err(error) if error.is_cancelled() => Err(job.interrupted(Interruption::Stopping)),
        Err(panic) => {
            tracing::error!(%panic, "a run ended by a defect of ours");
            Err(ApiError::internal())
        }
    }
}

fn compile_rules(settings: &RunSettings) -> Result<VoteRules, ApiError> {
    VoteRules::compile(settings).map_err(|error| ApiError::invalid_value(error.param, error.message))
}
