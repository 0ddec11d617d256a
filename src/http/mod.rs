//! The HTTP service: every route in one place, and the state that handlers share.
//!
//! Handlers are thin: they parse, take one snapshot of the active configuration, start the work where it
//! belongs and render what comes back. Only this module, `app` and `serve` know the web framework.

mod backlog;
pub mod body;
pub mod chat;
mod completions;
pub mod configure;
mod destination;
mod documentation;
pub mod error;
mod event_stream;
mod fields;
pub mod history;
pub mod host;
mod json_text;
mod metrics;
mod models;
mod openapi;
mod ops;
mod query;
pub mod request_log;
mod spending;

use std::sync::Arc;
use std::time::Duration;

use actix_web::guard::fn_guard;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, ResponseError};
use tokio::runtime::Handle;

use crate::metrics::Metrics;
use crate::runtime::Runtime;
use error::ApiError;
use host::HostPolicy;
use request_log::RequestRecord;

/// What handlers share.
pub struct AppState {
    pub runtime: Arc<Runtime>,
    pub metrics: Arc<Metrics>,
    /// Where runs live that share their connections, or have much to read: one multi-threaded runtime.
    pub workers: Handle,
    pub hosts: HostPolicy,
    /// Requests that can be told to end.
    pub running: chat::Running,
    /// The longest silence on a stream.
    pub keep_alive: Duration,
    /// How long a client may read nothing of a stream that has more for it.
    pub unread_timeout: Duration,
}

impl AppState {
    /// Where the work of a request lives. One that may stay lives on the thread that serves the client, so that no other
    /// thread has to wake up for it or for its calls.
    fn home(&self, may_stay: bool) -> Handle {
        if may_stay { Handle::current() } else { self.workers.clone() }
    }
}

/// Every route of the daemon.
pub fn routes(service: &mut ServiceConfig) {
    service
        .service(
            resource("/configure", "GET, PATCH, POST")
                .route(web::get().to(configure::show))
                .route(web::patch().to(configure::patch))
                .route(web::post().to(configure::replace)),
        )
        .service(resource("/configure/history", "GET").route(web::get().to(history::list)))
        .service(resource("/configure/rollback", "POST").route(web::post().to(history::roll_back)))
        .service(resource("/v1/chat/completions", "POST").route(web::post().to(chat::complete)))
        .service(resource("/v1/completions", "POST").route(web::post().to(completions::complete)))
        .service(resource("/v1/chat/cancel/{request_id}", "POST").route(web::post().to(chat::cancel)))
        .service(resource("/v1/models", "GET").route(web::get().to(models::list)))
        .service(resource("/v1/models/{id:.+}", "GET").route(web::get().to(models::show)))
        // After the paths above, so that no algorithm's name can hide one of them.
        .service(resource("/v1/{algorithm}/chat/completions", "POST").route(web::post().to(chat::complete)))
        .service(resource("/v1/{algorithm}/{scorer}/chat/completions", "POST").route(web::post().to(chat::complete)))
        .service(resource("/health", "GET, HEAD").route(web::get().to(ops::health)).route(web::head().to(ops::health)))
        .service(resource("/ready", "GET, HEAD").route(web::get().to(ops::ready)).route(web::head().to(ops::ready)))
        .service(
            resource("/metrics", "GET, HEAD")
                .route(web::get().to(metrics::expose))
                .route(web::head().to(metrics::expose)),
        )
        .service(resource("/docs", "GET").route(web::get().to(documentation::page)))
        .service(resource("/docs/", "GET").route(web::get().to(documentation::page)))
        .service(resource("/docs/{file}", "GET").route(web::get().to(documentation::file)))
        .service(resource("/openapi.json", "GET").route(web::get().to(documentation::document)))
        .default_service(web::to(unknown_path));
}

/// A path that answers other methods with a 405 that names the right ones. Whatever becomes of a request for it, its
/// record knows the pattern from here on.
fn resource(pattern: &'static str, allow: &'static str) -> Resource {
    let note = fn_guard(move |context| {
        if let Some(record) = context.req_data().get::<Arc<RequestRecord>>() {
            record.note_route(pattern);
        }
        true
    });
    web::resource(pattern).guard(note).default_service(web::to(move |request: HttpRequest| async move {
        let message = format!("{} is not a method of {}; use {allow}", request.method(), request.path());
        let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", None, None, message);
        let mut response = error.error_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        response
    }))
}

/// Endpoints that clients know from elsewhere and that a later version will have.
const LATER: &[(&str, &str)] = &[("POST", "/v1/embeddings"), ("POST", "/v1/rerank"), ("POST", "/rerank")];

async fn unknown_path(request: HttpRequest) -> HttpResponse {
    let (method, path) = (request.method().as_str(), request.path());
    if LATER.contains(&(method, path)) {
        let message = format!("{method} {path} is not in this version yet");
        let code = Some("not_supported_yet");
        return ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", code, None, message).error_response();
    }
    let message =
        format!("there is no {method} {path}; chat is POST /v1/chat/completions, and GET /docs shows every path");
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", None, None, message).error_response()
}
