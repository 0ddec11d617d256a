//! `POST /v1/chat/completions`: one question in, one answer out, whatever was spent in between.

pub(super) mod job;
pub(super) mod request;
pub(super) mod response;
pub(super) mod stream;

use std::sync::Arc;

use actix_web::web::{Data, Query};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::task::AbortOnDropHandle;

use crate::algorithms::vote::VoteRules;
use crate::config::run::RunSettings;

use super::AppState;
use super::body::JsonBody;
use super::destination;
use super::error::ApiError;
use super::request_log::RequestRecord;
use job::Job;
use request::ChatRequest;

pub(super) const BUDGET_HEADER: &str = "X-ITS-Budget";

#[derive(Debug, Deserialize)]
pub struct ChatQuery {
    /// Refuses unknown fields instead of forwarding them.
    #[serde(default)]
    pub(super) strict: bool,
}

/// Answers a chat request under the configuration that is active when it arrives.
///
/// # Cancel safety
///
/// The server drops this future when the client disconnects; with it goes the run and every call in flight.
pub async fn complete(
    state: Data<AppState>,
    request: HttpRequest,
    query: Query<ChatQuery>,
    body: JsonBody,
) -> Result<HttpResponse, ApiError> {
    let record = request.extensions().get::<Arc<RequestRecord>>().cloned().expect("the request log wraps every route");
    let Some(active) = state.runtime.snapshot() else {
        let message = "no configuration is active yet; POST /configure sets one";
        return Err(ApiError::unavailable("model_error", message));
    };
    let mut chat = ChatRequest::parse(&body.0, query.strict)?;
    if let Some(budget) = budget_header(&request)? {
        chat.overrides.insert("budget".to_owned(), budget);
    }
    let destination = destination::of(&request, chat.provider)?;
    let job = Job::prepare(&active, chat, destination, record)?;
    if job.stream {
        return stream::respond(job, &state.workers).await;
    }
    // The run belongs to the fan-out's runtime; what waits here is only for its answer.
    let run = state.workers.spawn(async move {
        let outcome = job.run(&mut ()).await;
        outcome.map(|outcome| (job, outcome))
    });
    match AbortOnDropHandle::new(run).await {
        Ok(Ok((job, outcome))) => Ok(job.finish(&outcome).render()),
        Ok(Err(error)) => Err(error.into()),
        Err(panic) => {
            tracing::error!(%panic, "a run ended by a defect of ours");
            Err(ApiError::internal())
        }
    }
}

/// The budget of the header, which wins over the body's: for clients whose bodies are out of reach.
fn budget_header(request: &HttpRequest) -> Result<Option<Box<RawValue>>, ApiError> {
    let Some(header) = request.headers().get(BUDGET_HEADER) else { return Ok(None) };
    match header.to_str().unwrap_or_default().trim().parse::<u32>() {
        Ok(budget) => Ok(Some(to_raw_value(&budget).expect("a number serialises"))),
        Err(_) => {
            Err(ApiError::invalid_value(BUDGET_HEADER, format!("`{BUDGET_HEADER}` must be a whole number such as 8")))
        }
    }
}

fn compile_rules(settings: &RunSettings) -> Result<VoteRules, ApiError> {
    VoteRules::compile(settings).map_err(|error| ApiError::invalid_value(error.param, error.message))
}
