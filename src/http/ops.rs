//! `/health` and `/ready`, for those who watch over the daemon.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::Data;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::AppState;
use crate::runtime::UpstreamState;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    timestamp: String,
    version: &'static str,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    /// What the operator should know although requests are answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// How the remote providers are, which decides nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    providers: Vec<UpstreamState>,
}

/// Liveness: the process answers. Touches nothing else.
pub async fn health() -> HttpResponse {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    let timestamp = OffsetDateTime::now_utc().format(format).expect("a UTC time has every component of the format");
    HttpResponse::Ok().json(Health { status: "healthy", timestamp, version: env!("CARGO_PKG_VERSION") })
}

/// Readiness: chat requests will be answered. An outage of a provider does not fail it.
pub async fn ready(state: Data<AppState>) -> HttpResponse {
    let reasons = state.runtime.readiness().await;
    let ready = reasons.is_empty();
    // Another configuration than the operator's may answer, which is no reason to take the daemon out.
    let warnings = if ready { state.runtime.not_restored().to_vec() } else { Vec::new() };
    let mut response = HttpResponse::build(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE });
    if !ready {
        response.insert_header((RETRY_AFTER, "1"));
    }
    let providers = state.runtime.upstreams();
    response.json(Readiness { ready, reasons, warnings, providers })
}
