//! The one shape in which every error reaches a client, and the one conversion of failures to HTTP.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::algorithms::{PlanError, RunError};
use crate::config::field::SettingsError;
use crate::failure::{Failure, FailureKind};
use crate::runtime::UnknownModel;

/// An error as the client gets it: status, and `{"error":{"message","type","param","code"},"detail"}`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub status: StatusCode,
    /// OpenAI's error `type`.
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<String>,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// Whether compute was spent on the request, so that a client must not repeat it by itself:
    /// OpenAI's clients retry twice by default and would triple the bill.
    pub spent: bool,
}

/// The header by which OpenAI's clients are told not to repeat a request.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// An upstream may name any delay; clients that obey it would sleep for days.
const MOST_RETRY_AFTER_S: u64 = 3600;

impl ApiError {
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        param: Option<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, param, message: message.into(), retry_after: None, spent: false }
    }

    /// A 400 for a value that is there but wrong.
    pub fn invalid_value(param: &str, message: impl Into<String>) -> Self {
        Self::bad_request(Some(param), "invalid_value", message)
    }

    /// A 400 for a value that must be there.
    pub fn missing_field(param: &str) -> Self {
        Self::bad_request(Some(param), "missing_field", format!("`{param}` is required"))
    }

    /// A 400 for a feature that this version does not have.
    pub fn not_supported_yet(param: &str, message: impl Into<String>) -> Self {
        Self::bad_request(Some(param), "not_supported_yet", message)
    }

    pub fn bad_request(param: Option<&str>, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", Some(code), param.map(str::to_owned), message)
    }

    /// A 404 that lists the names there are.
    pub fn model_not_found<'a>(name: &str, available: impl Iterator<Item = &'a str>) -> Self {
        const SHOWN: usize = 20;
        let mut names: Vec<_> = available.take(SHOWN + 1).collect();
        let more = if names.len() > SHOWN { ", …" } else { "" };
        names.truncate(SHOWN);
        let message = match names.as_slice() {
            [] => format!("Model not found: {name}; no model is configured, POST /configure sets one"),
            names => format!("Model not found: {name}; there is: {}{more}", names.join(", ")),
        };
        let param = Some("model".to_owned());
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), param, message)
    }

    /// A 503 for a daemon that cannot answer at present.
    pub fn unavailable(kind: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, None, None, message);
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    /// A 500 that tells nothing: the cause is in the log under the request id.
    pub fn internal() -> Self {
        let message = "internal error; the log has the cause under this response's x-request-id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", None, None, message)
    }

    /// What the log says of it: never the message, which may quote the request.
    pub fn cause(&self) -> String {
        let word = self.code.unwrap_or(self.kind);
        match &self.param {
            Some(param) => format!("{word}: {param}"),
            None => word.to_owned(),
        }
    }

    /// The error object, for the body of a response or an event of a stream.
    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorObject {
                message: &self.message,
                r#type: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
            detail: &self.message,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    error: ErrorObject<'a>,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        if let Some(delay) = self.retry_after {
            // Whole seconds, rounded up: a client that comes back early is refused again.
            let seconds = delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0));
            response.insert_header((RETRY_AFTER, HeaderValue::from(seconds.clamp(1, MOST_RETRY_AFTER_S))));
        }
        if self.spent {
            response.insert_header((SHOULD_RETRY, "false"));
        }
        response.json(self.body())
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        let told = Self::from(error.telling());
        match error.telling().kind {
            // A defect of ours keeps its fixed text.
            FailureKind::Internal => told,
            _ => Self { message: error.to_string(), ..told },
        }
    }
}

impl From<&Failure> for ApiError {
    fn from(failure: &Failure) -> Self {
        const REQUEST: &str = "invalid_request_error";
        const UPSTREAM: &str = "upstream_error";
        let code = failure.kind.as_str();
        let (status, kind, code, spent) = match failure.kind {
            FailureKind::InvalidRequest => (StatusCode::BAD_REQUEST, REQUEST, "invalid_value", true),
            FailureKind::NotSupported | FailureKind::ContextLength | FailureKind::ContentPolicy => {
                (StatusCode::BAD_REQUEST, REQUEST, code, true)
            }
            FailureKind::Auth | FailureKind::NotFound => (StatusCode::BAD_GATEWAY, UPSTREAM, code, true),
            FailureKind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, UPSTREAM, "rate_limit_exceeded", true),
            FailureKind::Overloaded => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", code, false),
            FailureKind::LeftAlone => (StatusCode::SERVICE_UNAVAILABLE, UPSTREAM, code, false),
            FailureKind::Unavailable | FailureKind::Malformed => (StatusCode::BAD_GATEWAY, UPSTREAM, code, true),
            FailureKind::Timeout | FailureKind::JudgeFailed => (StatusCode::BAD_GATEWAY, UPSTREAM, code, true),
            FailureKind::Deadline => (StatusCode::GATEWAY_TIMEOUT, "timeout_error", code, true),
            FailureKind::Limit => (StatusCode::BAD_REQUEST, REQUEST, code, true),
            FailureKind::Cancelled => (client_closed_request(), REQUEST, code, true),
            FailureKind::Internal => {
                tracing::error!(cause = %failure.message, "a candidate failed by a defect of ours");
                return Self { spent: true, ..Self::internal() };
            }
        };
        let retry_after = match failure.kind {
            FailureKind::Overloaded => Some(failure.retry_after.unwrap_or(Duration::from_secs(1))),
            _ => failure.retry_after,
        };
        Self {
            status,
            kind,
            code: Some(code),
            param: failure.param.clone(),
            message: failure.message.clone(),
            retry_after,
            spent,
        }
    }
}

/// 499, which has no name in the standard, but is what proxies log for a request that its client gave up.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("499 is a status")
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        Self::bad_request(Some(&error.param), error.code.as_str(), error.message)
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        Self::invalid_value(error.param, error.message)
    }
}

impl From<UnknownModel> for ApiError {
    fn from(error: UnknownModel) -> Self {
        Self::model_not_found(&error.name, error.available.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_rate_limit_stays_one_and_keeps_its_delay() {
        let failure = Failure {
            retry_after: Some(Duration::from_millis(6500)),
            ..Failure::new(FailureKind::RateLimited, "slow down")
        };
        let response = ApiError::from(&failure).error_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers().get("retry-after").unwrap(), "7");
        assert_eq!(response.headers().get("x-should-retry").unwrap(), "false");
    }

    #[test]
    fn nobody_is_told_to_come_back_in_days() {
        for (delay, told) in [(Duration::from_secs(3600), "3600"), (Duration::MAX, "3600"), (Duration::ZERO, "1")] {
            let failure = Failure { retry_after: Some(delay), ..Failure::new(FailureKind::RateLimited, "slow down") };
            let response = ApiError::from(&failure).error_response();
            assert_eq!(response.headers().get("retry-after").unwrap(), told);
        }
    }

    #[test]
    fn our_own_full_queue_may_be_tried_again() {
        let response = ApiError::from(&Failure::new(FailureKind::Overloaded, "queue full")).error_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn a_defect_of_ours_tells_the_client_nothing_of_its_cause() {
        let failure = Failure::new(FailureKind::Internal, "index 3 of 2");
        let run = RunError { failures: vec![(0, failure.clone()), (1, failure.clone())] };
        for error in [ApiError::from(&failure), ApiError::from(run)] {
            assert_eq!(error.status, 500);
            assert!(!serde_json::to_string(&error.body()).unwrap().contains("index"));
        }
    }
}
