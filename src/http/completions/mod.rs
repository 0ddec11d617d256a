//! `POST /v1/completions`: OpenAI's legacy text completions. The raw prompt is continued by one call, whatever the
//! configuration says of algorithms.

mod request;
mod stream;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::failure::Failure;
use crate::generator::{Generator, Members, Phase, Run, TextAnswer, TextRequest};
use crate::runtime::{ActiveConfig, Destination};

use super::AppState;
use super::body::JsonBody;
use super::chat::is_strict;
use super::chat::job::{asked, cause, interrupted};
use super::chat::precedence::BUDGET_HEADER;
use super::chat::response::warnings_header;
use super::destination;
use super::error::ApiError;
use super::request_log::RequestRecord;
use super::spending;
use request::CompletionRequest;

/// Answers a request for raw text under the configuration that is active when it arrives.
///
/// # Cancel safety
///
/// The server drops this future when the client disconnects; with it goes the call.
pub async fn complete(state: Data<AppState>, request: HttpRequest, body: JsonBody) -> Result<HttpResponse, ApiError> {
    let record = request.extensions().get::<Arc<RequestRecord>>().cloned().expect("the request log wraps every route");
    let Some(active) = state.runtime.snapshot() else {
        let message = "no configuration is active yet; POST /configure sets one";
        return Err(ApiError::unavailable("model_error", message));
    };
    let mut parsed = CompletionRequest::parse(&body.0, is_strict(&request)?, &active.run)?;
    if request.headers().contains_key(BUDGET_HEADER) {
        parsed.warnings.push(format!("`{BUDGET_HEADER}` has no effect: raw prompts are never scaled"));
    }
    let destination = destination::of(&request, parsed.provider)?;
    let call = Call::prepare(&active, parsed, destination, record)?;
    let call = Arc::new(call);
    let ticket = state.running.register(call.names());
    if call.request.stream {
        return stream::respond(call, ticket, &state).await;
    }
    let run = AbortOnDropHandle::new(state.home(call.may_stay()).spawn({
        let (call, order) = (Arc::clone(&call), ticket.order().clone());
        async move { order.or(call.answer()).await }
    }));
    // Dropped before the run, so that a request whose call is seen to be gone is not known any more either.
    let _ticket = ticket;
    match run.await {
        Ok(Ok(Ok(TextAnswer::Whole(answer)))) => {
            let mut response = HttpResponse::Ok();
            for header in call.headers() {
                response.insert_header(header);
            }
            Ok(response.json(call.signed(answer)))
        }
        Ok(Ok(Ok(TextAnswer::Stream(_)))) => {
            tracing::error!("a stream answered a request for a whole answer");
            Err(ApiError::internal())
        }
        Ok(Ok(Err(failure))) => Err(ApiError::from(&failure)),
        Ok(Err(why)) => Err(interrupted(why, &call.record)),
        // The daemon ends at once, without waiting for what runs.
        Err(error) if error.is_cancelled() => Err(interrupted(super::chat::Interruption::Stopping, &call.record)),
        Err(panic) => {
            tracing::error!(%panic, "a call ended by a defect of ours");
            Err(ApiError::internal())
        }
    }
}

/// One call that is ready to be made.
struct Call {
    generator: Arc<dyn Generator>,
    request: TextRequest,
    run: Arc<Run>,
    /// The model as the client named it.
    client_model: String,
    id: String,
    /// Unix time in seconds.
    created: u64,
    revision: i64,
    warnings: Vec<String>,
    record: Arc<RequestRecord>,
}

impl Call {
    fn prepare(
        active: &ActiveConfig,
        parsed: CompletionRequest,
        destination: Destination,
        record: Arc<RequestRecord>,
    ) -> Result<Self, ApiError> {
        let CompletionRequest { mut request, limits, warnings, .. } = parsed;
        let client_model = request.model.clone();
        let route = active.route_to(&client_model, destination)?;
        request.model = route.model;
        let bounds = spending::bounds(&limits, record.arrived());
        let price = active.prices.of([&*client_model, &*request.model]);
        let prices = price.map(|price| (Phase::Generate, price)).into_iter().collect();
        let metered = Run::metered(request.sampling.seed, Arc::clone(record.metrics()), prices);
        let run = Arc::new(Run { bounds, ..metered });
        record.note(|facts| {
            facts.algorithm = Some("none");
            facts.revision = Some(active.revision);
            facts.planned = Some(1);
            facts.ledger = Some(Arc::clone(&run.ledger));
        });
        Ok(Self {
            generator: route.generator,
            request,
            run,
            client_model,
            id: format!("cmpl-{}", Uuid::new_v4().simple()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
            revision: active.revision,
            warnings,
            record,
        })
    }

    /// Whether the call may stay on the thread that serves its client: a connection costs it nothing.
    fn may_stay(&self) -> bool {
        self.generator.is_near()
    }

    /// The ids by which a client knows the request, as far as they are known before the call.
    fn names(&self) -> [String; 2] {
        [self.record.id.clone(), self.id.clone()]
    }

    /// Makes the call, as far as it goes before the first chunk of a stream.
    async fn answer(&self) -> Result<TextAnswer, Failure> {
        let call = self.generator.continue_texts(self.request.clone(), Arc::clone(&self.run));
        let answer = self.run.until_deadline(call).await.and_then(|answer| answer);
        self.account(answer.as_ref().err());
        answer
    }

    /// Notes for the log what was spent so far.
    fn account(&self, failure: Option<&Failure>) {
        let usage = self.run.ledger.total();
        self.record.note(|facts| {
            facts.prompt_tokens = Some(usage.prompt_tokens);
            facts.completion_tokens = Some(usage.completion_tokens);
            facts.cost_usd = self.run.cost_usd();
            facts.error = failure.map(cause);
            facts.asked = failure.and_then(|failure| asked(&*self.generator, &self.request.model, failure));
        });
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![
            (HeaderName::from_static("x-its-algorithm"), HeaderValue::from_static("none")),
            (HeaderName::from_static("x-its-revision"), HeaderValue::from(self.revision)),
        ];
        headers.extend(warnings_header(&self.warnings));
        headers
    }

    /// An answer or chunk with the model as the client named it, and with what a local model does not say.
    fn signed(&self, mut members: Members) -> Members {
        members.insert("model".to_owned(), raw(&self.client_model));
        for (name, value) in
            [("id", raw(&self.id)), ("object", raw("text_completion")), ("created", raw(&self.created))]
        {
            members.entry(name.to_owned()).or_insert(value);
        }
        members
    }
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("strings and numbers always serialise")
}
